//! Solicited-node multicast groups of the pair's IPv6 addresses (RFC 4291, section 2.7.1), joined on its ports.
//!
//! Hosts ask for an address by a frame to its group. That the kernel is a member has the port's filter let those frames
//! in and, by its multicast listener reports, has a snooping switch send them here (RFC 4541). Both nodes of a pair join:
//! who answers is the program's business.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;

use socket2::{Domain, Socket, Type};

/// Groups of one socket: the memory for them counts against `net.core.optmem_max`, 20 KiB on older kernels.
const GROUPS_MAX: usize = 64;

/// The group of `address`.
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

/// The groups in which the node is a member; dropping it leaves them.
#[derive(Debug, Default)]
pub struct Groups {
    joined: BTreeSet<(u32, Ipv6Addr)>,
    /// The kernel forgets a socket's memberships with it.
    _sockets: Vec<Socket>,
}

impl Groups {
    /// Is a member of the groups of `addresses`, each on its interface, from now on, and of no others. Where nothing
    /// changed nothing is done; else the new groups are joined before the old ones are left.
    ///
    /// # Errors
    /// If a socket cannot be had or a group cannot be joined; the old memberships stay then.
    pub fn set(&mut self, addresses: impl IntoIterator<Item = (u32, Ipv6Addr)>) -> io::Result<()> {
        let wanted: BTreeSet<(u32, Ipv6Addr)> =
            addresses.into_iter().map(|(ifindex, address)| (ifindex, solicited_node(address))).collect();
        if wanted == self.joined {
            return Ok(());
        }
        let all: Vec<_> = wanted.iter().copied().collect();
        let sockets = all.chunks(GROUPS_MAX).map(join).collect::<io::Result<_>>()?;
        *self = Self { joined: wanted, _sockets: sockets };
        Ok(())
    }
}

/// A socket that is a member of `groups` and receives nothing.
fn join(groups: &[(u32, Ipv6Addr)]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    for (ifindex, group) in groups {
        socket.join_multicast_v6(group, *ifindex)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::solicited_node;

    #[test]
    fn a_group_takes_the_last_three_octets() {
        let group = solicited_node("2001:db8::28:9abc:def0".parse().unwrap());
        assert_eq!(group.to_string(), "ff02::1:ffbc:def0");
    }
}
