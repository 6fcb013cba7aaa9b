//! `cargo xtask clean`.

use anyhow::Result;

use crate::{exec, toolchain};

/// `clean`'s options.
#[derive(clap::Args)]
pub(crate) struct Clean {
    /// Remove the bpf-linker that was built, too
    #[arg(long)]
    toolchain: bool,
}

impl Clean {
    pub(crate) fn run(&self) -> Result<()> {
        if self.toolchain {
            toolchain::remove_cache()?;
        }
        exec::run(exec::cargo().arg("clean"))
    }
}
