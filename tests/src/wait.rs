//! Waiting: poll a condition until a deadline, never sleep and hope. And the clock that all programs of the lab share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::time::{ClockId, clock_gettime};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Nanoseconds of CLOCK_MONOTONIC, the same in every namespace and process of this machine.
pub fn now_ns() -> u64 {
    clock_ns(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds of the given clock; 0 for a clock that the kernel does not have.
pub fn clock_ns(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |at| {
        let whole = u64::try_from(at.tv_sec()).unwrap_or(0) * 1_000_000_000;
        whole + u64::try_from(at.tv_nsec()).unwrap_or(0)
    })
}

/// Asks for SCHED_FIFO for the calling thread, and says whether it was granted.
pub fn real_time(priority: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the pointer is to a live sched_param; 0 means the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) == 0 }
}

/// From here on SIGINT, SIGTERM and SIGHUP end every wait with an error, so that the guards clean up.
///
/// # Errors
/// When the kernel refuses a handler, which it does not for these signals.
pub fn watch_signals() -> Result<()> {
    extern "C" fn note(_: i32) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores one atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Calls `look` every `pace` until it gives a value.
///
/// # Errors
/// After `limit` ("WHAT did not happen within ..."), on a signal, or at once with the error of `look`.
pub fn until<T>(
    what: &str,
    limit: Duration,
    pace: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {:.1} s", limit.as_secs_f64());
        }
        std::thread::sleep(pace);
    }
}

/// Lets traffic flow for a stated time; ends early, with an error, on a signal.
pub fn observe(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    until("the end of the observation", time + Duration::from_secs(1), Duration::from_millis(5), || {
        Ok((Instant::now() >= end).then_some(()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_the_value_or_names_what_did_not_happen() {
        let mut looks = 0;
        let third = until("third look", Duration::from_secs(5), Duration::ZERO, || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(third.ok(), Some(3));
        let never = until::<()>("the flood", Duration::ZERO, Duration::ZERO, || Ok(None));
        assert!(never.is_err_and(|error| error.to_string().starts_with("the flood: not within")));
    }
}
