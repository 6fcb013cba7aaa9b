//! Why a node is what it is, and what would change that: the election's facts in sentences. Pure.

use std::time::Duration;

use super::election::silence;
use super::status::{FlightKind, FtStatus, PeerStatus};
use super::{Reason, Refusal, State};

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Why this node is in its state.
    pub why: String,
    /// What it gave the role up for, if it has none and had it: since 1970 in ns, and why.
    pub fenced: Option<(u64, Reason)>,
    /// What the nodes' ranks are made of, the weightiest first.
    pub ranks: Vec<Rank>,
    /// The first of [`Explanation::ranks`] in which the nodes differ; `None` without a peer.
    pub decides: Option<usize>,
    /// What would move the role, and what stands against it.
    pub changes: Vec<String>,
}

/// A part of the ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Of what kind.
    pub what: &'static str,
    /// This node's.
    pub own: String,
    /// The peer's, if it is heard.
    pub peer: Option<String>,
}

/// Explains `status`.
#[must_use]
pub fn explain(status: &FtStatus) -> Explanation {
    let ranks = ranks(status);
    let decides = ranks.iter().position(|rank| rank.peer.as_ref().is_some_and(|peer| *peer != rank.own));
    let last = status.flights.last().filter(|flight| flight.kind == FlightKind::Fence);
    Explanation {
        why: why(status.state, status.reason).to_owned(),
        fenced: last.map(|flight| (flight.wall_ns, flight.reason)),
        ranks,
        decides,
        changes: match status.state {
            State::Active => of_active(status),
            State::Standby | State::RelayOut => of_standby(status),
            State::Init => vec![
                "this box listens for its peer; then it takes the role, asks for it, or is standby"
                    .to_owned(),
            ],
            State::Candidate => vec![
                "this box asks its peer for the role, and has it as soon as the peer yields or is silent"
                    .to_owned(),
            ],
            State::Left => {
                vec!["this box leaves: it never takes the role again before csmd is started".to_owned()]
            }
        },
    }
}

/// In the order in which the election compares them.
fn ranks(status: &FtStatus) -> Vec<Rank> {
    let rank = |what, own: String, peer: &dyn Fn(&PeerStatus) -> String| Rank {
        what,
        own,
        peer: status.peer.as_ref().map(peer),
    };
    let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
    vec![
        rank("can forward", yes(status.forwardable), &|peer| yes(peer.forwardable)),
        rank("table complete", yes(status.replica_complete), &|peer| yes(peer.replica_complete)),
        rank("had the role last", yes(status.keeper), &|peer| yes(peer.keeper)),
        rank("eligible by tracking", yes(status.eligible), &|peer| yes(peer.eligible)),
        rank("priority", status.priority.to_string(), &|peer| peer.priority.to_string()),
        rank("node", format!("{:016x}", status.node), &|peer| format!("{:016x}", peer.node)),
    ]
}

const fn why(state: State, reason: Reason) -> &'static str {
    match (state, reason) {
        (State::Active, Reason::PeerSilent) => {
            "nothing was heard of the peer for so long that its lease was over, so this box took the role"
        }
        (State::Active, Reason::PeerLeft) => "the peer said that it leaves, so this box took the role",
        (State::Active, Reason::Offered) => "the peer offered the role, and this box took it",
        (State::Active, Reason::Election) => "no box was active, and this one ranks higher",
        (State::Active, Reason::Preempt) => "this box ranks higher than the active one did, and preempts",
        (State::Active, Reason::Tracking) => "tracking stood against the active box and not against this one",
        (State::Standby, Reason::PeerActive) => "the peer was active already",
        (State::Standby, Reason::Outranked) => "no box was active, and the peer ranks higher",
        (State::Standby, Reason::PeerSilent) => "nobody is heard, and this box cannot forward",
        (State::Standby, Reason::Unable) => "this box cannot forward",
        (State::Standby, Reason::NoWitness) => {
            "nothing is heard of the peer, and the witness has not granted the role to this box"
        }
        (State::Standby, Reason::Rival) => {
            "both boxes were active, and the peer's claim was the later one, or it ranks higher"
        }
        (State::Standby, Reason::RelayOver) => "this box gave the role to the peer",
        (State::Standby, Reason::NoAnswer) => "this box asked for the role, and the peer did not give it",
        (State::RelayOut, _) => {
            "this box has just given the role to the peer, and hands it what still arrives here"
        }
        (State::Candidate, _) => "this box wants the role, and asks the peer for it",
        (State::Init, Reason::LeaseExpired) => {
            "the lease ran out before it was renewed: this box, or its timers, had stopped, or neither peer nor witness \
             spoke for it"
        }
        (State::Init, Reason::WokeLate) => {
            "a timer fired so late that what it stood for may no longer be true"
        }
        (State::Init, _) => "csmd has just started",
        (State::Left, _) => "csmd was told to stop",
        (State::Active | State::Standby, _) => "the election decided so",
    }
}

fn of_active(status: &FtStatus) -> Vec<String> {
    let Some(peer) = &status.peer else {
        let lives = status.witness.map(|witness| {
            format!("witness {} stops to answer: this box forwards nothing any more", witness.address.ip())
        });
        let nothing = || "nothing: no peer is heard, and nobody could take the role".to_owned();
        return vec![lives.unwrap_or_else(nothing)];
    };
    // The peer's waiting time for this node, as it computes it.
    let waiting = silence(peer.failover, status.lease);
    vec![
        silent("this box", "the peer", waiting, peer.forwardable, status.witness.map(|_| true)),
        command(forced(peer.hears_us, peer.forwardable, peer.replica_complete), "here", "the peer"),
        unable("this box", "the peer", peer.forwardable, peer.failover),
        preemption(
            &Side { name: "the peer", priority: peer.priority, eligible: peer.eligible },
            &Side { name: "this box", priority: status.priority, eligible: status.eligible },
            // What the peer says is whether it would, now.
            &[
                (
                    peer.preempt,
                    "the peer is not configured to preempt, was made standby by command, or had the role back too often lately",
                ),
                (peer.replica_complete, "the peer's replica is not complete"),
                (peer.forwardable, "the peer cannot forward"),
            ],
        ),
    ]
}

fn of_standby(status: &FtStatus) -> Vec<String> {
    let Some(peer) = &status.peer else {
        return vec![match &status.witness {
            Some(witness) => {
                let answers = if witness.answers { "which answers" } else { "which does not answer" };
                format!(
                    "this box takes the role as soon as it can forward and witness {}, {answers}, grants it: no peer is heard",
                    witness.address.ip()
                )
            }
            None => "this box takes the role as soon as it can forward: no peer is heard".to_owned(),
        }];
    };
    if peer.state != State::Active {
        return vec![
            "no box is active: the one that ranks higher takes the role as soon as both know it".to_owned(),
        ];
    }
    let is_needed = status.eligible && !peer.eligible;
    let damped = format!(
        "the role has come back to this box {} times lately, and it waits {} s more",
        status.returns,
        status.preempt_damped.unwrap_or_default().as_secs()
    );
    vec![
        silent(
            "the peer",
            "this box",
            silence(status.failover, peer.lease),
            status.forwardable,
            status.witness.map(|witness| witness.answers),
        ),
        command(
            forced(peer.hears_us, status.forwardable, status.replica_complete),
            "on the peer",
            "this box",
        ),
        unable("the peer", "this box", status.forwardable, peer.failover),
        preemption(
            &Side { name: "this box", priority: status.priority, eligible: status.eligible },
            &Side { name: "the peer", priority: peer.priority, eligible: peer.eligible },
            &[
                (status.preempt, "`preempt` is not configured"),
                (status.preempt_damped.is_none() || is_needed, &damped),
                (
                    !status.preempt_held || (is_needed && !status.held_firmly),
                    "this box was made standby by `clear module csm N ft active`",
                ),
                (peer.hears_us, "the peer does not hear this box"),
                (status.replica_complete, "the replica is not complete"),
                (status.forwardable, "this box cannot forward"),
            ],
        ),
    ]
}

/// `witness`: whether it would grant the role, as far as is known.
fn silent(active: &str, standby: &str, waiting: Duration, able: bool, witness: Option<bool>) -> String {
    let ms = waiting.as_millis();
    match able {
        true if witness == Some(false) => format!(
            "{active} dies, stops or is cut off: nobody takes the role, for {standby} gets no answer of the witness"
        ),
        true if witness.is_some() => format!(
            "{active} dies, stops or is cut off: {standby} takes the role after {ms} msec of silence, granted by the witness"
        ),
        true => {
            format!("{active} dies, stops or is cut off: {standby} takes the role after {ms} msec of silence")
        }
        false => {
            format!("{active} dies, stops or is cut off: nobody takes the role, for {standby} cannot forward")
        }
    }
}

/// Why the command to hand over would be refused now.
const fn forced(hears: bool, able: bool, complete: bool) -> Option<Refusal> {
    match (hears, able, complete) {
        (false, ..) => Some(Refusal::OneWay),
        (_, false, _) => Some(Refusal::PeerUnable),
        (.., false) => Some(Refusal::PeerIncomplete),
        (true, true, true) => None,
    }
}

fn command(refusal: Option<Refusal>, place: &str, standby: &str) -> String {
    match refusal {
        None => format!("`clear module csm N ft active` {place}: {standby} takes the role at once"),
        Some(refusal) => {
            format!("`clear module csm N ft active` {place}: it would be refused now, {refusal}")
        }
    }
}

fn unable(active: &str, standby: &str, able: bool, patience: Duration) -> String {
    match able {
        true => format!(
            "{active} loses the link of a data port: {standby} is given the role once its replica is complete, or after {} \
             msec",
            patience.as_millis()
        ),
        false => format!(
            "{active} loses the link of a data port: it keeps the role, for {standby} cannot forward either"
        ),
    }
}

/// A node as preemption compares it.
struct Side {
    name: &'static str,
    priority: u8,
    eligible: bool,
}

/// Whether `taker` would take the role from `holder`, which is well; `needs`: what else must be so, and what to say if it is
/// not.
fn preemption(taker: &Side, holder: &Side, needs: &[(bool, &str)]) -> String {
    let (name, keeper) = (taker.name, holder.name);
    let better = (taker.eligible, taker.priority) > (holder.eligible, holder.priority);
    let mut against: Vec<String> = Vec::new();
    if !better {
        against.push(match (taker.eligible, holder.eligible) {
            (false, true) => format!("tracking stands against {name}"),
            _ => format!("{name} has priority {}, which is not above {}", taker.priority, holder.priority),
        });
    }
    against.extend(needs.iter().filter(|(met, _)| !met).map(|(_, sentence)| (*sentence).to_owned()));
    let ground = match (taker.eligible, holder.eligible) {
        (true, false) => format!("tracking stands against {keeper}"),
        _ => format!("priority {} above {}", taker.priority, holder.priority),
    };
    match against.as_slice() {
        [] => format!("preemption: {name} is about to take the role, {ground}"),
        against => format!("preemption: {name} does not take the role, for {}", against.join(", and ")),
    }
}

#[cfg(test)]
mod tests;
