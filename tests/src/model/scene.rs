//! The network that the model stands in: plain lists, searched from the start.

use std::net::{IpAddr, Ipv6Addr};

use super::out::Name;
use super::table::Key;

/// A host or network: address and the bits of it that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net(pub IpAddr, pub u8);

impl Net {
    /// One address.
    #[must_use]
    pub const fn host(ip: IpAddr) -> Self {
        Self(ip, if ip.is_ipv4() { 32 } else { 128 })
    }

    /// Whether `ip` is of it.
    #[must_use]
    pub fn holds(self, ip: IpAddr) -> bool {
        let bits = |octets: &[u8]| {
            let all: Vec<bool> =
                octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1)).collect();
            all[..usize::from(self.1)].to_vec()
        };
        match (self.0, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => bits(&net.octets()) == bits(&ip.octets()),
            (IpAddr::V6(net), IpAddr::V6(ip)) => bits(&net.octets()) == bits(&ip.octets()),
            _ => false,
        }
    }

    /// `ip` without the bits that do not count.
    #[must_use]
    pub fn mask(ip: IpAddr, bits: u8) -> IpAddr {
        let cut = |octets: &mut [u8]| {
            for (index, octet) in octets.iter_mut().enumerate() {
                let kept = usize::from(bits).saturating_sub(index * 8).min(8);
                *octet &= u8::try_from(0xff00_u32 >> kept & 0xff).expect("an octet");
            }
        };
        match ip {
            IpAddr::V4(ip) => {
                let mut octets = ip.octets();
                cut(&mut octets);
                octets.into()
            }
            IpAddr::V6(ip) => {
                let mut octets = ip.octets();
                cut(&mut octets);
                octets.into()
            }
        }
    }
}

/// Both ends of a tunnel; port 0: IP in IP, else GUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Source of what leaves.
    pub local: IpAddr,
    /// Where it goes.
    pub remote: IpAddr,
    /// UDP port.
    pub port: u16,
}

/// A neighbour that packets leave to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its number in the program's list.
    pub number: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The VLAN it is on.
    pub vlan: u16,
    /// Longest IP packet that goes there.
    pub mtu: u16,
    /// Its MAC address is known.
    pub resolved: bool,
    /// What goes there is put into another packet.
    pub tunnel: Option<Tunnel>,
}

/// Where a network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// On the VLAN itself.
    Connected(u16),
    /// Behind that hop.
    Via(u32),
}

/// A real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Real {
    /// Its number in the program's list.
    pub number: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its port; 0: the virtual server's.
    pub port: u16,
    /// Hop that leads to it.
    pub hop: u32,
}

/// Addresses and ports to give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its number in the program's list.
    pub number: u32,
    /// The first address.
    pub first: IpAddr,
    /// How many.
    pub addresses: u8,
    /// First port.
    pub port: u16,
    /// How many.
    pub ports: u16,
}

/// How a virtual server forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To the real's address.
    Nat,
    /// To the real's MAC address or through its tunnel; it owns the virtual address.
    Dispatch,
    /// To where the packet wants to go.
    Forward,
}

/// Which real a new connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// In turn.
    Turn,
    /// The same for the same client.
    Hash,
    /// The one with the fewest connections for its weight; of equals the next in turn.
    Least([u8; 3]),
    /// That of the network (so many bits) before, else in turn; shared by the group.
    Sticky {
        /// Group of virtual servers.
        group: u32,
        /// Bits of the address that count.
        bits: u8,
        /// Which address that is.
        by: By,
    },
}

/// What stickiness goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The client's address.
    Source,
    /// The one that it speaks to.
    Destination,
    /// Both: one key of 16 octets, of IPv6 the first half of each.
    Both,
}

impl By {
    /// The key of a connection between `client` and the address that it speaks to, of which so many bits count.
    #[must_use]
    pub fn key(self, bits: u8, client: IpAddr, to: IpAddr) -> Option<IpAddr> {
        let [client, to] = [client, to].map(|ip| Net::mask(ip, bits));
        Some(match (self, client, to) {
            (Self::Source, ..) => client,
            (Self::Destination, ..) => to,
            (Self::Both, IpAddr::V4(client), IpAddr::V4(to)) => {
                let pair = u128::from(client.to_bits()) << 32 | u128::from(to.to_bits());
                Ipv6Addr::from_bits(0x100_u128 << 112 | pair).into()
            }
            (Self::Both, IpAddr::V6(client), IpAddr::V6(to)) => {
                Ipv6Addr::from_bits(client.to_bits() >> 64 << 64 | to.to_bits() >> 64).into()
            }
            (Self::Both, ..) => return None,
        })
    }
}

/// `reverse-sticky`: where connections are entered for those that servers open to their clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reverse {
    /// Sticky group of those.
    pub group: u32,
    /// Bits of the address that count.
    pub bits: u8,
    /// Which address that is.
    pub by: By,
    /// The reals that a packet may have come by.
    pub senders: Vec<Real>,
}

impl Choice {
    /// What sticks of a connection between `client` and the address that it speaks to: group and network.
    #[must_use]
    pub fn sticks(self, client: IpAddr, to: IpAddr) -> Option<(u32, IpAddr)> {
        let Self::Sticky { group, bits, by } = self else { return None };
        Some((group, by.key(bits, client, to)?))
    }
}

/// What becomes of the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It stays.
    Own,
    /// One of that pool.
    Pool(u32),
    /// As `static` says.
    Static,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its number in the program's list.
    pub number: u32,
    /// Address or network.
    pub net: Net,
    /// IP protocol; 0: any.
    pub proto: u8,
    /// Port; 0: any.
    pub port: u16,
    /// Only packets of this VLAN.
    pub vlan: Option<u16>,
    /// Only these clients.
    pub clients: Option<Net>,
    /// Clients with a connection to its port may open others of this protocol, to any port from 1024 on: TCP by `service ftp`,
    /// UDP by `service rtsp`.
    pub data: Option<u8>,
    /// See there.
    pub mode: Mode,
    /// The reals in their turn.
    pub ring: Vec<Real>,
    /// See there.
    pub choice: Choice,
    /// See there.
    pub reverse: Option<Reverse>,
    /// See there.
    pub source: Source,
    /// The servers' packets may go past.
    pub unidirectional: bool,
    /// In service.
    pub in_service: bool,
    /// What is written into its clients' packets.
    pub dscp: Option<u8>,
    /// Connections that it may have at once; 0: any number.
    pub max: u32,
    /// Whose it is, by the number where its connections are counted, and how many that one may have.
    pub owner: Option<(u32, u32)>,
}

/// Where a server's packet that belongs to no known connection comes from, and so whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The server's address and port; 0: any from 1024 on.
    pub at: Name,
    /// Of data connections of this protocol that the server opens itself: FTP's active mode, RTSP's media.
    pub data: Option<u8>,
    /// Number of the virtual server.
    pub service: u32,
    /// The real.
    pub real: Real,
    /// What the client knows it by.
    pub virtual_server: Name,
}

/// What `static` says of a host's own connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Static {
    /// Their source is of that pool.
    Pool(u32),
    /// They are not allowed.
    Drop,
}

/// Both data VLANs are one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// MAC address of the node on it.
    pub mac: [u8; 6],
    /// The node's own addresses.
    pub own: [IpAddr; 2],
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// Both data VLANs and the FT VLAN are on one port, tagged.
    pub trunk: bool,
    /// See there.
    pub bridge: Option<Bridge>,
    /// MAC address of the FT port.
    pub ft_mac: [u8; 6],
    /// MAC addresses of the ports of VLANs 2 and 3.
    pub own_macs: [[u8; 6]; 2],
    /// Longest IP packet that the FT port sends.
    pub ft_mtu: u16,
    /// The group's addresses, by VLAN.
    pub addresses: Vec<(IpAddr, u16)>,
    /// Whose address ICMP errors come from, by VLAN.
    pub error_sources: Vec<(IpAddr, u16)>,
    /// See there.
    pub hops: Vec<Hop>,
    /// Hosts that were heard of, by VLAN, and their hops.
    pub neighbours: Vec<(IpAddr, u16, u32)>,
    /// See there.
    pub routes: Vec<(Net, Way)>,
    /// See there.
    pub services: Vec<Service>,
    /// See there.
    pub origins: Vec<Origin>,
    /// See there.
    pub pools: Vec<Pool>,
    /// See there.
    pub statics: Vec<(Net, Static)>,
}

impl Scene {
    /// One of the group's addresses on `vlan`.
    #[must_use]
    pub fn is_ours(&self, ip: IpAddr, vlan: u16) -> bool {
        self.addresses.contains(&(ip, vlan))
    }

    /// The hop with that number.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn hop(&self, number: u32) -> &Hop {
        self.hops.iter().find(|hop| hop.number == number).expect("a hop")
    }

    /// The most specific way to `ip`, and the VLAN it leads out of.
    #[must_use]
    pub fn way(&self, ip: IpAddr) -> Option<(Way, u16)> {
        let (_, way) = self.routes.iter().filter(|(net, _)| net.holds(ip)).max_by_key(|(net, _)| net.1)?;
        let vlan = match way {
            Way::Connected(vlan) => *vlan,
            Way::Via(hop) => self.hop(*hop).vlan,
        };
        Some((*way, vlan))
    }

    /// The hop on that way to `ip`, if there is one.
    #[must_use]
    pub fn next(&self, way: Way, ip: IpAddr) -> Option<u32> {
        match way {
            Way::Via(hop) => Some(hop),
            Way::Connected(vlan) => {
                self.neighbours.iter().find(|near| (near.0, near.1) == (ip, vlan)).map(|near| near.2)
            }
        }
    }

    /// The most specific virtual server for who sends under `key`, but for FTP's data connections and RTSP's media.
    #[must_use]
    pub fn service(&self, key: &Key) -> Option<&Service> {
        let port = if matches!(key.proto, 6 | 17) { key.dport } else { 0 };
        let fits = |service: &&Service| {
            service.net.holds(key.dst)
                && (service.proto == 0 || service.proto == key.proto)
                && (service.port == 0 || service.port == port)
                && service.vlan.is_none_or(|vlan| vlan == key.vlan)
                && service.clients.is_none_or(|clients| clients.holds(key.src))
        };
        self.services.iter().filter(fits).max_by_key(|service| {
            let clients = service.clients.map_or(0, |clients| clients.1);
            (service.net.1, service.port != 0, service.proto != 0, service.vlan.is_some(), clients)
        })
    }

    /// The virtual server with that number.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn numbered(&self, number: u32) -> &Service {
        self.services.iter().find(|service| service.number == number).expect("a virtual server")
    }

    /// Whose TCP connection a packet from there belongs to.
    #[must_use]
    pub fn origin(&self, at: Name) -> Option<&Origin> {
        self.origins.iter().find(|origin| (origin.at, origin.data) == (at, None))
    }

    /// Whose data connection a server opens under `key`, if its client has a control connection there, and the source that it gets:
    /// FTP's from one port (RFC 959, section 3.2), RTSP's media from any, which stays, to any, none of them below 1024.
    #[must_use]
    pub fn data_origin(&self, key: &Key) -> Option<(&Origin, Name)> {
        let of = |origin: &&Origin| {
            let (ip, port) = origin.at;
            let fits = if port == 0 { key.sport.min(key.dport) >= 1024 } else { port == key.sport };
            (ip, origin.data) == (key.src, Some(key.proto)) && fits
        };
        let origin = self.origins.iter().find(of)?;
        let (ip, port) = origin.virtual_server;
        Some((origin, (ip, if port == 0 { key.sport } else { port })))
    }

    /// What `static` says of who opens a connection from `ip`.
    #[must_use]
    pub fn statics_of(&self, ip: IpAddr) -> Option<Static> {
        let found = self.statics.iter().filter(|(net, _)| net.holds(ip));
        found.max_by_key(|(net, _)| net.1).map(|(_, what)| *what)
    }

    /// The pool with that number.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn pool(&self, number: u32) -> &Pool {
        self.pools.iter().find(|pool| pool.number == number).expect("a pool")
    }
}

impl Pool {
    /// Whether that source is of it; protocols without ports keep their own.
    #[must_use]
    pub fn gives(&self, (ip, port): (IpAddr, u16), proto: u8, own: u16) -> bool {
        let given = (0..self.addresses).any(|index| plus(self.first, index) == ip);
        let fits = if matches!(proto, 6 | 17) {
            (self.port..self.port + self.ports).contains(&port)
        } else {
            port == own
        };
        given && fits
    }
}

/// The address so many after `ip`, which does not carry.
#[must_use]
pub fn plus(ip: IpAddr, by: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mut octets = ip.octets();
            octets[3] += by;
            octets.into()
        }
        IpAddr::V6(ip) => {
            let mut octets = ip.octets();
            octets[15] += by;
            octets.into()
        }
    }
}

/// An address that one host may have: not of "this network", loopback, multicast or reserved; of IPv6 none that holds an
/// IPv4 address.
#[must_use]
pub fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !matches!(ip.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(ip) => {
            let holds_v4 = ip.segments()[..5] == [0; 5] && matches!(ip.segments()[5], 0 | 0xffff);
            !holds_v4 && !ip.is_multicast()
        }
    }
}
