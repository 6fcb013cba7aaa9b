//! Numbered datagrams at a high rate, and the sinks that count each of them once.
//!
//! The sender goes from window to window: numbers begin at zero in each, and the sinks forget the window before. A part of
//! the datagrams asks for an answer, so that the way back is counted, too.

use std::io::{BufRead, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt};
use serde::{Deserialize, Serialize};

/// The sender works in ticks, each with its share of the rate.
const TICK: Duration = Duration::from_millis(1);
/// Of a tick that is later than this the rest is left out.
const LATE: Duration = Duration::from_millis(2);
/// Nanoseconds.
const SECOND: u128 = 1_000_000_000;
/// One datagram in so many asks for an answer.
const ANSWERED: u64 = 16;
/// Octets of a socket's queue, so that a program that is late does not lose what the network brought.
const QUEUE: usize = 64 << 20;
/// Datagrams in one system call.
const BATCH: usize = 64;
/// Window, flow and number.
const LENGTH: usize = 16;

/// What the sender did in its window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Those that it refused.
    pub refused: u64,
    /// Datagrams among the sent that ask for an answer.
    pub asked: u64,
    /// Answers, each counted once.
    pub answered: u64,
}

/// What a sink saw in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// Datagrams, each counted once.
    pub once: u64,
    /// Those that came again.
    pub again: u64,
    /// Datagrams that came to this host and found the socket's queue full, since its start.
    pub overflowed: u64,
}

/// Which numbers of each flow have been seen.
#[derive(Debug, Default)]
struct Seen {
    window: u32,
    flows: Vec<Vec<u64>>,
    once: u64,
    again: u64,
}

impl Seen {
    /// A new window makes the ones before it forgotten; what still comes of them is not counted.
    fn begin(&mut self, window: u32) {
        *self = Self { window, ..Self::default() };
    }

    fn note(&mut self, datagram: &[u8; LENGTH]) {
        let (window, flow, number) = parse(datagram);
        let (Ok(flow), Ok(word)) = (usize::try_from(flow), usize::try_from(number / 64)) else { return };
        // The flows and numbers are ours: what is far beyond them is a damaged datagram.
        if window != self.window || flow >= 1 << 16 || word >= 1 << 24 {
            return;
        }
        if self.flows.len() <= flow {
            self.flows.resize_with(flow + 1, Vec::new);
        }
        let bits = &mut self.flows[flow];
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        let bit = 1 << (number % 64);
        if bits[word] & bit == 0 {
            bits[word] |= bit;
            self.once += 1;
        } else {
            self.again += 1;
        }
    }
}

fn form(window: u32, flow: u32, number: u64) -> [u8; LENGTH] {
    (u128::from(window) << 96 | u128::from(flow) << 64 | u128::from(number)).to_be_bytes()
}

fn parse(datagram: &[u8; LENGTH]) -> (u32, u32, u64) {
    let all = u128::from_be_bytes(*datagram);
    let [window, flow] = [96, 64].map(|shift| u32::try_from(all >> shift & 0xffff_ffff).unwrap_or(0));
    (window, flow, u64::try_from(all & u128::from(u64::MAX)).unwrap_or(0))
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicBool,
    idle: AtomicBool,
    window: AtomicU64,
    sent: AtomicU64,
    refused: AtomicU64,
    asked: AtomicU64,
    answers: Mutex<Seen>,
}

impl Shared {
    fn report(&self) -> Sent {
        Sent {
            sent: self.sent.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            asked: self.asked.load(Ordering::Relaxed),
            answered: lock(&self.answers).once,
        }
    }

    /// Waits until the sender has seen that it is to rest.
    fn rest(&self) {
        self.running.store(false, Ordering::SeqCst);
        while !self.idle.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }

    fn begin(&self, window: u32) {
        self.rest();
        for count in [&self.sent, &self.refused, &self.asked] {
            count.store(0, Ordering::Relaxed);
        }
        lock(&self.answers).begin(window);
        self.window.store(window.into(), Ordering::Relaxed);
        self.idle.store(false, Ordering::SeqCst);
        self.running.store(true, Ordering::SeqCst);
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends `rate` datagrams a second in all to `target` over as many flows as there are `sources`, until the end of standard input.
/// Commands: a number begins that window, `rest` ends it, `report` says what was done in it.
///
/// # Errors
/// When a socket cannot be made.
pub fn send(target: SocketAddr, sources: &[IpAddr], rate: u64) -> Result<()> {
    let shared = Arc::new(Shared { idle: AtomicBool::new(true), ..Shared::default() });
    let mut sockets = Vec::new();
    for source in sources {
        let socket = UdpSocket::bind((*source, 0)).with_context(|| format!("bind {source}"))?;
        socket.connect(target)?;
        setsockopt(&socket, sockopt::RcvBufForce, &QUEUE)?;
        setsockopt(&socket, sockopt::UdpGsoSegment, &i32::try_from(LENGTH)?)?;
        let (receiver, seen) = (socket.try_clone()?, Arc::clone(&shared));
        std::thread::spawn(move || {
            let mut datagram = [0; LENGTH];
            loop {
                // An error tells of a datagram that found no way; it is missing among the counted.
                if matches!(receiver.recv(&mut datagram), Ok(LENGTH)) {
                    lock(&seen.answers).note(&datagram);
                }
            }
        });
        sockets.push(socket);
    }
    let sender = Arc::clone(&shared);
    std::thread::spawn(move || tick(&sockets, rate, &sender));
    super::say(&serde_json::json!({ "event": "ready" }))?;
    for command in std::io::stdin().lock().lines() {
        match command?.as_str() {
            "rest" => shared.rest(),
            "report" => {}
            window => shared.begin(window.parse().context("a window's number")?),
        }
        super::say(&shared.report())?;
    }
    Ok(())
}

fn tick(sockets: &[UdpSocket], rate: u64, shared: &Shared) {
    let mut numbers = vec![0u64; sockets.len()];
    let (mut window, mut owed, mut next) = (0, 0, 0);
    let mut last = Instant::now();
    loop {
        std::thread::sleep((last + TICK).saturating_duration_since(Instant::now()));
        let waited = last.elapsed();
        last += waited;
        if !shared.running.load(Ordering::SeqCst) {
            shared.idle.store(true, Ordering::SeqCst);
            continue;
        }
        let now = u32::try_from(shared.window.load(Ordering::Relaxed)).unwrap_or(0);
        if now != window {
            (window, owed) = (now, 0);
            numbers.fill(0);
        }
        // What a late tick owes is made up for, but not in one burst that no queue has room for.
        owed += u128::from(rate) * waited.min(LATE).as_nanos();
        let mut due = usize::try_from(owed / SECOND).unwrap_or(BATCH);
        owed %= SECOND;
        // Equal parts of it, so that all flows go on in each tick.
        let part = (due / sockets.len()).clamp(1, BATCH);
        while due > 0 {
            let count = part.min(due);
            due -= count;
            next = (next + 1) % sockets.len();
            let flow = u32::try_from(next).unwrap_or(u32::MAX);
            let (sent, refused) = send_batch(&sockets[next], window, flow, numbers[next], count);
            let asked =
                (numbers[next]..numbers[next] + sent).filter(|at| at.is_multiple_of(ANSWERED)).count();
            numbers[next] += sent;
            shared.sent.fetch_add(sent, Ordering::Relaxed);
            shared.refused.fetch_add(refused, Ordering::Relaxed);
            shared.asked.fetch_add(asked as u64, Ordering::Relaxed);
        }
    }
}

/// Sends `count` datagrams numbered from `first`; how many were taken, and how many refused.
fn send_batch(socket: &UdpSocket, window: u32, flow: u32, first: u64, count: usize) -> (u64, u64) {
    let numbers = first..first + count as u64;
    let all: Vec<u8> = numbers.clone().flat_map(|number| form(window, flow, number)).collect();
    // In one call, which the kernel cuts into datagrams (UDP_SEGMENT).
    if socket.send(&all).is_ok() {
        return (count as u64, 0);
    }
    // A device without checksums takes none of it before Linux 6.11.
    let taken = numbers.take_while(|&number| socket.send(&form(window, flow, number)).is_ok()).count() as u64;
    (taken, count as u64 - taken)
}

/// Counts what comes to `listen`, and answers where an answer is asked for, until the end of standard input. A number begins that
/// window, `report` says what was seen in it.
///
/// # Errors
/// When the address cannot be bound.
pub fn sink(listen: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("listen on {listen}"))?;
    setsockopt(&socket, sockopt::RcvBufForce, &QUEUE)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let noted = Arc::clone(&seen);
    std::thread::spawn(move || {
        let mut datagrams = [[0; LENGTH]; BATCH];
        loop {
            let came = receive_batch(&socket, &mut datagrams);
            let mut seen = lock(&noted);
            let whole = came.into_iter().zip(&datagrams).filter(|((length, _), _)| *length == LENGTH);
            for ((_, from), datagram) in whole {
                seen.note(datagram);
                if let (true, Some(from)) = (parse(datagram).2.is_multiple_of(ANSWERED), from) {
                    // One that is refused is missing among the answers.
                    let _ = socket.send_to(datagram, from);
                }
            }
        }
    });
    super::say(&serde_json::json!({ "event": "ready" }))?;
    for command in std::io::stdin().lock().lines() {
        let command = command?;
        if command != "report" {
            lock(&seen).begin(command.parse().context("a window's number")?);
        }
        let (once, again) = {
            let seen = lock(&seen);
            (seen.once, seen.again)
        };
        super::say(&Arrived { once, again, overflowed: overflowed()? })?;
    }
    Ok(())
}

/// Waits for one datagram, and takes with it what has come too; of each its length and its sender.
fn receive_batch(socket: &UdpSocket, into: &mut [[u8; LENGTH]; BATCH]) -> Vec<(usize, Option<SocketAddr>)> {
    let mut slices: Vec<_> = into.iter_mut().map(|datagram| [IoSliceMut::new(datagram)]).collect();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let received = recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, MsgFlags::MSG_WAITFORONE, None);
    let Ok(received) = received else { return Vec::new() };
    received.map(|message| (message.bytes, message.address.as_ref().and_then(address))).collect()
}

fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || from.as_sockaddr_in().map(|from| SocketAddr::from((from.ip(), from.port())));
    v4().or_else(|| from.as_sockaddr_in6().map(|from| SocketAddr::from((from.ip(), from.port()))))
}

/// Datagrams that this namespace's UDP sockets had no room for.
fn overflowed() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/net/snmp")?;
    Ok(counter(&text, "Udp:", "RcvbufErrors").unwrap_or(0))
}

/// A counter of `/proc/net/snmp`: a line of names, and one of values below it.
pub(crate) fn counter(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.split_whitespace().next() == Some(protocol));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|one| one == name)?;
    values.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_datagram_of_a_window_counts_once() {
        let mut seen = Seen::default();
        seen.begin(2);
        for (window, flow, number) in
            [(2, 0, 0), (2, 1, 0), (2, 0, 70), (2, 0, 70), (1, 0, 5), (2, 0, u64::MAX)]
        {
            assert_eq!(parse(&form(window, flow, number)), (window, flow, number));
            seen.note(&form(window, flow, number));
        }
        assert_eq!((seen.once, seen.again), (3, 1));
    }

    #[test]
    fn a_counter_is_found_by_its_name() {
        let text =
            "Udp: InDatagrams RcvbufErrors\nUdp: 7 3\nUdpLite: InDatagrams RcvbufErrors\nUdpLite: 1 2\n";
        assert_eq!(counter(text, "Udp:", "RcvbufErrors"), Some(3));
        assert_eq!(counter(text, "Udp:", "Nothing"), None);
    }
}
