//! Configuration synchronization within the daemon: both ends of the exchange, and the check after each change.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use super::apply::{self, Wish};
use super::host;
use super::node::Node;
use super::restart::Restarting;
use crate::api::backend::{Fault, SyncBackend};
use crate::api::reply::{DifferenceReply, SyncReply};
use crate::config;
use crate::config::difference::Difference;
use crate::ft::State;
use crate::model::FtGroup;
use crate::model::change::needs_restart;
use crate::state::Directory;
use crate::state::image::Image;
use crate::state::program::Program;
use crate::sync::directory::is_to_distribute;
use crate::sync::exchange::{self, for_peer};
use crate::sync::task::{Link, Server, serve};
use crate::sync::wire::{Ask, Reply};

/// What findings call a configuration that came from the peer.
const NAME: &str = "peer";
/// Differing lines that are logged; the rest is counted.
const LOGGED_MAX: usize = 20;

/// Answers the peer from now on; `None` without an FT group.
///
/// # Errors
/// If the port cannot be listened on.
pub(super) fn start(node: &Arc<Node>) -> std::io::Result<Option<Server>> {
    let Some(link) = &node.link else { return Ok(None) };
    let node = Arc::downgrade(node);
    let answer = move |ask| match Weak::upgrade(&node) {
        Some(node) => node.answer(ask),
        None => refusal("the node is being stopped"),
    };
    serve(Arc::clone(link), answer).map(Some)
}

fn refusal(error: impl Into<String>) -> Reply {
    Reply::Refused { error: error.into(), report: None }
}

fn refused(error: impl Into<String>, remedy: &str) -> Fault {
    Fault::Refused { error: error.into(), remedy: Some(remedy.to_owned()) }
}

impl Node {
    /// What the peer gets to hear.
    fn answer(&self, ask: Ask) -> Reply {
        let done = match ask {
            Ask::Shared => return Reply::Shared(exchange::shared(&self.config())),
            Ask::Facts => {
                return self.facts_for_peer().map_or_else(|error| refusal(error.to_string()), Reply::Facts);
            }
            Ask::Apply(text) => self.take_over(&text),
            Ask::Save(text) => self.store(&text, None, false),
            Ask::Directory => match self.box_directory() {
                Ok(directory) => return Reply::Directory(Box::new(directory)),
                Err(fault) => Err(fault),
            },
            Ask::ImageHeld { .. } | Ask::ImagePart { .. } | Ask::ImageWhole { .. } => {
                return self.answer_image(&ask);
            }
            Ask::SaveWithImage { text, image, start } => match Program::parse(&image) {
                Some(program) => self.store(&text, Some(&program), start),
                None => Err(Fault::Internal("that is no image's name".to_owned())),
            },
        };
        match done {
            Ok(reloads) => Reply::Done { reloads },
            Err(Fault::Rejected { errors, report }) => Reply::Refused {
                error: format!("the configuration has faults there: {errors}"),
                report: Some(report),
            },
            Err(Fault::Refused { error, .. } | Fault::Internal(error)) => refusal(error),
        }
    }

    fn state(&self) -> Option<State> {
        self.ft.as_ref().map(|ft| ft.status().state)
    }

    /// The peer's configuration as this node's.
    fn of_peer(&self, text: &str) -> Result<crate::model::Config, Fault> {
        let facts =
            host::facts().map_err(|error| Fault::Internal(format!("this host's interfaces: {error}")))?;
        let outcome = exchange::received(&self.config(), NAME, text, &facts);
        let errors = outcome.errors();
        outcome.config.ok_or_else(|| Fault::Rejected {
            errors,
            report: config::render(NAME, text, &outcome.diagnostics),
        })
    }

    /// Puts the peer's configuration in force: at once, or, where that cannot be, by starting anew with it. A standby
    /// may do that at any time.
    fn take_over(&self, text: &str) -> Result<bool, Fault> {
        if self.state() == Some(State::Active) {
            return Err(Fault::Internal("that box is active, too".to_owned()));
        }
        let after = self.of_peer(text)?;
        let parts = needs_restart(&self.config(), &after);
        tracing::info!("the peer synchronizes the configuration");
        if parts.is_empty() {
            self.replace(after)?;
            return Ok(false);
        }
        if self.saved.is_none() {
            return Err(Fault::Internal(format!(
                "its csmd runs without --state and cannot start anew, which is needed for {}",
                parts.join(", ")
            )));
        }
        if self.copy(Directory::Working)?.program().is_some_and(|program| self.runs_other(program)) {
            return Err(Fault::Internal(format!(
                "it would have to start anew for {}, and its `working` names an image that it does not run: `reload working` or \
                 `delete working image` there",
                parts.join(", ")
            )));
        }
        self.save_working(&config::print(&after))?;
        let anew = Restarting { from: Some(Directory::Working), rollback: None };
        self.changes.wish_soon(&self.runtime, Wish::Follow(anew));
        Ok(true)
    }

    /// Both directories as the peer has them; `start`: they are to run, too.
    fn store(&self, text: &str, program: Option<&Program>, start: bool) -> Result<bool, Fault> {
        if self.state() == Some(State::Active) {
            return Err(refused("that box is active", "give the command on the active box"));
        }
        let text = config::print(&self.of_peer(text)?);
        let _one = self.saving();
        let before = self.copy(Directory::Working)?;
        self.save(Directory::Working, &text, program)?;
        // A start takes the certified copy while the two differ.
        if let Err(fault) = self.next_program(Some(Directory::Working)) {
            if let Image::Whole { text, program, .. } = &before {
                self.save(Directory::Working, text, program.as_ref())?;
            }
            return Err(Fault::Internal(format!("a start would fail there: {fault}")));
        }
        self.save(Directory::Certified, &text, program)?;
        self.forget_programs();
        let starts = start && program.is_some_and(|program| self.runs_other(program));
        if starts {
            tracing::info!("the peer gave this box an image: starting anew with it");
            self.changes.wish_soon(&self.runtime, Wish::Follow(Restarting::default()));
        }
        Ok(starts)
    }

    pub(super) fn ask(&self, ask: Ask) -> Result<Reply, Fault> {
        let Some(link) = &self.link else {
            return Err(refused("no FT group is configured", "configure `ft group N vlan M`"));
        };
        let reply = self.runtime.block_on(link.ask(ask));
        let reply =
            reply.map_err(|error| refused(error.to_string(), "see `show module csm N ft` on both boxes"))?;
        match reply {
            Reply::Refused { error, report: None } => {
                Err(refused(format!("the peer refuses: {error}"), "nothing was changed there"))
            }
            Reply::Refused { error, report: Some(report) } => {
                tracing::warn!("the peer refuses: {error}");
                Err(Fault::Rejected { errors: report.matches(": error: ").count(), report })
            }
            reply => Ok(reply),
        }
    }

    /// This node's configuration, or `config`, as text for the peer.
    fn text_for_peer(config: &crate::model::Config) -> Result<String, Fault> {
        let other = for_peer(config).map_err(|missing| {
            let list: Vec<_> = missing.iter().map(ToString::to_string).collect();
            refused(list.join("; "), "name the peer's address: `ip address OWN MASK alt PEER MASK`")
        })?;
        Ok(config::print(&other))
    }

    /// `flash-synchro`: both copies on the peer hold `text`, as it is to be there, and name `program`, which it gets before
    /// if it has not got it. `start`: it is to run it, too.
    ///
    /// # Errors
    /// If the peer has no state directory, does not answer, or an `alt` is missing.
    pub(super) fn distribute(&self, text: &str, program: Option<&Program>, start: bool) -> Result<(), Fault> {
        let outcome = config::check("working", text, &config::HostFacts::default());
        let report = config::render("working", text, &outcome.diagnostics);
        let errors = outcome.errors();
        let config = outcome.config.ok_or(Fault::Rejected { errors, report })?;
        let text = Self::text_for_peer(&config)?;
        let Some(program) = program else { return self.ask(Ask::Save(text)).map(drop) };
        self.send_program(program)?;
        self.ask(Ask::SaveWithImage { text, image: program.to_string(), start }).map(drop)
    }

    /// The commands that one of the pair has and the other has not.
    fn differing(&self) -> Result<Vec<Difference>, Fault> {
        match self.ask(Ask::Shared)? {
            Reply::Shared(peer) => Ok(exchange::out_of_sync(&peer, &exchange::shared(&self.config()))),
            _ => Err(Fault::Internal("the peer's answer does not belong to the question".to_owned())),
        }
    }

    /// Whether this node has to give its configuration to a peer that has another: `sync auto`, on the active node. Waits
    /// for nothing: the event loop asks.
    pub(super) fn is_to_sync(&self) -> bool {
        self.config().ft.as_ref().is_some_and(|ft| ft.sync_auto)
            && !self.changes.is_unsettled()
            && self.reloads.left().1.is_none()
            && self.ft.as_ref().map(crate::ft::FtControl::status).is_some_and(|status| {
                let greeted = self.changes.greeted.load(Ordering::Acquire);
                let other = |peer: &crate::ft::status::PeerStatus| {
                    let is_new = self.saved.is_some() && peer.nonce != greeted;
                    let differs =
                        !peer.config_in_sync && (peer.software_in_sync || !self.was_given(peer.nonce));
                    (differs || is_new) && peer.state != State::Active
                };
                status.state == State::Active && status.peer.as_ref().is_some_and(other)
            })
    }

    /// Whether the peer, of that boot, has taken what is in force here.
    fn was_given(&self, nonce: u64) -> bool {
        let given = self.changes.given.lock().unwrap_or_else(PoisonError::into_inner);
        *given == Some((nonce, host::shared_checksum(&self.config())))
    }

    /// After a change, or where [`Node::is_to_sync`]: the peer gets this node's configuration if it is to have it by itself;
    /// else the log says what it has not. Without a peer there is nothing to say.
    pub(super) fn check_sync(&self) {
        // One at a time: a later one may have the older text. But what it has seen may be old, too, when it ends.
        if !self.changes.comparing.ask() {
            return;
        }
        self.compare();
        while !self.changes.comparing.is_done() {
            self.compare();
        }
    }

    /// Whether what runs here may be taken back yet: a change, or a start. The peer does not get it before.
    fn is_on_trial(&self) -> bool {
        self.changes.settled().is_none() || self.reloads.left().1.is_some()
    }

    fn compare(&self) {
        let auto = self.config().ft.as_ref().is_some_and(|ft| ft.sync_auto);
        if auto && self.state() == Some(State::Active) && !self.is_on_trial() {
            let is_new = self.greet();
            let in_sync = self.ft.as_ref().map(crate::ft::FtControl::status).and_then(|status| status.peer);
            if !(is_new && in_sync.is_some_and(|peer| peer.config_in_sync)) {
                self.sync_by_itself();
            }
            return;
        }
        let Ok(found) = self.differing() else { return };
        if found.is_empty() {
            return;
        }
        let slot = self.config().slot;
        tracing::warn!(
            "%CSM_SLB-4-REDUNDANCY_WARN: Module {slot} FT warning: Configuration is out-of-sync, {} lines differ",
            found.len()
        );
        apply::log_lines(found.iter().take(LOGGED_MAX));
    }
}

impl SyncBackend for Node {
    fn sync_config(&self) -> Result<SyncReply, Fault> {
        if self.state() != Some(State::Active) {
            return Err(refused("this box is not active", "give the command on the active box"));
        }
        if self.is_on_trial() {
            let remedy = "give `configure confirm`, or `copy working certified`, before";
            return Err(refused("what runs here waits to be confirmed", remedy));
        }
        let started = self.bulk_message("Bulk sync started");
        let peer_reloads = self.give_config().inspect_err(|fault| self.bulk_failed(fault))?;
        let completed = self.bulk_message("Manual bulk sync completed");
        Ok(SyncReply { messages: vec![started, completed], peer_reloads })
    }

    fn sync_differences(&self) -> Result<Vec<DifferenceReply>, Fault> {
        Ok(self.differing()?.iter().map(apply::difference_reply).collect())
    }
}

impl Node {
    fn bulk_message(&self, what: &str) -> String {
        let slot = self.config().slot;
        let message = format!("%CSM_SLB-6-REDUNDANCY_INFO:Module {slot} FT info:Active:{what}");
        tracing::info!("{message}");
        message
    }

    fn bulk_failed(&self, fault: &Fault) {
        let slot = self.config().slot;
        tracing::warn!(
            "%CSM_SLB-4-REDUNDANCY_WARN:Module {slot} FT warning:Active:Bulk sync failed: {fault}"
        );
    }

    /// This node's configuration in force on the peer; whether that starts anew with it.
    fn give_config(&self) -> Result<bool, Fault> {
        let reply = self.ask(Ask::Apply(Self::text_for_peer(&self.config())?))?;
        Ok(matches!(reply, Reply::Done { reloads: true }))
    }

    /// `sync auto`: tried again and again, but what stands against it is told once, until it is something else.
    fn sync_by_itself(&self) {
        let mut standing = self.changes.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.is_none() {
            self.bulk_message("Bulk sync started");
        }
        let given = host::shared_checksum(&self.config());
        match self.give_config() {
            Ok(_) => {
                let peer = self.ft.as_ref().and_then(|ft| ft.status().peer).map(|peer| (peer.nonce, given));
                *self.changes.given.lock().unwrap_or_else(PoisonError::into_inner) = peer;
                *standing = None;
                self.bulk_message("Automatic bulk sync completed");
            }
            Err(fault) => {
                let said = fault.to_string();
                if standing.as_ref() != Some(&said) {
                    self.bulk_failed(&fault);
                    *standing = Some(said);
                }
            }
        }
    }

    /// `sync auto`: a peer that has just started gets this node's certified directory if its own is another, and starts
    /// anew with its image. Returns whether there is such a peer.
    fn greet(&self) -> bool {
        let peer = self.ft.as_ref().map(crate::ft::FtControl::status).and_then(|status| status.peer);
        let Some(peer) = peer.filter(|peer| peer.nonce != self.changes.greeted.load(Ordering::Acquire))
        else {
            return false;
        };
        // Asked again later: it may not be listening yet.
        let (Ok(own), Ok(its)) = (self.box_directory(), self.peer_directory()) else { return true };
        let greeted = || self.changes.greeted.store(peer.nonce, Ordering::Release);
        if !is_to_distribute(&own, &its) {
            greeted();
            return true;
        }
        let Ok(Image::Whole { text, program, .. }) = self.copy(Directory::Certified) else { return true };
        let mut standing = self.changes.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.is_none() {
            self.bulk_message("The certified directory of the peer is another: distribution started");
        }
        match self.distribute(&text, program.as_ref(), true) {
            Ok(()) => {
                greeted();
                *standing = None;
                self.bulk_message("Distribution completed");
            }
            // Tried again, from where it stopped.
            Err(fault) => {
                let said = fault.to_string();
                if standing.as_ref() != Some(&said) {
                    self.bulk_failed(&fault);
                    *standing = Some(said);
                }
            }
        }
        true
    }

    /// `takeover synchronized`: whether this node has to leave the role to its peer, which has it, and another
    /// configuration or software.
    pub(super) fn is_outdated(&self) -> bool {
        self.config().ft.as_ref().is_some_and(|ft| ft.takeover_synchronized)
            && self.ft.as_ref().map(crate::ft::FtControl::status).is_some_and(|status| {
                let differs = |peer: &crate::ft::status::PeerStatus| {
                    peer.state == State::Active && !(peer.config_in_sync && peer.software_in_sync)
                };
                status.state != State::Active && status.peer.as_ref().is_some_and(differs)
            })
    }
}

/// What the exchange knows beforehand; `None` without an FT group.
pub(super) fn link(group: Option<&FtGroup>, nonce: u64, interface: Option<&str>) -> Option<Arc<Link>> {
    let group = group?;
    Some(Arc::new(Link::new(group.group, nonce, interface?.to_owned(), (&group.keys).into())))
}
