//! The receiving side of one stream: carries frames out on the table and acknowledges what is usable. Pure but for the
//! [`ReplicaTable`] it is given.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use csm_common::limits::{CONNECTIONS_MAX, STICKY_MAX};

use super::delta::{BucketSet, Key, Op, Record};
use super::digest::key_hash;
use super::record::{Conflict, ConnGone, ConnRecord, Refusal, ReplicaTable, StickyKey, StickyRecord};
use super::status::{Progress, ReceiverStatus};
use super::wire::Frame;

/// Deletions handed to the table at a time, with a look at the role between.
const SWEEP: usize = 1024;

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

/// See the module.
#[derive(Debug, Default)]
pub struct Receiver {
    last_seq: u64,
    incoming: Option<Incoming>,
    facts: ReceiverStatus,
}

#[derive(Debug)]
struct Incoming {
    epoch: u64,
    buckets: BucketSet,
    entries: u64,
    /// Hashes of the keys named: 8 octets for each entry of the peer's tables, for the time of a transfer.
    named: HashSet<u64>,
}

/// The outcome for each item of a frame, in its order.
type Outcomes = Vec<Result<(), Refusal>>;

impl Receiver {
    /// Carries `frame` out. `active` says whether this node forwards: then its own entries win, nothing is deleted on
    /// the peer's word, and what comes are the last words of the predecessor. It is read again while a long frame is
    /// carried out.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply(
        &mut self,
        frame: Frame,
        table: &dyn ReplicaTable,
        active: &AtomicBool,
    ) -> Result<Answer, ApplyError> {
        let is_active = active.load(Ordering::Acquire);
        let (seq, outcomes) = match frame {
            Frame::Begin { seq, epoch, buckets } => {
                self.number(seq)?;
                self.begin(epoch, buckets);
                (seq, Vec::new())
            }
            Frame::Chunk { seq, epoch, records } => {
                self.number(seq)?;
                (seq, self.chunk(epoch, &records, table, is_active)?)
            }
            Frame::End { seq, epoch, count } => {
                self.number(seq)?;
                self.end(epoch, count, table, active)?;
                (seq, Vec::new())
            }
            Frame::Delta { seq, ops } => {
                self.number(seq)?;
                (seq, self.delta(&ops, table, is_active))
            }
            Frame::DigestRequest { round } => return Ok(Answer::Digest { round }),
            Frame::Heartbeat { epoch, caught_up, lag_ms } => {
                self.facts.lag_ms = lag_ms;
                self.facts.complete = caught_up && epoch != 0 && epoch == self.facts.snapshot_epoch;
                return Ok(Answer::Nothing);
            }
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

    fn begin(&mut self, epoch: u64, buckets: BucketSet) {
        if buckets == BucketSet::ALL {
            self.facts.snapshot_epoch = 0;
            self.facts.complete = false;
        }
        self.incoming = Some(Incoming { epoch, buckets, entries: 0, named: HashSet::new() });
    }

    fn chunk(
        &mut self,
        epoch: u64,
        records: &[Record],
        table: &dyn ReplicaTable,
        active: bool,
    ) -> Result<Outcomes, ApplyError> {
        let incoming = self.incoming.as_mut().filter(|incoming| incoming.epoch == epoch);
        let incoming = incoming.ok_or(ApplyError::Epoch(epoch))?;
        incoming.entries += records.len() as u64;
        incoming.named.extend(records.iter().map(|record| key_hash(&record.key())));
        if incoming.named.len() > ENTRIES_MAX {
            return Err(ApplyError::TooMany(epoch));
        }
        let conflict = if active { Conflict::Keep } else { Conflict::Replace };
        Ok(put(records.iter().map(Some), table, conflict))
    }

    fn end(
        &mut self,
        epoch: u64,
        count: u64,
        table: &dyn ReplicaTable,
        active: &AtomicBool,
    ) -> Result<(), ApplyError> {
        let incoming = self.incoming.take_if(|incoming| incoming.epoch == epoch);
        let incoming = incoming.ok_or(ApplyError::Epoch(epoch))?;
        if incoming.entries != count {
            return Err(ApplyError::Count { said: count, came: incoming.entries });
        }
        self.facts.deleted += sweep(&incoming, table, active)?;
        if incoming.buckets == BucketSet::ALL && !active.load(Ordering::Acquire) {
            self.facts.snapshot_epoch = epoch;
        }
        Ok(())
    }

    /// Deletions go first: a key stands once in a frame, and a new connection may need the return direction's key of
    /// one that ended.
    fn delta(&mut self, ops: &[Op], table: &dyn ReplicaTable, active: bool) -> Outcomes {
        if !active {
            let closed: Vec<ConnGone> = ops
                .iter()
                .filter_map(|op| if let Op::Closed(gone) = op { Some(*gone) } else { None })
                .collect();
            let gone: Vec<StickyKey> = ops
                .iter()
                .filter_map(|op| if let Op::StickyGone(key) = op { Some(*key) } else { None })
                .collect();
            delete(&closed, &gone, table);
            self.facts.deleted += (closed.len() + gone.len()) as u64;
        }
        let conflict = if active { Conflict::Keep } else { Conflict::KeepNewer };
        put(ops.iter().map(|op| if let Op::Put(record) = op { Some(record) } else { None }), table, conflict)
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

fn delete(closed: &[ConnGone], gone: &[StickyKey], table: &dyn ReplicaTable) {
    if !closed.is_empty() {
        table.delete_connections(closed);
    }
    if !gone.is_empty() {
        table.delete_sticky(gone);
    }
}

/// Puts the records among `items` and returns the outcome for every item; one without a record succeeds.
fn put<'a>(
    items: impl Iterator<Item = Option<&'a Record>>,
    table: &dyn ReplicaTable,
    conflict: Conflict,
) -> Outcomes {
    let mut outcomes: Outcomes = Vec::new();
    let (mut connections, mut conn_positions): (Vec<ConnRecord>, Vec<usize>) = (Vec::new(), Vec::new());
    let (mut sticky, mut sticky_positions): (Vec<StickyRecord>, Vec<usize>) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Some(Record::Connection(record)) => {
                conn_positions.push(outcomes.len());
                connections.push(*record);
            }
            Some(Record::Sticky(record)) => {
                sticky_positions.push(outcomes.len());
                sticky.push(*record);
            }
            None => {}
        }
        outcomes.push(Ok(()));
    }
    let mut settle = |positions: Vec<usize>, results: Outcomes| {
        // A table that answers for fewer items than it was given has not made the rest usable.
        let results = results.into_iter().chain(std::iter::repeat(Err(Refusal::Internal)));
        positions.into_iter().zip(results).for_each(|(position, result)| outcomes[position] = result);
    };
    if !connections.is_empty() {
        settle(conn_positions, table.upsert_connections(&connections, conflict));
    }
    if !sticky.is_empty() {
        settle(sticky_positions, table.upsert_sticky(&sticky, conflict));
    }
    outcomes
}

/// Deletes what stands in the transfer's buckets and was not named. An active node deletes nothing: the walk ended
/// while it still was a standby, or its findings are dropped.
fn sweep(incoming: &Incoming, table: &dyn ReplicaTable, active: &AtomicBool) -> io::Result<u64> {
    let unnamed =
        |key: &Key| incoming.buckets.contains(key.bucket()) && !incoming.named.contains(&key_hash(key));
    let (mut closed, mut gone) = (Vec::new(), Vec::new());
    table.visit_connections(&mut |chunk| {
        let rest = chunk.iter().filter(|record| unnamed(&Key::Connection(record.key)));
        closed.extend(rest.map(|record| ConnGone { key: record.key, generation: record.generation }));
        ControlFlow::Continue(())
    })?;
    table.visit_sticky(&mut |chunk| {
        gone.extend(chunk.iter().map(|record| record.key).filter(|key| unnamed(&Key::Sticky(*key))));
        ControlFlow::Continue(())
    })?;
    let mut deleted = 0;
    for closed in closed.chunks(SWEEP) {
        if active.load(Ordering::Acquire) {
            return Ok(deleted);
        }
        table.delete_connections(closed);
        deleted += closed.len() as u64;
    }
    for gone in gone.chunks(SWEEP) {
        if active.load(Ordering::Acquire) {
            return Ok(deleted);
        }
        table.delete_sticky(gone);
        deleted += gone.len() as u64;
    }
    Ok(deleted)
}
