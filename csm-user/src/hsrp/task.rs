//! The shell: one task for each group, with its sockets and timers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::machine::{Effect, Event, Ignored, Machine, Params, Router, Timer};
use super::wire::{Message, PORT, State, Version};

/// Messages in a row after which a timer that is due has its turn.
const BURST: u32 = 32;

/// A group on an interface.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// Name of the interface, for `show` and the log.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// The group.
    pub params: Params,
}

/// A router and until when it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Which.
    pub router: Router,
    /// End of the hold time, if it runs; since the start, see [`HsrpHandle::now`].
    pub until: Option<Duration>,
}

/// Messages of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted.
    pub received: u64,
    /// Sent.
    pub sent: u64,
    /// Not decoded, or with a port that is not HSRP's.
    pub malformed: u64,
    /// Of another authentication.
    pub authentication: u64,
    /// With another virtual address, or from this router's own.
    pub conflicting: u64,
}

/// What `show standby` shows of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// Name of its interface.
    pub interface: String,
    /// As configured, with the priority as it is now.
    pub params: Params,
    /// State.
    pub state: State,
    /// Changes of the state since the start.
    pub changes: u32,
    /// The last one; since the start.
    pub changed: Duration,
    /// Virtual address, configured or learned.
    pub address: Option<Ipv4Addr>,
    /// Hello and hold time in force.
    pub timers: (Duration, Duration),
    /// The active router.
    pub active: Option<Heard>,
    /// The standby router.
    pub standby: Option<Heard>,
    /// Whether `active` is known: one was heard, or none for the hold time.
    pub known: bool,
    /// Messages.
    pub counts: Counts,
}

/// The running groups; end when dropped, the active one with a resignation if [`HsrpHandle::leave`] was waited for.
#[derive(Debug)]
pub struct HsrpHandle {
    groups: Vec<Arc<Mutex<GroupStatus>>>,
    changed: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    epoch: Instant,
    tasks: JoinSet<()>,
}

impl HsrpHandle {
    /// Every group, in the order given.
    #[must_use]
    pub fn status(&self) -> Vec<GroupStatus> {
        self.groups.iter().map(|group| group.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    /// Wakes when a state, an active or a standby router has changed.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Ends all groups in order: an active router resigns.
    pub async fn leave(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Starts `groups`; must be called within a tokio runtime.
///
/// # Errors
/// If a socket cannot be had.
pub fn spawn(groups: Vec<GroupOptions>) -> io::Result<HsrpHandle> {
    let epoch = Instant::now();
    let (publish, changed) = watch::channel(0);
    let publish = Arc::new(publish);
    let (stop, stopped) = watch::channel(false);
    let (mut shown, mut tasks) = (Vec::new(), JoinSet::new());
    for options in groups {
        let group = Group::new(options, epoch, Arc::clone(&publish))?;
        shown.push(Arc::clone(&group.shown));
        tasks.spawn(group.run(stopped.clone()));
    }
    Ok(HsrpHandle { groups: shown, changed, stop, epoch, tasks })
}

struct Group {
    interface: String,
    machine: Machine,
    ears: UdpSocket,
    /// None of a listener.
    mouth: Option<UdpSocket>,
    deadlines: [Option<Instant>; Timer::ALL.len()],
    counts: Counts,
    changes: u32,
    changed: Duration,
    epoch: Instant,
    shown: Arc<Mutex<GroupStatus>>,
    publish: Arc<watch::Sender<u64>>,
}

impl Group {
    fn new(options: GroupOptions, epoch: Instant, publish: Arc<watch::Sender<u64>>) -> io::Result<Self> {
        let GroupOptions { interface, ifindex, params } = options;
        let destination = params.version.destination();
        let ears = socket(&interface, params.version, destination)?;
        ears.join_multicast_v4_n(&destination, &InterfaceIndexOrAddress::Index(ifindex))?;
        let mouth = if params.listen_only {
            None
        } else {
            Some(tokio(socket(&interface, params.version, params.own)?)?)
        };
        let machine = Machine::new(params);
        let status = status(&interface, &machine);
        Ok(Self {
            interface,
            machine,
            ears: tokio(ears)?,
            mouth,
            deadlines: [None; Timer::ALL.len()],
            counts: Counts::default(),
            changes: 0,
            changed: Duration::ZERO,
            epoch,
            shown: Arc::new(Mutex::new(status)),
            publish,
        })
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.event(&Event::Up);
        let (mut buffer, mut burst) = ([0_u8; 256], 0);
        loop {
            let due = Timer::ALL
                .into_iter()
                .filter_map(|timer| Some((self.deadlines[timer as usize]?, timer)))
                .min();
            let (at, timer) = due.unzip();
            // What lies in the queue was said before the timer ran out, if this task was held up; but not for ever.
            let listens = burst < BURST || at.is_none_or(|at| at > Instant::now());
            tokio::select! {
                biased;
                // A dropped sender means the same.
                _ = stop.wait_for(|stop| *stop) => break,
                received = self.ears.recv_from(&mut buffer), if listens => {
                    burst += 1;
                    if let Ok((length, SocketAddr::V4(source))) = received {
                        self.received(&buffer[..length], source);
                    }
                }
                () = sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => {
                    burst = 0;
                    if let Some(timer) = timer {
                        self.deadlines[timer as usize] = None;
                        self.event(&Event::Timer(timer));
                    }
                }
            }
        }
        self.event(&Event::Down);
    }

    fn received(&mut self, datagram: &[u8], source: SocketAddrV4) {
        match Message::decode(datagram) {
            Ok(message) if source.port() == PORT => {
                self.counts.received += 1;
                self.event(&Event::Received(*source.ip(), message));
            }
            Ok(_) | Err(_) => {
                self.counts.malformed += 1;
                self.show(false);
            }
        }
    }

    fn event(&mut self, event: &Event) {
        let mut effects = Vec::new();
        self.machine.on_event(event, &mut effects);
        let mut roles = false;
        for effect in effects {
            match effect {
                Effect::Arm(timer, time) => self.deadlines[timer as usize] = Some(Instant::now() + time),
                Effect::Disarm(timer) => self.deadlines[timer as usize] = None,
                Effect::Send(message) => self.send(&message),
                // The state changes with it, and the status tells of that.
                Effect::Announce => {}
                Effect::Roles => roles = true,
                Effect::Became(state) => {
                    roles = true;
                    self.changes += 1;
                    self.changed = self.epoch.elapsed();
                    let (interface, group) = (&self.interface, self.machine.params().group);
                    tracing::info!("%HSRP-5-STATECHANGE: {interface} Grp {group} state {state}");
                }
                Effect::Ignored(why) => self.ignored(why),
            }
        }
        // The active timer's end makes it known that nobody is active.
        self.show(roles || *event == Event::Timer(Timer::Active));
    }

    fn ignored(&mut self, why: Ignored) {
        self.counts.received -= 1;
        match why {
            // Each group has ears of its own, which hear all groups.
            Ignored::OtherGroup | Ignored::Down => {}
            Ignored::Authentication => self.counts.authentication += 1,
            Ignored::OwnAddress | Ignored::Address => self.counts.conflicting += 1,
        }
    }

    fn send(&mut self, message: &Message) {
        let Some(mouth) = &self.mouth else { return };
        let (bytes, length) = message.encode();
        let to = SocketAddrV4::new(message.version.destination(), PORT);
        // What does not leave is as good as lost on the way; the next one comes soon.
        if mouth.try_send_to(&bytes[..length], to.into()).is_ok() {
            self.counts.sent += 1;
        }
    }

    fn show(&self, wake: bool) {
        let until = |timer: Timer| self.deadlines[timer as usize].map(|at| at.duration_since(self.epoch));
        let mut status = status(&self.interface, &self.machine);
        (status.changes, status.changed, status.counts) = (self.changes, self.changed, self.counts);
        status.active = status.active.map(|heard| Heard { until: until(Timer::Active), ..heard });
        status.standby = status.standby.map(|heard| Heard { until: until(Timer::Standby), ..heard });
        status.known = status.active.is_some() || until(Timer::Active).is_none();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = status;
        if wake {
            self.publish.send_modify(|count| *count += 1);
        }
    }
}

fn status(interface: &str, machine: &Machine) -> GroupStatus {
    let heard = |router| Heard { router, until: None };
    GroupStatus {
        interface: interface.to_owned(),
        params: machine.params().clone(),
        state: machine.state(),
        changes: 0,
        changed: Duration::ZERO,
        address: machine.address(),
        timers: machine.timers(),
        active: machine.active().map(heard),
        standby: machine.standby().map(heard),
        known: false,
        counts: Counts::default(),
    }
}

/// A socket on `interface` that has `address` for its own: a multicast group's to hear it, this router's to speak.
fn socket(interface: &str, version: Version, address: Ipv4Addr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_ttl_v4(version.ttl())?;
    socket.set_multicast_loop_v4(false)?;
    // Internetwork control, as routers send it.
    socket.set_tos_v4(0xc0)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(address), PORT).into())?;
    Ok(socket)
}

fn tokio(socket: Socket) -> io::Result<UdpSocket> {
    UdpSocket::from_std(socket.into())
}
