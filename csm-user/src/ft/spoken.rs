//! Which version of the messages goes to the peer: the newest that both speak. Pure.
//!
//! A node begins with the oldest version that it speaks, which any peer one version apart understands, and says of every tenth
//! heartbeat the same again in its newest. A peer that understands that answers in it; what an older one does not understand
//! it counts and drops. A peer that comes back with an older program is answered in its version at once if it is another boot,
//! else after [`OLDER_MAX`] messages.

use super::wire::OLDEST;

/// Heartbeats between two that are said in the newest version, too.
const OFFER_EVERY: u8 = 10;
/// So many messages of an older version in a row are believed to be all that the peer speaks.
const OLDER_MAX: u8 = 3;

/// What is known of the peer's versions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spoken {
    own: u8,
    /// Boot nonce of the peer, and the newest version that it speaks.
    peer: (u64, u8),
    /// Newest version that the last message taken told of.
    last: u8,
    older: u8,
    beats: u8,
}

impl Spoken {
    /// Nobody was heard; `own` is the newest that this node speaks.
    #[must_use]
    pub const fn new(own: u8) -> Self {
        Self { own, peer: (0, OLDEST), last: OLDEST, older: 0, beats: 0 }
    }

    /// The newest that this node speaks.
    #[must_use]
    pub const fn own(&self) -> u8 {
        self.own
    }

    /// What messages to the peer are said in.
    #[must_use]
    pub fn to_peer(&self) -> u8 {
        self.own.min(self.peer.1)
    }

    /// What a message to the boot `nonce` is said in: one that was not heard yet may be of an older program.
    #[must_use]
    pub fn to(&self, nonce: u64) -> u8 {
        if nonce == self.peer.0 { self.to_peer() } else { OLDEST }
    }

    /// A new message of the peer's was taken, whose sender speaks up to `newest`.
    pub fn heard(&mut self, nonce: u64, newest: u8) {
        self.last = newest;
        if nonce != self.peer.0 || newest >= self.peer.1 {
            (self.peer, self.older) = ((nonce, newest), 0);
            return;
        }
        self.older += 1;
        if self.older >= OLDER_MAX {
            (self.peer.1, self.older) = (newest, 0);
        }
    }

    /// The message that was taken last came once more: whether it was said again in another version, which is noted.
    pub fn is_said_again(&mut self, newest: u8) -> bool {
        if newest == self.last {
            return false;
        }
        (self.last, self.older) = (newest, 0);
        self.peer.1 = self.peer.1.max(newest);
        true
    }

    /// A heartbeat goes out: the version in which it is to be said again, if any.
    pub fn beat(&mut self) -> Option<u8> {
        if self.to_peer() == self.own {
            return None;
        }
        self.beats = (self.beats + 1) % OFFER_EVERY;
        (self.beats == 1).then_some(self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both send a heartbeat in turn, as the other hears it; returns the versions spoken in the end.
    fn talk(one: &mut Spoken, other: &mut Spoken, nonces: (u64, u64), rounds: usize) -> (u8, u8) {
        for _ in 0..rounds {
            say(one, other, nonces.0);
            say(other, one, nonces.1);
        }
        (one.to_peer(), other.to_peer())
    }

    /// What an older version does not understand it drops; a message of the oldest version says nothing of a newer one.
    fn say(from: &mut Spoken, to: &mut Spoken, nonce: u64) {
        let told = |version: u8| if version == OLDEST { OLDEST } else { from.own };
        let (version, again) = (from.to_peer(), from.clone().beat());
        if version <= to.own {
            to.heard(nonce, told(version));
        }
        if let Some(version) = again.filter(|version| *version <= to.own) {
            let _said = to.is_said_again(told(version));
        }
        from.beat();
    }

    #[test]
    fn two_of_the_newest_speak_it_soon_and_an_older_one_is_spoken_to_in_its_own() {
        assert_eq!(talk(&mut Spoken::new(2), &mut Spoken::new(2), (1, 2), 3), (2, 2));
        assert_eq!(talk(&mut Spoken::new(2), &mut Spoken::new(1), (1, 2), 30), (1, 1));
        assert_eq!(talk(&mut Spoken::new(3), &mut Spoken::new(2), (1, 2), 30).1, 2);
    }

    #[test]
    fn a_boot_that_was_not_heard_yet_is_spoken_to_in_the_oldest_version() {
        let mut one = Spoken::new(2);
        one.heard(7, 2);
        assert_eq!((one.to(7), one.to(8), one.to(0)), (2, OLDEST, OLDEST));
    }

    #[test]
    fn a_peer_that_comes_back_older_or_newer_is_understood() {
        let (mut one, mut other) = (Spoken::new(2), Spoken::new(2));
        assert_eq!(talk(&mut one, &mut other, (1, 2), 3), (2, 2));
        let mut older = Spoken::new(1);
        assert_eq!(talk(&mut one, &mut older, (1, 3), 1), (1, 1), "another boot: at once");
        assert_eq!(talk(&mut one, &mut Spoken::new(2), (1, 4), 12), (2, 2), "and back");
        assert_eq!(talk(&mut one, &mut Spoken::new(1), (1, 4), 4), (1, 1), "the same boot: soon");
    }
}
