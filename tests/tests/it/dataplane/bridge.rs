use std::time::Duration;

use csm_common::counter::Reason;
use csm_common::gate::GateState;
use csm_common::net::relay_mac;
use csm_common::{event::EVENT_NEIGHBOUR, names};
use csm_tests::rig::{
    FAR_CLIENT, GATEWAY, NEAR_CLIENT, OWN, PEER_MAC, REALS, Rig, Run, STRANGER, Side, VIP, VIRTUAL_MAC,
};
use etherparse::ArpOperation;

use super::arp::{arp, request};
use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, PSH, SERVER_ISN, SYN, expect, expect_end};
use super::rebuild::know;

const LIFE: Duration = Duration::from_secs(60);

/// A server's segment to the far client: to the router, its gateway.
fn answer(flags: u8, seq: u32, ack: u32) -> Frame {
    Frame { dst_mac: GATEWAY.mac, ..Frame::server(flags, seq, ack) }
}

fn handshake(rig: &mut Rig) {
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[0], 80));
    let syn_ack = answer(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    let out = syn_ack.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(rig, Side::Server, &syn_ack, Reason::ForwardedFlow, &out);
    let ack = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    expect(rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().sent_to(&REALS[0], 80));
}

/// Frames that are nobody's but their receivers'.
fn bystanders() -> Vec<(Side, Vec<u8>)> {
    let udp = |from: &csm_tests::rig::Host, to: &csm_tests::rig::Host| Frame {
        dst_mac: to.mac,
        ..Frame::from(from, 5000, (to.ip, 6000), L4::Udp)
    };
    let broadcast = Frame { dst_mac: [0xff; 6], ..udp(&REALS[1], &GATEWAY) };
    let multicast = Frame { dst_mac: [1, 0, 0x5e, 0, 0, 5], ..udp(&GATEWAY, &REALS[0]) };
    let mut ipv6 = udp(&REALS[2], &NEAR_CLIENT).bytes();
    ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
    let mut spanning = udp(&GATEWAY, &REALS[0]).bytes();
    spanning[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0x10]);
    vec![
        (Side::Client, udp(&GATEWAY, &REALS[0]).bytes()),
        (Side::Server, udp(&REALS[0], &GATEWAY).bytes()),
        (Side::Server, broadcast.bytes()),
        (Side::Client, multicast.bytes()),
        (Side::Server, ipv6),
        (Side::Client, spanning),
        (Side::Client, request(&GATEWAY, REALS[0].ip)),
        (Side::Server, request(&REALS[0], GATEWAY.ip)),
        (
            Side::Server,
            arp(ArpOperation::REPLY, GATEWAY.mac, (REALS[0].mac, REALS[0].ip), (GATEWAY.mac, GATEWAY.ip)),
        ),
    ]
}

#[test]
fn a_connection_is_balanced_and_its_answers_are_caught_on_their_way_to_the_router() {
    let mut rig = Rig::bridged().expect("the rig");
    handshake(&mut rig);
    assert_eq!(rig.flows(names::FLOWS).len(), 2);
}

#[test]
fn what_is_not_the_groups_is_bridged_as_it_is_by_an_open_gate_alone() {
    let mut rig = Rig::bridged().expect("the rig");
    for (side, frame) in bystanders() {
        rig.gate(GateState::Open, LIFE);
        let run = rig.run(side, &frame);
        assert_eq!(run, Run { reason: Reason::ForwardedBridged, frame: frame.clone() });
        for (state, life) in [
            (GateState::Closed, LIFE),
            (GateState::RelayIn, LIFE),
            (GateState::RelayOut, LIFE),
            (GateState::Open, Duration::ZERO),
        ] {
            rig.gate(state, life);
            let run = rig.run(side, &frame);
            assert_eq!(run, Run { reason: Reason::DropStandby, frame: frame.clone() }, "{state:?}");
        }
    }
    assert_eq!(rig.events(), [], "nobody unknown spoke");
}

#[test]
fn protocols_between_neighbours_stay() {
    let mut rig = Rig::bridged().expect("the rig");
    for group in
        [[0x01, 0x80, 0xc2, 0, 0, 0], [0x01, 0x80, 0xc2, 0, 0, 0x0e], [0x01, 0, 0x0c, 0xcc, 0xcc, 0xcd]]
    {
        let mut frame = request(&GATEWAY, REALS[0].ip);
        frame[..6].copy_from_slice(&group);
        frame[12..14].copy_from_slice(&38u16.to_be_bytes());
        assert_eq!(rig.run(Side::Client, &frame), Run { reason: Reason::PassHost, frame });
    }
}

#[test]
fn the_nodes_own_source_addresses_do_not_come_back() {
    let mut rig = Rig::bridged().expect("the rig");
    for mac in [rig.own_mac(Side::Client), VIRTUAL_MAC] {
        let mut frame = bystanders().remove(2).1;
        frame[6..12].copy_from_slice(&mac);
        for side in [Side::Client, Side::Server] {
            assert_eq!(rig.run(side, &frame), Run { reason: Reason::DropLoop, frame: frame.clone() });
        }
    }
}

#[test]
fn the_node_itself_is_reached_from_both_sides_whatever_the_gate() {
    let mut rig = Rig::bridged().expect("the rig");
    let own = rig.own_mac(Side::Client);
    for state in [GateState::Closed, GateState::Open, GateState::RelayOut] {
        rig.gate(state, LIFE);
        for (side, host) in [(Side::Client, GATEWAY), (Side::Server, REALS[0])] {
            let ask = request(&host, OWN);
            assert_eq!(rig.run(side, &ask), Run { reason: Reason::PassArp, frame: ask });
            let tell = arp(ArpOperation::REPLY, own, (host.mac, host.ip), (own, OWN));
            assert_eq!(rig.run(side, &tell), Run { reason: Reason::PassArp, frame: tell });
            let data = Frame { dst_mac: own, ..Frame::from(&host, 22, (OWN, 999), L4::Udp) };
            expect_end(&mut rig, side, &data, Reason::PassHost);
        }
    }
}

#[test]
fn the_groups_addresses_are_answered_for_on_both_sides() {
    let mut rig = Rig::bridged().expect("the rig");
    for (side, host) in [(Side::Client, GATEWAY), (Side::Server, REALS[0])] {
        let reply = arp(ArpOperation::REPLY, host.mac, (VIRTUAL_MAC, VIP), (host.mac, host.ip));
        assert_eq!(rig.run(side, &request(&host, VIP)), Run { reason: Reason::ArpReplied, frame: reply });
    }
}

#[test]
fn a_standby_does_not_learn_from_what_the_active_node_has_bridged() {
    let mut rig = Rig::bridged().expect("the rig");
    let ask = request(&STRANGER, REALS[0].ip);
    rig.gate(GateState::Closed, LIFE);
    rig.run(Side::Client, &ask);
    assert_eq!(rig.events(), []);
    rig.gate(GateState::Open, LIFE);
    rig.run(Side::Client, &ask);
    let events = rig.events();
    assert_eq!((events.len(), events[0].kind, events[0].vlan), (1, EVENT_NEIGHBOUR, 2));
}

#[test]
fn the_kernels_frames_leave_on_the_side_of_their_receiver() {
    let mut rig = Rig::bridged().expect("the rig");
    let own = rig.own_mac(Side::Client);
    // Tags show which way a frame went; the test run does not.
    rig.retag(true);
    for (host, tag) in [(GATEWAY, 2), (NEAR_CLIENT, 2), (FAR_CLIENT, 2), (REALS[0], 3), (STRANGER, 2)] {
        let to =
            Frame { src_mac: own, dst_mac: host.mac, ..Frame::from(&STRANGER, 9, (host.ip, 7), L4::Udp) };
        let ask = arp(ArpOperation::REQUEST, [0xff; 6], (own, OWN), ([0; 6], host.ip));
        for frame in [to.bytes(), ask] {
            let run = rig.run_from_kernel(Side::Client, &frame);
            assert_eq!((run.reason, &run.frame[12..16]), (Reason::ForwardedKernel, &[0x81, 0, 0, tag][..]));
        }
    }
    let (side, frame) = bystanders().remove(0);
    assert_eq!(rig.run(side, &frame).frame[12..16], [0x81, 0, 0, 3], "to the other VLAN, with its tag");
}

#[test]
fn an_unknown_connection_is_rebuilt_but_not_one_that_the_client_has_with_the_server_itself() {
    let mut rig = Rig::bridged().expect("the rig");
    know(&rig);
    let segment = answer(PSH | ACK, 7, 9);
    let out = segment.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &segment, Reason::ForwardedRebuilt, &out);

    let mut rig = Rig::bridged().expect("the rig");
    know(&rig);
    let tcp = L4::Tcp { flags: SYN, seq: 1, ack: 0 };
    let direct = Frame::from(&FAR_CLIENT, CLIENT_PORT, (REALS[0].ip, 80), tcp);
    let direct = Frame { dst_mac: REALS[0].mac, ..direct };
    expect_end(&mut rig, Side::Client, &direct, Reason::ForwardedBridged);
    for flags in [SYN | ACK, ACK, PSH | ACK] {
        expect_end(&mut rig, Side::Server, &answer(flags, 7, 2), Reason::ForwardedBridged);
    }
    assert_eq!((rig.flows(names::FLOWS).len(), rig.flows(names::EMBRYONIC).len()), (0, 0));
}

#[test]
fn the_predecessor_relays_a_connections_answers_and_nothing_else() {
    let mut rig = Rig::bridged().expect("the rig");
    handshake(&mut rig);
    rig.gate(GateState::RelayOut, LIFE);
    let data = answer(PSH | ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 1);
    let out = Frame { src_mac: relay_mac(3), dst_mac: PEER_MAC, ..data.clone() };
    expect(&mut rig, Side::Server, &data, Reason::Relayed, &out);
    let other = Frame { dst_mac: GATEWAY.mac, ..Frame::from(&REALS[0], 9, (FAR_CLIENT.ip, 9), L4::Udp) };
    expect_end(&mut rig, Side::Server, &other, Reason::DropStandby);
    rig.gate(GateState::RelayIn, LIFE);
    let stray = Frame { src_mac: relay_mac(3), dst_mac: rig.own_mac(Side::Ft), ..data.clone() };
    let out = Frame { src_mac: rig.own_mac(Side::Client), ..data.answered_as(VIP, 80, &FAR_CLIENT) };
    expect(&mut rig, Side::Ft, &stray, Reason::ForwardedFlow, &out);
}
