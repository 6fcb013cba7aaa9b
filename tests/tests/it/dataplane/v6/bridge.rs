//! Bridge mode: the same as of IPv4, with neighbour discovery in place of ARP.

use std::net::Ipv6Addr;
use std::time::Duration;

use aya::maps::{HashMap, MapData};
use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::event::{EVENT_NEIGHBOUR, EVENT_V6};
use csm_common::gate::GateState;
use csm_common::names;
use csm_common::net::relay_mac;
use csm_common::service::{Origin, VserverKey};
use csm_tests::rig::{PEER_MAC, Rig, Run, Side, VIRTUAL_MAC};
use csm_tests::rig6::{self, FAR6, FIRST6, GATEWAY6, Host6, NEAR6, OWN6, REALS6, STRANGER6, VIP6, WEB6};
use csm_user::neigh::own::link_local;
use etherparse::Icmpv6Type;

use super::frames::{Frame6, expect, expect_end, icmp};
use super::neighbour::{ADVERTISEMENT, ALL_NODES, SOLICITATION, answer, asks, discovery, told};
use crate::dataplane::frames::{ACK, CLIENT_ISN, CLIENT_PORT, L4, PSH, SERVER_ISN, SYN};

const LIFE: Duration = Duration::from_secs(60);

fn rig() -> Rig {
    rig6::bridged().expect("the rig")
}

/// A server's segment to the far client: to the router, its gateway.
fn reply(flags: u8, seq: u32, ack: u32) -> Frame6 {
    Frame6 { dst_mac: GATEWAY6.mac, ..Frame6::server(flags, seq, ack) }
}

fn handshake(rig: &mut Rig) {
    let syn = Frame6::client(SYN, CLIENT_ISN, 0);
    expect(rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS6[0], 80));
    let syn_ack = reply(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    let out = syn_ack.clone().answered_as(VIP6, 80, &FAR6);
    expect(rig, Side::Server, &syn_ack, Reason::ForwardedFlow, &out);
    let ack = Frame6::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    expect(rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().sent_to(&REALS6[0], 80));
}

/// The first real's port 80 serves the virtual server, and none other.
fn know(rig: &Rig) {
    let mut origins: HashMap<MapData, VserverKey<V6>, Origin<V6>> = rig.map(names::ORIGINS6);
    let key = VserverKey { ip_be: REALS6[0].ip.into(), port_be: 80_u16.to_be(), proto: 6, kind: 0 };
    let port_be = 80_u16.to_be();
    let origin = Origin { virtual_be: VIP6.into(), port_be, pad: 0, vserver: WEB6, real: FIRST6 };
    origins.insert(key, origin, 0).expect("ORIGINS6");
}

/// Frames that are nobody's but their receivers'.
fn bystanders() -> Vec<(Side, Vec<u8>)> {
    let udp = |from: &Host6, to: &Host6| Frame6 {
        dst_mac: to.mac,
        ..Frame6::from(from, 5000, (to.ip, 6000), L4::Udp)
    };
    let options = Some((60, vec![0, 0, 1, 4, 0, 0, 0, 0]));
    let extended = Frame6 { extensions: options, ..udp(&REALS6[1], &NEAR6) };
    let router = Icmpv6Type::Unknown { type_u8: 134, code_u8: 0, bytes5to8: [0; 4] };
    let mut advertised = icmp(&GATEWAY6, GATEWAY6.ip, ALL_NODES, 255, router, &[0; 8]);
    advertised[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    let mut far = asks(&NEAR6, REALS6[0].ip);
    far[21] = 254;
    let mut solicited =
        discovery(&REALS6[0], REALS6[0].ip, NEAR6.ip, (ADVERTISEMENT, 0x4000_0000), REALS6[0].ip, 2);
    solicited[..6].copy_from_slice(&NEAR6.mac);
    vec![
        (Side::Client, udp(&NEAR6, &REALS6[0]).bytes()),
        (Side::Server, udp(&REALS6[0], &NEAR6).bytes()),
        (Side::Server, extended.bytes()),
        (Side::Client, advertised),
        (Side::Client, asks(&NEAR6, REALS6[0].ip)),
        (Side::Server, asks(&REALS6[0], NEAR6.ip)),
        (Side::Server, solicited),
        (Side::Client, far),
    ]
}

#[test]
fn a_connection_is_balanced_and_its_answers_are_caught_on_their_way_to_the_router() {
    let mut rig = rig();
    handshake(&mut rig);
    assert_eq!(rig6::flows(&rig, names::FLOWS6).len(), 2);
}

#[test]
fn what_is_not_the_groups_is_bridged_as_it_is_by_an_open_gate_alone() {
    let mut rig = rig();
    for (side, frame) in bystanders() {
        rig.gate(GateState::Open, LIFE);
        assert_eq!(rig.run(side, &frame), Run { reason: Reason::ForwardedBridged, frame: frame.clone() });
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
    assert_eq!(told(&mut rig), [], "nobody unknown spoke");
}

#[test]
fn the_nodes_own_source_addresses_do_not_come_back() {
    let mut rig = rig();
    for mac in [rig.own_mac(Side::Client), VIRTUAL_MAC] {
        for mut frame in bystanders().into_iter().map(|(_, frame)| frame) {
            frame[6..12].copy_from_slice(&mac);
            for side in [Side::Client, Side::Server] {
                assert_eq!(rig.run(side, &frame), Run { reason: Reason::DropLoop, frame: frame.clone() });
            }
        }
    }
}

#[test]
fn the_node_itself_is_reached_from_both_sides_whatever_the_gate() {
    let mut rig = rig();
    let own = rig.own_mac(Side::Client);
    let of_link = link_local(own);
    for state in [GateState::Closed, GateState::Open, GateState::RelayOut] {
        rig.gate(state, LIFE);
        for (side, host) in [(Side::Client, NEAR6), (Side::Server, REALS6[0])] {
            for target in [OWN6, of_link] {
                let ask = asks(&host, target);
                assert_eq!(rig.run(side, &ask), Run { reason: Reason::PassArp, frame: ask });
                // Its own question, as the peer has bridged it: nobody else has the address.
                let us = Host6 { mac: own, ..host };
                let mut looped =
                    discovery(&us, Ipv6Addr::UNSPECIFIED, ALL_NODES, (SOLICITATION, 0), target, 0);
                looped[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
                let reason = if state == GateState::Open { Reason::DropLoop } else { Reason::DropStandby };
                assert_eq!(rig.run(side, &looped), Run { reason, frame: looped });
            }
            let mut tell = discovery(&host, host.ip, OWN6, (ADVERTISEMENT, 0x4000_0000), host.ip, 2);
            tell[..6].copy_from_slice(&own);
            assert_eq!(rig.run(side, &tell).reason, Reason::PassHost);
            let data = Frame6 { dst_mac: own, ..Frame6::from(&host, 22, (OWN6, 999), L4::Udp) };
            expect_end(&mut rig, side, &data, Reason::PassHost);
        }
    }
}

#[test]
fn the_groups_addresses_are_answered_for_on_both_sides() {
    let mut rig = rig();
    for (side, host) in [(Side::Client, &NEAR6), (Side::Server, &REALS6[0])] {
        let frame = answer(host, host.ip, VIP6, 0xe000_0000);
        assert_eq!(rig.run(side, &asks(host, VIP6)), Run { reason: Reason::ArpReplied, frame });
    }
    rig.gate(GateState::Closed, LIFE);
    assert_eq!(rig.run(Side::Server, &asks(&REALS6[0], VIP6)).reason, Reason::DropArpStandby);
}

/// Also hosts that speak with an address of the link alone: the kernel's answers must find their side.
#[test]
fn the_active_node_alone_learns_on_which_side_hosts_are() {
    let mut rig = rig();
    let near = Host6 { ip: "fe80::77".parse().unwrap(), ..STRANGER6 };
    for host in [STRANGER6, near] {
        let ask = asks(&host, REALS6[0].ip);
        rig.gate(GateState::Closed, LIFE);
        rig.run(Side::Client, &ask);
        assert_eq!(told(&mut rig), []);
        rig.gate(GateState::Open, LIFE);
        for (side, vlan) in [(Side::Client, 2), (Side::Server, 3)] {
            rig.run(side, &ask);
            assert_eq!(told(&mut rig), [(EVENT_NEIGHBOUR | EVENT_V6, V6::from(host.ip), vlan, host.mac)]);
        }
    }
}

#[test]
fn the_kernels_frames_leave_on_the_side_of_their_receiver() {
    let mut rig = rig();
    let own = rig.own_mac(Side::Client);
    // Tags show which way a frame went; the test run does not.
    rig.retag(true);
    let us = Host6 { ip: OWN6, vlan: 2, mac: own };
    for (host, tag) in [(GATEWAY6, 2), (NEAR6, 2), (REALS6[0], 3), (STRANGER6, 2)] {
        let to = Frame6 { dst_mac: host.mac, ..Frame6::from(&us, 9, (host.ip, 7), L4::Udp) };
        for frame in [to.bytes(), asks(&us, host.ip)] {
            let run = rig.run_from_kernel(Side::Client, &frame);
            assert_eq!((run.reason, &run.frame[12..16]), (Reason::ForwardedKernel, &[0x81, 0, 0, tag][..]));
        }
    }
    let (side, frame) = bystanders().remove(0);
    assert_eq!(rig.run(side, &frame).frame[12..16], [0x81, 0, 0, 3], "to the other VLAN, with its tag");
}

#[test]
fn an_unknown_connection_is_rebuilt_but_not_one_that_the_client_has_with_the_server_itself() {
    let mut bench = rig();
    know(&bench);
    let segment = reply(PSH | ACK, 7, 9);
    let out = segment.clone().answered_as(VIP6, 80, &FAR6);
    expect(&mut bench, Side::Server, &segment, Reason::ForwardedRebuilt, &out);

    let mut bench = rig();
    know(&bench);
    let tcp = L4::Tcp { flags: SYN, seq: 1, ack: 0 };
    let direct = Frame6::from(&FAR6, CLIENT_PORT, (REALS6[0].ip, 80), tcp);
    let direct = Frame6 { dst_mac: REALS6[0].mac, ..direct };
    expect_end(&mut bench, Side::Client, &direct, Reason::ForwardedBridged);
    for flags in [SYN | ACK, ACK, PSH | ACK] {
        expect_end(&mut bench, Side::Server, &reply(flags, 7, 2), Reason::ForwardedBridged);
    }
    let of = |name| rig6::flows(&bench, name).len();
    assert_eq!((of(names::FLOWS6), of(names::EMBRYONIC6)), (0, 0));
}

#[test]
fn the_predecessor_relays_a_connections_answers_and_nothing_else() {
    let mut rig = rig();
    handshake(&mut rig);
    rig.gate(GateState::RelayOut, LIFE);
    let data = reply(PSH | ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 1);
    let out = Frame6 { src_mac: relay_mac(3), dst_mac: PEER_MAC, ..data.clone() };
    expect(&mut rig, Side::Server, &data, Reason::Relayed, &out);
    let other = Frame6 { dst_mac: GATEWAY6.mac, ..Frame6::from(&REALS6[0], 9, (FAR6.ip, 9), L4::Udp) };
    expect_end(&mut rig, Side::Server, &other, Reason::DropStandby);
    rig.gate(GateState::RelayIn, LIFE);
    let stray = Frame6 { src_mac: relay_mac(3), dst_mac: rig.own_mac(Side::Ft), ..data.clone() };
    let out = Frame6 { src_mac: rig.own_mac(Side::Client), ..data.answered_as(VIP6, 80, &FAR6) };
    expect(&mut rig, Side::Ft, &stray, Reason::ForwardedFlow, &out);
}
