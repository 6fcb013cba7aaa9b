//! The UDP socket of the FT VLAN: link-local IPv6, all-nodes multicast, bound to one interface, hop limit 255.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::ft::wire::LENGTH;

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
    pub(super) source: Ipv6Addr,
    pub(super) hops: Option<u8>,
}

/// Longer than a message by one byte, so that too long a datagram shows.
pub(super) type Buffer = [u8; LENGTH + 1];

pub(super) struct FtSocket {
    socket: Socket,
    group: SockAddr,
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
            group: SocketAddrV6::new(GROUP, PORT, 0, ifindex).into(),
            control: nix::cmsg_space!(libc::c_int),
        })
    }

    /// Never waits; a full queue is an error like any other.
    pub(super) fn send(&self, message: &[u8; LENGTH]) -> io::Result<()> {
        self.socket.send_to(message, &self.group).map(drop)
    }

    /// The next datagram, if one is waiting. Errors of the socket (a port that is down) end the reading like emptiness.
    pub(super) fn receive(&mut self, buffer: &mut Buffer) -> Option<Datagram> {
        let mut parts = [io::IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let received = loop {
            match recvmsg::<SockaddrIn6>(fd, &mut parts, Some(&mut self.control), MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EINTR) => {}
                other => break other.ok()?,
            }
        };
        let hops = received.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::Ipv6HopLimit(hops) => u8::try_from(hops).ok(),
            _ => None,
        });
        let source = received.address.map_or(Ipv6Addr::UNSPECIFIED, |address| address.ip());
        Some(Datagram { length: received.bytes, source, hops })
    }
}

impl AsFd for FtSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
