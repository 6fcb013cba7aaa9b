//! Shell, for the lab: ends this process in the midst of what it writes, as a power cut would.

use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, raise};

/// Steps that are still carried out, and the one before which the process ends; 0: it never does.
static LEFT: AtomicU32 = AtomicU32::new(0);

/// This process ends before its step number `step` of writing to the state directory, counted from 1.
pub fn before(step: u32) {
    LEFT.store(step, Ordering::Release);
}

/// A step of writing to the state directory is about to be carried out.
pub(super) fn step() {
    let left = LEFT.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
    if left == Ok(1) {
        // Nothing is flushed, and nobody is told.
        let _ends_here = raise(Signal::SIGKILL);
    }
}
