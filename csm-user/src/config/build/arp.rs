//! Statements about neighbours, and variables.

use std::time::Duration;

use crate::config::command::Id;
use crate::config::grammar::Value;
use crate::config::parse::Statement;
use crate::model::{StaticArp, Variables, host_mac};

/// Applies `statement`: of two about one host on one VLAN the later counts. `None` if it lacks a word that it needs.
pub(super) fn apply(arps: &mut Vec<StaticArp>, statement: &Statement) -> Option<()> {
    let arp = of(statement)?;
    let at = arps.iter().position(|known| (known.address, known.vlan) == (arp.address, arp.vlan));
    match (at, statement.negated) {
        (Some(at), true) => drop(arps.remove(at)),
        (Some(at), false) => arps[at] = arp,
        (None, true) => {}
        (None, false) => arps.push(arp),
    }
    Some(())
}

/// Applies `statement` to the variables.
pub(super) fn variable(variables: &mut Variables, statement: &Statement) -> Option<()> {
    let default = Variables::default();
    match (statement.id, statement.negated) {
        (Id::GratuitousInterval, true) => variables.gratuitous = default.gratuitous,
        (Id::GratuitousInterval, false) => {
            variables.gratuitous = Duration::from_secs(statement.number("SECONDS")?);
        }
        (Id::AdvertiseInterval, true) => variables.advertised = default.advertised,
        (Id::AdvertiseInterval, false) => {
            variables.advertised = Duration::from_secs(statement.number("SECONDS")?);
        }
        (Id::ReplyOutOfService, true) => variables.reply_out_of_service = default.reply_out_of_service,
        (Id::ReplyOutOfService, false) => {
            variables.reply_out_of_service = statement.number::<u8>("ON")? == 1;
        }
        _ => return None,
    }
    Some(())
}

/// What `statement` says.
pub(in crate::config) fn of(statement: &Statement) -> Option<StaticArp> {
    let Value::Text(mac) = &statement.arg("MAC")?.value else { return None };
    let (address, vlan) = (statement.address("ADDRESS")?, statement.vlan()?);
    Some(StaticArp { address, mac: host_mac(mac)?, vlan })
}
