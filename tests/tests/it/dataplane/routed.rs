use std::net::Ipv4Addr;

use csm_common::counter::Reason;
use csm_common::event::{EVENT_CONNECTION, EVENT_HANDSHAKE, EVENT_UNRESOLVED};
use csm_common::flow::NONE;
use csm_common::names;
use csm_tests::rig::{ALIAS, FAR_CLIENT, NEAR_CLIENT, REALS, Rig, STRANGER, Side, VIP, be};

use super::frames::{ACK, Frame, L4, SYN, expect, expect_end};

const fn tcp(flags: u8, seq: u32, ack: u32) -> L4 {
    L4::Tcp { flags, seq, ack }
}

#[test]
fn a_server_opens_tcp_to_the_client_side_untranslated() {
    let mut rig = Rig::new().expect("the rig");
    let server = &REALS[0];
    let out = |l4| Frame::from(server, 50_000, (FAR_CLIENT.ip, 443), l4);
    let back = |l4| Frame::from(&FAR_CLIENT, 443, (server.ip, 50_000), l4);
    for (side, frame, to) in [
        (Side::Server, out(tcp(SYN, 10, 0)), &FAR_CLIENT),
        (Side::Client, back(tcp(SYN | ACK, 20, 11)), server),
        (Side::Server, out(tcp(ACK, 11, 21)), &FAR_CLIENT),
        (Side::Server, out(tcp(ACK, 11, 21)).payload(b"hello"), &FAR_CLIENT),
        (Side::Client, back(tcp(ACK, 21, 16)).payload(b"hello yourself"), server),
    ] {
        expect(&mut rig, side, &frame, Reason::ForwardedRouted, &frame.clone().routed_to(to));
    }
    assert_eq!(rig.flows(names::FLOWS).len(), 2);
    let events = rig.events();
    // Whose it is nobody's packets tell: the peer hears of it from the answer on.
    let [answered, proven] = events[..] else { panic!("two events, not {events:?}") };
    assert_eq!((answered.kind, answered.expect_ack, proven.kind), (EVENT_HANDSHAKE, 21, EVENT_CONNECTION));
    for connection in [answered.connection, proven.connection] {
        assert_eq!((connection.vserver, connection.real), (NONE, NONE));
    }
    assert_eq!(rig.service_count(names::VSERVER_COUNTS, 0), csm_common::counter::ServiceCount::default());
}

#[test]
fn datagrams_and_pings_of_a_server_come_back() {
    let mut rig = Rig::new().expect("the rig");
    let (server, client) = (&REALS[1], &NEAR_CLIENT);
    for (there, back, ports) in
        [(L4::Udp, L4::Udp, (123, 124)), (L4::EchoRequest { id: 7 }, L4::EchoReply { id: 7 }, (0, 0))]
    {
        let question = Frame::from(server, ports.0, (client.ip, ports.1), there).payload(b"?");
        let answer = Frame::from(client, ports.1, (server.ip, ports.0), back).payload(b"!");
        for _ in 0..2 {
            let out = question.clone().routed_to(client);
            expect(&mut rig, Side::Server, &question, Reason::ForwardedRouted, &out);
            let out = answer.clone().routed_to(server);
            expect(&mut rig, Side::Client, &answer, Reason::ForwardedRouted, &out);
        }
    }
    assert_eq!(rig.flows(names::FLOWS).len(), 4);
}

#[test]
fn clients_do_not_reach_servers_directly() {
    let mut rig = Rig::new().expect("the rig");
    for l4 in [tcp(SYN, 1, 0), tcp(ACK, 1, 1), L4::Udp, L4::EchoRequest { id: 1 }, L4::EchoReply { id: 1 }] {
        let frame = Frame::from(&FAR_CLIENT, 1000, (REALS[0].ip, 80), l4);
        expect_end(&mut rig, Side::Client, &frame, Reason::DropDirect);
    }
    assert_eq!(rig.flows(names::EMBRYONIC), []);
}

#[test]
fn what_leads_nowhere_has_its_reason() {
    let mut rig = Rig::new().expect("the rig");
    let server = &REALS[0];
    let elsewhere = Ipv4Addr::new(172, 16, 0, 1);
    for (side, frame, reason) in [
        (Side::Server, Frame::from(server, 1, (elsewhere, 80), tcp(SYN, 1, 0)), Reason::DropNoRoute),
        (Side::Server, Frame::from(server, 1, (REALS[1].ip, 80), tcp(SYN, 1, 0)), Reason::DropNoRoute),
        (
            Side::Client,
            Frame::from(&NEAR_CLIENT, 1, (FAR_CLIENT.ip, 80), tcp(SYN, 1, 0)),
            Reason::DropNoRoute,
        ),
        (Side::Server, Frame::from(server, 1, (ALIAS, 80), tcp(SYN, 1, 0)), Reason::DropNoVserver),
        (Side::Server, Frame::from(server, 1, (VIP, 9), L4::Udp), Reason::DropNoVserver),
        (Side::Server, Frame::from(server, 1, (STRANGER.ip, 80), tcp(SYN, 1, 0)), Reason::DropUnresolved),
        (
            Side::Server,
            Frame::from(server, 1, (FAR_CLIENT.ip, 1), L4::EchoReply { id: 3 }),
            Reason::DropNoConnection,
        ),
    ] {
        expect_end(&mut rig, side, &frame, reason);
    }
    let told: Vec<_> = rig.events().iter().map(|e| (e.kind, e.ip_be, e.vlan)).collect();
    assert_eq!(told, [(EVENT_UNRESOLVED, be(STRANGER.ip), 2)]);
}
