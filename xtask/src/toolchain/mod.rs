//! The eBPF toolchain: a rustc that can compile for BPF and a bpf-linker that understands its LLVM, found or installed.
//!
//! Each step looks first and acts only when something is missing, so that a second run needs neither network nor root.
//! Steps that change the machine run under one lock, so that several `cargo xtask` may start at once.

mod linker;
mod rustc;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{host, packages};
use rustc::BpfRustc;

/// What csm-user/build.rs needs to build the eBPF object.
pub(crate) struct Toolchain {
    rustc: BpfRustc,
    linker: PathBuf,
}

impl Toolchain {
    /// Finds the toolchain, installing what is missing.
    ///
    /// # Errors
    /// One sentence naming what is missing and its remedy.
    pub(crate) fn ensure() -> Result<Self> {
        let _lock = Lock::take()?;
        Self::ensure_locked()
    }

    /// The toolchain, and with it all that a lab run needs: root, a kernel that fits, the lab's programs.
    ///
    /// # Errors
    /// As [`Toolchain::ensure`], and [`host::require`].
    pub(crate) fn ensure_with_lab(purpose: &str) -> Result<Self> {
        host::require(purpose)?;
        let _lock = Lock::take()?;
        packages::ensure_lab_programs()?;
        Self::ensure_locked()
    }

    fn ensure_locked() -> Result<Self> {
        let rustc = rustc::ensure()?;
        let linker = linker::ensure(&rustc)?;
        Ok(Self { rustc, linker })
    }

    /// Tells a child cargo which compiler and linker csm-user/build.rs shall use.
    pub(crate) fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("CSM_BPF_RUSTC", &self.rustc.path).env("CSM_BPF_LINKER", &self.linker)
    }
}

/// Where bpf-linker and other kernels are kept between clones: `$CSM_CACHE`, else `~/.cache/csm`.
///
/// # Errors
/// Neither variable is set.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("CSM_CACHE") {
        return Ok(PathBuf::from(dir));
    }
    let home = std::env::var_os("HOME")
        .context("HOME is not set: set it, or set CSM_CACHE to a directory to keep bpf-linker in")?;
    Ok(Path::new(&home).join(".cache/csm"))
}

/// Removes what [`Toolchain::ensure`] built, and nothing else: the directory may be the user's own choice.
///
/// # Errors
/// Something there cannot be removed.
pub(crate) fn remove_cache() -> Result<()> {
    let dir = cache()?;
    for part in ["bin", "llvm", "build", "kernels"].map(|name| dir.join(name)) {
        if part.exists() {
            std::fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))?;
        }
    }
    Ok(())
}

/// Held while the machine may be changed; the kernel releases it when we end, however we end.
struct Lock(#[expect(dead_code, reason = "the lock lives as long as the file is open")] File);

impl Lock {
    fn take() -> Result<Self> {
        let dir = cache()?;
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let path = dir.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("xtask: waiting for another cargo xtask that installs the toolchain");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Self(file))
    }
}
