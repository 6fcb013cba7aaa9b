//! What the machine makes of a message.

use std::time::Duration;

use super::{DropCause, Effect, Election, RETIRED_MAX, Rank, Timer};
use crate::ft::wire::{Kind, Message};
use crate::ft::{Reason, State};

/// What a message comes to, for this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// The peer is active.
    Active,
    /// It is not, nor relays: its gate is shut, or takes only what is relayed to it.
    Idle,
    /// It asks this boot of this node for the role.
    Asks,
    /// It is active and asks this boot of this node to ask.
    Offers,
    /// It yields the message's term to this boot of this node.
    Yields,
    /// It relays strays.
    Relays,
    /// It is gone.
    Left,
}

impl Election {
    pub(super) fn receive(&mut self, message: &Message, effects: &mut Vec<Effect>) {
        if let Err(cause) = self.admit(message, effects) {
            effects.push(Effect::Dropped(cause));
            return;
        }
        self.peer_lease = message.lease;
        if message.state == State::Left {
            self.retire(message.nonce);
            effects.extend([Effect::Disarm(Timer::Silence), Effect::Promise(Duration::ZERO)]);
            self.lose_peer(effects);
        } else {
            self.promise(message, effects);
        }
        self.heard(self.word(message), message, effects);
        // A starting peer learns at once how things stand, and one that restarts that it was heard.
        let is_asking = message.hold > Duration::ZERO && self.state == State::Standby;
        // The lease of an active node with a witness runs from what it knows to be heard.
        let is_counting = message.witness && message.state == State::Active && self.state != State::Active;
        if (is_asking || is_counting || !self.is_heard_by(message))
            && self.peer.is_some()
            && self.state != State::Left
        {
            self.send(Kind::Heartbeat, effects);
        }
        if self.is_granted_by(message) {
            effects.push(Effect::Park { granted: true });
        }
    }

    /// Whether the message is the newest of the one peer; remembers it.
    fn admit(&mut self, message: &Message, effects: &mut Vec<Effect>) -> Result<(), DropCause> {
        if message.group != self.params.group {
            return Err(DropCause::OtherGroup);
        }
        if message.node == self.params.node {
            return Err(DropCause::OwnIdentity);
        }
        if self.peer.is_some_and(|peer| peer.node != message.node) {
            return Err(DropCause::ThirdNode);
        }
        let (nonce, sequence) = self.last;
        // While one boot of the peer is heard, another must have heard this node to be believed: a message that an
        // earlier boot sent, and the network held back, has not, or that boot is known to be over.
        let unproven = (self.peer.is_some() || self.params.proven_only)
            && nonce != message.nonce
            && message.peer_nonce != self.params.nonce;
        if unproven {
            self.challenge(message, effects);
        }
        if unproven || self.retired.contains(&message.nonce) {
            return Err(DropCause::StaleBoot);
        }
        let newest = self.accepted().find(|&(boot, _)| boot == message.nonce);
        if newest.is_some_and(|(_, newest)| message.sequence <= newest) {
            return Err(DropCause::Duplicate);
        }
        if nonce != message.nonce {
            self.retire(nonce);
            self.remember(nonce, sequence);
        }
        if self.held.is_some_and(|boot| boot != message.nonce) {
            (self.held, self.firm) = (None, false);
        }
        self.firm &= !message.eligible;
        let known = self.peer.is_some_and(|peer| (peer.nonce, peer.mac) == (message.nonce, message.mac));
        self.last = (message.nonce, message.sequence);
        self.peer = Some(*message);
        if !known {
            effects.push(Effect::PeerUp);
        }
        Ok(())
    }

    /// Answers a boot that is not believed yet, so that it can prove that it hears this node.
    fn challenge(&mut self, message: &Message, effects: &mut Vec<Effect>) {
        self.sequence += 1;
        let own = self.message(Kind::Heartbeat);
        effects.push(Effect::Send(Message { peer_nonce: message.nonce, hears_you: false, ..own }));
    }

    /// How far an earlier boot of the peer had come: what it said must not count again, however long ago it was heard.
    fn remember(&mut self, nonce: u64, sequence: u64) {
        if nonce != 0 {
            let place = self.seen.iter().position(|&(boot, _)| boot == nonce).unwrap_or(RETIRED_MAX - 1);
            self.seen[..=place].rotate_right(1);
            self.seen[0] = (nonce, sequence);
        }
    }

    /// The sender hears this boot of this node.
    pub(super) const fn is_heard_by(&self, message: &Message) -> bool {
        message.hears_you && message.peer_nonce == self.params.nonce
    }

    /// No message of this boot will be accepted any more.
    fn retire(&mut self, nonce: u64) {
        if nonce != 0 && !self.retired.contains(&nonce) {
            self.retired.rotate_right(1);
            self.retired[0] = nonce;
        }
    }

    fn word(&self, message: &Message) -> Word {
        let to_me = message.peer_nonce == self.params.nonce;
        match (message.state, message.kind) {
            (State::Left, _) => Word::Left,
            // Each of its messages asks: one may be lost, and the next one after it not.
            (State::Candidate, _) if to_me => Word::Asks,
            (State::Active, Kind::Relinquish) if to_me && message.offer => Word::Offers,
            (State::Standby | State::RelayOut, Kind::Relinquish) if to_me && !message.offer => Word::Yields,
            (State::Active, _) => Word::Active,
            (State::RelayOut, _) => Word::Relays,
            (State::Init | State::Standby | State::Candidate, _) => Word::Idle,
        }
    }

    fn heard(&mut self, word: Word, message: &Message, effects: &mut Vec<Effect>) {
        use {State as S, Word as W};
        let own_term = self.term;
        // The active node's term is the one that it claimed, whatever others ask for.
        if self.state != S::Active {
            self.term = own_term.max(message.term);
            self.keeper &= message.state != S::Active;
        }
        self.offered = word == W::Offers;
        match (self.state, word) {
            // Having been away it listens to the end: what it reads now may have lain in the queue for long.
            (S::Init, W::Active | W::Offers) if self.reason == Reason::Started => {
                self.enter(S::Standby, Reason::PeerActive, effects);
            }
            (S::Init, W::Active | W::Offers) => {}
            // Nor may a `left` behind an old request pass for the last word. Who asks asks again.
            (S::Init, W::Asks) if matches!(self.reason, Reason::WokeLate | Reason::LeaseExpired) => {}
            (S::Init, W::Asks) => self.answer(own_term, message, effects),
            (S::Init, W::Idle | W::Yields | W::Relays | W::Left) => {}

            (S::Standby, W::Asks) => self.answer(own_term, message, effects),
            (S::Standby, W::Active | W::Idle | W::Offers | W::Yields | W::Relays) => self.reconsider(effects),
            (S::Standby | S::Candidate | S::RelayOut, W::Left) => {
                self.act_on_silence(Reason::PeerLeft, effects);
            }

            (S::Candidate, W::Yields) if message.term == own_term => {
                self.enter(S::Active, self.reason, effects);
            }
            (S::Candidate, W::Asks) if message.term >= own_term && Rank::of(message) > self.rank() => {
                self.yield_role(effects);
            }
            (S::Candidate, W::Active | W::Idle | W::Asks | W::Offers | W::Yields | W::Relays) => {
                self.stay_candidate(own_term, message, effects);
            }

            (S::Active, W::Active | W::Offers) => self.meet_rival(message, effects),
            (S::Active, W::Asks) if message.term > own_term && self.may_have_role(message) => {
                self.term = message.term;
                self.yield_role(effects);
            }
            // Not now, or not in that term: it learns so at once.
            (S::Active, W::Asks) => self.send(Kind::Heartbeat, effects),
            (S::Active, W::Idle | W::Relays | W::Yields) => self.offer_if_unable(false, effects),
            (S::Active, W::Left) => {}

            (S::RelayOut, W::Asks) if message.term >= own_term => match self.wanted() {
                // It never came by the yield, and holds its replica for lost: the newest table is still here. Only its request moves this
                // node, since a heartbeat may have crossed the yield; but neither is given the role once more.
                Some(reason) if self.keeper && !message.complete => {
                    if message.kind == Kind::Elect {
                        self.ask(reason, effects);
                    }
                }
                _ => self.yield_role(effects),
            },
            (S::RelayOut, W::Asks) => self.send(Kind::Heartbeat, effects),
            // Strays of the last move are no reason to leave the role where tracking stands against it.
            (S::RelayOut, W::Active) => match self.wanted() {
                Some(Reason::Tracking) => self.ask(Reason::Tracking, effects),
                _ => self.linger(effects),
            },
            // A candidate has the yield, or asks again soon; any other has given up what was yielded to it.
            (S::RelayOut, W::Idle) if message.state == S::Candidate => {}
            (S::RelayOut, W::Idle | W::Offers | W::Yields | W::Relays) => {
                if let Some(reason) = self.wanted() {
                    self.ask(reason, effects);
                } else {
                    self.leave_without_successor(effects);
                }
            }

            (S::Left, _) => {}
        }
    }

    /// A node that is not active is asked for the role.
    fn answer(&mut self, own_term: u64, message: &Message, effects: &mut Vec<Effect>) {
        if message.term < own_term {
            // Asked for a term that is over: the candidate asks anew once it knows the present one.
            self.send(Kind::Heartbeat, effects);
        } else if !self.forwardable || Rank::of(message) > self.rank() {
            self.yield_role(effects);
        } else {
            self.reconsider(effects);
        }
    }

    fn stay_candidate(&mut self, own_term: u64, message: &Message, effects: &mut Vec<Effect>) {
        // An offer moves an active peer to consent; while it is being taken the peer still says that it is active.
        let wanted = match message.state {
            State::Active => self.reason == Reason::Offered || self.wanted().is_some(),
            State::Init | State::Standby | State::Candidate | State::RelayOut | State::Left => {
                self.wanted().is_some()
            }
        };
        if !wanted {
            let reason = if message.state == State::Active { Reason::PeerActive } else { Reason::Outranked };
            self.enter(State::Standby, reason, effects);
        } else if message.term > own_term {
            self.term = message.term.saturating_add(1);
            self.send(Kind::Elect, effects);
        }
    }

    /// Two are active: the loser fences, the winner says so at once, to the rival and to the networks.
    fn meet_rival(&mut self, message: &Message, effects: &mut Vec<Effect>) {
        effects.push(Effect::Overlap);
        if (message.term, Rank::of(message)) > (self.term, self.rank()) {
            (self.term, self.keeper) = (message.term, false);
            self.enter(State::Standby, Reason::Rival, effects);
        } else {
            self.send(Kind::Coup, effects);
            effects.push(Effect::Announce(Reason::Rival));
        }
    }
}
