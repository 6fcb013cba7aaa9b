//! HSRP messages: version 1 (RFC 2281 section 5.1) and version 2 (Cisco's type-length-values). Pure.
//!
//! ```text
//! version 1, 20 octets:                             version 2, type 1, 42 octets:
//!   0  1  version 0                                   0  1  type 1: group state
//!   1  1  op code 0 hello, 1 coup, 2 resign           1  1  length 40
//!   2  1  state 0, 1, 2, 4, 8, 16                     2  1  version 2
//!   3  1  hello time, s                               3  1  op code
//!   4  1  hold time, s                                4  1  state 1 to 6
//!   5  1  priority                                    5  1  IP version 4 or 6
//!   6  1  group                                       6  2  group
//!   7  1  0                                           8  6  identifier: the sender's MAC address
//!   8  8  authentication: text, padded with zeros    14  4  priority
//!  16  4  virtual IP address                         18  4  hello time, ms
//!                                                    22  4  hold time, ms
//!                                                    26 16  virtual IP address, IPv4 in the first four octets
//!                                                  type 3, 10 octets: authentication, text of 8
//! ```
//!
//! IPv4 goes by UDP port 1985: version 1 to 224.0.0.2 with a TTL of 1, version 2 to 224.0.0.102 with one of 255. IPv6, which
//! has version 2 only, goes by UDP port 2029 to ff02::66 with a hop limit of 255; its virtual address is one of the link.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use thiserror::Error;

use crate::model::Family;

/// Longest message that is sent.
pub const LENGTH_MAX: usize = V2_STATE_LEN + V2_TEXT_LEN;
/// What an unauthenticated group's text is (RFC 2281).
pub const AUTHENTICATION: Authentication = Authentication(*b"cisco\0\0\0");

const V1_LEN: usize = 20;
const V2_STATE: u8 = 1;
const V2_STATE_LEN: usize = 42;
const V2_TEXT: u8 = 3;
const V2_TEXT_LEN: usize = 10;
const V2_VERSION: u8 = 2;

/// UDP port of a family, of sender and receiver.
#[must_use]
pub const fn port(family: Family) -> u16 {
    match family {
        Family::V4 => 1985,
        Family::V6 => 2029,
    }
}

const fn ip_version(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// RFC 2281: groups 0–255, times in seconds.
    #[default]
    V1,
    /// Groups 0–4095, times in milliseconds.
    V2,
}

impl Version {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// Where messages about addresses of `family` go.
    #[must_use]
    pub const fn destination(self, family: Family) -> IpAddr {
        match (self, family) {
            (_, Family::V6) => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x66)),
            (Self::V1, Family::V4) => IpAddr::V4(Ipv4Addr::new(224, 0, 0, 2)),
            (Self::V2, Family::V4) => IpAddr::V4(Ipv4Addr::new(224, 0, 0, 102)),
        }
    }

    /// TTL of messages. Neither version checks it; what is sent to 224.0.0.0/24 is not forwarded anyway.
    #[must_use]
    pub const fn ttl(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 255,
        }
    }

    /// Highest group.
    #[must_use]
    pub const fn group_max(self) -> u16 {
        match self {
            Self::V1 => 255,
            Self::V2 => 4095,
        }
    }

    /// The MAC address of the active router of `group` of `family`.
    #[must_use]
    pub const fn virtual_mac(self, group: u16, family: Family) -> [u8; 6] {
        let [high, low] = group.to_be_bytes();
        match (self, family) {
            (_, Family::V6) => [0x00, 0x05, 0x73, 0xa0, high & 0x0f, low],
            (Self::V1, Family::V4) => [0x00, 0x00, 0x0c, 0x07, 0xac, low],
            (Self::V2, Family::V4) => [0x00, 0x00, 0x0c, 0x9f, 0xf0 | high, low],
        }
    }
}

/// `1` or `2`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V1 => "1",
            Self::V2 => "2",
        })
    }
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// The sender runs, and is able to become the active or standby router.
    Hello = 0,
    /// It wishes to become the active router.
    Coup = 1,
    /// It no longer wishes to be the active router.
    Resign = 2,
}

/// State of a router (RFC 2281 section 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// HSRP does not run.
    Initial = 1,
    /// It has not learned the virtual address yet.
    Learn = 2,
    /// It is neither active nor standby, and listens to those that are.
    Listen = 3,
    /// It takes part in the election.
    Speak = 4,
    /// It is the next one.
    Standby = 5,
    /// It forwards for the virtual address.
    Active = 6,
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Initial, Self::Learn, Self::Listen, Self::Speak, Self::Standby, Self::Active];

    const fn v1(self) -> u8 {
        match self {
            Self::Initial => 0,
            Self::Learn => 1,
            Self::Listen => 2,
            Self::Speak => 4,
            Self::Standby => 8,
            Self::Active => 16,
        }
    }
}

/// As IOS prints it.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Initial => "Init",
            Self::Learn => "Learn",
            Self::Listen => "Listen",
            Self::Speak => "Speak",
            Self::Standby => "Standby",
            Self::Active => "Active",
        })
    }
}

/// The text that all routers of a group share: a guard against mistakes, not against an attacker, who can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Authentication(pub [u8; 8]);

impl Authentication {
    /// Of a text of 1 to 8 printable characters without blanks.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let good = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let mut bytes = [0; 8];
        bytes.get_mut(..text.len()).filter(|_| good)?.copy_from_slice(text.as_bytes());
        Some(Self(bytes))
    }
}

/// The text; what is not printable as `?`.
impl fmt::Display for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let printable = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
        f.pad(&self.0[..end].iter().map(printable).collect::<String>())
    }
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Its version.
    pub version: Version,
    /// What it says.
    pub op: Op,
    /// State of its sender.
    pub state: State,
    /// Group.
    pub group: u16,
    /// Priority of its sender.
    pub priority: u8,
    /// Between two hellos; in version 1 whole seconds.
    pub hello: Duration,
    /// For how long a hello holds; in version 1 whole seconds.
    pub hold: Duration,
    /// Text.
    pub authentication: Authentication,
    /// Of what kind its virtual address is.
    pub family: Family,
    /// Virtual address; `None`: the sender does not know it.
    pub address: Option<IpAddr>,
    /// MAC address of its sender's interface; of version 1, zero.
    pub identifier: [u8; 6],
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Malformed {
    /// Shorter than its version's message.
    #[error("truncated")]
    Truncated,
    /// Neither 1 nor 2, or a type-length-value that none is made of.
    #[error("unknown version")]
    Version,
    /// No hello, coup or resign. Cisco's advertisements (3) among them.
    #[error("unknown op code")]
    Op,
    /// No state.
    #[error("unknown state")]
    State,
    /// Neither of IPv4 nor of IPv6.
    #[error("unknown IP version")]
    Family,
    /// A hello or hold time of zero, a hold time not above the hello time, a priority above 255, a group above 4095.
    #[error("value out of range")]
    Range,
}

impl Message {
    /// The octets, and how many.
    #[must_use]
    pub fn encode(&self) -> ([u8; LENGTH_MAX], usize) {
        let mut bytes = [0; LENGTH_MAX];
        let mut address = [0; 16];
        match self.address {
            Some(IpAddr::V4(known)) => address[..4].copy_from_slice(&known.octets()),
            Some(IpAddr::V6(known)) => address = known.octets(),
            None => {}
        }
        match self.version {
            Version::V1 => {
                bytes[1] = self.op as u8;
                bytes[2] = self.state.v1();
                bytes[3] = seconds(self.hello);
                // Times below a second do not fit; the hold time stays above the hello time all the same.
                bytes[4] = seconds(self.hold).max(bytes[3].saturating_add(1));
                bytes[5] = self.priority;
                bytes[6] = self.group.to_be_bytes()[1];
                bytes[8..16].copy_from_slice(&self.authentication.0);
                bytes[16..20].copy_from_slice(&address[..4]);
                (bytes, V1_LEN)
            }
            Version::V2 => {
                bytes[..6].copy_from_slice(&[
                    V2_STATE,
                    40,
                    V2_VERSION,
                    self.op as u8,
                    self.state as u8,
                    ip_version(self.family),
                ]);
                bytes[6..8].copy_from_slice(&self.group.to_be_bytes());
                bytes[8..14].copy_from_slice(&self.identifier);
                bytes[14..18].copy_from_slice(&u32::from(self.priority).to_be_bytes());
                bytes[18..22].copy_from_slice(&millis(self.hello).to_be_bytes());
                bytes[22..26].copy_from_slice(&millis(self.hold).to_be_bytes());
                bytes[26..42].copy_from_slice(&address);
                bytes[42..44].copy_from_slice(&[V2_TEXT, 8]);
                bytes[44..52].copy_from_slice(&self.authentication.0);
                (bytes, LENGTH_MAX)
            }
        }
    }

    /// Reads a UDP payload.
    ///
    /// # Errors
    /// If it is no message.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.first() {
            None => Err(Malformed::Truncated),
            Some(0) => decode_v1(bytes),
            Some(_) => decode_v2(bytes),
        }
    }
}

fn decode_v1(bytes: &[u8]) -> Result<Message, Malformed> {
    let bytes: &[u8; V1_LEN] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
    let [_, op, state, hello, hold, priority, group, _, ..] = *bytes;
    let state = State::ALL.into_iter().find(|known| known.v1() == state).ok_or(Malformed::State)?;
    let mut authentication = [0; 8];
    authentication.copy_from_slice(&bytes[8..16]);
    let message = Message {
        version: Version::V1,
        op: operation(op)?,
        state,
        group: group.into(),
        priority,
        hello: Duration::from_secs(hello.into()),
        hold: Duration::from_secs(hold.into()),
        authentication: Authentication(authentication),
        family: Family::V4,
        address: address4([bytes[16], bytes[17], bytes[18], bytes[19]]),
        identifier: [0; 6],
    };
    checked(message)
}

fn decode_v2(bytes: &[u8]) -> Result<Message, Malformed> {
    let (mut message, mut authentication) = (None, None);
    let mut rest = bytes;
    while let [kind, length, tail @ ..] = rest {
        let (value, next) = tail.split_at_checked((*length).into()).ok_or(Malformed::Truncated)?;
        match *kind {
            V2_STATE if message.is_none() => message = Some(group_state(value)?),
            V2_TEXT if authentication.is_none() => {
                let text: &[u8; 8] = value.first_chunk().ok_or(Malformed::Truncated)?;
                authentication = Some(Authentication(*text));
            }
            // MD5 among them: a group with it has no text, so it is of another authentication.
            _ => {}
        }
        rest = next;
    }
    let message = message.ok_or(Malformed::Version)?;
    // Without one it is none: not the default.
    checked(Message { authentication: authentication.unwrap_or(Authentication([0; 8])), ..message })
}

fn group_state(value: &[u8]) -> Result<Message, Malformed> {
    let value: &[u8; V2_STATE_LEN - 2] = value.first_chunk().ok_or(Malformed::Truncated)?;
    let [version, op, state, family, ..] = *value;
    if version != V2_VERSION {
        return Err(Malformed::Version);
    }
    let family =
        Family::ALL.into_iter().find(|known| ip_version(*known) == family).ok_or(Malformed::Family)?;
    let word = |at: usize| u32::from_be_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
    Ok(Message {
        version: Version::V2,
        op: operation(op)?,
        state: State::ALL.into_iter().find(|known| *known as u8 == state).ok_or(Malformed::State)?,
        group: u16::from_be_bytes([value[4], value[5]]),
        priority: u8::try_from(word(12)).map_err(|_| Malformed::Range)?,
        hello: Duration::from_millis(word(16).into()),
        hold: Duration::from_millis(word(20).into()),
        authentication: Authentication([0; 8]),
        family,
        address: match family {
            Family::V4 => address4([value[24], value[25], value[26], value[27]]),
            Family::V6 => value.last_chunk().and_then(|octets| address6(*octets)),
        },
        identifier: [value[6], value[7], value[8], value[9], value[10], value[11]],
    })
}

fn operation(op: u8) -> Result<Op, Malformed> {
    [Op::Hello, Op::Coup, Op::Resign].into_iter().find(|known| *known as u8 == op).ok_or(Malformed::Op)
}

/// A group's address is one of a host, or not known.
fn address4(octets: [u8; 4]) -> Option<IpAddr> {
    let address = Ipv4Addr::from(octets);
    let host = !(address.is_unspecified() || address.is_multicast() || address.is_broadcast());
    host.then_some(IpAddr::V4(address))
}

fn address6(octets: [u8; 16]) -> Option<IpAddr> {
    let address = Ipv6Addr::from(octets);
    let host = !(address.is_unspecified() || address.is_multicast() || address.is_loopback());
    host.then_some(IpAddr::V6(address))
}

fn checked(message: Message) -> Result<Message, Malformed> {
    let times = !message.hello.is_zero() && message.hold > message.hello;
    let group = message.group <= message.version.group_max();
    if times && group { Ok(message) } else { Err(Malformed::Range) }
}

/// Up to whole seconds, as version 1 has them.
fn seconds(time: Duration) -> u8 {
    u8::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u8::MAX)
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests;
