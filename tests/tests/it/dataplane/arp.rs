use std::net::Ipv4Addr;
use std::time::Duration;

use csm_common::counter::Reason;
use csm_common::event::{EVENT_NEIGHBOUR, EVENT_RIVAL};
use csm_common::gate::GateState;
use csm_tests::rig::{
    ALIAS, GATEWAY, Host, NEAR_CLIENT, REALS, Rig, Run, STRANGER, Side, VIP, VIRTUAL_MAC, be,
};
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};

const LIFE: Duration = Duration::from_secs(60);
const BROADCAST: [u8; 6] = [0xff; 6];

pub(super) fn arp(
    operation: ArpOperation,
    dst_mac: [u8; 6],
    sender: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender.0,
        &sender.1.octets(),
        &target.0,
        &target.1.octets(),
    )
    .expect("an ARP packet");
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(sender.0, dst_mac).arp(packet).write(&mut bytes).expect("a frame");
    bytes
}

pub(super) fn request(from: &Host, target: Ipv4Addr) -> Vec<u8> {
    arp(ArpOperation::REQUEST, BROADCAST, (from.mac, from.ip), ([0; 6], target))
}

#[test]
fn addresses_of_the_group_are_answered_with_the_virtual_mac() {
    let mut rig = Rig::new().expect("the rig");
    for (side, host, address) in [(Side::Client, GATEWAY, VIP), (Side::Server, REALS[1], ALIAS)] {
        let reply = arp(ArpOperation::REPLY, host.mac, (VIRTUAL_MAC, address), (host.mac, host.ip));
        let expected = Run { reason: Reason::ArpReplied, frame: reply };
        assert_eq!(rig.run(side, &request(&host, address)), expected);
        // A host that checks its entry asks the virtual MAC alone.
        let unicast = arp(ArpOperation::REQUEST, VIRTUAL_MAC, (host.mac, host.ip), ([0; 6], address));
        assert_eq!(rig.run(side, &unicast), expected);
    }
    assert_eq!(rig.events(), [], "nobody unknown spoke");
}

#[test]
fn a_request_padded_to_the_ethernet_minimum_is_answered() {
    let mut rig = Rig::new().expect("the rig");
    let mut padded = request(&GATEWAY, VIP);
    padded.resize(60, 0);
    let mut reply = arp(ArpOperation::REPLY, GATEWAY.mac, (VIRTUAL_MAC, VIP), (GATEWAY.mac, GATEWAY.ip));
    reply.resize(60, 0);
    assert_eq!(rig.run(Side::Client, &padded), Run { reason: Reason::ArpReplied, frame: reply });
}

#[test]
fn a_gate_that_is_not_open_answers_nothing() {
    let mut rig = Rig::new().expect("the rig");
    let frame = request(&GATEWAY, VIP);
    for state in [GateState::Closed, GateState::RelayIn, GateState::RelayOut] {
        rig.gate(state, LIFE);
        assert_eq!(
            rig.run(Side::Client, &frame),
            Run { reason: Reason::DropArpStandby, frame: frame.clone() }
        );
    }
    rig.gate(GateState::Open, Duration::ZERO);
    assert_eq!(rig.run(Side::Client, &frame), Run { reason: Reason::DropArpStandby, frame: frame.clone() });
}

#[test]
fn other_arp_is_the_kernels() {
    let mut rig = Rig::new().expect("the rig");
    let own = Ipv4Addr::new(192, 158, 38, 10);
    for (side, frame) in [
        (Side::Client, request(&GATEWAY, own)),
        // The alias is an address of the server VLAN, not of this one.
        (Side::Client, request(&GATEWAY, ALIAS)),
        (Side::Client, arp(ArpOperation::REPLY, [2; 6], (GATEWAY.mac, GATEWAY.ip), ([2; 6], own))),
        (Side::Client, arp(ArpOperation::REPLY, [2; 6], (GATEWAY.mac, GATEWAY.ip), ([2; 6], VIP))),
        (Side::Ft, request(&GATEWAY, VIP)),
    ] {
        assert_eq!(rig.run(side, &frame), Run { reason: Reason::PassArp, frame: frame.clone() });
    }
    let mut token_ring = request(&GATEWAY, VIP);
    token_ring[15] = 6;
    assert_eq!(rig.run(Side::Client, &token_ring).reason, Reason::PassArp);
    assert_eq!(rig.events(), []);
}

#[test]
fn unknown_hosts_and_changed_addresses_are_reported() {
    for state in [GateState::Open, GateState::Closed] {
        let mut rig = Rig::new().expect("the rig");
        rig.gate(state, LIFE);
        let moved = Host { mac: [0x02, 0xaa, 0, 0, 0, 1], ..NEAR_CLIENT };
        let elsewhere = Host { ip: Ipv4Addr::new(172, 16, 0, 1), ..STRANGER };
        let unset = Host { ip: Ipv4Addr::UNSPECIFIED, ..STRANGER };
        for host in [STRANGER, moved, elsewhere, unset, NEAR_CLIENT, REALS[0]] {
            rig.run(Side::Client, &request(&host, Ipv4Addr::new(192, 158, 38, 10)));
        }
        let told: Vec<_> = rig.events().iter().map(|e| (e.kind, e.ip_be, e.vlan, e.mac)).collect();
        let expected = [STRANGER, moved].map(|host| (EVENT_NEIGHBOUR, be(host.ip), 2, host.mac));
        assert_eq!(told, expected);
    }
}

#[test]
fn a_rival_is_reported_while_the_gate_is_open() {
    let mut rig = Rig::new().expect("the rig");
    let rival = [0x02, 0xbb, 0, 0, 0, 1];
    let announcements = [
        arp(ArpOperation::REQUEST, BROADCAST, (rival, VIP), ([0; 6], VIP)),
        arp(ArpOperation::REPLY, BROADCAST, (rival, VIP), (BROADCAST, VIP)),
    ];
    for frame in &announcements {
        assert_eq!(rig.run(Side::Client, frame), Run { reason: Reason::PassArp, frame: frame.clone() });
    }
    let told: Vec<_> = rig.events().iter().map(|e| (e.kind, e.ip_be, e.vlan, e.mac)).collect();
    assert_eq!(told, [(EVENT_RIVAL, be(VIP), 2, rival); 2]);
    rig.gate(GateState::Closed, LIFE);
    for frame in &announcements {
        assert_eq!(rig.run(Side::Client, frame).reason, Reason::PassArp);
    }
    assert_eq!(rig.events(), [], "to a standby it is the active node's word");
}

#[test]
fn who_gives_a_group_address_as_its_mac_is_not_answered() {
    let mut rig = Rig::new().expect("the rig");
    for mac in [BROADCAST, [0x01, 0, 0x5e, 0, 0, 1]] {
        let frame = arp(ArpOperation::REQUEST, VIRTUAL_MAC, (mac, GATEWAY.ip), ([0; 6], VIP));
        assert_eq!(rig.run(Side::Client, &frame), Run { reason: Reason::PassArp, frame: frame.clone() });
        let stranger = arp(ArpOperation::REQUEST, BROADCAST, (mac, STRANGER.ip), ([0; 6], GATEWAY.ip));
        assert_eq!(rig.run(Side::Client, &stranger).reason, Reason::PassArp);
    }
    assert_eq!(rig.events(), [], "and is nobody's neighbour");
}
