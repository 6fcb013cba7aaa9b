//! Commands of static translation: connections that servers open.

use super::network;
use crate::config::command::{
    Command, Id,
    Mode::{Module, Static},
    Print, Repeat,
};
use crate::config::grammar::Kind::{self, Mask, Network};
use crate::config::grammar::Piece::{Either, Optional, Slot, Word};

pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::Static,
        Module,
        &[
            Word("static", "Connections that servers open"),
            Either(&[
                &[Word("drop", "They are dropped")],
                &[
                    Word("nat", "Their source is translated"),
                    Either(&[
                        &[Word("virtual", "To the address of the virtual server that the host serves")],
                        &[Slot("ADDRESS", Kind::AnyHost, "To this address")],
                    ]),
                ],
            ]),
        ],
        "Enters the list of hosts whose own connections to the client side, those to no virtual server, are dropped or get \
         another source address. Without it they keep theirs.",
    )
    .removes_section()
    .repeats(Repeat::Adds)
    .opens(Static)
    .prints(Print::Static(|rule| vec![rule.action.to_string()])),
    Command::new(
        Id::StaticReal,
        Static,
        &[
            Word("real", "Hosts on the server side"),
            Either(&[
                &[
                    Slot("HOST", Network, "Address, or address of a network"),
                    Optional(&[Slot("MASK", Mask, "Its mask")]),
                ],
                &[Slot("HOST", Kind::Prefix6, "IPv6 address or network")],
            ]),
        ],
        "Names a host, or a network of them. Of several networks that hold a host the longest mask counts.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Static(|rule| {
        let line = |net: &ipnet::IpNet| match net.prefix_len() == net.max_prefix_len() {
            true => format!("real {}", net.addr()),
            false => format!("real {}", network(*net)),
        };
        rule.hosts.iter().map(line).collect()
    })),
];
