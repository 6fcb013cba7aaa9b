//! Shares of a crowded connection table: what is kept for each virtual server, so that no other one takes all.
//!
//! The controller counts, walk by walk, and says how many may be proven until the next one (`dataplane/shares.rs`); here they are
//! taken, one at a time, and never more than there are. While the table is not half full nothing is taken.

use csm_common::service::share_slot;

use crate::family::Family;
use crate::{atomic, maps};

/// Exchanges that are tried: after so many that another CPU was faster with, the connection waits for its sender's next packet.
const TRIES: u32 = 4;

/// Whether one more connection of `vserver` may be proven; takes its place of those that it has, else of everybody's.
#[inline(never)]
pub(crate) fn take<A: Family>(vserver: u32) -> bool {
    let Some(everybodys) = maps::SHARES.get_ptr_mut(u32::from(A::BITS > 32)) else { return true };
    // SAFETY: an element of the array, aligned to 8; whatever another CPU makes of it, it is a whole word.
    if unsafe { everybodys.read_volatile() } == 0 {
        return true;
    }
    // No virtual server, which is none of the numbers, has none for itself.
    maps::SHARES.get_ptr_mut(share_slot(vserver)).is_some_and(take_from) || take_from(everybodys)
}

/// Takes one of those that `left`, a live element of the map, says.
#[inline(never)]
fn take_from(left: *mut u64) -> bool {
    for _ in 0..TRIES {
        // SAFETY: as in `take`.
        let before = unsafe { left.read_volatile() };
        if before < 2 {
            return false;
        }
        // SAFETY: as in `take`; the controller writes it whole.
        if unsafe { atomic::replace(left, before, before - 1) } {
            return true;
        }
    }
    false
}
