//! What the trials of the virtual MAC address found, beyond the end of the process: where it is of no use. Pure.
//!
//! A text that is read back, so that a box which starts alone, and has nobody to try it with, goes by what was found last:
//!
//! ```text
//! csm virtual MAC 1, checksum 9f0c...
//! vlan 3 port eth2 mac 02:00:00:00:00:0a tried 02:01:64:f9:01:0a lost
//! ```
//!
//! It holds the VLANs where frames are lost, no others. What is not of this version, damaged, or about another port or address
//! is nothing.

use std::fmt::Write as _;

use super::trial::Verdict;
use crate::model::fnv1a;

/// Begins the first line; the number is that of the format.
const MAGIC: &str = "csm virtual MAC 1, checksum ";

/// On what a trial was made: the finding counts for nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The VLAN.
    pub vlan: u16,
    /// Name of the port.
    pub port: String,
    /// Its own MAC address.
    pub mac: [u8; 6],
    /// The address that was tried, which is of the FT group and the node.
    pub tried: [u8; 6],
}

/// Frames with another address than the port's are lost there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub of: Tried,
    /// How.
    pub how: Verdict,
}

/// Whether `known` says of `of` that frames are lost.
#[must_use]
pub fn is_lost(known: &[Finding], of: &Tried) -> bool {
    known.iter().any(|finding| finding.of == *of)
}

/// What is to be kept once the trials have come to `now`: of what is not known again yet, what was known before.
#[must_use]
pub fn merge(before: &[Finding], now: impl IntoIterator<Item = (Tried, Verdict)>) -> Vec<Finding> {
    let kept = |of: Tried, verdict: Verdict| match verdict {
        Verdict::Unknown => before.iter().find(|finding| finding.of == of).cloned(),
        Verdict::Passes => None,
        how @ (Verdict::LostOnTheWay | Verdict::NotDelivered) => Some(Finding { of, how }),
    };
    now.into_iter().filter_map(|(of, verdict)| kept(of, verdict)).collect()
}

/// As a file's octets.
#[must_use]
pub fn encode(findings: &[Finding]) -> Vec<u8> {
    let mut body = String::new();
    for Finding { of: Tried { vlan, port, mac, tried }, how } in findings {
        let how = if *how == Verdict::NotDelivered { "undelivered" } else { "lost" };
        let (mac, tried) = (colons(*mac), colons(*tried));
        // Writing to a string cannot fail.
        let _ = writeln!(body, "vlan {vlan} port {port} mac {mac} tried {tried} {how}");
    }
    format!("{MAGIC}{:016x}\n{body}", fnv1a(body.as_bytes())).into_bytes()
}

/// What a file of these octets holds; `None` if it is damaged, or none of this version.
#[must_use]
pub fn decode(octets: &[u8]) -> Option<Vec<Finding>> {
    let (head, body) = std::str::from_utf8(octets).ok()?.split_once('\n')?;
    let sum = u64::from_str_radix(head.strip_prefix(MAGIC)?, 16).ok()?;
    (sum == fnv1a(body.as_bytes())).then(|| body.lines().map(line).collect())?
}

fn line(line: &str) -> Option<Finding> {
    let mut words = line.split(' ');
    let mut value = |name| (words.next() == Some(name)).then(|| words.next())?;
    let (vlan, port, mac, tried) = (value("vlan")?, value("port")?, value("mac")?, value("tried")?);
    let how = match words.next()? {
        "lost" => Verdict::LostOnTheWay,
        "undelivered" => Verdict::NotDelivered,
        _ => return None,
    };
    let of =
        Tried { vlan: vlan.parse().ok()?, port: port.to_owned(), mac: octets(mac)?, tried: octets(tried)? };
    words.next().is_none().then_some(Finding { of, how })
}

fn colons(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn octets(text: &str) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    octets?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(vlan: u16) -> Tried {
        Tried { vlan, port: "eth2".into(), mac: [2, 0, 0, 0, 0, 0xa], tried: [2, 1, 0x64, 0xf9, 1, 0xa] }
    }

    fn lost(vlan: u16) -> Finding {
        Finding { of: tried(vlan), how: Verdict::LostOnTheWay }
    }

    #[test]
    fn what_was_written_is_read_and_any_octet_changed_is_noticed() {
        let findings = [lost(3), Finding { how: Verdict::NotDelivered, ..lost(4094) }];
        let octets = encode(&findings);
        assert!(octets.ends_with(
            b"vlan 3 port eth2 mac 02:00:00:00:00:0a tried 02:01:64:f9:01:0a lost\n\
              vlan 4094 port eth2 mac 02:00:00:00:00:0a tried 02:01:64:f9:01:0a undelivered\n"
        ));
        assert_eq!(decode(&octets), Some(findings.to_vec()));
        assert_eq!(decode(&encode(&[])), Some(Vec::new()));
        for at in 0..octets.len() {
            assert_eq!(decode(&octets[..at]), None, "{at}");
            let mut other = octets.clone();
            other[at] ^= 1;
            assert_eq!(decode(&other), None, "{at}");
        }
        // Of a later version, though whole.
        let body = "vlan 3 port eth2 mac 02:00:00:00:00:0a tried 02:01:64:f9:01:0a lost now\n";
        let longer = format!("{MAGIC}{:016x}\n{body}", fnv1a(body.as_bytes()));
        assert_eq!(decode(longer.as_bytes()), None);
    }

    #[test]
    fn a_finding_counts_for_its_port_and_addresses_alone() {
        let known = [lost(3)];
        assert!(is_lost(&known, &tried(3)));
        for other in [
            tried(4),
            Tried { port: "eth3".into(), ..tried(3) },
            Tried { mac: [2, 0, 0, 0, 0, 0xb], ..tried(3) },
            Tried { tried: [2, 1, 0x64, 0xf9, 2, 0xa], ..tried(3) },
        ] {
            assert!(!is_lost(&known, &other), "{other:?}");
            assert_eq!(merge(&known, [(other, Verdict::Unknown)]), []);
        }
    }

    #[test]
    fn what_was_found_stays_until_a_trial_says_otherwise() {
        let known = [lost(3), lost(4), lost(5)];
        let now = [
            (tried(3), Verdict::Unknown),
            (tried(4), Verdict::Passes),
            (tried(5), Verdict::NotDelivered),
            (tried(6), Verdict::LostOnTheWay),
            (tried(7), Verdict::Unknown),
        ];
        let kept = merge(&known, now);
        assert_eq!(kept, [lost(3), Finding { how: Verdict::NotDelivered, ..lost(5) }, lost(6)]);
    }
}
