//! Hysteresis of one check, and the health of a real that has several. Pure.
//!
//! ```text
//!             pass                        `retries` fails in a row
//!  Testing ----------> Operational --------------------------------> Failed
//!     |                     ^                                          |
//!     | `retries` fails     |          `recover` passes in a row       |
//!     +--------> Failed     +------------------------------------------+
//! ```
//!
//! A check that says nothing about the server (it ran late, or this host could not run it) changes no count: probes
//! starved by load must not take every server away (lessons.md 20).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::model::{Name, Probe};

/// Why a check failed: the CSM's own reasons (CISCO-SLB-HEALTH-MON-MIB), "unreachable", and what an application said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailReason {
    /// The server's host answered the SYN with a reset.
    Refused,
    /// No connection within `open`.
    OpenTimeout,
    /// No answer within `receive`.
    ReceiveTimeout,
    /// No neighbour, no route, or an ICMP unreachable.
    Unreachable,
    /// The connection was made and then reset.
    Reset,
    /// The server ended the connection before it answered.
    Closed,
    /// What it answered is not of its protocol.
    Garbled,
    /// It answered with this number, which is not expected.
    Status(u16),
    /// It does not know the name, or refuses to say.
    NoSuchName,
    /// It knows other addresses of the name, or none.
    OtherAddress,
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::OpenTimeout => "open timeout",
            Self::ReceiveTimeout => "receive timeout",
            Self::Unreachable => "unreachable",
            Self::Reset => "connection reset",
            Self::Closed => "closed without an answer",
            Self::Garbled => "not an answer of its protocol",
            Self::Status(status) => return write!(f, "unexpected status {status}"),
            Self::NoSuchName => "name not found",
            Self::OtherAddress => "unexpected address",
        })
    }
}

/// Why a check says nothing about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnknownReason {
    /// The timer that ended it fired much too late: the answer may have been waiting unread.
    Late,
    /// This host refused to run it: errno of the socket call (no descriptors, no buffers, no such address here).
    Local(i32),
}

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("this host was too busy to notice an answer in time"),
            Self::Local(errno) => {
                write!(f, "this host could not run it: {}", std::io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

/// Outcome of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The server answered as it should.
    Pass,
    /// It did not.
    Fail(FailReason),
    /// Nothing is known.
    Unknown(UnknownReason),
}

/// A check that times out may end this much after its time and still be believed. Ten times what a loaded two-core
/// machine showed for an ordinary thread's timers.
pub const LATENESS_MAX: Duration = Duration::from_millis(100);

/// Verdict of a check that ran out of time after `elapsed` where `allowed` was meant.
#[must_use]
pub fn timed_out(reason: FailReason, elapsed: Duration, allowed: Duration) -> Verdict {
    if elapsed > allowed + LATENESS_MAX {
        Verdict::Unknown(UnknownReason::Late)
    } else {
        Verdict::Fail(reason)
    }
}

/// State of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No verdict yet.
    Testing,
    /// Passing.
    Operational,
    /// Failed, for the reason of its latest failure.
    Failed(FailReason),
}

/// The state machine of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Monitor {
    state: State,
    fails: u16,
    passes: u16,
}

impl Default for Monitor {
    fn default() -> Self {
        Self { state: State::Testing, fails: 0, passes: 0 }
    }
}

impl Monitor {
    /// One whose check has just passed.
    #[must_use]
    pub fn passed() -> Self {
        Self { state: State::Operational, ..Self::default() }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Takes a verdict in. True if the state changed; another reason for the same failure is a change, too.
    pub fn observe(&mut self, verdict: Verdict, probe: &Probe) -> bool {
        let before = self.state;
        match verdict {
            Verdict::Unknown(_) => {}
            Verdict::Pass => {
                self.fails = 0;
                self.passes = self.passes.saturating_add(1);
                self.state = match before {
                    State::Testing | State::Operational => State::Operational,
                    State::Failed(_) if self.passes >= probe.recover.max(1) => State::Operational,
                    State::Failed(_) => before,
                };
            }
            Verdict::Fail(reason) => {
                self.passes = 0;
                self.fails = self.fails.saturating_add(1);
                self.state = match before {
                    State::Failed(_) => State::Failed(reason),
                    // `retries 0` cannot mean "fail without a failure": one is enough.
                    State::Testing | State::Operational if self.fails >= probe.retries.max(1) => {
                        State::Failed(reason)
                    }
                    State::Testing | State::Operational => before,
                };
            }
        }
        self.state != before
    }

    /// From the end of a check to the start of the next.
    #[must_use]
    pub const fn pause(&self, probe: &Probe) -> Duration {
        match self.state {
            State::Testing | State::Operational => probe.interval,
            State::Failed(_) => probe.failed,
        }
    }
}

/// A real as the farms name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RealKey {
    /// Its farm.
    pub farm: Name,
    /// Its address.
    pub address: IpAddr,
    /// Its own port; `None`: the virtual server's.
    pub port: Option<u16>,
}

/// Health of a real: all its checks must pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RealHealth {
    /// Every check passes, or there is none.
    Operational,
    /// None has failed, but not all have a verdict yet: not in rotation.
    Testing,
    /// This probe failed (the first one by name, if several did).
    ProbeFailed {
        /// Its name.
        probe: Name,
        /// Port that was checked; `None` for icmp.
        port: Option<u16>,
        /// Reason of its latest failure.
        reason: FailReason,
    },
}

impl RealHealth {
    /// Why it is not in rotation, for `show`; `None` if it is operational.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Operational => None,
            Self::Testing => Some("its probes have no verdict yet".to_owned()),
            Self::ProbeFailed { probe, port: Some(port), reason } => {
                Some(format!("probe {probe} port {port}: {reason}"))
            }
            Self::ProbeFailed { probe, port: None, reason } => Some(format!("probe {probe}: {reason}")),
        }
    }
}

/// Health of all reals. What is not in it has no probe and counts as operational.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    reals: BTreeMap<RealKey, RealHealth>,
}

impl Health {
    /// Health of `real`.
    #[must_use]
    pub fn of(&self, real: &RealKey) -> &RealHealth {
        self.reals.get(real).unwrap_or(&RealHealth::Operational)
    }

    /// The reals that have failed since it was `before`, in order.
    pub fn failed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a RealKey> {
        let failed = |health: &RealHealth| matches!(health, RealHealth::ProbeFailed { .. });
        let now = self.reals.iter().filter(move |(_, health)| failed(health));
        now.filter(move |(real, _)| !failed(before.of(real))).map(|(real, _)| real)
    }

    /// The reals that have probes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&RealKey, &RealHealth)> {
        self.reals.iter()
    }

    /// Joins the state of one more check into its real's health.
    pub fn add(&mut self, real: &RealKey, probe: &Name, port: Option<u16>, state: State) {
        let health = self.reals.entry(real.clone()).or_insert(RealHealth::Operational);
        let worse = match (&*health, state) {
            (RealHealth::ProbeFailed { .. }, _) | (_, State::Operational) => return,
            (_, State::Testing) => RealHealth::Testing,
            (_, State::Failed(reason)) => RealHealth::ProbeFailed { probe: probe.clone(), port, reason },
        };
        *health = worse;
    }
}

impl FromIterator<(RealKey, RealHealth)> for Health {
    fn from_iter<I: IntoIterator<Item = (RealKey, RealHealth)>>(reals: I) -> Self {
        Self { reals: reals.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests;
