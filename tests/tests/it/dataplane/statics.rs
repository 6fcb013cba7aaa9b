//! Static translation of connections that servers open.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData};
use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::event::{EVENT_CONNECTION, EVENT_HANDSHAKE};
use csm_common::flow::{FLAG_REPLICATE, NONE};
use csm_common::names;
use csm_common::service::{Match, Pool, VSERVER_FORWARD, VSERVER_INSERVICE, VSERVER_STATIC, VserverKey};
use csm_tests::rig::{FAR_CLIENT, Host, REALS, Rig, Side, VIP, be};
use csm_tests::rig6;
use etherparse::PacketHeaders;

use super::frames::{ACK, Frame, L4, SYN, expect, expect_end};

const PORT_FIRST: u16 = 33_280;
const PORTS: u16 = 100;
const REMOTE_PORT: u16 = 443;

fn tcp(flags: u8, seq: u32, ack: u32) -> L4 {
    L4::Tcp { flags, seq, ack }
}

/// Gives hosts of `net` number `pool` of `STATICS`.
fn enter(rig: &Rig, net: Ipv4Addr, bits: u32, pool: u32) {
    let mut statics: LpmTrie<MapData, u32, u32> = rig.map(names::STATICS);
    statics.insert(&Key::new(bits, be(net)), pool, 0).expect("STATICS");
}

/// A rig whose servers leave as the virtual address, the third one excepted, which may not speak.
fn translating() -> Rig {
    let rig = Rig::new().expect("the rig");
    let mut pools: Array<MapData, Pool> = rig.map(names::POOLS);
    let pool = Pool { first_be: be(VIP), addresses: 1, port_first: PORT_FIRST, ports: PORTS };
    pools.set(7, pool, 0).expect("POOLS");
    enter(&rig, Ipv4Addr::new(192, 158, 39, 0), 24, 7);
    enter(&rig, REALS[2].ip, 32, NONE);
    rig
}

/// Source of a frame that the program sent.
fn source(bytes: &[u8]) -> SocketAddrV4 {
    let headers = PacketHeaders::from_ethernet_slice(bytes).expect("a frame");
    let Some(etherparse::NetHeaders::Ipv4(ip, _)) = headers.net else { panic!("not IPv4") };
    let port = match headers.transport.expect("a transport") {
        etherparse::TransportHeader::Tcp(tcp) => tcp.source_port,
        etherparse::TransportHeader::Udp(udp) => udp.source_port,
        other => panic!("{other:?}"),
    };
    SocketAddrV4::new(ip.source.into(), port)
}

/// Runs a server's `frame`, which must leave from the virtual address with a port of the pool; gives that port.
#[track_caller]
fn leaves(rig: &mut Rig, frame: &Frame, reason: Reason) -> u16 {
    let run = rig.run(Side::Server, &frame.bytes());
    assert_eq!(run.reason, reason, "{frame:?}");
    let seen = source(&run.frame);
    assert!(*seen.ip() == VIP && (PORT_FIRST..PORT_FIRST + PORTS).contains(&seen.port()), "{seen}");
    assert_eq!(run.frame, Frame { src: seen, ..frame.clone() }.routed_to(&FAR_CLIENT).bytes());
    seen.port()
}

fn out(server: &Host, port: u16, l4: L4) -> Frame {
    Frame::from(server, port, (FAR_CLIENT.ip, REMOTE_PORT), l4)
}

#[test]
fn a_server_leaves_as_the_virtual_address_and_hears_as_itself() {
    let mut rig = translating();
    let server = &REALS[0];
    let port = leaves(&mut rig, &out(server, 50_000, tcp(SYN, 10, 0)), Reason::ForwardedRouted);
    let back = |l4| Frame::from(&FAR_CLIENT, REMOTE_PORT, (VIP, port), l4);
    let heard = |frame: &Frame| {
        Frame { dst: SocketAddrV4::new(server.ip, 50_000), ..frame.clone() }.routed_to(server)
    };
    let answer = back(tcp(SYN | ACK, 20, 11));
    expect(&mut rig, Side::Client, &answer, Reason::ForwardedRouted, &heard(&answer));
    for _ in 0..2 {
        let again = leaves(&mut rig, &out(server, 50_000, tcp(ACK, 11, 21)), Reason::ForwardedRouted);
        assert_eq!(again, port);
    }
    let data = back(tcp(ACK, 21, 11)).payload(b"hello");
    expect(&mut rig, Side::Client, &data, Reason::ForwardedRouted, &heard(&data));
    let flows = rig.flows(names::FLOWS);
    assert_eq!(flows.len(), 2);
    assert!(flows.iter().all(|(_, entry)| entry.flags & FLAG_REPLICATE != 0), "it is to survive this node");
    let events = rig.events();
    let [answered, proven] = events[..] else { panic!("two events, not {events:?}") };
    assert_eq!((answered.kind, answered.expect_ack, proven.kind), (EVENT_HANDSHAKE, 21, EVENT_CONNECTION));
    for told in [answered.connection, proven.connection] {
        assert_eq!((told.vserver, told.real), (NONE, NONE));
        assert_eq!((told.client_be, told.source_be), (be(server.ip), be(VIP)));
    }
}

#[test]
fn two_servers_with_one_port_leave_from_different_ones() {
    let mut rig = translating();
    for l4 in [tcp(SYN, 10, 0), L4::Udp] {
        let first = leaves(&mut rig, &out(&REALS[0], 50_000, l4.clone()), Reason::ForwardedRouted);
        let second = leaves(&mut rig, &out(&REALS[1], 50_000, l4), Reason::ForwardedRouted);
        assert_ne!(first, second);
    }
}

#[test]
fn the_longest_mask_counts_and_what_may_not_speak_is_dropped() {
    let mut rig = translating();
    expect_end(&mut rig, Side::Server, &out(&REALS[2], 1, tcp(SYN, 1, 0)), Reason::DropStatic);
    assert_eq!(rig.flows(names::EMBRYONIC), []);
    // It still answers those who ask it.
    rig.ring(csm_tests::rig::WEB, &[2]);
    let syn = Frame::client(SYN, 1, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[2], 80));
    // 0: this one keeps its address, whatever the network around it has.
    enter(&rig, REALS[1].ip, 32, 0);
    let frame = out(&REALS[1], 1, tcp(SYN, 1, 0));
    expect(&mut rig, Side::Server, &frame, Reason::ForwardedRouted, &frame.clone().routed_to(&FAR_CLIENT));
}

#[test]
fn through_a_forwarding_virtual_server_with_nat_client_static_it_is_the_same() {
    let mut rig = translating();
    let mut keys: HashMap<MapData, VserverKey, Match> = rig.map(names::VSERVER_KEYS);
    let key = VserverKey { ip_be: be(FAR_CLIENT.ip), port_be: 0, proto: 6, kind: 0 };
    keys.insert(key, Match { vserver: 8, rules: 0 }, 0).expect("VSERVER_KEYS");
    rig.vserver(8, |vserver| vserver.flags = VSERVER_INSERVICE | VSERVER_FORWARD | VSERVER_STATIC);
    leaves(&mut rig, &out(&REALS[0], 50_000, tcp(SYN, 10, 0)), Reason::ForwardedNew);
    expect_end(&mut rig, Side::Server, &out(&REALS[2], 1, tcp(SYN, 1, 0)), Reason::DropStatic);
}

#[test]
fn servers_of_ipv6_leave_as_their_virtual_address() {
    let mut rig = rig6::rig().expect("the rig");
    let mut pools: Array<MapData, Pool<V6>> = rig.map(names::POOLS6);
    let pool = Pool { first_be: rig6::VIP6.into(), addresses: 1, port_first: PORT_FIRST, ports: PORTS };
    pools.set(7, pool, 0).expect("POOLS6");
    let mut statics: LpmTrie<MapData, V6, u32> = rig.map(names::STATICS6);
    statics.insert(&Key::new(128, V6::from(rig6::REALS6[0].ip)), 7, 0).expect("STATICS6");
    let frame = |host: &rig6::Host6| {
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ethernet2(host.mac, csm_tests::rig::VIRTUAL_MAC)
            .ipv6(host.ip.octets(), rig6::FAR6.ip.octets(), 64)
            .tcp(50_000, REMOTE_PORT, 10, 65_000)
            .syn()
            .write(&mut bytes, &[])
            .expect("a frame");
        bytes
    };
    let seen = |bytes: &[u8]| {
        let headers = PacketHeaders::from_ethernet_slice(bytes).expect("a frame");
        let Some(etherparse::NetHeaders::Ipv6(ip, _)) = headers.net else { panic!("not IPv6") };
        Ipv6Addr::from(ip.source)
    };
    let run = rig.run(Side::Server, &frame(&rig6::REALS6[0]));
    assert_eq!((run.reason, seen(&run.frame)), (Reason::ForwardedRouted, rig6::VIP6));
    let run = rig.run(Side::Server, &frame(&rig6::REALS6[1]));
    assert_eq!((run.reason, seen(&run.frame)), (Reason::ForwardedRouted, rig6::REALS6[1].ip));
}
