//! The sending side of one stream: changes, snapshots, repairs and comparisons in one machine. Pure.
//!
//! Inputs are methods that take `now`, a time since any fixed moment; outputs are drawn from [`Sender::poll`] after
//! each of them, for as long as the shell has room to send.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use super::delta::{BucketSet, Op, Record};
use super::digest::{Compare, Coverage, Digests, Verdict};
use super::ended::Ended;
use super::record::{DeltaEvent, Refusal};
use super::role::Role;
use super::snapshot::{Phase, Retry, Transfer, Transferred};
use super::status::{Progress, Repair, SenderStatus};
use super::window::{Acked, Limits, Sent, Violation, Window};
use super::wire::{Frame, HANDSHAKES_SINCE, Mode};
use handover::Handover;
use handshakes::Handshakes;

mod handover;
mod handshakes;

pub use handover::{DRAIN, MERGE};

/// Nothing unacknowledged may be older for a replica to be complete (promise P4).
pub const LAG_MAX: Duration = Duration::from_millis(100);
/// A heartbeat is sent this often.
pub const HEARTBEAT: Duration = Duration::from_millis(100);
/// Digests are compared this often, unless walking the table takes more than a tenth of it.
pub const DIGEST: Duration = Duration::from_secs(1);
/// Pause between two transfers.
const PAUSE: Duration = Duration::from_secs(1);

/// How a sender works.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Bounds.
    pub limits: Limits,
    /// Lab only, a negative control: drop every n-th change instead of sending it, and repair nothing. Checkers of
    /// replication must then fail.
    pub drop_every: Option<NonZeroU32>,
}

/// What the shell has to do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Send a frame.
    Send(Frame),
    /// Walk the tables off this thread: [`Sender::chunk`] for entries in `buckets`, then [`Sender::walked`].
    Walk {
        /// To be given back.
        epoch: u64,
        /// Which entries.
        buckets: BucketSet,
    },
    /// Compute [`super::digest::scan`] off this thread: [`Sender::digested`].
    Digest {
        /// To be given back.
        round: u64,
    },
    /// Have the source tell [`DeltaEvent::Flushed`].
    Flush,
    /// What this node had to hand over is acknowledged, or (`complete` is false) the time for it is up.
    HandedOver {
        /// All of it is acknowledged.
        complete: bool,
    },
    /// Say in the log.
    Note(Note),
}

/// What is worth a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The receiver holds a snapshot.
    SnapshotDone(Transferred),
    /// Buckets were repaired.
    Repaired(Transferred),
    /// The receiver, which is active now, has been offered what this node held when it ceased to be.
    Merged(Transferred),
    /// Buckets differ in content although nothing was under way.
    Differs(u32),
    /// So many events were lost, or did not fit the queue; repair follows.
    Lost(u64),
    /// The table could not be walked; tried again later.
    WalkFailed,
}

/// What the machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// Tells nothing.
    Idle,
    /// Tells all.
    Tell,
    /// No longer active: tells what the receiver lacks.
    HandOver(Handover),
}

/// See the module.
#[derive(Debug)]
pub struct Sender {
    options: Options,
    duty: Duty,
    window: Window,
    transfer: Option<Transfer>,
    compare: Compare,
    /// Known to be wrong at the receiver.
    broken: BucketSet,
    /// Not proven for long.
    stale: BucketSet,
    retry: Retry,
    handshakes: Handshakes,
    effects: VecDeque<Effect>,
    next_transfer: Duration,
    next_digest: Duration,
    next_heartbeat: Duration,
    epoch: u64,
    /// Last full transfer that was acknowledged; 0: none.
    full_epoch: u64,
    dropping: u32,
    facts: Facts,
}

#[derive(Debug, Default)]
struct Facts {
    sent: u64,
    held: u64,
    lost: u64,
    refused: [u64; Refusal::ALL.len()],
    last_ack: Duration,
    worst_ack: Duration,
    coverage: Option<(Duration, Coverage)>,
    repair: Option<Repair>,
}

impl Sender {
    /// For a fresh stream, idle.
    #[must_use]
    pub fn new(now: Duration, options: Options) -> Self {
        Self {
            options,
            duty: Duty::Idle,
            window: Window::new(options.limits),
            transfer: None,
            compare: Compare::new(now),
            broken: BucketSet::EMPTY,
            stale: BucketSet::EMPTY,
            retry: Retry::default(),
            handshakes: Handshakes::default(),
            effects: VecDeque::new(),
            next_transfer: now,
            next_digest: now,
            next_heartbeat: now,
            epoch: 0,
            full_epoch: 0,
            dropping: 0,
            facts: Facts::default(),
        }
    }

    /// The receiver speaks this version, from the stream's beginning.
    pub const fn set_version(&mut self, version: u16) {
        self.handshakes.understood = version >= HANDSHAKES_SINCE;
    }

    /// This node's role changed to `role`, or on a fresh stream it is `role`. `ended` is what ended here while its own
    /// entries won: a handover repeats it unless the receiver is known to have mirrored this table.
    pub fn set_role(&mut self, now: Duration, role: Role, ended: &Ended) {
        match (self.duty, role) {
            (Duty::Tell, Role::Active) => {}
            (_, Role::Active) => {
                self.duty = Duty::Tell;
                self.window.forget();
                self.handshakes.forget();
                self.transfer = None;
                self.broken = BucketSet::ALL;
                self.stale = BucketSet::EMPTY;
                self.retry = Retry::default();
                self.full_epoch = 0;
                self.next_transfer = now;
            }
            (_, Role::Yielding | Role::Lost) => self.start_handover(now, role, ended),
            (_, Role::Standby) => self.fall_idle(),
        }
    }

    fn fall_idle(&mut self) {
        self.duty = Duty::Idle;
        self.window.forget();
        self.handshakes.forget();
        self.transfer = None;
        self.compare.cancel();
        self.broken = BucketSet::EMPTY;
        self.retry = Retry::default();
        self.full_epoch = 0;
    }

    /// The dataplane tells of a change.
    pub fn event(&mut self, now: Duration, event: DeltaEvent) {
        if self.duty == Duty::Idle {
            return;
        }
        match event {
            DeltaEvent::Lost(count) => {
                self.broken = BucketSet::ALL;
                self.lose(count);
            }
            // The receiver holds another choice of entries, and a comparison that runs may have read either.
            DeltaEvent::Rescoped if self.duty == Duty::Tell => {
                self.broken = BucketSet::ALL;
                self.compare.cancel();
            }
            // What it holds in the old way is as good as before.
            DeltaEvent::Rescoped => {}
            DeltaEvent::Flushed => {
                if let Duty::HandOver(handover) = &mut self.duty {
                    handover.flushed();
                }
            }
            DeltaEvent::Handshake(handshake) => self.handshakes.push(handshake),
            DeltaEvent::HandshakesLeftOut(count) => self.handshakes.left_out += count,
            DeltaEvent::ConnectionUp(_)
            | DeltaEvent::ConnectionClosed(_)
            | DeltaEvent::Sticky(_)
            | DeltaEvent::StickyGone(_) => {
                let Some(op) = Op::of(&event) else { return };
                let bucket = op.key().bucket();
                self.compare.touch(bucket);
                if !self.window.push(now, op) {
                    self.broken.insert(bucket);
                    self.lose(1);
                }
            }
        }
    }

    fn lose(&mut self, count: u64) {
        self.facts.lost += count;
        match self.effects.back_mut() {
            Some(Effect::Note(Note::Lost(already))) => *already += count,
            _ => self.effects.push_back(Effect::Note(Note::Lost(count))),
        }
    }

    /// The receiver answers.
    ///
    /// # Errors
    /// It broke the protocol; the stream must be closed.
    pub fn frame(&mut self, now: Duration, frame: Frame) -> Result<(), Unexpected> {
        match frame {
            Frame::Ack { seq, refused } => {
                let acked = self.window.ack(now, seq, &refused)?;
                self.acked(now, &acked);
                if let Some(transfer) = self.transfer.take_if(|transfer| transfer.phase == Phase::Ending(seq))
                {
                    if acked.declined {
                        // The receiver has taken over and deleted nothing; this node is about to hear of it.
                        self.broken = self.broken.union(&transfer.buckets);
                        self.next_transfer = now + PAUSE;
                    } else {
                        self.transferred(now, transfer.is_full(), &transfer.finish(now));
                    }
                }
            }
            Frame::Digest { round, buckets } => {
                if let Some(verdict) = self.compare.theirs(now, round, buckets) {
                    self.judge(now, &verdict);
                }
            }
            Frame::Alive | Frame::Extension { .. } => {}
            Frame::Hello(_)
            | Frame::Begin { .. }
            | Frame::Chunk { .. }
            | Frame::End { .. }
            | Frame::Delta { .. }
            | Frame::DigestRequest { .. }
            | Frame::Handshakes { .. }
            | Frame::Heartbeat { .. } => return Err(Unexpected::Frame),
        }
        Ok(())
    }

    fn acked(&mut self, now: Duration, acked: &Acked) {
        self.facts.held += acked.held as u64;
        if acked.what == Sent::Delta {
            self.facts.last_ack = acked.age;
            self.facts.worst_ack = self.facts.worst_ack.max(acked.age);
        }
        for &(bucket, refusal) in &acked.refused {
            self.facts.refused[refusal.index()] += 1;
            match (&mut self.transfer, acked.what) {
                // A newer entry stands in its place: not held, but no reason to offer it again. The digest decides.
                _ if refusal == Refusal::Superseded => {}
                // A receiver that is active has its own reasons, and nothing is offered to it twice.
                _ if self.duty != Duty::Tell => {}
                (Some(transfer), Sent::Chunk) => transfer.refuse(bucket),
                _ => self.retry.refuse(now, bucket),
            }
        }
    }

    fn transferred(&mut self, now: Duration, full: bool, done: &Transferred) {
        if self.duty != Duty::Tell {
            self.effects.push_back(Effect::Note(Note::Merged(*done)));
            return;
        }
        self.next_transfer = now + PAUSE;
        self.retry.transferred(now, done);
        self.compare.rewritten(now, &done.buckets);
        let first = full && self.full_epoch == 0;
        if full {
            self.full_epoch = done.epoch;
        }
        if first {
            self.effects.push_back(Effect::Note(Note::SnapshotDone(*done)));
        } else {
            self.facts.repair = Some(Repair { at: now, buckets: done.buckets.len(), entries: done.entries });
            self.effects.push_back(Effect::Note(Note::Repaired(*done)));
        }
    }

    fn judge(&mut self, now: Duration, verdict: &Verdict) {
        self.facts.coverage = Some((now, verdict.coverage));
        // Refused entries are missing by agreement and are offered again in their own time.
        let wrong = verdict.wrong.minus(&self.retry.buckets);
        if !wrong.is_empty() {
            self.broken = self.broken.union(&wrong);
            self.effects.push_back(Effect::Note(Note::Differs(wrong.len())));
        }
        self.stale = verdict.stale;
    }

    /// Entries of the walk for `epoch`; only when [`Sender::wants_chunk`]. At most `limits.batch`.
    pub fn chunk(&mut self, now: Duration, epoch: u64, records: Vec<Record>) {
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.epoch == epoch) else {
            return;
        };
        transfer.entries += records.len() as u64;
        let buckets = records.iter().map(|record| record.key().bucket()).collect();
        self.facts.sent += records.len() as u64;
        let seq = self.window.send(now, Sent::Chunk, buckets);
        self.effects.push_back(Effect::Send(Frame::Chunk { seq, epoch, records }));
    }

    /// The walk for `epoch` ended, `complete` or not.
    pub fn walked(&mut self, now: Duration, epoch: u64, complete: bool) {
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.epoch == epoch) else {
            return;
        };
        if complete {
            transfer.phase = Phase::Walked;
            return;
        }
        self.broken = self.broken.union(&transfer.buckets);
        self.transfer = None;
        self.window.release();
        self.next_transfer = now + PAUSE;
        self.effects.push_back(Effect::Note(Note::WalkFailed));
    }

    /// Our own digest of `round`, or `None` if the walk failed; it took so long.
    pub fn digested(&mut self, now: Duration, round: u64, took: Duration, digests: Option<Digests>) {
        self.next_digest = now + DIGEST.max(took * 10);
        match digests {
            Some(digests) => {
                if let Some(verdict) = self.compare.ours(now, round, digests) {
                    self.judge(now, &verdict);
                }
            }
            None => self.compare.cancel(),
        }
    }

    /// A walk's entries may be given to [`Sender::chunk`].
    #[must_use]
    pub fn wants_chunk(&self) -> bool {
        self.window.has_room() && self.transfer.is_some_and(|transfer| transfer.phase == Phase::Walking)
    }

    /// What is to be done now. To be called until `None` after every other call, and at least every 10 ms.
    pub fn poll(&mut self, now: Duration) -> Option<Effect> {
        self.poll_handover(now);
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + HEARTBEAT;
            let lag_ms = u32::try_from(self.window.oldest_age(now).as_millis()).unwrap_or(u32::MAX);
            let (epoch, caught_up) = (self.full_epoch, self.is_caught_up(now));
            return Some(Effect::Send(Frame::Heartbeat { epoch, caught_up, lag_ms }));
        }
        if !self.window.has_room() {
            return None;
        }
        let due = self.poll_transfer(now).or_else(|| self.poll_delta()).or_else(|| self.poll_digest(now));
        due.or_else(|| {
            let handshakes = self.handshakes.take(now, self.options.limits.batch)?;
            Some(Effect::Send(Frame::Handshakes { handshakes }))
        })
    }

    fn poll_transfer(&mut self, now: Duration) -> Option<Effect> {
        match &mut self.transfer {
            Some(Transfer { phase: Phase::Walking | Phase::Ending(_), .. }) => None,
            Some(transfer) => {
                let (epoch, count) = (transfer.epoch, transfer.entries);
                let seq = self.window.send(now, Sent::End, Vec::new());
                transfer.phase = Phase::Ending(seq);
                self.window.release();
                Some(Effect::Send(Frame::End { seq, epoch, count }))
            }
            None if now < self.next_transfer => None,
            None => {
                let (mode, due) = match self.duty {
                    Duty::Idle => return None,
                    Duty::HandOver(_) => (Mode::Merge, self.broken),
                    Duty::Tell if self.full_epoch != 0 && self.options.drop_every.is_some() => return None,
                    Duty::Tell => (Mode::Mirror, self.broken.union(&self.stale).union(&self.retry.due(now))),
                };
                (!due.is_empty()).then(|| self.begin(now, mode, due))
            }
        }
    }

    fn begin(&mut self, now: Duration, mode: Mode, buckets: BucketSet) -> Effect {
        self.epoch += 1;
        let epoch = self.epoch;
        self.transfer = Some(Transfer::new(now, epoch, buckets, self.broken));
        self.broken = BucketSet::EMPTY;
        self.stale = BucketSet::EMPTY;
        self.compare.cancel();
        match mode {
            Mode::Mirror => self.window.hold(&buckets),
            Mode::Merge => self.window.defer(&buckets),
        }
        let seq = self.window.send(now, Sent::Begin, Vec::new());
        self.effects.push_back(Effect::Walk { epoch, buckets });
        Effect::Send(Frame::Begin { seq, epoch, mode, buckets })
    }

    fn poll_delta(&mut self) -> Option<Effect> {
        let (mut ops, since) = self.window.take()?;
        if let Some(every) = self.options.drop_every {
            ops.retain(|_| {
                self.dropping = (self.dropping + 1) % every;
                self.dropping != 0
            });
        }
        let buckets = ops.iter().map(|op| op.key().bucket()).collect();
        self.facts.sent += ops.len() as u64;
        let seq = self.window.send(since, Sent::Delta, buckets);
        Some(Effect::Send(Frame::Delta { seq, ops }))
    }

    fn poll_digest(&mut self, now: Duration) -> Option<Effect> {
        let quiet = self.transfer.is_none() && !self.compare.is_running() && self.full_epoch != 0;
        if self.duty != Duty::Tell || !quiet || now < self.next_digest {
            return None;
        }
        let round = self.compare.start(self.window.under_way());
        self.next_digest = now + DIGEST;
        self.effects.push_back(Effect::Digest { round });
        Some(Effect::Send(Frame::DigestRequest { round }))
    }

    /// By what is known here, the receiver's replica is complete: it has a snapshot, no bucket is known to be wrong,
    /// nothing unacknowledged is older than [`LAG_MAX`], refused entries were offered again.
    #[must_use]
    pub fn is_caught_up(&self, now: Duration) -> bool {
        self.duty == Duty::Tell
            && self.full_epoch != 0
            && self.broken.is_empty()
            && self.transfer.is_none_or(|transfer| transfer.broken.is_empty())
            && self.retry.is_settled()
            && self.window.oldest_age(now) <= LAG_MAX
    }

    /// Facts for `show`.
    #[must_use]
    pub fn status(&self, now: Duration) -> SenderStatus {
        let transfer = self.transfer.map(|transfer| Progress {
            epoch: transfer.epoch,
            full: transfer.is_full(),
            entries: transfer.entries,
        });
        SenderStatus {
            active: self.duty == Duty::Tell,
            handing_over: matches!(self.duty, Duty::HandOver(_)),
            snapshot_epoch: self.full_epoch,
            transfer,
            peer_complete: self.is_caught_up(now),
            lag: self.window.oldest_age(now),
            queued: self.window.queued(),
            unacked: self.window.unacked_items(),
            sent: self.facts.sent,
            held: self.facts.held,
            lost_events: self.facts.lost,
            handshakes_told: self.handshakes.told,
            handshakes_left_out: self.handshakes.left_out,
            refused: self.facts.refused,
            refused_buckets: self.retry.buckets.len(),
            broken_buckets: self.broken.len(),
            last_ack: self.facts.last_ack,
            worst_ack: self.facts.worst_ack,
            coverage: self.facts.coverage.map(|(at, coverage)| (now.saturating_sub(at), coverage)),
            last_repair: self.facts.repair,
        }
    }
}

/// What the receiver must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unexpected {
    /// A frame that only a sender sends.
    #[error("the receiver sent a frame that is the sender's")]
    Frame,
    /// A wrong acknowledgement.
    #[error(transparent)]
    Ack(#[from] Violation),
}
