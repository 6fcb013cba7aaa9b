//! The host as a router, and CSM at once: clients behind a port of its own, the module's gateway its own group.

use csm_common::counter::Reason;
use csm_common::event::EVENT_UNRESOLVED;
use csm_common::gate::GateState;
use csm_common::net::relay_mac;
use csm_tests::rig::{GATEWAY, Host, NEAR_CLIENT, PEER_MAC, REALS, Rig, Run, Side, VIP, VIRTUAL_MAC, be};
use csm_tests::rig_router::{
    BEYOND, HANDED, INNER, INNER_MAC, OUTER, OUTER_IP, OUTER_MAC, OUTER_OWN, OUTSIDE, OUTSIDE_PORT, OUTSIDER,
};
use etherparse::ArpOperation;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::arp::{arp, request};
use super::frames::{ACK, CLIENT_ISN, Frame, L4, SERVER_ISN, SYN, expect};

/// A packet of the client on the router's port.
fn from_outside(dst: (Ipv4Addr, u16), l4: L4) -> Frame {
    Frame { dst_mac: OUTER_MAC, ..Frame::from(&OUTSIDER, 40_000, dst, l4) }
}

/// The packet as the router sends it on to the client.
fn to_outside(mut frame: Frame, hops: u8) -> Frame {
    (frame.src_mac, frame.dst_mac) = (OUTER_MAC, OUTSIDER.mac);
    frame.ttl -= hops;
    frame
}

#[track_caller]
fn outside(rig: &mut Rig, frame: &Frame, reason: Reason, out: &Frame) {
    assert_eq!(rig.run_outside(&frame.bytes()), Run { reason, frame: out.bytes() }, "{frame:?}");
}

fn tcp(flags: u8, seq: u32, ack: u32) -> L4 {
    L4::Tcp { flags, seq, ack }
}

/// Opens a connection through router and module.
#[track_caller]
fn handshake(rig: &mut Rig) {
    let twice = |mut frame: Frame| {
        frame.ttl -= 1;
        frame.sent_to(&REALS[0], 80)
    };
    let syn = from_outside((VIP, 80), tcp(SYN, CLIENT_ISN, 0));
    outside(rig, &syn, Reason::ForwardedNew, &twice(syn.clone()));
    let syn_ack =
        Frame::from(&REALS[0], 80, (OUTSIDER.ip, 40_000), tcp(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1));
    let answered = syn_ack.clone().answered_as(VIP, 80, &OUTSIDER);
    expect(rig, Side::Server, &syn_ack, Reason::RoutedHost, &to_outside(answered, 1));
    let ack = from_outside((VIP, 80), tcp(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)));
    outside(rig, &ack, Reason::ForwardedFlow, &twice(ack.clone()));
}

#[test]
fn a_client_reaches_a_virtual_server_through_the_router_on_the_same_host() {
    let mut rig = Rig::routing().expect("the rig");
    handshake(&mut rig);
    let data =
        Frame::from(&REALS[0], 80, (OUTSIDER.ip, 40_000), tcp(ACK, 0, CLIENT_ISN + 1)).payload(b"page");
    let answered = data.clone().answered_as(VIP, 80, &OUTSIDER);
    expect(&mut rig, Side::Server, &data, Reason::RoutedHost, &to_outside(answered, 1));
    // Another router has the inner group: the answer goes there.
    rig.group(INNER, GateState::Closed);
    let router = Host { mac: INNER_MAC, ..GATEWAY };
    let away = data.clone().answered_as(VIP, 80, &router);
    expect(&mut rig, Side::Server, &data, Reason::ForwardedFlow, &away);
}

#[test]
fn while_the_peer_has_the_role_the_router_sends_its_clients_there() {
    let mut rig = Rig::routing().expect("the rig");
    let syn = from_outside((VIP, 80), tcp(SYN, 1, 0));
    let own = rig.own_mac(Side::Client);
    for state in [GateState::Closed, GateState::RelayIn] {
        rig.gate(state, Duration::from_secs(60));
        let away = Frame { src_mac: own, dst_mac: VIRTUAL_MAC, ttl: 63, ..syn.clone() };
        outside(&mut rig, &syn, Reason::RoutedHost, &away);
    }
    rig.gate(GateState::RelayOut, Duration::from_secs(60));
    let stray = Frame { src_mac: relay_mac(2), dst_mac: PEER_MAC, ttl: 63, ..syn.clone() };
    outside(&mut rig, &syn, Reason::Relayed, &stray);
}

#[test]
fn only_the_active_router_of_a_group_takes_and_answers_for_it() {
    let mut rig = Rig::routing().expect("the rig");
    let asked = request(&OUTSIDER, OUTER_IP);
    let reply = arp(ArpOperation::REPLY, OUTSIDER.mac, (OUTER_MAC, OUTER_IP), (OUTSIDER.mac, OUTSIDER.ip));
    assert_eq!(rig.run_outside(&asked), Run { reason: Reason::ArpReplied, frame: reply });
    let inner = request(&NEAR_CLIENT, GATEWAY.ip);
    let answer = (INNER_MAC, GATEWAY.ip);
    let reply = arp(ArpOperation::REPLY, NEAR_CLIENT.mac, answer, (NEAR_CLIENT.mac, NEAR_CLIENT.ip));
    assert_eq!(rig.run(Side::Client, &inner), Run { reason: Reason::ArpReplied, frame: reply });
    let ping = from_outside((OUTER_IP, 0), L4::EchoRequest { id: 7 }).payload(b"0123");
    let pong = Frame {
        src_mac: OUTER_MAC,
        dst_mac: OUTSIDER.mac,
        src: ping.dst,
        dst: ping.src,
        l4: L4::EchoReply { id: 7 },
        ..ping.clone()
    };
    outside(&mut rig, &ping, Reason::EchoReplied, &pong);
    // Each group for itself.
    rig.group(OUTER, GateState::Closed);
    assert_eq!(rig.run_outside(&asked).reason, Reason::DropGroupStandby);
    for frame in [ping, from_outside((VIP, 80), tcp(SYN, 1, 0)), from_outside((NEAR_CLIENT.ip, 1), L4::Udp)] {
        outside(&mut rig, &frame, Reason::DropGroupStandby, &frame);
    }
    assert_eq!(rig.run(Side::Client, &inner).reason, Reason::ArpReplied);
    // One that has stepped down routes what still comes, without saying that the group is here.
    rig.group(OUTER, GateState::RelayOut);
    assert_eq!(rig.run_outside(&asked).reason, Reason::DropGroupStandby);
    let late = from_outside((NEAR_CLIENT.ip, 1), L4::Udp);
    let out = Frame { src_mac: INNER_MAC, dst_mac: NEAR_CLIENT.mac, ttl: 63, ..late.clone() };
    outside(&mut rig, &late, Reason::RoutedHost, &out);
    let back = Frame { dst_mac: INNER_MAC, ..Frame::from(&NEAR_CLIENT, 9, (OUTSIDER.ip, 40_000), L4::Udp) };
    let own = Frame { src_mac: rig.ports()[OUTSIDE_PORT].mac, ..to_outside(back.clone(), 1) };
    expect(&mut rig, Side::Client, &back, Reason::RoutedHost, &own);
}

#[test]
fn what_is_not_the_modules_is_routed_both_ways() {
    let mut rig = Rig::routing().expect("the rig");
    let there = from_outside((NEAR_CLIENT.ip, 9), L4::Udp).payload(b"there");
    let mut out = there.clone();
    (out.src_mac, out.dst_mac, out.ttl) = (INNER_MAC, NEAR_CLIENT.mac, 63);
    outside(&mut rig, &there, Reason::RoutedHost, &out);
    for dst in [OUTSIDER.ip, Ipv4Addr::from(u32::from(BEYOND) + 9)] {
        let back = Frame { dst_mac: INNER_MAC, ..Frame::from(&NEAR_CLIENT, 9, (dst, 40_000), L4::Udp) };
        expect(&mut rig, Side::Client, &back, Reason::RoutedHost, &to_outside(back.clone(), 1));
        // Without the outer group the port's own MAC is the source.
        rig.group(OUTER, GateState::Closed);
        let own = Frame { src_mac: rig.ports()[OUTSIDE_PORT].mac, ..to_outside(back.clone(), 1) };
        expect(&mut rig, Side::Client, &back, Reason::RoutedHost, &own);
        rig.group(OUTER, GateState::Open);
    }
    assert_eq!(rig.flows(csm_common::names::EMBRYONIC), [], "the module has no part in it");
}

#[test]
fn the_routers_own_addresses_and_mac_are_the_kernels() {
    let mut rig = Rig::routing().expect("the rig");
    let own = rig.ports()[OUTSIDE_PORT].mac;
    let to_own = from_outside((OUTER_OWN, 22), tcp(SYN, 1, 0));
    outside(&mut rig, &to_own, Reason::PassHost, &Frame { dst_mac: own, ..to_own.clone() });
    for dst_mac in [own, [0xff; 6], [0x01, 0, 0x5e, 0, 0, 2], INNER_MAC, [0, 0, 0x0c, 7, 0xac, 9]] {
        let frame = Frame { dst_mac, ..from_outside((VIP, 80), tcp(SYN, 1, 0)) };
        outside(&mut rig, &frame, Reason::PassHost, &frame);
    }
    // The module is not on that port.
    let frame = Frame { dst_mac: VIRTUAL_MAC, ..from_outside((VIP, 80), tcp(SYN, 1, 0)) };
    outside(&mut rig, &frame, Reason::DropSource, &frame);
}

#[test]
fn what_cannot_go_on_ends_under_its_reason() {
    let mut rig = Rig::routing().expect("the rig");
    let nowhere = from_outside((Ipv4Addr::new(8, 8, 8, 8), 53), L4::Udp);
    outside(&mut rig, &nowhere, Reason::DropNoRoute, &nowhere);
    let stranger = Ipv4Addr::new(10, 100, 9, 9);
    let unknown = Frame { dst_mac: INNER_MAC, ..Frame::from(&NEAR_CLIENT, 1, (stranger, 1), L4::Udp) };
    expect(&mut rig, Side::Client, &unknown, Reason::DropUnresolved, &unknown);
    let events = rig.events();
    let [event] = events[..] else { panic!("one event, not {events:?}") };
    assert_eq!((event.kind, event.ip_be, event.vlan), (EVENT_UNRESOLVED, be(stranger), OUTSIDE));
    let mut tired = from_outside((NEAR_CLIENT.ip, 9), L4::Udp);
    tired.ttl = 1;
    let error = rig.run_outside(&tired.bytes());
    assert_eq!(error.reason, Reason::TimeExceeded);
    assert_eq!((&error.frame[..6], &error.frame[6..12]), (&OUTSIDER.mac[..], &OUTER_MAC[..]));
    assert_eq!(error.frame[26..30], OUTER_OWN.octets());
    // A network of the module's that no virtual server serves.
    let handed = from_outside((Ipv4Addr::from(u32::from(HANDED) + 1), 80), tcp(SYN, 1, 0));
    let aged = Frame { ttl: 63, ..handed.clone() };
    assert_eq!(rig.run_outside(&handed.bytes()).reason, Reason::DropNoRoute, "{aged:?}");
    let mut short = from_outside((NEAR_CLIENT.ip, 9), L4::Udp).bytes();
    short.truncate(30);
    assert_eq!(rig.run_outside(&short).reason, Reason::DropMalformed);
}

#[test]
fn answers_of_the_module_itself_go_back_through_the_router() {
    let mut rig = Rig::routing().expect("the rig");
    let ping = from_outside((VIP, 0), L4::EchoRequest { id: 9 }).payload(b"vip");
    let pong = Frame {
        src_mac: OUTER_MAC,
        dst_mac: OUTSIDER.mac,
        src: ping.dst,
        dst: ping.src,
        ttl: 63,
        l4: L4::EchoReply { id: 9 },
        ..ping.clone()
    };
    outside(&mut rig, &ping, Reason::RoutedHost, &pong);
}
