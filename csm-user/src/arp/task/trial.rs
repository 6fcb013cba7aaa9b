//! The trials on the wire: a packet socket for each VLAN.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::arp::trial::{ETHERTYPE, SELDOM, Trial, Verdict, Word};

/// Between two words: whoever floods a VLAN with them keeps no processor busy.
const PACE: Duration = Duration::from_millis(1);
/// After a port failed.
const PAUSE: Duration = Duration::from_secs(1);

/// A port whose VLAN is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialPort {
    /// The VLAN.
    pub vlan: u16,
    /// Index of the interface on which the kernel takes part in it.
    pub ifindex: u32,
    /// The port's own MAC address.
    pub mac: [u8; 6],
}

/// The running trials; dropping it ends them.
#[derive(Debug)]
pub struct Trials {
    asking: watch::Sender<BTreeSet<u16>>,
    verdicts: watch::Receiver<BTreeMap<u16, Verdict>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Trials {
    /// Answers on all `ports`, and asks on the VLANs in `asking`. To be called within a runtime.
    ///
    /// # Errors
    /// If a packet socket cannot be had or bound.
    pub fn spawn(ports: &[TrialPort], group: u8, node: [u8; 6], asking: BTreeSet<u16>) -> io::Result<Self> {
        let (asking, asked) = watch::channel(asking);
        let (told, verdicts) = watch::channel(BTreeMap::new());
        let mut tasks = Vec::new();
        for port in ports {
            let socket = open(port.ifindex)?;
            // SAFETY: the socket stays open as long as what it is registered with, which owns it.
            let socket = unsafe { AsyncFd::register(socket) }?;
            let trial = Trial::new(port.mac, group, node);
            tasks.push(tokio::spawn(run(socket, port.vlan, trial, asked.clone(), told.clone())));
        }
        Ok(Self { asking, verdicts, tasks })
    }

    /// Asks on these VLANs from now on; what is known of the others is forgotten.
    pub fn ask(&self, vlans: BTreeSet<u16>) {
        self.asking.send_if_modified(|asking| {
            let is_new = *asking != vlans;
            *asking = vlans;
            is_new
        });
    }

    /// What is known, by VLAN.
    #[must_use]
    pub fn verdicts(&self) -> watch::Receiver<BTreeMap<u16, Verdict>> {
        self.verdicts.clone()
    }
}

impl Drop for Trials {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn run(
    socket: AsyncFd<Socket>,
    vlan: u16,
    mut trial: Trial,
    mut asked: watch::Receiver<BTreeSet<u16>>,
    told: watch::Sender<BTreeMap<u16, Verdict>>,
) {
    let fresh = trial;
    let mut next = Instant::now();
    loop {
        tokio::select! {
            word = receive(&socket) => match word {
                Ok(Some(word)) => {
                    if let Some((answer, _)) = trial.hear(&word) {
                        send(&socket, &answer);
                    }
                    sleep(PACE).await;
                }
                Ok(None) => sleep(PACE).await,
                // The port is down: it will be said by those who follow links.
                Err(_) => sleep(PAUSE).await,
            },
            () = sleep_until(next) => {
                next = Instant::now() + SELDOM;
                if asked.borrow_and_update().contains(&vlan) {
                    let (frames, wait) = trial.begin();
                    frames.iter().for_each(|frame| send(&socket, frame));
                    next = Instant::now() + wait;
                } else {
                    trial = fresh;
                }
                tell(&told, vlan, trial.verdict());
            }
            changed = asked.changed() => match changed {
                Ok(()) => next = Instant::now(),
                Err(_) => return,
            },
        }
    }
}

fn tell(told: &watch::Sender<BTreeMap<u16, Verdict>>, vlan: u16, verdict: Verdict) {
    told.send_if_modified(|known| {
        let before = known.insert(vlan, verdict).unwrap_or_default();
        before != verdict
    });
}

/// What cannot be sent is lost, as it may be on the wire.
fn send(socket: &AsyncFd<Socket>, frame: &[u8]) {
    let _lost = socket.get_ref().send(frame);
}

async fn receive(socket: &AsyncFd<Socket>) -> io::Result<Option<Word>> {
    let mut buffer = [0; 128];
    loop {
        let mut ready = socket.readable().await?;
        if let Ok(read) = ready.try_io(|socket| socket.get_ref().read(&mut buffer)) {
            return Ok(Word::decode(&buffer[..read?]));
        }
    }
}

/// A packet socket for reverse ARP on `ifindex`.
fn open(ifindex: u32) -> io::Result<Socket> {
    let protocol = ETHERTYPE.to_be();
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
    socket.set_nonblocking(true)?;
    // SAFETY: all zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: `address` is a `sockaddr_ll` of that length and lives through the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}
