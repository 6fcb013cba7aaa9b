//! `reload` within the daemon: now or in some time, and back to `certified` if nobody says that it went well.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::apply::Wish;
use super::node::Node;
use super::restart::Restarting;
use super::saved::{Next, refused};
use crate::api::backend::{Backend as _, Fault};
use crate::api::reply::{CheckGrade, ReloadRequest, StateDirectory};
use crate::ft::State;
use crate::state::Directory;
use crate::state::image::Image;

/// What a reload is there to change, or what it does not touch: no reason to refuse it.
const NOT_CONCERNED: [&str; 3] = ["configuration", "software", "timers"];

/// Between two tries to take a start back.
const ROLLBACK_RETRY: Duration = Duration::from_secs(10);

/// What waits for its time.
#[derive(Debug, Default)]
pub struct Reloads(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Number of what was planned last: what was planned before it is void.
    number: u64,
    planned: Option<Instant>,
    rollback: Option<Instant>,
}

impl Reloads {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The running directory stays: nothing is taken back any more.
    pub(super) fn keep(&self) {
        self.lock().rollback = None;
    }

    /// Nothing waits any more; whether something did.
    pub(super) fn cancel(&self) -> bool {
        let mut waiting = self.lock();
        let (planned, rollback) = (waiting.planned.take(), waiting.rollback.take());
        planned.is_some() || rollback.is_some()
    }

    /// Seconds until a planned reload, and until a start is taken back.
    pub(super) fn left(&self) -> (Option<u64>, Option<u64>) {
        let waiting = self.lock();
        let left = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(Instant::now()).as_secs());
        (left(waiting.planned), left(waiting.rollback))
    }

    fn plan(&self, at: Instant) -> u64 {
        let mut waiting = self.lock();
        waiting.number += 1;
        waiting.planned = Some(at);
        waiting.number
    }

    /// Whether plan `number` still stands; it is carried out then.
    fn take(&self, number: u64) -> bool {
        let mut waiting = self.lock();
        waiting.number == number && waiting.planned.take().is_some()
    }

    fn overdue(&self) -> bool {
        self.lock().rollback.is_some_and(|at| at <= Instant::now())
    }
}

impl Node {
    /// `reload`: refused where it could not succeed, or where this box cannot be spared.
    pub(super) fn ask_reload(&self, request: ReloadRequest) -> Result<(), Fault> {
        let ReloadRequest { directory, in_s, rollback_s, force } = request;
        let from = directory.map(|directory| match directory {
            StateDirectory::Working => Directory::Working,
            StateDirectory::Certified => Directory::Certified,
        });
        let wanted =
            Restarting { from, rollback: rollback_s.map(|seconds| Duration::from_secs(seconds.into())) };
        let next = Some(Box::new(self.may_reload(wanted, force || in_s.is_some())?));
        match in_s {
            None => self.changes.wish(Wish::Reload { wanted, force, next }),
            Some(seconds) => {
                let at = Instant::now() + Duration::from_secs(seconds.into());
                let number = self.reloads.plan(at);
                self.changes.wish(Wish::ReloadAt { at, number, wanted, force });
            }
        }
        Ok(())
    }

    fn may_reload(&self, wanted: Restarting, force: bool) -> Result<Next, Fault> {
        if let Some(asked) = wanted.from
            && !matches!(self.copy(asked)?, Image::Whole { .. })
        {
            return Err(refused(
                &format!("`{asked}` holds no whole configuration"),
                "give `write memory` before, or `reload` alone",
            ));
        }
        if wanted.rollback.is_some() && wanted.from != Some(Directory::Working) {
            return Err(refused(
                "only `working` is taken back",
                "name it: `reload working rollback-timeout N`",
            ));
        }
        if wanted.rollback.is_some() && !matches!(self.copy(Directory::Certified)?, Image::Whole { .. }) {
            return Err(refused(
                "nothing is certified: there is nothing to go back to",
                "give `copy working certified` before something is changed",
            ));
        }
        let next = self.can_start(wanted.from).map_err(|failure| {
            refused(
                &format!("a start would fail, so csmd goes on as it is: {failure}"),
                "repair what is saved: `configure replace FILE`, then `write memory`",
            )
        })?;
        match self.needed() {
            Some(why) if !force => Err(refused(
                &format!("if the start failed clients would notice: {why}"),
                "see `show ft readiness`; `reload ... force` does it all the same",
            )),
            _ => Ok(next),
        }
    }

    /// Why the peer could not take over if this box did not come back; `None` if it could, or has not to.
    pub(super) fn needed(&self) -> Option<String> {
        let is_active = self.ft.as_ref().is_some_and(|ft| ft.status().state == State::Active);
        if !is_active {
            return None;
        }
        let ready = self.readiness().ok()?;
        let mut missing = ready.checks.into_iter().filter(|check| {
            check.grade == CheckGrade::Missing && !NOT_CONCERNED.contains(&check.about.as_str())
        });
        missing.next().map(|check| check.found)
    }

    /// The time of a planned reload has come: carries it out unless it was cancelled or another was planned.
    pub(super) fn reload_planned(&self, number: u64, wanted: Restarting, force: bool) {
        if !self.reloads.take(number) {
            return;
        }
        match self.may_reload(wanted, force) {
            Ok(next) => self.changes.wish(Wish::Reload { wanted, force, next: Some(Box::new(next)) }),
            Err(fault) => tracing::error!(%fault, "the reload that was planned is not carried out"),
        }
    }

    /// This start is taken back after that time, unless somebody says that it stays.
    pub(super) fn take_back_after(self: &Arc<Self>, after: Duration) {
        self.reloads.lock().rollback = Some(Instant::now() + after);
        tracing::warn!(
            seconds = after.as_secs(),
            "back to `certified` then, unless `copy working certified` or `reload cancel` is given"
        );
        let node = Arc::downgrade(self);
        self.runtime.spawn(take_back(after, ROLLBACK_RETRY, move || {
            let Some(node) = node.upgrade().filter(|node| node.reloads.overdue()) else { return false };
            tracing::warn!("nobody has said that this start stays: back to `certified`");
            let wanted = Restarting { from: Some(Directory::Certified), rollback: None };
            node.changes.wish_soon(&node.runtime, Wish::Reload { wanted, force: true, next: None });
            true
        }));
    }
}

/// Has a start taken back after that time, until it is done: another start may be looked at just then, or the disk be busy.
/// `wish` wishes for it, if it is due still.
async fn take_back(after: Duration, retry: Duration, mut wish: impl FnMut() -> bool) {
    tokio::time::sleep(after).await;
    while wish() {
        tokio::time::sleep(retry).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_plan_counts_until_it_is_cancelled() {
        let reloads = Reloads::default();
        let at = Instant::now() + Duration::from_secs(60);
        let (first, second) = (reloads.plan(at), reloads.plan(at));
        assert!(reloads.left().0.is_some_and(|left| left > 50));
        assert!(!reloads.take(first) && reloads.take(second) && !reloads.take(second));
        assert_eq!(reloads.left(), (None, None));
        let third = reloads.plan(at);
        assert!(reloads.cancel() && !reloads.take(third) && !reloads.cancel());
    }

    #[tokio::test]
    async fn a_start_is_wished_back_until_it_is() {
        let moment = Duration::from_millis(1);
        let mut wishes = 0;
        let wish = || {
            wishes += 1;
            // The first ones find another start being made.
            wishes < 4
        };
        take_back(moment, moment, wish).await;
        assert_eq!(wishes, 4);
    }

    #[test]
    fn a_start_is_taken_back_at_its_time_unless_it_is_kept() {
        let reloads = Reloads::default();
        reloads.lock().rollback = Some(Instant::now());
        assert!(reloads.overdue() && reloads.overdue(), "until it is done");
        reloads.lock().rollback = Some(Instant::now() + Duration::from_secs(60));
        assert!(!reloads.overdue());
        reloads.keep();
        assert_eq!(reloads.left(), (None, None));
    }
}
