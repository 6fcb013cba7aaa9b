//! The shell: one task that owns the [`Tracker`], and one for each gateway that asks it.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::arp;
use super::liveness::Liveness;
use super::machine::{Change, Object, Tracked, Tracker, What};
use crate::model::TrackMode;

/// Reports that may wait for the task.
const REPORTS_MAX: usize = 256;
/// ETH_P_ARP.
const ARP: u16 = 0x0806;

/// How a gateway is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayPath {
    /// Whom.
    pub gateway: Ipv4Addr,
    /// This node's own address in the gateway's network.
    pub own: Ipv4Addr,
    /// MAC address that belongs to it.
    pub mac: [u8; 6],
    /// Index of the interface on which the kernel has it.
    pub ifindex: u32,
}

/// What is tracked, and how.
#[derive(Clone, Debug)]
pub struct TrackOptions {
    /// `track mode`.
    pub mode: TrackMode,
    /// `track hold-down`.
    pub hold_down: Duration,
    /// `track interval`.
    pub interval: Duration,
    /// `track retries`.
    pub retries: u8,
    /// `track group`; whoever hears HSRP reports them.
    pub groups: Vec<(u16, Ipv4Addr)>,
    /// `track gateway`.
    pub gateways: Vec<GatewayPath>,
    /// `track interface`, and whether each is up at the start.
    pub interfaces: Vec<(String, bool)>,
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
    reports: mpsc::Sender<(Object, bool)>,
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
    pub fn report(&self, object: Object, up: bool) {
        if self.reports.try_send((object, up)).is_err() {
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
    let TrackOptions { mode, hold_down, interval, retries, groups, gateways, interfaces, slot } = options;
    let epoch = Instant::now();
    let objects = groups.into_iter().map(|(group, router)| Object::Group(group, router));
    let objects = objects.chain(gateways.iter().map(|path| Object::Gateway(path.gateway)));
    let objects = objects.chain(interfaces.iter().map(|(name, _)| Object::Interface(name.clone())));
    let mut tracker = Tracker::new(mode, hold_down, objects.collect());
    for (name, up) in interfaces {
        log(slot, &tracker.report(&Object::Interface(name), up, Duration::ZERO));
    }
    let (publish, status) = watch::channel(Arc::new(TrackStatus::of(&tracker)));
    let (reports, inbox) = mpsc::channel(REPORTS_MAX);
    let mut tasks = JoinSet::new();
    for path in gateways {
        let liveness = Liveness::new(interval, retries);
        let watcher =
            Watcher { path, socket: open(path.ifindex)?, liveness, epoch, reports: reports.clone() };
        tasks.spawn(watcher.run());
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
    async fn run(mut self, mut inbox: mpsc::Receiver<(Object, bool)>) {
        loop {
            let end = self.tracker.hold_down_ends().map(|end| self.epoch + end);
            let changed = tokio::select! {
                report = inbox.recv() => match report {
                    Some((object, up)) => self.tracker.report(&object, up, self.epoch.elapsed()),
                    None => return,
                },
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                    self.tracker.wake(self.epoch.elapsed())
                }
            };
            if !changed.is_empty() {
                log(self.slot, &changed);
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
    /// A packet socket: only send and recv are used, which are the same for any bound one.
    socket: UdpSocket,
    liveness: Liveness,
    epoch: Instant,
    reports: mpsc::Sender<(Object, bool)>,
}

impl Watcher {
    async fn run(mut self) {
        let GatewayPath { gateway, own, mac, .. } = self.path;
        let mut told = None;
        // Set after an error, which might come again at once; the next question tries anew.
        let mut deaf = false;
        let mut frame = [0_u8; 64];
        loop {
            let due = self.epoch + self.liveness.due();
            tokio::select! {
                // However many frames come, the question goes out in time.
                biased;
                () = sleep_until(due) => {
                    deaf = false;
                    if self.liveness.ask(self.epoch.elapsed()) {
                        // What does not leave is not answered.
                        let _unsent = self.socket.try_send(&arp::request(mac, own, gateway));
                    }
                }
                received = self.socket.recv(&mut frame), if !deaf => match received {
                    Ok(length) if arp::is_answer(&frame[..length], own, gateway) => self.liveness.answered(),
                    Ok(_) => {}
                    // The interface is down.
                    Err(_) => deaf = true,
                },
            }
            let up = self.liveness.up();
            if up != told {
                told = up;
                let report = up.map(|up| (Object::Gateway(gateway), up));
                if let Some(report) = report
                    && self.reports.send(report).await.is_err()
                {
                    return;
                }
            }
        }
    }
}

/// A packet socket for ARP on `ifindex`.
fn open(ifindex: u32) -> io::Result<UdpSocket> {
    let protocol = Protocol::from(i32::from(ARP.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?;
    // SAFETY: all zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = ARP.to_be();
    address.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: `address` is a `sockaddr_ll` of that length and lives through the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { UdpSocket::from_std(socket.into()) }
}
