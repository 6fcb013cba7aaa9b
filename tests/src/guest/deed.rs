//! What is done to a guest that is node A, and what clients and the peer saw of it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Guest, Image, wait_for};
use crate::checks;
use crate::figure::{Figure, Timers};
use crate::lab::{Lab, Options};
use crate::programs::Programs;
use crate::report::ms;
use crate::scenario::{RIPEN, Traffic};
use crate::status::Role;
use crate::topology::{Side, Wiring};
use crate::wait::{self, now_ns};

/// Long-lived connections.
const CONNECTIONS: usize = 100;
/// How long a guest stands still: long enough for its peer to be sure, short enough for TCP.
const STILL: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(120);
/// Frames that the old active node had in its hands when the role moved still leave.
const IN_HAND: Duration = Duration::from_millis(20);

/// One thing done to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Its wall clock is set by so many seconds.
    Clock(i64),
    /// It stands still for ten seconds, its clock with it.
    Pause,
    /// It gets no time for ten seconds; its clock goes on.
    Freeze,
    /// As `Pause`, but for half a failover time.
    Moment,
    /// The second link of its port channel loses its carrier.
    Unplug,
    /// It has it again.
    Plug,
    /// `clear module csm 5 ft active` at its peer.
    TakeBack,
}

impl Deed {
    /// All, in an order in which the guest has the role for the first six, is standby for the next three, and has the role
    /// again for `Freeze`.
    pub const ALL: [Self; 12] = [
        Self::Unplug,
        Self::Plug,
        Self::Clock(3_600),
        Self::Clock(-86_400),
        Self::Moment,
        Self::Pause,
        Self::Clock(86_400),
        Self::Pause,
        Self::Moment,
        Self::TakeBack,
        Self::Freeze,
        Self::TakeBack,
    ];

    fn name(self) -> String {
        match self {
            Self::Clock(seconds) => format!("clock set by {seconds:+} s"),
            Self::Pause => "paused for 10 s, its clock with it".into(),
            Self::Freeze => "no time for 10 s, its clock goes on".into(),
            Self::Moment => "paused for half a failover time".into(),
            Self::Unplug => "a link of its port channel down".into(),
            Self::Plug => "that link up again".into(),
            Self::TakeBack => "switchover on command".into(),
        }
    }

    /// Whether the role leaves the node that has it.
    fn moves(self, active: Side) -> bool {
        match self {
            Self::Pause | Self::Freeze => active == Side::A,
            Self::Clock(_) | Self::Moment | Self::Unplug | Self::Plug => false,
            Self::TakeBack => true,
        }
    }
}

/// What one deed did.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub deed: Deed,
    /// Who was active, and who is now.
    pub roles: [Side; 2],
    /// Long-lived connections that carried messages both ways afterwards.
    pub kept: usize,
    /// Longest silence of a client that sends a datagram every millisecond, until the guest was back.
    pub silence: Duration,
    /// For how long the old active node forwarded when the new one already did.
    pub overlap: Duration,
    /// What is wrong with that; empty when nothing is.
    pub complaints: Vec<String>,
}

impl Outcome {
    /// Its line of the table.
    pub fn row(&self) -> String {
        let [from, to] = self.roles;
        let role = if from == to { format!("{from:?} stays") } else { format!("{from:?} to {to:?}") };
        let complaints: String = self.complaints.iter().map(|complaint| format!(" {complaint}")).collect();
        format!(
            "| {} | {role} | {} of {CONNECTIONS} | {} | {} |{complaints}",
            self.deed.name(),
            self.kept,
            ms(self.silence),
            self.overlap.as_millis(),
        )
    }
}

/// The table's head.
pub fn head() -> &'static str {
    "| done to the guest, node A | role | connections kept | silence ms | overlap ms |\n|---|---|---|---|---|"
}

/// Boots the guest as node A, gives it the role, and does all of it in turn, telling each outcome. True when nothing was
/// wrong.
///
/// # Errors
/// When the lab itself fails; what clients lost is in the outcomes.
pub fn all(image: &Image, programs: Programs, out: PathBuf, mut tell: impl FnMut(&Outcome)) -> Result<bool> {
    let figure = Figure { timers: Timers::CSM_DEFAULT, preempt: false, wiring: Wiring::Access };
    let options = Options {
        figure,
        web_interval: Duration::from_millis(400),
        message_interval: Duration::from_millis(250),
        ..Options::small(programs, out)
    };
    let mut lab = Lab::build(options)?;
    let mut guest = Guest::boot(image, lab.topology.node(Side::A), lab.runtime())?;
    guest.start_csmd(Side::A, &figure.text(Side::A))?;
    wait_for(&mut guest, "an active guest", |status| status.role == Role::Active)?;
    let Lab { nodes: [_, peer], topology, .. } = &mut lab;
    peer.start(topology.node(Side::B))?;
    peer.wait_for(Role::Standby, LIMIT)?;
    let mut traffic = Traffic::start(&lab, CONNECTIONS)?;
    let mut good = true;
    for deed in Deed::ALL {
        let outcome = one(deed, &mut lab, &mut guest, &mut traffic)
            .with_context(|| format!("{}; the guest says:\n{}", deed.name(), guest.last_words()))?;
        good &= outcome.complaints.is_empty();
        tell(&outcome);
    }
    let carried = guest.carried()?;
    ensure!(
        carried.iter().flatten().all(|&packets| packets > 100),
        "not all of the channel was used: {carried:?}"
    );
    drop((traffic, guest));
    let leaks = lab.take_down()?;
    ensure!(leaks.is_empty(), "left behind: {leaks:?}");
    Ok(good)
}

fn one(deed: Deed, lab: &mut Lab, guest: &mut Guest, traffic: &mut Traffic) -> Result<Outcome> {
    let failover = lab.options.figure.timers.failover;
    let from = if lab.nodes[1].status()?.role == Role::Active { Side::B } else { Side::A };
    traffic.mark()?;
    wait::observe(Duration::from_secs(1))?;
    let at_ns = now_ns();
    apply(deed, lab, guest)?;
    // Whoever is not to move has had the time to.
    wait::observe(failover * 2)?;
    let to = if deed.moves(from) { from.peer() } else { from };
    settle(lab, guest, to)?;
    wait::observe(RIPEN)?;
    let seen = traffic.probe.report()?;
    // A message of before the deed proves nothing.
    let _ = traffic.messages("mark")?;
    let proven = traffic.prove(LIMIT)?;
    let overlap = checks::overlap(&lab.ports.samples(at_ns, now_ns()), from);
    let kept = proven.alive.saturating_sub(proven.unproven);
    let mut complaints = Vec::new();
    if kept < CONNECTIONS {
        complaints.push(format!("lost: {:?}.", proven.lost));
    }
    // A guest whose clock stood still believes in its lease for the rest of it, and no longer.
    let allowed = if deed == Deed::Pause { failover } else { IN_HAND };
    if to != from && overlap > allowed {
        complaints.push(format!("{from:?} forwarded beside {to:?} for longer than {allowed:?}."));
    }
    let silence = Duration::from_nanos(seen.longest_silence_ns);
    // A guest that goes on moves the virtual MAC address behind itself once more; who has the role must take it back at once.
    let bound = failover * 3 / 2;
    if to != from && silence > bound {
        complaints.push(format!("Silence for longer than {bound:?}."));
    }
    Ok(Outcome { deed, roles: [from, to], kept, silence, overlap, complaints })
}

fn apply(deed: Deed, lab: &mut Lab, guest: &mut Guest) -> Result<()> {
    let failover = lab.options.figure.timers.failover;
    match deed {
        Deed::Clock(seconds) => {
            guest.run(&format!("date -s @$(( $(date +%s) + {seconds} ))"))?;
        }
        Deed::Pause | Deed::Moment => {
            guest.pause()?;
            wait::observe(if deed == Deed::Pause { STILL } else { failover / 2 })?;
            guest.resume()?;
        }
        Deed::Freeze => {
            guest.freeze()?;
            wait::observe(STILL)?;
            guest.thaw()?;
        }
        Deed::Unplug | Deed::Plug => {
            let up = deed == Deed::Plug;
            guest.set_second_link(lab.topology.node(Side::A), up)?;
            wait::until("the guest's channel to notice", LIMIT, Duration::from_millis(200), || {
                Ok((guest.channel_is_short()? != up).then_some(()))
            })?;
        }
        Deed::TakeBack => {
            lab.nodes[1].command("clear module csm 5 ft active")?;
        }
    }
    Ok(())
}

/// Waits until `active` has the role and its peer could take over.
fn settle(lab: &mut Lab, guest: &mut Guest, active: Side) -> Result<()> {
    let peer = &mut lab.nodes[1];
    match active {
        Side::A => {
            wait_for(guest, "the role at the guest", |status| status.role == Role::Active)?;
            peer.wait_for(Role::Standby, LIMIT)?;
        }
        Side::B => {
            peer.wait_for(Role::Active, LIMIT)?;
            wait_for(guest, "the guest as a ready standby", |status| {
                status.role == Role::Standby && status.ready
            })?;
        }
    }
    Ok(())
}
