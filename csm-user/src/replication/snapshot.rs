//! A snapshot (all buckets) or repair (some) under way at the sender. Pure.
//!
//! The cut: from [`Window::hold`](super::window::Window::hold) on, which comes before the walk, changes in the buckets
//! are held back; the walk reads the kernel's map; after the last frame the changes follow. A change that happened
//! before the walk passed its entry is repeated by the stream, which is harmless: deltas never replace a newer
//! generation. A change after it is told only by the stream. So nothing is missed and nothing older wins.

use std::time::Duration;

use super::delta::BucketSet;

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Entries are being read and sent.
    Walking,
    /// All entries were read and sent; the end is still to be sent.
    Walked,
    /// Waiting for the acknowledgement of the end, which has this number.
    Ending(u64),
}

/// What a transfer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// Number of the transfer.
    pub epoch: u64,
    /// Buckets it spoke for.
    pub buckets: BucketSet,
    /// Entries it named.
    pub entries: u64,
    /// From the begin to the last acknowledgement.
    pub took: Duration,
    /// Buckets in which entries were refused.
    pub refused: BucketSet,
}

/// A transfer under way.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Number, from 1 for each stream.
    pub epoch: u64,
    /// What it speaks for.
    pub buckets: BucketSet,
    /// Of these, those that were known to be wrong when it began.
    pub broken: BucketSet,
    /// Where it is.
    pub phase: Phase,
    /// Entries sent.
    pub entries: u64,
    started: Duration,
    refused: BucketSet,
}

impl Transfer {
    /// Begins at `now`.
    #[must_use]
    pub const fn new(now: Duration, epoch: u64, buckets: BucketSet, broken: BucketSet) -> Self {
        Self {
            epoch,
            buckets,
            broken,
            phase: Phase::Walking,
            entries: 0,
            started: now,
            refused: BucketSet::EMPTY,
        }
    }

    /// It speaks for everything.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.buckets == BucketSet::ALL
    }

    /// An entry in `bucket` was refused.
    pub const fn refuse(&mut self, bucket: u8) {
        self.refused.insert(bucket);
    }

    /// The end was acknowledged.
    #[must_use]
    pub const fn finish(self, now: Duration) -> Transferred {
        let Self { epoch, buckets, entries, started, refused, broken: _, phase: _ } = self;
        Transferred { epoch, buckets, entries, took: now.saturating_sub(started), refused }
    }
}

/// Buckets with refused entries, and when to offer these again: configuration or neighbours may have come since.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retry {
    /// Buckets.
    pub buckets: BucketSet,
    attempts: u32,
    at: Duration,
}

/// Attempts after which refused entries no longer keep the replica from counting as complete (lesson 1: never block
/// for ever, show it instead).
const ATTEMPTS: u32 = 3;
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(10);

impl Retry {
    /// An entry in `bucket` was refused.
    pub fn refuse(&mut self, now: Duration, bucket: u8) {
        if self.buckets.is_empty() {
            self.at = now + self.pause();
        }
        self.buckets.insert(bucket);
    }

    /// What is to be offered again at `now`.
    #[must_use]
    pub fn due(&self, now: Duration) -> BucketSet {
        if now >= self.at { self.buckets } else { BucketSet::EMPTY }
    }

    /// A transfer was completed: what it refused is tried again, the rest of what it spoke for is settled.
    pub fn transferred(&mut self, now: Duration, done: &Transferred) {
        let rest = self.buckets.minus(&done.buckets);
        if rest == self.buckets && done.refused.is_empty() {
            // It offered none of them: that is no attempt, and nothing to wait after.
            return;
        }
        let is_again = self.buckets.minus(&done.refused) != self.buckets;
        self.buckets = rest.union(&done.refused);
        self.attempts = match is_again {
            _ if self.buckets.is_empty() => 0,
            true => self.attempts.saturating_add(1),
            false => self.attempts,
        };
        self.at = now + self.pause();
    }

    /// Refused entries were offered often enough; the replica is as complete as it gets.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.buckets.is_empty() || self.attempts >= ATTEMPTS
    }

    const fn pause(&self) -> Duration {
        if self.attempts < ATTEMPTS { SOON } else { LATER }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ATTEMPTS, BucketSet, LATER, Retry, SOON, Transfer};

    /// A transfer of `buckets` that ended at `at`, with entries refused in `refused`.
    fn transfer(at: Duration, buckets: &[u8], refused: &[u8]) -> super::Transferred {
        let mut set = BucketSet::EMPTY;
        buckets.iter().for_each(|bucket| set.insert(*bucket));
        let mut transfer = Transfer::new(at, 1, set, BucketSet::EMPTY);
        refused.iter().for_each(|bucket| transfer.refuse(*bucket));
        transfer.finish(at)
    }

    #[test]
    fn what_is_refused_stays_settled_whatever_else_is_rewritten() {
        let (mut retry, mut now) = (Retry::default(), Duration::ZERO);
        retry.refuse(now, 7);
        for attempt in 0..ATTEMPTS {
            assert!(!retry.is_settled(), "{attempt} attempts");
            now += SOON;
            assert!(retry.due(now).contains(7));
            retry.transferred(now, &transfer(now, &[7], &[7]));
        }
        let again = now + LATER;
        assert!(retry.is_settled() && retry.due(now + SOON).is_empty());
        for _ in 0..5 {
            now += SOON;
            retry.transferred(now, &transfer(now, &[1, 2], &[]));
            assert!(retry.is_settled(), "another part of the table was rewritten");
        }
        assert!(retry.due(again).contains(7), "in its own time");
        retry.transferred(again, &transfer(again, &[7, 8], &[8]));
        assert!(retry.is_settled() && retry.buckets.contains(8) && !retry.buckets.contains(7));
        retry.transferred(again, &transfer(again, &[8], &[]));
        assert!(retry.buckets.is_empty());
        retry.refuse(again, 9);
        assert!(!retry.is_settled(), "and the next is offered as often");
    }
}
