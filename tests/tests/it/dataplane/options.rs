//! IP options: balanced like any packet, but nobody prescribes the route.

use csm_common::counter::Reason;
use csm_tests::rig::{FAR_CLIENT, NEAR_CLIENT, OWN, REALS, Rig, Run, Side, VIP};
use etherparse::Ipv4Header;

use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, PSH, SERVER_ISN, SYN};
use super::icmp_send::error;

/// `frame` with options in its IP header.
fn with(frame: &Frame, options: &[u8]) -> Vec<u8> {
    let bytes = frame.bytes();
    let (mut header, rest) = Ipv4Header::from_slice(&bytes[14..]).expect("a header");
    header.options = options.try_into().expect("a multiple of four, up to 40");
    header.total_len += u16::try_from(options.len()).expect("up to 40");
    header.header_checksum = header.calc_header_checksum();
    [&bytes[..14], &header.to_bytes(), rest].concat()
}

/// Record route, timestamp, router alert, no-operations, the end before rubbish; the longest.
const HARMLESS: [&[u8]; 6] = [
    &[7, 7, 4, 0, 0, 0, 0, 0],
    &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[148, 4, 0, 0],
    &[1, 1, 1, 1, 1, 1, 1, 1],
    &[1, 0, 131, 9],
    &[1; 40],
];

#[test]
fn packets_with_options_are_balanced_both_ways() {
    for options in HARMLESS {
        let mut rig = Rig::new().expect("the rig");
        let steps = [
            (Side::Client, Frame::client(SYN, CLIENT_ISN, 0)),
            (Side::Server, Frame::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1)),
            (Side::Client, Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1))),
            (
                Side::Client,
                Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"data"),
            ),
        ];
        for (step, (side, frame)) in steps.into_iter().enumerate() {
            let out = match side {
                Side::Client => frame.clone().sent_to(&REALS[0], 80),
                _ => frame.clone().answered_as(VIP, 80, &FAR_CLIENT),
            };
            let reason = if step == 0 { Reason::ForwardedNew } else { Reason::ForwardedFlow };
            let run = Run { reason, frame: with(&out, options) };
            assert_eq!(rig.run(side, &with(&frame, options)), run, "{options:?}");
        }
        let question = Frame::from(&FAR_CLIENT, CLIENT_PORT, (VIP, 53), L4::Udp).payload(b"who?");
        let run = Run {
            reason: Reason::ForwardedNew,
            frame: with(&question.clone().sent_to(&REALS[0], 5353), options),
        };
        assert_eq!(rig.run(Side::Client, &with(&question, options)), run);
    }
}

#[test]
fn a_ping_with_options_is_answered_with_them() {
    let mut rig = Rig::new().expect("the rig");
    let request = Frame::from(&NEAR_CLIENT, 0, (VIP, 0), L4::EchoRequest { id: 3 }).payload(b"0123");
    let reply = Frame {
        src_mac: request.dst_mac,
        dst_mac: request.src_mac,
        src: request.dst,
        dst: request.src,
        l4: L4::EchoReply { id: 3 },
        ..request.clone()
    };
    let run = Run { reason: Reason::EchoReplied, frame: with(&reply, HARMLESS[0]) };
    assert_eq!(rig.run(Side::Client, &with(&request, HARMLESS[0])), run);
}

#[test]
fn a_prescribed_route_is_refused() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    for options in [
        &[131, 7, 4, 10, 0, 0, 1, 0][..],
        &[137, 7, 4, 10, 0, 0, 1, 0],
        &[1, 1, 1, 131, 7, 4, 10, 0, 0, 1, 0, 0],
        &[7, 3, 4, 137, 3, 4, 0, 0],
    ] {
        let frame = with(&syn, options);
        assert_eq!(
            rig.run(Side::Client, &frame),
            Run { reason: Reason::DropSourceRoute, frame },
            "{options:?}"
        );
    }
    // The same octets as another option's data prescribe nothing.
    let data = with(&syn, &[68, 8, 5, 0, 131, 7, 4, 0]);
    assert_eq!(rig.run(Side::Client, &data).reason, Reason::ForwardedNew);
}

#[test]
fn options_that_contradict_themselves_are_dropped() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    for options in [&[7, 0, 0, 0][..], &[7, 1, 0, 0], &[7, 5, 4, 0], &[1, 1, 1, 7], &[7, 255, 4, 0]] {
        let frame = with(&syn, options);
        assert_eq!(
            rig.run(Side::Client, &frame),
            Run { reason: Reason::DropMalformed, frame },
            "{options:?}"
        );
    }
    // Cut in the middle of the options, and right behind them.
    let whole = with(&syn, &[1; 40]);
    for length in 34..whole.len() {
        assert_eq!(rig.run(Side::Client, &whole[..length]).reason, Reason::DropMalformed, "{length} bytes");
    }
}

#[test]
fn the_error_about_a_packet_with_options_quotes_them() {
    let mut rig = Rig::new().expect("the rig");
    let probe = Frame { ttl: 1, ..Frame::from(&FAR_CLIENT, 1, (VIP, 80), L4::Udp).payload(b"0123456789") };
    for options in HARMLESS {
        let bytes = with(&probe, options);
        let frame = error(FAR_CLIENT.mac, OWN, (11, 0, [0; 4]), &bytes[14..]);
        assert_eq!(rig.run(Side::Client, &bytes), Run { reason: Reason::TimeExceeded, frame }, "{options:?}");
    }
}
