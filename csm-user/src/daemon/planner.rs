//! Keeps the maps equal to what configuration and health call for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use csm_common::address::V6;

use crate::dataplane::expiry::Census;
use crate::dataplane::loads::{Farm, Rotation, farms, place_bases, places};
use crate::dataplane::maps::{LoadMaps, Maps};
use crate::dataplane::plan::{Assignments, Desired, HealthView, PlanError, RealKey, Released, plan};
use crate::dataplane::snapshot::{Directory, DirectoryCell};
use crate::dataplane::task::identities::Identities;
use crate::model::{Config, Family, Host};
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
    /// IPv6's; `None`: the node was started without.
    maps6: Option<Maps<V6>>,
    identities: Identities,
    inputs: Mutex<Inputs>,
    /// The configuration in force, for readers that must not wait for a plan that is carried out.
    config: RwLock<Arc<Config>>,
    directory: Arc<DirectoryCell>,
    /// Whether connections that this node does not know may be rebuilt.
    rebuild: bool,
    desired: RwLock<Arc<Desired>>,
    /// When it changed last what is replicated of what stands.
    rescoped: Mutex<Option<Instant>>,
    /// Reals that failed by how their clients' connections fared, with the time until they are tried again.
    benched: Mutex<Benched>,
}

type Benched = BTreeMap<RealKey, Option<Duration>>;

/// What plans are made from. Under one lock: a plan by an older configuration must never follow one by a newer.
struct Inputs {
    config: Arc<Config>,
    numbers: Assignments,
    /// Next-hop numbers of gateways and reals.
    hops: HashMap<Host, u32>,
    /// Neighbours that do not answer.
    silent: HashSet<Host>,
    /// As the last plan was given it.
    health: Health,
}

impl Planner {
    /// Nothing planned yet; numbers are as `identities` has them. Without `rebuild` the dataplane rebuilds no connection: a negative control.
    #[must_use]
    pub fn new(
        (maps, maps6): (Maps, Option<Maps<V6>>),
        identities: Identities,
        config: Config,
        hops: HashMap<Host, u32>,
        directory: Arc<DirectoryCell>,
        rebuild: bool,
    ) -> Self {
        let config = Arc::new(config);
        let inputs = Inputs {
            config: Arc::clone(&config),
            numbers: identities.assignments(),
            hops,
            silent: HashSet::new(),
            health: Health::default(),
        };
        Self {
            maps,
            maps6,
            identities,
            inputs: Mutex::new(inputs),
            config: RwLock::new(config),
            directory,
            rebuild,
            desired: RwLock::default(),
            rescoped: Mutex::default(),
            benched: Mutex::default(),
        }
    }

    /// Learns what drained when an earlier csmd ended, from the maps that it left: its connections are told of, counted and
    /// timed as before. And which farms were down by their `threshold`. To be called before the first plan.
    ///
    /// # Errors
    /// Of the maps.
    pub fn recall(&self) -> io::Result<()> {
        let mut inputs = self.inputs();
        let left = self.maps.read_back()?;
        let left6 = self.maps6.as_ref().map(Maps::read_back).transpose()?.unwrap_or_default();
        inputs.numbers.recall(&left);
        inputs.numbers.recall(&left6);
        self.directory.set(Directory::left(&left, &left6, &inputs.numbers));
        Ok(())
    }

    /// Brings the maps in line with the configuration in force and `health`; returns how many operations that took.
    ///
    /// # Errors
    /// See [`ReplanError`]; after a failed map operation the next call starts from what the kernel holds.
    pub fn replan(&self, health: &Health) -> Result<usize, ReplanError> {
        let mut inputs = self.inputs();
        inputs.health.clone_from(health);
        self.plan_again(&mut inputs)
    }

    fn plan_again(&self, inputs: &mut Inputs) -> Result<usize, ReplanError> {
        let view = inputs.view(&self.failed_inband());
        let Inputs { config, numbers, hops, .. } = inputs;
        let desired = plan(config, &view, hops, numbers)?;
        self.carry_out(desired, numbers)
    }

    /// These reals have failed by how their clients' connections fared, with the time until they are tried again: they take no new
    /// connections. All others are judged by their probes alone.
    ///
    /// # Errors
    /// See [`ReplanError`]; the next change of health tries again.
    pub fn bench(&self, failed: BTreeMap<RealKey, Option<Duration>>) -> Result<(), ReplanError> {
        let now = failed.clone();
        let before = std::mem::replace(&mut *self.failed_inband(), failed);
        let mut changed = false;
        for RealKey { farm, address, .. } in now.keys().filter(|key| !before.contains_key(*key)) {
            changed = true;
            tracing::warn!(%farm, real = %address, "real failed in-band: connections are not answered");
        }
        for RealKey { farm, address, .. } in before.keys().filter(|key| !now.contains_key(*key)) {
            changed = true;
            tracing::info!(%farm, real = %address, "real is tried again after it failed in-band");
        }
        if changed { self.plan_again(&mut self.inputs()).map(drop) } else { Ok(()) }
    }

    /// Whether `real` has failed by how its clients' connections fared, and the time until it is tried again.
    #[must_use]
    pub fn benched(&self, real: &RealKey) -> Option<Option<Duration>> {
        self.failed_inband().get(real).copied()
    }

    fn failed_inband(&self) -> MutexGuard<'_, Benched> {
        self.benched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These neighbours do not answer: reals behind them take no new connections from the next plan on.
    pub fn silence(&self, silent: HashSet<Host>) {
        self.inputs().silent = silent;
    }

    /// Whether `config` fits the maps, numbers that old connections still use included; changes nothing.
    ///
    /// # Errors
    /// What does not fit.
    pub fn fits(&self, config: &Config) -> Result<(), PlanError> {
        let (mut numbers, hops) = {
            let inputs = self.inputs();
            (inputs.numbers.clone(), inputs.hops.clone())
        };
        self.has_family(config)?;
        plan(config, &HealthView::default(), &hops, &mut numbers).map(drop)
    }

    /// Puts `config` in force, whose next hops have the numbers `hops`. Virtual servers and reals that it has in common
    /// with the one before keep their numbers, and so their connections.
    ///
    /// # Errors
    /// See [`ReplanError`]; the configuration before is in force again then.
    pub fn change(
        &self,
        config: &Arc<Config>,
        hops: HashMap<Host, u32>,
        health: &Health,
    ) -> Result<usize, ReplanError> {
        let mut inputs = self.inputs();
        let mut numbers = inputs.numbers.clone();
        self.has_family(config)?;
        inputs.health.clone_from(health);
        let desired = plan(config, &inputs.view(&self.failed_inband()), &hops, &mut numbers)?;
        // From here on an entry may have a new number, whatever becomes of the rest.
        inputs.numbers = numbers;
        let result = self.carry_out(desired, &inputs.numbers);
        if result.is_ok() {
            (inputs.config, inputs.hops) = (Arc::clone(config), hops);
            *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(config);
            return result;
        }
        if let Err(error) = self.plan_again(&mut inputs) {
            tracing::error!(%error, "the maps could not be brought back in line; the next change of health tries again");
        }
        result
    }

    fn carry_out(&self, mut desired: Desired, numbers: &Assignments) -> Result<usize, ReplanError> {
        if !self.rebuild {
            desired.contents.origins.clear();
            desired.contents6.origins.clear();
        }
        self.identities.write(numbers)?;
        // Before the maps: a replica that arrives meanwhile finds the new numbers, never old ones for new entries.
        let before = self.directory.get();
        let directory = Directory::of(&desired).keeping(&before, numbers);
        if directory.replicates_otherwise(&before) {
            *self.rescoped.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        self.directory.set(directory);
        let mut operations = self.maps.reconcile(&desired.contents)?;
        if let Some(maps6) = &self.maps6 {
            operations += maps6.reconcile(&desired.contents6)?;
        }
        *self.desired.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(desired);
        Ok(operations)
    }

    /// The tables of IPv6 are made at start, if the configuration uses it then.
    fn has_family(&self, config: &Config) -> Result<(), PlanError> {
        if self.maps6.is_none() && config.uses(Family::V6) { Err(PlanError::NoIpv6) } else { Ok(()) }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When it changed last what is replicated of what stands: comparisons of both nodes' tables that are older do not speak
    /// for what there is now.
    #[must_use]
    pub fn rescoped(&self) -> Option<Instant> {
        *self.rescoped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan in force.
    #[must_use]
    pub fn desired(&self) -> Arc<Desired> {
        Arc::clone(&self.desired.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A walk over the tables begins.
    pub fn walk_begins(&self, walk: u64) {
        self.inputs().numbers.walk_begins(walk);
    }

    /// The walk has ended: retired numbers that no entry uses any more are free again, and returned.
    #[must_use]
    pub fn walk_ended(&self, census: &Census) -> Released {
        let mut inputs = self.inputs();
        let numbers = &mut inputs.numbers;
        let released = numbers.walk_ended(census.walk, &census.vservers_in_use, &census.reals_in_use);
        if released != Released::default() {
            self.directory.set(Directory::clone(&self.directory.get()).known_to(numbers));
            if let Err(error) = self.identities.write(numbers) {
                tracing::warn!(%error, "released numbers could not be noted; the next plan tries again");
            }
            // Whoever gets the number next may be of the other family: what stands there must not be taken for it.
            let forgotten = self.maps.forget(&released);
            let forgotten =
                forgotten.and_then(|()| self.maps6.as_ref().map_or(Ok(()), |maps| maps.forget(&released)));
            if let Err(error) = forgotten {
                tracing::warn!(%error, "elements of released numbers could not be cleared");
            }
        }
        released
    }

    fn inputs(&self) -> MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the loads of reals and virtual servers true, walk by walk.
pub struct Loads {
    reals: LoadMaps,
    vservers: LoadMaps,
    planner: Arc<Planner>,
    started: Instant,
    state: Mutex<LoadState>,
}

#[derive(Default)]
struct LoadState {
    rotation: Rotation,
    /// What the program had counted when the walk began, of reals and of virtual servers.
    before: Counted,
}

/// By real, and by virtual server.
type Counted = (BTreeMap<u32, u64>, BTreeMap<u32, u64>);

impl Loads {
    /// For the reals and virtual servers of `planner`'s plans.
    #[must_use]
    pub fn new(reals: LoadMaps, vservers: LoadMaps, planner: Arc<Planner>) -> Self {
        Self { reals, vservers, planner, started: Instant::now(), state: Mutex::default() }
    }

    /// A walk over the tables begins.
    pub fn walk_begins(&self) {
        let (farms, places) = self.counted();
        match self.since(&farms, &places) {
            Ok(before) => self.state().before = before,
            Err(error) => tracing::warn!(%error, "the loads could not be read"),
        }
    }

    /// The walk has ended and found so many connections of each real, and of each virtual server.
    pub fn walk_ended(&self, of_reals: &BTreeMap<u32, u64>, of_vservers: &BTreeMap<u32, u64>) {
        let (farms, places) = self.counted();
        let written = self.since(&farms, &places).and_then(|after| {
            let LoadState { rotation, before } = &mut *self.state();
            known_since(&mut before.0, &after.0);
            known_since(&mut before.1, &after.1);
            let bases = rotation.bases(&farms, of_reals, (&before.0, &after.0), self.started.elapsed());
            self.reals.set_bases(&bases)?;
            self.vservers.set_bases(&place_bases(&places, of_vservers, (&before.1, &after.1)))
        });
        if let Err(error) = written {
            tracing::warn!(%error, "the loads could not be written");
        }
    }

    /// Whose connections count.
    fn counted(&self) -> (Vec<Farm>, BTreeMap<u32, BTreeSet<u32>>) {
        let desired = self.planner.desired();
        (farms(&self.planner.config(), &desired), places(&desired))
    }

    fn since(&self, farms: &[Farm], places: &BTreeMap<u32, BTreeSet<u32>>) -> io::Result<Counted> {
        let reals = farms.iter().flat_map(|farm| farm.reals.keys().copied());
        Ok((self.reals.since(reals)?, self.vservers.since(places.keys().copied())?))
    }

    fn state(&self) -> MutexGuard<'_, LoadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that has come meanwhile has no count from before.
fn known_since(before: &mut BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) {
    before.retain(|number, _| after.contains_key(number));
    for (number, count) in after {
        before.entry(*number).or_insert(*count);
    }
}

impl Inputs {
    fn view(&self, benched: &Benched) -> HealthView {
        let unhealthy = self.health.iter().filter(|(_, health)| **health != RealHealth::Operational);
        let probed = unhealthy.map(|(key, _)| RealKey {
            farm: key.farm.clone(),
            address: key.address,
            port: key.port,
        });
        HealthView { unhealthy: probed.chain(benched.keys().cloned()).collect(), silent: self.silent.clone() }
    }
}
