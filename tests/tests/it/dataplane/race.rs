//! Two CPUs on the same connections at once. Whatever came first, both entries stand or none, they are of one connection,
//! what both had is counted once, and no frame is lost from the counts.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::RawFd;

use aya::maps::{Array, HashMap, MapData};
use csm_common::counter::{Count, Reason, Verdict};
use csm_common::event::{EVENT_CLOSED, EVENT_CONNECTION, EVENT_V6, Record};
use csm_common::flow::{
    FLAG_FORWARD, FlowEntry, FlowKey, STATE_CLOSED, STATE_CLOSING, STATE_ESTABLISHED, STATE_SYN,
};
use csm_common::names;
use csm_common::net::{ADDRESS_POOL, Address};
use csm_common::service::Pool;
use csm_tests::racing::{Hit, REDIRECT, Shot, fire, in_step, race};
use csm_tests::rig::{FAR_CLIENT, GATEWAY, Host, REALS, Rig, SMALL, Side, VIP, WEB, address_key, be};
use csm_user::dataplane::load::Capacity;
use csm_user::dataplane::table::family::TableFamily;
use csm_user::dataplane::table::{Conflict, Insert, Table};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::frames::{ACK, CLIENT_ISN, FIN, Frame, L4, PSH, RST, SERVER_ISN, SYN};

pub(super) mod places;
pub(super) mod shares;

/// Connections in a race, each of which is one moment of two CPUs meeting.
const FLOWS: u16 = 1500;
const CLIENT_NEXT: u32 = CLIENT_ISN + 1;
const SERVER_NEXT: u32 = SERVER_ISN.wrapping_add(1);

/// A segment of a connection: who sends it, and its flags, numbers and payload.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub(super) side: Side,
    flags: u8,
    seq: u32,
    ack: u32,
    pub(super) payload: &'static [u8],
}

const fn client(flags: u8, seq: u32, ack: u32) -> Segment {
    Segment { side: Side::Client, flags, seq, ack, payload: b"" }
}

const fn server(flags: u8, seq: u32, ack: u32) -> Segment {
    Segment { side: Side::Server, ..client(flags, seq, ack) }
}

impl Segment {
    const fn with(self, payload: &'static [u8]) -> Self {
        Self { payload, ..self }
    }

    pub(super) const fn l4(self) -> L4 {
        L4::Tcp { flags: self.flags, seq: self.seq, ack: self.ack }
    }
}

/// What differs between the families.
pub(super) trait Family: TableFamily + Ord {
    const WEB: u32;
    const FIRST_REAL: u32;
    /// Slot of what is everybody's room.
    const EVERYBODYS: u32;
    const IPV6: bool;

    /// Writes the family's part of the maps, with so many reals.
    fn fill(rig: &Rig, reals: u32);
    /// Sets flags of the virtual server.
    fn set_flags(rig: &Rig, flags: u32);
    /// Sets how many connections the virtual server may have.
    fn set_max_conns(rig: &Rig, most: u32);
    /// Sets its owner, 1 more than that one's element of `PLACES`, and how many that may have.
    fn set_owner(rig: &Rig, owner: (u32, u32));
    /// The segment of connection `flow` from or to the real of that index, and how it is to leave.
    fn frames(segment: Segment, flow: u16, real: usize) -> (Vec<u8>, Vec<u8>);
    fn flows(rig: &Rig, name: &'static str) -> Vec<(FlowKey<Self>, FlowEntry<Self>)>;
    fn events(rig: &mut Rig) -> Vec<Record<Self>>;
}

impl Family for u32 {
    const WEB: u32 = WEB;
    const FIRST_REAL: u32 = 0;
    const EVERYBODYS: u32 = 0;
    const IPV6: bool = false;

    fn fill(rig: &Rig, reals: u32) {
        rig.vserver(WEB, |vserver| vserver.ring_len = reals);
    }

    fn set_flags(rig: &Rig, flags: u32) {
        rig.vserver(WEB, |vserver| vserver.flags |= flags);
    }

    fn set_max_conns(rig: &Rig, most: u32) {
        rig.vserver(WEB, |vserver| vserver.max_conns = most);
    }

    fn set_owner(rig: &Rig, owner: (u32, u32)) {
        rig.vserver(WEB, |vserver| (vserver.owner, vserver.owner_max_conns) = owner);
    }

    fn frames(segment: Segment, flow: u16, real: usize) -> (Vec<u8>, Vec<u8>) {
        let (real, port) = (&REALS[real], 1024 + flow);
        let (frame, out) = if segment.side == Side::Client {
            let frame = Frame::from(&FAR_CLIENT, port, (VIP, 80), segment.l4()).payload(segment.payload);
            (frame.clone(), frame.sent_to(real, 80))
        } else {
            let frame = Frame::from(real, 80, (FAR_CLIENT.ip, port), segment.l4()).payload(segment.payload);
            (frame.clone(), frame.answered_as(VIP, 80, &FAR_CLIENT))
        };
        (frame.bytes(), out.bytes())
    }

    fn flows(rig: &Rig, name: &'static str) -> Vec<(FlowKey, FlowEntry)> {
        rig.flows(name)
    }

    fn events(rig: &mut Rig) -> Vec<Record> {
        rig.events()
    }
}

/// A rig with room for all of them, and what was counted before.
struct Bench<A: Family = u32> {
    rig: Rig,
    program: RawFd,
    fired: (u64, u64),
    family: PhantomData<A>,
}

impl<A: Family> Bench<A> {
    /// With so many of the family's reals.
    fn new(reals: u32) -> Self {
        let capacity = Capacity { connections: 8192, embryonic: 16_384, ipv6: A::IPV6, ..SMALL };
        let mut rig = Rig::with_capacity(capacity).expect("the rig");
        A::fill(&rig, reals);
        let program = rig.dataplane.program_fd().expect("the program");
        Self { rig, program, fired: (0, 0), family: PhantomData }
    }

    fn shot(&self, side: Side, frame: Vec<u8>) -> Shot {
        Shot { ifindex: self.rig.ports()[side as usize].ifindex, frame }
    }

    /// A segment of each connection, from or to its real.
    fn shots(&self, segment: Segment, real: impl Fn(u16) -> usize) -> Vec<Shot> {
        let frame = |flow| A::frames(segment, flow, real(flow)).0;
        (0..FLOWS).map(|flow| self.shot(segment.side, frame(flow))).collect()
    }

    fn note<'a>(&mut self, shots: impl IntoIterator<Item = &'a Shot>) {
        for shot in shots {
            self.fired = (self.fired.0 + 1, self.fired.1 + shot.frame.len() as u64);
        }
    }

    fn race(&mut self, one: &[Shot], other: &[Shot]) -> (Vec<Hit>, Vec<Hit>) {
        self.note(one.iter().chain(other));
        race(self.program, one, other)
    }

    /// One after the other; all are sent on.
    fn fire(&mut self, shots: &[Shot]) {
        self.note(shots);
        for shot in shots {
            assert_eq!(fire(self.program, shot).expect("a test run").action, REDIRECT);
        }
    }

    /// All connections, with all their servers' first one.
    fn establish(&mut self) {
        for segment in [
            client(SYN, CLIENT_ISN, 0),
            server(SYN | ACK, SERVER_ISN, CLIENT_NEXT),
            client(ACK, CLIENT_NEXT, SERVER_NEXT),
        ] {
            let shots = self.shots(segment, |_| 0);
            self.fire(&shots);
        }
        let _ = A::events(&mut self.rig);
    }

    /// Every frame that was fired has been counted, for reasons that say what became of it; by reason.
    #[track_caller]
    fn counted(&self, hits: &[&[Hit]], dropped: &[Reason]) -> BTreeMap<&'static str, u64> {
        let ports: Vec<_> = self.rig.ports().iter().map(|port| self.rig.counts(port.ifindex)).collect();
        let mut sums = (0, 0);
        let mut by_reason = BTreeMap::new();
        for (number, &reason) in Reason::ALL.iter().enumerate() {
            let sum = |of: fn(&Count) -> u64| ports.iter().map(|counts| of(&counts[number])).sum::<u64>();
            let packets = sum(|count| count.packets);
            if packets > 0 {
                let allowed = reason.verdict() == Verdict::Forward || dropped.contains(&reason);
                assert!(allowed, "{packets} frames ended as {reason:?}");
                by_reason.insert(reason.name(), packets);
            }
            sums = (sums.0 + packets, sums.1 + sum(|count| count.bytes));
        }
        assert_eq!(sums, self.fired, "frames and octets: {by_reason:?}");
        let lost =
            hits.iter().flat_map(|hits| hits.iter()).filter(|hit| hit.action != REDIRECT).count() as u64;
        let drops: u64 = dropped.iter().filter_map(|reason| by_reason.get(reason.name())).sum();
        assert_eq!(drops, lost, "{by_reason:?}");
        by_reason
    }

    /// The entries of a table, which must be whole pairs; those of the client's direction.
    #[track_caller]
    fn pairs(&self, table: &'static str) -> Vec<(FlowKey<A>, FlowEntry<A>)> {
        let entries: BTreeMap<FlowKey<A>, FlowEntry<A>> = A::flows(&self.rig, table).into_iter().collect();
        for (key, entry) in &entries {
            let twin_key = entry.twin_key(key.proto);
            let twin =
                entries.get(&twin_key).unwrap_or_else(|| panic!("{key:?} is alone in {table}: {entry:?}"));
            assert_eq!(twin.twin_key(key.proto), *key, "the twin leads back");
            let facts = |entry: &FlowEntry<A>| (entry.generation, entry.vserver, entry.real, entry.state);
            assert_eq!(facts(twin), facts(entry), "{key:?}");
            assert_eq!(entry.connection(key), twin.connection(&twin_key), "of one connection");
        }
        entries.into_iter().filter(|(_, entry)| entry.flags & FLAG_FORWARD != 0).collect()
    }

    /// Ends and beginnings that were told, by client port.
    fn told(&mut self, kind: u32) -> BTreeMap<u16, u32> {
        let mut told = BTreeMap::new();
        for event in A::events(&mut self.rig).iter().filter(|event| event.kind & !EVENT_V6 == kind) {
            *told.entry(event.connection.client_port_be).or_insert(0) += 1;
        }
        told
    }
}

/// Source and destination of a frame as it was sent on.
fn ends(frame: &[u8]) -> (SocketAddrV4, SocketAddrV4) {
    let packet = SlicedPacket::from_ethernet(frame).expect("a frame");
    let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!("not IPv4") };
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("not TCP") };
    let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
    (SocketAddrV4::new(source, tcp.source_port()), SocketAddrV4::new(destination, tcp.destination_port()))
}

#[test]
fn a_connection_is_opened_and_proven_once() {
    opens::<u32>();
}

pub(super) fn opens<A: Family>() {
    let mut bench = Bench::<A>::new(3);
    // A SYN and its repetition.
    let syns = bench.shots(client(SYN, CLIENT_ISN, 0), |_| 0);
    let (one, other) = bench.race(&syns, &syns);
    let reals: Vec<usize> = (0..)
        .zip(one.iter().zip(&other))
        .map(|(flow, (one, other))| {
            assert_eq!((one.action, one), (REDIRECT, other), "both go to one server");
            let sent = |real: &usize| A::frames(client(SYN, CLIENT_ISN, 0), flow, *real).1;
            (0..3).find(|real| one.frame == sent(real)).expect("a real")
        })
        .collect();
    let real = |flow| reals[usize::from(flow)];
    assert_eq!(bench.pairs(A::EMBRYONIC).len(), usize::from(FLOWS));
    // The server's answer, and the SYN once more.
    let answers = bench.shots(server(SYN | ACK, SERVER_ISN, CLIENT_NEXT), real);
    let (back, again) = bench.race(&answers, &syns);
    assert!(back.iter().all(|hit| hit.action == REDIRECT));
    assert_eq!(again, one, "where the first one went");
    // The client's acknowledgement and its first data: each of them proves the handshake.
    let acks = bench.shots(client(ACK, CLIENT_NEXT, SERVER_NEXT), real);
    let data = bench.shots(client(PSH | ACK, CLIENT_NEXT, SERVER_NEXT).with(b"get"), real);
    let (one, other) = bench.race(&acks, &data);
    let proven = bench.pairs(A::FLOWS);
    assert_eq!(proven.len(), usize::from(FLOWS));
    assert!(proven.iter().all(|(_, entry)| entry.state == STATE_ESTABLISHED));
    assert_eq!(A::flows(&bench.rig, A::EMBRYONIC), []);
    let told = bench.told(EVENT_CONNECTION);
    assert!(told.len() == usize::from(FLOWS) && told.values().all(|&times| times == 1), "{told:?}");
    assert_eq!(bench.rig.service_count(names::VSERVER_COUNTS, A::WEB).connections, u64::from(FLOWS));
    // Nor is a segment lost that looks for its connection among the proven before it is there, and among the half-open when it
    // has just left.
    let by_reason = bench.counted(&[&one, &other], &[Reason::DropNoConnection]);
    let lost = by_reason.get(Reason::DropNoConnection.name()).copied().unwrap_or(0);
    assert_eq!(lost, 0, "of {FLOWS}");
    // Data both ways.
    let asks = client(PSH | ACK, CLIENT_NEXT, SERVER_NEXT).with(b"data");
    let tells = server(PSH | ACK, SERVER_NEXT, CLIENT_NEXT).with(b"answer");
    let (there, back) = bench.race(&bench.shots(asks, real), &bench.shots(tells, real));
    for (flow, (there, back)) in (0..).zip(there.iter().zip(&back)) {
        let out = |segment| A::frames(segment, flow, real(flow)).1;
        assert_eq!((&there.frame, &back.frame), (&out(asks), &out(tells)));
    }
}

const CLIENT_FIN: Segment = client(FIN | ACK, CLIENT_NEXT, SERVER_NEXT);
const SERVER_FIN: Segment = server(FIN | ACK, SERVER_NEXT, CLIENT_NEXT);
const CLIENT_RESET: Segment = client(RST, CLIENT_NEXT, 0);
const SERVER_RESET: Segment = server(RST, SERVER_NEXT, 0);

/// Both segments of each connection at once, and then the `last` one; then all of them are closed, and each end was told once.
fn closes<A: Family>(bench: &mut Bench<A>, [one, other]: [Segment; 2], last: Option<Segment>, what: &str) {
    let (ones, others) = (bench.shots(one, |_| 0), bench.shots(other, |_| 0));
    let (first, second) = bench.race(&ones, &others);
    assert!(first.iter().chain(&second).all(|hit| hit.action == REDIRECT), "{what}: all are sent on");
    if let Some(last) = last {
        let shots = bench.shots(last, |_| 0);
        bench.fire(&shots);
    }
    let mut states = BTreeMap::new();
    for (_, entry) in bench.pairs(A::FLOWS) {
        *states.entry(entry.state).or_insert(0) += 1;
    }
    let told = bench.told(EVENT_CLOSED);
    let often = told.values().filter(|&&times| times > 1).count();
    assert_eq!(states, BTreeMap::from([(STATE_CLOSED, usize::from(FLOWS))]), "{what}");
    assert_eq!((told.len(), often), (usize::from(FLOWS), 0), "{what}: each end is told once");
    let _ = bench.counted(&[&first, &second], &[]);
}

fn established<A: Family>() -> Bench<A> {
    let mut bench = Bench::new(1);
    bench.establish();
    bench
}

pub(super) fn fins_cross<A: Family>() {
    closes(&mut established::<A>(), [CLIENT_FIN, SERVER_FIN], None, "FIN and FIN");
}

#[test]
fn fins_that_cross_on_two_cpus_close() {
    fins_cross::<u32>();
}

pub(super) fn resets<A: Family>() {
    for (segments, what) in [
        ([CLIENT_FIN, SERVER_RESET], "FIN and the server's reset"),
        ([CLIENT_RESET, SERVER_FIN], "FIN and the client's reset"),
        ([CLIENT_RESET, SERVER_RESET], "both reset"),
    ] {
        closes(&mut established::<A>(), segments, None, what);
    }
}

#[test]
fn a_reset_ends_whatever_fin_comes_beside_it() {
    resets::<u32>();
}

/// A flag that another CPU sets is not lost where one notes what a server acknowledged, or that a replica is in use.
pub(super) fn flags_stay<A: Family>() {
    // So much more that it is noted.
    let data = server(PSH | ACK, SERVER_NEXT, CLIENT_NEXT.wrapping_add(1 << 20)).with(b"data");
    closes(&mut established::<A>(), [SERVER_FIN, data], Some(CLIENT_FIN), "FIN and what is acknowledged");
    let mut bench = established::<A>();
    let table: Table<A> = Table::open(&bench.rig.dataplane).expect("the tables");
    for insert in replicas(&bench) {
        let _known = table.delete(&insert.connection.forward_key(), None).expect("a deletion");
        assert!(table.insert(&[insert], Conflict::Keep).iter().all(Result::is_ok), "a replica");
    }
    let data = client(PSH | ACK, CLIENT_NEXT, SERVER_NEXT).with(b"data");
    closes(&mut bench, [CLIENT_FIN, data], Some(SERVER_FIN), "FIN and the first use of a replica");
}

#[test]
fn a_fin_is_not_lost_beside_what_else_is_noted() {
    flags_stay::<u32>();
}

/// The connections as the peer would tell of them.
fn replicas<A: Family>(bench: &Bench<A>) -> Vec<Insert<A>> {
    let hops = |entry: &FlowEntry<A>, key: &FlowKey<A>| {
        let twin =
            A::flows(&bench.rig, A::FLOWS).into_iter().find(|(other, _)| *other == entry.twin_key(key.proto));
        (entry.nexthop, twin.expect("a pair").1.nexthop)
    };
    let pairs = bench.pairs(A::FLOWS);
    let (to_server, to_client) = pairs.first().map_or((0, 0), |(key, entry)| hops(entry, key));
    let insert = |(key, entry): &(FlowKey<A>, FlowEntry<A>)| Insert {
        connection: entry.connection(key),
        to_server,
        to_client,
        idle_ns: 0,
        mark: entry.mark.into(),
    };
    pairs.iter().map(insert).collect()
}

#[test]
fn a_port_that_is_used_again_is_one_connection_again() {
    let mut bench = established::<u32>();
    let resets = bench.shots(SERVER_RESET, |_| 0);
    bench.fire(&resets);
    let syns = bench.shots(client(SYN, CLIENT_ISN + 100_000, 0), |_| 0);
    let (one, other) = bench.race(&syns, &syns);
    assert_eq!(one, other);
    assert_eq!(bench.rig.flows(names::FLOWS), []);
    let pairs = bench.pairs(names::EMBRYONIC);
    assert!(pairs.len() == usize::from(FLOWS) && pairs.iter().all(|(_, entry)| entry.state == STATE_SYN));
    let _ = bench.counted(&[&one, &other], &[]);
}

const POOLED: Ipv4Addr = Ipv4Addr::new(192, 158, 39, 50);

/// A bench whose web server's clients get one of so many ports of one address.
fn translating(ports: u16) -> Bench {
    let bench = Bench::<u32>::new(1);
    let mut pools: Array<MapData, Pool> = bench.rig.map(names::POOLS);
    let pool = Pool { first_be: be(POOLED), addresses: 1, port_first: 20_000, ports };
    pools.set(1, pool, 0).expect("POOLS");
    let mut addresses: HashMap<MapData, _, Address> = bench.rig.map(names::ADDRESSES);
    addresses.insert(address_key(POOLED, 3), Address { kind: ADDRESS_POOL }, 0).expect("ADDRESSES");
    bench.rig.vserver(WEB, |vserver| vserver.pool = 1);
    bench
}

#[test]
fn no_port_of_a_pool_is_given_twice() {
    // Fewer than are asked for, so that both look for the last ones.
    let ports = FLOWS + FLOWS / 2;
    let mut bench = translating(ports);
    let of = |last: u8| {
        let host = Host { ip: Ipv4Addr::new(10, 1, 1, last), ..GATEWAY };
        let open = || L4::Tcp { flags: SYN, seq: 1, ack: 0 };
        let frame = |flow| Frame::from(&host, 1024 + flow, (VIP, 80), open()).bytes();
        (0..FLOWS).map(|flow| bench.shot(Side::Client, frame(flow))).collect::<Vec<_>>()
    };
    let (ones, others) = (of(1), of(2));
    let (one, other) = bench.race(&ones, &others);
    let given: Vec<SocketAddrV4> =
        one.iter().chain(&other).filter(|hit| hit.action == REDIRECT).map(|hit| ends(&hit.frame).0).collect();
    assert!(
        given
            .iter()
            .all(|source| *source.ip() == POOLED && (20_000..20_000 + ports).contains(&source.port()))
    );
    let different: BTreeSet<_> = given.iter().collect();
    assert_eq!(different.len(), given.len(), "a port was given twice");
    assert!(given.len() > usize::from(ports) * 9 / 10, "{} of {ports} ports are given", given.len());
    assert_eq!(bench.pairs(names::EMBRYONIC).len(), given.len());
    let _ = bench.counted(&[&one, &other], &[Reason::DropPoolExhausted]);
}

#[test]
fn a_syn_and_its_repetition_take_one_port() {
    let mut bench = translating(16 * FLOWS);
    let syns = bench.shots(client(SYN, CLIENT_ISN, 0), |_| 0);
    let (one, other) = bench.race(&syns, &syns);
    let _ = bench.counted(&[&one, &other], &[]);
    let differ = one.iter().zip(&other).find(|(one, other)| one != other);
    assert_eq!(differ, None, "the same port");
    assert_eq!(bench.pairs(names::EMBRYONIC).len(), usize::from(FLOWS), "and no other is held");
}

/// What the controller does with the tables while packets come: it inserts a connection as a replica, and deletes it.
#[test]
fn replicas_and_deletions_meet_traffic() {
    /// Few, so that each is met often.
    const MET: u16 = 16;
    const ROUNDS: usize = 6000;
    let mut bench = established::<u32>();
    let table: Table = Table::open(&bench.rig.dataplane).expect("the tables");
    let mut inserts = replicas(&bench);
    inserts.retain(|insert| u16::from_be(insert.connection.client_port_be) < 1024 + MET);
    assert_eq!(inserts.len(), usize::from(MET));
    // Each connection in turn: closed, opened again, used in both directions.
    let walk = [
        client(PSH | ACK, CLIENT_NEXT, SERVER_NEXT).with(b"ask"),
        server(PSH | ACK, SERVER_NEXT, CLIENT_NEXT).with(b"tell"),
        SERVER_RESET,
        client(SYN, CLIENT_ISN, 0),
        server(SYN | ACK, SERVER_ISN, CLIENT_NEXT),
        client(ACK, CLIENT_NEXT, SERVER_NEXT),
        SERVER_FIN,
    ];
    let step = |flow: u16, segment: Segment| {
        let (frame, out) = u32::frames(segment, flow, 0);
        (bench.shot(segment.side, frame), out)
    };
    let shots: Vec<(Shot, Vec<u8>)> =
        (0..MET).flat_map(|flow| walk.map(|segment| step(flow, segment))).collect();
    let of_round = |round: usize| &shots[round % shots.len()];
    bench.note((0..ROUNDS).map(|round| &of_round(round).0));
    let program = bench.program;
    let control = |round: usize| {
        let insert = inserts[round / walk.len() % inserts.len()];
        let key = insert.connection.forward_key();
        match round % 5 {
            0 | 3 => drop(table.insert(&[insert], Conflict::KeepNewer)),
            1 => drop(table.insert(&[insert], Conflict::Keep)),
            2 => drop(table.delete(&key, None).expect("a deletion")),
            _ => drop(table.delete_unused(&key, None).expect("a deletion")),
        }
    };
    let (_, hits) = in_step(ROUNDS, control, |round| fire(program, &of_round(round).0).expect("a test run"));
    let astray = (0..)
        .zip(&hits)
        .filter(|(round, hit)| hit.action == REDIRECT && hit.frame != of_round(*round).1)
        .count();
    assert!(astray <= 1, "{astray} frames went by an entry that was another's by then");
    let passed = hits.iter().filter(|hit| hit.action == REDIRECT).count();
    assert!(passed > ROUNDS / 3, "{passed} of {ROUNDS} were sent on");
    let _ = bench.counted(&[&hits], &[Reason::DropNoConnection, Reason::DropConflict]);
    // Whatever half of a pair was left behind is in nobody's way: each client opens its connection anew.
    for round in [2, 3, 4, 5, 0, 1] {
        for flow in 0..MET {
            let shot = bench.shot(walk[round].side, u32::frames(walk[round], flow, 0).0);
            let hit = fire(program, &shot).expect("a test run");
            assert!(round == 2 || hit.action == REDIRECT, "step {round} of connection {flow}");
        }
    }
    let pairs = bench.pairs(names::FLOWS);
    assert_eq!(pairs.len(), usize::from(FLOWS));
    let live = pairs.iter().filter(|(_, entry)| entry.state != STATE_CLOSING && entry.state != STATE_CLOSED);
    assert_eq!(live.count(), usize::from(FLOWS));
}
