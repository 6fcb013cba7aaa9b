//! What an FT group tracks. Pure.

use std::net::Ipv4Addr;
use std::time::Duration;

/// The `track ...` lines of an FT group: what must be up for this node to have the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// `track group N [router A]`.
    pub groups: Vec<TrackedGroup>,
    /// `track gateway A`.
    pub gateways: Vec<Ipv4Addr>,
    /// `track interface NAME`, of Linux.
    pub interfaces: Vec<String>,
    /// `track mode any|all`.
    pub mode: TrackMode,
    /// `track interval S | msec N`: between two questions to a gateway, default 1 s; 100 ms at least.
    pub interval: Duration,
    /// `track retries N`: questions without an answer, in a row, after which a gateway is down, 1–255, default 3.
    pub retries: u8,
    /// `track hold-down S`: how long all must be well again before the node is eligible, 0–3600 s, default 10 s.
    pub hold_down: Duration,
}

impl Tracking {
    /// Default of `interval`.
    pub const INTERVAL: Duration = Duration::from_secs(1);
    /// Default of `retries`.
    pub const RETRIES: u8 = 3;
    /// Default of `hold_down`.
    pub const HOLD_DOWN: Duration = Duration::from_secs(10);

    /// Nothing is tracked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.gateways.is_empty() && self.interfaces.is_empty()
    }
}

impl Default for Tracking {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            gateways: Vec::new(),
            interfaces: Vec::new(),
            mode: TrackMode::Any,
            interval: Self::INTERVAL,
            retries: Self::RETRIES,
            hold_down: Self::HOLD_DOWN,
        }
    }
}

/// `track group N [router A] [version V] [authentication TEXT]`: an HSRP group of routers nearby, up while this node's own
/// router is its active one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackedGroup {
    /// Group, 0–255 in version 1, 0–4095 in version 2.
    pub group: u16,
    /// Own address of the router that should be active, in the network of a VLAN.
    /// `None`: this host, which speaks for the group itself.
    pub router: Option<Ipv4Addr>,
    /// Version of the protocol, 1 or 2, default 1.
    pub version: u8,
    /// Text of the group, 1–8 characters; `None`: the default.
    pub authentication: Option<String>,
}

/// When what is down makes the node ineligible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TrackMode {
    /// When anything is down.
    #[default]
    Any,
    /// When something is down in each class of which anything is tracked.
    All,
}
