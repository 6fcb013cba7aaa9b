use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::{DecodeError, EXTENSIONS, FRAME_MAX, Frame, Hello, ITEMS_MAX, Mode, VERSIONS, decode, encode};
use crate::model::StableId;
use crate::replication::delta::{BucketSet, Op, Record};
use crate::replication::digest::{Bucket, empty};
use crate::replication::record::{
    ConnGone, ConnKey, ConnRecord, ConnState, Handshake, Refusal, StickyGroup, StickyKey, StickyRecord,
};
use crate::replication::testing::{connection, handshake, sticky};

/// Four addresses of one family.
fn any_addresses() -> impl Strategy<Value = (IpAddr, IpAddr, IpAddr, IpAddr)> {
    any::<(bool, [u128; 4])>().prop_map(|(v6, bits)| {
        let [a, b, c, d] = bits.map(|bits| match v6 {
            true => IpAddr::from(Ipv6Addr::from_bits(bits)),
            false => IpAddr::from(Ipv4Addr::from_bits(u32::try_from(bits >> 96).expect("32 bits"))),
        });
        (a, b, c, d)
    })
}

prop_compose! {
    fn any_conn_key()(proto: u8, client_vlan: u16, (client, virtual_address, ..) in any_addresses(), client_port: u16, virtual_port: u16) -> ConnKey {
        ConnKey { proto, client_vlan, client, client_port, virtual_address, virtual_port }
    }
}

prop_compose! {
    fn any_connection()((client, virtual_address, real, source) in any_addresses(), key in any_conn_key(), ports: [u16; 3], ids: [u64; 2], closing: bool, words: [u32; 2]) -> ConnRecord {
        ConnRecord {
            key: ConnKey { client, virtual_address, ..key },
            real,
            real_port: ports[0],
            source,
            source_port: ports[2],
            server_vlan: ports[1],
            vserver: StableId(ids[0]),
            real_id: StableId(ids[1]),
            via: if words[1] % 2 == 0 { StableId::NONE } else { StableId(ids[0]) },
            state: if closing { ConnState::Closing } else { ConnState::Established },
            generation: words[0],
            idle_s: words[1],
        }
    }
}

prop_compose! {
    fn any_handshake()(becomes in any_connection(), answered: bool, expect: u32) -> Handshake {
        Handshake { becomes, answered, expect }
    }
}

prop_compose! {
    fn any_sticky_key()(shared: Option<u8>, vserver: u64, (client, ..) in any_addresses()) -> StickyKey {
        let group = shared.map_or(StickyGroup::Private(StableId(vserver)), StickyGroup::Shared);
        StickyKey { group, client }
    }
}

prop_compose! {
    fn any_sticky()(key in any_sticky_key(), real: u64, life_s: u32, idle_s: u32) -> StickyRecord {
        StickyRecord { key, real_id: StableId(real), life_s, idle_s }
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![any_connection().prop_map(Record::Connection), any_sticky().prop_map(Record::Sticky)]
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        any_record().prop_map(Op::Put),
        (any_conn_key(), any::<u32>()).prop_map(|(key, generation)| Op::Closed(ConnGone { key, generation })),
        any_sticky_key().prop_map(Op::StickyGone),
    ]
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let refused = (any::<u16>(), 0..Refusal::ALL.len()).prop_map(|(at, index)| (at, Refusal::ALL[index]));
    prop_oneof![
        any::<(u16, u16, u8, u64, u64)>().prop_map(|(low, high, group, from, to)| Frame::Hello(Hello {
            versions: (low, high),
            group,
            from,
            to
        })),
        any::<(u64, u64, bool, [u64; 4])>().prop_map(|(seq, epoch, merge, words)| Frame::Begin {
            seq,
            epoch,
            mode: if merge { Mode::Merge } else { Mode::Mirror },
            buckets: BucketSet::from_words(words)
        }),
        (any::<[u64; 2]>(), prop::collection::vec(any_record(), 0..40))
            .prop_map(|([seq, epoch], records)| Frame::Chunk { seq, epoch, records }),
        any::<[u64; 3]>().prop_map(|[seq, epoch, count]| Frame::End { seq, epoch, count }),
        (any::<u64>(), prop::collection::vec(any_op(), 0..40))
            .prop_map(|(seq, ops)| Frame::Delta { seq, ops }),
        (any::<u64>(), prop::collection::vec(refused, 0..40))
            .prop_map(|(seq, refused)| Frame::Ack { seq, refused }),
        any::<u64>().prop_map(|round| Frame::DigestRequest { round }),
        (any::<u64>(), any::<u8>(), any::<(u32, u32, u64)>()).prop_map(
            |(round, at, (connections, sticky, sum))| {
                let mut buckets = empty();
                buckets[usize::from(at)] = Bucket { connections, sticky, sum };
                Frame::Digest { round, buckets }
            }
        ),
        any::<(u64, bool, u32)>().prop_map(|(epoch, caught_up, lag_ms)| Frame::Heartbeat {
            epoch,
            caught_up,
            lag_ms
        }),
        Just(Frame::Alive),
        prop::collection::vec(any_handshake(), 0..40).prop_map(|handshakes| Frame::Handshakes { handshakes }),
        (EXTENSIONS + 1..).prop_map(|kind| Frame::Extension { kind }),
    ]
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_the_stream_is_cut(frames in prop::collection::vec(any_frame(), 1..6), step in 1usize..3000) {
        let mut sent = BytesMut::new();
        frames.iter().for_each(|frame| encode(frame, &mut sent));
        let (mut input, mut got) = (BytesMut::new(), Vec::new());
        for piece in sent.chunks(step) {
            input.put_slice(piece);
            while let Some(frame) = decode(&mut input).expect("what encode made is good") {
                got.push(frame);
            }
        }
        prop_assert_eq!(got, frames);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn arbitrary_octets_never_panic_and_never_grow(octets in prop::collection::vec(any::<u8>(), 0..600), kind in 0u8..12) {
        // As they come, and behind a header that lets the body be read.
        let mut input = BytesMut::from(&octets[..]);
        while let Ok(Some(_)) = decode(&mut input) {}
        let mut input = BytesMut::new();
        input.put_u32(u32::try_from(octets.len()).unwrap_or(0) + 1);
        input.put_u8(kind);
        input.put_slice(&octets);
        while let Ok(Some(frame)) = decode(&mut input) {
            let mut again = BytesMut::new();
            encode(&frame, &mut again);
            prop_assert_eq!(&again[5..], &octets[..], "what is accepted has one form only");
        }
    }

    #[test]
    fn a_flipped_octet_is_an_error_or_another_valid_frame(frame in any_frame(), at: prop::sample::Index, flip in 1u8..) {
        let mut octets = BytesMut::new();
        encode(&frame, &mut octets);
        let at = at.index(octets.len());
        octets[at] ^= flip;
        if let Ok(Some(other)) = decode(&mut octets) {
            prop_assert_ne!(other, frame);
        }
    }
}

fn octets(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    encode(frame, &mut out);
    out
}

#[test]
fn a_hello_stands_as_documented() {
    let hello = Hello { versions: VERSIONS, group: 1, from: 0x0102_0304_0506_0708, to: 9 };
    let expected = [
        0, 0, 0, 26, 1, b'C', b'S', b'M', b'R', 0, 4, 0, 7, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9,
    ];
    assert_eq!(octets(&Frame::Hello(hello))[..], expected);
}

#[test]
fn a_delta_stands_as_documented() {
    let record = connection(0x0a_0b0c, 101, 0x0102_0304);
    let frame = Frame::Delta {
        seq: 7,
        ops: vec![Op::Put(Record::Connection(record)), Op::StickyGone(sticky(4, 1).key)],
    };
    let mut expected = vec![0, 0, 0, 80, 5, 0, 0, 0, 0, 0, 0, 0, 7, 0, 2];
    expected.extend([1, 6, 0, 2, 10, 10, 11, 12, 0x9c, 0x40, 192, 158, 38, 30, 0, 80]);
    expected.extend([192, 158, 39, 101, 0, 80, 10, 10, 11, 12, 0x9c, 0x40, 0, 3]);
    expected.extend(record.vserver.0.to_be_bytes());
    expected.extend(record.real_id.0.to_be_bytes());
    expected.extend([1, 1, 2, 3, 4, 0, 0, 0, 0]);
    expected.extend([4, 0, 0, 0, 0, 0, 0, 0, 0, 10, 10, 0, 0, 4]);
    assert_eq!(octets(&frame)[..], expected);
}

#[test]
fn a_delta_of_ipv6_stands_as_documented() {
    let record = connection(0x0b_0b0d, 101, 0x0102_0304);
    let gone = ConnGone { key: record.key, generation: 5 };
    let ops = vec![
        Op::Put(Record::Connection(record)),
        Op::Closed(gone),
        Op::Put(Record::Sticky(sticky(8, 1))),
        Op::StickyGone(sticky(8, 1).key),
    ];
    let (client, virtual_address) = (
        [0xfd, 0, 0, 10, 0, 0x0b, 0, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0x0d],
        [0xfd, 0, 0, 192, 0, 158, 0, 38, 0, 0, 0, 0, 0, 0, 0, 30],
    );
    let key = [&[6, 0, 2], &client[..], &[0x9c, 0x40], &virtual_address[..], &[0, 80]].concat();
    let mut body = vec![5, 0, 0, 0, 0, 0, 0, 0, 7, 0, 4, 5];
    body.extend(&key);
    body.extend([0xfd, 0, 0, 192, 0, 158, 0, 39, 0, 0, 0, 0, 0, 0, 0, 101, 0, 80]);
    body.extend([&client[..], &[0x9c, 0x40, 0, 3]].concat());
    body.extend(record.vserver.0.to_be_bytes());
    body.extend(record.real_id.0.to_be_bytes());
    body.extend([1, 1, 2, 3, 4, 0, 0, 0, 0, 6]);
    body.extend(&key);
    body.extend([0, 0, 0, 5]);
    let sticky_key = [0, 0, 0, 0, 0, 0, 0, 0, 10, 0xfd, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8];
    body.push(7);
    body.extend(sticky_key);
    body.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 7, 8, 0, 0, 0, 0, 8]);
    body.extend(sticky_key);
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    assert_eq!(octets(&Frame::Delta { seq: 7, ops })[..], [&length[..], &body].concat());
}

#[test]
fn handshakes_stand_as_documented() {
    let told = Handshake { expect: 0x0506_0708, ..handshake(0x0a_0b0c, 101, 0x0102_0304) };
    let mut expected = vec![0, 0, 0, 63, 128, 0, 1];
    expected.extend([1, 6, 0, 2, 10, 10, 11, 12, 0x9c, 0x40, 192, 158, 38, 30, 0, 80]);
    expected.extend([192, 158, 39, 101, 0, 80, 10, 10, 11, 12, 0x9c, 0x40, 0, 3]);
    expected.extend(told.becomes.vserver.0.to_be_bytes());
    expected.extend(told.becomes.real_id.0.to_be_bytes());
    expected.extend([1, 1, 2, 3, 4, 0, 0, 0, 0, 1, 5, 6, 7, 8]);
    assert_eq!(octets(&Frame::Handshakes { handshakes: vec![told] })[..], expected);
}

#[test]
fn a_way_back_is_told_behind_the_connection_to_one_who_knows_of_it() {
    let plain = connection(0x0a_0b0c, 101, 0x0102_0304);
    let record = |via| Record::Connection(ConnRecord { via: StableId(via), ..plain });
    let chunk = |record| Frame::Chunk { seq: 1, epoch: 2, records: vec![record] };
    let said = |version| octets(&chunk(record(0x0102_0304_0506_0708)).said_in(version));
    let (old, new) = (said(6), said(7));
    assert_eq!(old, octets(&chunk(Record::Connection(plain))));
    let (head, tag) = (4 + 1 + 8 + 8 + 2, [old[23], new[23]]);
    assert_eq!((tag, &new[head + 1..old.len()]), ([1, 9], &old[head + 1..]));
    assert_eq!(new[old.len()..], [1, 2, 3, 4, 5, 6, 7, 8]);
    let op = |via| Frame::Delta { seq: 1, ops: vec![Op::Put(record(via))] };
    assert_eq!((op(7).said_in(6), op(7).said_in(7)), (op(0), op(7)));
}

#[test]
fn the_largest_frame_fits() {
    let longest =
        |number: u32| Record::Connection(ConnRecord { via: StableId(1), ..connection(2 * number + 1, 1, 1) });
    let records = (0..512).map(longest).collect::<Vec<_>>();
    assert_eq!(records.len(), ITEMS_MAX);
    let mut out = octets(&Frame::Chunk { seq: 1, epoch: 1, records });
    assert!(out.len() - 4 <= FRAME_MAX);
    assert!(matches!(decode(&mut out), Ok(Some(Frame::Chunk { .. }))));
    let handshakes = (0..512).map(|number| handshake(2 * number + 1, 1, 1)).collect::<Vec<_>>();
    let mut out = octets(&Frame::Handshakes { handshakes });
    assert!(out.len() - 4 <= FRAME_MAX);
    assert!(matches!(decode(&mut out), Ok(Some(Frame::Handshakes { .. }))));
}

#[test]
fn each_fault_has_its_error() {
    let cases: [(&[u8], DecodeError); 10] = [
        (&[0, 0, 0, 0], DecodeError::Length(0)),
        (&[0, 1, 0, 1], DecodeError::Length(65_537)),
        (&[0, 0, 0, 1, 77], DecodeError::Kind(77)),
        (&[0, 0, 0, 2, 7, 1], DecodeError::Short(7)),
        (&[0, 0, 0, 3, 10, 1, 2], DecodeError::Long { kind: 10, left: 2 }),
        (&[0, 0, 0, 5, 1, 1, 2, 3, 4], DecodeError::Value { field: "magic", value: 0x0102_0304 }),
        (&[0, 0, 0, 11, 5, 0, 0, 0, 0, 0, 0, 0, 1, 4, 1], DecodeError::Items(1025)),
        (
            &[0, 0, 0, 12, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 11],
            DecodeError::Value { field: "operation", value: 11 },
        ),
        // A handshake is of a connection.
        (&[0, 0, 0, 4, 128, 0, 1, 3], DecodeError::Value { field: "handshake", value: 3 }),
        (&[0, 0, 0, 10, 9, 0, 0, 0, 0, 0, 0, 0, 1, 2], DecodeError::Value { field: "caught up", value: 2 }),
    ];
    for (octets, error) in cases {
        assert_eq!(decode(&mut BytesMut::from(octets)), Err(error), "{octets:?}");
    }
    assert_eq!(decode(&mut BytesMut::from(&[0, 0, 0][..])), Ok(None));
}
