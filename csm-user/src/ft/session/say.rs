//! What the session says, in the version that its peer understands.

use super::{Port, Session};
use crate::ft::envelope;
use crate::ft::keyring::Trust;
use crate::ft::wire::{Kind, Message};

impl Session {
    /// On every path; off the FT VLAN nothing counts that has no tag.
    pub(super) fn send(&mut self, message: &Message, now: u64, port: &mut impl Port) {
        if let Some(votes) = &mut self.votes {
            votes.message_sent(message.sequence, now, self.election.params());
        }
        let heard = self.paths.heard(now);
        let versions = (self.spoken.to(message.peer_nonce), self.spoken.own());
        let datagram = envelope::seal_as(versions, message, heard, &self.keyring);
        let paths = if self.keyring.trust() == Trust::None { 1 } else { self.paths.len() };
        let mut is_taken = false;
        for path in 0..paths {
            let taken = port.send(path, &datagram);
            self.paths.sent(path, taken);
            is_taken |= taken;
        }
        if message.kind == Kind::Heartbeat
            && let Some(version) = self.spoken.beat()
        {
            // Not counted, and on one way only: an older peer does not understand it.
            let again = envelope::seal_as((version, versions.1), message, heard, &self.keyring);
            let _lost = port.send(0, &again);
        }
        if message.hold.is_zero() {
            self.asked_ns = None;
        } else {
            self.asked_ns.get_or_insert(now);
        }
        let counters = &mut self.status.counters;
        if is_taken {
            counters.kind_mut(message.kind).sent += 1;
        } else {
            counters.send_errors += 1;
        }
    }
}
