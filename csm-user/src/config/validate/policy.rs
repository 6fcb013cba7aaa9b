//! Policies: their farms, their clients, and who names them.

use super::super::build::family_of;
use super::super::command::Id;
use super::super::grammar::Value;
use super::super::parse::Section;
use super::{Checker, family, limit};
use crate::model::{AccessList, Family, Name, Policy, Predictor, Serverfarm, Virtual, Vserver};

/// Checks what does not depend on a virtual server.
pub(super) fn check(checker: &mut Checker<'_>) {
    let config = checker.config;
    for list in &config.access_lists {
        lines_are_of_one_family(checker, list);
    }
    for policy in &config.policies {
        let section = Section::Policy(policy.name.clone());
        match &policy.serverfarm {
            None => {
                let place = checker.tree.place(&section, Id::Policy, "NAME");
                let message = format!("policy {} has no server farm: it refuses its clients", policy.name);
                checker.warning(place, message, "add `serverfarm NAME` below it, unless that is meant");
            }
            Some(name) if config.serverfarm(name).is_none() => {
                let place = checker.tree.place(&section, Id::PolicyFarm, "NAME");
                let remedy = format!("add `serverfarm {name}` with its reals before this policy");
                checker.error(place, format!("there is no server farm {name}"), remedy);
            }
            Some(_) => {}
        }
        let Some(group) = &policy.client_group else { continue };
        if Family::ALL.iter().all(|&family| config.access_list(family, group).is_none()) {
            let place = checker.tree.place(&section, Id::ClientGroup, "NAME");
            let message = format!("there is no access list {group}: policy {} is for nobody", policy.name);
            checker.error(place, message, remedy_of_list(group, Family::V4));
        }
    }
}

fn remedy_of_list(name: &Name, family: Family) -> String {
    let numbered = AccessList { name: name.clone(), family, lines: Vec::new() }.is_numbered();
    match family {
        _ if numbered => format!("add `access-list {name} permit ADDRESS WILDCARD`"),
        Family::V4 => format!("add `ip access-list standard {name}` with `permit ADDRESS WILDCARD`"),
        Family::V6 => format!("add `ipv6 access-list {name}` with `permit ADDRESS/LENGTH`"),
    }
}

fn lines_are_of_one_family(checker: &mut Checker<'_>, list: &AccessList) {
    let section = Section::AccessList(list.family, list.name.clone());
    let other = |statement: &&super::super::parse::Statement| {
        family_of(statement).is_some_and(|family| family != list.family)
    };
    if let Some(line) = checker.tree.all(&section, Id::ListLine).find(other) {
        let message = format!("access list {} is of {} addresses", list.name, list.family);
        checker.error(line.span, message, "write the line in a list of the other family");
    }
}

/// Checks the policies that `vserver` names.
pub(super) fn vserver(checker: &mut Checker<'_>, vserver: &Vserver, section: &Section) {
    if vserver.policies.is_empty() {
        return;
    }
    let place = checker.tree.place(section, Id::SlbPolicy, "NAME");
    if let Some(word) = vserver.virtual_server.and_then(|to| to.service.word()) {
        let message =
            format!("`service {word}` goes with one farm: data connections could be those of another policy");
        checker.error(place, message, format!("leave `service {word}` or `slb-policy` out"));
    }
    if vserver.sticky.is_some_and(|sticky| sticky.group != 0) {
        let place = checker.tree.place(section, Id::Sticky, "GROUP");
        let message =
            "policies have farms of their own: a shared sticky group would send clients to another's";
        checker.error(place, message, "leave `group` out: each policy keeps its own clients");
    }
    let forwards = |farm: &Serverfarm| farm.predictor == Predictor::Forward;
    let farms = || checker.farms_of(vserver);
    let is_mixed = farms().any(forwards) && !farms().all(forwards);
    let near = vserver.virtual_server.filter(Virtual::is_address);
    if is_mixed && near.is_some_and(|to| checker.config.vlan_of(to.address()).is_some()) {
        let message = "clients of a farm with `predictor forward` would be forwarded to an address that this balancer answers for";
        checker.error(place, message, "give all its farms reals, or none");
    }
    let mut for_all: Option<&Name> = None;
    for name in &vserver.policies {
        let place = checker.tree.place_of(section, Id::SlbPolicy, "NAME", &Value::Name(name.clone()));
        let Some(policy) = checker.config.policy(name) else {
            let remedy = format!("add `policy {name}` before this virtual server");
            checker.error(place, format!("there is no policy {name}"), remedy);
            continue;
        };
        if let Some(before) = for_all {
            let message = format!("policy {before} before it is for all clients: {name} never gets one");
            checker.warning(place, message, format!("put `slb-policy {before}` last"));
        } else if policy.client_group.is_none() {
            for_all = Some(name);
        }
        serves(checker, vserver, policy, section);
    }
}

/// Its clients and farms are of the virtual server's family.
fn serves(checker: &mut Checker<'_>, vserver: &Vserver, policy: &Policy, section: &Section) {
    if vserver.virtual_server.is_none() {
        return;
    }
    let place = checker.tree.place_of(section, Id::SlbPolicy, "NAME", &Value::Name(policy.name.clone()));
    let of = vserver.family();
    let list =
        |family| policy.client_group.as_ref().and_then(|name| checker.config.access_list(family, name));
    let elsewhere = Family::ALL.iter().any(|&family| list(family).is_some());
    if let Some(name) = policy.client_group.as_ref().filter(|_| list(of).is_none() && elsewhere) {
        let message =
            format!("virtual server {} is {of}, the clients of policy {} are not", vserver.name, policy.name);
        checker.error(place, message, remedy_of_list(name, of));
    }
    let farm = policy.serverfarm.as_ref().and_then(|name| checker.serverfarm(name));
    if let Some(other) = farm.and_then(|farm| family::family_of(checker, farm)).filter(|other| *other != of) {
        let message =
            format!("virtual server {} is {of}, the farm of policy {} is {other}", vserver.name, policy.name);
        checker.error(place, message, family::REMEDY);
    }
    if let Some(backup) = &policy.backup {
        let met = Vserver { serverfarm: policy.serverfarm.clone(), ..vserver.clone() };
        limit::backup_farm(checker, &met, &Section::Policy(policy.name.clone()), Id::PolicyFarm, backup);
    }
}
