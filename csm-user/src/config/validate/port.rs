//! Ports against the host, one another and the module's VLANs.

use std::collections::HashMap;

use super::super::build::PortLines;
use super::super::command::Id;
use super::super::parse::Section;
use super::Checker;
use crate::model::{ChannelPort, Interface, PortMode, VlanId, channel_name, channel_of_name};

/// Checks all ports.
pub(super) fn check(checker: &mut Checker<'_>) {
    let mut carriers = HashMap::new();
    for port in checker.ports {
        let section = Section::Interface(port.name.clone());
        let opener = checker.tree.place(&section, Id::Interface, "NAME");
        if port.is_vlan() {
            continue;
        }
        let is_made = check_channel(checker, port);
        let missing = !is_made && !checker.has_interface(&port.name);
        if missing {
            let remedy = "name an interface of `ip link`";
            checker.error(opener, format!("this host has no interface `{}`", port.name), remedy);
        }
        given_once(checker, &section, &port.name);
        if port.channel.is_some() {
            continue;
        }
        lines_count(checker, &section, port);
        match port.interface() {
            Some(interface) => carried(checker, &interface, &mut carriers),
            None if !missing && checker.tree.all(&section, Id::AccessVlan).next().is_none() => {
                let remedy = "add `switchport access vlan N` below it";
                let message = format!("interface {} carries no VLAN and is not used", port.name);
                checker.warning(opener, message, remedy);
            }
            None => {}
        }
    }
}

/// What is wrong between a port channel and its ports; true if `port` is a port channel that csmd makes.
fn check_channel(checker: &mut Checker<'_>, port: &PortLines) -> bool {
    let section = Section::Interface(port.name.clone());
    if let Some(ChannelPort { channel, mode }) = port.channel {
        let place = checker.tree.place(&section, Id::ChannelGroup, "CHANNEL");
        let name = channel_name(channel);
        if channel_of_name(&port.name).is_some() {
            checker.error(
                place,
                "a port channel is no port of another".to_owned(),
                "name a port of this host",
            );
        }
        if !checker.ports.iter().any(|other| other.name == name) {
            let message = format!("there is no interface {name}: {} is not used", port.name);
            checker.warning(place, message, "add it, with the VLANs that it carries");
        }
        let first = checker.config.channel_ports(channel).next();
        if let Some((other, others)) = first.filter(|&(_, others)| others != mode) {
            let message = format!("{other} is in channel {channel} by mode {}", others.word());
            checker.error(place, message, "all ports of a channel are agreed on in one way");
        }
        let own =
            [Id::AccessVlan, Id::PortMode, Id::TrunkAllowed, Id::TrunkAdd, Id::TrunkNative, Id::XdpMode];
        for id in own {
            if let Some(statement) = checker.tree.all(&section, id).find(|statement| !statement.negated) {
                let (span, text) = (statement.span, statement.text.clone());
                let message = format!("`{text}` does not count on a port of channel {channel}");
                checker.warning(span, message, "write it below the interface of the port channel");
            }
        }
        if port.is_routed() {
            let message = format!("a port of channel {channel} has no address and no group of its own");
            checker.error(place, message, "give them to the interface of the port channel");
        }
        return false;
    }
    let Some(channel) = channel_of_name(&port.name) else { return false };
    let has_ports = checker.config.channel_ports(channel).next().is_some();
    if !has_ports {
        let place = checker.tree.place(&section, Id::Interface, "NAME");
        let message = format!("{} has no port and carries nothing", port.name);
        checker.warning(place, message, format!("add `channel-group {channel} mode on` below a port"));
    }
    true
}

fn given_once(checker: &mut Checker<'_>, section: &Section, name: &str) {
    let given: Vec<_> = checker.tree.all(section, Id::AccessVlan).collect();
    let [first, .., last] = given.as_slice() else { return };
    let same = first.vlan() == last.vlan();
    let (first, last) = (first.span, last.span);
    if same {
        let message = format!("interface {name} is configured twice, first at {}", checker.line(first));
        checker.error(last, message, "keep one of the two");
    }
}

/// Lines of the mode that the port does not have.
fn lines_count(checker: &mut Checker<'_>, section: &Section, port: &PortLines) {
    let (idle, kind, remedy): (&[Id], _, _) = match port.is_trunk {
        true => (
            &[Id::AccessVlan],
            "a trunk",
            "remove the line, or `switchport mode trunk`; for untagged frames: `switchport trunk native vlan N`",
        ),
        false => (
            &[Id::TrunkAllowed, Id::TrunkAdd, Id::TrunkNative],
            "an access port",
            "add `switchport mode trunk`, or remove the line",
        ),
    };
    for id in idle {
        if let Some(statement) = checker.tree.all(section, *id).find(|statement| !statement.negated) {
            let (span, text) = (statement.span, statement.text.clone());
            checker.warning(span, format!("`{text}` does not count on {kind}"), remedy);
        }
    }
}

/// A VLAN has one port, and a port a VLAN of the module.
fn carried(checker: &mut Checker<'_>, port: &Interface, carriers: &mut HashMap<VlanId, String>) {
    let section = Section::Interface(port.name.clone());
    let place = match &port.mode {
        PortMode::Access(_) => checker.tree.place(&section, Id::AccessVlan, "VLAN"),
        PortMode::Routed => checker.tree.place(&section, Id::RouterAddress, "ADDRESS"),
        PortMode::Member(_) => return,
        PortMode::Trunk(_) => {
            let allowed = checker.tree.all(&section, Id::TrunkAllowed).next_back();
            let mode = || checker.tree.place(&section, Id::PortMode, "trunk");
            allowed.map_or_else(mode, |statement| statement.place("VLANS"))
        }
    };
    let vlans: Vec<VlanId> = match &port.mode {
        PortMode::Access(vlan) => vec![*vlan],
        PortMode::Routed | PortMode::Member(_) => Vec::new(),
        PortMode::Trunk(_) => {
            checker.config.vlan_ids().filter(|vlan| port.carries(*vlan).is_some()).collect()
        }
    };
    for vlan in &vlans {
        let Some(other) = carriers.insert(*vlan, port.name.clone()) else { continue };
        if other == port.name {
            continue;
        }
        let first = Section::Interface(other.clone());
        let first = match checker.tree.all(&first, Id::AccessVlan).next_back() {
            Some(statement) => statement.span,
            None => checker.tree.place(&first, Id::Interface, "NAME"),
        };
        let message = format!("VLAN {vlan} is on {other} already, {}", checker.line(first));
        let remedy = match port.mode {
            PortMode::Access(_) | PortMode::Routed | PortMode::Member(_) => {
                "one port carries a VLAN; join two links by `channel-group N mode on` below both"
            }
            PortMode::Trunk(_) => "one port carries a VLAN: leave it out of `switchport trunk allowed vlan`",
        };
        checker.error(place, message, remedy);
    }
    match port.mode {
        PortMode::Access(vlan) if !checker.config.vlan_ids().any(|known| known == vlan) => {
            let name = &port.name;
            let message =
                format!("VLAN {vlan} is neither a client, a server nor the FT VLAN: {name} is not used");
            checker.warning(place, message, format!("add `vlan {vlan} client` or `vlan {vlan} server`"));
        }
        PortMode::Trunk(_) if vlans.is_empty() => {
            let message = format!("{} carries no VLAN of the module and is not used", port.name);
            checker.warning(place, message, "add the module's VLANs to `switchport trunk allowed vlan`");
        }
        _ => {}
    }
}
