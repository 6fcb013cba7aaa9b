//! Routes that csmd tells routing daemons of: in a table of its own, which no rule of the kernel leads to.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};

use super::netlink::Netlink;

/// The table.
pub const TABLE: u8 = 201;
/// Who made them, as `ip route` shows it (RTPROT of linux/rtnetlink.h; below 192 are those of known daemons).
pub const PROTOCOL: u8 = 201;

/// The routes.
#[derive(Debug)]
pub struct Routes(Netlink);

impl Routes {
    /// # Errors
    /// If netlink cannot be had.
    pub fn open() -> io::Result<Self> {
        let netlink = Netlink::open()?;
        // So that the kernel tells of this table alone: others may have a million routes.
        netlink.ask_strictly()?;
        Ok(Self(netlink))
    }

    /// Networks that have a route out of the interface with that index.
    ///
    /// # Errors
    /// Of the requests.
    pub fn list(&mut self, ifindex: u32) -> io::Result<BTreeSet<IpNet>> {
        let mut found = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            (message.header.address_family, message.header.table) = (family, TABLE);
            let answers = match self.0.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP) {
                // No route of it was made yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                answers => answers?,
            };
            found.extend(answers.iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => read(route, ifindex),
                _ => None,
            }));
        }
        Ok(found)
    }

    /// Adds a route; one that is there is no error.
    ///
    /// # Errors
    /// Of the request.
    pub fn add(&mut self, ifindex: u32, network: IpNet) -> io::Result<()> {
        let request = RouteNetlinkMessage::NewRoute(message(ifindex, network));
        match self.0.request(request, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a route; a missing one is no error.
    ///
    /// # Errors
    /// Of the request.
    pub fn remove(&mut self, ifindex: u32, network: IpNet) -> io::Result<()> {
        let request = RouteNetlinkMessage::DelRoute(message(ifindex, network));
        match self.0.request(request, NLM_F_ACK) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }
}

fn message(ifindex: u32, network: IpNet) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, scope) = match network {
        IpNet::V4(_) => (AddressFamily::Inet, RouteScope::Link),
        IpNet::V6(_) => (AddressFamily::Inet6, RouteScope::Universe),
    };
    let header = &mut message.header;
    (header.address_family, header.scope) = (family, scope);
    (header.table, header.protocol) = (TABLE, RouteProtocol::Other(PROTOCOL));
    (header.kind, header.destination_prefix_length) = (RouteType::Unicast, network.prefix_len());
    message.attributes.extend([
        RouteAttribute::Destination(RouteAddress::from(network.network())),
        RouteAttribute::Oif(ifindex),
    ]);
    message
}

/// The network of one of csmd's routes.
fn read(message: &RouteMessage, ifindex: u32) -> Option<IpNet> {
    let header = &message.header;
    let is_ours = header.table == TABLE
        && header.protocol == RouteProtocol::Other(PROTOCOL)
        && message.attributes.contains(&RouteAttribute::Oif(ifindex));
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::from(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    });
    // The default route is said without one.
    let address = address.unwrap_or(match header.address_family {
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => IpAddr::from([0; 4]),
    });
    is_ours.then(|| IpNet::new(address, header.destination_prefix_length).ok()).flatten()
}
