//! The question that keeps a gateway of IPv6 under watch: neighbour solicitation (RFC 4861, section 4.3). Pure.
//!
//! Asked from this node's own address, so it works on a standby, and answered to this node alone.

use std::net::Ipv6Addr;

/// Length of a question.
pub const FRAME_LEN: usize = 14 + IPV6 + MESSAGE;

const IPV6: usize = 40;
/// The message, and the option with the asker's MAC address.
const MESSAGE: usize = 32;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// It comes from no further than the link.
const HOPS: u8 = 255;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;

/// "Who has `target`? Tell `own`, which is at `mac`."
#[must_use]
pub fn request(mac: [u8; 6], own: Ipv6Addr, target: Ipv6Addr) -> [u8; FRAME_LEN] {
    let [.., x, y, z] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z]));
    let mut frame = [0; FRAME_LEN];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0xff, x, y, z]);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    frame[18..22].copy_from_slice(&[0, 32, ICMPV6, HOPS]);
    frame[22..38].copy_from_slice(&own.octets());
    frame[38..54].copy_from_slice(&group.octets());
    frame[54] = SOLICITATION;
    frame[62..78].copy_from_slice(&target.octets());
    // In units of eight octets.
    frame[78..80].copy_from_slice(&[SOURCE_LINK_LAYER_ADDRESS, 1]);
    frame[80..].copy_from_slice(&mac);
    // Length and next header complete the pseudo header (RFC 8200, section 8.1).
    let checksum = super::checksum(&frame[22..], u32::from(ICMPV6) + 32);
    frame[56..58].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// Whether `frame` is `target`'s answer to `own`.
#[must_use]
pub fn is_answer(frame: &[u8], own: Ipv6Addr, target: Ipv6Addr) -> bool {
    let Some(frame) = frame.first_chunk::<78>() else { return false };
    frame[12..14] == [0x86, 0xdd]
        && frame[20..22] == [ICMPV6, HOPS]
        && frame[38..54] == own.octets()
        && frame[54..56] == [ADVERTISEMENT, 0]
        && frame[62..78] == target.octets()
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn addresses() -> (Ipv6Addr, Ipv6Addr) {
        ("fd00:38::10".parse().expect("an address"), "fd00:38::ab:cdef".parse().expect("an address"))
    }

    fn answer(own: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
        let mut frame = request(MAC, target, target).to_vec();
        frame[38..54].copy_from_slice(&own.octets());
        frame[54] = ADVERTISEMENT;
        frame
    }

    #[test]
    fn the_question_is_a_solicitation_with_a_good_checksum() {
        let (own, target) = addresses();
        let frame = request(MAC, own, target);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0xab, 0xcd, 0xef]);
        let packet = SlicedPacket::from_ethernet(&frame).expect("a packet");
        let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) = (packet.net, packet.transport)
        else {
            panic!("no ICMPv6");
        };
        let header = ip.header();
        assert_eq!((header.source_addr(), header.hop_limit()), (own, 255));
        assert_eq!(header.destination_addr(), "ff02::1:ffab:cdef".parse::<Ipv6Addr>().expect("an address"));
        assert!(icmp.is_checksum_valid(header.source(), header.destination()));
        assert_eq!((icmp.type_u8(), &icmp.payload()[..16]), (SOLICITATION, &target.octets()[..]));
    }

    #[test]
    fn only_the_gateways_answer_to_this_node_counts() {
        let (own, target) = addresses();
        let good = answer(own, target);
        assert!(is_answer(&good, own, target));
        let mut far = good.clone();
        far[21] = 64;
        let all_nodes = "ff02::1".parse().expect("an address");
        for bad in [
            answer(own, own),
            answer(all_nodes, target),
            far,
            request(MAC, own, target).to_vec(),
            good[..77].to_vec(),
        ] {
            assert!(!is_answer(&bad, own, target), "{bad:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_packet_passes_by_chance(frame in prop::collection::vec(any::<u8>(), 0..96)) {
            let (own, target) = addresses();
            prop_assert!(!is_answer(&frame, own, target));
        }
    }
}
