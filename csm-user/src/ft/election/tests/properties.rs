//! What holds after any sequence of events.

use std::collections::BTreeSet;

use proptest::prelude::*;

use csm_common::gate::GateState;

use super::*;

fn any_message() -> impl Strategy<Value = Message> {
    let facts = (0..6_usize, 0..4_usize, any::<[bool; 8]>(), 1..40_u8);
    (facts, 0..20_u64, 1..60_u64, 0..3_u64, 0..10_u8).prop_map(|(facts, term, sequence, boot, odd)| {
        let message = from_peer(State::ALL[facts.0], Kind::ALL[facts.1], term);
        Message {
            forwardable: facts.2[0],
            eligible: facts.2[1],
            preempt: facts.2[2],
            complete: facts.2[3],
            hears_you: facts.2[4],
            offer: facts.2[5],
            peer_nonce: if facts.2[6] { OWN_BOOT } else { 0 },
            keeper: facts.2[7],
            priority: facts.3,
            sequence,
            nonce: PEER_BOOT + boot,
            node: if odd == 0 { PEER + 1 } else { PEER },
            ..message
        }
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => any_message().prop_map(Event::Received),
        8 => (0..Timer::ALL.len()).prop_map(|index| Event::Timer(Timer::ALL[index])),
        1 => (0..Timer::ALL.len()).prop_map(|index| Event::Late(Timer::ALL[index])),
        1 => Just(Event::LeaseExpired),
        1 => Just(Event::Unsaid),
        1 => Just(Event::ForceStandby),
        2 => any::<bool>().prop_map(Event::Forwardable),
        1 => any::<bool>().prop_map(Event::Eligible),
        1 => (1..4u8, any::<bool>()).prop_map(|(priority, preempt)| {
            Event::Configured { priority: priority * 10, preempt, config_checksum: 1 }
        }),
        2 => (any::<bool>(), 0..200_u32).prop_map(|(complete, lag_ms)| Event::Replica { complete, lag_ms }),
        1 => Just(Event::RivalSeen),
    ]
}

/// What must be true of one step, whatever came before.
fn check_step(
    before: &Election,
    event: Event,
    after: &Election,
    effects: &[Effect],
) -> Result<(), TestCaseError> {
    let at = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted);
    let sends =
        || effects.iter().filter_map(|effect| if let Effect::Send(m) = effect { Some(m) } else { None });
    let gate = effects
        .iter()
        .rev()
        .find_map(|effect| if let Effect::Gate(gate) = effect { Some(*gate) } else { None });
    prop_assert!(sends().map(|m| m.sequence).is_sorted_by(|a, b| a < b), "numbers rise");
    prop_assert!(sends().all(|m| m.sequence > before.sequence && m.sequence <= after.sequence));
    prop_assert!(after.term >= before.term, "terms never fall");
    if before.state != after.state {
        prop_assert_eq!(gate, Some(after.state.gate()), "the gate follows the state");
    }
    if let Some(gate) = gate {
        prop_assert_eq!(gate, after.state.gate());
    }
    if before.state != State::Active && after.state == State::Active {
        let order = [
            at(|effect| matches!(effect, Effect::Adopt)),
            at(|effect| matches!(effect, Effect::Send(Message { kind: Kind::Coup, .. }))),
            at(|effect| matches!(effect, Effect::Gate(GateState::Open))),
            at(|effect| matches!(effect, Effect::Announce(_))),
        ];
        prop_assert!(
            order.iter().all(Option::is_some) && order.is_sorted(),
            "adopt, say, open, announce: {:?}",
            order
        );
        prop_assert!(after.forwardable, "who cannot forward does not claim");
        prop_assert!(
            matches!(
                event,
                Event::Timer(Timer::Listen | Timer::Silence) | Event::Received(_) | Event::Forwardable(true)
            ) || before.peer.is_none(),
            "opens on silence or on the peer's word: {:?}",
            event
        );
    }
    if before.state == State::Active && after.state != State::Active {
        let shut = at(|effect| matches!(effect, Effect::Gate(_)));
        prop_assert!(shut < at(|effect| matches!(effect, Effect::Send(_))), "fences before it speaks");
        prop_assert!(at(|effect| matches!(effect, Effect::StopAnnounce)).is_some());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_keeps_the_invariants(events in prop::collection::vec(any_event(), 1..60)) {
        let mut machine = Election::new(params());
        let mut armed = BTreeSet::new();
        for event in std::iter::once(Event::Start).chain(events) {
            let (before, mut effects) = (machine.clone(), Vec::new());
            // A timer that fires is no longer armed, and one that is not armed does not fire.
            if let Event::Timer(timer) | Event::Late(timer) = event && !armed.remove(&timer) {
                continue;
            }
            machine.on_event(event, &mut effects);
            for effect in &effects {
                match effect {
                    Effect::Arm(timer, _) => drop(armed.insert(*timer)),
                    Effect::Disarm(timer) => drop(armed.remove(timer)),
                    _ => {}
                }
            }
            check_step(&before, event, &machine, &effects)?;
            prop_assert!(armed.contains(&Timer::Heartbeat), "always beats");
            prop_assert_eq!(armed.contains(&Timer::Silence), machine.peer.is_some(), "a peer is heard, or is not");
            prop_assert_eq!(armed.contains(&Timer::Listen), machine.state == State::Init, "init ends");
            prop_assert!(machine.state != State::Candidate || armed.contains(&Timer::Retry), "candidacy ends");
            prop_assert!(machine.state != State::RelayOut || armed.contains(&Timer::Relay), "relaying ends");
            prop_assert!(machine.offer.is_none() || armed.contains(&Timer::Retry), "an offer ends");
        }
    }

    #[test]
    fn who_has_left_does_nothing_any_more(events in prop::collection::vec(any_event(), 1..20)) {
        let mut machine = in_state(State::Left);
        let mut effects = Vec::new();
        for event in events {
            machine.on_event(event, &mut effects);
        }
        prop_assert_eq!(effects, vec![]);
    }

    #[test]
    fn a_leaving_node_never_opens(start in 0..5_usize, events in prop::collection::vec(any_event(), 1..40)) {
        let mut machine = in_state(State::ALL[start]);
        let mut effects = Vec::new();
        machine.on_event(Event::Leave, &mut effects);
        let was_active = machine.state() == State::Active;
        for event in events {
            machine.on_event(event, &mut effects);
        }
        let opened = effects.iter().any(|effect| matches!(effect, Effect::Adopt));
        prop_assert!(!opened);
        prop_assert!(was_active || matches!(machine.state(), State::RelayOut | State::Left));
    }
}
