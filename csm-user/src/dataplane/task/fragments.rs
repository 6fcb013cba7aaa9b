//! The thread of the fragments that come too early: takes them from the program and gives them back to it, on the port
//! they came in on, once the first fragment of their datagram has gone on. The gate, the notes and the counters are
//! judged anew then, so that a node that has lost its role sends nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use csm_common::fragment::{FRAGMENT_WAITED_FOR, Fragment, FragmentKey, HELD_FRAME_MAX, Release};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::dataplane::bpf::{BpfMap, Runner};
use crate::dataplane::family::Wire;
use crate::dataplane::maps::MapSource;
use crate::dataplane::ring;
use crate::dataplane::table::monotonic_ns;
use crate::dataplane::waiting::{Frame, Waiting};

/// How often those that wait are looked through for old ones.
const SWEEP: Duration = Duration::from_millis(250);

/// What became of the frames that were handed over.
#[derive(Debug, Default)]
pub struct FragmentCounters {
    /// Given back to the program.
    pub released: AtomicU64,
    /// Their first fragment did not come in time.
    pub expired: AtomicU64,
    /// Found no room, or could not be given back.
    pub refused: AtomicU64,
}

/// The running thread; dropping it stops it.
#[derive(Debug)]
pub struct FragmentThread {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    /// What it has done.
    pub counters: Arc<FragmentCounters>,
}

impl FragmentThread {
    /// Starts it for fragments of family `A`; `runner` runs the program whose maps `source` has.
    ///
    /// # Errors
    /// If a map or the thread cannot be had.
    pub fn spawn<A: Wire + Send>(source: &impl MapSource, runner: Runner) -> io::Result<Self> {
        let ring = ring::open(source.descriptor(A::NAMES.held)?)?;
        let notes = BpfMap::new(source.descriptor(A::NAMES.fragments)?)?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let counters = Arc::new(FragmentCounters::default());
        let keeper: Keeper<A> =
            Keeper { waiting: Waiting::default(), notes, runner, counters: Arc::clone(&counters) };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("csm-fragments".into())
            .spawn(move || keeper.run(ring, &stopped))?;
        Ok(Self { stop, thread: Some(thread), counters })
    }
}

impl Drop for FragmentThread {
    fn drop(&mut self) {
        // Writing 1 to an event descriptor fails only when its counter is full, and then it is readable too.
        let _full = self.stop.write(1);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the fragments' thread panicked");
        }
    }
}

/// Records taken before the thread looks at the time, and at whether it is to end.
const TURN_MAX: usize = 1024;

struct Keeper<A: Wire> {
    waiting: Waiting<A>,
    notes: BpfMap<FragmentKey<A>, Fragment<A>>,
    runner: Runner,
    counters: Arc<FragmentCounters>,
}

impl<A: Wire> Keeper<A> {
    fn run(mut self, mut ring: RingBuf<MapData>, stop: &EventFd) {
        let sweep = PollTimeout::try_from(SWEEP).unwrap_or(PollTimeout::MAX);
        loop {
            for _ in 0..TURN_MAX {
                let Some(item) = ring.next() else { break };
                self.record(&item);
            }
            let expired = self.waiting.expire(monotonic_ns());
            self.counters.expired.fetch_add(expired as u64, Ordering::Relaxed);
            // SAFETY: the ring outlives this borrow of its descriptor.
            let ring_fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(ring.as_raw_fd()) };
            let mut fds =
                [PollFd::new(ring_fd, PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
            let timeout = if self.waiting.is_empty() { PollTimeout::NONE } else { sweep };
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the ring of fragments cannot be waited for; its thread ends");
                    return;
                }
            }
            if fds[1].any() == Some(true) {
                return;
            }
        }
    }

    fn record(&mut self, record: &[u8]) {
        let Some((head, frame)) = parse(record) else {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if head.length == 0 {
            return self.release(&head.key);
        }
        let tag = u16::try_from(head.tag).unwrap_or(0);
        if !self.waiting.keep(head.key, Frame::new(head.ifindex, tag, frame), monotonic_ns()) {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        // The first fragment may have gone on while this record was written, and word of it gone before.
        let note = self.notes.get(&head.key).ok().flatten();
        if note.is_some_and(|note| note.state != FRAGMENT_WAITED_FOR) {
            self.release(&head.key);
        }
    }

    fn release(&mut self, key: &FragmentKey<A>) {
        for frame in self.waiting.release(key) {
            let counter = match self.runner.receive(frame.ifindex, &frame.bytes) {
                Ok(()) => &self.counters.released,
                Err(_) => &self.counters.refused,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Head and frame of a record of `HELD`.
fn parse<A: Wire>(record: &[u8]) -> Option<(Release<A>, &[u8])> {
    let (head, frame) = record.split_at_checked(size_of::<Release<A>>())?;
    // SAFETY: there are enough bytes, read unaligned; a head is made of integers only, so any bytes are one.
    let head = unsafe { head.as_ptr().cast::<Release<A>>().read_unaligned() };
    let length = usize::try_from(head.length).ok().filter(|&length| length <= HELD_FRAME_MAX)?;
    Some((head, frame.get(..length)?))
}

#[cfg(test)]
mod tests {
    use csm_common::fragment::{HELD_FRAME_MAX, HELD_HEAD_BYTES};

    use super::parse;

    #[test]
    fn a_record_is_taken_for_no_more_than_it_is() {
        let mut record = vec![0; HELD_HEAD_BYTES + HELD_FRAME_MAX];
        assert!(parse::<u32>(&record[..HELD_HEAD_BYTES - 1]).is_none());
        assert_eq!(parse::<u32>(&record[..HELD_HEAD_BYTES]).map(|(_, frame)| frame.len()), Some(0));
        record[20..24].copy_from_slice(&60_u32.to_ne_bytes());
        assert_eq!(parse::<u32>(&record).map(|(head, frame)| (head.length, frame.len())), Some((60, 60)));
        assert!(parse::<u32>(&record[..HELD_HEAD_BYTES + 59]).is_none());
        record[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(parse::<u32>(&record).is_none());
    }
}
