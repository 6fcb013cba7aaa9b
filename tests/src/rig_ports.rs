//! Interfaces of the test bench.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use csm_user::dataplane::load::PortSpec;

/// A veth pair, up at both ends: without that a native program has no receive queue to run on. It has one of them, for with one for
/// each CPU frames overtake one another when the thread that sends them moves.
///
/// # Errors
/// Of `ip`.
pub fn make_pair(name: &str, peer: &str) -> Result<()> {
    const QUEUE: &str = "numtxqueues 1 numrxqueues 1";
    for arguments in [
        format!("link add {name} {QUEUE} type veth peer name {peer} {QUEUE}"),
        format!("link set {name} up"),
        format!("link set {peer} up"),
    ] {
        ip(&arguments)?;
    }
    Ok(())
}

pub(crate) fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("ip")?;
    ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Sets a port's MTU, with the program attached.
///
/// # Errors
/// If it is refused.
pub fn set_mtu(port: &str, mtu: u16) -> Result<()> {
    ip(&format!("link set {port} mtu {mtu}"))
}

/// Index and MAC of an interface.
pub(crate) fn facts(name: &str) -> Result<(u32, [u8; 6])> {
    let shown = Command::new("ip").args(["-o", "link", "show", name]).output().context("ip link show")?;
    let line = String::from_utf8(shown.stdout)?;
    let ifindex = line.split(':').next().context("an index")?.trim().parse()?;
    let mac = line.split_whitespace().skip_while(|&word| word != "link/ether").nth(1).context("a MAC")?;
    let octets = mac.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<Vec<_>, _>>()?;
    Ok((ifindex, octets.try_into().ok().context("six octets")?))
}

pub(crate) fn make_port(name: &str, vlan: u16, role: u8) -> Result<PortSpec> {
    make_pair(name, &format!("{name}x"))?;
    let (ifindex, mac) = facts(name)?;
    let name = name.to_owned();
    Ok(PortSpec { ifindex, name, vlan, role, mac, mtu: 1500, ..PortSpec::default() })
}
