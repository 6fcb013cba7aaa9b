//! Commands of sticky groups.

use crate::config::command::{
    Command, Id,
    Mode::{self, Module, StickyGroup},
    Print, Repeat,
};
use crate::config::grammar::Kind::{AnyHost, Mask, Number};
use crate::config::grammar::Piece::{self, Either, Optional, Slot, Word};
use crate::model::{self, StaticSticky, StickyAddress, prefix_mask};

pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::StickyGroup,
        Module,
        &[
            Word("sticky", "A group of addresses that keep their reals"),
            Slot("GROUP", Number(1, 255), "Its number, for virtual servers and policies"),
            Either(&[
                &[Word("netmask", "Part of the address that counts"), Slot("MASK", Mask, "Mask")],
                &[
                    Word("prefix-length", "Part of the IPv6 address that counts"),
                    Slot("LENGTH", Number(0, 128), "Leading bits"),
                ],
            ]),
            Optional(&[
                Word("address", "Which address of a connection that is; without, the source"),
                Either(&[
                    &[Word("source", "The client's")],
                    &[Word("destination", "The one that the client speaks to")],
                    &[Word("both", "Both of them; of IPv6 their networks, 64 bits of each at most")],
                ]),
            ]),
            Optional(&[
                Word("timeout", "From the last use, in minutes; without, 1440"),
                Slot("MINUTES", Number(1, 65_535), "Of policies; virtual servers say their own"),
            ]),
        ],
        "Enters a sticky group. Virtual servers use it by `sticky MINUTES group N`, policies by `sticky-group N`: all of one farm, for \
         what sticks is a real. By `destination` each host of a virtual network keeps its real, as firewalls need it; by `both` each \
         client keeps one for each host.",
    )
    .removes_section()
    .repeats(Repeat::Replaces)
    .opens(StickyGroup)
    .prints(Print::StickyGroup(|group| vec![section(group)])),
    Command::new(
        Id::StaticSticky,
        StickyGroup,
        &[
            Word("static", "One whose real is given"),
            Word("client", "A connection"),
            Either(&[
                &[
                    Word("source", "From this address"),
                    Slot("ADDRESS", AnyHost, "Under the group's mask"),
                    Optional(&[
                        Word("destination", "And to this one: of a group that goes by both"),
                        Slot("DESTINATION", AnyHost, "Under the group's mask"),
                    ]),
                ],
                &[Word("destination", "To this address"), Slot("ADDRESS", AnyHost, "Under the group's mask")],
            ]),
            Word("real", "Where it goes"),
            Slot("REAL", AnyHost, "Address of a real of the farm that the group is used with"),
            Optional(&[Slot("PORT", Number(1, 65_535), "Its port, if it has one")]),
        ],
        "Sends connections to a real, as long as that takes clients who have it; else they are balanced and nothing is kept of that. It \
         never ends, and is the same on both nodes without replication.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::StickyGroup(|group| group.statics.iter().map(fixed).collect())),
    Command::new(
        Id::PolicySticky,
        Mode::Policy,
        &[
            Word("sticky-group", "Keep a client on its real"),
            Slot("GROUP", Number(1, 255), "A sticky group of this configuration"),
        ],
        "Keeps connections of its clients on the same real server, for the time that the group says. Without it that is as the virtual \
         server has it. `replicate csrp sticky` is the virtual server's.",
    )
    .restores(None)
    .prints(Print::Policy(|policy| {
        policy.sticky_group.iter().map(|number| format!("sticky-group {number}")).collect()
    })),
    Command::new(Id::PolicyReverse, Mode::Policy, REVERSE, REVERSE_HELP)
        .restores(None)
        .prints(Print::Policy(|policy| policy.reverse_sticky.iter().map(reverse).collect())),
];

pub(super) const REVERSE: &[Piece] = &[
    Word("reverse-sticky", "Keep connections the other way on the firewall of this one"),
    Slot("GROUP", Number(1, 255), "Sticky group of the virtual server of the other direction"),
];
pub(super) const REVERSE_HELP: &str = "Notes by which real of a sticky group each connection came in (a firewall by the MAC address that it sends with, a server \
     by its own address), so that what is opened the other way, to a virtual server that is sticky by that group, goes out by it. The \
     connection's answers go back by it, too, and not by the routes. Replicated with the connection.";

pub(super) fn reverse(group: &u8) -> String {
    format!("reverse-sticky {group}")
}

fn section(group: &model::StickyGroup) -> String {
    let model::StickyGroup { number, bits, bits6, address, minutes, statics: _ } = group;
    let part = match (bits, bits6) {
        (32, 128) => "netmask 255.255.255.255".to_owned(),
        (32, bits6) => format!("prefix-length {bits6}"),
        (bits, _) => format!("netmask {}", prefix_mask(*bits)),
    };
    let address = match address {
        StickyAddress::Source => "",
        StickyAddress::Destination => " address destination",
        StickyAddress::Both => " address both",
    };
    let timeout = match *minutes {
        model::StickyGroup::MINUTES => String::new(),
        minutes => format!(" timeout {minutes}"),
    };
    format!("sticky {number} {part}{address}{timeout}")
}

fn fixed(line: &StaticSticky) -> String {
    let StaticSticky { address, client, destination, real, port } = line;
    let address = match address {
        StickyAddress::Source | StickyAddress::Both => "source",
        StickyAddress::Destination => "destination",
    };
    let destination = destination.map_or(String::new(), |address| format!(" destination {address}"));
    let port = port.map_or(String::new(), |port| format!(" {port}"));
    format!("static client {address} {client}{destination} real {real}{port}")
}
