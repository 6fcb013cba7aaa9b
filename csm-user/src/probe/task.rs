//! The shell: sockets, timers, and one task that owns the [`Board`].
//!
//! The loop is: wait for a due check, the end of a check, or a command; feed the board; publish. Each check is a task of
//! its own in a `JoinSet`, at most [`IN_FLIGHT_MAX`] at a time: what comes due beyond that waits, and a check's time
//! counts from its own start, so waiting never fails a server. All of the `select!`'s branches are cancel safe: a channel
//! receive, `join_next` and a timer.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::board::{Board, Change, Start};
use super::health::{FailReason, Health, RealKey, State, Verdict};
use super::icmp::{Echo, Framing};
use super::target::{Target, TargetKey};
use crate::model::ProbeKind;

mod application;

use application::within;

/// Checks under way at a time: each holds one descriptor.
pub const IN_FLIGHT_MAX: usize = 256;

/// Reloads that wait for the task: one would do, the second absorbs a burst.
const COMMANDS: usize = 2;

/// The running probes. Dropping it ends them.
#[derive(Debug)]
pub struct ProbeHandle {
    health: watch::Receiver<Arc<Health>>,
    reloads: ProbeReloads,
    task: JoinHandle<()>,
}

/// Gives the probes new targets; cheap to clone.
#[derive(Clone, Debug)]
pub struct ProbeReloads(mpsc::Sender<Reload>);

/// New targets, and who waits until their health is published.
type Reload = (Vec<Target>, oneshot::Sender<()>);

impl ProbeReloads {
    /// Replaces the targets: what did not change keeps its state. Returns when the health that is published knows them.
    pub async fn reload(&self, targets: Vec<Target>) {
        let (done, is_done) = oneshot::channel();
        // The task ends only after its handle: a failed send, or no answer, means the runtime is shutting down.
        if self.0.send((targets, done)).await.is_err() || is_done.await.is_err() {
            debug!("probes have ended, reload ignored");
        }
    }
}

impl ProbeHandle {
    /// Health of all reals; `changed()` wakes on each change of any check.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Arc<Health>> {
        self.health.clone()
    }

    /// Replaces the targets.
    #[must_use]
    pub fn reloads(&self) -> ProbeReloads {
        self.reloads.clone()
    }
}

impl Drop for ProbeHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts checking `targets` for `module csm slot`; must be called within a tokio runtime. `healthy` are reals that were so
/// a moment ago.
#[must_use]
pub fn spawn(targets: Vec<Target>, slot: u8, healthy: &BTreeSet<RealKey>) -> ProbeHandle {
    let mut board = Board::default();
    board.replace(targets, Duration::ZERO);
    board.trust(healthy);
    let (publish, health) = watch::channel(Arc::new(board.health()));
    let (sender, commands) = mpsc::channel(COMMANDS);
    let driver = Driver { board, epoch: Instant::now(), checks: JoinSet::new(), publish, slot };
    ProbeHandle { health, reloads: ProbeReloads(sender), task: tokio::spawn(driver.run(commands)) }
}

struct Driver {
    board: Board,
    epoch: Instant,
    checks: JoinSet<End>,
    publish: watch::Sender<Arc<Health>>,
    /// For the log.
    slot: u8,
}

/// The end of a check.
struct End {
    key: TargetKey,
    run: u64,
    verdict: Verdict,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Reload>) {
        loop {
            self.start_due();
            // Without room the next start waits for an end, not for a time.
            let room = self.checks.len() < IN_FLIGHT_MAX;
            let due = self.board.next_due().filter(|_| room).map(|due| self.epoch + due);
            tokio::select! {
                targets = commands.recv() => match targets {
                    Some((targets, done)) => {
                        self.replace(targets);
                        // Who asked may have given up.
                        let _ = done.send(());
                    }
                    None => return,
                },
                Some(ended) = self.checks.join_next() => match ended {
                    Ok(end) => self.finish(&end),
                    Err(error) => warn!(%error, "a check did not end by itself"),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn start_due(&mut self) {
        while self.checks.len() < IN_FLIGHT_MAX
            && let Some(Start { target, run }) = self.board.start(self.epoch.elapsed())
        {
            self.checks
                .spawn(async move { End { key: target.key(), run, verdict: check(&target, run).await } });
        }
    }

    fn replace(&mut self, targets: Vec<Target>) {
        self.board.replace(targets, self.epoch.elapsed());
        self.publish();
    }

    fn finish(&mut self, end: &End) {
        if let Verdict::Unknown(reason) = end.verdict {
            let (probe, real) = (&end.key.probe, end.key.real.address);
            warn!("a check of probe {probe} says nothing about server {real}: {reason}");
        }
        if let Some(change) = self.board.finished(&end.key, end.run, end.verdict, self.epoch.elapsed()) {
            log(self.slot, &change);
            self.publish();
        }
    }

    fn publish(&self) {
        let health = Arc::new(self.board.health());
        self.publish.send_if_modified(|shown| {
            let differs = *shown != health;
            *shown = health;
            differs
        });
    }
}

/// In the CSM's syslog form.
fn log(slot: u8, Change { target, state }: &Change) {
    let (real, probe, port) = (&target.real, &target.probe.name, target.port.unwrap_or(0));
    let server = format_args!("server {}:{port} in serverfarm '{}'", real.address, real.farm).to_string();
    let changed = format!("%CSM_SLB-6-RSERVERSTATE: Module {slot} server state changed: SLB-NETMGT: {probe}");
    match state {
        State::Failed(reason) => warn!("{changed} health probe failed for {server}: {reason}"),
        State::Operational => info!("{changed} health probe passed for {server}"),
        State::Testing => {}
    }
}

async fn check(target: &Target, run: u64) -> Verdict {
    let probe = &target.probe;
    let answered = match probe.kind {
        ProbeKind::Icmp => within(probe.receive, FailReason::ReceiveTimeout, echo(target, run)).await,
        ProbeKind::Udp => Ok(application::datagram(target).await),
        ProbeKind::Dns => {
            let lookup = application::lookup(target, query_id(run));
            within(probe.receive, FailReason::ReceiveTimeout, lookup).await
        }
        _ => conversation(target).await,
    };
    answered.unwrap_or_else(|verdict| verdict)
}

/// A connection, and what is said on it.
async fn conversation(target: &Target) -> Result<Verdict, Verdict> {
    let stream = within(target.probe.open, FailReason::OpenTimeout, application::connect(target)).await?;
    match target.probe.kind {
        ProbeKind::Tcp => Ok(Verdict::Pass),
        _ => {
            let spoken = application::spoken(target, stream);
            within(target.probe.receive, FailReason::ReceiveTimeout, spoken).await
        }
    }
}

/// Identifier of a query. Each has a socket of its own.
fn query_id(run: u64) -> u16 {
    let [.., high, low] = (run ^ u64::from(std::process::id())).to_be_bytes();
    u16::from_be_bytes([high, low])
}

async fn echo(target: &Target, run: u64) -> io::Result<Verdict> {
    let address = target.destination;
    let (socket, framing) = icmp_socket(address)?;
    if let Some(interface) = &target.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(source) = target.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    // A connected socket gets packets of this server only, and the errors that concern it.
    match address {
        IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    socket.connect(&SocketAddr::new(address, 0).into())?;
    let echo = request(address, run);
    // Only send and recv are used, which are the same for any connected datagram socket.
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(&echo.request(framing)).await?;
    loop {
        let mut packet = [0; 256];
        let len = socket.recv(&mut packet).await?;
        if let Some(verdict) = echo.verdict(&packet[..len], framing) {
            return Ok(verdict);
        }
    }
}

/// Identifier and sequence number differ from those of any other check that can be under way; the token also from
/// those of another process.
fn request(address: IpAddr, run: u64) -> Echo {
    let [_, _, _, _, high, low, seq_high, seq_low] = run.to_be_bytes();
    let pid = u64::from(std::process::id());
    let last = match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            u32::from_be_bytes([a, b, c, d])
        }
    };
    Echo {
        id: u16::from_be_bytes([high, low]),
        seq: u16::from_be_bytes([seq_high, seq_low]),
        token: (pid << 32 | u64::from(last)) ^ run.rotate_left(40),
    }
}

/// A raw socket; where that is forbidden, a ping socket (`net.ipv4.ping_group_range`).
fn icmp_socket(to: IpAddr) -> io::Result<(Socket, Framing)> {
    let (domain, protocol, raw, ping) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, Framing::Ipv4Header, Framing::None),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, Framing::Ipv6, Framing::Ipv6Ping),
    };
    let open = |kind: Type| Socket::new(domain, kind.nonblocking(), Some(protocol));
    match open(Type::RAW) {
        Ok(socket) => Ok((socket, raw)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok((open(Type::DGRAM)?, ping)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
