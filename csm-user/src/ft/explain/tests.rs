use std::net::Ipv6Addr;

use super::super::election::{Election, Params};
use super::super::session::report::blank;
use super::super::status::Flight;
use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn peer(state: State, priority: u8) -> PeerStatus {
    PeerStatus {
        node: 2,
        nonce: 2,
        address: Ipv6Addr::LOCALHOST,
        mac: [0; 6],
        state,
        priority,
        preempt: false,
        heartbeat: MS(50),
        failover: MS(150),
        lease: MS(123),
        forwardable: true,
        eligible: true,
        replica_complete: true,
        keeper: state == State::Active,
        replica_lag_ms: 0,
        hears_us: true,
        config_in_sync: true,
        software_in_sync: true,
        timers_in_sync: true,
        age: MS(1),
    }
}

fn status(state: State, reason: Reason) -> FtStatus {
    let params = Params {
        group: 1,
        node: 1,
        nonce: 1,
        priority: 20,
        preempt: true,
        heartbeat: MS(50),
        failover: MS(150),
        lease: MS(123),
        hold: MS(8000),
        proven_only: false,
        witness: false,
        damping: Duration::ZERO,
        mac: [0; 6],
        config_checksum: 0,
        software_checksum: 0,
    };
    let blank = blank(&Election::new(params), 9);
    let active = state == State::Active;
    let other = peer(if active { State::Standby } else { State::Active }, 10);
    FtStatus {
        state,
        reason,
        forwardable: true,
        replica_complete: true,
        keeper: active,
        peer: Some(other),
        ..blank
    }
}

#[test]
fn the_active_node_says_why_what_decides_and_what_would_move_the_role() {
    let explained = explain(&status(State::Active, Reason::Offered));
    assert_eq!(explained.why, "the peer offered the role, and this box took it");
    let decides = explained.decides.and_then(|at| explained.ranks.get(at));
    assert_eq!(decides.map(|rank| rank.what), Some("had the role last"));
    assert_eq!(
        explained.changes,
        [
            "this box dies, stops or is cut off: the peer takes the role after 150 msec of silence",
            "`clear module csm N ft active` here: the peer takes the role at once",
            "this box loses the link of a data port: the peer is given the role once its replica is complete, or after 150 \
             msec",
            "preemption: the peer does not take the role, for the peer has priority 10, which is not above 20, and the \
             peer is not configured to preempt, was made standby by command, or had the role back too often lately",
        ]
    );
}

#[test]
fn a_standby_names_each_thing_that_keeps_it_from_preempting() {
    let mut standby = status(State::Standby, Reason::PeerActive);
    let says = |status: &FtStatus| explain(status).changes[3].clone();
    assert_eq!(says(&standby), "preemption: this box is about to take the role, priority 20 above 10");
    standby.replica_complete = false;
    assert_eq!(
        says(&standby),
        "preemption: this box does not take the role, for the replica is not complete"
    );
    (standby.replica_complete, standby.eligible) = (true, false);
    assert_eq!(
        says(&standby),
        "preemption: this box does not take the role, for tracking stands against this box"
    );
    (standby.eligible, standby.preempt_held) = (true, true);
    assert!(says(&standby).contains("made standby by `clear module csm N ft active`"), "{}", says(&standby));
    // What was moved by command comes back when tracking wants it.
    standby.peer.as_mut().expect("heard").eligible = false;
    standby.priority = 5;
    assert_eq!(
        says(&standby),
        "preemption: this box is about to take the role, tracking stands against the peer"
    );
}

#[test]
fn what_stands_against_a_takeover_is_said_where_it_would_happen() {
    let mut standby = status(State::Standby, Reason::RelayOver);
    standby.forwardable = false;
    let changes = explain(&standby).changes;
    assert!(changes[0].ends_with("nobody takes the role, for this box cannot forward"), "{changes:?}");
    assert!(changes[1].contains("it would be refused now, the peer cannot forward"), "{changes:?}");
    standby.peer = None;
    let explained = explain(&standby);
    assert_eq!(explained.changes, ["this box takes the role as soon as it can forward: no peer is heard"]);
    assert!(explained.decides.is_none() && explained.ranks.iter().all(|rank| rank.peer.is_none()));
}

#[test]
fn a_node_that_gave_the_role_up_says_what_for() {
    let mut standby = status(State::Standby, Reason::RelayOver);
    let flight = |kind, reason| Flight {
        kind,
        reason,
        term: 3,
        mono_ns: 1,
        wall_ns: 7,
        path_age: None,
        lateness: Duration::ZERO,
    };
    standby.flights =
        vec![flight(FlightKind::Claim, Reason::Offered), flight(FlightKind::Fence, Reason::Forced)];
    assert_eq!(explain(&standby).fenced, Some((7, Reason::Forced)));
    standby.flights.push(flight(FlightKind::Claim, Reason::PeerSilent));
    assert_eq!(explain(&standby).fenced, None);
}

/// The table above is complete: no state is explained by a sentence that says nothing where the machine can come to it.
#[test]
fn every_way_into_the_role_has_a_sentence_of_its_own() {
    for reason in [
        Reason::PeerSilent,
        Reason::PeerLeft,
        Reason::Offered,
        Reason::Election,
        Reason::Preempt,
        Reason::Tracking,
    ] {
        assert_ne!(why(State::Active, reason), "the election decided so", "{reason}");
    }
}
