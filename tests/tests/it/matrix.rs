//! Some cells of the matrix of modes and faults, so that each mode and each kind of fault is tried on every change; all of
//! them are `csm-lab matrix`. What is here is not in `failover`, `bridge` and `trunk` already.

use std::time::Duration;

use csm_tests::figure::Timers;
use csm_tests::link::Cut;
use csm_tests::matrix::{Bench, Mode, Trouble, table};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::timers::Setting;

use crate::out;

/// In one lab of `mode`, one trouble after another; nobody notices any.
fn unnoticed(mode: Mode, preempt: bool, troubles: &[Trouble]) {
    let timers = Timers { heartbeat: Timers::FAST.heartbeat * 2, failover: Timers::FAST.failover * 2 };
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let out = out(&format!("matrix-{}", mode.name()));
    let mut bench = Bench::raise(mode, preempt, timers, 50, programs, out.clone()).expect("a lab");
    for &trouble in troubles {
        let cell = bench.cell(trouble).unwrap_or_else(|error| panic!("{}: {error:#}", trouble.name()));
        println!("{}", table::row(&cell));
        assert_eq!(cell.complaints(), Vec::<String>::new(), "{}, {}", mode.name(), trouble.name());
        assert!(cell.dissection.frames > 100, "{:?}", cell.dissection);
    }
    assert_eq!(bench.take_down().expect("look for leaks"), Vec::<String>::new());
    std::fs::remove_dir_all(out).expect("remove the logs");
}

#[test]
fn dispatch_mode_survives_a_stopped_node() {
    unnoticed(Mode::Dispatch, false, &[Trouble::Node(Fault::Stop)]);
}

#[test]
fn client_nat_survives_power_off() {
    unnoticed(Mode::ClientNat, false, &[Trouble::Node(Fault::PowerOff)]);
}

#[test]
fn forwarding_survives_a_leave() {
    unnoticed(Mode::Forward, false, &[Trouble::Node(Fault::Leave)]);
}

#[test]
fn one_armed_mode_survives_its_links() {
    unnoticed(Mode::OneArmed, true, &[Trouble::Cut(1, Cut::Both), Trouble::Isolated]);
}

#[test]
fn server_nat_survives_one_way_links_and_a_machine_that_is_busy_with_other_things() {
    unnoticed(Mode::ServerNat, true, &[Trouble::Cut(2, Cut::FromNode), Trouble::Starved(50)]);
}

#[test]
fn a_trunk_survives_a_runtime_that_stands_still_and_a_gateway_that_dies() {
    unnoticed(Mode::Trunk, true, &[Trouble::Stalled, Trouble::Gateway(1)]);
}

/// Five failovers at 100/300: never before the time the peer is given, and with what a lease and an announcement cost
/// after it; the table of all settings is `csm-lab timers`.
#[test]
fn a_silent_node_is_replaced_after_the_failover_time_and_not_before() {
    let timers = Timers { heartbeat: Timers::FAST.heartbeat * 2, failover: Timers::FAST.failover * 2 };
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let out = out("timers");
    let setting = Setting::measure(timers, 5, programs, out.clone()).expect("five failovers");
    println!("{}", setting.row());
    assert_eq!(setting.connections, [50, 50]);
    assert_eq!(setting.unprovoked, 0);
    for failover in &setting.failovers {
        // The last heartbeat may have left up to one interval before the node was stopped.
        assert!(failover.detection > timers.failover - timers.heartbeat, "{failover:?}");
        assert!(failover.silence < Duration::from_secs(3), "{failover:?}");
    }
    std::fs::remove_dir_all(out).expect("remove the logs");
}
