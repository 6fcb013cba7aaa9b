//! The commands of the privileged mode, their words and help.

use std::net::{IpAddr, Ipv4Addr};

use super::{Continuation, Request, Shell, Show, Values, Word};
use crate::api::reply::{ConnFilter, ReloadRequest, StateDirectory, StickyFilter, VlanRole};
use crate::cli::configure::Change;
use crate::cli::select::Select;
use crate::cli::state::Action;

/// A command.
pub(super) struct Command {
    /// Its words.
    pub(super) syntax: &'static str,
    /// What it asks for.
    pub(super) request: fn(&Values) -> Request,
}

/// What `show module csm N` of a CSM has besides, and why it is not here.
const REFUSED: [(&str, &str); 9] = [
    ("capp", "CAPP is not supported"),
    ("dfp", "DFP is not supported"),
    ("map", "it works on layer 7"),
    ("memory", "the tables do not grow: `check host FILE` says what they take"),
    ("pvlan", "private VLANs are the switch's"),
    ("redirect", "it works on layer 7"),
    ("script", "scripts are not supported"),
    ("variable", "there are no variables: what they set has commands of its own"),
    ("xml", "the module's XML interface is not supported: the API is described in docs/api.md"),
];

/// Why a CSM's `show module csm N WORD`, the last of `words`, is not here.
pub(super) fn refused(words: &[Word<'_>]) -> Option<&'static str> {
    let [show, module, csm, _slot, word] = words else { return None };
    let stands = [(show, "show"), (module, "module"), (csm, "csm")];
    let is_show = stands
        .iter()
        .all(|(word, full)| !word.text.is_empty() && full.starts_with(&word.text.to_ascii_lowercase()));
    REFUSED.iter().find(|(known, _)| is_show && known.eq_ignore_ascii_case(word.text)).map(|(_, why)| *why)
}

/// Those that the daemon, a file or this host answers.
pub(super) const COMMANDS: &[Command] = &[
    Command { syntax: "check FILE", request: |v| Request::Check { file: text(v, "FILE") } },
    Command { syntax: "check host", request: |_| Request::CheckHost { file: None } },
    Command { syntax: "check host FILE", request: |v| Request::CheckHost { file: Some(text(v, "FILE")) } },
    Command { syntax: "clear module csm SLOT connections", request: clear_conns },
    Command { syntax: "clear module csm SLOT connections client ADDRESS", request: clear_conns },
    Command { syntax: "clear module csm SLOT connections real REAL", request: clear_conns },
    Command { syntax: "clear module csm SLOT connections real REAL PORT", request: clear_conns },
    Command { syntax: "clear module csm SLOT connections vserver NAME", request: clear_conns },
    Command { syntax: "clear module csm SLOT arp-cache", request: |v| select(v, Select::ClearNeighbours) },
    Command { syntax: "clear module csm SLOT counters", request: |v| select(v, Select::ClearCounters) },
    Command { syntax: "clear module csm SLOT sticky", request: clear_sticky },
    Command { syntax: "clear module csm SLOT sticky client ADDRESS", request: clear_sticky },
    Command { syntax: "clear module csm SLOT sticky group GROUP", request: clear_sticky },
    Command { syntax: "show module csm SLOT policy", request: |v| select(v, Select::Policy(None)) },
    Command {
        syntax: "show module csm SLOT policy POLICY",
        request: |v| select(v, Select::Policy(Some(name(v, "POLICY")))),
    },
    Command {
        syntax: "show module csm SLOT owner",
        request: |v| select(v, Select::Owner { name: None, detail: false }),
    },
    Command {
        syntax: "show module csm SLOT owner detail",
        request: |v| select(v, Select::Owner { name: None, detail: true }),
    },
    Command {
        syntax: "show module csm SLOT owner OWNER",
        request: |v| select(v, Select::Owner { name: Some(name(v, "OWNER")), detail: false }),
    },
    Command {
        syntax: "show module csm SLOT owner OWNER detail",
        request: |v| select(v, Select::Owner { name: Some(name(v, "OWNER")), detail: true }),
    },
    Command { syntax: "show module csm SLOT static", request: |v| select(v, Select::Static) },
    Command {
        syntax: "show module csm SLOT probe detail",
        request: |v| select(v, Select::ProbeDetail(None)),
    },
    Command {
        syntax: "show module csm SLOT probe PROBE detail",
        request: |v| select(v, Select::ProbeDetail(Some(name(v, "PROBE")))),
    },
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
    Command { syntax: "import FILE", request: |v| Request::Import { file: text(v, "FILE") } },
    Command { syntax: "show tech-support", request: |_| Request::TechSupport },
    Command { syntax: "show module csm SLOT tech-support", request: |_| Request::TechSupport },
    Command { syntax: "show module csm SLOT tech-support all", request: |_| Request::TechSupport },
    Command { syntax: "show module csm SLOT variable", request: |v| select(v, Select::Variable(None)) },
    Command {
        syntax: "show module csm SLOT variable VARIABLE",
        request: |v| select(v, Select::Variable(Some(text(v, "VARIABLE")))),
    },
    Command { syntax: "show module csm SLOT natpool", request: |v| select(v, Select::Natpool(None)) },
    Command {
        syntax: "show module csm SLOT natpool POOL",
        request: |v| select(v, Select::Natpool(Some(name(v, "POOL")))),
    },
    Command { syntax: "show module csm SLOT probe", request: |v| select(v, Select::Probe(None)) },
    Command {
        syntax: "show module csm SLOT probe PROBE",
        request: |v| select(v, Select::Probe(Some(name(v, "PROBE")))),
    },
    Command { syntax: "show module csm SLOT reals sfarm FARM", request: |v| reals(v, false) },
    Command { syntax: "show module csm SLOT reals sfarm FARM detail", request: |v| reals(v, true) },
    Command {
        syntax: "show module csm SLOT serverfarms FARM",
        request: |v| select(v, Select::Serverfarm(name(v, "FARM"))),
    },
    // The listing has all about each already.
    Command { syntax: "show module csm SLOT serverfarms detail", request: |v| show(v, Show::Serverfarms) },
    Command {
        syntax: "show module csm SLOT serverfarms FARM detail",
        request: |v| select(v, Select::Serverfarm(name(v, "FARM"))),
    },
    Command { syntax: "show module csm SLOT vlan detail", request: |v| show(v, Show::Vlan) },
    Command { syntax: "show module csm SLOT sticky groups", request: |v| select(v, Select::StickyGroups) },
    Command { syntax: "show module csm SLOT status", request: |v| select(v, Select::Status) },
    Command { syntax: "show module csm SLOT sticky client ADDRESS", request: sticky },
    Command { syntax: "show module csm SLOT sticky group GROUP", request: sticky },
    Command {
        syntax: "show module csm SLOT vlan client",
        request: |v| select(v, Select::VlanRole(VlanRole::Client)),
    },
    Command {
        syntax: "show module csm SLOT vlan ft",
        request: |v| select(v, Select::VlanRole(VlanRole::Ft)),
    },
    Command {
        syntax: "show module csm SLOT vlan server",
        request: |v| select(v, Select::VlanRole(VlanRole::Server)),
    },
    Command {
        syntax: "show module csm SLOT vlan VLAN",
        request: |v| {
            let vlan = values_number(v, "VLAN");
            select(v, Select::Vlan(vlan))
        },
    },
    Command { syntax: "show module csm SLOT vservers NAME", request: |v| vserver(v, false) },
    Command { syntax: "show module csm SLOT vservers NAME detail", request: |v| vserver(v, true) },
    Command { syntax: "copy FILE working image", request: |v| Request::SetImage { file: text(v, "FILE") } },
    Command { syntax: "delete working image", request: |_| Request::State(Action::DropImage) },
    Command { syntax: "reload", request: |v| reload(v, None, false) },
    Command { syntax: "reload force", request: |v| reload(v, None, true) },
    Command { syntax: "reload in DELAY", request: |v| reload(v, None, false) },
    Command { syntax: "reload in DELAY force", request: |v| reload(v, None, true) },
    Command { syntax: "reload certified", request: |v| reload(v, CERTIFIED, false) },
    Command { syntax: "reload certified force", request: |v| reload(v, CERTIFIED, true) },
    Command { syntax: "reload certified in DELAY", request: |v| reload(v, CERTIFIED, false) },
    Command { syntax: "reload certified in DELAY force", request: |v| reload(v, CERTIFIED, true) },
    Command { syntax: "reload working", request: |v| reload(v, WORKING, false) },
    Command { syntax: "reload working force", request: |v| reload(v, WORKING, true) },
    Command { syntax: "reload working in DELAY", request: |v| reload(v, WORKING, false) },
    Command { syntax: "reload working in DELAY force", request: |v| reload(v, WORKING, true) },
    Command { syntax: "reload working rollback-timeout MINUTES", request: |v| reload(v, WORKING, false) },
    Command {
        syntax: "reload working rollback-timeout MINUTES force",
        request: |v| reload(v, WORKING, true),
    },
    Command { syntax: "reload working rollback-timeout sec SECONDS", request: |v| reload(v, WORKING, false) },
    Command {
        syntax: "reload working rollback-timeout sec SECONDS force",
        request: |v| reload(v, WORKING, true),
    },
    Command {
        syntax: "reload working in DELAY rollback-timeout MINUTES",
        request: |v| reload(v, WORKING, false),
    },
    Command {
        syntax: "reload working in DELAY rollback-timeout MINUTES force",
        request: |v| reload(v, WORKING, true),
    },
    Command { syntax: "reload cancel", request: |_| Request::State(Action::CancelReload) },
    // What waits for its time stands below the directories.
    Command { syntax: "show reload", request: |_| Request::State(Action::Directory) },
    Command { syntax: "show running-directory", request: |_| Request::State(Action::Directory) },
    // As the stack's guide prints it above the directory's listing.
    Command { syntax: "show running-configuration", request: |_| Request::State(Action::Directory) },
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
    Command {
        syntax: "show module csm SLOT ft readiness",
        request: |v| Request::Readiness { slot: Some(slot(v)) },
    },
    Command { syntax: "show module csm SLOT ft explain", request: |v| show(v, Show::Explain) },
    Command { syntax: "show ft readiness", request: |_| Request::Readiness { slot: None } },
    Command { syntax: "ft explain", request: |_| Request::Show { slot: None, what: Show::Explain } },
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

/// Those of the shell itself.
pub(super) const SHELL: &[Command] = &[
    Command { syntax: "disable", request: |_| Request::Shell(Shell::Nothing) },
    Command { syntax: "enable", request: |_| Request::Shell(Shell::Nothing) },
    Command { syntax: "end", request: |_| Request::Shell(Shell::Nothing) },
    Command { syntax: "exit", request: |_| Request::Shell(Shell::Leave) },
    Command { syntax: "logout", request: |_| Request::Shell(Shell::Leave) },
    Command { syntax: "quit", request: |_| Request::Shell(Shell::Leave) },
    Command { syntax: "show history", request: |_| Request::Shell(Shell::History) },
    Command { syntax: "terminal length LINES", request: |v| Request::Shell(Shell::Length(lines(v))) },
];

/// Longest delay of a reload, in minutes: a week.
pub(super) const DELAY_MAX: u32 = 10_080;
/// Longest trace, in packets.
pub(super) const COUNT_MAX: u64 = 1_000_000;

/// Every word.
pub(super) const WORDS: &[Continuation] = &[
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
    Continuation { word: "arp-cache", help: "ask for all next hops again" },
    Continuation { word: "counters", help: "count from 0 again" },
    Continuation { word: "policy", help: "what virtual servers do with a client" },
    Continuation { word: "owner", help: "whose virtual servers are" },
    Continuation { word: "static", help: "connections that servers open" },
    Continuation { word: "cancel", help: "call off what waits for its time" },
    Continuation { word: "delete", help: "what a directory holds" },
    Continuation { word: "force", help: "even if the peer could not take over now" },
    Continuation { word: "image", help: "the program that a start executes" },
    Continuation { word: "in", help: "after so many minutes" },
    Continuation { word: "rollback-timeout", help: "back to certified unless it is said that it stays" },
    Continuation { word: "DELAY", help: "minutes, 1-10080" },
    Continuation { word: "count", help: "end after so many packets" },
    Continuation { word: "csm", help: "Content Switching Module" },
    Continuation { word: "detail", help: "all about each" },
    Continuation { word: "disable", help: "for those who are used to it: there is one level of privilege" },
    Continuation { word: "enable", help: "the same" },
    Continuation { word: "end", help: "leave all modes of the configuration" },
    Continuation { word: "exit", help: "leave" },
    Continuation { word: "history", help: "what was typed" },
    Continuation { word: "length", help: "lines to a page, 0: no pages" },
    Continuation { word: "logout", help: "leave" },
    Continuation { word: "quit", help: "leave" },
    Continuation { word: "diff", help: "- only in the file, + only in force" },
    Continuation { word: "explain", help: "why this box has its role, what would change it" },
    Continuation { word: "flash-synchro", help: "on the peer, too" },
    Continuation { word: "flash-syncro", help: "the same, as the stack's guide prints it" },
    Continuation { word: "ft", help: "fault tolerance" },
    Continuation { word: "host", help: "this host: kernel, drivers, scheduling" },
    Continuation { word: "hw-module", help: "a module's other half" },
    Continuation { word: "groups", help: "who shares which group" },
    Continuation { word: "group", help: "of one group only" },
    Continuation { word: "import", help: "a CSM's show running-config, without a daemon" },
    Continuation { word: "variable", help: "what `variable` lines set" },
    Continuation { word: "VARIABLE", help: "name of a variable" },
    Continuation { word: "natpool", help: "pools of client NAT" },
    Continuation { word: "probe", help: "health probes" },
    Continuation { word: "server", help: "server VLANs only" },
    Continuation { word: "sfarm", help: "of one server farm only" },
    Continuation { word: "status", help: "the module" },
    Continuation { word: "tech-support", help: "everything for somebody far away, keys left out" },
    Continuation { word: "json", help: "the same facts for programs" },
    Continuation { word: "module", help: "a module" },
    Continuation { word: "readiness", help: "whether a box may be lost now, exit status 0 or 1" },
    Continuation { word: "real", help: "of one real server only" },
    Continuation { word: "reals", help: "real servers" },
    Continuation { word: "reload", help: "execute csmd anew, while what it forwards goes on" },
    Continuation { word: "replace", help: "by a file, all of it at once" },
    Continuation { word: "revert", help: "take it back unless it is confirmed" },
    Continuation { word: "running-config", help: "the configuration in force" },
    Continuation { word: "running-configuration", help: "the directory, as the stack's guide prints it" },
    Continuation { word: "running-directory", help: "which copy this node was started from" },
    Continuation { word: "sec", help: "in seconds" },
    Continuation { word: "serverfarms", help: "server farms" },
    Continuation { word: "show", help: "the state of the system" },
    Continuation { word: "standby", help: "the peer; HSRP groups" },
    Continuation { word: "startup-config", help: "what a start takes" },
    Continuation { word: "stats", help: "counters" },
    Continuation { word: "sticky", help: "sticky entries" },
    Continuation { word: "trace", help: "the walk of a client's packets through the XDP program" },
    Continuation {
        word: "terminal",
        help: "by lines: of standard input all at once, in the shell one by one",
    },
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
    Continuation { word: "FARM", help: "name of a server farm" },
    Continuation { word: "GROUP", help: "sticky group, 0-255" },
    Continuation { word: "POOL", help: "name of a pool" },
    Continuation { word: "PROBE", help: "name of a probe" },
    Continuation { word: "OWNER", help: "name of an owner" },
    Continuation { word: "POLICY", help: "name of a policy" },
    Continuation { word: "VLAN", help: "number of a VLAN" },
    Continuation { word: "LINES", help: "0-512" },
    Continuation { word: "MINUTES", help: "1-120" },
    Continuation { word: "NAME", help: "name of a virtual server" },
    Continuation { word: "SECONDS", help: "1-7200" },
    Continuation { word: "PORT", help: "port at the real server, 1-65535" },
    Continuation { word: "REAL", help: "IPv4 or IPv6 address of a real server" },
    Continuation { word: "SLOT", help: "number of the module, 1-255" },
];

fn select(values: &Values, what: Select) -> Request {
    Request::Select { slot: slot(values), what }
}

/// A name, which is kept in capitals.
fn name(values: &Values, parameter: &str) -> String {
    text(values, parameter).to_ascii_uppercase()
}

fn values_number(values: &Values, parameter: &str) -> u16 {
    // Accepted only if it parses, see `accepts`.
    values.get(parameter).and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn reals(values: &Values, detail: bool) -> Request {
    select(values, Select::Reals { farm: name(values, "FARM"), detail })
}

fn vserver(values: &Values, detail: bool) -> Request {
    select(values, Select::Vserver { name: name(values, "NAME"), detail })
}

fn sticky(values: &Values) -> Request {
    let client = values.get("ADDRESS").and_then(|address| address.parse().ok());
    let group = values.get("GROUP").and_then(|group| group.parse().ok());
    select(values, Select::Sticky { client, group })
}

fn clear_sticky(values: &Values) -> Request {
    let client = values.get("ADDRESS").and_then(|address| address.parse().ok());
    let group = values.get("GROUP").and_then(|group| group.parse().ok());
    select(values, Select::ClearSticky(StickyFilter { group, client }))
}

fn lines(values: &Values) -> usize {
    // Accepted only if it parses, see `accepts`.
    values.get("LINES").and_then(|lines| lines.parse().ok()).unwrap_or_default()
}

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

const WORKING: Option<StateDirectory> = Some(StateDirectory::Working);
const CERTIFIED: Option<StateDirectory> = Some(StateDirectory::Certified);

fn reload(values: &Values, directory: Option<StateDirectory>, force: bool) -> Request {
    let number = |parameter| values.get(parameter).and_then(|number| number.parse::<u32>().ok());
    let minutes = |parameter| number(parameter).map(|minutes| minutes * 60);
    Request::State(Action::Reload(ReloadRequest {
        directory,
        in_s: minutes("DELAY"),
        rollback_s: number("SECONDS").or(minutes("MINUTES")),
        force,
    }))
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
