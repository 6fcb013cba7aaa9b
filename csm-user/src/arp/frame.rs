//! Gratuitous ARP and unsolicited neighbour advertisements. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Length on the wire without the checksum: the least Ethernet allows, padded with zeros.
pub const FRAME_LEN: usize = 60;

/// The two forms: some networks heed only the one, some only the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Form {
    /// ARP Announcement (RFC 5227 section 2.3): a request for the own address.
    Request = 1,
    /// Unasked reply.
    Reply = 2,
}

/// "`address` is at `mac`", broadcast from `mac`, so that switches learn where it is, too.
#[must_use]
pub fn gratuitous(form: Form, mac: [u8; 6], address: Ipv4Addr) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
    // Ethernet, IPv4, lengths 6 and 4 (RFC 826).
    frame[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
    frame[20..22].copy_from_slice(&(form as u16).to_be_bytes());
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    // The target's MAC: not used in a request, the sender's own in a reply (RFC 5944, section 4.6). Linux would take another for
    // a reply to somebody else, and not let it change what it has learnt within the last second.
    if form == Form::Reply {
        frame[32..38].copy_from_slice(&mac);
    }
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// Where `mac` is, and nothing else: a question that nobody answers (RARP, RFC 903), broadcast from it. For a host with
/// IPv6 addresses only: an advertisement in its place would have to say whether it is a router.
#[must_use]
pub fn reverse(mac: [u8; 6]) -> [u8; FRAME_LEN] {
    let mut frame = gratuitous(Form::Request, mac, Ipv4Addr::UNSPECIFIED);
    frame[12..14].copy_from_slice(&0x8035_u16.to_be_bytes());
    // "Request reverse", for the sender itself.
    frame[20..22].copy_from_slice(&3_u16.to_be_bytes());
    frame[32..38].copy_from_slice(&mac);
    frame
}

/// Length of a neighbour advertisement with its link-layer address.
const ADVERTISEMENT_LEN: usize = 14 + 40 + 32;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const ICMPV6: u8 = 58;
/// R: it routes; O: what was known before is wrong (RFC 4861, section 4.4).
const ROUTER_OVERRIDE: u8 = 0xa0;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// "`address` is at `mac`", unasked, to all nodes (RFC 4861, section 7.2.6).
#[must_use]
pub fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> [u8; ADVERTISEMENT_LEN] {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut frame = [0; ADVERTISEMENT_LEN];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&0x86dd_u16.to_be_bytes());
    // Version 6, 32 octets of payload, hop limit 255: it comes from no further than the link.
    frame[14] = 0x60;
    frame[18..22].copy_from_slice(&[0, 32, ICMPV6, 255]);
    frame[22..38].copy_from_slice(&address.octets());
    frame[38..54].copy_from_slice(&all_nodes.octets());
    frame[54] = NEIGHBOUR_ADVERTISEMENT;
    frame[58] = ROUTER_OVERRIDE;
    frame[62..78].copy_from_slice(&address.octets());
    // In units of eight octets.
    frame[78..80].copy_from_slice(&[TARGET_LINK_LAYER_ADDRESS, 1]);
    frame[80..].copy_from_slice(&mac);
    let checksum = checksum(&frame[22..]);
    frame[56..58].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// Of both addresses and the message after them, with the rest of the pseudo header (RFC 8200, section 8.1).
fn checksum(addresses_and_message: &[u8]) -> u16 {
    let words =
        addresses_and_message.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum = words.sum::<u32>() + 32 + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// `frame` with an 802.1Q tag of VLAN `tag`, or as it is if that is 0.
#[must_use]
pub fn tagged(frame: &[u8], tag: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if tag != 0 {
        let [high, low] = tag.to_be_bytes();
        frame.splice(12..12, [0x81, 0x00, high, low]);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::{Form, advertisement, gratuitous};
    use etherparse::{ArpHardwareId, EtherType, NetSlice, SlicedPacket, TransportSlice};

    const MAC: [u8; 6] = [0, 1, 0x64, 0xf9, 0x1a, 1];

    #[test]
    fn an_advertisement_parses_as_one_to_all_nodes_with_a_good_checksum() {
        let address = "2001:db8:0:38::30".parse().unwrap();
        let frame = advertisement(MAC, address);
        assert_eq!(frame[..12], [0x33, 0x33, 0, 0, 0, 1, 0, 1, 0x64, 0xf9, 0x1a, 1]);
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6") };
        let (header, Some(TransportSlice::Icmpv6(icmp))) = (ip.header(), &packet.transport) else {
            panic!("no ICMPv6")
        };
        assert_eq!((header.source_addr(), header.hop_limit()), (address, 255));
        assert_eq!(header.destination_addr().to_string(), "ff02::1");
        assert!(icmp.is_checksum_valid(header.source(), header.destination()));
        assert_eq!((icmp.type_u8(), icmp.code_u8()), (136, 0));
        let body = &icmp.slice()[4..];
        assert_eq!((body[0], &body[4..20]), (0xa0, &address.octets()[..]), "router, override, not solicited");
        assert_eq!(body[20..], [2, 1, 0, 1, 0x64, 0xf9, 0x1a, 1]);
    }

    #[test]
    fn a_reverse_request_tells_where_a_host_is_and_no_address() {
        let frame = super::reverse(MAC);
        assert_eq!(frame[..12], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1, 0x64, 0xf9, 0x1a, 1]);
        let mut body = vec![0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3];
        for _ in 0..2 {
            body.extend(MAC);
            body.extend([0; 4]);
        }
        assert_eq!(frame[12..42], body);
    }

    #[test]
    fn both_forms_parse_as_gratuitous_arp_for_ethernet_and_ipv4() {
        for form in [Form::Request, Form::Reply] {
            let frame = gratuitous(form, MAC, "192.158.38.30".parse().unwrap());
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let ethernet =
                packet.link.as_ref().and_then(etherparse::LinkSlice::to_header).unwrap().ethernet2().unwrap();
            assert_eq!((ethernet.source, ethernet.destination), (MAC, [0xff; 6]));
            assert_eq!(ethernet.ether_type, EtherType::ARP);
            let Some(NetSlice::Arp(arp)) = packet.net else { panic!("no ARP") };
            assert_eq!(arp.hw_addr_type(), ArpHardwareId::ETHERNET);
            assert_eq!(arp.proto_addr_type(), EtherType::IPV4);
            assert_eq!(arp.operation().0, form as u16);
            assert_eq!(
                (arp.sender_hw_addr(), arp.sender_protocol_addr()),
                (&MAC[..], &[192, 158, 38, 30][..])
            );
            assert_eq!(arp.target_protocol_addr(), arp.sender_protocol_addr(), "gratuitous");
        }
    }
}
