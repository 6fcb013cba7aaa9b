//! `reverse-sticky` on IPv6.

use aya::maps::{HashMap, MapData};
use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::event::{EVENT_CONNECTION, EVENT_STICKY, EVENT_V6};
use csm_common::names;
use csm_common::service::{
    Match, REAL_STICKY, REAL_USABLE, Real, Reverse, StickyKey, VSERVER_DISPATCH, VSERVER_INSERVICE,
    VSERVER_STICKY_BOTH, VSERVER_STICKY_DESTINATION, VserverKey, pair,
};
use csm_tests::rig::Side;
use csm_tests::rig6::{self, DNS6, FAR6, FIRST6, Host6, NEAR6, REALS6, VIP6, WEB6};

use super::frames::{Frame6, expect};
use crate::dataplane::frames::{ACK, CLIENT_ISN, L4, SERVER_ISN, SYN};

const GROUP: u32 = 20;
/// The near client's host as a real: a firewall.
const FIREWALL: u32 = FIRST6 + 6;
/// A client that comes by it; the routes lead to it by the gateway.
const CLIENT: Host6 = Host6 { mac: NEAR6.mac, ..FAR6 };

fn comes_and_goes(flags: u32, mask_be: V6, wanted: StickyKey<V6>) {
    let mut rig = rig6::rig().expect("the rig");
    rig.change(names::REALS6, FIREWALL, |real: &mut Real<V6>| {
        *real = Real {
            ip_be: NEAR6.ip.into(),
            port_be: 0,
            vlan: 2,
            nexthop: FIRST6 + 4,
            flags: REAL_USABLE | REAL_STICKY,
            farm: 9,
            max_conns: 0,
            min_conns: 0,
        };
    });
    rig.change(names::REVERSES6, GROUP, |reverse: &mut Reverse<V6>| {
        (reverse.mask_be, reverse.flags, reverse.life_s, reverse.count) = (mask_be, flags, 600, 1);
        reverse.reals[0] = FIREWALL;
    });
    rig6::vserver(&rig, WEB6, |vserver| vserver.reverse = GROUP);
    let mut keys: HashMap<MapData, VserverKey<V6>, Match> = rig.map(names::VSERVER_KEYS6);
    let key = VserverKey { ip_be: CLIENT.ip.into(), port_be: 0, proto: 6, kind: 0 };
    keys.insert(key, Match { vserver: DNS6, rules: 0 }, 0).expect("VSERVER_KEYS6");
    rig6::vserver(&rig, DNS6, |vserver| {
        (vserver.flags, vserver.ring_len) = (VSERVER_INSERVICE | VSERVER_DISPATCH | flags, 0);
        (vserver.farm, vserver.sticky_s, vserver.sticky_group) = (9, 600, GROUP);
        vserver.sticky_mask_be = mask_be;
    });
    let syn = Frame6::from(&CLIENT, 7, (VIP6, 80), L4::Tcp { flags: SYN, seq: CLIENT_ISN, ack: 0 });
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS6[0], 80));
    let l4 = L4::Tcp { flags: SYN | ACK, seq: SERVER_ISN, ack: CLIENT_ISN + 1 };
    let answer = Frame6::from(&REALS6[0], 80, (CLIENT.ip, 7), l4);
    let out = answer.clone().answered_as(VIP6, 80, &NEAR6);
    expect(&mut rig, Side::Server, &answer, Reason::ForwardedFlow, &out);
    let l4 = L4::Tcp { flags: ACK, seq: CLIENT_ISN + 1, ack: SERVER_ISN.wrapping_add(1) };
    let ack = Frame6::from(&CLIENT, 7, (VIP6, 80), l4);
    expect(&mut rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().sent_to(&REALS6[0], 80));
    let [(key, entry)] = rig6::sticky(&rig)[..] else { panic!("{:?}", rig6::sticky(&rig)) };
    assert_eq!((key, entry.real, entry.life_s), (wanted, FIREWALL, 600));
    assert_eq!(rig.kinds(), [EVENT_CONNECTION | EVENT_V6, EVENT_STICKY | EVENT_V6]);
    // Its ring is empty: only what sticks leads anywhere.
    let opens = Frame6::from(&REALS6[0], 5, (CLIENT.ip, 20), L4::Tcp { flags: SYN, seq: 7, ack: 0 });
    expect(&mut rig, Side::Server, &opens, Reason::ForwardedNew, &opens.clone().routed_to(&NEAR6));
}

#[test]
fn answers_and_what_the_server_opens_go_out_by_the_firewall_that_the_client_came_by() {
    let all = V6::from(std::net::Ipv6Addr::from_bits(u128::MAX));
    let by_client = StickyKey { group: GROUP, client_be: CLIENT.ip.into() };
    comes_and_goes(VSERVER_STICKY_DESTINATION, all, by_client);
    let half = V6::from(std::net::Ipv6Addr::from_bits(u128::MAX << 64));
    let by_both = pair(GROUP, V6::from(REALS6[0].ip), V6::from(CLIENT.ip), half);
    comes_and_goes(VSERVER_STICKY_BOTH, half, by_both);
}
