//! The election: one machine per node, events in, effects out. Pure; the diagram is in [`crate::ft`].
//!
//! It knows no time: it arms timers by [`Effect::Arm`] and hears of them by [`Event::Timer`]. When a gate that
//! [`Effect::Gate`] opens shuts by itself is the business of [`crate::ft::session`], which holds the lease.

mod damping;
mod event;
mod hear;
mod hold;
mod outlook;
mod params;
mod restore;
mod step;
#[cfg(test)]
mod tests;

pub use damping::FREE as FREE_RETURNS;
pub use event::{DropCause, Effect, Event, Timer};
pub(in crate::ft) use params::guarded;
pub use params::{Params, silence};
pub use restore::{Rest, Restraint};

use std::time::Duration;

use crate::ft::wire::{Kind, Message};
use crate::ft::{Reason, Refusal, State};

/// Requests or offers that are sent before a planned move is given up.
pub const TRIES: u8 = 5;
/// Longest time between two of them.
pub const RETRY_MAX: Duration = Duration::from_millis(100);
/// How long a predecessor relays strays.
pub const RELAY: Duration = Duration::from_secs(10);
/// How long it does so when it is about to end; strays were measured for 3 ms at most after an announcement.
pub const LINGER: Duration = Duration::from_millis(500);
/// Lag above which a replica does not count as complete, ms (promise P4).
pub const LAG_MAX_MS: u32 = 100;

/// By whom the group should be served, greater is better (design 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    forwardable: bool,
    complete: bool,
    keeper: bool,
    claimed: u64,
    eligible: bool,
    priority: u8,
    node: u64,
}

impl Rank {
    const fn of(message: &Message) -> Self {
        let Message { forwardable, complete, keeper, claimed, eligible, priority, node, .. } = *message;
        Self { forwardable, complete, keeper, claimed, eligible, priority, node }
    }
}

/// Boots of peers that are known to be over.
const RETIRED_MAX: usize = 4;

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Election {
    params: Params,
    state: State,
    reason: Reason,
    /// Highest known. Active: claimed. Candidate: asked for.
    term: u64,
    sequence: u64,
    /// Last message of a peer that is not silent.
    peer: Option<Message>,
    /// Boot nonce and sequence last accepted, silent or not.
    last: (u64, u64),
    /// Lease in the last of them; before any this node's own, or what an earlier daemon has noted.
    peer_lease: Duration,
    retired: [u64; RETIRED_MAX],
    /// The same of the boots before that one.
    seen: [(u64, u64); RETIRED_MAX],
    forwardable: bool,
    eligible: bool,
    complete: bool,
    lag_ms: u32,
    /// Was active last, as far as it knows. A node that fenced and has not heard of another active one since still has
    /// the newest table, though it is no replica of anything.
    keeper: bool,
    /// Until the next event after a claim: [`Self::keeper`] and [`Self::claimed`] before it.
    unclaimed: Option<(bool, u64)>,
    /// Active: a planned move is under way, for this reason.
    offer: Option<Reason>,
    /// Active: asks for a hold, since the message of this sequence.
    hold: Option<u64>,
    /// Requests or offers still to be sent.
    tries: u8,
    /// The active peer offers the role.
    offered: bool,
    /// Was refused; waits before it asks an active peer again.
    cooling: bool,
    /// Patience is armed.
    patient: bool,
    /// Made standby by command: does not preempt this boot of the peer if it would only outrank it by priority.
    held: Option<u64>,
    /// The command, which may still be under way, was given although tracking stood against the peer: so until that has once
    /// ended, it is not followed either.
    firm: bool,
    /// Told to leave.
    leaving: bool,
    /// Relay-out and leaving: the successor is active, the end is set.
    lingering: bool,
    /// The witness's grant is in force.
    granted: bool,
    /// The last term in which it was active.
    claimed: u64,
    /// Times that the role came back by preemption.
    returns: u8,
    /// It did so too often, and preemption waits.
    damped: bool,
}

impl Election {
    /// A machine that has not started.
    #[must_use]
    pub const fn new(params: Params) -> Self {
        Self {
            params,
            state: State::Init,
            reason: Reason::Started,
            term: 0,
            sequence: 0,
            peer: None,
            last: (0, 0),
            peer_lease: params.lease,
            retired: [0; RETIRED_MAX],
            seen: [(0, 0); RETIRED_MAX],
            forwardable: false,
            eligible: true,
            complete: false,
            lag_ms: 0,
            keeper: false,
            unclaimed: None,
            offer: None,
            hold: None,
            tries: 0,
            offered: false,
            cooling: false,
            patient: false,
            held: None,
            firm: false,
            leaving: false,
            lingering: false,
            granted: false,
            claimed: 0,
            returns: 0,
            damped: false,
        }
    }

    /// What was given to [`Election::new`].
    #[must_use]
    pub const fn params(&self) -> &Params {
        &self.params
    }

    /// State.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why it is in its state.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Highest known term.
    #[must_use]
    pub const fn term(&self) -> u64 {
        self.term
    }

    /// Last message of the peer, if it is heard.
    #[must_use]
    pub const fn peer(&self) -> Option<&Message> {
        self.peer.as_ref()
    }

    /// Made standby by command, so preemption waits.
    #[must_use]
    pub const fn is_preempt_held(&self) -> bool {
        self.held.is_some()
    }

    /// Of [`Election::is_preempt_held`]: tracking against the peer, which was there when the command came, does not end it.
    #[must_use]
    pub const fn is_held_firmly(&self) -> bool {
        self.firm && self.held.is_some()
    }

    /// Only the witness can give the role to this node, or is to go on giving it.
    #[must_use]
    pub const fn wants_grant(&self) -> bool {
        let is_alone = self.peer.is_none() && self.forwardable && !self.leaving;
        match self.state {
            State::Active => true,
            State::Standby | State::Candidate | State::RelayOut => is_alone,
            State::Init | State::Left => false,
        }
    }

    /// See [`Params::proven_only`].
    pub const fn require_proof(&mut self, proven_only: bool) {
        self.params.proven_only = proven_only;
    }

    /// What this node would send now.
    #[must_use]
    pub fn message(&self, kind: Kind) -> Message {
        let Params { group, node, nonce, priority, heartbeat, failover, lease, mac, .. } = self.params;
        let Params { config_checksum, software_checksum, .. } = self.params;
        // One that knows of none does not expect these fields.
        let has_witness = self.params.witness || self.peer.is_some_and(|peer| peer.witness);
        Message {
            kind,
            group,
            state: self.state,
            priority,
            forwardable: self.forwardable,
            eligible: self.eligible,
            preempt: self.params.preempt && !self.peer.is_some_and(|peer| self.rests_with(&peer)),
            complete: self.replica_ready(),
            hears_you: self.peer.is_some(),
            offer: false,
            keeper: self.keeper,
            node,
            nonce,
            peer_nonce: self.peer.map_or(0, |peer| peer.nonce),
            sequence: self.sequence,
            term: self.term,
            heartbeat,
            failover,
            lease,
            config_checksum,
            software_checksum,
            lag_ms: self.lag_ms,
            mac,
            hold: if self.hold.is_some() { self.params.hold } else { Duration::ZERO },
            held: self.peer.map_or(0, |peer| if peer.hold.is_zero() { 0 } else { peer.sequence }),
            witness: self.params.witness,
            heard: self.peer.filter(|_| has_witness).map_or(0, |peer| peer.sequence),
            claimed: if self.keeper && (has_witness || self.is_one_of_two_keepers()) {
                self.claimed
            } else {
                0
            },
        }
    }

    /// Neither is active, and each was so last as far as it knows: the later term tells whose table is the newer. A peer whose
    /// software is too old for that field drops what has it, and claims; so an active node never says it for this reason.
    fn is_one_of_two_keepers(&self) -> bool {
        let is_idle = self.state != State::Active;
        is_idle && self.keeper && self.peer.is_some_and(|peer| peer.keeper && peer.state != State::Active)
    }

    /// Takes one event; appends what is to be done to `effects`.
    pub fn on_event(&mut self, event: Event, effects: &mut Vec<Effect>) {
        use {Event as E, State as S};
        let unclaimed = self.unclaimed.take();
        match (self.state, event) {
            (S::Left, _) => {}
            (_, E::Start) => self.listen(Reason::Started, effects),
            (_, E::Received(message)) => self.receive(&message, effects),
            (_, E::Resume) => self.resume(effects),
            (_, E::Hold) => self.ask_hold(effects),

            (S::Active, E::Unsaid) => {
                (self.keeper, self.claimed) = unclaimed.unwrap_or((self.keeper, self.claimed));
                self.listen(Reason::LeaseExpired, effects);
            }
            (S::Active | S::Candidate, E::LeaseExpired) => self.listen(Reason::LeaseExpired, effects),
            // No lease to lose.
            (S::Init | S::Standby | S::RelayOut, E::LeaseExpired) => {}
            (S::Init | S::Standby | S::Candidate | S::RelayOut, E::Unsaid) => {}

            // Its lease is valid, so it is late for nothing that matters.
            (S::Active, E::Timer(timer) | E::Late(timer)) => self.active_timer(timer, effects),
            (S::Init | S::Standby | S::Candidate | S::RelayOut, E::Late(timer)) => {
                if timer == Timer::Damping {
                    self.has_waited(effects);
                }
                self.listen(Reason::WokeLate, effects);
            }
            (S::Init | S::Standby | S::Candidate | S::RelayOut, E::Timer(timer)) => {
                self.other_timer(timer, effects);
            }

            (S::Active, E::ForceStandby) => self.force(effects),
            (S::Init | S::Standby | S::Candidate | S::RelayOut, E::ForceStandby) => {
                effects.push(Effect::Forced(Err(Refusal::NotActive)));
            }

            (_, E::Leave) if self.leaving => {}
            (S::Active, E::Leave) => self.leave_active(effects),
            (S::RelayOut, E::Leave) => self.leave_relay_out(effects),
            (S::Init | S::Standby | S::Candidate, E::Leave) => self.enter(S::Left, Reason::Leave, effects),

            (_, E::Forwardable(able)) => self.learn(|own| own.forwardable = able, effects),
            (_, E::Eligible(eligible)) => self.learn(|own| own.eligible = eligible, effects),
            (_, E::Replica { complete, lag_ms }) => {
                self.learn(|own| (own.complete, own.lag_ms) = (complete, lag_ms), effects);
            }

            (_, E::Configured { priority, preempt, config_checksum }) => self.learn(
                |own| {
                    let params = &mut own.params;
                    (params.priority, params.preempt) = (priority, preempt);
                    params.config_checksum = config_checksum;
                },
                effects,
            ),

            (_, E::Granted { granted, term }) => {
                self.granted = granted;
                if granted {
                    if self.state != S::Active {
                        self.term = self.term.max(term);
                    }
                    self.reconsider(effects);
                }
            }

            (S::Active, E::RivalSeen) => effects.push(Effect::Announce(Reason::Rival)),
            (S::Init | S::Standby | S::Candidate | S::RelayOut, E::RivalSeen) => {}
        }
    }

    fn active_timer(&mut self, timer: Timer, effects: &mut Vec<Effect>) {
        match timer {
            Timer::Heartbeat => self.beat(effects),
            Timer::Silence => self.fall_silent(effects),
            Timer::Retry if self.hold.is_some() => self.ask_hold_again(effects),
            Timer::Retry => self.offer_again(effects),
            Timer::Patience => {
                self.patient = false;
                self.offer_if_unable(true, effects);
            }
            Timer::Damping => self.undamp(effects),
            // Disarmed when the role was taken.
            Timer::Listen | Timer::Relay | Timer::Cooling => {}
        }
    }

    fn other_timer(&mut self, timer: Timer, effects: &mut Vec<Effect>) {
        match (self.state, timer) {
            (_, Timer::Heartbeat) => self.beat(effects),
            (State::Init, Timer::Listen) => self.listened(effects),
            (_, Timer::Silence) => {
                self.fall_silent(effects);
                self.act_on_silence(Reason::PeerSilent, effects);
            }
            (State::Candidate, Timer::Retry) => self.ask_again(effects),
            (State::RelayOut, Timer::Relay) => self.enter(State::Standby, Reason::RelayOver, effects),
            (_, Timer::Damping) => self.undamp(effects),
            (State::Standby, Timer::Cooling) => {
                self.cooling = false;
                self.reconsider(effects);
            }
            // A timer of a state that was left meanwhile; entering a state disarms those of the others.
            (_, Timer::Listen | Timer::Retry | Timer::Relay | Timer::Patience | Timer::Cooling) => {}
        }
    }
}
