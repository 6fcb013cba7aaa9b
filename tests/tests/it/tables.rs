//! The controller's side of the dataplane against the kernel's own maps.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use csm_common::flow::{
    Connection, FLAG_REPLICA, FLAG_REPLICATE, Local, STATE_CLOSED, STATE_ESTABLISHED, STATE_SYN,
};
use csm_common::names;
use csm_common::net::{AddressKey, NextHop};
use csm_common::service::{Settings, StickyEntry, StickyKey};
use csm_tests::rig::{FAR_CLIENT, Host, REALS, Rig, STRANGER, Side, VIP, VIRTUAL_MAC, be};
use csm_user::arp::frame::{Form, gratuitous};
use csm_user::daemon::replica::KernelReplica;
use csm_user::dataplane::bpf::{BpfMap, Update};
use csm_user::dataplane::expiry::{Expiry, Pace};
use csm_user::dataplane::load::{AttachMode, Capacity, Dataplane};
use csm_user::dataplane::maps::{Counters, HopMaps, MapSource, Maps, SettingsCell};
use csm_user::dataplane::plan::{Assignments, Contents, HealthView, needed_hops, plan};
use csm_user::dataplane::ring::{Change, Delta, Hint, RingThread};
use csm_user::dataplane::snapshot::{Directory, DirectoryCell};
use csm_user::dataplane::table::{Conflict, Insert, InsertError, Table, monotonic_ns};
use csm_user::model::{
    self, Config, ConnectionLimit, Name, Protocol, RateLimits, Real, RealAdmin, Serverfarm, StableId,
    Virtual, Vlan, VlanId, VlanRole, Vserver,
};
use csm_user::replication::record::{self, ConnGone, ConnKey, ConnRecord, Refusal, ReplicaTable};

use super::soon::soon;

/// Reals that the tables hold.
const REALS_HELD: u32 = 16;

fn dataplane(connections: u32) -> Dataplane {
    let capacity = Capacity {
        connections,
        embryonic: 1024,
        sticky: 1024,
        vservers: 16,
        reals: REALS_HELD,
        ipv6: false,
        router: false,
    };
    Dataplane::load_with(&[], AttachMode::Native, capacity).expect("root and a kernel with XDP")
}

pub(super) fn connection(client: u32, generation: u32) -> Connection {
    Connection {
        client_be: (0x0a00_0000 | client >> 12).to_be(),
        virtual_be: 0xc09e_261e_u32.to_be(),
        real_be: 0xc09e_2765_u32.to_be(),
        source_be: (0x0a00_0000 | client >> 12).to_be(),
        client_port_be: u16::try_from(1024 + (client & 0xfff)).unwrap().to_be(),
        virtual_port_be: 80_u16.to_be(),
        real_port_be: 80_u16.to_be(),
        source_port_be: u16::try_from(1024 + (client & 0xfff)).unwrap().to_be(),
        client_vlan: 2,
        server_vlan: 3,
        proto: 6,
        state: STATE_ESTABLISHED,
        via: 0,
        vserver: 0,
        real: 0,
        generation,
    }
}

fn insert(connection: Connection) -> Insert {
    Insert { connection, to_server: 1, to_client: 2, idle_ns: 0, mark: 0 }
}

fn visited(table: &Table) -> Vec<Connection> {
    let mut all = Vec::new();
    table
        .visit(&mut |chunk| {
            all.extend(chunk.iter().map(|seen| seen.connection));
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

fn flows(dataplane: &Dataplane) -> BpfMap<csm_common::flow::FlowKey, csm_common::flow::FlowEntry> {
    BpfMap::new(dataplane.descriptor(names::FLOWS).unwrap()).unwrap()
}

#[test]
fn replicas_stand_in_pairs_and_are_met_once() {
    let dataplane = dataplane(20_000);
    let table = Table::open(&dataplane).unwrap();
    let inserts: Vec<Insert> = (0..10_000).map(|client| insert(connection(client, 1))).collect();
    assert!(table.insert(&inserts, Conflict::Replace).iter().all(Result::is_ok));
    let mut met = visited(&table);
    met.sort_by_key(|met| (u32::from_be(met.client_be), u16::from_be(met.client_port_be)));
    assert_eq!(met, inserts.iter().map(|insert| insert.connection).collect::<Vec<_>>());

    let flows = flows(&dataplane);
    let back = flows.get(&met[0].return_key()).unwrap().unwrap();
    assert_eq!((back.nexthop, back.flags), (2, FLAG_REPLICA | FLAG_REPLICATE));
    flows.delete(&met[0].return_key()).unwrap();
    assert_eq!(visited(&table).len(), met.len() - 1, "one without its twin counts as absent");

    for connection in &met[1..] {
        assert_eq!(table.delete(&connection.forward_key(), None).unwrap(), Some(*connection));
    }
    assert!(visited(&table).is_empty());
    assert!(flows.get(&met[1].return_key()).unwrap().is_none());
}

#[test]
fn a_full_table_refuses_whole_pairs() {
    let dataplane = dataplane(1000);
    let table = Table::open(&dataplane).unwrap();
    let inserts: Vec<Insert> = (0..1500).map(|client| insert(connection(client, 1))).collect();
    let results = table.insert(&inserts, Conflict::Replace);
    let stands = visited(&table);
    let good = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(stands.len(), good, "what was said to stand does, and nothing else");
    assert_eq!(good, 1000);
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(InsertError::Full))));
}

#[test]
fn conflicts_are_settled_as_asked() {
    let dataplane = dataplane(1000);
    let table = Table::open(&dataplane).unwrap();
    let other_real = Connection { real_be: 0xc09e_2766_u32.to_be(), real: 1, ..connection(1, 5) };
    let one = |connection, conflict| table.insert(&[insert(connection)], conflict).pop().unwrap();
    one(connection(1, 4), Conflict::Keep).unwrap();
    one(connection(1, 4), Conflict::Keep).expect("equal content counts as inserted");
    mark(&dataplane, &connection(1, 4), |entry| entry.flags &= !FLAG_REPLICA);
    assert!(matches!(one(other_real, Conflict::Keep), Err(InsertError::Exists)));
    assert!(matches!(one(connection(1, 3), Conflict::KeepNewer), Err(InsertError::Superseded)));
    one(other_real, Conflict::KeepNewer).unwrap();
    assert_eq!(visited(&table), [other_real]);
    assert!(
        flows(&dataplane).get(&connection(1, 4).return_key()).unwrap().is_none(),
        "the old real's entry is gone"
    );
    let thief = Connection { virtual_be: 0xc09e_261f_u32.to_be(), ..other_real };
    assert!(
        matches!(one(thief, Conflict::Replace), Err(InsertError::Exists)),
        "the return direction belongs to another"
    );
    assert_eq!(table.delete(&other_real.forward_key(), Some(4)).unwrap(), None, "a later one stays");
    assert_eq!(table.delete(&other_real.forward_key(), Some(5)).unwrap(), Some(other_real));
}

/// Changes the entry of one direction, as a packet does.
fn mark(
    dataplane: &Dataplane,
    connection: &Connection,
    change: impl FnOnce(&mut csm_common::flow::FlowEntry),
) {
    let (flows, key) = (flows(dataplane), connection.forward_key());
    let mut entry = flows.get(&key).unwrap().expect("it stands");
    change(&mut entry);
    flows.set(&key, &entry, Update::Any).unwrap();
}

#[test]
fn the_last_words_of_a_predecessor_leave_what_was_used_here() {
    let dataplane = dataplane(1000);
    let table = Table::open(&dataplane).unwrap();
    let keep = |connection| table.insert(&[insert(connection)], Conflict::Keep).pop().unwrap();
    let (first, second) = (connection(1, 4), connection(1, 5));
    keep(first).unwrap();
    keep(second).expect("nobody has used the first one");
    assert!(matches!(keep(first), Err(InsertError::Superseded)));
    assert_eq!(table.delete_unused(&second.forward_key(), Some(4)).unwrap(), None, "a later one stays");
    mark(&dataplane, &second, |entry| entry.flags &= !FLAG_REPLICA);
    assert!(matches!(keep(connection(1, 6)), Err(InsertError::Exists)));
    assert_eq!(table.delete_unused(&second.forward_key(), Some(5)).unwrap(), None, "it is used here");
    mark(&dataplane, &second, |entry| entry.state = STATE_CLOSED);
    assert!(matches!(keep(second), Err(InsertError::Superseded)), "it ended here");
    let third = connection(1, 6);
    keep(third).expect("another one does not wait until the finished one is removed");
    assert_eq!(table.delete_unused(&third.forward_key(), Some(6)).unwrap(), Some(third));
    assert!(visited(&table).is_empty());
}

#[test]
fn sticky_entries_are_kept_replaced_and_walked() {
    let dataplane = dataplane(16);
    let table = Table::open(&dataplane).unwrap();
    let entry = |real| StickyEntry { last_used_ns: monotonic_ns(), life_s: 60, real };
    let key = |client| StickyKey { group: 10, client_be: client };
    let entries: Vec<_> = (0..500).map(|client| (key(client), entry(1))).collect();
    assert!(table.insert_sticky(&entries, false).iter().all(Result::is_ok));
    assert!(matches!(table.insert_sticky(&[(key(3), entry(2))], true)[..], [Err(InsertError::Exists)]));
    assert!(matches!(table.insert_sticky(&[(key(3), entry(1))], true)[..], [Ok(())]));
    assert!(matches!(table.insert_sticky(&[(key(3), entry(2))], false)[..], [Ok(())]));
    assert_eq!(table.delete_sticky(&[key(1), key(1000), key(2)]).unwrap(), 2);
    let mut met = 0;
    table
        .visit_sticky(&mut |chunk| {
            met += chunk.len();
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(met, 498);
}

#[test]
fn expiry_removes_what_is_over_and_counts_the_rest() {
    let dataplane = dataplane(10_000);
    let table = Arc::new(Table::open(&dataplane).unwrap());
    let idle =
        |idle_s: u64| move |connection| Insert { idle_ns: idle_s * 1_000_000_000, ..insert(connection) };
    let old: Vec<Insert> = (0..300).map(|client| connection(client, 1)).map(idle(40)).collect();
    let young: Vec<Insert> = (300..500).map(|client| connection(client, 1)).map(idle(5)).collect();
    for inserts in [&old, &young] {
        assert!(table.insert(inserts, Conflict::Replace).iter().all(Result::is_ok));
    }
    let flows = flows(&dataplane);
    let orphan = connection(900, 1);
    let local = Local { to_server: 1, to_client: 2, now_ns: 1, flags: 0, mark: 0 };
    flows.set(&orphan.return_key(), &orphan.return_entry(&local), Update::New).unwrap();
    let half_open = Connection { state: STATE_SYN, ..connection(901, 1) };
    let embryonic = BpfMap::new(dataplane.descriptor(names::EMBRYONIC).unwrap()).unwrap();
    embryonic.set(&half_open.forward_key(), &half_open.forward_entry(&local), Update::Any).unwrap();
    embryonic.set(&half_open.return_key(), &half_open.return_entry(&local), Update::Any).unwrap();
    let sticky = |used_ns| StickyEntry { last_used_ns: used_ns, life_s: 60, real: 7 };
    let now_ns = monotonic_ns();
    let entries = [(1, 1), (2, now_ns)]
        .map(|(client_be, used_ns)| (StickyKey { group: 10, client_be }, sticky(used_ns)));
    assert!(table.insert_sticky(&entries, false).iter().all(Result::is_ok));

    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let settings = SettingsCell::open(&dataplane, settings()).unwrap();
    let mut config = config();
    config.vservers[0].idle = Duration::from_secs(20);
    let hops = needed_hops(&config).into_iter().zip(1..).collect();
    let desired = plan(&config, &HealthView::default(), &hops, &mut Assignments::default()).unwrap();
    let directory = DirectoryCell::default();
    directory.set(Directory::of(&desired));
    let expiry = Expiry {
        table: Arc::clone(&table),
        table6: None,
        settings: Arc::new(settings),
        directory: Arc::new(directory),
        active: Arc::new(AtomicBool::new(false)),
        deltas: Arc::new(move |delta| sink.lock().unwrap().push(delta)),
        pace: Pace { slice: 64, rest: Duration::ZERO, between: Duration::ZERO },
    };
    let standby = expiry.walk(1, &mut |_| false).unwrap().unwrap();
    assert_eq!(standby.connections, 500, "a standby keeps replicas");
    assert!(flows.get(&orphan.return_key()).unwrap().is_none());
    assert!(embryonic.get(&half_open.forward_key()).unwrap().is_none());

    expiry.active.store(true, Ordering::Release);
    let active = expiry.walk(2, &mut |_| false).unwrap().unwrap();
    assert_eq!((active.connections, active.expired, active.sticky), (200, 300, 1));
    assert_eq!((active.vservers[&0], active.reals[&0]), (200, 200));
    assert_eq!(active.hops_in_use.into_iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(visited(&table).len(), 200);
    let told = told.lock().unwrap();
    assert_eq!(told.iter().filter(|delta| matches!(delta, Delta::V4(Change::Closed(_)))).count(), 300);

    expiry.settings.adopt(monotonic_ns()).unwrap();
    let map: BpfMap<u32, Settings> = BpfMap::new(dataplane.descriptor(names::SETTINGS).unwrap()).unwrap();
    assert!(map.get(&0).unwrap().unwrap().adopted_ns >= now_ns);
}

/// Promise P7: before new connections find no room, those that have been idle for longest make some.
#[test]
fn a_crowded_table_has_shorter_idle_times_from_the_next_walk_on() {
    let dataplane = dataplane(1000);
    let table = Arc::new(Table::open(&dataplane).unwrap());
    let idle = |idle_s: u64| {
        move |client| Insert { idle_ns: idle_s * 1_000_000_000, ..insert(connection(client, 1)) }
    };
    let old: Vec<Insert> = (0..200).map(idle(1900)).collect();
    let younger: Vec<Insert> = (200..900).map(idle(1000)).collect();
    for inserts in [&old, &younger] {
        assert!(table.insert(inserts, Conflict::Replace).iter().all(Result::is_ok));
    }
    let expiry = Expiry {
        table: Arc::clone(&table),
        table6: None,
        settings: Arc::new(SettingsCell::open(&dataplane, settings()).unwrap()),
        directory: Arc::default(),
        active: Arc::new(AtomicBool::new(true)),
        deltas: Arc::new(|_| {}),
        pace: Pace { slice: 64, rest: Duration::ZERO, between: Duration::ZERO },
    };
    let walk = |number| expiry.walk(number, &mut |_| false).unwrap().unwrap().connections;
    assert_eq!(walk(1), 900, "an hour is not over for any: but nine tenths are taken");
    assert_eq!(walk(2), 700, "half an hour is");
    assert_eq!(walk(3), 700, "there is room");
}

/// A farm of two reals behind a vserver, one gateway.
pub(super) fn config() -> Config {
    let name = |text| Name::new(text).unwrap();
    let real = |address: &str| Real {
        address: address.parse().unwrap(),
        port: None,
        weight: 8,
        limit: ConnectionLimit::default(),
        admin: RealAdmin::InService,
        probes: Vec::new(),
        name: None,
        backup: None,
    };
    let vlan = |number, role, address: &str, gateways: &[&str]| Vlan {
        address: Some(address.parse().unwrap()),
        gateways: gateways.iter().map(|gateway| gateway.parse().unwrap()).collect(),
        ..Vlan::new(VlanId::new(number).unwrap(), role)
    };
    Config {
        vlans: vec![
            vlan(2, VlanRole::Client, "192.158.38.10/24", &["192.158.38.20"]),
            vlan(3, VlanRole::Server, "192.158.39.10/24", &[]),
        ],
        serverfarms: vec![Serverfarm {
            reals: vec![real("192.158.39.101"), real("192.158.39.102")],
            ..Serverfarm::new(name("WEB"))
        }],
        vservers: vec![Vserver {
            name: name("VIP1"),
            virtual_server: Some(Virtual::single("192.158.38.30".parse().unwrap(), Protocol::TCP, 80)),
            serverfarm: Some(name("WEB")),
            backup: None,
            threshold: None,
            rate_limits: RateLimits::default(),
            max_conns: 0,
            owner: None,
            advertise: None,
            policies: vec![],
            vlan: None,
            clients: vec![],
            unidirectional: None,
            idle: Duration::from_secs(3600),
            pending: Duration::from_secs(30),
            sticky: None,
            replicate_connection: true,
            reverse_sticky: None,
            replicate_sticky: false,
            inservice: true,
        }],
        ..Config::default()
    }
}

#[test]
fn the_maps_become_what_is_planned_and_are_read_back() {
    let dataplane = dataplane(16);
    let maps = Maps::open(&dataplane).unwrap();
    assert_eq!(maps.read_back().unwrap(), Contents::default());
    let mut config = config();
    let hops: HashMap<_, _> = needed_hops(&config).into_iter().zip(1..).collect();
    let mut numbers = Assignments::default();
    let desired = plan(&config, &HealthView::default(), &hops, &mut numbers).unwrap();
    assert!(maps.reconcile(&desired.contents).unwrap() > 0);
    assert_eq!(maps.read_back().unwrap(), desired.contents);
    assert_eq!(maps.reconcile(&desired.contents).unwrap(), 0, "nothing is left to do");
    assert!(Directory::of(&desired).replicates(0));

    config.serverfarms[0].reals.remove(0);
    config.vlans[0].gateways.clear();
    let desired = plan(&config, &HealthView::default(), &hops, &mut numbers).unwrap();
    maps.reconcile(&desired.contents).unwrap();
    let held = maps.read_back().unwrap();
    assert_eq!((&held.rings, &held.routes), (&desired.contents.rings, &desired.contents.routes));
    assert_eq!(held.reals[&0].flags, 0, "the real that went drains");
    assert_eq!(maps.reconcile(&desired.contents).unwrap(), 0);
}

#[test]
fn counters_and_next_hops_are_read() {
    let dataplane = dataplane(16);
    let counters = Counters::open(&dataplane).unwrap();
    assert!(counters.reasons().unwrap().iter().all(|(_, count)| count.packets == 0));
    assert_eq!(counters.vserver(0).unwrap().connections, 0);
    assert!(counters.real(REALS_HELD - 1).is_ok());
    assert!(counters.real(REALS_HELD).is_err());
    let hops = HopMaps::open(&dataplane).unwrap();
    let hop = NextHop {
        dst_mac: [2; 6],
        src_mac: [4; 6],
        port: 1,
        vlan: 3,
        flags: 1,
        ip_be: 0xc09e_2765_u32.to_be(),
        mtu: 1500,
        tunnel: 0,
        group: 0,
        pad: 0,
    };
    hops.set_nexthop(7, &hop).unwrap();
    assert_eq!(hops.nexthop(7).unwrap(), Some(hop));
    let host = AddressKey { ip_be: hop.ip_be, vlan: 3, pad: 0 };
    hops.set_neighbour(&host, Some(7)).unwrap();
    assert_eq!(hops.neighbour(&host).unwrap(), Some(7));
    hops.set_neighbour(&host, None).unwrap();
    assert_eq!(hops.neighbour(&host).unwrap(), None);
}

pub(super) fn settings() -> Settings {
    Settings {
        virtual_mac: csm_common::net::virtual_mac(1),
        peer_mac: [0; 6],
        ft_port: 2,
        ft_tag: 0,
        adopted_ns: 0,
    }
}

#[test]
fn what_one_node_holds_another_can_hold() {
    let nodes = [(); 2].map(|()| dataplane(1000));
    let config = config();
    // Each node numbers its next hops in its own way.
    let desired = [1_u32, 40].map(|first| {
        let hops = needed_hops(&config).into_iter().zip(first..).collect();
        plan(&config, &HealthView::default(), &hops, &mut Assignments::default()).unwrap()
    });
    let replica = |node: usize| {
        let table = Arc::new(Table::open(&nodes[node]).unwrap());
        let directory = Arc::new(DirectoryCell::default());
        directory.set(Directory::of(&desired[node]));
        // The router behind which the clients are, and no other neighbour.
        let router = std::net::IpAddr::from([192, 158, 38, 20]);
        let hop_number = Arc::new(move |host: model::Host| (host.address == router).then_some(7));
        (Arc::clone(&table), KernelReplica::new(table, None, directory, hop_number))
    };
    let (table, first) = replica(0);
    let (_, second) = replica(1);
    let inserts: Vec<Insert> = (0..300).map(|client| insert(connection(client, 9))).collect();
    assert!(table.insert(&inserts, Conflict::Keep).iter().all(Result::is_ok));
    let all = |replica: &KernelReplica| {
        let mut all = Vec::new();
        let mut visit = |chunk: &[ConnRecord]| {
            all.extend_from_slice(chunk);
            ControlFlow::Continue(())
        };
        replica.visit_connections(&mut visit).unwrap();
        all.sort_by_key(|record| record.key);
        all
    };
    let records = all(&first);
    assert_eq!(records.len(), 300);
    let results = second.upsert_connections(&records, record::Conflict::KeepNewer);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(all(&second), records);
    let back = flows(&nodes[1]).get(&inserts[0].connection.return_key()).unwrap().unwrap();
    assert_eq!(back.nexthop, 7, "towards the client by way of the router");

    let stranger = ConnRecord { vserver: StableId(1), ..records[0] };
    let homeless = ConnRecord { real_id: StableId(1), ..records[0] };
    let neighbour = ConnKey { client: "192.158.38.99".parse().unwrap(), ..records[0].key };
    let unreachable = ConnRecord { key: neighbour, ..records[0] };
    assert_eq!(
        second.upsert_connections(&[stranger, records[1], homeless, unreachable], record::Conflict::Replace),
        [Err(Refusal::UnknownVserver), Ok(()), Err(Refusal::UnknownReal), Err(Refusal::NoNextHop)]
    );
    let gone: Vec<ConnGone> =
        records.iter().map(|record| ConnGone { key: record.key, generation: record.generation }).collect();
    second.delete_connections(&gone[1..], record::Conflict::KeepNewer);
    assert_eq!(all(&second), records[..1]);
}

/// A TCP frame to the virtual MAC.
fn tcp(from: (&Host, u16), to: (std::net::Ipv4Addr, u16), flags: &str, seq: u32, ack: u32) -> Vec<u8> {
    let mut header = etherparse::TcpHeader::new(from.1, to.1, seq, 65_535);
    header.acknowledgment_number = ack;
    (header.syn, header.ack, header.rst) = (flags.contains('S'), flags.contains('A'), flags.contains('R'));
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(from.0.mac, VIRTUAL_MAC)
        .ipv4(from.0.ip.octets(), to.0.octets(), 64)
        .tcp_header(header)
        .write(&mut frame, &[])
        .unwrap();
    frame
}

#[test]
fn the_ring_tells_of_connections_and_hosts() {
    let mut rig = Rig::new().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let (hints, mut hinted) = tokio::sync::mpsc::channel(8);
    let thread =
        RingThread::spawn(&rig.dataplane, Arc::new(move |delta| sink.lock().unwrap().push(delta)), hints)
            .unwrap();

    let [client, server] = [(&FAR_CLIENT, 4000), (&REALS[0], 80)];
    rig.run(Side::Client, &tcp(client, (VIP, 80), "S", 100, 0));
    rig.run(Side::Server, &tcp(server, (FAR_CLIENT.ip, 4000), "SA", 500, 101));
    rig.run(Side::Client, &tcp(client, (VIP, 80), "A", 101, 501));
    let up = soon("the connection's record", || match told.lock().unwrap()[..] {
        [Delta::V4(Change::Up(connection)), ..] => Some(connection),
        _ => None,
    });
    assert_eq!((up.client_port_be, up.real_be), (4000_u16.to_be(), be(REALS[0].ip)));
    rig.run(Side::Client, &tcp(client, (VIP, 80), "R", 101, 501));
    let closed = Delta::V4(Change::Closed(Connection { state: STATE_CLOSED, ..up }));
    soon("the record of its end", || told.lock().unwrap().contains(&closed).then_some(()));

    rig.run(Side::Client, &gratuitous(Form::Reply, STRANGER.mac, STRANGER.ip));
    rig.run(Side::Client, &gratuitous(Form::Reply, STRANGER.mac, VIP));
    let key = |ip: std::net::Ipv4Addr| model::Host::on(ip, 2);
    assert_eq!(hinted.blocking_recv(), Some(Hint::Neighbour(key(STRANGER.ip), STRANGER.mac)));
    assert_eq!(hinted.blocking_recv(), Some(Hint::Rival(key(VIP), STRANGER.mac)));
    assert_eq!(thread.counters.unknown.load(Ordering::Relaxed), 0);
    drop(thread);
    assert_eq!(hinted.blocking_recv(), None, "the thread has ended");
}
