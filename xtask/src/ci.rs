//! `cargo xtask ci`.

use anyhow::Result;

use crate::exec;

/// Runs the script that the continuous integration runs, so that both do the same.
///
/// # Errors
/// The script's.
pub(crate) fn run() -> Result<()> {
    exec::run(&mut exec::command(exec::workspace().join(".ci/run")))
}
