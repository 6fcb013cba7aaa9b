//! Two CPUs on the same connections at once. Whatever came first, both entries stand or none, they are of one connection,
//! what both had is counted once, and no frame is lost from the counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::RawFd;

use aya::maps::{Array, HashMap, MapData};
use csm_common::counter::{Count, Reason, Verdict};
use csm_common::event::{EVENT_CLOSED, EVENT_CONNECTION};
use csm_common::flow::{
    FLAG_FORWARD, FlowEntry, FlowKey, STATE_CLOSED, STATE_CLOSING, STATE_ESTABLISHED, STATE_SYN,
};
use csm_common::names;
use csm_common::net::{ADDRESS_POOL, Address};
use csm_common::service::Pool;
use csm_tests::racing::{Hit, REDIRECT, Shot, fire, in_step, race};
use csm_tests::rig::{FAR_CLIENT, GATEWAY, Host, REALS, Rig, SMALL, Side, VIP, WEB, address_key, be};
use csm_user::dataplane::load::Capacity;
use csm_user::dataplane::table::{Conflict, Insert, Table};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::frames::{ACK, CLIENT_ISN, FIN, Frame, L4, PSH, RST, SERVER_ISN, SYN};

/// Connections in a race, each of which is one moment of two CPUs meeting.
const FLOWS: u16 = 1500;
const CLIENT_NEXT: u32 = CLIENT_ISN + 1;
const SERVER_NEXT: u32 = SERVER_ISN.wrapping_add(1);

/// A rig with room for all of them, and what was counted before.
struct Bench {
    rig: Rig,
    program: RawFd,
    fired: (u64, u64),
}

impl Bench {
    fn new(ring: &[u32]) -> Self {
        let capacity = Capacity { connections: 8192, embryonic: 16_384, ..SMALL };
        let mut rig = Rig::with_capacity(capacity).expect("the rig");
        rig.ring(WEB, ring);
        let program = rig.dataplane.program_fd().expect("the program");
        Self { rig, program, fired: (0, 0) }
    }

    fn shot(&self, side: Side, frame: &Frame) -> Shot {
        Shot { ifindex: self.rig.ports()[side as usize].ifindex, frame: frame.bytes() }
    }

    /// Shots from a side, one for each connection.
    fn shots(&self, side: Side, frame: impl Fn(u16) -> Frame) -> Vec<Shot> {
        (0..FLOWS).map(|flow| self.shot(side, &frame(flow))).collect()
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
        let syns = self.shots(Side::Client, |flow| client(flow, SYN, CLIENT_ISN, 0));
        self.fire(&syns);
        let answers =
            self.shots(Side::Server, |flow| server(&REALS[0], flow, SYN | ACK, SERVER_ISN, CLIENT_NEXT));
        self.fire(&answers);
        let acks = self.shots(Side::Client, |flow| client(flow, ACK, CLIENT_NEXT, SERVER_NEXT));
        self.fire(&acks);
        let _ = self.rig.events();
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
    fn pairs(&self, table: &'static str) -> Vec<(FlowKey, FlowEntry)> {
        let entries: BTreeMap<FlowKey, FlowEntry> = self.rig.flows(table).into_iter().collect();
        for (key, entry) in &entries {
            let twin_key = entry.twin_key(key.proto);
            let twin =
                entries.get(&twin_key).unwrap_or_else(|| panic!("{key:?} is alone in {table}: {entry:?}"));
            assert_eq!(twin.twin_key(key.proto), *key, "the twin leads back");
            let facts = |entry: &FlowEntry| (entry.generation, entry.vserver, entry.real, entry.state);
            assert_eq!(facts(twin), facts(entry), "{key:?}");
            assert_eq!(entry.connection(key), twin.connection(&twin_key), "of one connection");
        }
        entries.into_iter().filter(|(_, entry)| entry.flags & FLAG_FORWARD != 0).collect()
    }

    /// Ends and beginnings that were told, by client port.
    fn told(&mut self, kind: u32) -> BTreeMap<u16, u32> {
        let mut told = BTreeMap::new();
        for event in self.rig.events().iter().filter(|event| event.kind == kind) {
            *told.entry(event.connection.client_port_be).or_insert(0) += 1;
        }
        told
    }
}

fn client(flow: u16, flags: u8, seq: u32, ack: u32) -> Frame {
    Frame::from(&FAR_CLIENT, 1024 + flow, (VIP, 80), L4::Tcp { flags, seq, ack })
}

fn server(real: &Host, flow: u16, flags: u8, seq: u32, ack: u32) -> Frame {
    Frame::from(real, 80, (FAR_CLIENT.ip, 1024 + flow), L4::Tcp { flags, seq, ack })
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
    let mut bench = Bench::new(&[0, 1, 2]);
    // A SYN and its repetition.
    let syns = bench.shots(Side::Client, |flow| client(flow, SYN, CLIENT_ISN, 0));
    let (one, other) = bench.race(&syns, &syns);
    let reals: Vec<Host> = one
        .iter()
        .zip(&other)
        .map(|(one, other)| {
            assert_eq!((one.action, one), (REDIRECT, other), "both go to one server");
            let to = *ends(&one.frame).1.ip();
            *REALS.iter().find(|real| real.ip == to).expect("a real")
        })
        .collect();
    assert_eq!(bench.pairs(names::EMBRYONIC).len(), usize::from(FLOWS));
    // The server's answer, and the SYN once more.
    let answers = bench.shots(Side::Server, |flow| {
        server(&reals[usize::from(flow)], flow, SYN | ACK, SERVER_ISN, CLIENT_NEXT)
    });
    let (back, again) = bench.race(&answers, &syns);
    assert!(back.iter().all(|hit| hit.action == REDIRECT));
    assert_eq!(again, one, "where the first one went");
    // The client's acknowledgement and its first data: each of them proves the handshake.
    let acks = bench.shots(Side::Client, |flow| client(flow, ACK, CLIENT_NEXT, SERVER_NEXT));
    let data =
        bench.shots(Side::Client, |flow| client(flow, PSH | ACK, CLIENT_NEXT, SERVER_NEXT).payload(b"get"));
    let (one, other) = bench.race(&acks, &data);
    let proven = bench.pairs(names::FLOWS);
    assert_eq!(proven.len(), usize::from(FLOWS));
    assert!(proven.iter().all(|(_, entry)| entry.state == STATE_ESTABLISHED));
    assert_eq!(bench.rig.flows(names::EMBRYONIC), []);
    let told = bench.told(EVENT_CONNECTION);
    assert!(told.len() == usize::from(FLOWS) && told.values().all(|&times| times == 1), "{told:?}");
    assert_eq!(bench.rig.service_count(names::VSERVER_COUNTS, WEB).connections, u64::from(FLOWS));
    let _ = bench.counted(&[&one, &other], &[]);
    // Data both ways.
    let data =
        bench.shots(Side::Client, |flow| client(flow, PSH | ACK, CLIENT_NEXT, SERVER_NEXT).payload(b"data"));
    let answers = bench.shots(Side::Server, |flow| {
        server(&reals[usize::from(flow)], flow, PSH | ACK, SERVER_NEXT, CLIENT_NEXT).payload(b"answer")
    });
    let (there, back) = bench.race(&data, &answers);
    for (flow, (there, back)) in (0..).zip(there.iter().zip(&back)) {
        let real = &reals[usize::from(flow)];
        let sent = client(flow, PSH | ACK, CLIENT_NEXT, SERVER_NEXT).payload(b"data").sent_to(real, 80);
        let answered = server(real, flow, PSH | ACK, SERVER_NEXT, CLIENT_NEXT).payload(b"answer");
        let answered = answered.answered_as(VIP, 80, &FAR_CLIENT);
        assert_eq!((&there.frame, &back.frame), (&sent.bytes(), &answered.bytes()));
    }
}

/// Both frames of each connection at once; then all of them are closed, and each end was told once.
fn closes(one: (Side, fn(u16) -> Frame), other: (Side, fn(u16) -> Frame), what: &str) {
    let mut bench = Bench::new(&[0]);
    bench.establish();
    let (ones, others) = (bench.shots(one.0, one.1), bench.shots(other.0, other.1));
    let (first, second) = bench.race(&ones, &others);
    assert!(first.iter().chain(&second).all(|hit| hit.action == REDIRECT), "{what}: all are sent on");
    let mut states = BTreeMap::new();
    for (_, entry) in bench.pairs(names::FLOWS) {
        *states.entry(entry.state).or_insert(0) += 1;
    }
    let told = bench.told(EVENT_CLOSED);
    let often = told.values().filter(|&&times| times > 1).count();
    assert_eq!(states, BTreeMap::from([(STATE_CLOSED, usize::from(FLOWS))]), "{what}");
    assert_eq!((told.len(), often), (usize::from(FLOWS), 0), "{what}: each end is told once");
    let _ = bench.counted(&[&first, &second], &[]);
}

fn client_fin(flow: u16) -> Frame {
    client(flow, FIN | ACK, CLIENT_NEXT, SERVER_NEXT)
}

fn server_fin(flow: u16) -> Frame {
    server(&REALS[0], flow, FIN | ACK, SERVER_NEXT, CLIENT_NEXT)
}

fn client_reset(flow: u16) -> Frame {
    client(flow, RST, CLIENT_NEXT, 0)
}

fn server_reset(flow: u16) -> Frame {
    server(&REALS[0], flow, RST, SERVER_NEXT, 0)
}

#[test]
fn fins_that_cross_on_two_cpus_close() {
    closes((Side::Client, client_fin), (Side::Server, server_fin), "FIN and FIN");
}

#[test]
fn a_reset_ends_whatever_fin_comes_beside_it() {
    closes((Side::Client, client_fin), (Side::Server, server_reset), "FIN and the server's reset");
    closes((Side::Client, client_reset), (Side::Server, server_fin), "FIN and the client's reset");
    closes((Side::Client, client_reset), (Side::Server, server_reset), "both reset");
}

#[test]
fn a_port_that_is_used_again_is_one_connection_again() {
    let mut bench = Bench::new(&[0]);
    bench.establish();
    let resets = bench.shots(Side::Server, server_reset);
    bench.fire(&resets);
    let syns = bench.shots(Side::Client, |flow| client(flow, SYN, CLIENT_ISN + 100_000, 0));
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
    let bench = Bench::new(&[0]);
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
        move |flow: u16| Frame::from(&host, 1024 + flow, (VIP, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 })
    };
    let (ones, others) = (bench.shots(Side::Client, of(1)), bench.shots(Side::Client, of(2)));
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
    let mut bench = translating(4 * FLOWS);
    let syns = bench.shots(Side::Client, |flow| client(flow, SYN, CLIENT_ISN, 0));
    let (one, other) = bench.race(&syns, &syns);
    assert_eq!(one, other, "the same port");
    assert_eq!(bench.pairs(names::EMBRYONIC).len(), usize::from(FLOWS), "and no other is held");
    let _ = bench.counted(&[&one, &other], &[]);
}

/// Who sends it, and the frame of the connection from that port.
type Step = (Side, fn(u16) -> Frame);

/// What the controller does with the tables while packets come: it inserts a connection as a replica, and deletes it.
#[test]
fn replicas_and_deletions_meet_traffic() {
    /// Few, so that each is met often.
    const MET: u16 = 16;
    const ROUNDS: usize = 6000;
    let mut bench = Bench::new(&[0]);
    bench.establish();
    let table: Table = Table::open(&bench.rig.dataplane).expect("the tables");
    let inserts: Vec<Insert> = bench
        .pairs(names::FLOWS)
        .iter()
        .map(|(key, entry)| Insert {
            connection: entry.connection(key),
            to_server: 0,
            to_client: 3,
            idle_ns: 0,
        })
        .filter(|insert| u16::from_be(insert.connection.client_port_be) < 1024 + MET)
        .collect();
    assert_eq!(inserts.len(), usize::from(MET));
    // Each connection in turn: closed, opened again, used in both directions.
    let walk: [Step; 7] = [
        (Side::Client, |flow| client(flow, PSH | ACK, CLIENT_NEXT, SERVER_NEXT).payload(b"ask")),
        (Side::Server, |flow| server(&REALS[0], flow, PSH | ACK, SERVER_NEXT, CLIENT_NEXT).payload(b"tell")),
        (Side::Server, server_reset),
        (Side::Client, |flow| client(flow, SYN, CLIENT_ISN, 0)),
        (Side::Server, |flow| server(&REALS[0], flow, SYN | ACK, SERVER_ISN, CLIENT_NEXT)),
        (Side::Client, |flow| client(flow, ACK, CLIENT_NEXT, SERVER_NEXT)),
        (Side::Server, server_fin),
    ];
    let shots: Vec<(Shot, Vec<u8>)> = (0..MET)
        .flat_map(|flow| walk.map(|(side, frame)| (side, frame(flow))))
        .map(|(side, frame)| {
            let out = match side {
                Side::Client => frame.clone().sent_to(&REALS[0], 80),
                _ => frame.clone().answered_as(VIP, 80, &FAR_CLIENT),
            };
            (bench.shot(side, &frame), out.bytes())
        })
        .collect();
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
            let (side, frame) = walk[round];
            let shot = bench.shot(side, &frame(flow));
            let hit = fire(program, &shot).expect("a test run");
            assert!(round == 2 || hit.action == REDIRECT, "step {round} of connection {flow}");
        }
    }
    let pairs = bench.pairs(names::FLOWS);
    assert_eq!(pairs.len(), usize::from(FLOWS));
    let live = pairs.iter().filter(|(_, entry)| entry.state != STATE_CLOSING && entry.state != STATE_CLOSED);
    assert_eq!(live.count(), usize::from(FLOWS));
}
