//! Gratuitous ARP frames. Pure.

use std::net::Ipv4Addr;

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
    // The target's MAC: not known in a request, all in a reply to all.
    if form == Form::Reply {
        frame[32..38].fill(0xff);
    }
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// `frame` with an 802.1Q tag of VLAN `tag`, or as it is if that is 0.
#[must_use]
pub fn tagged(frame: [u8; FRAME_LEN], tag: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if tag != 0 {
        let [high, low] = tag.to_be_bytes();
        frame.splice(12..12, [0x81, 0x00, high, low]);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::{Form, gratuitous};
    use etherparse::{ArpHardwareId, EtherType, NetSlice, SlicedPacket};

    const MAC: [u8; 6] = [0, 1, 0x64, 0xf9, 0x1a, 1];

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
