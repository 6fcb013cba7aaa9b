//! How large the tables are. Pure.

use csm_common::service::share_slot;
use csm_common::{limits, names};

/// Sizes of the tables that are allocated in full at load, in entries; the defaults are those of `csm_common::limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Proven connections.
    pub connections: u32,
    /// Half-open connections.
    pub embryonic: u32,
    /// Sticky entries.
    pub sticky: u32,
    /// Virtual servers.
    pub vservers: u32,
    /// Real servers.
    pub reals: u32,
    /// IPv6 has tables of the same sizes. Without, its packets are the kernel's and its tables take no memory.
    pub ipv6: bool,
    /// The host is a router, too: the program has two more parts of each family.
    pub router: bool,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX,
            embryonic: limits::EMBRYONIC_MAX,
            sticky: limits::STICKY_MAX,
            vservers: limits::VSERVERS_MAX,
            reals: limits::REALS_MAX,
            ipv6: false,
            router: false,
        }
    }
}

/// The smallest ring: a page.
const RING_MIN: u32 = 4096;

impl Capacity {
    /// Entries of the maps whose size it decides.
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, u32)> {
        // Without IPv6 a map of it has the least that the kernel makes.
        let scaled = |entries: u32| if self.ipv6 { entries } else { 1 };
        vec![
            (names::FLOWS, 2 * self.connections),
            (names::EMBRYONIC, 2 * self.embryonic),
            (names::EMBRYONIC_STICKY, self.embryonic),
            (names::STICKY, self.sticky),
            // One with `service ftp` or `service rtsp` has two keys.
            (names::VSERVER_KEYS, 2 * self.vservers),
            (names::VSERVERS, self.vservers),
            (names::VSERVER_COUNTS, self.vservers),
            (names::CURSORS, self.vservers),
            (names::RINGS, self.vservers * limits::RING_SLOTS),
            (names::REALS, self.reals),
            (names::LOADS, self.reals),
            (names::LOAD_BASES, self.reals),
            (names::REAL_COUNTS, self.reals),
            (names::RATES, self.vservers),
            (names::PLACES, self.vservers),
            (names::PLACE_BASES, self.vservers),
            (names::REFUSED, self.vservers),
            (names::THROTTLED, self.reals),
            (names::SHARES, share_slot(self.vservers)),
            (names::CLIENT_RATES6, scaled(limits::CLIENT_RATES_MAX)),
            (names::VSERVER_IDS, self.vservers),
            (names::REAL_IDS, self.reals),
            (names::ORIGINS, self.reals),
            (names::FLOWS6, scaled(2 * self.connections)),
            (names::EMBRYONIC6, scaled(2 * self.embryonic)),
            (names::EMBRYONIC_STICKY6, scaled(self.embryonic)),
            (names::STICKY6, scaled(self.sticky)),
            (names::VSERVER_KEYS6, scaled(2 * self.vservers)),
            (names::VSERVERS6, scaled(self.vservers)),
            (names::REALS6, scaled(self.reals)),
            (names::ORIGINS6, scaled(self.reals)),
            (names::FRAGMENTS6, scaled(limits::FRAGMENTS_MAX)),
            (names::NEXTHOPS6, scaled(limits::NEXTHOPS_MAX)),
            (names::NEIGHBOURS6, scaled(limits::NEXTHOPS_MAX)),
            (names::ADDRESSES6, scaled(limits::ADDRESSES_MAX)),
            (names::ERROR_SOURCES6, scaled(limits::VLAN_IDS)),
            (names::OWN6, scaled(limits::VLAN_IDS)),
            (names::DIRECT6, scaled(limits::DIRECT_MAX)),
            (names::POOLS6, scaled(limits::POOLS_MAX)),
            (names::STATICS6, scaled(limits::STATICS_MAX)),
            (names::TUNNELS6, scaled(limits::TUNNELS_MAX)),
            // A ring has octets, whole pages of them.
            (names::HELD6, if self.ipv6 { limits::HELD_RING_BYTES } else { RING_MIN }),
            (names::ROUTES6, scaled(limits::ROUTES_MAX)),
            (names::ROUTER_ROUTES6, scaled(limits::ROUTES_MAX)),
            (names::NETWORKS6, scaled(limits::NETWORKS_MAX)),
            (names::CLIENTS6, scaled(limits::CLIENTS_MAX)),
        ]
    }
}
