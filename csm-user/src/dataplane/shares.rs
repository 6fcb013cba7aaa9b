//! Shares of the connection table: what is kept for each virtual server of a crowded one. Pure.
//!
//! A fifth of a family's table is kept for its virtual servers, in equal parts; the rest is everybody's. Each walk counts who has how
//! much, and says how many may be proven until the next one: of those that are kept for them, and of what is everybody's. The
//! XDP program takes from that at once, so no virtual server comes to what is kept for another, however fast it is. What ends is
//! free from the next walk on. While a table is less than half full nobody is limited.

use std::collections::BTreeMap;

use csm_common::service::share_slot;

/// Part of the table that is kept for virtual servers.
const KEPT: u64 = 5;

/// One family's table.
#[derive(Clone, Copy, Debug)]
pub struct Room<'a> {
    /// Slot of the word of what is everybody's.
    pub slot: u32,
    /// Connections that it can hold.
    pub connections: u64,
    /// Those that a walk found, by virtual server.
    pub held: &'a BTreeMap<u32, u64>,
    /// The family's virtual servers.
    pub vservers: &'a [u32],
}

impl Room<'_> {
    /// The words that the program goes by until the next walk; `taken` says how many were taken of a slot since the walk before, which
    /// this walk may have met or not: they count as not met.
    #[must_use]
    pub fn words(&self, taken: impl Fn(u32) -> u64) -> BTreeMap<u32, u64> {
        let slots = || self.vservers.iter().map(|vserver| share_slot(*vserver));
        let held: u64 = self.held.values().sum();
        if held < self.connections / 2 {
            return slots().chain([self.slot]).map(|slot| (slot, 0)).collect();
        }
        let kept = self.connections / KEPT / u64::try_from(self.vservers.len()).unwrap_or(u64::MAX).max(1);
        let own = self.vservers.iter().map(|vserver| {
            let held = self.held.get(vserver).copied().unwrap_or(0) + taken(share_slot(*vserver));
            (share_slot(*vserver), kept.saturating_sub(held) + 1)
        });
        let beyond = self.held.iter().map(|(vserver, held)| {
            held.saturating_sub(if self.vservers.contains(vserver) { kept } else { 0 })
        });
        let used = beyond.sum::<u64>() + taken(self.slot);
        let everybodys = self.connections - kept * self.vservers.len() as u64;
        own.chain([(self.slot, everybodys.saturating_sub(used) + 1)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use csm_common::flow::NONE;
    use csm_common::service::share_slot;
    use proptest::prelude::*;

    use super::Room;

    /// Words of virtual servers 3 and 5, and everybody's, of a table of 1000.
    fn words(held: &[(u32, u64)], taken: &[(u32, u64)]) -> [u64; 3] {
        let (held, taken): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (held.iter().copied().collect(), taken.iter().copied().collect());
        let room = Room { slot: 0, connections: 1000, held: &held, vservers: &[3, 5] };
        let words = room.words(|slot| taken.get(&slot).copied().unwrap_or(0));
        [share_slot(3), share_slot(5), 0].map(|slot| words[&slot])
    }

    #[test]
    fn a_fifth_is_kept_in_equal_parts_once_the_table_is_half_full() {
        assert_eq!(words(&[(3, 499)], &[]), [0, 0, 0], "nobody is limited");
        assert_eq!(words(&[(3, 500)], &[]), [1, 101, 401]);
        assert_eq!(words(&[(3, 900), (5, 40)], &[]), [1, 61, 1]);
        assert_eq!(words(&[(3, 60), (NONE, 700)], &[]), [41, 101, 101]);
        assert_eq!(words(&[(3, 1000)], &[]), [1, 101, 1], "of a table that was full before");
    }

    #[test]
    fn what_was_taken_meanwhile_counts_as_not_met() {
        assert_eq!(words(&[(3, 500), (5, 10)], &[(share_slot(5), 7), (0, 20)]), [1, 84, 381]);
    }

    proptest! {
        /// Whoever takes what there is, each virtual server comes to what is kept for it, and all have room in the table.
        #[test]
        fn whatever_others_take_what_is_kept_is_there(
            held in prop::collection::btree_map(0_u32..12, 0_u64..120, 0..12),
            vservers in prop::collection::btree_set(0_u32..12, 1..9),
            fill in 500_u64..=800,
        ) {
            let vservers: Vec<u32> = vservers.into_iter().collect();
            let sum: u64 = held.values().sum();
            let connections = (sum * 1000).div_ceil(fill);
            let words = Room { slot: 0, connections, held: &held, vservers: &vservers }.words(|_| 0);
            let left: u64 = words.values().map(|word| word - 1).sum();
            prop_assert!(sum + left <= connections, "{} held, {} left", sum, left);
            let kept = connections / 5 / vservers.len() as u64;
            for vserver in &vservers {
                let has = held.get(vserver).copied().unwrap_or(0);
                prop_assert!(has + words[&share_slot(*vserver)] > kept);
            }
        }
    }
}
