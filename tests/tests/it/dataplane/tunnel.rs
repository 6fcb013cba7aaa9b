//! Reals that are routed away: what goes to them leaves inside of other packets.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use aya::maps::{Array, MapData};
use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::event::EVENT_NARROW;
use csm_common::names;
use csm_common::net::{NEXTHOP_TUNNEL, Tunnel, tunnel_overhead};
use csm_common::service::{VSERVER_DISPATCH, VSERVER_INSERVICE, VSERVER_UNIDIRECTIONAL};
use csm_tests::rig::{ALIAS, FAR_CLIENT, GATEWAY, REALS, Rig, Side, VIP, VIRTUAL_MAC, WEB, be};
use csm_tests::rig6;
use etherparse::{IpNumber, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, FIN, Frame, L4, SYN, expect_end};
use super::icmp_send::error;
use super::trunk::tagged;

pub(super) const GUE: u16 = 6080;
const MTU: u16 = 1500;
/// Where the first real is, behind a router of the server side: the second one.
const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const REMOTE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);

/// The server side's router on the way to the real.
const ROUTER: csm_tests::rig::Host = REALS[1];

/// A rig whose web server's first real is behind a tunnel to `port` (0: IP in IP).
fn rig(port: u16) -> Rig {
    tunnelled(Rig::new().expect("the rig"), port)
}

pub(super) fn tunnelled(rig: Rig, port: u16) -> Rig {
    let mut tunnels: Array<MapData, Tunnel> = rig.map(names::TUNNELS);
    let tunnel = Tunnel { local_be: be(ALIAS), remote_be: be(REMOTE), port_be: port.to_be(), pad: 0 };
    tunnels.set(5, tunnel, 0).expect("TUNNELS");
    rig.next_hop(0, |hop| {
        hop.dst_mac = ROUTER.mac;
        hop.ip_be = be(ROUTER.ip);
        hop.flags |= NEXTHOP_TUNNEL;
        hop.tunnel = 5;
        hop.mtu = MTU - tunnel_overhead(20, port);
    });
    rig.vserver(WEB, |vserver| vserver.flags = VSERVER_INSERVICE | VSERVER_DISPATCH | VSERVER_UNIDIRECTIONAL);
    rig.ring(WEB, &[0]);
    rig
}

/// What is inside of `frame`, which must be a good packet of the pair's to the real by way of the router.
#[track_caller]
pub(super) fn unwrapped(frame: &[u8], port: u16) -> Vec<u8> {
    assert_eq!((&frame[..6], &frame[6..12]), (&ROUTER.mac[..], &VIRTUAL_MAC[..]));
    let packet = SlicedPacket::from_ethernet(frame).expect("a packet");
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("IPv4") };
    let header = ip.header();
    assert_eq!((header.source_addr(), header.destination_addr()), (ALIAS, REMOTE));
    assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
    if port == 0 {
        assert_eq!(header.protocol(), IpNumber::IPV4);
        return ip.payload().payload.to_vec();
    }
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("UDP") };
    assert!(udp.destination_port() == port && udp.source_port() >= 0xc000 && udp.checksum() == 0);
    udp.payload().to_vec()
}

/// The IP packet of `frame` as it is sent on, whoever's MAC addresses it has.
pub(super) fn packet(frame: &Frame) -> Vec<u8> {
    frame.clone().routed_to(&ROUTER).bytes()[14..].to_vec()
}

fn tcp(flags: u8, seq: u32, ack: u32) -> L4 {
    L4::Tcp { flags, seq, ack }
}

#[test]
fn a_connection_goes_inside_of_others_and_only_its_hop_limit_changes() {
    for port in [0, GUE, 7777] {
        let mut rig = rig(port);
        for (frame, reason) in [
            (Frame::client(SYN, CLIENT_ISN, 0), Reason::ForwardedNew),
            (Frame::client(ACK, CLIENT_ISN + 1, 7), Reason::ForwardedFlow),
            (Frame::client(ACK, CLIENT_ISN + 1, 900).payload(b"get"), Reason::ForwardedFlow),
            (Frame::client(FIN | ACK, CLIENT_ISN + 4, 901), Reason::ForwardedFlow),
        ] {
            let run = rig.run(Side::Client, &frame.bytes());
            assert_eq!(run.reason, reason);
            assert_eq!(unwrapped(&run.frame, port), packet(&frame), "by {port}");
        }
        assert_eq!(rig.flows(names::FLOWS).len(), 2, "proven though no answer came by");
        // One that does come by goes on to the client.
        let answer = Frame::from(&REALS[0], 80, (FAR_CLIENT.ip, CLIENT_PORT), tcp(ACK, 7, CLIENT_ISN + 4));
        let answer = Frame { src: SocketAddrV4::new(VIP, 80), ..answer };
        let run = rig.run(Side::Server, &answer.bytes());
        assert_eq!((run.reason, run.frame), (Reason::ForwardedFlow, answer.routed_to(&GATEWAY).bytes()));
    }
}

/// Takes the tag of the server VLAN off.
#[track_caller]
pub(super) fn untagged(mut frame: Vec<u8>) -> Vec<u8> {
    assert_eq!(frame[12..16], [0x81, 0, 0, 3]);
    frame.drain(12..16);
    frame
}

#[test]
fn on_a_trunk_all_of_a_connection_goes_inside_of_others() {
    let mut rig = tunnelled(Rig::on_trunk().expect("the rig"), GUE);
    for (flags, seq) in [(SYN, 0), (ACK, 1), (ACK, 1), (FIN | ACK, 1)] {
        let frame = Frame::client(flags, CLIENT_ISN + seq, 7);
        let out = rig.run(Side::Client, &tagged(&frame.bytes(), 2)).frame;
        assert_eq!(unwrapped(&untagged(out), GUE), packet(&frame), "flags {flags:#x}");
    }
    assert_eq!(rig.flows(names::FLOWS).len(), 2, "it was proven");
}

#[test]
fn it_leaves_with_a_tag_where_the_vlan_has_one() {
    let mut rig = rig(0);
    rig.next_hop(0, |hop| hop.flags |= csm_common::net::NEXTHOP_TAGGED);
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    let out = rig.run(Side::Client, &syn.bytes()).frame;
    assert_eq!(unwrapped(&untagged(out), 0), packet(&syn));
}

/// An IPv4 frame of so many octets with "do not fragment", as etherparse builds it.
fn long(octets: usize) -> Frame {
    let headers = 20 + 20;
    Frame::client(SYN, CLIENT_ISN, 0).payload(&vec![7; octets - headers])
}

#[test]
fn what_does_not_fit_inside_is_answered_with_the_size_that_does() {
    for port in [0, GUE] {
        let mut rig = rig(port);
        let fits = usize::from(MTU - tunnel_overhead(20, port));
        let run = rig.run(Side::Client, &long(fits).bytes());
        assert_eq!((run.reason, run.frame.len()), (Reason::ForwardedNew, 14 + usize::from(MTU)));
        let mut rig = self::rig(port);
        let run = rig.run(Side::Client, &long(fits + 1).bytes());
        assert_eq!(run.reason, Reason::TooBig);
        assert_eq!(run.frame[40..42], u16::try_from(fits).unwrap().to_be_bytes(), "next-hop MTU");
    }
}

#[test]
fn a_router_on_the_way_that_takes_less_is_heard() {
    for port in [0, GUE] {
        let mut rig = rig(port);
        let outer = rig.run(Side::Client, &long(800).bytes()).frame;
        let told = error([0; 6], REALS[2].ip, (3, 4, [0, 0, 0x03, 0xe8]), &outer[14..]);
        let mut told = told;
        told[..6].copy_from_slice(&VIRTUAL_MAC);
        told[6..12].copy_from_slice(&ROUTER.mac);
        let _ = rig.events();
        assert_eq!(rig.run(Side::Server, &told).reason, Reason::DropNarrow);
        let events = rig.events();
        let [event] = events[..] else { panic!("one event, not {events:?}") };
        assert_eq!(
            (event.kind, event.ip_be, event.mac),
            (EVENT_NARROW, be(REMOTE), [0, 0, 0, 0, 0x03, 0xe8])
        );
        // Another error about it says nothing that could be used.
        told[35] = 1;
        assert_eq!(rig.run(Side::Server, &told).reason, Reason::DropIcmp);
    }
}

#[test]
fn a_tunnel_whose_router_is_silent_carries_nothing() {
    let mut rig = rig(0);
    rig.next_hop(0, |hop| hop.flags = NEXTHOP_TUNNEL);
    expect_end(&mut rig, Side::Client, &Frame::client(SYN, CLIENT_ISN, 0), Reason::DropUnresolved);
}

/// A rig whose web server of IPv6 has one real, behind a tunnel to `port`.
pub(super) fn tunnelled6(rig: Rig, port: u16) -> Rig {
    let mut tunnels: Array<MapData, Tunnel<V6>> = rig.map(names::TUNNELS6);
    let tunnel =
        Tunnel { local_be: rig6::ALIAS6.into(), remote_be: REMOTE6.into(), port_be: port.to_be(), pad: 0 };
    tunnels.set(5, tunnel, 0).expect("TUNNELS6");
    rig6::next_hop(&rig, rig6::FIRST6, |hop| {
        hop.flags |= NEXTHOP_TUNNEL;
        hop.tunnel = 5;
        hop.mtu = MTU - tunnel_overhead(40, port);
    });
    rig6::vserver(&rig, rig6::WEB6, |vserver| {
        vserver.flags = VSERVER_INSERVICE | VSERVER_DISPATCH | VSERVER_UNIDIRECTIONAL;
        vserver.ring_len = 1;
    });
    rig
}

/// A segment of the far client's: its first one, or one that goes on.
fn segment6(first: bool, hop_limit: u8) -> Vec<u8> {
    let seq = CLIENT_ISN + u32::from(!first);
    let tcp = PacketBuilder::ethernet2(rig6::FAR6.mac, VIRTUAL_MAC)
        .ipv6(rig6::FAR6.ip.octets(), rig6::VIP6.octets(), hop_limit)
        .tcp(CLIENT_PORT, 80, seq, 65_000);
    let mut bytes = Vec::new();
    if first { tcp.syn() } else { tcp.ack(7) }.write(&mut bytes, b"early").expect("a frame");
    bytes
}

/// As [`unwrapped`], of IPv6.
#[track_caller]
pub(super) fn unwrapped6(frame: &[u8], port: u16) -> Vec<u8> {
    assert_eq!(frame[..6], rig6::REALS6[0].mac, "the real's own MAC stands for the router's");
    let packet = SlicedPacket::from_ethernet(frame).expect("a packet");
    let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("IPv6") };
    let header = ip.header();
    assert_eq!((header.source_addr(), header.destination_addr()), (rig6::ALIAS6, REMOTE6));
    match &packet.transport {
        Some(TransportSlice::Udp(udp)) if port != 0 && udp.destination_port() == port => udp.payload(),
        None if port == 0 && header.next_header() == IpNumber::IPV6 => ip.payload().payload,
        other => panic!("{other:?} by {port}"),
    }
    .to_vec()
}

#[test]
fn packets_of_ipv6_go_inside_of_others_of_ipv6() {
    for port in [0, GUE] {
        // One after the other: a rig's ports are gone once the thread is in the next one's namespace.
        for tag in [false, true] {
            let bench = if tag { rig6::on_trunk() } else { rig6::rig() };
            let mut rig = tunnelled6(bench.expect("the rig"), port);
            for (first, reason) in
                [(true, Reason::ForwardedNew), (false, Reason::ForwardedFlow), (false, Reason::ForwardedFlow)]
            {
                let frame = segment6(first, 64);
                let run = rig.run(Side::Client, &if tag { tagged(&frame, 2) } else { frame });
                let out = if tag { untagged(run.frame) } else { run.frame };
                assert_eq!((run.reason, &unwrapped6(&out, port)[..]), (reason, &segment6(first, 63)[14..]));
            }
            assert_eq!(rig6::flows(&rig, names::FLOWS6).len(), 2, "it was proven");
        }
    }
}
