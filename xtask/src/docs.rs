//! `cargo xtask docs`.

use anyhow::Result;

use crate::exec;
use crate::toolchain::Toolchain;

/// Writes rustdoc for the host's packages; a broken link between items is an error.
///
/// # Errors
/// cargo's own.
pub(crate) fn run() -> Result<()> {
    let toolchain = Toolchain::ensure()?;
    let arguments = ["doc", "--workspace", "--exclude", "csm-ebpf", "--no-deps", "--document-private-items"];
    exec::run(toolchain.apply(exec::cargo().args(arguments)).env("RUSTDOCFLAGS", "-D warnings"))?;
    println!("the documentation is in {}", exec::target_dir().join("doc").display());
    Ok(())
}
