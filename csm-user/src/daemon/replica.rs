//! Replication's view of the kernel's tables: between records that carry identities and entries that carry this node's
//! numbers.

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::Sender;
use csm_common::address::V6;
use csm_common::flow::{
    Connection, FlowKey, NONE, STATE_CLOSING, STATE_ESTABLISHED, STATE_SYN, STATE_SYN_ACK,
};
use csm_common::service::{StickyEntry, StickyKey as LocalStickyKey};

use crate::dataplane::ring::{Change, Delta};
use crate::dataplane::snapshot::{Directory, DirectoryCell, StickyGroup as LocalGroup};
use crate::dataplane::table::family::TableFamily;
use crate::dataplane::table::{self, Insert, InsertError, Seen, Sticky, Table, monotonic_ns};
use crate::model::{Host, StableId};
use crate::replication::record::{
    Conflict, ConnGone, ConnKey, ConnRecord, ConnState, DeltaEvent, Handshake, Refusal, ReplicaTable,
    StickyGroup, StickyKey, StickyRecord,
};

const SECOND: u64 = 1_000_000_000;

/// Gives the next-hop number of a neighbour, entering it in the neighbour table if need be.
pub type HopNumber = Arc<dyn Fn(Host) -> Option<u32> + Send + Sync>;

/// The tables as replication uses them.
pub struct KernelReplica {
    table: Arc<Table>,
    table6: Option<Arc<Table<V6>>>,
    directory: Arc<DirectoryCell>,
    hop_number: HopNumber,
}

impl std::fmt::Debug for KernelReplica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelReplica").field("table", &self.table).finish_non_exhaustive()
    }
}

impl KernelReplica {
    /// On the tables of both families (`table6` if this node has IPv6), with the identities of `directory`.
    #[must_use]
    pub fn new(
        table: Arc<Table>,
        table6: Option<Arc<Table<V6>>>,
        directory: Arc<DirectoryCell>,
        hop_number: HopNumber,
    ) -> Self {
        Self { table, table6, directory, hop_number }
    }

    fn localize<A: TableFamily>(
        &self,
        record: &ConnRecord,
        directory: &Directory,
    ) -> Result<Insert<A>, Refusal> {
        let vserver = directory.vserver_number(record.vserver).ok_or(Refusal::UnknownVserver)?;
        let key = &record.key;
        let (real, to_server) = if record.real_id == StableId::NONE {
            let hop = self.hop(record.real, record.server_vlan, directory).ok_or(Refusal::NoNextHop)?;
            (NONE, hop)
        } else {
            directory.real(record.real_id).ok_or(Refusal::UnknownReal)?
        };
        let (via, to_client) = if record.via == StableId::NONE {
            let hop = self.hop(key.client, key.client_vlan, directory).ok_or(Refusal::NoNextHop)?;
            (0, hop)
        } else {
            let (number, hop) = directory.real(record.via).ok_or(Refusal::UnknownReal)?;
            (u16::try_from(number + 1).map_err(|_| Refusal::Internal)?, hop)
        };
        // One family holds all of them: the peer's table does, and each tag of the stream names one.
        let wire = |address| A::of(address).ok_or(Refusal::Internal);
        let connection = Connection {
            client_be: wire(key.client)?,
            virtual_be: wire(key.virtual_address)?,
            real_be: wire(record.real)?,
            source_be: wire(record.source)?,
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
            via,
            vserver,
            real,
            generation: record.generation,
        };
        let mark = directory.mark(vserver);
        Ok(Insert { connection, to_server, to_client, idle_ns: u64::from(record.idle_s) * SECOND, mark })
    }

    /// The neighbour towards `address` must be on the VLAN its packets come in on: those to it leave there.
    fn hop(&self, address: IpAddr, vlan: u16, directory: &Directory) -> Option<u32> {
        let hop = directory.hop(address)?;
        if hop.vlan != vlan {
            return None;
        }
        (self.hop_number)(hop)
    }

    /// The connections among `records` that are of `table`'s family, each result in its record's place.
    fn upsert<A: TableFamily>(
        &self,
        table: &Table<A>,
        records: &[ConnRecord],
        conflict: Conflict,
        results: &mut [Result<(), Refusal>],
    ) {
        let directory = self.directory.get();
        let (places, localized): (Vec<usize>, Vec<Result<Insert<A>, Refusal>>) = (0..)
            .zip(records)
            .filter(|(_, record)| A::of(record.key.client).is_some())
            .map(|(place, record)| (place, self.localize(record, &directory)))
            .unzip();
        let inserts: Vec<Insert<A>> =
            localized.iter().filter_map(|insert| insert.as_ref().ok().copied()).collect();
        let conflict = match conflict {
            Conflict::Replace => table::Conflict::Replace,
            Conflict::KeepNewer => table::Conflict::KeepNewer,
            Conflict::Keep => table::Conflict::Keep,
        };
        let merged = merge(localized, table.insert(&inserts, conflict));
        places.into_iter().zip(merged).for_each(|(place, result)| results[place] = result);
    }

    /// Enters the handshakes that are of `table`'s family; how many stand.
    fn enter<A: TableFamily>(&self, table: &Table<A>, handshakes: &[Handshake], keep: bool) -> usize {
        let directory = self.directory.get();
        let entered = |handshake: &&Handshake| {
            let Ok(mut insert) = self.localize::<A>(&handshake.becomes, &directory) else { return false };
            insert.connection.state = if handshake.answered { STATE_SYN_ACK } else { STATE_SYN };
            table.enter_handshake(&insert, handshake.expect, keep).unwrap_or_else(|error| {
                tracing::debug!(%error, "a handshake of the peer's could not be entered");
                false
            })
        };
        let of_family = |handshake: &&Handshake| A::of(handshake.becomes.key.client).is_some();
        handshakes.iter().filter(of_family).filter(entered).count()
    }

    /// As [`upsert`](Self::upsert), for sticky entries.
    fn upsert_stickies<A: TableFamily>(
        &self,
        table: &Table<A>,
        records: &[StickyRecord],
        conflict: Conflict,
        results: &mut [Result<(), Refusal>],
    ) {
        let (directory, now_ns) = (self.directory.get(), monotonic_ns());
        let (places, localized): (Vec<usize>, Vec<Result<Sticky<A>, Refusal>>) = (0..)
            .zip(records)
            .filter(|(_, record)| A::of(record.key.client).is_some())
            .map(|(place, record)| (place, localize_sticky(record, &directory, now_ns)))
            .unzip();
        let entries: Vec<Sticky<A>> =
            localized.iter().filter_map(|entry| entry.as_ref().ok().copied()).collect();
        let merged = merge(localized, insert_stickies(table, &entries, &directory, conflict));
        places.into_iter().zip(merged).for_each(|(place, result)| results[place] = result);
    }

    /// Walks `table`; whether to go on.
    fn visit<A: TableFamily>(
        &self,
        table: &Table<A>,
        visit: &mut dyn FnMut(&[ConnRecord]) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        let mut flow = ControlFlow::Continue(());
        table.visit(&mut |chunk| {
            let (directory, now_ns) = (self.directory.get(), monotonic_ns());
            let records: Vec<ConnRecord> = chunk
                .iter()
                .filter(|seen| directory.is_replicated(seen.connection.vserver, seen.flags))
                .filter_map(|seen| globalize(&seen.connection, idle_s(seen, now_ns), &directory))
                .collect();
            flow = visit(&records);
            flow
        })?;
        Ok(flow)
    }

    /// As [`visit`](Self::visit), for sticky entries.
    fn visit_stickies<A: TableFamily>(
        &self,
        table: &Table<A>,
        visit: &mut dyn FnMut(&[StickyRecord]) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        let mut flow = ControlFlow::Continue(());
        table.visit_sticky(&mut |chunk| {
            let (directory, now_ns) = (self.directory.get(), monotonic_ns());
            let records: Vec<StickyRecord> = chunk
                .iter()
                .filter(|(key, entry)| directory.replicates_sticky(key.group) && !entry.is_fixed())
                .filter_map(|(key, entry)| globalize_sticky(key, entry, now_ns, &directory))
                .collect();
            flow = visit(&records);
            flow
        })?;
        Ok(flow)
    }
}

/// Deletes the connection if it is of `table`'s family.
fn delete<A: TableFamily>(table: &Table<A>, gone: &ConnGone, conflict: Conflict) -> io::Result<()> {
    let Some(key) = forward_key(&gone.key) else { return Ok(()) };
    match conflict {
        Conflict::Keep => table.delete_unused(&key, Some(gone.generation)),
        Conflict::Replace | Conflict::KeepNewer => table.delete(&key, Some(gone.generation)),
    }
    .map(drop)
}

/// Enters what the peer has. Where this node's configuration has an entry that stays, and the peer, whose configuration has none there, learns that
/// it offers its own in vain: as if it were missing here for no reason it would mend that again and again.
fn insert_stickies<A: TableFamily>(
    table: &Table<A>,
    entries: &[Sticky<A>],
    directory: &Directory,
    conflict: Conflict,
) -> Vec<Result<(), InsertError>> {
    let is_free = |key: &LocalStickyKey<A>| !directory.fixes_sticky(key.group, key.client_be.ip());
    let free: Vec<Sticky<A>> = entries.iter().copied().filter(|(key, _)| is_free(key)).collect();
    let mut inserted = table.insert_sticky(&free, conflict == Conflict::Keep).into_iter();
    let result = |(key, _): &Sticky<A>| {
        if is_free(key) {
            inserted.next().unwrap_or(Err(InsertError::Full))
        } else {
            Err(InsertError::Exists)
        }
    };
    entries.iter().map(result).collect()
}

/// Deletes those sticky entries that are of `table`'s family.
fn delete_stickies<A: TableFamily>(
    table: &Table<A>,
    keys: &[StickyKey],
    directory: &Directory,
) -> io::Result<()> {
    let is_free = |key: &LocalStickyKey<A>| !directory.fixes_sticky(key.group, key.client_be.ip());
    let keys: Vec<LocalStickyKey<A>> =
        keys.iter().filter_map(|key| local_sticky_key(key, directory)).filter(is_free).collect();
    table.delete_sticky(&keys).map(drop)
}

impl ReplicaTable for KernelReplica {
    fn upsert_connections(&self, records: &[ConnRecord], conflict: Conflict) -> Vec<Result<(), Refusal>> {
        let mut results = vec![Err(Refusal::Internal); records.len()];
        self.upsert(&self.table, records, conflict, &mut results);
        if let Some(table) = &self.table6 {
            self.upsert(table, records, conflict, &mut results);
        }
        results
    }

    fn enter_handshakes(&self, handshakes: &[Handshake], conflict: Conflict) -> usize {
        let keep = conflict == Conflict::Keep;
        let of_v6 = || self.table6.as_ref().map_or(0, |table| self.enter(table, handshakes, keep));
        self.enter(&self.table, handshakes, keep) + of_v6()
    }

    fn delete_connections(&self, gone: &[ConnGone], conflict: Conflict) {
        for gone in gone {
            let of_v6 = || self.table6.as_ref().map_or(Ok(()), |table| delete(table, gone, conflict));
            let deleted = delete(&self.table, gone, conflict).and_then(|()| of_v6());
            if let Err(error) = deleted {
                tracing::warn!(%error, "a replicated connection could not be deleted");
            }
        }
    }

    fn upsert_sticky(&self, records: &[StickyRecord], conflict: Conflict) -> Vec<Result<(), Refusal>> {
        let mut results = vec![Err(Refusal::Internal); records.len()];
        self.upsert_stickies(&self.table, records, conflict, &mut results);
        if let Some(table) = &self.table6 {
            self.upsert_stickies(table, records, conflict, &mut results);
        }
        results
    }

    fn delete_sticky(&self, keys: &[StickyKey]) {
        let directory = self.directory.get();
        let of_v6 = || self.table6.as_ref().map_or(Ok(()), |table| delete_stickies(table, keys, &directory));
        let deleted = delete_stickies(&self.table, keys, &directory).and_then(|()| of_v6());
        if let Err(error) = deleted {
            tracing::warn!(%error, "replicated sticky entries could not be deleted");
        }
    }

    fn visit_connections(&self, visit: &mut dyn FnMut(&[ConnRecord]) -> ControlFlow<()>) -> io::Result<()> {
        if self.visit(&self.table, visit)?.is_continue()
            && let Some(table) = &self.table6
        {
            let _enough = self.visit(table, visit)?;
        }
        Ok(())
    }

    fn visit_sticky(&self, visit: &mut dyn FnMut(&[StickyRecord]) -> ControlFlow<()>) -> io::Result<()> {
        if self.visit_stickies(&self.table, visit)?.is_continue()
            && let Some(table) = &self.table6
        {
            let _enough = self.visit_stickies(table, visit)?;
        }
        Ok(())
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

fn idle_s<A: TableFamily>(seen: &Seen<A>, now_ns: u64) -> u32 {
    seconds(now_ns.saturating_sub(seen.last_seen_ns))
}

fn seconds(ns: u64) -> u32 {
    u32::try_from(ns / SECOND).unwrap_or(u32::MAX)
}

/// `None` for one of the other family.
fn forward_key<A: TableFamily>(key: &ConnKey) -> Option<FlowKey<A>> {
    Some(FlowKey {
        src_be: A::of(key.client)?,
        dst_be: A::of(key.virtual_address)?,
        sport_be: key.client_port.to_be(),
        dport_be: key.virtual_port.to_be(),
        vlan: key.client_vlan,
        proto: key.proto,
        pad: 0,
    })
}

fn conn_key<A: TableFamily>(connection: &Connection<A>) -> ConnKey {
    ConnKey {
        proto: connection.proto,
        client_vlan: connection.client_vlan,
        client: connection.client_be.ip(),
        client_port: u16::from_be(connection.client_port_be),
        virtual_address: connection.virtual_be.ip(),
        virtual_port: u16::from_be(connection.virtual_port_be),
    }
}

/// `None` for half-open and finished ones, and where vserver or real are not configured any more.
fn globalize<A: TableFamily>(
    connection: &Connection<A>,
    idle_s: u32,
    directory: &Directory,
) -> Option<ConnRecord> {
    Some(ConnRecord {
        key: conn_key(connection),
        real: connection.real_be.ip(),
        real_port: u16::from_be(connection.real_port_be),
        source: connection.source_be.ip(),
        source_port: u16::from_be(connection.source_port_be),
        server_vlan: connection.server_vlan,
        vserver: directory.vserver_id(connection.vserver)?,
        real_id: match connection.real {
            NONE => StableId::NONE,
            number => directory.real_id(number)?,
        },
        via: match connection.via {
            0 => StableId::NONE,
            // By the routes, once its real is configured no more.
            via => directory.real_id(u32::from(via) - 1).unwrap_or(StableId::NONE),
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

fn localize_sticky<A: TableFamily>(
    record: &StickyRecord,
    directory: &Directory,
    now_ns: u64,
) -> Result<Sticky<A>, Refusal> {
    let key = local_sticky_key(&record.key, directory).ok_or(Refusal::UnknownVserver)?;
    let (real, _) = directory.real(record.real_id).ok_or(Refusal::UnknownReal)?;
    let last_used_ns = now_ns.saturating_sub(u64::from(record.idle_s) * SECOND);
    // Without a life it would be taken for one of the configuration.
    Ok((key, StickyEntry { last_used_ns, life_s: record.life_s.max(1), real }))
}

fn globalize_sticky<A: TableFamily>(
    key: &LocalStickyKey<A>,
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

fn global_sticky_key<A: TableFamily>(key: &LocalStickyKey<A>, directory: &Directory) -> Option<StickyKey> {
    let group = match directory.sticky_group(key.group)? {
        LocalGroup::Shared(group) => StickyGroup::Shared(group),
        LocalGroup::Private(id) => StickyGroup::Private(id),
    };
    Some(StickyKey { group, client: key.client_be.ip() })
}

/// `None` for one of the other family, and where its virtual server is not configured any more.
fn local_sticky_key<A: TableFamily>(key: &StickyKey, directory: &Directory) -> Option<LocalStickyKey<A>> {
    let group = match key.group {
        StickyGroup::Shared(group) => LocalGroup::Shared(group),
        StickyGroup::Private(id) => LocalGroup::Private(id),
    };
    Some(LocalStickyKey { group: directory.sticky_number(group)?, client_be: A::of(key.client)? })
}

/// Hands this node's deltas to replication's queue; never waits. What finds no room is told as lost with the next that
/// does.
#[derive(Debug)]
pub struct DeltaQueue {
    events: Sender<DeltaEvent>,
    directory: Arc<DirectoryCell>,
    lost: AtomicU64,
    /// Handshakes that found no room and have not been told of yet.
    left_out: AtomicU64,
}

/// Handshakes under way find room only while no more of the queue is taken than one in so many: what is lost of all else is a repair.
const HANDSHAKES_PART: usize = 4;

impl DeltaQueue {
    /// Into `events`.
    #[must_use]
    pub const fn new(events: Sender<DeltaEvent>, directory: Arc<DirectoryCell>) -> Self {
        Self { events, directory, lost: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Tells `delta` if it is about something replicated.
    pub fn tell(&self, delta: Delta) {
        let Some(event) = translate(delta, &self.directory.get()) else { return };
        if matches!(event, DeltaEvent::Handshake(_) | DeltaEvent::HandshakesLeftOut(_)) {
            return self.tell_handshake(event);
        }
        let lost = self.lost.swap(0, Ordering::AcqRel);
        if lost > 0 && self.events.try_send(DeltaEvent::Lost(lost)).is_err() {
            self.lost.fetch_add(lost + weight(&event), Ordering::AcqRel);
            return;
        }
        if self.events.try_send(event).is_err() {
            self.lost.fetch_add(weight(&event), Ordering::AcqRel);
        }
    }

    /// Never takes the room of what is to be repaired if it is lost.
    fn tell_handshake(&self, event: DeltaEvent) {
        let room = self.events.capacity().unwrap_or(usize::MAX) / HANDSHAKES_PART;
        if self.events.len() >= room {
            self.left_out.fetch_add(left_out(&event), Ordering::AcqRel);
            return;
        }
        let waiting = self.left_out.swap(0, Ordering::AcqRel);
        let before = (waiting > 0).then_some(DeltaEvent::HandshakesLeftOut(waiting));
        for event in before.into_iter().chain([event]) {
            if self.events.try_send(event).is_err() {
                self.left_out.fetch_add(left_out(&event), Ordering::AcqRel);
            }
        }
    }

    /// Deltas that found no room and have not been told of yet.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }
}

/// How many handshakes are not told of without `event`.
const fn left_out(event: &DeltaEvent) -> u64 {
    match event {
        DeltaEvent::HandshakesLeftOut(count) => *count,
        _ => 1,
    }
}

const fn weight(event: &DeltaEvent) -> u64 {
    match event {
        DeltaEvent::Lost(count) => *count,
        DeltaEvent::Flushed => 0,
        // What was lost is repaired, and so is this.
        _ => 1,
    }
}

fn translate(delta: Delta, directory: &Directory) -> Option<DeltaEvent> {
    match delta {
        Delta::V4(change) => translate_change(change, directory),
        Delta::V6(change) => translate_change(change, directory),
        Delta::Lost(count) => Some(DeltaEvent::Lost(count)),
        Delta::HandshakesLeftOut(count) => Some(DeltaEvent::HandshakesLeftOut(count)),
        Delta::Flushed => Some(DeltaEvent::Flushed),
        Delta::Rescoped => Some(DeltaEvent::Rescoped),
    }
}

fn translate_change<A: TableFamily>(change: Change<A>, directory: &Directory) -> Option<DeltaEvent> {
    match change {
        Change::Up(connection) if directory.replicates(connection.vserver) => {
            globalize(&connection, 0, directory).map(DeltaEvent::ConnectionUp)
        }
        Change::Closed(connection) if directory.replicates(connection.vserver) => {
            Some(DeltaEvent::ConnectionClosed(ConnGone {
                key: conn_key(&connection),
                generation: connection.generation,
            }))
        }
        Change::Sticky(key, entry) if directory.replicates_sticky(key.group) => {
            globalize_sticky(&key, &entry, monotonic_ns(), directory).map(DeltaEvent::Sticky)
        }
        Change::StickyGone(key) if directory.replicates_sticky(key.group) => {
            global_sticky_key(&key, directory).map(DeltaEvent::StickyGone)
        }
        Change::Handshake(connection, expect) if directory.replicates(connection.vserver) => {
            let answered = connection.state == STATE_SYN_ACK;
            let becomes = Connection { state: STATE_ESTABLISHED, ..connection };
            let becomes = globalize(&becomes, 0, directory)?;
            Some(DeltaEvent::Handshake(Handshake { becomes, answered, expect }))
        }
        Change::Up(_)
        | Change::Closed(_)
        | Change::Sticky(..)
        | Change::StickyGone(_)
        | Change::Handshake(..) => None,
    }
}
