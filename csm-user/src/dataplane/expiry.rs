//! Bounded expiry: what has been idle too long leaves the tables, a slice at a time.
//!
//! [`judge`] is pure. The walk reads thousands of entries by one system call; only what looks expired costs more: its
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
use csm_common::flow::{
    Connection, FLAG_FORWARD, FLAG_REPLICATE, FlowEntry, FlowKey, STATE_CLOSED, STATE_ESTABLISHED,
};
use csm_common::service::{StickyEntry, StickyKey};

use super::bpf::{BpfMap, Walk};
use super::maps::SettingsCell;
use super::ring::{Delta, DeltaSink};
use super::snapshot::{Directory, DirectoryCell};
use super::table::{Table, monotonic_ns};

/// How long a finished connection stays for late segments.
pub const CLOSED_NS: u64 = 5 * SECOND;
/// How long an entry may stand without its twin: between both inserts of the XDP program lie microseconds.
pub const ORPHAN_NS: u64 = 10 * SECOND;
/// Orphans are looked for on one walk of so many.
const ORPHAN_WALKS: u64 = 16;
/// Idle time of connections whose virtual server is gone, and of routed ones.
pub const DEFAULT_IDLE_S: u32 = 3600;
/// Pending time in the same cases.
pub const DEFAULT_PENDING_S: u32 = 30;
/// `last_seen` is written at most once a second: an entry may be younger than it looks by that much.
const COARSE_NS: u64 = SECOND;
const SECOND: u64 = 1_000_000_000;

/// Times that count for one connection, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Proven and idle; 0: never.
    pub idle_s: u32,
    /// Half-open.
    pub pending_s: u32,
}

/// What is the same for all entries at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// CLOCK_MONOTONIC, ns.
    pub now_ns: u64,
    /// Last takeover: entries count as seen then.
    pub adopted_ns: u64,
    /// This node is active.
    pub active: bool,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// Both directions were idle for too long.
    Idle,
    /// Finished, and late segments have had their time.
    Closed,
    /// Half-open for too long.
    Pending,
    /// Its twin is missing.
    Orphan,
}

/// What becomes of `entry`; `twin` is its other direction, `None` if there is none.
///
/// A node that is not active keeps replicated connections whatever its own clock says: it does not see their packets,
/// and the active sends their deletion.
#[must_use]
pub fn judge(entry: &FlowEntry, twin: Option<&FlowEntry>, times: Times, clock: Clock) -> Verdict {
    let seen_ns = entry.last_seen_ns.max(twin.map_or(0, |twin| twin.last_seen_ns));
    let state = entry.state.max(twin.map_or(0, |twin| twin.state));
    let idle_ns = clock.now_ns.saturating_sub(seen_ns.max(clock.adopted_ns));
    let beyond = |limit_ns: u64| idle_ns > limit_ns + COARSE_NS;
    if twin.is_none() {
        return if beyond(ORPHAN_NS) { Verdict::Orphan } else { Verdict::Keep };
    }
    if state == STATE_CLOSED {
        return if beyond(CLOSED_NS) { Verdict::Closed } else { Verdict::Keep };
    }
    if entry.flags & FLAG_REPLICATE != 0 && state >= STATE_ESTABLISHED && !clock.active {
        return Verdict::Keep;
    }
    if state < STATE_ESTABLISHED {
        return if beyond(u64::from(times.pending_s) * SECOND) { Verdict::Pending } else { Verdict::Keep };
    }
    if times.idle_s != 0 && beyond(u64::from(times.idle_s) * SECOND) { Verdict::Idle } else { Verdict::Keep }
}

/// True if a sticky entry's life is over. A node that is not active keeps replicated ones.
#[must_use]
pub fn sticky_over(entry: &StickyEntry, replicated: bool, clock: Clock) -> bool {
    let used_ns = entry.last_used_ns.max(clock.adopted_ns);
    let over = clock.now_ns.saturating_sub(used_ns) > u64::from(entry.life_s) * SECOND + COARSE_NS;
    over && (clock.active || !replicated)
}

/// What one whole walk of all tables met: measured in the kernel's maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Number of the walk, from 1.
    pub walk: u64,
    /// Proven connections by virtual server.
    pub vservers: BTreeMap<u32, u64>,
    /// Proven connections by real.
    pub reals: BTreeMap<u32, u64>,
    /// Numbers that any entry refers to, sticky and half-open ones included.
    pub vservers_in_use: BTreeSet<u32>,
    /// As before, for reals.
    pub reals_in_use: BTreeSet<u32>,
    /// As before, for next hops.
    pub hops_in_use: BTreeSet<u32>,
    /// Proven connections, all together.
    pub connections: u64,
    /// Sticky entries.
    pub sticky: u64,
    /// Entries (pairs count once) that were removed.
    pub expired: u64,
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
    /// The tables.
    pub table: Arc<Table>,
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

/// What a second look at an entry led to.
enum Outcome {
    Stays,
    /// It had gone before, with its twin.
    Gone,
    Removed,
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
        // Half-open ones first: one that is proven meanwhile is then met among the proven.
        for (map, proven) in [(&self.table.embryonic, false), (&self.table.flows, true)] {
            let mut position = Walk::new(self.pace.slice);
            while !self.slice(map, proven, &mut position, &mut census)? {
                if rest(self.pace.rest) {
                    return Ok(None);
                }
            }
        }
        let mut position = Walk::new(self.pace.slice);
        while !self.sticky_slice(&mut position, &mut census)? {
            if rest(self.pace.rest) {
                return Ok(None);
            }
        }
        Ok(Some(census))
    }

    fn clock(&self) -> Clock {
        Clock {
            now_ns: monotonic_ns(),
            adopted_ns: self.settings.get().adopted_ns,
            active: self.active.load(Ordering::Acquire),
        }
    }

    /// One slice; true if it was the last.
    fn slice(
        &self,
        map: &BpfMap<FlowKey, FlowEntry>,
        proven: bool,
        position: &mut Walk<FlowKey, FlowEntry>,
        census: &mut Census,
    ) -> io::Result<bool> {
        let (clock, directory) = (self.clock(), self.directory.get());
        let (entries, last) = position.next(map)?;
        for (key, entry) in entries {
            let times = times(&directory, entry.vserver);
            // Alone, as if its twin were as old: what is fresh by itself needs no further look. Any quiet entry may
            // be an orphan, and only a look-up tells; so not on each walk.
            let suspect = judge(entry, Some(entry), times, clock) != Verdict::Keep
                || (census.walk % ORPHAN_WALKS == 1 && judge(entry, None, times, clock) != Verdict::Keep);
            match if suspect { self.expire(map, key, times)? } else { Outcome::Stays } {
                Outcome::Stays => {}
                Outcome::Gone => continue,
                Outcome::Removed => {
                    census.expired += 1;
                    continue;
                }
            }
            census.hops_in_use.insert(entry.nexthop);
            census.vservers_in_use.insert(entry.vserver);
            census.reals_in_use.insert(entry.real);
            if proven && entry.flags & FLAG_FORWARD != 0 && entry.state != STATE_CLOSED {
                census.connections += 1;
                *census.vservers.entry(entry.vserver).or_default() += 1;
                *census.reals.entry(entry.real).or_default() += 1;
            }
        }
        Ok(last)
    }

    /// Looks again and removes what is over.
    fn expire(&self, map: &BpfMap<FlowKey, FlowEntry>, key: &FlowKey, times: Times) -> io::Result<Outcome> {
        let Some(entry) = map.get(key)? else { return Ok(Outcome::Gone) };
        let twin = map.get(&entry.twin_key(key.proto))?.filter(|twin| twin.twin_key(key.proto) == *key);
        let clock = self.clock();
        match judge(&entry, twin.as_ref(), times, clock) {
            Verdict::Keep => Ok(Outcome::Stays),
            Verdict::Orphan => {
                map.delete(key).map(|there| if there { Outcome::Removed } else { Outcome::Gone })
            }
            Verdict::Idle | Verdict::Closed | Verdict::Pending => {
                let connection = entry.connection(key);
                self.table.delete_pair(map, &connection)?;
                self.tell(&connection, entry.flags, clock);
                Ok(Outcome::Removed)
            }
        }
    }

    fn tell(&self, connection: &Connection, flags: u8, clock: Clock) {
        if clock.active && flags & FLAG_REPLICATE != 0 && connection.state >= STATE_ESTABLISHED {
            (self.deltas)(Delta::Closed(*connection));
        }
    }

    fn sticky_slice(
        &self,
        position: &mut Walk<StickyKey, StickyEntry>,
        census: &mut Census,
    ) -> io::Result<bool> {
        let (clock, directory) = (self.clock(), self.directory.get());
        let (entries, last) = position.next(&self.table.sticky)?;
        for (key, entry) in entries {
            let replicated = directory.replicates_sticky(key.group);
            if sticky_over(entry, replicated, clock) && self.expire_sticky(key, replicated)? {
                census.expired += 1;
                continue;
            }
            census.sticky += 1;
            census.reals_in_use.insert(entry.real);
            if let Some(vserver) = key.group.checked_sub(super::plan::PRIVATE_STICKY) {
                census.vservers_in_use.insert(vserver);
            }
        }
        Ok(last)
    }

    fn expire_sticky(&self, key: &StickyKey, replicated: bool) -> io::Result<bool> {
        let clock = self.clock();
        let over = self.table.sticky.get(key)?.is_some_and(|entry| sticky_over(&entry, replicated, clock));
        if !over || !self.table.sticky.delete(key)? {
            return Ok(false);
        }
        if clock.active && replicated {
            (self.deltas)(Delta::StickyGone(*key));
        }
        Ok(true)
    }
}

fn times(directory: &Directory, vserver: u32) -> Times {
    let (idle_s, pending_s) = directory.times(vserver).unwrap_or((DEFAULT_IDLE_S, DEFAULT_PENDING_S));
    Times { idle_s, pending_s }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::mirror::tests::connection;
    use csm_common::flow::{FLAG_REPLICA, Local, STATE_SYN};
    use csm_common::service::StickyEntry;

    const TIMES: Times = Times { idle_s: 60, pending_s: 30 };
    const ACTIVE: Clock = Clock { now_ns: 1000 * SECOND, adopted_ns: 0, active: true };

    fn entry(seen_s: u64, state: u8, flags: u8) -> FlowEntry {
        let connection = Connection { state, ..connection(1000, 1) };
        let local = Local { to_server: 1, to_client: 2, now_ns: seen_s * SECOND, flags };
        connection.forward_entry(&local)
    }

    #[test]
    fn a_pair_is_as_young_as_its_younger_half() {
        let (old, young) = (entry(900, STATE_ESTABLISHED, 0), entry(990, STATE_ESTABLISHED, 0));
        assert_eq!(judge(&old, Some(&old), TIMES, ACTIVE), Verdict::Idle);
        assert_eq!(judge(&old, Some(&young), TIMES, ACTIVE), Verdict::Keep);
        assert_eq!(judge(&young, Some(&old), TIMES, ACTIVE), Verdict::Keep);
    }

    #[test]
    fn the_limit_is_the_idle_time_and_the_coarse_second_and_0_is_never() {
        let at = |seen_s| entry(seen_s, STATE_ESTABLISHED, 0);
        assert_eq!(judge(&at(939), Some(&at(939)), TIMES, ACTIVE), Verdict::Keep);
        assert_eq!(judge(&at(938), Some(&at(938)), TIMES, ACTIVE), Verdict::Idle);
        assert_eq!(judge(&at(1), Some(&at(1)), Times { idle_s: 0, ..TIMES }, ACTIVE), Verdict::Keep);
    }

    #[test]
    fn idle_times_start_anew_at_a_takeover() {
        let old = entry(1, STATE_ESTABLISHED, FLAG_REPLICA | FLAG_REPLICATE);
        assert_eq!(
            judge(&old, Some(&old), TIMES, Clock { adopted_ns: 990 * SECOND, ..ACTIVE }),
            Verdict::Keep
        );
        assert_eq!(
            judge(&old, Some(&old), TIMES, Clock { adopted_ns: 900 * SECOND, ..ACTIVE }),
            Verdict::Idle
        );
    }

    #[test]
    fn a_standby_keeps_what_the_active_replicates() {
        let standby = Clock { active: false, ..ACTIVE };
        let replica = entry(1, STATE_ESTABLISHED, FLAG_REPLICA | FLAG_REPLICATE);
        assert_eq!(judge(&replica, Some(&replica), TIMES, standby), Verdict::Keep);
        let own = entry(1, STATE_ESTABLISHED, 0);
        assert_eq!(judge(&own, Some(&own), TIMES, standby), Verdict::Idle, "nobody else will delete it");
        assert_eq!(judge(&replica, None, TIMES, standby), Verdict::Orphan);
    }

    #[test]
    fn finished_and_half_open_ones_have_their_own_times() {
        let at = |seen_s, state| entry(seen_s, state, 0);
        let (closed, syn) = (at(993, STATE_CLOSED), at(960, STATE_SYN));
        assert_eq!(judge(&closed, Some(&closed), TIMES, ACTIVE), Verdict::Closed);
        assert_eq!(judge(&at(996, STATE_CLOSED), Some(&closed), TIMES, ACTIVE), Verdict::Keep);
        assert_eq!(judge(&syn, Some(&syn), TIMES, ACTIVE), Verdict::Pending);
        let syn = at(980, STATE_SYN);
        assert_eq!(judge(&syn, Some(&syn), TIMES, ACTIVE), Verdict::Keep);
    }

    #[test]
    fn an_entry_without_its_twin_goes_after_a_grace_time() {
        assert_eq!(judge(&entry(995, STATE_ESTABLISHED, 0), None, TIMES, ACTIVE), Verdict::Keep);
        assert_eq!(judge(&entry(985, STATE_ESTABLISHED, 0), None, TIMES, ACTIVE), Verdict::Orphan);
    }

    #[test]
    fn a_sticky_entry_lives_from_its_last_use_or_the_takeover() {
        let entry = StickyEntry { last_used_ns: 900 * SECOND, life_s: 60, real: 0 };
        assert!(sticky_over(&entry, true, ACTIVE));
        assert!(!sticky_over(&entry, true, Clock { active: false, ..ACTIVE }));
        assert!(sticky_over(&entry, false, Clock { active: false, ..ACTIVE }));
        assert!(!sticky_over(&entry, true, Clock { adopted_ns: 950 * SECOND, ..ACTIVE }));
    }
}
