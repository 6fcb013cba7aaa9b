use proptest::prelude::*;

use super::*;

const S: Duration = Duration::from_secs(1);
const HOLD: Duration = Duration::from_secs(10);

fn gateway(host: u8) -> Object {
    Object::Gateway(Ipv4Addr::new(10, 0, 0, host).into())
}

fn interface(name: &str) -> Object {
    Object::Interface(name.to_owned())
}

/// Two gateways and an interface, all known to be up at second 0.
fn all_up(mode: TrackMode) -> Tracker {
    let objects = vec![gateway(1), gateway(2), interface("eth1")];
    let mut tracker = Tracker::new(mode, HOLD, objects.clone());
    for object in &objects {
        tracker.report(object, true, Duration::ZERO);
    }
    assert!(tracker.is_eligible());
    tracker
}

#[test]
fn nothing_tracked_stands_against_nobody() {
    assert!(Tracker::new(TrackMode::Any, HOLD, Vec::new()).is_eligible());
    assert!(Tracker::new(TrackMode::All, HOLD, Vec::new()).is_eligible());
}

#[test]
fn a_node_that_has_just_started_waits_until_it_knows_and_then_not_for_the_hold_down() {
    let mut tracker = Tracker::new(TrackMode::Any, HOLD, vec![gateway(1), interface("eth1")]);
    assert!(!tracker.is_eligible());
    assert_eq!(tracker.report(&gateway(1), true, S), [What::Object(gateway(1), true)]);
    let changed = tracker.report(&interface("eth1"), true, S * 2);
    assert_eq!(changed, [What::Object(interface("eth1"), true), What::Eligible(true)]);
}

#[test]
fn a_node_that_started_with_something_down_has_a_hold_down_like_any_other() {
    let mut tracker = Tracker::new(TrackMode::Any, HOLD, vec![gateway(1)]);
    tracker.report(&gateway(1), false, S);
    tracker.report(&gateway(1), true, S * 2);
    assert!(!tracker.is_eligible());
    assert_eq!(tracker.hold_down_ends(), Some(S * 12));
}

#[test]
fn mode_any_heeds_each_object() {
    for object in [gateway(1), gateway(2), interface("eth1")] {
        let mut tracker = all_up(TrackMode::Any);
        let changed = tracker.report(&object, false, S);
        assert_eq!(changed, [What::Object(object, false), What::Eligible(false)]);
    }
}

#[test]
fn mode_all_needs_one_down_in_each_class_that_is_used() {
    let mut tracker = all_up(TrackMode::All);
    tracker.report(&gateway(1), false, S);
    tracker.report(&gateway(2), false, S);
    assert!(tracker.is_eligible(), "all gateways are down, but the interface is up");
    tracker.report(&gateway(2), true, S);
    tracker.report(&interface("eth1"), false, S);
    assert!(!tracker.is_eligible(), "one gateway and the interface");
    let mut alone = Tracker::new(TrackMode::All, HOLD, vec![gateway(1), gateway(2)]);
    alone.report(&gateway(1), true, S);
    alone.report(&gateway(2), true, S);
    assert!(alone.is_eligible());
    alone.report(&gateway(2), false, S);
    assert!(!alone.is_eligible(), "the only class");
}

#[test]
fn what_comes_back_must_stay_for_the_hold_down() {
    let mut tracker = all_up(TrackMode::Any);
    tracker.report(&gateway(1), false, S);
    tracker.report(&gateway(1), true, S * 2);
    assert_eq!(tracker.wake(S * 11), []);
    tracker.report(&gateway(2), false, S * 11);
    tracker.report(&gateway(2), true, S * 13);
    assert_eq!(tracker.wake(S * 22), [], "the time runs anew from the last fault");
    assert_eq!(tracker.wake(S * 23), [What::Eligible(true)]);
    assert_eq!(tracker.hold_down_ends(), None);
    let told: Vec<String> = tracker.changes().map(|change| change.what.to_string()).collect();
    assert_eq!(told.last().map(String::as_str), Some("this box is eligible"));
    assert!(told.contains(&"gateway 10.0.0.2 is down".to_owned()), "{told:?}");
}

#[test]
fn a_group_that_came_back_counts_at_once_and_one_beside_a_gateway_waits_for_it() {
    let group = Object::Group(1, Ipv4Addr::new(10, 0, 0, 1).into(), None);
    let mut tracker = Tracker::new(TrackMode::Any, HOLD, vec![group.clone(), gateway(1)]);
    tracker.report(&gateway(1), true, Duration::ZERO);
    tracker.report(&group, false, Duration::ZERO);
    let changed = tracker.report(&group, true, S * 30);
    assert_eq!(changed, [What::Object(group.clone(), true), What::Eligible(true)]);
    tracker.report(&group, false, S * 40);
    tracker.report(&gateway(1), false, S * 41);
    tracker.report(&gateway(1), true, S * 42);
    tracker.report(&group, true, S * 43);
    assert_eq!(tracker.hold_down_ends(), Some(S * 52));
}

#[test]
fn what_is_not_tracked_and_what_is_known_change_nothing() {
    let mut tracker = all_up(TrackMode::Any);
    let before = tracker.clone();
    assert_eq!(tracker.report(&gateway(9), false, S), []);
    assert_eq!(tracker.report(&gateway(1), true, S), []);
    assert_eq!(tracker, before);
}

proptest! {
    /// Whatever happens: not eligible at once when something stands against the node, eligible only after all was well
    /// for the hold-down; and the memory stays bounded.
    #[test]
    fn the_verdict_follows_the_objects(
        all in any::<bool>(),
        steps in prop::collection::vec((0..3_usize, any::<bool>(), 0..15_u32), 0..200),
    ) {
        let objects = [gateway(1), gateway(2), interface("eth1")];
        let mut tracker = all_up(if all { TrackMode::All } else { TrackMode::Any });
        let mut up = [true; 3];
        let mut now = Duration::ZERO;
        let mut ill_until = None;
        for (which, state, later) in steps {
            let ill = |up: [bool; 3]| match all {
                true => up[..2].contains(&false) && !up[2],
                false => up.contains(&false),
            };
            now += S * later;
            tracker.wake(now);
            if ill(up) {
                ill_until = Some(now);
            }
            tracker.report(&objects[which], state, now);
            up[which] = state;
            if ill(up) {
                ill_until = Some(now);
            }
            let well = ill_until.is_none_or(|until| now >= until + HOLD);
            prop_assert!(!ill(up) || !tracker.is_eligible());
            prop_assert!(well || !tracker.is_eligible());
            if ill_until.is_none() {
                prop_assert!(tracker.is_eligible());
            }
            prop_assert!(tracker.changes().count() <= CHANGES_MAX);
        }
        tracker.wake(now + HOLD);
        if !up.contains(&false) {
            prop_assert!(tracker.is_eligible());
        }
    }
}
