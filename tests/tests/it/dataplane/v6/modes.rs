//! The stages that both families share, each once on IPv6.

use std::net::Ipv6Addr;

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData};
use csm_common::address::{Address as _, V6};
use csm_common::counter::Reason;
use csm_common::event::{EVENT_CONNECTION, EVENT_V6};
use csm_common::flow::NONE;
use csm_common::names;
use csm_common::net::{ADDRESS_POOL, Address, AddressKey};
use csm_common::service::{
    ClientKey, Match, Networks, Origin, Pool, VSERVER_DISPATCH, VSERVER_FORWARD, VSERVER_HASH_SOURCE,
    VSERVER_INSERVICE, VSERVER_REPLICATE, VserverKey,
};
use csm_tests::rig::{Rig, Side};
use csm_tests::rig6::{self, FAR6, FIRST6, NEAR6, REALS6, VIP6, WEB6, address_key};

use super::frames::{Frame6, at, expect, expect_end};
use crate::dataplane::frames::{ACK, CLIENT_ISN, CLIENT_PORT, L4, PSH, SERVER_ISN, SYN};

/// First address of the pool.
const POOL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x27, 0, 0, 0, 0xffff, 0xffff);

fn syn_to(address: Ipv6Addr, port: u16) -> Frame6 {
    Frame6::from(&FAR6, port, (address, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 })
}

#[test]
fn in_dispatch_mode_only_mac_addresses_change() {
    let mut rig = rig6::rig().expect("the rig");
    rig6::vserver(&rig, WEB6, |vserver| vserver.flags |= VSERVER_DISPATCH);
    let syn = Frame6::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().routed_to(&REALS6[0]));
    let mut answer = Frame6::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    answer.src = at(VIP6, 80);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &answer.clone().routed_to(&FAR6));
}

#[test]
fn a_translated_client_is_of_the_pool_to_its_real() {
    let mut rig = rig6::rig().expect("the rig");
    let mut pools: Array<MapData, Pool<V6>> = rig.map(names::POOLS6);
    pools
        .set(1, Pool { first_be: POOL.into(), addresses: 2, port_first: 2000, ports: 1000 }, 0)
        .expect("POOLS6");
    let mut addresses: HashMap<MapData, AddressKey<V6>, Address> = rig.map(names::ADDRESSES6);
    let pool = [POOL, V6::from(POOL).plus(1).into()];
    for ip in pool {
        addresses.insert(address_key(ip, 3), Address { kind: ADDRESS_POOL }, 0).expect("ADDRESSES6");
    }
    rig6::vserver(&rig, WEB6, |vserver| {
        vserver.pool = 1;
        vserver.flags |= VSERVER_REPLICATE;
    });
    let syn = Frame6::client(SYN, CLIENT_ISN, 0);
    let run = rig.run(Side::Client, &syn.bytes());
    assert_eq!(run.reason, Reason::ForwardedNew);
    let octets: [u8; 16] = run.frame[22..38].try_into().expect("an address");
    let source = at(octets.into(), u16::from_be_bytes([run.frame[54], run.frame[55]]));
    assert!(pool.contains(source.ip()) && (2000..3000).contains(&source.port()), "{source}");
    let translated = |frame: &Frame6| Frame6 { src: source, ..frame.clone() }.sent_to(&REALS6[0], 80);
    assert_eq!(run.frame, translated(&syn).bytes());
    let mut answer = Frame6::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    answer.dst = source;
    let mut out = answer.clone().answered_as(VIP6, 80, &FAR6);
    out.dst = at(FAR6.ip, CLIENT_PORT);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &out);
    let ack = Frame6::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    expect(&mut rig, Side::Client, &ack, Reason::ForwardedFlow, &translated(&ack));
    let events = rig6::events(&mut rig);
    assert_eq!(events[0].connection.source_be, V6::from(*source.ip()));
}

#[test]
fn forwarding_hashing_networks_and_clients_rules_go_by_ipv6_addresses() {
    let mut rig = rig6::rig().expect("the rig");
    let mut keys: HashMap<MapData, VserverKey<V6>, Match> = rig.map(names::VSERVER_KEYS6);
    let mut networks: LpmTrie<MapData, V6, Networks> = rig.map(names::NETWORKS6);
    let mut clients: LpmTrie<MapData, ClientKey<V6>, u32> = rig.map(names::CLIENTS6);

    // All of a /32 is a virtual network of any protocol; it is forwarded to where it wants to go.
    let forward = 10;
    rig6::vserver(&rig, forward, |vserver| vserver.flags = VSERVER_INSERVICE | VSERVER_FORWARD);
    let everything = V6::from(VIP6).network(96);
    let network = VserverKey { ip_be: everything, port_be: 0, proto: 0, kind: 96 };
    keys.insert(network, Match { vserver: forward, rules: 0 }, 0).expect("VSERVER_KEYS6");
    let around = Networks { host_bits: [96, 0, 0, 0] };
    networks.insert(&Key::new(32, everything), around, 0).expect("NETWORKS6");
    let direct = syn_to(REALS6[2].ip, 1);
    expect(&mut rig, Side::Client, &direct, Reason::ForwardedNew, &direct.clone().routed_to(&REALS6[2]));

    // Clients of one /48 only.
    let rule = VserverKey { ip_be: VIP6.into(), port_be: 80_u16.to_be(), proto: 6, kind: 0 };
    keys.insert(rule, Match { vserver: NONE, rules: 1 }, 0).expect("VSERVER_KEYS6");
    let of = |client: Ipv6Addr| ClientKey { rules: 1, vlan: 0, client_be: client.into() };
    clients.insert(&Key::new(32 + 48, of(FAR6.ip)), WEB6, 0).expect("CLIENTS6");
    clients.insert(&Key::new(32, of(Ipv6Addr::UNSPECIFIED)), NONE, 0).expect("CLIENTS6");
    let syn = syn_to(VIP6, 2);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS6[0], 80));
    let other = Frame6::from(&NEAR6, 3, (VIP6, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    expect_end(&mut rig, Side::Client, &other, Reason::DropNoVserver);

    // By the client's /64: whoever comes from there goes to one real.
    rig6::vserver(&rig, WEB6, |vserver| {
        vserver.flags |= VSERVER_HASH_SOURCE;
        vserver.hash_mask_be = V6::mask(64);
    });
    let slot = csm_common::hash::addresses(V6::from(FAR6.ip).network(64), V6::UNSPECIFIED) % 3;
    for host in 1..5_u16 {
        let mut syn = syn_to(VIP6, 10 + host);
        syn.src.set_ip(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 1, host, 0, 0, 1));
        let out = syn.clone().sent_to(&REALS6[slot as usize], 80);
        expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &out);
    }
}

#[test]
fn a_servers_segment_rebuilds_its_connection() {
    let mut rig: Rig = rig6::rig().expect("the rig");
    rig6::vserver(&rig, WEB6, |vserver| vserver.flags |= VSERVER_REPLICATE);
    let mut origins: HashMap<MapData, VserverKey<V6>, Origin<V6>> = rig.map(names::ORIGINS6);
    let key = VserverKey { ip_be: REALS6[0].ip.into(), port_be: 80_u16.to_be(), proto: 6, kind: 0 };
    let origin =
        Origin { virtual_be: VIP6.into(), port_be: 80_u16.to_be(), pad: 0, vserver: WEB6, real: FIRST6 };
    origins.insert(key, origin, 0).expect("ORIGINS6");
    let segment = Frame6::server(PSH | ACK, 5000, 70).payload(b"where were we?");
    let out = segment.clone().answered_as(VIP6, 80, &FAR6);
    expect(&mut rig, Side::Server, &segment, Reason::ForwardedRebuilt, &out);
    let answer = Frame6::client(ACK, 70, 5014);
    expect(&mut rig, Side::Client, &answer, Reason::ForwardedFlow, &answer.clone().sent_to(&REALS6[0], 80));
    assert_eq!(rig6::flows(&rig, names::FLOWS6).len(), 2);
    assert_eq!(rig6::events(&mut rig)[0].kind, EVENT_CONNECTION | EVENT_V6);
}
