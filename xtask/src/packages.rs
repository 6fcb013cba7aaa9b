//! Debian packages: what the lab runs beside our own binaries, and how anything missing is installed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{exec, host};

/// A program the lab starts, and the Debian package that brings it.
pub(crate) struct Program {
    /// Name as it is typed.
    pub(crate) name: &'static str,
    /// Package in Debian 12 and newer.
    pub(crate) package: &'static str,
}

/// What the lab starts.
pub(crate) const LAB_PROGRAMS: [Program; 14] = [
    Program { name: "ip", package: "iproute2" },
    Program { name: "bridge", package: "iproute2" },
    Program { name: "ethtool", package: "ethtool" },
    Program { name: "nginx", package: "nginx-light" },
    Program { name: "curl", package: "curl" },
    Program { name: "vsftpd", package: "vsftpd" },
    Program { name: "tcpdump", package: "tcpdump" },
    Program { name: "tshark", package: "tshark" },
    Program { name: "iperf3", package: "iperf3" },
    Program { name: "ping", package: "iputils-ping" },
    Program { name: "traceroute", package: "traceroute" },
    Program { name: "scapy", package: "python3-scapy" },
    Program { name: "dnsmasq", package: "dnsmasq-base" },
    Program { name: "dig", package: "bind9-dnsutils" },
];

/// Sees to it that every lab program is there, installing what is not.
///
/// # Errors
/// As [`ensure_programs`].
pub(crate) fn ensure_lab_programs() -> Result<()> {
    let packages = ensure_programs(&LAB_PROGRAMS, "the lab")?;
    for (package, service) in [("nginx-light", "nginx"), ("vsftpd", "vsftpd")] {
        if packages.contains(&package) && Path::new("/run/systemd/system").exists() {
            // Not at the next boot either.
            exec::run(exec::command("systemctl").args(["--quiet", "disable", service]))?;
        }
    }
    Ok(())
}

/// Sees to it that `programs` are there, and returns the packages that were installed. `who` needs them.
///
/// # Errors
/// Names the programs that are missing and why they could not be installed.
pub(crate) fn ensure_programs(programs: &'static [Program], who: &str) -> Result<Vec<&'static str>> {
    let missing = missing(programs, &exec::search_path());
    let names: Vec<&str> = missing.iter().map(|program| program.name).collect();
    let mut packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    packages.dedup();
    if !packages.is_empty() {
        install(&format!("{who} needs {}", names.join(", ")), &packages)?;
    }
    Ok(packages)
}

fn missing(programs: &'static [Program], dirs: &[PathBuf]) -> Vec<&'static Program> {
    programs.iter().filter(|program| exec::find_in(dirs, program.name).is_none()).collect()
}

/// True when the package lists hold a package of this name.
pub(crate) fn is_known(package: &str) -> bool {
    exec::output(exec::command("apt-cache").args(["show", "--no-all-versions", package])).is_ok()
}

/// True when packages can be installed by us: root, on a Debian system.
pub(crate) fn can_install() -> bool {
    host::is_root() && exec::find("apt-get").is_some()
}

/// Fetches the package lists.
///
/// # Errors
/// apt-get's own, with the remedy.
pub(crate) fn update_lists() -> Result<()> {
    eprintln!("xtask: fetching the Debian package lists (apt-get update)");
    exec::run(exec::command("apt-get").arg("update")).context(
        "Debian's package lists cannot be fetched: check the network and /etc/apt/sources.list, then run this again",
    )
}

/// Installs packages, fetching the package lists first when they do not know one of them. `need` says what for.
///
/// # Errors
/// Not root, no apt, or apt-get's own error, each with the remedy.
pub(crate) fn install(need: &str, packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if exec::find("apt-get").is_none() {
        bail!(
            "{need} (in Debian: {list}), and there is no apt-get here: install it by your distribution's own means"
        );
    }
    if !host::is_root() {
        bail!("{need}, and installing it needs root: run this once as root, or `apt-get install {list}`");
    }
    let fresh = !packages.iter().all(|package| is_known(package));
    if fresh {
        update_lists()?;
    }
    eprintln!("xtask: installing Debian packages: {list}");
    let _quiet = ServicesStayDown::new()?;
    if try_install(packages).is_err() {
        // Old lists name versions that the mirror has since replaced.
        if !fresh {
            update_lists()?;
        }
        try_install(packages)
            .with_context(|| format!("{need}: check the network and try `apt-get install {list}` by hand"))?;
    }
    Ok(())
}

fn try_install(packages: &[&str]) -> Result<()> {
    exec::run(
        exec::command("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Another apt-get (unattended-upgrades on a machine just booted) may hold the lock.
            .args(["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"])
            .args(packages)
            .stdin(std::process::Stdio::null()),
    )
}

/// While this lives, installing a package starts no service: the lab wants nginx the program, not a web server on
/// port 80 of the user's machine.
///
/// Debian asks `/usr/sbin/policy-rc.d` (its policy: exit code 101 forbids). Ours forbids only while we live, so being
/// killed leaves nothing behind that matters.
struct ServicesStayDown {
    policy: Option<PathBuf>,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_MARK: &str = "# made by cargo xtask";

impl ServicesStayDown {
    fn new() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let path = Path::new(POLICY);
        let foreign = std::fs::read_to_string(path).is_ok_and(|text| !text.contains(POLICY_MARK));
        if foreign {
            return Ok(Self { policy: None });
        }
        let pid = std::process::id();
        let text = format!("#!/bin/sh\n{POLICY_MARK}\n[ -d /proc/{pid} ] && exit 101\nexit 0\n");
        std::fs::write(path, text).with_context(|| format!("cannot write {POLICY}"))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {POLICY} executable"))?;
        Ok(Self { policy: Some(path.to_path_buf()) })
    }
}

impl Drop for ServicesStayDown {
    fn drop(&mut self) {
        if let Some(path) = &self.policy
            && let Err(error) = std::fs::remove_file(path)
        {
            eprintln!("xtask: {} stays behind: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_found_in_an_empty_path() {
        assert_eq!(missing(&LAB_PROGRAMS, &[]).len(), LAB_PROGRAMS.len());
    }

    #[test]
    fn what_stands_in_the_path_is_not_missing() {
        let dir = std::env::temp_dir().join(format!("csm-xtask-packages-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::os::unix::fs::symlink("/bin/sh", dir.join("nginx")).unwrap();
        let still = missing(&LAB_PROGRAMS, std::slice::from_ref(&dir));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(still.len(), LAB_PROGRAMS.len() - 1);
        assert!(still.iter().all(|program| program.name != "nginx"));
    }
}
