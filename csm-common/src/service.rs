//! Virtual servers, reals, the predictor ring, sticky entries and settings.

use crate::address::{Address, V6};
use crate::rate::Rate;

/// What a first packet is matched on (key of `VSERVER_KEYS`), and where a server's packet comes from (key of `ORIGINS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct VserverKey<A: Address = u32> {
    /// Virtual address or network, network order.
    pub ip_be: A,
    /// Port, network order; 0 matches any port (looked up second).
    pub port_be: u16,
    /// IP protocol; 0 matches any protocol (looked up last).
    pub proto: u8,
    /// Bits of the address that are not compared (0: a single address), or [`MATCH_FTP`].
    pub kind: u8,
}
crate::map_type!(VserverKey, 8);
crate::map_type!(VserverKey<V6>, 20);

/// As [`VserverKey::kind`]: data connections of `service ftp` (TCP) and media of `service rtsp` (UDP) to a single address, for
/// clients that have a control connection.
pub const MATCH_FTP: u8 = 255;

/// Value of `VSERVER_KEYS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Match {
    /// The virtual server, if `rules` is 0.
    pub vserver: u32,
    /// Otherwise VLAN and client decide: first half of the [`ClientKey`]s in `CLIENTS`.
    pub rules: u32,
}
crate::map_type!(Match, 8);

/// What follows the prefix length in a key of `CLIENTS`. `rules` and `vlan` are always compared: prefixes are 32 bits and
/// those of the client's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct ClientKey<A: Address = u32> {
    /// See [`Match::rules`].
    pub rules: u16,
    /// Ingress VLAN; 0: virtual servers of all VLANs (looked up second).
    pub vlan: u16,
    /// The client's address or network, network order.
    pub client_be: A,
}
crate::map_type!(ClientKey, 8);
crate::map_type!(ClientKey<V6>, 20);

/// A whole key of `CLIENTS`, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct ClientPrefix<A: Address = u32> {
    /// Bits of `of` that are compared: 32, and those of the client's network.
    pub bits: u32,
    /// What is compared.
    pub of: ClientKey<A>,
}
crate::map_type!(ClientPrefix, 12);
crate::map_type!(ClientPrefix<V6>, 24);

/// Value of `NETWORKS`, whose key is a virtual network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Networks {
    /// Bits that are not compared in this and each network around it that is virtual too, smallest first; 0: no more.
    pub host_bits: [u8; crate::limits::NESTED_NETWORKS],
}
crate::map_type!(Networks, 4);

/// Value of `VSERVERS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Vserver<A: Address = u32> {
    /// `VSERVER_*` bits.
    pub flags: u32,
    /// Slots in use in this vserver's ring; 0 while no real is in rotation.
    pub ring_len: u32,
    /// Idle time of a proven connection, seconds; 0: never.
    pub idle_s: u32,
    /// Life of a half-open connection, seconds.
    pub pending_s: u32,
    /// Sticky life, seconds; 0: not sticky.
    pub sticky_s: u32,
    /// Mask on the address that is looked up for stickiness, network order.
    pub sticky_mask_be: A,
    /// Sticky group; a private group (configured as 0) is 256 + vserver number.
    pub sticky_group: u32,
    /// Its farm, as in [`Real::farm`].
    pub farm: u32,
    /// Number of its farm's pool in `POOLS`; 0: clients keep their address.
    pub pool: u32,
    /// With a hashing predictor: mask on the addresses that are hashed, network order.
    pub hash_mask_be: A,
    /// Its port, network order; 0: any.
    pub port_be: u16,
    /// Slots that follow the ring's and hold each of its reals once: looked through where the one chosen has no room.
    pub spare_len: u16,
    /// New connections.
    pub rate: Rate,
    /// New connections of each client.
    pub client_rate: Rate,
    /// Mask on the address that makes a client of it for `client_rate`, network order.
    pub client_rate_mask_be: A,
    /// With [`VSERVER_BACKUP`]: the element of `VSERVERS` that says how the backup farm is chosen from.
    pub backup: u32,
    /// With [`VSERVER_BACKUP_STICKY`]: the backup farm, as in [`Real::farm`].
    pub backup_farm: u32,
    /// Of a policy: 1 more than the number of its virtual server, whose `rate` all its policies share.
    pub policy_of: u32,
    /// As [`FlowEntry::mark`](crate::flow::FlowEntry::mark) of its connections.
    pub mark: u32,
    /// `max-conns`, of all its policies together; 0: no limit, and its connections are not counted.
    pub max_conns: u32,
    /// 1 more than the number of its owner's element of `PLACES`; 0: none.
    pub owner: u32,
    /// `maxconns` of that owner, of all its virtual servers together; 0: no limit, and they are not counted.
    pub owner_max_conns: u32,
    /// `reverse-sticky`: the sticky group, 1–255, and element of `REVERSES`; 0: none.
    pub reverse: u32,
}
crate::map_type!(Vserver, 96);
crate::map_type!(Vserver<V6>, 132);

/// Element of `REVERSES` by sticky group: how connections that came in by one of its reals are entered for those that go the other way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Reverse<A: Address = u32> {
    /// As [`Vserver::sticky_mask_be`] of those who stick by the group.
    pub mask_be: A,
    /// Of `VSERVER_STICKY_*` bits those that say by which address.
    pub flags: u32,
    /// Life of an entry, seconds; 0: nobody uses the group.
    pub life_s: u32,
    /// Reals that follow.
    pub count: u32,
    /// The reals that clients of the group stick to.
    pub reals: [u32; crate::limits::REVERSE_REALS_MAX as usize],
}
crate::map_type!(both Reverse, 144, 156);

/// Element of `PLACES` and `PLACE_BASES` for the connections of a virtual server: `number` is its own, or that of one of its policies.
#[inline(always)]
#[must_use]
pub const fn place_slot(number: u32, policy_of: u32) -> u32 {
    if policy_of == 0 { number } else { policy_of - 1 }
}

/// In service: configured so and has a farm.
pub const VSERVER_INSERVICE: u32 = 1;
/// `replicate csrp connection`.
pub const VSERVER_REPLICATE: u32 = 2;
/// `replicate csrp sticky`.
pub const VSERVER_REPLICATE_STICKY: u32 = 4;
/// Dispatch mode (`no nat server`): the real owns the virtual address, only the MAC addresses change.
pub const VSERVER_DISPATCH: u32 = 8;
/// `predictor forward`: the packet is routed to the address it has.
pub const VSERVER_FORWARD: u32 = 16;
/// The server's packets may not come by here: see `docs/dataplane.md`.
pub const VSERVER_UNIDIRECTIONAL: u32 = 32;
/// `service ftp` or `service rtsp`: which of them, the protocol of its key with [`MATCH_FTP`] says.
pub const VSERVER_FTP: u32 = 64;
/// `predictor hash address`: by the client's address.
pub const VSERVER_HASH_SOURCE: u32 = 128;
/// `predictor hash address`: by the virtual address.
pub const VSERVER_HASH_DESTINATION: u32 = 256;
/// `predictor leastconns`: the ring holds each real once, and their loads decide.
pub const VSERVER_LEASTCONNS: u32 = 512;
/// `nat client static`: the client's address is replaced as `STATICS` says.
pub const VSERVER_STATIC: u32 = 1024;
/// The connections of its reals are counted as they come and go, in `LOADS`: for `predictor leastconns`, and for `maxconns`.
pub const VSERVER_COUNTED: u32 = 2048;
/// `serverfarm NAME backup NAME`.
pub const VSERVER_BACKUP: u32 = 4096;
/// `serverfarm NAME backup NAME sticky`: clients stick to reals of the backup farm, too.
pub const VSERVER_BACKUP_STICKY: u32 = 8192;
/// It has policies, and no farm for clients that none of them is for.
pub const VSERVER_POLICIES_ONLY: u32 = 16384;
/// `sticky ... destination`: what sticks is the address that a client speaks to, not its own.
pub const VSERVER_STICKY_DESTINATION: u32 = 32768;
/// Its sticky group has entries by configuration, which a connection must not replace.
pub const VSERVER_STICKY_STATICS: u32 = 65536;
/// It replicates connections, and not every handshake under way can be finished by who knows no more of it than its server's packets
/// tell: the peer is told of them.
pub const VSERVER_HANDSHAKES: u32 = 131_072;
/// `sticky ... both`: it goes by both addresses, as [`pair`] has them.
pub const VSERVER_STICKY_BOTH: u32 = 262_144;

/// A ring's slot: a real with its weight, whatever the predictor.
#[inline(always)]
#[must_use]
pub const fn weighted_slot(real: u32, weight: u8) -> u32 {
    real | (weight as u32) << 16
}

/// Real and weight of such a slot.
#[inline(always)]
#[must_use]
pub const fn of_weighted_slot(slot: u32) -> (u32, u32) {
    (slot & 0xffff, slot >> 16)
}
const _: () = assert!(crate::limits::REALS_MAX <= 1 << 16);

/// Connections of a real: what the controller counted in the tables (`LOAD_BASES`), and what has come and gone since then, as
/// the XDP program knows (`LOADS`); of a virtual server the same (`PLACE_BASES`, `PLACES`). Both wrap around; a sum below 0, which a count that is a moment old may give, is 0.
#[inline(always)]
#[must_use]
pub const fn load(base: u64, since: u64) -> u64 {
    // A number below 0 has its highest bit set. No table has as many entries as would fill 32 bits.
    let sum = base.wrapping_add(since);
    sum & !(sum.cast_signed() >> 63).cast_unsigned() & 0xffff_ffff
}

/// Element of `SHARES` for the room that virtual server `vserver` has in its family's connection table for itself. The first two, of IPv4
/// and of IPv6, are for the room that is everybody's.
///
/// An element is 1 more than the connections that may still be proven before the controller counts again; that of everybody's room is
/// 0 while nobody is limited.
#[inline(always)]
#[must_use]
pub const fn share_slot(vserver: u32) -> u32 {
    vserver.saturating_add(2)
}

/// Value of `POOLS`: addresses and ports that clients get by `nat client`, or servers by `static nat`. A node allocates from
/// its own ports only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pool<A: Address = u32> {
    /// First address, network order.
    pub first_be: A,
    /// Addresses; 0: no pool.
    pub addresses: u32,
    /// First port, host order.
    pub port_first: u16,
    /// Ports.
    pub ports: u16,
}
crate::map_type!(Pool, 12);
crate::map_type!(Pool<V6>, 24);

/// Value of `REALS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Real<A: Address = u32> {
    /// Address, network order.
    pub ip_be: A,
    /// Port, network order; 0: the virtual server's.
    pub port_be: u16,
    /// VLAN it is on.
    pub vlan: u16,
    /// Next-hop number.
    pub nexthop: u32,
    /// `REAL_*` bits.
    pub flags: u32,
    /// Its farm: a sticky group may span virtual servers of several farms, a client is only sent within its own.
    pub farm: u32,
    /// `maxconns`; 0: no limit.
    pub max_conns: u32,
    /// Once it had so many it gets new ones only while it has fewer than this.
    pub min_conns: u32,
}
crate::map_type!(Real, 28);
crate::map_type!(Real<V6>, 40);

/// In service and healthy: new connections may be sent to it (the ring holds only such reals).
pub const REAL_USABLE: u32 = 1;
/// In service and healthy, perhaps of weight 0: sticky clients keep coming.
pub const REAL_STICKY: u32 = 2;

/// Value of `ORIGINS`, whose key is a [`VserverKey`] with address and port of a real: the one virtual server that a packet
/// from there can belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Origin<A: Address = u32> {
    /// Virtual address, network order.
    pub virtual_be: A,
    /// Virtual port, network order; 0, of media: that of the packet.
    pub port_be: u16,
    /// Must be 0.
    pub pad: u16,
    /// Number of the virtual server.
    pub vserver: u32,
    /// Number of the real.
    pub real: u32,
}
crate::map_type!(Origin, 16);
crate::map_type!(Origin<V6>, 28);

/// Slot `slot` of vserver `vserver` in `RINGS`, a flat array.
#[inline(always)]
#[must_use]
pub const fn ring_slot(vserver: u32, slot: u32) -> u32 {
    vserver * crate::limits::RING_SLOTS + slot
}

/// Key of `STICKY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct StickyKey<A: Address = u32> {
    /// See [`Vserver::sticky_group`].
    pub group: u32,
    /// Client address after masking, network order; with [`VSERVER_STICKY_DESTINATION`] the one it speaks to; with
    /// [`VSERVER_STICKY_BOTH`] both of them, in the IPv6 tables for either family: see [`pair`].
    pub client_be: A,
}
crate::map_type!(both StickyKey, 8, 20);

/// Key of `STICKY6` for connections from `client_be` to `virtual_be`, of either family, where it goes by both.
#[inline(always)]
#[must_use]
pub fn pair<A: Address>(group: u32, client_be: A, virtual_be: A, mask_be: A) -> StickyKey<V6> {
    StickyKey { group, client_be: client_be.masked(mask_be).paired(virtual_be.masked(mask_be)) }
}

/// Value of `STICKY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StickyEntry {
    /// CLOCK_MONOTONIC ns of the last use; the timer runs from here.
    pub last_used_ns: u64,
    /// Life in seconds; 0: the entry is of the configuration, and does not end.
    pub life_s: u32,
    /// Real server number.
    pub real: u32,
}
crate::map_type!(StickyEntry, 16);

impl StickyEntry {
    /// The entry that the configuration has for `real`.
    #[must_use]
    pub const fn fixed(real: u32) -> Self {
        Self { last_used_ns: 0, life_s: 0, real }
    }

    /// Whether it is of the configuration.
    #[inline(always)]
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        self.life_s == 0
    }
}

/// One entry: what is the same for every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// The group's virtual MAC.
    pub virtual_mac: [u8; 6],
    /// The peer's MAC on the FT VLAN, where strays are relayed to; zero while unknown.
    pub peer_mac: [u8; 6],
    /// Number of the FT port in `TX_PORTS`.
    pub ft_port: u16,
    /// VLAN of the tag with which frames leave by the FT port; 0: without one.
    pub ft_tag: u16,
    /// CLOCK_MONOTONIC ns of the last takeover: replicated entries count as seen then, without touching each.
    pub adopted_ns: u64,
}
crate::map_type!(Settings, 24);
