//! A simulated host: a clock of its own, a dataplane's gate, and a session while its daemon is up.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use csm_common::gate::{Gate, GateState};
use csm_user::ft::election::{Election, Event, Params};
use csm_user::ft::envelope::{self, DATAGRAM};
use csm_user::ft::keyring::Keyring;
use csm_user::ft::parked::Parked;
use csm_user::ft::session::{Arrival, Port, Session};
use csm_user::ft::wire::{Kind, LENGTH, Message, newest};
use csm_user::ft::witness::votes::Votes;
use csm_user::ft::witness::wire::{self as witness, Word};
use csm_user::ft::{Controls, FtEvent, Reason, Refusal, State};
use csm_user::model::lease;

use crate::sim::plan::Timers;

/// Datagrams that a stopped daemon's socket holds; more are lost.
const INBOX_MAX: usize = 200;
/// Parts per million.
const MILLION: i128 = 1_000_000;

/// A clock that runs fast or slow.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Local time at true time 0, ns.
    pub offset: u64,
    /// Gains that many µs a second.
    pub ppm: i64,
}

impl Clock {
    /// Local time, ns, at `time`.
    #[must_use]
    pub fn local(&self, time: u64) -> u64 {
        let run = i128::from(time) * (MILLION + i128::from(self.ppm)) / MILLION;
        self.offset + u64::try_from(run).unwrap_or(0)
    }

    /// The first true time at which the clock shows `local` or more.
    #[must_use]
    pub fn when(&self, local: u64) -> u64 {
        let run = i128::from(local.saturating_sub(self.offset)) * MILLION;
        let rate = MILLION + i128::from(self.ppm);
        u64::try_from((run + rate - 1) / rate).unwrap_or(u64::MAX)
    }
}

/// Where in a turn the thread is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It has read its clock, and done nothing yet.
    BeforeAll,
    /// It has sent a message, and not stored the gate that belongs to it.
    BeforeGate,
}

/// What comes to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mail {
    /// A datagram of its peer.
    Peer([u8; LENGTH]),
    /// An answer of the witness.
    Witness(Word),
}

/// What a thread was about to do when it was held up, after it had read its clock.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Datagram(Mail),
    Timers,
}

/// What a host has done since it was last asked.
#[derive(Default)]
pub struct Outbox {
    /// Messages, in order.
    pub sent: Vec<[u8; LENGTH]>,
    /// Requests to the witness, in order.
    pub asked: Vec<Word>,
    /// Outcome of forced switchovers.
    pub forced: Vec<Result<(), Refusal>>,
    /// Announcements.
    pub announced: u64,
    /// Of these, how many came with the gate shut.
    pub announced_shut: u64,
    /// Reason and term of the last claim that was said, also if the thread was held up in it and the gate never opened.
    pub claimed: Option<(Reason, u64)>,
    /// Boots of the peer that were heard for the first time.
    pub peers: u64,
}

/// A host.
pub struct Node {
    /// Identity.
    pub id: u64,
    /// Its clock.
    pub clock: Clock,
    /// What the dataplane holds; survives a stopped daemon, not a dead one.
    pub gate: Gate,
    /// Nonce and sequence of the message that was sent with the tick that set the gate.
    pub lease_message: Option<(u64, u64)>,
    /// Its daemon, while it runs.
    pub session: Option<Session>,
    /// The session that rests while the daemon restarts.
    pub resting: Option<Session>,
    /// Its gate is open by a hold that it believes to be granted.
    pub holds: bool,
    /// What was promised to the peer, local time; it outlives the daemon, as the gate does.
    pub promise: u64,
    /// What was noted of the peer's lease; it outlives the daemon, too.
    pub peer_lease: Option<Duration>,
    /// SIGSTOP until then, true time.
    pub stopped_until: Option<u64>,
    /// How long its next turn is to be held up between the reading of the clock and everything else.
    pub hold_up: Option<(Place, u64)>,
    /// The turn that is held up, and the true time of its reading.
    held: Option<(Turn, u64)>,
    /// The gate that is not stored yet, and the messages that are not sent yet.
    held_gate: Option<Gate>,
    held_sent: Vec<[u8; LENGTH]>,
    held_asked: Vec<Word>,
    /// Reading of the clock on which the gate was opened, local time.
    pub gate_reading: u64,
    /// Datagrams that wait for a stopped daemon.
    pub inbox: VecDeque<Mail>,
    /// Commands that wait for it.
    pub commands: Vec<Event>,
    /// What it did.
    pub outbox: Outbox,
}

impl Node {
    /// A host whose daemon is not running.
    #[must_use]
    pub fn new(id: u64, clock: Clock) -> Self {
        Self {
            id,
            clock,
            gate: Gate::CLOSED,
            lease_message: None,
            session: None,
            resting: None,
            holds: false,
            promise: 0,
            peer_lease: None,
            stopped_until: None,
            hold_up: None,
            held: None,
            held_gate: None,
            held_sent: Vec::new(),
            held_asked: Vec::new(),
            gate_reading: 0,
            inbox: VecDeque::new(),
            commands: Vec::new(),
            outbox: Outbox::default(),
        }
    }

    /// Starts the daemon.
    pub fn start(&mut self, params: Params, controls: Controls, time: u64) {
        // tokio's liveness is simulated as a loss of the ability to forward.
        let session = Session::new(params, 9, controls, Duration::from_secs(1 << 32));
        let session = session.with_peer_lease(self.peer_lease);
        self.session = Some(session.with_promise(self.promise).with_witness(votes(&params)));
        (self.resting, self.holds) = (None, false);
        self.gate = Gate::CLOSED;
        self.act(time, |session, now, port| {
            session.start(now, port);
            session.alive(now, port);
            session.command(Event::Forwardable(true), now, port);
        });
    }

    /// The daemon is back from its restart, with these timers: what it left went through memory.
    pub fn come_back(&mut self, timers: Timers, time: u64) {
        let Some(resting) = self.resting.take() else { return };
        let Some(parked) = resting.parked().and_then(|parked| Parked::decode(&parked.encode())) else {
            return;
        };
        let (mut params, controls) = (*resting.election().params(), resting.controls());
        let Timers { heartbeat, failover } = timers;
        // A deliberate defect has timers of its own.
        if let (true, Ok(lease)) = (params.failover > params.heartbeat * 2, lease(heartbeat, failover)) {
            (params.heartbeat, params.failover, params.lease) = (heartbeat, failover, lease.length);
        }
        let session = Session::new(params, 9, controls, Duration::from_secs(1 << 32));
        self.session = Some(session.with_witness(votes(&params)));
        self.act(time, |session, now, port| {
            session.resume(&parked, now, port);
            session.alive(now, port);
            session.command(Event::Forwardable(true), now, port);
        });
    }

    /// Kills it; the dataplane goes on until its lease is over.
    pub fn kill(&mut self) {
        (self.session, self.resting) = (None, None);
        (self.stopped_until, self.hold_up, self.held, self.held_gate) = (None, None, None, None);
        self.held_sent.clear();
        self.held_asked.clear();
        self.inbox.clear();
        self.commands.clear();
    }

    /// A datagram arrives; tells whether the session took it for a message of its peer.
    pub fn deliver(&mut self, datagram: &Mail, time: u64) -> bool {
        if self.stopped_until.is_some() {
            if self.inbox.len() < INBOX_MAX {
                self.inbox.push_back(*datagram);
            }
            return false;
        }
        if self.is_held_up(Turn::Datagram(*datagram), time) {
            return false;
        }
        let mut taken = false;
        self.act(time, |session, now, port| taken = receive(session, datagram, now, port));
        taken
    }

    /// The daemon runs again: reads what waits, then sees to its timers. Returns the messages it took, and as of when.
    pub fn resume(&mut self, time: u64) -> Vec<(Mail, u64)> {
        self.stopped_until = None;
        let inbox = std::mem::take(&mut self.inbox);
        let commands = std::mem::take(&mut self.commands);
        let mut taken = Vec::new();
        if let Some(gate) = self.held_gate.take() {
            self.gate = gate;
        }
        self.outbox.sent.append(&mut self.held_sent);
        self.outbox.asked.append(&mut self.held_asked);
        if let Some((turn, read_at)) = self.held.take() {
            self.act_on(self.clock.local(read_at), time, |session, now, port| match turn {
                Turn::Datagram(datagram) if receive(session, &datagram, now, port) => {
                    taken.push((datagram, read_at));
                }
                Turn::Datagram(_) => {}
                Turn::Timers => session.wake(now, port),
            });
        }
        self.act(time, |session, now, port| {
            let read = inbox.into_iter().filter(|datagram| receive(session, datagram, now, port));
            taken.extend(read.map(|datagram| (datagram, time)));
            commands.into_iter().for_each(|command| session.command(command, now, port));
            session.wake(now, port);
        });
        taken
    }

    /// Fires its timers.
    pub fn wake(&mut self, time: u64) {
        if self.is_held_up(Turn::Timers, time) {
            return;
        }
        self.act(time, |session, now, port| session.wake(now, port));
    }

    /// Commands it.
    pub fn command(&mut self, event: Event, time: u64) {
        if self.stopped_until.is_some() {
            self.commands.push(event);
            return;
        }
        self.act(time, |session, now, port| session.command(event, now, port));
    }

    /// True time of the next waking.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        if self.stopped_until.is_some() {
            return self.stopped_until;
        }
        Some(self.clock.when(self.session.as_ref()?.next_wake()?))
    }

    /// A standby that hears the active node and whose replica is not complete.
    #[must_use]
    pub fn lacks_replica(&self) -> bool {
        self.session.as_ref().is_some_and(|session| {
            let own = session.election().message(Kind::Heartbeat);
            own.state == State::Standby && self.has_source() && !own.complete
        })
    }

    /// Hears an active peer, whose table it can have.
    #[must_use]
    pub fn has_source(&self) -> bool {
        let peer = self.session.as_ref().and_then(|session| session.election().peer());
        peer.is_some_and(|peer| peer.state == State::Active)
    }

    /// Its machine, also while it rests.
    #[must_use]
    pub fn election(&self) -> Option<&Election> {
        self.session.as_ref().or(self.resting.as_ref()).map(Session::election)
    }

    /// State of the machine.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.election().map(Election::state)
    }

    /// What its dataplane does at `time`.
    #[must_use]
    pub fn gate_at(&self, time: u64) -> GateState {
        self.gate.state_at(self.clock.local(time))
    }

    fn is_held_up(&mut self, turn: Turn, time: u64) -> bool {
        let Some((Place::BeforeAll, lasts)) = self.hold_up.filter(|_| self.session.is_some()) else {
            return false;
        };
        self.hold_up = None;
        self.held = Some((turn, time));
        self.stopped_until = Some(time + lasts);
        true
    }

    fn act(&mut self, time: u64, act: impl FnOnce(&mut Session, u64, &mut Wire<'_>)) {
        self.act_on(self.clock.local(time), time, act);
    }

    /// `reading` is what the thread believes the time to be.
    fn act_on(&mut self, reading: u64, time: u64, act: impl FnOnce(&mut Session, u64, &mut Wire<'_>)) {
        let now = self.clock.local(time);
        let Some(mut session) = self.session.take() else { return };
        let mut port = Wire { node: self, last_sent: None, coup: None, now, reading, held_up: 0, time };
        act(&mut session, reading, &mut port);
        if let Some(parked) = session.parked() {
            self.kill();
            let lease = session.election().params().lease;
            self.holds = Duration::from_nanos(parked.until_ns.saturating_sub(now)) > lease;
            self.resting = Some(session);
        } else if session.is_ended() {
            self.kill();
        } else {
            self.session = Some(session);
        }
    }
}

/// A host's side of the witness, if it has one.
fn votes(params: &Params) -> Option<Votes> {
    let address = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 1);
    params.witness.then(|| Votes::new(address, params.failover))
}

/// Where a message says its version.
const VERSION: usize = 4;

/// How everything comes.
const LINK: Arrival = Arrival { path: 0, source: IpAddr::V6(Ipv6Addr::LOCALHOST), hops: Some(255) };

fn receive(session: &mut Session, mail: &Mail, now: u64, port: &mut Wire<'_>) -> bool {
    let datagram = match mail {
        Mail::Peer(datagram) => datagram,
        Mail::Witness(word) => {
            session.witness_said(word, now, port);
            return false;
        }
    };
    let before = told_nothing(session, now);
    let Ok(message) = Message::decode(datagram) else { return false };
    // In the version that it was said in.
    let versions = (datagram[VERSION], newest(datagram));
    let sealed = envelope::seal_as(versions, &message, [0; envelope::PATHS_MAX], &Keyring::default());
    session.receive(&sealed, LINK, now, port);
    told_nothing(session, now) == before
}

/// Messages that were dropped, and those that came once more.
fn told_nothing(session: &mut Session, now: u64) -> (u64, u64) {
    let counters = &session.status(now).counters;
    (counters.dropped, counters.copies)
}

struct Wire<'a> {
    node: &'a mut Node,
    last_sent: Option<(u64, u64)>,
    /// The term that a coup of this turn says.
    coup: Option<u64>,
    now: u64,
    reading: u64,
    /// How long the thread was held up after it sent.
    held_up: u64,
    /// True time.
    time: u64,
}

impl Port for Wire<'_> {
    fn send(&mut self, _: usize, datagram: &[u8; DATAGRAM]) -> bool {
        let Some(message) = datagram.first_chunk() else { return false };
        if let Ok(Message { kind, nonce, sequence, term, .. }) = Message::decode(message) {
            self.last_sent = Some((nonce, sequence));
            self.coup = if kind == Kind::Coup { Some(term) } else { self.coup };
        }
        if self.held_up > 0 {
            self.node.held_sent.push(*message);
            return true;
        }
        self.node.outbox.sent.push(*message);
        if let Some((Place::BeforeGate, lasts)) = self.node.hold_up {
            self.node.hold_up = None;
            self.held_up = lasts;
            self.node.stopped_until = Some(self.time + lasts);
        }
        true
    }

    fn ask(&mut self, request: &[u8; witness::DATAGRAM]) -> bool {
        let word = witness::open(request).map(|(word, ..)| word);
        if self.held_up > 0 {
            self.node.held_asked.extend(word);
        } else {
            self.node.outbox.asked.extend(word);
        }
        true
    }

    fn gate(&mut self, gate: Gate) {
        let before = self.node.held_gate.unwrap_or(self.node.gate);
        if before.state_at(self.now) != GateState::Open {
            self.node.gate_reading = self.reading;
        }
        if self.held_up > 0 {
            self.node.held_gate = Some(gate);
        } else {
            self.node.gate = gate;
        }
        (self.node.lease_message, self.node.holds) = (self.last_sent, false);
    }

    fn now_ns(&self) -> u64 {
        self.now + self.held_up
    }

    fn adopt(&mut self, _: u64) {}

    fn announce(&mut self) {
        self.node.outbox.announced += 1;
        let gate = self.node.held_gate.unwrap_or(self.node.gate);
        self.node.outbox.announced_shut += u64::from(gate.state_at(self.now_ns()) != GateState::Open);
    }

    fn peer_mac(&mut self, _: [u8; 6]) {}

    fn event(&mut self, event: FtEvent) -> bool {
        self.node.outbox.peers += u64::from(matches!(event, FtEvent::Peer { .. }));
        if let FtEvent::PeerLease(lease) = event {
            self.node.peer_lease = Some(lease);
        }
        if let FtEvent::Role { state: State::Active, reason, term, .. } = event
            && self.coup == Some(term)
        {
            self.node.outbox.claimed = Some((reason, term));
        }
        true
    }

    fn forced(&mut self, outcome: Result<(), Refusal>) {
        self.node.outbox.forced.push(outcome);
    }

    fn not_held(&mut self, _: Refusal) {}

    fn promised(&mut self, until_ns: u64) {
        self.node.promise = until_ns;
    }

    fn wall_ns(&self) -> u64 {
        0
    }
}
