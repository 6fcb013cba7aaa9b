//! Operations on replicated entries, and the buckets that keys fall into. Pure.

use super::digest;
use super::record::{ConnGone, ConnKey, ConnRecord, DeltaEvent, StickyKey, StickyRecord};

/// Buckets that the key space is cut into for digests and repair.
pub const BUCKETS: usize = 256;

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A connection.
    Connection(ConnKey),
    /// A sticky entry.
    Sticky(StickyKey),
}

impl Key {
    /// Bucket of this key, the same on both nodes: the highest octet of [`digest::key_hash`].
    #[must_use]
    pub fn bucket(&self) -> u8 {
        digest::key_hash(self).to_be_bytes()[0]
    }
}

/// An entry of either table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A connection.
    Connection(ConnRecord),
    /// A sticky entry.
    Sticky(StickyRecord),
}

impl Record {
    /// What it is about.
    #[must_use]
    pub const fn key(&self) -> Key {
        match self {
            Self::Connection(record) => Key::Connection(record.key),
            Self::Sticky(record) => Key::Sticky(record.key),
        }
    }
}

/// One change of either table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The entry stands as given.
    Put(Record),
    /// The connection ended.
    Closed(ConnGone),
    /// The sticky entry is gone.
    StickyGone(StickyKey),
}

impl Op {
    /// What it is about.
    #[must_use]
    pub const fn key(&self) -> Key {
        match self {
            Self::Put(record) => record.key(),
            Self::Closed(gone) => Key::Connection(gone.key),
            Self::StickyGone(key) => Key::Sticky(*key),
        }
    }

    /// The change an event tells of; `None` if it is about no known entry.
    #[must_use]
    pub const fn of(event: &DeltaEvent) -> Option<Self> {
        match *event {
            DeltaEvent::ConnectionUp(record) => Some(Self::Put(Record::Connection(record))),
            DeltaEvent::ConnectionClosed(gone) => Some(Self::Closed(gone)),
            DeltaEvent::Sticky(record) => Some(Self::Put(Record::Sticky(record))),
            DeltaEvent::StickyGone(key) => Some(Self::StickyGone(key)),
            DeltaEvent::Handshake(_)
            | DeltaEvent::HandshakesLeftOut(_)
            | DeltaEvent::Lost(_)
            | DeltaEvent::Flushed
            | DeltaEvent::Rescoped => None,
        }
    }
}

/// A set of buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketSet([u64; BUCKETS / 64]);

impl BucketSet {
    /// No bucket.
    pub const EMPTY: Self = Self([0; BUCKETS / 64]);
    /// Every bucket: the whole of both tables.
    pub const ALL: Self = Self([u64::MAX; BUCKETS / 64]);

    /// The set from the four words of [`BucketSet::words`].
    #[must_use]
    pub const fn from_words(words: [u64; BUCKETS / 64]) -> Self {
        Self(words)
    }

    /// Bit `b % 64` of word `b / 64` stands for bucket `b`.
    #[must_use]
    pub const fn words(&self) -> [u64; BUCKETS / 64] {
        self.0
    }

    /// Is `bucket` in the set?
    #[must_use]
    pub const fn contains(&self, bucket: u8) -> bool {
        self.0[bucket as usize / 64] >> (bucket % 64) & 1 == 1
    }

    /// Puts `bucket` in.
    pub const fn insert(&mut self, bucket: u8) {
        self.0[bucket as usize / 64] |= 1 << (bucket % 64);
    }

    /// Takes `bucket` out.
    pub const fn remove(&mut self, bucket: u8) {
        self.0[bucket as usize / 64] &= !(1 << (bucket % 64));
    }

    /// Is nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Number of buckets in it, 0–256.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// What is in this and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }
}

#[cfg(test)]
mod tests {
    use super::BucketSet;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_bucket_set_is_a_set(puts in prop::collection::vec(any::<u8>(), 0..300), takes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut set = BucketSet::EMPTY;
            let mut model = BTreeSet::new();
            for bucket in puts { set.insert(bucket); model.insert(bucket); }
            for bucket in takes { set.remove(bucket); model.remove(&bucket); }
            prop_assert_eq!(set.len() as usize, model.len());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            prop_assert!((0..=255).all(|bucket| set.contains(bucket) == model.contains(&bucket)));
            prop_assert_eq!(BucketSet::from_words(set.words()), set);
            prop_assert_eq!(BucketSet::ALL.minus(&set).union(&set), BucketSet::ALL);
            prop_assert_eq!(BucketSet::ALL.minus(&set).len() + set.len(), 256);
        }
    }
}
