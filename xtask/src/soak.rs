//! `cargo xtask soak`: what CI has no time for.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::build::{Profile, binaries};
use crate::toolchain::Toolchain;
use crate::{exec, kernels};

/// Cases a property test tries in a soak; proptest's own default is 256.
const PROPTEST_CASES: &str = "20000";

/// Frames on which the program and its model are compared in each round.
const MODEL_FRAMES: &str = "1000000";
/// More than a round's sequences, so that no round repeats another's.
const SEEDS_A_ROUND: u64 = 100_000;

/// Seeds of the simulation in each round; no round repeats another's.
const SIM_SEEDS: u64 = 100_000;
/// Transitions after which the search of one setting ends: what 16 GB of memory hold.
const EXPLORE_STATES: &str = "20000000";

/// `soak`'s options.
#[derive(clap::Args)]
pub(crate) struct Soak {
    /// How long; a round that has begun is finished
    #[arg(long, default_value_t = 1.0, value_name = "H")]
    hours: f64,
}

impl Soak {
    pub(crate) fn run(&self) -> Result<()> {
        let length =
            Duration::try_from_secs_f64(self.hours * 3600.0).context("--hours takes a length of time")?;
        let toolchain = Toolchain::ensure_with_lab("the lab")?;
        let bin_dir = binaries(&toolchain, Profile::Release, &["csm-user", "csm-tests"])?;
        let started = Instant::now();
        let mut round = 0_u32;
        loop {
            round += 1;
            eprintln!("xtask: soak round {round}, {} s gone", started.elapsed().as_secs());
            exec::run(
                toolchain
                    .apply(exec::cargo().args(["test", "--package", "csm-user", "--package", "csm-common"]))
                    .env("PROPTEST_CASES", PROPTEST_CASES),
            )
            .with_context(|| format!("soak round {round}"))?;
            exec::run(
                toolchain
                    .apply(exec::cargo().args([
                        "test",
                        "--package",
                        "csm-tests",
                        "--test",
                        "it",
                        "differential",
                    ]))
                    .env("CSM_MODEL_FRAMES", MODEL_FRAMES)
                    .env("CSM_MODEL_SEED", (u64::from(round) * SEEDS_A_ROUND).to_string()),
            )
            .with_context(|| format!("soak round {round}"))?;
            fault_tolerance(&toolchain, round).with_context(|| format!("soak round {round}"))?;
            for words in ["run", "matrix", "timers", "endure", "apps", "cuts"] {
                exec::run(exec::command(bin_dir.join("csm-lab")).arg(words))
                    .with_context(|| format!("soak round {round}"))?;
            }
            // The guest's kernel is Debian's for amd64.
            if cfg!(target_arch = "x86_64") {
                kernels::machine::run(&toolchain, Profile::Release)
                    .with_context(|| format!("soak round {round}"))?;
            }
            exec::run(
                exec::command(bin_dir.join("csm-lab"))
                    .args(["edits", "10000", "--seed"])
                    .arg(round.to_string()),
            )
            .with_context(|| format!("soak round {round}"))?;
            exec::run(exec::command(bin_dir.join("csm-lab")).arg("scale"))
                .with_context(|| format!("soak round {round}"))?;
            if started.elapsed() >= length {
                return Ok(());
            }
        }
    }
}

/// The election's simulation with other seeds, and once the model checker with larger bounds, which has no luck to try again.
fn fault_tolerance(toolchain: &Toolchain, round: u32) -> Result<()> {
    let test = ["test", "--release", "--package", "csm-tests", "--test"];
    let first = u64::from(round) * SIM_SEEDS;
    exec::run(
        toolchain
            .apply(exec::cargo().args(test).args(["sim", "promises", "--", "--nocapture"]))
            .env("CSM_SIM_FIRST", first.to_string())
            .env("CSM_SIM_SEEDS", SIM_SEEDS.to_string()),
    )?;
    if round > 1 {
        return Ok(());
    }
    exec::run(
        toolchain
            .apply(exec::cargo().args(test).args(["explore", "every_promise", "--", "--nocapture"]))
            .env("CSM_EXPLORE", "deep")
            .env("CSM_EXPLORE_STATES", EXPLORE_STATES),
    )
}
