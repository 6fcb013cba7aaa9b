//! Which slot of its virtual server's ring a connection gets. For weighted round robin the ring holds each real as often
//! as its weight says, interleaved by the controller; for the hashing predictors it is a table that keeps most clients on
//! their real when another real comes or goes. For least connections it holds each real once, and their loads decide.

use core::arch::asm;

use csm_common::flow::{FlowKey, NONE};
use csm_common::hash;
use csm_common::limits::{LEAST_COMPARED, RING_SLOTS};
use csm_common::service::{
    VSERVER_HASH_DESTINATION, VSERVER_HASH_SOURCE, VSERVER_LEASTCONNS, Vserver, load, of_weighted_slot,
    ring_slot,
};

use crate::family::Family;
use crate::maps;
use crate::packet::opaque;

/// The real for the connection that `key` opens to vserver `number`; `None` if none is in rotation.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a remainder below a 32-bit length")]
pub(crate) fn next<A: Family>(number: u32, vserver: &Vserver<A>, key: &FlowKey<A>) -> Option<u32> {
    let length = vserver.ring_len.min(RING_SLOTS);
    if length == 0 {
        return None;
    }
    if vserver.flags & (VSERVER_HASH_SOURCE | VSERVER_HASH_DESTINATION) != 0 {
        let slot = hash(vserver, key) % length;
        return maps::RINGS.get(ring_slot(number, slot)).map(|&slot| of_weighted_slot(slot).0);
    }
    let cursor = maps::CURSORS.get_ptr_mut(number)?;
    // SAFETY: an element of the array, aligned to 8, which is changed here only.
    let turn = unsafe { fetch_add(cursor, 1) };
    let slot = (turn % u64::from(length)) as u32;
    if vserver.flags & VSERVER_LEASTCONNS != 0 {
        let real = least(number, length, slot);
        return (real != NONE).then_some(real);
    }
    maps::RINGS.get(ring_slot(number, slot)).map(|&slot| of_weighted_slot(slot).0)
}

#[inline(always)]
fn hash<A: Family>(vserver: &Vserver<A>, key: &FlowKey<A>) -> u32 {
    let counts = |bit, ip_be: A| {
        if vserver.flags & bit == 0 { A::UNSPECIFIED } else { ip_be.masked(vserver.hash_mask_be) }
    };
    hash::addresses(counts(VSERVER_HASH_SOURCE, key.src_be), counts(VSERVER_HASH_DESTINATION, key.dst_be))
}

/// Of the ring's reals, at most [`LEAST_COMPARED`] from slot `first` on, the one that would have the fewest connections for
/// its weight with one more; of equals the first, so that they take turns. [`NONE`] of an empty ring.
///
/// Without branches but those that end it: the verifier would walk both sides of each, for each real and each way to here.
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "made of 32 bits")]
fn least(number: u32, length: u32, first: u32) -> u32 {
    // Heavier than any: a weight of 0 makes of the first comparison 0 < something.
    let (mut best, mut best_load, mut best_weight) = (u64::from(NONE), 1u64, 0u64);
    for step in 0..LEAST_COMPARED {
        if step >= length {
            break;
        }
        let slot = u64::from(first + step);
        let slot = slot - (u64::from(length) & !mask(slot, length.into()));
        let Some(&packed) = maps::RINGS.get(ring_slot(number, slot as u32)) else { break };
        let (real, weight) = of_weighted_slot(packed);
        let (Some(since), Some(&base)) = (maps::LOADS.get_ptr(real), maps::LOAD_BASES.get(real)) else {
            break;
        };
        // SAFETY: an element of the array, aligned to 8; whatever another CPU makes of it, it is a whole word.
        let load = load(base, unsafe { since.read_volatile() }) + 1;
        let weight = u64::from(weight);
        let better = mask(load * best_weight, best_load * weight);
        best ^= (best ^ u64::from(real)) & better;
        best_load ^= (best_load ^ load) & better;
        best_weight ^= (best_weight ^ weight) & better;
    }
    best as u32
}

/// All ones if `a` is less than `b`, both below 2^63; else 0.
#[inline(always)]
fn mask(a: u64, b: u64) -> u64 {
    opaque(a.wrapping_sub(b)).cast_signed().wrapping_shr(63).cast_unsigned()
}

/// A connection to `real` of `vserver` begins: its half-open pair was made.
#[inline(always)]
pub(crate) fn opened<A: Family>(vserver: &Vserver<A>, real: u32) {
    count(vserver, real, 1);
}

/// One has ended: both sides closed it, or one reset it. What else becomes of connections the controller counts.
#[inline(always)]
pub(crate) fn closed<A: Family>(vserver: u32, real: u32) {
    if let Some(vserver) = A::vservers().get(vserver) {
        count(vserver, real, u64::MAX);
    }
}

#[inline(always)]
fn count<A: Family>(vserver: &Vserver<A>, real: u32, by: u64) {
    if vserver.flags & VSERVER_LEASTCONNS != 0
        && let Some(since) = maps::LOADS.get_ptr_mut(real)
    {
        // SAFETY: an element of the array, aligned to 8, which is changed here only.
        unsafe { fetch_add(since, by) };
    }
}

/// Adds atomically and gives the value before (BPF_ATOMIC with BPF_FETCH, kernel commit 5ca419f2864a, 5.12). By hand,
/// as `core` has no atomic that reads and writes for a target without compare-and-swap.
///
/// # Safety
/// `word` points to a live, aligned `u64` that is only accessed atomically.
#[inline(always)]
unsafe fn fetch_add(word: *mut u64, mut value: u64) -> u64 {
    // SAFETY: by the contract; the instruction touches `word` and `value` alone.
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({word} + 0), {value})", word = in(reg) word, value = inout(reg) value);
    };
    value
}
