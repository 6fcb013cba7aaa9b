//! `failaction reassign`: connections of failed reals go on at others of their farm.
//!
//! A real whose packets only change their MAC address on the way (dispatch mode) may be a firewall or another host between the ends: a
//! TCP connection through it goes on through another one, so both its entries are pointed there. Half-open ones, and what is
//! not TCP, leave the table: the client's next packet chooses anew. A server that has the connection itself cannot be replaced: with
//! server NAT, or without another real in rotation, TCP is reset at both ends, as [`clear`](super::clear) does.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use csm_common::flow::{Connection, FlowEntry, FlowKey, STATE_CLOSED, STATE_ESTABLISHED};

use super::bpf::{BpfMap, Update};
use super::clear::{Nudge, each, end, replace};
use super::plan::Desired;
use super::predictor;
use super::ring::{Change, DeltaSink};
use super::selection::Selection;
use super::table::Table;
use super::table::family::TableFamily;
use crate::model::{Protocol, Serverfarm, fnv1a};

/// Slots of the ring that connections are spread by.
const SLOTS: u32 = 256;

/// Where connections of a farm's failed reals go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// One real or several times the same, as their weights say; none: TCP is reset.
    ring: Vec<Other>,
}

/// A real that goes on with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Other {
    real: u32,
    nexthop: u32,
    vlan: u16,
}

impl Others {
    /// The reals of `farm` in rotation, by the plan in force; none if their connections cannot change hands.
    #[must_use]
    pub fn of(farm: &Serverfarm, desired: &Desired) -> Self {
        if farm.nat_server {
            return Self::default();
        }
        let weight = |number: &u32| {
            let key = &desired.reals.get(number)?.key;
            let meant = farm.reals.iter().find(|real| (real.address, real.port) == (key.address, key.port));
            meant.filter(|_| key.farm == farm.name && desired.in_rotation(*number)).map(|real| real.weight)
        };
        let weights = desired.reals.keys().filter_map(|number| Some((*number, weight(number)?)));
        let way = |number: &u32| {
            let v4 = desired.contents.reals.get(number).map(|real| (real.nexthop, real.vlan));
            v4.or_else(|| desired.contents6.reals.get(number).map(|real| (real.nexthop, real.vlan)))
        };
        let ring = predictor::ring(&weights.collect::<Vec<_>>(), SLOTS);
        let other = |real: u32| way(&real).map(|(nexthop, vlan)| Other { real, nexthop, vlan });
        Self { ring: ring.into_iter().filter_map(other).collect() }
    }

    /// The one for the client at `port_be` of its address, in octets.
    fn choose(&self, client: &[u8], port_be: u16) -> Option<Other> {
        let hash = fnv1a(&[client, &port_be.to_ne_bytes()].concat());
        // Of a product of FNV the upper bits are the better ones.
        let slot = usize::try_from(hash >> 32).unwrap_or(0).checked_rem(self.ring.len())?;
        self.ring.get(slot).copied()
    }
}

/// Has those connections of `table` that `selection` takes go on at `others`, and returns how many left their real. See
/// [`clear`](super::clear::clear) for the rest.
///
/// # Errors
/// Of a system call; what was done before it stays.
pub fn reassign<A: TableFamily>(
    table: &Table<A>,
    selection: &Selection,
    others: &Others,
    deltas: &DeltaSink,
    nudge: &mut dyn FnMut(&Nudge),
    rest: &mut dyn FnMut(Duration) -> ControlFlow<()>,
) -> io::Result<u64> {
    each(table, selection, deltas, rest, &mut |map, key, entry, connection| {
        let gone = Ok(Some(Change::Closed(*connection)));
        let client = match connection.client_be.ip() {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        };
        match others.choose(&client, connection.client_port_be) {
            _ if connection.proto != Protocol::TCP_NUMBER => table.delete_pair(map, connection).and(gone),
            Some(_) if entry.state < STATE_ESTABLISHED => table.delete_pair(map, connection).and(gone),
            Some(other) => match lead(map, key, entry, connection, other)? {
                Some(led) => Ok(Some(Change::Up(led))),
                None => Ok(None),
            },
            None => {
                Ok(end(table, map, key, entry, connection, nudge)?.then_some(Change::Closed(*connection)))
            }
        }
    })
}

/// Points both entries of a connection at `other`; `None` if it is gone, or the way back is another connection's.
fn lead<A: TableFamily>(
    map: &BpfMap<FlowKey<A>, FlowEntry<A>>,
    key: &FlowKey<A>,
    entry: &FlowEntry<A>,
    connection: &Connection<A>,
    other: Other,
) -> io::Result<Option<Connection<A>>> {
    // What was read with a thousand others may have ended since, and another connection stand under its key.
    let same = |now: &FlowEntry<A>| now.generation == entry.generation && now.state < STATE_CLOSED;
    let Some(entry) = map.get(key)?.filter(same) else { return Ok(None) };
    let led = Connection { real: other.real, server_vlan: other.vlan, ..*connection };
    let (before, back) = (connection.return_key(), led.return_key());
    let belongs = |twin: &FlowEntry<A>| twin.twin_key(key.proto) == *key;
    let Some(twin) = map.get(&before)?.filter(|twin| same(twin) && belongs(twin)) else { return Ok(None) };
    let answering = FlowEntry { real: other.real, ..twin };
    // The way back first: an answer by a way that is not known yet would be lost.
    if back == before {
        replace(map, &back, &answering)?;
    } else if let Err(error) = map.set(&back, &answering, Update::New) {
        return if error.kind() == io::ErrorKind::AlreadyExists { Ok(None) } else { Err(error) };
    }
    let asking = FlowEntry { real: other.real, nexthop: other.nexthop, egress_vlan: other.vlan, ..entry };
    let there = replace(map, key, &asking)?;
    if back != before {
        map.delete(if there { &before } else { &back })?;
    }
    Ok(there.then_some(led))
}
