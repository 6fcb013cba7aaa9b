//! Tracking in the lab: the role follows what a node needs around it, and nothing is lost on the way.

use std::time::Duration;

use csm_tests::figure::{Figure, Timers};
use csm_tests::lab::{Lab, Options};
use csm_tests::link::{mend, mute};
use csm_tests::programs::Programs;
use csm_tests::scenario::Traffic;
use csm_tests::status::Role;
use csm_tests::topology::{ROUTER, Side, Wiring};
use csm_tests::wait;
use serde_json::Value;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 200;
const HOLD_DOWN_MS: u64 = 2_000;

fn options(test: &str, tracking: &str) -> Options {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    Options {
        figure: Figure { timers: Timers::FAST, preempt: true, wiring: Wiring::Access },
        services: tracking.to_owned(),
        ..Options::small(programs, out(test))
    }
}

/// What a node says of its tracking.
fn tracking(lab: &Lab, side: Side) -> Value {
    lab.nodes[side as usize].show("ft track").expect("ft track")
}

fn wait_for_roles(lab: &mut Lab, active: Side) {
    lab.node(active).wait_for(Role::Active, LIMIT).expect("the role");
    // Not `wait_for`: a standby that tracking stands against is not ready to take over, and says so.
    let gave_up = wait::until("the peer's return", LIMIT, Duration::from_millis(20), || {
        Ok((lab.nodes[active.peer() as usize].status()?.role == Role::Standby).then_some(()))
    });
    gave_up.expect("a standby");
}

/// Each connection carries a message there and back after the role has moved.
fn nothing_lost(traffic: &mut Traffic) {
    traffic.messages("mark").expect("mark");
    let report = traffic.prove(LIMIT).expect("report");
    assert_eq!((report.alive, report.unproven), (CONNECTIONS, 0), "{report:?}");
}

/// Time between the last change called `from` and the first one after it called `to`.
fn between_ms(tracking: &Value, from: &str, to: &str) -> u64 {
    let changes = tracking["changes"].as_array().expect("changes");
    let at = |change: &Value| change["at_unix_ms"].as_u64().expect("a time");
    let start = changes.iter().rposition(|change| change["what"] == from).expect("the first change");
    let end = changes[start..].iter().find(|change| change["what"] == to).expect("the second change");
    at(end) - at(&changes[start])
}

/// The reason of the latest claim or fence.
fn last_reason(lab: &Lab, side: Side) -> String {
    let detail = lab.nodes[side as usize].show("ft detail").expect("ft detail");
    let last = detail["recorder"].as_array().and_then(|entries| entries.last()).expect("a flight");
    last["reason"].as_str().expect("a reason").to_owned()
}

#[test]
fn the_role_follows_a_gateway_and_an_interface_and_returns_after_the_hold_down() {
    let lines = format!(
        "  track gateway {ROUTER}\n  track interface eth8\n  track interval msec 200\n  track retries 2\n  \
         track hold-down {}\n",
        HOLD_DOWN_MS / 1_000
    );
    let mut lab = Lab::build(options("tracking", &lines)).expect("a lab");
    for node in &lab.topology.nodes {
        node.ip(&[
            "link add name eth8 type veth peer name eth9".to_owned(),
            "link set dev eth8 up".to_owned(),
            "link set dev eth9 up".to_owned(),
        ])
        .expect("an interface to track");
    }
    lab.start(LIMIT).expect("one active, one standby");
    wait_for_roles(&mut lab, Side::A);
    let mut traffic = Traffic::start(&lab, CONNECTIONS).expect("traffic");

    let port = Side::A.port(1);
    mute(&lab.topology.switch, &port, ROUTER).expect("mute");
    wait_for_roles(&mut lab, Side::B);
    nothing_lost(&mut traffic);
    assert_eq!([Side::A, Side::B].map(|side| last_reason(&lab, side)), ["tracking", "tracking"]);
    let said = tracking(&lab, Side::A);
    assert_eq!((&said["eligible"], &said["objects"][0]["state"]), (&false.into(), &"down".into()), "{said}");
    assert_eq!(tracking(&lab, Side::B)["eligible"], true);
    mend(&lab.topology.switch, &port).expect("mend");
    wait_for_roles(&mut lab, Side::A);
    nothing_lost(&mut traffic);
    let said = tracking(&lab, Side::A);
    let waited = between_ms(&said, &format!("gateway {ROUTER} is up"), "this box is eligible");
    assert!(waited >= HOLD_DOWN_MS, "{waited} ms: {said}");

    // The carrier goes with the other end.
    lab.topology.nodes[0].ip(&["link set dev eth9 down".to_owned()]).expect("down");
    wait_for_roles(&mut lab, Side::B);
    nothing_lost(&mut traffic);
    drop(traffic);
    finish(lab);
}
