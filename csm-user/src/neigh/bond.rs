//! The bonds of port channels: made when csmd starts, removed when it ends. What a killed csmd left is known by its alias and
//! taken over, with the ports that are wanted now.
//!
//! XDP on a bond runs on its ports, which must therefore be there before the program is attached, and be down while they are
//! joined (`bond_enslave` in drivers/net/bonding/bond_main.c).

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BondMode, BondXmitHashPolicy, InfoBond, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};

use super::netlink::{Link, Netlink};
use crate::model::ChannelMode;

/// How `ip link` shows a bond that csmd has made.
const ALIAS: &str = "csmd port channel";
/// Name of a bond until it has its alias, which takes a second request: who finds it knows whose it is.
const FRESH: &str = "csm-new-channel";
/// How often the ports' carriers are looked at, milliseconds.
const MIIMON_MS: u32 = 100;
/// How long a start waits for a bond's carrier: ports that come up again, and three of LACP's fast periods.
const CARRIER_MAX: Duration = Duration::from_secs(5);
const CARRIER_PACE: Duration = Duration::from_millis(20);

/// The bonds of this node; dropping it removes them.
#[derive(Debug)]
pub struct Bonds {
    netlink: Netlink,
    /// Index of each, and whether it was made here.
    made: Vec<(u32, bool)>,
    kept: bool,
}

impl Bonds {
    /// # Errors
    /// If netlink cannot be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, made: Vec::new(), kept: false })
    }

    /// Removes the bonds of csmd that are called none of `names`: ports that are no channel's any more are free again.
    ///
    /// # Errors
    /// Of the requests.
    pub fn sweep(&mut self, names: &BTreeSet<String>) -> io::Result<()> {
        for bond in self.netlink.bonds()? {
            if bond.is_ours && !names.contains(&bond.link.name) {
                self.netlink.dissolve(bond.link.ifindex)?;
                tracing::info!(interface = bond.link.name, "a port channel that is not configured any more");
            }
        }
        Ok(())
    }

    /// Sees that there is a bond called `name` of these ports, up.
    ///
    /// # Errors
    /// Of the requests; `AlreadyExists` if the name is another's; `Unsupported` if this kernel has no bonding.
    pub fn ensure(&mut self, name: &str, mode: ChannelMode, ports: &[&str]) -> io::Result<Link> {
        let found = self.netlink.bonds()?.into_iter().find(|bond| bond.link.name == name);
        if self.netlink.link(name)?.is_some() && found.as_ref().is_none_or(|bond| !bond.is_ours) {
            let what =
                format!("{name} is not csmd's: remove it, or take its ports' `channel-group` lines out");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        let same = found.filter(|bond| bond.mode == Some((kernel_mode(mode), lacp_active(mode))));
        let fresh = same.is_none();
        if fresh {
            if let Some(other) = self.netlink.link(name)? {
                // The mode of a bond with ports cannot be changed.
                self.netlink.dissolve(other.ifindex)?;
            }
            let mtu = self.smallest_mtu(ports)?;
            self.netlink.add_bond(name, mode).map_err(no_bonding)?;
            // Ports take the MTU of the bond that they join.
            let made = self.netlink.link(name)?;
            if let Some((made, mtu)) = made.zip(mtu) {
                self.netlink.set_link(made.ifindex, None, mtu)?;
            }
        }
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("{name} has gone: see `ip link`"));
        let bond = self.netlink.link(name)?.ok_or_else(gone)?;
        self.made.push((bond.ifindex, fresh));
        let members = self.netlink.bonded(bond.ifindex)?;
        for member in members.iter().filter(|member| !ports.contains(&member.name.as_str())) {
            self.netlink.set_master(member.ifindex, 0)?;
            // Released, it is down.
            self.netlink.set_up(member.ifindex)?;
        }
        for port in ports.iter().filter(|port| !members.iter().any(|member| member.name == **port)) {
            let missing =
                || io::Error::new(io::ErrorKind::NotFound, format!("there is no {port}: see `ip link`"));
            let link = self.netlink.link(port)?.ok_or_else(missing)?;
            if self.netlink.is_joined(link.ifindex)? {
                let what = format!("{port} is in another bond or bridge: take it out of that first");
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
            }
            self.netlink.set_down(link.ifindex)?;
            self.netlink.set_master(link.ifindex, bond.ifindex).map_err(|error| {
                io::Error::new(error.kind(), format!("{port} does not join {name}: {error}"))
            })?;
        }
        self.netlink.set_up(bond.ifindex)?;
        self.await_carrier(name)?;
        // With its first port it has taken that one's MAC address.
        self.netlink.link(name)?.ok_or_else(gone)
    }

    fn smallest_mtu(&mut self, ports: &[&str]) -> io::Result<Option<u32>> {
        let mut smallest = None;
        for port in ports {
            let mtu = self.netlink.link(port)?.map(|link| link.mtu);
            smallest = smallest.into_iter().chain(mtu).min();
        }
        Ok(smallest)
    }

    /// Waits until the bond has its carrier: who listens for the peer by way of it hears nothing before. Not for ever, since a
    /// cable may be out.
    fn await_carrier(&mut self, name: &str) -> io::Result<()> {
        let deadline = Instant::now() + CARRIER_MAX;
        while !self.netlink.link(name)?.is_some_and(|bond| bond.carrier) {
            if Instant::now() > deadline {
                tracing::warn!(interface = name, "a port channel without a carrier");
                return Ok(());
            }
            std::thread::sleep(CARRIER_PACE);
        }
        Ok(())
    }

    /// From now on they are this node's, also those that were found: before, they may be another csmd's.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Bonds {
    fn drop(&mut self) {
        for (ifindex, fresh) in self.made.drain(..) {
            if !fresh && !self.kept {
                continue;
            }
            if let Err(error) = self.netlink.dissolve(ifindex) {
                tracing::warn!(ifindex, %error, "a port channel of this node stays");
            }
        }
    }
}

const fn kernel_mode(mode: ChannelMode) -> BondMode {
    match mode {
        ChannelMode::On => BondMode::BalanceXor,
        ChannelMode::Active | ChannelMode::Passive => BondMode::Ieee8023Ad,
    }
}

/// Linux 5.15 and later know bonds that wait for the other end's LACP.
const fn lacp_active(mode: ChannelMode) -> bool {
    !matches!(mode, ChannelMode::Passive)
}

fn no_bonding(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel has no bonding: modprobe bonding, or take the `channel-group` lines out",
        ),
        _ => error,
    }
}

/// A bond of this host.
struct Bond {
    link: Link,
    is_ours: bool,
    /// Its mode, and whether it begins LACP.
    mode: Option<(BondMode, bool)>,
}

impl Netlink {
    fn bonds(&mut self) -> io::Result<Vec<Bond>> {
        let answers = self.request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let bond = |answer: &RouteNetlinkMessage| {
            let RouteNetlinkMessage::NewLink(message) = answer else { return None };
            let of_bond = |attribute: &LinkAttribute| match attribute {
                LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::Bond)) => {
                    Some(mode_of(infos))
                }
                _ => None,
            };
            let mode = message.attributes.iter().find_map(of_bond)?;
            let is_named = message.attributes.contains(&LinkAttribute::IfAlias(ALIAS.to_owned()));
            let link = super::netlink::read_link(message);
            Some(Bond { is_ours: is_named || link.name == FRESH, link, mode })
        };
        Ok(answers.iter().filter_map(bond).collect())
    }

    fn add_bond(&mut self, name: &str, mode: ChannelMode) -> io::Result<()> {
        let mut data = vec![
            InfoBond::Mode(kernel_mode(mode)),
            InfoBond::MiiMon(MIIMON_MS),
            // By addresses and ports: one connection stays on one port.
            InfoBond::XmitHashPolicy(BondXmitHashPolicy::Layer34),
        ];
        if kernel_mode(mode) == BondMode::Ieee8023Ad {
            data.push(InfoBond::AdLacpActive(lacp_active(mode)));
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(FRESH.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bond),
            LinkInfo::Data(InfoData::Bond(data)),
        ]));
        let request = RouteNetlinkMessage::NewLink(message);
        self.request(request, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)?;
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("{FRESH} has gone: see `ip link`"));
        let made = self.link(FRESH)?.ok_or_else(gone)?;
        let mut called = LinkMessage::default();
        called.header.index = made.ifindex;
        called.attributes.push(LinkAttribute::IfAlias(ALIAS.to_owned()));
        self.request(RouteNetlinkMessage::SetLink(called.clone()), NLM_F_ACK)?;
        called.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        self.request(RouteNetlinkMessage::SetLink(called), NLM_F_ACK).map(drop)
    }

    /// Removes a bond; its ports are up again, as they were in it.
    fn dissolve(&mut self, bond: u32) -> io::Result<()> {
        let ports = self.bonded(bond)?;
        self.remove_link(bond)?;
        for port in ports {
            self.set_up(port.ifindex)?;
        }
        Ok(())
    }

    /// Whether an interface is a port of a bond or a bridge.
    fn is_joined(&mut self, ifindex: u32) -> io::Result<bool> {
        let answers = self.request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let is_port =
            |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Controller(other) if *other != 0);
        Ok(answers.iter().any(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => {
                link.header.index == ifindex && link.attributes.iter().any(is_port)
            }
            _ => false,
        }))
    }

    /// Joins an interface to a bond; 0: takes it out of the one that it is in.
    fn set_master(&mut self, ifindex: u32, bond: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes.push(LinkAttribute::Controller(bond));
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }
}

/// What the kernel tells of a bond's mode.
fn mode_of(infos: &[LinkInfo]) -> Option<(BondMode, bool)> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Bond(data)) => Some(data),
        _ => None,
    })?;
    let mode = data.iter().find_map(|one| match one {
        InfoBond::Mode(mode) => Some(*mode),
        _ => None,
    })?;
    let waits = data.contains(&InfoBond::AdLacpActive(false));
    Some((mode, !waits))
}
