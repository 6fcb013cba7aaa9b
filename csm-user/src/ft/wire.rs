//! Messages between the nodes: one fixed layout for all kinds, big endian. Pure.
//!
//! ```text
//! offset size
//!   0     4   magic "CSMf"
//!   4     1   version, 1 or 2
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
//! 126     8   term in which the sender, a keeper, was active last, if either has a witness, or both are keepers and neither is
//!             active; else 0
//! 134     1   version 1: reserved, 0; version 2: newest version that the sender speaks
//! 135     1   version 1: reserved, 0; version 2: passed over
//! ```
//!
//! Both versions mean the same. What a version above adds is for those only who have said that they speak it ([`spoken`]).
//!
//! [`spoken`]: super::spoken

use std::time::Duration;

use thiserror::Error;

use crate::ft::State;
use crate::model::fnv1a;

/// Length of a message in bytes.
pub const LENGTH: usize = 136;
/// The oldest version that is understood.
pub const OLDEST: u8 = 1;
/// The newest version.
pub const NEWEST: u8 = 2;
const VERSION: usize = 4;
const SPEAKS: usize = 134;
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
    /// The message as it goes on the wire, in the oldest version. Intervals are cut to whole microseconds.
    #[must_use]
    pub fn encode(&self) -> [u8; LENGTH] {
        self.encode_as(OLDEST, OLDEST)
    }

    /// The same in `version`, of a sender that speaks up to `newest`.
    #[must_use]
    pub fn encode_as(&self, version: u8, newest: u8) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[VERSION] = version;
        if version > OLDEST {
            bytes[SPEAKS] = newest;
        }
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
        // Who says something in a version speaks that version.
        if !(OLDEST..=NEWEST).contains(&bytes[VERSION]) || newest(bytes) < bytes[VERSION] {
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
        if bytes[VERSION] == OLDEST && bytes[RESERVED].iter().any(|&byte| byte != 0) {
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

/// The newest version that the sender of a message speaks, as far as it says so.
#[must_use]
pub const fn newest(message: &[u8; LENGTH]) -> u8 {
    if message[VERSION] == OLDEST { OLDEST } else { message[SPEAKS] }
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
mod tests;
