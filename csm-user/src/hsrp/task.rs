//! The shell: one task for each group, with its sockets and timers; those that may forward run on a real-time thread.
//!
//! The right to forward is a lease: it lasts from one hello to before the others take this router for gone, so that a
//! router that is stopped or late has stopped to forward before another one begins.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::Socket;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::advert::{Advertiser, SOLICITATION};
use super::frame::frame;
use super::machine::{Effect, Event, Ignored, Machine, Params, Router, Timer};
use super::wire::{Message, Op, State, port};
use crate::model::Family;

mod socket;

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
    /// By which this host forwards for the group; `None`: others do, or the kernel.
    pub port: Option<SpeakerPort>,
    /// Whether the port has a link, and what tracking leaves of the priority.
    pub wish: Wish,
}

/// What a group's speaker needs beside the kernel's interface.
#[derive(Clone)]
pub struct SpeakerPort {
    /// Interface index of the port.
    pub ifindex: u32,
    /// VLAN of the tag that frames have there; 0: none.
    pub tag: u16,
    /// What tells the network where the virtual address is now: whole frames; none while it is to be learned.
    pub announcement: Vec<Vec<u8>>,
    /// Of an IPv6 group: the router advertisement, a whole frame.
    pub advertisement: Option<Vec<u8>>,
    /// The group's gate.
    pub authority: Arc<dyn Authority>,
}

impl fmt::Debug for SpeakerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpeakerPort").field("ifindex", &self.ifindex).field("tag", &self.tag).finish()
    }
}

/// The gate of a group.
pub trait Authority: Send + Sync {
    /// Forward for the group for so long from now on.
    fn open(&self, lease: Duration);
    /// Another router has it: take on for so long, and no longer than the lease lasts, what still comes.
    fn drain(&self, time: Duration);
    /// Whether it forwards now.
    fn is_open(&self) -> bool;
    /// The group has learned its virtual address: what tells the network where it is, as
    /// [`SpeakerPort::announcement`].
    fn learned(&self, address: IpAddr) -> Vec<Vec<u8>>;
}

/// What the daemon tells a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The interface has a link.
    pub up: bool,
    /// Priority, less what tracking takes from it.
    pub priority: u8,
}

/// How long a router that has stepped down takes on what still comes to it.
const DRAIN: Duration = Duration::from_secs(1);
/// Announcements beside the first one, with the hellos that follow.
const REPEATS: u8 = 3;

/// How long after a hello the right to forward lasts: less than the hold time that the hello says, by an eighth or by half of
/// what the hold time leaves beyond the next hello.
fn lease(hello: Duration, hold: Duration) -> Duration {
    hold - (hold / 8).min(hold.saturating_sub(hello) / 2)
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
    pub address: Option<IpAddr>,
    /// Hello and hold time in force.
    pub timers: (Duration, Duration),
    /// The active router.
    pub active: Option<Heard>,
    /// The standby router.
    pub standby: Option<Heard>,
    /// When the next hello is due, if it speaks; since the start.
    pub next_hello: Option<Duration>,
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
    wishes: Vec<watch::Sender<Wish>>,
    stop: watch::Sender<bool>,
    epoch: Instant,
    tasks: JoinSet<()>,
    /// Where they run, if they have a thread of their own.
    thread: Option<std::thread::JoinHandle<()>>,
}

impl HsrpHandle {
    /// Tells group `index` of its interface and priority.
    pub fn wish(&self, index: usize, wish: Wish) {
        if let Some(known) = self.wishes.get(index) {
            known.send_if_modified(|known| std::mem::replace(known, wish) != wish);
        }
    }

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
        self.resign();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Has all groups end in order, without waiting for it.
    pub fn resign(&self) {
        self.stop.send_replace(true);
    }
}

/// Starts `groups`; must be called within a tokio runtime.
///
/// # Errors
/// If a socket cannot be had.
pub fn spawn(groups: Vec<GroupOptions>) -> io::Result<HsrpHandle> {
    start(groups, None)
}

/// As [`spawn`], on a real-time thread of its own.
///
/// # Errors
/// If a socket, the runtime or the thread cannot be had.
pub fn spawn_realtime(groups: Vec<GroupOptions>) -> io::Result<HsrpHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    start(groups, Some(runtime))
}

fn start(groups: Vec<GroupOptions>, runtime: Option<Runtime>) -> io::Result<HsrpHandle> {
    let epoch = Instant::now();
    let (publish, changed) = watch::channel(0);
    let publish = Arc::new(publish);
    let (stop, stopped) = watch::channel(false);
    let (mut shown, mut wishes, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    let entered = runtime.as_ref().map(Runtime::enter);
    for options in groups {
        let (wish, wished) = watch::channel(options.wish);
        let group = Group::new(options, epoch, Arc::clone(&publish), wished)?;
        shown.push(Arc::clone(&group.shown));
        wishes.push(wish);
        ready.push(group.run(stopped.clone()));
    }
    drop(entered);
    let mut tasks = JoinSet::new();
    let thread = match runtime {
        None => {
            ready.into_iter().for_each(|group| drop(tasks.spawn(group)));
            None
        }
        Some(runtime) => Some(std::thread::Builder::new().name("csm-hsrp".into()).spawn(move || {
            if let Err(error) = become_realtime() {
                tracing::warn!(%error, "HSRP runs without real-time scheduling");
            }
            runtime.block_on(async {
                let mut tasks: JoinSet<()> = JoinSet::new();
                ready.into_iter().for_each(|group| drop(tasks.spawn(group)));
                while tasks.join_next().await.is_some() {}
            });
        })?),
    };
    Ok(HsrpHandle { groups: shown, changed, wishes, stop, epoch, tasks, thread })
}

/// As the election's thread, and below it.
fn become_realtime() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 9 };
    // SAFETY: the parameter lives through the call; 0 is the calling thread.
    let set = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameter)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Drop for HsrpHandle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the HSRP thread panicked");
        }
    }
}

struct Group {
    interface: String,
    machine: Machine,
    ears: UdpSocket,
    /// Hears hosts that ask for routers, if it answers them.
    solicitations: Option<UdpSocket>,
    advertiser: Advertiser,
    mouth: Mouth,
    wished: watch::Receiver<Wish>,
    /// Announcements that are still to be repeated.
    repeats: u8,
    deadlines: [Option<Instant>; Timer::ALL.len()],
    counts: Counts,
    changes: u32,
    changed: Duration,
    epoch: Instant,
    shown: Arc<Mutex<GroupStatus>>,
    publish: Arc<watch::Sender<u64>>,
}

/// By what a group speaks.
enum Mouth {
    /// It listens.
    None,
    /// The kernel's address.
    Kernel(UdpSocket),
    /// Whole frames on the port.
    Port(Socket, SpeakerPort),
}

impl Group {
    fn new(
        options: GroupOptions,
        epoch: Instant,
        publish: Arc<watch::Sender<u64>>,
        wished: watch::Receiver<Wish>,
    ) -> io::Result<Self> {
        let GroupOptions { interface, ifindex, mut params, port, wish } = options;
        params.priority = wish.priority;
        let ears = socket::ears(&interface, ifindex, params.version, Family::of(params.own))?;
        let advertises = port.as_ref().is_some_and(|port| port.advertisement.is_some());
        let solicitations = advertises.then(|| socket::solicitations(&interface, ifindex)).transpose()?;
        let mouth = match port {
            _ if params.listen_only => Mouth::None,
            Some(port) => Mouth::Port(socket::packet(port.ifindex)?, port),
            None => Mouth::Kernel(socket::mouth(&interface, ifindex, params.version, params.own)?),
        };
        let machine = Machine::new(params);
        let status = status(&interface, &machine);
        Ok(Self {
            interface,
            machine,
            ears,
            solicitations,
            advertiser: Advertiser::default(),
            mouth,
            wished,
            repeats: 0,
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
        if self.wished.borrow_and_update().up {
            self.event(&Event::Up);
        }
        let (mut buffer, mut asked, mut burst) = ([0_u8; 256], [0_u8; 256], 0);
        loop {
            let due = Timer::ALL
                .into_iter()
                .filter_map(|timer| Some((self.deadlines[timer as usize]?, timer)))
                .min();
            let (at, timer) = due.unzip();
            // What lies in the queue was said before the timer ran out, if this task was held up; but not for ever.
            let advert = self.advertiser.due().map(|due| self.epoch + due);
            let listens = burst < BURST || at.is_none_or(|at| at > Instant::now());
            tokio::select! {
                biased;
                // A dropped sender means the same.
                _ = stop.wait_for(|stop| *stop) => break,
                Ok(()) = self.wished.changed() => self.wished(),
                received = self.ears.recv_from(&mut buffer), if listens => {
                    burst += 1;
                    if let Ok((length, source)) = received {
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
                () = sleep_until(advert.unwrap_or_else(Instant::now)), if advert.is_some() => self.advertise(),
                heard = async {
                    match &self.solicitations {
                        Some(socket) => socket.recv(&mut asked).await,
                        None => std::future::pending().await,
                    }
                } => {
                    // However it came here, it brings no more than an advertisement in three seconds.
                    if heard.is_ok_and(|length| length > 0) && asked[0] == SOLICITATION {
                        self.advertiser.solicited(self.epoch.elapsed());
                    }
                }
            }
        }
        self.event(&Event::Down);
    }

    fn wished(&mut self) {
        let Wish { up, priority } = *self.wished.borrow_and_update();
        self.event(&Event::Priority(priority));
        self.event(if up { &Event::Up } else { &Event::Down });
    }

    /// A router that woke too late: its lease has ended, and another one may have the group. It begins anew.
    fn overslept(&mut self) -> bool {
        let Mouth::Port(_, port) = &self.mouth else { return false };
        self.machine.state() == State::Active && !port.authority.is_open()
    }

    fn received(&mut self, datagram: &[u8], source: SocketAddr) {
        match Message::decode(datagram) {
            Ok(message) if source.port() == port(message.family) => {
                self.counts.received += 1;
                self.event(&Event::Received(source.ip(), message));
            }
            Ok(_) | Err(_) => {
                self.counts.malformed += 1;
                self.show(false);
            }
        }
    }

    fn event(&mut self, event: &Event) {
        let mut effects = Vec::new();
        if self.overslept() {
            tracing::warn!(
                "%HSRP-4-LATE: {} Grp {} was late: it listens again",
                self.interface,
                self.machine.params().group
            );
            self.machine.on_event(&Event::Down, &mut effects);
            // Nothing more is said in the group's name.
            effects.retain(|effect| !matches!(effect, Effect::Send(_)));
            self.advertiser.end();
            self.machine.on_event(&Event::Up, &mut effects);
        }
        let before = self.machine.state();
        self.machine.on_event(event, &mut effects);
        for effect in &effects {
            if let Effect::Address(address) = effect {
                self.learned(*address);
            }
        }
        self.gate(before);
        let mut roles = false;
        for effect in effects {
            match effect {
                Effect::Arm(timer, time) => self.deadlines[timer as usize] = Some(Instant::now() + time),
                Effect::Disarm(timer) => self.deadlines[timer as usize] = None,
                Effect::Send(message) => self.send(&message),
                Effect::Announce => {
                    self.repeats = REPEATS;
                    self.announce();
                }
                Effect::Roles | Effect::Address(_) => roles = true,
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

    /// Before anything is said: who steps down forwards no more, who becomes active does.
    fn gate(&mut self, before: State) {
        let Mouth::Port(_, port) = &self.mouth else { return };
        match (before == State::Active, self.machine.state() == State::Active) {
            (true, false) => {
                port.authority.drain(DRAIN);
                self.advertiser.end();
            }
            (false, true) => {
                self.extend();
                if port.advertisement.is_some() {
                    self.advertiser.begin(self.epoch.elapsed());
                }
            }
            _ => {}
        }
    }

    /// Before the gate may open: the program answers for the address.
    fn learned(&mut self, address: IpAddr) {
        let (interface, group) = (&self.interface, self.machine.params().group);
        tracing::info!("%HSRP: {interface} Grp {group} has learned its virtual address {address}");
        if let Mouth::Port(_, port) = &mut self.mouth {
            port.announcement = port.authority.learned(address);
        }
    }

    fn extend(&self) {
        let Mouth::Port(_, port) = &self.mouth else { return };
        let (hello, hold) = self.machine.timers();
        port.authority.open(lease(hello, hold));
    }

    fn announce(&self) {
        let Mouth::Port(socket, port) = &self.mouth else { return };
        for frame in &port.announcement {
            // What is lost is repeated.
            let _full = socket.send(frame);
        }
    }

    fn advertise(&mut self) {
        if let Mouth::Port(socket, port) = &self.mouth
            && let Some(frame) = &port.advertisement
        {
            // What is lost is repeated, and asked for.
            let _full = socket.send(frame);
        }
        self.advertiser.sent(self.epoch.elapsed());
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
        // What does not leave is as good as lost on the way; the next one comes soon.
        let sent = match &self.mouth {
            Mouth::None => return,
            Mouth::Kernel(mouth) => {
                let (bytes, length) = message.encode();
                let to = SocketAddr::new(message.version.destination(message.family), port(message.family));
                mouth.try_send_to(&bytes[..length], to).is_ok()
            }
            Mouth::Port(socket, port) => {
                let Params { own, mac, .. } = *self.machine.params();
                socket.send(&frame(message, own, mac, port.tag)).is_ok()
            }
        };
        if !sent {
            return;
        }
        self.counts.sent += 1;
        if message.op == Op::Hello && self.machine.state() == State::Active {
            self.extend();
            if self.repeats > 0 {
                self.repeats -= 1;
                self.announce();
            }
        }
    }

    fn show(&self, wake: bool) {
        let until = |timer: Timer| self.deadlines[timer as usize].map(|at| at.duration_since(self.epoch));
        let mut status = status(&self.interface, &self.machine);
        (status.changes, status.changed, status.counts) = (self.changes, self.changed, self.counts);
        status.active = status.active.map(|heard| Heard { until: until(Timer::Active), ..heard });
        status.standby = status.standby.map(|heard| Heard { until: until(Timer::Standby), ..heard });
        status.next_hello = until(Timer::Hello);
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
        next_hello: None,
        known: false,
        counts: Counts::default(),
    }
}
