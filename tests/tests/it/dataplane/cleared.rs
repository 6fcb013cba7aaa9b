//! Connections cleared by hand: each end hears of it by a reset that it believes.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use csm_common::counter::Reason;
use csm_common::flow::{FLAG_RESET, STATE_CLEARED, STATE_SYN};
use csm_common::names;
use csm_tests::rig::{FAR_CLIENT, REALS, Rig, Side, VIP, WEB, be};
use csm_user::dataplane::clear::{Nudge, clear};
use csm_user::dataplane::ring::{Change, Delta, DeltaSink};
use csm_user::dataplane::selection::Selection;
use csm_user::dataplane::table::Table;
use etherparse::PacketBuilder;

use super::frames::{
    ACK, CLIENT_ISN, CLIENT_PORT, FIN, Frame, L4, PSH, RST, SERVER_ISN, SYN, expect, expect_end, handshake,
};
use super::rebuild::know;

/// Clears what `selection` takes; how many, what the peer was told, and what was to be sent.
fn cleared(rig: &Rig, selection: &Selection) -> (u64, Vec<Delta>, Vec<Nudge>) {
    let (told, mut nudges) = (Arc::new(Mutex::new(Vec::new())), Vec::new());
    let sink = Arc::clone(&told);
    let sink: DeltaSink = Arc::new(move |delta| sink.lock().unwrap().push(delta));
    let table: Table = Table::open(&rig.dataplane).expect("the tables");
    let mut nudge = |nudge: &Nudge| nudges.push(*nudge);
    let mut rest = |_| ControlFlow::Continue(());
    let count = clear(&table, selection, &sink, &mut nudge, &mut rest).expect("cleared");
    let told = told.lock().unwrap().clone();
    (count, told, nudges)
}

/// The reset that answers `segment`.
fn reset(segment: &Frame) -> Vec<u8> {
    let L4::Tcp { ack, .. } = segment.l4 else { panic!("TCP") };
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(segment.dst_mac, segment.src_mac)
        .ipv4(segment.dst.ip().octets(), segment.src.ip().octets(), 64)
        .tcp(segment.dst.port(), segment.src.port(), ack, 0)
        .rst()
        .write(&mut bytes, &[])
        .expect("a buildable frame");
    bytes
}

#[track_caller]
fn is_reset(rig: &mut Rig, side: Side, segment: &Frame) {
    let run = rig.run(side, &segment.bytes());
    assert_eq!((run.reason, run.frame), (Reason::ResetSent, reset(segment)), "{segment:?}");
}

#[test]
fn each_ends_next_segment_is_answered_with_a_reset_made_of_it() {
    let mut rig = Rig::new().expect("the rig");
    know(&rig);
    handshake(&mut rig);
    let (count, told, nudges) = cleared(&rig, &Selection::default());
    assert_eq!(count, 1);
    let [Delta::V4(Change::Closed(connection))] = told[..] else { panic!("the peer hears of it: {told:?}") };
    // The server has acknowledged the client's SYN, which is all that is known of where either stands.
    assert_eq!(connection.client_be, be(FAR_CLIENT.ip));
    let end = |ip: Ipv4Addr, port| SocketAddr::new(ip.into(), port);
    let (client, server) = (end(FAR_CLIENT.ip, CLIENT_PORT), end(REALS[0].ip, 80));
    let to_server = Nudge { from: client, to: server, nexthop: 0, seq: CLIENT_ISN };
    let to_client = Nudge { from: end(VIP, 80), to: client, nexthop: 3, seq: 0 };
    assert_eq!(nudges, [to_server, to_client]);

    let question = Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(&[7; 900]);
    let answer = Frame::server(PSH | ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 901).payload(b"well");
    for _ in 0..2 {
        is_reset(&mut rig, Side::Client, &question);
        is_reset(&mut rig, Side::Server, &answer);
        is_reset(&mut rig, Side::Server, &Frame::server(FIN | ACK, SERVER_ISN.wrapping_add(5), CLIENT_ISN));
    }
    let flows = rig.flows(names::FLOWS);
    assert!(flows.len() == 2 && flows.iter().all(|(_, entry)| entry.state == STATE_CLEARED));
    assert!(flows.iter().all(|(_, entry)| entry.flags & FLAG_RESET != 0), "both know");
    assert_eq!(rig.flows(names::EMBRYONIC), [], "a server's segment does not bring it back");
    assert_eq!(cleared(&rig, &Selection::default()).0, 0, "it is cleared already");
}

#[test]
fn a_reset_is_answered_by_nothing_and_a_syn_starts_anew() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    cleared(&rig, &Selection::default());
    expect_end(&mut rig, Side::Server, &Frame::server(RST, 5, 0), Reason::DropCleared);
    expect_end(&mut rig, Side::Client, &Frame::client(PSH, 5, 0), Reason::DropCleared);
    let told: Vec<bool> =
        rig.flows(names::FLOWS).iter().map(|(_, entry)| entry.flags & FLAG_RESET != 0).collect();
    assert_eq!(told.iter().filter(|&&told| told).count(), 1, "the server knows");
    let syn = Frame::client(SYN, 9_000, 0);
    rig.ring(WEB, &[1]);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[1], 80));
    assert_eq!((rig.flows(names::FLOWS).len(), rig.flows(names::EMBRYONIC).len()), (0, 2));
}

#[test]
fn a_half_open_connection_is_refused_to_its_server() {
    let mut rig = Rig::new().expect("the rig");
    know(&rig);
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[0], 80));
    let (count, told, nudges) = cleared(&rig, &Selection::default());
    assert_eq!((count, told.len(), nudges.len()), (1, 0, 2), "the peer has never heard of it");
    is_reset(&mut rig, Side::Server, &Frame::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1));
    is_reset(&mut rig, Side::Client, &Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)));
    assert_eq!(rig.flows(names::FLOWS), []);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[1], 80));
    assert!(rig.flows(names::EMBRYONIC).iter().all(|(_, entry)| entry.state == STATE_SYN));
}

#[test]
fn what_has_no_resets_is_deleted_and_what_is_not_meant_stays() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let question = Frame::from(&FAR_CLIENT, 5_000, (VIP, 53), L4::Udp).payload(b"?");
    assert_eq!(rig.run(Side::Client, &question.bytes()).reason, Reason::ForwardedNew);
    let other = Selection { vservers: Some([WEB + 1].into()), ..Selection::default() };
    let (count, _, nudges) = cleared(&rig, &other);
    assert_eq!((count, nudges.len()), (1, 0));
    assert_eq!((rig.flows(names::EMBRYONIC).len(), rig.flows(names::FLOWS).len()), (0, 2));
    let ack = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    expect(&mut rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().sent_to(&REALS[0], 80));
}

#[test]
fn an_error_about_a_cleared_connections_packet_has_nowhere_to_go() {
    let mut rig = Rig::new().expect("the rig");
    know(&rig);
    handshake(&mut rig);
    let sent = Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).sent_to(&REALS[0], 80);
    let mut error = Vec::new();
    PacketBuilder::ethernet2(REALS[0].mac, csm_tests::rig::VIRTUAL_MAC)
        .ipv4(REALS[0].ip.octets(), FAR_CLIENT.ip.octets(), 64)
        .icmpv4_raw(3, 3, [0; 4])
        .write(&mut error, &sent.bytes()[14..])
        .expect("a buildable frame");
    assert_eq!(rig.run(Side::Server, &error).reason, Reason::ForwardedIcmp);
    cleared(&rig, &Selection::default());
    assert_eq!(rig.run(Side::Server, &error).reason, Reason::DropCleared);
}
