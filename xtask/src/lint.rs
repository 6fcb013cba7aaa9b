//! `cargo xtask lint`: format, clippy on both sides, and the tree's own rules.

use anyhow::{Context, Result, bail};

use crate::toolchain::Toolchain;
use crate::{exec, tidy};

/// Runs every check, and fails at the first that finds something.
///
/// # Errors
/// The check that failed, or the cargo subcommand that is missing.
pub(crate) fn run() -> Result<()> {
    for subcommand in ["fmt", "clippy"] {
        exec::output(exec::cargo().args([subcommand, "--version"])).with_context(|| {
            format!("cargo {subcommand} is missing: run `rustup component add rustfmt clippy`")
        })?;
    }
    tidy()?;
    exec::run(exec::cargo().args(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")?;
    // csm-user's build script compiles the XDP program, under clippy too.
    let toolchain = Toolchain::ensure()?;
    let host_side =
        ["clippy", "--workspace", "--exclude", "csm-ebpf", "--all-targets", "--", "-D", "warnings"];
    exec::run(toolchain.apply(exec::cargo().args(host_side)))?;
    clippy_ebpf()
}

/// Clippy for the XDP program, compiled for the host: rustup's clippy has no `core` for BPF, and Debian's compiler for
/// BPF has no clippy. The code is the same on both; what only BPF refuses, the build finds.
///
/// The program has its own panic handler, so it must abort on panic; aya's bindings need unstable features.
fn clippy_ebpf() -> Result<()> {
    exec::run(
        exec::cargo()
            .args(["clippy", "--package", "csm-ebpf", "--config", "profile.dev.panic='abort'"])
            .args(["--", "-D", "warnings"])
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", exec::target_dir().join("ebpf-clippy")),
    )
}

fn tidy() -> Result<()> {
    let faults = tidy::check(exec::workspace(), &crate::command_names())?;
    for fault in &faults {
        eprintln!("{fault}");
    }
    if !faults.is_empty() {
        bail!("{} of the tree's own rules broken (xtask/src/tidy.rs says why each is there)", faults.len());
    }
    Ok(())
}
