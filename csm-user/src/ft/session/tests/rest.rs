//! A restart: the hold, the rest, and what goes on afterwards.

use super::*;
use crate::ft::election::Restraint;
use crate::ft::parked::{Parked, decode_restraint, encode_restraint};

/// A standby that hears the session under test.
fn standby(sequence: u64, held: u64) -> Message {
    Message { hears_you: true, peer_nonce: 10, held, ..from_peer(sequence) }
}

/// Active with a standby since 160 ms, asking for a hold since 170 ms; also the sequence of what it asked with.
fn asking(controls: Controls) -> (Session, Recorded, u64) {
    let (mut session, mut port) = active(controls);
    session.receive(&datagram(&standby(1, 0)), HOST, 160 * MS, &mut port);
    session.command(Event::Hold, 170 * MS, &mut port);
    let asked = session.election().message(Kind::Heartbeat);
    assert_eq!(asked.hold, Duration::from_secs(8));
    (session, port, asked.sequence)
}

#[test]
fn the_gate_stays_open_for_the_hold_once_the_peer_grants_it_counted_from_the_first_word_of_it() {
    let (mut session, mut port, asked) = asking(Controls::default());
    session.wake(220 * MS, &mut port);
    assert_eq!(
        *port.gates.last().unwrap(),
        Gate::new(GateState::Open, 220 * MS + 123_333_000),
        "not granted yet"
    );
    assert!(session.parked().is_none());
    // What it says of an earlier message is no word of this hold.
    session.receive(&datagram(&standby(2, asked - 1)), HOST, 225 * MS, &mut port);
    assert!(session.parked().is_none() && !session.is_ended());
    session.receive(&datagram(&standby(3, asked)), HOST, 230 * MS, &mut port);
    assert_eq!(*port.gates.last().unwrap(), Gate::new(GateState::Open, 8_170 * MS));
    assert!(session.is_ended() && session.next_wake().is_none());
    assert_eq!(session.parked().map(|parked| parked.until_ns), Some(8_170 * MS));
}

#[test]
fn a_peer_that_says_nothing_of_the_hold_gives_none() {
    let (mut session, mut port, _) = asking(Controls::default());
    while port.not_held.is_empty() {
        let now = session.next_wake().unwrap();
        session.wake(now, &mut port);
        assert!(now < 1_000 * MS && !session.is_ended());
    }
    assert_eq!(session.election().state(), State::Active);
    assert_eq!(session.election().message(Kind::Heartbeat).hold, Duration::ZERO, "the usual lease again");
    // Late, it changes nothing.
    let now = session.next_wake().unwrap();
    session.receive(&datagram(&standby(9, 3)), HOST, now, &mut port);
    assert!(!session.is_ended());
}

#[test]
fn alone_it_rests_no_longer_than_its_lease() {
    let (mut session, mut port) = active(Controls::default());
    session.command(Event::Hold, 170 * MS, &mut port);
    assert_eq!(session.parked().map(|parked| parked.until_ns), Some(170 * MS + 123_333_000));
}

/// What went through memory.
fn parked() -> Parked {
    let (mut session, mut port, asked) = asking(Controls::default());
    session.receive(&datagram(&standby(2, asked)), HOST, 180 * MS, &mut port);
    Parked::decode(&session.parked().unwrap().encode()).unwrap()
}

#[test]
fn the_next_one_goes_on_and_shortens_its_lease_before_it_says_so() {
    let parked = parked();
    let params = Params { nonce: 99, ..params() };
    let mut session = Session::new(params, 9, Controls::default(), Duration::from_secs(1));
    let mut port = Recorded::default();
    session.resume(&parked, 2_000 * MS, &mut port);
    assert_eq!(port.gates[0], Gate::new(GateState::Open, 2_000 * MS + 123_333_000));
    let own = session.election().message(Kind::Heartbeat);
    assert_eq!((own.state, own.nonce, own.hold), (State::Active, 10, Duration::ZERO));
    assert_eq!(
        (own.term, own.sequence),
        (parked.rest.term, parked.rest.sequence + 1),
        "the same boot goes on"
    );
    assert!(
        port.events.iter().any(|event| matches!(
            event,
            FtEvent::Role { state: State::Active, reason: Reason::Restarted, .. }
        ))
    );
    assert_eq!((port.announced, session.is_ended()), (0, false), "nothing has moved");
}

/// Or a peer to which the role was given in spite of that would take it for news when it is told again.
#[test]
fn the_next_one_says_that_tracking_stands_against_it_until_it_knows_better() {
    for eligible in [true, false] {
        let (mut session, mut port, asked) = asking(Controls::default());
        session.command(Event::Eligible(eligible), 175 * MS, &mut port);
        session.receive(&datagram(&standby(2, asked)), HOST, 180 * MS, &mut port);
        let parked = Parked::decode(&session.parked().unwrap().encode()).unwrap();
        let mut next = Session::new(params(), 9, Controls::default(), Duration::from_secs(1));
        next.resume(&parked, 2_000 * MS, &mut Recorded::default());
        assert_eq!(next.election().message(Kind::Heartbeat).eligible, eligible);
    }
}

#[test]
fn one_that_is_back_too_late_listens() {
    let mut session = Session::new(params(), 9, Controls::default(), Duration::from_secs(1));
    let mut port = Recorded::default();
    session.resume(&parked(), 8_170 * MS, &mut port);
    assert_eq!(port.gates.last(), Some(&Gate::CLOSED));
    let status = session.status(0);
    assert_eq!((status.state, status.reason), (State::Init, Reason::LeaseExpired));
}

#[test]
fn who_grants_a_hold_claims_nothing_in_it_and_neither_does_who_is_started_after_it() {
    let (mut session, mut port) =
        (Session::new(params(), 9, Controls::default(), Duration::from_secs(1)), Recorded::default());
    session.start(0, &mut port);
    session.alive(0, &mut port);
    session.command(Event::Forwardable(true), 0, &mut port);
    let asks = Message { state: State::Active, hold: Duration::from_secs(8), ..from_peer(1) };
    session.receive(&datagram(&asks), HOST, 10 * MS, &mut port);
    assert_eq!(session.election().message(Kind::Heartbeat).held, 1);
    assert_eq!(port.promised, 10 * MS + 9_602 * MS);
    let mut now = 10 * MS;
    while session.election().state() != State::Active {
        now = session.next_wake().unwrap();
        session.alive(now, &mut port);
        session.wake(now, &mut port);
    }
    assert_eq!(now, 9_612 * MS);
    let mut next =
        Session::new(params(), 9, Controls::default(), Duration::from_secs(1)).with_promise(port.promised);
    next.start(100 * MS, &mut port);
    next.alive(100 * MS, &mut port);
    next.command(Event::Forwardable(true), 100 * MS, &mut port);
    while next.election().state() != State::Active {
        now = next.next_wake().unwrap();
        next.alive(now, &mut port);
        next.wake(now, &mut port);
    }
    assert_eq!(now, 9_612 * MS);
    // The peer is back, and says so: it is waited for no longer than for any other.
    let (mut session, mut port) =
        (Session::new(params(), 9, Controls::default(), Duration::from_secs(1)), Recorded::default());
    session.start(0, &mut port);
    session.receive(&datagram(&asks), HOST, 10 * MS, &mut port);
    session.receive(
        &datagram(&Message { sequence: 2, hold: Duration::ZERO, ..asks }),
        HOST,
        20 * MS,
        &mut port,
    );
    assert_eq!((port.promised, session.election().message(Kind::Heartbeat).held), (170 * MS, 0));
}

/// Runs `session` from `now` until it is active, and says when that is.
fn until_active(session: &mut Session, mut now: u64, port: &mut Recorded) -> u64 {
    while session.election().state() != State::Active {
        now = session.next_wake().unwrap();
        session.alive(now, port);
        session.wake(now, port);
    }
    now
}

#[test]
fn who_is_started_beside_a_dead_peer_with_a_longer_lease_waits_for_that_lease() {
    let fresh = || Session::new(params(), 9, Controls::default(), Duration::from_secs(1));
    let (mut session, mut port) = (fresh(), Recorded::default());
    session.start(0, &mut port);
    let (lease, failover) = (Duration::from_secs(2), Duration::from_secs(3));
    let slow = Message { state: State::Active, lease, failover, ..from_peer(1) };
    session.receive(&datagram(&slow), HOST, 10 * MS, &mut port);
    // It is killed now, and so is its peer, whose gate stays open until 2,010 ms.
    assert_eq!(port.promised, 10 * MS + 2_402 * MS);
    let mut next = fresh().with_promise(port.promised);
    next.start(100 * MS, &mut port);
    next.alive(100 * MS, &mut port);
    next.command(Event::Forwardable(true), 100 * MS, &mut port);
    assert_eq!(until_active(&mut next, 100 * MS, &mut port), 2_412 * MS);
    // One that says that it is gone is not waited for.
    let (mut session, mut port) = (fresh(), Recorded::default());
    session.start(0, &mut port);
    session.receive(&datagram(&slow), HOST, 10 * MS, &mut port);
    session.receive(
        &datagram(&Message { state: State::Left, sequence: 2, ..slow }),
        HOST,
        20 * MS,
        &mut port,
    );
    assert_eq!(port.promised, 20 * MS);
}

#[test]
fn a_start_that_hears_nobody_waits_for_the_lease_that_was_noted() {
    let fresh = || Session::new(params(), 9, Controls::default(), Duration::from_secs(1));
    let (mut session, mut port) = (fresh(), Recorded::default());
    session.start(0, &mut port);
    let (lease, failover) = (Duration::from_secs(2), Duration::from_secs(3));
    for sequence in 1..=3 {
        let slow = Message { state: State::Active, lease, failover, sequence, ..from_peer(1) };
        session.receive(&datagram(&slow), HOST, sequence * 10 * MS, &mut port);
    }
    let told = port.events.iter().filter(|event| matches!(event, FtEvent::PeerLease(_)));
    assert_eq!(told.collect::<Vec<_>>(), [&FtEvent::PeerLease(lease)]);
    // It ends in order, and its peer goes on for a while; then that is killed, which nobody hears.
    session.command(Event::Leave, 40 * MS, &mut port);
    for (noted, after) in [(lease, 2_402), (Duration::from_millis(1), 150)] {
        let (mut next, start) = (fresh().with_peer_lease(Some(noted)), 60_000 * MS);
        next.start(start, &mut port);
        next.alive(start, &mut port);
        next.command(Event::Forwardable(true), start, &mut port);
        assert_eq!(until_active(&mut next, start, &mut port), start + after * MS, "{noted:?}");
    }
}

#[test]
fn one_that_rested_without_a_peer_still_knows_the_lease_that_was_noted() {
    let (mut session, lease) = (parked(), Duration::from_secs(2));
    session.rest.peer = None;
    for (noted, known) in [(Some(lease), lease), (None, params().lease)] {
        let next = Session::new(params(), 9, Controls::default(), Duration::from_secs(1));
        let mut next = next.with_peer_lease(noted);
        next.resume(&session, session.until_ns - MS, &mut Recorded::default());
        assert_eq!(next.election().peer_lease(), known);
    }
}

#[test]
fn an_orderly_end_remembers_a_peer_only_if_its_lease_is_longer_than_a_start_waits() {
    let slow = (Duration::from_secs(2), Duration::from_secs(3));
    let cases = [((params().lease, params().failover), 20 * MS), (slow, 10 * MS + 2_402 * MS)];
    for ((lease, failover), promised) in cases {
        let mut session = Session::new(params(), 9, Controls::default(), Duration::from_secs(1));
        let mut port = Recorded::default();
        session.start(0, &mut port);
        let active = Message { state: State::Active, lease, failover, ..from_peer(1) };
        session.receive(&datagram(&active), HOST, 10 * MS, &mut port);
        session.command(Event::Leave, 20 * MS, &mut port);
        assert!(session.is_ended());
        assert_eq!(port.promised, promised, "peer's lease {lease:?}");
    }
}

/// As configured, but that flapping is damped: returns are forgotten after 300 s.
fn damped() -> Params {
    Params { damping: Duration::from_secs(10), ..params() }
}

#[test]
fn an_active_node_counts_on_how_often_its_role_came_back() {
    let mut parked = parked();
    (parked.restraint.returns, parked.restraint.until_ns) = (4, 60_000 * MS);
    let parked = Parked::decode(&parked.encode()).unwrap();
    assert_eq!((parked.restraint.returns, parked.restraint.until_ns), (4, 60_000 * MS));
    for (now, returns) in [(2_000 * MS, 4), (60_000 * MS, 0)] {
        let mut session = Session::new(damped(), 9, Controls::default(), Duration::from_secs(1));
        session.resume(
            &Parked { until_ns: now + 10_000 * MS, ..parked.clone() },
            now,
            &mut Recorded::default(),
        );
        assert_eq!(session.election().state(), State::Active);
        assert_eq!(session.restraint().returns, returns);
        assert_eq!(session.outlook(now).0[Timer::Damping as usize].is_some(), returns > 0);
    }
}

/// It ends, and another process of the same node starts later.
#[test]
fn a_node_that_leaves_says_what_keeps_it_from_the_role_and_the_next_one_goes_by_it() {
    let kept =
        Restraint { node: 1, held: Some(20), firm: true, returns: 4, damped: true, until_ns: 9_000 * MS };
    let kept = decode_restraint(&encode_restraint(&kept)).unwrap();
    let (mut session, mut port) =
        (Session::new(damped(), 9, Controls::default(), Duration::from_secs(1)), Recorded::default());
    session.restrain(&kept, 1_000 * MS);
    session.start(1_000 * MS, &mut port);
    let status = session.status(2_000 * MS);
    assert_eq!((status.preempt_held, status.held_firmly, status.returns), (true, true, 4));
    assert_eq!(status.preempt_damped, Some(Duration::from_secs(7)));
    session.command(Event::Leave, 1_010 * MS, &mut port);
    assert!(session.is_ended() && session.next_wake().is_none());
    assert_eq!(session.restraint(), kept);
    let mut other =
        Session::new(Params { node: 3, ..damped() }, 9, Controls::default(), Duration::from_secs(1));
    other.restrain(&kept, 1_000 * MS);
    assert!(other.restraint().is_none(), "another box's");
}

#[test]
fn an_orderly_end_of_one_that_heard_nobody_leaves_what_an_earlier_one_promised() {
    let session = Session::new(params(), 9, Controls::default(), Duration::from_secs(1));
    let mut session = session.with_promise(9_000 * MS);
    let mut port = Recorded { promised: 9_000 * MS, ..Recorded::default() };
    session.start(10 * MS, &mut port);
    session.command(Event::Leave, 20 * MS, &mut port);
    assert!(session.is_ended());
    assert_eq!(port.promised, 9_000 * MS);
}
