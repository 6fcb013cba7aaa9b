//! The programs and a plain model of them (`csm_tests::model`) on the same frames of both families: sequences of valid, odd,
//! damaged and truncated ones, on connections that the model knows and on others, in every way of forwarding. Same reason,
//! same frame, same counters, and at the end of each sequence the same connections and sticky clients.
//!
//! `CSM_MODEL_FRAMES` says how many frames, `CSM_MODEL_SEED` where to begin: a disagreement names its seed.

mod build;
pub(crate) mod generate;
mod maps;
mod scene;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{Array, HashMap as BpfMap, MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::flow::{
    FLAG_ACK, FLAG_FIN, FLAG_FORWARD, FlowEntry, FlowKey, NONE, STATE_CLEARED, STATE_CLOSED, STATE_CLOSING,
    STATE_ESTABLISHED, STATE_SYN, STATE_SYN_ACK,
};
use csm_common::gate::GateState;
use csm_common::limits::Budget;
use csm_common::names;
use csm_common::service::{StickyEntry, StickyKey};
use csm_tests::model::scene::{By, Choice};
use csm_tests::model::table::{Conn, Key, State};
use csm_tests::model::{Made, Model, Sums};
use csm_tests::rig::{Rig, Run, Side, set_mtu};
use csm_tests::{rig, rig6};
use csm_user::dataplane::clear::clear;
use csm_user::dataplane::load::Capacity;
use csm_user::dataplane::selection::Selection;
use csm_user::dataplane::table::Table;

use generate::Generator;
use maps::Be;

/// Frames of a sequence, after which the tables are compared and emptied.
const SEQUENCE: u64 = 400;
const CAPACITY: Capacity = Capacity {
    connections: 1024,
    embryonic: 8192,
    sticky: 1024,
    vservers: 128,
    reals: 128,
    ipv6: true,
    router: false,
};
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn the_program_and_the_model_agree() {
    reach(&agree(|| Rig::with_capacity(CAPACITY), 3), &[Reason::DropPoolExhausted]);
}

#[test]
fn the_program_and_the_model_agree_on_a_trunk() {
    reach(&agree(|| Rig::on_trunk_with(CAPACITY), 3), &[Reason::DropPoolExhausted]);
}

#[test]
fn the_program_and_the_model_agree_in_bridge_mode() {
    let ends = agree(|| Rig::bridged_with(CAPACITY, Some(rig6::OWN6)), 3);
    reach(&ends, &[Reason::ForwardedBridged, Reason::DropLoop]);
}

#[track_caller]
fn reach(ends: &BTreeMap<&str, u64>, reasons: &[Reason]) {
    for reason in reasons {
        assert!(ends.contains_key(reason.name()), "the frames reach {reason:?}: {ends:?}");
    }
}

/// Compares them on a `share` of the frames. Gives how often each end was met.
fn agree(make: impl FnOnce() -> anyhow::Result<Rig>, share: u64) -> BTreeMap<&'static str, u64> {
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
    };
    let (frames, first_seed) = (number("CSM_MODEL_FRAMES", 100_000) / share, number("CSM_MODEL_SEED", 1));
    let mut bench = Bench::new(make().expect("the rig"));
    let (mut fed, mut ends) = (0, BTreeMap::new());
    for seed in first_seed.. {
        if fed >= frames {
            break;
        }
        bench.gate(seed);
        let mut generator = Generator::new(seed, &bench.model.scene);
        let agreed = (0..SEQUENCE).try_for_each(|index| {
            if index % 150 == 149 {
                bench.clear(seed + index);
            }
            // Later than that, so that there are connections whose clients are forgotten.
            if index % 200 == 199 {
                bench.forget_clients();
            }
            let (side, bytes) = generator.frame(&bench.model);
            let reason = bench.compare(side, &bytes, &format!("CSM_MODEL_SEED={seed}, frame {index}"))?;
            fed += 1;
            *ends.entry(reason.name()).or_default() += 1;
            Some(())
        });
        match agreed {
            Some(()) => bench.compare_tables(seed),
            None => bench.count_anew(),
        }
        bench.empty();
    }
    println!("{fed} frames; {ends:?}; connections: {:?}", bench.sorts);
    for sort in [
        "least connections",
        "both addresses",
        "rules",
        "ftp passive",
        "ftp active",
        "client's media",
        "server's media",
        "rebuilt",
        "another way back",
        "out by a firewall",
    ] {
        assert!(bench.sorts.contains_key(sort), "a connection of {sort} is proven");
    }
    reach(
        &ends,
        &[
            Reason::ForwardedFlow,
            Reason::ForwardedNew,
            Reason::ForwardedRouted,
            Reason::ForwardedIcmp,
            Reason::ForwardedFragment,
            Reason::ArpReplied,
            Reason::EchoReplied,
            Reason::TimeExceeded,
            Reason::TooBig,
            Reason::Relayed,
            Reason::DropProtocol,
            Reason::DropIcmp,
            Reason::DropSourceRoute,
            Reason::DropStatic,
            Reason::DropVserverFull,
            Reason::DropOwnerFull,
            Reason::DropStandby,
            Reason::DropRelay,
            Reason::ForwardedRebuilt,
            Reason::ResetSent,
            Reason::DropCleared,
        ],
    );
    ends
}

/// Both of them.
struct Bench {
    rig: Rig,
    model: Model,
    tables: (Tables<u32>, Tables<V6>),
    budgets: PerCpuArray<MapData, u64>,
    gue_ports: HashMap<IpAddr, u16>,
    /// Proven connections of what not every one is.
    sorts: BTreeMap<&'static str, u64>,
    /// Frames since the budgets were filled.
    since: u64,
}

/// The tables of a family, established and half open.
struct Tables<A: Be>([BpfMap<MapData, FlowKey<A>, FlowEntry<A>>; 2]);

impl<A: Be> Tables<A> {
    fn of(rig: &Rig) -> Self {
        Self(A::NAMES.flows.map(|name| rig.map(name)))
    }

    /// What was chosen for the connection that was opened under `key`.
    fn made(&self, key: &Key) -> Option<Made> {
        let key = FlowKey {
            src_be: A::be(key.src),
            dst_be: A::be(key.dst),
            sport_be: key.sport.to_be(),
            dport_be: key.dport.to_be(),
            vlan: key.vlan,
            proto: key.proto,
            pad: 0,
        };
        let entry = self.0[1].get(&key, 0).ok()?;
        let source = (entry.new_src_be.ip(), u16::from_be(entry.new_sport_be));
        Some(Made { source, real: (entry.real != NONE).then_some(entry.real) })
    }

    fn entries(&self, all: &mut BTreeMap<Key, Entry>) {
        for (table, proven) in self.0.iter().zip([true, false]) {
            for item in table {
                let (key, entry) = item.expect("a table");
                let key = Key {
                    src: key.src_be.ip(),
                    dst: key.dst_be.ip(),
                    sport: u16::from_be(key.sport_be),
                    dport: u16::from_be(key.dport_be),
                    vlan: key.vlan,
                    proto: key.proto,
                };
                assert!(
                    all.insert(key, Entry::found(&key, &entry, proven)).is_none(),
                    "{key:?} stands twice"
                );
            }
        }
    }
}

/// What is compared of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    proven: bool,
    forward: bool,
    state: u8,
    fin: bool,
    acked: Option<u32>,
    expect: Option<u32>,
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
    vlan: u16,
    hop: u32,
    service: Option<(u32, Option<u32>)>,
}

impl Entry {
    fn found<A: Be>(key: &Key, entry: &FlowEntry<A>, proven: bool) -> Self {
        let forward = entry.flags & FLAG_FORWARD != 0;
        let answered = forward && entry.state == STATE_SYN_ACK && key.proto == 6;
        let real = (entry.real != NONE).then_some(entry.real);
        Self {
            proven,
            forward,
            state: entry.state,
            fin: entry.flags & FLAG_FIN != 0,
            acked: (entry.flags & FLAG_ACK != 0).then_some(entry.ack),
            expect: answered.then_some(entry.expect_ack),
            src: (entry.new_src_be.ip(), u16::from_be(entry.new_sport_be)),
            dst: (entry.new_dst_be.ip(), u16::from_be(entry.new_dport_be)),
            vlan: entry.egress_vlan,
            hop: entry.nexthop,
            service: (entry.vserver != NONE).then_some((entry.vserver, real)),
        }
    }

    fn expected(conn: &Conn, forward: bool, proven: bool) -> Self {
        let state = match conn.state {
            State::Syn => STATE_SYN,
            State::SynAck => STATE_SYN_ACK,
            State::Established => STATE_ESTABLISHED,
            State::Closing => STATE_CLOSING,
            State::Closed => STATE_CLOSED,
            State::Cleared => STATE_CLEARED,
        };
        let answered = forward && conn.state == State::SynAck && conn.key.proto == 6;
        let (src, dst) = conn.leaves(forward);
        Self {
            proven,
            forward,
            state,
            fin: conn.fin[usize::from(!forward)],
            acked: conn.acked[usize::from(!forward)],
            expect: answered.then_some(conn.expect),
            src,
            dst,
            vlan: if forward { conn.server_vlan } else { conn.key.vlan },
            hop: if conn.state == State::Cleared { NONE } else { conn.towards(forward) },
            service: conn.service,
        }
    }
}

impl Bench {
    fn new(rig: Rig) -> Self {
        rig6::fill(&rig).expect("the maps");
        let ports: &[&str] = if rig.ports()[0].tagged { &["p0", "p0x"] } else { &["p0", "p0x", "p1", "p1x"] };
        for port in ports {
            set_mtu(port, scene::JUMBO).expect("an MTU");
        }
        let scene = scene::scene(&rig);
        maps::write::<u32>(&rig, &scene);
        maps::write::<V6>(&rig, &scene);
        Self {
            tables: (Tables::of(&rig), Tables::of(&rig)),
            budgets: rig.map(names::BUDGETS),
            gue_ports: HashMap::new(),
            sorts: BTreeMap::new(),
            since: 0,
            model: Model::new(scene),
            rig,
        }
    }

    /// One sequence of sixteen each with another gate.
    fn gate(&mut self, seed: u64) {
        self.model.gate = match seed % 16 {
            3 => GateState::RelayOut,
            7 => GateState::RelayIn,
            11 => GateState::Closed,
            _ => GateState::Open,
        };
        self.rig.gate(self.model.gate, HOUR);
    }

    /// One frame through both; `None`: this process stood still for so long that the program may have forgotten a datagram.
    fn compare(&mut self, side: Side, bytes: &[u8], place: &str) -> Option<Reason> {
        if self.since == 0 || !self.model.datagrams.is_sure() {
            self.refill();
        }
        self.since = (self.since + 1) % 32;
        let Run { reason, frame } = self.rig.run(side, bytes);
        let made = |key: &Key| match key.src {
            IpAddr::V4(_) => self.tables.0.made(key),
            IpAddr::V6(_) => self.tables.1.made(key),
        };
        let end = self.model.step(side, bytes, &made);
        if !self.model.datagrams.is_sure() {
            return None;
        }
        let at = |what: &str| {
            format!(
                "{what}: {place} on {side:?}\n  in    {}\n  model {:?} {}\n  csm   {:?} {}",
                hex(bytes),
                end.reason,
                end.out.as_ref().map_or(String::new(), |out| hex(&out.frame.0)),
                reason,
                hex(&frame),
            )
        };
        // Nobody empties the ring of fragments that wait: soon it has no room.
        let full = (reason, end.reason) == (Reason::DropFragmentEarly, Reason::HeldFragment);
        assert!(reason == end.reason || full, "{}", at("other end"));
        if let Some(out) = &end.out {
            assert!(out.is(&frame, &mut self.gue_ports), "{}", at("other frame"));
        }
        Some(reason)
    }

    /// All connections, or those of one client, are ended by hand.
    fn clear(&mut self, turn: u64) {
        let clients = [rig::FAR_CLIENT.ip.into(), rig6::FAR6.ip.into()];
        let client = (!turn.is_multiple_of(3)).then(|| clients[usize::from(turn % 3 == 1)]);
        let selection = Selection { client, ..Selection::default() };
        let (v4, v6) = (Table::<u32>::open(&self.rig.dataplane), Table::<V6>::open(&self.rig.dataplane));
        let mut rest = |_| ControlFlow::Continue(());
        clear(&v4.expect("tables"), &selection, &(Arc::new(drop) as _), &mut |_| (), &mut rest)
            .expect("cleared");
        clear(&v6.expect("tables"), &selection, &(Arc::new(drop) as _), &mut |_| (), &mut rest)
            .expect("cleared");
        self.model.tables.end_by_hand(|conn| client.is_none_or(|client| client == conn.key.src));
    }

    /// Forgets the sticky clients, as when their time is over; their connections go on.
    fn forget_clients(&mut self) {
        maps::forget_clients::<u32>(&self.rig);
        maps::forget_clients::<V6>(&self.rig);
        self.model.forget_clients();
    }

    /// Goes on from the program's own counts.
    fn count_anew(&mut self) {
        for (name, sums) in
            [(names::VSERVER_COUNTS, &mut self.model.sums), (names::REAL_COUNTS, &mut self.model.real_sums)]
        {
            for (&number, sums) in sums {
                *sums = counted(&self.rig, name, number);
            }
        }
    }

    /// Fills the buckets from which errors are sent, and forgets datagrams before the program does.
    fn refill(&mut self) {
        let empty = vec![0; nr_cpus().expect("CPUs")];
        let empty = PerCpuValues::try_from(empty).expect("one each");
        self.budgets.set(Budget::IcmpError as u32, empty, 0).expect("BUDGETS");
        if !self.model.datagrams.is_sure() {
            self.model.datagrams = csm_tests::model::fragment::Datagrams::default();
            maps::forget_datagrams::<u32>(&self.rig);
            maps::forget_datagrams::<V6>(&self.rig);
        }
    }

    fn compare_tables(&self, seed: u64) {
        let mut found = BTreeMap::new();
        self.tables.0.entries(&mut found);
        self.tables.1.entries(&mut found);
        let tables = &self.model.tables;
        let mut expected = BTreeMap::new();
        for (places, proven) in [(&tables.proven, true), (&tables.half_open, false)] {
            for (&key, &(id, forward)) in places {
                expected.insert(key, Entry::expected(tables.conn(id), forward, proven));
            }
        }
        for (key, entry) in &found {
            assert_eq!(Some(entry), expected.get(key), "CSM_MODEL_SEED={seed}: {key:?}");
        }
        assert_eq!(found.len(), expected.len(), "CSM_MODEL_SEED={seed}: entries");
        for (index, clients) in [&self.model.sticky, &self.model.sticky_half].into_iter().enumerate() {
            let mut found = BTreeMap::new();
            self.sticky::<u32>(index, &mut found);
            self.sticky::<V6>(index, &mut found);
            assert_eq!(found, *clients, "CSM_MODEL_SEED={seed}: sticky clients");
        }
        let loads: Array<MapData, u64> = self.rig.map(names::LOADS);
        for (&real, &load) in &self.model.loads {
            let found = loads.get(&real, 0).expect("LOADS").cast_signed();
            assert_eq!(found, load, "CSM_MODEL_SEED={seed}: connections of real {real}");
        }
        let places: Array<MapData, u64> = self.rig.map(names::PLACES);
        for number in self.model.scene.services.iter().flat_map(scene::limits) {
            let found = places.get(&number, 0).expect("PLACES").cast_signed();
            let expected = self.model.places.get(&number).copied().unwrap_or(0);
            assert_eq!(found, expected, "CSM_MODEL_SEED={seed}: connections that count for {number}");
        }
        for (name, sums) in
            [(names::VSERVER_COUNTS, &self.model.sums), (names::REAL_COUNTS, &self.model.real_sums)]
        {
            for (&number, sums) in sums {
                assert_eq!(counted(&self.rig, name, number), *sums, "CSM_MODEL_SEED={seed}: {name} {number}");
            }
        }
    }

    fn sticky<A: Be>(&self, index: usize, all: &mut BTreeMap<(u32, IpAddr), u32>) {
        let map: BpfMap<MapData, StickyKey<A>, StickyEntry> = self.rig.map(A::NAMES.sticky[index]);
        for item in &map {
            let (key, entry) = item.expect("sticky clients");
            all.insert((key.group, key.client_be.ip()), entry.real);
        }
    }

    /// Notes what of the model was met.
    fn note_sorts(&mut self) {
        let proven = |state| !matches!(state, State::Syn | State::SynAck | State::Cleared);
        for conn in self.model.tables.conns().iter().filter(|conn| proven(conn.state)) {
            let Some((number, real)) = conn.service else { continue };
            let service = self.model.scene.numbered(number);
            let data = service.data.filter(|&proto| proto == conn.key.proto);
            let (scene, client) = (&self.model.scene, conn.key.src);
            let by_route = scene.way(client).and_then(|(way, _)| scene.next(way, client));
            let is = [
                ("least connections", matches!(service.choice, Choice::Least(_))),
                ("both addresses", matches!(service.choice, Choice::Sticky { by: By::Both, .. })),
                ("rules", service.vlan.is_some() || service.clients.is_some()),
                ("ftp passive", data == Some(6) && real.is_some() && conn.key.dport != service.port),
                ("ftp active", data == Some(6) && real.is_none()),
                ("client's media", data == Some(17) && real.is_some()),
                ("server's media", data == Some(17) && real.is_none()),
                ("rebuilt", conn.window > 1),
                ("another way back", conn.via.is_some() && by_route != Some(conn.to_client)),
                ("out by a firewall", service.port == scene::OUTWARD_PORT),
            ];
            for (sort, _) in is.into_iter().filter(|(_, is)| *is) {
                *self.sorts.entry(sort).or_default() += 1;
            }
        }
    }

    fn empty(&mut self) {
        self.note_sorts();
        maps::empty::<u32>(&self.rig);
        maps::empty::<V6>(&self.rig);
        for number in self.model.scene.services.iter().flat_map(scene::limits) {
            self.rig.change(names::PLACES, number, |places: &mut u64| *places = 0);
        }
        self.model.clear();
        self.rig.forget_events();
    }
}

/// What the program has counted.
fn counted(rig: &Rig, name: &'static str, number: u32) -> Sums {
    let count = rig.service_count(name, number);
    Sums {
        connections: count.connections,
        client: (count.client_packets, count.client_bytes),
        server: (count.server_packets, count.server_bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
