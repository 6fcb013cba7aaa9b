//! A stand-in for the product, so that the lab's own tests need no product: they show that the topology carries traffic,
//! that each fault does what its name says, and that each checker fires.
//!
//! It takes csmd's command line and answers what the lab asks of `csm`. It moves frames between VLAN 2 and VLAN 3 in one
//! thread of user space and keeps no state: the client's address picks the server (the servers own the VIP on their
//! loopback), so nothing has to be replicated. Heartbeats go by multicast on the FT VLAN. It is no model of the product's
//! election: a link failure leaves two active nodes for good.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send,
    setsockopt, socket, sockopt,
};

use crate::checks::Mac;
use crate::node::FAULT_VARIABLE;
use crate::topology::{ALIAS, REALS, ROUTER, VIP};

/// The CSM's prefix for virtual MACs, and group 1.
const VIRTUAL_MAC: Mac = [0x00, 0x02, 0xfc, 0, 0, 1];
const EVERYONE: Mac = [0xff; 6];
const FT_PORT: u16 = 47_001;
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];

static LEAVE: AtomicBool = AtomicBool::new(false);

/// What the command line gives.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Configuration, of which it reads its own addresses, the timers and the priority.
    #[arg(long)]
    pub config: std::path::PathBuf,
    /// Where it answers.
    #[arg(long)]
    pub socket: std::path::PathBuf,
    /// Where it writes its moves.
    #[arg(long)]
    pub log: std::path::PathBuf,
    /// Taken because csmd sizes its tables by it; the stand-in has no table.
    #[arg(long)]
    pub connections: Option<u32>,
    /// Taken because csmd saves there; the stand-in saves nothing.
    #[arg(long)]
    pub state: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Initializing,
    Standby,
    Active,
}

/// A data port and what is known about the hosts behind it.
#[derive(Debug)]
struct Port {
    socket: OwnedFd,
    own_mac: Mac,
    own_address: Ipv4Addr,
    /// Addresses that this port answers for while active.
    served: Ipv4Addr,
    neighbours: HashMap<Ipv4Addr, Mac>,
    wanted: Vec<Ipv4Addr>,
}

#[derive(Debug)]
struct StandIn {
    state: State,
    since: Instant,
    priority: u8,
    heartbeat: Duration,
    failover: Duration,
    peer: Option<(Instant, u8, bool)>,
    next_heartbeat: Instant,
    /// Until when it may forward: a stopped process must not go on where it was.
    lease: Instant,
    announcements: u32,
    defect: String,
    ports: [Port; 2],
    ft: UdpSocket,
    ft_index: u32,
    log: std::fs::File,
    worst_lateness: Duration,
    realtime: bool,
}

/// The daemon's part: runs until SIGTERM.
///
/// # Errors
/// When the configuration lacks something or an interface is missing.
pub fn csmd(options: &Options) -> Result<()> {
    extern "C" fn leave(_: i32) {
        LEAVE.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(leave), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler stores one atomic.
    unsafe { sigaction(Signal::SIGTERM, &action) }?;
    let text = std::fs::read_to_string(&options.config)?;
    let mut stand_in = StandIn::new(&text, &options.log)?;
    let _ = std::fs::remove_file(&options.socket);
    let listener = UnixListener::bind(&options.socket)?;
    listener.set_nonblocking(true)?;
    while !LEAVE.load(Ordering::Relaxed) {
        stand_in.turn(&listener)?;
    }
    stand_in.become_(State::Standby);
    stand_in.beat()
}

/// The command line's part: passes the words on and prints the answer.
///
/// # Errors
/// When the daemon does not answer.
pub fn csm(socket: &Path, words: &[String]) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    writeln!(stream, "{}", words.join(" "))?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    io::stdout().write_all(answer.as_bytes())?;
    Ok(())
}

impl StandIn {
    fn new(text: &str, log: &Path) -> Result<Self> {
        let after = |command: &str| -> Result<Vec<&str>> {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(command));
            Ok(line.with_context(|| format!("no {command}"))?.split_whitespace().collect())
        };
        let time = |command: &str| -> Result<Duration> {
            Ok(match after(command)?.as_slice() {
                ["msec", value] => Duration::from_millis(value.parse()?),
                [value] => Duration::from_secs(value.parse()?),
                other => anyhow::bail!("{command} {other:?}"),
            })
        };
        let own: Vec<Ipv4Addr> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("ip address ")?.split(' ').next()?.parse().ok())
            .collect();
        let [own2, own3] = own[..] else { anyhow::bail!("expected two addresses, found {own:?}") };
        let ft_index = if_nametoindex("eth3")?;
        let ft = UdpSocket::bind(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, FT_PORT, 0, 0))?;
        ft.join_multicast_v6(&all_nodes(), ft_index)?;
        ft.set_multicast_loop_v6(false)?;
        ft.set_nonblocking(true)?;
        let now = Instant::now();
        Ok(Self {
            state: State::Initializing,
            since: now,
            priority: after("priority")?.first().context("priority")?.parse()?,
            heartbeat: time("heartbeat-time")?,
            failover: time("failover")?,
            peer: None,
            next_heartbeat: now,
            lease: now,
            announcements: 0,
            defect: std::env::var(FAULT_VARIABLE).unwrap_or_default(),
            ports: [
                Port::open("eth1", own2, VIP, vec![ROUTER])?,
                Port::open("eth2", own3, ALIAS, REALS.to_vec())?,
            ],
            ft,
            ft_index,
            log: std::fs::File::options().create(true).append(true).open(log)?,
            worst_lateness: Duration::ZERO,
            realtime: crate::wait::real_time(1),
        })
    }

    /// Waits for a frame, a heartbeat, a question or a timer, and deals with all that is there.
    fn turn(&mut self, listener: &UnixListener) -> Result<()> {
        let wait =
            self.next_heartbeat.saturating_duration_since(Instant::now()).min(Duration::from_millis(5));
        {
            let [client, server] = &self.ports;
            let watched = [client.socket.as_fd(), server.socket.as_fd(), self.ft.as_fd(), listener.as_fd()];
            let mut events = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut events, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.hear();
        self.decide();
        if Instant::now() >= self.next_heartbeat {
            self.worst_lateness = self.worst_lateness.max(self.next_heartbeat.elapsed());
            self.beat()?;
            self.next_heartbeat = Instant::now() + self.heartbeat;
        }
        for index in 0..2 {
            self.forward(index);
        }
        if let Ok((stream, _)) = listener.accept() {
            self.answer(&stream)?;
        }
        Ok(())
    }

    fn hear(&mut self) {
        let mut beat = [0u8; 8];
        while let Ok((length, _)) = self.ft.recv_from(&mut beat) {
            if length == 2 {
                self.peer = Some((Instant::now(), beat[0], beat[1] == 1));
            }
        }
    }

    fn decide(&mut self) {
        let heard = self.peer.filter(|(at, _, _)| at.elapsed() < self.failover);
        let settled = self.since.elapsed() > self.failover + self.heartbeat;
        let next = match (self.state, heard) {
            (State::Active, Some((_, priority, true)))
                if priority > self.priority && self.defect != "lease-off" =>
            {
                State::Standby
            }
            // Woken late, or started in the same moment: who has heard nothing for long listens first.
            (State::Active, Some((_, _, true))) if self.defect != "lease-off" && self.stale() => {
                State::Standby
            }
            (State::Initializing, Some((_, _, true))) => State::Standby,
            (State::Initializing, Some((_, priority, false))) if settled && priority > self.priority => {
                State::Standby
            }
            (State::Initializing | State::Standby, None) if settled => State::Active,
            (State::Initializing, Some(_)) if settled => State::Active,
            // The peer is there and does not lead: it has handed over.
            (State::Standby, Some((_, _, false))) if settled && self.since.elapsed() > self.failover * 2 => {
                State::Active
            }
            (state, _) => state,
        };
        if next != self.state {
            self.become_(next);
        }
    }

    /// Whether this node slept through its own failover time.
    fn stale(&self) -> bool {
        self.next_heartbeat.elapsed() > self.failover
    }

    fn become_(&mut self, state: State) {
        self.state = state;
        self.since = Instant::now();
        let _ = writeln!(self.log, "{} {state:?}", crate::wait::now_ns());
        self.announcements = if state == State::Active && self.defect != "announce-off" { 3 } else { 0 };
        self.next_heartbeat = Instant::now();
    }

    fn beat(&mut self) -> Result<()> {
        self.lease = Instant::now() + self.failover.mul_f64(0.8);
        let beat = [self.priority, u8::from(self.state == State::Active)];
        let to = SocketAddrV6::new(all_nodes(), FT_PORT, 0, self.ft_index);
        match self.ft.send_to(&beat, to) {
            Ok(_) => {}
            // Its links are down: the lab's power-off, which kills it next.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENETDOWN | libc::ENETUNREACH | libc::EADDRNOTAVAIL)
                ) => {}
            Err(error) => return Err(error.into()),
        }
        for port in &self.ports {
            for wanted in port.wanted.iter().filter(|wanted| !port.neighbours.contains_key(*wanted)) {
                port.arp(1, port.own_mac, port.own_address, [0; 6], *wanted);
            }
            if self.announcements > 0 {
                port.arp(1, VIRTUAL_MAC, port.served, [0; 6], port.served);
            }
        }
        self.announcements = self.announcements.saturating_sub(1);
        Ok(())
    }

    /// Moves what has come in on one port to the other.
    fn forward(&mut self, from: usize) {
        let (active, lease, leased) = (self.state == State::Active, self.lease, self.defect != "lease-off");
        let [client, server] = &mut self.ports;
        let (inside, outside) = if from == 0 { (client, server) } else { (server, client) };
        let mut frame = [0u8; 2_048];
        while let Ok(length) = recv(inside.socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
            let active = active && (!leased || Instant::now() < lease);
            let Some(frame) = frame.get_mut(..length).filter(|frame| frame.len() >= 34) else { continue };
            if frame[12..14] == ARP {
                inside.hear_arp(frame, active);
            } else if active && frame[..6] == VIRTUAL_MAC && frame[12..14] == IPV4 {
                let next_hop = if from == 0 { REALS[usize::from(frame[29]) % REALS.len()] } else { ROUTER };
                if let Some(mac) = outside.neighbours.get(&next_hop) {
                    frame[..6].copy_from_slice(mac);
                    frame[6..12].copy_from_slice(&VIRTUAL_MAC);
                    let _ = send(outside.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT);
                }
            }
        }
    }

    fn answer(&mut self, mut stream: &UnixStream) -> Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut words = String::new();
        BufReader::new(stream).read_line(&mut words)?;
        if words.contains("clear") && self.state == State::Active {
            self.become_(State::Standby);
        }
        let obstacles: Vec<&str> = self.peer.is_none().then_some("no peer").into_iter().collect();
        let reply = serde_json::json!({
            "state": self.state,
            "readiness": { "ready": obstacles.is_empty(), "obstacles": obstacles },
            "lateness": { "worst_us": u64::try_from(self.worst_lateness.as_micros())?, "realtime": self.realtime },
        });
        writeln!(stream, "{reply}")?;
        Ok(())
    }
}

impl Port {
    fn open(name: &str, own_address: Ipv4Addr, served: Ipv4Addr, wanted: Vec<Ipv4Addr>) -> Result<Self> {
        let all = Some(SockProtocol::EthAll);
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all)?;
        bind(socket.as_raw_fd(), &link_address(if_nametoindex(name)?)?)
            .with_context(|| format!("bind to {name}"))?;
        setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))?;
        let own_mac = nix::ifaddrs::getifaddrs()?
            .filter(|one| one.interface_name == name)
            .find_map(|one| one.address?.as_link_addr()?.addr())
            .with_context(|| format!("MAC of {name}"))?;
        Ok(Self { socket, own_mac, own_address, served, neighbours: HashMap::new(), wanted })
    }

    fn hear_arp(&mut self, frame: &[u8], active: bool) {
        let Some(fields) = frame.get(20..42).and_then(|fields| fields.first_chunk::<22>()) else { return };
        let address = |at: usize| Ipv4Addr::new(fields[at], fields[at + 1], fields[at + 2], fields[at + 3]);
        let mut sender_mac = [0; 6];
        sender_mac.copy_from_slice(&fields[2..8]);
        if sender_mac == VIRTUAL_MAC || sender_mac == self.own_mac {
            return;
        }
        self.neighbours.insert(address(8), sender_mac);
        if active && fields[..2] == [0, 1] && address(18) == self.served {
            self.arp(2, VIRTUAL_MAC, self.served, sender_mac, address(8));
        }
    }

    /// Operation 1 asks everyone, 2 answers one.
    fn arp(&self, operation: u8, sender_mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) {
        let mut frame = Vec::with_capacity(42);
        frame.extend(if operation == 1 { EVERYONE } else { target_mac });
        frame.extend(sender_mac);
        frame.extend(ARP);
        frame.extend([0, 1, 0x08, 0, 6, 4, 0, operation]);
        frame.extend(sender_mac);
        frame.extend(sender.octets());
        frame.extend(target_mac);
        frame.extend(target.octets());
        let _ = send(self.socket.as_raw_fd(), &frame, MsgFlags::MSG_DONTWAIT);
    }
}

fn all_nodes() -> Ipv6Addr {
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)
}

fn link_address(index: u32) -> io::Result<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or(0),
        sll_protocol: u16::try_from(libc::ETH_P_ALL).unwrap_or(0).to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).ok();
    // SAFETY: the pointer is to a whole sockaddr_ll, and the length says so.
    let made = unsafe { LinkAddr::from_raw((&raw const address).cast(), length) };
    made.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}
