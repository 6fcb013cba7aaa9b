//! A pair whose boxes are one version apart: the older one is this build, told to speak and understand what the version before did.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use csm_tests::checks::heartbeats;
use csm_tests::lab::{Lab, Options};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::scenario::Traffic;
use csm_tests::status::Role;
use csm_tests::topology::Side;
use csm_tests::wait::{self, now_ns};
use csm_user::ft::wire::{NEWEST, OLDEST};

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(50);

/// The newest version that a node's messages tell of in half a second.
fn speaks(lab: &Lab, side: Side) -> u8 {
    let begun = now_ns();
    wait::observe(Duration::from_millis(500)).expect("time passes");
    let said = heartbeats(&lab.capture.frames(begun, now_ns()));
    // The last: the offers of a newer version are rare, and not what the peer is spoken to in.
    let versions: Vec<u8> = said.iter().filter(|said| said.by == side).map(|said| said.newest).collect();
    let newest = versions.iter().filter(|version| **version == NEWEST).count();
    assert!(versions.len() > 5, "{versions:?}");
    if newest * 2 > versions.len() { NEWEST } else { OLDEST }
}

fn in_sync(lab: &mut Lab, wanted: bool) {
    for side in Side::BOTH {
        wait::until("the checksums of both", LIMIT, PACE, || {
            let ft = lab.node(side).show("ft")?;
            Ok((ft["config_in_sync"].as_bool() == Some(wanted)).then_some(()))
        })
        .expect("the same, or not");
    }
}

#[test]
fn boxes_one_version_apart_are_a_pair_that_keeps_its_connections() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let mut lab = Lab::build(Options::small(programs, out("versions"))).expect("a lab");
    lab.node(Side::B).set_fault(Some("old-wire"));
    lab.restore(Side::A).expect("csmd");
    lab.node(Side::A).wait_for(Role::Active, LIMIT).expect("alone, it is active");
    lab.restore(Side::B).expect("csmd");
    lab.node(Side::B).wait_for(Role::Standby, LIMIT).expect("a replica by the older version");
    assert_eq!((speaks(&lab, Side::A), speaks(&lab, Side::B)), (OLDEST, OLDEST));
    let mut traffic = Traffic::start(&lab, 50).expect("traffic");
    traffic.mark().expect("mark");

    // Configuration goes across.
    let mut csm = lab.node(Side::A).csm();
    let mut csm = csm.args(["configure", "terminal"]).stdin(Stdio::piped()).spawn().expect("csm");
    csm.stdin.take().expect("piped").write_all(b"vserver VIP1\n idle 77\n").expect("it reads");
    assert!(csm.wait().expect("its end").success());
    in_sync(&mut lab, false);
    lab.node(Side::A).command("hw-module csm 5 standby config-sync").expect("synchronized");
    in_sync(&mut lab, true);

    for side in Side::BOTH {
        lab.node(side).command("write memory").expect("saved");
    }

    // Connections, too: the newer one dies, and comes back as the standby of the older one.
    lab.node(Side::B).wait_for(Role::Standby, LIMIT).expect("ready");
    lab.fail(Side::A, Fault::Kill).expect("killed");
    lab.node(Side::B).wait_for(Role::Active, LIMIT).expect("a takeover");
    lab.restore(Side::A).expect("csmd");
    lab.node(Side::A).wait_for(Role::Standby, LIMIT).expect("a standby");
    let report = traffic.prove(LIMIT).expect("report");
    assert_eq!((report.alive, report.unproven), (50, 0), "{report:?}");

    drop(traffic);
    finish(lab);
}
