//! From the configuration and the reals' health to what the maps are to hold. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use csm_common::address::V6;
use csm_common::limits;
use csm_common::net::{
    ADDRESS_ALIAS, ADDRESS_POOL, ADDRESS_VIRTUAL, Address, AddressKey, ROUTE_CONNECTED, ROUTE_VIA, Route,
};
use csm_common::service::{
    ClientPrefix, Match, Networks, Origin, Pool, REAL_STICKY, REAL_USABLE, Real, Reverse, StickyKey,
    VSERVER_FORWARD, VSERVER_FTP, VSERVER_HANDSHAKES, VSERVER_INSERVICE, Vserver, VserverKey,
};
use ipnet::IpNet;

use crate::model::{
    self, Config, Family, Host, Name, Predictor, Serverfarm, StableId, StaticAction, Tunnel, VlanId,
};
use crate::numbers::Numbers;

use super::family::{Wire, wire};
use super::routes::{Routes, Target};
use standby::Serving;

/// A real of a farm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RealKey {
    /// Its farm.
    pub farm: Name,
    /// Its address.
    pub address: IpAddr,
    /// Its port; `None`: the virtual server's.
    pub port: Option<u16>,
}

/// Health of the reals as far as the plan needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    /// Reals that must get no traffic; all others are taken for healthy.
    pub unhealthy: BTreeSet<RealKey>,
    /// Neighbours that do not answer: neither do the reals that they are or lead to.
    pub silent: HashSet<Host>,
}

/// Numbers of vservers and reals; kept from plan to plan.
#[derive(Clone, Debug)]
pub struct Assignments {
    /// Virtual servers, from 0.
    pub vservers: Numbers<StableId>,
    /// Reals, from 0.
    pub reals: Numbers<StableId>,
    /// Number of the table walk that was begun last: see [`crate::numbers`].
    pub walk: u64,
    /// Virtual servers whose farm is down by its `threshold`: it takes more reals to come up again than it took to stay.
    pub down: BTreeSet<StableId>,
    /// Virtual servers whose farm has not been down by its `threshold` all the time.
    pub up: BTreeSet<StableId>,
}

impl Default for Assignments {
    fn default() -> Self {
        Self {
            vservers: Numbers::new(0, limits::VSERVERS_MAX),
            reals: Numbers::new(0, limits::REALS_MAX),
            walk: 0,
            down: BTreeSet::new(),
            up: BTreeSet::new(),
        }
    }
}

/// Numbers that are free again: their counters are to be cleared before another gets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Of virtual servers.
    pub vservers: Vec<u32>,
    /// Of reals.
    pub reals: Vec<u32>,
}

impl Assignments {
    /// Those of a controller before this one, for tables of this size.
    #[must_use]
    pub fn restored(
        vservers: impl IntoIterator<Item = (u32, StableId)>,
        reals: impl IntoIterator<Item = (u32, StableId)>,
    ) -> Self {
        Self {
            vservers: Numbers::restored(0, limits::VSERVERS_MAX, vservers),
            reals: Numbers::restored(0, limits::REALS_MAX, reals),
            walk: 0,
            down: BTreeSet::new(),
            up: BTreeSet::new(),
        }
    }

    /// Learns from the elements that a controller before this one left which farms were down by their `threshold`: one with
    /// reals enough to stay, and too few to come back, stays as it was. Of one that had never been up nothing else is left.
    pub fn recall<A: Wire>(&mut self, contents: &Contents<A>) {
        for (&number, element) in &contents.vservers {
            let Some(&id) = self.vservers.key(number) else { continue };
            // Of FTP and RTSP it keeps its sticky clients, and its ring alone tells.
            let tells = VSERVER_FTP | VSERVER_FORWARD | VSERVER_INSERVICE;
            let is_ftp = element.flags & tells == VSERVER_FTP | VSERVER_INSERVICE;
            if element.farm == 0 || (is_ftp && element.ring_len == 0) {
                self.down.insert(id);
            }
            self.up.insert(id);
        }
    }

    /// A walk over the tables begins.
    pub fn walk_begins(&mut self, walk: u64) {
        self.walk = walk;
    }

    /// That walk has ended and met these numbers: frees those retired before it that it did not meet.
    pub fn walk_ended(&mut self, walk: u64, vservers: &BTreeSet<u32>, reals: &BTreeSet<u32>) -> Released {
        let numbers =
            |released: Vec<(u32, StableId)>| released.into_iter().map(|(number, _)| number).collect();
        Released {
            vservers: numbers(self.vservers.release(walk, |number| vservers.contains(&number))),
            reals: numbers(self.reals.release(walk, |number| reals.contains(&number))),
        }
    }
}

/// What the planned maps of a family hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents<A: Wire = u32> {
    /// `VSERVER_KEYS`.
    pub vserver_keys: HashMap<VserverKey<A>, Match>,
    /// `NETWORKS`.
    pub networks: BTreeMap<IpNet, Networks>,
    /// `CLIENTS`.
    pub clients: HashMap<ClientPrefix<A>, u32>,
    /// `POOLS`; a number that is absent is all zero.
    pub pools: BTreeMap<u32, Pool<A>>,
    /// `STATICS`: a pool, 0 or [`csm_common::flow::NONE`] for what is dropped.
    pub statics: BTreeMap<IpNet, u32>,
    /// `VSERVERS`; a number that is absent is all zero.
    pub vservers: BTreeMap<u32, Vserver<A>>,
    /// `RINGS`, which the families share: the slots in use of each vserver.
    pub rings: BTreeMap<u32, Vec<u32>>,
    /// `REALS`; a number that is absent is all zero.
    pub reals: BTreeMap<u32, Real<A>>,
    /// `ADDRESSES`.
    pub addresses: HashMap<AddressKey<A>, Address>,
    /// `ROUTES`.
    pub routes: BTreeMap<IpNet, Route>,
    /// Of `STICKY`, the entries that are of the configuration, with their reals.
    pub stickies: HashMap<StickyKey<A>, u32>,
    /// `REVERSES`, by sticky group; one that is absent is all zero.
    pub reverses: BTreeMap<u32, Reverse<A>>,
    /// `ORIGINS`.
    pub origins: HashMap<VserverKey<A>, Origin<A>>,
    /// `ERROR_SOURCES`, by VLAN: its alias, which is the hosts' gateway and the same on both nodes, else the node's own address
    /// there. One that is absent is all zero.
    pub error_sources: BTreeMap<u32, A>,
}

/// A plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Contents of the maps of IPv4.
    pub contents: Contents,
    /// Of those of IPv6.
    pub contents6: Contents<V6>,
    /// Which vserver has which number.
    pub vservers: BTreeMap<u32, VserverName>,
    /// Numbers of virtual servers that describe a backup farm, or that are an owner's, and nobody's connections bear.
    pub bare: BTreeMap<u32, StableId>,
    /// Which real has which number.
    pub reals: BTreeMap<u32, RealName>,
    /// For next hops of replicas.
    pub routes: Routes,
    /// Numbers of virtual servers whose farm is down by its `threshold`.
    pub down: BTreeSet<u32>,
    /// Reals and gateways without a route or a next-hop number: they take no traffic.
    pub unreachable: BTreeSet<IpAddr>,
}

/// Who a vserver number is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VserverName {
    /// Its name.
    pub name: Name,
    /// It is this policy of the virtual server; `None`: what no policy is for.
    pub policy: Option<Name>,
    /// The same on both nodes.
    pub id: StableId,
}

/// Who a real number is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealName {
    /// Farm, address and port.
    pub key: RealKey,
    /// The same on both nodes.
    pub id: StableId,
}

/// A plan that does not fit the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too many of something, numbers still held for old connections included.
    #[error("more than {limit} {what}, counting those that old connections still use")]
    Full {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u32,
    },
    /// IPv6 on a node that was started without.
    #[error(
        "this node was started with a configuration without IPv6, whose tables `sticky ... both` needs, too: restart csmd to use it"
    )]
    NoIpv6,
}

/// The neighbours that `config` needs whatever the traffic: gateways and reals (or the gateways to them).
#[must_use]
pub fn needed_hops(config: &Config) -> HashSet<Host> {
    let routes = Routes::of(config);
    let gateways = routes.iter().filter_map(|(_, target)| match target {
        Target::Via(vlan, gateway) => Some(Host::new(gateway, vlan)),
        Target::Connected(_) => None,
    });
    let reals = config.serverfarms.iter().flat_map(|farm| farm.reals.iter().map(move |real| (farm, real)));
    let ways = reals.filter_map(|(farm, real)| way(config, &routes, farm, real.address));
    gateways.chain(ways).collect()
}

/// How packets of `farm` get to its real `address`: the neighbour that they are handed to, and what they are put into.
fn way(config: &Config, routes: &Routes, farm: &Serverfarm, address: IpAddr) -> Option<Host> {
    let hop = routes.real_hop(address)?;
    let Some(encapsulation) = farm.encapsulation else { return Some(hop) };
    let family = Family::of(address);
    let vlan = config.vlans.iter().find(|vlan| vlan.id.get() == hop.vlan)?;
    // The same on both nodes, so that the real need not know which of them is active.
    let local = vlan.alias(family).or_else(|| vlan.own(family))?.addr();
    Some(Host { tunnel: Some(Tunnel { encapsulation, local, remote: address }), ..hop })
}

/// The maps' contents for `config`. `hops` numbers the neighbours of [`needed_hops`]. Numbers that are no longer
/// wanted are retired, never reused here.
///
/// # Errors
/// If the configuration needs more vservers, reals, addresses or routes than the maps hold.
pub fn plan(
    config: &Config,
    health: &HealthView,
    hops: &HashMap<Host, u32>,
    numbers: &mut Assignments,
) -> Result<Desired, PlanError> {
    let mut desired = Desired { routes: Routes::of(config), ..Desired::default() };
    let ports = nat::ports(config);
    desired.contents = of_family(config, ports, health, hops, numbers, &mut desired)?;
    desired.contents6 = of_family(config, ports, health, hops, numbers, &mut desired)?;
    // Of all reals: what sticks by both addresses stands in the tables of IPv6, whatever its family.
    desired.contents.stickies = sticky::plan(config, &desired);
    desired.contents6.stickies = sticky::plan(config, &desired);
    let walk = numbers.walk;
    let named = desired.vservers.values().map(|known| known.id);
    let wanted: HashSet<StableId> = named.chain(desired.bare.values().copied()).collect();
    numbers.vservers.retain(|id| wanted.contains(id), walk);
    numbers.down.retain(|id| wanted.contains(id));
    numbers.up.retain(|id| wanted.contains(id));
    let wanted: HashSet<StableId> = desired.reals.values().map(|known| known.id).collect();
    numbers.reals.retain(|id| wanted.contains(id), walk);
    Ok(desired)
}

/// What the maps of family `A` are to hold; who has which number is noted in `desired`.
fn of_family<A: Wire>(
    config: &Config,
    ports: nat::Ports,
    health: &HealthView,
    hops: &HashMap<Host, u32>,
    numbers: &mut Assignments,
    desired: &mut Desired,
) -> Result<Contents<A>, PlanError> {
    let config = &config.only(A::FAMILY);
    let mut contents = Contents::default();
    plan_routes(desired, hops, &mut contents)?;
    let mut rotation = HashMap::new();
    for farm in &config.serverfarms {
        rotation
            .insert(&farm.name, plan_farm((config, farm), health, hops, numbers, desired, &mut contents)?);
    }
    contents.pools = nat::pools(config, ports);
    contents.statics = statics::plan(config, ports, &mut contents.pools)?;
    let mut numbered = Vec::new();
    for vserver in &config.vservers {
        numbered.extend(vserver::plan(config, vserver, &rotation, numbers, desired, &mut contents)?);
    }
    matching::plan(&numbered, &mut contents)?;
    plan_addresses(config, &mut contents)?;
    contents.reverses = reverse::plan(config, desired, &contents);
    contents.origins = origins::origins(config, desired);
    for number in origins::unknown(config, desired, &contents.origins) {
        if let Some(vserver) = contents.vservers.get_mut(&number) {
            vserver.flags |= VSERVER_HANDSHAKES;
        }
    }
    let source = |vlan: &model::Vlan| vlan.alias(A::FAMILY).or(vlan.own(A::FAMILY));
    let sources =
        config.vlans.iter().filter_map(|vlan| Some((vlan.id.get().into(), wire(source(vlan)?.addr()))));
    // Of the host as a router; where the module has a VLAN, too, its address stays.
    let routers = config.router_networks().filter(|(_, _, net)| Family::of(net.addr()) == A::FAMILY);
    contents.error_sources =
        routers.map(|(_, vlan, net)| (vlan.get().into(), wire(net.addr()))).chain(sources).collect();
    Ok(contents)
}

fn plan_routes<A: Wire>(
    desired: &mut Desired,
    hops: &HashMap<Host, u32>,
    contents: &mut Contents<A>,
) -> Result<(), PlanError> {
    let mut unreachable = Vec::new();
    for (net, target) in desired.routes.iter().filter(|(net, _)| Family::of(net.addr()) == A::FAMILY) {
        let route = match target {
            Target::Connected(vlan) => Route { kind: ROUTE_CONNECTED, vlan: vlan.get(), nexthop: 0 },
            Target::Via(vlan, gateway) => {
                let Some(&nexthop) = hops.get(&Host::new(gateway, vlan)) else {
                    unreachable.push(gateway);
                    continue;
                };
                Route { kind: ROUTE_VIA, vlan: vlan.get(), nexthop }
            }
        };
        contents.routes.insert(net, route);
    }
    desired.unreachable.extend(unreachable);
    fits(contents.routes.len(), "routes", limits::ROUTES_MAX)
}

/// Numbers and describes the farm's reals; returns those in rotation with their weights.
fn plan_farm<A: Wire>(
    (config, farm): (&Config, &Serverfarm),
    health: &HealthView,
    hops: &HashMap<Host, u32>,
    numbers: &mut Assignments,
    desired: &mut Desired,
    contents: &mut Contents<A>,
) -> Result<Vec<(u32, u8)>, PlanError> {
    let mut rotation = Vec::new();
    let serving = standby::serving(farm, |real| {
        let hop = way(config, &desired.routes, farm, real.address)?;
        let key = RealKey { farm: farm.name.clone(), address: real.address, port: real.port };
        let silent = health.silent.contains(&hop.neighbour());
        Some(hops.contains_key(&hop) && !silent && !health.unhealthy.contains(&key))
    });
    for (real, serving) in farm.reals.iter().zip(serving) {
        let id = StableId::of_real(&farm.name, real.address, real.port);
        let number = numbers
            .reals
            .assign(&id)
            .ok_or(PlanError::Full { what: "real servers", limit: limits::REALS_MAX })?;
        let key = RealKey { farm: farm.name.clone(), address: real.address, port: real.port };
        let hop = way(config, &desired.routes, farm, real.address);
        let nexthop = hop.and_then(|hop| hops.get(&hop).copied());
        if nexthop.is_none() {
            desired.unreachable.insert(real.address);
        }
        let in_rotation = serving == Serving::New;
        let flags = match serving {
            Serving::New => REAL_STICKY | REAL_USABLE,
            Serving::Sticky => REAL_STICKY,
            Serving::Nobody => 0,
        };
        let entry = Real {
            ip_be: wire(real.address),
            port_be: real.port.unwrap_or(0).to_be(),
            vlan: hop.map_or(0, |hop| hop.vlan),
            nexthop: nexthop.unwrap_or(0),
            flags,
            farm: farm_number(&farm.name),
            max_conns: real.limit.max.unwrap_or(0),
            min_conns: real.limit.resumes_below(),
        };
        if in_rotation {
            rotation.push((number, real.weight));
        }
        contents.reals.insert(number, entry);
        desired.reals.insert(number, RealName { key, id });
    }
    Ok(rotation)
}

/// A farm by its name, so that it never changes; two of one number would only share sticky clients.
#[expect(clippy::cast_possible_truncation, reason = "half of a hash")]
fn farm_number(farm: &Name) -> u32 {
    model::fnv1a(farm.to_string().as_bytes()) as u32
}

/// Sticky groups from here on are private to the vserver with that number above it.
pub const PRIVATE_STICKY: u32 = 256;

/// Aliases on their VLANs; virtual addresses of vservers in service (or of all, where a variable says so), and the pools they use, on the VLAN whose network
/// holds them. What lies in no connected network needs no ARP: it is routed to the alias, as virtual networks are. What is
/// forwarded belongs to another host, which answers for itself.
fn plan_addresses<A: Wire>(config: &Config, contents: &mut Contents<A>) -> Result<(), PlanError> {
    let addresses = &mut contents.addresses;
    let answers =
        |vserver: &&model::Vserver| vserver.is_operational() || config.variables.reply_out_of_service;
    for vserver in config.vservers.iter().filter(answers) {
        let farms = || config.farms_of(vserver);
        let pools = farms().filter_map(|farm| config.pool_of(farm));
        for address in pools.flat_map(model::Natpool::addresses) {
            if let Some(vlan) = config.vlan_of(address) {
                for vlan in sides(config, vlan.id) {
                    addresses.insert(key(address, vlan), Address { kind: ADDRESS_POOL });
                }
            }
        }
        let forwards = |farm: &Serverfarm| farm.predictor == Predictor::Forward;
        if farms().any(forwards) && farms().all(forwards) {
            continue;
        }
        let Some(virtual_server) = vserver.virtual_server.filter(model::Virtual::is_address) else {
            continue;
        };
        let Some(vlan) = config.vlan_of(virtual_server.address()) else { continue };
        for vlan in sides(config, vlan.id) {
            addresses.insert(key(virtual_server.address(), vlan), Address { kind: ADDRESS_VIRTUAL });
        }
    }
    for address in config.statics.iter().filter_map(|rule| match rule.action {
        StaticAction::Nat(address) => Some(address),
        StaticAction::Drop | StaticAction::NatVirtual => None,
    }) {
        let Some(vlan) = config.vlan_of(address) else { continue };
        for vlan in sides(config, vlan.id) {
            // It may be a virtual address.
            addresses.entry(key(address, vlan)).or_insert(Address { kind: ADDRESS_POOL });
        }
    }
    for vlan in &config.vlans {
        let Some(alias) = vlan.alias(A::FAMILY) else { continue };
        for vlan in sides(config, vlan.id) {
            addresses.insert(key(alias.addr(), vlan), Address { kind: ADDRESS_ALIAS });
        }
    }
    fits(addresses.len(), "alias and virtual addresses", limits::ADDRESSES_MAX)
}

/// `address` on `vlan` as a map key.
fn key<A: Wire>(address: IpAddr, vlan: VlanId) -> AddressKey<A> {
    AddressKey { ip_be: wire(address), vlan: vlan.get(), pad: 0 }
}

/// The VLAN, and the one that it is bridged with.
fn sides(config: &Config, vlan: VlanId) -> impl Iterator<Item = VlanId> {
    [vlan].into_iter().chain(config.bridged_with(vlan).map(|other| other.id))
}

fn fits(count: usize, what: &'static str, limit: u32) -> Result<(), PlanError> {
    if count > limit as usize { Err(PlanError::Full { what, limit }) } else { Ok(()) }
}

impl Desired {
    /// What is to be announced, aliases first: they are the servers' default gateway.
    #[must_use]
    pub fn announced(&self) -> Vec<(VlanId, IpAddr)> {
        self.group_addresses().into_iter().map(|(_, vlan, address)| (vlan, address)).collect()
    }

    /// The addresses that the pair answers for, by kind (`ADDRESS_*`), VLAN and address.
    #[must_use]
    pub fn group_addresses(&self) -> Vec<(u32, VlanId, IpAddr)> {
        let mut all = addresses(&self.contents);
        all.extend(addresses(&self.contents6));
        all.sort_unstable();
        all
    }

    /// Whether new connections may go to real `number`.
    #[must_use]
    pub fn in_rotation(&self, number: u32) -> bool {
        self.real_state(number).is_some_and(|(_, flags)| flags & REAL_USABLE != 0)
    }

    /// Number of the next hop to real `number`; 0: none.
    #[must_use]
    pub fn nexthop(&self, number: u32) -> Option<u32> {
        self.real_state(number).map(|(nexthop, _)| nexthop)
    }

    fn real_state(&self, number: u32) -> Option<(u32, u32)> {
        let of_v4 = self.contents.reals.get(&number).map(|real| (real.nexthop, real.flags));
        of_v4.or_else(|| self.contents6.reals.get(&number).map(|real| (real.nexthop, real.flags)))
    }
}

/// Kind, VLAN and address of each address that the pair answers for.
fn addresses<A: Wire>(contents: &Contents<A>) -> Vec<(u32, VlanId, IpAddr)> {
    let all = contents.addresses.iter();
    all.filter_map(|(key, address)| Some((address.kind, VlanId::new(key.vlan)?, key.ip_be.ip()))).collect()
}

mod matching;
mod nat;
mod origins;
mod reverse;
mod standby;
mod statics;
mod sticky;
#[cfg(test)]
pub(super) mod tests;
mod vserver;
