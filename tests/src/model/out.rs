//! Frames that leave: translated, answered, put into others.

use std::collections::HashMap;
use std::net::IpAddr;

use super::frame::{Frame, Head, L2};
use super::scene::Tunnel;
use super::sums::{Change, checksum};

/// An address and port.
pub type Name = (IpAddr, u16);

/// A frame that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// Without a tag.
    pub frame: Frame,
    /// Places of checksums where 0 and FFFF are the same.
    pub either: Vec<usize>,
    /// Where a GUE source port stands, and of what source: any of the upper quarter, the same for the same one.
    pub free_port: Option<(usize, IpAddr)>,
}

/// Octets of an address.
#[must_use]
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

impl Out {
    /// As it is.
    #[must_use]
    pub const fn of(frame: Frame) -> Self {
        Self { frame, either: Vec::new(), free_port: None }
    }

    fn changed(change: Change<'_>) -> Self {
        Self { either: change.either, ..Self::of(change.after) }
    }

    /// With other addresses and ports, a TTL of `ttl`, and the checksums that follow.
    #[must_use]
    pub fn translated(frame: &Frame, head: &Head, (src, dst): (Name, Name), ttl: u8) -> Self {
        let mut change = Change::of(frame);
        readdress(&mut change.after, head, (src.0, dst.0), ttl);
        if matches!(head.proto, 6 | 17) {
            change.after.put16(head.l4, src.1);
            change.after.put16(head.l4 + 2, dst.1);
        }
        change.carry_header(L2, head.is_v6());
        change.carry_transport(head);
        Self::changed(change)
    }

    /// The same with another differentiated services code point in its header, where there is one to write.
    #[must_use]
    pub fn marked(mut self, dscp: Option<u8>, v6: bool) -> Self {
        let Some(dscp) = dscp else { return self };
        let before = self.frame.clone();
        let mut change = Change::of(&before);
        let header = &mut change.after.0[L2..L2 + 2];
        if v6 {
            // Four bits of it are in each octet.
            let ecn = header[1] >> 4 & 3;
            let class = dscp << 2 | ecn;
            header[0] = header[0] & 0xf0 | class >> 4;
            header[1] = class << 4 | header[1] & 0x0f;
        } else {
            header[1] = dscp << 2 | header[1] & 3;
        }
        change.carry_header(L2, v6);
        self.either.append(&mut change.either);
        Self { frame: change.after, ..self }
    }

    /// A later fragment with other addresses: its transport header is elsewhere.
    #[must_use]
    pub fn followed(frame: &Frame, head: &Head, addresses: (IpAddr, IpAddr), ttl: u8) -> Self {
        let mut change = Change::of(frame);
        readdress(&mut change.after, head, addresses, ttl);
        change.carry_header(L2, head.is_v6());
        if !head.is_v6() {
            change.either.push(24);
        }
        Self::changed(change)
    }

    /// The answer to an echo request.
    #[must_use]
    pub fn echoed(frame: &Frame, head: &Head) -> Self {
        let mut change = Change::of(frame);
        readdress(&mut change.after, head, (head.dst, head.src), 64);
        change.after.0[head.l4] = if head.is_v6() { 129 } else { 0 };
        change.carry_header(L2, head.is_v6());
        change.carry_transport(head);
        Self::changed(change)
    }

    /// The reset that answers a segment, made of that very segment.
    #[must_use]
    pub fn reset(frame: &Frame, head: &Head) -> Self {
        let (sport, dport) = frame.ports(head);
        let ends = [dport.to_be_bytes(), sport.to_be_bytes()].concat();
        let seq = frame.u32(head.l4 + 8).to_be_bytes();
        let mut tcp = [&ends[..], &seq, &[0; 4], &[0x50, 4, 0, 0, 0, 0, 0, 0]].concat();
        let addresses = [octets(head.dst), octets(head.src)].concat();
        let sum = checksum(&[&addresses[..], &[0, 6, 0, 20], &tcp].concat());
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut header = if head.is_v6() { vec6(20, 6, 64) } else { vec4(20, 6, 0) };
        header.extend(addresses);
        if !head.is_v6() {
            right4(&mut header);
        }
        Self::of(Frame([&frame.0[..L2], &header, &tcp].concat()))
    }

    /// An error of this node's own about the frame, to its sender.
    #[must_use]
    pub fn error(frame: &Frame, head: &Head, from: IpAddr, (kind, code): (u8, u8), mtu: u16) -> Self {
        let quote = &frame.0[L2..head.l4 + 8];
        let mut icmp = vec![kind, code, 0, 0, 0, 0];
        icmp.extend(mtu.to_be_bytes());
        icmp.extend(quote);
        let length = u16::try_from(icmp.len()).expect("short");
        let (from, to) = (octets(from), octets(head.src));
        let mut header = if head.is_v6() {
            let pseudo =
                [&from[..], &to[..], &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 58], &icmp[..]].concat();
            let sum = checksum(&pseudo);
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            vec6(length, 58, 64)
        } else {
            let sum = checksum(&icmp);
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            vec4(length, 1, 0xc0)
        };
        header.extend(&from);
        header.extend(&to);
        if !head.is_v6() {
            right4(&mut header);
        }
        Self::of(Frame([&frame.0[..L2], &header, &icmp].concat()))
    }

    /// Puts it into another packet.
    #[must_use]
    pub fn wrapped(self, tunnel: &Tunnel) -> Self {
        let inner = &self.frame;
        let v6 = tunnel.remote.is_ipv6();
        let length = if v6 { inner.u16(18).wrapping_add(40) } else { inner.u16(16) };
        let udp = if tunnel.port == 0 {
            Vec::new()
        } else {
            let length = length.wrapping_add(8).to_be_bytes();
            [&[0, 0], &tunnel.port.to_be_bytes()[..], &length[..], &[0, 0]].concat()
        };
        let proto = match (udp.is_empty(), v6) {
            (false, _) => 17,
            (true, false) => 4,
            (true, true) => 41,
        };
        let length = length.wrapping_add(u16::try_from(udp.len()).expect("0 or 8"));
        let mut header = if v6 { vec6(length, proto, 64) } else { vec4(length, proto, 0) };
        header.extend(octets(tunnel.local));
        header.extend(octets(tunnel.remote));
        if !v6 {
            right4(&mut header);
        }
        let by = header.len() + udp.len();
        let kind = if v6 { [0x86, 0xdd] } else { [8, 0] };
        let source = inner.address(if v6 { 22 } else { 26 }, v6);
        let free_port = (!udp.is_empty()).then_some((L2 + header.len(), source));
        let bytes = [&inner.0[..12], &kind[..], &header, &udp, &inner.0[L2..]].concat();
        Self { frame: Frame(bytes), free_port, ..self.moved(by) }
    }

    /// With a tag of that VLAN.
    #[must_use]
    pub fn tagged(self, vlan: u16) -> Self {
        let tag = [&[0x81, 0], &vlan.to_be_bytes()[..]].concat();
        let bytes = [&self.frame.0[..12], &tag, &self.frame.0[12..]].concat();
        Self { frame: Frame(bytes), ..self.moved(4) }
    }

    fn moved(&self, by: usize) -> Self {
        Self {
            frame: Frame(Vec::new()),
            either: self.either.iter().map(|at| at + by).collect(),
            free_port: self.free_port.map(|(at, source)| (at + by, source)),
        }
    }

    /// Whether `seen` is this frame, but for what it leaves open. `ports` holds the GUE ports that were seen before.
    pub fn is(&self, seen: &[u8], ports: &mut HashMap<IpAddr, u16>) -> bool {
        let mut relaxed = self.frame.clone();
        if relaxed.0.len() != seen.len() {
            return false;
        }
        let pair = |at: usize| u16::from_be_bytes([seen[at], seen[at + 1]]);
        for &at in &self.either {
            if matches!([relaxed.u16(at), pair(at)], [0, 0xffff] | [0xffff, 0]) {
                relaxed.put16(at, pair(at));
            }
        }
        if let Some((at, source)) = self.free_port {
            if pair(at) < 0xc000 || *ports.entry(source).or_insert(pair(at)) != pair(at) {
                return false;
            }
            relaxed.put16(at, pair(at));
        }
        relaxed.0 == seen
    }
}

/// Writes addresses and TTL.
pub fn readdress(frame: &mut Frame, head: &Head, (src, dst): (IpAddr, IpAddr), ttl: u8) {
    let (ttl_at, at) = if head.is_v6() { (21, 22) } else { (22, 26) };
    frame.0[ttl_at] = ttl;
    frame.put(at, &[octets(src), octets(dst)].concat());
}

/// An IPv4 header up to its addresses: "do not fragment", no identification, a TTL of 64.
fn vec4(payload: u16, proto: u8, tos: u8) -> Vec<u8> {
    let [high, low] = payload.wrapping_add(20).to_be_bytes();
    vec![0x45, tos, high, low, 0, 0, 0x40, 0, 64, proto, 0, 0]
}

/// Gives an IPv4 header its checksum.
fn right4(header: &mut [u8]) {
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// An IPv6 header up to its addresses.
fn vec6(payload: u16, next: u8, hops: u8) -> Vec<u8> {
    let [high, low] = payload.to_be_bytes();
    vec![0x60, 0, 0, 0, high, low, next, hops]
}
