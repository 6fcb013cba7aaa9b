use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use aya::maps::{Array, HashMap, MapData};
use csm_common::counter::Reason;
use csm_common::event::EVENT_UNRESOLVED;
use csm_common::flow::{FlowEntry, FlowKey};
use csm_common::names;
use csm_common::service::{
    Match, VSERVER_COUNTED, VSERVER_INSERVICE, VSERVER_LEASTCONNS, VserverKey, weighted_slot,
};
use csm_tests::rig::{
    ALIAS, FAR_CLIENT, GATEWAY, Host, NEAR_CLIENT, REALS, Rig, STRANGER, Side, VIP, WEB, be,
};

use super::frames::{ACK, CLIENT_PORT, Frame, L4, RST, SYN, expect, expect_end, handshake};

const OPEN: L4 = L4::Tcp { flags: SYN, seq: 1, ack: 0 };

fn syn(from: &Host, port: u16) -> Frame {
    Frame::from(from, port, (VIP, 80), OPEN)
}

#[test]
fn the_ring_is_walked_in_order_slot_by_slot() {
    let mut rig = Rig::new().expect("the rig");
    // Weights 3, 2, 1.
    let ring = [0, 1, 0, 2, 0, 1];
    rig.ring(WEB, &ring);
    let mut chosen: BTreeMap<u32, u32> = BTreeMap::new();
    for turn in 0..60u16 {
        let real = ring[usize::from(turn) % ring.len()];
        let frame = syn(&FAR_CLIENT, 10_000 + turn);
        let out = frame.clone().sent_to(&REALS[real as usize], 80);
        expect(&mut rig, Side::Client, &frame, Reason::ForwardedNew, &out);
        *chosen.entry(real).or_default() += 1;
    }
    assert_eq!(chosen, BTreeMap::from([(0, 30), (1, 20), (2, 10)]));
}

/// Opens `count` connections from ports `first` on; how many each real got.
fn open(rig: &mut Rig, first: u16, count: u16) -> [u32; 3] {
    let mut got = [0; 3];
    for port in first..first + count {
        let run = rig.run(Side::Client, &syn(&FAR_CLIENT, port).bytes());
        assert_eq!(run.reason, Reason::ForwardedNew);
        let real =
            REALS.iter().position(|real| run.frame[30..34] == real.ip.octets()).expect("one of the reals");
        got[real] += 1;
    }
    got
}

/// What a real of [`VSERVER_LEASTCONNS`] is judged by: the program's count on the controller's.
fn loads(rig: &Rig) -> [u64; 3] {
    let (since, bases): (Array<MapData, u64>, Array<MapData, u64>) =
        (rig.map(names::LOADS), rig.map(names::LOAD_BASES));
    [0, 1, 2].map(|real| {
        let [since, base] = [&since, &bases].map(|map| map.get(&real, 0).expect("a load"));
        since.wrapping_add(base)
    })
}

fn least_connections(weights: [u8; 3]) -> Rig {
    let rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_LEASTCONNS | VSERVER_COUNTED);
    let slots: Vec<u32> = (0..).zip(weights).map(|(real, weight)| weighted_slot(real, weight)).collect();
    rig.ring(WEB, &slots);
    rig
}

#[test]
fn the_least_loaded_real_for_its_weight_gets_the_next_connection() {
    let mut rig = least_connections([8, 8, 8]);
    assert_eq!(open(&mut rig, 10_000, 6), [2, 2, 2], "half-open ones count, equals take turns");
    // The controller found 40 more on the first, replicas say.
    let mut bases: Array<MapData, u64> = rig.map(names::LOAD_BASES);
    bases.set(0, 40, 0).expect("LOAD_BASES");
    assert_eq!(open(&mut rig, 11_000, 80), [0, 40, 40]);
    assert_eq!(open(&mut rig, 12_000, 3), [1, 1, 1]);
    assert_eq!(loads(&rig), [43, 43, 43]);
    // A count that is a moment old may give less than none.
    bases.set(2, 100_u64.wrapping_neg(), 0).expect("LOAD_BASES");
    assert_eq!(open(&mut rig, 13_000, 5), [0, 0, 5]);

    let mut rig = least_connections([20, 10, 10]);
    assert_eq!(open(&mut rig, 10_000, 40), [20, 10, 10]);
}

#[test]
fn a_connection_that_ends_makes_room_and_one_that_is_sent_again_takes_none() {
    let mut rig = least_connections([1, 1, 1]);
    assert_eq!(open(&mut rig, 10_000, 3), [1, 1, 1]);
    let first = syn(&FAR_CLIENT, 10_000).bytes();
    assert_eq!(rig.run(Side::Client, &first).reason, Reason::ForwardedFlow);
    assert_eq!(loads(&rig), [1, 1, 1], "a SYN that is sent again");
    let reset = |real: usize, port| {
        Frame::from(&REALS[real], 80, (FAR_CLIENT.ip, port), L4::Tcp { flags: RST | ACK, seq: 0, ack: 2 })
            .bytes()
    };
    // Refused by its server.
    assert_eq!(rig.run(Side::Server, &reset(0, 10_000)).reason, Reason::ForwardedFlow);
    assert_eq!(loads(&rig), [0, 1, 1]);
    assert_eq!(open(&mut rig, 11_000, 1), [1, 0, 0]);
    let mut rig = least_connections([1, 1, 1]);
    handshake(&mut rig);
    assert_eq!(loads(&rig), [1, 0, 0], "proven: still one");
    for _ in 0..2 {
        assert_eq!(rig.run(Side::Server, &reset(0, CLIENT_PORT)).reason, Reason::ForwardedFlow);
        assert_eq!(loads(&rig), [0, 0, 0], "closed once");
    }
}

#[test]
fn each_refusal_has_its_reason() {
    let mut rig = Rig::new().expect("the rig");
    let frame = syn(&FAR_CLIENT, CLIENT_PORT);
    rig.vserver(WEB, |vserver| vserver.flags = 0);
    expect_end(&mut rig, Side::Client, &frame, Reason::DropNoPolicy);
    rig.vserver(WEB, |vserver| vserver.flags = VSERVER_INSERVICE);
    rig.ring(WEB, &[]);
    expect_end(&mut rig, Side::Client, &frame, Reason::DropNoReal);
    let nowhere = Frame::from(&FAR_CLIENT, CLIENT_PORT, (VIP, 4000), L4::Udp);
    expect_end(&mut rig, Side::Client, &nowhere, Reason::DropNoVserver);
    assert_eq!(rig.flows(names::EMBRYONIC), [], "a refusal leaves nothing behind");
}

#[test]
fn a_client_needs_a_way_back() {
    let mut rig = Rig::new().expect("the rig");
    let lost = Host { ip: Ipv4Addr::new(172, 16, 0, 1), ..GATEWAY };
    expect_end(&mut rig, Side::Client, &syn(&lost, 1), Reason::DropNoRoute);
    expect_end(&mut rig, Side::Client, &syn(&STRANGER, 1), Reason::DropUnresolved);
    let told: Vec<_> = rig.events().iter().map(|e| (e.kind, e.ip_be, e.vlan, e.mac)).collect();
    assert_eq!(told, [(EVENT_UNRESOLVED, be(STRANGER.ip), 2, [0; 6])]);
    let near = syn(&NEAR_CLIENT, 1);
    expect(&mut rig, Side::Client, &near, Reason::ForwardedNew, &near.clone().sent_to(&REALS[0], 80));
}

#[test]
fn a_real_without_a_known_mac_is_asked_for_and_its_connection_waits() {
    let mut rig = Rig::new().expect("the rig");
    rig.next_hop(0, |hop| hop.flags = 0);
    let frame = syn(&FAR_CLIENT, CLIENT_PORT);
    assert_eq!(rig.run(Side::Client, &frame.bytes()).reason, Reason::DropUnresolved);
    let told: Vec<_> = rig.events().iter().map(|e| (e.kind, e.ip_be, e.vlan)).collect();
    assert_eq!(told, [(EVENT_UNRESOLVED, be(REALS[0].ip), 3)]);
    assert_eq!(rig.service_count(names::REAL_COUNTS, 0).client_packets, 0, "it got none");
    rig.next_hop(0, |hop| hop.flags = csm_common::net::NEXTHOP_RESOLVED);
    expect(&mut rig, Side::Client, &frame, Reason::ForwardedFlow, &frame.clone().sent_to(&REALS[0], 80));
}

/// Another virtual address with the same virtual server, and so the same reals.
fn second_address(rig: &Rig) -> Ipv4Addr {
    let mut keys: HashMap<MapData, VserverKey, Match> = rig.map(names::VSERVER_KEYS);
    let second = Ipv4Addr::new(192, 158, 38, 31);
    let key = VserverKey { ip_be: be(second), port_be: 80u16.to_be(), proto: 6, kind: 0 };
    keys.insert(key, Match { vserver: WEB, rules: 0 }, 0).expect("VSERVER_KEYS");
    second
}

#[test]
fn of_two_half_open_connections_with_one_way_back_the_last_has_it() {
    let mut rig = Rig::new().expect("the rig");
    let second = second_address(&rig);
    rig.ring(WEB, &[0]);
    let to = |address| Frame::from(&FAR_CLIENT, CLIENT_PORT, (address, 80), OPEN);
    for address in [VIP, second, VIP, second] {
        // Each finds that its other half is another connection's now, and starts anew.
        let out = to(address).sent_to(&REALS[0], 80);
        expect(&mut rig, Side::Client, &to(address), Reason::ForwardedNew, &out);
        expect(&mut rig, Side::Client, &to(address), Reason::ForwardedFlow, &out);
    }
    let answer = Frame::server(SYN | ACK, 1, 2);
    expect(
        &mut rig,
        Side::Server,
        &answer,
        Reason::ForwardedFlow,
        &answer.clone().answered_as(second, 80, &FAR_CLIENT),
    );
}

#[test]
fn two_connections_made_in_one_instant_are_not_taken_for_one() {
    let mut rig = Rig::new().expect("the rig");
    let second = second_address(&rig);
    rig.ring(WEB, &[0]);
    let to = |address| Frame::from(&FAR_CLIENT, CLIENT_PORT, (address, 80), OPEN);
    for address in [VIP, second] {
        let out = to(address).sent_to(&REALS[0], 80);
        expect(&mut rig, Side::Client, &to(address), Reason::ForwardedNew, &out);
    }
    let mut table: HashMap<MapData, FlowKey, FlowEntry> = rig.map(names::EMBRYONIC);
    for (key, entry) in rig.flows(names::EMBRYONIC) {
        table.insert(key, FlowEntry { generation: 7, ..entry }, 0).expect("EMBRYONIC");
    }
    let out = to(VIP).sent_to(&REALS[0], 80);
    expect(&mut rig, Side::Client, &to(VIP), Reason::ForwardedNew, &out);
}

#[test]
fn who_cannot_be_there_opens_nothing() {
    let mut rig = Rig::new().expect("the rig");
    let default = csm_common::net::Route { kind: csm_common::net::ROUTE_VIA, vlan: 2, nexthop: 3 };
    let mut routes: aya::maps::LpmTrie<MapData, u32, csm_common::net::Route> = rig.map(names::ROUTES);
    routes.insert(&aya::maps::lpm_trie::Key::new(0, 0), default, 0).expect("ROUTES");
    let forged = |ip: [u8; 4]| Host { ip: Ipv4Addr::from(ip), ..GATEWAY };
    for host in [
        forged(REALS[1].ip.octets()),
        forged(ALIAS.octets()),
        forged([0, 0, 0, 0]),
        forged([127, 0, 0, 1]),
        forged([224, 0, 0, 5]),
        forged([240, 0, 0, 1]),
        forged([255, 255, 255, 255]),
    ] {
        expect_end(&mut rig, Side::Client, &syn(&host, 1), Reason::DropSource);
        let datagram = Frame::from(&host, 1, (VIP, 53), L4::Udp);
        expect_end(&mut rig, Side::Client, &datagram, Reason::DropSource);
    }
    let own = Frame::from(&forged(VIP.octets()), 1, (Ipv4Addr::new(192, 158, 38, 31), 80), OPEN);
    second_address(&rig);
    expect_end(&mut rig, Side::Client, &own, Reason::DropSource);
    // A server with a client's address, to a virtual server and to the world.
    for to in [VIP, Ipv4Addr::new(10, 9, 9, 9)] {
        let frame = Frame::from(&FAR_CLIENT, 1, (to, 80), OPEN);
        expect_end(&mut rig, Side::Server, &frame, Reason::DropSource);
    }
    // And what is no host is nobody's destination.
    let frame = Frame::from(&REALS[0], 1, (Ipv4Addr::new(224, 0, 0, 18), 80), L4::Udp);
    expect_end(&mut rig, Side::Server, &frame, Reason::DropNoRoute);
    assert_eq!(rig.flows(names::EMBRYONIC), []);
    assert_eq!(rig.events(), [], "nobody is asked for");
}

#[test]
fn one_pair_of_addresses_and_ports_at_a_server_serves_one_connection() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let second = second_address(&rig);
    rig.ring(WEB, &[0]);
    let frame = Frame::from(&FAR_CLIENT, CLIENT_PORT, (second, 80), OPEN);
    expect_end(&mut rig, Side::Client, &frame, Reason::DropConflict);
    let other_port = Frame::from(&FAR_CLIENT, CLIENT_PORT + 1, (second, 80), OPEN);
    let out = other_port.clone().sent_to(&REALS[0], 80);
    expect(&mut rig, Side::Client, &other_port, Reason::ForwardedNew, &out);
}
