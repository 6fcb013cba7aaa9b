//! The traced form of the program, in the place of the usual one while somebody listens.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya_log::EbpfLogger;
use csm_common::names;
use csm_common::trace::Filter;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::dataplane::bpf::{BpfMap, Update};
use crate::dataplane::maps::MapSource as _;
use crate::dataplane::routes::be;
use crate::dataplane::task::link::Link;
use crate::dataplane::trace::{Assembler, Walk};

/// How long after the last question the usual form comes back.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Lines that wait to be asked for; beyond them the oldest go.
const LINES_MAX: usize = 8192;

/// Both forms, and where they are attached.
#[derive(Debug)]
pub struct Forms {
    /// The usual form.
    pub usual: OwnedFd,
    /// The one that tells.
    pub traced: OwnedFd,
    /// Their places on the ports.
    pub links: Arc<Vec<Link>>,
    /// IPv6 has a program that tells of it.
    pub ipv6: bool,
}

impl Forms {
    /// Puts one of them on all ports.
    fn put(&self, program: &OwnedFd) -> io::Result<()> {
        self.links.iter().try_for_each(|link| link.replace(program.as_fd()))
    }
}

/// Lines as aya-log hands them over.
#[derive(Debug, Default)]
struct Lines(Mutex<VecDeque<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(record.args().to_string());
    }

    fn flush(&self) {}
}

struct State {
    logger: EbpfLogger<Arc<Lines>>,
    lines: Arc<Lines>,
    assembler: Assembler,
}

/// Tells of packets on request.
pub struct Tracer {
    forms: Forms,
    filter: BpfMap<u32, Filter>,
    state: Mutex<State>,
    /// Who is told of, and when somebody asked for it last. Never waits for the lines to be read, which a host with many
    /// packets could make last.
    session: Mutex<Option<(IpAddr, Instant)>>,
}

/// Somebody else is listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packets of {0} are being traced")]
pub struct Busy(pub IpAddr);

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").field("forms", &self.forms).finish_non_exhaustive()
    }
}

impl Tracer {
    /// On the maps of `ebpf`; nothing is put anywhere yet.
    ///
    /// # Errors
    /// If a map is missing or of another type.
    pub fn new(ebpf: &mut Ebpf, forms: Forms) -> io::Result<Self> {
        let filter = BpfMap::new(ebpf.descriptor(names::TRACE)?)?;
        let lines = Arc::<Lines>::default();
        let logger = EbpfLogger::init_with_logger(ebpf, Arc::clone(&lines)).map_err(io::Error::other)?;
        let state = State { logger, lines, assembler: Assembler::default() };
        Ok(Self { forms, filter, state: Mutex::new(state), session: Mutex::new(None) })
    }

    /// Whether packets of IPv6 can be told of.
    #[must_use]
    pub const fn has_ipv6(&self) -> bool {
        self.forms.ipv6
    }

    /// Walks of packets from or to `client`: those that are there, or that come within `wait`. The first question starts the
    /// trace; [`PATIENCE`] after the last one it ends.
    ///
    /// # Errors
    /// [`Busy`] while another client's packets are asked for; of the system calls.
    pub fn walks(self: &Arc<Self>, client: IpAddr, wait: Duration) -> io::Result<Result<Vec<Walk>, Busy>> {
        {
            let mut session = lock(&self.session);
            match *session {
                Some((other, _)) if other != client => return Ok(Err(Busy(other))),
                Some(_) => {}
                None => self.start(client)?,
            }
            *session = Some((client, Instant::now()));
        }
        let mut state = lock(&self.state);
        let deadline = Instant::now() + wait;
        loop {
            let walks = state.take();
            let left = deadline.saturating_duration_since(Instant::now());
            if !walks.is_empty() || left.is_zero() {
                return Ok(Ok(walks));
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(state.logger.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn start(self: &Arc<Self>, client: IpAddr) -> io::Result<()> {
        let filter = match client {
            IpAddr::V4(client) => Filter { client_be: be(client), ..Filter::default() },
            IpAddr::V6(client) => Filter { client6_be: client.into(), ..Filter::default() },
        };
        self.filter.set(&0, &filter, Update::Any)?;
        let tracer = Arc::downgrade(self);
        std::thread::Builder::new().name("csm-trace".into()).spawn(move || watch(&tracer))?;
        self.forms.put(&self.forms.traced).inspect_err(|_| self.end())
    }

    /// The usual form is back, wherever it was replaced.
    fn end(&self) {
        if let Err(error) = self.forms.put(&self.forms.usual) {
            tracing::error!(%error, "packets are still traced, which costs time");
        }
    }
}

impl State {
    fn take(&mut self) -> Vec<Walk> {
        self.logger.flush();
        let lines = std::mem::take(&mut *self.lines.0.lock().unwrap_or_else(PoisonError::into_inner));
        lines.iter().filter_map(|line| self.assembler.line(line)).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the trace when nobody asks any more.
fn watch(tracer: &Weak<Tracer>) {
    loop {
        std::thread::sleep(PATIENCE / 5);
        let Some(tracer) = tracer.upgrade() else { return };
        let mut session = lock(&tracer.session);
        if session.is_none_or(|(_, asked)| asked.elapsed() >= PATIENCE) {
            tracer.end();
            // What was not asked for is not for the next one, who waits until it is gone.
            lock(&tracer.state).take();
            *session = None;
            return;
        }
    }
}
