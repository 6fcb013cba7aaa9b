//! Frames for the packet path's bench.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::PacketBuilder;

/// TTL that a frame comes in with: the largest, since the bench's runs count it down.
pub const TTL: u8 = 255;

/// A TCP segment without data.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// MAC address it comes from.
    pub src_mac: [u8; 6],
    /// MAC address it is for.
    pub dst_mac: [u8; 6],
    /// Address and port it comes from.
    pub src: (IpAddr, u16),
    /// Address and port it is for.
    pub dst: (IpAddr, u16),
    /// What the segment says.
    pub flag: Flag,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number, where the flag has one.
    pub acknowledged: u32,
}

/// A datagram of 18 octets to port `dst.1`, without a checksum: as long as the shortest Ethernet frame.
///
/// # Panics
/// Never: it has a valid length.
#[must_use]
pub fn datagram(dst_mac: [u8; 6], src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Vec<u8> {
    let udp = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], dst_mac)
        .ipv4(src.0.octets(), dst.0.octets(), TTL)
        .udp(src.1, dst.1);
    let mut frame = Vec::with_capacity(64);
    udp.write(&mut frame, &[0; 18]).expect("a vector takes everything");
    frame[40..42].fill(0);
    frame
}

/// What a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Opens.
    Syn,
    /// Opens the other direction.
    SynAck,
    /// Acknowledges.
    Ack,
}

impl Segment {
    /// The frame, with its checksums.
    ///
    /// # Panics
    /// If its addresses are of two families.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(self.src_mac, self.dst_mac);
        let ip = match (self.src.0, self.dst.0) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), TTL),
            (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), TTL),
            ends => panic!("of two families: {ends:?}"),
        };
        let tcp = ip.tcp(self.src.1, self.dst.1, self.sequence, 65_535);
        let tcp = match self.flag {
            Flag::Syn => tcp.syn(),
            Flag::SynAck => tcp.syn().ack(self.acknowledged),
            Flag::Ack => tcp.ack(self.acknowledged),
        };
        let mut frame = Vec::with_capacity(80);
        tcp.write(&mut frame, &[]).expect("a vector takes everything");
        frame
    }
}
