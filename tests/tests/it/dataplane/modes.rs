//! Dispatch mode, client NAT, `predictor forward`, hashing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use aya::maps::{Array, HashMap, MapData};
use csm_common::counter::Reason;
use csm_common::event::EVENT_CONNECTION;
use csm_common::flow::{STATE_CLOSED, STATE_CLOSING};
use csm_common::hash;
use csm_common::names;
use csm_common::net::{ADDRESS_POOL, Address, AddressKey, NextHop};
use csm_common::service::{
    Match, Pool, VSERVER_DISPATCH, VSERVER_FORWARD, VSERVER_HASH_SOURCE, VSERVER_INSERVICE,
    VSERVER_REPLICATE, VSERVER_UNIDIRECTIONAL, VserverKey,
};
use csm_tests::rig::{FAR_CLIENT, GATEWAY, Host, REALS, Rig, Side, VIP, WEB, address_key, be};
use etherparse::PacketHeaders;

use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, FIN, Frame, L4, SYN, expect, expect_end};

const SERVER_ISN: u32 = 7_000;
const POOL: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 158, 39, 50), Ipv4Addr::new(192, 158, 39, 51)];
const POOL_PORT: u16 = 33_280;

fn tcp(flags: u8, seq: u32, ack: u32) -> L4 {
    L4::Tcp { flags, seq, ack }
}

/// A rig whose web server's reals own the virtual address.
fn dispatching(more: u32) -> Rig {
    let rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.flags = VSERVER_INSERVICE | VSERVER_DISPATCH | more);
    rig
}

/// From the first real as the virtual address.
fn direct(flags: u8, seq: u32, ack: u32) -> Frame {
    let real = Host { ip: VIP, ..REALS[0] };
    Frame::from(&real, 80, (FAR_CLIENT.ip, CLIENT_PORT), tcp(flags, seq, ack))
}

#[test]
fn in_dispatch_mode_only_mac_addresses_and_the_ttl_change() {
    let mut rig = dispatching(VSERVER_REPLICATE);
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().routed_to(&REALS[0]));
    let answer = direct(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &answer.clone().routed_to(&FAR_CLIENT));
    let ack = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN + 1);
    expect(&mut rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().routed_to(&REALS[0]));
    let events = rig.events();
    let [event] = events[..] else { panic!("one event, not {events:?}") };
    let told = event.connection;
    assert_eq!(
        (event.kind, told.real_be, told.real, told.real_port_be),
        (EVENT_CONNECTION, be(VIP), 0, 80u16.to_be())
    );
    // The next one is another real's, by its MAC address alone.
    let other = Frame { src: SocketAddrV4::new(FAR_CLIENT.ip, 7), ..syn };
    expect(&mut rig, Side::Client, &other, Reason::ForwardedNew, &other.clone().routed_to(&REALS[1]));
}

#[test]
fn servers_that_answer_past_this_node_keep_their_connections_until_the_client_ends_them() {
    let mut rig = dispatching(VSERVER_UNIDIRECTIONAL);
    for (frame, reason) in [
        (Frame::client(SYN, CLIENT_ISN, 0), Reason::ForwardedNew),
        (Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN + 1), Reason::ForwardedFlow),
        (Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN + 900).payload(b"get"), Reason::ForwardedFlow),
        (Frame::client(FIN | ACK, CLIENT_ISN + 4, SERVER_ISN + 901), Reason::ForwardedFlow),
        (Frame::client(ACK, CLIENT_ISN + 5, SERVER_ISN + 902), Reason::ForwardedFlow),
    ] {
        expect(&mut rig, Side::Client, &frame, reason, &frame.clone().routed_to(&REALS[0]));
    }
    let flows = rig.flows(names::FLOWS);
    assert_eq!(flows.len(), 2);
    assert!(flows.iter().all(|(_, entry)| entry.state == STATE_CLOSED), "no FIN of the server will come");
}

/// A client may go on for as long as it likes after its server has said that it is at its end.
#[test]
fn a_server_that_does_answer_through_here_closes_its_own_side_alone() {
    let mut rig = dispatching(VSERVER_UNIDIRECTIONAL);
    for frame in [Frame::client(SYN, CLIENT_ISN, 0), Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN + 1)] {
        rig.run(Side::Client, &frame.bytes());
    }
    let states = |rig: &Rig| rig.flows(names::FLOWS).iter().map(|(_, entry)| entry.state).collect::<Vec<_>>();
    let end = direct(FIN | ACK, SERVER_ISN + 1, CLIENT_ISN + 1);
    expect(&mut rig, Side::Server, &end, Reason::ForwardedFlow, &end.clone().routed_to(&FAR_CLIENT));
    assert_eq!(states(&rig), [STATE_CLOSING; 2]);
    rig.run(Side::Client, &Frame::client(FIN | ACK, CLIENT_ISN + 1, SERVER_ISN + 2).bytes());
    assert_eq!(states(&rig), [STATE_CLOSED; 2]);
}

/// A rig whose web server's clients get addresses of a pool of 2 × `ports`.
fn translating(ports: u16) -> Rig {
    let rig = Rig::new().expect("the rig");
    let mut pools: Array<MapData, Pool> = rig.map(names::POOLS);
    let pool = Pool { first_be: be(POOL[0]), addresses: 2, port_first: POOL_PORT, ports };
    pools.set(1, pool, 0).expect("POOLS");
    let mut addresses: HashMap<MapData, AddressKey, Address> = rig.map(names::ADDRESSES);
    for ip in POOL {
        addresses.insert(address_key(ip, 3), Address { kind: ADDRESS_POOL }, 0).expect("ADDRESSES");
    }
    rig.vserver(WEB, |vserver| vserver.pool = 1);
    rig.ring(WEB, &[0]);
    rig
}

/// Source of a frame that the program sent.
fn source(bytes: &[u8]) -> SocketAddrV4 {
    let headers = PacketHeaders::from_ethernet_slice(bytes).expect("a frame");
    let etherparse::NetHeaders::Ipv4(ip, _) = headers.net.expect("IP") else { panic!("not IPv4") };
    let port = match headers.transport.expect("a transport") {
        etherparse::TransportHeader::Tcp(tcp) => tcp.source_port,
        etherparse::TransportHeader::Udp(udp) => udp.source_port,
        other => panic!("{other:?}"),
    };
    SocketAddrV4::new(ip.source.into(), port)
}

/// Runs a client's `frame`, which must go to the first real with a source of the pool; gives that.
#[track_caller]
fn translated(rig: &mut Rig, frame: &Frame, reason: Reason) -> SocketAddrV4 {
    let run = rig.run(Side::Client, &frame.bytes());
    assert_eq!(run.reason, reason, "{frame:?}");
    let source = source(&run.frame);
    assert!(POOL.contains(source.ip()) && source.port() >= POOL_PORT, "{source}");
    let out = Frame { src: source, ..frame.clone() }.sent_to(&REALS[0], frame.dst.port());
    assert_eq!(run.frame, out.bytes());
    source
}

#[test]
fn a_translated_client_is_of_the_pool_to_its_real_and_itself_to_the_rest() {
    let mut rig = translating(1000);
    rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_REPLICATE);
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    let seen = translated(&mut rig, &syn, Reason::ForwardedNew);
    assert_eq!(translated(&mut rig, &syn, Reason::ForwardedFlow), seen, "the SYN again");
    let to = (*seen.ip(), seen.port());
    let answer = Frame::from(&REALS[0], 80, to, tcp(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1));
    let mut out = answer.clone().answered_as(VIP, 80, &FAR_CLIENT);
    out.dst = SocketAddrV4::new(FAR_CLIENT.ip, CLIENT_PORT);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &out);
    let ack = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN + 1);
    assert_eq!(translated(&mut rig, &ack, Reason::ForwardedFlow), seen);
    let events = rig.events();
    let [event] = events[..] else { panic!("one event, not {events:?}") };
    let told = event.connection;
    assert_eq!((told.client_be, told.client_port_be), (be(FAR_CLIENT.ip), CLIENT_PORT.to_be()));
    assert_eq!((told.source_be, told.source_port_be), (be(*seen.ip()), seen.port().to_be()));
    assert_eq!((rig.flows(names::FLOWS).len(), rig.flows(names::EMBRYONIC).len()), (2, 0));
    let data = Frame::from(&REALS[0], 80, to, tcp(ACK, SERVER_ISN + 1, CLIENT_ISN + 1)).payload(b"hello");
    let mut out = data.clone().answered_as(VIP, 80, &FAR_CLIENT);
    out.dst = SocketAddrV4::new(FAR_CLIENT.ip, CLIENT_PORT);
    expect(&mut rig, Side::Server, &data, Reason::ForwardedFlow, &out);
}

#[test]
fn no_two_clients_get_the_same_port_towards_a_real_and_the_last_gets_none() {
    let mut rig = translating(8);
    let mut taken = BTreeMap::new();
    let mut refused = 0;
    for port in 1..=400u16 {
        let syn = Frame::from(&FAR_CLIENT, port, (VIP, 80), tcp(SYN, 1, 0));
        let run = rig.run(Side::Client, &syn.bytes());
        match run.reason {
            Reason::ForwardedNew => {
                let other = taken.insert(source(&run.frame), port);
                assert_eq!(other, None, "given twice");
            }
            Reason::DropPoolExhausted => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused >= 400 - 16 && taken.len() >= 14, "{} of 16 given, {refused} refused", taken.len());
    // Towards another real the same ports serve again.
    rig.ring(WEB, &[1]);
    let syn = Frame::from(&FAR_CLIENT, 999, (VIP, 80), tcp(SYN, 1, 0));
    assert_eq!(rig.run(Side::Client, &syn.bytes()).reason, Reason::ForwardedNew);
}

#[test]
fn a_client_keeps_its_address_as_long_as_that_has_ports() {
    let mut rig = translating(1000);
    for client in 1..=20u8 {
        let host = Host { ip: Ipv4Addr::new(10, 1, 1, client), ..GATEWAY };
        let addresses: BTreeSet<Ipv4Addr> = (1..=20u16)
            .map(|port| {
                let syn = Frame::from(&host, port, (VIP, 80), tcp(SYN, 1, 0));
                *source(&rig.run(Side::Client, &syn.bytes()).frame).ip()
            })
            .collect();
        assert_eq!(addresses.len(), 1, "{addresses:?}");
    }
}

#[test]
fn with_one_arm_clients_and_servers_share_a_vlan() {
    let mut rig = translating(1000);
    let client = Host { ip: Ipv4Addr::new(192, 158, 39, 200), vlan: 3, mac: [2, 0, 0, 0, 39, 200] };
    let mut hops: Array<MapData, NextHop> = rig.map(names::NEXTHOPS);
    let mut neighbours: HashMap<MapData, AddressKey, u32> = rig.map(names::NEIGHBOURS);
    let hop = NextHop { dst_mac: client.mac, ip_be: be(client.ip), ..hops.get(&0, 0).expect("NEXTHOPS") };
    hops.set(9, hop, 0).expect("NEXTHOPS");
    neighbours.insert(address_key(client.ip, 3), 9, 0).expect("NEIGHBOURS");
    let from = |flags, seq, ack| Frame::from(&client, 5000, (VIP, 80), tcp(flags, seq, ack));
    let forward = |rig: &mut Rig, frame: &Frame, reason| {
        let run = rig.run(Side::Server, &frame.bytes());
        assert_eq!(run.reason, reason);
        let seen = source(&run.frame);
        let out = Frame { src: seen, ..frame.clone() }.sent_to(&REALS[0], 80);
        assert_eq!(run.frame, out.bytes());
        seen
    };
    let seen = forward(&mut rig, &from(SYN, CLIENT_ISN, 0), Reason::ForwardedNew);
    let answer =
        Frame::from(&REALS[0], 80, (*seen.ip(), seen.port()), tcp(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1));
    let mut out = answer.clone().answered_as(VIP, 80, &client);
    out.dst = SocketAddrV4::new(client.ip, 5000);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &out);
    forward(&mut rig, &from(ACK, CLIENT_ISN + 1, SERVER_ISN + 1), Reason::ForwardedFlow);
    assert_eq!(rig.flows(names::FLOWS).len(), 2);
    // A guessed reset from the same VLAN as the server's own is not believed.
    forward(&mut rig, &from(super::frames::RST, CLIENT_ISN + 900_000_000, 0), Reason::ForwardedFlow);
    assert!(rig.flows(names::FLOWS).iter().all(|(_, entry)| entry.state != STATE_CLOSED));
}

#[test]
fn a_forwarding_virtual_server_lets_clients_reach_servers_directly() {
    let mut rig = Rig::new().expect("the rig");
    let to = (REALS[1].ip, 22);
    let syn = Frame::from(&FAR_CLIENT, CLIENT_PORT, to, tcp(SYN, CLIENT_ISN, 0));
    expect_end(&mut rig, Side::Client, &syn, Reason::DropDirect);
    let mut keys: HashMap<MapData, VserverKey, Match> = rig.map(names::VSERVER_KEYS);
    let key = VserverKey { ip_be: be(REALS[1].ip), port_be: 0, proto: 6, kind: 0 };
    keys.insert(key, Match { vserver: 8, rules: 0 }, 0).expect("VSERVER_KEYS");
    rig.vserver(8, |vserver| {
        vserver.flags = VSERVER_INSERVICE | VSERVER_FORWARD | VSERVER_REPLICATE;
    });
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().routed_to(&REALS[1]));
    let back = (FAR_CLIENT.ip, CLIENT_PORT);
    let answer = Frame::from(&REALS[1], 22, back, tcp(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1));
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &answer.clone().routed_to(&FAR_CLIENT));
    let ack = Frame::from(&FAR_CLIENT, CLIENT_PORT, to, tcp(ACK, CLIENT_ISN + 1, SERVER_ISN + 1));
    expect(&mut rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().routed_to(&REALS[1]));
    assert_eq!(rig.events().len(), 1);
    assert_eq!(rig.service_count(names::VSERVER_COUNTS, 8).connections, 1);
    // Never back to where it came from.
    let key = VserverKey { ip_be: be(Ipv4Addr::new(10, 2, 2, 2)), ..key };
    keys.insert(key, Match { vserver: 8, rules: 0 }, 0).expect("VSERVER_KEYS");
    let looping = Frame::from(&FAR_CLIENT, 1, (Ipv4Addr::new(10, 2, 2, 2), 22), tcp(SYN, 1, 0));
    expect_end(&mut rig, Side::Client, &looping, Reason::DropNoRoute);
}

#[test]
fn a_hash_sends_each_client_to_the_slot_that_both_nodes_compute() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| {
        vserver.flags |= VSERVER_HASH_SOURCE;
        vserver.hash_mask_be = be(Ipv4Addr::new(255, 255, 255, 254));
    });
    let ring = [0, 1, 2, 0, 1, 2, 2];
    rig.ring(WEB, &ring);
    let mut seen = BTreeSet::new();
    for client in 0..40u8 {
        let ip = Ipv4Addr::new(10, 1, 1, client);
        let slot = hash::addresses(be(Ipv4Addr::new(10, 1, 1, client & 0xfe)), 0) % 7;
        let real = ring[slot as usize];
        for port in [1, 2] {
            let syn = Frame::from(&Host { ip, ..GATEWAY }, port, (VIP, 80), tcp(SYN, 1, 0));
            let out = syn.clone().sent_to(&REALS[real as usize], 80);
            expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &out);
        }
        seen.insert(real);
    }
    assert_eq!(seen.len(), 3);
}
