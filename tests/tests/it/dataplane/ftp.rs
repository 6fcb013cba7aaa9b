//! FTP's data connections.

use std::net::SocketAddrV4;

use aya::Pod;
use aya::maps::{HashMap, MapData};
use csm_common::address::Address;
use csm_common::counter::Reason;
use csm_common::names;
use csm_common::service::{
    MATCH_FTP, Match, Origin, REAL_STICKY, REAL_USABLE, VSERVER_FTP, VSERVER_INSERVICE, VSERVER_REPLICATE,
    VserverKey,
};
use csm_tests::rig::{FAR_CLIENT, GATEWAY, Host, REALS, Rig, Side, VIP, WEB, be};

use super::frames::{
    ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, SERVER_ISN, SYN, expect, expect_end, handshake,
};

const OPEN: L4 = L4::Tcp { flags: SYN, seq: 1, ack: 0 };

/// A rig whose port 80 is a `service ftp`, to the second real first.
fn ftp() -> Rig {
    followed(6, 79)
}

/// A rig whose port 80 has control connections; what follows them has `proto`, and of what a real opens its own `port` (0: any).
pub(super) fn followed(proto: u8, port: u16) -> Rig {
    let rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| {
        vserver.flags = VSERVER_INSERVICE | VSERVER_FTP | VSERVER_REPLICATE;
        vserver.sticky_s = 3600;
        vserver.sticky_group = 256;
    });
    let maps = [names::VSERVER_KEYS, names::ORIGINS];
    follow(&rig, maps, (be(VIP), WEB), (0..).zip(REALS.map(|host| be(host.ip))), (proto, port));
    rig
}

/// What has `proto` follows the control connections of that virtual server, of either family: to any port, and from `port` of its reals (0: any).
pub(super) fn follow<A: Address>(
    rig: &Rig,
    [keys, origins]: [&'static str; 2],
    (virtual_be, vserver): (A, u32),
    reals: impl IntoIterator<Item = (u32, A)>,
    (proto, port): (u8, u16),
) where
    VserverKey<A>: Pod,
    Origin<A>: Pod,
{
    let mut keys: HashMap<MapData, VserverKey<A>, Match> = rig.map(keys);
    let mut origins: HashMap<MapData, VserverKey<A>, Origin<A>> = rig.map(origins);
    let key = |ip_be, port_be| VserverKey { ip_be, port_be, proto, kind: MATCH_FTP };
    keys.insert(key(virtual_be, 0), Match { vserver, rules: 0 }, 0).expect("VSERVER_KEYS");
    for (real, ip_be) in reals {
        let origin = Origin { virtual_be, port_be: port.to_be(), pad: 0, vserver, real };
        origins.insert(key(ip_be, port.to_be()), origin, 0).expect("ORIGINS");
    }
}

fn passive(host: &Host, port: u16) -> Frame {
    Frame::from(host, CLIENT_PORT + 1, (VIP, port), OPEN)
}

#[test]
fn passive_data_connections_follow_their_control_connection() {
    let mut rig = ftp();
    // Without one they are some other virtual server's: here the one for any port, which uses the first real.
    rig.ring(csm_tests::rig::ANY_TCP, &[2]);
    let early = passive(&FAR_CLIENT, 30_000);
    expect(&mut rig, Side::Client, &early, Reason::ForwardedNew, &early.clone().sent_to(&REALS[2], 30_000));
    handshake(&mut rig);
    for port in [30_001, 1024, 65_535] {
        let frame = passive(&FAR_CLIENT, port);
        expect(&mut rig, Side::Client, &frame, Reason::ForwardedNew, &frame.clone().sent_to(&REALS[0], port));
    }
    let low = passive(&FAR_CLIENT, 1023);
    expect(&mut rig, Side::Client, &low, Reason::ForwardedNew, &low.clone().sent_to(&REALS[2], 1023));
    let stranger = passive(&Host { ip: [10, 9, 9, 9].into(), ..GATEWAY }, 30_001);
    let out = stranger.clone().sent_to(&REALS[2], 30_001);
    expect(&mut rig, Side::Client, &stranger, Reason::ForwardedNew, &out);
    // A real on its way out serves its control connections' data to the end, on the ports that it names.
    rig.real(0, |real| (real.flags, real.port_be) = (0, 2121u16.to_be()));
    let frame = passive(&FAR_CLIENT, 30_002);
    expect(&mut rig, Side::Client, &frame, Reason::ForwardedNew, &frame.clone().sent_to(&REALS[0], 30_002));
    rig.real(0, |real| real.flags = REAL_STICKY | REAL_USABLE);
    let again = Frame::from(&FAR_CLIENT, 5, (VIP, 80), OPEN);
    expect(&mut rig, Side::Client, &again, Reason::ForwardedNew, &again.clone().sent_to(&REALS[0], 2121));
}

#[test]
fn active_data_connections_come_from_the_virtual_address() {
    let mut rig = ftp();
    let open = |host: &Host, port| Frame::from(host, port, (FAR_CLIENT.ip, 50_000), OPEN);
    let plain = open(&REALS[0], 79);
    expect(&mut rig, Side::Server, &plain, Reason::ForwardedRouted, &plain.clone().routed_to(&FAR_CLIENT));
    handshake(&mut rig);
    rig.events();
    let other = Frame::from(&REALS[0], 79, (FAR_CLIENT.ip, 50_001), OPEN);
    let out = other.clone().answered_as(VIP, 79, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &other, Reason::ForwardedNew, &out);
    // The client's answer finds the real, and its acknowledgement proves the connection.
    let tcp = |flags, seq, ack| L4::Tcp { flags, seq, ack };
    let answer = Frame::from(&FAR_CLIENT, 50_001, (VIP, 79), tcp(SYN | ACK, SERVER_ISN, 2));
    let mut out = answer.clone().routed_to(&REALS[0]);
    out.dst = SocketAddrV4::new(REALS[0].ip, 79);
    expect(&mut rig, Side::Client, &answer, Reason::ForwardedFlow, &out);
    let ack = Frame { l4: tcp(ACK, 2, SERVER_ISN.wrapping_add(1)), ..other };
    let out = ack.clone().answered_as(VIP, 79, &FAR_CLIENT);
    expect(&mut rig, Side::Server, &ack, Reason::ForwardedFlow, &out);
    let told = rig.events();
    let [event] = told[..] else { panic!("one event, not {told:?}") };
    assert_eq!((event.connection.vserver, event.connection.source_be), (WEB, be(VIP)));
    assert_eq!(rig.flows(names::FLOWS).len(), 4);
    assert_eq!(rig.sticky().len(), 1, "the real is nobody's client");
    // Another real has nothing to do with that client, nor another port.
    for frame in [open(&REALS[1], 79), open(&REALS[0], 78)] {
        let out = frame.clone().routed_to(&FAR_CLIENT);
        expect(&mut rig, Side::Server, &frame, Reason::ForwardedRouted, &out);
    }
    // A virtual server that is out of service opens nothing in its name.
    rig.vserver(WEB, |vserver| vserver.flags = VSERVER_FTP);
    let late = Frame::from(&REALS[0], 79, (FAR_CLIENT.ip, 50_002), OPEN);
    expect(&mut rig, Side::Server, &late, Reason::ForwardedRouted, &late.clone().routed_to(&FAR_CLIENT));
    let closed = Frame::from(&FAR_CLIENT, 50_003, (VIP, 79), tcp(ACK, CLIENT_ISN, 2));
    expect_end(&mut rig, Side::Client, &closed, Reason::DropNoConnection);
}
