//! Names of ports, as IOS prints them.

use crate::model::Transport;

/// Name, port, and the transport that `show` prints the name for (`None`: either).
const SERVICES: &[(&str, u16, Option<Transport>)] = &[
    ("www", 80, Some(Transport::Tcp)),
    ("https", 443, Some(Transport::Tcp)),
    ("telnet", 23, Some(Transport::Tcp)),
    ("ssh", 22, Some(Transport::Tcp)),
    ("ftp", 21, Some(Transport::Tcp)),
    ("smtp", 25, Some(Transport::Tcp)),
    ("pop3", 110, Some(Transport::Tcp)),
    ("imap", 143, Some(Transport::Tcp)),
    ("ldap", 389, Some(Transport::Tcp)),
    ("domain", 53, None),
    ("tftp", 69, Some(Transport::Udp)),
    ("ntp", 123, Some(Transport::Udp)),
    ("snmp", 161, Some(Transport::Udp)),
    ("syslog", 514, Some(Transport::Udp)),
    // Read, never printed: the names above are preferred.
    ("http", 80, Some(Transport::Tcp)),
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

/// `port` as a configuration prints it: its name if it has one on `transport`.
#[must_use]
pub fn name(port: u16, transport: Transport) -> String {
    let known = SERVICES.iter().find(|(name, number, on)| {
        *number == port && on.is_none_or(|on| on == transport) && !SYNONYMS.contains(name)
    });
    known.map_or_else(|| port.to_string(), |(name, ..)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_reads_back_from_its_printed_name() {
        for number in 0..=u16::MAX {
            for transport in [Transport::Tcp, Transport::Udp] {
                let printed = name(number, transport);
                assert_eq!(port(&printed).or_else(|| printed.parse().ok()), Some(number), "{printed}");
            }
        }
        assert_eq!(name(80, Transport::Tcp), "www");
        assert_eq!(name(80, Transport::Udp), "80");
    }
}
