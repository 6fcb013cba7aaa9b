//! What the running daemon is made of, as the API and the event loop share it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aya::Pod;
use csm_common::address::V6;
use csm_common::net::{
    AddressKey, NEXTHOP_GROUP, NEXTHOP_RESOLVED, NEXTHOP_TAGGED, NEXTHOP_TUNNEL, NextHop, PORT_FT,
    PORT_ROUTER, Tunnel,
};
use tokio::sync::watch;

use super::advertise::Advertised;
use super::apply::Changes;
use super::planner::Planner;
use super::reloads::Reloads;
use super::router::OwnGateways;
use super::saved::Saved;
use super::standby::Groups;
use super::startup::Options;
use super::tracking::Running;
use super::vmac::Macs;
use crate::dataplane::expiry::{Census, Ended};
use crate::dataplane::family::{Wire, wire};
use crate::dataplane::load::{AttachMode, MappedGate, PortSpec};
use crate::dataplane::maps::{Counters, DrainCell, HopMaps, MapSource};
use crate::dataplane::plan::Desired;
use crate::dataplane::ring::DeltaSink;
use crate::dataplane::snapshot::DirectoryCell;
use crate::dataplane::table::Table;
use crate::dataplane::task::nudge::Nudger;
use crate::dataplane::task::trace::Tracer;
use crate::ft::{FtControl, GateCell};
use crate::model::{Config, Host};
use crate::neigh::table::Hop;
use crate::neigh::task::{HopSink, Neighbours};
use crate::probe::health::Health;
use crate::replication::task::ReplHandle;
use crate::sync::task::Link;

/// A port and what netlink says of it.
pub struct NodePort {
    /// As the program is attached to it.
    pub spec: PortSpec,
    /// Administratively up, with a carrier.
    pub carrying: AtomicBool,
}

/// The running daemon.
pub struct Node {
    /// Start of the daemon.
    pub started: Instant,
    /// It goes on where the csmd before it rested, with the role.
    pub resumed: bool,
    /// For answers that must wait.
    pub runtime: tokio::runtime::Handle,
    /// Ports, in the order of their numbers.
    pub ports: Vec<NodePort>,
    /// How the program is attached, by interface index.
    pub modes: BTreeMap<u32, AttachMode>,
    /// Program and tables outlive this process.
    pub outlived: bool,
    /// What the daemon was started with.
    pub options: Options,
    /// The gate, as the program reads it.
    pub gate: Arc<MappedGate>,
    /// Whether the program may expect a successor of this daemon.
    pub drain: DrainCell,
    /// Connections and sticky entries of IPv4.
    pub table: Arc<Table>,
    /// Those of IPv6, if this node has it.
    pub table6: Option<Arc<Table<V6>>>,
    /// Identities of numbers.
    pub directory: Arc<DirectoryCell>,
    /// Told of what the controller itself ends.
    pub deltas: DeltaSink,
    /// Makes the ends of cleared connections speak.
    pub nudger: Nudger,
    /// Counters of the program.
    pub counters: Arc<Counters>,
    /// Contents of the maps.
    pub planner: Arc<Planner>,
    /// Neighbours.
    pub neighbours: Arc<Neighbours>,
    /// Next hops that are HSRP groups of this host.
    pub(super) own_gateways: Arc<OwnGateways>,
    /// Verdicts of the probes.
    pub health: watch::Receiver<Arc<Health>>,
    /// The election; `None` without an FT group.
    pub ft: Option<FtControl>,
    /// HSRP groups of this host and nearby; `None` if there are none.
    pub standby: Option<Groups>,
    /// Tracking; `None` if nothing is tracked.
    pub track: Option<Running>,
    /// Replication; `None` without an FT group.
    pub replication: Option<ReplHandle>,
    /// Walks of packets; an error if the kernel refused the traced form of the program.
    pub tracer: Result<Arc<Tracer>, String>,
    /// What the walks over the tables met.
    pub walked: Arc<WalkedCell>,
    /// Changes of the configuration.
    pub changes: Changes,
    /// To the peer, for configurations; `None` without an FT group.
    pub link: Option<Arc<Link>>,
    /// Which MAC address the group's frames carry.
    pub macs: Macs,
    /// The state directory, if there is one.
    pub saved: Option<Saved>,
    /// Starts anew that wait for their time.
    pub reloads: Reloads,
    /// Networks that routing daemons are told of.
    pub(super) advertised: Advertised,
    /// See [`Node::saving`].
    pub(super) saving: Mutex<()>,
}

/// What the walks over the tables met and removed.
#[derive(Clone, Debug)]
pub struct Walked {
    /// End of the last walk.
    pub at: Instant,
    /// What it met.
    pub census: Census,
    /// Balanced connections that were removed since the start.
    pub ended: Ended,
    /// Server-initiated ones.
    pub ended_routed: Ended,
}

impl Walked {
    /// Milliseconds since the last walk ended.
    #[must_use]
    pub fn ms_ago(&self) -> u64 {
        u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Empty until the first walk has ended: what was not counted yet is not zero.
#[derive(Debug, Default)]
pub struct WalkedCell(Mutex<Option<Arc<Walked>>>);

impl WalkedCell {
    /// The last walk.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Walked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What has ended so far is counted from 0 again.
    pub fn forget_ended(&self) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(walked) = last.as_deref().cloned() {
            let ended = Ended::default();
            *last = Some(Arc::new(Walked { ended, ended_routed: ended, ..walked }));
        }
    }

    /// A walk has ended.
    pub fn add(&self, census: Census) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut ended, mut ended_routed) =
            last.as_ref().map(|last| (last.ended, last.ended_routed)).unwrap_or_default();
        ended += census.ended;
        ended_routed += census.ended_routed;
        *last = Some(Arc::new(Walked { at: Instant::now(), census, ended, ended_routed }));
    }
}

impl Node {
    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.planner.config()
    }

    /// The plan in force.
    #[must_use]
    pub fn desired(&self) -> Arc<Desired> {
        self.planner.desired()
    }

    /// Ports of the module that cannot carry frames; the FT VLAN's is none of them.
    pub fn dead_ports(&self) -> impl Iterator<Item = &PortSpec> {
        let data = self.ports.iter().filter(|port| !matches!(port.spec.role, PORT_FT | PORT_ROUTER));
        data.filter(|port| !port.carrying.load(Ordering::Acquire)).map(|port| &port.spec)
    }

    /// True if all ports but the FT VLAN's can carry frames.
    #[must_use]
    pub fn can_forward(&self) -> bool {
        self.dead_ports().next().is_none()
    }
}

impl GateCell for MappedGate {
    fn store(&self, gate: csm_common::gate::Gate) {
        Self::store(self, gate);
    }

    fn load(&self) -> csm_common::gate::Gate {
        Self::load(self)
    }
}

/// Where the neighbour table writes next hops: the maps of both families.
pub(super) struct Hops {
    /// Of IPv4.
    v4: HopMaps,
    /// Of IPv6; `None`: the node was started without.
    v6: Option<HopMaps<V6>>,
    /// Those that are HSRP groups of this host.
    groups: Arc<OwnGateways>,
}

impl Hops {
    /// # Errors
    /// If a map is missing or of another shape.
    pub(super) fn open(source: &impl MapSource, ipv6: bool, groups: Arc<OwnGateways>) -> io::Result<Self> {
        Ok(Self { v4: HopMaps::open(source)?, v6: ipv6.then(|| HopMaps::open(source)).transpose()?, groups })
    }

    fn entry<A: Wire>(&self, hop: &Hop) -> NextHop<A> {
        let mut entry = next_hop(hop);
        if let Some((group, mac)) = self.groups.get(hop.host.neighbour()) {
            // Whoever is the active router has this address; nobody answers for it while this host is.
            entry.dst_mac = mac;
            entry.flags |= NEXTHOP_GROUP | NEXTHOP_RESOLVED;
            entry.group = group;
        }
        entry
    }
}

impl HopSink for Hops {
    fn set_nexthop(&self, number: u32, hop: &Hop) -> io::Result<()> {
        match (hop.host.address, &self.v6) {
            (IpAddr::V4(_), _) => write(&self.v4, number, hop, &self.entry(hop)),
            (IpAddr::V6(_), Some(v6)) => write(v6, number, hop, &self.entry(hop)),
            (IpAddr::V6(_), None) => Ok(()),
        }
    }

    fn set_neighbour(&self, host: &Host, number: Option<u32>) -> io::Result<()> {
        match (host.address, &self.v6) {
            (IpAddr::V4(_), _) => self.v4.set_neighbour(&key(host), number),
            (IpAddr::V6(_), Some(v6)) => v6.set_neighbour(&key(host), number),
            (IpAddr::V6(_), None) => Ok(()),
        }
    }
}

/// Writes a next hop; what it refers to first.
fn write<A: Wire>(maps: &HopMaps<A>, number: u32, hop: &Hop, entry: &NextHop<A>) -> io::Result<()>
where
    NextHop<A>: Pod,
    Tunnel<A>: Pod,
    AddressKey<A>: Pod,
{
    if let Some((index, tunnel)) = hop.tunnel {
        let port_be = tunnel.encapsulation.port().to_be();
        let (local_be, remote_be) = (wire(tunnel.local), wire(tunnel.remote));
        maps.set_tunnel(index, &Tunnel { local_be, remote_be, port_be, pad: 0 })?;
    }
    maps.set_nexthop(number, entry)
}

fn next_hop<A: Wire>(hop: &Hop) -> NextHop<A> {
    let resolved = if hop.mac.is_some() { NEXTHOP_RESOLVED } else { 0 };
    NextHop {
        dst_mac: hop.mac.unwrap_or_default(),
        src_mac: hop.source_mac,
        port: hop.port,
        vlan: hop.host.vlan,
        flags: resolved
            | if hop.tagged { NEXTHOP_TAGGED } else { 0 }
            | if hop.tunnel.is_some() { NEXTHOP_TUNNEL } else { 0 },
        ip_be: wire(hop.host.address),
        mtu: hop.mtu,
        tunnel: hop.tunnel.map_or(0, |(index, _)| index),
        group: 0,
        pad: 0,
    }
}

fn key<A: Wire>(host: &Host) -> AddressKey<A> {
    AddressKey { ip_be: wire(host.address), vlan: host.vlan, pad: 0 }
}
