//! Where the event loop's events come from.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::arp::trial::Verdict;
use crate::daemon::apply::Wish;
use crate::daemon::node::Node;
use crate::daemon::restart::Restarting;
use crate::daemon::tracking::{Names, Running};
use crate::dataplane::ring::Hint;
use crate::ft::task::handle::ALIVE_PERIOD;
use crate::ft::{FtEvent, FtHandle};
use crate::neigh::task::LinkEvent;
use crate::probe::health::Health;
use crate::replication::status::Completeness;
use crate::replication::task::ReplHandle;
use crate::track::task::TrackStatus;

/// Where events come from.
pub(in crate::daemon) struct Inputs {
    /// Hints of the event ring.
    pub(in crate::daemon) hints: mpsc::Receiver<Hint>,
    /// Changes of links.
    pub(in crate::daemon) links: mpsc::Receiver<LinkEvent>,
    /// What changes of the configuration leave to do.
    pub(in crate::daemon) wishes: mpsc::Receiver<Wish>,
    /// The election; `None` without an FT group.
    pub(in crate::daemon) ft: Option<FtHandle>,
    /// Tracked interfaces.
    pub(in crate::daemon) tracked_links: Names,
    /// Read by the expiry.
    pub(in crate::daemon) active: Arc<AtomicBool>,
}

/// What the loop reacts to.
pub(super) enum Event {
    Alive,
    Health,
    Completeness,
    Hint(Hint),
    Link(LinkEvent),
    Wish(Wish),
    Ft(FtEvent),
    Standby,
    Track,
    Macs,
    Terminate,
}

impl Event {
    /// For the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Alive => "its own period",
            Self::Health => "a change of health",
            Self::Completeness => "replication",
            Self::Hint(_) => "the network",
            Self::Link(_) => "a link",
            Self::Wish(_) => "a change of the configuration",
            Self::Ft(_) => "the election",
            Self::Standby => "HSRP",
            Self::Track => "tracking",
            Self::Macs => "the trial of the virtual MAC address",
            Self::Terminate => "a signal",
        }
    }
}

/// Each of them.
pub(super) struct Sources {
    pub(super) inputs: Inputs,
    alive: tokio::time::Interval,
    health: watch::Receiver<Arc<Health>>,
    completeness: Option<watch::Receiver<Completeness>>,
    standby: Option<watch::Receiver<u64>>,
    track: Option<watch::Receiver<Arc<TrackStatus>>>,
    macs: Option<watch::Receiver<BTreeMap<u16, Verdict>>>,
    pub(super) terminate: [Signal; 3],
}

impl Sources {
    /// Those of `node`.
    pub(super) fn of(node: &Node, inputs: Inputs, terminate: [Signal; 3]) -> Self {
        let mut alive = tokio::time::interval(ALIVE_PERIOD);
        alive.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self {
            inputs,
            alive,
            health: node.health.clone(),
            completeness: node.replication.as_ref().map(ReplHandle::completeness),
            standby: node.standby.as_ref().map(|groups| groups.handle.changed()),
            track: node.track.as_ref().map(Running::status),
            macs: node.macs.verdicts(),
            terminate,
        }
    }

    /// The next event; of several the most urgent.
    pub(super) async fn next(&mut self) -> Event {
        let [sigterm, sigint, sighup] = &mut self.terminate;
        let ft_event = async {
            match &mut self.inputs.ft {
                Some(ft) => ft.events.recv().await,
                None => None,
            }
        };
        let completeness = async {
            match &mut self.completeness {
                Some(watch) => watch.changed().await.ok(),
                None => None,
            }
        };
        let standby = async {
            match &mut self.standby {
                Some(watch) => watch.changed().await.ok(),
                None => None,
            }
        };
        let track = async {
            match &mut self.track {
                Some(watch) => watch.changed().await.ok(),
                None => None,
            }
        };
        let macs = async {
            match &mut self.macs {
                Some(watch) => watch.changed().await.ok(),
                None => None,
            }
        };
        tokio::select! {
            biased;
            _ = sigterm.recv() => Event::Terminate,
            _ = sigint.recv() => Event::Terminate,
            _ = sighup.recv() => Event::Wish(Wish::Reload { wanted: Restarting::default(), force: true, next: None }),
            Some(event) = ft_event => Event::Ft(event),
            _ = self.alive.tick() => Event::Alive,
            Some(()) = standby => Event::Standby,
            Some(()) = track => Event::Track,
            Some(()) = macs => Event::Macs,
            Some(()) = completeness => Event::Completeness,
            Ok(()) = self.health.changed() => Event::Health,
            Some(wish) = self.inputs.wishes.recv() => Event::Wish(wish),
            Some(link) = self.inputs.links.recv() => Event::Link(link),
            Some(hint) = self.inputs.hints.recv() => Event::Hint(hint),
        }
    }
}

/// SIGTERM, SIGINT and SIGHUP, caught from now on: before anything is made that has to be undone.
///
/// # Errors
/// If signals cannot be received.
pub(in crate::daemon) fn catch_signals() -> io::Result<[Signal; 3]> {
    Ok([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?])
}
