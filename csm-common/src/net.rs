//! Ports, addresses, next hops and routes as the maps hold them.

use crate::address::{self, V6};

/// Where frames of one VLAN come in and leave: a port, or a VLAN on a trunk. Value of `PORTS` (key: interface index,
/// untagged frames), of `TAGGED` (key: [`TagKey`]) and of `VLANS` (key: the VLAN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Port {
    /// Number in `TX_PORTS`.
    pub number: u32,
    /// Its VLAN.
    pub vlan: u16,
    /// One of the `PORT_*` roles.
    pub role: u8,
    /// `PORT_*` bits: [`PORT_TAGGED`], [`PORT_ROUTED`], [`PORT_TAKES_OWN`], [`PORT_SPEAKS_OWN`].
    pub flags: u8,
    /// The port's own MAC address.
    pub mac: [u8; 6],
    /// The VLAN that this one is bridged with; 0: none.
    pub bridge: u16,
    /// Number in `TX_PORTS` of the veth behind which the kernel takes the VLAN's frames; [`NO_VETH`]: it takes them
    /// from the port itself.
    pub veth: u32,
    /// The node's own address on the VLAN, network order; 0: none.
    pub own_be: u32,
    /// Where its interface's frames are counted: see [`crate::counter::index`].
    pub counted: u32,
}
crate::map_type!(Port, 28);

/// Value of `PORT_SLOTS`: the port with that interface index, if it is this slot's. The others are found in `PORTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PortSlot {
    /// Interface index; 0: the slot is free.
    pub ifindex: u32,
    /// The port.
    pub port: Port,
}
crate::map_type!(PortSlot, 4 + size_of::<Port>());

/// Slot of an interface index in `PORT_SLOTS`.
#[inline(always)]
#[must_use]
pub const fn port_slot(ifindex: u32) -> u32 {
    ifindex % crate::limits::PORT_SLOTS
}

/// Clients and upstream routers are behind this port.
pub const PORT_CLIENT: u8 = 1;
/// Servers are behind this port.
pub const PORT_SERVER: u8 = 2;
/// The FT VLAN: heartbeats, replication, relayed strays.
pub const PORT_FT: u8 = 3;
/// The node's own kernel is behind this port: a veth whose frames leave by the port of that number.
pub const PORT_VETH: u8 = 4;
/// Only the host as a router is on this port or VLAN: the module is not.
pub const PORT_ROUTER: u8 = 5;

/// Frames leave the port with an 802.1Q tag.
pub const PORT_TAGGED: u8 = 1;
/// The host as a router has an interface there.
pub const PORT_ROUTED: u8 = 2;
/// What comes for the port's own MAC address and not for an address of this node is the group's, too.
pub const PORT_TAKES_OWN: u8 = 4;
/// The group's frames carry the port's own MAC address there, not the virtual one.
pub const PORT_SPEAKS_OWN: u8 = 8;

/// No veth: see [`Port::veth`].
pub const NO_VETH: u32 = u32::MAX;

/// A VLAN on a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct TagKey {
    /// Interface index of the trunk.
    pub ifindex: u32,
    /// The VLAN of the tag.
    pub vlan: u16,
    /// Must be 0.
    pub pad: u16,
}
crate::map_type!(TagKey, 8);

/// An address on a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct AddressKey<A: address::Address = u32> {
    /// The address, network order.
    pub ip_be: A,
    /// The VLAN it is on.
    pub vlan: u16,
    /// Must be 0.
    pub pad: u16,
}
crate::map_type!(AddressKey, 8);
crate::map_type!(AddressKey<V6>, 20);

/// An alias, virtual or pool address of the group: ARP (IPv6: a neighbour solicitation) for it is answered with the group's MAC while the gate is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Address {
    /// [`ADDRESS_ALIAS`], [`ADDRESS_VIRTUAL`] or [`ADDRESS_POOL`].
    pub kind: u32,
}
crate::map_type!(Address, 4);

/// The VLAN's alias.
pub const ADDRESS_ALIAS: u32 = 1;
/// The address of a virtual server.
pub const ADDRESS_VIRTUAL: u32 = 2;
/// An address of a pool: clients get it towards their real.
pub const ADDRESS_POOL: u32 = 3;

/// Where a frame goes: node-local, so that connection entries need no rewrite when a neighbour's MAC changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct NextHop<A: address::Address = u32> {
    /// Destination MAC.
    pub dst_mac: [u8; 6],
    /// Source MAC: the virtual MAC, so that switches stay taught; with [`PORT_SPEAKS_OWN`] the port's own.
    pub src_mac: [u8; 6],
    /// Number in `TX_PORTS`.
    pub port: u32,
    /// VLAN of the frame.
    pub vlan: u16,
    /// `NEXTHOP_*` bits.
    pub flags: u16,
    /// The neighbour's address, network order.
    pub ip_be: A,
    /// Longest IP packet that leaves there, octets.
    pub mtu: u16,
    /// With [`NEXTHOP_TUNNEL`]: number in `TUNNELS`; else 0.
    pub tunnel: u16,
    /// With [`NEXTHOP_GROUP`]: the HSRP group of this host whose virtual address the neighbour's is; else 0.
    pub group: u16,
    /// Must be 0.
    pub pad: u16,
}
crate::map_type!(NextHop, 32);
crate::map_type!(NextHop<V6>, 44);

/// The neighbour's MAC is known.
pub const NEXTHOP_RESOLVED: u16 = 1;
/// The frame leaves with an 802.1Q tag of the next hop's VLAN.
pub const NEXTHOP_TAGGED: u16 = 2;
/// The neighbour's address is that of an HSRP group of this host: while the host is its active router, the packet goes on
/// by the router's table.
pub const NEXTHOP_GROUP: u16 = 4;
/// The packet leaves in another one.
pub const NEXTHOP_TUNNEL: u16 = 8;

/// Value of `TUNNELS`: what a packet is put into whose real is routed away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Tunnel<A: address::Address = u32> {
    /// Source of the outer packet, network order: the pair's.
    pub local_be: A,
    /// Its destination, the real, network order.
    pub remote_be: A,
    /// Its UDP destination port (GUE, variant 1), network order; 0: no UDP header (IP in IP).
    pub port_be: u16,
    /// Must be 0.
    pub pad: u16,
}
crate::map_type!(Tunnel, 12);
crate::map_type!(Tunnel<V6>, 36);

/// Octets that a tunnel puts before a packet, for a network header of so many: GUE has a UDP header, too.
#[must_use]
pub const fn tunnel_overhead(header: u16, port: u16) -> u16 {
    if port == 0 { header } else { header + 8 }
}

/// Value of `ROUTES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Route {
    /// [`ROUTE_VIA`]: `nexthop` is the gateway. [`ROUTE_CONNECTED`]: look the destination up in `NEIGHBOURS`.
    pub kind: u16,
    /// Egress VLAN.
    pub vlan: u16,
    /// Next-hop number of the gateway; 0 for a connected network.
    pub nexthop: u32,
}
crate::map_type!(Route, 8);

/// Through a gateway.
pub const ROUTE_VIA: u16 = 1;
/// A connected network.
pub const ROUTE_CONNECTED: u16 = 2;
/// An address of this host's kernel.
pub const ROUTE_LOCAL: u16 = 3;
/// To the module, as one of its addresses on that VLAN.
pub const ROUTE_MODULE: u16 = 4;

/// A MAC address of an HSRP group, on its VLAN. Key of `GROUP_MACS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct GroupKey {
    /// The group's virtual MAC.
    pub mac: [u8; 6],
    /// Its VLAN.
    pub vlan: u16,
}
crate::map_type!(GroupKey, 8);

/// An HSRP group of this host. Value of `GROUPS`; its gate stands in `GROUP_GATES` under the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Group {
    /// Its virtual MAC.
    pub mac: [u8; 6],
    /// Its VLAN.
    pub vlan: u16,
}
crate::map_type!(Group, 8);

/// Value of `ROUTER_ROUTES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RouterRoute {
    /// As of the module's routes; [`ROUTE_LOCAL`] and [`ROUTE_MODULE`] besides.
    pub route: Route,
    /// Group whose MAC frames carry there while this host is its active router, or [`NO_GROUP`].
    pub group: u32,
}
crate::map_type!(RouterRoute, 12);

/// No HSRP group.
pub const NO_GROUP: u32 = u32::MAX;

/// The virtual MAC address of FT group `group`: the CSM's 00-01-64-f9-1a-XX.
#[must_use]
pub const fn virtual_mac(group: u8) -> [u8; 6] {
    [0x00, 0x01, 0x64, 0xf9, 0x1a, group]
}

/// MAC address by which node `node` of FT group `group` tries whether frames with a MAC that is not their port's get through: the
/// virtual one made locally administered, the group and the node at its end, so that no switch learns the group's from it.
#[must_use]
pub const fn trial_mac(group: u8, node: u8) -> [u8; 6] {
    [0x02, 0x01, 0x64, 0xf9, group, node]
}

/// Source MAC of a stray relayed over the FT VLAN: locally administered, the ingress VLAN in its last two octets, so
/// that the successor knows where the packet came in although only MAC addresses were changed.
#[inline(always)]
#[must_use]
pub const fn relay_mac(vlan: u16) -> [u8; 6] {
    let [high, low] = vlan.to_be_bytes();
    [0x02, 0x63, 0x73, 0x6d, high, low]
}

/// The ingress VLAN of a relayed stray, if `mac` is a [`relay_mac`].
#[inline(always)]
#[must_use]
pub const fn relay_vlan(mac: [u8; 6]) -> Option<u16> {
    match mac {
        [0x02, 0x63, 0x73, 0x6d, hi, lo] => Some((hi as u16) << 8 | lo as u16),
        _ => None,
    }
}
