//! The neighbour table's shell: one thread follows the kernel's notices and asks it to find hosts; whoever changes the
//! table writes the maps at once, under the table's lock, so that writes keep their order.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::netlink::{Link, Monitor, Netlink, Notice};
use super::table::{Effect, Hop, Known, NeighbourTable};
use crate::model::Host;

/// Requests to the kernel that may wait; beyond that all hosts are asked for anew.
const REQUESTS_MAX: usize = 4096;

/// Where next hops are written: the maps `NEXTHOPS` and `NEIGHBOURS`.
pub trait HopSink: Send + Sync {
    /// Writes next hop `number`.
    ///
    /// # Errors
    /// Of the map operation.
    fn set_nexthop(&self, number: u32, hop: &Hop) -> io::Result<()>;

    /// Lets packets to `host` find next hop `number`, or none.
    ///
    /// # Errors
    /// Of the map operation.
    fn set_neighbour(&self, host: &Host, number: Option<u32>) -> io::Result<()>;
}

/// An interface changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Its state now.
    Changed(Link),
    /// It is gone.
    Gone(u32),
}

struct Shared {
    table: Mutex<NeighbourTable>,
    sink: Box<dyn HopSink>,
    requests: Sender<Effect>,
    wake: EventFd,
    /// Requests were lost: ask for all.
    all: AtomicBool,
    stop: AtomicBool,
}

/// The running table; dropping it stops its thread and takes back what the kernel was asked to keep found.
pub struct Neighbours {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Neighbours").field("table", &self.shared.table).finish_non_exhaustive()
    }
}

impl Neighbours {
    /// Starts following the kernel. `on_link` is called from the thread for each change of any interface.
    ///
    /// # Errors
    /// If netlink or the thread cannot be had.
    pub fn spawn(
        table: NeighbourTable,
        sink: Box<dyn HopSink>,
        on_link: impl Fn(LinkEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, waiting) = bounded(REQUESTS_MAX);
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared {
            table: Mutex::new(table),
            sink,
            requests,
            wake,
            all: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let worker = Worker {
            shared: Arc::clone(&shared),
            waiting,
            monitor: Monitor::open()?,
            netlink: Netlink::open()?,
            managed: HashSet::new(),
            carrying: HashSet::new(),
            refused: Refused::default(),
            on_link,
        };
        let thread = std::thread::Builder::new().name("csm-neigh".into()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// See [`NeighbourTable::adopt`].
    pub fn adopt(&self, known: &[Known]) {
        self.shared.change(|table| ((), table.adopt(known)));
    }

    /// The configuration names these hosts now; returns their next-hop numbers.
    #[must_use]
    pub fn want(&self, wanted: &HashSet<Host>) -> HashMap<Host, u32> {
        self.shared.change(|table| table.want(wanted))
    }

    /// See [`NeighbourTable::fix`].
    pub fn fix(&self, fixed: &HashMap<Host, [u8; 6]>) {
        self.shared.change(|table| ((), table.fix(fixed)));
    }

    /// The next-hop number of a host on a connected network, made if need be; `None` if it is no neighbour or there is
    /// no room.
    #[must_use]
    pub fn number(&self, host: Host) -> Option<u32> {
        self.shared.change(|table| table.learn(host))
    }

    /// A packet waits for a host that has no next hop.
    pub fn unresolved(&self, host: Host) {
        self.shared.change(|table| ((), table.learn(host).1));
    }

    /// A host told its MAC.
    pub fn heard(&self, host: Host, mac: [u8; 6]) {
        self.shared.change(|table| ((), table.heard(host, mac)));
    }

    /// See [`NeighbourTable::set_source`].
    pub fn set_source(&self, vlan: u16, mac: Option<[u8; 6]>) {
        self.shared.change(|table| ((), table.set_source(vlan, mac)));
    }

    /// Writes the next hops on `vlan` anew.
    pub fn rewrite(&self, vlan: u16) {
        self.shared.change(|table| ((), table.write_all(|known| known == vlan)));
    }

    /// Asks for every host again; what is known of one counts until it answers otherwise.
    pub fn resolve_all(&self) {
        self.shared.change(|table| ((), table.resolve_all()));
    }

    /// A walk over the connections begins.
    pub fn walk_begins(&self, walk: u64) {
        self.shared.lock().walk_begins(walk);
    }

    /// The walk has ended and met these next-hop numbers.
    pub fn walk_ended(&self, walk: u64, in_use: impl Fn(u32) -> bool) {
        self.shared.change(|table| ((), table.walk_ended(walk, in_use)));
    }

    /// A router on the way to `remote`, a tunnel's far end, takes packets of at most `mtu` octets; `now` is any clock's.
    pub fn narrow(&self, remote: IpAddr, mtu: u16, now: Duration) {
        self.shared.change(|table| ((), table.narrow(remote, mtu, now)));
    }

    /// What routers said long before `now` may be true no more.
    pub fn widen(&self, now: Duration) {
        self.shared.change(|table| ((), table.widen(now)));
    }

    /// The hosts that the configuration names and that do not answer.
    #[must_use]
    pub fn silent(&self) -> HashSet<Host> {
        self.shared.lock().silent().collect()
    }

    /// Every host with its number and its MAC, if known.
    #[must_use]
    pub fn list(&self) -> Vec<(Host, u32, Option<[u8; 6]>)> {
        self.shared.lock().iter().collect()
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the neighbour table's thread panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, NeighbourTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table and carries out what follows: maps here, requests by the thread.
    fn change<T>(&self, change: impl FnOnce(&mut NeighbourTable) -> (T, Vec<Effect>)) -> T {
        let mut table = self.lock();
        let (result, effects) = change(&mut table);
        let mut asked = false;
        for effect in effects {
            let written = match effect {
                Effect::SetNextHop(number, hop) => self.sink.set_nexthop(number, &hop),
                Effect::SetNeighbour(host, number) => self.sink.set_neighbour(&host, Some(number)),
                Effect::RemoveNeighbour(host) => self.sink.set_neighbour(&host, None),
                Effect::Resolve { .. } | Effect::Pin(..) | Effect::Release(..) => {
                    asked = true;
                    if self.requests.try_send(effect).is_err() {
                        self.all.store(true, Ordering::Release);
                    }
                    Ok(())
                }
            };
            if let Err(error) = written {
                tracing::error!(?effect, %error, "a next hop could not be written");
            }
        }
        drop(table);
        if asked {
            self.wake();
        }
        result
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then the thread is awake anyway.
        let _full = self.wake.write(1);
    }
}

struct Worker<F> {
    shared: Arc<Shared>,
    waiting: Receiver<Effect>,
    monitor: Monitor,
    netlink: Netlink,
    /// What the kernel was asked to keep found.
    managed: HashSet<(u32, IpAddr)>,
    /// Interfaces that could carry frames when they were last heard of.
    carrying: HashSet<u32>,
    refused: Refused,
    on_link: F,
}

/// Neighbours that the kernel has refused. One full table is told once in a while, not for each host.
#[derive(Debug, Default)]
struct Refused {
    told: Option<Instant>,
    since: u64,
}

impl Refused {
    const PAUSE: Duration = Duration::from_secs(60);

    fn tell(&mut self, effect: &Effect, error: &io::Error) {
        self.since += 1;
        if self.told.is_some_and(|told| told.elapsed() < Self::PAUSE) {
            return;
        }
        let refused = self.since;
        let remedy = if error.raw_os_error() == Some(libc::ENOBUFS) { "; see `check host FILE`" } else { "" };
        tracing::warn!(?effect, refused, %error, "the kernel refuses a neighbour{remedy}");
        (self.told, self.since) = (Some(Instant::now()), 0);
    }
}

impl<F: Fn(LinkEvent)> Worker<F> {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            self.serve();
            if let Err(error) = self.listen() {
                tracing::error!(%error, "the kernel's notices cannot be followed; the neighbour table's thread ends");
                break;
            }
            let mut fds = [
                PollFd::new(self.monitor.fd(), PollFlags::POLLIN),
                PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "poll failed; the neighbour table's thread ends");
                    break;
                }
            }
            // Reading resets the counter; "nothing to read" is as good.
            let _count = self.shared.wake.read();
        }
        for (ifindex, address) in std::mem::take(&mut self.managed) {
            // An interface that is gone took its neighbours with it.
            let _gone = self.netlink.forget(ifindex, address);
        }
    }

    /// Carries out what waits.
    fn serve(&mut self) {
        let mut wanted = false;
        while let Ok(effect) = self.waiting.try_recv() {
            wanted |= matches!(effect, Effect::Resolve { managed: true, .. });
            self.request(effect);
        }
        if self.shared.all.swap(false, Ordering::AcqRel) {
            self.ask_all();
        } else if wanted {
            // What the kernel knew already it need not tell again.
            self.read_all();
        }
    }

    fn request(&mut self, effect: Effect) {
        let result = match effect {
            Effect::Resolve { ifindex, address, managed } => {
                if managed {
                    self.managed.insert((ifindex, address));
                }
                self.netlink.resolve(ifindex, address, managed)
            }
            Effect::Pin(ifindex, address, mac) => {
                self.managed.insert((ifindex, address));
                self.netlink.pin(ifindex, address, mac)
            }
            Effect::Release(ifindex, address) => {
                self.managed.remove(&(ifindex, address));
                self.netlink.forget(ifindex, address)
            }
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.refused.tell(&effect, &error);
        }
    }

    fn ask_all(&mut self) {
        let all = self.shared.lock().resolve_all();
        for effect in all {
            self.request(effect);
        }
        self.read_all();
    }

    fn read_all(&mut self) {
        match self.netlink.neighbours() {
            Ok(notices) => {
                for notice in notices {
                    self.notice(notice);
                }
            }
            Err(error) => tracing::warn!(%error, "the kernel's neighbours cannot be read"),
        }
    }

    /// Notices of links are lost like any other.
    fn read_links(&mut self) {
        match self.netlink.links() {
            Ok(links) => {
                for link in links {
                    self.notice(Notice::Link(link));
                }
            }
            Err(error) => tracing::warn!(%error, "the kernel's interfaces cannot be read"),
        }
    }

    /// Reads all notices that have come.
    fn listen(&mut self) -> io::Result<()> {
        loop {
            match self.monitor.read() {
                Ok(notices) if notices.is_empty() => return Ok(()),
                Ok(notices) => {
                    for notice in notices {
                        self.notice(notice);
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.ask_all();
                    self.read_links();
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Neighbour(ifindex, address, state) => {
                self.shared.change(|table| ((), table.discovered(ifindex, address, state)));
            }
            Notice::Link(link) => {
                self.shared.change(|table| ((), table.resized(link.ifindex, link.ip_mtu())));
                // A link that went down took its neighbours with it: the kernel drops them and does not ask again.
                if !(link.up && link.carrier) {
                    self.carrying.remove(&link.ifindex);
                } else if self.carrying.insert(link.ifindex) {
                    self.shared.all.store(true, Ordering::Release);
                    self.shared.wake();
                }
                (self.on_link)(LinkEvent::Changed(link));
            }
            Notice::LinkGone(ifindex) => {
                self.carrying.remove(&ifindex);
                (self.on_link)(LinkEvent::Gone(ifindex));
            }
        }
    }
}
