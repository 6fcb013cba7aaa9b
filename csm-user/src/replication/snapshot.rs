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
        let again = self.buckets.minus(&self.buckets.minus(&done.refused));
        self.attempts = if again.is_empty() { 0 } else { self.attempts.saturating_add(1) };
        self.buckets = self.buckets.minus(&done.buckets).union(&done.refused);
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
