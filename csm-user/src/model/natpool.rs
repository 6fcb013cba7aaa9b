//! Pools of addresses for client NAT. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Family, Name};

/// `natpool NAME FIRST LAST netmask M`, or `prefix-length L` in IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Natpool {
    /// Name.
    pub name: Name,
    /// First address.
    pub first: IpAddr,
    /// Last address, of the same family.
    pub last: IpAddr,
    /// `netmask M` or `prefix-length L` of both: leading bits that name their network.
    pub bits: u8,
}

impl Natpool {
    /// Family of its addresses.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.first)
    }

    /// How many addresses it has; 0 if the last is below the first or of the other family.
    #[must_use]
    pub fn count(&self) -> u128 {
        let difference = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                last.to_bits().checked_sub(first.to_bits()).map(u128::from)
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => last.to_bits().checked_sub(first.to_bits()),
            _ => None,
        };
        difference.map_or(0, |difference| difference.saturating_add(1))
    }

    /// Its addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let first = self.first;
        (0..self.count()).map(move |offset| match first {
            // Below `count`, so that it fits.
            IpAddr::V4(first) => {
                let offset = u32::try_from(offset).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().wrapping_add(offset)))
            }
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits().wrapping_add(offset))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Natpool;
    use crate::model::Name;

    fn pool(first: &str, last: &str) -> Natpool {
        let address = |text: &str| text.parse().unwrap();
        Natpool { name: Name::new("POOL").unwrap(), first: address(first), last: address(last), bits: 24 }
    }

    #[test]
    fn addresses_of_either_family_are_counted_and_listed_in_order() {
        let texts = |pool: Natpool| pool.addresses().map(|address| address.to_string()).collect::<Vec<_>>();
        assert_eq!(
            texts(pool("10.0.0.254", "10.0.1.1")),
            ["10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1"]
        );
        assert_eq!(texts(pool("fd00::fffe", "fd00::1:0")), ["fd00::fffe", "fd00::ffff", "fd00::1:0"]);
        assert_eq!(pool("fd00::2", "fd00::1").count(), 0);
        assert_eq!(pool("10.0.0.1", "fd00::1").count(), 0, "of different families");
        assert_eq!(pool("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").count(), u128::MAX, "no overflow");
    }
}
