//! A million connections: what they take of memory, how long `show … conns` and `csmd`'s walks read them, and what packets that
//! are forwarded on another core notice of it. Needs root and two cores.

use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use csm_bench::bpf::test_run;
use csm_bench::floor::REDIRECT;
use csm_bench::frame::{Flag, Segment};
use csm_bench::scene::{client, connection, pin, with_flows};
use csm_common::limits::CONNECTIONS_MAX;
use csm_common::names;
use csm_tests::rig::Side;
use csm_user::dataplane::maps::MapSource;
use csm_user::dataplane::table::Table;

const WALKS: u32 = 3;
/// How long packets are forwarded alone, to compare with.
const ALONE: Duration = Duration::from_secs(3);
/// Connections whose packets are forwarded meanwhile, spread over the table.
const USED: u32 = 1024;

fn main() {
    pin(0);
    let mut rig = with_flows(CONNECTIONS_MAX);
    let program = rig.dataplane.program_fd().expect("the program");
    let port = rig.ports()[Side::Client as usize].ifindex;
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
    println!("\npackets forwarded on another core, from one to the next");
    let gaps = forwarding(program, port, || {
        let started = Instant::now();
        while started.elapsed() < ALONE {
            std::hint::spin_loop();
        }
    });
    println!("nothing else: {gaps}");
    for walk in 1..=WALKS {
        let (mut seen, mut longest, started) = (0, Duration::ZERO, Instant::now());
        let mut slice = started;
        let gaps = forwarding(program, port, || {
            table
                .visit(&mut |chunk| {
                    seen += chunk.len();
                    longest = longest.max(slice.elapsed());
                    slice = Instant::now();
                    ControlFlow::Continue(())
                })
                .expect("a walk");
        });
        assert_eq!(seen, CONNECTIONS_MAX as usize, "each connection once");
        let elapsed = started.elapsed();
        println!("walk {walk}: {seen} connections in {elapsed:.2?}, longest slice {longest:.2?}; {gaps}");
    }
}

/// Forwards packets on another core while `work` is done: one system call each. Says how long it took from one to the next.
fn forwarding(program: i32, port: u32, work: impl FnOnce()) -> String {
    let frame = |index: u32| {
        let of = client(Flag::Ack, 101, 501);
        let address = u32::from_be(connection(index * (CONNECTIONS_MAX / USED)).client_be);
        Segment { src: (std::net::Ipv4Addr::from(address).into(), of.src.1), ..of }.frame()
    };
    let frames: Vec<_> = (0..USED).map(frame).collect();
    let over = AtomicBool::new(false);
    let mut gaps: Vec<Duration> = std::thread::scope(|scope| {
        let forwarder = scope.spawn(|| {
            pin(1);
            let (mut gaps, mut last) = (Vec::with_capacity(1 << 24), Instant::now());
            for frame in frames.iter().cycle().take_while(|_| !over.load(Ordering::Relaxed)) {
                let run = test_run(program, port, frame, 1).expect("a test run");
                assert_eq!(run.verdict, REDIRECT, "it is sent on");
                let now = Instant::now();
                gaps.push(now - last);
                last = now;
            }
            gaps
        });
        work();
        over.store(true, Ordering::Relaxed);
        forwarder.join().expect("the forwarder")
    });
    gaps.sort_unstable();
    let at = |thousandths: usize| gaps[(gaps.len() - 1) * thousandths / 1000];
    format!(
        "{} packets, median {:.2?}, 99.9 % within {:.2?}, longest {:.2?}",
        gaps.len(),
        at(500),
        at(999),
        at(1000)
    )
}

/// Octets that a map takes.
fn memory(source: &impl MapSource, name: &str) -> u64 {
    let descriptor = source.descriptor(name).expect(name);
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).expect("fdinfo");
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).expect("memlock");
    line.trim().parse().expect("octets")
}
