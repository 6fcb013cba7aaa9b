//! Damping: a role that comes back to the preferred node again and again is waited for longer and longer.
//!
//! What flaps is, as a rule, something tracked: each time it fails the role goes to the peer, and each time it is well again it
//! comes back, since this node ranks higher. Nobody gains by that, so after [`FREE`] returns each further one waits, twice as
//! long as the last. A peer that is silent, leaves, cannot forward, or has tracking against it that this node has not, is never waited for.

use std::time::Duration;

use super::{Effect, Election, Timer};
use crate::ft::Reason;

/// Returns by preemption that nothing comes of.
pub const FREE: u8 = 3;
/// For how many times [`super::Params::damping`] the role must rest before its returns are forgotten; the longest wait, too.
const WINDOW: u32 = 30;

impl Election {
    /// Preemption waits, because the role has come back too often.
    #[must_use]
    pub const fn is_damped(&self) -> bool {
        self.damped
    }

    /// How often the role came back by preemption, as far as it counts.
    #[must_use]
    pub const fn returns(&self) -> u8 {
        self.returns
    }

    /// How long the role must rest before its returns are forgotten.
    pub(in crate::ft) fn window(&self) -> Duration {
        self.params.damping * WINDOW
    }

    /// This node has become active.
    pub(super) fn note_return(&mut self, reason: Reason, effects: &mut Vec<Effect>) {
        if self.params.damping.is_zero() {
            return;
        }
        self.damped = false;
        self.returns = self.returns.saturating_add(u8::from(reason == Reason::Preempt));
        if self.returns > 0 {
            effects.push(Effect::Arm(Timer::Damping, self.window()));
        }
    }

    /// It is not active any more.
    pub(super) fn note_loss(&mut self, effects: &mut Vec<Effect>) {
        let Some(more) = self.returns.checked_sub(FREE + 1) else { return };
        self.damped = true;
        // Five doublings are above the window.
        let wait = (self.params.damping * 2_u32.pow(u32::from(more.min(5)))).min(self.window());
        effects.push(Effect::Arm(Timer::Damping, wait));
    }

    /// It has waited long enough, or the role has rested long enough.
    pub(super) fn undamp(&mut self, effects: &mut Vec<Effect>) {
        if self.has_waited(effects) {
            self.reconsider(effects);
        }
    }

    /// The time of [`Timer::Damping`] has come, however late; whether this node was waiting.
    pub(super) fn has_waited(&mut self, effects: &mut Vec<Effect>) -> bool {
        let waited = std::mem::take(&mut self.damped);
        if waited {
            effects.push(Effect::Arm(Timer::Damping, self.window()));
        } else {
            self.returns = 0;
        }
        waited
    }
}
