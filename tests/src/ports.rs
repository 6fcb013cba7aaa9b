//! Who forwards, as the switch counts it: frames that come in by each node's port on the client VLAN, every 10 ms.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::netns::Netns;
use crate::topology::Side;
use crate::traffic::BIN_NS;
use crate::wait::now_ns;

/// Frames that came from each node towards the clients in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// End of the interval, nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Of the interval, nanoseconds: 10 ms, and more where the thread that counts was late.
    pub length_ns: u64,
    /// From A and from B.
    pub frames: [u64; 2],
}

impl Sample {
    /// A node without the role still sends ARP, probes and discovery of its own: a few frames a second. One that forwards
    /// sends hundreds; three in 10 ms tell them apart.
    const FORWARDING: u64 = 3;

    /// Whether a node forwarded in this interval.
    pub fn forwarded(&self, side: Side) -> bool {
        let length = self.length_ns.max(BIN_NS);
        self.frames[usize::from(side == Side::B)] * BIN_NS >= Self::FORWARDING * length
    }
}

/// Counts until it is dropped.
#[derive(Debug)]
pub struct PortWatch {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PortWatch {
    /// Starts to count on the switch's ports `sw-a1` and `sw-b1`.
    pub fn start(switch: &Netns) -> Result<Self> {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (kept, ended) = (Arc::clone(&samples), Arc::clone(&stop));
        // `/proc/net` follows the thread, so the file is opened inside and read from anywhere.
        let mut counters = switch.within(|| std::fs::File::open("/proc/thread-self/net/dev"))??;
        let thread = std::thread::spawn(move || {
            let mut before: Option<([u64; 2], u64)> = None;
            while !ended.load(Ordering::Relaxed) {
                if let Some(now) = read(&mut counters) {
                    let at_ns = now_ns();
                    if let Some((before, since_ns)) = before {
                        let frames = [now[0].saturating_sub(before[0]), now[1].saturating_sub(before[1])];
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        kept.push(Sample { at_ns, length_ns: at_ns.saturating_sub(since_ns), frames });
                    }
                    before = Some((now, at_ns));
                }
                std::thread::sleep(Duration::from_nanos(BIN_NS));
            }
        });
        Ok(Self { samples, stop, thread: Some(thread) })
    }

    /// Samples from `from_ns` to `to_ns`.
    pub fn samples(&self, from_ns: u64, to_ns: u64) -> Vec<Sample> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().filter(|sample| (from_ns..to_ns).contains(&sample.at_ns)).copied().collect()
    }
}

impl Drop for PortWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(counters: &mut std::fs::File) -> Option<[u64; 2]> {
    use std::io::{Read, Seek, SeekFrom};
    let mut text = String::new();
    counters.seek(SeekFrom::Start(0)).ok()?;
    counters.read_to_string(&mut text).ok()?;
    Some([received(&text, &Side::A.port(1))?, received(&text, &Side::B.port(1))?])
}

/// Received packets of an interface in the text of `/proc/net/dev`: the second number after the name.
fn received(text: &str, interface: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read_by_name() {
        let text = "Inter-|   Receive\n face |bytes    packets\n sw-a1:  900  12 0 0\nsw-a12: 1 99 0 0\n";
        assert_eq!(received(text, "sw-a1"), Some(12));
        assert_eq!(received(text, "sw-b1"), None);
    }
}
