//! The peer's stream to us: one at a time, carried out by the [`Receiver`] on blocking threads.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::offload::{self, Scanned};
use super::socket::{self, Close};
use super::{Control, PeerAddr, Shared};
use crate::replication::apply::{Answer, ApplyError, Receiver};
use crate::replication::role::Role;
use crate::replication::sender::HEARTBEAT;
use crate::replication::wire::{Frame, decode, encode};
use crate::secure::task as secure;

/// Frames carried out at a time, before their acknowledgements go out.
const FRAMES: usize = 32;
/// Read buffer above which nothing is read until frames were carried out: TCP holds the sender back.
const IN_MAX: usize = 1 << 20;

/// The running stream: what to end it with, and its end.
struct Running {
    peer: PeerAddr,
    sealed: bool,
    stop: oneshot::Sender<Close>,
    ended: JoinHandle<()>,
}

/// Runs until the handle is dropped. Whoever connects while this node hands over waits in the listen queue: its transfer
/// must not begin before it has all that this node held.
pub(super) async fn run(shared: Arc<Shared>, mut control: watch::Receiver<Control>, listener: TcpListener) {
    let mut running: Option<Running> = None;
    let mut released = shared.released.subscribe();
    let mut current = *control.borrow_and_update();
    loop {
        tokio::select! {
            accepted = listener.accept(), if !shared.is_handing_over(&current) => {
                let (stream, from) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, most likely: retrying at once would spin.
                        tracing::warn!(%error, "cannot accept a replication stream");
                        tokio::time::sleep(HEARTBEAT).await;
                        continue;
                    }
                };
                if let Some((peer, stream, rest)) = admit(&shared, current.peer, stream, from).await {
                    end(running.take(), Close::Replaced).await;
                    running = Some(start(&shared, peer, stream, rest));
                }
            }
            Ok(()) = released.changed() => {}
            changed = control.changed() => {
                let next = *control.borrow_and_update();
                let other_peer = running.as_ref().is_some_and(|running| match next.peer {
                    Some(peer) => peer != running.peer,
                    // The last words of a predecessor that has left: the stream ends by itself.
                    None => !shared.tenure.holds(),
                });
                let in_the_clear = next.keyed && running.as_ref().is_some_and(|running| !running.sealed);
                let close = match changed {
                    Err(_) => Some(Close::Stopped),
                    Ok(()) if other_peer => Some(Close::PeerChanged),
                    Ok(()) if in_the_clear => Some(Close::InTheClear),
                    // What came while this node was active was merged, not mirrored.
                    Ok(()) if next.turns != current.turns && next.role != Role::Active => Some(Close::RoleChanged),
                    Ok(()) => None,
                };
                current = next;
                if let Some(close) = close {
                    let stopped = matches!(close, Close::Stopped);
                    end(running.take(), close).await;
                    if stopped {
                        return;
                    }
                }
            }
        }
    }
}

/// Turns away whoever is not the peer.
async fn admit(
    shared: &Shared,
    peer: Option<PeerAddr>,
    socket: TcpStream,
    from: SocketAddr,
) -> Option<(PeerAddr, secure::Stream, BytesMut)> {
    let Some(peer) = peer.filter(|peer| SocketAddr::V6(peer.addr).ip() == from.ip()) else {
        // Usual at start: the peer's election heard of us before ours heard of it.
        tracing::debug!(%from, "replication stream from an unknown node turned away");
        shared.publish(|status| status.rejected += 1);
        return None;
    };
    match socket::accept(shared, socket, peer).await {
        Ok((stream, rest)) => Some((peer, stream, rest)),
        Err(close) => {
            tracing::warn!(%from, reason = %close, "replication stream turned away");
            shared.publish(|status| status.rejected += 1);
            None
        }
    }
}

/// Ends a stream and waits until its last frame was carried out: two streams never write the table at once.
async fn end(running: Option<Running>, close: Close) {
    if let Some(Running { stop, ended, .. }) = running {
        // Fails if the stream has ended by itself.
        let _ended = stop.send(close);
        if let Err(error) = ended.await {
            tracing::error!(%error, "a replication stream's task failed");
        }
    }
}

fn start(shared: &Arc<Shared>, peer: PeerAddr, socket: secure::Stream, input: BytesMut) -> Running {
    let (stop, stopped) = oneshot::channel();
    let sealed = socket.is_sealed();
    let receiver = Receiver::new(&shared.tenure);
    let incoming = receiver.status();
    let stream = Stream {
        shared: Arc::clone(shared),
        receiver: Some(receiver),
        work: None,
        input,
        output: BytesMut::new(),
        scans: mpsc::channel(1),
        heard: shared.now(),
    };
    let shared = Arc::clone(shared);
    let ended = tokio::spawn(async move {
        tracing::info!("replication stream from the peer stands");
        shared.publish(|status| {
            status.incoming = Some(incoming);
            status.incoming_sealed = sealed;
        });
        let close = stream.run(socket, stopped).await;
        tracing::info!(reason = %close, "replication stream from the peer ended");
        shared.publish(|status| {
            status.incoming = None;
            status.last_close = Some(format!("from the peer: {close}"));
        });
    });
    Running { peer, sealed, stop, ended }
}

/// The machine, back from a blocking thread, with its answers or its verdict on the peer.
type Worked = (Receiver, Result<Vec<Answer>, ApplyError>);

struct Stream {
    shared: Arc<Shared>,
    /// `None` while it works.
    receiver: Option<Receiver>,
    work: Option<JoinHandle<Worked>>,
    input: BytesMut,
    output: BytesMut,
    scans: (mpsc::Sender<Scanned>, mpsc::Receiver<Scanned>),
    heard: Duration,
}

impl Stream {
    async fn run(mut self, socket: secure::Stream, stopped: oneshot::Receiver<Close>) -> Close {
        let close = self.serve(socket, stopped).await;
        if let Some(work) = self.work.take() {
            // What is being carried out cannot be taken back; the next stream waits for it.
            if let Err(error) = work.await {
                tracing::error!(%error, "carrying out frames failed");
            }
        }
        close
    }

    /// Every branch of the select is cancel safe; a work handle that is not ready stays in its place.
    async fn serve(&mut self, socket: secure::Stream, mut stopped: oneshot::Receiver<Close>) -> Close {
        let secure::Stream { mut reader, mut writer } = socket;
        let mut tick = tokio::time::interval(HEARTBEAT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Err(error) = self.dispatch() {
                return error;
            }
            let reading = self.input.len() < IN_MAX;
            let step = tokio::select! {
                read = reader.read_buf(&mut self.input), if reading => match read {
                    Ok(0) => Err(Close::Eof),
                    Ok(_) => {
                        self.heard = self.shared.now();
                        Ok(())
                    }
                    Err(error) => Err(Close::Io(error)),
                },
                wrote = writer.write_buf(&mut self.output), if !writer.is_idle(&self.output) => wrote.map_err(Close::Io),
                worked = join(&mut self.work) => {
                    self.work = None;
                    match worked {
                        Ok(worked) => self.worked(worked),
                        Err(error) => Err(Close::Protocol(error.into())),
                    }
                }
                Some(Scanned { round, digests, .. }) = self.scans.1.recv() => {
                    if let Some(buckets) = digests {
                        encode(&Frame::Digest { round, buckets }, &mut self.output);
                    }
                    Ok(())
                }
                _ = tick.tick() => self.tick(),
                close = &mut stopped => Err(close.unwrap_or(Close::Stopped)),
            };
            if let Err(close) = step {
                return close;
            }
        }
    }

    /// Gives whole frames to a blocking thread if none works.
    fn dispatch(&mut self) -> Result<(), Close> {
        let Some(mut receiver) = self.receiver.take() else { return Ok(()) };
        let mut frames = Vec::new();
        while frames.len() < FRAMES
            && let Some(frame) = decode(&mut self.input)?
        {
            frames.push(frame);
        }
        if frames.is_empty() {
            self.receiver = Some(receiver);
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        self.work = Some(tokio::task::spawn_blocking(move || {
            let carry_out = |frame| receiver.apply(frame, &shared.here());
            let answers = frames.into_iter().map(carry_out).collect();
            (receiver, answers)
        }));
        Ok(())
    }

    fn worked(&mut self, (receiver, answers): Worked) -> Result<(), Close> {
        let status = receiver.status();
        self.receiver = Some(receiver);
        self.shared.publish(|all| all.incoming = Some(status));
        for answer in answers.map_err(|error| Close::Protocol(error.into()))? {
            match answer {
                Answer::Nothing => {}
                Answer::Send(frame) => encode(&frame, &mut self.output),
                Answer::Digest { round } => offload::scan(&self.shared, round, self.scans.0.clone()),
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Close> {
        encode(&Frame::Alive, &mut self.output);
        let now = self.shared.now();
        if self.work.is_some() {
            // What came meanwhile is not looked at: silence counts from the end of the work.
            self.heard = now;
        }
        if now.saturating_sub(self.heard) > self.shared.silence {
            return Err(Close::Silent(self.shared.silence));
        }
        Ok(())
    }
}

async fn join(work: &mut Option<JoinHandle<Worked>>) -> Result<Worked, tokio::task::JoinError> {
    match work {
        Some(work) => work.await,
        None => pending().await,
    }
}
