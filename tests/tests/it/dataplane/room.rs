//! `maxconns`, `minconns` and the backup farm.

use std::net::Ipv4Addr;

use aya::maps::{Array, MapData};
use csm_common::counter::Reason;
use csm_common::names;
use csm_common::rate::Refused;
use csm_common::service::{
    REAL_STICKY, Settings, VSERVER_BACKUP, VSERVER_BACKUP_STICKY, VSERVER_COUNTED, VSERVER_HASH_SOURCE,
    VSERVER_LEASTCONNS, ring_slot, weighted_slot,
};
use csm_tests::rig::{ANY_TCP, FAR_CLIENT, Host, REALS, Rig, SMALL, Side, VIP, WEB, be};
use csm_user::dataplane::load::Capacity;

use super::frames::{ACK, Frame, L4, RST, SYN};
use super::rates::open_on_two_cpus;

const OPEN: L4 = L4::Tcp { flags: SYN, seq: 1, ack: 0 };
/// A virtual server's element that no packet leads to: it describes the backup farm, whose one real is [`SORRY`].
const BACKUP: u32 = ANY_TCP;
/// The third host, in a farm of its own.
const SORRY: u32 = 6;

fn client(last: u8) -> Host {
    Host { ip: Ipv4Addr::new(10, 1, 1, last), ..FAR_CLIENT }
}

/// Which real a connection went to, or why to none.
fn open_from(rig: &mut Rig, client: &Host, port: u16) -> Result<usize, Reason> {
    let run = rig.run(Side::Client, &Frame::from(client, port, (VIP, 80), OPEN).bytes());
    if run.reason != Reason::ForwardedNew {
        return Err(run.reason);
    }
    Ok(REALS.iter().position(|real| run.frame[30..34] == real.ip.octets()).expect("one of the reals"))
}

fn open(rig: &mut Rig, port: u16) -> Result<usize, Reason> {
    open_from(rig, &FAR_CLIENT, port)
}

/// The server resets the connection from `port`.
fn end(rig: &mut Rig, real: usize, port: u16) {
    let reset = L4::Tcp { flags: RST | ACK, seq: 0, ack: 2 };
    let frame = Frame::from(&REALS[real], 80, (FAR_CLIENT.ip, port), reset);
    assert_eq!(rig.run(Side::Server, &frame.bytes()).reason, Reason::ForwardedFlow);
}

/// Reals 0 and 1 with these limits; each stands in the ring, and behind it once more.
fn limited(rig: &Rig, limits: [(u32, u32); 2]) {
    for (number, (max, min)) in (0..).zip(limits) {
        rig.real(number, |real| (real.max_conns, real.min_conns) = (max, min));
    }
    rig.ring(WEB, &[0, 1].map(|real| weighted_slot(real, 1)).repeat(2));
    rig.vserver(WEB, |vserver| {
        vserver.flags |= VSERVER_COUNTED;
        (vserver.ring_len, vserver.spare_len) = (2, 2);
    });
}

/// The third host serves while none of the farm can.
fn with_backup(rig: &Rig) {
    rig.real(SORRY, |real| {
        (real.ip_be, real.vlan, real.nexthop) = (be(REALS[2].ip), 3, 2);
        (real.flags, real.farm) = (REAL_STICKY, 9);
    });
    rig.ring(BACKUP, &[weighted_slot(SORRY, 1)]);
    rig.vserver(BACKUP, |vserver| {
        vserver.flags |= VSERVER_COUNTED;
        vserver.farm = 9;
    });
    rig.vserver(WEB, |vserver| {
        vserver.flags |= VSERVER_BACKUP;
        (vserver.backup, vserver.backup_farm) = (BACKUP, 9);
    });
}

fn loads(rig: &Rig) -> [u64; 2] {
    let map: Array<MapData, u64> = rig.map(names::LOADS);
    [0, 1].map(|real| map.get(&real, 0).expect("LOADS"))
}

fn refused(rig: &Rig) -> u64 {
    let map: aya::maps::PerCpuArray<MapData, Refused> = rig.map(names::REFUSED);
    map.get(&WEB, 0).expect("REFUSED").iter().map(|count| count.no_real).sum()
}

#[test]
fn a_real_has_no_more_connections_than_it_may() {
    let mut rig = Rig::new().expect("the rig");
    limited(&rig, [(2, 2), (3, 3)]);
    let got: Vec<_> = (1..=7).map(|port| open(&mut rig, port)).collect();
    assert_eq!(got.iter().filter(|got| **got == Ok(0)).count(), 2, "{got:?}");
    assert_eq!(got.iter().filter(|got| **got == Ok(1)).count(), 3, "{got:?}");
    assert_eq!(got[5..], [Err(Reason::DropMaxConns); 2]);
    assert_eq!((loads(&rig), refused(&rig)), ([2, 3], 2));
    // One that is sent again is no new one.
    let again = Frame::from(&FAR_CLIENT, 1, (VIP, 80), OPEN).bytes();
    assert_eq!(rig.run(Side::Client, &again).reason, Reason::ForwardedFlow);
    let port = (1..=5).find(|port| got[usize::from(*port) - 1] == Ok(0)).expect("one of real 0");
    end(&mut rig, 0, port);
    assert_eq!([8, 9].map(|port| open(&mut rig, port)), [Ok(0), Err(Reason::DropMaxConns)]);
    // What the controller found, replicas among it, counts as well.
    rig.change(names::LOAD_BASES, 1, |base: &mut u64| *base = 2_u64.wrapping_neg());
    assert_eq!([10, 11, 12].map(|port| open(&mut rig, port)), [Ok(1), Ok(1), Err(Reason::DropMaxConns)]);
}

#[test]
fn a_real_that_was_full_waits_until_it_has_fewer_than_minconns() {
    let mut rig = Rig::new().expect("the rig");
    limited(&rig, [(4, 2), (1, 1)]);
    let got: Vec<_> = (1..=5).map(|port| open(&mut rig, port)).collect();
    assert!(got.iter().all(Result::is_ok), "{got:?}");
    let mut of_first = (1..=5).filter(|port| got[usize::from(*port) - 1] == Ok(0));
    assert_eq!(open(&mut rig, 10), Err(Reason::DropMaxConns));
    for port in [11, 12] {
        end(&mut rig, 0, of_first.next().expect("four"));
        assert_eq!(open(&mut rig, port), Err(Reason::DropMaxConns), "three, then two: not fewer than two");
    }
    end(&mut rig, 0, of_first.next().expect("four"));
    let got = [20, 21, 22, 23].map(|port| open(&mut rig, port));
    assert_eq!(got, [Ok(0), Ok(0), Ok(0), Err(Reason::DropMaxConns)], "up to its most again");
}

#[test]
fn whatever_the_predictor_one_with_room_is_found() {
    for flags in [VSERVER_HASH_SOURCE, VSERVER_LEASTCONNS] {
        let mut rig = Rig::new().expect("the rig");
        limited(&rig, [(2, 2), (3, 3)]);
        rig.vserver(WEB, |vserver| vserver.flags |= flags);
        let got: Vec<_> = (1..=6).map(|port| open(&mut rig, port)).collect();
        assert!(got[..5].iter().all(Result::is_ok), "{got:?}");
        assert_eq!((got[5], loads(&rig)), (Err(Reason::DropMaxConns), [2, 3]));
    }
}

#[test]
fn a_client_that_sticks_to_a_full_real_goes_to_another() {
    let mut rig = Rig::new().expect("the rig");
    limited(&rig, [(2, 2), (9, 9)]);
    rig.vserver(WEB, |vserver| vserver.sticky_s = 60);
    let real = open(&mut rig, 1).expect("a real");
    assert_eq!(real, 0);
    assert_eq!(open(&mut rig, 2), Ok(0), "it sticks");
    assert_eq!(open(&mut rig, 3), Ok(1));
    assert_eq!(open(&mut rig, 4), Ok(1), "to the other from now on");
}

#[test]
fn a_connection_that_cannot_be_made_gives_its_place_back() {
    let mut rig = Rig::new().expect("the rig");
    limited(&rig, [(1, 1), (1, 1)]);
    rig.vserver(WEB, |vserver| vserver.pool = 1);
    assert_eq!(open(&mut rig, 1), Err(Reason::DropPoolExhausted), "the pool is empty");
    assert_eq!(loads(&rig), [0, 0]);
    rig.vserver(WEB, |vserver| vserver.pool = 0);
    assert!([2, 3].iter().all(|port| open(&mut rig, *port).is_ok()));
}

#[test]
fn the_backup_farm_serves_while_no_real_can() {
    let mut rig = Rig::new().expect("the rig");
    limited(&rig, [(1, 1), (1, 1)]);
    with_backup(&rig);
    let got = [1, 2, 3, 4].map(|port| open(&mut rig, port));
    assert!(got[..2].iter().all(|got| *got != Ok(2)), "{got:?}");
    assert_eq!(got[2..], [Ok(2), Ok(2)]);
    end(&mut rig, got[0].expect("a real"), 1);
    assert_eq!(open(&mut rig, 5), got[0], "room again");
    // None in rotation; its connections go on, those of the backup farm as well.
    rig.vserver(WEB, |vserver| (vserver.ring_len, vserver.spare_len) = (0, 0));
    assert_eq!(open(&mut rig, 6), Ok(2));
    rig.vserver(BACKUP, |vserver| vserver.ring_len = 0);
    assert_eq!(open(&mut rig, 7), Err(Reason::DropNoReal));
    let again = Frame::from(&FAR_CLIENT, 3, (VIP, 80), OPEN).bytes();
    assert_eq!(rig.run(Side::Client, &again).reason, Reason::ForwardedFlow);
    for (_, entry) in rig.flows(names::EMBRYONIC) {
        assert_eq!(entry.vserver, WEB, "counted for its own virtual server");
    }
}

#[test]
fn clients_stick_to_the_backup_farm_only_if_that_is_said() {
    for (flags, stays) in [(0, false), (VSERVER_BACKUP_STICKY, true)] {
        let mut rig = Rig::new().expect("the rig");
        limited(&rig, [(0, 0), (0, 0)]);
        with_backup(&rig);
        rig.vserver(WEB, |vserver| {
            (vserver.sticky_s, vserver.ring_len, vserver.spare_len) = (60, 0, 0);
            vserver.flags |= flags;
        });
        rig.settings(|settings: &mut Settings| settings.adopted_ns = 0);
        assert_eq!(open(&mut rig, 1), Ok(2));
        rig.vserver(WEB, |vserver| vserver.ring_len = 2);
        assert_eq!(open(&mut rig, 2) == Ok(2), stays);
        // Another client never went there.
        assert!(open_from(&mut rig, &client(77), 3) != Ok(2));
    }
}

#[test]
fn two_cpus_fill_a_real_exactly() {
    let rig = Rig::with_capacity(Capacity { embryonic: 1 << 14, ..SMALL }).expect("the rig");
    limited(&rig, [(700, 500), (1100, 1100)]);
    assert_eq!(ring_slot(WEB, 0), 0);
    open_on_two_cpus(&rig, 3000);
    assert_eq!((rig.flows(names::EMBRYONIC).len(), loads(&rig)), (2 * 1800, [700, 1100]));
    assert_eq!(refused(&rig), 6000 - 1800);
}
