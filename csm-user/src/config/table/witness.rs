//! The command of the witness, under `ft group`.

use super::super::command::{Command, Id, Mode::Ft, Print};
use super::super::grammar::Kind::{AnyHost, Number};
use super::super::grammar::Piece::{Optional, Slot, Word};
use super::default;

/// See [`super::commands`].
pub(super) static APPLIED: &[Command] = &[Command::new(
    Id::Witness,
    Ft,
    &[
        Word("witness", "A third host that is asked before the role is taken without a word of the peer"),
        Slot("ADDRESS", AnyHost, "Its address"),
        Optional(&[
            Word("port", "Of `csmd --witness` there"),
            Slot("PORT", Number(1, 65535), "UDP port, 21986 by default"),
        ]),
    ],
    "Lets a box that hears no peer have the role only while a third host grants it, so that never both forward.",
)
.restores(None)
.prints(Print::Ft(|ft| {
    let line = |witness: &std::net::SocketAddr| match u64::from(witness.port()) {
        default::WITNESS_PORT => format!("witness {}", witness.ip()),
        port => format!("witness {} port {port}", witness.ip()),
    };
    ft.witness.iter().map(line).collect()
}))];
