//! The maps of the host as a router: its groups, their gates, its prefix table.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Pod;
use csm_common::address::V6;
use csm_common::gate::Gate;
use csm_common::net::{AddressKey, Group, GroupKey, RouterRoute};
use csm_common::{limits, names};
use ipnet::IpNet;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::super::bpf::{BpfMap, Update};
use super::super::maps::{MapSource, PrefixKey};
use super::super::routes::be;
use crate::model::Family;

/// The gates of all groups, mapped into memory: a store is seen by the next packet.
#[derive(Debug)]
pub struct GroupGates {
    words: NonNull<[AtomicU64; limits::GROUPS_MAX as usize]>,
}

// SAFETY: the mapping is not tied to a thread and is only reached through atomics.
unsafe impl Send for GroupGates {}
// SAFETY: as above.
unsafe impl Sync for GroupGates {}

const BYTES: NonZeroUsize = NonZeroUsize::new(limits::GROUPS_MAX as usize * size_of::<Gate>()).unwrap();

impl GroupGates {
    /// # Errors
    /// If the map is missing or cannot be mapped.
    pub fn open(source: &impl MapSource) -> io::Result<Arc<Self>> {
        let map = source.descriptor(names::GROUP_GATES)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping at an address of the kernel's choice aliases nothing of this process.
        let page = unsafe { mmap(None, BYTES, protection, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Arc::new(Self { words: page.cast() }))
    }

    /// Closes all: their numbers are positions in a configuration, and that of a csmd before may have been another.
    pub fn close(&self) {
        // SAFETY: as in `store`.
        for word in unsafe { self.words.as_ref() } {
            word.store(Gate::CLOSED.0, Ordering::Release);
        }
    }

    /// Sets the gate of group `number`; no group has a number out of range.
    pub fn store(&self, number: usize, gate: Gate) {
        // SAFETY: `words` points to the mapping, page-aligned, which lives until `drop`.
        if let Some(word) = unsafe { self.words.as_ref() }.get(number) {
            word.store(gate.0, Ordering::Release);
        }
    }

    /// The gate of group `number` as stored last.
    #[must_use]
    pub fn load(&self, number: usize) -> Gate {
        // SAFETY: as in `store`.
        let word = unsafe { self.words.as_ref() }.get(number);
        word.map_or(Gate::CLOSED, |word| Gate(word.load(Ordering::Acquire)))
    }
}

impl Drop for GroupGates {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `open` with this length, and no reference to it is left.
        let unmapped = unsafe { munmap(self.words.cast(), BYTES.get()) };
        debug_assert!(unmapped.is_ok(), "the gates were mapped by open");
    }
}

/// A group of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGroup {
    /// As the program knows it.
    pub group: Group,
    /// Its family.
    pub family: Family,
    /// Its virtual addresses; none while it is to be learned.
    pub addresses: Vec<IpAddr>,
}

/// The virtual addresses of IPv4 groups, for those that are learned.
#[derive(Debug)]
pub struct LearnedAddresses {
    map: BpfMap<AddressKey, u32>,
}

impl LearnedAddresses {
    /// # Errors
    /// If the map is missing or of another shape.
    pub fn open(source: &impl MapSource) -> io::Result<Self> {
        Ok(Self { map: BpfMap::new(source.descriptor(names::GROUP_ADDRESSES)?)? })
    }

    /// Has group `number` on `vlan` answer for `address` and for no other.
    ///
    /// # Errors
    /// If the map cannot be read or written.
    pub fn set(&self, number: u32, vlan: u16, address: Ipv4Addr) -> io::Result<()> {
        let wanted = AddressKey { ip_be: be(address), vlan, pad: 0 };
        self.map.set(&wanted, &number, Update::Any)?;
        let before = self.map.entries()?.into_iter().filter(|&(_, known)| known == number);
        for (key, _) in before.filter(|(key, _)| *key != wanted) {
            self.map.delete(&key)?;
        }
        Ok(())
    }
}

/// Makes the maps hold these groups, with their virtual addresses, and routes, and nothing else; of IPv6 only if there are tables
/// for it.
///
/// # Errors
/// If a map is missing, of another shape, or cannot be written.
pub fn fill(
    source: &impl MapSource,
    groups: &[HostGroup],
    routes: &[(IpNet, RouterRoute)],
    ipv6: bool,
) -> io::Result<()> {
    let numbers: BpfMap<u32, Group> = BpfMap::new(source.descriptor(names::GROUPS)?)?;
    let macs: BpfMap<GroupKey, u32> = BpfMap::new(source.descriptor(names::GROUP_MACS)?)?;
    for (number, known) in (0..).zip(groups) {
        numbers.set(&number, &known.group, Update::Any)?;
    }
    let mac_of = |group: &Group| GroupKey { mac: group.mac, vlan: group.vlan };
    replace(&macs, (0..).zip(groups).map(|(number, known)| (mac_of(&known.group), number)))?;
    let numbered = || {
        let each = (0_u32..).zip(groups);
        each.flat_map(|(number, HostGroup { group, addresses, .. })| {
            addresses.iter().map(move |address| (number, group, address))
        })
    };
    let of_v4 = numbered().filter_map(|(number, group, address)| match address {
        IpAddr::V4(address) => Some((AddressKey { ip_be: be(*address), vlan: group.vlan, pad: 0 }, number)),
        IpAddr::V6(_) => None,
    });
    replace(&BpfMap::new(source.descriptor(names::GROUP_ADDRESSES)?)?, of_v4)?;
    let of_v4 = routes.iter().filter_map(|(net, route)| match net {
        IpNet::V4(net) => Some((prefix(net.prefix_len(), be(net.network())), *route)),
        IpNet::V6(_) => None,
    });
    replace(&BpfMap::new(source.descriptor(names::ROUTER_ROUTES)?)?, of_v4)?;
    if !ipv6 {
        return Ok(());
    }
    let of_v6 = numbered().filter_map(|(number, group, address)| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => {
            Some((AddressKey { ip_be: V6::from(*address), vlan: group.vlan, pad: 0 }, number))
        }
    });
    replace(&BpfMap::new(source.descriptor(names::GROUP_ADDRESSES6)?)?, of_v6)?;
    let of_v6 = routes.iter().filter_map(|(net, route)| match net {
        IpNet::V4(_) => None,
        IpNet::V6(net) => Some((prefix(net.prefix_len(), V6::from(net.network())), *route)),
    });
    replace(&BpfMap::new(source.descriptor(names::ROUTER_ROUTES6)?)?, of_v6)
}

fn prefix<A>(bits: u8, address_be: A) -> PrefixKey<A> {
    PrefixKey { bits: bits.into(), address_be }
}

/// Makes `map` hold `wanted` and nothing else, but never less than what stays: packets are looked up meanwhile.
fn replace<K: Pod + Eq, V: Pod>(map: &BpfMap<K, V>, wanted: impl Iterator<Item = (K, V)>) -> io::Result<()> {
    let mut keys = Vec::new();
    for (key, value) in wanted {
        map.set(&key, &value, Update::Any)?;
        keys.push(key);
    }
    for (key, _) in map.entries()?.into_iter().filter(|(key, _)| !keys.contains(key)) {
        map.delete(&key)?;
    }
    Ok(())
}
