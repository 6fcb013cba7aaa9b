//! The question that keeps a gateway under watch: ARP for its address (RFC 826). Pure.
//!
//! Asked from this node's own address, so it works on a standby, and answered to this node alone.

use std::net::Ipv4Addr;

/// Length on the wire without the checksum: the least Ethernet allows.
pub const FRAME_LEN: usize = 60;

/// Where ARP begins, and how long it is for IPv4 over Ethernet.
const ARP: usize = 14;
const ARP_LEN: usize = 28;
/// The EtherType, then Ethernet, IPv4, lengths 6 and 4.
const HEADER: [u8; 8] = [8, 6, 0, 1, 8, 0, 6, 4];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// "Who has `target`? Tell `own`, which is at `mac`."
#[must_use]
pub fn request(mac: [u8; 6], own: Ipv4Addr, target: Ipv4Addr) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    frame[12..20].copy_from_slice(&HEADER);
    frame[20..22].copy_from_slice(&REQUEST.to_be_bytes());
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&own.octets());
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

/// Whether `frame` is `target`'s answer to `own`.
#[must_use]
pub fn is_answer(frame: &[u8], own: Ipv4Addr, target: Ipv4Addr) -> bool {
    let Some(frame) = frame.first_chunk::<{ ARP + ARP_LEN }>() else { return false };
    frame[12..20] == HEADER
        && frame[20..22] == REPLY.to_be_bytes()
        // A group address is nobody's.
        && frame[22] & 1 == 0
        && frame[28..32] == target.octets()
        && frame[38..42] == own.octets()
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, ArpPacketSlice, EtherType};
    use proptest::prelude::*;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const GATEWAY_MAC: [u8; 6] = [0, 0, 0x0c, 7, 0xac, 1];
    const OWN: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 10);
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 20);

    fn arp(operation: ArpOperation, from: ([u8; 6], Ipv4Addr), to: ([u8; 6], Ipv4Addr)) -> Vec<u8> {
        let packet = ArpPacket::new(
            ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            operation,
            &from.0,
            &from.1.octets(),
            &to.0,
            &to.1.octets(),
        );
        let ethernet = [&[0xff; 6][..], &from.0, &[8, 6]].concat();
        [ethernet, packet.expect("lengths fit").to_bytes().to_vec()].concat()
    }

    #[test]
    fn the_question_is_one_of_arp_for_ipv4() {
        let frame = request(MAC, OWN, GATEWAY);
        assert_eq!((&frame[..6], &frame[6..12], &frame[12..14]), (&[0xff; 6][..], &MAC[..], &[8, 6][..]));
        let read = ArpPacketSlice::from_slice(&frame[ARP..]).expect("an ARP packet");
        assert_eq!((read.hw_addr_type(), read.operation()), (ArpHardwareId::ETHERNET, ArpOperation::REQUEST));
        assert_eq!((read.sender_hw_addr(), read.sender_protocol_addr()), (&MAC[..], &OWN.octets()[..]));
        assert_eq!(
            (read.target_hw_addr(), read.target_protocol_addr()),
            (&[0; 6][..], &GATEWAY.octets()[..])
        );
    }

    #[test]
    fn only_the_gateways_answer_to_this_node_counts() {
        let good = arp(ArpOperation::REPLY, (GATEWAY_MAC, GATEWAY), (MAC, OWN));
        assert!(is_answer(&good, OWN, GATEWAY));
        let padded = [good.clone(), vec![0; 18]].concat();
        assert!(is_answer(&padded, OWN, GATEWAY), "Ethernet pads");
        let other = Ipv4Addr::new(192, 158, 38, 21);
        for bad in [
            arp(ArpOperation::REQUEST, (GATEWAY_MAC, GATEWAY), (MAC, OWN)),
            arp(ArpOperation::REPLY, (GATEWAY_MAC, other), (MAC, OWN)),
            arp(ArpOperation::REPLY, (GATEWAY_MAC, GATEWAY), (MAC, other)),
            arp(ArpOperation::REPLY, ([0xff; 6], GATEWAY), (MAC, OWN)),
            good[..41].to_vec(),
        ] {
            assert!(!is_answer(&bad, OWN, GATEWAY), "{bad:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_packet_passes_by_chance(frame in prop::collection::vec(any::<u8>(), 0..96)) {
            prop_assert!(!is_answer(&frame, OWN, GATEWAY));
        }
    }
}
