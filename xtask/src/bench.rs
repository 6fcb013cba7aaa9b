//! `cargo xtask bench`.

use std::ffi::OsString;

use anyhow::Result;

use crate::toolchain::Toolchain;
use crate::{exec, host};

/// `bench`'s arguments.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// Handed on to `cargo bench`: `--bench NAME`, a filter, `-- --save-baseline NAME`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        host::require("the packet path's bench")?;
        let toolchain = Toolchain::ensure()?;
        exec::run(
            toolchain.apply(exec::cargo().args(["bench", "--package", "csm-bench"])).args(&self.arguments),
        )
    }
}
