//! `cargo xtask test --kernels`: the packet fixtures on Debian's long-term kernels, each booted in qemu.
//!
//! The verifier differs from kernel to kernel; what one accepts another may walk a hundred times longer, or refuse. The
//! guest is emulated in software, so this needs no virtualisation, and takes some minutes for each kernel.

mod guest;
pub(crate) mod machine;
mod package;

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::packages::{Program, ensure_programs};
use crate::toolchain::Toolchain;
use crate::{exec, toolchain};

/// The series tried: the oldest that is supported, and the newest in Debian 12.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// What making and running a guest takes.
const PROGRAMS: [Program; 7] = [
    Program { name: "qemu-system-x86_64", package: "qemu-system-x86" },
    Program { name: "busybox", package: "busybox-static" },
    Program { name: "cpio", package: "cpio" },
    Program { name: "depmod", package: "kmod" },
    Program { name: "xz", package: "xz-utils" },
    Program { name: "ip", package: "iproute2" },
    Program { name: "ethtool", package: "ethtool" },
];

/// A guest that has not ended by then is stopped: emulated on a busy core the fixtures take about five minutes.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// The guest's last line, followed by the exit code of the tests.
const VERDICT: &str = "csm-guest: exit code ";

/// Modules that the fixtures use.
const MODULES: [&str; 7] = [
    "drivers/net/veth.ko",
    "net/802",
    "net/8021q",
    "net/bridge/bridge.ko",
    "net/llc",
    "drivers/net/bonding",
    "net/tls/tls.ko",
];

/// What the guest runs unless told otherwise: the packet fixtures.
const FIXTURES: &str = "dataplane::";
/// Guests that may end before their tests begin.
const BOOTS: u32 = 3;

/// Runs the fixtures, or those of them that `words` choose, on each kernel.
///
/// # Errors
/// The first kernel on which a test fails, or what is missing to run one.
pub(crate) fn run(toolchain: &Toolchain, words: &[OsString]) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "--kernels boots Debian's amd64 kernels, and this machine is {}: run it on an amd64 machine",
        std::env::consts::ARCH
    );
    ensure_programs(&PROGRAMS, "booting other kernels")?;
    let tests = test_binary(toolchain)?;
    for series in SERIES {
        let kernel = package::ensure(series, &toolchain::cache()?.join("kernels"))?;
        let started = Instant::now();
        eprintln!("xtask: packet fixtures on {} (emulated; some minutes)", kernel.release);
        let name = tests.file_name().and_then(|name| name.to_str()).context("a program without a name")?;
        let contents = guest::Contents {
            programs: &[&tests],
            modules: &MODULES,
            loaded: "veth bridge 8021q bonding",
            script: &script(name, words)?,
        };
        let initrd = guest::pack(&kernel, &contents, &exec::target_dir().join("kernels").join(series))?;
        boot(&kernel.image, &initrd).with_context(|| format!("on kernel {}", kernel.release))?;
        eprintln!("xtask: kernel {}: passed in {} s", kernel.release, started.elapsed().as_secs());
    }
    Ok(())
}

/// Runs those of the tests that `words` choose, and tells how that ended.
fn script(tests: &str, words: &[OsString]) -> Result<String> {
    let words: Vec<&str> =
        words.iter().map(|word| word.to_str().context("words are to be UTF-8")).collect::<Result<_>>()?;
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    let chosen = if quoted.is_empty() { FIXTURES.to_owned() } else { quoted.join(" ") };
    Ok(format!("{tests} --test-threads 2 --show-output {chosen}\necho \"{VERDICT}$?\""))
}

/// Builds the integration tests and names their binary.
fn test_binary(toolchain: &Toolchain) -> Result<PathBuf> {
    let mut cargo = exec::cargo();
    cargo.args(["test", "--no-run", "--package", "csm-tests", "--test", "it", "--message-format", "json"]);
    let told = toolchain.apply(&mut cargo).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(told.status.success(), "the integration tests do not build: {}", told.status);
    executable(&String::from_utf8_lossy(&told.stdout))
        .context("cargo names no binary of the integration tests")
}

/// The one test executable in cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let message = messages.lines().rfind(|line| line.contains(r#""kind":["test"]"#))?;
    let (_, rest) = message.split_once(r#""executable":""#)?;
    rest.split_once('"').map(|(path, _)| PathBuf::from(path))
}

/// Boots a guest and waits for its verdict. One that ends before its tests have begun, as kernels under emulation do at times in their
/// first second, is booted again.
fn boot(image: &Path, initrd: &Path) -> Result<()> {
    for _ in 0..BOOTS {
        match boot_once(image, initrd)? {
            Some(0) => return Ok(()),
            Some(code) => bail!("tests failed in the guest: exit code {code}"),
            None => eprintln!("xtask: the guest ended before its tests began"),
        }
    }
    bail!("{BOOTS} guests in a row ended before their tests began")
}

/// The exit code of the guest's tests; `None`: they did not begin.
fn boot_once(image: &Path, initrd: &Path) -> Result<Option<i32>> {
    let mut guest = exec::command("qemu-system-x86_64")
        .args([
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-m",
            "3G",
            "-smp",
            "2",
            "-nic",
            "none",
            "-nographic",
            "-no-reboot",
        ])
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initrd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let verdict = watch(&mut guest);
    // It may have ended of its own accord.
    let _ = guest.kill();
    guest.wait().context("cannot wait for qemu-system-x86_64")?;
    verdict
}

/// Shows the guest's console until it tells the exit code of the tests; `None`: it ended before they began.
fn watch(guest: &mut Child) -> Result<Option<i32>> {
    let console = guest.stdout.take().context("the guest has no console")?;
    let (tell, told) = mpsc::channel();
    // Ends with the guest's console, at the latest when the guest is killed.
    std::thread::spawn(move || {
        let lines = BufReader::new(console).split(b'\n').map_while(Result::ok);
        lines
            .map(|line| String::from_utf8_lossy(&line).trim_end().to_owned())
            .try_for_each(|line| tell.send(line))
    });
    let end = Instant::now() + LIMIT;
    let mut began = false;
    loop {
        let line = match told.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("the guest did not end within {} s", LIMIT.as_secs())
            }
            Err(mpsc::RecvTimeoutError::Disconnected) if !began => return Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the guest ended without a verdict"),
        };
        began |= line.starts_with("running ");
        match line.split_once(VERDICT) {
            Some((_, code)) => {
                return code.trim().parse().map(Some).context("the guest's exit code is no number");
            }
            None => eprintln!("  | {line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_guests_shell_as_they_are() {
        let script = script("it-1", &["a b".into(), "it's".into()]).unwrap();
        assert!(script.starts_with(r"it-1 --test-threads 2 --show-output 'a b' 'it'\''s'"), "{script}");
    }

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let messages = r#"{"target":{"kind":["bin"],"name":"csm-lab"},"executable":"/x/csm-lab","fresh":true}
{"target":{"kind":["test"],"name":"it"},"executable":"/x/deps/it-1","fresh":true}"#;
        assert_eq!(executable(messages), Some(PathBuf::from("/x/deps/it-1")));
        assert_eq!(executable(r#"{"executable":null}"#), None);
    }
}
