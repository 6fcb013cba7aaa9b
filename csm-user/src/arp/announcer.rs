//! Announcements on the wire: sockets opened and frames built beforehand, so that the real-time thread only sends.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::frame::{Form, advertisement, gratuitous, reverse, tagged};
use super::owner::REFRESH;

/// Frames that [`Announcer::announce_now`] sends at most, over all ports: about 0.3 ms. The rest, of a node with more
/// than half as many addresses, follows at once from the announcer's own thread.
pub const NOW_MAX: usize = 256;

/// A port and the addresses to announce there, most important first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Interface index.
    pub ifindex: u32,
    /// VLAN of the tag that frames have there; 0: none.
    pub tag: u16,
    /// What the frames carry, if not the group's virtual MAC address.
    pub mac: Option<[u8; 6]>,
    /// Alias and virtual addresses.
    pub addresses: Vec<IpAddr>,
}

/// A host of the other side of a bridge group: frames to it come by this port from now on, which switches learn from a
/// frame of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Station {
    /// Interface index.
    pub ifindex: u32,
    /// VLAN of the tag that frames have there; 0: none.
    pub tag: u16,
    /// The host's MAC.
    pub mac: [u8; 6],
    /// Its IPv4 address; `None`: it has another one, and is spoken for without it.
    pub address: Option<Ipv4Addr>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames given to the ports.
    pub frames: usize,
    /// Frames left: no room in a queue, a port down, or beyond [`NOW_MAX`].
    pub left: usize,
}

/// Prepared announcements.
#[derive(Debug)]
pub struct Announcer {
    mac: [u8; 6],
    /// For the real-time thread; whoever else holds its lock only exchanges it.
    now: Mutex<Vec<Burst>>,
    /// For the repeats.
    all: Mutex<Vec<Burst>>,
    stations: Mutex<Stations>,
    refresh_s: AtomicU64,
}

/// Hosts of bridge groups.
#[derive(Debug, Default)]
struct Stations {
    hosts: Vec<Station>,
    /// As of the group's addresses.
    now: Vec<Burst>,
    all: Vec<Burst>,
}

impl Announcer {
    /// Opens a socket for each port and builds the frames, request and reply for each IPv4 address, an advertisement for
    /// each IPv6 one, from `mac` unless the port says otherwise.
    ///
    /// # Errors
    /// If a packet socket cannot be had or bound.
    pub fn new(mac: [u8; 6], ports: &[Port]) -> io::Result<Self> {
        let (now, all) = bursts(mac, ports)?;
        Ok(Self {
            mac,
            now: Mutex::new(now),
            all: Mutex::new(all),
            stations: Mutex::default(),
            refresh_s: AtomicU64::new(REFRESH.as_secs()),
        })
    }

    /// Time between two announcements while nothing else happens, for the thread that repeats them when it wakes next; whole
    /// seconds count.
    pub fn set_refresh(&self, refresh: Duration) {
        self.refresh_s.store(refresh.as_secs().max(1), Ordering::Relaxed);
    }

    /// That time.
    #[must_use]
    pub fn refresh(&self) -> Duration {
        Duration::from_secs(self.refresh_s.load(Ordering::Relaxed))
    }

    /// These are announced from now on.
    ///
    /// # Errors
    /// If a packet socket cannot be had or bound; the old ones stay then.
    pub fn set_ports(&self, ports: &[Port]) -> io::Result<()> {
        let (now, all) = bursts(self.mac, ports)?;
        let exchange = |known: &Mutex<Vec<Burst>>, new| {
            std::mem::replace(&mut *known.lock().unwrap_or_else(PoisonError::into_inner), new)
        };
        // The old ones, with their sockets, are dropped after their locks.
        let old = (exchange(&self.now, now), exchange(&self.all, all));
        drop(old);
        Ok(())
    }

    /// The hosts of bridge groups that are to be announced from now on.
    ///
    /// # Errors
    /// If a packet socket cannot be had or bound; the old ones stay then.
    pub fn set_stations(&self, mut stations: Vec<Station>) -> io::Result<()> {
        // A host with several addresses, of IPv6 mostly, is learnt from one frame without any.
        stations.sort_unstable();
        stations.dedup();
        let known = || self.stations.lock().unwrap_or_else(PoisonError::into_inner);
        if known().hosts == stations {
            return Ok(());
        }
        let bursts = |most| {
            let frame = |host: &Station| {
                let frame = match host.address {
                    Some(address) => gratuitous(Form::Request, host.mac, address),
                    None => reverse(host.mac),
                };
                tagged(&frame, host.tag)
            };
            let port =
                |hosts: &[Station]| Burst::of(hosts[0].ifindex, hosts.iter().map(frame).collect(), most);
            stations
                .chunk_by(|one, other| one.ifindex == other.ifindex)
                .map(port)
                .collect::<io::Result<Vec<_>>>()
        };
        // A bridge group has two ports, one side's hosts for the other; the rest of many go with the repeats.
        let (now, all) = (bursts(NOW_MAX / 2)?, bursts(usize::MAX)?);
        *known() = Stations { hosts: stations, now, all };
        Ok(())
    }

    /// Sends the most important announcements now, on every port. For the real-time thread: one system call a port, no
    /// allocation, nothing that waits.
    pub fn announce_now(&self) -> Sent {
        // Whoever replaces a list just then sends it with the repeats.
        let sent = match self.now.try_lock() {
            Ok(mut bursts) => send_all(&mut bursts),
            Err(_) => Sent::default(),
        };
        match self.stations.try_lock() {
            Ok(mut stations) => sent.and(send_all(&mut stations.now)),
            Err(_) => sent,
        }
    }

    /// Sends all announcements.
    pub fn announce_all(&self) -> Sent {
        let sent = send(&self.all);
        sent.and(send_all(&mut self.stations.lock().unwrap_or_else(PoisonError::into_inner).all))
    }
}

impl Sent {
    const fn and(self, other: Self) -> Self {
        Self { frames: self.frames + other.frames, left: self.left + other.left }
    }
}

/// For the real-time thread, and for the repeats.
fn bursts(mac: [u8; 6], ports: &[Port]) -> io::Result<(Vec<Burst>, Vec<Burst>)> {
    // Every port gets its share, for no VLAN may be left out.
    let share = NOW_MAX / ports.len().max(1);
    let of = |most| ports.iter().map(|port| Burst::new(mac, port, most)).collect::<io::Result<Vec<_>>>();
    Ok((of(share)?, of(usize::MAX)?))
}

fn send(bursts: &Mutex<Vec<Burst>>) -> Sent {
    send_all(&mut bursts.lock().unwrap_or_else(PoisonError::into_inner))
}

fn send_all(bursts: &mut [Burst]) -> Sent {
    bursts.iter_mut().map(Burst::send).fold(Sent::default(), Sent::and)
}

/// The frames of one port, with the structures that `sendmmsg` takes. They point into one another's heap memory, which
/// is never resized after `new`.
struct Burst {
    socket: OwnedFd,
    messages: Vec<libc::mmsghdr>,
    /// Frames that the share did not allow.
    beyond: usize,
    _vectors: Vec<libc::iovec>,
    _frames: Vec<Vec<u8>>,
}

// SAFETY: the raw pointers lead only to memory that this `Burst` owns and moves along; nothing is tied to a thread.
unsafe impl Send for Burst {}

impl std::fmt::Debug for Burst {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Burst").field("socket", &self.socket).field("frames", &self.messages.len()).finish()
    }
}

impl Burst {
    fn new(mac: [u8; 6], port: &Port, most: usize) -> io::Result<Self> {
        let mac = port.mac.unwrap_or(mac);
        let frames = |&address: &IpAddr| match address {
            IpAddr::V4(address) => {
                let both = [Form::Request, Form::Reply];
                both.map(|form| tagged(&gratuitous(form, mac, address), port.tag)).to_vec()
            }
            IpAddr::V6(address) => vec![tagged(&advertisement(mac, address), port.tag)],
        };
        Self::of(port.ifindex, port.addresses.iter().flat_map(frames).collect(), most)
    }

    fn of(ifindex: u32, mut frames: Vec<Vec<u8>>, most: usize) -> io::Result<Self> {
        let beyond = frames.len().saturating_sub(most);
        frames.truncate(most);
        let mut vectors: Vec<libc::iovec> = frames
            .iter_mut()
            .map(|frame| libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() })
            .collect();
        let messages = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: all zero is a valid `mmsghdr`: no address, no control data.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = vector;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        Ok(Self { socket: open(ifindex)?, messages, beyond, _vectors: vectors, _frames: frames })
    }

    fn send(&mut self) -> Sent {
        let mut frames = 0;
        while frames < self.messages.len() {
            let rest = &mut self.messages[frames..];
            let count = libc::c_uint::try_from(rest.len()).unwrap_or(libc::c_uint::MAX);
            // SAFETY: `rest` holds `count` messages whose vectors and frames live as long as `self`.
            let sent = unsafe {
                libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), count, libc::MSG_DONTWAIT)
            };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => frames += sent,
                // A full queue or a port that is down: the repeats come soon.
                _ => break,
            }
        }
        Sent { frames, left: self.messages.len() - frames + self.beyond }
    }
}

/// A packet socket that sends on `ifindex` and receives nothing.
fn open(ifindex: u32) -> io::Result<OwnedFd> {
    let socket: OwnedFd = Socket::new(Domain::PACKET, Type::RAW, None)?.into();
    // SAFETY: all zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: `address` is a `sockaddr_ll` of that length and lives through the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}
