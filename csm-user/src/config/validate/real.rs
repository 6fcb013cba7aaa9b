//! Reals by name: each has an address, and no farm has one twice. Reals that stand in for others.

use std::collections::HashSet;
use std::net::IpAddr;

use super::Checker;
use crate::config::build::NOWHERE;
use crate::config::command::Id;
use crate::config::parse::Section;
use crate::model::{BackupReal, Failaction, Protocol, RealAdmin, Serverfarm};

pub(super) fn check(checker: &mut Checker<'_>) {
    let config = checker.config;
    for real in &config.named_reals {
        let place = checker.tree.place(&Section::NamedReal(real.name.clone()), Id::NamedReal, "NAME");
        if real.name.as_str().parse::<IpAddr>().is_ok() {
            let message = format!("{} is an address, and no name", real.name);
            checker.error(place, message, "a real by its address stands in a `serverfarm`");
        } else if real.address.is_none() {
            let message = format!("real {} has no address: no farm can have it yet", real.name);
            checker.warning(place, message, "add `address ADDRESS` below it");
        }
    }
    for farm in &config.serverfarms {
        let mut known = HashSet::new();
        for real in &farm.reals {
            let section = Section::of_real(farm, real);
            if let Some(name) = real.name.as_ref().filter(|_| real.address == NOWHERE) {
                let place = checker.tree.place(&section, Id::Real, "NAME");
                let (message, remedy) = match config.named_reals.iter().any(|known| known.name == *name) {
                    true => (
                        format!("real {name} has no address"),
                        format!("add `address ADDRESS` below `real {name}`"),
                    ),
                    false => (
                        format!("there is no real {name}"),
                        format!("add `real {name}` with its `address` to the module"),
                    ),
                };
                checker.error(place, message, remedy);
            } else if !known.insert((real.address, real.port)) {
                let place = checker.tree.place(&section, Id::Real, "real");
                let message = format!("{} is in farm {} already", real.address, farm.name);
                checker.error(place, message, "keep one of the two");
            }
            if let Some(backup) = &real.backup {
                stand_in(checker, farm, &section, (real.address, real.port), backup);
            }
        }
        failaction(checker, farm);
    }
}

/// The real that is to stand in for `own`, configured in `section`, is another of the farm.
fn stand_in(
    checker: &mut Checker<'_>,
    farm: &Serverfarm,
    section: &Section,
    own: (IpAddr, Option<u16>),
    backup: &BackupReal,
) {
    let place = checker.tree.place(section, Id::BackupReal, "real");
    let port = backup.port.map(|port| format!(" {port}")).unwrap_or_default();
    let called = match &backup.name {
        Some(name) => format!("name {name}{port}"),
        None => format!("{}{port}", backup.address),
    };
    let meant = (backup.address, backup.port);
    let found = farm.reals.iter().find(|real| (real.address, real.port) == meant);
    match found.filter(|real| real.address != NOWHERE) {
        None => {
            let message = format!("farm {} has no real {called}", farm.name);
            let remedy = format!("add `real {called}` with `inservice standby` to the farm");
            checker.error(place, message, remedy);
        }
        Some(_) if meant == own => {
            checker.error(place, "a real cannot stand in for itself", "name another real of the farm");
        }
        Some(real) if real.admin == RealAdmin::InService => {
            let message = format!("real {called} takes connections all the time");
            let remedy = format!("write `inservice standby` below `real {called}`");
            checker.warning(place, message, remedy);
        }
        Some(_) => {}
    }
}

/// TCP cannot go on at another server.
fn failaction(checker: &mut Checker<'_>, farm: &Serverfarm) {
    if farm.failaction != Some(Failaction::Reassign) || !farm.nat_server {
        return;
    }
    let config = checker.config;
    let tcp = config.vservers.iter().any(|vserver| {
        let protocol = vserver.virtual_server.map(|server| server.protocol);
        matches!(protocol, Some(Protocol::TCP | Protocol::Any))
            && config.farm_names_of(vserver).any(|of| *of == farm.name)
    });
    if tcp {
        let section = Section::Serverfarm(farm.name.clone());
        let place = checker.tree.place(&section, Id::Failaction, "reassign");
        let message = "with `nat server` connections of TCP cannot go on at another real: they are reset, as by `purge`";
        checker.warning(place, message, "use `no nat server`, or `failaction purge`");
    }
}
