//! In-band health within the daemon: after each walk over the tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::planner::Planner;
use crate::dataplane::inband::{Inband, Sessions};
use crate::dataplane::maps::Counters;
use crate::dataplane::plan::RealKey;

/// Watches the reals of farms with `health retries`.
pub(super) struct InbandCheck {
    planner: Arc<Planner>,
    counters: Arc<Counters>,
    started: Instant,
    state: Mutex<Inband>,
}

impl InbandCheck {
    pub(super) fn new(planner: &Arc<Planner>, counters: &Arc<Counters>) -> Self {
        let (planner, counters) = (Arc::clone(planner), Arc::clone(counters));
        Self { planner, counters, started: Instant::now(), state: Mutex::default() }
    }

    /// A walk has ended that removed so many abnormal sessions of each real: takes those that have failed out of rotation, and puts
    /// back whose time is over.
    pub(super) fn walk_ended(&self, abnormal: &BTreeMap<u32, u64>) {
        let (config, desired) = (self.planner.config(), self.planner.desired());
        let numbers: BTreeMap<&RealKey, u32> =
            desired.reals.iter().map(|(number, known)| (&known.key, *number)).collect();
        let sessions = |key: &RealKey| {
            let Some(number) = numbers.get(key) else { return Sessions::default() };
            // Unread it counts as nothing new: a real is not taken away for that.
            let proven = self.counters.real(*number).map_or(0, |count| count.connections);
            Sessions { abnormal: abnormal.get(number).copied().unwrap_or(0), proven }
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = state.walked(&config, sessions, self.started.elapsed());
        if let Err(error) = self.planner.bench(failed) {
            tracing::error!(%error, "in-band health changed, but the maps could not be brought in line");
        }
    }
}
