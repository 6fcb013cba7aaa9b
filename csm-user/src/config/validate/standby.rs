//! The host as a router, against its VLANs, ports and groups.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use super::super::build::PortLines;
use super::super::command::Id;
use super::super::grammar::Value;
use super::super::parse::Section;
use super::super::token::Span;
use super::Checker;
use crate::model::{Config, Family, StandbyGroup, vlan_of_name};

/// Checks all interfaces and routes of the router.
pub(super) fn check(checker: &mut Checker<'_>) {
    for port in checker.ports.iter().filter(|port| port.is_routed() || port.is_vlan()) {
        interface(checker, port);
    }
    let config = checker.config;
    for route in &config.routes {
        if !config.router_networks().any(|(_, _, net)| net.contains(&route.gateway)) {
            let id = if route.gateway.is_ipv4() { Id::IpRoute } else { Id::Ipv6Route };
            let gateway = Value::Address(route.gateway);
            let place = checker.tree.place_of(&Section::Global, id, "ADDRESS", &gateway);
            let message = format!("{} is in no network of the router", route.gateway);
            checker.error(
                place,
                message,
                "name a router in the network of an interface's `ip address` or `ipv6 address`",
            );
        }
    }
}

fn interface(checker: &mut Checker<'_>, port: &PortLines) {
    let config = checker.config;
    let section = Section::Interface(port.name.clone());
    let place = |checker: &Checker<'_>, id, slot| checker.tree.place(&section, id, slot);
    let opener = place(checker, Id::Interface, "NAME");
    let [v4, v6] = Family::ALL.map(|family| port.router.own(family));
    let Some(first) = v4.or(v6) else {
        let message = format!("interface {} has no `ip address` and is not used", port.name);
        checker.warning(opener, message, "add `ip address ADDRESS MASK`, or `ipv6 address ADDRESS/LENGTH`");
        return;
    };
    let id_of = |net: IpNet| if net.addr().is_ipv4() { Id::RouterAddress } else { Id::RouterAddress6 };
    let at = place(checker, id_of(first), "ADDRESS");
    match vlan_of_name(&port.name) {
        None if port.is_trunk || port.access.is_some() => {
            let message = format!("{} carries VLANs: the router's address is not on the port", port.name);
            checker.error(at, message, "put it under `interface vlanN`, or take the `switchport` lines away");
        }
        None => {}
        Some(vlan) => {
            if config.ft.as_ref().is_some_and(|ft| ft.vlan == vlan) {
                let remedy = "the FT VLAN is private to the two nodes: use another VLAN";
                checker.error(opener, format!("VLAN {vlan} is the FT VLAN"), remedy);
            }
            if config.bridged_with(vlan).is_some() {
                let remedy = "put the router before the bridge group, on a VLAN of its own";
                checker.error(opener, format!("VLAN {vlan} is bridged: no router is on it"), remedy);
            }
            let ports = checker.ports.iter().any(PortLines::is_switched);
            if ports && config.interface_of(vlan).is_none() {
                let message = format!("no interface carries VLAN {vlan}: {} is not connected", port.name);
                let remedy = format!("add `switchport access vlan {vlan}` to an interface");
                checker.warning(opener, message, remedy);
            }
        }
    }
    for address in [v4, v6].into_iter().flatten() {
        let at = place(checker, id_of(address), "ADDRESS");
        own_address(checker, port, address, at);
    }
    for group in &port.router.groups {
        check_group(checker, port, group);
    }
}

/// The router's own address, given at `at`.
fn own_address(checker: &mut Checker<'_>, port: &PortLines, address: IpNet, at: Span) {
    let config = checker.config;
    if !is_host(address) {
        checker.error(at, format!("{} is not the address of a host there", address.addr()), "use another");
    }
    let family = Family::of(address.addr());
    let taken = config.vlans.iter().find(|vlan| {
        let of_vlan = [vlan.own(family), vlan.peer(family), vlan.alias(family)].into_iter().flatten();
        of_vlan.into_iter().any(|net| net.addr() == address.addr())
    });
    if let Some(vlan) = taken {
        let message = format!("{} is an address of VLAN {} of the module", address.addr(), vlan.id);
        checker.error(at, message, "router and module have an address each");
    }
    let other = config.router_networks().find(|(other, _, net)| {
        other.name != port.name && (net.contains(&address.addr()) || address.contains(&net.addr()))
    });
    if let Some((other, ..)) = other {
        let message = format!("{} and {} are on the same network", port.name, other.name);
        checker.error(at, message, "give each interface a network of its own");
    }
}

/// Whether a host of its network may have it.
fn is_host(net: IpNet) -> bool {
    match net {
        IpNet::V4(net) => {
            let ends = net.prefix_len() < 31 && [net.network(), net.broadcast()].contains(&net.addr());
            !ends
        }
        // The lowest one is all routers' (RFC 4291, section 2.6.1).
        IpNet::V6(net) => {
            let all_routers = net.prefix_len() < 127 && net.addr() == net.network();
            !all_routers && !net.addr().is_unicast_link_local()
        }
    }
}

fn check_group(checker: &mut Checker<'_>, port: &PortLines, group: &StandbyGroup) {
    let section = Section::Interface(port.name.clone());
    let number = group.number;
    let place = |checker: &Checker<'_>, id: Id, slot: &str| {
        let of_group = |statement: &&super::super::parse::Statement| {
            statement.number("GROUP").unwrap_or(0_u16) == number && !statement.negated
        };
        let said = checker.tree.all(&section, id).rfind(of_group);
        said.map_or(Span::FILE, |statement| statement.place(slot))
    };
    if group.families().next().is_none() {
        let remedy = match group.global.first() {
            Some(_) => format!("add `standby {number} ipv6 autoconfig`: it has an address of the link, too"),
            None => format!("add `standby {number} ip ADDRESS`"),
        };
        let opener = checker.tree.place(&section, Id::Interface, "NAME");
        checker.warning(
            opener,
            format!("HSRP group {number} has no virtual address for its messages: it does not run"),
            remedy,
        );
        return;
    }
    if port.router.version == 1 && number > 255 {
        let at = place(checker, Id::StandbyIp, "GROUP");
        checker.error(at, "groups of version 1 are 0-255", "add `standby version 2`");
    }
    for (family, address) in group.families() {
        let at = match family {
            Family::V4 => place(checker, Id::StandbyIp, if address.is_some() { "ADDRESS" } else { "ip" }),
            Family::V6 => place(checker, Id::StandbyIpv6, "ADDRESS"),
        };
        virtual_address(checker, port, (family, address), at);
    }
    for global in &group.global {
        global_address(checker, port, *global);
    }
    if group.timers.is_some_and(|(hello, hold)| hold <= hello) {
        let at = place(checker, Id::StandbyTimers, "HOLD");
        checker.error(at, "the hold time is not above the hello time", "three times as long is usual");
    }
    for track in &group.track {
        if !checker.has_interface(&track.interface) {
            let value = Value::Text(track.interface.clone());
            let at = checker.tree.place_of(&section, Id::StandbyTrack, "INTERFACE", &value);
            let message = format!("this host has no interface `{}`", track.interface);
            checker.error(at, message, "name an interface of `ip link`");
        }
    }
}

/// The address that the messages of a group on `port` say, given at `at`; `None`: a learned one.
fn virtual_address(
    checker: &mut Checker<'_>,
    port: &PortLines,
    (family, address): (Family, Option<IpAddr>),
    at: Span,
) {
    let own = port.router.own(family);
    if own.is_none() {
        let line = match family {
            Family::V4 => "ip address ADDRESS MASK",
            Family::V6 => "ipv6 address ADDRESS/LENGTH",
        };
        let shown = address.map_or_else(|| "the group's".to_owned(), |address| address.to_string());
        let message = format!("the interface has no own address beside {shown}: the group does not run");
        checker.warning(at, message, format!("add `{line}`"));
    }
    let Some(address) = address else { return };
    match address {
        IpAddr::V4(_) => {
            if own.is_some_and(|net| !net.contains(&address) || net.addr() == address) {
                let message = format!("{address} is no other address of the interface's network");
                let remedy = "use an address of that network that no router has for its own";
                checker.error(at, message, remedy);
            }
        }
        IpAddr::V6(of_link) => {
            if port.router.version == 1 {
                checker.error(at, "version 1 has no groups of IPv6", "add `standby version 2`");
            }
            if !of_link.is_unicast_link_local() {
                let remedy = "use a link-local address, or `autoconfig`";
                checker.error(at, format!("{address} is no address of the link"), remedy);
            }
        }
    }
    taken(checker, port, address, at);
}

/// A global address of an IPv6 group on `port`.
fn global_address(checker: &mut Checker<'_>, port: &PortLines, global: Ipv6Net) {
    let section = Section::Interface(port.name.clone());
    let value = Value::Net(global.into());
    let at = checker.tree.place_of(&section, Id::StandbyPrefix, "NETWORK", &value);
    // Without one of its own the group does not run, as is said there.
    let Some(own) = port.router.address6 else { return };
    if own.trunc() != global.trunc() {
        let remedy = format!("use an address of {}", own.trunc());
        checker.error(at, format!("{global} is not of the interface's network"), remedy);
    }
    if !is_host(global.into()) {
        checker.error(
            at,
            format!("{global} is no address of a host"),
            "use an address of one host of the network",
        );
    }
    if own.addr() == global.addr() {
        let remedy = "use an address of that network that no router has for its own";
        checker.error(at, format!("{} is the router's own address", global.addr()), remedy);
    }
    taken(checker, port, global.addr().into(), at);
}

/// A group's address, given at `at`: whether the module or another group has it.
fn taken(checker: &mut Checker<'_>, port: &PortLines, address: IpAddr, at: Span) {
    if is_the_modules(checker.config, address) {
        checker.error(at, format!("{address} is an address of the module"), "use another address");
    }
    // One of the link is on each link another.
    let is_of_link = |address: &IpAddr| matches!(address, IpAddr::V6(it) if it.is_unicast_link_local());
    let is_same = |name: &str| !is_of_link(&address) || name == port.name;
    let groups = checker.config.standby_groups().filter(|run| is_same(&run.interface.name));
    if groups.flat_map(|run| run.addresses().collect::<Vec<_>>()).filter(|other| *other == address).count()
        > 1
    {
        checker.error(at, format!("two groups have {address}"), "give each group an address of its own");
    }
}

fn is_the_modules(config: &Config, address: IpAddr) -> bool {
    let family = Family::of(address);
    let of_vlans =
        config.vlans.iter().flat_map(|vlan| [vlan.own(family), vlan.peer(family), vlan.alias(family)]);
    let of_vservers = config.vservers.iter().filter_map(|vserver| vserver.virtual_server);
    of_vlans.flatten().any(|net| net.addr() == address)
        || of_vservers.into_iter().any(|to| to.is_address() && to.address() == address)
}
