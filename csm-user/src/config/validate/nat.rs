//! Farms' translation modes, the pools for their clients, and static translation.

use std::collections::HashMap;
use std::net::IpAddr;

use csm_common::limits::POOL_ADDRESSES_MAX;

use super::super::command::Id;
use super::super::grammar::Value;
use super::super::parse::Section;
use super::super::token::Span;
use super::{Checker, family};
use ipnet::IpNet;

use crate::model::{Family, Name, NatClient, Natpool, Predictor, Serverfarm, Static, StaticAction, Vlan};

/// Checks pools, and farms in dispatch mode, with client NAT or with `predictor forward`.
pub(super) fn check(checker: &mut Checker<'_>) {
    let mut used: HashMap<IpAddr, &Name> = HashMap::new();
    for pool in &checker.config.natpools {
        self::pool(checker, pool, &mut used);
    }
    let mut hosts: HashMap<IpNet, StaticAction> = HashMap::new();
    for rule in &checker.config.statics {
        statics(checker, rule, &mut hosts);
    }
    for farm in &checker.config.serverfarms {
        self::farm(checker, farm);
    }
}

/// Where slot `slot` of the pool's line stands.
fn place(checker: &Checker<'_>, pool: &Natpool, slot: &str) -> Span {
    checker.tree.place_of(&Section::Module, Id::Natpool, slot, &Value::Name(pool.name.clone()))
}

fn pool<'a>(checker: &mut Checker<'a>, pool: &'a Natpool, used: &mut HashMap<IpAddr, &'a Name>) {
    let at = place(checker, pool, "NAME");
    if pool.name.as_str() == "STATIC" {
        let message = "no pool can be called STATIC: `nat client static` means the `static` sections";
        return checker.error(at, message, "choose another name");
    }
    if pool.first > pool.last {
        let message = format!("pool {}: {} comes after {}", pool.name, pool.first, pool.last);
        return checker.error(at, message, "write the lower address first");
    }
    let network = |address| IpNet::new_assert(address, pool.bits).trunc();
    let own = network(pool.first);
    if own != network(pool.last) {
        let message =
            format!("pool {}: {} and {} are in different networks", pool.name, pool.first, pool.last);
        return checker.error(at, message, "choose addresses of one network, or its mask");
    }
    let count = pool.count();
    if count > u128::from(POOL_ADDRESSES_MAX) {
        let message = format!("pool {} has {count} addresses: more than {POOL_ADDRESSES_MAX}", pool.name);
        return checker.error(at, message, "one address serves 64,512 connections to each real: use fewer");
    }
    // In a network of two or one addresses all are hosts' (RFC 3021, RFC 6164).
    let many = own.prefix_len() + 1 < own.max_prefix_len();
    let broadcast = pool.family() == Family::V4 && pool.last == own.broadcast();
    if many && (pool.first == own.network() || broadcast) {
        let message =
            format!("pool {} holds the address of its network, or its broadcast address", pool.name);
        return checker.error(at, message, "leave both out: servers do not answer them");
    }
    for address in pool.addresses() {
        if let Some(other) = used.insert(address, &pool.name) {
            let message = format!("{address} of pool {} is in pool {other}, too", pool.name);
            return checker.error(at, message, "use each address in one pool");
        }
    }
    if checker.config.vlan_of(pool.first).is_none() {
        let resolution = super::resolution(pool.family());
        let message =
            format!("pool {} is in no VLAN's network: nothing will ask for it by {resolution}", pool.name);
        checker.warning(at, message, "make the servers' router send it to the server VLAN's alias");
    }
    ports_are_shared_out(checker, at);
}

/// Each node of a pair gives away its own half of the ports: which, their addresses tell.
fn ports_are_shared_out(checker: &mut Checker<'_>, at: Span) {
    let both = |family| move |vlan: &Vlan| vlan.own(family).is_some() && vlan.peer(family).is_some();
    let halves = Family::ALL.iter().any(|&family| checker.config.vlans.iter().any(both(family)));
    if checker.config.ft.is_some() && !halves {
        let message =
            "no VLAN has an `alt` address: the two nodes cannot tell which translated ports are whose";
        checker.error(at, message, "add `alt ADDRESS MASK` to an `ip address`, on both nodes");
    }
}

/// A farm whose reals are reached inside of other packets.
fn encapsulation(checker: &mut Checker<'_>, farm: &Serverfarm, section: &Section) {
    let place = checker.tree.place(section, Id::Encapsulation, "encapsulation");
    if farm.nat_server {
        let message = "`encapsulation` with `nat server`: the packet inside keeps the virtual address";
        checker.error(place, message, "add `no nat server`, and the virtual address to the reals");
    }
    if farm.predictor == Predictor::Forward {
        let message = format!("farm {} forwards: `encapsulation` has no effect", farm.name);
        checker.warning(place, message, "remove the line, or the predictor");
    }
}

/// A `static` section; `seen` has the hosts of those before it.
fn statics(checker: &mut Checker<'_>, rule: &Static, seen: &mut HashMap<IpNet, StaticAction>) {
    let section = Section::Static(rule.action);
    let line = checker.tree.place(&section, Id::Static, "ADDRESS");
    if rule.action != StaticAction::Drop {
        ports_are_shared_out(checker, line);
    }
    if let StaticAction::Nat(address) = rule.action
        && checker.config.vlan_of(address).is_none()
    {
        let resolution = super::resolution(Family::of(address));
        let message = format!("{address} is in no VLAN's network: nothing will ask for it by {resolution}");
        checker.warning(line, message, "make the upstream router send it to an alias or a virtual address");
    }
    for &net in &rule.hosts {
        // The mask of an IPv4 network is a word of its own; the last line that names it will do.
        let of_line = |statement: &&super::super::parse::Statement| {
            statement.net("HOST", "MASK").is_some_and(|named| named.trunc() == net)
        };
        let place = checker.tree.all(&section, Id::StaticReal).rfind(of_line);
        let place = place.map_or(Span::FILE, |statement| statement.place("HOST"));
        if let Some(family) = rule.action.family().filter(|family| *family != Family::of(net.addr())) {
            let message = format!("`{}` translates to {family}, and {net} is not", rule.action);
            checker.error(place, message, "nothing is translated between IPv4 and IPv6: use one family");
        }
        if let Some(other) = seen.insert(net, rule.action).filter(|other| *other != rule.action) {
            let message = format!("{net} is under `{other}`, too");
            checker.error(place, message, "name each host and network in one `static` section");
        }
        let bridged =
            checker.config.vlan_of(net.addr()).filter(|vlan| checker.config.bridged_with(vlan.id).is_some());
        if bridged.is_some() {
            let message =
                format!("{net} is bridged: its own connections pass as they are, whatever `static` says");
            checker.warning(place, message, "remove the line, or give both VLANs a network of their own");
        }
    }
}

fn farm(checker: &mut Checker<'_>, farm: &Serverfarm) {
    let section = Section::Serverfarm(farm.name.clone());
    family::farm(checker, farm);
    if let Some(pool) = &farm.nat_client {
        let place = checker.tree.place(&section, Id::NatClient, "NAME");
        match pool {
            NatClient::Pool(_) if checker.config.pool_of(farm).is_some() => {}
            NatClient::Pool(pool) => {
                let message = format!("there is no pool {pool}");
                checker.error(place, message, format!("add `natpool {pool} FIRST LAST netmask MASK`"));
            }
            NatClient::Static if checker.config.statics.is_empty() => {
                let message = format!("farm {} has `nat client static`, but there is no `static`", farm.name);
                checker.warning(
                    place,
                    message,
                    "add `static nat virtual` or `static nat ADDRESS` with its `real` lines",
                );
            }
            NatClient::Static => {}
        }
        if !farm.nat_server && farm.predictor != Predictor::Forward {
            let message =
                "`nat client` in dispatch mode: the real would answer the pool, from the virtual address";
            checker.error(place, message, "use `nat server`, or `no nat client`");
        }
    }
    if farm.predictor == Predictor::Forward && !farm.reals.is_empty() {
        let place = checker.tree.place(&section, Id::Predictor, "forward");
        let message = format!("farm {} forwards: its reals are not used", farm.name);
        checker.warning(place, message, "remove the reals, or the predictor");
    }
    if farm.encapsulation.is_some() {
        encapsulation(checker, farm, &section);
    }
    if farm.nat_server || farm.predictor == Predictor::Forward {
        return;
    }
    for real in farm.reals.iter().filter(|real| real.port.is_some()) {
        let section = Section::of_real(farm, real);
        let place = checker.tree.place(&section, Id::Real, "PORT");
        let message = "the port has no effect in dispatch mode: nothing is translated";
        checker.warning(place, message, "leave the port out");
    }
}
