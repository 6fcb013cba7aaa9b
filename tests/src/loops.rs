//! A loop detector: numbered broadcast frames from both sides of a bridge group, and who hears each of them how often.
//! A frame that goes round comes back to its sender, or reaches somebody twice.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// What the frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// IEEE 802, local experimental EtherType 1, broadcast.
    Broadcast,
    /// IPv6 with nothing in it, to all nodes.
    Ipv6,
}

impl Marked {
    fn ethertype(self) -> u16 {
        match self {
            Self::Broadcast => 0x88b5,
            Self::Ipv6 => 0x86dd,
        }
    }

    /// Where a frame's number stands.
    fn number(self) -> std::ops::Range<usize> {
        match self {
            Self::Broadcast => 15..19,
            Self::Ipv6 => 54..58,
        }
    }

    fn frame(self, speaker: u8, number: u32) -> [u8; LENGTH] {
        let mut frame = [0; LENGTH];
        frame[6..11].copy_from_slice(&MAC);
        frame[11] = speaker;
        frame[12..14].copy_from_slice(&self.ethertype().to_be_bytes());
        match self {
            Self::Broadcast => frame[..6].fill(0xff),
            Self::Ipv6 => {
                frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
                // Version 6, six octets of payload, no next header, for this link.
                frame[14] = 0x60;
                frame[18..22].copy_from_slice(&[0, 6, 59, 1]);
                frame[22..24].copy_from_slice(&[0xfe, 0x80]);
                frame[36..38].copy_from_slice(&[0x10, speaker]);
                frame[38..40].copy_from_slice(&[0xff, 0x02]);
                frame[53] = 1;
            }
        }
        frame[self.number()].copy_from_slice(&number.to_be_bytes());
        frame
    }

    /// The mark of a frame that is one.
    fn mark(self, frame: &[u8]) -> Option<Mark> {
        let number = frame.get(self.number())?.try_into().ok()?;
        (frame[6..11] == MAC).then_some((frame[11], u32::from_be_bytes(number)))
    }
}

/// What the speakers' MAC addresses begin with.
const MAC: [u8; 5] = [0x02, 0x10, 0x0b, 0, 0];
/// Between two frames of one sender.
const PACE: Duration = Duration::from_millis(2);
/// Octets of a frame.
const LENGTH: usize = 60;

/// Who spoke, and its how manieth frame.
type Mark = (u8, u32);

/// Frames heard by each listener.
type Heard = Arc<Mutex<HashMap<(usize, Mark), u32>>>;

/// The detector at work.
#[derive(Debug)]
pub struct LoopWatch {
    heard: Heard,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u32>>,
    names: Vec<String>,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Frames that each station sent.
    pub sent: Vec<u32>,
    /// By speaker and listener: frames of the one that the other heard at least once.
    pub crossed: Vec<Vec<u32>>,
    /// Frames that came back to their sender or reached somebody more than once.
    pub copies: Vec<String>,
}

impl LoopWatch {
    /// Every station speaks and listens on its `eth0`.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn start(stations: &[&Netns]) -> Result<Self> {
        Self::of(Marked::Broadcast, stations)
    }

    /// The same with such frames.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn of(what: Marked, stations: &[&Netns]) -> Result<Self> {
        let (heard, stop) = (Heard::default(), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for (number, station) in (0..).zip(stations) {
            let socket = Arc::new(station.within(|| open(what))?.context("a station of the loop detector")?);
            let (kept, ended, ear) = (Arc::clone(&heard), Arc::clone(&stop), Arc::clone(&socket));
            let listener = usize::from(number);
            threads.push(std::thread::spawn(move || listen(what, &ear, listener, &kept, &ended)));
            let ended = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || speak(what, &socket, number, &ended)));
        }
        let names = stations.iter().map(|station| station.name().to_owned()).collect();
        Ok(Self { heard, stop, threads, names })
    }

    /// Ends it and says what was heard.
    pub fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        // Listener and speaker of each station, in turn; listeners count nothing.
        let counts: Vec<u32> = self.threads.into_iter().map(|thread| thread.join().unwrap_or(0)).collect();
        let sent = counts.chunks(2).filter_map(|pair| pair.get(1).copied()).collect();
        let many = self.names.len();
        let mut crossed = vec![vec![0; many]; many];
        let mut copies = Vec::new();
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for (&(listener, (speaker, number)), &times) in heard.iter() {
            let speaker = usize::from(speaker);
            crossed[speaker][listener] += 1;
            if times > 1 || speaker == listener {
                let (from, to) = (&self.names[speaker], &self.names[listener]);
                copies.push(format!("frame {number} of {from}: {times} times at {to}"));
            }
        }
        Report { sent, crossed, copies }
    }
}

fn open(what: Marked) -> io::Result<OwnedFd> {
    let protocol = i32::from(what.ethertype().to_be());
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(protocol)))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    // SAFETY: all zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = what.ethertype().to_be();
    address.sll_ifindex = if_nametoindex("eth0")?.cast_signed();
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: `address` is a `sockaddr_ll` of that length and lives through the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket.into()) }
}

fn speak(what: Marked, socket: &OwnedFd, speaker: u8, stop: &AtomicBool) -> u32 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        if nix::unistd::write(socket, &what.frame(speaker, sent)).is_ok() {
            sent += 1;
        }
        std::thread::sleep(PACE);
    }
    sent
}

fn listen(what: Marked, socket: &OwnedFd, listener: usize, heard: &Heard, stop: &AtomicBool) -> u32 {
    let mut frame = [0; 128];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = nix::unistd::read(socket, &mut frame) else { continue };
        let Some(mark) = what.mark(&frame[..length]) else { continue };
        *heard.lock().unwrap_or_else(PoisonError::into_inner).entry((listener, mark)).or_insert(0) += 1;
    }
    0
}
