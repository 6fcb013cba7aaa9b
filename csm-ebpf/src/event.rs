//! Records to the controller. Never waits: without room a record is counted as lost.

use aya_ebpf::bindings::BPF_RB_AVAIL_DATA;
use csm_common::event::{EVENT_STICKY, Lost, Record};
use csm_common::flow::Connection;
use csm_common::limits::{EVENT_RING_BYTES, EVENT_RING_RESERVE};
use csm_common::service::{StickyEntry, StickyKey};

use crate::counter;
use crate::maps;
use crate::packet::Mac;

/// Tells the controller what `fill` writes; all else of the record is 0. Without room it is counted as `lost`.
#[inline(always)]
fn tell(lost: Lost, fill: impl FnOnce(*mut Record)) {
    let Some(mut record) = maps::EVENTS.reserve::<Record>(0) else { return counter::lost(lost) };
    let words = record.as_mut_ptr().cast::<u64>();
    for index in 0..size_of::<Record>() / size_of::<u64>() {
        // SAFETY: within the record, which is aligned to 8. Volatile: of plain stores the compiler makes a call.
        unsafe { words.add(index).write_volatile(0) };
    }
    fill(record.as_mut_ptr());
    record.submit(0);
}

/// `EVENT_CONNECTION` or `EVENT_CLOSED`.
#[inline(always)]
pub(crate) fn connection(kind: u32, connection: Connection) {
    // SAFETY: `tell` hands over a record of its own.
    tell(Lost::Table, |record| unsafe {
        (*record).kind = kind;
        (*record).connection = connection;
    });
}

/// `EVENT_STICKY`.
#[inline(always)]
pub(crate) fn sticky(sticky_key: StickyKey, sticky: StickyEntry) {
    // SAFETY: as above.
    tell(Lost::Table, |record| unsafe {
        (*record).kind = EVENT_STICKY;
        (*record).sticky_key = sticky_key;
        (*record).sticky = sticky;
    });
}

/// `EVENT_UNRESOLVED`, `EVENT_NEIGHBOUR` or `EVENT_RIVAL`. Any host on the network can cause these, so they leave room
/// for the records that replication lives on.
#[inline(never)]
pub(crate) fn hint(kind: u32, ip_be: u32, vlan: u16, mac: Mac) {
    if maps::EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) > u64::from(EVENT_RING_BYTES - EVENT_RING_RESERVE) {
        return counter::lost(Lost::Hint);
    }
    // SAFETY: as above.
    tell(Lost::Hint, |record| unsafe {
        (*record).kind = kind;
        (*record).ip_be = ip_be;
        (*record).vlan = vlan;
        (*record).mac = mac.bytes();
    });
}
