//! `max-conns` of a virtual server, and `maxconns` of its owner.

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use csm_common::counter::Reason;
use csm_common::names;
use csm_common::rate::Refused;
use csm_common::service::{MATCH_FTP, Match, VSERVER_FTP, VSERVER_REPLICATE, VserverKey, place_slot};
use csm_tests::rig::{ANY_TCP, FAR_CLIENT, REALS, Rig, SMALL, Side, VIP, WEB, be};
use csm_user::dataplane::load::Capacity;

use super::frames::{ACK, CLIENT_PORT, Frame, L4, RST, SYN, handshake};
use super::rates::open_on_two_cpus;
use super::rebuild;

const OPEN: L4 = L4::Tcp { flags: SYN, seq: 1, ack: 0 };
const FULL: Reason = Reason::DropVserverFull;
const NEW: Reason = Reason::ForwardedNew;

fn open_to(rig: &mut Rig, port: u16, to: u16) -> Reason {
    rig.run(Side::Client, &Frame::from(&FAR_CLIENT, port, (VIP, to), OPEN).bytes()).reason
}

fn open(rig: &mut Rig, port: u16) -> Reason {
    open_to(rig, port, 80)
}

/// Whichever real has it resets the connection from `port`.
fn end(rig: &mut Rig, port: u16) {
    let ended = |real| {
        let reset = L4::Tcp { flags: RST | ACK, seq: 0, ack: 2 };
        rig.run(Side::Server, &Frame::from(real, 80, (FAR_CLIENT.ip, port), reset).bytes()).reason
    };
    let ends: Vec<Reason> = REALS.iter().map(ended).collect();
    assert!(ends.contains(&Reason::ForwardedFlow), "{ends:?}");
}

fn places(rig: &Rig, vserver: u32) -> u64 {
    let map: Array<MapData, u64> = rig.map(names::PLACES);
    map.get(&vserver, 0).expect("PLACES")
}

fn refused(rig: &Rig, vserver: u32) -> u64 {
    let map: PerCpuArray<MapData, Refused> = rig.map(names::REFUSED);
    map.get(&vserver, 0).expect("REFUSED").iter().map(|count| count.max_conns).sum()
}

#[test]
fn a_virtual_server_has_no_more_connections_than_it_may() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.max_conns = 3);
    let got = [1, 2, 3, 4, 5].map(|port| open(&mut rig, port));
    assert_eq!(got, [NEW, NEW, NEW, FULL, FULL]);
    assert_eq!((places(&rig, WEB), refused(&rig, WEB)), (3, 2));
    assert_eq!(rig.flows(names::EMBRYONIC).len(), 6, "a refusal leaves nothing behind");
    // Sent again, it is no new connection; another virtual server has no limit.
    assert_eq!(open(&mut rig, 2), Reason::ForwardedFlow);
    assert_eq!((open_to(&mut rig, 9, 8080), places(&rig, ANY_TCP)), (NEW, 0), "nor is it counted");
    end(&mut rig, 2);
    end(&mut rig, 2);
    assert_eq!(places(&rig, WEB), 2, "it ends once");
    assert_eq!([6, 7].map(|port| open(&mut rig, port)), [NEW, FULL]);
    // What the controller found, replicas among it, counts as well.
    rig.change(names::PLACE_BASES, WEB, |base: &mut u64| *base = 1_u64.wrapping_neg());
    assert_eq!([8, 9].map(|port| open(&mut rig, port)), [NEW, FULL]);
}

#[test]
fn an_established_connection_has_its_place_until_it_ends() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.max_conns = 1);
    handshake(&mut rig);
    assert_eq!((places(&rig, WEB), open(&mut rig, 1)), (1, FULL), "proven, it is the same one");
    let reset = Frame::server(RST | ACK, 5001, 0).bytes();
    assert_eq!(rig.run(Side::Server, &reset).reason, Reason::ForwardedFlow);
    assert_eq!((places(&rig, WEB), open(&mut rig, 1)), (0, NEW));
}

#[test]
fn a_connection_that_cannot_be_made_gives_its_place_back() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| (vserver.max_conns, vserver.pool) = (1, 1));
    assert_eq!(open(&mut rig, 1), Reason::DropPoolExhausted, "the pool is empty");
    rig.vserver(WEB, |vserver| (vserver.pool, vserver.ring_len) = (0, 0));
    assert_eq!(open(&mut rig, 1), Reason::DropNoReal);
    assert_eq!(places(&rig, WEB), 0);
    rig.vserver(WEB, |vserver| vserver.ring_len = 3);
    assert_eq!(open(&mut rig, 1), NEW);
}

#[test]
fn policies_share_their_virtual_servers_places() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| vserver.max_conns = 2);
    rig.vserver(ANY_TCP, |vserver| (vserver.max_conns, vserver.policy_of) = (2, WEB + 1));
    assert_eq!(place_slot(ANY_TCP, WEB + 1), WEB);
    let got = [(1, 80), (2, 8080), (3, 80), (4, 8080)].map(|(port, to)| open_to(&mut rig, port, to));
    assert_eq!(got, [NEW, NEW, FULL, FULL]);
    assert_eq!((places(&rig, WEB), places(&rig, ANY_TCP)), (2, 0));
}

/// They are where their control connection is, whether there is room or not.
#[test]
fn data_connections_of_ftp_are_never_refused_and_count() {
    let mut rig = Rig::new().expect("the rig");
    rig.vserver(WEB, |vserver| {
        vserver.flags |= VSERVER_FTP | VSERVER_REPLICATE;
        (vserver.sticky_s, vserver.sticky_group, vserver.max_conns) = (3600, 256, 1);
    });
    let mut keys: HashMap<MapData, VserverKey, Match> = rig.map(names::VSERVER_KEYS);
    let data = VserverKey { ip_be: be(VIP), port_be: 0, proto: 6, kind: MATCH_FTP };
    keys.insert(data, Match { vserver: WEB, rules: 0 }, 0).expect("VSERVER_KEYS");
    handshake(&mut rig);
    assert_eq!(open_to(&mut rig, CLIENT_PORT + 1, 30_000), NEW);
    assert_eq!((open(&mut rig, CLIENT_PORT + 2), places(&rig, WEB)), (FULL, 2));
}

#[test]
fn a_rebuilt_connection_is_never_refused_and_counts() {
    let mut rig = Rig::new().expect("the rig");
    rebuild::know(&rig);
    rig.vserver(WEB, |vserver| vserver.max_conns = 1);
    assert_eq!(open(&mut rig, 1), NEW);
    let segment = Frame::from(&REALS[0], 80, (FAR_CLIENT.ip, 7), L4::Tcp { flags: ACK, seq: 9, ack: 3 });
    assert_eq!(rig.run(Side::Server, &segment.bytes()).reason, Reason::ForwardedRebuilt);
    assert_eq!((places(&rig, WEB), open(&mut rig, 2)), (2, FULL));
}

#[test]
fn two_cpus_fill_a_virtual_server_exactly() {
    let rig = Rig::with_capacity(Capacity { embryonic: 1 << 14, ..SMALL }).expect("the rig");
    rig.vserver(WEB, |vserver| vserver.max_conns = 1700);
    open_on_two_cpus(&rig, 3000);
    assert_eq!((rig.flows(names::EMBRYONIC).len(), places(&rig, WEB)), (2 * 1700, 1700));
    assert_eq!(refused(&rig, WEB), 6000 - 1700);
}

/// Element of `PLACES` of an owner: a number that no virtual server has.
const OWNER: u32 = 7;

/// The virtual servers of both have this owner, which may have so many.
fn owned(rig: &Rig, most: u32) {
    for number in [WEB, ANY_TCP] {
        rig.vserver(number, |vserver| (vserver.owner, vserver.owner_max_conns) = (OWNER + 1, most));
    }
}

#[test]
fn an_owner_has_no_more_connections_than_it_may_over_all_its_virtual_servers() {
    let mut rig = Rig::new().expect("the rig");
    owned(&rig, 3);
    let got = [(1, 80), (2, 8080), (3, 80), (4, 8080), (5, 80)].map(|(port, to)| open_to(&mut rig, port, to));
    let full = Reason::DropOwnerFull;
    assert_eq!(got, [NEW, NEW, NEW, full, full]);
    assert_eq!(
        (places(&rig, OWNER), places(&rig, WEB)),
        (3, 0),
        "a virtual server without a limit is not counted"
    );
    end(&mut rig, 3);
    assert_eq!((places(&rig, OWNER), open_to(&mut rig, 6, 8080)), (2, NEW));
}

#[test]
fn who_is_refused_by_the_owner_gives_back_the_virtual_servers_place() {
    let mut rig = Rig::new().expect("the rig");
    owned(&rig, 2);
    rig.vserver(WEB, |vserver| vserver.max_conns = 2);
    assert_eq!([(1, 80), (2, 8080)].map(|(port, to)| open_to(&mut rig, port, to)), [NEW, NEW]);
    assert_eq!(open(&mut rig, 3), Reason::DropOwnerFull);
    assert_eq!((places(&rig, WEB), places(&rig, OWNER)), (1, 2));
    // Its own limit is asked first, and takes nothing of the owner's.
    owned(&rig, 9);
    assert_eq!([4, 5].map(|port| open(&mut rig, port)), [NEW, FULL]);
    assert_eq!((places(&rig, WEB), places(&rig, OWNER)), (2, 3));
    // What cannot be made gives both back.
    rig.vserver(WEB, |vserver| (vserver.max_conns, vserver.ring_len) = (9, 0));
    assert_eq!(open(&mut rig, 6), Reason::DropNoReal);
    assert_eq!((places(&rig, WEB), places(&rig, OWNER)), (2, 3));
}

#[test]
fn two_cpus_fill_an_owner_exactly() {
    let rig = Rig::with_capacity(Capacity { embryonic: 1 << 14, ..SMALL }).expect("the rig");
    owned(&rig, 1700);
    rig.vserver(WEB, |vserver| vserver.max_conns = 6000);
    open_on_two_cpus(&rig, 3000);
    assert_eq!(rig.flows(names::EMBRYONIC).len(), 2 * 1700);
    assert_eq!((places(&rig, WEB), places(&rig, OWNER)), (1700, 1700));
}
