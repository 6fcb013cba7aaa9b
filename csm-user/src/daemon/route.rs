//! The event loop: what one feature says becomes what others are told.

mod again;
mod end;
mod replans;
mod rivals;
mod sources;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use csm_common::net::{PORT_FT, PORT_ROUTER};
use tokio::signal::unix::Signal;

use super::apply::Wish;
use super::node::Node;
use super::startup::Ended;
use super::tracking::{Names, Running};
use crate::arp::announcer::Station;
use crate::arp::task::AnnounceThread;
use crate::dataplane::ring::Hint;
use crate::ft::parked::Legacy;
use crate::ft::{FtCommand, FtEvent, Reason, State};
use crate::model::Host;
use crate::neigh::task::LinkEvent;
use crate::replication::role::Role;
use crate::replication::status::Completeness;
use crate::replication::task::{PORT, PeerAddr};
use crate::sync;
use again::{By, Cleared, Start, Starts};
use replans::Replans;
use rivals::Rivals;
use sources::{Event, Sources};
pub(super) use sources::{Inputs, catch_signals};

/// Between two looks at whether the peer is to be synchronized by itself.
const SYNC_EVERY: Duration = Duration::from_secs(5);
/// After a restart in place the role does not move for what is tracked and not known yet, for so long.
pub(super) const UNKNOWN_MAX: Duration = Duration::from_secs(10);
/// Work of the event loop that takes longer is told of: without its signs of life for some times as long the node yields.
const HELD_UP: Duration = Duration::from_millis(250);

/// What a change of the role means for replication. A node that stopped to forward by itself has perhaps a successor
/// already, as one that lost to a rival has.
const fn replication_role(state: State, reason: Reason) -> Role {
    match (state, reason) {
        (State::Active, _) => Role::Active,
        (State::RelayOut, _) => Role::Yielding,
        (State::Init | State::Standby, Reason::Rival | Reason::LeaseExpired | Reason::WokeLate) => Role::Lost,
        (State::Init | State::Standby | State::Candidate | State::Left, _) => Role::Standby,
    }
}

/// Runs until one of the signals `terminate`, which `stop` stands for, too, and until the role has been handed over then; or, for a restart, until the
/// session of an active node rests, which is returned.
pub(super) async fn run(
    node: &Arc<Node>,
    inputs: Inputs,
    announcements: &AnnounceThread,
    terminate: [Signal; 3],
    stop: bool,
) -> (Ended, Restart) {
    let mut sources = Sources::of(node, inputs, terminate);
    let tracked_links = std::mem::take(&mut sources.inputs.tracked_links);
    let active = Arc::clone(&sources.inputs.active);
    let (rivals, health) = (Rivals::default(), Arc::clone(&node.health.borrow()));
    let silent = HashSet::new();
    let mut router = Router {
        node,
        announcements,
        active,
        rivals,
        replans: Arc::new(Replans::new(health)),
        silent,
        started: Instant::now(),
        tracked_links,
        eligible: None,
        outdated: false,
        synced: Instant::now(),
        stopping: false,
    };
    super::standby::report(node);
    // Before it may claim.
    router.track();
    router.tell(FtCommand::Forwardable(node.can_forward()));
    router.replica();
    let mut starts = Starts::default();
    let cleared = loop {
        if stop {
            break None;
        }
        let event = tokio::select! {
            biased;
            cleared = starts.next(node) => break Some(cleared),
            event = sources.next() => event,
        };
        match event {
            Event::Terminate => break None,
            Event::Wish(Wish::Reload { wanted, force, next }) => {
                starts.ask(node, Start { wanted, by: By::Operator { force } }, next.map(|next| *next));
            }
            Event::Wish(Wish::Follow(wanted)) => starts.ask(node, Start { wanted, by: By::Peer }, None),
            event => router.watched(event),
        }
    };
    let (ended, in_place) = match cleared {
        None => (Ended::Stopped, false),
        Some(Cleared { wanted, program, in_place }) => (Ended::Reload(wanted, program), in_place),
    };
    match &ended {
        Ended::Stopped => tracing::info!("told to stop"),
        Ended::Reload(..) => tracing::info!("told to reload"),
    }
    let parked = if in_place { router.rest(&mut sources).await } else { None };
    let mut legacy = Legacy { parked, restraint: None };
    if legacy.parked.is_none() {
        legacy.restraint = router.leave(&mut sources).await;
        if router.stopping {
            return (Ended::Stopped, Restart::default());
        }
    }
    let told = router.stopping;
    (ended, Restart { in_place, legacy, told, signals: Some(sources.terminate) })
}

/// What a restart goes on from.
#[derive(Default)]
pub(super) struct Restart {
    /// Nothing is to be undone before: the next program takes its place.
    pub(super) in_place: bool,
    /// Of an active node its session at rest.
    pub(super) legacy: Legacy,
    /// Told to stop when it could do nothing but go on.
    told: bool,
    signals: Option<[Signal; 3]>,
}

impl Restart {
    /// Whether somebody has asked this process to stop since it began to restart: up to now.
    pub(super) async fn told_to_stop(&mut self) -> bool {
        if let Some([sigterm, sigint, _]) = &mut self.signals {
            self.told |= tokio::select! {
                biased;
                _ = sigterm.recv() => true,
                _ = sigint.recv() => true,
                () = std::future::ready(()) => false,
            };
        }
        self.told
    }
}

struct Router<'a> {
    node: &'a Arc<Node>,
    announcements: &'a AnnounceThread,
    active: Arc<AtomicBool>,
    rivals: Rivals,
    replans: Arc<Replans>,
    /// Neighbours that do not answer, as was said last.
    silent: HashSet<Host>,
    started: Instant,
    tracked_links: Names,
    /// What the real-time thread was told.
    eligible: Option<bool>,
    /// The active peer has what this node has not: `takeover synchronized`.
    outdated: bool,
    /// When it was looked at last whether the peer is to be synchronized.
    synced: Instant,
    /// Told to stop while it left for a restart.
    stopping: bool,
}

impl Router<'_> {
    /// As [`Self::route`]; what takes so long that the election might soon give this node up is told of.
    fn watched(&mut self, event: Event) {
        let (begun, what) = (Instant::now(), event.name());
        self.route(event);
        let took = begun.elapsed();
        if took > HELD_UP {
            tracing::warn!(milliseconds = took.as_millis(), "the event loop was held up by {what}");
        }
    }

    fn route(&mut self, event: Event) {
        match event {
            Event::Alive => {
                self.tell(FtCommand::Alive);
                if let Some(track) = &self.node.track {
                    track.farms(self.node, &self.replans.shown());
                }
                self.track();
                self.stations();
                self.sync();
                self.neighbours();
            }
            Event::Health => self.replans.begin(self.node),
            Event::Standby => super::standby::report(self.node),
            Event::Track => self.track(),
            Event::Macs if self.node.choose_macs() => self.announcements.announce(),
            Event::Macs => {}
            Event::Completeness => self.replica(),
            Event::Hint(hint) => self.hint(hint),
            Event::Link(link) => self.link(&link),
            Event::Wish(wish) => self.wish(&wish),
            Event::Ft(event) => self.ft_event(&event),
            Event::Terminate => self.stopping = true,
        }
    }

    /// Whether the real-time thread took it.
    fn tell(&self, command: FtCommand) -> bool {
        let Some(ft) = &self.node.ft else { return false };
        let told = ft.command(command);
        if let Err(error) = told {
            tracing::warn!(%error, "a command to the real-time thread was not taken");
        }
        told.is_ok()
    }

    /// The verdict of tracking goes to the election; again if it was not taken.
    fn track(&mut self) {
        let tracked = self.node.track.as_ref().map(|track| track.status().borrow().eligible);
        let outdated = self.node.is_outdated();
        if self.outdated != outdated {
            self.outdated = outdated;
            match outdated {
                true => tracing::warn!(
                    "this box is not eligible beside the active one: it has to be synchronized"
                ),
                false => tracing::info!("nothing that the active box has is missing here any more"),
            }
        }
        if tracked.is_none() && !outdated && self.eligible.is_none() {
            return;
        }
        // After a restart in place all is unknown for a moment, and the role is not to move for that.
        let is_new = self.node.resumed && self.started.elapsed() < UNKNOWN_MAX;
        if self.eligible.is_none()
            && is_new
            && !outdated
            && self.node.track.as_ref().is_some_and(Running::may_be_well)
            && tracked == Some(false)
        {
            return;
        }
        let eligible = tracked.unwrap_or(true) && !outdated;
        if self.eligible != Some(eligible) && self.tell(FtCommand::Eligible(eligible)) {
            self.eligible = Some(eligible);
        }
    }

    /// A peer that came with another configuration, or was changed, gets this node's if it is to have it by itself.
    fn sync(&mut self) {
        if self.synced.elapsed() < SYNC_EVERY {
            return;
        }
        self.synced = Instant::now();
        if self.node.is_to_sync() {
            self.wish(&Wish::CheckSync);
        }
    }

    /// Keeps at hand what a takeover announces for the hosts of bridge groups, on the side where they are not.
    fn stations(&self) {
        let ports = self.node.ports.iter().map(|port| &port.spec);
        let mut bridged = ports.filter(|port| port.bridge.is_some()).peekable();
        if bridged.peek().is_none() {
            return;
        }
        let hosts = self.node.neighbours.list();
        let mut stations = Vec::new();
        for port in bridged {
            let Some((other, own)) = port.bridge else { continue };
            let (ifindex, tag) = (port.ifindex, if port.tagged { port.vlan } else { 0 });
            // Where this node is itself, its peer may have bridged it to.
            let of_v4 = |address: IpAddr| match address {
                IpAddr::V4(address) if !address.is_unspecified() => Some(address),
                _ => None,
            };
            stations.push(Station { ifindex, tag, mac: port.mac, address: of_v4(own.into()) });
            let there = hosts.iter().filter(|(key, ..)| key.vlan == other && key.tunnel.is_none());
            stations.extend(there.filter_map(|&(host, _, mac)| {
                Some(Station { ifindex, tag, mac: mac?, address: of_v4(host.address) })
            }));
        }
        self.announcements.stations(stations);
    }

    /// Reals whose ARP fails leave rotation and come back like those whose probes do.
    fn neighbours(&mut self) {
        self.node.neighbours.widen(self.started.elapsed());
        let config = self.node.config();
        // Nobody answers for a group of this host while it is the active router itself.
        let mut silent = self.node.neighbours.silent();
        silent.retain(|host| self.node.own_gateways.get(host.neighbour()).is_none());
        if silent == self.silent {
            return;
        }
        let before = std::mem::replace(&mut self.silent, silent.clone());
        let slot = config.slot;
        for host in silent.symmetric_difference(&before) {
            let (Host { address, vlan, .. }, silent) = (host, silent.contains(host));
            let now = if silent { "does not answer" } else { "answers again" };
            tracing::info!(
                "%CSM_SLB-6-RSERVERSTATE: Module {slot} server state changed: SLB-NETMGT: {address} on vlan {vlan} {now}"
            );
        }
        self.replans.silence(silent.clone(), silent.difference(&before).copied());
        self.replans.begin(self.node);
    }

    fn replica(&self) {
        let Some(replication) = &self.node.replication else { return };
        let Completeness { complete, peer_complete: _, lag_ms } = *replication.completeness().borrow();
        self.tell(FtCommand::Replica { complete, lag_ms });
    }

    fn hint(&mut self, hint: Hint) {
        match hint {
            Hint::Unresolved(host) => self.node.neighbours.unresolved(host),
            Hint::Narrow(remote, mtu) => self.node.neighbours.narrow(remote, mtu, self.started.elapsed()),
            Hint::Neighbour(host, mac) => self.node.neighbours.heard(host, mac),
            Hint::Rival(host, mac) => {
                self.rivals.seen(self.node.config().slot, host, mac);
                self.announcements.rival();
                self.tell(FtCommand::RivalSeen);
            }
        }
    }

    fn link(&mut self, event: &LinkEvent) {
        if let Some(track) = &self.node.track {
            track.link(&mut self.tracked_links, event);
        }
        if let Some(groups) = &self.node.standby {
            let ports = || self.node.ports.iter().map(|port| &port.spec);
            let name_of = |index| ports().find(|port| port.ifindex == index).map(|port| port.name.clone());
            groups.link(event, |index| name_of(index).or_else(|| self.tracked_links.get(&index).cloned()));
        }
        let (ifindex, carrying) = match event {
            LinkEvent::Changed(link) => (link.ifindex, link.up && link.carrier),
            LinkEvent::Gone(ifindex) => (*ifindex, false),
        };
        let mut data = false;
        for port in self.node.ports.iter().filter(|port| port.spec.ifindex == ifindex) {
            if port.carrying.swap(carrying, Ordering::AcqRel) == carrying {
                continue;
            }
            let (name, vlan) = (&port.spec.name, port.spec.vlan);
            match carrying {
                true => tracing::info!("link up: {name} (vlan {vlan})"),
                false => tracing::warn!("link down: {name} (vlan {vlan})"),
            }
            data |= !matches!(port.spec.role, PORT_FT | PORT_ROUTER);
        }
        if data {
            self.tell(FtCommand::Forwardable(self.node.can_forward()));
        }
    }

    fn wish(&self, wish: &Wish) {
        match *wish {
            Wish::Announce => self.announcements.announce(),
            Wish::Refresh => self.announcements.refreshed(),
            Wish::Revert(at, number) => {
                // The node may be taken down before.
                let node = Arc::downgrade(self.node);
                self.node.runtime.spawn(async move {
                    tokio::time::sleep_until(at.into()).await;
                    let revert = move || node.upgrade().map(|node| node.revert(number));
                    // Fails only when the runtime ends.
                    let _ended = tokio::task::spawn_blocking(revert).await;
                });
            }
            Wish::CheckSync => {
                let node = Arc::downgrade(self.node);
                let check = move || node.upgrade().map(|node| node.check_sync());
                drop(self.node.runtime.spawn_blocking(check));
            }
            Wish::ReloadAt { at, number, wanted, force } => {
                let node = Arc::downgrade(self.node);
                self.node.runtime.spawn(async move {
                    tokio::time::sleep_until(at.into()).await;
                    let carry_out =
                        move || node.upgrade().map(|node| node.reload_planned(number, wanted, force));
                    // Fails only when the runtime ends.
                    let _ended = tokio::task::spawn_blocking(carry_out).await;
                });
            }
            // Ends the loop that routes; what leads to it now is late.
            Wish::Reload { .. } | Wish::Follow(_) => {}
        }
    }

    fn ft_event(&self, event: &FtEvent) {
        match *event {
            FtEvent::Role { state, reason, term, at_ns } => {
                let slot = self.node.config().slot;
                tracing::info!(
                    "%CSM_SLB-6-REDUNDANCY_INFO: Module {slot} FT info: {state}: {reason} (term {term})"
                );
                self.active.store(state == State::Active, Ordering::Release);
                if state == State::Active {
                    self.replans.purge_all(self.node, &self.silent);
                }
                if let Some(replication) = &self.node.replication {
                    replication.role(replication_role(state, reason), at_ns);
                }
                // The real-time thread has ended when it has left.
                if state != State::Left {
                    self.replica();
                }
            }
            FtEvent::Announce(reason) => {
                tracing::debug!(%reason, "announcing the group's addresses");
                self.announcements.announce();
            }
            FtEvent::StopAnnounce => self.announcements.stop(),
            FtEvent::Adopted { at_ns } => tracing::debug!(at_ns, "adopted the replicated table"),
            FtEvent::Peer { address, node, nonce, .. } => {
                let slot = self.node.config().slot;
                tracing::info!(
                    "%CSM_SLB-6-REDUNDANCY_INFO: Module {slot} FT info: peer {node:016x} heard from {address}"
                );
                // Whoever was silent may have stood still with its clock, and has sent from the virtual MAC address until just now:
                // the switches look for it there. Does nothing where this node is not active.
                self.announcements.rival();
                let scope = self.node.ports.iter().find(|port| port.spec.role == PORT_FT);
                let scope = scope.map_or(0, |port| port.spec.kernel_ifindex());
                self.peer(Some(PeerAddr { addr: SocketAddrV6::new(address, PORT, 0, scope), nonce }));
                if let Some(link) = &self.node.link {
                    let address = SocketAddrV6::new(address, sync::task::PORT, 0, scope);
                    link.set_peer(Some(sync::task::Peer { address, nonce }));
                }
            }
            FtEvent::PeerLease(lease) => self.node.note_lease(lease),
            FtEvent::PeerLost => {
                let slot = self.node.config().slot;
                tracing::warn!("%CSM_SLB-4-REDUNDANCY_WARN: Module {slot} FT warning: peer lost");
                self.peer(None);
                if let Some(link) = &self.node.link {
                    link.set_peer(None);
                }
            }
        }
    }

    fn peer(&self, peer: Option<PeerAddr>) {
        if let Some(replication) = &self.node.replication {
            replication.peer(peer);
        }
    }
}
