//! IPv6 on the test bench: beside the network of [`crate::rig`] its counterpart, with numbers of its own in the space
//! that both families share.

use std::net::Ipv6Addr;

use anyhow::Result;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData};
use csm_common::address::{Address as _, V6};
use csm_common::event::Record;
use csm_common::flow::{FlowEntry, FlowKey};
use csm_common::names;
use csm_common::net::{
    ADDRESS_ALIAS, ADDRESS_VIRTUAL, Address, AddressKey, NEXTHOP_RESOLVED, NEXTHOP_TAGGED, NextHop,
    ROUTE_CONNECTED, ROUTE_VIA, Route,
};
use csm_common::service::{
    Match, REAL_STICKY, REAL_USABLE, Real, StickyEntry, StickyKey, VSERVER_INSERVICE, Vserver, VserverKey,
    ring_slot,
};
use csm_user::dataplane::load::Capacity;

use crate::rig::{Rig, SMALL, VIRTUAL_MAC};

/// The virtual server's address.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x26, 0, 0, 0, 0, 0x30);
/// The balancer's own address on the client VLAN.
pub const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x26, 0, 0, 0, 0, 0x10);
/// The servers' default gateway.
pub const ALIAS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x27, 0, 0, 0, 0, 0x20);
/// The upstream router, by its link-local address.
pub const GATEWAY6: Host6 = Host6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x20), 2);
/// A client on the client VLAN itself.
pub const NEAR6: Host6 = Host6::new(Ipv6Addr::new(0x2001, 0xdb8, 0x26, 0, 0, 0, 0, 0x50), 2);
/// A client behind the gateway.
pub const FAR6: Host6 = Host6 { ip: Ipv6Addr::new(0x2001, 0xdb8, 0xa, 1, 2, 3, 4, 5), ..GATEWAY6 };
/// A host of the client VLAN that nobody has heard of.
pub const STRANGER6: Host6 = Host6::new(Ipv6Addr::new(0x2001, 0xdb8, 0x26, 0, 0, 0, 0, 0x99), 2);
/// Three real servers.
pub const REALS6: [Host6; 3] = [
    Host6::new(Ipv6Addr::new(0x2001, 0xdb8, 0x27, 0, 0, 0, 0, 0x101), 3),
    Host6::new(Ipv6Addr::new(0x2001, 0xdb8, 0x27, 0, 0, 0, 0, 0x102), 3),
    Host6::new(Ipv6Addr::new(0x2001, 0xdb8, 0x27, 0, 0, 0, 0, 0x103), 3),
];

/// Number of the TCP vserver on port 80.
pub const WEB6: u32 = 8;
/// Number of the UDP vserver on port 53; its reals listen on 5353.
pub const DNS6: u32 = 9;
/// Number of the first real; the next hops have the same.
pub const FIRST6: u32 = 8;

/// A host next to the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host6 {
    /// Its address.
    pub ip: Ipv6Addr,
    /// The VLAN it is on.
    pub vlan: u16,
    /// MAC of the frames that come from it.
    pub mac: [u8; 6],
}

impl Host6 {
    const fn new(ip: Ipv6Addr, vlan: u16) -> Self {
        let octets = ip.octets();
        Self { ip, vlan, mac: [0x02, 0xe6, 0, octets[5], octets[14], octets[15]] }
    }
}

/// A bench as [`Rig::new`] makes it, with IPv6.
///
/// # Errors
/// As [`Rig::new`].
pub fn rig() -> Result<Rig> {
    filled(Rig::with_capacity(CAPACITY)?)
}

/// As [`rig`], with the VLANs on one trunk.
///
/// # Errors
/// As [`Rig::new`].
pub fn on_trunk() -> Result<Rig> {
    filled(Rig::on_trunk_with(CAPACITY)?)
}

/// As [`Rig::bridged`], with IPv6 and the node's own address [`OWN6`].
///
/// # Errors
/// As [`Rig::new`].
pub fn bridged() -> Result<Rig> {
    let rig = filled(Rig::bridged_with(CAPACITY, Some(OWN6))?)?;
    let mut addresses: HashMap<MapData, AddressKey<V6>, Address> = rig.map(names::ADDRESSES6);
    addresses.insert(address_key(VIP6, 3), Address { kind: ADDRESS_VIRTUAL }, 0)?;
    Ok(rig)
}

pub(crate) const CAPACITY: Capacity = Capacity { ipv6: true, ..SMALL };

fn filled(rig: Rig) -> Result<Rig> {
    fill(&rig)?;
    Ok(rig)
}

/// Adds this network to a bench that was made with maps for IPv6.
///
/// # Errors
/// If a map refuses.
pub fn fill(rig: &Rig) -> Result<()> {
    fill_network(rig)?;
    fill_services(rig)
}

/// Key of an address on a VLAN.
#[must_use]
pub fn address_key(ip: Ipv6Addr, vlan: u16) -> AddressKey<V6> {
    AddressKey { ip_be: ip.into(), vlan, pad: 0 }
}

/// Contents of `FLOWS6` or `EMBRYONIC6`.
#[must_use]
pub fn flows(rig: &Rig, name: &'static str) -> Vec<(FlowKey<V6>, FlowEntry<V6>)> {
    let map: HashMap<MapData, FlowKey<V6>, FlowEntry<V6>> = rig.map(name);
    map.iter().map(|item| item.expect(name)).collect()
}

/// Contents of `STICKY6`.
#[must_use]
pub fn sticky(rig: &Rig) -> Vec<(StickyKey<V6>, StickyEntry)> {
    let map: HashMap<MapData, StickyKey<V6>, StickyEntry> = rig.map(names::STICKY6);
    map.iter().map(|item| item.expect("STICKY6")).collect()
}

/// Changes a vserver's facts.
pub fn vserver(rig: &Rig, number: u32, change: impl FnOnce(&mut Vserver<V6>)) {
    rig.change(names::VSERVERS6, number, change);
}

/// Changes a next hop's facts; reals come first, then gateway and near client, from [`FIRST6`] on.
pub fn next_hop(rig: &Rig, number: u32, change: impl FnOnce(&mut NextHop<V6>)) {
    rig.change(names::NEXTHOPS6, number, change);
}

/// Takes all records of IPv6 that wait in the ring.
pub fn events(rig: &mut Rig) -> Vec<Record<V6>> {
    rig.records()
}

fn fill_network(rig: &Rig) -> Result<()> {
    let mut addresses: HashMap<MapData, AddressKey<V6>, Address> = rig.map(names::ADDRESSES6);
    addresses.insert(address_key(VIP6, 2), Address { kind: ADDRESS_VIRTUAL }, 0)?;
    addresses.insert(address_key(ALIAS6, 3), Address { kind: ADDRESS_ALIAS }, 0)?;
    let mut sources: Array<MapData, V6> = rig.map(names::ERROR_SOURCES6);
    sources.set(2, V6::from(OWN6), 0)?;
    sources.set(3, V6::from(ALIAS6), 0)?;
    let mut routes: LpmTrie<MapData, V6, Route> = rig.map(names::ROUTES6);
    let connected = |vlan| Route { kind: ROUTE_CONNECTED, vlan, nexthop: 0 };
    routes.insert(&Key::new(64, V6::from(VIP6).network(64)), connected(2), 0)?;
    routes.insert(&Key::new(64, V6::from(ALIAS6).network(64)), connected(3), 0)?;
    let via = Route { kind: ROUTE_VIA, vlan: 2, nexthop: FIRST6 + 3 };
    routes.insert(&Key::new(0, V6::default()), via, 0)?;
    let tagged = if rig.ports()[0].tagged { NEXTHOP_TAGGED } else { 0 };
    let mut hops: Array<MapData, NextHop<V6>> = rig.map(names::NEXTHOPS6);
    let mut neighbours: HashMap<MapData, AddressKey<V6>, u32> = rig.map(names::NEIGHBOURS6);
    for (number, host) in (FIRST6..).zip(REALS6.iter().chain([&GATEWAY6, &NEAR6])) {
        let hop = NextHop {
            dst_mac: host.mac,
            src_mac: VIRTUAL_MAC,
            port: u32::from(host.vlan == 3),
            vlan: host.vlan,
            flags: NEXTHOP_RESOLVED | tagged,
            ip_be: host.ip.into(),
            mtu: 1500,
            tunnel: 0,
            group: 0,
            pad: 0,
        };
        hops.set(number, hop, 0)?;
        neighbours.insert(address_key(host.ip, host.vlan), number, 0)?;
    }
    Ok(())
}

fn fill_services(rig: &Rig) -> Result<()> {
    let mut keys: HashMap<MapData, VserverKey<V6>, Match> = rig.map(names::VSERVER_KEYS6);
    let mut vservers: Array<MapData, Vserver<V6>> = rig.map(names::VSERVERS6);
    let mut reals: Array<MapData, Real<V6>> = rig.map(names::REALS6);
    let mut ring: Array<MapData, u32> = rig.map(names::RINGS);
    for (number, port, proto, first) in [(WEB6, 80_u16, 6, FIRST6), (DNS6, 53, 17, FIRST6 + 3)] {
        let key = VserverKey { ip_be: VIP6.into(), port_be: port.to_be(), proto, kind: 0 };
        keys.insert(key, Match { vserver: number, rules: 0 }, 0)?;
        let vserver = Vserver {
            flags: VSERVER_INSERVICE,
            ring_len: 3,
            idle_s: 3600,
            pending_s: 30,
            sticky_mask_be: V6::mask(128),
            sticky_group: 10,
            farm: first,
            port_be: port.to_be(),
            ..Vserver::default()
        };
        vservers.set(number, vserver, 0)?;
        for (slot, host) in (0..).zip(REALS6) {
            let real = Real {
                ip_be: host.ip.into(),
                port_be: if proto == 6 { 0 } else { 5353_u16.to_be() },
                vlan: 3,
                nexthop: FIRST6 + slot,
                flags: REAL_USABLE | REAL_STICKY,
                farm: first,
                max_conns: 0,
                min_conns: 0,
            };
            reals.set(first + slot, real, 0)?;
            ring.set(ring_slot(number, slot), first + slot, 0)?;
        }
    }
    Ok(())
}
