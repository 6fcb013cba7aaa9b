//! Records to the controller. Never waits: without room a record is counted as lost.

use aya_ebpf::bindings::BPF_RB_AVAIL_DATA;
use csm_common::event::{EVENT_HANDSHAKE, EVENT_STICKY, Lost, Record};
use csm_common::flow::{Connection, FlowEntry};
use csm_common::limits::{Budget, EVENT_RING_BYTES, EVENT_RING_RESERVE};
use csm_common::service::{StickyEntry, StickyKey};

use crate::family::Family;
use crate::maps;
use crate::packet::{Mac, Packet};
use crate::{budget, counter};

/// Tells the controller what `fill` writes; all else of the record is 0. Without room it is counted as `lost`.
#[inline(always)]
fn tell<A: Family>(lost: Lost, fill: impl FnOnce(*mut Record<A>)) {
    let Some(mut record) = maps::EVENTS.reserve::<Record<A>>(0) else { return counter::lost(lost) };
    let words = record.as_mut_ptr().cast::<u64>();
    for index in 0..size_of::<Record<A>>() / size_of::<u64>() {
        // SAFETY: within the record, which is aligned to 8. Volatile: of plain stores the compiler makes a call.
        unsafe { words.add(index).write_volatile(0) };
    }
    fill(record.as_mut_ptr());
    record.submit(0);
}

/// `EVENT_CONNECTION` or `EVENT_CLOSED`.
#[inline(always)]
pub(crate) fn connection<A: Family>(kind: u32, connection: Connection<A>) {
    // SAFETY: `tell` hands over a record of its own.
    tell::<A>(Lost::Table, |record| unsafe {
        (*record).kind = kind | A::EVENT;
        (*record).connection = connection;
    });
}

/// `EVENT_STICKY`.
#[inline(always)]
pub(crate) fn sticky<A: Family>(sticky_key: StickyKey<A>, sticky: StickyEntry) {
    // SAFETY: as above.
    tell::<A>(Lost::Table, |record| unsafe {
        (*record).kind = EVENT_STICKY | A::EVENT;
        (*record).sticky_key = sticky_key;
        (*record).sticky = sticky;
    });
}

/// `EVENT_HANDSHAKE` of the connection that was just drafted for a SYN.
#[inline(never)]
pub(crate) fn opened<A: Family>(packet: &Packet<A>, connection: &Connection<A>) {
    handshake::<A>(packet.now_ns, packet.seq.wrapping_add(1), || *connection);
}

/// `EVENT_HANDSHAKE` of the half-open connection whose server's SYN-ACK goes by `entry`.
#[inline(never)]
pub(crate) fn answered<A: Family>(packet: &Packet<A>, entry: &FlowEntry<A>) {
    handshake::<A>(packet.now_ns, packet.seq.wrapping_add(1), || entry.connection(&packet.key));
}

/// Whoever sends SYNs causes these: they have a budget, and leave room as hints do.
#[inline(always)]
fn handshake<A: Family>(now_ns: u64, expect_ack: u32, connection: impl FnOnce() -> Connection<A>) {
    if is_crowded() || !budget::take(Budget::Handshake, now_ns) {
        return counter::lost(Lost::Handshake);
    }
    // SAFETY: as above.
    tell::<A>(Lost::Handshake, |record| unsafe {
        (*record).kind = EVENT_HANDSHAKE | A::EVENT;
        (*record).connection = connection();
        (*record).expect_ack = expect_ack;
    });
}

/// What is left of the ring is for the records that replication lives on.
#[inline(always)]
fn is_crowded() -> bool {
    maps::EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) > u64::from(EVENT_RING_BYTES - EVENT_RING_RESERVE)
}

/// `EVENT_UNRESOLVED`, `EVENT_NEIGHBOUR` or `EVENT_RIVAL`. Any host on the network can cause these, so they leave room
/// for the records that replication lives on.
#[inline(never)]
pub(crate) fn hint<A: Family>(kind: u32, ip_be: A, vlan: u16, mac: Mac) {
    if is_crowded() {
        return counter::lost(Lost::Hint);
    }
    // SAFETY: as above.
    tell::<A>(Lost::Hint, |record| unsafe {
        (*record).kind = kind | A::EVENT;
        (*record).ip_be = ip_be;
        (*record).vlan = vlan;
        (*record).mac = mac.bytes();
    });
}
