//! The ports of the configuration on this host: found, given their veths and addresses, made to accept the group's frames.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use csm_common::net::{PORT_CLIENT, PORT_FT, PORT_ROUTER, PORT_SERVER};

use super::node::NodePort;
use super::startup::Failure;
use crate::dataplane::load::{LoadError, PortSpec, Veth};
use crate::dataplane::task::adopted::Keep;
use crate::dataplane::task::router::HostGroup;
use crate::model::{Carried, Config, Family, Vlan, VlanId, VlanRole, channel_name, veth_names};
use crate::neigh::bond::Bonds;
use crate::neigh::membership::{Accepts, Membership};
use crate::neigh::netlink::{Link, Netlink};
use crate::neigh::offload::TagsKept;
use crate::neigh::own::OwnAddresses;
use crate::neigh::veth::Pairs;

/// What outlives this process. Where that cannot be had a csmd works as well, but its end is the program's.
pub(super) fn keep(directory: &Path) -> Result<Option<Keep>, Failure> {
    match Keep::open(directory) {
        Ok(keep) => Ok(Some(keep)),
        Err(LoadError::Pins { source, .. }) if source.kind() != io::ErrorKind::ResourceBusy => {
            tracing::warn!(%source, "nothing is pinned: a restart of csmd interrupts what it forwards");
            Ok(None)
        }
        Err(error) => Err(Failure::step("the dataplane")(error)),
    }
}

/// The port channels of the configuration, those that carry something, as bonds; what csmd left of others is removed. Where a port of
/// theirs was a port by itself until now, the program that `keep` has there leaves it: a bond takes none that has a program.
pub(super) fn join(config: &Config, keep: Option<&Keep>) -> Result<Bonds, Failure> {
    let mut netlink = Netlink::open().map_err(Failure::step("netlink"))?;
    let mut bonds = Bonds::new().map_err(Failure::step("netlink"))?;
    let used = |channel: u16| config.interface_named(&channel_name(channel)).is_some();
    let channels: Vec<_> = config.channels().filter(|&(channel, ..)| used(channel)).collect();
    let names = channels.iter().map(|&(channel, ..)| channel_name(channel)).collect();
    bonds.sweep(&names).map_err(Failure::step("port channels"))?;
    for (channel, mode, ports) in channels {
        let name = channel_name(channel);
        for port in &ports {
            let link = netlink.link(port).map_err(Failure::step(format!("interface {port}")))?;
            if let Some((keep, link)) = keep.zip(link) {
                keep.leave(link.ifindex).map_err(Failure::step("the dataplane"))?;
            }
        }
        bonds.ensure(&name, mode, &ports).map_err(Failure::step(format!("interface {name}")))?;
    }
    Ok(bonds)
}

/// The ports, untouched, one for each of the module's VLANs that has one; veths are made into `pairs`.
pub(super) fn find(config: &Config, pairs: &mut Pairs) -> Result<Vec<NodePort>, Failure> {
    let mut netlink = Netlink::open().map_err(Failure::step("netlink"))?;
    let mut ports = Vec::new();
    for interface in &config.interfaces {
        if !config.has_links(interface) {
            continue;
        }
        // A port whose VLANs the module does not know is none of its business.
        for (vlan, carried) in
            config.vlan_ids().filter_map(|vlan| interface.carries(vlan).map(|carried| (vlan, carried)))
        {
            let step_name = || format!("interface {}", interface.name);
            let link = netlink.link(&interface.name).map_err(Failure::step(step_name()))?;
            let link = link.ok_or_else(|| Failure::step(step_name())("it has gone: see `ip link`"))?;
            let tagged = carried == Carried::Tagged;
            let bridged = config.bridged_with(vlan).is_some();
            let veth = if tagged && !bridged { Some(veth(pairs, vlan, &link)?) } else { None };
            let role = role(config, vlan);
            let carrying = AtomicBool::new(link.up && link.carrier);
            let mtu = link.ip_mtu();
            let members = members(&mut netlink, &link).map_err(Failure::step(step_name()))?;
            let Link { ifindex, name, mac, .. } = link;
            let routed = is_routed(config, vlan);
            let known = config.vlans.iter().find(|known| known.id == vlan);
            let own4 = known.and_then(|vlan| vlan.address).map(|own| own.addr());
            let own6 = known.and_then(|vlan| vlan.address6).map(|own| own.addr());
            let (vlan, xdp) = (vlan.get(), interface.xdp);
            let spec = PortSpec {
                ifindex,
                name,
                vlan,
                role,
                mac,
                mtu,
                tagged,
                veth,
                xdp,
                routed,
                members,
                own4,
                own6,
                ..PortSpec::default()
            };
            ports.push(NodePort { spec, carrying });
        }
    }
    for (interface, vlan) in config.routed_ports() {
        let step_name = || format!("interface {}", interface.name);
        let link = netlink.link(&interface.name).map_err(Failure::step(step_name()))?;
        let link = link.ok_or_else(|| Failure::step(step_name())("it has gone: see `ip link`"))?;
        let carrying = AtomicBool::new(link.up && link.carrier);
        let mtu = link.ip_mtu();
        let members = members(&mut netlink, &link).map_err(Failure::step(step_name()))?;
        let Link { ifindex, name, mac, .. } = link;
        let spec = PortSpec {
            ifindex,
            name,
            members,
            vlan: vlan.get(),
            role: PORT_ROUTER,
            mac,
            mtu,
            xdp: interface.xdp,
            routed: true,
            ..PortSpec::default()
        };
        ports.push(NodePort { spec, carrying });
    }
    for (client, server) in config.bridge_groups() {
        bridge(client, server, &mut netlink, pairs, &mut ports)?;
    }
    Ok(ports)
}

/// The ports of a bond.
fn members(netlink: &mut Netlink, link: &Link) -> io::Result<Vec<(u32, String)>> {
    let bonded = netlink.bonded(link.ifindex)?;
    if !bonded.is_empty() {
        let names: Vec<_> = bonded.iter().map(|member| member.name.as_str()).collect();
        tracing::info!(interface = link.name, ports = names.join(", "), "a bond");
    }
    Ok(bonded.into_iter().map(|member| (member.ifindex, member.name)).collect())
}

/// Joins the two VLANs of a bridge group: one veth, one MAC address of this node, that of the client side's port.
fn bridge(
    client: &Vlan,
    server: &Vlan,
    netlink: &mut Netlink,
    pairs: &mut Pairs,
    ports: &mut [NodePort],
) -> Result<(), Failure> {
    let at = |vlan: VlanId| ports.iter().position(|port| port.spec.vlan == vlan.get());
    // One of them without a port: nothing is bridged, as the configuration's check has said.
    let (Some(front), Some(back)) = (at(client.id), at(server.id)) else { return Ok(()) };
    let own = client.address.map_or(Ipv4Addr::UNSPECIFIED, |own| own.addr());
    let name = ports[front].spec.name.clone();
    let step_name = || format!("interface {name}");
    let link = netlink.link(&name).map_err(Failure::step(step_name()))?;
    let link = link.ok_or_else(|| Failure::step(step_name())("it has gone: see `ip link`"))?;
    let veth = veth(pairs, client.id, &link)?;
    for (at, other) in [(front, server), (back, client)] {
        let spec = &mut ports[at].spec;
        spec.bridge = Some((other.id.get(), own));
        spec.own6 = client.address6.map(|own| own.addr());
        spec.veth = Some(veth.clone());
        spec.mac = link.mac;
    }
    Ok(())
}

/// The kernel's way into a VLAN of the trunk `link`.
fn veth(pairs: &mut Pairs, vlan: VlanId, link: &Link) -> Result<Veth, Failure> {
    let (outer, inner) = veth_names(vlan);
    let pair =
        pairs.ensure(&outer, &inner, link.mac, link.mtu).map_err(Failure::step(format!("veth {outer}")))?;
    Ok(Veth {
        inner: pair.inner.ifindex,
        inner_name: pair.inner.name,
        outer: pair.outer.ifindex,
        outer_name: pair.outer.name,
    })
}

fn role(config: &Config, vlan: VlanId) -> u8 {
    match config.vlans.iter().find(|known| known.id == vlan).map(|vlan| vlan.role) {
        Some(VlanRole::Client) => PORT_CLIENT,
        Some(VlanRole::Server) => PORT_SERVER,
        None if config.ft.as_ref().is_some_and(|ft| ft.vlan == vlan) => PORT_FT,
        None => PORT_ROUTER,
    }
}

/// Whether this host as a router is on `vlan`.
fn is_routed(config: &Config, vlan: VlanId) -> bool {
    config.router_networks().any(|(_, known, _)| known == vlan)
}

/// Brings the ports up with the node's own addresses.
pub(super) fn raise(config: &Config, specs: &[PortSpec]) -> Result<OwnAddresses, Failure> {
    let mut addresses = OwnAddresses::new().map_err(Failure::step("netlink"))?;
    for port in specs {
        let step = || Failure::step::<io::Error>(format!("interface {}", port.kernel_name()));
        addresses.raise(port.ifindex).map_err(step())?;
        let ifindex = port.kernel_ifindex();
        addresses.raise(ifindex).map_err(step())?;
        let configured = config.vlans.iter().find(|known| known.id.get() == port.vlan);
        for address in Family::ALL.iter().filter_map(|&family| configured.and_then(|vlan| vlan.own(family))) {
            if address.addr().is_ipv6() {
                addresses.ignore_routers(port.kernel_name()).map_err(step())?;
            }
            addresses.ensure(ifindex, address).map_err(step())?;
        }
        let of_router = config.router_networks().filter(|(_, vlan, _)| vlan.get() == port.vlan);
        for (_, _, address) in of_router {
            if address.addr().is_ipv6() {
                // The other router's advertisements are for hosts.
                addresses.ignore_routers(port.kernel_name()).map_err(step())?;
                addresses.ensure_link_local(ifindex, port.mac).map_err(step())?;
            }
            addresses.ensure(ifindex, address).map_err(step())?;
        }
        if port.role == PORT_FT {
            addresses.ensure_link_local(ifindex, port.mac).map_err(step())?;
        }
    }
    Ok(addresses)
}

/// Has the data ports accept frames to the virtual MAC and those of `groups` of the router, and trunks and bridged ports all
/// frames.
pub(super) fn accept(
    specs: &[PortSpec],
    vmac: [u8; 6],
    groups: &[HostGroup],
) -> Result<Vec<Membership>, Failure> {
    let mut all = BTreeMap::new();
    for port in specs {
        *all.entry(port.ifindex).or_insert(false) |= port.tagged || port.bridge.is_some();
    }
    let of_module = specs.iter().filter(|port| !matches!(port.role, PORT_FT | PORT_ROUTER) || port.tagged);
    let of_module = of_module.map(|port| ((port.ifindex, vmac), port.name.as_str()));
    let of_router = groups.iter().filter_map(|HostGroup { group, .. }| {
        let port = specs.iter().find(|port| port.vlan == group.vlan)?;
        Some(((port.ifindex, group.mac), port.name.as_str()))
    });
    let wanted: BTreeMap<(u32, [u8; 6]), &str> = of_module.chain(of_router).collect();
    wanted
        .into_iter()
        .map(|((ifindex, vmac), name)| {
            let step = || Failure::step::<io::Error>(format!("interface {name} and the virtual MAC"));
            if all.get(&ifindex) == Some(&true) {
                return Membership::promiscuous(ifindex).map_err(step());
            }
            let membership = Membership::new(ifindex, vmac).map_err(step())?;
            if membership.accepts == Accepts::Promiscuous {
                tracing::warn!(interface = name, "takes the virtual MAC only in promiscuous mode");
            }
            Ok(membership)
        })
        .collect()
}

/// Has the trunks' hardware leave the tags in frames: the program reads them there.
pub(super) fn keep_tags(specs: &[PortSpec]) -> Result<Vec<TagsKept>, Failure> {
    let members = |port: &PortSpec| port.members.clone().into_iter();
    let tagged = specs.iter().filter(|port| port.tagged);
    let trunks: BTreeMap<u32, String> =
        tagged.flat_map(|port| members(port).chain([(port.ifindex, port.name.clone())])).collect();
    trunks
        .into_values()
        .map(|name| {
            TagsKept::new(&name).map_err(Failure::step(format!("interface {name} and its VLAN tags")))
        })
        .collect()
}
