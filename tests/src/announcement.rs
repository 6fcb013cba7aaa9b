//! Announcements as they must be on the wire: gratuitous ARP in both forms, and unsolicited neighbour advertisements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};

use crate::capture::Frame;
use crate::checks::{Mac, sender};
use crate::topology::Side;

/// What an announcement is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// ARP request for one's own address (RFC 5227, section 3).
    Request,
    /// ARP reply that nobody asked for.
    Reply,
    /// Unsolicited neighbour advertisement (RFC 4861, section 7.2.6).
    Advertisement,
}

/// A good announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// When the switch saw it, nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Which node made it.
    pub by: Side,
    /// How.
    pub form: Form,
    /// Of what.
    pub address: IpAddr,
    /// Where that is from now on.
    pub mac: Mac,
    /// The frame itself.
    pub frame: Vec<u8>,
}

/// The announcements that nodes made, and what is wrong with those that are not as they must be.
pub fn announcements(frames: &[Frame]) -> (Vec<Announcement>, Vec<String>) {
    let (mut good, mut faults) = (Vec::new(), Vec::new());
    for frame in frames {
        let Some(by) = sender(frame) else { continue };
        match arp(&frame.bytes).or_else(|| advertisement(&frame.bytes)) {
            None => {}
            Some(Err(fault)) => faults.push(format!("{by:?}: {fault}: {:02x?}", frame.bytes)),
            Some(Ok((form, address, mac))) => {
                let frame_bytes = frame.bytes.clone();
                good.push(Announcement { at_ns: frame.at_ns, by, form, address, mac, frame: frame_bytes });
            }
        }
    }
    (good, faults)
}

type Judged = Option<Result<(Form, IpAddr, Mac), &'static str>>;

/// A broadcast of ARP about its sender's own address; `None`: no such frame.
fn arp(frame: &[u8]) -> Judged {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(NetSlice::Arp(arp)) = &packet.net else { return None };
    let own: [u8; 4] = arp.sender_protocol_addr().try_into().ok()?;
    if arp.target_protocol_addr() != own || frame[..6] != [0xff; 6] {
        return None;
    }
    let mac: Mac = arp.sender_hw_addr().try_into().ok()?;
    let form = match arp.operation().0 {
        1 => Form::Request,
        2 => Form::Reply,
        _ => return Some(Err("neither request nor reply")),
    };
    if frame[6..12] != mac {
        return Some(Err("the frame's source is not the address that it announces"));
    }
    // Linux takes a reply as gratuitous only with the sender's hardware address as the target's, or none.
    if form == Form::Reply && arp.target_hw_addr() != mac {
        return Some(Err("a reply to somebody else"));
    }
    Some(Ok((form, Ipv4Addr::from(own).into(), mac)))
}

/// A neighbour advertisement to all nodes; `None`: no such frame.
fn advertisement(frame: &[u8]) -> Judged {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) = (&packet.net, &packet.transport)
    else {
        return None;
    };
    let Icmpv6Type::NeighborAdvertisement(flags) = icmp.icmp_type() else { return None };
    let (header, body) = (ip.header(), icmp.payload());
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    if header.destination_addr() != all_nodes {
        return None;
    }
    let target = Ipv6Addr::from(*body.first_chunk::<16>()?);
    let good_sum = icmp.is_checksum_valid(header.source(), header.destination());
    // Of the type "target link-layer address", one unit long.
    let option =
        body.get(16..24).filter(|option| option[..2] == [2, 1]).and_then(|option| option[2..].first_chunk());
    let judgement = match option {
        _ if header.hop_limit() != 255 => Err("may come from beyond the link"),
        _ if !good_sum => Err("wrong checksum"),
        _ if flags.solicited => Err("says that it was asked for"),
        _ if !flags.r#override => Err("lets what was known before stand"),
        _ if frame[..6] != [0x33, 0x33, 0, 0, 0, 1] => Err("not to the group's MAC address"),
        _ if header.source_addr() != target => Err("comes from another address than its target"),
        None => Err("without the target's link-layer address"),
        Some(&mac) if frame[6..12] != mac => Err("the frame's source is not the address that it announces"),
        Some(&mac) => Ok((Form::Advertisement, target.into(), mac)),
    };
    Some(judgement)
}

#[cfg(test)]
mod tests {
    use csm_user::arp::frame::{self, gratuitous};

    use super::*;

    const MAC: Mac = [0, 1, 0x64, 0xf9, 0x1a, 1];
    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x38, 0, 0, 0, 0, 0, 0x30);

    fn judge(bytes: &[u8]) -> (Vec<Announcement>, Vec<String>) {
        announcements(&[Frame { at_ns: 1, port: "sw-b1".into(), bytes: bytes.to_vec() }])
    }

    #[test]
    fn both_families_announcements_are_known_and_damaged_ones_are_named() {
        let v4 = Ipv4Addr::new(192, 158, 38, 30);
        for (form, kind) in [(Form::Request, frame::Form::Request), (Form::Reply, frame::Form::Reply)] {
            let (good, faults) = judge(&gratuitous(kind, MAC, v4));
            assert_eq!((good.len(), faults.len()), (1, 0), "{faults:?}");
            assert_eq!((good[0].form, good[0].address, good[0].mac), (form, v4.into(), MAC));
        }
        let whole = frame::advertisement(MAC, ADDRESS);
        let (good, faults) = judge(&whole);
        assert_eq!((good.len(), faults.len()), (1, 0), "{faults:?}");
        assert_eq!((good[0].form, good[0].address), (Form::Advertisement, ADDRESS.into()));
        // Hop limit, an address, flags, target, option, source MAC address.
        for at in [21, 30, 58, 70, 78, 80, 11] {
            let mut damaged = whole;
            damaged[at] ^= 0x20;
            let (good, faults) = judge(&damaged);
            assert_eq!((good.len(), faults.len()), (0, 1), "octet {at}");
        }
    }
}
