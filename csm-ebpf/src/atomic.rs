//! Atomic instructions that `core` has not for a target without compare-and-swap (BPF_ATOMIC, kernel commit 5ca419f2864a,
//! 5.12).

use core::arch::asm;

/// Adds atomically and gives the value before.
///
/// # Safety
/// `word` points to a live, aligned `u64` that is only accessed atomically.
#[inline(always)]
pub(crate) unsafe fn fetch_add(word: *mut u64, mut value: u64) -> u64 {
    // SAFETY: by the contract; the instruction touches `word` and `value` alone.
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({word} + 0), {value})", word = in(reg) word, value = inout(reg) value);
    };
    value
}

/// Writes `new` if the word is `expected`, in one step; `true` if it was.
///
/// # Safety
/// As of [`fetch_add`].
#[inline(always)]
pub(crate) unsafe fn replace(word: *mut u64, expected: u64, new: u64) -> bool {
    let mut found = expected;
    // SAFETY: by the contract; the instruction touches `word` and the register of `found` alone.
    #[cfg(target_arch = "bpf")]
    unsafe {
        asm!("r0 = cmpxchg_64({word} + 0, r0, {new})", word = in(reg) word, new = in(reg) new, inout("r0") found);
    };
    // Clippy compiles this for the host, which has no such register.
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
        // SAFETY: by the contract.
        let word = unsafe { AtomicU64::from_ptr(word) };
        found = word.compare_exchange(found, new, SeqCst, SeqCst).unwrap_or_else(|other| other);
    }
    found == expected
}
