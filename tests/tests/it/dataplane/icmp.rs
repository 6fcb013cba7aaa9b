//! ICMP errors about packets of connections: outer and inner headers translated, both directions.

use std::net::Ipv4Addr;

use csm_common::counter::Reason;
use csm_common::names;
use csm_tests::rig::{DNS, FAR_CLIENT, GATEWAY, Host, REALS, Rig, Run, Side, VIP, VIRTUAL_MAC};
use etherparse::PacketBuilder;

use super::frames::{
    ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, PSH, RST, SERVER_ISN, SYN, expect, expect_end, handshake,
};

const UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
/// "Fragmentation needed", next hop's MTU 1400.
const FRAG_NEEDED: (u8, u8, [u8; 4]) = (UNREACHABLE, 4, [0, 0, 0x05, 0x78]);
/// Types and codes, with what stands before the quote.
const ERRORS: [(u8, u8, [u8; 4]); 5] = [
    FRAG_NEEDED,
    (UNREACHABLE, 3, [0; 4]),
    (UNREACHABLE, 1, [0; 4]),
    (TIME_EXCEEDED, 0, [0; 4]),
    (PARAMETER_PROBLEM, 0, [20, 0, 0, 0]),
];
/// A router on the server VLAN.
const INNER_ROUTER: Ipv4Addr = Ipv4Addr::new(192, 158, 39, 200);
/// A router far away among the clients.
const OUTER_ROUTER: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

/// An ICMP error as a frame.
struct Error<'a> {
    macs: ([u8; 6], [u8; 6]),
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ttl: u8,
    kind: (u8, u8, [u8; 4]),
    quote: &'a [u8],
}

impl Error<'_> {
    fn bytes(&self) -> Vec<u8> {
        let (kind, code, rest) = self.kind;
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(self.macs.0, self.macs.1)
            .ipv4(self.src.octets(), self.dst.octets(), self.ttl)
            .icmpv4_raw(kind, code, rest)
            .write(&mut bytes, self.quote)
            .expect("a buildable frame");
        bytes
    }
}

/// `frame` as an IP packet, its first `octets`.
fn quote(frame: &Frame, octets: usize) -> Vec<u8> {
    let bytes = frame.bytes();
    bytes[14..bytes.len().min(14 + octets)].to_vec()
}

/// Errors of every kind and quotes of every length about `sent`, which the balancer made of `came`: they come in on `side`
/// from `mac` and go to `host` of `came`'s sender.
#[track_caller]
fn translated(rig: &mut Rig, side: Side, mac: [u8; 6], to: &Host, came: &Frame, sent: &Frame) {
    let (end, name, router) =
        (*sent.dst.ip(), *came.dst.ip(), if side == Side::Server { INNER_ROUTER } else { OUTER_ROUTER });
    // The router saw it with the TTL that the balancer left.
    let came = Frame { ttl: sent.ttl, ..came.clone() };
    for kind in ERRORS {
        for (src, new_src) in [(end, name), (router, router)] {
            // Half of a TCP checksum cannot be right.
            for octets in (28..=sent.bytes().len() - 14).filter(|&octets| octets != 37) {
                let error = Error {
                    macs: (mac, VIRTUAL_MAC),
                    src,
                    dst: *sent.src.ip(),
                    ttl: 61,
                    kind,
                    quote: &quote(sent, octets),
                };
                let out = Error {
                    macs: (VIRTUAL_MAC, to.mac),
                    src: new_src,
                    dst: *came.src.ip(),
                    ttl: 60,
                    kind,
                    quote: &quote(&came, octets),
                };
                assert_eq!(
                    rig.run(side, &error.bytes()),
                    Run { reason: Reason::ForwardedIcmp, frame: out.bytes() },
                    "{kind:?} from {src}, {octets} octets quoted"
                );
            }
        }
    }
}

#[test]
fn errors_from_the_server_side_reach_the_client_as_of_the_virtual_server() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let before = rig.flows(names::FLOWS);
    let data = Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"0123456789");
    let sent = data.clone().sent_to(&REALS[0], 80);
    translated(&mut rig, Side::Server, REALS[0].mac, &FAR_CLIENT, &data, &sent);
    // No error changes a state, and packets go on as before.
    let states = |flows: Vec<_>| -> Vec<_> {
        let mut states: Vec<(_, _)> = flows
            .into_iter()
            .map(|(key, entry): (csm_common::flow::FlowKey, csm_common::flow::FlowEntry)| {
                (key.src_be, entry.state)
            })
            .collect();
        states.sort_unstable();
        states
    };
    assert_eq!(states(rig.flows(names::FLOWS)), states(before));
    expect(&mut rig, Side::Client, &data, Reason::ForwardedFlow, &sent);
}

#[test]
fn errors_from_the_client_side_reach_the_real() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let data = Frame::server(PSH | ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 1).payload(b"0123456789abc");
    let sent = data.clone().answered_as(VIP, 80, &FAR_CLIENT);
    translated(&mut rig, Side::Client, GATEWAY.mac, &REALS[0], &data, &sent);
}

#[test]
fn a_half_open_connection_hears_of_its_errors_too() {
    let mut rig = Rig::new().expect("the rig");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    let sent = syn.clone().sent_to(&REALS[0], 80);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &sent);
    translated(&mut rig, Side::Server, REALS[0].mac, &FAR_CLIENT, &syn, &sent);
    let answer = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    let out = answer.clone().answered_as(VIP, 80, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &out);
}

#[test]
fn ports_and_checksums_of_quoted_datagrams_are_translated() {
    for l4 in [L4::Udp, L4::UdpWithoutChecksum] {
        let mut rig = Rig::new().expect("the rig");
        let question = Frame::from(&FAR_CLIENT, CLIENT_PORT, (VIP, 53), l4.clone()).payload(b"who is there?");
        let sent = question.clone().sent_to(&REALS[0], 5353);
        expect(&mut rig, Side::Client, &question, Reason::ForwardedNew, &sent);
        translated(&mut rig, Side::Server, REALS[0].mac, &FAR_CLIENT, &question, &sent);
        let answer =
            Frame::from(&REALS[0], 5353, (FAR_CLIENT.ip, CLIENT_PORT), l4).payload(b"nobody that you know");
        let told = answer.clone().answered_as(VIP, 53, &FAR_CLIENT);
        expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &told);
        translated(&mut rig, Side::Client, GATEWAY.mac, &REALS[0], &answer, &told);
        let counts = rig.service_count(names::VSERVER_COUNTS, DNS);
        assert!(counts.client_packets > 100 && counts.server_packets > 100, "errors count, too: {counts:?}");
    }
}

#[test]
fn a_servers_own_ping_hears_of_its_errors() {
    let mut rig = Rig::new().expect("the rig");
    let request =
        Frame::from(&REALS[1], 0, (FAR_CLIENT.ip, 0), L4::EchoRequest { id: 77 }).payload(b"0123456789");
    let sent = request.clone().routed_to(&FAR_CLIENT);
    expect(&mut rig, Side::Server, &request, Reason::ForwardedRouted, &sent);
    translated(&mut rig, Side::Client, GATEWAY.mac, &REALS[1], &request, &sent);
}

#[test]
fn errors_about_nothing_that_is_known_are_dropped_by_their_own_name() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let sent = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).sent_to(&REALS[0], 80);
    let whole = quote(&sent, 40);
    let error = |dst, ttl, kind, quote: &[u8]| {
        let src = REALS[0].ip;
        Error { macs: (REALS[0].mac, VIRTUAL_MAC), src, dst, ttl, kind, quote }.bytes()
    };
    let changed = |at: usize, to: u8| {
        let mut quote = whole.clone();
        quote[at] = to;
        quote
    };
    let client = FAR_CLIENT.ip;
    for (name, frame, reason) in [
        ("another client", error(Ipv4Addr::new(10, 1, 1, 2), 9, FRAG_NEEDED, &whole), Reason::DropIcmp),
        ("another port", error(client, 9, FRAG_NEEDED, &changed(21, 99)), Reason::DropIcmp),
        ("another protocol", error(client, 9, FRAG_NEEDED, &changed(9, 17)), Reason::DropIcmp),
        ("an error about an error", error(client, 9, FRAG_NEEDED, &changed(9, 1)), Reason::DropIcmp),
        ("a later fragment", error(client, 9, FRAG_NEEDED, &changed(7, 1)), Reason::DropIcmp),
        ("IPv6", error(client, 9, FRAG_NEEDED, &changed(0, 0x65)), Reason::DropMalformed),
        ("a header too short", error(client, 9, FRAG_NEEDED, &changed(0, 0x44)), Reason::DropMalformed),
        ("a header too long", error(client, 9, FRAG_NEEDED, &changed(0, 0x4f)), Reason::DropMalformed),
        ("no TTL left", error(client, 1, FRAG_NEEDED, &whole), Reason::DropTtl),
        ("source quench", error(client, 9, (SOURCE_QUENCH, 0, [0; 4]), &whole), Reason::DropProtocol),
    ] {
        assert_eq!(rig.run(Side::Server, &frame), Run { reason, frame }, "{name}");
    }
    for octets in 0..28 {
        let frame = error(client, 9, FRAG_NEEDED, &whole[..octets]);
        assert_eq!(
            rig.run(Side::Server, &frame),
            Run { reason: Reason::DropMalformed, frame },
            "{octets} octets"
        );
    }
    let stray = error(client, 9, FRAG_NEEDED, &whole);
    assert_eq!(rig.run(Side::Client, &stray).reason, Reason::DropIcmp, "from the wrong side");
    let reset = Frame::client(RST, 0, 0);
    expect(&mut rig, Side::Client, &reset, Reason::ForwardedFlow, &reset.clone().sent_to(&REALS[0], 80));
}

#[test]
fn an_error_waits_for_its_next_hop_like_any_packet() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    rig.next_hop(3, |hop| hop.flags = 0);
    let sent = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).sent_to(&REALS[0], 80);
    let frame = Error {
        macs: (REALS[0].mac, VIRTUAL_MAC),
        src: REALS[0].ip,
        dst: FAR_CLIENT.ip,
        ttl: 9,
        kind: FRAG_NEEDED,
        quote: &quote(&sent, 40),
    }
    .bytes();
    assert_eq!(rig.run(Side::Server, &frame), Run { reason: Reason::DropUnresolved, frame });
    let answer = Frame::server(ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 1);
    expect_end(&mut rig, Side::Server, &answer, Reason::DropUnresolved);
}
