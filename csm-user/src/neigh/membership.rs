//! The virtual MAC as an accepted address of a port: an entry in its unicast filter, held by a packet socket.
//!
//! `PACKET_MR_UNICAST` adds the address to the device's list of unicast addresses; a driver that has no such filter
//! goes promiscuous by itself (`__dev_set_rx_mode`). It lasts as long as the socket: also a crash takes it back.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use socket2::{Domain, Socket, Type};

/// How a port accepts the virtual MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// By an entry in its filter.
    Unicast,
    /// It takes all frames: it refused one, or must.
    Promiscuous,
}

/// The entry; dropping it takes it back.
#[derive(Debug)]
pub struct Membership {
    /// How the port accepts the address.
    pub accepts: Accepts,
    _socket: OwnedFd,
}

impl Membership {
    /// Has interface `ifindex` accept frames to `mac`.
    ///
    /// # Errors
    /// If no packet socket can be had, or the port takes neither the entry nor promiscuous mode.
    pub fn new(ifindex: u32, mac: [u8; 6]) -> io::Result<Self> {
        let socket = socket()?;
        let accepts = match join(&socket, ifindex, libc::PACKET_MR_UNICAST, mac) {
            Ok(()) => Accepts::Unicast,
            Err(_) => {
                join(&socket, ifindex, libc::PACKET_MR_PROMISC, [0; 6])?;
                Accepts::Promiscuous
            }
        };
        Ok(Self { accepts, _socket: socket })
    }

    /// Has interface `ifindex` accept all frames: a trunk, whose driver may else filter the VLANs that the kernel has no
    /// device for.
    ///
    /// # Errors
    /// If no packet socket can be had, or the port refuses.
    pub fn promiscuous(ifindex: u32) -> io::Result<Self> {
        let socket = socket()?;
        join(&socket, ifindex, libc::PACKET_MR_PROMISC, [0; 6])?;
        Ok(Self { accepts: Accepts::Promiscuous, _socket: socket })
    }
}

/// Protocol 0: the socket receives nothing.
fn socket() -> io::Result<OwnedFd> {
    Ok(Socket::new(Domain::PACKET, Type::RAW, None)?.into())
}

fn join(socket: &OwnedFd, ifindex: u32, kind: libc::c_int, mac: [u8; 6]) -> io::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&mac);
    let request = libc::packet_mreq {
        mr_ifindex: i32::try_from(ifindex).map_err(io::Error::other)?,
        mr_type: u16::try_from(kind).map_err(io::Error::other)?,
        mr_alen: 6,
        mr_address: address,
    };
    let length = libc::socklen_t::try_from(size_of_val(&request)).map_err(io::Error::other)?;
    // SAFETY: the option takes a `packet_mreq`, which lives through the call, with its length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            std::ptr::from_ref(&request).cast(),
            length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
