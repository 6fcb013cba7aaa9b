//! Network namespaces that are gone afterwards: after a failure, after Ctrl-C and after `kill -9` of the lab itself.
//!
//! Every namespace is called `csmlab-PID-N-ROLE`, PID being the process that made it. Three things remove it: the guard's
//! `Drop`, the [`Reaper`] (a child that notices the death of its parent), and [`sweep_dead`], which `csm-lab clean` runs.
//! Processes join a namespace by `setns` before `exec`. `ip netns exec` would also unshare the mounts and hide bpffs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where iproute2 keeps the names.
const NETNS_DIR: &str = "/run/netns";
/// Where csmd pins what outlives it.
pub(crate) const PINS_DIR: &str = "/sys/fs/bpf/csm";
/// First part of every name that a lab makes.
const PREFIX: &str = "csmlab-";

/// One lab among those that run side by side on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabId(String);

impl LabId {
    /// A name that no other lab has, in this process or another.
    pub fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The lab's name, the beginning of its namespaces' names.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Directory for sockets and the servers' files; removed with the lab.
    pub fn runtime_dir(&self) -> PathBuf {
        std::env::temp_dir().join(&self.0)
    }
}

/// A network namespace, deleted on drop together with whatever still runs in it.
#[derive(Debug)]
pub struct Netns {
    name: String,
    handle: File,
}

impl Netns {
    /// Makes the namespace `LAB-ROLE` with its loopback up.
    ///
    /// # Errors
    /// Without root, or where `ip` is missing.
    pub fn create(lab: &LabId, role: &str) -> Result<Self> {
        let name = format!("{}-{role}", lab.as_str());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let handle =
            File::open(Path::new(NETNS_DIR).join(&name)).with_context(|| format!("open netns {name}"))?;
        let made = Self { name, handle };
        made.ip(&["link set lo up".to_owned()])?;
        Ok(made)
    }

    /// The name as `ip netns list` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside, in its own process group so that a Ctrl-C reaches only the lab, which then takes
    /// it down in order.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let handle = self.handle.try_clone().context("duplicate the namespace handle")?;
        let mut command = Command::new(program);
        command.process_group(0);
        // SAFETY: setns is a bare system call, allowed between fork and exec; the closure allocates nothing.
        unsafe {
            command.pre_exec(move || setns(&handle, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from));
        }
        Ok(command)
    }

    /// Runs `work` on a thread that is inside. Sockets opened there stay inside wherever they are used later.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| setns(&self.handle, CloneFlags::CLONE_NEWNET).map(|()| work()));
            inside.join().map_err(|_| anyhow::anyhow!("a thread in {} panicked", self.name))?.context("setns")
        })
    }

    /// Runs lines of `ip -batch`, all or an error.
    pub fn ip(&self, lines: &[String]) -> Result<()> {
        self.batch("ip", lines)
    }

    /// Runs lines of `tc -batch`, all or an error.
    pub fn tc(&self, lines: &[String]) -> Result<()> {
        self.batch("tc", lines)
    }

    fn batch(&self, program: &str, lines: &[String]) -> Result<()> {
        use std::io::Write;
        let mut child = self
            .command(program)?
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let mut text = lines.join("\n");
        text.push('\n');
        child.stdin.take().context("stdin of the batch")?.write_all(text.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{program} in {}: {}\n{text}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Writes a sysctl below `/proc/sys/net`, whose content follows the namespace of the writing thread.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(key);
        self.within(|| fs::write(&path, value))?
            .with_context(|| format!("{}: {} = {value}", self.name, path.display()))
    }

    /// Processes that are inside.
    pub fn processes(&self) -> Vec<Pid> {
        self.handle.metadata().map_or_else(|_| Vec::new(), |facts| processes_in(facts.ino()))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        kill_all(&self.processes());
        if let Some(lab) = lab_of(&self.name) {
            remove_pins(&lab);
        }
        // Nothing to do about a failure here; `csm-lab clean` finds what stays.
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// A child that outlives a killed lab for as long as it takes to remove it.
#[derive(Debug)]
pub struct Reaper {
    child: Child,
}

impl Reaper {
    /// Starts `csm-lab reap NAME`, which waits for the end of its standard input.
    pub fn start(csm_lab: &Path, lab: &LabId) -> Result<Self> {
        let child = Command::new(csm_lab)
            .args(["reap", lab.as_str()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {} as the reaper", csm_lab.display()))?;
        Ok(Self { child })
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Removes one lab by name: its processes, namespaces and runtime directory. Returns the namespaces removed.
pub fn sweep(lab: &str) -> Vec<String> {
    let mut removed = Vec::new();
    for name in names_with(&format!("{lab}-")) {
        if let Ok(facts) = fs::metadata(Path::new(NETNS_DIR).join(&name)) {
            kill_all(&processes_in(facts.ino()));
        }
        if run(Command::new("ip").args(["netns", "del", &name])).is_ok() {
            removed.push(name);
        }
    }
    remove_pins(lab);
    let _ = fs::remove_dir_all(std::env::temp_dir().join(lab));
    removed
}

/// What killed daemons left pinned: csmd names its pins after its socket, which lies in the lab's directory.
fn remove_pins(lab: &str) {
    let Ok(entries) = fs::read_dir(PINS_DIR) else { return };
    let of_lab = format!("-{lab}-");
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().contains(&of_lab)) {
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// Removes every lab whose process has died. Returns the namespaces removed.
pub fn sweep_dead() -> Vec<String> {
    let mut labs: Vec<String> = names_with(PREFIX).iter().filter_map(|name| lab_of(name)).collect();
    labs.sort();
    labs.dedup();
    labs.iter().filter(|lab| !owner_alive(lab)).flat_map(|lab| sweep(lab)).collect()
}

/// Namespaces of a lab that still exist.
pub fn leftovers(lab: &LabId) -> Vec<String> {
    names_with(&format!("{}-", lab.as_str()))
}

fn lab_of(netns: &str) -> Option<String> {
    let mut parts = netns.strip_prefix(PREFIX)?.split('-');
    let pid: u32 = parts.next()?.parse().ok()?;
    let instance: u32 = parts.next()?.parse().ok()?;
    Some(format!("{PREFIX}{pid}-{instance}"))
}

fn owner_alive(lab: &str) -> bool {
    let pid = lab.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).unwrap_or_default();
    Path::new("/proc").join(pid).exists()
}

fn names_with(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(NETNS_DIR) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// Processes whose network namespace has this inode number. Only children of a lab ever are in a lab's namespace.
fn processes_in(inode: u64) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let me = std::process::id();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| u32::try_from(*pid).is_ok_and(|pid| pid != me))
        .filter(|pid| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|facts| facts.ino() == inode))
        .map(Pid::from_raw)
        .collect()
}

fn kill_all(pids: &[Pid]) {
    for pid in pids {
        let _ = kill(*pid, Signal::SIGKILL);
    }
}

/// Runs a command, silent when it works, its error text in the error when it does not.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_is_known_by_the_names_of_its_namespaces() {
        assert_eq!(lab_of("csmlab-17-2-switch").as_deref(), Some("csmlab-17-2"));
        assert_eq!(lab_of("csmlab-x-2-switch"), None);
        assert_eq!(lab_of("other"), None);
    }

    #[test]
    fn the_owner_of_a_lab_is_the_process_in_its_name() {
        assert!(owner_alive(LabId::unique().as_str()));
        // Above the largest pid that Linux can be configured to give (PID_MAX_LIMIT, 2^22).
        assert!(!owner_alive("csmlab-4194305-0"));
    }
}
