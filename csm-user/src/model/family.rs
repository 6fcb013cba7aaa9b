//! The two families of addresses. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Config;

/// A family of addresses. Nothing is translated between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// That of `address`.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The network that holds every address.
    #[must_use]
    pub fn all(self) -> IpNet {
        match self {
            Self::V4 => IpNet::V4(Ipv4Net::default()),
            Self::V6 => IpNet::V6(Ipv6Net::default()),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Config {
    /// The part of it that is about `family`; what has no address yet is in neither.
    #[must_use]
    pub fn only(&self, family: Family) -> Self {
        let mut config = self.clone();
        let is_it = |address: IpAddr| Family::of(address) == family;
        for vlan in &mut config.vlans {
            match family {
                Family::V4 => (vlan.address6, vlan.alt_address6, vlan.alias6) = (None, None, None),
                Family::V6 => (vlan.address, vlan.alt_address, vlan.alias) = (None, None, None),
            }
            vlan.gateways.retain(|gateway| is_it(*gateway));
            vlan.routes.retain(|route| is_it(route.gateway));
        }
        config.natpools.retain(|pool| pool.family() == family);
        config.statics.retain(|rule| rule.action.family().is_none_or(|of| of == family));
        for rule in &mut config.statics {
            rule.hosts.retain(|net| is_it(net.addr()));
        }
        for group in &mut config.sticky_groups {
            group.statics.retain(|line| is_it(line.client));
        }
        for farm in &mut config.serverfarms {
            farm.reals.retain(|real| is_it(real.address));
        }
        config.vservers.retain(|vserver| vserver.virtual_server.is_some_and(|to| is_it(to.address())));
        config
    }
}

/// The IPv6 mask of `bits` leading ones, 0–128.
#[must_use]
pub fn prefix_mask6(bits: u8) -> Ipv6Addr {
    Ipv6Net::new(Ipv6Addr::UNSPECIFIED, bits).map_or(Ipv6Addr::from_bits(u128::MAX), |net| net.netmask())
}

/// The IPv4 mask of `bits` leading ones, 0–32.
#[must_use]
pub fn prefix_mask(bits: u8) -> Ipv4Addr {
    Ipv4Net::new(Ipv4Addr::UNSPECIFIED, bits).map_or(Ipv4Addr::BROADCAST, |net| net.netmask())
}
