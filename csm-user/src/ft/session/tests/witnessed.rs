//! With a witness: what opens the gate, what keeps it open, and for how long.

use super::*;
use crate::ft::witness::wire::{Kind as Said, Word};

const LEASE: u64 = 123_333_000;

/// A session with a witness that has listened for as long as it must, the time, and what it did.
fn waiting() -> (Session, u64, Recorded) {
    let params = Params { witness: true, ..params() };
    let address = "10.0.0.9:21986".parse().unwrap();
    let session = Session::new(params, 9, Controls::default(), Duration::from_secs(1 << 32));
    let mut session = session.with_witness(Some(Votes::new(address, params.failover)));
    let mut port = Recorded::default();
    session.start(0, &mut port);
    session.alive(0, &mut port);
    session.command(Event::Forwardable(true), 0, &mut port);
    let mut now = 0;
    while session.election().state() == State::Init {
        now = session.next_wake().unwrap();
        session.wake(now, &mut port);
    }
    (session, now, port)
}

fn answer(port: &Recorded, kind: Said) -> Word {
    let asked = *port.asked.last().unwrap();
    Word { kind, witness: 70, lease: params().lease, holder: 1, term: 8, ..asked }
}

/// Active by a grant that it asked for at 150 ms.
fn granted() -> (Session, Recorded) {
    let (mut session, now, mut port) = waiting();
    session.witness_said(&answer(&port, Said::Grant), now + MS, &mut port);
    assert_eq!(session.election().state(), State::Active);
    (session, port)
}

#[test]
fn silence_alone_opens_nothing_and_the_grant_lasts_from_when_it_was_asked_for() {
    let (mut session, now, mut port) = waiting();
    assert_eq!((now, session.election().reason()), (150 * MS, Reason::NoWitness));
    assert!(port.gates.iter().all(|gate| gate.state_at(0) != GateState::Open));
    assert_eq!(port.asked.last().map(|word| (word.kind, word.number)), Some((Said::Ask, now)));
    // The first answer makes the two known to each other; it asks again at once.
    session.witness_said(
        &Word { lease: Duration::ZERO, ..answer(&port, Said::Refusal) },
        now + MS,
        &mut port,
    );
    let asked = *port.asked.last().unwrap();
    assert_eq!((asked.number, asked.witness), (now + MS, 70));
    // Not now, but in 3 ms.
    let later = Word { lease: Duration::from_millis(3), ..answer(&port, Said::Refusal) };
    session.witness_said(&later, now + 2 * MS, &mut port);
    assert_eq!(session.next_wake(), Some(now + 5 * MS));
    session.wake(now + 5 * MS, &mut port);
    session.witness_said(&answer(&port, Said::Grant), now + 6 * MS, &mut port);
    assert_eq!((session.election().state(), session.election().term()), (State::Active, 9));
    assert_eq!(port.gates.last(), Some(&Gate::new(GateState::Open, now + 5 * MS + LEASE)));
}

#[test]
fn who_hears_the_active_peer_again_does_not_wait_for_the_witness_any_more() {
    let (mut session, now, mut port) = waiting();
    assert_eq!(session.status(now).reason, Reason::NoWitness);
    let active = Message { state: State::Active, peer_nonce: 10, ..from_peer(1) };
    session.receive(&datagram(&active), HOST, now + MS, &mut port);
    assert_eq!(
        (session.status(now + MS).state, session.status(now + MS).reason),
        (State::Standby, Reason::PeerActive)
    );
}

#[test]
fn without_a_further_word_the_gate_shuts_with_the_grant() {
    let (mut session, mut port) = granted();
    session.wake(203 * MS, &mut port);
    assert_eq!(port.asked.last().map(|word| word.holds), Some(true), "renewed with each heartbeat");
    assert_eq!(
        port.gates.last(),
        Some(&Gate::new(GateState::Open, 150 * MS + LEASE)),
        "its sending alone is nothing"
    );
    session.wake(150 * MS + LEASE, &mut port);
    assert_eq!((session.election().state(), port.gates.last()), (State::Init, Some(&Gate::CLOSED)));
    assert_eq!(port.asked.last().map(|word| word.kind), Some(Said::Query), "gives up what it may still have");
}

#[test]
fn the_peers_word_is_worth_a_lease_from_what_it_has_heard_unless_it_is_active() {
    let (mut session, mut port) = granted();
    session.wake(203 * MS, &mut port);
    let heard = session.election().message(Kind::Heartbeat).sequence;
    let word = Message { heard, peer_nonce: 10, hears_you: true, witness: true, ..from_peer(1) };
    let worthless = [
        Message { state: State::Active, term: 0, ..word },
        Message { peer_nonce: 11, ..word },
        Message { heard: heard + 100, ..word },
    ];
    for (sequence, message) in (1..).zip(worthless) {
        session.receive(&datagram(&Message { sequence, ..message }), HOST, 204 * MS, &mut port);
        assert_eq!(port.gates.last(), Some(&Gate::new(GateState::Open, 150 * MS + LEASE)), "{message:?}");
    }
    session.receive(&datagram(&Message { sequence: 9, ..word }), HOST, 205 * MS, &mut port);
    assert_eq!(port.gates.last(), Some(&Gate::new(GateState::Open, 203 * MS + LEASE)), "at once");
    // A peer with a shorter lease would wait for less, if it began anew.
    session.wake(253 * MS, &mut port);
    let heard = session.election().message(Kind::Heartbeat).sequence;
    let short = Message { lease: Duration::from_millis(80), heard, sequence: 10, ..word };
    session.receive(&datagram(&short), HOST, 254 * MS, &mut port);
    assert_eq!(port.gates.last(), Some(&Gate::new(GateState::Open, 333 * MS)));
}

#[test]
fn a_grant_that_was_given_up_is_none_however_late_its_word_comes() {
    let (mut session, now, mut port) = waiting();
    let late = answer(&port, Said::Grant);
    // Its peer speaks up meanwhile, so it does not ask any more.
    session.receive(&datagram(&from_peer(1)), HOST, now + MS, &mut port);
    assert_eq!(port.asked.last().map(|word| word.kind), Some(Said::Query));
    session.witness_said(&late, now + 2 * MS, &mut port);
    assert!(!session.votes().unwrap().is_granted(now + 2 * MS));
    let foreign = Word { nonce: 11, ..answer(&port, Said::Grant) };
    session.witness_said(&foreign, now + 3 * MS, &mut port);
    let status = session.status(now + 3 * MS).witness.unwrap();
    assert_eq!((status.answers, status.received, status.dropped), (true, 1, 1));
}

#[test]
fn of_a_claim_before_which_the_thread_was_held_up_there_is_no_table() {
    for (held_up, state, keeper) in [(75, State::Active, true), (76, State::Init, false)] {
        let (mut session, now, mut port) = waiting();
        (port.read_at, port.held_up) = (now + MS, held_up * MS);
        session.witness_said(&answer(&port, Said::Grant), now + MS, &mut port);
        let own = session.election().message(Kind::Heartbeat);
        assert_eq!((own.state, own.keeper), (state, keeper), "{held_up} ms");
    }
}
