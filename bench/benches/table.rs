//! A million connections: what they take of memory, and how long `show … conns` and `csmd`'s walks read them. Needs root.

use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use csm_bench::scene::with_flows;
use csm_common::limits::CONNECTIONS_MAX;
use csm_common::names;
use csm_user::dataplane::maps::MapSource;
use csm_user::dataplane::table::Table;

const WALKS: u32 = 3;

fn main() {
    let rig = with_flows(CONNECTIONS_MAX);
    println!("\nmemory, as the kernel accounts for it");
    let mut all = 0;
    for name in [names::FLOWS, names::EMBRYONIC, names::STICKY, names::EMBRYONIC_STICKY] {
        let bytes = memory(&rig.dataplane, name);
        all += bytes;
        println!("{name:<20} {:>8.1} MiB", bytes as f64 / f64::from(1 << 20));
    }
    let flows = memory(&rig.dataplane, names::FLOWS);
    println!("a proven connection {:>9.0} bytes", flows as f64 / f64::from(CONNECTIONS_MAX));
    println!("with all its tables {:>9.0} bytes", all as f64 / f64::from(CONNECTIONS_MAX));

    let table = Table::<u32>::open(&rig.dataplane).expect("the tables");
    for walk in 1..=WALKS {
        let (mut seen, mut longest, started) = (0, Duration::ZERO, Instant::now());
        let mut slice = started;
        table
            .visit(&mut |chunk| {
                seen += chunk.len();
                longest = longest.max(slice.elapsed());
                slice = Instant::now();
                ControlFlow::Continue(())
            })
            .expect("a walk");
        assert_eq!(seen, CONNECTIONS_MAX as usize, "each connection once");
        let elapsed = started.elapsed();
        println!("walk {walk}: {seen} connections in {elapsed:.2?}, longest slice {longest:.2?}");
    }
}

/// Octets that a map takes.
fn memory(source: &impl MapSource, name: &str) -> u64 {
    let descriptor = source.descriptor(name).expect(name);
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).expect("fdinfo");
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).expect("memlock");
    line.trim().parse().expect("octets")
}
