//! Handshakes under way, for a receiver that knows what to do with them. Pure.
//!
//! Whoever sends SYNs causes them, so they come last and have bounds of their own: one waits only as long as nothing else does, of more
//! than fit the oldest is left out, and no more than `PER_SECOND` are sent. What is lost of them is not repaired; a handshake
//! takes a round trip, and what was proven meanwhile was told as any connection.

use std::collections::VecDeque;
use std::time::Duration;

use crate::replication::record::Handshake;

/// So many a second are sent, in the long run: to enter one takes the receiver some microseconds.
const PER_SECOND: u32 = 20_000;
/// So many wait at most, and so many may be sent at once.
const WAITING: usize = AT_ONCE as usize;
const AT_ONCE: u32 = 2048;
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / PER_SECOND as u64);
const BURST: Duration = INTERVAL.saturating_mul(AT_ONCE);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// The receiver speaks a version that has them.
    pub(super) understood: bool,
    waiting: VecDeque<Handshake>,
    /// When all that was sent would have been sent at an even pace.
    due: Duration,
    /// Sent.
    pub(super) told: u64,
    /// Not sent, and never will be.
    pub(super) left_out: u64,
}

impl Handshakes {
    pub(super) fn push(&mut self, handshake: Handshake) {
        if !self.understood {
            return;
        }
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
            self.left_out += 1;
        }
        self.waiting.push_back(handshake);
    }

    /// The next that may be sent at `now`, at most `batch`.
    pub(super) fn take(&mut self, now: Duration, batch: usize) -> Option<Vec<Handshake>> {
        let from = self.due.max(now);
        let room = (now + BURST).saturating_sub(from).as_nanos() / INTERVAL.as_nanos();
        let count = self.waiting.len().min(batch).min(usize::try_from(room).unwrap_or(usize::MAX));
        if count == 0 {
            return None;
        }
        self.due = from + INTERVAL * u32::try_from(count).unwrap_or(u32::MAX);
        self.told += count as u64;
        Some(self.waiting.drain(..count).collect())
    }

    /// None waits.
    pub(super) fn is_told(&self) -> bool {
        self.waiting.is_empty()
    }

    /// This node tells nothing any more, or begins to.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{Handshakes, PER_SECOND, WAITING};
    use crate::replication::testing::handshake;
    use std::time::Duration;

    #[test]
    fn one_who_does_not_understand_is_told_nothing() {
        let mut handshakes = Handshakes::default();
        handshakes.push(handshake(1, 101, 1));
        assert_eq!(handshakes.take(Duration::from_secs(5), 512), None);
        assert_eq!((handshakes.told, handshakes.left_out), (0, 0));
    }

    /// Ten times as many as may be sent, for ten seconds.
    #[test]
    fn a_flood_is_sent_at_its_pace_and_the_rest_is_counted() {
        let mut handshakes = Handshakes { understood: true, ..Handshakes::default() };
        let (mut sent, mut pushed) = (0, 0);
        for tick in 0..1000u64 {
            let now = Duration::from_secs(5) + Duration::from_millis(10) * u32::try_from(tick).unwrap();
            for _ in 0..PER_SECOND / 10 {
                pushed += 1;
                handshakes.push(handshake(pushed, 101, pushed));
            }
            while let Some(batch) = handshakes.take(now, 512) {
                assert!(!batch.is_empty() && batch.len() <= 512);
                sent += batch.len() as u64;
            }
        }
        let most = u64::from(PER_SECOND) * 10 + WAITING as u64;
        assert!(sent <= most && sent > most - 2 * WAITING as u64, "{sent} of {pushed}");
        assert_eq!(handshakes.told, sent);
        assert_eq!(sent + handshakes.left_out + handshakes.waiting.len() as u64, u64::from(pushed));
        // What is left is the latest: those whose clients have not answered yet.
        let first = handshakes.waiting.front().expect("some wait").becomes.generation;
        assert!(pushed - first < u32::try_from(WAITING).unwrap(), "{first}");
    }
}
