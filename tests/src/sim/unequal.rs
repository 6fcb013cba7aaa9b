//! Pairs whose nodes have other timers, and others again after each start and restart: somebody changes the configuration of one
//! box after the other.

use std::time::Duration;

use super::plan::{Defect, Plan, Timers};
use super::rng::Rng;

/// A heartbeat interval and a failover time are as many times those of the seed, which the link is drawn for.
const TIMES: [u32; 4] = [1, 1, 2, 3];

impl Plan {
    /// The plan of `seed`, with timers that are drawn for each node and each of its boots.
    #[must_use]
    pub fn draw_unequal(seed: u64) -> Self {
        let plan = Self::draw(seed, Defect::None);
        // Of its own: what else happens is as in that seed.
        let mut rng = Rng::new(seed ^ 0x0074_696d_6572_7321);
        let (heartbeat, failover) = (plan.heartbeat, plan.failover);
        let mut draw = || {
            let times = rng.pick(&TIMES);
            let slower = u32::try_from(rng.within(1..u64::from(times) + 1)).unwrap_or(1);
            Timers { heartbeat: heartbeat * slower, failover: failover * times }
        };
        let timers = [[draw(), draw(), draw()], [draw(), draw(), draw()]];
        let longest = |of: fn(&Timers) -> Duration| timers.iter().flatten().map(of).max().unwrap_or_default();
        let (heartbeat, longest) = (longest(|timers| timers.heartbeat), longest(|timers| timers.failover));
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let calm = plan.calm + 6 * nanos(longest - failover);
        let end = calm + (plan.end - plan.calm) * (nanos(longest) / nanos(failover));
        Self { heartbeat, failover: longest, timers, calm, end, unequal: true, ..plan }
    }
}
