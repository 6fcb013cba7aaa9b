//! The product in the lab: nothing that was established is lost, whatever takes the active node away.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::slice::from_ref;
use std::thread;
use std::time::{Duration, Instant};

use csm_tests::checks::{claims, heartbeats, not_silent, speakers, two_macs};
use csm_tests::figure::MESSAGE_PORT;
use csm_tests::figure::{Figure, Timers};
use csm_tests::lab::{Lab, Options};
use csm_tests::link::{self, Cut};
use csm_tests::node::{Fault, NegativeControl};
use csm_tests::programs::Programs;
use csm_tests::report::table;
use csm_tests::scenario::{self, Traffic};
use csm_tests::status::Role;
use csm_tests::strays;
use csm_tests::topology::{ALIAS, Side, VIP, Wiring};
use csm_tests::traffic::driver::Driver;
use csm_tests::traffic::msg_client;
use csm_tests::wait::{self, now_ns};
use csm_user::ft::State;
use csm_user::ft::wire::Kind;
use serde_json::{Value, json};

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);
/// Bytes a second at which a small lab's download lasts from before the fault until after the takeover.
const RATE: u64 = 3_000_000;

fn options(test: &str) -> Options {
    Options::small(Programs::beside_this_one().expect("csmd, csm and csm-lab"), out(test))
}

fn survives(fault: Fault) {
    survives_with(options(fault.name()), 200, fault);
}

/// Nothing of so many connections and a download is lost over `fault`, nor over the failed node's return.
pub(super) fn survives_with(options: Options, connections: usize, fault: Fault) {
    let mut lab = Lab::build(options).expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    let mut traffic = Traffic::start(&lab, connections).expect("traffic");
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
    equal_tables(&lab, 100, LIMIT).expect("equal tables");
    drop(traffic);
    finish(lab);
}

/// Waits until both nodes have the same long-lived connections, at least `count` of them.
fn equal_tables(lab: &Lab, count: usize, limit: Duration) -> anyhow::Result<()> {
    wait::until("equal tables", limit, Duration::from_millis(100), || {
        let [a, b] = lab.nodes.each_ref().map(|node| node.show("conns"));
        let (a, b) = (long_lived(&a?), long_lived(&b?));
        Ok((a == b && a.len() >= count).then_some(()))
    })
}

/// The connections of the message service, each as its JSON without what is each node's own (ages, counters).
fn long_lived(answer: &Value) -> BTreeSet<String> {
    let rows =
        answer.get("connections").or(Some(answer)).and_then(Value::as_array).cloned().unwrap_or_default();
    let facts = |row: &Value| {
        ["vserver", "protocol", "client", "destination", "real", "state"]
            .map(|name| row.get(name).map(ToString::to_string))
    };
    rows.iter()
        .filter(|row| row.get("vserver").and_then(Value::as_str) == Some("MESSAGES"))
        .map(|row| format!("{:?}", facts(row)))
        .collect()
}

/// Both nodes start at the same instant while everybody asks for the group's addresses: one node answers, and only one.
#[test]
fn simultaneous_starts_end_with_one_active_and_one_speaker() {
    let mut lab = Lab::build(options("cold-start")).expect("a lab");
    for round in 0..5 {
        let began = now_ns();
        let active = lab.start(LIMIT).expect("one active, one standby");
        strays::ask(&lab, Duration::from_millis(300)).expect("questions");
        let said = claims(&lab.capture.frames(began, now_ns()), &[VIP, ALIAS]);
        assert!(two_macs(&said).is_empty(), "round {round}: {said:?}");
        for address in [VIP, ALIAS] {
            assert_eq!(speakers(&said, address), [active], "round {round}: {said:?}");
        }
        assert!(said.iter().any(|claim| !claim.announcement), "round {round}: nobody was asked: {said:?}");
        for side in Side::BOTH {
            lab.fail(side, Fault::Kill).expect("kill");
        }
    }
    finish(lab);
}

/// Stops the active node, sends it everybody's frames and questions, wakes it, sends it more. Says what it did of what
/// only an active node may.
fn stopped_and_woken(lab: &mut Lab) -> (Side, Vec<String>) {
    // One that has just taken the role still has repeats of its announcements to send.
    let first = lab.wait_for_active(LIMIT).expect("an active node");
    lab.fail(first, Fault::FtActive).expect("clear ft active");
    let old = first.peer();
    lab.node(old).wait_for(Role::Active, LIMIT).expect("takeover");
    let stopped_at = lab.fail(old, Fault::Stop).expect("stop");
    lab.node(old.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
    // Its lease was over before its peer announced.
    let taken_over = claims(&lab.capture.frames(stopped_at, now_ns()), &[VIP, ALIAS])
        .into_iter()
        .find(|claim| claim.by == old.peer())
        .expect("an announcement")
        .at_ns;
    let steered_at = now_ns();
    strays::steer(lab, old).expect("steer");
    // So long that the last repeat falls due, two seconds after the others.
    strays::ask(lab, Duration::from_millis(2_700)).expect("questions");
    lab.restore(old).expect("SIGCONT");
    strays::ask(lab, Duration::from_millis(500)).expect("questions");
    strays::release(lab, old).expect("release");
    let end = now_ns();
    let said = claims(&lab.capture.frames(taken_over, end), &[VIP, ALIAS]);
    assert!(said.iter().any(|claim| !claim.announcement), "the questions were asked: {said:?}");
    (old, not_silent(&said, &lab.ports.samples(steered_at, end), old, taken_over))
}

#[test]
fn a_stopped_node_and_the_woken_one_neither_answer_nor_forward() {
    let mut lab = Lab::build(options("silent")).expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    let mut traffic = Traffic::start(&lab, 50).expect("traffic");
    let stopped = Instant::now();
    let (old, faults) = stopped_and_woken(&mut lab);
    assert_eq!(faults, Vec::<String>::new());
    let stopped = stopped.elapsed();
    let back = lab.node(old).wait_for(Role::Standby, LIMIT).expect("return");
    traffic.messages("mark").expect("mark");
    let report = traffic.prove(LIMIT).expect("report");
    assert_eq!((report.alive, report.unproven), (50, 0), "{report:?}");
    // It knows, and says, how long it was away: at least as long as the first questions went on.
    let late = Duration::from_micros(back.worst_lateness_us);
    assert!(late > Duration::from_millis(2_500) && late < stopped, "{late:?} of {stopped:?}");
    let fence = last_flight(&lab, old);
    assert_eq!((&fence["action"], &fence["reason"]), (&json!("fence"), &json!("lease expired")), "{fence}");
    assert_eq!(fence["lateness_us"].as_u64(), Some(back.worst_lateness_us), "{fence}");
    let claim = last_flight(&lab, old.peer());
    assert_eq!((&claim["action"], &claim["reason"]), (&json!("claim"), &json!("peer silent")), "{claim}");
    assert_eq!(claim["term"].as_u64(), fence["term"].as_u64().map(|term| term + 1), "{claim} {fence}");
    let heard = claim["peer_heard_ms_ago"].as_u64().expect("the peer had been heard");
    assert!(u128::from(heard) >= lab.options.figure.timers.failover.as_millis(), "{claim}");
    drop(traffic);
    finish(lab);
}

/// The latest entry of a node's flight recorder.
fn last_flight(lab: &Lab, side: Side) -> Value {
    let node = &lab.nodes[usize::from(side == Side::B)];
    let detail = node.show("ft detail").expect("ft detail");
    detail["recorder"].as_array().and_then(|entries| entries.last()).cloned().expect("a flight")
}

/// A planned switchover after which the switch goes on sending everything to the old active node. Says how many
/// connections still carried messages.
fn carried_by_relay(lab: &mut Lab, traffic: &mut Traffic) -> usize {
    let old = lab.wait_for_active(LIMIT).expect("an active node");
    strays::steer(lab, old).expect("steer");
    lab.fail(old, Fault::FtActive).expect("clear ft active");
    lab.node(old.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
    traffic.messages("mark").expect("mark");
    // The relay lasts for ten seconds.
    let report = traffic.prove(Duration::from_secs(5)).expect("report");
    report.alive - report.unproven
}

#[test]
fn strays_are_relayed_and_not_for_ever() {
    let mut lab = Lab::build(options("relay")).expect("a lab");
    let old = lab.start(LIMIT).expect("one active, one standby");
    let mut traffic = Traffic::start(&lab, 20).expect("traffic");
    assert_eq!(carried_by_relay(&mut lab, &mut traffic), 20);
    let ended = wait::until("the end of the relay", LIMIT, Duration::ZERO, || {
        traffic.messages("mark")?;
        let report = traffic.prove(Duration::from_secs(1))?;
        Ok((report.unproven == 20).then_some(()))
    });
    assert!(ended.is_ok(), "{ended:?}");
    // Taught rightly, the switch finds the active node again, and nothing is lost.
    strays::release(&lab, old).expect("release");
    traffic.messages("mark").expect("mark");
    let report = traffic.prove(LIMIT).expect("report");
    assert_eq!((report.alive, report.unproven), (20, 0), "{report:?}");
    drop(traffic);
    finish(lab);
}

/// What the tests above look at must be wrong in a lab with a defect, or they show nothing.
fn defective(control: NegativeControl, test: &str) -> (Lab, Side, Traffic) {
    let mut lab = Lab::build(Options { control: Some(control), ..options(test) }).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let traffic = Traffic::start(&lab, 50).expect("traffic");
    (lab, active, traffic)
}

#[test]
fn a_missing_lease_is_caught() {
    let (mut lab, _, traffic) = defective(NegativeControl::LeaseOff, "lease-off");
    let (_, faults) = stopped_and_woken(&mut lab);
    assert_eq!(faults.len(), 2, "it answered, and forwarded: {faults:?}");
    drop(traffic);
    finish(lab);
}

#[test]
fn a_missing_relay_is_caught() {
    let (mut lab, _, mut traffic) = defective(NegativeControl::RelayOff, "relay-off");
    assert_eq!(carried_by_relay(&mut lab, &mut traffic), 0);
    drop(traffic);
    finish(lab);
}

#[test]
fn a_missing_announcement_is_caught() {
    let (mut lab, old, mut traffic) = defective(NegativeControl::AnnounceOff, "announce-off");
    lab.fail(old, Fault::Stop).expect("stop");
    lab.node(old.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
    traffic.messages("mark").expect("mark");
    // The switch goes on sending to the stopped node's port, for its ageing time of 300 s.
    let report = traffic.prove(Duration::from_secs(3)).expect("report");
    assert_eq!(report.alive - report.unproven, 0, "{report:?}");
    drop(traffic);
    finish(lab);
}

#[test]
fn missing_deltas_are_caught() {
    let (mut lab, old, mut traffic) = defective(NegativeControl::DropDeltas, "drop-deltas");
    assert!(equal_tables(&lab, 50, Duration::from_secs(2)).is_err(), "equal without replication");
    // Connections may live on, rebuilt from what their servers send. Stickiness cannot be rebuilt: of twenty clients it
    // would take three to the power of twenty to one that each found its server again.
    lab.fail(old, Fault::Kill).expect("kill");
    lab.node(old.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
    let moved = wait::until("a client at another server", LIMIT, Duration::from_millis(100), || {
        let (clients, moved) = traffic.sticky()?;
        Ok((clients > 10 && moved > 0).then_some(moved))
    });
    assert!(moved.is_ok(), "{moved:?}");
    drop(traffic);
    finish(lab);
}

/// K1 of the lessons: the better node comes back empty and takes its role only with a complete replica, losing nothing.
#[test]
fn a_returning_node_preempts_only_with_a_complete_replica() {
    let figure = Figure { timers: Timers::FAST, preempt: true, wiring: Wiring::Access };
    let mut lab = Lab::build(Options { figure, ..options("preempt") }).expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    // Where B was ready much earlier it was active until now.
    lab.node(Side::A).wait_for(Role::Active, LIMIT).expect("priority 20 against 10");
    lab.node(Side::B).wait_for(Role::Standby, LIMIT).expect("a standby");
    let mut traffic = Traffic::start(&lab, 500).expect("traffic");
    for round in 0..2 {
        lab.fail(Side::A, Fault::Kill).expect("kill");
        lab.node(Side::B).wait_for(Role::Active, LIMIT).expect("takeover");
        let returned = now_ns();
        lab.restore(Side::A).expect("restart");
        lab.node(Side::A).wait_for(Role::Active, LIMIT).expect("preemption");
        lab.node(Side::B).wait_for(Role::Standby, LIMIT).expect("return");
        traffic.messages("mark").expect("mark");
        let report = traffic.prove(LIMIT).expect("report");
        assert_eq!((report.alive, report.unproven), (500, 0), "round {round}: {report:?}");
        let said: Vec<_> = heartbeats(&lab.capture.frames(returned, now_ns()))
            .into_iter()
            .filter(|said| said.by == Side::A)
            .map(|said| said.message)
            .collect();
        assert!(said.first().is_some_and(|first| !first.complete), "round {round}: it came back empty");
        let asked = said.iter().find(|message| message.kind == Kind::Elect).expect("it asked for the role");
        assert!(asked.complete, "round {round}: {asked:?}");
        let coup = said.iter().find(|message| message.state == State::Active).expect("it took the role");
        assert_eq!(coup.term, asked.term, "round {round}: by the term that it had asked for");
    }
    drop(traffic);
    finish(lab);
}

#[test]
fn labs_side_by_side_do_not_disturb_each_other() {
    let mut first = Lab::build(options("first")).expect("a lab");
    let mut second = Lab::build(options("second")).expect("a second lab");
    let [gone, _] = [&mut first, &mut second].map(|lab| lab.start(LIMIT).expect("one active, one standby"));
    let mut traffic = [&first, &second].map(|lab| Traffic::start(lab, 50).expect("traffic"));
    first.fail(gone, Fault::Kill).expect("kill");
    first.node(gone.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
    for traffic in &mut traffic {
        traffic.messages("mark").expect("mark");
        let report = traffic.prove(LIMIT).expect("report");
        assert_eq!((report.alive, report.unproven), (50, 0), "{report:?}");
    }
    drop(traffic);
    finish(first);
    finish(second);
}

#[test]
fn both_sides_take_their_turn() {
    let mut lab = Lab::build(options("turns")).expect("a lab");
    let first = lab.start(LIMIT).expect("one active, one standby");
    for expected in [first.peer(), first] {
        lab.fail(expected.peer(), Fault::Kill).expect("kill");
        lab.node(expected).wait_for(Role::Active, LIMIT).expect("takeover");
        lab.restore(expected.peer()).expect("restart");
        lab.node(expected.peer()).wait_for(Role::Standby, LIMIT).expect("return, without preemption");
    }
    finish(lab);
}

/// Connections are opened as fast as the clients can while the role goes to and fro; each stays open. The last ones before
/// each move are on their way to the standby when it becomes active.
#[test]
fn planned_switchovers_keep_what_was_proven_in_their_last_moment() {
    const PROCESSES: usize = 4;
    const CONNECTIONS: usize = 1_000;
    const MOVES: usize = 5;
    let mut lab = Lab::build(options("burst")).expect("a lab");
    let mut active = lab.start(LIMIT).expect("one active, one standby");
    let Lab { nodes, topology, options: lab_options, .. } = &mut lab;
    let (client, program) = (&topology.client, &lab_options.programs.csm_lab);
    let start = &|process: usize| {
        let numbers = [CONNECTIONS, 500, process * CONNECTIONS].map(|number| number.to_string());
        let target = SocketAddr::from((VIP, MESSAGE_PORT)).to_string();
        let words: Vec<String> = ["msg-client".into(), target].into_iter().chain(numbers).collect();
        Driver::<msg_client::Report>::start(client, program, &words)
    };
    let mut moves = 0;
    let clients: Vec<_> = thread::scope(|scope| {
        let opening: Vec<_> = (0..PROCESSES).map(|process| scope.spawn(move || start(process))).collect();
        while moves < MOVES && opening.iter().any(|process| !process.is_finished()) {
            // Refused until the standby has all there is to have; the clients go on meanwhile.
            if nodes[active as usize].fail(Fault::FtActive, topology).is_ok() {
                moves += 1;
                active = active.peer();
                nodes[active as usize].wait_for(Role::Active, LIMIT).expect("takeover");
            }
        }
        opening.into_iter().map(|process| process.join().expect("no panic")).collect()
    });
    assert!(moves >= 2, "the clients were done after {moves} moves");
    for client in clients {
        let mut client = client.expect("every connection carries a message there and back");
        client.mark().expect("mark");
        let proven = wait::until("a message on each connection", LIMIT, Duration::from_millis(100), || {
            Ok((client.report()?.unproven == 0).then_some(()))
        });
        let report = client.report().expect("report");
        assert!(proven.is_ok() && report.alive == CONNECTIONS, "after {moves} moves: {report:?}");
    }
    finish(lab);
}

/// The FT VLAN fails, then the heartbeats on the other VLANs too. While the nodes hear each other anywhere nothing moves.
#[test]
fn the_loss_of_the_ft_vlan_moves_nothing_while_the_peer_is_heard_elsewhere() {
    let mut lab = Lab::build(options("paths")).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let mut traffic = Traffic::start(&lab, 50).expect("traffic");
    let agreed = json!("key agreed over the FT VLAN");
    wait::until("a key", LIMIT, Duration::from_millis(20), || {
        let shown = lab.nodes.each_ref().map(|node| node.show("ft"));
        let [a, b] =
            [shown[0].as_ref(), shown[1].as_ref()].map(|ft| ft.map(|ft| ft["authenticated"].clone()));
        let heard = shown.iter().flatten().all(|ft| {
            ft["paths"].as_array().is_some_and(|paths| {
                paths.len() == 3 && paths.iter().all(|path| path["heard"] == true && path["hears_us"] == true)
            })
        });
        Ok((heard && a.is_ok_and(|key| key == agreed) && b.is_ok_and(|key| key == agreed)).then_some(()))
    })
    .expect("both boxes heard on three VLANs");
    let term = |lab: &Lab| lab.nodes.each_ref().map(|node| node.show("ft").expect("ft")["term"].clone());
    let before = term(&lab);

    let switch = &lab.topology.switch;
    link::cut(switch, &active.port(3), Cut::Both).expect("cut the FT VLAN");
    wait::until("the fault shown by both", LIMIT, Duration::from_millis(20), || {
        let said = lab.nodes.each_ref().map(|node| node.command("show module csm 5 ft"));
        let all = said.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let honest = |text: &String| {
            text.contains("FT VLAN is down, peer alive over VLAN 2") && text.contains("failover: not ready")
        };
        Ok(all.iter().all(honest).then_some(()))
    })
    .expect("FT VLAN is down, peer alive over VLAN 2");
    // Many failover times, and each message is answered.
    traffic.messages("mark").expect("mark");
    let report = traffic.prove(LIMIT).expect("report");
    assert_eq!((report.alive, report.unproven), (50, 0), "{report:?}");
    assert_eq!((lab.wait_for_active(LIMIT).expect("an active node"), term(&lab)), (active, before));

    for port in [1, 2] {
        link::deafen(&lab.topology.switch, &active.port(port)).expect("no heartbeat of the active node");
    }
    lab.node(active.peer()).wait_for(Role::Active, LIMIT).expect("takeover once it is heard nowhere");
    for port in 1..=3 {
        link::mend(&lab.topology.switch, &active.port(port)).expect("mend");
    }
    lab.wait_for_active(LIMIT).expect("one active node again");
    drop(traffic);
    finish(lab);
}
