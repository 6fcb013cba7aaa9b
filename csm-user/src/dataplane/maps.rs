//! The planned maps, the settings and the counters, as they are in the kernel.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use aya::Pod;
use aya::maps::Map;
use csm_common::address::V6;
use csm_common::event::Drain;
use csm_common::net::{Address, AddressKey, NextHop, Route, Tunnel};
use csm_common::service::{
    self, ClientPrefix, Match, Networks, Origin, Pool, Real, Reverse, Settings, StickyKey, Vserver,
    VserverKey, ring_slot,
};
use csm_common::{limits, names};
use ipnet::IpNet;

use super::bpf::{BpfMap, Update};
use super::diff::{Operation, diff};
use super::family::{Wire, wire};
use super::plan::{Contents, Released};

mod counters;
mod macs;
mod shares;
mod stickies;

pub use counters::{Counters, PortCounts, total};
pub use macs::PortMaps;
pub use shares::ShareMap;

use stickies::Stickies;

/// Where the loaded program's maps come from.
pub trait MapSource {
    /// A descriptor of the map called `name` (see [`csm_common::names`]).
    ///
    /// # Errors
    /// If there is no such map.
    fn descriptor(&self, name: &str) -> io::Result<OwnedFd>;
}

impl MapSource for aya::Ebpf {
    fn descriptor(&self, name: &str) -> io::Result<OwnedFd> {
        use std::os::fd::AsFd;
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("the program has no map {name}"));
        let (Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)) = self.map(name).ok_or_else(missing)?
        else {
            return Err(io::Error::other(format!("map {name} is of a type that is not expected")));
        };
        data.fd().as_fd().try_clone_to_owned()
    }
}

/// Key of a longest-prefix map as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixKey<A> {
    /// Length of the prefix.
    pub bits: u32,
    /// Network order.
    pub address_be: A,
}

// SAFETY: the type is `repr(C)`, `Copy` and made of integers without padding between them.
unsafe impl Pod for PrefixKey<u32> {}
// SAFETY: the same; the address is four integers.
unsafe impl Pod for PrefixKey<V6> {}

/// The maps that the plan fills with what is of family `A`.
#[derive(Debug)]
pub struct Maps<A: Wire = u32> {
    vserver_keys: BpfMap<VserverKey<A>, Match>,
    networks: BpfMap<PrefixKey<A>, Networks>,
    clients: BpfMap<ClientPrefix<A>, u32>,
    pools: BpfMap<u32, Pool<A>>,
    statics: BpfMap<PrefixKey<A>, u32>,
    vservers: BpfMap<u32, Vserver<A>>,
    /// Both families': a virtual server is of one of them.
    rings: BpfMap<u32, u32>,
    reals: BpfMap<u32, Real<A>>,
    reverses: BpfMap<u32, Reverse<A>>,
    addresses: BpfMap<AddressKey<A>, Address>,
    routes: BpfMap<PrefixKey<A>, Route>,
    origins: BpfMap<VserverKey<A>, Origin<A>>,
    error_sources: BpfMap<u32, A>,
    stickies: Stickies<A>,
}

impl<A: Wire + Pod> Maps<A>
where
    VserverKey<A>: Pod,
    ClientPrefix<A>: Pod,
    Pool<A>: Pod,
    Vserver<A>: Pod,
    Real<A>: Pod,
    AddressKey<A>: Pod,
    Origin<A>: Pod,
    PrefixKey<A>: Pod,
    StickyKey<A>: Pod,
    Reverse<A>: Pod,
{
    /// # Errors
    /// If a map is missing or of another shape.
    pub fn open(source: &impl MapSource) -> io::Result<Self> {
        Ok(Self {
            vserver_keys: BpfMap::new(source.descriptor(A::NAMES.vserver_keys)?)?,
            networks: BpfMap::new(source.descriptor(A::NAMES.networks)?)?,
            clients: BpfMap::new(source.descriptor(A::NAMES.clients)?)?,
            pools: BpfMap::new(source.descriptor(A::NAMES.pools)?)?,
            statics: BpfMap::new(source.descriptor(A::NAMES.statics)?)?,
            vservers: BpfMap::new(source.descriptor(A::NAMES.vservers)?)?,
            rings: BpfMap::new(source.descriptor(names::RINGS)?)?,
            reals: BpfMap::new(source.descriptor(A::NAMES.reals)?)?,
            reverses: BpfMap::new(source.descriptor(A::NAMES.reverses)?)?,
            addresses: BpfMap::new(source.descriptor(A::NAMES.addresses)?)?,
            routes: BpfMap::new(source.descriptor(A::NAMES.routes)?)?,
            origins: BpfMap::new(source.descriptor(A::NAMES.origins)?)?,
            error_sources: BpfMap::new(source.descriptor(A::NAMES.error_sources)?)?,
            stickies: Stickies::open(source)?,
        })
    }

    /// Makes the maps hold `desired`, reading first what they hold; returns how many operations that took.
    ///
    /// # Errors
    /// The first system call that fails; what was done before it stays, and the next call goes on from there.
    pub fn reconcile(&self, desired: &Contents<A>) -> io::Result<usize> {
        let operations = diff(desired, &self.read_back()?);
        for operation in &operations {
            self.apply(operation)?;
        }
        Ok(operations.len())
    }

    /// Does one operation.
    ///
    /// # Errors
    /// Of the system call.
    pub fn apply(&self, operation: &Operation<A>) -> io::Result<()> {
        match operation {
            Operation::RemoveOrigin(key) => self.origins.delete(key).map(drop),
            Operation::SetOrigin(key, origin) => self.origins.set(key, origin, Update::Any),
            Operation::RemoveVserverKey(key) => self.vserver_keys.delete(key).map(drop),
            Operation::RemoveAddress(key) => self.addresses.delete(key).map(drop),
            Operation::RemoveRoute(net) => self.routes.delete(&prefix_key(*net)).map(drop),
            Operation::SetReal(number, real) => self.reals.set(number, real, Update::Any),
            Operation::SetReverse(group, reverse) => self.reverses.set(group, reverse, Update::Any),
            Operation::SetRing(vserver, slots) => (0..)
                .zip(slots)
                .try_for_each(|(slot, real)| self.rings.set(&ring_slot(*vserver, slot), real, Update::Any)),
            Operation::SetVserver(number, vserver) => self.vservers.set(number, vserver, Update::Any),
            Operation::SetRoute(net, route) => self.routes.set(&prefix_key(*net), route, Update::Any),
            Operation::SetAddress(key, address) => self.addresses.set(key, address, Update::Any),
            Operation::SetVserverKey(key, found) => self.vserver_keys.set(key, found, Update::Any),
            Operation::SetPool(number, pool) => self.pools.set(number, pool, Update::Any),
            Operation::SetErrorSource(vlan, source) => self.error_sources.set(vlan, source, Update::Any),
            Operation::SetStatic(net, number) => self.statics.set(&prefix_key(*net), number, Update::Any),
            Operation::RemoveStatic(net) => self.statics.delete(&prefix_key(*net)).map(drop),
            Operation::SetSticky(key, real) => self.stickies.set(*key, *real),
            Operation::RemoveSticky(key) => self.stickies.remove(*key),
            Operation::SetClient(prefix, number) => self.clients.set(prefix, number, Update::Any),
            Operation::RemoveClient(prefix) => self.clients.delete(prefix).map(drop),
            Operation::SetNetwork(net, networks) => {
                self.networks.set(&prefix_key(*net), networks, Update::Any)
            }
            Operation::RemoveNetwork(net) => self.networks.delete(&prefix_key(*net)).map(drop),
        }
    }

    /// Clears the elements of numbers that nothing refers to any more.
    ///
    /// # Errors
    /// Of the first system call that fails.
    pub fn forget(&self, released: &Released) -> io::Result<()> {
        for number in &released.vservers {
            self.vservers.set(number, &Vserver::default(), Update::Any)?;
        }
        released.reals.iter().try_for_each(|number| self.reals.set(number, &no_real(), Update::Any))
    }

    /// What the kernel's maps hold now.
    ///
    /// # Errors
    /// Of a system call.
    pub fn read_back(&self) -> io::Result<Contents<A>> {
        let vservers = used(&self.vservers, Vserver::default())?;
        let mut rings = BTreeMap::new();
        for (&number, vserver) in vservers.iter().filter(|(_, vserver)| vserver.ring_len > 0) {
            let slots = (0..(vserver.ring_len + u32::from(vserver.spare_len)).min(limits::RING_SLOTS))
                .map(|slot| Ok(self.rings.get(&ring_slot(number, slot))?.unwrap_or_default()))
                .collect::<io::Result<Vec<u32>>>()?;
            rings.insert(number, slots);
        }
        Ok(Contents {
            vserver_keys: self.vserver_keys.entries()?.into_iter().collect(),
            vservers,
            rings,
            reals: used(&self.reals, no_real())?,
            reverses: used(&self.reverses, Reverse::default())?,
            addresses: self.addresses.entries()?.into_iter().collect(),
            routes: by_network(self.routes.entries()?),
            networks: by_network(self.networks.entries()?),
            clients: self.clients.entries()?.into_iter().collect(),
            pools: used(&self.pools, Pool::default())?,
            statics: by_network(self.statics.entries()?),
            origins: self.origins.entries()?.into_iter().collect(),
            error_sources: used(&self.error_sources, A::UNSPECIFIED)?,
            stickies: self.stickies.read_back()?,
        })
    }
}

fn by_network<A: Wire, V>(entries: Vec<(PrefixKey<A>, V)>) -> BTreeMap<IpNet, V> {
    let net = |key: PrefixKey<A>| IpNet::new(key.address_be.ip(), u8::try_from(key.bits).ok()?).ok();
    entries.into_iter().filter_map(|(key, value)| Some((net(key)?, value))).collect()
}

fn prefix_key<A: Wire>(net: IpNet) -> PrefixKey<A> {
    PrefixKey { bits: u32::from(net.prefix_len()), address_be: wire(net.network()) }
}

/// An element of `REALS` that is not in use.
fn no_real<A: Wire>() -> Real<A> {
    Real {
        ip_be: A::UNSPECIFIED,
        port_be: 0,
        vlan: 0,
        nexthop: 0,
        flags: 0,
        farm: 0,
        max_conns: 0,
        min_conns: 0,
    }
}

/// The elements of an array that are not all zero.
fn used<V: Pod + PartialEq>(array: &BpfMap<u32, V>, empty: V) -> io::Result<BTreeMap<u32, V>> {
    Ok(array.elements()?.into_iter().filter(|(_, value)| *value != empty).collect())
}

/// `NEXTHOPS` and `NEIGHBOURS` of family `A`, written by the neighbour table's shell.
#[derive(Debug)]
pub struct HopMaps<A: Wire = u32> {
    nexthops: BpfMap<u32, NextHop<A>>,
    tunnels: BpfMap<u32, Tunnel<A>>,
    neighbours: BpfMap<AddressKey<A>, u32>,
}

impl<A: Wire> HopMaps<A>
where
    NextHop<A>: Pod,
    Tunnel<A>: Pod,
    AddressKey<A>: Pod,
{
    /// # Errors
    /// If a map is missing or of another shape.
    pub fn open(source: &impl MapSource) -> io::Result<Self> {
        Ok(Self {
            nexthops: BpfMap::new(source.descriptor(A::NAMES.nexthops)?)?,
            tunnels: BpfMap::new(source.descriptor(A::NAMES.tunnels)?)?,
            neighbours: BpfMap::new(source.descriptor(A::NAMES.neighbours)?)?,
        })
    }

    /// Writes next hop `number`.
    ///
    /// # Errors
    /// Of the system call.
    pub fn set_nexthop(&self, number: u32, hop: &NextHop<A>) -> io::Result<()> {
        self.nexthops.set(&number, hop, Update::Any)
    }

    /// The next hops that were written.
    ///
    /// # Errors
    /// Of a system call.
    pub fn nexthops(&self) -> io::Result<Vec<(u32, NextHop<A>)>> {
        let all = self.nexthops.elements()?.into_iter();
        Ok(all.filter(|(_, hop)| hop.ip_be != A::UNSPECIFIED).collect())
    }

    /// Tunnel `number`.
    ///
    /// # Errors
    /// Of the system call.
    pub fn tunnel(&self, number: u16) -> io::Result<Option<Tunnel<A>>> {
        self.tunnels.get(&u32::from(number))
    }

    /// Writes tunnel `number`.
    ///
    /// # Errors
    /// Of the system call.
    pub fn set_tunnel(&self, number: u16, tunnel: &Tunnel<A>) -> io::Result<()> {
        self.tunnels.set(&u32::from(number), tunnel, Update::Any)
    }

    /// Next hop `number`.
    ///
    /// # Errors
    /// Of the system call.
    pub fn nexthop(&self, number: u32) -> io::Result<Option<NextHop<A>>> {
        self.nexthops.get(&number)
    }

    /// Lets packets to `host` find next hop `number`, or none.
    ///
    /// # Errors
    /// Of the system call.
    pub fn set_neighbour(&self, host: &AddressKey<A>, number: Option<u32>) -> io::Result<()> {
        match number {
            Some(number) => self.neighbours.set(host, &number, Update::Any),
            None => self.neighbours.delete(host).map(drop),
        }
    }

    /// The next-hop number of `host`.
    ///
    /// # Errors
    /// Of the system call.
    pub fn neighbour(&self, host: &AddressKey<A>) -> io::Result<Option<u32>> {
        self.neighbours.get(host)
    }
}

/// `SETTINGS`: several writers, one record. The lock is held for one system call, so that the real-time thread, which
/// adopts the table and names the peer, waits at most for that; nothing else writes after start.
#[derive(Debug)]
pub struct SettingsCell {
    map: BpfMap<u32, Settings>,
    now: Mutex<Settings>,
}

impl SettingsCell {
    /// Writes `initial`, but for what only a takeover or the peer can tell: that stays as it was found.
    ///
    /// # Errors
    /// If the map is missing, of another shape, or cannot be written.
    pub fn open(source: &impl MapSource, initial: Settings) -> io::Result<Self> {
        let map: BpfMap<u32, Settings> = BpfMap::new(source.descriptor(names::SETTINGS)?)?;
        let initial = match map.get(&0)? {
            Some(Settings { peer_mac, adopted_ns, .. }) => Settings { peer_mac, adopted_ns, ..initial },
            None => initial,
        };
        map.set(&0, &initial, Update::Any)?;
        Ok(Self { map, now: Mutex::new(initial) })
    }

    /// The settings as last written.
    #[must_use]
    pub fn get(&self) -> Settings {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takeover at `now_ns` (CLOCK_MONOTONIC): idle times of replicated entries start here.
    ///
    /// # Errors
    /// Of the system call.
    pub fn adopt(&self, now_ns: u64) -> io::Result<()> {
        self.change(|settings| settings.adopted_ns = now_ns)
    }

    /// Where strays are relayed to; zero: nowhere.
    ///
    /// # Errors
    /// Of the system call.
    pub fn set_peer_mac(&self, mac: [u8; 6]) -> io::Result<()> {
        self.change(|settings| settings.peer_mac = mac)
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) -> io::Result<()> {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut now);
        self.map.set(&0, &now, Update::Any)
    }
}

/// `DRAIN`: whether the program may expect that its records are read.
#[derive(Debug)]
pub struct DrainCell(BpfMap<u32, Drain>);

impl DrainCell {
    /// # Errors
    /// If the map is missing or of another shape.
    pub fn open(source: &impl MapSource) -> io::Result<Self> {
        Ok(Self(BpfMap::new(source.descriptor(names::DRAIN)?)?))
    }

    /// Until `until_ns` (CLOCK_MONOTONIC) a successor of this controller may be on its way, which will read what waits: first
    /// packets are taken that long. 0: none is.
    ///
    /// # Errors
    /// Of the system call.
    pub fn hold(&self, until_ns: u64) -> io::Result<()> {
        self.0.set(&0, &Drain { held_until_ns: until_ns, ..Drain::default() }, Update::Any)
    }
}

/// `PROMISE`: until when this node's peer may be active without a word. It outlives the controller, as it must.
#[derive(Debug)]
pub struct Promises(BpfMap<u32, u64>);

impl Promises {
    /// # Errors
    /// If the map is missing or of another shape.
    pub fn open(source: &impl MapSource) -> io::Result<Self> {
        BpfMap::new(source.descriptor(names::PROMISE)?).map(Self)
    }

    /// What was promised last, CLOCK_MONOTONIC, ns; 0: nothing.
    ///
    /// # Errors
    /// Of the system call.
    pub fn get(&self) -> io::Result<u64> {
        Ok(self.0.get(&0)?.unwrap_or(0))
    }

    /// Promises.
    ///
    /// # Errors
    /// Of the system call.
    pub fn set(&self, until_ns: u64) -> io::Result<()> {
        self.0.set(&0, &until_ns, Update::Any)
    }
}

/// `LOADS` and `LOAD_BASES`, by real: what `predictor leastconns` and `maxconns` go by; or `PLACES` and `PLACE_BASES`, by virtual server,
/// of `max-conns`.
#[derive(Debug)]
pub struct LoadMaps {
    since: BpfMap<u32, u64>,
    bases: BpfMap<u32, u64>,
}

impl LoadMaps {
    /// # Errors
    /// If a map is missing or of another shape.
    pub fn open(source: &impl MapSource) -> io::Result<Self> {
        Self::named(source, [names::LOADS, names::LOAD_BASES])
    }

    /// Those of virtual servers.
    ///
    /// # Errors
    /// If a map is missing or of another shape.
    pub fn of_vservers(source: &impl MapSource) -> io::Result<Self> {
        Self::named(source, [names::PLACES, names::PLACE_BASES])
    }

    fn named(source: &impl MapSource, [since, bases]: [&'static str; 2]) -> io::Result<Self> {
        Ok(Self {
            since: BpfMap::new(source.descriptor(since)?)?,
            bases: BpfMap::new(source.descriptor(bases)?)?,
        })
    }

    /// Connections of `number`, whose connections count.
    ///
    /// # Errors
    /// Of a system call.
    pub fn load(&self, number: u32) -> io::Result<u64> {
        let [base, since] = [&self.bases, &self.since].map(|map| map.get(&number));
        Ok(service::load(base?.unwrap_or(0), since?.unwrap_or(0)))
    }

    /// What the XDP program has counted for each of `numbers`.
    ///
    /// # Errors
    /// Of a system call.
    pub fn since(&self, numbers: impl Iterator<Item = u32>) -> io::Result<BTreeMap<u32, u64>> {
        numbers.map(|number| Ok((number, self.since.get(&number)?.unwrap_or(0)))).collect()
    }

    /// From here on `number`, which nothing counts at this moment, has none.
    ///
    /// # Errors
    /// Of a system call.
    pub fn clear(&self, number: u32) -> io::Result<()> {
        let since = self.since.get(&number)?.unwrap_or(0);
        self.bases.set(&number, &since.wrapping_neg(), Update::Any)
    }

    /// Writes the bases.
    ///
    /// # Errors
    /// Of a system call.
    pub fn set_bases(&self, bases: &BTreeMap<u32, u64>) -> io::Result<()> {
        bases.iter().try_for_each(|(number, base)| self.bases.set(number, base, Update::Any))
    }
}
