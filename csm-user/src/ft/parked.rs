//! A session at rest, on its way from one process of csmd to the next. Pure.
//!
//! It goes through memory that has no name and ends with the process, for it holds what the boot's key was made of.
//!
//! ```text
//! offset size                                        offset size
//!   0     8   "CSMpark1"                              128    64   how far earlier boots had come
//!   8     8   end of the gate's lease, CLOCK_MONOTONIC  192    8   last change of the role, CLOCK_MONOTONIC
//!  16     8   node                                    200     8   the same, wall clock
//!  24     8   boot nonce                              208    32   secret of this boot
//!  32     8   term                                    240     8   peer's boot that a key was agreed with, 0: none
//!  40     8   sequence                                248    32   its public key
//!  48    16   the peer's boot and sequence last taken 280     6   end of damping's window, CLOCK_MONOTONIC, ms
//!  64    32   boots of the peer that are over         286     1   how often the role came back by preemption
//!                                                     287     1   1: a message of the peer follows, 3: one, and tracking stands
//!                                                                 against this node, 0: none, and nothing came back
//!  96    32   VLANs on which the port's own MAC       288   136   the message
//!             address is used, two octets each, 0: none
//! ```
//!
//! A node that is not active leaves no session, only what keeps it from taking the role back:
//!
//! ```text
//! offset size                                        offset size
//!   0     8   "CSMkept1"                               24     6   reserved
//!   8     8   node                                     30     1   how often the role came back by preemption
//!  16     8   the peer's boot to which the role was    31     1   1: moved although tracking stood against the peer; 2: damped
//!             moved by command, 0: it was not          32     8   when damping's timer is due, CLOCK_MONOTONIC, ns
//! ```

use zeroize::Zeroizing;

use crate::ft::election::{Rest, Restraint};
use crate::ft::keyring::PUBLIC;
use crate::ft::wire::{LENGTH, Message};

const MAGIC: u64 = u64::from_be_bytes(*b"CSMpark1");
const KEPT: u64 = u64::from_be_bytes(*b"CSMkept1");
/// Flags of what is kept.
const FIRM: u64 = 1;
const DAMPED: u64 = 2;
/// Flags of the word before the message.
const FOLLOWS: u64 = 1;
const AGAINST: u64 = 2;
const NS_IN_MS: u64 = 1_000_000;
/// Words before the secret.
const HEAD: usize = 26;
/// VLANs that a record has room for.
pub const OWN_MACS_MAX: usize = 16;
/// Octets of what is kept of a node that is not active.
pub const RESTRAINT: usize = 40;
/// Octets of a record.
pub const RECORD: usize = 8 * HEAD + 32 + 8 + PUBLIC + 8 + LENGTH;

/// What a session leaves to the one that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The gate is open until then, CLOCK_MONOTONIC, ns.
    pub until_ns: u64,
    /// The machine.
    pub rest: Rest,
    /// What will keep it from taking the role back when it has lost it.
    pub restraint: Restraint,
    /// Last change of the role, CLOCK_MONOTONIC, ns.
    pub changed_mono_ns: u64,
    /// The same, ns since 1970.
    pub changed_wall_ns: u64,
    /// VLANs on which the group's frames carry the port's own MAC address; 0: none.
    pub own_macs: [u16; OWN_MACS_MAX],
    /// Of this boot.
    pub secret: Zeroizing<[u8; 32]>,
    /// The peer's boot, and its public key.
    pub agreed: Option<(u64, [u8; PUBLIC])>,
}

/// What a session leaves when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Legacy {
    /// It rests, its gate open, and the next one goes on with it.
    pub parked: Option<Parked>,
    /// What keeps the node from taking the role back.
    pub restraint: Option<Restraint>,
}

impl Parked {
    /// As octets.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let Self { until_ns, rest, restraint, changed_mono_ns, changed_wall_ns, own_macs, secret, agreed } =
            self;
        let Rest { node, nonce, term, sequence, peer, last, retired, seen, eligible } = rest;
        let mut words = vec![MAGIC, *until_ns, *node, *nonce, *term, *sequence, last.0, last.1];
        words.extend(retired);
        words.extend(
            own_macs
                .as_chunks::<4>()
                .0
                .iter()
                .map(|four| four.iter().fold(0, |word, &vlan| word << 16 | u64::from(vlan))),
        );
        words.extend(seen.iter().flat_map(|&(boot, number)| [boot, number]));
        words.extend([*changed_mono_ns, *changed_wall_ns]);
        let mut record = Zeroizing::new(Vec::with_capacity(RECORD));
        record.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        record.extend(secret.iter());
        let (boot, public) = agreed.unwrap_or((0, [0; PUBLIC]));
        record.extend(boot.to_be_bytes());
        record.extend(public);
        // To one that hears nobody it makes no difference, and a program before this one takes all but 0 for a message.
        let follows = match (peer, eligible) {
            (None, _) => 0,
            (Some(_), true) => FOLLOWS,
            (Some(_), false) => FOLLOWS | AGAINST,
        };
        let came_back = match restraint.returns {
            0 => 0,
            returns => (restraint.until_ns / NS_IN_MS) << 16 | u64::from(returns) << 8,
        };
        let follows = if follows == 0 { 0 } else { follows | came_back };
        record.extend(follows.to_be_bytes());
        record.extend(peer.map_or([0; LENGTH], |peer| peer.encode()));
        record
    }

    /// From octets; `None` if they are none of this version.
    #[must_use]
    pub fn decode(record: &[u8]) -> Option<Self> {
        let (head, rest) = record.split_at_checked(8 * HEAD)?;
        let (secret, rest) = rest.split_first_chunk::<32>()?;
        let (boot, rest) = rest.split_first_chunk::<8>()?;
        let (public, rest) = rest.split_first_chunk::<PUBLIC>()?;
        let (has_peer, rest) = rest.split_first_chunk::<8>()?;
        let message: &[u8; LENGTH] = rest.try_into().ok()?;
        let mut words = [0; HEAD];
        for (word, octets) in words.iter_mut().zip(head.as_chunks().0) {
            *word = u64::from_be_bytes(*octets);
        }
        let pair = |at: usize| (words[at], words[at + 1]);
        let follows = u64::from_be_bytes(*has_peer);
        let peer = match follows & FOLLOWS {
            0 => None,
            _ => Some(Message::decode(message).ok()?),
        };
        let restraint = Restraint {
            node: words[2],
            returns: has_peer[6],
            until_ns: (follows >> 16) * NS_IN_MS,
            ..Restraint::default()
        };
        let rest = Rest {
            node: words[2],
            nonce: words[3],
            term: words[4],
            sequence: words[5],
            peer,
            last: pair(6),
            retired: [words[8], words[9], words[10], words[11]],
            seen: [pair(16), pair(18), pair(20), pair(22)],
            eligible: follows & AGAINST == 0,
        };
        let mut own_macs = [0; OWN_MACS_MAX];
        for (at, vlan) in own_macs.iter_mut().enumerate() {
            let octets = head.get(96 + 2 * at..)?.first_chunk()?;
            *vlan = u16::from_be_bytes(*octets);
        }
        let boot = u64::from_be_bytes(*boot);
        (words[0] == MAGIC && rest.node != 0 && rest.nonce != 0).then(|| Self {
            until_ns: words[1],
            rest,
            restraint,
            changed_mono_ns: words[24],
            changed_wall_ns: words[25],
            own_macs,
            secret: Zeroizing::new(*secret),
            agreed: (boot != 0).then_some((boot, *public)),
        })
    }
}

/// What is kept of a node that is not active, as octets.
#[must_use]
pub fn encode_restraint(restraint: &Restraint) -> [u8; RESTRAINT] {
    let Restraint { node, held, firm, returns, damped, until_ns } = *restraint;
    let flags = if firm { FIRM } else { 0 } | if damped { DAMPED } else { 0 };
    let words = [KEPT, node, held.unwrap_or(0), u64::from(returns) << 8 | flags, until_ns];
    let mut record = [0; RESTRAINT];
    for (octets, word) in record.as_chunks_mut().0.iter_mut().zip(words) {
        *octets = word.to_be_bytes();
    }
    record
}

/// From octets; `None` if they are none of this version.
#[must_use]
pub fn decode_restraint(record: &[u8]) -> Option<Restraint> {
    let record: &[u8; RESTRAINT] = record.try_into().ok()?;
    let mut words = [0; RESTRAINT / 8];
    for (word, octets) in words.iter_mut().zip(record.as_chunks().0) {
        *word = u64::from_be_bytes(*octets);
    }
    let [magic, node, held, counted, until_ns] = words;
    let [.., returns, flags] = counted.to_be_bytes();
    let is = |flag: u64| u64::from(flags) & flag != 0;
    (magic == KEPT && node != 0).then_some(Restraint {
        node,
        held: (held != 0).then_some(held),
        firm: is(FIRM),
        returns,
        damped: is(DAMPED),
        until_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_and_another_is_none() {
        let rest = Rest {
            node: 1,
            nonce: 2,
            term: 3,
            sequence: 4,
            peer: None,
            last: (5, 6),
            retired: [7, 8, 9, 10],
            seen: [(11, 12), (13, 14), (15, 16), (17, 18)],
            eligible: true,
        };
        let parked = Parked {
            until_ns: 19,
            rest,
            restraint: Restraint { node: 1, ..Restraint::default() },
            changed_mono_ns: 20,
            changed_wall_ns: 21,
            own_macs: std::array::from_fn(|at| u16::try_from(at).unwrap() + 2),
            secret: Zeroizing::new([22; 32]),
            agreed: Some((23, [24; PUBLIC])),
        };
        let record = parked.encode();
        assert_eq!(record.len(), RECORD);
        assert_eq!(Parked::decode(&record), Some(parked));
        assert_eq!(Parked::decode(&record[1..]), None);
        let mut other = record.to_vec();
        other[7] = b'2';
        assert_eq!(Parked::decode(&other), None);
    }

    #[test]
    fn what_keeps_a_node_from_the_role_comes_back_as_it_was() {
        for (held, firm, returns, damped) in
            [(None, false, 4, true), (Some(9), true, 0, false), (Some(9), false, 255, true)]
        {
            let kept = Restraint { node: 1, held, firm, returns, damped, until_ns: u64::MAX - 7 };
            let record = encode_restraint(&kept);
            assert_eq!(decode_restraint(&record), Some(kept));
            assert_eq!((decode_restraint(&record[1..]), Parked::decode(&record)), (None, None));
            let mut other = record;
            other[7] = b'2';
            assert_eq!(decode_restraint(&other), None);
        }
    }
}
