//! Random edits of a running pair under traffic: `csm-lab edits` makes more of them.

use csm_tests::edits;
use csm_tests::lab::{Lab, Options};
use csm_tests::programs::Programs;

use crate::{finish, out};

#[test]
fn after_random_edits_the_maps_are_those_of_a_start_from_the_final_text() {
    let auto = "  sync auto\n".to_owned();
    let mut options =
        Options::small(Programs::beside_this_one().expect("csmd, csm and csm-lab"), out("edits"));
    options.group = [auto.clone(), auto];
    let mut lab = Lab::build(options).expect("a lab");
    let summary = edits::run(&mut lab, 40, 1).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(summary.taken > 20 && summary.refused > 0 && summary.compared > 20, "{summary:?}");
    finish(lab);
}
