//! A thread that was held up within a turn, after it had read its clock: what of the turn is not carried out any more.

use csm_common::gate::GateState;

use super::{Port, Session};
use crate::ft::State;
use crate::ft::election::{Effect, Event};
use crate::ft::wire::{Kind, Message};

impl Session {
    /// Whether `effect`, of a machine that was in state `before`, says, announces or stores what this node may no longer: then
    /// it is left out, and so is all of the kind that follows in this turn.
    pub(super) fn is_too_late_for(
        &mut self,
        effect: &Effect,
        before: State,
        now: u64,
        port: &impl Port,
    ) -> bool {
        let speaks =
            matches!(effect, Effect::Send(_) | Effect::Gate(_) | Effect::Announce(_) | Effect::Park { .. });
        if !speaks || !self.has_lapsed(now, port) {
            return false;
        }
        let is_coup = matches!(effect, Effect::Send(Message { kind: Kind::Coup, .. }));
        if is_coup && before != State::Active {
            self.lapsed = Some(Event::Unsaid);
        }
        true
    }

    /// Whether the thread was held up since it read the clock at `now`, so long that this node may no longer open its
    /// gate or keep it open, nor say or announce that it does.
    fn has_lapsed(&mut self, now: u64, port: &impl Port) -> bool {
        if matches!(self.election.state().gate(), GateState::Open | GateState::RelayIn) {
            let again = port.now_ns();
            let is_open = self.election.state() == State::Active;
            let is_over = match &self.votes {
                Some(votes) if is_open => again >= votes.until(),
                _ => self.lease_end.is_some_and(|end| again >= end),
            };
            if is_over || again.saturating_sub(now) > self.too_late() {
                self.lapsed.get_or_insert(Event::LeaseExpired);
            }
        }
        self.lapsed.is_some()
    }
}
