//! The shell: one task that owns the [`Tracker`], one for each gateway that asks it, and one for each VRRP group that listens.

mod socket;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::socket::Asker;
use super::liveness::Liveness;
use super::machine::{Cause, Change, Object, Tracked, Tracker, What};
use super::vrrp::Watch;
use crate::model::TrackMode;

/// Reports that may wait for the task.
const REPORTS_MAX: usize = 256;

/// How a gateway is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPath {
    /// Whom.
    pub gateway: IpAddr,
    /// This node's own address in the gateway's network, of the same family.
    pub own: IpAddr,
    /// MAC address that belongs to it.
    pub mac: [u8; 6],
    /// Index of the interface on which the kernel has it.
    pub ifindex: u32,
    /// Its name.
    pub interface: String,
    /// By ICMP echo; else by ARP, or by neighbour solicitation.
    pub icmp: bool,
    /// Between two questions.
    pub interval: Duration,
    /// Missing answers in a row after which it is down.
    pub retries: u8,
}

/// A VRRP group, and where it is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VrrpPath {
    /// Group, 1–255.
    pub group: u8,
    /// Version, 2 or 3.
    pub version: u8,
    /// Own address of the router that should be the master.
    pub router: Ipv4Addr,
    /// Index of the interface.
    pub ifindex: u32,
    /// Its name.
    pub interface: String,
}

/// An object that others watch is up, or down, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub object: Object,
    /// Up.
    pub up: bool,
    /// Why not.
    pub cause: Option<Cause>,
}

/// What is tracked, and how.
#[derive(Clone, Debug)]
pub struct TrackOptions {
    /// `track mode`.
    pub mode: TrackMode,
    /// `track hold-down`.
    pub hold_down: Duration,
    /// What others watch and report, as `track group` and `track serverfarm`.
    pub others: Vec<Object>,
    /// `track vrrp`.
    pub vrrp: Vec<VrrpPath>,
    /// `track gateway`.
    pub gateways: Vec<GatewayPath>,
    /// `track interface`, as each is at the start; `None`: it is up.
    pub interfaces: Vec<(String, Option<Cause>)>,
    /// `module csm N`, for the log.
    pub slot: u8,
}

/// What is known now. Times count from the start of the task, see [`TrackHandle::now`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackStatus {
    /// The verdict.
    pub eligible: bool,
    /// End of the hold-down, if it runs.
    pub hold_down_ends: Option<Duration>,
    /// What is tracked.
    pub objects: Vec<Tracked>,
    /// The latest changes, oldest first.
    pub changes: Vec<Change>,
}

impl TrackStatus {
    fn of(tracker: &Tracker) -> Self {
        Self {
            eligible: tracker.is_eligible(),
            hold_down_ends: tracker.hold_down_ends(),
            objects: tracker.objects().to_vec(),
            changes: tracker.changes().cloned().collect(),
        }
    }
}

/// The running tracking; ends when dropped.
#[derive(Debug)]
pub struct TrackHandle {
    status: watch::Receiver<Arc<TrackStatus>>,
    reports: mpsc::Sender<Report>,
    epoch: Instant,
    _tasks: JoinSet<()>,
}

impl TrackHandle {
    /// What is known; `changed()` wakes on each change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<TrackStatus>> {
        self.status.clone()
    }

    /// An object that others watch is up, or down.
    pub fn report(&self, report: Report) {
        if self.reports.try_send(report).is_err() {
            tracing::warn!("tracking is behind: the state of an object is lost until it changes again");
        }
    }

    /// Time since the start, as in [`TrackStatus`].
    #[must_use]
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// Starts tracking; must be called within a tokio runtime.
///
/// # Errors
/// If a socket for ARP cannot be had.
pub fn spawn(options: TrackOptions) -> io::Result<TrackHandle> {
    let TrackOptions { mode, hold_down, others, vrrp, gateways, interfaces, slot } = options;
    let epoch = Instant::now();
    let objects = others.into_iter().chain(vrrp.iter().map(|path| Object::Vrrp(path.group, path.router)));
    let objects = objects.chain(gateways.iter().map(|path| Object::Gateway(path.gateway)));
    let objects = objects.chain(interfaces.iter().map(|(name, _)| Object::Interface(name.clone())));
    let mut tracker = Tracker::new(mode, hold_down, objects.collect());
    for (name, cause) in interfaces {
        let object = Object::Interface(name);
        tracker.explain(&object, cause);
        log(slot, &tracker.report(&object, cause.is_none(), Duration::ZERO));
    }
    let (publish, status) = watch::channel(Arc::new(TrackStatus::of(&tracker)));
    let (reports, inbox) = mpsc::channel(REPORTS_MAX);
    let mut tasks = JoinSet::new();
    for (id, path) in (0..).zip(gateways) {
        let liveness = Liveness::new(path.interval, path.retries);
        // Another process of this host may ask, too.
        let id = id ^ u16::from_be_bytes([path.mac[4], path.mac[5]]);
        let asker = Asker::open(&path, id)?;
        tasks.spawn(Watcher { path, asker, liveness, epoch, reports: reports.clone() }.run());
    }
    for path in vrrp {
        let socket = socket::vrrp(&path)?;
        tasks.spawn(listen(path, socket, epoch, reports.clone()));
    }
    tasks.spawn(Driver { tracker, epoch, publish, slot }.run(inbox));
    Ok(TrackHandle { status, reports, epoch, _tasks: tasks })
}

struct Driver {
    tracker: Tracker,
    epoch: Instant,
    publish: watch::Sender<Arc<TrackStatus>>,
    slot: u8,
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::Receiver<Report>) {
        loop {
            let end = self.tracker.hold_down_ends().map(|end| self.epoch + end);
            let mut explained = false;
            let changed = tokio::select! {
                report = inbox.recv() => match report {
                    Some(Report { object, up, cause }) => {
                        explained = self.tracker.explain(&object, cause);
                        self.tracker.report(&object, up, self.epoch.elapsed())
                    }
                    None => return,
                },
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                    self.tracker.wake(self.epoch.elapsed())
                }
            };
            log(self.slot, &changed);
            if explained || !changed.is_empty() {
                self.publish.send_replace(Arc::new(TrackStatus::of(&self.tracker)));
            }
        }
    }
}

/// In the CSM's syslog form.
fn log(slot: u8, changed: &[What]) {
    for what in changed {
        match what {
            What::Object(_, true) | What::Eligible(true) => {
                tracing::info!("%CSM_SLB-6-REDUNDANCY_INFO: Module {slot} FT info: tracking: {what}");
            }
            What::Object(_, false) | What::Eligible(false) => {
                tracing::warn!("%CSM_SLB-4-REDUNDANCY_WARN: Module {slot} FT warning: tracking: {what}");
            }
        }
    }
}

/// Asks one gateway for ever.
struct Watcher {
    path: GatewayPath,
    asker: Asker,
    liveness: Liveness,
    epoch: Instant,
    reports: mpsc::Sender<Report>,
}

impl Watcher {
    async fn run(mut self) {
        let mut told = None;
        // Set after an error, which might come again at once; the next question tries anew.
        let mut deaf = false;
        loop {
            let due = self.epoch + self.liveness.due();
            tokio::select! {
                // However many packets come, the question goes out in time.
                biased;
                () = sleep_until(due) => {
                    deaf = false;
                    if self.liveness.ask(self.epoch.elapsed()) {
                        self.asker.ask(&self.path);
                    }
                }
                heard = self.asker.hear(&self.path), if !deaf => match heard {
                    Ok(true) => self.liveness.answered(),
                    Ok(false) => {}
                    // The interface is down.
                    Err(_) => deaf = true,
                },
            }
            let object = || Object::Gateway(self.path.gateway);
            if !tell(&self.reports, &mut told, self.liveness.up(), None, object).await {
                return;
            }
        }
    }
}

/// Listens to one VRRP group for ever.
async fn listen(path: VrrpPath, socket: UdpSocket, epoch: Instant, reports: mpsc::Sender<Report>) {
    let mut watch = Watch::new(path.group, path.version, path.router);
    let (mut told, mut packet, mut deaf) = (None, [0_u8; 256], false);
    loop {
        tokio::select! {
            // What lies in the queue was said before the master's time ran out.
            biased;
            received = socket.recv(&mut packet), if !deaf => match received {
                // What is malformed changes nothing.
                Ok(length) => drop(watch.heard(&packet[..length], epoch.elapsed())),
                // The interface is down; when the time is over it is tried again.
                Err(_) => deaf = true,
            },
            () = sleep_until(epoch + watch.due()) => {
                deaf = false;
                watch.wake(epoch.elapsed());
            }
        }
        let object = || Object::Vrrp(path.group, path.router);
        let cause = watch.other_version().map(|heard| Cause::OtherVersion(heard, path.version));
        if !tell(&reports, &mut told, watch.up(), cause, object).await {
            return;
        }
    }
}

/// Reports a state, or a cause of it, that is not the one that was `told` last; `false`: nobody listens any more.
async fn tell(
    reports: &mpsc::Sender<Report>,
    told: &mut Option<(bool, Option<Cause>)>,
    up: Option<bool>,
    cause: Option<Cause>,
    object: impl Fn() -> Object,
) -> bool {
    let now = up.map(|up| (up, cause));
    if now == *told {
        return true;
    }
    *told = now;
    match up {
        Some(up) => reports.send(Report { object: object(), up, cause }).await.is_ok(),
        None => true,
    }
}
