//! Words to a request. Pure.
//!
//! One table holds every command; a word may be shortened to any prefix that fits one keyword only, as in IOS. Small
//! letters are keywords, capitals parameters.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::configure::Change;
use super::state::Action;
use crate::api::reply::{ConnFilter, StateDirectory};

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
    /// `show module csm N …`.
    Show {
        /// N; `None`: whichever it is.
        slot: Option<u8>,
        /// What of it.
        what: Show,
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

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.line)?;
        writeln!(f, "{:column$}^", "", column = self.column)?;
        write!(f, "% {}", self.problem)?;
        if !self.continuations.is_empty() {
            write!(f, "; possible here:")?;
        }
        self.continuations.iter().try_for_each(|continuation| write!(f, "\n{continuation}"))
    }
}

type Values = BTreeMap<&'static str, String>;

struct Command {
    syntax: &'static str,
    request: fn(&Values) -> Request,
}

const COMMANDS: &[Command] = &[
    Command { syntax: "check FILE", request: |v| Request::Check { file: text(v, "FILE") } },
    Command { syntax: "check host", request: |_| Request::CheckHost { file: None } },
    Command { syntax: "check host FILE", request: |v| Request::CheckHost { file: Some(text(v, "FILE")) } },
    Command { syntax: "clear module csm SLOT connections", request: clear_conns },
    Command { syntax: "clear module csm SLOT connections client ADDRESS", request: clear_conns },
    Command { syntax: "clear module csm SLOT connections real REAL", request: clear_conns },
    Command { syntax: "clear module csm SLOT connections real REAL PORT", request: clear_conns },
    Command { syntax: "clear module csm SLOT connections vserver NAME", request: clear_conns },
    Command {
        syntax: "clear module csm SLOT ft active",
        request: |v| Request::ForceStandby { slot: slot(v) },
    },
    Command {
        syntax: "copy FILE startup-config",
        request: |v| Request::SetStartup { file: text(v, "FILE") },
    },
    Command { syntax: "copy running-config startup-config", request: |_| Request::State(Action::Write) },
    Command { syntax: "copy working certified", request: |_| certify(false) },
    Command { syntax: "copy working certified flash-synchro", request: |_| certify(true) },
    // As the stack's guide prints it.
    Command { syntax: "copy working certified flash-syncro", request: |_| certify(true) },
    Command {
        syntax: "hw-module csm SLOT standby config-sync",
        request: |v| Request::Sync { slot: slot(v) },
    },
    Command { syntax: "reload", request: |_| reload(None) },
    Command { syntax: "reload certified", request: |_| reload(Some(StateDirectory::Certified)) },
    Command { syntax: "reload working", request: |_| reload(Some(StateDirectory::Working)) },
    Command { syntax: "show running-directory", request: |_| Request::State(Action::Directory) },
    Command {
        syntax: "show running-config diff startup-config",
        request: |_| Request::Difference { file: None },
    },
    Command { syntax: "show startup-config", request: |_| Request::State(Action::Startup) },
    Command { syntax: "write memory", request: |_| Request::State(Action::Write) },
    Command { syntax: "configure confirm", request: |_| Request::Confirm },
    Command { syntax: "configure replace FILE", request: |v| configure(v, replace(v)) },
    Command { syntax: "configure replace FILE revert timer MINUTES", request: |v| configure(v, replace(v)) },
    Command {
        syntax: "configure replace FILE revert timer sec SECONDS",
        request: |v| configure(v, replace(v)),
    },
    Command { syntax: "configure terminal", request: |v| configure(v, Change::Terminal) },
    Command {
        syntax: "configure terminal revert timer MINUTES",
        request: |v| configure(v, Change::Terminal),
    },
    Command {
        syntax: "configure terminal revert timer sec SECONDS",
        request: |v| configure(v, Change::Terminal),
    },
    Command { syntax: "show running-config", request: |_| Request::RunningConfig },
    Command { syntax: "show standby", request: |_| Request::Standby { brief: false } },
    Command { syntax: "show standby brief", request: |_| Request::Standby { brief: true } },
    Command {
        syntax: "show running-config diff FILE",
        request: |v| Request::Difference { file: Some(text(v, "FILE")) },
    },
    Command { syntax: "show module csm all", request: |_| Request::Show { slot: None, what: Show::All } },
    Command { syntax: "show module csm SLOT all", request: |v| show(v, Show::All) },
    Command { syntax: "show module csm SLOT arp", request: |v| show(v, Show::Arp) },
    Command { syntax: "show module csm SLOT conns", request: |v| conns(v, false) },
    Command { syntax: "show module csm SLOT conns client ADDRESS", request: |v| conns(v, false) },
    Command { syntax: "show module csm SLOT conns client ADDRESS detail", request: |v| conns(v, true) },
    Command { syntax: "show module csm SLOT conns detail", request: |v| conns(v, true) },
    Command { syntax: "show module csm SLOT conns real REAL", request: |v| conns(v, false) },
    Command { syntax: "show module csm SLOT conns real REAL PORT", request: |v| conns(v, false) },
    Command { syntax: "show module csm SLOT conns real REAL PORT detail", request: |v| conns(v, true) },
    Command { syntax: "show module csm SLOT conns real REAL detail", request: |v| conns(v, true) },
    Command { syntax: "show module csm SLOT conns vserver NAME", request: |v| conns(v, false) },
    Command { syntax: "show module csm SLOT conns vserver NAME detail", request: |v| conns(v, true) },
    Command { syntax: "show module csm SLOT ft", request: |v| show(v, Show::Ft { detail: false }) },
    Command { syntax: "show module csm SLOT ft detail", request: |v| show(v, Show::Ft { detail: true }) },
    Command { syntax: "show module csm SLOT ft track", request: |v| show(v, Show::Track) },
    Command { syntax: "show module csm SLOT reals", request: |v| show(v, Show::Reals { detail: false }) },
    Command {
        syntax: "show module csm SLOT reals detail",
        request: |v| show(v, Show::Reals { detail: true }),
    },
    Command { syntax: "show module csm SLOT serverfarms", request: |v| show(v, Show::Serverfarms) },
    Command { syntax: "show module csm SLOT stats", request: |v| show(v, Show::Stats) },
    Command { syntax: "show module csm SLOT sticky", request: |v| show(v, Show::Sticky) },
    Command { syntax: "show module csm SLOT vlan", request: |v| show(v, Show::Vlan) },
    Command {
        syntax: "show module csm SLOT vservers",
        request: |v| show(v, Show::Vservers { detail: false }),
    },
    Command {
        syntax: "show module csm SLOT vservers detail",
        request: |v| show(v, Show::Vservers { detail: true }),
    },
    Command { syntax: "trace client ADDRESS", request: trace },
    Command { syntax: "trace client ADDRESS count COUNT", request: trace },
    Command { syntax: "trace client ADDRESS vserver NAME", request: trace },
    Command { syntax: "trace client ADDRESS vserver NAME count COUNT", request: trace },
];

/// Longest trace, in packets.
const COUNT_MAX: u64 = 1_000_000;

const WORDS: &[Continuation] = &[
    Continuation { word: "active", help: "hand the active role to the peer" },
    Continuation { word: "all", help: "everything but connections and sticky entries" },
    Continuation { word: "arp", help: "addresses answered for, and next hops" },
    Continuation { word: "brief", help: "a line for each" },
    Continuation { word: "certified", help: "the copy that is known to be good" },
    Continuation { word: "check", help: "a configuration file or this host, without a daemon" },
    Continuation { word: "clear", help: "reset functions" },
    Continuation { word: "client", help: "of one client only" },
    Continuation { word: "configure", help: "change the configuration in force" },
    Continuation { word: "config-sync", help: "put this configuration in force there" },
    Continuation { word: "confirm", help: "keep a change that is to be taken back" },
    Continuation { word: "connections", help: "reset connections at both ends" },
    Continuation { word: "conns", help: "connections" },
    Continuation { word: "copy", help: "startup configurations" },
    Continuation { word: "count", help: "end after so many packets" },
    Continuation { word: "csm", help: "Content Switching Module" },
    Continuation { word: "detail", help: "all about each" },
    Continuation { word: "diff", help: "- only in the file, + only in force" },
    Continuation { word: "flash-synchro", help: "on the peer, too" },
    Continuation { word: "flash-syncro", help: "the same, as the stack's guide prints it" },
    Continuation { word: "ft", help: "fault tolerance" },
    Continuation { word: "host", help: "this host: kernel, drivers, scheduling" },
    Continuation { word: "hw-module", help: "a module's other half" },
    Continuation { word: "json", help: "the same facts for programs" },
    Continuation { word: "module", help: "a module" },
    Continuation { word: "real", help: "of one real server only" },
    Continuation { word: "reals", help: "real servers" },
    Continuation { word: "reload", help: "execute csmd anew, while what it forwards goes on" },
    Continuation { word: "replace", help: "by a file, all of it at once" },
    Continuation { word: "revert", help: "take it back unless it is confirmed" },
    Continuation { word: "running-config", help: "the configuration in force" },
    Continuation { word: "running-directory", help: "which copy this node was started from" },
    Continuation { word: "sec", help: "in seconds" },
    Continuation { word: "serverfarms", help: "server farms" },
    Continuation { word: "show", help: "the state of the system" },
    Continuation { word: "standby", help: "the peer; HSRP groups" },
    Continuation { word: "startup-config", help: "what a start takes" },
    Continuation { word: "stats", help: "counters" },
    Continuation { word: "sticky", help: "sticky entries" },
    Continuation { word: "trace", help: "the walk of a client's packets through the XDP program" },
    Continuation { word: "terminal", help: "by lines of standard input, all at once" },
    Continuation { word: "timer", help: "after so much time" },
    Continuation { word: "track", help: "what must be up for this box to have the role" },
    Continuation { word: "vlan", help: "VLANs and the ports that carry them" },
    Continuation { word: "vserver", help: "of one virtual server only" },
    Continuation { word: "vservers", help: "virtual servers" },
    Continuation { word: "memory", help: "save the configuration in force" },
    Continuation { word: "working", help: "the copy that was saved last" },
    Continuation { word: "write", help: "save" },
    Continuation { word: "|", help: "another form of output" },
    Continuation { word: "ADDRESS", help: "IPv4 or IPv6 address" },
    Continuation { word: "COUNT", help: "packets, 1-1000000" },
    Continuation { word: "FILE", help: "path" },
    Continuation { word: "MINUTES", help: "1-120" },
    Continuation { word: "NAME", help: "name of a virtual server" },
    Continuation { word: "SECONDS", help: "1-7200" },
    Continuation { word: "PORT", help: "port at the real server, 1-65535" },
    Continuation { word: "REAL", help: "IPv4 or IPv6 address of a real server" },
    Continuation { word: "SLOT", help: "number of the module, 1-255" },
];

/// Meant by a short form that fits others, too: what operators have in their fingers.
const PREFERRED: &[&str] = &["running-config", "flash-synchro"];

/// Nothing more.
const END: &str = "<cr>";

fn text(values: &Values, parameter: &str) -> String {
    values.get(parameter).cloned().unwrap_or_default()
}

fn slot(values: &Values) -> u8 {
    // Accepted only if it parses, see `accepts`.
    values.get("SLOT").and_then(|slot| slot.parse().ok()).unwrap_or_default()
}

fn show(values: &Values, what: Show) -> Request {
    Request::Show { slot: Some(slot(values)), what }
}

const fn certify(flash_synchro: bool) -> Request {
    Request::State(Action::Certify { flash_synchro })
}

const fn reload(directory: Option<StateDirectory>) -> Request {
    Request::State(Action::Reload { directory })
}

fn replace(values: &Values) -> Change {
    Change::Replace(text(values, "FILE"))
}

fn configure(values: &Values, change: Change) -> Request {
    let number = |parameter| values.get(parameter).and_then(|number| number.parse::<u32>().ok());
    let revert_s = number("SECONDS").or(number("MINUTES").map(|minutes| minutes * 60));
    Request::Configure { change, revert_s }
}

fn conns(values: &Values, detail: bool) -> Request {
    show(values, Show::Conns { filter: conn_filter(values), detail })
}

fn clear_conns(values: &Values) -> Request {
    Request::ClearConns { slot: slot(values), filter: conn_filter(values) }
}

fn conn_filter(values: &Values) -> ConnFilter {
    let address = |of: &str| values.get(of)?.parse().ok();
    ConnFilter {
        // Names are kept in upper case.
        vserver: values.get("NAME").map(|name| name.to_ascii_uppercase()),
        real: address("REAL"),
        port: values.get("PORT").and_then(|port| port.parse().ok()),
        client: address("ADDRESS"),
    }
}

fn trace(values: &Values) -> Request {
    Request::Trace {
        // Accepted only if it parses, see `accepts`.
        client: values
            .get("ADDRESS")
            .and_then(|address| address.parse().ok())
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        vserver: values.get("NAME").map(|name| name.to_ascii_uppercase()),
        count: values.get("COUNT").and_then(|count| count.parse().ok()),
    }
}

fn is_parameter(token: &str) -> bool {
    token.starts_with(|first: char| first.is_ascii_uppercase())
}

fn accepts(parameter: &str, word: &str) -> bool {
    match parameter {
        "SLOT" => word.parse::<u8>().is_ok_and(|slot| slot > 0),
        "COUNT" => word.parse::<u64>().is_ok_and(|count| (1..=COUNT_MAX).contains(&count)),
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
pub fn parse(args: &[String]) -> Result<Meaning, UsageError> {
    let line = args.join(" ");
    let words = split(args, &line);
    let (words, filter) = match words.iter().position(|word| word.text == "|") {
        Some(bar) => (&words[..bar], Some(&words[bar + 1..])),
        None => (&words[..], None),
    };
    let wrong = |column, problem: String, continuations| {
        Err(UsageError { line: line.clone(), column, problem, continuations })
    };
    let json = match filter {
        None => false,
        Some([word]) if !word.text.is_empty() && "json".starts_with(word.text) => true,
        Some(rest) => {
            let (column, problem) = match rest.iter().find(|word| !"json".starts_with(word.text)) {
                Some(word) => (word.column, format!("unknown output form \"{}\"", word.text)),
                None => (line.chars().count() + 1, "incomplete command".to_owned()),
            };
            return wrong(column, problem, vec![continuation("json")]);
        }
    };
    let mut alive: Vec<(Vec<&'static str>, &Command)> =
        COMMANDS.iter().map(|command| (command.syntax.split(' ').collect(), command)).collect();
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
                let problem = format!("invalid word \"{}\"", word.text);
                return wrong(word.column, problem, continuations(&alive, index));
            }
        }
    }
    match alive.iter().find(|(tokens, _)| tokens.len() == words.len()) {
        Some((_, command)) => Ok(Meaning::Command { request: (command.request)(&values), json }),
        None => {
            let end = words.last().map_or(0, |word| word.column + word.text.chars().count() + 1);
            wrong(end, "incomplete command".to_owned(), continuations(&alive, words.len()))
        }
    }
}

/// The commands' first words.
#[must_use]
pub fn help() -> Vec<Continuation> {
    let all: Vec<_> = COMMANDS.iter().map(|command| (command.syntax.split(' ').collect(), command)).collect();
    continuations(&all, 0)
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
