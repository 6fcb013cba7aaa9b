//! Connections cleared by hand: both ends are told by a reset.
//!
//! What a reset must say, only the ends know: the sequence number that each expects next. So a TCP pair is not deleted but
//! marked as cleared ([`STATE_CLEARED`](csm_common::flow::STATE_CLEARED)), and the XDP program answers the next segment of
//! either end with a reset made of it. That the segment comes at once is the [`Nudge`]'s work: a segment out of order,
//! which each end must answer with an acknowledgement of where it stands (RFC 9293, section 3.10.7.4). An end that is
//! not reached by it is reset when it next speaks. What has no resets, as UDP, is deleted.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use csm_common::flow::{
    Connection, FLAG_ACK, FLAG_FORWARD, FlowEntry, FlowKey, STATE_CLOSED, STATE_ESTABLISHED,
};

use super::bpf::{BpfMap, Update, Walk};
use super::ring::{Change, DeltaSink};
use super::selection::Selection;
use super::table::Table;
use super::table::family::TableFamily;
use crate::model::Protocol;

/// Entries looked at by one system call, and so the most that are cleared at one go.
const SLICE: usize = 1024;
/// Rest after a slice in which something was cleared: about 50,000 connections a second, three segments each way.
const REST: Duration = Duration::from_millis(20);
/// Rest after one in which nothing was: a walk over a million connections takes two seconds or so, and leaves the CPU to
/// packets for most of them.
const PAUSE: Duration = Duration::from_millis(1);

/// A segment that makes its receiver say where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nudge {
    /// The other end, as the receiver knows it.
    pub from: SocketAddr,
    /// The receiver.
    pub to: SocketAddr,
    /// Next hop to the receiver.
    pub nexthop: u32,
    /// Sequence number: before what the receiver expects, if that is known here.
    pub seq: u32,
}

impl Nudge {
    /// Along the direction of `entry`, whose receiver sends by the entry `twin`.
    fn of<A: TableFamily>(entry: &FlowEntry<A>, twin: &FlowEntry<A>) -> Self {
        // Unknown, any number will do: all but those of the receiver's window are out of order.
        let seq = if twin.flags & FLAG_ACK == 0 { 0 } else { twin.ack.wrapping_sub(1) };
        let end = |ip_be: A, port_be| SocketAddr::new(ip_be.ip(), u16::from_be(port_be));
        Self {
            from: end(entry.new_src_be, entry.new_sport_be),
            to: end(entry.new_dst_be, entry.new_dport_be),
            nexthop: entry.nexthop,
            seq,
        }
    }
}

/// Clears those connections of `table` that `selection` takes, half-open ones included, and returns how many. `deltas` is
/// told of the proven ones, `nudge` sends. `rest` waits between slices and says whether to stop.
///
/// # Errors
/// Of a system call; what was cleared before it stays cleared.
pub fn clear<A: TableFamily>(
    table: &Table<A>,
    selection: &Selection,
    deltas: &DeltaSink,
    nudge: &mut dyn FnMut(&Nudge),
    rest: &mut dyn FnMut(Duration) -> ControlFlow<()>,
) -> io::Result<u64> {
    each(table, selection, deltas, rest, &mut |map, key, entry, connection| {
        let ended = end(table, map, key, entry, connection, nudge)?;
        Ok(ended.then_some(Change::Closed(*connection)))
    })
}

/// What is done with a connection, given with the map that it stands in, key and entry of its client's direction; `None`: nothing.
pub(super) type Treat<'a, A> = &'a mut dyn FnMut(
    &BpfMap<FlowKey<A>, FlowEntry<A>>,
    &FlowKey<A>,
    &FlowEntry<A>,
    &Connection<A>,
) -> io::Result<Option<Change<A>>>;

/// Does `treat` with those connections of `table` that `selection` takes, half-open ones included, and returns how many changed. See
/// [`clear`].
pub(super) fn each<A: TableFamily>(
    table: &Table<A>,
    selection: &Selection,
    deltas: &DeltaSink,
    rest: &mut dyn FnMut(Duration) -> ControlFlow<()>,
    treat: Treat<'_, A>,
) -> io::Result<u64> {
    let mut cleared = 0;
    // Half-open ones first: one that is proven meanwhile is then met among the proven.
    for map in [&table.embryonic, &table.flows] {
        let mut walk = Walk::new(SLICE);
        loop {
            let before = cleared;
            let (entries, last) = walk.next(map)?;
            let live = |entry: &FlowEntry<A>| entry.flags & FLAG_FORWARD != 0 && entry.state < STATE_CLOSED;
            for (key, entry) in entries.filter(|(_, entry)| live(entry)) {
                let connection = entry.connection(key);
                if !selection.takes(&connection) {
                    continue;
                }
                let Some(change) = treat(map, key, entry, &connection)? else { continue };
                cleared += 1;
                if entry.state >= STATE_ESTABLISHED {
                    deltas(A::delta(change));
                }
            }
            if last && cleared == before {
                break;
            }
            if rest(if cleared > before { REST } else { PAUSE }).is_break() {
                return Ok(cleared);
            }
            if last {
                break;
            }
        }
    }
    Ok(cleared)
}

/// Ends one connection; false if it was gone.
pub(super) fn end<A: TableFamily>(
    table: &Table<A>,
    map: &BpfMap<FlowKey<A>, FlowEntry<A>>,
    key: &FlowKey<A>,
    entry: &FlowEntry<A>,
    connection: &Connection<A>,
    nudge: &mut dyn FnMut(&Nudge),
) -> io::Result<bool> {
    if key.proto != Protocol::TCP_NUMBER {
        table.delete_pair(map, connection)?;
        return Ok(true);
    }
    // What was read with a thousand others may have ended since, and another connection stand under its key.
    let Some(entry) =
        map.get(key)?.filter(|now| now.generation == entry.generation && now.state < STATE_CLOSED)
    else {
        return Ok(false);
    };
    let back = connection.return_key();
    let belongs =
        |twin: &FlowEntry<A>| twin.twin_key(key.proto) == *key && twin.generation == entry.generation;
    let twin = map.get(&back)?.filter(belongs);
    if !replace(map, key, &entry.cleared())? {
        return Ok(false);
    }
    let Some(twin) = twin else { return Ok(true) };
    if replace(map, &back, &twin.cleared())? {
        nudge(&Nudge::of(&entry, &twin));
        nudge(&Nudge::of(&twin, &entry));
    }
    Ok(true)
}

/// Writes over the entry under `key`; false if it is gone.
pub(super) fn replace<A: TableFamily>(
    map: &BpfMap<FlowKey<A>, FlowEntry<A>>,
    key: &FlowKey<A>,
    entry: &FlowEntry<A>,
) -> io::Result<bool> {
    match map.set(key, entry, Update::Existing) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
