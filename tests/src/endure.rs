//! What must not be noticed at all, under a steady load: restarts, planned switchovers, and long times in which nothing happens.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::drops::Drops;
use crate::figure::{Figure, Timers};
use crate::lab::{Lab, Options};
use crate::node::Fault;
use crate::programs::Programs;
use crate::scenario::Traffic;
use crate::status::Role;
use crate::stream::{self, Account, Stream};
use crate::timers::term;
use crate::topology::{Side, Wiring};
use crate::wait;

/// Long-lived connections beside the stream.
pub const CONNECTIONS: usize = 100;
const LIMIT: Duration = Duration::from_secs(90);
/// Load before and after what is done.
const AROUND: Duration = Duration::from_millis(700);

/// What is done to the active node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Deed {
    /// `reload`: another process, the same role.
    Restart,
    /// `clear module csm 5 ft active`.
    Switchover,
    /// SIGKILL, which cannot go unnoticed: what is lost in the time until the takeover shows that the account is right.
    Kill,
    /// Nothing, for as long as is asked.
    Nothing,
}

/// One window with its deed.
#[derive(Debug, Clone)]
pub struct Round {
    /// The stream's datagrams.
    pub account: Account,
    /// Changes of the role's term for which there was no reason.
    pub unprovoked: u64,
    /// Worst lateness of a node's real-time thread in its life so far.
    pub lateness: Duration,
    /// What was dropped where meanwhile.
    pub drops: Drops,
}

/// A loaded lab.
#[derive(Debug)]
pub struct Endurance {
    // Dropped before the lab that it runs in.
    stream: Stream,
    traffic: Traffic,
    lab: Lab,
}

impl Endurance {
    /// Builds a lab and loads it with `rate` datagrams a second, long-lived connections, short requests and probes.
    ///
    /// # Errors
    /// When the lab does not come up, or does not carry that load without a loss.
    pub fn begin(timers: Timers, rate: u64, programs: Programs, out: PathBuf) -> Result<Self> {
        let figure = Figure { timers, preempt: false, wiring: Wiring::Access };
        let options =
            Options { figure, services: stream::service(figure.wiring), ..Options::small(programs, out) };
        let mut lab = Lab::build(options)?;
        lab.start(timers.failover * 4 + Duration::from_secs(20))?;
        let traffic = Traffic::start(&lab, CONNECTIONS)?;
        let stream = Stream::start(&lab, rate)?;
        Ok(Self { stream, traffic, lab })
    }

    /// Does the deed once while everything runs; nothing is done for the time of `rest`.
    ///
    /// # Errors
    /// When what is done does not come to its end.
    pub fn round(&mut self, deed: Deed, rest: Duration) -> Result<Round> {
        let active = self.lab.wait_for_active(LIMIT)?;
        let before = self.term(active)?;
        let dropped = Drops::read(&mut self.lab)?;
        self.stream.begin()?;
        wait::observe(AROUND)?;
        let (now, moves) = match deed {
            Deed::Restart => {
                self.lab.node(active).reload(LIMIT)?;
                (active, 0)
            }
            Deed::Switchover => {
                self.lab.fail(active, Fault::FtActive)?;
                self.lab.node(active.peer()).wait_for(Role::Active, LIMIT).context("the role moves")?;
                (active.peer(), 1)
            }
            Deed::Kill => {
                self.lab.fail(active, Fault::Kill)?;
                self.lab.node(active.peer()).wait_for(Role::Active, LIMIT).context("takeover")?;
                (active.peer(), 1)
            }
            Deed::Nothing => {
                wait::observe(rest)?;
                (active, 0)
            }
        };
        wait::observe(AROUND)?;
        let account = self.stream.end()?;
        let drops = Drops::read(&mut self.lab)?.since(&dropped);
        self.lab.restore(now.peer())?;
        self.lab.node(now.peer()).wait_for(Role::Standby, LIMIT).context("a standby again")?;
        let unprovoked = match self.lab.wait_for_active(LIMIT)? {
            still if still == now => self.term(still)?.saturating_sub(before + moves),
            _ => 1,
        };
        let worst = [Side::A, Side::B].map(|side| self.lab.node(side).status());
        let mut lateness = Duration::ZERO;
        for status in worst {
            lateness = lateness.max(Duration::from_micros(status?.worst_lateness_us));
        }
        Ok(Round { account, unprovoked, lateness, drops })
    }

    /// How many of the [`CONNECTIONS`] still carry messages both ways.
    ///
    /// # Errors
    /// When a program has died.
    pub fn connections(&mut self) -> Result<usize> {
        self.traffic.messages("mark")?;
        let report = self.traffic.prove(LIMIT)?;
        Ok(report.alive - report.unproven)
    }

    /// Takes everything down.
    ///
    /// # Errors
    /// When something is left behind.
    pub fn end(self) -> Result<()> {
        let Self { stream, traffic, lab } = self;
        drop((stream, traffic));
        let leaks = lab.take_down()?;
        if !leaks.is_empty() {
            bail!("left behind: {leaks:?}");
        }
        Ok(())
    }

    fn term(&self, side: Side) -> Result<u64> {
        term(&self.lab, side)
    }
}

/// The first lines of the table of [`row`]s.
pub fn head() -> &'static str {
    "| deed | rounds | datagrams/s | sent | lost | came again | answers asked | missing | taken late by a server | rounds without a loss | \
     unprovoked moves | thread late ms | connections kept |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
}

/// Of the rounds with a loss: what was dropped where in them; `None` if there is none.
pub fn where_lost(rounds: &[Round]) -> Option<String> {
    let lossy = rounds.iter().filter(|round| round.account.lost() + round.account.unanswered() > 0);
    let (mut lost, mut drops) = (0, Drops::default());
    for round in lossy {
        lost += round.account.lost() + round.account.unanswered();
        drops.add(&round.drops);
    }
    let line = drops.line();
    let line = if line.is_empty() { "nothing" } else { &line };
    (lost > 0).then(|| format!("{lost} did not come; dropped in those rounds: {line}"))
}

/// All rounds of a deed in one line.
pub fn row(deed: Deed, rounds: &[Round], connections: usize) -> String {
    let sum = |pick: fn(&Account) -> u64| rounds.iter().map(|round| pick(&round.account)).sum::<u64>();
    let sent = sum(|account| account.sent);
    let time: Duration = rounds.iter().map(|round| round.account.time).sum();
    let whole = rounds.iter().filter(|round| round.account.lost() + round.account.unanswered() == 0).count();
    let late = rounds.iter().map(|round| round.lateness).max().unwrap_or_default();
    let name = match deed {
        Deed::Restart => "restart".to_owned(),
        Deed::Switchover => "switchover".to_owned(),
        Deed::Kill => "kill".to_owned(),
        Deed::Nothing => format!("nothing for {} s", time.as_secs()),
    };
    format!(
        "| {name} | {} | {:.0} | {sent} | {} | {} | {} | {} | {} | {whole} of {} | {} | {:.1} | {connections} of {CONNECTIONS} |",
        rounds.len(),
        sent as f64 / time.as_secs_f64().max(f64::EPSILON),
        sum(Account::lost),
        sum(|account| account.again),
        sum(|account| account.asked),
        sum(Account::unanswered),
        sum(|account| account.overflowed),
        rounds.len(),
        rounds.iter().map(|round| round.unprovoked).sum::<u64>(),
        late.as_secs_f64() * 1e3,
    )
}
