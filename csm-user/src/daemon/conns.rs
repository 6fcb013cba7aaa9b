//! Connections as the API shows and clears them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use csm_common::flow::{FLAG_REPLICA, FLAG_REPLICATE};
use csm_common::gate::GateState;

use super::backend::{SECOND_NS, address};
use super::node::Node;
use crate::api::backend::Fault;
use crate::api::reply::{ClearedReply, ConnFilter, ConnReply, ConnState, ConnsReply, Endpoint, Protocol};
use crate::dataplane::clear;
use crate::dataplane::family::wire;
use crate::dataplane::plan::Desired;
use crate::dataplane::selection::Selection;
use crate::dataplane::table::{Position, Seen, monotonic_ns};

/// Slices of the table that are read for one page at most: some ten milliseconds.
const SLICES: usize = 4;

/// Marks a place among the half-open connections.
const HALF_OPEN: &str = "h";
/// Marks a place among the proven ones.
const PROVEN: &str = "p";

/// What rows are made with.
struct View {
    /// Virtual servers by number: name, and whether the service is FTP.
    vservers: BTreeMap<u32, (String, bool)>,
    desired: Arc<Desired>,
    /// This node sees the connections' packets.
    forwarding: bool,
    now_ns: u64,
}

impl View {
    fn of(node: &Node) -> Self {
        let (config, desired, now_ns) = (node.config(), node.desired(), monotonic_ns());
        let ftp = |name: &crate::model::Name| {
            let vserver = config.vservers.iter().find(|vserver| vserver.name == *name);
            vserver.and_then(|vserver| vserver.virtual_server).is_some_and(|server| server.ftp)
        };
        let vservers = desired.vservers.iter();
        let vservers = vservers.map(|(number, known)| (*number, (known.name.to_string(), ftp(&known.name))));
        Self {
            vservers: vservers.collect(),
            forwarding: node.gate.load().state_at(now_ns) == GateState::Open,
            desired,
            now_ns,
        }
    }

    /// `filter` in this node's numbers.
    fn select(&self, filter: &ConnFilter) -> Result<Selection, Fault> {
        let ConnFilter { vserver, real, port, client } = filter;
        let unknown = |what: String| Fault::Refused {
            error: format!("there is no {what}"),
            remedy: Some("`show running-config` names all of them".to_owned()),
        };
        let number = |name: &String| {
            let found = self.vservers.iter().find(|(_, (known, _))| known.eq_ignore_ascii_case(name));
            found.map(|(number, _)| *number).ok_or_else(|| unknown(format!("virtual server {name}")))
        };
        let numbers = |address| {
            let reals = self.desired.reals.iter().filter(|(_, known)| known.key.address == address);
            let numbers: std::collections::BTreeSet<u32> = reals.map(|(number, _)| *number).collect();
            if numbers.is_empty() { Err(unknown(format!("real {address}"))) } else { Ok(numbers) }
        };
        Ok(Selection {
            vserver: vserver.as_ref().map(number).transpose()?,
            reals: real.map(numbers).transpose()?,
            real_port_be: port.map(u16::to_be),
            client_be: client.map(wire),
        })
    }

    fn row(&self, seen: &Seen) -> Option<ConnReply> {
        let connection = &seen.connection;
        let replica = seen.flags & FLAG_REPLICA != 0;
        let end = |ip_be, port_be| Endpoint { address: address(ip_be).into(), port: u16::from_be(port_be) };
        // In dispatch mode the real answers as the virtual address: its own tells more.
        let real = self.desired.reals.get(&connection.real);
        let real = real.map_or(connection.real_be, |real| wire(real.key.address));
        let vserver = self.vservers.get(&connection.vserver);
        Some(ConnReply {
            protocol: Protocol::of(connection.proto),
            client: end(connection.client_be, connection.client_port_be),
            destination: end(connection.virtual_be, connection.virtual_port_be),
            real: end(real, connection.real_port_be),
            source: end(connection.source_be, connection.source_port_be),
            client_vlan: connection.client_vlan,
            server_vlan: connection.server_vlan,
            state: ConnState::from_flow(connection.state)?,
            vserver: vserver.map(|(name, _)| name.clone()),
            ftp: vserver.is_some_and(|(_, ftp)| *ftp),
            replicated: seen.flags & FLAG_REPLICATE != 0,
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
    let mut next = Some(position(after)?);
    let mut connections = Vec::new();
    for _ in 0..SLICES {
        let Some(position) = next else { break };
        let (seen, following) = node.table.page(position)?;
        let taken = seen.iter().filter(|seen| selection.takes(&seen.connection));
        connections.extend(taken.filter_map(|seen| view.row(seen)));
        next = following;
    }
    connections.sort_unstable_by_key(|row| (row.client, row.destination));
    Ok(ConnsReply { connections, next: next.map(token) })
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
    let mut rest = |time| {
        std::thread::sleep(time);
        match node.gate.load().state_at(monotonic_ns()) {
            GateState::Open => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    };
    let nudge = &mut |nudge: &clear::Nudge| node.nudger.send(nudge);
    let cleared = clear::clear(&node.table, &selection, &node.deltas, nudge, &mut rest)?;
    tracing::info!(cleared, ?filter, "connections cleared");
    Ok(ClearedReply { cleared })
}

fn token(position: Position) -> String {
    let table = if position.half_open { HALF_OPEN } else { PROVEN };
    format!("{table}{}", position.bucket.unwrap_or(0))
}

fn position(after: Option<&str>) -> Result<Position, Fault> {
    let Some(after) = after else { return Ok(Position::default()) };
    let parse = |table, half_open| {
        let bucket = after.strip_prefix(table)?.parse().ok()?;
        Some(Position { half_open, bucket: (bucket != 0).then_some(bucket) })
    };
    parse(PROVEN, false).or_else(|| parse(HALF_OPEN, true)).ok_or_else(|| Fault::Refused {
        error: format!("{after} is no place among the connections"),
        remedy: Some("take `next` of the page before".to_owned()),
    })
}
