//! What the operator's policies do on a running pair: when a reload waits, who may take the role, what a box gets that
//! comes back.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use csm_tests::lab::{Lab, Options};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::status::Role;
use csm_tests::topology::Side;
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(20);

fn configure(lab: &mut Lab, side: Side, lines: &str) {
    let mut csm = lab.node(side).csm();
    let mut csm = csm.args(["configure", "terminal"]).stdin(Stdio::piped()).spawn().expect("csm");
    csm.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    assert!(csm.wait().expect("its end").success(), "{lines}");
}

fn refused(lab: &mut Lab, side: Side, command: &str) -> String {
    format!("{:#}", lab.node(side).command(command).expect_err("refused"))
}

/// As the API has it: minutes are too long for a test.
fn reload_in(lab: &mut Lab, side: Side, seconds: u32) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--header", "Content-Type: application/json", "--data"])
        .arg(format!("{{\"in_s\":{seconds}}}"));
    curl.arg("--unix-socket").arg(lab.node(side).socket()).arg("http://csmd/v1/reload");
    assert!(curl.output().expect("curl").status.success());
}

fn starts(lab: &mut Lab, side: Side) -> usize {
    std::fs::read_to_string(lab.node(side).log()).expect("a log").matches(" runs module csm ").count()
}

#[test]
fn a_reload_waits_for_its_time_and_keeps_the_role() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let mut lab = Lab::build(Options::small(programs, out("reload-in"))).expect("a lab");
    let active = lab.start(LIMIT).expect("a pair");
    let before = starts(&mut lab, active);
    // Called off, and then not.
    reload_in(&mut lab, active, 60);
    let shown = lab.node(active).command("show running-directory").expect("an answer");
    assert!(shown.contains("reload in "), "{shown}");
    lab.node(active).command("reload cancel").expect("one waits");
    assert!(refused(&mut lab, active, "reload cancel").contains("no reload waits"));
    wait::until("readiness", LIMIT, PACE, || Ok(lab.node(active).command("show ft readiness").ok()))
        .expect("ready");
    reload_in(&mut lab, active, 1);
    wait::until("the next csmd", LIMIT, PACE, || Ok((starts(&mut lab, active) == before + 1).then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.node(active).last_words()));
    lab.node(active.peer()).wait_for(Role::Standby, LIMIT).expect("a replica again");
    assert_eq!(lab.node(active).status().expect("a status").role, Role::Active, "the role stays");
    finish(lab);
}

#[test]
fn a_box_that_lacks_the_active_ones_configuration_does_not_take_the_role_back_and_gets_it_at_its_start() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let mut options = Options::small(programs, out("takeover-synchronized"));
    options.figure.preempt = true;
    options.group = ["  takeover synchronized\n".to_owned(), "  takeover synchronized\n".to_owned()];
    let mut lab = Lab::build(options).expect("a lab");
    // A has the higher priority.
    lab.start(LIMIT).expect("a pair");
    lab.node(Side::A).wait_for(Role::Active, LIMIT).expect("by priority");
    lab.node(Side::A).command("write memory").expect("saved");
    lab.node(Side::A).command("copy working certified flash-synchro").expect("certified on both");
    lab.fail(Side::A, Fault::Kill).expect("killed");
    lab.node(Side::B).wait_for(Role::Active, LIMIT).expect("a takeover");
    configure(&mut lab, Side::B, "vserver VIP1\n idle 77\n");
    lab.node(Side::B).command("write memory").expect("saved");
    lab.node(Side::B).command("copy working certified").expect("certified");
    lab.restore(Side::A).expect("csmd");
    let said = "this box is not eligible beside the active one: it has to be synchronized";
    wait::until("the verdict", LIMIT, PACE, || {
        Ok(std::fs::read_to_string(lab.node(Side::A).log())?.contains(said).then_some(()))
    })
    .expect("it is outdated");
    lab.node(Side::A).wait_for_replica(LIMIT, &["the configurations differ"]).expect("a standby");
    wait::observe(Duration::from_secs(1)).expect("time passes");
    assert_eq!(
        lab.node(Side::B).status().expect("a status").role,
        Role::Active,
        "it would have preempted by now"
    );
    // Asked for, the certified directory of the active box comes by itself, and the role goes where it belongs.
    configure(&mut lab, Side::B, "ft group 1 vlan 9\n sync auto\n");
    lab.node(Side::A).wait_for(Role::Active, LIMIT).expect("synchronized, it takes the role back");
    let text = lab.node(Side::A).command("show running-config").expect("an answer");
    assert!(text.contains("\n  idle 77\n"), "{text}");
    let saved = lab.node(Side::A).command("show startup-config").expect("an answer");
    assert!(saved.contains("\n  idle 77\n"), "distributed: {saved}");
    finish(lab);
}
