//! What is tracked, against the VLANs, the host and the FT group.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::build;
use super::super::command::Id;
use super::super::grammar::Value;
use super::super::parse::{Section, Statement};
use super::super::token::Span;
use super::Checker;
use super::address::is_link_local;
use crate::model::{Family, FtGroup, RealAdmin, TrackedGroup};

/// Most things that an FT group can track.
const TRACKED_MAX: usize = 32;

/// Checks all of it.
pub(super) fn check(checker: &mut Checker<'_>, ft: &FtGroup) {
    let track = &ft.track;
    if track.is_empty() {
        return;
    }
    groups(checker, ft);
    gateways(checker, ft);
    for name in &track.interfaces {
        let known = checker.has_interface(name);
        if !known {
            let place = place(checker, Id::TrackInterface, "NAME", &Value::Text(name.clone()));
            checker.error(
                place,
                format!("this host has no interface `{name}`"),
                "name an interface of `ip link`",
            );
        }
    }
    vrrp(checker, ft);
    farms(checker, ft);
    let count = track.count();
    if count > TRACKED_MAX {
        checker.error(
            Span::FILE,
            format!("{count} things are tracked: more than {TRACKED_MAX}"),
            "track fewer",
        );
    }
    if !ft.preempt {
        let first = [Id::TrackGroup, Id::TrackVrrp, Id::TrackGateway, Id::TrackInterface, Id::TrackFarm]
            .into_iter()
            .find_map(|id| checker.tree.all(&Section::Ft, id).next().map(|statement| statement.span));
        let message = "tracking without `preempt`: the role stays where it is whatever is down";
        checker.warning(first.unwrap_or(Span::FILE), message, "add `preempt`, on both nodes");
    }
}

fn groups(checker: &mut Checker<'_>, ft: &FtGroup) {
    let config = checker.config;
    for tracked in &ft.track.groups {
        let router = tracked.router;
        let lines = checker.tree.all(&Section::Ft, Id::TrackGroup);
        let Some(line) = lines.into_iter().find(|line| build::track::group(line).as_ref() == Some(tracked))
        else {
            continue;
        };
        let (at, number) = (line.place("ADDRESS"), line.place("GROUP"));
        let Some(router) = router else {
            own_group(checker, tracked, number);
            continue;
        };
        let heard = config.vlan_of_tracked(tracked, router);
        let is_heard = heard.is_some_and(|vlan| config.interface_of(vlan.id).is_some());
        match Family::of(router) {
            Family::V6 => group_of_link(checker, tracked, (router, is_heard), line),
            Family::V4 if tracked.vlan.is_some() => {
                checker.error(
                    line.place("VLAN"),
                    "an IPv4 router's network says its VLAN",
                    "leave `vlan` out",
                );
            }
            Family::V4 if !is_heard => {
                let message = format!("{router} is in no connected VLAN's network: its HSRP is not heard");
                let remedy =
                    "name a router in the network of a VLAN that has an `ip address` and an interface";
                checker.error(at, message, remedy);
            }
            Family::V4 => {}
        }
        if tracked.version == 1 && tracked.group > 255 {
            checker.error(number, "groups of version 1 are 0-255", "add `version 2`");
        }
        let same = |other: &&TrackedGroup| {
            (other.group, other.router, other.vlan) == (tracked.group, Some(router), tracked.vlan)
        };
        if ft.track.groups.iter().filter(same).count() > 1 {
            checker.error(
                at,
                format!("group {} with router {router} is tracked twice", tracked.group),
                "keep one line",
            );
        }
    }
}

/// A group of IPv6 that `router` speaks, said by `line`: its hellos come from an address of the link, which says no VLAN.
fn group_of_link(
    checker: &mut Checker<'_>,
    tracked: &TrackedGroup,
    (router, is_heard): (IpAddr, bool),
    line: &Statement,
) {
    let (at, number) = (line.place("ADDRESS"), line.place("GROUP"));
    if !is_link_local(router) {
        let remedy = "use that router's address of the link, and its VLAN: `router fe80::... vlan N`";
        checker.error(
            at,
            format!("HSRP of IPv6 does not come from {router}, but from an address of the link"),
            remedy,
        );
    } else if tracked.vlan.is_none() {
        let message = format!("{router} is link-local: nothing says on which VLAN it is");
        checker.error(at, message, format!("add it: `router {router} vlan N`"));
    } else if !is_heard {
        let message = "HSRP of IPv6 is not heard on that VLAN";
        checker.error(line.place("VLAN"), message, "name a VLAN that has an `ipv6 address` and an interface");
    }
    if tracked.version == 1 {
        checker.error(number, "version 1 has no groups of IPv6", "add `version 2`");
    }
}

/// A group that this host speaks for itself.
fn own_group(checker: &mut Checker<'_>, tracked: &TrackedGroup, place: Span) {
    let group = tracked.group;
    let groups = checker.config.standby_groups().filter(|run| run.group.number == group);
    let interfaces: BTreeSet<_> = groups.map(|run| &run.interface.name).collect();
    if interfaces.len() != 1 {
        let message = format!("this host speaks for no HSRP group {group}, or on two interfaces");
        let remedy = "add `standby N ip ADDRESS` under an `interface`, or `router ADDRESS` with the own address of the router that should be active while this node is";
        checker.error(place, message, remedy);
    }
}

fn vrrp(checker: &mut Checker<'_>, ft: &FtGroup) {
    let config = checker.config;
    for router in ft.track.vrrp.iter().map(|tracked| tracked.router) {
        if config.vlan_of(router).and_then(|vlan| config.interface_of(vlan.id)).is_none() {
            let place = place(checker, Id::TrackVrrp, "ADDRESS", &Value::Address(router.into()));
            let message = format!("{router} is in no connected VLAN's network: its VRRP is not heard");
            let remedy = "name a router in the network of a VLAN that has an `ip address` and an interface";
            checker.error(place, message, remedy);
        }
    }
}

fn farms(checker: &mut Checker<'_>, ft: &FtGroup) {
    let config = checker.config;
    for tracked in &ft.track.farms {
        let place = place(checker, Id::TrackFarm, "NAME", &Value::Name(tracked.farm.clone()));
        let Some(farm) = config.serverfarm(&tracked.farm) else {
            let remedy = format!("add `serverfarm {}`, or track another", tracked.farm);
            checker.error(place, format!("there is no server farm {}", tracked.farm), remedy);
            continue;
        };
        let reals = farm.reals.iter().filter(|real| real.admin != RealAdmin::OutOfService).count();
        if reals < usize::from(tracked.minimum) {
            let message = format!(
                "server farm {} has {reals} reals in service, fewer than {}: this node is never eligible",
                tracked.farm, tracked.minimum
            );
            checker.warning(place, message, "lower `minimum`, or add reals");
        }
    }
}

fn gateways(checker: &mut Checker<'_>, ft: &FtGroup) {
    let config = checker.config;
    for gateway in ft.track.gateways.iter().map(|gateway| gateway.address) {
        let place = place(checker, Id::TrackGateway, "ADDRESS", &Value::Address(gateway));
        if is_link_local(gateway) {
            let message =
                format!("{gateway} is link-local: nothing says on which VLAN it is, so it cannot be asked");
            let remedy = "track a global address of that router, in the network of a client or server VLAN";
            checker.error(place, message, remedy);
            continue;
        }
        let Some(vlan) = config.vlan_of(gateway) else {
            let remedy =
                "track a router in the network of a client or server VLAN that has an address of its family";
            checker.error(place, format!("{gateway} is in no VLAN's network: it cannot be asked"), remedy);
            continue;
        };
        let family = Family::of(gateway);
        let of_vlan = [vlan.own(family), vlan.peer(family), vlan.alias(family)].into_iter().flatten();
        let virtual_servers = config.vservers.iter().filter_map(|vserver| vserver.virtual_server);
        let of_pair = of_vlan.map(|net| net.addr()).chain(virtual_servers.map(|to| to.address()));
        if of_pair.into_iter().any(|own| own == gateway) {
            let message = format!("{gateway} is an address of this pair: it says nothing about the network");
            checker.error(place, message, "track a router");
        } else if config.interface_of(vlan.id).is_none() {
            let message = format!("no interface carries VLAN {}: {gateway} cannot be asked", vlan.id);
            checker.error(
                place,
                message,
                format!("add `switchport access vlan {}` to an interface", vlan.id),
            );
        }
    }
}

fn place(checker: &Checker<'_>, id: Id, slot: &str, value: &Value) -> Span {
    checker.tree.place_of(&Section::Ft, id, slot, value)
}
