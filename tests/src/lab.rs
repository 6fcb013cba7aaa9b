//! A whole lab: network, servers, two nodes, and the switch's eyes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::capture::Capture;
use crate::figure::{self, Figure, Forwarding, Timers};
use crate::netns::{self, LabId, Reaper};
use crate::node::{Fault, NegativeControl, Node};
use crate::ports::PortWatch;
use crate::programs::Programs;
use crate::service::{DOWNLOAD, Services};
use crate::status::{Role, Status};
use crate::topology::{Side, Topology, VIP, VIP6, Wiring};
use crate::traffic::download::Payload;
use crate::wait;

/// How to build a lab.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to run.
    pub programs: Programs,
    /// Timers of the FT group, and preemption.
    pub figure: Figure,
    /// A defect for both nodes.
    pub control: Option<NegativeControl>,
    /// Size in bytes of the file that the servers serve.
    pub download: u64,
    /// Pause between the messages that the message servers send.
    pub message_interval: Duration,
    /// Pause between the short requests of one client.
    pub web_interval: Duration,
    /// Where logs and captures go.
    pub out: PathBuf,
    /// More of `module csm`, for both nodes: pools, farms, virtual servers.
    pub services: String,
    /// Whether all of it speaks IPv6, too.
    pub ipv6: bool,
    /// More of `ft group`, for A and for B.
    pub group: [String; 2],
    /// Whether the servers own the VIP, which the [stand-in](crate::standin) and dispatch mode need.
    pub servers_own_vip: bool,
    /// What the farms do.
    pub forwarding: Forwarding,
}

impl Options {
    /// A small, fast lab that runs `programs`, for tests.
    pub fn small(programs: Programs, out: PathBuf) -> Self {
        let servers_own_vip = !programs.csmd.leading.is_empty();
        Self {
            programs,
            figure: Figure { timers: Timers::FAST, preempt: false, wiring: Wiring::Access },
            control: None,
            download: 20_000_000,
            message_interval: Duration::from_millis(100),
            web_interval: Duration::from_millis(50),
            out,
            services: String::new(),
            ipv6: false,
            group: [const { String::new() }; 2],
            servers_own_vip,
            forwarding: Forwarding::ServerNat,
        }
    }
}

/// The lab. Dropping it removes all of it; the order of the fields is the order in which that happens.
#[derive(Debug)]
pub struct Lab {
    /// A and B.
    pub nodes: [Node; 2],
    /// The switch's eyes for ARP and heartbeats.
    pub capture: Capture,
    /// The switch's eyes for who forwards.
    pub ports: PortWatch,
    /// The file that all servers serve.
    pub payload: Payload,
    /// How it was built.
    pub options: Options,
    services: Vec<Services>,
    /// The namespaces.
    pub topology: Topology,
    runtime: RuntimeDir,
    pins: BTreeSet<String>,
    _reaper: Reaper,
    /// Its name.
    pub id: LabId,
}

impl Lab {
    /// Builds the network and the servers; the nodes are not started.
    ///
    /// # Errors
    /// Without root or a program; what was made until then is removed.
    pub fn build(options: Options) -> Result<Self> {
        let id = LabId::unique();
        std::fs::create_dir_all(&options.out).with_context(|| options.out.display().to_string())?;
        let reaper = Reaper::start(&options.programs.csm_lab, &id)?;
        let runtime = RuntimeDir::create(id.runtime_dir())?;
        let topology = Topology::build(&id, options.figure.wiring)?;
        if options.ipv6 {
            topology.add_ipv6()?;
        }
        let web_root = runtime.0.join("www");
        std::fs::create_dir_all(&web_root)?;
        let payload = Payload::write(&web_root.join(DOWNLOAD), options.download)?;
        let capture = Capture::start(&topology.switch)?;
        let ports = PortWatch::start(&topology.switch)?;
        let mut services = Vec::new();
        for (n, (server, address)) in (1..).zip(topology.servers.iter().zip(options.figure.wiring.reals())) {
            if options.servers_own_vip {
                server.ip(&[format!("addr add {VIP}/32 dev lo")])?;
                server.sysctl("ipv4/conf/all/arp_ignore", "1")?;
            }
            let mut addresses6 = Vec::new();
            if options.ipv6 {
                addresses6.extend(options.figure.wiring.reals6().get(n - 1));
                if options.servers_own_vip {
                    server.sysctl("ipv6/conf/lo/disable_ipv6", "0")?;
                    server.ip(&[format!("addr add {VIP6}/128 dev lo nodad")])?;
                    addresses6.push(VIP6);
                }
            }
            let name = format!("s{n}");
            let directory = runtime.0.join(&name);
            let (csm_lab, pace) = (&options.programs.csm_lab, options.message_interval);
            services.push(Services::start(
                server,
                &name,
                (address, &addresses6),
                &directory,
                &web_root,
                csm_lab,
                pace,
            )?);
        }
        let node = |side: Side| {
            let (wiring, forwarding) = (options.figure.wiring, options.forwarding);
            let ipv6 = if options.ipv6 { figure::ipv6(side, wiring, forwarding) } else { String::new() };
            let text = options.figure.text_of(side, forwarding)
                + &options.group[side as usize]
                + &ipv6
                + &options.services;
            Node::new(side, &options.programs, &text, &runtime.0, &options.out, options.control)
        };
        let nodes = [node(Side::A)?, node(Side::B)?];
        Ok(Self {
            nodes,
            capture,
            ports,
            payload,
            options,
            services,
            topology,
            runtime,
            pins: pins(),
            _reaper: reaper,
            id,
        })
    }

    /// A node.
    pub fn node(&mut self, side: Side) -> &mut Node {
        &mut self.nodes[usize::from(side == Side::B)]
    }

    /// Starts both nodes at the same instant and waits until one is active and the other ready to take over. Returns the
    /// active one.
    ///
    /// # Errors
    /// With the nodes' own words when that does not happen within `limit`.
    pub fn start(&mut self, limit: Duration) -> Result<Side> {
        for node in &mut self.nodes {
            node.start(self.topology.node(node.side()))?;
        }
        // Looked at together: one that started earlier may be active for a moment, before it is preempted.
        self.wait_for_nodes("one active node and one ready standby", limit, |[a, b]| {
            let ready = |status: &Status| status.role == Role::Standby && status.ready;
            match (a.role, b.role) {
                (Role::Active, _) if ready(b) => Some(Side::A),
                (_, Role::Active) if ready(a) => Some(Side::B),
                _ => None,
            }
        })
    }

    /// Looks at both nodes' status until `look` finds something.
    fn wait_for_nodes<T>(
        &mut self,
        what: &str,
        limit: Duration,
        look: impl Fn([&Status; 2]) -> Option<T>,
    ) -> Result<T> {
        let nodes = &mut self.nodes;
        let found = wait::until(what, limit, Duration::from_millis(20), || {
            for node in nodes.iter_mut() {
                node.check_alive()?;
            }
            let [a, b] = nodes.each_ref().map(Node::status);
            Ok(a.ok().zip(b.ok()).and_then(|(a, b)| look([&a, &b])))
        });
        found.with_context(|| last_words(nodes))
    }

    /// The node that says it is active, once there is one.
    ///
    /// # Errors
    /// With the nodes' own words after `limit`, or at once when a csmd has ended by itself.
    pub fn wait_for_active(&mut self, limit: Duration) -> Result<Side> {
        let nodes = &mut self.nodes;
        let found = wait::until("an active node", limit, Duration::from_millis(20), || {
            for node in nodes.iter_mut() {
                node.check_alive()?;
            }
            Ok(nodes
                .iter()
                .find(|node| node.status().is_ok_and(|status| status.role == Role::Active))
                .map(Node::side))
        });
        found.with_context(|| last_words(nodes))
    }

    /// Applies a fault to a node and returns the moment of it, nanoseconds of CLOCK_MONOTONIC. A switchover that is
    /// refused because the peer's replica lags just then is commanded again, as its remedy says.
    ///
    /// # Errors
    /// With the node's own words.
    pub fn fail(&mut self, side: Side, fault: Fault) -> Result<u64> {
        let (nodes, topology) = (&mut self.nodes, &self.topology);
        let node = &mut nodes[usize::from(side == Side::B)];
        if fault != Fault::FtActive {
            return node.fail(fault, topology);
        }
        let mut refused = String::new();
        let taken = wait::until("a switchover", Duration::from_secs(20), Duration::from_millis(20), || {
            match node.fail(fault, topology) {
                Err(error) if format!("{error:#}").contains("not complete yet") => {
                    refused = format!("{error:#}");
                    Ok(None)
                }
                other => other.map(Some),
            }
        });
        taken.with_context(|| refused)
    }

    /// Undoes [`Lab::fail`]; the node then has to find its way back by itself.
    pub fn restore(&mut self, side: Side) -> Result<()> {
        self.nodes[usize::from(side == Side::B)].restore(&self.topology)
    }

    /// Path of a file among those that are kept.
    pub fn out(&self, name: &str) -> PathBuf {
        self.options.out.join(name)
    }

    /// The directory of sockets and servers.
    pub fn runtime(&self) -> &Path {
        &self.runtime.0
    }

    /// How to look at a node, one line each.
    pub fn ways_in(&self) -> Vec<String> {
        let way = |node: &Node| {
            let csm = node.csm();
            let words: Vec<String> = std::iter::once(csm.get_program())
                .chain(csm.get_args())
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            let netns = self.topology.node(node.side()).name();
            format!("nsenter --net=/run/netns/{netns} {} show module csm 5 ft", words.join(" "))
        };
        self.nodes.iter().map(way).collect()
    }

    /// Takes the lab down in order and says what it left behind; empty when nothing.
    ///
    /// # Errors
    /// When the leaks cannot be looked for.
    pub fn take_down(mut self) -> Result<Vec<String>> {
        let mut leaks = Vec::new();
        for node in &mut self.nodes {
            node.stop();
        }
        self.services.clear();
        for netns in self.topology.nodes.iter().chain(&self.topology.servers) {
            leaks.extend(netns.processes().iter().map(|pid| format!("process {pid} in {}", netns.name())));
        }
        leaks.extend(pins().difference(&self.pins).map(|pin| format!("pin {pin}")));
        let (id, runtime) = (self.id.clone(), self.runtime.0.clone());
        drop(self);
        leaks.extend(netns::leftovers(&id).iter().map(|name| format!("namespace {name}")));
        if runtime.exists() {
            leaks.push(format!("directory {}", runtime.display()));
        }
        Ok(leaks)
    }
}

fn last_words(nodes: &[Node]) -> String {
    nodes.iter().map(|node| format!("node {:?}:\n{}", node.side(), node.last_words())).collect()
}

/// What the product has pinned in the BPF file system, by its own names.
fn pins() -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir("/sys/fs/bpf") else { return BTreeSet::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("csm")).collect()
}

/// Removed on drop.
#[derive(Debug)]
struct RuntimeDir(PathBuf);

impl RuntimeDir {
    fn create(path: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
