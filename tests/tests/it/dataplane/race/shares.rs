//! Shares of a crowded connection table.

use aya::maps::{Array, MapData};
use csm_common::names;
use csm_common::service::share_slot;
use csm_tests::rig::{ANY_TCP, FAR_CLIENT, REALS, Rig, Side, VIP, WEB};

use super::{
    ACK, Bench, CLIENT_ISN, CLIENT_NEXT, FLOWS, Family, Frame, L4, Reason, SERVER_ISN, SERVER_NEXT, SYN,
    client, server,
};

/// What is everybody's, and the virtual server's own; each is 1 more than what is left.
fn words<A: Family>(rig: &Rig) -> [u64; 2] {
    let map: Array<MapData, u64> = rig.map(names::SHARES);
    [A::EVERYBODYS, share_slot(A::WEB)].map(|slot| map.get(&slot, 0).expect("SHARES"))
}

fn set(rig: &Rig, slot: u32, word: u64) {
    rig.change(names::SHARES, slot, |left: &mut u64| *left = word);
}

/// Two CPUs prove no more than there is room for, and what was refused is proven by its sender's next packet, once there is room.
pub(in crate::dataplane) fn are_kept<A: Family>() {
    let mut bench = Bench::<A>::new(1);
    for segment in [client(SYN, CLIENT_ISN, 0), server(SYN | ACK, SERVER_ISN, CLIENT_NEXT)] {
        let shots = bench.shots(segment, |_| 0);
        bench.fire(&shots);
    }
    set(&bench.rig, A::EVERYBODYS, 401);
    set(&bench.rig, share_slot(A::WEB), 301);
    let acks = bench.shots(client(ACK, CLIENT_NEXT, SERVER_NEXT), |_| 0);
    let (ones, others) = acks.split_at(usize::from(FLOWS) / 2);
    let (one, other) = bench.race(ones, others);
    let by_reason = bench.counted(&[&one, &other], &[Reason::DropShare]);
    assert_eq!(by_reason.get(Reason::DropShare.name()), Some(&(u64::from(FLOWS) - 700)));
    assert_eq!((bench.pairs(A::FLOWS).len(), words::<A>(&bench.rig)), (700, [1, 1]));
    set(&bench.rig, A::EVERYBODYS, 0);
    bench.fire(&acks);
    assert_eq!(bench.pairs(A::FLOWS).len(), usize::from(FLOWS), "nobody is limited");
    assert_eq!(words::<A>(&bench.rig), [0, 1]);
}

#[test]
fn no_more_are_proven_than_there_is_room_for() {
    are_kept::<u32>();
}

/// The handshake of a connection to `port` of the virtual address: how its last segment ends.
fn prove(rig: &mut Rig, from: u16, port: u16) -> Reason {
    let segment = |flags, seq, ack| L4::Tcp { flags, seq, ack };
    let syn = Frame::from(&FAR_CLIENT, from, (VIP, port), segment(SYN, CLIENT_ISN, 0));
    assert_eq!(rig.run(Side::Client, &syn.bytes()).reason, Reason::ForwardedNew);
    let answer = segment(SYN | ACK, SERVER_ISN, CLIENT_NEXT);
    let answer = Frame::from(&REALS[0], port, (FAR_CLIENT.ip, from), answer);
    assert_eq!(rig.run(Side::Server, &answer.bytes()).reason, Reason::ForwardedFlow);
    let ack = Frame::from(&FAR_CLIENT, from, (VIP, port), segment(ACK, CLIENT_NEXT, SERVER_NEXT));
    rig.run(Side::Client, &ack.bytes()).reason
}

#[test]
fn what_is_kept_for_one_virtual_server_is_no_other_ones() {
    let mut rig = Rig::new().expect("the rig");
    for vserver in [WEB, ANY_TCP] {
        rig.vserver(vserver, |vserver| vserver.ring_len = 1);
    }
    set(&rig, u32::EVERYBODYS, 2);
    set(&rig, share_slot(WEB), 1);
    set(&rig, share_slot(ANY_TCP), 2);
    let proven = Reason::ForwardedFlow;
    assert_eq!([1, 2].map(|from| prove(&mut rig, from, 80)), [proven, Reason::DropShare], "everybody's last");
    assert_eq!([3, 4].map(|from| prove(&mut rig, from, 8080)), [proven, Reason::DropShare], "its own last");
}
