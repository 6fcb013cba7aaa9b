//! What a machine will do, apart from what it has counted: for checkers that tell states from one another.

use std::hash::{Hash, Hasher};

use super::Election;
use crate::ft::wire::Message;

impl Election {
    /// Boot nonce and sequence number last accepted of a peer.
    #[must_use]
    pub const fn last_accepted(&self) -> (u64, u64) {
        self.last
    }

    /// The same of each boot that is remembered, the last one first.
    pub fn accepted(&self) -> impl Iterator<Item = (u64, u64)> {
        std::iter::once(self.last).chain(self.seen).filter(|&(nonce, _)| nonce != 0)
    }

    /// The last term in which it was active, if it has heard of no other active node since: then no table is newer than its own.
    #[must_use]
    pub const fn kept_term(&self) -> Option<u64> {
        if self.keeper { Some(self.claimed) } else { None }
    }

    /// Hashes what the machine's future hangs on. `term`, `sequence` (given the boot nonce and the number) and `message` stand for
    /// the numbers in it: it acts on terms by their order and distance, on sequence numbers by their order alone, so two
    /// machines that are equal under substitutes which keep these will act alike.
    pub fn hash_outlook<H: Hasher, M: Hash>(
        &self,
        term: impl Fn(u64) -> u64,
        sequence: impl Fn(u64, u64) -> u64,
        message: impl Fn(&Message) -> M,
        hasher: &mut H,
    ) {
        // Named one by one, so that a field which is added is not forgotten here.
        let Self {
            params,
            state,
            reason,
            term: own_term,
            sequence: _,
            peer,
            last,
            peer_lease,
            retired,
            seen: _,
            forwardable,
            eligible,
            complete,
            lag_ms,
            keeper,
            // Of interest only to the event that follows in the same turn.
            unclaimed: _,
            offer,
            hold,
            tries,
            offered,
            cooling,
            patient,
            held,
            firm,
            leaving,
            lingering,
            granted,
            claimed,
            returns,
            damped,
        } = self;
        (params.nonce, params.priority, params.preempt).hash(hasher);
        (state, reason, term(*own_term), last.0).hash(hasher);
        for (nonce, number) in self.accepted() {
            (nonce, sequence(nonce, number)).hash(hasher);
        }
        if *keeper {
            term(*claimed).hash(hasher);
        }
        // A shorter one is waited for as its own is.
        (returns, held, peer_lease.max(&params.lease)).hash(hasher);
        (peer.as_ref().map(message), retired, lag_ms, offer, tries).hash(hasher);
        hold.map(|number| sequence(params.nonce, number)).hash(hasher);
        let flags = [
            forwardable,
            eligible,
            complete,
            keeper,
            offered,
            cooling,
            patient,
            firm,
            leaving,
            lingering,
            granted,
            damped,
        ];
        flags.iter().fold(0_u16, |word, flag| word << 1 | u16::from(**flag)).hash(hasher);
    }
}
