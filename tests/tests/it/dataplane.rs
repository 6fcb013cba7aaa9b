//! Packet fixtures: one frame in, its verdict, the frame out, and the one counter that rose.

use csm_tests::rig::Rig;

#[test]
fn the_verifier_walks_far_less_than_its_limit() {
    let mut rig = Rig::new().expect("the rig");
    let walked = rig.dataplane.verified_instructions().expect("a kernel that tells");
    println!("verified instructions: {walked}");
    // The kernel's limit is 1,000,000; older ones prune worse.
    assert!(walked < 200_000, "{walked}");
}
