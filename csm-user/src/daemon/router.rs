//! The host as a router within the daemon: from the configuration to what the maps hold.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use csm_common::net::{
    Group, NO_GROUP, ROUTE_CONNECTED, ROUTE_LOCAL, ROUTE_MODULE, ROUTE_VIA, Route, RouterRoute,
};
use ipnet::Ipv4Net;

use crate::hsrp::wire::Version;
use crate::model::{Config, Host, RouterInterface, VlanId};

/// Version of HSRP on `interface`.
pub(super) const fn version(interface: &RouterInterface) -> Version {
    if interface.version == 2 { Version::V2 } else { Version::V1 }
}

/// The groups with their virtual addresses, in the order of their numbers.
pub(super) fn groups(config: &Config) -> Vec<(Group, Ipv4Addr)> {
    let group =
        |(interface, vlan, group, address): (&RouterInterface, VlanId, &crate::model::StandbyGroup, _)| {
            (Group { mac: version(interface).virtual_mac(group.number), vlan: vlan.get() }, address)
        };
    config.standby_groups().map(group).collect()
}

/// The module's next hops that are groups of this host: number and virtual MAC.
pub(super) fn own_gateways(config: &Config) -> HashMap<Host, (u16, [u8; 6])> {
    let hop = |(number, (group, address)): (u16, (Group, Ipv4Addr))| {
        let host = Host::on(address, group.vlan);
        (host, (number, group.mac))
    };
    (0..).zip(groups(config)).map(hop).collect()
}

/// The neighbours that the router's own routes lead to.
pub(super) fn gateways(config: &Config) -> impl Iterator<Item = Host> {
    config.routes.iter().filter_map(|route| {
        let vlan = config.router_networks().find(|(_, _, net)| net.contains(&route.gateway))?.1;
        (!is_the_modules(config, route.gateway)).then(|| Host::new(route.gateway, vlan))
    })
}

/// The router's prefix table: its own addresses and networks, and `ip route`. `hops` numbers [`gateways`].
pub(super) fn routes(config: &Config, hops: &HashMap<Host, u32>) -> Vec<(Ipv4Net, RouterRoute)> {
    let groups = groups(config);
    let group_on = |vlan: VlanId| {
        let numbered = (0..).zip(&groups);
        numbered.into_iter().find(|(_, (group, _))| group.vlan == vlan.get()).map_or(NO_GROUP, |(n, _)| n)
    };
    let route = |kind, vlan: VlanId, nexthop| {
        let route = Route { kind, vlan: vlan.get(), nexthop };
        RouterRoute { route, group: group_on(vlan) }
    };
    let mut table = Vec::new();
    for (_, vlan, net) in config.router_networks() {
        table.push((net.trunc(), route(ROUTE_CONNECTED, vlan, 0)));
        let of_module =
            config.vlans.iter().filter(|known| known.id == vlan).filter_map(|known| known.address);
        for own in of_module.chain([net]) {
            table.push((Ipv4Net::from(own.addr()), route(ROUTE_LOCAL, vlan, 0)));
        }
    }
    for line in &config.routes {
        let Some((_, vlan, _)) = config.router_networks().find(|(_, _, net)| net.contains(&line.gateway))
        else {
            continue;
        };
        let route = if is_the_modules(config, line.gateway) {
            Some(route(ROUTE_MODULE, vlan, 0))
        } else {
            hops.get(&Host::new(line.gateway, vlan)).map(|&number| route(ROUTE_VIA, vlan, number))
        };
        // Of two routes to one network the first counts.
        let network = line.network.trunc();
        if let Some(route) = route.filter(|_| table.iter().all(|(known, _)| *known != network)) {
            table.push((network, route));
        }
    }
    table
}

/// An address of the module's by which a route leads into it: this node's own, an alias, or a virtual server's.
fn is_the_modules(config: &Config, address: Ipv4Addr) -> bool {
    let of_vlans = config.vlans.iter().flat_map(|vlan| [vlan.address, vlan.alias]);
    let of_vservers = config.vservers.iter().filter_map(|vserver| vserver.virtual_server);
    of_vlans.flatten().any(|net| net.addr() == address)
        || of_vservers.into_iter().any(|to| to.is_address() && to.address() == IpAddr::V4(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostFacts, check};

    const SEED: &str = "interface Fa3/6
 ip address 10.100.0.2 255.255.0.0
 standby 2 priority 110 preempt
 standby 2 ip 10.100.0.1
interface vlan136
 ip address 10.6.0.2 255.255.0.0
 standby 1 ip 10.6.0.1
interface eth1
 switchport access vlan 136
interface eth2
 switchport access vlan 272
ip route 10.9.0.0 255.255.0.0 10.6.0.100
ip route 0.0.0.0 0.0.0.0 10.100.0.9
module csm 5
 vlan 136 client
  ip address 10.6.0.245 255.255.0.0
  gateway 10.6.0.1
 vlan 272 server
  ip address 10.5.0.2 255.255.0.0
 serverfarm WEB
  real 10.5.0.101
   inservice
 vserver VIP1
  virtual 10.6.0.100 tcp www
  serverfarm WEB
  inservice
";

    #[test]
    fn the_seeds_router_has_its_groups_networks_and_routes() {
        let outcome = check("a.cfg", SEED, &HostFacts::default());
        let config = outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics));
        let found = groups(&config);
        let shown: Vec<_> =
            found.iter().map(|(group, address)| (group.vlan, group.mac[5], *address)).collect();
        let address = |text: &str| text.parse::<Ipv4Addr>().expect("an address");
        assert_eq!(shown, [(4094, 2, address("10.100.0.1")), (136, 1, address("10.6.0.1"))]);
        let beyond = Host::on(address("10.100.0.9"), 4094);
        assert_eq!(gateways(&config).collect::<Vec<_>>(), [beyond]);
        let table = routes(&config, &HashMap::from([(beyond, 7)]));
        let kind = |net: &str| {
            let net: Ipv4Net = net.parse().expect("a network");
            table
                .iter()
                .find(|(known, _)| *known == net)
                .map(|(_, found)| (found.route.kind, found.route.vlan, found.group))
        };
        assert_eq!(kind("10.100.0.0/16"), Some((ROUTE_CONNECTED, 4094, 0)));
        assert_eq!(kind("10.6.0.0/16"), Some((ROUTE_CONNECTED, 136, 1)));
        assert_eq!(kind("10.6.0.245/32"), Some((ROUTE_LOCAL, 136, 1)));
        assert_eq!(kind("10.100.0.2/32"), Some((ROUTE_LOCAL, 4094, 0)));
        assert_eq!(kind("10.9.0.0/16"), Some((ROUTE_MODULE, 136, 1)));
        assert_eq!(kind("0.0.0.0/0"), Some((ROUTE_VIA, 4094, 0)));
        let gateway = Host::on(address("10.6.0.1"), 136);
        assert_eq!(own_gateways(&config).get(&gateway), Some(&(1, [0, 0, 0x0c, 7, 0xac, 1])));
    }
}
