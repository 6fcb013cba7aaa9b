//! The host as a router within the daemon: from the configuration to what the maps hold.

use std::collections::HashMap;
use std::net::IpAddr;

use csm_common::net::{
    Group, NO_GROUP, ROUTE_CONNECTED, ROUTE_LOCAL, ROUTE_MODULE, ROUTE_VIA, Route, RouterRoute,
};
use ipnet::IpNet;

use crate::hsrp::wire::Version;
use crate::model::{Config, Family, Host, RouterInterface, StandbyGroup, VlanId};

/// Version of HSRP on `interface`.
pub(super) const fn version(interface: &RouterInterface) -> Version {
    if interface.version == 2 { Version::V2 } else { Version::V1 }
}

/// The groups with their virtual addresses, in the order of their numbers.
pub(super) fn groups(config: &Config) -> Vec<(Group, IpAddr)> {
    let group = |(interface, vlan, group, address): (&RouterInterface, VlanId, &StandbyGroup, IpAddr)| {
        let mac = version(interface).virtual_mac(group.number, Family::of(address));
        (Group { mac, vlan: vlan.get() }, address)
    };
    config.standby_groups().map(group).collect()
}

/// The module's next hops that are groups of this host: number and virtual MAC.
pub(super) fn own_gateways(config: &Config) -> HashMap<Host, (u16, [u8; 6])> {
    let hop = |(number, (group, address)): (u16, (Group, IpAddr))| {
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
pub(super) fn routes(config: &Config, hops: &HashMap<Host, u32>) -> Vec<(IpNet, RouterRoute)> {
    let groups = groups(config);
    let group_on = |vlan: VlanId, family| {
        let numbered = (0..).zip(&groups);
        let found = numbered
            .into_iter()
            .find(|(_, (group, address))| group.vlan == vlan.get() && Family::of(*address) == family);
        found.map_or(NO_GROUP, |(number, _)| number)
    };
    let route = |kind, vlan: VlanId, nexthop, family| {
        let route = Route { kind, vlan: vlan.get(), nexthop };
        RouterRoute { route, group: group_on(vlan, family) }
    };
    let mut table = Vec::new();
    for (_, vlan, net) in config.router_networks() {
        let family = Family::of(net.addr());
        table.push((net.trunc(), route(ROUTE_CONNECTED, vlan, 0, family)));
        let of_module =
            config.vlans.iter().filter(|known| known.id == vlan).filter_map(|known| known.own(family));
        for own in of_module.chain([net]) {
            table.push((IpNet::from(own.addr()), route(ROUTE_LOCAL, vlan, 0, family)));
        }
    }
    for line in &config.routes {
        let Some((_, vlan, _)) = config.router_networks().find(|(_, _, net)| net.contains(&line.gateway))
        else {
            continue;
        };
        let family = Family::of(line.gateway);
        let route = if is_the_modules(config, line.gateway) {
            Some(route(ROUTE_MODULE, vlan, 0, family))
        } else {
            hops.get(&Host::new(line.gateway, vlan)).map(|&number| route(ROUTE_VIA, vlan, number, family))
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
fn is_the_modules(config: &Config, address: IpAddr) -> bool {
    let family = Family::of(address);
    let of_vlans = config.vlans.iter().flat_map(|vlan| [vlan.own(family), vlan.alias(family)]);
    let of_vservers = config.vservers.iter().filter_map(|vserver| vserver.virtual_server);
    of_vlans.flatten().any(|net| net.addr() == address)
        || of_vservers.into_iter().any(|to| to.is_address() && to.address() == address)
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
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(shown, [(4094, 2, address("10.100.0.1")), (136, 1, address("10.6.0.1"))]);
        let beyond = Host::on(address("10.100.0.9"), 4094);
        assert_eq!(gateways(&config).collect::<Vec<_>>(), [beyond]);
        let table = routes(&config, &HashMap::from([(beyond, 7)]));
        let kind = |net: &str| {
            let net: IpNet = net.parse().expect("a network");
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
    const V6: &str = "interface Fa3/6
 ipv6 address 2001:db8:100::2/64
 standby version 2
 standby 1 ipv6 autoconfig
interface vlan136
 ip address 10.6.0.2 255.255.0.0
 ipv6 address 2001:db8:6::2/64
 standby version 2
 standby 1 ip 10.6.0.1
 standby 1 ipv6 fe80::6
interface eth1
 switchport access vlan 136
interface eth2
 switchport access vlan 272
ipv6 route 2001:db8:9::/48 2001:db8:6::100
ipv6 route ::/0 2001:db8:100::9
module csm 5
 vlan 136 client
  ipv6 address 2001:db8:6::245/64
  gateway fe80::6
 vlan 272 server
  ipv6 address 2001:db8:5::2/64
 serverfarm WEB
  real 2001:db8:5::101
   inservice
 vserver VIP1
  virtual 2001:db8:6::100 tcp www
  serverfarm WEB
  inservice
";

    #[test]
    fn a_router_of_ipv6_has_groups_of_its_own_with_the_same_number() {
        let outcome = check("a.cfg", V6, &HostFacts::default());
        let config = outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics));
        let shown: Vec<_> = groups(&config)
            .iter()
            .map(|(group, address)| format!("{} {:02x?} {address}", group.vlan, group.mac))
            .collect();
        assert_eq!(
            shown,
            [
                "4094 [00, 05, 73, a0, 00, 01] fe80::5:73ff:fea0:1",
                "136 [00, 00, 0c, 9f, f0, 01] 10.6.0.1",
                "136 [00, 05, 73, a0, 00, 01] fe80::6",
            ]
        );
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let beyond = Host::on(address("2001:db8:100::9"), 4094);
        assert_eq!(gateways(&config).collect::<Vec<_>>(), [beyond]);
        let table = routes(&config, &HashMap::from([(beyond, 7)]));
        let kind = |net: &str| {
            let net: IpNet = net.parse().expect("a network");
            let found = table.iter().find(|(known, _)| *known == net);
            found.map(|(_, found)| (found.route.kind, found.route.vlan, found.group))
        };
        assert_eq!(kind("2001:db8:100::/64"), Some((ROUTE_CONNECTED, 4094, 0)));
        assert_eq!(kind("10.6.0.0/16"), Some((ROUTE_CONNECTED, 136, 1)));
        assert_eq!(kind("2001:db8:6::/64"), Some((ROUTE_CONNECTED, 136, 2)));
        assert_eq!(kind("2001:db8:6::245/128"), Some((ROUTE_LOCAL, 136, 2)));
        assert_eq!(kind("2001:db8:9::/48"), Some((ROUTE_MODULE, 136, 2)));
        assert_eq!(kind("::/0"), Some((ROUTE_VIA, 4094, 0)));
        let gateway = Host::on(address("fe80::6"), 136);
        assert_eq!(own_gateways(&config).get(&gateway), Some(&(2, [0, 5, 0x73, 0xa0, 0, 1])));
    }
}
