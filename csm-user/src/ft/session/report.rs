//! What a session says of itself.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::{Arrival, Session};
use crate::ft::election::{Election, Timer};
use crate::ft::envelope;
use crate::ft::foreign::{FOREIGN_MAX, Why};
use crate::ft::keyring::Trust;
use crate::ft::status::{FLIGHTS_MAX, FtCounters, FtStatus, Lateness, PeerStatus};
use crate::ft::wire::{Kind, Message};
use crate::ft::{Reason, State};

impl Session {
    /// Brings the status up to date; cheap enough for every waking.
    pub fn status(&mut self, now: u64) -> &FtStatus {
        let own = self.election.message(Kind::Heartbeat);
        let status = &mut self.status;
        status.state = self.election.state();
        status.reason = match (self.election.reason(), self.election.peer().map(|peer| peer.state)) {
            // It waits for the witness only as long as it hears nobody.
            (Reason::NoWitness, Some(State::Active)) => Reason::PeerActive,
            (Reason::NoWitness, Some(_)) => Reason::Outranked,
            (reason, _) => reason,
        };
        status.term = own.term;
        (status.priority, status.preempt) = (own.priority, self.election.params().preempt);
        status.preempt_held = self.election.is_preempt_held();
        status.held_firmly = self.election.is_held_firmly();
        let damped = self.deadlines[Timer::Damping as usize].filter(|_| self.election.is_damped());
        status.preempt_damped = damped.map(|until| Duration::from_nanos(until.saturating_sub(now)));
        status.returns = self.election.returns();
        status.forwardable = own.forwardable;
        status.eligible = own.eligible;
        status.replica_complete = own.complete;
        status.keeper = own.keeper;
        status.replica_lag_ms = own.lag_ms;
        let age = Duration::from_nanos(self.heard_ns.map_or(0, |heard| now.saturating_sub(heard)));
        let address = self.told_peer.map_or(Ipv6Addr::UNSPECIFIED, |(_, address, _)| address);
        status.peer = self.election.peer().map(|peer| peer_status(peer, &own, address, age));
        status.paths = self.paths.status(now);
        status.foreign = self.foreigners.status(now);
        status.trust = self.keyring.trust();
        status.witness = self.votes.as_ref().map(|votes| votes.status(now, &self.election));
        status
    }

    /// A message was not believed.
    pub(super) fn note_foreign(&mut self, message: &Message, arrival: Arrival, why: Why, now: u64) {
        if let Some(vlan) = self.paths.vlan(arrival.path) {
            self.foreigners.note(vlan, arrival.source, message.group, why, now);
        }
    }

    /// A message was believed and dropped: who said it, if it is none of this pair's. `before`: the counters before it.
    pub(super) fn note_dropped(
        &mut self,
        before: &FtCounters,
        message: &Message,
        arrival: Arrival,
        now: u64,
    ) {
        let counters = &self.status.counters;
        let why = match before {
            before if before.other_group != counters.other_group => Why::Group,
            before if before.third_node != counters.third_node => Why::Third,
            before if before.own_identity != counters.own_identity => Why::Twin,
            _ => return,
        };
        self.note_foreign(message, arrival, why, now);
    }

    /// Copies the status without allocating once `target` has room for the flights.
    pub fn copy_status(&mut self, target: &mut FtStatus) {
        let own = std::mem::take(&mut self.status.flights);
        let mut theirs = std::mem::take(&mut target.flights);
        theirs.clone_from(&own);
        target.clone_from(&self.status);
        target.flights = theirs;
        self.status.flights = own;
    }
}

fn peer_status(peer: &Message, own: &Message, address: Ipv6Addr, age: Duration) -> PeerStatus {
    PeerStatus {
        node: peer.node,
        nonce: peer.nonce,
        address,
        mac: peer.mac,
        state: peer.state,
        priority: peer.priority,
        preempt: peer.preempt,
        heartbeat: peer.heartbeat,
        failover: peer.failover,
        lease: peer.lease,
        forwardable: peer.forwardable,
        eligible: peer.eligible,
        replica_complete: peer.complete,
        keeper: peer.keeper,
        replica_lag_ms: peer.lag_ms,
        hears_us: peer.hears_you && peer.peer_nonce == own.nonce,
        config_in_sync: peer.config_checksum == own.config_checksum,
        software_in_sync: peer.software_checksum == own.software_checksum,
        timers_in_sync: (peer.heartbeat, peer.failover) == (own.heartbeat, own.failover),
        age,
    }
}

pub(in crate::ft) fn blank(election: &Election, vlan: u16) -> FtStatus {
    let params = election.params();
    FtStatus {
        group: params.group,
        vlan,
        node: params.node,
        keeper: false,
        state: election.state(),
        reason: election.reason(),
        term: election.term(),
        changed_mono_ns: 0,
        changed_wall_ns: 0,
        priority: params.priority,
        heartbeat: params.heartbeat,
        failover: params.failover,
        lease: params.lease,
        guard: params.failover.saturating_sub(params.lease),
        preempt: params.preempt,
        preempt_held: false,
        held_firmly: false,
        preempt_damped: None,
        returns: 0,
        forwardable: false,
        eligible: true,
        replica_complete: false,
        replica_lag_ms: 0,
        peer: None,
        paths: [None; envelope::PATHS_MAX],
        foreign: [None; FOREIGN_MAX],
        trust: Trust::None,
        witness: None,
        counters: FtCounters::default(),
        realtime: false,
        memory_locked: false,
        lateness: Lateness::default(),
        last_forced: None,
        overlaps: 0,
        overlap_last: Duration::ZERO,
        events_dropped: 0,
        flights: Vec::with_capacity(FLIGHTS_MAX),
    }
}
