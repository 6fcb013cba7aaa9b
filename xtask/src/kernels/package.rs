//! Debian's kernel packages: found by series, fetched once, kept unpacked in the cache.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::{exec, packages};

/// A kernel on disk.
pub(super) struct Kernel {
    /// As `uname -r` will say.
    pub(super) release: String,
    /// Its image.
    pub(super) image: PathBuf,
    /// `lib/modules/RELEASE` of its package.
    pub(super) modules: PathBuf,
}

/// Finds the newest kernel of `series` (`6.1`) that Debian offers, fetching it unless `cache` holds it.
///
/// # Errors
/// No such package, no network, or a package that is not what it should be.
pub(super) fn ensure(series: &str, cache: &Path) -> Result<Kernel> {
    let release = match newest(series)? {
        Some(release) => release,
        None => {
            packages::update_lists()?;
            newest(series)?.with_context(|| {
                format!(
                    "Debian's package lists know no linux-image-{series}.*-amd64: this needs Debian 12 with its security \
                     suite in /etc/apt/sources.list"
                )
            })?
        }
    };
    let dir = cache.join(&release);
    let kernel = Kernel {
        image: dir.join(format!("boot/vmlinuz-{release}")),
        modules: dir.join("lib/modules").join(&release),
        release,
    };
    if !kernel.image.exists() {
        fetch(&kernel.release, cache, &dir)?;
    }
    Ok(kernel)
}

/// Release of the newest plain kernel of `series` in the package lists.
fn newest(series: &str) -> Result<Option<String>> {
    let pattern = format!("^linux-image-{}\\.[0-9]", series.replace('.', "\\."));
    let names = exec::output(exec::command("apt-cache").args(["search", "--names-only", &pattern]))?;
    Ok(newest_of(&names).map(str::to_owned))
}

/// The highest release among lines of `apt-cache search`, leaving out the variants (`-rt-amd64`, `-cloud-amd64`).
fn newest_of(lines: &str) -> Option<&str> {
    lines
        .lines()
        .filter_map(|line| line.split(' ').next()?.strip_prefix("linux-image-"))
        .filter(|release| release.strip_suffix("-amd64").is_some_and(|version| !version.contains("-rt")))
        .filter(|release| !release.contains("-cloud"))
        .max_by_key(|release| numbers(release))
}

/// The numbers in a release, in their order: enough to compare two of one series.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Downloads and unpacks; `dir` appears only when it is whole.
fn fetch(release: &str, cache: &Path, dir: &Path) -> Result<()> {
    let unfinished = cache.join(format!("{release}.unfinished"));
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)
            .with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    let root = unfinished.join("root");
    std::fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    eprintln!("xtask: fetching Debian's kernel {release} (about 100 MB, once)");
    let package = format!("linux-image-{release}");
    exec::run(
        exec::command("apt-get")
            .args(["-q", "-o", "APT::Sandbox::User=root", "download", &package])
            .current_dir(&unfinished)
            .stdin(Stdio::null()),
    )
    .with_context(|| {
        format!("cannot download {package}: check the network, or run `apt-get update` and try again")
    })?;
    let deb = std::fs::read_dir(&unfinished)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get left no package behind")?;
    exec::run(exec::command("dpkg-deb").arg("-x").arg(&deb).arg(&root))?;
    std::fs::rename(&root, dir).with_context(|| format!("cannot make {}", dir.display()))?;
    std::fs::remove_dir_all(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_plain_kernel_is_taken() {
        let lines = "linux-image-6.12-amd64 - Linux for 64-bit PCs (meta-package)\n\
                     linux-image-6.12.9+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)\n\
                     linux-image-6.12.117+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)\n\
                     linux-image-6.12.118+deb12-rt-amd64 - Linux 6.12 for 64-bit PCs (signed), PREEMPT_RT\n\
                     linux-image-6.12.118+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)\n";
        assert_eq!(newest_of(lines), Some("6.12.117+deb12-amd64"));
        assert_eq!(
            newest_of("linux-image-6.1.0-9-amd64 - x\nlinux-image-6.1.0-52-amd64 - y"),
            Some("6.1.0-52-amd64")
        );
        assert_eq!(newest_of(""), None);
    }
}
