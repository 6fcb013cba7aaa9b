//! How the event loop ends: the session rests for a restart, or the role is handed over.

use std::time::{Duration, Instant};

use super::{Event, Router, Sources};
use crate::dataplane::table::monotonic_ns;
use crate::ft::election::Restraint;
use crate::ft::parked::Parked;
use crate::ft::{FtCommand, FtEvent, State};

/// A leaving node waits so long for the real-time thread to hand over or fence, then goes anyway: its lease ends.
const LEAVE_MAX: Duration = Duration::from_secs(15);

/// A leaving router goes on for so long after its resignation.
const ROUTER_LEAVES: Duration = Duration::from_millis(300);

impl Router<'_> {
    /// Has the session of an active node rest, its gate open; `None` if it does not, and has to leave.
    pub(super) async fn rest(&mut self, sources: &mut Sources) -> Option<Parked> {
        let ft = self.node.ft.clone()?;
        if ft.status().state != State::Active {
            return None;
        }
        let held = ft.hold();
        tokio::pin!(held);
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut held => break outcome,
                event = sources.next() => self.route(event),
            }
        };
        if let Err(refusal) = outcome {
            tracing::warn!(%refusal, "no hold for the restart: the role is handed over");
            return None;
        }
        let ft = sources.inputs.ft.take()?;
        let mut parked = tokio::task::spawn_blocking(move || ft.join()).await.ok()?.ok()?.parked;
        if let Some(parked) = &mut parked {
            parked.own_macs = self.node.macs.parked(&self.node.config());
        }
        let until = parked.as_ref().map_or(0, |parked| parked.until_ns.saturating_sub(monotonic_ns()));
        if let Some(parked) = &parked
            && let Err(error) = self.node.drain.hold(parked.until_ns)
        {
            tracing::warn!(%error, "new connections may be refused during the restart");
        }
        tracing::info!(
            milliseconds = until / 1_000_000,
            "the dataplane goes on by itself during the restart"
        );
        parked
    }

    /// Hands the role over, or fences, going on with all other work meanwhile. Returns what keeps this node from taking the role
    /// back.
    pub(super) async fn leave(&mut self, sources: &mut Sources) -> Option<Restraint> {
        let resigned = self.node.standby.as_ref().is_some_and(|groups| {
            let active = groups.is_active();
            groups.handle.resign();
            active
        });
        let since = Instant::now();
        let restraint = self.leave_pair(sources).await;
        if resigned {
            // What is on its way here goes on, until the switches know the successor.
            tokio::time::sleep_until((since + ROUTER_LEAVES).into()).await;
        }
        restraint
    }

    async fn leave_pair(&mut self, sources: &mut Sources) -> Option<Restraint> {
        sources.inputs.ft.as_ref()?;
        self.tell(FtCommand::Leave);
        let left = async {
            loop {
                let event = sources.next().await;
                let left = matches!(event, Event::Ft(FtEvent::Role { state: State::Left, .. }));
                self.route(event);
                if left {
                    return;
                }
            }
        };
        if tokio::time::timeout(LEAVE_MAX, left).await.is_err() {
            tracing::error!("the real-time thread did not leave in time; its lease ends by itself");
            return None;
        }
        if let Some(replication) = &self.node.replication {
            // Bounded by replication itself.
            replication.handed_over().await;
        }
        let ft = sources.inputs.ft.take()?;
        match tokio::task::spawn_blocking(move || ft.join()).await {
            Ok(Ok(legacy)) => legacy.restraint,
            _ => {
                tracing::error!("the real-time thread panicked");
                None
            }
        }
    }
}
