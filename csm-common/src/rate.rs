//! Rates of new connections: token buckets of which a bucket is one word, the time at which it would be full again.
//!
//! A bucket that holds `burst` tokens and gets one each `interval_ns` is the generic cell rate algorithm (ITU-T I.371): one
//! is due at a time, each token taken moves that time on by an interval, and it may not be further ahead than a burst. One
//! word can be exchanged in one step, so CPUs that take at once never take more than there is.

use crate::address::{Address, V6};

/// What clocks of two CPUs may differ by, and much more, ns.
const FOREIGN_NS: u64 = 1_000_000_000;

/// A rate; part of [`crate::service::Vserver`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// Nanoseconds between two in the long run; 0: there is no limit.
    pub interval_ns: u32,
    /// How many may come at once, at least 1.
    pub burst: u32,
}
crate::map_type!(Rate, 8);

/// Most a rate and its burst may be, connections a second and connections.
pub const RATE_MAX: u32 = 1_000_000;

impl Rate {
    /// `per_second` and `burst` at once, both from 1 to [`RATE_MAX`]; an interval is rounded up, so the rate is never more.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { interval_ns: 1_000_000_000_u32.div_ceil(per_second), burst }
    }

    /// Whether there is a limit.
    #[inline(always)]
    #[must_use]
    pub const fn limits(self) -> bool {
        self.interval_ns != 0
    }

    /// The bucket `due_ns` after one more at `now_ns` (CLOCK_MONOTONIC, ns); `None` if it is empty. 0 is a full one.
    #[inline(always)]
    #[must_use]
    pub const fn take(self, due_ns: u64, now_ns: u64) -> Option<u64> {
        let interval_ns = self.interval_ns as u64;
        let burst = if self.burst == 0 { 1 } else { self.burst as u64 };
        // Later than this rate can have made it: of another rate, or of a virtual server that had the number before.
        if due_ns > now_ns + burst * interval_ns + FOREIGN_NS {
            return Some(now_ns + burst * interval_ns);
        }
        if due_ns > now_ns + (burst - 1) * interval_ns {
            return None;
        }
        Some(if due_ns > now_ns { due_ns } else { now_ns } + interval_ns)
    }
}

/// Key of `CLIENT_RATES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct RateKey<A: Address = u32> {
    /// Virtual server number.
    pub vserver: u32,
    /// The client's address, or its network's, network order.
    pub client_be: A,
}
crate::map_type!(RateKey, 8);
crate::map_type!(RateKey<V6>, 20);

/// First packets that a virtual server refused, one per CPU: element of `REFUSED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Refused {
    /// By its `rate-limit connections`.
    pub rate: u64,
    /// By its `rate-limit client`.
    pub client_rate: u64,
    /// By want of a real: none in rotation, or all of them at their `maxconns`.
    pub no_real: u64,
    /// By its `max-conns`.
    pub max_conns: u64,
    /// By its owner's `maxconns`.
    pub owner_max_conns: u64,
}
crate::map_type!(Refused, 40);

#[cfg(test)]
mod tests {
    use super::Rate;
    use proptest::prelude::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate::new(100, 5);
        let now_ns = 7 * SECOND_NS;
        let mut due_ns = 0;
        for _ in 0..5 {
            due_ns = rate.take(due_ns, now_ns).expect("within the burst");
        }
        assert_eq!(rate.take(due_ns, now_ns), None);
        assert_eq!(rate.take(due_ns, now_ns + 9_999_999), None, "one each 10 ms");
        let due_ns = rate.take(due_ns, now_ns + 10_000_000).expect("the next one");
        assert_eq!(rate.take(due_ns, now_ns + 10_000_000), None);
        assert!(!Rate::default().limits() && rate.limits());
    }

    #[test]
    fn what_another_rate_left_refuses_nobody_for_long() {
        let (slow, fast) = (Rate::new(10, 1000), Rate::new(1000, 10));
        let (now_ns, mut due_ns) = (7 * SECOND_NS, 0);
        while let Some(next) = slow.take(due_ns, now_ns) {
            due_ns = next;
        }
        let next = fast.take(due_ns, now_ns).expect("the bucket is this rate's now");
        assert_eq!(fast.take(next, now_ns), None, "and empty");
        assert!(fast.take(next, now_ns + 1_000_000).is_some());
    }

    #[test]
    fn a_rate_is_rounded_down() {
        assert_eq!(Rate::new(3, 1).interval_ns, 333_333_334);
        assert_eq!(Rate::new(super::RATE_MAX, 1).interval_ns, 1000);
        assert_eq!(Rate::new(1, 1).interval_ns, 1_000_000_000);
    }

    proptest! {
        /// In any window, of any arrivals: at most the burst and what the rate gives in that time.
        #[test]
        fn never_more_than_burst_and_rate_times_time(
            per_second in 1_u32..=super::RATE_MAX,
            burst in 1_u32..200,
            gaps in prop::collection::vec(0_u64..50_000_000, 1..400),
            start_ns in 0_u64..1 << 50,
        ) {
            let rate = Rate::new(per_second, burst);
            let (mut now_ns, mut due_ns) = (start_ns, 0);
            let mut taken: Vec<u64> = Vec::new();
            for gap in gaps {
                now_ns += gap / u64::from(per_second).min(1000);
                if let Some(next) = rate.take(due_ns, now_ns) {
                    prop_assert!(next > due_ns, "a token taken is never given back");
                    due_ns = next;
                    taken.push(now_ns);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let allowed = u128::from(burst) + u128::from(to - from) * u128::from(per_second) / u128::from(SECOND_NS);
                    prop_assert!((last - first + 1) as u128 <= allowed, "{} in {} ns", last - first + 1, to - from);
                }
            }
        }

        /// Nobody who keeps to the rate is refused.
        #[test]
        fn who_comes_no_faster_than_the_rate_is_served(per_second in 1_u32..=super::RATE_MAX, count in 1_u64..100) {
            let rate = Rate::new(per_second, 1);
            let mut due_ns = 0;
            for turn in 0..count {
                let now_ns = SECOND_NS + turn * u64::from(rate.interval_ns);
                due_ns = rate.take(due_ns, now_ns).expect("in time");
            }
        }
    }
}
