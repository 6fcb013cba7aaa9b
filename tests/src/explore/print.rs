//! Which states of the model are one and the same: those that differ only in when it is, and in how high terms and
//! sequence numbers have risen.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use csm_common::gate::GateState;
use csm_user::ft::election::{Election, silence};
use csm_user::ft::wire::{Kind, Message, OLDEST};
use csm_user::ft::witness::grants::Grants;
use csm_user::ft::witness::votes::{Outlook, Votes};
use csm_user::ft::witness::wire::Word;

use crate::explore::host::{Host, Mail, Versions};
use crate::explore::world::{Setting, World};

/// What a witness knows of a group, with small numbers.
type GroupPrint = (u64, u64, u64, Vec<u64>);

/// What the witness will do hangs on. Requests come at once, so their numbers always rise.
fn print(grants: &Grants, now: u64, small: &Small) -> (u64, u64, Vec<GroupPrint>) {
    let (nonce, settled, groups) = grants.outlook(now);
    let groups =
        groups.into_iter().map(|group| (group.holder, group.left, small.term(group.term), group.seen));
    (nonce, settled, groups.collect())
}

/// A running host's boot, and its side of the witness.
fn own_votes(host: &Host) -> Option<(u64, &Votes)> {
    let session = host.session.as_ref()?;
    Some((session.election().params().nonce, session.votes()?))
}

/// The numbers of the answers that are on their way to a host.
fn words_to(world: &World, host: usize) -> Vec<u64> {
    let letters = world.letters.iter().filter(|letter| letter.to == host).map(|letter| &letter.mail);
    let mails = letters.chain(&world.hosts[host].inbox);
    mails
        .filter_map(|mail| match mail {
            Mail::Witness(word) => Some(word.number),
            Mail::Peer(..) => None,
        })
        .collect()
}

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
            let mails = world.letters.iter().map(|letter| &letter.mail).chain(waiting);
            let messages = mails.filter_map(|mail| match mail {
                Mail::Peer(message, _) => Some(message),
                Mail::Witness(_) => None,
            });
            messages.chain(known)
        };
        let witness = world.witness.as_ref().map(|grants| grants.outlook(0).2);
        let told = witness.iter().flatten().map(|group| group.term);
        let terms = machines().map(Election::term).chain(messages().map(|message| message.term)).chain(told);
        let own = machines().map(|machine| machine.message(Kind::Heartbeat).claimed);
        let claimed = messages().map(|message| message.claimed).chain(own).filter(|&term| term > 0);
        let terms = terms.chain(claimed);
        let mut sequences: Vec<_> = messages().map(|message| (message.nonce, message.sequence)).collect();
        sequences.extend(messages().map(|message| (message.peer_nonce, message.held)));
        sequences.extend(messages().map(|message| (message.peer_nonce, message.heard)));
        for host in &world.hosts {
            let Some((nonce, votes)) = own_votes(host) else { continue };
            sequences.extend(votes.outlook(0).sent.into_iter().map(|(number, _)| (nonce, number)));
        }
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
    fn message(&self, message: &Message) -> [u64; 8] {
        self.letter(message, (OLDEST, OLDEST))
    }

    /// The same on its way, in these versions.
    fn letter(&self, message: &Message, (version, newest): Versions) -> [u64; 8] {
        let Message {
            kind, state, forwardable, eligible, preempt, complete, hears_you, offer, keeper, ..
        } = *message;
        let flags = [forwardable, eligible, preempt, complete, hears_you, offer, keeper];
        let said = flags.into_iter().fold(0, |word, flag| word << 1 | u64::from(flag));
        [
            u64::from(version) << 40
                | u64::from(newest) << 32
                | said << 16
                | (kind as u64) << 8
                | state as u64,
            message.nonce,
            message.peer_nonce,
            self.term(message.term),
            self.sequence(message.nonce, message.sequence),
            self.sequence(message.peer_nonce, message.held) << 1 | u64::from(!message.hold.is_zero()),
            self.sequence(message.peer_nonce, message.heard),
            if message.claimed == 0 { u64::MAX } else { self.term(message.claimed) },
        ]
    }
}

impl Setting {
    /// Hashes all that tells `world` from another.
    pub fn fingerprint<H: Hasher>(&self, world: &World, hasher: &mut H) {
        let small = Small::of(world);
        for (index, host) in world.hosts.iter().enumerate() {
            let numbers = words_to(world, index);
            self.hash_host(host, self.now(world, index), &small, &numbers, hasher);
        }
        let mut letters: Vec<_> = world
            .letters
            .iter()
            .map(|letter| {
                (letter.to, letter.held, self.mail(&letter.mail, self.now(world, letter.to), &small))
            })
            .collect();
        letters.sort_unstable();
        letters.hash(hasher);
        let witness = world.witness.as_ref().map(|grants| print(grants, self.witness_now(world), &small));
        (witness, world.cut_witness).hash(hasher);
        (world.cut, world.faults, world.glitches, world.restarts, world.boots).hash(hasher);
        let mut ghost = world.ghost.clone();
        ghost.known_term = ghost.known_term.map(|term| small.term(term));
        ghost.hash(hasher);
    }

    fn mail(&self, mail: &Mail, now: u64, small: &Small) -> [u64; 8] {
        match mail {
            Mail::Peer(message, versions) => small.letter(message, *versions),
            Mail::Witness(Word { kind, nonce, number, witness, lease, holder, term, .. }) => {
                let age = now.saturating_sub(*number);
                let lease = u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX);
                [u64::MAX - *kind as u64, *nonce, age, *witness, lease, *holder, small.term(*term), 0]
            }
        }
    }

    /// `numbers`: of the answers of the witness that are on their way to the host.
    fn hash_host<H: Hasher>(&self, host: &Host, now: u64, small: &Small, numbers: &[u64], hasher: &mut H) {
        if let Some(machine) = host.election() {
            machine.hash_outlook(
                |term| small.term(term),
                |nonce, number| small.sequence(nonce, number),
                |message| small.message(message),
                hasher,
            );
        }
        host.session.as_ref().map(|session| session.outlook(now)).hash(hasher);
        // One that speaks the oldest version alone speaks it whatever it hears.
        host.session
            .as_ref()
            .map(|session| session.spoken())
            .filter(|spoken| spoken.own() > OLDEST)
            .hash(hasher);
        if let Some((nonce, votes)) = own_votes(host) {
            let Outlook { due, leases, asked_last, sent, requests: own, known: [witness, term] } =
                votes.outlook(now);
            let sent: Vec<_> =
                sent.into_iter().map(|(number, age)| (small.sequence(nonce, number), age)).collect();
            // A request is known by its number, and the next one's is above the last: only their order counts.
            let mut known: Vec<u64> = numbers.iter().chain(&own).copied().collect();
            known.sort_unstable();
            known.dedup();
            let ranks = own.map(|number| known.binary_search(&number));
            (due, leases, asked_last).hash(hasher);
            (sent, ranks, own[1] >= now, witness, small.term(term), votes.is_granted(now)).hash(hasher);
        }
        // A promise that ends before any listening that begins now is none.
        let (failover, lease) = (Duration::from_nanos(self.failover()), self.lease());
        let waited = u64::try_from(silence(failover, lease).as_nanos()).unwrap_or(u64::MAX);
        (host.resting.is_some(), host.promise.saturating_sub(now.saturating_add(waited))).hash(hasher);
        let gate = host.gate.state_at(now);
        if gate != GateState::Closed {
            let lease = host.lease_message.map(|(nonce, number)| (nonce, small.sequence(nonce, number)));
            // A gate that never shuts is as far from its end at any time.
            let left = (host.gate.deadline_ns() < u64::MAX / 2).then(|| host.gate.deadline_ns() - now);
            (gate, left, lease, host.holds).hash(hasher);
        }
        let inbox: Vec<_> = host.inbox.iter().map(|mail| self.mail(mail, now, small)).collect();
        (inbox, host.stopped, host.leaving, host.able, host.eligible).hash(hasher);
    }
}
