//! The host as a router, against its VLANs, ports and groups.

use super::super::build::PortLines;
use super::super::command::Id;
use super::super::grammar::Value;
use super::super::parse::Section;
use super::super::token::Span;
use super::Checker;
use crate::model::{Config, StandbyGroup, vlan_of_name};

/// Checks all interfaces and routes of the router.
pub(super) fn check(checker: &mut Checker<'_>) {
    for port in checker.ports.iter().filter(|port| port.is_routed() || port.is_vlan()) {
        interface(checker, port);
    }
    let config = checker.config;
    for route in &config.routes {
        if !config.router_networks().any(|(_, _, net)| net.contains(&route.gateway)) {
            let place = checker.tree.place_of(
                &Section::Global,
                Id::IpRoute,
                "ADDRESS",
                &Value::Address(route.gateway.into()),
            );
            let message = format!("{} is in no network of the router", route.gateway);
            checker.error(place, message, "name a router in the network of an interface's `ip address`");
        }
    }
}

fn interface(checker: &mut Checker<'_>, port: &PortLines) {
    let config = checker.config;
    let section = Section::Interface(port.name.clone());
    let place = |checker: &Checker<'_>, id, slot| checker.tree.place(&section, id, slot);
    let opener = place(checker, Id::Interface, "NAME");
    let Some(address) = port.router.address else {
        let message = format!("interface {} has no `ip address` and is not used", port.name);
        checker.warning(opener, message, "add `ip address ADDRESS MASK`");
        return;
    };
    let at = place(checker, Id::RouterAddress, "ADDRESS");
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
    if !address.hosts().any(|host| host == address.addr()) {
        checker.error(at, format!("{} is not the address of a host there", address.addr()), "use another");
    }
    let taken = config.vlans.iter().find(|vlan| {
        let of_vlan = [vlan.address, vlan.alt_address, vlan.alias].into_iter().flatten();
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
    for group in &port.router.groups {
        check_group(checker, port, group);
    }
}

fn check_group(checker: &mut Checker<'_>, port: &PortLines, group: &StandbyGroup) {
    let config = checker.config;
    let section = Section::Interface(port.name.clone());
    let number = group.number;
    let place = |checker: &Checker<'_>, id: Id, slot: &str| {
        let of_group = |statement: &&super::super::parse::Statement| {
            statement.number("GROUP").unwrap_or(0_u16) == number && !statement.negated
        };
        let said = checker.tree.all(&section, id).rfind(of_group);
        said.map_or(Span::FILE, |statement| statement.place(slot))
    };
    let Some(address) = group.address else {
        let remedy = format!("add `standby {number} ip ADDRESS`");
        let opener = checker.tree.place(&section, Id::Interface, "NAME");
        checker.warning(
            opener,
            format!("HSRP group {number} has no virtual address: it does not run"),
            remedy,
        );
        return;
    };
    let at = place(checker, Id::StandbyIp, "ADDRESS");
    if port.router.version == 1 && number > 255 {
        let at = place(checker, Id::StandbyIp, "GROUP");
        checker.error(at, "groups of version 1 are 0-255", "add `standby version 2`");
    }
    if port.router.address.is_some_and(|net| !net.contains(&address) || net.addr() == address) {
        let message = format!("{address} is no other address of the interface's network");
        checker.error(at, message, "use an address of that network that no router has for its own");
    }
    if is_the_modules(config, address) {
        checker.error(at, format!("{address} is an address of the module"), "use another address");
    }
    let same = config.standby_groups().filter(|(_, _, _, other)| *other == address).count();
    if same > 1 {
        checker.error(at, format!("two groups have {address}"), "give each group an address of its own");
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

fn is_the_modules(config: &Config, address: std::net::Ipv4Addr) -> bool {
    let of_vlans = config.vlans.iter().flat_map(|vlan| [vlan.address, vlan.alt_address, vlan.alias]);
    let of_vservers = config.vservers.iter().filter_map(|vserver| vserver.virtual_server);
    of_vlans.flatten().any(|net| net.addr() == address)
        || of_vservers.into_iter().any(|to| to.is_address() && to.address() == address)
}
