//! Modes by faults: for each way of forwarding and each thing that may go wrong, whether a client noticed. [`cell`] does one
//! of them, [`dissect`] has tshark read what the nodes sent meanwhile, [`table`] prints what came of all.

pub mod cell;
pub mod dissect;
pub mod table;

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::figure::{Figure, Forwarding, Timers};
use crate::lab::{Lab, Options};
use crate::link::Cut;
use crate::node::Fault;
use crate::programs::Programs;
use crate::scenario::Traffic;
use crate::status::Role;
use crate::topology::{REALS, REALS6, ROUTER, Side, VIP, VIP6, Wiring};
use crate::wait;

/// Interface of a node on the client VLAN, on the server VLAN, and on the FT VLAN.
const CLIENT_LINK: usize = 1;
const SERVER_LINK: usize = 2;
const FT_LINK: usize = 3;
/// Of the file that is under way in each cell.
const DOWNLOAD_BYTES: u64 = 10_000_000;

/// A way of forwarding, and of being wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Mode {
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
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ServerNat,
        Self::Dispatch,
        Self::ClientNat,
        Self::Forward,
        Self::Bridge,
        Self::OneArmed,
        Self::Trunk,
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
            Self::ServerNat | Self::Bridge | Self::Trunk => Forwarding::ServerNat,
        }
    }

    /// Whether the mode has IPv6.
    fn has_ipv6(self) -> bool {
        self != Self::Bridge
    }

    /// Whom the clients ask, in each family that the mode has.
    fn targets(self) -> Vec<IpAddr> {
        let (four, six): (_, Ipv6Addr) = match self {
            Self::Forward => (REALS[0], REALS6[0]),
            _ => (VIP, VIP6),
        };
        let mut targets = vec![IpAddr::V4(four)];
        if self.has_ipv6() {
            targets.push(six.into());
        }
        targets
    }
}

/// What goes wrong at the active node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Its csmd or the whole node.
    Node(Fault),
    /// A link loses its frames silently.
    Cut(usize, Cut),
    /// A link loses its carrier.
    Carrier(usize),
    /// The router upstream, or the first server, has died as far as the node can see.
    Gateway(usize),
    /// The controller's tokio runtime stands still; its real-time thread does not.
    Stalled,
    /// All links lose all frames silently; csmd lives.
    Isolated,
    /// So many busy processes beside the two nodes' own.
    Starved(usize),
}

impl Trouble {
    /// What the process table and the operator can do.
    pub const OF_THE_NODE: [Self; 5] = [
        Self::Node(Fault::Kill),
        Self::Node(Fault::Stop),
        Self::Node(Fault::PowerOff),
        Self::Node(Fault::FtActive),
        Self::Node(Fault::Leave),
    ];
    /// What the network can do, and the machine.
    pub const AROUND_IT: [Self; 15] = [
        Self::Cut(CLIENT_LINK, Cut::Both),
        Self::Cut(CLIENT_LINK, Cut::FromNode),
        Self::Cut(CLIENT_LINK, Cut::ToNode),
        Self::Carrier(CLIENT_LINK),
        Self::Cut(SERVER_LINK, Cut::Both),
        Self::Cut(SERVER_LINK, Cut::FromNode),
        Self::Cut(SERVER_LINK, Cut::ToNode),
        Self::Carrier(SERVER_LINK),
        Self::Cut(FT_LINK, Cut::Both),
        Self::Cut(FT_LINK, Cut::FromNode),
        Self::Cut(FT_LINK, Cut::ToNode),
        Self::Gateway(CLIENT_LINK),
        Self::Stalled,
        Self::Isolated,
        Self::Starved(200),
    ];

    /// The name in the table.
    pub fn name(self) -> String {
        let link = |number: usize| ["client", "server", "FT"][number - 1];
        match self {
            Self::Node(fault) => fault.name().into(),
            Self::Cut(number, Cut::Both) => format!("{} link cut", link(number)),
            Self::Cut(number, Cut::FromNode) => format!("{} link cut from the node", link(number)),
            Self::Cut(number, Cut::ToNode) => format!("{} link cut to the node", link(number)),
            Self::Carrier(number) => format!("{} link down", link(number)),
            Self::Gateway(number) => format!("gateway on the {} side dead", link(number)),
            Self::Stalled => "runtime stalled".into(),
            Self::Isolated => "all links cut".into(),
            Self::Starved(processes) => format!("{processes} busy processes"),
        }
    }

    /// Whether the role has to move; `None`: it may.
    fn moves(self) -> Option<bool> {
        match self {
            Self::Node(_) | Self::Isolated | Self::Stalled | Self::Gateway(_) => Some(true),
            Self::Cut(FT_LINK, _) => Some(false),
            Self::Cut(..) | Self::Carrier(_) => Some(true),
            Self::Starved(_) => None,
        }
    }

    /// Whether it moves the role only by tracking, which needs preemption, as on the CSM.
    fn is_tracked(self) -> bool {
        match self {
            Self::Cut(number, _) => number != FT_LINK,
            Self::Carrier(_) | Self::Gateway(_) => true,
            Self::Node(_) | Self::Stalled | Self::Isolated | Self::Starved(_) => false,
        }
    }

    /// Whether a node has this link in that mode: `None` where the trouble does not exist.
    fn exists(self, mode: Mode) -> bool {
        match self {
            Self::Cut(number, _) => !(mode == Mode::OneArmed && number == SERVER_LINK),
            // A trunk's VLANs have one carrier, and power-off takes it.
            Self::Carrier(number) => {
                mode != Mode::Trunk && !(mode == Mode::OneArmed && number == SERVER_LINK)
            }
            _ => true,
        }
    }
}

/// A lab of one mode.
#[derive(Debug)]
pub struct Bench {
    /// The lab.
    pub lab: Lab,
    mode: Mode,
    traffic: Vec<(IpAddr, Traffic)>,
    connections: usize,
}

impl Bench {
    /// Raises a lab, starts both nodes, and `connections` long-lived connections with all other traffic in each family. With
    /// `preempt` the nodes track their router, the first server and their ports, so that trouble in the network moves the
    /// role.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn raise(
        mode: Mode,
        preempt: bool,
        timers: Timers,
        connections: usize,
        programs: Programs,
        out: PathBuf,
    ) -> Result<Self> {
        let wiring = mode.wiring();
        let tracking = if preempt { tracking(wiring) } else { String::new() };
        let options = Options {
            figure: Figure { timers, preempt, wiring },
            ipv6: mode.has_ipv6(),
            forwarding: mode.forwarding(),
            servers_own_vip: mode.forwarding() == Forwarding::Dispatch,
            group: [tracking.clone(), tracking],
            download: DOWNLOAD_BYTES,
            message_interval: Duration::from_millis(200),
            web_interval: Duration::from_millis(400),
            ..Options::small(programs, out)
        };
        let mut lab = Lab::build(options)?;
        if mode == Mode::Forward {
            let router = &lab.topology.router;
            router.ip(&[
                format!("route add 192.158.39.0/24 via {VIP}"),
                format!("route add fd00:39::/64 via {VIP6}"),
            ])?;
        }
        lab.start(timers.failover * 4 + Duration::from_secs(20))?;
        if preempt {
            lab.node(Side::A).wait_for(Role::Active, Duration::from_secs(30)).context("the better node")?;
            lab.node(Side::B).wait_for(Role::Standby, Duration::from_secs(30))?;
        }
        if mode.has_ipv6() {
            healthy6(&mut lab)?;
        }
        let mut traffic = Vec::new();
        for target in mode.targets() {
            traffic.push((target, Traffic::to(&lab, target, connections)?));
        }
        Ok(Self { lab, mode, traffic, connections })
    }

    /// Ends the traffic, takes the lab down and says what it left behind.
    ///
    /// # Errors
    /// When the leaks cannot be looked for.
    pub fn take_down(self) -> Result<Vec<String>> {
        drop(self.traffic);
        self.lab.take_down()
    }
}

fn tracking(wiring: Wiring) -> String {
    let server = wiring.reals()[0];
    let ports = if wiring.is_trunk() { 1..=1 } else { 1..=2 };
    let mut text = format!("  track gateway {ROUTER}\n");
    if wiring != Wiring::OneArmed {
        text += &format!("  track gateway {server}\n");
    }
    for port in ports.filter(|port| !(wiring == Wiring::OneArmed && *port == SERVER_LINK)) {
        text += &format!("  track interface eth{port}\n");
    }
    text + "  track interval msec 200\n  track retries 2\n"
}

/// No real is taken for healthy before its probe has passed, and IPv6's come later than IPv4's.
fn healthy6(lab: &mut Lab) -> Result<()> {
    wait::until(
        "healthy IPv6 reals on both nodes",
        Duration::from_secs(30),
        Duration::from_millis(100),
        || {
            for node in &lab.nodes {
                let reals = node.show("reals")?;
                let healthy = |farm: &str| {
                    let rows =
                        reals.as_array().into_iter().flatten().filter(|real| real["serverfarm"] == farm);
                    rows.filter(|real| real["state"] == "operational").count()
                };
                if !["WEB6", "MESSAGES6", "ECHO6"].into_iter().all(|farm| healthy(farm) == 3) {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        },
    )
}

/// The whole matrix: each mode's faults in one lab without preemption and one with it.
pub fn plan(modes: &[Mode]) -> Vec<(Mode, bool, Vec<Trouble>)> {
    let mut plan = Vec::new();
    for &mode in modes {
        let around = || Trouble::AROUND_IT.into_iter().filter(|trouble| trouble.exists(mode));
        let untracked = around().filter(|trouble| !trouble.is_tracked());
        plan.push((mode, false, Trouble::OF_THE_NODE.into_iter().chain(untracked).collect()));
        // A switchover on command needs preemption off, as on the CSM.
        let unplanned = [Fault::Kill, Fault::Stop, Fault::PowerOff].map(Trouble::Node);
        plan.push((mode, true, unplanned.into_iter().chain(around()).collect()));
    }
    plan
}
