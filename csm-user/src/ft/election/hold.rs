//! The hold: an active node's daemon restarts, and the peer waits longer for it.
//!
//! While one asks, each of its messages says how long its gate may stay open after it, and whoever takes such a message waits
//! that long, as it otherwise waits for the lease. Only when the peer has said that it took one of them does the gate stay
//! open for that time, counted from the first. So the peer never waits from earlier than this node's lease runs from.

use super::{Effect, Election, TRIES, Timer};
use crate::ft::wire::{Kind, Message};
use crate::ft::{Refusal, State};

impl Election {
    pub(super) fn ask_hold(&mut self, effects: &mut Vec<Effect>) {
        let refusal = match self.peer {
            _ if self.state != State::Active => Some(Refusal::NotActive),
            _ if self.offer.is_some() || self.hold.is_some() || self.leaving => Some(Refusal::Busy),
            None => {
                // One that starts meanwhile waits for the usual lease, and for no longer.
                self.beat(effects);
                return effects.push(Effect::Park { granted: false });
            }
            Some(peer) if !self.is_heard_by(&peer) => Some(Refusal::OneWay),
            Some(peer) if peer.state != State::Standby => Some(Refusal::Busy),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            return effects.push(Effect::NotHeld(refusal));
        }
        self.hold = Some(self.sequence + 1);
        self.tries = TRIES;
        self.send(Kind::Heartbeat, effects);
        effects.push(Effect::Arm(Timer::Retry, self.params.retry()));
    }

    pub(super) fn ask_hold_again(&mut self, effects: &mut Vec<Effect>) {
        self.tries = self.tries.saturating_sub(1);
        if self.tries == 0 {
            return self.forgo_hold(Refusal::NoAnswer, effects);
        }
        self.send(Kind::Heartbeat, effects);
        effects.push(Effect::Arm(Timer::Retry, self.params.retry()));
    }

    /// No hold: the peer learns that the usual lease is all there is.
    pub(super) fn forgo_hold(&mut self, refusal: Refusal, effects: &mut Vec<Effect>) {
        if self.hold.take().is_some() {
            effects.extend([Effect::Disarm(Timer::Retry), Effect::NotHeld(refusal)]);
            if self.state == State::Active {
                self.send(Kind::Heartbeat, effects);
            }
        }
    }

    /// The peer must be waited for longer than a start with this node's own timers waits for one that it knows nothing of.
    pub(in crate::ft) fn is_peer_slower(&self) -> bool {
        self.peer.is_some_and(|peer| self.params.silence(peer.authority()) > self.params.own_silence())
    }

    /// Whether `message` says that the peer holds.
    pub(super) fn is_granted_by(&self, message: &Message) -> bool {
        self.state == State::Active
            && message.state == State::Standby
            && message.peer_nonce == self.params.nonce
            && self.hold.is_some_and(|first| (first..=self.sequence).contains(&message.held))
    }

    /// What `message` makes this node wait for, and whoever is started in its place.
    pub(super) fn promise(&self, message: &Message, effects: &mut Vec<Effect>) {
        let silence = self.params.silence(message.authority());
        effects.extend([Effect::Arm(Timer::Silence, silence), Effect::Promise(silence)]);
    }

    /// The daemon is back, its lease not over.
    pub(super) fn resume(&mut self, effects: &mut Vec<Effect>) {
        self.beat(effects);
        if let Some(peer) = self.peer {
            effects.push(Effect::Arm(Timer::Silence, self.params.silence(peer.authority())));
            effects.push(Effect::PeerUp);
        }
        effects.push(Effect::Became(self.state, self.reason));
    }
}
