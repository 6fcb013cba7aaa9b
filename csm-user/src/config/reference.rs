//! The reference document, from the command table.

use std::fmt::Write as _;

use super::command::{Command, Effect, Mode, No};
use super::grammar::{Piece, Syntax};
use super::table::commands;

/// `docs/config-reference.md`: every command by mode, with syntax, help, default and `no` form.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration reference\n\n\
         Made from the command table; do not edit.\n\n\
         Keywords may be shortened as long as they stay unique. A line that begins with `!` is a comment, indentation\n\
         does not matter, and a prompt before a command is taken off. A command that the present mode lacks is looked\n\
         up in the modes above.\n",
    );
    for mode in Mode::ALL {
        let here: Vec<_> = commands().filter(|command| command.mode == mode).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\n## In {}\n", quoted(mode));
        for command in here.iter().filter(|command| matches!(command.effect, Effect::Applies)) {
            entry(&mut out, command);
        }
        others(&mut out, &here);
    }
    out
}

fn quoted(mode: Mode) -> String {
    match mode {
        Mode::Any | Mode::Global => mode.title().to_owned(),
        _ => format!("`{}`", mode.title()),
    }
}

fn entry(out: &mut String, command: &Command) {
    let _ = writeln!(out, "### `{}`\n\n{}", Syntax(command.grammar), command.help);
    if let Some(default) = command.default {
        let _ = writeln!(out, "Default: {default}.");
    }
    let no = match command.no {
        No::Absent => None,
        No::Restores => Some(format!("`no {}` restores the default.", command.name())),
        No::Removes | No::RemovesSection => Some(format!("`no {} ...` removes it.", command.name())),
        No::Other(_) => Some(format!("`no {}` is accepted.", command.name())),
    };
    if let Some(no) = no {
        let _ = writeln!(out, "{no}");
    }
    let mut help = Vec::new();
    tokens(command.grammar, &mut help);
    let _ = writeln!(out, "\n| word | meaning |\n|---|---|");
    for (word, meaning) in help {
        let _ = writeln!(out, "| `{word}` | {meaning} |");
    }
    out.push('\n');
}

/// Each word and slot with its help.
fn tokens(pieces: &[Piece], help: &mut Vec<(String, &'static str)>) {
    for piece in pieces {
        match piece {
            Piece::Word(_, meaning) | Piece::Slot(_, _, meaning) => help.push((piece.to_string(), meaning)),
            Piece::Optional(pieces) => tokens(pieces, help),
            Piece::Either(choices) => choices.iter().for_each(|choice| tokens(choice, help)),
            Piece::Rest => {}
        }
    }
}

/// What is accepted without effect, and what is refused by name.
fn others(out: &mut String, commands: &[&Command]) {
    for command in commands {
        let syntax = Syntax(command.grammar);
        let _ = match command.effect {
            Effect::Applies => Ok(()),
            Effect::Silent => writeln!(out, "- `{syntax}`: accepted; it is the case already."),
            Effect::Note(why) => writeln!(out, "- `{syntax}`: accepted; {why}."),
            Effect::Refused { why, remedy } => {
                writeln!(out, "- `{syntax}`: refused; {why}. Remedy: {remedy}.")
            }
        };
    }
}
