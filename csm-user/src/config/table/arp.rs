//! Command of neighbours that the configuration knows.

use super::VLAN;
use crate::config::command::{Command, Id, Mode::Module, Print, Repeat};
use crate::config::grammar::Kind;
use crate::config::grammar::Piece::{Slot, Word};
use crate::model::{StaticArp, written_mac};

pub(super) static APPLIED: &[Command] = &[Command::new(
    Id::StaticArp,
    Module,
    &[
        Word("arp", "A neighbour whose MAC address is known"),
        Slot("ADDRESS", Kind::AnyHost, "Its address, in the VLAN's network"),
        Slot("MAC", Kind::Mac, "Its MAC address"),
        Word("vlan", "Where it is"),
        Slot("VLAN", VLAN, "A VLAN of this configuration"),
    ],
    "Sends frames for a neighbour to this MAC address. It is never asked for by ARP or neighbour discovery, does not expire, and what \
     is heard of it otherwise is not believed.",
)
.removes()
.repeats(Repeat::Adds)
.prints(Print::Global(|config| {
    let line = |StaticArp { address, mac, vlan }: &StaticArp| {
        format!("arp {address} {} vlan {vlan}", written_mac(*mac))
    };
    config.arps.iter().map(line).collect()
}))];
