//! The model: what can happen to the pair next, and what comes of it.

use std::time::Duration;

use csm_user::ft::election::{Election, Event, Params};
use csm_user::ft::wire::{Kind, Message};
use csm_user::ft::witness::grants::Grants;
use csm_user::ft::{Controls, Reason, State};
use csm_user::model::lease;

use crate::explore::ghost::Ghost;
use crate::explore::host::{Host, Mail, Turn, Versions};
use crate::sim::check::Violation;

const SECOND: u64 = 1_000_000_000;
/// How long a peer holds for a daemon that restarts.
const HOLD: Duration = Duration::from_secs(4);
/// The hosts' clocks at the beginning, ns: a session must not start at 0.
pub(super) const EPOCH: u64 = 1_000 * SECOND;

/// What is deliberately wrong, to see the promises broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The gate stays open for ever once it is: a lease longer than the failover time.
    LongLease,
    /// A claim does not wait for the end of the peer's lease, and for little else.
    ClaimWithoutWaiting,
    /// A daemon that restarts relies on the peer's hold before the peer has said that it holds.
    UnheardHold,
    /// Every node says that its replica is complete at once, so preemption and elections do not wait for it.
    FalseReplica,
    /// A witness that has started grants at once, though what it granted before may last.
    ForgetfulWitness,
}

/// One pair, and how much trouble it is to see.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// For the report.
    pub name: &'static str,
    /// Of each host.
    pub priority: [u8; 2],
    /// Of each host.
    pub preempt: [bool; 2],
    /// Ticks in a heartbeat interval, of three in a failover time.
    pub resolution: u64,
    /// A configured key: a boot of the peer must prove that it is one.
    pub proven_only: bool,
    /// How many percent faster the second host's clock runs.
    pub skew: u64,
    /// Kills, stops, cut directions and commands.
    pub faults: u8,
    /// Commands are among them.
    pub commands: bool,
    /// So many daemons of active hosts are restarted.
    pub restarts: u8,
    /// Single messages lost, doubled or held up.
    pub glitches: u8,
    /// Faults and glitches come only while a hold is asked for, or in force.
    pub in_hold: bool,
    /// A third host is asked. What it is asked comes at once, or not at all, and so do its answers unless they are `letters`.
    pub witness: bool,
    /// Its answers are on their way as messages are.
    pub letters: bool,
    /// The faults are that the hosts are parted from one another once one is active and the other its standby, and then that one is
    /// parted from the witness, or that the witness is restarted.
    pub partings: bool,
    /// Which host speaks a newer version, too; the others the oldest alone.
    pub newer: [bool; 2],
    /// A daemon that comes back from its restart is a program that speaks a newer version.
    pub upgrades: bool,
    /// What is wrong on purpose.
    pub defect: Option<Defect>,
}

/// Something that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing is due and nothing on its way: time passes.
    Tick,
    /// Timers of a host fire.
    Wake(usize),
    /// A message arrives, in order unless it was held up.
    Deliver(usize),
    /// It is lost.
    Lose(usize),
    /// It is doubled.
    Duplicate(usize),
    /// It is held up, for some ticks or until others have overtaken it.
    Hold(usize),
    /// What this host sends is lost from now on.
    Cut(usize),
    /// And arrives again.
    Mend(usize),
    /// What either host sends to the other is lost from now on.
    Part,
    /// What this host and the witness send to one another is lost from now on.
    CutWitness(usize),
    /// And arrives again.
    MendWitness(usize),
    /// The witness ends, and starts at once.
    RestartWitness,
    /// kill -9, or power off.
    Kill(usize),
    /// A host starts.
    Start(usize),
    /// Its daemon restarts: asks for a hold, and rests.
    Restart(usize),
    /// The daemon is back.
    ComeBack(usize),
    /// SIGSTOP.
    Stop(usize),
    /// SIGCONT.
    Resume(usize),
    /// The host's replica is complete.
    Sync(usize),
    /// `clear module csm N ft active`.
    Force(usize),
    /// SIGTERM.
    Leave(usize),
    /// Able to forward, or not.
    Able(usize, bool),
    /// Verdict of tracking.
    Eligible(usize, bool),
}

/// A message under way.
#[derive(Clone, Debug)]
pub struct Letter {
    /// To this host.
    pub to: usize,
    /// What it says.
    pub mail: Mail,
    /// Held up for so many ticks already.
    pub held: Option<u8>,
}

/// The pair at one moment.
#[derive(Clone, Debug)]
pub struct World {
    /// Ticks since the beginning; no part of the state's identity.
    pub ticks: u64,
    /// The hosts.
    pub hosts: [Host; 2],
    /// Under way.
    pub letters: Vec<Letter>,
    /// What each host sends is lost.
    pub cut: [bool; 2],
    /// The third host.
    pub witness: Option<Grants>,
    /// Between this host and the witness all is lost.
    pub cut_witness: [bool; 2],
    /// Still to come.
    pub faults: u8,
    /// Still to come.
    pub glitches: u8,
    /// Still to come.
    pub restarts: u8,
    /// Boots so far.
    pub boots: u64,
    /// The judge.
    pub ghost: Ghost,
}

impl Setting {
    pub(super) const fn heartbeat(&self) -> u64 {
        SECOND
    }

    pub(super) const fn failover(&self) -> u64 {
        3 * self.heartbeat()
    }

    pub(super) fn lease(&self) -> Duration {
        let (heartbeat, failover) = (self.heartbeat(), self.failover());
        let heartbeat = Duration::from_nanos(heartbeat);
        lease(heartbeat, Duration::from_nanos(failover)).map_or(heartbeat, |lease| lease.length)
    }

    fn tick(&self, host: usize) -> u64 {
        let even = self.heartbeat() / self.resolution;
        if host == 0 { even } else { even * (100 + self.skew) / 100 }
    }

    /// Time of a host's clock, ns.
    #[must_use]
    pub fn now(&self, world: &World, host: usize) -> u64 {
        EPOCH + world.ticks * self.tick(host)
    }

    /// Longer than this, in ticks, nothing is stopped or held up.
    fn longest(&self) -> u8 {
        u8::try_from(2 * 3 * self.resolution + 1).unwrap_or(u8::MAX)
    }

    /// Both hosts are off.
    #[must_use]
    pub fn initial(&self) -> World {
        let failover =
            [0, 1].map(|host| u8::try_from(self.failover().div_ceil(self.tick(host))).unwrap_or(u8::MAX));
        World {
            ticks: 0,
            hosts: [Host::off(), Host::off()],
            letters: Vec::new(),
            cut: [false; 2],
            witness: self.witness.then(|| Grants::new(1, self.lease(), EPOCH)),
            cut_witness: [false; 2],
            faults: self.faults,
            glitches: self.glitches,
            restarts: self.restarts,
            boots: 0,
            ghost: Ghost::new(failover, self.witness),
        }
    }

    /// All that can happen next.
    pub fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.ghost.violation.is_some() {
            return;
        }
        let due = [0, 1].map(|host| world.hosts[host].is_due(self.now(world, host)));
        let is_time = !self.in_hold || world.hosts.iter().any(Host::is_restarting);
        actions.extend([0, 1].into_iter().filter(|&host| due[host]).map(Action::Wake));
        for (index, letter) in world.letters.iter().enumerate() {
            let overtakes = |earlier: &Letter| {
                let way = |letter: &Letter| (letter.to, matches!(letter.mail, Mail::Peer(..)));
                way(earlier) == way(letter) && earlier.held.is_none()
            };
            if letter.held.is_none() && world.letters[..index].iter().any(overtakes) {
                continue;
            }
            actions.push(Action::Deliver(index));
            if is_time && world.glitches > 0 && letter.held.is_none() {
                actions.extend([Action::Lose(index), Action::Duplicate(index), Action::Hold(index)]);
            }
        }
        if is_time && world.faults > 0 {
            for (index, host) in world.hosts.iter().enumerate().filter(|_| !self.partings) {
                if host.is_awake() {
                    actions.extend([Action::Kill(index), Action::Stop(index)]);
                }
                if !world.cut[index] {
                    actions.push(Action::Cut(index));
                }
            }
            if world.witness.is_some() && (!self.partings || world.cut == [true; 2]) {
                actions.push(Action::RestartWitness);
                actions.extend(
                    [0, 1].into_iter().filter(|&host| !world.cut_witness[host]).map(Action::CutWitness),
                );
            }
            let pair = [world.hosts[0].state(), world.hosts[1].state()];
            let is_settled = pair.contains(&Some(State::Active)) && pair.contains(&Some(State::Standby));
            if world.witness.is_some() && world.cut == [false; 2] && (is_settled || !self.partings) {
                actions.push(Action::Part);
            }
        }
        if due == [false; 2] && world.letters.iter().all(|letter| letter.held.is_some()) {
            self.quiet_actions(world, actions);
        }
    }

    /// What may as well happen at the end of a tick.
    fn quiet_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let longest = self.longest();
        if world.hosts.iter().all(|host| host.stopped.is_none_or(|ticks| ticks < longest)) {
            actions.push(Action::Tick);
        }
        for (index, host) in world.hosts.iter().enumerate() {
            if world.cut[index] {
                actions.push(Action::Mend(index));
            }
            if world.cut_witness[index] {
                actions.push(Action::MendWitness(index));
            }
            if host.session.is_none() {
                actions.push(Action::Start(index));
            }
            if host.resting.is_some() {
                actions.push(Action::ComeBack(index));
            }
            if host.stopped.is_some() {
                actions.push(Action::Resume(index));
            }
            if !host.is_awake() || host.leaving {
                continue;
            }
            let peer = host.election().and_then(|machine| machine.peer());
            let has_source = peer.is_some_and(|peer| peer.state == State::Active);
            if has_source && host.state() == Some(State::Standby) && !world.ghost.replica[index] {
                actions.push(Action::Sync(index));
            }
            if !host.able {
                actions.push(Action::Able(index, true));
            }
            if !host.eligible {
                actions.push(Action::Eligible(index, true));
            }
            if world.restarts > 0 && host.state() == Some(State::Active) {
                actions.push(Action::Restart(index));
            }
            if self.commands && world.faults > 0 {
                actions.push(Action::Leave(index));
                if host.state() == Some(State::Active) {
                    actions.push(Action::Force(index));
                }
                if host.able {
                    actions.push(Action::Able(index, false));
                }
                if host.eligible {
                    actions.push(Action::Eligible(index, false));
                }
            }
        }
    }

    /// What comes of it.
    #[must_use]
    pub fn next(&self, before: &World, action: Action) -> World {
        let mut world = before.clone();
        self.happen(&mut world, action);
        if world.ghost.violation.is_none() {
            let now = [self.now(&world, 0), self.now(&world, 1)];
            world.ghost.violation = world.ghost.judge(&world.hosts, now).err();
        }
        world
    }

    fn happen(&self, world: &mut World, action: Action) {
        match action {
            Action::Tick => self.pass_time(world),
            Action::Wake(host) => {
                let turn = world.hosts[host].wake(self.now(world, host));
                self.follow(world, host, turn);
            }
            Action::Deliver(index) => {
                let letter = world.letters.remove(index);
                self.deliver(world, &letter);
            }
            Action::Lose(index) => {
                world.glitches -= 1;
                world.letters.remove(index);
                world.ghost.lose();
            }
            Action::Duplicate(index) => {
                world.glitches -= 1;
                world.ghost.trouble();
                world.letters.push(world.letters[index].clone());
            }
            Action::Hold(index) => {
                world.glitches -= 1;
                world.letters[index].held = Some(0);
                world.ghost.lose();
            }
            Action::Cut(host) | Action::Mend(host) => {
                world.cut[host] = matches!(action, Action::Cut(_));
                world.faults -= u8::from(world.cut[host]);
                world.ghost.trouble();
            }
            Action::Part => {
                world.cut = [true; 2];
                world.faults -= 1;
                world.ghost.trouble();
            }
            Action::CutWitness(host) | Action::MendWitness(host) => {
                world.cut_witness[host] = matches!(action, Action::CutWitness(_));
                world.faults -= u8::from(world.cut_witness[host]);
                world.ghost.trouble();
            }
            Action::RestartWitness => self.restart_witness(world),
            Action::Sync(host) => {
                world.ghost.replica[host] = true;
                world.ghost.trouble();
                self.command(world, host, Event::Replica { complete: true, lag_ms: 0 });
            }
            Action::Kill(host) => {
                world.faults -= 1;
                world.ghost.trouble();
                world.hosts[host] = world.hosts[host].killed();
            }
            Action::Restart(host) => {
                world.restarts -= 1;
                world.ghost.trouble();
                self.command(world, host, Event::Hold);
            }
            Action::ComeBack(host) => {
                world.ghost.trouble();
                let turn = world.hosts[host]
                    .come_back(self.controls(self.upgrades || self.newer[host]), self.now(world, host));
                self.follow(world, host, turn);
            }
            Action::Start(host) => self.start(world, host),
            Action::Stop(host) => {
                world.faults -= 1;
                world.ghost.trouble();
                world.hosts[host].stopped = Some(0);
            }
            Action::Resume(host) => self.resume(world, host),
            Action::Force(_) | Action::Leave(_) | Action::Able(..) | Action::Eligible(..) => {
                self.tell(world, action);
            }
        }
    }

    fn tell(&self, world: &mut World, action: Action) {
        world.ghost.trouble();
        let (host, event) = match action {
            Action::Force(host) => (host, Event::ForceStandby),
            Action::Able(host, able) => {
                world.hosts[host].able = able;
                world.ghost.able_changed(host);
                (host, Event::Forwardable(able))
            }
            Action::Eligible(host, eligible) => {
                world.hosts[host].eligible = eligible;
                (host, Event::Eligible(eligible))
            }
            Action::Leave(host) => {
                world.hosts[host].leaving = true;
                (host, Event::Leave)
            }
            _ => return,
        };
        let is_recovery = matches!(event, Event::Forwardable(true) | Event::Eligible(true));
        world.faults -= u8::from(!is_recovery);
        self.command(world, host, event);
    }

    fn pass_time(&self, world: &mut World) {
        let longest = self.longest();
        let still = world.cut == [false; 2]
            && world.cut_witness == [false; 2]
            && world.letters.is_empty()
            && world.hosts.iter().all(|host| host.is_awake() && host.able && !host.leaving);
        world.ghost.tick(&world.hosts, self.served(world), still);
        world.ticks += 1;
        for stopped in world.hosts.iter_mut().filter_map(|host| host.stopped.as_mut()) {
            *stopped += 1;
        }
        for letter in &mut world.letters {
            letter.held = letter.held.map(|held| held + 1);
        }
        world.letters.retain(|letter| letter.held <= Some(longest));
    }

    pub(super) fn deliver(&self, world: &mut World, letter: &Letter) {
        let turn = world.hosts[letter.to].deliver(&letter.mail, self.now(world, letter.to));
        if let Mail::Peer(message, _) = &letter.mail
            && turn.took
        {
            world.ghost.took(letter.to, message);
        }
        self.follow(world, letter.to, turn);
    }

    fn resume(&self, world: &mut World, host: usize) {
        world.ghost.trouble();
        let (turn, taken) = world.hosts[host].resume(self.now(world, host));
        for mail in &taken {
            if let Mail::Peer(message, _) = mail {
                world.ghost.took(host, message);
            }
        }
        self.follow(world, host, turn);
    }

    fn start(&self, world: &mut World, host: usize) {
        world.boots += 1;
        world.ghost.start(host);
        let (heartbeat, failover) =
            (Duration::from_nanos(self.heartbeat()), Duration::from_nanos(self.failover()));
        let lease = self.lease();
        // One of them: two that are hasty would also beat faster.
        let hasty = host == 1 && self.defect == Some(Defect::ClaimWithoutWaiting);
        let failover = if hasty { heartbeat + heartbeat / 8 } else { failover };
        let params = Params {
            group: 1,
            node: [0xa, 0xb][host],
            nonce: world.boots,
            priority: self.priority[host],
            preempt: self.preempt[host],
            heartbeat,
            failover,
            lease: lease.min(failover - Duration::from_micros(1)),
            hold: HOLD,
            proven_only: self.proven_only,
            witness: self.witness,
            // Its times would make the space many times larger, and it opens nothing.
            damping: Duration::ZERO,
            mac: [2, 0, 0, 0, 0, 1],
            config_checksum: 1,
            software_checksum: 1,
        };
        let turn = world.hosts[host].start(params, self.controls(self.newer[host]), self.now(world, host));
        self.follow(world, host, turn);
    }

    fn controls(&self, newer: bool) -> Controls {
        Controls {
            lease_off: self.defect == Some(Defect::LongLease),
            hold_unheard: self.defect == Some(Defect::UnheardHold),
            // What is said twice is not seen twice, and would be a state of its own.
            old_wire: !newer,
            ..Controls::default()
        }
    }

    fn command(&self, world: &mut World, host: usize, event: Event) {
        let turn = world.hosts[host].command(event, self.now(world, host));
        self.follow(world, host, turn);
    }

    /// A host has acted: what it sent goes on its way, and a daemon that meets a new table says that it lacks it.
    fn follow(&self, world: &mut World, host: usize, turn: Turn) {
        if turn.announced_shut {
            world.ghost.violation = Some(Violation::AnnouncedShut);
        }
        for message in turn.sent {
            self.transmit(world, host, message);
        }
        for word in turn.asked {
            self.ask(world, host, &word);
        }
        let waits = |machine: &Election| {
            let is_alone = machine.reason() == Reason::NoWitness && machine.peer().is_none();
            is_alone && !machine.message(Kind::Heartbeat).complete
        };
        if world.hosts[host].election().is_some_and(waits) {
            world.ghost.replica[host] = false;
        }
        if turn.met_peer {
            world.ghost.replica[host] = false;
            let complete = self.defect == Some(Defect::FalseReplica);
            self.command(world, host, Event::Replica { complete, lag_ms: 0 });
        } else if self.defect == Some(Defect::FalseReplica) && self.lacks_replica(world, host) {
            self.command(world, host, Event::Replica { complete: true, lag_ms: 0 });
        }
    }

    fn lacks_replica(&self, world: &World, host: usize) -> bool {
        let machine = world.hosts[host].election().filter(|machine| machine.state() == State::Standby);
        machine.is_some_and(|machine| !machine.message(Kind::Heartbeat).complete)
    }

    fn transmit(&self, world: &mut World, from: usize, (message, versions): (Message, Versions)) {
        let to = 1 - from;
        if world.cut[from] {
            return world.ghost.lose();
        }
        let lease = match self.defect {
            Some(Defect::ClaimWithoutWaiting) => Duration::from_micros(1),
            _ => message.lease,
        };
        let letter = Letter { to, mail: Mail::Peer(Message { lease, ..message }, versions), held: None };
        if world.hosts[to].is_awake() {
            world.letters.push(letter);
        } else {
            // A stopped host's socket takes it, one that is off does not.
            self.deliver(world, &letter);
        }
    }
}
