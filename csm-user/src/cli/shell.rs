//! The interactive shell: modes, prompts, help. Pure; the terminal is [`task`]'s.
//!
//! Each line stands for itself, as in IOS: in the configuration modes it is a change of its own, made at once or not at all,
//! so there is never half of anything to be undone.

pub mod pager;
pub mod task;

use super::grammar::{self, Meaning, Request};
use crate::api::reply::{ChangeMode, ChangeRequest};
use crate::cli::configure::Change;
use crate::config::cursor::Cursor;
use crate::config::grammar::abbreviates;
use crate::config::{Diagnostic, Noun, Severity, split_prompt};

/// What a typed line calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing, or what it was about is done.
    Nothing,
    /// To say this: something is wrong with the line, or worth a note.
    Say(String),
    /// To run a command of the privileged mode; to be confirmed before, if there is a question.
    Run(String, Option<&'static str>),
    /// To change the configuration; [`Session::changed`] hears what came of it. What is said of the line by itself comes first.
    Change(ChangeRequest, String),
    /// To show what was typed.
    History,
    /// To stop after so many lines.
    Length(usize),
    /// To end.
    Leave,
}

/// Where the operator stands.
#[derive(Clone, Debug)]
pub struct Session {
    host: String,
    slot: u8,
    /// In the configuration modes.
    config: Option<Cursor>,
    /// Where the line that is being carried out leads.
    next: Option<Cursor>,
    /// Changes are taken back after so many seconds.
    revert_s: Option<u32>,
}

/// What can stand at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// A keyword, or a parameter in capitals.
    pub word: String,
    /// What it means.
    pub help: String,
    /// It can be completed.
    pub keyword: bool,
    /// It stands for the name of one of these.
    pub noun: Option<Noun>,
}

impl Session {
    /// In the privileged mode; `slot` is the module that is meant where none is named.
    #[must_use]
    pub const fn new(host: String, slot: u8) -> Self {
        Self { host, slot, config: None, next: None, revert_s: None }
    }

    /// `Router#`, `Router(config)#`, ….
    #[must_use]
    pub fn prompt(&self) -> String {
        match &self.config {
            None => format!("{}#", self.host),
            Some(cursor) => format!("{}({})#", self.host, cursor.prompt()),
        }
    }

    /// Leaves the configuration modes: `end`, Ctrl-Z, Ctrl-C.
    pub fn end(&mut self) {
        (self.config, self.next, self.revert_s) = (None, None, None);
    }

    /// A typed line.
    pub fn line(&mut self, line: &str) -> Act {
        let (prompt, line) = split_prompt(line);
        // Where the caret stands is counted in what was typed.
        let line = if prompt.is_empty() { line } else { line.trim_start() };
        if without_comment(line).is_empty() {
            return Act::Nothing;
        }
        // A listing that was pasted with its prompts: they say where its lines belong, as far as that is a mode at all.
        match (prompt.contains('('), &self.config) {
            (true, None) => self.config = Some(Cursor::default()),
            (false, Some(_)) if !prompt.is_empty() => self.end(),
            _ => {}
        }
        match self.config.clone() {
            None => self.privileged(line),
            Some(cursor) => self.configuration(&cursor, line),
        }
    }

    fn privileged(&mut self, line: &str) -> Act {
        let request = match grammar::parse_typed(line) {
            Ok(Meaning::Command { request, .. }) => request,
            Ok(Meaning::Help(words)) => {
                return Act::Say(words.iter().map(|word| format!("{word}\n")).collect());
            }
            Err(error) => return Act::Say(format!("{}{}\n", self.caret(error.column()), error.sentence())),
        };
        match request {
            Request::Shell(grammar::Shell::Nothing) => Act::Nothing,
            Request::Shell(grammar::Shell::Leave) => Act::Leave,
            Request::Shell(grammar::Shell::History) => Act::History,
            Request::Shell(grammar::Shell::Length(lines)) => Act::Length(lines),
            Request::Configure { change: Change::Terminal, revert_s } => {
                (self.config, self.revert_s) = (Some(Cursor::default()), revert_s);
                Act::Say("Enter configuration commands, one per line.  End with CNTL/Z.\n".to_owned())
            }
            Request::State(super::state::Action::Reload { .. }) => {
                Act::Run(line.to_owned(), Some("Proceed with reload? [confirm]"))
            }
            _ => Act::Run(line.to_owned(), None),
        }
    }

    fn configuration(&mut self, cursor: &Cursor, line: &str) -> Act {
        let words: Vec<&str> = line.split_whitespace().collect();
        let first = words.first().map_or_else(String::new, |word| word.to_ascii_lowercase());
        match (first.as_str(), words.len()) {
            // What IOS says, pasted with the rest.
            ("enter", _) if words.get(1) == Some(&"configuration") => return Act::Nothing,
            ("do", 2..) => {
                let command = line.trim_start().get(2..).unwrap_or_default().trim();
                return match grammar::parse_typed(command) {
                    Ok(Meaning::Command {
                        request:
                            Request::Configure { change: Change::Terminal, .. }
                            | Request::Shell(grammar::Shell::Leave | grammar::Shell::Nothing),
                        ..
                    }) => Act::Say("% not behind `do`: leave the configuration mode first\n".to_owned()),
                    Ok(_) => self.privileged(command),
                    Err(error) => Act::Say(format!("{error}\n")),
                };
            }
            // As newer IOS takes it, too: nothing is configured by that word.
            ("show" | "sh", 2..) => return Act::Run(line.to_owned(), None),
            ("end" | "en", 1) => {
                self.end();
                return Act::Nothing;
            }
            ("exit" | "exi" | "ex", 1) if *cursor == Cursor::default() => {
                self.end();
                return Act::Nothing;
            }
            _ => {}
        }
        let step = cursor.step(self.slot, line);
        let said = self.findings(&step.findings);
        match step.change {
            None => {
                self.config = Some(step.cursor);
                if said.is_empty() { Act::Nothing } else { Act::Say(said) }
            }
            Some(text) => {
                self.next = Some(step.cursor);
                let request = ChangeRequest {
                    mode: ChangeMode::Edit,
                    name: NAME.to_owned(),
                    text,
                    revert_s: self.revert_s,
                };
                Act::Change(request, said)
            }
        }
    }

    /// What came of the last change: `done`, and what the daemon says. Returns what is to be shown of that.
    pub fn changed(&mut self, done: bool, said: &str) -> String {
        let (Some(before), Some(after)) = (self.config.clone(), self.next.take()) else {
            return said.to_owned();
        };
        // What has just been opened is incomplete, of course.
        let opened = after != before;
        self.config = Some(if done { after } else { after.refused(&before) });
        match done && opened {
            true => String::new(),
            false => said.lines().map(|line| plain(line) + "\n").collect(),
        }
    }

    fn caret(&self, column: usize) -> String {
        format!("{:width$}^\n", "", width = self.prompt().chars().count() + column)
    }

    fn findings(&self, findings: &[Diagnostic]) -> String {
        let mut said = String::new();
        for finding in findings {
            let Diagnostic { severity, column, message, remedy, .. } = finding;
            match severity {
                Severity::Error => said += &self.caret(column.saturating_sub(1)),
                // The daemon says it, too, and knows more.
                Severity::Warning => continue,
                Severity::Note => {}
            }
            said += &format!("% {message}\n");
            said.extend(remedy.iter().map(|remedy| format!("  remedy: {remedy}\n")));
        }
        said
    }

    /// What can stand where `typed` ends, and how many bytes before its end the word begins that is being typed. Behind the word for
    /// a name stand those that fit of the ones that there are, by `names`, which is asked there only.
    pub fn hints(&self, typed: &str, names: impl Fn(Noun) -> Vec<String>) -> (usize, Vec<Hint>) {
        let start = typed.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let (before, partial) = typed.split_at(start);
        let before: Vec<&str> = before.split_whitespace().collect();
        let hints = match (&self.config, before.as_slice()) {
            (None, before) => privileged(before, partial),
            (Some(_), ["do" | "show" | "sh", ..]) => {
                let before = if before.first() == Some(&"do") { &before[1..] } else { &before[..] };
                privileged(before, partial)
            }
            (Some(cursor), before) => {
                let choices = cursor.choices(before, partial).into_iter();
                let mut hints: Vec<_> = choices
                    .map(|choice| Hint {
                        word: choice.word,
                        help: choice.help.to_owned(),
                        keyword: choice.keyword,
                        noun: choice.noun,
                    })
                    .collect();
                if before.is_empty() && "do".starts_with(partial) {
                    let help = "Run a command of the privileged mode".to_owned();
                    hints.push(Hint { word: "do".to_owned(), help, keyword: true, noun: None });
                }
                hints
            }
        };
        let with_names = hints.into_iter().flat_map(|hint| {
            let names = hint.noun.map(&names).unwrap_or_default().into_iter();
            let fitting = names.filter(|name| partial.is_empty() || abbreviates(partial, name));
            let named = |word| Hint { word, help: String::new(), keyword: true, noun: None };
            std::iter::once(hint).chain(fitting.map(named)).collect::<Vec<_>>()
        });
        (typed.len() - start, with_names.collect())
    }

    /// What `?` shows where `typed` ends; `names` as in [`Self::hints`].
    pub fn help(&self, typed: &str, names: impl Fn(Noun) -> Vec<String>) -> String {
        let (_, hints) = self.hints(typed, names);
        if hints.is_empty() {
            return "% nothing fits here\n".to_owned();
        }
        let width = hints.iter().map(|hint| hint.word.len()).max().unwrap_or(0).max(16);
        hints
            .iter()
            .map(|hint| format!("  {:<width$} {}", hint.word, hint.help).trim_end().to_owned() + "\n")
            .collect()
    }
}

/// What the daemon's findings call typed lines.
const NAME: &str = "terminal";

fn privileged(before: &[&str], partial: &str) -> Vec<Hint> {
    let words = grammar::choices(before, partial).into_iter();
    words
        .map(|word| Hint {
            word: word.word.to_owned(),
            help: word.help.to_owned(),
            keyword: word.word.starts_with(|c: char| c.is_ascii_lowercase()),
            noun: grammar::noun(word.word),
        })
        .collect()
}

fn without_comment(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with('!') { "" } else { line }
}

/// Without the place in a file that nobody sees.
fn plain(line: &str) -> String {
    let place = line.strip_prefix(NAME).and_then(|rest| rest.strip_prefix(':'));
    match place.and_then(|rest| rest.split_once(": ")) {
        Some((_, sentence)) => format!("% {}", sentence.trim_start_matches("error: ")),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests;
