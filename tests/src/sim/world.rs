//! The simulated world: hosts, link, and the order of things.

mod table;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use csm_user::ft::election::{Event, Params};
use csm_user::ft::wire::{Kind, LENGTH, Message};
use csm_user::ft::witness::grants::Grants;
use csm_user::ft::witness::wire::Word;
use csm_user::ft::{Controls, Reason, State};
use csm_user::model::lease;

use crate::sim::check::{Checker, Violation};
use crate::sim::node::{Mail, Node};
use crate::sim::plan::{Defect, Fault, Plan, Timers};
use crate::sim::rng::Rng;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Times that a gate opened.
    pub openings: u64,
    /// Time with both gates open, ns.
    pub overlap_ns: u64,
    /// Longest time with an able node and no open gate, in ns.
    pub idle_worst_ns: u64,
    /// Forced switchovers that were carried out.
    pub forced: u64,
    /// Daemons that restarted while their dataplane went on.
    pub rested: u64,
    /// There was a witness.
    pub witnessed: bool,
    /// Index of the active node at the end.
    pub active: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Fault(usize),
    /// A daemon is back from its restart.
    ComeBack(usize),
    Wake(usize, u64),
    Arrive(usize, Mail),
    /// A request comes to the witness from this node.
    Asked(usize, Word),
    /// The replica of a node, in this boot, has caught up.
    Replica(usize, u64),
    /// A lease ends.
    Look,
}

/// A world under way.
pub struct World {
    plan: Plan,
    rng: Rng,
    nodes: [Node; 2],
    queue: BinaryHeap<Reverse<(u64, u64, Thing)>>,
    order: u64,
    /// Wakings of older generations are void.
    generation: [u64; 2],
    cut: [bool; 2],
    /// The third host, while it runs, and how often it was started.
    witness: Option<Grants>,
    witness_boots: u64,
    cut_witness: [bool; 2],
    able: [bool; 2],
    /// When that last changed.
    able_since: [u64; 2],
    /// A replica is under way.
    syncing: [bool; 2],
    /// Whose table is the truth: the node that opened last, and in which boot.
    keeper: Option<(usize, u64)>,
    /// How often that changed.
    generation_of_table: u64,
    /// The generation that each node's replica is complete for.
    replica_of: [Option<u64>; 2],
    /// The highest term that each node has known an active node in, in this boot.
    known_term: [u64; 2],
    /// When that last changed, both were active.
    split: bool,
    /// In which term the keeper of the table was active.
    keeper_term: u64,
    /// Was active when last looked at.
    was_active: [bool; 2],
    /// Was told to leave.
    leaving: [bool; 2],
    /// Is to be started once it has left.
    restart: [bool; 2],
    /// How long its daemon is away when its session comes to rest; 0: it does not come back.
    away: [u64; 2],
    failover_ns: u64,
    nonce: u64,
    boots: [u64; 2],
    /// How often its daemon came back from a restart.
    returns: [u64; 2],
    /// The peer's boot that each node has heard.
    boots_heard: [u64; 2],
    forced: u64,
    rested: u64,
    checker: Checker,
    trace: bool,
}

impl World {
    /// The world of `plan`; `trace` prints what happens.
    #[must_use]
    pub fn new(plan: Plan, seed: u64, trace: bool) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let slack = 2 * plan.jitter_max + plan.delay_max + nanos(plan.heartbeat) / 10;
        let nodes = [Node::new(0xa, plan.clocks[0]), Node::new(0xb, plan.clocks[1])];
        let mut world = Self {
            rng: Rng::new(!seed),
            nodes,
            queue: BinaryHeap::new(),
            order: 0,
            generation: [0; 2],
            cut: [false; 2],
            witness: None,
            witness_boots: 0,
            cut_witness: [false; 2],
            able: [false; 2],
            able_since: [0; 2],
            syncing: [false; 2],
            keeper: None,
            generation_of_table: 0,
            replica_of: [None; 2],
            was_active: [false; 2],
            split: false,
            keeper_term: 0,
            known_term: [0; 2],
            leaving: [false; 2],
            restart: [false; 2],
            away: [0; 2],
            failover_ns: nanos(plan.failover),
            nonce: 1,
            boots: [0; 2],
            returns: [0; 2],
            boots_heard: [0; 2],
            forced: 0,
            rested: 0,
            checker: Checker::new(&plan, slack),
            trace,
            plan,
        };
        if trace {
            println!("{:?}", Plan { faults: Vec::new(), ..world.plan.clone() });
        }
        if world.plan.witness {
            world.start_witness(0);
        }
        for index in 0..world.plan.faults.len() {
            world.push(world.plan.faults[index].0, Thing::Fault(index));
        }
        world
    }

    /// Lets it run to its end.
    ///
    /// # Errors
    /// With the first broken promise, and when, ns.
    pub fn run(mut self) -> Result<Outcome, (Violation, u64)> {
        while let Some(Reverse((time, _, thing))) = self.queue.pop() {
            // A planned move that begins just before the end may be finished, and who leaves may carry its strays to the last.
            let is_over = time > self.plan.end && self.settled().is_some() && self.leaving == [false; 2];
            if is_over || time > self.plan.end + 4 * self.failover_ns {
                break;
            }
            // First as it was until now, then as it becomes.
            self.look(time)?;
            self.happen(thing, time);
            self.look(time)?;
        }
        let end = self.plan.end;
        let active = Some(self.settled().ok_or((Violation::NotSettled, end))?);
        if self.leaving != [false; 2] {
            return Err((Violation::NotGone, end));
        }
        Ok(Outcome {
            openings: self.checker.openings,
            overlap_ns: self.checker.overlap_total,
            idle_worst_ns: self.checker.idle_worst,
            forced: self.forced,
            rested: self.rested,
            witnessed: self.plan.witness,
            active,
        })
    }

    /// The active node, if the other one is its standby.
    fn settled(&self) -> Option<usize> {
        match [self.nodes[0].state()?, self.nodes[1].state()?] {
            // A predecessor relays for ten seconds, however short the failover time.
            [State::Active, State::Standby | State::RelayOut] => Some(0),
            [State::Standby | State::RelayOut, State::Active] => Some(1),
            _ => None,
        }
    }

    fn look(&mut self, time: u64) -> Result<(), (Violation, u64)> {
        for index in 0..2 {
            self.look_at_claim(index, time).map_err(|violation| (violation, time))?;
        }
        let able = [0, 1].map(|index| {
            let node = &self.nodes[index];
            self.able[index] && node.session.is_some() && node.stopped_until.is_none()
        });
        if !self.is_served(time) || self.is_unanswered() {
            self.checker.excuse(time);
        }
        self.checker.look(&self.nodes, able, time).map_err(|violation| (violation, time))
    }

    fn push(&mut self, time: u64, thing: Thing) {
        self.order += 1;
        self.queue.push(Reverse((time, self.order, thing)));
    }

    fn happen(&mut self, thing: Thing, time: u64) {
        match thing {
            Thing::Fault(index) => self.strike(self.plan.faults[index].1, time),
            Thing::ComeBack(index) => {
                if self.nodes[index].resting.is_some() {
                    self.note(time, index, "comes back");
                    self.returns[index] += 1;
                    let timers = self.timers(index);
                    self.nodes[index].come_back(timers, time);
                    if self.leaving[index] {
                        // Told to end while it could do nothing but go on: the daemon remembers that.
                        self.nodes[index].command(Event::Leave, time);
                    }
                    self.follow(index, time);
                }
            }
            Thing::Wake(index, generation) if generation == self.generation[index] => {
                if self.nodes[index].stopped_until.is_some() {
                    self.note(time, index, "resumes");
                    for (datagram, read_at) in self.nodes[index].resume(time) {
                        self.took(index, &datagram, read_at);
                    }
                } else {
                    self.nodes[index].wake(time);
                }
                self.follow(index, time);
            }
            Thing::Asked(from, word) => self.asked(from, &word, time),
            Thing::Arrive(index, datagram) => {
                if self.nodes[index].deliver(&datagram, time) {
                    self.took(index, &datagram, time);
                }
                self.follow(index, time);
            }
            Thing::Replica(index, boot) if boot == self.boots[index] => {
                self.syncing[index] = false;
                if !self.nodes[index].has_source() {
                    return;
                }
                self.unite(1 - index);
                self.replica_of[index] = Some(self.generation_of_table);
                self.note(time, index, &format!("holds table {}", self.generation_of_table));
                self.nodes[index].command(Event::Replica { complete: true, lag_ms: 0 }, time);
                self.follow(index, time);
            }
            Thing::Wake(..) | Thing::Replica(..) | Thing::Look => {}
        }
    }

    fn took(&mut self, index: usize, mail: &Mail, time: u64) {
        if let Mail::Peer(datagram) = mail
            && let Ok(message) = Message::decode(datagram)
        {
            self.checker.taken(index, &message, time);
            if message.state == State::Active {
                self.known_term[index] = self.known_term[index].max(message.term);
            }
        }
    }

    /// A node has acted: its messages go out, its next waking and the end of its lease are noted.
    fn follow(&mut self, index: usize, time: u64) {
        if std::mem::take(&mut self.nodes[index].outbox.announced_shut) > 0 {
            self.checker.announced_shut();
        }
        let node = &mut self.nodes[index];
        let sent = std::mem::take(&mut node.outbox.sent);
        let asked = std::mem::take(&mut node.outbox.asked);
        let forced = std::mem::take(&mut node.outbox.forced);
        if std::mem::take(&mut node.outbox.peers) > 0 && self.boots_heard[index] != self.boots[1 - index] {
            // A replica is that of one boot's table.
            self.boots_heard[index] = self.boots[1 - index];
            self.replica_of[index] = None;
            node.command(Event::Replica { complete: false, lag_ms: 0 }, time);
        }
        let waits = |own: &Message| !own.complete;
        let own = node.election().filter(|own| own.reason() == Reason::NoWitness && own.peer().is_none());
        if own.map(|machine| machine.message(Kind::Heartbeat)).as_ref().is_some_and(waits) {
            self.replica_of[index] = None;
        }
        self.forced += forced.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        for datagram in sent {
            if self.trace
                && let Ok(message) = Message::decode(&datagram)
            {
                let Message { kind, state, term, sequence, .. } = message;
                self.note(time, index, &format!("sends {kind:?} {sequence} {state} term {term}"));
            }
            self.transmit(index, datagram, time);
        }
        for word in asked {
            self.ask(index, word, time);
        }
        if self.nodes[index].resting.is_some() && self.away[index] > 0 {
            self.rested += 1;
            let back = time + std::mem::take(&mut self.away[index]);
            self.push(back, Thing::ComeBack(index));
        }
        self.generation[index] += 1;
        if let Some(wake) = self.nodes[index].next_wake() {
            let late = self.rng.within(0..self.plan.jitter_max + 1);
            self.push(wake.max(time) + late, Thing::Wake(index, self.generation[index]));
        }
        if self.nodes[index].session.is_none() && self.restart[index] {
            self.start(index, time);
            return;
        }
        if self.nodes[index].lacks_replica() && !self.syncing[index] {
            self.syncing[index] = true;
            let synced = time + self.rng.within(1..self.failover_ns * 2);
            self.push(synced, Thing::Replica(index, self.boots[index]));
        }
        let node = &self.nodes[index];
        let lease_end = node.clock.when(node.gate.deadline_ns());
        if lease_end > time && lease_end <= self.plan.end {
            self.push(lease_end, Thing::Look);
        }
    }

    fn transmit(&mut self, from: usize, datagram: [u8; LENGTH], time: u64) {
        let calm = time >= self.plan.calm;
        let (loss, duplication) = if calm { (0, 0) } else { (self.plan.loss, self.plan.duplication) };
        let copies = if self.rng.chance(duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.rng.within(1_000..self.plan.delay_max + 1_001);
            if self.cut[from] || self.rng.chance(loss) {
                self.checker.lost();
                if self.trace {
                    self.note(time, from, if self.cut[from] { "loses it, cut" } else { "loses it" });
                }
            } else {
                self.push(time + delay, Thing::Arrive(1 - from, Mail::Peer(self.spoil(datagram))));
            }
        }
    }

    /// A request is on its way to the witness.
    fn ask(&mut self, from: usize, word: Word, time: u64) {
        if self.trace {
            self.note(time, from, &format!("asks {:?} {} holds {}", word.kind, word.number, word.holds));
        }
        if let Some(delay) = self.way_to_witness(from, time) {
            self.push(time + delay, Thing::Asked(from, word));
        }
    }

    /// A request has come to the witness.
    fn asked(&mut self, from: usize, word: &Word, time: u64) {
        let now = self.plan.witness_clock.local(time);
        let Some((Some(answer), _)) = self.witness.as_mut().map(|witness| witness.answer(word, now)) else {
            return;
        };
        if self.plan.defect == Defect::MuteWitness {
            return;
        }
        if self.trace {
            self.note(time, from, &format!("is answered {:?} {}", answer.kind, answer.number));
        }
        if let Some(delay) = self.way_to_witness(from, time) {
            self.push(time + delay, Thing::Arrive(from, Mail::Witness(answer)));
        }
    }

    /// How long it takes between a node and the witness, if it is not lost.
    fn way_to_witness(&mut self, node: usize, time: u64) -> Option<u64> {
        let delay = self.rng.within(1_000..self.plan.delay_max + 1_001);
        let loss = if time >= self.plan.calm { 0 } else { self.plan.loss };
        let is_lost = self.rng.chance(loss) || self.cut_witness[node];
        if is_lost && self.trace {
            self.note(time, node, "loses that");
        }
        (!is_lost).then_some(delay)
    }

    fn start_witness(&mut self, time: u64) {
        self.witness_boots += 1;
        let now = self.plan.witness_clock.local(time);
        let Plan { heartbeat, failover, defect, .. } = self.plan;
        let longest = lease(heartbeat, failover).map_or(failover, |lease| lease.length);
        let (longest, since) = match defect {
            Defect::ForgetfulWitness => (Duration::ZERO, 0),
            _ => (longest, now),
        };
        self.witness = Some(Grants::new(self.witness_boots, longest, since));
    }

    /// Two of the three that agree on the role may well be there.
    fn is_served(&self, time: u64) -> bool {
        let now = self.plan.witness_clock.local(time);
        let settled = self.witness.as_ref().is_some_and(|witness| witness.outlook(now).1 == 0);
        let all = settled && self.cut_witness == [false; 2];
        // A stopped node is no more there than a dead one: the other one has the witness, or nobody.
        let there = [0, 1].map(|index: usize| {
            let node = &self.nodes[index];
            node.session.is_some() && node.stopped_until.is_none()
        });
        let both = self.cut == [false; 2] && there == [true; 2];
        let one =
            settled && (0..2).any(|index| there[index] && !there[1 - index] && !self.cut_witness[index]);
        !self.plan.witness || all || both || one
    }

    /// A node hears its peer, which cannot forward and does not hear it: a candidate without an answer, as docs/ft-protocol.md says
    /// under "Known".
    fn is_unanswered(&self) -> bool {
        (0..2).any(|index: usize| {
            let (other, peer) = (1 - index, &self.nodes[1 - index]);
            let is_deaf = self.cut[index] && !self.cut[other];
            is_deaf && !self.able[other] && peer.session.is_some() && peer.stopped_until.is_none()
        })
    }

    fn spoil(&self, datagram: [u8; LENGTH]) -> [u8; LENGTH] {
        match (self.plan.defect, Message::decode(&datagram)) {
            (Defect::ClaimWithoutWaiting, Ok(message)) => {
                Message { lease: Duration::from_micros(1), ..message }.encode()
            }
            _ => datagram,
        }
    }

    fn strike(&mut self, fault: Fault, time: u64) {
        let name = format!("{fault:?}");
        self.note_way(fault, &name, time);
        if matches!(fault, Fault::Kill(_) | Fault::Stop(..) | Fault::HoldUp(..) | Fault::Cut(_)) {
            self.checker.struck(time);
        }
        match fault {
            Fault::CutWitness(node) => self.cut_witness[node] = true,
            Fault::MendWitness(node) => self.cut_witness[node] = false,
            Fault::StopWitness => self.witness = None,
            Fault::StartWitness => self.start_witness(time),
            Fault::Cut(from) => self.cut[from] = true,
            Fault::Mend(from) => self.cut[from] = false,
            Fault::Kill(index) => {
                self.note(time, index, &name);
                self.nodes[index].kill();
                self.boots[index] += 1;
                self.follow(index, time);
            }
            Fault::Start(index) => {
                self.note(time, index, &name);
                self.start(index, time);
            }
            Fault::Restart(index, away) => {
                self.note(time, index, &name);
                self.nodes[index].command(Event::Hold, time);
                self.away[index] = away;
                self.follow(index, time);
            }
            Fault::Stop(index, lasts) => {
                self.note(time, index, &name);
                let node = &mut self.nodes[index];
                if node.session.is_some() && node.stopped_until.is_none() {
                    node.stopped_until = Some(time + lasts);
                    self.follow(index, time);
                }
            }
            Fault::HoldUp(index, place, lasts) => {
                self.note(time, index, &name);
                self.nodes[index].hold_up = Some((place, lasts));
            }
            Fault::Command(index, event) => {
                self.note(time, index, &name);
                match event {
                    Event::Forwardable(able) => {
                        self.able[index] = able;
                        self.able_since[index] = time;
                    }
                    // While the daemon restarts there is nobody to be told.
                    Event::Leave if self.nodes[index].resting.is_some() => {}
                    Event::Leave => self.leaving[index] = true,
                    _ => {}
                }
                self.nodes[index].command(event, time);
                self.follow(index, time);
            }
        }
    }

    /// Those of the boot of a node, or of the daemon that came back last.
    fn timers(&self, index: usize) -> Timers {
        let turn = self.boots[index] + self.returns[index];
        let [first, second, third] = self.plan.timers[index];
        [first, second, third][usize::try_from(turn % 3).unwrap_or(0)]
    }

    fn start(&mut self, index: usize, time: u64) {
        if self.nodes[index].session.is_some() {
            // The service manager starts a daemon anew once the old one is gone.
            self.restart[index] = self.leaving[index];
            return;
        }
        (self.restart[index], self.leaving[index]) = (false, false);
        self.nonce += 1;
        self.boots[index] += 1;
        self.known_term[index] = 0;
        self.able[index] = true;
        let Plan { priority, preempt, defect, .. } = self.plan;
        let Timers { heartbeat, failover } = self.timers(index);
        let Ok(lease) = lease(heartbeat, failover) else { unreachable!("plans have timers with a lease") };
        let own_failover = match defect {
            Defect::ClaimWithoutWaiting => heartbeat + heartbeat / 8,
            Defect::None
            | Defect::EndlessLease
            | Defect::UnheardHold
            | Defect::ForgetfulWitness
            | Defect::MuteWitness => failover,
        };
        let params = Params {
            group: 1,
            node: self.nodes[index].id,
            nonce: self.nonce,
            priority: priority[index],
            preempt: preempt[index],
            heartbeat,
            failover: own_failover,
            lease: lease.length.min(own_failover - Duration::from_micros(1)),
            hold: 2 * failover,
            proven_only: self.plan.proven_only,
            witness: self.plan.witness,
            damping: failover,
            mac: [2, 0, 0, 0, 0, 1],
            config_checksum: 1,
            software_checksum: 1,
        };
        let controls = Controls {
            lease_off: defect == Defect::EndlessLease,
            hold_unheard: defect == Defect::UnheardHold,
            // Of some pairs one node is a version behind.
            old_wire: self.nonce % 4 == 1,
            ..Controls::default()
        };
        self.nodes[index].start(params, controls, time);
        self.syncing[index] = false;
        self.follow(index, time);
    }

    /// What happens to the ways between the hosts, and to the witness.
    fn note_way(&self, fault: Fault, name: &str, time: u64) {
        use Fault as F;
        match fault {
            F::Cut(index) | F::Mend(index) | F::CutWitness(index) | F::MendWitness(index) => {
                self.note(time, index, name);
            }
            F::StopWitness | F::StartWitness => self.note(time, 0, name),
            _ => {}
        }
    }

    fn note(&self, time: u64, index: usize, what: &str) {
        if self.trace {
            let node = &self.nodes[index];
            let state = node.state().map_or_else(|| "down".to_owned(), |state| state.to_string());
            println!("{:>12} us  {:x} {state:<9} {what}", time / 1_000, node.id);
        }
    }
}

/// Runs `seed`.
///
/// # Errors
/// With the first broken promise, and when, ns.
pub fn run(seed: u64, defect: Defect, trace: bool) -> Result<Outcome, (Violation, u64)> {
    World::new(Plan::draw(seed, defect), seed, trace).run()
}
