//! Every map size and bound, one sentence each.

/// Proven connections a node holds; two entries each (one per direction) in [`crate::names::FLOWS`].
pub const CONNECTIONS_MAX: u32 = 1 << 20;
/// Half-open connections; two entries each in the LRU table, the oldest make room for new ones.
pub const EMBRYONIC_MAX: u32 = 1 << 17;
/// Sticky entries over all groups.
pub const STICKY_MAX: u32 = 1 << 20;
/// Virtual servers.
pub const VSERVERS_MAX: u32 = 8192;
/// Real servers over all farms.
pub const REALS_MAX: u32 = 32768;
/// Addresses and ports of reals that belong to one TCP virtual server alone; of more the rest is left out.
pub const ORIGINS_MAX: u32 = 32768;
/// Slots of one virtual server's predictor ring: the sum of the weights of its farm, scaled down to fit.
pub const RING_SLOTS: u32 = 1024;
/// Reals that `predictor leastconns` compares for one connection; of a larger farm other ones each time.
pub const LEAST_COMPARED: u32 = 32;
/// Numbers of sticky groups that virtual servers share, and 0.
pub const STICKY_GROUPS: u32 = 256;
/// Reals of a sticky group among which `reverse-sticky` looks for the one that a connection came in by.
pub const REVERSE_REALS_MAX: u32 = 32;
/// Next hops: gateways, reals, hosts on connected networks.
pub const NEXTHOPS_MAX: u32 = 65536;
/// Ports and VLANs of trunks, the kernel's end of each included.
pub const PORTS_MAX: u32 = 1024;
/// Slots of `PORT_SLOTS`, a power of two: ports whose interface indices differ by less share none.
pub const PORT_SLOTS: u32 = 256;
/// Clients that are remembered to speak to a server's balanced port directly, in bridge mode.
pub const DIRECT_MAX: u32 = 16384;
/// Tunnels to reals; number 0 means none.
pub const TUNNELS_MAX: u32 = 4096;
/// Alias and virtual addresses that are answered by ARP.
pub const ADDRESSES_MAX: u32 = 8192;
/// Prefixes in the route table.
pub const ROUTES_MAX: u32 = 4096;
/// Interfaces whose frames are counted apart, and one slot for those of all others.
pub const COUNTED_MAX: u32 = 64;
/// Elements of `COUNTERS` for an interface: more than there are reasons, so that a new one does not cost the counts of the others when the
/// program is replaced.
pub const REASONS_MAX: u32 = 128;
/// HSRP groups that this host speaks for.
pub const GROUPS_MAX: u32 = 64;
/// Bytes of the event ring: about 100,000 records.
pub const EVENT_RING_BYTES: u32 = 1 << 23;
/// Longest time a predecessor relays strays after a planned move, in seconds.
pub const RELAY_SECONDS_MAX: u64 = 10;
/// VLAN numbers, 802.1Q.
pub const VLAN_IDS: u32 = 4096;
/// Bytes of the event ring that only connection and sticky records may fill: hints, which any host on the network can
/// cause, stop once less than this is free.
pub const EVENT_RING_RESERVE: u32 = EVENT_RING_BYTES / 4 * 3;
/// Virtual networks, each with all networks around it.
pub const NETWORKS_MAX: u32 = 4096;
/// Virtual networks of which one lies in the next.
pub const NESTED_NETWORKS: usize = 4;
/// Prefixes of clients over all virtual servers that share an address and port or name their clients.
pub const CLIENTS_MAX: u32 = 16384;
/// Pools of addresses for `nat client` and addresses of `static nat`; number 0 means none.
pub const POOLS_MAX: u32 = 4096;
/// Networks and hosts over all `static` sections.
pub const STATICS_MAX: u32 = 16384;
/// Addresses in one pool: each is answered by ARP.
pub const POOL_ADDRESSES_MAX: u32 = 256;
/// Ports that `nat client` gives away, from here to the highest.
pub const POOL_PORT_FIRST: u16 = 1024;
/// Datagrams whose fragments are followed at a time; the least recently used gives way.
pub const FRAGMENTS_MAX: u32 = 1 << 14;
/// How long the fragments of a datagram may follow the first one, or wait for it, in nanoseconds: far more than
/// reordering takes, and short enough for senders that use the 16-bit identification anew.
pub const FRAGMENT_LIFE_NS: u64 = 2_000_000_000;
/// Bytes of the ring of fragments that wait: 512 frames that the controller has not taken yet.
pub const HELD_RING_BYTES: u32 = 1 << 20;

/// Clients whose rates are followed at a time; the least recently seen gives way, and begins anew.
pub const CLIENT_RATES_MAX: u32 = 1 << 16;

/// What the program may do only so often, whatever arrives: a token bucket per CPU. The number is the index in `BUDGETS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Budget {
    /// ICMP errors of this node (RFC 1812, section 4.3.2.8; Linux has the same figures).
    IcmpError = 0,
    /// Fragments handed to the controller to wait.
    Held = 1,
    /// Handshakes under way that the peer is told of: whoever sends SYNs causes them.
    Handshake = 2,
}

impl Budget {
    /// Number of kinds.
    pub const COUNT: u32 = 3;

    /// Nanoseconds between two in the long run.
    #[inline(always)]
    #[must_use]
    pub const fn interval_ns(self) -> u64 {
        match self {
            Self::IcmpError => 1_000_000,
            Self::Held => 50_000,
            Self::Handshake => 100_000,
        }
    }

    /// How many may come at once.
    #[inline(always)]
    #[must_use]
    pub const fn burst(self) -> u64 {
        match self {
            Self::IcmpError => 50,
            Self::Held => 400,
            Self::Handshake => 1000,
        }
    }

    /// The bucket after one more at `now_ns`, given its state; `None` if it is empty.
    #[inline(always)]
    #[must_use]
    pub const fn take(self, due_ns: u64, now_ns: u64) -> Option<u64> {
        if due_ns > now_ns + (self.burst() - 1) * self.interval_ns() {
            return None;
        }
        Some(if due_ns > now_ns { due_ns } else { now_ns } + self.interval_ns())
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn a_budget_allows_a_burst_and_then_its_rate() {
        for budget in [Budget::IcmpError, Budget::Held, Budget::Handshake] {
            let now_ns = 1 << 40;
            let mut due_ns = 0;
            for _ in 0..budget.burst() {
                due_ns = budget.take(due_ns, now_ns).expect("within the burst");
            }
            assert_eq!(budget.take(due_ns, now_ns), None);
            let later = budget.take(due_ns, now_ns + budget.interval_ns()).expect("one interval later");
            assert_eq!(budget.take(later, now_ns + budget.interval_ns()), None);
        }
    }
}
