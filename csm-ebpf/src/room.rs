//! Room for a connection at a real, `maxconns` and `minconns`, at a virtual server, `max-conns`, and at its owner.
//!
//! A connection takes its place before it is made, in one step, and gives it back if it is refused after all. So however
//! many CPUs there are, none of them ever has more than it may, as far as its connections are counted (`dataplane/loads.rs` of the
//! controller says how far).

use csm_common::counter::Reason;
use csm_common::service::{Real, VSERVER_COUNTED, Vserver, load, place_slot};

use crate::family::Family;
use crate::packet::opaque;
use crate::{atomic, maps, rate};

/// All ones if `a` is less than `b`, both below 2^63; else 0.
#[inline(always)]
pub(crate) fn mask(a: u64, b: u64) -> u64 {
    opaque(a.wrapping_sub(b)).cast_signed().wrapping_shr(63).cast_unsigned()
}

/// How many connections `real` may have beside a new one, and one more: its `maxconns`, or `minconns` while it is `throttled`.
/// Without branches, as it is asked of many reals.
#[inline(always)]
pub(crate) fn limit<A: Family>(real: &Real<A>, throttled: u32) -> u64 {
    let was = mask(0, throttled.into());
    let (max, min) = (u64::from(real.max_conns.wrapping_sub(1)), u64::from(real.min_conns.wrapping_sub(1)));
    // Less by one and more by one: no limit, 0, is thus the largest.
    (max ^ ((max ^ min) & was)) + 1
}

/// Whether real `number` takes one more connection, which is counted from here on. Not 0 in `must`: it does, whatever it has.
#[inline(never)]
pub(crate) fn reserve<A: Family>(number: u32, must: u32) -> bool {
    let (Some(real), Some(since), Some(&base), Some(throttled)) = (
        A::reals().get(number),
        maps::LOADS.get_ptr_mut(number),
        maps::LOAD_BASES.get(number),
        maps::THROTTLED.get_ptr_mut(number),
    ) else {
        return false;
    };
    // SAFETY: elements of arrays; the one aligned to 8 is changed atomically only, of the other any CPU's word will do.
    let (now, was) = unsafe { (load(base, since.read_volatile()), throttled.read_volatile()) };
    // A real that is full is not counted up even for a moment: another CPU would take that one for a connection.
    let room = limit(real, was);
    if must == 0 && now >= room {
        // SAFETY: as above.
        unsafe { throttled.write_volatile(1) };
        return false;
    }
    // SAFETY: as above.
    let before = unsafe { load(base, atomic::fetch_add(since, 1)) };
    if must != 0 {
        return true;
    }
    if before < room {
        // With this one it may be at its most.
        let is = u32::from(before + 1 == u64::from(real.max_conns));
        if was != is {
            // SAFETY: as above.
            unsafe { throttled.write_volatile(is) };
        }
        return true;
    }
    // SAFETY: as above.
    unsafe {
        throttled.write_volatile(1);
        atomic::fetch_add(since, u64::MAX);
    }
    false
}

/// Whether virtual server `number` and its owner take one more connection, which is counted from here on. Not 0 in `must`: they do,
/// whatever they have. What has no limit is not counted.
#[inline(always)]
pub(crate) fn admit<A: Family>(number: u32, vserver: &Vserver<A>, must: u32) -> Result<(), Reason> {
    if vserver.max_conns | vserver.owner_max_conns == 0 {
        return Ok(());
    }
    let result = places(number, vserver, must);
    if let Err(reason) = result {
        rate::count(number, reason);
    }
    result
}

/// The virtual server's place first, which goes back if its owner has none: so neither counts what the other refuses for longer than
/// that, and who is refused meanwhile by that place asks again.
#[inline(never)]
fn places<A: Family>(number: u32, vserver: &Vserver<A>, must: u32) -> Result<(), Reason> {
    let slot = place_slot(number, vserver.policy_of);
    if vserver.max_conns != 0 && !enter(slot, vserver.max_conns, must) {
        return Err(Reason::DropVserverFull);
    }
    if vserver.owner_max_conns != 0 && !enter(vserver.owner.wrapping_sub(1), vserver.owner_max_conns, must) {
        if vserver.max_conns != 0 {
            change(slot, u64::MAX);
        }
        return Err(Reason::DropOwnerFull);
    }
    Ok(())
}

/// Takes one of `max` places; as of [`reserve`] nobody is counted who is refused, not even for a moment, unless another CPU takes the
/// last place meanwhile.
#[inline(never)]
fn enter(slot: u32, max: u32, must: u32) -> bool {
    let (Some(since), Some(&base)) = (maps::PLACES.get_ptr_mut(slot), maps::PLACE_BASES.get(slot)) else {
        return false;
    };
    let max = u64::from(max);
    // SAFETY: an element of an array, aligned to 8, which is changed atomically only.
    if must == 0 && load(base, unsafe { since.read_volatile() }) >= max {
        return false;
    }
    // SAFETY: as above.
    let before = unsafe { load(base, atomic::fetch_add(since, 1)) };
    if must != 0 || before < max {
        return true;
    }
    // SAFETY: as above.
    unsafe { atomic::fetch_add(since, u64::MAX) };
    false
}

/// A connection of `vserver` has ended, or was not made after all. Without a real, as of
/// `predictor forward`, it had a place at its virtual server only.
#[inline(always)]
pub(crate) fn give_back<A: Family>(vserver: u32, real: u32) {
    count::<A>(vserver, real, u64::MAX);
}

/// A connection of `vserver` is made that its real has already, whether there is room or not.
#[inline(always)]
pub(crate) fn take<A: Family>(vserver: u32, real: u32) {
    count::<A>(vserver, real, 1);
}

#[inline(always)]
fn count<A: Family>(number: u32, real: u32, change: u64) {
    let Some(vserver) = A::vservers().get(number) else { return };
    if vserver.flags & VSERVER_COUNTED != 0
        && let Some(since) = maps::LOADS.get_ptr_mut(real)
    {
        // SAFETY: as in `reserve`.
        unsafe { atomic::fetch_add(since, change) };
    }
    if vserver.max_conns != 0 {
        self::change(place_slot(number, vserver.policy_of), change);
    }
    if vserver.owner_max_conns != 0 {
        self::change(vserver.owner.wrapping_sub(1), change);
    }
}

/// Adds to an element of `PLACES`.
#[inline(always)]
fn change(slot: u32, by: u64) {
    if let Some(since) = maps::PLACES.get_ptr_mut(slot) {
        // SAFETY: as in `enter`.
        unsafe { atomic::fetch_add(since, by) };
    }
}
