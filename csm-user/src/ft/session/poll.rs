//! A session and the witness: what is asked of it when, and what its answers and the peer's words do to the gate.

use csm_common::gate::GateState;

use super::{Port, Session};
use crate::ft::State;
use crate::ft::election::Event;
use crate::ft::witness::votes::Votes;
use crate::ft::witness::wire::{self, Word};

impl Session {
    /// The same with a witness.
    #[must_use]
    pub fn with_witness(mut self, votes: Option<Votes>) -> Self {
        self.votes = votes;
        self
    }

    /// The witness's side of this node, if it has one.
    #[must_use]
    pub const fn votes(&self) -> Option<&Votes> {
        self.votes.as_ref()
    }

    /// A datagram has come from where the witness is.
    pub fn receive_witness(&mut self, datagram: &[u8], now: u64, port: &mut impl Port) {
        let proved = wire::open(datagram)
            .filter(|(_, signed, tag)| self.keyring.check(signed, tag, false).is_ok())
            .map(|(word, ..)| word);
        match (proved, &mut self.votes) {
            (Some(word), _) => self.witness_said(&word, now, port),
            (None, Some(votes)) => votes.dropped(),
            (None, None) => {}
        }
    }

    /// The witness has answered, so it is proved.
    pub fn witness_said(&mut self, word: &Word, now: u64, port: &mut impl Port) {
        self.catch_up(now, port);
        if let Some(votes) = &mut self.votes {
            votes.answered(word, now, self.election.params());
        }
        self.poll(now, port);
    }

    /// At the end of each turn: the gate stays open for as long as peer or witness now say, and the witness is asked what
    /// there is cause to ask.
    pub(super) fn poll(&mut self, now: u64, port: &mut impl Port) {
        let beat = std::mem::take(&mut self.beaten);
        let Some(votes) = self.votes.as_mut().filter(|_| !self.ended) else { return };
        let is_longer = self.lease_end.is_some_and(|end| votes.until() > end);
        if self.election.state() == State::Active && is_longer {
            self.set_gate(GateState::Open, now, port);
        }
        self.tell_granted(now, port);
        let Some(votes) = &mut self.votes else { return };
        if let Some(request) = votes.ask(beat, now, &self.election, &self.keyring) {
            votes.request_sent(port.ask(&request));
        }
        self.tell_granted(now, port);
    }

    /// The machine knows whether the grant is in force.
    pub(super) fn tell_granted(&mut self, now: u64, port: &mut impl Port) {
        let Some(votes) = &mut self.votes else { return };
        let granted = votes.is_granted(now);
        if std::mem::replace(&mut votes.told, granted) != granted {
            let term = votes.term;
            self.feed(Event::Granted { granted, term }, now, port);
        }
    }
}
