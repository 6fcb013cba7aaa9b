use csm_common::counter::Reason;
use csm_common::gate::GateState;
use csm_common::net::relay_mac;
use csm_tests::rig::{ALIAS, FAR_CLIENT, GATEWAY, NEAR_CLIENT, PEER_MAC, REALS, Rig, Side, VIP, VIRTUAL_MAC};
use std::time::Duration;

use super::frames::{Frame, L4, expect, expect_end};

#[test]
fn the_groups_addresses_answer() {
    let mut rig = Rig::new().expect("the rig");
    for (side, host, address, ttl) in [
        (Side::Client, NEAR_CLIENT, VIP, 64),
        (Side::Client, FAR_CLIENT, VIP, 1),
        (Side::Server, REALS[2], ALIAS, 255),
    ] {
        let mut request =
            Frame::from(&host, 0, (address, 0), L4::EchoRequest { id: 0x1234 }).payload(b"0123456789");
        request.ttl = ttl;
        let reply = Frame {
            src_mac: VIRTUAL_MAC,
            dst_mac: host.mac,
            src: request.dst,
            dst: request.src,
            ttl: 64,
            l4: L4::EchoReply { id: 0x1234 },
            ..request.clone()
        };
        expect(&mut rig, side, &request, Reason::EchoReplied, &reply);
    }
    assert_eq!(rig.flows(csm_common::names::EMBRYONIC), []);
}

#[test]
fn a_relayed_request_is_answered_by_route() {
    let mut rig = Rig::new().expect("the rig");
    rig.gate(GateState::RelayIn, Duration::from_secs(60));
    let mut request = Frame::from(&FAR_CLIENT, 0, (VIP, 0), L4::EchoRequest { id: 9 });
    request.src_mac = relay_mac(2);
    request.dst_mac = rig.own_mac(Side::Ft);
    let reply = Frame {
        src_mac: rig.own_mac(Side::Client),
        dst_mac: GATEWAY.mac,
        src: request.dst,
        dst: request.src,
        l4: L4::EchoReply { id: 9 },
        ..request.clone()
    };
    expect(&mut rig, Side::Ft, &request, Reason::EchoReplied, &reply);
    assert_ne!(request.src_mac, PEER_MAC);
}

#[test]
fn other_icmp_is_refused() {
    let mut rig = Rig::new().expect("the rig");
    let request = Frame::from(&FAR_CLIENT, 0, (VIP, 0), L4::EchoRequest { id: 9 });
    for kind in [4, 5, 9, 13, 17] {
        let mut other = request.bytes();
        other[34] = kind;
        assert_eq!(rig.run(Side::Client, &other).reason, Reason::DropProtocol, "type {kind}");
    }
    let reply = Frame { l4: L4::EchoReply { id: 9 }, ..request };
    expect_end(&mut rig, Side::Client, &reply, Reason::DropNoVserver);
}
