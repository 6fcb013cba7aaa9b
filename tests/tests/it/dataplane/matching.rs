//! Which virtual server a first packet is for.

use std::net::Ipv4Addr;

use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, MapData};
use csm_common::counter::Reason;
use csm_common::flow::{FlowEntry, FlowKey, NONE};
use csm_common::names;
use csm_common::service::{
    ClientKey, Match, Networks, VSERVER_INSERVICE, VSERVER_UNIDIRECTIONAL, VserverKey,
};
use csm_tests::rig::{ANY_TCP, DNS, FAR_CLIENT, Host, NEAR_CLIENT, REALS, Rig, Side, VIP, WEB, be};

use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, RST, SYN, expect, expect_end};

const OPEN: L4 = L4::Tcp { flags: SYN, seq: 1, ack: 0 };
const GRE: L4 = L4::Other { proto: 47 };
/// A number that the rig leaves free.
const FIRST: u32 = 8;
const SECOND: u32 = 9;

/// Makes virtual server `number`, which sends to one real.
fn vserver(rig: &Rig, number: u32, real: u32) {
    rig.vserver(number, |vserver| (vserver.flags, vserver.idle_s) = (VSERVER_INSERVICE, 3600));
    rig.ring(number, &[real]);
}

fn service(rig: &Rig, key: VserverKey, found: Match) {
    let mut keys: HashMap<MapData, VserverKey, Match> = rig.map(names::VSERVER_KEYS);
    keys.insert(key, found, 0).expect("VSERVER_KEYS");
}

fn plain(vserver: u32) -> Match {
    Match { vserver, rules: 0 }
}

/// `key` of a network of `host_bits`, for any port.
fn network(ip: [u8; 4], host_bits: u8, proto: u8) -> VserverKey {
    VserverKey { ip_be: be(ip.into()), port_be: 0, proto, kind: host_bits }
}

fn syn_to(ip: [u8; 4]) -> Frame {
    Frame::from(&FAR_CLIENT, CLIENT_PORT, (ip.into(), 80), OPEN)
}

#[track_caller]
fn goes_to(rig: &mut Rig, frame: &Frame, real: &Host) {
    let out = frame.clone().sent_to(real, frame.dst.port());
    expect(rig, Side::Client, frame, Reason::ForwardedNew, &out);
}

#[test]
fn a_single_address_goes_before_networks_and_a_small_network_before_a_large_one() {
    let mut rig = Rig::new().expect("the rig");
    vserver(&rig, FIRST, 1);
    vserver(&rig, SECOND, 2);
    let mut networks: LpmTrie<MapData, u32, Networks> = rig.map(names::NETWORKS);
    let mut around = |ip: [u8; 4], host_bits: [u8; 4]| {
        let key = Key::new(32 - u32::from(host_bits[0]), be(ip.into()));
        networks.insert(&key, Networks { host_bits }, 0).expect("NETWORKS");
    };
    around([192, 158, 0, 0], [16, 0, 0, 0]);
    around([192, 158, 38, 0], [8, 16, 0, 0]);
    service(&rig, network([192, 158, 38, 0], 8, 6), plain(FIRST));
    service(&rig, network([192, 158, 0, 0], 16, 6), plain(SECOND));
    goes_to(&mut rig, &syn_to(VIP.octets()), &REALS[0]);
    goes_to(&mut rig, &syn_to([192, 158, 38, 77]), &REALS[1]);
    goes_to(&mut rig, &syn_to([192, 158, 77, 77]), &REALS[2]);
    // What the small one does not match, by its protocol, may be the large one's.
    service(&rig, network([192, 158, 0, 0], 16, 17), plain(SECOND));
    let datagram = Frame::from(&FAR_CLIENT, 1, ([192, 158, 38, 77].into(), 5), L4::Udp);
    goes_to(&mut rig, &datagram, &REALS[2]);
    let elsewhere = syn_to([192, 159, 0, 1]);
    expect_end(&mut rig, Side::Client, &elsewhere, Reason::DropNoRoute);
}

#[test]
fn everything_is_a_network_too() {
    let mut rig = Rig::new().expect("the rig");
    vserver(&rig, FIRST, 1);
    let mut networks: LpmTrie<MapData, u32, Networks> = rig.map(names::NETWORKS);
    networks.insert(&Key::new(0, 0), Networks { host_bits: [32, 0, 0, 0] }, 0).expect("NETWORKS");
    service(&rig, network([0; 4], 32, 0), plain(FIRST));
    goes_to(&mut rig, &syn_to([8, 8, 8, 8]), &REALS[1]);
    goes_to(&mut rig, &Frame::from(&FAR_CLIENT, 0, (Ipv4Addr::new(9, 9, 9, 9), 0), GRE), &REALS[1]);
}

#[test]
fn a_port_goes_before_any_port_and_that_before_any_protocol() {
    let mut rig = Rig::new().expect("the rig");
    vserver(&rig, FIRST, 1);
    let any = VserverKey { ip_be: be(VIP), port_be: 0, proto: 0, kind: 0 };
    service(&rig, any, plain(FIRST));
    goes_to(&mut rig, &syn_to(VIP.octets()), &REALS[0]);
    let datagram = |port| Frame::from(&FAR_CLIENT, CLIENT_PORT, (VIP, port), L4::Udp);
    goes_to(&mut rig, &datagram(54), &REALS[1]);
    let dns = datagram(53);
    let out = dns.clone().sent_to(&REALS[0], 5353);
    expect(&mut rig, Side::Client, &dns, Reason::ForwardedNew, &out);
    assert_eq!(rig.service_count(names::VSERVER_COUNTS, DNS).client_packets, 1);
    goes_to(&mut rig, &Frame::from(&FAR_CLIENT, 0, (VIP, 0), GRE), &REALS[1]);
}

#[test]
fn a_protocol_without_ports_is_balanced_by_its_addresses() {
    let mut rig = Rig::new().expect("the rig");
    vserver(&rig, FIRST, 1);
    let frame = Frame::from(&FAR_CLIENT, 0, (VIP, 0), GRE).payload(b"a tunnel");
    expect_end(&mut rig, Side::Client, &frame, Reason::DropNoVserver);
    service(&rig, VserverKey { ip_be: be(VIP), port_be: 0, proto: 47, kind: 0 }, plain(FIRST));
    goes_to(&mut rig, &frame, &REALS[1]);
    let answer = Frame::from(&REALS[1], 0, (FAR_CLIENT.ip, 0), GRE).payload(b"its other end");
    let out = answer.clone().answered_as(VIP, 0, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &out);
    assert_eq!(rig.flows(names::FLOWS), []);
    expect(&mut rig, Side::Client, &frame, Reason::ForwardedFlow, &frame.clone().sent_to(&REALS[1], 0));
    assert_eq!(rig.flows(names::FLOWS).len(), 2, "the client goes on after an answer");
    // Another protocol is another matter, and a server may begin, too.
    let esp = Frame { l4: L4::Other { proto: 50 }, ..frame };
    expect_end(&mut rig, Side::Client, &esp, Reason::DropNoVserver);
    let from_server = Frame::from(&REALS[2], 0, (FAR_CLIENT.ip, 0), GRE);
    let out = from_server.clone().routed_to(&FAR_CLIENT);
    expect(&mut rig, Side::Server, &from_server, Reason::ForwardedRouted, &out);
}

#[test]
fn vlan_and_client_decide_between_virtual_servers_of_one_address() {
    let mut rig = Rig::new().expect("the rig");
    vserver(&rig, FIRST, 1);
    vserver(&rig, SECOND, 2);
    let web = VserverKey { ip_be: be(VIP), port_be: 80u16.to_be(), proto: 6, kind: 0 };
    service(&rig, web, Match { vserver: FIRST, rules: 9 });
    let mut clients: LpmTrie<MapData, ClientKey, u32> = rig.map(names::CLIENTS);
    let mut rule = |rules, vlan, ip: [u8; 4], length: u32, number: u32| {
        let of = ClientKey { rules, vlan, client_be: be(ip.into()) };
        clients.insert(&Key::new(32 + length, of), number, 0).expect("CLIENTS");
    };
    rule(9, 0, [10, 0, 0, 0], 8, FIRST);
    rule(9, 0, [10, 2, 0, 0], 16, SECOND);
    rule(9, 0, [10, 3, 0, 0], 16, NONE);
    rule(9, 7, [10, 0, 0, 0], 8, SECOND);
    rule(8, 0, [0, 0, 0, 0], 0, SECOND);
    let from = |ip: [u8; 4]| Host { ip: ip.into(), ..FAR_CLIENT };
    let syn = |host: &Host| Frame::from(host, CLIENT_PORT, (VIP, 80), OPEN);
    goes_to(&mut rig, &syn(&from([10, 1, 1, 1])), &REALS[1]);
    goes_to(&mut rig, &syn(&from([10, 2, 1, 1])), &REALS[2]);
    // Served by neither: the virtual server for any port has them.
    goes_to(&mut rig, &syn(&from([10, 3, 1, 1])), &REALS[0]);
    goes_to(&mut rig, &syn(&NEAR_CLIENT), &REALS[0]);
    rig.vserver(ANY_TCP, |vserver| vserver.flags = 0);
    expect_end(&mut rig, Side::Client, &syn(&from([10, 3, 1, 2])), Reason::DropNoPolicy);
    rule(9, 2, [10, 1, 0, 0], 16, SECOND);
    goes_to(&mut rig, &syn(&from([10, 1, 1, 2])), &REALS[2]);
    goes_to(&mut rig, &syn(&from([10, 4, 1, 2])), &REALS[1]);
}

#[test]
fn without_the_servers_packets_a_unidirectional_connection_is_proven_by_the_clients_next_segment() {
    let mut rig = Rig::new().expect("the rig");
    let open = Frame::client(SYN, CLIENT_ISN, 0);
    let next = |seq, flags| Frame::client(flags, seq, 77);
    for (flags, seq, proven) in [
        (VSERVER_INSERVICE, CLIENT_ISN + 1, false),
        (VSERVER_INSERVICE | VSERVER_UNIDIRECTIONAL, CLIENT_ISN + 2, false),
        (VSERVER_INSERVICE | VSERVER_UNIDIRECTIONAL, CLIENT_ISN + 1, true),
    ] {
        rig.vserver(WEB, |vserver| vserver.flags = flags);
        rig.ring(WEB, &[0]);
        let first = rig.run(Side::Client, &open.bytes()).reason;
        assert!(matches!(first, Reason::ForwardedNew | Reason::ForwardedFlow), "{first:?}");
        // Made anew, for the mode of before stands in it.
        let mut table: HashMap<MapData, FlowKey, FlowEntry> = rig.map(names::EMBRYONIC);
        for (key, _) in rig.flows(names::EMBRYONIC) {
            table.remove(&key).expect("EMBRYONIC");
        }
        expect(&mut rig, Side::Client, &open, Reason::ForwardedNew, &open.clone().sent_to(&REALS[0], 80));
        let reset = next(CLIENT_ISN + 1, RST | ACK);
        expect(&mut rig, Side::Client, &reset, Reason::ForwardedFlow, &reset.clone().sent_to(&REALS[0], 80));
        let ack = next(seq, ACK);
        expect(&mut rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().sent_to(&REALS[0], 80));
        assert_eq!(rig.flows(names::FLOWS).len(), if proven { 2 } else { 0 }, "{flags} {seq}");
    }
}
