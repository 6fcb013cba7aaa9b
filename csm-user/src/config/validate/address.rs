//! Addresses of the VLANs, the pair, the gateways, the virtual servers and the reals against one another.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::super::command::Id;
use super::super::grammar::Value;
use super::super::parse::Section;
use super::super::token::Span;
use super::Checker;
use crate::model::{Vlan, VlanRole};

/// What an address is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Own,
    Peer,
    Alias,
    Gateway,
    Virtual,
    Real,
}

impl Use {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "this node's own address",
            Self::Peer => "the peer's own address",
            Self::Alias => "an alias",
            Self::Gateway => "a gateway",
            Self::Virtual => "a virtual server's address",
            Self::Real => "a real server's address",
        }
    }

    /// Whether one address may serve both. Equal uses are judged elsewhere: two VLANs of one network, two virtual
    /// servers of one address.
    fn agrees_with(self, other: Self) -> bool {
        self == other || matches!((self, other), (Self::Gateway, Self::Real) | (Self::Real, Self::Gateway))
    }
}

/// Checks all addresses.
pub(super) fn check(checker: &mut Checker<'_>) {
    networks_are_apart(checker);
    let vlans = &checker.config.vlans;
    for vlan in vlans {
        own_and_peer(checker, vlan);
        alias(checker, vlan);
        gateways(checker, vlan);
        routes(checker, vlan);
    }
    addresses_have_one_use(checker);
}

fn networks_are_apart(checker: &mut Checker<'_>) {
    let vlans = &checker.config.vlans;
    for (index, vlan) in vlans.iter().enumerate() {
        let Some(net) = vlan.address else { continue };
        let overlaps = |other: &&Vlan| {
            other.address.is_some_and(|o| o.contains(&net.network()) || net.contains(&o.network()))
        };
        if let Some(other) = vlans[..index].iter().find(overlaps) {
            if other.address == vlan.address && other.role != vlan.role {
                bridge_group(checker, other, vlan);
                continue;
            }
            let place = checker.tree.place(&Section::Vlan(vlan.id), Id::IpAddress, "ADDRESS");
            let first = checker.tree.place(&Section::Vlan(other.id), Id::IpAddress, "ADDRESS");
            let message = format!("the network is that of VLAN {} too, {}", other.id, checker.line(first));
            checker.error(
                place,
                message,
                "use different networks, or for bridge mode the same `ip address` on one client and one server VLAN",
            );
        }
    }
}

/// Two VLANs of one network that the node bridges.
fn bridge_group(checker: &mut Checker<'_>, first: &Vlan, second: &Vlan) {
    let vlans = &checker.config.vlans;
    if let Some(third) = vlans
        .iter()
        .find(|vlan| vlan.address == second.address && vlan.id != first.id && vlan.id != second.id)
    {
        let place = checker.tree.place(&Section::Vlan(second.id), Id::IpAddress, "ADDRESS");
        let message = format!("VLANs {}, {} and {} have the same address", first.id, second.id, third.id);
        checker.error(place, message, "a bridge group has one client VLAN and one server VLAN");
    }
    if first.alt_address != second.alt_address {
        let place = checker.tree.place(&Section::Vlan(second.id), Id::IpAddress, "ADDRESS");
        let message = format!("VLANs {} and {} are bridged, but their `alt` differ", first.id, second.id);
        checker.error(place, message, "give both the same `ip address ADDRESS MASK alt ADDRESS MASK`");
    }
}

fn own_and_peer(checker: &mut Checker<'_>, vlan: &Vlan) {
    let section = Section::Vlan(vlan.id);
    let Some(own) = vlan.address else {
        let place = checker.tree.place(&section, Id::Vlan, "VLAN");
        let message = format!("VLAN {} has no `ip address`: nothing can be probed or routed there", vlan.id);
        return checker.warning(place, message, "add `ip address ADDRESS MASK` below it");
    };
    if own.prefix_len() == 0 || own.prefix_len() > 30 {
        let place = checker.tree.place(&section, Id::IpAddress, "MASK");
        let message = format!("a network of mask {} has no room for two nodes and a server", own.netmask());
        checker.error(place, message, "use a mask from 128.0.0.0 to 255.255.255.252");
    }
    let place = checker.tree.place(&section, Id::IpAddress, "ADDRESS");
    is_a_host_of(checker, place, own.addr(), own);
    match vlan.alt_address {
        Some(peer) => {
            let place = checker.tree.place(&section, Id::IpAddress, "PEER-ADDRESS");
            let mask = checker.tree.place(&section, Id::IpAddress, "PEER-MASK");
            in_network(checker, place, mask, peer, own, "the peer's address");
        }
        None if checker.config.ft.is_some() => {
            let message = "no `alt`: configuration synchronization would remove this address on the peer";
            checker.warning(place, message, "add `alt ADDRESS MASK` with the peer's own address");
        }
        None => {}
    }
}

fn alias(checker: &mut Checker<'_>, vlan: &Vlan) {
    let section = Section::Vlan(vlan.id);
    match (vlan.alias, vlan.address) {
        (Some(alias), Some(own)) => {
            let place = checker.tree.place(&section, Id::Alias, "ADDRESS");
            let mask = checker.tree.place(&section, Id::Alias, "MASK");
            in_network(checker, place, mask, alias, own, "alias");
        }
        (Some(alias), None) => {
            let place = checker.tree.place(&section, Id::Alias, "ADDRESS");
            let message = format!("alias {} stands on a VLAN without an `ip address`", alias.addr());
            checker.error(place, message, "add `ip address ADDRESS MASK` of the same network");
        }
        // The servers' gateway is the upstream router.
        (None, Some(_)) if checker.config.bridged_with(vlan.id).is_some() => {}
        (None, Some(_)) if vlan.role == VlanRole::Server && checker.config.ft.is_some() => {
            let place = checker.tree.place(&section, Id::Vlan, "VLAN");
            let message = format!(
                "server VLAN {} has no alias: after a failover its servers lose their gateway",
                vlan.id
            );
            checker.warning(
                place,
                message,
                "add `alias ADDRESS MASK`, and make it the servers' default gateway",
            );
        }
        (None, _) => {}
    }
}

/// `given` is a host of network `own`, with its mask.
fn in_network(checker: &mut Checker<'_>, place: Span, mask: Span, given: Ipv4Net, own: Ipv4Net, what: &str) {
    if !own.contains(&given.addr()) {
        let message = format!("{what} {} is outside of the VLAN's network {}", given.addr(), own.trunc());
        return checker.error(place, message, format!("choose an address of {}", own.trunc()));
    }
    if given.prefix_len() != own.prefix_len() {
        let message =
            format!("mask {} differs from that of the VLAN's network {}", given.netmask(), own.trunc());
        checker.error(mask, message, format!("use {}", own.netmask()));
    }
    is_a_host_of(checker, place, given.addr(), own);
}

/// `address` is neither the network's nor its broadcast address.
fn is_a_host_of(checker: &mut Checker<'_>, place: Span, address: Ipv4Addr, net: Ipv4Net) {
    if net.prefix_len() <= 30 && (address == net.network() || address == net.broadcast()) {
        let message = format!("{address} is the network or broadcast address of {}", net.trunc());
        checker.error(place, message, "choose the address of a host");
    }
}

fn gateways(checker: &mut Checker<'_>, vlan: &Vlan) {
    let section = Section::Vlan(vlan.id);
    for gateway in &vlan.gateways {
        let place = checker.tree.place_of(&section, Id::Gateway, "ADDRESS", &Value::Address(*gateway));
        match vlan.address {
            Some(own) if own.contains(gateway) => is_a_host_of(checker, place, *gateway, own),
            Some(own) => {
                let message = format!("gateway {gateway} is outside of the VLAN's network {}", own.trunc());
                checker.error(place, message, format!("choose an address of {}", own.trunc()));
            }
            None => {
                let message = format!("gateway {gateway} stands on a VLAN without an `ip address`");
                checker.error(place, message, "add `ip address ADDRESS MASK` of the same network");
            }
        }
    }
}

/// The guide's listing has a route under the server VLAN whose gateway is on the client VLAN: any VLAN will do.
fn routes(checker: &mut Checker<'_>, vlan: &Vlan) {
    let section = Section::Vlan(vlan.id);
    for route in &vlan.routes {
        if checker.config.vlan_of(route.gateway).is_none() {
            let place = checker.tree.place_of(&section, Id::Route, "ADDRESS", &Value::Address(route.gateway));
            let message = format!("gateway {} is in no VLAN's network", route.gateway);
            checker.error(place, message, "choose the address of a router on a client or server VLAN");
        }
    }
}

fn addresses_have_one_use(checker: &mut Checker<'_>) {
    let mut used: HashMap<Ipv4Addr, (Use, Span)> = HashMap::new();
    for (address, now, place) in uses(checker) {
        match used.get(&address) {
            Some(&(before, first)) if !before.agrees_with(now) => {
                let message = format!("{address} is {} already, {}", before.as_str(), checker.line(first));
                checker.error(place, message, format!("choose another: here it is {}", now.as_str()));
            }
            Some(_) => {}
            None => {
                used.insert(address, (now, place));
            }
        }
    }
}

/// Every address with its use and place, in the order of the file's sections.
fn uses(checker: &Checker<'_>) -> Vec<(Ipv4Addr, Use, Span)> {
    let tree = checker.tree;
    let mut uses = Vec::new();
    for vlan in &checker.config.vlans {
        let section = Section::Vlan(vlan.id);
        let own = vlan.address.map(|net| (net, Use::Own, Id::IpAddress, "ADDRESS"));
        let peer = vlan.alt_address.map(|net| (net, Use::Peer, Id::IpAddress, "PEER-ADDRESS"));
        let alias = vlan.alias.map(|net| (net, Use::Alias, Id::Alias, "ADDRESS"));
        for (net, of, id, slot) in [own, peer, alias].into_iter().flatten() {
            uses.push((net.addr(), of, tree.place(&section, id, slot)));
        }
        for gateway in &vlan.gateways {
            let place = tree.place_of(&section, Id::Gateway, "ADDRESS", &Value::Address(*gateway));
            uses.push((*gateway, Use::Gateway, place));
        }
    }
    for farm in &checker.config.serverfarms {
        for real in &farm.reals {
            let section = Section::Real(farm.name.clone(), real.address, real.port);
            uses.push((real.address, Use::Real, tree.place(&section, Id::Real, "ADDRESS")));
        }
    }
    for vserver in &checker.config.vservers {
        if let Some(to) = &vserver.virtual_server {
            let section = Section::Vserver(vserver.name.clone());
            uses.push((to.address, Use::Virtual, tree.place(&section, Id::Virtual, "ADDRESS")));
        }
    }
    // So that the later line is the one accused.
    uses.sort_by_key(|(.., place)| *place);
    uses
}
