//! Tests that need root: packet fixtures, the kernel's tables, the real-time thread, replication, and the lab; each in
//! network namespaces of its own.

mod advertise;
mod announce;
mod apps;
mod bridge;
mod configure;
mod cuts;
mod dataplane;
mod differential;
mod dualstack;
mod edge;
mod edits;
mod endure;
mod failover;
mod firewalls;
mod ft;
mod groups;
mod handshakes;
mod hsrp;
mod images;
mod keys;
mod lab;
mod least;
mod matrix;
mod network;
mod operator;
mod pins;
mod policies;
mod ready;
mod replication;
mod restart;
mod router;
mod router6;
mod row;
mod rtsp;
mod services;
mod shell;
mod soon;
mod stickies;
mod sync;
mod synced;
mod tables;
mod tables6;
mod tracked;
mod tracking;
mod trunk;
mod versions;
mod vmac;
mod wire;
mod wire6;
mod witness;

use std::path::PathBuf;

use csm_tests::lab::Lab;

/// Where a test's logs and captures go.
fn out(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("csm-it-{}-{test}", std::process::id()))
}

/// Takes the lab down, expects that nothing stays, and removes its logs: reached only when the test has passed.
fn finish(lab: Lab) {
    let out = lab.options.out.clone();
    let leaks = lab.take_down().expect("look for leaks");
    assert_eq!(leaks, Vec::<String>::new());
    std::fs::remove_dir_all(out).expect("remove the logs");
}
