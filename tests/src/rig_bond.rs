//! A bond on the test bench.

use std::io;

use anyhow::Result;
use csm_common::net::{PORT_CLIENT, PORT_FT, PORT_SERVER};
use csm_user::dataplane::load::PortSpec;
use csm_user::model::ChannelMode;
use csm_user::neigh::bond::Bonds;

use crate::rig::{Rig, SMALL, enter_namespace};
use crate::rig_ports::{facts, ip, make_pair, make_port};

/// The bond that csmd makes.
pub const CHANNEL: &str = "Port-channel7";
/// The ports that are bonded.
const CHANNEL_PORTS: [&str; 2] = ["b0", "b1"];

impl Rig {
    /// As [`Self::new`], with the port channel of two ports, `b0` and `b1`, that csmd makes in the place of the client's port;
    /// `None`: this kernel has no bonding.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on_channel() -> Result<Option<Self>> {
        enter_namespace()?;
        for name in CHANNEL_PORTS {
            make_pair(name, &format!("{name}x"))?;
        }
        Self::on_made_channel(ChannelMode::On)
    }

    /// As [`Self::on_channel`], with the kernel's own LACP at the far end: `far`, a bond of `b0x` and `b1x`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on_agreed_channel(mode: ChannelMode) -> Result<Option<Self>> {
        enter_namespace()?;
        if ip("link add far type bond mode 802.3ad lacp_rate fast miimon 50").is_err() {
            return Ok(None);
        }
        for name in CHANNEL_PORTS {
            make_pair(name, &format!("{name}x"))?;
            ip(&format!("link set {name}x down"))?;
            ip(&format!("link set {name}x master far"))?;
        }
        ip("link set far up")?;
        Self::on_made_channel(mode)
    }

    fn on_made_channel(mode: ChannelMode) -> Result<Option<Self>> {
        let mut bonds = Bonds::new()?;
        let made = match bonds.ensure(CHANNEL, mode, &CHANNEL_PORTS) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(None),
            made => made?,
        };
        // With the namespace they go.
        std::mem::forget(bonds);
        let members = CHANNEL_PORTS.iter().map(|name| Ok((facts(name)?.0, (*name).to_owned())));
        let members = members.collect::<Result<_>>()?;
        Self::over(made.name, made.ifindex, made.mac, members).map(Some)
    }

    /// The same with a bond that an operator has made.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on_bond(mode: &str) -> Result<Option<Self>> {
        enter_namespace()?;
        if ip(&format!("link add p0 type bond mode {mode}")).is_err() {
            return Ok(None);
        }
        let mut members = Vec::new();
        for name in CHANNEL_PORTS {
            make_pair(name, &format!("{name}x"))?;
            for arguments in [format!("link set {name} down"), format!("link set {name} master p0")] {
                ip(&arguments)?;
            }
            members.push((facts(name)?.0, name.to_owned()));
        }
        ip("link set p0 up")?;
        let (ifindex, mac) = facts("p0")?;
        Self::over("p0".to_owned(), ifindex, mac, members).map(Some)
    }

    fn over(name: String, ifindex: u32, mac: [u8; 6], members: Vec<(u32, String)>) -> Result<Self> {
        let role = PORT_CLIENT;
        let bond = PortSpec { ifindex, name, vlan: 2, role, mac, mtu: 1500, members, ..PortSpec::default() };
        let ports = vec![bond, make_port("p1", 3, PORT_SERVER)?, make_port("p2", 9, PORT_FT)?];
        Self::with_ports(ports, SMALL)
    }
}
