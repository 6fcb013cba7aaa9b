//! What must not run on the runtime's own threads: waiting for events of the ring buffer, and walking the tables.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use tokio::sync::mpsc;

use super::Shared;
use crate::replication::delta::{BucketSet, Record};
use crate::replication::digest::{self, Digests};
use crate::replication::record::DeltaEvent;

/// Events handed over at a time.
const BATCH: usize = 512;
/// Batches under way; when they are all full the source's channel fills, and it counts what it loses.
const BATCHES: usize = 16;
/// How soon the thread notices that nobody listens any more.
const CHECK: Duration = Duration::from_millis(200);
/// Chunks of a walk that wait for the window.
const CHUNKS: usize = 4;

/// Starts the thread that carries events from the source into the runtime. It ends with either side.
pub(super) fn feed(source: Receiver<DeltaEvent>) -> io::Result<mpsc::Receiver<Vec<DeltaEvent>>> {
    let (sink, batches) = mpsc::channel(BATCHES);
    std::thread::Builder::new().name("repl-feed".into()).spawn(move || {
        loop {
            let first = match source.recv_timeout(CHECK) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) if !sink.is_closed() => continue,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            };
            let batch = std::iter::once(first).chain(source.try_iter().take(BATCH - 1)).collect();
            if sink.blocking_send(batch).is_err() {
                return;
            }
        }
    })?;
    Ok(batches)
}

/// A walk's result, piece by piece.
pub(super) enum Walked {
    /// Entries.
    Chunk(Vec<Record>),
    /// The end, complete or not.
    End(bool),
}

/// Walks both tables for the entries in `buckets`, `batch` at a time; ends early when the receiver is dropped.
pub(super) fn walk(shared: &Arc<Shared>, buckets: BucketSet) -> mpsc::Receiver<Walked> {
    let (sink, chunks) = mpsc::channel(CHUNKS);
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || {
        let mut chunker = Chunker { buckets, batch: shared.sender.limits.batch, chunk: Vec::new(), sink };
        let connections = shared
            .table
            .visit_connections(&mut |records| chunker.take(records.iter().copied().map(Record::Connection)));
        let sticky = shared
            .table
            .visit_sticky(&mut |records| chunker.take(records.iter().copied().map(Record::Sticky)));
        let failure = connections.err().or(sticky.err());
        if let Some(error) = &failure {
            tracing::warn!(%error, "cannot walk the table for a snapshot");
        }
        chunker.end(failure.is_none());
    });
    chunks
}

struct Chunker {
    buckets: BucketSet,
    batch: usize,
    chunk: Vec<Record>,
    sink: mpsc::Sender<Walked>,
}

impl Chunker {
    fn take(&mut self, records: impl Iterator<Item = Record>) -> ControlFlow<()> {
        for record in records.filter(|record| self.buckets.contains(record.key().bucket())) {
            self.chunk.push(record);
            if self.chunk.len() >= self.batch
                && self.sink.blocking_send(Walked::Chunk(std::mem::take(&mut self.chunk))).is_err()
            {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// A send that fails means that the transfer is of no interest any more.
    fn end(self, complete: bool) {
        if self.chunk.is_empty() || self.sink.blocking_send(Walked::Chunk(self.chunk)).is_ok() {
            let _abandoned = self.sink.blocking_send(Walked::End(complete));
        }
    }
}

/// A digest of the tables.
pub(super) struct Scanned {
    /// For which round.
    pub(super) round: u64,
    /// How long it took.
    pub(super) took: Duration,
    /// `None`: the walk failed.
    pub(super) digests: Option<Digests>,
}

/// Computes a digest and sends it to `sink`, which has room for one.
pub(super) fn scan(shared: &Arc<Shared>, round: u64, sink: mpsc::Sender<Scanned>) {
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || {
        let start = Instant::now();
        let digests = digest::scan(&*shared.table);
        if let Err(error) = &digests {
            tracing::warn!(%error, "cannot walk the table for a digest");
        }
        // A closed channel means that the stream has ended.
        let _ended = sink.blocking_send(Scanned { round, took: start.elapsed(), digests: digests.ok() });
    });
}
