//! A message as a frame: the active router speaks from the group's MAC address, so that switches keep knowing where it is
//! (RFC 2281, section 6). The kernel knows nothing of that address. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpHeaders, PacketBuilder};

use super::wire::{Message, Op, State, port};

/// Internetwork control, as routers send it.
const TOS: u8 = 0xc0;

/// `message` of the router with address `own` and MAC address `mac`, with the tag of VLAN `tag` unless that is 0.
#[must_use]
pub fn frame(message: &Message, own: IpAddr, mac: [u8; 6], tag: u16) -> Vec<u8> {
    // Who resigns has perhaps a successor, whom the switches must go on to know.
    let source = match (message.state, message.op) {
        (State::Active, Op::Hello | Op::Coup) => message.version.virtual_mac(message.group, message.family),
        _ => mac,
    };
    let (headers, to) = match (own, message.version.destination(message.family)) {
        (IpAddr::V4(own), IpAddr::V4(to)) => v4(own, to, message.version.ttl()),
        (IpAddr::V6(own), IpAddr::V6(to)) => v6(own, to),
        // The machine says a message of its own address's family.
        _ => return Vec::new(),
    };
    let link = PacketBuilder::ethernet2(source, to);
    let port = port(message.family);
    let (bytes, length) = message.encode();
    let mut frame = Vec::new();
    let written = match etherparse::VlanId::try_new(tag) {
        Ok(vlan) if tag != 0 => {
            link.single_vlan(vlan).ip(headers).udp(port, port).write(&mut frame, &bytes[..length])
        }
        _ => link.ip(headers).udp(port, port).write(&mut frame, &bytes[..length]),
    };
    // Writing to memory fails only for a payload beyond 64 KiB.
    debug_assert!(written.is_ok(), "{length} octets");
    frame
}

/// The header, and the MAC address that `to` stands for (RFC 1112, section 6.4).
fn v4(own: Ipv4Addr, to: Ipv4Addr, ttl: u32) -> (IpHeaders, [u8; 6]) {
    let ttl = u8::try_from(ttl).unwrap_or(u8::MAX);
    let mut ip = etherparse::Ipv4Header::new(0, ttl, etherparse::IpNumber::UDP, own.octets(), to.octets())
        .unwrap_or_default();
    ip.dscp = etherparse::IpDscp::try_new(TOS >> 2).unwrap_or_default();
    let [_, b, c, d] = to.octets();
    (IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default()), [0x01, 0x00, 0x5e, b & 0x7f, c, d])
}

/// As [`v4`] (RFC 2464, section 7).
fn v6(own: Ipv6Addr, to: Ipv6Addr) -> (IpHeaders, [u8; 6]) {
    let ip = etherparse::Ipv6Header {
        traffic_class: TOS,
        hop_limit: u8::MAX,
        next_header: etherparse::IpNumber::UDP,
        source: own.octets(),
        destination: to.octets(),
        ..etherparse::Ipv6Header::default()
    };
    let [.., a, b, c, d] = to.octets();
    (IpHeaders::Ipv6(ip, etherparse::Ipv6Extensions::default()), [0x33, 0x33, a, b, c, d])
}
