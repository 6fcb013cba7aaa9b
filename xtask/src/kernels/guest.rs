//! The guest's root: busybox, the programs that the tests start, the tests with the libraries they need, and the modules of its kernel.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::VERDICT;
use super::package::Kernel;
use crate::exec;

/// Modules that the tests use, with what they depend on: directories and files below `kernel/` of the module tree.
const MODULES: [&str; 7] = [
    "drivers/net/veth.ko",
    "net/802",
    "net/8021q",
    "net/bridge/bridge.ko",
    "net/llc",
    "drivers/net/bonding",
    "net/tls/tls.ko",
];

/// What the tests start.
const COMMANDS: [&str; 2] = ["ip", "ethtool"];

/// What the guest loads before it starts the tests.
const LOADED: &str = "veth bridge 8021q bonding";

/// What the guest runs unless told otherwise: the packet fixtures.
const FIXTURES: &str = "dataplane::";

/// Makes the initial file system of a guest with `kernel` that runs `tests`, those that `words` choose, in `dir`.
///
/// # Errors
/// A file cannot be copied, or one of the programs needed fails.
pub(super) fn pack(kernel: &Kernel, tests: &Path, words: &[OsString], dir: &Path) -> Result<PathBuf> {
    let root = dir.join("root");
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    for part in ["bin", "sbin", "proc", "sys", "dev", "tmp", "run", "var/run", "etc"] {
        let part = root.join(part);
        std::fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    }
    install(&exec::find("busybox").context("no busybox")?, &root.join("bin/busybox"), &root)?;
    for program in COMMANDS {
        install(&exec::find(program).context(program)?, &root.join("sbin").join(program), &root)?;
    }
    install(tests, &root.join("it"), &root)?;
    modules(kernel, &root)?;
    let init = root.join("init");
    std::fs::write(&init, script(words)?).with_context(|| format!("cannot write {}", init.display()))?;
    exec::run(exec::command("chmod").arg("755").arg(&init))?;

    let initrd = dir.join("initrd");
    let pack = "find . -print0 | cpio --quiet --null --create --format=newc --file \"$1\"";
    exec::run(exec::command("sh").args(["-e", "-c", pack, "sh"]).arg(&initrd).current_dir(&root))?;
    Ok(initrd)
}

/// Busybox' own `ip` knows no veth, so `sbin` comes first.
fn script(words: &[OsString]) -> Result<String> {
    let words: Vec<&str> =
        words.iter().map(|word| word.to_str().context("words are to be UTF-8")).collect::<Result<_>>()?;
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    let chosen = if quoted.is_empty() { FIXTURES.to_owned() } else { quoted.join(" ") };
    Ok(format!(
        "#!/bin/busybox sh\n\
         export PATH=/sbin:/bin RUST_BACKTRACE=1\n\
         /bin/busybox --install -s /bin\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mount -t tmpfs tmpfs /tmp\n\
         mount -t tmpfs tmpfs /run\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         for module in {LOADED}; do modprobe $module || echo \"no module $module\"; done\n\
         ip link set lo up\n\
         /it --test-threads 2 --show-output {chosen}\n\
         echo \"{VERDICT}$?\"\n\
         poweroff -f\n"
    ))
}

/// Copies a program with the shared libraries that it is linked with.
fn install(program: &Path, target: &Path, root: &Path) -> Result<()> {
    copy(program, target)?;
    // A static program is none to ldd, which is no mistake here.
    let Ok(linked) = exec::output(exec::command("ldd").arg(program)) else { return Ok(()) };
    for library in libraries(&linked) {
        copy(library, &root.join(library.strip_prefix("/").unwrap_or(library)))?;
    }
    Ok(())
}

/// The files that `ldd` names: `NAME => PATH (0x…)`, or the loader's `PATH (0x…)`.
fn libraries(linked: &str) -> BTreeSet<&Path> {
    let path = |line: &'_ str| -> Option<usize> { line.find('/') };
    linked.lines().filter_map(|line| line[path(line)?..].split(' ').next()).map(Path::new).collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    std::fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
        .map(drop)
}

/// Copies the modules, unpacked, and writes their index: busybox' modprobe needs both.
fn modules(kernel: &Kernel, root: &Path) -> Result<()> {
    let target = root.join("lib/modules").join(&kernel.release);
    let mut found = 0;
    for part in MODULES {
        let from = kernel.modules.join("kernel").join(part);
        let to = target.join("kernel").join(part);
        if from.is_dir() {
            for entry in
                std::fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))?
            {
                let file = entry?.path();
                if file.is_file()
                    && let Some(name) = file.file_name()
                {
                    copy(&file, &to.join(name))?;
                    found += 1;
                }
            }
        } else if from.exists() {
            copy(&from, &to)?;
            found += 1;
        } else {
            copy(&with_xz(&from), &with_xz(&to))?;
            found += 1;
        }
    }
    ensure!(found >= MODULES.len(), "{} holds too few modules", kernel.modules.display());
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        copy(&kernel.modules.join(list), &target.join(list))?;
    }
    exec::run(
        exec::command("sh")
            .args(["-e", "-c", "find \"$1\" -name '*.xz' -exec xz -d {} +", "sh"])
            .arg(&target),
    )?;
    exec::run(exec::command("depmod").arg("-b").arg(root).arg(&kernel.release))
}

fn with_xz(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".xz");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_that_ldd_finds() {
        let linked = "\tlinux-vdso.so.1 (0x00007f52f25e3000)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f52f153e000)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f52f25e5000)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(linked), expected.map(Path::new).into());
    }

    #[test]
    fn words_reach_the_guests_shell_as_they_are() {
        let script = script(&["a b".into(), "it's".into()]).unwrap();
        assert!(script.contains(r"--show-output 'a b' 'it'\''s'"), "{script}");
    }
}
