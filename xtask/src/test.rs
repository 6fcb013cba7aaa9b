//! `cargo xtask test`: every test there is, reported in cargo's own words.

use std::ffi::OsString;

use anyhow::Result;

use crate::build::{Profile, binaries};
use crate::toolchain::Toolchain;
use crate::{exec, kernels};

/// Property tests draw the same cases every time: a test that fails here fails again, and one that passes is not spoilt
/// by luck. New cases are what `cargo xtask soak` is for; the variable set by hand wins.
const PROPTEST_SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "7");

/// `test`'s arguments.
#[derive(clap::Args)]
pub(crate) struct Test {
    /// Instead: the packet fixtures on Debian's kernels 6.1 and 6.12, emulated by qemu
    #[arg(long)]
    kernels: bool,
    /// Instead: a pair of which one node is a virtual machine that stands still and has its clock set
    #[arg(long, conflicts_with = "kernels")]
    guest: bool,
    /// Handed on to `cargo test`: a name to filter by, or `-- --nocapture`; with --kernels to the fixtures in the guest
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Test {
    pub(crate) fn run(&self) -> Result<()> {
        let toolchain = Toolchain::ensure_with_lab("the lab tests")?;
        if self.guest {
            return kernels::machine::run(&toolchain, Profile::Debug);
        }
        // The lab starts our binaries as a user would, from beside its tests, so they must be there before.
        binaries(&toolchain, Profile::Debug, &["csm-user", "csm-tests"])?;
        if self.kernels {
            return kernels::run(&toolchain, &self.arguments);
        }

        // Timing in a lab is real: one at a time, after everything that can run side by side. The packages are the same in both
        // runs, for each other selection would give the dependencies other features, and build all anew.
        let seed = std::env::var(PROPTEST_SEED.0).unwrap_or_else(|_| PROPTEST_SEED.1.to_owned());
        let cargo = || {
            let mut cargo = exec::cargo();
            cargo.args(["test", "--workspace", "--exclude", "csm-ebpf"]).env(PROPTEST_SEED.0, &seed);
            cargo
        };
        exec::run(toolchain.apply(cargo().args(["--lib", "--bins"])).args(&self.arguments))?;
        // Benches that go through their work once when they are tested: else nobody notices that one has stopped working.
        let benches = ["--bench", "codec", "--bench", "config", "--bench", "plan"];
        exec::run(toolchain.apply(cargo().args(benches)).args(&self.arguments))?;
        exec::run(
            toolchain
                .apply(cargo().args(["--test", "*"]))
                .args(&self.arguments)
                .env("RUST_TEST_THREADS", "1"),
        )
    }
}
