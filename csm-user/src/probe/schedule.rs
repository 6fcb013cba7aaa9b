//! When each check starts next. Pure: instants are durations since the schedule was made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Gap between the first checks of a new configuration. A thousand servers are known after two seconds.
pub const FIRST_GAP: Duration = Duration::from_millis(2);

/// Start of the first check of number `index` of `count` new ones, relative to now: the first at once, the others one
/// gap apart, but never later than their own `interval`. The offsets stay, so later rounds do not bunch either.
#[must_use]
pub fn first_offset(index: u32, count: u32, interval: Duration) -> Duration {
    FIRST_GAP.min(interval / count.max(1)) * index
}

/// Deadlines by key, earliest first; equal deadlines in the order of the keys.
#[derive(Clone, Debug)]
pub struct Schedule<K> {
    queue: BTreeSet<(Duration, K)>,
    due_at: BTreeMap<K, Duration>,
}

impl<K: Ord + Clone> Default for Schedule<K> {
    fn default() -> Self {
        Self { queue: BTreeSet::new(), due_at: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Schedule<K> {
    /// Sets the deadline of `key`, replacing an earlier one.
    pub fn set(&mut self, key: &K, at: Duration) {
        self.remove(key);
        self.due_at.insert(key.clone(), at);
        self.queue.insert((at, key.clone()));
    }

    /// Forgets `key`.
    pub fn remove(&mut self, key: &K) {
        if let Some(at) = self.due_at.remove(key) {
            self.queue.remove(&(at, key.clone()));
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes the earliest key whose deadline has come.
    pub fn pop_due(&mut self, now: Duration) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        self.due_at.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn first_checks_start_at_once_and_apart_and_within_the_interval() {
        assert_eq!(first_offset(0, 3, 120 * S), Duration::ZERO);
        assert_eq!(first_offset(2, 3, 120 * S), 2 * FIRST_GAP);
        let last = first_offset(32_767, 32_768, 5 * S);
        assert!(last < 5 * S && last > 4 * S, "{last:?}");
    }

    #[test]
    fn keys_come_due_in_order_of_their_latest_deadline() {
        let mut schedule = Schedule::default();
        schedule.set(&'a', 3 * S);
        schedule.set(&'b', S);
        schedule.set(&'c', S);
        schedule.set(&'b', 2 * S);
        schedule.set(&'d', S);
        schedule.remove(&'d');
        assert_eq!(schedule.next(), Some(S));
        assert_eq!(schedule.pop_due(Duration::ZERO), None);
        let due: Vec<_> = std::iter::from_fn(|| schedule.pop_due(2 * S)).collect();
        assert_eq!(due, ['c', 'b']);
        assert_eq!(schedule.next(), Some(3 * S));
    }
}
