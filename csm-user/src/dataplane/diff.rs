//! From what the maps hold to what they are to hold, in an order that is safe at each step. Pure.
//!
//! A packet may be looked at between any two operations. So what is referred to is written before what refers to it:
//! reals, ring slots, virtual servers (with the ring's length), routes, addresses, and last the keys that lead to a
//! virtual server. Taking away goes first and the other way round.

use std::collections::HashMap;
use std::hash::Hash;

use csm_common::net::{Address, AddressKey, Route};
use csm_common::service::{
    ClientPrefix, Match, Networks, Origin, Pool, Real, Reverse, StickyKey, VSERVER_REPLICATE,
    VSERVER_REPLICATE_STICKY, VSERVER_UNIDIRECTIONAL, Vserver, VserverKey,
};
use ipnet::IpNet;

use super::family::Wire;
use super::plan::Contents;

/// What a virtual server that is gone still is to its connections.
const DRAINING: u32 = VSERVER_REPLICATE | VSERVER_REPLICATE_STICKY | VSERVER_UNIDIRECTIONAL;

/// One write to a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<A: Wire = u32> {
    /// Removes from `ORIGINS`.
    RemoveOrigin(VserverKey<A>),
    /// Removes from `VSERVER_KEYS`.
    RemoveVserverKey(VserverKey<A>),
    /// Removes from `ADDRESSES`.
    RemoveAddress(AddressKey<A>),
    /// Removes from `ROUTES`.
    RemoveRoute(IpNet),
    /// Writes an element of `REALS`.
    SetReal(u32, Real<A>),
    /// Writes the first slots of a vserver's ring.
    SetRing(u32, Vec<u32>),
    /// Writes an element of `VSERVERS`.
    SetVserver(u32, Vserver<A>),
    /// Writes to `ROUTES`.
    SetRoute(IpNet, Route),
    /// Writes to `ADDRESSES`.
    SetAddress(AddressKey<A>, Address),
    /// Writes to `VSERVER_KEYS`.
    SetVserverKey(VserverKey<A>, Match),
    /// Writes an element of `POOLS`.
    SetPool(u32, Pool<A>),
    /// Writes to `STATICS`.
    SetStatic(IpNet, u32),
    /// Removes from `STATICS`.
    RemoveStatic(IpNet),
    /// Writes to `CLIENTS`.
    SetClient(ClientPrefix<A>, u32),
    /// Writes to `NETWORKS`.
    SetNetwork(IpNet, Networks),
    /// Removes from `NETWORKS`.
    RemoveNetwork(IpNet),
    /// Removes from `CLIENTS`.
    RemoveClient(ClientPrefix<A>),
    /// Writes an element of `ERROR_SOURCES`.
    SetErrorSource(u32, A),
    /// Writes an entry of the configuration to `STICKY`, with this real.
    SetSticky(StickyKey<A>, u32),
    /// Removes an entry of the configuration from `STICKY`.
    RemoveSticky(StickyKey<A>),
    /// Writes an element of `REVERSES`.
    SetReverse(u32, Reverse<A>),
    /// Writes to `ORIGINS`.
    SetOrigin(VserverKey<A>, Origin<A>),
}

/// The operations that turn `current` into `desired`.
#[must_use]
pub fn diff<A: Wire>(desired: &Contents<A>, current: &Contents<A>) -> Vec<Operation<A>> {
    let mut operations = removals(desired, current);
    for (&number, &pool) in &desired.pools {
        if current.pools.get(&number) != Some(&pool) {
            operations.push(Operation::SetPool(number, pool));
        }
    }
    for (&net, &number) in &desired.statics {
        if current.statics.get(&net) != Some(&number) {
            operations.push(Operation::SetStatic(net, number));
        }
    }
    for (&number, &real) in &desired.reals {
        if current.reals.get(&number) != Some(&real) {
            operations.push(Operation::SetReal(number, real));
        }
    }
    for (&group, &reverse) in &desired.reverses {
        if current.reverses.get(&group) != Some(&reverse) {
            operations.push(Operation::SetReverse(group, reverse));
        }
    }
    for (&vserver, slots) in &desired.rings {
        if current.rings.get(&vserver) != Some(slots) {
            operations.push(Operation::SetRing(vserver, slots.clone()));
        }
    }
    for (&number, &vserver) in &desired.vservers {
        if current.vservers.get(&number) != Some(&vserver) {
            operations.push(Operation::SetVserver(number, vserver));
        }
    }
    // After the virtual servers, whose connections leave them alone from then on.
    let stickies = changed(&desired.stickies, &current.stickies);
    operations.extend(stickies.map(|(key, real)| Operation::SetSticky(key, real)));
    for (&net, &route) in &desired.routes {
        if current.routes.get(&net) != Some(&route) {
            operations.push(Operation::SetRoute(net, route));
        }
    }
    let addresses = changed(&desired.addresses, &current.addresses);
    operations.extend(addresses.map(|(key, address)| Operation::SetAddress(key, address)));
    let clients = changed(&desired.clients, &current.clients);
    operations.extend(clients.map(|(prefix, number)| Operation::SetClient(prefix, number)));
    let keys = changed(&desired.vserver_keys, &current.vserver_keys);
    operations.extend(keys.map(|(key, number)| Operation::SetVserverKey(key, number)));
    for (&net, &networks) in &desired.networks {
        if current.networks.get(&net) != Some(&networks) {
            operations.push(Operation::SetNetwork(net, networks));
        }
    }
    let origins = changed(&desired.origins, &current.origins);
    operations.extend(origins.map(|(key, origin)| Operation::SetOrigin(key, origin)));
    for (&vlan, &source) in &desired.error_sources {
        if current.error_sources.get(&vlan) != Some(&source) {
            operations.push(Operation::SetErrorSource(vlan, source));
        }
    }
    let gone = current.error_sources.keys().filter(|vlan| !desired.error_sources.contains_key(vlan));
    operations.extend(gone.map(|&vlan| Operation::SetErrorSource(vlan, A::UNSPECIFIED)));
    // Only now no key leads to these any more.
    let gone = current.clients.keys().filter(|prefix| !desired.clients.contains_key(prefix));
    operations.extend(gone.map(|&prefix| Operation::RemoveClient(prefix)));
    // Nor did those of policies until the clients' networks were written anew.
    for (&number, vserver) in &current.vservers {
        if !desired.vservers.contains_key(&number) && *vserver != Vserver::default() {
            // Its connections drain as they lived. All that counts for them stands here, so that a restart finds it.
            let drained = Vserver {
                flags: vserver.flags & DRAINING,
                idle_s: vserver.idle_s,
                pending_s: vserver.pending_s,
                sticky_group: vserver.sticky_group,
                reverse: vserver.reverse,
                mark: vserver.mark,
                ..Vserver::default()
            };
            if *vserver != drained {
                operations.push(Operation::SetVserver(number, drained));
            }
        }
    }
    let gone = current.reverses.keys().filter(|group| !desired.reverses.contains_key(group));
    operations.extend(gone.map(|&group| Operation::SetReverse(group, Reverse::default())));
    let gone = current.pools.keys().filter(|number| !desired.pools.contains_key(number));
    operations.extend(gone.map(|&number| Operation::SetPool(number, Pool::default())));
    operations
}

fn removals<A: Wire>(desired: &Contents<A>, current: &Contents<A>) -> Vec<Operation<A>> {
    let mut operations = Vec::new();
    let gone = current.origins.keys().filter(|key| !desired.origins.contains_key(key));
    operations.extend(gone.map(|&key| Operation::RemoveOrigin(key)));
    let gone = current.stickies.keys().filter(|key| !desired.stickies.contains_key(key));
    operations.extend(gone.map(|&key| Operation::RemoveSticky(key)));
    let gone = current.statics.keys().filter(|net| !desired.statics.contains_key(net));
    operations.extend(gone.map(|&net| Operation::RemoveStatic(net)));
    let gone = current.networks.keys().filter(|net| !desired.networks.contains_key(net));
    operations.extend(gone.map(|&net| Operation::RemoveNetwork(net)));
    let gone = current.vserver_keys.keys().filter(|key| !desired.vserver_keys.contains_key(key));
    operations.extend(gone.map(|&key| Operation::RemoveVserverKey(key)));
    let gone = current.addresses.keys().filter(|key| !desired.addresses.contains_key(key));
    operations.extend(gone.map(|&key| Operation::RemoveAddress(key)));
    let gone = current.routes.keys().filter(|net| !desired.routes.contains_key(net));
    operations.extend(gone.map(|&net| Operation::RemoveRoute(net)));
    for (&number, &real) in &current.reals {
        if !desired.reals.contains_key(&number) && real.flags != 0 {
            operations.push(Operation::SetReal(number, Real { flags: 0, ..real }));
        }
    }
    operations
}

fn changed<'a, K: Copy + Eq + Hash, V: Copy + PartialEq>(
    desired: &'a HashMap<K, V>,
    current: &'a HashMap<K, V>,
) -> impl Iterator<Item = (K, V)> + 'a {
    desired.iter().filter(|&(key, value)| current.get(key) != Some(value)).map(|(&key, &value)| (key, value))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::dataplane::plan::Desired;
    use crate::dataplane::plan::tests::{dual_stack, figure_7_1, hops};
    use crate::dataplane::plan::{Assignments, HealthView, plan};
    use crate::model::{self, Config, Name, Protocol, RealAdmin, Serverfarm, StableId, Virtual};
    use csm_common::service::{REAL_USABLE, of_weighted_slot};

    /// The maps after `operations`, checking after each one that nothing refers to what is not there.
    fn apply<A: Wire>(mut maps: Contents<A>, operations: &[Operation<A>]) -> Contents<A> {
        for operation in operations {
            match operation.clone() {
                Operation::RemoveOrigin(key) => drop(maps.origins.remove(&key)),
                Operation::SetOrigin(key, origin) => drop(maps.origins.insert(key, origin)),
                Operation::RemoveVserverKey(key) => drop(maps.vserver_keys.remove(&key)),
                Operation::RemoveAddress(key) => drop(maps.addresses.remove(&key)),
                Operation::RemoveRoute(net) => drop(maps.routes.remove(&net)),
                Operation::SetReal(number, real) => drop(maps.reals.insert(number, real)),
                Operation::SetReverse(group, reverse) if reverse == Reverse::default() => {
                    let _ = maps.reverses.remove(&group);
                }
                Operation::SetReverse(group, reverse) => drop(maps.reverses.insert(group, reverse)),
                Operation::SetRing(vserver, slots) => {
                    // Of an array: what lies beyond stays, and may be read until the length is written.
                    let ring = maps.rings.entry(vserver).or_default();
                    let beyond = ring.split_off(slots.len().min(ring.len()));
                    *ring = [slots, beyond].concat();
                }
                Operation::SetVserver(number, vserver) => drop(maps.vservers.insert(number, vserver)),
                Operation::SetRoute(net, route) => drop(maps.routes.insert(net, route)),
                Operation::SetAddress(key, address) => drop(maps.addresses.insert(key, address)),
                Operation::SetVserverKey(key, found) => drop(maps.vserver_keys.insert(key, found)),
                Operation::SetPool(number, pool) if pool == Pool::default() => {
                    let _ = maps.pools.remove(&number);
                }
                Operation::SetPool(number, pool) => drop(maps.pools.insert(number, pool)),
                Operation::SetErrorSource(vlan, source) if source == A::UNSPECIFIED => {
                    let _ = maps.error_sources.remove(&vlan);
                }
                Operation::SetErrorSource(vlan, source) => drop(maps.error_sources.insert(vlan, source)),
                Operation::SetStatic(net, number) => drop(maps.statics.insert(net, number)),
                Operation::RemoveStatic(net) => drop(maps.statics.remove(&net)),
                Operation::SetSticky(key, real) => drop(maps.stickies.insert(key, real)),
                Operation::RemoveSticky(key) => drop(maps.stickies.remove(&key)),
                Operation::SetClient(prefix, number) => drop(maps.clients.insert(prefix, number)),
                Operation::RemoveClient(prefix) => drop(maps.clients.remove(&prefix)),
                Operation::SetNetwork(net, networks) => drop(maps.networks.insert(net, networks)),
                Operation::RemoveNetwork(net) => drop(maps.networks.remove(&net)),
            }
            for reverse in maps.reverses.values() {
                let reals = &reverse.reals[..reverse.count as usize];
                assert!(
                    reals.iter().all(|real| maps.reals.contains_key(real)),
                    "a group names an unwritten real"
                );
            }
            for real in maps.stickies.values() {
                assert!(maps.reals.contains_key(real), "a sticky entry names an unwritten real");
            }
            for origin in maps.origins.values() {
                assert!(maps.vservers.contains_key(&origin.vserver) && maps.reals.contains_key(&origin.real));
            }
            for found in maps.vserver_keys.values() {
                assert!(maps.vservers.contains_key(&found.vserver), "a key leads to an unwritten vserver");
                let ruled = |prefix: &ClientPrefix<A>| u32::from(prefix.of.rules) == found.rules;
                assert!(found.rules == 0 || maps.clients.keys().any(ruled), "a key leads to unwritten rules");
            }
            for (number, vserver) in maps.vservers.iter().filter(|(_, vserver)| vserver.ring_len > 0) {
                let ring = &maps.rings[number];
                assert!(ring.len() >= vserver.ring_len as usize, "a ring is longer than what was written");
                assert!(
                    ring.iter().all(|slot| maps.reals.contains_key(&of_weighted_slot(*slot).0)),
                    "a slot names an unwritten real"
                );
            }
        }
        maps
    }

    #[test]
    fn from_nothing_in_a_safe_order_and_then_nothing_more() {
        let config = dual_stack();
        let desired =
            plan(&config, &HealthView::default(), &hops(&config), &mut Assignments::default()).unwrap();
        fn check<A: Wire>(desired: &Contents<A>) {
            let operations = diff(desired, &Contents::default());
            assert!(!operations.is_empty());
            let maps = apply(Contents::default(), &operations);
            assert_eq!(maps, *desired);
            assert_eq!(diff(desired, &maps), []);
        }
        check(&desired.contents);
        check(&desired.contents6);
    }

    #[test]
    fn what_is_gone_is_unreachable_first_and_drains() {
        let mut numbers = Assignments::default();
        let mut config = figure_7_1();
        let before = plan(&config, &HealthView::default(), &hops(&config), &mut numbers).unwrap().contents;
        config.vservers.clear();
        config.serverfarms.clear();
        let after = plan(&config, &HealthView::default(), &hops(&config), &mut numbers).unwrap().contents;
        let operations = diff(&after, &before);
        assert!(operations[..3].iter().all(|operation| matches!(operation, Operation::RemoveOrigin(_))));
        assert!(matches!(operations[3], Operation::RemoveVserverKey(_)));
        let maps = apply(before.clone(), &operations);
        assert!(maps.reals.values().all(|real| real.flags & REAL_USABLE == 0 && real.nexthop != 0));
        let drained = maps.vservers[&0];
        assert_eq!(drained.idle_s, 3600, "old connections keep their idle time");
        let replicates = VSERVER_REPLICATE | VSERVER_REPLICATE_STICKY;
        assert_eq!((drained.flags, drained.sticky_group), (replicates, before.vservers[&0].sticky_group));
        assert_eq!(diff(&after, &maps), [], "drained entries are left alone");
    }

    /// What the maps mean, whichever numbers stand for it.
    fn meaning(desired: &Desired, maps: &Contents) -> BTreeSet<String> {
        let vserver = |number: u32| desired.vservers.get(&number).map(|known| known.id);
        let real = |number: &u32| desired.reals.get(number).map(|known| known.id);
        let rules = |wanted: u32| -> BTreeSet<String> {
            let of =
                maps.clients.iter().filter(|(prefix, _)| wanted != 0 && u32::from(prefix.of.rules) == wanted);
            of.map(|(prefix, number)| {
                format!("{:?} {:?} {:?}", prefix.of.vlan, prefix.of.client_be, vserver(*number))
            })
            .collect()
        };
        let mut all = BTreeSet::new();
        for (key, found) in &maps.vserver_keys {
            let leads_to = if found.rules == 0 { vserver(found.vserver) } else { None };
            all.insert(format!("key {key:?} {leads_to:?} {:?}", rules(found.rules)));
        }
        for (number, entry) in
            maps.vservers.iter().filter(|(number, _)| desired.vservers.contains_key(number))
        {
            let own = entry.sticky_group.checked_sub(crate::dataplane::plan::PRIVATE_STICKY) == Some(*number);
            let group = if own { 0 } else { entry.sticky_group };
            let ring = maps.rings.get(number).map_or(&[][..], |ring| &ring[..entry.ring_len as usize]);
            let slot = |&slot: &u32| {
                let (number, weight) = of_weighted_slot(slot);
                (real(&number), weight)
            };
            let ring: Vec<_> = ring.iter().map(slot).collect();
            let of = entry.policy_of.checked_sub(1).map(vserver);
            let entry = Vserver { sticky_group: group, policy_of: 0, ..*entry };
            all.insert(format!("vserver {:?} {own} {of:?} {entry:?} {ring:?}", vserver(*number)));
        }
        for (number, entry) in maps.reals.iter().filter(|(number, _)| desired.reals.contains_key(number)) {
            all.insert(format!("real {:?} {entry:?}", real(number)));
        }
        all.extend(maps.addresses.iter().map(|(key, address)| format!("address {key:?} {address:?}")));
        all.extend(maps.routes.iter().map(|(net, route)| format!("route {net} {route:?}")));
        for (key, origin) in &maps.origins {
            let (of, from) = (vserver(origin.vserver), real(&origin.real));
            all.insert(format!(
                "origin {key:?} {:?} {:?} {of:?} {from:?}",
                origin.virtual_be, origin.port_be
            ));
        }
        all
    }

    /// A small random number, the same ones each time.
    fn draw(state: &mut u64, below: u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % below
    }

    fn edit(config: &mut Config, state: &mut u64) {
        let name = |text: String| Name::new(&text).unwrap();
        let farm = name(format!("FARM{}", draw(state, 4)));
        let label = name(format!("V{}", draw(state, 12)));
        let last = u8::try_from(101 + draw(state, 9)).unwrap();
        match draw(state, 8) {
            7 => {
                let names = [name("NEAR".to_owned()), name("FAR".to_owned())];
                for vserver in config.vservers.iter_mut().filter(|vserver| vserver.name == label) {
                    let policy = names[usize::from(draw(state, 2) > 0)].clone();
                    if vserver.policies.contains(&policy) {
                        vserver.policies.retain(|known| *known != policy);
                    } else {
                        vserver.policies.push(policy);
                    }
                }
                let list = &mut config.access_lists[0];
                let network = IpNet::new([10, 0, 0, last].into(), 24 + last % 9).unwrap().trunc();
                list.lines.insert(0, model::AccessLine { permit: draw(state, 2) > 0, network });
                list.lines.truncate(6);
            }
            0 => config.vservers.retain(|vserver| vserver.name != label),
            1 if !config.vservers.iter().any(|vserver| vserver.name == label) => {
                let port = u16::try_from(8000 + draw(state, 400)).unwrap();
                let at = Ipv4Addr::new(192, 158, 38, 40 + u8::try_from(draw(state, 9)).unwrap());
                let virtual_server = Some(Virtual::single(at.into(), Protocol::TCP, port));
                let taken = config.vservers.iter().any(|other| other.virtual_server == virtual_server);
                let base = figure_7_1().vservers.remove(0);
                if !taken {
                    config.vservers.push(model::Vserver {
                        name: label,
                        virtual_server,
                        sticky: None,
                        ..base
                    });
                }
            }
            2 => config.serverfarms.retain(|known| known.name != farm),
            3 if config.serverfarm(&farm).is_none() => config.serverfarms.push(Serverfarm::new(farm)),
            4 => {
                for vserver in config.vservers.iter_mut().filter(|vserver| vserver.name == label) {
                    vserver.serverfarm = Some(farm.clone());
                    vserver.inservice = draw(state, 4) > 0;
                    vserver.idle = Duration::from_secs(draw(state, 99));
                }
            }
            _ => {
                for known in config.serverfarms.iter_mut().filter(|known| known.name == farm) {
                    let before = known.reals.len();
                    known.reals.retain(|real| real.address != Ipv4Addr::new(192, 158, 39, last));
                    if known.reals.len() == before {
                        let weight = u8::try_from(draw(state, 20)).unwrap();
                        let address = Ipv4Addr::new(192, 158, 39, last).into();
                        let admin = RealAdmin::InService;
                        known.reals.push(model::Real {
                            address,
                            port: None,
                            weight,
                            limit: model::ConnectionLimit::default(),
                            admin,
                            probes: Vec::new(),
                            name: None,
                            backup: None,
                        });
                    }
                }
            }
        }
        // The configuration's check asks for farms that are there.
        let farms: BTreeSet<Name> = config.serverfarms.iter().map(|farm| farm.name.clone()).collect();
        for vserver in &mut config.vservers {
            vserver.serverfarm = vserver.serverfarm.take().filter(|farm| farms.contains(farm));
        }
    }

    /// Two policies, one of them for an access list, that no virtual server names yet.
    fn with_policies(config: &mut Config) {
        let name = |text: &str| Name::new(text).unwrap();
        config.access_lists.push(model::AccessList {
            name: name("1"),
            family: model::Family::V4,
            lines: Vec::new(),
        });
        let near = model::Policy::new(name("NEAR"));
        config.policies.push(model::Policy {
            client_group: Some(name("1")),
            serverfarm: Some(name("WEB")),
            dscp: Some(46),
            ..near
        });
        config
            .policies
            .push(model::Policy { serverfarm: Some(name("FARM1")), ..model::Policy::new(name("FAR")) });
    }

    #[test]
    fn sticky_entries_of_the_configuration_come_after_their_reals_and_go_before_them() {
        let mut config = figure_7_1();
        let real = config.serverfarms[0].reals[1].address;
        let address = model::StickyAddress::Source;
        let line = model::StaticSticky {
            address,
            client: [10, 1, 1, 1].into(),
            destination: None,
            real,
            port: None,
        };
        config.sticky_groups =
            vec![model::StickyGroup { statics: vec![line], ..model::StickyGroup::new(10) }];
        let mut numbers = Assignments::default();
        let mut planned = |config: &Config| {
            plan(config, &HealthView::default(), &hops(config), &mut numbers).unwrap().contents
        };
        let with = planned(&config);
        let maps = apply(Contents::default(), &diff(&with, &Contents::default()));
        assert_eq!((maps.stickies.len(), diff(&with, &maps)), (1, Vec::new()));
        config.serverfarms[0].reals.remove(1);
        let without = planned(&config);
        let operations = diff(&without, &maps);
        let at = |wanted: fn(&Operation) -> bool| operations.iter().position(wanted).expect("it is done");
        let removed = at(|operation| matches!(operation, Operation::RemoveSticky(_)));
        assert!(removed < at(|operation| matches!(operation, Operation::SetReal(..))));
        assert_eq!(apply(maps, &operations).stickies, without.stickies);
    }

    #[test]
    fn a_policy_that_goes_leaves_its_clients_to_the_others_before_it_drains_and_numbers_stay() {
        let mut numbers = Assignments::default();
        let mut config = figure_7_1();
        with_policies(&mut config);
        let all = model::AccessLine { permit: true, network: model::Family::V4.all() };
        config.access_lists[0].lines.push(all);
        config.vservers[0].policies.push(Name::new("NEAR").unwrap());
        let own = StableId::of_vserver(&config.vservers[0].name, &config.vservers[0].virtual_server.unwrap());
        let mut planned =
            |config: &Config| plan(config, &HealthView::default(), &hops(config), &mut numbers).unwrap();
        let before = planned(&config);
        let element = |desired: &Desired, policy: bool| {
            let found = desired.vservers.iter().find(|(_, known)| known.policy.is_some() == policy);
            found.map(|(number, known)| (*number, known.id))
        };
        let (policy, _) = element(&before, true).unwrap();
        assert_eq!(element(&before, false).map(|(_, id)| id), Some(own));
        let entry = before.contents.vservers[&policy];
        let (number, _) = element(&before, false).unwrap();
        assert_eq!((entry.mark, entry.policy_of), (csm_common::flow::mark(46), number + 1));
        assert!(before.contents.clients.values().all(|&found| found == policy));
        config.vservers[0].policies.clear();
        let after = planned(&config);
        assert_eq!(
            element(&after, false),
            element(&before, false),
            "connections of the rest stay what they are"
        );
        let operations = diff(&after.contents, &before.contents);
        let drains =
            |operation: &Operation| matches!(operation, Operation::SetVserver(of, _) if *of == policy);
        let leads_on = |operation: &Operation| matches!(operation, Operation::SetVserverKey(..));
        let drained = operations.iter().position(drains).unwrap();
        assert!(operations.iter().position(leads_on).unwrap() < drained);
        let maps = apply(before.contents.clone(), &operations);
        assert_eq!((maps.vservers[&policy].mark, maps.vservers[&policy].idle_s), (entry.mark, entry.idle_s));
    }

    #[test]
    fn after_any_edits_the_maps_mean_what_a_fresh_start_would_write_and_numbers_stay() {
        let (mut config, mut state) = (figure_7_1(), 7);
        with_policies(&mut config);
        let mut numbers = Assignments::default();
        let mut all_hosts = figure_7_1();
        all_hosts.serverfarms[0].reals = (101..=110)
            .map(|last| model::Real {
                address: Ipv4Addr::new(192, 158, 39, last).into(),
                port: None,
                weight: 1,
                limit: model::ConnectionLimit::default(),
                admin: RealAdmin::InService,
                probes: Vec::new(),
                name: None,
                backup: None,
            })
            .collect();
        let hops = hops(&all_hosts);
        let mut maps = Contents::default();
        let mut known: BTreeMap<StableId, u32> = BTreeMap::new();
        for step in 0..400 {
            edit(&mut config, &mut state);
            let desired = plan(&config, &HealthView::default(), &hops, &mut numbers).unwrap();
            maps = apply(maps.clone(), &diff(&desired.contents, &maps));
            let fresh = plan(&config, &HealthView::default(), &hops, &mut Assignments::default()).unwrap();
            let new = apply(Contents::default(), &diff(&fresh.contents, &Contents::default()));
            assert_eq!(meaning(&desired, &maps), meaning(&fresh, &new), "step {step}");
            let vservers = desired.vservers.iter().map(|(number, known)| (known.id, *number));
            for (id, number) in
                vservers.chain(desired.reals.iter().map(|(number, known)| (known.id, *number)))
            {
                assert_eq!(
                    *known.entry(id).or_insert(number),
                    number,
                    "step {step}: connections hold the number"
                );
            }
        }
        assert!(known.len() > 40, "{} were there at some time", known.len());
    }
}
