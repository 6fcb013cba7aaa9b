//! `track ...` statements to what is tracked.

use super::super::command::Id;
use super::super::grammar::Value;
use super::super::parse::Statement;
use super::{number, put, seconds, time};
use crate::model::{TrackMode, TrackedGroup, Tracking};

/// Applies `statement`; `None` if it lacks a word, or is none of tracking.
pub(super) fn apply(track: &mut Tracking, statement: &Statement) -> Option<()> {
    let no = statement.negated;
    match statement.id {
        Id::TrackGroup => put(&mut track.groups, group(statement)?, no),
        Id::TrackGateway => put(&mut track.gateways, statement.address4("ADDRESS")?, no),
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

/// The group that `track group` names.
pub(in crate::config) fn group(statement: &Statement) -> Option<TrackedGroup> {
    let text = match statement.arg("TEXT").map(|arg| &arg.value) {
        // The default is left out when it is printed.
        Some(Value::Text(text)) if text != "cisco" => Some(text.clone()),
        _ => None,
    };
    Some(TrackedGroup {
        group: statement.number("GROUP")?,
        router: statement.address4("ADDRESS"),
        version: statement.number("VERSION").unwrap_or(1),
        authentication: text,
    })
}
