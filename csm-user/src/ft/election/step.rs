//! What the machine does: entering states, claiming, yielding, offering.

use csm_common::gate::GateState;

use super::{Effect, Election, LAG_MAX_MS, LINGER, RELAY, RETIRED_MAX, Rank, TRIES, Timer};
use crate::ft::wire::{Kind, Message};
use crate::ft::{Reason, Refusal, State};

impl Election {
    /// Complete and not behind; the active node's table is the truth.
    pub(super) fn replica_ready(&self) -> bool {
        self.state == State::Active || (self.complete && self.lag_ms <= LAG_MAX_MS)
    }

    pub(super) fn rank(&self) -> Rank {
        Rank::of(&self.message(Kind::Heartbeat))
    }

    pub(super) fn send(&mut self, kind: Kind, effects: &mut Vec<Effect>) {
        self.sequence += 1;
        effects.push(Effect::Send(self.message(kind)));
    }

    /// The tick. What it sends goes out before the lease is renewed: the peer then counts from later than this node.
    pub(super) fn beat(&mut self, effects: &mut Vec<Effect>) {
        self.send(Kind::Heartbeat, effects);
        if let gate @ (GateState::Open | GateState::RelayIn) = self.state.gate() {
            effects.push(Effect::Gate(gate));
        }
        effects.push(Effect::Arm(Timer::Heartbeat, self.params.beat()));
    }

    /// Every change of state. A gate that shuts, shuts before anything is said; one that opens, opens after.
    pub(super) fn enter(&mut self, state: State, reason: Reason, effects: &mut Vec<Effect>) {
        let before = self.state;
        // One that was told to leave takes no other part than that of a predecessor.
        let state = if self.leaving && state != State::RelayOut { State::Left } else { state };
        let forced = self.leave_behind(before, state, effects);
        self.state = state;
        self.reason = reason;
        // The silent peer may go on by the witness's grant, and its table with it.
        self.complete &= reason != Reason::NoWitness;
        match state {
            State::Active => {
                self.unclaimed = Some((self.keeper, self.claimed));
                (self.held, self.firm, self.offered) = (None, false, false);
                (self.cooling, self.keeper) = (false, true);
                self.claimed = self.term;
                effects.push(Effect::Adopt);
                self.send(Kind::Coup, effects);
                effects.push(Effect::Gate(GateState::Open));
                effects.push(Effect::Announce(reason));
                self.note_return(reason, effects);
            }
            State::Candidate => {
                self.tries = TRIES;
                // First: who is asked may relay before this node's thread has said it on all paths.
                effects.push(Effect::Gate(GateState::RelayIn));
                self.send(Kind::Elect, effects);
                effects.push(Effect::Arm(Timer::Retry, self.params.retry()));
            }
            State::RelayOut => {
                effects.push(Effect::Gate(GateState::RelayOut));
                self.send(Kind::Relinquish, effects);
                effects.push(Effect::Arm(Timer::Relay, RELAY));
            }
            State::Init | State::Standby | State::Left => {
                effects.push(Effect::Gate(GateState::Closed));
                self.send(Kind::Heartbeat, effects);
            }
        }
        if before == State::Active {
            effects.push(Effect::StopAnnounce);
        }
        effects.push(Effect::Became(state, reason));
        effects.extend(forced.map(Effect::Forced));
        if state == State::Left {
            // But that of damping, which the next process of this node may go on with.
            let over = Timer::ALL.into_iter().filter(|timer| *timer != Timer::Damping);
            effects.extend(over.map(Effect::Disarm));
            effects.push(Effect::End);
        } else {
            effects.push(Effect::Arm(Timer::Heartbeat, self.params.beat()));
        }
    }

    /// Puts away what belongs to `before`; returns the outcome of a forced switchover that was under way.
    fn leave_behind(
        &mut self,
        before: State,
        next: State,
        effects: &mut Vec<Effect>,
    ) -> Option<Result<(), Refusal>> {
        match before {
            State::Init => effects.push(Effect::Disarm(Timer::Listen)),
            State::Candidate => {
                self.offered = false;
                effects.push(Effect::Disarm(Timer::Retry));
            }
            State::RelayOut => effects.push(Effect::Disarm(Timer::Relay)),
            State::Active => {
                // This table is a replica from now on, and only as good as replication says.
                (self.complete, self.lag_ms, self.patient) = (false, 0, false);
                if self.hold.take().is_some() {
                    effects.push(Effect::NotHeld(Refusal::Overtaken));
                }
                effects.extend([Effect::Disarm(Timer::Retry), Effect::Disarm(Timer::Patience)]);
                self.note_loss(effects);
                if self.offer.take() == Some(Reason::Forced) {
                    self.held = (next == State::RelayOut).then_some(self.last.0);
                    self.firm &= self.held.is_some();
                    return Some(if self.held.is_some() { Ok(()) } else { Err(Refusal::Overtaken) });
                }
            }
            State::Standby => {
                self.cooling = false;
                effects.push(Effect::Disarm(Timer::Cooling));
            }
            State::Left => {}
        }
        None
    }

    /// Fences and listens: at the start, and after having been away.
    pub(super) fn listen(&mut self, reason: Reason, effects: &mut Vec<Effect>) {
        // A pair is configured alike, so where nothing was ever heard its lease is taken to be this node's own.
        let unheard = self.params.lease.max(self.peer_lease);
        let time = self.params.silence(self.peer.map_or(unheard, |peer| peer.authority()));
        self.enter(State::Init, reason, effects);
        if self.state == State::Left {
            return;
        }
        effects.push(Effect::Arm(Timer::Listen, time));
        if self.peer.is_some() {
            effects.push(Effect::Arm(Timer::Silence, time));
        }
    }

    pub(super) fn listened(&mut self, effects: &mut Vec<Effect>) {
        match (self.peer, self.forwardable, self.wanted()) {
            (None, true, _) if self.may_claim() => self.claim(Reason::PeerSilent, effects),
            (None, true, _) => self.enter(State::Standby, Reason::NoWitness, effects),
            (None, false, _) => self.enter(State::Standby, Reason::PeerSilent, effects),
            (Some(_), _, Some(reason)) => self.ask(reason, effects),
            (Some(peer), _, None) if peer.state == State::Active => {
                self.enter(State::Standby, Reason::PeerActive, effects);
            }
            (Some(_), _, None) => self.enter(State::Standby, Reason::Outranked, effects),
        }
    }

    /// Silence is ground enough, or there is more.
    const fn may_claim(&self) -> bool {
        !self.params.witness || self.granted
    }

    /// Takes the role in a new term, on silence or on the peer's word that it is gone.
    fn claim(&mut self, reason: Reason, effects: &mut Vec<Effect>) {
        self.term = self.term.saturating_add(1);
        self.enter(State::Active, reason, effects);
    }

    /// Asks for the next term.
    pub(super) fn ask(&mut self, reason: Reason, effects: &mut Vec<Effect>) {
        self.term = self.term.saturating_add(1);
        self.enter(State::Candidate, reason, effects);
    }

    pub(super) fn ask_again(&mut self, effects: &mut Vec<Effect>) {
        self.tries = self.tries.saturating_sub(1);
        // Only an active peer may refuse by not answering. Any other either yields, or asks itself, or falls silent.
        if self.tries == 0 && self.peer.is_some_and(|peer| peer.state == State::Active) {
            self.enter(State::Standby, Reason::NoAnswer, effects);
            self.cooling = true;
            effects.push(Effect::Arm(Timer::Cooling, self.params.failover));
            return;
        }
        self.send(Kind::Elect, effects);
        effects.push(Effect::Arm(Timer::Retry, self.params.retry()));
    }

    /// Gives up `self.term`, which the peer has asked for, and relies on the peer from now on.
    pub(super) fn yield_role(&mut self, effects: &mut Vec<Effect>) {
        match self.state {
            State::Active => {
                let reason = self.offer.unwrap_or_else(|| {
                    let peer_eligible = self.peer.is_some_and(|peer| peer.eligible);
                    preempting(peer_eligible, self.eligible)
                });
                self.enter(State::RelayOut, reason, effects);
            }
            State::Init | State::Candidate => {
                self.enter(State::Standby, Reason::Outranked, effects);
                self.send(Kind::Relinquish, effects);
            }
            State::Standby | State::RelayOut => self.send(Kind::Relinquish, effects),
            State::Left => {}
        }
    }

    /// Whether the role should be asked for, and why.
    pub(super) fn wanted(&self) -> Option<Reason> {
        let peer = self.peer?;
        if !self.forwardable || self.leaving {
            return None;
        }
        match peer.state {
            State::Active if self.offered => Some(Reason::Offered),
            State::Active if self.may_preempt(&peer) => Some(preempting(self.eligible, peer.eligible)),
            State::RelayOut => Some(Reason::Offered),
            State::Init | State::Standby | State::Candidate if self.rank() > Rank::of(&peer) => {
                Some(Reason::Election)
            }
            State::Active | State::Init | State::Standby | State::Candidate | State::Left => None,
        }
    }

    fn may_preempt(&self, peer: &Message) -> bool {
        let better = (self.eligible, self.params.priority) > (peer.eligible, peer.priority);
        self.params.preempt
            && !self.rests_with(peer)
            && !self.cooling
            && self.is_heard_by(peer)
            && self.replica_ready()
            && better
    }

    /// A role that has flapped, or was moved by command, is left where it is; but not with a peer that has tracking against it, if this
    /// node has not, unless whoever gave the command could know that.
    pub(super) const fn rests_with(&self, peer: &Message) -> bool {
        self.is_held_firmly() || ((self.held.is_some() || self.damped) && (peer.eligible || !self.eligible))
    }

    /// Whether the active node gives the role to one that asks for it.
    pub(super) fn may_have_role(&self, peer: &Message) -> bool {
        let better = (peer.eligible, peer.priority) > (self.eligible, self.params.priority);
        // A command may wait for a better time (P4); a node that leaves or cannot forward may not.
        let offered = self.offer.is_some_and(|reason| reason != Reason::Forced || peer.complete);
        peer.forwardable && (offered || (peer.preempt && peer.complete && better))
    }

    /// A fact about this node. The peer decides by it too, so it learns at once and not with the next heartbeat.
    pub(super) fn learn(&mut self, change: impl FnOnce(&mut Self), effects: &mut Vec<Effect>) {
        let facts = |own: &Self| (own.forwardable, own.eligible, own.replica_ready(), own.params);
        let (before, sequence) = (facts(self), self.sequence);
        change(self);
        self.reconsider(effects);
        let has_told = self.sequence > sequence;
        if facts(self) != before && !has_told {
            self.send(Kind::Heartbeat, effects);
        }
    }

    /// Looks at the situation anew after a fact has changed.
    pub(super) fn reconsider(&mut self, effects: &mut Vec<Effect>) {
        match self.state {
            State::Standby => match (self.peer, self.wanted()) {
                (None, _) => self.act_on_silence(Reason::PeerSilent, effects),
                (Some(_), Some(reason)) => self.ask(reason, effects),
                (Some(_), None) => {}
            },
            State::Candidate if !self.forwardable => self.enter(State::Standby, Reason::Unable, effects),
            State::Active => self.offer_if_unable(false, effects),
            State::RelayOut if self.peer.is_none() => self.act_on_silence(Reason::PeerSilent, effects),
            State::Init | State::Candidate | State::RelayOut | State::Left => {}
        }
    }

    /// The peer's lease is over: by silence, or by its own word.
    pub(super) fn act_on_silence(&mut self, reason: Reason, effects: &mut Vec<Effect>) {
        match self.state {
            State::Standby | State::Candidate | State::RelayOut if self.forwardable && self.may_claim() => {
                self.claim(reason, effects);
            }
            State::Standby if self.reason == Reason::NoWitness => {}
            State::Standby | State::Candidate | State::RelayOut if self.forwardable => {
                self.enter(State::Standby, Reason::NoWitness, effects);
            }
            State::Candidate => self.enter(State::Standby, Reason::Unable, effects),
            State::RelayOut if self.leaving => self.enter(State::Left, Reason::Leave, effects),
            State::Init | State::Standby | State::RelayOut | State::Active | State::Left => {}
        }
    }

    /// No message is on its way for so long: what boots are over no longer matters, and a boot that was taken for over
    /// by mistake is heard again.
    pub(super) fn fall_silent(&mut self, effects: &mut Vec<Effect>) {
        self.retired = [0; RETIRED_MAX];
        self.lose_peer(effects);
    }

    pub(super) fn lose_peer(&mut self, effects: &mut Vec<Effect>) {
        self.peer = None;
        self.offered = false;
        effects.push(Effect::PeerLost);
        if self.state == State::Active {
            self.fail_offer(effects);
            self.forgo_hold(Refusal::NoPeer, effects);
        }
    }

    /// `clear module csm N ft active` on the active node.
    pub(super) fn force(&mut self, effects: &mut Vec<Effect>) {
        let refusal = match self.peer {
            _ if self.offer.is_some() || self.hold.is_some() => Some(Refusal::Busy),
            None => Some(Refusal::NoPeer),
            Some(peer) if !self.is_heard_by(&peer) => Some(Refusal::OneWay),
            Some(peer) if !peer.forwardable => Some(Refusal::PeerUnable),
            Some(peer) if !peer.complete => Some(Refusal::PeerIncomplete),
            Some(_) => None,
        };
        match refusal {
            Some(refusal) => effects.push(Effect::Forced(Err(refusal))),
            None => {
                // What whoever gives the command can see, and not what comes while the peer takes the role.
                self.firm = self.peer.is_some_and(|peer| !peer.eligible);
                self.make_offer(Reason::Forced, effects);
            }
        }
    }

    pub(super) fn leave_active(&mut self, effects: &mut Vec<Effect>) {
        self.leaving = true;
        if self.offer.take() == Some(Reason::Forced) {
            self.firm = false;
            effects.push(Effect::Forced(Err(Refusal::Overtaken)));
        }
        if self.peer.is_some_and(|peer| peer.forwardable) {
            self.make_offer(Reason::Leave, effects);
        } else {
            self.enter(State::Left, Reason::Leave, effects);
        }
    }

    pub(super) fn leave_relay_out(&mut self, effects: &mut Vec<Effect>) {
        self.leaving = true;
        if self.peer.is_some_and(|peer| peer.state == State::Active) {
            self.linger(effects);
        } else {
            self.leave_without_successor(effects);
        }
    }

    /// A predecessor that is to end has nobody to relay to: who was to have the role cannot forward any more, or is gone. The sooner it
    /// ends, the sooner its next start can claim.
    pub(super) fn leave_without_successor(&mut self, effects: &mut Vec<Effect>) {
        let may_come = |peer: Message| peer.forwardable || peer.state == State::Active;
        if self.leaving && !self.peer.is_some_and(may_come) {
            self.enter(State::Left, Reason::Leave, effects);
        }
    }

    /// The successor is active: a predecessor that is to end waits for the last strays, once.
    pub(super) fn linger(&mut self, effects: &mut Vec<Effect>) {
        if self.leaving && !self.lingering {
            self.lingering = true;
            effects.push(Effect::Arm(Timer::Relay, LINGER));
        }
    }

    fn make_offer(&mut self, reason: Reason, effects: &mut Vec<Effect>) {
        self.forgo_hold(Refusal::Overtaken, effects);
        self.offer = Some(reason);
        self.tries = TRIES;
        self.send_offer(effects);
    }

    fn send_offer(&mut self, effects: &mut Vec<Effect>) {
        self.sequence += 1;
        effects.push(Effect::Send(Message { offer: true, ..self.message(Kind::Relinquish) }));
        effects.push(Effect::Arm(Timer::Retry, self.params.retry()));
    }

    pub(super) fn offer_again(&mut self, effects: &mut Vec<Effect>) {
        self.tries = self.tries.saturating_sub(1);
        if self.tries == 0 {
            self.fail_offer(effects);
        } else if self.offer.is_some() {
            self.send_offer(effects);
        }
    }

    /// Nobody took the role.
    fn fail_offer(&mut self, effects: &mut Vec<Effect>) {
        let Some(reason) = self.offer.take() else { return };
        effects.push(Effect::Disarm(Timer::Retry));
        match reason {
            Reason::Forced => {
                self.firm = false;
                effects.push(Effect::Forced(Err(Refusal::NoAnswer)));
            }
            Reason::Leave => self.enter(State::Left, Reason::Leave, effects),
            _ => self.offer_if_unable(false, effects),
        }
    }

    /// A node that cannot forward hands over as soon as the peer is ready, and after a bounded wait in any case.
    pub(super) fn offer_if_unable(&mut self, waited: bool, effects: &mut Vec<Effect>) {
        if self.forwardable {
            if self.offer == Some(Reason::Unable) {
                self.offer = None;
                effects.push(Effect::Disarm(Timer::Retry));
            }
            if self.patient {
                self.patient = false;
                effects.push(Effect::Disarm(Timer::Patience));
            }
            return;
        }
        let Some(peer) = self.peer.filter(|peer| peer.forwardable && self.offer.is_none()) else { return };
        if waited || (peer.complete && !self.patient) {
            self.make_offer(Reason::Unable, effects);
        } else if !self.patient {
            self.patient = true;
            effects.push(Effect::Arm(Timer::Patience, self.params.failover));
        }
    }
}

/// Why the role goes from one node to the other, by their eligibility.
const fn preempting(taker: bool, giver: bool) -> Reason {
    if taker && !giver { Reason::Tracking } else { Reason::Preempt }
}
