//! From a configuration file to a running node, and back down. What is made is undone in the reverse order.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use csm_common::address::V6;
use csm_common::gate::{Gate, GateState};
use csm_common::limits;
use csm_common::net::{PORT_FT, virtual_mac};
use tokio::sync::mpsc;

use super::adopted;
use super::advertise::{Advertised, Advertiser};
use super::apply::{self, Changes};
use super::host;
use super::images;
use super::inband::InbandCheck;
use super::node::{Hops, Node, NodePort, WalkedCell};
use super::pair::{PairStart, identity};
use super::planner::{Loads, Planner, ReplanError};
use super::ports;
use super::reloads::Reloads;
use super::replica::{DeltaQueue, KernelReplica};
use super::restart::{self, Handed, Restarting};
use super::route::{self, Inputs};
use super::router;
use super::saved::{self, Saved};
use super::shares::Shares;
use super::sole::Sole;
use super::standby;
use super::sync;
use super::tracking;
use super::vmac::{self, Macs, OwnMacs, own_mac};
use crate::api::server;
use crate::arp::announcer::Announcer;
use crate::arp::task::AnnounceThread;
use crate::dataplane::expiry::{Census, Expiry, ExpiryThread, Pace};
use crate::dataplane::load::{AttachMode, Capacity, Dataplane, MappedGate, PortSpec};
use crate::dataplane::maps::{Counters, DrainCell, LoadMaps, Maps, Promises, SettingsCell};
use crate::dataplane::plan::needed_hops;
use crate::dataplane::ring::{DeltaSink, RingThread};
use crate::dataplane::snapshot::DirectoryCell;
use crate::dataplane::table::{Table, monotonic_ns};
use crate::dataplane::task::fragments::FragmentThread;
use crate::dataplane::task::identities::Identities;
use crate::dataplane::task::nudge::Nudger;
use crate::dataplane::task::router::{GroupGates, fill};
use crate::dataplane::task::trace::Tracer;
use crate::ft::parked::{Legacy, Parked};
use crate::ft::{Controls, FtHandle};
use crate::model::{Config, Family};
use crate::neigh::bond::Bonds;
use crate::neigh::groups::Groups;
use crate::neigh::membership::Membership;
use crate::neigh::offload::TagsKept;
use crate::neigh::own::OwnAddresses;
use crate::neigh::table::{HopPort, NeighbourTable};
use crate::neigh::task::{LinkEvent, Neighbours};
use crate::neigh::veth::Pairs;
use crate::probe;

/// Half-open connections that the table holds: one for so many proven ones, as the limits have it.
const EMBRYONIC_SHARE: u32 = limits::CONNECTIONS_MAX / limits::EMBRYONIC_MAX;
/// But never fewer than this: a small table must survive a burst of SYNs, too.
const EMBRYONIC_MIN: u32 = 8_192;
/// Deltas that may wait for replication; more mark the replica for repair.
const DELTAS_MAX: usize = 65_536;
/// Hints of the event ring that may wait.
const HINTS_MAX: usize = 4_096;
/// Wishes of changed configurations that may wait.
const WISHES_MAX: usize = 64;
/// Changes of links that may wait.
const LINKS_MAX: usize = 256;

/// How long those who have asked for something are waited for before a restart.
const ANSWERS_MAX: Duration = Duration::from_millis(500);

/// What `csmd` is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Configuration file; with a state directory, the one that is taken as long as that is empty.
    pub config: Option<PathBuf>,
    /// The state directory: startup configurations are saved there.
    pub state: Option<PathBuf>,
    /// The API's socket.
    pub socket: PathBuf,
    /// The program that is installed: a start executes it where the directory names no image.
    pub image: PathBuf,
    /// Directory, in a BPF file system, of the tables that outlive this process; `None`: they do not.
    pub pins: Option<PathBuf>,
    /// Proven connections that the table holds; both boxes of a pair should have the same.
    pub connections: u32,
    /// Negative controls of the election, for the lab only.
    pub controls: Controls,
    /// Negative control of replication, for the lab only: drop every n-th change, and rebuild no connection, as servers'
    /// packets would make up for what is missing.
    pub drop_deltas: Option<std::num::NonZeroU32>,
}

/// Why the daemon did not come up.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration file cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// Faults in the configuration, rendered. Nothing was started.
    #[error("{0}")]
    Config(String),
    /// A step of the start failed; what had been made is undone.
    #[error("{what}: {source}")]
    Step {
        /// What was tried.
        what: String,
        /// What came of it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Failure {
    pub(super) fn step<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Step { what, source: source.into() }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As told by a signal.
    Stopped,
    /// To be run again, by that program.
    Reload(Restarting, PathBuf),
}

/// Runs the daemon until SIGTERM, SIGINT or `reload`, going on with what was `handed` to it. To be called within a
/// multi-threaded tokio runtime. Where what it has made outlives it, a `reload` ends in another program.
///
/// # Errors
/// See [`Failure`].
pub async fn run(options: &Options, handed: Handed) -> Result<Ended, Failure> {
    privileged()?;
    let Handed { cold, from, rollback, legacy, stop: told } = handed;
    if cold {
        // Another program may be the one to be started.
        images::hand_on(options);
    }
    // From here on they are not lost, nor leave a dataplane at rest without anybody who hands its role over.
    let terminate = route::catch_signals().map_err(Failure::step("signals"))?;
    let (config, saved) = saved::boot(options, from)?;
    // Before all else: another csmd on this socket means that nothing must be touched.
    if let Some(directory) = options.socket.parent() {
        std::fs::create_dir_all(directory).map_err(Failure::step(directory.display().to_string()))?;
    }
    let listener = server::bind(&options.socket).map_err(Failure::step("the API's socket"))?;
    let running = Running::start(config, saved, options, legacy)?;
    let Running { node, inputs, announcements, threads, undo } = running;
    let ports = node.ports.iter().map(|NodePort { spec, .. }| format!("{} (vlan {})", spec.name, spec.vlan));
    let (version, slot, ports) =
        (env!("CARGO_PKG_VERSION"), node.config().slot, ports.collect::<Vec<_>>().join(", "));
    tracing::info!("csmd {version} runs module csm {slot} on {ports}");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move {
        // A dropped sender means the same.
        let _ = stopped.await;
    };
    if let Some(after) = rollback {
        node.take_back_after(after);
    }
    let exchange = sync::start(&node).map_err(Failure::step("configuration synchronization"))?;
    let mut advertiser = Advertiser::start(&node).map_err(Failure::step("advertised routes"))?;
    let api = tokio::spawn(server::serve(listener, Arc::clone(&node) as _, shutdown));
    let (ended, mut restart) = route::run(&node, inputs, &announcements, terminate, told).await;
    // Fenced, handed over or at rest by now.
    drop((stop, exchange));
    let mut api = tokio::spawn(async move {
        if let Ok(Err(error)) = api.await {
            tracing::warn!(%error, "the API ended with an error");
        }
    });
    // Who has asked for something is answered first.
    let answered = tokio::time::timeout(ANSWERS_MAX, &mut api).await.is_ok();
    if let Ended::Reload(Restarting { from, rollback }, program) = &ended
        && restart.in_place
    {
        advertiser.hand_on();
        let stop = restart.told_to_stop().await;
        let legacy = std::mem::take(&mut restart.legacy);
        let handed = Handed { cold: false, from: *from, rollback: *rollback, legacy, stop };
        let failure = restart::execute(program, &options.image, &handed);
        tracing::error!(image = %program.display(), %failure, "cannot be executed: this program instead");
        let failure = restart::execute(Path::new("/proc/self/exe"), &options.image, &handed);
        // Nothing has been undone yet, so this goes on as if it had not been tried: the peer takes over.
        tracing::error!(%failure, "cannot be executed either: starting anew in this process");
    }
    if !answered {
        api.await.map_err(Failure::step("shutdown"))?;
    }
    tokio::task::spawn_blocking(move || drop((advertiser, threads, announcements, node, undo)))
        .await
        .map_err(Failure::step("shutdown"))?;
    tracing::info!("stopped, nothing left behind");
    if restart.told_to_stop().await {
        return Ok(Ended::Stopped);
    }
    if let Ended::Reload(Restarting { from, rollback }, program) = &ended {
        // Ports or addresses differ, so all was undone; the program may still be another one.
        let legacy = Legacy { parked: None, ..restart.legacy };
        let handed = Handed { from: *from, rollback: *rollback, legacy, ..Handed::default() };
        let failure = restart::execute(program, &options.image, &handed);
        tracing::error!(image = %program.display(), %failure, "cannot be executed: starting anew in this process");
    }
    Ok(ended)
}

/// Says at once what would otherwise fail somewhere in the middle.
fn privileged() -> Result<(), Failure> {
    let missing =
        crate::host::survey::missing_capabilities().map_err(Failure::step("this process's capabilities"))?;
    if missing.is_empty() {
        return Ok(());
    }
    let remedy = format!("{} missing: start csmd as root, or grant them", missing.join(", "));
    Err(Failure::step("privileges")(remedy))
}

/// Threads of the dataplane; dropped first.
struct Threads {
    _sole: Option<Sole>,
    _ring: RingThread,
    _fragments: (FragmentThread, Option<FragmentThread>),
    _expiry: ExpiryThread,
    _probes: probe::task::ProbeHandle,
}

/// What the start changed on the host; dropped last.
struct Undo {
    _dataplane: Dataplane,
    _memberships: Vec<Membership>,
    _addresses: OwnAddresses,
    _tags: Vec<TagsKept>,
    _pairs: Pairs,
    _bonds: Bonds,
}

struct Running {
    node: Arc<Node>,
    inputs: Inputs,
    announcements: AnnounceThread,
    threads: Threads,
    undo: Undo,
}

impl Running {
    fn start(
        config: Config,
        saved: Option<Saved>,
        options: &Options,
        Legacy { parked, restraint }: Legacy,
    ) -> Result<Self, Failure> {
        let group_mac = virtual_mac(config.ft.as_ref().map_or(0, |ft| ft.group));
        let haste = parked.is_some().then(restart::Haste::begin);
        let keep = options.pins.as_deref().map(ports::keep).transpose()?.flatten();
        let mut bonds = ports::join(&config, keep.as_ref())?;
        let mut pairs = Pairs::new().map_err(Failure::step("netlink"))?;
        let ports = ports::find(&config, &mut pairs)?;
        let mut specs: Vec<PortSpec> = ports.iter().map(|port| port.spec.clone()).collect();
        let (macs, known) = vmac::at_start(&config, &mut specs, parked.as_ref(), saved.as_ref());
        let connections = options.connections;
        let ipv6 = config.uses(Family::V6);
        let capacity = Capacity {
            connections,
            embryonic: (connections / EMBRYONIC_SHARE).max(EMBRYONIC_MIN),
            sticky: connections,
            ipv6,
            router: !config.router.is_empty(),
            ..Capacity::default()
        };
        let mut dataplane = Dataplane::load_over(&specs, AttachMode::Native, capacity, keep)
            .map_err(Failure::step("the dataplane"))?;
        let has_adopted = dataplane.has_adopted();
        if has_adopted {
            tracing::info!("the tables of the csmd before are taken over");
        }
        let parked = parked.filter(|parked| goes_on(parked, &dataplane.gate(), &config, &specs));
        let resumed = parked.is_some();
        if parked.is_none() && config.ft.is_some() {
            // What another left open ends here; this node listens first.
            dataplane.gate().store(Gate::CLOSED);
        }
        let drain = DrainCell::open(&dataplane).map_err(Failure::step("the dataplane's maps"))?;
        if let Some(parked) = &parked {
            drain.hold(parked.until_ns).map_err(Failure::step("the dataplane's maps"))?;
        }
        // At once, since the verifier keeps a CPU busy, which the election's thread may need later; but not while the peer
        // holds for this node.
        let early = parked.is_none().then(|| tracer(&mut dataplane));
        // Only now: a port that carries another's program is not touched.
        pairs.keep();
        bonds.keep();
        let tags = ports::keep_tags(&specs)?;
        let addresses = ports::raise(&config, &specs)?;
        let memberships = ports::accept(&specs, group_mac, &router::groups(&config))?;
        let settings = vmac::settings(&specs, group_mac);
        let map_step = || Failure::step::<io::Error>("the dataplane's maps");
        let settings = Arc::new(SettingsCell::open(&dataplane, settings).map_err(map_step())?);
        let maps = Maps::open(&dataplane).map_err(map_step())?;
        let maps6 = ipv6.then(|| Maps::open(&dataplane)).transpose().map_err(map_step())?;
        let counters = Arc::new(Counters::open(&dataplane).map_err(map_step())?);
        let table = Arc::new(Table::open(&dataplane).map_err(map_step())?);
        let table6 = ipv6.then(|| Table::open(&dataplane)).transpose().map_err(map_step())?.map(Arc::new);
        let directory = Arc::new(DirectoryCell::default());

        let (links_in, links) = mpsc::channel(LINKS_MAX);
        let own_gateways = Arc::new(router::OwnGateways::new(&config));
        let sink = Hops::open(&dataplane, ipv6, Arc::clone(&own_gateways)).map_err(map_step())?;
        let neighbours = Arc::new(follow_neighbours(&config, &specs, (group_mac, &macs), sink, links_in)?);
        let identities = Identities::open(&dataplane).map_err(map_step())?;
        let healthy = if has_adopted {
            neighbours.adopt(&adopted::hops(&dataplane, ipv6).map_err(map_step())?);
            let maps = (&maps, maps6.as_ref());
            adopted::healthy(&config, &identities.assignments(), maps).map_err(map_step())?
        } else {
            BTreeSet::new()
        };
        neighbours.fix(&apply::fixed(&config));
        let mut hops = neighbours.want(&apply::wanted(&config));
        let of_router = router::routes(&config, &hops);
        if parked.is_none() {
            GroupGates::open(&dataplane).map_err(map_step())?.close();
        }
        fill(&dataplane, &router::groups(&config), &of_router, ipv6).map_err(map_step())?;
        let of_module = needed_hops(&config);
        hops.retain(|host, _| of_module.contains(host));
        let planner = Arc::new(Planner::new(
            (maps, maps6),
            identities,
            config,
            hops,
            Arc::clone(&directory),
            options.drop_deltas.is_none(),
        ));
        if has_adopted {
            planner.recall().map_err(map_step())?;
        }
        let config = planner.config();
        let probes = probe::task::spawn(probe::target::targets(&config), config.slot, &healthy);
        planner
            .replan(&probes.health().borrow())
            .map_err(Failure::step::<ReplanError>("the dataplane's maps"))?;

        let announced = apply::announced(&planner.desired(), specs.iter(), &macs);
        let announcer = Announcer::new(group_mac, &announced).map_err(Failure::step("announcements"))?;
        announcer.set_refresh(config.variables.gratuitous);
        let announcer = Arc::new(announcer);
        let (wishes_in, wishes) = mpsc::channel(WISHES_MAX);
        let mut groups = Groups::default();
        let solicited = apply::solicited(&planner.desired(), specs.iter());
        groups.set(solicited).map_err(Failure::step("the multicast groups of the IPv6 addresses"))?;
        let changes = Changes::new(probes.reloads(), Arc::clone(&announcer), groups, wishes_in);
        let gate = dataplane.gate();
        let announced_gate = gate.clone();
        let is_open = move || announced_gate.load().state_at(monotonic_ns()) == GateState::Open;
        let announcements =
            AnnounceThread::spawn(Arc::clone(&announcer), is_open).map_err(Failure::step("announcements"))?;
        let active = Arc::new(AtomicBool::new(config.ft.is_none()));
        let (deltas_in, deltas) = crossbeam::channel::bounded(DELTAS_MAX);
        let (hints_in, hints) = mpsc::channel(HINTS_MAX);
        let queue = DeltaQueue::new(deltas_in, Arc::clone(&directory));
        let sink: DeltaSink = Arc::new(move |delta| queue.tell(delta));
        let ring = RingThread::spawn(&dataplane, Arc::clone(&sink), hints_in)
            .map_err(Failure::step("the event ring"))?;
        let runner = dataplane.runner().map_err(Failure::step("the dataplane"))?;
        let ring_step = || Failure::step::<io::Error>("the ring of fragments");
        let fragments = FragmentThread::spawn::<u32>(&dataplane, runner).map_err(ring_step())?;
        let fragments6 = match ipv6 {
            true => {
                let runner = dataplane.runner().map_err(Failure::step("the dataplane"))?;
                Some(FragmentThread::spawn::<V6>(&dataplane, runner).map_err(ring_step())?)
            }
            false => None,
        };
        let outs = specs.iter().map(|port| port.ifindex).collect();
        let nudger = Nudger::new(&dataplane, outs).map_err(Failure::step("a packet socket"))?;
        let walked = Arc::new(WalkedCell::default());
        let expiry = Expiry {
            table: Arc::clone(&table),
            table6: table6.clone(),
            settings: Arc::clone(&settings),
            directory: Arc::clone(&directory),
            active: Arc::clone(&active),
            deltas: Arc::clone(&sink),
            pace: Pace::default(),
        };
        let loads =
            LoadMaps::open(&dataplane).and_then(|reals| Ok((reals, LoadMaps::of_vservers(&dataplane)?)));
        let (reals, vservers) = loads.map_err(Failure::step("the dataplane's maps"))?;
        let loads = Arc::new(Loads::new(reals, vservers, Arc::clone(&planner)));
        let shares = Shares::open(&dataplane, &planner, connections).map_err(map_step())?;
        let expiry = spawn_expiry(expiry, &planner, &neighbours, &counters, &walked, (loads, shares))?;

        let nonce = parked.as_ref().map_or_else(host::nonce, |parked| parked.rest.nonce);
        let promises = Promises::open(&dataplane).map_err(map_step())?;
        let ft_port = specs.iter().find(|port| port.role == PORT_FT).map(PortSpec::kernel_name);
        let link = sync::link(config.ft.as_ref(), nonce, ft_port);
        let (pair, sole) = match &config.ft {
            Some(group) => {
                let start = PairStart {
                    config: &config,
                    group,
                    nonce,
                    specs: &specs,
                    options,
                    gate: gate.clone(),
                    settings,
                    announcer,
                    flusher: ring.flusher(),
                    promises,
                    parked,
                    restraint,
                    peer_lease: super::lease::noted(saved.as_ref()),
                };
                let hop_number = hop_number(&neighbours);
                let replica = KernelReplica::new(
                    Arc::clone(&table),
                    table6.clone(),
                    Arc::clone(&directory),
                    hop_number,
                );
                (Some(start.start(replica, deltas)?), None)
            }
            None => {
                let sole = Sole::hold(Arc::clone(&gate)).map_err(Failure::step("the gate's thread"))?;
                announcements.announce();
                (None, Some(sole))
            }
        };
        drop(haste);
        drain.hold(0).map_err(map_step())?;
        let (ft, replication) = pair.unzip();
        let tracer = early.unwrap_or_else(|| tracer(&mut dataplane));
        let standby = standby::start(&config, &specs, &dataplane)?;
        let macs = Macs::start(&config, &specs, &dataplane, (macs, known))?;
        let (track, tracked_links) = tracking::start(&config, &specs)?;
        let node = Arc::new(Node {
            started: Instant::now(),
            resumed,
            runtime: tokio::runtime::Handle::current(),
            ports,
            modes: dataplane.modes().clone(),
            outlived: dataplane.is_kept(),
            options: options.clone(),
            gate,
            drain,
            table,
            table6,
            directory,
            deltas: sink,
            nudger,
            counters,
            planner,
            neighbours,
            own_gateways,
            health: probes.health(),
            ft: ft.as_ref().map(FtHandle::control),
            standby,
            track,
            replication,
            walked,
            tracer,
            changes,
            link,
            macs,
            saved,
            reloads: Reloads::default(),
            advertised: Advertised::default(),
            saving: Mutex::default(),
        });
        Ok(Self {
            node,
            inputs: Inputs { hints, links, wishes, ft, active, tracked_links },
            announcements,
            threads: Threads {
                _sole: sole,
                _ring: ring,
                _fragments: (fragments, fragments6),
                _expiry: expiry,
                _probes: probes,
            },
            undo: Undo {
                _dataplane: dataplane,
                _memberships: memberships,
                _addresses: addresses,
                _tags: tags,
                _pairs: pairs,
                _bonds: bonds,
            },
        })
    }
}

/// Loads the traced form of the program.
fn tracer(dataplane: &mut Dataplane) -> Result<Arc<Tracer>, String> {
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

fn follow_neighbours(
    config: &Config,
    specs: &[PortSpec],
    (virtual_mac, macs): ([u8; 6], &OwnMacs),
    sink: Hops,
    links: mpsc::Sender<LinkEvent>,
) -> Result<Neighbours, Failure> {
    let hop_ports: Vec<HopPort> = (0..)
        .zip(specs)
        .map(|(number, spec)| HopPort {
            number,
            vlan: spec.vlan,
            ifindex: spec.kernel_ifindex(),
            tagged: spec.tagged,
            bridge: spec.bridge.map(|(vlan, _)| vlan),
            mtu: spec.mtu,
            networks: {
                let vlan = config.vlans.iter().find(|vlan| vlan.id.get() == spec.vlan);
                let of_router = |family| {
                    let mut nets = config.router_networks().filter(|(_, vlan, _)| vlan.get() == spec.vlan);
                    Some(nets.find(|(_, _, net)| Family::of(net.addr()) == family)?.2)
                };
                Family::ALL.map(|family| vlan.and_then(|vlan| vlan.own(family)).or_else(|| of_router(family)))
            },
        })
        .collect();
    let on_link = move |event| {
        // Full only while the loop stands still; it reads the ports' state anew when it goes on.
        let _full = links.try_send(event);
    };
    let mut table = NeighbourTable::new(virtual_mac, &hop_ports);
    for spec in specs {
        // No host is known yet.
        let _none = table.set_source(spec.vlan, own_mac(macs, spec));
    }
    Neighbours::spawn(table, Box::new(sink), on_link).map_err(Failure::step("the neighbour table"))
}

fn hop_number(neighbours: &Arc<Neighbours>) -> super::replica::HopNumber {
    let neighbours = Arc::clone(neighbours);
    Arc::new(move |key| neighbours.number(key))
}

fn spawn_expiry(
    expiry: Expiry,
    planner: &Arc<Planner>,
    neighbours: &Arc<Neighbours>,
    counters: &Arc<Counters>,
    walked: &Arc<WalkedCell>,
    (loads, shares): (Arc<Loads>, Shares),
) -> Result<ExpiryThread, Failure> {
    let (begin_planner, begin_neighbours) = (Arc::clone(planner), Arc::clone(neighbours));
    let begin_loads = Arc::clone(&loads);
    let begin = move |walk| {
        begin_loads.walk_begins();
        begin_planner.walk_begins(walk);
        begin_neighbours.walk_begins(walk);
    };
    let (planner, neighbours, counters) = (Arc::clone(planner), Arc::clone(neighbours), Arc::clone(counters));
    let walked = Arc::clone(walked);
    let inband = InbandCheck::new(&planner, &counters);
    let end = move |census: Census| {
        inband.walk_ended(&census.abnormal);
        loads.walk_ended(&census.loads, &census.places);
        shares.walk_ended(&census.held);
        if let Err(error) = counters.clear(&planner.walk_ended(&census)) {
            tracing::warn!(%error, "counters of released numbers could not be cleared");
        }
        neighbours.walk_ended(census.walk, |number| census.hops_in_use.contains(&number));
        walked.add(census);
    };
    ExpiryThread::spawn(expiry, begin, end).map_err(Failure::step("expiry"))
}
