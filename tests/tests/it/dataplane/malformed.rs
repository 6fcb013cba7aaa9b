use csm_common::counter::{Reason, Verdict};
use csm_common::names;
use csm_tests::rig::{FAR_CLIENT, REALS, Rig, Run, Side, VIP};

use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, PSH, SERVER_ISN, SYN, expect_end, handshake};

const OPEN: L4 = L4::Tcp { flags: SYN, seq: 1, ack: 0 };

fn to_vip(l4: L4) -> Frame {
    Frame::from(&FAR_CLIENT, CLIENT_PORT, (VIP, 80), l4)
}

#[test]
fn frames_cut_at_every_length_are_dropped() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let data = L4::Tcp { flags: PSH | ACK, seq: CLIENT_ISN + 1, ack: SERVER_ISN.wrapping_add(1) };
    for l4 in [data, L4::Udp, L4::EchoRequest { id: 1 }] {
        let whole = to_vip(l4).payload(b"payload").bytes();
        // The kernel runs no program on less than an Ethernet header.
        for length in 14..whole.len() {
            let cut = &whole[..length];
            assert_eq!(
                rig.run(Side::Client, cut),
                Run { reason: Reason::DropMalformed, frame: cut.to_vec() },
                "{length} bytes"
            );
        }
    }
}

#[test]
fn arp_cut_at_every_length_is_dropped() {
    let mut rig = Rig::new().expect("the rig");
    let mut whole = to_vip(OPEN).bytes();
    whole[12..14].copy_from_slice(&[0x08, 0x06]);
    for length in 14..42 {
        assert_eq!(rig.run(Side::Client, &whole[..length]).reason, Reason::DropMalformed, "{length} bytes");
    }
}

#[test]
fn padding_behind_the_packet_is_left_alone() {
    let mut rig = Rig::new().expect("the rig");
    let frame = to_vip(OPEN);
    let mut padded = frame.bytes();
    padded.resize(60, 0xaa);
    let mut out = frame.sent_to(&REALS[0], 80).bytes();
    out.resize(60, 0xaa);
    assert_eq!(rig.run(Side::Client, &padded), Run { reason: Reason::ForwardedNew, frame: out });
}

/// Name, what is done to a good SYN's bytes, reason.
type Fault = (&'static str, fn(&mut Vec<u8>), Reason);

const FAULTS: &[Fault] = &[
    ("version 6 in an IPv4 frame", |f| f[14] = 0x65, Reason::DropMalformed),
    ("version 0", |f| f[14] = 0x05, Reason::DropMalformed),
    ("header of four words", |f| f[14] = 0x44, Reason::DropMalformed),
    ("header with options that are none", |f| f[14] = 0x46, Reason::DropMalformed),
    ("longest header", |f| f[14] = 0x4f, Reason::DropMalformed),
    ("length 0", |f| f[16..18].fill(0), Reason::DropMalformed),
    ("length of the IP header alone", |f| f[17] = 20, Reason::DropMalformed),
    ("length one short of the TCP header", |f| f[17] = 39, Reason::DropMalformed),
    ("length one beyond the frame", |f| f[17] = 41, Reason::DropMalformed),
    ("longest length", |f| f[16..18].fill(0xff), Reason::DropMalformed),
    ("first fragment", |f| f[20] = 0x20, Reason::DropFragment),
    ("last fragment", |f| f[21] = 1, Reason::HeldFragment),
    ("fragment at the highest offset", |f| f[20..22].copy_from_slice(&[0x1f, 0xff]), Reason::DropFragment),
    ("from the destination itself", |f| f.copy_within(30..34, 26), Reason::DropMalformed),
    ("GRE to no virtual server", |f| f[23] = 47, Reason::DropNoVserver),
    ("IGMP to no virtual server", |f| f[23] = 2, Reason::DropNoVserver),
    ("TCP header of four words", |f| f[46] = 0x40, Reason::DropMalformed),
    ("TCP header of no words", |f| f[46] = 0, Reason::DropMalformed),
    ("TCP options beyond the packet", |f| f[46] = 0x60, Reason::DropMalformed),
];

#[test]
fn contradictions_are_dropped() {
    let mut rig = Rig::new().expect("the rig");
    for (name, damage, reason) in FAULTS {
        let mut bytes = to_vip(OPEN).bytes();
        damage(&mut bytes);
        assert_eq!(rig.run(Side::Client, &bytes), Run { reason: *reason, frame: bytes }, "{name}");
    }
    let mut short = to_vip(L4::Udp).bytes();
    for length in [0u8, 7, 9] {
        short[39] = length;
        assert_eq!(rig.run(Side::Client, &short).reason, Reason::DropMalformed, "UDP length {length}");
    }
    assert_eq!(rig.flows(names::EMBRYONIC), []);
}

#[test]
fn the_dont_fragment_bit_is_no_fragment() {
    let mut rig = Rig::new().expect("the rig");
    let mut bytes = to_vip(OPEN).bytes();
    bytes[20] |= 0x40;
    assert_eq!(rig.run(Side::Client, &bytes).reason, Reason::ForwardedNew);
}

#[test]
fn broadcasts_are_the_kernels() {
    let mut rig = Rig::new().expect("the rig");
    let frame = Frame { dst_mac: [0xff; 6], ..to_vip(L4::Udp) };
    expect_end(&mut rig, Side::Client, &frame, Reason::PassHost);
}

/// Of a protocol without ports nothing behind the IP header is read; that header must fit in all the same.
#[test]
fn a_packet_shorter_than_its_ip_header_is_malformed_whatever_its_protocol() {
    let mut rig = Rig::new().expect("the rig");
    for (total, reason) in [(19, Reason::DropMalformed), (20, Reason::DropNoVserver)] {
        let mut bytes = to_vip(L4::Udp).bytes();
        bytes[16..18].copy_from_slice(&[0, total]);
        bytes[23] = 47;
        assert_eq!(rig.run(Side::Client, &bytes).reason, reason, "total length {total}");
    }
}

/// A small generator, so that a failure can be replayed from the seed in its message.
fn noise(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

#[test]
fn noise_in_any_octet_ends_in_one_counted_verdict() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let good = [to_vip(OPEN).bytes(), to_vip(L4::Udp).bytes(), to_vip(L4::EchoRequest { id: 1 }).bytes()];
    for seed in 1..=2_000u64 {
        let mut next = noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = good[usize::try_from(next() % 3).expect("below 3")].clone();
        for _ in 0..=next() % 4 {
            let at = usize::try_from(next()).expect("64 bits") % bytes.len();
            bytes[at] = next().to_le_bytes()[0];
        }
        // `run` asserts that exactly one counter rose and that the action fits it.
        let run = rig.run(Side::Client, &bytes);
        if run.reason == Reason::TimeExceeded {
            continue;
        }
        assert_eq!(run.frame.len(), bytes.len(), "seed {seed}");
        if run.reason.verdict() != Verdict::Forward {
            assert_eq!(run.frame, bytes, "seed {seed}: what is not sent on is not changed");
        }
    }
}
