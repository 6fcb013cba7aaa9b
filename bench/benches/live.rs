//! Frames a second through the program, one core making, forwarding and sinking them; then two cores at once. Needs root
//! and `nft`.

use std::sync::Barrier;
use std::time::Duration;

use csm_bench::feeder::{Feed, Feeder, Order};
use csm_bench::floor::{DROP, Floor, PASS};
use csm_bench::frame::{Flag, datagram};
use csm_bench::live::{Sinks, nft_dnat, ports};
use csm_bench::scene::{CLIENT_PORT, FIRST_CLIENT, client, connection, feed, pin, server, with_flows};
use csm_common::names;
use csm_tests::rig::{REALS, Rig, Side, VIP, WEB};

const ROUNDS: usize = 15;
/// Frames in a round of one line.
const FRAMES: u32 = 200_000;

fn main() {
    pin(0);
    for flows in [1, 1 << 6, 1 << 10, 1 << 16] {
        one_core(flows);
    }
    for flows in [1, 1 << 16] {
        two_cores(flows);
    }
}

/// A line of the table.
struct Line {
    name: &'static str,
    feeder: Feeder,
    port: u32,
    /// Whether its frames come to a sink.
    arrive: bool,
    /// Kept while it runs.
    _floor: Option<Floor>,
}

fn one_core(flows: u32) {
    let mut rig = with_flows(flows);
    let sinks = Sinks::new();
    nft_dnat(&VIP.to_string(), &REALS[0].ip.to_string(), "02:ee:00:00:27:65");
    let csm = rig.dataplane.program_fd().expect("the program");
    let [client_port, server_port] = ports(&rig);
    let to_server = feed(Side::Client, &client(Flag::Ack, 101, 501), flows, Order::Random);
    let to_client = feed(Side::Server, &server(Flag::Ack, 501, 101), flows, Order::Random);
    let frame = datagram(rig.own_mac(Side::Client), (FIRST_CLIENT, CLIENT_PORT), (VIP, 53));
    let to_kernel = Feed { frame, ..to_server.clone() };
    let floor = |name, feed: &Feed, floor: std::io::Result<Floor>, arrive| {
        let floor = floor.expect("root");
        let feeder = Feeder::new(feed, floor.fd()).expect("root");
        Line { name, feeder, port: client_port, arrive, _floor: Some(floor) }
    };
    let line = |name, feed: &Feed, port| {
        let feeder = Feeder::new(feed, csm).expect("root");
        Line { name, feeder, port, arrive: true, _floor: None }
    };
    let lines = [
        floor("dropped at once", &to_server, Floor::returning(DROP), false),
        floor("bare redirect", &to_server, Floor::bare_redirect(server_port), true),
        line("csm, client to server", &to_server, client_port),
        line("csm, server to client", &to_client, server_port),
        floor("nft DNAT and conntrack, UDP", &to_kernel, Floor::returning(PASS), true),
    ];
    let mut rates = vec![Vec::new(); lines.len()];
    for _ in 0..ROUNDS {
        for (line, rates) in lines.iter().zip(&mut rates) {
            rates.push(rate(sinks.time(&line.feeder, line.port, FRAMES, line.arrive)));
        }
    }
    println!("\n{:<42} {:>8} {:>8} {:>12}", format!("{flows} flows, Mpps"), "best", "median", "to redirect");
    let bare = best(&rates[1]);
    for (line, rates) in lines.iter().zip(&rates) {
        let (name, best, median) = (line.name, best(rates), median(rates));
        println!("{name:<42} {best:>8.2} {median:>8.2} {:>12.2}", best / bare);
    }
    println!("csm to nft, best: {:.1}", best(&rates[2]) / best(&rates[4]));
    assert_counted(&rig, u64::from(FRAMES) * ROUNDS as u64);
}

/// Millions a second.
fn rate(each: Duration) -> f64 {
    1e-6 / each.as_secs_f64()
}

fn best(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn assert_counted(rig: &Rig, each_way: u64) {
    let count = rig.service_count(names::VSERVER_COUNTS, WEB);
    assert_eq!((count.client_packets, count.server_packets), (each_way, each_way), "no lost update");
    let real = rig.service_count(names::REAL_COUNTS, 0);
    assert_eq!((real.client_bytes, real.server_bytes), (each_way * 54, each_way * 54), "no lost update");
}

/// One core in each direction of the same flows, alone and at once.
fn two_cores(flows: u32) {
    let mut rig = with_flows(flows);
    let sinks = Sinks::new();
    let csm = rig.dataplane.program_fd().expect("the program");
    let [client_port, server_port] = ports(&rig);
    let to_server = feed(Side::Client, &client(Flag::Ack, 101, 501), flows, Order::Random);
    let to_client = feed(Side::Server, &server(Flag::Ack, 501, 101), flows, Order::Random);
    let feeders = [&to_server, &to_client].map(|feed| Feeder::new(feed, csm).expect("root"));
    let (mut alone, mut both) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let one = rate(sinks.time(&feeders[0], client_port, FRAMES, true));
        let other = rate(sinks.time(&feeders[1], server_port, FRAMES, true));
        alone.push(f64::midpoint(one, other));
        both.push(at_once(&sinks, &feeders, [client_port, server_port]));
    }
    println!("\n{:<42} {:>8} {:>8}", format!("{flows} flows, two cores, Mpps"), "best", "median");
    println!("{:<42} {:>8.2} {:>8.2}", "one core at a time", best(&alone), median(&alone));
    println!("{:<42} {:>8.2} {:>8.2}", "both at once", best(&both), median(&both));
    println!("scaling, best: {:.2}", best(&both) / best(&alone));
    assert_counted(&rig, 2 * u64::from(FRAMES) * ROUNDS as u64);
    assert_whole(&rig, flows);
}

fn at_once(sinks: &Sinks, feeders: &[Feeder; 2], ports: [u32; 2]) -> f64 {
    let (before, barrier) = (sinks.frames(), Barrier::new(2));
    let rates = std::thread::scope(|scope| {
        let run = |cpu: usize| {
            let (feeder, barrier) = (&feeders[cpu], &barrier);
            move || {
                pin(cpu);
                barrier.wait();
                rate(feeder.live_run(ports[cpu], FRAMES))
            }
        };
        [0, 1].map(|cpu| scope.spawn(run(cpu))).map(|thread| thread.join().expect("no panic"))
    });
    sinks.arrived(before, 2 * u64::from(FRAMES));
    rates.iter().sum()
}

/// Every entry is as it was made, but for what use changes.
fn assert_whole(rig: &Rig, flows: u32) {
    let entries: std::collections::HashMap<_, _> = rig.flows(names::FLOWS).into_iter().collect();
    assert_eq!(entries.len(), 2 * flows as usize);
    for flow in 0..flows {
        let connection = connection(flow);
        for key in [connection.forward_key(), connection.return_key()] {
            assert_eq!(entries[&key].connection(&key), connection, "no torn entry");
        }
    }
}
