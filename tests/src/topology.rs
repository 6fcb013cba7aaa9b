//! The network of Figure 7-1 in namespaces: two nodes, a switch with one learning bridge per VLAN, the upstream router
//! with the clients behind it, and the servers.
//!
//! ```text
//!            client 10.20.0.100-199
//!               │
//!            router 10.20.0.1 / 192.158.38.20
//!               │
//!   ════════════╪══════════ VLAN 2, 192.158.38.0/24 ═══
//!     │eth1 .10             │eth1 .40
//!   node a ───eth3═VLAN 9═eth3─── node b          VIP 192.158.38.30, alias 192.158.39.20
//!     │eth2 .10             │eth2 .30
//!   ════╤══════════╤════════╧═ VLAN 3, 192.158.39.0/24 ═
//!      s1 .101    s2 .102    s3 .103
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use nix::net::if_::if_nametoindex;

use crate::link;
use crate::netns::{LabId, Netns};
use crate::trunk::Trunk;

/// The virtual server's address.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 30);
/// The servers' default gateway, an address of the FT group.
pub const ALIAS: Ipv4Addr = Ipv4Addr::new(192, 158, 39, 20);
/// The upstream router on VLAN 2.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 20);
/// The real servers, in the order of [`Topology::servers`].
pub const REALS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 158, 39, 101), Ipv4Addr::new(192, 158, 39, 102), Ipv4Addr::new(192, 158, 39, 103)];
/// How many addresses the client namespace has.
pub const CLIENTS: u8 = 100;
/// VLANs in the order of a node's interfaces eth1, eth2, eth3.
pub const VLANS: [u16; 3] = [2, 3, 9];

/// The virtual servers' IPv6 address.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x38, 0, 0, 0, 0, 0, 0x30);
/// The servers' default gateway in IPv6.
pub const ALIAS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x39, 0, 0, 0, 0, 0, 0x20);
/// The upstream router on VLAN 2.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x38, 0, 0, 0, 0, 0, 0x1);
/// The real servers.
pub const REALS6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0x39, 0, 0, 0, 0, 0, 0x101),
    Ipv6Addr::new(0xfd00, 0x39, 0, 0, 0, 0, 0, 0x102),
    Ipv6Addr::new(0xfd00, 0x39, 0, 0, 0, 0, 0, 0x103),
];

/// The `index`-th client address, modulo [`CLIENTS`].
pub fn client(index: usize) -> Ipv4Addr {
    let offset = u8::try_from(index % usize::from(CLIENTS)).unwrap_or(0);
    Ipv4Addr::new(10, 20, 0, 100 + offset)
}

/// The `index`-th client's IPv6 address, modulo [`CLIENTS`].
pub fn client6(index: usize) -> Ipv6Addr {
    let offset = u16::try_from(index % usize::from(CLIENTS)).unwrap_or(0);
    Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 0x100 + offset)
}

/// The first `count` clients' addresses of the family of `target`.
pub fn clients(target: IpAddr, count: usize) -> Vec<IpAddr> {
    let client = |index| match target {
        IpAddr::V4(_) => client(index).into(),
        IpAddr::V6(_) => client6(index).into(),
    };
    (0..count).map(client).collect()
}

/// How the nodes are connected to the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// An access port for each VLAN: eth1, eth2, eth3.
    Access,
    /// All VLANs on one trunk, eth1.
    Trunk,
    /// As `Access`; the servers are in the clients' network, and the active node bridges.
    Bridge,
    /// As `Bridge`, on one trunk.
    BridgeOnTrunk,
    /// As `Access`; clients and servers are both on the client VLAN, and eth2 is not used.
    OneArmed,
}

impl Wiring {
    /// Whether the nodes have a trunk.
    pub fn is_trunk(self) -> bool {
        matches!(self, Self::Trunk | Self::BridgeOnTrunk)
    }

    /// Whether client and server side are one network.
    pub fn is_bridge(self) -> bool {
        matches!(self, Self::Bridge | Self::BridgeOnTrunk)
    }

    /// Whether the real servers' addresses are of the clients' network.
    fn servers_near(self) -> bool {
        self.is_bridge() || self == Self::OneArmed
    }

    /// The real servers' addresses.
    pub fn reals(self) -> [Ipv4Addr; 3] {
        match self.servers_near() {
            true => [101, 102, 103].map(|host| Ipv4Addr::new(192, 158, 38, host)),
            false => REALS,
        }
    }

    /// The real servers' IPv6 addresses.
    pub fn reals6(self) -> [Ipv6Addr; 3] {
        match self.servers_near() {
            true => [0x101, 0x102, 0x103].map(|host| Ipv6Addr::new(0xfd00, 0x38, 0, 0, 0, 0, 0, host)),
            false => REALS6,
        }
    }
}

/// One of the two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Side {
    /// The node with the higher configured priority.
    A,
    /// Its peer.
    B,
}

impl Side {
    /// Both, A first.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    pub fn peer(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// `a` or `b`, as in the names of namespaces and switch ports.
    pub fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }

    /// Own addresses on VLAN 2 and VLAN 3.
    pub fn addresses(self) -> [Ipv4Addr; 2] {
        match self {
            Self::A => [Ipv4Addr::new(192, 158, 38, 10), Ipv4Addr::new(192, 158, 39, 10)],
            Self::B => [Ipv4Addr::new(192, 158, 38, 40), Ipv4Addr::new(192, 158, 39, 30)],
        }
    }

    /// Own IPv6 addresses on VLAN 2 and VLAN 3.
    pub fn addresses6(self) -> [Ipv6Addr; 2] {
        let host = if self == Self::A { 0xa } else { 0xb };
        [0x38, 0x39].map(|net| Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, host))
    }

    /// The switch's port towards this node's interface `eth1`, `eth2` or `eth3` (1 to 3).
    pub fn port(self, interface: usize) -> String {
        format!("sw-{}{interface}", self.letter())
    }

    /// The switch's port towards this node's trunk.
    pub fn trunk(self) -> String {
        format!("trunk-{}", self.letter())
    }

    /// The switch's inner end of a trunk's VLAN, whose other end is [`Side::port`].
    fn tag(self, interface: usize) -> String {
        format!("tag-{}{interface}", self.letter())
    }
}

/// The namespaces, wired and addressed, with nothing running in them.
#[derive(Debug)]
pub struct Topology {
    /// All bridges; its ports towards the nodes are `sw-a1` ... `sw-b3`, named after the node and its interface.
    pub switch: Netns,
    /// Nodes A and B.
    pub nodes: [Netns; 2],
    /// Between the clients' network and VLAN 2.
    pub router: Netns,
    /// All clients.
    pub client: Netns,
    /// The real servers.
    pub servers: Vec<Netns>,
    wiring: Wiring,
    /// Of nodes A and B, if they are connected so.
    trunks: Vec<Trunk>,
}

impl Topology {
    /// Builds everything.
    ///
    /// # Errors
    /// Without root or iproute2; what was made until then is removed.
    pub fn build(lab: &LabId, wiring: Wiring) -> Result<Self> {
        let mut made = Self {
            switch: Netns::create(lab, "switch")?,
            nodes: [Netns::create(lab, "a")?, Netns::create(lab, "b")?],
            router: Netns::create(lab, "router")?,
            client: Netns::create(lab, "client")?,
            servers: (1..=REALS.len())
                .map(|n| Netns::create(lab, &format!("s{n}")))
                .collect::<Result<_>>()?,
            wiring,
            trunks: Vec::new(),
        };
        made.prepare_kernels()?;
        made.wire()?;
        made.address_endpoints()?;
        made.address_nodes()?;
        Ok(made)
    }

    /// The namespace of a node.
    pub fn node(&self, side: Side) -> &Netns {
        match side {
            Side::A => &self.nodes[0],
            Side::B => &self.nodes[1],
        }
    }

    /// Sets the state, `up` or `down`, of all links of a node, at the switch.
    ///
    /// # Errors
    /// Of `ip`.
    pub fn uplinks(&self, side: Side, state: &str) -> Result<()> {
        let ports = match self.wiring {
            Wiring::Access | Wiring::Bridge | Wiring::OneArmed => {
                (1..=3).map(|interface| side.port(interface)).collect()
            }
            Wiring::Trunk | Wiring::BridgeOnTrunk => vec![side.trunk()],
        };
        let lines: Vec<_> = ports.iter().map(|port| format!("link set dev {port} {state}")).collect();
        self.switch.ip(&lines)
    }

    /// Sysctls that must be set before the first link exists.
    fn prepare_kernels(&self) -> Result<()> {
        for node in &self.nodes {
            // With duplicate address detection the first FT datagram leaves 1.2 to 2 s after link-up.
            for scope in ["all", "default"] {
                node.sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
            }
            node.sysctl("ipv4/ip_forward", "0")?;
        }
        for quiet in [&self.switch, &self.router, &self.client].into_iter().chain(&self.servers) {
            quiet.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
            quiet.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        }
        self.router.sysctl("ipv4/ip_forward", "1")
    }

    /// Bridges and veth pairs. Both ends get explicit, different interface indices: equal ones delay carrier events by
    /// up to a second.
    fn wire(&mut self) -> Result<()> {
        let mut lines: Vec<String> = VLANS
            .iter()
            .map(|vlan| format!("link add name vlan{vlan} type bridge stp_state 0 mcast_snooping 0"))
            .collect();
        let mut ports = Vec::new();
        let mut index = 100;
        let mut plug = |port: String, vlan: u16, inside: &str, netns: &Netns| {
            index += 2;
            lines.push(format!(
                "link add name {port} index {index} type veth peer name {inside} index {} netns {}",
                index + 100,
                netns.name()
            ));
            if vlan != 0 {
                lines.push(format!("link set dev {port} master vlan{vlan}"));
            }
            lines.push(format!("link set dev {port} up"));
            ports.push(port);
        };
        for side in Side::BOTH {
            for (interface, vlan) in (1..).zip(VLANS) {
                match self.wiring.is_trunk() {
                    false => plug(side.port(interface), vlan, &format!("eth{interface}"), self.node(side)),
                    true => plug(side.port(interface), vlan, &side.tag(interface), &self.switch),
                }
            }
            if self.wiring.is_trunk() {
                plug(side.trunk(), 0, "eth1", self.node(side));
            }
        }
        plug("sw-router".into(), 2, "eth0", &self.router);
        for (n, server) in (1..).zip(&self.servers) {
            let vlan = if self.wiring == Wiring::OneArmed { 2 } else { 3 };
            plug(format!("sw-s{n}"), vlan, "eth0", server);
        }
        lines.extend(VLANS.iter().map(|vlan| format!("link set dev vlan{vlan} up")));
        self.switch.ip(&lines)?;
        let facing = |port: &String| {
            ["sw-a", "sw-b", "trunk-"].into_iter().any(|beginning| port.starts_with(beginning))
        };
        let (balancers, endpoints): (Vec<_>, Vec<_>) = ports.into_iter().partition(facing);
        link::offloads(&self.switch, &balancers, true)?;
        link::offloads(&self.switch, &endpoints, false)?;
        if self.wiring.is_trunk() {
            self.trunks = Side::BOTH.map(|side| self.tag(side)).into_iter().collect::<Result<_>>()?;
        }
        Ok(())
    }

    fn tag(&self, side: Side) -> Result<Trunk> {
        let trunk = side.trunk();
        let lines: Vec<_> = (1..=VLANS.len()).map(|n| format!("link set dev {} up", side.tag(n))).collect();
        self.switch.ip(&lines)?;
        link::tags_in_frames(&self.switch, &trunk)?;
        let index = |name: &str| -> Result<u32> { Ok(self.switch.within(|| if_nametoindex(name))??) };
        let members = (1..).zip(VLANS).map(|(n, vlan)| Ok((vlan, index(&side.tag(n))?)));
        Trunk::start(&self.switch, index(&trunk)?, &members.collect::<Result<Vec<_>>>()?)
    }

    fn address_endpoints(&self) -> Result<()> {
        self.router.ip(&[
            format!(
                "link add name eth1 index 21 type veth peer name eth0 index 22 netns {}",
                self.client.name()
            ),
            format!("addr add {ROUTER}/24 dev eth0"),
            "addr add 10.20.0.1/24 dev eth1".into(),
            "link set dev eth0 up".into(),
            "link set dev eth1 up".into(),
        ])?;
        let mut lines: Vec<String> = (0..usize::from(CLIENTS))
            .map(|index| format!("addr add {}/24 dev eth0", client(index)))
            .collect();
        lines.push("link set dev eth0 up".into());
        lines.push("route add default via 10.20.0.1".into());
        self.client.ip(&lines)?;
        let gateway = if self.wiring.servers_near() { ROUTER } else { ALIAS };
        for (server, address) in self.servers.iter().zip(self.wiring.reals()) {
            server.ip(&[
                format!("addr add {address}/24 dev eth0"),
                "link set dev eth0 up".into(),
                format!("route add default via {gateway}"),
            ])?;
            link::offloads(server, &["eth0".into()], false)?;
        }
        link::offloads(&self.router, &["eth0".into(), "eth1".into()], false)?;
        link::offloads(&self.client, &["eth0".into()], false)
    }

    /// Gives router, clients and servers IPv6 beside IPv4. The nodes' own addresses are csmd's to give.
    ///
    /// # Errors
    /// Of `ip`.
    pub fn add_ipv6(&self) -> Result<()> {
        for (netns, device) in [(&self.router, "eth0"), (&self.router, "eth1"), (&self.client, "eth0")]
            .into_iter()
            .chain(self.servers.iter().map(|server| (server, "eth0")))
        {
            // Its own check for duplicates takes longer than a takeover.
            netns.sysctl(&format!("ipv6/conf/{device}/accept_dad"), "0")?;
            netns.sysctl(&format!("ipv6/conf/{device}/disable_ipv6"), "0")?;
        }
        self.router.sysctl("ipv6/conf/all/forwarding", "1")?;
        self.router.ip(&[
            format!("addr add {ROUTER6}/64 dev eth0 nodad"),
            "addr add fd00:20::1/64 dev eth1 nodad".into(),
        ])?;
        let mut lines: Vec<String> = (0..usize::from(CLIENTS))
            .map(|index| format!("addr add {}/64 dev eth0 nodad", client6(index)))
            .collect();
        lines.push("route add default via fd00:20::1".into());
        self.client.ip(&lines)?;
        let gateway = if self.wiring.servers_near() { ROUTER6 } else { ALIAS6 };
        for (server, address) in self.servers.iter().zip(self.wiring.reals6()) {
            server.ip(&[
                format!("addr add {address}/64 dev eth0 nodad"),
                format!("route add default via {gateway}"),
            ])?;
        }
        Ok(())
    }

    /// Each node's own addresses, as the administrator of a real host would have set them.
    fn address_nodes(&self) -> Result<()> {
        for side in Side::BOTH {
            if self.wiring != Wiring::Access {
                // The addresses are csmd's to give: there is no interface for them yet.
                let ports = if self.wiring.is_trunk() { 1 } else { VLANS.len() };
                let lines: Vec<_> = (1..=ports).map(|port| format!("link set dev eth{port} up")).collect();
                self.node(side).ip(&lines)?;
                continue;
            }
            let [on_vlan2, on_vlan3] = side.addresses();
            self.node(side).ip(&[
                format!("addr add {on_vlan2}/24 dev eth1"),
                format!("addr add {on_vlan3}/24 dev eth2"),
                "link set dev eth1 up".into(),
                "link set dev eth2 up".into(),
                "link set dev eth3 up".into(),
            ])?;
        }
        Ok(())
    }
}
