//! Probes.

use std::time::Duration;

use super::Name;

/// `probe NAME icmp|tcp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Name.
    pub name: Name,
    /// Type.
    pub kind: ProbeKind,
    /// `interval S`: from the end of a check to the start of the next, 2–65535 s, default 120.
    pub interval: Duration,
    /// `retries N`: consecutive failures before `failed`, 0–65535, default 3.
    pub retries: u16,
    /// `failed S`: interval while failed, 2–65535 s, default 300.
    pub failed: Duration,
    /// `receive S`: wait for an answer, 1–65535 s, default 10.
    pub receive: Duration,
    /// `open S`: wait for a TCP connection, 1–65535 s, default 10.
    pub open: Duration,
    /// `recover N`: consecutive successes before coming back, 1–65535, default 1.
    pub recover: u16,
    /// `port N`: overrides the real's and the vserver's.
    pub port: Option<u16>,
}

/// Type of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// ICMP echo.
    Icmp,
    /// TCP connect.
    Tcp,
}
