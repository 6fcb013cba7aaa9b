//! A node's side of the witness: what it has sent that its peer may yet speak for, until when peer and witness do, and
//! what to ask. Pure.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::ft::State;
use crate::ft::election::{Election, Params};
use crate::ft::keyring::Keyring;
use crate::ft::wire::Message;
use crate::ft::witness::wire::{self, DATAGRAM, Kind, Word};

/// Messages that the peer has not spoken of yet. More than are sent in a lease.
const SENT_MAX: usize = 64;

/// What `show module csm N ft` says of the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// It answered within the failover time.
    pub answers: bool,
    /// Since its last answer; `None`: there was none.
    pub age: Option<Duration>,
    /// How long this node's grant lasts yet; `None`: it has none.
    pub granted: Option<Duration>,
    /// How long this node's gate may stay open by the peer's word; `None`: it may not.
    pub spoken_for: Option<Duration>,
    /// Who had the grant by its last answer: 0 nobody, else a node.
    pub holder: u64,
    /// The peer is configured with a witness too; `None`: no peer is heard.
    pub peer_has_one: Option<bool>,
    /// Requests handed to the kernel.
    pub sent: u64,
    /// Not taken by it.
    pub send_errors: u64,
    /// Answers that counted.
    pub received: u64,
    /// Answers that did not: late, of another, or without this group's key.
    pub dropped: u64,
    /// Of the answers, refusals.
    pub refused: u64,
}

/// What is known at a node.
#[derive(Clone, Debug)]
pub struct Votes {
    status: WitnessStatus,
    patience: u64,
    /// Own messages by number, and when they were sent, ns: those newer than the last one that the peer spoke of.
    sent: VecDeque<(u64, u64)>,
    /// The gate may be open until then by the peer's word, ns.
    peer_until: u64,
    /// The same by the witness's.
    grant_until: u64,
    /// Grants of earlier requests than this one are given up.
    asked_from: u64,
    /// Number of the last request, and whether it asked.
    last: (u64, bool),
    /// Number of the last request that was answered.
    answered: u64,
    /// Boot nonce of the witness.
    witness: u64,
    heard_ns: Option<u64>,
    /// The highest term that the witness knows.
    pub(in crate::ft) term: u64,
    /// When to ask next, if nothing gives cause before, ns.
    due: Option<u64>,
    /// The machine was told that it has the grant.
    pub(in crate::ft) told: bool,
}

impl Votes {
    /// Of a node with a witness at `address`; `patience`: without an answer for so long the witness counts as silent.
    #[must_use]
    pub fn new(address: SocketAddr, patience: Duration) -> Self {
        Self {
            status: WitnessStatus {
                address,
                answers: false,
                age: None,
                granted: None,
                spoken_for: None,
                holder: 0,
                peer_has_one: None,
                sent: 0,
                send_errors: 0,
                received: 0,
                dropped: 0,
                refused: 0,
            },
            patience: nanos(patience),
            sent: VecDeque::with_capacity(SENT_MAX),
            peer_until: 0,
            grant_until: 0,
            asked_from: 0,
            last: (0, false),
            answered: 0,
            witness: 0,
            heard_ns: None,
            term: 0,
            due: None,
            told: false,
        }
    }

    /// Until when the gate may be open, ns.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.peer_until.max(self.grant_until)
    }

    /// The witness's grant is in force at `now`.
    #[must_use]
    pub const fn is_granted(&self, now: u64) -> bool {
        now < self.grant_until
    }

    /// When [`Votes::ask`] is to be called, whatever happens, ns.
    #[must_use]
    pub const fn due(&self) -> Option<u64> {
        self.due
    }

    /// This node's message with this number is sent at `now`.
    pub fn message_sent(&mut self, number: u64, now: u64, params: &Params) {
        let lease = nanos(params.lease);
        while self.sent.front().is_some_and(|&(_, at)| at.saturating_add(lease) <= now) {
            self.sent.pop_front();
        }
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((number, now));
    }

    /// The gate may be open until `until`, for the peer holds.
    pub fn held(&mut self, until: u64) {
        self.peer_until = self.peer_until.max(until);
    }

    /// What the peer's `message` says of this node's: one that is not active waits for the end of the lease that began with the
    /// message it has heard. So does its next boot, for as long as its own lease is.
    pub fn peer_said(&mut self, message: &Message, election: &Election) {
        let params = election.params();
        let is_peer = message.group == params.group
            && message.node != params.node
            && election.peer().is_none_or(|peer| peer.node == message.node);
        let is_word = is_peer && message.peer_nonce == params.nonce && message.state != State::Active;
        let Some(at) = self.sent.iter().position(|&(number, _)| number == message.heard).filter(|_| is_word)
        else {
            return;
        };
        let (_, sent) = self.sent[at];
        self.sent.drain(..=at);
        self.peer_until = self.peer_until.max(sent.saturating_add(nanos(params.lease.min(message.lease))));
    }

    /// What to ask at `now`, if anything: with each heartbeat (`beat`), when what is wanted has changed, and again after a refusal.
    pub fn ask(
        &mut self,
        beat: bool,
        now: u64,
        election: &Election,
        keyring: &Keyring,
    ) -> Option<[u8; DATAGRAM]> {
        let wants = election.wants_grant();
        let is_due = self.due.is_some_and(|due| due <= now);
        let is_first = self.last.0 == 0;
        if !(is_first || beat || is_due || wants != self.last.1) {
            return None;
        }
        let params = election.params();
        let number = now.max(self.last.0 + 1);
        if !wants {
            // Whatever the answer to an earlier request: this one gives it up.
            (self.grant_until, self.asked_from) = (0, number);
        }
        self.last = (number, wants);
        let is_waiting = wants && election.state() != State::Active;
        self.due = is_waiting.then(|| now.saturating_add(nanos(params.retry())));
        let word = Word {
            kind: if wants { Kind::Ask } else { Kind::Query },
            group: params.group,
            holds: self.is_granted(now),
            node: params.node,
            nonce: params.nonce,
            number,
            witness: self.witness,
            lease: params.lease,
            holder: 0,
            term: election.term(),
        };
        Some(wire::seal(&word, keyring))
    }

    /// The kernel took a request, or not.
    pub const fn request_sent(&mut self, taken: bool) {
        if taken {
            self.status.sent += 1;
        } else {
            self.status.send_errors += 1;
        }
    }

    /// A datagram that is no answer has come.
    pub const fn dropped(&mut self) {
        self.status.dropped += 1;
    }

    /// The witness has answered; one who has the key has said so.
    pub fn answered(&mut self, word: &Word, now: u64, params: &Params) {
        let Word { kind, group, node, nonce, number, .. } = *word;
        let is_mine = (group, node, nonce) == (params.group, params.node, params.nonce);
        let is_answer = matches!(kind, Kind::State | Kind::Grant | Kind::Refusal);
        if !is_mine || !is_answer || number <= self.answered || number > self.last.0 {
            return self.dropped();
        }
        (self.answered, self.heard_ns) = (number, Some(now));
        self.status.received += 1;
        self.status.holder = word.holder;
        self.term = word.term;
        let is_stranger = std::mem::replace(&mut self.witness, word.witness) != word.witness;
        match kind {
            // The number is the time at which it was asked, so the lease runs from before the witness's.
            Kind::Grant if number > self.asked_from => {
                let end = number.saturating_add(nanos(word.lease.min(params.lease)));
                self.grant_until = self.grant_until.max(end);
                self.due = None;
            }
            // It has not listened yet: at once again.
            Kind::Refusal if is_stranger => self.due = Some(now),
            Kind::Refusal if self.due.is_some() => {
                self.status.refused += 1;
                let again = now.saturating_add(nanos(word.lease.max(Duration::from_millis(1))));
                self.due = self.due.map(|due| due.min(again));
            }
            Kind::Refusal => self.status.refused += 1,
            Kind::State | Kind::Grant | Kind::Query | Kind::Ask => {}
        }
    }

    /// For `show`.
    #[must_use]
    pub fn status(&self, now: u64, election: &Election) -> WitnessStatus {
        let left = |until: u64| (until > now).then(|| Duration::from_nanos(until - now));
        let age = self.heard_ns.map(|heard| Duration::from_nanos(now.saturating_sub(heard)));
        WitnessStatus {
            answers: self.heard_ns.is_some_and(|heard| now.saturating_sub(heard) < self.patience),
            age,
            granted: left(self.grant_until),
            spoken_for: left(self.peer_until),
            peer_has_one: election.peer().map(|peer| peer.witness),
            ..self.status
        }
    }

    /// What this node's future hangs on. For checkers.
    #[must_use]
    pub fn outlook(&self, now: u64) -> Outlook {
        let left = |until: u64| until.saturating_sub(now);
        Outlook {
            due: self.due.map(left),
            leases: [left(self.peer_until), left(self.grant_until)],
            asked_last: self.last.1,
            sent: self.sent.iter().map(|&(number, at)| (number, now.saturating_sub(at))).collect(),
            requests: [self.asked_from, self.last.0, self.answered],
            known: [self.witness, self.term],
        }
    }
}

/// See [`Votes::outlook`]; times are in ns from then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outlook {
    /// When it asks.
    pub due: Option<u64>,
    /// What is left of the peer's word, and of the witness's grant.
    pub leases: [u64; 2],
    /// Whether it asked with its last request.
    pub asked_last: bool,
    /// The numbers of its messages, with their ages.
    pub sent: Vec<(u64, u64)>,
    /// The numbers of its requests.
    pub requests: [u64; 3],
    /// The witness, and the term, that it knows.
    pub known: [u64; 2],
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
