//! The predictor's ring: reals interleaved by smooth weighted round robin, a table for hashes, or each real once. Pure.
//!
//! Each turn every real gains its weight, the richest is chosen and pays the total: after one round of the ring each
//! real was chosen as often as its weight says, spread as evenly as the weights allow.

use std::collections::HashMap;

use csm_common::service::weighted_slot;

/// The ring for `(real number, weight)`; weight 0 takes no slot. At most `slots` slots: larger sums of weights
/// are scaled down, no real below one slot; of more reals than slots the last ones get none.
#[must_use]
pub fn ring(reals: &[(u32, u8)], slots: u32) -> Vec<u32> {
    let mut reals: Vec<(u32, u32)> = reals
        .iter()
        .filter(|(_, weight)| *weight > 0)
        .map(|&(real, weight)| (real, u32::from(weight)))
        .collect();
    reals.truncate(slots as usize);
    scale(&mut reals, slots);
    let total: i64 = reals.iter().map(|&(_, weight)| i64::from(weight)).sum();
    let mut credit = vec![0_i64; reals.len()];
    (0..total)
        .filter_map(|_| {
            for (credit, &(_, weight)) in credit.iter_mut().zip(&reals) {
                *credit += i64::from(weight);
            }
            // Of equals the first: `max_by_key` alone would take the last.
            let chosen = (0..credit.len()).rev().max_by_key(|&index| credit[index])?;
            credit[chosen] -= total;
            Some(reals[chosen].0)
        })
        .collect()
}

/// Divides the weights by their greatest common divisor and, if their sum is still too large, scales them down.
fn scale(reals: &mut [(u32, u32)], slots: u32) {
    let divisor = reals.iter().map(|&(_, weight)| weight).reduce(gcd).unwrap_or(1);
    for (_, weight) in reals.iter_mut() {
        *weight /= divisor;
    }
    let sum: u32 = reals.iter().map(|&(_, weight)| weight).sum();
    if sum <= slots {
        return;
    }
    for (_, weight) in reals.iter_mut() {
        *weight = (*weight * slots / sum).max(1);
    }
    // Raising small weights to 1 may have made the sum too large again: the largest pay.
    let mut excess = reals.iter().map(|&(_, weight)| weight).sum::<u32>().saturating_sub(slots);
    while excess > 0 {
        let Some((_, largest)) = reals.iter_mut().max_by_key(|(_, weight)| *weight) else { return };
        *largest -= 1;
        excess -= 1;
    }
}

/// The ring of `leastconns` for `(real number, weight)`: each real once with its weight, of more than `slots` the first.
#[must_use]
pub fn each_once(reals: &[(u32, u8)], slots: u32) -> Vec<u32> {
    let weighted = reals.iter().filter(|(_, weight)| *weight > 0);
    weighted.map(|&(real, weight)| weighted_slot(real, weight)).take(slots as usize).collect()
}

/// The slots for `ring`, whose reals have the weights of `reals`. Whatever the predictor, they have one form: when it changes,
/// slots are written before their virtual server says so.
#[must_use]
pub fn weighted(ring: &[u32], reals: &[(u32, u8)]) -> Vec<u32> {
    let weights: HashMap<u32, u8> = reals.iter().copied().collect();
    ring.iter()
        .map(|real| weighted_slot(*real, weights.get(real).map_or(1, |weight| (*weight).max(1))))
        .collect()
}

/// Slots of a hash table: primes, of which the largest that fits is taken.
const HASH_SLOTS: [u64; 2] = [1021, 509];

/// The table for `(real number, identity)` of the hashing predictors: a hash modulo its length gives the slot. Each real
/// takes slots in an order of its own, one after the other in turn (Maglev, NSDI 2016, section 3.4): all get the same
/// number of slots within one, and when a real comes or goes few other slots change hands. The table depends on the
/// identities alone, so both nodes of a pair have the same. At most `slots` slots, of which there are 509 at least.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "remainders of a small prime")]
pub fn hash_table(reals: &[(u32, u64)], slots: u32) -> Vec<u32> {
    let [most, least] = HASH_SLOTS;
    let slots = if most <= u64::from(slots) { most } else { least };
    let mut reals: Vec<(u64, u32)> = reals.iter().map(|&(number, id)| (id, number)).collect();
    reals.sort_unstable();
    reals.truncate(slots as usize);
    let mut orders: Vec<_> = reals
        .iter()
        .map(|&(id, number)| {
            let spread = crate::model::fnv1a(&id.to_be_bytes());
            let (offset, skip) = ((spread >> 32) % slots, (spread & 0xffff_ffff) % (slots - 1) + 1);
            (number, (0..slots).map(move |turn| ((offset + turn * skip) % slots) as usize))
        })
        .collect();
    let mut table: Vec<Option<u32>> = vec![None; slots as usize];
    let mut free = if orders.is_empty() { 0 } else { table.len() };
    while free > 0 {
        for (number, order) in &mut orders {
            if free > 0
                && let Some(slot) = order.find(|&slot| table[slot].is_none())
            {
                table[slot] = Some(*number);
                free -= 1;
            }
        }
    }
    table.into_iter().flatten().collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::{hash_table as hash_table_of, ring as ring_of};
    use csm_common::limits::RING_SLOTS;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn ring(reals: &[(u32, u8)]) -> Vec<u32> {
        ring_of(reals, RING_SLOTS)
    }

    fn hash_table(reals: &[(u32, u64)]) -> Vec<u32> {
        hash_table_of(reals, RING_SLOTS)
    }

    fn counts(ring: &[u32]) -> HashMap<u32, u32> {
        let mut counts = HashMap::new();
        for &real in ring {
            *counts.entry(real).or_default() += 1;
        }
        counts
    }

    #[test]
    fn weights_are_interleaved_not_bunched() {
        assert_eq!(ring(&[(1, 50), (2, 10), (3, 10)]), [1, 1, 2, 1, 3, 1, 1]);
        assert_eq!(ring(&[(7, 8), (8, 8), (9, 8)]), [7, 8, 9]);
        assert!(ring(&[(7, 0)]).is_empty());
        assert!(ring(&[]).is_empty() && hash_table(&[]).is_empty());
    }

    #[test]
    fn a_farm_that_does_not_fit_is_cut_to_the_ring() {
        let many: Vec<(u32, u8)> = (0..2000).map(|real| (real, 100)).collect();
        assert_eq!(ring(&many).len(), RING_SLOTS as usize);
        let uneven: Vec<(u32, u8)> = (0..1000).map(|real| (real, if real < 100 { 100 } else { 1 })).collect();
        let ring = ring(&uneven);
        assert!(ring.len() <= RING_SLOTS as usize);
        assert_eq!(counts(&ring).len(), 1000, "no real is scaled away");
    }

    proptest! {
        #[test]
        fn a_hash_table_is_even_and_a_real_that_goes_takes_little_with_it(reals in 2_u32..40, gone in any::<prop::sample::Index>()) {
            let all: Vec<(u32, u64)> = (0..reals).map(|real| (real, u64::from(real) * 7919 + 3)).collect();
            let before = hash_table(&all);
            prop_assert_eq!(before.len() as u64, 1021);
            let counts = counts(&before);
            let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            prop_assert!(counts.len() == reals as usize && most - least <= 1, "{counts:?}");
            let mut left = all.clone();
            let (gone, _) = left.remove(gone.index(all.len()));
            let after = hash_table(&left);
            let moved = before.iter().zip(&after).filter(|(was, is)| **was != gone && was != is).count();
            prop_assert!(after.iter().all(|&real| real != gone));
            prop_assert!(moved <= before.len() / 5, "{moved} of {} moved without need", before.len());
            left.reverse();
            prop_assert_eq!(hash_table(&left), after, "the order does not count");
        }

        #[test]
        fn a_ring_that_fits_is_exact(weights in prop::collection::vec(1u8..=100, 1..10)) {
            let reals: Vec<(u32, u8)> = (0_u32..).zip(weights.iter().copied()).collect();
            let ring = ring(&reals);
            let counts = counts(&ring);
            let total: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
            for (real, weight) in reals {
                // count / ring = weight / total, without fractions.
                prop_assert_eq!(counts[&real] * total, u32::from(weight) * u32::try_from(ring.len()).unwrap());
            }
        }

        #[test]
        fn a_scaled_ring_keeps_proportions_within_a_slot_or_a_part_in_ten(weights in prop::collection::vec(20u8..=100, 20..60)) {
            let reals: Vec<(u32, u8)> = (0_u32..).zip(weights.iter().copied()).collect();
            let ring = ring(&reals);
            prop_assert!(ring.len() <= RING_SLOTS as usize);
            let counts = counts(&ring);
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            for (real, weight) in reals {
                let fair = f64::from(weight) / total * ring.len() as f64;
                prop_assert!((f64::from(counts[&real]) - fair).abs() <= 1.0 + fair * 0.1);
            }
        }

        #[test]
        fn in_any_stretch_a_real_gets_no_more_than_its_share_and_two(weights in prop::collection::vec(1u8..=12, 2..6)) {
            let reals: Vec<(u32, u8)> = (0_u32..).zip(weights.iter().copied()).collect();
            let ring = ring(&reals);
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            for (real, weight) in reals {
                let share = f64::from(weight) / total;
                for length in 1..=ring.len() {
                    for start in 0..ring.len() {
                        let got = (start..start + length).filter(|&slot| ring[slot % ring.len()] == real).count();
                        prop_assert!(got as f64 <= share * length as f64 + 2.0, "real {real} {got} of {length}");
                    }
                }
            }
        }
    }
}
