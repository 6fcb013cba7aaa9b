//! What may happen only so often.

use csm_common::limits::Budget;

use crate::maps;

/// Takes one out of this CPU's bucket; `false` if it is empty.
#[inline(always)]
pub(crate) fn take(budget: Budget, now_ns: u64) -> bool {
    let Some(due_ns) = maps::BUDGETS.get_ptr_mut(budget as u32) else { return false };
    // SAFETY: this CPU's element; the program does not nest.
    match budget.take(unsafe { *due_ns }, now_ns) {
        Some(next_ns) => {
            // SAFETY: as above.
            unsafe { *due_ns = next_ns };
            true
        }
        None => false,
    }
}
