//! What the switch sees: ARP and the FT group's control frames of every port, with the port they came in by.
//!
//! Payload traffic is left out by a filter in the kernel, so that capturing does not disturb what is measured.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::net::if_::if_nameindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::netns::Netns;
use crate::wait::now_ns;

/// Bytes kept of each frame.
const SNAP: usize = 512;
/// Frames kept; a lab of some minutes sees a few ten thousand.
const MOST_FRAMES: usize = 2_000_000;

/// A frame that came into the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Nanoseconds of CLOCK_MONOTONIC at which the lab read it.
    pub at_ns: u64,
    /// The switch's port, `sw-a1` and so on.
    pub port: String,
    /// Its first bytes, from the destination address on.
    pub bytes: Vec<u8>,
}

/// A capture under way.
#[derive(Debug)]
pub struct Capture {
    frames: Arc<Mutex<Vec<Frame>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts to listen on all ports of the switch.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn start(switch: &Netns) -> Result<Self> {
        let (socket, ports) = switch.within(|| -> Result<_> {
            let kind = SockType::Raw;
            let all = Some(SockProtocol::EthAll);
            let socket =
                socket(AddressFamily::Packet, kind, SockFlag::SOCK_CLOEXEC, all).context("packet socket")?;
            attach_filter(&socket).context("attach the capture's filter")?;
            setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))?;
            // Wakes often enough to notice the end.
            setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50))?;
            let ports: BTreeMap<usize, String> = if_nameindex()?
                .iter()
                .map(|one| {
                    (usize::try_from(one.index()).unwrap_or(0), one.name().to_string_lossy().into_owned())
                })
                .filter(|(_, name)| name.starts_with("sw-"))
                .collect();
            Ok((socket, ports))
        })??;
        let frames = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (kept, ended) = (Arc::clone(&frames), Arc::clone(&stop));
        let thread = std::thread::spawn(move || listen(&socket, &ports, &kept, &ended));
        Ok(Self { frames, stop, thread: Some(thread) })
    }

    /// The frames that came in from `from_ns` to `to_ns`.
    pub fn frames(&self, from_ns: u64, to_ns: u64) -> Vec<Frame> {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.iter().filter(|frame| (from_ns..to_ns).contains(&frame.at_ns)).cloned().collect()
    }

    /// Writes everything as a pcapng file with one interface per port.
    ///
    /// # Errors
    /// Of the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
        write_pcapng(&mut io::BufWriter::new(file), &self.frames(0, u64::MAX))?;
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(socket: &OwnedFd, ports: &BTreeMap<usize, String>, frames: &Mutex<Vec<Frame>>, stop: &AtomicBool) {
    /// PACKET_OUTGOING of linux/if_packet.h: the switch sends it to that port.
    const OUTGOING: u8 = 4;
    let mut buffer = [0u8; SNAP];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, Some(from))) = receive(socket, &mut buffer) else { continue };
        let Some(port) = ports.get(&from.ifindex()) else { continue };
        if from.pkttype() == OUTGOING {
            continue;
        }
        let frame = Frame { at_ns: now_ns(), port: port.clone(), bytes: buffer[..length.min(SNAP)].to_vec() };
        let mut frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.len() < MOST_FRAMES {
            frames.push(frame);
        }
    }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> nix::Result<(usize, Option<LinkAddr>)> {
    recvfrom(socket.as_raw_fd(), buffer)
}

/// Keeps ARP, and IPv6 other than TCP: the heartbeats, neighbour discovery, and not the replication stream.
fn attach_filter(socket: &OwnedFd) -> io::Result<()> {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let whole = u32::try_from(SNAP).unwrap_or(u32::MAX);
    let mut program = [
        step(LOAD_HALF, 0, 0, 12),
        step(JUMP_EQUAL, 3, 0, 0x0806),
        step(JUMP_EQUAL, 0, 3, 0x86dd),
        step(LOAD_BYTE, 0, 0, 20),
        step(JUMP_EQUAL, 1, 0, 6),
        step(RETURN, 0, 0, whole),
        step(RETURN, 0, 0, 0),
    ];
    let length = u16::try_from(program.len()).unwrap_or(0);
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of_val(&program)).unwrap_or(0);
    // SAFETY: the option takes a sock_fprog whose filter points to `len` instructions; the kernel copies both.
    let answer = unsafe {
        let option = (&raw const program).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, option, size)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// pcapng (draft-ietf-opsawg-pcapng): a section header, an interface description per port, an enhanced packet per frame.
fn write_pcapng(out: &mut impl Write, frames: &[Frame]) -> io::Result<()> {
    const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    const INTERFACE: u32 = 1;
    const PACKET: u32 = 6;
    const ETHERNET: u16 = 1;
    let mut section = Vec::new();
    section.extend(0x1a2b_3c4d_u32.to_le_bytes());
    section.extend([1, 0, 0, 0]);
    section.extend(u64::MAX.to_le_bytes());
    block(out, SECTION_HEADER, &section)?;
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    for frame in frames {
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let number = *numbers.entry(&frame.port).or_insert(next);
        if number == next {
            let mut interface = Vec::new();
            interface.extend(ETHERNET.to_le_bytes());
            interface.extend([0, 0]);
            interface.extend(u32::try_from(SNAP).unwrap_or(0).to_le_bytes());
            option(&mut interface, 2, frame.port.as_bytes());
            // if_tsresol: 10^-9 s.
            option(&mut interface, 9, &[9]);
            option(&mut interface, 0, &[]);
            block(out, INTERFACE, &interface)?;
        }
        let length = u32::try_from(frame.bytes.len()).unwrap_or(0);
        let mut packet = Vec::new();
        packet.extend(number.to_le_bytes());
        let (high, low) = (frame.at_ns >> 32, frame.at_ns & 0xffff_ffff);
        for word in [u32::try_from(high).unwrap_or(0), u32::try_from(low).unwrap_or(0), length, length] {
            packet.extend(word.to_le_bytes());
        }
        padded(&mut packet, &frame.bytes);
        block(out, PACKET, &packet)?;
    }
    out.flush()
}

fn option(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    to.extend(code.to_le_bytes());
    to.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    padded(to, value);
}

fn padded(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(bytes);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 12).unwrap_or(0).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length)?;
    out.write_all(body)?;
    out.write_all(&length)
}
