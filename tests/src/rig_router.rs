//! The host as a router on the test bench: beside the network of [`crate::rig`] a port of the router's own, behind which the
//! clients are, and the module's gateway is an HSRP group of the same host.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData};
use csm_common::gate::{Gate, GateState};
use csm_common::names;
use csm_common::net::{
    AddressKey, Group, GroupKey, NEXTHOP_GROUP, NEXTHOP_RESOLVED, NO_GROUP, NextHop, PORT_CLIENT, PORT_FT,
    PORT_ROUTER, PORT_SERVER, ROUTE_CONNECTED, ROUTE_LOCAL, ROUTE_MODULE, ROUTE_VIA, Route, RouterRoute,
};
use csm_user::dataplane::load::{Capacity, PortSpec};

use crate::rig::{GATEWAY, Host, Rig, SMALL, address_key, be, enter_namespace, now_ns};
use crate::rig_ports::make_port;

/// The VLAN that stands for the router's own port.
pub const OUTSIDE: u16 = 4094;
/// The port's number, and its index among [`Rig::ports`].
pub const OUTSIDE_PORT: usize = 3;
/// Number of the group on the client VLAN: its address is [`GATEWAY`]'s.
pub const INNER: u32 = 0;
/// Number of the group on the router's own port.
pub const OUTER: u32 = 1;
/// MAC address of [`INNER`].
pub const INNER_MAC: [u8; 6] = [0, 0, 0x0c, 0x07, 0xac, 1];
/// MAC address of [`OUTER`].
pub const OUTER_MAC: [u8; 6] = [0, 0, 0x0c, 0x07, 0xac, 2];
/// Address of [`OUTER`].
pub const OUTER_IP: Ipv4Addr = Ipv4Addr::new(10, 100, 0, 1);
/// The router's own address on its own port.
pub const OUTER_OWN: Ipv4Addr = Ipv4Addr::new(10, 100, 0, 2);
/// A client behind it.
pub const OUTSIDER: Host =
    Host { ip: Ipv4Addr::new(10, 100, 1, 1), vlan: OUTSIDE, mac: [2, 0xee, 0, 0, 1, 1] };
/// A network that the router hands to the module.
pub const HANDED: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 0);
/// A router behind its own port, and a network behind that.
pub const BEYOND: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 0);

impl Rig {
    /// As [`Self::new`], with the router; both groups' gates are open for the next hour.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn routing() -> Result<Self> {
        Self::routing_with(SMALL)
    }

    /// As [`Self::routing`], with tables of that capacity.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn routing_with(capacity: Capacity) -> Result<Self> {
        enter_namespace()?;
        let ports = vec![
            PortSpec { routed: true, ..make_port("p0", 2, PORT_CLIENT)? },
            make_port("p1", 3, PORT_SERVER)?,
            make_port("p2", 9, PORT_FT)?,
            PortSpec { routed: true, ..make_port("p3", OUTSIDE, PORT_ROUTER)? },
        ];
        let rig = Self::with_ports(ports, Capacity { router: true, ..capacity })?;
        let inner = u16::try_from(INNER)?;
        rig.next_hop(3, |hop| {
            hop.dst_mac = INNER_MAC;
            hop.flags |= NEXTHOP_GROUP;
            hop.group = inner;
        });
        let mut macs: HashMap<MapData, GroupKey, u32> = rig.map(names::GROUP_MACS);
        let mut groups: Array<MapData, Group> = rig.map(names::GROUPS);
        let mut addresses: HashMap<MapData, AddressKey, u32> = rig.map(names::GROUP_ADDRESSES);
        for (number, mac, ip, vlan) in
            [(INNER, INNER_MAC, GATEWAY.ip, 2), (OUTER, OUTER_MAC, OUTER_IP, OUTSIDE)]
        {
            macs.insert(GroupKey { mac, vlan }, number, 0)?;
            groups.set(number, Group { mac, vlan }, 0)?;
            addresses.insert(address_key(ip, vlan), number, 0)?;
            rig.group(number, GateState::Open);
        }
        let mut sources: Array<MapData, u32> = rig.map(names::ERROR_SOURCES);
        sources.set(u32::from(OUTSIDE), be(OUTER_OWN), 0)?;
        let mut hops: Array<MapData, NextHop> = rig.map(names::NEXTHOPS);
        let hop = NextHop {
            dst_mac: OUTSIDER.mac,
            src_mac: [0; 6],
            port: u32::try_from(OUTSIDE_PORT)?,
            vlan: OUTSIDE,
            flags: NEXTHOP_RESOLVED,
            ip_be: be(OUTSIDER.ip),
            mtu: 1500,
            tunnel: 0,
            group: 0,
            pad: 0,
        };
        hops.set(5, hop, 0)?;
        let mut neighbours: HashMap<MapData, AddressKey, u32> = rig.map(names::NEIGHBOURS);
        neighbours.insert(address_key(OUTSIDER.ip, OUTSIDE), 5, 0)?;
        let mut routes: LpmTrie<MapData, u32, RouterRoute> = rig.map(names::ROUTER_ROUTES);
        for (bits, ip, kind, vlan, nexthop, group) in [
            (16, Ipv4Addr::new(10, 100, 0, 0), ROUTE_CONNECTED, OUTSIDE, 0, OUTER),
            (24, Ipv4Addr::new(192, 158, 38, 0), ROUTE_CONNECTED, 2, 0, INNER),
            (32, OUTER_OWN, ROUTE_LOCAL, OUTSIDE, 0, NO_GROUP),
            (16, HANDED, ROUTE_MODULE, 2, 0, NO_GROUP),
            (16, BEYOND, ROUTE_VIA, OUTSIDE, 5, OUTER),
        ] {
            let route = Route { kind, vlan, nexthop };
            routes.insert(&Key::new(bits, be(ip)), RouterRoute { route, group }, 0)?;
        }
        Ok(rig)
    }

    /// Sets the gate of group `number` to `state` for an hour.
    ///
    /// # Panics
    /// If the map cannot be written.
    pub fn group(&self, number: u32, state: GateState) {
        let mut gates: Array<MapData, Gate> = self.map(names::GROUP_GATES);
        let end = now_ns() + 3_600 * u64::try_from(Duration::from_secs(1).as_nanos()).expect("a second");
        gates.set(number, Gate::new(state, end), 0).expect("GROUP_GATES");
    }

    /// As [`Self::run`], on the router's own port.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_outside(&mut self, frame: &[u8]) -> crate::rig::Run {
        let ifindex = self.ports()[OUTSIDE_PORT].ifindex;
        self.run_at(ifindex, false, frame)
    }
}
