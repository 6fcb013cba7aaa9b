//! The controller's side of IPv6: what the ring tells, and clearing.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::flow::{FLAG_RESET, STATE_CLEARED};
use csm_common::names;
use csm_tests::rig::{Rig, Side};
use csm_tests::rig6::{self, FAR6, FIRST6, REALS6, VIP6};
use csm_user::dataplane::clear::{Nudge, clear};
use csm_user::dataplane::ring::{Change, Delta, DeltaSink, Hint, RingThread};
use csm_user::dataplane::selection::Selection;
use csm_user::dataplane::table::Table;
use csm_user::model::Host;
use etherparse::PacketBuilder;

use super::frames::{Frame6, at, expect_end, handshake};
use crate::dataplane::frames::{ACK, CLIENT_ISN, CLIENT_PORT, L4, PSH, RST, SERVER_ISN, SYN};
use crate::soon::soon;

#[track_caller]
fn is_reset(rig: &mut Rig, side: Side, segment: &Frame6) {
    let L4::Tcp { ack, .. } = segment.l4 else { panic!("TCP") };
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(segment.dst_mac, segment.src_mac)
        .ipv6(segment.dst.ip().octets(), segment.src.ip().octets(), 64)
        .tcp(segment.dst.port(), segment.src.port(), ack, 0)
        .rst()
        .write(&mut bytes, &[])
        .expect("a buildable frame");
    let run = rig.run(side, &segment.bytes());
    assert_eq!((run.reason, run.frame), (Reason::ResetSent, bytes), "{segment:?}");
}

#[test]
fn a_cleared_connection_is_reset_at_both_ends() {
    let mut rig = rig6::rig().expect("the rig");
    handshake(&mut rig);
    let table: Table<V6> = Table::open(&rig.dataplane).expect("the tables");
    let sink: DeltaSink = Arc::new(|_| {});
    let mut nudges = Vec::new();
    let other = Selection { client: Some("2001:db8::1".parse().unwrap()), ..Selection::default() };
    let own = Selection { client: Some(FAR6.ip.into()), ..Selection::default() };
    for (selection, cleared) in [(other, 0), (own, 1)] {
        let mut nudge = |nudge: &Nudge| nudges.push(*nudge);
        let count = clear(&table, &selection, &sink, &mut nudge, &mut |_| ControlFlow::Continue(()));
        assert_eq!(count.expect("cleared"), cleared);
    }
    let [to_server, to_client] = nudges[..] else { panic!("one for each end: {nudges:?}") };
    let (client, server) = (at(FAR6.ip, CLIENT_PORT), at(REALS6[0].ip, 80));
    assert_eq!((to_server.from, to_server.to), (SocketAddr::V6(client), SocketAddr::V6(server)));
    assert_eq!((to_client.from, to_client.to), (SocketAddr::V6(at(VIP6, 80)), SocketAddr::V6(client)));
    assert_eq!((to_server.seq, to_server.nexthop), (CLIENT_ISN, FIRST6));

    let question = Frame6::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(&[7; 900]);
    is_reset(&mut rig, Side::Client, &question);
    is_reset(&mut rig, Side::Server, &Frame6::server(ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 901));
    expect_end(&mut rig, Side::Server, &Frame6::server(RST, 5, 0), Reason::DropCleared);
    let flows = rig6::flows(&rig, names::FLOWS6);
    assert!(flows.len() == 2 && flows.iter().all(|(_, entry)| entry.state == STATE_CLEARED));
    assert!(flows.iter().all(|(_, entry)| entry.flags & FLAG_RESET != 0), "both know");
    let syn = Frame6::client(SYN, 9_000, 0);
    assert_eq!(rig.run(Side::Client, &syn.bytes()).reason, Reason::ForwardedNew, "it may come again");
}

#[test]
fn the_ring_tells_of_both_families() {
    let mut rig = rig6::rig().expect("the rig");
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let (hints, mut hinted) = tokio::sync::mpsc::channel(8);
    let deltas: DeltaSink = Arc::new(move |delta| sink.lock().unwrap().push(delta));
    let thread = RingThread::spawn(&rig.dataplane, deltas, hints).expect("the ring");
    handshake(&mut rig);
    let up = soon("the connection's record", || match told.lock().unwrap()[..] {
        [Delta::V6(Change::Up(connection)), ..] => Some(connection),
        _ => None,
    });
    assert_eq!((up.client_be, up.real_be), (V6::from(FAR6.ip), V6::from(REALS6[0].ip)));
    crate::dataplane::frames::handshake(&mut rig);
    soon("the other family's", || match told.lock().unwrap()[..] {
        [_, Delta::V4(Change::Up(_)), ..] => Some(()),
        _ => None,
    });
    rig6::next_hop(&rig, FIRST6, |hop| hop.flags = 0);
    rig.run(Side::Client, &Frame6::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).bytes());
    let real = Host::on(REALS6[0].ip, 3);
    assert_eq!(hinted.blocking_recv(), Some(Hint::Unresolved(real)));
    assert_eq!(thread.counters.unknown.load(std::sync::atomic::Ordering::Relaxed), 0);
}
