//! Stable small numbers for things the maps index: virtual servers, reals, next hops. Pure.
//!
//! A key keeps its number as long as it is wanted, and after that for as long as anything in the tables may still refer
//! to it: it is first *retired*, and *released* for another key only after a whole walk of the tables, begun after the
//! retirement, has not met it. Without that wait an old connection would be forwarded to a new key's server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

/// Numbers `first..limit`, handed out lowest first.
#[derive(Clone, Debug)]
pub struct Numbers<K> {
    numbers: HashMap<K, u32>,
    keys: BTreeMap<u32, K>,
    /// Retired number → the walk that was last begun when it was retired.
    retired: BTreeMap<u32, u64>,
    free: BTreeSet<u32>,
    next: u32,
    limit: u32,
}

impl<K: Clone + Eq + Hash> Numbers<K> {
    /// Hands out `first..limit`.
    #[must_use]
    pub fn new(first: u32, limit: u32) -> Self {
        Self {
            numbers: HashMap::new(),
            keys: BTreeMap::new(),
            retired: BTreeMap::new(),
            free: BTreeSet::new(),
            next: first,
            limit,
        }
    }

    /// As [`Self::new`], where these are given out already, by one who came before. All are retired: what is still wanted
    /// says so by [`Self::assign`], and the others are released when nothing refers to them any more.
    #[must_use]
    pub fn restored(first: u32, limit: u32, given: impl IntoIterator<Item = (u32, K)>) -> Self {
        let mut numbers = Self::new(first, limit);
        for (number, key) in given {
            let is_new = !numbers.keys.contains_key(&number) && !numbers.numbers.contains_key(&key);
            if is_new && (first..limit).contains(&number) {
                numbers.numbers.insert(key.clone(), number);
                numbers.keys.insert(number, key);
                numbers.retired.insert(number, 0);
            }
        }
        numbers.next = numbers.keys.last_key_value().map_or(first, |(number, _)| number + 1);
        numbers.free = (first..numbers.next).filter(|number| !numbers.keys.contains_key(number)).collect();
        numbers
    }

    /// Numbers and keys, retired ones included.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &K)> {
        self.keys.iter().map(|(number, key)| (*number, key))
    }

    /// The number of `key`, retired or not.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// The key behind `number`, retired or not.
    #[must_use]
    pub fn key(&self, number: u32) -> Option<&K> {
        self.keys.get(&number)
    }

    /// The number of `key`, a new one if it has none; `None` when all are taken. A retired key gets its number back.
    pub fn assign(&mut self, key: &K) -> Option<u32> {
        if let Some(number) = self.get(key) {
            self.retired.remove(&number);
            return Some(number);
        }
        let number = match self.free.pop_first() {
            Some(number) => number,
            None if self.next < self.limit => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        self.numbers.insert(key.clone(), number);
        self.keys.insert(number, key.clone());
        Some(number)
    }

    /// `key` is wanted no more; `walk` is the number of the table walk that was begun last.
    pub fn retire(&mut self, key: &K, walk: u64) {
        if let Some(number) = self.get(key) {
            self.retired.entry(number).or_insert(walk);
        }
    }

    /// Retires all but `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(&K) -> bool, walk: u64) {
        for (&number, key) in &self.keys {
            if !wanted(key) {
                self.retired.entry(number).or_insert(walk);
            }
        }
    }

    /// Walk number `walk` has ended: frees the numbers retired before it began that it did not meet.
    pub fn release(&mut self, walk: u64, in_use: impl Fn(u32) -> bool) -> Vec<(u32, K)> {
        let idle: Vec<u32> = self
            .retired
            .iter()
            .filter(|&(&number, &retired_in)| retired_in < walk && !in_use(number))
            .map(|(&number, _)| number)
            .collect();
        idle.into_iter()
            .filter_map(|number| {
                self.retired.remove(&number);
                self.free.insert(number);
                let key = self.keys.remove(&number)?;
                self.numbers.remove(&key);
                Some((number, key))
            })
            .collect()
    }

    /// True if `key` has a number and is not retired.
    #[must_use]
    pub fn is_live(&self, key: &K) -> bool {
        self.get(key).is_some_and(|number| !self.retired.contains_key(&number))
    }

    /// Keys with a number, retired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if no key has a number.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_number_is_reused_only_after_a_walk_that_began_later_did_not_meet_it() {
        let mut numbers = Numbers::new(1, 3);
        assert_eq!(numbers.assign(&'a'), Some(1));
        assert_eq!(numbers.assign(&'b'), Some(2));
        numbers.retire(&'a', 5);
        assert_eq!(numbers.assign(&'c'), None, "retired is not free");
        assert!(numbers.release(5, |_| false).is_empty(), "walk 5 was already under way");
        assert!(numbers.release(6, |number| number == 1).is_empty(), "still referred to");
        assert_eq!(numbers.release(7, |_| false), vec![(1, 'a')]);
        assert_eq!(numbers.assign(&'c'), Some(1));
    }

    #[test]
    fn a_key_that_comes_back_gets_its_number_back() {
        let mut numbers = Numbers::new(0, 8);
        numbers.assign(&'a');
        numbers.assign(&'b');
        numbers.retire(&'b', 0);
        assert!(!numbers.is_live(&'b'));
        assert_eq!(numbers.assign(&'b'), Some(1));
        assert!(numbers.release(9, |_| false).is_empty());
    }

    #[test]
    fn restored_numbers_are_kept_for_who_had_them_until_a_walk_does_not_meet_them() {
        let mut numbers = Numbers::restored(1, 8, [(2, 'a'), (5, 'b'), (2, 'x'), (9, 'y'), (0, 'z')]);
        assert_eq!(numbers.assign(&'a'), Some(2));
        assert_eq!(
            (numbers.assign(&'c'), numbers.assign(&'d')),
            (Some(1), Some(3)),
            "the lowest that are free"
        );
        assert_eq!(numbers.release(1, |number| number == 5), vec![], "old connections use it");
        assert_eq!(numbers.release(2, |_| false), vec![(5, 'b')]);
        assert_eq!(numbers.get(&'x'), None);
    }

    proptest! {
        #[test]
        fn a_kept_key_keeps_its_number_and_no_two_share_one(steps in prop::collection::vec((0u8..12, any::<bool>()), 1..200)) {
            let mut numbers = Numbers::new(0, 12);
            let mut held: HashMap<u8, u32> = HashMap::new();
            for (walk, (key, keep)) in steps.into_iter().enumerate() {
                if keep {
                    let number = numbers.assign(&key).expect("as many numbers as keys");
                    prop_assert!(held.get(&key).is_none_or(|&before| before == number));
                    held.insert(key, number);
                } else {
                    numbers.retire(&key, walk as u64);
                    for (_, gone) in numbers.release(walk as u64 + 1, |_| false) {
                        held.remove(&gone);
                    }
                }
                let mut all: Vec<u32> = held.values().copied().collect();
                all.sort_unstable();
                all.dedup();
                prop_assert_eq!(all.len(), held.len());
            }
        }
    }
}
