//! The shell: sockets, threads and timers around [`Sender`](super::sender::Sender) and
//! [`Receiver`](super::apply::Receiver).
//!
//! ```text
//! crossbeam ──▶ feed thread ──▶ outgoing task ◀──▶ TCP to the peer         one stream for our own changes
//!               walk, digest ──▶      (owns Sender)
//!                                incoming task ◀──▶ TCP from the peer      one stream for the peer's
//!               apply, digest ◀─▶     (owns Receiver)
//! ```
//!
//! Each task owns its machine; what may block on the table runs on the runtime's blocking threads. All channels are
//! bounded and all waits end with the stream. Streams are sealed
//! if the group has a key, see [`crate::secure`].

use std::io;
use std::net::SocketAddrV6;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::apply::Here;
use super::ended::Ended;
use super::record::{DeltaEvent, ReplicaTable};
use super::role::{Role, Tenure};
use super::sender;
use super::status::{Completeness, ReplStatus};
use crate::secure::Keys;

mod incoming;
mod offload;
mod outgoing;
mod socket;

/// TCP port on the FT VLAN.
pub const PORT: u16 = 24_905;
/// A stream on which nothing came for so long, or for the failover time if that is longer, is closed. Also the least
/// TCP_USER_TIMEOUT: the kernel's first retransmission takes 200 ms and must not end a stream.
pub const SILENCE: Duration = Duration::from_secs(1);

/// The peer as the election knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr {
    /// Link-local address on the FT VLAN with its scope, and the replication port ([`PORT`]).
    pub addr: SocketAddrV6,
    /// Boot nonce: a stream to or from another boot of the peer is refused.
    pub nonce: u64,
}

/// What replication needs to run.
pub struct ReplOptions {
    /// FT group, 1–254.
    pub group: u8,
    /// Boot nonce of this node.
    pub nonce: u64,
    /// The FT interface: both sockets are bound to it. `None` binds to none, for tests on the loopback address.
    pub interface: Option<String>,
    /// Where to listen: `[::]` and [`PORT`], as the interface restricts it.
    pub listen: SocketAddrV6,
    /// Of the group.
    pub keys: Keys,
    /// Oldest and newest version that is spoken: [`crate::replication::wire::VERSIONS`].
    pub versions: (u16, u16),
    /// The group's failover time.
    pub failover: Duration,
    /// Bounds, and the lab's negative control.
    pub sender: sender::Options,
    /// The kernel's tables.
    pub table: Arc<dyn ReplicaTable>,
    /// Changes of this node's own dataplane.
    pub events: crossbeam::channel::Receiver<DeltaEvent>,
    /// Asks the source of `events` to tell [`DeltaEvent::Flushed`] after all that has happened by now. Must not block.
    pub flush: Box<dyn Fn() + Send + Sync>,
}

/// What the daemon tells replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Control {
    peer: Option<PeerAddr>,
    role: Role,
    /// Counts changes of `role`, so that two in quick succession are not taken for none.
    turns: u64,
    /// Nothing may go in the clear, see [`Keys::required`].
    keyed: bool,
    /// When the role changed last, nanoseconds of CLOCK_MONOTONIC.
    since_ns: u64,
}

/// What both tasks share.
struct Shared {
    group: u8,
    nonce: u64,
    versions: (u16, u16),
    interface: Option<String>,
    keys: Mutex<Keys>,
    silence: Duration,
    sender: sender::Options,
    table: Arc<dyn ReplicaTable>,
    flush: Box<dyn Fn() + Send + Sync>,
    epoch: Instant,
    tenure: Arc<Tenure>,
    ended: Mutex<Ended>,
    /// The last turn whose handover is over.
    released: watch::Sender<u64>,
    status: Mutex<ReplStatus>,
    completeness: watch::Sender<Completeness>,
}

impl Shared {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn status(&self) -> MutexGuard<'_, ReplStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self) -> Keys {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn here(&self) -> Here<'_> {
        Here { table: &*self.table, tenure: &self.tenure, ended: &self.ended }
    }

    /// What the dataplane tells, whether or not there is a peer to hear it.
    fn note_ended(&self, batch: &[DeltaEvent]) {
        if self.tenure.holds() {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            batch.iter().for_each(|event| ended.event(event));
        }
    }

    /// There is something to hand over, and it is not over yet.
    fn is_handing_over(&self, control: &Control) -> bool {
        control.role.hands_over() && *self.released.borrow() < control.turns
    }

    /// From now on this node mirrors its peer. Has no effect if the role changed again meanwhile, or it does so already.
    fn release(&self, turns: u64, since_ns: u64, complete: bool) {
        let first = self.released.send_if_modified(|released| {
            let first = *released < turns;
            *released = (*released).max(turns);
            first
        });
        if !first {
            return;
        }
        self.tenure.release(since_ns);
        if !self.tenure.holds() {
            self.ended.lock().unwrap_or_else(PoisonError::into_inner).forget();
        }
        if complete {
            tracing::info!("the peer has all that this node held");
        } else {
            tracing::warn!("the peer did not take all that this node held in time");
        }
    }

    /// Changes the status and tells those who wait for completeness.
    fn publish(&self, change: impl FnOnce(&mut ReplStatus)) {
        let mut status = self.status();
        change(&mut status);
        let next = completeness(&status);
        drop(status);
        self.completeness.send_if_modified(|current| std::mem::replace(current, next) != next);
    }
}

fn completeness(status: &ReplStatus) -> Completeness {
    match (status.active, &status.outgoing, &status.incoming) {
        (true, Some(outgoing), _) => Completeness {
            complete: true,
            peer_complete: outgoing.peer_complete,
            lag_ms: u32::try_from(outgoing.lag.as_millis()).unwrap_or(u32::MAX),
        },
        (false, _, Some(incoming)) => {
            Completeness { complete: incoming.complete, peer_complete: false, lag_ms: incoming.lag_ms }
        }
        (active, _, _) => Completeness { complete: active, peer_complete: false, lag_ms: 0 },
    }
}

/// Runs replication until it is dropped. Its calls do not block.
pub struct ReplHandle {
    shared: Arc<Shared>,
    control: watch::Sender<Control>,
    local: SocketAddrV6,
    runtime: tokio::runtime::Handle,
}

impl ReplHandle {
    /// The peer is there, or (`None`) gone: streams to and from any other are closed.
    pub fn peer(&self, peer: Option<PeerAddr>) {
        self.shared.publish(|status| status.peer = peer.map(|peer| peer.addr));
        self.control.send_if_modified(|control| std::mem::replace(&mut control.peer, peer) != peer);
    }

    /// The group's keys from now on. Streams that stand go on, unless they are in the clear and may not be any more.
    pub fn keys(&self, keys: Keys) {
        let keyed = keys.required();
        *self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
        self.control.send_if_modified(|control| std::mem::replace(&mut control.keyed, keyed) != keyed);
    }

    /// What the election made of this node, at `at_ns` of CLOCK_MONOTONIC. What it held, if it was active, is told to
    /// the peer before anything is taken from it; that has its bounds, [`sender::DRAIN`] and [`sender::MERGE`].
    pub fn role(&self, role: Role, at_ns: u64) {
        let mut turned = None;
        self.control.send_if_modified(|control| {
            let next = control.role.next(role);
            if next == control.role {
                return false;
            }
            *control = Control { role: next, turns: control.turns + 1, since_ns: at_ns, ..*control };
            turned = Some(*control);
            true
        });
        let Some(Control { role, turns, since_ns, .. }) = turned else { return };
        match role {
            Role::Active => self.shared.tenure.adopt(since_ns),
            Role::Standby => self.shared.tenure.release(since_ns),
            // Without a stream nothing else would end it.
            Role::Yielding | Role::Lost => {
                let shared = Arc::clone(&self.shared);
                self.runtime.spawn(async move {
                    tokio::time::sleep(sender::MERGE).await;
                    shared.release(turns, since_ns, false);
                });
            }
        }
        self.shared.publish(|status| status.active = role == Role::Active);
    }

    /// For the real-time thread, to be told before the gate opens.
    #[must_use]
    pub fn tenure(&self) -> Arc<Tenure> {
        Arc::clone(&self.shared.tenure)
    }

    /// Waits until nothing is left to be handed over, or the time for it is up.
    pub async fn handed_over(&self) {
        let (mut control, mut released) = (self.control.subscribe(), self.shared.released.subscribe());
        loop {
            let current = *control.borrow_and_update();
            released.borrow_and_update();
            if !self.shared.is_handing_over(&current) {
                return;
            }
            tokio::select! {
                Ok(()) = control.changed() => {}
                Ok(()) = released.changed() => {}
                else => return,
            }
        }
    }

    /// Facts for `show`, at most 10 ms old.
    #[must_use]
    pub fn status(&self) -> ReplStatus {
        self.shared.status().clone()
    }

    /// Now, on the clock of [`super::status::Repair::at`].
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.now()
    }

    /// What the election needs to know, as it changes.
    #[must_use]
    pub fn completeness(&self) -> watch::Receiver<Completeness> {
        self.shared.completeness.subscribe()
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddrV6 {
        self.local
    }
}

/// Starts replication: no peer, not active. To be called within a tokio runtime.
///
/// # Errors
/// The socket could not be bound to the interface or the port, or the feed's thread not be started.
pub fn spawn(options: ReplOptions) -> io::Result<ReplHandle> {
    let ReplOptions {
        group,
        nonce,
        interface,
        listen,
        keys,
        versions,
        failover,
        sender,
        table,
        events,
        flush,
    } = options;
    let (listener, local) = socket::listen(interface.as_deref(), listen)?;
    let events = offload::feed(events)?;
    let keyed = keys.required();
    let shared = Arc::new(Shared {
        group,
        nonce,
        versions,
        interface,
        keys: Mutex::new(keys),
        silence: failover.max(SILENCE),
        sender,
        table,
        epoch: Instant::now(),
        flush,
        tenure: Arc::new(Tenure::default()),
        ended: Mutex::new(Ended::default()),
        released: watch::Sender::new(0),
        status: Mutex::new(ReplStatus::default()),
        completeness: watch::Sender::new(Completeness::default()),
    });
    let control = watch::Sender::new(Control { keyed, ..Control::default() });
    if !keyed {
        tracing::warn!(
            group,
            "replication is not encrypted without `authentication key-string`: whoever is on the FT VLAN can read and change it"
        );
    }
    tokio::spawn(outgoing::run(Arc::clone(&shared), control.subscribe(), events));
    tokio::spawn(incoming::run(Arc::clone(&shared), control.subscribe(), listener));
    Ok(ReplHandle { shared, control, local, runtime: tokio::runtime::Handle::current() })
}

#[cfg(test)]
mod tests;
