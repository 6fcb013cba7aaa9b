//! The neighbour table: which next-hop number a host has, and what the maps are to say about it. Pure.
//!
//! Two kinds of hosts: *wanted* ones come from the configuration (gateways, reals) and stay as long as it names them;
//! *learned* ones come from traffic (clients on a connected network), are bounded in number, and make room again when
//! they stop answering and no connection refers to them. A MAC address once known stays in use until the kernel's
//! neighbour discovery proves it wrong: forwarding to a stale one is better than dropping.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use csm_common::limits::NEXTHOPS_MAX;
use ipnet::IpNet;

use crate::model::Host;
use crate::numbers::Numbers;

/// Most hosts that traffic alone can put into the table.
pub const LEARNED_MAX: usize = 16_384;

/// A port as the table needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopPort {
    /// Number in `TX_PORTS`.
    pub number: u32,
    /// Its VLAN.
    pub vlan: u16,
    /// Index of the interface on which the kernel takes part in it.
    pub ifindex: u32,
    /// Its MTU, octets of an IP packet.
    pub mtu: u16,
    /// Frames leave with the VLAN's tag.
    pub tagged: bool,
    /// The VLAN that it is bridged with.
    pub bridge: Option<u16>,
    /// This node's addresses and prefix lengths there: hosts outside of them are not neighbours.
    pub networks: [Option<IpNet>; 2],
}

/// How frames to a host are sent: a next hop of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The host.
    pub host: Host,
    /// Its MAC, if it is known.
    pub mac: Option<[u8; 6]>,
    /// What its frames carry as their source.
    pub source_mac: [u8; 6],
    /// Number of the port in `TX_PORTS`.
    pub port: u32,
    /// Its MTU, octets of an IP packet.
    pub mtu: u16,
    /// Frames leave with the VLAN's tag.
    pub tagged: bool,
}

/// State of a neighbour as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// It has this MAC (reachable, stale, being probed or permanent).
    Known([u8; 6]),
    /// It is asked for, and nothing is known yet.
    Asking,
    /// It does not answer.
    Failed,
    /// The kernel has dropped its entry.
    Forgotten,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write `NEXTHOPS`.
    SetNextHop(u32, Hop),
    /// Write `NEIGHBOURS`.
    SetNeighbour(Host, u32),
    /// Delete from `NEIGHBOURS`.
    RemoveNeighbour(Host),
    /// Have the kernel find the host on the interface.
    Resolve {
        /// Interface index.
        ifindex: u32,
        /// The host.
        address: IpAddr,
        /// Keep it found for ever (a `managed` neighbour); otherwise ask once.
        managed: bool,
    },
    /// Let the kernel forget it.
    Release(u32, IpAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    number: u32,
    mac: Option<[u8; 6]>,
    wanted: bool,
    /// Walk that was begun last when it was entered.
    entered: u64,
}

/// The table.
#[derive(Debug)]
pub struct NeighbourTable {
    source_mac: [u8; 6],
    ports: HashMap<u16, HopPort>,
    numbers: Numbers<Host>,
    hosts: HashMap<Host, Entry>,
    learned: usize,
    /// Number of the table walk that was begun last, see [`crate::numbers`].
    walk: u64,
    /// Hosts turned away because the table was full.
    pub refused: u64,
}

impl NeighbourTable {
    /// `source_mac` is what forwarded frames carry: the group's virtual MAC.
    #[must_use]
    pub fn new(source_mac: [u8; 6], ports: &[HopPort]) -> Self {
        Self {
            source_mac,
            ports: ports.iter().map(|port| (port.vlan, *port)).collect(),
            // 0 stands for "none" in routes.
            numbers: Numbers::new(1, NEXTHOPS_MAX),
            hosts: HashMap::new(),
            learned: 0,
            walk: 0,
            refused: 0,
        }
    }

    /// Hosts with their numbers and MACs as a controller before this one had them: their connections hold the numbers.
    /// Of a host that no port leads to any more only the number stays. Before anything else.
    pub fn adopt(&mut self, known: &[(Host, u32, Option<[u8; 6]>)]) -> Vec<Effect> {
        self.numbers =
            Numbers::restored(1, NEXTHOPS_MAX, known.iter().map(|(host, number, _)| (*number, *host)));
        let mut effects = Vec::new();
        for &(host, number, mac) in known {
            if self.numbers.get(&host) != Some(number) {
                continue;
            }
            if !self.ports.contains_key(&host.vlan) {
                effects.push(Effect::RemoveNeighbour(host));
                continue;
            }
            // In use again.
            let _number = self.numbers.assign(&host);
            self.learned += 1;
            self.write(host, Entry { number, mac, wanted: false, entered: 0 }, &mut effects);
            if mac.is_some() || self.is_bridged(host.vlan) {
                effects.push(Effect::SetNeighbour(host, number));
            }
            effects.extend(self.ask(&host));
        }
        effects
    }

    /// The configuration names these hosts now, and no others. Hosts it no longer names stay like learned ones for as
    /// long as they answer. Returns their numbers; a host on a VLAN without a port has none.
    pub fn want(&mut self, wanted: &HashSet<Host>) -> (HashMap<Host, u32>, Vec<Effect>) {
        let mut effects = Vec::new();
        for (key, host) in &mut self.hosts {
            if host.wanted && !wanted.contains(key) {
                host.wanted = false;
                self.learned += 1;
            }
        }
        let mut numbers = HashMap::new();
        for &key in wanted {
            if let Some(number) = self.enter(key, true, &mut effects) {
                numbers.insert(key, number);
            }
        }
        (numbers, effects)
    }

    /// The number of `key`, entering it as a learned host if need be; `None` if it is no neighbour or there is no room.
    pub fn learn(&mut self, key: Host) -> (Option<u32>, Vec<Effect>) {
        let mut effects = Vec::new();
        let number = self.enter(key, false, &mut effects);
        (number, effects)
    }

    /// `key` told `mac` in an ARP packet. Believed for a host whose MAC is not known and for a learned one; for a
    /// wanted one the kernel's own discovery decides, so that one forged packet cannot divert a server's traffic.
    pub fn heard(&mut self, key: Host, mac: [u8; 6]) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !is_unicast(mac) || self.enter(key, false, &mut effects).is_none() {
            return effects;
        }
        let believed = self.hosts.get(&key).is_some_and(|host| host.mac.is_none() || !host.wanted);
        if believed {
            self.resolved(key, mac, &mut effects);
        }
        effects
    }

    /// The kernel's discovery told of a host on interface `ifindex`.
    pub fn discovered(&mut self, ifindex: u32, address: IpAddr, state: Discovery) -> Vec<Effect> {
        let mut effects = Vec::new();
        // Two bridged VLANs share an interface; a host is on one of them.
        let ports = self.ports.values().filter(|port| port.ifindex == ifindex);
        let mut keys = ports.map(|port| Host { address, vlan: port.vlan });
        let Some((key, host)) = keys.find_map(|key| Some((key, *self.hosts.get(&key)?))) else {
            return effects;
        };
        match state {
            Discovery::Known(mac) if is_unicast(mac) => self.resolved(key, mac, &mut effects),
            Discovery::Known(_) | Discovery::Asking => {}
            Discovery::Failed if host.wanted => {
                if host.mac.is_some() {
                    self.write(key, Entry { mac: None, ..host }, &mut effects);
                    if !self.is_bridged(key.vlan) {
                        effects.push(Effect::RemoveNeighbour(key));
                    }
                }
            }
            Discovery::Failed => self.leave(key, &mut effects),
            // The kernel collects what it sees no traffic for; a learned host's MAC stays good, and changes are heard.
            Discovery::Forgotten if host.wanted => effects.extend(self.ask(&key)),
            Discovery::Forgotten if host.mac.is_none() => self.leave(key, &mut effects),
            Discovery::Forgotten => {}
        }
        effects
    }

    /// Interface `ifindex` has this MTU now.
    pub fn resized(&mut self, ifindex: u32, mtu: u16) -> Vec<Effect> {
        let mut vlans = HashSet::new();
        for port in self.ports.values_mut().filter(|port| port.ifindex == ifindex && port.mtu != mtu) {
            port.mtu = mtu;
            vlans.insert(port.vlan);
        }
        let there = self.hosts.iter().filter(|(key, _)| vlans.contains(&key.vlan));
        there.map(|(key, host)| Effect::SetNextHop(host.number, self.next_hop(*key, host.mac))).collect()
    }

    /// All hosts are to be asked for again: notifications were lost, or an interface came back.
    #[must_use]
    pub fn resolve_all(&self) -> Vec<Effect> {
        self.hosts.keys().filter_map(|key| self.ask(key)).collect()
    }

    /// A walk over the connections begins.
    pub fn walk_begins(&mut self, walk: u64) {
        self.walk = walk;
    }

    /// That walk has ended and met these next-hop numbers: the others of hosts that left are free again. When the table
    /// is more than half full, learned hosts that no connection refers to leave.
    pub fn walk_ended(&mut self, walk: u64, in_use: impl Fn(u32) -> bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.numbers.release(walk, &in_use);
        if self.learned > LEARNED_MAX / 2 {
            let idle = |host: &Entry| !host.wanted && host.entered < walk && !in_use(host.number);
            let leaving: Vec<Host> =
                self.hosts.iter().filter(|(_, host)| idle(host)).map(|(key, _)| *key).collect();
            for key in leaving {
                self.leave(key, &mut effects);
            }
        }
        effects
    }

    /// The number of `key` if it is in the table.
    #[must_use]
    pub fn number(&self, key: &Host) -> Option<u32> {
        self.hosts.get(key).map(|host| host.number)
    }

    /// Number and MAC of every host in the table.
    pub fn iter(&self) -> impl Iterator<Item = (Host, u32, Option<[u8; 6]>)> {
        self.hosts.iter().map(|(key, host)| (*key, host.number, host.mac))
    }

    /// The port that carries `vlan`.
    #[must_use]
    pub fn port(&self, vlan: u16) -> Option<&HopPort> {
        self.ports.get(&vlan)
    }

    fn enter(&mut self, key: Host, wanted: bool, effects: &mut Vec<Effect>) -> Option<u32> {
        if let Some(host) = self.hosts.get_mut(&key) {
            let number = host.number;
            if wanted && !host.wanted {
                host.wanted = true;
                self.learned -= 1;
                effects.extend(self.ask(&key));
            }
            return Some(number);
        }
        let port = *self.ports.get(&key.vlan)?;
        // A host is on one side of a bridge group: where it was seen first.
        if port.bridge.is_some_and(|other| self.hosts.contains_key(&Host { vlan: other, ..key })) {
            return None;
        }
        let address = key.address;
        if !wanted {
            let on_link =
                is_link_local(address) || port.networks.iter().flatten().any(|net| is_host_of(address, *net));
            if !on_link {
                return None;
            }
            if self.learned >= LEARNED_MAX {
                self.refused += 1;
                return None;
            }
        }
        let Some(number) = self.numbers.assign(&key) else {
            self.refused += 1;
            return None;
        };
        self.learned += usize::from(!wanted);
        self.write(key, Entry { number, mac: None, wanted, entered: self.walk }, effects);
        // On a bridged VLAN the program must know on which side to ask for it.
        if self.is_bridged(key.vlan) {
            effects.push(Effect::SetNeighbour(key, number));
        }
        effects.push(Effect::Resolve { ifindex: port.ifindex, address, managed: wanted });
        Some(number)
    }

    /// The next hop is written before `NEIGHBOURS` leads to it.
    fn resolved(&mut self, key: Host, mac: [u8; 6], effects: &mut Vec<Effect>) {
        let Some(&host) = self.hosts.get(&key) else { return };
        if host.mac == Some(mac) {
            return;
        }
        self.write(key, Entry { mac: Some(mac), ..host }, effects);
        if host.mac.is_none() {
            effects.push(Effect::SetNeighbour(key, host.number));
        }
    }

    fn leave(&mut self, key: Host, effects: &mut Vec<Effect>) {
        let Some(host) = self.hosts.remove(&key) else { return };
        self.learned -= 1;
        self.numbers.retire(&key, self.walk);
        effects.push(Effect::RemoveNeighbour(key));
        effects.push(Effect::SetNextHop(host.number, self.next_hop(key, None)));
        if let Some(port) = self.ports.get(&key.vlan) {
            effects.push(Effect::Release(port.ifindex, key.address));
        }
    }

    fn write(&mut self, key: Host, host: Entry, effects: &mut Vec<Effect>) {
        self.hosts.insert(key, host);
        effects.push(Effect::SetNextHop(host.number, self.next_hop(key, host.mac)));
    }

    fn next_hop(&self, host: Host, mac: Option<[u8; 6]>) -> Hop {
        let port = self.ports.get(&host.vlan);
        Hop {
            host,
            mac,
            source_mac: self.source_mac,
            port: port.map_or(0, |port| port.number),
            mtu: port.map_or(0, |port| port.mtu),
            tagged: port.is_some_and(|port| port.tagged),
        }
    }

    fn is_bridged(&self, vlan: u16) -> bool {
        self.ports.get(&vlan).is_some_and(|port| port.bridge.is_some())
    }

    fn ask(&self, key: &Host) -> Option<Effect> {
        let (port, host) = (self.ports.get(&key.vlan)?, self.hosts.get(key)?);
        Some(Effect::Resolve { ifindex: port.ifindex, address: key.address, managed: host.wanted })
    }
}

/// Neither this node's address nor one that is no single host's: in IPv6 only the network's own is not (RFC 4291, section
/// 2.6.1).
fn is_host_of(address: IpAddr, net: IpNet) -> bool {
    let broadcast = matches!(net, IpNet::V4(net) if address == net.broadcast());
    net.contains(&address) && address != net.addr() && address != net.network() && !broadcast
}

/// On every VLAN there may be one: a router of the other hosts.
const fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

const fn is_unicast(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 0 && !matches!(mac, [0, 0, 0, 0, 0, 0])
}

#[cfg(test)]
mod tests;
