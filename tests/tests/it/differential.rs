//! The program and a plain model of it (`csm_tests::model`) on the same frames: sequences of valid, odd, damaged and
//! truncated ones, on connections that the model knows and on others. Same reason, same frame, same counters, and at the end of
//! each sequence the same connections.
//!
//! `CSM_MODEL_FRAMES` says how many frames, `CSM_MODEL_SEED` where to begin: a disagreement names its seed.

pub(crate) mod generate;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use aya::maps::{HashMap, MapData};
use csm_common::counter::Reason;
use csm_common::flow::{
    FLAG_ACK, FLAG_FIN, FLAG_FORWARD, FlowEntry, FlowKey, STATE_CLOSED, STATE_CLOSING, STATE_ESTABLISHED,
    STATE_SYN, STATE_SYN_ACK,
};
use csm_common::names;
use csm_common::service::VSERVER_DISPATCH;
use csm_tests::model::frame::Frame;
use csm_tests::model::table::{Conn, Key, State};
use csm_tests::model::{Model, Service, Sums};
use csm_tests::rig::{ANY_TCP, DNS, REALS, Rig, Side, WEB};
use csm_user::dataplane::load::Capacity;

use generate::Generator;

/// Frames of a sequence, after which the tables are compared and emptied.
const SEQUENCE: u64 = 400;

#[test]
fn the_program_and_the_model_agree() {
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
    };
    let (frames, first_seed) = (number("CSM_MODEL_FRAMES", 100_000), number("CSM_MODEL_SEED", 1));
    let mut rig = Rig::with_capacity(Capacity {
        connections: 1024,
        embryonic: 4096,
        sticky: 64,
        vservers: 16,
        reals: 16,
        ipv6: false,
    })
    .expect("the rig");
    let mut model = scene();
    let (mut fed, mut left_out, mut ends) = (0, 0, BTreeMap::<&str, u64>::new());
    for seed in first_seed.. {
        if fed >= frames {
            break;
        }
        dispatch(&rig, &mut model, seed % 2 == 0);
        let mut generator = Generator::new(seed);
        for index in 0..SEQUENCE {
            let (side, bytes) = generator.frame(&model);
            let Some(end) = model.step(side, &bytes) else {
                left_out += 1;
                continue;
            };
            let run = rig.run(side, &bytes);
            let at = || {
                format!(
                    "CSM_MODEL_SEED={seed}, frame {index} on {side:?}\n  in    {}\n  model {:?} {}\n  csm   {:?} {}",
                    hex(&bytes),
                    end.reason,
                    end.frame.as_ref().map_or(String::new(), |frame| hex(frame.bytes())),
                    run.reason,
                    hex(&run.frame),
                )
            };
            // Nobody empties the ring of fragments that wait: soon it has no room.
            let full = (run.reason, end.reason) == (Reason::DropFragmentEarly, Reason::HeldFragment);
            assert!(run.reason == end.reason || full, "{}", at());
            if let Some(frame) = &end.frame {
                let same = frame.same(&run.frame, &Frame::of(&bytes))
                    || frame.same_but_zeros(&run.frame, &end.zeros);
                assert!(same, "other frame: {}", at());
            }
            fed += 1;
            *ends.entry(end.reason.name()).or_default() += 1;
        }
        assert_eq!(entries(&rig), expected(&model), "CSM_MODEL_SEED={seed}: the tables");
        assert_counts(&rig, &model);
        empty(&mut rig, &mut model);
    }
    println!("{fed} frames, {left_out} more left out; {ends:?}");
    let seen = |name: &str| ends.contains_key(name);
    for name in [
        "forwarded_flow",
        "forwarded_new",
        "forwarded_routed",
        "forwarded_icmp",
        "forwarded_fragment",
        "arp_replied",
        "echo_replied",
        "drop_protocol",
        "drop_icmp_unmatched",
    ] {
        assert!(seen(name), "the frames reach {name}: {ends:?}");
    }
}

/// The rig's virtual servers.
fn scene() -> Model {
    let ring = |first: u32, port: u16| {
        (first..).zip(REALS.iter()).map(|(number, host)| (number, host.ip, port)).collect::<Vec<_>>()
    };
    let service = |number, proto, port, ring| Service {
        number,
        proto,
        port,
        ring,
        in_service: true,
        turns: 0,
        dispatch: false,
    };
    Model::new(vec![
        service(WEB, 6, 80, ring(0, 0)),
        service(DNS, 17, 53, ring(3, 5353)),
        service(ANY_TCP, 6, 0, vec![(0, REALS[0].ip, 0)]),
    ])
}

/// Has the web's reals own the virtual address, or not.
fn dispatch(rig: &Rig, model: &mut Model, on: bool) {
    rig.vserver(WEB, |vserver| {
        vserver.flags &= !VSERVER_DISPATCH;
        vserver.flags |= if on { VSERVER_DISPATCH } else { 0 };
    });
    model.services[WEB as usize].dispatch = on;
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
    src: (Ipv4Addr, u16),
    dst: (Ipv4Addr, u16),
    vlan: u16,
    service: Option<(u32, u32)>,
}

fn entries(rig: &Rig) -> BTreeMap<Key, Entry> {
    let ip = |be: u32| Ipv4Addr::from(be.to_ne_bytes());
    let mut all = BTreeMap::new();
    for (table, proven) in [(names::FLOWS, true), (names::EMBRYONIC, false)] {
        for (key, entry) in rig.flows(table) {
            let forward = entry.flags & FLAG_FORWARD != 0;
            let answered = forward && entry.state == STATE_SYN_ACK && key.proto == 6;
            let value = Entry {
                proven,
                forward,
                state: entry.state,
                fin: entry.flags & FLAG_FIN != 0,
                acked: (entry.flags & FLAG_ACK != 0).then_some(entry.ack),
                expect: answered.then_some(entry.expect_ack),
                src: (ip(entry.new_src_be), u16::from_be(entry.new_sport_be)),
                dst: (ip(entry.new_dst_be), u16::from_be(entry.new_dport_be)),
                vlan: entry.egress_vlan,
                service: (entry.vserver != u32::MAX).then_some((entry.vserver, entry.real)),
            };
            let FlowKey { src_be, dst_be, sport_be, dport_be, vlan, proto, .. } = key;
            let key = Key {
                src: ip(src_be),
                dst: ip(dst_be),
                sport: u16::from_be(sport_be),
                dport: u16::from_be(dport_be),
                vlan,
                proto,
            };
            assert!(all.insert(key, value).is_none(), "{key:?} stands in both tables");
        }
    }
    all
}

fn expected(model: &Model) -> BTreeMap<Key, Entry> {
    let tables = &model.tables;
    let places = |places: &std::collections::HashMap<Key, (u32, bool)>, proven: bool| {
        places
            .iter()
            .map(|(&key, &(id, forward))| (key, entry(tables.conn(id), forward, proven)))
            .collect::<Vec<_>>()
    };
    places(&tables.proven, true).into_iter().chain(places(&tables.half_open, false)).collect()
}

fn entry(conn: &Conn, forward: bool, proven: bool) -> Entry {
    let state = match conn.state {
        State::Syn => STATE_SYN,
        State::SynAck => STATE_SYN_ACK,
        State::Established => STATE_ESTABLISHED,
        State::Closing => STATE_CLOSING,
        State::Closed => STATE_CLOSED,
    };
    let answered = forward && conn.state == State::SynAck && conn.key.proto == 6;
    let (src, dst) =
        if forward { (conn.client(), conn.server) } else { (conn.virtual_server(), conn.client()) };
    Entry {
        proven,
        forward,
        state,
        fin: conn.fin[usize::from(!forward)],
        acked: conn.acked[usize::from(!forward)],
        expect: answered.then_some(conn.expect),
        src,
        dst,
        vlan: if forward { conn.server_vlan } else { conn.key.vlan },
        service: conn.service,
    }
}

fn assert_counts(rig: &Rig, model: &Model) {
    for (name, sums) in [(names::VSERVER_COUNTS, &model.sums), (names::REAL_COUNTS, &model.real_sums)] {
        for (number, sums) in (0..).zip(sums) {
            let count = rig.service_count(name, number);
            let found = Sums {
                connections: count.connections,
                client: (count.client_packets, count.client_bytes),
                server: (count.server_packets, count.server_bytes),
            };
            assert_eq!(found, *sums, "{name} {number}");
        }
    }
}

fn empty(rig: &mut Rig, model: &mut Model) {
    for name in [names::FLOWS, names::EMBRYONIC] {
        let mut map: HashMap<MapData, FlowKey, FlowEntry> = rig.map(name);
        for (key, _) in rig.flows(name) {
            map.remove(&key).expect(name);
        }
    }
    model.tables.clear();
    rig.events();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// For the side that a connection's packets come in on.
fn side_of(vlan: u16) -> Side {
    if vlan == 2 { Side::Client } else { Side::Server }
}
