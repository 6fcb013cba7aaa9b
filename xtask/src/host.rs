//! What the machine must be before anything is built for it: root, and a kernel that can run the program.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Oldest kernel the XDP program is made for: the first long-term one with memory-mapped maps, ring buffers,
/// batched map operations and `bpf_loop` together.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// True when we run as root.
pub(crate) fn is_root() -> bool {
    // A process's own directory in /proc belongs to its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// Refuses to go on without root, a new enough kernel and the bpf() system call.
///
/// # Errors
/// One sentence for the first of these that is missing, naming the remedy.
pub(crate) fn require(purpose: &str) -> Result<()> {
    if !is_root() {
        bail!(
            "{purpose} makes network namespaces and loads an XDP program, which needs root: run the same command as \
             root (for example in a shell from `sudo -s`)"
        );
    }
    let text =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?;
    let release = text.trim();
    match parse_release(release) {
        Some(found) if found >= OLDEST_KERNEL => {}
        _ => bail!(
            "this kernel is {release}, but {purpose} needs Linux {}.{} or newer: boot a newer kernel (on Debian 11 or \
             12, install linux-image-amd64 from bookworm or bookworm-backports)",
            OLDEST_KERNEL.0,
            OLDEST_KERNEL.1
        ),
    }
    // The file is made by the same source file as the system call, so it is there with CONFIG_BPF_SYSCALL and not
    // without; asking the system call itself could not tell "not built in" from "forbidden by a container".
    if !Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists() {
        bail!(
            "this kernel ({release}) was built without the bpf() system call: boot one with CONFIG_BPF_SYSCALL=y, \
             such as your distribution's own"
        );
    }
    Ok(())
}

/// Major and minor number of a kernel release such as `6.1.0-18-amd64`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number_not_by_text() {
        assert_eq!(parse_release("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(parse_release("5.15.0"), Some((5, 15)));
        assert_eq!(parse_release("6.18-rc1"), Some((6, 18)));
        assert_eq!(parse_release("generic"), None);
        assert!(parse_release("6.12.9").unwrap() > OLDEST_KERNEL);
        assert!(parse_release("5.19.1").unwrap() < OLDEST_KERNEL);
    }
}
