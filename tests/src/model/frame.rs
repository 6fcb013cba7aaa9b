//! A frame as octets, its headers read by hand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use csm_common::counter::Reason;

use super::table::{FIN, RST, SYN};

/// Octets of the Ethernet header.
pub const L2: usize = 14;
/// An IPv6 transport header stands before this place.
const LAST_PLACE: usize = 256;

/// A frame without a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(pub Vec<u8>);

/// The network header, with all that stands between it and the transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Octets of the packet.
    pub total: usize,
    /// What follows.
    pub proto: u8,
    /// Where that stands in the frame.
    pub l4: usize,
    /// Octets of the datagram before this fragment.
    pub offset: usize,
    /// More fragments follow.
    pub more: bool,
    /// The datagram's identification.
    pub id: u32,
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
    /// An ICMP error that is translated.
    Error,
    /// Of a protocol without ports.
    Other,
}

/// A question or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// Asks.
    Request,
    /// Answers.
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
            Self::Error => false,
        }
    }
}

impl Head {
    /// Octets behind the headers, none if even those are longer.
    #[must_use]
    pub const fn payload(&self) -> usize {
        (L2 + self.total).saturating_sub(self.l4)
    }

    /// Of IPv6.
    #[must_use]
    pub const fn is_v6(&self) -> bool {
        self.src.is_ipv6()
    }

    /// Number of this family's ICMP.
    #[must_use]
    pub const fn icmp(&self) -> u8 {
        if self.is_v6() { 58 } else { 1 }
    }
}

/// What stands behind an IPv6 header.
struct Behind {
    l4: usize,
    proto: u8,
    offset: usize,
    more: bool,
    id: u32,
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

    /// Two octets as a number.
    #[must_use]
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// Four octets as a number.
    #[must_use]
    pub fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) << 16 | u32::from(self.u16(at + 2))
    }

    /// Writes a number.
    pub fn put16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_be_bytes());
    }

    /// Writes octets.
    pub fn put(&mut self, at: usize, octets: &[u8]) {
        self.0[at..at + octets.len()].copy_from_slice(octets);
    }

    /// A MAC address.
    #[must_use]
    pub fn mac(&self, at: usize) -> [u8; 6] {
        self.0[at..at + 6].try_into().expect("six")
    }

    /// Whether so many octets stand at `at`.
    #[must_use]
    pub fn reaches(&self, at: usize, octets: usize) -> bool {
        self.0.len() >= at + octets
    }

    /// An address of either family.
    #[must_use]
    pub fn address(&self, at: usize, v6: bool) -> IpAddr {
        if v6 {
            Ipv6Addr::from(<[u8; 16]>::try_from(&self.0[at..at + 16]).expect("sixteen")).into()
        } else {
            Ipv4Addr::from(self.u32(at)).into()
        }
    }

    /// Type of the payload.
    #[must_use]
    pub fn ethertype(&self) -> u16 {
        self.u16(12)
    }

    /// Sets both MAC addresses.
    pub fn send_to(&mut self, dst: [u8; 6], src: [u8; 6]) {
        self.put(0, &dst);
        self.put(6, &src);
    }

    /// The network header of an IP frame.
    ///
    /// # Errors
    /// With the frame's end, if it is not good or prescribes its route.
    pub fn head(&self) -> Result<Head, Reason> {
        let head = if self.ethertype() == 0x86dd { self.head6()? } else { self.head4()? };
        Ok(head)
    }

    fn head4(&self) -> Result<Head, Reason> {
        if !self.reaches(L2, 20) {
            return Err(Reason::DropMalformed);
        }
        let (version, octets) = (self.0[14] >> 4, usize::from(self.0[14] & 15) * 4);
        if version != 4 || octets < 20 || !self.reaches(L2, octets) {
            return Err(Reason::DropMalformed);
        }
        options(&self.0[L2 + 20..L2 + octets])?;
        let head = Head {
            src: self.address(26, false),
            dst: self.address(30, false),
            ttl: self.0[22],
            total: usize::from(self.u16(16)),
            proto: self.0[23],
            l4: L2 + octets,
            offset: usize::from(self.u16(20) & 0x1fff) * 8,
            more: self.0[20] & 0x20 != 0,
            id: u32::from(self.u16(18)),
        };
        if L2 + head.total > self.0.len() || head.src == head.dst {
            return Err(Reason::DropMalformed);
        }
        Ok(head)
    }

    fn head6(&self) -> Result<Head, Reason> {
        if !self.reaches(L2, 40) || self.0[14] >> 4 != 6 {
            return Err(Reason::DropMalformed);
        }
        let (src, dst) = (self.address(22, true), self.address(38, true));
        let total = 40 + usize::from(self.u16(18));
        if L2 + total > self.0.len() || src == dst {
            return Err(Reason::DropMalformed);
        }
        let Behind { l4, proto, offset, more, id } = self.behind(54, self.0[20])?;
        if L2 + total < l4 {
            return Err(Reason::DropMalformed);
        }
        Ok(Head { src, dst, ttl: self.0[21], total, proto, l4, offset, more, id })
    }

    /// Goes through up to six extension headers from `at` on.
    fn behind(&self, mut at: usize, mut next: u8) -> Result<Behind, Reason> {
        let is_extension = |next: u8| matches!(next, 0 | 43 | 44 | 60);
        let mut found = Behind { l4: at, proto: next, offset: 0, more: false, id: 0 };
        let mut count = 0;
        while is_extension(next) {
            count += 1;
            if count > 6 || !self.reaches(at, 8) || (next == 0 && count > 1) {
                return Err(Reason::DropMalformed);
            }
            let (following, length) = (self.0[at], usize::from(self.0[at + 1]));
            // A route that is still to be taken, or one of type 0.
            if next == 43 && (self.0[at + 2] == 0 || self.0[at + 3] != 0) {
                return Err(Reason::DropSourceRoute);
            }
            let fragment = next == 44;
            if fragment {
                let word = self.u16(at + 2);
                (found.offset, found.more) = (usize::from(word & 0xfff8), word & 1 == 1);
                found.id = self.u32(at + 4);
            }
            at += if fragment { 8 } else { (length + 1) * 8 };
            if at >= LAST_PLACE {
                return Err(Reason::DropMalformed);
            }
            next = following;
            if fragment && (found.offset != 0 || found.more) {
                if is_extension(next) {
                    return Err(Reason::DropFragment);
                }
                break;
            }
        }
        (found.l4, found.proto) = (at, next);
        Ok(found)
    }

    /// The header of a packet that an error quotes at `at`; its total length says nothing, as it may be cut.
    ///
    /// # Errors
    /// With the error's end.
    pub fn quoted(&self, at: usize, v6: bool) -> Result<Head, Reason> {
        let malformed = Err(Reason::DropMalformed);
        if !self.reaches(at, if v6 { 40 } else { 20 }) {
            return malformed;
        }
        if !v6 {
            let octets = usize::from(self.0[at] & 15) * 4;
            if self.0[at] >> 4 != 4 || octets < 20 {
                return malformed;
            }
            return Ok(Head {
                src: self.address(at + 12, false),
                dst: self.address(at + 16, false),
                ttl: self.0[at + 8],
                total: 0,
                proto: self.0[at + 9],
                l4: at + octets,
                offset: usize::from(self.u16(at + 6) & 0x1fff) * 8,
                more: false,
                id: 0,
            });
        }
        if self.0[at] >> 4 != 6 {
            return malformed;
        }
        let Ok(Behind { l4, proto, offset, more, id }) = self.behind(at + 40, self.0[at + 6]) else {
            return malformed;
        };
        let (src, dst) = (self.address(at + 8, true), self.address(at + 24, true));
        Ok(Head { src, dst, ttl: self.0[at + 7], total: 0, proto, l4, offset, more, id })
    }

    /// The transport header of a packet that is no later fragment.
    ///
    /// # Errors
    /// With the frame's end.
    pub fn transport(&self, head: &Head) -> Result<Transport, Reason> {
        let found = match head.proto {
            6 => self.tcp(head)?,
            17 => self.udp(head)?,
            proto if proto == head.icmp() => self.icmp(head)?,
            _ if L2 + head.total < head.l4 => return Err(Reason::DropMalformed),
            _ => Transport::Other,
        };
        let uneven = !head.payload().is_multiple_of(8);
        if head.more && (found == Transport::Error || uneven) { Err(Reason::DropFragment) } else { Ok(found) }
    }

    fn tcp(&self, head: &Head) -> Result<Transport, Reason> {
        let l4 = head.l4;
        if !self.reaches(l4, 20) {
            return Err(Reason::DropMalformed);
        }
        let header = usize::from(self.0[l4 + 12] >> 4) * 4;
        if header < 20 || header > head.payload() {
            return Err(Reason::DropMalformed);
        }
        Ok(Transport::Tcp { flags: self.0[l4 + 13], seq: self.u32(l4 + 4), ack: self.u32(l4 + 8) })
    }

    fn udp(&self, head: &Head) -> Result<Transport, Reason> {
        if !self.reaches(head.l4, 8) || head.payload() < 8 {
            return Err(Reason::DropMalformed);
        }
        let length = usize::from(self.u16(head.l4 + 4));
        // Of a datagram in pieces not all of it is here.
        let cut = length > head.payload() && !head.more;
        if length < 8 || cut { Err(Reason::DropMalformed) } else { Ok(Transport::Udp) }
    }

    fn icmp(&self, head: &Head) -> Result<Transport, Reason> {
        if !self.reaches(head.l4, 8) || head.payload() < 8 {
            return Err(Reason::DropMalformed);
        }
        let id = self.u16(head.l4 + 4);
        match (head.is_v6(), self.0[head.l4], self.0[head.l4 + 1]) {
            (false, 8, 0) | (true, 128, 0) => Ok(Transport::Echo { kind: Echo::Request, id }),
            (false, 0, 0) | (true, 129, 0) => Ok(Transport::Echo { kind: Echo::Reply, id }),
            (false, 3 | 11 | 12, _) | (true, 1..=4, _) => Ok(Transport::Error),
            _ => Err(Reason::DropProtocol),
        }
    }

    /// Ports, where there are any; an echo's identifier is both.
    #[must_use]
    pub fn ports(&self, head: &Head) -> (u16, u16) {
        match head.proto {
            6 | 17 => (self.u16(head.l4), self.u16(head.l4 + 2)),
            proto if proto == head.icmp() => (self.u16(head.l4 + 4), self.u16(head.l4 + 4)),
            _ => (0, 0),
        }
    }
}

/// Looks through IPv4 options.
fn options(mut octets: &[u8]) -> Result<(), Reason> {
    while let [kind, rest @ ..] = octets {
        match kind {
            0 => break,
            131 | 137 => return Err(Reason::DropSourceRoute),
            1 => octets = rest,
            _ => {
                let length = usize::from(rest.first().copied().unwrap_or(0));
                if length < 2 || length > octets.len() {
                    return Err(Reason::DropMalformed);
                }
                octets = &octets[length..];
            }
        }
    }
    Ok(())
}
