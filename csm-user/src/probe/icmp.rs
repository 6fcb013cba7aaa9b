//! ICMP echo (RFC 792, RFC 4443): the request's bytes, and what a received packet means. Pure.
//!
//! ```text
//!  0               1               2               3
//! +---------------+---------------+-------------------------------+
//! | type 8, 128   | code 0        | checksum                      |
//! +---------------+---------------+-------------------------------+
//! | identifier                    | sequence number               |
//! +-------------------------------+-------------------------------+
//! | token, 8 bytes: distinguishes this node's checks from others' |
//! +---------------------------------------------------------------+
//! ```

use super::health::{FailReason, Verdict};

/// Length of a request.
pub const REQUEST_LEN: usize = 16;

const HEADER_LEN: usize = 8;
const PROTOCOL: u8 = 1;
const PROTOCOL6: u8 = 58;

/// Types of messages.
struct Types {
    echo: u8,
    reply: u8,
    unreachable: u8,
}

const V4: Types = Types { echo: 8, reply: 0, unreachable: 3 };
const V6: Types = Types { echo: 128, reply: 129, unreachable: 1 };

/// One echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Identifier. A ping socket puts its own in its place, and gives back only answers that bear it.
    pub id: u16,
    /// Sequence number.
    pub seq: u16,
    /// Must come back unchanged.
    pub token: u64,
}

/// What the socket puts before the ICMP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Raw socket: the IPv4 header; every ICMP packet of the host arrives.
    Ipv4Header,
    /// Ping socket: nothing; only answers to this socket arrive.
    None,
    /// Raw socket for ICMPv6: nothing (RFC 3542, section 3); every ICMPv6 packet of the host arrives.
    Ipv6,
    /// Ping socket for ICMPv6: nothing; only answers to this socket arrive.
    Ipv6Ping,
}

impl Framing {
    const fn types(self) -> Types {
        match self {
            Self::Ipv4Header | Self::None => V4,
            Self::Ipv6 | Self::Ipv6Ping => V6,
        }
    }

    /// Whether the socket has put its own identifier in.
    const fn is_ping(self) -> bool {
        matches!(self, Self::None | Self::Ipv6Ping)
    }
}

impl Echo {
    /// The request. The checksum of ICMPv6 covers the packet's addresses: the kernel fills it in.
    #[must_use]
    pub fn request(&self, framing: Framing) -> [u8; REQUEST_LEN] {
        let mut bytes = [0; REQUEST_LEN];
        bytes[0] = framing.types().echo;
        bytes[4..6].copy_from_slice(&self.id.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.seq.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.token.to_be_bytes());
        if matches!(framing, Framing::Ipv4Header | Framing::None) {
            let checksum = checksum(&bytes);
            bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }

    /// What a packet received from the server says about this request; `None`: it is about something else.
    #[must_use]
    pub fn verdict(&self, packet: &[u8], framing: Framing) -> Option<Verdict> {
        let icmp = match framing {
            Framing::Ipv4Header => ipv4_payload(packet)?,
            Framing::None | Framing::Ipv6 | Framing::Ipv6Ping => packet,
        };
        if icmp.len() < HEADER_LEN {
            return None;
        }
        let Types { echo, reply, unreachable } = framing.types();
        if icmp[0] == reply {
            let mine = self.is_mine(icmp, framing) && icmp.get(8..16) == Some(&self.token.to_be_bytes());
            return mine.then_some(Verdict::Pass);
        }
        if icmp[0] != unreachable {
            return None;
        }
        // The offending packet's IP header and at least its first 64 bits follow (RFC 792, RFC 4443 section 3.1).
        let inner = match framing {
            Framing::Ipv4Header | Framing::None => ipv4_payload(&icmp[HEADER_LEN..])?,
            Framing::Ipv6 | Framing::Ipv6Ping => ipv6_payload(&icmp[HEADER_LEN..])?,
        };
        let quoted = inner.len() >= HEADER_LEN && inner[0] == echo && self.is_mine(inner, framing);
        quoted.then_some(Verdict::Fail(FailReason::Unreachable))
    }

    fn is_mine(&self, icmp: &[u8], framing: Framing) -> bool {
        let id_fits = framing.is_ping() || icmp[4..6] == self.id.to_be_bytes();
        id_fits && icmp[6..8] == self.seq.to_be_bytes()
    }
}

/// What an IPv4 packet carries, if it is ICMP.
fn ipv4_payload(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header_len = usize::from(first & 0x0f) * 4;
    let icmp = first >> 4 == 4 && header_len >= 20 && *packet.get(9)? == PROTOCOL;
    if icmp { packet.get(header_len..) } else { None }
}

/// What an IPv6 packet carries, if it is ICMPv6: a request of this node has no extension headers.
fn ipv6_payload(packet: &[u8]) -> Option<&[u8]> {
    let icmp = packet.first()? >> 4 == 6 && *packet.get(6)? == PROTOCOL6;
    if icmp { packet.get(40..) } else { None }
}

/// RFC 1071 checksum of a message whose checksum field is zero.
fn checksum(bytes: &[u8; REQUEST_LEN]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    #[allow(clippy::cast_possible_truncation, reason = "folded twice: sums of eight words fit 16 bits")]
    let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
    !folded
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv4Slice, Icmpv4Type, PacketBuilder};
    use proptest::prelude::*;

    use super::*;

    const ECHO_7: Echo = Echo { id: 0x1234, seq: 7, token: 0x0102_0304_0506_0708 };
    const FROM: [u8; 4] = [192, 158, 39, 101];
    const TO: [u8; 4] = [192, 158, 39, 10];

    fn reply(id: u16, seq: u16, token: u64) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(FROM, TO, 64)
            .icmpv4_echo_reply(id, seq)
            .write(&mut packet, &token.to_be_bytes())
            .expect("a packet");
        packet
    }

    #[test]
    fn a_request_is_a_valid_echo() {
        let bytes = ECHO_7.request(Framing::Ipv4Header);
        let slice = Icmpv4Slice::from_slice(&bytes).expect("an ICMP message");
        assert!(
            matches!(slice.icmp_type(), Icmpv4Type::EchoRequest(echo) if echo.id == 0x1234 && echo.seq == 7)
        );
        let header = slice.header();
        assert_eq!(header.icmp_type.calc_checksum(slice.payload()), header.checksum);
    }

    #[test]
    fn only_its_own_reply_passes() {
        let verdict = |packet: &[u8]| ECHO_7.verdict(packet, Framing::Ipv4Header);
        assert_eq!(verdict(&reply(0x1234, 7, ECHO_7.token)), Some(Verdict::Pass));
        assert_eq!(verdict(&reply(0x1235, 7, ECHO_7.token)), None);
        assert_eq!(verdict(&reply(0x1234, 6, ECHO_7.token)), None);
        assert_eq!(verdict(&reply(0x1234, 7, 0)), None);
        // A ping socket drops the IP header and has put its own identifier in.
        let bare = &reply(0x9999, 7, ECHO_7.token)[20..];
        assert_eq!(ECHO_7.verdict(bare, Framing::None), Some(Verdict::Pass));
    }

    #[test]
    fn its_own_request_heard_on_the_loopback_is_no_answer() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(TO, TO, 64)
            .icmpv4_echo_request(ECHO_7.id, ECHO_7.seq)
            .write(&mut packet, &ECHO_7.token.to_be_bytes())
            .expect("a packet");
        assert_eq!(ECHO_7.verdict(&packet, Framing::Ipv4Header), None);
    }

    #[test]
    fn an_unreachable_that_quotes_the_request_fails_the_check() {
        let unreachable = |echo: Echo| {
            let mut quoted = Vec::new();
            PacketBuilder::ipv4(TO, FROM, 64)
                .icmpv4_echo_request(echo.id, echo.seq)
                .write(&mut quoted, &echo.token.to_be_bytes())
                .expect("a packet");
            let mut packet = Vec::new();
            PacketBuilder::ipv4([192, 158, 39, 1], TO, 64)
                .icmpv4_raw(3, 1, [0; 4])
                .write(&mut packet, &quoted)
                .expect("a packet");
            packet
        };
        let failed = Some(Verdict::Fail(FailReason::Unreachable));
        assert_eq!(ECHO_7.verdict(&unreachable(ECHO_7), Framing::Ipv4Header), failed);
        let other = Echo { id: 1, ..ECHO_7 };
        assert_eq!(ECHO_7.verdict(&unreachable(other), Framing::Ipv4Header), None);
    }

    #[test]
    fn in_ipv6_its_own_reply_passes_and_an_unreachable_that_quotes_it_fails() {
        let (from, to) = ([0xfd; 16], [0xfe; 16]);
        let written = |builder: etherparse::PacketBuilderStep<etherparse::Icmpv6Header>, payload: &[u8]| {
            let mut packet = Vec::new();
            builder.write(&mut packet, payload).expect("a packet");
            packet
        };
        let token = ECHO_7.token.to_be_bytes();
        let reply = |id| written(PacketBuilder::ipv6(from, to, 64).icmpv6_echo_reply(id, 7), &token);
        let verdict = |packet: &[u8], framing| ECHO_7.verdict(packet, framing);
        assert_eq!(verdict(&reply(0x1234)[40..], Framing::Ipv6), Some(Verdict::Pass));
        assert_eq!(verdict(&reply(0x9999)[40..], Framing::Ipv6), None);
        assert_eq!(verdict(&reply(0x9999)[40..], Framing::Ipv6Ping), Some(Verdict::Pass));
        let mut request = written(PacketBuilder::ipv6(to, from, 64).icmpv6_echo_request(0x1234, 7), &token);
        assert_eq!(ECHO_7.request(Framing::Ipv6)[4..], request[44..]);
        let raw = |quoted: &[u8]| written(PacketBuilder::ipv6(from, to, 64).icmpv6_raw(1, 3, [0; 4]), quoted);
        let failed = Some(Verdict::Fail(FailReason::Unreachable));
        assert_eq!(verdict(&raw(&request)[40..], Framing::Ipv6), failed);
        request[44] ^= 1;
        assert_eq!(verdict(&raw(&request)[40..], Framing::Ipv6), None);
    }

    proptest! {
        #[test]
        fn no_packet_panics_or_passes_by_chance(packet in prop::collection::vec(any::<u8>(), 0..96)) {
            for framing in [Framing::Ipv4Header, Framing::None, Framing::Ipv6, Framing::Ipv6Ping] {
                prop_assert_ne!(ECHO_7.verdict(&packet, framing), Some(Verdict::Pass));
            }
        }
    }
}
