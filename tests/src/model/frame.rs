//! A frame as octets, read and changed by hand; every checksum is summed anew.

use std::net::Ipv4Addr;

use super::table::{Conn, FIN, RST, SYN};

/// Octets of the Ethernet header.
const L2: usize = 14;
/// Octets before the transport header.
const L4: usize = 34;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Vec<u8>);

/// What an IPv4 frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lengths or fields contradict each other.
    Malformed,
    /// Not in the model.
    LeftOut,
    /// A fragment that no honest sender makes.
    BadFragment,
    /// A fragment with others before it.
    Later,
    /// ICMP that is neither echo nor an error that is translated.
    OtherIcmp,
    /// An ICMP error: unreachable, time exceeded, parameter problem.
    Error,
    /// All headers are there.
    Transport(Transport),
}

/// The transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// As they stand in the header.
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
    },
    /// UDP.
    Udp,
    /// ICMP echo.
    Echo {
        /// Which.
        kind: Echo,
        /// Identifier.
        id: u16,
    },
    /// Of a protocol without ports.
    Other,
}

/// A question or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// Type 8.
    Request,
    /// Type 0.
    Reply,
}

impl Transport {
    /// Whether it may open a connection.
    #[must_use]
    pub const fn opens(self) -> bool {
        match self {
            Self::Tcp { flags, .. } => flags & SYN != 0 && flags & (FIN | RST | super::table::ACK) == 0,
            Self::Udp | Self::Other => true,
            Self::Echo { kind, .. } => matches!(kind, Echo::Request),
        }
    }
}

/// What an ARP frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Hardware, protocol and their lengths.
    pub header: [u8; 6],
    /// 1: request.
    pub operation: u16,
    /// Of the sender.
    pub sender_mac: [u8; 6],
    /// Of the sender.
    pub sender: Ipv4Addr,
    /// Who is asked for.
    pub target: Ipv4Addr,
}

impl Frame {
    /// These octets.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Octets.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: a frame has an Ethernet header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) << 16 | u32::from(self.u16(at + 2))
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    fn mac(&self, at: usize) -> [u8; 6] {
        self.0[at..at + 6].try_into().expect("six")
    }

    fn address(&self, at: usize) -> Ipv4Addr {
        Ipv4Addr::from(self.u32(at))
    }

    /// Type of the payload.
    #[must_use]
    pub fn ethertype(&self) -> u16 {
        self.u16(12)
    }

    /// Whom it is for.
    #[must_use]
    pub fn dst_mac(&self) -> [u8; 6] {
        self.mac(0)
    }

    /// Who sent it.
    #[must_use]
    pub fn src_mac(&self) -> [u8; 6] {
        self.mac(6)
    }

    /// IPv4 source.
    #[must_use]
    pub fn src(&self) -> Ipv4Addr {
        self.address(26)
    }

    /// IPv4 destination.
    #[must_use]
    pub fn dst(&self) -> Ipv4Addr {
        self.address(30)
    }

    /// IPv4 TTL.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.0[22]
    }

    /// Ports, for TCP and UDP.
    #[must_use]
    pub fn ports(&self) -> (u16, u16) {
        (self.u16(L4), self.u16(L4 + 2))
    }

    /// IP protocol.
    #[must_use]
    pub fn proto(&self) -> u8 {
        self.0[23]
    }

    /// What it is, after its Ethernet header says IPv4.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.len() < L4 {
            return Kind::Malformed;
        }
        let (version, words) = (self.0[14] >> 4, self.0[14] & 15);
        if version == 4 && words > 5 {
            return Kind::LeftOut;
        }
        let total = usize::from(self.u16(16));
        if (version, words) != (4, 5) || L2 + total > self.len() || self.src() == self.dst() {
            return Kind::Malformed;
        }
        if self.offset() != 0 {
            return Kind::Later;
        }
        let kind = match self.proto() {
            6 => self.tcp(total),
            17 => self.udp(total),
            1 => self.icmp(total),
            _ if total < 20 => Kind::Malformed,
            _ => Kind::Transport(Transport::Other),
        };
        let uneven = !self.payload().is_multiple_of(8);
        match kind {
            Kind::Error if self.has_more() => Kind::BadFragment,
            Kind::Transport(_) if self.has_more() && uneven => Kind::BadFragment,
            other => other,
        }
    }

    /// Octets behind the IP header, none if even that is longer.
    #[must_use]
    pub fn payload(&self) -> usize {
        usize::from(self.u16(16)).saturating_sub(20)
    }

    /// Whether more fragments follow.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.0[20] & 0x20 != 0
    }

    /// Octets of the datagram before this fragment.
    #[must_use]
    pub fn offset(&self) -> usize {
        usize::from(self.u16(20) & 0x1fff) * 8
    }

    fn tcp(&self, total: usize) -> Kind {
        if self.len() < L4 + 20 {
            return Kind::Malformed;
        }
        let header = usize::from(self.0[L4 + 12] >> 4) * 4;
        if header < 20 || 20 + header > total {
            return Kind::Malformed;
        }
        Kind::Transport(Transport::Tcp {
            flags: self.0[L4 + 13],
            seq: self.u32(L4 + 4),
            ack: self.u32(L4 + 8),
        })
    }

    fn udp(&self, total: usize) -> Kind {
        if self.len() < L4 + 8 {
            return Kind::Malformed;
        }
        let length = usize::from(self.u16(L4 + 4));
        // Of a datagram in pieces not all of it is here.
        let cut = 20 + length > total && !self.has_more();
        if length < 8 || total < 28 || cut { Kind::Malformed } else { Kind::Transport(Transport::Udp) }
    }

    fn icmp(&self, total: usize) -> Kind {
        if self.len() < L4 + 8 || total < 28 {
            return Kind::Malformed;
        }
        let id = self.u16(L4 + 4);
        match (self.0[L4], self.0[L4 + 1]) {
            (8, 0) => Kind::Transport(Transport::Echo { kind: Echo::Request, id }),
            (0, 0) => Kind::Transport(Transport::Echo { kind: Echo::Reply, id }),
            (3 | 11 | 12, _) => Kind::Error,
            _ => Kind::OtherIcmp,
        }
    }

    /// The ARP message, if the frame is long enough.
    #[must_use]
    pub fn arp(&self) -> Option<Arp> {
        (self.len() >= L2 + 28).then(|| Arp {
            header: self.mac(14),
            operation: self.u16(20),
            sender_mac: self.mac(22),
            sender: self.address(28),
            target: self.address(38),
        })
    }

    /// Makes it the answer.
    pub fn answer_arp(&mut self, asked: &Arp, mac: [u8; 6]) {
        self.send_to(asked.sender_mac, mac);
        self.put16(20, 2);
        self.0[22..28].copy_from_slice(&mac);
        self.0[28..32].copy_from_slice(&asked.target.octets());
        self.0[32..38].copy_from_slice(&asked.sender_mac);
        self.0[38..42].copy_from_slice(&asked.sender.octets());
    }

    /// Sets both MAC addresses.
    pub fn send_to(&mut self, dst: [u8; 6], src: [u8; 6]) {
        self.0[..6].copy_from_slice(&dst);
        self.0[6..12].copy_from_slice(&src);
    }

    /// Gives a later fragment new addresses; its transport header is elsewhere.
    pub fn readdress(&mut self, (src, dst): (Ipv4Addr, Ipv4Addr), ttl: u8) {
        let before = self.header_error();
        self.0[22] = ttl;
        self.0[26..30].copy_from_slice(&src.octets());
        self.0[30..34].copy_from_slice(&dst.octets());
        self.put16(24, 0);
        let found = self.header_error();
        self.put16(24, u16::try_from((before + 65_535 - found) % 65_535).expect("below 65,535"));
    }

    /// As [`Frame::errors`], of the IP header alone.
    fn header_error(&self) -> u64 {
        let words = self.0[L2..L4].chunks(2);
        words.map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1])).sum::<u64>() % 65_535
    }

    /// Makes an echo request its own answer.
    pub fn answer_echo(&mut self, mac: [u8; 6]) {
        let before = self.clone();
        self.send_to(before.mac(6), mac);
        self.0[26..30].copy_from_slice(&before.dst().octets());
        self.0[30..34].copy_from_slice(&before.src().octets());
        self.0[22] = 64;
        self.0[L4] = 0;
        self.carry_checksums(&before);
    }

    /// Rewrites addresses, ports and TTL for one direction of `conn`.
    pub fn translate(&mut self, conn: &Conn, forward: bool) {
        let before = self.clone();
        let (src, dst) =
            if forward { (conn.client(), conn.server) } else { (conn.virtual_server(), conn.client()) };
        self.0[22] -= 1;
        self.0[26..30].copy_from_slice(&src.0.octets());
        self.0[30..34].copy_from_slice(&dst.0.octets());
        if matches!(self.proto(), 6 | 17) {
            self.put16(L4, src.1);
            self.put16(L4 + 2, dst.1);
        }
        self.carry_checksums(&before);
    }

    /// Where the transport's checksum stands, and whether there is one.
    fn l4_checksum_at(&self) -> Option<usize> {
        match self.proto() {
            6 => Some(L4 + 16),
            17 => (self.u16(L4 + 6) != 0).then_some(L4 + 6),
            1 => Some(L4 + 2),
            _ => None,
        }
    }

    /// The sums that a receiver makes of header and of segment with its pseudo-header, modulo 65,535: 0 for a right checksum.
    fn errors(&self) -> (u64, u64) {
        let sum = |octets: &[u8]| -> u64 {
            octets
                .chunks(2)
                .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
                .sum()
        };
        let end = L2 + usize::from(self.u16(16));
        let length = end - L4;
        // Of a fragment the sum is of what is here: what counts is that it stays.
        let length =
            if self.proto() == 17 && !self.has_more() { usize::from(self.u16(L4 + 4)) } else { length };
        if !matches!(self.proto(), 1 | 6 | 17) {
            return (sum(&self.0[L2..L4]) % 65_535, 0);
        }
        let mut segment = sum(&self.0[L4..L4 + length]);
        if self.proto() != 1 {
            segment += sum(&self.0[26..34]) + u64::from(self.proto()) + length as u64;
        }
        (sum(&self.0[L2..L4]) % 65_535, segment % 65_535)
    }

    /// A right checksum becomes right, a wrong one stays wrong by as much (RFC 1624): found by trying, since only one value
    /// does, and of the two forms of zero the one that a sum over octets that are not all zero can give.
    fn carry_checksums(&mut self, before: &Self) {
        let (header, segment) = before.errors();
        self.put16(24, 0);
        let l4_at = before.l4_checksum_at();
        if let Some(at) = l4_at {
            self.put16(at, 0);
        }
        let missing = |wanted: u64, found: u64| {
            u16::try_from((wanted + 65_535 - found) % 65_535).expect("below 65,535")
        };
        let (found_header, found_segment) = self.errors();
        self.put16(24, missing(header, found_header));
        if let Some(at) = l4_at {
            let sum = missing(segment, found_segment);
            self.put16(at, if sum == 0 && self.proto() == 17 { 0xffff } else { sum });
        }
    }

    /// Whether `other` is the same frame but for the two forms of zero at these `places`.
    #[must_use]
    pub fn same_but_zeros(&self, other: &[u8], places: &[usize]) -> bool {
        let mut relaxed = self.clone();
        for &at in places.iter().filter(|at| **at + 2 <= other.len().min(self.len())) {
            let pair = [relaxed.u16(at), u16::from_be_bytes([other[at], other[at + 1]])];
            if matches!(pair, [0, 0xffff] | [0xffff, 0]) {
                relaxed.put16(at, pair[1]);
            }
        }
        relaxed.0 == other
    }

    /// Whether `other` is the same frame. A checksum of 0 and one of FFFF are the same to who sums, and after a wrong checksum
    /// an incremental update may give either; after a right one it may not, and UDP's 0 is another thing altogether.
    #[must_use]
    pub fn same(&self, other: &[u8], before: &Self) -> bool {
        if self.0 == other {
            return true;
        }
        if self.len() != other.len() || self.len() < L4 || self.ethertype() != 0x0800 {
            return false;
        }
        let (header, segment) = before.errors();
        let mut relaxed = self.clone();
        let mut either = |at: usize, wrong: bool| {
            let pair = [relaxed.u16(at), u16::from_be_bytes([other[at], other[at + 1]])];
            if wrong && matches!(pair, [0, 0xffff] | [0xffff, 0]) {
                relaxed.put16(at, pair[1]);
            }
        };
        either(24, header != 0);
        if let Some(at) = before.l4_checksum_at()
            && self.proto() != 17
        {
            either(at, segment != 0);
        }
        relaxed.0 == other
    }
}
