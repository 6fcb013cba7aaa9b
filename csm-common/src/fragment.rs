//! Fragments of datagrams: what later ones need of the first, and how those that come too early are handed over.

use crate::address::{Address, V6};

/// A datagram that comes in pieces (RFC 791: addresses, protocol, identification; RFC 8200: without the protocol), where it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FragmentKey<A: Address = u32> {
    /// Source address, network order.
    pub src_be: A,
    /// Destination address, network order.
    pub dst_be: A,
    /// Identification, network order; IPv4's 16 bits are the low half.
    pub id_be: u32,
    /// VLAN it came in on.
    pub vlan: u16,
    /// IP protocol; IPv6: what the fragment header says follows it.
    pub proto: u8,
    /// Must be 0.
    pub pad: u8,
}
crate::map_type!(both FragmentKey, 16, 40);

/// Value of `FRAGMENTS`: what became of the first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Fragment<A: Address = u32> {
    /// CLOCK_MONOTONIC ns of the first fragment, or of the first one that waits for it.
    pub noted_ns: u64,
    /// Source address after rewriting, network order.
    pub new_src_be: A,
    /// Destination address after rewriting, network order.
    pub new_dst_be: A,
    /// Next hop, number in `NEXTHOPS`.
    pub nexthop: u32,
    /// Virtual server, or [`crate::flow::NONE`].
    pub vserver: u32,
    /// Real server, or [`crate::flow::NONE`].
    pub real: u32,
    /// Delta for the IP header checksum (addresses only).
    pub ip_delta: u16,
    /// Octets of the datagram that the first fragment holds: later ones begin there or beyond.
    pub first_octets: u16,
    /// One of the `FRAGMENT_*` values.
    pub state: u8,
    /// 1: from the client.
    pub from_client: u8,
    /// As [`crate::flow::FlowEntry::mark`].
    pub mark: u16,
    /// Must be 0.
    pub pad: [u8; 4],
}
crate::map_type!(both Fragment, 40, 64);

/// The first one has not come yet, and others are kept for it.
pub const FRAGMENT_WAITED_FOR: u8 = 1;
/// It went by a connection: the others go the same way.
pub const FRAGMENT_FOLLOWED: u8 = 2;
/// It was an echo request that is answered here: the others are turned around, too.
pub const FRAGMENT_ANSWERED: u8 = 3;

/// Longest frame that is kept, link header included.
pub const HELD_FRAME_MAX: usize = 2016;

/// Record of the ring `HELD`: a frame to keep, or, as its first [`HELD_HEAD_BYTES`] alone, word that the first fragment of
/// `key` has gone on and the kept ones may follow.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Held<A: Address = u32> {
    /// The datagram.
    pub key: FragmentKey<A>,
    /// Interface index of the port that the frame came in on.
    pub ifindex: u32,
    /// Octets of `frame` in use; 0: no frame.
    pub length: u32,
    /// VLAN of the tag that the frame came in with; 0: none.
    pub tag: u32,
    /// Must be 0.
    pub pad: u32,
    /// The frame without its tag.
    pub frame: [u8; HELD_FRAME_MAX],
}
crate::map_type!(Held, 2048);
crate::map_type!(Held<V6>, 2072);

/// Octets of a [`Held`] before its frame.
pub const HELD_HEAD_BYTES: usize = size_of::<Held>() - HELD_FRAME_MAX;

/// A [`Held`] without a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Release<A: Address = u32> {
    /// The datagram.
    pub key: FragmentKey<A>,
    /// Must be 0.
    pub ifindex: u32,
    /// Must be 0.
    pub length: u32,
    /// Must be 0.
    pub tag: u32,
    /// Must be 0.
    pub pad: u32,
}
crate::map_type!(Release, HELD_HEAD_BYTES);
crate::map_type!(Release<V6>, HELD_HEAD_BYTES + 24);
