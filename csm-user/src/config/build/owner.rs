//! Statements about owners.

use super::{entry, number};
use crate::config::command::Id;
use crate::config::grammar::Value;
use crate::config::parse::Statement;
use crate::config::table::default;
use crate::model::{Name, Owner};

/// Applies `statement` to the owner `name`.
pub(super) fn apply(owners: &mut Vec<Owner>, name: &Name, statement: &Statement) -> Option<()> {
    let no = statement.negated;
    if no && statement.id == Id::Owner {
        owners.retain(|owner| owner.name != *name);
        return Some(());
    }
    let owner = entry(owners, |owner| owner.name == *name, || Owner::new(name.clone()));
    match statement.id {
        Id::Owner => {}
        Id::ContactInfo => owner.contact = if no { None } else { Some(text(statement)?) },
        Id::BillingInfo => owner.billing = if no { None } else { Some(text(statement)?) },
        Id::OwnerMaxConns => owner.max_conns = number(statement, "COUNT", default::MAX_CONNS)?,
        _ => return None,
    }
    Some(())
}

fn text(statement: &Statement) -> Option<String> {
    match &statement.arg("TEXT")?.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}
