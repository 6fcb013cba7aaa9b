//! Statements about stickiness.

use super::{entry, mask_bits, prefix_length, put};
use crate::config::command::Id;
use crate::config::parse::Statement;
use crate::model::{StaticSticky, Sticky, StickyAddress, StickyGroup};

/// Applies `statement` to group `number`.
pub(super) fn apply(groups: &mut Vec<StickyGroup>, number: u8, statement: &Statement) -> Option<()> {
    let no = statement.negated;
    if no && statement.id == Id::StickyGroup {
        groups.retain(|group| group.number != number);
        return Some(());
    }
    let group = entry(groups, |group| group.number == number, || StickyGroup::new(number));
    match statement.id {
        Id::StickyGroup => {
            (group.bits, group.bits6) = (mask_bits(statement)?, prefix_length(statement));
            group.address = address(statement);
            group.minutes = match statement.arg("MINUTES") {
                Some(_) => statement.number("MINUTES")?,
                None => StickyGroup::MINUTES,
            };
        }
        Id::StaticSticky => put(&mut group.statics, fixed(statement)?, no),
        _ => return None,
    }
    Some(())
}

/// `sticky` of a virtual server.
pub(super) fn rule(statement: &Statement) -> Option<Sticky> {
    let group = if statement.has("group") { statement.number("GROUP")? } else { 0 };
    Some(Sticky {
        minutes: statement.number("MINUTES")?,
        group,
        bits: mask_bits(statement)?,
        bits6: prefix_length(statement),
        address: address(statement),
    })
}

/// The group of `reverse-sticky`; `None`: none any more.
pub(super) fn reverse(statement: &Statement) -> Option<Option<u8>> {
    if statement.negated { Some(None) } else { statement.number("GROUP").map(Some) }
}

fn fixed(statement: &Statement) -> Option<StaticSticky> {
    let port = match statement.arg("PORT") {
        Some(_) => Some(statement.number("PORT")?),
        None => None,
    };
    let (client, real) = (statement.address("ADDRESS")?, statement.address("REAL")?);
    let destination = match statement.arg("DESTINATION") {
        Some(_) => Some(statement.address("DESTINATION")?),
        None => None,
    };
    let address = if destination.is_some() { StickyAddress::Both } else { address(statement) };
    Some(StaticSticky { address, client, destination, real, port })
}

fn address(statement: &Statement) -> StickyAddress {
    match () {
        () if statement.has("both") => StickyAddress::Both,
        () if statement.has("destination") => StickyAddress::Destination,
        () => StickyAddress::Source,
    }
}
