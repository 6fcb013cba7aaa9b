//! How the rest of the daemon starts the real-time thread, commands it and hears from it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError};
use csm_common::gate::Gate;
use nix::sys::eventfd::EventFd;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::ft::election::Restraint;
use crate::ft::parked::{Legacy, Parked};
use crate::ft::status::FtStatus;
use crate::ft::{Reason, Refusal, State};
use crate::model::LeaseError;
use crate::model::{FtGroup, FtKeys};

/// How often the daemon should send [`FtCommand::Alive`] from a tokio task.
pub const ALIVE_PERIOD: Duration = Duration::from_millis(100);
/// Without [`FtCommand::Alive`] for this long the node counts as unable to forward.
pub const ALIVE_TIMEOUT: Duration = Duration::from_secs(1);
/// Commands that may wait for the thread; more are refused ([`CommandError::Full`]).
pub const COMMANDS_MAX: usize = 256;
/// Events that may wait for tokio; more are dropped and counted in [`FtStatus::events_dropped`].
pub const EVENTS_MAX: usize = 256;

/// The gate word, as the dataplane maps it: one aligned store, one aligned load.
pub trait GateCell: Send + Sync {
    /// Replaces the word (release ordering).
    fn store(&self, gate: Gate);
    /// Reads the word (acquire ordering).
    fn load(&self) -> Gate;
}

/// What a takeover needs at once. Called on the real-time thread: each call must be quick and must not wait for a lock
/// that another thread holds across a system call, nor for tokio.
pub trait TakeoverActions: Send + Sync {
    /// The replicated table becomes this node's own; `now_ns` is CLOCK_MONOTONIC. Before the gate opens.
    fn adopt(&self, now_ns: u64);
    /// Announce all addresses once, now. After the gate opened; the repeats are the caller's ([`FtEvent::Announce`]).
    fn announce(&self);
    /// The MAC address of the peer's FT port: where strays are relayed to.
    fn set_peer_mac(&self, mac: [u8; 6]);
    /// The peer may be active until then, CLOCK_MONOTONIC, without a word: to be given to the next start as
    /// [`FtOptions::promised_ns`].
    fn promise(&self, until_ns: u64);
}

/// Negative controls, for the lab only: each takes away one protection, so that the lab's checkers must fire. All off
/// in production.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// The gate's deadline never ends: a stopped controller goes on forwarding (breaks P1).
    pub lease_off: bool,
    /// A predecessor closes instead of relaying strays.
    pub relay_off: bool,
    /// A takeover announces nothing.
    pub announce_off: bool,
    /// A restart relies on the peer's hold before the peer has granted it (breaks P1).
    pub hold_unheard: bool,
    /// Speaks the oldest versions only and takes newer ones for noise, as a program before this one does (breaks nothing).
    pub old_wire: bool,
}

/// A way to the peer besides the FT VLAN: a client or server VLAN on which both nodes have an address of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPath {
    /// The VLAN.
    pub vlan: u16,
    /// Interface on which the kernel takes part in it.
    pub interface: String,
    /// This node's own address there.
    pub own: IpAddr,
    /// The peer's, as configured (`alt`), of the same family.
    pub peer: IpAddr,
}

/// Everything the thread needs to know.
pub struct FtOptions {
    /// Group, priority, preempt and timers.
    pub group: FtGroup,
    /// The FT port.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Its own MAC address; peers relay strays to it.
    pub mac: [u8; 6],
    /// This node's identity, the same after a restart, different from its peer's, not 0. The FT port's MAC address as a
    /// number does.
    pub node: u64,
    /// Random for each start of the daemon, not 0.
    pub nonce: u64,
    /// Random for each start of the daemon: a pair without a configured key agrees on one with it.
    pub secret: [u8; 32],
    /// Ways to the peer besides the FT VLAN; those beyond [`crate::ft::envelope::PATHS_MAX`] are not used.
    pub paths: Vec<DataPath>,
    /// The dataplane's gate.
    pub gate: Arc<dyn GateCell>,
    /// What a takeover does besides opening the gate.
    pub actions: Arc<dyn TakeoverActions>,
    /// Of the configuration, as far as both nodes should have it alike; compared with the peer's for `show ft`.
    pub config_checksum: u64,
    /// Of the running software.
    pub software_checksum: u64,
    /// What an earlier daemon of this node promised its peer: no claim before, CLOCK_MONOTONIC, ns.
    pub promised_ns: u64,
    /// The lease that the peer had when an earlier daemon heard it last, as [`FtEvent::PeerLease`] told; `None`: not known.
    pub peer_lease: Option<Duration>,
    /// The session that this one goes on with; its nonce and secret are in force then.
    pub resumed: Option<Parked>,
    /// What kept the process before, which has left, from taking the role back.
    pub restraint: Option<Restraint>,
    /// Negative controls.
    pub controls: Controls,
}

/// What the daemon tells the thread.
#[derive(Debug)]
pub enum FtCommand {
    /// `clear module csm N ft active`; the answer comes once the peer took the role, or it is clear that it does not.
    /// A node that was made standby so does not preempt until it was active again or its peer restarted.
    ForceStandby(oneshot::Sender<Result<(), Refusal>>),
    /// The daemon is about to restart: with the peer's hold, or without a peer, the thread ends with the gate open and
    /// [`FtHandle::join`] tells what to go on with.
    Hold(oneshot::Sender<Result<(), Refusal>>),
    /// SIGTERM: hand the role over, or fence, and end. [`FtEvent::Role`] with [`State::Left`] follows.
    Leave,
    /// The dataplane, its ports and what else forwarding needs are in order, or not. Initially not.
    Forwardable(bool),
    /// The verdict of tracking. Initially eligible.
    Eligible(bool),
    /// The replica of the active node's table. Initially incomplete, and again whenever this node ceases to be active:
    /// say it again after each [`FtEvent::Role`], and whenever it changes.
    Replica {
        /// Snapshot applied.
        complete: bool,
        /// Age of the oldest delta that is not acknowledged, in ms; over 100 the replica does not count as complete.
        lag_ms: u32,
    },
    /// The configuration was changed: priority, preemption, checksum.
    Configured {
        /// `priority N`.
        priority: u8,
        /// `preempt`.
        preempt: bool,
        /// See [`FtOptions::config_checksum`].
        config_checksum: u64,
    },
    /// The configured keys were changed.
    Keys(FtKeys),
    /// tokio lives; every [`ALIVE_PERIOD`].
    Alive,
    /// A frame of another owner of the group's addresses was seen on a data VLAN.
    RivalSeen,
}

/// What the thread tells the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FtEvent {
    /// The state changed. The gate has changed already.
    Role {
        /// The new state.
        state: State,
        /// Why.
        reason: Reason,
        /// The term in force.
        term: u64,
        /// When, CLOCK_MONOTONIC in ns.
        at_ns: u64,
    },
    /// The addresses were announced once by [`TakeoverActions::announce`]; repeat with back-off.
    Announce(Reason),
    /// No longer active: end the repeats.
    StopAnnounce,
    /// A takeover adopted the table at this CLOCK_MONOTONIC time.
    Adopted {
        /// ns.
        at_ns: u64,
    },
    /// A peer was heard for the first time, or restarted, or changed its address.
    Peer {
        /// Link-local; its scope is the FT port.
        address: Ipv6Addr,
        /// MAC address of its FT port.
        mac: [u8; 6],
        /// Its identity.
        node: u64,
        /// Its boot nonce.
        nonce: u64,
    },
    /// The peer's lease is another one than what was noted.
    PeerLease(Duration),
    /// The peer is silent, or left.
    PeerLost,
}

/// The thread was not started; nothing was changed.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// Timers without a lease.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// No SCHED_FIFO, and the failover time is too short for an ordinary thread.
    #[error(
        "failover {failover:?} needs real-time scheduling, which was refused ({cause}): use at least {least:?}, or \
         allow SCHED_FIFO (CAP_SYS_NICE, and cpu.rt_runtime_us of the control group)"
    )]
    Realtime {
        /// As configured.
        failover: Duration,
        /// Least without real-time scheduling.
        least: Duration,
        /// What the kernel said.
        cause: std::io::Error,
    },
    /// A socket, the thread or its descriptors.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        cause: std::io::Error,
    },
}

/// A command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The thread did not take [`COMMANDS_MAX`] earlier ones.
    #[error("the real-time thread does not take commands: {COMMANDS_MAX} are waiting")]
    Full,
    /// The thread ended.
    #[error("the real-time thread has ended")]
    Ended,
}

/// Commands and status; cheap to clone.
#[derive(Clone)]
pub struct FtControl {
    pub(super) commands: Sender<FtCommand>,
    pub(super) wake: Arc<EventFd>,
    pub(super) status: Arc<Mutex<FtStatus>>,
}

impl FtControl {
    /// Hands a command to the thread without waiting.
    ///
    /// # Errors
    /// If it is not taken; a command that changes nothing any more may be dropped by the caller.
    pub fn command(&self, command: FtCommand) -> Result<(), CommandError> {
        self.commands.try_send(command).map_err(|refused| match refused {
            TrySendError::Full(_) => CommandError::Full,
            TrySendError::Disconnected(_) => CommandError::Ended,
        })?;
        // EAGAIN means that the counter is at its limit, so the thread is being woken already.
        let _already = self.wake.write(1);
        Ok(())
    }

    /// `clear module csm N ft active`.
    ///
    /// # Errors
    /// With the reason why this node stays active.
    pub async fn force_standby(&self) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.command(FtCommand::ForceStandby(reply)).map_err(|_| Refusal::Busy)?;
        answer.await.unwrap_or(Err(Refusal::Overtaken))
    }

    /// Has the session rest with its gate open, see [`FtCommand::Hold`].
    ///
    /// # Errors
    /// With the reason why it does not; it goes on then.
    pub async fn hold(&self) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.command(FtCommand::Hold(reply)).map_err(|_| Refusal::Busy)?;
        answer.await.unwrap_or(Err(Refusal::Overtaken))
    }

    /// The latest status that the thread published, at most one heartbeat old.
    #[must_use]
    pub fn status(&self) -> FtStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The running thread. When this and all of its [`FtControl`]s are dropped it leaves by itself.
pub struct FtHandle {
    pub(super) control: FtControl,
    /// Events, oldest first.
    pub events: mpsc::Receiver<FtEvent>,
    pub(super) thread: JoinHandle<Legacy>,
}

impl FtHandle {
    /// Commands and status for other tasks.
    #[must_use]
    pub fn control(&self) -> FtControl {
        self.control.clone()
    }

    /// See [`FtControl::command`].
    ///
    /// # Errors
    /// As there.
    pub fn command(&self, command: FtCommand) -> Result<(), CommandError> {
        self.control.command(command)
    }

    /// See [`FtControl::status`].
    #[must_use]
    pub fn status(&self) -> FtStatus {
        self.control.status()
    }

    /// Waits for the thread to end after [`FtCommand::Leave`] or [`FtCommand::Hold`]. Blocks: from tokio use
    /// `spawn_blocking`. Returns what the session leaves: above all itself, if it rests.
    ///
    /// # Errors
    /// If the thread panicked.
    pub fn join(self) -> std::thread::Result<Legacy> {
        self.thread.join()
    }
}
