//! Shell: the one real-time, memory-locked thread that runs a [`Session`] on all paths. It never waits for tokio.
//!
//! Each turn: wait for a datagram, a command or a deadline; read the clock; take all datagrams, then all commands, each
//! with a later reading of its own; fire what was due at the first reading. So a timer never fires while a datagram
//! that came before its deadline lies unread, a receipt is never dated too early, and a lease never too late.

pub mod handle;
mod socket;

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use crossbeam::channel::{self, Receiver, TryRecvError};
use csm_common::gate::Gate;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, oneshot};

use crate::ft::election::Restraint;
use crate::ft::election::{Event, Params};
use crate::ft::envelope::{DATAGRAM, PATHS_MAX};
use crate::ft::keyring::Keyring;
use crate::ft::parked::{Legacy, Parked};
use crate::ft::session::{Arrival, Port, Session};
use crate::ft::status::FtStatus;
use crate::ft::wire::HOLD_MAX;
use crate::ft::witness::votes::Votes;
use crate::ft::witness::wire as witness;
use crate::ft::{FtEvent, Refusal};
use crate::model::{FAILOVER_MIN_WITHOUT_REALTIME, lease};
use handle::{
    ALIVE_TIMEOUT, COMMANDS_MAX, EVENTS_MAX, FtCommand, FtControl, FtHandle, FtOptions, GateCell, SpawnError,
    TakeoverActions,
};
use socket::{Buffer, FtSocket, WitnessSocket};

pub use socket::{GROUP, PORT};

/// SCHED_FIFO priority: above every ordinary thread, below the kernel's own (interrupt threads run at 50).
const PRIORITY: i32 = 40;
/// First wait of a role that came back too often; doubled with each return, and forgotten after 5 minutes.
const DAMPING: Duration = Duration::from_secs(10);
/// Datagrams of a path that are taken in one turn, so that a flood cannot keep the thread from its ticks.
const TURN_MAX: usize = 256;

/// Starts the thread in the calling thread's network namespace. Heartbeats go out at once; the gate stays closed until
/// the listening time is over and [`FtCommand::Forwardable`] and [`FtCommand::Alive`] were given.
///
/// # Errors
/// If the timers allow no lease, if real-time scheduling is refused and the failover time is below 500 ms, or for want
/// of the socket. Nothing has been changed then.
pub fn spawn(options: FtOptions) -> Result<FtHandle, SpawnError> {
    let lease = lease(options.group.heartbeat, options.group.failover)?;
    let params = Params {
        group: options.group.group,
        node: options.node,
        nonce: options.nonce,
        priority: options.group.priority,
        preempt: options.group.preempt,
        heartbeat: options.group.heartbeat,
        failover: options.group.failover,
        lease: lease.length,
        hold: HOLD_MAX,
        proven_only: options.group.keys.sign.is_some(),
        witness: options.group.witness.is_some(),
        damping: DAMPING,
        mac: options.mac,
        config_checksum: options.config_checksum,
        software_checksum: options.software_checksum,
    };
    let data_paths = &options.paths[..options.paths.len().min(PATHS_MAX - 1)];
    let vlans: Vec<_> = data_paths.iter().map(|path| path.vlan).collect();
    let session = Session::new(params, options.group.vlan.get(), options.controls, ALIVE_TIMEOUT)
        .with_paths(Keyring::new(&options.group.keys, options.secret), &vlans)
        .with_promise(options.promised_ns)
        .with_peer_lease(options.peer_lease)
        .with_witness(options.group.witness.map(|address| Votes::new(address, options.group.failover)));
    let system = |what| move |cause| SpawnError::System { what, cause };
    let mut sockets = vec![FtSocket::open(&options.interface, options.ifindex).map_err(system("FT socket"))?];
    for path in data_paths {
        sockets.push(FtSocket::open_data(path).map_err(system("socket of a data VLAN"))?);
    }
    let witness = options.group.witness.map(WitnessSocket::open).transpose();
    let witness = witness.map_err(system("socket of the witness"))?;
    let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
        .map_err(|errno| system("eventfd")(errno.into()))?;
    let wake = Arc::new(wake);
    let (commands, command_queue) = channel::bounded(COMMANDS_MAX);
    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let (ready, is_ready) = std_mpsc::channel();

    let mut session = session;
    let status = Arc::new(Mutex::new(session.status(0).clone()));
    let mut thread = Thread {
        session,
        sockets,
        witness,
        commands: command_queue,
        wake: Arc::clone(&wake),
        status: Arc::clone(&status),
        realtime: false,
        memory_locked: false,
        outside: Outside {
            gate: options.gate,
            actions: options.actions,
            events: events_in,
            pending: None,
            holding: None,
        },
    };
    let (resumed, restraint) = (options.resumed, options.restraint);
    let failover = options.group.failover;
    let thread = thread::Builder::new()
        .name("csm-ft".into())
        .spawn(move || {
            let set_up = thread.set_up(failover);
            let good = set_up.is_ok();
            // The receiver waits for exactly this.
            let _ = ready.send(set_up);
            if good { thread.run(resumed.as_ref(), restraint.as_ref()) } else { Legacy::default() }
        })
        .map_err(system("FT thread"))?;
    let gone = || SpawnError::System { what: "FT thread", cause: io::ErrorKind::BrokenPipe.into() };
    is_ready.recv().map_err(|_| gone())??;
    Ok(FtHandle { control: FtControl { commands, wake, status }, events, thread })
}

struct Thread {
    session: Session,
    /// By path, the FT VLAN's first.
    sockets: Vec<FtSocket>,
    witness: Option<WitnessSocket>,
    commands: Receiver<FtCommand>,
    wake: Arc<EventFd>,
    status: Arc<Mutex<FtStatus>>,
    realtime: bool,
    memory_locked: bool,
    outside: Outside,
}

impl Thread {
    fn set_up(&mut self, failover: Duration) -> Result<(), SpawnError> {
        let refused = become_realtime().err();
        self.realtime = refused.is_none();
        if let Some(cause) = refused
            && failover < FAILOVER_MIN_WITHOUT_REALTIME
        {
            return Err(SpawnError::Realtime { failover, least: FAILOVER_MIN_WITHOUT_REALTIME, cause });
        }
        self.memory_locked = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).is_ok();
        Ok(())
    }

    /// Returns what the session left.
    fn run(mut self, resumed: Option<&Parked>, restraint: Option<&Restraint>) -> Legacy {
        match resumed {
            Some(parked) => self.with_port(|session, port| session.resume(parked, monotonic_ns(), port)),
            None => {
                self.outside.gate.store(Gate::CLOSED);
                if let Some(restraint) = restraint {
                    self.session.restrain(restraint, monotonic_ns());
                }
                self.with_port(|session, port| session.start(monotonic_ns(), port));
            }
        }
        while !self.session.is_ended() {
            self.publish();
            self.wait();
            let woken_ns = monotonic_ns();
            self.take_datagrams();
            self.take_answers();
            self.take_commands();
            self.with_port(|session, port| session.wake(woken_ns, port));
        }
        self.publish();
        let parked = self.session.parked();
        if parked.is_some()
            && let Some(reply) = self.outside.holding.take()
        {
            // The asker may have gone.
            let _ = reply.send(Ok(()));
        }
        let restraint = Some(self.session.restraint()).filter(|restraint| !restraint.is_none());
        Legacy { parked, restraint }
    }

    fn with_port(&mut self, act: impl FnOnce(&mut Session, &mut Wired<'_>)) {
        let (sockets, witness) = (self.sockets.as_slice(), self.witness.as_ref());
        act(&mut self.session, &mut Wired { sockets, witness, outside: &mut self.outside });
    }

    /// Until something arrives or is due.
    fn wait(&self) {
        let Some(due) = self.session.next_wake() else { return };
        let left = i64::try_from(due.saturating_sub(monotonic_ns())).unwrap_or(i64::MAX);
        // Where there are fewer paths the last of all is named again, which does no harm.
        let witness = self.witness.as_ref().map_or(self.wake.as_fd(), AsFd::as_fd);
        let mut fds: [_; PATHS_MAX + 2] = std::array::from_fn(|at| {
            let other = if at == PATHS_MAX { witness } else { self.wake.as_fd() };
            let fd = self.sockets.get(at).map_or(other, AsFd::as_fd);
            PollFd::new(fd, PollFlags::POLLIN)
        });
        // An interrupted or failed wait only makes the turn come early.
        let _ = ppoll(&mut fds, Some(TimeSpec::nanoseconds(left)), None);
    }

    fn take_datagrams(&mut self) {
        let mut buffer: Buffer = [0; DATAGRAM + 1];
        for path in 0..self.sockets.len() {
            for _ in 0..TURN_MAX {
                let Some(datagram) = self.sockets[path].receive(&mut buffer) else { break };
                let (bytes, now) = (&buffer[..datagram.length], monotonic_ns());
                let arrival = Arrival { path, source: datagram.source, hops: datagram.hops };
                self.with_port(|session, port| session.receive(bytes, arrival, now, port));
            }
        }
    }

    fn take_answers(&mut self) {
        let mut buffer = [0; witness::DATAGRAM + 1];
        for _ in 0..TURN_MAX {
            let Some(length) = self.witness.as_ref().and_then(|socket| socket.receive(&mut buffer)) else {
                break;
            };
            let now = monotonic_ns();
            self.with_port(|session, port| session.receive_witness(&buffer[..length], now, port));
        }
    }

    fn take_commands(&mut self) {
        // Fails with EAGAIN when nothing was written, which is as good.
        let _ = self.wake.read();
        for _ in 0..COMMANDS_MAX {
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return,
                // Nobody is left to say so.
                Err(TryRecvError::Disconnected) => {
                    let now = monotonic_ns();
                    return self.with_port(|session, port| session.command(Event::Leave, now, port));
                }
            };
            let now = monotonic_ns();
            let event = match command {
                FtCommand::Alive => {
                    self.with_port(|session, port| session.alive(now, port));
                    continue;
                }
                FtCommand::Keys(keys) => {
                    self.session.set_keys(&keys);
                    continue;
                }
                FtCommand::ForceStandby(reply) if self.outside.pending.is_some() => {
                    // The asker may have gone.
                    let _ = reply.send(Err(Refusal::Busy));
                    continue;
                }
                FtCommand::ForceStandby(reply) => {
                    self.outside.pending = Some(reply);
                    Event::ForceStandby
                }
                FtCommand::Hold(reply) => {
                    self.outside.holding = Some(reply);
                    Event::Hold
                }
                FtCommand::Leave => Event::Leave,
                FtCommand::Forwardable(able) => Event::Forwardable(able),
                FtCommand::Eligible(eligible) => Event::Eligible(eligible),
                FtCommand::Replica { complete, lag_ms } => Event::Replica { complete, lag_ms },
                FtCommand::RivalSeen => Event::RivalSeen,
                FtCommand::Configured { priority, preempt, config_checksum } => {
                    Event::Configured { priority, preempt, config_checksum }
                }
            };
            self.with_port(|session, port| session.command(event, now, port));
        }
    }

    /// If a reader holds the lock just now, the next turn publishes.
    fn publish(&mut self) {
        let (realtime, memory_locked) = (self.realtime, self.memory_locked);
        if let Ok(mut shared) = self.status.try_lock() {
            self.session.status(monotonic_ns());
            self.session.copy_status(&mut shared);
            (shared.realtime, shared.memory_locked) = (realtime, memory_locked);
        }
    }
}

/// What the session acts on, besides the socket.
struct Outside {
    gate: Arc<dyn GateCell>,
    actions: Arc<dyn TakeoverActions>,
    events: mpsc::Sender<FtEvent>,
    /// Who waits for the outcome of `clear module csm N ft active`.
    pending: Option<oneshot::Sender<Result<(), Refusal>>>,
    /// Who waits until the session rests.
    holding: Option<oneshot::Sender<Result<(), Refusal>>>,
}

struct Wired<'a> {
    sockets: &'a [FtSocket],
    witness: Option<&'a WitnessSocket>,
    outside: &'a mut Outside,
}

impl Port for Wired<'_> {
    fn send(&mut self, path: usize, datagram: &[u8; DATAGRAM]) -> bool {
        self.sockets.get(path).is_some_and(|socket| socket.send(datagram).is_ok())
    }

    fn ask(&mut self, request: &[u8; witness::DATAGRAM]) -> bool {
        self.witness.is_some_and(|socket| socket.send(request).is_ok())
    }

    fn gate(&mut self, gate: Gate) {
        self.outside.gate.store(gate);
    }

    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }

    fn adopt(&mut self, now_ns: u64) {
        self.outside.actions.adopt(now_ns);
    }

    fn announce(&mut self) {
        self.outside.actions.announce();
    }

    fn peer_mac(&mut self, mac: [u8; 6]) {
        self.outside.actions.set_peer_mac(mac);
    }

    fn event(&mut self, event: FtEvent) -> bool {
        self.outside.events.try_send(event).is_ok()
    }

    fn forced(&mut self, outcome: Result<(), Refusal>) {
        if let Some(reply) = self.outside.pending.take() {
            // The asker may have gone.
            let _ = reply.send(outcome);
        }
    }

    fn not_held(&mut self, refusal: Refusal) {
        if let Some(reply) = self.outside.holding.take() {
            // The asker may have gone.
            let _ = reply.send(Err(refusal));
        }
    }

    fn promised(&mut self, until_ns: u64) {
        self.outside.actions.promise(until_ns);
    }

    fn wall_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// CLOCK_MONOTONIC, the clock that the XDP program compares the gate's deadline with.
pub(super) fn monotonic_ns() -> u64 {
    let read = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.num_nanoseconds());
    u64::try_from(read).unwrap_or(0)
}

pub(super) fn become_realtime() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: pid 0 is the calling thread, and the parameter outlives the call, which only reads it.
    let done = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameter)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
