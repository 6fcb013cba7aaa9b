use csm_common::counter::Reason;
use csm_common::event::{Drain, EVENT_CONNECTION, EVENT_NEIGHBOUR, Lost, STALL_NS};
use csm_common::flow::STATE_ESTABLISHED;
use csm_common::limits::{EVENT_RING_BYTES, EVENT_RING_RESERVE};
use csm_common::names;
use csm_common::service::VSERVER_REPLICATE;
use csm_tests::rig::{FAR_CLIENT, REALS, Rig, SMALL, STRANGER, Side, VIP, WEB, now_ns};
use csm_user::dataplane::load::Capacity;

use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, SERVER_ISN, SYN, expect, handshake};
use crate::soon::soon;

#[test]
fn the_verifier_walks_far_less_than_its_limit() {
    let mut rig = Rig::with_capacity(Capacity { ipv6: true, router: true, ..SMALL }).expect("the rig");
    let _tracer = rig.dataplane.tracer().expect("a traced form that the verifier takes");
    for form in [
        names::PROGRAM,
        names::PROGRAM_OPEN,
        names::PROGRAM_TRACED,
        names::PROGRAM_TOLD,
        names::PROGRAM6,
        names::PROGRAM6_OPEN,
        names::PROGRAM6_TRACED,
        names::PROGRAM6_TOLD,
        names::PROGRAM_ROUTER,
        names::PROGRAM_INSIDE,
        names::PROGRAM6_ROUTER,
        names::PROGRAM6_INSIDE,
    ] {
        let walked = rig.dataplane.verified_instructions(form).expect("a kernel that tells (5.16)");
        println!("verified instructions of {form}: {walked}");
        // The kernel's limit is 1,000,000; older verifiers prune less.
        assert!(walked < 200_000, "{form}: {walked}");
    }
}

#[test]
fn a_full_table_refuses_new_connections_and_keeps_the_old() {
    let mut rig = Rig::with_capacity(Capacity { connections: 2, embryonic: 1024, sticky: 1, ..SMALL })
        .expect("the rig");
    let (mut proven, mut refused) = (Vec::new(), 0);
    for port in 1..=40u16 {
        let question = Frame::from(&FAR_CLIENT, port, (VIP, 53), L4::Udp);
        let real = usize::from(port - 1) % 3;
        let out = question.clone().sent_to(&REALS[real], 5353);
        expect(&mut rig, Side::Client, &question, Reason::ForwardedNew, &out);
        let answer = Frame::from(&REALS[real], 5353, (FAR_CLIENT.ip, port), L4::Udp);
        assert_eq!(rig.run(Side::Server, &answer.bytes()).reason, Reason::ForwardedFlow);
        match rig.run(Side::Client, &question.bytes()).reason {
            Reason::ForwardedFlow => proven.push((question, out)),
            Reason::DropTableFull => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(!proven.is_empty() && refused > 0, "{} proven, {refused} refused", proven.len());
    let flows = rig.flows(names::FLOWS);
    assert_eq!(flows.len(), 2 * proven.len(), "whole pairs only");
    assert!(flows.iter().all(|(_, entry)| entry.state == STATE_ESTABLISHED));
    for (question, out) in &proven {
        expect(&mut rig, Side::Client, question, Reason::ForwardedFlow, out);
    }
    assert_eq!(
        rig.service_count(names::VSERVER_COUNTS, csm_tests::rig::DNS).connections,
        proven.len() as u64
    );
}

#[test]
fn a_controller_that_reads_nothing_gets_no_new_connection_to_replicate() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_REPLICATE);
    handshake(&mut rig);
    // The record of it waits from here on. What is on its way goes on all the same.
    let first = |port| Frame::from(&FAR_CLIENT, port, (VIP, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    let mut port = 1;
    soon("a refusal", || {
        port += 1;
        let reason = rig.run(Side::Client, &first(port).bytes()).reason;
        assert!(matches!(reason, Reason::ForwardedNew | Reason::DropStalled), "{reason:?}");
        (reason == Reason::DropStalled).then_some(())
    });
    let ack = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    assert_eq!(rig.run(Side::Client, &ack.bytes()).reason, Reason::ForwardedFlow);
    let question = Frame::from(&FAR_CLIENT, 1, (VIP, 53), L4::Udp);
    assert_eq!(rig.run(Side::Client, &question.bytes()).reason, Reason::ForwardedNew);
    rig.vserver(WEB, |vserver| vserver.flags &= !VSERVER_REPLICATE);
    assert_eq!(rig.run(Side::Client, &first(60_000).bytes()).reason, Reason::ForwardedNew, "nobody is told");
    rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_REPLICATE);

    assert_eq!(rig.events().len(), 1);
    assert_eq!(rig.run(Side::Client, &first(port).bytes()).reason, Reason::ForwardedNew, "it reads again");
}

#[test]
fn records_may_wait_for_a_controller_that_is_replaced() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_REPLICATE);
    handshake(&mut rig);
    let hold =
        |rig: &Rig, until| rig.change(names::DRAIN, 0, |drain: &mut Drain| drain.held_until_ns = until);
    let first = |port| Frame::from(&FAR_CLIENT, port, (VIP, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    let begin = now_ns();
    hold(&rig, u64::MAX);
    let mut port = 1;
    soon("a long wait", || {
        port += 1;
        assert_eq!(rig.run(Side::Client, &first(port).bytes()).reason, Reason::ForwardedNew);
        (now_ns() > begin + 3 * STALL_NS).then_some(())
    });
    hold(&rig, now_ns());
    soon("a refusal", || {
        port += 1;
        (rig.run(Side::Client, &first(port).bytes()).reason == Reason::DropStalled).then_some(())
    });
}

#[test]
fn a_record_that_has_just_come_is_no_sign_of_a_stall_however_long_nobody_looked() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_REPLICATE);
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    assert_eq!(rig.run(Side::Client, &syn.bytes()).reason, Reason::ForwardedNew);
    let syn_ack = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    assert_eq!(rig.run(Side::Server, &syn_ack.bytes()).reason, Reason::ForwardedFlow);
    let first = now_ns();
    soon("a long round trip", || (now_ns() > first + 2 * STALL_NS).then_some(()));
    let ack = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    assert_eq!(rig.run(Side::Client, &ack.bytes()).reason, Reason::ForwardedFlow);
    let next = Frame::from(&FAR_CLIENT, 2, (VIP, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    assert_eq!(rig.run(Side::Client, &next.bytes()).reason, Reason::ForwardedNew);
}

#[test]
fn a_flood_of_first_packets_makes_no_table_grow_and_hurts_no_connection() {
    let mut rig =
        Rig::with_capacity(Capacity { connections: 8, embryonic: 128, sticky: 8, ..SMALL }).expect("the rig");
    handshake(&mut rig);
    for port in 1..5_000u16 {
        let flood = Frame::from(&FAR_CLIENT, port, (VIP, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
        assert_eq!(rig.run(Side::Client, &flood.bytes()).reason, Reason::ForwardedNew);
    }
    assert!(rig.flows(names::EMBRYONIC).len() <= 2 * 128);
    assert_eq!(rig.flows(names::FLOWS).len(), 2);
    let data = Frame::client(ACK, CLIENT_ISN + 1, 0);
    expect(&mut rig, Side::Client, &data, Reason::ForwardedFlow, &data.clone().sent_to(&REALS[0], 80));
}

#[test]
fn hints_leave_room_for_what_replication_needs() {
    let mut rig = Rig::new().expect("the rig");
    // A stranger's ARP, over and over, until the program stops reporting it.
    let mut frame = vec![0xff; 6];
    frame.extend(STRANGER.mac);
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(STRANGER.mac);
    frame.extend(STRANGER.ip.octets());
    frame.extend([0, 0, 0, 0, 0, 0, 192, 158, 38, 10]);
    let record = 96; // 88 bytes and the ring's own header
    for _ in 0..=(EVENT_RING_BYTES - EVENT_RING_RESERVE) / record {
        assert_eq!(rig.run(Side::Client, &frame).reason, Reason::PassArp);
    }
    assert_eq!(rig.lost(Lost::Hint), 0);
    assert_eq!(rig.run(Side::Client, &frame).reason, Reason::PassArp);
    assert_eq!(rig.lost(Lost::Hint), 1);
    handshake(&mut rig);
    assert_eq!((rig.lost(Lost::Table), rig.lost(Lost::Hint)), (0, 1));
    let events = rig.events();
    assert_eq!(events.first().map(|event| event.kind), Some(EVENT_NEIGHBOUR));
    assert_eq!(events.last().map(|event| event.kind), Some(EVENT_CONNECTION));
    assert_eq!(events.last().map(|event| event.connection.client_port_be), Some(CLIENT_PORT.to_be()));
}
