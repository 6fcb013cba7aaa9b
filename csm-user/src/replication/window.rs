//! The sender's bounded queue of changes and its window of unacknowledged frames. Pure.
//!
//! The queue holds at most one change for each key: a later one takes the earlier one's place in the line, so the
//! queue is bounded by keys, not by events. Changes in buckets that a snapshot or repair speaks for are held back until
//! its last frame was sent; they are queued, bounded and aged like the others.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::delta::{BucketSet, Key, Op};
use super::record::Refusal;

/// Bounds of a [`Window`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Changes that wait, held ones included. About 230 octets each.
    pub queue: usize,
    /// Numbered frames that are sent and not acknowledged.
    pub in_flight: usize,
    /// Changes in a delta, records in a chunk; at most [`super::wire::ITEMS_MAX`].
    pub batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queue: 1 << 18, in_flight: 64, batch: 512 }
    }
}

/// What a numbered frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The begin of a transfer.
    Begin,
    /// Part of a transfer.
    Chunk,
    /// The end of a transfer.
    End,
    /// Changes.
    Delta,
}

/// What an acknowledgement says.
#[derive(Debug, PartialEq, Eq)]
pub struct Acked {
    /// What was acknowledged.
    pub what: Sent,
    /// How long its oldest change waited for it.
    pub age: Duration,
    /// Items that are now usable on the receiver.
    pub held: usize,
    /// Buckets of the refused items, and why.
    pub refused: Vec<(u8, Refusal)>,
    /// The end of a transfer was not carried out: the receiver's own entries win.
    pub declined: bool,
}

/// How a receiver refuses the end of a transfer, which has no items: see [`Acked::declined`].
pub const DECLINED: (u16, Refusal) = (0, Refusal::Superseded);

/// The peer acknowledged what was not to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Acknowledgements come one for each frame, in order.
    #[error("acknowledges {got}, expected {expected:?}")]
    OutOfOrder {
        /// Number in the acknowledgement.
        got: u64,
        /// Oldest unacknowledged number, if any.
        expected: Option<u64>,
    },
    /// A refused position outside the frame.
    #[error("refuses item {position} of {items}")]
    Position {
        /// Position.
        position: u16,
        /// Items in the frame.
        items: usize,
    },
}

#[derive(Debug, Default)]
struct Line {
    order: VecDeque<Key>,
    ops: HashMap<Key, (Op, Duration)>,
}

#[derive(Debug)]
struct Unacked {
    seq: u64,
    since: Duration,
    what: Sent,
    /// Bucket of each item.
    buckets: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Window {
    limits: Limits,
    last_seq: u64,
    ready: Line,
    held: Line,
    hold: BucketSet,
    unacked: VecDeque<Unacked>,
}

impl Line {
    fn push(&mut self, key: Key, op: Op, since: Duration) {
        match self.ops.get_mut(&key) {
            Some((waiting, _)) => *waiting = op,
            None => {
                self.ops.insert(key, (op, since));
                self.order.push_back(key);
            }
        }
    }

    fn pop(&mut self) -> Option<(Op, Duration)> {
        let key = self.order.pop_front()?;
        self.ops.remove(&key)
    }

    /// Changes wait in the order of their first event, so the first is the oldest.
    fn oldest(&self) -> Option<Duration> {
        self.order.front().and_then(|key| self.ops.get(key)).map(|(_, since)| *since)
    }

    /// Those in `buckets`, and the others.
    fn split(mut self, buckets: &BucketSet) -> (Self, Self) {
        let (mut inside, mut outside) = (Self::default(), Self::default());
        while let Some((op, since)) = self.pop() {
            let key = op.key();
            let line = if buckets.contains(key.bucket()) { &mut inside } else { &mut outside };
            line.push(key, op, since);
        }
        (inside, outside)
    }

    fn forget(&mut self, buckets: &BucketSet) {
        self.order.retain(|key| !buckets.contains(key.bucket()));
        self.ops.retain(|key, _| !buckets.contains(key.bucket()));
    }
}

impl Window {
    /// Empty; the first frame is number 1.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            last_seq: 0,
            ready: Line::default(),
            held: Line::default(),
            hold: BucketSet::EMPTY,
            unacked: VecDeque::new(),
        }
    }

    /// Queues a change. `false`: the queue is full and the change is lost; its bucket is wrong from now on.
    #[must_use]
    pub fn push(&mut self, now: Duration, op: Op) -> bool {
        let key = op.key();
        let held = self.hold.contains(key.bucket());
        let full = self.queued() >= self.limits.queue;
        let line = if held { &mut self.held } else { &mut self.ready };
        if full && !line.ops.contains_key(&key) {
            return false;
        }
        line.push(key, op, now);
        true
    }

    /// From here on a scan speaks for `buckets`: changes that wait in them are told by it and are forgotten, those to
    /// come are held back until [`Window::release`].
    pub fn hold(&mut self, buckets: &BucketSet) {
        self.ready.forget(buckets);
        self.hold = *buckets;
    }

    /// From here on changes in `buckets`, those that wait included, are held back until [`Window::release`]: a scan is
    /// sent first that speaks for what stands, but not for what is gone.
    pub fn defer(&mut self, buckets: &BucketSet) {
        let (held, ready) = std::mem::take(&mut self.ready).split(buckets);
        (self.held, self.ready, self.hold) = (held, ready, *buckets);
    }

    /// Lets go what was held back.
    pub fn release(&mut self) {
        self.hold = BucketSet::EMPTY;
        let mut held = std::mem::take(&mut self.held);
        for key in held.order {
            if let Some((op, since)) = held.ops.remove(&key) {
                self.ready.push(key, op, since);
            }
        }
    }

    /// Forgets all changes that wait; what was sent stays to be acknowledged.
    pub fn forget(&mut self) {
        self.ready = Line::default();
        self.held = Line::default();
        self.hold = BucketSet::EMPTY;
    }

    /// Another numbered frame may be sent.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.unacked.len() < self.limits.in_flight
    }

    /// Changes of the next delta, in order, and when the oldest of them happened; `None` if none waits.
    pub fn take(&mut self) -> Option<(Vec<Op>, Duration)> {
        let (first, mut since) = self.ready.pop()?;
        let mut ops = vec![first];
        while ops.len() < self.limits.batch
            && let Some((op, at)) = self.ready.pop()
        {
            since = since.min(at);
            ops.push(op);
        }
        Some((ops, since))
    }

    /// Notes a frame as sent: its items' `buckets`, and since when its oldest item waits. Returns its number.
    pub fn send(&mut self, since: Duration, what: Sent, buckets: Vec<u8>) -> u64 {
        self.last_seq += 1;
        self.unacked.push_back(Unacked { seq: self.last_seq, since, what, buckets });
        self.last_seq
    }

    /// Takes the acknowledgement of the oldest unacknowledged frame.
    ///
    /// # Errors
    /// The peer broke the protocol: see [`Violation`].
    pub fn ack(&mut self, now: Duration, seq: u64, refused: &[(u16, Refusal)]) -> Result<Acked, Violation> {
        let expected = self.unacked.front().map(|sent| sent.seq);
        let Some(sent) = self.unacked.pop_front_if(|sent| sent.seq == seq) else {
            return Err(Violation::OutOfOrder { got: seq, expected });
        };
        let items = sent.buckets.len();
        let declined = sent.what == Sent::End && refused == [DECLINED];
        let refused = refused.iter().filter(|_| !declined).map(|&(position, refusal)| {
            let bucket = sent.buckets.get(usize::from(position));
            bucket.map(|&bucket| (bucket, refusal)).ok_or(Violation::Position { position, items })
        });
        let refused = refused.collect::<Result<Vec<_>, _>>()?;
        let held = items.saturating_sub(refused.len());
        Ok(Acked { what: sent.what, age: now.saturating_sub(sent.since), held, refused, declined })
    }

    /// Age of the oldest change that is not acknowledged; zero if all are.
    #[must_use]
    pub fn oldest_age(&self, now: Duration) -> Duration {
        let deltas = self.unacked.iter().filter(|sent| sent.what == Sent::Delta).map(|sent| sent.since);
        let oldest = deltas.chain(self.ready.oldest()).chain(self.held.oldest()).min();
        oldest.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Buckets of the changes that are queued, held or unacknowledged.
    #[must_use]
    pub fn under_way(&self) -> BucketSet {
        let mut buckets = BucketSet::EMPTY;
        self.unacked.iter().flat_map(|sent| &sent.buckets).for_each(|&bucket| buckets.insert(bucket));
        self.ready.ops.keys().chain(self.held.ops.keys()).for_each(|key| buckets.insert(key.bucket()));
        buckets
    }

    /// Changes that wait, held ones included.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.ready.order.len() + self.held.order.len()
    }

    /// Items in frames that are not acknowledged.
    #[must_use]
    pub fn unacked_items(&self) -> usize {
        self.unacked.iter().map(|sent| sent.buckets.len()).sum()
    }

    /// No numbered frame waits for its acknowledgement.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.unacked.is_empty()
    }

    /// Number of the newest frame.
    #[must_use]
    pub const fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

#[cfg(test)]
mod tests;
