//! Fragments of IPv4 datagrams: in order, out of order, and such as no honest sender makes.

use std::sync::atomic::Ordering;

use aya::maps::{HashMap, MapData, RingBuf};
use csm_common::counter::Reason;
use csm_common::fragment::{Fragment, FragmentKey, HELD_HEAD_BYTES};
use csm_common::limits::FRAGMENT_LIFE_NS;
use csm_common::names;
use csm_tests::rig::{ALIAS, DNS, FAR_CLIENT, NEAR_CLIENT, OWN, REALS, Rig, Run, Side, VIP};
use csm_user::dataplane::task::fragments::FragmentThread;
use etherparse::{IpFragOffset, Ipv4Header};

use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, PSH, SERVER_ISN, handshake};
use super::icmp_send::error;
use super::live::Wire;
use super::trunk::tagged;
use crate::soon::soon;

const ID: u16 = 0xbeef;

/// The part of `frame`'s datagram from octet `from` to before `to`, as a fragment.
fn piece(frame: &Frame, id: u16, from: usize, to: usize) -> Vec<u8> {
    let bytes = frame.bytes();
    let (mut header, datagram) = Ipv4Header::from_slice(&bytes[14..]).expect("a header");
    header.dont_fragment = false;
    header.identification = id;
    header.more_fragments = to < datagram.len();
    header.fragment_offset = IpFragOffset::try_new(u16::try_from(from / 8).expect("short")).expect("short");
    header.total_len = u16::try_from(20 + to - from).expect("short");
    header.header_checksum = header.calc_header_checksum();
    [&bytes[..14], &header.to_bytes(), &datagram[from..to]].concat()
}

/// `frame` in pieces that begin at 0 and at the octets of `cuts`.
fn pieces(frame: &Frame, id: u16, cuts: &[usize]) -> Vec<Vec<u8>> {
    let length = frame.bytes().len() - 34;
    let starts = [0].iter().chain(cuts);
    let ends = cuts.iter().copied().chain([length]);
    starts.zip(ends).map(|(&from, to)| piece(frame, id, from, to)).collect()
}

/// A rig whose networks take what is in one piece here.
fn rig() -> Rig {
    let rig = Rig::new().expect("the rig");
    for hop in 0..5 {
        rig.next_hop(hop, |hop| hop.mtu = 9000);
    }
    rig
}

fn question() -> Frame {
    let payload: Vec<u8> = (0..4000_u32).map(|at| at.to_le_bytes()[0]).collect();
    Frame::from(&FAR_CLIENT, CLIENT_PORT, (VIP, 53), L4::Udp).payload(&payload)
}

/// Runs the pieces of `frame` and expects those of `out`, the first one for `reason`.
#[track_caller]
fn cross(rig: &mut Rig, side: Side, frame: &Frame, out: &Frame, reason: Reason, cuts: &[usize]) {
    let followers = if reason == Reason::EchoReplied { reason } else { Reason::ForwardedFragment };
    let pairs = pieces(frame, ID, cuts).into_iter().zip(pieces(out, ID, cuts));
    for (number, (piece, out)) in pairs.enumerate() {
        let reason = if number == 0 { reason } else { followers };
        assert_eq!(rig.run(side, &piece), Run { reason, frame: out }, "piece {number} of {cuts:?}");
    }
}

/// Lengths of the frames that the ring of held ones has now; 0: word to release.
fn held(rig: &Rig) -> Vec<u32> {
    let mut ring: RingBuf<MapData> = rig.map(names::HELD);
    let mut lengths = Vec::new();
    while let Some(item) = ring.next() {
        assert!(item.len() >= HELD_HEAD_BYTES);
        lengths.push(u32::from_ne_bytes(item[20..24].try_into().expect("four octets")));
    }
    lengths
}

#[test]
fn fragments_in_order_follow_the_first() {
    for cuts in [&[1480, 2960][..], &[8, 16, 24, 4000], &[1480]] {
        let mut rig = rig();
        let question = question();
        let out = question.clone().sent_to(&REALS[0], 5353);
        cross(&mut rig, Side::Client, &question, &out, Reason::ForwardedNew, cuts);
        let answer =
            Frame::from(&REALS[0], 5353, (FAR_CLIENT.ip, CLIENT_PORT), L4::Udp).payload(&question.payload);
        let told = answer.clone().answered_as(VIP, 53, &FAR_CLIENT);
        cross(&mut rig, Side::Server, &answer, &told, Reason::ForwardedFlow, cuts);
        let counts = rig.service_count(names::VSERVER_COUNTS, DNS);
        let packets = cuts.len() as u64 + 1;
        let bytes: u64 = pieces(&question, ID, cuts).iter().map(|piece| piece.len() as u64).sum();
        assert_eq!((counts.client_packets, counts.server_packets), (packets, packets));
        assert_eq!((counts.client_bytes, counts.server_bytes), (bytes, bytes));
        assert_eq!(held(&rig), [0_u32; 0]);
    }
}

#[test]
fn a_tcp_segment_in_pieces_is_put_through() {
    let mut rig = rig();
    handshake(&mut rig);
    let data = Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(&[9; 500]);
    let out = data.clone().sent_to(&REALS[0], 80);
    cross(&mut rig, Side::Client, &data, &out, Reason::ForwardedFlow, &[24, 256]);
    // The same datagram once more (a retransmission of the IP layer's), cut elsewhere.
    cross(&mut rig, Side::Client, &data, &out, Reason::ForwardedFlow, &[400]);
}

#[test]
fn pings_in_pieces_are_answered_or_routed() {
    let mut rig = rig();
    let payload: Vec<u8> = (0..3000_u32).map(|at| at.to_le_bytes()[0]).collect();
    for (side, host, address, ttl) in
        [(Side::Client, NEAR_CLIENT, VIP, 7), (Side::Server, REALS[1], ALIAS, 1)]
    {
        let request =
            Frame { ttl, ..Frame::from(&host, 0, (address, 0), L4::EchoRequest { id: 4 }).payload(&payload) };
        let reply = Frame {
            src_mac: request.dst_mac,
            dst_mac: request.src_mac,
            src: request.dst,
            dst: request.src,
            ttl: 64,
            l4: L4::EchoReply { id: 4 },
            ..request.clone()
        };
        cross(&mut rig, side, &request, &reply, Reason::EchoReplied, &[1480, 2960]);
    }
    let request = Frame::from(&REALS[2], 0, (FAR_CLIENT.ip, 0), L4::EchoRequest { id: 6 }).payload(&payload);
    let out = request.clone().routed_to(&FAR_CLIENT);
    cross(&mut rig, Side::Server, &request, &out, Reason::ForwardedRouted, &[1480, 2960]);
}

#[test]
fn a_fragment_before_its_first_is_handed_over_and_follows_when_it_comes_again() {
    let mut rig = rig();
    let question = question();
    let (came, out) = (
        pieces(&question, ID, &[1480, 2960]),
        pieces(&question.clone().sent_to(&REALS[0], 5353), ID, &[1480, 2960]),
    );
    for late in [2, 1] {
        let run = Run { reason: Reason::HeldFragment, frame: came[late].clone() };
        assert_eq!(rig.run(Side::Client, &came[late]), run);
    }
    let lengths = [2, 1].map(|late| u32::try_from(came[late].len()).expect("short"));
    assert_eq!(held(&rig), lengths);
    assert_eq!(rig.run(Side::Client, &came[0]), Run { reason: Reason::ForwardedNew, frame: out[0].clone() });
    assert_eq!(held(&rig), [0], "word that they may follow");
    for late in [2, 1] {
        let run = Run { reason: Reason::ForwardedFragment, frame: out[late].clone() };
        assert_eq!(rig.run(Side::Client, &came[late]), run);
    }
    assert_eq!(held(&rig), [0_u32; 0]);
}

#[test]
fn fragments_of_other_datagrams_do_not_follow() {
    let mut rig = rig();
    let question = question();
    let out = question.clone().sent_to(&REALS[0], 5353);
    cross(&mut rig, Side::Client, &question, &out, Reason::ForwardedNew, &[1480]);
    let other_id = piece(&question, ID + 1, 1480, 2960);
    assert_eq!(rig.run(Side::Client, &other_id).reason, Reason::HeldFragment);
    let elsewhere = piece(&question, ID, 1480, 2960);
    assert_eq!(rig.run(Side::Server, &elsewhere).reason, Reason::HeldFragment, "another VLAN");
    let tcp = Frame::client(ACK, 0, 0).payload(&[0; 4000]);
    assert_eq!(rig.run(Side::Client, &piece(&tcp, ID, 1480, 2960)).reason, Reason::HeldFragment);
    let mut notes: HashMap<MapData, FragmentKey, Fragment> = rig.map(names::FRAGMENTS);
    let all: Vec<_> = notes.iter().map(|item| item.expect("FRAGMENTS")).collect();
    for (key, note) in all {
        notes
            .insert(key, Fragment { noted_ns: note.noted_ns - FRAGMENT_LIFE_NS, ..note }, 0)
            .expect("FRAGMENTS");
    }
    let late = piece(&question, ID, 1480, 2960);
    assert_eq!(rig.run(Side::Client, &late).reason, Reason::HeldFragment, "an identification used anew");
}

#[test]
fn fragments_that_no_honest_sender_makes_are_refused() {
    let mut rig = rig();
    handshake(&mut rig);
    let data = Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(&[9; 500]);
    let out = data.clone().sent_to(&REALS[0], 80);
    cross(&mut rig, Side::Client, &data, &out, Reason::ForwardedFlow, &[256]);
    // RFC 1858 and RFC 3128: what lies over the first fragment could change the flags that were judged.
    for from in [8, 16, 248] {
        let run = rig.run(Side::Client, &piece(&data, ID, from, 400));
        assert_eq!(run.reason, Reason::DropFragment, "from octet {from}");
    }
    for (name, from, to, reason) in [
        ("a TCP header in pieces", 0, 8, Reason::DropMalformed),
        ("a TCP header short of its end", 0, 16, Reason::DropMalformed),
        ("a first one of odd length", 0, 250, Reason::DropFragment),
        ("a later one of odd length", 256, 301, Reason::DropFragment),
        ("an empty one", 256, 256, Reason::DropFragment),
    ] {
        let frame = piece(&data, ID, from, to);
        assert_eq!(rig.run(Side::Client, &frame), Run { reason, frame }, "{name}");
    }
    let mut beyond = piece(&data, ID, 256, 520);
    beyond[20..22].copy_from_slice(&[0x1f, 0xf8]);
    assert_eq!(rig.run(Side::Client, &beyond).reason, Reason::DropFragment, "beyond the longest datagram");
    let mut error = piece(&data, ID, 0, 256);
    (error[23], error[34]) = (1, 3);
    assert_eq!(rig.run(Side::Client, &error).reason, Reason::DropFragment, "an ICMP error in pieces");
    let good = piece(&data, ID, 256, 520);
    assert_eq!(
        rig.run(Side::Client, &good).reason,
        Reason::ForwardedFragment,
        "the honest one still follows"
    );
}

#[test]
fn a_later_fragment_has_ttl_and_length_like_any_packet() {
    let mut rig = rig();
    let question = question();
    let out = question.clone().sent_to(&REALS[0], 5353);
    cross(&mut rig, Side::Client, &question, &out, Reason::ForwardedNew, &[1480]);
    let dying = piece(&Frame { ttl: 1, ..question.clone() }, ID, 1480, 2960);
    assert_eq!(rig.run(Side::Client, &dying), Run { reason: Reason::DropTtl, frame: dying });
    rig.next_hop(0, |hop| hop.mtu = 1499);
    let long = piece(&question, ID, 1480, 2960);
    assert_eq!(rig.run(Side::Client, &long), Run { reason: Reason::DropTooBig, frame: long });
    rig.next_hop(0, |hop| hop.flags = 0);
    let short = piece(&question, ID, 1480, 1496);
    assert_eq!(rig.run(Side::Client, &short), Run { reason: Reason::DropUnresolved, frame: short });
}

#[test]
fn a_first_fragment_that_ends_here_takes_nobody_along() {
    let mut rig = rig();
    for (frame, reason) in [
        (Frame { dst: std::net::SocketAddrV4::new(VIP, 4000), ..question() }, Reason::DropNoVserver),
        (Frame { ttl: 1, ..question() }, Reason::TimeExceeded),
    ] {
        let [first, later] = &pieces(&frame, ID, &[1480])[..] else { panic!("two") };
        assert_eq!(rig.run(Side::Client, first).reason, reason);
        let early = rig.run(Side::Client, &later[..1514.min(later.len())]).reason;
        assert!(
            matches!(early, Reason::HeldFragment | Reason::DropMalformed | Reason::DropFragmentEarly),
            "{early:?}"
        );
    }
}

#[test]
fn there_is_room_for_only_so_many_that_wait() {
    let mut rig = rig();
    let long = Frame::from(&FAR_CLIENT, CLIENT_PORT, (VIP, 53), L4::Udp).payload(&[0; 5000]);
    let too_long = piece(&long, ID, 8, 8 + 1984);
    assert_eq!(rig.run(Side::Client, &too_long), Run { reason: Reason::DropFragmentEarly, frame: too_long });
    let mut taken = 0;
    for id in 0..2000 {
        let frame = piece(&long, id, 1480, 1488);
        match rig.run(Side::Client, &frame).reason {
            Reason::HeldFragment => taken += 1,
            Reason::DropFragmentEarly => break,
            other => panic!("{other:?}"),
        }
    }
    // The ring holds 510 of them with its own headers; the rate may stop it before.
    assert!((400..=510).contains(&taken), "{taken}");
}

#[test]
fn what_waits_is_received_once_more_after_the_first() {
    let rig = rig();
    let runner = rig.dataplane.runner().expect("the program");
    let thread = FragmentThread::spawn::<u32>(&rig.dataplane, runner).expect("the thread");
    let mut client = Wire::open("p0x").expect("the client's wire");
    let mut server = Wire::open("p1x").expect("the server's wire");
    let question = question();
    let cuts = [1480, 2960];
    for id in 0..20 {
        let (came, out) =
            (pieces(&question, id, &cuts), pieces(&question.clone().sent_to(&REALS[0], 5353), id, &cuts));
        for number in [2, 1, 0] {
            client.send_bytes(&came[number]);
        }
        // In the order in which they came, behind the first.
        for number in [0, 2, 1] {
            server.expect_bytes(&out[number]);
        }
    }
    let released = soon("the counter", || {
        let released = thread.counters.released.load(Ordering::Relaxed);
        (released == 40).then_some(released)
    });
    assert_eq!((released, thread.counters.refused.load(Ordering::Relaxed)), (40, 0));
    client.send_bytes(&piece(&question, 99, 1480, 2960));
    soon("its end", || (thread.counters.expired.load(Ordering::Relaxed) == 1).then_some(()));
}

#[test]
fn on_a_trunk_every_piece_keeps_to_its_vlan() {
    let mut rig = Rig::on_trunk().expect("the rig");
    let question = question();
    let (cuts, out) = ([1480, 2600], question.clone().sent_to(&REALS[0], 5353));
    let (came, out) = (pieces(&question, ID, &cuts), pieces(&out, ID, &cuts));
    let early = tagged(&came[2], 2);
    assert_eq!(rig.run(Side::Client, &early).reason, Reason::HeldFragment);
    let mut ring: RingBuf<MapData> = rig.map(names::HELD);
    let record = ring.next().expect("a frame").to_vec();
    // Length, tag, and the frame without its tag.
    assert_eq!(record[20..24], u32::try_from(came[2].len()).expect("short").to_ne_bytes());
    assert_eq!(record[24..28], 2_u32.to_ne_bytes());
    assert_eq!(record[HELD_HEAD_BYTES..HELD_HEAD_BYTES + came[2].len()], came[2]);
    for (number, reason) in
        [(0, Reason::ForwardedNew), (1, Reason::ForwardedFragment), (2, Reason::ForwardedFragment)]
    {
        let run = Run { reason, frame: tagged(&out[number], 3) };
        assert_eq!(rig.run(Side::Client, &tagged(&came[number], 2)), run, "piece {number}");
    }
    let probe = Frame { ttl: 1, ..Frame::from(&FAR_CLIENT, 1, (VIP, 80), L4::Udp) }.bytes();
    let frame = tagged(&error(FAR_CLIENT.mac, OWN, (11, 0, [0; 4]), &probe[14..]), 2);
    assert_eq!(rig.run(Side::Client, &tagged(&probe, 2)), Run { reason: Reason::TimeExceeded, frame });
}
