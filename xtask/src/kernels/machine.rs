//! `cargo xtask test --guest`: one node of a pair is a virtual machine, whose clock and whose time can be taken away.

use std::path::Path;

use anyhow::{Result, ensure};

use super::guest::{self, Contents};
use super::{PROGRAMS, SERIES, package};
use crate::build::{Profile, binaries};
use crate::packages::ensure_programs;
use crate::toolchain::Toolchain;
use crate::{exec, toolchain};

/// Cards as a hypervisor offers them, the veth of csmd's own addresses, and port channels.
const MODULES: [&str; 10] = [
    "drivers/virtio",
    "drivers/net/virtio_net.ko",
    "drivers/net/net_failover.ko",
    "net/core/failover.ko",
    "drivers/net/veth.ko",
    "net/bridge/bridge.ko",
    "net/802",
    "net/llc",
    "drivers/net/bonding",
    "net/tls/tls.ko",
];

/// Takes commands on the console, one a line, and tells how each ended.
const SCRIPT: &str = "mkdir -p /run/state\n\
    for scope in all default; do echo 0 >/proc/sys/net/ipv6/conf/$scope/accept_dad; done\n\
    stty -echo\n\
    echo 'csm-guest: ready'\n\
    while read -r line; do eval \"$line\"; echo \"csm-guest: exit code $?\"; done";

/// Packs a guest of the newest kernel with csmd, and hands it to the lab.
///
/// # Errors
/// What is missing to do so, or the lab's verdict.
pub(crate) fn run(toolchain: &Toolchain, profile: Profile) -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "--guest boots Debian's amd64 kernel: run it on an amd64 machine");
    ensure_programs(&PROGRAMS, "booting a guest")?;
    let bin_dir = binaries(toolchain, profile, &["csm-user", "csm-tests"])?;
    let [.., newest] = SERIES;
    let kernel = package::ensure(newest, &toolchain::cache()?.join("kernels"))?;
    let (csmd, csm) = (bin_dir.join("csmd"), bin_dir.join("csm"));
    let programs: [&Path; 2] = [&csmd, &csm];
    let contents = Contents {
        programs: &programs,
        modules: &MODULES,
        loaded: "virtio_pci virtio_net veth bonding",
        script: SCRIPT,
    };
    let initrd = guest::pack(&kernel, &contents, &exec::target_dir().join("kernels/machine"))?;
    let mut lab = exec::command(bin_dir.join("csm-lab"));
    exec::run(lab.arg("guest").arg("--kernel").arg(&kernel.image).arg("--initrd").arg(&initrd))
}
