//! Commands of server farms, their reals and the pools for their clients.

use super::{SECONDS, default, unless};
use crate::config::Noun;
use crate::config::command::{
    Command, Id,
    Mode::{Module, NamedReal, Real, Serverfarm},
    Print, Repeat,
};
use crate::config::grammar::Kind::{self, Host, Mask, Number};
use crate::config::grammar::Piece::{self, Either, Optional, Slot, Word};
use crate::model::{Failaction, Family, InbandHealth, Natpool, Predictor, RealAdmin, prefix_mask};

pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::Natpool,
        Module,
        &[
            Word("natpool", "Addresses that clients get towards the reals"),
            Slot("NAME", Kind::Named(Noun::Natpool), "Name"),
            Either(&[
                &[
                    Slot("FIRST", Host, "First address"),
                    Slot("LAST", Host, "Last address"),
                    Word("netmask", "Mask of both"),
                    Slot("MASK", Mask, "Mask"),
                ],
                &[
                    Slot("FIRST", Kind::Host6, "First address"),
                    Slot("LAST", Kind::Host6, "Last address"),
                    Word("prefix-length", "Prefix length of both"),
                    Slot("LENGTH", Number(1, 128), "Leading bits"),
                ],
            ]),
        ],
        "Makes a pool of addresses for `nat client`. The active node answers ARP and neighbour discovery for them.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .prints(Print::Natpool(|pool| vec![natpool(pool)])),
    Command::new(
        Id::NamedReal,
        Module,
        &[Word("real", "An address with a name"), Slot("NAME", Kind::Named(Noun::NamedReal), "Name")],
        "Enters the configuration of a real that farms refer to by `real name NAME`.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(NamedReal)
    .prints(Print::NamedReal(|real| vec![format!("real {}", real.name)])),
    Command::new(
        Id::NamedAddress,
        NamedReal,
        &[Word("address", "Where it is"), Slot("ADDRESS", Kind::AnyHost, "Address")],
        "Sets the address that the name stands for, in every farm that has it.",
    )
    .restores(None)
    .prints(Print::NamedReal(|real| real.address.iter().map(|address| format!("address {address}")).collect())),
    Command::new(
        Id::Serverfarm,
        Module,
        &[Word("serverfarm", "A group of real servers"), Slot("NAME", Kind::Named(Noun::Serverfarm), "Name")],
        "Enters the configuration of a server farm.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(Serverfarm)
    .prints(Print::Serverfarm(|farm| vec![format!("serverfarm {}", farm.name)])),
    Command::new(
        Id::NatServer,
        Serverfarm,
        &[Word("nat", "Translation"), Word("server", "Of the virtual address to the real's")],
        "Gives the real its own address as the destination. `no nat server` is dispatch mode: only the MAC address \
         changes, and each real owns the virtual address, on its loopback interface.",
    )
    .restores(None)
    .prints(Print::Serverfarm(|farm| {
        vec![if farm.nat_server { "nat server" } else { "no nat server" }.to_owned()]
    })),
    Command::new(
        Id::NatClient,
        Serverfarm,
        &[
            Word("nat", "Translation"),
            Word("client", "Of the client's address"),
            Either(&[
                &[Word("static", "As the `static` sections say of it")],
                &[Slot("NAME", Kind::Named(Noun::Natpool), "To one of a `natpool` of this configuration")],
            ]),
        ],
        "Gives the real an address of a pool as the source, so that its answers come back here whatever its gateway; or, for \
         clients that are servers themselves, the address that a `static` section gives them.",
    )
    .restores(None)
    .prints(Print::Serverfarm(|farm| match &farm.nat_client {
        Some(source) => vec![format!("nat client {source}")],
        None => vec!["no nat client".to_owned()],
    })),
    Command::new(
        Id::Encapsulation,
        Serverfarm,
        &[
            Word("encapsulation", "Packets reach the reals inside of others: they may be routed away"),
            Either(&[
                &[Word("ipip", "IP in IP")],
                &[
                    Word("gue", "GUE, variant 1: the packet right behind a UDP header"),
                    Optional(&[Word("port", "Of the reals"), Slot("PORT", SECONDS, "UDP port; without, 6080")]),
                ],
            ]),
        ],
        "Puts each packet for a real, addressed to the virtual server as it is, into one of the alias (without one, of the \
         node itself) to the real's address. The real takes it out, owns the virtual address on its loopback interface and \
         answers the client directly. Needs `no nat server`.",
    )
    .restores(None)
    .prints(Print::Serverfarm(|farm| {
        farm.encapsulation.iter().map(|encapsulation| format!("encapsulation {encapsulation}")).collect()
    })),
    Command::new(
        Id::Failaction,
        Serverfarm,
        &[
            Word("failaction", "What becomes of a failed real's connections"),
            Either(&[
                &[Word("purge", "They are reset at both ends")],
                &[Word("reassign", "They go on at another real, where that can be")],
            ]),
        ],
        "Says what becomes of a real's connections when its probes or ARP fail. `purge` resets them, as `clear module csm N \
         connections real` does. `reassign` is for farms of reals that keep no state of their own, such as firewalls: connections of UDP \
         and other protocols leave the table, and the client's next packet chooses anew; those of TCP are moved to another real in \
         dispatch mode, and reset with `nat server`. Without it they stay: a server that comes back goes on with them.",
    )
    .restores(None)
    .prints(Print::Serverfarm(|farm| match farm.failaction {
        None => Vec::new(),
        Some(Failaction::Purge) => vec!["failaction purge".to_owned()],
        Some(Failaction::Reassign) => vec!["failaction reassign".to_owned()],
    })),
    Command::new(
        Id::InbandHealth,
        Serverfarm,
        &[
            Word("health", "What its clients' connections say of a real"),
            Word("retries", "How many may fail"),
            Slot("RETRIES", Number(1, 65_534), "Abnormal sessions in a row"),
            Word("failed", "How long a real then gets no new ones"),
            Slot("SECONDS", Number(0, 65_535), "Seconds; 0: until `no inservice` and `inservice`"),
        ],
        "Takes a real out of rotation when so many TCP connections in a row were not answered within `pending`, or were answered \
         with a reset. After its time it is tried anew. Each node counts what passes through it.",
    )
    .restores(None)
    .prints(Print::Serverfarm(|farm| {
        let line = |health: &InbandHealth| {
            format!("health retries {} failed {}", health.retries, health.failed.as_secs())
        };
        farm.health.iter().map(line).collect()
    })),
    Command::new(
        Id::Predictor,
        Serverfarm,
        &[
            Word("predictor", "How a real is chosen"),
            Either(&[
                &[Word("roundrobin", "In turn, by weight")],
                &[
                    Word("hash", "By a hash, whatever the weights"),
                    Word("address", "Of addresses"),
                    Optional(&[Either(&[
                        &[PART, Optional(&[ONE])],
                        // As the CSM has it.
                        &[ONE, Optional(&[PART])],
                    ])]),
                ],
                &[
                    Word("leastconns", "The fewest connections for its weight"),
                    Optional(&[
                        Word("slowstart", "A real that comes into rotation gets up to its share by and by"),
                        Slot("SECONDS", SECONDS, "Until it has its whole share"),
                    ]),
                ],
                &[Word("forward", "No real: packets are routed to the address they have")],
            ]),
        ],
        "Sets how a real is chosen for a new connection; by default in turn.",
    )
    .restores(None)
    .prints(Print::Serverfarm(|farm| predictor(farm.predictor))),
    Command::new(
        Id::FarmProbe,
        Serverfarm,
        &[Word("probe", "Check the reals"), Slot("NAME", Kind::Named(Noun::Probe), "A probe of this configuration")],
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
            Either(&[
                &[Slot("ADDRESS", Kind::AnyHost, "Its address")],
                &[Word("name", "As the module names it"), Slot("NAME", Kind::Named(Noun::NamedReal), "A `real` of this configuration")],
            ]),
            Optional(&[Slot("PORT", SECONDS, "Its port; without, the virtual server's")]),
        ],
        "Enters the configuration of a real server.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(Real)
    .prints(Print::Real(|real| {
        let port = real.port.map(|port| format!(" {port}")).unwrap_or_default();
        match &real.name {
            Some(name) => vec![format!("real name {name}{port}")],
            None => vec![format!("real {}{port}", real.address)],
        }
    })),
    Command::new(
        Id::RealProbe,
        Real,
        &[
            Word("health", "Check this real"),
            Word("probe", "With a probe"),
            Slot("NAME", Kind::Named(Noun::Probe), "A probe of this configuration"),
        ],
        "Checks the real with this probe as well as with those of its farm; all must succeed.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Real(|real| real.probes.iter().map(|name| format!("health probe {name}")).collect())),
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
        Id::MaxConns,
        Real,
        &[Word("maxconns", "Most connections"), Slot("COUNT", CONNECTIONS, "Connections")],
        "Gives the real no new connection while it has so many, half-open ones included.",
    )
    .restores(None)
    .prints(Print::Real(|real| real.limit.max.iter().map(|count| format!("maxconns {count}")).collect())),
    Command::new(
        Id::MinConns,
        Real,
        &[Word("minconns", "When it gets new ones again"), Slot("COUNT", CONNECTIONS, "Connections")],
        "After it was at its `maxconns` the real gets no new connection until it has fewer than this. Without, as soon as it has \
         fewer than `maxconns`.",
    )
    .restores(None)
    .prints(Print::Real(|real| real.limit.min.iter().map(|count| format!("minconns {count}")).collect())),
    Command::new(
        Id::RealInservice,
        Real,
        &[
            Word("inservice", "Take new connections"),
            Optional(&[Word("standby", "Only while one that it stands in for takes none")]),
        ],
        "Puts the real into service; `no inservice` lets its connections go on and gives it no new ones. With `standby` it gets new \
         connections only while a real whose `backup real` it is takes none (failed, out of service or of weight 0); one that no real \
         of its farm names stands in for each of them. Sticky clients that it has keep coming, so `inservice standby` drains a real \
         without a client losing its session.",
    )
    .restores(None)
    .prints(Print::Real(|real| match real.admin {
        RealAdmin::InService => vec!["inservice".to_owned()],
        RealAdmin::Standby => vec!["inservice standby".to_owned()],
        RealAdmin::OutOfService => Vec::new(),
    })),
    Command::new(
        Id::BackupReal,
        Real,
        &[
            Word("backup", "Who stands in for it"),
            Word("real", "Another real of the farm"),
            Either(&[
                &[Slot("ADDRESS", Kind::AnyHost, "Its address")],
                &[Word("name", "As the module names it"), Slot("NAME", Kind::Named(Noun::NamedReal), "A `real` of this configuration")],
            ]),
            Optional(&[Slot("PORT", SECONDS, "Its port, as its own line has it")]),
        ],
        "Names the real that takes new connections while this one takes none; it is `inservice standby`. A real that is only at its \
         `maxconns` is no reason yet: the others of the farm are next, then the virtual server's backup farm.",
    )
    .restores(None)
    .prints(Print::Real(|real| {
        let line = |backup: &crate::model::BackupReal| {
            let port = backup.port.map(|port| format!(" {port}")).unwrap_or_default();
            match &backup.name {
                Some(name) => format!("backup real name {name}{port}"),
                None => format!("backup real {}{port}", backup.address),
            }
        };
        real.backup.iter().map(line).collect()
    })),
];

/// What of the addresses is hashed.
const PART: Piece = Either(&[
    &[Slot("MASK", Mask, "Part of the addresses that counts")],
    &[
        Word("prefix-length", "Part of IPv6 addresses that counts"),
        Slot("LENGTH", Number(0, 128), "Leading bits"),
    ],
]);
/// Which of the addresses is hashed.
const ONE: Piece = Either(&[
    &[Word("source", "Of the client's address alone")],
    &[Word("destination", "Of the virtual address alone")],
]);

const CONNECTIONS: Kind = Number(1, u32::MAX as u64);

fn predictor(predictor: Predictor) -> Vec<String> {
    match predictor {
        Predictor::RoundRobin => Vec::new(),
        Predictor::Forward => vec!["predictor forward".to_owned()],
        Predictor::LeastConns { slowstart_s: 0 } => vec!["predictor leastconns".to_owned()],
        Predictor::LeastConns { slowstart_s } => {
            vec![format!("predictor leastconns slowstart {slowstart_s}")]
        }
        Predictor::Hash { bits, bits6, source, destination } => {
            let mask = match (bits, bits6) {
                (32, 128) => String::new(),
                (32, bits6) => format!(" prefix-length {bits6}"),
                (bits, _) => format!(" {}", prefix_mask(bits)),
            };
            let of = match (source, destination) {
                (true, false) => " source",
                (false, true) => " destination",
                _ => "",
            };
            vec![format!("predictor hash address{mask}{of}")]
        }
    }
}

fn natpool(pool: &Natpool) -> String {
    let Natpool { name, first, last, bits } = pool;
    match pool.family() {
        Family::V4 => format!("natpool {name} {first} {last} netmask {}", prefix_mask(*bits)),
        Family::V6 => format!("natpool {name} {first} {last} prefix-length {bits}"),
    }
}
