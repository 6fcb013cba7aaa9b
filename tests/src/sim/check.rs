//! What must hold at every instant, whatever happens: promises P1 and P2 of the design.

use std::collections::HashMap;
use std::time::Duration;

use csm_common::gate::GateState;
use csm_user::ft::State;
use csm_user::ft::wire::Message;

use crate::sim::node::Node;
use crate::sim::plan::Plan;

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// P1: both forward although within one failover time a heartbeat came through each way.
    TwoActiveWithPath,
    /// P1: both forward, and one by a lease that the other had heard of before it opened.
    OpenedWithinLease,
    /// P1: both forward, and one by a hold, in which the other claims nothing.
    OpenedInHold,
    /// P1: both still forward one heartbeat after they were in contact again.
    OverlapAfterContact,
    /// P1: both forward although nothing was lost on the link since the start: whoever stops or is held up fences.
    OverlapWithoutLoss,
    /// P1: both forward although a witness is asked, whatever is lost.
    TwoActiveWithWitness,
    /// P4: the role left a node that could forward, and went to one whose replica of its table was not complete.
    RoleWithoutReplica,
    /// A node became active in a term that it had known an active node in before.
    TermReused,
    /// Addresses were announced by a node that does not answer for them.
    AnnouncedShut,
    /// P2: a node was up and able for long, and nobody forwarded.
    NoneActive,
    /// After all faults had ended the pair did not settle on one active node and one standby.
    NotSettled,
    /// A node that was told to leave is still there.
    NotGone,
}

/// Both gates open at once.
#[derive(Clone, Copy, Debug)]
struct Overlap {
    since: u64,
    /// Since then the rival's word that it is active was taken, by index of the receiver.
    contact: [Option<u64>; 2],
}

/// Follows a run.
pub struct Checker {
    heartbeat: u64,
    failover: u64,
    /// The nodes have timers of their own.
    unequal: bool,
    /// How long a node's thread may take to act.
    slack: u64,
    /// When messages were taken, by index of the receiver, true time.
    taken_at: [Vec<u64>; 2],
    /// When each message was taken.
    taken: HashMap<(u64, u64), u64>,
    /// When each gate opened last, if it is open.
    opened: [Option<u64>; 2],
    overlap: Option<Overlap>,
    /// Since when nobody forwards.
    idle_since: Option<u64>,
    /// How often a fault has struck since then, and when it did last.
    struck: (u64, u64),
    /// A message was lost, or the link is cut.
    lossy: bool,
    announced_shut: bool,
    /// There is a witness: two gates are never open.
    strict: bool,
    /// Since when a node is up, not stopped and able to forward.
    able_since: [Option<u64>; 2],
    /// Time with both gates open, ns.
    pub overlap_total: u64,
    /// Longest time without an open gate while a node was able, ns.
    pub idle_worst: u64,
    /// Times that a gate opened.
    pub openings: u64,
}

/// Failover times without an active node that are too many (P2): one to listen or to fall silent, one for the peer's
/// listening if it ranks higher, one to be refused, and as many again for lost messages.
const IDLE_MAX: u64 = 6;
/// As many more for each time that a node is killed, stopped or held up, or the link is cut, while nobody is active: that undoes what the
/// pair had come to. One for the other node to miss it, and one to listen, or to ask anew, once it is back.
const IDLE_MORE: u64 = 2;

impl Checker {
    /// For nodes with the timers of `plan`; `slack` is how late a node's thread may be, ns.
    #[must_use]
    pub fn new(plan: &Plan, slack: u64) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (unequal, strict) = (plan.unequal, plan.witness);
        Self {
            heartbeat: nanos(plan.heartbeat),
            failover: nanos(plan.failover),
            unequal,
            slack,
            taken_at: [Vec::new(), Vec::new()],
            taken: HashMap::new(),
            opened: [None; 2],
            overlap: None,
            idle_since: Some(0),
            struck: (0, 0),
            // Before a node with a shorter lease has heard of the longer one of a stopped peer it cannot wait for it.
            lossy: unequal,
            announced_shut: false,
            strict,
            able_since: [None; 2],
            overlap_total: 0,
            idle_worst: 0,
            openings: 0,
        }
    }

    /// `receiver` took a message at `time`.
    pub fn taken(&mut self, receiver: usize, message: &Message, time: u64) {
        self.taken_at[receiver].push(time);
        self.taken.insert((message.nonce, message.sequence), time);
        if let Some(overlap) = self.overlap.as_mut().filter(|_| message.state == State::Active) {
            overlap.contact[receiver].get_or_insert(time);
        }
    }

    /// A message was lost on the link.
    pub fn lost(&mut self) {
        self.lossy = true;
    }

    /// Of the three that agree on the role less than two may be there, so nobody need be active.
    pub fn excuse(&mut self, time: u64) {
        (self.idle_since, self.struck) = (self.idle_since.map(|_| time), (0, 0));
    }

    /// A node is killed, stopped or held up, or the link cut: both ways at once count once.
    pub fn struck(&mut self, time: u64) {
        let (times, last) = self.struck;
        if self.idle_since.is_some() && (times == 0 || last != time) {
            self.struck = (times + 1, time);
        }
    }

    /// A node announced with its gate shut.
    pub fn announced_shut(&mut self) {
        self.announced_shut = true;
    }

    /// Looks at both nodes at `time`. Called at every event and at every end of a lease, so nothing changes between.
    ///
    /// # Errors
    /// With the promise that is broken.
    pub fn look(&mut self, nodes: &[Node; 2], able: [bool; 2], time: u64) -> Result<(), Violation> {
        for (index, node) in nodes.iter().enumerate() {
            if node.gate_at(time) != GateState::Open {
                self.opened[index] = None;
            } else if self.opened[index].is_none() {
                self.opened[index] = Some(time);
                self.openings += 1;
            }
            if able[index] {
                self.able_since[index].get_or_insert(time);
            } else {
                self.able_since[index] = None;
            }
        }
        if self.announced_shut {
            return Err(Violation::AnnouncedShut);
        }
        self.look_for_two(nodes, time)?;
        self.look_for_none(time)
    }

    fn look_for_two(&mut self, nodes: &[Node; 2], time: u64) -> Result<(), Violation> {
        let [Some(first), Some(second)] = self.opened else {
            if let Some(overlap) = self.overlap.take() {
                self.overlap_total += time - overlap.since;
            }
            return Ok(());
        };
        if self.strict {
            return Err(Violation::TwoActiveWithWitness);
        }
        let Some(overlap) = self.overlap else {
            self.overlap = Some(Overlap { since: time, contact: [None; 2] });
            if nodes.iter().any(|node| node.holds) {
                return Err(Violation::OpenedInHold);
            }
            if !self.lossy {
                return Err(Violation::OverlapWithoutLoss);
            }
            if self.has_path(nodes, time) {
                return Err(Violation::TwoActiveWithPath);
            }
            let (older, younger) = if first <= second { (0, &nodes[1]) } else { (1, &nodes[0]) };
            let known = nodes[older].lease_message.and_then(|message| self.taken.get(&message));
            if known.is_some_and(|&known| younger.clock.local(known) <= younger.gate_reading) {
                return Err(Violation::OpenedWithinLease);
            }
            return Ok(());
        };
        if let [Some(one), Some(other)] = overlap.contact
            && time > one.max(other) + self.heartbeat + self.slack
        {
            return Err(Violation::OverlapAfterContact);
        }
        Ok(())
    }

    /// Within one failover time, as the receiver's clock has it, a message came through each way.
    fn has_path(&self, nodes: &[Node; 2], time: u64) -> bool {
        nodes.iter().zip(&self.taken_at).zip(self.opened).all(|((node, taken), opened)| {
            // What was decided on an earlier reading of the clock was decided on what had come by then.
            let now = if opened == Some(time) { node.gate_reading } else { node.clock.local(time) };
            let last = taken.iter().rev().map(|&taken| node.clock.local(taken)).find(|&taken| taken <= now);
            let own = node.election().filter(|_| self.unequal).map(|machine| machine.params().failover);
            let failover = own.map_or(self.failover, |own| u64::try_from(own.as_nanos()).unwrap_or(u64::MAX));
            last.is_some_and(|taken| now - taken < failover)
        })
    }

    fn look_for_none(&mut self, time: u64) -> Result<(), Violation> {
        if self.opened.iter().any(Option::is_some) {
            (self.idle_since, self.struck) = (None, (0, 0));
            return Ok(());
        }
        let idle = *self.idle_since.get_or_insert(time);
        let Some(able) = self.able_since.into_iter().flatten().min() else { return Ok(()) };
        let lasted = time - idle.max(able);
        self.idle_worst = self.idle_worst.max(lasted);
        let bound = (IDLE_MAX + IDLE_MORE * self.struck.0) * self.failover;
        if lasted > bound { Err(Violation::NoneActive) } else { Ok(()) }
    }
}
