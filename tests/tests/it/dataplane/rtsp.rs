//! RTSP's media.

use csm_common::counter::Reason;
use csm_common::service::VSERVER_FTP;
use csm_tests::rig::{FAR_CLIENT, GATEWAY, Host, REALS, Rig, Side, VIP, WEB, be};

use super::frames::{Frame, L4, expect, expect_end, handshake};
use super::ftp::followed;

/// As SETUP has them: the client's RTP, and the server's.
const CLIENT_RTP: u16 = 50_000;
const SERVER_RTP: u16 = 6970;

/// A rig whose port 80 is a `service rtsp`.
fn rtsp() -> Rig {
    followed(17, 0)
}

/// A packet of the client's to the virtual address.
fn up(from: &Host, sport: u16, dport: u16) -> Frame {
    Frame::from(from, sport, (VIP, dport), L4::Udp)
}

/// One of a real's to the client.
fn down(from: &Host, sport: u16, dport: u16) -> Frame {
    Frame::from(from, sport, (FAR_CLIENT.ip, dport), L4::Udp)
}

#[test]
fn media_that_the_server_begins_come_from_the_virtual_address_and_go_both_ways() {
    let mut rig = rtsp();
    let early = down(&REALS[0], SERVER_RTP, CLIENT_RTP - 2);
    expect(&mut rig, Side::Server, &early, Reason::ForwardedRouted, &early.clone().routed_to(&FAR_CLIENT));
    handshake(&mut rig);
    rig.events();
    let rtp = down(&REALS[0], SERVER_RTP, CLIENT_RTP);
    let out = rtp.clone().answered_as(VIP, SERVER_RTP, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &rtp, Reason::ForwardedNew, &out);
    expect(&mut rig, Side::Server, &rtp, Reason::ForwardedFlow, &out);
    assert!(rig.events().is_empty(), "nobody has answered");
    let report = up(&FAR_CLIENT, CLIENT_RTP, SERVER_RTP);
    let out = report.clone().sent_to(&REALS[0], SERVER_RTP);
    expect(&mut rig, Side::Client, &report, Reason::ForwardedFlow, &out);
    assert!(rig.events().is_empty(), "the server has not gone on");
    let out = rtp.clone().answered_as(VIP, SERVER_RTP, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &rtp, Reason::ForwardedFlow, &out);
    let told = rig.events();
    let [event] = told[..] else { panic!("one event, not {told:?}") };
    assert_eq!((event.connection.vserver, event.connection.source_be), (WEB, be(VIP)));
    assert_eq!(rig.sticky().len(), 1, "the real is nobody's client");
}

#[test]
fn media_that_the_client_begins_go_to_the_real_of_its_control_connection() {
    let mut rig = rtsp();
    let early = up(&FAR_CLIENT, CLIENT_RTP, SERVER_RTP);
    expect_end(&mut rig, Side::Client, &early, Reason::DropNoVserver);
    handshake(&mut rig);
    // The real's port is for control connections alone.
    rig.real(0, |real| real.port_be = 8554u16.to_be());
    for port in [SERVER_RTP, 1024, 65_535] {
        let punch = up(&FAR_CLIENT, CLIENT_RTP, port);
        let out = punch.clone().sent_to(&REALS[0], port);
        expect(&mut rig, Side::Client, &punch, Reason::ForwardedNew, &out);
        let rtp = down(&REALS[0], port, CLIENT_RTP);
        let out = rtp.clone().answered_as(VIP, port, &FAR_CLIENT);
        expect(&mut rig, Side::Server, &rtp, Reason::ForwardedFlow, &out);
    }
}

#[test]
fn what_is_no_media_of_that_client_is_not_taken_for_it() {
    let mut rig = rtsp();
    handshake(&mut rig);
    // Another real, a port below 1024 on either side, another protocol, and another client.
    let frames = [
        down(&REALS[1], SERVER_RTP, CLIENT_RTP),
        down(&REALS[0], 1023, CLIENT_RTP),
        down(&REALS[0], SERVER_RTP, 1023),
    ];
    for frame in frames {
        let out = frame.clone().routed_to(&FAR_CLIENT);
        expect(&mut rig, Side::Server, &frame, Reason::ForwardedRouted, &out);
    }
    expect_end(&mut rig, Side::Client, &up(&FAR_CLIENT, CLIENT_RTP, 1023), Reason::DropNoVserver);
    let stranger = Host { ip: [10, 9, 9, 9].into(), ..GATEWAY };
    expect_end(&mut rig, Side::Client, &up(&stranger, CLIENT_RTP, SERVER_RTP), Reason::DropNoVserver);
    // Out of service it opens nothing in its name, and takes nothing.
    rig.vserver(WEB, |vserver| vserver.flags = VSERVER_FTP);
    let late = down(&REALS[0], SERVER_RTP + 2, CLIENT_RTP);
    expect(&mut rig, Side::Server, &late, Reason::ForwardedRouted, &late.clone().routed_to(&FAR_CLIENT));
}
