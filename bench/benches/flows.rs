//! What a packet costs by the number of connections it may belong to, and what a new connection costs. Needs root.
//!
//! Each line is the best and the median of some rounds of BPF_PROG_TEST_RUN; every round runs all lines, so that what else
//! the machine does falls on all alike. Each frame is written anew by a feeder (`csm_bench::feeder`), whose cost is in all
//! figures of the first table and stands in its first line.

use std::time::Duration;

use csm_bench::feeder::{Feeder, Order};
use csm_bench::floor::{Floor, PASS, REDIRECT, TX};
use csm_bench::frame::{Flag, Segment};
use csm_bench::report::Table;
use csm_bench::scene::{client, feed, of_ipv6, pin, server, with_flows, with_flows6};
use csm_common::limits::CONNECTIONS_MAX;
use csm_common::names;
use csm_tests::rig::{Rig, Side, WEB};
use csm_tests::rig6::{self, WEB6};

const ROUNDS: usize = 31;
/// Frames in a round of one line.
const FRAMES: u32 = 30_000;
/// New connections in a round, at each step; few enough that the caches hold what the step before has written.
const OPENED: u32 = 1024;

fn main() {
    pin(0);
    for family in [Family::V4, Family::V6] {
        established(family);
        new_connections(family, 0);
        new_connections(family, 1800);
    }
}

/// Of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn rig(self, flows: u32) -> Rig {
        if self == Self::V4 { with_flows(flows) } else { with_flows6(flows) }
    }

    fn of(self, side: Side, segment: Segment) -> Segment {
        if self == Self::V4 { segment } else { of_ipv6(side, segment) }
    }

    fn vserver(self) -> u32 {
        if self == Self::V4 { WEB } else { WEB6 }
    }

    fn name(self) -> &'static str {
        if self == Self::V4 { "IPv4" } else { "IPv6" }
    }
}

/// A line of the table.
struct Line {
    name: String,
    feeder: Feeder,
    port: u32,
    verdict: u32,
    /// Kept while it runs.
    _floor: Option<Floor>,
}

fn established(family: Family) {
    for flows in [1, 1 << 10, 1 << 16, CONNECTIONS_MAX] {
        let mut rig = family.rig(flows);
        let csm = rig.dataplane.program_fd().expect("the program");
        let [client_port, server_port] = [0, 1].map(|side: usize| rig.ports()[side].ifindex);
        let ack = family.of(Side::Client, client(Flag::Ack, 101, 501));
        let answer = family.of(Side::Server, server(Flag::Ack, 501, 101));
        let own = Segment { dst_mac: rig.own_mac(Side::Client), ..ack };
        let to_server = feed(Side::Client, &ack, flows, Order::Random);
        let to_client = feed(Side::Server, &answer, flows, Order::Random);
        let pass = feed(Side::Client, &own, flows, Order::Random);
        let floor = |floor: std::io::Result<Floor>, name: &str| {
            let floor = floor.expect("root");
            let feeder = Feeder::new(&to_server, floor.fd()).expect("root");
            Line { name: name.into(), feeder, port: client_port, verdict: TX, _floor: Some(floor) }
        };
        let line = |feed, name: &str, port, verdict| {
            let feeder = Feeder::new(feed, csm).expect("root");
            Line { name: name.into(), feeder, port, verdict, _floor: None }
        };
        let look_up = |chained| Floor::one_lookup(&to_server, 2 * CONNECTIONS_MAX, chained);
        let lines = [
            floor(Floor::empty(), "floor: the feeder and an empty program"),
            floor(look_up(false), "floor: one look-up, and the entry's first word read"),
            floor(look_up(true), "floor: the same, each after the one before"),
            line(&pass, "passed to the kernel by its MAC", client_port, PASS),
            line(&to_server, "established, client to server", client_port, REDIRECT),
            line(&to_client, "established, server to client", server_port, REDIRECT),
        ];
        let mut table = Table::new(&format!("{}, {flows} flows, ns a packet", family.name()), lines.len());
        for _ in 0..ROUNDS {
            for (index, line) in lines.iter().enumerate() {
                let duration = line.feeder.test_run(line.port, FRAMES, line.verdict);
                table.add(index, duration);
            }
        }
        table.print(&lines.each_ref().map(|line| line.name.as_str()));
        let forwarded = rig.service_count(names::VSERVER_COUNTS, family.vserver());
        let expected = u64::from(FRAMES) * ROUNDS as u64;
        assert_eq!((forwarded.client_packets, forwarded.server_packets), (expected, expected));
    }
}

/// SYN, SYN-ACK and ACK of connections that the tables do not hold, each step for [`OPENED`] of them.
fn new_connections(family: Family, sticky_s: u32) {
    let mut rig = family.rig(0);
    match family {
        Family::V4 => rig.vserver(WEB, |vserver| vserver.sticky_s = sticky_s),
        Family::V6 => rig6::vserver(&rig, WEB6, |vserver| vserver.sticky_s = sticky_s),
    }
    let csm = rig.dataplane.program_fd().expect("the program");
    let [client_port, server_port] = [0, 1].map(|side: usize| rig.ports()[side].ifindex);
    let steps = [
        ("SYN", Side::Client, client(Flag::Syn, 100, 0)),
        ("SYN-ACK", Side::Server, server(Flag::SynAck, 500, 101)),
        ("ACK", Side::Client, client(Flag::Ack, 101, 501)),
    ];
    let feeders = steps.each_ref().map(|(_, side, segment)| {
        let segment = family.of(*side, *segment);
        Feeder::new(&feed(*side, &segment, CONNECTIONS_MAX, Order::InTurn), csm).expect("root")
    });
    let of = if sticky_s == 0 { "" } else { " of a new sticky client" };
    let mut table = Table::new(&format!("{}, new connection{of}, ns", family.name()), steps.len() + 1);
    for round in 1..=ROUNDS as u64 {
        let mut sum = Duration::ZERO;
        for (index, ((_, side, _), feeder)) in steps.iter().zip(&feeders).enumerate() {
            let port = if *side == Side::Client { client_port } else { server_port };
            let duration = feeder.test_run(port, OPENED, REDIRECT);
            table.add(index, duration);
            sum += duration;
        }
        table.add(steps.len(), sum);
        assert_opened(&mut rig, family, round);
    }
    table.print(&["SYN", "SYN-ACK", "ACK: proven, record written", "in all"]);
}

fn assert_opened(rig: &mut Rig, family: Family, round: u64) {
    let records = match family {
        Family::V4 => rig.events().len(),
        Family::V6 => rig6::events(rig).len(),
    };
    assert!(records >= OPENED as usize, "{records} records of {OPENED} connections");
    let connections = rig.service_count(names::VSERVER_COUNTS, family.vserver()).connections;
    assert_eq!(connections, round * u64::from(OPENED), "all were proven");
}
