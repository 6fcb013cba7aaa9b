//! A UDP client that sends every millisecond, and the echo server that answers it.
//!
//! It measures the network and not itself: it runs under SCHED_FIFO where that is permitted, and takes the kernel's
//! receive time stamps. How late it was itself is in the report.

use std::collections::VecDeque;
use std::io::BufRead;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use serde::{Deserialize, Serialize};

use super::Bin;
use crate::wait::{self, clock_ns, now_ns};

/// An answer that takes longer is a loss.
const PATIENCE_NS: u64 = 500_000_000;
/// Oldest probe that a report can be asked about: ten minutes at one each millisecond.
const REMEMBERED: usize = 600_000;
/// Below a controller's real-time thread, above the lab's other programs.
const FIFO_PRIORITY: i32 = 2;
/// Pauses from this length on are listed one by one.
const LISTED_SILENCE_NS: u64 = 5_000_000;

/// What the client saw since the last `mark`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Probes sent, those still in flight left out.
    pub sent: u32,
    /// Probes never answered.
    pub lost: u32,
    /// Longest pause between two consecutive answers, nanoseconds.
    pub longest_silence_ns: u64,
    /// Pauses of 5 ms and more: begin and end, nanoseconds of CLOCK_MONOTONIC.
    pub silences: Vec<(u64, u64)>,
    /// How late the worst probe left, nanoseconds: what part of the silence may be the client's own.
    pub worst_send_late_ns: u64,
    /// Answered and lost probes by the time they were sent.
    pub bins: Vec<Bin>,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    sent_ns: u64,
    late_ns: u64,
    /// 0 while unanswered.
    answered_ns: u64,
}

#[derive(Debug, Default)]
struct Log {
    /// Number of the first probe in `probes`.
    first: u64,
    probes: VecDeque<Probe>,
    mark_ns: u64,
}

impl Log {
    fn push(&mut self, probe: Probe) {
        self.probes.push_back(probe);
        if self.probes.len() > REMEMBERED {
            self.probes.pop_front();
            self.first += 1;
        }
    }

    fn answer(&mut self, number: u64, at_ns: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(probe) = index.and_then(|index| self.probes.get_mut(index)) {
            probe.answered_ns = at_ns;
        }
    }

    /// Everything about the time from the mark to `now`.
    fn report(&self, now: u64) -> Report {
        let ripe = now.saturating_sub(PATIENCE_NS);
        let window =
            || self.probes.iter().filter(|probe| probe.sent_ns >= self.mark_ns && probe.sent_ns < ripe);
        let mut report = Report::default();
        let mut answers = vec![self.mark_ns];
        for probe in window() {
            report.sent += 1;
            report.worst_send_late_ns = report.worst_send_late_ns.max(probe.late_ns);
            if probe.answered_ns == 0 {
                report.lost += 1;
            } else {
                answers.push(probe.answered_ns);
            }
        }
        answers.push(ripe.max(self.mark_ns));
        answers.sort_unstable();
        for pair in answers.windows(2) {
            let silence = pair[1] - pair[0];
            report.longest_silence_ns = report.longest_silence_ns.max(silence);
            if silence >= LISTED_SILENCE_NS {
                report.silences.push((pair[0], pair[1]));
            }
        }
        report.bins =
            super::bins(self.mark_ns, ripe, window().map(|probe| (probe.sent_ns, probe.answered_ns != 0)));
        report
    }
}

/// Probes `target` every `interval` from `source` until the end of standard input. Commands: `mark` and `report`.
///
/// # Errors
/// When the socket cannot be made. Refused and unreachable probes count as lost.
pub fn probe(target: SocketAddr, source: IpAddr, interval: Duration) -> Result<()> {
    let socket = UdpSocket::bind((source, 0)).with_context(|| format!("bind {source}"))?;
    socket.connect(target)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    let log = Arc::new(Mutex::new(Log::default()));
    let receiver = socket.try_clone()?;
    let received = Arc::clone(&log);
    std::thread::spawn(move || receive(&receiver, &received));
    let sent = Arc::clone(&log);
    std::thread::spawn(move || send(&socket, interval, &sent));
    let limit = Duration::from_secs(10);
    wait::until(&format!("an answer from {target}"), limit, Duration::from_millis(5), || {
        Ok(lock(&log).probes.iter().any(|probe| probe.answered_ns != 0).then_some(()))
    })?;
    super::say(&Report::default())?;
    for command in std::io::stdin().lock().lines() {
        if command? == "mark" {
            lock(&log).mark_ns = now_ns();
        }
        super::say(&lock(&log).report(now_ns()))?;
    }
    Ok(())
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(socket: &UdpSocket, interval: Duration, log: &Mutex<Log>) {
    // Where it is refused, the report's `worst_send_late_ns` tells what that cost.
    wait::real_time(FIFO_PRIORITY);
    let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    let mut due = now_ns();
    for number in 0u64.. {
        let sent_ns = now_ns();
        lock(log).push(Probe { sent_ns, late_ns: sent_ns.saturating_sub(due), answered_ns: 0 });
        // An error is an unanswered probe, and says what an earlier one met (ECONNREFUSED, EHOSTUNREACH).
        let _ = socket.send(&number.to_be_bytes());
        // After a stall it goes on from now: a burst would measure something else.
        due = (due + interval).max(sent_ns);
        sleep_until(due);
    }
}

fn receive(socket: &UdpSocket, log: &Mutex<Log>) {
    wait::real_time(FIFO_PRIORITY);
    let mut buffer = [0u8; 64];
    loop {
        let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
        let mut control = nix::cmsg_space!(TimeSpec);
        let Ok(message) =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())
        else {
            continue;
        };
        let stamp = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|one| match one {
                ControlMessageOwned::ScmTimestampns(at) => Some(at),
                _ => None,
            })
        });
        // The stamp is wall time; carry its age over to the monotonic clock.
        let age = stamp.map_or(0, |at| {
            let stamp_ns = u64::try_from(Duration::from(at).as_nanos()).unwrap_or(0);
            clock_ns(ClockId::CLOCK_REALTIME).saturating_sub(stamp_ns)
        });
        let at_ns = now_ns().saturating_sub(age);
        if let Some(number) = buffer.first_chunk() {
            lock(log).answer(u64::from_be_bytes(*number), at_ns);
        }
    }
}

/// Answers every datagram, from the address that it was sent to, until the process is killed.
///
/// # Errors
/// When the address cannot be bound.
pub fn echo(listen: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("listen on {listen}"))?;
    if listen.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    super::say(&serde_json::json!({ "event": "ready" }))?;
    wait::real_time(FIFO_PRIORITY);
    let mut buffer = [0u8; 2_048];
    // In IPv6 a server has one address but its link-local one: it answers from that.
    while listen.is_ipv6() {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // A full queue loses the answer, which is what the client measures.
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
    loop {
        let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
        let mut control = nix::cmsg_space!(libc::in_pktinfo);
        let Ok(message) =
            recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())
        else {
            continue;
        };
        let to = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|one| match one {
                ControlMessageOwned::Ipv4PacketInfo(to) => Some(to),
                _ => None,
            })
        });
        let (Some(mut to), Some(from), length) = (to, message.address, message.bytes) else { continue };
        // The interface is the routing table's choice; only the source address is ours.
        to.ipi_ifindex = 0;
        to.ipi_spec_dst = to.ipi_addr;
        let answer = [std::io::IoSlice::new(&buffer[..length])];
        let source = [ControlMessage::Ipv4PacketInfo(&to)];
        // A full queue loses the answer, which is what the client measures.
        let _ = sendmsg(socket.as_raw_fd(), &answer, &source, MsgFlags::empty(), Some(&from));
    }
}

fn sleep_until(at_ns: u64) {
    let at = TimeSpec::from_duration(Duration::from_nanos(at_ns));
    let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &at);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Probes each millisecond from 1 s on, answered after 1 ms unless `lost`.
    fn log(count: u64, lost: impl Fn(u64) -> bool) -> Log {
        let mut log = Log { mark_ns: 1_000 * MS, ..Log::default() };
        for number in 0..count {
            let sent_ns = (1_000 + number) * MS;
            log.push(Probe { sent_ns, late_ns: 0, answered_ns: 0 });
            if !lost(number) {
                log.answer(number, sent_ns + MS);
            }
        }
        log
    }

    #[test]
    fn an_outage_is_its_losses_and_one_silence() {
        let report = log(1_000, |number| (100..250).contains(&number)).report(2_500 * MS);
        assert_eq!((report.sent, report.lost), (1_000, 150));
        assert_eq!(report.longest_silence_ns, 151 * MS);
        assert_eq!(report.silences, [(1_100 * MS, 1_251 * MS)]);
        assert_eq!(report.bins.iter().map(|bin| bin.bad).sum::<u32>(), 150);
    }

    #[test]
    fn a_silence_that_has_not_ended_counts() {
        let report = log(1_000, |number| number >= 600).report(2_500 * MS);
        assert_eq!(report.longest_silence_ns, 400 * MS);
    }

    #[test]
    fn probes_in_flight_are_neither_sent_nor_lost() {
        let report = log(1_000, |number| number >= 500).report(2_000 * MS);
        assert_eq!((report.sent, report.lost), (500, 0));
    }
}
