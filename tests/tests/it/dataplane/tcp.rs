use aya::maps::{HashMap, MapData};
use csm_common::counter::{Reason, ServiceCount};
use csm_common::event::{EVENT_CLOSED, EVENT_CONNECTION};
use csm_common::flow::{
    FLAG_FORWARD, FlowEntry, FlowKey, RESET_WINDOW, STATE_CLOSED, STATE_CLOSING, STATE_ESTABLISHED,
    STATE_SYN, STATE_SYN_ACK,
};
use csm_common::names;
use csm_tests::rig::{FAR_CLIENT, REALS, Rig, Side, VIP, WEB, be};

use super::frames::{
    ACK, CLIENT_ISN, CLIENT_PORT, FIN, Frame, L4, PSH, RST, SERVER_ISN, SYN, expect, expect_end, handshake,
};

const CLIENT_NEXT: u32 = CLIENT_ISN + 1;
const SERVER_NEXT: u32 = SERVER_ISN.wrapping_add(1);

fn states(rig: &Rig, table: &'static str) -> Vec<u8> {
    rig.flows(table).iter().map(|(_, entry)| entry.state).collect()
}

#[test]
fn a_handshake_moves_the_pair_to_the_established_table() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[0], 80));
    assert_eq!(states(&rig, names::EMBRYONIC), [STATE_SYN; 2]);
    assert_eq!(rig.events(), []);

    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    assert_eq!(states(&rig, names::FLOWS), [STATE_ESTABLISHED; 2]);
    assert_eq!(states(&rig, names::EMBRYONIC), [0_u8; 0]);
    let events = rig.events();
    let [event] = events[..] else { panic!("one event, not {events:?}") };
    assert_eq!(event.kind, EVENT_CONNECTION);
    let connection = event.connection;
    assert_eq!(
        (connection.client_be, connection.virtual_be, connection.real_be),
        (be(FAR_CLIENT.ip), be(VIP), be(REALS[0].ip))
    );
    assert_eq!(connection.client_port_be, CLIENT_PORT.to_be());
    assert_eq!((connection.virtual_port_be, connection.real_port_be), (80u16.to_be(), 80u16.to_be()));
    assert_eq!((connection.client_vlan, connection.server_vlan), (2, 3));
    assert_eq!((connection.vserver, connection.real, connection.state), (WEB, 0, STATE_ESTABLISHED));
    for (key, entry) in rig.flows(names::FLOWS) {
        assert_eq!(entry.connection(&key), connection);
    }
}

#[test]
fn data_flows_both_ways_and_is_counted() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    for payload in [&b"x"[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 1400]] {
        let request = Frame::client(PSH | ACK, CLIENT_NEXT, SERVER_NEXT).payload(payload);
        expect(
            &mut rig,
            Side::Client,
            &request,
            Reason::ForwardedFlow,
            &request.clone().sent_to(&REALS[0], 80),
        );
        let answer = Frame::server(PSH | ACK, SERVER_NEXT, CLIENT_NEXT).payload(payload);
        expect(
            &mut rig,
            Side::Server,
            &answer,
            Reason::ForwardedFlow,
            &answer.clone().answered_as(VIP, 80, &FAR_CLIENT),
        );
    }
    let data = 3 * 54 + 1 + 18 + 1400;
    let expected = ServiceCount {
        connections: 1,
        client_packets: 5,
        server_packets: 4,
        client_bytes: 2 * 54 + data,
        server_bytes: 54 + data,
    };
    assert_eq!(rig.service_count(names::VSERVER_COUNTS, WEB), expected);
    assert_eq!(rig.service_count(names::REAL_COUNTS, 0), expected);
}

#[test]
fn a_virtual_server_on_any_port_is_matched_second() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::from(&FAR_CLIENT, CLIENT_PORT, (VIP, 8080), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[0], 8080));
}

#[test]
fn a_syn_that_is_sent_again_goes_to_the_same_server() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    let out = syn.clone().sent_to(&REALS[0], 80);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &out);
    for _ in 0..5 {
        expect(&mut rig, Side::Client, &syn, Reason::ForwardedFlow, &out);
    }
}

#[test]
fn only_the_acknowledgement_of_the_servers_number_proves_a_handshake() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[0], 80));
    let early = Frame::client(ACK, CLIENT_NEXT, SERVER_NEXT);
    expect(&mut rig, Side::Client, &early, Reason::ForwardedFlow, &early.clone().sent_to(&REALS[0], 80));
    let syn_ack = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_NEXT);
    let out = syn_ack.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &syn_ack, Reason::ForwardedFlow, &out);
    for wrong in [SERVER_ISN, SERVER_NEXT + 1, 77] {
        let guess = Frame::client(ACK, CLIENT_NEXT, wrong);
        expect(&mut rig, Side::Client, &guess, Reason::ForwardedFlow, &guess.clone().sent_to(&REALS[0], 80));
        assert_eq!(rig.flows(names::FLOWS), []);
    }
    expect(&mut rig, Side::Client, &early, Reason::ForwardedFlow, &early.clone().sent_to(&REALS[0], 80));
    assert_eq!(rig.flows(names::FLOWS).len(), 2);
}

#[test]
fn a_half_open_connection_without_its_other_half_is_absent() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    for (first, removed_forward) in [(0, false), (1, true)] {
        let out = syn.clone().sent_to(&REALS[first], 80);
        expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &out);
        let (key, _) = rig
            .flows(names::EMBRYONIC)
            .into_iter()
            .find(|(_, entry)| (entry.flags & FLAG_FORWARD != 0) == removed_forward)
            .expect("the half to remove");
        let mut table: HashMap<MapData, FlowKey, FlowEntry> = rig.map(names::EMBRYONIC);
        table.remove(&key).expect("remove");
        // Another CPU could be just making it, but not for long.
        for (key, entry) in rig.flows(names::EMBRYONIC) {
            let aged = FlowEntry { last_seen_ns: entry.last_seen_ns - 100_000_000, ..entry };
            table.insert(key, aged, 0).expect("EMBRYONIC");
        }
    }
    // The forward half is gone: what the server says leads nowhere, and takes its own half along.
    let mut syn_ack = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_NEXT);
    syn_ack.src.set_ip(REALS[1].ip);
    expect_end(&mut rig, Side::Server, &syn_ack, Reason::DropNoConnection);
    assert_eq!(rig.flows(names::EMBRYONIC), []);
}

#[test]
fn segments_without_a_connection_are_dropped_silently() {
    let mut rig = Rig::new().expect("the rig");
    for flags in [ACK, PSH | ACK, FIN | ACK, RST, RST | ACK, SYN | ACK, SYN | FIN, SYN | RST, 0] {
        expect_end(&mut rig, Side::Client, &Frame::client(flags, 5, 6), Reason::DropNoConnection);
        expect_end(&mut rig, Side::Server, &Frame::server(flags, 5, 6), Reason::DropNoConnection);
    }
    assert_eq!(rig.flows(names::EMBRYONIC), []);
}

#[test]
fn two_fins_close_and_late_segments_still_pass() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    rig.events();
    let fin = Frame::client(FIN | ACK, CLIENT_NEXT, SERVER_NEXT);
    expect(&mut rig, Side::Client, &fin, Reason::ForwardedFlow, &fin.clone().sent_to(&REALS[0], 80));
    // Its retransmission is no second FIN.
    expect(&mut rig, Side::Client, &fin, Reason::ForwardedFlow, &fin.clone().sent_to(&REALS[0], 80));
    assert_eq!(states(&rig, names::FLOWS), [STATE_CLOSING; 2]);
    assert_eq!(rig.events(), []);
    let fin = Frame::server(FIN | ACK, SERVER_NEXT, CLIENT_NEXT + 1);
    let out = fin.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &fin, Reason::ForwardedFlow, &out);
    assert_eq!(states(&rig, names::FLOWS), [STATE_CLOSED; 2]);
    let events = rig.events();
    let [event] = events[..] else { panic!("one event, not {events:?}") };
    assert_eq!((event.kind, event.connection.state), (EVENT_CLOSED, STATE_CLOSED));
    assert_eq!(event.connection.client_port_be, CLIENT_PORT.to_be());
    let last = Frame::client(ACK, CLIENT_NEXT + 1, SERVER_NEXT + 1);
    expect(&mut rig, Side::Client, &last, Reason::ForwardedFlow, &last.clone().sent_to(&REALS[0], 80));
    assert_eq!(rig.events(), []);
}

#[test]
fn a_fin_counts_though_it_comes_with_the_proof_of_the_handshake() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[0], 80));
    let syn_ack = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_NEXT);
    let out = syn_ack.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &syn_ack, Reason::ForwardedFlow, &out);
    let fin = Frame::client(FIN | ACK, CLIENT_NEXT, SERVER_NEXT);
    expect(&mut rig, Side::Client, &fin, Reason::ForwardedFlow, &fin.clone().sent_to(&REALS[0], 80));
    assert_eq!(states(&rig, names::FLOWS), [STATE_CLOSING; 2]);
    let fin = Frame::server(FIN | ACK, SERVER_NEXT, CLIENT_NEXT + 1);
    let out = fin.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &fin, Reason::ForwardedFlow, &out);
    assert_eq!(rig.events().iter().map(|e| e.kind).collect::<Vec<_>>(), [EVENT_CONNECTION, EVENT_CLOSED]);
}

#[test]
fn a_reset_closes_at_once() {
    for side in [Side::Client, Side::Server] {
        let mut rig = Rig::new().expect("the rig");
        handshake(&mut rig);
        rig.events();
        let (reset, out) = if side == Side::Client {
            let reset = Frame::client(RST, CLIENT_NEXT, 0);
            (reset.clone(), reset.sent_to(&REALS[0], 80))
        } else {
            let reset = Frame::server(RST, SERVER_NEXT, 0);
            (reset.clone(), reset.answered_as(VIP, 80, &FAR_CLIENT))
        };
        expect(&mut rig, side, &reset, Reason::ForwardedFlow, &out);
        assert_eq!(states(&rig, names::FLOWS), [STATE_CLOSED; 2]);
        assert_eq!(rig.events().iter().map(|event| event.kind).collect::<Vec<_>>(), [EVENT_CLOSED]);
        expect(&mut rig, side, &reset, Reason::ForwardedFlow, &out);
        assert_eq!(rig.events(), [], "a second reset is no second end");
    }
}

#[test]
fn a_syn_on_a_closed_entry_starts_anew() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let old = rig.flows(names::FLOWS)[0].1.generation;
    let reset = Frame::client(RST, CLIENT_NEXT, 0);
    expect(&mut rig, Side::Client, &reset, Reason::ForwardedFlow, &reset.clone().sent_to(&REALS[0], 80));
    // The second turn of the predictor: a server of its own choice.
    let syn = Frame::client(SYN, 9_000, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[1], 80));
    assert_eq!(rig.flows(names::FLOWS), []);
    let pair = rig.flows(names::EMBRYONIC);
    assert_eq!(pair.len(), 2);
    assert_eq!(pair[0].1.generation, pair[1].1.generation);
    assert!(pair[0].1.generation.wrapping_sub(old).cast_signed() > 0, "however soon it comes");
}

#[test]
fn a_syn_after_a_refused_one_starts_anew() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[0], 80));
    let refusal = Frame::server(RST | ACK, 0, CLIENT_NEXT);
    let out = refusal.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &refusal, Reason::ForwardedFlow, &out);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[1], 80));
    assert_eq!(rig.events(), []);
}

#[test]
fn a_syn_on_a_live_connection_is_the_servers_to_challenge() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let syn = Frame::client(SYN, 77_777, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedFlow, &syn.clone().sent_to(&REALS[0], 80));
    let challenge = Frame::server(ACK, SERVER_NEXT, CLIENT_NEXT);
    let out = challenge.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &challenge, Reason::ForwardedFlow, &out);
    assert_eq!(states(&rig, names::FLOWS), [STATE_ESTABLISHED; 2]);
}

#[track_caller]
fn resets(rig: &mut Rig, seq: u32) {
    let reset = Frame::client(RST, seq, 0);
    expect(rig, Side::Client, &reset, Reason::ForwardedFlow, &reset.clone().sent_to(&REALS[0], 80));
}

#[test]
fn a_guessed_reset_from_the_client_side_ends_nothing_and_the_server_judges_it() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    rig.events();
    for seq in [CLIENT_NEXT - 1, CLIENT_NEXT + RESET_WINDOW, CLIENT_NEXT ^ 1 << 31, 0] {
        resets(&mut rig, seq);
        assert_eq!(states(&rig, names::FLOWS), [STATE_ESTABLISHED; 2], "{seq}");
    }
    // What the server acknowledges moves the window.
    let later = CLIENT_NEXT + 1_000_000;
    let ack = Frame::server(ACK, SERVER_NEXT, later);
    let out = ack.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &ack, Reason::ForwardedFlow, &out);
    resets(&mut rig, CLIENT_NEXT);
    assert_eq!(states(&rig, names::FLOWS), [STATE_ESTABLISHED; 2]);
    assert_eq!(rig.events(), [], "the peer's replica stays, too");
    // Nor does what another on the client side says for the client.
    let forged = Frame::client(ACK, 5, 5);
    expect(&mut rig, Side::Client, &forged, Reason::ForwardedFlow, &forged.clone().sent_to(&REALS[0], 80));
    resets(&mut rig, 5);
    assert_eq!(states(&rig, names::FLOWS), [STATE_ESTABLISHED; 2]);
    resets(&mut rig, later);
    assert_eq!(states(&rig, names::FLOWS), [STATE_CLOSED; 2]);
    assert_eq!(rig.events().iter().map(|event| event.kind).collect::<Vec<_>>(), [EVENT_CLOSED]);
}

#[test]
fn a_clients_reset_leaves_a_half_open_connection_to_be_proven() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[0], 80));
    resets(&mut rig, 77);
    let syn_ack = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_NEXT);
    let out = syn_ack.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &syn_ack, Reason::ForwardedFlow, &out);
    resets(&mut rig, 77);
    assert_eq!(states(&rig, names::EMBRYONIC), [STATE_SYN_ACK; 2]);
    // Not even one with the right acknowledgement is a proof.
    let reset = Frame::client(RST | ACK, CLIENT_NEXT, SERVER_NEXT);
    expect(&mut rig, Side::Client, &reset, Reason::ForwardedFlow, &reset.clone().sent_to(&REALS[0], 80));
    assert_eq!(rig.flows(names::FLOWS), []);
    let ack = Frame::client(ACK, CLIENT_NEXT, SERVER_NEXT);
    expect(&mut rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().sent_to(&REALS[0], 80));
    assert_eq!(states(&rig, names::FLOWS), [STATE_ESTABLISHED; 2]);
}

#[test]
fn a_syn_on_half_a_connection_takes_nothing_from_the_one_that_has_the_other_half() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    // The way back is a later connection's, from the same client and port to another virtual address.
    let mut flows: HashMap<MapData, FlowKey, FlowEntry> = rig.map(names::FLOWS);
    let back = rig.flows(names::FLOWS).into_iter().find(|(_, entry)| entry.flags & FLAG_FORWARD == 0);
    let (key, entry) = back.expect("a return entry");
    let second = be(std::net::Ipv4Addr::new(192, 158, 38, 31));
    let other = FlowEntry { new_src_be: second, generation: entry.generation.wrapping_add(1), ..entry };
    flows.insert(key, other, 0).expect("FLOWS");
    let syn = Frame::client(SYN, 9_000, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[1], 80));
    let left: Vec<_> =
        rig.flows(names::FLOWS).into_iter().map(|(key, entry)| (key, entry.new_src_be)).collect();
    assert_eq!(left, [(key, second)]);
}
