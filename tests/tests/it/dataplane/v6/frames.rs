//! Frames of IPv6.

use std::net::{Ipv6Addr, SocketAddrV6};

use csm_common::counter::Reason;
use csm_tests::rig::{Rig, Run, Side, VIRTUAL_MAC};
use csm_tests::rig6::{FAR6, Host6, REALS6, VIP6};
use etherparse::{Icmpv6Type, PacketBuilder};

use crate::dataplane::frames::{ACK, CLIENT_ISN, CLIENT_PORT, FIN, L4, PSH, RST, SERVER_ISN, SYN};

/// A frame, by its meaning.
#[derive(Clone, Debug)]
pub(super) struct Frame6 {
    pub(super) src_mac: [u8; 6],
    pub(super) dst_mac: [u8; 6],
    pub(super) src: SocketAddrV6,
    pub(super) dst: SocketAddrV6,
    pub(super) hop_limit: u8,
    pub(super) l4: L4,
    pub(super) payload: Vec<u8>,
    /// Extension headers, the first one's type and all of them; the last one's next header is filled in.
    pub(super) extensions: Option<(u8, Vec<u8>)>,
}

/// Address and port.
pub(super) const fn at(ip: Ipv6Addr, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(ip, port, 0, 0)
}

impl Frame6 {
    /// From `host` to the balancer.
    pub(super) fn from(host: &Host6, port: u16, dst: (Ipv6Addr, u16), l4: L4) -> Self {
        Self {
            src_mac: host.mac,
            dst_mac: VIRTUAL_MAC,
            src: at(host.ip, port),
            dst: at(dst.0, dst.1),
            hop_limit: 64,
            l4,
            payload: Vec::new(),
            extensions: None,
        }
    }

    /// The far client's TCP segment to port 80 of the virtual server.
    pub(super) fn client(flags: u8, seq: u32, ack: u32) -> Self {
        Self::from(&FAR6, CLIENT_PORT, (VIP6, 80), L4::Tcp { flags, seq, ack })
    }

    /// The first real's TCP segment to the far client.
    pub(super) fn server(flags: u8, seq: u32, ack: u32) -> Self {
        Self::from(&REALS6[0], 80, (FAR6.ip, CLIENT_PORT), L4::Tcp { flags, seq, ack })
    }

    pub(super) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The same packet as the program should send it to `host`, routed once.
    pub(super) fn routed_to(mut self, host: &Host6) -> Self {
        self.src_mac = VIRTUAL_MAC;
        self.dst_mac = host.mac;
        self.hop_limit -= 1;
        self
    }

    /// As [`Self::routed_to`] with another destination.
    pub(super) fn sent_to(mut self, host: &Host6, port: u16) -> Self {
        self.dst = at(host.ip, port);
        self.routed_to(host)
    }

    /// As [`Self::routed_to`] with another source.
    pub(super) fn answered_as(mut self, ip: Ipv6Addr, port: u16, to: &Host6) -> Self {
        self.src = at(ip, port);
        self.routed_to(to)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let (src, dst) = (self.src.ip().octets(), self.dst.ip().octets());
        let ip = PacketBuilder::ethernet2(self.src_mac, self.dst_mac).ipv6(src, dst, self.hop_limit);
        let (sport, dport) = (self.src.port(), self.dst.port());
        let mut bytes = Vec::new();
        let (proto, written) = match self.l4 {
            L4::Tcp { flags, seq, ack } => {
                let mut tcp = ip.tcp(sport, dport, seq, 65_000);
                for (bit, set) in [
                    (FIN, PacketBuilderTcp::fin as fn(_) -> _),
                    (SYN, PacketBuilderTcp::syn),
                    (RST, PacketBuilderTcp::rst),
                    (PSH, PacketBuilderTcp::psh),
                ] {
                    if flags & bit != 0 {
                        tcp = set(tcp);
                    }
                }
                if flags & ACK != 0 {
                    tcp = tcp.ack(ack);
                }
                (6, tcp.write(&mut bytes, &self.payload))
            }
            L4::Udp | L4::UdpWithoutChecksum => (17, ip.udp(sport, dport).write(&mut bytes, &self.payload)),
            L4::EchoRequest { id } => (58, ip.icmpv6_echo_request(id, 1).write(&mut bytes, &self.payload)),
            L4::EchoReply { id } => (58, ip.icmpv6_echo_reply(id, 1).write(&mut bytes, &self.payload)),
            L4::Other { proto } => (proto, ip.write(&mut bytes, etherparse::IpNumber(proto), &self.payload)),
        };
        written.expect("a buildable frame");
        if let Some((kind, extensions)) = &self.extensions {
            // None of them is in any checksum.
            bytes[20] = *kind;
            let length =
                u16::from_be_bytes([bytes[18], bytes[19]]) + u16::try_from(extensions.len()).unwrap();
            bytes[18..20].copy_from_slice(&length.to_be_bytes());
            bytes.splice(54..54, extensions.iter().copied());
            bytes[last_extension(*kind, extensions)] = proto;
        }
        bytes
    }
}

/// Place in the frame of the last extension header's next header.
fn last_extension(first: u8, extensions: &[u8]) -> usize {
    let (mut at, mut kind) = (0, first);
    loop {
        let octets = if kind == 44 { 8 } else { (usize::from(extensions[at + 1]) + 1) * 8 };
        if at + octets >= extensions.len() {
            return 54 + at;
        }
        kind = extensions[at];
        at += octets;
    }
}

/// An ICMPv6 message behind its headers.
pub(super) fn icmp(
    from: &Host6,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    hop_limit: u8,
    kind: Icmpv6Type,
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(from.mac, VIRTUAL_MAC)
        .ipv6(src.octets(), dst.octets(), hop_limit)
        .icmpv6(kind)
        .write(&mut bytes, body)
        .expect("a buildable frame");
    bytes
}

type PacketBuilderTcp = etherparse::PacketBuilderStep<etherparse::TcpHeader>;

/// Runs `frame` and asserts reason and frame out.
#[track_caller]
pub(super) fn expect(rig: &mut Rig, side: Side, frame: &Frame6, reason: Reason, out: &Frame6) {
    assert_eq!(rig.run(side, &frame.bytes()), Run { reason, frame: out.bytes() }, "{frame:?}");
}

/// Runs `frame` and asserts that it ends for `reason`, unchanged.
#[track_caller]
pub(super) fn expect_end(rig: &mut Rig, side: Side, frame: &Frame6, reason: Reason) {
    expect(rig, side, frame, reason, frame);
}

/// Opens the far client's connection to the first real, handshake and all.
#[track_caller]
pub(super) fn handshake(rig: &mut Rig) {
    let syn = Frame6::client(SYN, CLIENT_ISN, 0);
    expect(rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS6[0], 80));
    let syn_ack = Frame6::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    let answer = syn_ack.clone().answered_as(VIP6, 80, &FAR6);
    expect(rig, Side::Server, &syn_ack, Reason::ForwardedFlow, &answer);
    let ack = Frame6::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    expect(rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().sent_to(&REALS6[0], 80));
}
