//! How the watchers of routers speak and hear.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{GatewayPath, VrrpPath};
use crate::track::{arp, echo, nd, vrrp};

/// ETH_P_ARP, ETH_P_IPV6.
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// Asks one gateway.
pub(super) enum Asker {
    /// By ARP or neighbour solicitation: a packet socket, of which only send and recv are used.
    Link(UdpSocket),
    /// By echo: a raw socket; the identifier, and the number of the latest question.
    Echo(UdpSocket, u16, u16),
}

impl Asker {
    pub(super) fn open(path: &GatewayPath, id: u16) -> io::Result<Self> {
        if path.icmp {
            return Ok(Self::Echo(raw(path)?, id, 0));
        }
        let protocol = if path.gateway.is_ipv6() { IPV6 } else { ARP };
        packet(path.ifindex, protocol).map(Self::Link)
    }

    /// What does not leave is not answered.
    pub(super) fn ask(&mut self, path: &GatewayPath) {
        let _unsent = match (self, path.own, path.gateway) {
            (Self::Echo(socket, id, sequence), ..) => {
                *sequence = sequence.wrapping_add(1);
                let request = echo::request(path.gateway.is_ipv6(), *id, *sequence);
                socket.try_send_to(&request, SocketAddr::new(path.gateway, 0))
            }
            (Self::Link(socket), IpAddr::V4(own), IpAddr::V4(gateway)) => {
                socket.try_send(&arp::request(path.mac, own, gateway))
            }
            (Self::Link(socket), IpAddr::V6(own), IpAddr::V6(gateway)) => {
                socket.try_send(&nd::request(path.mac, own, gateway))
            }
            (Self::Link(_), IpAddr::V4(_), IpAddr::V6(_)) | (Self::Link(_), IpAddr::V6(_), IpAddr::V4(_)) => {
                Ok(0)
            }
        };
    }

    /// Waits for a packet: whether it is the answer to the latest question.
    pub(super) async fn hear(&self, path: &GatewayPath) -> io::Result<bool> {
        let mut packet = [0_u8; 128];
        match self {
            Self::Link(socket) => {
                let length = socket.recv(&mut packet).await?;
                let frame = &packet[..length];
                Ok(match (path.own, path.gateway) {
                    (IpAddr::V4(own), IpAddr::V4(gateway)) => arp::is_answer(frame, own, gateway),
                    (IpAddr::V6(own), IpAddr::V6(gateway)) => nd::is_answer(frame, own, gateway),
                    (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
                })
            }
            Self::Echo(socket, id, sequence) => {
                let (length, source) = socket.recv_from(&mut packet).await?;
                let answers = echo::is_answer(path.gateway.is_ipv6(), &packet[..length], *id, *sequence);
                Ok(source.ip() == path.gateway && answers)
            }
        }
    }
}

/// A raw socket for ICMP on the gateway's network. It can be had before the interface has the address.
fn raw(path: &GatewayPath) -> io::Result<UdpSocket> {
    let (domain, protocol) = match path.gateway {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
    socket.bind_device(Some(path.interface.as_bytes()))?;
    match path.gateway {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.bind(&SocketAddr::new(path.own, 0).into())?;
    UdpSocket::from_std(socket.into())
}

/// A raw socket that hears the advertisements of VRRP on an interface.
pub(super) fn vrrp(path: &VrrpPath) -> io::Result<UdpSocket> {
    let protocol = Protocol::from(i32::from(vrrp::PROTOCOL));
    let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(protocol))?;
    socket.bind_device(Some(path.interface.as_bytes()))?;
    socket.join_multicast_v4_n(&vrrp::GROUP, &InterfaceIndexOrAddress::Index(path.ifindex))?;
    UdpSocket::from_std(socket.into())
}

/// A packet socket for `protocol` on `ifindex`.
fn packet(ifindex: u32, protocol: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::PACKET,
        Type::RAW.nonblocking(),
        Some(Protocol::from(i32::from(protocol.to_be()))),
    )?;
    // SAFETY: all zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: `address` is a `sockaddr_ll` of that length and lives through the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { UdpSocket::from_std(socket.into()) }
}
