//! Builds the XDP program for the BPF target and leaves its object in `OUT_DIR`, where `dataplane::load` embeds it.
//!
//! The BPF target needs a compiler that brings `core` for it, or its source, and `bpf-linker`; `cargo xtask build`
//! installs both where they are looked for here.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "bpfel-unknown-none";
const REMEDY: &str = "run `cargo xtask build` once, it installs what is missing";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("csm-user stands alone")?;
    for watched in
        ["csm-ebpf/src", "csm-ebpf/Cargo.toml", "csm-common/src", "csm-common/Cargo.toml", "Cargo.toml"]
    {
        println!("cargo:rerun-if-changed={}", workspace.join(watched).display());
    }
    for watched in ["CSM_BPF_RUSTC", "CSM_BPF_LINKER"] {
        println!("cargo:rerun-if-env-changed={watched}");
    }

    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run by cargo only")?);
    // A target directory of its own: the outer cargo holds the lock of the usual one.
    let target_dir = out_dir.join("bpf");
    let compiler = find_compiler()?;
    let linker = find_linker()?;
    println!("cargo:rerun-if-changed={}", linker.display());

    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace);
    cargo.args([
        "build",
        "--locked",
        "--release",
        "--package",
        "csm-ebpf",
        "--bin",
        "csm-ebpf",
        "--target",
        TARGET,
    ]);
    cargo.arg("--target-dir").arg(&target_dir);
    if compiler.build_std {
        cargo.args(["-Z", "build-std=core"]);
    }
    // What the outer cargo (and clippy, through the wrapper) sets for the host must not reach the inner one.
    for inherited in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(inherited);
    }
    cargo.env("RUSTC", &compiler.path);
    // aya-ebpf uses unstable features of the BPF target; this allows them for this build alone.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker);
    // v3: 32-bit arithmetic and atomics that return the old value (kernel 5.12).
    // No BTF: the kernel refuses the types that bpf-linker makes of Rust's, and nothing here needs them.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-cpu=v3");

    let status =
        cargo.status().map_err(|error| format!("cannot start cargo for the BPF program: {error}"))?;
    if !status.success() {
        return Err(format!(
            "the BPF program did not build with {} and {}",
            compiler.path.display(),
            linker.display()
        ));
    }
    let object = target_dir.join(TARGET).join("release/csm-ebpf");
    std::fs::copy(&object, out_dir.join("csm-ebpf.o"))
        .map_err(|error| format!("no object at {}: {error}", object.display()))?;
    Ok(())
}

struct Compiler {
    path: PathBuf,
    /// `core` comes as source and is built along.
    build_std: bool,
}

/// The compiler that is named, else Debian's with `core` prebuilt for BPF, else the toolchain's own with its source.
fn find_compiler() -> Result<Compiler, String> {
    if let Some(named) = env::var_os("CSM_BPF_RUSTC") {
        let path = PathBuf::from(named);
        return usable(&path)
            .ok_or_else(|| format!("CSM_BPF_RUSTC={} has no `core` for {TARGET}; {REMEDY}", path.display()));
    }
    let own = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    usable(Path::new("/usr/bin/rustc"))
        .or_else(|| usable(Path::new(&own)))
        .ok_or_else(|| format!("no Rust compiler with `core` for {TARGET} was found; {REMEDY}"))
}

fn usable(path: &Path) -> Option<Compiler> {
    let output =
        Command::new(path).args(["--print", "sysroot"]).output().ok().filter(|o| o.status.success())?;
    let rustlib = Path::new(String::from_utf8(output.stdout).ok()?.trim()).join("lib/rustlib");
    let prebuilt = rustlib.join(TARGET).join("lib").read_dir().ok().is_some_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libcore-")))
    });
    let build_std = !prebuilt;
    let source = rustlib.join("src/rust/library/core/src/lib.rs").is_file();
    (prebuilt || source).then(|| Compiler { path: path.to_owned(), build_std })
}

/// `bpf-linker` as named, in `PATH`, or where cargo or `cargo xtask build` put it.
fn find_linker() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os("CSM_BPF_LINKER") {
        let path = PathBuf::from(named);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("CSM_BPF_LINKER={} is no file; {REMEDY}", path.display()))
        };
    }
    let home = PathBuf::from(env::var_os("HOME").unwrap_or_else(|| OsString::from("/root")));
    let search = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&search)
        .chain([home.join(".cargo/bin"), home.join(".cache/csm/bin")])
        .map(|directory| directory.join("bpf-linker"))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            format!("bpf-linker was not found in PATH, ~/.cargo/bin or ~/.cache/csm/bin; {REMEDY}")
        })
}
