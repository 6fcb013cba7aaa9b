//! Words to a request. Pure.
//!
//! One table holds every command; a word may be shortened to any prefix that fits one keyword only, as in IOS. Small
//! letters are keywords, capitals parameters.

mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use regex::Regex;

use self::table::{COMMANDS, COUNT_MAX, Command, DELAY_MAX, SHELL, WORDS};
use super::configure::Change;
use super::filter::{Keep, Stage};
use super::select::Select;
use super::state::Action;
use crate::api::reply::ConnFilter;
use crate::config::Noun;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `check FILE`: without a daemon.
    Check {
        /// The file.
        file: String,
    },
    /// `configure terminal` and `configure replace`.
    Configure {
        /// What comes from where.
        change: Change,
        /// `revert timer`: seconds.
        revert_s: Option<u32>,
    },
    /// `configure confirm`.
    Confirm,
    /// `check host [FILE]`: without a daemon.
    CheckHost {
        /// The configuration whose ports are meant; `None`: all Ethernet interfaces.
        file: Option<String>,
    },
    /// `show running-config`.
    RunningConfig,
    /// `show standby`.
    Standby {
        /// A line for each group.
        brief: bool,
    },
    /// `show running-config diff`.
    Difference {
        /// The file; `None`: the startup configuration.
        file: Option<String>,
    },
    /// `hw-module csm N standby config-sync`.
    Sync {
        /// N.
        slot: u8,
    },
    /// The copies of the startup configuration.
    State(Action),
    /// `copy FILE startup-config`.
    SetStartup {
        /// The file.
        file: String,
    },
    /// `copy FILE working image`.
    SetImage {
        /// The file.
        file: String,
    },
    /// `show module csm N …`.
    Show {
        /// N; `None`: whichever it is.
        slot: Option<u8>,
        /// What of it.
        what: Show,
    },
    /// `show module csm N ft readiness`.
    Readiness {
        /// N; `None`: whichever it is.
        slot: Option<u8>,
    },
    /// `show module csm N …` of some things only.
    Select {
        /// N.
        slot: u8,
        /// Which.
        what: Select,
    },
    /// `show tech-support`.
    TechSupport,
    /// `import FILE`: without a daemon.
    Import {
        /// The listing of a CSM.
        file: String,
    },
    /// `trace client A [vserver V] [count N]`.
    Trace {
        /// A.
        client: IpAddr,
        /// V.
        vserver: Option<String>,
        /// N; `None`: until it is interrupted.
        count: Option<u64>,
    },
    /// What concerns the shell alone.
    Shell(Shell),
    /// `clear module csm N ft active`.
    ForceStandby {
        /// N.
        slot: u8,
    },
    /// `clear module csm N connections …`.
    ClearConns {
        /// N.
        slot: u8,
        /// Which.
        filter: ConnFilter,
    },
}

/// What the shell is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// Nothing at all: it is so already.
    Nothing,
    /// To end.
    Leave,
    /// To show what was typed.
    History,
    /// To stop after so many lines; 0: never.
    Length(usize),
}

/// What `show` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// The FT group.
    Ft {
        /// With counters and history.
        detail: bool,
    },
    /// What the FT group tracks.
    Track,
    /// Why this node has its role.
    Explain,
    /// Virtual servers.
    Vservers {
        /// All about each.
        detail: bool,
    },
    /// Reals.
    Reals {
        /// All about each.
        detail: bool,
    },
    /// Server farms.
    Serverfarms,
    /// Connections.
    Conns {
        /// Which.
        filter: ConnFilter,
        /// All about each.
        detail: bool,
    },
    /// Sticky entries.
    Sticky,
    /// VLANs.
    Vlan,
    /// ARP.
    Arp,
    /// Counters.
    Stats,
    /// All of these but connections and sticky entries, which can be a million.
    All,
}

/// What the words mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A command.
    Command {
        /// The request.
        request: Request,
        /// `| json`.
        json: bool,
        /// Other bars.
        stages: Vec<Stage>,
    },
    /// They ended in `?`: what can stand there.
    Help(Vec<Continuation>),
}

/// A word that can stand at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Continuation {
    /// Keyword or parameter.
    pub word: &'static str,
    /// What it means.
    pub help: &'static str,
}

impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.help {
            "" => write!(f, "  {}", self.word),
            help => write!(f, "  {:<16} {help}", self.word),
        }
    }
}

/// Words that mean nothing; displayed with a caret under the first wrong one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    line: String,
    column: usize,
    problem: String,
    continuations: Vec<Continuation>,
}

impl std::error::Error for UsageError {}

impl UsageError {
    /// Characters before the first wrong one.
    #[must_use]
    pub const fn column(&self) -> usize {
        self.column
    }

    /// What is wrong, and what would have been right.
    #[must_use]
    pub fn sentence(&self) -> String {
        let possible = if self.continuations.is_empty() { "" } else { "; possible here:" };
        let words: String = self.continuations.iter().map(|word| format!("\n{word}")).collect();
        format!("% {}{possible}{words}", self.problem)
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.line)?;
        writeln!(f, "{:column$}^", "", column = self.column)?;
        f.write_str(&self.sentence())
    }
}

type Values = BTreeMap<&'static str, String>;

/// Meant by a short form that fits others, too: what operators have in their fingers.
const PREFERRED: &[&str] = &["running-config", "flash-synchro"];

/// Nothing more.
const END: &str = "<cr>";

fn is_parameter(token: &str) -> bool {
    token.starts_with(|first: char| first.is_ascii_uppercase())
}

fn accepts(parameter: &str, word: &str) -> bool {
    match parameter {
        "SLOT" => word.parse::<u8>().is_ok_and(|slot| slot > 0),
        "COUNT" => word.parse::<u64>().is_ok_and(|count| (1..=COUNT_MAX).contains(&count)),
        "GROUP" => word.parse::<u8>().is_ok(),
        "VLAN" => word.parse::<u16>().is_ok_and(|vlan| (1..=4094).contains(&vlan)),
        "DELAY" => word.parse::<u32>().is_ok_and(|minutes| (1..=DELAY_MAX).contains(&minutes)),
        "LINES" => word.parse::<usize>().is_ok_and(|lines| lines <= 512),
        "MINUTES" => word.parse::<u32>().is_ok_and(|minutes| (1..=120).contains(&minutes)),
        "SECONDS" => word.parse::<u32>().is_ok_and(|seconds| (1..=7200).contains(&seconds)),
        "ADDRESS" | "REAL" => word.parse::<IpAddr>().is_ok(),
        "PORT" => word.parse::<u16>().is_ok_and(|port| port > 0),
        _ => true,
    }
}

struct Word<'a> {
    text: &'a str,
    /// Characters before it.
    column: usize,
}

/// What `args` mean: a command in one argument or in several. The file of `check` may hold blanks if it is an argument
/// of its own.
///
/// # Errors
/// The first word that means nothing.
pub fn parse(args: &[String]) -> Result<Meaning, UsageError> {
    parse_of(args, COMMANDS.iter().collect())
}

/// The same with the shell's own commands among them.
///
/// # Errors
/// The first word that means nothing.
pub fn parse_all(args: &[String]) -> Result<Meaning, UsageError> {
    match parse(args) {
        // What the shell alone knows is told so; to anything else it offers nothing.
        Err(error) => match parse_of(args, SHELL.iter().collect()) {
            Ok(meaning @ Meaning::Command { .. }) => Ok(meaning),
            Ok(Meaning::Help(_)) | Err(_) => Err(error),
        },
        meaning => meaning,
    }
}

/// The same of a line typed in the shell.
///
/// # Errors
/// The first word that means nothing.
pub fn parse_typed(line: &str) -> Result<Meaning, UsageError> {
    parse_of(&[line.to_owned()], COMMANDS.iter().chain(SHELL).collect())
}

/// Of what a parameter is the name, where it is one that the configuration gives.
#[must_use]
pub fn noun(parameter: &str) -> Option<Noun> {
    Some(match parameter {
        "FARM" => Noun::Serverfarm,
        "NAME" => Noun::Vserver,
        "OWNER" => Noun::Owner,
        "POLICY" => Noun::Policy,
        "POOL" => Noun::Natpool,
        "PROBE" => Noun::Probe,
        _ => return None,
    })
}

/// What can stand in the shell after the words `before`, of a word that begins with `partial`.
#[must_use]
pub fn choices(before: &[&str], partial: &str) -> Vec<Continuation> {
    let Ok(Meaning::Help(words)) = parse_typed(&format!("{} ?", before.join(" "))) else { return Vec::new() };
    let fits = |word: &str| match is_parameter(word) {
        true => accepts(word, partial),
        false => word.starts_with(&partial.to_ascii_lowercase()),
    };
    words.into_iter().filter(|word| partial.is_empty() || fits(word.word)).collect()
}

fn parse_of(args: &[String], commands: Vec<&'static Command>) -> Result<Meaning, UsageError> {
    let line = args.join(" ");
    let words = split(args, &line);
    let (words, bar) = match words.iter().position(|word| word.text == "|") {
        Some(bar) => (&words[..bar], Some(&words[bar])),
        None => (&words[..], None),
    };
    let wrong = |column, problem: String, continuations| {
        Err(UsageError { line: line.clone(), column, problem, continuations })
    };
    let behind = match bar.map(|bar| behind_bar(&line, bar.column + 1)).transpose() {
        Ok(behind) => behind.unwrap_or_default(),
        Err((column, problem)) => return wrong(column, problem, forms()),
    };
    let Behind::Stages { json, stages } = behind else { return Ok(Meaning::Help(forms())) };
    let mut alive: Vec<(Vec<&'static str>, &Command)> =
        commands.into_iter().map(|command| (command.syntax.split(' ').collect(), command)).collect();
    let mut values = Values::new();
    for (index, word) in words.iter().enumerate() {
        if word.text == "?" {
            return Ok(Meaning::Help(continuations(&alive, index)));
        }
        match choose(&alive, index, word.text) {
            Choice::Token(token) => {
                alive.retain(|(tokens, _)| tokens.get(index) == Some(&token));
                if is_parameter(token) {
                    values.insert(token, word.text.to_owned());
                }
            }
            Choice::Ambiguous(words) => {
                return wrong(word.column, format!("ambiguous word \"{}\"", word.text), words);
            }
            Choice::None => {
                let problem = match table::refused(&words[..=index]) {
                    Some(why) => format!("`show module csm N {}` is not supported: {why}", word.text),
                    None => format!("invalid word \"{}\"", word.text),
                };
                return wrong(word.column, problem, continuations(&alive, index));
            }
        }
    }
    match alive.iter().find(|(tokens, _)| tokens.len() == words.len()) {
        Some((_, command)) => Ok(Meaning::Command { request: (command.request)(&values), json, stages }),
        None => {
            let end = words.last().map_or(0, |word| word.column + word.text.chars().count() + 1);
            wrong(end, "incomplete command".to_owned(), continuations(&alive, words.len()))
        }
    }
}

/// What stands behind the first bar.
enum Behind {
    /// A question.
    Help,
    /// What the output goes through.
    Stages { json: bool, stages: Vec<Stage> },
}

impl Default for Behind {
    fn default() -> Self {
        Self::Stages { json: false, stages: Vec::new() }
    }
}

/// What may stand behind a bar.
fn forms() -> Vec<Continuation> {
    let filters = Keep::ALL.into_iter().map(|(word, _, help)| Continuation { word, help });
    let mut forms: Vec<_> = filters.chain([continuation("json")]).collect();
    forms.sort_unstable();
    forms
}

/// Reads what stands behind a bar, from character `from` of `line` on. A bar with blanks on both sides begins the next
/// stage; any other belongs to the pattern.
fn behind_bar(line: &str, from: usize) -> Result<Behind, (usize, String)> {
    let tail: String = line.chars().skip(from).collect();
    let (mut json, mut stages, mut at) = (false, Vec::new(), from);
    for part in tail.split(" | ") {
        let blanks = part.chars().take_while(|c| c.is_whitespace()).count();
        let column = at + blanks;
        at += part.chars().count() + 3;
        let (word, pattern) = part.trim().split_once(char::is_whitespace).unwrap_or((part.trim(), ""));
        let pattern = pattern.trim();
        let lower = word.to_ascii_lowercase();
        let fitting =
            Keep::ALL.into_iter().find(|(keyword, ..)| !word.is_empty() && keyword.starts_with(&lower));
        match fitting {
            None if word == "?" => return Ok(Behind::Help),
            None if word.is_empty() => {
                return Err((line.chars().count() + 1, "incomplete command".to_owned()));
            }
            None if "json".starts_with(&lower) && pattern.is_empty() => json = true,
            None => return Err((column, format!("unknown output form \"{word}\""))),
            Some(_) if pattern.is_empty() => {
                return Err((
                    line.chars().count() + 1,
                    "incomplete command: a regular expression is missing".to_owned(),
                ));
            }
            Some((_, keep, _)) => {
                let column = column + word.chars().count() + 1;
                let pattern = Regex::new(pattern)
                    .map_err(|_| (column, format!("\"{pattern}\" is not a regular expression")))?;
                stages.push(Stage { keep, pattern });
            }
        }
    }
    Ok(Behind::Stages { json, stages })
}

enum Choice {
    Token(&'static str),
    Ambiguous(Vec<Continuation>),
    None,
}

/// Exact keyword, else the only keyword it is a prefix of, else a parameter that takes it.
fn choose(alive: &[(Vec<&'static str>, &Command)], index: usize, word: &str) -> Choice {
    let word_lower = word.to_ascii_lowercase();
    let mut tokens: Vec<&'static str> =
        alive.iter().filter_map(|(tokens, _)| tokens.get(index).copied()).collect();
    tokens.sort_unstable();
    tokens.dedup();
    let (parameters, keywords): (Vec<_>, Vec<_>) = tokens.into_iter().partition(|token| is_parameter(token));
    if let Some(exact) = keywords.iter().find(|&&keyword| keyword == word_lower) {
        return Choice::Token(exact);
    }
    let fitting: Vec<_> = keywords.into_iter().filter(|keyword| keyword.starts_with(&word_lower)).collect();
    match fitting[..] {
        [one] => Choice::Token(one),
        [] => parameters
            .into_iter()
            .find(|parameter| accepts(parameter, word))
            .map_or(Choice::None, Choice::Token),
        _ if fitting.iter().any(|word| PREFERRED.contains(word)) => {
            let preferred = fitting.into_iter().find(|word| PREFERRED.contains(word));
            preferred.map_or(Choice::None, Choice::Token)
        }
        _ => Choice::Ambiguous(fitting.into_iter().map(continuation).collect()),
    }
}

fn continuations(alive: &[(Vec<&'static str>, &Command)], index: usize) -> Vec<Continuation> {
    let mut words: Vec<_> =
        alive.iter().map(|(tokens, _)| continuation(tokens.get(index).copied().unwrap_or(END))).collect();
    words.sort_unstable();
    words.dedup();
    words
}

fn continuation(word: &'static str) -> Continuation {
    WORDS.iter().find(|known| known.word == word).copied().unwrap_or(Continuation { word, help: "" })
}

/// Words of `line`, which is `args` joined by blanks; `|` is a word of its own even without blanks around it.
fn split<'a>(args: &[String], line: &'a str) -> Vec<Word<'a>> {
    let checks = args.len() > 1 && args[0].len() >= 2 && "check".starts_with(args[0].as_str());
    let mut words = Vec::new();
    let mut start = 0;
    for (index, arg) in args.iter().enumerate() {
        let piece = &line[start..start + arg.len()];
        if checks && index == 1 {
            words.push(Word { text: piece, column: line[..start].chars().count() });
        } else {
            split_piece(piece, line, start, &mut words);
        }
        start += arg.len() + 1;
    }
    words
}

fn split_piece<'a>(piece: &'a str, line: &str, start: usize, words: &mut Vec<Word<'a>>) {
    let mut word_start = None;
    let ends = piece.char_indices().chain([(piece.len(), ' ')]);
    for (at, character) in ends {
        if character.is_whitespace() || character == '|' {
            if let Some(from) = word_start.take() {
                words.push(Word { text: &piece[from..at], column: line[..start + from].chars().count() });
            }
            if character == '|' {
                words.push(Word { text: &piece[at..=at], column: line[..start + at].chars().count() });
            }
        } else {
            word_start.get_or_insert(at);
        }
    }
}

#[cfg(test)]
mod tests;
