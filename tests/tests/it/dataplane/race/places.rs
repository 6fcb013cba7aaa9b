//! Places at a real (`maxconns`, `predictor leastconns`) and at a virtual server (`max-conns`) where two CPUs open, rebuild or end the same connections.

use aya::maps::{Array, MapData};
use csm_common::names;
use csm_common::service::{VSERVER_COUNTED, VSERVER_LEASTCONNS, weighted_slot};
use csm_tests::racing::{Hit, REDIRECT, Shot, fire, in_step};
use csm_tests::rig::{REALS, Side, WEB};

use super::{
    ACK, Bench, CLIENT_ISN, CLIENT_NEXT, FLOWS, Family, PSH, RST, Reason, SERVER_ISN, SYN, Segment, client,
    server, translating,
};
use crate::dataplane::rebuild;

const OPENS: Segment = client(SYN, CLIENT_ISN, 0);
const REFUSES: Segment = server(RST | ACK, 0, CLIENT_NEXT);

/// What the program has counted for the bench's reals.
fn places<A: Family>(bench: &Bench<A>) -> [u64; 3] {
    let map: Array<MapData, u64> = bench.rig.map(names::LOADS);
    [0, 1, 2].map(|real| map.get(&(A::FIRST_REAL + real), 0).expect("LOADS"))
}

/// What it has counted for their virtual server.
fn of_vserver<A: Family>(bench: &Bench<A>) -> u64 {
    let map: Array<MapData, u64> = bench.rig.map(names::PLACES);
    map.get(&A::WEB, 0).expect("PLACES")
}

fn taken<A: Family>(bench: &Bench<A>) -> u64 {
    places(bench).into_iter().fold(0, u64::wrapping_add)
}

/// The reals that the first packets went to, in the order of the connections.
fn reals<A: Family>(hits: &[Hit]) -> Vec<usize> {
    let real = |(flow, hit): (u16, &Hit)| {
        (0..3).find(|real| hit.frame == A::frames(OPENS, flow, *real).1).expect("a real")
    };
    (0..).zip(hits).map(real).collect()
}

/// Of two CPUs that open one connection the second one's place is given back, and the reset that both see of it ends it once.
pub(in crate::dataplane) fn one_for_each<A: Family>() {
    let mut bench = Bench::<A>::new(3);
    A::set_flags(&bench.rig, VSERVER_COUNTED);
    // One to spare: until the CPU that comes second knows that it is, it wants a place, too, and the last would be refused.
    A::set_max_conns(&bench.rig, u32::from(FLOWS) + 1);
    let syns = bench.shots(OPENS, |_| 0);
    let (one, _) = bench.race(&syns, &syns);
    assert_eq!(taken(&bench), u64::from(FLOWS), "of {:?}", places(&bench));
    assert_eq!(of_vserver(&bench), u64::from(FLOWS));
    let reals = reals::<A>(&one);
    let resets = bench.shots(REFUSES, |flow| reals[usize::from(flow)]);
    let _ = bench.race(&resets, &resets);
    assert_eq!((places(&bench), of_vserver(&bench)), ([0; 3], 0), "all are over");
}

/// Both CPUs open connections of their own; whoever comes first, so many are made and no more.
pub(in crate::dataplane) fn no_more_than<A: Family>(most: u16) {
    let mut bench = Bench::<A>::new(3);
    A::set_max_conns(&bench.rig, most.into());
    let mut syns = bench.shots(OPENS, |_| 0);
    let others = syns.split_off(syns.len() / 2);
    let (one, other) = bench.race(&syns, &others);
    let by_reason = bench.counted(&[&one, &other], &[Reason::DropVserverFull]);
    let refused = by_reason.get(Reason::DropVserverFull.name()).copied();
    assert_eq!((refused, of_vserver(&bench)), (Some((FLOWS - most).into()), most.into()));
}

/// The same of an owner, whose element has this number.
pub(in crate::dataplane) fn no_more_of_an_owner_than<A: Family>(most: u16) {
    const OWNER: u32 = 7;
    let mut bench = Bench::<A>::new(3);
    A::set_max_conns(&bench.rig, u32::from(FLOWS));
    A::set_owner(&bench.rig, (OWNER + 1, most.into()));
    let mut syns = bench.shots(OPENS, |_| 0);
    let others = syns.split_off(syns.len() / 2);
    let (one, other) = bench.race(&syns, &others);
    let by_reason = bench.counted(&[&one, &other], &[Reason::DropOwnerFull]);
    let refused = by_reason.get(Reason::DropOwnerFull.name()).copied();
    let map: Array<MapData, u64> = bench.rig.map(names::PLACES);
    let of_owner = map.get(&OWNER, 0).expect("PLACES");
    assert_eq!(refused, Some((FLOWS - most).into()));
    assert_eq!(
        (of_vserver(&bench), of_owner),
        (most.into(), most.into()),
        "what the owner refused was given back"
    );
}

#[test]
fn an_owner_is_filled_exactly() {
    no_more_of_an_owner_than::<u32>(FLOWS / 3);
}

#[test]
fn a_virtual_server_is_filled_exactly() {
    no_more_than::<u32>(FLOWS / 3);
}

#[test]
fn a_connection_takes_one_place_and_gives_it_back_once() {
    one_for_each::<u32>();
}

#[test]
fn one_with_a_port_of_a_pool_takes_one_place() {
    let mut bench = translating(16 * FLOWS);
    bench.rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_COUNTED);
    let syns = bench.shots(OPENS, |_| 0);
    let _ = bench.race(&syns, &syns);
    assert_eq!(taken(&bench), u64::from(FLOWS));
}

#[test]
fn a_rebuilt_one_takes_one_place_and_gives_it_back_once() {
    let mut bench = Bench::<u32>::new(1);
    rebuild::know(&bench.rig);
    bench.rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_COUNTED);
    let data = bench.shots(server(PSH | ACK, SERVER_ISN, CLIENT_NEXT).with(b"where were we?"), |_| 0);
    let (one, other) = bench.race(&data, &data);
    // One that meets a pair which is half made is dropped, and comes again.
    assert!(one.iter().zip(&other).all(|(one, other)| one.action == REDIRECT || other.action == REDIRECT));
    assert_eq!(taken(&bench), u64::from(FLOWS), "as if it had been opened here");
    let resets = bench.shots(REFUSES, |_| 0);
    let _ = bench.race(&resets, &resets);
    assert_eq!(places(&bench), [0; 3]);
}

/// Both CPUs choose the heavier real, which has one place; who comes second finds the other real's.
#[test]
fn who_loses_the_last_place_finds_another_reals() {
    let bench = Bench::<u32>::new(2);
    for real in [0, 1] {
        bench.rig.real(real, |real| (real.max_conns, real.min_conns) = (1, 1));
    }
    bench.rig.ring(WEB, &[weighted_slot(0, 100), weighted_slot(1, 1)]);
    bench.rig.vserver(WEB, |vserver| vserver.flags |= VSERVER_COUNTED | VSERVER_LEASTCONNS);
    let program = bench.program;
    let ports = [Side::Client, Side::Server].map(|side| bench.rig.ports()[side as usize].ifindex);
    // Opens a connection in each even round, and ends it in the odd one after it.
    let take_part = |first: u16| {
        let mut real = None;
        move |round: usize| {
            let flow = first + u16::try_from(round / 2).expect("a flow");
            let opens = round.is_multiple_of(2);
            let (segment, at) = if opens { (OPENS, 0) } else { (REFUSES, real.take().unwrap_or(0)) };
            let shot = Shot { ifindex: ports[usize::from(!opens)], frame: u32::frames(segment, flow, at).0 };
            let hit = fire(program, &shot).expect("a test run");
            if opens {
                real = REALS.iter().position(|real| hit.frame[30..34] == real.ip.octets());
            }
            hit.action
        }
    };
    let rounds = 2 * usize::from(FLOWS);
    let (one, other) = in_step(rounds, take_part(0), take_part(FLOWS));
    let refused = one.iter().chain(&other).filter(|action| **action != REDIRECT).count();
    assert_eq!(refused, 0, "for {}", Reason::DropMaxConns.name());
    assert_eq!(places(&bench), [0; 3]);
}
