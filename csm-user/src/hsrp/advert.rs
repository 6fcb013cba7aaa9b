//! Router advertisements from a group's address (RFC 4861, section 6.2): what they say, and when. Pure.
//!
//! They come from the active router only, so hosts know the group's address and none of the routers' own. Who steps down says
//! nothing more, and nothing to the contrary: a last one with a lifetime of 0 would take from the hosts the very address that
//! the successor goes on with.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

/// Between two, as IOS has it.
pub const INTERVAL: Duration = Duration::from_secs(200);
/// For how long a host may go by one, as IOS has it.
pub const LIFETIME: Duration = Duration::from_secs(1800);
/// The first ones follow each other more closely (MAX_INITIAL_RTR_ADVERT_INTERVAL).
pub const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// So many of them (MAX_INITIAL_RTR_ADVERTISEMENTS).
pub const INITIAL: u8 = 3;
/// However often it is asked for, not more often than this (MIN_DELAY_BETWEEN_RAS).
pub const BETWEEN: Duration = Duration::from_secs(3);

/// Type of a router's solicitation.
pub const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
const ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 64;
const VALID_S: u32 = 2_592_000;
const PREFERRED_S: u32 = 604_800;
/// On-link, and for addresses of the hosts' own making.
const ON_LINK_AUTONOMOUS: u8 = 0xc0;
/// Longest prefix that hosts make their own addresses of (RFC 4862, section 5.5.3).
const AUTONOMOUS_LENGTH: u8 = 64;

/// "`address`, at `mac`, routes": of networks `nets` on this link, whose packets have at most `mtu` octets. To all nodes.
#[must_use]
pub fn frame(address: Ipv6Addr, mac: [u8; 6], nets: &[Ipv6Net], mtu: u16) -> Vec<u8> {
    let lifetime = u16::try_from(LIFETIME.as_secs()).unwrap_or(u16::MAX).to_be_bytes();
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, 0, lifetime[0], lifetime[1]];
    // Reachable time and retransmission: the hosts' own.
    message.extend([0; 8]);
    // Source link-layer address.
    message.extend([1, 1]);
    message.extend(mac);
    message.extend([5, 1, 0, 0]);
    message.extend(u32::from(mtu).to_be_bytes());
    for net in nets {
        let flags = if net.prefix_len() == AUTONOMOUS_LENGTH { ON_LINK_AUTONOMOUS } else { 0x80 };
        message.extend([3, 4, net.prefix_len(), flags]);
        message.extend(VALID_S.to_be_bytes());
        message.extend(PREFERRED_S.to_be_bytes());
        message.extend([0; 4]);
        message.extend(net.network().octets());
    }
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let checksum = checksum(&[&address.octets()[..], &all_nodes.octets(), &message]);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1];
    frame.extend(mac);
    frame.extend(0x86dd_u16.to_be_bytes());
    // Version 6; internetwork control, as routers send it.
    frame.extend([0x6c, 0, 0, 0]);
    frame.extend(u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes());
    frame.extend([ICMPV6, u8::MAX]);
    frame.extend(address.octets());
    frame.extend(all_nodes.octets());
    frame.extend(message);
    frame
}

/// Of addresses and message, with the rest of the pseudo header (RFC 8200, section 8.1). All of them have an even length.
fn checksum([source, destination, message]: &[&[u8]; 3]) -> u16 {
    let octets = source.iter().chain(*destination).chain(*message).copied().collect::<Vec<_>>();
    let words = octets.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let length = u32::try_from(message.len()).unwrap_or(0);
    let mut sum = words.sum::<u32>() + length + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// When the active router advertises. Times are durations since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advertiser {
    due: Option<Duration>,
    last: Option<Duration>,
    initial: u8,
}

impl Advertiser {
    /// It is active since `now`.
    pub const fn begin(&mut self, now: Duration) {
        *self = Self { due: Some(now), last: None, initial: INITIAL };
    }

    /// It is active no more.
    pub const fn end(&mut self) {
        self.due = None;
    }

    /// A host asks.
    pub fn solicited(&mut self, now: Duration) {
        let earliest = self.last.map_or(now, |last| now.max(last + BETWEEN));
        self.due = self.due.map(|due| due.min(earliest));
    }

    /// When the next one is due, if it is active.
    #[must_use]
    pub const fn due(&self) -> Option<Duration> {
        self.due
    }

    /// One was sent.
    pub fn sent(&mut self, now: Duration) {
        self.last = Some(now);
        self.initial = self.initial.saturating_sub(1);
        let next = if self.initial > 0 { INITIAL_INTERVAL } else { INTERVAL };
        self.due = self.due.map(|_| now + next);
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_says_the_groups_address_and_the_links_networks_with_a_good_checksum() {
        let address: Ipv6Addr = "fe80::5:73ff:fea0:1".parse().expect("an address");
        let mac = [0, 5, 0x73, 0xa0, 0, 1];
        let nets = ["2001:db8:1::2/64", "2001:db8:2::2/80"].map(|net| net.parse().expect("a network"));
        let frame = frame(address, mac, &nets, 1500);
        let packet = SlicedPacket::from_ethernet(&frame).expect("a packet");
        let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6") };
        let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("no ICMPv6") };
        let header = ip.header();
        assert_eq!((header.source_addr(), header.hop_limit()), (address, 255));
        assert_eq!(header.destination_addr().to_string(), "ff02::1");
        assert!(icmp.is_checksum_valid(header.source(), header.destination()));
        assert_eq!((icmp.type_u8(), icmp.code_u8()), (134, 0));
        let body = &icmp.slice()[4..];
        assert_eq!(body[..4], [64, 0, 0x07, 0x08], "hop limit, no flags, 1800 s");
        assert_eq!(body[12..28], [1, 1, 0, 5, 0x73, 0xa0, 0, 1, 5, 1, 0, 0, 0, 0, 5, 0xdc]);
        assert_eq!(body[28..32], [3, 4, 64, 0xc0]);
        assert_eq!(body[44..60], "2001:db8:1::".parse::<Ipv6Addr>().expect("an address").octets());
        assert_eq!(body[60..64], [3, 4, 80, 0x80], "hosts make no address of it");
        assert_eq!(body.len(), 92);
    }

    #[test]
    fn the_first_ones_follow_closely_and_a_host_that_asks_waits_three_seconds_at_most() {
        let mut advertiser = Advertiser::default();
        advertiser.solicited(s(1));
        assert_eq!(advertiser.due(), None, "not active");
        advertiser.begin(s(5));
        let mut times = Vec::new();
        for _ in 0..4 {
            let due = advertiser.due().expect("active");
            times.push(due.as_secs());
            advertiser.sent(due);
        }
        assert_eq!(times, [5, 21, 37, 237]);
        advertiser.solicited(s(238));
        assert_eq!(advertiser.due(), Some(s(240)), "the last one was a second ago");
        advertiser.solicited(s(239));
        assert_eq!(advertiser.due(), Some(s(240)));
        advertiser.sent(s(240));
        advertiser.solicited(s(300));
        assert_eq!(advertiser.due(), Some(s(300)), "at once");
        advertiser.end();
        advertiser.sent(s(300));
        assert_eq!(advertiser.due(), None);
    }
}
