//! A start anew is looked at before it is made, beside the event loop: a large configuration takes longer to check than the
//! election waits for a sign of life.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Node;
use crate::daemon::restart::Restarting;
use crate::daemon::saved::Next;
use crate::daemon::startup::Failure;
use crate::ft::State;
use crate::state::Directory;

/// Who wishes a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// This box's own operator, or what was told beforehand.
    Operator {
        /// Whatever clients might notice.
        force: bool,
    },
    /// The peer, so that what it gave comes into force here.
    Peer,
}

/// A start that is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// How.
    pub(super) wanted: Restarting,
    /// Who wishes it.
    pub(super) by: By,
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

/// Those that are being looked at: one at a time. The last of those that were wished for meanwhile waits.
#[derive(Default)]
pub(super) struct Starts {
    looks: JoinSet<(Start, Result<Next, Failure>)>,
    waiting: Option<Start>,
}

impl Starts {
    /// Begins to look at `start`, once no other is looked at.
    /// `known`: what is known of it since just now.
    pub(super) fn ask(&mut self, node: &Arc<Node>, start: Start, known: Option<Next>) {
        if !self.looks.is_empty() {
            tracing::info!("a start anew is being prepared already: this one waits");
            // The peer asks again.
            if self.waiting.is_none() || start.by != By::Peer {
                self.waiting = Some(start);
            }
            return;
        }
        let node = Arc::clone(node);
        self.looks.spawn_blocking(move || (start, look(&node, start, known)));
    }

    /// The next that was looked at, if it may be made. Never ends while there is none; may be dropped at any time.
    pub(super) async fn next(&mut self, node: &Arc<Node>) -> Cleared {
        loop {
            let Some(looked) = self.looks.join_next().await else { std::future::pending().await };
            let state = || node.ft.as_ref().map(|ft| ft.status().state);
            match looked {
                Ok((Start { wanted, by }, Ok(Next { program, config }))) if is_free(by, state()) => {
                    let in_place = config.is_some_and(|config| node.may_rest(&config));
                    return Cleared { wanted: on_trial(wanted, node.reloads.left().1), program, in_place };
                }
                Ok((_, Ok(_))) => {
                    tracing::warn!("not started anew: the peer wished for it, and this box is active by now");
                }
                Ok((_, Err(error))) => {
                    tracing::error!(%error, "not started anew: everything stays as it is");
                }
                Err(error) => tracing::error!(%error, "not started anew: everything stays as it is"),
            }
            if let Some(waiting) = self.waiting.take() {
                self.ask(node, waiting, None);
            }
        }
    }
}

/// Whether it can be made, and whether the peer can do without this box still: that may have been asked some seconds ago.
fn look(node: &Node, start: Start, known: Option<Next>) -> Result<Next, Failure> {
    let next = known.map_or_else(|| node.can_start(start.wanted.from), Ok)?;
    match node.needed() {
        Some(why) if start.by == (By::Operator { force: false }) => Err(Failure::step("the peer")(why)),
        _ => Ok(next),
    }
}

/// A start from `working` while one is on trial, of which so many seconds are left, is on trial as well.
fn on_trial(wanted: Restarting, left_s: Option<u64>) -> Restarting {
    let trial = left_s.filter(|_| wanted.from == Some(Directory::Working)).map(Duration::from_secs);
    Restarting { rollback: wanted.rollback.or(trial), ..wanted }
}

/// Whether a start may be made in this state: one for the peer only as long as the peer is active.
const fn is_free(by: By, state: Option<State>) -> bool {
    !(matches!(by, By::Peer) && matches!(state, Some(State::Active | State::Candidate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_that_has_taken_over_meanwhile_does_not_start_anew_for_its_late_peer() {
        for state in [State::Active, State::Candidate] {
            assert!(!is_free(By::Peer, Some(state)));
            assert!(is_free(By::Operator { force: false }, Some(state)), "its own operator may wish it");
        }
        for state in [State::Init, State::Standby, State::RelayOut, State::Left] {
            assert!(is_free(By::Peer, Some(state)));
        }
        assert!(is_free(By::Peer, None));
    }

    #[test]
    fn what_follows_a_start_on_trial_is_taken_back_as_well() {
        let of = |from| Restarting { from: Some(from), rollback: None };
        assert_eq!(on_trial(of(Directory::Working), Some(7)).rollback, Some(Duration::from_secs(7)));
        assert_eq!(on_trial(of(Directory::Certified), Some(7)).rollback, None);
        assert_eq!(on_trial(of(Directory::Working), None).rollback, None);
    }
}
