//! What `show module csm N ft [detail]` is made of: counters, lateness, flight recorder. Pure.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::ft::envelope::PATHS_MAX;
use crate::ft::foreign::{FOREIGN_MAX, Foreign};
use crate::ft::keyring::Trust;
use crate::ft::paths::PathStatus;
use crate::ft::wire::{DecodeCounts, Kind};
use crate::ft::witness::votes::WitnessStatus;
use crate::ft::{Reason, Refusal, State};

/// Entries that the flight recorder keeps.
pub const FLIGHTS_MAX: usize = 64;

/// A snapshot of the real-time thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FtStatus {
    /// FT group, 1–254.
    pub group: u8,
    /// FT VLAN.
    pub vlan: u16,
    /// Identity of this node.
    pub node: u64,
    /// It was active last, as far as it knows: its table is the newest.
    pub keeper: bool,
    /// State of this node.
    pub state: State,
    /// Why it is in it.
    pub reason: Reason,
    /// The highest term known; of the active node: its own.
    pub term: u64,
    /// When the state changed, ns of CLOCK_MONOTONIC.
    pub changed_mono_ns: u64,
    /// The same, ns since 1970.
    pub changed_wall_ns: u64,
    /// Configured priority.
    pub priority: u8,
    /// Configured heartbeat interval.
    pub heartbeat: Duration,
    /// Configured failover time.
    pub failover: Duration,
    /// Lease length derived from them.
    pub lease: Duration,
    /// `failover - lease`.
    pub guard: Duration,
    /// Configured.
    pub preempt: bool,
    /// Preemption waits, because `clear module csm N ft active` was given here.
    pub preempt_held: bool,
    /// So it does with tracking against the peer, which the command was given in spite of.
    pub held_firmly: bool,
    /// Preemption waits for so long yet, because the role has come back too often.
    pub preempt_damped: Option<Duration>,
    /// How often it came back by preemption lately.
    pub returns: u8,
    /// Able to forward, tokio alive.
    pub forwardable: bool,
    /// By tracking.
    pub eligible: bool,
    /// Replica complete and at most 100 ms behind; always true of the active node.
    pub replica_complete: bool,
    /// Lag of the replica in ms, as last told.
    pub replica_lag_ms: u32,
    /// The peer, if it is heard.
    pub peer: Option<PeerStatus>,
    /// The ways to the peer, the FT VLAN first.
    pub paths: [Option<PathStatus>; PATHS_MAX],
    /// Who else speaks there.
    pub foreign: [Option<Foreign>; FOREIGN_MAX],
    /// What proves who speaks.
    pub trust: Trust,
    /// The third host that is asked; `None`: there is none.
    pub witness: Option<WitnessStatus>,
    /// Messages.
    pub counters: FtCounters,
    /// The thread runs under SCHED_FIFO.
    pub realtime: bool,
    /// Its memory is locked.
    pub memory_locked: bool,
    /// How late the thread's timers fired.
    pub lateness: Lateness,
    /// Outcome of the last `clear module csm N ft active` given here.
    pub last_forced: Option<Result<(), Refusal>>,
    /// Two active nodes heard each other: how often.
    pub overlaps: u64,
    /// How long at most, the last time.
    pub overlap_last: Duration,
    /// Events that tokio did not take in time.
    pub events_dropped: u64,
    /// Claims and fences, oldest first.
    pub flights: Vec<Flight>,
}

/// The peer as its last message has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Identity.
    pub node: u64,
    /// Of this boot.
    pub nonce: u64,
    /// Source of its messages on the FT VLAN, unspecified if none came there.
    pub address: Ipv6Addr,
    /// Of its FT port.
    pub mac: [u8; 6],
    /// State.
    pub state: State,
    /// Its priority: `alternate priority` in the CSM's display.
    pub priority: u8,
    /// Its preempt.
    pub preempt: bool,
    /// Its heartbeat interval.
    pub heartbeat: Duration,
    /// Its failover time.
    pub failover: Duration,
    /// Its lease.
    pub lease: Duration,
    /// It can forward.
    pub forwardable: bool,
    /// Tracking has nothing against it.
    pub eligible: bool,
    /// Its replica is complete.
    pub replica_complete: bool,
    /// It was active last, as far as it knows.
    pub keeper: bool,
    /// Lag of its replica, ms.
    pub replica_lag_ms: u32,
    /// It hears this node; false for long: the link works in one direction only.
    pub hears_us: bool,
    /// Its configuration has the same checksum; false is the CSM's "Configuration is out-of-sync".
    pub config_in_sync: bool,
    /// It runs the same software.
    pub software_in_sync: bool,
    /// Its heartbeat interval and failover time are this node's.
    pub timers_in_sync: bool,
    /// Age of its last message at the time of the snapshot.
    pub age: Duration,
}

/// Messages of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCount {
    /// Handed to the kernel.
    pub sent: u64,
    /// Accepted.
    pub received: u64,
}

/// Counters of the CSM's `show ... ft detail` and MIB, and those that only this product has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FtCounters {
    /// State heartbeats.
    pub heartbeat: KindCount,
    /// Claims (cslbxFtStats: coup).
    pub coup: KindCount,
    /// Requests for the role.
    pub elect: KindCount,
    /// Offers and yields.
    pub relinquish: KindCount,
    /// Datagrams received, good or not.
    pub packets: u64,
    /// Of these not accepted, for any reason below.
    pub dropped: u64,
    /// Already seen, or overtaken by a later one.
    pub duplicates: u64,
    /// Of another group on the same VLAN.
    pub other_group: u64,
    /// Of a third node while a peer is heard.
    pub third_node: u64,
    /// Of an earlier boot of the peer.
    pub stale_boot: u64,
    /// With this node's own identity: two nodes are configured alike, or a loop.
    pub own_identity: u64,
    /// Hop limit not 255: crossed a router (RFC 5082).
    pub hop_limit: u64,
    /// Without the tag that is required where they came.
    pub unauthenticated: u64,
    /// With a tag made by another key.
    pub wrong_key: u64,
    /// Messages that had come on a faster path already; not among the dropped.
    pub copies: u64,
    /// Not decoded, by cause; holds the CSM's "checksum failed".
    pub decode: DecodeCounts,
    /// The kernel did not take a message.
    pub send_errors: u64,
}

impl FtCounters {
    /// The counters of `kind`.
    pub fn kind_mut(&mut self, kind: Kind) -> &mut KindCount {
        match kind {
            Kind::Heartbeat => &mut self.heartbeat,
            Kind::Coup => &mut self.coup,
            Kind::Elect => &mut self.elect,
            Kind::Relinquish => &mut self.relinquish,
        }
    }
}

/// Upper bounds of all but the last bucket of [`Lateness`], in µs.
pub const LATENESS_BOUNDS_US: [u64; 7] = [50, 100, 500, 1_000, 5_000, 10_000, 50_000];

/// How late timers fired: a histogram and the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// Counts by [`LATENESS_BOUNDS_US`], the last bucket holds what is later.
    pub buckets: [u64; LATENESS_BOUNDS_US.len() + 1],
    /// The latest, ns.
    pub worst_ns: u64,
    /// Wakings later than half the failover time.
    pub too_late: u64,
}

impl Lateness {
    /// Counts a timer that fired `late_ns` after its deadline.
    pub fn record(&mut self, late_ns: u64) {
        let bucket = LATENESS_BOUNDS_US.partition_point(|bound| bound * 1_000 < late_ns);
        self.buckets[bucket] += 1;
        self.worst_ns = self.worst_ns.max(late_ns);
    }
}

/// What the flight recorder keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlightKind {
    /// The gate was opened.
    Claim,
    /// The gate was shut, or turned to relaying.
    Fence,
}

/// One claim or fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Which.
    pub kind: FlightKind,
    /// Why.
    pub reason: Reason,
    /// Term claimed or given up.
    pub term: u64,
    /// When the gate opened or shut, CLOCK_MONOTONIC, ns. One that its lease shut did so at the lease's end, which the thread may
    /// get to know later.
    pub mono_ns: u64,
    /// The same by the wall clock, ns since 1970.
    pub wall_ns: u64,
    /// Time since the last message of the peer, when this was recorded; `None`: never heard.
    pub path_age: Option<Duration>,
    /// How late the thread was woken for it.
    pub lateness: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_falls_into_the_bucket_that_bounds_it() {
        let mut lateness = Lateness::default();
        for late_us in [0, 50, 51, 50_000, 50_001] {
            lateness.record(late_us * 1_000);
        }
        assert_eq!(lateness.buckets, [2, 1, 0, 0, 0, 0, 1, 1]);
        assert_eq!(lateness.worst_ns, 50_001_000);
    }
}
