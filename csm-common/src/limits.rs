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
/// Next hops: gateways, reals, hosts on connected networks.
pub const NEXTHOPS_MAX: u32 = 65536;
/// Ports and VLANs of trunks, the kernel's end of each included.
pub const PORTS_MAX: u32 = 1024;
/// Slots of `PORT_SLOTS`, a power of two: ports whose interface indices differ by less share none.
pub const PORT_SLOTS: u32 = 256;
/// Clients that are remembered to speak to a server's balanced port directly, in bridge mode.
pub const DIRECT_MAX: u32 = 16384;
/// Alias and virtual addresses that are answered by ARP.
pub const ADDRESSES_MAX: u32 = 8192;
/// Prefixes in the route table.
pub const ROUTES_MAX: u32 = 4096;
/// Bytes of the event ring: about 100,000 records.
pub const EVENT_RING_BYTES: u32 = 1 << 23;
/// Longest time a predecessor relays strays after a planned move, in seconds.
pub const RELAY_SECONDS_MAX: u64 = 10;
/// VLAN numbers, 802.1Q.
pub const VLAN_IDS: u32 = 4096;
/// Bytes of the event ring that only connection and sticky records may fill: hints, which any host on the network can
/// cause, stop once less than this is free.
pub const EVENT_RING_RESERVE: u32 = EVENT_RING_BYTES / 4 * 3;
