//! A host on a VLAN. Pure.

use std::net::IpAddr;

use super::VlanId;

/// A host on a VLAN: a neighbour that frames are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// Its address; a link-local one may stand on several VLANs.
    pub address: IpAddr,
    /// Number of the VLAN.
    pub vlan: u16,
}

impl Host {
    /// `address` on `vlan`.
    #[must_use]
    pub fn new(address: impl Into<IpAddr>, vlan: VlanId) -> Self {
        Self { address: address.into(), vlan: vlan.get() }
    }
}
