//! Routes of the configuration as a longest-prefix table, for the plan and for replicas' next hops. Pure.

use std::net::Ipv4Addr;

use csm_common::net::AddressKey;
use ipnet::Ipv4Net;

use crate::model::{Config, VlanId, VlanRole};

/// Where a prefix leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A connected network.
    Connected(VlanId),
    /// Through a gateway on that VLAN.
    Via(VlanId, Ipv4Addr),
}

/// The longest-prefix table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Longest prefix first; of equal prefixes only the first is kept.
    entries: Vec<(Ipv4Net, Target)>,
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
            found.extend(vlan.address.map(|net| (net.trunc(), Target::Connected(vlan.id))));
        }
        for vlan in &config.vlans {
            for route in &vlan.routes {
                found.push((route.network.trunc(), Target::Via(vlan.id, route.gateway)));
            }
        }
        for role in [VlanRole::Client, VlanRole::Server] {
            for vlan in config.vlans.iter().filter(|vlan| vlan.role == role) {
                for &gateway in &vlan.gateways {
                    found.push((Ipv4Net::default(), Target::Via(vlan.id, gateway)));
                }
            }
        }
        let mut entries: Vec<(Ipv4Net, Target)> = Vec::new();
        for (net, target) in found {
            if !entries.iter().any(|(known, _)| *known == net) {
                entries.push((net, target));
            }
        }
        entries.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        Self { entries, bridges }
    }

    /// All prefixes.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Net, Target)> {
        self.entries.iter().copied()
    }

    /// The best route to `address`.
    #[must_use]
    pub fn target(&self, address: Ipv4Addr) -> Option<Target> {
        self.entries.iter().find(|(net, _)| net.contains(&address)).map(|&(_, target)| target)
    }

    /// The neighbour that a packet to real server `address` is handed to: in a bridge group reals are on the server side.
    #[must_use]
    pub fn real_hop(&self, address: Ipv4Addr) -> Option<AddressKey> {
        let hop = self.hop(address)?;
        let other = self.bridges.iter().find(|(client, _)| client.get() == hop.vlan);
        match (self.target(address)?, other) {
            (Target::Connected(_), Some((_, server))) => Some(hop_key(address, *server)),
            _ => Some(hop),
        }
    }

    /// The neighbour a packet to `address` is handed to.
    #[must_use]
    pub fn hop(&self, address: Ipv4Addr) -> Option<AddressKey> {
        Some(match self.target(address)? {
            Target::Connected(vlan) => hop_key(address, vlan),
            Target::Via(vlan, gateway) => hop_key(gateway, vlan),
        })
    }
}

/// `address` on `vlan` as a map key.
#[must_use]
pub fn hop_key(address: Ipv4Addr, vlan: VlanId) -> AddressKey {
    AddressKey { ip_be: be(address), vlan: vlan.get(), pad: 0 }
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
    use super::{Target, from_be};
    use crate::dataplane::plan::tests::{figure_7_1, vlan};
    use crate::dataplane::routes::Routes;
    use crate::model::StaticRoute;

    #[test]
    fn the_longest_prefix_wins_and_the_gateway_is_the_default() {
        let mut config = figure_7_1();
        config.vlans[1].routes.push(StaticRoute {
            network: "10.1.0.0/16".parse().unwrap(),
            gateway: "192.158.39.9".parse().unwrap(),
        });
        let routes = Routes::of(&config);
        let target = |address: &str| routes.target(address.parse().unwrap()).unwrap();
        assert_eq!(target("192.158.39.101"), Target::Connected(vlan(3)));
        assert_eq!(target("10.1.2.3"), Target::Via(vlan(3), "192.158.39.9".parse().unwrap()));
        assert_eq!(target("8.8.8.8"), Target::Via(vlan(2), "192.158.38.20".parse().unwrap()));
        let hop = routes.hop("8.8.8.8".parse().unwrap()).unwrap();
        assert_eq!((from_be(hop.ip_be).to_string().as_str(), hop.vlan), ("192.158.38.20", 2));
        config.vlans[0].gateways.clear();
        assert_eq!(Routes::of(&config).hop("8.8.8.8".parse().unwrap()), None);
    }
}
