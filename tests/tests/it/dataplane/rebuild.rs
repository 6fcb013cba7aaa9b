//! Connections that this node does not know, rebuilt from their servers' packets.

use aya::maps::{HashMap, MapData};
use csm_common::counter::Reason;
use csm_common::event::EVENT_CONNECTION;
use csm_common::flow::{FLAG_REPLICATE, NONE, PROOF_WINDOW, STATE_CLOSED, STATE_ESTABLISHED, STATE_SYN_ACK};
use csm_common::names;
use csm_common::net::relay_mac;
use csm_common::service::{
    Match, Origin, VSERVER_FORWARD, VSERVER_INSERVICE, VSERVER_REPLICATE, VSERVER_STATIC, VserverKey,
};
use csm_tests::rig::{ANY_TCP, FAR_CLIENT, REALS, Rig, Side, VIP, WEB, be};

use super::frames::{ACK, CLIENT_PORT, FIN, Frame, L4, PSH, RST, SYN, expect, expect_end, handshake};

/// Where both sides are in the middle of their connection.
const SERVER_SEQ: u32 = u32::MAX - 100;
const CLIENT_SEQ: u32 = 3_000_000;

/// A rig that knows which virtual server the first real's port 80 serves, and no connection.
fn knowing() -> Rig {
    let rig = Rig::new().expect("the rig");
    know(&rig);
    rig
}

/// The first real's port 80 serves the virtual server, and none other.
pub(super) fn know(rig: &Rig) {
    rig.vserver(WEB, |vserver| vserver.flags = VSERVER_INSERVICE | VSERVER_REPLICATE);
    let mut origins: HashMap<MapData, VserverKey, Origin> = rig.map(names::ORIGINS);
    let key = VserverKey { ip_be: be(REALS[0].ip), port_be: 80u16.to_be(), proto: 6, kind: 0 };
    let origin = Origin { virtual_be: be(VIP), port_be: 80u16.to_be(), pad: 0, vserver: WEB, real: 0 };
    origins.insert(key, origin, 0).expect("ORIGINS");
}

fn segment() -> Frame {
    Frame::server(PSH | ACK, SERVER_SEQ, CLIENT_SEQ).payload(b"where were we?")
}

#[track_caller]
fn rebuilt(rig: &mut Rig) {
    let out = segment().answered_as(VIP, 80, &FAR_CLIENT);
    expect(rig, Side::Server, &segment(), Reason::ForwardedRebuilt, &out);
}

#[track_caller]
fn answers(rig: &mut Rig, ack: u32) {
    let answer = Frame::client(ACK, CLIENT_SEQ, ack);
    expect(rig, Side::Client, &answer, Reason::ForwardedFlow, &answer.clone().sent_to(&REALS[0], 80));
}

#[test]
fn a_servers_segment_rebuilds_its_connection_and_the_clients_answer_proves_it() {
    let mut rig = knowing();
    // The client's come to nothing until then, silently: it will send them again.
    let early = Frame::client(PSH | ACK, CLIENT_SEQ, SERVER_SEQ).payload(b"?");
    expect_end(&mut rig, Side::Client, &early, Reason::DropNoConnection);
    rebuilt(&mut rig);
    assert!(rig.flows(names::EMBRYONIC).iter().all(|(_, entry)| entry.state == STATE_SYN_ACK));
    assert_eq!(
        (rig.flows(names::FLOWS).len(), rig.events().len()),
        (0, 0),
        "the server alone proves nothing"
    );
    let out = segment().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &segment(), Reason::ForwardedFlow, &out);
    for guess in [SERVER_SEQ - 1, SERVER_SEQ.wrapping_add(PROOF_WINDOW), SERVER_SEQ ^ 1 << 31] {
        answers(&mut rig, guess);
        assert_eq!(rig.flows(names::FLOWS), []);
    }
    answers(&mut rig, SERVER_SEQ.wrapping_add(14));
    let flows = rig.flows(names::FLOWS);
    assert_eq!((flows.len(), rig.flows(names::EMBRYONIC).len()), (2, 0));
    assert!(
        flows.iter().all(|(_, entry)| entry.state == STATE_ESTABLISHED && entry.flags & FLAG_REPLICATE != 0)
    );
    let events = rig.events();
    let [event] = events[..] else { panic!("one event, not {events:?}") };
    let connection = event.connection;
    assert_eq!((event.kind, connection.vserver, connection.real), (EVENT_CONNECTION, WEB, 0));
    assert_eq!((connection.client_be, connection.virtual_be), (be(FAR_CLIENT.ip), be(VIP)));
    assert_eq!((connection.client_port_be, connection.virtual_port_be), (CLIENT_PORT.to_be(), 80u16.to_be()));
    assert_eq!((connection.client_vlan, connection.server_vlan), (2, 3));
}

#[test]
fn a_servers_second_syn_ack_rebuilds_a_handshake_that_one_number_proves() {
    let mut rig = knowing();
    let syn_ack = Frame::server(SYN | ACK, SERVER_SEQ, CLIENT_SEQ);
    let out = syn_ack.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &syn_ack, Reason::ForwardedRebuilt, &out);
    for guess in [SERVER_SEQ, SERVER_SEQ + 2] {
        answers(&mut rig, guess);
        assert_eq!(rig.flows(names::FLOWS), []);
    }
    answers(&mut rig, SERVER_SEQ + 1);
    let flows = rig.flows(names::FLOWS);
    assert!(flows.len() == 2 && flows.iter().all(|(_, entry)| entry.state == STATE_ESTABLISHED));
}

#[test]
fn an_answer_to_what_the_client_lacked_most_of_all_is_a_proof() {
    let mut rig = knowing();
    rebuilt(&mut rig);
    // One lost segment came again, and the acknowledgement covers all that had waited behind it.
    answers(&mut rig, SERVER_SEQ.wrapping_add(6_000_000));
    assert_eq!(rig.flows(names::FLOWS).len(), 2);
}

#[test]
fn what_answers_nothing_or_ends_or_is_nobodys_rebuilds_nothing() {
    let mut rig = knowing();
    for flags in [RST, RST | ACK, PSH, 0] {
        expect_end(&mut rig, Side::Server, &Frame::server(flags, 5, 6), Reason::DropNoConnection);
    }
    for (host, port) in [(&REALS[0], 8080), (&REALS[1], 80)] {
        let frame =
            Frame::from(host, port, (FAR_CLIENT.ip, CLIENT_PORT), L4::Tcp { flags: ACK, seq: 1, ack: 1 });
        expect_end(&mut rig, Side::Server, &frame, Reason::DropNoConnection);
    }
    // From the client side nobody is a server.
    let forged = Frame { src_mac: FAR_CLIENT.mac, ..segment() };
    assert_ne!(rig.run(Side::Client, &forged.bytes()).reason, Reason::ForwardedRebuilt);
    let stray = Frame { src_mac: relay_mac(3), dst_mac: rig.own_mac(Side::Ft), ..segment() };
    expect_end(&mut rig, Side::Ft, &stray, Reason::DropNoConnection);
    // Another virtual server has this client.
    let mut keys: HashMap<MapData, VserverKey, Match> = rig.map(names::VSERVER_KEYS);
    let key = VserverKey { ip_be: be(VIP), port_be: 80u16.to_be(), proto: 6, kind: 0 };
    keys.insert(key, Match { vserver: ANY_TCP, rules: 0 }, 0).expect("VSERVER_KEYS");
    expect_end(&mut rig, Side::Server, &segment(), Reason::DropNoConnection);
    keys.insert(key, Match { vserver: WEB, rules: 0 }, 0).expect("VSERVER_KEYS");
    rig.vserver(WEB, |vserver| vserver.flags = 0);
    expect_end(&mut rig, Side::Server, &segment(), Reason::DropNoConnection);
    assert_eq!((rig.flows(names::EMBRYONIC).len(), rig.flows(names::FLOWS).len()), (0, 0));
}

#[test]
fn a_later_connection_of_the_client_is_not_disturbed() {
    // Half open, at another real.
    let mut rig = knowing();
    rig.ring(WEB, &[1]);
    let syn = Frame::client(SYN, 9_000, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[1], 80));
    expect_end(&mut rig, Side::Server, &segment(), Reason::DropNoConnection);
    // Proven.
    let from = |flags, seq, ack| {
        Frame::from(&REALS[1], 80, (FAR_CLIENT.ip, CLIENT_PORT), L4::Tcp { flags, seq, ack })
    };
    let syn_ack = from(SYN | ACK, 70, 9_001);
    let out = syn_ack.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &syn_ack, Reason::ForwardedFlow, &out);
    let ack = Frame::client(ACK, 9_001, 71);
    expect(&mut rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().sent_to(&REALS[1], 80));
    assert_eq!(rig.flows(names::FLOWS).len(), 2);
    expect_end(&mut rig, Side::Server, &segment(), Reason::DropNoConnection);
}

#[test]
fn a_handshake_on_a_rebuilt_entry_is_proven_by_one_number_again() {
    let mut rig = knowing();
    rebuilt(&mut rig);
    // The client has begun anew; the server, too, once it has understood.
    let syn = Frame::client(SYN, 9_000, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedFlow, &syn.clone().sent_to(&REALS[0], 80));
    let syn_ack = Frame::server(SYN | ACK, 70, 9_001);
    let out = syn_ack.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &syn_ack, Reason::ForwardedFlow, &out);
    answers(&mut rig, 72);
    assert_eq!(rig.flows(names::FLOWS), []);
    answers(&mut rig, 71);
    assert_eq!(rig.flows(names::FLOWS).len(), 2);
}

#[test]
fn a_server_at_its_end_is_rebuilt_as_such() {
    let mut rig = knowing();
    let fin = Frame::server(FIN | ACK, SERVER_SEQ, CLIENT_SEQ);
    let out = fin.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &fin, Reason::ForwardedRebuilt, &out);
    let last = Frame::client(FIN | ACK, CLIENT_SEQ, SERVER_SEQ + 1);
    expect(&mut rig, Side::Client, &last, Reason::ForwardedFlow, &last.clone().sent_to(&REALS[0], 80));
    let states: Vec<u8> = rig.flows(names::FLOWS).iter().map(|(_, entry)| entry.state).collect();
    assert_eq!(states, [STATE_CLOSED; 2]);
}

#[test]
fn a_known_connection_needs_no_rebuilding() {
    let mut rig = knowing();
    handshake(&mut rig);
    let answer = Frame::server(ACK, super::frames::SERVER_ISN.wrapping_add(1), super::frames::CLIENT_ISN + 1);
    let out = answer.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &out);
}

#[test]
fn a_finished_connection_from_the_same_port_makes_way() {
    let mut rig = knowing();
    rig.ring(WEB, &[1]);
    let from = |flags, seq, ack| {
        Frame::from(&REALS[1], 80, (FAR_CLIENT.ip, CLIENT_PORT), L4::Tcp { flags, seq, ack })
    };
    let syn = Frame::client(SYN, 9_000, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[1], 80));
    for (side, frame) in [
        (Side::Server, from(SYN | ACK, 70, 9_001)),
        (Side::Client, Frame::client(ACK, 9_001, 71)),
        (Side::Server, from(RST, 71, 0)),
    ] {
        assert_eq!(rig.run(side, &frame.bytes()).reason, Reason::ForwardedFlow);
    }
    assert!(rig.flows(names::FLOWS).iter().all(|(_, entry)| entry.state == STATE_CLOSED));
    // The client has begun anew while another node was active, and got another real there.
    rebuilt(&mut rig);
    answers(&mut rig, SERVER_SEQ.wrapping_add(14));
    let flows = rig.flows(names::FLOWS);
    assert!(flows.len() == 2 && flows.iter().all(|(_, entry)| entry.state == STATE_ESTABLISHED));
}

#[test]
fn a_connection_to_a_servers_own_address_is_rebuilt_from_what_the_server_says_unless_its_client_is_hidden() {
    let mut rig = Rig::new().expect("the rig");
    let mut keys: HashMap<MapData, VserverKey, Match> = rig.map(names::VSERVER_KEYS);
    let key = VserverKey { ip_be: be(REALS[1].ip), port_be: 0, proto: 6, kind: 0 };
    keys.insert(key, Match { vserver: 8, rules: 0 }, 0).expect("VSERVER_KEYS");
    let flags = VSERVER_INSERVICE | VSERVER_FORWARD | VSERVER_REPLICATE;
    let to = (REALS[1].ip, 22);
    let back = (FAR_CLIENT.ip, CLIENT_PORT);
    // Its handshake was under way when the role moved: the server says it again.
    let syn_ack = L4::Tcp { flags: SYN | ACK, seq: SERVER_SEQ, ack: CLIENT_SEQ };
    let syn_ack = Frame::from(&REALS[1], 22, back, syn_ack);
    for (flags, pool) in [(flags, 1), (flags | VSERVER_STATIC, 0), (VSERVER_FORWARD, 0)] {
        rig.vserver(8, |vserver| (vserver.flags, vserver.pool) = (flags, pool));
        expect_end(&mut rig, Side::Server, &syn_ack, Reason::DropNoConnection);
    }
    rig.vserver(8, |vserver| (vserver.flags, vserver.pool) = (flags, 0));
    let out = syn_ack.clone().routed_to(&FAR_CLIENT);
    expect(&mut rig, Side::Server, &syn_ack, Reason::ForwardedRebuilt, &out);
    let answer = L4::Tcp { flags: PSH | ACK, seq: CLIENT_SEQ, ack: SERVER_SEQ + 1 };
    let answer = Frame::from(&FAR_CLIENT, CLIENT_PORT, to, answer);
    expect(&mut rig, Side::Client, &answer, Reason::ForwardedFlow, &answer.clone().routed_to(&REALS[1]));
    let flows = rig.flows(names::FLOWS);
    assert!(flows.len() == 2 && flows.iter().all(|(_, entry)| entry.state == STATE_ESTABLISHED));
    let events = rig.events();
    let [event] = events[..] else { panic!("one event, not {events:?}") };
    assert_eq!((event.connection.vserver, event.connection.real), (8, NONE));
    // Another server's address is nobody's.
    let other = Frame::from(&REALS[2], 22, back, L4::Tcp { flags: ACK, seq: 1, ack: 1 });
    expect_end(&mut rig, Side::Server, &other, Reason::DropNoConnection);
}
