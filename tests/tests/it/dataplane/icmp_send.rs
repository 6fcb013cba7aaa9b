//! ICMP errors of the balancer's own: time exceeded, and "fragmentation needed".

use std::net::Ipv4Addr;
use std::time::Duration;

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use csm_common::counter::Reason;
use csm_common::gate::GateState;
use csm_common::limits::Budget;
use csm_common::names;
use csm_common::net::relay_mac;
use csm_tests::rig::{
    ALIAS, FAR_CLIENT, GATEWAY, Host, NEAR_CLIENT, OWN, REALS, Rig, Run, Side, VIP, VIRTUAL_MAC, now_ns,
};
use etherparse::{Ethernet2Header, Icmpv4Header, Icmpv4Type, IpDscp, IpNumber, Ipv4Header};

use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, PSH, SERVER_ISN, SYN, expect, handshake};

const TIME_EXCEEDED: (u8, u8, [u8; 4]) = (11, 0, [0; 4]);

/// The error of `kind` about `packet`, an IP packet, from `src` to its sender by way of `mac`: 28 octets quoted, more of
/// a header with options.
pub(super) fn error(mac: [u8; 6], src: Ipv4Addr, kind: (u8, u8, [u8; 4]), packet: &[u8]) -> Vec<u8> {
    let quote = &packet[..usize::from(packet[0] & 0xf) * 4 + 8];
    let to: [u8; 4] = packet[12..16].try_into().expect("an address");
    let (type_u8, code_u8, bytes5to8) = kind;
    let icmp = Icmpv4Header::with_checksum(Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 }, quote);
    let length = u16::try_from(8 + quote.len()).expect("short");
    let mut ip = Ipv4Header::new(length, 64, IpNumber::ICMP, src.octets(), to).expect("a header");
    ip.dscp = IpDscp::try_new(48).expect("internetwork control");
    ip.dont_fragment = true;
    ip.header_checksum = ip.calc_header_checksum();
    let ethernet =
        Ethernet2Header { source: VIRTUAL_MAC, destination: mac, ether_type: etherparse::EtherType::IPV4 };
    let mut bytes = ethernet.to_bytes().to_vec();
    bytes.extend(ip.to_bytes());
    bytes.extend(icmp.to_bytes());
    bytes.extend(quote);
    bytes
}

/// `frame` without "do not fragment".
fn may_be_split(frame: &Frame) -> Vec<u8> {
    let mut bytes = frame.bytes();
    bytes[20] &= !0x40;
    let header = Ipv4Header::from_slice(&bytes[14..]).expect("a header").0;
    bytes[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    bytes
}

#[test]
fn a_packet_without_ttl_comes_back_as_time_exceeded() {
    let tcp = L4::Tcp { flags: SYN, seq: 1, ack: 0 };
    for (side, host, dst, l4, src) in [
        (Side::Client, &FAR_CLIENT, (VIP, 80), tcp.clone(), OWN),
        (Side::Client, &NEAR_CLIENT, (VIP, 33_434), L4::Udp, OWN),
        (Side::Server, &REALS[1], (FAR_CLIENT.ip, 33_434), L4::Udp, ALIAS),
        (Side::Server, &REALS[1], (FAR_CLIENT.ip, 0), L4::EchoRequest { id: 5 }, ALIAS),
        (Side::Server, &REALS[0], (FAR_CLIENT.ip, 0), L4::EchoReply { id: 5 }, ALIAS),
    ] {
        let mut rig = Rig::new().expect("the rig");
        for (ttl, payload) in [(1, &b""[..]), (0, b""), (1, b"x"), (1, &[7; 1400])] {
            let probe = Frame { ttl, ..Frame::from(host, 40_000, dst, l4.clone()).payload(payload) };
            let bytes = probe.bytes();
            let run = Run {
                reason: Reason::TimeExceeded,
                frame: error(host.mac, src, TIME_EXCEEDED, &bytes[14..]),
            };
            assert_eq!(rig.run(side, &bytes), run, "{probe:?}");
        }
        assert_eq!(rig.flows(names::EMBRYONIC), []);
    }
}

#[test]
fn a_padded_packet_is_quoted_without_its_padding() {
    let mut rig = Rig::new().expect("the rig");
    let probe = Frame { ttl: 1, ..Frame::from(&FAR_CLIENT, 1, (VIP, 80), L4::Udp) };
    let mut bytes = probe.bytes();
    bytes.resize(60, 0xaa);
    let frame = error(FAR_CLIENT.mac, OWN, TIME_EXCEEDED, &probe.bytes()[14..]);
    assert_eq!(rig.run(Side::Client, &bytes), Run { reason: Reason::TimeExceeded, frame });
}

#[test]
fn a_relayed_packet_is_answered_by_route() {
    let mut rig = Rig::new().expect("the rig");
    rig.gate(GateState::RelayIn, Duration::from_secs(60));
    let mut probe = Frame { ttl: 1, ..Frame::from(&FAR_CLIENT, 1, (VIP, 80), L4::Udp) };
    probe.src_mac = relay_mac(2);
    probe.dst_mac = rig.own_mac(Side::Ft);
    let mut frame = error(GATEWAY.mac, OWN, TIME_EXCEEDED, &probe.bytes()[14..]);
    frame[6..12].copy_from_slice(&rig.own_mac(Side::Client));
    assert_eq!(rig.run(Side::Ft, &probe.bytes()), Run { reason: Reason::TimeExceeded, frame });
}

#[test]
fn nobody_is_told_who_cannot_be_or_has_been_told_enough() {
    let mut rig = Rig::new().expect("the rig");
    let spoofed = Host { ip: Ipv4Addr::new(224, 0, 0, 1), ..FAR_CLIENT };
    let probe = |host: &Host| Frame { ttl: 1, ..Frame::from(host, 1, (VIP, 80), L4::Udp) };
    assert_eq!(rig.run(Side::Client, &probe(&spoofed).bytes()).reason, Reason::DropTtl);
    let bytes = probe(&FAR_CLIENT).bytes();
    let mut budgets: PerCpuArray<MapData, u64> = rig.map(names::BUDGETS);
    // The bucket is set rather than emptied: this test's own pace is not its matter.
    let mut set = |due_ns| {
        let values = vec![due_ns; aya::util::nr_cpus().expect("CPUs")];
        budgets
            .set(Budget::IcmpError as u32, PerCpuValues::try_from(values).expect("one each"), 0)
            .expect("BUDGETS");
    };
    set(now_ns() + 3600 * 1_000_000_000);
    assert_eq!(rig.run(Side::Client, &bytes), Run { reason: Reason::DropTtl, frame: bytes.clone() });
    set(now_ns());
    assert_eq!(rig.run(Side::Client, &bytes).reason, Reason::TimeExceeded);
}

#[test]
fn what_is_too_long_for_the_way_out_comes_back_with_the_length_that_fits() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    // The servers' VLAN takes 1400 octets, and the clients' 1300.
    for hop in 0..5 {
        rig.next_hop(hop, |hop| hop.mtu = if hop.vlan == 3 { 1400 } else { 1300 });
    }
    let ups = Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    let downs = Frame::server(PSH | ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 1);
    for (side, frame, mac, src, mtu) in [
        (Side::Client, &ups, FAR_CLIENT.mac, OWN, 1400_u16),
        (Side::Server, &downs, REALS[0].mac, ALIAS, 1300),
    ] {
        let fits = frame.clone().payload(&vec![1; usize::from(mtu) - 40]);
        assert_eq!(rig.run(side, &fits.bytes()).reason, Reason::ForwardedFlow);
        let long = frame.clone().payload(&vec![1; usize::from(mtu) - 39]);
        let [high, low] = mtu.to_be_bytes();
        let packet = long.bytes();
        let told = error(mac, src, (3, 4, [0, 0, high, low]), &packet[14..]);
        assert_eq!(rig.run(side, &packet), Run { reason: Reason::TooBig, frame: told });
        let frame = may_be_split(&long);
        assert_eq!(rig.run(side, &frame), Run { reason: Reason::DropTooBig, frame });
    }
    let short = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    expect(&mut rig, Side::Client, &short, Reason::ForwardedFlow, &short.clone().sent_to(&REALS[0], 80));
    let padded = Frame::from(&FAR_CLIENT, CLIENT_PORT, (VIP, 53), L4::Udp).payload(&[1; 1372]);
    let mut bytes = padded.bytes();
    bytes.extend([0; 40]);
    assert_eq!(rig.run(Side::Client, &bytes).reason, Reason::ForwardedNew, "padding is no length");
}
