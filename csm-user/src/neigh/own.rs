//! The node's own addresses on its ports.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::netlink::Netlink;

/// The IPv6 link-local address that belongs to `mac` (RFC 4291 appendix A).
#[must_use]
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The node's own addresses on its ports: adds what is missing and takes back, when dropped, what it added.
#[derive(Debug)]
pub struct OwnAddresses {
    netlink: Netlink,
    added: Vec<(u32, IpNet)>,
    /// Settings of the kernel with the values they had.
    set: Vec<(PathBuf, String)>,
}

impl OwnAddresses {
    /// # Errors
    /// If netlink cannot be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, added: Vec::new(), set: Vec::new() })
    }

    /// Sees that the interface is up.
    ///
    /// # Errors
    /// Of the request.
    pub fn raise(&mut self, ifindex: u32) -> io::Result<()> {
        self.netlink.set_up(ifindex)
    }

    /// Sees that the interface is up and has `address`.
    ///
    /// # Errors
    /// Of the requests; `PermissionDenied` with a remedy where IPv6 is disabled on the interface.
    pub fn ensure(&mut self, ifindex: u32, address: IpNet) -> io::Result<()> {
        self.raise(ifindex)?;
        let disabled = "IPv6 is disabled on it: set its `net.ipv6.conf` key `disable_ipv6` to 0 by sysctl";
        self.add(ifindex, address).map_err(|error| match error.raw_os_error() {
            Some(libc::EACCES) if address.addr().is_ipv6() => {
                io::Error::new(io::ErrorKind::PermissionDenied, disabled)
            }
            _ => error,
        })
    }

    /// Sees that the interface is up and has an IPv6 link-local address; returns it.
    ///
    /// # Errors
    /// Of the requests: `EACCES` or `EINVAL` where IPv6 is disabled on the interface.
    pub fn ensure_link_local(&mut self, ifindex: u32, mac: [u8; 6]) -> io::Result<Ipv6Addr> {
        self.raise(ifindex)?;
        let standing = self.netlink.addresses(ifindex)?.into_iter().find_map(|net| match net {
            IpNet::V6(net) if net.addr().is_unicast_link_local() => Some(net),
            _ => None,
        });
        if let Some(net) = standing {
            if self.netlink.bears_mark(ifindex, IpNet::V6(net))? {
                self.added.push((ifindex, IpNet::V6(net)));
            }
            return Ok(net.addr());
        }
        let address = link_local(mac);
        self.add(ifindex, IpNet::new(IpAddr::V6(address), 64).map_err(io::Error::other)?)?;
        Ok(address)
    }

    /// Has the kernel take neither addresses nor routes from router advertisements on interface `name`: the configuration
    /// says them.
    ///
    /// # Errors
    /// If the kernel has no IPv6, or does not let it be set.
    pub fn ignore_routers(&mut self, name: &str) -> io::Result<()> {
        let setting = PathBuf::from("/proc/sys/net/ipv6/conf").join(name).join("accept_ra");
        let before = fs::read_to_string(&setting)?;
        if before.trim() != "0" {
            fs::write(&setting, "0")?;
            self.set.push((setting, before));
        }
        Ok(())
    }

    fn add(&mut self, ifindex: u32, address: IpNet) -> io::Result<()> {
        // One that a killed csmd left is this one's now.
        if self.netlink.add_address(ifindex, address)? || self.netlink.bears_mark(ifindex, address)? {
            self.added.push((ifindex, address));
        }
        Ok(())
    }
}

impl Drop for OwnAddresses {
    fn drop(&mut self) {
        for (setting, before) in self.set.drain(..) {
            // An interface that is gone took its settings with it.
            let _gone = fs::write(setting, before);
        }
        for (ifindex, address) in self.added.drain(..) {
            if let Err(error) = self.netlink.remove_address(ifindex, address) {
                tracing::warn!(ifindex, %address, %error, "an address of this node stays on its interface");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::link_local;

    #[test]
    fn a_link_local_address_follows_its_mac() {
        assert_eq!(link_local([0x02, 0, 0, 0x12, 0x34, 0x56]).to_string(), "fe80::ff:fe12:3456");
    }
}
