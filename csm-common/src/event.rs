//! Records from the XDP program to the controller, over the ring buffer.

use crate::address::{Address, V6};
use crate::flow::Connection;
use crate::service::{StickyEntry, StickyKey};

/// One record. `kind` says which of the other fields count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Record<A: Address = u32> {
    /// One of the `EVENT_*` values, of IPv6 with [`EVENT_V6`].
    pub kind: u32,
    /// [`EVENT_CONNECTION`], [`EVENT_CLOSED`], [`EVENT_HANDSHAKE`]: the connection.
    pub connection: Connection<A>,
    /// [`EVENT_STICKY`]: key.
    pub sticky_key: StickyKey<A>,
    /// [`EVENT_UNRESOLVED`], [`EVENT_NEIGHBOUR`], [`EVENT_RIVAL`], [`EVENT_NARROW`]: address, network order.
    pub ip_be: A,
    /// The same four: VLAN.
    pub vlan: u16,
    /// [`EVENT_NEIGHBOUR`], [`EVENT_RIVAL`]: MAC address.
    pub mac: [u8; 6],
    /// [`EVENT_HANDSHAKE`]: what proves the connection, as [`FlowEntry::expect_ack`](crate::flow::FlowEntry::expect_ack) has it.
    pub expect_ack: u32,
    /// [`EVENT_STICKY`]: value.
    pub sticky: StickyEntry,
}
crate::map_type!(Record, 88);
crate::map_type!(Record<V6>, 160);

/// Bit of the kind of a `Record<V6>`: both families' records come through one ring.
pub const EVENT_V6: u32 = 0x100;

/// A connection was proven by both sides and stands in the established table.
pub const EVENT_CONNECTION: u32 = 1;
/// A connection ended (FIN from both sides, or reset).
pub const EVENT_CLOSED: u32 = 2;
/// A sticky entry was made or refreshed.
pub const EVENT_STICKY: u32 = 3;
/// A host on a connected network has no next hop yet.
pub const EVENT_UNRESOLVED: u32 = 4;
/// A host on a connected network told its MAC in an ARP packet.
pub const EVENT_NEIGHBOUR: u32 = 5;
/// Another box answered or announced one of the group's addresses while the gate is open here.
pub const EVENT_RIVAL: u32 = 6;
/// A router on the way to the real with this address says how long packets into which others were put may be: a number in
/// the last two octets of `mac`, network order.
pub const EVENT_NARROW: u32 = 7;
/// A TCP connection is half open that no server's packet tells how to go on with: of
/// [`VSERVER_HANDSHAKES`](crate::service::VSERVER_HANDSHAKES), or a server's own. Its state is SYN or SYN-ACK.
pub const EVENT_HANDSHAKE: u32 = 8;

/// How far the controller has read the ring, as first packets saw it: the one element of `DRAIN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Drain {
    /// The reader's position in the ring, bytes since it was made.
    pub read: u64,
    /// CLOCK_MONOTONIC ns when a first packet saw records wait, with the reader at that position, for the first time; 0:
    /// none waited at the last look.
    pub since_ns: u64,
    /// CLOCK_MONOTONIC ns: until then the controller is replaced, and its successor will read what waits; 0: it is not.
    pub held_until_ns: u64,
}
crate::map_type!(Drain, 24);

/// Records that wait for longer than this, ns, while none is read: the controller is dead or stopped, and no new
/// connection is taken that it would have to replicate. It reads within a millisecond unless it is kept from running.
pub const STALL_NS: u64 = 50_000_000;

/// What was lost because the ring or a table had no room. The number is the index in `EVENTS_LOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Lost {
    /// Connection and sticky records: the peer's replica lacks what they said until it is repaired.
    Table = 0,
    /// Neighbour, unresolved and rival records: the next such frame repeats them.
    Hint = 1,
    /// Sticky entries, the table being full: their clients are balanced anew next time.
    Sticky = 2,
    /// Handshakes under way, beyond [`Budget::Handshake`](crate::limits::Budget::Handshake) or while the ring has no room to spare:
    /// a takeover loses those.
    Handshake = 3,
}

impl Lost {
    /// Number of kinds.
    pub const COUNT: u32 = 4;
}
