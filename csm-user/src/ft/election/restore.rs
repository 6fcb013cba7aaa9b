//! A machine at rest, and the same one in another process.

use std::time::Duration;

use super::{Election, Params, RETIRED_MAX};
use crate::ft::wire::Message;
use crate::ft::{Reason, State};

/// What is kept of an active machine while its daemon restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Identity of the node.
    pub node: u64,
    /// Boot nonce: it is the same boot that goes on.
    pub nonce: u64,
    /// Claimed.
    pub term: u64,
    /// Of the last message.
    pub sequence: u64,
    /// Last message of the peer.
    pub peer: Option<Message>,
    /// See [`Election::last_accepted`].
    pub last: (u64, u64),
    /// Boots of the peer that are over.
    pub retired: [u64; RETIRED_MAX],
    /// How far earlier boots had come.
    pub seen: [(u64, u64); RETIRED_MAX],
    /// Nothing tracked stands against the node. Until that is looked at anew the peer hears no other word, and does nothing on the
    /// strength of one.
    pub eligible: bool,
}

/// What keeps a node from taking the role back, as a planned restart in whatever role leaves it: the operator's command, and damping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restraint {
    /// Identity of the node.
    pub node: u64,
    /// Boot of the peer to which the role was moved by command; `None`: it was not, or has moved since.
    pub held: Option<u64>,
    /// See [`Election::is_held_firmly`].
    pub firm: bool,
    /// See [`Election::returns`].
    pub returns: u8,
    /// See [`Election::is_damped`].
    pub damped: bool,
    /// When [`super::Timer::Damping`] is due, CLOCK_MONOTONIC, ns; it is armed as long as there are returns.
    pub until_ns: u64,
}

impl Restraint {
    /// Nothing keeps it.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.held.is_none() && self.returns == 0
    }

    /// What is left of it at `now_ns`, if returns are forgotten after `window_ns` of rest.
    #[must_use]
    pub fn left(mut self, now_ns: u64, window_ns: u64) -> Self {
        if self.damped && self.until_ns <= now_ns {
            (self.damped, self.until_ns) = (false, self.until_ns.saturating_add(window_ns));
        }
        if self.until_ns <= now_ns {
            (self.returns, self.damped) = (0, false);
        }
        self
    }
}

impl Election {
    /// What keeps it from taking the role back, if [`super::Timer::Damping`] is due at `until_ns`.
    #[must_use]
    pub const fn restraint(&self, until_ns: u64) -> Restraint {
        let Self { params: Params { node, .. }, held, returns, damped, .. } = *self;
        Restraint { node, held, firm: self.is_held_firmly(), returns, damped, until_ns }
    }

    /// Is kept from it as an earlier process of this node was.
    pub const fn restrain(&mut self, restraint: &Restraint) {
        let Restraint { held, firm, returns, damped, .. } = *restraint;
        (self.held, self.firm, self.returns, self.damped) = (held, firm, returns, damped);
    }

    /// The lease that the peer had when it was heard last.
    #[must_use]
    pub const fn peer_lease(&self) -> Duration {
        self.peer_lease
    }

    /// The same, of which an earlier daemon of this node noted that the peer's lease was `lease`. As long as nothing is heard it may have that,
    /// so nothing is claimed before it is over, whatever this node's own timers are by now.
    #[must_use]
    pub const fn with_peer_lease(mut self, lease: Duration) -> Self {
        self.peer_lease = lease;
        self
    }

    /// What is to be kept.
    #[must_use]
    pub const fn rest(&self) -> Rest {
        let Self { params: Params { node, nonce, .. }, term, sequence, peer, last, retired, .. } = *self;
        Rest { node, nonce, term, sequence, peer, last, retired, seen: self.seen, eligible: self.eligible }
    }

    /// The active machine of `rest`, with what else is configured now; [`super::Event::Resume`] is to follow.
    #[must_use]
    pub fn restore(params: Params, rest: &Rest) -> Self {
        let Rest { node, nonce, term, sequence, peer, last, retired, seen, eligible } = *rest;
        let fresh = Self::new(Params { node, nonce, ..params });
        let (state, reason) = (State::Active, Reason::Restarted);
        let (forwardable, keeper, claimed) = (true, true, term);
        Self {
            state,
            reason,
            term,
            sequence,
            peer,
            last,
            peer_lease: peer.map_or(fresh.peer_lease, |peer| peer.lease),
            retired,
            seen,
            forwardable,
            eligible,
            keeper,
            claimed,
            ..fresh
        }
    }
}
