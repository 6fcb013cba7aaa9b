//! From a configuration file to a running node, and back down. What is made is undone in the reverse order.

mod attached;
mod planned;
mod running;
mod workers;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::running::Running;
use super::advertise::Advertiser;
use super::node::NodePort;
use super::restart::{self, Handed, Restarting};
use super::route;
use super::{images, saved, sync};
use crate::api::server;
use crate::ft::Controls;
use crate::ft::parked::Legacy;

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
