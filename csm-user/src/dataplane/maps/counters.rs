//! Counters: frames by port and reason, and what virtual servers and reals carried.

use std::io;

use csm_common::counter::{Count, NOT_COUNTED, Reason, ServiceCount, index};
use csm_common::rate::Refused;
use csm_common::{limits, names};

use super::{LoadMaps, MapSource};
use crate::dataplane::bpf::{BpfMap, PerCpuArray, Walk};
use crate::dataplane::plan::Released;

/// What came in by an interface, by its index, for each reason; `None`: by those without a count of their own.
pub type PortCounts = (Option<u32>, Vec<(Reason, Count)>);

/// The per-CPU counters.
#[derive(Debug)]
pub struct Counters {
    reasons: PerCpuArray<Count>,
    counted: BpfMap<u32, u32>,
    vservers: PerCpuArray<ServiceCount>,
    reals: PerCpuArray<ServiceCount>,
    refused: PerCpuArray<Refused>,
    loads: LoadMaps,
    places: LoadMaps,
    throttled: BpfMap<u32, u32>,
}

impl Counters {
    /// # Errors
    /// If a map is missing or of another shape.
    pub fn open(source: &impl MapSource) -> io::Result<Self> {
        Ok(Self {
            reasons: PerCpuArray::new(source.descriptor(names::COUNTERS)?)?,
            counted: BpfMap::new(source.descriptor(names::COUNTED)?)?,
            vservers: PerCpuArray::new(source.descriptor(names::VSERVER_COUNTS)?)?,
            reals: PerCpuArray::new(source.descriptor(names::REAL_COUNTS)?)?,
            refused: PerCpuArray::new(source.descriptor(names::REFUSED)?)?,
            loads: LoadMaps::open(source)?,
            places: LoadMaps::of_vservers(source)?,
            throttled: BpfMap::new(source.descriptor(names::THROTTLED)?)?,
        })
    }

    /// Frames and bytes for each reason, all CPUs together, of each interface.
    ///
    /// # Errors
    /// Of a system call.
    pub fn ports(&self) -> io::Result<Vec<PortCounts>> {
        self.slots()?.into_iter().map(|(slot, ifindex)| Ok((ifindex, self.of(slot)?))).collect()
    }

    /// The slots in use, each with its interface.
    fn slots(&self) -> io::Result<Vec<(u32, Option<u32>)>> {
        let mut slots = vec![(NOT_COUNTED, None)];
        let (mut walk, mut whole) = (Walk::new(limits::COUNTED_MAX as usize), false);
        while !whole {
            let (slice, last) = walk.next(&self.counted)?;
            slots.extend(slice.map(|(&ifindex, &slot)| (slot, Some(ifindex))));
            whole = last;
        }
        slots.sort_unstable();
        Ok(slots)
    }

    fn of(&self, slot: u32) -> io::Result<Vec<(Reason, Count)>> {
        let one = |&reason| {
            let counts = self.reasons.get(index(slot, reason))?;
            Ok((reason, counts.into_iter().fold(Count::default(), plus)))
        };
        Reason::ALL.iter().map(one).collect()
    }

    /// The same of all interfaces together.
    ///
    /// # Errors
    /// Of a system call.
    pub fn reasons(&self) -> io::Result<Vec<(Reason, Count)>> {
        Ok(total(&self.ports()?))
    }

    /// Of vserver `number`, all CPUs together.
    ///
    /// # Errors
    /// Of the system call.
    pub fn vserver(&self, number: u32) -> io::Result<ServiceCount> {
        self.vservers.get(number).map(|counts| sum(&counts))
    }

    /// First packets that vserver `number` refused, all CPUs together.
    ///
    /// # Errors
    /// Of the system call.
    pub fn refused(&self, number: u32) -> io::Result<Refused> {
        let add = |sum: Refused, count: &Refused| Refused {
            rate: sum.rate.wrapping_add(count.rate),
            client_rate: sum.client_rate.wrapping_add(count.client_rate),
            no_real: sum.no_real.wrapping_add(count.no_real),
            max_conns: sum.max_conns.wrapping_add(count.max_conns),
            owner_max_conns: sum.owner_max_conns.wrapping_add(count.owner_max_conns),
        };
        Ok(self.refused.get(number)?.iter().fold(Refused::default(), add))
    }

    /// Connections, half-open ones included, of vserver `number`, which has `max-conns`, its policies' among them, or of an owner.
    ///
    /// # Errors
    /// Of a system call.
    pub fn places(&self, number: u32) -> io::Result<u64> {
        self.places.load(number)
    }

    /// Whether real `number` gets no new connection by its limit: `max`, and below `min` again.
    ///
    /// # Errors
    /// Of a system call.
    pub fn is_full(&self, number: u32, max: u32, min: u32) -> io::Result<bool> {
        let load = self.loads.load(number)?;
        // Not taken back before a connection comes.
        let throttled = self.throttled.get(&number)?.is_some_and(|throttled| throttled != 0);
        Ok(load >= u64::from(if throttled { min } else { max }))
    }

    /// Of real `number`, all CPUs together.
    ///
    /// # Errors
    /// Of the system call.
    pub fn real(&self, number: u32) -> io::Result<ServiceCount> {
        self.reals.get(number).map(|counts| sum(&counts))
    }
}

impl Counters {
    /// Starts the counter of a reason anew, at each interface.
    ///
    /// # Errors
    /// Of a system call.
    pub fn clear_reason(&self, reason: Reason) -> io::Result<()> {
        self.slots()?.into_iter().try_for_each(|(slot, _)| self.reasons.clear(index(slot, reason)))
    }

    /// Starts the counters of vserver `number` anew.
    ///
    /// # Errors
    /// Of the system call.
    pub fn clear_vserver(&self, number: u32) -> io::Result<()> {
        self.vservers.clear(number)?;
        self.refused.clear(number)
    }

    /// Starts the counters of real `number` anew.
    ///
    /// # Errors
    /// Of the system call.
    pub fn clear_real(&self, number: u32) -> io::Result<()> {
        self.reals.clear(number)
    }

    /// Starts the counters of released numbers anew, before others get them.
    ///
    /// # Errors
    /// Of a system call.
    pub fn clear(&self, released: &Released) -> io::Result<()> {
        for &number in &released.vservers {
            self.clear_vserver(number)?;
            self.places.clear(number)?;
        }
        released.reals.iter().try_for_each(|&number| self.reals.clear(number))
    }
}

/// What was counted at all interfaces.
#[must_use]
pub fn total(ports: &[PortCounts]) -> Vec<(Reason, Count)> {
    let of = |reason: Reason| ports.iter().filter_map(move |(_, counts)| counts.get(reason as usize));
    let sum = |&reason| (reason, of(reason).map(|(_, count)| *count).fold(Count::default(), plus));
    Reason::ALL.iter().map(sum).collect()
}

fn plus(sum: Count, count: Count) -> Count {
    Count { packets: sum.packets.wrapping_add(count.packets), bytes: sum.bytes.wrapping_add(count.bytes) }
}

fn sum(counts: &[ServiceCount]) -> ServiceCount {
    counts.iter().fold(ServiceCount::default(), |sum, count| ServiceCount {
        connections: sum.connections.wrapping_add(count.connections),
        client_packets: sum.client_packets.wrapping_add(count.client_packets),
        server_packets: sum.server_packets.wrapping_add(count.server_packets),
        client_bytes: sum.client_bytes.wrapping_add(count.client_bytes),
        server_bytes: sum.server_bytes.wrapping_add(count.server_bytes),
    })
}
