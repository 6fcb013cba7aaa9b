//! Configuration synchronization on a pair.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use csm_tests::lab::{Lab, Options};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::status::Role;
use csm_tests::topology::{Side, VIP};
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(50);

/// `csm configure terminal` on one node; returns what it says on standard error.
fn configure(lab: &mut Lab, side: Side, lines: &str) -> String {
    let mut command = lab.node(side).csm();
    command.args(["configure", "terminal"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut csm = command.spawn().expect("csm starts");
    csm.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    String::from_utf8_lossy(&csm.wait_with_output().expect("its end").stderr).into_owned()
}

fn in_sync(lab: &mut Lab, side: Side) -> Option<bool> {
    lab.node(side).show("ft").ok()?["config_in_sync"].as_bool()
}

fn wait_in_sync(lab: &mut Lab, wanted: bool) {
    for side in Side::BOTH {
        let what = format!("in sync {wanted} on {side:?}");
        wait::until(&what, LIMIT, PACE, || Ok((in_sync(lab, side) == Some(wanted)).then_some(())))
            .expect("its checksums");
    }
}

/// The guide's own example: the standby has its ports and `ft group`, nothing else.
#[test]
fn a_bare_standby_gets_its_configuration_from_the_active_node_and_then_takes_over() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let mut lab = Lab::build(Options::small(programs, out("sync"))).expect("a lab");
    let file = lab.out("node-b.cfg");
    let text = std::fs::read_to_string(&file).expect("node B's configuration");
    let (ports, rest) = text.split_once("module csm 5\n").expect("a module");
    let (_, group) = rest.split_once(" ft group").expect("an FT group");
    std::fs::write(&file, format!("{ports}module csm 5\n ft group{group}")).expect("written");

    lab.restore(Side::A).expect("csmd");
    lab.node(Side::A).wait_for(Role::Active, LIMIT).expect("alone, it is active");
    lab.restore(Side::B).expect("csmd");
    wait_in_sync(&mut lab, false);
    let shown = lab.node(Side::A).command("show module csm 5 ft detail").expect("an answer");
    assert!(shown.contains("\n Configuration is out-of-sync\n"), "{shown}");
    assert!(shown.contains("  + vserver VIP1 / serverfarm WEB\n"), "{shown}");

    let refused = lab.node(Side::B).command("hw-module csm 5 standby config-sync").expect_err("refused");
    assert!(format!("{refused:#}").contains("this box is not active"), "{refused:#}");
    let said = lab.node(Side::A).command("hw-module csm 5 standby config-sync").expect("synchronized");
    assert_eq!(
        said,
        "%CSM_SLB-6-REDUNDANCY_INFO:Module 5 FT info:Active:Bulk sync started\n\
         %CSM_SLB-6-REDUNDANCY_INFO:Module 5 FT info:Active:Manual bulk sync completed\n\
         The peer starts anew with it.\n"
    );
    lab.node(Side::B).wait_for(Role::Standby, LIMIT).expect("with its VLANs, and a replica");
    wait_in_sync(&mut lab, true);
    let text = lab.node(Side::B).command("show running-config").expect("an answer");
    assert!(
        text.contains("ip address 192.158.38.40 255.255.255.0 alt 192.158.38.10 255.255.255.0\n"),
        "{text}"
    );

    // From now on it is live: several differences on both sides, named, and gone after the next one.
    assert_eq!(configure(&mut lab, Side::A, "vserver VIP1\n idle 77\nexit\nno vserver ECHO\n"), "");
    assert_eq!(
        configure(&mut lab, Side::B, "probe TCP tcp\n interval 9\nvlan 3 server\n gateway 192.158.39.7\n"),
        ""
    );
    wait_in_sync(&mut lab, false);
    let shown = lab.node(Side::A).command("show module csm 5 ft detail").expect("an answer");
    for line in [
        "+ vserver VIP1 / idle 77",
        "- vserver ECHO",
        "- probe TCP tcp / interval 9",
        "+ probe TCP tcp / interval 5",
        "- vlan 3 server / gateway 192.158.39.7",
    ] {
        assert!(shown.contains(&format!("  {line}\n")), "{line} is not in {shown}");
    }
    let since = lab.node(Side::B).show("ft").expect("an answer")["changed_unix_ms"].clone();
    lab.node(Side::A).command("hw-module csm 5 standby config-sync").expect("synchronized");
    wait_in_sync(&mut lab, true);
    let shown = lab.node(Side::A).command("show module csm 5 ft detail").expect("an answer");
    assert!(!shown.contains("differing"), "{shown}");
    assert_eq!(lab.node(Side::B).show("ft").expect("an answer")["changed_unix_ms"], since, "no restart");

    // The guide's trap: an address without `alt` would leave the peer without one.
    let bare = "vlan 2 client\n ip address 192.158.38.10 255.255.255.0\n";
    assert!(configure(&mut lab, Side::A, bare).contains("warning: no `alt`"));
    let refused = lab.node(Side::A).command("hw-module csm 5 standby config-sync").expect_err("refused");
    let sentence = "`ip address` of vlan 2 has no `alt`: the peer would be left without an address there";
    assert!(format!("{refused:#}").contains(sentence), "{refused:#}");
    let whole = "vlan 2 client\n ip address 192.158.38.10 255.255.255.0 alt 192.158.38.40 255.255.255.0\n";
    assert_eq!(configure(&mut lab, Side::A, whole), "");

    // Both copies on both boxes.
    lab.node(Side::A).command("write memory").expect("saved");
    lab.node(Side::A).command("copy working certified flash-syncro").expect("distributed");
    let saved = lab.node(Side::B).command("show startup-config").expect("saved there");
    assert!(saved.contains("alt 192.158.38.10 255.255.255.0\n") && saved.contains("  idle 77\n"), "{saved}");
    let shown = lab.node(Side::B).command("show running-directory").expect("an answer");
    assert!(shown.contains("Running CMM              : SECONDARY,\n"), "{shown}");
    assert!(shown.contains("Running Configuration    : SYNCHRONIZED,\n"), "{shown}");

    lab.node(Side::B).wait_for(Role::Standby, LIMIT).expect("ready");
    lab.fail(Side::A, Fault::Kill).expect("killed");
    lab.node(Side::B).wait_for(Role::Active, LIMIT).expect("a takeover");
    let url = format!("http://{VIP}/who");
    let mut curl = lab.topology.client.command("curl").expect("curl");
    let answer = curl.args(["--silent", "--max-time", "5", &url]).output().expect("curl");
    assert!(String::from_utf8_lossy(&answer.stdout).starts_with('s'), "{answer:?}");
    finish(lab);
}

/// `sync auto`: a change of the active node, one of its peer, and a peer that starts with something else.
#[test]
fn with_sync_auto_the_standby_has_what_the_active_node_has_and_nothing_is_lost() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let auto = "  sync auto\n".to_owned();
    let mut options = Options::small(programs, out("sync-auto"));
    options.group = [auto.clone(), auto];
    let mut lab = Lab::build(options).expect("a lab");
    let active = lab.start(LIMIT).expect("a pair");
    let standby = active.peer();
    let has = |lab: &mut Lab, side: Side, line: &str| {
        let what = format!("{line:?} on {side:?}");
        wait::until(&what, LIMIT, PACE, || {
            Ok(lab.node(side).command("show running-config")?.contains(line).then_some(()))
        })
        .expect("its configuration");
    };
    assert_eq!(configure(&mut lab, active, "vserver VIP1\n idle 77\n"), "");
    has(&mut lab, standby, "\n  idle 77\n");
    wait_in_sync(&mut lab, true);
    // What somebody changes on the standby does not stay.
    assert_eq!(configure(&mut lab, standby, "vserver VIP1\n idle 5\n"), "");
    has(&mut lab, standby, "\n  idle 77\n");
    wait_in_sync(&mut lab, true);
    // A peer that was away meanwhile.
    lab.fail(standby, Fault::Kill).expect("killed");
    assert_eq!(configure(&mut lab, active, "no vserver ECHO\n"), "");
    lab.restore(standby).expect("csmd");
    wait_in_sync(&mut lab, true);
    let text = lab.node(standby).command("show running-config").expect("an answer");
    assert!(!text.contains("ECHO\n  virtual"), "{text}");
    finish(lab);
}

/// Ten ways to have something else than the peer: each is named, and gone after a synchronization, by the checksums of both.
#[test]
fn ten_ways_out_of_sync_are_each_named_and_repaired() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let mut lab = Lab::build(Options::small(programs, out("ways"))).expect("a lab");
    let active = lab.start(LIMIT).expect("a pair");
    let standby = active.peer();
    for (where_, lines, named) in [
        ("an added farm", "serverfarm MORE\n real 192.158.39.101\n  inservice\n", "- serverfarm MORE"),
        ("a removed virtual server", "no vserver ECHO\n", "+ vserver ECHO"),
        ("a timer", "vserver VIP1\n idle 77\n", "- vserver VIP1 / idle 77"),
        (
            "a weight",
            "serverfarm WEB\n real 192.158.39.101\n  weight 3\n",
            "- serverfarm WEB / real 192.158.39.101 / weight 3",
        ),
        (
            "a real out of service",
            "serverfarm WEB\n real 192.158.39.102\n  no inservice\n",
            "+ serverfarm WEB / real 192.158.39.102 / inservice",
        ),
        ("a predictor", "serverfarm WEB\n predictor leastconns\n", "- serverfarm WEB / predictor leastconns"),
        ("a probe", "probe TCP tcp\n interval 9\n", "- probe TCP tcp / interval 9"),
        (
            "a pool",
            "natpool POOL 192.158.39.60 192.158.39.61 netmask 255.255.255.0\n",
            "- natpool POOL 192.158.39.60 192.158.39.61 netmask 255.255.255.0",
        ),
        (
            "a route",
            "vlan 3 server\n route 10.9.0.0 255.255.0.0 gateway 192.158.39.101\n",
            "- vlan 3 server / route 10.9.0.0 255.255.0.0 gateway 192.158.39.101",
        ),
        (
            "replication",
            "vserver VIP1\n no replicate csrp sticky\n",
            "+ vserver VIP1 / replicate csrp sticky",
        ),
    ] {
        assert_eq!(configure(&mut lab, standby, lines), "", "{where_}");
        wait_in_sync(&mut lab, false);
        let shown = lab.node(active).command("show module csm 5 ft detail").expect("an answer");
        assert!(shown.contains(&format!("  {named}\n")), "{where_}: {named} is not in\n{shown}");
        lab.node(active).command("hw-module csm 5 standby config-sync").expect("synchronized");
        wait_in_sync(&mut lab, true);
        let shown = lab.node(active).command("show module csm 5 ft detail").expect("an answer");
        assert!(!shown.contains("differing"), "{where_}: {shown}");
    }
    // What is saved is compared, too.
    let saved = |lab: &mut Lab, side: Side| lab.node(side).command("write memory").expect("saved");
    let shown = |lab: &mut Lab| lab.node(active).command("show running-directory").expect("an answer");
    saved(&mut lab, active);
    let first = shown(&mut lab);
    assert!(first.contains("not the same on both boxes: the configuration in `working`\n"), "{first}");
    assert!(first.contains("Flash Between CMMs       : NOT SYNCHRONIZED,\n"), "{first}");
    lab.node(active).command("copy working certified flash-synchro").expect("distributed");
    let second = shown(&mut lab);
    assert!(second.contains("Flash Between CMMs       : SYNCHRONIZED,\n"), "{second}");
    finish(lab);
}
