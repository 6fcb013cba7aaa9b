//! A gateway's answers to its state. Pure: times are durations since the start.

use std::time::Duration;

/// One gateway under watch: a question each interval, down after so many in a row without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Liveness {
    interval: Duration,
    retries: u8,
    /// When the next question is due.
    due: Duration,
    /// A question is out, and not answered.
    open: bool,
    missed: u8,
    up: Option<bool>,
}

impl Liveness {
    /// One that was never asked. The first question is due at once.
    #[must_use]
    pub const fn new(interval: Duration, retries: u8) -> Self {
        Self { interval, retries, due: Duration::ZERO, open: false, missed: 0, up: None }
    }

    /// Its state; `None` until an answer has come, or too many are missing.
    #[must_use]
    pub const fn up(&self) -> Option<bool> {
        self.up
    }

    /// When [`Liveness::ask`] is due.
    #[must_use]
    pub const fn due(&self) -> Duration {
        self.due
    }

    /// Judges the last question if the time for the next has come; true: ask now.
    pub fn ask(&mut self, now: Duration) -> bool {
        if now < self.due {
            return false;
        }
        // Asked too late to tell: an answer may lie unread behind whatever held this process up.
        let late = now - self.due > self.interval / 2;
        if self.open && !late {
            self.missed = self.missed.saturating_add(1);
            if self.missed >= self.retries {
                self.up = Some(false);
            }
        }
        self.open = true;
        self.due = now + self.interval;
        true
    }

    /// It has answered.
    pub const fn answered(&mut self) {
        (self.open, self.missed, self.up) = (false, 0, Some(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn asked(gateway: &mut Liveness, at: Duration) -> Option<bool> {
        assert!(gateway.ask(at), "{at:?}");
        gateway.up()
    }

    #[test]
    fn it_is_down_after_so_many_missing_answers_in_a_row_and_up_with_the_first() {
        let mut gateway = Liveness::new(S, 3);
        assert_eq!(asked(&mut gateway, Duration::ZERO), None);
        assert!(!gateway.ask(S / 2), "not before its time");
        gateway.answered();
        assert_eq!(gateway.up(), Some(true));
        for second in 1..=3 {
            assert_eq!(asked(&mut gateway, S * second), Some(true));
        }
        gateway.answered();
        for second in 4..=6 {
            assert_eq!(asked(&mut gateway, S * second), Some(true), "{second}: the row was broken");
        }
        assert_eq!(asked(&mut gateway, S * 7), Some(false));
        gateway.answered();
        assert_eq!(gateway.up(), Some(true));
    }

    #[test]
    fn a_gateway_that_never_answers_is_down_and_not_unknown_for_ever() {
        let mut gateway = Liveness::new(S, 1);
        assert_eq!(asked(&mut gateway, Duration::ZERO), None);
        assert_eq!(asked(&mut gateway, S), Some(false));
    }

    #[test]
    fn a_question_judged_late_says_nothing() {
        let mut gateway = Liveness::new(S, 1);
        asked(&mut gateway, Duration::ZERO);
        gateway.answered();
        asked(&mut gateway, S);
        assert_eq!(asked(&mut gateway, S * 20), Some(true), "this process was held up for 18 s");
        assert_eq!(asked(&mut gateway, S * 21), Some(false));
    }
}
