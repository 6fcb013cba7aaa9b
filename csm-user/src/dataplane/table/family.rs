//! The two families of addresses, as their tables have them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use csm_common::address::{Address, V6};
use csm_common::names;

use crate::dataplane::ring::{Change, Delta};

/// A family that has tables of its own.
pub trait TableFamily: Address + Send + Sync {
    /// Name of the map of proven connections.
    const FLOWS: &'static str;
    /// Of half-open ones.
    const EMBRYONIC: &'static str;
    /// Of sticky entries.
    const STICKY: &'static str;

    /// The address of a field that is kept as on the wire.
    fn address(self) -> IpAddr;
    /// `address` as it stands on the wire, if it is of this family.
    fn of(address: IpAddr) -> Option<Self>;
    /// A change of this family's tables, to be told.
    fn delta(change: Change<Self>) -> Delta;
}

impl TableFamily for u32 {
    const FLOWS: &'static str = names::FLOWS;
    const EMBRYONIC: &'static str = names::EMBRYONIC;
    const STICKY: &'static str = names::STICKY;

    fn address(self) -> IpAddr {
        Ipv4Addr::from(self.to_ne_bytes()).into()
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(Self::from_ne_bytes(address.octets())),
            IpAddr::V6(_) => None,
        }
    }

    fn delta(change: Change) -> Delta {
        Delta::V4(change)
    }
}

impl TableFamily for V6 {
    const FLOWS: &'static str = names::FLOWS6;
    const EMBRYONIC: &'static str = names::EMBRYONIC6;
    const STICKY: &'static str = names::STICKY6;

    fn address(self) -> IpAddr {
        Ipv6Addr::from(self).into()
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.into()),
        }
    }

    fn delta(change: Change<Self>) -> Delta {
        Delta::V6(change)
    }
}
