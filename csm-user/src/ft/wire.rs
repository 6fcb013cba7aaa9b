//! Messages between the nodes: one fixed layout for all kinds, big endian. Pure.
//!
//! ```text
//! offset size
//!   0     4   magic "CSMf"
//!   4     1   version, 1
//!   5     1   kind: 1 heartbeat, 2 coup, 3 elect, 4 relinquish
//!   6     2   length of the whole message, 136
//!   8     4   checksum: FNV-1a 64 of the message with this field 0, upper half XOR lower half
//!  12     1   group, 1-254
//!  13     1   state of the sender: 0 init .. 5 left (ft::State)
//!  14     1   priority, 1-254
//!  15     1   flags: 1 forwardable, 2 eligible, 4 preempt, 8 replica complete, 16 I hear you, 32 offer, 64 keeper,
//!              128 I claim only with a witness
//!  16     8   node, not 0
//!  24     8   boot nonce of the sender, not 0
//!  32     8   boot nonce of the peer as the sender knows it, 0: heard nobody
//!  40     8   sequence, counts every message of this boot
//!  48     8   term
//!  56     8   heartbeat interval, us, not 0
//!  64     8   failover time, us, greater than the heartbeat interval
//!  72     8   lease length, us, not 0, less than the failover time
//!  80     8   configuration checksum
//!  88     8   software checksum
//!  96     4   replica lag, ms
//! 100     6   MAC address of the sender's FT port
//! 106     4   hold, ms: how long this message's lease may last, 0: no longer than usual
//! 110     8   sequence of the message whose hold the sender grants, 0: none
//! 118     8   sequence of the receiver's newest message that was taken, if either has a witness, else 0
//! 126     8   term in which the sender, a keeper, was active last, if either has a witness, else 0
//! 134     2   reserved, 0
//! ```

use std::time::Duration;

use thiserror::Error;

use crate::ft::State;
use crate::model::fnv1a;

/// Length of a message in bytes.
pub const LENGTH: usize = 136;
/// The only version so far.
pub const VERSION: u8 = 1;
const LENGTH_FIELD: [u8; 2] = 136_u16.to_be_bytes();
const _: () = assert!(u16::from_be_bytes(LENGTH_FIELD) as usize == LENGTH);
const MAGIC: [u8; 4] = *b"CSMf";
const CHECKSUM: std::ops::Range<usize> = 8..12;
const RESERVED: std::ops::Range<usize> = 134..LENGTH;

/// What a message is for. Every kind carries the sender's whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// "This is how I am."
    Heartbeat = 1,
    /// "I have claimed this term", at once after a claim and whenever a rival is heard.
    Coup = 2,
    /// "I ask for the role in this term": of a candidate, its gate is relay-in.
    Elect = 3,
    /// With [`Message::offer`]: "ask me for the role"; without: "I yield this term to you".
    Relinquish = 4,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Heartbeat, Self::Coup, Self::Elect, Self::Relinquish];
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// What it is for.
    pub kind: Kind,
    /// FT group, 1–254.
    pub group: u8,
    /// State of the sender.
    pub state: State,
    /// Its priority, 1–254.
    pub priority: u8,
    /// It can forward.
    pub forwardable: bool,
    /// Tracking has nothing against it.
    pub eligible: bool,
    /// It is configured to preempt, and does not hold off.
    pub preempt: bool,
    /// Its replica is complete; always set by the active node.
    pub complete: bool,
    /// It heard this node within its waiting time.
    pub hears_you: bool,
    /// Of a relinquish: an offer, not yet a yield.
    pub offer: bool,
    /// It was active last, as far as it knows: no table is newer than its own.
    pub keeper: bool,
    /// Identity, not 0.
    pub node: u64,
    /// Boot nonce, not 0.
    pub nonce: u64,
    /// Boot nonce of the peer that the sender last heard; 0: none.
    pub peer_nonce: u64,
    /// Rises with every message of a boot.
    pub sequence: u64,
    /// Active: claimed. Elect: asked for. Relinquish: yielded. Else the highest known.
    pub term: u64,
    /// Heartbeat interval, whole µs.
    pub heartbeat: Duration,
    /// Failover time, whole µs.
    pub failover: Duration,
    /// Lease length, whole µs.
    pub lease: Duration,
    /// Of the configuration.
    pub config_checksum: u64,
    /// Of the software.
    pub software_checksum: u64,
    /// Lag of the replica, ms.
    pub lag_ms: u32,
    /// Of the FT port.
    pub mac: [u8; 6],
    /// The sender is about to restart: its gate may stay open for so long after this message. Whole ms; zero: no longer
    /// than [`Message::lease`].
    pub hold: Duration,
    /// Sequence of the receiver's message whose hold the sender grants: it claims nothing in that time. 0: none.
    pub held: u64,
    /// The sender has a witness: it claims with its grant only, and wants to know what of its own was heard.
    pub witness: bool,
    /// Sequence of the receiver's newest message that the sender took, if either of them has a witness. 0: none.
    pub heard: u64,
    /// The last term in which the sender, a keeper, was active, if either of them has a witness, or both are keepers and
    /// neither is active. 0: none.
    pub claimed: u64,
}

impl Message {
    /// How long after this message the sender's gate may stay open.
    #[must_use]
    pub fn authority(&self) -> Duration {
        self.lease.max(self.hold)
    }
}

/// Why a datagram is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum DecodeError {
    /// Not [`LENGTH`] bytes, or the length field says something else.
    #[error("length")]
    Length,
    /// Not ours.
    #[error("magic")]
    Magic,
    /// Of a version that this software does not know.
    #[error("version")]
    Version,
    /// Damaged.
    #[error("checksum")]
    Checksum,
    /// Unknown kind.
    #[error("kind")]
    Kind,
    /// Unknown state.
    #[error("state")]
    State,
    /// Unknown flag, or a reserved byte that is not 0.
    #[error("reserved bits")]
    Reserved,
    /// Group or priority outside 1–254.
    #[error("group or priority")]
    Range,
    /// Node or nonce 0.
    #[error("identity")]
    Identity,
    /// Intervals without sense.
    #[error("timers")]
    Timers,
}

/// One counter for each [`DecodeError`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the error it counts")]
pub struct DecodeCounts {
    pub length: u64,
    pub magic: u64,
    pub version: u64,
    pub checksum: u64,
    pub kind: u64,
    pub state: u64,
    pub reserved: u64,
    pub range: u64,
    pub identity: u64,
    pub timers: u64,
}

impl DecodeCounts {
    /// Counts one.
    pub fn record(&mut self, error: DecodeError) {
        let count = match error {
            DecodeError::Length => &mut self.length,
            DecodeError::Magic => &mut self.magic,
            DecodeError::Version => &mut self.version,
            DecodeError::Checksum => &mut self.checksum,
            DecodeError::Kind => &mut self.kind,
            DecodeError::State => &mut self.state,
            DecodeError::Reserved => &mut self.reserved,
            DecodeError::Range => &mut self.range,
            DecodeError::Identity => &mut self.identity,
            DecodeError::Timers => &mut self.timers,
        };
        *count += 1;
    }

    /// Of all causes.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let Self { length, magic, version, checksum, kind, state, reserved, range, identity, timers } = *self;
        length + magic + version + checksum + kind + state + reserved + range + identity + timers
    }
}

const FORWARDABLE: u8 = 1;
const ELIGIBLE: u8 = 2;
const PREEMPT: u8 = 4;
const COMPLETE: u8 = 8;
const HEARS_YOU: u8 = 16;
const OFFER: u8 = 32;
const KEEPER: u8 = 64;
const WITNESS: u8 = 128;

impl Message {
    /// The message as it goes on the wire. Intervals are cut to whole microseconds.
    #[must_use]
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.kind as u8;
        bytes[6..8].copy_from_slice(&LENGTH_FIELD);
        bytes[12] = self.group;
        bytes[13] = self.state as u8;
        bytes[14] = self.priority;
        bytes[15] = self.flags();
        let words = [
            self.node,
            self.nonce,
            self.peer_nonce,
            self.sequence,
            self.term,
            micros(self.heartbeat),
            micros(self.failover),
            micros(self.lease),
            self.config_checksum,
            self.software_checksum,
        ];
        for (slot, word) in bytes[16..96].as_chunks_mut().0.iter_mut().zip(words) {
            *slot = word.to_be_bytes();
        }
        bytes[96..100].copy_from_slice(&self.lag_ms.to_be_bytes());
        bytes[100..106].copy_from_slice(&self.mac);
        let hold = u32::try_from(self.hold.as_millis()).unwrap_or(u32::MAX);
        bytes[106..110].copy_from_slice(&hold.to_be_bytes());
        bytes[110..118].copy_from_slice(&self.held.to_be_bytes());
        bytes[118..126].copy_from_slice(&self.heard.to_be_bytes());
        bytes[126..134].copy_from_slice(&self.claimed.to_be_bytes());
        let sum = checksum(&bytes);
        bytes[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn flags(&self) -> u8 {
        [
            (self.forwardable, FORWARDABLE),
            (self.eligible, ELIGIBLE),
            (self.preempt, PREEMPT),
            (self.complete, COMPLETE),
            (self.hears_you, HEARS_YOU),
            (self.offer, OFFER),
            (self.keeper, KEEPER),
            (self.witness, WITNESS),
        ]
        .into_iter()
        .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
    }

    /// The message in `datagram`.
    ///
    /// # Errors
    /// The first fault found, in the order of [`DecodeError`].
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let bytes: &[u8; LENGTH] = datagram.try_into().map_err(|_| DecodeError::Length)?;
        if bytes[0..4] != MAGIC {
            return Err(DecodeError::Magic);
        }
        if bytes[4] != VERSION {
            return Err(DecodeError::Version);
        }
        if bytes[6..8] != LENGTH_FIELD {
            return Err(DecodeError::Length);
        }
        if bytes[CHECKSUM] != checksum(bytes).to_be_bytes() {
            return Err(DecodeError::Checksum);
        }
        let kind = Kind::ALL.into_iter().find(|&kind| kind as u8 == bytes[5]).ok_or(DecodeError::Kind)?;
        let state =
            State::ALL.into_iter().find(|&state| state as u8 == bytes[13]).ok_or(DecodeError::State)?;
        let flags = bytes[15];
        if bytes[RESERVED].iter().any(|&byte| byte != 0) {
            return Err(DecodeError::Reserved);
        }
        let mut words = [0; 10];
        for (word, slot) in words.iter_mut().zip(bytes[16..96].as_chunks().0) {
            *word = u64::from_be_bytes(*slot);
        }
        let [
            node,
            nonce,
            peer_nonce,
            sequence,
            term,
            heartbeat,
            failover,
            lease,
            config_checksum,
            software_checksum,
        ] = words;
        let message = Self {
            kind,
            group: bytes[12],
            state,
            priority: bytes[14],
            forwardable: flags & FORWARDABLE != 0,
            eligible: flags & ELIGIBLE != 0,
            preempt: flags & PREEMPT != 0,
            complete: flags & COMPLETE != 0,
            hears_you: flags & HEARS_YOU != 0,
            offer: flags & OFFER != 0,
            keeper: flags & KEEPER != 0,
            node,
            nonce,
            peer_nonce,
            sequence,
            term,
            heartbeat: Duration::from_micros(heartbeat),
            failover: Duration::from_micros(failover),
            lease: Duration::from_micros(lease),
            config_checksum,
            software_checksum,
            lag_ms: u32::from_be_bytes([bytes[96], bytes[97], bytes[98], bytes[99]]),
            mac: [bytes[100], bytes[101], bytes[102], bytes[103], bytes[104], bytes[105]],
            hold: Duration::from_millis(
                u32::from_be_bytes([bytes[106], bytes[107], bytes[108], bytes[109]]).into(),
            ),
            held: u64::from_be_bytes(*bytes[110..118].first_chunk().unwrap_or(&[0; 8])),
            witness: flags & WITNESS != 0,
            heard: u64::from_be_bytes(*bytes[118..126].first_chunk().unwrap_or(&[0; 8])),
            claimed: u64::from_be_bytes(*bytes[126..134].first_chunk().unwrap_or(&[0; 8])),
        };
        message.check()?;
        Ok(message)
    }

    /// What types cannot say.
    fn check(&self) -> Result<(), DecodeError> {
        if !(1..=254).contains(&self.group) || !(1..=254).contains(&self.priority) {
            return Err(DecodeError::Range);
        }
        if self.node == 0 || self.nonce == 0 {
            return Err(DecodeError::Identity);
        }
        let Self { heartbeat, failover, lease, hold, .. } = *self;
        // The longest configurable failover is 65,535 s: a peer's word never makes this node wait longer.
        if heartbeat.is_zero()
            || lease.is_zero()
            || heartbeat >= failover
            || lease >= failover
            || failover > FAILOVER_MAX
            || hold > HOLD_MAX
        {
            return Err(DecodeError::Timers);
        }
        Ok(())
    }
}

/// The longest failover time that can be configured.
const FAILOVER_MAX: Duration = Duration::from_secs(65_535);

/// The longest hold that is granted: the peer then takes over after less than ten seconds.
pub const HOLD_MAX: Duration = Duration::from_secs(8);

fn micros(interval: Duration) -> u64 {
    u64::try_from(interval.as_micros()).unwrap_or(u64::MAX)
}

/// FNV-1a of the message with its checksum field 0, folded to 32 bits. It finds damage, not malice.
fn checksum(bytes: &[u8; LENGTH]) -> u32 {
    let mut copy = *bytes;
    copy[CHECKSUM].fill(0);
    let sum = fnv1a(&copy).to_be_bytes();
    let half = |at: usize| u32::from_be_bytes([sum[at], sum[at + 1], sum[at + 2], sum[at + 3]]);
    half(0) ^ half(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> impl Strategy<Value = Message> {
        let facts = (0..4_usize, 1..=254_u8, 0..6_usize, 1..=254_u8, any::<[bool; 8]>(), any::<[u8; 6]>());
        let words = (1..=u64::MAX, 1..=u64::MAX, any::<[u64; 5]>(), any::<u32>());
        let timers = (1_000..1_000_000_u64, 1_000..1_000_000_u64, 1..1_000_000_u64);
        let hold = (0..=8_000_u64, any::<u64>());
        (facts, words, timers, hold).prop_map(|(facts, words, (heartbeat, lease, more), (hold, held))| {
            Message {
                hold: Duration::from_millis(hold),
                held,
                witness: facts.4[7],
                heard: held.rotate_left(7),
                claimed: held.rotate_left(9),
                kind: Kind::ALL[facts.0],
                group: facts.1,
                state: State::ALL[facts.2],
                priority: facts.3,
                forwardable: facts.4[0],
                eligible: facts.4[1],
                preempt: facts.4[2],
                complete: facts.4[3],
                hears_you: facts.4[4],
                offer: facts.4[5],
                keeper: facts.4[6],
                mac: facts.5,
                node: words.0,
                nonce: words.1,
                peer_nonce: words.2[0],
                sequence: words.2[1],
                term: words.2[2],
                config_checksum: words.2[3],
                software_checksum: words.2[4],
                lag_ms: words.3,
                heartbeat: Duration::from_micros(heartbeat),
                lease: Duration::from_micros(lease),
                failover: Duration::from_micros(heartbeat.max(lease) + more),
            }
        })
    }

    fn reseal(bytes: &mut [u8; LENGTH]) {
        let sum = checksum(bytes);
        bytes[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(message in message()) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn any_bytes_are_refused_or_mean_themselves(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Message::decode(&bytes).is_err());
        }

        #[test]
        fn what_a_sealed_message_of_any_content_decodes_to_encodes_to_it(
            message in message(), changes in prop::collection::vec((0..LENGTH, any::<u8>()), 0..4),
        ) {
            let mut bytes = message.encode();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            reseal(&mut bytes);
            if let Ok(decoded) = Message::decode(&bytes) {
                prop_assert_eq!(decoded.encode(), bytes);
            }
        }

        #[test]
        fn a_flipped_bit_is_found(message in message(), bit in 0..LENGTH * 8) {
            let mut bytes = message.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Message::decode(&bytes).is_err());
        }
    }

    #[test]
    fn each_fault_has_its_error_and_its_counter() {
        let good = sample().encode();
        let cases: [(usize, u8, DecodeError); 12] = [
            (0, b'X', DecodeError::Magic),
            (4, 2, DecodeError::Version),
            (7, 1, DecodeError::Length),
            (5, 9, DecodeError::Kind),
            (13, 6, DecodeError::State),
            (134, 1, DecodeError::Reserved),
            (135, 1, DecodeError::Reserved),
            (135, 255, DecodeError::Reserved),
            (12, 0, DecodeError::Range),
            (14, 255, DecodeError::Range),
            (72, 255, DecodeError::Timers),
            (107, 1, DecodeError::Timers),
        ];
        let mut counts = DecodeCounts::default();
        for (at, byte, error) in cases {
            let mut bytes = good;
            bytes[at] = byte;
            reseal(&mut bytes);
            assert_eq!(Message::decode(&bytes), Err(error), "byte {at} = {byte}");
            counts.record(error);
        }
        for blank in [16..24, 24..32] {
            let mut bytes = good;
            bytes[blank].fill(0);
            reseal(&mut bytes);
            assert_eq!(Message::decode(&bytes), Err(DecodeError::Identity));
            counts.record(DecodeError::Identity);
        }
        let mut damaged = good;
        damaged[60] ^= 4;
        assert_eq!(Message::decode(&damaged), Err(DecodeError::Checksum));
        counts.record(DecodeError::Checksum);
        assert_eq!(Message::decode(&good[..LENGTH - 1]), Err(DecodeError::Length));
        let expected = DecodeCounts {
            length: 1,
            magic: 1,
            version: 1,
            checksum: 1,
            kind: 1,
            state: 1,
            reserved: 3,
            range: 2,
            identity: 2,
            timers: 2,
        };
        assert_eq!(counts, expected);
        assert_eq!(counts.total(), 15);
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = sample().encode();
        assert_eq!(bytes[0..8], [b'C', b'S', b'M', b'f', 1, 3, 0, 136]);
        assert_eq!(bytes[12..16], [7, 2, 20, 1 | 4 | 16]);
        assert_eq!(bytes[16..24], 0x0102_0304_0506_0708_u64.to_be_bytes());
        assert_eq!(bytes[56..64], 50_000_u64.to_be_bytes());
        assert_eq!(bytes[96..106], [0, 0, 0, 9, 2, 0, 0, 0, 0, 1]);
        assert_eq!(bytes[106..110], 8_000_u32.to_be_bytes());
        assert_eq!(bytes[110..118], 77_u64.to_be_bytes());
        assert_eq!(bytes[118..], [0; 18]);
    }

    fn sample() -> Message {
        Message {
            kind: Kind::Elect,
            group: 7,
            state: State::Candidate,
            priority: 20,
            forwardable: true,
            eligible: false,
            preempt: true,
            complete: false,
            hears_you: true,
            offer: false,
            keeper: false,
            node: 0x0102_0304_0506_0708,
            nonce: 5,
            peer_nonce: 6,
            sequence: 7,
            term: 8,
            heartbeat: Duration::from_millis(50),
            failover: Duration::from_millis(150),
            lease: Duration::from_micros(123_333),
            config_checksum: 1,
            software_checksum: 2,
            lag_ms: 9,
            mac: [2, 0, 0, 0, 0, 1],
            hold: Duration::from_secs(8),
            held: 77,
            witness: false,
            heard: 0,
            claimed: 0,
        }
    }
}
