//! In-band health, `health retries N failed S` in a farm: what its reals do with their clients' connections. Pure.
//!
//! ```text
//!             N abnormal sessions, no normal one among them
//!  Serving -------------------------------------------------> Failed
//!     ^                       S seconds                          |
//!     +----------------------------------------------------------+
//! ```
//!
//! Abnormal is a SYN that its real has not answered until the half-open connection's time was over, or has answered with a reset;
//! normal is a connection that was proven. Both are known by the walks over the tables, one after the other, and between two of
//! them in no order: if any was normal, the count begins anew.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::RealKey;
use crate::model::{Config, RealAdmin, Serverfarm};

/// What a walk over the tables tells of a real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// Abnormal ones that have ended since the walk before.
    pub abnormal: u64,
    /// Connections that were proven since the counters began.
    pub proven: u64,
}

/// A real that is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Watched {
    /// Abnormal sessions in a row.
    row: u64,
    /// Normal ones that were known of at the last walk.
    proven: Option<u64>,
    /// Since when it has failed.
    failed: Option<Duration>,
}

/// The reals of farms with `health retries`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inband(BTreeMap<RealKey, Watched>);

impl Inband {
    /// A walk has ended at `now`, by a clock that only goes forward. `sessions` tells of each real that is asked about. Those that have
    /// failed, with the time until they are tried again; `None`: when they are taken out of service and put back.
    pub fn walked(
        &mut self,
        config: &Config,
        sessions: impl Fn(&RealKey) -> Sessions,
        now: Duration,
    ) -> BTreeMap<RealKey, Option<Duration>> {
        let mut watched = BTreeMap::new();
        let mut failed = BTreeMap::new();
        for (farm, health) in config.serverfarms.iter().filter_map(|farm| Some((farm, farm.health?))) {
            // Out of service a real is forgotten: put back, it is tried.
            for real in farm.reals.iter().filter(|real| real.admin != RealAdmin::OutOfService) {
                let key = key(farm, real);
                let before = self.0.get(&key).copied().unwrap_or_default();
                let after = before.after(sessions(&key), health.retries.into(), health.failed, now);
                if let Some(since) = after.failed {
                    let left =
                        (!health.failed.is_zero()).then(|| (since + health.failed).saturating_sub(now));
                    failed.insert(key.clone(), left);
                }
                watched.insert(key, after);
            }
        }
        self.0 = watched;
        failed
    }
}

/// A real as the plan names it.
#[must_use]
pub fn key(farm: &Serverfarm, real: &crate::model::Real) -> RealKey {
    RealKey { farm: farm.name.clone(), address: real.address, port: real.port }
}

impl Watched {
    fn after(self, sessions: Sessions, retries: u64, time: Duration, now: Duration) -> Self {
        let proven = Some(sessions.proven);
        if let Some(since) = self.failed {
            // What ends meanwhile was begun before.
            let over = !time.is_zero() && now >= since + time;
            return Self { row: 0, proven, failed: self.failed.filter(|_| !over) };
        }
        let any_normal = self.proven.is_some_and(|before| before != sessions.proven);
        let row = if any_normal { 0 } else { self.row.saturating_add(sessions.abnormal) };
        Self { row, proven, failed: (row >= retries).then_some(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::plan::tests::figure_7_1;
    use crate::model::InbandHealth;

    /// Figure 7-1's farm with `health retries 3 failed S`, and its first real.
    fn watched(failed: u64) -> (Config, RealKey) {
        let mut config = figure_7_1();
        let farm = &mut config.serverfarms[0];
        farm.health = Some(InbandHealth { retries: 3, failed: Duration::from_secs(failed) });
        let first = key(farm, &farm.reals[0]);
        (config, first)
    }

    /// Walks once a second with what each tells of the first real; whether it has failed after each.
    fn walks(config: &Config, of: &RealKey, told: &[(u64, u64)]) -> Vec<bool> {
        let mut inband = Inband::default();
        let walk = |(second, &(abnormal, proven)): (u64, &(u64, u64))| {
            let sessions = |key: &RealKey| match key == of {
                true => Sessions { abnormal, proven },
                false => Sessions::default(),
            };
            let failed = inband.walked(config, sessions, Duration::from_secs(second));
            assert!(failed.keys().all(|key| key == of), "{failed:?}");
            failed.contains_key(of)
        };
        (0..).zip(told).map(walk).collect()
    }

    #[test]
    fn so_many_in_a_row_fail_a_real_and_a_normal_one_begins_the_row_anew() {
        let (config, first) = watched(10);
        assert_eq!(walks(&config, &first, &[(1, 5), (1, 5), (1, 5)]), [false, false, true]);
        assert_eq!(
            walks(&config, &first, &[(0, 5), (2, 5), (2, 6), (2, 6), (1, 6)]),
            [false, false, false, false, true]
        );
        assert_eq!(walks(&config, &first, &[(9, 0)]), [true], "at once");
    }

    #[test]
    fn it_is_tried_after_its_time_with_a_row_of_nothing() {
        let (config, first) = watched(2);
        let told = [(3, 0), (7, 0), (0, 0), (2, 0), (1, 0)];
        assert_eq!(walks(&config, &first, &told), [true, true, false, false, true]);
    }

    #[test]
    fn without_a_time_only_the_operator_brings_it_back() {
        let (mut config, first) = watched(0);
        let mut inband = Inband::default();
        let bad = |_: &RealKey| Sessions { abnormal: 3, proven: 0 };
        let good = |_: &RealKey| Sessions::default();
        let failed = inband.walked(&config, bad, Duration::ZERO);
        assert_eq!(failed.get(&first), Some(&None));
        assert!(inband.walked(&config, good, Duration::from_secs(1_000_000)).contains_key(&first));
        config.serverfarms[0].reals[0].admin = RealAdmin::OutOfService;
        assert!(!inband.walked(&config, good, Duration::from_secs(1_000_001)).contains_key(&first));
        config.serverfarms[0].reals[0].admin = RealAdmin::InService;
        assert!(!inband.walked(&config, good, Duration::from_secs(1_000_002)).contains_key(&first));
    }
}
