//! A role that was moved by command.

use super::*;

/// This node ranks higher, gave the role away by command, and sees its peer active, with tracking for or against both.
fn moved(own: bool, peer: bool) -> (Election, Vec<Effect>) {
    let mut machine = active_beside(|peer| (peer.priority, peer.preempt) = (10, false));
    let beside = *machine.peer().expect("heard");
    let asks = Message {
        kind: Kind::Elect,
        state: State::Candidate,
        term: 2,
        sequence: beside.sequence + 1,
        ..beside
    };
    let active = |number, eligible| Message {
        state: State::Active,
        term: 2,
        sequence: beside.sequence + number,
        eligible,
        ..beside
    };
    let mut effects = Vec::new();
    for event in [
        Event::ForceStandby,
        Event::Received(asks),
        Event::Received(active(2, true)),
        Event::Timer(Timer::Relay),
        Event::Replica { complete: true, lag_ms: 0 },
        Event::Eligible(own),
    ] {
        machine.on_event(event, &mut effects);
    }
    assert_eq!(machine.state(), State::Standby);
    assert!(machine.is_preempt_held() && !machine.message(Kind::Heartbeat).preempt);
    effects.clear();
    machine.on_event(Event::Received(active(3, peer)), &mut effects);
    (machine, effects)
}

#[test]
fn a_role_that_was_moved_stays_where_it_can_be_used_and_comes_back_when_tracking_wants_it() {
    for (own, peer) in [(true, true), (false, true), (false, false)] {
        let (machine, _) = moved(own, peer);
        assert_eq!(machine.state(), State::Standby, "{own} {peer}");
        assert!(!machine.message(Kind::Heartbeat).preempt, "{own} {peer}");
    }
    let (machine, effects) = moved(true, false);
    assert_eq!((machine.state(), machine.reason()), (State::Candidate, Reason::Tracking));
    // The active node gives it only to one that says that it may preempt.
    let asks = |effect: &Effect| matches!(effect, Effect::Send(message) if message.kind == Kind::Elect && message.preempt);
    assert!(effects.iter().any(asks), "{effects:?}");
}
