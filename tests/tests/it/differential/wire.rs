//! What is done to a frame by hand: options, extension headers, fragments, damage; and what etherparse does not build.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use csm_tests::model::near::{ADVERTISEMENT, SOLICITATION};
use csm_tests::model::out::octets;
use csm_tests::model::sums::checksum;
use csm_tests::rig::VIRTUAL_MAC;
use csm_tests::sim::rng::Rng;
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};

use super::build::SENDER;

const IPV4: [u8; 2] = [8, 0];
const IPV6: [u8; 2] = [0x86, 0xdd];

fn some(rng: &mut Rng, range: std::ops::Range<u64>) -> usize {
    usize::try_from(rng.within(range)).expect("a few")
}

fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("a short frame").to_be_bytes()
}

/// Gives an IPv4 frame a right header checksum.
fn right(bytes: &mut [u8]) {
    let end = 14 + usize::from(bytes[14] & 15) * 4;
    bytes[24..26].fill(0);
    let sum = checksum(&bytes[14..end]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// Takes "do not fragment" off.
pub(crate) fn may_be_fragmented(bytes: &mut [u8]) {
    bytes[20] &= !0x40;
    right(bytes);
}

/// Puts options into an IPv4 header, extension headers behind one of IPv6.
pub(crate) fn lengthen(rng: &mut Rng, bytes: &mut Vec<u8>) {
    if bytes[12..14] == IPV4 && bytes.len() >= 34 && bytes[14] == 0x45 {
        let router_alert = [148, 4, 0, 0];
        let options: &[u8] = match rng.within(0..8) {
            0 => &[1, 1, 1, 0],
            1 => &[131, 7, 4, 10, 9, 9, 9, 0],
            2 => &[1, 137, 3, 4],
            3 => &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            4 => &[68, 9, 5, 0],
            5 => &[1, 1, 7, 1],
            _ => &router_alert,
        };
        bytes.splice(34..34, options.iter().copied());
        bytes[14] += u8::try_from(options.len() / 4).expect("a few");
        let total = bytes.len() - 14;
        bytes[16..18].copy_from_slice(&short(total));
        right(bytes);
    } else if bytes[12..14] == IPV6 && bytes.len() >= 54 {
        let most = if rng.chance(10) { 9 } else { 4 };
        for _ in 0..some(rng, 1..most) {
            // Always the first of all, so that the last that is put is the first that is read.
            let kind = rng.pick(&[60, 60, 60, 0, 43, 44]);
            let more = if kind == 44 { 0 } else { some(rng, 0..3) * if rng.chance(5) { 12 } else { 1 } };
            let mut header = vec![0; 8 + more * 8];
            header[0] = bytes[20];
            header[1] = u8::try_from(more).expect("a few");
            if kind == 43 {
                header[2] = rng.pick(&[0, 3, 4, 4]);
                header[3] = rng.pick(&[0, 0, 1]);
            }
            bytes.splice(54..54, header);
            bytes[20] = kind;
        }
        let length = bytes.len() - 54;
        bytes[18..20].copy_from_slice(&short(length));
    }
}

/// The fragments of an IP packet, or none if it is none.
pub(crate) fn in_pieces(rng: &mut Rng, bytes: &[u8]) -> Vec<Vec<u8>> {
    let id = u16::try_from(rng.within(1..60_000)).expect("16 bits").to_be_bytes();
    let v6 = bytes[12..14] == IPV6;
    let at = if v6 { 54 } else { 14 + usize::from(bytes.get(14).copied().unwrap_or(0) & 15) * 4 };
    if !(v6 || bytes[12..14] == IPV4 && at >= 34) || bytes.len() <= at {
        return Vec::new();
    }
    let (head, mut payload) = (&bytes[..at], bytes[at..].to_vec());
    payload.resize(payload.len() + some(rng, 0..60), 0x3c);
    let mut pieces = Vec::new();
    let mut from = 0;
    while from < payload.len() {
        let odd = usize::from(rng.chance(4));
        let length = some(rng, 2..6) * 8 + odd;
        let end = (from + length).min(payload.len());
        let more = end < payload.len();
        let place = u16::try_from(from / 8).expect("a small datagram");
        let content = &payload[from..end];
        pieces.push(if v6 {
            let place = (place << 3 | u16::from(more)).to_be_bytes();
            let fragment = [&[bytes[20], 0], &place[..], &[0, 0], &id[..]].concat();
            let mut piece = [head, &fragment, content].concat();
            piece[20] = 44;
            let length = piece.len() - 54;
            piece[18..20].copy_from_slice(&short(length));
            piece
        } else {
            let mut piece = [head, content].concat();
            let total = piece.len() - 14;
            piece[16..18].copy_from_slice(&short(total));
            piece[18..20].copy_from_slice(&id);
            piece[20..22].copy_from_slice(&(place | if more { 0x2000 } else { 0 }).to_be_bytes());
            right(&mut piece);
            piece
        });
        from = end;
    }
    pieces
}

/// An ICMP error with that quote.
pub(crate) fn error(from: IpAddr, to: IpAddr, ttl: u8, kind: [u8; 2], quote: &[u8]) -> Vec<u8> {
    let rest = [0, 0, 5, 0xdc];
    let ethernet = PacketBuilder::ethernet2(SENDER, VIRTUAL_MAC);
    let mut bytes = Vec::with_capacity(256);
    let written = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet
            .ipv4(from.octets(), to.octets(), ttl)
            .icmpv4_raw(kind[0], kind[1], rest)
            .write(&mut bytes, quote),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet
            .ipv6(from.octets(), to.octets(), ttl)
            .icmpv6_raw(kind[0], kind[1], rest)
            .write(&mut bytes, quote),
        _ => panic!("of two families"),
    };
    written.expect("a buildable frame");
    bytes
}

/// An ARP message.
pub(crate) fn arp(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr, asks: bool) -> Vec<u8> {
    let operation = if asks { ArpOperation::REQUEST } else { ArpOperation::REPLY };
    let (sender, target) = (sender.octets(), target.octets());
    let hardware = ArpHardwareId::ETHERNET;
    let arp = ArpPacket::new(hardware, EtherType::IPV4, operation, &mac, &sender, &[0; 6], &target)
        .expect("lengths that fit");
    let mut bytes = Vec::with_capacity(64);
    PacketBuilder::ethernet2(mac, [0xff; 6]).arp(arp).write(&mut bytes).expect("a buildable frame");
    bytes
}

/// A neighbour's solicitation or advertisement, to the group or to the virtual MAC; `option` holds a MAC address.
pub(crate) fn discovery(
    mac: [u8; 6],
    (sender, target): (Ipv6Addr, Ipv6Addr),
    asks: bool,
    option: Option<u8>,
    hops: u8,
) -> Vec<u8> {
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, target.segments()[7]);
    let kind = if asks { SOLICITATION } else { ADVERTISEMENT };
    let mut icmp = [&[kind, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..]].concat();
    if let Some(kind) = option {
        icmp.extend([kind, 1]);
        icmp.extend(mac);
    }
    let length = short(icmp.len());
    let addresses = [octets(sender.into()), octets(group.into())].concat();
    let sum = checksum(&[&addresses[..], &[0, 0], &length, &[0, 0, 0, 58], &icmp].concat());
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = [0x60, 0, 0, 0, length[0], length[1], 58, hops];
    [&[0x33, 0x33, 0xff, 0, 0, 1], &mac[..], &IPV6, &header, &addresses, &icmp].concat()
}

/// Flips bits, cuts, writes another length, or pads.
pub(crate) fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    match rng.within(0..10) {
        0..6 => {
            for _ in 0..rng.within(1..4) {
                let at = some(rng, 0..bytes.len() as u64);
                bytes[at] ^= 1 << rng.within(0..8);
            }
        }
        6..8 => {
            let length = some(rng, 14..bytes.len() as u64 + 1);
            bytes.truncate(length);
        }
        8 if bytes.len() > 19 => {
            // The length that the header gives.
            let at = if bytes[12..14] == IPV6 { 18 } else { 16 };
            bytes[at..at + 2].copy_from_slice(&[0, u8::try_from(rng.within(0..100)).expect("an octet")]);
        }
        _ => {
            let length = bytes.len() + some(rng, 1..30);
            bytes.resize(length, 0xa5);
        }
    }
}
