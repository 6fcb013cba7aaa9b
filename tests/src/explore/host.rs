//! A host of the model: a session, its gate, and what waits for it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use csm_common::gate::{Gate, GateState};
use csm_user::ft::election::{Election, Event, Params};
use csm_user::ft::envelope::{self, DATAGRAM};
use csm_user::ft::keyring::Keyring;
use csm_user::ft::session::{Arrival, Port, Session};
use csm_user::ft::wire::{Kind, Message};
use csm_user::ft::witness::votes::Votes;
use csm_user::ft::witness::wire::{self as witness, Word};
use csm_user::ft::{Controls, FtEvent, Refusal, State};

/// Where a datagram says its version (docs/ft-protocol.md).
const VERSION_AT: usize = 4;
/// Messages that a stopped daemon's socket holds; more are lost.
const INBOX_MAX: usize = 3;

/// In which version a message is to be read, and the newest that its sender speaks as far as it says so.
pub type Versions = (u8, u8);

/// What comes to a host.
#[derive(Clone, Copy, Debug)]
pub enum Mail {
    /// Of its peer.
    Peer(Message, Versions),
    /// Of the witness.
    Witness(Word),
}

/// A host at one moment.
#[derive(Clone, Debug)]
pub struct Host {
    /// While the daemon runs. Shared between states of the model, of which most change only one host.
    pub session: Option<Arc<Session>>,
    /// The session that rests while the daemon restarts.
    pub resting: Option<Arc<Session>>,
    /// Its gate is open by a hold that it believes to be granted.
    pub holds: bool,
    /// What was promised to the peer, in its own time, ns. It outlives the daemon, as the gate does.
    pub promise: u64,
    /// What the dataplane holds.
    pub gate: Gate,
    /// For so many ticks.
    pub stopped: Option<u8>,
    /// What came meanwhile.
    pub inbox: Vec<Mail>,
    /// Boot nonce and sequence of the message that went out with the lease in force.
    pub lease_message: Option<(u64, u64)>,
    /// Told to leave.
    pub leaving: bool,
    /// Able to forward, so the daemon says.
    pub able: bool,
    /// Tracking has nothing against it.
    pub eligible: bool,
}

/// What a host did in one turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// What it sent, in order.
    pub sent: Vec<(Message, Versions)>,
    /// What it asked the witness, in order.
    pub asked: Vec<Word>,
    /// It announced with its gate shut.
    pub announced_shut: bool,
    /// It heard a boot of its peer for the first time.
    pub met_peer: bool,
    /// The message given to it was taken.
    pub took: bool,
}

impl Host {
    /// Switched off.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            session: None,
            resting: None,
            holds: false,
            promise: 0,
            gate: Gate::CLOSED,
            stopped: None,
            inbox: Vec::new(),
            lease_message: None,
            leaving: false,
            able: true,
            eligible: true,
        }
    }

    /// Its daemon is killed; its dataplane goes on until the lease is over.
    #[must_use]
    pub fn killed(&self) -> Self {
        let Self { gate, holds, promise, lease_message, .. } = *self;
        Self { gate, holds, promise, lease_message, ..Self::off() }
    }

    /// The daemon comes back from a restart.
    pub fn come_back(&mut self, controls: Controls, now: u64) -> Turn {
        let Some((resting, parked)) = self.resting.take().and_then(|resting| {
            let parked = resting.parked()?;
            Some((resting, parked))
        }) else {
            return Turn::default();
        };
        let params = *resting.election().params();
        let session = Session::new(params, 9, controls, Duration::from_secs(1 << 32));
        self.session = Some(Arc::new(session.with_witness(votes(&params))));
        self.act(now, |session, port| {
            session.resume(&parked, now, port);
            session.alive(now, port);
            session.command(Event::Forwardable(true), now, port);
        })
    }

    /// Runs and is not stopped.
    #[must_use]
    pub const fn is_awake(&self) -> bool {
        self.session.is_some() && self.stopped.is_none()
    }

    /// It asks for a hold, or rests.
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        let asks = |machine: &Election| !machine.message(Kind::Heartbeat).hold.is_zero();
        self.resting.is_some() || self.election().is_some_and(asks)
    }

    /// Its machine.
    #[must_use]
    pub fn election(&self) -> Option<&Election> {
        self.session.as_deref().or(self.resting.as_deref()).map(Session::election)
    }

    /// State of its machine.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.election().map(Election::state)
    }

    /// Its gate is open at its own time `now`.
    #[must_use]
    pub fn is_open(&self, now: u64) -> bool {
        self.gate.state_at(now) == GateState::Open
    }

    /// A timer is due.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        let wake = self.session.as_ref().and_then(|session| session.next_wake());
        self.is_awake() && wake.is_some_and(|wake| wake <= now)
    }

    /// The daemon starts.
    pub fn start(&mut self, params: Params, controls: Controls, now: u64) -> Turn {
        // tokio's liveness is no part of the model.
        let session =
            Session::new(params, 9, controls, Duration::from_secs(1 << 32)).with_promise(self.promise);
        let session = session.with_witness(votes(&params));
        *self = Self { session: Some(Arc::new(session)), promise: self.promise, ..Self::off() };
        self.act(now, |session, port| {
            session.start(now, port);
            session.alive(now, port);
            session.command(Event::Forwardable(true), now, port);
        })
    }

    /// Something comes in.
    pub fn deliver(&mut self, mail: &Mail, now: u64) -> Turn {
        if self.stopped.is_some() {
            if self.inbox.len() < INBOX_MAX {
                self.inbox.push(*mail);
            }
            return Turn::default();
        }
        let mut took = false;
        let turn = self.act(now, |session, port| took = receive(session, mail, now, port));
        Turn { took, ..turn }
    }

    /// The daemon runs again: it reads what has come, then sees to its timers. Tells what of it was taken.
    pub fn resume(&mut self, now: u64) -> (Turn, Vec<Mail>) {
        self.stopped = None;
        let inbox = std::mem::take(&mut self.inbox);
        let mut taken = Vec::new();
        let turn = self.act(now, |session, port| {
            taken.extend(inbox.into_iter().filter(|mail| receive(session, mail, now, port)));
            session.wake(now, port);
        });
        (turn, taken)
    }

    /// Its timers fire.
    pub fn wake(&mut self, now: u64) -> Turn {
        self.act(now, |session, port| session.wake(now, port))
    }

    /// A command to the daemon.
    pub fn command(&mut self, event: Event, now: u64) -> Turn {
        self.act(now, |session, port| session.command(event, now, port))
    }

    fn act(&mut self, now: u64, act: impl FnOnce(&mut Session, &mut Wire<'_>)) -> Turn {
        let mut turn = Turn::default();
        let Some(mut shared) = self.session.take() else { return turn };
        let session = Arc::make_mut(&mut shared);
        let mut port = Wire { turn: &mut turn, host: self, now };
        act(session, &mut port);
        if let Some(parked) = session.parked() {
            let lease = session.election().params().lease;
            let holds = Duration::from_nanos(parked.until_ns.saturating_sub(now)) > lease;
            *self = Self { resting: Some(shared), holds, ..self.killed() };
        } else if session.is_ended() {
            *self = self.killed();
        } else {
            self.session = Some(shared);
        }
        turn
    }
}

/// A host's side of the witness, if it has one.
fn votes(params: &Params) -> Option<Votes> {
    let address = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 1);
    params.witness.then(|| Votes::new(address, params.failover))
}

/// How everything comes.
const LINK: Arrival = Arrival { path: 0, source: IpAddr::V6(Ipv6Addr::LOCALHOST), hops: Some(255) };

fn receive(session: &mut Session, mail: &Mail, now: u64, port: &mut Wire<'_>) -> bool {
    let (message, versions) = match mail {
        Mail::Peer(message, versions) => (message, *versions),
        Mail::Witness(word) => {
            session.witness_said(word, now, port);
            return false;
        }
    };
    let dropped = session.status(now).counters.dropped;
    let sealed = envelope::seal_as(versions, message, [0; envelope::PATHS_MAX], &Keyring::default());
    session.receive(&sealed, LINK, now, port);
    session.status(now).counters.dropped == dropped
}

struct Wire<'a> {
    turn: &'a mut Turn,
    host: &'a mut Host,
    now: u64,
}

impl Port for Wire<'_> {
    fn send(&mut self, _: usize, datagram: &[u8; DATAGRAM]) -> bool {
        let opened = envelope::open(datagram).ok();
        self.turn
            .sent
            .extend(opened.map(|(message, said, ..)| (message, (datagram[VERSION_AT], said.newest))));
        true
    }

    fn ask(&mut self, request: &[u8; witness::DATAGRAM]) -> bool {
        self.turn.asked.extend(witness::open(request).map(|(word, ..)| word));
        true
    }

    fn gate(&mut self, gate: Gate) {
        (self.host.gate, self.host.holds) = (gate, false);
        self.host.lease_message = self.turn.sent.last().map(|(message, _)| (message.nonce, message.sequence));
    }

    fn now_ns(&self) -> u64 {
        self.now
    }

    fn adopt(&mut self, _: u64) {}

    fn announce(&mut self) {
        self.turn.announced_shut |= !self.host.is_open(self.now);
    }

    fn peer_mac(&mut self, _: [u8; 6]) {}

    fn event(&mut self, event: FtEvent) -> bool {
        self.turn.met_peer |= matches!(event, FtEvent::Peer { .. });
        true
    }

    fn forced(&mut self, _: Result<(), Refusal>) {}

    fn not_held(&mut self, _: Refusal) {}

    fn promised(&mut self, until_ns: u64) {
        self.host.promise = until_ns;
    }

    fn wall_ns(&self) -> u64 {
        0
    }
}
