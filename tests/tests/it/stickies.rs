//! Sticky entries of the configuration in the kernel's own maps, among those that connections made.

use std::net::IpAddr;

use csm_common::address::V6;
use csm_common::service::{StickyEntry, StickyKey};
use csm_user::dataplane::bpf::{BpfMap, Update};
use csm_user::dataplane::family::wire;
use csm_user::dataplane::maps::{MapSource, Maps};
use csm_user::dataplane::plan::{Assignments, Contents, HealthView, needed_hops, plan};
use csm_user::dataplane::table::monotonic_ns;
use csm_user::model::{Config, StaticSticky, StickyAddress, StickyGroup};
use csm_user::replication::record::{self, Conflict, Refusal, ReplicaTable, StickyRecord};

use super::tables6::{both, dataplane, replica, stickies};

/// VIP6 of [`both`] with a group that gives a network its real.
fn fixing() -> Config {
    let mut config = both();
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    config.sticky_groups = vec![StickyGroup {
        bits6: 64,
        statics: vec![StaticSticky {
            destination: None,
            address: StickyAddress::Source,
            client: address("fd00:9::77"),
            real: address("fd00:3::101"),
            port: None,
        }],
        ..StickyGroup::new(7)
    }];
    config
}

fn key(network: &str) -> StickyKey<V6> {
    StickyKey { group: 7, client_be: wire(network.parse().unwrap()) }
}

fn planned(config: &Config) -> Contents<V6> {
    let hops = needed_hops(config).into_iter().zip(1..).collect();
    plan(config, &HealthView::default(), &hops, &mut Assignments::default()).unwrap().contents6
}

#[test]
fn the_map_gets_them_and_loses_them_and_what_connections_made_stays() {
    let dataplane = dataplane(16, true);
    let map: BpfMap<StickyKey<V6>, StickyEntry> =
        BpfMap::new(dataplane.descriptor(csm_common::names::STICKY6).unwrap()).unwrap();
    let dynamic = StickyEntry { last_used_ns: monotonic_ns(), life_s: 60, real: 2 };
    map.set(&key("fd00:8::"), &dynamic, Update::Any).unwrap();
    // A connection was there first.
    map.set(&key("fd00:9::"), &dynamic, Update::Any).unwrap();
    let maps: Maps<V6> = Maps::open(&dataplane).unwrap();
    let desired = planned(&fixing());
    assert_eq!(desired.stickies.len(), 1);
    maps.reconcile(&desired).unwrap();
    assert_eq!(map.get(&key("fd00:9::")).unwrap(), Some(StickyEntry::fixed(2)));
    assert_eq!(maps.read_back().unwrap(), desired);
    assert_eq!(maps.reconcile(&desired).unwrap(), 0, "nothing is left to do");
    // Use writes the time; that is no difference.
    map.set(&key("fd00:9::"), &StickyEntry { last_used_ns: 5, ..StickyEntry::fixed(2) }, Update::Any)
        .unwrap();
    assert_eq!(maps.reconcile(&desired).unwrap(), 0);
    map.set(&key("fd00:9::"), &dynamic, Update::Any).unwrap();
    assert_eq!(maps.reconcile(&desired).unwrap(), 1, "what was overwritten is set right");
    // Another controller, whose configuration has no such line, finds it and takes it out.
    let successor: Maps<V6> = Maps::open(&dataplane).unwrap();
    assert!(successor.reconcile(&planned(&both())).unwrap() > 0);
    assert_eq!(map.get(&key("fd00:9::")).unwrap(), None);
    assert_eq!(map.get(&key("fd00:8::")).unwrap(), Some(dynamic));
}

#[test]
fn the_peer_neither_hears_of_them_nor_changes_them() {
    let dataplane = dataplane(16, true);
    let config = fixing();
    let (_, table6, replica) = replica(&dataplane, &config, 1);
    Maps::<V6>::open(&dataplane).unwrap().reconcile(&planned(&config)).unwrap();
    assert_eq!(stickies(&replica), []);
    let mut held = table6.insert_sticky(
        &[(key("fd00:8::"), StickyEntry { last_used_ns: monotonic_ns(), life_s: 60, real: 2 })],
        false,
    );
    held.pop().unwrap().unwrap();
    let own = stickies(&replica);
    assert_eq!(own.len(), 1);
    let client = |text: &str| text.parse::<IpAddr>().unwrap();
    let of = |text| StickyRecord { key: record::StickyKey { client: client(text), ..own[0].key }, ..own[0] };
    let records = [of("fd00:7::"), of("fd00:9::"), of("fd00:6::")];
    for conflict in [Conflict::Replace, Conflict::Keep] {
        let results = replica.upsert_sticky(&records, conflict);
        assert_eq!(results, [Ok(()), Err(Refusal::Exists), Ok(())], "one is fixed here");
    }
    let map: BpfMap<StickyKey<V6>, StickyEntry> =
        BpfMap::new(dataplane.descriptor(csm_common::names::STICKY6).unwrap()).unwrap();
    let at = |text: &str| map.get(&key(text)).unwrap();
    assert_eq!(at("fd00:9::"), Some(StickyEntry::fixed(2)));
    assert!(at("fd00:7::").is_some() && at("fd00:6::").is_some());
    replica.delete_sticky(&records.map(|record| record.key));
    assert_eq!(at("fd00:9::"), Some(StickyEntry::fixed(2)));
    assert!(at("fd00:7::").is_none() && at("fd00:6::").is_none());
    // One without a life would be taken for one of the configuration.
    let results = replica.upsert_sticky(&[StickyRecord { life_s: 0, ..records[0] }], Conflict::Replace);
    assert_eq!(results, [Ok(())]);
    assert!(!at("fd00:7::").unwrap().is_fixed());
}
