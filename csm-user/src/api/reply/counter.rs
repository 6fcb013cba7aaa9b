//! What `show module csm N stats` and `show module csm N vserver` count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;

/// Count of one reason, over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReasonCount {
    /// Name, see [`csm_common::counter::Reason::name`].
    pub reason: String,
    /// What became of the frames.
    pub verdict: Verdict,
    /// Frames.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Life of connections on this node since its start. `None`: not measured.
///
/// What came from the peer counts in `current` only: it was created elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionCounters {
    /// Proven by both sides.
    pub created: Option<u64>,
    /// Proven ones that this node removed: closed by their ends, or idle. Without those that the peer ended, and those
    /// whose place a new connection with the same addresses and ports took.
    pub destroyed: Option<u64>,
    /// Proven ones in the table, by the last walk over it.
    pub current: Option<u64>,
    /// Of the destroyed, those that were idle for too long.
    pub timed_out: Option<u64>,
    /// Refused first packets (no real, not in service, no room) and handshakes not completed in the pending time.
    pub failed: Option<u64>,
}

/// Counters of the dataplane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountersReply {
    /// Balanced connections.
    pub connections: ConnectionCounters,
    /// Server-initiated connections, which are not in `connections`.
    pub server_initiated: ConnectionCounters,
    /// Milliseconds since the last whole walk over the tables, to which `current` and all that ended belong; `None`:
    /// none has been completed.
    pub walked_ms_ago: Option<u64>,
    /// Every reason, in the order of its number.
    pub reasons: Vec<ReasonCount>,
    /// The same apart for each port.
    pub ports: Vec<PortCounters>,
}

/// What came in by a port: the sum over its reasons is what the port has received since the program was attached to it, but for
/// fragments that were kept, which come, and count, once more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortCounters {
    /// Name of the interface, or its index if it is not this node's any more; `None`: all that have no count of their own.
    pub interface: Option<String>,
    /// Frames.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The reasons that were counted, in the order of their numbers.
    pub reasons: Vec<ReasonCount>,
}

impl CountersReply {
    /// Frames counted under `reason`.
    #[must_use]
    pub fn packets(&self, reason: csm_common::counter::Reason) -> u64 {
        self.reasons.iter().filter(|count| count.reason == reason.name()).map(|count| count.packets).sum()
    }
}
