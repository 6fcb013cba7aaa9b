//! A rustc that can compile `core` for BPF.
//!
//! Looked for in this order:
//! 1. `$CSM_BPF_RUSTC`;
//! 2. the rustc of the search path, then Debian's `/usr/bin/rustc`, if one has `core` prebuilt for BPF;
//! 3. the rustc of the search path if it has its own sources (component `rust-src`), from which cargo builds `core`;
//! 4. as root on Debian, the packages of [`PACKAGES`] are installed and step 2 is repeated;
//! 5. anywhere else `rustup component add rust-src` is run and step 3 is repeated.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{exec, packages};

const TARGET: &str = "bpfel-unknown-none";

/// Compiler and prebuilt `core`, by age of the release: Debian 12 backports a new rustc for its browsers (`-web`);
/// newer ones carry it under the plain name.
const PACKAGES: [[&str; 2]; 2] = [["rustc-web", "libstd-rust-web-dev-bpf"], ["rustc", "libstd-rust-dev-bpf"]];

const NEED: &str = "the XDP program needs a rustc that can compile for BPF";

/// A compiler for the BPF target.
pub(super) struct BpfRustc {
    /// The compiler.
    pub(super) path: PathBuf,
    /// `core` is prebuilt; otherwise csm-user/build.rs has cargo build it from the sources.
    has_core: bool,
    /// Directory of its libraries and targets.
    pub(super) sysroot: PathBuf,
    /// What `rustc -vV` says.
    pub(super) version: Version,
}

/// The facts of `rustc -vV` that matter here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Version {
    /// Release, as (major, minor).
    pub(super) release: (u32, u32),
    /// Major number of its LLVM.
    pub(super) llvm: u32,
    /// The triple it runs on.
    pub(super) host: String,
}

/// Finds or installs a compiler.
///
/// # Errors
/// Names the packages to install, or what `$CSM_BPF_RUSTC` lacks.
pub(super) fn ensure() -> Result<BpfRustc> {
    if let Some(path) = std::env::var_os("CSM_BPF_RUSTC") {
        let path = PathBuf::from(path);
        return probe(&path)?.with_context(|| {
            format!(
                "CSM_BPF_RUSTC={} has neither core for {TARGET} nor its sources: unset it",
                path.display()
            )
        });
    }
    if let Some(found) = detect() {
        return Ok(found);
    }
    install()?;
    detect().with_context(|| {
        let (major, minor) = needed();
        format!(
            "{NEED}, and what was installed is older than {major}.{minor}: run `rustup component add rust-src` and \
             try again"
        )
    })
}

/// Steps 2 and 3: prebuilt `core` before sources, since building `core` takes time and unstable options.
fn detect() -> Option<BpfRustc> {
    let in_path = exec::find("rustc");
    let debian = PathBuf::from("/usr/bin/rustc");
    let candidates = in_path.into_iter().chain([debian]);
    let usable: Vec<BpfRustc> = candidates.filter_map(|path| probe(&path).ok().flatten()).collect();
    let prebuilt = usable.iter().position(|found| found.has_core);
    usable.into_iter().nth(prebuilt.unwrap_or(0))
}

/// Step 4, and without root or apt step 5.
fn install() -> Result<()> {
    if !packages::can_install() {
        eprintln!("xtask: adding Rust's sources to the toolchain (rustup component add rust-src)");
        return exec::run(exec::command("rustup").args(["component", "add", "rust-src"])).with_context(
            || {
                format!(
                    "{NEED}: run this once as root on Debian, or get `rustup component add rust-src` to work"
                )
            },
        );
    }
    let known = || PACKAGES.iter().find(|set| set.iter().all(|package| packages::is_known(package)));
    let set = match known() {
        Some(set) => set,
        None => {
            packages::update_lists()?;
            known().with_context(|| {
                format!("{NEED}, and Debian's package lists have none: run `rustup component add rust-src`")
            })?
        }
    };
    packages::install(NEED, set)
}

/// What the compiler at `path` can do; `None` when it cannot compile for BPF.
fn probe(path: &Path) -> Result<Option<BpfRustc>> {
    if !path.exists() {
        bail!("there is no {}", path.display());
    }
    let verbose = exec::output(exec::command(path).arg("-vV"))?;
    let version =
        parse_version(&verbose).with_context(|| format!("{} -vV makes no sense", path.display()))?;
    let sysroot = PathBuf::from(exec::output(exec::command(path).args(["--print", "sysroot"]))?.trim());
    let has_core = has_file(&sysroot.join("lib/rustlib").join(TARGET).join("lib"), "libcore-");
    let has_sources = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists();
    if version.release < needed() || !(has_core || has_sources) {
        return Ok(None);
    }
    Ok(Some(BpfRustc { path: path.to_path_buf(), has_core, sysroot, version }))
}

fn has_file(dir: &Path, prefix: &str) -> bool {
    let Ok(entries) = dir.read_dir() else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
}

/// The workspace's `rust-version`.
fn needed() -> (u32, u32) {
    parse_release(env!("CARGO_PKG_RUST_VERSION")).unwrap_or_default()
}

/// Reads `rustc -vV`.
pub(super) fn parse_version(verbose: &str) -> Option<Version> {
    let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(Version {
        release: parse_release(field("release:")?)?,
        llvm: field("LLVM version:")?.split('.').next()?.parse().ok()?,
        host: field("host:")?.to_owned(),
    })
}

fn parse_release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
        commit-hash: ac68faa20\ncommit-date: 2026-05-25\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\n\
        LLVM version: 22.1.8\n";

    #[test]
    fn reads_what_a_rustc_says_of_itself() {
        let version = parse_version(DEBIAN).unwrap();
        assert_eq!(
            version,
            Version { release: (1, 96), llvm: 22, host: "x86_64-unknown-linux-gnu".to_owned() }
        );
        assert_eq!(parse_version(&DEBIAN.replace("LLVM version", "LLVM")), None);
        let nightly = parse_version(&DEBIAN.replace("release: 1.96.0", "release: 1.97.0-nightly")).unwrap();
        assert_eq!(nightly.release, (1, 97));
    }

    #[test]
    fn the_oldest_compiler_is_the_workspaces() {
        assert!(needed() >= (1, 95));
    }
}
