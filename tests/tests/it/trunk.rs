//! All VLANs of a node on one trunk: client side, server side and the FT VLAN, tagged by the program; own addresses,
//! probes, heartbeats and replication go through the veths that csmd makes.

use std::time::Duration;

use csm_tests::figure::{Figure, Timers};
use csm_tests::lab::{Lab, Options};
use csm_tests::netns;
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::topology::{Side, Wiring};

use crate::{failover, finish, out};

const LIMIT: Duration = Duration::from_secs(20);

fn options(test: &str) -> Options {
    let figure = Figure { timers: Timers::FAST, preempt: false, wiring: Wiring::Trunk };
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    Options { figure, ..Options::small(programs, out(test)) }
}

fn survives(fault: Fault) {
    failover::survives_with(options(&format!("trunk-{}", fault.name())), 100, fault);
}

#[test]
fn connections_survive_kill() {
    survives(Fault::Kill);
}

#[test]
fn connections_survive_power_off() {
    survives(Fault::PowerOff);
}

#[test]
fn connections_survive_a_planned_switchover() {
    survives(Fault::FtActive);
}

/// The interfaces of a node, by name.
fn links(lab: &Lab, side: Side) -> Vec<String> {
    let node = lab.topology.node(side);
    let shown = netns::run(node.command("ip").expect("ip").args(["-o", "link"])).expect("ip link");
    let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
    shown.lines().filter_map(name).collect()
}

#[test]
fn veths_are_left_by_a_killed_daemon_taken_over_by_the_next_and_removed_at_the_end() {
    let mut lab = Lab::build(options("veths")).expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    let with = links(&lab, Side::A);
    for vlan in [2, 3, 9] {
        assert!(with.contains(&format!("csmv{vlan}")) && with.contains(&format!("csmx{vlan}")), "{with:?}");
    }
    lab.fail(Side::A, Fault::Kill).expect("kill");
    assert_eq!(links(&lab, Side::A), with, "nobody was there to remove them");
    lab.restore(Side::A).expect("start again");
    lab.wait_for_active(LIMIT).expect("an active node");
    assert_eq!(links(&lab, Side::A), with);
    lab.node(Side::A).stop();
    assert_eq!(links(&lab, Side::A), ["lo", "eth1"]);
    finish(lab);
}
