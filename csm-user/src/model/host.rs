//! A host on a VLAN. Pure.

use std::fmt;
use std::net::IpAddr;

use csm_common::net::tunnel_overhead;

use super::{Family, VlanId};

/// A host on a VLAN: a neighbour that frames are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// Its address; a link-local one may stand on several VLANs.
    pub address: IpAddr,
    /// Number of the VLAN.
    pub vlan: u16,
    /// What packets that go to it are put into; it is then the router, or the real itself, on the way to the other end.
    pub tunnel: Option<Tunnel>,
}

impl Host {
    /// `address` on `vlan`.
    #[must_use]
    pub fn new(address: impl Into<IpAddr>, vlan: VlanId) -> Self {
        Self::on(address, vlan.get())
    }

    /// `address` on the VLAN of that number.
    #[must_use]
    pub fn on(address: impl Into<IpAddr>, vlan: u16) -> Self {
        Self { address: address.into(), vlan, tunnel: None }
    }

    /// The neighbour itself, whatever is sent by way of it.
    #[must_use]
    pub const fn neighbour(self) -> Self {
        Self { tunnel: None, ..self }
    }
}

/// How a farm's packets get to reals that are routed away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encapsulation {
    /// `encapsulation ipip`: IP in IP (RFC 2003, RFC 2473).
    Ipip,
    /// `encapsulation gue [port N]`: GUE, variant 1: right behind a UDP header to this port.
    Gue {
        /// 1-65535, default 6080.
        port: u16,
    },
}

impl Encapsulation {
    /// The port that IANA has for GUE.
    pub const GUE_PORT: u16 = 6080;

    /// UDP port; 0: without a UDP header.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Ipip => 0,
            Self::Gue { port } => port,
        }
    }
}

/// As a configuration writes it.
impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipip => f.write_str("ipip"),
            Self::Gue { port: Self::GUE_PORT } => f.write_str("gue"),
            Self::Gue { port } => write!(f, "gue port {port}"),
        }
    }
}

/// Both ends of a tunnel to a real; they are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tunnel {
    /// What packets are put into.
    pub encapsulation: Encapsulation,
    /// This end: the same on both nodes where there is an alias.
    pub local: IpAddr,
    /// The real.
    pub remote: IpAddr,
}

impl Tunnel {
    /// Octets that it puts before a packet.
    #[must_use]
    pub const fn overhead(self) -> u16 {
        let header = match Family::of(self.remote) {
            Family::V4 => 20,
            Family::V6 => 40,
        };
        tunnel_overhead(header, self.encapsulation.port())
    }
}
