//! A bond on the test bench.

use anyhow::Result;
use csm_common::net::{PORT_CLIENT, PORT_FT, PORT_SERVER};
use csm_user::dataplane::load::PortSpec;

use crate::rig::{Rig, SMALL, enter_namespace};
use crate::rig_ports::{facts, ip, make_pair, make_port};

impl Rig {
    /// As [`Self::new`], with a bond of two ports, `b0` and `b1`, in the place of the client's port; `None`: this kernel has
    /// no bonding.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on_bond(mode: &str) -> Result<Option<Self>> {
        enter_namespace()?;
        if ip(&format!("link add p0 type bond mode {mode}")).is_err() {
            return Ok(None);
        }
        let mut members = Vec::new();
        for name in ["b0", "b1"] {
            make_pair(name, &format!("{name}x"))?;
            for arguments in [format!("link set {name} down"), format!("link set {name} master p0")] {
                ip(&arguments)?;
            }
            members.push((facts(name)?.0, name.to_owned()));
        }
        ip("link set p0 up")?;
        let (ifindex, mac) = facts("p0")?;
        let (name, role) = ("p0".to_owned(), PORT_CLIENT);
        let bond = PortSpec { ifindex, name, vlan: 2, role, mac, mtu: 1500, members, ..PortSpec::default() };
        let ports = vec![bond, make_port("p1", 3, PORT_SERVER)?, make_port("p2", 9, PORT_FT)?];
        Self::with_ports(ports, SMALL).map(Some)
    }
}
