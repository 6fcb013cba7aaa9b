//! From the configuration and the reals' health to what the maps are to hold. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use csm_common::limits;
use csm_common::net::{
    ADDRESS_ALIAS, ADDRESS_POOL, ADDRESS_VIRTUAL, Address, AddressKey, ROUTE_CONNECTED, ROUTE_VIA, Route,
};
use csm_common::service::{
    ClientPrefix, Match, Networks, Origin, Pool, REAL_STICKY, REAL_USABLE, Real, VSERVER_DISPATCH,
    VSERVER_FORWARD, VSERVER_FTP, VSERVER_HASH_DESTINATION, VSERVER_HASH_SOURCE, VSERVER_INSERVICE,
    VSERVER_REPLICATE, VSERVER_REPLICATE_STICKY, VSERVER_UNIDIRECTIONAL, Vserver, VserverKey,
};
use ipnet::IpNet;

use crate::model::{
    self, Config, Family, Host, Name, Predictor, RealAdmin, Serverfarm, StableId, VlanId, prefix_mask,
};
use crate::numbers::Numbers;

use super::predictor;
use super::routes::{Routes, Target, be, hop_key, wire};

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
}

impl Default for Assignments {
    fn default() -> Self {
        Self {
            vservers: Numbers::new(0, limits::VSERVERS_MAX),
            reals: Numbers::new(0, limits::REALS_MAX),
            walk: 0,
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

/// What the planned maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// `VSERVER_KEYS`.
    pub vserver_keys: HashMap<VserverKey, Match>,
    /// `NETWORKS`.
    pub networks: BTreeMap<IpNet, Networks>,
    /// `CLIENTS`.
    pub clients: HashMap<ClientPrefix, u32>,
    /// `POOLS`; a number that is absent is all zero.
    pub pools: BTreeMap<u32, Pool>,
    /// `VSERVERS`; a number that is absent is all zero.
    pub vservers: BTreeMap<u32, Vserver>,
    /// `RINGS`: the slots in use of each vserver.
    pub rings: BTreeMap<u32, Vec<u32>>,
    /// `REALS`; a number that is absent is all zero.
    pub reals: BTreeMap<u32, Real>,
    /// `ADDRESSES`.
    pub addresses: HashMap<AddressKey, Address>,
    /// `ROUTES`.
    pub routes: BTreeMap<IpNet, Route>,
    /// `ORIGINS`.
    pub origins: HashMap<VserverKey, Origin>,
}

/// A plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Contents of the maps.
    pub contents: Contents,
    /// Which vserver has which number.
    pub vservers: BTreeMap<u32, VserverName>,
    /// Which real has which number.
    pub reals: BTreeMap<u32, RealName>,
    /// For next hops of replicas.
    pub routes: Routes,
    /// Reals and gateways without a route or a next-hop number: they take no traffic.
    pub unreachable: BTreeSet<IpAddr>,
}

/// Who a vserver number is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VserverName {
    /// Its name.
    pub name: Name,
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
}

/// The neighbours that `config` needs whatever the traffic: gateways and reals (or the gateways to them).
#[must_use]
pub fn needed_hops(config: &Config) -> HashSet<Host> {
    let routes = Routes::of(config);
    let gateways = routes.iter().filter_map(|(_, target)| match target {
        Target::Via(vlan, gateway) => Some(Host::new(gateway, vlan)),
        Target::Connected(_) => None,
    });
    let reals = config.serverfarms.iter().flat_map(|farm| &farm.reals);
    gateways.chain(reals.filter_map(|real| routes.real_hop(real.address))).collect()
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
    let config = &config.only(Family::V4);
    let mut desired = Desired { routes: Routes::of(config), ..Desired::default() };
    plan_routes(&mut desired, hops)?;
    let mut rotation = HashMap::new();
    for farm in &config.serverfarms {
        rotation.insert(&farm.name, plan_farm(farm, health, hops, numbers, &mut desired)?);
    }
    desired.contents.pools = nat::pools(config);
    let mut numbered = Vec::new();
    for vserver in &config.vservers {
        let number = plan_vserver(config, vserver, &rotation, numbers, &mut desired)?;
        numbered.extend(number.map(|number| (number, vserver)));
    }
    matching::plan(&numbered, &mut desired.contents)?;
    plan_addresses(config, &mut desired)?;
    desired.contents.origins = origins::origins(config, &desired);
    let walk = numbers.walk;
    let wanted: HashSet<StableId> = desired.vservers.values().map(|known| known.id).collect();
    numbers.vservers.retain(|id| wanted.contains(id), walk);
    let wanted: HashSet<StableId> = desired.reals.values().map(|known| known.id).collect();
    numbers.reals.retain(|id| wanted.contains(id), walk);
    Ok(desired)
}

fn plan_routes(desired: &mut Desired, hops: &HashMap<Host, u32>) -> Result<(), PlanError> {
    for (net, target) in desired.routes.iter() {
        let route = match target {
            Target::Connected(vlan) => Route { kind: ROUTE_CONNECTED, vlan: vlan.get(), nexthop: 0 },
            Target::Via(vlan, gateway) => {
                let Some(&nexthop) = hops.get(&Host::new(gateway, vlan)) else {
                    desired.unreachable.insert(gateway);
                    continue;
                };
                Route { kind: ROUTE_VIA, vlan: vlan.get(), nexthop }
            }
        };
        desired.contents.routes.insert(net, route);
    }
    fits(desired.contents.routes.len(), "routes", limits::ROUTES_MAX)
}

/// Numbers and describes the farm's reals; returns those in rotation with their weights.
fn plan_farm(
    farm: &Serverfarm,
    health: &HealthView,
    hops: &HashMap<Host, u32>,
    numbers: &mut Assignments,
    desired: &mut Desired,
) -> Result<Vec<(u32, u8)>, PlanError> {
    let mut rotation = Vec::new();
    for real in &farm.reals {
        let id = StableId::of_real(&farm.name, real.address, real.port);
        let number = numbers
            .reals
            .assign(&id)
            .ok_or(PlanError::Full { what: "real servers", limit: limits::REALS_MAX })?;
        let key = RealKey { farm: farm.name.clone(), address: real.address, port: real.port };
        let hop = desired.routes.real_hop(real.address);
        let nexthop = hop.and_then(|hop| hops.get(&hop).copied());
        if nexthop.is_none() {
            desired.unreachable.insert(real.address);
        }
        let healthy = nexthop.is_some() && !health.unhealthy.contains(&key);
        // Out of service, its clients must not come back for ever: it is to run empty.
        let in_service = healthy && real.admin == RealAdmin::InService;
        let in_rotation = in_service && real.weight > 0;
        let flags = if in_service { REAL_STICKY } else { 0 } | if in_rotation { REAL_USABLE } else { 0 };
        let entry = Real {
            ip_be: wire(real.address),
            port_be: real.port.unwrap_or(0).to_be(),
            vlan: hop.map_or(0, |hop| hop.vlan),
            nexthop: nexthop.unwrap_or(0),
            flags,
            farm: farm_number(&farm.name),
        };
        if in_rotation {
            rotation.push((number, real.weight));
        }
        desired.contents.reals.insert(number, entry);
        desired.reals.insert(number, RealName { key, id });
    }
    Ok(rotation)
}

/// Numbers and describes `vserver`.
fn plan_vserver(
    config: &Config,
    vserver: &model::Vserver,
    rotation: &HashMap<&Name, Vec<(u32, u8)>>,
    numbers: &mut Assignments,
    desired: &mut Desired,
) -> Result<Option<u32>, PlanError> {
    // Without an address there is nothing to match, and no identity that the peer would know.
    let Some(virtual_server) = vserver.virtual_server else { return Ok(None) };
    let id = StableId::of_vserver(&vserver.name, &virtual_server);
    let number = numbers
        .vservers
        .assign(&id)
        .ok_or(PlanError::Full { what: "virtual servers", limit: limits::VSERVERS_MAX })?;
    let farm = vserver.serverfarm.as_ref().and_then(|name| config.serverfarm(name));
    let reals = farm.filter(|_| vserver.is_operational()).and_then(|farm| rotation.get(&farm.name));
    let ring = match (reals, farm.map(|farm| farm.predictor)) {
        (None, _) | (_, Some(Predictor::Forward)) => Vec::new(),
        (Some(reals), Some(Predictor::Hash { .. })) => {
            let id = |number| desired.reals.get(&number).map_or(0, |known: &RealName| known.id.0);
            predictor::hash_table(&reals.iter().map(|&(number, _)| (number, id(number))).collect::<Vec<_>>())
        }
        (Some(reals), _) => predictor::ring(reals),
    };
    let ring_len = u32::try_from(ring.len()).unwrap_or(0);
    let pool = farm.and_then(|farm| farm.nat_client.as_ref());
    let entry = Vserver {
        pool: pool.and_then(|name| nat::numbers(config).get(name).copied()).unwrap_or(0),
        ..vserver_entry(config, vserver, farm, number, ring_len)
    };
    desired.contents.vservers.insert(number, entry);
    if !ring.is_empty() {
        desired.contents.rings.insert(number, ring);
    }
    desired.vservers.insert(number, VserverName { name: vserver.name.clone(), id });
    Ok(Some(number))
}

fn vserver_entry(
    config: &Config,
    vserver: &model::Vserver,
    farm: Option<&Serverfarm>,
    number: u32,
    ring_len: u32,
) -> Vserver {
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let ftp = vserver.virtual_server.is_some_and(|to| to.ftp);
    let predictor = farm.map_or(Predictor::RoundRobin, |farm| farm.predictor);
    let forward = predictor == Predictor::Forward;
    let (hash_mask, source, destination) = match predictor {
        Predictor::Hash { bits, source, destination, .. } => (be(prefix_mask(bits)), source, destination),
        _ => (0, false, false),
    };
    // A client's data connections find their real by its sticky entry: it is to last as long as the control connection.
    let sticky = vserver.sticky.filter(|_| !forward).or(ftp.then_some(model::Sticky {
        minutes: 0,
        group: 0,
        bits: 32,
        bits6: 128,
    }));
    let ftp_s = match seconds(vserver.idle) {
        _ if !ftp => 0,
        0 => u32::MAX,
        idle_s => idle_s,
    };
    let replicate_sticky = vserver.replicate_sticky || ftp && vserver.replicate_connection;
    Vserver {
        flags: flag(vserver.is_operational(), VSERVER_INSERVICE)
            | flag(vserver.replicate_connection, VSERVER_REPLICATE)
            | flag(replicate_sticky, VSERVER_REPLICATE_STICKY)
            | flag(farm.is_some_and(|farm| !farm.nat_server) && !forward, VSERVER_DISPATCH)
            | flag(forward, VSERVER_FORWARD)
            | flag(config.is_unidirectional(vserver), VSERVER_UNIDIRECTIONAL)
            | flag(ftp, VSERVER_FTP)
            | flag(source, VSERVER_HASH_SOURCE)
            | flag(destination, VSERVER_HASH_DESTINATION),
        ring_len,
        idle_s: seconds(vserver.idle),
        pending_s: seconds(vserver.pending),
        sticky_s: sticky.map_or(0, |sticky| (u32::from(sticky.minutes) * 60).max(ftp_s)),
        sticky_mask_be: sticky.map_or(0, |sticky| be(prefix_mask(sticky.bits))),
        sticky_group: sticky.map_or(0, |sticky| match sticky.group {
            0 => PRIVATE_STICKY + number,
            group => u32::from(group),
        }),
        farm: vserver.serverfarm.as_ref().map_or(0, farm_number),
        pool: 0,
        hash_mask_be: hash_mask,
        port_be: vserver.virtual_server.map_or(0, |to| to.port.to_be()),
        pad: 0,
    }
}

/// A farm by its name, so that it never changes; two of one number would only share sticky clients.
#[expect(clippy::cast_possible_truncation, reason = "half of a hash")]
fn farm_number(farm: &Name) -> u32 {
    model::fnv1a(farm.to_string().as_bytes()) as u32
}

/// Sticky groups from here on are private to the vserver with that number above it.
pub const PRIVATE_STICKY: u32 = 256;

/// Aliases on their VLANs; virtual addresses of vservers in service, and the pools they use, on the VLAN whose network
/// holds them. What lies in no connected network needs no ARP: it is routed to the alias, as virtual networks are. What is
/// forwarded belongs to another host, which answers for itself.
fn plan_addresses(config: &Config, desired: &mut Desired) -> Result<(), PlanError> {
    let addresses = &mut desired.contents.addresses;
    for vserver in config.vservers.iter().filter(|vserver| vserver.is_operational()) {
        let farm = vserver.serverfarm.as_ref().and_then(|name| config.serverfarm(name));
        let pool = farm.and_then(|farm| farm.nat_client.as_ref());
        let pool = config.natpools.iter().find(|known| Some(&known.name) == pool);
        for address in pool.iter().flat_map(|pool| pool.addresses()) {
            if let Some(vlan) = config.vlan_of(address) {
                for vlan in sides(config, vlan.id) {
                    addresses.insert(hop_key(wire(address), vlan), Address { kind: ADDRESS_POOL });
                }
            }
        }
        if farm.is_some_and(|farm| farm.predictor == Predictor::Forward) {
            continue;
        }
        let Some(virtual_server) = vserver.virtual_server.filter(model::Virtual::is_address) else {
            continue;
        };
        let Some(vlan) = config.vlan_of(virtual_server.address()) else { continue };
        for vlan in sides(config, vlan.id) {
            addresses
                .insert(hop_key(wire(virtual_server.address()), vlan), Address { kind: ADDRESS_VIRTUAL });
        }
    }
    for vlan in &config.vlans {
        let Some(alias) = vlan.alias else { continue };
        for vlan in sides(config, vlan.id) {
            addresses.insert(hop_key(be(alias.addr()), vlan), Address { kind: ADDRESS_ALIAS });
        }
    }
    fits(addresses.len(), "alias and virtual addresses", limits::ADDRESSES_MAX)
}

/// The VLAN, and the one that it is bridged with.
fn sides(config: &Config, vlan: VlanId) -> impl Iterator<Item = VlanId> {
    [vlan].into_iter().chain(config.bridged_with(vlan).map(|other| other.id))
}

fn fits(count: usize, what: &'static str, limit: u32) -> Result<(), PlanError> {
    if count > limit as usize { Err(PlanError::Full { what, limit }) } else { Ok(()) }
}

impl Desired {
    /// What is to be announced, VLAN by VLAN, aliases first: they are the servers' default gateway.
    #[must_use]
    pub fn announced(&self) -> Vec<(VlanId, IpAddr)> {
        let mut all: Vec<_> = self
            .contents
            .addresses
            .iter()
            .filter_map(|(key, address)| {
                Some((address.kind, VlanId::new(key.vlan)?, super::routes::from_be(key.ip_be).into()))
            })
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, vlan, address)| (vlan, address)).collect()
    }
}

mod matching;
mod nat;
mod origins;
#[cfg(test)]
pub(super) mod tests;
