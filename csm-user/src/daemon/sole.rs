//! The role of a box without an FT group: nobody else may take it, but it, too, ends when nobody renews it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use csm_common::gate::{Gate, GateState};

use crate::dataplane::load::MappedGate;
use crate::dataplane::table::monotonic_ns;

/// How long a csmd that has died, or is being restarted, is made up for by the dataplane alone.
const LEASE: Duration = Duration::from_secs(10);
/// Between two renewals.
const PERIOD: Duration = Duration::from_secs(1);

/// Keeps the gate open until it is dropped.
pub(super) struct Sole {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sole {
    /// From now on.
    ///
    /// # Errors
    /// If no thread can be had.
    pub(super) fn hold(gate: Arc<MappedGate>) -> io::Result<Self> {
        let renew = move || {
            let lease = u64::try_from(LEASE.as_nanos()).unwrap_or(u64::MAX);
            gate.store(Gate::new(GateState::Open, monotonic_ns().saturating_add(lease)));
        };
        renew();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("csm-sole".into()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                std::thread::park_timeout(PERIOD);
                renew();
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Sole {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the thread that keeps the gate open panicked");
            }
        }
    }
}
