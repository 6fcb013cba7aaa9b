//! ICMPv6 errors: of others, translated outside and inside, and this node's own.

use std::net::Ipv6Addr;

use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::flow::STATE_CLEARED;
use csm_common::names;
use csm_common::{flow::FlowEntry, flow::FlowKey};
use csm_tests::rig::{Rig, Run, Side, VIRTUAL_MAC};
use csm_tests::rig6::{self, ALIAS6, FAR6, FIRST6, GATEWAY6, Host6, OWN6, REALS6, VIP6};
use etherparse::Icmpv6Type;

use super::frames::{Frame6, at, expect, handshake, icmp};
use crate::dataplane::frames::{ACK, CLIENT_ISN, CLIENT_PORT, L4, PSH, RST, SERVER_ISN, SYN};

/// Types and codes, with what stands before the quote.
const ERRORS: [(u8, u8, [u8; 4]); 4] =
    [(1, 4, [0; 4]), (2, 0, [0, 0, 5, 0x78]), (3, 0, [0; 4]), (4, 1, [0, 0, 0, 40])];
/// A router among the servers, and one among the clients.
const INNER_ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x27, 0, 0, 0, 0, 0x200);
const OUTER_ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1);

fn error(
    macs: ([u8; 6], [u8; 6]),
    ends: (Ipv6Addr, Ipv6Addr),
    hop_limit: u8,
    (type_u8, code_u8, bytes5to8): (u8, u8, [u8; 4]),
    quote: &[u8],
) -> Vec<u8> {
    let from = Host6 { mac: macs.0, ..FAR6 };
    let kind = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
    let mut frame = icmp(&from, ends.0, ends.1, hop_limit, kind, quote);
    frame[..6].copy_from_slice(&macs.1);
    frame
}

/// `frame` as an IP packet, its first `octets`.
fn quote(frame: &Frame6, octets: usize) -> Vec<u8> {
    let bytes = frame.bytes();
    bytes[14..bytes.len().min(14 + octets)].to_vec()
}

/// Errors of every kind and quotes of every length about `sent`, which the balancer made of `came`: they come in on `side`
/// from `mac` and go to `to`.
#[track_caller]
fn translated(rig: &mut Rig, side: Side, mac: [u8; 6], to: &Host6, came: &Frame6, sent: &Frame6) {
    let router = if side == Side::Server { INNER_ROUTER } else { OUTER_ROUTER };
    let (end, name) = (*sent.dst.ip(), *came.dst.ip());
    // The router saw it with the hop limit that the balancer left.
    let came = Frame6 { hop_limit: sent.hop_limit, ..came.clone() };
    let first = 48 + sent.extensions.as_ref().map_or(0, |(_, extensions)| extensions.len());
    for kind in ERRORS {
        for (src, new_src) in [(end, name), (router, router)] {
            // Half of a TCP checksum cannot be right.
            for octets in (first..=sent.bytes().len() - 14).filter(|&octets| octets != first + 9) {
                let came_in =
                    error((mac, VIRTUAL_MAC), (src, *sent.src.ip()), 61, kind, &quote(sent, octets));
                let out =
                    error((VIRTUAL_MAC, to.mac), (new_src, *came.src.ip()), 60, kind, &quote(&came, octets));
                let run = Run { reason: Reason::ForwardedIcmp, frame: out };
                assert_eq!(rig.run(side, &came_in), run, "{kind:?} from {src}, {octets} octets quoted");
            }
        }
    }
}

#[test]
fn errors_reach_the_other_end_as_of_what_it_spoke_to() {
    let mut rig = rig6::rig().expect("the rig");
    handshake(&mut rig);
    let data = Frame6::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"0123");
    translated(&mut rig, Side::Server, REALS6[0].mac, &FAR6, &data, &data.clone().sent_to(&REALS6[0], 80));
    let answer = Frame6::server(PSH | ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 1).payload(b"0123");
    let out = answer.clone().answered_as(VIP6, 80, &FAR6);
    translated(&mut rig, Side::Client, GATEWAY6.mac, &REALS6[0], &answer, &out);

    let question = Frame6::from(&FAR6, 7, (VIP6, 53), L4::Udp).payload(b"?");
    let sent = question.clone().sent_to(&REALS6[0], 5353);
    expect(&mut rig, Side::Client, &question, Reason::ForwardedNew, &sent);
    translated(&mut rig, Side::Server, REALS6[0].mac, &FAR6, &question, &sent);
    // With extension headers in the quote.
    let options = Some((60, vec![0, 0, 1, 4, 0, 0, 0, 0]));
    let (question, sent) =
        (Frame6 { extensions: options.clone(), ..question }, Frame6 { extensions: options, ..sent });
    translated(&mut rig, Side::Server, REALS6[0].mac, &FAR6, &question, &sent);

    let ping = Frame6::from(&REALS6[1], 0, (FAR6.ip, 0), L4::EchoRequest { id: 9 }).payload(b"abc");
    expect(&mut rig, Side::Server, &ping, Reason::ForwardedRouted, &ping.clone().routed_to(&FAR6));
    translated(&mut rig, Side::Client, GATEWAY6.mac, &REALS6[1], &ping, &ping.clone().routed_to(&FAR6));
}

#[test]
fn errors_about_nothing_known_go_nowhere() {
    let mut rig = rig6::rig().expect("the rig");
    handshake(&mut rig);
    let sent = Frame6::client(ACK, CLIENT_ISN + 1, 0).sent_to(&REALS6[0], 80);
    let macs = (REALS6[0].mac, VIRTUAL_MAC);
    let ends = (INNER_ROUTER, FAR6.ip);
    let mut other = sent.clone();
    other.src.set_port(1);
    for (quoted, ends, hop_limit, reason) in [
        (quote(&other, 60), ends, 61, Reason::DropIcmp),
        (quote(&sent, 60), (INNER_ROUTER, VIP6), 61, Reason::DropIcmp),
        (quote(&sent, 47), ends, 61, Reason::DropMalformed),
        (quote(&sent, 60), ends, 1, Reason::DropTtl),
        (error(macs, ends, 60, ERRORS[0], &[0; 8])[14..].to_vec(), ends, 61, Reason::DropIcmp),
    ] {
        let frame = error(macs, ends, hop_limit, ERRORS[0], &quoted);
        assert_eq!(rig.run(Side::Server, &frame), Run { reason, frame });
    }
}

#[test]
fn a_hop_limit_that_runs_out_and_a_packet_that_does_not_fit_are_told() {
    let mut rig = rig6::rig().expect("the rig");
    let cases = [
        (Side::Client, &FAR6, OWN6, (VIP6, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 }),
        (Side::Server, &REALS6[0], ALIAS6, (FAR6.ip, 33_434), L4::Udp),
        (Side::Client, &FAR6, OWN6, (REALS6[0].ip, 0), L4::EchoRequest { id: 3 }),
    ];
    for (side, host, src, dst, l4) in cases {
        for (hop_limit, payload) in [(1, &b""[..]), (0, b"x"), (1, &[7; 1400])] {
            let probe = Frame6 { hop_limit, ..Frame6::from(host, 40_000, dst, l4.clone()).payload(payload) };
            let mut frame =
                error((VIRTUAL_MAC, host.mac), (src, host.ip), 64, (3, 0, [0; 4]), &quote(&probe, 48));
            assert_eq!(
                rig.run(side, &probe.bytes()),
                Run { reason: Reason::TimeExceeded, frame: frame.clone() }
            );
            // Its extension headers are quoted, too.
            let probe = Frame6 {
                extensions: Some((60, vec![0, 1, 1, 4, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0])),
                ..probe
            };
            let mut bytes = probe.bytes();
            bytes[55] = 1;
            let quoted = &bytes[14..14 + 64];
            frame = error((VIRTUAL_MAC, host.mac), (src, host.ip), 64, (3, 0, [0; 4]), quoted);
            assert_eq!(rig.run(side, &bytes), Run { reason: Reason::TimeExceeded, frame });
        }
    }
    handshake(&mut rig);
    rig6::next_hop(&rig, FIRST6, |hop| hop.mtu = 1400);
    let data = Frame6::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    let fits = data.clone().payload(&[1; 1340]);
    assert_eq!(rig.run(Side::Client, &fits.bytes()).reason, Reason::ForwardedFlow);
    let long = data.payload(&[1; 1341]);
    let told =
        error((VIRTUAL_MAC, FAR6.mac), (OWN6, FAR6.ip), 64, (2, 0, [0, 0, 5, 0x78]), &quote(&long, 48));
    assert_eq!(rig.run(Side::Client, &long.bytes()), Run { reason: Reason::TooBig, frame: told });
    assert_eq!(rig6::flows(&rig, names::FLOWS6).len(), 2);
}

#[test]
fn a_cleared_connections_segments_are_answered_with_resets() {
    use aya::maps::{HashMap, MapData};
    let mut rig = rig6::rig().expect("the rig");
    handshake(&mut rig);
    let mut flows: HashMap<MapData, FlowKey<V6>, FlowEntry<V6>> = rig.map(names::FLOWS6);
    for (key, entry) in rig6::flows(&rig, names::FLOWS6) {
        flows.insert(key, entry.cleared(), 0).expect("FLOWS6");
    }
    let data = Frame6::client(PSH | ACK, CLIENT_ISN + 1, 77).payload(b"more");
    let mut reset = Frame6::from(&FAR6, 0, (FAR6.ip, CLIENT_PORT), L4::Tcp { flags: RST, seq: 77, ack: 0 });
    reset.src = at(VIP6, 80);
    (reset.src_mac, reset.dst_mac) = (VIRTUAL_MAC, FAR6.mac);
    let mut frame = reset.bytes();
    // Its window is 0, which etherparse's frame has not.
    let sum = u32::from(u16::from_be_bytes([frame[70], frame[71]])) + 65_000;
    frame[68..70].fill(0);
    frame[70..72].copy_from_slice(&u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap().to_be_bytes());
    assert_eq!(rig.run(Side::Client, &data.bytes()), Run { reason: Reason::ResetSent, frame });
    assert!(rig6::flows(&rig, names::FLOWS6).iter().all(|(_, entry)| entry.state == STATE_CLEARED));
}
