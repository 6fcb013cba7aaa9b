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
//!  48    16   the peer's boot and sequence last taken 280     8   1: a message of the peer follows, 3: one, and tracking stands
//!                                                                 against this node, 0: none
//!  64    32   boots of the peer that are over         288   136   the message
//!  96    32   VLANs on which the port's own MAC address is used, two octets each, 0: none
//! ```

use zeroize::Zeroizing;

use crate::ft::election::Rest;
use crate::ft::keyring::PUBLIC;
use crate::ft::wire::{LENGTH, Message};

const MAGIC: u64 = u64::from_be_bytes(*b"CSMpark1");
/// Words before the secret.
const HEAD: usize = 26;
/// VLANs that a record has room for.
pub const OWN_MACS_MAX: usize = 16;
/// Octets of a record.
pub const RECORD: usize = 8 * HEAD + 32 + 8 + PUBLIC + 8 + LENGTH;

/// What a session leaves to the one that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The gate is open until then, CLOCK_MONOTONIC, ns.
    pub until_ns: u64,
    /// The machine.
    pub rest: Rest,
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

impl Parked {
    /// As octets.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let Self { until_ns, rest, changed_mono_ns, changed_wall_ns, own_macs, secret, agreed } = self;
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
        // To one that hears nobody it makes no difference.
        let follows: u64 = if peer.is_none() {
            0
        } else if *eligible {
            1
        } else {
            3
        };
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
        let peer = match follows {
            0 => None,
            _ => Some(Message::decode(message).ok()?),
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
            eligible: follows != 3,
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
            changed_mono_ns: words[24],
            changed_wall_ns: words[25],
            own_macs,
            secret: Zeroizing::new(*secret),
            agreed: (boot != 0).then_some((boot, *public)),
        })
    }
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
}
