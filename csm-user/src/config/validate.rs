//! A draft against itself and the host: names, addresses, ports, timers, limits.
//!
//! What contradicts itself or cannot work is an error; what is merely incomplete stays out of service with a warning.

use std::collections::HashMap;

use csm_common::limits;

use super::build::{Draft, PortLines};
use super::command::Id;
use super::diagnostic::Diagnostic;
use super::parse::{Section, Tree};
use super::token::Span;
use super::{HostFacts, Source};
use crate::model::{
    Config, FAILOVER_MIN_WITHOUT_REALTIME, Family, FtGroup, Name, Natpool, Predictor, Probe, ProbeKind,
    RealAdmin, Serverfarm, StaticAction, Vserver, WITNESSED_MAX, channel_of_name, lease,
};

mod address;
mod arp;
mod family;
mod limit;
mod matching;
mod nat;
mod policy;
mod port;
mod probe;
mod real;
mod standby;
mod sticky;
mod track;

/// What every check reads and writes.
struct Checker<'a> {
    config: &'a Config,
    /// Its server farms, by name: each virtual server asks for its own some times.
    farms: HashMap<&'a Name, &'a Serverfarm>,
    ports: &'a [PortLines],
    tree: &'a Tree,
    source: Source<'a>,
    host: &'a HostFacts,
    found: &'a mut Vec<Diagnostic>,
}

/// Checks `draft`, made from `tree`.
pub(super) fn validate(
    draft: &Draft,
    tree: &Tree,
    source: Source<'_>,
    host: &HostFacts,
    found: &mut Vec<Diagnostic>,
) {
    let broken = found.iter().any(|diagnostic| diagnostic.severity == super::Severity::Error);
    let (config, ports) = (&draft.config, &draft.ports);
    let farms = config.serverfarms.iter().map(|farm| (&farm.name, farm)).collect();
    let mut checker = Checker { config, farms, ports, tree, source, host, found };
    // A faulty line may be the one that said so: do not accuse the file of saying nothing.
    if !broken {
        checker.something_is_configured();
    }
    port::check(&mut checker);
    checker.vlans_have_ports();
    address::check(&mut checker);
    probe::check(&mut checker);
    arp::check(&mut checker);
    real::check(&mut checker);
    checker.serverfarms();
    nat::check(&mut checker);
    policy::check(&mut checker);
    checker.vservers();
    if let Some(ft) = &draft.config.ft {
        checker.ft(ft);
        track::check(&mut checker, ft);
    }
    standby::check(&mut checker);
    checker.limits();
}

impl<'a> Checker<'a> {
    fn error(&mut self, place: Span, message: impl Into<String>, remedy: impl Into<String>) {
        self.found.push(Diagnostic::error(place, message).remedy(remedy));
    }

    fn warning(&mut self, place: Span, message: impl Into<String>, remedy: impl Into<String>) {
        self.found.push(Diagnostic::warning(place, message).remedy(remedy));
    }

    /// `place` as other findings refer to it.
    fn line(&self, place: Span) -> String {
        self.source.place(place.line)
    }

    fn something_is_configured(&mut self) {
        let Config { slot: _, interfaces: _, vlans, probes, serverfarms, vservers, ft, .. } = self.config;
        let module = self.tree.all(&Section::Module, Id::Module).next().is_some();
        let nothing = vlans.is_empty() && vservers.is_empty() && ft.is_none();
        if nothing && probes.is_empty() && serverfarms.is_empty() && !module {
            let remedy = "begin with `module csm 5` and its VLANs, server farms and virtual servers";
            self.error(Span::FILE, "there is no `module csm N`: nothing is configured", remedy);
        } else if nothing {
            let remedy = "add `vlan N client`, `vlan N server` and a virtual server";
            self.error(Span::FILE, "`module csm` has no VLAN, no virtual server and no FT group", remedy);
        }
    }

    /// Whether this host has the interface, or will have it once csmd has started.
    fn has_interface(&self, name: &str) -> bool {
        let is_made = channel_of_name(name).is_some_and(|it| self.config.channel_ports(it).next().is_some());
        is_made || self.host.interfaces.as_ref().is_none_or(|known| known.contains(name))
    }

    /// Without a single `interface`, as in the guide's listings, the ports are simply not said yet.
    fn vlans_have_ports(&mut self) {
        let ft = self.config.ft.as_ref().map(|ft| (ft.vlan, Section::Ft, Id::FtGroup));
        if !self.ports.iter().any(PortLines::is_switched) {
            let vlans = self.config.vlans.iter().map(|vlan| (vlan.id, Section::Vlan(vlan.id), Id::Vlan));
            if let Some((_, section, id)) = vlans.chain(ft).next() {
                let place = self.tree.place(&section, id, "VLAN");
                let message = "no `interface` is configured: no VLAN is connected to this host";
                self.warning(
                    place,
                    message,
                    "add `interface NAME` with `switchport access vlan N` for each VLAN",
                );
            }
            return;
        }
        if let Some((vlan, section, id)) = ft
            && self.config.interface_of(vlan).is_none()
        {
            let place = self.tree.place(&section, id, "VLAN");
            let message =
                format!("no interface carries the FT VLAN {vlan}: the nodes could not hear each other");
            self.error(place, message, format!("add `switchport access vlan {vlan}` to an interface"));
        }
        for vlan in &self.config.vlans {
            if self.config.interface_of(vlan.id).is_none() {
                let place = self.tree.place(&Section::Vlan(vlan.id), Id::Vlan, "VLAN");
                let message = format!("no interface carries VLAN {}: it is not connected", vlan.id);
                self.warning(
                    place,
                    message,
                    format!("add `switchport access vlan {}` to an interface", vlan.id),
                );
            }
        }
    }

    fn serverfarms(&mut self) {
        for farm in &self.config.serverfarms {
            let section = Section::Serverfarm(farm.name.clone());
            probe::of_farm(self, farm, &section);
            let forward = farm.predictor == Predictor::Forward;
            if !forward && !farm.reals.iter().any(|real| real.admin == RealAdmin::InService) {
                let place = self.tree.place(&section, Id::Serverfarm, "NAME");
                let message = format!("server farm {} has no real in service", farm.name);
                self.warning(place, message, "add `real ADDRESS` with `inservice` below it");
            }
            self.reals_are_reachable(farm);
            limit::farm(self, farm);
        }
    }

    fn reals_are_reachable(&mut self, farm: &Serverfarm) {
        let vlans = &self.config.vlans;
        if vlans.iter().any(|vlan| !vlan.gateways.is_empty())
            || Family::ALL.iter().all(|&family| vlans.iter().all(|vlan| vlan.own(family).is_none()))
        {
            return;
        }
        for real in &farm.reals {
            let routed =
                vlans.iter().flat_map(|vlan| &vlan.routes).any(|route| route.network.contains(&real.address));
            let is_known = real.address != super::build::NOWHERE;
            if is_known && !routed && self.config.vlan_of(real.address).is_none() {
                let section = Section::of_real(farm, real);
                let place = self.tree.place(&section, Id::Real, "ADDRESS");
                let message = format!("no VLAN's network and no route leads to {}", real.address);
                self.warning(
                    place,
                    message,
                    "give the server VLAN an `ip address` in its network, or add a `route`",
                );
            }
        }
    }

    fn vservers(&mut self) {
        sticky::check(self);
        for vserver in &self.config.vservers {
            let section = Section::Vserver(vserver.name.clone());
            match &vserver.virtual_server {
                None => {
                    let place = self.tree.place(&section, Id::Vserver, "NAME");
                    let message =
                        format!("virtual server {} has no address: it stays out of service", vserver.name);
                    self.warning(place, message, "add `virtual ADDRESS tcp PORT`");
                }
                Some(to) => matching::virtual_server(self, vserver, &section, to),
            }
            self.vserver_names(vserver, &section);
            limit::vserver(self, vserver, &section);
            policy::vserver(self, vserver, &section);
            self.probes_have_a_port(vserver, &section);
            self.replication(vserver, &section);
        }
        matching::no_two_match_alike(self);
    }

    fn serverfarm(&self, name: &Name) -> Option<&'a Serverfarm> {
        self.farms.get(name).copied()
    }

    /// As [`Config::farms_of`].
    fn farms_of(&self, vserver: &'a Vserver) -> impl Iterator<Item = &'a Serverfarm> {
        self.config.farm_names_of(vserver).filter_map(|name| self.serverfarm(name))
    }

    fn vserver_names(&mut self, vserver: &Vserver, section: &Section) {
        match &vserver.serverfarm {
            None if !vserver.policies.is_empty() => {}
            None => {
                let place = self.tree.place(section, Id::Vserver, "NAME");
                let message =
                    format!("virtual server {} has no server farm: it stays out of service", vserver.name);
                self.warning(place, message, "add `serverfarm NAME` below it");
            }
            Some(name) if self.serverfarm(name).is_none() => {
                let place = self.tree.place(section, Id::VserverFarm, "NAME");
                let remedy = format!("add `serverfarm {name}` with its reals before this virtual server");
                self.error(place, format!("there is no server farm {name}"), remedy);
            }
            Some(_) => {}
        }
        if let Some(vlan) = vserver.vlan
            && !self.config.vlans.iter().any(|configured| configured.id == vlan)
        {
            let place = self.tree.place(section, Id::VserverVlan, "VLAN");
            self.error(
                place,
                format!("there is no client or server VLAN {vlan}"),
                format!("add `vlan {vlan} client`"),
            );
        }
    }

    /// Port of a check: the probe's, else the real's, else the virtual server's.
    fn probes_have_a_port(&mut self, vserver: &Vserver, section: &Section) {
        let config = self.config;
        let any_port = vserver.virtual_server.is_some_and(|to| to.port == 0);
        if any_port {
            config.farms_of(vserver).for_each(|farm| self.probes_of_farm_have_a_port(farm, section));
        }
    }

    fn probes_of_farm_have_a_port(&mut self, farm: &Serverfarm, section: &Section) {
        let config = self.config;
        if farm.reals.iter().all(|real| real.port.is_some()) {
            return;
        }
        let is_told = |probe: &Probe| probe.kind != ProbeKind::Tcp || probe.port.is_some();
        let of_farm = |probe: &&Probe| farm.probes.contains(&probe.name);
        if let Some(probe) = config.probes.iter().filter(of_farm).find(|probe| !is_told(probe)) {
            let place = self.tree.place(section, Id::Virtual, "PORT");
            let message = format!("tcp probe {} of farm {} has no port to connect to", probe.name, farm.name);
            self.warning(
                place,
                message,
                format!("add `port N` to `probe {} tcp`, or a port to each real", probe.name),
            );
        }
    }

    fn replication(&mut self, vserver: &Vserver, section: &Section) {
        let asked = [
            (vserver.replicate_connection, Id::ReplicateConnection),
            (vserver.replicate_sticky, Id::ReplicateSticky),
        ];
        for (_, id) in asked.into_iter().filter(|(on, _)| *on && self.config.ft.is_none()) {
            let place = self.tree.place(section, id, "replicate");
            self.warning(place, "there is no FT group to replicate to", "add `ft group N vlan M`");
        }
        let is_sticky = self.config.faces(vserver).any(|face| face.vserver.sticky.is_some());
        if vserver.replicate_sticky && !is_sticky {
            let place = self.tree.place(section, Id::ReplicateSticky, "replicate");
            self.warning(place, "there are no sticky entries to replicate", "add `sticky MINUTES`");
        }
    }

    fn ft(&mut self, ft: &FtGroup) {
        if let Some(vlan) = self.config.vlans.iter().find(|vlan| vlan.id == ft.vlan) {
            let first = self.tree.place(&Section::Vlan(vlan.id), Id::Vlan, "VLAN");
            let message = format!("VLAN {} is a client or server VLAN too, {}", ft.vlan, self.line(first));
            let place = self.tree.place(&Section::Ft, Id::FtGroup, "VLAN");
            self.error(place, message, "the FT VLAN is private to the two nodes: use a VLAN of its own");
        }
        let timer = |id: Id| {
            let said = self.tree.all(&Section::Ft, id).next_back();
            said.map(|statement| match statement.arg("MILLISECONDS").or(statement.arg("SECONDS")) {
                Some(arg) => arg.span,
                None => statement.span,
            })
        };
        let place = timer(Id::Failover).or_else(|| timer(Id::Heartbeat)).unwrap_or(Span::FILE);
        if let Err(refused) = lease(ft.heartbeat, ft.failover) {
            let smallest = refused.smallest.as_millis();
            let message = format!(
                "failover {} leaves no lease that outlasts two heartbeats of {}",
                milliseconds(ft.failover),
                milliseconds(ft.heartbeat)
            );
            let remedy = if smallest <= 65_535_000 {
                format!("at least `failover {}`, or a shorter heartbeat-time", failover_words(smallest))
            } else {
                "a shorter heartbeat-time".to_owned()
            };
            self.error(place, message, remedy);
        }
        if let Some(witness) = ft.witness.filter(|witness| address::is_link_local(witness.ip())) {
            let place = self.tree.place(&Section::Ft, Id::Witness, "ADDRESS");
            let message =
                format!("{} is link-local: nothing says on which link the witness is", witness.ip());
            self.error(place, message, "use a global address of that host");
        }
        if ft.witness.is_some() && ft.keys.sign.is_none() {
            let place = self.tree.place(&Section::Ft, Id::Witness, "ADDRESS");
            let message = "the witness believes only who has the group's key, and none is configured";
            self.error(
                place,
                message.to_owned(),
                "add `authentication key-string KEY`, on both boxes and on the witness",
            );
        }
        if ft.witness.is_some()
            && lease(ft.heartbeat, ft.failover).is_ok_and(|lease| lease.length > WITNESSED_MAX)
        {
            let message = format!(
                "failover {} makes a lease that is longer than a witness's grant, which lasts {} at most",
                milliseconds(ft.failover),
                milliseconds(WITNESSED_MAX)
            );
            self.error(place, message, "at most `failover 12`, or no witness");
        }
        if self.host.realtime == Some(false) && ft.failover < FAILOVER_MIN_WITHOUT_REALTIME {
            let message = format!(
                "failover {} needs real-time scheduling, which this host does not grant",
                milliseconds(ft.failover)
            );
            let least = FAILOVER_MIN_WITHOUT_REALTIME.as_millis();
            let remedy = format!("grant CAP_SYS_NICE or RLIMIT_RTPRIO, or at least `failover msec {least}`");
            self.error(place, message, remedy);
        }
    }

    fn limits(&mut self) {
        let Config { interfaces, vlans, natpools, statics, serverfarms, vservers, .. } = self.config;
        let reals: usize = serverfarms.iter().map(|farm| farm.reals.len()).sum();
        let routes: usize = vlans.iter().map(|vlan| vlan.routes.len() + vlan.gateways.len() + 2).sum();
        // One with too many is accused by itself.
        let count = |pool: &Natpool| pool.count().min(u128::from(limits::POOL_ADDRESSES_MAX));
        let pooled: usize =
            natpools.iter().map(|pool| usize::try_from(count(pool)).unwrap_or(usize::MAX)).sum();
        // With `nat virtual` each server of its networks is entered by itself.
        let translated: usize = statics.iter().map(|rule| rule.hosts.len()).sum::<usize>()
            + if statics.iter().any(|rule| rule.action == StaticAction::NatVirtual) { reals } else { 0 };
        let faces = || vservers.iter().flat_map(|vserver| self.config.faces(vserver));
        let backups = faces().filter(|face| face.vserver.backup.is_some()).count();
        let groups = faces().filter_map(|face| {
            let list = self.config.access_list(face.vserver.family(), face.policy?.client_group.as_ref()?)?;
            Some(list.lines.len())
        });
        let clients = vservers.iter().map(|vserver| vserver.clients.len() + 1).chain(groups).sum();
        for (count, limit, what) in [
            // A VLAN of a trunk has a veth, too.
            (interfaces.len() + 2 * self.config.vlan_ids().count(), limits::PORTS_MAX, "ports and VLANs"),
            (
                faces().count() + backups + self.config.owners.len(),
                limits::VSERVERS_MAX,
                "virtual servers, their policies, their backup farms and their owners",
            ),
            (
                vservers.len() + 2 * vlans.len() + pooled,
                limits::ADDRESSES_MAX,
                "alias, virtual and pool addresses",
            ),
            (
                natpools.len() + statics.len() + 1,
                limits::POOLS_MAX,
                "pools and `static` sections, the one that means none included",
            ),
            (translated, limits::STATICS_MAX, "hosts and networks of `static` sections, and their servers"),
            (clients, limits::CLIENTS_MAX, "networks of clients"),
            (reals, limits::REALS_MAX, "reals"),
            (
                self.config.standby_groups().map(|run| run.addresses().count().max(1)).sum(),
                limits::GROUPS_MAX,
                "HSRP groups, and global addresses of theirs",
            ),
            (
                self.config.routes.len() + 4 * self.config.router.len(),
                limits::ROUTES_MAX,
                "routes of the router",
            ),
            (routes, limits::ROUTES_MAX, "connected networks, routes and gateways"),
        ] {
            if u32::try_from(count).unwrap_or(u32::MAX) > limit {
                self.error(Span::FILE, format!("{count} {what}: more than {limit}"), "remove some");
            }
        }
    }
}

/// How hosts of `family` ask for an address.
const fn resolution(family: Family) -> &'static str {
    match family {
        Family::V4 => "ARP",
        Family::V6 => "neighbour discovery",
    }
}

fn milliseconds(time: std::time::Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// The arguments of `failover` for `milliseconds`, at least.
fn failover_words(milliseconds: u128) -> String {
    let milliseconds = milliseconds.max(30);
    if milliseconds > 65_535 {
        milliseconds.div_ceil(1000).to_string()
    } else {
        format!("msec {milliseconds}")
    }
}
