//! The packet path: the real program on one frame, through BPF_PROG_TEST_RUN, in nanoseconds a packet. Needs root.
//!
//! The kernel runs the program over and over on one buffer and does not restore it. So the service is set up such that
//! the rewrite leaves the frame as it was: the real has the virtual address, and every next hop the virtual MAC. Only
//! the TTL falls, which bounds how often one call may repeat. The floors: the harness with an empty program, and a
//! frame that the real program hands to the kernel after its first checks.

use std::time::Duration;

use aya::programs::TestRunOptions;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use csm_bench::bpf;
use csm_bench::feeder::Order;
use csm_bench::floor::Floor;

use csm_bench::frame::{Flag, Segment, TTL};
use csm_bench::scene::feed;
use csm_common::counter::Reason;
use csm_tests::rig::{FAR_CLIENT, Rig, Side, VIP, VIRTUAL_MAC, WEB, be};
use nix::net::if_::if_nametoindex;

/// Runs in one call: the frame that comes in with [`TTL`] must still be forwarded in the last one.
const REPEAT: u32 = 200;
const _: () = assert!(REPEAT < TTL as u32);

const CLIENT_PORT: u16 = 40_000;

/// Nanoseconds for `iterations` packets, from calls of [`REPEAT`] each; the kernel reports a whole number for each.
fn repeated(iterations: u64, mut call: impl FnMut(u32) -> Duration) -> Duration {
    let mut total = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let repeat = u32::try_from(left.min(u64::from(REPEAT))).unwrap_or(REPEAT);
        total += call(repeat) * repeat;
        left -= u64::from(repeat);
    }
    total
}

/// `struct xdp_md` for a frame on that side: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn context(side: Side, frame: &[u8]) -> Vec<u8> {
    let port = ["p0", "p1", "p2"][side as usize];
    let ifindex = if_nametoindex(port).expect("the rig's ports stand in this thread's namespace");
    let words = [0, u32::try_from(frame.len()).expect("a frame"), 0, ifindex, 0, 0];
    words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
}

/// The program on a frame that comes in on `side`; the mean of `repeat` runs.
fn measure(rig: &mut Rig, context: &[u8], frame: &[u8], repeat: u32) -> Duration {
    let mut out = vec![0; frame.len() + 64];
    rig.dataplane
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(context),
            repeat,
            ..TestRunOptions::default()
        })
        .expect("a test run")
        .duration
}

/// A rig whose rewrite changes nothing, with one connection proven by both sides.
fn idempotent_rig() -> Rig {
    let mut rig = Rig::new().expect("root, and a kernel that takes the program");
    rig.ring(WEB, &[0]);
    rig.real(0, |real| real.ip_be = be(VIP));
    for hop in 0..5 {
        rig.next_hop(hop, |hop| hop.dst_mac = VIRTUAL_MAC);
    }
    for (side, segment) in [
        (Side::Client, client(Flag::Syn, 100, 0)),
        (Side::Server, server(Flag::SynAck, 500, 101)),
        (Side::Client, client(Flag::Ack, 101, 501)),
    ] {
        rig.run(side, &segment.frame());
    }
    // What follows is worth nothing if the frame does not take the path it is named for, or does not stay as it was.
    for (side, segment) in
        [(Side::Client, client(Flag::Ack, 101, 501)), (Side::Server, server(Flag::Ack, 501, 101))]
    {
        let run = rig.run(side, &segment.frame());
        assert_eq!(run.reason, Reason::ForwardedFlow);
        assert_eq!(run.frame[..14], segment.frame()[..14], "the MAC addresses stay");
        assert_eq!(run.frame[26..], segment.frame()[26..], "addresses, ports and checksum stay");
    }
    rig
}

fn client(flag: Flag, sequence: u32, acknowledged: u32) -> Segment {
    Segment {
        src_mac: VIRTUAL_MAC,
        dst_mac: VIRTUAL_MAC,
        src: (FAR_CLIENT.ip.into(), CLIENT_PORT),
        dst: (VIP.into(), 80),
        flag,
        sequence,
        acknowledged,
    }
}

fn server(flag: Flag, sequence: u32, acknowledged: u32) -> Segment {
    let Segment { src, dst, .. } = client(flag, 0, 0);
    Segment { src: dst, dst: src, ..client(flag, sequence, acknowledged) }
}

fn packet_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet");
    group.throughput(Throughput::Elements(1));

    let frame = client(Flag::Ack, 101, 501).frame();
    let empty = Floor::empty().expect("root");
    let feed = feed(Side::Client, &client(Flag::Ack, 101, 501), 1, Order::InTurn);
    let lookup = Floor::one_lookup(&feed, 64, false).expect("root");
    let mut rig = idempotent_rig();
    let port = rig.ports()[Side::Client as usize].ifindex;
    for (name, floor) in [("floor: empty program", &empty), ("floor: one hash lookup", &lookup)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                repeated(iterations, |repeat| {
                    bpf::test_run(floor.fd(), port, &frame, repeat).expect("a test run").duration
                })
            });
        });
    }

    let own = Segment { dst_mac: rig.own_mac(Side::Client), ..client(Flag::Ack, 101, 501) }.frame();
    let to_server = server(Flag::Ack, 501, 101).frame();
    for (name, side, frame) in [
        ("floor: passed to the kernel by its MAC", Side::Client, &own),
        ("established, client to server", Side::Client, &frame),
        ("established, server to client", Side::Server, &to_server),
    ] {
        let context = context(side, frame);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                repeated(iterations, |repeat| measure(&mut rig, &context, frame, repeat))
            });
        });
    }
    group.finish();
}

/// One run a call, since each packet must be of another client: the call's own cost is in it, hence its own floor.
fn new_connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet, one run a call");
    group.throughput(Throughput::Elements(1));
    let mut rig = Rig::new().expect("root, and a kernel that takes the program");
    let own = Segment { dst_mac: rig.own_mac(Side::Client), ..client(Flag::Ack, 101, 501) }.frame();
    let context = context(Side::Client, &own);
    group.bench_function("floor: passed to the kernel by its MAC", |bencher| {
        bencher.iter_custom(|iterations| (0..iterations).map(|_| measure(&mut rig, &context, &own, 1)).sum());
    });
    let mut number = 0_u32;
    group.bench_function("new connection, the oldest half-open one evicted", |bencher| {
        bencher.iter_custom(|iterations| {
            (0..iterations)
                .map(|_| {
                    number = number.wrapping_add(1);
                    let [_, a, b, c] = number.to_be_bytes();
                    let src = ([10, a, b, c].into(), CLIENT_PORT);
                    let frame = Segment { src, ..client(Flag::Syn, 100, 0) }.frame();
                    measure(&mut rig, &context, &frame, 1)
                })
                .sum()
        });
    });
    let run = rig
        .run(Side::Client, &Segment { src: (FAR_CLIENT.ip.into(), 1), ..client(Flag::Syn, 100, 0) }.frame());
    assert_eq!(run.reason, Reason::ForwardedNew, "a first packet was forwarded all along");
    group.finish();
}

criterion_group!(benches, packet_path, new_connections);
criterion_main!(benches);
