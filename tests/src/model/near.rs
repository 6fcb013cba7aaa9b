//! ARP and neighbour discovery: who asks for an address of the group is answered.

use std::net::{IpAddr, Ipv6Addr};

use csm_common::counter::Reason;

use super::Arrival;
use super::frame::{Frame, L2};
use super::out::octets;
use super::scene::Scene;
use super::sums::checksum;

/// Type of a neighbour solicitation (RFC 4861, section 4.3).
pub const SOLICITATION: u8 = 135;
/// Type of a neighbour advertisement (RFC 4861, section 4.4).
pub const ADVERTISEMENT: u8 = 136;

/// What becomes of a question or an announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Near {
    /// Its end, and the answer.
    Ends(Reason, Option<Frame>),
    /// It bears an address of the group: the kernel's.
    Rivals,
    /// It is about somebody else, if that can be read: the kernel's, or bridged.
    About(Option<IpAddr>),
}

/// ARP on a data port.
#[must_use]
pub fn arp(scene: &Scene, at: &Arrival, frame: &Frame, open: bool, mac: [u8; 6]) -> Near {
    if !frame.reaches(L2, 28) {
        return Near::Ends(Reason::DropMalformed, None);
    }
    let (sender_mac, sender, target) = (frame.mac(22), frame.address(28, false), frame.address(38, false));
    let usual = frame.0[14..20] == [0, 1, 8, 0, 6, 4] && sender_mac[0] & 1 == 0;
    if usual && scene.is_ours(sender, at.vlan) {
        return Near::Rivals;
    }
    if !usual || frame.u16(20) != 1 || !scene.is_ours(target, at.vlan) {
        return Near::About(Some(target).filter(|_| usual));
    }
    if !open {
        return Near::Ends(Reason::DropArpStandby, None);
    }
    let mut reply = frame.clone();
    reply.send_to(sender_mac, mac);
    reply.put16(20, 2);
    reply.put(22, &[&mac[..], &octets(target), &sender_mac, &octets(sender)].concat());
    Near::Ends(Reason::ArpReplied, Some(reply))
}

/// Whether it is a neighbour's solicitation or advertisement.
#[must_use]
pub fn is_discovery(frame: &Frame) -> bool {
    frame.reaches(L2, 64) && frame.0[20] == 58 && matches!(frame.0[54], SOLICITATION | ADVERTISEMENT)
}

/// Neighbour discovery on a data port (RFC 4861).
#[must_use]
pub fn discovery(scene: &Scene, at: &Arrival, frame: &Frame, open: bool, mac: [u8; 6]) -> Near {
    let (src, target) = (frame.address(22, true), frame.address(62, true));
    let nobody = src == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let sound = frame.0[21] == 255 && frame.0[55] == 0 && frame.mac(6)[0] & 1 == 0;
    let (solicits, ours) = (frame.0[54] == SOLICITATION, scene.is_ours(target, at.vlan));
    if sound && (scene.is_ours(src, at.vlan) || ours && !solicits) {
        return Near::Rivals;
    }
    if !sound || !solicits || !ours {
        return Near::About(Some(target));
    }
    if !open {
        return Near::Ends(Reason::DropArpStandby, None);
    }
    // Who looks whether the address is free is told with all others (RFC 4861, section 7.2.4).
    let all: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let (to, to_mac, flags) =
        if nobody { (all.into(), [0x33, 0x33, 0, 0, 0, 1], 0xa0) } else { (src, frame.mac(6), 0xe0) };
    let mut icmp =
        [&[ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0], &octets(target)[..], &[2, 1], &mac[..]].concat();
    let addresses = [octets(target), octets(to)].concat();
    let sum = checksum(&[&addresses[..], &[0, 0, 0, 32, 0, 0, 0, 58], &icmp].concat());
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = [0x60, 0, 0, 0, 0, 32, 58, 255];
    let bytes = [&to_mac[..], &mac, &[0x86, 0xdd], &header, &addresses, &icmp].concat();
    Near::Ends(Reason::ArpReplied, Some(Frame(bytes)))
}
