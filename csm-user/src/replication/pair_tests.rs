//! A sender and a receiver joined by a stream that is cut anywhere, under random operations.
//!
//! The model is the source's table itself. After every step: what was acknowledged and still stands unchanged at the
//! source is held by the replica (promise P3). After quiet: both tables are equal and both sides say so.

use proptest::prelude::*;

use super::record::DeltaEvent;
use super::sender::{Effect, LAG_MAX, Options};
use super::testing::{connection, handshake};
use super::wire::{Frame, HANDSHAKES_SINCE};
use pair::{Pair, Step, any_step, small};

mod pair;
mod roles;

proptest! {
    #[test]
    fn the_replica_becomes_the_source_and_acknowledged_is_always_held(steps in prop::collection::vec(any_step(), 1..300)) {
        let mut pair = Pair::new(small());
        for step in &steps {
            pair.step(step);
            pair.check_acknowledged_is_held()?;
        }
        pair.step(&Step::Unknown(false));
        pair.settle();
        prop_assert!(pair.tables_are_equal());
        prop_assert!(pair.sender.is_caught_up(pair.now), "{:?}", pair.sender);
        prop_assert!(pair.receiver.status().complete);
        let coverage = pair.sender.status(pair.now).coverage.expect("compared").1;
        prop_assert_eq!(coverage.connections_known, pair.source.content().connections.len() as u64);
        prop_assert_eq!(coverage.connections_held, coverage.connections_known);
    }

    #[test]
    fn a_joiner_loses_what_the_active_does_not_have(numbers in prop::collection::hash_set(0u32..300, 0..80)) {
        let mut pair = Pair::new(small());
        for number in numbers {
            let record = connection(number, 200, 5);
            pair.replica.content().connections.insert(record.key, record);
        }
        for number in 0..30 {
            pair.step(&Step::Open { number, real: 101 });
        }
        pair.settle();
        prop_assert!(pair.tables_are_equal());
    }
}

#[test]
fn a_silent_difference_is_found_and_repaired() {
    let mut pair = Pair::new(Options::default());
    for number in 0..1000 {
        pair.step(&Step::Open { number, real: 101 });
    }
    pair.settle();
    assert!(pair.tables_are_equal());
    let before = pair.sender.status(pair.now).last_repair;
    pair.replica.content().connections.pop_first();
    pair.replica.content().connections.insert(connection(7777, 9, 1).key, connection(7777, 9, 1));
    pair.settle();
    assert!(pair.tables_are_equal());
    let repair = pair.sender.status(pair.now).last_repair.expect("a repair");
    assert_ne!(Some(repair), before);
    assert!(repair.buckets <= 2, "{repair:?}");
}

/// As when `replicate csrp connection` is given to a virtual server that has connections: nothing tells of them one by one.
#[test]
fn what_is_to_be_replicated_from_now_on_is_missing_at_once_and_sent() {
    let mut pair = Pair::new(Options::default());
    pair.settle();
    assert!(pair.sender.is_caught_up(pair.now));
    for number in 0..300 {
        let record = connection(number, 101, 5);
        pair.source.content().connections.insert(record.key, record);
    }
    pair.sender.event(pair.now, DeltaEvent::Rescoped);
    assert!(!pair.sender.is_caught_up(pair.now), "before any time has passed");
    assert_eq!(pair.sender.status(pair.now).broken_buckets, 256);
    pair.settle();
    assert!(pair.tables_are_equal() && pair.sender.is_caught_up(pair.now));
    // The other way round: the peer is to have them no more.
    pair.source.content().connections.clear();
    pair.sender.event(pair.now, DeltaEvent::Rescoped);
    assert!(!pair.sender.is_caught_up(pair.now));
    pair.settle();
    assert!(pair.tables_are_equal() && pair.replica.content().connections.is_empty());
}

#[test]
fn what_does_not_fit_the_queue_is_known_to_be_wrong_at_once_and_repaired() {
    let mut pair = Pair::new(small());
    pair.settle();
    assert!(pair.sender.is_caught_up(pair.now));
    for number in 0..100 {
        pair.step(&Step::Open { number, real: 101 });
    }
    pair.step(&Step::Hear(usize::MAX));
    let status = pair.sender.status(pair.now);
    assert!(!pair.sender.is_caught_up(pair.now), "before any time has passed");
    assert!(status.broken_buckets > 0 && status.lost_events > 0);
    assert!(status.queued <= pair.options.limits.queue);
    pair.settle();
    assert!(pair.tables_are_equal() && pair.sender.is_caught_up(pair.now));
}

/// Whoever sends SYNs causes handshakes: they wait for all else, and the version before is told of none.
#[test]
fn handshakes_come_last_and_to_those_who_know_them() {
    let frames = |version: u16| {
        let mut pair = Pair::new(Options::default());
        pair.settle();
        pair.sender.set_version(version);
        for number in 0..600 {
            pair.sender.event(pair.now, DeltaEvent::Handshake(handshake(number, 101, 5)));
            pair.sender.event(pair.now, DeltaEvent::ConnectionUp(connection(number + 1000, 101, 5)));
        }
        pair.sender.event(pair.now, DeltaEvent::HandshakesLeftOut(3));
        let mut frames = Vec::new();
        while let Some(effect) = pair.sender.poll(pair.now) {
            match effect {
                Effect::Send(Frame::Delta { ops, .. }) => frames.push(("delta", ops.len())),
                Effect::Send(Frame::Handshakes { handshakes }) => {
                    frames.push(("handshakes", handshakes.len()));
                }
                _ => {}
            }
        }
        let status = pair.sender.status(pair.now);
        (frames, status.handshakes_told, status.handshakes_left_out)
    };
    let deltas = [("delta", 512), ("delta", 88)];
    assert_eq!(frames(HANDSHAKES_SINCE - 1), (deltas.to_vec(), 0, 3));
    let told = [&deltas[..], &[("handshakes", 512), ("handshakes", 88)]].concat();
    assert_eq!(frames(HANDSHAKES_SINCE), (told, 600, 3));
}

/// They are entered beside the table, and what is acknowledged and compared knows nothing of them.
#[test]
fn handshakes_are_entered_at_the_peer_and_change_nothing_of_its_replica() {
    let mut pair = Pair::new(Options::default());
    pair.step(&Step::Open { number: 1, real: 101 });
    pair.settle();
    pair.sender.set_version(HANDSHAKES_SINCE);
    let told = handshake(2, 101, 5);
    pair.sender.event(pair.now, DeltaEvent::Handshake(told));
    // Of a connection that was proven before it came.
    pair.sender.event(pair.now, DeltaEvent::Handshake(handshake(1, 102, 4)));
    pair.step(&Step::Wait(1));
    pair.step(&Step::Forward(usize::MAX));
    let entered: Vec<_> = pair.replica.content().handshakes.values().copied().collect();
    assert_eq!(entered, [told]);
    assert_eq!(pair.receiver.status().handshakes, 1);
    assert!(pair.tables_are_equal() && pair.sender.is_caught_up(pair.now));
}

#[test]
fn what_is_refused_is_not_counted_as_held_and_does_not_block_for_ever() {
    let mut pair = Pair::new(Options::default());
    pair.step(&Step::Unknown(true));
    for number in 0..70 {
        pair.step(&Step::Open { number, real: 101 });
    }
    pair.step(&Step::Hear(usize::MAX));
    pair.step(&Step::Forward(usize::MAX));
    pair.step(&Step::Walk(usize::MAX));
    pair.step(&Step::Forward(usize::MAX));
    pair.step(&Step::Back(usize::MAX));
    pair.step(&Step::Forward(usize::MAX));
    pair.step(&Step::Back(usize::MAX));
    assert!(!pair.sender.is_caught_up(pair.now), "ten entries were refused and not yet offered again");
    pair.settle();
    assert!(pair.sender.is_caught_up(pair.now));
    let status = pair.sender.status(pair.now);
    assert_eq!(
        status.coverage.map(|(_, coverage)| (coverage.connections_held, coverage.connections_known)),
        Some((60, 70))
    );
    assert!(status.refused_buckets > 0);
    pair.step(&Step::Unknown(false));
    pair.settle();
    assert!(pair.tables_are_equal());
    assert_eq!(pair.sender.status(pair.now).refused_buckets, 0);
}

#[test]
fn lag_is_told_and_keeps_the_replica_from_counting_as_complete() {
    let mut pair = Pair::new(Options::default());
    pair.settle();
    assert!(pair.sender.is_caught_up(pair.now));
    pair.step(&Step::Open { number: 1, real: 101 });
    pair.step(&Step::Hear(1));
    pair.step(&Step::Wait(u64::try_from(LAG_MAX.as_millis()).expect("small") + 1));
    assert!(!pair.sender.is_caught_up(pair.now));
    pair.step(&Step::Forward(usize::MAX));
    pair.step(&Step::Back(usize::MAX));
    assert!(pair.sender.is_caught_up(pair.now));
    assert!(pair.sender.status(pair.now).worst_ack > LAG_MAX);
}

#[test]
fn the_negative_control_loses_changes_for_good() {
    let drop_every = std::num::NonZeroU32::new(10);
    let mut pair = Pair::new(Options { drop_every, ..Options::default() });
    pair.settle();
    for number in 0..100 {
        pair.step(&Step::Open { number, real: 101 });
    }
    pair.settle();
    assert_eq!(pair.replica.content().connections.len(), 90);
    let coverage = pair.sender.status(pair.now).coverage.expect("compared").1;
    assert_eq!((coverage.connections_held, coverage.connections_known), (90, 100), "and the digest shows it");
}
