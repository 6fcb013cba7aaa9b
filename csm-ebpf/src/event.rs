//! Records to the controller. Never waits: without room a record is counted as lost.

use aya_ebpf::bindings::BPF_RB_AVAIL_DATA;
use csm_common::event::{EVENT_STICKY, Lost, Record};
use csm_common::flow::Connection;
use csm_common::limits::{EVENT_RING_BYTES, EVENT_RING_RESERVE};
use csm_common::service::{StickyEntry, StickyKey};

use crate::counter;
use crate::maps;
use crate::packet::Mac;

const NO_CONNECTION: Connection = Connection {
    client_be: 0,
    virtual_be: 0,
    real_be: 0,
    source_be: 0,
    client_port_be: 0,
    virtual_port_be: 0,
    real_port_be: 0,
    source_port_be: 0,
    client_vlan: 0,
    server_vlan: 0,
    proto: 0,
    state: 0,
    pad: 0,
    vserver: 0,
    real: 0,
    generation: 0,
};

const EMPTY: Record = Record {
    kind: 0,
    connection: NO_CONNECTION,
    sticky_key: StickyKey { group: 0, client_be: 0 },
    sticky: StickyEntry { last_used_ns: 0, life_s: 0, real: 0 },
    ip_be: 0,
    vlan: 0,
    mac: [0; 6],
    pad: 0,
};

/// `EVENT_CONNECTION` or `EVENT_CLOSED`.
#[inline(always)]
pub(crate) fn connection(kind: u32, connection: Connection) {
    match maps::EVENTS.reserve::<Record>(0) {
        Some(mut record) => {
            record.write(Record { kind, connection, ..EMPTY });
            record.submit(0);
        }
        None => counter::lost(Lost::Table),
    }
}

/// `EVENT_STICKY`.
#[inline(always)]
pub(crate) fn sticky(sticky_key: StickyKey, sticky: StickyEntry) {
    match maps::EVENTS.reserve::<Record>(0) {
        Some(mut record) => {
            record.write(Record { kind: EVENT_STICKY, sticky_key, sticky, ..EMPTY });
            record.submit(0);
        }
        None => counter::lost(Lost::Table),
    }
}

/// `EVENT_UNRESOLVED`, `EVENT_NEIGHBOUR` or `EVENT_RIVAL`. Any host on the network can cause these, so they leave room
/// for the records that replication lives on.
#[inline(never)]
pub(crate) fn hint(kind: u32, ip_be: u32, vlan: u16, mac: Mac) {
    if maps::EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) > u64::from(EVENT_RING_BYTES - EVENT_RING_RESERVE) {
        return counter::lost(Lost::Hint);
    }
    match maps::EVENTS.reserve::<Record>(0) {
        Some(mut record) => {
            record.write(Record { kind, ip_be, vlan, mac: mac.bytes(), ..EMPTY });
            record.submit(0);
        }
        None => counter::lost(Lost::Hint),
    }
}
