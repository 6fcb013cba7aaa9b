use std::net::Ipv6Addr;
use std::time::Duration;

use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::event::{EVENT_NEIGHBOUR, EVENT_RIVAL, EVENT_V6};
use csm_common::gate::GateState;
pub(super) use csm_tests::model::near::{ADVERTISEMENT, SOLICITATION};
use csm_tests::rig::{ALIAS, GATEWAY, REALS, Rig, Run, Side, VIP, VIRTUAL_MAC};
use csm_tests::rig6::{self, ALIAS6, FAR6, GATEWAY6, Host6, NEAR6, REALS6, STRANGER6, VIP6};
use etherparse::Icmpv6Type;

use super::frames::{Frame6, icmp};
use crate::dataplane::arp;
use crate::dataplane::frames::SYN;

pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A solicitation or advertisement with the option `kind`, if that is not 0, and its checksum.
pub(super) fn discovery(
    from: &Host6,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    what: (u8, u32),
    target: Ipv6Addr,
    kind: u8,
) -> Vec<u8> {
    let icmp_type = Icmpv6Type::Unknown { type_u8: what.0, code_u8: 0, bytes5to8: what.1.to_be_bytes() };
    let mut body = target.octets().to_vec();
    if kind != 0 {
        body.extend([kind, 1]);
        body.extend(from.mac);
    }
    icmp(from, src, dst, 255, icmp_type, &body)
}

/// As a host asks for `target`, to its solicited-node group.
pub(super) fn asks(from: &Host6, target: Ipv6Addr) -> Vec<u8> {
    let group = V6::from(target).solicited_node();
    let mut frame = discovery(from, from.ip, group.into(), (SOLICITATION, 0), target, 1);
    frame[..6].copy_from_slice(&group.multicast_mac());
    frame
}

/// The group's answer.
pub(super) fn answer(to: &Host6, dst: Ipv6Addr, target: Ipv6Addr, flags: u32) -> Vec<u8> {
    advertisement(VIRTUAL_MAC, to, dst, target, flags)
}

/// The answer to a host that asked, from `mac`.
pub(super) fn answer_from(mac: [u8; 6], to: &Host6, target: Ipv6Addr) -> Vec<u8> {
    advertisement(mac, to, to.ip, target, 0xe000_0000)
}

fn advertisement(mac: [u8; 6], to: &Host6, dst: Ipv6Addr, target: Ipv6Addr, flags: u32) -> Vec<u8> {
    let us = Host6 { mac, ..*to };
    let mut frame = discovery(&us, target, dst, (ADVERTISEMENT, flags), target, 2);
    frame[..6].copy_from_slice(&to.mac);
    frame
}

pub(super) fn told(rig: &mut Rig) -> Vec<(u32, V6, u16, [u8; 6])> {
    rig6::events(rig).iter().map(|event| (event.kind, event.ip_be, event.vlan, event.mac)).collect()
}

#[test]
fn solicitations_for_the_groups_addresses_are_answered_while_open() {
    let mut rig = rig6::rig().expect("the rig");
    for (host, target, side) in [(&NEAR6, VIP6, Side::Client), (&REALS6[0], ALIAS6, Side::Server)] {
        let wanted = answer(host, host.ip, target, 0xe000_0000);
        let run = rig.run(side, &asks(host, target));
        assert_eq!(run, Run { reason: Reason::ArpReplied, frame: wanted.clone() });
        // As a neighbour that looks whether it is still there asks: to its MAC, without an option or with one more.
        let bare = discovery(host, host.ip, target, (SOLICITATION, 0), target, 0);
        assert_eq!(rig.run(side, &bare), Run { reason: Reason::ArpReplied, frame: wanted.clone() });
        let mut longer = asks(host, target);
        longer.extend([14, 1, 1, 2, 3, 4, 5, 6]);
        assert_eq!(rig.run(side, &longer), Run { reason: Reason::ArpReplied, frame: wanted });
    }
    assert_eq!(told(&mut rig), [], "all of them are known");
    let elsewhere = asks(&REALS6[0], VIP6);
    assert_eq!(rig.run(Side::Server, &elsewhere).reason, Reason::PassArp, "not on this VLAN");
    rig.gate(GateState::Closed, Duration::from_secs(60));
    assert_eq!(rig.run(Side::Client, &asks(&NEAR6, VIP6)).reason, Reason::DropArpStandby);
    rig.gate(GateState::RelayOut, Duration::from_secs(60));
    assert_eq!(rig.run(Side::Client, &asks(&NEAR6, VIP6)).reason, Reason::DropArpStandby);
}

/// Promise P5: all addresses of the group, of both families and on both sides, move by one store of one word.
#[test]
fn all_addresses_of_the_group_move_together() {
    let mut rig = rig6::rig().expect("the rig");
    let questions = [
        (Side::Client, arp::request(&GATEWAY, VIP)),
        (Side::Server, arp::request(&REALS[1], ALIAS)),
        (Side::Client, asks(&NEAR6, VIP6)),
        (Side::Server, asks(&REALS6[0], ALIAS6)),
    ];
    let life = Duration::from_secs(60);
    for (state, life, expected) in [
        (GateState::Open, life, Reason::ArpReplied),
        (GateState::Closed, life, Reason::DropArpStandby),
        (GateState::Open, life, Reason::ArpReplied),
        (GateState::RelayOut, life, Reason::DropArpStandby),
        // With the lease the whole word is over.
        (GateState::Open, Duration::ZERO, Reason::DropArpStandby),
    ] {
        rig.gate(state, life);
        for (number, (side, question)) in questions.iter().enumerate() {
            assert_eq!(rig.run(*side, question).reason, expected, "{state:?} for {life:?}: address {number}");
        }
    }
}

#[test]
fn who_wants_one_of_the_groups_addresses_is_a_rival_and_is_told_that_it_is_taken() {
    let mut rig = rig6::rig().expect("the rig");
    let group = V6::from(VIP6).solicited_node();
    let mut probe = discovery(&STRANGER6, Ipv6Addr::UNSPECIFIED, group.into(), (SOLICITATION, 0), VIP6, 0);
    probe[..6].copy_from_slice(&group.multicast_mac());
    let mut to_all = answer(&NEAR6, ALL_NODES, VIP6, 0xa000_0000);
    to_all[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(rig.run(Side::Client, &probe), Run { reason: Reason::ArpReplied, frame: to_all });
    let claim = discovery(&STRANGER6, VIP6, ALL_NODES, (ADVERTISEMENT, 0x2000_0000), VIP6, 2);
    assert_eq!(rig.run(Side::Client, &claim).reason, Reason::PassArp);
    let speaks = discovery(&STRANGER6, VIP6, NEAR6.ip, (SOLICITATION, 0), NEAR6.ip, 1);
    assert_eq!(rig.run(Side::Client, &speaks).reason, Reason::PassArp);
    let rival = (EVENT_RIVAL | EVENT_V6, V6::from(VIP6), 2, STRANGER6.mac);
    assert_eq!(told(&mut rig), [rival; 3]);
    rig.gate(GateState::Closed, Duration::from_secs(60));
    assert_eq!(rig.run(Side::Client, &claim).reason, Reason::PassArp);
    assert_eq!(told(&mut rig), [], "the active node's announcement");
}

#[test]
fn hosts_are_learnt_from_what_they_ask_and_answer() {
    let mut rig = rig6::rig().expect("the rig");
    let other_mac = |host: &Host6| Host6 { mac: [0x02, 1, 2, 3, 4, 5], ..*host };
    let says = |host: &Host6| discovery(host, host.ip, ALL_NODES, (ADVERTISEMENT, 0), host.ip, 2);
    let heard = |host: &Host6| (EVENT_NEIGHBOUR | EVENT_V6, V6::from(host.ip), 2, host.mac);
    let run = |rig: &mut Rig, frame: &[u8]| assert_eq!(rig.run(Side::Client, frame).reason, Reason::PassArp);
    run(&mut rig, &asks(&STRANGER6, NEAR6.ip));
    run(&mut rig, &says(&STRANGER6));
    assert_eq!(told(&mut rig), [heard(&STRANGER6); 2]);
    for host in [NEAR6, GATEWAY6] {
        run(&mut rig, &says(&host));
        assert_eq!(told(&mut rig), [], "known");
        run(&mut rig, &says(&other_mac(&host)));
        assert_eq!(told(&mut rig), [heard(&other_mac(&host))]);
    }
    // From beyond the network, of a link-local address that nobody needs, or not from a neighbour at all: nothing.
    run(&mut rig, &says(&FAR6));
    run(&mut rig, &says(&Host6 { ip: "fe80::77".parse().unwrap(), ..STRANGER6 }));
    let mut far = says(&STRANGER6);
    far[21] = 254;
    run(&mut rig, &far);
    let mut group = says(&STRANGER6);
    group[6] |= 1;
    run(&mut rig, &group);
    run(&mut rig, &discovery(&STRANGER6, STRANGER6.ip, NEAR6.ip, (ADVERTISEMENT, 0), STRANGER6.ip, 1));
    assert_eq!(told(&mut rig), []);
}

#[test]
fn on_a_trunk_tags_come_off_and_go_on() {
    let mut rig = rig6::on_trunk().expect("the rig");
    let tagged = |frame: &[u8], vlan: u8| [&frame[..12], &[0x81, 0, 0, vlan], &frame[12..]].concat();
    let wanted = tagged(&answer(&NEAR6, NEAR6.ip, VIP6, 0xe000_0000), 2);
    let run = rig.run(Side::Client, &tagged(&asks(&NEAR6, VIP6), 2));
    assert_eq!(run, Run { reason: Reason::ArpReplied, frame: wanted });
    let syn = Frame6::client(SYN, 1, 0);
    let frame = tagged(&syn.clone().sent_to(&REALS6[0], 80).bytes(), 3);
    let run = rig.run(Side::Client, &tagged(&syn.bytes(), 2));
    assert_eq!(run, Run { reason: Reason::ForwardedNew, frame });
    let mut own = syn;
    own.dst_mac = rig.own_mac(Side::Client);
    assert_eq!(rig.run(Side::Client, &tagged(&own.bytes(), 2)).reason, Reason::PassHost, "behind the veth");
}

#[test]
fn other_control_messages_are_the_kernels() {
    let mut rig = rig6::rig().expect("the rig");
    let router = Icmpv6Type::Unknown { type_u8: 134, code_u8: 0, bytes5to8: [0; 4] };
    let mut frame = icmp(&GATEWAY6, GATEWAY6.ip, ALL_NODES, 255, router, &[0; 8]);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(rig.run(Side::Client, &frame).reason, Reason::PassHost);
}
