//! bpf-linker, built once against the LLVM of a rustc that is already here.
//!
//! bpf-linker reads the compiler's bitcode, so both must agree on LLVM's major number. No LLVM package is needed: the
//! compiler ships the library, and bpf-linker looks for `lib/libLLVM.so` under `$LLVM_PREFIX`, for which a directory
//! with one link does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cache;
use super::rustc::{BpfRustc, parse_version};
use crate::exec;

const VERSION: &str = "0.13.0";
/// Major numbers of LLVM that this version has a feature for.
const LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// Finds a bpf-linker that starts and fits the compiler, or builds one.
///
/// # Errors
/// `$CSM_BPF_LINKER` does not start, no LLVM library was found, or cargo's own error.
pub(super) fn ensure(rustc: &BpfRustc) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CSM_BPF_LINKER") {
        let path = PathBuf::from(path);
        exec::output(exec::command(&path).arg("--version"))
            .with_context(|| format!("CSM_BPF_LINKER={} does not start: unset it", path.display()))?;
        return Ok(path);
    }
    let root = cache()?;
    let path = root.join("bin/bpf-linker");
    if fits(&path, rustc.version.llvm) {
        return Ok(path);
    }
    build(&root, rustc)?;
    if !fits(&path, rustc.version.llvm) {
        bail!(
            "{} was built but does not start: remove {} and run this again",
            path.display(),
            root.display()
        );
    }
    Ok(path)
}

/// True when the linker starts, is of our version and loads an LLVM of this major number.
///
/// It stops starting when the toolchain whose library it was linked to is updated or removed.
fn fits(linker: &Path, llvm: u32) -> bool {
    let version = exec::output(exec::command(linker).arg("--version"));
    let libraries = exec::output(exec::command("ldd").arg(linker));
    version.is_ok_and(|text| text.trim().ends_with(VERSION))
        && libraries.is_ok_and(|text| text.lines().any(|line| is_llvm(line.trim(), llvm)))
}

/// True for a file name (or a line that starts with one) of LLVM's shared library in this major number:
/// `libLLVM.so.22.1`, `libLLVM.so.22.1-rust-1.95.0-stable`, `libLLVM-22-rust-1.95.0-stable.so`, `libLLVM-22.so.1`.
fn is_llvm(name: &str, major: u32) -> bool {
    let rest = name.strip_prefix("libLLVM.so.").or_else(|| name.strip_prefix("libLLVM-"));
    rest.is_some_and(|rest| {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest[..digits].parse() == Ok(major)
    })
}

fn build(root: &Path, rustc: &BpfRustc) -> Result<()> {
    let major = rustc.version.llvm;
    if !LLVM.contains(&major) {
        bail!(
            "{} is built on LLVM {major}, but bpf-linker {VERSION} knows LLVM {} to {}: install a rustc in that range",
            rustc.path.display(),
            LLVM.start(),
            LLVM.end()
        );
    }
    let library = find_library(rustc)?;
    eprintln!(
        "xtask: building bpf-linker {VERSION} against {} (once, one to two minutes)",
        library.display()
    );

    let prefix = root.join("llvm");
    let lib = prefix.join("lib");
    std::fs::create_dir_all(&lib).with_context(|| format!("cannot make {}", lib.display()))?;
    let link = lib.join("libLLVM.so");
    if link.symlink_metadata().is_ok() {
        std::fs::remove_file(&link).with_context(|| format!("cannot replace {}", link.display()))?;
    }
    std::os::unix::fs::symlink(&library, &link).with_context(|| format!("cannot make {}", link.display()))?;

    let runtime_dir = library.parent().context("the library stands in no directory")?;
    let flags = [
        "-L".to_owned(),
        format!("native={}", lib.display()),
        "-C".to_owned(),
        format!("link-arg=-Wl,-rpath,{}", runtime_dir.display()),
    ];
    let scratch = root.join("build");
    exec::run(
        exec::cargo()
            .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force", "--quiet"])
            .args(["--no-default-features", "--features", &format!("llvm-{major}")])
            .arg("--root")
            .arg(root)
            .env("CARGO_TARGET_DIR", &scratch)
            .env("LLVM_PREFIX", &prefix)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            // The binary's directory needs not be in the user's PATH: build.rs is told the whole path.
            .stdin(std::process::Stdio::null()),
    )
    .context(
        "bpf-linker could not be built: it needs the network once and a C compiler (Debian: build-essential)",
    )?;
    std::fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))
}

/// The LLVM library of the BPF compiler, or of the path's rustc when that has the same major number.
fn find_library(rustc: &BpfRustc) -> Result<PathBuf> {
    let major = rustc.version.llvm;
    let mut dirs = library_dirs(&rustc.sysroot, &rustc.version.host);
    if let Some(other) = exec::find("rustc")
        && let Ok(verbose) = exec::output(exec::command(&other).arg("-vV"))
        && let Some(version) = parse_version(&verbose)
        && let Ok(sysroot) = exec::output(exec::command(&other).args(["--print", "sysroot"]))
    {
        dirs.extend(library_dirs(Path::new(sysroot.trim()), &version.host));
    }
    dirs.iter().find_map(|dir| library_in(dir, major)).with_context(|| {
        format!(
            "no shared library of LLVM {major} was found beside {}: install Debian's libllvm{major}",
            rustc.path.display()
        )
    })
}

/// A toolchain's own library directory, and Debian's multiarch one.
fn library_dirs(sysroot: &Path, host: &str) -> Vec<PathBuf> {
    let lib = sysroot.join("lib");
    let multiarch = host.replace("-unknown-", "-");
    vec![lib.join(multiarch), lib]
}

fn library_in(dir: &Path, major: u32) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = dir
        .read_dir()
        .ok()?
        .flatten()
        .filter(|entry| is_llvm(&entry.file_name().to_string_lossy(), major))
        .map(|entry| entry.path())
        // rustup's `libLLVM-22-rust-*.so` is a text file, a script for the linker.
        .filter(|path| path.metadata().is_ok_and(|file| file.len() > 1 << 20))
        .collect();
    found.sort();
    found.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_llvm_by_each_of_its_names() {
        for name in [
            "libLLVM.so.22.1",
            "libLLVM.so.22.1-rust-1.95.0-stable => /lib/x",
            "libLLVM-22-rust-1.95.0-stable.so",
            "libLLVM-22.so.1",
        ] {
            assert!(is_llvm(name, 22), "{name}");
            assert!(!is_llvm(name, 2), "{name}");
            assert!(!is_llvm(name, 23), "{name}");
        }
        assert!(!is_llvm("libLLVM.so", 22));
        assert!(!is_llvm("libclang-cpp.so.22.1", 22));
    }

    #[test]
    fn a_linker_that_does_not_start_does_not_fit() {
        assert!(!fits(Path::new("/bin/false"), 22));
        assert!(!fits(Path::new("/nowhere/bpf-linker"), 22));
    }

    #[test]
    fn looks_in_the_multiarch_directory_first() {
        let dirs = library_dirs(Path::new("/usr"), "x86_64-unknown-linux-gnu");
        assert_eq!(dirs, [PathBuf::from("/usr/lib/x86_64-linux-gnu"), PathBuf::from("/usr/lib")]);
    }
}
