//! The UDP sockets of the paths, each bound to one interface, hop limit or time to live 255: the FT VLAN's with link-local IPv6
//! and all-nodes multicast, a client or server VLAN's with the two nodes' own addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::handle::DataPath;
use crate::ft::envelope::DATAGRAM;

/// UDP port of the heartbeats, from and to.
pub const PORT: u16 = 21_985;
/// All nodes of the link: no switch prunes it, nothing has to be configured.
pub const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// RFC 5082: a router would have lowered it.
const HOPS: u32 = 255;
/// DSCP CS6, network control (RFC 4594), as traffic class.
const CLASS: u32 = 48 << 2;

/// A datagram as it arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    /// Bytes in the buffer; one that is longer than a message is cut one byte beyond.
    pub(super) length: usize,
    pub(super) source: IpAddr,
    pub(super) hops: Option<u8>,
}

/// Longer than one of ours by one byte, so that too long a datagram shows.
pub(super) type Buffer = [u8; DATAGRAM + 1];

pub(super) struct FtSocket {
    socket: Socket,
    /// To whom it sends.
    to: SockAddr,
    control: Vec<u8>,
}

impl FtSocket {
    pub(super) fn open(interface: &str, ifindex: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_multicast_if_v6(ifindex)?;
        socket.set_multicast_hops_v6(HOPS)?;
        socket.set_multicast_loop_v6(false)?;
        socket.set_tclass_v6(CLASS)?;
        socket.set_recv_hoplimit_v6(true)?;
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, PORT, 0, 0).into())?;
        socket.join_multicast_v6(&GROUP, ifindex)?;
        Ok(Self {
            socket,
            to: SocketAddrV6::new(GROUP, PORT, 0, ifindex).into(),
            control: nix::cmsg_space!(libc::c_int),
        })
    }

    /// The socket of a client or server VLAN. It can be had before the interface has the address.
    pub(super) fn open_data(path: &DataPath) -> io::Result<Self> {
        let is_v6 = path.own.is_ipv6();
        let domain = if is_v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        socket.bind_device(Some(path.interface.as_bytes()))?;
        if is_v6 {
            socket.set_only_v6(true)?;
            socket.set_unicast_hops_v6(HOPS)?;
            socket.set_tclass_v6(CLASS)?;
            socket.set_freebind_v6(true)?;
            socket.set_recv_hoplimit_v6(true)?;
        } else {
            socket.set_ttl_v4(HOPS)?;
            socket.set_tos_v4(CLASS)?;
            socket.set_freebind_v4(true)?;
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        }
        socket.bind(&SocketAddr::new(path.own, PORT).into())?;
        Ok(Self {
            socket,
            to: SocketAddr::new(path.peer, PORT).into(),
            control: nix::cmsg_space!(libc::c_int),
        })
    }

    /// Never waits; a full queue is an error like any other.
    pub(super) fn send(&self, datagram: &[u8; DATAGRAM]) -> io::Result<()> {
        self.socket.send_to(datagram, &self.to).map(drop)
    }

    /// The next datagram, if one is waiting. Errors of the socket (a port that is down) end the reading like emptiness.
    pub(super) fn receive(&mut self, buffer: &mut Buffer) -> Option<Datagram> {
        let mut parts = [io::IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let received = loop {
            match recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut self.control), MsgFlags::MSG_DONTWAIT)
            {
                Err(Errno::EINTR) => {}
                other => break other.ok()?,
            }
        };
        let hops = received.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::Ipv6HopLimit(hops) | ControlMessageOwned::Ipv4Ttl(hops) => {
                u8::try_from(hops).ok()
            }
            _ => None,
        });
        let source = received.address.and_then(|address| {
            let v6 = address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
            v6.or_else(|| address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip())))
        });
        let source = source.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        Some(Datagram { length: received.bytes, source, hops })
    }
}

impl AsFd for FtSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The socket to the witness, a host that the kernel's routes lead to.
pub(super) struct WitnessSocket {
    socket: UdpSocket,
    to: SocketAddr,
}

impl WitnessSocket {
    pub(super) fn open(to: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.set_nonblocking(true)?;
        let class = socket2::SockRef::from(&socket);
        match to {
            SocketAddr::V4(_) => class.set_tos_v4(CLASS)?,
            SocketAddr::V6(_) => class.set_tclass_v6(CLASS)?,
        }
        Ok(Self { socket, to })
    }

    /// Never waits; that there is no way to it is an error like any other.
    pub(super) fn send(&self, request: &[u8]) -> io::Result<()> {
        self.socket.send_to(request, self.to).map(drop)
    }

    /// Length of the next datagram, if one is waiting. From where it comes does not matter, for a host with several addresses
    /// may answer from any: the tag tells who speaks. An error that an earlier request came to ends the reading like emptiness.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        self.socket.recv(buffer).ok()
    }
}

impl AsFd for WitnessSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
