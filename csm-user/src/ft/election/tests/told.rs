//! What a node tells its peer without being asked.

use super::*;

#[test]
fn what_the_peer_decides_by_it_learns_at_once_and_once() {
    let told = |machine: &mut Election, event| {
        let mut effects = Vec::new();
        machine.on_event(event, &mut effects);
        effects.iter().filter(|effect| matches!(effect, Effect::Send(_))).count()
    };
    // A better peer is active: no reason to ask it for anything.
    let mut machine = in_state(State::Standby);
    let active = Message { priority: 30, sequence: 1_001, ..from_peer(State::Active, Kind::Heartbeat, 4) };
    machine.on_event(Event::Received(active), &mut Vec::new());
    let complete = |lag_ms| Event::Replica { complete: true, lag_ms };
    assert_eq!([0, 7, 101, 102, 9].map(|lag_ms| told(&mut machine, complete(lag_ms))), [1, 0, 1, 0, 1]);
    for event in [Event::Eligible(false), Event::Forwardable(false)] {
        assert_eq!([told(&mut machine, event), told(&mut machine, event)], [1, 0]);
    }
}
