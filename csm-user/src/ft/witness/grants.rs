//! The third host: to whom it grants the role, for how long, and when to another. Pure.
//!
//! It keeps nothing on a disk. After a start it grants nothing until the longest lease that it may have given before is over,
//! but to a node that says it still holds one: grants exclude one another, so no other node can hold one too. A request
//! counts only if it names this boot of the witness and is newer than the last of its sender, so what was
//! recorded earlier is worth nothing.

use std::time::Duration;

use crate::ft::election::guarded;
use crate::ft::witness::wire::{Kind, LEASE_MAX, Word};

/// Boots of nodes that are remembered for a group. None is ever forgotten, for what was heard of it could be replayed then;
/// beyond these a boot is not believed until the witness is started anew.
const BOOTS_MAX: usize = 4_096;

/// What the witness has counted, and last done; for its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request is not newer than the last one: no answer.
    Replayed,
    /// The asker learns this boot of the witness and asks again.
    Introduced,
    /// The grant goes to a node that did not have it.
    Granted,
    /// The holder gave it up.
    Released,
    /// Nothing changed.
    Same,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    /// Node and boot that have the grant.
    holder: Option<(u64, u64)>,
    /// When another may have it, ns.
    until: u64,
    /// Node, boot and number last taken, the newest boot first.
    seen: Vec<(u64, u64, u64)>,
    /// The highest term known to be claimed or asked for.
    term: u64,
}

/// The witness of some groups.
#[derive(Clone, Debug)]
pub struct Grants {
    nonce: u64,
    /// What was granted before the start is over, ns.
    settled: u64,
    groups: Vec<(u8, Group)>,
}

impl Grants {
    /// A witness that starts at `now`, with a boot nonce that is random and not 0; nothing was granted before for longer
    /// than `longest`: [`LEASE_MAX`], but for checkers.
    #[must_use]
    pub fn new(nonce: u64, longest: Duration, now: u64) -> Self {
        Self { nonce, settled: now.saturating_add(guarded(longest)), groups: Vec::new() }
    }

    /// Its boot nonce.
    #[must_use]
    pub const fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Who has the group's grant at `now`.
    #[must_use]
    pub fn holder(&self, group: u8, now: u64) -> Option<u64> {
        let (_, known) = self.groups.iter().find(|(number, _)| *number == group)?;
        known.holder.filter(|_| now < known.until).map(|(node, _)| node)
    }

    /// Answers a request that came at `now` and was proved to be of one who has the group's key.
    pub fn answer(&mut self, request: &Word, now: u64) -> (Option<Word>, Outcome) {
        let Word { group, node, nonce, .. } = *request;
        let (own, settled) = (self.nonce, self.settled);
        if request.witness != own {
            // Nothing that it says counts yet: it may have been recorded before this boot.
            let lease = Duration::ZERO;
            let word = Word { kind: Kind::Refusal, witness: own, lease, holder: 0, holds: false, ..*request };
            return (Some(word), Outcome::Introduced);
        }
        let known = self.group(group);
        if !known.is_new(request) {
            return (None, Outcome::Replayed);
        }
        known.term = known.term.max(request.term);
        let term = known.term;
        let say = |kind, until: u64, holder: u64| {
            let lease = Duration::from_nanos(until.saturating_sub(now));
            Some(Word { kind, lease, holder, term, holds: false, ..*request })
        };
        let asker = (node, nonce);
        known.holder.take_if(|_| now >= known.until);
        match (request.kind, known.holder) {
            (Kind::Query, Some(holder)) if holder == asker => {
                known.holder = None;
                (say(Kind::State, now, 0), Outcome::Released)
            }
            (Kind::Query, holder) => {
                let until = if holder.is_some() { known.until } else { now };
                (say(Kind::State, until, holder.map_or(0, |(node, _)| node)), Outcome::Same)
            }
            (Kind::Ask, Some(holder)) if holder != asker => {
                (say(Kind::Refusal, known.until, holder.0), Outcome::Same)
            }
            (Kind::Ask, None) if now < settled && !request.holds => {
                (say(Kind::Refusal, settled, 0), Outcome::Same)
            }
            (Kind::Ask, before) => {
                let lease = request.lease.min(LEASE_MAX);
                known.holder = Some(asker);
                known.until = known.until.max(now.saturating_add(guarded(lease)));
                let outcome = if before.is_none() { Outcome::Granted } else { Outcome::Same };
                // It will claim the next one.
                known.term += u64::from(before.is_none());
                let grant = Word { kind: Kind::Grant, holds: false, lease, holder: node, term, ..*request };
                (Some(grant), outcome)
            }
            // A witness does not ask.
            (Kind::State | Kind::Grant | Kind::Refusal, _) => (None, Outcome::Same),
        }
    }

    fn group(&mut self, number: u8) -> &mut Group {
        let at = self.groups.iter().position(|(known, _)| *known == number).unwrap_or_else(|| {
            self.groups.push((number, Group { holder: None, until: 0, seen: Vec::new(), term: 0 }));
            self.groups.len() - 1
        });
        &mut self.groups[at].1
    }

    /// What this witness will do hangs on: its boot, in how many ns what was granted before is over, and its groups. For
    /// checkers.
    #[must_use]
    pub fn outlook(&self, now: u64) -> (u64, u64, Vec<GroupOutlook>) {
        let groups = self.groups.iter().map(|(_, group)| {
            let left = group.until.saturating_sub(now);
            let holder = group.holder.filter(|_| left > 0).map_or(0, |(_, boot)| boot);
            let left = if holder == 0 { 0 } else { left };
            GroupOutlook {
                holder,
                left,
                term: group.term,
                seen: group.seen.iter().map(|&(_, boot, _)| boot).collect(),
            }
        });
        (self.nonce, self.settled.saturating_sub(now), groups.collect())
    }
}

/// What is known of a group.
#[derive(Clone, Debug)]
pub struct GroupOutlook {
    /// Boot that has the grant, 0: none.
    pub holder: u64,
    /// For how many ns yet.
    pub left: u64,
    /// The highest term known.
    pub term: u64,
    /// Boots heard, the last first met first.
    pub seen: Vec<u64>,
}

impl Group {
    /// Whether nothing as new has come from that boot before, nor anything from a later one; remembers it.
    fn is_new(&mut self, request: &Word) -> bool {
        let Word { node, nonce, number, .. } = *request;
        let newest = self.seen.iter().position(|&(other, ..)| other == node);
        match self.seen.iter().position(|&(other, boot, _)| (other, boot) == (node, nonce)) {
            Some(at) if Some(at) == newest && self.seen[at].2 < number => self.seen[at].2 = number,
            Some(_) => return false,
            None if self.seen.len() >= BOOTS_MAX => return false,
            None => self.seen.insert(0, (node, nonce, number)),
        }
        true
    }
}

#[cfg(test)]
mod tests;
