//! How soon a silent node is replaced, for each setting of the timers: many failovers in one lab, and the median and the worst.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::checks;
use crate::figure::{Figure, Timers};
use crate::lab::{Lab, Options};
use crate::node::Fault;
use crate::programs::Programs;
use crate::report::ms;
use crate::scenario::{RIPEN, Traffic};
use crate::status::Role;
use crate::topology::{Side, VIP, Wiring};
use crate::wait::{self, now_ns};

/// Settings of the table.
pub const SETTINGS: [&str; 5] = ["1000/3000", "100/300", "50/150", "20/60", "10/30"];
const LIMIT: Duration = Duration::from_secs(90);

/// One failover.
#[derive(Debug, Clone, Copy)]
pub struct Failover {
    /// From the fault to the new active node's first announcement, as the switch saw it.
    pub detection: Duration,
    /// Longest pause of a client that sends a datagram every millisecond.
    pub silence: Duration,
}

/// All of one setting.
#[derive(Debug)]
pub struct Setting {
    /// The timers.
    pub timers: Timers,
    /// One after another.
    pub failovers: Vec<Failover>,
    /// Moves of the role for which nothing had been done, and in how long.
    pub unprovoked: u64,
    /// See there.
    pub watched: Duration,
    /// Long-lived connections at the start, and at the end.
    pub connections: [usize; 2],
    /// Worst lateness of a node's real-time thread.
    pub lateness: Duration,
}

impl Setting {
    /// Stops the active node's csmd `count` times, lets it go on when its peer has taken over, and watches meanwhile.
    ///
    /// # Errors
    /// When a takeover or a return does not come.
    pub fn measure(timers: Timers, count: usize, programs: Programs, out: PathBuf) -> Result<Self> {
        const CONNECTIONS: usize = 50;
        let figure = Figure { timers, preempt: false, wiring: Wiring::Access };
        let options = Options {
            figure,
            web_interval: Duration::from_millis(400),
            message_interval: Duration::from_millis(250),
            ..Options::small(programs, out)
        };
        let mut lab = Lab::build(options)?;
        lab.start(timers.failover * 4 + Duration::from_secs(20))?;
        let mut traffic = Traffic::start(&lab, CONNECTIONS)?;
        let mut made = Self {
            timers,
            failovers: Vec::new(),
            unprovoked: 0,
            watched: Duration::ZERO,
            connections: [CONNECTIONS, 0],
            lateness: Duration::ZERO,
        };
        for _ in 0..count {
            let failover = made.one(&mut lab, &mut traffic)?;
            made.failovers.push(failover);
        }
        traffic.messages("mark")?;
        let last = traffic.prove(LIMIT)?;
        made.connections[1] = last.alive - last.unproven;
        drop(traffic);
        let leaks = lab.take_down()?;
        if !leaks.is_empty() {
            bail!("left behind: {leaks:?}");
        }
        Ok(made)
    }

    fn one(&mut self, lab: &mut Lab, traffic: &mut Traffic) -> Result<Failover> {
        let failover = self.timers.failover;
        let active = lab.wait_for_active(LIMIT)?;
        let before = term(lab, active)?;
        traffic.mark()?;
        let quiet = failover * 3;
        wait::observe(quiet)?;
        self.watched += quiet;
        let active = lab.wait_for_active(LIMIT)?;
        self.unprovoked += term(lab, active)?.saturating_sub(before);
        let peer = active.peer();
        let at_ns = lab.fail(active, Fault::Stop)?;
        wait::observe(failover)?;
        lab.node(peer).wait_for(Role::Active, LIMIT).context("takeover")?;
        wait::observe(RIPEN)?;
        let seen = traffic.probe.report()?;
        let claims = checks::claims(&lab.capture.frames(at_ns, now_ns()), &[VIP]);
        let said = claims.iter().find(|claim| claim.by == peer).context("an announcement")?;
        lab.restore(active)?;
        wait::until("a ready standby", LIMIT, Duration::from_millis(20), || {
            let status = lab.node(active).status();
            Ok(status.is_ok_and(|status| status.role == Role::Standby && status.ready).then_some(()))
        })?;
        // Its own being stopped is no lateness of its thread: the other one's is.
        if self.failovers.is_empty() {
            self.lateness = Duration::from_micros(lab.node(peer).status()?.worst_lateness_us);
        }
        Ok(Failover {
            detection: Duration::from_nanos(said.at_ns - at_ns),
            silence: Duration::from_nanos(seen.longest_silence_ns),
        })
    }

    /// Its line of the table.
    pub fn row(&self) -> String {
        let of = |pick: fn(&Failover) -> Duration| {
            let mut times: Vec<_> = self.failovers.iter().map(pick).collect();
            times.sort_unstable();
            format!("{} | {}", ms(quantile(&times, 50)), ms(quantile(&times, 99)))
        };
        format!(
            "| {} | {} | {} | {} | {} in {} s | {} | {} of {} |",
            self.timers,
            self.failovers.len(),
            of(|one| one.detection),
            of(|one| one.silence),
            self.unprovoked,
            self.watched.as_secs(),
            ms(self.lateness),
            self.connections[1],
            self.connections[0],
        )
    }
}

/// The first lines of the table.
pub fn head() -> String {
    "| heartbeat/failover ms | failovers | detection ms, median | p99 | silence ms, median | p99 | unprovoked | thread late ms | \
     connections kept |\n|---|---|---|---|---|---|---|---|---|"
        .into()
}

/// The smallest of the sorted `times` that so many percent of them do not exceed; zero of none.
fn quantile(times: &[Duration], percent: usize) -> Duration {
    let place = (times.len() * percent).div_ceil(100);
    times.get(place.saturating_sub(1)).copied().unwrap_or(Duration::ZERO)
}

/// The term in which a node thinks its group is.
pub(crate) fn term(lab: &Lab, side: Side) -> Result<u64> {
    let said = lab.nodes[side as usize].show("ft")?;
    said["term"].as_u64().with_context(|| format!("a term in {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times: Vec<_> = (1..=30).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 50), Duration::from_millis(15));
        assert_eq!(quantile(&times, 99), Duration::from_millis(30));
        assert_eq!(quantile(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(quantile(&[], 50), Duration::ZERO);
    }
}
