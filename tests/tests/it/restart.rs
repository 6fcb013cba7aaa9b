//! The end of csmd is not the end of what it forwards: tables and program outlive it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use csm_tests::checks::heartbeats;
use csm_tests::figure::{Figure, Timers};
use csm_tests::lab::{Lab, Options};
use csm_tests::node::{Fault, Node};
use csm_tests::programs::Programs;
use csm_tests::scenario::Traffic;
use csm_tests::status::Role;
use csm_tests::topology::{Side, Wiring};
use csm_tests::wait::{self, now_ns};
use csm_user::ft::State;
use csm_user::ft::wire::Kind;

use crate::ready::configure;
use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);

fn lab(test: &str) -> Lab {
    let options = Options::small(Programs::beside_this_one().expect("csmd, csm and csm-lab"), out(test));
    Lab::build(options).expect("a lab")
}

/// What `reload` does to an active node: another process, the same role, and nothing that a client could notice.
#[test]
fn a_restart_loses_no_packet_and_does_not_move_the_role() {
    let mut lab = lab("reload");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let mut traffic = Traffic::start(&lab, 200).expect("traffic");
    for round in 1..=2 {
        if round == 2 {
            // The next csmd finds it in the tables alone: its connections drain.
            configure(&mut lab, active, "no vserver MESSAGES\n");
            lab.node(active).command("hw-module csm 5 standby config-sync").expect("synchronized");
            lab.node(active).command("write memory").expect("saved");
        }
        traffic.mark().expect("mark");
        let begun = now_ns();
        lab.node(active).reload(LIMIT).expect("a restart");
        let report = traffic.prove(LIMIT).expect("report");
        assert_eq!((report.alive, report.unproven), (200, 0), "round {round}: {report:?}");
        let probes = traffic.probes().expect("report");
        assert!(probes.sent > 100 && probes.lost == 0, "round {round}: {probes:?}");
        let said = heartbeats(&lab.capture.frames(begun, now_ns()));
        let moved =
            said.iter().find(|said| said.message.kind == Kind::Coup || said.message.state == State::Init);
        assert!(moved.is_none(), "round {round}: {moved:?}");
        let asked = said.iter().any(|said| said.by == active && !said.message.hold.is_zero());
        let granted = said.iter().any(|said| said.by == active.peer() && said.message.held > 0);
        assert!(asked && granted, "round {round}: no hold");
        lab.node(active.peer()).wait_for(Role::Standby, LIMIT).expect("a replica again");
        assert_eq!(lab.node(active).status().expect("a status").role, Role::Active, "round {round}");
    }
    // What is known to the standby is what there is, also of the time in which nobody told it.
    lab.fail(active, Fault::Kill).expect("kill");
    lab.node(active.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
    traffic.mark().expect("mark");
    let report = traffic.prove(LIMIT).expect("report");
    assert_eq!((report.alive, report.unproven), (200, 0), "{report:?}");
    drop(traffic);
    finish(lab);
}

/// The CSM's hitless upgrade, in its six steps, from one build to another.
#[test]
fn the_six_steps_of_an_upgrade_lose_nothing() {
    let (mut lab, program) = lab_with_own_program("upgrade");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let standby = active.peer();
    let mut traffic = Traffic::start(&lab, 100).expect("traffic");
    traffic.mark().expect("mark");
    // 1: preempt is off. 2:
    lab.node(standby).command("write memory").expect("saved");
    // 3: another build, by its checksum.
    let mut next = std::fs::read(&program).expect("the program");
    next.extend(b"another build");
    replace(&program, &next);
    lab.fail(standby, Fault::Leave).expect("an orderly end");
    lab.restore(standby).expect("a start");
    let complete = wait::until("a complete replica", LIMIT, Duration::from_millis(50), || {
        let status = lab.node(standby).status().ok();
        Ok(status
            .filter(|status| status.role == Role::Standby && status.obstacles == ["the software differs"]))
    });
    complete.expect("standby with the new build, its replica complete");
    assert!(!software_in_sync(lab.node(active)), "the builds are the same: nothing was tested");
    // 4 and 5: as the program is in its place already.
    lab.fail(active, Fault::Leave).expect("an orderly end");
    lab.node(standby).wait_for(Role::Active, LIMIT).expect("the role was handed over");
    lab.restore(active).expect("a start");
    // 6:
    lab.node(active).wait_for(Role::Standby, LIMIT).expect("it comes up as standby");
    assert!(software_in_sync(lab.node(active)));
    let report = traffic.prove(LIMIT).expect("report");
    assert_eq!((report.alive, report.unproven), (100, 0), "{report:?}");
    let probes = traffic.probes().expect("report");
    assert!(probes.sent > 100 && probes.lost == 0, "{probes:?}");
    drop(traffic);
    finish(lab);
    std::fs::remove_file(program).expect("ours");
}

fn software_in_sync(node: &Node) -> bool {
    let status = node.show("ft detail").expect("a status");
    status.pointer("/software_in_sync").and_then(serde_json::Value::as_bool).expect("what it runs")
}

/// A lab whose nodes run a copy of csmd that the test may replace.
fn lab_with_own_program(test: &str) -> (Lab, PathBuf) {
    let mut programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let own = std::env::temp_dir().join(format!("csmd-{}-{test}", std::process::id()));
    std::fs::copy(&programs.csmd.path, &own).expect("a copy");
    programs.csmd.path.clone_from(&own);
    (Lab::build(Options::small(programs, out(test))).expect("a lab"), own)
}

/// Puts another program in the place of one that runs.
fn replace(program: &Path, octets: &[u8]) {
    std::fs::remove_file(program).expect("the program");
    std::fs::write(program, octets).expect("another program");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

/// The program that is to go on is none: after the hold, and no earlier, the peer takes over as after a crash.
#[test]
fn a_restart_that_never_comes_back_is_a_failover_within_ten_seconds() {
    let (mut lab, program) = lab_with_own_program("broken");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let mut traffic = Traffic::start(&lab, 100).expect("traffic");
    let good = std::fs::read(&program).expect("the program");
    // It says what it is, as it is asked before, and then does nothing.
    let honest = program.with_extension("honest");
    std::fs::copy(&program, &honest).expect("a copy");
    let script = format!(
        "#!/bin/sh\nfor word; do [ \"$word\" = --identify ] && exec {} \"$@\"; done\nexec sleep 60\n",
        honest.display()
    );
    replace(&program, script.as_bytes());
    let begun = now_ns();
    lab.node(active).command("reload force").expect("a restart");
    lab.node(active.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
    let took = Duration::from_nanos(now_ns() - begun);
    assert!((Duration::from_secs(8)..Duration::from_secs(12)).contains(&took), "{took:?}");
    // Repaired, it finds what was left, and is its peer's standby.
    replace(&program, &good);
    lab.fail(active, Fault::Kill).expect("kill");
    lab.restore(active).expect("a start");
    lab.node(active).wait_for(Role::Standby, LIMIT).expect("a standby");
    traffic.mark().expect("mark");
    let report = traffic.prove(LIMIT).expect("report");
    assert_eq!((report.alive, report.unproven), (100, 0), "{report:?}");
    drop(traffic);
    finish(lab);
    std::fs::remove_file(honest).expect("ours");
    std::fs::remove_file(program).expect("ours");
}

/// Nobody has a replica: the peer is off. The crash is an interruption, and no connection is lost by it.
#[test]
fn the_tables_of_a_killed_csmd_are_taken_over_by_the_next_one() {
    let mut lab = lab("crash");
    let active = lab.start(LIMIT).expect("one active, one standby");
    lab.fail(active.peer(), Fault::PowerOff).expect("the peer is off");
    let mut traffic = Traffic::start(&lab, 100).expect("traffic");
    for round in 0..2 {
        lab.fail(active, Fault::Kill).expect("kill");
        lab.restore(active).expect("a start");
        lab.node(active).wait_for(Role::Active, LIMIT).expect("active again");
        traffic.messages("mark").expect("mark");
        let report = traffic.prove(LIMIT).expect("report");
        assert_eq!((report.alive, report.unproven), (100, 0), "round {round}: {report:?}");
    }
    let log = std::fs::read_to_string(lab.node(active).log()).expect("a log");
    assert_eq!(log.matches("the tables of the csmd before are taken over").count(), 2, "{log}");
    drop(traffic);
    // A stop that was asked for leaves nothing, pins included: `finish` looks.
    finish(lab);
}

/// A program without a controller shuts its gate by itself: what is pinned never keeps an address answered.
#[test]
fn a_program_that_outlives_its_controller_forwards_nothing_after_its_lease() {
    let mut lab = lab("orphan");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let mut traffic = Traffic::start(&lab, 50).expect("traffic");
    lab.fail(active.peer(), Fault::PowerOff).expect("the peer is off");
    lab.fail(active, Fault::Kill).expect("kill");
    let silent = wait::until("silence", LIMIT, Duration::from_millis(500), || {
        let report = traffic.messages("report")?;
        traffic.messages("mark")?;
        Ok((report.alive == report.unproven).then_some(()))
    });
    silent.expect("nothing is forwarded");
    let carries = || lab.topology.node(active).within(attached);
    let stays = carries().expect("in the node's namespace").expect("ip link");
    assert!(stays, "the program has left with its controller: nothing was tested");
    let socket = lab.runtime().join(format!("csm-{}.sock", active.letter()));
    let withdrawn = std::process::Command::new(&lab.options.programs.csmd.path)
        .args(["--withdraw", "--socket"])
        .arg(socket)
        .status()
        .expect("csmd");
    assert!(withdrawn.success());
    let gone = wait::until("a port without a program", LIMIT, Duration::from_millis(20), || {
        Ok((!carries()??).then_some(()))
    });
    gone.expect("`--withdraw` takes it off");
    drop(traffic);
    finish(lab);
}

/// Whether a port of this network namespace carries a program.
fn attached() -> anyhow::Result<bool> {
    let links = std::process::Command::new("ip").args(["-d", "link", "show"]).output()?;
    Ok(String::from_utf8_lossy(&links.stdout).contains("prog/xdp"))
}

/// The box that ranks higher preempts, but not after a command, whatever is done to it on purpose meanwhile.
#[test]
fn a_restart_of_the_standby_leaves_a_role_where_a_command_has_moved_it() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let figure = Figure { timers: Timers::FAST, preempt: true, wiring: Wiring::Access };
    let mut lab =
        Lab::build(Options { figure, ..Options::small(programs, out("reload-held")) }).expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    lab.node(Side::A).wait_for(Role::Active, LIMIT).expect("the better one");
    lab.node(Side::B).wait_for(Role::Standby, LIMIT).expect("a standby with a complete replica");
    lab.fail(Side::A, Fault::FtActive).expect("a switchover");
    lab.node(Side::B).wait_for(Role::Active, LIMIT).expect("takeover");
    lab.node(Side::A).wait_for(Role::Standby, LIMIT).expect("a standby");
    lab.node(Side::A).reload(LIMIT).expect("a restart");
    lab.node(Side::A).wait_for(Role::Standby, LIMIT).expect("a standby with a complete replica");
    let ft = lab.node(Side::A).show("ft").expect("ft");
    assert_eq!(ft["preempt_held"], true, "{ft}");
    assert_eq!(lab.node(Side::B).status().expect("status").role, Role::Active);
    finish(lab);
}
