//! Judgements on what the lab has seen. Each has a negative control that must make it fire.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use csm_user::ft::envelope;
use csm_user::ft::wire::Message;

use crate::capture::Frame;
use crate::ports::Sample;
use crate::topology::Side;
use crate::traffic::BIN_NS;

/// Intervals of 10 ms with many frames that a node without the role may have.
const BURSTS: usize = 2;

/// A hardware address.
pub type Mac = [u8; 6];

/// "This address is at this MAC": an ARP reply or announcement, or a request, which teaches its receivers the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// When the switch saw it, nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Which node said it.
    pub by: Side,
    /// The address claimed.
    pub address: Ipv4Addr,
    /// Where it is said to be.
    pub mac: Mac,
    /// Whether nobody had asked (RFC 5944 4.6: sender and target address are equal).
    pub announcement: bool,
}

/// The claims for `addresses` that nodes made.
pub fn claims(frames: &[Frame], addresses: &[Ipv4Addr]) -> Vec<Claim> {
    let made = frames.iter().filter_map(|frame| {
        let by = sender(frame)?;
        let arp = Arp::parse(&frame.bytes)?;
        let announcement = arp.sender == arp.target;
        Some(Claim { at_ns: frame.at_ns, by, address: arp.sender, mac: arp.sender_mac, announcement })
    });
    made.filter(|claim| addresses.contains(&claim.address)).collect()
}

/// ARP over Ethernet for IPv4 (RFC 826).
struct Arp {
    sender: Ipv4Addr,
    sender_mac: Mac,
    target: Ipv4Addr,
}

impl Arp {
    fn parse(frame: &[u8]) -> Option<Self> {
        // Ethertype ARP; hardware Ethernet, protocol IPv4, lengths 6 and 4.
        if frame.get(12..20)? != [0x08, 0x06, 0, 1, 0x08, 0, 6, 4] {
            return None;
        }
        let address = |at: usize| {
            frame.get(at..).and_then(|rest| rest.first_chunk::<4>()).map(|&four| Ipv4Addr::from(four))
        };
        Some(Self {
            sender: address(28)?,
            sender_mac: *frame.get(22..)?.first_chunk()?,
            target: address(38)?,
        })
    }
}

/// A message of the FT group that a node sent.
#[derive(Debug, Clone, Copy)]
pub struct Said {
    /// When the switch saw it, nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Which node said it.
    pub by: Side,
    /// What it said.
    pub message: Message,
    /// The newest version of the protocol that it said it speaks.
    pub newest: u8,
}

/// The FT messages among `frames`.
pub fn heartbeats(frames: &[Frame]) -> Vec<Said> {
    let said = frames.iter().filter_map(|frame| {
        // Ethernet, IPv6 without extension headers, UDP.
        let bytes = &frame.bytes;
        let is_ours = bytes.get(12..14)? == [0x86, 0xdd]
            && *bytes.get(20)? == 17
            && bytes.get(56..58)? == csm_user::ft::task::PORT.to_be_bytes();
        let (message, envelope, ..) = envelope::open(bytes.get(62..)?).ok().filter(|_| is_ours)?;
        Some(Said { at_ns: frame.at_ns, by: sender(frame)?, message, newest: envelope.newest })
    });
    said.collect()
}

/// Whose port of the switch a frame came in by.
pub(crate) fn sender(frame: &Frame) -> Option<Side> {
    let port = frame.port.strip_prefix("sw-")?;
    Side::BOTH.into_iter().find(|side| port.starts_with(side.letter()))
}

/// What a node said and did for the group from `since_ns` on that only its active node may: claims, and forwarded frames
/// in the samples of that time. Empty when it was silent.
pub fn not_silent(claims: &[Claim], samples: &[Sample], side: Side, since_ns: u64) -> Vec<String> {
    let mut faults = Vec::new();
    let answers = claims.iter().filter(|claim| claim.by == side && claim.at_ns >= since_ns).count();
    if answers > 0 {
        faults.push(format!("{side:?} answered {answers} times for addresses that it does not have"));
    }
    let forwarding =
        samples.iter().filter(|sample| sample.at_ns >= since_ns && sample.forwarded(side)).count();
    // Its own neighbour discovery may come in a burst.
    if forwarding > BURSTS {
        faults.push(format!("{side:?} forwarded in {forwarding} intervals of 10 ms"));
    }
    faults
}

/// Addresses for which clients were told more than one MAC.
pub fn two_macs(claims: &[Claim]) -> BTreeMap<Ipv4Addr, BTreeSet<Mac>> {
    let mut told: BTreeMap<Ipv4Addr, BTreeSet<Mac>> = BTreeMap::new();
    for claim in claims {
        told.entry(claim.address).or_default().insert(claim.mac);
    }
    told.retain(|_, macs| macs.len() > 1);
    told
}

/// Who spoke for an address, in order, repetitions left out: one entry for a quiet time, two for one move of the role.
/// More means that both nodes answered for it.
pub fn speakers(claims: &[Claim], address: Ipv4Addr) -> Vec<Side> {
    let mut speakers: Vec<Side> =
        claims.iter().filter(|claim| claim.address == address).map(|claim| claim.by).collect();
    speakers.dedup();
    speakers
}

/// What is wrong with the claims of a time in which the role moved at most `moves` times; empty when nothing is.
pub fn arp_faults(claims: &[Claim], moves: usize) -> Vec<String> {
    let mut faults: Vec<String> = two_macs(claims)
        .iter()
        .map(|(address, macs)| {
            let list: Vec<String> = macs.iter().map(show_mac).collect();
            format!("{address} was answered for by {}", list.join(" and "))
        })
        .collect();
    let addresses: BTreeSet<Ipv4Addr> = claims.iter().map(|claim| claim.address).collect();
    for address in addresses {
        let speakers = speakers(claims, address);
        if speakers.len() > moves + 1 {
            faults.push(format!("{address} was answered for by both nodes: {speakers:?}"));
        }
    }
    faults
}

/// For how long the old active node still forwarded after the new one had begun. Neighbouring samples may overlap where the
/// role moves, so the first one does not count.
pub fn overlap(samples: &[Sample], old: Side) -> Duration {
    let new_began = samples.iter().position(|sample| sample.forwarded(old.peer())).unwrap_or(samples.len());
    let both = samples.iter().skip(new_began + 1).filter(|sample| sample.forwarded(old)).count();
    Duration::from_nanos(BIN_NS) * u32::try_from(both).unwrap_or(u32::MAX)
}

/// Colon notation.
pub fn show_mac(mac: &Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use csm_user::ft::keyring::Keyring;

    use super::*;
    use crate::topology::{ALIAS, VIP};

    const VIRTUAL: Mac = [0x00, 0x02, 0xfc, 0, 0, 1];
    const OTHER: Mac = [0x02, 0, 0, 0, 0, 9];

    fn arp(at_ns: u64, port: &str, sender: Ipv4Addr, mac: Mac) -> Frame {
        let mut bytes = vec![0xff; 6];
        bytes.extend(mac);
        bytes.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2]);
        bytes.extend(mac);
        bytes.extend(sender.octets());
        bytes.extend([0; 6]);
        bytes.extend(sender.octets());
        Frame { at_ns, port: port.into(), bytes }
    }

    fn judge(frames: &[Frame], moves: usize) -> Vec<String> {
        arp_faults(&claims(frames, &[VIP, ALIAS]), moves)
    }

    #[test]
    fn a_few_frames_in_a_long_interval_are_no_forwarding() {
        let sample = |length_ns| Sample { at_ns: 0, length_ns, frames: [3, 30] };
        assert!(sample(BIN_NS).forwarded(Side::A) && sample(BIN_NS / 2).forwarded(Side::A));
        assert!(!sample(2 * BIN_NS).forwarded(Side::A) && sample(10 * BIN_NS).forwarded(Side::B));
    }

    #[test]
    fn one_move_with_one_mac_is_right() {
        let frames =
            [arp(1, "sw-a1", VIP, VIRTUAL), arp(2, "sw-a2", ALIAS, VIRTUAL), arp(3, "sw-b1", VIP, VIRTUAL)];
        assert_eq!(judge(&frames, 1), Vec::<String>::new());
        assert_eq!(judge(&frames, 0).len(), 1, "without a move in that time it is a second speaker");
    }

    #[test]
    fn a_second_mac_is_named() {
        let frames = [arp(1, "sw-a1", VIP, VIRTUAL), arp(2, "sw-b1", VIP, OTHER)];
        assert_eq!(
            judge(&frames, 1),
            ["192.158.38.30 was answered for by 00:02:fc:00:00:01 and 02:00:00:00:00:09"]
        );
    }

    #[test]
    fn an_old_active_that_answers_again_is_noticed_although_the_mac_is_the_same() {
        let frames = ["sw-a1", "sw-b1", "sw-a1"].map(|port| arp(1, port, VIP, VIRTUAL));
        assert_eq!(judge(&frames, 1), ["192.158.38.30 was answered for by both nodes: [A, B, A]"]);
    }

    #[test]
    fn servers_and_routers_speak_for_themselves() {
        let frames = [arp(1, "sw-s1", ALIAS, OTHER), arp(2, "sw-a2", ALIAS, VIRTUAL)];
        assert_eq!(judge(&frames, 0), Vec::<String>::new());
    }

    #[test]
    fn a_woken_node_that_forwards_is_noticed() {
        let frames = [[30, 0], [30, 0], [0, 0], [4, 20], [0, 30], [0, 30], [25, 30], [1, 30]];
        let samples: Vec<Sample> = (0..)
            .zip(frames)
            .map(|(at, frames)| Sample { at_ns: at * BIN_NS, length_ns: BIN_NS, frames })
            .collect();
        assert_eq!(overlap(&samples, Side::A), Duration::from_millis(10));
        assert_eq!(overlap(&samples[..6], Side::A), Duration::ZERO);
        assert_eq!(overlap(&samples[..3], Side::A), Duration::ZERO);
    }

    #[test]
    fn an_answer_or_a_forwarded_frame_breaks_silence_but_a_burst_of_its_own_does_not() {
        let claimed = claims(&[arp(5, "sw-a1", VIP, VIRTUAL)], &[VIP]);
        assert_eq!(not_silent(&claimed, &[], Side::A, 5).len(), 1);
        assert_eq!(not_silent(&claimed, &[], Side::A, 6).len(), 0);
        assert_eq!(not_silent(&claimed, &[], Side::B, 0).len(), 0);
        let samples = |busy: u64| {
            (0..busy).map(|at_ns| Sample { at_ns, length_ns: BIN_NS, frames: [10, 0] }).collect::<Vec<_>>()
        };
        assert_eq!(not_silent(&[], &samples(2), Side::A, 0).len(), 0);
        assert_eq!(not_silent(&[], &samples(3), Side::A, 0).len(), 1);
    }

    #[test]
    fn heartbeats_are_read_off_the_wire_and_nothing_else_is() {
        let election = csm_user::ft::election::Election::new(csm_user::ft::election::Params {
            group: 1,
            node: 7,
            nonce: 8,
            priority: 20,
            preempt: false,
            heartbeat: Duration::from_millis(50),
            failover: Duration::from_millis(150),
            lease: Duration::from_micros(123_333),
            hold: csm_user::ft::wire::HOLD_MAX,
            proven_only: false,
            witness: false,
            damping: Duration::ZERO,
            mac: OTHER,
            config_checksum: 0,
            software_checksum: 0,
        });
        let message = election.message(csm_user::ft::wire::Kind::Heartbeat);
        let mut bytes = vec![0; 62];
        bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
        bytes[20] = 17;
        bytes[56..58].copy_from_slice(&21_985_u16.to_be_bytes());
        bytes.extend(envelope::seal(&message, [0; envelope::PATHS_MAX], &Keyring::default()));
        let frame = |bytes: &[u8]| Frame { at_ns: 3, port: "sw-b3".into(), bytes: bytes.to_vec() };
        let said = heartbeats(&[frame(&bytes)]);
        assert_eq!(said.len(), 1);
        assert_eq!((said[0].at_ns, said[0].by, said[0].message), (3, Side::B, message));
        for changed in [12, 20, 57, 70] {
            let mut other = bytes.clone();
            other[changed] ^= 1;
            assert!(heartbeats(&[frame(&other)]).is_empty(), "byte {changed}");
        }
        assert!((0..bytes.len()).all(|length| heartbeats(&[frame(&bytes[..length])]).is_empty()));
    }

    #[test]
    fn truncated_frames_claim_nothing() {
        let whole = arp(1, "sw-a1", VIP, VIRTUAL);
        for length in 0..whole.bytes.len() {
            let part = Frame { bytes: whole.bytes[..length].to_vec(), ..whole.clone() };
            assert_eq!(claims(&[part], &[VIP]), []);
        }
    }
}
