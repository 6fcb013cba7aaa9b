//! Packets of either family, by etherparse.

use std::net::IpAddr;

use csm_tests::model::table::{ACK, FIN, RST, SYN};
use csm_tests::rig::VIRTUAL_MAC;
use etherparse::{IpNumber, PacketBuilder, TcpHeader};

use super::generate::PSH;

/// Who sends the frames.
pub(crate) const SENDER: [u8; 6] = [2, 0xee, 0, 0, 1, 1];

/// Both ends of a packet.
pub(crate) struct Ends {
    pub(crate) proto: u8,
    pub(crate) src: (IpAddr, u16),
    pub(crate) dst: (IpAddr, u16),
}

/// A packet; of an echo `asks` says whether it is a request, and the source port is its identifier.
pub(crate) fn build(
    ends: &Ends,
    flags: u8,
    (seq, ack): (u32, u32),
    (ttl, asks): (u8, bool),
    payload: &[u8],
) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(SENDER, VIRTUAL_MAC);
    let ip = match (ends.src.0, ends.dst.0) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), ttl),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), ttl),
        _ => panic!("of two families"),
    };
    let (sport, dport) = (ends.src.1, ends.dst.1);
    let mut bytes = Vec::with_capacity(256);
    let written = match (ends.proto, asks) {
        (6, _) => {
            let header = TcpHeader {
                acknowledgment_number: ack,
                fin: flags & FIN != 0,
                syn: flags & SYN != 0,
                rst: flags & RST != 0,
                psh: flags & PSH != 0,
                ack: flags & ACK != 0,
                urg: flags & 32 != 0,
                ece: flags & 64 != 0,
                cwr: flags & 128 != 0,
                ..TcpHeader::new(sport, dport, seq, 65_000)
            };
            ip.tcp_header(header).write(&mut bytes, payload)
        }
        (17, _) => ip.udp(sport, dport).write(&mut bytes, payload),
        (1, true) => ip.icmpv4_echo_request(sport, 1).write(&mut bytes, payload),
        (1, false) => ip.icmpv4_echo_reply(sport, 1).write(&mut bytes, payload),
        (58, true) => ip.icmpv6_echo_request(sport, 1).write(&mut bytes, payload),
        (58, false) => ip.icmpv6_echo_reply(sport, 1).write(&mut bytes, payload),
        (other, _) => ip.write(&mut bytes, IpNumber(other), payload),
    };
    written.expect("a buildable frame");
    bytes
}
