//! `show ft readiness`: on a pair, and again with one thing missing after the other.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use csm_tests::lab::{Lab, Options};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::scenario::Traffic;
use csm_tests::status::Role;
use csm_tests::topology::Side;
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(40);
const PACE: Duration = Duration::from_millis(50);

/// Exit status of `show ft readiness` on a node, and what it prints.
fn ask(lab: &mut Lab, side: Side) -> (Option<i32>, String) {
    let asked = lab.node(side).csm().args(["show", "ft", "readiness"]).output().expect("csm runs");
    let text = String::from_utf8_lossy(&asked.stdout).into_owned() + &String::from_utf8_lossy(&asked.stderr);
    (asked.status.code(), text)
}

/// Waits until both nodes say yes.
fn yes(lab: &mut Lab) {
    for side in Side::BOTH {
        let mut last = String::new();
        let ready = wait::until("a pair that is ready", LIMIT, PACE, || {
            let (status, text) = ask(lab, side);
            last.clone_from(&text);
            Ok((status == Some(0) && text.starts_with("yes: ")).then_some(()))
        });
        assert!(ready.is_ok(), "{side:?}: {last}");
    }
}

/// Waits until a node says no, and this is missing, of all things.
fn no(lab: &mut Lab, side: Side, missing: &str) {
    let mut last = String::new();
    let named = wait::until("what is missing", LIMIT, PACE, || {
        let (status, text) = ask(lab, side);
        last.clone_from(&text);
        Ok((status == Some(1) && text.starts_with("no: ") && text.contains(missing)).then_some(()))
    });
    assert!(named.is_ok(), "{side:?}, {missing}: {last}");
}

/// Gives these lines to `configure terminal` on a node.
pub(crate) fn configure(lab: &mut Lab, side: Side, lines: &str) {
    let mut command = lab.node(side).csm();
    let mut csm = command.args(["configure", "terminal"]).stdin(Stdio::piped()).spawn().expect("csm starts");
    csm.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    assert!(csm.wait().expect("its end").success(), "{lines}");
}

#[test]
fn a_pair_says_that_a_box_may_be_lost_and_names_what_is_missing_where_it_may_not() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let mut lab = Lab::build(Options::small(programs, out("ready"))).expect("a lab");
    let active = lab.start(LIMIT).expect("a pair");
    let standby = active.peer();
    for side in Side::BOTH {
        configure(&mut lab, side, "probe TCP tcp\n interval 2\n retries 1\n failed 2\n open 1\n");
    }
    yes(&mut lab);

    // A cable of the standby's: it could not forward.
    lab.topology.node(standby).ip(&["link set eth2 down".to_owned()]).expect("down");
    no(&mut lab, active, "missing  links          the peer has no link on eth2 (vlan 3)");
    no(&mut lab, standby, "missing  links          this box has no link on eth2 (vlan 3)");
    lab.topology.node(standby).ip(&["link set eth2 up".to_owned()]).expect("up");
    yes(&mut lab);

    // A real that the standby alone does not reach: it has a wrong MAC address for it.
    let neighbour = "192.158.39.102 dev eth2";
    let wrong = format!("neigh replace {neighbour} lladdr 02:00:00:00:00:99 nud permanent");
    lab.topology.node(standby).ip(&[wrong]).expect("a neighbour");
    let sentence =
        "missing  probes         real 192.158.39.102 (WEB) is operational for this box and not for the peer";
    no(&mut lab, active, sentence);
    lab.topology.node(standby).ip(&[format!("neigh del {neighbour}")]).expect("no neighbour");
    yes(&mut lab);

    // A command that one of them lacks, and one by which connections are not replicated.
    configure(&mut lab, active, "vserver VIP1\n idle 99\n");
    no(&mut lab, standby, "missing  configuration  the configuration is not the same on both boxes");
    lab.node(active).command("hw-module csm 5 standby config-sync").expect("synchronized");
    yes(&mut lab);

    let explained = lab.node(standby).command("ft explain").expect("an answer");
    assert!(explained.starts_with("This box is standby since "), "{explained}");
    assert!(explained.contains("this box takes the role after "), "{explained}");
    assert!(explained.contains("on the peer: this box takes the role at once"), "{explained}");

    // Connections that are older than the option by which they are replicated, and that go on while nothing is in service.
    let synchronize = |lab: &mut Lab| {
        lab.node(active).command("hw-module csm 5 standby config-sync").expect("synchronized");
    };
    configure(&mut lab, active, "vserver MESSAGES\n no replicate csrp connection\n");
    synchronize(&mut lab);
    let mut traffic = Traffic::start(&lab, 100).expect("traffic");
    let lost = "missing  services       100 connections of MESSAGES would be lost: they are not replicated";
    no(&mut lab, active, lost);
    configure(&mut lab, active, "vserver MESSAGES\n no inservice\n");
    synchronize(&mut lab);
    // Of nothing else it would say no now.
    no(&mut lab, standby, lost);
    configure(&mut lab, active, "vserver MESSAGES\n inservice\n replicate csrp connection\n");
    synchronize(&mut lab);
    yes(&mut lab);
    lab.fail(active, Fault::Kill).expect("killed");
    lab.node(standby).wait_for(Role::Active, LIMIT).expect("takeover");
    traffic.messages("mark").expect("mark");
    let report = traffic.prove(LIMIT).expect("report");
    assert_eq!((report.alive, report.unproven), (100, 0), "{report:?}");
    drop(traffic);

    no(&mut lab, standby, "missing  pair           no peer is heard");
    let explained = lab.node(standby).command("ft explain").expect("an answer");
    assert!(
        explained.contains(" - nothing: no peer is heard, and nobody could take the role\n"),
        "{explained}"
    );
    finish(lab);
}
