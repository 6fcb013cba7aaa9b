//! Lines of the fault-tolerance group.

use std::net::SocketAddr;
use std::time::Duration;

use super::{number, time, track};
use crate::config::command::Id;
use crate::config::grammar::Value;
use crate::config::parse::Statement;
use crate::config::table::default;
use crate::model::{FtGroup, FtKeys, Secret, Tracking, VlanId};

/// Applies `ft group` or a line under it; `None` if it lacks a word.
pub(super) fn apply(group: &mut Option<FtGroup>, statement: &Statement) -> Option<()> {
    let no = statement.negated;
    if statement.id == Id::FtGroup {
        if no {
            *group = None;
        } else if group.is_none() {
            *group = Some(new_ft(statement.number("GROUP")?, statement.vlan()?));
        }
        return Some(());
    }
    let ft = group.as_mut()?;
    match statement.id {
        Id::Priority => {
            ft.priority = number(statement, "PRIORITY", default::PRIORITY)?;
            ft.alt_priority = if no { None } else { statement.number("PEER-PRIORITY") };
        }
        Id::Preempt => ft.preempt = !no,
        Id::SyncAuto => ft.sync_auto = !no,
        Id::TakeoverSynchronized => ft.takeover_synchronized = !no,
        Id::Witness => ft.witness = if no { None } else { Some(witness(statement)?) },
        Id::AuthKey => ft.keys.sign = key(statement),
        Id::AuthAccept => ft.keys.accept = key(statement),
        Id::Heartbeat => ft.heartbeat = time(statement, default::HEARTBEAT)?,
        Id::Failover => ft.failover = time(statement, default::FAILOVER)?,
        _ => return track::apply(&mut ft.track, statement),
    }
    Some(())
}

/// The key of a statement, of which `no` has none.
fn key(statement: &Statement) -> Option<Secret> {
    let slots = ["KEY", "HIDDEN"].into_iter().filter(|_| !statement.negated);
    slots.filter_map(|slot| statement.arg(slot)).find_map(|arg| match &arg.value {
        Value::Key(secret) => Some(secret.clone()),
        _ => None,
    })
}

fn witness(statement: &Statement) -> Option<SocketAddr> {
    let port = statement.number("PORT").or(u16::try_from(default::WITNESS_PORT).ok())?;
    Some(SocketAddr::new(statement.address("ADDRESS")?, port))
}

fn new_ft(group: u8, vlan: VlanId) -> FtGroup {
    FtGroup {
        group,
        vlan,
        priority: u8::try_from(default::PRIORITY).unwrap_or(u8::MAX),
        alt_priority: None,
        preempt: false,
        sync_auto: false,
        takeover_synchronized: false,
        heartbeat: Duration::from_secs(default::HEARTBEAT),
        failover: Duration::from_secs(default::FAILOVER),
        keys: FtKeys::default(),
        witness: None,
        track: Tracking::default(),
    }
}
