//! Which slot of its virtual server's ring a connection gets. For weighted round robin the ring holds each real as often
//! as its weight says, interleaved by the controller; for the hashing predictors it is a table that keeps most clients on
//! their real when another real comes or goes. For least connections it holds each real once, and their loads decide.

use csm_common::flow::{FlowKey, NONE};
use csm_common::hash;
use csm_common::limits::{LEAST_COMPARED, RING_SLOTS};
use csm_common::service::{
    VSERVER_COUNTED, VSERVER_HASH_DESTINATION, VSERVER_HASH_SOURCE, VSERVER_LEASTCONNS, Vserver, load,
    of_weighted_slot, ring_slot,
};

use crate::family::Family;
use crate::packet::opaque;
use crate::room::{self, mask};
use crate::{atomic, maps};

/// A choice that is made: part of this CPU's scratch space. What one step finds the next one reads from there, so the verifier walks
/// each step once and not once for each way to it.
pub(crate) struct Pick {
    /// Virtual server whose ring it is.
    pub(crate) number: u32,
    /// The real that comes first; [`NONE`]: none. Then the one that is chosen.
    pub(crate) real: u32,
    /// Not 0: `real` is not refused.
    pub(crate) must: u32,
    /// Slots to look through for the one with the fewest connections: how many, from which of `RINGS` on.
    length: u32,
    base: u32,
    turn: u32,
}

/// Times that the least loaded is looked for anew, where another CPU took its last place meanwhile.
const LEAST_TRIES: u32 = 3;

/// Chooses the real for a connection that `key` opens, and takes its place there; [`NONE`] if none in rotation has room.
#[inline(always)]
pub(crate) fn pick<A: Family>(key: &FlowKey<A>, pick: &mut Pick) {
    first(key, pick);
    // SAFETY: a field of a map's value; volatile, as it comes by way of the map.
    if unsafe { (&raw const pick.length).read_volatile() } == 0 {
        return;
    }
    for _ in 0..LEAST_TRIES {
        let best = least::<A>(pick);
        if best == NONE {
            return;
        }
        if room::reserve::<A>(best, 0) {
            pick.real = best;
            return;
        }
    }
}

/// The real that `pick` comes with, or the one whose turn it is, if it has room; else what is to be looked through.
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "a remainder below a 32-bit length")]
fn first<A: Family>(key: &FlowKey<A>, pick: &mut Pick) {
    let (number, wanted) = (pick.number, pick.real);
    pick.length = 0;
    pick.real = NONE;
    let Some(vserver) = A::vservers().get(number) else { return };
    let length = vserver.ring_len.min(RING_SLOTS);
    let counted = vserver.flags & VSERVER_COUNTED != 0;
    if wanted != NONE && (!counted || room::reserve::<A>(wanted, pick.must)) {
        pick.real = wanted;
        return;
    }
    if length == 0 {
        return;
    }
    let Some(cursor) = maps::CURSORS.get_ptr_mut(number) else { return };
    // SAFETY: an element of the array, aligned to 8, which is changed atomically only.
    let turn = unsafe { atomic::fetch_add(cursor, 1) };
    if vserver.flags & VSERVER_LEASTCONNS == 0 {
        let real = of_turn(number, vserver, key, turn);
        if !counted || real == NONE || room::reserve::<A>(real, 0) {
            pick.real = real;
            return;
        }
    }
    // Without limits nothing follows the ring, and it holds each real once itself.
    let spare = u32::from(vserver.spare_len);
    let (first, length) = if spare == 0 { (0, length) } else { (length, spare.min(RING_SLOTS)) };
    pick.base = ring_slot(number, first);
    pick.length = length;
    pick.turn = (turn % u64::from(length)) as u32;
}

/// The real in the slot whose turn it is, or that the addresses of `key` lead to.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a remainder below a 32-bit length")]
fn of_turn<A: Family>(number: u32, vserver: &Vserver<A>, key: &FlowKey<A>, turn: u64) -> u32 {
    let length = vserver.ring_len.clamp(1, RING_SLOTS);
    let slot = if vserver.flags & (VSERVER_HASH_SOURCE | VSERVER_HASH_DESTINATION) != 0 {
        hash(vserver, key) % length
    } else {
        (turn % u64::from(length)) as u32
    };
    maps::RINGS.get(ring_slot(number, slot)).map_or(NONE, |&slot| of_weighted_slot(slot).0)
}

#[inline(always)]
fn hash<A: Family>(vserver: &Vserver<A>, key: &FlowKey<A>) -> u32 {
    let counts = |bit, ip_be: A| {
        if vserver.flags & bit == 0 { A::UNSPECIFIED } else { ip_be.masked(vserver.hash_mask_be) }
    };
    hash::addresses(counts(VSERVER_HASH_SOURCE, key.src_be), counts(VSERVER_HASH_DESTINATION, key.dst_be))
}

/// Of the reals in the slots of `pick`, at most [`LEAST_COMPARED`] from its turn on, the one with room that would have the fewest
/// connections for its weight with one more; of equals the first, so that they take turns. [`NONE`] if there is none.
///
/// Without branches but those that end it: the verifier would walk both sides of each, for each real and each way to here.
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "made of 32 bits")]
fn least<A: Family>(pick: &Pick) -> u32 {
    let (base, length, first) = (pick.base, pick.length, u64::from(pick.turn));
    // Heavier than any: a weight of 0 makes of the first comparison 0 < something.
    let (mut best, mut best_load, mut best_weight) = (u64::from(NONE), 1u64, 0u64);
    for step in 0..LEAST_COMPARED {
        if step >= length {
            break;
        }
        let slot = first + u64::from(step);
        let slot = slot - (u64::from(length) & !mask(slot, length.into()));
        let Some(&packed) = maps::RINGS.get(base + slot as u32) else { break };
        let (number, weight) = of_weighted_slot(packed);
        let (Some(real), Some(since), Some(&counted), Some(throttled)) = (
            A::reals().get(number),
            maps::LOADS.get_ptr(number),
            maps::LOAD_BASES.get(number),
            maps::THROTTLED.get_ptr(number),
        ) else {
            break;
        };
        // SAFETY: elements of arrays; whatever another CPU makes of them, each is a whole word.
        let (since, throttled) = unsafe { (since.read_volatile(), throttled.read_volatile()) };
        let load = load(counted, since);
        let has_room = mask(load, room::limit(real, throttled));
        let (load, weight) = (load + 1, u64::from(weight));
        let better = mask(load * best_weight, best_load * weight) & has_room;
        best ^= (best ^ u64::from(number)) & better;
        best_load ^= (best_load ^ load) & better;
        best_weight ^= (best_weight ^ weight) & better;
    }
    opaque(best) as u32
}
