//! Software images in `working` and `certified`: a pair is upgraded by them, and one that does not prove itself is taken back.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use csm_tests::lab::{Lab, Options};
use csm_tests::programs::Programs;
use csm_tests::scenario::Traffic;
use csm_tests::status::Role;
use csm_tests::topology::Side;
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(40);
const PACE: Duration = Duration::from_millis(50);

/// csmd without what only a debugger reads: less to send.
fn stripped() -> PathBuf {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let own = std::env::temp_dir().join(format!("csmd-{}-images", std::process::id()));
    let strip = Command::new("strip").arg("-o").arg(&own).arg(&programs.csmd.path).status();
    assert!(strip.expect("strip, of binutils").success());
    own
}

/// The program file that a node's process executes.
fn runs(lab: &mut Lab, side: Side) -> String {
    let pid = lab.node(side).pid().expect("a process");
    let file = std::fs::read_link(format!("/proc/{pid}/exe")).expect("its program");
    file.file_name().expect("a name").to_string_lossy().into_owned()
}

fn wait_runs(lab: &mut Lab, side: Side, image: &str) {
    let what = format!("{side:?} runs {image}");
    wait::until(&what, LIMIT, PACE, || {
        let same = runs(lab, side).starts_with(image) && lab.node(side).status().is_ok();
        Ok(same.then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.node(side).last_words()));
}

fn directory(lab: &mut Lab, side: Side) -> String {
    lab.node(side).command("show running-directory").expect("an answer")
}

fn wait_ready(lab: &mut Lab, side: Side) {
    wait::until("readiness", LIMIT, PACE, || {
        Ok(lab.node(side).command("show ft readiness").is_ok().then_some(()))
    })
    .expect("the pair is ready");
}

/// The operator's upgrade: a second build goes into `working` of the active node, is tried there with a way back, is certified
/// and given to the peer, which starts it; no connection is lost, and the role stays.
#[test]
fn a_pair_is_upgraded_by_images_and_an_image_that_is_not_confirmed_is_taken_back() {
    let mut programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let old = stripped();
    programs.csmd.path.clone_from(&old);
    let mut lab = Lab::build(Options::small(programs, out("images"))).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let standby = active.peer();
    let mut traffic = Traffic::start(&lab, 50).expect("traffic");
    traffic.mark().expect("mark");

    // What is no csmd does not get in, nor does anything before a configuration is saved.
    let new = old.with_extension("new");
    std::fs::write(&new, b"#!/bin/sh\nexit 0\n").expect("a file");
    let copy = format!("copy {} working image", new.display());
    let refused = lab.node(active).command(&copy).expect_err("nothing saved");
    assert!(format!("{refused:#}").contains("give `write memory` before"), "{refused:#}");
    lab.node(active).command("write memory").expect("saved");
    lab.node(active).command("copy working certified").expect("certified");
    let refused = lab.node(active).command(&copy).expect_err("no csmd");
    assert!(format!("{refused:#}").contains("does not prove to be a csmd"), "{refused:#}");

    let mut octets = std::fs::read(&old).expect("the program");
    octets.extend(b"another build");
    std::fs::write(&new, octets).expect("another build");
    let said = lab.node(active).command(&copy).expect("it is a csmd");
    let image = said.split_once("checksum ").expect("its checksum").1[..16].to_owned();
    assert!(said.starts_with("[OK] csmd "), "{said}");
    let shown = directory(&mut lab, active);
    assert!(shown.contains("Certify/Restore Status   : CERTIFY NEEDED,\n"), "{shown}");
    assert!(shown.contains(&format!(", {image}\n")), "{shown}");

    // Whatever is told is told as the document has it.
    let asked =
        csm_tests::openapi::check(lab.node(active).socket()).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(asked >= 17, "{asked}");

    // Tried, not confirmed, taken back; the role stays and no packet is lost.
    wait_ready(&mut lab, active);
    lab.node(active).command("reload working rollback-timeout sec 10").expect("it goes");
    wait_runs(&mut lab, active, &image);
    let shown = directory(&mut lab, active);
    assert!(shown.contains("back to `certified` in "), "{shown}");
    let name = old.file_name().expect("a name").to_string_lossy().into_owned();
    wait_runs(&mut lab, active, &name);
    let log = std::fs::read_to_string(lab.node(active).log()).expect("a log");
    assert!(log.contains("nobody has said that this start stays"), "{log}");

    // Tried again, certified, and given to the peer.
    lab.node(standby).wait_for(Role::Standby, LIMIT).expect("a replica again");
    lab.node(active).command("reload working rollback-timeout 2 force").expect("it goes");
    wait_runs(&mut lab, active, &image);
    lab.node(standby).wait_for_replica(LIMIT, &["the software differs"]).expect("a complete replica");
    // What may be taken back yet is not given to the peer.
    let early = lab.node(active).command("hw-module csm 5 standby config-sync").expect_err("on trial");
    assert!(format!("{early:#}").contains("what runs here waits to be confirmed"), "{early:#}");
    lab.node(active).command("copy working certified flash-synchro").expect("distributed");
    let shown = directory(&mut lab, active);
    assert!(shown.contains("Flash Between CMMs       : SYNCHRONIZED,\n"), "{shown}");
    assert!(!shown.contains("back to"), "{shown}");
    assert_eq!(shown.matches(&image).count(), 4, "{shown}");
    assert_eq!(runs(&mut lab, standby), name, "it was not told to start");
    lab.node(standby).command("reload").expect("it goes");
    wait_runs(&mut lab, standby, &image);
    lab.node(standby).wait_for(Role::Standby, LIMIT).expect("a standby with the new build");

    // A cold start of the installed program hands on to the image.
    lab.fail(active, csm_tests::node::Fault::Kill).expect("killed");
    lab.node(standby).wait_for(Role::Active, LIMIT).expect("a takeover");
    lab.restore(active).expect("csmd");
    wait_runs(&mut lab, active, &image);
    lab.node(active).wait_for(Role::Standby, LIMIT).expect("a standby");
    let report = traffic.prove(LIMIT).expect("report");
    assert_eq!((report.alive, report.unproven), (50, 0), "{report:?}");
    drop(traffic);
    finish(lab);
    for file in [old, new] {
        std::fs::remove_file(file).expect("ours");
    }
}
