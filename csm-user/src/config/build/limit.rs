//! Rates of connections, the backup farm, and when it serves.

use super::{mask_bits, prefix_length};
use crate::config::grammar::Value;
use crate::config::parse::Statement;
use crate::model::{Advertise, Backup, ClientRateLimit, RateLimit, Threshold};

/// The farm in `BACKUP`, if there is one.
pub(super) fn backup(statement: &Statement) -> Option<Backup> {
    match &statement.arg("BACKUP")?.value {
        Value::Name(farm) => Some(Backup { farm: farm.clone(), sticky: statement.has("sticky") }),
        _ => None,
    }
}

/// When its network is told of.
pub(super) fn advertise(statement: &Statement) -> Advertise {
    if statement.has("active") { Advertise::Active } else { Advertise::Always }
}

/// The numbers of reals with which the farm is down and up, if there are any.
pub(super) fn threshold(statement: &Statement) -> Option<Threshold> {
    let outservice = statement.number("DOWN")?;
    Some(Threshold { outservice, inservice: statement.number("UP").unwrap_or(outservice) })
}

/// A rate, none under `no`; `None` if the statement lacks one.
pub(super) fn rate(statement: &Statement) -> Option<Option<RateLimit>> {
    if statement.negated {
        return Some(None);
    }
    let per_second = statement.number("RATE")?;
    let burst = if statement.arg("BURST").is_some() { statement.number("BURST")? } else { per_second };
    Some(Some(RateLimit { per_second, burst }))
}

/// As [`rate`], with the part of an address that makes a client.
pub(super) fn client_rate(statement: &Statement) -> Option<Option<ClientRateLimit>> {
    let Some(rate) = rate(statement)? else { return Some(None) };
    Some(Some(ClientRateLimit { rate, bits: mask_bits(statement)?, bits6: prefix_length(statement) }))
}
