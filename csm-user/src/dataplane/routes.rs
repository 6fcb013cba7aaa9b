//! Routes of the configuration as a longest-prefix table, for the plan and for replicas' next hops. Pure.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::model::{Config, Family, Host, VlanId, VlanRole};

/// Where a prefix leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A connected network.
    Connected(VlanId),
    /// Through a gateway on that VLAN.
    Via(VlanId, IpAddr),
}

/// The longest-prefix table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Longest prefix first; of equal prefixes only the first is kept.
    entries: Vec<(IpNet, Target)>,
    /// Client VLAN to server VLAN of the bridge groups: their network is listed on the client VLAN.
    bridges: Vec<(VlanId, VlanId)>,
}

impl Routes {
    /// Connected networks, `route` lines and `gateway` lines. Gateways of client VLANs come before those of server
    /// VLANs; of several only the first is used (the CSM shares between them: not in this form).
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let mut found = Vec::new();
        let bridges: Vec<_> = config.bridge_groups().map(|(client, server)| (client.id, server.id)).collect();
        let bridged = |vlan: VlanId| bridges.iter().any(|(_, server)| *server == vlan);
        for vlan in config.vlans.iter().filter(|vlan| !bridged(vlan.id)) {
            let own = Family::ALL.into_iter().filter_map(|family| vlan.own(family));
            found.extend(own.map(|net| (net.trunc(), Target::Connected(vlan.id))));
        }
        for vlan in &config.vlans {
            for route in &vlan.routes {
                // Under whatever VLAN the line stands, its gateway is on the one whose network holds it.
                let on = config.vlan_of(route.gateway).unwrap_or(vlan);
                found.push((route.network.trunc(), Target::Via(on.id, route.gateway)));
            }
        }
        for role in [VlanRole::Client, VlanRole::Server] {
            for vlan in config.vlans.iter().filter(|vlan| vlan.role == role) {
                for &gateway in &vlan.gateways {
                    found.push((Family::of(gateway).all(), Target::Via(vlan.id, gateway)));
                }
            }
        }
        let mut entries: Vec<(IpNet, Target)> = Vec::new();
        for (net, target) in found {
            if !entries.iter().any(|(known, _)| *known == net) {
                entries.push((net, target));
            }
        }
        entries.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        Self { entries, bridges }
    }

    /// All prefixes.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, Target)> {
        self.entries.iter().copied()
    }

    /// The best route to `address`.
    #[must_use]
    pub fn target(&self, address: impl Into<IpAddr>) -> Option<Target> {
        let address = address.into();
        self.entries.iter().find(|(net, _)| net.contains(&address)).map(|&(_, target)| target)
    }

    /// The neighbour that a packet to real server `address` is handed to: in a bridge group reals are on the server side.
    #[must_use]
    pub fn real_hop(&self, address: IpAddr) -> Option<Host> {
        let hop = self.hop(address)?;
        let other = self.bridges.iter().find(|(client, _)| client.get() == hop.vlan);
        match (self.target(address)?, other) {
            (Target::Connected(_), Some((_, server))) => Some(Host::new(address, *server)),
            _ => Some(hop),
        }
    }

    /// The neighbour a packet to `address` is handed to.
    #[must_use]
    pub fn hop(&self, address: impl Into<IpAddr>) -> Option<Host> {
        let address = address.into();
        Some(match self.target(address)? {
            Target::Connected(vlan) => Host::new(address, vlan),
            Target::Via(vlan, gateway) => Host::new(gateway, vlan),
        })
    }
}

/// `address` as it stands on the wire.
#[must_use]
pub fn be(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// The address of a field that is kept as on the wire.
#[must_use]
pub fn from_be(address_be: u32) -> Ipv4Addr {
    Ipv4Addr::from(address_be.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::Target;
    use crate::dataplane::plan::tests::{figure_7_1, vlan};
    use crate::dataplane::routes::Routes;
    use crate::model::StaticRoute;
    use std::net::IpAddr;

    #[test]
    fn the_longest_prefix_wins_and_the_gateway_is_the_default() {
        let mut config = figure_7_1();
        config.vlans[1].routes.push(StaticRoute {
            network: "10.1.0.0/16".parse().unwrap(),
            gateway: "192.158.39.9".parse().unwrap(),
        });
        let routes = Routes::of(&config);
        let target = |address: &str| routes.target(address.parse::<IpAddr>().unwrap()).unwrap();
        assert_eq!(target("192.158.39.101"), Target::Connected(vlan(3)));
        assert_eq!(target("10.1.2.3"), Target::Via(vlan(3), "192.158.39.9".parse().unwrap()));
        assert_eq!(target("8.8.8.8"), Target::Via(vlan(2), "192.158.38.20".parse().unwrap()));
        let beyond: IpAddr = "8.8.8.8".parse().unwrap();
        let hop = routes.hop(beyond).unwrap();
        assert_eq!((hop.address.to_string().as_str(), hop.vlan), ("192.158.38.20", 2));
        config.vlans[0].gateways.clear();
        assert_eq!(Routes::of(&config).hop(beyond), None);
    }

    #[test]
    fn each_family_has_its_own_default_and_a_route_is_on_its_gateways_vlan() {
        let mut config = figure_7_1();
        config.vlans[0].address6 = Some("fd00:2::10/64".parse().unwrap());
        config.vlans[1].address6 = Some("fd00:3::10/64".parse().unwrap());
        config.vlans[0].gateways.push("fe80::1".parse().unwrap());
        let route = |network: &str, gateway: &str| StaticRoute {
            network: network.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
        };
        // As the guide's listing has it: under the other VLAN.
        config.vlans[1].routes.push(route("10.0.0.0/8", "192.158.38.9"));
        config.vlans[1].routes.push(route("fd00:9::/64", "fe80::9"));
        let routes = Routes::of(&config);
        let hop = |address: &str| {
            let hop = routes.hop(address.parse::<IpAddr>().unwrap()).unwrap();
            (hop.address.to_string(), hop.vlan)
        };
        assert_eq!(hop("fd00:3::101"), ("fd00:3::101".to_owned(), 3));
        assert_eq!(hop("2001:db8::1"), ("fe80::1".to_owned(), 2));
        assert_eq!(hop("8.8.8.8"), ("192.158.38.20".to_owned(), 2));
        assert_eq!(hop("10.1.1.1"), ("192.158.38.9".to_owned(), 2));
        assert_eq!(hop("fd00:9::7"), ("fe80::9".to_owned(), 3), "a link-local gateway is on its line's VLAN");
    }
}
