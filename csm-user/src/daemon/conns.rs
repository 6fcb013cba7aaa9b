//! Connections as the API shows and clears them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use csm_common::flow::FLAG_REPLICA;
use csm_common::gate::GateState;

use super::backend::SECOND_NS;
use super::node::Node;
use crate::api::backend::Fault;
use crate::api::reply::{ClearedReply, ConnFilter, ConnReply, ConnState, ConnsReply, Endpoint, Protocol};
use crate::dataplane::clear;
use crate::dataplane::plan::Desired;
use crate::dataplane::reassign::{self, Others};
use crate::dataplane::selection::Selection;
use crate::dataplane::snapshot::Directory;
use crate::dataplane::table::family::TableFamily;
use crate::dataplane::table::{Position, Seen, Table, monotonic_ns};
use crate::model::{Failaction, Name, Service};

/// Slices of the table that are read for one page at most: some ten milliseconds.
const SLICES: usize = 4;

/// What rows are made with.
struct View {
    /// Virtual servers by number: name, and whether the service is FTP.
    vservers: BTreeMap<u32, (String, bool)>,
    desired: Arc<Desired>,
    directory: Arc<Directory>,
    /// This node sees the connections' packets.
    forwarding: bool,
    now_ns: u64,
}

impl View {
    fn of(node: &Node) -> Self {
        let (config, desired, now_ns) = (node.config(), node.desired(), monotonic_ns());
        let ftp = |name: &Name| {
            let vserver = config.vservers.iter().find(|vserver| vserver.name == *name);
            vserver
                .and_then(|vserver| vserver.virtual_server)
                .is_some_and(|server| server.service == Service::Ftp)
        };
        let vservers = desired.vservers.iter();
        let vservers = vservers.map(|(number, known)| (*number, (known.name.to_string(), ftp(&known.name))));
        let directory = node.directory.get();
        Self { vservers: vservers.collect(), forwarding: is_open(node), desired, directory, now_ns }
    }

    /// `filter` in this node's numbers.
    fn select(&self, filter: &ConnFilter) -> Result<Selection, Fault> {
        let ConnFilter { vserver, real, port, client } = filter;
        let unknown = |what: String| Fault::Refused {
            error: format!("there is no {what}"),
            remedy: Some("`show running-config` names all of them".to_owned()),
        };
        let of_vserver = |name: &String| {
            let found = self.vservers.iter().filter(|(_, (known, _))| known.eq_ignore_ascii_case(name));
            let numbers: BTreeSet<u32> = found.map(|(number, _)| *number).collect();
            if numbers.is_empty() { Err(unknown(format!("virtual server {name}"))) } else { Ok(numbers) }
        };
        let numbers = |address| {
            let reals = self.desired.reals.iter().filter(|(_, known)| known.key.address == address);
            let numbers: BTreeSet<u32> = reals.map(|(number, _)| *number).collect();
            if numbers.is_empty() { Err(unknown(format!("real {address}"))) } else { Ok(numbers) }
        };
        Ok(Selection {
            vservers: vserver.as_ref().map(of_vserver).transpose()?,
            reals: real.map(numbers).transpose()?,
            real_port_be: port.map(u16::to_be),
            client: *client,
        })
    }

    fn row<A: TableFamily>(&self, seen: &Seen<A>) -> Option<ConnReply> {
        let connection = &seen.connection;
        let replica = seen.flags & FLAG_REPLICA != 0;
        let end = |ip_be: A, port_be| Endpoint { address: ip_be.ip(), port: u16::from_be(port_be) };
        // In dispatch mode the real answers as the virtual address: its own tells more.
        let real = self.desired.reals.get(&connection.real);
        let real = real.map_or(connection.real_be.ip(), |real| real.key.address);
        let vserver = self.vservers.get(&connection.vserver);
        Some(ConnReply {
            protocol: Protocol::of(connection.proto),
            client: end(connection.client_be, connection.client_port_be),
            destination: end(connection.virtual_be, connection.virtual_port_be),
            real: Endpoint { address: real, port: u16::from_be(connection.real_port_be) },
            source: end(connection.source_be, connection.source_port_be),
            client_vlan: connection.client_vlan,
            server_vlan: connection.server_vlan,
            state: ConnState::from_flow(connection.state)?,
            vserver: vserver.map(|(name, _)| name.clone()),
            ftp: vserver.is_some_and(|(_, ftp)| *ftp),
            replicated: self.directory.is_replicated(connection.vserver, seen.flags),
            replica,
            idle_s: (self.forwarding && !replica)
                .then(|| self.now_ns.saturating_sub(seen.last_seen_ns) / SECOND_NS),
        })
    }
}

/// The connections that `filter` lets through, a page of them.
pub(super) fn page(node: &Node, filter: &ConnFilter, after: Option<&str>) -> Result<ConnsReply, Fault> {
    let view = View::of(node);
    let selection = view.select(filter)?;
    let mut next = Some(Place::parse(after)?);
    let mut connections = Vec::new();
    for _ in 0..SLICES {
        next = match (next, &node.table6) {
            (Some(Place { v6: false, position }), table6) => {
                let rest = slice(&node.table, position, &view, &selection, &mut connections)?;
                let other = || table6.is_some().then_some(Place { v6: true, position: Position::default() });
                rest.map(|position| Place { v6: false, position }).or_else(other)
            }
            (Some(Place { v6: true, position }), Some(table)) => {
                let rest = slice(table, position, &view, &selection, &mut connections)?;
                rest.map(|position| Place { v6: true, position })
            }
            (Some(_), None) | (None, _) => break,
        };
    }
    connections.sort_unstable_by_key(|row| (row.client, row.destination));
    Ok(ConnsReply { connections, next: next.map(|place| place.to_string()) })
}

/// Adds the rows of one slice of `table`; returns where the next one begins.
fn slice<A: TableFamily>(
    table: &Table<A>,
    position: Position,
    view: &View,
    selection: &Selection,
    rows: &mut Vec<ConnReply>,
) -> Result<Option<Position>, Fault> {
    let (seen, next) = table.page(position)?;
    let taken = seen.iter().filter(|seen| selection.takes(&seen.connection));
    rows.extend(taken.filter_map(|seen| view.row(seen)));
    Ok(next)
}

/// Reals that have failed and whose connections are to be reset: one walk over the tables at a time, for all that have
/// failed until it begins.
#[derive(Debug, Default)]
pub(super) struct Purges(Mutex<Failed>);

#[derive(Debug, Default)]
struct Failed {
    numbers: BTreeSet<u32>,
    walking: bool,
}

impl Purges {
    /// The reals with these numbers have failed; whether a walk is to be begun for them.
    pub(super) fn add(&self, numbers: BTreeSet<u32>) -> bool {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.numbers.extend(numbers);
        !std::mem::replace(&mut failed.walking, true)
    }

    /// Those of the next walk; `None`: it is over.
    fn next(&self) -> Option<BTreeSet<u32>> {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = std::mem::take(&mut failed.numbers);
        failed.walking = !numbers.is_empty();
        failed.walking.then_some(numbers)
    }
}

/// Clears or gives away the connections of failed reals: on the active node, whose connections they are.
pub(super) fn purge(node: &Node, purges: &Purges) {
    while let Some(numbers) = purges.next() {
        if !is_open(node) {
            continue;
        }
        for (others, numbers) in actions(node, numbers) {
            let selection = Selection { reals: Some(numbers), ..Selection::default() };
            match end_selected(node, &selection, others.as_ref()) {
                Ok(connections) if others.is_some() => {
                    tracing::info!(connections, "connections of failed reals were given to others");
                }
                Ok(cleared) => tracing::info!(cleared, "connections of failed reals were reset"),
                Err(error) => tracing::error!(%error, "connections of failed reals could not all be ended"),
            }
        }
    }
}

/// The failed reals by what is to become of their connections: who goes on with them, `None` if nobody.
fn actions(node: &Node, numbers: BTreeSet<u32>) -> Vec<(Option<Others>, BTreeSet<u32>)> {
    let (config, desired) = (node.config(), node.desired());
    let mut by_farm: BTreeMap<Option<Name>, BTreeSet<u32>> = BTreeMap::new();
    for number in numbers {
        let farm = desired.reals.get(&number).and_then(|known| config.serverfarm(&known.key.farm));
        let farm = farm.filter(|farm| farm.failaction == Some(Failaction::Reassign));
        by_farm.entry(farm.map(|farm| farm.name.clone())).or_default().insert(number);
    }
    let others = |farm: Name| config.serverfarm(&farm).map(|farm| Others::of(farm, &desired));
    by_farm.into_iter().map(|(farm, numbers)| (farm.and_then(others), numbers)).collect()
}

fn is_open(node: &Node) -> bool {
    node.gate.load().state_at(monotonic_ns()) == GateState::Open
}

/// Clears what `selection` takes, in both families, for as long as this node is active.
fn clear_selected(node: &Node, selection: &Selection) -> io::Result<u64> {
    end_selected(node, selection, None)
}

/// As [`clear_selected`], or has `others` go on with them.
fn end_selected(node: &Node, selection: &Selection, others: Option<&Others>) -> io::Result<u64> {
    let mut rest = |time| {
        std::thread::sleep(time);
        if is_open(node) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let nudge = &mut |nudge: &clear::Nudge| node.nudger.send(nudge);
    let mut ended = end_family(&node.table, selection, others, node, (nudge, &mut rest))?;
    if let Some(table) = &node.table6 {
        ended += end_family(table, selection, others, node, (nudge, &mut rest))?;
    }
    Ok(ended)
}

type Nudging<'a> = &'a mut dyn FnMut(&clear::Nudge);
type Resting<'a> = &'a mut dyn FnMut(std::time::Duration) -> ControlFlow<()>;

fn end_family<A: TableFamily>(
    table: &Table<A>,
    selection: &Selection,
    others: Option<&Others>,
    node: &Node,
    (nudge, rest): (Nudging<'_>, Resting<'_>),
) -> io::Result<u64> {
    match others {
        Some(others) => reassign::reassign(table, selection, others, &node.deltas, nudge, rest),
        None => clear::clear(table, selection, &node.deltas, nudge, rest),
    }
}

/// Clears the connections that `filter` lets through.
pub(super) fn clear(node: &Node, filter: &ConnFilter) -> Result<ClearedReply, Fault> {
    let view = View::of(node);
    let selection = view.select(filter)?;
    if !view.forwarding {
        return Err(Fault::Refused {
            error: "this box is not active: its connections are the peer's".to_owned(),
            remedy: Some("give the command on the active box".to_owned()),
        });
    }
    let cleared = clear_selected(node, &selection)?;
    tracing::info!(cleared, ?filter, "connections cleared");
    Ok(ClearedReply { cleared })
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    v6: bool,
    position: Position,
}

impl Place {
    /// As [`Place`] writes itself; `None`: the beginning.
    fn parse(after: Option<&str>) -> Result<Self, Fault> {
        let Some(after) = after else { return Ok(Self::default()) };
        let place = || {
            let (family, rest) = after.split_once('-')?;
            let (table, bucket) = rest.split_once('-')?;
            let v6 = [false, true].into_iter().find(|&v6| family_mark(v6) == family)?;
            let half_open = [false, true].into_iter().find(|&half_open| table_mark(half_open) == table)?;
            let bucket = bucket.parse().ok()?;
            Some(Self { v6, position: Position { half_open, bucket: (bucket != 0).then_some(bucket) } })
        };
        place().ok_or_else(|| Fault::Refused {
            error: format!("{after} is no place among the connections"),
            remedy: Some("take `next` of the page before".to_owned()),
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Position { half_open, bucket } = self.position;
        write!(f, "{}-{}-{}", family_mark(self.v6), table_mark(half_open), bucket.unwrap_or(0))
    }
}

const fn family_mark(v6: bool) -> &'static str {
    if v6 { "ipv6" } else { "ipv4" }
}

const fn table_mark(half_open: bool) -> &'static str {
    if half_open { "half_open" } else { "proven" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Place, Position, Purges};

    #[test]
    fn reals_that_fail_during_a_walk_have_the_next_one_together() {
        let purges = Purges::default();
        assert!(purges.add(BTreeSet::from([1])));
        assert_eq!(purges.next(), Some(BTreeSet::from([1])));
        assert!(!purges.add(BTreeSet::from([2])) && !purges.add(BTreeSet::from([3])), "it goes on with them");
        assert_eq!(purges.next(), Some(BTreeSet::from([2, 3])));
        assert_eq!(purges.next(), None);
        assert!(purges.add(BTreeSet::from([4])), "a new one");
    }

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is_one() {
        for v6 in [false, true] {
            for half_open in [false, true] {
                for bucket in [None, Some(1), Some(u32::MAX)] {
                    let place = Place { v6, position: Position { half_open, bucket } };
                    assert_eq!(Place::parse(Some(&place.to_string())), Ok(place));
                }
            }
        }
        assert_eq!(Place::parse(None), Ok(Place::default()));
        for wrong in
            ["", "7", "ipv4-proven-", "ipv5-proven-1", "ipv4-open-1", "ipv4-proven-1x", "ipv4-proven--1"]
        {
            assert!(Place::parse(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
