//! The gate: one read decides what this node may do now.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use csm_common::gate::{Gate, GateState};

use crate::maps;

/// The state in force and the time it was judged by (CLOCK_MONOTONIC, ns).
#[inline(always)]
pub(crate) fn read() -> (GateState, u64) {
    // The word is read before the clock: a delay in between can only let the lease run out, never stretch it.
    let gate = match maps::GATE.get_ptr(0) {
        // SAFETY: the map's only element; volatile because the real-time thread writes it through its mapping.
        Some(word) => unsafe { core::ptr::read_volatile(word) },
        None => Gate::CLOSED,
    };
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    (gate.state_at(now_ns), now_ns)
}
