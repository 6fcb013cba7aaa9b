//! A start anew is looked at before it is made, beside the event loop: a large configuration takes longer to check than the
//! election waits for a sign of life.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Node;
use crate::daemon::restart::Restarting;
use crate::daemon::saved::Next;
use crate::daemon::startup::Failure;
use crate::ft::State;

/// A start that is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// How.
    pub(super) wanted: Restarting,
    /// The peer wishes it, so that what it gave comes into force here.
    pub(super) for_peer: bool,
}

/// A start that may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cleared {
    /// How.
    pub(super) wanted: Restarting,
    /// What is executed.
    pub(super) program: PathBuf,
    /// Ports, addresses and FT group stay as they are.
    pub(super) in_place: bool,
}

/// Those that are being looked at: one at a time.
#[derive(Default)]
pub(super) struct Starts(JoinSet<(Start, Result<Next, Failure>)>);

impl Starts {
    /// Begins to look at `start`, unless another is looked at.
    pub(super) fn ask(&mut self, node: &Arc<Node>, start: Start) {
        if !self.0.is_empty() {
            tracing::info!("a start anew is being prepared already");
            return;
        }
        let node = Arc::clone(node);
        self.0.spawn_blocking(move || (start, node.can_start(start.wanted.from)));
    }

    /// The next that was looked at, if it may be made. Never ends while there is none; may be dropped at any time.
    pub(super) async fn next(&mut self, node: &Node) -> Cleared {
        loop {
            let Some(looked) = self.0.join_next().await else { std::future::pending().await };
            let state = || node.ft.as_ref().map(|ft| ft.status().state);
            match looked {
                Ok((Start { wanted, for_peer }, Ok(Next { program, config })))
                    if is_free(for_peer, state()) =>
                {
                    let in_place = config.is_some_and(|config| node.may_rest(&config));
                    return Cleared { wanted, program, in_place };
                }
                Ok((_, Ok(_))) => {
                    tracing::warn!("not started anew: the peer wished for it, and this box is active by now");
                }
                Ok((_, Err(error))) => {
                    tracing::error!(%error, "not started anew: everything stays as it is");
                }
                Err(error) => tracing::error!(%error, "not started anew: everything stays as it is"),
            }
        }
    }
}

/// Whether a start may be made in this state: one for the peer only as long as the peer is active.
const fn is_free(for_peer: bool, state: Option<State>) -> bool {
    !(for_peer && matches!(state, Some(State::Active | State::Candidate)))
}

#[cfg(test)]
mod tests {
    use super::{State, is_free};

    #[test]
    fn a_box_that_has_taken_over_meanwhile_does_not_start_anew_for_its_late_peer() {
        for state in [State::Active, State::Candidate] {
            assert!(!is_free(true, Some(state)));
            assert!(is_free(false, Some(state)), "its own operator may wish it");
        }
        for state in [State::Init, State::Standby, State::RelayOut, State::Left] {
            assert!(is_free(true, Some(state)));
        }
        assert!(is_free(true, None));
    }
}
