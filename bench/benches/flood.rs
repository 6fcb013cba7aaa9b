//! A SYN flood at the rate that one core makes, and what becomes of others meanwhile. Needs root and two cores.
//!
//! The flood is of live frames from four million sources. On the other core a proven connection goes on, and honest clients
//! shake hands, each with a round-trip time between its SYN and its acknowledgement.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, MapData};
use csm_bench::bpf::test_run;
use csm_bench::feeder::{Feed, Feeder, Order};
use csm_bench::floor::REDIRECT;
use csm_bench::frame::{Flag, Segment};
use csm_bench::live::{Sinks, ports};
use csm_bench::scene::{client, connection, feed, pin, server, with_flows};
use csm_common::flow::{FlowEntry, FlowKey};
use csm_common::names;
use csm_tests::rig::{Rig, Side, WEB};

/// Sources of the flood, from 10.64.0.0 on.
const SOURCES: u32 = 1 << 22;
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
/// Honest clients for each round-trip time.
const HONEST: u32 = 200;
/// Round-trip times, milliseconds.
const ROUND_TRIPS: [u64; 8] = [0, 10, 30, 100, 200, 400, 1000, 2000];
/// SYNs in one call: some seconds of flood, as the kernel pauses between two calls.
const BURST: u32 = 2_000_000;

fn main() {
    pin(0);
    // Flow 0 is the proven connection; the honest clients' flows follow.
    let mut rig = with_flows(1);
    let _sinks = Sinks::new();
    let program = rig.dataplane.program_fd().expect("the program");
    let [client_port, server_port] = ports(&rig);
    let syn = Segment { src: (FIRST_SOURCE.into(), 1234), ..client(Flag::Syn, 100, 0) };
    let flood: Feed = feed(Side::Client, &syn, SOURCES, Order::Random);
    let feeder = Feeder::new(&flood, program).expect("root");
    let (over, rate, sent) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            while !over.load(Ordering::Relaxed) {
                let each = feeder.live_run(client_port, BURST).as_secs_f64();
                rate.store((1.0 / each).to_bits(), Ordering::Relaxed);
                sent.fetch_add(u64::from(BURST), Ordering::Relaxed);
            }
        });
        let honest = Honest { rig: &rig, program, ports: [client_port, server_port] };
        println!("\n{:<20} {:>12} {:>24}", "round trip, ms", "SYNs/s", "honest clients served, %");
        // The flood has begun, and the half-open table is full of it.
        while rate.load(Ordering::Relaxed) == 0 {
            honest.proven_goes_on();
        }
        let mut next = 1;
        for round_trip in ROUND_TRIPS {
            let served = honest.shake_hands(next, Duration::from_millis(round_trip));
            next += HONEST;
            let rate = f64::from_bits(rate.load(Ordering::Relaxed));
            println!("{round_trip:<20} {rate:>12.0} {:>24}", served * 100 / HONEST);
        }
        println!("SYNs in all: {} in {:.1?}", sent.load(Ordering::Relaxed), started.elapsed());
        over.store(true, Ordering::Relaxed);
    });
    let proven = rig.flows(names::FLOWS).len() / 2;
    let count = rig.service_count(names::VSERVER_COUNTS, WEB);
    println!(
        "proven connections in the table: {proven}; half open: {}",
        rig.flows(names::EMBRYONIC).len() / 2
    );
    println!("packets of clients sent on: {}", count.client_packets);
}

/// Those who mean it.
struct Honest<'a> {
    rig: &'a Rig,
    program: i32,
    ports: [u32; 2],
}

impl Honest<'_> {
    fn sent_on(&self, side: Side, segment: &Segment) -> bool {
        let run = test_run(self.program, self.ports[side as usize], &segment.frame(), 1).expect("a test run");
        run.verdict == REDIRECT
    }

    fn proven_goes_on(&self) {
        assert!(self.sent_on(Side::Client, &client(Flag::Ack, 101, 501)), "the proven connection goes on");
        assert!(self.sent_on(Side::Server, &server(Flag::Ack, 501, 101)), "the proven connection goes on");
    }

    /// [`HONEST`] clients, from flow `first` on, open together; so many are served.
    fn shake_hands(&self, first: u32, round_trip: Duration) -> u32 {
        let flows = first..first + HONEST;
        for flow in flows.clone() {
            assert!(
                self.sent_on(Side::Client, &of(client(Flag::Syn, 100, 0), flow)),
                "a SYN always finds room"
            );
            self.sent_on(Side::Server, &of(server(Flag::SynAck, 500, 101), flow));
        }
        let acknowledged = Instant::now() + round_trip;
        while Instant::now() < acknowledged {
            self.proven_goes_on();
        }
        for flow in flows.clone() {
            self.sent_on(Side::Client, &of(client(Flag::Ack, 101, 501), flow));
        }
        let table: HashMap<MapData, FlowKey, FlowEntry> = self.rig.map(names::FLOWS);
        let served = flows.filter(|&flow| table.get(&connection(flow).forward_key(), 0).is_ok()).count();
        u32::try_from(served).expect("a few")
    }
}

/// The same segment of another flow.
fn of(segment: Segment, flow: u32) -> Segment {
    let address = Ipv4Addr::from(u32::from_be(connection(flow).client_be));
    if segment.src.1 == 80 {
        Segment { dst: (address.into(), segment.dst.1), ..segment }
    } else {
        Segment { src: (address.into(), segment.src.1), ..segment }
    }
}
