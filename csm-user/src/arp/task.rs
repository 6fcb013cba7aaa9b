//! The announcer's thread: repeats and refreshes what the real-time thread announced first.

pub mod trial;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::announcer::{Announcer, Station};
use super::owner::{Event, Owner};

/// Longest wait while nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// What the thread has done.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames sent.
    pub frames: AtomicU64,
    /// Frames that could not be sent.
    pub left: AtomicU64,
}

/// The running thread; dropping it stops it.
#[derive(Debug)]
pub struct AnnounceThread {
    events: Option<Sender<Event>>,
    announcer: Arc<Announcer>,
    thread: Option<JoinHandle<()>>,
    /// What it has done.
    pub counters: Arc<Counters>,
}

impl AnnounceThread {
    /// Starts; nothing is sent before [`AnnounceThread::announce`], nor while `may_speak` is false: a daemon that was
    /// stopped and wakes finds a repeat overdue before anything can have told it that the role has moved.
    ///
    /// # Errors
    /// If the thread cannot be had.
    pub fn spawn(
        announcer: Arc<Announcer>,
        may_speak: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (events, waiting) = bounded(64);
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        let sent_by = Arc::clone(&announcer);
        let thread = std::thread::Builder::new()
            .name("csm-announce".into())
            .spawn(move || run(&sent_by, &waiting, &counted, &may_speak))?;
        Ok(Self { events: Some(events), announcer, thread: Some(thread), counters })
    }

    /// This node is active: announce now, repeat, refresh. Does not wait.
    pub fn announce(&self) {
        self.tell(Event::Announce);
    }

    /// This node is not active any more.
    pub fn stop(&self) {
        let Some(events) = &self.events else { return };
        // Must not get lost, and the thread takes events within the time of one burst.
        let _ended = events.send(Event::Stop);
    }

    /// A rival was seen. Does not wait.
    pub fn rival(&self) {
        self.tell(Event::Rival);
    }

    /// [`Announcer::set_refresh`] has changed the time between two announcements. Does not wait.
    pub fn refreshed(&self) {
        self.tell(Event::Tick);
    }

    /// Hosts of bridge groups that are announced, too, from now on.
    pub fn stations(&self, stations: Vec<Station>) {
        if let Err(error) = self.announcer.set_stations(stations) {
            tracing::warn!(%error, "the hosts of a bridge group cannot be announced");
        }
    }

    fn tell(&self, event: Event) {
        let Some(events) = &self.events else { return };
        match events.try_send(event) {
            // Full of such events: the thread will announce anyway.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Drop for AnnounceThread {
    fn drop(&mut self) {
        drop(self.events.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the announcer's thread panicked");
        }
    }
}

fn run(announcer: &Announcer, waiting: &Receiver<Event>, counters: &Counters, may_speak: &impl Fn() -> bool) {
    let start = Instant::now();
    let mut owner = Owner::default();
    let mut next: Option<Duration> = None;
    loop {
        let wait = next.map_or(IDLE, |next| next.saturating_sub(start.elapsed()));
        let event = match waiting.recv_timeout(wait) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => Event::Tick,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        owner.set_refresh(announcer.refresh());
        let action = owner.on(event, start.elapsed());
        next = action.next;
        if action.send && may_speak() {
            let sent = announcer.announce_all();
            counters.frames.fetch_add(sent.frames as u64, Ordering::Relaxed);
            counters.left.fetch_add(sent.left as u64, Ordering::Relaxed);
        }
    }
}
