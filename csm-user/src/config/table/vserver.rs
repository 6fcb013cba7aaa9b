//! Commands of virtual servers.

use super::sticky::{REVERSE, REVERSE_HELP, reverse};
use super::{SECONDS, VLAN, default, network, unless};
use crate::config::Noun;
use crate::config::command::{
    Command, Id,
    Mode::{Module, Vserver},
    Print, Repeat,
};
use crate::config::grammar::Kind::{self, Mask, Network, Number};
use crate::config::grammar::MISPRINT;
use crate::config::grammar::Piece::{Either, Optional, Slot, Word};
use crate::config::service;
use crate::model::{
    Advertise, ClientRange, ClientRateLimit, RateLimit, StickyAddress, Threshold, Virtual, prefix_mask,
};

pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::Vserver,
        Module,
        &[Word("vserver", "A virtual server"), Slot("NAME", Kind::Named(Noun::Vserver), "Name")],
        "Enters the configuration of a virtual server.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(Vserver)
    .prints(Print::Vserver(|vserver| vec![format!("vserver {}", vserver.name)])),
    Command::new(
        Id::Virtual,
        Vserver,
        &[
            Word("virtual", "What clients connect to"),
            Either(&[
                &[
                    Slot("ADDRESS", Network, "Address, or that of a network"),
                    Optional(&[Slot("MASK", Mask, "Part of the address that counts; without, all of it")]),
                ],
                &[Slot("ADDRESS", Kind::Prefix6, "IPv6 address, or a network with its prefix length")],
            ]),
            Either(&[
                &[
                    Word("tcp", "TCP"),
                    Slot("PORT", Kind::Port, "Number, or a name such as www; 0: any"),
                    Optional(&[
                        Word("service", "Follow what the payload names"),
                        Either(&[
                            &[Word("ftp", "Data connections go where their control connection went")],
                            &[Word("rtsp", "Media by UDP go where their control connection went")],
                        ]),
                    ]),
                ],
                &[
                    Word("udp", "UDP"),
                    Slot("PORT", Kind::Port, "Number, or a name such as domain; 0: any"),
                ],
                &[Word("any", "Every protocol"), Optional(&[Slot("PORT", Kind::Port, "0: other protocols have none")])],
                &[
                    Slot("PROTOCOL", Number(1, 255), "IP protocol"),
                    Optional(&[Slot("PORT", Kind::Port, "Of TCP (6) and UDP (17) only; 0: any")]),
                ],
            ]),
        ],
        "Sets the virtual address, protocol and port.",
    )
    .restores(None)
    .repeats(Repeat::Conflicts)
    .prints(Print::Vserver(|vserver| vserver.virtual_server.iter().map(virtual_server).collect())),
    Command::new(
        Id::VserverFarm,
        Vserver,
        &[
            Word("serverfarm", "Where connections go"),
            Slot("NAME", Kind::Named(Noun::Serverfarm), "A server farm of this configuration"),
            Optional(&[
                Word("backup", "Where they go while no real of it can have one"),
                Slot("BACKUP", Kind::Named(Noun::Serverfarm), "Another server farm of this configuration"),
                Optional(&[Word("sticky", "Clients stick to its reals, too")]),
            ]),
            Optional(&[
                Word("threshold", "When it is down though reals are in rotation"),
                Word("outservice", "It is down"),
                Slot("DOWN", SECONDS, "With fewer reals in rotation"),
                Optional(&[
                    Word("inservice", "It is up again; without, with as many"),
                    Slot("UP", SECONDS, "With so many in rotation"),
                ]),
            ]),
        ],
        "Names the server farm, and one that serves while no real of it is in rotation and below its `maxconns`. With `threshold` the \
         farm counts as down, for new connections and for sticky clients, as soon as fewer reals are in rotation, and until enough are \
         again; connections go on.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| {
        let backup = backup_words(vserver.backup.as_ref());
        let line = |name| format!("serverfarm {name}{backup}{}", threshold(vserver));
        vserver.serverfarm.iter().map(line).collect()
    })),
    Command::new(
        Id::SlbPolicy,
        Vserver,
        &[
            Word("slb-policy", "A farm for some of the clients"),
            Slot("NAME", Kind::Named(Noun::Policy), "A policy of this configuration"),
        ],
        "Adds a policy. The first one that is for a client names its farm; `serverfarm` serves those that none is for, and without \
         it they are refused. `sticky` keeps the clients of each policy on its own reals; `rate-limit` holds for all together.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Vserver(|vserver| {
        vserver.policies.iter().map(|name| format!("slb-policy {name}")).collect()
    })),
    Command::new(
        Id::VserverVlan,
        Vserver,
        &[Word("vlan", "Clients' VLAN"), Slot("VLAN", VLAN, "Number")],
        "Takes connections from this VLAN only.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| vserver.vlan.iter().map(|vlan| format!("vlan {vlan}")).collect())),
    Command::new(
        Id::Client,
        Vserver,
        &[
            Word("client", "Clients that are served"),
            Either(&[
                &[Slot("ADDRESS", Network, "Address of their network"), Slot("MASK", Mask, "Its mask")],
                &[Slot("ADDRESS", Kind::Prefix6, "Their IPv6 network, or one address")],
            ]),
            Optional(&[Word("exclude", "Not these")]),
        ],
        "Takes connections from these clients only; of several ranges that hold a client the longest mask counts. Without \
         any but excluded ones all others are served.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Vserver(|vserver| {
        let line = |range: &ClientRange| {
            let exclude = if range.exclude { " exclude" } else { "" };
            format!("client {}{exclude}", network(range.network))
        };
        vserver.clients.iter().map(line).collect()
    })),
    Command::new(
        Id::Unidirectional,
        Vserver,
        &[Word("unidirectional", "The servers' packets may go another way")],
        "Does not wait for a server's packets: without them a TCP connection counts as set up by the client's first \
         acknowledgement, and other connections keep their real for the idle time. So by default for UDP and in dispatch \
         mode; `no unidirectional` waits for them there, too.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| match vserver.unidirectional {
        None => Vec::new(),
        Some(true) => vec!["unidirectional".to_owned()],
        Some(false) => vec!["no unidirectional".to_owned()],
    })),
    Command::new(
        Id::Idle,
        Vserver,
        &[Word("idle", "Life of a silent connection"), Slot("SECONDS", Number(0, 13_500_000), "0: for ever")],
        "Sets how long a connection without traffic is kept.",
    )
    .restores(Some(default::IDLE))
    .prints(Print::Vserver(|vserver| unless(default::IDLE, "idle", vserver.idle.as_secs()))),
    Command::new(
        Id::Pending,
        Vserver,
        &[Word("pending", "Life of a half-open connection"), Slot("SECONDS", SECONDS, "Seconds")],
        "Sets how long a connection may take to be set up.",
    )
    .restores(Some(default::PENDING))
    .prints(Print::Vserver(|vserver| unless(default::PENDING, "pending", vserver.pending.as_secs()))),
    Command::new(
        Id::RateLimit,
        Vserver,
        &[
            Word("rate-limit", "How fast connections may come"),
            Word("connections", "Of all clients together"),
            Slot("RATE", RATE, "New connections a second"),
            Optional(&[
                Word("burst", "How many may come at once; without, those of a second"),
                Slot("BURST", RATE, "Connections"),
            ]),
        ],
        "Drops the first packets of connections that come faster. Established and half-open ones are not concerned. Of a flood \
         from forged addresses it spares the servers, and its clients fare as the flood does: it has no way to tell them apart.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| {
        let line = |limit: &RateLimit| format!("rate-limit connections {}", rate(limit));
        vserver.rate_limits.connections.iter().map(line).collect()
    })),
    Command::new(
        Id::ClientRateLimit,
        Vserver,
        &[
            Word("rate-limit", "How fast connections may come"),
            Word("client", "Of each client"),
            Word("connections", "Its new connections"),
            Slot("RATE", RATE, "New connections a second"),
            Optional(&[
                Word("burst", "How many may come at once; without, those of a second"),
                Slot("BURST", RATE, "Connections"),
            ]),
            Optional(&[Either(&[
                &[Word("netmask", "Part of the address that makes a client"), Slot("MASK", Mask, "Mask")],
                &[
                    Word("prefix-length", "Part of the IPv6 address that makes a client"),
                    Slot("LENGTH", Number(0, 128), "Leading bits"),
                ],
            ])]),
        ],
        "Drops the first packets of connections that a client opens faster. A client is an address, or a network by its mask. \
         65,536 clients are followed at a time; of more those that have been silent for longest begin anew.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| {
        vserver.rate_limits.client.iter().map(client_rate_limit).collect()
    })),
    Command::new(
        Id::VserverMaxConns,
        Vserver,
        &[
            Word("max-conns", "Most connections at once"),
            Slot("COUNT", Number(0, u32::MAX as u64), "Of all clients together, half-open ones included; 0: no limit"),
        ],
        "Drops the first packets of further connections while the virtual server, all its policies together, has so many. Those \
         of FTP's data connections are not dropped, and count. Of a flood's half-open connections each has a place for `pending` seconds.",
    )
    .restores(Some(default::MAX_CONNS))
    .prints(Print::Vserver(|vserver| unless(default::MAX_CONNS, "max-conns", vserver.max_conns.into()))),
    Command::new(
        Id::Advertise,
        Vserver,
        &[
            Word("advertise", "Routing daemons of this host tell of its network"),
            Optional(&[Word("active", "Only while it is operational")]),
        ],
        "Keeps a route to the virtual server's network in table 201 of the kernel while this node is active, for routing daemons to take from          there; the kernel itself never uses it. With `active` only while one of its reals can serve.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| match vserver.advertise {
        None => Vec::new(),
        Some(Advertise::Always) => vec!["advertise".to_owned()],
        Some(Advertise::Active) => vec!["advertise active".to_owned()],
    })),
    Command::new(
        Id::VserverOwner,
        Vserver,
        &[Word("owner", "Whose it is"), Slot("NAME", Kind::Named(Noun::Owner), "An owner of this configuration")],
        "Names the owner, whose `maxconns` holds for all its virtual servers together.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| vserver.owner.iter().map(|name| format!("owner {name}")).collect())),
    Command::new(
        Id::Sticky,
        Vserver,
        &[
            Word("sticky", "Keep a client on its real"),
            Slot("MINUTES", SECONDS, "From its last use"),
            Optional(&[
                Word("group", "Shared with other virtual servers"),
                Slot("GROUP", Number(0, 255), "0: not shared"),
            ]),
            Optional(&[Either(&[
                &[Word("netmask", "Part of the client's address that counts"), Slot("MASK", Mask, "Mask")],
                &[
                    Word("prefix-length", "Part of the client's IPv6 address that counts"),
                    Slot("LENGTH", Number(0, 128), "Leading bits"),
                ],
            ])]),
            Optional(&[Either(&[
                &[Word("source", "By the client's address, as without it")],
                &[Word("destination", "By the address that the client speaks to")],
                &[Word("both", "By both of them; of IPv6 by their networks, 64 bits of each at most")],
            ])]),
        ],
        "Keeps connections of a client on the same real server. If the module has a section `sticky N`, that says of group N which \
         part of which address counts.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| vserver.sticky.iter().map(sticky).collect())),
    Command::new(Id::ReverseSticky, Vserver, REVERSE, REVERSE_HELP)
        .restores(None)
        .prints(Print::Vserver(|vserver| vserver.reverse_sticky.iter().map(reverse).collect())),
    Command::new(
        Id::ReplicateConnection,
        Vserver,
        &[
            Word("replicate", "Copy to the standby"),
            // The guide's task table prints `csrpf`.
            Either(&[&[Word("csrp", "By the replication protocol")], &[Word("csrpf", MISPRINT)]]),
            Word("connection", "Connections"),
        ],
        "Copies connections to the standby, so that they survive a failover.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| {
        let line = || "replicate csrp connection".to_owned();
        vserver.replicate_connection.then(line).into_iter().collect()
    })),
    Command::new(
        Id::ReplicateSticky,
        Vserver,
        &[
            Word("replicate", "Copy to the standby"),
            Either(&[&[Word("csrp", "By the replication protocol")], &[Word("csrpf", MISPRINT)]]),
            Word("sticky", "Sticky entries"),
        ],
        "Copies sticky entries to the standby, so that clients keep their real after a failover.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| {
        vserver.replicate_sticky.then(|| "replicate csrp sticky".to_owned()).into_iter().collect()
    })),
    Command::new(
        Id::Inservice,
        Vserver,
        &[Word("inservice", "Take connections")],
        "Puts the virtual server into service.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| {
        vserver.inservice.then(|| "inservice".to_owned()).into_iter().collect()
    })),
];

fn virtual_server(to: &Virtual) -> String {
    let Virtual { protocol, port, service: followed, .. } = to;
    let address = if to.is_address() { to.address().to_string() } else { network(to.network) };
    let port =
        if protocol.has_ports() { format!(" {}", service::name(*port, *protocol)) } else { String::new() };
    let followed = followed.word().map(|word| format!(" service {word}")).unwrap_or_default();
    format!("virtual {address} {protocol}{port}{followed}")
}

fn sticky(sticky: &crate::model::Sticky) -> String {
    let group = if sticky.group == 0 { String::new() } else { format!(" group {}", sticky.group) };
    let address = match sticky.address {
        StickyAddress::Source => "",
        StickyAddress::Destination => " destination",
        StickyAddress::Both => " both",
    };
    format!("sticky {}{group}{}{address}", sticky.minutes, part(sticky.bits, sticky.bits6))
}

fn part(bits: u8, bits6: u8) -> String {
    match (bits, bits6) {
        (32, 128) => String::new(),
        (32, bits6) => format!(" prefix-length {bits6}"),
        (bits, _) => format!(" netmask {}", prefix_mask(bits)),
    }
}

/// What of a farm's line says who stands in for it.
pub(super) fn backup_words(backup: Option<&crate::model::Backup>) -> String {
    let Some(backup) = backup else { return String::new() };
    format!(" backup {}{}", backup.farm, if backup.sticky { " sticky" } else { "" })
}

fn threshold(vserver: &crate::model::Vserver) -> String {
    let Some(Threshold { outservice, inservice }) = vserver.threshold else { return String::new() };
    let up = if inservice == outservice { String::new() } else { format!(" inservice {inservice}") };
    format!(" threshold outservice {outservice}{up}")
}

fn rate(limit: &RateLimit) -> String {
    let RateLimit { per_second, burst } = limit;
    if burst == per_second { per_second.to_string() } else { format!("{per_second} burst {burst}") }
}

fn client_rate_limit(limit: &ClientRateLimit) -> String {
    format!("rate-limit client connections {}{}", rate(&limit.rate), part(limit.bits, limit.bits6))
}

/// Connections, or connections a second.
const RATE: Kind = Number(1, csm_common::rate::RATE_MAX as u64);
