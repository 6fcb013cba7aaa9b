//! A role that was moved by command.

use super::*;

/// This node ranks higher, gave the role by command to its peer, with tracking for or against that one, and has seen it active ever since.
fn moved_to(eligible: bool) -> (Election, Message) {
    let mut machine =
        active_beside(|peer| (peer.priority, peer.preempt, peer.eligible) = (10, false, eligible));
    let beside = *machine.peer().expect("heard");
    let asks = Message {
        kind: Kind::Elect,
        state: State::Candidate,
        term: 2,
        sequence: beside.sequence + 1,
        ..beside
    };
    let active = Message { state: State::Active, term: 2, sequence: beside.sequence + 2, ..beside };
    for event in [
        Event::ForceStandby,
        Event::Received(asks),
        Event::Received(active),
        Event::Timer(Timer::Relay),
        Event::Replica { complete: true, lag_ms: 0 },
    ] {
        machine.on_event(event, &mut Vec::new());
    }
    assert_eq!(machine.state(), State::Standby);
    assert!(machine.is_preempt_held() && !machine.message(Kind::Heartbeat).preempt);
    (machine, active)
}

/// What hearing of the active peer's tracking comes to.
fn hears(machine: &mut Election, active: &mut Message, eligible: bool) -> Vec<Effect> {
    let mut effects = Vec::new();
    (active.sequence, active.eligible) = (active.sequence + 1, eligible);
    machine.on_event(Event::Received(*active), &mut effects);
    effects
}

#[test]
fn a_role_that_was_moved_stays_where_it_can_be_used_and_comes_back_when_tracking_wants_it() {
    for (own, peer) in [(true, true), (false, true), (false, false)] {
        let (mut machine, mut active) = moved_to(true);
        machine.on_event(Event::Eligible(own), &mut Vec::new());
        hears(&mut machine, &mut active, peer);
        assert_eq!(machine.state(), State::Standby, "{own} {peer}");
        assert!(!machine.message(Kind::Heartbeat).preempt, "{own} {peer}");
    }
    let (mut machine, mut active) = moved_to(true);
    let effects = hears(&mut machine, &mut active, false);
    assert_eq!((machine.state(), machine.reason()), (State::Candidate, Reason::Tracking));
    // The active node gives it only to one that says that it may preempt.
    let asks = |effect: &Effect| matches!(effect, Effect::Send(message) if message.kind == Kind::Elect && message.preempt);
    assert!(effects.iter().any(asks), "{effects:?}");
}

#[test]
fn what_stood_against_the_peer_when_the_command_was_given_does_not_count_until_it_has_ended() {
    let (mut machine, mut active) = moved_to(false);
    hears(&mut machine, &mut active, false);
    assert_eq!(machine.state(), State::Standby);
    assert!(machine.is_held_firmly() && !machine.message(Kind::Heartbeat).preempt);
    hears(&mut machine, &mut active, true);
    assert_eq!(machine.state(), State::Standby);
    assert!(machine.is_preempt_held() && !machine.is_held_firmly());
    hears(&mut machine, &mut active, false);
    assert_eq!(machine.state(), State::Candidate);
}
