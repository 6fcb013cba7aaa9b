//! Whether the controller still reads what it is told.
//!
//! A controller that was killed or stopped leaves the gate open to the end of its lease. What is proven meanwhile goes on
//! here but is told to nobody, so the successor would not know it. A first packet that is refused instead is sent
//! again by its client, and then finds the successor.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_CONS_POS};
use csm_common::event::{Drain, STALL_NS};

use crate::maps;

/// Records have waited for longer than [`STALL_NS`], and none was read. Asked for first packets only.
#[inline(always)]
pub(crate) fn is_stalled(now_ns: u64) -> bool {
    let Some(drain) = maps::DRAIN.get_ptr_mut(0) else { return false };
    // SAFETY: the map's only element. Of CPUs that write at once either's word will do: both have just looked.
    let drain: &mut Drain = unsafe { &mut *drain };
    // The ring outlives a controller that is replaced; its successor tells what waits there.
    if now_ns < drain.held_until_ns {
        return false;
    }
    if maps::EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) == 0 {
        drain.since_ns = 0;
        return false;
    }
    let read = maps::EVENTS.query(u64::from(BPF_RB_CONS_POS));
    // What waits may have come only now, however long ago anybody looked: the time runs from the first look that met it.
    if drain.since_ns == 0 || read != drain.read {
        drain.read = read;
        drain.since_ns = now_ns;
        return false;
    }
    // Another CPU may have read its clock later.
    now_ns.saturating_sub(drain.since_ns) > STALL_NS
}
