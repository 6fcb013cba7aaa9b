//! Replication's view of the kernel's tables: between records that carry identities and entries that carry this node's
//! numbers.

use std::io;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::Sender;
use csm_common::flow::{Connection, FLAG_REPLICATE, FlowKey, NONE, STATE_CLOSING, STATE_ESTABLISHED};
use csm_common::service::{StickyEntry, StickyKey as LocalStickyKey};

use crate::dataplane::ring::Delta;
use crate::dataplane::routes::{be, from_be};
use crate::dataplane::snapshot::{Directory, DirectoryCell, StickyGroup as LocalGroup};
use crate::dataplane::table::{self, Insert, InsertError, Seen, Table, monotonic_ns};
use crate::model::{Host, StableId};
use crate::replication::record::{
    Conflict, ConnGone, ConnKey, ConnRecord, ConnState, DeltaEvent, Refusal, ReplicaTable, StickyGroup,
    StickyKey, StickyRecord,
};

const SECOND: u64 = 1_000_000_000;

/// Gives the next-hop number of a neighbour, entering it in the neighbour table if need be.
pub type HopNumber = Arc<dyn Fn(Host) -> Option<u32> + Send + Sync>;

/// The tables as replication uses them.
pub struct KernelReplica {
    table: Arc<Table>,
    directory: Arc<DirectoryCell>,
    hop_number: HopNumber,
}

impl std::fmt::Debug for KernelReplica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelReplica").field("table", &self.table).finish_non_exhaustive()
    }
}

impl KernelReplica {
    /// On `table`, with the identities of `directory`.
    #[must_use]
    pub fn new(table: Arc<Table>, directory: Arc<DirectoryCell>, hop_number: HopNumber) -> Self {
        Self { table, directory, hop_number }
    }

    fn localize(&self, record: &ConnRecord, directory: &Directory) -> Result<Insert, Refusal> {
        let vserver = directory.vserver_number(record.vserver).ok_or(Refusal::UnknownVserver)?;
        let key = &record.key;
        let (real, to_server) = if record.real_id == StableId::NONE {
            let hop = self.hop(record.real, record.server_vlan, directory).ok_or(Refusal::NoNextHop)?;
            (NONE, hop)
        } else {
            directory.real(record.real_id).ok_or(Refusal::UnknownReal)?
        };
        let to_client = self.hop(key.client, key.client_vlan, directory).ok_or(Refusal::NoNextHop)?;
        let connection = Connection {
            client_be: be(key.client),
            virtual_be: be(key.virtual_address),
            real_be: be(record.real),
            source_be: be(record.source),
            client_port_be: key.client_port.to_be(),
            virtual_port_be: key.virtual_port.to_be(),
            real_port_be: record.real_port.to_be(),
            source_port_be: record.source_port.to_be(),
            client_vlan: key.client_vlan,
            server_vlan: record.server_vlan,
            proto: key.proto,
            state: match record.state {
                ConnState::Established => STATE_ESTABLISHED,
                ConnState::Closing => STATE_CLOSING,
            },
            pad: 0,
            vserver,
            real,
            generation: record.generation,
        };
        Ok(Insert { connection, to_server, to_client, idle_ns: u64::from(record.idle_s) * SECOND })
    }

    /// The neighbour towards `address` must be on the VLAN its packets come in on: those to it leave there.
    fn hop(&self, address: Ipv4Addr, vlan: u16, directory: &Directory) -> Option<u32> {
        let hop = directory.hop(address)?;
        if hop.vlan != vlan {
            return None;
        }
        (self.hop_number)(hop)
    }

    fn localize_sticky(
        record: &StickyRecord,
        directory: &Directory,
        now_ns: u64,
    ) -> Result<(LocalStickyKey, StickyEntry), Refusal> {
        let key = local_sticky_key(&record.key, directory).ok_or(Refusal::UnknownVserver)?;
        let (real, _) = directory.real(record.real_id).ok_or(Refusal::UnknownReal)?;
        let last_used_ns = now_ns.saturating_sub(u64::from(record.idle_s) * SECOND);
        Ok((key, StickyEntry { last_used_ns, life_s: record.life_s, real }))
    }
}

impl ReplicaTable for KernelReplica {
    fn upsert_connections(&self, records: &[ConnRecord], conflict: Conflict) -> Vec<Result<(), Refusal>> {
        let directory = self.directory.get();
        let localized: Vec<Result<Insert, Refusal>> =
            records.iter().map(|record| self.localize(record, &directory)).collect();
        let inserts: Vec<Insert> =
            localized.iter().filter_map(|insert| insert.as_ref().ok().copied()).collect();
        let conflict = match conflict {
            Conflict::Replace => table::Conflict::Replace,
            Conflict::KeepNewer => table::Conflict::KeepNewer,
            Conflict::Keep => table::Conflict::Keep,
        };
        merge(localized, self.table.insert(&inserts, conflict))
    }

    fn delete_connections(&self, gone: &[ConnGone], conflict: Conflict) {
        for gone in gone {
            let key = forward_key(&gone.key);
            let deleted = match conflict {
                Conflict::Keep => self.table.delete_unused(&key, Some(gone.generation)),
                Conflict::Replace | Conflict::KeepNewer => self.table.delete(&key, Some(gone.generation)),
            };
            if let Err(error) = deleted {
                tracing::warn!(%error, "a replicated connection could not be deleted");
            }
        }
    }

    fn upsert_sticky(&self, records: &[StickyRecord], conflict: Conflict) -> Vec<Result<(), Refusal>> {
        let (directory, now_ns) = (self.directory.get(), monotonic_ns());
        let localized: Vec<Result<(LocalStickyKey, StickyEntry), Refusal>> =
            records.iter().map(|record| Self::localize_sticky(record, &directory, now_ns)).collect();
        let entries: Vec<_> = localized.iter().filter_map(|entry| entry.as_ref().ok().copied()).collect();
        merge(localized, self.table.insert_sticky(&entries, conflict == Conflict::Keep))
    }

    fn delete_sticky(&self, keys: &[StickyKey]) {
        let directory = self.directory.get();
        let keys: Vec<LocalStickyKey> =
            keys.iter().filter_map(|key| local_sticky_key(key, &directory)).collect();
        if let Err(error) = self.table.delete_sticky(&keys) {
            tracing::warn!(%error, "replicated sticky entries could not be deleted");
        }
    }

    fn visit_connections(&self, visit: &mut dyn FnMut(&[ConnRecord]) -> ControlFlow<()>) -> io::Result<()> {
        self.table.visit(&mut |chunk| {
            let (directory, now_ns) = (self.directory.get(), monotonic_ns());
            let records: Vec<ConnRecord> = chunk
                .iter()
                .filter(|seen| seen.flags & FLAG_REPLICATE != 0)
                .filter_map(|seen| globalize(&seen.connection, idle_s(seen, now_ns), &directory))
                .collect();
            visit(&records)
        })
    }

    fn visit_sticky(&self, visit: &mut dyn FnMut(&[StickyRecord]) -> ControlFlow<()>) -> io::Result<()> {
        self.table.visit_sticky(&mut |chunk| {
            let (directory, now_ns) = (self.directory.get(), monotonic_ns());
            let records: Vec<StickyRecord> = chunk
                .iter()
                .filter(|(key, _)| directory.replicates_sticky(key.group))
                .filter_map(|(key, entry)| globalize_sticky(key, entry, now_ns, &directory))
                .collect();
            visit(&records)
        })
    }
}

/// The table's results, in the places of those records that came so far.
fn merge<T>(
    localized: Vec<Result<T, Refusal>>,
    results: Vec<Result<(), InsertError>>,
) -> Vec<Result<(), Refusal>> {
    let mut results = results.into_iter();
    localized
        .into_iter()
        .map(|localized| {
            localized?;
            results.next().unwrap_or(Err(InsertError::Full)).map_err(|error| match error {
                InsertError::Exists => Refusal::Exists,
                InsertError::Superseded => Refusal::Superseded,
                InsertError::Full => Refusal::TableFull,
                InsertError::Io(_) => Refusal::Internal,
            })
        })
        .collect()
}

fn idle_s(seen: &Seen, now_ns: u64) -> u32 {
    seconds(now_ns.saturating_sub(seen.last_seen_ns))
}

fn seconds(ns: u64) -> u32 {
    u32::try_from(ns / SECOND).unwrap_or(u32::MAX)
}

fn forward_key(key: &ConnKey) -> FlowKey {
    FlowKey {
        src_be: be(key.client),
        dst_be: be(key.virtual_address),
        sport_be: key.client_port.to_be(),
        dport_be: key.virtual_port.to_be(),
        vlan: key.client_vlan,
        proto: key.proto,
        pad: 0,
    }
}

fn conn_key(connection: &Connection) -> ConnKey {
    ConnKey {
        proto: connection.proto,
        client_vlan: connection.client_vlan,
        client: from_be(connection.client_be),
        client_port: u16::from_be(connection.client_port_be),
        virtual_address: from_be(connection.virtual_be),
        virtual_port: u16::from_be(connection.virtual_port_be),
    }
}

/// `None` for half-open and finished ones, and where vserver or real are not configured any more.
fn globalize(connection: &Connection, idle_s: u32, directory: &Directory) -> Option<ConnRecord> {
    Some(ConnRecord {
        key: conn_key(connection),
        real: from_be(connection.real_be),
        real_port: u16::from_be(connection.real_port_be),
        source: from_be(connection.source_be),
        source_port: u16::from_be(connection.source_port_be),
        server_vlan: connection.server_vlan,
        vserver: directory.vserver_id(connection.vserver)?,
        real_id: match connection.real {
            NONE => StableId::NONE,
            number => directory.real_id(number)?,
        },
        state: match connection.state {
            STATE_ESTABLISHED => ConnState::Established,
            STATE_CLOSING => ConnState::Closing,
            _ => return None,
        },
        generation: connection.generation,
        idle_s,
    })
}

fn globalize_sticky(
    key: &LocalStickyKey,
    entry: &StickyEntry,
    now_ns: u64,
    directory: &Directory,
) -> Option<StickyRecord> {
    Some(StickyRecord {
        key: global_sticky_key(key, directory)?,
        real_id: directory.real_id(entry.real)?,
        life_s: entry.life_s,
        idle_s: seconds(now_ns.saturating_sub(entry.last_used_ns)),
    })
}

fn global_sticky_key(key: &LocalStickyKey, directory: &Directory) -> Option<StickyKey> {
    let group = match directory.sticky_group(key.group)? {
        LocalGroup::Shared(group) => StickyGroup::Shared(group),
        LocalGroup::Private(id) => StickyGroup::Private(id),
    };
    let client: Ipv4Addr = from_be(key.client_be);
    Some(StickyKey { group, client })
}

fn local_sticky_key(key: &StickyKey, directory: &Directory) -> Option<LocalStickyKey> {
    let group = match key.group {
        StickyGroup::Shared(group) => LocalGroup::Shared(group),
        StickyGroup::Private(id) => LocalGroup::Private(id),
    };
    Some(LocalStickyKey { group: directory.sticky_number(group)?, client_be: be(key.client) })
}

/// Hands this node's deltas to replication's queue; never waits. What finds no room is told as lost with the next that
/// does.
#[derive(Debug)]
pub struct DeltaQueue {
    events: Sender<DeltaEvent>,
    directory: Arc<DirectoryCell>,
    lost: AtomicU64,
}

impl DeltaQueue {
    /// Into `events`.
    #[must_use]
    pub const fn new(events: Sender<DeltaEvent>, directory: Arc<DirectoryCell>) -> Self {
        Self { events, directory, lost: AtomicU64::new(0) }
    }

    /// Tells `delta` if it is about something replicated.
    pub fn tell(&self, delta: Delta) {
        let Some(event) = translate(delta, &self.directory.get()) else { return };
        let lost = self.lost.swap(0, Ordering::AcqRel);
        if lost > 0 && self.events.try_send(DeltaEvent::Lost(lost)).is_err() {
            self.lost.fetch_add(lost + weight(&event), Ordering::AcqRel);
            return;
        }
        if self.events.try_send(event).is_err() {
            self.lost.fetch_add(weight(&event), Ordering::AcqRel);
        }
    }

    /// Deltas that found no room and have not been told of yet.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }
}

const fn weight(event: &DeltaEvent) -> u64 {
    match event {
        DeltaEvent::Lost(count) => *count,
        DeltaEvent::Flushed => 0,
        _ => 1,
    }
}

fn translate(delta: Delta, directory: &Directory) -> Option<DeltaEvent> {
    match delta {
        Delta::Up(connection) if directory.replicates(connection.vserver) => {
            globalize(&connection, 0, directory).map(DeltaEvent::ConnectionUp)
        }
        Delta::Closed(connection) if directory.replicates(connection.vserver) => {
            Some(DeltaEvent::ConnectionClosed(ConnGone {
                key: conn_key(&connection),
                generation: connection.generation,
            }))
        }
        Delta::Sticky(key, entry) if directory.replicates_sticky(key.group) => {
            globalize_sticky(&key, &entry, monotonic_ns(), directory).map(DeltaEvent::Sticky)
        }
        Delta::StickyGone(key) if directory.replicates_sticky(key.group) => {
            global_sticky_key(&key, directory).map(DeltaEvent::StickyGone)
        }
        Delta::Lost(count) => Some(DeltaEvent::Lost(count)),
        Delta::Flushed => Some(DeltaEvent::Flushed),
        Delta::Up(_) | Delta::Closed(_) | Delta::Sticky(..) | Delta::StickyGone(_) => None,
    }
}
