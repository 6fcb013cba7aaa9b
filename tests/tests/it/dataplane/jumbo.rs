//! Frames in several buffers: an MTU of 9000 on the ports.

use std::process::Command;

use csm_common::counter::Reason;
use csm_tests::rig::{FAR_CLIENT, REALS, Rig, Run, Side, VIP};

use super::frames::{ACK, CLIENT_ISN, Frame, PSH, SERVER_ISN, handshake};
use super::live::Wire;

/// A rig that takes and sends packets of 9000 octets.
fn jumbo_rig() -> Rig {
    let rig = Rig::new().expect("the rig");
    for port in ["p0", "p0x", "p1", "p1x"] {
        let set = Command::new("ip").args(["link", "set", port, "mtu", "9000"]).status().expect("ip");
        assert!(set.success(), "{port} takes an MTU of 9000 with the program attached");
    }
    for hop in 0..5 {
        rig.next_hop(hop, |hop| hop.mtu = 9000);
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

#[test]
fn long_frames_cross_the_ports() {
    let mut rig = jumbo_rig();
    handshake(&mut rig);
    let mut client = Wire::open("p0x").expect("the client's wire");
    let mut server = Wire::open("p1x").expect("the server's wire");
    for octets in [1000, 4000, 8960] {
        let data = ups(octets);
        client.send(&data);
        server.expect(&data.sent_to(&REALS[0], 80));
    }
}
