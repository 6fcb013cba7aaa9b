//! A sender and a receiver joined by a stream in memory, and what can happen to them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Mutex;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use crate::model::StableId;
use crate::replication::apply::{Answer, Here, Receiver};
use crate::replication::delta::{BucketSet, Op, Record};
use crate::replication::digest;
use crate::replication::ended::Ended;
use crate::replication::record::{ConnGone, ConnKey, ConnRecord, DeltaEvent};
use crate::replication::role::{Role, Tenure};
use crate::replication::sender::{Effect, Options, Sender};
use crate::replication::testing::{MemoryTable, connection, sticky};
use crate::replication::window::Limits;
use crate::replication::wire::{Frame, decode, encode};

/// Something happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
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

pub(super) fn any_step() -> impl Strategy<Value = Step> {
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

pub(super) struct Pair {
    pub(super) now: Duration,
    pub(super) options: Options,
    pub(super) source: MemoryTable,
    pub(super) replica: MemoryTable,
    events: VecDeque<DeltaEvent>,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    tenure: Tenure,
    ended: Mutex<Ended>,
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
    pub(super) fn new(options: Options) -> Self {
        let mut pair = Self {
            now: Duration::from_secs(1000),
            options,
            source: MemoryTable::default(),
            replica: MemoryTable::default(),
            events: VecDeque::new(),
            sender: Sender::new(Duration::ZERO, options),
            receiver: Receiver::new(&Tenure::default()),
            tenure: Tenure::default(),
            ended: Mutex::default(),
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
        self.receiver = Receiver::new(&self.tenure);
        self.to_receiver.clear();
        self.to_sender.clear();
        self.walk = None;
        self.rounds_ours.clear();
        self.rounds_theirs.clear();
        self.sent.clear();
        self.sender.set_role(self.now, Role::Active, &Ended::default());
    }

    pub(super) fn step(&mut self, step: &Step) {
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
        if let (Some(left), Some(right)) = (Op::of(&left), Op::of(&right))
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
                Effect::Flush | Effect::HandedOver { .. } | Effect::Note(_) => {}
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
            let here = Here { table: &self.replica, tenure: &self.tenure, ended: &self.ended };
            match self.receiver.apply(frame, &here).expect("the sender keeps the protocol") {
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
    pub(super) fn check_acknowledged_is_held(&self) -> Result<(), TestCaseError> {
        let (source, replica) = (self.source.content(), self.replica.content());
        for (key, record) in &self.acknowledged {
            if source.connections.get(key) == Some(record) {
                prop_assert_eq!(replica.connections.get(key), Some(record), "acknowledged and not held");
            }
        }
        Ok(())
    }

    /// The source falls silent and everything else gets its time: until all is well, half a minute at most.
    pub(super) fn settle(&mut self) {
        for _ in 0..600 {
            if self.is_settled() {
                return;
            }
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

    /// The tables are equal and both machines have noticed, by a comparison that came after the last change.
    fn is_settled(&self) -> bool {
        let status = self.sender.status(self.now);
        let compared = status.coverage.is_some_and(|(age, coverage)| {
            age < Duration::from_millis(100)
                && coverage.buckets_differing == 0
                && coverage.connections_known == self.source.content().connections.len() as u64
        });
        compared
            && self.events.is_empty()
            && self.sender.is_caught_up(self.now)
            && self.receiver.status().complete
            && self.tables_are_equal()
    }

    pub(super) fn tables_are_equal(&self) -> bool {
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

pub(super) fn small() -> Options {
    Options { limits: Limits { queue: 12, in_flight: 4, batch: 5 }, ..Options::default() }
}
