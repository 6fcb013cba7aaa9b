//! Our stream to the peer: connects while there is a peer, and feeds the [`Sender`].

use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::offload::{self, Scanned, Walked};
use super::socket::{self, Close, Spoken};
use super::{Control, PeerAddr, Shared};
use crate::replication::record::DeltaEvent;
use crate::replication::role::Role;
use crate::replication::sender::{Effect, Note, Sender};
use crate::replication::wire::{decode, encode};
use crate::secure::task as secure;

/// Octets that wait for the socket before no more frames are made.
const OUT_MAX: usize = 256 * 1024;
/// The machine is polled at least this often.
const TICK: Duration = Duration::from_millis(10);
/// Pause before another attempt, doubled each time up to the second value.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

type Events = mpsc::Receiver<Vec<DeltaEvent>>;

/// Runs until the handle is dropped.
pub(super) async fn run(shared: Arc<Shared>, mut control: watch::Receiver<Control>, mut events: Events) {
    let mut backoff = BACKOFF.0;
    loop {
        let peer = control.borrow_and_update().peer;
        let Some(peer) = peer else {
            if discarding(&shared, &mut events, control.changed()).await.is_err() {
                return;
            }
            backoff = BACKOFF.0;
            continue;
        };
        let close = match discarding(&shared, &mut events, socket::connect(&shared, peer)).await {
            Ok((socket, spoken)) => {
                tracing::info!(peer = %peer.addr, "replication stream to the peer stands");
                let sealed = socket.is_sealed();
                shared.publish(|status| {
                    status.connects += 1;
                    status.outgoing_sealed = sealed;
                });
                let since = shared.now();
                let current = *control.borrow_and_update();
                let close = Stream::new(&shared, peer, current, (sealed, spoken))
                    .run(socket, &mut control, &mut events)
                    .await;
                if shared.now().saturating_sub(since) > BACKOFF.1 {
                    backoff = BACKOFF.0;
                }
                close
            }
            Err(close) => close,
        };
        tracing::info!(peer = %peer.addr, reason = %close, "no replication stream to the peer");
        shared.publish(|status| {
            status.outgoing = None;
            status.last_close = Some(format!("to the peer: {close}"));
        });
        if matches!(close, Close::Stopped) {
            return;
        }
        let pause = async {
            tokio::select! {
                () = tokio::time::sleep(backoff) => Ok(()),
                changed = control.changed() => changed,
            }
        };
        if discarding(&shared, &mut events, pause).await.is_err() {
            return;
        }
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

/// Waits for `future` and throws events away meanwhile: there is nobody to tell, and a snapshot will.
async fn discarding<T>(shared: &Shared, events: &mut Events, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        tokio::select! {
            output = &mut future => return output,
            Some(batch) = events.recv() => {
                shared.note_ended(&batch);
                shared.status().discarded_events += batch.len() as u64;
            }
        }
    }
}

struct Stream<'a> {
    shared: &'a Arc<Shared>,
    peer: PeerAddr,
    sealed: bool,
    /// That both speak.
    version: u16,
    sender: Sender,
    control: Control,
    input: BytesMut,
    output: BytesMut,
    walk: Option<(u64, mpsc::Receiver<Walked>)>,
    scans: (mpsc::Sender<Scanned>, mpsc::Receiver<Scanned>),
    heard: Duration,
}

impl<'a> Stream<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        peer: PeerAddr,
        control: Control,
        (sealed, spoken): (bool, Spoken),
    ) -> Self {
        let now = shared.now();
        let mut sender = Sender::new(now, shared.sender);
        sender.set_version(spoken.version);
        let over = control.role.hands_over() && !shared.is_handing_over(&control);
        let ended = shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
        sender.set_role(now, if over { Role::Standby } else { control.role }, &ended);
        drop(ended);
        let (output, scans) = (BytesMut::new(), mpsc::channel(1));
        let (version, input) = (spoken.version, spoken.rest);
        Self { version, shared, peer, sealed, sender, control, input, output, walk: None, scans, heard: now }
    }

    /// Every branch of the select may be dropped at any await without loss: `read_buf`, `write_buf`, `recv`, `tick` and
    /// `changed` are cancel safe.
    async fn run(
        mut self,
        socket: secure::Stream,
        control: &mut watch::Receiver<Control>,
        events: &mut Events,
    ) -> Close {
        let secure::Stream { mut reader, mut writer } = socket;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if control.borrow().peer != Some(self.peer) {
            return Close::PeerChanged;
        }
        if control.borrow().keyed && !self.sealed {
            return Close::InTheClear;
        }
        loop {
            self.drain();
            let walking = self.sender.wants_chunk() && self.output.len() < OUT_MAX;
            let step = tokio::select! {
                read = reader.read_buf(&mut self.input) => read.map_err(Close::Io).and_then(|octets| self.read(octets)),
                wrote = writer.write_buf(&mut self.output), if !writer.is_idle(&self.output) => wrote.map_err(Close::Io),
                Some(batch) = events.recv() => {
                    self.hear(batch);
                    Ok(())
                }
                walked = next_walked(&mut self.walk), if walking => {
                    self.walked(walked);
                    Ok(())
                }
                Some(scanned) = self.scans.1.recv() => {
                    let Scanned { round, took, digests } = scanned;
                    self.sender.digested(self.shared.now(), round, took, digests);
                    Ok(())
                }
                _ = tick.tick() => self.tick(),
                changed = control.changed() => match changed {
                    Ok(()) => self.control(*control.borrow_and_update()),
                    Err(_) => Err(Close::Stopped),
                },
            };
            if let Err(close) = step {
                return close;
            }
        }
    }

    fn drain(&mut self) {
        while self.output.len() < OUT_MAX
            && let Some(effect) = self.sender.poll(self.shared.now())
        {
            match effect {
                Effect::Send(frame) => encode(&frame.said_in(self.version), &mut self.output),
                Effect::Walk { epoch, buckets } => {
                    self.walk = Some((epoch, offload::walk(self.shared, buckets)));
                }
                Effect::Digest { round } => offload::scan(self.shared, round, self.scans.0.clone()),
                Effect::Flush => (self.shared.flush)(),
                Effect::HandedOver { complete } => {
                    self.shared.release(self.control.turns, self.control.since_ns, complete);
                }
                Effect::Note(note) => log(note),
            }
        }
    }

    fn read(&mut self, octets: usize) -> Result<(), Close> {
        if octets == 0 {
            return Err(Close::Eof);
        }
        let now = self.shared.now();
        self.heard = now;
        while let Some(frame) = decode(&mut self.input)? {
            self.sender.frame(now, frame).map_err(|error| Close::Protocol(error.into()))?;
        }
        Ok(())
    }

    fn hear(&mut self, batch: Vec<DeltaEvent>) {
        let now = self.shared.now();
        self.shared.note_ended(&batch);
        batch.into_iter().for_each(|event| self.sender.event(now, event));
    }

    fn walked(&mut self, (epoch, walked): (u64, Option<Walked>)) {
        let now = self.shared.now();
        match walked {
            Some(Walked::Chunk(records)) => self.sender.chunk(now, epoch, records),
            Some(Walked::End(complete)) => {
                self.walk = None;
                self.sender.walked(now, epoch, complete);
            }
            // The walking thread died without a last word.
            None => {
                self.walk = None;
                self.sender.walked(now, epoch, false);
            }
        }
    }

    fn tick(&mut self) -> Result<(), Close> {
        let now = self.shared.now();
        let status = self.sender.status(now);
        self.shared.publish(|all| all.outgoing = Some(status));
        if now.saturating_sub(self.heard) > self.shared.silence {
            return Err(Close::Silent(self.shared.silence));
        }
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), Close> {
        if control.peer != Some(self.peer) {
            return Err(Close::PeerChanged);
        }
        if control.keyed && !self.sealed {
            return Err(Close::InTheClear);
        }
        let turns = control.turns - self.control.turns;
        self.control = control;
        if turns > 0 {
            let now = self.shared.now();
            self.walk = None;
            let ended = self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if turns > 1 {
                // Another role between: nothing is known any more of what the peer holds.
                self.sender.set_role(now, Role::Standby, &ended);
            }
            self.sender.set_role(now, control.role, &ended);
        }
        Ok(())
    }
}

async fn next_walked(walk: &mut Option<(u64, mpsc::Receiver<Walked>)>) -> (u64, Option<Walked>) {
    match walk {
        Some((epoch, chunks)) => (*epoch, chunks.recv().await),
        None => pending().await,
    }
}

fn log(note: Note) {
    match note {
        Note::SnapshotDone(done) if !done.refused.is_empty() => tracing::warn!(
            epoch = done.epoch,
            entries = done.entries,
            refused_buckets = done.refused.len(),
            took_ms = done.took.as_millis(),
            "the peer holds a snapshot but refuses some entries: `show module csm N ft` says why"
        ),
        Note::SnapshotDone(done) => tracing::info!(
            epoch = done.epoch,
            entries = done.entries,
            took_ms = done.took.as_millis(),
            "the peer holds a snapshot"
        ),
        // What is refused is tried again and again; the snapshot has told of it.
        Note::Repaired(done) if !done.refused.is_empty() => {
            tracing::debug!(refused_buckets = done.refused.len(), "the peer still refuses some entries");
        }
        Note::Repaired(done) => tracing::info!(
            buckets = done.buckets.len(),
            entries = done.entries,
            took_ms = done.took.as_millis(),
            "the peer's replica was repaired"
        ),
        Note::Merged(done) => tracing::info!(
            buckets = done.buckets.len(),
            entries = done.entries,
            took_ms = done.took.as_millis(),
            "the peer was offered what this node held"
        ),
        Note::Differs(buckets) => tracing::warn!(buckets, "the peer's table differs from ours"),
        Note::Lost(events) => tracing::warn!(events, "changes were lost before they were sent; repairing"),
        Note::WalkFailed => tracing::warn!("snapshot given up, trying again"),
    }
}
