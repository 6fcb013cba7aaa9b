//! Per-CPU counters: no cache line is shared between CPUs.

use aya_ebpf::maps::PerCpuArray;
use csm_common::counter::{NOT_COUNTED, Reason, ServiceCount, index};
use csm_common::event::Lost;
use csm_common::flow::{FLAG_FORWARD, FlowEntry, NONE};

use crate::family::Family;
use crate::maps;

/// The slot of an interface of which nothing else is known.
#[inline(always)]
pub(crate) fn slot(ifindex: u32) -> u32 {
    // SAFETY: a plain number.
    unsafe { maps::COUNTED.get(&ifindex) }.copied().unwrap_or(NOT_COUNTED)
}

/// Counts a frame of `bytes`, as it came in by the interface of slot `counted`, under the reason that ended it.
#[inline(always)]
pub(crate) fn frame(counted: u32, bytes: u64, reason: Reason) {
    if let Some(count) = maps::COUNTERS.get_ptr_mut(index(counted, reason)) {
        // SAFETY: this CPU's element; the program does not nest.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += bytes;
        }
    }
}

/// Whom a packet of `entry` is counted for, and whether it is a client's.
#[inline(always)]
pub(crate) fn of<A: Family>(entry: &FlowEntry<A>) -> (u32, u32, bool) {
    (entry.vserver, entry.real, entry.flags & FLAG_FORWARD != 0)
}

/// Counts a packet for its virtual server and real.
#[inline(always)]
pub(crate) fn packet<A: Family>(entry: &FlowEntry<A>, bytes: u32) {
    let (vserver, real, from_client) = of(entry);
    service(vserver, real, from_client, bytes);
}

/// As [`packet`], by numbers.
#[inline(always)]
pub(crate) fn service(vserver: u32, real: u32, from_client: bool, bytes: u32) {
    if vserver == NONE {
        return;
    }
    service_packet(&maps::VSERVER_COUNTS, vserver, from_client, bytes);
    service_packet(&maps::REAL_COUNTS, real, from_client, bytes);
}

#[inline(always)]
fn service_packet(map: &PerCpuArray<ServiceCount>, number: u32, from_client: bool, bytes: u32) {
    let Some(count) = map.get_ptr_mut(number) else { return };
    // SAFETY: this CPU's element.
    unsafe {
        if from_client {
            (*count).client_packets += 1;
            (*count).client_bytes += u64::from(bytes);
        } else {
            (*count).server_packets += 1;
            (*count).server_bytes += u64::from(bytes);
        }
    }
}

/// Counts a proven connection for its virtual server and real.
#[inline(always)]
pub(crate) fn connection(vserver: u32, real: u32) {
    if vserver == NONE {
        return;
    }
    for count in
        [maps::VSERVER_COUNTS.get_ptr_mut(vserver), maps::REAL_COUNTS.get_ptr_mut(real)].into_iter().flatten()
    {
        // SAFETY: this CPU's element.
        unsafe { (*count).connections += 1 };
    }
}

/// Counts what found no room.
#[inline(always)]
pub(crate) fn lost(what: Lost) {
    if let Some(count) = maps::EVENTS_LOST.get_ptr_mut(what as u32) {
        // SAFETY: this CPU's element.
        unsafe { *count += 1 };
    }
}
