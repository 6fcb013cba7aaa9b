//! Which slot of its virtual server's ring a connection gets. For weighted round robin the ring holds each real as often
//! as its weight says, interleaved by the controller; for the hashing predictors it is a table that keeps most clients on
//! their real when another real comes or goes.

use core::arch::asm;

use csm_common::flow::FlowKey;
use csm_common::hash;
use csm_common::limits::RING_SLOTS;
use csm_common::service::{VSERVER_HASH_DESTINATION, VSERVER_HASH_SOURCE, Vserver, ring_slot};

use crate::family::Family;
use crate::maps;

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
        return maps::RINGS.get(ring_slot(number, slot)).copied();
    }
    let cursor = maps::CURSORS.get_ptr_mut(number)?;
    // SAFETY: an element of the array, aligned to 8, which is changed here only.
    let turn = unsafe { fetch_increment(cursor) };
    let slot = (turn % u64::from(length)) as u32;
    maps::RINGS.get(ring_slot(number, slot)).copied()
}

#[inline(always)]
fn hash<A: Family>(vserver: &Vserver<A>, key: &FlowKey<A>) -> u32 {
    let counts = |bit, ip_be: A| {
        if vserver.flags & bit == 0 { A::UNSPECIFIED } else { ip_be.masked(vserver.hash_mask_be) }
    };
    hash::addresses(counts(VSERVER_HASH_SOURCE, key.src_be), counts(VSERVER_HASH_DESTINATION, key.dst_be))
}

/// Adds 1 atomically and gives the value before (BPF_ATOMIC with BPF_FETCH, kernel commit 5ca419f2864a, 5.12). By hand,
/// as `core` has no atomic that reads and writes for a target without compare-and-swap.
///
/// # Safety
/// `word` points to a live, aligned `u64` that is only accessed atomically.
#[inline(always)]
unsafe fn fetch_increment(word: *mut u64) -> u64 {
    let mut value = 1u64;
    // SAFETY: by the contract; the instruction touches `word` and `value` alone.
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({word} + 0), {value})", word = in(reg) word, value = inout(reg) value);
    };
    value
}
