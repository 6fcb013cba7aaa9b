use std::time::Duration;

use super::{Limits, Sent, Violation, Window};
use crate::replication::delta::{BucketSet, Op, Record};
use crate::replication::record::{ConnGone, Refusal};
use crate::replication::testing::connection;

const LIMITS: Limits = Limits { queue: 4, in_flight: 2, batch: 3 };

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn up(number: u32, generation: u32) -> Op {
    Op::Put(Record::Connection(connection(number, 101, generation)))
}

fn closed(number: u32, generation: u32) -> Op {
    Op::Closed(ConnGone { key: connection(number, 101, generation).key, generation })
}

#[test]
fn a_later_change_takes_the_earlier_ones_place_and_age() {
    let mut window = Window::new(LIMITS);
    assert!(window.push(ms(1), up(1, 1)));
    assert!(window.push(ms(2), up(2, 1)));
    assert!(window.push(ms(3), closed(1, 1)));
    assert_eq!(window.oldest_age(ms(10)), ms(9));
    assert_eq!(window.take(), Some((vec![closed(1, 1), up(2, 1)], ms(1))));
    assert_eq!(window.take(), None);
}

#[test]
fn a_full_queue_refuses_new_keys_and_takes_known_ones() {
    let mut window = Window::new(LIMITS);
    for number in 0..4 {
        assert!(window.push(ms(0), up(number, 1)));
    }
    assert!(!window.push(ms(0), up(9, 1)));
    assert!(window.push(ms(0), closed(3, 1)));
    assert_eq!(window.queued(), 4);
    assert_eq!(window.take().map(|(ops, _)| ops.len()), Some(3), "a batch is bounded");
}

#[test]
fn held_buckets_wait_and_what_waited_in_them_is_forgotten() {
    let mut window = Window::new(LIMITS);
    let mut buckets = BucketSet::EMPTY;
    buckets.insert(up(1, 1).key().bucket());
    assert_ne!(up(1, 1).key().bucket(), up(2, 1).key().bucket(), "the test needs two buckets");
    assert!(window.push(ms(0), up(1, 1)) && window.push(ms(0), up(2, 1)));
    window.hold(&buckets);
    assert!(window.push(ms(5), closed(1, 1)));
    assert_eq!(window.take(), Some((vec![up(2, 1)], ms(0))));
    assert_eq!(window.take(), None);
    assert_eq!(window.oldest_age(ms(8)), ms(3), "held changes age");
    window.release();
    assert_eq!(window.take(), Some((vec![closed(1, 1)], ms(5))));
}

#[test]
fn acknowledgements_come_in_order_one_for_each_frame() {
    let mut window = Window::new(LIMITS);
    let first = window.send(ms(1), Sent::Delta, vec![7, 8]);
    let second = window.send(ms(2), Sent::Chunk, vec![9]);
    assert!(!window.has_room());
    assert_eq!(
        window.ack(ms(3), second, &[]),
        Err(Violation::OutOfOrder { got: second, expected: Some(first) })
    );
    let acked = window.ack(ms(3), first, &[(1, Refusal::UnknownReal)]).expect("in order");
    assert_eq!((acked.held, acked.age), (1, ms(2)));
    assert_eq!(acked.refused, [(8, Refusal::UnknownReal)]);
    assert_eq!(
        window.ack(ms(3), second, &[(1, Refusal::TableFull)]),
        Err(Violation::Position { position: 1, items: 1 })
    );
    assert_eq!(window.ack(ms(3), second, &[]), Err(Violation::OutOfOrder { got: second, expected: None }));
    assert_eq!(window.oldest_age(ms(9)), ms(0));
}
