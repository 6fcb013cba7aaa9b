//! Loads and stores of words that stand at even addresses, in one instruction.
//!
//! A network header stands 14 octets into the frame, so that for the compiler its words are halfwords. The kernel takes wide
//! accesses to a frame where the CPU does (CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS). To its stack it never does, so the
//! compiler cannot be told that all are allowed: by hand.

use core::arch::asm;

/// The 8 octets at `base + AT`, as they stand there.
///
/// # Safety
/// They must be within the frame or a map's value.
#[inline(always)]
pub(crate) unsafe fn load64<const AT: i16>(base: usize) -> u64 {
    let value: u64;
    // SAFETY: by the contract; the instruction reads nothing else.
    unsafe {
        asm!("{value} = *(u64 *)({base} + {at})", value = out(reg) value, base = in(reg) base, at = const AT,
            options(nostack, readonly, preserves_flags));
    }
    value
}

/// The 4 octets at `base + AT`.
///
/// # Safety
/// As for [`load64`].
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "32 bits were loaded")]
pub(crate) unsafe fn load32<const AT: i16>(base: usize) -> u32 {
    let value: u64;
    // SAFETY: as in `load64`.
    unsafe {
        asm!("{value} = *(u32 *)({base} + {at})", value = out(reg) value, base = in(reg) base, at = const AT,
            options(nostack, readonly, preserves_flags));
    }
    value as u32
}

/// Writes 8 octets at `base + AT`.
///
/// # Safety
/// As for [`load64`].
#[inline(always)]
pub(crate) unsafe fn store64<const AT: i16>(base: usize, value: u64) {
    // SAFETY: by the contract; the instruction writes nothing else.
    unsafe {
        asm!("*(u64 *)({base} + {at}) = {value}", value = in(reg) value, base = in(reg) base, at = const AT,
            options(nostack, preserves_flags));
    }
}

/// Writes 4 octets at `base + AT`.
///
/// # Safety
/// As for [`load64`].
#[inline(always)]
pub(crate) unsafe fn store32<const AT: i16>(base: usize, value: u32) {
    let value = u64::from(value);
    // SAFETY: as in `store64`.
    unsafe {
        asm!("*(u32 *)({base} + {at}) = {value}", value = in(reg) value, base = in(reg) base, at = const AT,
            options(nostack, preserves_flags));
    }
}
