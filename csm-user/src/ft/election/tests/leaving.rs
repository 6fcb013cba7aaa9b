//! A predecessor that is told to end while its successor is not active yet.

use super::*;

/// What the predecessor comes to that is told to leave and then hears `said`.
fn told_to_leave(said: Message) -> State {
    let mut machine = in_state(State::RelayOut);
    for event in [Event::Leave, Event::Received(Message { sequence: 1_001, ..said })] {
        machine.on_event(event, &mut Vec::new());
    }
    machine.state()
}

#[test]
fn one_whose_successor_can_not_forward_any_more_ends_at_once() {
    let unable = |state| Message { forwardable: false, ..from_peer(state, Kind::Heartbeat, 2) };
    // Able again after its next start, it would otherwise keep the role from itself for as long as strays are relayed.
    assert_eq!(told_to_leave(unable(State::Standby)), State::Left);
    assert_eq!(told_to_leave(unable(State::Init)), State::Left);
    // This one forwards what it can, and takes strays.
    assert_eq!(told_to_leave(unable(State::Active)), State::RelayOut);
}

#[test]
fn one_whose_successor_may_yet_ask_waits_for_it() {
    for state in [State::Init, State::Standby, State::Candidate] {
        let able = from_peer(state, Kind::Heartbeat, 2);
        assert_eq!(told_to_leave(able), State::RelayOut, "{state}");
    }
}

#[test]
fn one_that_can_not_forward_either_and_is_told_to_leave_ends_at_once() {
    for heard in [true, false] {
        let mut machine = in_state(State::RelayOut);
        let unable = Message { forwardable: false, ..from_peer(State::Standby, Kind::Heartbeat, 2) };
        let said = Event::Received(Message { sequence: 1_001, ..unable });
        for event in [Event::Forwardable(false), said] {
            machine.on_event(event, &mut Vec::new());
        }
        if !heard {
            machine.on_event(Event::Timer(Timer::Silence), &mut Vec::new());
        }
        assert_eq!(machine.state(), State::RelayOut);
        machine.on_event(Event::Leave, &mut Vec::new());
        assert_eq!(machine.state(), State::Left, "the peer is heard: {heard}");
    }
}

#[test]
fn one_that_is_not_told_to_leave_takes_the_role_back_instead() {
    let mut machine = in_state(State::RelayOut);
    let unable =
        Message { forwardable: false, sequence: 1_001, ..from_peer(State::Standby, Kind::Heartbeat, 2) };
    machine.on_event(Event::Received(unable), &mut Vec::new());
    assert_eq!(machine.state(), State::Candidate);
}
