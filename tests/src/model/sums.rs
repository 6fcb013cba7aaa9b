//! Checksums, summed anew. One that was right stays right and a wrong one stays wrong by as much (RFC 1624), so the receiver
//! finds it: of all values only one does that, but for the two forms of zero.

use super::frame::{Frame, Head, L2};

/// A frame in the making: what it was, and where a checksum may stand as 0 or as FFFF.
pub struct Change<'a> {
    before: &'a Frame,
    /// What it becomes.
    pub after: Frame,
    /// Places of checksums of which either form of zero will do: of wrong ones, and of cut quotes.
    pub either: Vec<usize>,
}

/// Sum of the words of these ranges, modulo 65,535; an odd octet is the higher half of a word.
fn sum(bytes: &[u8], ranges: &[(usize, usize)]) -> u64 {
    let words = ranges.iter().flat_map(|&(from, to)| bytes[from..to].chunks(2));
    words.map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0))).sum::<u64>()
        % 65_535
}

impl<'a> Change<'a> {
    /// Nothing has changed yet.
    #[must_use]
    pub fn of(before: &'a Frame) -> Self {
        Self { before, after: before.clone(), either: Vec::new() }
    }

    /// Gives the checksum at `at` the value with which the sum over `ranges`, its own place among them, is what it was.
    pub fn carry(&mut self, at: usize, ranges: &[(usize, usize)]) -> u16 {
        let wanted = sum(&self.before.0, ranges);
        self.after.put16(at, 0);
        let missing = (wanted + 65_535 - sum(&self.after.0, ranges)) % 65_535;
        let missing = u16::try_from(missing).expect("below 65,535");
        self.after.put16(at, missing);
        missing
    }

    /// The same of the IPv4 header at `at`, if it is one.
    pub fn carry_header(&mut self, at: usize, v6: bool) {
        if v6 {
            return;
        }
        let octets = usize::from(self.before.0[at] & 15) * 4;
        self.carry(at + 10, &[(at, at + octets)]);
        if sum(&self.before.0, &[(at, at + octets)]) != 0 {
            self.either.push(at + 10);
        }
    }

    /// The same of the transport header of the whole packet.
    pub fn carry_transport(&mut self, head: &Head) {
        let end = L2 + head.total;
        let l4 = head.l4;
        let (place, pseudo) = match head.proto {
            6 => (16, true),
            17 if self.before.u16(l4 + 6) != 0 => (6, true),
            1 if !head.is_v6() => (2, false),
            58 if head.is_v6() => (2, true),
            _ => return,
        };
        // Of a fragment the sum is of what is here: what counts is that it stays.
        let end =
            if head.proto == 17 && !head.more { l4 + usize::from(self.before.u16(l4 + 4)) } else { end };
        let addresses = if head.is_v6() { (22, 54) } else { (26, 34) };
        let ranges: &[(usize, usize)] = if pseudo { &[addresses, (l4, end)] } else { &[(l4, end)] };
        let missing = self.carry(l4 + place, ranges);
        if head.proto == 17 {
            // 0 would say that there is none.
            return self.after.put16(l4 + place, if missing == 0 { 0xffff } else { missing });
        }
        let header = if pseudo { (end - l4) as u64 + u64::from(head.proto) } else { 0 };
        if !(sum(&self.before.0, ranges) + header).is_multiple_of(65_535) {
            self.either.push(l4 + place);
        }
    }
}

/// A right checksum over `octets`, of which its own two are 0.
#[must_use]
pub fn checksum(octets: &[u8]) -> u16 {
    let mut total: u64 = octets
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).expect("16 bits")
}
