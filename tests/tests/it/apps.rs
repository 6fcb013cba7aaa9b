//! Real programs through two ways of forwarding; the other ways are `csm-lab apps`'s, which takes minutes.

use csm_tests::apps::{self, Program, Way};
use csm_tests::programs::Programs;

use crate::out;

fn all_do(way: Way) {
    let directory = out(way.name());
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let report = apps::run(way, &Program::ALL, programs, directory.clone()).expect("a lab");
    println!("{}\n{}", apps::head(&Program::ALL), report.rows());
    assert_eq!(report.complaints(), Vec::<String>::new());
    std::fs::remove_dir_all(directory).expect("remove the logs");
}

#[test]
fn programs_do_through_server_nat_what_they_do_without() {
    all_do(Way::ServerNat);
}

#[test]
fn programs_do_through_gue_what_they_do_without() {
    all_do(Way::Gue);
}
