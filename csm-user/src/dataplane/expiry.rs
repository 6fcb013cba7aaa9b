//! Bounded expiry: what has been idle too long leaves the tables, a slice at a time.
//!
//! What is over is [`judge`]'s to say. The walk reads thousands of entries by one system call; only what looks expired costs more: its
//! twin is read and both are judged again right before the deletion. A packet that comes between that second look and
//! the deletion, a few microseconds, loses its connection all the same: userspace cannot compare and delete in one step.
//! Idle times are seconds to hours, so such a packet is the first after all that time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use csm_common::address::V6;
use csm_common::flow::{
    Connection, FLAG_FORWARD, FlowEntry, FlowKey, NONE, STATE_CLOSED, STATE_ESTABLISHED, STATE_SYN,
};
use csm_common::service::{StickyEntry, StickyKey};

use super::bpf::{BpfMap, Walk};
use super::judge::{CROWDED, Clock, Times, Verdict, judge, pressed, sticky_over};
use super::maps::SettingsCell;
use super::ring::{Change, DeltaSink};
use super::snapshot::{Directory, DirectoryCell};
use super::table::family::TableFamily;
use super::table::{Table, monotonic_ns};
use crate::model::{Family, Protocol};

/// Orphans are looked for on one walk of so many.
const ORPHAN_WALKS: u64 = 16;
/// Idle time of connections whose virtual server is gone, and of routed ones.
pub const DEFAULT_IDLE_S: u32 = 3600;
/// Pending time in the same cases.
pub const DEFAULT_PENDING_S: u32 = 30;

/// What one whole walk of all tables met: measured in the kernel's maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Number of the walk, from 1.
    pub walk: u64,
    /// Proven connections by virtual server.
    pub vservers: BTreeMap<u32, u64>,
    /// Proven connections by real.
    pub reals: BTreeMap<u32, u64>,
    /// Connections by real that `predictor leastconns` goes by: proven and half-open ones, none that is closed.
    pub loads: BTreeMap<u32, u64>,
    /// Connections by virtual server that `max-conns` goes by: as [`Self::loads`].
    pub places: BTreeMap<u32, u64>,
    /// Numbers that any entry refers to, sticky and half-open ones included.
    pub vservers_in_use: BTreeSet<u32>,
    /// As before, for reals.
    pub reals_in_use: BTreeSet<u32>,
    /// As before, for next hops.
    pub hops_in_use: BTreeSet<u32>,
    /// Pairs in the table of proven connections of each family by virtual server, [`NONE`] included, whatever their state.
    pub held: BTreeMap<Family, BTreeMap<u32, u64>>,
    /// Proven connections, all together.
    pub connections: u64,
    /// Sticky entries that connections made.
    pub sticky: u64,
    /// The same by their group's number in the map.
    pub groups: BTreeMap<u32, u64>,
    /// Entries (pairs count once) that were removed.
    pub expired: u64,
    /// Of these, balanced connections, by cause.
    pub ended: Ended,
    /// Of these, handshakes by real that it did not answer in time, or answered with a reset, on the active node.
    pub abnormal: BTreeMap<u32, u64>,
    /// Of these, server-initiated connections, by cause.
    pub ended_routed: Ended,
}

/// Connections that were removed, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Proven, and closed by their ends.
    pub closed: u64,
    /// Proven, and idle for too long.
    pub idle: u64,
    /// Never proven: the handshake was not completed in time.
    pub pending: u64,
}

impl Ended {
    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Closed => self.closed += 1,
            Verdict::Idle => self.idle += 1,
            Verdict::Pending => self.pending += 1,
            // Half a connection: the other half was counted, or has been taken over.
            Verdict::Orphan | Verdict::Keep => {}
        }
    }
}

impl std::ops::AddAssign for Ended {
    fn add_assign(&mut self, other: Self) {
        self.closed += other.closed;
        self.idle += other.idle;
        self.pending += other.pending;
    }
}

/// Pace of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Entries a slice.
    pub slice: usize,
    /// Rest after each slice.
    pub rest: Duration,
    /// Rest between two walks.
    pub between: Duration,
}

impl Default for Pace {
    /// A full table (2 million entries) in about ten seconds, a few percent of one CPU.
    fn default() -> Self {
        Self { slice: 4096, rest: Duration::from_millis(20), between: Duration::from_secs(1) }
    }
}

/// What the expiry works on.
#[derive(Clone)]
pub struct Expiry {
    /// The tables of IPv4.
    pub table: Arc<Table>,
    /// The tables of IPv6, if this node has it.
    pub table6: Option<Arc<Table<V6>>>,
    /// For `adopted_ns`.
    pub settings: Arc<SettingsCell>,
    /// For the virtual servers' times.
    pub directory: Arc<DirectoryCell>,
    /// True while this node is active.
    pub active: Arc<AtomicBool>,
    /// Told of each replicated entry removed while active.
    pub deltas: DeltaSink,
    /// Pace.
    pub pace: Pace,
}

/// The running thread; dropping it stops it.
#[derive(Debug)]
pub struct ExpiryThread {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ExpiryThread {
    /// Starts walking. `begin` is called when a walk begins, with its number; `end` when all tables have been walked.
    ///
    /// # Errors
    /// If the thread cannot be had.
    pub fn spawn(
        expiry: Expiry,
        begin: impl Fn(u64) + Send + 'static,
        end: impl Fn(Census) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new().name("csm-expiry".into()).spawn(move || {
            for walk in 1.. {
                begin(walk);
                match expiry.walk(walk, &mut |time| rest(&stopped, time)) {
                    Ok(Some(census)) => end(census),
                    Ok(None) => return,
                    Err(error) => tracing::warn!(%error, "expiry could not finish its walk"),
                }
                if rest(&stopped, expiry.pace.between) {
                    return;
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for ExpiryThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the expiry's thread panicked");
        }
    }
}

/// Whether a half-open connection that has ended by `verdict` speaks against its real: no answer to a SYN that would have come by here,
/// or a reset, which only the server's side ends a handshake by.
fn is_abnormal<A: TableFamily>(
    directory: &Directory,
    key: &FlowKey<A>,
    entry: &FlowEntry<A>,
    verdict: Verdict,
) -> bool {
    let unanswered = || entry.state == STATE_SYN && !directory.is_unidirectional(entry.vserver);
    let reset = || entry.state == STATE_CLOSED;
    key.proto == Protocol::TCP_NUMBER
        && entry.real != NONE
        && match verdict {
            Verdict::Pending => unanswered(),
            Verdict::Closed => reset(),
            Verdict::Idle | Verdict::Orphan | Verdict::Keep => false,
        }
}

/// What a second look at an entry led to.
enum Outcome {
    Stays,
    /// It had gone before, with its twin.
    Gone,
    Removed(Verdict),
}

/// Waits; true if the thread is to stop.
fn rest(stopped: &Receiver<()>, time: Duration) -> bool {
    stopped.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
}

impl Expiry {
    /// One walk over all tables; `rest` waits between slices and says whether to stop, which gives `None`.
    ///
    /// # Errors
    /// Of a system call.
    pub fn walk(&self, walk: u64, rest: &mut dyn FnMut(Duration) -> bool) -> io::Result<Option<Census>> {
        let mut census = Census { walk, ..Census::default() };
        let walked = self.walk_family(&self.table, &mut census, rest)?
            && match &self.table6 {
                Some(table) => self.walk_family(table, &mut census, rest)?,
                None => true,
            };
        Ok(walked.then_some(census))
    }

    /// One walk over the tables of one family; false if it was stopped.
    fn walk_family<A: TableFamily>(
        &self,
        table: &Table<A>,
        census: &mut Census,
        rest: &mut dyn FnMut(Duration) -> bool,
    ) -> io::Result<bool> {
        // Half-open ones first: one that is proven meanwhile is then met among the proven.
        let mut stay = 0;
        for (map, proven) in [(&table.embryonic, false), (&table.flows, true)] {
            let mut position = Walk::new(self.pace.slice);
            stay = 0;
            while !self.slice(table, map, proven, &mut position, (&mut *census, &mut stay))? {
                if rest(self.pace.rest) {
                    return Ok(false);
                }
            }
        }
        filled(table, stay);
        let mut position = Walk::new(self.pace.slice);
        while !self.sticky_slice(table, &mut position, census)? {
            if rest(self.pace.rest) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn clock(&self) -> Clock {
        Clock {
            now_ns: monotonic_ns(),
            adopted_ns: self.settings.get().adopted_ns,
            active: self.active.load(Ordering::Acquire),
        }
    }

    /// One slice; true if it was the last.
    fn slice<A: TableFamily>(
        &self,
        table: &Table<A>,
        map: &BpfMap<FlowKey<A>, FlowEntry<A>>,
        proven: bool,
        position: &mut Walk<FlowKey<A>, FlowEntry<A>>,
        (census, stay): (&mut Census, &mut u64),
    ) -> io::Result<bool> {
        let (clock, directory, fill) =
            (self.clock(), self.directory.get(), table.fill.load(Ordering::Relaxed));
        let (entries, last) = position.next(map)?;
        for (key, entry) in entries {
            let times = times(&directory, entry, key.proto, fill);
            // Alone, as if its twin were as old: what is fresh by itself needs no further look. Any quiet entry may
            // be an orphan, and only a look-up tells; so not on each walk.
            let suspect = judge(entry, Some(entry), times, clock) != Verdict::Keep
                || (census.walk % ORPHAN_WALKS == 1 && judge(entry, None, times, clock) != Verdict::Keep);
            match if suspect { self.expire(table, map, key, times)? } else { Outcome::Stays } {
                Outcome::Stays => {}
                Outcome::Gone => continue,
                Outcome::Removed(verdict) => {
                    census.expired += 1;
                    if !proven && clock.active && is_abnormal(&directory, key, entry, verdict) {
                        *census.abnormal.entry(entry.real).or_default() += 1;
                    }
                    let routed = entry.vserver == NONE;
                    (if routed { &mut census.ended_routed } else { &mut census.ended }).count(verdict);
                    continue;
                }
            }
            *stay += 1;
            census.hops_in_use.insert(entry.nexthop);
            census.vservers_in_use.insert(entry.vserver);
            census.reals_in_use.insert(entry.real);
            // Of none it is a number that none has.
            census.reals_in_use.insert(u32::from(entry.via).wrapping_sub(1));
            if entry.flags & FLAG_FORWARD == 0 {
                continue;
            }
            if proven {
                *census.held.entry(A::FAMILY).or_default().entry(entry.vserver).or_default() += 1;
            }
            if entry.state >= STATE_CLOSED {
                continue;
            }
            *census.loads.entry(entry.real).or_default() += 1;
            *census.places.entry(entry.vserver).or_default() += 1;
            if proven {
                census.connections += 1;
                *census.vservers.entry(entry.vserver).or_default() += 1;
                *census.reals.entry(entry.real).or_default() += 1;
            }
        }
        Ok(last)
    }

    /// Looks again and removes what is over.
    fn expire<A: TableFamily>(
        &self,
        table: &Table<A>,
        map: &BpfMap<FlowKey<A>, FlowEntry<A>>,
        key: &FlowKey<A>,
        times: Times,
    ) -> io::Result<Outcome> {
        let Some(entry) = map.get(key)? else { return Ok(Outcome::Gone) };
        let twin = map.get(&entry.twin_key(key.proto))?.filter(|twin| twin.twin_key(key.proto) == *key);
        let clock = self.clock();
        match judge(&entry, twin.as_ref(), times, clock) {
            Verdict::Keep => Ok(Outcome::Stays),
            Verdict::Orphan => map
                .delete(key)
                .map(|there| if there { Outcome::Removed(Verdict::Orphan) } else { Outcome::Gone }),
            verdict @ (Verdict::Idle | Verdict::Closed | Verdict::Pending) => {
                let connection = entry.connection(key);
                table.delete_pair(map, &connection)?;
                self.tell(&connection, times.replicated, clock);
                Ok(Outcome::Removed(verdict))
            }
        }
    }

    fn tell<A: TableFamily>(&self, connection: &Connection<A>, replicated: bool, clock: Clock) {
        if clock.active && replicated && connection.state >= STATE_ESTABLISHED {
            (self.deltas)(A::delta(Change::Closed(*connection)));
        }
    }

    fn sticky_slice<A: TableFamily>(
        &self,
        table: &Table<A>,
        position: &mut Walk<StickyKey<A>, StickyEntry>,
        census: &mut Census,
    ) -> io::Result<bool> {
        let (clock, directory) = (self.clock(), self.directory.get());
        let (entries, last) = position.next(&table.sticky)?;
        for (key, entry) in entries {
            let replicated = directory.replicates_sticky(key.group);
            if sticky_over(entry, replicated, clock) && self.expire_sticky(table, key, replicated)? {
                census.expired += 1;
                continue;
            }
            census.reals_in_use.insert(entry.real);
            // Of the configuration: nothing of it could be lost.
            if entry.is_fixed() {
                continue;
            }
            census.sticky += 1;
            *census.groups.entry(key.group).or_default() += 1;
            if let Some(vserver) = key.group.checked_sub(super::plan::PRIVATE_STICKY) {
                census.vservers_in_use.insert(vserver);
            }
        }
        Ok(last)
    }

    fn expire_sticky<A: TableFamily>(
        &self,
        table: &Table<A>,
        key: &StickyKey<A>,
        replicated: bool,
    ) -> io::Result<bool> {
        let clock = self.clock();
        let over = table.sticky.get(key)?.is_some_and(|entry| sticky_over(&entry, replicated, clock));
        if !over || !table.sticky.delete(key)? {
            return Ok(false);
        }
        if clock.active && replicated {
            (self.deltas)(A::delta(Change::StickyGone(*key)));
        }
        Ok(true)
    }
}

/// A walk has left `stay` entries of proven connections: notes how full that is, and says where it begins to matter.
fn filled<A: TableFamily>(table: &Table<A>, stay: u64) {
    let fill = stay * 1000 / u64::from(table.flows.max_entries().max(1));
    let fill = u32::try_from(fill).unwrap_or(u32::MAX);
    let before = table.fill.swap(fill, Ordering::Relaxed);
    match (before > CROWDED, fill > CROWDED) {
        (false, true) => {
            tracing::warn!("the table of connections is {} % full: idle times shrink", fill / 10);
        }
        (true, false) => {
            tracing::info!("the table of connections has room again: idle times are as configured");
        }
        (true, true) | (false, false) => {}
    }
}

fn times<A: TableFamily>(directory: &Directory, entry: &FlowEntry<A>, proto: u8, fill: u32) -> Times {
    let times = directory.times(entry.vserver, proto);
    let (idle_s, pending_s) = times.unwrap_or((DEFAULT_IDLE_S, DEFAULT_PENDING_S));
    let replicated = directory.is_replicated(entry.vserver, entry.flags);
    Times { replicated, idle_s: pressed(idle_s, fill), pending_s }
}
