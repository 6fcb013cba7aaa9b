//! What is kept and told of what a session did.

use std::time::Duration;

use super::{Port, Session};
use crate::ft::election::DropCause;
use crate::ft::status::{FLIGHTS_MAX, Flight, FlightKind};
use crate::ft::{FtEvent, Reason, State};

impl Session {
    pub(super) fn record_change(
        &mut self,
        state: State,
        reason: Reason,
        before: (State, u64),
        now: u64,
        port: &mut impl Port,
    ) {
        let wall_ns = port.wall_ns();
        // The gate shuts at the end of its lease, whenever the thread gets to know.
        let shut_ns = self.shut_ns.filter(|_| before.0 == State::Active && !self.controls.lease_off);
        let since_ns = now.saturating_sub(shut_ns.unwrap_or(now));
        let (old_state, old_term) = before;
        let term = self.election.term();
        let change = match (old_state == State::Active, state == State::Active) {
            (false, true) => Some((FlightKind::Claim, term)),
            (true, false) => Some((FlightKind::Fence, old_term)),
            (true, true) | (false, false) => None,
        };
        if let Some((kind, term)) = change {
            let flights = &mut self.status.flights;
            if flights.len() == FLIGHTS_MAX {
                flights.remove(0);
            }
            flights.push(Flight {
                kind,
                reason,
                term,
                mono_ns: now - since_ns,
                wall_ns: wall_ns.saturating_sub(since_ns),
                path_age: self.heard_ns.map(|heard| Duration::from_nanos(now.saturating_sub(heard))),
                lateness: Duration::from_nanos(self.late_ns),
            });
        }
        if old_state != state {
            (self.status.changed_mono_ns, self.status.changed_wall_ns) = (now, wall_ns);
        }
        self.tell(FtEvent::Role { state, reason, term, at_ns: now }, port);
    }

    /// Both were active at most since the later claim, and at most since the path broke.
    pub(super) fn record_overlap(&mut self, now: u64) {
        let since = self.status.changed_mono_ns.max(self.heard_ns.unwrap_or(0));
        self.status.overlaps += 1;
        self.status.overlap_last = Duration::from_nanos(now.saturating_sub(since));
    }

    pub(super) fn record_drop(&mut self, cause: DropCause) {
        let counters = &mut self.status.counters;
        counters.dropped += 1;
        *match cause {
            DropCause::OtherGroup => &mut counters.other_group,
            DropCause::OwnIdentity => &mut counters.own_identity,
            DropCause::ThirdNode => &mut counters.third_node,
            DropCause::StaleBoot => &mut counters.stale_boot,
            DropCause::Duplicate => &mut counters.duplicates,
        } += 1;
    }

    pub(super) fn tell(&mut self, event: FtEvent, port: &mut impl Port) {
        if !port.event(event) {
            self.status.events_dropped += 1;
        }
    }

    pub(super) fn note_lateness(&mut self, late_ns: u64) {
        self.status.lateness.record(late_ns);
        self.status.lateness.too_late += u64::from(late_ns > self.too_late());
    }
}
