//! What the virtual servers match: each by itself, and against one another.

use std::collections::{BTreeMap, BTreeSet};

use csm_common::limits::NESTED_NETWORKS;
use ipnet::IpNet;

use super::super::command::Id;
use super::super::grammar::is_unicast;
use super::super::parse::Section;
use super::super::service;
use super::super::token::Span;
use super::{Checker, family};
use crate::model::{Family, Predictor, Protocol, Service, Virtual, VlanId, Vserver};

/// RFC 2326, section 3.2; no word of the language stands for it.
const RTSP_PORT: u16 = 554;

/// Checks `virtual` of one virtual server.
pub(super) fn virtual_server(checker: &mut Checker<'_>, vserver: &Vserver, section: &Section, to: &Virtual) {
    let place = checker.tree.place(section, Id::Virtual, "ADDRESS");
    address(checker, section, to, place);
    let port = checker.tree.place(section, Id::Virtual, "PORT");
    if !to.protocol.has_ports() && to.port != 0 {
        let message = format!("protocol {} has no ports that are balanced", to.protocol);
        checker.error(port, message, "leave the port out");
    }
    if to.protocol == Protocol::TCP && !to.follows() && service::port("ftp") == Some(to.port) {
        let message = "FTP's data connections are not followed: only the control connection is balanced";
        checker.warning(port, message, "add `service ftp`");
    }
    if to.protocol == Protocol::TCP && !to.follows() && to.port == RTSP_PORT {
        let message = "RTSP's media by UDP are not followed: only the control connection is balanced";
        checker.warning(port, message, "add `service rtsp`");
    }
    if let Some(word) = to.service.word() {
        followed(checker, vserver, section, (to, word));
    }
    clients(checker, vserver, section);
    family::vserver(checker, vserver, section, to);
}

fn address(checker: &mut Checker<'_>, section: &Section, to: &Virtual, place: Span) {
    let said = checker.tree.all(section, Id::Virtual).next_back().and_then(|said| said.address("ADDRESS"));
    if said.is_some_and(|said| said != to.address()) {
        let message = format!("the address has bits outside of its mask: taken as {}", to.network);
        checker.warning(place, message, format!("write {}", to.address()));
    }
    if to.is_address() && !is_unicast(to.address()) {
        let message = format!("{} is not the address of a host", to.address());
        return checker.error(place, message, "choose a unicast address, or add a mask");
    }
    let connected = checker.config.vlan_of(to.address()).is_some();
    let addressed =
        Family::ALL.iter().any(|&family| checker.config.vlans.iter().any(|vlan| vlan.own(family).is_some()));
    if to.is_address() && !connected && addressed {
        let resolution = super::resolution(Family::of(to.address()));
        let message =
            format!("{} is in no VLAN's network: nothing will ask for it by {resolution}", to.address());
        checker.warning(
            place,
            message,
            "make the upstream router send it to the client VLAN's alias, or change it",
        );
    }
}

/// What is said of a virtual server with `service WORD`.
fn followed(
    checker: &mut Checker<'_>,
    vserver: &Vserver,
    section: &Section,
    (to, word): (&Virtual, &'static str),
) {
    let place = checker.tree.place(section, Id::Virtual, word);
    if !to.is_address() || to.port == 0 {
        let message = format!("`service {word}` follows the clients of one address and port");
        checker.error(place, message, "leave the mask out, and name the control connections' port");
    }
    let farm = vserver.serverfarm.as_ref().and_then(|name| checker.serverfarm(name));
    let backup = vserver.backup.as_ref().and_then(|backup| checker.serverfarm(&backup.farm));
    if farm.is_some_and(|farm| !farm.nat_server || farm.predictor == Predictor::Forward) {
        let message = format!("`service {word}` needs a farm that translates to the real's address");
        checker.error(place, message, "use `nat server` and another predictor than `forward` in the farm");
    }
    if to.service == Service::Rtsp
        && [farm, backup].into_iter().flatten().any(|farm| farm.nat_client.is_some())
    {
        let message =
            "with `nat client` RTSP's servers send their media to an address that is not the client's";
        checker.error(
            place,
            message,
            "leave `nat client` out of the farm and of its backup, or `service rtsp` out",
        );
    }
}

fn clients(checker: &mut Checker<'_>, vserver: &Vserver, section: &Section) {
    for range in vserver.clients.iter().filter(|range| range.exclude) {
        let both = vserver.clients.iter().any(|other| !other.exclude && other.network == range.network);
        if both {
            let place = checker.tree.place(section, Id::Client, "ADDRESS");
            let message = format!("clients {} are both served and excluded", range.network);
            checker.error(place, message, "keep one of the two lines");
        }
    }
}

/// What packets are compared with; two virtual servers that agree in all of it cannot both have them.
type Matched = (IpNet, Protocol, u16, Option<VlanId>, IpNet);

/// Refuses two that match the same packets equally well, and what the dataplane cannot look up.
pub(super) fn no_two_match_alike(checker: &mut Checker<'_>) {
    let config = checker.config;
    let mut taken: BTreeMap<Matched, &Vserver> = BTreeMap::new();
    let mut following: BTreeMap<(IpNet, Service), &Vserver> = BTreeMap::new();
    let mut networks: BTreeSet<IpNet> = BTreeSet::new();
    let mut accused: BTreeSet<(&str, &str)> = BTreeSet::new();
    for vserver in &config.vservers {
        let Some(to) = vserver.virtual_server else { continue };
        let place = checker.tree.place(&Section::Vserver(vserver.name.clone()), Id::Virtual, "ADDRESS");
        let first = |checker: &Checker<'_>, other: &Vserver| {
            let section = Section::Vserver(other.name.clone());
            checker.line(checker.tree.place(&section, Id::Virtual, "ADDRESS"))
        };
        for range in vserver.client_ranges().into_iter().filter(|range| !range.exclude) {
            let service = (to.network, to.protocol, to.port, vserver.vlan, range.network);
            let other = *taken.entry(service).or_insert(vserver);
            if other.name == vserver.name || !accused.insert((vserver.name.as_str(), other.name.as_str())) {
                continue;
            }
            let clients = match range.network.prefix_len() {
                0 => String::new(),
                _ => format!(", and clients {}", range.network),
            };
            let message = format!(
                "duplicate of virtual server {}, {}: same address, protocol and port{clients}",
                other.name,
                first(checker, other)
            );
            checker.error(
                place,
                message,
                "change one of the two, give them different `vlan` or `client` lines, or remove it",
            );
        }
        if let Some(word) = to.service.word() {
            let other = *following.entry((to.network, to.service)).or_insert(vserver);
            if other.name != vserver.name {
                let message = format!(
                    "virtual server {}, {}, is for {} on this address, too: data connections could be either's",
                    other.name,
                    first(checker, other),
                    word.to_uppercase()
                );
                checker.error(place, message, "give one of the two another address");
            }
        }
        if !to.is_address() && networks.insert(to.network) {
            let around =
                networks.iter().filter(|other| other.contains(&to.network) || to.network.contains(*other));
            let deepest =
                around.clone().map(|network| around.clone().filter(|other| other.contains(network)).count());
            if deepest.max().unwrap_or(0) > NESTED_NETWORKS {
                let message = format!("more than {NESTED_NETWORKS} virtual networks lie in one another");
                checker.error(place, message, "use fewer networks around one another");
            }
        }
    }
}
