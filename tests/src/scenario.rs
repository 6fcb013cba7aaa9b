//! One fault from beginning to end, with traffic running: what the clients saw, and who forwarded.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::checks::{self, arp_faults};
use crate::figure::{ECHO_PORT, MESSAGE_PORT, WEB_PORT};
use crate::lab::Lab;
use crate::node::Fault;
use crate::ports::Sample;
use crate::service::DOWNLOAD;
use crate::status::Role;
use crate::topology::{self, ALIAS, Side, VIP};
use crate::traffic::download::{Download, Outcome};
use crate::traffic::driver::Driver;
use crate::traffic::{Bin, http, msg_client, udp};
use crate::wait::{self, now_ns};

/// Connections that one process may hold: a process may have 20,000 open files on some machines, and a quarter of that
/// keeps one core from being the bottleneck.
const PER_PROCESS: usize = 5_000;
/// Client addresses that make short requests.
const WEB_CLIENTS: usize = 20;
/// The traffic's time before the fault: first the quiet reference, then the lead-in that the picture shows.
const REFERENCE: Duration = Duration::from_millis(2_500);
const LEAD_IN: Duration = Duration::from_millis(1_100);
/// Time after the last connection has come back, for the picture.
const TRAIL: Duration = Duration::from_millis(900);
/// Frames that the old active node had in its hands when the role moved still leave.
const TOLERATED_OVERLAP: Duration = Duration::from_millis(20);
/// An answer to the UDP client that takes longer is a loss, so this much must pass before a report is final.
pub(crate) const RIPEN: Duration = Duration::from_millis(600);

/// Everything that the clients run.
#[derive(Debug)]
pub struct Traffic {
    messages: Vec<Driver<msg_client::Report>>,
    pub(crate) probe: Driver<udp::Report>,
    pub(crate) web: Driver<http::Report>,
}

impl Traffic {
    /// Starts `connections` long-lived connections, the UDP client and the short requests.
    ///
    /// # Errors
    /// When the virtual servers do not answer.
    pub fn start(lab: &Lab, connections: usize) -> Result<Self> {
        Self::to(lab, VIP.into(), connections)
    }

    /// The same to the virtual servers at `vip`, from clients of its family.
    ///
    /// # Errors
    /// When they do not answer.
    pub fn to(lab: &Lab, vip: IpAddr, connections: usize) -> Result<Self> {
        let (client, program) = (&lab.topology.client, &lab.options.programs.csm_lab);
        let at = |port: u16| SocketAddr::from((vip, port)).to_string();
        let pace = lab.options.message_interval.as_millis().to_string();
        let mut messages = Vec::new();
        for first in (0..connections).step_by(PER_PROCESS) {
            let count = PER_PROCESS.min(connections - first).to_string();
            let words = ["msg-client".to_owned(), at(MESSAGE_PORT), count, pace.clone(), first.to_string()];
            messages.push(Driver::start(client, program, &words).context("long-lived connections")?);
        }
        let source = topology::clients(vip, 100)[99].to_string();
        let probe =
            Driver::start(client, program, &["udp-probe".into(), at(ECHO_PORT), source, "1000".into()])?;
        let interval = lab.options.web_interval.as_millis().to_string();
        let web =
            Driver::start(client, program, &["http".into(), at(WEB_PORT), WEB_CLIENTS.to_string(), interval])
                .context("short requests")?;
        Ok(Self { messages, probe, web })
    }

    /// All programs count anew.
    ///
    /// # Errors
    /// When one of them has died.
    pub fn mark(&mut self) -> Result<()> {
        for messages in &mut self.messages {
            messages.mark()?;
        }
        self.probe.mark()?;
        self.web.mark()?;
        Ok(())
    }

    /// What the long-lived connections report, all processes together.
    pub fn messages(&mut self, command: &str) -> Result<msg_client::Report> {
        let mut sum = msg_client::Report::default();
        for process in &mut self.messages {
            let one = process.ask(command)?;
            sum.established += one.established;
            sum.alive += one.alive;
            sum.unproven += one.unproven;
            sum.received += one.received;
            sum.sent += one.sent;
            sum.longest_silence_ns = sum.longest_silence_ns.max(one.longest_silence_ns);
            for (reason, count) in one.lost {
                *sum.lost.entry(reason).or_default() += count;
            }
        }
        Ok(sum)
    }

    /// Waits until every living connection has carried a message there and back that was sent after the last mark.
    pub fn prove(&mut self, limit: Duration) -> Result<msg_client::Report> {
        let pace = Duration::from_millis(100);
        let proven = wait::until("a message on every connection", limit, pace, || {
            let report = self.messages("report")?;
            Ok((report.unproven == 0).then_some(report))
        });
        // Those still silent count as lost; the caller sees them in `unproven`.
        proven.or_else(|_| self.messages("report"))
    }

    /// What the UDP client saw since the last mark.
    ///
    /// # Errors
    /// When it has died.
    pub fn probes(&mut self) -> Result<udp::Report> {
        self.probe.report()
    }

    /// Of the sticky clients, how many there are and how many have been moved to another real server since the start.
    ///
    /// # Errors
    /// When the program has died.
    pub fn sticky(&mut self) -> Result<(usize, usize)> {
        let web = self.web.report()?;
        Ok((web.reals.len(), unstuck(&web)))
    }

    /// Waits until no short request from the outage is open any more: each ends by itself, answered or not.
    pub(crate) fn settle_requests(&mut self) {
        // Where the outage does not end, the report says so.
        let _ = wait::until(
            "the last short request",
            Duration::from_secs(10),
            Duration::from_millis(100),
            || Ok((self.web.report()?.overdue == 0).then_some(())),
        );
    }
}

/// What one fault did: a line of the table and a panel of the picture.
#[derive(Debug, Serialize)]
pub struct Outline {
    /// What was done.
    pub fault: Fault,
    /// Who was active, and who is now.
    pub from: Side,
    /// The new active node.
    pub to: Side,
    /// Long-lived connections before the fault.
    pub connections: usize,
    /// Those that carried messages both ways afterwards.
    pub survived: usize,
    /// Why connections were lost, since the start.
    pub lost: BTreeMap<String, usize>,
    /// Messages checked since the start.
    pub messages: u64,
    /// Longest silence of the UDP client in the time before the fault, nanoseconds.
    pub reference_silence_ns: u64,
    /// The same around the fault.
    pub silence_ns: u64,
    /// UDP probes sent and lost around the fault.
    pub probes: u32,
    /// Lost ones.
    pub probes_lost: u32,
    /// How late the UDP client itself was at worst, nanoseconds.
    pub client_lateness_ns: u64,
    /// Longest silence and losses while the failed node came back.
    pub rejoin_silence_ns: u64,
    /// Lost probes in that time.
    pub rejoin_lost: u32,
    /// The download, `None` when it was intact.
    pub download_fault: Option<String>,
    /// Short requests answered around the fault.
    pub requests: u32,
    /// Those that failed, and why.
    pub requests_failed: BTreeMap<String, u32>,
    /// Clients that were moved to another real server, since the start.
    pub unstuck: usize,
    /// Worst lateness of a node's real-time thread, microseconds, and whether both had SCHED_FIFO.
    pub worst_lateness_us: u64,
    /// SCHED_FIFO on both nodes.
    pub realtime: bool,
    /// What the switch saw that must not be.
    pub faults: Vec<String>,
    /// The fault's moment, nanoseconds of CLOCK_MONOTONIC; all times below are on that clock.
    pub at_ns: u64,
    /// When the switch saw the first announcement of the new active node.
    pub announced_ns: Option<u64>,
    /// UDP probes by the time they were sent.
    pub probe_bins: Vec<Bin>,
    /// Requests by the time they ended.
    pub request_bins: Vec<Bin>,
    /// Who forwarded.
    #[serde(skip)]
    pub forwarded: Vec<Sample>,
}

impl Outline {
    /// Whether every connection lived, the long-lived ones and the download.
    pub fn nothing_lost(&self) -> bool {
        self.survived == self.connections && self.download_fault.is_none()
    }

    /// Whether nothing else was wrong either.
    pub fn clean(&self) -> bool {
        self.nothing_lost() && self.faults.is_empty() && self.unstuck == 0
    }
}

/// Applies `fault` to the active node while everything runs, waits until the other has taken over and the failed node
/// is back as a standby that could take over in turn. The download goes at `rate` bytes a second.
///
/// # Errors
/// When the lab itself fails: no takeover, no return, a traffic program that died. What clients lost is in the outline.
pub fn apply(lab: &mut Lab, traffic: &mut Traffic, fault: Fault, rate: u64) -> Result<Outline> {
    let failover = lab.options.figure.timers.failover;
    let from = lab.wait_for_active(Duration::from_secs(5))?;
    let to = from.peer();

    traffic.mark()?;
    let began_ns = now_ns();
    let url = format!("http://{VIP}/{DOWNLOAD}");
    let mut download = Download::start(&lab.topology.client, topology::client(98), &url, rate)?;
    wait::observe(REFERENCE + RIPEN)?;
    let reference = traffic.probe.report()?;
    let connections = traffic.messages("report")?.alive;
    let old = lab.node(from).status()?;

    traffic.mark()?;
    wait::observe(LEAD_IN)?;
    let under_way = download.running()?;
    let at_ns = lab.fail(from, fault)?;
    // Asking a node takes time from the cores that are being measured, so it waits until the move should be over.
    wait::observe(failover + Duration::from_millis(500))?;
    let limit = failover * 4 + Duration::from_secs(10);
    lab.node(to).wait_for(Role::Active, limit).with_context(|| format!("takeover after {}", fault.name()))?;
    // The window of the long-lived connections began before the fault: a message from there proves nothing.
    let _ = traffic.messages("mark")?;
    let after = traffic.prove(failover * 4 + Duration::from_secs(20))?;
    traffic.settle_requests();
    wait::observe(RIPEN + TRAIL)?;
    let around = traffic.probe.report()?;
    let web = traffic.web.report()?;
    let moved_ns = now_ns();

    traffic.mark()?;
    lab.restore(from)?;
    let back = lab.node(from).wait_for(Role::Standby, limit + Duration::from_secs(20)).context("return")?;
    let new = lab.node(to).status()?;
    wait::observe(RIPEN + TRAIL)?;
    let rejoin = traffic.probe.report()?;
    let ended = traffic.prove(Duration::from_secs(20))?;
    let mut download_fault = match download.finish(&lab.payload, Duration::from_secs(120))? {
        Outcome::Intact => None,
        Outcome::Broken(why) => Some(why),
    };
    if !under_way {
        download_fault.get_or_insert_with(|| "it was over before the fault".into());
    }

    let claims = checks::claims(&lab.capture.frames(began_ns, now_ns()), &[VIP, ALIAS]);
    let announced_ns = claims
        .iter()
        .find(|claim| claim.at_ns >= at_ns && claim.by == to && claim.announcement)
        .map(|claim| claim.at_ns);
    let survived = after.alive.saturating_sub(after.unproven).min(ended.alive.saturating_sub(ended.unproven));
    let mut lost = ended.lost;
    if ended.unproven > 0 {
        lost.insert("silent".into(), ended.unproven);
    }
    let mut faults = arp_faults(&claims, 1);
    let both = checks::overlap(&lab.ports.samples(at_ns, now_ns()), from);
    if both > TOLERATED_OVERLAP {
        faults.push(format!("{from:?} forwarded for {} ms after {to:?} had taken over", both.as_millis()));
    }
    let forwarded = lab.ports.samples(at_ns.saturating_sub(nanos(LEAD_IN)), moved_ns);
    let unstuck = unstuck(&web);
    let lateness = [&old, &back, &new].map(|status| status.worst_lateness_us);
    Ok(Outline {
        fault,
        from,
        to,
        connections,
        survived,
        lost,
        messages: ended.received,
        reference_silence_ns: reference.longest_silence_ns,
        silence_ns: around.longest_silence_ns,
        probes: around.sent,
        probes_lost: around.lost,
        client_lateness_ns: around.worst_send_late_ns,
        rejoin_silence_ns: rejoin.longest_silence_ns,
        rejoin_lost: rejoin.lost,
        download_fault,
        requests: web.answered,
        requests_failed: web.failed,
        unstuck,
        worst_lateness_us: lateness.into_iter().max().unwrap_or(0),
        realtime: old.realtime && new.realtime,
        faults,
        at_ns,
        announced_ns,
        probe_bins: around.bins,
        request_bins: web.bins,
        forwarded,
    })
}

/// Clients that more than one real server has answered.
pub(crate) fn unstuck(web: &http::Report) -> usize {
    web.reals.values().filter(|reals| reals.len() > 1).count()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
