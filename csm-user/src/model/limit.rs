//! How many connections there may be, and how fast they may come.

use super::Name;

/// `N [burst N]`: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// New connections a second, 1–1,000,000.
    pub per_second: u32,
    /// How many may come at once, 1–1,000,000; by default those of a second.
    pub burst: u32,
}

/// `rate-limit client connections N [burst N] [netmask MASK | prefix-length L]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientRateLimit {
    /// Of each client.
    pub rate: RateLimit,
    /// Leading bits of an IPv4 address that make a client, 0–32; default 32.
    pub bits: u8,
    /// Of an IPv6 address, 0–128; default 128.
    pub bits6: u8,
}

/// `rate-limit ...` of a virtual server; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RateLimits {
    /// `rate-limit connections`.
    pub connections: Option<RateLimit>,
    /// `rate-limit client connections`.
    pub client: Option<ClientRateLimit>,
}

/// `serverfarm NAME backup NAME [sticky]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backup {
    /// The farm that serves while no real of the other one can.
    pub farm: Name,
    /// Clients stick to its reals, too.
    pub sticky: bool,
}

/// `threshold outservice N [inservice M]` of a virtual server's farm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Threshold {
    /// With fewer reals in rotation the farm is down, 1–65535.
    pub outservice: u16,
    /// With so many it is up again, from `outservice` on; by default as many.
    pub inservice: u16,
}

impl Threshold {
    /// Whether a farm with `up` reals in rotation is down, that was so or not before.
    #[must_use]
    pub fn is_down(&self, up: usize, before: bool) -> bool {
        up < usize::from(if before { self.inservice } else { self.outservice })
    }
}

/// `maxconns N` and `minconns N` of a real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnectionLimit {
    /// `maxconns`, at least 1; `None`: no limit.
    pub max: Option<u32>,
    /// `minconns`, at least 1; `None`: as `maxconns`.
    pub min: Option<u32>,
}

impl ConnectionLimit {
    /// Once it was at its most a real gets new ones while it has fewer than this; 0 without a limit.
    #[must_use]
    pub fn resumes_below(&self) -> u32 {
        self.max.map_or(0, |max| self.min.map_or(max, |min| min.min(max)))
    }
}
