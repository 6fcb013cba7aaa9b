//! The host as a router within the daemon: from the configuration to what the maps hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use csm_common::net::{
    Group, NO_GROUP, ROUTE_CONNECTED, ROUTE_LOCAL, ROUTE_MODULE, ROUTE_VIA, Route, RouterRoute,
};
use ipnet::IpNet;

use crate::dataplane::task::router::HostGroup;
use crate::hsrp::wire::Version;
use crate::model::{Config, Family, Host, RouterInterface, StandbyRun, Virtual, VlanId};

/// Version of HSRP on `interface`.
pub(super) const fn version(interface: &RouterInterface) -> Version {
    if interface.version == 2 { Version::V2 } else { Version::V1 }
}

/// The groups with their virtual addresses, in the order of their numbers.
pub(super) fn groups(config: &Config) -> Vec<HostGroup> {
    let group = |run: StandbyRun<'_>| HostGroup {
        group: Group { mac: virtual_mac(&run), vlan: run.vlan.get() },
        family: run.family,
        addresses: run.addresses().collect(),
    };
    config.standby_groups().map(group).collect()
}

/// The MAC address of a group.
pub(super) fn virtual_mac(run: &StandbyRun<'_>) -> [u8; 6] {
    version(run.interface).virtual_mac(run.group.number, run.family)
}

/// The addresses that groups of this host have: what leads there is the router's. Some are learned while it runs.
#[derive(Debug)]
pub(super) struct OwnGateways(RwLock<HashMap<Host, (u16, [u8; 6])>>);

impl OwnGateways {
    /// As configured.
    pub(super) fn new(config: &Config) -> Self {
        let hops = (0..).zip(groups(config)).flat_map(|(number, known)| {
            let HostGroup { group, addresses, .. } = known;
            addresses.into_iter().map(move |address| (Host::on(address, group.vlan), (number, group.mac)))
        });
        Self(RwLock::new(hops.collect()))
    }

    /// The group that has the address of `host`: number and virtual MAC.
    pub(super) fn get(&self, host: Host) -> Option<(u16, [u8; 6])> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&host).copied()
    }

    /// Group `number` has learned that its address is that of `host`; true if that is new.
    pub(super) fn learn(&self, number: u16, mac: [u8; 6], host: Host) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.iter().find(|(_, (of, _))| *of == number).map(|(host, _)| *host);
        if before == Some(host) {
            return false;
        }
        known.retain(|_, (of, _)| *of != number);
        known.insert(host, (number, mac));
        true
    }
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
        let found =
            numbered.into_iter().find(|(_, known)| known.group.vlan == vlan.get() && known.family == family);
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

/// Addresses that a group on this host cannot have learned: the module's, and those of other groups.
pub(super) fn taken(config: &Config) -> Vec<IpAddr> {
    let families = Family::ALL.into_iter();
    let of_vlans = families.flat_map(|family| {
        config.vlans.iter().flat_map(move |vlan| [vlan.own(family), vlan.peer(family), vlan.alias(family)])
    });
    let of_vlans = of_vlans.flatten().map(|net| net.addr());
    let of_vservers = config
        .vservers
        .iter()
        .filter_map(|vserver| Some(vserver.virtual_server.filter(Virtual::is_address)?.address()));
    let of_groups = config.standby_groups().flat_map(|run| run.addresses().collect::<Vec<_>>());
    of_vlans.chain(of_vservers).chain(of_groups).collect()
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
        let shown: Vec<_> = found
            .iter()
            .map(|known| (known.group.vlan, known.group.mac[5], known.addresses.clone()))
            .collect();
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(shown, [(4094, 2, vec![address("10.100.0.1")]), (136, 1, vec![address("10.6.0.1")])]);
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
        assert_eq!(OwnGateways::new(&config).get(gateway), Some((1, [0, 0, 0x0c, 7, 0xac, 1])));
    }

    #[test]
    fn a_group_that_learns_has_its_address_by_and_by() {
        let text = SEED.replace("standby 1 ip 10.6.0.1", "standby 1 ip");
        let outcome = check("a.cfg", &text, &HostFacts::default());
        let config = outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics));
        let inner = &groups(&config)[1];
        assert_eq!((inner.group.vlan, inner.group.mac[5], inner.addresses.len()), (136, 1, 0));
        let own = OwnGateways::new(&config);
        let [first, second] = [1, 9].map(|host| Host::on(IpAddr::from([10, 6, 0, host]), 136));
        assert_eq!(own.get(first), None);
        for (host, is_new) in [(first, true), (first, false), (second, true), (second, false)] {
            assert_eq!(own.learn(1, inner.group.mac, host), is_new, "{host:?}");
            let known = [first, second].map(|known| own.get(known).is_some());
            assert_eq!(known, [host == first, host == second], "{host:?}");
        }
        let outer = Host::on(IpAddr::from([10, 100, 0, 1]), 4094);
        assert_eq!(own.get(outer).map(|(number, _)| number), Some(0), "the other group's");
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
 standby 1 ipv6 2001:db8:6::f/64
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
            .map(|HostGroup { group, addresses, .. }| {
                format!("{} {:02x?} {addresses:?}", group.vlan, group.mac)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "4094 [00, 05, 73, a0, 00, 01] [fe80::5:73ff:fea0:1]",
                "136 [00, 00, 0c, 9f, f0, 01] [10.6.0.1]",
                "136 [00, 05, 73, a0, 00, 01] [fe80::6, 2001:db8:6::f]",
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
        let own = OwnGateways::new(&config);
        for gateway in ["fe80::6", "2001:db8:6::f"] {
            let gateway = Host::on(address(gateway), 136);
            assert_eq!(own.get(gateway), Some((2, [0, 5, 0x73, 0xa0, 0, 1])));
        }
    }
}
