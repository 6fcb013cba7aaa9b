//! What happens to the machine, and what it wants done.

use std::time::Duration;

use csm_common::gate::GateState;

use crate::ft::wire::Message;
use crate::ft::{Reason, Refusal, State};

/// A timer of the machine; there is one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Timer {
    /// Send the next heartbeat, and as the active node renew the lease.
    Heartbeat,
    /// Init: listened long enough.
    Listen,
    /// Nothing heard of the peer since it was last armed.
    Silence,
    /// Candidate: ask again. Active with an offer out: offer again.
    Retry,
    /// Relay-out: strays are over.
    Relay,
    /// Active and unable to forward: waited long enough for the peer's replica.
    Patience,
    /// Standby that was refused: may ask again.
    Cooling,
    /// Preemption has waited long enough, or the role has not come back for long.
    Damping,
}

impl Timer {
    /// All timers, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Heartbeat,
        Self::Listen,
        Self::Silence,
        Self::Retry,
        Self::Relay,
        Self::Patience,
        Self::Cooling,
        Self::Damping,
    ];
}

/// What happens to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// First event: take part.
    Start,
    /// A timer fired in time.
    Timer(Timer),
    /// A timer fired later than half the failover time: what was true when it was set may not be.
    Late(Timer),
    /// The lease of an open gate ran out before it was renewed; the gate shut itself.
    LeaseExpired,
    /// Instead of it, right after a claim: the thread was held up before it had said any of it, so there was none.
    Unsaid,
    /// A message arrived.
    Received(Message),
    /// `clear module csm N ft active`.
    ForceStandby,
    /// SIGTERM.
    Leave,
    /// Able to forward.
    Forwardable(bool),
    /// Verdict of tracking.
    Eligible(bool),
    /// State of this node's replica.
    Replica {
        /// Snapshot applied.
        complete: bool,
        /// Oldest unacknowledged delta, ms.
        lag_ms: u32,
    },
    /// The daemon is about to restart: ask the peer to hold.
    Hold,
    /// The first event instead of [`Event::Start`], after [`Election::restore`](super::Election::restore).
    Resume,
    /// The witness's grant is in force, or no longer.
    Granted {
        /// In force.
        granted: bool,
        /// The highest term that the witness knows.
        term: u64,
    },
    /// A frame of another owner of the addresses was seen.
    RivalSeen,
    /// The configuration was changed.
    Configured {
        /// [`Params::priority`](super::Params::priority).
        priority: u8,
        /// [`Params::preempt`](super::Params::preempt).
        preempt: bool,
        /// [`Params::config_checksum`](super::Params::config_checksum).
        config_checksum: u64,
    },
}

/// What the shell does for the machine, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Multicast this message.
    Send(Message),
    /// (Re)start a timer.
    Arm(Timer, Duration),
    /// Stop a timer.
    Disarm(Timer),
    /// Set the gate. Open and relay-in last for one lease from now, relay-out for [`RELAY`](super::RELAY).
    Gate(GateState),
    /// Before opening: the replica becomes the table.
    Adopt,
    /// Tell the networks where the addresses are now.
    Announce(Reason),
    /// No longer active.
    StopAnnounce,
    /// The state changed.
    Became(State, Reason),
    /// A peer is there, or has restarted, or moved to another port.
    PeerUp,
    /// The peer is silent or has left.
    PeerLost,
    /// Outcome of [`Event::ForceStandby`].
    Forced(Result<(), Refusal>),
    /// Outcome of [`Event::Hold`], unless it is [`Effect::Park`].
    NotHeld(Refusal),
    /// The machine rests until [`Event::Resume`], its gate open: for the hold, counted from the first message that asked for
    /// it, if the peer grants it; else for the lease in force. Nothing more will happen.
    Park {
        /// The peer grants it.
        granted: bool,
    },
    /// The peer may keep its gate open for so long without a word: no claim before, also by who is started in this node's place.
    Promise(Duration),
    /// A rival was active at the same time.
    Overlap,
    /// A message was not accepted.
    Dropped(DropCause),
    /// After [`State::Left`]: nothing more will happen.
    End,
}

/// Why the machine did not accept a well-formed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropCause {
    /// Of another group.
    OtherGroup,
    /// With this node's identity.
    OwnIdentity,
    /// Of a third node.
    ThirdNode,
    /// Of an earlier boot of the peer.
    StaleBoot,
    /// Seen, or overtaken.
    Duplicate,
}
