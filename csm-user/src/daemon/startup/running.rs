//! A start, stage by stage: [`Attached`], [`Planned`], [`Workers`], and last the pair, which may take the role.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use csm_common::net::PORT_FT;

use super::attached::{self, Attached, Undo, map_step};
use super::planned::Planned;
use super::workers::Workers;
use super::{Failure, Options};
use crate::arp::task::AnnounceThread;
use crate::daemon::advertise::Advertised;
use crate::daemon::node::Node;
use crate::daemon::pair::PairStart;
use crate::daemon::reloads::Reloads;
use crate::daemon::replica::KernelReplica;
use crate::daemon::restart::Haste;
use crate::daemon::route::Inputs;
use crate::daemon::saved::Saved;
use crate::daemon::sole::Sole;
use crate::daemon::vmac::Macs;
use crate::daemon::{host, lease, standby, sync, tracking};
use crate::dataplane::expiry::ExpiryThread;
use crate::dataplane::load::PortSpec;
use crate::dataplane::maps::Promises;
use crate::dataplane::ring::RingThread;
use crate::dataplane::task::fragments::FragmentThread;
use crate::ft::FtHandle;
use crate::ft::election::Restraint;
use crate::ft::parked::Legacy;
use crate::model::{Config, FtGroup};
use crate::probe::task::ProbeHandle;
use crate::replication::task::ReplHandle;

/// Threads of the dataplane; dropped first.
pub(super) struct Threads {
    _sole: Option<Sole>,
    _ring: RingThread,
    _fragments: (FragmentThread, Option<FragmentThread>),
    _expiry: ExpiryThread,
    _probes: ProbeHandle,
}

/// A node that has come up.
pub(super) struct Running {
    pub(super) node: Arc<Node>,
    pub(super) inputs: Inputs,
    pub(super) announcements: AnnounceThread,
    pub(super) threads: Threads,
    pub(super) undo: Undo,
}

impl Running {
    pub(super) fn start(
        config: Config,
        saved: Option<Saved>,
        options: &Options,
        Legacy { parked, restraint }: Legacy,
    ) -> Result<Self, Failure> {
        let haste = parked.is_some().then(Haste::begin);
        let mut attached = Attached::to_ports(&config, saved.as_ref(), options, parked)?;
        let resumed = attached.parked.is_some();
        let planned = Planned::over(&attached, config, options)?;
        let config = planned.planner.config();
        let workers = Workers::start(&attached, &planned, options.connections)?;
        let nonce = attached.parked.as_ref().map_or_else(host::nonce, |parked| parked.rest.nonce);
        let ft_port = attached.specs.iter().find(|port| port.role == PORT_FT).map(PortSpec::kernel_name);
        let link = sync::link(config.ft.as_ref(), nonce, ft_port);
        let (pair, sole) = match &config.ft {
            Some(group) => {
                let of_pair = (group, nonce, restraint);
                let pair = join_pair(&mut attached, &planned, &workers, (options, saved.as_ref()), of_pair)?;
                (Some(pair), None)
            }
            None => {
                let sole = Sole::hold(attached.undo.dataplane.gate());
                let sole = sole.map_err(Failure::step("the gate's thread"))?;
                workers.announcements.announce();
                (None, Some(sole))
            }
        };
        let (ft, replication) = pair.unzip();
        drop(haste);
        attached.drain.hold(0).map_err(map_step())?;
        let tracer = attached.tracer.take();
        let tracer = tracer.unwrap_or_else(|| attached::tracer(&mut attached.undo.dataplane));
        let (specs, dataplane) = (&attached.specs, &attached.undo.dataplane);
        let standby = standby::start(&config, specs, dataplane)?;
        let macs = Macs::start(&config, specs, dataplane, std::mem::take(&mut attached.macs))?;
        let (track, tracked_links) = tracking::start(&config, specs)?;
        // Taken apart only when nothing can fail any more: until then what was begun last is undone first.
        let Attached { undo, ports, drain, .. } = attached;
        let dataplane = &undo.dataplane;
        let Planned {
            counters,
            table,
            table6,
            directory,
            neighbours,
            own_gateways,
            links,
            planner,
            probes,
            ..
        } = planned;
        let Workers { announcements, changes, wishes, active, sink, ring, hints, fragments, .. } = workers;
        let node = Arc::new(Node {
            started: Instant::now(),
            resumed,
            runtime: tokio::runtime::Handle::current(),
            ports,
            modes: dataplane.modes().clone(),
            outlived: dataplane.is_kept(),
            options: options.clone(),
            gate: dataplane.gate(),
            drain,
            table,
            table6,
            directory,
            deltas: sink,
            nudger: workers.nudger,
            counters,
            planner,
            neighbours,
            own_gateways,
            health: probes.health(),
            ft: ft.as_ref().map(FtHandle::control),
            standby,
            track,
            replication,
            walked: workers.walked,
            tracer,
            changes,
            link,
            macs,
            saved,
            reloads: Reloads::default(),
            advertised: Advertised::default(),
            saving: Mutex::default(),
        });
        let threads = Threads {
            _sole: sole,
            _ring: ring,
            _fragments: fragments,
            _expiry: workers.expiry,
            _probes: probes,
        };
        let inputs = Inputs { hints, links, wishes, ft, active, tracked_links };
        Ok(Self { node, inputs, announcements, threads, undo })
    }
}

/// Starts replication and election; from then on this node may have the role.
fn join_pair(
    attached: &mut Attached,
    planned: &Planned,
    workers: &Workers,
    (options, saved): (&Options, Option<&Saved>),
    (group, nonce, restraint): (&FtGroup, u64, Option<Restraint>),
) -> Result<(FtHandle, ReplHandle), Failure> {
    let dataplane = &attached.undo.dataplane;
    let start = PairStart {
        config: &planned.planner.config(),
        group,
        nonce,
        specs: &attached.specs,
        options,
        gate: dataplane.gate(),
        settings: Arc::clone(&planned.settings),
        announcer: Arc::clone(&workers.announcer),
        flusher: workers.ring.flusher(),
        promises: Promises::open(dataplane).map_err(map_step())?,
        parked: attached.parked.take(),
        restraint,
        peer_lease: lease::noted(saved),
    };
    let neighbours = Arc::clone(&planned.neighbours);
    let replica = KernelReplica::new(
        Arc::clone(&planned.table),
        planned.table6.clone(),
        Arc::clone(&planned.directory),
        Arc::new(move |key| neighbours.number(key)),
    );
    start.start(replica, workers.deltas.clone())
}
