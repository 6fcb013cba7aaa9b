//! Connections as the tables hold them: one entry for each direction.
//!
//! A connection is described once, direction-free, by [`Connection`]; [`Connection::pair`] derives both entries from
//! it. The XDP program (new connection) and the controller (replica, snapshot) use that one function, so a replicated
//! connection is rewritten exactly as the original was.

use crate::checksum;

/// What identifies a packet's flow at ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FlowKey {
    /// Source address, network order.
    pub src_be: u32,
    /// Destination address, network order.
    pub dst_be: u32,
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
crate::map_type!(FlowKey, 16);

/// All that forwarding a packet of a known flow needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct FlowEntry {
    /// CLOCK_MONOTONIC ns of the last packet, written at most once a second.
    pub last_seen_ns: u64,
    /// Source address after rewriting, network order.
    pub new_src_be: u32,
    /// Destination address after rewriting, network order.
    pub new_dst_be: u32,
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
    /// Half-open TCP: the acknowledgement number that proves the client saw the server's SYN-ACK, host order.
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
    pub client_be: u32,
    /// Must be 0.
    pub reserved: [u32; 3],
}
crate::map_type!(FlowEntry, 64);

/// No vserver or real.
pub const NONE: u32 = u32::MAX;

/// SYN seen (or first packet of another protocol).
pub const STATE_SYN: u8 = 1;
/// SYN-ACK seen.
pub const STATE_SYN_ACK: u8 = 2;
/// Proven by both sides.
pub const STATE_ESTABLISHED: u8 = 3;
/// One side sent FIN.
pub const STATE_CLOSING: u8 = 4;
/// Both sides sent FIN, or a reset was seen: kept only for late segments, a SYN starts anew.
pub const STATE_CLOSED: u8 = 5;

/// This entry is the client → server direction.
pub const FLAG_FORWARD: u8 = 1;
/// The connection is replicated (`replicate csrp connection`).
pub const FLAG_REPLICATE: u8 = 2;
/// Learned from the peer, not seen here yet.
pub const FLAG_REPLICA: u8 = 4;
/// FIN seen in this direction.
pub const FLAG_FIN: u8 = 8;

/// A connection, independent of direction and of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Connection {
    /// Client address, network order.
    pub client_be: u32,
    /// Address the client speaks to, network order.
    pub virtual_be: u32,
    /// Address of the real server, network order.
    pub real_be: u32,
    /// Client port, network order.
    pub client_port_be: u16,
    /// Virtual port, network order.
    pub virtual_port_be: u16,
    /// Port on the real server, network order.
    pub real_port_be: u16,
    /// Ingress VLAN of the client's packets.
    pub client_vlan: u16,
    /// Ingress VLAN of the server's packets.
    pub server_vlan: u16,
    /// IP protocol.
    pub proto: u8,
    /// One of the `STATE_*` values.
    pub state: u8,
    /// Virtual server number on this node, or [`NONE`].
    pub vserver: u32,
    /// Real server number on this node, or [`NONE`].
    pub real: u32,
    /// Distinguishes successive connections with equal keys.
    pub generation: u32,
}
crate::map_type!(Connection, 36);

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
}

impl Connection {
    /// Key of the client → server direction.
    #[inline(always)]
    #[must_use]
    pub const fn forward_key(&self) -> FlowKey {
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
    pub const fn return_key(&self) -> FlowKey {
        FlowKey {
            src_be: self.real_be,
            dst_be: self.client_be,
            sport_be: self.real_port_be,
            dport_be: self.client_port_be,
            vlan: self.server_vlan,
            proto: self.proto,
            pad: 0,
        }
    }

    /// Entry of the client → server direction: the destination becomes the real server.
    #[inline(always)]
    #[must_use]
    pub const fn forward_entry(&self, local: &Local) -> FlowEntry {
        let ip = checksum::replace32(self.virtual_be, self.real_be);
        let l4 = ip + checksum::replace16(self.virtual_port_be, self.real_port_be);
        FlowEntry {
            last_seen_ns: local.now_ns,
            new_src_be: self.client_be,
            new_dst_be: self.real_be,
            new_sport_be: self.client_port_be,
            new_dport_be: self.real_port_be,
            nexthop: local.to_server,
            vserver: self.vserver,
            real: self.real,
            ip_delta: checksum::fold(ip),
            l4_delta: checksum::fold(l4),
            expect_ack: 0,
            egress_vlan: self.server_vlan,
            state: self.state,
            flags: local.flags | FLAG_FORWARD,
            generation: self.generation,
            client_be: self.client_be,
            reserved: [0; 3],
        }
    }

    /// Entry of the server → client direction: the source becomes the virtual server.
    #[inline(always)]
    #[must_use]
    pub const fn return_entry(&self, local: &Local) -> FlowEntry {
        let ip = checksum::replace32(self.real_be, self.virtual_be);
        let l4 = ip + checksum::replace16(self.real_port_be, self.virtual_port_be);
        FlowEntry {
            last_seen_ns: local.now_ns,
            new_src_be: self.virtual_be,
            new_dst_be: self.client_be,
            new_sport_be: self.virtual_port_be,
            new_dport_be: self.client_port_be,
            nexthop: local.to_client,
            vserver: self.vserver,
            real: self.real,
            ip_delta: checksum::fold(ip),
            l4_delta: checksum::fold(l4),
            expect_ack: 0,
            egress_vlan: self.client_vlan,
            state: self.state,
            flags: local.flags & !FLAG_FORWARD,
            generation: self.generation,
            client_be: self.client_be,
            reserved: [0; 3],
        }
    }
}

impl FlowEntry {
    /// Key of the other direction's entry, given this one's protocol.
    #[inline(always)]
    #[must_use]
    pub const fn twin_key(&self, proto: u8) -> FlowKey {
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
    pub const fn connection(&self, key: &FlowKey) -> Connection {
        let forward = self.flags & FLAG_FORWARD != 0;
        let (client_port_be, virtual_be, virtual_port_be, real_be, real_port_be, client_vlan, server_vlan) =
            if forward {
                (
                    key.sport_be,
                    key.dst_be,
                    key.dport_be,
                    self.new_dst_be,
                    self.new_dport_be,
                    key.vlan,
                    self.egress_vlan,
                )
            } else {
                (
                    key.dport_be,
                    self.new_src_be,
                    self.new_sport_be,
                    key.src_be,
                    key.sport_be,
                    self.egress_vlan,
                    key.vlan,
                )
            };
        Connection {
            client_be: self.client_be,
            virtual_be,
            real_be,
            client_port_be,
            virtual_port_be,
            real_port_be,
            client_vlan,
            server_vlan,
            proto: key.proto,
            state: self.state,
            vserver: self.vserver,
            real: self.real,
            generation: self.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Connection, Local};
    use proptest::prelude::*;

    prop_compose! {
        fn any_connection()(a: [u32; 3], p: [u16; 3], v: [u16; 2], n: [u32; 3], proto: u8, state in 1u8..6) -> Connection {
            Connection {
                client_be: a[0], virtual_be: a[1], real_be: a[2],
                client_port_be: p[0], virtual_port_be: p[1], real_port_be: p[2],
                client_vlan: v[0], server_vlan: v[1], proto, state,
                vserver: n[0], real: n[1], generation: n[2],
            }
        }
    }

    proptest! {
        #[test]
        fn each_entry_names_its_twin_and_its_connection(c in any_connection(), now_ns: u64) {
            let local = Local { to_server: 1, to_client: 2, now_ns, flags: 0 };
            let (f, r) = (c.forward_entry(&local), c.return_entry(&local));
            prop_assert_eq!(f.twin_key(c.proto), c.return_key());
            prop_assert_eq!(r.twin_key(c.proto), c.forward_key());
            prop_assert_eq!(f.connection(&c.forward_key()), c);
            prop_assert_eq!(r.connection(&c.return_key()), c);
        }
    }
}
