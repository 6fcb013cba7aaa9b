//! Rates of connections, and the backup farm.

use super::{mask_bits, prefix_length};
use crate::config::grammar::Value;
use crate::config::parse::Statement;
use crate::model::{Backup, ClientRateLimit, RateLimit};

/// The farm in `BACKUP`, if there is one.
pub(super) fn backup(statement: &Statement) -> Option<Backup> {
    match &statement.arg("BACKUP")?.value {
        Value::Name(farm) => Some(Backup { farm: farm.clone(), sticky: statement.has("sticky") }),
        _ => None,
    }
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
