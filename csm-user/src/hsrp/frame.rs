//! A message as a frame: the active router speaks from the group's MAC address, so that switches keep knowing where it is
//! (RFC 2281, section 6). The kernel knows nothing of that address. Pure.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;

use super::wire::{Message, Op, PORT, State};

/// Internetwork control, as routers send it.
const TOS: u8 = 0xc0;

/// `message` of the router with address `own` and MAC address `mac`, with the tag of VLAN `tag` unless that is 0.
#[must_use]
pub fn frame(message: &Message, own: Ipv4Addr, mac: [u8; 6], tag: u16) -> Vec<u8> {
    // Who resigns has perhaps a successor, whom the switches must go on to know.
    let source = match (message.state, message.op) {
        (State::Active, Op::Hello | Op::Coup) => message.version.virtual_mac(message.group),
        _ => mac,
    };
    let to = message.version.destination();
    let [_, b, c, d] = to.octets();
    let mut ip = etherparse::Ipv4Header::new(
        0,
        u8::try_from(message.version.ttl()).unwrap_or(u8::MAX),
        etherparse::IpNumber::UDP,
        own.octets(),
        to.octets(),
    )
    .unwrap_or_default();
    ip.dscp = etherparse::IpDscp::try_new(TOS >> 2).unwrap_or_default();
    let link = PacketBuilder::ethernet2(source, [0x01, 0x00, 0x5e, b & 0x7f, c, d]);
    let headers = etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default());
    let (bytes, length) = message.encode();
    let mut frame = Vec::new();
    let written = match etherparse::VlanId::try_new(tag) {
        Ok(vlan) if tag != 0 => {
            link.single_vlan(vlan).ip(headers).udp(PORT, PORT).write(&mut frame, &bytes[..length])
        }
        _ => link.ip(headers).udp(PORT, PORT).write(&mut frame, &bytes[..length]),
    };
    // Writing to memory fails only for a payload beyond 64 KiB.
    debug_assert!(written.is_ok(), "{length} octets");
    frame
}
