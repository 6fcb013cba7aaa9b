//! Neighbours that the configuration knows: each on a VLAN of its network, none of them this pair, and each once.

use std::collections::HashMap;

use ipnet::IpNet;

use super::Checker;
use crate::config::build::arp;
use crate::config::command::Id;
use crate::config::parse::Section;
use crate::model::{Family, StaticArp};

pub(super) fn check(checker: &mut Checker<'_>) {
    let config = checker.config;
    let mut before: HashMap<_, (usize, StaticArp)> = HashMap::new();
    let statements: Vec<_> = checker.tree.all(&Section::Module, Id::StaticArp).cloned().collect();
    for statement in statements {
        // One that is taken back later is nobody's.
        let Some(said) = arp::of(&statement) else { continue };
        let key = (said.address, said.vlan);
        if !config.arps.iter().any(|known| (known.address, known.vlan) == key) {
            continue;
        }
        if let Some((line, other)) = before.insert(key, (statement.span.line, said))
            && other.mac != said.mac
            // What is typed replaces what is in force.
            && !(line <= checker.source.running && statement.span.line > checker.source.running)
        {
            let message = format!("{} has another MAC address, {}", said.address, checker.source.place(line));
            checker.error(statement.place("MAC"), message, "keep one of the lines");
        }
        place(checker, &said, statement.place("ADDRESS"), statement.place("VLAN"));
    }
}

fn place(checker: &mut Checker<'_>, said: &StaticArp, of_address: super::Span, of_vlan: super::Span) {
    let config = checker.config;
    let StaticArp { address, vlan, .. } = *said;
    let family = Family::of(address);
    let Some(known) = config.vlans.iter().find(|known| known.id == vlan) else {
        let remedy = format!("name a client or server VLAN, or add `vlan {vlan} client|server`");
        return checker.error(of_vlan, format!("there is no VLAN {vlan} here"), remedy);
    };
    let link_local = matches!(address, std::net::IpAddr::V6(address) if address.is_unicast_link_local());
    if !link_local && !known.own(family).is_some_and(|net| net.contains(&address)) {
        let message = format!("{address} is not in the network of VLAN {vlan}: it is no neighbour there");
        return checker.error(of_address, message, "name a host of that network");
    }
    let of_vlan = [known.own(family), known.peer(family), known.alias(family)];
    let virtual_servers = config.vservers.iter().filter_map(|vserver| vserver.virtual_server);
    let of_pair = of_vlan.iter().flatten().map(IpNet::addr).chain(virtual_servers.map(|to| to.address()));
    if of_pair.into_iter().any(|own| own == address) {
        checker.error(of_address, format!("{address} is an address of this pair"), "name another host");
    }
}
