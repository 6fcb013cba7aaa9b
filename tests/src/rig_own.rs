//! VLANs on which the group's frames carry the ports' own MAC addresses, on the test bench.

use anyhow::Result;
use csm_common::net::{PORT_CLIENT, PORT_FT, PORT_SERVER};
use csm_user::dataplane::load::PortSpec;
use csm_user::dataplane::maps::PortMaps;

use crate::rig::{OWN, Rig, enter_namespace};
use crate::rig_ports::make_port;
use crate::rig6::{self, OWN6};

impl Rig {
    /// As [`rig6::rig`], with `vmac off` on VLANs 2 and 3 and the node's own addresses [`OWN`] and [`OWN6`] on the first.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn without_virtual_mac() -> Result<Self> {
        enter_namespace()?;
        let client =
            PortSpec { own4: Some(OWN), own6: Some(OWN6), own_mac: true, ..make_port("p0", 2, PORT_CLIENT)? };
        let server = PortSpec { own_mac: true, ..make_port("p1", 3, PORT_SERVER)? };
        let rig = Self::with_ports(vec![client, server, make_port("p2", 9, PORT_FT)?], rig6::CAPACITY)?;
        rig6::fill(&rig)?;
        Ok(rig)
    }

    /// What csmd does when another MAC address is to be used on `vlan`.
    ///
    /// # Errors
    /// Of the maps.
    pub fn use_own_mac(&self, vlan: u16, own: bool) -> Result<()> {
        Ok(PortMaps::open(self.dataplane())?.set_own_mac(vlan, own)?)
    }
}
