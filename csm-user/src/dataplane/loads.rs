//! The loads that `predictor leastconns`, `maxconns` and `max-conns` go by. Pure.
//!
//! The XDP program counts what begins and what both sides end, exactly and at once. It does not see everything: entries that
//! idle out or are evicted, replicas that come and go. So each walk over the tables counts anew, and what is written as a
//! real's base makes base and the program's count together the number that was found. On a standby the same, so that a
//! takeover knows the loads from its first packet on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use csm_common::service::{VSERVER_LEASTCONNS, of_weighted_slot, place_slot};

use super::family::Wire;
use super::plan::{Contents, Desired};
use crate::model::{Config, Name, Predictor};

/// A farm whose loads count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Farm {
    /// `slowstart`; zero: none.
    pub slowstart: Duration,
    /// All its reals, with their weight while they are in rotation.
    pub reals: BTreeMap<u32, Option<u32>>,
}

/// The farms of `leastconns`, those with limits, and those that serve in turn with one of them, in a plan and the configuration that it was made of.
#[must_use]
pub fn farms(config: &Config, desired: &Desired) -> Vec<Farm> {
    let weights: BTreeMap<u32, u32> =
        slots(&desired.contents).chain(slots(&desired.contents6)).map(of_weighted_slot).collect();
    let counted: HashSet<&Name> =
        config.serverfarms.iter().filter(|farm| farm.is_counted()).map(|farm| &farm.name).collect();
    // The program counts by virtual server: what it subtracts of one farm it does of its backup, too.
    let beside: HashSet<&Name> = config
        .vservers
        .iter()
        .flat_map(|vserver| config.farm_pairs_of(vserver))
        .filter(|pair| pair.iter().flatten().any(|name| counted.contains(name)))
        .flat_map(|pair| pair.into_iter().flatten())
        .collect();
    let mut reals: HashMap<&Name, BTreeMap<u32, Option<u32>>> = HashMap::new();
    for (number, known) in &desired.reals {
        reals.entry(&known.key.farm).or_default().insert(*number, weights.get(number).copied());
    }
    let counted = config.serverfarms.iter().filter_map(|farm| match farm.predictor {
        Predictor::LeastConns { slowstart_s } => Some((&farm.name, slowstart_s)),
        _ => (farm.is_limited() || beside.contains(&farm.name)).then_some((&farm.name, 0)),
    });
    counted
        .map(|(name, slowstart_s)| Farm {
            slowstart: Duration::from_secs(slowstart_s.into()),
            reals: reals.remove(name).unwrap_or_default(),
        })
        .collect()
}

/// The rings' slots of such virtual servers.
fn slots<A: Wire>(contents: &Contents<A>) -> impl Iterator<Item = u32> {
    let least = |number: &u32| {
        contents.vservers.get(number).is_some_and(|vserver| vserver.flags & VSERVER_LEASTCONNS != 0)
    };
    contents.rings.iter().filter(move |(number, _)| least(number)).flat_map(|(_, ring)| ring.iter().copied())
}

/// The elements of `PLACES`, virtual servers' and owners', each with the numbers of virtual servers and policies whose connections it
/// counts. Those without a limit, too, which the program does not count: one that is given a limit is to know what it has.
#[must_use]
pub fn places(desired: &Desired) -> BTreeMap<u32, BTreeSet<u32>> {
    let mut places: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (slot, number) in counted(&desired.contents).chain(counted(&desired.contents6)) {
        places.entry(slot).or_default().insert(number);
    }
    places
}

fn counted<A: Wire>(contents: &Contents<A>) -> impl Iterator<Item = (u32, u32)> {
    contents.vservers.iter().flat_map(|(&number, vserver)| {
        let own = place_slot(number, vserver.policy_of);
        [Some(own), vserver.owner.checked_sub(1)].into_iter().flatten().map(move |slot| (slot, number))
    })
}

/// The bases of `places` after a walk that found `counted` connections of each virtual server, as of [`Rotation::bases`].
#[must_use]
pub fn place_bases(
    places: &BTreeMap<u32, BTreeSet<u32>>,
    counted: &BTreeMap<u32, u64>,
    (before, after): (&BTreeMap<u32, u64>, &BTreeMap<u32, u64>),
) -> BTreeMap<u32, u64> {
    let found = |numbers: &BTreeSet<u32>| numbers.iter().filter_map(|number| counted.get(number)).sum();
    places.iter().map(|(&slot, numbers)| (slot, base(found(numbers), slot, (before, after)))).collect()
}

/// What makes `found` of the program's own count of `number`, which went from `before` to `after` meanwhile.
fn base(found: u64, number: u32, (before, after): (&BTreeMap<u32, u64>, &BTreeMap<u32, u64>)) -> u64 {
    let [before, after] = [before, after].map(|counts| counts.get(&number).copied().unwrap_or(0));
    // What changed in the midst of the walk was counted or not: half of it is the best guess.
    let change = after.wrapping_sub(before).cast_signed() / 2;
    found.wrapping_sub(before.wrapping_add_signed(change))
}

/// Since when reals have been in rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// `None`: since before they were watched.
    since: BTreeMap<u32, Option<Duration>>,
    watching: bool,
}

impl Rotation {
    /// The bases after a walk that found `counted` connections, while the program's own count went from one to the other,
    /// both in `counts`; `now` is any clock that only goes forward.
    ///
    /// With `slowstart` a real that has come into rotation `t` ago counts as if it had the rest, `1 - t / slowstart`, of what the
    /// others have for a weight as its own. So it never gets all new connections at once.
    pub fn bases(
        &mut self,
        farms: &[Farm],
        counted: &BTreeMap<u32, u64>,
        counts: (&BTreeMap<u32, u64>, &BTreeMap<u32, u64>),
        now: Duration,
    ) -> BTreeMap<u32, u64> {
        self.follow(farms, now);
        let mut bases = BTreeMap::new();
        for farm in farms {
            for (&real, weight) in &farm.reals {
                let found = counted.get(&real).copied().unwrap_or(0)
                    + self.handicap(farm, real, *weight, counted, now);
                bases.insert(real, base(found, real, counts));
            }
        }
        bases
    }

    fn follow(&mut self, farms: &[Farm], now: Duration) {
        let begin = self.watching.then_some(now);
        let rotating: BTreeMap<u32, Option<Duration>> = farms
            .iter()
            .flat_map(|farm| &farm.reals)
            .filter(|(_, weight)| weight.is_some())
            .map(|(real, _)| (*real, self.since.get(real).copied().unwrap_or(begin)))
            .collect();
        self.since = rotating;
        self.watching = true;
    }

    /// Connections that `real` counts as having in addition.
    fn handicap(
        &self,
        farm: &Farm,
        real: u32,
        weight: Option<u32>,
        counted: &BTreeMap<u32, u64>,
        now: Duration,
    ) -> u64 {
        if farm.slowstart.is_zero() {
            return 0;
        }
        // Out of rotation it has the whole of it, for the moment it comes back.
        let left = match self.since.get(&real) {
            None => farm.slowstart,
            Some(None) => return 0,
            Some(Some(since)) => farm.slowstart.saturating_sub(now.saturating_sub(*since)),
        };
        let others = farm.reals.iter().filter(|(number, weight)| **number != real && weight.is_some());
        let (connections, weights) = others.fold((0, 0), |(connections, weights), (number, weight)| {
            (
                connections + counted.get(number).copied().unwrap_or(0),
                weights + u64::from(weight.unwrap_or(0)),
            )
        });
        if weights == 0 {
            return 0;
        }
        let share = u128::from(connections) * u128::from(weight.unwrap_or(1)) * left.as_millis();
        let handicap = share / u128::from(weights) / farm.slowstart.as_millis();
        u64::try_from(handicap).unwrap_or(u64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use csm_common::service::load;

    use super::{Farm, Rotation, farms, place_bases, places};
    use crate::dataplane::plan::tests::{dual_stack, figure_7_1, hops, name};
    use crate::dataplane::plan::{Assignments, Desired, HealthView, plan};
    use crate::model::{Backup, Config, Owner, Serverfarm};

    fn farm(slowstart_s: u64, reals: &[(u32, Option<u32>)]) -> Vec<Farm> {
        vec![Farm { slowstart: Duration::from_secs(slowstart_s), reals: reals.iter().copied().collect() }]
    }

    fn counts<const N: usize>(counts: [(u32, u64); N]) -> BTreeMap<u32, u64> {
        counts.into()
    }

    #[test]
    fn a_farm_that_serves_in_turn_with_a_counted_one_is_counted_too() {
        let mut config = figure_7_1();
        let spare =
            Serverfarm { reals: config.serverfarms[0].reals.clone(), ..Serverfarm::new(name("SPARE")) };
        config.serverfarms.push(spare);
        let counted = |config: &Config| {
            let hops = hops(config);
            let desired = plan(config, &HealthView::default(), &hops, &mut Assignments::default());
            farms(config, &desired.expect("a plan")).iter().map(|farm| farm.reals.len()).collect::<Vec<_>>()
        };
        config.serverfarms[1].reals[0].limit.max = Some(5);
        assert_eq!(counted(&config), [3], "nobody uses it");
        config.vservers[0].backup = Some(Backup { farm: name("SPARE"), sticky: false });
        assert_eq!(counted(&config), [3, 3], "the program takes away of both what ends");
        config.serverfarms[1].reals[0].limit.max = None;
        assert_eq!(counted(&config), [0; 0]);
    }

    #[test]
    fn base_and_the_programs_count_are_what_was_found() {
        let farms = farm(0, &[(1, Some(8)), (2, Some(8))]);
        // Real 2: 7 more ended here than began, of replicas that the program never saw begin.
        let since = counts([(1, 5), (2, 7_u64.wrapping_neg())]);
        let found = counts([(1, 3)]);
        let bases = Rotation::default().bases(&farms, &found, (&since, &since), Duration::ZERO);
        assert_eq!(load(bases[&1], since[&1]), 3);
        assert_eq!(load(bases[&2], since[&2]), 0);
        assert_eq!(load(bases[&1], since[&1] + 4), 7, "what has come since");
        assert_eq!(load(bases[&2], since[&2].wrapping_sub(1)), 0, "never below none");
    }

    #[test]
    fn places_are_those_of_all_virtual_servers_of_either_family() {
        let config = dual_stack();
        let desired = plan(&config, &HealthView::default(), &hops(&config), &mut Assignments::default());
        let desired = desired.expect("a plan");
        let places = places(&desired);
        let numbers: Vec<u32> = desired.vservers.keys().copied().collect();
        assert_eq!(places.keys().copied().collect::<Vec<_>>(), numbers);
        assert!(numbers.iter().all(|number| places[number] == [*number].into()));
        assert!(!desired.contents.vservers.is_empty() && !desired.contents6.vservers.is_empty());
    }

    #[test]
    fn an_owner_has_the_connections_of_all_its_virtual_servers_and_a_number_that_stays() {
        let mut config = dual_stack();
        config.vservers.iter_mut().for_each(|vserver| vserver.owner = Some(name("US")));
        let hops = hops(&config);
        let mut numbers = Assignments::default();
        let mut planned =
            |config: &Config| plan(config, &HealthView::default(), &hops, &mut numbers).expect("a plan");
        config.owners.push(Owner::new(name("US")));
        let desired = planned(&config);
        let all: BTreeSet<u32> = desired.vservers.keys().copied().collect();
        let known = places(&desired);
        let slot = *desired.bare.first_key_value().expect("the owner's number").0;
        assert!(!all.contains(&slot) && !desired.contents.vservers.contains_key(&slot), "{known:?}");
        assert_eq!(
            (known.len(), &known[&slot]),
            (all.len() + 1, &all),
            "of both families, before it has a limit"
        );
        let limits = |desired: &Desired| -> BTreeSet<(u32, u32)> {
            let of = desired.contents.vservers.values().map(|entry| (entry.owner, entry.owner_max_conns));
            of.chain(desired.contents6.vservers.values().map(|entry| (entry.owner, entry.owner_max_conns)))
                .collect()
        };
        assert_eq!(limits(&desired), [(slot + 1, 0)].into());
        config.owners[0].max_conns = 9;
        let desired = planned(&config);
        assert_eq!((limits(&desired), places(&desired)), ([(slot + 1, 9)].into(), known));
        config.vservers.remove(0);
        let desired = planned(&config);
        let left: BTreeSet<u32> = desired.vservers.keys().copied().collect();
        assert!(left.len() < all.len() && places(&desired)[&slot] == left, "whoever is left");
        let kept: Vec<_> = numbers.vservers.iter().map(|(number, id)| (number, *id)).collect();
        let restored = plan(&config, &HealthView::default(), &hops, &mut Assignments::restored(kept, []));
        assert_eq!(places(&restored.expect("a plan")), places(&desired), "after a restart in place");
    }

    #[test]
    fn a_virtual_server_has_the_connections_of_all_its_policies() {
        let shared = [(4, [4, 5, 9].into())].into();
        let found = counts([(4, 1), (5, 10), (9, 100), (6, 1000)]);
        let (before, after) = (counts([(4, 20)]), counts([(4, 30)]));
        let bases = place_bases(&shared, &found, (&before, &after));
        assert_eq!(bases.keys().copied().collect::<Vec<_>>(), [4]);
        assert_eq!(load(bases[&4], 30), 116, "half of what changed meanwhile was met");
    }

    #[test]
    fn what_changes_during_a_walk_counts_half() {
        let farms = farm(0, &[(1, Some(8))]);
        let (before, after) = (counts([(1, 10)]), counts([(1, 20)]));
        let bases = Rotation::default().bases(&farms, &counts([(1, 100)]), (&before, &after), Duration::ZERO);
        assert_eq!(load(bases[&1], 20), 105);
    }

    #[test]
    fn a_real_that_comes_back_starts_slowly() {
        let second = Duration::from_secs;
        let (found, none) = (counts([(1, 100), (2, 100)]), BTreeMap::new());
        let mut rotation = Rotation::default();
        let mut bases = |reals: &[(u32, Option<u32>)], now| {
            rotation.bases(&farm(10, reals), &found, (&none, &none), now)[&3]
        };
        let all = [(1, Some(8)), (2, Some(8)), (3, Some(4))];
        assert_eq!(bases(&all, second(1)), 0, "in rotation from the start");
        assert_eq!(
            bases(&[(1, Some(8)), (2, Some(8)), (3, None)], second(2)),
            12,
            "out, of weight 1 as it were"
        );
        assert_eq!(bases(&all, second(3)), 50, "half the weight, half of what the others have");
        assert_eq!(bases(&all, second(8)), 25);
        assert_eq!(bases(&all, second(13)), 0);
        assert_eq!(bases(&all, second(99)), 0);
    }
}
