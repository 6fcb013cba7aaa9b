//! What a node that ceased to be active still has to tell. Pure.
//!
//! Changes that wait or are unacknowledged go on; what the receiver is not known to hold, or (after a rivalry) all that
//! stands here, goes as a transfer that merges. It is over when all is acknowledged and the source says that it has
//! told everything: records of the ring buffer may still have been on their way when the gate shut.

use std::time::Duration;

use super::{Duty, Effect, Role, Sender};
use crate::replication::delta::BucketSet;
use crate::replication::ended::Ended;
use crate::replication::record::DeltaEvent;
use crate::replication::snapshot::{Phase, Retry};

/// Bound for what was only queued.
pub const DRAIN: Duration = Duration::from_secs(1);
/// Bound when entries have to be read from the table: a full one takes some seconds.
pub const MERGE: Duration = Duration::from_secs(10);
/// From the change of the role until the source is asked: a packet that found the gate open has left the program, which
/// takes microseconds, by then.
const SETTLE: Duration = Duration::from_millis(5);
/// The question may find the source's channel full; it is repeated so often.
const ASK: Duration = Duration::from_millis(50);

/// A handover under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handover {
    started: Duration,
    /// When to ask the source next; `None`: it has answered.
    ask: Option<Duration>,
    /// A transfer was needed.
    merges: bool,
}

/// What is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Time.
    Wait,
    /// The source is to be asked whether it has told all.
    Ask,
    /// Nothing.
    Done,
    /// More than there is time for.
    GiveUp,
}

impl Handover {
    const fn new(now: Duration) -> Self {
        Self { started: now, ask: Some(Duration::ZERO), merges: false }
    }

    /// The source has told all that happened before the role changed.
    pub(super) fn flushed(&mut self) {
        // An answer before the question is that of an earlier handover.
        if self.ask.is_some_and(|next| !next.is_zero()) {
            self.ask = None;
        }
    }

    /// `idle`: nothing waits, nothing is unacknowledged. `merging`: a transfer is under way or needed.
    fn poll(&mut self, now: Duration, idle: bool, merging: bool) -> Need {
        self.merges |= merging;
        let age = now.saturating_sub(self.started);
        match self.ask {
            _ if age >= if self.merges { MERGE } else { DRAIN } => Need::GiveUp,
            None if idle && !merging => Need::Done,
            Some(next) if age >= SETTLE && now >= next => {
                self.ask = Some(now + ASK);
                Need::Ask
            }
            _ => Need::Wait,
        }
    }
}

impl Sender {
    pub(super) fn start_handover(&mut self, now: Duration, role: Role, ended: &Ended) {
        // What a transfer was still to tell, and the changes that were forgotten because it would.
        let unsent = self.transfer.take().filter(|transfer| !matches!(transfer.phase, Phase::Ending(_)));
        let missing = unsent.map_or(self.broken, |transfer| self.broken.union(&transfer.buckets));
        let proven = self.duty == Duty::Tell && self.full_epoch != 0 && role == Role::Yielding;
        self.broken = if proven { missing } else { BucketSet::ALL };
        self.window.release();
        self.compare.cancel();
        self.retry = Retry::default();
        self.full_epoch = 0;
        self.next_transfer = now;
        self.duty = Duty::HandOver(Handover::new(now));
        if !proven {
            // A merge tells what stands. What ended before there was a stream, or while none was proven, is told here.
            ended.connections().for_each(|gone| self.event(now, DeltaEvent::ConnectionClosed(gone)));
        }
    }

    pub(super) fn poll_handover(&mut self, now: Duration) {
        let Duty::HandOver(mut handover) = self.duty else { return };
        let told = self.window.queued() == 0 && self.handshakes.is_told();
        let idle = told && self.window.is_acknowledged();
        let merging = self.transfer.is_some() || !self.broken.is_empty();
        let need = handover.poll(now, idle, merging);
        self.duty = Duty::HandOver(handover);
        match need {
            Need::Wait => {}
            Need::Ask => self.effects.push_back(Effect::Flush),
            Need::Done | Need::GiveUp => {
                self.fall_idle();
                self.effects.push_back(Effect::HandedOver { complete: need == Need::Done });
            }
        }
    }
}
