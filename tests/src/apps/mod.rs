//! Real programs through each way of forwarding, in each family: whether each did what it does without a balancer, and what
//! tshark found in all that the nodes sent on meanwhile.

mod client;
mod eyes;
mod servers;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

pub use client::Program;

use crate::decapsulate::Decapsulator;
use crate::figure::{Figure, Forwarding, Timers};
use crate::lab::{Lab, Options};
use crate::programs::Programs;
use crate::topology::{Topology, VIP, VIP6, Wiring};
use crate::wait;
use eyes::Eyes;
use servers::Servers;

/// The virtual address of all programs.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 32);
const ADDRESS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x38, 0, 0, 0, 0, 0, 0x32);
/// Port of the servers for GUE.
const GUE_PORT: u16 = 6080;
/// Of the file that is fetched.
const DOWNLOAD_BYTES: u64 = 3_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// A way of forwarding, and of being wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Way {
    /// `nat server`, an access port for each VLAN.
    ServerNat,
    /// `no nat server`.
    Dispatch,
    /// `nat client`.
    ClientNat,
    /// `predictor forward` to the servers' own addresses.
    Forward,
    /// Servers in the clients' network.
    Bridge,
    /// Clients and servers on one VLAN, with `nat client`.
    OneArmed,
    /// `nat server`, all VLANs on one trunk.
    Trunk,
    /// `encapsulation ipip`.
    Ipip,
    /// `encapsulation gue`.
    Gue,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ServerNat,
        Self::Dispatch,
        Self::ClientNat,
        Self::Forward,
        Self::Bridge,
        Self::OneArmed,
        Self::Trunk,
        Self::Ipip,
        Self::Gue,
    ];

    /// The name on the command line and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerNat => "server-nat",
            Self::Dispatch => "dispatch",
            Self::ClientNat => "client-nat",
            Self::Forward => "forward",
            Self::Bridge => "bridge",
            Self::OneArmed => "one-armed",
            Self::Trunk => "trunk",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        }
    }

    fn wiring(self) -> Wiring {
        match self {
            Self::Bridge => Wiring::Bridge,
            Self::OneArmed => Wiring::OneArmed,
            Self::Trunk => Wiring::Trunk,
            _ => Wiring::Access,
        }
    }

    fn forwarding(self) -> Forwarding {
        match self {
            Self::Dispatch => Forwarding::Dispatch,
            Self::ClientNat | Self::OneArmed => Forwarding::ClientNat,
            Self::Forward => Forwarding::Onward,
            _ => Forwarding::ServerNat,
        }
    }

    /// Whether the servers own the virtual address.
    fn servers_own(self) -> bool {
        matches!(self, Self::Dispatch | Self::Ipip | Self::Gue)
    }

    /// Whether the servers see another address than the client's.
    fn hides_clients(self) -> bool {
        matches!(self, Self::ClientNat | Self::OneArmed)
    }

    /// Whether packets to the servers are put into others.
    fn is_tunnel(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue)
    }

    /// Bridge mode balances IPv4 only.
    fn has_ipv6(self) -> bool {
        self != Self::Bridge
    }

    /// Whom the clients ask, in each family.
    fn targets(self) -> Vec<IpAddr> {
        let (four, six) = self.addresses();
        let six = self.has_ipv6().then_some(IpAddr::V6(six));
        std::iter::once(IpAddr::V4(four)).chain(six).collect()
    }

    /// The address that the programs are asked at, in each family; in dispatch mode the one that the lab's servers own.
    fn addresses(self) -> (Ipv4Addr, Ipv6Addr) {
        match self {
            Self::Forward => (self.wiring().reals()[0], self.wiring().reals6()[0]),
            Self::Dispatch => (VIP, VIP6),
            _ => (ADDRESS, ADDRESS6),
        }
    }

    /// Farm and virtual servers of a family.
    fn services(self, ipv6: bool) -> String {
        let farm = match self {
            Self::Dispatch => "  no nat server\n".to_owned(),
            Self::ClientNat | Self::OneArmed => format!("  nat client POOL{}\n", if ipv6 { "6" } else { "" }),
            Self::Ipip => "  no nat server\n  encapsulation ipip\n".to_owned(),
            Self::Gue => format!("  no nat server\n  encapsulation gue port {GUE_PORT}\n"),
            _ => String::new(),
        };
        let (four, six) = self.addresses();
        let (suffix, address) = if ipv6 { ("6", IpAddr::V6(six)) } else { ("", IpAddr::V4(four)) };
        let mut text = format!(" exit\n serverfarm APPS{suffix}\n{farm}  predictor hash address source\n");
        let reals = self.wiring().reals().map(IpAddr::V4);
        for real in if ipv6 { self.wiring().reals6().map(IpAddr::V6) } else { reals } {
            let _ = write!(text, "  real {real}\n   inservice\n");
        }
        // The lab's own virtual address has a web server already.
        let web = (self != Self::Dispatch).then_some(("HTTP", "tcp www"));
        // Without `nat server` its data connections could not be told from others.
        let ftp = (!self.servers_own()).then_some(("FTP", "tcp ftp service ftp"));
        let others = [("IPERF", "tcp 5201"), ("IPERFU", "udp 5201"), ("DNS", "udp 53"), ("DNST", "tcp 53")];
        for (name, to) in others.into_iter().chain(web).chain(ftp) {
            let _ = write!(
                text,
                " vserver {name}{suffix}\n  virtual {address} {to}\n  serverfarm APPS{suffix}\n  replicate csrp connection\n  inservice\n"
            );
        }
        text
    }
}

/// One program in one family.
#[derive(Debug)]
pub struct Cell {
    /// Which.
    pub program: Program,
    /// IPv6.
    pub ipv6: bool,
    /// What it said, or why it failed; `None`: it does not exist there.
    pub outcome: Option<std::result::Result<String, String>>,
}

/// All programs through one way.
#[derive(Debug)]
pub struct Report {
    /// Which.
    pub way: Way,
    /// In each family.
    pub cells: Vec<Cell>,
    /// Frames that tshark read.
    pub frames: usize,
    /// Bad checksums and resets that nobody had to send.
    pub faults: Vec<String>,
}

impl Report {
    /// What was wrong.
    pub fn complaints(&self) -> Vec<String> {
        let failed = self.cells.iter().filter_map(|cell| {
            let why = cell.outcome.as_ref()?.as_ref().err()?;
            Some(format!("{} {}: {why}", cell.program.name(), if cell.ipv6 { "IPv6" } else { "IPv4" }))
        });
        failed.chain(self.faults.iter().cloned()).collect()
    }

    /// Its lines in the table, one for each family.
    pub fn rows(&self) -> String {
        let mut text = String::new();
        for ipv6 in [false, true] {
            let cells: Vec<&Cell> = self.cells.iter().filter(|cell| cell.ipv6 == ipv6).collect();
            if cells.is_empty() {
                continue;
            }
            let _ = write!(text, "| {} | {} |", self.way.name(), if ipv6 { "IPv6" } else { "IPv4" });
            for cell in cells {
                let shown = match &cell.outcome {
                    None => "-",
                    Some(Ok(said)) => said.as_str(),
                    Some(Err(_)) => "FAILED",
                };
                let _ = write!(text, " {shown} |");
            }
            let _ = writeln!(text, " {} | {} |", self.frames, self.faults.len());
        }
        for complaint in self.complaints() {
            let _ = writeln!(text, "  - {complaint}");
        }
        text
    }
}

/// The table's first lines.
pub fn head(programs: &[Program]) -> String {
    let names: Vec<&str> = programs.iter().map(|program| program.name()).collect();
    let columns = 4 + names.len();
    format!("| way | family | {} | frames checked | faults |\n|{}", names.join(" | "), "---|".repeat(columns))
}

/// Takes all `programs` through one way, in each family that it has.
///
/// # Errors
/// When the lab does not come up, or something stays behind.
pub fn run(way: Way, programs: &[Program], own: Programs, out: PathBuf) -> Result<Report> {
    let wiring = way.wiring();
    let mut services = if way == Way::Forward { String::new() } else { way.services(false) };
    if way.has_ipv6() && way != Way::Forward {
        services += &way.services(true);
    }
    let options = Options {
        figure: Figure { timers: Timers::FAST, preempt: false, wiring },
        ipv6: way.has_ipv6(),
        forwarding: way.forwarding(),
        servers_own_vip: way == Way::Dispatch,
        services,
        download: DOWNLOAD_BYTES,
        ..Options::small(own, out)
    };
    let mut lab = Lab::build(options)?;
    prepare(way, &lab.topology)?;
    let ends = match way.is_tunnel() {
        true => lab.topology.servers.iter().map(|server| Decapsulator::start(server, GUE_PORT)).collect(),
        false => Ok(Vec::new()),
    };
    let ends = ends.context("the far ends of the tunnels")?;
    let servers = Servers::start(&lab, way)?;
    lab.start(PATIENCE)?;
    for target in way.targets() {
        wait::until("the first answer", PATIENCE, Duration::from_millis(50), || {
            Ok(client::answers(&lab, target).then_some(()))
        })?;
    }
    let eyes = Eyes::open(&lab)?;
    let mut cells = Vec::new();
    for target in way.targets() {
        for &program in programs {
            let outcome = program.exists(way).then(|| {
                program.run(&lab, way, target).map_err(|error| format!("{error:#}").replace('\n', " "))
            });
            cells.push(Cell { program, ipv6: target.is_ipv6(), outcome });
        }
    }
    let seen = eyes.close()?;
    if way.is_tunnel() {
        for target in way.targets() {
            let taken: u64 = ends.iter().flat_map(|end| end.taken(target.is_ipv6())).sum();
            anyhow::ensure!(taken > 0, "no packet for {target} came through a tunnel");
        }
    }
    drop((servers, ends));
    let leaks = lab.take_down()?;
    anyhow::ensure!(leaks.is_empty(), "left behind: {leaks:?}");
    Ok(Report { way, cells, frames: seen.frames, faults: seen.faults })
}

/// What the way needs outside of the pair.
fn prepare(way: Way, topology: &Topology) -> Result<()> {
    let router = &topology.router;
    if way == Way::Forward {
        router.ip(&[
            format!("route add 192.158.39.0/24 via {VIP}"),
            format!("route add fd00:39::/64 via {VIP6}"),
        ])?;
    } else if way.wiring() == Wiring::Access || way == Way::Trunk {
        // The router takes no error from an address that it knows no way to.
        router.ip(&[format!("route add 192.158.39.0/24 via {VIP}")])?;
    }
    for server in &topology.servers {
        if way.is_tunnel() {
            server.sysctl("ipv4/conf/all/arp_ignore", "1")?;
            server.sysctl("ipv6/conf/lo/disable_ipv6", "0")?;
            server.ip(&[
                format!("addr add {ADDRESS}/32 dev lo"),
                format!("addr add {ADDRESS6}/128 dev lo nodad"),
            ])?;
        }
    }
    Ok(())
}
