//! What happens in a run, as drawn from its seed.

use std::time::Duration;

use csm_user::ft::election::Event;

use crate::sim::node::{Clock, Place};
use crate::sim::rng::Rng;

const MS: u64 = 1_000_000;

/// What is deliberately wrong with a run, to see the checkers fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Nothing.
    None,
    /// The lease never ends: [`lease_off`](csm_user::ft::Controls::lease_off).
    EndlessLease,
    /// The peer's lease is not waited for, and little else.
    ClaimWithoutWaiting,
    /// A restart relies on a hold that the peer has not granted: [`hold_unheard`](csm_user::ft::Controls::hold_unheard).
    UnheardHold,
    /// A witness that has started grants at once, though what it granted before may last.
    ForgetfulWitness,
    /// A witness that is there and answers nobody.
    MuteWitness,
}

/// What happens to the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The link from this node is cut.
    Cut(usize),
    /// And restored.
    Mend(usize),
    /// kill -9.
    Kill(usize),
    /// Power on, or restart.
    Start(usize),
    /// The daemon restarts while its dataplane goes on, and is back after so long, ns; 0: never.
    Restart(usize, u64),
    /// SIGSTOP for so long, ns.
    Stop(usize, u64),
    /// The node's thread is held up for so long, ns, in its next turn: after it has read its clock.
    HoldUp(usize, Place, u64),
    /// A command to its daemon.
    Command(usize, Event),
    /// Between this node and the witness all is lost.
    CutWitness(usize),
    /// And is not any more.
    MendWitness(usize),
    /// The witness ends.
    StopWitness,
    /// And starts.
    StartWitness,
}

/// Of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Heartbeat interval.
    pub heartbeat: Duration,
    /// Failover time.
    pub failover: Duration,
}

/// A run, as drawn from its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Heartbeat interval, the longest.
    pub heartbeat: Duration,
    /// Failover time, the longest.
    pub failover: Duration,
    /// Of each node, for its boots in turn.
    pub timers: [[Timers; 3]; 2],
    /// They are not all alike.
    pub unequal: bool,
    /// Of each node.
    pub priority: [u8; 2],
    /// Of each node.
    pub preempt: [bool; 2],
    /// With a configured key: a boot of the peer must prove that it is one.
    pub proven_only: bool,
    /// A third host is asked.
    pub witness: bool,
    /// Its clock.
    pub witness_clock: Clock,
    /// Of each node.
    pub clocks: [Clock; 2],
    /// Percent of messages lost.
    pub loss: u64,
    /// Percent sent twice.
    pub duplication: u64,
    /// Longest time on the link, ns; messages overtake one another.
    pub delay_max: u64,
    /// Longest time that a thread takes to run, ns.
    pub jitter_max: u64,
    /// What happens, and when, ns.
    pub faults: Vec<(u64, Fault)>,
    /// When the last fault is over and the link is good.
    pub calm: u64,
    /// The end.
    pub end: u64,
    /// What is wrong on purpose.
    pub defect: Defect,
}

impl Plan {
    /// The plan of `seed`.
    #[must_use]
    pub fn draw(seed: u64, defect: Defect) -> Self {
        let mut rng = Rng::new(seed);
        let (heartbeat, failover) =
            rng.pick(&[(10, 30), (50, 150), (50, 150), (100, 500), (1_000, 3_000), (20, 60)]);
        let priorities = [10, 10, 20, 30];
        // The guard covers a fifth of the lease: two clocks that are wrong by 4 % each are well within.
        let mut clock = || Clock {
            offset: rng.within(1..1_000_000 * MS),
            ppm: 40_000 - rng.within(0..80_000).cast_signed(),
        };
        let clocks = [clock(), clock()];
        let span = failover * MS;
        let timers =
            Timers { heartbeat: Duration::from_millis(heartbeat), failover: Duration::from_millis(failover) };
        let mut plan = Self {
            heartbeat: timers.heartbeat,
            failover: timers.failover,
            timers: [[timers; 3]; 2],
            unequal: false,
            priority: [rng.pick(&priorities), rng.pick(&priorities)],
            preempt: [rng.chance(50), rng.chance(50)],
            proven_only: false,
            witness: false,
            witness_clock: clocks[0],
            clocks,
            loss: rng.pick(&[0, 0, 2, 10, 25]),
            duplication: rng.pick(&[0, 0, 5]),
            delay_max: rng.pick(&[MS / 10, heartbeat * MS / 10, heartbeat * MS / 2]),
            jitter_max: rng.pick(&[MS / 20, MS / 2, heartbeat * MS / 10]),
            faults: vec![(0, Fault::Start(0))],
            calm: 0,
            end: 0,
            defect,
        };
        let second = if rng.chance(50) { 0 } else { rng.within(0..4 * span) };
        plan.faults.push((second, Fault::Start(1)));
        let mut time = second;
        for _ in 0..rng.within(0..7) {
            time += rng.within(span / 10..4 * span);
            plan.draw_fault(&mut rng, time, span);
        }
        plan.calm = plan.faults.iter().map(|&(time, _)| time).max().unwrap_or(0) + 6 * span;
        plan.faults.sort_by_key(|&(time, _)| time);
        plan.end = plan.calm + 12 * span;
        plan.proven_only = rng.chance(50);
        // Last of all, so that a seed without a witness is what it was before there were any.
        if rng.chance(50) {
            plan.draw_witness(&mut rng, span);
        }
        plan
    }

    /// A witness, and what happens to it and the ways to it; as often as not while the nodes are parted.
    fn draw_witness(&mut self, rng: &mut Rng, span: u64) {
        self.witness = true;
        self.witness_clock = Clock {
            offset: rng.within(1..1_000_000 * MS),
            ppm: 40_000 - rng.within(0..80_000).cast_signed(),
        };
        let last = self.calm - 6 * span;
        for _ in 0..rng.within(0..5) {
            let time = rng.within(0..last + span);
            let lasts = rng.pick(&[span / 4, span, 3 * span, 6 * span]) + rng.within(0..span);
            let node = if rng.chance(50) { 0 } else { 1 };
            let mut pair = |one, other| self.faults.extend([(time, one), (time + lasts, other)]);
            if rng.chance(50) {
                pair(Fault::Cut(0), Fault::Mend(0));
                pair(Fault::Cut(1), Fault::Mend(1));
            }
            match rng.within(0..4) {
                0 => pair(Fault::StopWitness, Fault::StartWitness),
                1 => {
                    self.faults
                        .extend([(time, Fault::StopWitness), (time + span / 100, Fault::StartWitness)]);
                }
                2 => {
                    pair(Fault::CutWitness(0), Fault::MendWitness(0));
                    pair(Fault::CutWitness(1), Fault::MendWitness(1));
                }
                _ => pair(Fault::CutWitness(node), Fault::MendWitness(node)),
            }
        }
        self.calm = self.faults.iter().map(|&(time, _)| time).max().unwrap_or(0) + 6 * span;
        self.faults.sort_by_key(|&(time, _)| time);
        self.end = self.calm + 12 * span;
    }

    /// The plan of `seed`, but that both nodes start at the same instant on a good link and nothing else happens.
    #[must_use]
    pub fn draw_cold_start(seed: u64) -> Self {
        let plan = Self::draw(seed, Defect::None);
        let faults = vec![(0, Fault::Start(0)), (0, Fault::Start(1))];
        let end = 12 * u64::try_from(plan.failover.as_nanos()).unwrap_or(0);
        Self { faults, calm: 0, end, witness: false, ..plan }
    }

    /// The plan of `seed`, but that both nodes start at once on a bad link, and that all that happens is a restart of the
    /// active node's daemon, which does not come back.
    #[must_use]
    pub fn draw_restart(seed: u64, defect: Defect) -> Self {
        let plan = Self::draw(seed, defect);
        let span = u64::try_from(plan.failover.as_nanos()).unwrap_or(0);
        let mut faults = vec![(0, Fault::Start(0)), (0, Fault::Start(1))];
        // Whichever of them is not active refuses.
        faults.extend([0, 1].map(|node| (4 * span, Fault::Restart(node, 0))));
        faults.extend([0, 1].map(|node| (12 * span, Fault::Start(node))));
        Self { faults, witness: false, loss: 25, calm: 14 * span, end: 26 * span, ..plan }
    }

    fn draw_fault(&mut self, rng: &mut Rng, time: u64, span: u64) {
        let node = if rng.chance(50) { 0 } else { 1 };
        let lasts = rng.pick(&[span / 4, span / 2, span, 3 * span, 6 * span]) + rng.within(0..span);
        let mut pair = |one, other| self.faults.extend([(time, one), (time + lasts, other)]);
        match rng.within(0..16) {
            14 | 15 => {
                let away = rng.pick(&[span / 8, span / 2, span, 3 * span]);
                self.faults.push((time, Fault::Restart(node, away)));
                // One that does not come back, or not in time, is started anew.
                self.faults.push((time + 4 * span, Fault::Start(node)));
            }
            0 => {
                pair(Fault::Cut(0), Fault::Mend(0));
                pair(Fault::Cut(1), Fault::Mend(1));
            }
            1 => pair(Fault::Cut(node), Fault::Mend(node)),
            2 | 3 => pair(Fault::Kill(node), Fault::Start(node)),
            4 | 5 => self.faults.push((time, Fault::Stop(node, lasts))),
            // Up to three leases: the dangerous ones end between the lease and the stale renewal's end.
            11..14 => {
                let place = rng.pick(&[Place::BeforeAll, Place::BeforeGate]);
                self.faults.push((time, Fault::HoldUp(node, place, rng.within(span / 8..3 * span))));
            }
            6 => pair(Fault::Command(node, Event::Leave), Fault::Start(node)),
            7 => pair(
                Fault::Command(node, Event::Forwardable(false)),
                Fault::Command(node, Event::Forwardable(true)),
            ),
            8 => pair(
                Fault::Command(node, Event::Eligible(false)),
                Fault::Command(node, Event::Eligible(true)),
            ),
            _ => self.faults.push((time, Fault::Command(node, Event::ForceStandby))),
        }
    }
}
