//! Keeps the maps equal to what configuration and health call for.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use csm_common::net::AddressKey;

use crate::dataplane::expiry::Census;
use crate::dataplane::maps::Maps;
use crate::dataplane::plan::{Assignments, Desired, HealthView, PlanError, RealKey, Released, plan};
use crate::dataplane::snapshot::{Directory, DirectoryCell};
use crate::model::Config;
use crate::probe::health::{Health, RealHealth};

/// Why the maps could not be brought in line.
#[derive(Debug, thiserror::Error)]
pub enum ReplanError {
    /// The configuration does not fit the maps.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The kernel refused a change.
    #[error("the kernel's maps could not be written: {0}")]
    Maps(#[from] io::Error),
}

/// Plans, and carries plans out.
pub struct Planner {
    maps: Maps,
    numbers: Mutex<Assignments>,
    /// Next-hop numbers of gateways and reals.
    hops: HashMap<AddressKey, u32>,
    directory: Arc<DirectoryCell>,
    /// Whether connections that this node does not know may be rebuilt.
    rebuild: bool,
    desired: RwLock<Arc<Desired>>,
}

impl Planner {
    /// Nothing planned yet. Without `rebuild` the dataplane rebuilds no connection: a negative control.
    #[must_use]
    pub fn new(
        maps: Maps,
        hops: HashMap<AddressKey, u32>,
        directory: Arc<DirectoryCell>,
        rebuild: bool,
    ) -> Self {
        Self { maps, numbers: Mutex::default(), hops, directory, rebuild, desired: RwLock::default() }
    }

    /// Brings the maps in line with `config` and `health`; returns how many operations that took.
    ///
    /// # Errors
    /// See [`ReplanError`]; after a failed map operation the next call starts from what the kernel holds.
    pub fn replan(&self, config: &Config, health: &Health) -> Result<usize, ReplanError> {
        let mut numbers = self.numbers();
        let mut desired = plan(config, &view(health), &self.hops, &mut numbers)?;
        if !self.rebuild {
            desired.contents.origins.clear();
        }
        // Before the maps: a replica that arrives meanwhile finds the new numbers, never old ones for new entries.
        self.directory.set(Directory::of(&desired));
        let operations = self.maps.reconcile(&desired.contents)?;
        *self.desired.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(desired);
        Ok(operations)
    }

    /// The plan in force.
    #[must_use]
    pub fn desired(&self) -> Arc<Desired> {
        Arc::clone(&self.desired.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A walk over the tables begins.
    pub fn walk_begins(&self, walk: u64) {
        self.numbers().walk_begins(walk);
    }

    /// The walk has ended: retired numbers that no entry uses any more are free again, and returned.
    #[must_use]
    pub fn walk_ended(&self, census: &Census) -> Released {
        self.numbers().walk_ended(census.walk, &census.vservers_in_use, &census.reals_in_use)
    }

    fn numbers(&self) -> MutexGuard<'_, Assignments> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn view(health: &Health) -> HealthView {
    let unhealthy = health.iter().filter(|(_, health)| **health != RealHealth::Operational);
    HealthView {
        unhealthy: unhealthy
            .map(|(key, _)| RealKey { farm: key.farm.clone(), address: key.address, port: key.port })
            .collect(),
    }
}
