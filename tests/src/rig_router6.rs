//! The host as a router of IPv6 on the test bench: beside [`crate::rig_router`]'s groups two of IPv6, and the network of
//! [`crate::rig6`] behind the module.

use std::net::Ipv6Addr;

use anyhow::Result;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData};
use csm_common::address::{Address as _, V6};
use csm_common::gate::GateState;
use csm_common::names;
use csm_common::net::{
    AddressKey, Group, GroupKey, NEXTHOP_GROUP, NEXTHOP_RESOLVED, NO_GROUP, NextHop, ROUTE_CONNECTED,
    ROUTE_LOCAL, Route, RouterRoute,
};
use csm_user::dataplane::load::Capacity;

use crate::rig::{Rig, SMALL};
use crate::rig_router::{OUTSIDE, OUTSIDE_PORT};
use crate::rig6::{self, FIRST6, GATEWAY6, Host6, VIP6, address_key};

/// Number of the group on the client VLAN: its address is [`GATEWAY6`]'s.
pub const INNER6: u32 = 2;
/// Number of the group on the router's own port.
pub const OUTER6: u32 = 3;
/// MAC address of [`INNER6`].
pub const INNER6_MAC: [u8; 6] = [0, 5, 0x73, 0xa0, 0, 1];
/// MAC address of [`OUTER6`].
pub const OUTER6_MAC: [u8; 6] = [0, 5, 0x73, 0xa0, 0, 2];
/// Address of [`OUTER6`].
pub const OUTER6_IP: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 5, 0x73ff, 0xfea0, 2);
/// The router's own address on its own port.
pub const OUTER6_OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 2);
/// A client behind it.
pub const OUTSIDER6: Host6 = Host6 {
    ip: Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0x1001),
    vlan: OUTSIDE,
    mac: [2, 0xee, 0, 0, 6, 1],
};

/// A bench as [`Rig::routing`] makes it, with IPv6; all gates are open for the next hour.
///
/// # Errors
/// As [`Rig::new`].
pub fn routing() -> Result<Rig> {
    let rig = Rig::routing_with(Capacity { ipv6: true, ..SMALL })?;
    rig6::fill(&rig)?;
    let inner = u16::try_from(INNER6)?;
    rig6::next_hop(&rig, FIRST6 + 3, |hop| {
        hop.dst_mac = INNER6_MAC;
        hop.flags |= NEXTHOP_GROUP;
        hop.group = inner;
    });
    let mut macs: HashMap<MapData, GroupKey, u32> = rig.map(names::GROUP_MACS);
    let mut groups: Array<MapData, Group> = rig.map(names::GROUPS);
    let mut addresses: HashMap<MapData, AddressKey<V6>, u32> = rig.map(names::GROUP_ADDRESSES6);
    for (number, mac, ip, vlan) in
        [(INNER6, INNER6_MAC, GATEWAY6.ip, 2), (OUTER6, OUTER6_MAC, OUTER6_IP, OUTSIDE)]
    {
        macs.insert(GroupKey { mac, vlan }, number, 0)?;
        groups.set(number, Group { mac, vlan }, 0)?;
        addresses.insert(address_key(ip, vlan), number, 0)?;
        rig.group(number, GateState::Open);
    }
    let mut sources: Array<MapData, V6> = rig.map(names::ERROR_SOURCES6);
    sources.set(u32::from(OUTSIDE), V6::from(OUTER6_OWN), 0)?;
    let number = FIRST6 + 5;
    let mut hops: Array<MapData, NextHop<V6>> = rig.map(names::NEXTHOPS6);
    let hop = NextHop {
        dst_mac: OUTSIDER6.mac,
        src_mac: [0; 6],
        port: u32::try_from(OUTSIDE_PORT)?,
        vlan: OUTSIDE,
        flags: NEXTHOP_RESOLVED,
        ip_be: OUTSIDER6.ip.into(),
        mtu: 1500,
        tunnel: 0,
        group: 0,
        pad: 0,
    };
    hops.set(number, hop, 0)?;
    let mut neighbours: HashMap<MapData, AddressKey<V6>, u32> = rig.map(names::NEIGHBOURS6);
    neighbours.insert(address_key(OUTSIDER6.ip, OUTSIDE), number, 0)?;
    let mut routes: LpmTrie<MapData, V6, RouterRoute> = rig.map(names::ROUTER_ROUTES6);
    for (bits, ip, kind, vlan, group) in [
        (64, V6::from(OUTER6_OWN).network(64), ROUTE_CONNECTED, OUTSIDE, OUTER6),
        (64, V6::from(VIP6).network(64), ROUTE_CONNECTED, 2, INNER6),
        (128, V6::from(OUTER6_OWN), ROUTE_LOCAL, OUTSIDE, NO_GROUP),
    ] {
        let route = Route { kind, vlan, nexthop: 0 };
        routes.insert(&Key::new(bits, ip), RouterRoute { route, group }, 0)?;
    }
    Ok(rig)
}
