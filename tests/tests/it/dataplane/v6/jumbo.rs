//! Frames of IPv6 in several buffers.

use std::time::Duration;

use csm_common::counter::Reason;
use csm_common::gate::GateState;
use csm_common::net::{NEXTHOP_TAGGED, relay_mac, tunnel_overhead};
use csm_tests::rig::{PEER_MAC, Rig, Run, Side, set_mtu};
use csm_tests::rig6::{self, FAR6, FIRST6, REALS6, VIP6};

use super::frames::Frame6;
use crate::dataplane::frames::{ACK, CLIENT_ISN, FIN, PSH, SERVER_ISN, SYN};
use crate::dataplane::jumbo::{JUMBO, PAYLOADS};
use crate::dataplane::trunk::tagged;
use crate::dataplane::tunnel::{GUE, tunnelled6, untagged, unwrapped6};

const CLIENT_NEXT: u32 = CLIENT_ISN + 1;
const SERVER_NEXT: u32 = SERVER_ISN.wrapping_add(1);

fn ups(flags: u8, octets: usize) -> Frame6 {
    let payload: Vec<u8> = (0..octets).map(|at| at.to_le_bytes()[0]).collect();
    Frame6::client(flags, CLIENT_NEXT, SERVER_NEXT).payload(&payload)
}

fn wide(rig: Rig, leaves: bool) -> Rig {
    for hop in 0..5 {
        rig6::next_hop(&rig, FIRST6 + hop, |hop| {
            hop.mtu = JUMBO;
            hop.flags = hop.flags & !NEXTHOP_TAGGED | if leaves { NEXTHOP_TAGGED } else { 0 };
        });
    }
    rig
}

/// What a rig's frames have: a tag as they come, and as they leave.
type Tags = (bool, bool);

/// `frame`, which must come out as `out`; a FIN goes the long way.
#[track_caller]
fn cross(rig: &mut Rig, (came, leaves): Tags, from: Side, frame: &Frame6, out: &Frame6) -> Reason {
    let (here, there) = if from == Side::Client { (2, 3) } else { (3, 2) };
    let (frame, out) = (frame.bytes(), out.bytes());
    let run = rig.run(from, &if came { tagged(&frame, here) } else { frame });
    assert_eq!(run.frame, if leaves { tagged(&out, there) } else { out });
    run.reason
}

fn handshake(rig: &mut Rig, tags: Tags) {
    let syn = Frame6::client(SYN, CLIENT_ISN, 0);
    cross(rig, tags, Side::Client, &syn, &syn.clone().sent_to(&REALS6[0], 80));
    let answer = Frame6::server(SYN | ACK, SERVER_ISN, CLIENT_NEXT);
    cross(rig, tags, Side::Server, &answer, &answer.clone().answered_as(VIP6, 80, &FAR6));
    let ack = ups(ACK, 0);
    cross(rig, tags, Side::Client, &ack, &ack.clone().sent_to(&REALS6[0], 80));
}

#[test]
fn long_frames_are_translated_whole_with_tags_and_without() {
    for tags in [(false, false), (true, true), (true, false), (false, true)] {
        let bench = if tags.0 { rig6::on_trunk() } else { rig6::rig() };
        let mut rig = wide(bench.expect("the rig"), tags.1);
        handshake(&mut rig, tags);
        for flags in [PSH | ACK, FIN | ACK] {
            for octets in PAYLOADS.into_iter().chain([usize::from(JUMBO) - 60]) {
                let frame = ups(flags, octets);
                let out = frame.clone().sent_to(&REALS6[0], 80);
                let reason = cross(&mut rig, tags, Side::Client, &frame, &out);
                assert_eq!(reason, Reason::ForwardedFlow, "{octets} octets");
                let back = Frame6::server(flags, SERVER_NEXT, CLIENT_NEXT).payload(&frame.payload);
                let out = back.clone().answered_as(VIP6, 80, &FAR6);
                let reason = cross(&mut rig, tags, Side::Server, &back, &out);
                assert_eq!(reason, Reason::ForwardedFlow, "{octets} octets");
            }
        }
    }
}

#[test]
fn what_is_cut_or_has_no_hop_limit_ends_as_a_short_frame_does() {
    let mut rig = wide(rig6::rig().expect("the rig"), false);
    handshake(&mut rig, (false, false));
    let whole = ups(PSH | ACK, 8000).bytes();
    for missing in [1, 100, 5000] {
        let cut = &whole[..whole.len() - missing];
        let run = rig.run(Side::Client, cut);
        assert_eq!(
            run,
            Run { reason: Reason::DropMalformed, frame: cut.to_vec() },
            "{missing} octets missing"
        );
    }
    let run = rig.run(Side::Client, &Frame6 { hop_limit: 1, ..ups(PSH | ACK, 8900) }.bytes());
    // Of the packet its header and eight octets more.
    assert_eq!((run.reason, run.frame.len()), (Reason::TimeExceeded, 14 + 40 + 8 + 40 + 8));
}

#[test]
fn long_frames_go_inside_of_longer_ones() {
    for (port, trunk) in [(0, false), (GUE, true)] {
        let bench = if trunk { rig6::on_trunk() } else { rig6::rig() };
        let mut rig = tunnelled6(bench.expect("the rig"), port);
        let fits = JUMBO - tunnel_overhead(40, port);
        rig6::next_hop(&rig, FIRST6, |hop| hop.mtu = fits);
        let mut cross = |frame: Frame6| {
            let bytes = frame.bytes();
            let run = rig.run(Side::Client, &if trunk { tagged(&bytes, 2) } else { bytes });
            let inside = Frame6 { hop_limit: frame.hop_limit - 1, ..frame }.bytes()[14..].to_vec();
            (run.reason, run.frame, inside)
        };
        assert_eq!(cross(Frame6::client(SYN, CLIENT_ISN, 0)).0, Reason::ForwardedNew);
        assert_eq!(cross(ups(ACK, 0)).0, Reason::ForwardedFlow);
        let largest = usize::from(fits) - 60;
        for octets in PAYLOADS.into_iter().chain([largest]) {
            let (reason, out, inside) = cross(ups(PSH | ACK, octets));
            assert_eq!(reason, Reason::ForwardedFlow, "{octets} octets by {port}");
            let out = if trunk { untagged(out) } else { out };
            assert_eq!(unwrapped6(&out, port), inside, "{octets} octets");
        }
        assert_eq!(cross(ups(PSH | ACK, largest + 1)).0, Reason::TooBig, "by {port}");
    }
}

#[test]
fn strays_cross_the_ft_vlan_as_far_as_it_takes_them() {
    let mut rig = wide(rig6::rig().expect("the rig"), false);
    handshake(&mut rig, (false, false));
    let life = Duration::from_secs(60);
    for mtu in [JUMBO, 1500] {
        set_mtu("p2", mtu).expect("an MTU");
        let fits = ups(PSH | ACK, usize::from(mtu) - 60);
        let stray = |dst_mac| Frame6 { src_mac: relay_mac(2), dst_mac, ..fits.clone() }.bytes();
        rig.gate(GateState::RelayOut, life);
        let run = rig.run(Side::Client, &fits.bytes());
        assert_eq!(run, Run { reason: Reason::Relayed, frame: stray(PEER_MAC) });
        let long = ups(PSH | ACK, usize::from(mtu) - 59).bytes();
        let run = rig.run(Side::Client, &long);
        assert_eq!(run, Run { reason: Reason::DropRelayTooBig, frame: long });
        rig.gate(GateState::RelayIn, life);
        let run = rig.run(Side::Ft, &stray(rig.own_mac(Side::Ft)));
        let out = Frame6 { src_mac: rig.own_mac(Side::Server), ..fits.clone().sent_to(&REALS6[0], 80) };
        assert_eq!(run, Run { reason: Reason::ForwardedFlow, frame: out.bytes() });
    }
}
