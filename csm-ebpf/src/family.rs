//! What the stages need of a family of addresses: its tables, and how its headers are written.

use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::XdpContext;
use csm_common::address::{Address, V6};
use csm_common::counter::Reason;
use csm_common::event::EVENT_V6;
use csm_common::flow::{FlowEntry, FlowKey};
use csm_common::fragment::{Fragment, FragmentKey};
use csm_common::names::{
    FAMILY_INSIDE, FAMILY_OPEN, FAMILY_ROUTER, FAMILY_V6_INSIDE, FAMILY_V6_OPEN, FAMILY_V6_ROUTER,
};
use csm_common::net::{self, AddressKey, NextHop, Route, RouterRoute, Tunnel};
use csm_common::rate::RateKey;
use csm_common::service::{
    ClientKey, Match, Networks, Origin, Pool, Real, Reverse, StickyEntry, StickyKey, Vserver, VserverKey,
};

use crate::conn::Cold;
use crate::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ingress, PROTO_ICMP, PROTO_ICMPV6, Packet};
use crate::{Outcome, echo, icmp_send, maps, rewrite, tunnel, v6};

/// A family, with its maps (see [`maps`] for what is in them).
pub(crate) trait Family: Address {
    /// Its ICMP.
    const ICMP: u8;
    const ECHO_REQUEST: u8;
    const ECHO_REPLY: u8;
    /// Octets of its header without options or extensions.
    const HEADER: usize;
    /// The ICMP checksum covers the addresses.
    const ICMP_COVERS_ADDRESSES: bool;
    /// In an Ethernet header.
    const ETHERTYPE: u16;
    /// Protocol number of a packet of it in another one.
    const ENCAPSULATED: u8;
    /// Type and code of its "packet too big".
    const TOO_BIG: (u8, u8);
    /// Bit of its records' kind.
    const EVENT: u32;
    /// Packets, keys and entries stand in this CPU's scratch space from the start: they are too large for the stack.
    const IN_SCRATCH: bool;
    /// Its sticky tables hold both addresses of a connection in one key.
    const HOLDS_BOTH: bool;
    /// Index in `FAMILIES` of the host as a router.
    const ROUTER: u32;
    /// Index in `FAMILIES` of the program for what the router hands to the module.
    const INSIDE: u32;
    /// Index in `FAMILIES` of the program that opens its connections.
    const OPEN: u32;
    /// Any place of a transport header, as a mask.
    const L4_MASK: u32;

    fn addresses() -> &'static HashMap<AddressKey<Self>, net::Address>;
    fn fragments() -> &'static LruHashMap<FragmentKey<Self>, Fragment<Self>>;
    /// Where fragments that come too early wait.
    fn held() -> &'static RingBuf;
    fn next_hops() -> &'static Array<NextHop<Self>>;
    fn tunnels() -> &'static Array<Tunnel<Self>>;
    fn routes() -> &'static LpmTrie<Self, Route>;
    fn neighbours() -> &'static HashMap<AddressKey<Self>, u32>;
    fn group_addresses() -> &'static HashMap<AddressKey<Self>, u32>;
    fn router_routes() -> &'static LpmTrie<Self, RouterRoute>;
    fn vserver_keys() -> &'static HashMap<VserverKey<Self>, Match>;
    fn networks() -> &'static LpmTrie<Self, Networks>;
    fn clients() -> &'static LpmTrie<ClientKey<Self>, u32>;
    fn pools() -> &'static Array<Pool<Self>>;
    fn statics() -> &'static LpmTrie<Self, u32>;
    fn vservers() -> &'static Array<Vserver<Self>>;
    fn reals() -> &'static Array<Real<Self>>;
    fn reverses() -> &'static Array<Reverse<Self>>;
    fn origins() -> &'static HashMap<VserverKey<Self>, Origin<Self>>;
    fn cold() -> &'static PerCpuArray<Cold<Self>>;
    fn flows() -> &'static HashMap<FlowKey<Self>, FlowEntry<Self>>;
    fn embryonic() -> &'static LruHashMap<FlowKey<Self>, FlowEntry<Self>>;
    fn client_rates() -> &'static LruHashMap<RateKey<Self>, u64>;
    fn sticky() -> &'static HashMap<StickyKey<Self>, StickyEntry>;
    fn embryonic_sticky() -> &'static LruHashMap<StickyKey<Self>, StickyEntry>;

    /// The entry of the established table under `key`.
    fn proven(key: &FlowKey<Self>) -> Option<*mut FlowEntry<Self>>;
    /// An address that one host may have.
    fn is_host(self) -> bool;
    /// Where [`Family::HOLDS_BOTH`]: as [`Address::paired`], in place.
    fn pair_with(&mut self, other: Self);
    /// Of one link only: no router takes it on.
    fn is_of_link(self) -> bool;
    /// Takes one from the hop limit.
    fn age(ctx: &XdpContext) -> Result<(), Reason>;
    /// Whether an ICMP message of that type is an error that is translated.
    fn is_icmp_error(kind: u8) -> bool;
    /// Writes addresses, a hop limit that is one less, and what checksum the header has.
    fn rewrite(ctx: &XdpContext, src_be: Self, dst_be: Self, ip_delta: u16, mark: u32) -> Result<(), Reason>;
    /// Octets of the packet whose header stands at `at`, without what pads the frame.
    fn octets(ctx: &XdpContext, at: usize) -> Result<u16, Reason>;
    /// 16 bits that hang on the source of the packet whose header stands at `at`.
    fn spread(ctx: &XdpContext, at: usize) -> Result<u16, Reason>;
    /// Writes the header of the packet that `tunnel` puts others into, with so many octets to follow.
    fn write_outer(ctx: &XdpContext, tunnel: &Tunnel<Self>, proto: u8, payload: u16) -> Result<(), Reason>;
    /// Writes a header of its own, with so many octets to follow.
    fn write(ctx: &XdpContext, src_be: Self, dst_be: Self, proto: u8, payload: u16) -> Result<(), Reason>;
    /// Sends an IP packet back as an answer.
    fn turn_around(ctx: &XdpContext, ingress: &Ingress) -> Outcome;
    /// Answers a packet whose hop limit has run out.
    fn time_exceeded(ctx: &XdpContext, packet: &Packet<Self>, l4: usize) -> Reason;
    /// Answers a packet that is longer than `mtu`.
    fn too_big(ctx: &XdpContext, packet: &Packet<Self>, l4: usize, mtu: u16) -> Reason;
}

/// The maps of a family, by the names of its statics.
macro_rules! maps_of {
    ($($function:ident -> $static:ident: $type:ty;)+) => {
        $(#[inline(always)]
        fn $function() -> &'static $type {
            &maps::$static
        })+
    };
}

impl Family for u32 {
    const ICMP: u8 = PROTO_ICMP;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const HEADER: usize = 20;
    const ICMP_COVERS_ADDRESSES: bool = false;
    const ETHERTYPE: u16 = ETHERTYPE_IPV4;
    const ENCAPSULATED: u8 = 4;
    const TOO_BIG: (u8, u8) = (3, 4);
    const EVENT: u32 = 0;
    const IN_SCRATCH: bool = false;
    const HOLDS_BOTH: bool = false;
    const ROUTER: u32 = FAMILY_ROUTER;
    const INSIDE: u32 = FAMILY_INSIDE;
    const OPEN: u32 = FAMILY_OPEN;
    const L4_MASK: u32 = 0x7f;

    maps_of! {
        addresses -> ADDRESSES: HashMap<AddressKey<Self>, net::Address>;
        held -> HELD: RingBuf;
        fragments -> FRAGMENTS: LruHashMap<FragmentKey<Self>, Fragment<Self>>;
        next_hops -> NEXTHOPS: Array<NextHop<Self>>;
        tunnels -> TUNNELS: Array<Tunnel<Self>>;
        routes -> ROUTES: LpmTrie<Self, Route>;
        neighbours -> NEIGHBOURS: HashMap<AddressKey<Self>, u32>;
        group_addresses -> GROUP_ADDRESSES: HashMap<AddressKey<Self>, u32>;
        router_routes -> ROUTER_ROUTES: LpmTrie<Self, RouterRoute>;
        vserver_keys -> VSERVER_KEYS: HashMap<VserverKey<Self>, Match>;
        networks -> NETWORKS: LpmTrie<Self, Networks>;
        clients -> CLIENTS: LpmTrie<ClientKey<Self>, u32>;
        pools -> POOLS: Array<Pool<Self>>;
        statics -> STATICS: LpmTrie<Self, u32>;
        vservers -> VSERVERS: Array<Vserver<Self>>;
        reals -> REALS: Array<Real<Self>>;
        reverses -> REVERSES: Array<Reverse<Self>>;
        origins -> ORIGINS: HashMap<VserverKey<Self>, Origin<Self>>;
        cold -> COLD: PerCpuArray<Cold<Self>>;
        flows -> FLOWS: HashMap<FlowKey<Self>, FlowEntry<Self>>;
        embryonic -> EMBRYONIC: LruHashMap<FlowKey<Self>, FlowEntry<Self>>;
        client_rates -> CLIENT_RATES: LruHashMap<RateKey<Self>, u64>;
        sticky -> STICKY: HashMap<StickyKey<Self>, StickyEntry>;
        embryonic_sticky -> EMBRYONIC_STICKY: LruHashMap<StickyKey<Self>, StickyEntry>;
    }

    #[inline(always)]
    fn proven(key: &FlowKey) -> Option<*mut FlowEntry> {
        maps::FLOWS.get_ptr_mut(key.wide())
    }

    #[inline(always)]
    fn pair_with(&mut self, _: Self) {}

    /// Not of "this network", loopback, multicast or reserved (RFC 6890).
    #[inline(always)]
    fn is_host(self) -> bool {
        matches!(self.to_ne_bytes()[0], 1..=126 | 128..=223)
    }

    #[inline(always)]
    fn is_of_link(self) -> bool {
        false
    }

    #[inline(always)]
    fn age(ctx: &XdpContext) -> Result<(), Reason> {
        rewrite::age(ctx)
    }

    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        crate::packet::is_icmp_error(kind)
    }

    #[inline(always)]
    fn rewrite(ctx: &XdpContext, src_be: Self, dst_be: Self, ip_delta: u16, mark: u32) -> Result<(), Reason> {
        rewrite::addresses(ctx, src_be, dst_be, ip_delta, mark)
    }

    #[inline(always)]
    fn octets(ctx: &XdpContext, at: usize) -> Result<u16, Reason> {
        tunnel::octets(ctx, at)
    }

    #[inline(always)]
    fn spread(ctx: &XdpContext, at: usize) -> Result<u16, Reason> {
        tunnel::spread(ctx, at)
    }

    #[inline(always)]
    fn write_outer(ctx: &XdpContext, tunnel: &Tunnel, proto: u8, payload: u16) -> Result<(), Reason> {
        rewrite::write(ctx, tunnel.local_be, tunnel.remote_be, proto, payload)
    }

    #[inline(always)]
    fn write(ctx: &XdpContext, src_be: Self, dst_be: Self, proto: u8, payload: u16) -> Result<(), Reason> {
        rewrite::write(ctx, src_be, dst_be, proto, payload)
    }

    #[inline(always)]
    fn turn_around(ctx: &XdpContext, ingress: &Ingress) -> Outcome {
        echo::turn_around(ctx, ingress)
    }

    #[inline(always)]
    fn time_exceeded(ctx: &XdpContext, packet: &Packet, l4: usize) -> Reason {
        icmp_send::time_exceeded(ctx, packet, l4)
    }

    #[inline(always)]
    fn too_big(ctx: &XdpContext, packet: &Packet, l4: usize, mtu: u16) -> Reason {
        icmp_send::too_big(ctx, packet, l4, mtu)
    }
}

impl Family for V6 {
    const ICMP: u8 = PROTO_ICMPV6;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const HEADER: usize = 40;
    const ICMP_COVERS_ADDRESSES: bool = true;
    const ETHERTYPE: u16 = ETHERTYPE_IPV6;
    const ENCAPSULATED: u8 = 41;
    const TOO_BIG: (u8, u8) = (2, 0);
    const EVENT: u32 = EVENT_V6;
    const IN_SCRATCH: bool = true;
    const HOLDS_BOTH: bool = true;
    const ROUTER: u32 = FAMILY_V6_ROUTER;
    const INSIDE: u32 = FAMILY_V6_INSIDE;
    const OPEN: u32 = FAMILY_V6_OPEN;
    const L4_MASK: u32 = 0xff;

    maps_of! {
        addresses -> ADDRESSES6: HashMap<AddressKey<Self>, net::Address>;
        held -> HELD6: RingBuf;
        fragments -> FRAGMENTS6: LruHashMap<FragmentKey<Self>, Fragment<Self>>;
        next_hops -> NEXTHOPS6: Array<NextHop<Self>>;
        tunnels -> TUNNELS6: Array<Tunnel<Self>>;
        routes -> ROUTES6: LpmTrie<Self, Route>;
        neighbours -> NEIGHBOURS6: HashMap<AddressKey<Self>, u32>;
        group_addresses -> GROUP_ADDRESSES6: HashMap<AddressKey<Self>, u32>;
        router_routes -> ROUTER_ROUTES6: LpmTrie<Self, RouterRoute>;
        vserver_keys -> VSERVER_KEYS6: HashMap<VserverKey<Self>, Match>;
        networks -> NETWORKS6: LpmTrie<Self, Networks>;
        clients -> CLIENTS6: LpmTrie<ClientKey<Self>, u32>;
        pools -> POOLS6: Array<Pool<Self>>;
        statics -> STATICS6: LpmTrie<Self, u32>;
        vservers -> VSERVERS6: Array<Vserver<Self>>;
        reals -> REALS6: Array<Real<Self>>;
        reverses -> REVERSES6: Array<Reverse<Self>>;
        origins -> ORIGINS6: HashMap<VserverKey<Self>, Origin<Self>>;
        cold -> COLD6: PerCpuArray<Cold<Self>>;
        flows -> FLOWS6: HashMap<FlowKey<Self>, FlowEntry<Self>>;
        embryonic -> EMBRYONIC6: LruHashMap<FlowKey<Self>, FlowEntry<Self>>;
        client_rates -> CLIENT_RATES6: LruHashMap<RateKey<Self>, u64>;
        sticky -> STICKY6: HashMap<StickyKey<Self>, StickyEntry>;
        embryonic_sticky -> EMBRYONIC_STICKY6: LruHashMap<StickyKey<Self>, StickyEntry>;
    }

    #[inline(always)]
    fn proven(key: &FlowKey<Self>) -> Option<*mut FlowEntry<Self>> {
        maps::FLOWS6.get_ptr_mut(key)
    }

    #[inline(always)]
    fn is_host(self) -> bool {
        // The inherent method.
        V6::is_host(self)
    }

    #[inline(always)]
    fn pair_with(&mut self, other: Self) {
        (self.0[2], self.0[3]) = (other.0[0], other.0[1]);
    }

    #[inline(always)]
    fn is_of_link(self) -> bool {
        self.is_link_local()
    }

    #[inline(always)]
    fn age(ctx: &XdpContext) -> Result<(), Reason> {
        v6::age(ctx)
    }

    /// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn rewrite(
        ctx: &XdpContext,
        src_be: Self,
        dst_be: Self,
        _ip_delta: u16,
        mark: u32,
    ) -> Result<(), Reason> {
        v6::rewrite(ctx, src_be, dst_be, mark)
    }

    #[inline(always)]
    fn octets(ctx: &XdpContext, at: usize) -> Result<u16, Reason> {
        v6::octets(ctx, at)
    }

    #[inline(always)]
    fn spread(ctx: &XdpContext, at: usize) -> Result<u16, Reason> {
        v6::spread(ctx, at)
    }

    #[inline(always)]
    fn write_outer(ctx: &XdpContext, tunnel: &Tunnel<Self>, proto: u8, payload: u16) -> Result<(), Reason> {
        v6::write_outer(ctx, tunnel, proto, payload)
    }

    #[inline(always)]
    fn write(ctx: &XdpContext, src_be: Self, dst_be: Self, proto: u8, payload: u16) -> Result<(), Reason> {
        v6::write(ctx, src_be, dst_be, proto, payload, echo::TTL)
    }

    #[inline(always)]
    fn turn_around(ctx: &XdpContext, ingress: &Ingress) -> Outcome {
        v6::turn_around(ctx, ingress)
    }

    #[inline(always)]
    fn time_exceeded(ctx: &XdpContext, packet: &Packet<Self>, l4: usize) -> Reason {
        v6::time_exceeded(ctx, packet, l4)
    }

    #[inline(always)]
    fn too_big(ctx: &XdpContext, packet: &Packet<Self>, l4: usize, mtu: u16) -> Reason {
        v6::too_big(ctx, packet, l4, mtu)
    }
}
