//! A role that comes back again and again.

use super::*;

const BASE: Duration = Duration::from_secs(10);

/// A node of higher rank than its peer, and what its last event came to.
struct Flapping {
    machine: Election,
    sequence: u64,
    effects: Vec<Effect>,
}

impl Flapping {
    fn new() -> Self {
        let mut machine = in_state(State::Standby);
        machine.params.damping = BASE;
        Self { machine, sequence: 10_000, effects: Vec::new() }
    }

    fn on(&mut self, event: Event) -> State {
        self.effects.clear();
        self.machine.on_event(event, &mut self.effects);
        self.machine.state()
    }

    fn hear(&mut self, message: Message) -> State {
        self.sequence += 1;
        self.on(Event::Received(Message { sequence: self.sequence, ..message }))
    }

    fn waits(&self) -> Option<Duration> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Arm(Timer::Damping, time) => Some(*time),
            _ => None,
        })
    }

    /// The peer is active and well, and this node has a complete replica and nothing against it.
    fn sees_a_peer_that_it_may_replace(&mut self) -> State {
        let term = self.machine.term();
        self.hear(from_peer(State::Active, Kind::Heartbeat, term));
        self.on(Event::Replica { complete: true, lag_ms: 0 });
        self.on(Event::Eligible(true))
    }

    /// The peer yields, and then something tracked fails here and it takes the role.
    fn has_it_and_loses_it(&mut self) {
        let term = self.machine.term();
        assert_eq!(self.hear(from_peer(State::RelayOut, Kind::Relinquish, term)), State::Active);
        assert_eq!(self.machine.reason(), Reason::Preempt);
        self.on(Event::Eligible(false));
        let asks = Message { preempt: true, ..from_peer(State::Candidate, Kind::Elect, term + 1) };
        assert_eq!(self.hear(asks), State::RelayOut);
    }

    fn is_standby_again(&mut self) {
        assert_eq!(self.on(Event::Timer(Timer::Relay)), State::Standby);
    }
}

/// Back so many times, and gone again.
fn flapped(times: u8) -> Flapping {
    let mut node = Flapping::new();
    for _ in 0..times {
        while node.sees_a_peer_that_it_may_replace() != State::Candidate {
            assert_eq!(node.machine.state(), State::Standby);
            node.on(Event::Timer(Timer::Damping));
        }
        node.has_it_and_loses_it();
        if node.machine.returns() <= FREE_RETURNS {
            assert!(!node.machine.is_damped());
        }
        node.is_standby_again();
    }
    node
}

#[test]
fn a_few_returns_are_free_and_each_further_one_waits_twice_as_long() {
    for (times, seconds) in
        [(1, None), (3, None), (4, Some(10)), (5, Some(20)), (8, Some(160)), (12, Some(300))]
    {
        let mut node = flapped(times - 1);
        while node.sees_a_peer_that_it_may_replace() != State::Candidate {
            node.on(Event::Timer(Timer::Damping));
        }
        node.has_it_and_loses_it();
        assert_eq!(node.waits(), seconds.map(Duration::from_secs), "{times}");
    }
}

#[test]
fn preemption_waits_until_the_time_is_over_and_tells_the_peer_so() {
    let mut node = flapped(4);
    assert_eq!(node.sees_a_peer_that_it_may_replace(), State::Standby);
    assert!(!node.machine.message(Kind::Heartbeat).preempt);
    assert_eq!(node.on(Event::Timer(Timer::Damping)), State::Candidate);
    assert!(node.machine.message(Kind::Heartbeat).preempt);
}

/// The thread was held up over the end of the wait: it listens anew, and nothing waits for ever.
#[test]
fn a_wait_whose_end_came_late_is_over() {
    let mut node = flapped(4);
    assert_eq!(node.on(Event::Late(Timer::Damping)), State::Init);
    assert!(!node.machine.is_damped());
    assert!(node.machine.message(Kind::Heartbeat).preempt);
}

#[test]
fn a_peer_that_is_silent_has_left_or_is_unfit_is_not_waited_for() {
    let mut node = flapped(4);
    node.sees_a_peer_that_it_may_replace();
    assert_eq!(node.on(Event::Timer(Timer::Silence)), State::Active);
    let mut node = flapped(4);
    node.sees_a_peer_that_it_may_replace();
    assert_eq!(node.hear(from_peer(State::Left, Kind::Heartbeat, 0)), State::Active);
    let mut node = flapped(4);
    node.sees_a_peer_that_it_may_replace();
    let term = node.machine.term();
    let unfit = Message { eligible: false, ..from_peer(State::Active, Kind::Heartbeat, term) };
    assert_eq!((node.hear(unfit), node.machine.reason()), (State::Candidate, Reason::Tracking));
}

#[test]
fn what_has_rested_long_enough_is_forgotten() {
    let mut node = flapped(4);
    node.on(Event::Timer(Timer::Damping));
    assert_eq!((node.machine.is_damped(), node.machine.returns()), (false, 4));
    assert_eq!(node.waits(), Some(30 * BASE));
    node.on(Event::Timer(Timer::Damping));
    assert_eq!(node.machine.returns(), 0);
}

#[test]
fn a_planned_restart_forgets_no_return() {
    let node = flapped(4);
    let restraint = node.machine.restraint(7);
    assert_eq!((restraint.returns, restraint.damped, restraint.until_ns), (4, true, 7));
    let mut next = Flapping::new();
    next.machine.restrain(&restraint);
    assert_eq!(next.sees_a_peer_that_it_may_replace(), State::Standby);
    assert!(!next.machine.message(Kind::Heartbeat).preempt);
    assert_eq!(next.on(Event::Timer(Timer::Damping)), State::Candidate);
    next.has_it_and_loses_it();
    assert_eq!(next.waits(), Some(2 * BASE), "the fifth");
}

#[test]
fn what_was_over_when_the_next_process_began_is_over() {
    let kept = Restraint { returns: 4, damped: true, until_ns: 100, ..Restraint::default() };
    let at = |now| {
        let left = kept.left(now, 30);
        (left.returns, left.damped, left.until_ns)
    };
    assert_eq!(at(99), (4, true, 100));
    // It has waited, and its returns count for as long as if it had been there.
    assert_eq!((at(100), at(129)), ((4, false, 130), (4, false, 130)));
    assert_eq!(at(130), (0, false, 130));
    let rests = Restraint { damped: false, ..kept }.left(100, 30);
    assert_eq!(rests.returns, 0);
}
