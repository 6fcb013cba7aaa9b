//! The command of the virtual MAC address, under `vlan`.

use super::super::command::{Command, Id, Mode::Vlan, Print};
use super::super::grammar::Piece::{Either, Word};
use crate::model::Vmac;

/// See [`super::commands`].
pub(super) static APPLIED: &[Command] = &[Command::new(
    Id::Vmac,
    Vlan,
    &[
        Word("vmac", "Which MAC address the pair's addresses have on the VLAN"),
        Either(&[
            &[Word("auto", "The virtual one if frames with it get to the peer and back, else each port's own")],
            &[Word("on", "The virtual one, 00-01-64-f9-1a-GROUP")],
            &[Word("off", "Each port's own: for a network that drops what has another one")],
        ]),
    ],
    "Sets which MAC address the active node's frames carry and its answers tell. With each port's own, hosts follow a takeover by \
     its announcements alone. Not for bridged VLANs, nor where this host is a router.",
)
.restores(None)
.prints(Print::Vlan(|vlan| match vlan.vmac {
    Vmac::Auto => Vec::new(),
    Vmac::On => vec!["vmac on".to_owned()],
    Vmac::Off => vec!["vmac off".to_owned()],
}))];
