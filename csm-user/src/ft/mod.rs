//! Fault tolerance: which node of a group forwards, decided over the FT VLAN and enforced by a lease.
//!
//! ```text
//!              listened long enough, nobody there: claim
//!   +--------+-----------------------------------------------------------------+
//!   |  init  | peer active, or ranks higher  +-----------+  silence: claim     v
//!   |        |------------------------------>|  standby  |--------------> +----------+
//!   +--------+                               |           |<-------------- |  active  |
//!    ^     |                                 +-----------+ loses to rival |          |
//!    |     |                                  ^    |    ^                 +----------+
//!    |     | peer not active,          outranked,  |    |                  ^        | asked for the role
//!    |     | ranks lower               no answer   |    | 10 s             |        | by one that may have it
//!    |     v                                  |    v    |                  |        v
//!    |   +-----------+ <----------------------+----+   +-----------+ ------+-- +-----------+
//!    |   | candidate |  outranks, preempts, or         | relay-out |  silence  | (flips in |
//!    |   | relay-in  |  is offered the role            |           |           | one write)|
//!    |   +-----------+ ---------> active               +-----------+ <-------- +-----------+
//!    |                 the role is yielded to it, or silence
//!    |
//!    +-- from any but left: the lease ran out unnoticed, or a timer fired too late: fence, listen again
//! ```
//!
//! Each node opens its gate on exactly two grounds. *Silence*: for max(own failover, peer's lease + guard) nothing was
//! heard, so the peer's lease has run out, unless heartbeats are lost in all of that time (promise P2 wants a second
//! active node then). *A yield*: the peer, whose gate is closed or relaying, gives up term `T` to the one that asked
//! for it, and until it hears otherwise behaves as if that node were active. A node yields a term once, never after
//! having taken it itself; so two nodes never open on each other's yields.
//!
//! Pure: [`wire`], [`envelope`], [`keyring`], [`paths`], [`parked`], [`election`], [`session`], [`spoken`], [`status`], [`explain`]. Shell: [`task`], one real-time thread. The protocol is
//! written down in `docs/ft-protocol.md`.
//!
//! References: RFC 5798 (VRRP: priority, preemption, master-down interval), RFC 2281 (HSRP: coup, resign), RFC 5880
//! (BFD: demultiplexing, echoed discriminator), RFC 5082 (hop limit 255), Gray and Cheriton 1989 (leases).

pub mod election;
pub mod envelope;
pub mod explain;
pub mod foreign;
pub mod keyring;
pub mod parked;
pub mod paths;
pub mod session;
pub mod spoken;
pub mod status;
pub mod task;
pub mod wire;
pub mod witness;

pub use status::FtStatus;
pub use task::handle::{
    CommandError, Controls, DataPath, FtCommand, FtControl, FtEvent, FtHandle, FtOptions, GateCell,
    SpawnError, TakeoverActions,
};

use std::fmt;

use csm_common::gate::GateState;
use thiserror::Error;

/// Where a node stands in the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Just started, or woke too late: listens before it takes part.
    Init = 0,
    /// Another node is active, or is to become so.
    Standby = 1,
    /// Asks its peer for the role; forwards what the peer relays, nothing else.
    Candidate = 2,
    /// Forwards for the group, as long as its lease lasts.
    Active = 3,
    /// Has yielded the role; hands strays to the successor.
    RelayOut = 4,
    /// Gone for good: this boot of the node never opens its gate again.
    Left = 5,
}

impl State {
    /// All states, in the order of their numbers on the wire.
    pub const ALL: [Self; 6] =
        [Self::Init, Self::Standby, Self::Candidate, Self::Active, Self::RelayOut, Self::Left];

    /// The gate that belongs to the state.
    #[must_use]
    pub const fn gate(self) -> GateState {
        match self {
            Self::Init | Self::Standby | Self::Left => GateState::Closed,
            Self::Candidate => GateState::RelayIn,
            Self::Active => GateState::Open,
            Self::RelayOut => GateState::RelayOut,
        }
    }

    /// The word that `show module csm N ft` prints: the CSM knows initializing, active and standby.
    #[must_use]
    pub const fn csm_word(self) -> &'static str {
        match self {
            Self::Init | Self::Left => "initializing",
            Self::Active => "active",
            Self::Standby | Self::Candidate | Self::RelayOut => "standby",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Init => "init",
            Self::Standby => "standby",
            Self::Candidate => "candidate",
            Self::Active => "active",
            Self::RelayOut => "relay-out",
            Self::Left => "left",
        })
    }
}

/// Why a node changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The daemon started.
    Started,
    /// Nothing was heard of the peer for the waiting time (at a cold start: the listening time).
    PeerSilent,
    /// The peer said that it leaves.
    PeerLeft,
    /// The peer is active.
    PeerActive,
    /// No node is active, and the peer ranks higher.
    Outranked,
    /// No node is active, and this one ranks higher.
    Election,
    /// This node, or its peer, ranks higher than the active one and is configured to preempt.
    Preempt,
    /// Tracking stands against the active node and not against the other, which is configured to preempt.
    Tracking,
    /// `clear module csm N ft active`.
    Forced,
    /// The active node offers the role, or has given it up already.
    Offered,
    /// The active node can no longer forward.
    Unable,
    /// The daemon was told to stop.
    Leave,
    /// A rival is active in a higher term, or ranks higher in the same.
    Rival,
    /// The lease ran out before it was renewed: the thread, or the host, had stopped.
    LeaseExpired,
    /// A timer fired later than half the failover time.
    WokeLate,
    /// The peer did not give the role that this node asked for.
    NoAnswer,
    /// The relay time is over, or the successor leaves: strays are no longer expected.
    RelayOver,
    /// The daemon was restarted while its dataplane went on.
    Restarted,
    /// Nothing is heard of the peer, and the witness has not granted the role.
    NoWitness,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Started => "started",
            Self::PeerSilent => "peer silent",
            Self::PeerLeft => "peer left",
            Self::PeerActive => "peer is active",
            Self::Outranked => "peer ranks higher",
            Self::Election => "ranks higher than its peer",
            Self::Preempt => "preemption",
            Self::Tracking => "tracking",
            Self::Forced => "clear ft active",
            Self::Offered => "offered by peer",
            Self::Unable => "active node cannot forward",
            Self::Leave => "leaving",
            Self::Rival => "lost to a rival",
            Self::LeaseExpired => "lease expired",
            Self::WokeLate => "woke late",
            Self::NoAnswer => "no answer from peer",
            Self::RelayOver => "relay ended",
            Self::Restarted => "restarted",
            Self::NoWitness => "waiting for the witness",
        })
    }
}

/// Why `clear module csm N ft active` was not carried out. The node stays active, unless it never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// Not the active node.
    #[error("this box is not active")]
    NotActive,
    /// No heartbeat from a peer.
    #[error("no peer is heard")]
    NoPeer,
    /// The peer says that it does not hear this node.
    #[error("the peer does not hear this box: the FT VLAN works in one direction only")]
    OneWay,
    /// The peer says that it cannot forward.
    #[error("the peer cannot forward")]
    PeerUnable,
    /// Promise P4.
    #[error("the peer's replica is not complete yet")]
    PeerIncomplete,
    /// A planned move is under way.
    #[error("a switchover is under way already")]
    Busy,
    /// The peer did not take the role within the bounded time.
    #[error("the peer did not take the role in time; this box stays active")]
    NoAnswer,
    /// The role moved for another reason before the peer answered.
    #[error("the role moved for another reason meanwhile")]
    Overtaken,
}
