//! `vmac off`: the group's frames carry the port's own MAC address, and only the IP address tells them from the node's. Both families.

use std::net::Ipv6Addr;
use std::time::Duration;

use csm_common::counter::Reason;
use csm_common::gate::GateState;
use csm_common::net::relay_mac;
use csm_tests::rig::{ALIAS, FAR_CLIENT, GATEWAY, OWN, PEER_MAC, REALS, Rig, Run, Side, VIP, VIRTUAL_MAC};
use csm_tests::rig6::{FAR6, NEAR6, OWN6, REALS6, VIP6};
use etherparse::ArpOperation;

use super::frames::Frame6;
use super::neighbour::{answer_from, asks};
use crate::dataplane::arp::{arp, request};
use crate::dataplane::frames::{ACK, CLIENT_ISN, Frame, L4, SYN, expect, expect_end};

const LIFE: Duration = Duration::from_secs(60);

/// An echo request for the virtual server, to `dst_mac`, and its answer from `src_mac`.
fn echo(dst_mac: [u8; 6], src_mac: [u8; 6]) -> (Frame, Frame) {
    let request = Frame { dst_mac, ..Frame::from(&FAR_CLIENT, 0, (VIP, 0), L4::EchoRequest { id: 7 }) };
    let (src, dst) = (request.dst, request.src);
    let l4 = L4::EchoReply { id: 7 };
    let reply = Frame { src_mac, dst_mac: FAR_CLIENT.mac, src, dst, l4, ..request.clone() };
    (request, reply)
}

#[test]
fn the_groups_addresses_are_at_the_ports_own_mac() {
    let mut rig = Rig::without_virtual_mac().expect("the rig");
    for (side, host, address) in [(Side::Client, GATEWAY, VIP), (Side::Server, REALS[1], ALIAS)] {
        let own = rig.own_mac(side);
        let reply = arp(ArpOperation::REPLY, host.mac, (own, address), (host.mac, host.ip));
        let expected = Run { reason: Reason::ArpReplied, frame: reply };
        assert_eq!(rig.run(side, &request(&host, address)), expected);
    }
    let own = rig.own_mac(Side::Client);
    let expected = Run { reason: Reason::ArpReplied, frame: answer_from(own, &NEAR6, VIP6) };
    assert_eq!(rig.run(Side::Client, &asks(&NEAR6, VIP6)), expected);
    // Also what still comes for the virtual one is taken, and answered from the port's own.
    for to in [own, VIRTUAL_MAC] {
        let (request, reply) = echo(to, own);
        expect(&mut rig, Side::Client, &request, Reason::EchoReplied, &reply);
    }
}

#[test]
fn what_is_for_the_node_is_told_by_its_address() {
    let mut rig = Rig::without_virtual_mac().expect("the rig");
    let (client, server) = (rig.own_mac(Side::Client), rig.own_mac(Side::Server));
    let for_node = Frame::from(&FAR_CLIENT, 4000, (OWN, 22), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    expect_end(&mut rig, Side::Client, &Frame { dst_mac: client, ..for_node.clone() }, Reason::PassHost);
    let of_link: Ipv6Addr = "fe80::1".parse().expect("an address");
    for own in [OWN6, of_link] {
        let frame = Frame6::from(&FAR6, 4000, (own, 22), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
        let bytes = Frame6 { dst_mac: client, ..frame }.bytes();
        assert_eq!(rig.run(Side::Client, &bytes), Run { reason: Reason::PassHost, frame: bytes.clone() });
    }
    // Another host's MAC address is another host's.
    expect_end(&mut rig, Side::Client, &Frame { dst_mac: server, ..for_node }, Reason::PassHost);

    let syn = Frame { dst_mac: client, ..Frame::client(SYN, CLIENT_ISN, 0) };
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[0], 80));
    let answer = Frame { dst_mac: server, ..Frame::server(SYN | ACK, 1, CLIENT_ISN + 1) };
    let to_client = answer.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &to_client);
    let syn = Frame6 { dst_mac: client, ..Frame6::client(SYN, CLIENT_ISN, 0) };
    let run = rig.run(Side::Client, &syn.bytes());
    assert_eq!(run, Run { reason: Reason::ForwardedNew, frame: syn.sent_to(&REALS6[0], 80).bytes() });
}

#[test]
fn a_standby_drops_it_and_a_predecessor_relays_it() {
    let mut rig = Rig::without_virtual_mac().expect("the rig");
    let own = rig.own_mac(Side::Client);
    let syn = Frame { dst_mac: own, ..Frame::client(SYN, CLIENT_ISN, 0) };
    let for_node = Frame { dst_mac: own, ..Frame::from(&FAR_CLIENT, 1, (OWN, 1), L4::Udp) };
    for state in [GateState::Closed, GateState::RelayIn] {
        rig.gate(state, LIFE);
        expect_end(&mut rig, Side::Client, &syn, Reason::DropStandby);
        expect_end(&mut rig, Side::Client, &for_node, Reason::PassHost);
        assert_eq!(rig.run(Side::Client, &request(&GATEWAY, VIP)).reason, Reason::DropArpStandby);
    }
    rig.gate(GateState::RelayOut, LIFE);
    let relayed = Frame { src_mac: relay_mac(2), dst_mac: PEER_MAC, ..syn.clone() };
    expect(&mut rig, Side::Client, &syn, Reason::Relayed, &relayed);
    expect_end(&mut rig, Side::Client, &for_node, Reason::PassHost);
}

#[test]
fn back_at_the_virtual_one_what_still_comes_for_the_ports_own_is_taken() {
    let mut rig = Rig::without_virtual_mac().expect("the rig");
    let own = rig.own_mac(Side::Client);
    rig.use_own_mac(2, false).expect("the maps");
    let reply = arp(ArpOperation::REPLY, GATEWAY.mac, (VIRTUAL_MAC, VIP), (GATEWAY.mac, GATEWAY.ip));
    assert_eq!(
        rig.run(Side::Client, &request(&GATEWAY, VIP)),
        Run { reason: Reason::ArpReplied, frame: reply }
    );
    for to in [own, VIRTUAL_MAC] {
        let (request, reply) = echo(to, VIRTUAL_MAC);
        expect(&mut rig, Side::Client, &request, Reason::EchoReplied, &reply);
    }
    // The other VLAN is as it was, and so is this one again.
    let at_server = rig.own_mac(Side::Server);
    let host = REALS[1];
    let reply = arp(ArpOperation::REPLY, host.mac, (at_server, ALIAS), (host.mac, host.ip));
    assert_eq!(rig.run(Side::Server, &request(&host, ALIAS)).frame, reply);
    rig.use_own_mac(2, true).expect("the maps");
    let (request, reply) = echo(own, own);
    expect(&mut rig, Side::Client, &request, Reason::EchoReplied, &reply);
}
