//! Frames in several buffers: an MTU of 9000 on the ports.

use std::time::Duration;

use csm_common::counter::Reason;
use csm_common::gate::GateState;
use csm_common::net::{NEXTHOP_TAGGED, relay_mac, tunnel_overhead};
use csm_tests::rig::{FAR_CLIENT, PEER_MAC, REALS, Rig, Run, Side, VIP, set_mtu};
use csm_user::host::MTU_ONE_BUFFER;
use csm_user::host::survey::survey;

use super::frames::{ACK, CLIENT_ISN, FIN, Frame, PSH, SERVER_ISN, SYN, expect, handshake};
use super::live::{Wire, driver_counts};
use super::trunk::tagged;
use super::tunnel::{GUE, packet, tunnelled, untagged, unwrapped};
use crate::soon::soon;

/// Packets of so many octets are taken and sent.
pub(super) const JUMBO: u16 = 9000;
/// Octets of payload around a page less head room, where a second buffer begins, and near the MTU.
pub(super) const PAYLOADS: [usize; 6] = [3000, 3500, 4000, 4096, 8000, 8800];

/// A rig whose data VLANs take and send packets of 9000 octets.
fn jumbo_rig() -> Rig {
    let rig = Rig::new().expect("the rig");
    for port in ["p0", "p0x", "p1", "p1x"] {
        set_mtu(port, JUMBO).expect("an MTU");
    }
    for hop in 0..5 {
        rig.next_hop(hop, |hop| hop.mtu = JUMBO);
    }
    rig
}

fn ups(octets: usize) -> Frame {
    let payload: Vec<u8> = (0..octets).map(|at| at.to_le_bytes()[0]).collect();
    Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(&payload)
}

#[test]
fn a_long_frame_is_translated_whole_and_counted_in_full() {
    let mut rig = jumbo_rig();
    handshake(&mut rig);
    // Around a page less head room, where a second buffer begins, and up to the MTU.
    for octets in [1460, 3000, 3500, 4000, 4096, 8000, 8960] {
        let data = ups(octets);
        // `run` compares the counter's bytes with the whole frame's.
        let run = Run { reason: Reason::ForwardedFlow, frame: data.clone().sent_to(&REALS[0], 80).bytes() };
        assert_eq!(rig.run(Side::Client, &data.bytes()), run, "{octets} octets");
        let back =
            Frame::server(PSH | ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 1).payload(&data.payload);
        let out = back.clone().answered_as(VIP, 80, &FAR_CLIENT);
        let run = Run { reason: Reason::ForwardedFlow, frame: out.bytes() };
        assert_eq!(rig.run(Side::Server, &back.bytes()), run, "{octets} octets");
    }
}

#[test]
fn what_is_longer_than_its_frame_is_malformed_in_several_buffers_too() {
    let mut rig = jumbo_rig();
    handshake(&mut rig);
    let whole = ups(8000).bytes();
    for missing in [1, 100, 5000] {
        let cut = &whole[..whole.len() - missing];
        assert_eq!(rig.run(Side::Client, cut).reason, Reason::DropMalformed, "{missing} octets missing");
    }
}

#[test]
fn a_long_frame_without_ttl_comes_back_as_a_short_error() {
    let mut rig = jumbo_rig();
    let probe = Frame { ttl: 1, ..ups(8960) }.bytes();
    let frame = super::icmp_send::error(FAR_CLIENT.mac, csm_tests::rig::OWN, (11, 0, [0; 4]), &probe[14..]);
    assert_eq!(rig.run(Side::Client, &probe), Run { reason: Reason::TimeExceeded, frame });
}

/// Whether this kernel redirects frames of several buffers: Linux 6.3 brought that together with the telling of what a driver can do
/// with XDP.
fn redirects_several_buffers() -> bool {
    // Of an interface that is in each network namespace.
    let facts = survey(&["lo".to_owned()]).expect("the host's facts");
    facts.ports.iter().all(|port| port.xdp.is_some())
}

#[test]
fn long_frames_cross_the_ports() {
    let mut rig = jumbo_rig();
    handshake(&mut rig);
    let mut client = Wire::open("p0x").expect("the client's wire");
    let mut server = Wire::open("p1x").expect("the server's wire");
    let crosses = redirects_several_buffers();
    for octets in [1000, 3400, 4000, 8960] {
        let data = ups(octets);
        let lost = driver_counts("p0", "rx_queue_0_drops");
        client.send(&data);
        if crosses || octets + 40 <= MTU_ONE_BUFFER as usize {
            server.expect(&data.sent_to(&REALS[0], 80));
            assert_eq!(driver_counts("p0", "rx_queue_0_drops"), lost, "{octets} octets");
        } else {
            // It is lost behind the program, and the driver counts it.
            soon("the driver's count", || {
                (driver_counts("p0", "rx_queue_0_drops") == lost + 1).then_some(())
            });
        }
    }
}

/// `frame` with the tag of the VLAN on `side`, if it has one there.
fn on(side: Side, with_tag: bool, frame: &Frame) -> Vec<u8> {
    let vlan = [2, 3, 9][side as usize];
    if with_tag { tagged(&frame.bytes(), vlan) } else { frame.bytes() }
}

#[test]
fn tags_are_put_on_taken_off_and_rewritten_in_long_frames() {
    for (came, leaves) in [(true, true), (true, false), (false, true)] {
        let mut rig = if came { Rig::on_trunk() } else { Rig::new() }.expect("the rig");
        for hop in 0..5 {
            rig.next_hop(hop, |hop| {
                hop.mtu = JUMBO;
                hop.flags = hop.flags & !NEXTHOP_TAGGED | if leaves { NEXTHOP_TAGGED } else { 0 };
            });
        }
        let cross = |rig: &mut Rig, from_client: bool, flags: u8, numbers: (u32, u32), octets: usize| {
            let payload = vec![0xa5; octets];
            let (from, to, frame, out) = if from_client {
                let frame = Frame::client(flags, numbers.0, numbers.1).payload(&payload);
                (Side::Client, Side::Server, frame.clone(), frame.sent_to(&REALS[0], 80))
            } else {
                let frame = Frame::server(flags, numbers.0, numbers.1).payload(&payload);
                (Side::Server, Side::Client, frame.clone(), frame.answered_as(VIP, 80, &FAR_CLIENT))
            };
            let run = rig.run(from, &on(from, came, &frame));
            assert_eq!(run.frame, on(to, leaves, &out), "{octets} octets, {came} to {leaves}");
            run.reason
        };
        let (client_next, server_next) = (CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
        cross(&mut rig, true, SYN, (CLIENT_ISN, 0), 0);
        cross(&mut rig, false, SYN | ACK, (SERVER_ISN, client_next), 0);
        cross(&mut rig, true, ACK, (client_next, server_next), 0);
        // By the short way, and a FIN by the long one.
        for flags in [PSH | ACK, FIN | ACK] {
            for octets in PAYLOADS {
                let ways = [(true, (client_next, server_next)), (false, (server_next, client_next))];
                for (from_client, numbers) in ways {
                    assert_eq!(cross(&mut rig, from_client, flags, numbers, octets), Reason::ForwardedFlow);
                }
            }
        }
    }
}

#[test]
fn long_frames_go_inside_of_longer_ones() {
    for (port, trunk) in [(0, false), (GUE, false), (GUE, true)] {
        let bench = if trunk { Rig::on_trunk() } else { Rig::new() };
        let mut rig = tunnelled(bench.expect("the rig"), port);
        let fits = JUMBO - tunnel_overhead(20, port);
        rig.next_hop(0, |hop| hop.mtu = fits);
        let mut cross = |flags, seq, payload: &[u8]| {
            let frame = Frame::client(flags, CLIENT_ISN + seq, 7).payload(payload);
            let run = rig.run(Side::Client, &on(Side::Client, trunk, &frame));
            let out = if trunk && run.reason != Reason::TooBig { untagged(run.frame) } else { run.frame };
            (run.reason, out, packet(&frame))
        };
        for (flags, seq) in [(SYN, 0), (ACK, 1)] {
            let (_, out, packet) = cross(flags, seq, b"");
            assert_eq!(unwrapped(&out, port), packet);
        }
        let largest = usize::from(fits) - 40;
        for octets in PAYLOADS.into_iter().chain([largest]) {
            let (reason, out, packet) = cross(PSH | ACK, 1, &vec![0xa5; octets]);
            assert_eq!(
                (reason, out.len()),
                (Reason::ForwardedFlow, 14 + usize::from(JUMBO - fits) + 40 + octets)
            );
            assert_eq!(unwrapped(&out, port), packet, "{octets} octets by {port}");
        }
        let (reason, told, _) = cross(PSH | ACK, 1, &vec![0xa5; largest + 1]);
        let size = if trunk { &told[44..46] } else { &told[40..42] };
        assert_eq!((reason, size), (Reason::TooBig, &fits.to_be_bytes()[..]), "by {port}");
    }
}

/// As the predecessor sends it to its peer, and as the successor gets such a frame.
fn stray(rig: &Rig, frame: &Frame) -> [Frame; 2] {
    [PEER_MAC, rig.own_mac(Side::Ft)].map(|dst_mac| Frame { src_mac: relay_mac(2), dst_mac, ..frame.clone() })
}

#[test]
fn strays_of_several_buffers_cross_the_ft_vlan() {
    let mut rig = jumbo_rig();
    handshake(&mut rig);
    for port in ["p2", "p2x"] {
        set_mtu(port, JUMBO).expect("an MTU");
    }
    let life = Duration::from_secs(60);
    for octets in PAYLOADS.into_iter().chain([usize::from(JUMBO) - 40]) {
        let [sent, got] = stray(&rig, &ups(octets));
        rig.gate(GateState::RelayOut, life);
        expect(&mut rig, Side::Client, &ups(octets), Reason::Relayed, &sent);
        rig.gate(GateState::RelayIn, life);
        let out = Frame { src_mac: rig.own_mac(Side::Server), ..ups(octets).sent_to(&REALS[0], 80) };
        expect(&mut rig, Side::Ft, &got, Reason::ForwardedFlow, &out);
    }
}

#[test]
fn a_stray_that_is_too_long_for_the_ft_vlan_is_counted_as_that() {
    let mut rig = jumbo_rig();
    handshake(&mut rig);
    rig.gate(GateState::RelayOut, Duration::from_secs(60));
    // The MTU as it is when the stray comes.
    for mtu in [1500, 3000, 1280] {
        set_mtu("p2", mtu).expect("an MTU");
        set_mtu("p2x", mtu).expect("an MTU");
        let fits = ups(usize::from(mtu) - 40);
        let [sent, _] = stray(&rig, &fits);
        expect(&mut rig, Side::Client, &fits, Reason::Relayed, &sent);
        for more in [1, 4, 500, 5000] {
            let long = ups(usize::from(mtu) - 40 + more);
            expect(&mut rig, Side::Client, &long, Reason::DropRelayTooBig, &long);
        }
    }
    let (mut client, mut ft) = (Wire::open("p0x").expect("a wire"), Wire::open("p2x").expect("the FT wire"));
    client.send(&ups(1240));
    ft.expect(&stray(&rig, &ups(1240))[0]);
}
