//! Who else speaks the FT protocol on this node's VLANs: other groups, other keys, further boxes. Pure.
//!
//! None of it changes anything; it is remembered for `show`, so that a wrong VLAN, group or key has a name.

use std::net::IpAddr;
use std::time::Duration;

/// How many are remembered; of more the one that has been silent for longest is forgotten.
pub const FOREIGN_MAX: usize = 4;

/// Why a speaker is none of this pair's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It speaks for another group.
    Group,
    /// Its messages are authenticated with another key.
    Key,
    /// Its messages lack the authentication that is required here.
    Unauthenticated,
    /// A third box of this group, while the peer is heard.
    Third,
    /// It has this node's own identity: two are configured alike, or a loop.
    Twin,
}

/// One speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// VLAN on which it was heard.
    pub vlan: u16,
    /// Its address there.
    pub address: IpAddr,
    /// Group that it names, 1–254.
    pub group: u8,
    /// What is wrong with it.
    pub why: Why,
    /// Its messages.
    pub count: u64,
    /// Time since the last one.
    pub age: Duration,
}

/// Those that were heard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Foreigners {
    /// Each with the moment of its last message, ns.
    heard: [Option<(Foreign, u64)>; FOREIGN_MAX],
}

impl Foreigners {
    /// A message of `group` came from `address` on `vlan` at `now` ns.
    pub fn note(&mut self, vlan: u16, address: IpAddr, group: u8, why: Why, now: u64) {
        let is_it = |known: &Foreign| {
            (known.vlan, known.address, known.group, known.why) == (vlan, address, group, why)
        };
        let known = self.heard.iter().position(|slot| slot.is_some_and(|(known, _)| is_it(&known)));
        // Empty slots come first.
        let oldest = || (0..FOREIGN_MAX).min_by_key(|at| self.heard[*at].map(|(_, last)| last));
        let Some(slot) = known.or_else(oldest).and_then(|at| self.heard.get_mut(at)) else { return };
        let count = slot.filter(|_| known.is_some()).map_or(0, |(known, _)| known.count);
        let foreign = Foreign { vlan, address, group, why, count: count + 1, age: Duration::ZERO };
        *slot = Some((foreign, now));
    }

    /// All of them.
    #[must_use]
    pub fn status(&self, now: u64) -> [Option<Foreign>; FOREIGN_MAX] {
        self.heard.map(|slot| {
            slot.map(|(foreign, last)| Foreign {
                age: Duration::from_nanos(now.saturating_sub(last)),
                ..foreign
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn noted(foreigners: &mut Foreigners, host: u8, why: Why, now: u64) {
        foreigners.note(2, Ipv4Addr::new(10, 0, 0, host).into(), 7, why, now);
    }

    #[test]
    fn each_speaker_is_counted_and_the_longest_silent_one_forgotten() {
        let mut foreigners = Foreigners::default();
        for now in [1, 2, 3] {
            noted(&mut foreigners, 1, Why::Group, now);
        }
        noted(&mut foreigners, 1, Why::Key, 4);
        noted(&mut foreigners, 2, Why::Group, 5);
        noted(&mut foreigners, 3, Why::Group, 6);
        noted(&mut foreigners, 1, Why::Group, 7);
        let counts = |foreigners: &Foreigners| {
            let all = foreigners.status(10).into_iter().flatten();
            all.map(|one| (one.why, one.count, one.age.as_nanos())).collect::<Vec<_>>()
        };
        let first = (Why::Group, 4, 3);
        assert_eq!(counts(&foreigners), [first, (Why::Key, 1, 6), (Why::Group, 1, 5), (Why::Group, 1, 4)]);
        noted(&mut foreigners, 4, Why::Third, 8);
        assert_eq!(
            counts(&foreigners)[..2],
            [first, (Why::Third, 1, 2)],
            "the key's had been silent for longest"
        );
    }
}
