//! Short requests: a new connection for each, from many client addresses, noting which real server answered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::LocalSet;
use tokio::time::MissedTickBehavior;

use super::Bin;
use crate::wait::now_ns;

/// Header in which each server names itself.
pub const REAL_HEADER: &str = "X-Real";
/// A request that takes longer has failed. TCP's first SYN retransmissions come after 1 s and 3 s.
const PATIENCE: Duration = Duration::from_secs(8);

/// What the clients saw since the last `mark`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Requests answered in full.
    pub answered: u32,
    /// Why requests failed, with how many.
    pub failed: BTreeMap<String, u32>,
    /// Since the start: each client address and the real servers that answered it. With stickiness, one each.
    pub reals: BTreeMap<IpAddr, BTreeSet<String>>,
    /// Requests still without an answer after a second.
    pub overdue: u32,
    /// Slowest answer, nanoseconds.
    pub slowest_ns: u64,
    /// Completed and failed requests by the time of their end.
    pub bins: Vec<Bin>,
}

#[derive(Debug, Default)]
struct Log {
    mark_ns: u64,
    /// End, duration, and what went wrong.
    requests: Vec<(u64, u64, Option<String>)>,
    reals: BTreeMap<IpAddr, BTreeSet<String>>,
    /// When each open request began.
    open: BTreeMap<u64, u64>,
    next: u64,
}

impl Log {
    fn report(&self) -> Report {
        let mut report = Report { reals: self.reals.clone(), ..Report::default() };
        for (_, took_ns, fault) in &self.requests {
            match fault {
                None => {
                    report.answered += 1;
                    report.slowest_ns = report.slowest_ns.max(*took_ns);
                }
                Some(fault) => *report.failed.entry(fault.clone()).or_default() += 1,
            }
        }
        let long_ago = now_ns().saturating_sub(1_000_000_000);
        let overdue = self.open.values().filter(|began| **began < long_ago).count();
        report.overdue = u32::try_from(overdue).unwrap_or(u32::MAX);
        let events = self.requests.iter().map(|(at_ns, _, fault)| (*at_ns, fault.is_none()));
        report.bins = super::bins(self.mark_ns, now_ns(), events);
        report
    }
}

/// One worker per source address, each starting a request every `interval` and never waiting for the one before, so that
/// an outage shows as missing answers and not as missing questions.
///
/// # Errors
/// When the first request of any worker fails: the service is not there.
pub fn run(target: SocketAddr, sources: &[IpAddr], interval: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let log = Rc::new(RefCell::new(Log { mark_ns: now_ns(), ..Log::default() }));
        for source in sources {
            let real =
                request(*source, target).await.with_context(|| format!("first request from {source}"))?;
            log.borrow_mut().reals.entry(*source).or_default().insert(real);
        }
        super::say(&log.borrow().report())?;
        for (n, source) in (0u32..).zip(sources) {
            let phase = interval * n / u32::try_from(sources.len())?;
            tokio::task::spawn_local(ask(*source, target, interval, phase, Rc::clone(&log)));
        }
        let mut commands = super::commands();
        while let Some(command) = commands.recv().await {
            if command == "mark" {
                let mut log = log.borrow_mut();
                log.mark_ns = now_ns();
                log.requests.clear();
            }
            super::say(&log.borrow().report())?;
        }
        Ok(())
    })
}

async fn ask(source: IpAddr, target: SocketAddr, interval: Duration, phase: Duration, log: Rc<RefCell<Log>>) {
    let mut timer = tokio::time::interval_at(tokio::time::Instant::now() + phase, interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let log = Rc::clone(&log);
        tokio::task::spawn_local(async move {
            let began = now_ns();
            let number = {
                let mut log = log.borrow_mut();
                log.next += 1;
                let number = log.next;
                log.open.insert(number, began);
                number
            };
            let answer = match tokio::time::timeout(PATIENCE, request(source, target)).await {
                Ok(answer) => answer.map_err(|error| error.root_cause().to_string()),
                Err(_) => Err(format!("no answer in {} s", PATIENCE.as_secs())),
            };
            let ended = now_ns();
            let mut log = log.borrow_mut();
            log.open.remove(&number);
            let fault = match answer {
                Ok(real) => {
                    log.reals.entry(source).or_default().insert(real);
                    None
                }
                Err(fault) => Some(fault),
            };
            log.requests.push((ended, ended - began, fault));
        });
    }
}

/// The name of the real server that answered.
async fn request(source: IpAddr, target: SocketAddr) -> Result<String> {
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Thousands of short connections: their ports must not wait in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let mut stream = socket.connect(target).await?;
    stream.write_all(b"GET /who HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    if !text.starts_with("HTTP/1.1 200") {
        bail!("answer {:?}", text.lines().next().unwrap_or_default());
    }
    real_of(&text).map(str::to_owned).context("an answer that does not name its server")
}

fn real_of(answer: &str) -> Option<&str> {
    answer
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| *name == REAL_HEADER)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_names_its_server() {
        assert_eq!(real_of("HTTP/1.1 200 OK\r\nServer: nginx\r\nX-Real: s2\r\n\r\nok"), Some("s2"));
        assert_eq!(real_of("HTTP/1.1 200 OK\r\n\r\nok"), None);
    }
}
