use std::time::Duration;

use aya::maps::{MapData, PerCpuArray};
use csm_common::counter::Reason;
use csm_common::gate::{CLOCK_PACKETS, CLOCK_SLACK_NS, Clock, GateState};
use csm_common::names;
use csm_common::net::relay_mac;
use csm_tests::rig::{FAR_CLIENT, PEER_MAC, REALS, Rig, Run, Side, VIP, VIRTUAL_MAC, now_ns};

use super::frames::{ACK, CLIENT_ISN, Frame, PSH, SERVER_ISN, SYN, expect, expect_end, handshake};

const LIFE: Duration = Duration::from_secs(60);

fn data() -> Frame {
    Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"hello")
}

/// As the predecessor relays it: only the MAC addresses differ.
fn relayed(rig: &Rig, frame: &Frame, vlan: u16) -> Frame {
    Frame { src_mac: relay_mac(vlan), dst_mac: rig.own_mac(Side::Ft), ..frame.clone() }
}

#[test]
fn a_closed_gate_drops_and_an_expired_lease_is_closed() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    for (state, life) in
        [(GateState::Closed, LIFE), (GateState::RelayIn, LIFE), (GateState::Open, Duration::ZERO)]
    {
        rig.gate(state, life);
        expect_end(&mut rig, Side::Client, &data(), Reason::DropStandby);
        expect_end(&mut rig, Side::Client, &Frame::client(SYN, 1, 0), Reason::DropStandby);
    }
    rig.gate(GateState::RelayOut, Duration::ZERO);
    expect_end(&mut rig, Side::Client, &data(), Reason::DropStandby);
    rig.gate(GateState::Open, LIFE);
    expect(&mut rig, Side::Client, &data(), Reason::ForwardedFlow, &data().sent_to(&REALS[0], 80));
}

#[test]
fn the_predecessor_relays_and_forwards_nothing() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    rig.gate(GateState::RelayOut, LIFE);
    for (side, frame, vlan) in [
        (Side::Client, data(), 2),
        (Side::Client, Frame::client(SYN, 1, 0), 2),
        (Side::Server, Frame::server(ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 1), 3),
    ] {
        let out = Frame { src_mac: relay_mac(vlan), dst_mac: PEER_MAC, ..frame.clone() };
        expect(&mut rig, side, &frame, Reason::Relayed, &out);
    }
    // Never back out of the FT VLAN.
    let stray = relayed(&rig, &data(), 2);
    expect_end(&mut rig, Side::Ft, &stray, Reason::DropRelay);
    rig.settings(|settings| settings.peer_mac = [0; 6]);
    expect_end(&mut rig, Side::Client, &data(), Reason::DropRelay);
}

#[test]
fn the_successor_forwards_what_is_relayed() {
    for state in [GateState::RelayIn, GateState::Open] {
        let mut rig = Rig::new().expect("the rig");
        handshake(&mut rig);
        rig.gate(state, LIFE);
        // The virtual MAC is shown to the switches by an open gate only.
        let shown = |side| if state == GateState::Open { VIRTUAL_MAC } else { rig.own_mac(side) };
        let [to_server, to_client] = [Side::Server, Side::Client].map(shown);
        let stray = relayed(&rig, &data(), 2);
        let out = Frame { src_mac: to_server, ..data().sent_to(&REALS[0], 80) };
        expect(&mut rig, Side::Ft, &stray, Reason::ForwardedFlow, &out);
        let answer = Frame::server(ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 6);
        let stray = relayed(&rig, &answer, 3);
        let out = Frame { src_mac: to_client, ..answer.answered_as(VIP, 80, &FAR_CLIENT) };
        expect(&mut rig, Side::Ft, &stray, Reason::ForwardedFlow, &out);
    }
}

#[test]
fn a_first_packet_may_be_relayed_too() {
    let mut rig = Rig::new().expect("the rig");
    rig.gate(GateState::RelayIn, LIFE);
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    let stray = relayed(&rig, &syn, 2);
    let out = Frame { src_mac: rig.own_mac(Side::Server), ..syn.sent_to(&REALS[0], 80) };
    expect(&mut rig, Side::Ft, &stray, Reason::ForwardedNew, &out);
    assert!(rig.flows(names::EMBRYONIC).iter().any(|(key, _)| key.vlan == 2));
}

#[test]
fn only_strays_for_this_node_are_taken_from_the_ft_vlan() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let stray = relayed(&rig, &data(), 2);
    let misdirected = Frame { dst_mac: PEER_MAC, ..stray.clone() };
    expect_end(&mut rig, Side::Ft, &misdirected, Reason::PassHost);
    let ordinary = Frame { src_mac: PEER_MAC, ..stray.clone() };
    expect_end(&mut rig, Side::Ft, &ordinary, Reason::PassHost);
    for vlan in [9, 77, 4095, u16::MAX] {
        let stray = relayed(&rig, &data(), vlan);
        expect_end(&mut rig, Side::Ft, &stray, Reason::DropRelay);
    }
    for (state, life) in [(GateState::Closed, LIFE), (GateState::Open, Duration::ZERO)] {
        rig.gate(state, life);
        expect_end(&mut rig, Side::Ft, &stray, Reason::DropRelay);
    }
}

#[test]
fn the_nodes_own_traffic_passes_whatever_the_gate() {
    let mut rig = Rig::new().expect("the rig");
    for state in [GateState::Closed, GateState::RelayIn, GateState::Open, GateState::RelayOut] {
        rig.gate(state, LIFE);
        let own = Frame { dst_mac: rig.own_mac(Side::Client), ..data() };
        expect_end(&mut rig, Side::Client, &own, Reason::PassHost);
        let ipv6 = {
            let mut bytes = data().bytes();
            bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
            bytes
        };
        let passed = Run { reason: Reason::PassProtocol, frame: ipv6.clone() };
        assert_eq!(rig.run(Side::Client, &ipv6), passed);
        let mut tagged = data().bytes();
        tagged.splice(12..12, [0x81, 0x00, 0x00, 0x02]);
        assert_eq!(rig.run(Side::Client, &tagged), Run { reason: Reason::PassVlan, frame: tagged.clone() });
    }
}

/// The readings of all CPUs but those that took none.
fn readings(rig: &Rig) -> Vec<Clock> {
    let clocks: PerCpuArray<MapData, Clock> = rig.map(names::CLOCKS);
    let clocks = clocks.get(&0, 0).expect("CLOCKS");
    clocks.iter().copied().filter(|clock| clock.now_ns != 0).collect()
}

#[test]
fn a_reading_of_the_clock_serves_a_few_packets_of_one_tick() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0).bytes();
    let mut most = 0;
    for _ in 0..2000 {
        rig.run_on(Side::Client, &syn);
        let served: Vec<_> = readings(&rig).iter().map(|clock| CLOCK_PACKETS - clock.left).collect();
        assert!(served.iter().all(|&served| (1..=CLOCK_PACKETS).contains(&served)), "{served:?}");
        most = most.max(served.into_iter().max().unwrap_or(0));
    }
    assert!(most > 1, "a reading is used more than once");
    let age = now_ns() - readings(&rig).iter().map(|clock| clock.now_ns).max().expect("one");
    assert!(age < 1_000_000_000, "the readings go with the time: {age} ns");
}

#[test]
fn near_its_end_the_lease_is_judged_by_a_clock_read_for_each_packet() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0).bytes();
    for _ in 0..200 {
        rig.gate(GateState::Open, Duration::from_nanos(CLOCK_SLACK_NS / 4));
        let before = now_ns();
        rig.run_on(Side::Client, &syn);
        assert!(readings(&rig).iter().any(|clock| clock.now_ns >= before));
    }
}
