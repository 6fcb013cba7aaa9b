use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::hsrp::wire::AUTHENTICATION;
use crate::hsrp::wire::tests::message as any_message;

const VIRTUAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 6, 0, 1));
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 6, 0, 2));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 6, 0, 3));

fn params() -> Params {
    Params {
        group: 1,
        version: Version::V1,
        own: OWN,
        mac: [2, 0, 0, 0, 0, 2],
        address: Some(VIRTUAL),
        learns: Learns::default(),
        priority: PRIORITY,
        preempt: false,
        preempt_delay: Duration::ZERO,
        timers: None,
        authentication: AUTHENTICATION,
        listen_only: false,
    }
}

fn hello(state: State, priority: u8) -> Event {
    let sender = Machine::new(Params { own: OTHER, priority, ..params() });
    Event::Received(OTHER, Message { state, ..sender.message(Op::Hello) })
}

fn op(op: Op, priority: u8) -> Event {
    let sender = Machine::new(Params { own: OTHER, priority, ..params() });
    Event::Received(OTHER, Message { state: State::Active, ..sender.message(op) })
}

fn after(params: Params, events: &[Event]) -> (Machine, Vec<Effect>) {
    let (mut machine, mut effects) = (Machine::new(params), Vec::new());
    for event in events {
        effects.clear();
        machine.on_event(event, &mut effects);
    }
    (machine, effects)
}

fn state(params: Params, events: &[Event]) -> State {
    after(params, events).0.state()
}

const fn fires(timer: Timer) -> Event {
    Event::Timer(timer)
}

fn sent(effects: &[Effect]) -> Vec<(Op, State)> {
    let said = effects.iter().filter_map(|effect| match effect {
        Effect::Send(message) => Some((message.op, message.state)),
        _ => None,
    });
    said.collect()
}

/// Ways to each state.
fn way_to(state: State) -> Vec<Event> {
    match state {
        State::Initial | State::Learn => Vec::new(),
        State::Listen => vec![Event::Up],
        State::Speak => vec![Event::Up, fires(Timer::Active)],
        State::Standby => {
            vec![Event::Up, hello(State::Active, 200), fires(Timer::Standby), fires(Timer::Standby)]
        }
        State::Active => vec![Event::Up, fires(Timer::Active), fires(Timer::Standby), fires(Timer::Active)],
    }
}

/// The table of RFC 2281 section 5.7: each event in each state.
#[test]
fn the_table_of_the_rfc() {
    use State::{Active, Initial, Listen, Speak, Standby};
    let (low, high) = (50, 200);
    let table: Vec<(&str, Event, [State; 5])> = vec![
        ("a", Event::Up, [Listen, Listen, Speak, Standby, Active]),
        ("b", Event::Down, [Initial; 5]),
        ("c", fires(Timer::Active), [Initial, Speak, Speak, Active, Active]),
        ("d", fires(Timer::Standby), [Initial, Speak, Standby, Standby, Active]),
        ("e", fires(Timer::Hello), [Initial, Listen, Speak, Standby, Active]),
        ("f", hello(Speak, high), [Initial, Listen, Listen, Listen, Active]),
        ("g", hello(Active, high), [Initial, Listen, Speak, Standby, Speak]),
        ("h", hello(Active, low), [Initial, Listen, Speak, Standby, Active]),
        ("i", op(Op::Resign, high), [Initial, Listen, Speak, Active, Active]),
        ("j", op(Op::Coup, high), [Initial, Listen, Speak, Standby, Speak]),
        ("j, lower", op(Op::Coup, low), [Initial, Listen, Speak, Standby, Active]),
        ("k", hello(Standby, high), [Initial, Listen, Listen, Listen, Active]),
        ("l", hello(Standby, low), [Initial, Speak, Standby, Standby, Active]),
    ];
    for (name, event, expected) in table {
        let next = [Initial, Listen, Speak, Standby, Active].map(|from| {
            assert_eq!(state(params(), &way_to(from)), from);
            state(params(), &[way_to(from), vec![event.clone()]].concat())
        });
        assert_eq!(next, expected, "event {name}");
    }
}

#[test]
fn a_resign_of_the_active_router_is_heeded_in_listen_and_of_another_nowhere() {
    let events = [Event::Up, hello(State::Active, 200), op(Op::Resign, 200)];
    assert_eq!(state(params(), &events), State::Speak);
    let stranger = IpAddr::from([10, 6, 0, 9]);
    let Event::Received(_, resign) = op(Op::Resign, 200) else { panic!("a message") };
    let events = [way_to(State::Standby), vec![Event::Received(stranger, resign)]].concat();
    assert_eq!(state(params(), &events), State::Standby);
}

#[test]
fn with_preempt_a_worse_active_router_is_replaced_by_a_coup() {
    let preempts = Params { preempt: true, ..params() };
    for from in [State::Listen, State::Speak, State::Standby] {
        let events = [way_to(from), vec![hello(State::Active, 99)]].concat();
        let (machine, effects) = after(preempts.clone(), &events);
        assert_eq!(machine.state(), State::Active, "{from}");
        assert_eq!(sent(&effects), [(Op::Coup, State::Active), (Op::Hello, State::Active)]);
        assert_eq!(effects.last(), Some(&Effect::Announce));
    }
    // Of the same priority the one that is active stays so, whatever its address.
    assert_eq!(state(preempts, &[Event::Up, hello(State::Active, PRIORITY)]), State::Listen);
    let higher = Params { preempt: true, own: IpAddr::from([10, 6, 0, 4]), ..params() };
    assert_eq!(state(higher, &[Event::Up, hello(State::Active, PRIORITY)]), State::Listen);
}

#[test]
fn the_delay_of_preempt_runs_from_the_start() {
    let delayed = Params { preempt: true, preempt_delay: Duration::from_secs(60), ..params() };
    let worse = hello(State::Active, 50);
    assert_eq!(state(delayed.clone(), &[Event::Up, worse.clone()]), State::Listen);
    assert_eq!(state(delayed.clone(), &[Event::Up, fires(Timer::Delay), worse]), State::Active);
    // With nobody active there is nothing to delay.
    assert_eq!(state(delayed, &way_to(State::Active)), State::Active);
}

#[test]
fn a_lower_priority_by_tracking_lets_the_other_one_preempt() {
    let active = way_to(State::Active);
    let (mut machine, mut effects) = after(Params { priority: 110, ..params() }, &active);
    machine.on_event(&op(Op::Coup, 105), &mut effects);
    assert_eq!(machine.state(), State::Active);
    machine.on_event(&Event::Priority(100), &mut effects);
    effects.clear();
    machine.on_event(&op(Op::Coup, 105), &mut effects);
    assert_eq!(machine.state(), State::Speak);
    assert_eq!(sent(&effects)[0], (Op::Resign, State::Active));
}

#[test]
fn what_is_not_configured_is_learned_from_the_active_router() {
    let learner = Params { address: None, ..params() };
    assert_eq!(
        state(learner.clone(), &[Event::Up, fires(Timer::Active)]),
        State::Learn,
        "nothing to speak for"
    );
    let Event::Received(from, said) = hello(State::Active, 200) else { panic!("a message") };
    let (hello, hold) = (Duration::from_secs(1), Duration::from_secs(4));
    let said = Event::Received(from, Message { hello, hold, ..said });
    let (machine, _) = after(learner, &[Event::Up, said.clone()]);
    assert_eq!((machine.state(), machine.address()), (State::Listen, Some(VIRTUAL)));
    assert_eq!(machine.timers(), (hello, hold));
    let own = Params { timers: Some((HELLO, HOLD)), ..params() };
    assert_eq!(after(own, &[Event::Up, said]).0.timers(), (HELLO, HOLD), "configured");
}

/// From the first hello on it is a router as others, also when its link was away and nobody else is left.
#[test]
fn one_that_learns_takes_over_what_it_has_learned() {
    let network = Some("10.6.0.2/16".parse().expect("a network"));
    let taken = vec![IpAddr::from([10, 6, 0, 100])];
    let learner = Params { address: None, preempt: true, learns: Learns { network, taken }, ..params() };
    let said = |address: Option<IpAddr>| match hello(State::Active, 50) {
        Event::Received(from, said) => Event::Received(from, Message { address, ..said }),
        _ => panic!("a message"),
    };
    // What is no address of a host there, is the router's own or the module's, is not learned.
    for no in [[10, 7, 0, 1], [10, 6, 0, 0], [10, 6, 255, 255], [10, 6, 0, 2], [10, 6, 0, 100]] {
        let (machine, effects) = after(learner.clone(), &[Event::Up, said(Some(IpAddr::from(no)))]);
        assert_eq!((machine.state(), machine.address()), (State::Learn, None), "{no:?}");
        assert_eq!(effects, [Effect::Ignored(Ignored::Address)], "{no:?}");
    }
    assert_eq!(state(learner.clone(), &[Event::Up, said(None)]), State::Learn, "nothing said");
    // Only a hello of the active router says it, and not even that of a worse one is a reason to speak before.
    let Event::Received(from, standby) = hello(State::Standby, 200) else { panic!("a message") };
    let heard = [Event::Up, Event::Received(from, standby)];
    assert_eq!(state(learner.clone(), &heard), State::Learn);
    let (mut machine, effects) = after(learner, &[Event::Up, said(Some(VIRTUAL))]);
    assert_eq!(machine.state(), State::Listen);
    assert!(effects.contains(&Effect::Address(VIRTUAL)), "{effects:?}");
    // The next one it answers as any other router that is better.
    let mut effects = Vec::new();
    machine.on_event(&said(Some(VIRTUAL)), &mut effects);
    assert_eq!(machine.state(), State::Active);
    assert_eq!(sent(&effects), [(Op::Coup, State::Active), (Op::Hello, State::Active)]);
    let said_by = effects.iter().filter_map(|effect| match effect {
        Effect::Send(message) => Some(message.address),
        _ => None,
    });
    assert!(said_by.into_iter().all(|address| address == Some(VIRTUAL)));
    // Another address than the one that it is active for changes nothing.
    effects.clear();
    machine.on_event(&said(Some(IpAddr::from([10, 6, 0, 7]))), &mut effects);
    assert_eq!((machine.state(), machine.address()), (State::Active, Some(VIRTUAL)));
    effects.clear();
    machine.on_event(&Event::Down, &mut effects);
    assert_eq!((machine.state(), machine.address()), (State::Initial, Some(VIRTUAL)));
    for event in [Event::Up, fires(Timer::Active), fires(Timer::Standby), fires(Timer::Active)] {
        machine.on_event(&event, &mut effects);
    }
    assert_eq!(machine.state(), State::Active);
}

#[test]
fn messages_of_others_are_named_and_change_nothing() {
    let Event::Received(from, good) = hello(State::Active, 200) else { panic!("a message") };
    let text = Authentication::new("secret").expect("a text");
    let table = [
        (Event::Received(from, Message { group: 2, ..good }), Ignored::OtherGroup),
        (Event::Received(from, Message { version: Version::V2, ..good }), Ignored::OtherGroup),
        (Event::Received(from, Message { authentication: text, ..good }), Ignored::Authentication),
        (Event::Received(OWN, good), Ignored::OwnAddress),
        (Event::Received(from, Message { address: Some(OTHER), ..good }), Ignored::Address),
    ];
    for (event, why) in table {
        let (before, _) = after(params(), &way_to(State::Active));
        let (mut machine, mut effects) = (before.clone(), Vec::new());
        machine.on_event(&event, &mut effects);
        assert_eq!((machine, effects), (before, vec![Effect::Ignored(why)]));
    }
}

/// Every event in every state: a group of IPv6 does what one of IPv4 does.
#[test]
fn the_families_go_by_one_machine_and_hear_only_their_own() {
    let address = |host: u16| IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, host]);
    let v6 = |params: Params| Params { version: Version::V2, address: Some(address(1)), ..params };
    let mine = v6(Params { own: address(2), ..params() });
    let said = |op, state, priority| {
        let sender = Machine::new(v6(Params { own: address(3), priority, ..params() }));
        Event::Received(address(3), Message { state, ..sender.message(op) })
    };
    let silence = [Event::Up, fires(Timer::Active), fires(Timer::Standby), fires(Timer::Active)];
    let (machine, effects) = after(mine.clone(), &silence);
    assert_eq!(machine.state(), State::Active);
    let Some(Effect::Send(hello)) = effects.iter().find(|effect| matches!(effect, Effect::Send(_))) else {
        panic!("{effects:?}")
    };
    assert_eq!((hello.family, hello.address), (Family::V6, Some(address(1))));
    let deposed = [&silence[..], &[said(Op::Coup, State::Speak, 200)]].concat();
    assert_eq!(state(mine.clone(), &deposed), State::Speak);
    let second = [Event::Up, said(Op::Hello, State::Active, 200)];
    let second = [&second[..], &[fires(Timer::Standby), fires(Timer::Standby)]].concat();
    assert_eq!(state(mine.clone(), &second), State::Standby);
    let resigned = [&second[..], &[said(Op::Resign, State::Active, 200)]].concat();
    assert_eq!(state(mine.clone(), &resigned), State::Active);
    // The group of IPv4 with the same number is another one.
    let sender = Machine::new(Params { own: OTHER, version: Version::V2, priority: 200, ..params() });
    let stranger = Message { state: State::Active, ..sender.message(Op::Hello) };
    let (before, _) = after(mine, &silence);
    let (mut machine, mut effects) = (before.clone(), Vec::new());
    machine.on_event(&Event::Received(OTHER, stranger), &mut effects);
    assert_eq!((machine, effects), (before, vec![Effect::Ignored(Ignored::OtherGroup)]));
}

#[test]
fn a_listener_never_speaks_and_knows_who_does() {
    let listener = Params { listen_only: true, address: None, preempt: true, ..params() };
    let events = [Event::Up, hello(State::Active, 50)];
    let (mut machine, mut effects) = after(listener, &events);
    assert_eq!((machine.state(), machine.active().map(|it| it.address)), (State::Listen, Some(OTHER)));
    effects.clear();
    machine.on_event(&fires(Timer::Active), &mut effects);
    assert_eq!((machine.active(), effects), (None, vec![Effect::Roles]));
}

/// What may happen, in any order.
fn event() -> impl Strategy<Value = Event> {
    let near = (any::<u8>(), prop::sample::select(State::ALL.to_vec()), 0..3_u8, any::<bool>()).prop_map(
        |(priority, state, kind, own)| {
            let sender = Machine::new(Params { own: OTHER, priority, ..params() });
            let op = [Op::Hello, Op::Coup, Op::Resign][usize::from(kind)];
            let source = if own { OWN } else { OTHER };
            Event::Received(source, Message { state, ..sender.message(op) })
        },
    );
    prop_oneof![
        1 => Just(Event::Up),
        1 => Just(Event::Down),
        4 => prop::sample::select(Timer::ALL.to_vec()).prop_map(Event::Timer),
        1 => any::<u8>().prop_map(Event::Priority),
        8 => near,
        2 => (any::<u32>(), any_message()).prop_map(|(from, said)| Event::Received(Ipv4Addr::from_bits(from).into(), said)),
    ]
}

proptest! {
    /// A listener says nothing whatever it hears; one that speaks says only what its state allows, announces only as the
    /// active router, and resigns or is deposed before it stops being one.
    #[test]
    fn what_is_said_fits_the_state(
        listen_only in any::<bool>(),
        preempt in any::<bool>(),
        known in any::<bool>(),
        events in prop::collection::vec(event(), 0..100),
    ) {
        let address = known.then_some(VIRTUAL);
        let mut machine = Machine::new(Params { listen_only, preempt, address, ..params() });
        let mut armed = std::collections::BTreeSet::new();
        for event in events {
            // A timer that does not run does not fire.
            if let Event::Timer(timer) = event && !armed.remove(&timer) {
                continue;
            }
            let (before, mut effects) = (machine.state(), Vec::new());
            machine.on_event(&event, &mut effects);
            for effect in &effects {
                match effect {
                    Effect::Arm(timer, _) => { armed.insert(*timer); }
                    Effect::Disarm(timer) => { armed.remove(timer); }
                    Effect::Send(message) => {
                        prop_assert!(!listen_only && message.state >= State::Speak);
                        prop_assert!(message.op == Op::Hello || message.state == State::Active);
                        prop_assert!(message.address.is_some());
                    }
                    Effect::Announce => prop_assert_eq!(machine.state(), State::Active),
                    // The words are about one that is known already.
                    Effect::Address(learned) => {
                        prop_assert!(!known && Some(*learned) == machine.address());
                    }
                    Effect::Became(_) | Effect::Roles | Effect::Ignored(_) => {}
                }
            }
            let state = machine.state();
            if before == State::Active && state != State::Active {
                let resigned = sent(&effects).contains(&(Op::Resign, State::Active));
                prop_assert!(resigned || machine.active().is_some(), "{event:?}");
            }
            // Nobody waits for ever: whoever is not active is woken by silence.
            match state {
                State::Initial => prop_assert!(armed.is_empty()),
                State::Learn | State::Listen => {}
                State::Speak => prop_assert!(armed.contains(&Timer::Standby) && armed.contains(&Timer::Hello)),
                State::Standby => prop_assert!(armed.contains(&Timer::Active) && armed.contains(&Timer::Hello)),
                State::Active => prop_assert!(armed.contains(&Timer::Hello)),
            }
        }
    }
}
