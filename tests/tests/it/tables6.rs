//! The controller's side of the tables of IPv6, alone and beside those of IPv4; and the pages that both are read in.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use csm_common::address::V6;
use csm_common::flow::Connection;
use csm_common::service::{StickyEntry, StickyKey};
use csm_user::daemon::replica::KernelReplica;
use csm_user::dataplane::expiry::{Expiry, Pace};
use csm_user::dataplane::load::{AttachMode, Capacity, Dataplane};
use csm_user::dataplane::maps::SettingsCell;
use csm_user::dataplane::plan::{Assignments, HealthView, needed_hops, plan};
use csm_user::dataplane::ring::{Change, Delta};
use csm_user::dataplane::snapshot::{Directory, DirectoryCell};
use csm_user::dataplane::table::{Conflict, Insert, Position, Table, monotonic_ns};
use csm_user::model::{
    Config, ConnectionLimit, Family, Host, Name, Protocol, RateLimits, Real, RealAdmin, Serverfarm, Sticky,
    StickyAddress, Virtual, Vserver,
};
use csm_user::replication::record::{self, ConnGone, ConnRecord, Refusal, ReplicaTable, StickyRecord};

use super::tables::{config, connection, settings};

const SECOND_NS: u64 = 1_000_000_000;

pub(super) fn dataplane(connections: u32, ipv6: bool) -> Dataplane {
    let capacity =
        Capacity { connections, embryonic: 64, sticky: 1024, vservers: 16, reals: 16, ipv6, router: false };
    Dataplane::load_with(&[], AttachMode::Native, capacity).expect("root and a kernel with XDP")
}

/// The counterpart of a connection of IPv4: virtual server 1, real 2 of [`both`].
fn connection6(client: u32, generation: u32) -> Connection<V6> {
    let of = connection(client, generation);
    let address = |network: u16, host: u16| V6::from(Ipv6Addr::new(0xfd00, network, 0, 0, 0, 0, 0, host));
    let client_be = V6::from(Ipv6Addr::from_bits(0xfd00_0009 << 96 | u128::from(client)));
    Connection {
        client_be,
        virtual_be: address(2, 0x30),
        real_be: address(3, 0x101),
        source_be: client_be,
        client_port_be: of.client_port_be,
        virtual_port_be: of.virtual_port_be,
        real_port_be: of.real_port_be,
        source_port_be: of.source_port_be,
        client_vlan: 2,
        server_vlan: 3,
        proto: 6,
        state: of.state,
        via: 0,
        vserver: 1,
        real: 2,
        generation,
    }
}

fn insert6(connection: Connection<V6>) -> Insert<V6> {
    Insert { connection, to_server: 1, to_client: 2, idle_ns: 0, mark: 0 }
}

/// VIP1 of IPv4 and VIP6 of IPv6, both replicated, VIP6 with sticky group 7.
pub(super) fn both() -> Config {
    let mut config = config();
    config.vlans[0].address6 = Some("fd00:2::10/64".parse().unwrap());
    config.vlans[0].gateways.push("fd00:2::20".parse().unwrap());
    config.vlans[1].address6 = Some("fd00:3::10/64".parse().unwrap());
    let name = |name| Name::new(name).unwrap();
    config.serverfarms.push(Serverfarm {
        reals: vec![Real {
            address: "fd00:3::101".parse().unwrap(),
            port: None,
            weight: 8,
            limit: ConnectionLimit::default(),
            admin: RealAdmin::InService,
            probes: Vec::new(),
            name: None,
            backup: None,
        }],
        ..Serverfarm::new(name("WEB6"))
    });
    config.vservers.push(Vserver {
        name: name("VIP6"),
        virtual_server: Some(Virtual::single("fd00:2::30".parse().unwrap(), Protocol::TCP, 80)),
        serverfarm: Some(name("WEB6")),
        backup: None,
        threshold: None,
        rate_limits: RateLimits::default(),
        max_conns: 0,
        owner: None,
        advertise: None,
        sticky: Some(Sticky { minutes: 1, group: 7, bits: 32, bits6: 64, address: StickyAddress::Source }),
        reverse_sticky: None,
        replicate_sticky: true,
        ..config.vservers[0].clone()
    });
    config
}

/// A replica on tables of both families, its next hops numbered from `first`.
pub(super) fn replica(
    dataplane: &Dataplane,
    config: &Config,
    first: u32,
) -> (Arc<Table>, Arc<Table<V6>>, KernelReplica) {
    let hops = needed_hops(config).into_iter().zip(first..).collect();
    let desired = plan(config, &HealthView::default(), &hops, &mut Assignments::default()).unwrap();
    let directory = Arc::new(DirectoryCell::default());
    directory.set(Directory::of(&desired));
    let table = Arc::new(Table::open(dataplane).unwrap());
    let table6 = Arc::new(Table::open(dataplane).unwrap());
    let routers: [IpAddr; 2] = ["192.158.38.20".parse().unwrap(), "fd00:2::20".parse().unwrap()];
    let hop_number = Arc::new(move |host: Host| routers.contains(&host.address).then_some(7));
    let replica = KernelReplica::new(Arc::clone(&table), Some(Arc::clone(&table6)), directory, hop_number);
    (table, table6, replica)
}

fn connections(replica: &KernelReplica) -> Vec<ConnRecord> {
    let mut all = Vec::new();
    let mut visit = |chunk: &[ConnRecord]| {
        all.extend_from_slice(chunk);
        ControlFlow::Continue(())
    };
    replica.visit_connections(&mut visit).unwrap();
    all.sort_by_key(|record| record.key);
    all
}

pub(super) fn stickies(replica: &KernelReplica) -> Vec<StickyRecord> {
    let mut all = Vec::new();
    let mut visit = |chunk: &[StickyRecord]| {
        all.extend_from_slice(chunk);
        ControlFlow::Continue(())
    };
    replica.visit_sticky(&mut visit).unwrap();
    all
}

#[test]
fn what_one_node_holds_of_either_family_another_can_hold() {
    let nodes = [(); 2].map(|()| dataplane(1000, true));
    let config = both();
    let (table, table6, first) = replica(&nodes[0], &config, 1);
    let (_, second6, second) = replica(&nodes[1], &config, 40);
    let inserts: Vec<Insert> = (0..20)
        .map(|client| Insert {
            connection: connection(client, 9),
            to_server: 1,
            to_client: 2,
            idle_ns: 0,
            mark: 0,
        })
        .collect();
    let inserts6: Vec<Insert<V6>> = (0..30).map(|client| insert6(connection6(client, 9))).collect();
    assert!(table.insert(&inserts, Conflict::Keep).iter().all(Result::is_ok));
    assert!(table6.insert(&inserts6, Conflict::Keep).iter().all(Result::is_ok));
    let key = StickyKey { group: 7, client_be: V6::from("fd00:9::".parse::<Ipv6Addr>().unwrap()) };
    let bound = StickyEntry { last_used_ns: monotonic_ns(), life_s: 60, real: 2 };
    assert!(table6.insert_sticky(&[(key, bound)], false)[0].is_ok());

    let mut records = connections(&first);
    assert_eq!(records.len(), 50);
    assert_eq!(records.iter().filter(|record| record.key.client.is_ipv6()).count(), 30);
    // In any order: each result stands in its record's place.
    records.reverse();
    let stranger = ConnRecord { real_id: csm_user::model::StableId(1), ..records[0] };
    let mixed = ConnRecord { real: "192.158.39.101".parse().unwrap(), ..records[1] };
    let mut offered = records.clone();
    offered.splice(0..0, [stranger, mixed]);
    let results = second.upsert_connections(&offered, record::Conflict::KeepNewer);
    assert_eq!(results[..2], [Err(Refusal::UnknownReal), Err(Refusal::Internal)]);
    assert!(results[2..].iter().all(Result::is_ok));
    records.reverse();
    assert_eq!(connections(&second), records);
    let known = second6.delete(&inserts6[0].connection.forward_key(), None).unwrap();
    assert_eq!(known, Some(inserts6[0].connection));

    let [told] = stickies(&first)[..] else { panic!("one sticky entry") };
    assert_eq!(second.upsert_sticky(&[told], record::Conflict::KeepNewer), [Ok(())]);
    assert_eq!(stickies(&second), [told]);
    second.delete_sticky(&[told.key]);
    assert_eq!(stickies(&second), []);

    let gone: Vec<ConnGone> =
        records.iter().map(|record| ConnGone { key: record.key, generation: record.generation }).collect();
    second.delete_connections(&gone, record::Conflict::KeepNewer);
    assert_eq!(connections(&second), []);
}

#[test]
fn expiry_walks_both_families_and_counts_them_together() {
    let dataplane = dataplane(1000, true);
    let mut config = both();
    config.vservers.iter_mut().for_each(|vserver| vserver.idle = Duration::from_secs(20));
    let hops = needed_hops(&config).into_iter().zip(1..).collect();
    let desired = plan(&config, &HealthView::default(), &hops, &mut Assignments::default()).unwrap();
    let directory = DirectoryCell::default();
    directory.set(Directory::of(&desired));
    let table: Arc<Table> = Arc::new(Table::open(&dataplane).unwrap());
    let table6: Arc<Table<V6>> = Arc::new(Table::open(&dataplane).unwrap());
    let idle_ns = |client: u32| if client < 10 { 40 * SECOND_NS } else { 0 };
    let inserts: Vec<Insert> = (0..15)
        .map(|client| Insert {
            connection: connection(client, 1),
            to_server: 1,
            to_client: 2,
            idle_ns: idle_ns(client),
            mark: 0,
        })
        .collect();
    let inserts6: Vec<Insert<V6>> = (0..30)
        .map(|client| Insert { idle_ns: idle_ns(client), ..insert6(connection6(client, 1)) })
        .collect();
    assert!(table.insert(&inserts, Conflict::Replace).iter().all(Result::is_ok));
    assert!(table6.insert(&inserts6, Conflict::Replace).iter().all(Result::is_ok));
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let expiry = Expiry {
        table,
        table6: Some(table6),
        settings: Arc::new(SettingsCell::open(&dataplane, settings()).unwrap()),
        directory: Arc::new(directory),
        active: Arc::new(AtomicBool::new(true)),
        deltas: Arc::new(move |delta| sink.lock().unwrap().push(delta)),
        pace: Pace { slice: 64, rest: Duration::ZERO, between: Duration::ZERO },
    };
    let census = expiry.walk(2, &mut |_| false).unwrap().unwrap();
    assert_eq!((census.connections, census.expired), (25, 20));
    assert_eq!((census.vservers[&0], census.vservers[&1], census.reals[&2]), (5, 20, 20));
    let held = [(Family::V4, [(0, 5)].into()), (Family::V6, [(1, 20)].into())];
    assert_eq!(census.held, held.into(), "pairs, each once");
    let told = told.lock().unwrap();
    assert_eq!(told.iter().filter(|delta| matches!(delta, Delta::V6(Change::Closed(_)))).count(), 10);
}

#[test]
fn a_large_table_is_read_in_pages_that_take_milliseconds() {
    const CONNECTIONS: u32 = 200_000;
    let dataplane = dataplane(CONNECTIONS, false);
    let table: Table = Table::open(&dataplane).unwrap();
    for from in (0..CONNECTIONS).step_by(4096) {
        let inserts: Vec<Insert> = (from..CONNECTIONS.min(from + 4096))
            .map(|client| Insert {
                connection: connection(client, 1),
                to_server: 1,
                to_client: 2,
                idle_ns: 0,
                mark: 0,
            })
            .collect();
        assert!(table.insert(&inserts, Conflict::Replace).iter().all(Result::is_ok));
    }
    let (mut met, mut next, mut longest, mut pages) =
        (HashSet::new(), Some(Position::default()), Duration::ZERO, 0);
    let started = Instant::now();
    while let Some(position) = next {
        let page = Instant::now();
        let (seen, following) = table.page(position).unwrap();
        longest = longest.max(page.elapsed());
        assert!(seen.len() <= 4096, "a page is bounded");
        met.extend(seen.iter().map(|seen| seen.connection.forward_key()));
        (next, pages) = (following, pages + 1);
    }
    eprintln!("{} connections, {pages} pages in {:?}, longest {longest:?}", met.len(), started.elapsed());
    assert_eq!(met.len(), CONNECTIONS as usize);
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}
