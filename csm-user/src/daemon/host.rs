//! Facts about this host that the configuration is checked against, and identities of this start.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;

use crate::config::{self, HostFacts};
use crate::model::{Config, fnv1a};

/// Interfaces and scheduling of this host.
///
/// # Errors
/// If the kernel does not list its interfaces.
pub fn facts() -> io::Result<HostFacts> {
    Ok(HostFacts { interfaces: Some(interfaces()?), realtime: Some(realtime()) })
}

fn interfaces() -> io::Result<BTreeSet<String>> {
    let names = nix::net::if_::if_nameindex().map_err(io::Error::from)?;
    Ok(names.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect())
}

/// Capabilities (linux/capability.h) without which nothing works. Without CAP_SYS_NICE and CAP_IPC_LOCK only the timers
/// must be longer, which the configuration is checked for.
const NEEDED: [(&str, u32); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// Those of [`NEEDED`] that this process lacks.
///
/// # Errors
/// If the kernel does not tell.
pub fn missing_capabilities() -> io::Result<Vec<&'static str>> {
    Ok(missing_of(&fs::read_to_string("/proc/self/status")?))
}

fn missing_of(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    NEEDED.iter().filter(|(_, bit)| effective >> bit & 1 == 0).map(|(name, _)| *name).collect()
}

/// Whether a thread may have SCHED_FIFO: asked on a thread of its own that ends at once.
fn realtime() -> bool {
    let ask = || {
        let lowest = libc::sched_param { sched_priority: 1 };
        // SAFETY: `lowest` is a valid parameter block for this thread (pid 0).
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) == 0 }
    };
    std::thread::spawn(ask).join().unwrap_or(false)
}

/// A number that differs from start to start and is not 0.
#[must_use]
pub fn nonce() -> u64 {
    // RandomState is seeded by the kernel's random source.
    RandomState::new().hash_one(std::process::id()).max(1)
}

/// Checksum of what both nodes of a pair should have alike: everything but own addresses, priority and ports.
#[must_use]
pub fn shared_checksum(config: &Config) -> u64 {
    let mut shared = config.clone();
    shared.slot = 0;
    shared.interfaces.clear();
    for vlan in &mut shared.vlans {
        (vlan.address, vlan.alt_address) = (None, None);
    }
    if let Some(ft) = &mut shared.ft {
        (ft.priority, ft.alt_priority) = (0, None);
        // Names of interfaces are each host's own.
        ft.track.interfaces.clear();
    }
    fnv1a(config::print(&shared).as_bytes())
}

/// Checksum of the running program; 0 if it cannot be read.
#[must_use]
pub fn software_checksum() -> u64 {
    fs::read("/proc/self/exe").map_or(0, |image| fnv1a(&image))
}

#[cfg(test)]
mod tests {
    use super::missing_of;

    #[test]
    fn capabilities_are_read_by_their_bits() {
        assert_eq!(missing_of("Name:\tcsmd\nCapEff:\t000001ffffffffff\n"), Vec::<&str>::new());
        assert_eq!(missing_of("CapEff:\t0000008000001000\n"), ["CAP_NET_RAW", "CAP_PERFMON"]);
        assert_eq!(missing_of("").len(), 4);
    }
}
