//! The lease that a pair of FT timers allows. Pure.
//!
//! The active node's dataplane forwards only until `t + length` after its last tick at `t`; the standby opens no earlier
//! than `failover` after the last heartbeat it heard. What lies between the two is the guard: it absorbs the difference
//! in rate of the two clocks (a fifth of the lease), the error of reading one ([`CLOCK_ERROR`]) and a margin
//! ([`MARGIN`]). So a node that stops, however late it notices, has fenced itself before its peer takes over.

use std::time::Duration;

use thiserror::Error;

/// Error of one reading of the clock that the dataplane and the real-time thread share.
pub const CLOCK_ERROR: Duration = Duration::from_millis(1);
/// Part of the guard that does not grow with the lease.
pub const MARGIN: Duration = Duration::from_millis(1);
/// Heartbeats that a lease must outlast, so that a single late tick does not fence the node.
pub const HEARTBEATS_MIN: u32 = 2;
/// Shortest `failover` on a host without real-time scheduling: an ordinary thread may well be late by a tenth of it.
pub const FAILOVER_MIN_WITHOUT_REALTIME: Duration = Duration::from_millis(500);

/// Longest lease that a witness grants; what it must wait out after a start of its own.
pub const WITNESSED_MAX: Duration = Duration::from_secs(10);

/// How long forwarding authority lasts, and how long the successor waits beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// From the tick that grants it to its end; whole microseconds.
    pub length: Duration,
    /// From the end of the predecessor's lease to the successor's opening: `failover - length`.
    pub guard: Duration,
}

/// No lease fits the timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "failover {failover:?} leaves no lease of {HEARTBEATS_MIN} heartbeats of {heartbeat:?}: at least {smallest:?}"
)]
pub struct LeaseError {
    /// As given.
    pub heartbeat: Duration,
    /// As given.
    pub failover: Duration,
    /// The smallest failover time, in whole milliseconds, that would do with this heartbeat.
    pub smallest: Duration,
}

/// The longest lease with `length + guard == failover` and `guard >= 0.2 * length + MARGIN + CLOCK_ERROR`.
///
/// # Errors
/// If it would not outlast [`HEARTBEATS_MIN`] heartbeats.
pub fn lease(heartbeat: Duration, failover: Duration) -> Result<Lease, LeaseError> {
    let floor = heartbeat.saturating_mul(HEARTBEATS_MIN);
    let length = longest(failover);
    if length.is_zero() || length < floor {
        return Err(LeaseError { heartbeat, failover, smallest: smallest_failover(heartbeat) });
    }
    Ok(Lease { length, guard: failover - length })
}

/// `(failover - 2 ms) / 1.2`, down to whole microseconds.
fn longest(failover: Duration) -> Duration {
    let micros = failover.saturating_sub(MARGIN + CLOCK_ERROR).as_micros() * 5 / 6;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// The smallest failover, in whole milliseconds, whose lease outlasts [`HEARTBEATS_MIN`] of `heartbeat`.
#[must_use]
pub fn smallest_failover(heartbeat: Duration) -> Duration {
    let floor = heartbeat.saturating_mul(HEARTBEATS_MIN).max(Duration::from_micros(1));
    let micros = (floor.as_nanos() * 6).div_ceil(5 * 1000) + (MARGIN + CLOCK_ERROR).as_micros();
    Duration::from_millis(u64::try_from(micros.div_ceil(1000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_defaults_the_lab_timers_and_the_fastest_timers_have_a_lease() {
        let expected = [
            (1000, 3000, Duration::from_micros(2_498_333)),
            (50, 150, Duration::from_micros(123_333)),
            (10, 30, Duration::from_micros(23_333)),
        ];
        for (heartbeat, failover, length) in expected {
            let found = lease(ms(heartbeat), ms(failover)).unwrap();
            assert_eq!(found, Lease { length, guard: ms(failover) - length });
        }
    }

    #[test]
    fn a_failover_that_holds_less_than_two_heartbeats_is_refused_and_the_smallest_named() {
        assert_eq!(lease(ms(50), ms(121)).unwrap_err().smallest, ms(122));
        assert!(lease(ms(50), ms(122)).is_ok());
        assert!(lease(Duration::ZERO, ms(2)).is_err());
    }

    proptest! {
        #[test]
        fn the_guard_covers_drift_margin_and_clock_error(
            heartbeat in 0..=65_535_000_u64, failover in 0..=65_535_000_u64,
        ) {
            match lease(ms(heartbeat), ms(failover)) {
                Ok(Lease { length, guard }) => {
                    prop_assert_eq!(length + guard, ms(failover));
                    prop_assert!(guard * 5 >= length + (MARGIN + CLOCK_ERROR) * 5);
                    prop_assert!(length >= ms(heartbeat) * HEARTBEATS_MIN);
                    // One microsecond more would not fit: it is the longest.
                    let more = length + Duration::from_micros(1);
                    prop_assert!((ms(failover) - more) * 5 < more + (MARGIN + CLOCK_ERROR) * 5);
                }
                Err(LeaseError { smallest, .. }) => {
                    prop_assert!(smallest > ms(failover));
                    prop_assert!(lease(ms(heartbeat), smallest).is_ok());
                    prop_assert!(lease(ms(heartbeat), smallest - ms(1)).is_err());
                }
            }
        }
    }
}
