//! A machine at rest, and the same one in another process.

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

impl Election {
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
