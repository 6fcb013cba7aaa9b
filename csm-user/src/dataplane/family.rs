//! The families of addresses as the maps hold them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use csm_common::address::{Address, V6};
use csm_common::names;

use crate::model::Family;

/// Names of a family's maps that the controller fills.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is the map of the same name in csm_common::names")]
pub struct MapNames {
    pub vserver_keys: &'static str,
    pub networks: &'static str,
    pub clients: &'static str,
    pub pools: &'static str,
    pub statics: &'static str,
    pub sticky: &'static str,
    pub vservers: &'static str,
    pub reals: &'static str,
    pub reverses: &'static str,
    pub addresses: &'static str,
    pub routes: &'static str,
    pub origins: &'static str,
    pub error_sources: &'static str,
    pub fragments: &'static str,
    pub held: &'static str,
    pub nexthops: &'static str,
    pub tunnels: &'static str,
    pub neighbours: &'static str,
}

/// An address as it stands on the wire and in the maps.
pub trait Wire: Address {
    /// Its family.
    const FAMILY: Family;
    /// The maps that hold such addresses.
    const NAMES: MapNames;

    /// `address`; `None` if it is of the other family.
    fn of(address: IpAddr) -> Option<Self>;

    /// As the configuration has it.
    fn ip(self) -> IpAddr;
}

impl Wire for u32 {
    const FAMILY: Family = Family::V4;
    const NAMES: MapNames = MapNames {
        vserver_keys: names::VSERVER_KEYS,
        networks: names::NETWORKS,
        clients: names::CLIENTS,
        pools: names::POOLS,
        statics: names::STATICS,
        sticky: names::STICKY,
        vservers: names::VSERVERS,
        reals: names::REALS,
        reverses: names::REVERSES,
        addresses: names::ADDRESSES,
        routes: names::ROUTES,
        origins: names::ORIGINS,
        error_sources: names::ERROR_SOURCES,
        fragments: names::FRAGMENTS,
        held: names::HELD,
        nexthops: names::NEXTHOPS,
        tunnels: names::TUNNELS,
        neighbours: names::NEIGHBOURS,
    };

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(Self::from_ne_bytes(address.octets())),
            IpAddr::V6(_) => None,
        }
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self.to_ne_bytes()).into()
    }
}

impl Wire for V6 {
    const FAMILY: Family = Family::V6;
    const NAMES: MapNames = MapNames {
        vserver_keys: names::VSERVER_KEYS6,
        networks: names::NETWORKS6,
        clients: names::CLIENTS6,
        pools: names::POOLS6,
        statics: names::STATICS6,
        sticky: names::STICKY6,
        vservers: names::VSERVERS6,
        reals: names::REALS6,
        reverses: names::REVERSES6,
        addresses: names::ADDRESSES6,
        routes: names::ROUTES6,
        origins: names::ORIGINS6,
        error_sources: names::ERROR_SOURCES6,
        fragments: names::FRAGMENTS6,
        held: names::HELD6,
        nexthops: names::NEXTHOPS6,
        tunnels: names::TUNNELS6,
        neighbours: names::NEIGHBOURS6,
    };

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.into()),
        }
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self).into()
    }
}

/// `address`, known to be of family `A`.
#[must_use]
pub fn wire<A: Wire>(address: IpAddr) -> A {
    A::of(address).unwrap_or(A::UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use super::{Wire, wire};
    use csm_common::address::V6;
    use std::net::IpAddr;

    #[test]
    fn addresses_stand_in_network_order_and_come_back() {
        let (v4, v6): (IpAddr, IpAddr) = ("10.1.2.3".parse().unwrap(), "fd00::1:2".parse().unwrap());
        assert_eq!(u32::of(v4).unwrap().to_ne_bytes(), [10, 1, 2, 3]);
        assert_eq!(V6::of(v6).unwrap().octets()[12..], [0, 1, 0, 2]);
        assert_eq!((wire::<u32>(v4).ip(), wire::<V6>(v6).ip()), (v4, v6));
        assert_eq!((u32::of(v6), V6::of(v4)), (None, None));
    }
}
