//! Every map of the program, under its name in `csm_common::names`.
//!
//! Flow and sticky tables are preallocated: they take their whole stated memory at start, and nothing that arrives
//! from the network makes them grow.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use csm_common::address::V6;
use csm_common::counter::{Count, Reason, ServiceCount};
use csm_common::event::{Drain, Lost};
use csm_common::flow::{FlowEntry, FlowKey};
use csm_common::fragment::{Fragment, FragmentKey};
use csm_common::gate::{Clock, Gate};
use csm_common::limits::{self, Budget};
use csm_common::net::{
    Address, AddressKey, Group, GroupKey, NextHop, Port, PortSlot, Route, RouterRoute, TagKey, Tunnel,
};
use csm_common::rate::{RateKey, Refused};
use csm_common::service::{
    ClientKey, Match, Networks, Origin, Pool, Real, Reverse, Settings, StickyEntry, StickyKey, Vserver,
    VserverKey, share_slot,
};

use csm_common::trace::Filter;

use crate::conn::Cold;
use crate::router::Passage;
use crate::trace::Traced;
use crate::v6::{Handover, Quote};

#[map]
pub(crate) static GATE: Array<Gate> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static PORTS: HashMap<u32, Port> = HashMap::with_max_entries(limits::PORTS_MAX, 0);
#[map]
pub(crate) static PORT_SLOTS: Array<PortSlot> = Array::with_max_entries(limits::PORT_SLOTS, 0);
#[map]
pub(crate) static TAGGED: HashMap<TagKey, Port> = HashMap::with_max_entries(limits::PORTS_MAX, 0);
#[map]
pub(crate) static CLOCKS: PerCpuArray<Clock> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static VLANS: Array<Port> = Array::with_max_entries(limits::VLAN_IDS, 0);
#[map]
pub(crate) static TX_PORTS: DevMap = DevMap::with_max_entries(limits::PORTS_MAX, 0);
#[map]
pub(crate) static ADDRESSES: HashMap<AddressKey, Address> =
    HashMap::with_max_entries(limits::ADDRESSES_MAX, 0);
#[map]
pub(crate) static ERROR_SOURCES: Array<u32> = Array::with_max_entries(limits::VLAN_IDS, 0);
#[map]
pub(crate) static BUDGETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Budget::COUNT, 0);
#[map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, Fragment> =
    LruHashMap::with_max_entries(limits::FRAGMENTS_MAX, 0);
#[map]
pub(crate) static HELD: RingBuf = RingBuf::with_byte_size(limits::HELD_RING_BYTES, 0);
#[map]
pub(crate) static NEXTHOPS: Array<NextHop> = Array::with_max_entries(limits::NEXTHOPS_MAX, 0);
#[map]
pub(crate) static TUNNELS: Array<Tunnel> = Array::with_max_entries(limits::TUNNELS_MAX, 0);
#[map]
pub(crate) static ROUTES: LpmTrie<u32, Route> = LpmTrie::with_max_entries(limits::ROUTES_MAX, 0);
#[map]
pub(crate) static NEIGHBOURS: HashMap<AddressKey, u32> = HashMap::with_max_entries(limits::NEXTHOPS_MAX, 0);
#[map]
pub(crate) static GROUPS: Array<Group> = Array::with_max_entries(limits::GROUPS_MAX, 0);
#[map]
pub(crate) static GROUP_GATES: Array<Gate> = Array::with_max_entries(limits::GROUPS_MAX, BPF_F_MMAPABLE);
#[map]
pub(crate) static GROUP_MACS: HashMap<GroupKey, u32> = HashMap::with_max_entries(limits::GROUPS_MAX, 0);
#[map]
pub(crate) static GROUP_ADDRESSES: HashMap<AddressKey, u32> =
    HashMap::with_max_entries(limits::GROUPS_MAX, 0);
#[map]
pub(crate) static ROUTER_ROUTES: LpmTrie<u32, RouterRoute> = LpmTrie::with_max_entries(limits::ROUTES_MAX, 0);
/// What this CPU hands to the router or from there to the module.
#[map]
pub(crate) static PASSAGE: PerCpuArray<Passage> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static VSERVER_KEYS: HashMap<VserverKey, Match> =
    HashMap::with_max_entries(2 * limits::VSERVERS_MAX, 0);
#[map]
pub(crate) static NETWORKS: LpmTrie<u32, Networks> = LpmTrie::with_max_entries(limits::NETWORKS_MAX, 0);
#[map]
pub(crate) static CLIENTS: LpmTrie<ClientKey, u32> = LpmTrie::with_max_entries(limits::CLIENTS_MAX, 0);
#[map]
pub(crate) static POOLS: Array<Pool> = Array::with_max_entries(limits::POOLS_MAX, 0);
#[map]
pub(crate) static STATICS: LpmTrie<u32, u32> = LpmTrie::with_max_entries(limits::STATICS_MAX, 0);
#[map]
pub(crate) static VSERVERS: Array<Vserver> = Array::with_max_entries(limits::VSERVERS_MAX, 0);
#[map]
pub(crate) static RINGS: Array<u32> = Array::with_max_entries(limits::VSERVERS_MAX * limits::RING_SLOTS, 0);
#[map]
pub(crate) static CURSORS: Array<u64> = Array::with_max_entries(limits::VSERVERS_MAX, 0);
#[map]
pub(crate) static LOADS: Array<u64> = Array::with_max_entries(limits::REALS_MAX, 0);
#[map]
pub(crate) static LOAD_BASES: Array<u64> = Array::with_max_entries(limits::REALS_MAX, 0);
#[map]
pub(crate) static PLACES: Array<u64> = Array::with_max_entries(limits::VSERVERS_MAX, 0);
#[map]
pub(crate) static PLACE_BASES: Array<u64> = Array::with_max_entries(limits::VSERVERS_MAX, 0);
#[map]
pub(crate) static REALS: Array<Real> = Array::with_max_entries(limits::REALS_MAX, 0);
#[map]
pub(crate) static PROMISE: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static VSERVER_IDS: Array<u64> = Array::with_max_entries(limits::VSERVERS_MAX, 0);
#[map]
pub(crate) static REAL_IDS: Array<u64> = Array::with_max_entries(limits::REALS_MAX, 0);
#[map]
pub(crate) static ORIGINS: HashMap<VserverKey, Origin> = HashMap::with_max_entries(limits::ORIGINS_MAX, 0);
/// Scratch space, one for each CPU.
#[map]
pub(crate) static COLD: PerCpuArray<Cold<u32>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static TRACE: Array<Filter> = Array::with_max_entries(1, 0);
/// Scratch space of the traced form, one for each CPU.
#[map]
pub(crate) static TRACED: PerCpuArray<Traced<u32>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static TRACED6: PerCpuArray<Traced<V6>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static FLOWS: HashMap<FlowKey, FlowEntry> =
    HashMap::with_max_entries(2 * limits::CONNECTIONS_MAX, 0);
#[map]
pub(crate) static EMBRYONIC: LruHashMap<FlowKey, FlowEntry> =
    LruHashMap::with_max_entries(2 * limits::EMBRYONIC_MAX, 0);
#[map]
pub(crate) static DIRECT: LruHashMap<FlowKey, u32> = LruHashMap::with_max_entries(limits::DIRECT_MAX, 0);
#[map]
pub(crate) static STICKY: HashMap<StickyKey, StickyEntry> = HashMap::with_max_entries(limits::STICKY_MAX, 0);
#[map]
pub(crate) static EMBRYONIC_STICKY: LruHashMap<StickyKey, StickyEntry> =
    LruHashMap::with_max_entries(limits::EMBRYONIC_MAX, 0);
#[map]
pub(crate) static REVERSES: Array<Reverse> = Array::with_max_entries(limits::STICKY_GROUPS, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(limits::EVENT_RING_BYTES, 0);
#[map]
pub(crate) static DRAIN: Array<Drain> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static EVENTS_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(Lost::COUNT, 0);
const _: () = assert!(Reason::ALL.len() <= limits::REASONS_MAX as usize);
#[map]
pub(crate) static COUNTERS: PerCpuArray<Count> =
    PerCpuArray::with_max_entries(limits::COUNTED_MAX * limits::REASONS_MAX, 0);
#[map]
pub(crate) static COUNTED: HashMap<u32, u32> = HashMap::with_max_entries(limits::COUNTED_MAX, 0);
#[map]
pub(crate) static VSERVER_COUNTS: PerCpuArray<ServiceCount> =
    PerCpuArray::with_max_entries(limits::VSERVERS_MAX, 0);
#[map]
pub(crate) static REAL_COUNTS: PerCpuArray<ServiceCount> =
    PerCpuArray::with_max_entries(limits::REALS_MAX, 0);

#[map]
pub(crate) static RATES: Array<u64> = Array::with_max_entries(limits::VSERVERS_MAX, 0);
#[map]
pub(crate) static CLIENT_RATES: LruHashMap<RateKey, u64> =
    LruHashMap::with_max_entries(limits::CLIENT_RATES_MAX, 0);
#[map]
pub(crate) static CLIENT_RATES6: LruHashMap<RateKey<V6>, u64> =
    LruHashMap::with_max_entries(limits::CLIENT_RATES_MAX, 0);
#[map]
pub(crate) static REFUSED: PerCpuArray<Refused> = PerCpuArray::with_max_entries(limits::VSERVERS_MAX, 0);
#[map]
pub(crate) static SHARES: Array<u64> = Array::with_max_entries(share_slot(limits::VSERVERS_MAX), 0);
#[map]
pub(crate) static THROTTLED: Array<u32> = Array::with_max_entries(limits::REALS_MAX, 0);

/// Programs of other families, by `FAMILY_*`: they have a stack of their own, and the verifier walks each alone.
#[map]
pub(crate) static FAMILIES: ProgramArray = ProgramArray::with_max_entries(10, 0);
/// What this CPU hands to one of them.
#[map]
pub(crate) static HANDOVER: PerCpuArray<Handover> = PerCpuArray::with_max_entries(1, 0);

// IPv6: as the maps above that have the same names.

#[map]
pub(crate) static ADDRESSES6: HashMap<AddressKey<V6>, Address> =
    HashMap::with_max_entries(limits::ADDRESSES_MAX, 0);
#[map]
pub(crate) static ERROR_SOURCES6: Array<V6> = Array::with_max_entries(limits::VLAN_IDS, 0);
#[map]
pub(crate) static FRAGMENTS6: LruHashMap<FragmentKey<V6>, Fragment<V6>> =
    LruHashMap::with_max_entries(limits::FRAGMENTS_MAX, 0);
#[map]
pub(crate) static HELD6: RingBuf = RingBuf::with_byte_size(limits::HELD_RING_BYTES, 0);
#[map]
pub(crate) static NEXTHOPS6: Array<NextHop<V6>> = Array::with_max_entries(limits::NEXTHOPS_MAX, 0);
#[map]
pub(crate) static TUNNELS6: Array<Tunnel<V6>> = Array::with_max_entries(limits::TUNNELS_MAX, 0);
#[map]
pub(crate) static ROUTES6: LpmTrie<V6, Route> = LpmTrie::with_max_entries(limits::ROUTES_MAX, 0);
#[map]
pub(crate) static NEIGHBOURS6: HashMap<AddressKey<V6>, u32> =
    HashMap::with_max_entries(limits::NEXTHOPS_MAX, 0);
#[map]
pub(crate) static GROUP_ADDRESSES6: HashMap<AddressKey<V6>, u32> =
    HashMap::with_max_entries(limits::GROUPS_MAX, 0);
#[map]
pub(crate) static ROUTER_ROUTES6: LpmTrie<V6, RouterRoute> = LpmTrie::with_max_entries(limits::ROUTES_MAX, 0);
#[map]
pub(crate) static VSERVER_KEYS6: HashMap<VserverKey<V6>, Match> =
    HashMap::with_max_entries(2 * limits::VSERVERS_MAX, 0);
#[map]
pub(crate) static NETWORKS6: LpmTrie<V6, Networks> = LpmTrie::with_max_entries(limits::NETWORKS_MAX, 0);
#[map]
pub(crate) static CLIENTS6: LpmTrie<ClientKey<V6>, u32> = LpmTrie::with_max_entries(limits::CLIENTS_MAX, 0);
#[map]
pub(crate) static POOLS6: Array<Pool<V6>> = Array::with_max_entries(limits::POOLS_MAX, 0);
#[map]
pub(crate) static STATICS6: LpmTrie<V6, u32> = LpmTrie::with_max_entries(limits::STATICS_MAX, 0);
#[map]
pub(crate) static VSERVERS6: Array<Vserver<V6>> = Array::with_max_entries(limits::VSERVERS_MAX, 0);
#[map]
pub(crate) static REALS6: Array<Real<V6>> = Array::with_max_entries(limits::REALS_MAX, 0);
#[map]
pub(crate) static ORIGINS6: HashMap<VserverKey<V6>, Origin<V6>> =
    HashMap::with_max_entries(limits::ORIGINS_MAX, 0);
/// This node's own address on a bridged VLAN, by VLAN.
#[map]
pub(crate) static OWN6: Array<V6> = Array::with_max_entries(limits::VLAN_IDS, 0);
#[map]
pub(crate) static DIRECT6: LruHashMap<FlowKey<V6>, u32> = LruHashMap::with_max_entries(limits::DIRECT_MAX, 0);
/// What an error of this node quotes, one for each CPU.
#[map]
pub(crate) static QUOTE6: PerCpuArray<Quote> = PerCpuArray::with_max_entries(1, 0);
/// What the short way looks up, one for each CPU.
#[map]
pub(crate) static KEY6: PerCpuArray<[u64; 5]> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static COLD6: PerCpuArray<Cold<V6>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static FLOWS6: HashMap<FlowKey<V6>, FlowEntry<V6>> =
    HashMap::with_max_entries(2 * limits::CONNECTIONS_MAX, 0);
#[map]
pub(crate) static EMBRYONIC6: LruHashMap<FlowKey<V6>, FlowEntry<V6>> =
    LruHashMap::with_max_entries(2 * limits::EMBRYONIC_MAX, 0);
#[map]
pub(crate) static STICKY6: HashMap<StickyKey<V6>, StickyEntry> =
    HashMap::with_max_entries(limits::STICKY_MAX, 0);
#[map]
pub(crate) static EMBRYONIC_STICKY6: LruHashMap<StickyKey<V6>, StickyEntry> =
    LruHashMap::with_max_entries(limits::EMBRYONIC_MAX, 0);
#[map]
pub(crate) static REVERSES6: Array<Reverse<V6>> = Array::with_max_entries(limits::STICKY_GROUPS, 0);
