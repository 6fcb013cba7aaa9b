//! Names of the program and its maps, as they stand in the object file.

/// The XDP program, one instance per port.
pub const PROGRAM: &str = "csm";
/// The program's traced form.
pub const PROGRAM_TRACED: &str = "csm_traced";
/// [`crate::trace::Filter`], one entry.
pub const TRACE: &str = "TRACE";
/// The XDP program for IPv6, which [`PROGRAM`] calls.
pub const PROGRAM6: &str = "csm6";
/// Programs that [`PROGRAM`] hands other families to, by `FAMILY_*`.
pub const FAMILIES: &str = "FAMILIES";
/// Its traced form.
pub const PROGRAM6_TRACED: &str = "csm6_traced";
/// Index of [`PROGRAM6_TRACED`] in [`FAMILIES`].
pub const FAMILY_V6_TRACED: u32 = 3;
/// The XDP program that tells of a packet of IPv6 at its end.
pub const PROGRAM6_TOLD: &str = "csm6_told";
/// Index of [`PROGRAM6_TOLD`] in [`FAMILIES`].
pub const FAMILY_V6_TOLD: u32 = 4;
/// Index of [`PROGRAM6`] in [`FAMILIES`].
pub const FAMILY_V6: u32 = 0;
/// The XDP program of the host as a router, which [`PROGRAM`] calls.
pub const PROGRAM_ROUTER: &str = "csm_router";
/// Index of [`PROGRAM_ROUTER`] in [`FAMILIES`].
pub const FAMILY_ROUTER: u32 = 1;
/// The XDP program for what the router hands to the module on the same host.
pub const PROGRAM_INSIDE: &str = "csm_inside";
/// Index of [`PROGRAM_INSIDE`] in [`FAMILIES`].
pub const FAMILY_INSIDE: u32 = 2;
/// The XDP program that opens connections, which [`PROGRAM`] calls.
pub const PROGRAM_OPEN: &str = "csm_open";
/// Index of [`PROGRAM_OPEN`] in [`FAMILIES`].
pub const FAMILY_OPEN: u32 = 5;
/// The same for IPv6, which [`PROGRAM6`] calls.
pub const PROGRAM6_OPEN: &str = "csm6_open";
/// Index of [`PROGRAM6_OPEN`] in [`FAMILIES`].
pub const FAMILY_V6_OPEN: u32 = 6;
/// The XDP program that tells of a packet of IPv4 at its end.
pub const PROGRAM_TOLD: &str = "csm_told";
/// Index of [`PROGRAM_TOLD`] in [`FAMILIES`].
pub const FAMILY_TOLD: u32 = 7;
/// The XDP program of the host as a router of IPv6, which [`PROGRAM6`] calls.
pub const PROGRAM6_ROUTER: &str = "csm6_router";
/// Index of [`PROGRAM6_ROUTER`] in [`FAMILIES`].
pub const FAMILY_V6_ROUTER: u32 = 8;
/// The XDP program for what that router hands to the module on the same host.
pub const PROGRAM6_INSIDE: &str = "csm6_inside";
/// Index of [`PROGRAM6_INSIDE`] in [`FAMILIES`].
pub const FAMILY_V6_INSIDE: u32 = 9;
/// [`crate::gate::Gate`], one entry, memory-mapped by the real-time thread.
pub const GATE: &str = "GATE";
/// [`crate::service::Settings`], one entry.
pub const SETTINGS: &str = "SETTINGS";
/// Ingress interface index to [`crate::net::Port`].
pub const PORTS: &str = "PORTS";
/// [`crate::net::TagKey`] to [`crate::net::Port`]: the VLANs of trunks.
pub const TAGGED: &str = "TAGGED";
/// [`crate::net::PortSlot`] by the low bits of the interface index: `PORTS` without the price of a hash.
pub const PORT_SLOTS: &str = "PORT_SLOTS";
/// [`crate::gate::Clock`] of each CPU.
pub const CLOCKS: &str = "CLOCKS";
/// VLAN number to the [`crate::net::Port`] that carries it; role 0 where none does.
pub const VLANS: &str = "VLANS";
/// Port number to interface, for redirects.
pub const TX_PORTS: &str = "TX_PORTS";
/// [`crate::net::AddressKey`] to [`crate::net::Address`]: alias and virtual addresses answered by ARP.
pub const ADDRESSES: &str = "ADDRESSES";
/// VLAN number to the address that ICMP errors of this node come from there, network order; 0: none.
pub const ERROR_SOURCES: &str = "ERROR_SOURCES";
/// Per-CPU `u64` by [`crate::limits::Budget`]: when the next one is due, CLOCK_MONOTONIC, ns.
pub const BUDGETS: &str = "BUDGETS";
/// [`crate::fragment::FragmentKey`] to [`crate::fragment::Fragment`]; evicts the least recently used.
pub const FRAGMENTS: &str = "FRAGMENTS";
/// Ring buffer of [`crate::fragment::Held`]: fragments that came before the first one of their datagram.
pub const HELD: &str = "HELD";
/// [`crate::net::NextHop`] by number.
pub const NEXTHOPS: &str = "NEXTHOPS";
/// Longest prefix to [`crate::net::Route`].
pub const ROUTES: &str = "ROUTES";
/// [`crate::net::AddressKey`] of a host on a connected network to its next-hop number.
pub const NEIGHBOURS: &str = "NEIGHBOURS";
/// [`crate::net::Group`] by number: the HSRP groups of this host.
pub const GROUPS: &str = "GROUPS";
/// [`crate::gate::Gate`] of each group, memory-mapped by the thread that speaks for them.
pub const GROUP_GATES: &str = "GROUP_GATES";
/// [`crate::net::GroupKey`] to the group's number.
pub const GROUP_MACS: &str = "GROUP_MACS";
/// [`crate::net::AddressKey`] of a virtual address to its group's number.
pub const GROUP_ADDRESSES: &str = "GROUP_ADDRESSES";
/// Longest prefix to [`crate::net::RouterRoute`]: the table of this host as a router.
pub const ROUTER_ROUTES: &str = "ROUTER_ROUTES";
/// As [`GROUP_ADDRESSES`], of IPv6.
pub const GROUP_ADDRESSES6: &str = "GROUP_ADDRESSES6";
/// As [`ROUTER_ROUTES`], of IPv6.
pub const ROUTER_ROUTES6: &str = "ROUTER_ROUTES6";
/// [`crate::service::VserverKey`] to [`crate::service::Match`].
pub const VSERVER_KEYS: &str = "VSERVER_KEYS";
/// Longest prefix to [`crate::service::Networks`].
pub const NETWORKS: &str = "NETWORKS";
/// Longest prefix of [`crate::service::ClientKey`] to vserver number, or [`crate::flow::NONE`].
pub const CLIENTS: &str = "CLIENTS";
/// [`crate::service::Pool`] by number, from 1.
pub const POOLS: &str = "POOLS";
/// Tunnels to reals that are routed away.
pub const TUNNELS: &str = "TUNNELS";
/// What hosts that open connections from the server side get as their source: `static`.
pub const STATICS: &str = "STATICS";
/// [`crate::service::Vserver`] by number.
pub const VSERVERS: &str = "VSERVERS";
/// Predictor slots, [`crate::service::ring_slot`] to real number.
pub const RINGS: &str = "RINGS";
/// Predictor position by vserver number, a `u64` that only the XDP program writes.
pub const CURSORS: &str = "CURSORS";
/// Connections of a real that have come and gone, `u64` by real number: see [`crate::service::load`].
pub const LOADS: &str = "LOADS";
/// Connections of a real that the controller counted, `u64` by real number.
pub const LOAD_BASES: &str = "LOAD_BASES";
/// Connections of a virtual server with `max-conns` that have come and gone, `u64` by [`crate::service::place_slot`]; of an owner with
/// `maxconns` by its number, which is one of the virtual servers' numbers.
pub const PLACES: &str = "PLACES";
/// Connections of such a virtual server that the controller counted, `u64` by the same.
pub const PLACE_BASES: &str = "PLACE_BASES";
/// [`crate::service::Real`] by number.
pub const REALS: &str = "REALS";
/// [`crate::service::VserverKey`] of a real's address and port to its [`crate::service::Origin`].
pub const ORIGINS: &str = "ORIGINS";
/// Proven connections: [`crate::flow::FlowKey`] to [`crate::flow::FlowEntry`]; never evicts.
pub const FLOWS: &str = "FLOWS";
/// Half-open connections, same types; evicts the least recently used.
pub const EMBRYONIC: &str = "EMBRYONIC";
/// [`crate::flow::FlowKey`] of a server's answers to a client that speaks to its balanced port directly (bridge mode).
pub const DIRECT: &str = "DIRECT";
/// [`crate::service::StickyKey`] to [`crate::service::StickyEntry`].
pub const STICKY: &str = "STICKY";
/// Sticky entries of clients whose handshake is not proven yet, same types; evicts the least recently used.
pub const EMBRYONIC_STICKY: &str = "EMBRYONIC_STICKY";
/// [`crate::service::Reverse`] by sticky group.
pub const REVERSES: &str = "REVERSES";
/// [`REVERSES`] of IPv6.
pub const REVERSES6: &str = "REVERSES6";
/// Ring buffer of [`crate::event::Record`].
pub const EVENTS: &str = "EVENTS";
/// One [`crate::event::Drain`].
pub const DRAIN: &str = "DRAIN";
/// Per-CPU `u64` by [`crate::event::Lost`]: what found no room.
pub const EVENTS_LOST: &str = "EVENTS_LOST";
/// Per-CPU [`crate::counter::Count`] by [`crate::counter::index`].
pub const COUNTERS: &str = "COUNTERS";
/// Interface index to its slot in [`COUNTERS`].
pub const COUNTED: &str = "COUNTED";
/// Per-CPU [`crate::counter::ServiceCount`] by vserver number.
pub const VSERVER_COUNTS: &str = "VSERVER_COUNTS";
/// A `u64`, CLOCK_MONOTONIC ns: until when this node has promised its peer to claim nothing. Of the controller alone.
pub const PROMISE: &str = "PROMISE";
/// A `u64`, the stable identity of who has it, by vserver number; 0: nobody. For the controller that comes after this one.
pub const VSERVER_IDS: &str = "VSERVER_IDS";
/// The same by real number.
pub const REAL_IDS: &str = "REAL_IDS";
/// Per-CPU [`crate::counter::ServiceCount`] by real number.
pub const REAL_COUNTS: &str = "REAL_COUNTS";
/// A `u64` by vserver number: its [`crate::rate::Rate`]'s bucket.
pub const RATES: &str = "RATES";
/// [`crate::rate::RateKey`] to the bucket of that client; evicts the least recently used.
pub const CLIENT_RATES: &str = "CLIENT_RATES";
/// [`CLIENT_RATES`] of IPv6.
pub const CLIENT_RATES6: &str = "CLIENT_RATES6";
/// Per-CPU [`crate::rate::Refused`] by vserver number.
pub const REFUSED: &str = "REFUSED";
/// Room that is left in the connection tables, `u64` by [`crate::service::share_slot`].
pub const SHARES: &str = "SHARES";
/// A `u32` by real number: not 0 while it is at its `maxconns` or was, and has not fallen below `minconns`.
pub const THROTTLED: &str = "THROTTLED";
/// [`ADDRESSES`] of IPv6.
pub const ADDRESSES6: &str = "ADDRESSES6";
/// [`ERROR_SOURCES`] of IPv6.
pub const ERROR_SOURCES6: &str = "ERROR_SOURCES6";
/// [`FRAGMENTS`] of IPv6.
pub const FRAGMENTS6: &str = "FRAGMENTS6";
/// [`NEXTHOPS`] of IPv6.
pub const NEXTHOPS6: &str = "NEXTHOPS6";
/// [`ROUTES`] of IPv6.
pub const ROUTES6: &str = "ROUTES6";
/// [`NEIGHBOURS`] of IPv6.
pub const NEIGHBOURS6: &str = "NEIGHBOURS6";
/// [`VSERVER_KEYS`] of IPv6.
pub const VSERVER_KEYS6: &str = "VSERVER_KEYS6";
/// [`NETWORKS`] of IPv6.
pub const NETWORKS6: &str = "NETWORKS6";
/// [`CLIENTS`] of IPv6.
pub const CLIENTS6: &str = "CLIENTS6";
/// [`HELD`] of IPv6.
pub const HELD6: &str = "HELD6";
/// [`POOLS`] of IPv6.
pub const POOLS6: &str = "POOLS6";
/// [`TUNNELS`] of IPv6.
pub const TUNNELS6: &str = "TUNNELS6";
/// [`STATICS`] of IPv6.
pub const STATICS6: &str = "STATICS6";
/// [`VSERVERS`] of IPv6.
pub const VSERVERS6: &str = "VSERVERS6";
/// [`REALS`] of IPv6.
pub const REALS6: &str = "REALS6";
/// [`ORIGINS`] of IPv6.
pub const ORIGINS6: &str = "ORIGINS6";
/// VLAN number to this node's own IPv6 address there, if it is bridged.
pub const OWN6: &str = "OWN6";
/// [`DIRECT`] of IPv6.
pub const DIRECT6: &str = "DIRECT6";
/// [`FLOWS`] of IPv6.
pub const FLOWS6: &str = "FLOWS6";
/// [`EMBRYONIC`] of IPv6.
pub const EMBRYONIC6: &str = "EMBRYONIC6";
/// [`STICKY`] of IPv6.
pub const STICKY6: &str = "STICKY6";
/// [`EMBRYONIC_STICKY`] of IPv6.
pub const EMBRYONIC_STICKY6: &str = "EMBRYONIC_STICKY6";
