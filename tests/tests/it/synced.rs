//! Synchronizing is not noticed: each datagram of a steady stream is accounted for while configuration and images go to the peer.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use csm_tests::lab::{Lab, Options};
use csm_tests::programs::Programs;
use csm_tests::status::Role;
use csm_tests::stream::{self, Stream};
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(40);
/// Datagrams a second.
const RATE: u64 = 5_000;

#[test]
fn no_datagram_is_lost_while_configuration_and_an_image_go_to_the_peer() {
    let mut programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    // Without what only a debugger reads.
    let image = std::env::temp_dir().join(format!("csmd-{}-synced", std::process::id()));
    let strip = Command::new("strip").arg("-o").arg(&image).arg(&programs.csmd.path).status();
    assert!(strip.expect("strip, of binutils").success());
    programs.csmd.path.clone_from(&image);
    let options = Options::small(programs, out("synced"));
    let services = stream::service(options.figure.wiring);
    let mut lab = Lab::build(Options { services, ..options }).expect("a lab");
    let active = lab.start(LIMIT).expect("a pair");
    let mut stream = Stream::start(&lab, RATE).expect("a stream");
    stream.begin().expect("a window");
    for idle in 71..74 {
        let mut csm = lab.node(active).csm();
        let mut csm = csm.args(["configure", "terminal"]).stdin(Stdio::piped()).spawn().expect("csm");
        let lines = format!("vserver STREAM\n idle {idle}\n");
        csm.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
        assert!(csm.wait().expect("its end").success());
        lab.node(active).command("hw-module csm 5 standby config-sync").expect("synchronized");
    }
    lab.node(active).command("write memory").expect("saved");
    lab.node(active).command(&format!("copy {} working image", image.display())).expect("an image");
    lab.node(active).command("copy working certified flash-synchro").expect("distributed");
    wait::observe(Duration::from_millis(200)).expect("time passes");
    let account = stream.end().expect("an account");
    let shown = lab.node(active.peer()).command("show running-directory").expect("an answer");
    assert!(shown.contains("Flash Between CMMs       : SYNCHRONIZED,\n"), "{shown}");
    assert!(account.sent > 5_000, "{account:?}");
    assert_eq!((account.lost(), account.unanswered()), (0, 0), "{account:?}");
    println!("{account:?}");
    lab.node(active.peer()).wait_for(Role::Standby, LIMIT).expect("still a standby");
    drop(stream);
    finish(lab);
    std::fs::remove_file(image).expect("ours");
}
