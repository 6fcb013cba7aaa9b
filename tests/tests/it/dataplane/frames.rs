//! Frames for the fixtures.

use std::net::{Ipv4Addr, SocketAddrV4};

use csm_common::counter::Reason;
use csm_tests::rig::{FAR_CLIENT, Host, REALS, Rig, Run, Side, VIP, VIRTUAL_MAC};
use etherparse::PacketBuilder;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// The client's port in most fixtures.
pub(super) const CLIENT_PORT: u16 = 40_000;
/// Initial sequence numbers.
pub(super) const CLIENT_ISN: u32 = 1_000;
pub(super) const SERVER_ISN: u32 = u32::MAX;

/// What stands behind the IPv4 header.
#[derive(Clone, Debug)]
pub(super) enum L4 {
    Tcp {
        flags: u8,
        seq: u32,
        ack: u32,
    },
    Udp,
    UdpWithoutChecksum,
    EchoRequest {
        id: u16,
    },
    EchoReply {
        id: u16,
    },
    /// Another IP protocol.
    Other {
        proto: u8,
    },
}

/// A frame, by its meaning.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) src_mac: [u8; 6],
    pub(super) dst_mac: [u8; 6],
    pub(super) src: SocketAddrV4,
    pub(super) dst: SocketAddrV4,
    pub(super) ttl: u8,
    pub(super) l4: L4,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// From `host` to the balancer.
    pub(super) fn from(host: &Host, port: u16, dst: (Ipv4Addr, u16), l4: L4) -> Self {
        Self {
            src_mac: host.mac,
            dst_mac: VIRTUAL_MAC,
            src: SocketAddrV4::new(host.ip, port),
            dst: SocketAddrV4::new(dst.0, dst.1),
            ttl: 64,
            l4,
            payload: Vec::new(),
        }
    }

    /// The far client's TCP segment to port 80 of the virtual server.
    pub(super) fn client(flags: u8, seq: u32, ack: u32) -> Self {
        Self::from(&FAR_CLIENT, CLIENT_PORT, (VIP, 80), L4::Tcp { flags, seq, ack })
    }

    /// The first real's TCP segment to the far client.
    pub(super) fn server(flags: u8, seq: u32, ack: u32) -> Self {
        Self::from(&REALS[0], 80, (FAR_CLIENT.ip, CLIENT_PORT), L4::Tcp { flags, seq, ack })
    }

    pub(super) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The same packet as the program should send it to `host`, routed once.
    pub(super) fn routed_to(mut self, host: &Host) -> Self {
        self.src_mac = VIRTUAL_MAC;
        self.dst_mac = host.mac;
        self.ttl -= 1;
        self
    }

    /// As [`Self::routed_to`] with another destination.
    pub(super) fn sent_to(mut self, host: &Host, port: u16) -> Self {
        self.dst = SocketAddrV4::new(host.ip, port);
        self.routed_to(host)
    }

    /// As [`Self::routed_to`] with another source.
    pub(super) fn answered_as(mut self, ip: Ipv4Addr, port: u16, to: &Host) -> Self {
        self.src = SocketAddrV4::new(ip, port);
        self.routed_to(to)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let ip = PacketBuilder::ethernet2(self.src_mac, self.dst_mac).ipv4(
            self.src.ip().octets(),
            self.dst.ip().octets(),
            self.ttl,
        );
        let (sport, dport) = (self.src.port(), self.dst.port());
        let mut bytes = Vec::new();
        let written = match self.l4 {
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
                tcp.write(&mut bytes, &self.payload)
            }
            L4::Udp | L4::UdpWithoutChecksum => ip.udp(sport, dport).write(&mut bytes, &self.payload),
            L4::EchoRequest { id } => ip.icmpv4_echo_request(id, 1).write(&mut bytes, &self.payload),
            L4::Other { proto } => ip.write(&mut bytes, etherparse::IpNumber(proto), &self.payload),
            L4::EchoReply { id } => ip.icmpv4_echo_reply(id, 1).write(&mut bytes, &self.payload),
        };
        written.expect("a buildable frame");
        if matches!(self.l4, L4::UdpWithoutChecksum) {
            bytes[40..42].fill(0);
        }
        bytes
    }
}

type PacketBuilderTcp = etherparse::PacketBuilderStep<etherparse::TcpHeader>;

/// Runs `frame` and asserts reason and frame out.
#[track_caller]
pub(super) fn expect(rig: &mut Rig, side: Side, frame: &Frame, reason: Reason, out: &Frame) {
    assert_eq!(rig.run(side, &frame.bytes()), Run { reason, frame: out.bytes() }, "{frame:?}");
}

/// Runs `frame` and asserts that it ends for `reason`, unchanged.
#[track_caller]
pub(super) fn expect_end(rig: &mut Rig, side: Side, frame: &Frame, reason: Reason) {
    expect(rig, side, frame, reason, frame);
}

/// Opens the far client's connection to the first real, handshake and all.
#[track_caller]
pub(super) fn handshake(rig: &mut Rig) {
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[0], 80));
    let syn_ack = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    expect(
        rig,
        Side::Server,
        &syn_ack,
        Reason::ForwardedFlow,
        &syn_ack.clone().answered_as(VIP, 80, &FAR_CLIENT),
    );
    let ack = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    expect(rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().sent_to(&REALS[0], 80));
}
