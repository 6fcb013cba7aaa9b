//! `failaction reassign`: connections of failed reals go on at others.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use csm_common::counter::Reason;
use csm_common::names;
use csm_common::service::{REAL_USABLE, Real, VSERVER_DISPATCH, VSERVER_INSERVICE, VSERVER_REPLICATE};
use csm_tests::rig::{FAR_CLIENT, Host, REALS, Rig, Side, VIP, WEB};
use csm_user::dataplane::plan::{Desired, RealKey, RealName};
use csm_user::dataplane::reassign::{Others, reassign};
use csm_user::dataplane::ring::{Change, Delta, DeltaSink};
use csm_user::dataplane::selection::Selection;
use csm_user::dataplane::table::Table;
use csm_user::model::{ConnectionLimit, Name, Real as Known, RealAdmin, Serverfarm, StableId};

use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, Frame, L4, PSH, SERVER_ISN, SYN, expect, handshake};

/// A farm of the rig's reals, of which `up` are in rotation.
fn farm(up: &[u8]) -> (Serverfarm, Desired) {
    let name = Name::new("FARM").expect("a name");
    let mut farm = Serverfarm { nat_server: false, ..Serverfarm::new(name.clone()) };
    let mut desired = Desired::default();
    for (number, host) in (0_u8..).zip(&REALS) {
        farm.reals.push(Known {
            address: host.ip.into(),
            port: None,
            weight: 8,
            limit: ConnectionLimit::default(),
            admin: RealAdmin::InService,
            probes: Vec::new(),
            name: None,
            backup: None,
        });
        let number = u32::from(number);
        let key = RealKey { farm: name.clone(), address: host.ip.into(), port: None };
        desired.reals.insert(number, RealName { key, id: StableId(u64::from(number)) });
        let flags = if up.iter().any(|up| u32::from(*up) == number) { REAL_USABLE } else { 0 };
        let real = Real {
            ip_be: 0,
            port_be: 0,
            vlan: 3,
            nexthop: number,
            flags,
            farm: 1,
            max_conns: 0,
            min_conns: 0,
        };
        desired.contents.reals.insert(number, real);
    }
    (farm, desired)
}

/// The first real has failed and `others` go on; how many connections left it, and what the peer was told.
fn fail(rig: &Rig, others: &Others) -> (u64, Vec<Delta>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let sink: DeltaSink = Arc::new(move |delta| sink.lock().unwrap().push(delta));
    let table: Table = Table::open(&rig.dataplane).expect("the tables");
    let selection = Selection { reals: Some([0].into()), ..Selection::default() };
    let mut rest = |_| ControlFlow::Continue(());
    let count = reassign(&table, &selection, others, &sink, &mut |_| (), &mut rest).expect("reassigned");
    let told = told.lock().unwrap().clone();
    (count, told)
}

fn dispatching() -> Rig {
    let rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.flags = VSERVER_INSERVICE | VSERVER_DISPATCH | VSERVER_REPLICATE);
    rig
}

/// From `real` as the virtual address.
fn answer(real: &Host, flags: u8, seq: u32, ack: u32) -> Frame {
    let real = Host { ip: VIP, ..*real };
    Frame::from(&real, 80, (FAR_CLIENT.ip, CLIENT_PORT), L4::Tcp { flags, seq, ack })
}

#[test]
fn in_dispatch_mode_tcp_goes_on_at_another_real_both_ways() {
    let mut rig = dispatching();
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().routed_to(&REALS[0]));
    let first = answer(&REALS[0], SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    expect(&mut rig, Side::Server, &first, Reason::ForwardedFlow, &first.clone().routed_to(&FAR_CLIENT));
    let ack = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    expect(&mut rig, Side::Client, &ack, Reason::ForwardedFlow, &ack.clone().routed_to(&REALS[0]));

    let (others, desired) = farm(&[2]);
    let (count, told) = fail(&rig, &Others::of(&others, &desired));
    assert_eq!(count, 1);
    let [Delta::V4(Change::Up(connection))] = told[..] else { panic!("the peer hears of it: {told:?}") };
    assert_eq!((connection.real, connection.server_vlan), (2, 3));
    let question = Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).payload(b"on?");
    expect(&mut rig, Side::Client, &question, Reason::ForwardedFlow, &question.clone().routed_to(&REALS[2]));
    let on = answer(&REALS[2], PSH | ACK, SERVER_ISN.wrapping_add(1), CLIENT_ISN + 4).payload(b"on");
    expect(&mut rig, Side::Server, &on, Reason::ForwardedFlow, &on.clone().routed_to(&FAR_CLIENT));
    let flows = rig.flows(names::FLOWS);
    assert!(flows.len() == 2 && flows.iter().all(|(_, entry)| entry.real == 2), "{flows:?}");
    assert_eq!(fail(&rig, &Others::of(&others, &desired)), (0, vec![]), "none is left there");
}

#[test]
fn on_another_vlan_the_way_back_is_known_by_that_one() {
    let mut rig = dispatching();
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    rig.run(Side::Client, &syn.bytes());
    rig.run(Side::Server, &answer(&REALS[0], SYN | ACK, SERVER_ISN, CLIENT_ISN + 1).bytes());
    rig.run(Side::Client, &Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1)).bytes());
    let (others, mut desired) = farm(&[1]);
    desired.contents.reals.get_mut(&1).expect("a real").vlan = 4;
    assert_eq!(fail(&rig, &Others::of(&others, &desired)).0, 1);
    let mut vlans: Vec<_> = rig.flows(names::FLOWS).iter().map(|(key, _)| key.vlan).collect();
    vlans.sort_unstable();
    assert_eq!(vlans, [2, 4], "and no more by the one before");
    assert!(rig.flows(names::FLOWS).iter().all(|(key, entry)| {
        rig.flows(names::FLOWS).iter().any(|(twin, _)| *twin == entry.twin_key(key.proto))
    }));
}

#[test]
fn what_is_half_open_or_no_tcp_chooses_anew() {
    let mut rig = dispatching();
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().routed_to(&REALS[0]));
    let (others, desired) = farm(&[1, 2]);
    assert_eq!(fail(&rig, &Others::of(&others, &desired)), (1, vec![]), "the peer has never heard of it");
    rig.ring(WEB, &[1]);
    expect(&mut rig, Side::Client, &syn, Reason::ForwardedNew, &syn.clone().routed_to(&REALS[1]));
}

#[test]
fn nobody_goes_on_with_what_a_server_has_itself() {
    let mut rig = Rig::new().expect("the rig");
    handshake(&mut rig);
    let (mut others, desired) = farm(&[1, 2]);
    others.nat_server = true;
    let (count, told) = fail(&rig, &Others::of(&others, &desired));
    assert!(count == 1 && matches!(told[..], [Delta::V4(Change::Closed(_))]), "{told:?}");
    let ack = Frame::client(PSH | ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    assert_eq!(rig.run(Side::Client, &ack.bytes()).reason, Reason::ResetSent);
}
