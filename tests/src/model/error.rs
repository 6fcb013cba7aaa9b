//! ICMP errors: whose packet one quotes, and the error as that packet's sender must see it (RFC 5508).

use std::net::Ipv4Addr;

use csm_common::counter::Reason;

use super::frame::Frame;
use super::table::{Conn, Key};

/// Where the quoted packet begins: behind Ethernet, IPv4 and ICMP.
const QUOTE: usize = 14 + 20 + 8;

/// What an error says of the packet that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Key of that packet's answers.
    pub key: Key,
    /// Where its transport header begins.
    transport: usize,
    /// Where the quote ends.
    end: usize,
}

impl Quote {
    /// Reads it.
    ///
    /// # Errors
    /// With the error's end, where nothing is quoted that could be known.
    pub fn of(frame: &Frame, vlan: u16) -> Result<Self, Reason> {
        let bytes = frame.bytes();
        if frame.ttl() <= 1 {
            return Err(Reason::DropTtl);
        }
        let quote = bytes.get(QUOTE..QUOTE + 20).ok_or(Reason::DropMalformed)?;
        let end = 14 + usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        let transport = QUOTE + usize::from(quote[0] & 15) * 4;
        if quote[0] >> 4 != 4 || quote[0] & 15 < 5 || end < transport + 8 {
            return Err(Reason::DropMalformed);
        }
        if u16::from_be_bytes([quote[6], quote[7]]) & 0x1fff != 0 {
            return Err(Reason::DropIcmp);
        }
        let two = |at: usize| u16::from_be_bytes([bytes[transport + at], bytes[transport + at + 1]]);
        let proto = quote[9];
        let (sport, dport) = match proto {
            1 if !matches!(bytes[transport], 0 | 8) => return Err(Reason::DropIcmp),
            1 => (two(4), two(4)),
            6 | 17 => (two(0), two(2)),
            _ => (0, 0),
        };
        let address = |at: usize| Ipv4Addr::new(quote[at], quote[at + 1], quote[at + 2], quote[at + 3]);
        let key = Key { src: address(16), dst: address(12), sport: dport, dport: sport, vlan, proto };
        // It goes to who sent what it quotes.
        if frame.dst() != key.dst { Err(Reason::DropIcmp) } else { Ok(Self { key, transport, end }) }
    }

    /// The error for the sender of the quoted packet: what that one called both ends, inside and outside. Also the places
    /// of its checksums.
    #[must_use]
    pub fn translate(&self, before: &Frame, conn: &Conn, forward: bool) -> (Frame, Vec<usize>) {
        let (src, dst) =
            if forward { (conn.client(), conn.server) } else { (conn.virtual_server(), conn.client()) };
        let mut bytes = before.bytes().to_vec();
        let put =
            |bytes: &mut Vec<u8>, at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(&mut bytes, QUOTE + 12, &dst.0.octets());
        put(&mut bytes, QUOTE + 16, &src.0.octets());
        let ported = matches!(self.key.proto, 6 | 17);
        if ported {
            put(&mut bytes, self.transport, &dst.1.to_be_bytes());
            put(&mut bytes, self.transport + 2, &src.1.to_be_bytes());
        }
        let mut places = Vec::new();
        let mut sums = Carried { before: before.bytes(), bytes: &mut bytes };
        sums.carry(QUOTE + 10, &[(QUOTE, self.transport)]);
        places.push(QUOTE + 10);
        let quoted = match self.key.proto {
            17 => Some(self.transport + 6).filter(|at| before.bytes()[*at..at + 2] != [0, 0]),
            6 => Some(self.transport + 16).filter(|at| at + 2 <= self.end),
            _ => None,
        };
        if let Some(at) = quoted {
            // What else it covers has not changed, and need not be there.
            sums.carry(at, &[(QUOTE + 12, QUOTE + 20), (self.transport, self.transport + 4), (at, at + 2)]);
            places.push(at);
        }
        sums.carry(36, &[(34, self.end)]);
        if before.src() == self.key.src {
            put(sums.bytes, 26, &src.0.octets());
        }
        put(sums.bytes, 30, &dst.0.octets());
        sums.bytes[22] -= 1;
        sums.carry(24, &[(14, 34)]);
        places.extend([24, 36]);
        (Frame::of(&bytes), places)
    }
}

/// A frame that is changed, and what it was.
struct Carried<'a> {
    before: &'a [u8],
    bytes: &'a mut Vec<u8>,
}

impl Carried<'_> {
    /// Gives the checksum at `at` the value with which the sum over `ranges`, its own place among them, is what it was.
    fn carry(&mut self, at: usize, ranges: &[(usize, usize)]) {
        let sum = |bytes: &[u8]| -> u64 {
            let words = ranges.iter().flat_map(|&(from, to)| bytes[from..to].chunks(2));
            words
                .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
                .sum::<u64>()
                % 65_535
        };
        let wanted = sum(self.before);
        self.bytes[at..at + 2].fill(0);
        let missing = (wanted + 65_535 - sum(self.bytes)) % 65_535;
        let missing = u16::try_from(missing).expect("below 65,535");
        self.bytes[at..at + 2].copy_from_slice(&missing.to_be_bytes());
    }
}
