//! A lab under a steady stream of datagrams, each of which is accounted for.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::topology::{VIP, Wiring, clients};
use crate::traffic::driver::Driver;
use crate::traffic::stream::{Arrived, Sent};
use crate::wait;

/// Port of the stream's virtual server.
pub const STREAM_PORT: u16 = 9001;
/// Flows, spread over the real servers.
const FLOWS: usize = 12;
/// A datagram that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// The lines of the virtual server, for [`Options::services`](crate::lab::Options::services).
pub fn service(wiring: Wiring) -> String {
    let mut text = " exit\n serverfarm STREAM\n  nat server\n  no nat client\n".to_owned();
    for real in wiring.reals() {
        let _ = write!(text, "  real {real}\n   inservice\n");
    }
    let _ = write!(
        text,
        " vserver STREAM\n  virtual {VIP} udp {STREAM_PORT}\n  serverfarm STREAM\n  replicate csrp connection\n  inservice\n"
    );
    text
}

/// The sender and the sinks. They rest until [`Stream::begin`].
#[derive(Debug)]
pub struct Stream {
    sender: Driver<Sent>,
    sinks: Vec<Driver<Arrived>>,
    window: u32,
    begun: Instant,
    /// Of all windows before.
    overflowed: u64,
}

/// What became of the datagrams of one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Sent by the clients.
    pub sent: u64,
    /// Not taken by the clients' own kernel.
    pub refused: u64,
    /// Arrived at a server, once.
    pub arrived: u64,
    /// Arrived again.
    pub again: u64,
    /// Arrived at a server whose program was too slow to take them.
    pub overflowed: u64,
    /// Asked for an answer, and had it.
    pub asked: u64,
    /// See there.
    pub answered: u64,
    /// The window's length.
    pub time: Duration,
}

impl Account {
    /// Datagrams that no server saw.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.arrived + self.overflowed)
    }

    /// Answers that did not come back.
    pub fn unanswered(&self) -> u64 {
        self.asked.saturating_sub(self.answered + self.overflowed)
    }

    /// Datagrams a second.
    pub fn rate(&self) -> f64 {
        self.sent as f64 / self.time.as_secs_f64().max(f64::EPSILON)
    }
}

impl Stream {
    /// Starts the programs; the lab's configuration has to hold [`service`].
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start(lab: &Lab, rate: u64) -> Result<Self> {
        let program = &lab.options.programs.csm_lab;
        let mut sinks = Vec::new();
        for (server, address) in lab.topology.servers.iter().zip(lab.options.figure.wiring.reals()) {
            let at = SocketAddr::from((address, STREAM_PORT)).to_string();
            sinks.push(Driver::start(server, program, &["sink".into(), at]).context("a sink")?);
        }
        let mut words =
            vec!["stream".to_owned(), SocketAddr::from((VIP, STREAM_PORT)).to_string(), rate.to_string()];
        words.extend(clients(VIP.into(), FLOWS).iter().map(ToString::to_string));
        let sender = Driver::start(&lab.topology.client, program, &words).context("the stream")?;
        let mut stream = Self { sender, sinks, window: 0, begun: Instant::now(), overflowed: 0 };
        // The first datagrams make neighbours known and connections proven: they are no part of any account.
        let limit = Duration::from_secs(20);
        wait::until("a stream without a loss", limit, Duration::from_millis(10), || {
            stream.begin()?;
            wait::observe(Duration::from_millis(200))?;
            let account = stream.end()?;
            Ok((account.sent > 0 && account.lost() + account.unanswered() == 0).then_some(()))
        })?;
        Ok(stream)
    }

    /// Begins a window, and sends.
    ///
    /// # Errors
    /// When a program has died.
    pub fn begin(&mut self) -> Result<()> {
        self.window += 1;
        let window = self.window.to_string();
        for sink in &mut self.sinks {
            sink.ask(&window)?;
        }
        self.sender.ask(&window)?;
        self.begun = Instant::now();
        Ok(())
    }

    /// Ends the window, and counts once everything that can still come has come.
    ///
    /// # Errors
    /// When a program has died.
    pub fn end(&mut self) -> Result<Account> {
        self.sender.ask("rest")?;
        let time = self.begun.elapsed();
        let mut account = self.count()?;
        let late = wait::until("the last datagram", PATIENCE, Duration::from_millis(20), || {
            account = self.count()?;
            Ok((account.lost() == 0 && account.unanswered() == 0).then_some(()))
        });
        // Where the last one does not come, it is in the account.
        drop(late);
        self.overflowed += account.overflowed;
        Ok(Account { time, ..account })
    }

    fn count(&mut self) -> Result<Account> {
        let Sent { sent, refused, asked, answered } = self.sender.report()?;
        let mut account = Account { sent, refused, asked, answered, ..Account::default() };
        let mut overflowed = 0;
        for sink in &mut self.sinks {
            let seen = sink.report()?;
            account.arrived += seen.once;
            account.again += seen.again;
            overflowed += seen.overflowed;
        }
        account.overflowed = overflowed.saturating_sub(self.overflowed);
        Ok(account)
    }
}
