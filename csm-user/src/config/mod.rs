//! The configuration language: the CSM's own, from one table of commands.
//!
//! ```text
//! text -> token: words with places, prompts and comments taken off
//!      -> parse: statements (by table, command, grammar), never stopping at a fault
//!      -> build: statements in order to a draft
//!      -> validate: names, addresses, ports, timers against one another and the host
//! ```
//!
//! Invariants: all faults are found in one pass and shown at once, each with its place; a configuration exists only if
//! there is no error; `print(parse(x)) == x` for printed text. Pure: what the host has is passed in.

use std::collections::BTreeSet;

use crate::model::Config;

mod build;
pub mod command;
pub mod cursor;
mod diagnostic;
pub mod difference;
mod edit;
pub mod grammar;
mod import;
mod noun;
mod parse;
mod print;
mod reference;
pub mod service;
mod suggest;
pub mod table;
mod token;
mod unsupported;
mod validate;

pub use diagnostic::{Diagnostic, Severity, render, without_secrets};
pub use edit::{Edit, edit};
pub use import::{Imported, NotCarried, import};
pub use noun::Noun;
pub use print::print;
pub use reference::reference;
pub use token::{Span, split_prompt};

#[cfg(test)]
mod tests;

/// What is known of the host that will run the configuration; `None`: not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Names of its interfaces.
    pub interfaces: Option<BTreeSet<String>>,
    /// Whether a thread may be scheduled in real time.
    pub realtime: Option<bool>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The configuration; `None` when there is any error.
    pub config: Option<Config>,
    /// All findings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Outcome {
    /// How many findings are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
    }
}

/// Where the lines that are read come from.
#[derive(Clone, Copy, Debug)]
struct Source<'a> {
    /// Name of the file, or of what was typed.
    name: &'a str,
    /// That many lines of the running configuration stand before its own.
    running: usize,
}

impl Source<'_> {
    /// What the running configuration is called in a finding.
    const RUNNING: &'static str = "running-config";

    /// `line` as a finding refers to it.
    fn place(self, line: usize) -> String {
        match line.checked_sub(self.running) {
            Some(line) if line > 0 => format!("{}:{line}", self.name),
            _ => format!("{}:{line}", Self::RUNNING),
        }
    }
}

/// Reads `text` and checks it against itself and `host`. `file_name` is used where one finding refers to another line.
#[must_use]
pub fn check(file_name: &str, text: &str, host: &HostFacts) -> Outcome {
    let (mut tree, mut diagnostics) = parse::parse(text);
    let source = Source { name: file_name, running: 0 };
    let draft = build::build(&mut tree, source, &mut diagnostics);
    validate::validate(&draft, &tree, source, host, &mut diagnostics);
    diagnostics.sort_by_key(|found| (found.line, found.column, found.severity));
    diagnostics.dedup();
    let refused = diagnostics.iter().any(|found| found.severity == Severity::Error);
    Outcome { config: (!refused).then_some(draft.config), diagnostics }
}
