//! What an election is told to begin with, and the times that follow from it.

use std::time::Duration;

use super::RETRY_MAX;
use crate::model::{CLOCK_ERROR, MARGIN};

/// What is configured. Only what [`Event::Configured`](super::Event::Configured) names changes while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Params {
    /// FT group.
    pub group: u8,
    /// Identity, not 0.
    pub node: u64,
    /// Boot nonce, not 0.
    pub nonce: u64,
    /// Priority, 1–254.
    pub priority: u8,
    /// `preempt`.
    pub preempt: bool,
    /// Heartbeat interval.
    pub heartbeat: Duration,
    /// Failover time.
    pub failover: Duration,
    /// Length of the lease, [`crate::model::lease()`] of the two.
    pub lease: Duration,
    /// How long the gate may stay open while the daemon restarts, if the peer grants it; at most
    /// [`crate::ft::wire::HOLD_MAX`].
    pub hold: Duration,
    /// A boot of the peer is believed only once it echoes this one's nonce, also when nobody is heard: with a configured key,
    /// so that a recorded message changes nothing.
    pub proven_only: bool,
    /// There is a witness: silence is no ground for a claim without its grant.
    pub witness: bool,
    /// How long preemption waits at first when the role has come back too often; zero: never.
    pub damping: Duration,
    /// Of the FT port.
    pub mac: [u8; 6],
    /// Of the configuration.
    pub config_checksum: u64,
    /// Of the software.
    pub software_checksum: u64,
}

impl Params {
    /// How long nothing must be heard of a peer with `lease` before its lease is over for certain: the guard covers a
    /// fifth of it, as [`crate::model::lease`] requires of both nodes.
    pub(super) fn silence(&self, peer_lease: Duration) -> Duration {
        silence(self.failover, peer_lease)
    }

    /// How long a start waits that knows of no peer: a pair is configured alike.
    pub(in crate::ft) fn own_silence(&self) -> Duration {
        self.silence(self.lease)
    }

    /// Between two heartbeats: three in a failover time at least, on every path.
    pub(super) fn beat(&self) -> Duration {
        self.heartbeat.min(self.failover / 3)
    }

    /// Between two requests, or two offers.
    pub(in crate::ft) fn retry(&self) -> Duration {
        self.heartbeat.min(RETRY_MAX)
    }
}

/// How long a node with `failover` waits for a peer with `peer_lease`, see [`Params::silence`].
#[must_use]
pub fn silence(failover: Duration, peer_lease: Duration) -> Duration {
    failover.max(peer_lease + guard(peer_lease))
}

/// By how much a lease is outwaited.
fn guard(lease: Duration) -> Duration {
    lease / 5 + CLOCK_ERROR + MARGIN
}

/// After how many ns a lease of another host is over for certain.
#[must_use]
pub(in crate::ft) fn guarded(lease: Duration) -> u64 {
    u64::try_from((lease + guard(lease)).as_nanos()).unwrap_or(u64::MAX)
}
