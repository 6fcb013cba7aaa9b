//! The event ring's thread: from the XDP program's records to replication and to the neighbour table.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use aya::maps::{Map, MapData, RingBuf};
use csm_common::address::{Address, V6};
use csm_common::event::{
    EVENT_CLOSED, EVENT_CONNECTION, EVENT_HANDSHAKE, EVENT_NARROW, EVENT_NEIGHBOUR, EVENT_RIVAL,
    EVENT_STICKY, EVENT_UNRESOLVED, EVENT_V6, Lost, Record,
};
use csm_common::flow::Connection;
use csm_common::names;
use csm_common::service::{StickyEntry, StickyKey};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::bpf::PerCpuArray;
use super::maps::MapSource;
use super::table::family::TableFamily;
use crate::model::Host;

/// A change of one family's tables; numbers are this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<A: Address = u32> {
    /// A connection was proven by both sides.
    Up(Connection<A>),
    /// A connection ended or expired.
    Closed(Connection<A>),
    /// A sticky entry was made or used.
    Sticky(StickyKey<A>, StickyEntry),
    /// A sticky entry expired.
    StickyGone(StickyKey<A>),
    /// A connection is half open that the peer could not make anew, and is proven by this number, as
    /// [`FlowEntry::expect_ack`](csm_common::flow::FlowEntry::expect_ack) has it.
    Handshake(Connection<A>, u32),
}

/// What replication is told of this node's own tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// In the tables of IPv4.
    V4(Change),
    /// In those of IPv6.
    V6(Change<V6>),
    /// So many deltas were lost because the ring was full.
    Lost(u64),
    /// So many handshakes under way were not told of: beyond their budget, or the ring had no room to spare.
    HandshakesLeftOut(u64),
    /// All records were told that the ring held when [`Flusher::flush`] was called.
    Flushed,
    /// Other entries are replicated than before, which no record told of.
    Rescoped,
}

/// Takes deltas; is called from the ring's and the expiry's thread and must not block: what finds no room is counted
/// there, and turned into a repair.
pub type DeltaSink = Arc<dyn Fn(Delta) + Send + Sync>;

/// What the network told of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A packet waits for a host that has no next hop.
    Unresolved(Host),
    /// A host told its MAC in an ARP packet.
    Neighbour(Host, [u8; 6]),
    /// Another box uses one of the group's addresses, from this MAC, while this node is active.
    Rival(Host, [u8; 6]),
    /// A router on the way to a tunnel's far end takes packets of so many octets at most.
    Narrow(IpAddr, u16),
}

/// How many records the thread has handled and had to leave.
#[derive(Debug, Default)]
pub struct RingCounters {
    /// Records read.
    pub records: AtomicU64,
    /// Records that were not understood.
    pub unknown: AtomicU64,
    /// Hints that found no room with their reader.
    pub hints_lost: AtomicU64,
    /// Records that found no room in the ring.
    pub ring_lost: AtomicU64,
}

/// Has the ring's thread say when it has told everything; cheap to clone.
#[derive(Clone, Debug)]
pub struct Flusher(Arc<EventFd>);

impl Flusher {
    /// [`Delta::Flushed`] follows whatever the ring holds now. Never waits.
    pub fn flush(&self) {
        // Writing 1 to an event descriptor fails only when its counter is full, and then the thread is asked already.
        let _full = self.0.write(1);
    }
}

/// The running thread; dropping it stops it.
#[derive(Debug)]
pub struct RingThread {
    stop: Arc<EventFd>,
    flush: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    /// What it has done.
    pub counters: Arc<RingCounters>,
}

impl RingThread {
    /// Starts reading.
    ///
    /// # Errors
    /// If the ring or the thread cannot be had.
    pub fn spawn(
        source: &impl MapSource,
        deltas: DeltaSink,
        hints: tokio::sync::mpsc::Sender<Hint>,
    ) -> io::Result<Self> {
        let ring = open(source.descriptor(names::EVENTS)?)?;
        let lost = PerCpuArray::new(source.descriptor(names::EVENTS_LOST)?)?;
        let stop =
            Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let flush =
            Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let counters = Arc::new(RingCounters::default());
        let counted = Arc::clone(&counters);
        let reader = Reader { deltas, hints, counters: counted, lost, lost_before: 0, left_out_before: 0 };
        let (stopped, flushed) = (Arc::clone(&stop), Arc::clone(&flush));
        let thread = std::thread::Builder::new()
            .name("csm-ring".into())
            .spawn(move || reader.run(ring, &stopped, &flushed))?;
        Ok(Self { stop, flush, thread: Some(thread), counters })
    }

    /// For whoever needs to know that nothing is left in the ring.
    #[must_use]
    pub fn flusher(&self) -> Flusher {
        Flusher(Arc::clone(&self.flush))
    }
}

impl Drop for RingThread {
    fn drop(&mut self) {
        // Writing 1 to an event descriptor fails only when its counter is full, and then it is readable too.
        let _full = self.stop.write(1);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the event ring's thread panicked");
        }
    }
}

pub(super) fn open(fd: OwnedFd) -> io::Result<RingBuf<MapData>> {
    let data = MapData::from_fd(fd).map_err(io::Error::other)?;
    RingBuf::try_from(Map::RingBuf(data)).map_err(io::Error::other)
}

struct Reader {
    deltas: DeltaSink,
    hints: tokio::sync::mpsc::Sender<Hint>,
    counters: Arc<RingCounters>,
    lost: PerCpuArray<u64>,
    lost_before: u64,
    left_out_before: u64,
}

impl Reader {
    fn run(mut self, mut ring: RingBuf<MapData>, stop: &EventFd, flush: &EventFd) {
        let mut flushing = false;
        loop {
            while let Some(item) = ring.next() {
                self.record(&item);
            }
            self.count_lost();
            if std::mem::take(&mut flushing) {
                (self.deltas)(Delta::Flushed);
            }
            // SAFETY: the ring outlives this borrow of its descriptor.
            let ring_fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(ring.as_raw_fd()) };
            let mut fds = [
                PollFd::new(ring_fd, PollFlags::POLLIN),
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(flush.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the event ring cannot be waited for; its thread ends");
                    return;
                }
            }
            if fds[1].any() == Some(true) {
                return;
            }
            // Fails with EAGAIN if nobody asked.
            flushing = flush.read().is_ok();
        }
    }

    fn record(&mut self, bytes: &[u8]) {
        self.counters.records.fetch_add(1, Ordering::Relaxed);
        let known = match bytes.first_chunk().map(|kind| u32::from_ne_bytes(*kind)) {
            Some(kind) if kind & EVENT_V6 != 0 => {
                parse::<V6>(bytes).is_some_and(|record| self.take(kind & !EVENT_V6, &record))
            }
            Some(kind) => parse::<u32>(bytes).is_some_and(|record| self.take(kind, &record)),
            None => false,
        };
        if !known {
            self.counters.unknown.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether `kind` is known.
    fn take<A: TableFamily>(&self, kind: u32, record: &Record<A>) -> bool {
        let host = Host::on(record.ip_be.ip(), record.vlan);
        let tell = |change| (self.deltas)(A::delta(change));
        match kind {
            EVENT_CONNECTION => tell(Change::Up(record.connection)),
            EVENT_CLOSED => tell(Change::Closed(record.connection)),
            EVENT_HANDSHAKE => tell(Change::Handshake(record.connection, record.expect_ack)),
            EVENT_STICKY => tell(Change::Sticky(record.sticky_key, record.sticky)),
            EVENT_UNRESOLVED => self.hint(Hint::Unresolved(host)),
            EVENT_NEIGHBOUR => self.hint(Hint::Neighbour(host, record.mac)),
            EVENT_NARROW => {
                let [.., high, low] = record.mac;
                self.hint(Hint::Narrow(record.ip_be.ip(), u16::from_be_bytes([high, low])));
            }
            EVENT_RIVAL => self.hint(Hint::Rival(host, record.mac)),
            _ => return false,
        }
        true
    }

    fn hint(&self, hint: Hint) {
        // The next such frame repeats it.
        if self.hints.try_send(hint).is_err() {
            self.counters.hints_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells replication of records that the program found no room for.
    fn count_lost(&mut self) {
        let count = |what: Lost| self.lost.get(what as u32).map(|counts| counts.iter().sum::<u64>());
        let (Ok(lost), Ok(left_out)) = (count(Lost::Table), count(Lost::Handshake)) else { return };
        if lost > self.lost_before {
            self.counters.ring_lost.store(lost, Ordering::Relaxed);
            (self.deltas)(Delta::Lost(lost - self.lost_before));
            self.lost_before = lost;
        }
        if left_out > self.left_out_before {
            (self.deltas)(Delta::HandshakesLeftOut(left_out - self.left_out_before));
            self.left_out_before = left_out;
        }
    }
}

/// The record in `bytes`, if they are one.
fn parse<A: Address>(bytes: &[u8]) -> Option<Record<A>> {
    if bytes.len() < size_of::<Record<A>>() {
        return None;
    }
    // SAFETY: there are enough bytes, read unaligned; a record is made of integers only, so any bytes are one.
    Some(unsafe { bytes.as_ptr().cast::<Record<A>>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::{V6, parse};

    #[test]
    fn a_short_record_is_none() {
        assert!(parse::<u32>(&[0; 87]).is_none() && parse::<V6>(&[0; 159]).is_none());
        assert_eq!(parse::<u32>(&[1; 88]).map(|record| record.kind), Some(0x0101_0101));
        assert_eq!(parse::<V6>(&[1; 160]).map(|record| record.kind), Some(0x0101_0101));
    }
}
