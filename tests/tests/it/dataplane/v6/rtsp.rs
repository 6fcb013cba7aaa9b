//! RTSP's media: the same as of IPv4.

use aya::maps::{HashMap, MapData};
use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::names;
use csm_common::service::{MATCH_FTP, Match, Origin, VSERVER_FTP, VSERVER_INSERVICE, VserverKey};
use csm_tests::rig::{Rig, Side};
use csm_tests::rig6::{self, FAR6, FIRST6, REALS6, VIP6, WEB6};

use super::frames::{Frame6, expect, expect_end, handshake};
use crate::dataplane::frames::L4;

fn rtsp() -> Rig {
    let rig = rig6::rig().expect("the rig");
    rig6::vserver(&rig, WEB6, |vserver| {
        vserver.flags = VSERVER_INSERVICE | VSERVER_FTP;
        vserver.sticky_s = 3600;
        vserver.sticky_group = 264;
    });
    let mut keys: HashMap<MapData, VserverKey<V6>, Match> = rig.map(names::VSERVER_KEYS6);
    let media = VserverKey { ip_be: VIP6.into(), port_be: 0, proto: 17, kind: MATCH_FTP };
    keys.insert(media, Match { vserver: WEB6, rules: 0 }, 0).expect("VSERVER_KEYS6");
    let mut origins: HashMap<MapData, VserverKey<V6>, Origin<V6>> = rig.map(names::ORIGINS6);
    for (real, host) in (FIRST6..).zip(REALS6) {
        let key = VserverKey { ip_be: host.ip.into(), port_be: 0, proto: 17, kind: MATCH_FTP };
        let origin = Origin { virtual_be: VIP6.into(), port_be: 0, pad: 0, vserver: WEB6, real };
        origins.insert(key, origin, 0).expect("ORIGINS6");
    }
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
