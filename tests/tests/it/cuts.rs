//! What csmd writes, cut off by the death of the process: `csm-lab cuts` goes through every step.

use csm_tests::cuts::{self, Deed};
use csm_tests::programs::Programs;

use crate::{finish, out};

fn cut(test: &str, deed: Deed, stride: u32, wanted: u32) {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let mut lab = cuts::lab(deed, programs, out(test)).expect("a lab");
    let cut = cuts::walk(&mut lab, deed, stride).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(cut, wanted, "{deed:?}");
    finish(lab);
}

#[test]
fn csmd_killed_at_every_write_of_write_memory_leaves_a_whole_configuration() {
    cut("cut-write", Deed::WriteMemory, 1, 5);
}

#[test]
fn csmd_killed_while_it_certifies_leaves_both_copies_whole() {
    cut("cut-certify", Deed::Certify, 2, 3);
}

#[test]
fn either_box_killed_in_a_flash_synchro_leaves_both_copies_whole() {
    cut("cut-flash-here", Deed::FlashHere, 4, 2);
    cut("cut-flash-there", Deed::FlashThere, 4, 3);
}

#[test]
fn a_standby_killed_while_it_takes_a_configuration_starts_with_a_whole_one() {
    cut("cut-sync", Deed::Sync, 4, 2);
}
