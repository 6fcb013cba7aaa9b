//! Policies: an element of their own that a client's network leads to, and the code point that it writes.

use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, MapData};
use csm_common::counter::Reason;
use csm_common::flow::{FLAG_REPLICA, NONE, mark};
use csm_common::names;
use csm_common::rate::Rate;
use csm_common::service::{ClientKey, Match, VSERVER_INSERVICE, VSERVER_POLICIES_ONLY, VserverKey};
use csm_tests::rig::{FAR_CLIENT, NEAR_CLIENT, REALS, Rig, Run, Side, VIP, WEB, be};
use etherparse::Ipv4Header;

use super::frames::{
    ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, PSH, SERVER_ISN, SYN, expect, expect_end, handshake,
};

/// A number that the rig leaves free.
const POLICY: u32 = 8;
/// ECN: congestion experienced.
const CE: u8 = 3;

/// Gives the far client's network to a policy of `WEB` that sends to the third real, all others to `others`.
fn policy(rig: &Rig, others: u32) {
    rig.vserver(POLICY, |vserver| {
        (vserver.flags, vserver.idle_s, vserver.policy_of) = (VSERVER_INSERVICE, 3600, WEB + 1);
    });
    rig.ring(POLICY, &[2]);
    let mut keys: HashMap<MapData, VserverKey, Match> = rig.map(names::VSERVER_KEYS);
    let mut clients: LpmTrie<MapData, ClientKey, u32> = rig.map(names::CLIENTS);
    let key = VserverKey { ip_be: be(VIP), port_be: 80_u16.to_be(), proto: 6, kind: 0 };
    keys.insert(key, Match { vserver: WEB, rules: 1 }, 0).expect("VSERVER_KEYS");
    let of = |client_be| ClientKey { rules: 1, vlan: 0, client_be };
    clients.insert(&Key::new(32 + 24, of(be(FAR_CLIENT.ip))), POLICY, 0).expect("CLIENTS");
    clients.insert(&Key::new(32, of(0)), others, 0).expect("CLIENTS");
}

/// `frame` with that octet of its header.
fn with_tos(frame: &Frame, tos: u8) -> Vec<u8> {
    let mut bytes = frame.bytes();
    let (mut header, _) = Ipv4Header::from_slice(&bytes[14..]).expect("a header");
    header.dscp = (tos >> 2).try_into().expect("six bits");
    header.ecn = (tos & 3).try_into().expect("two bits");
    header.header_checksum = header.calc_header_checksum();
    bytes[14..34].copy_from_slice(&header.to_bytes());
    bytes
}

/// Runs `frame` with octet `tos`, expects `out` with octet `becomes`.
#[track_caller]
fn crosses(rig: &mut Rig, side: Side, (frame, tos): (&Frame, u8), (out, becomes): (&Frame, u8)) {
    let Run { frame: sent, .. } = rig.run(side, &with_tos(frame, tos));
    assert_eq!(sent, with_tos(out, becomes));
}

#[test]
fn a_policys_clients_have_its_farm_and_its_counters_and_all_others_the_virtual_servers() {
    let mut rig = Rig::new().expect("the rig");
    policy(&rig, WEB);
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[2], 80));
    let near = Frame::from(&NEAR_CLIENT, 7, (VIP, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    expect(&mut rig, Side::Client, &near, Reason::ForwardedNew, &near.clone().sent_to(&REALS[0], 80));
    let packets = |rig: &Rig, number| rig.service_count(names::VSERVER_COUNTS, number).client_packets;
    assert_eq!((packets(&rig, POLICY), packets(&rig, WEB)), (1, 1));
}

#[test]
fn who_is_of_no_policy_is_refused_where_there_is_no_farm_for_all() {
    let mut rig = Rig::new().expect("the rig");
    policy(&rig, WEB);
    rig.vserver(WEB, |vserver| vserver.flags = VSERVER_POLICIES_ONLY);
    let near = Frame::from(&NEAR_CLIENT, 7, (VIP, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    expect_end(&mut rig, Side::Client, &near, Reason::DropNoMatch);
    // A policy without a farm is a matter of configuration.
    rig.vserver(POLICY, |vserver| vserver.flags = 0);
    expect_end(&mut rig, Side::Client, &Frame::client(SYN, CLIENT_ISN, 0), Reason::DropNoPolicy);
}

#[test]
fn policies_of_a_virtual_server_share_its_rate() {
    let mut rig = Rig::new().expect("the rig");
    policy(&rig, WEB);
    for number in [WEB, POLICY] {
        rig.vserver(number, |vserver| vserver.rate = Rate::new(1, 2));
    }
    let syn = |host, port| Frame::from(host, port, (VIP, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    let (far, near) = (syn(&FAR_CLIENT, 1), syn(&NEAR_CLIENT, 2));
    expect(&mut rig, Side::Client, &far, Reason::ForwardedNew, &far.clone().sent_to(&REALS[2], 80));
    expect(&mut rig, Side::Client, &near, Reason::ForwardedNew, &near.clone().sent_to(&REALS[0], 80));
    expect_end(&mut rig, Side::Client, &syn(&FAR_CLIENT, 3), Reason::DropRate);
}

#[test]
fn a_code_point_is_written_towards_the_server_and_congestion_stays_told() {
    let mut rig = Rig::new().expect("the rig");
    for (dscp, tos) in [(46, 0), (46, CE), (0, 0xfc | CE), (63, 1)] {
        rig.vserver(WEB, |vserver| vserver.mark = mark(dscp));
        let becomes = dscp << 2 | tos & CE;
        let port = CLIENT_PORT + u16::from(dscp) + u16::from(tos) * 64;
        let from_client =
            |flags, seq, ack| Frame::from(&FAR_CLIENT, port, (VIP, 80), L4::Tcp { flags, seq, ack });
        let real = rig.run(Side::Client, &with_tos(&from_client(SYN, CLIENT_ISN, 0), tos));
        let real = REALS.iter().find(|host| real.frame[..6] == host.mac).expect("a real");
        let syn = from_client(SYN, CLIENT_ISN, 0);
        crosses(&mut rig, Side::Client, (&syn, tos), (&syn.clone().sent_to(real, 80), becomes));
        let answer = Frame::from(
            real,
            80,
            (FAR_CLIENT.ip, port),
            L4::Tcp { flags: SYN | ACK, seq: SERVER_ISN, ack: CLIENT_ISN + 1 },
        );
        let back = answer.clone().answered_as(VIP, 80, &FAR_CLIENT);
        crosses(&mut rig, Side::Server, (&answer, 0x28), (&back, 0x28));
        // The one that proves it, and one that would take the short way.
        for _ in 0..2 {
            let ack = from_client(ACK | PSH, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"odd");
            crosses(&mut rig, Side::Client, (&ack, tos), (&ack.clone().sent_to(real, 80), becomes));
        }
    }
    let marks = rig.flows(names::FLOWS).into_iter().map(|(_, entry)| entry.mark);
    assert_eq!(marks.filter(|mark| *mark == 0).count(), 4, "of the way back");
}

#[test]
fn a_connection_keeps_the_code_point_that_it_was_opened_with() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.mark = mark(10));
    handshake_of(&mut rig, 10 << 2);
    rig.vserver(WEB, |vserver| vserver.mark = 0);
    let data = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    crosses(&mut rig, Side::Client, (&data, 0), (&data.clone().sent_to(&REALS[0], 80), 10 << 2));
    let flows = rig.flows(names::FLOWS);
    assert!(flows.iter().all(|(_, entry)| entry.flags & FLAG_REPLICA == 0 && entry.vserver != NONE));
}

/// The usual handshake, whose packets of the client leave with octet `tos`.
fn handshake_of(rig: &mut Rig, tos: u8) {
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    crosses(rig, Side::Client, (&syn, 0), (&syn.clone().sent_to(&REALS[0], 80), tos));
    let answer = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    crosses(rig, Side::Server, (&answer, 0), (&answer.clone().answered_as(VIP, 80, &FAR_CLIENT), 0));
    let ack = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    crosses(rig, Side::Client, (&ack, 0), (&ack.clone().sent_to(&REALS[0], 80), tos));
}

#[test]
fn without_a_mark_the_octet_stays_as_it_comes() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let data = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    crosses(&mut rig, Side::Client, (&data, 0xb9), (&data.clone().sent_to(&REALS[0], 80), 0xb9));
}
