//! A port as the program is to have it. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::model;

/// A port to attach to, or a VLAN on a trunk: several of one interface then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSpec {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name, for messages.
    pub name: String,
    /// Its VLAN.
    pub vlan: u16,
    /// One of the `PORT_*` roles of `csm_common::net`.
    pub role: u8,
    /// The port's own MAC address.
    pub mac: [u8; 6],
    /// Its MTU, octets of an IP packet.
    pub mtu: u16,
    /// Frames of the VLAN have a tag on this port.
    pub tagged: bool,
    /// How the kernel takes part in the VLAN; `None`: on the port itself. Two bridged VLANs share one.
    pub veth: Option<Veth>,
    /// How the program is to be attached.
    pub xdp: model::XdpMode,
    /// The VLAN that it is bridged with, and this node's own address there, or 0.0.0.0.
    pub bridge: Option<(u16, Ipv4Addr)>,
    /// This node's own IPv4 address there, if the VLAN is not bridged.
    pub own4: Option<Ipv4Addr>,
    /// This node's own IPv6 address there.
    pub own6: Option<Ipv6Addr>,
    /// The group's frames carry the port's own MAC address there from the start: `vmac`.
    pub own_mac: bool,
    /// Index and name of the interfaces that are bonded into it: frames come in by them.
    pub members: Vec<(u32, String)>,
    /// The host as a router has an interface there.
    pub routed: bool,
}

/// A veth pair between the program and the node's kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veth {
    /// Interface index of the program's end.
    pub inner: u32,
    /// Name of the program's end.
    pub inner_name: String,
    /// Interface index of the kernel's end, which has the node's own address.
    pub outer: u32,
    /// Name of the kernel's end.
    pub outer_name: String,
}

impl PortSpec {
    /// Index of the interface on which the kernel takes part in the VLAN.
    #[must_use]
    pub fn kernel_ifindex(&self) -> u32 {
        self.veth.as_ref().map_or(self.ifindex, |veth| veth.outer)
    }

    /// Name of the interface on which the kernel takes part in the VLAN.
    #[must_use]
    pub fn kernel_name(&self) -> &str {
        self.veth.as_ref().map_or(&self.name, |veth| &veth.outer_name)
    }
}
