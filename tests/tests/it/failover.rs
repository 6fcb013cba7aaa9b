//! The product in the lab: nothing that was established is lost, whatever takes the active node away.

use std::collections::BTreeSet;
use std::slice::from_ref;
use std::time::Duration;

use csm_tests::checks::{claims, speakers, two_macs};
use csm_tests::lab::{Lab, Options};
use csm_tests::node::{Fault, NegativeControl};
use csm_tests::programs::Programs;
use csm_tests::report::table;
use csm_tests::scenario::{self, Traffic};
use csm_tests::status::Role;
use csm_tests::topology::{ALIAS, Side, VIP};
use csm_tests::wait::{self, now_ns};

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);
/// Bytes a second at which a small lab's download lasts from before the fault until after the takeover.
const RATE: u64 = 3_000_000;

fn options(test: &str) -> Options {
    Options::small(Programs::beside_this_one().expect("csmd, csm and csm-lab"), out(test))
}

fn survives(fault: Fault) {
    let mut lab = Lab::build(options(fault.name())).expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    let mut traffic = Traffic::start(&lab, 200).expect("traffic");
    let outline = scenario::apply(&mut lab, &mut traffic, fault, RATE).expect("a takeover and a return");
    assert!(outline.clean(), "{}", table(from_ref(&outline)));
    let last = traffic.messages("finish").expect("the final report");
    assert!(last.lost.is_empty(), "{last:?}");
    drop(traffic);
    finish(lab);
}

#[test]
fn connections_survive_kill() {
    survives(Fault::Kill);
}

#[test]
fn connections_survive_stop_and_the_woken_node_stays_silent() {
    survives(Fault::Stop);
}

#[test]
fn connections_survive_power_off() {
    survives(Fault::PowerOff);
}

#[test]
fn connections_survive_a_planned_switchover() {
    survives(Fault::FtActive);
}

#[test]
fn connections_survive_a_graceful_leave() {
    survives(Fault::Leave);
}

#[test]
fn ten_failovers_leave_equal_tables_and_nothing_behind() {
    let mut lab = Lab::build(options("ten")).expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    let mut traffic = Traffic::start(&lab, 100).expect("traffic");
    let mut descriptors = Vec::new();
    for round in 0..10 {
        let active = lab.wait_for_active(LIMIT).expect("an active node");
        traffic.messages("mark").expect("mark");
        lab.fail(active, Fault::FtActive).expect("clear ft active");
        lab.node(active.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
        lab.node(active).wait_for(Role::Standby, LIMIT).expect("return");
        let report = traffic.prove(LIMIT).expect("report");
        assert_eq!((report.alive, report.unproven), (100, 0), "round {round}: {report:?}");
        descriptors.push(lab.nodes.each_ref().map(|node| node.descriptors().unwrap_or(0)));
    }
    let (second, last) = (descriptors[1], descriptors[9]);
    assert!(
        last.iter().zip(second).all(|(last, second)| *last <= second + 2),
        "file descriptors: {descriptors:?}"
    );
    let equal = wait::until("equal tables", LIMIT, Duration::from_millis(100), || {
        let [a, b] = lab.nodes.each_ref().map(|node| node.show("conns"));
        let (a, b) = (long_lived(&a?), long_lived(&b?));
        Ok((a == b && a.len() >= 100).then_some(a.len()))
    });
    assert!(equal.is_ok(), "{equal:?}");
    drop(traffic);
    finish(lab);
}

/// The connections of the message service, each as its JSON without what is each node's own (ages, counters).
fn long_lived(answer: &serde_json::Value) -> BTreeSet<String> {
    let rows = answer
        .get("connections")
        .or(Some(answer))
        .and_then(serde_json::Value::as_array)
        .cloned()
        .unwrap_or_default();
    let facts = |row: &serde_json::Value| {
        ["vserver", "protocol", "client", "destination", "real", "state"]
            .map(|name| row.get(name).map(ToString::to_string))
    };
    rows.iter()
        .filter(|row| row.get("vserver").and_then(serde_json::Value::as_str) == Some("MESSAGES"))
        .map(|row| format!("{:?}", facts(row)))
        .collect()
}

#[test]
fn a_simultaneous_start_ends_with_one_active_and_one_mac() {
    let mut lab = Lab::build(options("cold-start")).expect("a lab");
    let began = now_ns();
    lab.start(LIMIT).expect("one active, one standby");
    let traffic = Traffic::start(&lab, 10).expect("traffic");
    let said = claims(&lab.capture.frames(began, now_ns()), &[VIP, ALIAS]);
    assert!(!said.is_empty(), "nobody announced");
    assert!(two_macs(&said).is_empty(), "{said:?}");
    for address in [VIP, ALIAS] {
        assert_eq!(speakers(&said, address).len(), 1, "{said:?}");
    }
    drop(traffic);
    finish(lab);
}

/// The lab's checks must notice each defect; `fault` is the one that brings it to light.
fn is_caught(control: NegativeControl, fault: Fault, test: &str) {
    let mut lab = Lab::build(Options { control: Some(control), ..options(test) }).expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    let mut traffic = Traffic::start(&lab, 100).expect("traffic");
    // A lab in which the takeover or the return fails altogether has caught it too.
    if let Ok(outline) = scenario::apply(&mut lab, &mut traffic, fault, RATE) {
        let caught = !outline.clean() || outline.silence_ns > 1_000_000_000;
        assert!(caught, "{control:?} went unnoticed:\n{}", table(from_ref(&outline)));
    }
    drop(traffic);
    finish(lab);
}

#[test]
fn a_missing_lease_is_caught() {
    is_caught(NegativeControl::LeaseOff, Fault::Stop, "lease-off");
}

#[test]
fn a_missing_announcement_is_caught() {
    is_caught(NegativeControl::AnnounceOff, Fault::Stop, "announce-off");
}

#[test]
fn missing_deltas_are_caught() {
    is_caught(NegativeControl::DropDeltas, Fault::Kill, "drop-deltas");
}

#[test]
fn both_sides_take_their_turn() {
    let mut lab = Lab::build(options("turns")).expect("a lab");
    let first = lab.start(LIMIT).expect("one active, one standby");
    assert_eq!(first, Side::A, "priority 20 against 10");
    for expected in [Side::B, Side::A] {
        lab.fail(expected.peer(), Fault::Kill).expect("kill");
        lab.node(expected).wait_for(Role::Active, LIMIT).expect("takeover");
        lab.restore(expected.peer()).expect("restart");
        lab.node(expected.peer()).wait_for(Role::Standby, LIMIT).expect("return, without preemption");
    }
    finish(lab);
}
