//! Wire formats: what a heartbeat costs the real-time thread, and what a replicated change costs each side.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use csm_user::ft::State;
use csm_user::ft::wire::{Kind, LENGTH, Message};
use csm_user::model::StableId;
use csm_user::replication::delta::{Op, Record};
use csm_user::replication::record::{ConnKey, ConnRecord, ConnState};
use csm_user::replication::wire::{self, Frame};

fn heartbeat() -> Message {
    Message {
        kind: Kind::Heartbeat,
        group: 1,
        state: State::Active,
        priority: 20,
        forwardable: true,
        eligible: true,
        preempt: true,
        complete: true,
        hears_you: true,
        offer: false,
        keeper: true,
        node: 0x0123_4567_89ab_cdef,
        nonce: 0xfedc_ba98_7654_3210,
        peer_nonce: 0x0f1e_2d3c_4b5a_6978,
        sequence: 123_456,
        term: 7,
        heartbeat: Duration::from_millis(50),
        failover: Duration::from_millis(150),
        lease: Duration::from_millis(100),
        config_checksum: 0x1111_2222_3333_4444,
        software_checksum: 0x5555_6666_7777_8888,
        lag_ms: 3,
        mac: [0x02, 0, 0, 0, 0, 1],
        hold: Duration::ZERO,
        held: 0,
        witness: false,
        heard: 0,
        claimed: 0,
    }
}

fn heartbeats(criterion: &mut Criterion) {
    let message = heartbeat();
    let encoded = message.encode();
    let mut group = criterion.benchmark_group("heartbeat");
    group.throughput(Throughput::Bytes(LENGTH as u64));
    // The floor: to copy the datagram.
    group.bench_function("copy", |bencher| bencher.iter(|| black_box(black_box(&encoded).to_owned())));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&message).encode()));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| Message::decode(black_box(&encoded)).expect("encoded by us"));
    });
    group.finish();
}

/// A delta of `count` new connections of different clients.
fn delta(count: usize) -> Frame {
    let put = |number: usize| {
        let number = u16::try_from(number).expect("few");
        let [high, low] = number.to_be_bytes();
        Op::Put(Record::Connection(ConnRecord {
            key: ConnKey {
                proto: 6,
                client_vlan: 2,
                client: Ipv4Addr::new(10, 9, high, low).into(),
                client_port: 40_000 + number,
                virtual_address: Ipv4Addr::new(192, 158, 38, 30).into(),
                virtual_port: 80,
            },
            real: Ipv4Addr::new(192, 158, 39, 101).into(),
            real_port: 80,
            source: Ipv4Addr::new(10, 9, high, low).into(),
            source_port: 40_000 + number,
            server_vlan: 3,
            vserver: StableId(0x0123_4567_89ab_cdef),
            real_id: StableId(0xfedc_ba98_7654_3210),
            via: StableId::NONE,
            state: ConnState::Established,
            generation: u32::from(number),
            idle_s: 0,
        }))
    };
    Frame::Delta { seq: 1, ops: (0..count).map(put).collect() }
}

fn deltas(criterion: &mut Criterion) {
    for count in [1, 64, wire::ITEMS_MAX] {
        let frame = delta(count);
        let mut encoded = BytesMut::new();
        wire::encode(&frame, &mut encoded);
        let mut group = criterion.benchmark_group(format!("delta of {count}"));
        group.throughput(Throughput::Elements(count as u64));
        // The floor: to copy the frame.
        group.bench_function("copy", |bencher| bencher.iter(|| black_box(&encoded).clone()));
        group.bench_function("encode", |bencher| {
            bencher.iter_batched_ref(
                || BytesMut::with_capacity(encoded.len()),
                |out| wire::encode(black_box(&frame), out),
                BatchSize::SmallInput,
            );
        });
        group.bench_function("decode", |bencher| {
            bencher.iter_batched_ref(
                || encoded.clone(),
                |input| wire::decode(input).expect("encoded by us").expect("a whole frame"),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, heartbeats, deltas);
criterion_main!(benches);
