//! Walks of packets, put together from the lines that the traced form of the program tells (`csm-ebpf/src/trace.rs`). Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use csm_common::counter::Reason;
use csm_common::flow::NONE;

/// Walks that are under way at a time: one for each CPU, of any host.
const CPUS_MAX: usize = 4096;

/// Addresses and ports of a packet, and its protocol; ARP has protocol 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source, ports 0 where there are none.
    pub source: (IpAddr, u16),
    /// Destination.
    pub destination: (IpAddr, u16),
    /// IP protocol.
    pub protocol: u8,
}

/// A connection's entry, as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// In the table of proven connections, not of half-open ones.
    pub proven: bool,
    /// One of `STATE_*` of `csm_common::flow`.
    pub state: u8,
    /// Number of its virtual server.
    pub vserver: Option<u32>,
    /// Number of its real.
    pub real: Option<u32>,
}

/// The walk of one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// CLOCK_MONOTONIC, ns; 0: told only from its end.
    pub at_ns: u64,
    /// VLAN it came in on.
    pub vlan: Option<u16>,
    /// Octets of the frame as it came, without a tag.
    pub octets: u32,
    /// As it came.
    pub came: Option<Header>,
    /// What was known of its connection.
    pub before: Option<Found>,
    /// What is known of it now.
    pub after: Option<Found>,
    /// As it left, if it is still a packet.
    pub left: Option<Header>,
    /// MAC addresses as it left: destination, source.
    pub ethernet: Option<(String, String)>,
    /// What ended it.
    pub reason: Reason,
}

#[derive(Debug, Default)]
struct Draft {
    at_ns: u64,
    vlan: Option<u16>,
    octets: u32,
    headers: Vec<Header>,
    found: Vec<Option<Found>>,
    ethernet: Option<(String, String)>,
}

/// Puts lines together. A CPU tells of one packet after the other; the lines of several CPUs are mixed.
#[derive(Debug, Default)]
pub struct Assembler {
    drafts: BTreeMap<u32, Draft>,
}

impl Assembler {
    /// One line; a walk if it was the last one of it. What does not look like one of ours is left out.
    pub fn line(&mut self, line: &str) -> Option<Walk> {
        let mut words = line.split_whitespace();
        let cpu: u32 = words.next()?.parse().ok()?;
        let kind = words.next()?;
        let words: Vec<&str> = words.collect();
        if self.drafts.len() >= CPUS_MAX {
            self.drafts.clear();
        }
        let draft = self.drafts.entry(cpu).or_default();
        match kind {
            "begin" => {
                *draft = Draft {
                    at_ns: value(&words, "ns")?,
                    vlan: Some(value(&words, "vlan")?),
                    octets: value(&words, "octets")?,
                    ..Draft::default()
                };
            }
            "packet" => draft.headers.push(header(&words)?),
            "flow" => draft.found.push(found(&words)),
            "end" => {
                let number: usize = value(&words, "reason")?;
                let mut draft = self.drafts.remove(&cpu)?;
                draft.ethernet = words.first().zip(words.get(1)).map(|(d, s)| ((*d).into(), (*s).into()));
                return Reason::ALL.get(number).map(|&reason| draft.end(reason));
            }
            _ => {}
        }
        None
    }
}

impl Draft {
    fn end(self, reason: Reason) -> Walk {
        let Self { at_ns, vlan, octets, headers, found, ethernet } = self;
        let mut headers = headers.into_iter();
        let mut found = found.into_iter();
        // Told only from its end: all there is is how it left.
        let (came, before) =
            if vlan.is_some() { (headers.next(), found.next().flatten()) } else { (None, None) };
        Walk {
            at_ns,
            vlan,
            octets,
            came,
            before,
            after: found.next().flatten(),
            left: headers.next(),
            ethernet,
            reason,
        }
    }
}

fn value<T: std::str::FromStr>(words: &[&str], key: &str) -> Option<T> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

fn header(words: &[&str]) -> Option<Header> {
    let [source, sport, destination, dport, ..] = words else { return None };
    Some(Header {
        source: (source.parse().ok()?, sport.parse().ok()?),
        destination: (destination.parse().ok()?, dport.parse().ok()?),
        protocol: value(words, "proto")?,
    })
}

fn found(words: &[&str]) -> Option<Found> {
    let number = |key| value(words, key).filter(|&number: &u32| number != NONE);
    let table: u8 = value(words, "table").filter(|&table| table != 0)?;
    Some(Found {
        proven: table == 1,
        state: value(words, "state")?,
        vserver: number("vserver"),
        real: number("real"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALK: [&str; 6] = [
        "1 begin ns=77 vlan=2 octets=74",
        "1 packet 192.0.2.1 40012 192.0.2.9 80 proto=6",
        "1 flow table=0 state=0 vserver=0 real=0",
        "1 flow table=2 state=1 vserver=3 real=4294967295",
        "1 packet 192.0.2.1 40012 198.51.100.1 8080 proto=6",
        "1 end 02:00:00:00:00:01 00:01:64:f9:1a:01 reason=1",
    ];

    fn walk(lines: &[&str]) -> Vec<Walk> {
        let mut assembler = Assembler::default();
        lines.iter().filter_map(|line| assembler.line(line)).collect()
    }

    #[test]
    fn the_lines_of_a_packet_become_its_walk() {
        let walks = walk(&WALK);
        let [walk] = &walks[..] else { panic!("{walks:?}") };
        assert_eq!((walk.at_ns, walk.vlan, walk.octets), (77, Some(2), 74));
        assert_eq!(walk.came.map(|header| header.destination.1), Some(80));
        assert_eq!(walk.before, None);
        let after = walk.after.expect("an entry");
        assert_eq!((after.proven, after.state, after.vserver, after.real), (false, 1, Some(3), None));
        assert_eq!(
            walk.left.map(|header| header.destination),
            Some(("198.51.100.1".parse().expect("one"), 8080))
        );
        assert_eq!(walk.ethernet.as_ref().map(|pair| pair.0.as_str()), Some("02:00:00:00:00:01"));
        assert_eq!(walk.reason, Reason::ALL[1]);
    }

    #[test]
    fn so_do_those_of_ipv6() {
        let lines = ["1 packet fd00:20::100 40012 fd00:38::30 80 proto=6", WALK[5]];
        let walks = walk(&lines);
        assert_eq!(
            walks[0].left.map(|left| left.source),
            Some(("fd00:20::100".parse().expect("one"), 40012))
        );
    }

    #[test]
    fn the_lines_of_two_cpus_are_told_apart() {
        let other: Vec<String> = WALK.iter().map(|line| line.replacen('1', "0", 1)).collect();
        let mixed: Vec<&str> = WALK.iter().zip(&other).flat_map(|(a, b)| [*a, b.as_str()]).collect();
        let walks = walk(&mixed);
        assert_eq!(walks.len(), 2);
        assert_eq!(walks[0], walks[1]);
    }

    #[test]
    fn an_answer_is_told_from_its_end() {
        let walks = walk(&WALK[4..]);
        assert_eq!((walks[0].vlan, walks[0].came, walks[0].before, walks[0].after), (None, None, None, None));
        assert!(walks[0].left.is_some());
    }

    #[test]
    fn what_is_no_line_of_ours_is_left_out() {
        for odd in
            ["", "x", "1", "1 end", "1 end reason=9999", "1 begin ns=x", "1 packet 1 2 3", "-1 end reason=0"]
        {
            assert_eq!(walk(&[odd]), [], "{odd}");
        }
    }
}
