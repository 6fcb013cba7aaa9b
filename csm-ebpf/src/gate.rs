//! The gate: one read decides what this node may do now.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns};
use csm_common::gate::{CLOCK_PACKETS, CLOCK_SLACK_NS, Clock, Gate, GateState};

use crate::maps;

/// The state in force and the time it was judged by (CLOCK_MONOTONIC, ns).
#[inline(always)]
pub(crate) fn read() -> (GateState, u64) {
    state(maps::GATE.get_ptr(0))
}

/// The same of HSRP group `number`.
#[inline(always)]
pub(crate) fn read_group(number: u32) -> (GateState, u64) {
    state(maps::GROUP_GATES.get_ptr(number))
}

/// Whether the switches may learn from what leaves now where the virtual MAC address is: the word says open. The lease is not asked
/// for, as whoever sends has just done so.
#[inline(always)]
pub(crate) fn teaches() -> bool {
    // SAFETY: as in `state`.
    maps::GATE.get_ptr(0).is_some_and(|word| unsafe { core::ptr::read_volatile(word) }.says(GateState::Open))
}

#[inline(always)]
fn state(word: Option<*const Gate>) -> (GateState, u64) {
    // The word is read before the clock: a delay in between can only let the lease run out, never stretch it.
    let gate = match word {
        // SAFETY: an element of a map; volatile because the real-time thread writes it through its mapping.
        Some(word) => unsafe { core::ptr::read_volatile(word) },
        None => Gate::CLOSED,
    };
    let now_ns = now(gate.deadline_ns());
    (gate.state_at(now_ns), now_ns)
}

/// The time, fine enough for a lease that ends at `deadline_ns`: [`Clock`] has the bounds.
#[inline(always)]
fn now(deadline_ns: u64) -> u64 {
    let Some(clock) = maps::CLOCKS.get_ptr_mut(0) else { return fine() };
    // SAFETY: this CPU's element; the program does not nest.
    let clock: &mut Clock = unsafe { &mut *clock };
    // SAFETY: the helper has no preconditions.
    let jiffies = unsafe { bpf_jiffies64() };
    if clock.left != 0 && clock.jiffies == jiffies && clock.now_ns + CLOCK_SLACK_NS < deadline_ns {
        clock.left -= 1;
        return clock.now_ns;
    }
    *clock = Clock { jiffies, now_ns: fine(), left: CLOCK_PACKETS - 1 };
    clock.now_ns
}

#[inline(always)]
fn fine() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}
