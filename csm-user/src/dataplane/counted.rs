//! Which slot of the counters an interface has. Pure.

use std::collections::BTreeMap;

use csm_common::limits::COUNTED_MAX;

/// Slots by interface index: those of `known` as they are, also of interfaces that are gone, whose counts stay in the sum; then
/// of `interfaces` in their order, as long as there is room. What has none is counted with all others that have none.
#[must_use]
pub fn assign(known: BTreeMap<u32, u32>, interfaces: impl Iterator<Item = u32>) -> BTreeMap<u32, u32> {
    let mut slots = known;
    for ifindex in interfaces {
        let free = (1..COUNTED_MAX).find(|slot| !slots.values().any(|taken| taken == slot));
        if let Some(free) = free.filter(|_| !slots.contains_key(&ifindex)) {
            slots.insert(ifindex, free);
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_keeps_its_slot_and_the_first_ones_have_room() {
        let slots = assign(BTreeMap::new(), [7, 3, 7].into_iter());
        assert_eq!(slots, BTreeMap::from([(7, 1), (3, 2)]));
        // One is gone, another one came.
        let later = assign(slots, [9, 3].into_iter());
        assert_eq!(later, BTreeMap::from([(7, 1), (3, 2), (9, 3)]));
        let many = assign(later, 100..1000);
        assert_eq!(many.len(), COUNTED_MAX as usize - 1);
        assert!(many.contains_key(&100) && !many.contains_key(&999) && many[&9] == 3);
    }
}
