//! Names of ports, as IOS prints them.

use crate::model::Protocol;

/// Name, port, and the protocol that `show` prints the name for (`None`: either).
const SERVICES: &[(&str, u16, Option<Protocol>)] = &[
    ("www", 80, Some(Protocol::TCP)),
    ("https", 443, Some(Protocol::TCP)),
    ("telnet", 23, Some(Protocol::TCP)),
    ("ssh", 22, Some(Protocol::TCP)),
    ("ftp", 21, Some(Protocol::TCP)),
    ("smtp", 25, Some(Protocol::TCP)),
    ("pop3", 110, Some(Protocol::TCP)),
    ("imap", 143, Some(Protocol::TCP)),
    ("ldap", 389, Some(Protocol::TCP)),
    ("domain", 53, None),
    ("tftp", 69, Some(Protocol::UDP)),
    ("ntp", 123, Some(Protocol::UDP)),
    ("snmp", 161, Some(Protocol::UDP)),
    ("syslog", 514, Some(Protocol::UDP)),
    // Read, never printed: the names above are preferred.
    ("http", 80, Some(Protocol::TCP)),
    ("dns", 53, None),
    ("any", 0, None),
];

/// Services that are read but not printed.
const SYNONYMS: &[&str] = &["http", "dns", "any"];

/// Port called `word`, in any case.
#[must_use]
pub fn port(word: &str) -> Option<u16> {
    SERVICES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(word)).map(|&(_, port, _)| port)
}

/// `port` as a configuration prints it: its name if it has one on `protocol`.
#[must_use]
pub fn name(port: u16, protocol: Protocol) -> String {
    let known = SERVICES.iter().find(|(name, number, on)| {
        *number == port && on.is_none_or(|on| on == protocol) && !SYNONYMS.contains(name)
    });
    known.map_or_else(|| port.to_string(), |(name, ..)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_reads_back_from_its_printed_name() {
        for number in 0..=u16::MAX {
            for protocol in [Protocol::TCP, Protocol::UDP] {
                let printed = name(number, protocol);
                assert_eq!(port(&printed).or_else(|| printed.parse().ok()), Some(number), "{printed}");
            }
        }
        assert_eq!(name(80, Protocol::TCP), "www");
        assert_eq!(name(80, Protocol::UDP), "80");
    }
}
