//! Each datagram of a steady stream is accounted for, through what must not be noticed and through what must.

use std::time::Duration;

use csm_tests::endure::{CONNECTIONS, Deed, Endurance, Round};
use csm_tests::figure::Timers;
use csm_tests::programs::Programs;

use crate::out;

/// Datagrams a second; `csm-lab endure` goes to 100,000.
const RATE: u64 = 5_000;

fn rounds(test: &str, deed: Deed, count: usize) -> Vec<Round> {
    let timers: Timers = "100/300".parse().expect("timers");
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let out = out(test);
    let mut lab = Endurance::begin(timers, RATE, programs, out.clone()).expect("a loaded pair");
    let rounds = (0..count).map(|_| lab.round(deed, Duration::ZERO).expect("its end")).collect();
    assert_eq!(lab.connections().expect("a report"), CONNECTIONS);
    lab.end().expect("nothing left behind");
    std::fs::remove_dir_all(out).expect("remove the logs");
    rounds
}

fn nothing_is_lost(rounds: &[Round]) {
    for round in rounds {
        assert!(round.account.sent > 1_000, "{round:?}");
        assert_eq!(
            (round.account.lost(), round.account.unanswered(), round.unprovoked),
            (0, 0, 0),
            "{round:?}"
        );
    }
}

#[test]
fn a_restart_under_load_loses_no_datagram() {
    nothing_is_lost(&rounds("endure-restart", Deed::Restart, 1));
}

#[test]
fn five_switchovers_lose_no_datagram() {
    nothing_is_lost(&rounds("endure-switchover", Deed::Switchover, 5));
}

/// The negative control: what comes before the takeover is lost, and the account says so.
#[test]
fn a_crash_loses_what_comes_before_the_takeover() {
    let rounds = rounds("endure-kill", Deed::Kill, 1);
    assert!(rounds[0].account.lost() > 0 && rounds[0].account.arrived > 0, "{rounds:?}");
}
