//! The third stage of a start: the threads around the program.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use csm_common::address::V6;
use csm_common::gate::GateState;
use tokio::sync::mpsc;

use super::Failure;
use super::attached::{Attached, map_step};
use super::planned::Planned;
use crate::arp::announcer::Announcer;
use crate::arp::task::AnnounceThread;
use crate::daemon::apply::{self, Changes, Wish};
use crate::daemon::inband::InbandCheck;
use crate::daemon::node::WalkedCell;
use crate::daemon::planner::Loads;
use crate::daemon::replica::DeltaQueue;
use crate::daemon::shares::Shares;
use crate::dataplane::expiry::{Census, Expiry, ExpiryThread, Pace};
use crate::dataplane::family::Wire;
use crate::dataplane::maps::LoadMaps;
use crate::dataplane::ring::{DeltaSink, Hint, RingThread};
use crate::dataplane::table::monotonic_ns;
use crate::dataplane::task::fragments::FragmentThread;
use crate::dataplane::task::nudge::Nudger;
use crate::neigh::groups::Groups;
use crate::replication::record::DeltaEvent;

/// Deltas that may wait for replication; more mark the replica for repair.
const DELTAS_MAX: usize = 65_536;
/// Hints of the event ring that may wait.
const HINTS_MAX: usize = 4_096;
/// Wishes of changed configurations that may wait.
const WISHES_MAX: usize = 64;

/// Threads, and what is heard from them.
pub(super) struct Workers {
    pub(super) announcer: Arc<Announcer>,
    pub(super) announcements: AnnounceThread,
    pub(super) changes: Changes,
    pub(super) wishes: mpsc::Receiver<Wish>,
    /// Read by the expiry.
    pub(super) active: Arc<AtomicBool>,
    pub(super) sink: DeltaSink,
    pub(super) deltas: crossbeam::channel::Receiver<DeltaEvent>,
    pub(super) ring: RingThread,
    pub(super) hints: mpsc::Receiver<Hint>,
    pub(super) fragments: (FragmentThread, Option<FragmentThread>),
    pub(super) nudger: Nudger,
    pub(super) walked: Arc<WalkedCell>,
    pub(super) expiry: ExpiryThread,
}

impl Workers {
    pub(super) fn start(attached: &Attached, planned: &Planned, connections: u32) -> Result<Self, Failure> {
        let dataplane = &attached.undo.dataplane;
        let announcer = announcer(attached, planned)?;
        let (wishes_in, wishes) = mpsc::channel(WISHES_MAX);
        let mut groups = Groups::default();
        let solicited = apply::solicited(&planned.planner.desired(), attached.specs.iter());
        groups.set(solicited).map_err(Failure::step("the multicast groups of the IPv6 addresses"))?;
        let changes = Changes::new(planned.probes.reloads(), Arc::clone(&announcer), groups, wishes_in);
        let gate = dataplane.gate();
        let is_open = move || gate.load().state_at(monotonic_ns()) == GateState::Open;
        let announcements =
            AnnounceThread::spawn(Arc::clone(&announcer), is_open).map_err(Failure::step("announcements"))?;
        let active = Arc::new(AtomicBool::new(planned.planner.config().ft.is_none()));
        let (deltas_in, deltas) = crossbeam::channel::bounded(DELTAS_MAX);
        let (hints_in, hints) = mpsc::channel(HINTS_MAX);
        let queue = DeltaQueue::new(deltas_in, Arc::clone(&planned.directory));
        let sink: DeltaSink = Arc::new(move |delta| queue.tell(delta));
        let ring = RingThread::spawn(dataplane, Arc::clone(&sink), hints_in)
            .map_err(Failure::step("the event ring"))?;
        let fragments6 = attached.ipv6.then(|| fragments::<V6>(attached)).transpose()?;
        let fragments = (fragments::<u32>(attached)?, fragments6);
        let outs = attached.specs.iter().map(|port| port.ifindex).collect();
        let nudger = Nudger::new(dataplane, outs).map_err(Failure::step("a packet socket"))?;
        let walked = Arc::new(WalkedCell::default());
        let walk = Expiry {
            table: Arc::clone(&planned.table),
            table6: planned.table6.clone(),
            settings: Arc::clone(&planned.settings),
            directory: Arc::clone(&planned.directory),
            active: Arc::clone(&active),
            deltas: Arc::clone(&sink),
            pace: Pace::default(),
        };
        let expiry = expiry(walk, attached, planned, &walked, connections)?;
        Ok(Self {
            announcer,
            announcements,
            changes,
            wishes,
            active,
            sink,
            deltas,
            ring,
            hints,
            fragments,
            nudger,
            walked,
            expiry,
        })
    }
}

fn announcer(attached: &Attached, planned: &Planned) -> Result<Arc<Announcer>, Failure> {
    let announced = apply::announced(&planned.planner.desired(), attached.specs.iter(), &attached.macs.0);
    let announcer = Announcer::new(attached.group_mac, &announced).map_err(Failure::step("announcements"))?;
    announcer.set_refresh(planned.planner.config().variables.gratuitous);
    Ok(Arc::new(announcer))
}

fn fragments<A: Wire + Send>(attached: &Attached) -> Result<FragmentThread, Failure> {
    let dataplane = &attached.undo.dataplane;
    let runner = dataplane.runner().map_err(Failure::step("the dataplane"))?;
    FragmentThread::spawn::<A>(dataplane, runner)
        .map_err(Failure::step::<std::io::Error>("the ring of fragments"))
}

/// Starts the thread that walks the tables, and what is to be known of each walk.
fn expiry(
    walk: Expiry,
    attached: &Attached,
    planned: &Planned,
    walked: &Arc<WalkedCell>,
    connections: u32,
) -> Result<ExpiryThread, Failure> {
    let dataplane = &attached.undo.dataplane;
    let planner = Arc::clone(&planned.planner);
    let reals = LoadMaps::open(dataplane).map_err(map_step())?;
    let vservers = LoadMaps::of_vservers(dataplane).map_err(map_step())?;
    let loads = Arc::new(Loads::new(reals, vservers, Arc::clone(&planner)));
    let shares = Shares::open(dataplane, &planner, connections).map_err(map_step())?;
    let inband = InbandCheck::new(&planner, &planned.counters);
    let (begin_planner, begin_neighbours) = (Arc::clone(&planner), Arc::clone(&planned.neighbours));
    let begin_loads = Arc::clone(&loads);
    let begin = move |walk| {
        begin_loads.walk_begins();
        begin_planner.walk_begins(walk);
        begin_neighbours.walk_begins(walk);
    };
    let (neighbours, counters) = (Arc::clone(&planned.neighbours), Arc::clone(&planned.counters));
    let walked = Arc::clone(walked);
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
    ExpiryThread::spawn(walk, begin, end).map_err(Failure::step("expiry"))
}
