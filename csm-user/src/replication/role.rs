//! The role as replication is told it, and whose entries win meanwhile. Pure.
//!
//! ```text
//!            Active                    Yielding, Lost                       handed over, or the time for it is up
//! standby ───────────▶ active ───────────────────────▶ handing over ─────────────────────────────────▶ standby
//!    ▲                   │  ▲                               │ Active
//!    └───────────────────┘  └───────────────────────────────┘
//!         Standby
//! ```
//!
//! From `active` until `standby` this node deletes and replaces nothing on its peer's word.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the election made of this node, as far as replication is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Another node is active, or none; there is nothing to tell it.
    #[default]
    Standby,
    /// This node forwards: it tells all, and its own entries win.
    Active,
    /// It gave the role to its peer, which is active or about to be: what the peer has not acknowledged is told first.
    Yielding,
    /// It ceased to forward while its peer did, or without noticing: all that it holds is told first, and the peer keeps
    /// what it has itself.
    Lost,
}

impl Role {
    /// The role after `told`. What a node that was active has to hand over is not ended by what it becomes next, except
    /// active again; and one that was not active has nothing to hand over.
    #[must_use]
    pub const fn next(self, told: Self) -> Self {
        match (self, told) {
            (_, Self::Active) => Self::Active,
            (Self::Active, told) => told,
            (before, Self::Standby | Self::Yielding | Self::Lost) => before,
        }
    }

    /// There is something to hand over.
    #[must_use]
    pub const fn hands_over(self) -> bool {
        matches!(self, Self::Yielding | Self::Lost)
    }
}

/// Whether this node's own entries win against its peer's. Times are nanoseconds of CLOCK_MONOTONIC.
///
/// It is set by the real-time thread before the gate opens, ahead of all other news of the role, and reset only for the
/// tenure that ended: a release that comes late does not undo a later takeover.
#[derive(Debug, Default)]
pub struct Tenure {
    adopted_ns: AtomicU64,
    released_ns: AtomicU64,
}

impl Tenure {
    /// This node takes over. Two atomic operations; never waits.
    pub fn adopt(&self, now_ns: u64) {
        // A first moment of 0 would not count as one.
        self.adopted_ns.fetch_max(now_ns.max(1), Ordering::AcqRel);
    }

    /// The tenure that ended at `ended_ns` has been handed over: from now on the peer's word counts.
    pub fn release(&self, ended_ns: u64) {
        self.released_ns.fetch_max(ended_ns.max(1), Ordering::AcqRel);
    }

    /// This node's own entries win.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.adopted_ns.load(Ordering::Acquire) > self.released_ns.load(Ordering::Acquire)
    }

    /// Differs before and after a release. What began before it was not meant for a node that mirrors.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        self.released_ns.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::{Role, Tenure};

    #[test]
    fn what_is_to_be_handed_over_stays_so_until_the_role_returns() {
        use Role::{Active, Lost, Standby, Yielding};
        assert_eq!(Standby.next(Lost), Standby);
        assert_eq!(Standby.next(Yielding), Standby);
        assert_eq!(Active.next(Yielding), Yielding);
        assert_eq!(Active.next(Standby), Standby);
        assert_eq!(Yielding.next(Standby), Yielding);
        assert_eq!(Yielding.next(Lost), Yielding);
        assert_eq!(Lost.next(Active), Active);
    }

    #[test]
    fn a_late_release_does_not_end_a_new_tenure() {
        let tenure = Tenure::default();
        assert!(!tenure.holds());
        tenure.adopt(10);
        assert!(tenure.holds());
        // Lost at 20, taken again at 30, and only then handed over.
        tenure.adopt(30);
        tenure.release(20);
        assert!(tenure.holds());
        tenure.release(40);
        assert!(!tenure.holds());
        assert_ne!(tenure.stamp(), 0);
    }
}
