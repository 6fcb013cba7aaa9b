//! Commands of policies, and of the access lists that say whom they are for.

use super::vserver::backup_words;
use crate::config::Noun;
use crate::config::command::{
    Command, Id,
    Mode::{self, AccessList, Global, Module},
    Print, Repeat,
};
use crate::config::grammar::Kind::{self, Host, Network, Number};
use crate::config::grammar::Piece::{self, Either, Optional, Slot, Word};
use crate::model::{self, AccessLine, Family, NUMBERED_MAX, prefix_mask};

const WHAT: Piece = Either(&[&[Word("permit", "They are of the group")], &[Word("deny", "They are not")]]);
const HOSTS: &[&[Piece]] = &[
    &[Word("any", "Every address")],
    &[Word("host", "One address"), Slot("HOST", Host, "Address")],
    &[
        Slot("ADDRESS", Network, "Address, or that of a network"),
        Optional(&[Slot(
            "WILDCARD",
            Kind::Wildcard,
            "Part of the address that does not count; without, none",
        )]),
    ],
];
const WHOM: Piece = Either(HOSTS);
const WHOM_OF_BOTH: Piece = Either(&[
    HOSTS[0],
    HOSTS[1],
    HOSTS[2],
    &[Slot("PREFIX", Kind::Prefix6, "IPv6 address or network, in a list of IPv6")],
]);

pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::NumberedList,
        Global,
        &[
            Word("access-list", "A line of a list of addresses"),
            Slot("LIST", Number(1, NUMBERED_MAX), "Number of the list"),
            WHAT,
            WHOM,
        ],
        "Adds a line to an access list, which says whom a policy is for: the first line that holds a client's address decides, and \
         without one it is denied. `no access-list N` removes the list.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .prints(Print::AccessList(|list| {
        let line = |line: &AccessLine| format!("access-list {} {}", list.name, access(line));
        if list.is_numbered() { list.lines.iter().map(line).collect() } else { Vec::new() }
    })),
    Command::new(
        Id::NamedList,
        Global,
        &[
            Word("ip", "IP"),
            Word("access-list", "A list of addresses"),
            Word("standard", "Of sources alone"),
            Slot("NAME", Kind::Named(Noun::AccessList4), "Name, or number, of the list"),
        ],
        "Enters an access list of IPv4 addresses, which says whom a policy is for.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(AccessList)
    .prints(Print::AccessList(|list| match (list.is_numbered(), list.family) {
        (false, Family::V4) => vec![format!("ip access-list standard {}", list.name)],
        _ => Vec::new(),
    })),
    Command::new(
        Id::NamedList6,
        Global,
        &[
            Word("ipv6", "IPv6"),
            Word("access-list", "A list of addresses"),
            Slot("NAME", Kind::Named(Noun::AccessList6), "Name of the list"),
        ],
        "Enters an access list of IPv6 addresses, which says whom a policy is for.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(AccessList)
    .prints(Print::AccessList(|list| match list.family {
        Family::V6 => vec![format!("ipv6 access-list {}", list.name)],
        Family::V4 => Vec::new(),
    })),
    Command::new(
        Id::ListLine,
        AccessList,
        &[Word("deny", "They are not of the group"), WHOM_OF_BOTH],
        "Adds a line: the first that holds a client's address decides, and without one it is denied.",
    )
    .removes()
    .repeats(Repeat::Adds),
    // Prints those of both kinds, in their order.
    Command::new(
        Id::ListLine,
        AccessList,
        &[Word("permit", "They are of the group"), WHOM_OF_BOTH],
        "Adds a line: the first that holds a client's address decides, and without one it is denied.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::AccessList(|list| {
        if list.is_numbered() { Vec::new() } else { list.lines.iter().map(access).collect() }
    })),
    Command::new(
        Id::Policy,
        Module,
        &[Word("policy", "A policy"), Slot("NAME", Kind::Named(Noun::Policy), "Name")],
        "Enters a policy: a farm for some of the clients of the virtual servers that name it by `slb-policy`.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(Mode::Policy)
    .prints(Print::Policy(|policy| vec![format!("policy {}", policy.name)])),
    Command::new(
        Id::ClientGroup,
        Mode::Policy,
        &[
            Word("client-group", "Whom it is for"),
            Slot("NAME", Kind::Named(Noun::AccessList), "An access list of this configuration: its number or name"),
        ],
        "Names the access list that permits its clients. Without it the policy is for all of them.",
    )
    .restores(None)
    .prints(Print::Policy(|policy| {
        policy.client_group.iter().map(|name| format!("client-group {name}")).collect()
    })),
    Command::new(
        Id::PolicyFarm,
        Mode::Policy,
        &[
            Word("serverfarm", "Where connections go"),
            Slot("NAME", Kind::Named(Noun::Serverfarm), "A server farm of this configuration"),
            Optional(&[
                Word("backup", "Where they go while no real of it can have one"),
                Slot("BACKUP", Kind::Named(Noun::Serverfarm), "Another server farm of this configuration"),
                Optional(&[Word("sticky", "Clients stick to its reals, too")]),
            ]),
        ],
        "Names the server farm of its clients. Without it they are refused.",
    )
    .restores(None)
    .prints(Print::Policy(|policy| {
        let line = |name: &model::Name| format!("serverfarm {name}{}", backup_words(policy.backup.as_ref()));
        policy.serverfarm.iter().map(line).collect()
    })),
    Command::new(
        Id::SetDscp,
        Mode::Policy,
        &[
            Word("set", "What is written into packets"),
            Word("ip", "Into the header of IP"),
            Word("dscp", "The differentiated services code point"),
            Slot("DSCP", Number(0, 63), "Code point"),
        ],
        "Writes a code point into the packets of its clients on their way to the servers, of either family; the bits of ECN stay. \
         Their packets do not take the dataplane's short way.",
    )
    .restores(None)
    .prints(Print::Policy(|policy| policy.dscp.iter().map(|dscp| format!("set ip dscp {dscp}")).collect())),
];

/// A line of a list, as it is written.
fn access(line: &AccessLine) -> String {
    let word = if line.permit { "permit" } else { "deny" };
    let network = line.network;
    let bits = network.prefix_len();
    match network {
        _ if bits == 0 => format!("{word} any"),
        ipnet::IpNet::V4(net) if bits == 32 => format!("{word} host {}", net.addr()),
        ipnet::IpNet::V4(net) => format!("{word} {} {}", net.addr(), wildcard(bits)),
        ipnet::IpNet::V6(net) if bits == 128 => format!("{word} {}", net.addr()),
        ipnet::IpNet::V6(net) => format!("{word} {net}"),
    }
}

fn wildcard(bits: u8) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from_bits(!prefix_mask(bits).to_bits())
}
