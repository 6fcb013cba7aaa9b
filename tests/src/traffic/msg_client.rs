//! The client of the long-lived connections.
//!
//! Commands: `mark` begins a window, `report` answers with a [`Report`] on it, `finish` lets every connection send a last
//! message, waits until the server has acknowledged it, and answers with the final report.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::message::{CORRUPT, Checker, Direction, Message};
use crate::wait::now_ns;

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The virtual server.
    pub target: SocketAddr,
    /// Local addresses, used in turn.
    pub sources: Vec<IpAddr>,
    /// How many connections.
    pub connections: usize,
    /// Pause between two messages of one connection, in each direction.
    pub interval: Duration,
    /// First connection's name; those of other processes must differ.
    pub first: u64,
}

/// How the connections fared since the last `mark`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Connections that were established.
    pub established: usize,
    /// Of these, not lost: still alive, or ended in order.
    pub alive: usize,
    /// Alive, but without a message sent after the mark and acknowledged by the server.
    pub unproven: usize,
    /// Why connections were lost, since the start, with how many.
    pub lost: BTreeMap<String, usize>,
    /// Longest pause between two messages received on one connection in this window, nanoseconds.
    pub longest_silence_ns: u64,
    /// Messages received since the start, every byte checked.
    pub received: u64,
    /// Messages sent since the start.
    pub sent: u64,
}

#[derive(Debug, Default)]
struct Shared {
    established: usize,
    alive: usize,
    lost: BTreeMap<String, usize>,
    sent: u64,
    received: u64,
    mark_ns: u64,
    /// Per connection.
    lines: Vec<Line>,
    finishing: bool,
}

#[derive(Debug, Clone, Default)]
struct Line {
    alive: bool,
    received_at_ns: u64,
    longest_silence_ns: u64,
    /// When the newest message that the server has acknowledged was sent.
    proven_ns: u64,
}

impl Shared {
    fn report(&self) -> Report {
        let now = now_ns();
        let alive = || self.lines.iter().filter(|line| line.alive);
        Report {
            established: self.established,
            alive: self.alive,
            unproven: alive().filter(|line| line.proven_ns < self.mark_ns).count(),
            lost: self.lost.clone(),
            longest_silence_ns: alive()
                .map(|line| line.longest_silence_ns.max(now.saturating_sub(line.received_at_ns)))
                .max()
                .unwrap_or(0),
            received: self.received,
            sent: self.sent,
        }
    }

    fn mark(&mut self) {
        self.mark_ns = now_ns();
        for line in &mut self.lines {
            line.longest_silence_ns = 0;
        }
    }
}

/// Opens the connections, says `ready`, and obeys until `finish` or the end of standard input.
///
/// # Errors
/// When connections cannot be established within a minute.
pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let shared = Rc::new(RefCell::new(Shared {
            lines: vec![Line::default(); options.connections],
            ..Shared::default()
        }));
        open(options, &shared).await?;
        super::say(&shared.borrow().report())?;
        obey(&shared).await
    })
}

/// A batch at a time: a listen queue holds no more.
async fn open(options: &Options, shared: &Rc<RefCell<Shared>>) -> Result<()> {
    const AT_ONCE: usize = 100;
    for batch in (0..options.connections).collect::<Vec<_>>().chunks(AT_ONCE) {
        let mut opening = Vec::new();
        for index in batch.iter().copied() {
            let (target, source) = (options.target, options.sources[index % options.sources.len()]);
            opening.push((index, tokio::task::spawn_local(connect(source, target))));
        }
        for (index, task) in opening {
            let stream = tokio::time::timeout(Duration::from_secs(60), task)
                .await
                .with_context(|| format!("connection {index} to {}", options.target))???;
            let connection = options.first + u64::try_from(index)?;
            let shared = Rc::clone(shared);
            let interval = options.interval;
            tokio::task::spawn_local(async move {
                let end = converse(stream, connection, index, interval, &shared).await;
                let mut state = shared.borrow_mut();
                state.lines[index].alive = false;
                if let Err(error) = end {
                    state.alive -= 1;
                    *state.lost.entry(format!("{error:#}")).or_default() += 1;
                }
            });
        }
    }
    // Established means: a message went there and was acknowledged.
    let deadline = Instant::now() + Duration::from_secs(60);
    while shared.borrow().lines.iter().any(|line| line.proven_ns == 0) {
        if Instant::now() > deadline || !shared.borrow().lost.is_empty() {
            bail!("not all connections came up: {:?}", shared.borrow().report());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn connect(source: IpAddr, target: SocketAddr) -> Result<TcpStream> {
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::from((source, 0)))?;
    let stream = socket.connect(target).await.with_context(|| format!("{source} to {target}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn obey(shared: &Rc<RefCell<Shared>>) -> Result<()> {
    let mut commands = super::commands();
    while let Some(command) = commands.recv().await {
        match command.as_str() {
            "mark" => shared.borrow_mut().mark(),
            "finish" => shared.borrow_mut().finishing = true,
            _ => {}
        }
        if command == "finish" {
            let deadline = Instant::now() + Duration::from_secs(30);
            while shared.borrow().lines.iter().any(|line| line.alive) && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let mut state = shared.borrow_mut();
            let stuck = state.lines.iter().filter(|line| line.alive).count();
            if stuck > 0 {
                state.alive -= stuck;
                state.lost.insert("silent to the end".into(), stuck);
            }
            return super::say(&state.report());
        }
        super::say(&shared.borrow().report())?;
    }
    Ok(())
}

/// One connection's life; `Ok` only after an orderly end.
async fn converse(
    mut stream: TcpStream,
    connection: u64,
    index: usize,
    interval: Duration,
    shared: &RefCell<Shared>,
) -> Result<()> {
    {
        let mut state = shared.borrow_mut();
        state.established += 1;
        state.alive += 1;
        state.lines[index] = Line { alive: true, received_at_ns: now_ns(), ..Line::default() };
    }
    let mut checker = Checker::new(Direction::ToClient, Some(connection));
    let mut unacknowledged: VecDeque<(u64, u64)> = VecDeque::new();
    let mut number = 0;
    let mut last_said = false;
    let mut buffer = vec![0; 16 * 1024];
    // Spread over the interval, so that the connections do not all speak in the same moment.
    let phase = interval.mul_f64(f64::from(u32::try_from(connection % 1_000)?) / 1_000.0);
    let mut timer = tokio::time::interval_at(Instant::now() + phase, interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => {
                let length = read.map_err(|error| anyhow::anyhow!("{}", error.kind()))?;
                if length == 0 {
                    bail!("closed by the server");
                }
                checker.feed(&buffer[..length]);
                while let Some(message) = checker.take().map_err(|wrong| anyhow::anyhow!("corrupt: {}", wrong.0))? {
                    note(&mut shared.borrow_mut(), index, &message, &mut unacknowledged)?;
                }
                if last_said && unacknowledged.is_empty() {
                    return Ok(());
                }
            }
            _ = timer.tick(), if !last_said => {
                last_said = shared.borrow().finishing;
                number += 1;
                unacknowledged.push_back((number, now_ns()));
                shared.borrow_mut().sent += 1;
                let message = Message { connection, number, ack: checker.last };
                stream
                    .write_all(&message.encode(Direction::ToServer))
                    .await
                    .map_err(|error| anyhow::anyhow!("{}", error.kind()))?;
            }
        }
    }
}

fn note(
    state: &mut Shared,
    index: usize,
    message: &Message,
    unacknowledged: &mut VecDeque<(u64, u64)>,
) -> Result<()> {
    if message.ack == CORRUPT {
        bail!("corrupt at the server");
    }
    let now = now_ns();
    state.received += 1;
    let mark_ns = state.mark_ns;
    let line = &mut state.lines[index];
    // A pause that began before the mark counts from the mark.
    let silence = now.saturating_sub(line.received_at_ns.max(mark_ns));
    line.longest_silence_ns = line.longest_silence_ns.max(silence);
    line.received_at_ns = now;
    while let Some((number, sent_ns)) = unacknowledged.front().copied() {
        if number > message.ack {
            break;
        }
        line.proven_ns = sent_ns;
        unacknowledged.pop_front();
    }
    Ok(())
}
