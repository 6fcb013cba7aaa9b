//! Commands of authentication, under `ft group`.

use super::super::command::{Command, Id, Mode::Ft, Print};
use super::super::grammar::Kind;
use super::super::grammar::Piece::{self, Either, Slot, Word};
use crate::model::Secret;

const AUTHENTICATION: Piece = Word("authentication", "Proof of who speaks for the peer");
const KEY_STRING: Piece = Word("key-string", "The key");
const KEY: Piece = Either(&[
    &[
        Word("7", "Written as IOS hides passwords"),
        Slot("HIDDEN", Kind::ObscuredKey, "As show running-config prints it"),
    ],
    &[Slot("KEY", Kind::Key, "As it is, 1-64 characters")],
]);

/// See [`super::commands`].
pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::AuthKey,
        Ft,
        &[AUTHENTICATION, KEY_STRING, KEY],
        "Signs heartbeats with this key, seals replication and config sync with it, and believes nothing without it, or the accepted one.",
    )
    .restores(None)
    .prints(Print::Ft(|ft| line("authentication key-string", ft.keys.sign.as_ref()))),
    Command::new(
        Id::AuthAccept,
        Ft,
        &[AUTHENTICATION, Word("accept", "While the key is changed"), KEY_STRING, KEY],
        "Believes what is said with this key, too; alone it speaks with it, and requires none on the FT VLAN.",
    )
    .restores(None)
    .prints(Print::Ft(|ft| line("authentication accept key-string", ft.keys.accept.as_ref()))),
];

fn line(command: &str, key: Option<&Secret>) -> Vec<String> {
    key.map(|key| format!("{command} 7 {}", key.obscured())).into_iter().collect()
}
