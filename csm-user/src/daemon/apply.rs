//! Another configuration in force, while connections go on: all of it, or nothing.
//!
//! Everything that can be refused is refused before anything is touched. Then next hops are found for old and new
//! reals, the probes get their targets (so that a new real is no sooner taken for healthy than at a start), the maps are
//! brought in line, and what only the old configuration named is let go. Whoever comes second waits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use csm_common::gate::GateState;
use csm_common::net::PORT_FT;
use tokio::sync::mpsc;

use super::host;
use super::node::Node;
use super::repeat::Repeat;
use super::restart::Restarting;
use super::router;
use super::saved::Next;
use super::vmac::{OwnMacs, own_mac};
use crate::api::backend::{ConfigBackend, Fault};
use crate::api::reply::config::{
    ChangeMode, ChangeReply, ChangeRequest, DifferenceReply, DifferenceSide, RunningConfigReply,
};
use crate::arp::announcer::{self, Announcer};
use crate::config::difference::{self, Difference, Side};
use crate::config::{self, Severity};
use crate::dataplane::load::PortSpec;
use crate::dataplane::plan::{Desired, needed_hops};
use crate::dataplane::ring::Delta;
use crate::dataplane::table::monotonic_ns;
use crate::ft::FtCommand;
use crate::model::change::needs_restart;
use crate::model::{Config, Host, VlanId};
use crate::neigh::groups::Groups;
use crate::probe::target::targets;
use crate::probe::task::ProbeReloads;
use crate::secure::Keys;

/// Lines of a change that are logged; the rest is counted.
const LOGGED_MAX: usize = 20;

/// How long an answer to the peer takes at most that must be out before the node starts anew.
const ANSWER_FIRST: Duration = Duration::from_millis(300);

/// What a change needs besides the maps.
pub struct Changes {
    /// One change at a time.
    state: Mutex<Pending>,
    probes: ProbeReloads,
    announcer: Arc<Announcer>,
    groups: Mutex<Groups>,
    wishes: mpsc::Sender<Wish>,
    /// The peer is being compared, or synchronized.
    pub(super) comparing: Repeat,
    /// The peer's boot and the configuration that it took last by itself: if it still calls its own another one, as other
    /// software may, it is not given again.
    pub(super) given: Mutex<Option<(u64, u64)>>,
    /// What stands against synchronizing it by itself, as the log has it.
    pub(super) standing: Mutex<Option<String>>,
    /// Boot nonce of the peer whose directories were compared last.
    pub(super) greeted: AtomicU64,
}

/// What a change leaves to the event loop.
#[derive(Debug)]
pub enum Wish {
    /// Addresses came that nobody has heard of.
    Announce,
    /// They are announced in other intervals.
    Refresh,
    /// To be taken back at that time, unless confirmed; the number is that of the change.
    Revert(Instant, u64),
    /// The peer's configuration is to be compared.
    CheckSync,
    /// To be started anew, if that can be.
    Reload {
        /// How.
        wanted: Restarting,
        /// Whatever clients might notice.
        force: bool,
        /// What is known of that start since just now.
        next: Option<Box<Next>>,
    },
    /// To be started anew for the peer, whose configuration or image the copy holds: unless this node is active by then.
    Follow(Restarting),
    /// To be started anew at that time, unless cancelled; the number is that of the plan.
    ReloadAt {
        /// When.
        at: Instant,
        /// Of the plan.
        number: u64,
        /// How.
        wanted: Restarting,
        /// Whatever clients might notice.
        force: bool,
    },
}

/// A change that is still to be confirmed.
#[derive(Default)]
struct Pending {
    last: u64,
    revert: Option<Revert>,
}

struct Revert {
    number: u64,
    before: Arc<Config>,
    at: Instant,
}

impl Changes {
    /// No change yet; `wishes` go to the event loop.
    #[must_use]
    pub fn new(
        probes: ProbeReloads,
        announcer: Arc<Announcer>,
        groups: Groups,
        wishes: mpsc::Sender<Wish>,
    ) -> Self {
        Self {
            state: Mutex::default(),
            probes,
            announcer,
            groups: Mutex::new(groups),
            wishes,
            comparing: Repeat::default(),
            given: Mutex::default(),
            standing: Mutex::default(),
            greeted: AtomicU64::new(0),
        }
    }

    /// What a takeover announces.
    pub(super) fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds off changes while the guard lives; `None` if one is still to be confirmed.
    pub(super) fn settled(&self) -> Option<impl Drop + '_> {
        Some(self.lock()).filter(|pending| pending.revert.is_none())
    }

    /// Whether a change is under way, or one may still be taken back. Waits for nothing: a change of thousands of virtual servers takes
    /// longer than the event loop may be held up.
    pub(super) fn is_unsettled(&self) -> bool {
        match self.state.try_lock() {
            Ok(pending) => pending.revert.is_some(),
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().revert.is_some(),
        }
    }

    /// For the event loop, in a moment: whoever asked for it is to have the answer first.
    pub(super) fn wish_soon(&self, runtime: &tokio::runtime::Handle, wish: Wish) {
        let wishes = self.wishes.clone();
        runtime.spawn(async move {
            tokio::time::sleep(ANSWER_FIRST).await;
            // The loop has ended: the node is being stopped.
            let _ended = wishes.send(wish).await;
        });
    }

    /// For the event loop.
    pub(super) fn wish(&self, wish: Wish) {
        // The loop has ended: the node is being stopped.
        let _ended = self.wishes.blocking_send(wish);
    }
}

/// The neighbours that module and router need whatever the traffic.
pub(super) fn wanted(config: &Config) -> HashSet<Host> {
    needed_hops(config).into_iter().chain(router::gateways(config)).collect()
}

/// The neighbours whose MAC addresses `config` knows.
pub(super) fn fixed(config: &Config) -> HashMap<Host, [u8; 6]> {
    config.arps.iter().map(|arp| (Host::on(arp.address, arp.vlan.get()), arp.mac)).collect()
}

/// The addresses that each data port announces.
#[must_use]
pub(super) fn announced<'a>(
    desired: &Desired,
    specs: impl Iterator<Item = &'a PortSpec>,
    macs: &OwnMacs,
) -> Vec<announcer::Port> {
    let announced = desired.announced();
    let of =
        |vlan: u16| announced.iter().filter(move |(on, _)| on.get() == vlan).map(|(_, address)| *address);
    specs
        .filter(|spec| spec.role != PORT_FT)
        .map(|spec| announcer::Port {
            ifindex: spec.ifindex,
            tag: if spec.tagged { spec.vlan } else { 0 },
            mac: own_mac(macs, spec),
            addresses: of(spec.vlan).collect(),
        })
        .collect()
}

/// The IPv6 addresses that hosts ask for by multicast, with the interface on which the kernel takes part in their VLAN.
pub fn solicited<'a>(desired: &Desired, specs: impl Iterator<Item = &'a PortSpec>) -> Vec<(u32, Ipv6Addr)> {
    let interfaces: BTreeMap<u16, u32> = specs.map(|spec| (spec.vlan, spec.kernel_ifindex())).collect();
    let of = |(vlan, address): (VlanId, IpAddr)| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some((*interfaces.get(&vlan.get())?, address)),
    };
    desired.announced().into_iter().filter_map(of).collect()
}

/// How long after a change could not be taken back that is tried again.
const REVERT_RETRY: Duration = Duration::from_secs(10);

impl ConfigBackend for Node {
    fn running_config(&self) -> Result<RunningConfigReply, Fault> {
        Ok(RunningConfigReply { text: config::print(&self.config()) })
    }

    fn change_config(&self, request: &ChangeRequest) -> Result<ChangeReply, Fault> {
        let mut pending = self.changes.lock();
        let before = self.config();
        let (after, findings) = candidate(&before, request)?;
        let differences = self.put_in_force(&before, after)?;
        if !differences.is_empty() {
            self.changes.wish(Wish::CheckSync);
        }
        if let Some(seconds) = request.revert_s {
            let at = Instant::now() + Duration::from_secs(u64::from(seconds));
            pending.last += 1;
            let number = pending.last;
            // Several changes under way to one confirmation are taken back together.
            let before = pending.revert.take().map_or(before, |earlier| earlier.before);
            pending.revert = Some(Revert { number, before, at });
            self.changes.wish(Wish::Revert(at, number));
        }
        let revert = pending.revert.as_ref();
        Ok(ChangeReply {
            findings,
            differences: differences.iter().map(difference_reply).collect(),
            revert_in_s: revert.map(|revert| revert.at.saturating_duration_since(Instant::now()).as_secs()),
        })
    }

    fn confirm_config(&self) -> Result<(), Fault> {
        match self.changes.lock().revert.take() {
            Some(_) => Ok(()),
            None => Err(Fault::Refused { error: "no change waits to be confirmed".to_owned(), remedy: None }),
        }
    }
}

impl Node {
    /// The time of change `number` is over: takes it back, unless it was confirmed or another followed.
    pub fn revert(&self, number: u64) {
        let mut pending = self.changes.lock();
        let Some(revert) = pending.revert.take_if(|revert| revert.number == number) else {
            return;
        };
        tracing::warn!("a change of the configuration was not confirmed in time: it is taken back");
        if let Err(error) = self.put_in_force(&self.config(), Config::clone(&revert.before)) {
            tracing::error!(%error, "the change could not be taken back yet");
            let at = Instant::now() + REVERT_RETRY;
            pending.revert = Some(Revert { at, ..revert });
            self.changes.wish(Wish::Revert(at, number));
        }
    }

    /// Puts `after` in force, which nobody will have to confirm: what was to be taken back before is so no more.
    pub(super) fn replace(&self, after: Config) -> Result<(), Fault> {
        let mut pending = self.changes.lock();
        self.put_in_force(&self.config(), after)?;
        pending.revert = None;
        Ok(())
    }

    /// Replaces `before`, the configuration in force, by `after`. To be called with the changes locked, on a thread that
    /// may block.
    fn put_in_force(&self, before: &Config, after: Config) -> Result<Vec<Difference>, Fault> {
        let differences = difference::differences(&config::print(before), &config::print(&after));
        if *before == after {
            return Ok(differences);
        }
        let parts = needs_restart(before, &after);
        if !parts.is_empty() {
            return Err(Fault::Refused {
                error: format!("cannot be changed while csmd runs: {}", parts.join(", ")),
                remedy: Some(
                    "leave it as it is, or save a configuration with it by `copy FILE startup-config` and `reload working`".to_owned(),
                ),
            });
        }
        self.planner.fits(&after).map_err(|error| Fault::Refused {
            error: error.to_string(),
            remedy: Some("configure fewer, or wait until old connections have ended".to_owned()),
        })?;
        self.carry_out(before, after)?;
        log(self.config().slot, &differences);
        Ok(differences)
    }

    fn carry_out(&self, before: &Config, after: Config) -> Result<(), Fault> {
        let after = Arc::new(after);
        let (old, new) = (wanted(before), wanted(&after));
        let of_module = needed_hops(&after);
        let known = self.desired();
        self.neighbours.fix(&fixed(&after));
        let mut hops = self.neighbours.want(&old.union(&new).copied().collect::<HashSet<_>>());
        hops.retain(|host, _| of_module.contains(host));
        self.runtime.block_on(self.changes.probes.reload(targets(&after)));
        let health = Arc::clone(&self.health.borrow());
        let directory = self.directory.get();
        if let Err(error) = self.planner.change(&after, hops, &health) {
            self.neighbours.fix(&fixed(before));
            let _numbers = self.neighbours.want(&old);
            self.runtime.block_on(self.changes.probes.reload(targets(before)));
            return Err(Fault::Internal(format!("the configuration stays as it was: {error}")));
        }
        if self.directory.get().replicates_otherwise(&directory) {
            (self.deltas)(Delta::Rescoped);
        }
        let _numbers = self.neighbours.want(&new);
        if after.variables.gratuitous != before.variables.gratuitous {
            self.changes.announcer.set_refresh(after.variables.gratuitous);
            self.changes.wish(Wish::Refresh);
        }
        if let Err(error) = self.announce_changes(&known) {
            tracing::warn!(%error, "what is announced at a takeover could not be changed");
        }
        if self.choose_macs() {
            self.changes.wish(Wish::Announce);
        }
        self.set_stream_keys(&after);
        if let (Some(ft), Some(group)) = (&self.ft, &after.ft) {
            let (priority, preempt) = (group.priority, group.preempt);
            let configured =
                FtCommand::Configured { priority, preempt, config_checksum: host::shared_checksum(&after) };
            for command in [FtCommand::Keys(group.keys.clone()), configured] {
                if let Err(error) = ft.command(command) {
                    tracing::warn!(%error, "a command to the real-time thread was not taken");
                }
            }
        }
        Ok(())
    }

    fn set_stream_keys(&self, config: &Config) {
        let Some(group) = &config.ft else { return };
        let keys = Keys::from(&group.keys);
        if let Some(link) = &self.link {
            link.set_keys(keys.clone());
        }
        if let Some(replication) = &self.replication {
            replication.keys(keys);
        }
    }

    fn announce_changes(&self, known: &Desired) -> io::Result<()> {
        let (before, after) = (known.announced(), self.desired().announced());
        if before == after {
            return Ok(());
        }
        let specs = || self.ports.iter().map(|port| &port.spec);
        // What a takeover announces does not hang on who is asked by multicast.
        let macs = self.macs.used();
        let announces = self.changes.announcer.set_ports(&announced(&self.desired(), specs(), &macs));
        drop(macs);
        let mut groups = self.changes.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let joined = groups.set(solicited(&self.desired(), specs()));
        drop(groups);
        announces.and(joined)?;
        let is_new = after.iter().any(|address| !before.contains(address));
        if is_new && self.gate.load().state_at(monotonic_ns()) == GateState::Open {
            self.changes.wish(Wish::Announce);
        }
        Ok(())
    }
}

/// The configuration that `request` asks for, and what is said of its text.
pub(super) fn candidate(running: &Config, request: &ChangeRequest) -> Result<(Config, String), Fault> {
    let ChangeRequest { mode, name, text, .. } = request;
    let facts = host::facts().map_err(|error| Fault::Internal(format!("this host's interfaces: {error}")))?;
    let (config, report, errors) = match mode {
        ChangeMode::Replace => {
            let outcome = config::check(name, text, &facts);
            let errors = outcome.errors();
            (outcome.config, config::render(name, text, &outcome.diagnostics), errors)
        }
        ChangeMode::Edit => {
            let edit = config::edit(running, name, text, &facts);
            let is_error = |found: &&config::Diagnostic| found.severity == Severity::Error;
            let errors = edit.outcome.errors() + edit.running.iter().filter(is_error).count();
            let report = edit.report(name, text);
            (edit.outcome.config, report, errors)
        }
    };
    match config {
        Some(config) => Ok((config, report)),
        None => Err(Fault::Rejected { errors, report }),
    }
}

fn log(slot: u8, differences: &[Difference]) {
    tracing::info!("%SYS-5-CONFIG_I: Module {slot} configured, {} lines differ", differences.len());
    log_lines(differences.iter().take(LOGGED_MAX));
}

/// One line of log each.
pub(super) fn log_lines<'a>(differences: impl Iterator<Item = &'a Difference>) {
    for found in differences {
        let mark = if found.side == Side::First { '-' } else { '+' };
        tracing::info!("{mark} {}", config::without_secrets(&found.to_string()));
    }
}

pub(super) fn difference_reply(found: &Difference) -> DifferenceReply {
    DifferenceReply {
        section: found.section.clone(),
        line: found.line.clone(),
        side: match found.side {
            Side::First => DifferenceSide::Removed,
            Side::Second => DifferenceSide::Added,
        },
    }
}
