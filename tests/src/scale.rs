//! A large configuration on a running pair under traffic: how long it takes to be in force on both nodes, and that connections
//! outlive it, and the loss of a node with it.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::Lab;
use crate::netns;
use crate::node::Fault;
use crate::scenario::{RIPEN, Traffic};
use crate::status::Role;
use crate::topology::Side;
use crate::wait;

/// Real servers of each virtual server.
pub const REALS: u32 = 4;
/// Long-lived connections meanwhile.
pub const CONNECTIONS: usize = 50;
const LIMIT: Duration = Duration::from_secs(90);
const PACE: Duration = Duration::from_millis(20);

/// What it took.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// Octets of the configuration.
    pub octets: usize,
    /// `csm check`: read and checked, by a process of its own.
    pub checked: Duration,
    /// `configure replace`: checked, compared, written to the kernel's maps and read back.
    pub applied: Duration,
    /// The same at the peer, which is given the configuration: until both say that they are in sync.
    pub synchronized: Duration,
    /// `show running-config`.
    pub printed: Duration,
    /// From a real server's own `no inservice` to the answer.
    pub changed: Duration,
    /// Longest silence of a client that sends a datagram every millisecond, while all of that was done.
    pub silence: Duration,
    /// The same around the loss of the active node.
    pub takeover: Duration,
}

/// Does all of that with `vservers` more virtual servers on a lab that has not been started, whose group must have `sync auto`.
///
/// # Errors
/// If a connection is lost, or what is printed is not what is in force.
pub fn run(lab: &mut Lab, vservers: u32) -> Result<Summary> {
    let active = lab.start(LIMIT)?;
    let mut traffic = Traffic::start(lab, CONNECTIONS)?;
    traffic.mark()?;
    let small = lab.node(active).command("show running-config")?;
    let large = enlarged(&small, vservers)?;
    let file = lab.out("large.cfg");
    std::fs::write(&file, &large)?;
    let file = file.display().to_string();
    let mut check = lab.topology.node(active).command(&lab.options.programs.csm.path)?;
    let (_, checked) = timed(|| netns::run(check.arg("check").arg(&file)))?;
    let (_, applied) = timed(|| lab.node(active).command(&format!("configure replace {file}")))?;
    let ((), more) = timed(|| in_sync(lab, active))?;
    let (text, printed) = timed(|| lab.node(active).command("show running-config"))?;
    let found = text.lines().filter(|line| line.starts_with(" vserver SCALE")).count();
    ensure!(found == usize::try_from(vservers)?, "of {vservers} virtual servers {found} are in force");
    // Printed and read back it is the same: nothing is left to be changed.
    let again = lab.out("printed.cfg");
    std::fs::write(&again, &text)?;
    lab.node(active).command(&format!("configure replace {}", again.display()))?;
    ensure!(
        lab.node(active).command("show running-config")? == text,
        "printed and read back it is another one"
    );
    let one = lab.out("one.cfg");
    std::fs::write(&one, changed_once(&text)?)?;
    let (_, changed) = timed(|| lab.node(active).command(&format!("configure replace {}", one.display())))?;
    in_sync(lab, active)?;
    wait::observe(RIPEN)?;
    let silence = Duration::from_nanos(traffic.probe.report()?.longest_silence_ns);
    proven(&mut traffic)?;

    lab.node(active.peer()).wait_for_replica(LIMIT, &[])?;
    traffic.mark()?;
    lab.fail(active, Fault::Kill)?;
    lab.node(active.peer()).wait_for(Role::Active, LIMIT)?;
    wait::observe(RIPEN)?;
    let takeover = Duration::from_nanos(traffic.probe.report()?.longest_silence_ns);
    proven(&mut traffic)?;
    let synchronized = applied + more;
    Ok(Summary { octets: large.len(), checked, applied, synchronized, printed, changed, silence, takeover })
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    Ok((work()?, begun.elapsed()))
}

fn in_sync(lab: &mut Lab, active: Side) -> Result<()> {
    wait::until("the peer in sync", LIMIT, PACE, || {
        Ok((lab.node(active).show("ft")?["config_in_sync"] == true).then_some(()))
    })
}

fn proven(traffic: &mut Traffic) -> Result<()> {
    // A message of before proves nothing.
    let _ = traffic.messages("mark")?;
    let report = traffic.prove(LIMIT)?;
    if (report.alive, report.unproven) != (CONNECTIONS, 0) {
        bail!("connections were lost: {report:?}");
    }
    Ok(())
}

/// `text` with so many virtual servers more, each with a farm of [`REALS`] real servers that are reached by way of one router.
fn enlarged(text: &str, vservers: u32) -> Result<String> {
    ensure!(vservers * REALS <= 0xf_ffff, "{vservers} virtual servers do not fit their network");
    let server = " vlan 3 server\n";
    let (head, rest) = text.split_once(server).context("no server VLAN")?;
    let (own, rest) = rest.split_once("\n vserver ").context("no virtual server")?;
    let (services, group) = rest.split_once("\n ft group ").context("no FT group")?;
    let mut large = format!("{head}{server}  route 10.128.0.0 255.128.0.0 gateway 192.158.39.101\n{own}");
    let address = |base: u32, index: u32| std::net::Ipv4Addr::from(base + index);
    for index in 0..vservers {
        let _ = write!(large, "\n serverfarm SCALE{index}\n  nat server\n  no nat client");
        for real in 0..REALS {
            let at = address(0x0a80_0100, index * REALS + real);
            let _ = write!(large, "\n  real {at}\n   weight 8\n   inservice");
        }
    }
    let _ = write!(large, "\n vserver {services}");
    for index in 0..vservers {
        let at = address(0x0a40_0100, index);
        let _ = write!(
            large,
            "\n vserver SCALE{index}\n  virtual {at} tcp www\n  serverfarm SCALE{index}\n  replicate csrp connection\n  inservice"
        );
    }
    let _ = write!(large, "\n ft group {group}");
    Ok(large)
}

/// `text` with its last farm's last real server out of service.
fn changed_once(text: &str) -> Result<String> {
    let (before, services) = text.split_once("\n vserver ").context("no virtual server")?;
    let (farms, rest) = before.rsplit_once("\n   inservice").context("no real server")?;
    Ok(format!("{farms}\n   no inservice{rest}\n vserver {services}"))
}
