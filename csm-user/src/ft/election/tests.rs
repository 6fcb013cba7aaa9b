//! Every event in every state; what holds after any sequence of them is in [`properties`].

use std::fmt::Write as _;

use expect_test::expect;

use super::*;
use crate::model::lease;

mod damping;
mod keeper;
mod leaving;
mod moved;
mod properties;
mod told;

const OWN: u64 = 0xa;
const PEER: u64 = 0xb;
const OWN_BOOT: u64 = 100;
const PEER_BOOT: u64 = 200;

fn params() -> Params {
    let (heartbeat, failover) = (Duration::from_millis(50), Duration::from_millis(150));
    Params {
        group: 1,
        node: OWN,
        nonce: OWN_BOOT,
        priority: 20,
        preempt: true,
        heartbeat,
        failover,
        lease: lease(heartbeat, failover).unwrap().length,
        hold: Duration::from_secs(8),
        proven_only: false,
        witness: false,
        damping: Duration::ZERO,
        mac: [2, 0, 0, 0, 0, 0xa],
        config_checksum: 1,
        software_checksum: 2,
    }
}

/// A message of a peer that hears this node, ranks lower, and does not preempt.
fn from_peer(state: State, kind: Kind, term: u64) -> Message {
    let own = Election::new(params()).message(kind);
    Message {
        state,
        term,
        node: PEER,
        nonce: PEER_BOOT,
        peer_nonce: OWN_BOOT,
        hears_you: true,
        forwardable: true,
        complete: true,
        keeper: state == State::Active,
        preempt: false,
        priority: 10,
        sequence: 1_000,
        mac: [2, 0, 0, 0, 0, 0xb],
        ..own
    }
}

fn drive(events: impl IntoIterator<Item = Event>) -> Election {
    let (mut machine, mut effects) = (Election::new(params()), Vec::new());
    for event in events {
        machine.on_event(event, &mut effects);
    }
    machine
}

/// A machine in `state`, able to forward, with a complete replica and an active peer of lower rank where it has one.
fn in_state(state: State) -> Election {
    let hear =
        |state, kind, term, sequence| Event::Received(Message { sequence, ..from_peer(state, kind, term) });
    let complete = Event::Replica { complete: true, lag_ms: 0 };
    let active_peer = hear(State::Active, Kind::Heartbeat, 4, 1);
    let claim = Event::Timer(Timer::Listen);
    let able = Event::Forwardable(true);
    let machine = match state {
        State::Init => drive([Event::Start, able]),
        // Not complete: it would preempt.
        State::Standby => drive([Event::Start, able, active_peer]),
        State::Candidate => drive([Event::Start, able, active_peer, complete]),
        State::Active => {
            drive([Event::Start, able, claim, hear(State::Standby, Kind::Heartbeat, 1, 1), complete])
        }
        State::RelayOut => drive([
            Event::Start,
            able,
            claim,
            hear(State::Standby, Kind::Heartbeat, 1, 1),
            Event::ForceStandby,
            hear(State::Candidate, Kind::Elect, 2, 2),
            complete,
        ]),
        State::Left => drive([Event::Start, Event::Leave]),
    };
    assert_eq!(machine.state(), state);
    machine
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Send(message) if message.offer => "Send(Offer)".into(),
        Effect::Send(message) => format!("Send({:?} {})", message.kind, message.term),
        Effect::Arm(timer, time) => format!("Arm({timer:?} {}ms)", time.as_millis()),
        other => format!("{other:?}"),
    }
}

/// The events of the table: each timer in time and late, each thing a peer can say, each command.
fn events() -> Vec<(String, Event)> {
    let mut events = vec![("start".into(), Event::Start), ("lease expired".into(), Event::LeaseExpired)];
    for timer in Timer::ALL {
        events.push((format!("{timer:?}"), Event::Timer(timer)));
    }
    events.push(("late".into(), Event::Late(Timer::Heartbeat)));
    for state in State::ALL {
        events.push((format!("peer {state}"), Event::Received(from_peer(state, Kind::Heartbeat, 9))));
    }
    let low = from_peer(State::Active, Kind::Heartbeat, 0);
    let elect = from_peer(State::Candidate, Kind::Elect, 9);
    let offer = Message { offer: true, ..from_peer(State::Active, Kind::Relinquish, 9) };
    let relinquish = from_peer(State::RelayOut, Kind::Relinquish, 5);
    events.extend([
        ("peer active, lower term".into(), Event::Received(low)),
        ("peer asks, outranked".into(), Event::Received(elect)),
        (
            "peer asks, outranks".into(),
            Event::Received(Message { priority: 30, preempt: true, eligible: true, ..elect }),
        ),
        ("peer asks another boot".into(), Event::Received(Message { peer_nonce: 1, ..elect })),
        ("peer offers".into(), Event::Received(offer)),
        (
            "peer restarts".into(),
            Event::Received(Message {
                hold: Duration::from_secs(8),
                ..from_peer(State::Active, Kind::Heartbeat, 9)
            }),
        ),
        ("peer yields 5".into(), Event::Received(relinquish)),
        ("peer yields 9".into(), Event::Received(Message { term: 9, ..relinquish })),
        ("force".into(), Event::ForceStandby),
        ("leave".into(), Event::Leave),
        ("unable".into(), Event::Forwardable(false)),
        ("able".into(), Event::Forwardable(true)),
        ("ineligible".into(), Event::Eligible(false)),
        ("replica complete".into(), Event::Replica { complete: true, lag_ms: 0 }),
        ("replica behind".into(), Event::Replica { complete: true, lag_ms: 101 }),
        ("rival seen".into(), Event::RivalSeen),
        ("hold".into(), Event::Hold),
    ]);
    events
}

#[test]
fn every_event_in_every_state_does_what_the_table_says() {
    let mut table = String::new();
    for state in State::ALL {
        writeln!(table, "{state}").unwrap();
        for (name, event) in events() {
            let (mut machine, mut effects) = (in_state(state), Vec::new());
            machine.on_event(event, &mut effects);
            // Disarming is housekeeping, and the state is shown for itself.
            let done: Vec<_> = effects
                .iter()
                .filter(|effect| !matches!(effect, Effect::Disarm(_) | Effect::Became(..)))
                .map(show)
                .collect();
            let next =
                if machine.state() == state { String::new() } else { format!(" -> {}", machine.state()) };
            writeln!(table, "  {name}{next}: {}", done.join(" ")).unwrap();
        }
    }
    expect![[r#"
        init
          start: Gate(Closed) Send(Heartbeat 0) Arm(Heartbeat 50ms) Arm(Listen 150ms)
          lease expired: 
          Heartbeat: Send(Heartbeat 0) Arm(Heartbeat 50ms)
          Listen -> active: Adopt Send(Coup 1) Gate(Open) Announce(PeerSilent) Arm(Heartbeat 50ms)
          Silence: PeerLost
          Retry: 
          Relay: 
          Patience: 
          Cooling: 
          Damping: 
          late: Gate(Closed) Send(Heartbeat 0) Arm(Heartbeat 50ms) Arm(Listen 150ms)
          peer init: PeerUp Arm(Silence 150ms) Promise(150ms)
          peer standby: PeerUp Arm(Silence 150ms) Promise(150ms)
          peer candidate -> standby: PeerUp Arm(Silence 150ms) Promise(150ms) Gate(Closed) Send(Heartbeat 9) Arm(Heartbeat 50ms) Send(Relinquish 9)
          peer active -> standby: PeerUp Arm(Silence 150ms) Promise(150ms) Gate(Closed) Send(Heartbeat 9) Arm(Heartbeat 50ms)
          peer relay-out: PeerUp Arm(Silence 150ms) Promise(150ms)
          peer left: PeerUp Promise(0ns) PeerLost
          peer active, lower term -> standby: PeerUp Arm(Silence 150ms) Promise(150ms) Gate(Closed) Send(Heartbeat 0) Arm(Heartbeat 50ms)
          peer asks, outranked -> standby: PeerUp Arm(Silence 150ms) Promise(150ms) Gate(Closed) Send(Heartbeat 9) Arm(Heartbeat 50ms) Send(Relinquish 9)
          peer asks, outranks -> standby: PeerUp Arm(Silence 150ms) Promise(150ms) Gate(Closed) Send(Heartbeat 9) Arm(Heartbeat 50ms) Send(Relinquish 9)
          peer asks another boot: PeerUp Arm(Silence 150ms) Promise(150ms) Send(Heartbeat 9)
          peer offers -> standby: PeerUp Arm(Silence 150ms) Promise(150ms) Gate(Closed) Send(Heartbeat 9) Arm(Heartbeat 50ms)
          peer restarts -> standby: PeerUp Arm(Silence 9602ms) Promise(9.602s) Gate(Closed) Send(Heartbeat 9) Arm(Heartbeat 50ms) Send(Heartbeat 9)
          peer yields 5: PeerUp Arm(Silence 150ms) Promise(150ms)
          peer yields 9: PeerUp Arm(Silence 150ms) Promise(150ms)
          force: Forced(Err(NotActive))
          leave -> left: Gate(Closed) Send(Heartbeat 0) End
          unable: Send(Heartbeat 0)
          able: 
          ineligible: Send(Heartbeat 0)
          replica complete: Send(Heartbeat 0)
          replica behind: 
          rival seen: 
          hold: NotHeld(NotActive)
        standby
          start -> init: Gate(Closed) Send(Heartbeat 4) Arm(Heartbeat 50ms) Arm(Listen 150ms) Arm(Silence 150ms)
          lease expired: 
          Heartbeat: Send(Heartbeat 4) Arm(Heartbeat 50ms)
          Listen: 
          Silence -> active: PeerLost Adopt Send(Coup 5) Gate(Open) Announce(PeerSilent) Arm(Heartbeat 50ms)
          Retry: 
          Relay: 
          Patience: 
          Cooling: 
          Damping: 
          late -> init: Gate(Closed) Send(Heartbeat 4) Arm(Heartbeat 50ms) Arm(Listen 150ms) Arm(Silence 150ms)
          peer init: Arm(Silence 150ms) Promise(150ms)
          peer standby: Arm(Silence 150ms) Promise(150ms)
          peer candidate: Arm(Silence 150ms) Promise(150ms) Send(Relinquish 9)
          peer active: Arm(Silence 150ms) Promise(150ms)
          peer relay-out -> candidate: Arm(Silence 150ms) Promise(150ms) Gate(RelayIn) Send(Elect 10) Arm(Retry 50ms) Arm(Heartbeat 50ms)
          peer left -> active: Promise(0ns) PeerLost Adopt Send(Coup 10) Gate(Open) Announce(PeerLeft) Arm(Heartbeat 50ms)
          peer active, lower term: Arm(Silence 150ms) Promise(150ms)
          peer asks, outranked: Arm(Silence 150ms) Promise(150ms) Send(Relinquish 9)
          peer asks, outranks: Arm(Silence 150ms) Promise(150ms) Send(Relinquish 9)
          peer asks another boot: Arm(Silence 150ms) Promise(150ms) Send(Heartbeat 9)
          peer offers -> candidate: Arm(Silence 150ms) Promise(150ms) Gate(RelayIn) Send(Elect 10) Arm(Retry 50ms) Arm(Heartbeat 50ms)
          peer restarts: Arm(Silence 9602ms) Promise(9.602s) Send(Heartbeat 9)
          peer yields 5 -> candidate: Arm(Silence 150ms) Promise(150ms) Gate(RelayIn) Send(Elect 6) Arm(Retry 50ms) Arm(Heartbeat 50ms)
          peer yields 9 -> candidate: Arm(Silence 150ms) Promise(150ms) Gate(RelayIn) Send(Elect 10) Arm(Retry 50ms) Arm(Heartbeat 50ms)
          force: Forced(Err(NotActive))
          leave -> left: Gate(Closed) Send(Heartbeat 4) End
          unable: Send(Heartbeat 4)
          able: 
          ineligible: Send(Heartbeat 4)
          replica complete -> candidate: Gate(RelayIn) Send(Elect 5) Arm(Retry 50ms) Arm(Heartbeat 50ms)
          replica behind: 
          rival seen: 
          hold: NotHeld(NotActive)
        candidate
          start -> init: Gate(Closed) Send(Heartbeat 5) Arm(Heartbeat 50ms) Arm(Listen 150ms) Arm(Silence 150ms)
          lease expired -> init: Gate(Closed) Send(Heartbeat 5) Arm(Heartbeat 50ms) Arm(Listen 150ms) Arm(Silence 150ms)
          Heartbeat: Send(Heartbeat 5) Gate(RelayIn) Arm(Heartbeat 50ms)
          Listen: 
          Silence -> active: PeerLost Adopt Send(Coup 6) Gate(Open) Announce(PeerSilent) Arm(Heartbeat 50ms)
          Retry: Send(Elect 5) Arm(Retry 50ms)
          Relay: 
          Patience: 
          Cooling: 
          Damping: 
          late -> init: Gate(Closed) Send(Heartbeat 5) Arm(Heartbeat 50ms) Arm(Listen 150ms) Arm(Silence 150ms)
          peer init: Arm(Silence 150ms) Promise(150ms) Send(Elect 10)
          peer standby: Arm(Silence 150ms) Promise(150ms) Send(Elect 10)
          peer candidate: Arm(Silence 150ms) Promise(150ms) Send(Elect 10)
          peer active: Arm(Silence 150ms) Promise(150ms) Send(Elect 10)
          peer relay-out: Arm(Silence 150ms) Promise(150ms) Send(Elect 10)
          peer left -> active: Promise(0ns) PeerLost Adopt Send(Coup 10) Gate(Open) Announce(PeerLeft) Arm(Heartbeat 50ms)
          peer active, lower term: Arm(Silence 150ms) Promise(150ms)
          peer asks, outranked: Arm(Silence 150ms) Promise(150ms) Send(Elect 10)
          peer asks, outranks -> standby: Arm(Silence 150ms) Promise(150ms) Gate(Closed) Send(Heartbeat 9) Arm(Heartbeat 50ms) Send(Relinquish 9)
          peer asks another boot: Arm(Silence 150ms) Promise(150ms) Send(Elect 10) Send(Heartbeat 10)
          peer offers: Arm(Silence 150ms) Promise(150ms) Send(Elect 10)
          peer restarts: Arm(Silence 9602ms) Promise(9.602s) Send(Elect 10)
          peer yields 5 -> active: Arm(Silence 150ms) Promise(150ms) Adopt Send(Coup 5) Gate(Open) Announce(Preempt) Arm(Heartbeat 50ms)
          peer yields 9: Arm(Silence 150ms) Promise(150ms) Send(Elect 10)
          force: Forced(Err(NotActive))
          leave -> left: Gate(Closed) Send(Heartbeat 5) End
          unable -> standby: Gate(Closed) Send(Heartbeat 5) Arm(Heartbeat 50ms)
          able: 
          ineligible: Send(Heartbeat 5)
          replica complete: 
          replica behind: Send(Heartbeat 5)
          rival seen: 
          hold: NotHeld(NotActive)
        active
          start -> init: Gate(Closed) Send(Heartbeat 1) StopAnnounce Arm(Heartbeat 50ms) Arm(Listen 150ms) Arm(Silence 150ms)
          lease expired -> init: Gate(Closed) Send(Heartbeat 1) StopAnnounce Arm(Heartbeat 50ms) Arm(Listen 150ms) Arm(Silence 150ms)
          Heartbeat: Send(Heartbeat 1) Gate(Open) Arm(Heartbeat 50ms)
          Listen: 
          Silence: PeerLost
          Retry: 
          Relay: 
          Patience: 
          Cooling: 
          Damping: 
          late: Send(Heartbeat 1) Gate(Open) Arm(Heartbeat 50ms)
          peer init: Arm(Silence 150ms) Promise(150ms)
          peer standby: Arm(Silence 150ms) Promise(150ms)
          peer candidate: Arm(Silence 150ms) Promise(150ms) Send(Heartbeat 1)
          peer active -> standby: Arm(Silence 150ms) Promise(150ms) Overlap Gate(Closed) Send(Heartbeat 9) StopAnnounce Arm(Heartbeat 50ms)
          peer relay-out: Arm(Silence 150ms) Promise(150ms)
          peer left: Promise(0ns) PeerLost
          peer active, lower term: Arm(Silence 150ms) Promise(150ms) Overlap Send(Coup 1) Announce(Rival)
          peer asks, outranked: Arm(Silence 150ms) Promise(150ms) Send(Heartbeat 1)
          peer asks, outranks -> relay-out: Arm(Silence 150ms) Promise(150ms) Gate(RelayOut) Send(Relinquish 9) Arm(Relay 10000ms) StopAnnounce Arm(Heartbeat 50ms)
          peer asks another boot: Arm(Silence 150ms) Promise(150ms) Send(Heartbeat 1)
          peer offers -> standby: Arm(Silence 150ms) Promise(150ms) Overlap Gate(Closed) Send(Heartbeat 9) StopAnnounce Arm(Heartbeat 50ms)
          peer restarts -> standby: Arm(Silence 9602ms) Promise(9.602s) Overlap Gate(Closed) Send(Heartbeat 9) StopAnnounce Arm(Heartbeat 50ms) Send(Heartbeat 9)
          peer yields 5: Arm(Silence 150ms) Promise(150ms)
          peer yields 9: Arm(Silence 150ms) Promise(150ms)
          force: Send(Offer) Arm(Retry 50ms)
          leave: Send(Offer) Arm(Retry 50ms)
          unable: Send(Offer) Arm(Retry 50ms)
          able: 
          ineligible: Send(Heartbeat 1)
          replica complete: 
          replica behind: 
          rival seen: Announce(Rival)
          hold: Send(Heartbeat 1) Arm(Retry 50ms)
        relay-out
          start -> init: Gate(Closed) Send(Heartbeat 2) Arm(Heartbeat 50ms) Arm(Listen 150ms) Arm(Silence 150ms)
          lease expired: 
          Heartbeat: Send(Heartbeat 2) Arm(Heartbeat 50ms)
          Listen: 
          Silence -> active: PeerLost Adopt Send(Coup 3) Gate(Open) Announce(PeerSilent) Arm(Heartbeat 50ms)
          Retry: 
          Relay -> standby: Gate(Closed) Send(Heartbeat 2) Arm(Heartbeat 50ms)
          Patience: 
          Cooling: 
          Damping: 
          late -> init: Gate(Closed) Send(Heartbeat 2) Arm(Heartbeat 50ms) Arm(Listen 150ms) Arm(Silence 150ms)
          peer init -> candidate: Arm(Silence 150ms) Promise(150ms) Gate(RelayIn) Send(Elect 10) Arm(Retry 50ms) Arm(Heartbeat 50ms)
          peer standby -> candidate: Arm(Silence 150ms) Promise(150ms) Gate(RelayIn) Send(Elect 10) Arm(Retry 50ms) Arm(Heartbeat 50ms)
          peer candidate: Arm(Silence 150ms) Promise(150ms) Send(Relinquish 9)
          peer active: Arm(Silence 150ms) Promise(150ms)
          peer relay-out -> candidate: Arm(Silence 150ms) Promise(150ms) Gate(RelayIn) Send(Elect 10) Arm(Retry 50ms) Arm(Heartbeat 50ms)
          peer left -> active: Promise(0ns) PeerLost Adopt Send(Coup 10) Gate(Open) Announce(PeerLeft) Arm(Heartbeat 50ms)
          peer active, lower term: Arm(Silence 150ms) Promise(150ms)
          peer asks, outranked: Arm(Silence 150ms) Promise(150ms) Send(Relinquish 9)
          peer asks, outranks: Arm(Silence 150ms) Promise(150ms) Send(Relinquish 9)
          peer asks another boot: Arm(Silence 150ms) Promise(150ms) Send(Heartbeat 9)
          peer offers -> candidate: Arm(Silence 150ms) Promise(150ms) Gate(RelayIn) Send(Elect 10) Arm(Retry 50ms) Arm(Heartbeat 50ms)
          peer restarts: Arm(Silence 9602ms) Promise(9.602s)
          peer yields 5 -> candidate: Arm(Silence 150ms) Promise(150ms) Gate(RelayIn) Send(Elect 6) Arm(Retry 50ms) Arm(Heartbeat 50ms)
          peer yields 9 -> candidate: Arm(Silence 150ms) Promise(150ms) Gate(RelayIn) Send(Elect 10) Arm(Retry 50ms) Arm(Heartbeat 50ms)
          force: Forced(Err(NotActive))
          leave: 
          unable: Send(Heartbeat 2)
          able: 
          ineligible: Send(Heartbeat 2)
          replica complete: 
          replica behind: Send(Heartbeat 2)
          rival seen: 
          hold: NotHeld(NotActive)
        left
          start: 
          lease expired: 
          Heartbeat: 
          Listen: 
          Silence: 
          Retry: 
          Relay: 
          Patience: 
          Cooling: 
          Damping: 
          late: 
          peer init: 
          peer standby: 
          peer candidate: 
          peer active: 
          peer relay-out: 
          peer left: 
          peer active, lower term: 
          peer asks, outranked: 
          peer asks, outranks: 
          peer asks another boot: 
          peer offers: 
          peer restarts: 
          peer yields 5: 
          peer yields 9: 
          force: 
          leave: 
          unable: 
          able: 
          ineligible: 
          replica complete: 
          replica behind: 
          rival seen: 
          hold: 
    "#]].assert_eq(&table);
}

#[test]
fn a_peers_lease_that_is_longer_than_the_own_failover_time_is_waited_for() {
    // A lease of 600 ms has a guard of 120 ms + 2 ms.
    let patient = Message {
        failover: Duration::from_millis(722),
        lease: Duration::from_millis(600),
        ..from_peer(State::Active, Kind::Heartbeat, 4)
    };
    let waiting_time = Duration::from_millis(722);
    let (mut machine, mut effects) = (drive([Event::Start, Event::Forwardable(true)]), Vec::new());
    machine.on_event(Event::Received(patient), &mut effects);
    assert!(effects.contains(&Effect::Arm(Timer::Silence, waiting_time)), "{effects:?}");
    effects.clear();
    machine.on_event(Event::Late(Timer::Heartbeat), &mut effects);
    assert!(effects.contains(&Effect::Arm(Timer::Listen, waiting_time)), "{effects:?}");
    // A shorter one does not make this node hasty.
    let hasty = Message {
        lease: Duration::from_millis(20),
        failover: Duration::from_millis(30),
        sequence: 1_001,
        ..patient
    };
    effects.clear();
    machine.on_event(Event::Received(hasty), &mut effects);
    assert!(effects.contains(&Effect::Arm(Timer::Silence, params().failover)), "{effects:?}");
}

#[test]
fn a_replica_counts_up_to_the_lag_that_p4_allows() {
    for (lag_ms, counts) in [(LAG_MAX_MS, true), (LAG_MAX_MS + 1, false)] {
        let mut machine = in_state(State::Standby);
        machine.on_event(Event::Replica { complete: true, lag_ms }, &mut Vec::new());
        assert_eq!(machine.state() == State::Candidate, counts, "{lag_ms} ms: preempts");
    }
}

/// An active node with a preempting, ready and better standby peer, as `change` has it.
fn active_beside(change: impl FnOnce(&mut Message)) -> Election {
    let mut peer = Message {
        sequence: 1_001,
        preempt: true,
        priority: 30,
        ..from_peer(State::Standby, Kind::Heartbeat, 1)
    };
    change(&mut peer);
    let mut machine = in_state(State::Active);
    machine.on_event(Event::Received(peer), &mut Vec::new());
    machine
}

#[test]
fn a_forced_switchover_is_refused_with_the_reason_that_holds() {
    let outcome = |mut machine: Election| {
        let mut effects = Vec::new();
        machine.on_event(Event::ForceStandby, &mut effects);
        assert_eq!(machine.state(), State::Active);
        effects
            .into_iter()
            .find_map(|effect| if let Effect::Forced(outcome) = effect { Some(outcome) } else { None })
    };
    assert_eq!(outcome(active_beside(|_| {})), None, "the offer is out");
    let refused = |change: fn(&mut Message)| outcome(active_beside(change));
    assert_eq!(refused(|peer| peer.forwardable = false), Some(Err(Refusal::PeerUnable)));
    assert_eq!(refused(|peer| peer.complete = false), Some(Err(Refusal::PeerIncomplete)));
    assert_eq!(refused(|peer| peer.hears_you = false), Some(Err(Refusal::OneWay)));
    assert_eq!(
        refused(|peer| peer.peer_nonce = OWN_BOOT - 1),
        Some(Err(Refusal::OneWay)),
        "hears an earlier boot"
    );
    assert_eq!(refused(|peer| peer.state = State::Left), Some(Err(Refusal::NoPeer)));
    let mut busy = active_beside(|_| {});
    busy.on_event(Event::ForceStandby, &mut Vec::new());
    assert_eq!(outcome(busy), Some(Err(Refusal::Busy)));
}

#[test]
fn an_active_node_gives_the_role_only_to_a_ready_peer_that_asks_with_right() {
    let given = |forced: bool, change: fn(&mut Message)| {
        let mut machine = active_beside(|_| {});
        if forced {
            machine.on_event(Event::ForceStandby, &mut Vec::new());
        }
        let mut asks = Message {
            kind: Kind::Elect,
            state: State::Candidate,
            term: 2,
            sequence: 1_002,
            ..*machine.peer().unwrap()
        };
        change(&mut asks);
        machine.on_event(Event::Received(asks), &mut Vec::new());
        machine.state() == State::RelayOut
    };
    assert!(given(false, |_| {}) && given(true, |_| {}));
    // What was offered on command needs neither preempt nor priority, but a replica all the same.
    for change in [(|asks| asks.preempt = false) as fn(&mut Message), |asks| asks.priority = 20] {
        assert!(!given(false, change) && given(true, change));
    }
    for change in [(|asks| asks.complete = false) as fn(&mut Message), |asks| asks.forwardable = false] {
        assert!(!given(false, change) && !given(true, change));
    }
}

#[test]
fn tracking_moves_the_role_also_while_strays_of_the_last_move_are_relayed() {
    let after = |own: bool, eligible: bool| {
        let mut machine = active_beside(|_| {});
        let peer = *machine.peer().unwrap();
        let asks = Message { kind: Kind::Elect, state: State::Candidate, term: 2, sequence: 1_002, ..peer };
        let active = Message { state: State::Active, term: 2, sequence: 1_003, eligible, ..peer };
        let complete = Event::Replica { complete: true, lag_ms: 0 };
        for event in [Event::Received(asks), complete, Event::Eligible(own), Event::Received(active)] {
            machine.on_event(event, &mut Vec::new());
        }
        (machine.state(), machine.reason())
    };
    assert_eq!(after(true, true), (State::RelayOut, Reason::Preempt));
    assert_eq!(after(false, false), (State::RelayOut, Reason::Preempt), "neither is eligible");
    assert_eq!(after(true, false), (State::Candidate, Reason::Tracking));
}

#[test]
fn another_boot_is_believed_once_it_has_heard_this_node_and_an_earlier_one_never_again() {
    let mut machine = in_state(State::Standby);
    let mut hear = |message: Message| {
        let mut effects = Vec::new();
        machine.on_event(Event::Received(message), &mut effects);
        let dropped = effects.contains(&Effect::Dropped(DropCause::StaleBoot));
        let answers = effects.iter().any(|effect| matches!(effect, Effect::Send(_)));
        (dropped, answers, machine.peer().map(|peer| peer.nonce))
    };
    let old = from_peer(State::Active, Kind::Heartbeat, 4);
    let new = Message { nonce: PEER_BOOT + 1, sequence: 1, ..from_peer(State::Init, Kind::Heartbeat, 0) };
    assert_eq!(hear(Message { peer_nonce: 0, hears_you: false, ..new }), (true, true, Some(PEER_BOOT)));
    assert_eq!(hear(Message { peer_nonce: OWN_BOOT - 1, ..new }), (true, true, Some(PEER_BOOT)));
    assert_eq!(hear(old), (false, false, Some(PEER_BOOT)));
    let (dropped, _, boot) = hear(new);
    assert_eq!((dropped, boot), (false, Some(PEER_BOOT + 1)));
    // Held back by the network; it had heard this node.
    assert_eq!(hear(Message { sequence: 2_000, ..old }), (true, false, Some(PEER_BOOT + 1)));
    let left = Message { state: State::Left, sequence: 9, ..new };
    assert_eq!(hear(left).2, None);
    assert_eq!(hear(Message { sequence: 10, ..new }), (true, false, None));
}

#[test]
fn what_is_not_the_newest_message_of_the_one_peer_is_dropped_by_cause() {
    let newest = from_peer(State::Active, Kind::Heartbeat, 4);
    let mut machine = in_state(State::Standby);
    machine.on_event(Event::Received(newest), &mut Vec::new());
    let mut cause = |message: Message| {
        let (before, mut effects) = (machine.clone(), Vec::new());
        machine.on_event(Event::Received(message), &mut effects);
        assert_eq!(machine, before, "nothing came of it");
        match effects[..] {
            [Effect::Dropped(cause)] => Some(cause),
            _ => None,
        }
    };
    let later = Message { sequence: newest.sequence + 1, ..newest };
    assert_eq!(cause(newest), Some(DropCause::Duplicate));
    assert_eq!(cause(Message { sequence: newest.sequence - 1, ..newest }), Some(DropCause::Duplicate));
    assert_eq!(cause(Message { group: 2, ..later }), Some(DropCause::OtherGroup));
    assert_eq!(cause(Message { node: OWN, ..later }), Some(DropCause::OwnIdentity));
    assert_eq!(cause(Message { node: PEER + 1, ..later }), Some(DropCause::ThirdNode));
}

#[test]
fn only_a_yield_to_this_boot_of_this_node_opens() {
    let yielded = Message { term: 5, ..from_peer(State::RelayOut, Kind::Relinquish, 5) };
    for (peer_nonce, next) in
        [(OWN_BOOT, State::Active), (OWN_BOOT - 1, State::Candidate), (0, State::Candidate)]
    {
        let mut machine = in_state(State::Candidate);
        machine.on_event(Event::Received(Message { peer_nonce, ..yielded }), &mut Vec::new());
        assert_eq!(machine.state(), next, "to {peer_nonce}");
    }
}

#[test]
fn a_term_that_is_over_is_yielded_to_nobody() {
    // Both have term 1, or 4, behind them.
    for (state, last) in [(State::Active, 1), (State::Standby, 4), (State::RelayOut, 2)] {
        let yields = |term: u64| {
            let mut machine = in_state(state);
            let asks =
                Message { priority: 30, preempt: true, ..from_peer(State::Candidate, Kind::Elect, term) };
            let mut effects = Vec::new();
            machine.on_event(Event::Received(asks), &mut effects);
            effects
                .iter()
                .any(|effect| matches!(effect, Effect::Send(Message { kind: Kind::Relinquish, .. })))
        };
        assert!(!yields(last - 1), "{state}");
        assert!(yields(last + 1), "{state}");
        // The active node has that term itself.
        assert_eq!(yields(last), state != State::Active, "{state}");
    }
}
