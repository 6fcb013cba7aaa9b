//! The lease, the timers and the record keeping around one [`Election`]. Pure: time comes in as a number, everything
//! else goes through [`Port`]; the daemon's thread and the simulator drive the same code.
//!
//! Every call takes one reading of the clock and looks first whether the lease is over, or a timer overdue by half the
//! failover time. What a call sends goes out
//! before it sets the gate to `now + lease`: so the peer counts its waiting time from later than this node its lease.
//! A gate opens or stays open only if little time has passed since that reading, and the lease that is to be renewed has
//! not run out meanwhile: a thread that was held up between the two has said nothing in that time, and its peer may have
//! claimed. Whoever drives it reads the clock for [`Session::receive`] after the datagram was read (never dated too early), and
//! for [`Session::wake`] before it reads the datagrams (no silence is seen where a message lies waiting).

mod lapse;
mod poll;
mod record;
pub(super) mod report;
mod rest;
mod say;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use csm_common::gate::{Gate, GateState};

use crate::ft::election::{Effect, Election, Event, Params, RELAY, Timer};
use crate::ft::envelope::{self, DATAGRAM, Envelope};
use crate::ft::foreign::{Foreigners, Why};
use crate::ft::keyring::{AuthError, Keyring};
use crate::ft::paths::Paths;
use crate::ft::spoken::Spoken;
use crate::ft::status::FtStatus;
use crate::ft::wire::{DecodeError, HOLD_MAX, Message, NEWEST, OLDEST};
use crate::ft::witness::votes::Votes;
use crate::ft::witness::wire as witness;
use crate::ft::{Controls, FtEvent, Refusal, State};
use crate::model::FtKeys;

/// No promise is longer: more than the waiting time for the longest lease, and for the longest hold.
const PROMISE_MAX: Duration = Duration::from_secs(2 * 65_535);
const _: () = assert!(PROMISE_MAX.as_secs() > 2 * HOLD_MAX.as_secs());

/// What a session acts on. None of it may wait.
pub trait Port {
    /// Sends a datagram on a path, of which 0 is the FT VLAN; `false` if the kernel did not take it.
    fn send(&mut self, path: usize, datagram: &[u8; DATAGRAM]) -> bool;
    /// Sends a request to the witness; `false` if the kernel did not take it.
    fn ask(&mut self, request: &[u8; witness::DATAGRAM]) -> bool;
    /// Stores the gate word.
    fn gate(&mut self, gate: Gate);
    /// CLOCK_MONOTONIC, read anew; not before what the session was last given.
    fn now_ns(&self) -> u64;
    /// Before the gate opens.
    fn adopt(&mut self, now_ns: u64);
    /// After the gate opened.
    fn announce(&mut self);
    /// Where strays are to go.
    fn peer_mac(&mut self, mac: [u8; 6]);
    /// Tells the daemon; `false` if it was not taken.
    fn event(&mut self, event: FtEvent) -> bool;
    /// Outcome of the forced switchover that was commanded.
    fn forced(&mut self, outcome: Result<(), Refusal>);
    /// Why the session does not rest, as it was commanded to.
    fn not_held(&mut self, refusal: Refusal);
    /// The peer may be active until then, ns, without a word: to be remembered beyond the end of this daemon, whose next start may
    /// not know how long the peer's lease is, nor that there is a peer.
    fn promised(&mut self, until_ns: u64);
    /// The wall clock, ns since 1970.
    fn wall_ns(&self) -> u64;
}

/// How a datagram came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// On which path, of which 0 is the FT VLAN.
    pub path: usize,
    /// From where.
    pub source: IpAddr,
    /// With which hop limit, or time to live, if the kernel told it.
    pub hops: Option<u8>,
}

/// A node's session.
#[derive(Clone, Debug)]
pub struct Session {
    election: Election,
    controls: Controls,
    /// By [`Timer`], ns.
    deadlines: [Option<u64>; Timer::ALL.len()],
    /// End of the lease that an open or relay-in gate has, ns; the gate's own may differ by a negative control.
    lease_end: Option<u64>,
    /// While the machine learns of it: when a lease was over that shut the gate, ns.
    shut_ns: Option<u64>,
    /// The thread was held up in this turn: what the machine is still to learn of it.
    lapsed: Option<Event>,
    /// As commanded; the machine is told only while tokio lives.
    forwardable: bool,
    /// What the machine was told.
    able: bool,
    /// When tokio counts as stalled, ns.
    alive_until: u64,
    alive_timeout: u64,
    /// Reused, so that a waking allocates nothing.
    effects: Vec<Effect>,
    keyring: Keyring,
    paths: Paths,
    spoken: Spoken,
    /// What the daemon was told of the peer: boot nonce, address on the FT VLAN, MAC address.
    told_peer: Option<(u64, Ipv6Addr, [u8; 6])>,
    /// And of its lease.
    told_lease: Option<Duration>,
    /// Who else speaks on the paths.
    foreigners: Foreigners,
    /// The last message accepted, ns; while one is being handled: the one before.
    heard_ns: Option<u64>,
    /// Lateness of the timer at hand, ns.
    late_ns: u64,
    status: FtStatus,
    ended: bool,
    /// When the first of the messages that ask for the hold at hand was sent: a reading before it, ns.
    asked_ns: Option<u64>,
    /// Rests with its gate open until then, ns.
    parked_until: Option<u64>,
    /// What an earlier daemon of this node promised its peer, ns.
    promised_until: u64,
    /// With a witness: what it and the peer let this node do.
    votes: Option<Votes>,
    /// A heartbeat was due in this turn.
    beaten: bool,
}

impl Session {
    /// A session that has not started. `vlan` is only shown. Until [`Session::alive`] tokio counts as stalled.
    #[must_use]
    pub fn new(params: Params, vlan: u16, controls: Controls, alive_timeout: Duration) -> Self {
        let election = Election::new(params);
        Self {
            status: report::blank(&election, vlan),
            election,
            controls,
            deadlines: [None; Timer::ALL.len()],
            lease_end: None,
            shut_ns: None,
            lapsed: None,
            forwardable: false,
            able: false,
            alive_until: 0,
            alive_timeout: nanos(alive_timeout),
            effects: Vec::with_capacity(32),
            keyring: Keyring::default(),
            paths: Paths::new(&[vlan], nanos(params.failover)),
            spoken: Spoken::new(if controls.old_wire { OLDEST } else { NEWEST }),
            told_peer: None,
            told_lease: None,
            foreigners: Foreigners::default(),
            heard_ns: None,
            late_ns: 0,
            ended: false,
            asked_ns: None,
            parked_until: None,
            promised_until: 0,
            votes: None,
            beaten: false,
        }
    }

    /// The same, which claims nothing before `until_ns` unless the peer says that it may: an earlier daemon of this node
    /// promised so.
    #[must_use]
    pub const fn with_promise(mut self, until_ns: u64) -> Self {
        self.promised_until = until_ns;
        self
    }

    /// The same with keys, and with paths on these VLANs besides the FT VLAN.
    #[must_use]
    pub fn with_paths(mut self, keyring: Keyring, vlans: &[u16]) -> Self {
        let all: Vec<u16> = std::iter::once(self.status.vlan).chain(vlans.iter().copied()).collect();
        self.paths = Paths::new(&all, nanos(self.election.params().failover));
        self.keyring = keyring;
        self
    }

    /// Other configured keys.
    pub fn set_keys(&mut self, keys: &FtKeys) {
        self.keyring = self.keyring.with(keys);
        self.election.require_proof(keys.sign.is_some());
    }

    /// Takes part from now on.
    pub fn start(&mut self, now: u64, port: &mut impl Port) {
        self.feed(Event::Start, now, port);
        self.poll(now, port);
    }

    /// The negative controls in force.
    #[must_use]
    pub const fn controls(&self) -> Controls {
        self.controls
    }

    /// The machine, for checkers.
    #[must_use]
    pub const fn election(&self) -> &Election {
        &self.election
    }

    /// What the session's future hangs on besides its machine: for each [`Timer`] in how many ns it is due, in how many the
    /// lease ends, how many ago a hold was asked for, and whether the daemon says that it can forward. For checkers; counters have no part in it.
    #[must_use]
    pub fn outlook(&self, now: u64) -> ([Option<i64>; Timer::ALL.len()], [Option<i64>; 3], bool) {
        let left = |at: u64| at.cast_signed().wrapping_sub(now.cast_signed());
        // A promise that ends before any listening that begins now is none.
        let waited = now.saturating_add(nanos(self.election.params().own_silence()));
        let promised = Some(self.promised_until).filter(|until| *until > waited);
        let moments = [self.lease_end, self.asked_ns, promised].map(|moment| moment.map(left));
        (self.deadlines.map(|deadline| deadline.map(left)), moments, self.forwardable)
    }

    /// Which versions it speaks, for checkers.
    #[must_use]
    pub const fn spoken(&self) -> &Spoken {
        &self.spoken
    }

    /// Has left: the driver may end.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// When [`Session::wake`] is due, ns; `None` once it has ended.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        let stall = self.able.then_some(self.alive_until);
        let asks = self.votes.as_ref().and_then(Votes::due);
        self.deadlines.iter().copied().flatten().chain(stall).chain(asks).min().filter(|_| !self.ended)
    }

    /// A datagram has come.
    pub fn receive(&mut self, datagram: &[u8], arrival: Arrival, now: u64, port: &mut impl Port) {
        self.catch_up(now, port);
        self.take(datagram, arrival, now, port);
        self.poll(now, port);
    }

    fn take(&mut self, datagram: &[u8], arrival: Arrival, now: u64, port: &mut impl Port) {
        self.status.counters.packets += 1;
        let Some((message, envelope)) = self.open(datagram, arrival, now) else {
            self.status.counters.dropped += 1;
            return;
        };
        let (nonce, newest) = self.election.last_accepted();
        let is_known = message.nonce == nonce && message.sequence <= newest;
        let is_first = self.paths.is_first(arrival.path, &message);
        if is_known && !is_first && message.sequence == newest && self.spoken.is_said_again(envelope.newest) {
            self.status.counters.copies += 1;
            return;
        }
        if is_known && is_first {
            // Another path was faster.
            self.status.counters.copies += 1;
        } else {
            if let Some(votes) = &mut self.votes {
                votes.peer_said(&message, &self.election);
            }
            let before = self.status.counters;
            self.feed(Event::Received(message), now, port);
            if self.status.counters.dropped != before.dropped {
                self.note_dropped(&before, &message, arrival, now);
                return;
            }
            self.status.counters.kind_mut(message.kind).received += 1;
            self.heard_ns = Some(now);
            self.spoken.heard(message.nonce, envelope.newest);
            if message.hold.is_zero() {
                self.promised_until = 0;
            }
        }
        self.paths.received(arrival.path, &message, &envelope, now);
        let lease = self.election.peer_lease();
        if self.told_lease != Some(lease) && port.event(FtEvent::PeerLease(lease)) {
            self.told_lease = Some(lease);
        }
        if let (0, IpAddr::V6(source)) = (arrival.path, arrival.source) {
            self.keyring.learn(message.group, message.nonce, envelope.public);
            self.meet(&message, source, port);
        }
    }

    /// What a datagram says, if it was sent on this link by one who has the key.
    fn open(&mut self, datagram: &[u8], arrival: Arrival, now: u64) -> Option<(Message, Envelope)> {
        let counters = &mut self.status.counters;
        // RFC 5082: what still has 255 was sent on this link.
        if arrival.hops != Some(255) {
            counters.hop_limit += 1;
            return None;
        }
        let (message, envelope, signed, tag) = match envelope::open(datagram) {
            Ok((_, envelope, ..)) if self.spoken.own() < envelope.newest && self.controls.old_wire => {
                counters.decode.record(DecodeError::Version);
                return None;
            }
            Ok(opened) => opened,
            Err(error) => {
                counters.decode.record(error);
                return None;
            }
        };
        match self.keyring.check(signed, tag, arrival.path == 0) {
            Ok(()) => Some((message, envelope)),
            Err(AuthError::Missing) => {
                counters.unauthenticated += 1;
                self.note_foreign(&message, arrival, Why::Unauthenticated, now);
                None
            }
            Err(AuthError::Wrong) => {
                counters.wrong_key += 1;
                self.note_foreign(&message, arrival, Why::Key, now);
                None
            }
        }
    }

    /// Tells the daemon where on the FT VLAN the peer is, when that is new.
    fn meet(&mut self, message: &Message, source: Ipv6Addr, port: &mut impl Port) {
        let peer = (message.nonce, source, message.mac);
        let is_heard = self.election.peer().is_some_and(|peer| peer.nonce == message.nonce);
        if is_heard && self.told_peer.replace(peer) != Some(peer) {
            let Message { mac, node, nonce, .. } = *message;
            self.tell(FtEvent::Peer { address: source, mac, node, nonce }, port);
        }
    }

    /// Fires what is due. A thread that was held up since it read the clock at `now` says nothing on the strength of it.
    pub fn wake(&mut self, now: u64, port: &mut impl Port) {
        self.catch_up(now.max(port.now_ns()), port);
        self.tell_able(now, port);
        while let Some((timer, deadline)) = self.due(now) {
            self.fire(timer, deadline, now, port);
        }
        self.poll(now, port);
    }

    /// The daemon's word. [`Event::Forwardable`] holds only while tokio lives.
    pub fn command(&mut self, event: Event, now: u64, port: &mut impl Port) {
        self.catch_up(now, port);
        if let Event::Forwardable(able) = event {
            self.forwardable = able;
            self.tell_able(now, port);
        } else {
            self.feed(event, now, port);
        }
        self.poll(now, port);
    }

    /// tokio lives.
    pub fn alive(&mut self, now: u64, port: &mut impl Port) {
        self.catch_up(now, port);
        self.alive_until = now.saturating_add(self.alive_timeout);
        self.tell_able(now, port);
        self.poll(now, port);
    }

    fn due(&self, now: u64) -> Option<(Timer, u64)> {
        Timer::ALL
            .into_iter()
            .filter_map(|timer| Some((timer, self.deadlines[timer as usize]?)))
            .filter(|&(_, deadline)| deadline <= now)
            .min_by_key(|&(_, deadline)| deadline)
    }

    /// Before anything else: what has waited in a queue while the thread was away may long be untrue, so the machine
    /// learns first that it was away. A heartbeat timer is always armed, hence no absence of more than a heartbeat and
    /// half a failover time stays unnoticed, and in less a peer that left cannot have come back and claimed.
    fn catch_up(&mut self, now: u64, port: &mut impl Port) {
        self.tell_granted(now, port);
        if let Some(end) = self.lease_end.take_if(|end| now >= *end) {
            // The heartbeat that should have renewed it is armed anew by what follows, so its lateness is noted here.
            let late_ns = self.due(now).map_or(0, |(_, deadline)| now - deadline);
            self.shut_ns = Some(end);
            self.expire(Event::LeaseExpired, late_ns, now, port);
            self.shut_ns = None;
        }
        let too_late = self.too_late();
        while let Some((timer, deadline)) = self.due(now).filter(|&(_, deadline)| now - deadline > too_late) {
            self.fire(timer, deadline, now, port);
        }
    }

    fn expire(&mut self, event: Event, late_ns: u64, now: u64, port: &mut impl Port) {
        self.note_lateness(late_ns);
        self.late_ns = late_ns;
        self.feed(event, now, port);
        self.late_ns = 0;
    }

    /// Half the failover time: what was true so long ago may not be any more.
    fn too_late(&self) -> u64 {
        nanos(self.election.params().failover) / 2
    }

    fn fire(&mut self, timer: Timer, deadline: u64, now: u64, port: &mut impl Port) {
        self.deadlines[timer as usize] = None;
        self.beaten |= timer == Timer::Heartbeat;
        self.late_ns = now - deadline;
        self.note_lateness(self.late_ns);
        if self.late_ns > self.too_late() {
            self.feed(Event::Late(timer), now, port);
        } else {
            self.feed(Event::Timer(timer), now, port);
        }
        self.late_ns = 0;
    }

    fn tell_able(&mut self, now: u64, port: &mut impl Port) {
        let able = self.forwardable && now < self.alive_until;
        if able != self.able {
            self.able = able;
            self.feed(Event::Forwardable(able), now, port);
        }
    }

    fn feed(&mut self, event: Event, now: u64, port: &mut impl Port) {
        let before = (self.election.state(), self.election.term());
        let mut effects = std::mem::take(&mut self.effects);
        self.election.on_event(event, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect, before, now, port);
        }
        self.effects = effects;
        if let Some(event) = self.lapsed.take() {
            let again = port.now_ns();
            self.shut_ns = self.lease_end.take().filter(|end| *end <= again);
            self.expire(event, again.saturating_sub(now), again, port);
            self.shut_ns = None;
        }
    }

    fn carry_out(&mut self, effect: Effect, before: (State, u64), now: u64, port: &mut impl Port) {
        if self.ended {
            return;
        }
        if self.is_too_late_for(&effect, before.0, now, port) {
            return;
        }
        match effect {
            Effect::Send(message) => {
                self.send(&message, now, port);
                if self.controls.hold_unheard && !message.hold.is_zero() {
                    self.park(true, port);
                }
            }
            Effect::Arm(timer, time) => {
                let at = now.saturating_add(nanos(time));
                let at = if timer == Timer::Listen { at.max(self.promise(now)) } else { at };
                self.deadlines[timer as usize] = Some(at);
            }
            Effect::Disarm(timer) => self.deadlines[timer as usize] = None,
            Effect::Gate(state) => self.set_gate(state, now, port),
            Effect::Adopt => {
                port.adopt(now);
                self.tell(FtEvent::Adopted { at_ns: now }, port);
            }
            Effect::Announce(reason) if !self.controls.announce_off => {
                port.announce();
                self.tell(FtEvent::Announce(reason), port);
            }
            Effect::Announce(_) => {}
            Effect::StopAnnounce => self.tell(FtEvent::StopAnnounce, port),
            Effect::Became(state, reason) => self.record_change(state, reason, before, now, port),
            Effect::PeerUp => port.peer_mac(self.election.peer().map_or([0; 6], |peer| peer.mac)),
            Effect::PeerLost => {
                self.told_peer = None;
                self.tell(FtEvent::PeerLost, port);
            }
            Effect::Forced(outcome) => {
                self.status.last_forced = Some(outcome);
                port.forced(outcome);
            }
            Effect::NotHeld(refusal) => port.not_held(refusal),
            Effect::Park { granted } => self.park(granted, port),
            Effect::Promise(time) => {
                port.promised(now.saturating_add(nanos(time)));
            }
            Effect::Overlap => self.record_overlap(now),
            Effect::Dropped(cause) => self.record_drop(cause),
            Effect::End => {
                self.ended = true;
                // Else an orderly end would always leave something behind. What an earlier daemon promised stands until the peer has spoken.
                let waited = now.saturating_add(nanos(self.election.params().own_silence()));
                if !self.election.is_peer_slower() && self.promised_until <= waited {
                    port.promised(now);
                }
            }
        }
    }

    /// Until when nothing is claimed, as an earlier daemon promised, however often this one begins to listen. None is longer than
    /// [`PROMISE_MAX`], whatever was left.
    fn promise(&self, now: u64) -> u64 {
        self.promised_until.min(now.saturating_add(nanos(PROMISE_MAX)))
    }

    fn set_gate(&mut self, state: GateState, now: u64, port: &mut impl Port) {
        let lease_end = match &self.votes {
            Some(votes) if state == GateState::Open => votes.until(),
            _ => now.saturating_add(nanos(self.election.params().lease)),
        };
        self.lease_end = matches!(state, GateState::Open | GateState::RelayIn).then_some(lease_end);
        port.gate(match state {
            GateState::Closed => Gate::CLOSED,
            GateState::RelayOut if self.controls.relay_off => Gate::CLOSED,
            GateState::RelayOut => Gate::new(state, now.saturating_add(nanos(RELAY))),
            GateState::Open | GateState::RelayIn if self.controls.lease_off => Gate::new(state, u64::MAX),
            GateState::Open | GateState::RelayIn => Gate::new(state, lease_end),
        });
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
