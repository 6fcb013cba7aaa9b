//! Statements about reals: those of the module, and those of a farm.

use std::net::{IpAddr, Ipv4Addr};

use super::{entry, number, put};
use crate::config::command::Id;
use crate::config::parse::{RealOf, Statement};
use crate::config::table::default;
use crate::model::{BackupReal, Config, ConnectionLimit, Failaction, Name, NamedReal, Real, RealAdmin};

/// Address of a farm's real whose name has none: the check refuses it.
pub(in crate::config) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Applies `statement` to the module's real `name`.
pub(super) fn named(reals: &mut Vec<NamedReal>, name: &Name, statement: &Statement) -> Option<()> {
    let no = statement.negated;
    if no && statement.id == Id::NamedReal {
        reals.retain(|real| real.name != *name);
        return Some(());
    }
    let real = entry(reals, |real| real.name == *name, || NamedReal { name: name.clone(), address: None });
    match statement.id {
        Id::NamedReal => {}
        Id::NamedAddress => real.address = if no { None } else { Some(statement.address("ADDRESS")?) },
        _ => return None,
    }
    Some(())
}

/// Applies `statement` to the real `of` of a farm that has `reals`; `None` if it lacks a word that it needs.
pub(super) fn apply(
    reals: &mut Vec<Real>,
    of: &RealOf,
    port: Option<u16>,
    statement: &Statement,
) -> Option<()> {
    let no = statement.negated;
    let (address, name) = match of {
        RealOf::Address(address) => (*address, None),
        RealOf::Name(name) => (NOWHERE, Some(name.clone())),
    };
    let is_it = |real: &Real| real.address == address && real.name == name && real.port == port;
    if no && statement.id == Id::Real {
        reals.retain(|real| !is_it(real));
        return Some(());
    }
    let weight = u8::try_from(default::WEIGHT).ok()?;
    let new = || Real {
        address,
        port,
        weight,
        limit: ConnectionLimit::default(),
        admin: RealAdmin::OutOfService,
        probes: Vec::new(),
        name: name.clone(),
        backup: None,
    };
    let real = entry(reals, is_it, new);
    match statement.id {
        Id::Real => {}
        Id::Weight => real.weight = number(statement, "WEIGHT", default::WEIGHT)?,
        Id::MaxConns => real.limit.max = if no { None } else { Some(statement.number("COUNT")?) },
        Id::MinConns => real.limit.min = if no { None } else { Some(statement.number("COUNT")?) },
        Id::RealProbe => put(&mut real.probes, statement.name()?.clone(), no),
        Id::RealInservice if no => real.admin = RealAdmin::OutOfService,
        Id::RealInservice if statement.has("standby") => real.admin = RealAdmin::Standby,
        Id::RealInservice => real.admin = RealAdmin::InService,
        Id::BackupReal => real.backup = if no { None } else { Some(backup(statement)?) },
        _ => return None,
    }
    Some(())
}

/// The real that `statement` names to stand in.
fn backup(statement: &Statement) -> Option<BackupReal> {
    let name = statement.name().cloned();
    let address = if name.is_some() { NOWHERE } else { statement.address("ADDRESS")? };
    let port = if statement.arg("PORT").is_some() { Some(statement.number("PORT")?) } else { None };
    Some(BackupReal { address, port, name })
}

/// What a farm's `statement` has done with the connections of failed reals.
pub(super) fn failaction(statement: &Statement) -> Option<Failaction> {
    let action = if statement.has("reassign") { Failaction::Reassign } else { Failaction::Purge };
    Some(action).filter(|_| !statement.negated)
}

/// Gives the reals of the farms that have a name the address that it stands for.
pub(super) fn resolve(config: &mut Config) {
    let Config { named_reals, serverfarms, .. } = config;
    for real in serverfarms.iter_mut().flat_map(|farm| &mut farm.reals) {
        let named = |name: &Name| {
            let known = named_reals.iter().find(|known| known.name == *name);
            known.and_then(|known| known.address).unwrap_or(NOWHERE)
        };
        if let Some(name) = &real.name {
            real.address = named(name);
        }
        if let Some(BackupReal { address, name: Some(name), .. }) = &mut real.backup {
            *address = named(name);
        }
    }
}
