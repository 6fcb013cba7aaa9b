use std::net::Ipv4Addr;

use aya::maps::{HashMap, MapData};
use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::event::{EVENT_CONNECTION, EVENT_STICKY, EVENT_V6, Lost};
use csm_common::flow::{FlowEntry, FlowKey};
use csm_common::names;
use csm_common::service::{
    REAL_STICKY, REAL_USABLE, StickyEntry, StickyKey, VSERVER_STICKY_BOTH, VSERVER_STICKY_DESTINATION,
    VSERVER_STICKY_STATICS, pair,
};
use csm_tests::rig::{FAR_CLIENT, Host, REALS, Rig, SMALL, Side, VIP, WEB, be, now_ns};
use csm_tests::rig6;
use csm_user::dataplane::load::Capacity;

use super::frames::{ACK, CLIENT_ISN, Frame, L4, PSH, SERVER_ISN, SYN, expect, handshake};

const SECOND_NS: u64 = 1_000_000_000;

fn sticky_rig() -> Rig {
    let rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.sticky_s = 1800);
    rig
}

#[track_caller]
fn opens_to(rig: &mut Rig, client: &Host, port: u16, real: usize) {
    let syn = Frame::from(client, port, (VIP, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    expect(rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().sent_to(&REALS[real], 80));
}

fn set(rig: &Rig, change: impl FnOnce(&mut StickyEntry)) {
    let mut table: HashMap<MapData, StickyKey, StickyEntry> = rig.map(names::STICKY);
    let (key, mut entry) = rig.sticky()[0];
    change(&mut entry);
    table.insert(key, entry, 0).expect("STICKY");
}

/// Sets when both directions were last seen.
fn seen(rig: &Rig, at_ns: u64) {
    let mut flows: HashMap<MapData, FlowKey, FlowEntry> = rig.map(names::FLOWS);
    for (key, entry) in rig.flows(names::FLOWS) {
        flows.insert(key, FlowEntry { last_seen_ns: at_ns, ..entry }, 0).expect("FLOWS");
    }
}

#[test]
fn a_client_keeps_its_real_and_others_are_balanced() {
    let mut rig = sticky_rig();
    handshake(&mut rig);
    let events = rig.events();
    assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EVENT_CONNECTION, EVENT_STICKY]);
    let (key, entry) = rig.sticky()[0];
    assert_eq!(key, StickyKey { group: 10, client_be: be(FAR_CLIENT.ip) });
    assert_eq!((entry.life_s, entry.real), (1800, 0));
    assert_eq!((events[1].sticky_key, events[1].sticky), (key, entry));
    for port in 1..20 {
        opens_to(&mut rig, &FAR_CLIENT, port, 0);
    }
    let other = Host { ip: Ipv4Addr::new(10, 1, 1, 2), ..FAR_CLIENT };
    opens_to(&mut rig, &other, 1, 1);
}

#[test]
fn connections_opened_side_by_side_go_to_one_real_before_any_is_proven() {
    let mut rig = sticky_rig();
    for port in 1..10 {
        opens_to(&mut rig, &FAR_CLIENT, port, 0);
    }
    assert_eq!(rig.sticky(), [], "an unproven client takes no room in the table that never evicts");
    assert_eq!(rig.events(), []);
}

#[test]
fn the_mask_makes_neighbours_one_client() {
    let mut rig = sticky_rig();
    rig.vserver(WEB, |vserver| vserver.sticky_mask_be = be(Ipv4Addr::new(255, 255, 255, 0)));
    for host in 1..10 {
        opens_to(&mut rig, &Host { ip: Ipv4Addr::new(10, 1, 1, host), ..FAR_CLIENT }, 1, 0);
    }
    opens_to(&mut rig, &Host { ip: Ipv4Addr::new(10, 1, 2, 1), ..FAR_CLIENT }, 1, 1);
}

#[test]
fn a_real_that_takes_no_sticky_clients_loses_them_and_a_draining_one_does_not() {
    let mut rig = sticky_rig();
    handshake(&mut rig);
    // Draining: out of the ring, still healthy.
    rig.ring(WEB, &[1, 2]);
    rig.real(0, |real| real.flags = REAL_STICKY);
    opens_to(&mut rig, &FAR_CLIENT, 1, 0);
    rig.real(0, |real| real.flags = 0);
    // The predictor's second turn; what it chose then holds for connections beside it.
    opens_to(&mut rig, &FAR_CLIENT, 2, 2);
    opens_to(&mut rig, &FAR_CLIENT, 3, 2);
}

#[test]
fn an_entry_ends_with_its_life() {
    let mut rig = sticky_rig();
    handshake(&mut rig);
    set(&rig, |entry| {
        entry.life_s = 1;
        entry.last_used_ns = now_ns() - SECOND_NS;
    });
    opens_to(&mut rig, &FAR_CLIENT, 1, 1);
}

#[test]
fn use_of_a_connection_renews_the_entry_at_most_once_a_second() {
    let mut rig = sticky_rig();
    handshake(&mut rig);
    let data = Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"x");
    let out = data.clone().sent_to(&REALS[0], 80);
    set(&rig, |entry| entry.last_used_ns = 5);
    seen(&rig, now_ns() + 60 * SECOND_NS);
    expect(&mut rig, Side::Client, &data, Reason::ForwardedFlow, &out);
    assert_eq!(rig.sticky()[0].1.last_used_ns, 5, "the flow was seen within a second");
    seen(&rig, now_ns() - 2 * SECOND_NS);
    let before = now_ns();
    expect(&mut rig, Side::Client, &data, Reason::ForwardedFlow, &out);
    assert!(rig.sticky()[0].1.last_used_ns >= before);
    assert!(rig.flows(names::FLOWS).iter().any(|(_, entry)| entry.last_seen_ns >= before));
}

#[test]
fn a_full_table_is_counted_and_the_connection_stands() {
    let mut rig = Rig::with_capacity(Capacity { connections: 64, embryonic: 1024, sticky: 1, ..SMALL })
        .expect("the rig");
    rig.vserver(WEB, |vserver| vserver.sticky_s = 1800);
    let mut table: HashMap<MapData, StickyKey, StickyEntry> = rig.map(names::STICKY);
    let entry = StickyEntry { last_used_ns: now_ns(), life_s: 60, real: 2 };
    table.insert(StickyKey { group: 1, client_be: 1 }, entry, 0).expect("the one entry");
    handshake(&mut rig);
    assert_eq!(rig.flows(names::FLOWS).len(), 2);
    assert_eq!((rig.sticky().len(), rig.lost(Lost::Sticky)), (1, 1));
}

#[test]
fn a_takeover_starts_the_timers_anew() {
    let mut rig = sticky_rig();
    handshake(&mut rig);
    // As a replica has it: when the connection was made, not when its client used it last.
    set(&rig, |entry| {
        entry.life_s = 8;
        entry.last_used_ns = 0;
    });
    rig.settings(|settings| settings.adopted_ns = now_ns() - 2 * SECOND_NS);
    opens_to(&mut rig, &FAR_CLIENT, 1, 0);
    rig.settings(|settings| settings.adopted_ns = now_ns() - 10 * SECOND_NS);
    set(&rig, |entry| entry.last_used_ns = 0);
    let (key, _) = rig.sticky()[0];
    let mut half_open: HashMap<MapData, StickyKey, StickyEntry> = rig.map(names::EMBRYONIC_STICKY);
    half_open.remove(&key).expect("what the last connection chose");
    opens_to(&mut rig, &FAR_CLIENT, 2, 1);
}

#[test]
fn a_group_that_spans_farms_sends_nobody_to_another_farms_real() {
    let mut rig = sticky_rig();
    handshake(&mut rig);
    opens_to(&mut rig, &FAR_CLIENT, 1, 0);
    rig.real(0, |real| real.farm = 77);
    opens_to(&mut rig, &FAR_CLIENT, 2, 1);
}

#[test]
fn by_destination_every_client_of_an_address_has_its_real() {
    let mut rig = sticky_rig();
    rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_STICKY_DESTINATION);
    let other = Host { ip: Ipv4Addr::new(10, 1, 1, 2), ..FAR_CLIENT };
    opens_to(&mut rig, &other, 1, 0);
    // What was chosen holds for the others, before and after one of them is proven.
    handshake(&mut rig);
    let (key, entry) = rig.sticky()[0];
    assert_eq!((rig.sticky().len(), key), (1, StickyKey { group: 10, client_be: be(VIP) }));
    assert_eq!((entry.life_s, entry.real), (1800, 0));
    assert_eq!(rig.events()[1].sticky_key, key);
    let mut half_open: HashMap<MapData, StickyKey, StickyEntry> = rig.map(names::EMBRYONIC_STICKY);
    assert!(half_open.remove(&key).is_err(), "it was taken out when the connection was proven");
    for host in 3..10 {
        opens_to(&mut rig, &Host { ip: Ipv4Addr::new(10, 1, 1, host), ..FAR_CLIENT }, 1, 0);
    }
    // Use renews it under the same key.
    set(&rig, |entry| entry.last_used_ns = 5);
    seen(&rig, now_ns() - 2 * SECOND_NS);
    let data = Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"x");
    expect(&mut rig, Side::Client, &data, Reason::ForwardedFlow, &data.clone().sent_to(&REALS[0], 80));
    assert!(rig.sticky()[0].1.last_used_ns > 5);
}

#[test]
fn by_both_a_client_has_a_real_for_each_address() {
    let mut rig = Rig::with_capacity(Capacity { ipv6: true, ..SMALL }).expect("the rig");
    rig.vserver(WEB, |vserver| {
        vserver.sticky_s = 1800;
        vserver.flags |= VSERVER_STICKY_BOTH | VSERVER_STICKY_STATICS;
        vserver.sticky_mask_be = be(Ipv4Addr::new(255, 255, 255, 0));
    });
    let other = Host { ip: Ipv4Addr::new(10, 1, 2, 2), ..FAR_CLIENT };
    handshake(&mut rig);
    let network = be(Ipv4Addr::new(10, 1, 1, 0));
    let mask = be(Ipv4Addr::new(255, 255, 255, 0));
    let key = pair(10, network, be(VIP), mask);
    let entries = rig6::sticky(&rig);
    assert_eq!((entries.len(), entries[0].0, entries[0].1.real), (1, key, 0));
    assert_eq!(rig.sticky(), [], "one of two addresses stands in the tables of IPv6");
    assert_eq!(rig.kinds(), [EVENT_CONNECTION, EVENT_STICKY | EVENT_V6]);
    opens_to(&mut rig, &FAR_CLIENT, 1, 0);
    opens_to(&mut rig, &other, 1, 1);
    opens_to(&mut rig, &other, 2, 1);
    // The same client and another address: what it has does not count.
    let mut table: HashMap<MapData, StickyKey<V6>, StickyEntry> = rig.map(names::STICKY6);
    table.remove(&key).expect("STICKY6");
    let mut half_open: HashMap<MapData, StickyKey<V6>, StickyEntry> = rig.map(names::EMBRYONIC_STICKY6);
    half_open.remove(&key).expect("what the last connection chose");
    table.insert(pair(10, network, be(REALS[0].ip), mask), entries[0].1, 0).expect("STICKY6");
    opens_to(&mut rig, &FAR_CLIENT, 2, 2);
    // Use renews it, and what is configured stays.
    table.insert(key, StickyEntry { last_used_ns: 5, ..entries[0].1 }, 0).expect("STICKY6");
    seen(&rig, now_ns() - 2 * SECOND_NS);
    let data = Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"x");
    expect(&mut rig, Side::Client, &data, Reason::ForwardedFlow, &data.clone().sent_to(&REALS[0], 80));
    assert!(table.get(&key, 0).expect("STICKY6").last_used_ns > 5);
    table.insert(key, StickyEntry::fixed(1), 0).expect("STICKY6");
    opens_to(&mut rig, &FAR_CLIENT, 3, 1);
}

#[test]
fn an_entry_of_the_configuration_sends_its_client_there_and_no_connection_replaces_it() {
    let mut rig = sticky_rig();
    rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_STICKY_STATICS);
    let mut table: HashMap<MapData, StickyKey, StickyEntry> = rig.map(names::STICKY);
    let key = StickyKey { group: 10, client_be: be(FAR_CLIENT.ip) };
    table.insert(key, StickyEntry::fixed(2), 0).expect("STICKY");
    opens_to(&mut rig, &FAR_CLIENT, 1, 2);
    let other = Host { ip: Ipv4Addr::new(10, 1, 1, 2), ..FAR_CLIENT };
    opens_to(&mut rig, &other, 1, 0);
    // Its real takes nobody: the client is balanced, proven, and the line stands.
    rig.real(2, |real| real.flags = 0);
    rig.ring(WEB, &[0, 0, 0]);
    let mut half_open: HashMap<MapData, StickyKey, StickyEntry> = rig.map(names::EMBRYONIC_STICKY);
    half_open.remove(&key).expect("what the first connection chose");
    handshake(&mut rig);
    assert_eq!(rig.flows(names::FLOWS).len(), 2);
    assert_eq!(rig.sticky(), [(key, StickyEntry::fixed(2))]);
    assert_eq!(rig.events().iter().map(|event| event.kind).collect::<Vec<_>>(), [EVENT_CONNECTION]);
    rig.real(2, |real| real.flags = REAL_STICKY | REAL_USABLE);
    opens_to(&mut rig, &FAR_CLIENT, 2, 2);
    // Without a `static` in the group nobody looks: the same key is a connection's to write.
    rig.vserver(WEB, |vserver| vserver.flags &= !VSERVER_STICKY_STATICS);
    rig.real(2, |real| real.flags = 0);
    let mut flows: HashMap<MapData, FlowKey, FlowEntry> = rig.map(names::FLOWS);
    for (key, _) in rig.flows(names::FLOWS) {
        flows.remove(&key).expect("FLOWS");
    }
    handshake(&mut rig);
    assert!(!rig.sticky()[0].1.is_fixed());
}
