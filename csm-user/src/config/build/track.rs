//! `track ...` statements to what is tracked.

use std::time::Duration;

use super::super::command::Id;
use super::super::grammar::Value;
use super::super::parse::Statement;
use super::{number, put, seconds, time};
use crate::model::{TrackMode, TrackedFarm, TrackedGateway, TrackedGroup, TrackedVrrp, Tracking};

/// Applies `statement`; `None` if it lacks a word, or is none of tracking.
pub(super) fn apply(track: &mut Tracking, statement: &Statement) -> Option<()> {
    let no = statement.negated;
    match statement.id {
        Id::TrackGroup => put(&mut track.groups, group(statement)?, no),
        Id::TrackGateway => {
            let gateway = gateway(statement)?;
            replace(&mut track.gateways, gateway, no, |known| known.address == gateway.address);
        }
        Id::TrackVrrp => {
            let vrrp = TrackedVrrp {
                group: statement.number("GROUP")?,
                router: statement.address4("ADDRESS")?,
                version: statement.number("VERSION").unwrap_or(TrackedVrrp::VERSION),
            };
            let is_it = |known: &TrackedVrrp| (known.group, known.router) == (vrrp.group, vrrp.router);
            replace(&mut track.vrrp, vrrp, no, is_it);
        }
        Id::TrackFarm => {
            let minimum = statement.number("COUNT").unwrap_or(1);
            let farm = TrackedFarm { farm: statement.name()?.clone(), minimum };
            let name = farm.farm.clone();
            replace(&mut track.farms, farm, no, |known| known.farm == name);
        }
        Id::TrackInterface => match &statement.arg("NAME")?.value {
            Value::Text(name) => put(&mut track.interfaces, name.clone(), no),
            _ => return None,
        },
        Id::TrackMode if no || statement.has("any") => track.mode = TrackMode::Any,
        Id::TrackMode => track.mode = TrackMode::All,
        Id::TrackInterval => track.interval = time(statement, Tracking::INTERVAL.as_secs())?,
        Id::TrackRetries => track.retries = number(statement, "COUNT", Tracking::RETRIES.into())?,
        Id::TrackHoldDown => track.hold_down = seconds(statement, Tracking::HOLD_DOWN.as_secs())?,
        _ => return None,
    }
    Some(())
}

/// Puts `item` in the place of the one that it is, or removes that.
fn replace<T>(list: &mut Vec<T>, item: T, remove: bool, is_it: impl Fn(&T) -> bool) {
    match list.iter().position(&is_it) {
        Some(at) if remove => drop(list.remove(at)),
        Some(at) => list[at] = item,
        None if remove => {}
        None => list.push(item),
    }
}

fn gateway(statement: &Statement) -> Option<TrackedGateway> {
    let milliseconds = statement.number("MILLISECONDS").map(Duration::from_millis);
    let interval = milliseconds.or_else(|| statement.number("SECONDS").map(Duration::from_secs));
    Some(TrackedGateway {
        address: statement.address("ADDRESS")?,
        icmp: statement.has("icmp"),
        interval,
        retries: statement.number("COUNT"),
    })
}

/// The group that `track group` names.
pub(in crate::config) fn group(statement: &Statement) -> Option<TrackedGroup> {
    let text = match statement.arg("TEXT").map(|arg| &arg.value) {
        // The default is left out when it is printed.
        Some(Value::Text(text)) if text != "cisco" => Some(text.clone()),
        _ => None,
    };
    Some(TrackedGroup {
        group: statement.number("GROUP")?,
        router: statement.address("ADDRESS"),
        vlan: statement.vlan(),
        version: statement.number("VERSION").unwrap_or(1),
        authentication: text,
    })
}
