//! `cargo xtask build`.

use std::path::PathBuf;

use anyhow::Result;

use crate::exec;
use crate::toolchain::Toolchain;

/// `build`'s options.
#[derive(clap::Args)]
pub(crate) struct Build {
    /// Optimise, as for use
    #[arg(long)]
    release: bool,
}

impl Build {
    pub(crate) fn run(&self) -> Result<()> {
        let toolchain = Toolchain::ensure()?;
        let profile = if self.release { Profile::Release } else { Profile::Debug };
        let dir = binaries(&toolchain, profile, &["csm-user"])?;
        println!("csmd and csm are in {}", dir.display());
        Ok(())
    }
}

/// How binaries are built.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// For tests: quick to build.
    Debug,
    /// For use and for measuring.
    Release,
}

/// Builds the binaries of these packages and returns the directory they are in.
///
/// # Errors
/// cargo's own.
pub(crate) fn binaries(toolchain: &Toolchain, profile: Profile, packages: &[&str]) -> Result<PathBuf> {
    let mut cargo = exec::cargo();
    cargo.args(["build", "--bins"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    let dir = match profile {
        Profile::Debug => "debug",
        Profile::Release => {
            cargo.arg("--release");
            "release"
        }
    };
    exec::run(toolchain.apply(&mut cargo))?;
    Ok(exec::target_dir().join(dir))
}
