//! Which MAC address the pair's addresses have on a VLAN.

use super::{Config, VlanId};

/// `vmac`: which MAC address the group's frames carry on a VLAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vmac {
    /// The virtual one, unless frames with it are found to be lost; then the port's own.
    #[default]
    Auto,
    /// The virtual one.
    On,
    /// The port's own.
    Off,
}

impl Config {
    /// Whether the group's frames on `vlan` may carry the port's own MAC address: not where those of hosts are passed on as they
    /// are, nor where that address is the one of this host as a router.
    #[must_use]
    pub fn has_choice_of_mac(&self, vlan: VlanId) -> bool {
        self.bridged_with(vlan).is_none() && !self.router_networks().any(|(_, known, _)| known == vlan)
    }
}
