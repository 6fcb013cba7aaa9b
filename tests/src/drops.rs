//! Where a lab's frames can end: at its links and sockets, of which the product knows nothing, and at the nodes, by reason.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::netns::Netns;
use crate::topology::{Side, Topology};
use crate::traffic::stream::counter;

/// Frames dropped so far, by namespace, interface and direction; datagrams that a namespace's sockets had no room for; and what each node counts as
/// dropped. A frame that a full link refuses an XDP program is in it twice, as not sent at one end and not received at the other; and links
/// count what nobody listens to, as frames of unknown types that are sent to all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drops(BTreeMap<String, u64>);

impl Drops {
    /// As the kernel counts now.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn read(lab: &mut Lab) -> Result<Self> {
        let Topology { switch, nodes, router, client, servers, .. } = &lab.topology;
        let all = [switch, router, client].into_iter().chain(nodes).chain(servers);
        let mut found = BTreeMap::new();
        for netns in all {
            found.extend(of(netns)?);
        }
        for side in Side::BOTH {
            // One that is being restarted counts from its start.
            let stats = lab.node(side).show("stats").unwrap_or_default();
            let reasons = stats["reasons"].as_array().into_iter().flatten();
            for reason in reasons.filter(|reason| reason["verdict"] == "drop") {
                let (name, packets) = (reason["reason"].as_str(), reason["packets"].as_u64());
                let (name, packets) = name.zip(packets).context("a reason without a name or a number")?;
                found.insert(format!("{}:{name}", side.letter()), packets);
            }
        }
        Ok(Self(found))
    }

    /// What came since `before`, of nothing but what did.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let came = |(name, now): (&String, &u64)| {
            let came = now.saturating_sub(before.0.get(name).copied().unwrap_or(0));
            (came > 0).then(|| (name.clone(), came))
        };
        Self(self.0.iter().filter_map(came).collect())
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name.clone()).or_default() += count;
        }
    }

    /// In one line; empty if there are none.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = String::new();
        for (name, count) in &self.0 {
            let _ = write!(line, "{}{name} {count}", if line.is_empty() { "" } else { ", " });
        }
        line
    }
}

fn of(netns: &Netns) -> Result<Vec<(String, u64)>> {
    let read = |file: &str| {
        let text = netns.within(|| fs::read_to_string(format!("/proc/thread-self/net/{file}")))?;
        text.with_context(|| format!("/proc/net/{file} of {}", netns.name()))
    };
    let (links, sockets) = (read("dev")?, read("snmp")?);
    let role = netns.name().rsplit('-').next().unwrap_or_default();
    let sockets =
        counter(&sockets, "Udp:", "RcvbufErrors").map(|count| ("full UDP sockets".to_owned(), count));
    Ok(parse(&links)
        .into_iter()
        .chain(sockets)
        .map(|(what, count)| (format!("{role}:{what}"), count))
        .collect())
}

/// Of `/proc/net/dev`: interface and direction, and what was dropped.
fn parse(text: &str) -> Vec<(String, u64)> {
    const RECEIVED: usize = 3;
    const SENT: usize = 11;
    let mut found = Vec::new();
    for (name, values) in text.lines().filter_map(|line| line.split_once(':')) {
        let values: Vec<u64> = values.split_whitespace().filter_map(|value| value.parse().ok()).collect();
        for (at, direction) in [(RECEIVED, "in"), (SENT, "out")] {
            if let Some(count) = values.get(at) {
                found.push((format!("{} {direction}", name.trim()), *count));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_found_in_both_directions_and_only_new_ones_are_told() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
                    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n  \
                    sw-a1: 1116       8    1    7    2     3          4         5      906       9    6   12    0     0       0          0\n";
        let found = parse(text);
        assert_eq!(found[2..], [("sw-a1 in".to_owned(), 7), ("sw-a1 out".to_owned(), 12)]);
        let drops = |found: Vec<(String, u64)>| Drops(found.into_iter().collect());
        let mut now = drops(found);
        assert_eq!(now.since(&drops(vec![("sw-a1 in".into(), 3)])).line(), "sw-a1 in 4, sw-a1 out 12");
        assert_eq!(now.since(&now).line(), "");
        now.add(&drops(vec![("sw-a1 in".into(), 1)]));
        assert_eq!(now.line(), "lo in 0, lo out 0, sw-a1 in 8, sw-a1 out 12");
    }
}
