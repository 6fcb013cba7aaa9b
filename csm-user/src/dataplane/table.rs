//! The connection and sticky tables of the kernel: pairs are inserted and deleted together, walks go by batch.
//!
//! Both directions of a connection are two entries, and one without its twin counts as absent; so an insert that cannot
//! finish takes back what it wrote. Replicas are written in batches, one system call for all of an insert.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32};

use csm_common::flow::{
    Connection, FLAG_FORWARD, FLAG_REPLICA, FLAG_REPLICATE, FlowEntry, FlowKey, Local, STATE_CLOSED,
};
use csm_common::service::{StickyEntry, StickyKey};

use self::family::TableFamily;
use super::bpf::{BpfMap, Update, Walk};
use super::maps::MapSource;

pub mod family;
mod handshake;

/// Entries read by one system call.
const SLICE: usize = 4096;

/// CLOCK_MONOTONIC in nanoseconds, the clock of the entries.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .unwrap_or_else(|_| nix::sys::time::TimeSpec::new(0, 0));
    u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0)
}

/// What an insert does with an entry that already stands under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Replaces it.
    Replace,
    /// Replaces it unless its generation is later (serial numbers, RFC 1982).
    KeepNewer,
    /// Leaves it; one with equal content counts as inserted. A replica that no packet on this node has used is treated
    /// as with [`Conflict::KeepNewer`].
    Keep,
}

/// A connection to insert, with what this node adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insert<A: TableFamily = u32> {
    /// The connection; vserver and real are this node's numbers.
    pub connection: Connection<A>,
    /// Next hop towards the real server.
    pub to_server: u32,
    /// Next hop towards the client.
    pub to_client: u32,
    /// How long it has been idle, ns.
    pub idle_ns: u64,
    /// As [`FlowEntry::mark`].
    pub mark: u32,
}

/// Why a connection was not inserted. None of its entries stands then, unless another's did before.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// [`Conflict::Keep`] found another, or another connection has the same return direction.
    #[error("another connection stands under its key")]
    Exists,
    /// [`Conflict::KeepNewer`] found a later one.
    #[error("a later connection stands under its key")]
    Superseded,
    /// No room.
    #[error("the table is full")]
    Full,
    /// A system call failed.
    #[error("map operation: {0}")]
    Io(#[from] io::Error),
}

/// A connection met by a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<A: TableFamily = u32> {
    /// The connection.
    pub connection: Connection<A>,
    /// CLOCK_MONOTONIC ns of the later of both directions' last packets.
    pub last_seen_ns: u64,
    /// `FLAG_*` bits of both entries.
    pub flags: u8,
}

/// Where a reading of the table in pages stands; the default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Among the half-open, which come after the proven: one that is proven meanwhile is missing rather than told twice.
    pub half_open: bool,
    /// Place in that table.
    pub bucket: Option<u32>,
}

/// A sticky entry with its key.
pub type Sticky<A = u32> = (StickyKey<A>, StickyEntry);

/// The tables of one family.
#[derive(Debug)]
pub struct Table<A: TableFamily = u32> {
    pub(super) flows: BpfMap<FlowKey<A>, FlowEntry<A>>,
    pub(super) embryonic: BpfMap<FlowKey<A>, FlowEntry<A>>,
    pub(super) sticky: BpfMap<StickyKey<A>, StickyEntry>,
    /// Thousandths of `flows` that are taken, by the last walk over it.
    pub(super) fill: AtomicU32,
    /// A handshake of the peer's was entered among the half-open.
    handshakes: AtomicBool,
}

impl<A: TableFamily> Table<A> {
    /// # Errors
    /// If a map is missing or of another shape.
    pub fn open(source: &impl MapSource) -> io::Result<Self> {
        Ok(Self {
            flows: BpfMap::new(source.descriptor(A::FLOWS)?)?,
            embryonic: BpfMap::new(source.descriptor(A::EMBRYONIC)?)?,
            sticky: BpfMap::new(source.descriptor(A::STICKY)?)?,
            fill: AtomicU32::new(0),
            handshakes: AtomicBool::new(false),
        })
    }

    /// Inserts replicas, both directions each. `Ok` at a position means that both entries stand in the kernel's map.
    ///
    /// On a node that forwards, a connection made by a packet between the look at the table and the write is
    /// overwritten, except with [`Conflict::Keep`].
    #[must_use]
    pub fn insert(&self, inserts: &[Insert<A>], conflict: Conflict) -> Vec<Result<(), InsertError>> {
        let now_ns = monotonic_ns();
        let mut results: Vec<Result<(), InsertError>> = Vec::with_capacity(inserts.len());
        let mut batch = PairBatch::default();
        for (index, insert) in inserts.iter().enumerate() {
            let pair = Pair::of(insert, now_ns);
            let result = match self.examine(&pair, insert, conflict) {
                Ok(Step::Write) => {
                    batch.push(index, &pair);
                    Ok(())
                }
                Ok(Step::WriteNew) => self.write_new(&pair),
                Ok(Step::Stands) => Ok(()),
                Err(error) => Err(error),
            };
            results.push(result);
        }
        for index in batch.write(&self.flows) {
            results[index.0] = Err(index.1);
        }
        if conflict != Conflict::Keep {
            let proven = inserts.iter().zip(&results).filter(|(_, result)| result.is_ok());
            self.forget_handshakes(proven.map(|(insert, _)| &insert.connection));
        }
        results
    }

    /// What is to be done with `pair`, after clearing what it replaces.
    fn examine(&self, pair: &Pair<A>, insert: &Insert<A>, conflict: Conflict) -> Result<Step, InsertError> {
        let (connection, proto) = (&insert.connection, insert.connection.proto);
        if let Some(back) = self.flows.get(&pair.return_key)?
            && back.state < STATE_CLOSED
            && back.twin_key(proto) != pair.forward_key
        {
            return Err(InsertError::Exists);
        }
        let Some(standing) = self.flows.get(&pair.forward_key)? else {
            return Ok(if conflict == Conflict::Keep { Step::WriteNew } else { Step::Write });
        };
        let known = standing.connection(&pair.forward_key);
        let later = known.generation.wrapping_sub(connection.generation).cast_signed() > 0;
        match conflict {
            // It stands for late segments only, but a report that crossed its end must not bring it back.
            Conflict::Keep if standing.state >= STATE_CLOSED => {
                if known.generation == connection.generation {
                    return Err(InsertError::Superseded);
                }
            }
            Conflict::Keep if Connection { state: connection.state, ..known } == *connection => {
                return Ok(Step::Stands);
            }
            Conflict::Keep if !self.is_unused(proto, &standing)? => return Err(InsertError::Exists),
            Conflict::Keep | Conflict::KeepNewer if later => return Err(InsertError::Superseded),
            Conflict::Keep | Conflict::KeepNewer | Conflict::Replace => {}
        }
        if known.return_key() != pair.return_key {
            self.flows.delete(&known.return_key())?;
        }
        Ok(Step::Write)
    }

    /// Both entries or none, and neither over another.
    fn write_new(&self, pair: &Pair<A>) -> Result<(), InsertError> {
        self.flows.set(&pair.forward_key, &pair.forward, Update::New).map_err(insert_error)?;
        if let Err(error) = self.flows.set(&pair.return_key, &pair.back, Update::New) {
            self.flows.delete(&pair.forward_key)?;
            return Err(insert_error(error));
        }
        Ok(())
    }

    /// Deletes both directions of the connection under `forward`, half-open or proven; returns it if it stood. With
    /// `unless_later_than` a connection of a later generation stays.
    ///
    /// # Errors
    /// Of a system call.
    pub fn delete(
        &self,
        forward: &FlowKey<A>,
        unless_later_than: Option<u32>,
    ) -> io::Result<Option<Connection<A>>> {
        for map in [&self.flows, &self.embryonic] {
            let Some(entry) = map.get(forward)?.filter(|entry| entry.flags & FLAG_FORWARD != 0) else {
                continue;
            };
            if unless_later_than.is_some_and(|named| entry.generation.wrapping_sub(named).cast_signed() > 0) {
                return Ok(None);
            }
            let connection = entry.connection(forward);
            self.delete_pair(map, &connection)?;
            return Ok(Some(connection));
        }
        Ok(None)
    }

    /// As [`Table::delete`], but only a proven connection that is a replica and that no packet on this node has used.
    ///
    /// # Errors
    /// Of a system call.
    pub fn delete_unused(
        &self,
        forward: &FlowKey<A>,
        unless_later_than: Option<u32>,
    ) -> io::Result<Option<Connection<A>>> {
        match self.flows.get(forward)? {
            Some(entry) if self.is_unused(forward.proto, &entry)? => self.delete(forward, unless_later_than),
            _ => Ok(None),
        }
    }

    /// A replica of which neither direction has seen a packet on this node.
    fn is_unused(&self, proto: u8, entry: &FlowEntry<A>) -> io::Result<bool> {
        let unused = |entry: &FlowEntry<A>| entry.flags & FLAG_REPLICA != 0;
        Ok(unused(entry) && self.flows.get(&entry.twin_key(proto))?.as_ref().is_none_or(unused))
    }

    /// The forward entry goes first: the return one alone counts as absent.
    pub(super) fn delete_pair(
        &self,
        map: &BpfMap<FlowKey<A>, FlowEntry<A>>,
        connection: &Connection<A>,
    ) -> io::Result<()> {
        map.delete(&connection.forward_key())?;
        let back = connection.return_key();
        // Another connection may have taken over the return direction meanwhile.
        if map.get(&back)?.is_some_and(|entry| entry.twin_key(connection.proto) == connection.forward_key()) {
            map.delete(&back)?;
        }
        Ok(())
    }

    /// Walks the proven connections of the kernel's map, each once, in chunks. Entries without their twin are left
    /// out: they count as absent.
    ///
    /// # Errors
    /// The walk could not be completed.
    pub fn visit(&self, visit: &mut dyn FnMut(&[Seen<A>]) -> ControlFlow<()>) -> io::Result<()> {
        Self::visit_pairs(&self.flows, visit)
    }

    /// As [`visit`](Self::visit), for the half-open connections.
    ///
    /// # Errors
    /// The walk could not be completed.
    pub fn visit_half_open(&self, visit: &mut dyn FnMut(&[Seen<A>]) -> ControlFlow<()>) -> io::Result<()> {
        Self::visit_pairs(&self.embryonic, visit)
    }

    /// The connections of one slice from `position` on, and where the next slice begins; `None`: this was the last.
    ///
    /// # Errors
    /// Of a system call.
    pub fn page(&self, position: Position) -> io::Result<(Vec<Seen<A>>, Option<Position>)> {
        let Position { half_open, bucket } = position;
        let map = if half_open { &self.embryonic } else { &self.flows };
        let mut walk = Walk::new(SLICE).from(bucket);
        let (seen, last) = Self::slice(map, &mut walk)?;
        let next = match (last, half_open) {
            (false, _) => Some(Position { half_open, bucket: walk.position() }),
            (true, false) => Some(Position { half_open: true, bucket: None }),
            (true, true) => None,
        };
        Ok((seen, next))
    }

    fn visit_pairs(
        map: &BpfMap<FlowKey<A>, FlowEntry<A>>,
        visit: &mut dyn FnMut(&[Seen<A>]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut walk = Walk::new(SLICE);
        loop {
            let (seen, last) = Self::slice(map, &mut walk)?;
            if visit(&seen).is_break() || last {
                return Ok(());
            }
        }
    }

    /// The connections of a walk's next slice, and whether it was the last.
    fn slice(
        map: &BpfMap<FlowKey<A>, FlowEntry<A>>,
        walk: &mut Walk<FlowKey<A>, FlowEntry<A>>,
    ) -> io::Result<(Vec<Seen<A>>, bool)> {
        let mut seen = Vec::new();
        let (entries, last) = walk.next(map)?;
        for (key, entry) in entries.filter(|(_, entry)| entry.flags & FLAG_FORWARD != 0) {
            let twin = entry.twin_key(key.proto);
            let Some(back) = map.get(&twin)?.filter(|back| back.twin_key(key.proto) == *key) else {
                continue;
            };
            seen.push(Seen {
                connection: entry.connection(key),
                last_seen_ns: entry.last_seen_ns.max(back.last_seen_ns),
                flags: entry.flags | back.flags,
            });
        }
        Ok((seen, last))
    }

    /// Inserts sticky entries; with `keep` one that stands for another real stays and is an error.
    #[must_use]
    pub fn insert_sticky(&self, entries: &[Sticky<A>], keep: bool) -> Vec<Result<(), InsertError>> {
        if keep {
            return entries.iter().map(|(key, entry)| self.insert_sticky_new(key, entry)).collect();
        }
        let (keys, values): (Vec<StickyKey<A>>, Vec<StickyEntry>) = entries.iter().copied().unzip();
        let mut results = Vec::with_capacity(entries.len());
        while results.len() < keys.len() {
            let at = results.len();
            let (done, result) = self.sticky.set_batch(&keys[at..], &values[at..]);
            results.extend((0..done).map(|_| Ok(())));
            if let Err(error) = result {
                results.push(Err(insert_error(error)));
            } else if done == 0 {
                break;
            }
        }
        results
    }

    fn insert_sticky_new(&self, key: &StickyKey<A>, entry: &StickyEntry) -> Result<(), InsertError> {
        match self.sticky.set(key, entry, Update::New).map_err(insert_error) {
            Err(InsertError::Exists)
                if self.sticky.get(key)?.is_some_and(|known| known.real == entry.real) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Deletes sticky entries; missing ones are no error.
    ///
    /// # Errors
    /// Of a system call.
    pub fn delete_sticky(&self, keys: &[StickyKey<A>]) -> io::Result<usize> {
        self.sticky.delete_batch(keys)
    }

    /// Walks the sticky entries, each once, in chunks.
    ///
    /// # Errors
    /// The walk could not be completed.
    pub fn visit_sticky(&self, visit: &mut dyn FnMut(&[Sticky<A>]) -> ControlFlow<()>) -> io::Result<()> {
        let mut walk = Walk::new(SLICE);
        loop {
            let (entries, last) = walk.next(&self.sticky)?;
            let chunk: Vec<Sticky<A>> = entries.map(|(key, entry)| (*key, *entry)).collect();
            if visit(&chunk).is_break() || last {
                return Ok(());
            }
        }
    }
}

enum Step {
    /// Write over what stands.
    Write,
    /// Write only if nothing stands.
    WriteNew,
    /// Nothing to do.
    Stands,
}

struct Pair<A: TableFamily> {
    forward_key: FlowKey<A>,
    forward: FlowEntry<A>,
    return_key: FlowKey<A>,
    back: FlowEntry<A>,
}

impl<A: TableFamily> Pair<A> {
    fn of(insert: &Insert<A>, now_ns: u64) -> Self {
        let local = Local {
            to_server: insert.to_server,
            to_client: insert.to_client,
            now_ns: now_ns.saturating_sub(insert.idle_ns),
            flags: FLAG_REPLICA | FLAG_REPLICATE,
            mark: insert.mark,
        };
        let connection = &insert.connection;
        Self {
            forward_key: connection.forward_key(),
            forward: connection.forward_entry(&local),
            return_key: connection.return_key(),
            back: connection.return_entry(&local),
        }
    }
}

/// Pairs to be written by one system call; the entries of pair `i` are at `2 i` and `2 i + 1`.
#[derive(Default)]
struct PairBatch<A: TableFamily> {
    indices: Vec<usize>,
    keys: Vec<FlowKey<A>>,
    entries: Vec<FlowEntry<A>>,
}

impl<A: TableFamily> PairBatch<A> {
    fn push(&mut self, index: usize, pair: &Pair<A>) {
        self.indices.push(index);
        self.keys.extend([pair.forward_key, pair.return_key]);
        self.entries.extend([pair.forward, pair.back]);
    }

    /// Writes all that can be written; returns which pairs could not, none of whose entries stands then.
    fn write(&self, flows: &BpfMap<FlowKey<A>, FlowEntry<A>>) -> Vec<(usize, InsertError)> {
        let mut failed = Vec::new();
        let mut at = 0;
        while at < self.keys.len() {
            let (done, result) = flows.set_batch(&self.keys[at..], &self.entries[at..]);
            at += done;
            let Err(error) = result else { break };
            let pair = at / 2;
            let undone = flows.delete_batch(&self.keys[2 * pair..2 * pair + 2]);
            let error = undone.map_or_else(InsertError::Io, |_| insert_error(error));
            failed.push((self.indices[pair], error));
            at = 2 * pair + 2;
        }
        failed
    }
}

fn insert_error(error: io::Error) -> InsertError {
    match error.raw_os_error() {
        Some(libc::EEXIST) => InsertError::Exists,
        Some(libc::E2BIG | libc::ENOMEM) => InsertError::Full,
        _ => InsertError::Io(error),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use csm_common::flow::{Connection, STATE_ESTABLISHED};

    pub(in crate::dataplane) fn connection(client_port: u16, generation: u32) -> Connection {
        Connection {
            client_be: u32::from_ne_bytes([10, 0, 0, 1]),
            virtual_be: u32::from_ne_bytes([192, 158, 38, 30]),
            real_be: u32::from_ne_bytes([192, 158, 39, 101]),
            source_be: u32::from_ne_bytes([10, 0, 0, 1]),
            client_port_be: client_port.to_be(),
            virtual_port_be: 80_u16.to_be(),
            real_port_be: 80_u16.to_be(),
            source_port_be: client_port.to_be(),
            client_vlan: 2,
            server_vlan: 3,
            proto: 6,
            state: STATE_ESTABLISHED,
            via: 0,
            vserver: 0,
            real: 0,
            generation,
        }
    }
}
