//! Extension headers and fragments.

use std::sync::atomic::Ordering;

use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::names;
use csm_tests::rig::{Rig, Run, Side};
use csm_tests::rig6::{self, FAR6, NEAR6, REALS6, VIP6};
use csm_user::dataplane::task::fragments::FragmentThread;

use super::frames::{Frame6, expect, expect_end, handshake};
use crate::dataplane::frames::{ACK, CLIENT_ISN, L4, SERVER_ISN, SYN};
use crate::dataplane::live::Wire;
use crate::soon::soon;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;
/// An options header of 8 octets with padding only, without its first octet.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

/// Options headers of these types, one after the other.
fn options(kinds: &[u8]) -> Option<(u8, Vec<u8>)> {
    let following = kinds[1..].iter().chain([&0]);
    Some((kinds[0], following.flat_map(|&next| [&[next], &PADDING[..]].concat()).collect()))
}

fn with(extensions: Option<(u8, Vec<u8>)>) -> Frame6 {
    Frame6 { extensions, ..Frame6::client(SYN, CLIENT_ISN, 0) }
}

#[test]
fn extension_headers_are_walked_and_left_alone() {
    let mut rig = rig6::rig().expect("the rig");
    for (port, extensions) in [
        (1, options(&[HOP_BY_HOP])),
        (2, options(&[OPTIONS, OPTIONS])),
        (3, options(&[HOP_BY_HOP, OPTIONS, OPTIONS, OPTIONS, OPTIONS, OPTIONS])),
        // A route that is through (type 2, none left), and a fragment that is a whole packet.
        (4, Some((ROUTING, vec![0, 0, 2, 0, 0, 0, 0, 0]))),
        (5, Some((FRAGMENT, vec![0, 0, 0, 0, 1, 2, 3, 4]))),
        (6, Some((FRAGMENT, [&[OPTIONS, 0, 0, 0, 1, 2, 3, 4, 0][..], &PADDING].concat()))),
    ] {
        let mut syn = with(extensions);
        syn.src.set_port(port);
        let real = usize::from(port - 1) % 3;
        expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS6[real], 80));
    }
    handshake(&mut rig);
    let mut data = Frame6::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"abc");
    data.extensions = options(&[HOP_BY_HOP]);
    expect(&mut rig, Side::Client, &data, Reason::ForwardedFlow, &data.clone().sent_to(&REALS6[0], 80));
}

#[test]
fn headers_that_nobody_means_well_with_are_refused() {
    let mut rig = rig6::rig().expect("the rig");
    let malformed = Reason::DropMalformed;
    for (extensions, reason) in [
        // Type 0, and one that has hops left.
        (Some((ROUTING, vec![0, 0, 0, 0, 0, 0, 0, 0])), Reason::DropSourceRoute),
        (Some((ROUTING, vec![0, 0, 4, 1, 0, 0, 0, 0])), Reason::DropSourceRoute),
        (options(&[OPTIONS, HOP_BY_HOP]), malformed),
        (options(&[OPTIONS; 7]), malformed),
        (Some((OPTIONS, [&[0, 31][..], &[0; 254]].concat())), malformed),
        // More headers in a first fragment.
        (Some((FRAGMENT, [&[OPTIONS, 0, 0, 1, 1, 2, 3, 4, 0][..], &PADDING].concat())), Reason::DropFragment),
    ] {
        expect_end(&mut rig, Side::Client, &with(extensions), reason);
    }
    let mut cut = with(options(&[OPTIONS])).bytes();
    cut[55] = 20;
    assert_eq!(rig.run(Side::Client, &cut).reason, malformed, "beyond the packet");
}

/// Pieces of `frame`'s packet: offset and length of each, in the datagram.
fn pieces(frame: &Frame6, id: u32, cuts: &[(usize, usize)]) -> Vec<Vec<u8>> {
    let whole = frame.bytes();
    let (head, datagram) = whole.split_at(54);
    let piece = |&(from, octets): &(usize, usize)| {
        let more = u16::from(from + octets < datagram.len());
        let mut piece = head.to_vec();
        piece[18..20].copy_from_slice(&u16::try_from(8 + octets).unwrap().to_be_bytes());
        let proto = std::mem::replace(&mut piece[20], FRAGMENT);
        piece.extend([proto, 0]);
        piece.extend((u16::try_from(from).unwrap() | more).to_be_bytes());
        piece.extend(id.to_be_bytes());
        piece.extend(&datagram[from..from + octets]);
        piece
    };
    cuts.iter().map(piece).collect()
}

#[track_caller]
fn goes(rig: &mut Rig, side: Side, came: &[u8], reason: Reason, frame: &[u8]) {
    assert_eq!(rig.run(side, came), Run { reason, frame: frame.to_vec() });
}

#[test]
fn fragments_follow_their_first_one() {
    let mut rig = rig6::rig().expect("the rig");
    let cuts = [(0, 64), (64, 64), (128, 30)];
    let question = Frame6::from(&NEAR6, 9, (VIP6, 53), L4::Udp).payload(&[5; 150]);
    let came = pieces(&question, 7, &cuts);
    let sent = pieces(&question.clone().sent_to(&REALS6[0], 5353), 7, &cuts);
    goes(&mut rig, Side::Client, &came[1], Reason::HeldFragment, &came[1]);
    goes(&mut rig, Side::Client, &came[0], Reason::ForwardedNew, &sent[0]);
    goes(&mut rig, Side::Client, &came[2], Reason::ForwardedFragment, &sent[2]);
    goes(&mut rig, Side::Client, &came[1], Reason::ForwardedFragment, &sent[1]);
    assert_eq!(rig6::flows(&rig, names::EMBRYONIC6).len(), 2);
    let answer = Frame6::from(&REALS6[0], 5353, (NEAR6.ip, 9), L4::Udp).payload(&[6; 150]);
    let (came, sent) =
        (pieces(&answer, 8, &cuts), pieces(&answer.clone().answered_as(VIP6, 53, &NEAR6), 8, &cuts));
    goes(&mut rig, Side::Server, &came[0], Reason::ForwardedFlow, &sent[0]);
    goes(&mut rig, Side::Server, &came[1], Reason::ForwardedFragment, &sent[1]);
    let elsewhere = pieces(&answer, 9, &cuts);
    goes(&mut rig, Side::Server, &elsewhere[1], Reason::HeldFragment, &elsewhere[1]);
}

#[test]
fn what_comes_before_its_first_one_waits_and_is_received_once_more() {
    let rig = rig6::rig().expect("the rig");
    let runner = rig.dataplane.runner().expect("the program");
    let thread = FragmentThread::spawn::<V6>(&rig.dataplane, runner).expect("the thread");
    let mut client = Wire::open("p0x").expect("the client's wire");
    let mut server = Wire::open("p1x").expect("the server's wire");
    let cuts = [(0, 64), (64, 64), (128, 30)];
    let question = Frame6::from(&NEAR6, 9, (VIP6, 53), L4::Udp).payload(&[5; 150]);
    for id in 0..10 {
        let came = pieces(&question, id, &cuts);
        let sent = pieces(&question.clone().sent_to(&REALS6[0], 5353), id, &cuts);
        for number in [2, 1, 0] {
            client.send_bytes(&came[number]);
        }
        // In the order in which they came, behind the first.
        for number in [0, 2, 1] {
            server.expect_bytes(&sent[number]);
        }
    }
    let released = soon("the counter", || {
        let released = thread.counters.released.load(Ordering::Relaxed);
        (released == 20).then_some(released)
    });
    assert_eq!((released, thread.counters.refused.load(Ordering::Relaxed)), (20, 0));
}

#[test]
fn fragments_that_no_honest_sender_makes_are_refused() {
    let mut rig = rig6::rig().expect("the rig");
    let question = Frame6::from(&FAR6, 9, (VIP6, 53), L4::Udp).payload(&[5; 150]);
    let came = pieces(&question, 7, &[(0, 64), (56, 64), (64, 60), (64, 0), (0, 60)]);
    assert_eq!(rig.run(Side::Client, &came[0]).reason, Reason::ForwardedNew);
    for refused in &came[1..4] {
        goes(&mut rig, Side::Client, refused, Reason::DropFragment, refused);
    }
    goes(&mut rig, Side::Client, &came[4], Reason::DropFragment, &came[4]);
}
