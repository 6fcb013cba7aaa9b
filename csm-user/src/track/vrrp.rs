//! A VRRP group of routers nearby (RFC 3768, RFC 5798, for IPv4): who is its master. Pure: times are durations since the start.
//!
//! ```text
//! version 2:                                 version 3:
//!   0  1  0x21: version, advertisement         0  1  0x31
//!   1  1  group                                1  1  group
//!   2  1  priority, 0: it resigns              2  1  priority
//!   3  1  number of addresses                  3  1  number of addresses
//!   4  1  kind of authentication, not read     4  2  interval, hundredths of a second, 12 bits
//!   5  1  interval, s
//!   6  2  checksum of the message              6  2  checksum, with a pseudo header
//!   8     addresses, then 8 octets of text     8     addresses
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use thiserror::Error;

/// IP protocol.
pub const PROTOCOL: u8 = 112;
/// Where advertisements go.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

const HEADER: usize = 8;
/// What is sent to the group comes from no further than the link.
const TTL: u8 = 255;
/// Before the first advertisement: the master-down time at the default interval of a second, rounded up.
const FIRST: Duration = Duration::from_secs(4);

/// What the master of a group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Group, 1–255.
    pub group: u8,
    /// Its priority; 0: it resigns.
    pub priority: u8,
    /// Time to the next one.
    pub interval: Duration,
}

impl Advertisement {
    /// After so long without another one the master is gone.
    fn down(self, version: u8) -> Duration {
        let less = u32::from(u8::MAX - self.priority) + 1;
        let skew = if version == 2 { Duration::from_secs(1) } else { self.interval };
        self.interval * 3 + skew * less / 256
    }
}

/// Why a packet is no advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Malformed {
    /// Shorter than it says.
    #[error("truncated")]
    Truncated,
    /// It crossed a router.
    #[error("the TTL is not 255")]
    Ttl,
    /// Of another version, or no advertisement.
    #[error("no advertisement of this version")]
    Version,
    /// Damaged.
    #[error("wrong checksum")]
    Checksum,
    /// Group or interval 0.
    #[error("value out of range")]
    Range,
}

/// Reads an IPv4 packet as a raw socket gives it: from whom, and what it says.
///
/// # Errors
/// If it is no advertisement of `version`, 2 or 3.
pub fn decode(packet: &[u8], version: u8) -> Result<(Ipv4Addr, Advertisement), Malformed> {
    let ip = packet.first_chunk::<20>().ok_or(Malformed::Truncated)?;
    let header = usize::from(ip[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let message = packet.get(header..total).ok_or(Malformed::Truncated)?;
    let [kind, group, priority, count, fourth, fifth, ..] =
        *message.first_chunk::<HEADER>().ok_or(Malformed::Truncated)?;
    if ip[8] != TTL {
        return Err(Malformed::Ttl);
    }
    if kind != version << 4 | 1 {
        return Err(Malformed::Version);
    }
    if message.len() < HEADER + 4 * usize::from(count) {
        return Err(Malformed::Truncated);
    }
    let addresses = ip[12..20].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let length = u32::try_from(message.len()).unwrap_or(0);
    let pseudo = if version == 2 { 0 } else { addresses.sum::<u32>() + u32::from(PROTOCOL) + length };
    if super::checksum(message, pseudo) != 0 {
        return Err(Malformed::Checksum);
    }
    let interval = match version {
        2 => Duration::from_secs(fifth.into()),
        _ => Duration::from_millis(10) * u32::from(u16::from_be_bytes([fourth & 0x0f, fifth])),
    };
    if group == 0 || interval.is_zero() {
        return Err(Malformed::Range);
    }
    let source = Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
    Ok((source, Advertisement { group, priority, interval }))
}

/// A group, and whether the router that should be is its master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    group: u8,
    version: u8,
    router: Ipv4Addr,
    /// The master, its priority.
    master: Option<(Ipv4Addr, u8)>,
    /// When the master counts as gone.
    due: Duration,
    up: Option<bool>,
    /// The version in which the group was heard last, if not in its own.
    other: Option<u8>,
}

impl Watch {
    /// Of `group` in `version`: is `router` its master? It is not known before one was heard, or none for long enough.
    #[must_use]
    pub const fn new(group: u8, version: u8, router: Ipv4Addr) -> Self {
        Self { group, version, router, master: None, due: FIRST, up: None, other: None }
    }

    /// Whether it is; `None`: not known yet.
    #[must_use]
    pub const fn up(&self) -> Option<bool> {
        self.up
    }

    /// Why it is not: the version in which the group is heard instead.
    #[must_use]
    pub const fn other_version(&self) -> Option<u8> {
        match self.up {
            Some(false) => self.other,
            _ => None,
        }
    }

    /// When [`Self::wake`] is due.
    #[must_use]
    pub const fn due(&self) -> Duration {
        self.due
    }

    /// A packet came.
    ///
    /// # Errors
    /// If it is no advertisement.
    pub fn heard(&mut self, packet: &[u8], now: Duration) -> Result<(), Malformed> {
        let (source, said) = match decode(packet, self.version) {
            Err(Malformed::Version) => {
                // Two, three: there are no others.
                let other = 5 - self.version;
                if decode(packet, other).is_ok_and(|(_, said)| said.group == self.group) {
                    self.other = Some(other);
                }
                return Err(Malformed::Version);
            }
            result => result?,
        };
        if said.group != self.group {
            return Ok(());
        }
        self.other = None;
        // Two masters at a time: the one that the other will give way to.
        let worse = self.master.is_some_and(|(master, priority)| {
            master != source && (said.priority, source) < (priority, master)
        });
        if worse {
            return Ok(());
        }
        self.due = now + said.down(self.version);
        if said.priority == 0 {
            // The next one speaks within its skew.
            self.master = None;
            self.up = Some(false);
        } else {
            self.master = Some((source, said.priority));
            self.up = Some(source == self.router);
        }
        Ok(())
    }

    /// The master may be gone.
    pub fn wake(&mut self, now: Duration) {
        if now >= self.due {
            self.master = None;
            self.up = Some(false);
            self.due = now + FIRST;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
    const S: Duration = Duration::from_secs(1);

    /// An advertisement as it comes from the wire.
    fn packet(version: u8, source: Ipv4Addr, group: u8, priority: u8) -> Vec<u8> {
        let times: [u8; 2] = if version == 2 { [0, 1] } else { 100_u16.to_be_bytes() };
        let mut message = vec![version << 4 | 1, group, priority, 1, times[0], times[1], 0, 0, 10, 0, 0, 1];
        if version == 2 {
            message.extend([0; 8]);
        }
        let total = u16::try_from(20 + message.len()).expect("short").to_be_bytes();
        let mut ip = vec![0x45, 0xc0, total[0], total[1], 0, 0, 0, 0, TTL, PROTOCOL, 0, 0];
        ip.extend(source.octets());
        ip.extend(GROUP.octets());
        let pseudo = ip[12..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let pseudo = pseudo.sum::<u32>() + u32::from(PROTOCOL) + u32::try_from(message.len()).expect("short");
        let sum = super::super::checksum(&message, if version == 2 { 0 } else { pseudo });
        message[6..8].copy_from_slice(&sum.to_be_bytes());
        [ip, message].concat()
    }

    #[test]
    fn advertisements_of_both_versions_are_read_and_damaged_ones_are_not() {
        for version in [2, 3] {
            let good = packet(version, ROUTER, 7, 110);
            let said = Advertisement { group: 7, priority: 110, interval: S };
            assert_eq!(decode(&good, version), Ok((ROUTER, said)));
            assert_eq!(decode(&good, 5 - version), Err(Malformed::Version));
            let mut bad = good.clone();
            bad[22] ^= 1;
            assert_eq!(decode(&bad, version), Err(Malformed::Checksum));
            bad.clone_from(&good);
            bad[8] = 254;
            assert_eq!(decode(&bad, version), Err(Malformed::Ttl));
            for length in 0..good.len() {
                assert_eq!(decode(&good[..length], version), Err(Malformed::Truncated), "{length}");
            }
        }
    }

    #[test]
    fn the_master_is_the_best_that_speaks_until_it_is_silent_or_resigns() {
        let mut watch = Watch::new(7, 3, ROUTER);
        let hear = |watch: &mut Watch, source, group, priority, now: Duration| {
            watch.heard(&packet(3, source, group, priority), now).expect("good");
            watch.up()
        };
        assert_eq!(hear(&mut watch, ROUTER, 8, 110, S), None, "another group");
        assert_eq!(hear(&mut watch, ROUTER, 7, 110, S), Some(true));
        assert_eq!(hear(&mut watch, OTHER, 7, 100, S * 2), Some(true), "it will give way");
        // 3 s, and 146/256 of one.
        assert_eq!(watch.due(), S * 4 + S * 146 / 256);
        watch.wake(S * 4);
        assert_eq!(watch.up(), Some(true), "not yet");
        watch.wake(watch.due());
        assert_eq!(watch.up(), Some(false));
        assert_eq!(hear(&mut watch, OTHER, 7, 100, S * 5), Some(false));
        assert_eq!(hear(&mut watch, ROUTER, 7, 110, S * 6), Some(true));
        assert_eq!(hear(&mut watch, ROUTER, 7, 0, S * 7), Some(false), "resigned");
        assert_eq!(hear(&mut watch, OTHER, 7, 100, S * 7), Some(false));
    }

    #[test]
    fn where_nobody_speaks_it_is_known_after_a_while() {
        let mut watch = Watch::new(7, 2, ROUTER);
        watch.wake(S);
        assert_eq!(watch.up(), None);
        watch.wake(FIRST);
        assert_eq!(watch.up(), Some(false));
    }

    #[test]
    fn a_group_that_speaks_the_other_version_is_told_apart_from_a_silent_one() {
        let mut watch = Watch::new(7, 3, ROUTER);
        assert_eq!(watch.heard(&packet(2, ROUTER, 8, 110), Duration::ZERO), Err(Malformed::Version));
        watch.wake(FIRST);
        assert_eq!((watch.up(), watch.other_version()), (Some(false), None), "another group");
        assert_eq!(watch.heard(&packet(2, ROUTER, 7, 110), FIRST), Err(Malformed::Version));
        assert_eq!((watch.up(), watch.other_version()), (Some(false), Some(2)));
        assert_eq!(watch.heard(&packet(3, ROUTER, 7, 110), FIRST), Ok(()));
        assert_eq!((watch.up(), watch.other_version()), (Some(true), None));
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_stumble(packet in prop::collection::vec(any::<u8>(), 0..64), version in 2..=3_u8) {
            let mut watch = Watch::new(1, version, ROUTER);
            let _judged = watch.heard(&packet, S);
        }
    }
}
