//! The far end of tunnels: takes packets out of others and gives them to its host's kernel, as `ipip`, `ip6tnl` and `fou` devices
//! do, which not every kernel has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// Protocol numbers of IPv4 and of IPv6 inside of another packet.
const INSIDE: [i32; 2] = [4, 41];
/// That of packets that are sent with their own header.
const RAW: i32 = 255;
/// How often the threads look whether they are to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// A kind of tunnel.
#[derive(Clone, Copy)]
enum Kind {
    /// IP in IP (RFC 2003, RFC 2473).
    Ip,
    /// GUE of variant 1: the packet behind a UDP header.
    Gue,
}

/// Takes IP in IP and GUE of variant 1 apart in a namespace until it is dropped: IPv4 out of IPv4, IPv6 out of IPv6.
#[derive(Debug)]
pub struct Decapsulator {
    stop: Arc<AtomicBool>,
    /// Packets taken out, of IPv4 and of IPv6, each by [`Kind`].
    taken: Arc<[[AtomicU64; 2]; 2]>,
    threads: Vec<JoinHandle<()>>,
}

impl Decapsulator {
    /// Starts it; GUE comes to UDP port `port`.
    ///
    /// # Errors
    /// Without root.
    pub fn start(netns: &Netns, port: u16) -> Result<Self> {
        let mut started = Self { stop: Arc::default(), taken: Arc::default(), threads: Vec::new() };
        for domain in [Domain::IPV4, Domain::IPV6] {
            for kind in [Kind::Ip, Kind::Gue] {
                let (from, into) = netns
                    .within(|| Ok::<_, std::io::Error>((open(domain, kind, port)?, raw(domain, RAW)?)))??;
                from.set_read_timeout(Some(PATIENCE))?;
                let (stop, taken) = (Arc::clone(&started.stop), Arc::clone(&started.taken));
                started.threads.push(std::thread::spawn(move || {
                    let mut buffer = vec![0; 65_536];
                    while !stop.load(Ordering::Acquire) {
                        let Ok(octets) = from.recv(&mut buffer) else { continue };
                        let Some((inner, to)) = take_out(&buffer[..octets], domain, kind) else { continue };
                        if into.send_to(inner, &SocketAddr::from((to, 0)).into()).is_ok() {
                            taken[usize::from(domain == Domain::IPV6)][kind as usize]
                                .fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }));
            }
        }
        Ok(started)
    }

    /// Packets of a family that were taken out: of IP in IP, and of GUE.
    #[must_use]
    pub fn taken(&self, ipv6: bool) -> [u64; 2] {
        self.taken[usize::from(ipv6)].each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

fn raw(domain: Domain, protocol: i32) -> std::io::Result<Socket> {
    Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))
}

/// What the outer packets come to.
fn open(domain: Domain, kind: Kind, port: u16) -> std::io::Result<UdpSocket> {
    let is_six = domain == Domain::IPV6;
    let socket = match kind {
        Kind::Ip => raw(domain, INSIDE[usize::from(is_six)])?,
        Kind::Gue => Socket::new(domain, Type::DGRAM, None)?,
    };
    if let Kind::Gue = kind {
        let any = if is_six { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        if is_six {
            socket.set_only_v6(true)?;
            take_without_checksum(&socket)?;
        }
        socket.bind(&SocketAddr::from((any, port)).into())?;
    }
    Ok(UdpSocket::from(socket))
}

/// What is inside of a UDP header without a checksum has its own (RFC 6935); a socket of IPv6 takes it only when told to.
fn take_without_checksum(socket: &Socket) -> std::io::Result<()> {
    /// linux/udp.h; libc has no name for it.
    const UDP_NO_CHECK6_RX: libc::c_int = 102;
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int that outlives the call, and its length is given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            UDP_NO_CHECK6_RX,
            (&raw const on).cast(),
            size_of_val(&on).try_into().unwrap_or(0),
        )
    };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// The inner packet, and where it is to go.
fn take_out(read: &[u8], domain: Domain, kind: Kind) -> Option<(&[u8], IpAddr)> {
    if domain == Domain::IPV6 {
        let to: [u8; 16] = *read.get(24..40)?.first_chunk()?;
        return (read[0] >> 4 == 6).then_some((read, Ipv6Addr::from(to).into()));
    }
    // A raw socket of IPv4 gives the outer header, too.
    let inner = if let Kind::Ip = kind { read.get(20..)? } else { read };
    let to: [u8; 4] = *inner.get(16..20)?.first_chunk()?;
    (inner[0] >> 4 == 4).then_some((inner, Ipv4Addr::from(to).into()))
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
