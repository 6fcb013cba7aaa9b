use std::time::Duration;

use aya::programs::TestRunOptions;
use csm_common::counter::Reason;
use csm_common::gate::GateState;
use csm_common::net::relay_mac;
use csm_tests::rig::{ALIAS, FAR_CLIENT, PEER_MAC, REALS, Rig, Run, Side, VIP, VIRTUAL_MAC};

use super::arp::request;
use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, PSH, SERVER_ISN, SYN};

/// Priority 5 and drop eligible in what comes in: the tag that leaves has neither.
const PRIORITY: u16 = 0xb000;

/// `frame` with an 802.1Q tag.
pub(super) fn tagged(frame: &[u8], control: u16) -> Vec<u8> {
    let [high, low] = control.to_be_bytes();
    let mut frame = frame.to_vec();
    frame.splice(12..12, [0x81, 0x00, high, low]);
    frame
}

fn vlan(side: Side) -> u16 {
    [2, 3, 9][side as usize]
}

/// `frame`, tagged as it comes from `side`, ends as `reason` and leaves as `out`, tagged for `to`.
fn expect(rig: &mut Rig, side: Side, frame: &Frame, reason: Reason, to: Side, out: &Frame) {
    let came = tagged(&frame.bytes(), PRIORITY | vlan(side));
    let left = tagged(&out.bytes(), vlan(to));
    assert_eq!(rig.run(side, &came), Run { reason, frame: left }, "{frame:?}");
}

fn handshake(rig: &mut Rig) {
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(rig, Side::Client, &syn, Reason::ForwardedNew, Side::Server, &syn.clone().sent_to(&REALS[0], 80));
    let syn_ack = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    let out = syn_ack.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(rig, Side::Server, &syn_ack, Reason::ForwardedFlow, Side::Client, &out);
    let ack = data();
    expect(rig, Side::Client, &ack, Reason::ForwardedFlow, Side::Server, &ack.clone().sent_to(&REALS[0], 80));
}

fn data() -> Frame {
    Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"hello")
}

#[test]
fn a_connection_goes_from_vlan_to_vlan_on_one_port() {
    let mut rig = Rig::on_trunk().expect("the rig");
    handshake(&mut rig);
}

#[test]
fn answers_of_the_program_itself_are_tagged() {
    let mut rig = Rig::on_trunk().expect("the rig");
    for (side, address) in [(Side::Client, VIP), (Side::Server, ALIAS)] {
        let asker = if side == Side::Client { FAR_CLIENT } else { REALS[0] };
        let ask = request(&asker, address);
        let run = rig.run(side, &tagged(&ask, vlan(side)));
        assert_eq!(run.reason, Reason::ArpReplied);
        assert_eq!(run.frame[..6], asker.mac);
        assert_eq!(run.frame[12..16], [0x81, 0, 0, vlan(side).to_be_bytes()[1]]);
        assert_eq!(run.frame[26..32], VIRTUAL_MAC, "the sender of the reply, behind the tag");
        // On another VLAN of the same port it is nobody's address: the kernel's business.
        let other = if side == Side::Client { Side::Server } else { Side::Client };
        let run = rig.run(other, &tagged(&ask, vlan(other)));
        assert_eq!(run, Run { reason: Reason::PassArp, frame: ask });
    }
    let ping = Frame::from(&FAR_CLIENT, 0, (VIP, 0), L4::EchoRequest { id: 7 });
    let run = rig.run(Side::Client, &tagged(&ping.bytes(), 2));
    let mut pong = Frame::from(&FAR_CLIENT, 0, (VIP, 0), L4::EchoReply { id: 7 });
    (pong.src, pong.dst) = (pong.dst, pong.src);
    (pong.src_mac, pong.dst_mac) = (VIRTUAL_MAC, FAR_CLIENT.mac);
    assert_eq!(run, Run { reason: Reason::EchoReplied, frame: tagged(&pong.bytes(), 2) });
}

#[test]
fn the_kernel_takes_part_through_the_veth_whatever_the_gate() {
    let mut rig = Rig::on_trunk().expect("the rig");
    for state in [GateState::Closed, GateState::Open, GateState::RelayOut] {
        rig.gate(state, Duration::from_secs(60));
        for side in [Side::Client, Side::Server, Side::Ft] {
            let own = Frame { dst_mac: rig.own_mac(side), ..data() }.bytes();
            let run = rig.run(side, &tagged(&own, vlan(side)));
            assert_eq!(run, Run { reason: Reason::PassHost, frame: own.clone() }, "without its tag");
            let run = rig.run_from_kernel(side, &own);
            assert_eq!(run, Run { reason: Reason::ForwardedKernel, frame: tagged(&own, vlan(side)) });
        }
    }
}

/// `frame` as the trunk receives it goes to the node's kernel by the port itself, no octet changed: there is no VLAN whose veth
/// it could be meant for.
#[track_caller]
fn left_alone(rig: &mut Rig, frame: &[u8]) {
    let length = u32::try_from(frame.len()).expect("a frame");
    let context: Vec<u8> =
        [0, length, 0, rig.ports()[0].ifindex, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut out = vec![0; frame.len()];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ctx_in: Some(&context),
        ..TestRunOptions::default()
    };
    let result = rig.dataplane.test_run(options).expect("a test run");
    assert_eq!((result.return_value, result.data_size_out, &out[..]), (2, length, frame));
}

#[test]
fn what_is_not_the_modules_is_left_to_the_kernel_as_it_is() {
    let mut rig = Rig::on_trunk().expect("the rig");
    let frame = data().bytes();
    let untouched = |rig: &mut Rig, frame: Vec<u8>, reason| {
        assert_eq!(rig.run(Side::Client, &frame), Run { reason, frame: frame.clone() });
    };
    for foreign in [1, 4, 4094, 4095] {
        untouched(&mut rig, tagged(&frame, foreign), Reason::PassVlan);
    }
    // Untagged or with a priority only: the native VLAN, which is not the module's here.
    assert_eq!(rig.run(Side::Ft, &tagged(&frame, PRIORITY)).reason, Reason::PassVlan);
    // 802.1ad.
    let mut outer = tagged(&tagged(&frame, 2), 2);
    outer[12..14].copy_from_slice(&[0x88, 0xa8]);
    let mut alone = tagged(&frame, 2);
    alone[12..14].copy_from_slice(&[0x88, 0xa8]);
    for provider in [outer, alone] {
        left_alone(&mut rig, &provider);
        assert_eq!(rig.run_from_kernel(Side::Client, &provider).reason, Reason::ForwardedKernel);
    }
}

#[test]
fn a_priority_tag_is_taken_off_on_an_access_port_and_another_is_not() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    let out = syn.clone().sent_to(&REALS[0], 80).bytes();
    let run = rig.run(Side::Client, &tagged(&syn.bytes(), PRIORITY));
    assert_eq!(run, Run { reason: Reason::ForwardedNew, frame: out });
    let other = tagged(&syn.bytes(), 2);
    assert_eq!(rig.run(Side::Client, &other), Run { reason: Reason::PassVlan, frame: other.clone() });
    let provider = {
        let mut frame = tagged(&syn.bytes(), 2);
        frame[12..14].copy_from_slice(&[0x88, 0xa8]);
        frame
    };
    assert_eq!(
        rig.run(Side::Client, &provider),
        Run { reason: Reason::PassProtocol, frame: provider.clone() }
    );
}

#[test]
fn a_tag_that_is_cut_short_is_malformed() {
    let mut rig = Rig::on_trunk().expect("the rig");
    let whole = tagged(&data().bytes(), 2);
    for length in 14..18 {
        assert_eq!(rig.run(Side::Client, &whole[..length]).reason, Reason::DropMalformed, "{length}");
    }
    for length in 18..whole.len() {
        assert_ne!(rig.run(Side::Client, &whole[..length]).reason, Reason::DropInternal, "{length}");
    }
}

#[test]
fn strays_are_relayed_with_the_tag_of_the_ft_vlan_and_taken_from_it() {
    let mut rig = Rig::on_trunk().expect("the rig");
    handshake(&mut rig);
    rig.gate(GateState::RelayOut, Duration::from_secs(60));
    let out = Frame { src_mac: relay_mac(2), dst_mac: PEER_MAC, ..data() };
    expect(&mut rig, Side::Client, &data(), Reason::Relayed, Side::Ft, &out);
    rig.gate(GateState::RelayIn, Duration::from_secs(60));
    let stray = Frame { src_mac: relay_mac(2), dst_mac: rig.own_mac(Side::Ft), ..data() };
    let out = Frame { src_mac: rig.own_mac(Side::Server), ..data().sent_to(&REALS[0], 80) };
    expect(&mut rig, Side::Ft, &stray, Reason::ForwardedFlow, Side::Server, &out);
    assert_eq!(data().src.port(), CLIENT_PORT);
}
