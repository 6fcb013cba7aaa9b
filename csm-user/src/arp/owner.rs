//! When to announce: a burst at once, repeats that back off, and a refresh as long as this node is active. Pure.

use std::time::Duration;

/// After the first burst: the network may still be learning, and a frame may be lost.
pub const REPEATS: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
/// Keeps switches and routers taught while nothing else is sent; by default.
pub const REFRESH: Duration = Duration::from_secs(15);
/// Against a rival the burst starts anew, at most this often: two boxes must not drive each other.
pub const RIVAL_PAUSE: Duration = Duration::from_millis(100);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node became active, or is to announce anew.
    Announce,
    /// It is not active any more.
    Stop,
    /// Another box was seen using one of the addresses.
    Rival,
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// Send all announcements now.
    pub send: bool,
    /// Come back then with [`Event::Tick`]; `None`: nothing is due.
    pub next: Option<Duration>,
}

/// The schedule; times are durations since any fixed moment.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// Between two bursts once the sequence is through.
    refresh: Duration,
    /// `None` while not active.
    due: Option<Due>,
    /// Last burst that began the sequence.
    began: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Duration,
    /// How many of the sequence were sent.
    sent: usize,
}

impl Default for Owner {
    fn default() -> Self {
        Self { refresh: REFRESH, due: None, began: Duration::ZERO }
    }
}

impl Owner {
    /// Between two bursts once the sequence is through, from the last one on; [`Owner::on`] is to follow.
    pub fn set_refresh(&mut self, refresh: Duration) {
        if let Some(due) = self.due.as_mut().filter(|due| due.sent > REPEATS.len()) {
            due.at = due.at.saturating_sub(self.refresh) + refresh;
        }
        self.refresh = refresh;
    }

    /// `event` happened at `now`, which never goes back.
    pub fn on(&mut self, event: Event, now: Duration) -> Action {
        match (event, self.due) {
            (Event::Announce, _) => self.begin(now),
            (Event::Stop, _) => self.due = None,
            // A sequence that is about to begin is not put off again.
            (Event::Rival, Some(due)) if due.sent > 0 => self.begin(now.max(self.began + RIVAL_PAUSE)),
            (Event::Rival | Event::Tick, _) => {}
        }
        let Some(due) = self.due else { return Action { send: false, next: None } };
        if now < due.at {
            return Action { send: false, next: Some(due.at) };
        }
        // From now on, not from when it was due: after a long sleep there is one burst, not all that were missed.
        let next = now + REPEATS.get(due.sent).copied().unwrap_or(self.refresh);
        self.due = Some(Due { at: next, sent: due.sent + 1 });
        Action { send: true, next: Some(next) }
    }

    fn begin(&mut self, at: Duration) {
        self.began = at;
        self.due = Some(Due { at, sent: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Event, Owner, REFRESH};
    use std::time::Duration;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Times of the bursts up to `until`, following the schedule's own wishes.
    fn bursts(owner: &mut Owner, first: Event, from: Duration, until: Duration) -> Vec<u128> {
        let mut sent = Vec::new();
        let (mut event, mut now) = (first, from);
        while now <= until {
            let action = owner.on(event, now);
            if action.send {
                sent.push(now.as_millis());
            }
            let Some(next) = action.next else { break };
            assert!(next > now, "no spinning");
            (event, now) = (Event::Tick, next);
        }
        sent
    }

    #[test]
    fn the_refresh_may_come_more_often_or_less() {
        let mut owner = Owner::default();
        owner.set_refresh(ms(10_000));
        let sent = bursts(&mut owner, Event::Announce, ms(1000), ms(30_000));
        assert_eq!(sent, [1000, 1020, 1120, 1620, 3620, 13_620, 23_620]);
    }

    #[test]
    fn another_refresh_counts_from_the_last_burst_and_leaves_the_sequence_alone() {
        let begun = |until| {
            let mut owner = Owner::default();
            bursts(&mut owner, Event::Announce, ms(1000), until);
            owner
        };
        // The last one was at 18,620, and the next would be at 33,620.
        for (refresh, next) in [(60_000, 78_620), (10_000, 28_620), (3_000, 21_620)] {
            let mut owner = begun(ms(20_000));
            owner.set_refresh(ms(refresh));
            assert_eq!(owner.on(Event::Tick, ms(20_000)), Action { send: false, next: Some(ms(next)) });
        }
        let mut owner = begun(ms(20_000));
        owner.set_refresh(ms(1000));
        assert!(owner.on(Event::Tick, ms(20_000)).send, "overdue");
        let mut owner = begun(ms(1200));
        owner.set_refresh(ms(1));
        assert_eq!(owner.on(Event::Tick, ms(1200)).next, Some(ms(1620)));
        let mut silent = Owner::default();
        silent.set_refresh(ms(1));
        assert_eq!(silent.on(Event::Tick, ms(1200)), Action { send: false, next: None });
    }

    #[test]
    fn a_burst_then_back_off_then_refresh() {
        let mut owner = Owner::default();
        let sent = bursts(&mut owner, Event::Announce, ms(1000), ms(40_000));
        assert_eq!(sent, [1000, 1020, 1120, 1620, 3620, 18_620, 33_620]);
    }

    #[test]
    fn nothing_is_sent_before_and_after_being_active() {
        let mut owner = Owner::default();
        assert!(!owner.on(Event::Tick, ms(1)).send);
        assert!(!owner.on(Event::Rival, ms(2)).send);
        assert!(owner.on(Event::Announce, ms(3)).send);
        let stopped = owner.on(Event::Stop, ms(4));
        assert_eq!((stopped.send, stopped.next), (false, None));
        assert!(!owner.on(Event::Tick, ms(40_000)).send);
    }

    #[test]
    fn a_rival_starts_the_sequence_anew_but_cannot_cause_a_storm() {
        let mut owner = Owner::default();
        bursts(&mut owner, Event::Announce, ms(0), ms(5000));
        assert!(owner.on(Event::Rival, ms(6000)).send);
        let sent = (0..1000).filter(|&step| owner.on(Event::Rival, ms(6001 + step)).send).count();
        assert!((8..=12).contains(&sent), "{sent} in a second");
        let after = bursts(&mut owner, Event::Tick, ms(7200), ms(7200) + REFRESH);
        assert!(after.len() >= 3, "and it goes on with its back-off");
    }
}
