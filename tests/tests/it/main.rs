//! The tests that need root: packet fixtures, the kernel's tables, the real-time thread, and the lab.
//! Tests that need root: packet fixtures and the lab.

mod dataplane;
mod dpuser;
mod lab;
//! Lab tests.

mod ft;
mod replication;
//! Lab tests: as root, in network namespaces of their own, each test in a lab of its own.

mod failover;
mod lab;

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
