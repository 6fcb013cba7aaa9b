//! Commands of owners.

use super::{default, unless};
use crate::config::Noun;
use crate::config::command::{
    Command, Id,
    Mode::{Module, Owner},
    Print, Repeat,
};
use crate::config::grammar::Kind;
use crate::config::grammar::Piece::{Slot, Word};

pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::Owner,
        Module,
        &[Word("owner", "Whose virtual servers are"), Slot("NAME", Kind::Named(Noun::Owner), "Name")],
        "Enters the configuration of an owner, which virtual servers name by `owner`.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(Owner)
    .prints(Print::Owner(|owner| vec![format!("owner {}", owner.name)])),
    Command::new(
        Id::ContactInfo,
        Owner,
        &[Word("contact-info", "Whom to ask"), Slot("TEXT", Kind::Line, "To the end of the line")],
        "Notes whom to ask; `show … owner` says it.",
    )
    .restores(None)
    .prints(Print::Owner(|owner| owner.contact.iter().map(|text| format!("contact-info {text}")).collect())),
    Command::new(
        Id::BillingInfo,
        Owner,
        &[Word("billing-info", "Who pays"), Slot("TEXT", Kind::Line, "To the end of the line")],
        "Notes who pays; `show … owner` says it.",
    )
    .restores(None)
    .prints(Print::Owner(|owner| owner.billing.iter().map(|text| format!("billing-info {text}")).collect())),
    Command::new(
        Id::OwnerMaxConns,
        Owner,
        &[
            Word("maxconns", "Most connections at once"),
            Slot(
                "COUNT",
                Kind::Number(0, u32::MAX as u64),
                "Of all its virtual servers together, half-open ones included; 0: no limit",
            ),
        ],
        "Drops the first packets of further connections to any virtual server of this owner while all of them together have so many, \
         as `max-conns` of one does.",
    )
    .restores(Some(default::MAX_CONNS))
    .prints(Print::Owner(|owner| unless(default::MAX_CONNS, "maxconns", owner.max_conns.into()))),
];
