//! The maps follow health and neighbours beside the event loop: with thousands of virtual servers a plan takes longer than
//! the election waits for a sign of life.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Node;
use crate::daemon::conns::{self, Purges};
use crate::daemon::repeat::Repeat;
use crate::dataplane::plan;
use crate::model::{Host, Name};
use crate::probe::health::{Health, RealKey};

/// Plans that wait, or are carried out: one at a time, each by the latest news.
#[derive(Debug)]
pub(super) struct Replans {
    work: Repeat,
    purges: Purges,
    news: Mutex<News>,
    /// What the maps show at least.
    shown: Mutex<Arc<Health>>,
}

#[derive(Debug)]
struct News {
    /// As the maps show it.
    health: Arc<Health>,
    /// Neighbours that do not answer, where that has changed.
    silent: Option<HashSet<Host>>,
    /// Of these, those that answered before: connections by way of them may have to be reset.
    failed: HashSet<Host>,
}

impl Replans {
    /// The maps show `health`.
    pub(super) fn new(health: Arc<Health>) -> Self {
        let shown = Mutex::new(Arc::clone(&health));
        let news = News { health, silent: None, failed: HashSet::new() };
        Self { work: Repeat::default(), purges: Purges::default(), news: Mutex::new(news), shown }
    }

    /// The health that the maps show, or have just gone beyond.
    pub(super) fn shown(&self) -> Arc<Health> {
        Arc::clone(&self.shown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Neighbours that do not answer, and those of them that did: for the next plan.
    pub(super) fn silence(&self, silent: HashSet<Host>, failed: impl Iterator<Item = Host>) {
        let mut news = self.news();
        // One that answers again before it was planned without needs no reset.
        news.failed.retain(|host| silent.contains(host));
        news.failed.extend(failed);
        news.silent = Some(silent);
    }

    /// Has the maps follow the latest news, soon.
    pub(super) fn begin(self: &Arc<Self>, node: &Arc<Node>) {
        if !self.work.ask() {
            return;
        }
        let (replans, node) = (Arc::clone(self), Arc::clone(node));
        carry_out(move || {
            replans.follow(&node);
            while !replans.work.is_done() {
                replans.follow(&node);
            }
        });
    }

    fn follow(self: &Arc<Self>, node: &Arc<Node>) {
        let health = Arc::clone(&node.health.borrow());
        let (before, silent, hosts) = {
            let mut news = self.news();
            let before = std::mem::replace(&mut news.health, Arc::clone(&health));
            (before, news.silent.take(), std::mem::take(&mut news.failed))
        };
        if let Some(silent) = silent {
            node.planner.silence(silent);
        }
        match node.planner.replan(&health) {
            Ok(operations) => tracing::debug!(operations, "health changed, maps brought in line"),
            Err(error) => {
                tracing::error!(%error, "health changed, but the maps could not be brought in line");
            }
        }
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&health);
        // Only now: whoever is reset and comes again must not get the same real.
        let failed: Vec<_> = health.failed_since(&before).map(planned).collect();
        self.purge(node, &failed.iter().collect::<Vec<_>>());
        self.purge_behind(node, &hosts);
    }

    /// What failed while another was active, or failed with it, is this node's to reset now.
    pub(super) fn purge_all(self: &Arc<Self>, node: &Arc<Node>, silent: &HashSet<Host>) {
        let health = Arc::clone(&self.news().health);
        let failed: Vec<_> = health.failed_since(&Health::default()).map(planned).collect();
        self.purge(node, &failed.iter().collect::<Vec<_>>());
        self.purge_behind(node, silent);
    }

    /// Resets the connections of the reals that are, or are reached by way of, one of `hosts`, where their farm says so.
    fn purge_behind(self: &Arc<Self>, node: &Arc<Node>, hosts: &HashSet<Host>) {
        if hosts.is_empty() {
            return;
        }
        let all = node.neighbours.list().into_iter();
        let ways: HashSet<u32> =
            all.filter(|(host, ..)| hosts.contains(&host.neighbour())).map(|(_, number, _)| number).collect();
        let desired = node.desired();
        let behind = |number: &u32| desired.nexthop(*number).is_some_and(|hop| ways.contains(&hop));
        let failed = desired.reals.iter().filter(|(number, _)| behind(number));
        self.purge(node, &failed.map(|(_, known)| &known.key).collect::<Vec<_>>());
    }

    /// Resets the connections of those reals that have just `failed` and whose farm says so.
    fn purge(self: &Arc<Self>, node: &Arc<Node>, failed: &[&plan::RealKey]) {
        let config = node.config();
        let purges = |farm: &Name| config.serverfarm(farm).is_some_and(|farm| farm.failaction.is_some());
        let failed: HashSet<&plan::RealKey> = failed.iter().copied().collect();
        let meant = |known: &plan::RealKey| failed.contains(known) && purges(&known.farm);
        let desired = node.desired();
        let numbers: BTreeSet<u32> =
            desired.reals.iter().filter(|(_, known)| meant(&known.key)).map(|(number, _)| *number).collect();
        if numbers.is_empty() || !self.purges.add(numbers) {
            return;
        }
        let (replans, node) = (Arc::clone(self), Arc::clone(node));
        tokio::task::spawn_blocking(move || conns::purge(&node, &replans.purges));
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works beside the event loop. If that panics the process ends: its maps would never follow health again, and the peer does
/// better.
fn carry_out(work: impl FnOnce() + Send + 'static) {
    let work = tokio::task::spawn_blocking(work);
    tokio::spawn(async move {
        if work.await.is_err_and(|error| error.is_panic()) {
            tracing::error!("the maps cannot follow any more: ending");
            std::process::exit(1);
        }
    });
}

/// A real as the plan names it.
fn planned(real: &RealKey) -> plan::RealKey {
    plan::RealKey { farm: real.farm.clone(), address: real.address, port: real.port }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    /// Says to the same test, started anew, that it is the process that has to end.
    const VICTIM: &str = "CSM_TEST_PANICKING_PLAN";

    #[test]
    fn a_plan_that_panics_ends_the_process() {
        let name = "daemon::route::replans::tests::a_plan_that_panics_ends_the_process";
        if std::env::var_os(VICTIM).is_none() {
            let test = std::env::current_exe().expect("this test");
            let ended =
                Command::new(test).args(["--exact", name]).env(VICTIM, "1").output().expect("the test");
            assert_eq!(ended.status.code(), Some(1), "{}", String::from_utf8_lossy(&ended.stderr));
            return;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            super::carry_out(|| panic!("a plan"));
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
    }
}
