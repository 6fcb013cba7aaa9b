//! The validated configuration: plain nouns whose types carry the ranges. Pure.
//!
//! Made only by `config::validate`, printed by `config::print`; read by the planner, the election, the probes and the
//! renderers. Nothing here is node-local except what the configuration itself says.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

mod advertise;
mod arp;
pub mod change;
mod family;
mod host;
mod identity;
mod inband;
mod lease;
mod limit;
mod name;
mod named;
mod natpool;
mod owner;
mod policy;
mod port;
mod probe;
mod router;
mod secret;
mod service;
mod statics;
mod sticky;
mod track;
mod variable;
mod vmac;

pub use advertise::{Advertise, Told};
pub use arp::{StaticArp, host_mac, written_mac};
pub use family::{Family, prefix_mask, prefix_mask6};
pub use host::{Encapsulation, Host, Tunnel};
pub use identity::{StableId, fnv1a};
pub use inband::InbandHealth;
pub use limit::{Backup, ClientRateLimit, ConnectionLimit, RateLimit, RateLimits, Threshold};
pub use name::{NAME_MAX, Name, VlanId};
pub use named::{BackupReal, Failaction, NamedReal};
pub use natpool::Natpool;
pub use owner::Owner;
pub use policy::{AccessLine, AccessList, Face, NUMBERED_MAX, Policy};

pub use port::{
    CHANNELS_MAX, Carried, ChannelMode, ChannelPort, Interface, PortMode, Trunk, VlanSet, XdpMode,
    channel_name, channel_of_name, veth_names,
};
pub use probe::{Probe, ProbeKind, Question};
pub use router::{
    RouterInterface, RouterRoute, StandbyAddress, StandbyAddress6, StandbyGroup, StandbyRun, StandbyTrack,
    vlan_of_name,
};
pub use secret::{FtKeys, KEY_MAX, Secret};
pub use service::Service;
pub use statics::{NatClient, Static, StaticAction};
pub use sticky::{PAIRED_BITS6, StaticSticky, Sticky, StickyAddress, StickyGroup, counted_bits6};
pub use track::{TrackMode, TrackedFarm, TrackedGateway, TrackedGroup, TrackedVrrp, Tracking};
pub use variable::Variables;
pub use vmac::Vmac;

pub use lease::{
    CLOCK_ERROR, FAILOVER_MIN_WITHOUT_REALTIME, HEARTBEATS_MIN, Lease, LeaseError, MARGIN, WITNESSED_MAX,
    lease, smallest_failover,
};

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `module csm N`; the default of the seed's listings is 5.
    pub slot: u8,
    /// `interface NAME` with its `switchport` lines.
    pub interfaces: Vec<Interface>,
    /// `interface` lines of this host as a router.
    pub router: Vec<RouterInterface>,
    /// `ip route`, `ipv6 route`.
    pub routes: Vec<RouterRoute>,
    /// `vlan N client|server`.
    pub vlans: Vec<Vlan>,
    /// `arp A MAC vlan N`.
    pub arps: Vec<StaticArp>,
    /// `variable NAME VALUE`.
    pub variables: Variables,
    /// `probe NAME TYPE`.
    pub probes: Vec<Probe>,
    /// `natpool NAME FIRST LAST netmask M`, or `prefix-length L`.
    pub natpools: Vec<Natpool>,
    /// `static drop|nat virtual|nat A`.
    pub statics: Vec<Static>,
    /// `real NAME`.
    pub named_reals: Vec<NamedReal>,
    /// `serverfarm NAME`.
    pub serverfarms: Vec<Serverfarm>,
    /// `access-list N`, `ip access-list standard NAME`, `ipv6 access-list NAME`: the numbered ones first, IPv6 last.
    pub access_lists: Vec<AccessList>,
    /// `sticky N ...`.
    pub sticky_groups: Vec<StickyGroup>,
    /// `policy NAME`.
    pub policies: Vec<Policy>,
    /// `owner NAME`.
    pub owners: Vec<Owner>,
    /// `vserver NAME`.
    pub vservers: Vec<Vserver>,
    /// `ft group N vlan M`.
    pub ft: Option<FtGroup>,
}

/// What is behind a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VlanRole {
    /// Clients and upstream routers.
    Client,
    /// Servers.
    Server,
}

/// `vlan N client|server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Number.
    pub id: VlanId,
    /// Client or server side.
    pub role: VlanRole,
    /// `ip address A M`: this node's own address and its network.
    pub address: Option<Ipv4Net>,
    /// `alt A M`: the peer's own address, used by config-sync.
    pub alt_address: Option<Ipv4Net>,
    /// `alias A M`.
    pub alias: Option<Ipv4Net>,
    /// `ipv6 address A/L`: this node's own IPv6 address and its network.
    pub address6: Option<Ipv6Net>,
    /// `alt A/L`: the peer's.
    pub alt_address6: Option<Ipv6Net>,
    /// `alias A/L`.
    pub alias6: Option<Ipv6Net>,
    /// `gateway A`, of either family.
    pub gateways: Vec<IpAddr>,
    /// `route N M gateway A` and `route N/L gateway A`.
    pub routes: Vec<StaticRoute>,
    /// `vmac`.
    pub vmac: Vmac,
}

impl Vlan {
    /// A VLAN without addresses.
    #[must_use]
    pub const fn new(id: VlanId, role: VlanRole) -> Self {
        Self {
            id,
            role,
            address: None,
            alt_address: None,
            alias: None,
            address6: None,
            alt_address6: None,
            alias6: None,
            gateways: Vec::new(),
            routes: Vec::new(),
            vmac: Vmac::Auto,
        }
    }

    /// This node's own address in `family`.
    #[must_use]
    pub fn own(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::V4 => self.address.map(IpNet::V4),
            Family::V6 => self.address6.map(IpNet::V6),
        }
    }

    /// The peer's.
    #[must_use]
    pub fn peer(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::V4 => self.alt_address.map(IpNet::V4),
            Family::V6 => self.alt_address6.map(IpNet::V6),
        }
    }

    /// The pair's floating address.
    #[must_use]
    pub fn alias(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::V4 => self.alias.map(IpNet::V4),
            Family::V6 => self.alias6.map(IpNet::V6),
        }
    }
}

/// `route N M gateway A`, or `route N/L gateway A`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticRoute {
    /// Destination.
    pub network: IpNet,
    /// Next hop, of the same family.
    pub gateway: IpAddr,
}

/// `serverfarm NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serverfarm {
    /// Name.
    pub name: Name,
    /// `probe NAME`, several: all must pass.
    pub probes: Vec<Name>,
    /// `predictor ...`: how a real is chosen, default round robin.
    pub predictor: Predictor,
    /// `nat server`, the default; `no nat server` is dispatch mode.
    pub nat_server: bool,
    /// `nat client NAME|static`: clients get another address.
    pub nat_client: Option<NatClient>,
    /// `encapsulation ipip|gue`: packets reach the reals inside of others; `None`: by the reals' MAC addresses.
    pub encapsulation: Option<Encapsulation>,
    /// `failaction ...`: what becomes of the connections of a real that fails; `None`: they stay.
    pub failaction: Option<Failaction>,
    /// `health retries N failed S`.
    pub health: Option<InbandHealth>,
    /// `real A [PORT]`.
    pub reals: Vec<Real>,
}

impl Serverfarm {
    /// An empty farm with the defaults.
    #[must_use]
    pub const fn new(name: Name) -> Self {
        Self {
            name,
            probes: Vec::new(),
            predictor: Predictor::RoundRobin,
            nat_server: true,
            nat_client: None,
            encapsulation: None,
            failaction: None,
            health: None,
            reals: Vec::new(),
        }
    }

    /// Whether `real`, one of it, is checked with the probe `name`.
    #[must_use]
    pub fn checks(&self, real: &Real, name: &Name) -> bool {
        self.probes.contains(name) || real.probes.contains(name)
    }

    /// Whether a real of it has a limit.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.reals.iter().any(|real| real.limit.max.is_some())
    }

    /// Whether connections of its reals are counted as they come and go.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.is_limited() || matches!(self.predictor, Predictor::LeastConns { .. })
    }
}

/// How a real of a farm is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Predictor {
    /// `roundrobin`: in turn, by weight.
    RoundRobin,
    /// `hash address [MASK | prefix-length L] [source|destination]`: by the addresses under the mask; weights do not
    /// count.
    Hash {
        /// Leading bits of an IPv4 address that count, 0–32; default 32.
        bits: u8,
        /// Of an IPv6 address, 0–128; default 128.
        bits6: u8,
        /// The client's address counts.
        source: bool,
        /// The virtual address counts.
        destination: bool,
    },
    /// `leastconns [slowstart S]`: the real with the fewest connections for its weight.
    LeastConns {
        /// Seconds in which a real that comes into rotation gets up to its share, 1–65535; 0: at once.
        slowstart_s: u16,
    },
    /// `forward`: no real, the packet is routed.
    Forward,
}

/// `real A [PORT]` in a farm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Real {
    /// Address, of the farm's family.
    pub address: IpAddr,
    /// Port; `None`: the virtual server's.
    pub port: Option<u16>,
    /// `weight N`: 0–100, default 8; 0 takes no new connections.
    pub weight: u8,
    /// `maxconns N`, `minconns N`.
    pub limit: ConnectionLimit,
    /// `inservice`.
    pub admin: RealAdmin,
    /// `health probe NAME`, several: beside those of the farm.
    pub probes: Vec<Name>,
    /// `real name NAME`: it has the address of that real of the module; `None`: it is named by its address.
    pub name: Option<Name>,
    /// `backup real A [PORT]`: the one of its farm that stands in for it.
    pub backup: Option<BackupReal>,
}

/// Administrative state of a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealAdmin {
    /// `inservice`.
    InService,
    /// `inservice standby`: new connections only while a real that it stands in for takes none; sticky clients keep coming.
    Standby,
    /// `no inservice` (the default): existing connections go on, no new ones.
    OutOfService,
}

/// What a vserver matches of a packet's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// `any`.
    Any,
    /// `tcp`, `udp` or an IP protocol number, 0–255.
    Number(u8),
}

impl Protocol {
    /// TCP's number.
    pub const TCP_NUMBER: u8 = 6;
    /// `tcp`.
    pub const TCP: Self = Self::Number(Self::TCP_NUMBER);
    /// `udp`.
    pub const UDP: Self = Self::Number(17);

    /// Whether it has ports that are balanced and translated.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Number(6 | 17))
    }
}

/// As a configuration writes it.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.pad("any"),
            Self::Number(6) => f.pad("tcp"),
            Self::Number(17) => f.pad("udp"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// `vserver NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vserver {
    /// Name.
    pub name: Name,
    /// `virtual A [M] PROTOCOL PORT`; `None` until given, and then out of service.
    pub virtual_server: Option<Virtual>,
    /// `serverfarm NAME`; `None`: out of service, with a warning (Figure 7-1).
    pub serverfarm: Option<Name>,
    /// `serverfarm NAME backup NAME [sticky]`.
    pub backup: Option<Backup>,
    /// `threshold outservice N inservice M` of its farm; `None`: it is down without a real in rotation.
    pub threshold: Option<Threshold>,
    /// `rate-limit ...`.
    pub rate_limits: RateLimits,
    /// `max-conns N`: connections at once, half-open ones included; default 0, no limit.
    pub max_conns: u32,
    /// `owner NAME`.
    pub owner: Option<Name>,
    /// `advertise [active]`.
    pub advertise: Option<Advertise>,
    /// `slb-policy NAME`, several: the first whose clients they are serves them, before the farm.
    pub policies: Vec<Name>,
    /// `vlan N`: only from this VLAN.
    pub vlan: Option<VlanId>,
    /// `client A M [exclude]`, several; none: all clients.
    pub clients: Vec<ClientRange>,
    /// `unidirectional` or `no unidirectional`; `None`: by default, see [`Config::is_unidirectional`].
    pub unidirectional: Option<bool>,
    /// `idle S`: default 3600, 0 never, up to 13,500,000.
    pub idle: Duration,
    /// `pending S`: default 30, 1–65535.
    pub pending: Duration,
    /// `sticky M [group G] [netmask MASK]`; of a group with a section, see [`Config::sticky_in_force`].
    pub sticky: Option<Sticky>,
    /// `reverse-sticky G`: 1–255.
    pub reverse_sticky: Option<u8>,
    /// `replicate csrp connection`.
    pub replicate_connection: bool,
    /// `replicate csrp sticky`.
    pub replicate_sticky: bool,
    /// `inservice`.
    pub inservice: bool,
}

impl Vserver {
    /// In service: says so, and has an address and a farm, or policies that may have one.
    #[must_use]
    pub const fn is_operational(&self) -> bool {
        let served = self.serverfarm.is_some() || !self.policies.is_empty();
        self.inservice && self.virtual_server.is_some() && served
    }

    /// Its farms: the one, and the backup.
    pub fn farms(&self) -> impl Iterator<Item = &Name> {
        self.serverfarm.iter().chain(self.backup.iter().map(|backup| &backup.farm))
    }

    /// Its ranges of clients; without any that is served, all clients are.
    #[must_use]
    pub fn client_ranges(&self) -> Vec<ClientRange> {
        let mut ranges = self.clients.clone();
        if ranges.iter().all(|range| range.exclude) {
            ranges.push(ClientRange { network: self.family().all(), exclude: false });
        }
        ranges
    }

    /// Family of its address; IPv4 as long as it has none.
    #[must_use]
    pub fn family(&self) -> Family {
        self.virtual_server.map_or(Family::V4, |to| Family::of(to.address()))
    }
}

/// `virtual A [M] PROTOCOL PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Virtual {
    /// Address, or network.
    pub network: IpNet,
    /// Protocol.
    pub protocol: Protocol,
    /// Port; 0: any, and without meaning for protocols other than TCP and UDP.
    pub port: u16,
    /// `service ...`.
    pub service: Service,
}

impl Virtual {
    /// A single address.
    #[must_use]
    pub fn single(address: IpAddr, protocol: Protocol, port: u16) -> Self {
        Self { network: IpNet::from(address), protocol, port, service: Service::Plain }
    }

    /// Whether what goes to other ports follows a client's control connection.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.service.data().is_some()
    }

    /// The address, or the network's.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.network.addr()
    }

    /// A single address: answered by ARP or neighbour discovery, and by the pair alone.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.network.prefix_len() == self.network.max_prefix_len()
    }
}

/// `client A M [exclude]`: of several that hold a client the one with the longest mask counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientRange {
    /// The clients.
    pub network: IpNet,
    /// They are not served.
    pub exclude: bool,
}

/// `ft group N vlan M`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FtGroup {
    /// 1–254: the last octet of the virtual MAC.
    pub group: u8,
    /// The FT VLAN.
    pub vlan: VlanId,
    /// `priority N`: 1–254, default 10, higher wins.
    pub priority: u8,
    /// `priority N alt M`: the peer's, used by config-sync.
    pub alt_priority: Option<u8>,
    /// `preempt`: default off.
    pub preempt: bool,
    /// `sync auto`: the active node's configuration goes to its peer by itself; default off.
    pub sync_auto: bool,
    /// `takeover synchronized`: beside an active peer with another configuration or software this node is not eligible;
    /// default off.
    pub takeover_synchronized: bool,
    /// `heartbeat-time S | msec N`: default 1 s; 10 ms at least.
    pub heartbeat: Duration,
    /// `failover S | msec N`: default 3 s; 30 ms at least.
    pub failover: Duration,
    /// `authentication`.
    pub keys: FtKeys,
    /// `witness ADDRESS [port N]`: the third host without whose grant nobody claims who hears no peer; default none.
    pub witness: Option<SocketAddr>,
    /// `track ...`.
    pub track: Tracking,
}

impl Config {
    /// The interface that carries `vlan`.
    #[must_use]
    pub fn interface_of(&self, vlan: VlanId) -> Option<&Interface> {
        self.interfaces.iter().find(|port| port.carries(vlan).is_some() && self.has_links(port))
    }

    /// The VLAN that `vlan` is bridged with: a client and a server VLAN with the same `ip address` or `ipv6 address` are one
    /// network.
    #[must_use]
    pub fn bridged_with(&self, vlan: VlanId) -> Option<&Vlan> {
        let this = self.vlans.iter().find(|known| known.id == vlan)?;
        let same = |other: &Vlan, family| {
            this.own(family).is_some_and(|own| other.own(family) == Some(own)) && other.role != this.role
        };
        self.vlans.iter().find(|other| Family::ALL.iter().any(|&family| same(other, family)))
    }

    /// The client VLAN and the server VLAN of each bridge group.
    pub fn bridge_groups(&self) -> impl Iterator<Item = (&Vlan, &Vlan)> {
        let clients = self.vlans.iter().filter(|vlan| vlan.role == VlanRole::Client);
        clients.filter_map(|client| Some((client, self.bridged_with(client.id)?)))
    }

    /// The interface on which this node's kernel takes part in `vlan`: the port itself, or a veth.
    #[must_use]
    pub fn kernel_interface(&self, vlan: VlanId) -> Option<String> {
        let group = self.bridge_groups().find(|(client, server)| client.id == vlan || server.id == vlan);
        if let Some((client, _)) = group {
            return Some(veth_names(client.id).0);
        }
        let interface = self.interface_of(vlan)?;
        match interface.carries(vlan)? {
            Carried::Untagged => Some(interface.name.clone()),
            Carried::Tagged => Some(veth_names(vlan).0),
        }
    }

    /// The VLANs in use: the module's, the FT VLAN, and those of the router alone.
    pub fn vlan_ids(&self) -> impl Iterator<Item = VlanId> {
        let of_module = || self.vlans.iter().map(|vlan| vlan.id).chain(self.ft.iter().map(|ft| ft.vlan));
        let of_router = self.router.iter().filter_map(|interface| vlan_of_name(&interface.name));
        of_module().chain(of_router.filter(move |vlan| !of_module().any(|known| known == *vlan)))
    }

    /// The farm called `name`.
    #[must_use]
    pub fn serverfarm(&self, name: &Name) -> Option<&Serverfarm> {
        self.serverfarms.iter().find(|farm| farm.name == *name)
    }

    /// Whether the server's packets may not come by here: as configured, else so for UDP and in dispatch mode.
    #[must_use]
    pub fn is_unidirectional(&self, vserver: &Vserver) -> bool {
        let farm = vserver.serverfarm.as_ref().and_then(|name| self.serverfarm(name));
        let dispatch = farm.is_some_and(|farm| !farm.nat_server && farm.predictor != Predictor::Forward);
        let udp = vserver.virtual_server.is_some_and(|to| to.protocol == Protocol::UDP);
        vserver.unidirectional.unwrap_or(dispatch || udp)
    }

    /// The pool that clients of `farm` get addresses of.
    #[must_use]
    pub fn pool_of(&self, farm: &Serverfarm) -> Option<&Natpool> {
        let name = farm.nat_client.as_ref()?.pool()?;
        self.natpools.iter().find(|pool| pool.name == *name)
    }

    /// The connected VLAN whose network holds `address`.
    #[must_use]
    pub fn vlan_of(&self, address: impl Into<IpAddr>) -> Option<&Vlan> {
        let address = address.into();
        let family = Family::of(address);
        self.vlans.iter().find(|vlan| vlan.own(family).is_some_and(|net| net.contains(&address)))
    }

    /// Whether anything of `family`, or that needs its tables, is configured.
    #[must_use]
    pub fn uses(&self, family: Family) -> bool {
        let farms = || self.serverfarms.iter().flat_map(|farm| &farm.reals).map(|real| real.address);
        let virtuals = self.vservers.iter().filter_map(|vserver| Some(vserver.virtual_server?.address()));
        self.vlans.iter().any(|vlan| vlan.own(family).is_some())
            || self.router.iter().any(|interface| interface.own(family).is_some())
            || virtuals.chain(farms()).any(|address| Family::of(address) == family)
            || family == Family::V6 && self.sticks_by_both()
    }
}
