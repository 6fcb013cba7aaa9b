//! Commands of server farms and their reals.

use super::{SECONDS, default, unless};
use crate::config::command::{
    Command, Effect, Id,
    Mode::{Module, Real, Serverfarm},
    Print, Repeat,
};
use crate::config::grammar::Kind::{self, Host, Number};
use crate::config::grammar::Piece::{Optional, Rest, Slot, Word};
use crate::model::RealAdmin;

pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::Serverfarm,
        Module,
        &[Word("serverfarm", "A group of real servers"), Slot("NAME", Kind::Name, "Name")],
        "Enters the configuration of a server farm.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(Serverfarm)
    .prints(Print::Serverfarm(|farm| vec![format!("serverfarm {}", farm.name)])),
    Command::inert(
        Serverfarm,
        &[Word("nat", "Translation"), Word("server", "Of the virtual address to the real's")],
        Effect::Silent,
    )
    .no(Effect::Refused {
        why: "dispatch mode comes later",
        remedy: "use `nat server`; the real needs no address of the virtual server",
    })
    .prints(Print::Serverfarm(|_| vec!["nat server".to_owned()])),
    Command::refused(
        Serverfarm,
        &[Word("nat", ""), Word("client", "Of the client's address"), Rest],
        "client NAT comes later",
        "make the alias of the server VLAN the servers' default gateway, and use `no nat client`",
    )
    .prints(Print::Serverfarm(|_| vec!["no nat client".to_owned()])),
    Command::new(
        Id::FarmProbe,
        Serverfarm,
        &[Word("probe", "Check the reals"), Slot("NAME", Kind::Name, "A probe of this configuration")],
        "Checks each real of the farm; of several probes all must succeed.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Serverfarm(|farm| farm.probes.iter().map(|name| format!("probe {name}")).collect())),
    Command::new(
        Id::Real,
        Serverfarm,
        &[
            Word("real", "A real server"),
            Slot("ADDRESS", Host, "Its address"),
            Optional(&[Slot("PORT", SECONDS, "Its port; without, the virtual server's")]),
        ],
        "Enters the configuration of a real server.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(Real)
    .prints(Print::Real(|real| {
        let port = real.port.map(|port| format!(" {port}")).unwrap_or_default();
        vec![format!("real {}{port}", real.address)]
    })),
    Command::new(
        Id::Weight,
        Real,
        &[
            Word("weight", "Share of the connections"),
            Slot("WEIGHT", Number(0, 100), "0: no new connections"),
        ],
        "Sets the real's share of the connections.",
    )
    .restores(Some(default::WEIGHT))
    .prints(Print::Real(|real| unless(default::WEIGHT, "weight", u64::from(real.weight)))),
    Command::new(
        Id::RealInservice,
        Real,
        &[Word("inservice", "Take new connections")],
        "Puts the real into service; `no inservice` lets its connections go on and gives it no new ones.",
    )
    .restores(None)
    .prints(Print::Real(|real| {
        let on = real.admin == RealAdmin::InService;
        on.then(|| "inservice".to_owned()).into_iter().collect()
    })),
];
