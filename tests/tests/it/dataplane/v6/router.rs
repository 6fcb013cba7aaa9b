//! The host as a router of IPv6, and CSM at once.

use std::net::Ipv6Addr;

use csm_common::counter::Reason;
use csm_common::gate::GateState;
use csm_tests::rig::{Rig, Run, Side, VIRTUAL_MAC};
use csm_tests::rig_router::OUTSIDE_PORT;
use csm_tests::rig_router6::{
    self, INNER6, INNER6_MAC, OUTER6, OUTER6_IP, OUTER6_MAC, OUTER6_OWN, OUTSIDER6,
};
use csm_tests::rig6::{GATEWAY6, NEAR6, REALS6, VIP6};
use etherparse::SlicedPacket;

use super::frames::{Frame6, at, expect};
use super::neighbour::{answer_from, asks};
use crate::dataplane::frames::{ACK, CLIENT_ISN, L4, SERVER_ISN, SYN};

/// A packet of the client on the router's port.
fn from_outside(dst: (Ipv6Addr, u16), l4: L4) -> Frame6 {
    Frame6 { dst_mac: OUTER6_MAC, ..Frame6::from(&OUTSIDER6, 40_000, dst, l4) }
}

/// The packet as the router sends it on to the client.
fn to_outside(mut frame: Frame6, hops: u8) -> Frame6 {
    (frame.src_mac, frame.dst_mac) = (OUTER6_MAC, OUTSIDER6.mac);
    frame.hop_limit -= hops;
    frame
}

#[track_caller]
fn outside(rig: &mut Rig, frame: &Frame6, reason: Reason, out: &Frame6) {
    assert_eq!(rig.run_outside(&frame.bytes()), Run { reason, frame: out.bytes() }, "{frame:?}");
}

#[test]
fn a_client_reaches_a_virtual_server_through_the_router_on_the_same_host() {
    let mut rig = rig_router6::routing().expect("the rig");
    let tcp = |flags, seq, ack| L4::Tcp { flags, seq, ack };
    // The router takes one from the hop limit, the module another.
    let twice = |mut frame: Frame6| {
        frame.hop_limit -= 1;
        frame.sent_to(&REALS6[0], 80)
    };
    let syn = from_outside((VIP6, 80), tcp(SYN, CLIENT_ISN, 0));
    outside(&mut rig, &syn, Reason::ForwardedNew, &twice(syn.clone()));
    let syn_ack =
        Frame6::from(&REALS6[0], 80, (OUTSIDER6.ip, 40_000), tcp(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1));
    let answered = syn_ack.clone().answered_as(VIP6, 80, &OUTSIDER6);
    expect(&mut rig, Side::Server, &syn_ack, Reason::RoutedHost, &to_outside(answered, 1));
    let ack = from_outside((VIP6, 80), tcp(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)));
    outside(&mut rig, &ack, Reason::ForwardedFlow, &twice(ack.clone()));
    // Another router has the inner group: the answer goes there.
    rig.group(INNER6, GateState::Closed);
    let data = Frame6::from(&REALS6[0], 80, (OUTSIDER6.ip, 40_000), tcp(ACK, 0, CLIENT_ISN + 1));
    let mut away = data.clone().answered_as(VIP6, 80, &GATEWAY6);
    away.dst_mac = INNER6_MAC;
    expect(&mut rig, Side::Server, &data, Reason::ForwardedFlow, &away);
}

#[test]
fn only_the_active_router_of_a_group_takes_and_answers_for_it() {
    let mut rig = rig_router6::routing().expect("the rig");
    let asked = asks(&OUTSIDER6, OUTER6_IP);
    let wanted = Run { reason: Reason::ArpReplied, frame: answer_from(OUTER6_MAC, &OUTSIDER6, OUTER6_IP) };
    assert_eq!(rig.run_outside(&asked), wanted);
    let inner = asks(&NEAR6, GATEWAY6.ip);
    let wanted = Run { reason: Reason::ArpReplied, frame: answer_from(INNER6_MAC, &NEAR6, GATEWAY6.ip) };
    assert_eq!(rig.run(Side::Client, &inner), wanted);
    // The module on the same port goes on to answer for its own.
    let module = rig.run(Side::Client, &asks(&NEAR6, VIP6));
    assert_eq!(module, Run { reason: Reason::ArpReplied, frame: answer_from(VIRTUAL_MAC, &NEAR6, VIP6) });
    let ping = from_outside((OUTER6_IP, 0), L4::EchoRequest { id: 7 }).payload(b"0123");
    let pong = Frame6 {
        src_mac: OUTER6_MAC,
        dst_mac: OUTSIDER6.mac,
        src: ping.dst,
        dst: at(OUTSIDER6.ip, 0),
        l4: L4::EchoReply { id: 7 },
        ..ping.clone()
    };
    outside(&mut rig, &ping, Reason::EchoReplied, &pong);
    // Each group for itself.
    rig.group(OUTER6, GateState::Closed);
    assert_eq!(rig.run_outside(&asked).reason, Reason::DropGroupStandby);
    for frame in [ping, from_outside((NEAR6.ip, 1), L4::Udp)] {
        outside(&mut rig, &frame, Reason::DropGroupStandby, &frame);
    }
    assert_eq!(rig.run(Side::Client, &inner).reason, Reason::ArpReplied);
}

#[test]
fn what_is_not_the_modules_is_routed_both_ways_and_what_is_of_the_link_is_not() {
    let mut rig = rig_router6::routing().expect("the rig");
    let there = from_outside((NEAR6.ip, 9), L4::Udp).payload(b"there");
    let mut out = there.clone();
    (out.src_mac, out.dst_mac, out.hop_limit) = (INNER6_MAC, NEAR6.mac, 63);
    outside(&mut rig, &there, Reason::RoutedHost, &out);
    let back = Frame6 { dst_mac: INNER6_MAC, ..Frame6::from(&NEAR6, 9, (OUTSIDER6.ip, 40_000), L4::Udp) };
    expect(&mut rig, Side::Client, &back, Reason::RoutedHost, &to_outside(back.clone(), 1));
    // Without the outer group the port's own MAC is the source.
    rig.group(OUTER6, GateState::Closed);
    let own = Frame6 { src_mac: rig.ports()[OUTSIDE_PORT].mac, ..to_outside(back.clone(), 1) };
    expect(&mut rig, Side::Client, &back, Reason::RoutedHost, &own);
    rig.group(OUTER6, GateState::Open);
    // From an address of the link, and to one that is no group's.
    let of_link = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
    let from_link = Frame6 { src: at(of_link, 40_000), ..there.clone() };
    let to_link = from_outside((of_link, 9), L4::Udp);
    let nowhere = from_outside((Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1), 9), L4::Udp);
    for frame in [from_link, to_link, nowhere] {
        outside(&mut rig, &frame, Reason::DropNoRoute, &frame);
    }
    // To the router itself: the kernel's, which knows the port's own MAC.
    let own = from_outside((OUTER6_OWN, 22), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    let mac = rig.ports()[OUTSIDE_PORT].mac;
    outside(&mut rig, &own, Reason::PassHost, &Frame6 { dst_mac: mac, ..own.clone() });
}

#[test]
fn errors_come_from_the_routers_own_address_and_the_groups_mac() {
    let mut rig = rig_router6::routing().expect("the rig");
    let late = Frame6 { hop_limit: 1, ..from_outside((NEAR6.ip, 9), L4::Udp).payload(&[7; 100]) };
    let long = from_outside((NEAR6.ip, 9), L4::Udp).payload(&[7; 1500]);
    for (frame, reason, kind) in [(late, Reason::TimeExceeded, 3), (long, Reason::TooBig, 2)] {
        let run = rig.run_outside(&frame.bytes());
        assert_eq!(run.reason, reason);
        assert_eq!((&run.frame[..6], &run.frame[6..12]), (&OUTSIDER6.mac[..], &OUTER6_MAC[..]));
        let packet = SlicedPacket::from_ethernet(&run.frame).expect("a packet");
        let Some(etherparse::NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6") };
        let Some(etherparse::TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("no ICMPv6") };
        let ends = (ip.header().source_addr(), ip.header().destination_addr());
        assert_eq!((ends, icmp.type_u8()), ((OUTER6_OWN, OUTSIDER6.ip), kind));
        assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
    }
}
