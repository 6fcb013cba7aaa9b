//! All checks of a node: which is due, what each said, and the health that follows. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::health::{Health, Monitor, RealKey, State, Verdict};
use super::schedule::{Schedule, first_offset};
use super::target::{Target, TargetKey};

/// A check's state changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The check.
    pub target: Target,
    /// Its new state.
    pub state: State,
}

#[derive(Clone, Debug)]
struct Row {
    target: Target,
    monitor: Monitor,
    /// Number of the check under way or last run: the end of an older one (before a reload) means nothing.
    run: u64,
}

/// One check to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// What to check.
    pub target: Target,
    /// To be given back with its end.
    pub run: u64,
}

/// The board. Instants are durations since any fixed moment, the same for every call.
#[derive(Clone, Debug, Default)]
pub struct Board {
    rows: BTreeMap<TargetKey, Row>,
    schedule: Schedule<TargetKey>,
    runs: u64,
}

impl Board {
    /// Takes over a new list of targets at `now`. An unchanged target keeps its state and its place in the schedule, and
    /// one that changed only in its probe's times or its source keeps its state and is checked at once.
    pub fn replace(&mut self, targets: Vec<Target>, now: Duration) {
        let mut old = std::mem::take(&mut self.rows);
        let mut fresh = Vec::new();
        for target in targets {
            let key = target.key();
            let row = match old.remove(&key) {
                Some(row) if row.target == target => row,
                Some(row) if row.target.probe.kind == target.probe.kind => {
                    fresh.push((key.clone(), target.probe.interval));
                    Row { target, run: 0, ..row }
                }
                Some(_) | None => {
                    fresh.push((key.clone(), target.probe.interval));
                    Row { target, monitor: Monitor::default(), run: 0 }
                }
            };
            self.rows.insert(key, row);
        }
        for key in old.keys() {
            self.schedule.remove(key);
        }
        let count = u32::try_from(fresh.len()).unwrap_or(u32::MAX);
        for (index, (key, interval)) in (0..).zip(fresh) {
            self.schedule.set(&key, now + first_offset(index, count, interval));
        }
    }

    /// These reals were healthy a moment ago: their checks count as passed until one says otherwise.
    pub fn trust(&mut self, healthy: &BTreeSet<RealKey>) {
        for (_, row) in self.rows.iter_mut().filter(|(key, _)| healthy.contains(&key.real)) {
            row.monitor = Monitor::passed();
        }
    }

    /// When the next check is due; `None` if all are under way or there is none.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.schedule.next()
    }

    /// Takes one check that is due. It is not scheduled again before its [`Board::finished`].
    pub fn start(&mut self, now: Duration) -> Option<Start> {
        let row = self.rows.get_mut(&self.schedule.pop_due(now)?)?;
        self.runs += 1;
        row.run = self.runs;
        Some(Start { target: row.target.clone(), run: row.run })
    }

    /// The check `run` of `key` ended at `now`.
    pub fn finished(&mut self, key: &TargetKey, run: u64, verdict: Verdict, now: Duration) -> Option<Change> {
        let row = self.rows.get_mut(key).filter(|row| row.run == run)?;
        let changed = row.monitor.observe(verdict, &row.target.probe);
        self.schedule.set(key, now + row.monitor.pause(&row.target.probe));
        changed.then(|| Change { target: row.target.clone(), state: row.monitor.state() })
    }

    /// Health of all reals.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut health = Health::default();
        for (key, row) in &self.rows {
            health.add(&key.real, &key.probe, key.port, row.monitor.state());
        }
        health
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::{Name, Probe, ProbeKind, Question};
    use crate::probe::health::{FailReason, RealHealth};

    const S: Duration = Duration::from_secs(1);

    fn target(last: u8) -> Target {
        Target {
            real: RealKey {
                farm: Name::new("web").expect("a good name"),
                address: Ipv4Addr::new(10, 0, 0, last).into(),
                port: None,
            },
            port: Some(80),
            destination: Ipv4Addr::new(10, 0, 0, last).into(),
            probe: Probe {
                name: Name::new("p").expect("a good name"),
                kind: ProbeKind::Tcp,
                interval: 5 * S,
                retries: 1,
                failed: 30 * S,
                receive: S,
                open: S,
                recover: 1,
                port: None,
                address: None,
                question: Question::default(),
            },
            source: None,
            interface: None,
        }
    }

    fn board(targets: &[Target]) -> Board {
        let mut board = Board::default();
        board.replace(targets.to_vec(), Duration::ZERO);
        board
    }

    fn check(board: &mut Board, start_at: Duration, verdict: Verdict, end_at: Duration) -> Option<Change> {
        let start = board.start(start_at).expect("a check is due");
        board.finished(&start.target.key(), start.run, verdict, end_at)
    }

    #[test]
    fn the_interval_runs_from_the_end_of_a_check_and_is_longer_while_failed() {
        let mut board = board(&[target(1)]);
        assert!(check(&mut board, Duration::ZERO, Verdict::Pass, S).is_some());
        assert_eq!(board.next_due(), Some(6 * S));
        let change = check(&mut board, 6 * S, Verdict::Fail(FailReason::Refused), 8 * S).expect("a change");
        assert_eq!(change.state, State::Failed(FailReason::Refused));
        assert_eq!(board.next_due(), Some(38 * S));
    }

    #[test]
    fn a_check_under_way_is_not_started_again() {
        let mut board = board(&[target(1)]);
        assert!(board.start(Duration::ZERO).is_some());
        assert_eq!(board.start(1000 * S), None);
        assert_eq!(board.next_due(), None);
    }

    #[test]
    fn a_reload_keeps_what_did_not_change() {
        let mut board = board(&[target(1), target(2), target(3)]);
        while board.next_due() < Some(S) {
            check(&mut board, S, Verdict::Pass, S);
        }
        let mut slower = target(2);
        slower.probe.interval = 60 * S;
        board.replace(vec![target(1), slower.clone(), target(4)], 2 * S);
        let health: Vec<_> =
            board.health().iter().map(|(key, health)| (key.address.to_string(), health.clone())).collect();
        use RealHealth::{Operational, Testing};
        assert_eq!(
            health,
            [
                ("10.0.0.1".to_owned(), Operational),
                ("10.0.0.2".to_owned(), Operational),
                ("10.0.0.4".to_owned(), Testing)
            ]
        );
        assert_eq!(board.start(3 * S).expect("changed: at once").target, slower);
        assert_eq!(board.start(3 * S).expect("new: at once").target, target(4));
        assert_eq!(board.next_due(), Some(6 * S), "the unchanged one keeps its place");
    }

    #[test]
    fn the_end_of_a_check_begun_before_a_reload_means_nothing() {
        let mut board = board(&[target(1)]);
        let old = board.start(Duration::ZERO).expect("due");
        let mut moved = target(1);
        moved.source = Some(Ipv4Addr::LOCALHOST.into());
        board.replace(vec![moved], S);
        let refused = Verdict::Fail(FailReason::Refused);
        assert_eq!(board.finished(&old.target.key(), old.run, refused, S), None);
        assert_eq!(board.next_due(), Some(S));
        board.replace(Vec::new(), S);
        assert_eq!(board.finished(&old.target.key(), old.run, refused, S), None);
        assert_eq!(board.next_due(), None);
    }
}
