//! Tracking in the lab: the role follows what a node needs around it, and nothing is lost on the way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use csm_tests::figure::{Figure, Timers};
use csm_tests::lab::{Lab, Options};
use csm_tests::link::{mend, mute};
use csm_tests::netns::Netns;
use csm_tests::programs::Programs;
use csm_tests::scenario::Traffic;
use csm_tests::status::Role;
use csm_tests::topology::{ROUTER, Side, Wiring};
use csm_tests::wait;
use csm_user::hsrp::machine::{Learns, Params};
use csm_user::hsrp::task::{GroupOptions, HsrpHandle, Wish, spawn};
use csm_user::hsrp::wire::{AUTHENTICATION, State, Version};
use serde_json::Value;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 200;
const HOLD_DOWN_MS: u64 = 2_000;

fn options(test: &str, tracking: [String; 2]) -> Options {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    Options {
        figure: Figure { timers: Timers::FAST, preempt: true, wiring: Wiring::Access },
        group: tracking,
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
    let mut lab = Lab::build(options("tracking", [lines.clone(), lines])).expect("a lab");
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

/// The second router on VLAN 2, and the address that both speak for.
const OTHER_ROUTER: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 21);
const HSRP_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 1);
const HSRP_GROUP: u16 = 300;

/// A router of the HSRP group, in its namespace.
fn speak(runtime: &tokio::runtime::Runtime, netns: &Netns, own: Ipv4Addr, priority: u8) -> HsrpHandle {
    speak_for(HSRP_ADDRESS.into(), runtime, netns, own.into(), priority)
}

/// The same for `address`, of either family.
fn speak_for(
    address: IpAddr,
    runtime: &tokio::runtime::Runtime,
    netns: &Netns,
    own: IpAddr,
    priority: u8,
) -> HsrpHandle {
    let start = || {
        let _context = runtime.enter();
        let ifindex = nix::net::if_::if_nametoindex("eth0").expect("eth0");
        let timers = Some((Duration::from_millis(100), Duration::from_millis(400)));
        let wish = Wish { up: true, priority };
        let params = Params {
            group: HSRP_GROUP,
            version: Version::V2,
            own,
            learns: Learns::default(),
            mac: [2, 0, 0, 0, 0, priority],
            address: Some(address),
            priority,
            preempt: true,
            preempt_delay: Duration::ZERO,
            timers,
            authentication: AUTHENTICATION,
            listen_only: false,
        };
        spawn(vec![GroupOptions { interface: "eth0".to_owned(), ifindex, params, port: None, wish }])
            .expect("a speaker")
    };
    netns.within(start).expect("a thread inside")
}

fn is_active(router: &HsrpHandle) -> bool {
    router.status()[0].state == State::Active
}

/// Each node has a router of its own; which of the two is active is theirs to say, and the role follows.
#[test]
fn the_role_follows_an_hsrp_group_of_the_routers() {
    let lines = [ROUTER, OTHER_ROUTER]
        .map(|router| format!("  track group {HSRP_GROUP} router {router} version 2\n"));
    let mut lab = Lab::build(options("hsrp", lines)).expect("a lab");
    let other = Netns::create(&lab.id, "r2").expect("a second router");
    let plug = format!("link add name sw-r2 type veth peer name eth0 netns {}", other.name());
    let lines = [plug.as_str(), "link set dev sw-r2 master vlan2", "link set dev sw-r2 up"];
    lab.topology.switch.ip(&lines.map(str::to_owned)).expect("its port");
    other
        .ip(&[format!("addr add {OTHER_ROUTER}/24 dev eth0"), "link set dev eth0 up".to_owned()])
        .expect("its address");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let pace = Duration::from_millis(20);
    let first = speak(&runtime, &lab.topology.router, ROUTER, 110);
    let second = speak(&runtime, &other, OTHER_ROUTER, 100);
    wait::until("the better router", LIMIT, pace, || Ok(is_active(&first).then_some(()))).expect("election");
    lab.start(LIMIT).expect("one active, one standby");
    wait_for_roles(&mut lab, Side::A);
    assert_eq!(tracking(&lab, Side::B)["eligible"], false, "its router is not the active one");
    let mut traffic = Traffic::start(&lab, CONNECTIONS).expect("traffic");
    let standby = || {
        let csm = lab.nodes[0].csm().args(["show", "standby", "brief"]).output().expect("csm");
        String::from_utf8(csm.stdout).expect("text")
    };
    let listing = standby();
    assert!(listing.contains("Listen   192.158.38.20   192.158.38.21   192.158.38.1"), "{listing}");

    runtime.block_on(first.leave());
    wait::until("the other router", LIMIT, pace, || Ok(is_active(&second).then_some(()))).expect("election");
    wait_for_roles(&mut lab, Side::B);
    nothing_lost(&mut traffic);
    assert_eq!(last_reason(&lab, Side::B), "tracking");
    // It comes back, preempts, and the role follows at once, though strays of the last move may still be relayed.
    let first = speak(&runtime, &lab.topology.router, ROUTER, 110);
    wait_for_roles(&mut lab, Side::A);
    nothing_lost(&mut traffic);
    assert!(is_active(&first) && !is_active(&second));
    assert_eq!(last_reason(&lab, Side::A), "tracking");
    drop((traffic, first, second, other));
    finish(lab);
}

/// What hellos of the IPv6 group come from, and whom they are about.
const ROUTERS6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x20), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x21)];
const HSRP_ADDRESS6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 5, 0x73ff, 0xfea0, HSRP_GROUP);

/// The same of a group of IPv6, whose routers are known by their addresses of the link.
#[test]
fn the_role_follows_an_hsrp_group_of_ipv6() {
    let lines =
        ROUTERS6.map(|router| format!("  track group {HSRP_GROUP} router {router} vlan 2 version 2\n"));
    let mut lab = Lab::build(Options { ipv6: true, ..options("hsrp6", lines) }).expect("a lab");
    let other = Netns::create(&lab.id, "r2").expect("a second router");
    let plug = format!("link add name sw-r2 type veth peer name eth0 netns {}", other.name());
    let lines = [plug.as_str(), "link set dev sw-r2 master vlan2", "link set dev sw-r2 up"];
    lab.topology.switch.ip(&lines.map(str::to_owned)).expect("its port");
    other.ip(&["link set dev eth0 up".to_owned()]).expect("its link");
    for (netns, own) in [(&lab.topology.router, ROUTERS6[0]), (&other, ROUTERS6[1])] {
        netns.ip(&[format!("addr add {own}/64 dev eth0 nodad")]).expect("its address");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let speak = |netns: &Netns, own: Ipv6Addr, priority| {
        speak_for(HSRP_ADDRESS6.into(), &runtime, netns, own.into(), priority)
    };
    let pace = Duration::from_millis(20);
    let first = speak(&lab.topology.router, ROUTERS6[0], 110);
    let second = speak(&other, ROUTERS6[1], 100);
    wait::until("the better router", LIMIT, pace, || Ok(is_active(&first).then_some(()))).expect("election");
    lab.start(LIMIT).expect("one active, one standby");
    wait_for_roles(&mut lab, Side::A);
    let said = tracking(&lab, Side::B);
    assert_eq!(said["eligible"], false, "its router is not the active one: {said}");
    assert_eq!(said["objects"][0]["object"], format!("group {HSRP_GROUP} router {} vlan 2", ROUTERS6[1]));

    runtime.block_on(first.leave());
    wait::until("the other router", LIMIT, pace, || Ok(is_active(&second).then_some(()))).expect("election");
    wait_for_roles(&mut lab, Side::B);
    assert_eq!(last_reason(&lab, Side::B), "tracking");
    let first = speak(&lab.topology.router, ROUTERS6[0], 110);
    wait_for_roles(&mut lab, Side::A);
    assert!(is_active(&first) && !is_active(&second));
    drop((first, second, other));
    finish(lab);
}
