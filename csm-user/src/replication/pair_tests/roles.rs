//! Two whole nodes, a stream each way, and roles that change: what stood on either survives on both.
//!
//! The model is what the clients know: a connection that was made and not ended must be in both tables once all is
//! quiet. Streams break only as the shell breaks them, when roles change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;

use super::pair::small;
use crate::replication::apply::{Answer, Here, Receiver};
use crate::replication::delta::Record;
use crate::replication::digest;
use crate::replication::ended::Ended;
use crate::replication::record::{ConnGone, ConnKey, ConnRecord, DeltaEvent};
use crate::replication::role::{Role, Tenure};
use crate::replication::sender::{Effect, Options, Sender};
use crate::replication::testing::{MemoryTable, connection, sticky};
use crate::replication::wire::Frame;

/// Something happens.
#[derive(Clone, Debug)]
enum Step {
    /// A connection is made, on each node that forwards if they are two.
    Open { number: u32, at: usize },
    /// It ends.
    Close { number: u32, at: usize },
    /// A sticky entry is made.
    Stick { number: u8, at: usize },
    /// A node's ring buffer is read.
    Hear { at: usize, events: usize },
    /// So many of a node's events are lost.
    Lose { at: usize, events: usize },
    /// A node's frames to its peer, and the answers to these, arrive.
    Carry { at: usize, frames: usize },
    /// A node reads its table.
    Walk { at: usize, entries: usize },
    /// Milliseconds pass.
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let at = || 0usize..2;
    prop_oneof![
        8 => (0u32..60, at()).prop_map(|(number, at)| Step::Open { number, at }),
        4 => (0u32..60, at()).prop_map(|(number, at)| Step::Close { number, at }),
        1 => (0u8..8, at()).prop_map(|(number, at)| Step::Stick { number, at }),
        8 => (at(), 1usize..6).prop_map(|(at, events)| Step::Hear { at, events }),
        1 => (at(), 1usize..3).prop_map(|(at, events)| Step::Lose { at, events }),
        10 => (at(), 1usize..6).prop_map(|(at, frames)| Step::Carry { at, frames }),
        6 => (at(), 1usize..20).prop_map(|(at, entries)| Step::Walk { at, entries }),
        5 => (1u64..60).prop_map(Step::Wait),
    ]
}

/// A stream from a node to its peer, both ends.
struct Stream {
    sender: Sender,
    receiver: Receiver,
    frames: VecDeque<Frame>,
    answers: VecDeque<Frame>,
    walk: Option<(u64, VecDeque<Record>)>,
}

struct Node {
    role: Role,
    handing_over: bool,
    since_ns: u64,
    table: MemoryTable,
    tenure: Tenure,
    ended: Mutex<Ended>,
    events: VecDeque<DeltaEvent>,
    /// To the peer; `None` until it accepts one.
    out: Option<Stream>,
}

struct World {
    now: Duration,
    options: Options,
    nodes: [Node; 2],
    /// The nodes do not hear each other.
    cut: bool,
    version: u32,
    /// What clients believe to have, by the node that serves it.
    open: BTreeMap<ConnKey, ConnRecord>,
    /// Made by both nodes under one key, or ended on another node than made: either word may win.
    disputed: BTreeSet<ConnKey>,
    /// Made at all, and made more than once. Of these an earlier one may come back when the last has ended, for
    /// generations of two nodes have no order; it stays until it has been idle for long.
    made: BTreeSet<ConnKey>,
    reused: BTreeSet<ConnKey>,
    /// Events were lost. A merge tells what stands, not what is gone: an end that was lost right before a move leaves an
    /// entry until it has been idle for long.
    lost: bool,
}

impl Node {
    fn new() -> Self {
        Self {
            role: Role::Standby,
            handing_over: false,
            since_ns: 0,
            table: MemoryTable::default(),
            tenure: Tenure::default(),
            ended: Mutex::default(),
            events: VecDeque::new(),
            out: None,
        }
    }

    fn forwards(&self) -> bool {
        self.role == Role::Active
    }

    fn happened(&mut self, event: DeltaEvent) {
        if self.tenure.holds() {
            self.ended.lock().expect("nobody panics").event(&event);
        }
        self.events.push_back(event);
    }
}

impl World {
    fn new(options: Options) -> Self {
        let mut world = Self {
            now: Duration::from_secs(1000),
            options,
            nodes: [Node::new(), Node::new()],
            cut: false,
            version: 100,
            open: BTreeMap::new(),
            disputed: BTreeSet::new(),
            made: BTreeSet::new(),
            reused: BTreeSet::new(),
            lost: false,
        };
        world.turn(0, Role::Active);
        world
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.now.as_nanos()).expect("small")
    }

    /// A fresh stream from `at` to its peer, if that accepts one.
    fn connect(&mut self, at: usize) {
        let peer = &self.nodes[1 - at];
        if self.cut || peer.handing_over || self.nodes[at].out.is_some() {
            return;
        }
        let receiver = Receiver::new(&peer.tenure);
        let node = &mut self.nodes[at];
        let over = node.role.hands_over() && !node.handing_over;
        let mut sender = Sender::new(self.now, self.options);
        let ended = node.ended.lock().expect("nobody panics");
        sender.set_role(self.now, if over { Role::Standby } else { node.role }, &ended);
        drop(ended);
        node.out =
            Some(Stream { sender, receiver, frames: VecDeque::new(), answers: VecDeque::new(), walk: None });
    }

    /// The election tells `at` its role, as the real-time thread and the event loop do.
    fn turn(&mut self, at: usize, role: Role) {
        self.now += Duration::from_nanos(1);
        let (now, now_ns) = (self.now, self.now_ns());
        let node = &mut self.nodes[at];
        node.role = node.role.next(role);
        node.handing_over = node.role.hands_over();
        node.since_ns = now_ns;
        if let Some(out) = &mut node.out {
            out.walk = None;
            out.sender.set_role(now, node.role, &node.ended.lock().expect("nobody panics"));
        }
        if role == Role::Active {
            node.tenure.adopt(now_ns);
        } else {
            // Its own stream from the peer ends.
            self.nodes[1 - at].out = None;
        }
    }

    fn step(&mut self, step: &Step) {
        self.connect(0);
        self.connect(1);
        match *step {
            Step::Open { number, at } => self.open(number, at),
            Step::Close { number, at } => self.close(number, at),
            Step::Stick { number, at } if self.nodes[at].forwards() => {
                let record = sticky(number, 101);
                self.nodes[at].table.content().sticky.insert(record.key, record);
                self.nodes[at].happened(DeltaEvent::Sticky(record));
            }
            Step::Stick { .. } => {}
            Step::Hear { at, events } => {
                let node = &mut self.nodes[at];
                // Without a stream there is nobody to tell.
                for event in node.events.drain(..events.min(node.events.len())) {
                    if let Some(out) = &mut node.out {
                        out.sender.event(self.now, event);
                    }
                }
            }
            Step::Lose { at, events } => {
                let node = &mut self.nodes[at];
                let lost = node.events.drain(..events.min(node.events.len())).count();
                self.lost |= lost > 0;
                node.events.push_front(DeltaEvent::Lost(lost as u64));
            }
            Step::Carry { at, frames } => self.carry(at, frames),
            Step::Walk { at, entries } => self.walk(at, entries),
            Step::Wait(ms) => self.now += Duration::from_millis(ms),
        }
        self.poll(0);
        self.poll(1);
    }

    fn open(&mut self, number: u32, at: usize) {
        if !self.nodes[at].forwards() {
            return;
        }
        self.version += 1;
        let record = connection(number, 101, self.version);
        // A client's port used anew while the other node holds an earlier connection of its own under it, or has not
        // told of it yet: which of the two stands in the end is not promised.
        let known = self.nodes[at].table.content().connections.get(&record.key).copied();
        let others = self.nodes[1 - at].table.content().own.contains(&record.key);
        if others || self.open.get(&record.key).copied() != known {
            self.disputed.insert(record.key);
        }
        if !self.made.insert(record.key) {
            self.reused.insert(record.key);
        }
        self.open.insert(record.key, record);
        let node = &mut self.nodes[at];
        let mut content = node.table.content();
        content.connections.insert(record.key, record);
        content.own.insert(record.key);
        drop(content);
        node.happened(DeltaEvent::ConnectionUp(record));
    }

    fn close(&mut self, number: u32, at: usize) {
        let key = connection(number, 0, 0).key;
        if !self.nodes[at].forwards() {
            return;
        }
        let Some(gone) = self.nodes[at].table.content().connections.remove(&key) else { return };
        // The other node, which made it in a tenure of its own, may keep it until it has been idle for long.
        let others = self.nodes[1 - at].table.content().own.contains(&key);
        if others || self.open.get(&key).is_some_and(|open| *open != gone) {
            self.disputed.insert(key);
        } else {
            self.open.remove(&key);
        }
        self.nodes[at].happened(DeltaEvent::ConnectionClosed(ConnGone { key, generation: gone.generation }));
    }

    fn poll(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(out) = &mut node.out else { return };
        while let Some(effect) = out.sender.poll(self.now) {
            match effect {
                Effect::Send(frame) => out.frames.push_back(frame),
                Effect::Walk { epoch, buckets } => {
                    // As of the moment of each step; entries that come later are told as changes.
                    let mut records = VecDeque::new();
                    let content = node.table.content();
                    let connections = content.connections.values().copied().map(Record::Connection);
                    let sticky = content.sticky.values().copied().map(Record::Sticky);
                    records
                        .extend(connections.chain(sticky).filter(|one| buckets.contains(one.key().bucket())));
                    drop(content);
                    out.walk = Some((epoch, records));
                }
                Effect::Digest { round } => {
                    let digests = digest::scan(&node.table).ok();
                    out.sender.digested(self.now, round, Duration::from_millis(1), digests);
                }
                Effect::Flush => node.events.push_back(DeltaEvent::Flushed),
                Effect::HandedOver { .. } => {
                    node.handing_over = false;
                    node.tenure.release(node.since_ns);
                    if !node.tenure.holds() {
                        node.ended.lock().expect("nobody panics").forget();
                    }
                }
                Effect::Note(_) => {}
            }
        }
    }

    fn walk(&mut self, at: usize, entries: usize) {
        let Some(Stream { sender, walk, .. }) = &mut self.nodes[at].out else { return };
        if !sender.wants_chunk() {
            return;
        }
        let Some((epoch, records)) = walk else { return };
        let count = entries.min(self.options.limits.batch).min(records.len());
        let chunk: Vec<Record> = records.drain(..count).collect();
        let (epoch, last) = (*epoch, records.is_empty());
        sender.chunk(self.now, epoch, chunk);
        if last {
            *walk = None;
            sender.walked(self.now, epoch, true);
        }
    }

    fn carry(&mut self, at: usize, count: usize) {
        if self.cut {
            return;
        }
        let [zero, one] = &mut self.nodes;
        let (from, to) = if at == 0 { (zero, one) } else { (one, zero) };
        let Some(Stream { sender, receiver, frames, answers, .. }) = &mut from.out else { return };
        let here = Here { table: &to.table, tenure: &to.tenure, ended: &to.ended };
        for _ in 0..count {
            if let Some(frame) = frames.pop_front() {
                match receiver.apply(frame, &here).expect("the sender keeps the protocol") {
                    Answer::Nothing => {}
                    Answer::Send(frame) => answers.push_back(frame),
                    Answer::Digest { round } => {
                        let buckets = digest::scan(&to.table).expect("no walk fails");
                        answers.push_back(Frame::Digest { round, buckets });
                    }
                }
            }
            if let Some(frame) = answers.pop_front() {
                sender.frame(self.now, frame).expect("the receiver keeps the protocol");
            }
        }
    }

    fn active(&self) -> usize {
        usize::from(!self.nodes[0].forwards())
    }

    /// `clear ft active`: in the order in which the nodes may learn of it.
    fn planned_move(&mut self, successor_first: bool, between: &[Step]) {
        let old = self.active();
        // The gates have changed by now, whoever hears of it first.
        self.nodes[1 - old].tenure.adopt(self.now_ns() + 1);
        let turns = [(1 - old, Role::Active), (old, Role::Yielding)];
        let [first, second] = if successor_first { turns } else { [turns[1], turns[0]] };
        self.turn(first.0, first.1);
        for step in between {
            // Nothing forwards twice: the predecessor's gate is shut before the successor's opens.
            if !matches!(step, Step::Open { at, .. } | Step::Close { at, .. } | Step::Stick { at, .. } if *at == old)
            {
                self.step(step);
            }
        }
        self.turn(second.0, second.1);
    }

    /// Both forward; each node's clients go on there.
    fn split(&mut self) {
        self.cut = true;
        self.nodes.iter_mut().for_each(|node| node.out = None);
        let other = 1 - self.active();
        self.turn(other, Role::Active);
    }

    fn heal(&mut self, loser: usize) {
        self.cut = false;
        self.turn(loser, Role::Lost);
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            if self.is_settled() {
                return;
            }
            for at in [0, 1] {
                for step in [
                    Step::Hear { at, events: usize::MAX },
                    Step::Walk { at, entries: usize::MAX },
                    Step::Carry { at, frames: 50 },
                    Step::Wait(10),
                ] {
                    self.step(&step);
                }
            }
        }
    }

    fn is_settled(&self) -> bool {
        let Some(Stream { sender, .. }) = &self.nodes[self.active()].out else { return false };
        let compared = sender.status(self.now).coverage.is_some_and(|(age, coverage)| {
            age < Duration::from_millis(100) && coverage.buckets_differing == 0
        });
        compared && sender.is_caught_up(self.now) && self.tables_are_equal()
    }

    fn tables_are_equal(&self) -> bool {
        let [zero, one] = self.nodes.each_ref().map(|node| node.table.content());
        zero.connections == one.connections && zero.sticky == one.sticky
    }

    /// Clients' connections are in both tables, and the node that is not active says nothing of its peer's table.
    fn check(&self) -> Result<(), TestCaseError> {
        if let Some(out) = &self.nodes[1 - self.active()].out {
            let status = out.sender.status(self.now);
            prop_assert_eq!((status.refused_buckets, status.broken_buckets, status.queued), (0, 0, 0));
        }
        prop_assert!(self.tables_are_equal(), "not equal after all that time");
        let content = self.nodes[0].table.content();
        for (key, record) in self.open.iter().filter(|(key, _)| !self.disputed.contains(key)) {
            prop_assert_eq!(content.connections.get(key), Some(record), "lost");
        }
        let disputed = |key: &ConnKey| self.lost || self.disputed.contains(key) || self.reused.contains(key);
        for key in content.connections.keys().filter(|key| !disputed(key)) {
            prop_assert!(self.open.contains_key(key), "ended, and came back: {:?}", key);
        }
        Ok(())
    }
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any_step(), 0..most)
}

proptest! {
    #[test]
    fn planned_moves_at_any_moment_lose_nothing(
        parts in prop::collection::vec((steps(80), any::<bool>(), steps(10)), 1..4),
        after in steps(40),
    ) {
        let mut world = World::new(small());
        for (before, successor_first, between) in &parts {
            before.iter().for_each(|step| world.step(step));
            // P4: a planned move waits for the handover of the one before.
            if world.nodes.iter().any(|node| node.handing_over) {
                world.settle();
            }
            world.planned_move(*successor_first, between);
        }
        after.iter().for_each(|step| world.step(step));
        world.settle();
        world.check()?;
    }

    #[test]
    fn after_a_rivalry_both_nodes_have_what_either_had(
        before in steps(80),
        apart in steps(80),
        loser in 0usize..2,
        after in steps(60),
    ) {
        let mut world = World::new(small());
        before.iter().for_each(|step| world.step(step));
        world.split();
        apart.iter().for_each(|step| world.step(step));
        world.heal(loser);
        after.iter().for_each(|step| world.step(step));
        world.settle();
        world.check()?;
    }
}
