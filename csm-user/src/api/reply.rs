//! What the API says: plain serde types, apart from the core's own, converted by hand in the daemon.
//!
//! Names of states are those of the CSM (CISCO-SLB-MIB) in snake case; times are in the unit their name ends in.
//! A value that was not measured is `null`, never a guess.

pub mod config;
pub mod counter;
pub mod ft;
pub mod limit;
pub mod policy;
pub mod ready;
pub mod standby;
pub mod state;
pub mod trace;
pub mod track;

pub use state::{
    CertifyRequest, CopyReply, CopyState, DirectoryReply, ImageReply, PeerDirectoryReply, ReloadRequest,
    SavedReply, StateDirectory,
};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use trace::{EntryReply, PacketReply, TraceQuery, WAIT_MAX_MS, WalkReply};

pub use config::{
    ChangeMode, ChangeReply, ChangeRequest, DifferenceReply, DifferenceSide, RunningConfigReply, SyncReply,
};
pub use counter::{ConnectionCounters, CountersReply, PortCounters, ReasonCount};
pub use ft::{
    Coverage, ForeignReply, ForeignWhy, FtCounters, FtReply, FtState, GateState, LatenessBucket,
    LatenessReply, LeaseReply, Messages, PacketCounters, PathReply, PeerReply, ReadinessReply,
    RecorderAction, RecorderEntry, RefusalReply, RepairReply, ReplicationReply, SnapshotState, TableReply,
    UpdateCounters,
};
pub use limit::{AdvertiseReply, BackupReply, MaxConnsReply, OwnerReply, RateLimitReply, RefusedReply};
pub use ready::{CheckGrade, CheckReply, ExplainReply, FencedReply, RankReply, ReadyReply};
pub use standby::{StandbyReply, StandbyRouterReply, StandbyState, StandbyTrackReply};
pub use track::{TrackChangeReply, TrackModeReply, TrackObjectReply, TrackReply, TrackState};

/// Rows of connections or sticky entries in one reply unless the request names another limit.
pub const ROWS_MAX: u32 = 65_536;

/// A refusal or failure, the body of every reply with a status other than 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReply {
    /// One sentence.
    pub error: String,
    /// What the user can do.
    pub remedy: Option<String>,
    /// Each fault of a configuration with its line and a caret, ready to print.
    pub report: Option<String>,
}

/// A command was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {}

/// The process and its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemReply {
    /// `module csm N`.
    pub module: u8,
    /// Version of `csmd`.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_s: u64,
}

/// Transport or other protocol of a virtual server or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo.
    Icmp,
    /// Any protocol, of a virtual server.
    Any,
    /// Another, by its IP protocol number.
    Number(u8),
}

impl Protocol {
    /// By its IP protocol number.
    #[must_use]
    pub const fn of(number: u8) -> Self {
        match number {
            1 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            number => Self::Number(number),
        }
    }
}

/// State of a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VserverState {
    /// Takes connections.
    Operational,
    /// Not `inservice`, without address, farm, or a real in rotation.
    OutOfService,
}

/// What is replicated to the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replicate {
    /// `replicate csrp connection`.
    pub connection: bool,
    /// `replicate csrp sticky`.
    pub sticky: bool,
}

/// `sticky M [group G] [netmask MASK | prefix-length L] [source|destination|both]`, as its group has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StickyRule {
    /// Minutes.
    pub minutes: u16,
    /// Group; 0: private.
    pub group: u8,
    /// Mask on the address.
    pub netmask: IpAddr,
    /// Which address that is.
    pub address: StickyAddress,
}

/// An address of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StickyAddress {
    /// The client's.
    Source,
    /// The one that the client speaks to.
    Destination,
    /// Both.
    Both,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VserverReply {
    /// Name.
    pub name: String,
    /// Its number in the dataplane's tables, if it has one.
    pub index: Option<u32>,
    /// Address; `None` until `virtual` is given.
    pub address: Option<IpAddr>,
    /// Bits of the address that count; 32, in IPv6 128: a single address.
    pub prefix_length: u8,
    /// Protocol; `None` until `virtual` is given.
    pub protocol: Option<Protocol>,
    /// Port; 0: any.
    pub port: u16,
    /// `service ftp`.
    pub ftp: bool,
    /// `service rtsp`.
    pub rtsp: bool,
    /// Whether servers' packets may go another way.
    pub unidirectional: bool,
    /// `client A M [exclude]`, as configured; none: all.
    pub clients: Vec<String>,
    /// `vlan N`; `None`: all.
    pub vlan: Option<u16>,
    /// State.
    pub state: VserverState,
    /// Why it is out of service.
    pub reason: Option<String>,
    /// Farm.
    pub serverfarm: Option<String>,
    /// Its backup farm.
    pub backup: Option<BackupReply>,
    /// `rate-limit connections`.
    pub rate_limit: Option<RateLimitReply>,
    /// `rate-limit client connections`.
    pub client_rate_limit: Option<RateLimitReply>,
    /// `max-conns`.
    #[serde(default)]
    pub max_conns: Option<MaxConnsReply>,
    /// `owner`.
    #[serde(default)]
    pub owner: Option<OwnerReply>,
    /// `advertise`.
    #[serde(default)]
    pub advertise: Option<AdvertiseReply>,
    /// First packets that were refused since the start of this node.
    pub refused: RefusedReply,
    /// Seconds; 0: never.
    pub idle_s: u64,
    /// Seconds.
    pub pending_s: u64,
    /// `replicate csrp`.
    pub replicate: Replicate,
    /// `sticky`.
    pub sticky: Option<StickyRule>,
    /// `reverse-sticky`: the sticky group that its connections are entered in for those of the other direction.
    #[serde(default)]
    pub reverse_sticky: Option<u8>,
    /// Proven connections in this node's table, by the last walk over it; `None`: not walked yet.
    pub connections: Option<u64>,
    /// Connections proven by this node since its start.
    pub total_connections: u64,
    /// Packets from clients.
    pub client_packets: u64,
    /// Packets from servers.
    pub server_packets: u64,
    /// Its policies in their order, and last what none of them is for; empty without `slb-policy`. The counts above are the sums.
    #[serde(default)]
    pub policies: Vec<policy::PolicyReply>,
}

/// State of a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RealState {
    /// In rotation.
    Operational,
    /// `no inservice`.
    OutOfService,
    /// `inservice standby`, and those that it stands in for take new connections.
    Standby,
    /// Probed, no verdict yet.
    ProbeTesting,
    /// A probe failed.
    ProbeFailed,
    /// No answer to ARP.
    ArpFailed,
    /// It was at its `maxconns`, and has not fallen below `minconns` yet.
    MaxConns,
    /// Its clients' connections failed: `health retries`.
    InbandProbeFailed,
}

/// A real server in a farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RealReply {
    /// Address.
    pub address: IpAddr,
    /// Port; `None`: the virtual server's.
    pub port: Option<u16>,
    /// Farm.
    pub serverfarm: String,
    /// Weight in force: 0 while out of rotation.
    pub weight: u8,
    /// Weight as configured.
    pub admin_weight: u8,
    /// State.
    pub state: RealState,
    /// `maxconns`; `None`: no limit.
    pub max_connections: Option<u32>,
    /// `minconns`, or what stands for it: `maxconns`; `None` without a limit.
    pub min_connections: Option<u32>,
    /// Why it is not in rotation, e.g. the probe and the reason of its failure.
    pub reason: Option<String>,
    /// Proven connections in this node's table, by the last walk over it; `None`: not walked yet.
    pub connections: Option<u64>,
    /// Connections proven by this node since its start.
    pub total_connections: u64,
    /// Packets from clients.
    pub client_packets: u64,
    /// Packets from the server.
    pub server_packets: u64,
}

/// A server farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerfarmReply {
    /// Name.
    pub name: String,
    /// Predictor by the name of the CSM's listing, e.g. `RoundRobin`.
    pub predictor: String,
    /// `nat server`.
    pub nat_server: bool,
    /// `nat client`.
    pub nat_client: Option<String>,
    /// Number of reals.
    pub reals: u32,
    /// Of these, in rotation.
    pub operational: u32,
    /// Probes.
    pub probes: Vec<String>,
}

/// Which sticky entries are meant: `group=10&client=192.0.2.7`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StickyFilter {
    /// Of this group only; 0: of the groups that virtual servers have for themselves.
    pub group: Option<u8>,
    /// Of this client only.
    pub client: Option<IpAddr>,
}

/// Which connections are asked for. As a query string: `vserver=WEB&client=192.0.2.7&limit=100`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnFilter {
    /// Of this virtual server only.
    pub vserver: Option<String>,
    /// Of this real only.
    pub real: Option<IpAddr>,
    /// With this port at the real only.
    pub port: Option<u16>,
    /// Of this client only.
    pub client: Option<IpAddr>,
}

/// Which page of which connections: the query of [`path::CONNS`](super::path::CONNS). Written out, since a query cannot
/// nest and still refuse unknown names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnPage {
    /// As in [`ConnFilter`].
    pub vserver: Option<String>,
    /// As in [`ConnFilter`].
    pub real: Option<IpAddr>,
    /// As in [`ConnFilter`].
    pub port: Option<u16>,
    /// As in [`ConnFilter`].
    pub client: Option<IpAddr>,
    /// [`ConnsReply::next`] of the page before; `None`: the first page.
    pub after: Option<String>,
}

impl ConnPage {
    /// Filter and place.
    #[must_use]
    pub fn split(self) -> (ConnFilter, Option<String>) {
        let Self { vserver, real, port, client, after } = self;
        (ConnFilter { vserver, real, port, client }, after)
    }
}

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnState {
    /// The client's SYN was seen, or the first packet of another protocol.
    SynClient,
    /// The server's SYN-ACK was seen, too.
    SynBoth,
    /// Proven by both sides.
    Estab,
    /// One side sent FIN.
    Closing,
    /// Closed or cleared, kept for late segments.
    Zombie,
}

impl ConnState {
    /// From one of the `STATE_*` values of [`csm_common::flow`].
    #[must_use]
    pub const fn from_flow(state: u8) -> Option<Self> {
        match state {
            csm_common::flow::STATE_SYN => Some(Self::SynClient),
            csm_common::flow::STATE_SYN_ACK => Some(Self::SynBoth),
            csm_common::flow::STATE_ESTABLISHED => Some(Self::Estab),
            csm_common::flow::STATE_CLOSING => Some(Self::Closing),
            csm_common::flow::STATE_CLOSED | csm_common::flow::STATE_CLEARED => Some(Self::Zombie),
            _ => None,
        }
    }
}

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// Port, or the ICMP identifier.
    pub port: u16,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnReply {
    /// Protocol.
    pub protocol: Protocol,
    /// The client.
    pub client: Endpoint,
    /// What the client speaks to.
    pub destination: Endpoint,
    /// The server it is sent to.
    pub real: Endpoint,
    /// What the server sees as the client.
    pub source: Endpoint,
    /// VLAN of the client's packets.
    pub client_vlan: u16,
    /// VLAN of the server's packets.
    pub server_vlan: u16,
    /// State.
    pub state: ConnState,
    /// Virtual server; `None`: server-initiated.
    pub vserver: Option<String>,
    /// The virtual server's service is FTP.
    pub ftp: bool,
    /// Replicated to the peer.
    pub replicated: bool,
    /// Learned from the peer, no packet seen here yet.
    pub replica: bool,
    /// Seconds since the last packet (written once a second); `None` where this node has not seen the latest packets:
    /// the peer forwards the connection, or did until just now.
    pub idle_s: Option<u64>,
}

/// A page of the connections: each is on one page, in the order of the table, and on its page in the order of clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnsReply {
    /// Those that match; of a large table there may be pages without any.
    pub connections: Vec<ConnReply>,
    /// What to ask for the next page with, as `after`; `None`: this was the last.
    pub next: Option<String>,
}

/// What was cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClearedReply {
    /// Connections.
    pub cleared: u64,
}

/// A sticky entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StickyReply {
    /// Group; 0: private to the virtual server.
    pub group: u8,
    /// The virtual server of a private group.
    pub vserver: Option<String>,
    /// The address under the mask: the client's, or by `destination` the one it speaks to.
    pub client: IpAddr,
    /// By `both` the address that the client speaks to.
    pub destination: Option<IpAddr>,
    /// The server.
    pub real: IpAddr,
    /// Its port; 0: the virtual server's.
    pub port: u16,
    /// Seconds until it ends unless used again; `None`: it is of the configuration, and does not end.
    pub timeout_s: Option<u64>,
}

/// Sticky entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StickiesReply {
    /// How many there are, shown or not.
    pub total: u64,
    /// The first of them.
    pub entries: Vec<StickyReply>,
}

/// Role of a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VlanRole {
    /// Clients and routers.
    Client,
    /// Servers.
    Server,
    /// The FT VLAN.
    Ft,
}

/// How the program is attached to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack, slow.
    Generic,
}

/// A VLAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VlanReply {
    /// Number.
    pub vlan: u16,
    /// Role.
    pub role: VlanRole,
    /// Own address; the FT VLAN has none.
    pub address: Option<IpAddr>,
    /// Its mask.
    pub netmask: Option<IpAddr>,
    /// Alias address.
    pub alias: Option<IpAddr>,
    /// Own IPv6 address.
    pub address6: Option<IpAddr>,
    /// Prefix length of its network.
    pub prefix_length6: Option<u8>,
    /// IPv6 alias address.
    pub alias6: Option<IpAddr>,
    /// Gateways.
    pub gateways: Vec<IpAddr>,
    /// Linux interface.
    pub interface: String,
    /// Its MAC address, e.g. `02:00:00:00:00:01`.
    pub mac: Option<String>,
    /// Whether it has a carrier.
    pub carrier: Option<bool>,
    /// How the program is attached; `None`: it is not.
    pub xdp: Option<XdpMode>,
}

/// What an address of the ARP listing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NeighbourKind {
    /// Virtual address, answered with the virtual MAC by the active node.
    Vserver,
    /// Alias address, likewise.
    Alias,
    /// Host whose MAC address the configuration says (`arp`).
    Static,
    /// Next hop named by the configuration.
    Gateway,
    /// Real server.
    Real,
    /// Own address of the other node, as `alt` names it.
    Peer,
    /// Host on a connected network.
    Learned,
}

/// Whether an address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NeighbourStatus {
    /// An address of the group, which this node answers for.
    Local,
    /// An address of the group, for which this node is silent.
    Silent,
    /// Its MAC address is known.
    Up,
    /// It has not answered, and is asked for again and again.
    Resolving,
}

/// A row of the ARP listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NeighbourReply {
    /// Address.
    pub address: IpAddr,
    /// MAC address, e.g. `02:00:00:00:00:01`; `None`: unknown.
    pub mac: Option<String>,
    /// VLAN; `None`: all (a virtual address).
    pub vlan: Option<u16>,
    /// Kind.
    pub kind: NeighbourKind,
    /// Status.
    pub status: NeighbourStatus,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Sent on.
    Forward,
    /// Given to the kernel.
    Pass,
    /// Dropped.
    Drop,
    /// Kept, to come again and be counted again.
    Hold,
}

#[cfg(test)]
mod tests;
