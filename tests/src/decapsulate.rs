//! The far end of tunnels: takes packets out of others and gives them to its host's kernel, as `ipip` and `fou` devices do,
//! which not every kernel has.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// Protocol number of IP in IP.
const IPIP: i32 = 4;
/// That of packets that are sent with their own header.
const RAW: i32 = 255;
/// How often the threads look whether they are to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// Takes IP in IP and GUE of variant 1 apart in a namespace until it is dropped.
#[derive(Debug)]
pub struct Decapsulator {
    stop: Arc<AtomicBool>,
    /// Packets taken out: of IP in IP, and of GUE.
    taken: Arc<[AtomicU64; 2]>,
    threads: Vec<JoinHandle<()>>,
}

impl Decapsulator {
    /// Starts it; GUE comes to UDP port `port`.
    ///
    /// # Errors
    /// Without root.
    pub fn start(netns: &Netns, port: u16) -> Result<Self> {
        let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPIP)));
        let (ipip, udp) = netns.within(|| -> Result<_> {
            Ok((UdpSocket::from(raw()?), UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?))
        })??;
        let stop = Arc::new(AtomicBool::new(false));
        let taken = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let mut threads = Vec::new();
        for (index, socket) in [ipip, udp].into_iter().enumerate() {
            socket.set_read_timeout(Some(PATIENCE))?;
            let into = netns.within(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW))))??;
            let (stop, taken) = (Arc::clone(&stop), Arc::clone(&taken));
            threads.push(std::thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while !stop.load(Ordering::Acquire) {
                    let Ok(octets) = socket.recv(&mut buffer) else { continue };
                    let outer = &buffer[..octets];
                    // A raw socket gives the IP header, too.
                    let inner = if index == 0 { outer.get(20..) } else { Some(outer) };
                    let Some(inner) = inner.filter(|inner| inner.len() >= 20 && inner[0] >> 4 == 4) else {
                        continue;
                    };
                    let to = Ipv4Addr::new(inner[16], inner[17], inner[18], inner[19]);
                    if into.send_to(inner, &SocketAddr::from((to, 0)).into()).is_ok() {
                        taken[index].fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
        }
        Ok(Self { stop, taken, threads })
    }

    /// Packets that were taken out: of IP in IP, and of GUE.
    #[must_use]
    pub fn taken(&self) -> [u64; 2] {
        self.taken.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
