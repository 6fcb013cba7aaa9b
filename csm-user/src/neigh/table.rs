//! The neighbour table: which next-hop number a host has, and what the maps are to say about it. Pure.
//!
//! Two kinds of hosts: *wanted* ones come from the configuration (gateways, reals) and stay as long as it names them;
//! *learned* ones come from traffic (clients on a connected network), are bounded in number, and make room again when
//! they stop answering and no connection refers to them. A MAC address once known stays in use until the kernel's
//! neighbour discovery proves it wrong: forwarding to a stale one is better than dropping.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use csm_common::limits::{NEXTHOPS_MAX, TUNNELS_MAX};
use ipnet::IpNet;

use crate::model::{Host, Tunnel};
use crate::numbers::Numbers;

/// Most hosts that traffic alone can put into the table.
pub const LEARNED_MAX: usize = 16_384;
/// How long a router's word on the length of a tunnel's packets counts (RFC 1191, section 6.3).
const NARROW_FOR: Duration = Duration::from_secs(600);
/// Shortest lengths that are believed, of IPv4 and of IPv6: what every host takes (RFC 791; RFC 8200, section 5).
const NARROWEST: [u16; 2] = [576, 1280];

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
    /// What packets are put into, and the number of that in `TUNNELS`.
    pub tunnel: Option<(u16, Tunnel)>,
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
    /// Have the kernel take it for found for ever, with this MAC, on the interface.
    Pin(u32, IpAddr, [u8; 6]),
    /// Let the kernel forget it.
    Release(u32, IpAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    number: u32,
    mac: Option<[u8; 6]>,
    wanted: bool,
    /// Did not answer when it was last asked for.
    failed: bool,
    /// Walk that was begun last when it was entered.
    entered: u64,
}

/// A way through a tunnel: it has a number of its own, and the MAC address of the neighbour that it begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    number: u32,
    /// In `TUNNELS`.
    tunnel: u16,
}

/// A next hop as a controller before this one had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The host, and the tunnel that begins there.
    pub host: Host,
    /// Number in `NEXTHOPS`.
    pub number: u32,
    /// Its MAC, if it was known.
    pub mac: Option<[u8; 6]>,
    /// Of a way through a tunnel: number in `TUNNELS`.
    pub tunnel: Option<u16>,
}

/// The table.
#[derive(Debug)]
pub struct NeighbourTable {
    source_mac: [u8; 6],
    /// By VLAN, where it is another one.
    other_sources: HashMap<u16, [u8; 6]>,
    ports: HashMap<u16, HopPort>,
    numbers: Numbers<Host>,
    hosts: HashMap<Host, Entry>,
    ways: HashMap<Host, Way>,
    tunnels: Numbers<Host>,
    /// Far ends of tunnels with a narrow link on the way: what it takes, and when that was heard.
    narrow: HashMap<IpAddr, (u16, Duration)>,
    /// Hosts whose MAC the configuration knows.
    fixed: HashMap<Host, [u8; 6]>,
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
            other_sources: HashMap::new(),
            ports: ports.iter().map(|port| (port.vlan, *port)).collect(),
            // 0 stands for "none" in routes.
            numbers: Numbers::new(1, NEXTHOPS_MAX),
            hosts: HashMap::new(),
            ways: HashMap::new(),
            tunnels: Numbers::new(1, TUNNELS_MAX),
            narrow: HashMap::new(),
            fixed: HashMap::new(),
            learned: 0,
            walk: 0,
            refused: 0,
        }
    }

    /// Hosts with their numbers and MACs as a controller before this one had them: their connections hold the numbers.
    /// Of a host that no port leads to any more, or that had left, only the number stays. Before anything else.
    pub fn adopt(&mut self, known: &[Known]) -> Vec<Effect> {
        let mut effects = Vec::new();
        // A host that left may have come back under another number.
        let mut known = known.to_vec();
        known.sort_by_key(|one| (one.mac.is_none(), one.number));
        self.numbers = Numbers::restored(1, NEXTHOPS_MAX, known.iter().map(|one| (one.number, one.host)));
        let tunnels = known.iter().filter_map(|one| Some((u32::from(one.tunnel?), one.host)));
        self.tunnels = Numbers::restored(1, TUNNELS_MAX, tunnels);
        for Known { host, number, mac, tunnel } in known {
            if self.numbers.get(&host) != Some(number) {
                continue;
            }
            if let Some(tunnel) = tunnel {
                // It leads where it led until the number of its way is free.
                let _index = self.tunnels.assign(&host);
                self.ways.insert(host, Way { number, tunnel });
                continue;
            }
            if mac.is_none() || !self.ports.contains_key(&host.vlan) {
                effects.push(Effect::RemoveNeighbour(host));
                effects.push(Effect::SetNextHop(number, self.next_hop(host, None)));
                continue;
            }
            // In use again.
            let _number = self.numbers.assign(&host);
            self.learned += 1;
            let entry = Entry { number, mac, wanted: false, failed: false, entered: 0 };
            self.write(host, entry, &mut effects);
            effects.push(Effect::SetNeighbour(host, number));
            effects.extend(self.ask(&host));
        }
        // What they begin at is known only now: its port and MTU may be others than before.
        let ways = self.ways.iter().filter_map(|(key, way)| self.set_way(*key, *way));
        effects.extend(ways);
        effects
    }

    /// The configuration names these hosts now, and no others; of each way through a tunnel the neighbour that it begins
    /// at, too. Hosts it no longer names stay like learned ones for as
    /// long as they answer. Returns their numbers; a host on a VLAN without a port has none.
    pub fn want(&mut self, wanted: &HashSet<Host>) -> (HashMap<Host, u32>, Vec<Effect>) {
        let mut effects = Vec::new();
        let fixed = self.fixed.keys().copied();
        let named: HashSet<Host> = wanted.iter().map(|host| host.neighbour()).chain(fixed).collect();
        for key in self.ways.keys().filter(|key| !wanted.contains(key)) {
            self.numbers.retire(key, self.walk);
        }
        for (key, host) in &mut self.hosts {
            if host.wanted && !named.contains(key) {
                host.wanted = false;
                self.learned += 1;
            }
        }
        let mut numbers = HashMap::new();
        for &key in wanted {
            let number = self.enter(key.neighbour(), true, &mut effects);
            let number = number.and_then(|number| match key.tunnel {
                None => Some(number),
                Some(tunnel) => self.enter_way(key, tunnel, &mut effects),
            });
            numbers.extend(number.map(|number| (key, number)));
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
        let believed = !self.fixed.contains_key(&key)
            && self.hosts.get(&key).is_some_and(|host| host.mac.is_none() || !host.wanted);
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
        let mut keys = ports.map(|port| Host::on(address, port.vlan));
        let Some((key, host)) = keys.find_map(|key| Some((key, *self.hosts.get(&key)?))) else {
            return effects;
        };
        if self.fixed.contains_key(&key) {
            return effects;
        }
        match state {
            Discovery::Known(mac) if is_unicast(mac) => self.resolved(key, mac, &mut effects),
            Discovery::Known(_) | Discovery::Asking => {}
            Discovery::Failed if host.wanted => {
                let silent = Entry { mac: None, failed: true, ..host };
                self.hosts.insert(key, silent);
                if host.mac.is_some() {
                    self.write(key, silent, &mut effects);
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
        self.write_all(|vlan| vlans.contains(&vlan))
    }

    /// Frames on `vlan` carry `mac` as their source from now on; `None`: what those of the other VLANs carry.
    pub fn set_source(&mut self, vlan: u16, mac: Option<[u8; 6]>) -> Vec<Effect> {
        let before = match mac {
            Some(mac) => self.other_sources.insert(vlan, mac),
            None => self.other_sources.remove(&vlan),
        };
        if before == mac { Vec::new() } else { self.write_all(|known| known == vlan) }
    }

    /// Writes the next hops of all hosts on these VLANs anew.
    pub(super) fn write_all(&self, on: impl Fn(u16) -> bool) -> Vec<Effect> {
        let there = self.hosts.iter().filter(|(key, _)| on(key.vlan));
        there.flat_map(|(key, host)| self.set(*key, host.number, host.mac)).collect()
    }

    /// A router on the way to `remote` takes packets of at most `mtu` octets, it says at `now`. Of no tunnel's far end, or too short
    /// to be true, it is ignored.
    pub fn narrow(&mut self, remote: IpAddr, mtu: u16, now: Duration) -> Vec<Effect> {
        let least = if remote.is_ipv4() { NARROWEST[0] } else { NARROWEST[1] };
        let is_it = |way: &Host| way.tunnel.is_some_and(|tunnel| tunnel.remote == remote);
        if mtu < least || !self.ways.keys().any(is_it) {
            return Vec::new();
        }
        let before = self.narrow.insert(remote, (mtu, now));
        if before.is_some_and(|(known, _)| known == mtu) { Vec::new() } else { self.rewrite(remote) }
    }

    /// Forgets what routers said long before `now`.
    pub fn widen(&mut self, now: Duration) -> Vec<Effect> {
        let old = self.narrow.iter().filter(|(_, (_, heard))| now.saturating_sub(*heard) > NARROW_FOR);
        let old: Vec<IpAddr> = old.map(|(remote, _)| *remote).collect();
        old.into_iter()
            .flat_map(|remote| {
                self.narrow.remove(&remote);
                self.rewrite(remote)
            })
            .collect()
    }

    /// Writes the ways to `remote` anew.
    fn rewrite(&self, remote: IpAddr) -> Vec<Effect> {
        let leads_there = |key: &Host| key.tunnel.is_some_and(|tunnel| tunnel.remote == remote);
        let there = self.ways.iter().filter(|(key, _)| leads_there(key));
        there.filter_map(|(key, way)| self.set_way(*key, *way)).collect()
    }

    /// Writes the next hop of a way, with what is known of the neighbour that it begins at.
    fn set_way(&self, key: Host, way: Way) -> Option<Effect> {
        let mac = self.hosts.get(&key.neighbour()).and_then(|host| host.mac);
        Some(Effect::SetNextHop(way.number, self.way_to(key, way.tunnel, key.tunnel?, mac)))
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
        for (_, key) in self.numbers.release(walk, &in_use) {
            // No connection knows a tunnel but by its way's number.
            if self.ways.remove(&key).is_some() {
                self.tunnels.retire(&key, 0);
            }
        }
        self.tunnels.release(walk, |_| false);
        if self.learned > LEARNED_MAX / 2 {
            // A way that connections go is of no use without the neighbour it begins at.
            let begins: HashSet<Host> = self
                .ways
                .iter()
                .filter(|(_, way)| in_use(way.number))
                .map(|(key, _)| key.neighbour())
                .collect();
            let idle = |key: &Host, host: &Entry| {
                !host.wanted && host.entered < walk && !in_use(host.number) && !begins.contains(key)
            };
            let leaving: Vec<Host> =
                self.hosts.iter().filter(|(key, host)| idle(key, host)).map(|(key, _)| *key).collect();
            for key in leaving {
                self.leave(key, &mut effects);
            }
        }
        effects
    }

    /// The number of `key` if it is in the table.
    #[must_use]
    pub fn number(&self, key: &Host) -> Option<u32> {
        self.hosts.get(key).map(|host| host.number).or_else(|| self.ways.get(key).map(|way| way.number))
    }

    /// Number and MAC of every host in the table, and of every way through a tunnel.
    pub fn iter(&self) -> impl Iterator<Item = (Host, u32, Option<[u8; 6]>)> {
        let mac = |key: &Host| self.hosts.get(&key.neighbour()).and_then(|host| host.mac);
        let ways = self.ways.iter().map(move |(key, way)| (*key, way.number, mac(key)));
        self.hosts.iter().map(|(key, host)| (*key, host.number, host.mac)).chain(ways)
    }

    /// The hosts that the configuration names and that do not answer.
    pub fn silent(&self) -> impl Iterator<Item = Host> {
        self.hosts.iter().filter(|(_, host)| host.wanted && host.failed).map(|(key, _)| *key)
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
        let entry = Entry { number, mac: None, wanted, failed: false, entered: self.walk };
        self.write(key, entry, effects);
        // On a bridged VLAN the program must know on which side to ask for it.
        if self.is_bridged(key.vlan) {
            effects.push(Effect::SetNeighbour(key, number));
        }
        effects.extend(self.ask(&key));
        Some(number)
    }

    /// The number of the way through `tunnel` that begins at the neighbour of `key`, which is in the table.
    fn enter_way(&mut self, key: Host, tunnel: Tunnel, effects: &mut Vec<Effect>) -> Option<u32> {
        if let Some(&way) = self.ways.get(&key) {
            effects.extend(self.set_way(key, way));
            // Not retired any more.
            return self.numbers.assign(&key);
        }
        let index = self.tunnels.assign(&key).and_then(|index| u16::try_from(index).ok());
        let numbers = index.and_then(|index| Some((index, self.numbers.assign(&key)?)));
        let Some((index, number)) = numbers else {
            self.refused += 1;
            return None;
        };
        self.ways.insert(key, Way { number, tunnel: index });
        let mac = self.hosts.get(&key.neighbour()).and_then(|host| host.mac);
        effects.push(Effect::SetNextHop(number, self.way_to(key, index, tunnel, mac)));
        Some(number)
    }

    /// The next hop is written before `NEIGHBOURS` leads to it.
    fn resolved(&mut self, key: Host, mac: [u8; 6], effects: &mut Vec<Effect>) {
        let Some(&host) = self.hosts.get(&key) else { return };
        if host.mac == Some(mac) {
            return;
        }
        self.write(key, Entry { mac: Some(mac), failed: false, ..host }, effects);
        if host.mac.is_none() {
            effects.push(Effect::SetNeighbour(key, host.number));
        }
    }

    fn leave(&mut self, key: Host, effects: &mut Vec<Effect>) {
        let Some(host) = self.hosts.remove(&key) else { return };
        self.learned -= 1;
        self.numbers.retire(&key, self.walk);
        effects.push(Effect::RemoveNeighbour(key));
        effects.extend(self.set(key, host.number, None));
        if let Some(port) = self.ports.get(&key.vlan) {
            effects.push(Effect::Release(port.ifindex, key.address));
        }
    }

    fn write(&mut self, key: Host, host: Entry, effects: &mut Vec<Effect>) {
        self.hosts.insert(key, host);
        effects.extend(self.set(key, host.number, host.mac));
    }

    /// Writes the next hop of `key`, and those of the ways through tunnels that begin there.
    fn set(&self, key: Host, number: u32, mac: Option<[u8; 6]>) -> Vec<Effect> {
        let ways = self.ways.iter().filter(|(way, _)| way.neighbour() == key);
        let ways = ways.filter_map(|(way, known)| {
            let hop = self.way_to(*way, known.tunnel, way.tunnel?, mac);
            Some(Effect::SetNextHop(known.number, hop))
        });
        [Effect::SetNextHop(number, self.next_hop(key, mac))].into_iter().chain(ways).collect()
    }

    fn way_to(&self, key: Host, index: u16, tunnel: Tunnel, mac: Option<[u8; 6]>) -> Hop {
        let hop = self.next_hop(key, mac);
        let narrow = self.narrow.get(&tunnel.remote).map_or(u16::MAX, |(mtu, _)| *mtu);
        let mtu = hop.mtu.min(narrow).saturating_sub(tunnel.overhead());
        Hop { mtu, tunnel: Some((index, tunnel)), ..hop }
    }

    fn next_hop(&self, host: Host, mac: Option<[u8; 6]>) -> Hop {
        let port = self.ports.get(&host.vlan);
        Hop {
            host,
            mac,
            source_mac: self.other_sources.get(&host.vlan).copied().unwrap_or(self.source_mac),
            port: port.map_or(0, |port| port.number),
            mtu: port.map_or(0, |port| port.mtu),
            tagged: port.is_some_and(|port| port.tagged),
            tunnel: None,
        }
    }

    fn is_bridged(&self, vlan: u16) -> bool {
        self.ports.get(&vlan).is_some_and(|port| port.bridge.is_some())
    }

    fn ask(&self, key: &Host) -> Option<Effect> {
        let (port, host) = (self.ports.get(&key.vlan)?, self.hosts.get(key)?);
        Some(match self.fixed.get(key) {
            Some(&mac) => Effect::Pin(port.ifindex, key.address, mac),
            None => Effect::Resolve { ifindex: port.ifindex, address: key.address, managed: host.wanted },
        })
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

mod fixed;
#[cfg(test)]
mod tests;
