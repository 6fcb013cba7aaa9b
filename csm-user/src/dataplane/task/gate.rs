//! The gate as this process writes it.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use csm_common::gate::Gate;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The gate word of the XDP program, mapped into memory: a store is seen by the next packet.
#[derive(Debug)]
pub struct MappedGate {
    word: NonNull<AtomicU64>,
}

// SAFETY: the mapping is not tied to a thread and is only reached through an atomic.
unsafe impl Send for MappedGate {}
// SAFETY: as above.
unsafe impl Sync for MappedGate {}

/// One page: the kernel rounds an array of one word up to it.
const GATE_BYTES: NonZeroUsize = NonZeroUsize::new(size_of::<Gate>()).unwrap();

impl MappedGate {
    pub(in crate::dataplane) fn new(map: impl AsFd) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping at an address of the kernel's choice aliases nothing of this process.
        let page = unsafe { mmap(None, GATE_BYTES, protection, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { word: page.cast() })
    }

    /// Sets the gate. Release: what this thread wrote to other mapped memory before is visible to who reads the gate.
    pub fn store(&self, gate: Gate) {
        // SAFETY: `word` points to the mapping, page-aligned, which lives until `drop`.
        unsafe { self.word.as_ref() }.store(gate.0, Ordering::Release);
    }

    /// The gate as stored last.
    #[must_use]
    pub fn load(&self) -> Gate {
        // SAFETY: as in `store`.
        Gate(unsafe { self.word.as_ref() }.load(Ordering::Acquire))
    }
}

impl Drop for MappedGate {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and no reference to it is left.
        let unmapped = unsafe { munmap(self.word.cast(), GATE_BYTES.get()) };
        debug_assert!(unmapped.is_ok(), "the gate was mapped by new");
    }
}
