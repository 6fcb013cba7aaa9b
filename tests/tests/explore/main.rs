//! The election under a model checker: every state that two nodes can come to in bounded trouble (stateright).
//!
//! `CSM_EXPLORE=deep` checks two faults and more, for an hour, `CSM_EXPLORE=NAME` those of them whose name holds that; `CSM_EXPLORE_STATES=N` ends each search after N states.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use csm_tests::explore::world::{Action, Defect, Setting, World};
use csm_tests::sim::check::Violation;
use stateright::{Checker, Model, Property};

/// The model as stateright has it.
struct Pair(Setting);

/// A state carries its setting only to be hashed by it.
#[derive(Clone, Debug)]
struct Moment {
    setting: Setting,
    world: World,
}

impl Hash for Moment {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.setting.fingerprint(&self.world, hasher);
    }
}

/// As equal as the checker takes states to be.
impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        let print = |moment: &Self| {
            let mut hasher = DefaultHasher::new();
            moment.hash(&mut hasher);
            hasher.finish()
        };
        print(self) == print(other)
    }
}

impl Model for Pair {
    type State = Moment;
    type Action = Action;

    fn init_states(&self) -> Vec<Moment> {
        vec![Moment { setting: self.0, world: self.0.initial() }]
    }

    fn actions(&self, moment: &Moment, actions: &mut Vec<Action>) {
        self.0.actions(&moment.world, actions);
    }

    fn next_state(&self, moment: &Moment, action: Action) -> Option<Moment> {
        Some(Moment { setting: self.0, world: self.0.next(&moment.world, action) })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("every promise is kept", |_, moment: &Moment| {
            moment.world.ghost.violation.is_none()
        })]
    }
}

/// A pair with preempt on one node, and nothing else.
const CALM: Setting = Setting {
    name: "no trouble but the order of starting",
    priority: [10, 20],
    preempt: [false, true],
    resolution: 1,
    proven_only: false,
    witness: false,
    letters: false,
    partings: false,
    skew: 0,
    faults: 0,
    commands: false,
    glitches: 0,
    in_hold: false,
    restarts: 0,
    newer: [false; 2],
    upgrades: false,
    defect: None,
};

/// The daemon of the active node is restarted; no trouble comes before that.
const RESTART: Setting =
    Setting { name: "a restart", restarts: 1, in_hold: true, preempt: [false; 2], ..CALM };

/// What CI has time for.
const QUICK: [Setting; 8] = [
    CALM,
    RESTART,
    Setting { name: "a restart, a glitch in it", glitches: 1, ..RESTART },
    Setting { name: "a kill, a stop, or a direction cut", faults: 1, proven_only: true, ..CALM },
    Setting { name: "the same, one clock 18 % fast", faults: 1, skew: 18, preempt: [false; 2], ..CALM },
    Setting { name: "a message lost, doubled or held up", glitches: 1, preempt: [true; 2], ..CALM },
    Setting { name: "one host speaks a newer version", newer: [false, true], ..CALM },
    Setting { name: "a restart as a newer program", upgrades: true, ..RESTART },
];

/// With a third host. The hosts are parted, and then one of them is from the witness too, or the witness is restarted.
const WITNESS: Setting = Setting {
    name: "witness, parted, and its loss",
    witness: true,
    partings: true,
    faults: 2,
    preempt: [false; 2],
    ..CALM
};

/// What it has not.
const DEEP: [Setting; 17] = [
    WITNESS,
    Setting { name: "witness, any fault", faults: 1, partings: false, proven_only: true, ..WITNESS },
    Setting {
        name: "witness, its answers on their way",
        faults: 1,
        partings: false,
        letters: true,
        ..WITNESS
    },
    Setting { name: "witness, a fault, clock 18 % fast", faults: 1, partings: false, skew: 18, ..WITNESS },
    Setting { name: "a restart, a fault in it", faults: 1, ..RESTART },
    Setting { name: "a restart and a glitch", restarts: 1, glitches: 1, ..CALM },
    Setting { name: "a restart and a fault", restarts: 1, faults: 1, ..CALM },
    Setting { name: "two restarts and a fault, clock 18 % fast", restarts: 2, faults: 1, skew: 18, ..CALM },
    Setting { name: "one fault or command", faults: 1, commands: true, preempt: [true; 2], ..CALM },
    Setting { name: "two of kills, stops, cuts", faults: 2, ..CALM },
    Setting { name: "a fault and a glitch", faults: 1, glitches: 1, ..CALM },
    Setting { name: "two faults, one clock 18 % fast", faults: 2, skew: 18, preempt: [false; 2], ..CALM },
    Setting { name: "one fault in half ticks", faults: 1, resolution: 2, ..CALM },
    Setting { name: "both speak a newer version", newer: [true; 2], ..CALM },
    Setting { name: "one speaks a newer version, a fault", newer: [false, true], faults: 1, ..CALM },
    Setting { name: "one speaks a newer version, a glitch", newer: [true, false], glitches: 1, ..CALM },
    Setting { name: "a restart as a newer program, and a fault", upgrades: true, faults: 1, ..RESTART },
];

/// The promise that is broken first, if one is, after printing the way to it and the size of the space.
fn explore(setting: Setting) -> Option<Violation> {
    explore_some(setting, 0)
}

/// The same within the first `most` states; 0: in all.
fn explore_some(setting: Setting, most: usize) -> Option<Violation> {
    let begun = Instant::now();
    let most = std::env::var("CSM_EXPLORE_STATES").ok().map_or(most, |text| text.parse().expect("a number"));
    let checker = Pair(setting).checker().threads(2).target_state_count(most).spawn_bfs().join();
    println!(
        "{}: {} states, {} transitions, depth {}, {:.1} s{}",
        setting.name,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f32(),
        if most > 0 && checker.state_count() >= most { ", not all" } else { "" }
    );
    let path = checker.discoveries().into_values().next()?;
    let mut world = setting.initial();
    for action in path.into_actions() {
        world = setting.next(&world, action);
        let hosts = [0, 1].map(|index| {
            let host = &world.hosts[index];
            let term = host.election().map(csm_user::ft::election::Election::term);
            (host.state(), term, host.gate.state_at(setting.now(&world, index)))
        });
        println!("{:>4} {action:?}: {hosts:?}", world.ticks);
    }
    world.ghost.violation
}

#[test]
fn every_promise_is_kept_in_every_state() {
    let asked = std::env::var("CSM_EXPLORE").ok();
    let all = if asked.is_some() { DEEP.as_slice() } else { &QUICK };
    let is_asked = |setting: &&Setting| {
        asked.as_ref().is_none_or(|text| text == "deep" || setting.name.contains(text.as_str()))
    };
    let mut settings = all.iter().filter(is_asked).peekable();
    assert!(settings.peek().is_some(), "no setting is called {asked:?}");
    for &setting in settings {
        assert_eq!(explore(setting), None, "{}", setting.name);
    }
}

#[test]
fn a_lease_longer_than_the_failover_time_is_caught() {
    let setting = Setting { name: "long lease", faults: 1, defect: Some(Defect::LongLease), ..CALM };
    assert_eq!(explore(setting), Some(Violation::OverlapWithoutLoss));
}

#[test]
fn a_claim_that_does_not_wait_for_the_lease_is_caught() {
    // It claims after little more than a heartbeat, so one that is lost makes two active.
    let defect = Some(Defect::ClaimWithoutWaiting);
    let setting = Setting { name: "hasty claim", glitches: 1, resolution: 2, defect, ..CALM };
    assert_eq!(explore(setting), Some(Violation::TwoActiveWithPath));
}

#[test]
fn a_restart_that_relies_on_a_hold_nobody_granted_is_caught() {
    // The message that asks for it is lost.
    let defect = Some(Defect::UnheardHold);
    let setting = Setting { name: "unheard hold", restarts: 1, glitches: 1, defect, ..CALM };
    assert_eq!(explore(setting), Some(Violation::OpenedInHold));
}

#[test]
fn preemption_without_a_replica_is_caught() {
    let setting = Setting { name: "false replica", faults: 1, defect: Some(Defect::FalseReplica), ..CALM };
    assert_eq!(explore(setting), Some(Violation::RoleWithoutReplica));
}

#[test]
fn with_a_witness_two_gates_are_never_open() {
    // Twice what it takes to find the forgetful one; the whole space is for the deep exploration.
    assert_eq!(explore_some(WITNESS, 60_000), None);
}

#[test]
fn a_witness_that_forgets_at_its_restart_is_caught() {
    let defect = Some(Defect::ForgetfulWitness);
    let setting = Setting { name: "forgetful witness", defect, ..WITNESS };
    assert_eq!(explore(setting), Some(Violation::TwoActiveWithWitness));
}
