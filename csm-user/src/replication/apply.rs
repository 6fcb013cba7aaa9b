//! The receiving side of one stream: carries frames out on the table and acknowledges what is usable. Pure but for the
//! [`ReplicaTable`] it is given.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use csm_common::limits::{CONNECTIONS_MAX, STICKY_MAX};

use super::delta::{BucketSet, Key, Op, Record};
use super::digest::key_hash;
use super::ended::Ended;
use super::record::{Conflict, ConnGone, ConnRecord, Refusal, ReplicaTable, StickyKey, StickyRecord};
use super::role::Tenure;
use super::status::{Progress, ReceiverStatus};
use super::window::DECLINED;
use super::wire::{Frame, Mode};

/// Items handed to the table at a time, with a look at the role between: a takeover finds at most so many under way.
const SLICE: usize = 64;

/// Keys remembered during a transfer: what both tables hold, and as many that come and go while they are walked.
const ENTRIES_MAX: usize = 2 * (CONNECTIONS_MAX as usize + STICKY_MAX as usize);

/// What to do after a frame.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// Nothing.
    Nothing,
    /// Send this.
    Send(Frame),
    /// Compute [`super::digest::scan`] and send it as the answer to this round.
    Digest {
        /// Of the request.
        round: u64,
    },
}

/// The sender broke the protocol, or the table failed; the stream must be closed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Numbers have no gaps.
    #[error("frame {got} came, expected {expected}")]
    Gap {
        /// Number that came.
        got: u64,
        /// Number that was due.
        expected: u64,
    },
    /// A chunk or end of no transfer under way.
    #[error("transfer {0} is not under way")]
    Epoch(u64),
    /// Chunks and end do not agree.
    #[error("transfer names {said} entries, {came} came")]
    Count {
        /// In the end frame.
        said: u64,
        /// In the chunks.
        came: u64,
    },
    /// More entries than the tables can hold.
    #[error("transfer {0} names more entries than there can be")]
    TooMany(u64),
    /// A frame that only a receiver sends.
    #[error("the sender sent a frame that is the receiver's")]
    Unexpected,
    /// The table could not be walked.
    #[error("cannot walk the table: {0}")]
    Walk(#[from] io::Error),
}

/// What a receiver works on.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    /// The kernel's tables.
    pub table: &'a dyn ReplicaTable,
    /// Whether this node's own entries win.
    pub tenure: &'a Tenure,
    /// What ended here while they did.
    pub ended: &'a Mutex<Ended>,
}

/// See the module.
#[derive(Debug)]
pub struct Receiver {
    /// [`Tenure::stamp`] when the stream began: what the sender says on it was meant for the node that this was then.
    stamp: u64,
    last_seq: u64,
    incoming: Option<Incoming>,
    facts: ReceiverStatus,
}

#[derive(Debug)]
struct Incoming {
    epoch: u64,
    mode: Mode,
    buckets: BucketSet,
    entries: u64,
    /// Hashes of the keys named: 8 octets for each entry of the peer's tables, for the time of a transfer.
    named: HashSet<u64>,
}

/// The outcome for each item of a frame, in its order.
type Outcomes = Vec<Result<(), Refusal>>;

impl Receiver {
    /// For a fresh stream.
    #[must_use]
    pub fn new(tenure: &Tenure) -> Self {
        Self { stamp: tenure.stamp(), last_seq: 0, incoming: None, facts: ReceiverStatus::default() }
    }

    /// Carries `frame` out. While this node's own entries win, nothing is replaced or deleted that it uses itself: what
    /// comes are the last words of a predecessor or of a rival. The same holds on a stream that began before they
    /// ceased to win: its sender walked its table before it had all that this node handed over.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply(&mut self, frame: Frame, here: &Here<'_>) -> Result<Answer, ApplyError> {
        let (seq, outcomes) = match frame {
            Frame::Begin { seq, epoch, mode, buckets } => {
                self.number(seq)?;
                self.begin(epoch, mode, buckets);
                (seq, Vec::new())
            }
            Frame::Chunk { seq, epoch, records } => {
                self.number(seq)?;
                (seq, self.chunk(epoch, &records, here)?)
            }
            Frame::End { seq, epoch, count } => {
                self.number(seq)?;
                let refused = if self.end(epoch, count, here)? { Vec::new() } else { vec![DECLINED] };
                return Ok(Answer::Send(Frame::Ack { seq, refused }));
            }
            Frame::Delta { seq, ops } => {
                self.number(seq)?;
                (seq, self.delta(&ops, here))
            }
            Frame::DigestRequest { round } => return Ok(Answer::Digest { round }),
            Frame::Heartbeat { epoch, caught_up, lag_ms } => {
                self.facts.lag_ms = lag_ms;
                self.facts.complete = caught_up && epoch != 0 && epoch == self.facts.snapshot_epoch;
                return Ok(Answer::Nothing);
            }
            Frame::Handshakes { handshakes } => {
                for slice in handshakes.chunks(SLICE) {
                    let conflict =
                        if here.mirrors(self.stamp) { Conflict::KeepNewer } else { Conflict::Keep };
                    self.facts.handshakes += here.table.enter_handshakes(slice, conflict) as u64;
                }
                return Ok(Answer::Nothing);
            }
            Frame::Extension { .. } => return Ok(Answer::Nothing),
            Frame::Hello(_) | Frame::Ack { .. } | Frame::Digest { .. } | Frame::Alive => {
                return Err(ApplyError::Unexpected);
            }
        };
        Ok(Answer::Send(Frame::Ack { seq, refused: self.count(&outcomes) }))
    }

    fn number(&mut self, seq: u64) -> Result<(), ApplyError> {
        let expected = self.last_seq + 1;
        if seq != expected {
            return Err(ApplyError::Gap { got: seq, expected });
        }
        self.last_seq = seq;
        Ok(())
    }

    fn begin(&mut self, epoch: u64, mode: Mode, buckets: BucketSet) {
        if mode == Mode::Mirror && buckets == BucketSet::ALL {
            self.facts.snapshot_epoch = 0;
            self.facts.complete = false;
        }
        self.incoming = Some(Incoming { epoch, mode, buckets, entries: 0, named: HashSet::new() });
    }

    fn chunk(&mut self, epoch: u64, records: &[Record], here: &Here<'_>) -> Result<Outcomes, ApplyError> {
        let stamp = self.stamp;
        let incoming = self.incoming.as_mut().filter(|incoming| incoming.epoch == epoch);
        let incoming = incoming.ok_or(ApplyError::Epoch(epoch))?;
        incoming.entries += records.len() as u64;
        if incoming.mode == Mode::Merge {
            return Ok(put(records, here, |_| Conflict::Keep));
        }
        incoming.named.extend(records.iter().map(|record| key_hash(&record.key())));
        if incoming.named.len() > ENTRIES_MAX {
            return Err(ApplyError::TooMany(epoch));
        }
        let conflict = |here: &Here<'_>| if here.mirrors(stamp) { Conflict::Replace } else { Conflict::Keep };
        Ok(put(records, here, conflict))
    }

    /// Whether it was carried out to its end: a receiver whose own entries win has deleted nothing.
    fn end(&mut self, epoch: u64, count: u64, here: &Here<'_>) -> Result<bool, ApplyError> {
        let incoming = self.incoming.take_if(|incoming| incoming.epoch == epoch);
        let incoming = incoming.ok_or(ApplyError::Epoch(epoch))?;
        if incoming.entries != count {
            return Err(ApplyError::Count { said: count, came: incoming.entries });
        }
        if incoming.mode == Mode::Merge {
            return Ok(true);
        }
        self.facts.deleted += sweep(&incoming, here, self.stamp)?;
        let mirrored = here.mirrors(self.stamp);
        if incoming.buckets == BucketSet::ALL && mirrored {
            self.facts.snapshot_epoch = epoch;
        }
        Ok(mirrored)
    }

    /// Deletions go first: a key stands once in a frame, and a new connection may need the return direction's key of
    /// one that ended.
    fn delta(&mut self, ops: &[Op], here: &Here<'_>) -> Outcomes {
        let stamp = self.stamp;
        let conflict =
            |here: &Here<'_>| if here.mirrors(stamp) { Conflict::KeepNewer } else { Conflict::Keep };
        let (mut closed, mut gone) = (Vec::new(), Vec::new());
        let (mut records, mut positions) = (Vec::new(), Vec::new());
        for (position, op) in ops.iter().enumerate() {
            match op {
                Op::Closed(connection) => closed.push(*connection),
                Op::StickyGone(key) => gone.push(*key),
                Op::Put(record) => {
                    records.push(*record);
                    positions.push(position);
                }
            }
        }
        self.facts.deleted += delete(&closed, &gone, here, conflict);
        let mut outcomes: Outcomes = vec![Ok(()); ops.len()];
        for (position, outcome) in positions.into_iter().zip(put(&records, here, conflict)) {
            outcomes[position] = outcome;
        }
        outcomes
    }

    fn count(&mut self, outcomes: &[Result<(), Refusal>]) -> Vec<(u16, Refusal)> {
        let refused: Vec<(u16, Refusal)> = (0..=u16::MAX)
            .zip(outcomes)
            .filter_map(|(position, outcome)| outcome.err().map(|refusal| (position, refusal)))
            .collect();
        self.facts.applied += (outcomes.len() - refused.len()) as u64;
        for (_, refusal) in &refused {
            self.facts.refused[refusal.index()] += 1;
        }
        refused
    }

    /// Facts for `show`.
    #[must_use]
    pub fn status(&self) -> ReceiverStatus {
        let transfer = self.incoming.as_ref().map(|incoming| Progress {
            epoch: incoming.epoch,
            full: incoming.buckets == BucketSet::ALL,
            entries: incoming.entries,
        });
        ReceiverStatus { transfer, ..self.facts }
    }
}

impl Here<'_> {
    /// The peer's word counts, on a stream that began at `stamp`.
    fn mirrors(&self, stamp: u64) -> bool {
        !self.tenure.holds() && self.tenure.stamp() == stamp
    }

    /// What a node whose own entries win saw end is not taken back.
    fn ended(&self, records: &[Record]) -> Vec<bool> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().map(|record| ended.covers(record)).collect()
    }
}

/// Deletes as `conflict` has it at that moment; returns how many deletions were carried out or had nothing to do. A
/// sticky entry has no generation: one that this node may have used stays.
fn delete(
    closed: &[ConnGone],
    gone: &[StickyKey],
    here: &Here<'_>,
    conflict: impl Fn(&Here<'_>) -> Conflict,
) -> u64 {
    let mut deleted = 0;
    for closed in closed.chunks(SLICE) {
        here.table.delete_connections(closed, conflict(here));
        deleted += closed.len() as u64;
    }
    for gone in gone.chunks(SLICE) {
        if conflict(here) == Conflict::Keep {
            break;
        }
        here.table.delete_sticky(gone);
        deleted += gone.len() as u64;
    }
    deleted
}

/// Puts `records` as `conflict` has it at that moment; the outcomes are in their order.
fn put(records: &[Record], here: &Here<'_>, conflict: impl Fn(&Here<'_>) -> Conflict) -> Outcomes {
    records.chunks(SLICE).flat_map(|slice| put_slice(slice, here, conflict(here))).collect()
}

fn put_slice(slice: &[Record], here: &Here<'_>, conflict: Conflict) -> Outcomes {
    let ended = if conflict == Conflict::Keep { here.ended(slice) } else { vec![false; slice.len()] };
    let mut outcomes: Outcomes = vec![Err(Refusal::Superseded); slice.len()];
    let (mut connections, mut conn_positions): (Vec<ConnRecord>, Vec<usize>) = (Vec::new(), Vec::new());
    let (mut sticky, mut sticky_positions): (Vec<StickyRecord>, Vec<usize>) = (Vec::new(), Vec::new());
    for (position, (record, _)) in slice.iter().zip(ended).enumerate().filter(|(_, (_, ended))| !ended) {
        match record {
            Record::Connection(record) => {
                conn_positions.push(position);
                connections.push(*record);
            }
            Record::Sticky(record) => {
                sticky_positions.push(position);
                sticky.push(*record);
            }
        }
    }
    let mut settle = |positions: Vec<usize>, results: Outcomes| {
        // A table that answers for fewer items than it was given has not made the rest usable.
        let results = results.into_iter().chain(std::iter::repeat(Err(Refusal::Internal)));
        positions.into_iter().zip(results).for_each(|(position, result)| outcomes[position] = result);
    };
    if !connections.is_empty() {
        settle(conn_positions, here.table.upsert_connections(&connections, conflict));
    }
    if !sticky.is_empty() {
        settle(sticky_positions, here.table.upsert_sticky(&sticky, conflict));
    }
    outcomes
}

/// Deletes what stands in the transfer's buckets and was not named. A node whose own entries win deletes nothing: the
/// walk ended while it still mirrored, or its findings are dropped.
fn sweep(incoming: &Incoming, here: &Here<'_>, stamp: u64) -> io::Result<u64> {
    if !here.mirrors(stamp) {
        return Ok(0);
    }
    let unnamed =
        |key: &Key| incoming.buckets.contains(key.bucket()) && !incoming.named.contains(&key_hash(key));
    let (mut closed, mut gone) = (Vec::new(), Vec::new());
    here.table.visit_connections(&mut |chunk| {
        let rest = chunk.iter().filter(|record| unnamed(&Key::Connection(record.key)));
        closed.extend(rest.map(|record| ConnGone { key: record.key, generation: record.generation }));
        ControlFlow::Continue(())
    })?;
    here.table.visit_sticky(&mut |chunk| {
        gone.extend(chunk.iter().map(|record| record.key).filter(|key| unnamed(&Key::Sticky(*key))));
        ControlFlow::Continue(())
    })?;
    let mut deleted = 0;
    for closed in closed.chunks(SLICE).take_while(|_| here.mirrors(stamp)) {
        here.table.delete_connections(closed, Conflict::KeepNewer);
        deleted += closed.len() as u64;
    }
    for gone in gone.chunks(SLICE).take_while(|_| here.mirrors(stamp)) {
        here.table.delete_sticky(gone);
        deleted += gone.len() as u64;
    }
    Ok(deleted)
}
