//! What ended on this node while it was active, so that the last words of a predecessor or rival do not bring it back.
//! Pure.

use std::collections::{HashMap, VecDeque};

use super::delta::{Key, Op, Record};
use super::record::{ConnGone, DeltaEvent};

/// Ends that are remembered; of more, the oldest are forgotten. About 130 octets each.
pub const ENDED_MAX: usize = 1 << 18;

/// See the module.
#[derive(Debug)]
pub struct Ended {
    max: usize,
    order: VecDeque<Key>,
    /// The generation that ended; 0 for sticky entries, which have none.
    generations: HashMap<Key, u32>,
}

impl Default for Ended {
    fn default() -> Self {
        Self::new(ENDED_MAX)
    }
}

impl Ended {
    /// Remembers at most `max` ends.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, order: VecDeque::new(), generations: HashMap::new() }
    }

    /// The dataplane tells of a change.
    pub fn event(&mut self, event: &DeltaEvent) {
        match Op::of(event) {
            Some(Op::Closed(gone)) => self.remember(Key::Connection(gone.key), gone.generation),
            Some(Op::StickyGone(key)) => self.remember(Key::Sticky(key), 0),
            Some(Op::Put(_)) | None => {}
        }
    }

    fn remember(&mut self, key: Key, generation: u32) {
        if self.generations.insert(key, generation).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.generations.remove(&oldest);
        }
    }

    /// This very entry ended here. Generations are compared for equality only: those of two nodes have no order.
    #[must_use]
    pub fn covers(&self, record: &Record) -> bool {
        let generation = match record {
            Record::Connection(record) => record.generation,
            Record::Sticky(_) => 0,
        };
        self.generations.get(&record.key()) == Some(&generation)
    }

    /// The connections that ended, for a peer that was not told: it may hold replicas of them.
    pub fn connections(&self) -> impl Iterator<Item = ConnGone> {
        self.generations.iter().filter_map(|(key, generation)| match key {
            Key::Connection(key) => Some(ConnGone { key: *key, generation: *generation }),
            Key::Sticky(_) => None,
        })
    }

    /// Forgets all: this node is not active any more.
    pub fn forget(&mut self) {
        self.order = VecDeque::new();
        self.generations = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::Ended;
    use crate::replication::delta::Record;
    use crate::replication::record::{ConnGone, DeltaEvent};
    use crate::replication::testing::{connection, sticky};

    fn close(ended: &mut Ended, number: u32, generation: u32) {
        let key = connection(number, 0, 0).key;
        ended.event(&DeltaEvent::ConnectionClosed(ConnGone { key, generation }));
    }

    #[test]
    fn the_very_connection_is_covered_and_no_other() {
        let mut ended = Ended::new(10);
        close(&mut ended, 1, 7);
        assert!(ended.covers(&Record::Connection(connection(1, 101, 7))));
        assert!(!ended.covers(&Record::Connection(connection(1, 101, 6))));
        assert!(!ended.covers(&Record::Connection(connection(2, 101, 7))));
        ended.event(&DeltaEvent::StickyGone(sticky(3, 101).key));
        assert!(ended.covers(&Record::Sticky(sticky(3, 102))));
        assert_eq!(ended.connections().map(|gone| gone.generation).collect::<Vec<_>>(), [7]);
        ended.forget();
        assert!(!ended.covers(&Record::Connection(connection(1, 101, 7))));
    }

    #[test]
    fn the_memory_is_bounded_and_the_oldest_go_first() {
        let mut ended = Ended::new(3);
        for number in 0..5 {
            close(&mut ended, number, 7);
            close(&mut ended, number, 8);
        }
        let covered: Vec<u32> =
            (0..5).filter(|number| ended.covers(&Record::Connection(connection(*number, 101, 8)))).collect();
        assert_eq!(covered, [2, 3, 4]);
        assert_eq!((ended.order.len(), ended.generations.len()), (3, 3));
    }
}
