use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use csm_common::address::V6;
use csm_common::counter::{Reason, ServiceCount};
use csm_common::event::{EVENT_CLOSED, EVENT_CONNECTION, EVENT_STICKY, EVENT_UNRESOLVED, EVENT_V6};
use csm_common::flow::{STATE_CLOSED, STATE_ESTABLISHED, STATE_SYN};
use csm_common::gate::GateState;
use csm_common::names;
use csm_common::net::relay_mac;
use csm_common::service::{
    StickyEntry, StickyKey, VSERVER_REPLICATE, VSERVER_REPLICATE_STICKY, VSERVER_STICKY_BOTH,
    VSERVER_STICKY_DESTINATION, VSERVER_STICKY_STATICS,
};
use csm_tests::rig::{PEER_MAC, Rig, Side, VIRTUAL_MAC};
use csm_tests::rig6::{self, ALIAS6, DNS6, FAR6, FIRST6, NEAR6, REALS6, VIP6, WEB6};

use super::frames::{Frame6, at, expect, expect_end, handshake};
use crate::dataplane::frames::{ACK, CLIENT_ISN, CLIENT_PORT, FIN, L4, PSH, RST, SERVER_ISN, SYN};

const CLIENT_NEXT: u32 = CLIENT_ISN + 1;
const SERVER_NEXT: u32 = SERVER_ISN.wrapping_add(1);

fn states(rig: &Rig, table: &'static str) -> Vec<u8> {
    rig6::flows(rig, table).iter().map(|(_, entry)| entry.state).collect()
}

#[test]
fn without_the_program_for_ipv6_its_packets_are_the_kernels() {
    let mut rig = Rig::new().expect("the rig");
    assert_eq!(rig.run(Side::Client, &Frame6::client(SYN, 1, 0).bytes()).reason, Reason::PassProtocol);
}

#[test]
fn a_connection_is_opened_used_and_closed() {
    let mut rig = rig6::rig().expect("the rig");
    let syn = Frame6::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS6[0], 80));
    assert_eq!(states(&rig, names::EMBRYONIC6), [STATE_SYN; 2]);
    let mut rig = rig6::rig().expect("the rig");
    handshake(&mut rig);
    assert_eq!(states(&rig, names::FLOWS6), [STATE_ESTABLISHED; 2]);
    assert_eq!(states(&rig, names::EMBRYONIC6), [0_u8; 0]);
    let events = rig6::events(&mut rig);
    let [event] = events[..] else { panic!("one event, not {events:?}") };
    assert_eq!(event.kind, EVENT_CONNECTION | EVENT_V6);
    let connection = event.connection;
    let ends = (connection.client_be, connection.virtual_be, connection.real_be, connection.source_be);
    assert_eq!(ends, (V6::from(FAR6.ip), VIP6.into(), REALS6[0].ip.into(), FAR6.ip.into()));
    assert_eq!((connection.client_port_be, connection.real_port_be), (CLIENT_PORT.to_be(), 80_u16.to_be()));
    assert_eq!((connection.client_vlan, connection.server_vlan), (2, 3));
    assert_eq!((connection.vserver, connection.real), (WEB6, FIRST6));
    for (key, entry) in rig6::flows(&rig, names::FLOWS6) {
        assert_eq!(entry.connection(&key), connection);
    }

    for payload in [&b"x"[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 1400]] {
        let request = Frame6::client(PSH | ACK, CLIENT_NEXT, SERVER_NEXT).payload(payload);
        expect(
            &mut rig,
            Side::Client,
            &request,
            Reason::ForwardedFlow,
            &request.clone().sent_to(&REALS6[0], 80),
        );
        let answer = Frame6::server(PSH | ACK, SERVER_NEXT, CLIENT_NEXT).payload(payload);
        let out = answer.clone().answered_as(VIP6, 80, &FAR6);
        expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &out);
    }
    let data = 3 * 74 + 1 + 18 + 1400;
    let wanted = ServiceCount {
        connections: 1,
        client_packets: 5,
        server_packets: 4,
        client_bytes: 2 * 74 + data,
        server_bytes: 74 + data,
    };
    assert_eq!(rig.service_count(names::VSERVER_COUNTS, WEB6), wanted);
    assert_eq!(rig.service_count(names::REAL_COUNTS, FIRST6), wanted);

    let forged = Frame6::client(RST, CLIENT_NEXT + (1 << 20), 0);
    expect(&mut rig, Side::Client, &forged, Reason::ForwardedFlow, &forged.clone().sent_to(&REALS6[0], 80));
    assert_eq!(states(&rig, names::FLOWS6), [STATE_ESTABLISHED; 2]);
    let fin = Frame6::client(FIN | ACK, CLIENT_NEXT, SERVER_NEXT);
    expect(&mut rig, Side::Client, &fin, Reason::ForwardedFlow, &fin.clone().sent_to(&REALS6[0], 80));
    let fin = Frame6::server(FIN | ACK, SERVER_NEXT, CLIENT_NEXT + 1);
    expect(&mut rig, Side::Server, &fin, Reason::ForwardedFlow, &fin.clone().answered_as(VIP6, 80, &FAR6));
    assert_eq!(states(&rig, names::FLOWS6), [STATE_CLOSED; 2]);
    assert_eq!(rig6::events(&mut rig)[0].kind, EVENT_CLOSED | EVENT_V6);
    let syn = Frame6::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS6[1], 80));
}

#[test]
fn the_ring_sends_one_after_the_other_and_a_sticky_client_where_it_was() {
    let mut rig = rig6::rig().expect("the rig");
    for (port, real) in [(1, 0), (2, 1), (3, 2), (4, 0)] {
        let question = Frame6::from(&NEAR6, port, (VIP6, 53), L4::Udp).payload(b"?");
        let out = question.clone().sent_to(&REALS6[real], 5353);
        expect(&mut rig, Side::Client, &question, Reason::ForwardedNew, &out);
        let answer = Frame6::from(&REALS6[real], 5353, (NEAR6.ip, port), L4::Udp).payload(b"!!");
        let out = answer.clone().answered_as(VIP6, 53, &NEAR6);
        expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &out);
    }
    rig6::vserver(&rig, DNS6, |vserver| {
        vserver.sticky_s = 60;
        vserver.sticky_mask_be = csm_common::address::Address::mask(64);
        vserver.flags |= VSERVER_REPLICATE | VSERVER_REPLICATE_STICKY;
    });
    // A neighbour in the same /64 sticks to the same real.
    let mut other = FAR6;
    other.ip = "2001:db8:a:1::77".parse().expect("an address");
    for (host, port, real) in [(FAR6, 5, 1), (other, 6, 1), (NEAR6, 7, 2)] {
        let question = Frame6::from(&host, port, (VIP6, 53), L4::Udp);
        let out = question.clone().sent_to(&REALS6[real], 5353);
        expect(&mut rig, Side::Client, &question, Reason::ForwardedNew, &out);
        let answer = Frame6::from(&REALS6[real], 5353, (host.ip, port), L4::Udp);
        assert_eq!(rig.run(Side::Server, &answer.bytes()).reason, Reason::ForwardedFlow);
        assert_eq!(rig.run(Side::Client, &question.bytes()).reason, Reason::ForwardedFlow);
    }
    let mut held: Vec<Ipv6Addr> = rig6::sticky(&rig).iter().map(|(key, _)| key.client_be.into()).collect();
    let wanted =
        ["2001:db8:26::", "2001:db8:a:1::"].map(|text| text.parse::<Ipv6Addr>().expect("an address"));
    held.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(held, wanted);
    let kinds: Vec<u32> = rig6::events(&mut rig).iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EVENT_CONNECTION | EVENT_V6, EVENT_STICKY | EVENT_V6].repeat(3));
}

#[test]
fn by_destination_or_by_configuration_clients_of_ipv6_have_their_reals() {
    let mut rig = rig6::rig().expect("the rig");
    rig6::vserver(&rig, WEB6, |vserver| {
        vserver.sticky_s = 60;
        vserver.flags |= VSERVER_STICKY_DESTINATION;
    });
    handshake(&mut rig);
    let entries = rig6::sticky(&rig);
    assert_eq!((entries.len(), entries[0].0.client_be), (1, VIP6.into()));
    let open = |rig: &mut Rig, port, real: usize| {
        let syn = Frame6::from(&NEAR6, port, (VIP6, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
        expect(rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS6[real], 80));
    };
    open(&mut rig, 1, 0);
    // The same key by configuration, with another real.
    let mut table: aya::maps::HashMap<aya::maps::MapData, StickyKey<V6>, StickyEntry> =
        rig.map(names::STICKY6);
    table.insert(entries[0].0, StickyEntry::fixed(entries[0].1.real + 2), 0).expect("STICKY6");
    rig6::vserver(&rig, WEB6, |vserver| vserver.flags |= VSERVER_STICKY_STATICS);
    open(&mut rig, 2, 2);
    assert_eq!(rig6::sticky(&rig), [(entries[0].0, StickyEntry::fixed(entries[0].1.real + 2))]);
}

#[test]
fn by_both_the_networks_of_client_and_virtual_address_are_the_key() {
    let mut rig = rig6::rig().expect("the rig");
    rig6::vserver(&rig, WEB6, |vserver| {
        vserver.sticky_s = 60;
        vserver.sticky_mask_be = csm_common::address::Address::mask(64);
        vserver.flags |= VSERVER_STICKY_BOTH;
    });
    handshake(&mut rig);
    let entries = rig6::sticky(&rig);
    assert_eq!(entries.len(), 1);
    let network = |ip: Ipv6Addr| -> IpAddr { Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into() };
    assert_eq!(entries[0].0.client_be.unpaired(), [FAR6.ip, VIP6].map(network));
    let mut neighbour = FAR6;
    neighbour.ip = "2001:db8:a:1::77".parse().expect("an address");
    for (host, port, real) in [(neighbour, 1, 0), (NEAR6, 1, 1), (neighbour, 2, 0), (NEAR6, 2, 1)] {
        let syn = Frame6::from(&host, port, (VIP6, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
        expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS6[real], 80));
    }
}

#[test]
fn the_gate_rules_over_ipv6() {
    let mut rig = rig6::rig().expect("the rig");
    handshake(&mut rig);
    let data = Frame6::client(ACK, CLIENT_NEXT, SERVER_NEXT);
    let life = Duration::from_secs(60);
    rig.gate(GateState::Closed, life);
    expect_end(&mut rig, Side::Client, &data, Reason::DropStandby);
    rig.gate(GateState::RelayOut, life);
    let mut stray = data.clone();
    (stray.dst_mac, stray.src_mac) = (PEER_MAC, relay_mac(2));
    expect(&mut rig, Side::Client, &data, Reason::Relayed, &stray);
    // At the successor it goes on as a frame of that VLAN would.
    stray.dst_mac = rig.own_mac(Side::Ft);
    rig.gate(GateState::RelayIn, life);
    let out = Frame6 { src_mac: rig.own_mac(Side::Server), ..data.clone().sent_to(&REALS6[0], 80) };
    expect(&mut rig, Side::Ft, &stray, Reason::ForwardedFlow, &out);
    expect_end(&mut rig, Side::Client, &data, Reason::DropStandby);
    let mut own = data;
    own.dst_mac = rig.own_mac(Side::Client);
    expect_end(&mut rig, Side::Client, &own, Reason::PassHost);
    own.dst_mac = rig.own_mac(Side::Ft);
    expect_end(&mut rig, Side::Ft, &own, Reason::PassHost);
}

#[test]
fn echo_requests_are_answered_or_balanced() {
    let mut rig = rig6::rig().expect("the rig");
    for (host, address, side) in [(&NEAR6, VIP6, Side::Client), (&REALS6[1], ALIAS6, Side::Server)] {
        let ping = Frame6::from(host, 0, (address, 0), L4::EchoRequest { id: 7 }).payload(b"abc");
        let mut pong = Frame6::from(host, 0, (host.ip, 0), L4::EchoReply { id: 7 }).payload(b"abc");
        pong.src = at(address, 0);
        (pong.src_mac, pong.dst_mac) = (VIRTUAL_MAC, host.mac);
        expect(&mut rig, side, &ping, Reason::EchoReplied, &pong);
    }
    // A server pings the world: its checksum covers the addresses, which do not change.
    let ping = Frame6::from(&REALS6[0], 0, (FAR6.ip, 0), L4::EchoRequest { id: 9 }).payload(b"abc");
    expect(&mut rig, Side::Server, &ping, Reason::ForwardedRouted, &ping.clone().routed_to(&FAR6));
    let pong = Frame6::from(&FAR6, 0, (REALS6[0].ip, 0), L4::EchoReply { id: 9 });
    expect(&mut rig, Side::Client, &pong, Reason::ForwardedRouted, &pong.clone().routed_to(&REALS6[0]));
    let direct = Frame6::from(&FAR6, 0, (REALS6[1].ip, 0), L4::EchoRequest { id: 9 });
    expect_end(&mut rig, Side::Client, &direct, Reason::DropDirect);
}

#[test]
fn what_cannot_go_on_ends_for_its_reason() {
    let mut rig = rig6::rig().expect("the rig");
    let syn = |ip: &str| {
        let mut frame = Frame6::client(SYN, 1, 0);
        frame.src = at(ip.parse().expect("an address"), 1);
        frame
    };
    for source in ["::1", "ff02::1", "::ffff:10.1.1.1", "2001:db8:27::101"] {
        expect_end(&mut rig, Side::Client, &syn(source), Reason::DropSource);
    }
    let unknown = syn("2001:db8:26::99");
    expect_end(&mut rig, Side::Client, &unknown, Reason::DropUnresolved);
    let events = rig6::events(&mut rig);
    let wanted = (EVENT_UNRESOLVED | EVENT_V6, V6::from(*unknown.src.ip()), 2);
    assert_eq!((events[0].kind, events[0].ip_be, events[0].vlan), wanted);
    let other = Frame6::from(&FAR6, 1, (VIP6, 81), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    expect_end(&mut rig, Side::Client, &other, Reason::DropNoVserver);
    expect_end(&mut rig, Side::Client, &Frame6::client(ACK, 1, 1), Reason::DropNoConnection);
    let whole = Frame6::client(SYN, 1, 0).bytes();
    for length in [15, 53, 60, 73] {
        let reason = rig.run(Side::Client, &whole[..length]).reason;
        assert_eq!(reason, Reason::DropMalformed, "{length} octets");
    }
    let mut wrong = whole.clone();
    wrong[14] = 0x45;
    assert_eq!(rig.run(Side::Client, &wrong).reason, Reason::DropMalformed);
    rig6::next_hop(&rig, FIRST6, |hop| hop.flags = 0);
    expect_end(&mut rig, Side::Client, &Frame6::client(SYN, 1, 0), Reason::DropUnresolved);
    assert_eq!(rig6::events(&mut rig)[0].ip_be, REALS6[0].ip.into());
}
