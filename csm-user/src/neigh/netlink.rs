//! rtnetlink: interfaces, addresses and neighbours.
//!
//! A plain socket asked from a plain thread: each request is answered at once by the kernel, what is queued is bounded
//! by the socket's buffer, and an overflow is reported (`ENOBUFS`) instead of growing a queue.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use netlink_packet_route::link::{InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::table::Discovery;

/// Marks the addresses that csmd gives (IFA_PROTO, kernel 5.18: 47f0bd503210), as `ip addr` shows: those of a killed one
/// are known by it.
const MARK: AddressProtocol = AddressProtocol::Other(0xc5);

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// MAC address; zero if it has none.
    pub mac: [u8; 6],
    /// Administratively up.
    pub up: bool,
    /// Carrier present.
    pub carrier: bool,
    /// Largest packet, octets.
    pub mtu: u32,
}

impl Link {
    /// The MTU as far as an IPv4 packet can need it.
    #[must_use]
    pub fn ip_mtu(&self) -> u16 {
        u16::try_from(self.mtu).unwrap_or(u16::MAX)
    }
}

/// What the kernel told without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A neighbour's state.
    Neighbour(u32, IpAddr, Discovery),
    /// An interface's state.
    Link(Link),
    /// An interface is gone.
    LinkGone(u32),
}

/// A socket for requests.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").field("fd", &self.socket.as_raw_fd()).finish_non_exhaustive()
    }
}

impl Netlink {
    /// # Errors
    /// Of the system calls.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Has the kernel heed what a dump asks for (NETLINK_GET_STRICT_CHK, Linux 4.20), not only its kind.
    ///
    /// # Errors
    /// Of the system call.
    pub(super) fn ask_strictly(&self) -> io::Result<()> {
        self.socket.set_netlink_get_strict_chk(true)
    }

    /// The interface called `name`.
    ///
    /// # Errors
    /// Of the request; a missing interface is `Ok(None)`.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.request(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(read_link(&link)),
                _ => None,
            })),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All interfaces.
    ///
    /// # Errors
    /// Of the request.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers = self.request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let links = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(read_link(link)),
            _ => None,
        });
        Ok(links.collect())
    }

    /// The interfaces that are bonded into the one with that index: a program attached to a bond runs on them, and sees theirs
    /// as the interface that a frame came in by.
    ///
    /// # Errors
    /// Of the request.
    pub fn bonded(&mut self, ifindex: u32) -> io::Result<Vec<Link>> {
        let answers = self.request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let is_its = |link: &LinkMessage| {
            let of_bond = |info: &LinkInfo| matches!(info, LinkInfo::PortKind(InfoPortKind::Bond));
            link.attributes.contains(&LinkAttribute::Controller(ifindex))
                && link.attributes.iter().any(
                    |attribute| matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.iter().any(of_bond)),
                )
        };
        let links = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) if is_its(link) => Some(read_link(link)),
            _ => None,
        });
        Ok(links.collect())
    }

    /// Sets the interface administratively up.
    ///
    /// # Errors
    /// Of the request.
    pub fn set_up(&mut self, ifindex: u32) -> io::Result<()> {
        self.set_flags(ifindex, LinkFlags::Up)
    }

    /// Sets the interface administratively down.
    ///
    /// # Errors
    /// Of the request.
    pub fn set_down(&mut self, ifindex: u32) -> io::Result<()> {
        self.set_flags(ifindex, LinkFlags::empty())
    }

    fn set_flags(&mut self, ifindex: u32, flags: LinkFlags) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.flags = flags;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }

    /// The interface's addresses, IPv4 and IPv6.
    ///
    /// # Errors
    /// Of the request.
    pub fn addresses(&mut self, ifindex: u32) -> io::Result<Vec<IpNet>> {
        let dump = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.request(dump, NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(address) if address.header.index == ifindex => {
                    read_address(&address)
                }
                _ => None,
            })
            .collect())
    }

    /// Gives the interface an address; false if it had it.
    ///
    /// # Errors
    /// Of the request.
    pub fn add_address(&mut self, ifindex: u32, address: IpNet) -> io::Result<bool> {
        let message = address_message(ifindex, address);
        let request = RouteNetlinkMessage::NewAddress(message);
        match self.request(request, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True if the interface has `address` and csmd gave it (never true on kernels before 5.18, which keep no mark).
    ///
    /// # Errors
    /// Of the request.
    pub fn bears_mark(&mut self, ifindex: u32, address: IpNet) -> io::Result<bool> {
        let dump = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.request(dump, NLM_F_DUMP)?;
        Ok(answers.iter().any(|answer| match answer {
            RouteNetlinkMessage::NewAddress(known) => {
                known.header.index == ifindex
                    && read_address(known) == Some(address)
                    && known.attributes.contains(&AddressAttribute::Protocol(MARK))
            }
            _ => false,
        }))
    }

    /// Takes an address from the interface; false if it did not have it.
    ///
    /// # Errors
    /// Of the request.
    pub fn remove_address(&mut self, ifindex: u32, address: IpNet) -> io::Result<bool> {
        let message = address_message(ifindex, address);
        match self.request(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the kernel look for a neighbour. `managed`: for ever, at the interval of `base_reachable_time` and
    /// `interval_probe_time_ms` (kernel 5.16: 7482e3841d52); otherwise once, as if a packet were sent (`NTF_USE`).
    ///
    /// # Errors
    /// Of the request.
    pub fn resolve(&mut self, ifindex: u32, address: IpAddr, managed: bool) -> io::Result<()> {
        let mut message = neighbour_message(ifindex, address);
        if managed {
            message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        } else {
            message.header.flags = NeighbourFlags::Use;
        }
        let request = RouteNetlinkMessage::NewNeighbour(message);
        self.request(request, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Has the kernel send frames for a neighbour to `mac`, and ask nobody.
    ///
    /// # Errors
    /// Of the request.
    pub fn pin(&mut self, ifindex: u32, address: IpAddr, mac: [u8; 6]) -> io::Result<()> {
        let mut message = neighbour_message(ifindex, address);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let request = RouteNetlinkMessage::NewNeighbour(message);
        self.request(request, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Lets the kernel forget a neighbour; a missing one is no error.
    ///
    /// # Errors
    /// Of the request.
    pub fn forget(&mut self, ifindex: u32, address: IpAddr) -> io::Result<()> {
        let request = RouteNetlinkMessage::DelNeighbour(neighbour_message(ifindex, address));
        match self.request(request, NLM_F_ACK) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All neighbours the kernel knows, IPv4 and IPv6.
    ///
    /// # Errors
    /// Of the request.
    pub fn neighbours(&mut self) -> io::Result<Vec<Notice>> {
        let message = NeighbourMessage::default();
        let answers = self.request(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP)?;
        Ok(answers.iter().filter_map(translate).collect())
    }

    /// Sends `message` and collects the answers up to the end or the acknowledgement.
    pub(super) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let many = flags & (NLM_F_DUMP | NLM_F_ACK) != 0;
        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for message in messages(&bytes) {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(answer) => {
                        answers.push(answer);
                        if !many {
                            return Ok(answers);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// A socket that hears of links and neighbours; it does not block.
pub(super) struct Monitor(Socket);

impl Monitor {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let groups = 1 << (libc::RTNLGRP_LINK - 1) | 1 << (libc::RTNLGRP_NEIGH - 1);
        socket.bind(&SocketAddr::new(0, groups))?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }

    /// What has come; empty when there is nothing. `ENOBUFS`: something was lost.
    pub(super) fn read(&self) -> io::Result<Vec<Notice>> {
        match self.0.recv_from_full() {
            Ok((bytes, from)) if from.port_number() == 0 => Ok(messages(&bytes)
                .filter_map(|message| match message.payload {
                    NetlinkPayload::InnerMessage(inner) => translate(&inner),
                    _ => None,
                })
                .collect()),
            // Only the kernel's word counts.
            Ok(_) => Ok(Vec::new()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// The messages in a datagram; one that cannot be read is passed over.
fn messages(bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        if length < 16 || length > rest.len() {
            return None;
        }
        let message = NetlinkMessage::deserialize(&rest[..length]);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
    .filter_map(Result::ok)
}

fn translate(message: &RouteNetlinkMessage) -> Option<Notice> {
    match message {
        RouteNetlinkMessage::NewNeighbour(neighbour) => read_neighbour(neighbour, false),
        RouteNetlinkMessage::DelNeighbour(neighbour) => read_neighbour(neighbour, true),
        // A bridge's word on its member is about the member's forwarding state only.
        RouteNetlinkMessage::NewLink(link) if link.header.interface_family == AddressFamily::Unspec => {
            Some(Notice::Link(read_link(link)))
        }
        RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
            Some(Notice::LinkGone(link.header.index))
        }
        _ => None,
    }
}

fn read_neighbour(message: &NeighbourMessage, gone: bool) -> Option<Notice> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => <[u8; 6]>::try_from(mac.as_slice()).ok(),
        _ => None,
    });
    let state = match (message.header.state, mac) {
        _ if gone => Discovery::Forgotten,
        (NeighbourState::Failed, _) => Discovery::Failed,
        (NeighbourState::Incomplete | NeighbourState::None, _) | (_, None) => Discovery::Asking,
        (_, Some(mac)) => Discovery::Known(mac),
    };
    Some(Notice::Neighbour(message.header.ifindex, address, state))
}

pub(super) fn read_link(message: &LinkMessage) -> Link {
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        mac: [0; 6],
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        mtu: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
            _ => {}
        }
    }
    link
}

fn read_address(message: &AddressMessage) -> Option<IpNet> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    // Of a point-to-point address IFA_ADDRESS is the peer's; IFA_LOCAL, where present, is ours.
    let address = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
    .or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    IpNet::new(address, message.header.prefix_len).ok()
}

fn address_message(ifindex: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = ifindex;
    message.header.prefix_len = address.prefix_len();
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message.attributes.push(AddressAttribute::Protocol(MARK));
    match address {
        IpNet::V4(net) => {
            message.header.family = AddressFamily::Inet;
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        IpNet::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            // Duplicate address detection would keep the address unusable for a second or two.
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

fn neighbour_message(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let (family, address) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message.header.ifindex = ifindex;
    message.header.state = NeighbourState::None;
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

#[cfg(test)]
mod tests {
    use super::messages;

    #[test]
    fn a_broken_datagram_ends_the_reading() {
        assert_eq!(messages(&[]).count(), 0);
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(messages(&[0xff; 64]).count(), 0);
    }
}
