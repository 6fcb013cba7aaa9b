//! RTSP's media: the same as of IPv4.

use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::names;
use csm_common::service::{VSERVER_FTP, VSERVER_INSERVICE};
use csm_tests::rig::{Rig, Side};
use csm_tests::rig6::{self, FAR6, FIRST6, REALS6, VIP6, WEB6};

use super::frames::{Frame6, expect, expect_end, handshake};
use crate::dataplane::frames::L4;
use crate::dataplane::ftp::follow;

fn rtsp() -> Rig {
    let rig = rig6::rig().expect("the rig");
    rig6::vserver(&rig, WEB6, |vserver| {
        vserver.flags = VSERVER_INSERVICE | VSERVER_FTP;
        vserver.sticky_s = 3600;
        vserver.sticky_group = 264;
    });
    let reals = (FIRST6..).zip(REALS6.map(|host| V6::from(host.ip)));
    follow(&rig, [names::VSERVER_KEYS6, names::ORIGINS6], (VIP6.into(), WEB6), reals, (17, 0));
    rig
}

#[test]
fn media_follow_the_control_connection_whoever_begins() {
    let mut rig = rtsp();
    let up = |port| Frame6::from(&FAR6, 50_000, (VIP6, port), L4::Udp);
    let down = |real: usize, port| Frame6::from(&REALS6[real], port, (FAR6.ip, 50_000), L4::Udp);
    expect_end(&mut rig, Side::Client, &up(6970), Reason::DropNoVserver);
    handshake(&mut rig);
    let rtp = down(0, 6970);
    let out = rtp.clone().answered_as(VIP6, 6970, &FAR6);
    expect(&mut rig, Side::Server, &rtp, Reason::ForwardedNew, &out);
    let out = up(6970).sent_to(&REALS6[0], 6970);
    expect(&mut rig, Side::Client, &up(6970), Reason::ForwardedFlow, &out);
    let out = up(6971).sent_to(&REALS6[0], 6971);
    expect(&mut rig, Side::Client, &up(6971), Reason::ForwardedNew, &out);
    let report = down(0, 6971);
    let out = report.clone().answered_as(VIP6, 6971, &FAR6);
    expect(&mut rig, Side::Server, &report, Reason::ForwardedFlow, &out);
    for frame in [down(1, 6972), down(0, 1023)] {
        let out = frame.clone().routed_to(&FAR6);
        expect(&mut rig, Side::Server, &frame, Reason::ForwardedRouted, &out);
    }
    expect_end(&mut rig, Side::Client, &up(1023), Reason::DropNoVserver);
}
