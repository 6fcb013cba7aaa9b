//! The election in simulation: thousands of seeds, each a pair of nodes with faults on a virtual clock.
//!
//! A failing seed is printed; `CSM_SIM_SEED=N` runs that one alone and prints what happens in it, `CSM_SIM_SEEDS=N`
//! sets their number, `CSM_SIM_FIRST=N` where they begin.

use std::thread;
use std::time::Instant;

use csm_tests::sim::check::Violation;
use csm_tests::sim::plan::{Defect, Plan};
use csm_tests::sim::world::{World, run};

const SEEDS: u64 = 10_000;
/// CI has two processors.
const THREADS: usize = 2;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// What some seeds came to.
#[derive(Default)]
struct Tally {
    openings: u64,
    overlaps: u64,
    forced: u64,
    rested: u64,
    witnessed: u64,
    failed: Vec<(u64, Violation, u64)>,
}

impl Tally {
    fn of(seeds: impl Iterator<Item = u64>) -> Self {
        seeds.fold(Self::default(), |mut tally, seed| {
            match run(seed, Defect::None, false) {
                Ok(outcome) => {
                    tally.openings += outcome.openings;
                    tally.overlaps += u64::from(outcome.overlap_ns > 0);
                    tally.forced += outcome.forced;
                    tally.rested += outcome.rested;
                    tally.witnessed += u64::from(outcome.witnessed);
                }
                Err((violation, at)) => tally.failed.push((seed, violation, at)),
            }
            tally
        })
    }

    fn and(mut self, other: Self) -> Self {
        self.failed.extend(other.failed);
        Self {
            openings: self.openings + other.openings,
            overlaps: self.overlaps + other.overlaps,
            forced: self.forced + other.forced,
            rested: self.rested + other.rested,
            witnessed: self.witnessed + other.witnessed,
            failed: self.failed,
        }
    }
}

#[test]
fn promises_hold_over_all_seeds() {
    if let Some(seed) = number("CSM_SIM_SEED") {
        let outcome = run(seed, Defect::None, true);
        println!("{outcome:?}");
        assert!(outcome.is_ok(), "seed {seed}: {outcome:?}");
        return;
    }
    let seeds = number("CSM_SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("CSM_SIM_FIRST").unwrap_or(0);
    let begun = Instant::now();
    let run_share = |share: usize| Tally::of((first..first + seeds).skip(share).step_by(THREADS));
    let tallies = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|share| scope.spawn(move || run_share(share))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    let Tally { openings, overlaps, forced, rested, witnessed, failed } =
        tallies.into_iter().fold(Tally::default(), Tally::and);
    println!(
        "{seeds} seeds from {first} in {:.1} s: {openings} takeovers, {forced} forced, {rested} restarts, {overlaps} runs with an overlap for want of a path, none of {witnessed} with a witness",
        begun.elapsed().as_secs_f32()
    );
    for (seed, violation, at) in &failed {
        println!("CSM_SIM_SEED={seed} {violation:?} at {} us", at / 1_000);
    }
    assert!(failed.is_empty(), "{} of {seeds} seeds failed, each is named above", failed.len());
    // The faults must have been there, or the test has shown nothing.
    assert!(openings > 2 * seeds && overlaps > 0 && forced > seeds / 20 && rested > seeds / 20);
    assert!(witnessed > seeds / 3);
}

/// Seeds of the first million that failed once, beyond those that are run every time. Of the first four the predecessor was told to leave, and
/// its successor was lost or could not forward before it was active: the predecessor relayed on, to nobody. Of the next three a node that
/// had claimed beside the active one, and given way, still counted as the one with the table. In the last three one fault follows
/// another while nobody is active. The next was stopped past its lease, and took an old request and the `left` behind it for news. Of the
/// last a predecessor gave the role a second time to one that held its replica for lost.
const FAILED: [u64; 12] = [
    433_518, 598_316, 637_152, 706_436, 115_750, 405_524, 579_302, 44_391, 286_830, 982_028, 773_403, 112_821,
];

#[test]
fn seeds_that_failed_once_hold() {
    let outcomes = FAILED.map(|seed| (seed, run(seed, Defect::None, false)));
    let broken: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).collect();
    assert!(broken.is_empty(), "replay with CSM_SIM_SEED=N: {broken:?}");
}

/// A seed in which the link is cut one way while the node that is not heard could forward and the other one cannot.
#[test]
fn a_candidate_whose_peer_neither_hears_it_nor_can_forward_is_excused_and_settles() {
    let outcome = run(1_054_944, Defect::None, false);
    assert!(outcome.is_ok(), "{outcome:?}");
}

/// Seeds of pairs with unequal timers.
const UNEQUAL: u64 = 400;

#[test]
fn promises_hold_with_timers_of_their_own_that_change_with_each_start() {
    let run = |seed: u64, trace| World::new(Plan::draw_unequal(seed), seed, trace).run();
    if let Some(seed) = number("CSM_SIM_UNEQUAL_SEED") {
        let outcome = run(seed, true);
        assert!(outcome.is_ok(), "seed {seed}: {outcome:?}");
        return;
    }
    let seeds = number("CSM_SIM_SEEDS").map_or(UNEQUAL, |seeds| seeds.div_ceil(4));
    let first = number("CSM_SIM_FIRST").unwrap_or(0);
    let differ = |plan: &Plan| plan.timers[0] != plan.timers[1];
    let (mut openings, mut unequal, mut failed) = (0, 0, Vec::new());
    for seed in first..first + seeds {
        unequal += u64::from(differ(&Plan::draw_unequal(seed)));
        match run(seed, false) {
            Ok(outcome) => openings += outcome.openings,
            Err((violation, at)) => failed.push((seed, violation, at)),
        }
    }
    println!("{seeds} seeds from {first}, {unequal} with unequal timers: {openings} takeovers");
    assert!(failed.is_empty(), "replay with CSM_SIM_UNEQUAL_SEED=N: {} failed: {failed:?}", failed.len());
    assert!(unequal > seeds / 2 && openings > 2 * seeds);
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for seed in 0..20 {
        assert_eq!(run(seed, Defect::None, false), run(seed, Defect::None, false));
    }
}

#[test]
fn two_that_start_at_once_end_with_one_active_by_rank_and_never_two() {
    for seed in 0..300 {
        let plan = Plan::draw_cold_start(seed);
        // Equal priorities go by node number; the second node's is the higher.
        let expected = usize::from(plan.priority[1] >= plan.priority[0]);
        let outcome = World::new(plan, seed, false).run().expect("no promise is broken");
        assert_eq!(
            (outcome.active, outcome.openings, outcome.overlap_ns),
            (Some(expected), 1, 0),
            "seed {seed}"
        );
    }
}

fn violations(defect: Defect) -> Vec<Violation> {
    (0..400).filter_map(|seed| run(seed, defect, false).err()).map(|(violation, _)| violation).collect()
}

#[test]
fn a_lease_that_never_ends_is_caught() {
    assert!(violations(Defect::EndlessLease).contains(&Violation::OpenedWithinLease));
}

#[test]
fn a_restart_that_does_not_wait_for_the_peers_word_is_caught() {
    let run = |defect| {
        let plans = (0..200).map(move |seed| (seed, Plan::draw_restart(seed, defect)));
        plans.filter_map(|(seed, plan)| World::new(plan, seed, false).run().err()).collect::<Vec<_>>()
    };
    assert_eq!(run(Defect::None), []);
    assert!(run(Defect::UnheardHold).iter().any(|&(broken, _)| broken == Violation::OpenedInHold));
}

#[test]
fn a_claim_without_waiting_is_caught() {
    assert!(violations(Defect::ClaimWithoutWaiting).contains(&Violation::TwoActiveWithPath));
}

#[test]
fn a_witness_that_forgets_at_its_restart_is_caught() {
    let broken = |seed| run(seed, Defect::ForgetfulWitness, false).err().map(|(violation, _)| violation);
    assert!((0..2_000).any(|seed| broken(seed) == Some(Violation::TwoActiveWithWitness)));
}

#[test]
fn a_witness_that_answers_nobody_is_caught() {
    let broken = |seed| run(seed, Defect::MuteWitness, false).err().map(|(violation, _)| violation);
    assert!((0..400).any(|seed| broken(seed) == Some(Violation::NoneActive)));
}
