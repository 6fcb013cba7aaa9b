//! Whose table is the newest, after a lease has run out.

use super::*;

/// An active node whose lease has run out, in hearing of a standby of higher priority.
fn lapsed() -> Election {
    let mut machine = in_state(State::Active);
    machine.on_event(Event::LeaseExpired, &mut Vec::new());
    assert_eq!(machine.state(), State::Init);
    machine
}

#[test]
fn after_a_lapse_the_newest_table_goes_before_priority_and_a_complete_replica_before_both() {
    let better = Message { priority: 30, ..from_peer(State::Standby, Kind::Heartbeat, 1) };
    let asks = Message { kind: Kind::Elect, state: State::Candidate, term: 2, sequence: 1_001, ..better };
    for (complete, next, after) in
        [(false, State::Init, State::Candidate), (true, State::Standby, State::Standby)]
    {
        let mut machine = lapsed();
        machine.on_event(Event::Received(Message { complete, ..asks }), &mut Vec::new());
        assert_eq!(machine.state(), next, "complete {complete}");
        machine.on_event(Event::Timer(Timer::Listen), &mut Vec::new());
        assert_eq!(machine.state(), after, "complete {complete}");
    }
}

#[test]
fn a_table_is_the_newest_only_until_another_active_node_is_heard() {
    let mut machine = lapsed();
    assert!(machine.message(Kind::Heartbeat).keeper);
    let claimed = from_peer(State::Active, Kind::Coup, 2);
    machine.on_event(Event::Received(claimed), &mut Vec::new());
    assert!(!machine.message(Kind::Heartbeat).keeper);
    let mut loser = in_state(State::Active);
    loser.on_event(Event::Received(claimed), &mut Vec::new());
    assert_eq!((loser.state(), loser.message(Kind::Heartbeat).keeper), (State::Standby, false));
}
