//! Which virtual server a first packet is for.
//!
//! The most specific wins: first by the address (a single one, then networks, longest prefix first), then by the port
//! (this one, a data connection of FTP or media of RTSP, any), then any protocol, then by the VLAN (this one, all), last by the longest prefix of the client. A plain
//! virtual server, of one address and for all VLANs and clients, costs one look-up.

use aya_ebpf::maps::lpm_trie::Key;
use csm_common::flow::{FlowKey, NONE};
use csm_common::service::{ClientKey, MATCH_FTP, VserverKey};

use crate::family::Family;
use crate::ftp;
use crate::packet::{PROTO_TCP, PROTO_UDP, Packet};

/// Number of the virtual server that `packet` opens a connection to.
#[inline(always)]
pub(crate) fn lookup<A: Family>(packet: &Packet<A>) -> Option<u32> {
    let key = &packet.key;
    service(key, port(key), key.proto, 0).or_else(|| ftp::passive(packet)).or_else(|| others(key))
}

/// Number of the virtual server that connections of `key` are for, data connections of FTP and media of RTSP aside.
#[inline(always)]
pub(crate) fn of<A: Family>(key: &FlowKey<A>) -> Option<u32> {
    service(key, port(key), key.proto, 0).or_else(|| others(key))
}

/// Port that is compared: an echo's identifier is none.
#[inline(always)]
const fn port<A: Family>(key: &FlowKey<A>) -> u16 {
    match key.proto {
        PROTO_TCP | PROTO_UDP => key.dport_be,
        _ => 0,
    }
}

/// What the first look-up did not find.
#[inline(never)]
fn others<A: Family>(key: &FlowKey<A>) -> Option<u32> {
    if let Some(number) = any(key, 0) {
        return Some(number);
    }
    let networks = A::networks().get(Key::new(A::BITS, key.dst_be))?;
    for host_bits in networks.host_bits {
        if host_bits == 0 {
            return None;
        }
        if let Some(number) = service(key, port(key), key.proto, host_bits).or_else(|| any(key, host_bits)) {
            return Some(number);
        }
    }
    None
}

/// By any port, then by any protocol.
#[inline(always)]
fn any<A: Family>(key: &FlowKey<A>, host_bits: u8) -> Option<u32> {
    service(key, 0, key.proto, host_bits).or_else(|| service(key, 0, 0, host_bits))
}

/// The virtual server for port and protocol in the network of the destination that has so many host bits.
#[inline(never)]
fn service<A: Family>(key: &FlowKey<A>, port_be: u16, proto: u8, host_bits: u8) -> Option<u32> {
    find(key, VserverKey { ip_be: key.dst_be.network(host_bits), port_be, proto, kind: host_bits })
}

/// The virtual server that takes data connections of `service ftp`, or media of `service rtsp`.
#[inline(never)]
pub(crate) fn of_ftp<A: Family>(key: &FlowKey<A>) -> Option<u32> {
    find(key, VserverKey { ip_be: key.dst_be, port_be: 0, proto: key.proto, kind: MATCH_FTP })
}

#[inline(always)]
fn find<A: Family>(key: &FlowKey<A>, wanted: VserverKey<A>) -> Option<u32> {
    // SAFETY: the value is two plain numbers; what was just replaced leads to a slot that is still valid.
    let found = *unsafe { A::vserver_keys().get(wanted) }?;
    match found.rules {
        0 => Some(found.vserver),
        rules => client(key, rules),
    }
}

/// By VLAN and client.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "rules are numbered like virtual servers, below 65,536")]
fn client<A: Family>(key: &FlowKey<A>, rules: u32) -> Option<u32> {
    let find = |vlan| {
        let of = ClientKey { rules: rules as u16, vlan, client_be: key.src_be };
        A::clients().get(Key::new(32 + A::BITS, of)).copied().filter(|&number| number != NONE)
    };
    find(key.vlan).or_else(|| find(0))
}
