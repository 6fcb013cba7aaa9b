//! The first stage of a start: ports are found, the program is attached to them, and the host is made ready for it.

use std::io;
use std::sync::Arc;

use csm_common::gate::{Gate, GateState};
use csm_common::limits;
use csm_common::net::{PORT_FT, virtual_mac};

use super::{Failure, Options};
use crate::arp::findings::Finding;
use crate::daemon::node::NodePort;
use crate::daemon::pair::identity;
use crate::daemon::saved::Saved;
use crate::daemon::vmac::{self, OwnMacs};
use crate::daemon::{ports, router};
use crate::dataplane::load::{AttachMode, Capacity, Dataplane, MappedGate, PortSpec};
use crate::dataplane::maps::DrainCell;
use crate::dataplane::task::trace::Tracer;
use crate::ft::parked::Parked;
use crate::model::{Config, Family};
use crate::neigh::bond::Bonds;
use crate::neigh::membership::Membership;
use crate::neigh::offload::TagsKept;
use crate::neigh::own::OwnAddresses;
use crate::neigh::veth::Pairs;

/// Half-open connections that the table holds: one for so many proven ones, as the limits have it.
const EMBRYONIC_SHARE: u32 = limits::CONNECTIONS_MAX / limits::EMBRYONIC_MAX;
/// But never fewer than this: a small table must survive a burst of SYNs, too.
const EMBRYONIC_MIN: u32 = 8_192;

/// What the start changed on the host; dropped last.
pub(super) struct Undo {
    pub(super) dataplane: Dataplane,
    _memberships: Vec<Membership>,
    _addresses: OwnAddresses,
    _tags: Vec<TagsKept>,
    _pairs: Pairs,
    _bonds: Bonds,
}

/// A program on its ports, and a host that leaves them to it.
pub(super) struct Attached {
    pub(super) undo: Undo,
    pub(super) ports: Vec<NodePort>,
    /// The same, as the program is attached to them.
    pub(super) specs: Vec<PortSpec>,
    pub(super) group_mac: [u8; 6],
    /// Where the group speaks with the ports' own MAC addresses, and what was found of the virtual one before.
    pub(super) macs: (OwnMacs, Vec<Finding>),
    pub(super) ipv6: bool,
    /// The session to go on with, if the dataplane is as it was left.
    pub(super) parked: Option<Parked>,
    pub(super) drain: DrainCell,
    /// The traced form of the program; `None`: still to be loaded.
    pub(super) tracer: Option<Result<Arc<Tracer>, String>>,
}

impl Attached {
    pub(super) fn to_ports(
        config: &Config,
        saved: Option<&Saved>,
        options: &Options,
        parked: Option<Parked>,
    ) -> Result<Self, Failure> {
        let group_mac = virtual_mac(config.ft.as_ref().map_or(0, |ft| ft.group));
        let keep = options.pins.as_deref().map(ports::keep).transpose()?.flatten();
        let mut bonds = ports::join(config, keep.as_ref())?;
        let mut pairs = Pairs::new().map_err(Failure::step("netlink"))?;
        let ports = ports::find(config, &mut pairs)?;
        let mut specs: Vec<PortSpec> = ports.iter().map(|port| port.spec.clone()).collect();
        let macs = vmac::at_start(config, &mut specs, parked.as_ref(), saved);
        let mut dataplane =
            Dataplane::load_over(&specs, AttachMode::Native, capacity(config, options.connections), keep)
                .map_err(Failure::step("the dataplane"))?;
        if dataplane.has_adopted() {
            tracing::info!("the tables of the csmd before are taken over");
        }
        let parked = parked.filter(|parked| goes_on(parked, &dataplane.gate(), config, &specs));
        if parked.is_none() && config.ft.is_some() {
            // What another left open ends here; this node listens first.
            dataplane.gate().store(Gate::CLOSED);
        }
        let drain = DrainCell::open(&dataplane).map_err(map_step())?;
        if let Some(parked) = &parked {
            drain.hold(parked.until_ns).map_err(map_step())?;
        }
        // At once, since the verifier keeps a CPU busy, which the election's thread may need later; but not while the peer
        // holds for this node.
        let tracer = parked.is_none().then(|| tracer(&mut dataplane));
        // Only now: a port that carries another's program is not touched.
        pairs.keep();
        bonds.keep();
        let tags = ports::keep_tags(&specs)?;
        let addresses = ports::raise(config, &specs)?;
        let memberships = ports::accept(&specs, group_mac, &router::groups(config))?;
        let undo = Undo {
            dataplane,
            _memberships: memberships,
            _addresses: addresses,
            _tags: tags,
            _pairs: pairs,
            _bonds: bonds,
        };
        let ipv6 = config.uses(Family::V6);
        Ok(Self { undo, ports, specs, group_mac, macs, ipv6, parked, drain, tracer })
    }
}

fn capacity(config: &Config, connections: u32) -> Capacity {
    Capacity {
        connections,
        embryonic: (connections / EMBRYONIC_SHARE).max(EMBRYONIC_MIN),
        sticky: connections,
        ipv6: config.uses(Family::V6),
        router: !config.router.is_empty(),
        ..Capacity::default()
    }
}

/// A step at the maps of the program.
pub(super) fn map_step() -> impl FnOnce(io::Error) -> Failure {
    Failure::step::<io::Error>("the dataplane's maps")
}

/// Loads the traced form of the program.
pub(super) fn tracer(dataplane: &mut Dataplane) -> Result<Arc<Tracer>, String> {
    let tracer = dataplane.tracer().map(Arc::new).map_err(|error| error.to_string());
    if let Err(error) = &tracer {
        tracing::warn!(%error, "packets cannot be traced");
    }
    tracer
}

/// Whether the session that rests is this node's, and its gate the one that was found.
fn goes_on(parked: &Parked, gate: &MappedGate, config: &Config, specs: &[PortSpec]) -> bool {
    let port = specs.iter().find(|port| port.role == PORT_FT).filter(|_| config.ft.is_some());
    let is_ours = port.is_some_and(|port| identity(port.mac) == parked.rest.node)
        && gate.load() == Gate::new(GateState::Open, parked.until_ns);
    if !is_ours {
        tracing::warn!("the dataplane is not as the csmd before left it: starting anew");
    }
    is_ours
}
