//! What an FT group tracks. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Name, VlanId};

/// The `track ...` lines of an FT group: what must be up for this node to have the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// `track group N [router A [vlan V]]`.
    pub groups: Vec<TrackedGroup>,
    /// `track vrrp N router A`.
    pub vrrp: Vec<TrackedVrrp>,
    /// `track gateway A`.
    pub gateways: Vec<TrackedGateway>,
    /// `track interface NAME`, of Linux.
    pub interfaces: Vec<String>,
    /// `track serverfarm NAME minimum N`.
    pub farms: Vec<TrackedFarm>,
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

    /// How many things are tracked.
    #[must_use]
    pub const fn count(&self) -> usize {
        let routers = self.groups.len() + self.vrrp.len() + self.gateways.len();
        routers + self.interfaces.len() + self.farms.len()
    }

    /// Between two questions to `gateway`.
    #[must_use]
    pub fn interval_of(&self, gateway: &TrackedGateway) -> Duration {
        gateway.interval.unwrap_or(self.interval)
    }

    /// Missing answers after which `gateway` is down.
    #[must_use]
    pub fn retries_of(&self, gateway: &TrackedGateway) -> u8 {
        gateway.retries.unwrap_or(self.retries)
    }

    /// Nothing is tracked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

impl Default for Tracking {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            vrrp: Vec::new(),
            gateways: Vec::new(),
            interfaces: Vec::new(),
            farms: Vec::new(),
            mode: TrackMode::Any,
            interval: Self::INTERVAL,
            retries: Self::RETRIES,
            hold_down: Self::HOLD_DOWN,
        }
    }
}

/// `track group N [router A [vlan V]] [version V] [authentication TEXT]`: an HSRP group of routers nearby, up while this node's own
/// router is its active one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackedGroup {
    /// Group, 0–255 in version 1, 0–4095 in version 2.
    pub group: u16,
    /// Own address of the router that should be active: of IPv4 in the network of a VLAN, of IPv6 that of the link, from which its
    /// hellos come. `None`: this host, which speaks for the group itself.
    pub router: Option<IpAddr>,
    /// Of an IPv6 router: the VLAN on which it is.
    pub vlan: Option<VlanId>,
    /// Version of the protocol, 1 or 2, default 1.
    pub version: u8,
    /// Text of the group, 1–8 characters; `None`: the default.
    pub authentication: Option<String>,
}

/// `track gateway A [icmp] [interval I] [retries N]`: a router, up while it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackedGateway {
    /// Its address, in the network of a VLAN.
    pub address: IpAddr,
    /// It is asked by ICMP echo; else by ARP, or by neighbour solicitation.
    pub icmp: bool,
    /// Between two questions; `None`: as of all, 100 ms at least.
    pub interval: Option<Duration>,
    /// Missing answers in a row after which it is down, 1–255; `None`: as of all.
    pub retries: Option<u8>,
}

impl TrackedGateway {
    /// One that is asked as all are.
    #[must_use]
    pub const fn new(address: IpAddr) -> Self {
        Self { address, icmp: false, interval: None, retries: None }
    }
}

/// `track vrrp N router A [version V]`: a VRRP group of routers nearby, up while this node's own router is its master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackedVrrp {
    /// Group, 1–255.
    pub group: u8,
    /// Own address of the router that should be the master, in the network of a VLAN.
    pub router: Ipv4Addr,
    /// Version of the protocol, 2 or 3, default 3.
    pub version: u8,
}

impl TrackedVrrp {
    /// Version that is not printed.
    pub const VERSION: u8 = 3;
}

/// `track serverfarm NAME minimum N`: up while so many of its reals are in rotation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackedFarm {
    /// The farm.
    pub farm: Name,
    /// Least number of reals, 1–65535, default 1.
    pub minimum: u16,
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
