//! Whether frames with a MAC address that is not their port's get to the peer and back. Pure.
//!
//! Hypervisors, clouds and port security drop what a port sends from a foreign source, or deliver only what is for the
//! address that they know of it. Each node tries both with an address of its own, never the group's, which switches would
//! learn from a standby otherwise. It asks twice, from that address and from the port's own, by frames that move nobody: reverse
//! ARP, with what is asked in the padding. Who hears them answers to where each came from. Only what
//! comes back of the second question alone speaks against the address; without a peer that answers nothing is known.

use std::time::Duration;

use super::frame::{FRAME_LEN, reverse};

/// RARP.
pub const ETHERTYPE: u16 = 0x8035;
/// Between two rounds, while something is to be found out.
pub const SOON: Duration = Duration::from_millis(250);
/// Between two rounds, while all is as known, or nobody answers.
pub const SELDOM: Duration = Duration::from_secs(2);
/// Rounds in a row that are lost until the address counts as dropped: with a loss of 10 % each way that happens by chance
/// once in a million rounds.
const LOST_ROUNDS: u8 = 8;
/// Rounds in a row that come through until it is believed again.
const GOOD_ROUNDS: u8 = 5;

const MAGIC: [u8; 4] = *b"CSMv";
const VERSION: u8 = 1;
const ANSWER: u8 = 1;
const FROM_TRIAL: u8 = 2;
const HEARD: u8 = 4;

/// What is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has answered yet.
    #[default]
    Unknown,
    /// Frames with a foreign address get there and back.
    Passes,
    /// The peer does not get them.
    LostOnTheWay,
    /// The peer gets them, and what it sends to such an address does not come.
    NotDelivered,
}

impl Verdict {
    /// The virtual MAC address would be of no use.
    #[must_use]
    pub const fn is_lost(self) -> bool {
        matches!(self, Self::LostOnTheWay | Self::NotDelivered)
    }
}

/// A question or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Of Ethernet.
    pub from: [u8; 6],
    /// It is an answer.
    pub answers: bool,
    /// The question has the foreign address.
    pub foreign: bool,
    /// In an answer: the question of that number from the foreign address has come, too.
    pub heard: bool,
    /// FT group.
    pub group: u8,
    /// Of the round.
    pub number: u32,
    /// The speaker's identity: the MAC address of its FT port.
    pub node: [u8; 6],
}

impl Word {
    /// As a frame to `to`.
    #[must_use]
    pub fn encode(&self, to: [u8; 6]) -> [u8; FRAME_LEN] {
        let mut frame = reverse(self.from);
        frame[..6].copy_from_slice(&to);
        frame[42..46].copy_from_slice(&MAGIC);
        frame[46] = VERSION;
        frame[47] = if self.answers { ANSWER } else { 0 }
            | if self.foreign { FROM_TRIAL } else { 0 }
            | if self.heard { HEARD } else { 0 };
        frame[48] = self.group;
        frame[50..54].copy_from_slice(&self.number.to_be_bytes());
        frame[54..].copy_from_slice(&self.node);
        frame
    }

    /// From a frame; `None`: it is something else.
    #[must_use]
    pub fn decode(frame: &[u8]) -> Option<Self> {
        let frame: &[u8; FRAME_LEN] = frame.first_chunk()?;
        if frame[12..14] != ETHERTYPE.to_be_bytes() || frame[42..46] != MAGIC || frame[46] != VERSION {
            return None;
        }
        let bit = |bit: u8| frame[47] & bit != 0;
        let from: [u8; 6] = frame[6..12].try_into().ok()?;
        (from[0] & 1 == 0).then_some(Self {
            from,
            answers: bit(ANSWER),
            foreign: bit(FROM_TRIAL),
            heard: bit(HEARD),
            group: frame[48],
            number: u32::from_be_bytes(frame[50..54].try_into().ok()?),
            node: frame[54..].try_into().ok()?,
        })
    }
}

/// The trial of one VLAN.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    mac: [u8; 6],
    group: u8,
    node: [u8; 6],
    number: u32,
    /// Of this round: the question from the port's own address was answered, that from the foreign one was heard, and answered.
    answered: bool,
    heard: bool,
    foreign: bool,
    lost: u8,
    good: u8,
    verdict: Verdict,
    /// Node and number of the last question from a foreign address.
    last: Option<([u8; 6], u32)>,
}

impl Trial {
    /// Of a port with `mac`, in FT group `group`; `node` is the MAC address of the FT port.
    #[must_use]
    pub const fn new(mac: [u8; 6], group: u8, node: [u8; 6]) -> Self {
        Self {
            mac,
            group,
            node,
            number: 0,
            answered: false,
            heard: false,
            foreign: false,
            lost: 0,
            good: 0,
            verdict: Verdict::Unknown,
            last: None,
        }
    }

    /// What is known.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The address that is tried.
    #[must_use]
    pub const fn trial_mac(&self) -> [u8; 6] {
        csm_common::net::trial_mac(self.group, self.node[5])
    }

    /// Ends a round and begins the next: the frames to send, in this order, and when the round ends.
    pub fn begin(&mut self) -> ([[u8; FRAME_LEN]; 2], Duration) {
        let answered = self.answered;
        if answered {
            self.judge();
        }
        self.number = self.number.wrapping_add(1);
        (self.answered, self.heard, self.foreign) = (false, false, false);
        let word = |from, foreign| {
            let (group, number, node) = (self.group, self.number, self.node);
            Word { from, answers: false, foreign, heard: false, group, number, node }.encode([0xff; 6])
        };
        let settled = self.verdict != Verdict::Unknown && self.lost == 0 && self.good == 0;
        let next = if answered && !settled { SOON } else { SELDOM };
        ([word(self.trial_mac(), true), word(self.mac, false)], next)
    }

    /// A word came; what is to be said to it.
    pub fn hear(&mut self, word: &Word) -> Option<([u8; FRAME_LEN], [u8; 6])> {
        if word.group != self.group || word.node == self.node {
            return None;
        }
        if word.answers {
            if word.number == self.number {
                self.foreign |= word.foreign;
                self.answered |= !word.foreign;
                self.heard |= word.heard;
            }
            return None;
        }
        if word.foreign {
            self.last = Some((word.node, word.number));
        }
        let heard = self.last == Some((word.node, word.number));
        let answer = Word { from: self.mac, answers: true, heard, node: self.node, ..*word };
        Some((answer.encode(word.from), word.from))
    }

    /// A round with an answer to the port's own address.
    fn judge(&mut self) {
        let found = match (self.heard, self.foreign) {
            (_, true) => Verdict::Passes,
            (true, false) => Verdict::NotDelivered,
            (false, false) => Verdict::LostOnTheWay,
        };
        let is_news = found.is_lost() != self.verdict.is_lost() || self.verdict == Verdict::Unknown;
        if !is_news {
            (self.lost, self.good) = (0, 0);
            if found.is_lost() {
                self.verdict = found;
            }
            return;
        }
        let enough = if found.is_lost() {
            (self.lost, self.good) = (self.lost + 1, 0);
            self.lost >= LOST_ROUNDS
        } else {
            (self.lost, self.good) = (0, self.good + 1);
            self.good >= if self.verdict == Verdict::Unknown { 1 } else { GOOD_ROUNDS }
        };
        if enough {
            (self.verdict, self.lost, self.good) = (found, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

    /// Both ends of a VLAN, and what the network does to frames of the one that asks.
    struct Net {
        asker: Trial,
        peer: Option<Trial>,
        /// Frames from the foreign address get out; frames to it come in.
        passes: (bool, bool),
    }

    impl Net {
        fn new(passes: (bool, bool)) -> Self {
            Self { asker: Trial::new(A, 1, A), peer: Some(Trial::new(B, 1, B)), passes }
        }

        fn round(&mut self) -> Duration {
            let (frames, next) = self.asker.begin();
            for frame in frames {
                let word = Word::decode(&frame).unwrap();
                if word.from != A && !self.passes.0 {
                    continue;
                }
                let Some((answer, to)) = self.peer.as_mut().and_then(|peer| peer.hear(&word)) else {
                    continue;
                };
                assert_eq!((&answer[..6], &answer[6..12]), (&to[..], &B[..]));
                if to == A || self.passes.1 {
                    assert_eq!(self.asker.hear(&Word::decode(&answer).unwrap()), None);
                }
            }
            next
        }

        fn rounds(&mut self, count: usize) -> Verdict {
            for _ in 0..count {
                self.round();
            }
            self.asker.verdict()
        }
    }

    #[test]
    fn one_round_there_and_back_is_enough() {
        let mut net = Net::new((true, true));
        assert_eq!(net.rounds(2), Verdict::Passes);
        assert_eq!(net.round(), SELDOM);
    }

    #[test]
    fn what_is_dropped_either_way_is_told_apart_and_only_after_some_rounds() {
        for (passes, verdict) in
            [((false, true), Verdict::LostOnTheWay), ((true, false), Verdict::NotDelivered)]
        {
            let mut net = Net::new(passes);
            assert_eq!(net.rounds(usize::from(LOST_ROUNDS)), Verdict::Unknown);
            assert_eq!(net.round(), SELDOM);
            assert_eq!(net.asker.verdict(), verdict);
            // The network lets it through from now on.
            net.passes = (true, true);
            assert_eq!(net.rounds(usize::from(GOOD_ROUNDS)), verdict);
            assert_eq!(net.rounds(1), Verdict::Passes);
            // And no more.
            net.passes = passes;
            assert_eq!(net.rounds(usize::from(LOST_ROUNDS)), Verdict::Passes);
            assert_eq!(net.rounds(1), verdict);
        }
    }

    #[test]
    fn a_loss_by_chance_moves_nothing() {
        let mut net = Net::new((true, true));
        assert_eq!(net.rounds(2), Verdict::Passes);
        for _ in 0..20 {
            net.passes = (false, false);
            assert_eq!(net.rounds(usize::from(LOST_ROUNDS) - 1), Verdict::Passes);
            net.passes = (true, true);
            assert_eq!(net.rounds(2), Verdict::Passes);
        }
    }

    #[test]
    fn without_a_peer_nothing_is_known_and_what_was_known_stays() {
        let mut net = Net::new((false, false));
        net.peer = None;
        assert_eq!(net.rounds(100), Verdict::Unknown);
        net.peer = Some(Trial::new(B, 1, B));
        assert_eq!(net.rounds(20), Verdict::LostOnTheWay);
        net.peer = None;
        net.passes = (true, true);
        assert_eq!(net.rounds(100), Verdict::LostOnTheWay);
    }

    #[test]
    fn an_answer_of_an_earlier_round_another_group_or_this_node_counts_for_nothing() {
        let mut trial = Trial::new(A, 1, A);
        trial.begin();
        for (group, number, node) in [(1, 0, B), (2, 1, B), (1, 1, A)] {
            for foreign in [false, true] {
                let word = Word { from: B, answers: true, foreign, heard: true, group, number, node };
                assert_eq!(trial.hear(&word), None);
            }
        }
        trial.begin();
        assert_eq!(trial.verdict(), Verdict::Unknown);
    }

    #[test]
    fn other_frames_are_no_words() {
        let good = Word::decode(&Trial::new(A, 1, A).begin().0[0]);
        assert!(good.is_some_and(|word| word.from == csm_common::net::trial_mac(1, 0xa)));
        assert_eq!(Word::decode(&reverse(A)), None);
        assert_eq!(Word::decode(&reverse(A)[..50]), None);
    }
}
