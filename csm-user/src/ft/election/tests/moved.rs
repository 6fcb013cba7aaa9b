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

/// Given the command beside a peer with tracking for or against it, of which it then hears `later`, the last time when it asks.
fn moves_while_tracking_changes(at_command: bool, later: &[bool]) -> Election {
    let mut machine =
        active_beside(|peer| (peer.priority, peer.preempt, peer.eligible) = (10, false, at_command));
    let beside = *machine.peer().expect("heard");
    machine.on_event(Event::ForceStandby, &mut Vec::new());
    for (number, &eligible) in (beside.sequence + 1..).zip(later) {
        let heartbeat = Message { sequence: number, eligible, ..beside };
        machine.on_event(Event::Received(heartbeat), &mut Vec::new());
    }
    let last = *machine.peer().expect("heard");
    let (kind, state, sequence) = (Kind::Elect, State::Candidate, last.sequence + 1);
    machine.on_event(Event::Received(Message { kind, state, term: 2, sequence, ..last }), &mut Vec::new());
    assert_eq!(machine.state(), State::RelayOut);
    assert!(machine.is_preempt_held());
    machine
}

#[test]
fn only_what_stood_against_the_peer_when_the_command_was_given_could_be_known() {
    for (at_command, later, firm) in [
        (false, &[][..], true),
        (false, &[false], true),
        (true, &[false], false),
        (false, &[true], false),
        (false, &[true, false], false),
    ] {
        let machine = moves_while_tracking_changes(at_command, later);
        assert_eq!(machine.is_held_firmly(), firm, "{at_command} {later:?}");
    }
}

#[test]
fn a_command_that_nobody_followed_leaves_nothing_behind() {
    let mut machine = active_beside(|peer| (peer.priority, peer.eligible) = (10, false));
    let before = machine.clone();
    let mut effects = Vec::new();
    machine.on_event(Event::ForceStandby, &mut effects);
    for _ in 0..TRIES {
        machine.on_event(Event::Timer(Timer::Retry), &mut effects);
    }
    assert!(effects.contains(&Effect::Forced(Err(Refusal::NoAnswer))), "{effects:?}");
    assert_eq!(machine, Election { sequence: machine.sequence, tries: machine.tries, ..before });
}

/// The same node in another process, which has heard the active peer, and has its replica.
fn started_anew(machine: &Election, active: Message) -> Election {
    let mut next = Election::new(Params { nonce: OWN_BOOT + 1, ..params() });
    next.restrain(&machine.restraint(0));
    let active = Message { sequence: active.sequence + 1, peer_nonce: OWN_BOOT + 1, ..active };
    for event in [
        Event::Start,
        Event::Forwardable(true),
        Event::Received(active),
        Event::Replica { complete: true, lag_ms: 0 },
    ] {
        next.on_event(event, &mut Vec::new());
    }
    next
}

#[test]
fn a_planned_restart_leaves_a_role_where_the_command_has_moved_it() {
    for eligible in [true, false] {
        let (machine, active) = moved_to(eligible);
        let next = started_anew(&machine, active);
        assert_eq!((next.state(), next.is_preempt_held()), (State::Standby, true));
        assert_eq!(next.is_held_firmly(), !eligible);
        assert!(!next.message(Kind::Heartbeat).preempt);
        // What was said of one boot of the peer is not said of the next.
        let other = Message { nonce: PEER_BOOT + 1, ..active };
        let next = started_anew(&machine, other);
        assert_eq!((next.state(), next.is_preempt_held()), (State::Candidate, false));
        assert!(!next.is_held_firmly());
    }
}
