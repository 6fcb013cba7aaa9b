//! The sockets of a group.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

use crate::hsrp::wire::{Version, port};
use crate::model::Family;

/// Internetwork control, as routers send it.
const TOS: u32 = 0xc0;

/// What hears the messages of all groups of `family` on `interface`.
///
/// # Errors
/// If it cannot be had, as where the interface has no IPv6.
pub(super) fn ears(interface: &str, ifindex: u32, version: Version, family: Family) -> io::Result<UdpSocket> {
    let to = version.destination(family);
    let socket = socket(interface, ifindex, version, to)?;
    match to {
        IpAddr::V4(to) => socket.join_multicast_v4_n(&to, &InterfaceIndexOrAddress::Index(ifindex))?,
        IpAddr::V6(to) => socket.join_multicast_v6(&to, ifindex)?,
    }
    tokio(socket)
}

/// What speaks from `own` on `interface`.
///
/// # Errors
/// If it cannot be had.
pub(super) fn mouth(interface: &str, ifindex: u32, version: Version, own: IpAddr) -> io::Result<UdpSocket> {
    tokio(socket(interface, ifindex, version, own)?)
}

/// A socket on `interface` that has `address` for its own: a multicast group's to hear it, this router's to speak.
fn socket(interface: &str, ifindex: u32, version: Version, address: IpAddr) -> io::Result<Socket> {
    let family = Family::of(address);
    let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    let port = port(family);
    let bound = match address {
        IpAddr::V4(_) => {
            socket.set_multicast_ttl_v4(version.ttl())?;
            socket.set_multicast_loop_v4(false)?;
            socket.set_tos_v4(TOS)?;
            SocketAddr::new(address, port)
        }
        IpAddr::V6(address) => {
            socket.set_only_v6(true)?;
            socket.set_multicast_hops_v6(u8::MAX.into())?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_tclass_v6(TOS)?;
            SocketAddrV6::new(address, port, 0, ifindex).into()
        }
    };
    socket.bind(&bound.into())?;
    Ok(socket)
}

/// What hears hosts on `interface` that ask for routers; each datagram is an ICMPv6 message.
///
/// # Errors
/// If it cannot be had, as where the interface has no IPv6.
pub(super) fn solicitations(interface: &str, ifindex: u32) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW.nonblocking(), Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    // To all routers: what is sent to them is nothing but solicitations and reports of listeners.
    let all_routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    socket.bind(&SocketAddr::from(SocketAddrV6::new(all_routers, 0, 0, ifindex)).into())?;
    socket.join_multicast_v6(&all_routers, ifindex)?;
    tokio(socket)
}

/// A packet socket that sends on `ifindex` and receives nothing.
///
/// # Errors
/// If it cannot be had.
pub(super) fn packet(ifindex: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
    // SAFETY: all zero is a valid `sockaddr_storage`, and it has room for a `sockaddr_ll`.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
            (*address).sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
            *length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
            Ok(())
        })
    }?;
    socket.bind(&address)?;
    Ok(socket)
}

fn tokio(socket: Socket) -> io::Result<UdpSocket> {
    UdpSocket::from_std(socket.into())
}
