//! A session that rests while its daemon restarts, and the one that goes on.

use std::time::Duration;

use csm_common::gate::{Gate, GateState};

use super::{Port, Session, nanos};
use crate::ft::State;
use crate::ft::election::{Election, Event, Restraint, Timer};
use crate::ft::parked::{OWN_MACS_MAX, Parked};

impl Session {
    /// The same, see [`Election::with_peer_lease`]; `None`: nothing was noted.
    #[must_use]
    pub const fn with_peer_lease(mut self, noted: Option<Duration>) -> Self {
        self.told_lease = noted;
        if let Some(lease) = noted {
            self.election = self.election.with_peer_lease(lease);
        }
        self
    }

    /// Goes on where the session that left `parked` rested. If its lease is over it listens like any that was away.
    pub fn resume(&mut self, parked: &Parked, now: u64, port: &mut impl Port) {
        let restored = Election::restore(*self.election.params(), &parked.rest);
        // One that rested while nobody was heard goes by what was noted, as any start does.
        self.election = match parked.rest.peer {
            Some(_) => restored,
            None => restored.with_peer_lease(self.election.peer_lease()),
        };
        self.restrain(&parked.restraint, now);
        self.keyring.restore(self.status.group, parked);
        (self.status.changed_mono_ns, self.status.changed_wall_ns) =
            (parked.changed_mono_ns, parked.changed_wall_ns);
        // As long as the peer held, the daemon may take until it is all there again.
        self.alive_until = now.max(parked.until_ns).saturating_add(self.alive_timeout);
        (self.forwardable, self.able) = (true, true);
        // What this node says next makes the peer wait for the usual lease again, so that is all it has from here on.
        let lease = now.saturating_add(nanos(self.election.params().lease)).min(parked.until_ns);
        self.lease_end = Some(lease);
        if let Some(votes) = &mut self.votes {
            votes.held(lease);
        }
        port.gate(Gate::new(GateState::Open, lease));
        self.catch_up(now, port);
        if self.election.state() == State::Active {
            self.feed(Event::Resume, now, port);
        }
        self.poll(now, port);
    }

    /// What is needed to go on, once the session rests.
    #[must_use]
    pub fn parked(&self) -> Option<Parked> {
        let until_ns = self.parked_until?;
        let (secret, agreed) = self.keyring.parts();
        Some(Parked {
            own_macs: [0; OWN_MACS_MAX],
            until_ns,
            rest: self.election.rest(),
            restraint: self.restraint(),
            changed_mono_ns: self.status.changed_mono_ns,
            changed_wall_ns: self.status.changed_wall_ns,
            secret,
            agreed,
        })
    }

    /// Before it starts: is kept from taking the role back as the process before was, if that was one of this node.
    pub fn restrain(&mut self, restraint: &Restraint, now: u64) {
        if restraint.node == self.election.params().node {
            let left = restraint.left(now, nanos(self.election.window()));
            self.election.restrain(&left);
            self.deadlines[Timer::Damping as usize] = (left.returns > 0).then_some(left.until_ns);
        }
    }

    /// What keeps it from taking the role back.
    #[must_use]
    pub fn restraint(&self) -> Restraint {
        self.election.restraint(self.deadlines[Timer::Damping as usize].unwrap_or(0))
    }

    /// The gate stays open while nobody renews it: for the hold, counted from before it was asked for, if it was granted.
    pub(super) fn park(&mut self, granted: bool, port: &mut impl Port) {
        let hold = nanos(self.election.params().hold);
        let until = match self.asked_ns {
            Some(asked) if granted => asked.saturating_add(hold),
            _ => self.lease_end.unwrap_or(0),
        };
        port.gate(Gate::new(GateState::Open, until));
        (self.lease_end, self.parked_until, self.ended) = (None, Some(until), true);
    }
}
