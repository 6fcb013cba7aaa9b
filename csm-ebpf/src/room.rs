//! Room for a connection at a real: `maxconns` and `minconns`.
//!
//! A connection takes its place before it is made, in one step, and gives it back if it is not made after all. So however
//! many CPUs there are, a real never has more than it may, as far as its connections are counted (`dataplane/loads.rs` of the
//! controller says how far).

use csm_common::flow::NONE;
use csm_common::limits::{LEAST_COMPARED, RING_SLOTS};
use csm_common::service::{VSERVER_COUNTED, Vserver, load, of_weighted_slot, ring_slot};

use crate::family::Family;
use crate::{atomic, maps};

/// Whether `real` takes one more connection of `vserver`, which is counted from here on.
#[inline(always)]
pub(crate) fn take<A: Family>(vserver: &Vserver<A>, real: u32) -> bool {
    vserver.flags & VSERVER_COUNTED == 0 || reserve::<A>(real)
}

#[inline(always)]
fn reserve<A: Family>(number: u32) -> bool {
    let (Some(real), Some(since), Some(&base), Some(throttled)) = (
        A::reals().get(number),
        maps::LOADS.get_ptr_mut(number),
        maps::LOAD_BASES.get(number),
        maps::THROTTLED.get_ptr_mut(number),
    ) else {
        return false;
    };
    // SAFETY: an element of the array, aligned to 8, which is changed atomically only.
    let before = load(base, unsafe { atomic::fetch_add(since, 1) });
    if real.max_conns == 0 {
        return true;
    }
    // SAFETY: an element of the array; of CPUs that write at once either's word will do.
    let was_throttled = unsafe { throttled.read_volatile() } != 0;
    let limit = if was_throttled { real.min_conns } else { real.max_conns };
    let has_room = before < u64::from(limit);
    if has_room == was_throttled {
        // SAFETY: as above.
        unsafe { throttled.write_volatile(u32::from(!has_room)) };
    }
    if !has_room {
        // SAFETY: as above.
        unsafe { atomic::fetch_add(since, u64::MAX) };
    }
    has_room
}

/// A connection of `vserver` to `real` that may not be refused: it belongs to another one.
#[inline(always)]
pub(crate) fn add<A: Family>(vserver: &Vserver<A>, real: u32) {
    change(vserver, real, 1);
}

/// A connection has ended, or was not made after all.
#[inline(always)]
pub(crate) fn give_back<A: Family>(vserver: u32, real: u32) {
    if let Some(vserver) = A::vservers().get(vserver) {
        change(vserver, real, u64::MAX);
    }
}

#[inline(always)]
fn change<A: Family>(vserver: &Vserver<A>, real: u32, by: u64) {
    if vserver.flags & VSERVER_COUNTED != 0
        && let Some(since) = maps::LOADS.get_ptr_mut(real)
    {
        // SAFETY: an element of the array, aligned to 8, which is changed atomically only.
        unsafe { atomic::fetch_add(since, by) };
    }
}

/// Another real of virtual server `number`, where the one chosen has no room: the first that has, at most [`LEAST_COMPARED`]
/// from the next in turn on. [`NONE`] if there is none.
#[inline(never)]
pub(crate) fn another<A: Family>(number: u32, vserver: &Vserver<A>) -> u32 {
    let length = u32::from(vserver.spare_len).min(RING_SLOTS);
    let Some(cursor) = maps::CURSORS.get_ptr_mut(number) else { return NONE };
    // SAFETY: an element of the array, aligned to 8, which is changed atomically only.
    let turn = unsafe { atomic::fetch_add(cursor, 1) } % u64::from(length.max(1));
    #[expect(clippy::cast_possible_truncation, reason = "a remainder below the ring's length")]
    let turn = turn as u32;
    for step in 0..LEAST_COMPARED {
        if step >= length {
            break;
        }
        let slot = vserver.ring_len.min(RING_SLOTS) + (turn + step) % length;
        let Some(&packed) = maps::RINGS.get(ring_slot(number, slot)) else { break };
        let (real, _) = of_weighted_slot(packed);
        if reserve::<A>(real) {
            return real;
        }
    }
    NONE
}
