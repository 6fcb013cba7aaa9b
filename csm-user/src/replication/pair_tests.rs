//! A sender and a receiver joined by a stream that is cut anywhere, under random operations.
//!
//! The model is the source's table itself. After every step: what was acknowledged and still stands unchanged at the
//! source is held by the replica (promise P3). After quiet: both tables are equal and both sides say so.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::apply::{Answer, Receiver};
use super::delta::{BucketSet, Op, Record};
use super::digest;
use super::record::{ConnGone, ConnKey, ConnRecord, DeltaEvent};
use super::sender::{Effect, LAG_MAX, Options, Sender};
use super::testing::{MemoryTable, connection, sticky};
use super::window::Limits;
use super::wire::{Frame, decode, encode};
use crate::model::StableId;

/// Something happens.
#[derive(Clone, Debug)]
enum Step {
    /// A connection is made, or made anew under the same key.
    Open { number: u32, real: u8 },
    /// It ends.
    Close { number: u32 },
    /// A sticky entry is made or moved.
    Stick { number: u8, real: u8 },
    /// It expires.
    Unstick { number: u8 },
    /// The ring buffer thread hands over so many events.
    Hear(usize),
    /// So many events are lost on the way.
    Lose(usize),
    /// Two events of different entries come in the other order.
    Swap(usize),
    /// So many octets reach the receiver.
    Forward(usize),
    /// So many octets reach the sender.
    Back(usize),
    /// The walk reads so many entries.
    Walk(usize),
    /// The next walk fails.
    FailWalk,
    /// The sender's digest is taken.
    DigestSource,
    /// The receiver's digest is taken.
    DigestReplica,
    /// Milliseconds pass.
    Wait(u64),
    /// The stream breaks, and a new one stands at once.
    Cut,
    /// The replica does not know one of the virtual servers, or does again.
    Unknown(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0u32..40, 101u8..104).prop_map(|(number, real)| Step::Open { number, real }),
        6 => (0u32..40).prop_map(|number| Step::Close { number }),
        3 => (0u8..8, 101u8..104).prop_map(|(number, real)| Step::Stick { number, real }),
        1 => (0u8..8).prop_map(|number| Step::Unstick { number }),
        10 => (1usize..6).prop_map(Step::Hear),
        1 => (1usize..4).prop_map(Step::Lose),
        2 => (0usize..6).prop_map(Step::Swap),
        14 => (1usize..500).prop_map(Step::Forward),
        14 => (1usize..5000).prop_map(Step::Back),
        10 => (1usize..20).prop_map(Step::Walk),
        1 => Just(Step::FailWalk),
        3 => Just(Step::DigestSource),
        3 => Just(Step::DigestReplica),
        6 => (1u64..700).prop_map(Step::Wait),
        1 => Just(Step::Cut),
        1 => any::<bool>().prop_map(Step::Unknown),
    ]
}

struct Walk {
    epoch: u64,
    buckets: BucketSet,
    after: Bound<ConnKey>,
    failing: bool,
}

struct Pair {
    now: Duration,
    options: Options,
    source: MemoryTable,
    replica: MemoryTable,
    events: VecDeque<DeltaEvent>,
    sender: Sender,
    receiver: Receiver,
    standby: AtomicBool,
    to_receiver: BytesMut,
    to_sender: BytesMut,
    walk: Option<Walk>,
    fail_next_walk: bool,
    rounds_ours: VecDeque<u64>,
    rounds_theirs: VecDeque<u64>,
    sent: HashMap<u64, Vec<Op>>,
    acknowledged: BTreeMap<ConnKey, ConnRecord>,
    version: u32,
}

impl Pair {
    fn new(options: Options) -> Self {
        let mut pair = Self {
            now: Duration::from_secs(1000),
            options,
            source: MemoryTable::default(),
            replica: MemoryTable::default(),
            events: VecDeque::new(),
            sender: Sender::new(Duration::ZERO, options),
            receiver: Receiver::default(),
            standby: AtomicBool::new(false),
            to_receiver: BytesMut::new(),
            to_sender: BytesMut::new(),
            walk: None,
            fail_next_walk: false,
            rounds_ours: VecDeque::new(),
            rounds_theirs: VecDeque::new(),
            sent: HashMap::new(),
            acknowledged: BTreeMap::new(),
            version: u32::MAX - 20,
        };
        pair.cut();
        pair
    }

    fn cut(&mut self) {
        self.sender = Sender::new(self.now, self.options);
        self.receiver = Receiver::default();
        self.to_receiver.clear();
        self.to_sender.clear();
        self.walk = None;
        self.rounds_ours.clear();
        self.rounds_theirs.clear();
        self.sent.clear();
        self.sender.set_active(self.now, true);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Open { number, real } => {
                self.version = self.version.wrapping_add(1);
                let record = connection(number, real, self.version);
                self.source.content().connections.insert(record.key, record);
                self.events.push_back(DeltaEvent::ConnectionUp(record));
            }
            Step::Close { number } => {
                let key = connection(number, 0, 0).key;
                let gone = self.source.content().connections.remove(&key);
                self.events.extend(
                    gone.map(|gone| {
                        DeltaEvent::ConnectionClosed(ConnGone { key, generation: gone.generation })
                    }),
                );
            }
            Step::Stick { number, real } => {
                let record = sticky(number, real);
                self.source.content().sticky.insert(record.key, record);
                self.events.push_back(DeltaEvent::Sticky(record));
            }
            Step::Unstick { number } => {
                let key = sticky(number, 0).key;
                self.source.content().sticky.remove(&key);
                self.events.push_back(DeltaEvent::StickyGone(key));
            }
            Step::Hear(count) => {
                for event in self.events.drain(..count.min(self.events.len())) {
                    self.sender.event(self.now, event);
                }
            }
            Step::Lose(count) => {
                let lost = self.events.drain(..count.min(self.events.len())).count();
                if lost > 0 {
                    self.events.push_front(DeltaEvent::Lost(lost as u64));
                }
            }
            Step::Swap(at) => self.swap(at),
            Step::Forward(octets) => self.forward(octets),
            Step::Back(octets) => self.back(octets),
            Step::Walk(entries) => self.walk(entries),
            Step::FailWalk => self.fail_next_walk = true,
            Step::DigestSource => {
                if let Some(round) = self.rounds_ours.pop_front() {
                    let digests = digest::scan(&self.source).ok();
                    self.sender.digested(self.now, round, Duration::from_millis(1), digests);
                }
            }
            Step::DigestReplica => {
                if let Some(round) = self.rounds_theirs.pop_front() {
                    let buckets = digest::scan(&self.replica).expect("no walk is made to fail here");
                    encode(&Frame::Digest { round, buckets }, &mut self.to_sender);
                }
            }
            Step::Wait(ms) => self.now += Duration::from_millis(ms),
            Step::Cut => self.cut(),
            Step::Unknown(unknown) => {
                let mut content = self.replica.content();
                if unknown {
                    content.unknown.insert(StableId(3));
                } else {
                    content.unknown.clear();
                }
            }
        }
        self.poll();
    }

    fn swap(&mut self, at: usize) {
        let (Some(&left), Some(&right)) = (self.events.get(at), self.events.get(at + 1)) else { return };
        if let (Ok(left), Ok(right)) = (Op::of(left), Op::of(right))
            && left.key() != right.key()
        {
            self.events.swap(at, at + 1);
        }
    }

    fn poll(&mut self) {
        while let Some(effect) = self.sender.poll(self.now) {
            match effect {
                Effect::Send(frame) => {
                    self.remember(&frame);
                    encode(&frame, &mut self.to_receiver);
                }
                Effect::Walk { epoch, buckets } => {
                    let failing = std::mem::take(&mut self.fail_next_walk);
                    self.walk = Some(Walk { epoch, buckets, after: Bound::Unbounded, failing });
                }
                Effect::Digest { round } => self.rounds_ours.push_back(round),
                Effect::Note(_) => {}
            }
        }
    }

    fn remember(&mut self, frame: &Frame) {
        match frame {
            Frame::Delta { seq, ops } => {
                self.sent.insert(*seq, ops.clone());
            }
            Frame::Chunk { seq, records, .. } => {
                self.sent.insert(*seq, records.iter().copied().map(Op::Put).collect());
            }
            _ => {}
        }
    }

    fn walk(&mut self, entries: usize) {
        if !self.sender.wants_chunk() {
            return;
        }
        let Some(walk) = &mut self.walk else { return };
        let entries = entries.min(self.options.limits.batch);
        let content = self.source.content();
        let next: Vec<ConnRecord> = content
            .connections
            .range((walk.after, Bound::Unbounded))
            .map(|(_, record)| *record)
            .take(entries)
            .collect();
        let epoch = walk.epoch;
        if let Some(last) = next.last() {
            walk.after = Bound::Excluded(last.key);
            let records: Vec<Record> = next
                .into_iter()
                .map(Record::Connection)
                .filter(|record| walk.buckets.contains(record.key().bucket()))
                .collect();
            drop(content);
            self.sender.chunk(self.now, epoch, records);
            return;
        }
        let all = content.sticky.values().map(|record| Record::Sticky(*record));
        let records: Vec<Record> =
            all.filter(|record| walk.buckets.contains(record.key().bucket())).collect();
        let complete = !walk.failing;
        drop(content);
        self.walk = None;
        self.sender.chunk(self.now, epoch, records);
        self.sender.walked(self.now, epoch, complete);
    }

    fn forward(&mut self, octets: usize) {
        let mut input = self.to_receiver.split_to(octets.min(self.to_receiver.len()));
        while let Some(frame) = decode(&mut input).expect("the stream is sound") {
            match self
                .receiver
                .apply(frame, &self.replica, &self.standby)
                .expect("the sender keeps the protocol")
            {
                Answer::Nothing => {}
                Answer::Send(frame) => encode(&frame, &mut self.to_sender),
                Answer::Digest { round } => self.rounds_theirs.push_back(round),
            }
        }
        unsplit(&mut self.to_receiver, &input);
    }

    fn back(&mut self, octets: usize) {
        let mut input = self.to_sender.split_to(octets.min(self.to_sender.len()));
        while let Some(frame) = decode(&mut input).expect("the stream is sound") {
            if let Frame::Ack { seq, refused } = &frame {
                for (position, op) in self.sent.remove(seq).unwrap_or_default().into_iter().enumerate() {
                    match op {
                        Op::Put(Record::Connection(record))
                            if !refused.iter().any(|(at, _)| usize::from(*at) == position) =>
                        {
                            self.acknowledged.insert(record.key, record);
                        }
                        Op::Closed(gone) => {
                            self.acknowledged.remove(&gone.key);
                        }
                        Op::Put(_) | Op::StickyGone(_) => {}
                    }
                }
            }
            self.sender.frame(self.now, frame).expect("the receiver keeps the protocol");
        }
        unsplit(&mut self.to_sender, &input);
    }

    /// P3: acknowledged and still so at the source → held.
    fn check_acknowledged_is_held(&self) -> Result<(), TestCaseError> {
        let (source, replica) = (self.source.content(), self.replica.content());
        for (key, record) in &self.acknowledged {
            if source.connections.get(key) == Some(record) {
                prop_assert_eq!(replica.connections.get(key), Some(record), "acknowledged and not held");
            }
        }
        Ok(())
    }

    /// The source falls silent and everything else gets its time.
    fn settle(&mut self) {
        for _ in 0..600 {
            for step in [
                Step::Hear(usize::MAX),
                Step::Forward(usize::MAX),
                Step::Walk(usize::MAX),
                Step::DigestSource,
                Step::DigestReplica,
                Step::Back(usize::MAX),
                Step::Wait(50),
            ] {
                self.step(&step);
            }
        }
    }

    fn tables_are_equal(&self) -> bool {
        let (source, replica) = (self.source.content(), self.replica.content());
        source.connections == replica.connections && source.sticky == replica.sticky
    }
}

/// Puts what was not a whole frame back in front.
fn unsplit(stream: &mut BytesMut, rest: &BytesMut) {
    let behind = stream.split();
    stream.put_slice(rest);
    stream.put_slice(&behind);
}

fn small() -> Options {
    Options { limits: Limits { queue: 12, in_flight: 4, batch: 5 }, ..Options::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

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
fn an_active_receiver_keeps_its_own_and_deletes_nothing() {
    let table = MemoryTable::default();
    let active = AtomicBool::new(true);
    let mut receiver = Receiver::default();
    let own = connection(1, 101, 1);
    table.content().connections.insert(own.key, own);
    let theirs = Op::Put(Record::Connection(connection(1, 102, 2)));
    let new = connection(2, 102, 2);
    let ops = vec![theirs, Op::Put(Record::Connection(new))];
    let answer = receiver.apply(Frame::Delta { seq: 1, ops }, &table, &active).expect("fine");
    let Answer::Send(Frame::Ack { refused, .. }) = answer else { panic!("no ack: {answer:?}") };
    assert_eq!(refused.len(), 1);
    let closed = vec![Op::Closed(ConnGone { key: own.key, generation: 1 })];
    receiver.apply(Frame::Delta { seq: 2, ops: closed }, &table, &active).expect("fine");
    receiver
        .apply(Frame::Begin { seq: 3, epoch: 1, buckets: BucketSet::ALL }, &table, &active)
        .expect("fine");
    receiver.apply(Frame::End { seq: 4, epoch: 1, count: 0 }, &table, &active).expect("fine");
    let content = table.content();
    assert_eq!(content.connections.get(&own.key), Some(&own));
    assert_eq!(content.connections.get(&new.key), Some(&new));
}

#[test]
fn the_predecessors_last_words_are_still_told_and_then_it_is_silent() {
    let mut pair = Pair::new(Options::default());
    pair.settle();
    pair.sender.set_active(pair.now, false);
    pair.step(&Step::Open { number: 1, real: 101 });
    pair.step(&Step::Hear(1));
    pair.step(&Step::Forward(usize::MAX));
    assert_eq!(pair.replica.content().connections.len(), 1);
    assert!(!pair.sender.is_caught_up(pair.now));
    pair.step(&Step::Wait(2000));
    pair.step(&Step::Open { number: 2, real: 101 });
    pair.step(&Step::Hear(1));
    pair.step(&Step::Forward(usize::MAX));
    assert_eq!(pair.replica.content().connections.len(), 1);
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
