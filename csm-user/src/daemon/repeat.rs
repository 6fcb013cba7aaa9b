//! Work that is done by one at a time, and once more if it was asked for meanwhile. Pure.

use std::sync::atomic::{AtomicU8, Ordering};

const IDLE: u8 = 0;
const RUNNING: u8 = 1;
const AGAIN: u8 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Repeat(AtomicU8);

impl Repeat {
    /// Asks for it; whether the caller is to do it, until [`Self::is_done`].
    pub(super) fn ask(&self) -> bool {
        let asked = |state| Some(if state == IDLE { RUNNING } else { AGAIN });
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, asked) == Ok(IDLE)
    }

    /// The caller has done it; false if it was asked for meanwhile, and is to be done once more.
    pub(super) fn is_done(&self) -> bool {
        let done = |state| Some(if state == AGAIN { RUNNING } else { IDLE });
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, done) == Ok(RUNNING)
    }
}

#[cfg(test)]
mod tests {
    use super::Repeat;

    #[test]
    fn what_is_asked_for_while_it_is_done_is_done_once_more() {
        let work = Repeat::default();
        assert!(work.ask() && work.is_done() && work.ask());
        assert!(!work.ask() && !work.ask(), "one at a time");
        assert!(!work.is_done(), "once for both");
        assert!(work.is_done() && work.ask());
    }
}
