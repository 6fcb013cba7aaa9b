//! `reverse-sticky`: by which of two firewalls a connection came in, for its answers and for those of the other direction. The gateway and
//! the near client's host are the firewalls here.

use std::net::Ipv4Addr;
use std::time::Duration;

use aya::maps::{HashMap, MapData};
use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::event::{EVENT_CONNECTION, EVENT_STICKY, EVENT_V6};
use csm_common::flow::{FlowEntry, FlowKey, NONE};
use csm_common::gate::GateState;
use csm_common::names;
use csm_common::net::relay_mac;
use csm_common::service::{
    Match, REAL_STICKY, REAL_USABLE, Real, Reverse, StickyEntry, StickyKey, VSERVER_DISPATCH,
    VSERVER_FORWARD, VSERVER_INSERVICE, VSERVER_STICKY_BOTH, VSERVER_STICKY_DESTINATION,
    VSERVER_STICKY_STATICS, VserverKey, pair,
};
use csm_tests::rig::{
    ANY_TCP, FAR_CLIENT, GATEWAY, Host, NEAR_CLIENT, REALS, Rig, SMALL, STRANGER, Side, VIP, WEB, be, now_ns,
};
use csm_tests::rig6;
use csm_user::dataplane::load::Capacity;

use super::frames::{
    ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, PSH, SERVER_ISN, SYN, expect, expect_end, handshake,
};
use super::rebuild;

const SECOND_NS: u64 = 1_000_000_000;
/// The sticky group of those who go out by the firewalls.
const GROUP: u32 = 20;
/// The reals that the firewalls are.
const FIREWALLS: [u32; 2] = [6, 7];
/// A client that comes by the second firewall; the routes lead to it by the first one, which is the gateway.
const CLIENT: Host = Host { mac: NEAR_CLIENT.mac, ..FAR_CLIENT };
/// To whom no route leads at all.
const NOWHERE: Host = Host { ip: Ipv4Addr::new(172, 16, 9, 9), ..CLIENT };

/// Clients of the virtual server come by two firewalls; what servers open to [`CLIENT`] goes out by one of them.
fn rig_of(capacity: Capacity, flags: u32) -> Rig {
    let rig = Rig::with_capacity(capacity).expect("the rig");
    for (number, (nexthop, host)) in FIREWALLS.into_iter().zip([(3, GATEWAY), (4, NEAR_CLIENT)]) {
        rig.change(names::REALS, number, |real: &mut Real| {
            *real = Real {
                ip_be: be(host.ip),
                port_be: 0,
                vlan: host.vlan,
                nexthop,
                flags: REAL_USABLE | REAL_STICKY,
                farm: 9,
                max_conns: 0,
                min_conns: 0,
            };
        });
    }
    group(&rig, |reverse| {
        (reverse.mask_be, reverse.flags, reverse.life_s, reverse.count) = (u32::MAX, flags, 600, 2);
        reverse.reals[..2].copy_from_slice(&FIREWALLS);
    });
    rig.vserver(WEB, |vserver| vserver.reverse = GROUP);
    let mut keys: HashMap<MapData, VserverKey, Match> = rig.map(names::VSERVER_KEYS);
    let key = VserverKey { ip_be: be(CLIENT.ip), port_be: 0, proto: 6, kind: 0 };
    keys.insert(key, Match { vserver: ANY_TCP, rules: 0 }, 0).expect("VSERVER_KEYS");
    rig.vserver(ANY_TCP, |vserver| {
        vserver.flags = VSERVER_INSERVICE | VSERVER_DISPATCH | flags;
        (vserver.farm, vserver.sticky_s, vserver.sticky_group) = (9, 600, GROUP);
    });
    rig.ring(ANY_TCP, &[FIREWALLS[0]]);
    rig
}

fn rig() -> Rig {
    rig_of(SMALL, VSERVER_STICKY_DESTINATION)
}

fn group(rig: &Rig, change: impl FnOnce(&mut Reverse)) {
    rig.change(names::REVERSES, GROUP, change);
}

fn syn(client: &Host, port: u16) -> Frame {
    Frame::from(client, port, (VIP, 80), L4::Tcp { flags: SYN, seq: CLIENT_ISN, ack: 0 })
}

/// The server's answer to the SYN of `client` goes out by `firewall`.
#[track_caller]
fn answered_by(rig: &mut Rig, client: &Host, port: u16, firewall: &Host) {
    let l4 = L4::Tcp { flags: SYN | ACK, seq: SERVER_ISN, ack: CLIENT_ISN + 1 };
    let answer = Frame::from(&REALS[0], 80, (client.ip, port), l4);
    expect(rig, Side::Server, &answer, Reason::ForwardedFlow, &answer.clone().answered_as(VIP, 80, firewall));
}

/// A connection of `client`, which comes by `firewall`, handshake and all.
#[track_caller]
fn connects(rig: &mut Rig, client: &Host, port: u16, firewall: &Host) {
    rig.ring(WEB, &[0]);
    let syn = syn(client, port);
    expect(rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[0], 80));
    answered_by(rig, client, port, firewall);
    let l4 = L4::Tcp { flags: ACK, seq: CLIENT_ISN + 1, ack: SERVER_ISN.wrapping_add(1) };
    let ack = Frame::from(client, port, (VIP, 80), l4);
    expect(rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().sent_to(&REALS[0], 80));
}

/// What the first server opens to the client goes out by `firewall`.
#[track_caller]
fn opens_by(rig: &mut Rig, port: u16, firewall: &Host) {
    let syn = Frame::from(&REALS[0], port, (CLIENT.ip, 20), L4::Tcp { flags: SYN, seq: 7, ack: 0 });
    expect(rig, Side::Server, &syn, Reason::ForwardedNew, &syn.clone().routed_to(firewall));
}

#[test]
fn answers_go_back_by_the_firewall_that_the_connection_came_in_by_and_so_do_those_that_the_server_opens() {
    let mut rig = rig();
    opens_by(&mut rig, 1, &GATEWAY);
    connects(&mut rig, &CLIENT, CLIENT_PORT, &NEAR_CLIENT);
    let key = StickyKey { group: GROUP, client_be: be(CLIENT.ip) };
    let [(held, entry)] = rig.sticky()[..] else { panic!("{:?}", rig.sticky()) };
    assert_eq!((held, entry.real, entry.life_s), (key, FIREWALLS[1], 600));
    let events = rig.events();
    let kinds: Vec<u32> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EVENT_CONNECTION, EVENT_STICKY]);
    assert_eq!(u32::from(events[0].connection.via), FIREWALLS[1] + 1, "the peer is told");
    assert_eq!((events[1].sticky_key, events[1].sticky), (key, entry));
    opens_by(&mut rig, 2, &NEAR_CLIENT);
    // By the other one from now on: what stands goes on as it began.
    connects(&mut rig, &FAR_CLIENT, 9, &GATEWAY);
    opens_by(&mut rig, 3, &GATEWAY);
    let data = Frame::server(PSH | ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 1).payload(b"x");
    let out = data.clone().answered_as(VIP, 80, &NEAR_CLIENT);
    expect(&mut rig, Side::Server, &data, Reason::ForwardedFlow, &out);
}

#[test]
fn an_unproven_connection_is_entered_where_entries_give_way() {
    let mut rig = rig();
    rig.ring(WEB, &[0]);
    expect(
        &mut rig,
        Side::Client,
        &syn(&CLIENT, 1),
        Reason::ForwardedNew,
        &syn(&CLIENT, 1).sent_to(&REALS[0], 80),
    );
    assert_eq!((rig.sticky(), rig.events()), (vec![], vec![]));
    opens_by(&mut rig, 1, &NEAR_CLIENT);
}

#[test]
fn of_two_handshakes_at_once_each_is_entered_as_it_came() {
    // By source: both have one key, the server's.
    let mut rig = rig_of(SMALL, 0);
    rig.ring(WEB, &[0]);
    let others = Host { ip: Ipv4Addr::new(10, 1, 1, 2), ..FAR_CLIENT };
    for client in [&CLIENT, &others] {
        expect(
            &mut rig,
            Side::Client,
            &syn(client, 5),
            Reason::ForwardedNew,
            &syn(client, 5).sent_to(&REALS[0], 80),
        );
    }
    answered_by(&mut rig, &CLIENT, 5, &NEAR_CLIENT);
    answered_by(&mut rig, &others, 5, &GATEWAY);
    for (client, firewall) in [(&CLIENT, FIREWALLS[1]), (&others, FIREWALLS[0])] {
        let l4 = L4::Tcp { flags: ACK, seq: CLIENT_ISN + 1, ack: SERVER_ISN.wrapping_add(1) };
        let ack = Frame::from(client, 5, (VIP, 80), l4);
        expect(&mut rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().sent_to(&REALS[0], 80));
        assert_eq!(rig.sticky()[0].1.real, firewall);
    }
}

#[test]
fn of_any_other_sender_answers_go_by_the_routes() {
    let mut rig = rig();
    let stranger = Host { mac: STRANGER.mac, ..FAR_CLIENT };
    connects(&mut rig, &stranger, CLIENT_PORT, &GATEWAY);
    assert_eq!(rig.sticky(), []);
    // One whose MAC address is not known yet is nobody.
    rig.next_hop(4, |hop| hop.flags = 0);
    connects(&mut rig, &CLIENT, 2, &GATEWAY);
    assert_eq!(rig.sticky(), []);
    rig.next_hop(4, |hop| hop.flags = csm_common::net::NEXTHOP_RESOLVED);
    // Nor is one behind a router known by that one's.
    rig.real(FIREWALLS[1], |real| real.ip_be = be(Ipv4Addr::new(192, 158, 77, 1)));
    connects(&mut rig, &CLIENT, 3, &GATEWAY);
    rig.real(FIREWALLS[1], |real| (real.ip_be, real.vlan) = (be(NEAR_CLIENT.ip), 3));
    connects(&mut rig, &CLIENT, 4, &GATEWAY);
    group(&rig, |reverse| reverse.count = 1);
    connects(&mut rig, &CLIENT, 5, &GATEWAY);
    assert_eq!(rig.sticky(), []);
    // No route leads there, and without a firewall nobody is answered.
    expect_end(&mut rig, Side::Client, &syn(&NOWHERE, 6), Reason::DropNoRoute);
}

#[test]
fn a_client_behind_a_firewall_needs_no_route() {
    let mut rig = rig();
    connects(&mut rig, &NOWHERE, CLIENT_PORT, &NEAR_CLIENT);
    let held = StickyKey { group: GROUP, client_be: be(NOWHERE.ip) };
    assert_eq!(rig.sticky().iter().map(|(key, _)| *key).collect::<Vec<_>>(), [held]);
    // But it is a host, and not of the servers' network.
    let servers = Host { ip: REALS[2].ip, ..CLIENT };
    expect_end(&mut rig, Side::Client, &syn(&servers, 1), Reason::DropSource);
    for source in [Ipv4Addr::BROADCAST, Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(224, 0, 0, 5)] {
        expect_end(&mut rig, Side::Client, &syn(&Host { ip: source, ..CLIENT }, 1), Reason::DropSource);
    }
}

#[test]
fn a_server_is_known_by_its_own_address() {
    // The other way round: what a server opens is entered for its client's connections to the virtual server.
    let mut rig = rig();
    rig.vserver(WEB, |vserver| {
        (vserver.reverse, vserver.sticky_s, vserver.sticky_group) = (0, 600, GROUP + 1);
    });
    rig.vserver(ANY_TCP, |vserver| vserver.reverse = GROUP + 1);
    rig.change(names::REVERSES, GROUP + 1, |reverse: &mut Reverse| {
        (reverse.mask_be, reverse.life_s, reverse.count) = (u32::MAX, 600, 3);
        reverse.reals[..3].copy_from_slice(&[0, 1, 2]);
    });
    // Two servers behind one MAC address.
    rig.next_hop(1, |hop| hop.dst_mac = REALS[2].mac);
    let behind = Host { mac: REALS[2].mac, ..REALS[1] };
    let l4 = |flags, seq, ack| L4::Tcp { flags, seq, ack };
    let opens = Frame::from(&behind, 5, (CLIENT.ip, 20), l4(SYN, 7, 0));
    expect(&mut rig, Side::Server, &opens, Reason::ForwardedNew, &opens.clone().routed_to(&GATEWAY));
    let answer = Frame::from(&FAR_CLIENT, 20, (behind.ip, 5), l4(SYN | ACK, 9, 8));
    expect(&mut rig, Side::Client, &answer, Reason::ForwardedFlow, &answer.clone().routed_to(&behind));
    let ack = Frame::from(&behind, 5, (CLIENT.ip, 20), l4(ACK, 8, 10));
    expect(&mut rig, Side::Server, &ack, Reason::ForwardedFlow, &ack.clone().routed_to(&GATEWAY));
    let held = rig.sticky();
    let key = StickyKey { group: GROUP + 1, client_be: be(CLIENT.ip) };
    assert!(held.iter().any(|(held, entry)| (*held, entry.real) == (key, 1)), "{held:?}");
    let back = syn(&FAR_CLIENT, 77);
    expect(&mut rig, Side::Client, &back, Reason::ForwardedNew, &back.clone().sent_to(&behind, 80));
}

#[test]
fn what_is_relayed_goes_back_as_its_client_is_entered_or_by_the_routes() {
    let mut rig = rig();
    rig.ring(WEB, &[0]);
    let relayed = |rig: &Rig, port| Frame {
        src_mac: relay_mac(2),
        dst_mac: rig.own_mac(Side::Ft),
        ..syn(&CLIENT, port)
    };
    rig.gate(GateState::Open, Duration::from_secs(60));
    let stray = relayed(&rig, 1);
    expect(&mut rig, Side::Ft, &stray, Reason::ForwardedNew, &stray.clone().sent_to(&REALS[0], 80));
    answered_by(&mut rig, &CLIENT, 1, &GATEWAY);
    connects(&mut rig, &CLIENT, 2, &NEAR_CLIENT);
    let stray = relayed(&rig, 3);
    expect(&mut rig, Side::Ft, &stray, Reason::ForwardedNew, &stray.clone().sent_to(&REALS[0], 80));
    answered_by(&mut rig, &CLIENT, 3, &NEAR_CLIENT);
}

#[test]
fn what_is_forwarded_without_a_real_is_entered_too_and_use_renews_it() {
    let mut rig = rig();
    rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_FORWARD);
    let mut keys: HashMap<MapData, VserverKey, Match> = rig.map(names::VSERVER_KEYS);
    let key = VserverKey { ip_be: be(REALS[0].ip), port_be: 80u16.to_be(), proto: 6, kind: 0 };
    keys.insert(key, Match { vserver: WEB, rules: 0 }, 0).expect("VSERVER_KEYS");
    let direct = |flags, seq, ack| Frame {
        src_mac: NEAR_CLIENT.mac,
        dst: std::net::SocketAddrV4::new(REALS[0].ip, 80),
        ..Frame::client(flags, seq, ack)
    };
    let syn = direct(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().routed_to(&REALS[0]));
    let answer = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &answer.clone().routed_to(&NEAR_CLIENT));
    let ack = direct(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    expect(&mut rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().routed_to(&REALS[0]));
    assert!(rig.flows(names::FLOWS).iter().all(|(_, entry)| entry.real == NONE));
    let (key, entry) = rig.sticky()[0];
    assert_eq!(entry.real, FIREWALLS[1]);
    let mut table: HashMap<MapData, StickyKey, StickyEntry> = rig.map(names::STICKY);
    table.insert(key, StickyEntry { last_used_ns: 5, ..entry }, 0).expect("STICKY");
    let mut flows: HashMap<MapData, FlowKey, FlowEntry> = rig.map(names::FLOWS);
    for (key, entry) in rig.flows(names::FLOWS) {
        let seen = FlowEntry { last_seen_ns: now_ns() - 2 * SECOND_NS, ..entry };
        flows.insert(key, seen, 0).expect("FLOWS");
    }
    let data = direct(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"x");
    expect(&mut rig, Side::Client, &data, Reason::ForwardedFlow, &data.clone().routed_to(&REALS[0]));
    assert!(rig.sticky()[0].1.last_used_ns > 5);
}

#[test]
fn an_entry_of_the_configuration_stays_and_without_anyone_who_sticks_there_is_none() {
    let mut rig = rig_of(SMALL, VSERVER_STICKY_DESTINATION | VSERVER_STICKY_STATICS);
    let mut table: HashMap<MapData, StickyKey, StickyEntry> = rig.map(names::STICKY);
    let key = StickyKey { group: GROUP, client_be: be(CLIENT.ip) };
    table.insert(key, StickyEntry::fixed(FIREWALLS[0]), 0).expect("STICKY");
    connects(&mut rig, &CLIENT, CLIENT_PORT, &NEAR_CLIENT);
    assert_eq!(rig.sticky(), [(key, StickyEntry::fixed(FIREWALLS[0]))]);
    table.remove(&key).expect("STICKY");
    group(&rig, |reverse| reverse.life_s = 0);
    connects(&mut rig, &CLIENT, 2, &GATEWAY);
    assert_eq!(rig.sticky(), []);
}

#[test]
fn by_source_and_by_both_the_server_counts_as_who_opens() {
    let mut rig = rig_of(SMALL, 0);
    connects(&mut rig, &CLIENT, CLIENT_PORT, &NEAR_CLIENT);
    assert_eq!(rig.sticky()[0].0, StickyKey { group: GROUP, client_be: be(REALS[0].ip) });
    opens_by(&mut rig, 1, &NEAR_CLIENT);
    let mut rig = rig_of(Capacity { ipv6: true, ..SMALL }, VSERVER_STICKY_BOTH);
    connects(&mut rig, &CLIENT, CLIENT_PORT, &NEAR_CLIENT);
    let [(key, entry)] = rig6::sticky(&rig)[..] else { panic!("{:?}", rig6::sticky(&rig)) };
    let wanted: StickyKey<V6> = pair(GROUP, be(REALS[0].ip), be(CLIENT.ip), u32::MAX);
    assert_eq!((key, entry.real), (wanted, FIREWALLS[1]));
    assert_eq!(rig.kinds(), [EVENT_CONNECTION, EVENT_STICKY | EVENT_V6]);
    opens_by(&mut rig, 1, &NEAR_CLIENT);
}

/// The server's packets tell its virtual server, and nothing else is for the client's address.
fn know(rig: &Rig) {
    rebuild::know(rig);
    let mut keys: HashMap<MapData, VserverKey, Match> = rig.map(names::VSERVER_KEYS);
    keys.remove(&VserverKey { ip_be: be(CLIENT.ip), port_be: 0, proto: 6, kind: 0 }).expect("VSERVER_KEYS");
}

#[test]
fn a_rebuilt_connection_goes_back_as_its_client_is_entered() {
    let mut rig = rig();
    know(&rig);
    let mut table: HashMap<MapData, StickyKey, StickyEntry> = rig.map(names::STICKY);
    let key = StickyKey { group: GROUP, client_be: be(CLIENT.ip) };
    let entry = StickyEntry { last_used_ns: now_ns(), life_s: 600, real: FIREWALLS[1] };
    let segment = Frame::server(PSH | ACK, 77, 99).payload(b"where were we?");
    let by = |firewall| segment.clone().answered_as(VIP, 80, firewall);
    table.insert(key, entry, 0).expect("STICKY");
    expect(&mut rig, Side::Server, &segment, Reason::ForwardedRebuilt, &by(&NEAR_CLIENT));
    let mut rig = self::rig();
    know(&rig);
    expect(&mut rig, Side::Server, &segment, Reason::ForwardedRebuilt, &by(&GATEWAY));
}

#[test]
fn without_the_command_nothing_of_it_happens() {
    let mut rig = rig();
    rig.vserver(WEB, |vserver| vserver.reverse = 0);
    handshake(&mut rig);
    assert_eq!(rig.sticky(), []);
}
