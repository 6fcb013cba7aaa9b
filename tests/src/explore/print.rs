//! Which states of the model are one and the same: those that differ only in when it is, and in how high terms and
//! sequence numbers have risen.

use std::hash::{Hash, Hasher};

use csm_common::gate::GateState;
use csm_user::ft::election::Election;
use csm_user::ft::wire::Message;

use crate::explore::host::Host;
use crate::explore::world::{Setting, World};

/// How a state's numbers are made small: terms from the lowest in it, sequence numbers by their rank within a boot.
struct Small {
    term: u64,
    sequences: Vec<(u64, u64)>,
}

impl Small {
    fn of(world: &World) -> Self {
        let machines = || world.hosts.iter().filter_map(Host::election);
        let messages = || {
            let waiting = world.hosts.iter().flat_map(|host| &host.inbox);
            let known = machines().filter_map(Election::peer);
            world.letters.iter().map(|letter| &letter.message).chain(waiting).chain(known)
        };
        let terms = machines().map(Election::term).chain(messages().map(|message| message.term));
        let mut sequences: Vec<_> = messages().map(|message| (message.nonce, message.sequence)).collect();
        sequences.extend(messages().map(|message| (message.peer_nonce, message.held)));
        sequences.extend(machines().flat_map(Election::accepted));
        sequences.extend(world.hosts.iter().filter_map(|host| host.lease_message));
        sequences.sort_unstable();
        sequences.dedup();
        Self { term: terms.min().unwrap_or(0), sequences }
    }

    const fn term(&self, term: u64) -> u64 {
        term.saturating_sub(self.term)
    }

    fn sequence(&self, nonce: u64, sequence: u64) -> u64 {
        let lower = self.sequences.iter().filter(|&&(boot, number)| boot == nonce && number < sequence);
        lower.count() as u64
    }

    /// What a message says, but for what every message of its boot says.
    fn message(&self, message: &Message) -> [u64; 6] {
        let Message {
            kind, state, forwardable, eligible, preempt, complete, hears_you, offer, keeper, ..
        } = *message;
        let flags = [forwardable, eligible, preempt, complete, hears_you, offer, keeper];
        let said = flags.into_iter().fold(0, |word, flag| word << 1 | u64::from(flag));
        [
            said << 16 | (kind as u64) << 8 | state as u64,
            message.nonce,
            message.peer_nonce,
            self.term(message.term),
            self.sequence(message.nonce, message.sequence),
            self.sequence(message.peer_nonce, message.held) << 1 | u64::from(!message.hold.is_zero()),
        ]
    }
}

impl Setting {
    /// Hashes all that tells `world` from another.
    pub fn fingerprint<H: Hasher>(&self, world: &World, hasher: &mut H) {
        let small = Small::of(world);
        for (index, host) in world.hosts.iter().enumerate() {
            self.hash_host(host, self.now(world, index), &small, hasher);
        }
        let mut letters: Vec<_> = world
            .letters
            .iter()
            .map(|letter| (letter.to, letter.held, small.message(&letter.message)))
            .collect();
        letters.sort_unstable();
        letters.hash(hasher);
        (world.cut, world.faults, world.glitches, world.restarts, world.boots).hash(hasher);
        let mut ghost = world.ghost.clone();
        ghost.known_term = ghost.known_term.map(|term| small.term(term));
        ghost.hash(hasher);
    }

    fn hash_host<H: Hasher>(&self, host: &Host, now: u64, small: &Small, hasher: &mut H) {
        if let Some(machine) = host.election() {
            machine.hash_outlook(
                |term| small.term(term),
                |nonce, number| small.sequence(nonce, number),
                |message| small.message(message),
                hasher,
            );
        }
        host.session.as_ref().map(|session| session.outlook(now)).hash(hasher);
        (host.resting.is_some(), host.promise.saturating_sub(now)).hash(hasher);
        let gate = host.gate.state_at(now);
        if gate != GateState::Closed {
            let lease = host.lease_message.map(|(nonce, number)| (nonce, small.sequence(nonce, number)));
            // A gate that never shuts is as far from its end at any time.
            let left = (host.gate.deadline_ns() < u64::MAX / 2).then(|| host.gate.deadline_ns() - now);
            (gate, left, lease, host.holds).hash(hasher);
        }
        let inbox: Vec<_> = host.inbox.iter().map(|message| small.message(message)).collect();
        (inbox, host.stopped, host.leaving, host.able, host.eligible).hash(hasher);
    }
}
