//! Handshakes under way when the role moves, where nothing that client or server say tells how to go on: two nodes with the real
//! program and the plan of one configuration, the records of the one carried to the other by the stream's own machines and frames.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use bytes::BytesMut;
use crossbeam::channel::bounded;
use csm_common::address::V6;
use csm_common::counter::{Reason, Verdict};
use csm_common::event::{Drain, EVENT_CONNECTION, EVENT_HANDSHAKE, Lost};
use csm_common::flow::{FLAG_REPLICA, STATE_ESTABLISHED, STATE_SYN_ACK};
use csm_common::limits::{Budget, EVENT_RING_BYTES, EVENT_RING_RESERVE};
use csm_common::names;
use csm_tests::rig::{FAR_CLIENT, GATEWAY, REALS, Rig, Side, VIP, VIRTUAL_MAC, now_ns};
use csm_tests::rig6::{self, FAR6, FIRST6, GATEWAY6, REALS6, VIP6};
use csm_user::config::{HostFacts, check, render};
use csm_user::daemon::replica::{DeltaQueue, KernelReplica};
use csm_user::dataplane::maps::Maps;
use csm_user::dataplane::plan::{Assignments, HealthView, needed_hops, plan};
use csm_user::dataplane::ring::RingThread;
use csm_user::dataplane::snapshot::{Directory, DirectoryCell};
use csm_user::dataplane::table::Table;
use csm_user::model::Host;
use csm_user::replication::apply::{Here, Receiver};
use csm_user::replication::ended::Ended;
use csm_user::replication::record::{Conflict, ConnGone, DeltaEvent, ReplicaTable};
use csm_user::replication::role::{Role, Tenure};
use csm_user::replication::sender::{Effect, Options, Sender};
use csm_user::replication::wire::{HANDSHAKES_SINCE, VERSIONS, decode, encode};
use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};

use super::frames::{ACK, CLIENT_ISN, PSH, SYN};

const SERVER_ISN: u32 = 7_000;
/// Port of the client whose connection it is, and of one before it.
const PORT: u16 = 40_000;
const OTHER: u16 = 39_999;

/// A way of forwarding.
struct Way {
    /// More of each farm.
    farm: &'static str,
    /// More of each virtual server.
    vserver: &'static str,
    /// Its port.
    port: &'static str,
    /// Handshakes that the peer is told of when two clients have sent a SYN, and one of them was answered.
    told: u64,
}

const CLIENT_NAT: Way = Way { farm: "  nat client POOL\n", vserver: "", port: "tcp 80", told: 1 };
const DISPATCH: Way = Way { farm: "  no nat server\n", vserver: "", port: "tcp 80", told: 2 };
/// Servers that do answer through here: what is told at the answer takes the place of what was told at the SYN.
const ANSWERED: Way =
    Way { farm: "  no nat server\n", vserver: "  no unidirectional\n", port: "tcp 80", told: 3 };
const ANY_PORT: Way = Way { farm: "", vserver: "", port: "tcp 0", told: 1 };
/// What the servers say tells how to go on.
const SERVER_NAT: Way = Way { farm: "", vserver: "", port: "tcp 80", told: 0 };

impl Way {
    /// The configuration of the first node or the second.
    fn text(&self, first: bool) -> String {
        let (own, peer) = if first { (10, 40) } else { (40, 10) };
        let mut text =
            "interface eth1\n switchport access vlan 2\ninterface eth2\n switchport access vlan 3\n\
             interface eth3\n switchport access vlan 9\nmodule csm 5\n"
                .to_owned();
        for (vlan, net, net6, more) in [
            ("2 client", 38, 26, "  gateway 192.158.38.20\n  gateway fe80::20\n"),
            ("3 server", 39, 27, "  alias 192.158.39.20 255.255.255.0\n  alias 2001:db8:27::20/64\n"),
        ] {
            text += &format!(
                " vlan {vlan}\n  ip address 192.158.{net}.{own} 255.255.255.0 alt 192.158.{net}.{peer} 255.255.255.0\n  \
                 ipv6 address 2001:db8:{net6}::{own}/64 alt 2001:db8:{net6}::{peer}/64\n{more}"
            );
        }
        text += " natpool POOL 192.158.39.50 192.158.39.53 netmask 255.255.255.0\n \
                 natpool POOL6 2001:db8:27::50 2001:db8:27::53 prefix-length 64\n";
        let families = [
            ("4", IpAddr::from(VIP), REALS.map(|real| IpAddr::from(real.ip)), self.farm.to_owned()),
            ("6", VIP6.into(), REALS6.map(|real| real.ip.into()), self.farm.replace("POOL", "POOL6")),
        ];
        // A farm after a virtual server would be that one's.
        for (name, _, reals, farm) in &families {
            text += &format!(" serverfarm F{name}\n{farm}");
            for real in reals {
                text += &format!("  real {real}\n   inservice\n");
            }
        }
        for (name, vip, ..) in families {
            let (port, more) = (self.port, self.vserver);
            text += &format!(
                " vserver V{name}\n  virtual {vip} {port}\n  serverfarm F{name}\n{more}  replicate csrp connection\n  inservice\n"
            );
        }
        text + " ft group 1 vlan 9\n"
    }
}

/// A node of a pair.
struct Node {
    rig: Rig,
    directory: Arc<DirectoryCell>,
    replica: KernelReplica,
}

impl Node {
    fn new(way: &Way, first: bool) -> Self {
        let rig = rig6::rig().expect("the rig");
        let text = way.text(first);
        let found = check("pair", &text, &HostFacts::default());
        let diagnostics = || render("pair", &text, &found.diagnostics);
        let config = found.config.as_ref().unwrap_or_else(|| panic!("{}", diagnostics()));
        let number = |host: &Host| {
            let at = |all: &[IpAddr]| all.iter().position(|known| *known == host.address);
            let four = REALS.iter().chain([&GATEWAY]).map(|known| known.ip.into()).collect::<Vec<_>>();
            let six = REALS6.iter().chain([&GATEWAY6]).map(|known| known.ip.into()).collect::<Vec<_>>();
            let four = at(&four).map(|place| u32::try_from(place).expect("few"));
            four.or_else(|| Some(FIRST6 + u32::try_from(at(&six)?).expect("few")))
        };
        let hops: HashMap<Host, u32> =
            needed_hops(config).into_iter().filter_map(|host| Some((host, number(&host)?))).collect();
        let desired =
            plan(config, &HealthView::default(), &hops, &mut Assignments::default()).expect("a plan");
        Maps::<u32>::open(&rig.dataplane).expect("maps").reconcile(&desired.contents).expect("planned");
        Maps::<V6>::open(&rig.dataplane).expect("maps").reconcile(&desired.contents6).expect("planned");
        let directory = Arc::new(DirectoryCell::default());
        directory.set(Directory::of(&desired));
        let table = Arc::new(Table::open(&rig.dataplane).expect("the tables"));
        let table6 = Arc::new(Table::open(&rig.dataplane).expect("the tables"));
        let hop_number = Arc::new(move |host: Host| number(&host));
        let replica = KernelReplica::new(table, Some(table6), Arc::clone(&directory), hop_number);
        Self { rig, directory, replica }
    }

    /// Entries of both families in the table of proven connections, and in that of half-open ones: state and flags.
    fn entries(&self) -> [Vec<(u8, u8)>; 2] {
        [(names::FLOWS, names::FLOWS6), (names::EMBRYONIC, names::EMBRYONIC6)].map(|(four, six)| {
            let four = self.rig.flows(four).into_iter().map(|(_, entry)| (entry.state, entry.flags));
            let six = rig6::flows(&self.rig, six).into_iter().map(|(_, entry)| (entry.state, entry.flags));
            four.chain(six).collect()
        })
    }
}

/// A TCP segment as it stands on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    macs: ([u8; 6], [u8; 6]),
    from: SocketAddr,
    to: SocketAddr,
    ttl: u8,
    flags: u8,
    seq: u32,
    ack: u32,
}

impl Segment {
    /// The far client's to the virtual server of `family`.
    fn client(v6: bool, port: u16) -> Self {
        let (mac, from, to): (_, IpAddr, IpAddr) = match v6 {
            false => (FAR_CLIENT.mac, FAR_CLIENT.ip.into(), VIP.into()),
            true => (FAR6.mac, FAR6.ip.into(), VIP6.into()),
        };
        let (from, to) = (SocketAddr::new(from, port), SocketAddr::new(to, 80));
        Self { macs: (mac, VIRTUAL_MAC), from, to, ttl: 64, flags: SYN, seq: CLIENT_ISN, ack: 0 }
    }

    const fn saying(self, flags: u8, seq: u32, ack: u32) -> Self {
        Self { flags, seq, ack, ..self }
    }

    /// What its receiver says to the balancer, from which it came.
    const fn answered(self, flags: u8, seq: u32, ack: u32) -> Self {
        let macs = (self.macs.1, self.macs.0);
        Self { macs, from: self.to, to: self.from, ttl: 64, flags, seq, ack }
    }

    fn bytes(&self) -> Vec<u8> {
        let link = PacketBuilder::ethernet2(self.macs.0, self.macs.1);
        let ip = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), self.ttl),
            (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), self.ttl),
            other => panic!("of two families: {other:?}"),
        };
        let mut header = etherparse::TcpHeader::new(self.from.port(), self.to.port(), self.seq, 65_000);
        header.acknowledgment_number = self.ack;
        (header.syn, header.ack) = (self.flags & SYN != 0, self.flags & ACK != 0);
        header.psh = self.flags & PSH != 0;
        let mut bytes = Vec::new();
        ip.tcp_header(header).write(&mut bytes, &[]).expect("a buildable frame");
        bytes
    }

    /// What the program sent; its checksums are right.
    #[track_caller]
    fn read(bytes: &[u8]) -> Self {
        let headers = PacketHeaders::from_ethernet_slice(bytes).expect("a frame");
        let (from, to, ttl): (IpAddr, IpAddr, u8) = match headers.net.expect("IP") {
            NetHeaders::Ipv4(ip, _) => (ip.source.into(), ip.destination.into(), ip.time_to_live),
            NetHeaders::Ipv6(ip, _) => (ip.source.into(), ip.destination.into(), ip.hop_limit),
            other => panic!("{other:?}"),
        };
        let TransportHeader::Tcp(tcp) = headers.transport.expect("a transport") else { panic!("no TCP") };
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let segment = Self {
            macs: (bytes[6..12].try_into().unwrap(), bytes[..6].try_into().unwrap()),
            from: SocketAddr::new(from, tcp.source_port),
            to: SocketAddr::new(to, tcp.destination_port),
            ttl,
            flags: flag(tcp.syn, SYN) | flag(tcp.ack, ACK) | flag(tcp.psh, PSH),
            seq: tcp.sequence_number,
            ack: tcp.acknowledgment_number,
        };
        assert_eq!(segment.bytes(), bytes, "as if made anew");
        segment
    }
}

/// Runs `segment`, which is sent on for this `reason`; as what.
#[track_caller]
fn sent(rig: &mut Rig, side: Side, segment: &Segment, reason: Reason) -> Segment {
    let run = rig.run(side, &segment.bytes());
    assert_eq!(run.reason, reason, "{segment:?}");
    Segment::read(&run.frame)
}

#[track_caller]
fn dropped(rig: &mut Rig, side: Side, segment: &Segment) {
    let run = rig.run(side, &segment.bytes());
    assert_eq!(run.reason.verdict(), Verdict::Drop, "{:?}: {segment:?}", run.reason);
}

/// What the first node, which `walk` runs frames on, has to tell of it. It has a thread, and so a network, of its own.
fn predecessor<T: Send>(way: &Way, walk: impl FnOnce(&mut Rig) -> T + Send) -> (T, Vec<DeltaEvent>) {
    let run = move || {
        let mut node = Node::new(way, true);
        let (events, told) = bounded(256);
        let queue = DeltaQueue::new(events, Arc::clone(&node.directory));
        let (hints, _hinted) = tokio::sync::mpsc::channel(8);
        let sink = Arc::new(move |delta| queue.tell(delta));
        let ring = RingThread::spawn(&node.rig.dataplane, sink, hints).expect("the ring");
        let made = walk(&mut node.rig);
        ring.flusher().flush();
        let next = || told.recv_timeout(Duration::from_secs(15)).expect("the ring is read");
        let all = std::iter::repeat_with(next).take_while(|event| *event != DeltaEvent::Flushed).collect();
        (made, all)
    };
    thread::scope(|scope| scope.spawn(run).join().expect("no panic"))
}

/// Carries `events` to `node` by a stream of this version, without the snapshot that begins it; how many handshakes were entered there.
fn carry(events: &[DeltaEvent], version: u16, node: &Node) -> u64 {
    let now = Duration::from_secs(100);
    let mut sender = Sender::new(now, Options::default());
    sender.set_version(version);
    sender.set_role(now, Role::Active, &Ended::default());
    events.iter().for_each(|event| sender.event(now, *event));
    let mut stream = BytesMut::new();
    while let Some(effect) = sender.poll(now) {
        if let Effect::Send(frame) = effect {
            encode(&frame, &mut stream);
        }
    }
    let (tenure, ended) = (Tenure::default(), Mutex::default());
    let mut receiver = Receiver::new(&tenure);
    while let Some(frame) = decode(&mut stream).expect("what encode made") {
        let here = Here { table: &node.replica, tenure: &tenure, ended: &ended };
        receiver.apply(frame, &here).expect("what a sender sends");
    }
    receiver.status().handshakes
}

/// Two clients' SYNs, and the answer to the second one's: as what its real got it.
fn half_open(rig: &mut Rig, v6: bool) -> Segment {
    sent(rig, Side::Client, &Segment::client(v6, OTHER), Reason::ForwardedNew);
    let seen = sent(rig, Side::Client, &Segment::client(v6, PORT), Reason::ForwardedNew);
    let answer = seen.answered(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    // Said twice, as when the client's acknowledgement does not come.
    for _ in 0..2 {
        let out = sent(rig, Side::Server, &answer, Reason::ForwardedFlow);
        assert_eq!(out.to, Segment::client(v6, PORT).from);
    }
    seen
}

/// Between the server's answer and the client's acknowledgement the role moves.
fn goes_on(way: &Way, v6: bool) {
    let (seen, events) = predecessor(way, |rig| half_open(rig, v6));
    let mut node = Node::new(way, false);
    let client = Segment::client(v6, PORT);
    let proof = client.saying(ACK, CLIENT_ISN + 1, SERVER_ISN + 1);
    let answer = seen.answered(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);

    // One who is not told, or tells nobody of it as the version before: what the two say leads nowhere.
    assert_eq!(carry(&events, HANDSHAKES_SINCE - 1, &node), 0);
    dropped(&mut node.rig, Side::Client, &proof);
    dropped(&mut node.rig, Side::Server, &answer);

    assert_eq!(carry(&events, VERSIONS.1, &node), way.told);
    let [proven, half] = node.entries();
    assert!(proven.is_empty() && half.iter().all(|(_, flags)| flags & FLAG_REPLICA == 0));
    node.rig.forget_events();
    let as_the_real_sees_it =
        |segment: Segment| Segment { ttl: 63, macs: seen.macs, from: seen.from, to: seen.to, ..segment };
    // A SYN that comes again goes where the first one went.
    let again = sent(&mut node.rig, Side::Client, &client, Reason::ForwardedFlow);
    assert_eq!(again, as_the_real_sees_it(client));
    for guess in [SERVER_ISN, SERVER_ISN + 2].into_iter().filter(|_| way.told != DISPATCH.told) {
        let guess = client.saying(ACK, CLIENT_ISN + 1, guess);
        sent(&mut node.rig, Side::Client, &guess, Reason::ForwardedFlow);
        assert_eq!(node.entries()[0], [], "proven by one number alone");
    }
    let out = sent(&mut node.rig, Side::Client, &proof, Reason::ForwardedFlow);
    assert_eq!(out, as_the_real_sees_it(proof));
    let states = node.entries()[0].iter().map(|(state, _)| *state).collect::<Vec<_>>();
    assert_eq!(states, [STATE_ESTABLISHED; 2]);
    let data = seen.answered(PSH | ACK, SERVER_ISN + 1, CLIENT_ISN + 1);
    let out = sent(&mut node.rig, Side::Server, &data, Reason::ForwardedFlow);
    assert_eq!((out.from, out.to), (client.to, client.from));
    let kinds: Vec<u32> = match v6 {
        false => node.rig.events().iter().map(|event| event.kind).collect(),
        true => rig6::events(&mut node.rig).iter().map(|event| event.kind & 0xff).collect(),
    };
    assert_eq!(kinds, [EVENT_CONNECTION], "it is the successor's to tell");
}

#[test]
fn a_translated_clients_handshake_goes_on_at_the_successor() {
    goes_on(&CLIENT_NAT, false);
}

#[test]
fn a_translated_clients_handshake_goes_on_in_ipv6() {
    goes_on(&CLIENT_NAT, true);
}

#[test]
fn a_handshake_of_dispatch_mode_goes_on_with_the_same_server() {
    goes_on(&DISPATCH, false);
}

#[test]
fn a_handshake_of_dispatch_mode_goes_on_in_ipv6() {
    goes_on(&DISPATCH, true);
}

#[test]
fn a_handshake_whose_server_owns_the_address_and_answers_through_here_goes_on() {
    goes_on(&ANSWERED, false);
}

#[test]
fn a_handshake_to_any_port_goes_on() {
    goes_on(&ANY_PORT, false);
}

#[test]
fn a_handshake_to_any_port_goes_on_in_ipv6() {
    goes_on(&ANY_PORT, true);
}

#[test]
fn what_a_servers_answer_tells_is_not_told() {
    let ((), events) = predecessor(&SERVER_NAT, |rig| {
        half_open(rig, false);
        half_open(rig, true);
    });
    assert_eq!(events, []);
}

#[test]
fn a_servers_own_handshake_goes_on_at_the_successor() {
    let syn = Segment {
        macs: (REALS[0].mac, VIRTUAL_MAC),
        from: SocketAddr::new(REALS[0].ip.into(), 50_000),
        to: SocketAddr::new(FAR_CLIENT.ip.into(), 443),
        ..Segment::client(false, PORT)
    };
    let ((), events) = predecessor(&SERVER_NAT, |rig| {
        let seen = sent(rig, Side::Server, &syn, Reason::ForwardedRouted);
        let answer = seen.answered(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
        sent(rig, Side::Client, &answer, Reason::ForwardedRouted);
    });
    let mut node = Node::new(&SERVER_NAT, false);
    let proof = syn.saying(ACK, CLIENT_ISN + 1, SERVER_ISN + 1);
    dropped(&mut node.rig, Side::Server, &proof);
    assert_eq!(carry(&events, VERSIONS.1, &node), 1);
    sent(&mut node.rig, Side::Server, &proof, Reason::ForwardedRouted);
    assert_eq!(node.entries()[0].len(), 2);
}

/// A record says the virtual server and the real that the first node means, by what its configuration says of them.
#[test]
fn a_handshake_to_what_the_successor_has_not_is_not_entered() {
    let (_, events) = predecessor(&CLIENT_NAT, |rig| half_open(rig, false));
    assert!(matches!(events[..], [DeltaEvent::Handshake(_)]), "{events:?}");
    let node = Node::new(&Way { port: "tcp 81", ..CLIENT_NAT }, false);
    assert_eq!(carry(&events, VERSIONS.1, &node), 0, "another virtual server");
    assert_eq!(node.entries().map(|entries| entries.len()), [0, 0]);
}

/// Later handshakes and proven connections stay, whoever told what first; and of what ended or was proven nothing half-open stays.
#[test]
fn an_older_handshake_replaces_nothing_and_a_proven_one_leaves_nothing() {
    let (_, events) = predecessor(&CLIENT_NAT, |rig| half_open(rig, false));
    let [DeltaEvent::Handshake(told)] = events[..] else { panic!("one handshake: {events:?}") };
    let node = Node::new(&CLIENT_NAT, false);
    let of = |generation: u32, source_port: u16| {
        let mut handshake = told;
        handshake.becomes.generation = told.becomes.generation.wrapping_add(generation);
        handshake.becomes.source_port = source_port;
        handshake
    };
    let enter = |handshake, conflict| node.replica.enter_handshakes(&[handshake], conflict);
    let ports = || {
        let half = node.rig.flows(names::EMBRYONIC).into_iter();
        let to_server = half.filter(|(key, _)| u16::from_be(key.dport_be) == 80);
        to_server.map(|(_, entry)| u16::from_be(entry.new_sport_be)).collect::<Vec<_>>()
    };
    let (newer, older) = (of(1, 2001), of(0, 2000));
    assert_eq!((enter(older, Conflict::KeepNewer), ports()), (1, vec![2000]));
    assert_eq!((enter(newer, Conflict::Keep), ports()), (0, vec![2000]), "this node is active");
    assert_eq!((enter(newer, Conflict::KeepNewer), ports()), (1, vec![2001]));
    assert_eq!(node.entries()[1].len(), 2, "no half is left of the other");
    assert!(node.entries()[1].iter().all(|(state, _)| *state == STATE_SYN_ACK));
    assert_eq!((enter(older, Conflict::KeepNewer), ports()), (0, vec![2001]));

    let upsert = |record| node.replica.upsert_connections(&[record], Conflict::KeepNewer);
    assert_eq!(upsert(newer.becomes), [Ok(())]);
    assert_eq!(node.entries().map(|entries| entries.len()), [2, 0], "it is half open no more");
    assert_eq!(enter(of(2, 2002), Conflict::KeepNewer), 0, "what is proven is found first");
    let gone = ConnGone { key: newer.becomes.key, generation: newer.becomes.generation };
    node.replica.delete_connections(&[gone], Conflict::KeepNewer);
    assert_eq!(enter(of(2, 2002), Conflict::Keep), 1);
    let gone = ConnGone { generation: told.becomes.generation.wrapping_add(2), ..gone };
    node.replica.delete_connections(&[gone], Conflict::KeepNewer);
    assert_eq!(node.entries().map(|entries| entries.len()), [0, 0]);
}

/// Handshakes have a budget, and what is beyond it goes on as ever, untold and counted; nor do they take the ring's room from
/// what replication lives on.
#[test]
fn a_flood_of_handshakes_is_told_of_within_bounds() {
    let mut node = Node::new(&DISPATCH, true);
    // Nobody reads the ring, and that is not what is to be seen.
    node.rig.change(names::DRAIN, 0, |drain: &mut Drain| drain.held_until_ns = u64::MAX);
    let mut budgets: PerCpuArray<MapData, u64> = node.rig.map(names::BUDGETS);
    // The bucket is set rather than emptied: this test's own pace is not its matter.
    let mut budget = |due_ns| {
        let values = vec![due_ns; aya::util::nr_cpus().expect("CPUs")];
        let values = PerCpuValues::try_from(values).expect("one each");
        budgets.set(Budget::Handshake as u32, values, 0).expect("BUDGETS");
    };
    let mut port = 1000;
    let mut syn = |rig: &mut Rig| {
        port += 1;
        sent(rig, Side::Client, &Segment::client(false, port), Reason::ForwardedNew);
    };
    syn(&mut node.rig);
    assert_eq!(node.rig.lost(Lost::Handshake), 0);
    budget(now_ns() + 3600 * 1_000_000_000);
    for _ in 0..3 {
        syn(&mut node.rig);
    }
    assert_eq!(node.rig.lost(Lost::Handshake), 3);
    // A quarter of the ring is for all that strangers cause, however fast it goes.
    let record = 96; // 88 bytes and the ring's own header
    let room = (EVENT_RING_BYTES - EVENT_RING_RESERVE) / record;
    for _ in 0..=room {
        budget(0);
        syn(&mut node.rig);
    }
    assert_eq!(node.rig.lost(Lost::Handshake), 3 + 1);
    let proof = Segment::client(false, port).saying(ACK, CLIENT_ISN + 1, SERVER_ISN + 1);
    sent(&mut node.rig, Side::Client, &proof, Reason::ForwardedFlow);
    let kinds: Vec<u32> = node.rig.events().iter().map(|event| event.kind).collect();
    assert_eq!(kinds.last(), Some(&EVENT_CONNECTION));
    assert_eq!(kinds.iter().filter(|kind| **kind == EVENT_HANDSHAKE).count(), room as usize + 1);
    assert_eq!(node.rig.lost(Lost::Table), 0);
}
