//! `cargo xtask soak`: what CI has no time for.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::build::{Profile, binaries};
use crate::exec;
use crate::toolchain::Toolchain;

/// Cases a property test tries in a soak; proptest's own default is 256.
const PROPTEST_CASES: &str = "20000";

/// Frames on which the program and its model are compared in each round.
const MODEL_FRAMES: &str = "1000000";
/// More than a round's sequences, so that no round repeats another's.
const SEEDS_A_ROUND: u64 = 100_000;

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
            exec::run(exec::command(bin_dir.join("csm-lab")).arg("run"))
                .with_context(|| format!("soak round {round}"))?;
            if started.elapsed() >= length {
                return Ok(());
            }
        }
    }
}
