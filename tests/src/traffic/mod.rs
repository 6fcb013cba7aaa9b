//! Traffic programs. Each runs as a process of its own inside a namespace (`csm-lab traffic ...`), is told what to do by
//! lines on its standard input and answers with one JSON line on its standard output.

pub mod download;
pub mod driver;
pub mod http;
pub mod message;
pub mod msg_client;
pub mod msg_server;
pub mod stream;
pub mod udp;

use serde::{Deserialize, Serialize};

/// A count over one bin of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bin {
    /// Begin of the bin, nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// What succeeded in it: answers to UDP probes sent in it, or requests completed in it.
    pub good: u32,
    /// What did not: probes sent in it and never answered, or requests that failed in it.
    pub bad: u32,
}

/// Width of a [`Bin`].
pub const BIN_NS: u64 = 10_000_000;

/// Counts events into consecutive bins from `from_ns` to `to_ns`; events outside are left out.
pub fn bins(from_ns: u64, to_ns: u64, events: impl Iterator<Item = (u64, bool)>) -> Vec<Bin> {
    let count = usize::try_from(to_ns.saturating_sub(from_ns) / BIN_NS).unwrap_or(0) + 1;
    let mut bins: Vec<Bin> =
        (0u64..).take(count).map(|n| Bin { at_ns: from_ns + n * BIN_NS, ..Bin::default() }).collect();
    for (at_ns, good) in events.filter(|(at_ns, _)| *at_ns >= from_ns) {
        let slot = usize::try_from((at_ns - from_ns) / BIN_NS).unwrap_or(usize::MAX);
        if let Some(bin) = bins.get_mut(slot) {
            if good { bin.good += 1 } else { bin.bad += 1 }
        }
    }
    bins
}

/// The lines of standard input, for a program whose own thread runs tasks.
pub(crate) fn commands() -> tokio::sync::mpsc::Receiver<String> {
    // The parent waits for each answer before it says the next.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Prints one JSON line for the parent.
pub(crate) fn say(report: &impl Serialize) -> anyhow::Result<()> {
    use std::io::Write;
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_fall_into_the_bin_of_their_time() {
        let events = [(5, true), (1_000, true), (BIN_NS + 1_000, false), (9 * BIN_NS, true)];
        let made = bins(1_000, BIN_NS + 2_000, events.into_iter());
        assert_eq!(
            made,
            [Bin { at_ns: 1_000, good: 1, bad: 0 }, Bin { at_ns: 1_000 + BIN_NS, good: 0, bad: 1 }]
        );
    }
}
