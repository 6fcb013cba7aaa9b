//! Addresses of the VLANs, the pair, the gateways, the virtual servers and the reals against one another.

use std::collections::HashMap;
use std::net::IpAddr;

use csm_common::limits::POOL_ADDRESSES_MAX;
use ipnet::IpNet;

use super::super::command::Id;
use super::super::grammar::Value;
use super::super::parse::Section;
use super::super::token::Span;
use super::Checker;
use crate::model::{Family, Predictor, Serverfarm, StaticAction, Virtual, Vlan, VlanRole, Vmac};

/// What an address is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Own,
    Peer,
    Alias,
    Gateway,
    Virtual,
    Real,
    Pool,
    Static,
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
            Self::Pool => "an address of a pool",
            Self::Static => "what `static nat` translates to",
        }
    }

    /// Whether one address may serve both. Equal uses are judged elsewhere: two VLANs of one network, two virtual
    /// servers of one address.
    fn agrees_with(self, other: Self) -> bool {
        use Use::{Gateway, Pool, Real, Static, Virtual};
        let pair = (self, other);
        self == other
            || matches!(pair, (Gateway, Real) | (Real, Gateway))
            || matches!(pair, (Static, Virtual | Pool) | (Virtual | Pool, Static))
    }
}

/// Checks all addresses.
pub(super) fn check(checker: &mut Checker<'_>) {
    for family in Family::ALL {
        networks_are_apart(checker, family);
    }
    for vlan in &checker.config.vlans {
        has_an_address(checker, vlan);
        for family in Family::ALL {
            own_and_peer(checker, vlan, family);
            alias(checker, vlan, family);
        }
        gateways(checker, vlan);
        routes(checker, vlan);
        choice_of_mac(checker, vlan);
    }
    addresses_have_one_use(checker);
}

/// The command that gives a VLAN its own address.
const fn own_id(family: Family) -> Id {
    match family {
        Family::V4 => Id::IpAddress,
        Family::V6 => Id::Ipv6Address,
    }
}

/// The command that gives a VLAN its alias.
const fn alias_id(family: Family) -> Id {
    match family {
        Family::V4 => Id::Alias,
        Family::V6 => Id::Ipv6Alias,
    }
}

/// How an address with its network is written, for remedies: after `ip address`, `alt` or `alias`.
const fn written(family: Family) -> &'static str {
    match family {
        Family::V4 => "ADDRESS MASK",
        Family::V6 => "ADDRESS/LENGTH",
    }
}

/// The line that gives a VLAN its own address, for remedies.
fn own_line(family: Family) -> String {
    let ip = match family {
        Family::V4 => "ip",
        Family::V6 => "ipv6",
    };
    format!("{ip} address {}", written(family))
}

fn networks_are_apart(checker: &mut Checker<'_>, family: Family) {
    let vlans = &checker.config.vlans;
    for (index, vlan) in vlans.iter().enumerate() {
        let Some(net) = vlan.own(family) else { continue };
        let place = checker.tree.place(&Section::Vlan(vlan.id), own_id(family), "ADDRESS");
        let overlaps = |other: &&Vlan| {
            other.own(family).is_some_and(|o| o.contains(&net.network()) || net.contains(&o.network()))
        };
        if let Some(other) = vlans[..index].iter().find(overlaps) {
            if other.own(family) == vlan.own(family) && other.role != vlan.role {
                bridge_group(checker, other, vlan, family);
                continue;
            }
            let first = checker.tree.place(&Section::Vlan(other.id), own_id(family), "ADDRESS");
            let message = format!("the network is that of VLAN {} too, {}", other.id, checker.line(first));
            let remedy = match family {
                Family::V4 => {
                    "use different networks, or for bridge mode the same `ip address` on one client and one server VLAN"
                }
                Family::V6 => {
                    "use different networks, or for bridge mode the same `ipv6 address` on one client and one server VLAN"
                }
            };
            checker.error(place, message, remedy);
        }
    }
}

/// Two VLANs of one network that the node bridges, by the addresses of `family`.
fn bridge_group(checker: &mut Checker<'_>, first: &Vlan, second: &Vlan, family: Family) {
    let vlans = &checker.config.vlans;
    let section = Section::Vlan(second.id);
    let place = checker.tree.place(&section, own_id(family), "ADDRESS");
    if let Some(third) = vlans
        .iter()
        .find(|vlan| vlan.own(family) == second.own(family) && vlan.id != first.id && vlan.id != second.id)
    {
        let message = format!("VLANs {}, {} and {} have the same address", first.id, second.id, third.id);
        checker.error(place, message, "a bridge group has one client VLAN and one server VLAN");
    }
    let both = |family| {
        let (line, address) = (own_line(family), written(family));
        format!("give both the same `{line} alt {address}`")
    };
    if first.peer(family) != second.peer(family) {
        let message = format!("VLANs {} and {} are bridged, but their `alt` differ", first.id, second.id);
        checker.error(place, message, both(family));
    }
    // Whatever they have of the other family, too: each packet passes between them.
    let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
    if first.own(other) != second.own(other) {
        let has_it = if second.own(other).is_some() { second } else { first };
        let place = checker.tree.place(&Section::Vlan(has_it.id), own_id(other), "ADDRESS");
        let message =
            format!("VLANs {} and {} are bridged, but not one network in {other}", first.id, second.id);
        checker.error(place, message, both(other));
    }
}

fn has_an_address(checker: &mut Checker<'_>, vlan: &Vlan) {
    if Family::ALL.iter().all(|&family| vlan.own(family).is_none()) {
        let place = checker.tree.place(&Section::Vlan(vlan.id), Id::Vlan, "VLAN");
        let message = format!("VLAN {} has no `ip address`: nothing can be probed or routed there", vlan.id);
        checker.warning(place, message, "add `ip address ADDRESS MASK` below it");
    }
}

fn own_and_peer(checker: &mut Checker<'_>, vlan: &Vlan, family: Family) {
    let section = Section::Vlan(vlan.id);
    let id = own_id(family);
    let Some(own) = vlan.own(family) else { return };
    let place = checker.tree.place(&section, id, "ADDRESS");
    if own.prefix_len() == 0 || own.prefix_len() > own.max_prefix_len() - 2 {
        let mask = checker.tree.place(&section, id, "MASK");
        let (mask, message, remedy) = match family {
            Family::V4 => {
                let message =
                    format!("a network of mask {} has no room for two nodes and a server", own.netmask());
                (mask, message, "use a mask from 128.0.0.0 to 255.255.255.252")
            }
            Family::V6 => {
                let message =
                    format!("a network of /{} has no room for two nodes and a server", own.prefix_len());
                (place, message, "use a prefix length from 1 to 126, such as 64")
            }
        };
        checker.error(mask, message, remedy);
    }
    if is_link_local(own.addr()) {
        let message = format!("{} is link-local: hosts behind a router cannot reach it", own.addr());
        checker.error(place, message, "choose a global or unique local address");
    }
    is_a_host_of(checker, place, own.addr(), own);
    match vlan.peer(family) {
        Some(peer) => {
            let place = checker.tree.place(&section, id, "PEER-ADDRESS");
            let mask = checker.tree.place(&section, id, "PEER-MASK");
            in_network(checker, place, mask, peer, own, "the peer's address");
        }
        None if checker.config.ft.is_some() => {
            let message = "no `alt`: the configuration cannot be synchronized to the peer";
            let remedy = format!("add `alt {}` with the peer's own address", written(family));
            checker.warning(place, message, remedy);
        }
        None => {}
    }
}

fn alias(checker: &mut Checker<'_>, vlan: &Vlan, family: Family) {
    let section = Section::Vlan(vlan.id);
    let id = alias_id(family);
    match (vlan.alias(family), vlan.own(family)) {
        (Some(alias), Some(own)) => {
            let place = checker.tree.place(&section, id, "ADDRESS");
            let mask = checker.tree.place(&section, id, "MASK");
            in_network(checker, place, mask, alias, own, "alias");
        }
        (Some(alias), None) => {
            let place = checker.tree.place(&section, id, "ADDRESS");
            let ip = if family == Family::V4 { "ip" } else { "ipv6" };
            let message = format!("alias {} stands on a VLAN without an `{ip} address`", alias.addr());
            checker.error(place, message, format!("add `{}` of the same network", own_line(family)));
        }
        // The servers' gateway is the upstream router.
        (None, Some(_)) if checker.config.bridged_with(vlan.id).is_some() => {}
        (None, Some(_)) if vlan.role == VlanRole::Server && checker.config.ft.is_some() => {
            let place = checker.tree.place(&section, Id::Vlan, "VLAN");
            let ipv6 = if family == Family::V4 { "" } else { "IPv6 " };
            let message = format!(
                "server VLAN {} has no {ipv6}alias: after a failover its servers lose their gateway",
                vlan.id
            );
            let alias = written(family);
            checker.warning(
                place,
                message,
                format!("add `alias {alias}`, and make it the servers' default gateway"),
            );
        }
        (None, _) => {}
    }
}

/// The port's own MAC address can stand for the group only where it stands for nothing else.
fn choice_of_mac(checker: &mut Checker<'_>, vlan: &Vlan) {
    if vlan.vmac != Vmac::Off || checker.config.has_choice_of_mac(vlan.id) {
        return;
    }
    let place = checker.tree.place(&Section::Vlan(vlan.id), Id::Vmac, "off");
    let message = match checker.config.bridged_with(vlan.id) {
        Some(other) => format!(
            "`vmac off` on a VLAN that is bridged with VLAN {}: the hosts' own MAC addresses cross there anyway",
            other.id
        ),
        None => {
            "`vmac off` on a VLAN where this host is a router, whose frames have the port's own MAC address"
                .to_owned()
        }
    };
    checker.error(place, message, "remove the line");
}

/// Of IPv6: an address that says nothing about the link on which it is.
pub(super) const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// `given` is a host of network `own`, with its mask.
fn in_network(checker: &mut Checker<'_>, place: Span, mask: Span, given: IpNet, own: IpNet, what: &str) {
    if !own.contains(&given.addr()) {
        let message = format!("{what} {} is outside of the VLAN's network {}", given.addr(), own.trunc());
        return checker.error(place, message, format!("choose an address of {}", own.trunc()));
    }
    if given.prefix_len() != own.prefix_len() {
        let network = own.trunc();
        match Family::of(own.addr()) {
            Family::V4 => {
                let message =
                    format!("mask {} differs from that of the VLAN's network {network}", given.netmask());
                checker.error(mask, message, format!("use {}", own.netmask()));
            }
            Family::V6 => {
                let length = given.prefix_len();
                let message = format!("length /{length} differs from that of the VLAN's network {network}");
                checker.error(place, message, format!("use /{}", own.prefix_len()));
            }
        }
    }
    is_a_host_of(checker, place, given.addr(), own);
}

/// `address` is neither the network's nor its broadcast address; in IPv6 the network's is every router's (RFC 4291,
/// section 2.6.1), and there is no broadcast.
fn is_a_host_of(checker: &mut Checker<'_>, place: Span, address: IpAddr, net: IpNet) {
    if net.prefix_len() > net.max_prefix_len() - 2 {
        return;
    }
    let message = match Family::of(address) {
        Family::V4 if address == net.network() || address == net.broadcast() => {
            format!("{address} is the network or broadcast address of {}", net.trunc())
        }
        Family::V6 if address == net.network() => {
            format!("{address} is the address of all routers of {}", net.trunc())
        }
        _ => return,
    };
    checker.error(place, message, "choose the address of a host");
}

fn gateways(checker: &mut Checker<'_>, vlan: &Vlan) {
    let section = Section::Vlan(vlan.id);
    for gateway in &vlan.gateways {
        let place = checker.tree.place_of(&section, Id::Gateway, "ADDRESS", &Value::Address(*gateway));
        let family = Family::of(*gateway);
        match vlan.own(family) {
            Some(_) if is_link_local(*gateway) => {}
            Some(own) if own.contains(gateway) => is_a_host_of(checker, place, *gateway, own),
            Some(own) => {
                let message = format!("gateway {gateway} is outside of the VLAN's network {}", own.trunc());
                checker.error(place, message, format!("choose an address of {}", own.trunc()));
            }
            None => {
                let ip = if family == Family::V4 { "ip" } else { "ipv6" };
                let message = format!("gateway {gateway} stands on a VLAN without an `{ip} address`");
                checker.error(place, message, format!("add `{}` of the same network", own_line(family)));
            }
        }
    }
}

/// The guide's listing has a route under the server VLAN whose gateway is on the client VLAN: any VLAN will do, except
/// for a link-local gateway, which is on the VLAN of its line.
fn routes(checker: &mut Checker<'_>, vlan: &Vlan) {
    let section = Section::Vlan(vlan.id);
    for route in &vlan.routes {
        let place = checker.tree.place_of(&section, Id::Route, "ADDRESS", &Value::Address(route.gateway));
        let family = Family::of(route.gateway);
        if family != Family::of(route.network.addr()) {
            let message =
                format!("gateway {} is no {} address", route.gateway, Family::of(route.network.addr()));
            checker.error(place, message, "destination and gateway are of one family");
            continue;
        }
        let here = is_link_local(route.gateway) && vlan.own(family).is_some();
        if !here && checker.config.vlan_of(route.gateway).is_none() {
            let message = format!("gateway {} is in no VLAN's network", route.gateway);
            checker.error(place, message, "choose the address of a router on a client or server VLAN");
        }
    }
}

fn addresses_have_one_use(checker: &mut Checker<'_>) {
    let mut used: HashMap<IpAddr, (Use, Span)> = HashMap::new();
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
fn uses(checker: &Checker<'_>) -> Vec<(IpAddr, Use, Span)> {
    let tree = checker.tree;
    let mut uses = Vec::new();
    let forwards = |farm: &Serverfarm| farm.predictor == Predictor::Forward;
    for vlan in &checker.config.vlans {
        let section = Section::Vlan(vlan.id);
        for family in Family::ALL {
            let own = vlan.own(family).map(|net| (net, Use::Own, own_id(family), "ADDRESS"));
            let peer = vlan.peer(family).map(|net| (net, Use::Peer, own_id(family), "PEER-ADDRESS"));
            let alias = vlan.alias(family).map(|net| (net, Use::Alias, alias_id(family), "ADDRESS"));
            for (net, of, id, slot) in [own, peer, alias].into_iter().flatten() {
                uses.push((net.addr(), of, tree.place(&section, id, slot)));
            }
        }
        // A link-local address may stand on each VLAN.
        for gateway in vlan.gateways.iter().filter(|gateway| !is_link_local(**gateway)) {
            let place = tree.place_of(&section, Id::Gateway, "ADDRESS", &Value::Address(*gateway));
            uses.push((*gateway, Use::Gateway, place));
        }
    }
    for farm in &checker.config.serverfarms {
        for real in &farm.reals {
            let section = Section::of_real(farm, real);
            uses.push((real.address, Use::Real, tree.place(&section, Id::Real, "ADDRESS")));
        }
    }
    for vserver in &checker.config.vservers {
        if let Some(to) = vserver.virtual_server.filter(Virtual::is_address) {
            let section = Section::Vserver(vserver.name.clone());
            // Routed to whoever has it: any address may be named.
            let farms = || checker.farms_of(vserver);
            if farms().any(forwards) && farms().all(forwards) {
                continue;
            }
            uses.push((to.address(), Use::Virtual, tree.place(&section, Id::Virtual, "ADDRESS")));
        }
    }
    for rule in &checker.config.statics {
        if let StaticAction::Nat(address) = rule.action {
            let place = tree.place(&Section::Static(rule.action), Id::Static, "ADDRESS");
            uses.push((address, Use::Static, place));
        }
    }
    for pool in &checker.config.natpools {
        let place = tree.place_of(&Section::Module, Id::Natpool, "FIRST", &Value::Address(pool.first));
        uses.extend(
            pool.addresses().take(POOL_ADDRESSES_MAX as usize).map(|address| (address, Use::Pool, place)),
        );
    }
    // So that the later line is the one accused.
    uses.sort_by_key(|(.., place)| *place);
    uses
}
