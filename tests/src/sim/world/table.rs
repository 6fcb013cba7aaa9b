//! Whose table of connections is the truth, and whether the role goes where it is (P4).

use csm_user::ft::election::Election;
use csm_user::ft::{Reason, State};

use super::World;
use crate::sim::check::Violation;

impl World {
    /// The term, and P4, at the moment that a node becomes active.
    pub(super) fn look_at_claim(&mut self, index: usize, time: u64) -> Result<(), Violation> {
        let claimed = self.nodes[index].outbox.claimed.take();
        let is_active = self.nodes[index].state() == Some(State::Active);
        let was_active = std::mem::replace(&mut self.was_active[index], is_active);
        let Some((reason, term)) = claimed.filter(|_| !was_active) else { return Ok(()) };
        if std::mem::replace(&mut self.known_term[index], term) >= term {
            return Err(Violation::TermReused);
        }
        let own = (index, self.boots[index]);
        let before = self.keeper.replace(own).filter(|&keeper| keeper != own);
        let Some((other, boot)) = before else {
            self.generation_of_table = self.generation_of_table.max(1);
            self.keeper_term = term;
            return Ok(());
        };
        let covered = self.replica_of[index] == Some(self.generation_of_table);
        self.generation_of_table += 1;
        self.note(time, index, &format!("claims by {reason:?}, its table is {}", self.generation_of_table));
        let peer = self.nodes[other].election();
        // Two that were active at once have a table each, and neither is the truth. So have two of which the later did not
        // know of the earlier: it heard nothing of it, and a witness that was started anew had forgotten the term.
        let unknown = term <= std::mem::replace(&mut self.keeper_term, term);
        let is_split = std::mem::replace(
            &mut self.split,
            unknown || peer.is_some_and(|peer| peer.state() == State::Active),
        );
        let lives = self.boots[other] == boot && self.nodes[other].session.is_some();
        // A silent node cannot be asked, and one that leaves or cannot forward, or could not when it yielded, does not
        // wait for ever.
        let is_excused = matches!(reason, Reason::PeerSilent | Reason::PeerLeft)
            || self.leaving[other]
            || !self.able[other]
            || time < self.able_since[other] + self.failover_ns
            || peer.is_some_and(|peer| peer.reason() == Reason::Unable)
            || self.nodes[other].stopped_until.is_some();
        if lives && !covered && !is_excused && !is_split {
            Err(Violation::RoleWithoutReplica)
        } else {
            Ok(())
        }
    }

    /// The active node's table has been copied, also if that node has just been held up: it is the truth from now on. Of two that
    /// were active at once the winner's is, though the loser opened later.
    pub(super) fn unite(&mut self, source: usize) {
        let Some(term) = self.nodes[source].election().and_then(Election::kept_term) else { return };
        self.keeper_term = term;
        self.split = false;
        let table = (source, self.boots[source]);
        if self.keeper.replace(table) != Some(table) {
            self.generation_of_table += 1;
        }
    }
}
