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
    for (complete, after) in [(false, State::Candidate), (true, State::Standby)] {
        let mut machine = lapsed();
        // What asks now may have lain in the queue for as long as this node was away: a `left` behind it would be none of today.
        machine.on_event(Event::Received(Message { complete, ..asks }), &mut Vec::new());
        assert_eq!(machine.state(), State::Init, "complete {complete}");
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

#[test]
fn a_claim_of_which_nothing_was_said_makes_no_keeper_and_unmakes_none() {
    for was_keeper in [false, true] {
        let mut machine = if was_keeper { lapsed() } else { in_state(State::Standby) };
        let before = (was_keeper, machine.claimed);
        machine.on_event(Event::Timer(Timer::Silence), &mut Vec::new());
        if was_keeper {
            machine.on_event(Event::Timer(Timer::Listen), &mut Vec::new());
        }
        let claimed = machine.clone();
        assert_eq!((claimed.state, claimed.keeper), (State::Active, true));
        machine.on_event(Event::Unsaid, &mut Vec::new());
        assert_eq!((machine.state, (machine.keeper, machine.claimed)), (State::Init, before));
        // What was said cannot be taken back.
        for event in [Event::Timer(Timer::Heartbeat), Event::LeaseExpired] {
            let mut machine = claimed.clone();
            machine.on_event(event, &mut Vec::new());
            machine.on_event(Event::Unsaid, &mut Vec::new());
            assert!(machine.keeper, "{event:?}");
        }
    }
}

/// A forced predecessor, and its peer that asks again, in a later term, since the yield never came.
fn asked_again(change: impl FnOnce(&mut Election), complete: bool) -> (State, Option<Kind>) {
    let (mut machine, mut effects) = (in_state(State::RelayOut), Vec::new());
    machine.on_event(Event::Replica { complete: false, lag_ms: 0 }, &mut effects);
    change(&mut machine);
    effects.clear();
    let again = Message { complete, sequence: 1_001, ..from_peer(State::Candidate, Kind::Elect, 3) };
    machine.on_event(Event::Received(again), &mut effects);
    let said = effects.iter().find_map(|effect| match effect {
        Effect::Send(message) => Some(message.kind),
        _ => None,
    });
    (machine.state(), said)
}

#[test]
fn a_predecessor_takes_the_role_back_from_a_candidate_that_has_lost_its_replica() {
    let yields = (State::RelayOut, Some(Kind::Relinquish));
    assert_eq!(asked_again(|_| {}, false), (State::Candidate, Some(Kind::Elect)));
    assert_eq!(asked_again(|_| {}, true), yields);
    // Whoever cannot have the role yields it in any case.
    assert_eq!(asked_again(|own| own.forwardable = false, false), yields);
    assert_eq!(asked_again(|own| own.leaving = true, false), yields);
    // Nor is there a newer table with one that has heard a later active node.
    assert_eq!(asked_again(|own| own.keeper = false, false), yields);
}

#[test]
fn of_two_keepers_the_later_active_one_has_the_newer_table_whatever_their_priorities() {
    // Both were active, neither heard the other then, and the peer stands as candidate by its priority.
    for (theirs, next) in [(2, State::Standby), (0, State::Candidate)] {
        let mut machine = lapsed();
        let asks = Message {
            priority: 30,
            complete: false,
            keeper: true,
            claimed: theirs,
            ..from_peer(State::Candidate, Kind::Elect, 3)
        };
        machine.on_event(Event::Received(Message { sequence: 1_001, ..asks }), &mut Vec::new());
        machine.on_event(Event::Timer(Timer::Listen), &mut Vec::new());
        assert_eq!(machine.state(), next, "its own term is 1, the peer's {theirs}");
    }
}

#[test]
fn the_term_of_the_last_claim_is_told_where_it_decides_and_only_while_not_active() {
    let told = |machine: &Election| machine.message(Kind::Heartbeat).claimed;
    let mut machine = lapsed();
    let peer = Message { sequence: 1_001, ..from_peer(State::Standby, Kind::Heartbeat, 1) };
    assert_eq!((machine.claimed, told(&machine)), (1, 0), "the peer's table is none");
    machine.on_event(Event::Received(Message { keeper: true, ..peer }), &mut Vec::new());
    assert_eq!(told(&machine), 1);
    let mut machine = in_state(State::Active);
    machine.on_event(Event::Received(Message { keeper: true, ..peer }), &mut Vec::new());
    assert_eq!(told(&machine), 0, "a peer of old software drops what has it, and claims");
}
