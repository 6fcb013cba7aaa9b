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
    // What is private is documented, too, so links to it lead somewhere.
    let flags = "-D warnings -A rustdoc::private-intra-doc-links";
    exec::run(toolchain.apply(exec::cargo().args(arguments)).env("RUSTDOCFLAGS", flags))?;
    println!("the documentation is in {}", exec::target_dir().join("doc").display());
    Ok(())
}
