//! One mode and one fault, from beginning to end.

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::dissect::{Dissection, Recorder};
use super::{Bench, CLIENT_LINK, Mode, SERVER_LINK, Trouble};
use crate::checks;
use crate::link::{self, Cut};
use crate::node::Fault;
use crate::scenario::{RIPEN, unstuck};
use crate::service::DOWNLOAD;
use crate::stall::Stalled;
use crate::status::Role;
use crate::topology::{ALIAS, ROUTER, Side, VIP, clients};
use crate::traffic::download::{Download, Outcome};
use crate::wait::{self, now_ns};

/// Traffic before the fault.
const LEAD_IN: Duration = Duration::from_millis(800);
/// How long a fault that moves nothing lasts, and one that may.
const UNMOVED: Duration = Duration::from_secs(3);
/// Bytes a second of each download, which so takes longer than a cell.
const RATE: u64 = 600_000;
/// A node that starts has its programs verified, which takes half a minute on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);
/// Frames that the old active node had in its hands when the role moved still leave.
const TOLERATED_OVERLAP: Duration = Duration::from_millis(20);

/// What one family's clients saw.
#[derive(Debug)]
pub struct Family {
    /// Whom they asked.
    pub target: IpAddr,
    /// Long-lived connections at the fault, and those that carried messages both ways after it and after the return.
    pub connections: usize,
    /// See there.
    pub survived: usize,
    /// Longest pause of the client that sends a datagram every millisecond.
    pub silence: Duration,
    /// The same while the node came back.
    pub rejoin: Duration,
    /// What was wrong.
    pub faults: Vec<String>,
}

/// A cell of the matrix.
#[derive(Debug)]
pub struct Cell {
    /// How was forwarded.
    pub mode: Mode,
    /// What went wrong.
    pub trouble: Trouble,
    /// Whether preemption was on.
    pub preempt: bool,
    /// Who was active, and who after the fault.
    pub from: Side,
    /// See there.
    pub to: Side,
    /// IPv4 and, where the mode has it, IPv6.
    pub families: Vec<Family>,
    /// What tshark found in the frames that the nodes sent on.
    pub dissection: Dissection,
    /// What was wrong besides.
    pub faults: Vec<String>,
}

impl Cell {
    /// Everything that should not have been.
    pub fn complaints(&self) -> Vec<String> {
        let families = self.families.iter().flat_map(|family| {
            let lost = family.connections - family.survived.min(family.connections);
            let lost = (lost > 0).then(|| format!("{lost} connections lost"));
            let family6 = if family.target.is_ipv6() { "IPv6" } else { "IPv4" };
            lost.into_iter()
                .chain(family.faults.iter().cloned())
                .map(move |fault| format!("{family6}: {fault}"))
        });
        families.chain(self.dissection.faults()).chain(self.faults.iter().cloned()).collect()
    }
}

/// What goes on until it is dropped.
#[expect(dead_code, reason = "kept only to be dropped")]
enum Lasting {
    Busy(Busy),
    Stalled(Stalled),
}

/// Busy processes; killed when dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn start(processes: usize) -> Result<Self> {
        let mut busy = Self(Vec::new());
        for _ in 0..processes {
            let spin = Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
            busy.0.push(spin.context("a busy process")?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

impl Bench {
    /// Applies `trouble` to the active node while everything runs, waits for what must come of it, takes it away, and waits
    /// until there is one active node and one that could take over.
    ///
    /// # Errors
    /// When the lab itself fails: no takeover, no return, a traffic program that died. What clients lost is in the cell.
    pub fn cell(&mut self, trouble: Trouble) -> Result<Cell> {
        let preempt = self.lab.options.figure.preempt;
        let failover = self.lab.options.figure.timers.failover;
        let from = self.lab.wait_for_active(LIMIT)?;
        let began_ns = now_ns();
        let recorder = Recorder::start(&self.lab)?;
        let mut downloads = Vec::new();
        for (target, _) in &self.traffic {
            let url = match target {
                IpAddr::V4(address) => format!("http://{address}/{DOWNLOAD}"),
                IpAddr::V6(address) => format!("http://[{address}]/{DOWNLOAD}"),
            };
            let source = clients(*target, 99)[98];
            downloads.push(Download::start(&self.lab.topology.client, source, &url, RATE)?);
        }
        let before = self.each(|traffic| traffic.messages("mark"))?;
        self.each(super::Traffic::mark)?;
        wait::observe(LEAD_IN)?;
        let under_way = downloads.iter_mut().map(Download::running).collect::<Result<Vec<_>>>()?;

        let lasting = self.apply(from, trouble)?;
        let to = match trouble.moves() {
            Some(true) => {
                wait::observe(failover + Duration::from_millis(300))?;
                self.lab.node(from.peer()).wait_for(Role::Active, LIMIT).context("takeover")?;
                from.peer()
            }
            _ => {
                wait::observe(failover.max(UNMOVED))?;
                self.lab.wait_for_active(LIMIT)?
            }
        };
        self.each(|traffic| traffic.messages("mark"))?;
        let after = self.each(|traffic| traffic.prove(LIMIT))?;
        for (_, traffic) in &mut self.traffic {
            traffic.settle_requests();
        }
        wait::observe(RIPEN)?;
        let around = self.each(|traffic| traffic.probe.report())?;
        let web = self.each(|traffic| traffic.web.report())?;
        drop(lasting);

        self.each(super::Traffic::mark)?;
        self.undo(from, trouble)?;
        let back = if preempt { from } else { to };
        self.settled(back, trouble).context("return")?;
        wait::observe(RIPEN)?;
        self.each(|traffic| traffic.messages("mark"))?;
        let ended = self.each(|traffic| traffic.prove(LIMIT))?;
        let rejoin = self.each(|traffic| traffic.probe.report())?;

        let mut families = Vec::new();
        for (index, download) in downloads.into_iter().enumerate() {
            let mut faults = Vec::new();
            if !under_way[index] {
                faults.push("the download was over before the fault".to_owned());
            }
            match download.finish(&self.lab.payload, Duration::from_secs(120))? {
                Outcome::Intact => {}
                Outcome::Broken(why) => faults.push(format!("download: {why}")),
            }
            let alive =
                |report: &crate::traffic::msg_client::Report| report.alive.saturating_sub(report.unproven);
            faults.extend(ended[index].lost.iter().map(|(why, count)| format!("{count} lost: {why}")));
            // Clients and servers that are starved themselves miss their own limits.
            let failed = web[index].failed.iter().filter(|_| !matches!(trouble, Trouble::Starved(_)));
            faults.extend(failed.map(|(why, count)| format!("{count} requests failed: {why}")));
            let moved = unstuck(&web[index]);
            if moved > 0 && self.mode != Mode::Forward {
                faults.push(format!("{moved} sticky clients were moved to another server"));
            }
            families.push(Family {
                target: self.traffic[index].0,
                connections: before[index].alive.max(self.connections),
                survived: alive(&after[index]).min(alive(&ended[index])),
                silence: Duration::from_nanos(around[index].longest_silence_ns),
                rejoin: Duration::from_nanos(rejoin[index].longest_silence_ns),
                faults,
            });
        }
        let claims = checks::claims(&self.lab.capture.frames(began_ns, now_ns()), &[VIP, ALIAS]);
        // There and, with preemption, back. Two that do not hear each other are both active until they do.
        let moves = if trouble == Trouble::Isolated { 4 } else { 2 };
        let mut faults = checks::arp_faults(&claims, moves);
        let dissection = recorder.finish()?;
        if dissection.overlap > TOLERATED_OVERLAP && trouble != Trouble::Isolated {
            faults.push(format!("both forwarded for {} ms", dissection.overlap.as_millis()));
        }
        let mode = self.mode;
        Ok(Cell { mode, trouble, preempt, from, to, families, dissection, faults })
    }

    fn each<T>(&mut self, act: impl Fn(&mut super::Traffic) -> Result<T>) -> Result<Vec<T>> {
        self.traffic.iter_mut().map(|(_, traffic)| act(traffic)).collect()
    }

    fn apply(&mut self, side: Side, trouble: Trouble) -> Result<Option<Lasting>> {
        let switch = &self.lab.topology.switch;
        match trouble {
            Trouble::Node(fault) => {
                self.lab.fail(side, fault)?;
            }
            Trouble::Cut(number, way) => link::cut(switch, &side.port(number), way)?,
            Trouble::Carrier(number) => switch.ip(&[format!("link set dev {} down", side.port(number))])?,
            Trouble::Isolated => {
                for number in CLIENT_LINK..=3 {
                    link::cut(switch, &side.port(number), Cut::Both)?;
                }
            }
            Trouble::Gateway(number) => link::mute(switch, &side.port(number), ROUTER)?,
            Trouble::Stalled => {
                let csmd = self.lab.node(side).pid().context("csmd is not running")?;
                return Ok(Some(Lasting::Stalled(Stalled::new(csmd)?)));
            }
            Trouble::Starved(processes) => return Ok(Some(Lasting::Busy(Busy::start(processes)?))),
        }
        Ok(None)
    }

    fn undo(&mut self, side: Side, trouble: Trouble) -> Result<()> {
        let switch = &self.lab.topology.switch;
        match trouble {
            Trouble::Node(_) => self.lab.restore(side)?,
            Trouble::Cut(number, _) | Trouble::Gateway(number) => link::mend(switch, &side.port(number))?,
            Trouble::Carrier(number) => switch.ip(&[format!("link set dev {} up", side.port(number))])?,
            Trouble::Isolated => {
                for number in CLIENT_LINK..=3 {
                    link::mend(switch, &side.port(number))?;
                }
            }
            Trouble::Starved(_) | Trouble::Stalled => {}
        }
        Ok(())
    }

    /// A role that comes back again and again is waited for, minutes in the end; what an operator does who does not want to wait.
    fn undamp(&mut self, active: Side) -> Result<()> {
        if !self.lab.options.figure.preempt {
            return Ok(());
        }
        let damped = self.lab.node(active).show("ft").is_ok_and(|ft| !ft["preempt_damped_ms"].is_null());
        let ready = damped && self.lab.node(active).status().is_ok_and(|status| status.ready);
        let peer = active.peer();
        if ready && self.lab.node(peer).status().is_ok_and(|status| status.role == Role::Active) {
            self.lab.fail(peer, Fault::FtActive)?;
        }
        Ok(())
    }

    /// Waits for one active node, `active` where that is known, and one that could take over.
    fn settled(&mut self, active: Side, trouble: Trouble) -> Result<()> {
        // Of two that could not hear each other, either may have to give way.
        let known =
            !matches!(trouble, Trouble::Isolated | Trouble::Starved(_)) || self.lab.options.figure.preempt;
        wait::until("one active node and one ready standby", LIMIT, Duration::from_millis(50), || {
            self.undamp(active)?;
            let mut roles = Vec::new();
            for side in Side::BOTH {
                let Ok(status) = self.lab.node(side).status() else { return Ok(None) };
                roles.push((side, status.role, status.ready));
            }
            let one = roles.iter().filter(|(_, role, _)| *role == Role::Active).count() == 1;
            let ready = roles.iter().any(|(_, role, ready)| *role == Role::Standby && *ready);
            let right =
                roles.iter().any(|(side, role, _)| *role == Role::Active && (!known || *side == active));
            Ok((one && ready && right).then_some(()))
        })
        .with_context(|| {
            let nodes = self.lab.nodes.iter().map(|node| format!("{:?}: {:?}", node.side(), node.status()));
            nodes.collect::<Vec<_>>().join("; ")
        })
    }
}

/// Whether the servers' link is a link of its own.
pub(super) const fn ports(one_armed: bool) -> &'static [usize] {
    if one_armed { &[CLIENT_LINK] } else { &[CLIENT_LINK, SERVER_LINK] }
}
