//! Neighbours that the configuration knows.

use std::net::IpAddr;

use super::VlanId;

/// `arp A MAC vlan N`: a host whose MAC address is not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticArp {
    /// Its address, of either family.
    pub address: IpAddr,
    /// Its MAC address, a single host's.
    pub mac: [u8; 6],
    /// VLAN it is on.
    pub vlan: VlanId,
}

/// A host's MAC address in any of the usual forms (`0002.fcbe.2e01`, `00:02:fc:be:2e:01`, `00-02-fc-be-2e-01`); `None` if it is none, all
/// zeros, or that of a group.
#[must_use]
pub fn host_mac(text: &str) -> Option<[u8; 6]> {
    let parts: Vec<&str> = text.split(['.', ':', '-']).collect();
    let digits = match parts.len() {
        3 if text.matches('.').count() == 2 => 4,
        6 if text.matches(':').count() == 5 || text.matches('-').count() == 5 => 2,
        _ => return None,
    };
    let is_part = |part: &&str| part.len() == digits && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = Some(parts).filter(|parts| parts.iter().all(is_part))?.concat();
    let [_, _, mac @ ..] = u64::from_str_radix(&number, 16).ok()?.to_be_bytes();
    (mac != [0; 6] && mac[0] & 1 == 0).then_some(mac)
}

/// `mac` as IOS writes it: `0002.fcbe.2e01`.
#[must_use]
pub fn written_mac(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}{b:02x}.{c:02x}{d:02x}.{e:02x}{f:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_is_read_in_three_forms_and_a_groups_is_none() {
        let mac = [0x00, 0x02, 0xfc, 0xbe, 0x2e, 0x01];
        for text in ["0002.fcbe.2e01", "00:02:FC:be:2e:01", "00-02-fc-be-2e-01"] {
            assert_eq!(host_mac(text), Some(mac), "{text}");
        }
        assert_eq!(host_mac(&written_mac(mac)), Some(mac));
        let bad = [
            "",
            "0002.fcbe",
            "0002.fcbe.2e0",
            "0002:fcbe:2e01",
            "00:02:fc.be:2e:01",
            "0002.fcbe.2e+1",
            "0100.5e00.0001",
            "ffff.ffff.ffff",
            "0000.0000.0000",
            "00:02:fc:be:2e:0001",
        ];
        for text in bad {
            assert_eq!(host_mac(text), None, "{text}");
        }
    }
}
