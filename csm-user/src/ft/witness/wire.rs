//! What nodes and witness say to one another: one layout for both directions, big endian. Pure.
//!
//! ```text
//! offset size
//!   0     4   magic "CSMw"
//!   4     1   version, 1
//!   5     1   kind: 1 query, 2 ask, 3 free, 4 grant, 5 refusal
//!   6     1   group, 1-254
//!   7     1   flags: 1 the asker still holds a grant; others 0
//!   8     8   node that asks, not 0
//!  16     8   its boot nonce, not 0
//!  24     8   number of the request: its CLOCK_MONOTONIC when it was sent, ns
//!  32     8   boot nonce of the witness, 0: not known yet
//!  40     8   lease, us: asked for, or granted; of a refusal and of a word about the grant: how long it is taken for
//!  48     8   node that has the grant, 0: nobody
//!  56     8   term: the highest that the asker, or the witness, knows to be claimed or asked for
//!  64    16   tag over all before it (ft::keyring)
//! ```

use std::time::Duration;

use crate::ft::keyring::{Keyring, TAG};

/// Octets before the tag.
const BODY: usize = 64;
/// Octets of a datagram.
pub const DATAGRAM: usize = BODY + TAG;
const MAGIC: [u8; 4] = *b"CSMw";
const VERSION: u8 = 1;
/// Longest lease that is granted; a witness that has just started waits for the end of one.
pub const LEASE_MAX: Duration = crate::model::WITNESSED_MAX;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Of a node whose gate is not open by a grant: gives up what it had, and asks how things stand.
    Query = 1,
    /// Of a node that wants the grant, or wants to keep it.
    Ask = 2,
    /// Of the witness: nothing was asked for, this is how things stand.
    State = 3,
    /// Of the witness: yes, for the lease.
    Grant = 4,
    /// Of the witness: not now.
    Refusal = 5,
}

/// A request, or the answer to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Word {
    /// What is said.
    pub kind: Kind,
    /// FT group.
    pub group: u8,
    /// The asker has a grant that is not over.
    pub holds: bool,
    /// The node that asks.
    pub node: u64,
    /// Its boot nonce.
    pub nonce: u64,
    /// Number of the request: when it was sent, by the asker's clock, ns.
    pub number: u64,
    /// Boot nonce of the witness, as far as the asker knows it.
    pub witness: u64,
    /// See the layout.
    pub lease: Duration,
    /// Who has the grant.
    pub holder: u64,
    /// The highest term known: whoever is granted the role claims a higher one, also if it has heard of none.
    pub term: u64,
}

/// The datagram that says `word`.
#[must_use]
pub fn seal(word: &Word, keyring: &Keyring) -> [u8; DATAGRAM] {
    let mut bytes = [0; DATAGRAM];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&[VERSION, word.kind as u8, word.group, u8::from(word.holds)]);
    let micros = u64::try_from(word.lease.as_micros()).unwrap_or(u64::MAX);
    let words = [word.node, word.nonce, word.number, word.witness, micros, word.holder, word.term];
    for (slot, word) in bytes[8..BODY].as_chunks_mut().0.iter_mut().zip(words) {
        *slot = word.to_be_bytes();
    }
    let tag = keyring.tag(&bytes[..BODY]);
    bytes[BODY..].copy_from_slice(&tag);
    bytes
}

/// What `bytes` say, with what the tag is for and the tag, which is not checked; `None` if nothing of this kind.
#[must_use]
pub fn open(bytes: &[u8]) -> Option<(Word, &[u8], &[u8; TAG])> {
    let bytes: &[u8; DATAGRAM] = bytes.try_into().ok()?;
    let (signed, tag) = bytes.split_last_chunk()?;
    let [version, kind, group, flags] = [bytes[4], bytes[5], bytes[6], bytes[7]];
    let kind = match kind {
        1 => Kind::Query,
        2 => Kind::Ask,
        3 => Kind::State,
        4 => Kind::Grant,
        5 => Kind::Refusal,
        _ => return None,
    };
    let mut words = [0; 7];
    for (word, slot) in words.iter_mut().zip(bytes[8..BODY].as_chunks().0) {
        *word = u64::from_be_bytes(*slot);
    }
    let [node, nonce, number, witness, micros, holder, term] = words;
    let is_good = bytes[..4] == MAGIC
        && version == VERSION
        && (1..=254).contains(&group)
        && flags <= 1
        && node != 0
        && nonce != 0;
    let lease = Duration::from_micros(micros);
    let word = Word { kind, group, holds: flags == 1, node, nonce, number, witness, lease, holder, term };
    is_good.then_some((word, signed, tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FtKeys, Secret};
    use proptest::prelude::*;

    fn word() -> impl Strategy<Value = Word> {
        let kind =
            prop::sample::select(vec![Kind::Query, Kind::Ask, Kind::State, Kind::Grant, Kind::Refusal]);
        let names = (1..=254_u8, 1..=u64::MAX, 1..=u64::MAX, any::<u64>());
        let rest = (any::<bool>(), any::<u64>(), any::<u64>(), any::<[u64; 2]>());
        (kind, names, rest).prop_map(
            |(kind, (group, node, nonce, number), (holds, witness, us, [holder, term]))| Word {
                kind,
                group,
                holds,
                node,
                nonce,
                number,
                witness,
                lease: Duration::from_micros(us),
                holder,
                term,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(word in word()) {
            let key = |key: &str| Keyring::new(&FtKeys { sign: Some(Secret::new(key)), accept: None }, [0; 32]);
            let bytes = seal(&word, &key("one"));
            let (opened, signed, tag) = open(&bytes).expect("a word");
            prop_assert_eq!(opened, word);
            prop_assert!(key("one").check(signed, tag, false).is_ok());
            prop_assert!(key("two").check(signed, tag, false).is_err());
        }

        #[test]
        fn whatever_comes_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2 * DATAGRAM)) {
            let _ = open(&bytes);
        }
    }
}
