//! Entries that the controller wrote, as replication does on a standby.

use aya::maps::{HashMap, MapData};
use csm_common::counter::Reason;
use csm_common::flow::{
    Connection, FLAG_REPLICA, FlowEntry, FlowKey, Local, STATE_CLOSED, STATE_ESTABLISHED,
};
use csm_common::names;
use csm_tests::rig::{FAR_CLIENT, REALS, Rig, Side, VIP, WEB, be, now_ns};

use super::frames::{ACK, CLIENT_PORT, FIN, Frame, PSH, RST, expect};

fn replicate(rig: &Rig, last_seen_ns: u64) {
    let connection = Connection {
        client_be: be(FAR_CLIENT.ip),
        virtual_be: be(VIP),
        real_be: be(REALS[0].ip),
        source_be: be(FAR_CLIENT.ip),
        client_port_be: CLIENT_PORT.to_be(),
        virtual_port_be: 80u16.to_be(),
        real_port_be: 80u16.to_be(),
        source_port_be: CLIENT_PORT.to_be(),
        client_vlan: 2,
        server_vlan: 3,
        proto: 6,
        state: STATE_ESTABLISHED,
        via: 0,
        vserver: WEB,
        real: 0,
        generation: 77,
    };
    let local = Local { to_server: 0, to_client: 3, now_ns: last_seen_ns, flags: FLAG_REPLICA, mark: 0 };
    let mut flows: HashMap<MapData, FlowKey, FlowEntry> = rig.map(names::FLOWS);
    flows.insert(connection.forward_key(), connection.forward_entry(&local), 0).expect("FLOWS");
    flows.insert(connection.return_key(), connection.return_entry(&local), 0).expect("FLOWS");
}

#[test]
fn a_replica_goes_on_mid_flow_and_becomes_the_nodes_own() {
    let mut rig = Rig::new().expect("the rig");
    replicate(&rig, now_ns() - 5_000_000_000);
    let data = Frame::client(PSH | ACK, 4_000_000, 5_000_000).payload(b"after the takeover");
    expect(&mut rig, Side::Client, &data, Reason::ForwardedFlow, &data.clone().sent_to(&REALS[0], 80));
    let answer = Frame::server(PSH | ACK, 5_000_000, 4_000_018).payload(b"as if nothing had been");
    let out = answer.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &out);
    for (_, entry) in rig.flows(names::FLOWS) {
        assert_eq!((entry.flags & FLAG_REPLICA, entry.generation), (0, 77));
    }
    assert_eq!(rig.events(), [], "the peer knows it already");
}

#[test]
fn a_replica_that_has_just_come_is_the_nodes_own_from_its_first_packet() {
    let mut rig = Rig::new().expect("the rig");
    replicate(&rig, now_ns());
    let data = Frame::client(PSH | ACK, 4_000_000, 5_000_000).payload(b"at once");
    expect(&mut rig, Side::Client, &data, Reason::ForwardedFlow, &data.clone().sent_to(&REALS[0], 80));
    let used = |(_, entry): &(FlowKey, FlowEntry)| entry.flags & FLAG_REPLICA == 0;
    assert_eq!(
        rig.flows(names::FLOWS).iter().filter(|item| used(item)).count(),
        1,
        "the direction that was used"
    );
}

#[test]
fn the_end_of_a_replica_is_reported() {
    let mut rig = Rig::new().expect("the rig");
    replicate(&rig, now_ns());
    let fin = Frame::client(FIN | ACK, 10, 20);
    expect(&mut rig, Side::Client, &fin, Reason::ForwardedFlow, &fin.clone().sent_to(&REALS[0], 80));
    let fin = Frame::server(FIN | ACK, 20, 11);
    let out = fin.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &fin, Reason::ForwardedFlow, &out);
    let events = rig.events();
    let [event] = events[..] else { panic!("one event, not {events:?}") };
    assert_eq!((event.kind, event.connection.generation), (csm_common::event::EVENT_CLOSED, 77));
}

#[test]
fn a_replica_is_not_reset_before_its_server_has_spoken() {
    let mut rig = Rig::new().expect("the rig");
    replicate(&rig, now_ns());
    let reset = |seq| Frame::client(RST, seq, 0);
    for seq in [0, 1, 10] {
        let out = reset(seq).sent_to(&REALS[0], 80);
        expect(&mut rig, Side::Client, &reset(seq), Reason::ForwardedFlow, &out);
    }
    assert!(rig.flows(names::FLOWS).iter().all(|(_, entry)| entry.state == STATE_ESTABLISHED));
    let answer = Frame::server(ACK, 20, 10);
    let out = answer.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &out);
    expect(&mut rig, Side::Client, &reset(10), Reason::ForwardedFlow, &reset(10).sent_to(&REALS[0], 80));
    assert!(rig.flows(names::FLOWS).iter().all(|(_, entry)| entry.state == STATE_CLOSED));
}
