//! Configuration synchronization within the daemon: both ends of the exchange, and the check after each change.

use std::sync::{Arc, Weak};

use super::apply::{self, Wish};
use super::host;
use super::node::Node;
use crate::api::backend::{Fault, SyncBackend};
use crate::api::reply::{DifferenceReply, SyncReply};
use crate::config;
use crate::config::difference::Difference;
use crate::ft::State;
use crate::model::FtGroup;
use crate::model::change::needs_restart;
use crate::state::Directory;
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
            Ask::Save(text) => self.store(&text),
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
        self.save(Directory::Working, &config::print(&after))?;
        self.changes.wish_soon(&self.runtime, Wish::Follow(Directory::Working));
        Ok(true)
    }

    fn store(&self, text: &str) -> Result<bool, Fault> {
        if self.state() == Some(State::Active) {
            return Err(refused("that box is active", "give the command on the active box"));
        }
        let text = config::print(&self.of_peer(text)?);
        self.save(Directory::Working, &text)?;
        self.save(Directory::Certified, &text)?;
        Ok(false)
    }

    fn ask(&self, ask: Ask) -> Result<Reply, Fault> {
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

    /// `flash-synchro`: both copies on the peer hold `text`, as it is to be there.
    ///
    /// # Errors
    /// If the peer has no state directory, does not answer, or an `alt` is missing.
    pub(super) fn distribute(&self, text: &str) -> Result<(), Fault> {
        let outcome = config::check("working", text, &config::HostFacts::default());
        let report = config::render("working", text, &outcome.diagnostics);
        let errors = outcome.errors();
        let config = outcome.config.ok_or(Fault::Rejected { errors, report })?;
        self.ask(Ask::Save(Self::text_for_peer(&config)?)).map(drop)
    }

    /// The commands that one of the pair has and the other has not.
    fn differing(&self) -> Result<Vec<Difference>, Fault> {
        match self.ask(Ask::Shared)? {
            Reply::Shared(peer) => Ok(exchange::out_of_sync(&peer, &exchange::shared(&self.config()))),
            Reply::Facts(_) | Reply::Done { .. } | Reply::Refused { .. } => {
                Err(Fault::Internal("the peer's answer does not belong to the question".to_owned()))
            }
        }
    }

    /// Whether this node has to give its configuration to a peer that has another: `sync auto`, on the active node. Waits
    /// for nothing: the event loop asks.
    pub(super) fn is_to_sync(&self) -> bool {
        self.config().ft.as_ref().is_some_and(|ft| ft.sync_auto)
            && self.ft.as_ref().map(crate::ft::FtControl::status).is_some_and(|status| {
                let other = |peer: &crate::ft::status::PeerStatus| {
                    !peer.config_in_sync && peer.state != State::Active
                };
                status.state == State::Active && status.peer.as_ref().is_some_and(other)
            })
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

    fn compare(&self) {
        let auto = self.config().ft.as_ref().is_some_and(|ft| ft.sync_auto);
        if auto && self.state() == Some(State::Active) && self.changes.settled().is_some() {
            // What stands against it is in the log.
            let _said = self.bulk_sync("Automatic");
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
        self.bulk_sync("Manual")
    }

    fn sync_differences(&self) -> Result<Vec<DifferenceReply>, Fault> {
        Ok(self.differing()?.iter().map(apply::difference_reply).collect())
    }
}

impl Node {
    fn bulk_sync(&self, kind: &str) -> Result<SyncReply, Fault> {
        let slot = self.config().slot;
        let failed = |error: &Fault| {
            tracing::warn!(
                "%CSM_SLB-4-REDUNDANCY_WARN:Module {slot} FT warning:Active:Bulk sync failed: {error}"
            );
        };
        let text = Self::text_for_peer(&self.config()).inspect_err(failed)?;
        let message = |what: &str| {
            let message = format!("%CSM_SLB-6-REDUNDANCY_INFO:Module {slot} FT info:Active:{what}");
            tracing::info!("{message}");
            message
        };
        let started = message("Bulk sync started");
        let reply = self.ask(Ask::Apply(text)).inspect_err(failed)?;
        Ok(SyncReply {
            messages: vec![started, message(&format!("{kind} bulk sync completed"))],
            peer_reloads: matches!(reply, Reply::Done { reloads: true }),
        })
    }
}

/// What the exchange knows beforehand; `None` without an FT group.
pub(super) fn link(group: Option<&FtGroup>, nonce: u64, interface: Option<&str>) -> Option<Arc<Link>> {
    let group = group?;
    Some(Arc::new(Link::new(group.group, nonce, interface?.to_owned(), (&group.keys).into())))
}
