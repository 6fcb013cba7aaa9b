//! Connections as the tables hold them: one entry for each direction.
//!
//! A connection is described once, direction-free, by [`Connection`]; [`Connection::forward_entry`] and
//! [`Connection::return_entry`] derive both entries from it. The XDP program (new connection) and the controller (replica, snapshot) use that one function, so a replicated
//! connection is rewritten exactly as the original was.

use crate::address::Address;
use crate::checksum;

/// What identifies a packet's flow at ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FlowKey<A: Address = u32> {
    /// Source address, network order.
    pub src_be: A,
    /// Destination address, network order.
    pub dst_be: A,
    /// Source port (ICMP echo: the identifier), network order.
    pub sport_be: u16,
    /// Destination port (ICMP echo: the identifier), network order.
    pub dport_be: u16,
    /// VLAN the packet came in on.
    pub vlan: u16,
    /// IP protocol.
    pub proto: u8,
    /// Must be 0.
    pub pad: u8,
}
crate::map_type!(both FlowKey, 16, 40);

/// A [`FlowKey`] as it is looked up: written in two wide stores. The kernel's hash reads it in words, and a CPU that finds a
/// word in pieces among its pending stores waits until all of them have reached the cache.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct WideKey([u64; 2]);

impl FlowKey {
    /// The same key, for a look-up.
    #[inline(always)]
    #[must_use]
    pub const fn wide(&self) -> WideKey {
        let Self { src_be, dst_be, sport_be, dport_be, vlan, proto, pad: _ } = *self;
        let addresses = u64::from_le(src_be.to_le() as u64 | (dst_be.to_le() as u64) << 32);
        let ports = u32::from_le(sport_be.to_le() as u32 | (dport_be.to_le() as u32) << 16);
        WideKey::new(addresses, ports, vlan, proto)
    }
}

impl WideKey {
    /// Of source and destination address, source and destination port, each pair as it stands on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn new(addresses: u64, ports: u32, vlan: u16, proto: u8) -> Self {
        Self([addresses, Self::ports(ports, vlan, proto)])
    }

    /// The last eight octets of a key of either family.
    #[inline(always)]
    #[must_use]
    pub const fn ports(ports: u32, vlan: u16, proto: u8) -> u64 {
        // By octets as they stand in memory; the compiler makes much of arrays here.
        let (ports, vlan) = (ports.to_le() as u64, vlan.to_le() as u64);
        u64::from_le(ports | vlan << 32 | (proto as u64) << 48)
    }
}

impl core::borrow::Borrow<FlowKey> for WideKey {
    #[inline(always)]
    fn borrow(&self) -> &FlowKey {
        // SAFETY: a flow key is made of integers only, without padding, and is as long and aligned to less.
        unsafe { &*self.0.as_ptr().cast() }
    }
}

/// All that forwarding a packet of a known flow needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct FlowEntry<A: Address = u32> {
    /// CLOCK_MONOTONIC ns of the last packet, written at most once a second.
    pub last_seen_ns: u64,
    /// Source address after rewriting, network order.
    pub new_src_be: A,
    /// Destination address after rewriting, network order.
    pub new_dst_be: A,
    /// Source port after rewriting, network order.
    pub new_sport_be: u16,
    /// Destination port after rewriting, network order.
    pub new_dport_be: u16,
    /// Next hop of this direction, number in `NEXTHOPS`.
    pub nexthop: u32,
    /// Virtual server, or [`NONE`] for a routed (server-initiated) connection.
    pub vserver: u32,
    /// Real server, or [`NONE`].
    pub real: u32,
    /// Delta for the IP header checksum (addresses only), see [`checksum`].
    pub ip_delta: u16,
    /// Delta for the TCP or UDP checksum.
    pub l4_delta: u16,
    /// Half-open TCP: the acknowledgement number that proves the client saw the server's SYN-ACK, host order; with
    /// [`FLAG_REBUILT`] the lowest of [`PROOF_WINDOW`] such numbers. Before the SYN-ACK of a unidirectional virtual server:
    /// the sequence number of the client's next segment.
    pub expect_ack: u32,
    /// Egress VLAN, and so the ingress VLAN of the other direction.
    pub egress_vlan: u16,
    /// One of the `STATE_*` values.
    pub state: u8,
    /// `FLAG_*` bits.
    pub flags: u8,
    /// Distinguishes successive connections with equal keys.
    pub generation: u32,
    /// The client's address, network order: for sticky and accounting.
    pub client_be: A,
    /// TCP from the server side, with [`FLAG_ACK`]: an acknowledgement number of this direction at most [`ACK_STEP`] old,
    /// host order. Resets from the client side are judged by it.
    pub ack: u32,
    /// What is written into each packet's header, as [`mark`] has it; 0: nothing. Only of the client → server direction.
    pub mark: u16,
    /// As [`Connection::via`].
    pub via: u16,
    /// Must be 0.
    pub reserved: A::Reserved,
}
crate::map_type!(both FlowEntry, 64, 96);

/// `set ip dscp`: bits of the TOS or traffic class octet that are replaced, and above them by what. The two bits of ECN stay.
#[inline(always)]
#[must_use]
pub const fn mark(dscp: u8) -> u32 {
    0xfc | (dscp as u32 & 63) << 10
}
const _: () = assert!(mark(63) <= u16::MAX as u32 && crate::limits::REALS_MAX < u16::MAX as u32);

/// The octet that `mark` makes of `octet`.
#[inline(always)]
#[must_use]
pub const fn marked(mark: u32, octet: u32) -> u32 {
    octet & !(mark & 0xff) | mark >> 8
}

/// No vserver or real.
pub const NONE: u32 = u32::MAX;

/// SYN seen (or first packet of another protocol).
pub const STATE_SYN: u8 = 1;
/// SYN-ACK seen (or the first answer of another protocol).
pub const STATE_SYN_ACK: u8 = 2;
/// Proven by both sides.
pub const STATE_ESTABLISHED: u8 = 3;
/// One side sent FIN.
pub const STATE_CLOSING: u8 = 4;
/// Both sides sent FIN, or a reset was seen: kept only for late segments, a SYN starts anew.
pub const STATE_CLOSED: u8 = 5;
/// Cleared by hand: its next hop is [`NONE`], and each segment is answered with a reset. A SYN starts anew.
pub const STATE_CLEARED: u8 = 6;

/// This entry is the client → server direction.
pub const FLAG_FORWARD: u8 = 1;
/// The connection's virtual server had `replicate csrp connection` when the entry was made; it is replicated as long as that
/// stands.
pub const FLAG_REPLICATE: u8 = 2;
/// Learned from the peer, not seen here yet.
pub const FLAG_REPLICA: u8 = 4;
/// FIN seen in this direction.
pub const FLAG_FIN: u8 = 8;
/// [`FlowEntry::ack`] was written.
pub const FLAG_ACK: u8 = 16;
/// Made from a server's packet in the middle of a connection that this node did not know.
pub const FLAG_REBUILT: u8 = 32;
/// Cleared: the sender of this direction's packets was sent a reset, or sent one itself.
pub const FLAG_RESET: u8 = 64;
/// Of the client's direction: the end of the connection was told.
pub const FLAG_ENDED: u8 = 128;

/// [`FlowEntry::ack`] is written when it has moved by so many octets, so that a busy entry stays clean in every cache.
pub const ACK_STEP: u32 = 1 << 14;
/// A reset from the client side is believed if its sequence number is at most so many octets beyond what the server is
/// known to have acknowledged: one guess in 32,768 is.
pub const RESET_WINDOW: u32 = 1 << 17;
/// A rebuilt connection is proven by a client that acknowledges what the server sent, or up to so many octets beyond:
/// more than any usual window, as one acknowledgement may cover all that waited behind a lost segment.
pub const PROOF_WINDOW: u32 = 1 << 24;

/// A connection, independent of direction and of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Connection<A: Address = u32> {
    /// Client address, network order.
    pub client_be: A,
    /// Address the client speaks to, network order.
    pub virtual_be: A,
    /// Address of the real server, network order; in dispatch mode the virtual address, which the server owns.
    pub real_be: A,
    /// What the real sees as the client's address, network order: the client's own unless `nat client` replaces it.
    pub source_be: A,
    /// Client port, network order.
    pub client_port_be: u16,
    /// Virtual port, network order.
    pub virtual_port_be: u16,
    /// Port on the real server, network order.
    pub real_port_be: u16,
    /// What the real sees as the client's port, network order.
    pub source_port_be: u16,
    /// Ingress VLAN of the client's packets.
    pub client_vlan: u16,
    /// Ingress VLAN of the server's packets.
    pub server_vlan: u16,
    /// IP protocol.
    pub proto: u8,
    /// One of the `STATE_*` values.
    pub state: u8,
    /// 1 more than the number on this node of the real by which the client's packets came in, where that counts (`reverse-sticky`):
    /// its next hop is the way back. 0: the way back goes by the routes.
    pub via: u16,
    /// Virtual server number on this node, or [`NONE`].
    pub vserver: u32,
    /// Real server number on this node, or [`NONE`].
    pub real: u32,
    /// Distinguishes successive connections with equal keys.
    pub generation: u32,
}
crate::map_type!(both Connection, 44, 92);

/// Generation of a connection that is opened at `now_ns`: later, as serial numbers go (RFC 1982), than `predecessor`, the
/// one that stood under its key before (0: none), which may be of the peer's clock or of this very millisecond. By the
/// clock it counts milliseconds or so; never 0. The order holds over 26 days.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "serial numbers wrap")]
pub const fn next_generation(now_ns: u64, predecessor: u32) -> u32 {
    let by_clock = (now_ns >> 20) as u32 | 1;
    if predecessor == 0 || by_clock.wrapping_sub(predecessor).cast_signed() > 0 {
        return by_clock;
    }
    let next = predecessor.wrapping_add(1);
    if next == 0 { 1 } else { next }
}

/// Node-local facts that an entry pair needs beside the [`Connection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Next hop towards the real server.
    pub to_server: u32,
    /// Next hop towards the client.
    pub to_client: u32,
    /// CLOCK_MONOTONIC, ns.
    pub now_ns: u64,
    /// `FLAG_*` bits for both entries.
    pub flags: u8,
    /// As [`FlowEntry::mark`].
    pub mark: u32,
}

impl<A: Address> Connection<A> {
    /// Key of the client → server direction.
    #[inline(always)]
    #[must_use]
    pub const fn forward_key(&self) -> FlowKey<A> {
        FlowKey {
            src_be: self.client_be,
            dst_be: self.virtual_be,
            sport_be: self.client_port_be,
            dport_be: self.virtual_port_be,
            vlan: self.client_vlan,
            proto: self.proto,
            pad: 0,
        }
    }

    /// Key of the server → client direction.
    #[inline(always)]
    #[must_use]
    pub const fn return_key(&self) -> FlowKey<A> {
        FlowKey {
            src_be: self.real_be,
            dst_be: self.source_be,
            sport_be: self.real_port_be,
            dport_be: self.source_port_be,
            vlan: self.server_vlan,
            proto: self.proto,
            pad: 0,
        }
    }

    /// Entry of the client → server direction: the destination becomes the real server, the source what that is to see.
    #[inline(always)]
    #[must_use]
    pub fn forward_entry(&self, local: &Local) -> FlowEntry<A> {
        let mut entry = FlowEntry::EMPTY;
        self.write_forward_entry(local, &mut entry);
        entry
    }

    /// Writes [`Self::forward_entry`] where it is to stand: the dataplane's stack has no room for a large one.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "see `mark`")]
    pub fn write_forward_entry(&self, local: &Local, entry: &mut FlowEntry<A>) {
        let ip = A::replace(self.virtual_be, self.real_be) + A::replace(self.client_be, self.source_be);
        let l4 = ip
            + checksum::replace16(self.virtual_port_be, self.real_port_be)
            + checksum::replace16(self.client_port_be, self.source_port_be);
        entry.last_seen_ns = local.now_ns;
        entry.new_src_be = self.source_be;
        entry.new_dst_be = self.real_be;
        entry.new_sport_be = self.source_port_be;
        entry.new_dport_be = self.real_port_be;
        entry.nexthop = local.to_server;
        entry.vserver = self.vserver;
        entry.real = self.real;
        entry.ip_delta = checksum::fold(ip);
        entry.l4_delta = checksum::fold(l4);
        entry.expect_ack = 0;
        entry.egress_vlan = self.server_vlan;
        entry.state = self.state;
        entry.flags = local.flags | FLAG_FORWARD;
        entry.generation = self.generation;
        entry.client_be = self.client_be;
        entry.ack = 0;
        entry.mark = local.mark as u16;
        entry.via = self.via;
        entry.reserved = A::RESERVED;
    }

    /// Entry of the server → client direction: the source becomes the virtual server.
    #[inline(always)]
    #[must_use]
    pub fn return_entry(&self, local: &Local) -> FlowEntry<A> {
        let mut entry = FlowEntry::EMPTY;
        self.write_return_entry(local, &mut entry);
        entry
    }

    /// Writes [`Self::return_entry`] where it is to stand: the dataplane's stack has no room for a large one.
    #[inline(always)]
    pub fn write_return_entry(&self, local: &Local, entry: &mut FlowEntry<A>) {
        let ip = A::replace(self.real_be, self.virtual_be) + A::replace(self.source_be, self.client_be);
        let l4 = ip
            + checksum::replace16(self.real_port_be, self.virtual_port_be)
            + checksum::replace16(self.source_port_be, self.client_port_be);
        entry.last_seen_ns = local.now_ns;
        entry.new_src_be = self.virtual_be;
        entry.new_dst_be = self.client_be;
        entry.new_sport_be = self.virtual_port_be;
        entry.new_dport_be = self.client_port_be;
        entry.nexthop = local.to_client;
        entry.vserver = self.vserver;
        entry.real = self.real;
        entry.ip_delta = checksum::fold(ip);
        entry.l4_delta = checksum::fold(l4);
        entry.expect_ack = 0;
        entry.egress_vlan = self.client_vlan;
        entry.state = self.state;
        entry.flags = local.flags & !FLAG_FORWARD;
        entry.generation = self.generation;
        entry.client_be = self.client_be;
        entry.ack = 0;
        entry.mark = 0;
        entry.via = self.via;
        entry.reserved = A::RESERVED;
    }
}

impl<A: Address> FlowEntry<A> {
    /// All zeros: of no connection.
    pub const EMPTY: Self = Self {
        last_seen_ns: 0,
        new_src_be: A::UNSPECIFIED,
        new_dst_be: A::UNSPECIFIED,
        new_sport_be: 0,
        new_dport_be: 0,
        nexthop: 0,
        vserver: 0,
        real: 0,
        ip_delta: 0,
        l4_delta: 0,
        expect_ack: 0,
        egress_vlan: 0,
        state: 0,
        flags: 0,
        generation: 0,
        client_be: A::UNSPECIFIED,
        ack: 0,
        mark: 0,
        via: 0,
        reserved: A::RESERVED,
    };

    /// Whether a reset from the other direction with sequence number `seq` is one that the receiver of this
    /// direction's packets may have sent: RFC 5961, section 3.2, as far as one number every [`ACK_STEP`] octets tells.
    #[inline(always)]
    #[must_use]
    pub const fn may_reset(&self, seq: u32) -> bool {
        self.flags & FLAG_ACK != 0 && seq.wrapping_sub(self.ack) < RESET_WINDOW
    }

    /// Whether a client's acknowledgement number proves this half-open entry, the client → server one.
    #[inline(always)]
    #[must_use]
    pub const fn is_proven_by(&self, ack: u32) -> bool {
        let window = if self.flags & FLAG_REBUILT == 0 { 1 } else { PROOF_WINDOW };
        ack.wrapping_sub(self.expect_ack) < window
    }

    /// The same entry, cleared: without a way out, so that a packet leaves the fast path where it looks for that.
    #[must_use]
    pub const fn cleared(&self) -> Self {
        Self { nexthop: NONE, state: STATE_CLEARED, flags: self.flags & !FLAG_RESET, ..*self }
    }

    /// Key of the other direction's entry, given this one's protocol.
    #[inline(always)]
    #[must_use]
    pub const fn twin_key(&self, proto: u8) -> FlowKey<A> {
        FlowKey {
            src_be: self.new_dst_be,
            dst_be: self.new_src_be,
            sport_be: self.new_dport_be,
            dport_be: self.new_sport_be,
            vlan: self.egress_vlan,
            proto,
            pad: 0,
        }
    }

    /// The connection this entry belongs to; `key` is the entry's own key.
    #[must_use]
    pub const fn connection(&self, key: &FlowKey<A>) -> Connection<A> {
        let of_entry = Connection {
            client_be: self.client_be,
            virtual_be: self.new_src_be,
            real_be: key.src_be,
            source_be: key.dst_be,
            client_port_be: self.new_dport_be,
            virtual_port_be: self.new_sport_be,
            real_port_be: key.sport_be,
            source_port_be: key.dport_be,
            client_vlan: self.egress_vlan,
            server_vlan: key.vlan,
            proto: key.proto,
            state: self.state,
            via: self.via,
            vserver: self.vserver,
            real: self.real,
            generation: self.generation,
        };
        if self.flags & FLAG_FORWARD == 0 {
            return of_entry;
        }
        Connection {
            virtual_be: key.dst_be,
            real_be: self.new_dst_be,
            source_be: self.new_src_be,
            client_port_be: key.sport_be,
            virtual_port_be: key.dport_be,
            real_port_be: self.new_dport_be,
            source_port_be: self.new_sport_be,
            client_vlan: key.vlan,
            server_vlan: self.egress_vlan,
            ..of_entry
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Connection, FLAG_ACK, FLAG_REBUILT, FlowEntry, Local, PROOF_WINDOW, RESET_WINDOW, next_generation,
    };
    use crate::address::Address;
    use crate::address::V6;
    use proptest::prelude::*;

    prop_compose! {
        fn any_connection()(a: [[u32; 4]; 4], p: [u16; 4], v: [u16; 3], n: [u32; 3], proto: u8, state in 1u8..6) -> Connection<V6> {
            Connection {
                client_be: V6(a[0]), virtual_be: V6(a[1]), real_be: V6(a[2]), source_be: V6(a[3]),
                client_port_be: p[0], virtual_port_be: p[1], real_port_be: p[2], source_port_be: p[3],
                client_vlan: v[0], server_vlan: v[1], proto, state, via: v[2],
                vserver: n[0], real: n[1], generation: n[2],
            }
        }
    }

    /// The same, with what is IPv4 of its addresses.
    fn of_ipv4(c: &Connection<V6>) -> Connection {
        let &Connection { client_be, virtual_be, real_be, source_be, .. } = c;
        let &Connection { client_port_be, virtual_port_be, real_port_be, source_port_be, .. } = c;
        let &Connection { client_vlan, server_vlan, proto, state, via, vserver, real, generation, .. } = c;
        Connection {
            client_be: client_be.0[0],
            virtual_be: virtual_be.0[0],
            real_be: real_be.0[0],
            source_be: source_be.0[0],
            client_port_be,
            virtual_port_be,
            real_port_be,
            source_port_be,
            client_vlan,
            server_vlan,
            proto,
            state,
            via,
            vserver,
            real,
            generation,
        }
    }

    fn entries_name_their_twins_and_connection<A: Address>(
        c: &Connection<A>,
        now_ns: u64,
    ) -> Result<(), TestCaseError> {
        let local = Local { to_server: 1, to_client: 2, now_ns, flags: 0, mark: 0 };
        let (f, r) = (c.forward_entry(&local), c.return_entry(&local));
        prop_assert_eq!(f.twin_key(c.proto), c.return_key());
        prop_assert_eq!(r.twin_key(c.proto), c.forward_key());
        prop_assert_eq!(f.connection(&c.forward_key()), *c);
        prop_assert_eq!(r.connection(&c.return_key()), *c);
        Ok(())
    }

    proptest! {
        #[test]
        fn each_entry_names_its_twin_and_its_connection(c in any_connection(), now_ns: u64) {
            entries_name_their_twins_and_connection(&c, now_ns)?;
            entries_name_their_twins_and_connection(&of_ipv4(&c), now_ns)?;
        }
    }

    proptest! {
        #[test]
        fn a_generation_is_later_than_the_one_before(now_ns: u64, predecessor in 1u32..) {
            let next = next_generation(now_ns, predecessor);
            prop_assert!(next != 0 && next.wrapping_sub(predecessor).cast_signed() > 0);
            prop_assert_ne!(next_generation(now_ns, 0), 0);
        }
    }

    fn entry(flags: u8, expect_ack: u32, ack: u32) -> FlowEntry {
        let connection = Connection {
            client_be: 1,
            virtual_be: 2,
            real_be: 3,
            source_be: 1,
            client_port_be: 4,
            virtual_port_be: 5,
            real_port_be: 6,
            source_port_be: 4,
            client_vlan: 2,
            server_vlan: 3,
            proto: 6,
            state: super::STATE_SYN_ACK,
            via: 0,
            vserver: 0,
            real: 0,
            generation: 1,
        };
        let local = Local { to_server: 1, to_client: 2, now_ns: 0, flags, mark: 0 };
        FlowEntry { expect_ack, ack, ..connection.return_entry(&local) }
    }

    #[test]
    fn a_reset_counts_within_its_window_and_only_if_something_is_known() {
        for ack in [0, 77, u32::MAX] {
            let known = entry(FLAG_ACK, 0, ack);
            assert!(known.may_reset(ack) && known.may_reset(ack.wrapping_add(RESET_WINDOW - 1)));
            assert!(
                !known.may_reset(ack.wrapping_sub(1)) && !known.may_reset(ack.wrapping_add(RESET_WINDOW))
            );
            assert!(!entry(0, 0, ack).may_reset(ack));
        }
    }

    #[test]
    fn one_number_proves_a_handshake_and_a_window_of_them_a_rebuilt_connection() {
        for expected in [0, 77, u32::MAX] {
            let (new, rebuilt) = (entry(0, expected, 0), entry(FLAG_REBUILT, expected, 0));
            assert!(new.is_proven_by(expected) && rebuilt.is_proven_by(expected));
            assert!(
                !new.is_proven_by(expected.wrapping_add(1)) && rebuilt.is_proven_by(expected.wrapping_add(1))
            );
            assert!(
                !new.is_proven_by(expected.wrapping_sub(1))
                    && !rebuilt.is_proven_by(expected.wrapping_sub(1))
            );
            assert!(!rebuilt.is_proven_by(expected.wrapping_add(PROOF_WINDOW)));
        }
    }
}
