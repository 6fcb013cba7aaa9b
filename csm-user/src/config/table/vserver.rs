//! Commands of virtual servers.

use super::{SECONDS, VLAN, default, unless};
use crate::config::command::{
    Command, Id,
    Mode::{Module, Vserver},
    Print, Repeat,
};
use crate::config::grammar::Kind::{self, Host, Mask, Number};
use crate::config::grammar::Piece::{Either, Optional, Slot, Word};
use crate::config::service;
use crate::model::Transport;

pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::Vserver,
        Module,
        &[Word("vserver", "A virtual server"), Slot("NAME", Kind::Name, "Name")],
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
            Slot("ADDRESS", Host, "Address"),
            Optional(&[Slot("MASK", Mask, "255.255.255.255")]),
            Either(&[&[Word("tcp", "TCP")], &[Word("udp", "UDP")]]),
            Slot("PORT", Kind::Port, "Number, or a name such as www; 0: any"),
        ],
        "Sets the virtual address, protocol and port.",
    )
    .restores(None)
    .repeats(Repeat::Conflicts)
    .prints(Print::Vserver(|vserver| {
        let line = |to: &crate::model::Virtual| {
            let transport = match to.transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            };
            format!("virtual {} {transport} {}", to.address, service::name(to.port, to.transport))
        };
        vserver.virtual_server.iter().map(line).collect()
    })),
    Command::new(
        Id::VserverFarm,
        Vserver,
        &[
            Word("serverfarm", "Where connections go"),
            Slot("NAME", Kind::Name, "A server farm of this configuration"),
        ],
        "Names the server farm.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| {
        vserver.serverfarm.iter().map(|name| format!("serverfarm {name}")).collect()
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
        Id::Sticky,
        Vserver,
        &[
            Word("sticky", "Keep a client on its real"),
            Slot("MINUTES", SECONDS, "From its last use"),
            Optional(&[
                Word("group", "Shared with other virtual servers"),
                Slot("GROUP", Number(0, 255), "0: not shared"),
            ]),
            Optional(&[
                Word("netmask", "Part of the client's address that counts"),
                Slot("MASK", Mask, "Mask"),
            ]),
        ],
        "Keeps connections of a client on the same real server.",
    )
    .restores(None)
    .prints(Print::Vserver(|vserver| vserver.sticky.iter().map(sticky).collect())),
    Command::new(
        Id::ReplicateConnection,
        Vserver,
        &[
            Word("replicate", "Copy to the standby"),
            // The guide's task table prints `csrpf`.
            Either(&[&[Word("csrp", "By the replication protocol")], &[Word("csrpf", "The same")]]),
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
            Either(&[&[Word("csrp", "By the replication protocol")], &[Word("csrpf", "The same")]]),
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

fn sticky(sticky: &crate::model::Sticky) -> String {
    let group = if sticky.group == 0 { String::new() } else { format!(" group {}", sticky.group) };
    let netmask = match sticky.netmask {
        std::net::Ipv4Addr::BROADCAST => String::new(),
        mask => format!(" netmask {mask}"),
    };
    format!("sticky {}{group}{netmask}", sticky.minutes)
}
