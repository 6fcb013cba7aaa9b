//! The controller: `csmd --config FILE` in the foreground, until SIGTERM or SIGINT.
//!
//! Exit status: 0 stopped as told, 1 a step of the start failed, 2 faults in the configuration (nothing was started).

use std::fs::OpenOptions;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use csm_common::limits;
use csm_user::api;
use csm_user::daemon::{self, Ended, Failure, Handed, Options, Restarting};
use csm_user::dataplane::task::adopted::Keep;
use csm_user::dataplane::task::pins;
use csm_user::ft::Controls;
use tracing_subscriber::EnvFilter;

/// Environment variable by which the lab takes one protection away, to see that its checkers notice.
const LAB_FAULT: &str = "CSM_LAB_FAULT";

/// The Content Switching Module's controller.
#[derive(Parser)]
#[command(
    version,
    after_help = "CSM_LOG sets what is logged, e.g. `debug` or `csm_user::ft=trace` (default: info)."
)]
struct Flags {
    /// Configuration file; `csm check FILE` tells beforehand what is wrong with it. With --state it is the initial one,
    /// taken as long as nothing is saved.
    #[arg(long, required_unless_present_any = ["state", "withdraw", "identify"])]
    config: Option<PathBuf>,
    /// Directory of the startup configuration: `write memory` saves there, and starts take it from there.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Socket of the API; its directory is made if need be.
    #[arg(long, default_value = api::SOCKET)]
    socket: PathBuf,
    /// Directory, in a BPF file system, of what outlives csmd, so that a restart interrupts nothing. Default: one below
    /// /sys/fs/bpf/csm that is named after the socket.
    #[arg(long)]
    pins: Option<PathBuf>,
    /// Remove what a killed csmd left there, and end: its program leaves the ports.
    #[arg(long)]
    withdraw: bool,
    /// Say what this program is and end: version, and layout of the tables that it takes over. With --config, say also
    /// whether it would take that configuration.
    #[arg(long)]
    identify: bool,
    /// Proven connections that the table can hold; its memory (about 300 bytes each) is taken at the start.
    #[arg(long, default_value_t = limits::CONNECTIONS_MAX, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    connections: u32,
    /// Do nothing but be the witness of a pair, on a third host: one box at a time gets the role granted. Group and keys come from
    /// the file of --config, which may be the pair's own.
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, default_missing_value = "0.0.0.0:21986", requires = "config")]
    witness: Option<std::net::SocketAddr>,
    /// Append the log to this file instead of standard error.
    #[arg(long)]
    log: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let Flags { config, state, socket, pins, withdraw, identify, connections, witness, log } = Flags::parse();
    // The group's keys are in this process's memory, and do not belong into a core file. Each program that is executed has to
    // say so again.
    nix::sys::prctl::set_dumpable(false).context("keep this process out of core files")?;
    if identify {
        return Ok(match daemon::identify(config.as_deref()) {
            Ok(said) => {
                println!("{said}");
                ExitCode::SUCCESS
            }
            Err(failure) => failed(&failure),
        });
    }
    // Now: the file may be another one when it is executed.
    let image = daemon::installed().context("this program's file")?;
    let pins = pins.unwrap_or_else(|| pins::directory(&socket));
    if withdraw {
        Keep::open(&pins)?.remove()?;
        return Ok(ExitCode::SUCCESS);
    }
    let (controls, drop_deltas) = lab_fault(std::env::var(LAB_FAULT).ok().as_deref())?;
    let filter = EnvFilter::try_from_env("CSM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(false);
    match log {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            logging.with_writer(file.with_context(|| path.display().to_string())?).init();
        }
        None => logging.with_writer(std::io::stderr).init(),
    }
    if let (Some(address), Some(config)) = (witness, &config) {
        return match daemon::witness(config, address) {
            Ok(never) => match never {},
            Err(failure) => Ok(failed(&failure)),
        };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let options =
        Options { config, state, socket, image, pins: Some(pins), connections, controls, drop_deltas };
    let mut handed = daemon::handed().unwrap_or_else(|error| {
        tracing::warn!(%error, "what the csmd before handed over is not understood: starting anew");
        Handed::default()
    });
    let ended = loop {
        match runtime.block_on(daemon::run(&options, handed)) {
            Ok(Ended::Reload(Restarting { from, rollback }, _)) => {
                handed = Handed { from, rollback, ..Handed::default() };
            }
            Ok(Ended::Stopped) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    Ok(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&failure),
    })
}

fn failed(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Config(report) => {
            eprint!("{report}");
            ExitCode::from(2)
        }
        failure => {
            eprintln!("csmd: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn lab_fault(name: Option<&str>) -> anyhow::Result<(Controls, Option<NonZeroU32>)> {
    let mut controls = Controls::default();
    let mut drop_deltas = None;
    match name {
        None | Some("") => {}
        Some("lease-off") => controls.lease_off = true,
        Some("relay-off") => controls.relay_off = true,
        Some("announce-off") => controls.announce_off = true,
        Some("old-wire") => controls.old_wire = true,
        Some(cut) if cut.starts_with("cut-") => {
            csm_user::state::cut::before(cut["cut-".len()..].parse().with_context(|| cut.to_owned())?);
        }
        Some("drop-deltas") => drop_deltas = Some(NonZeroU32::MIN),
        Some(other) => anyhow::bail!(
            "{LAB_FAULT}={other}: must be lease-off, relay-off, announce-off, old-wire, cut-N or drop-deltas, and unset in production"
        ),
    }
    Ok((controls, drop_deltas))
}
