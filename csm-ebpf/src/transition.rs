//! What a packet does to its connection's state: handshake, close, reset. State is written on transitions only.

use aya_ebpf::bindings::BPF_NOEXIST;
use csm_common::counter::Reason;
use csm_common::event::{EVENT_CLOSED, EVENT_CONNECTION};
use csm_common::flow::{
    FLAG_FIN, FLAG_FORWARD, FlowEntry, FlowKey, STATE_CLOSED, STATE_CLOSING, STATE_ESTABLISHED, STATE_SYN_ACK,
};

use crate::packet::{PROTO_TCP, Packet, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use crate::{counter, event, maps, sticky};

const EEXIST: i32 = -17;

/// What became of a half-open connection.
#[derive(Clone, Copy)]
pub(crate) enum Next {
    /// Still half open: the packet goes by this entry.
    Stays,
    /// Proven: the packet goes by the entry in the established table.
    Proven,
    /// Finished or incomplete, and removed: the packet is a first one.
    Absent,
    /// The packet ends here.
    Drop(Reason),
}

/// A TCP packet with SYN, FIN or RST on an entry of the established table. `false`: the entry was a finished
/// connection's and is removed, the packet opens a new one.
#[inline(never)]
pub(crate) fn proven(packet: &Packet, entry: *mut FlowEntry) -> bool {
    // SAFETY: see `conn::forward`.
    let entry = unsafe { &mut *entry };
    let twin_key = entry.twin_key(packet.key.proto);
    let twin = maps::FLOWS.get_ptr_mut(twin_key);
    if packet.opens() && entry.flags & FLAG_FORWARD != 0 {
        if entry.state == STATE_CLOSED || twin.is_none() {
            let _ = maps::FLOWS.remove(twin_key);
            let _ = maps::FLOWS.remove(packet.key);
            return false;
        }
        // On a live connection it goes to the server, whose challenge ACK tells the client (RFC 5961, section 4).
        return true;
    }
    if packet.flags & (TCP_RST | TCP_FIN) == 0 || entry.state == STATE_CLOSED {
        return true;
    }
    let mut closed = packet.flags & TCP_RST != 0;
    if packet.flags & TCP_FIN != 0 {
        entry.flags |= FLAG_FIN;
        // SAFETY: as above; of two FINs that cross on two CPUs the retransmission or a later FIN sees both.
        closed |= twin.is_some_and(|twin| unsafe { (*twin).flags } & FLAG_FIN != 0);
    }
    let state = if closed { STATE_CLOSED } else { STATE_CLOSING };
    entry.state = state;
    if let Some(twin) = twin {
        // SAFETY: as above.
        unsafe { (*twin).state = state };
    }
    if closed {
        event::connection(EVENT_CLOSED, entry.connection(&packet.key));
    }
    true
}

/// Any packet on a half-open entry.
#[inline(never)]
pub(crate) fn half_open(packet: &Packet, entry: *mut FlowEntry) -> Next {
    // SAFETY: see `conn::forward`.
    let entry = unsafe { &mut *entry };
    let forward = entry.flags & FLAG_FORWARD != 0;
    let twin_key = entry.twin_key(packet.key.proto);
    // Looked up for every packet: it keeps both directions equally recent in the table that evicts.
    let twin = maps::EMBRYONIC.get_ptr_mut(twin_key).filter(|&twin| {
        // SAFETY: as above.
        unsafe { (*twin).generation == entry.generation }
    });
    let Some(twin) = twin else {
        let _ = maps::EMBRYONIC.remove(packet.key);
        return if forward { Next::Absent } else { Next::Drop(Reason::DropNoConnection) };
    };
    // SAFETY: as above; another element than `entry`, whose key has other addresses.
    let twin = unsafe { &mut *twin };
    if packet.key.proto != PROTO_TCP {
        return if forward { Next::Stays } else { promote(packet, entry, &twin_key, twin) };
    }
    if packet.flags & TCP_RST != 0 {
        entry.state = STATE_CLOSED;
        twin.state = STATE_CLOSED;
        return Next::Stays;
    }
    if forward {
        if packet.opens() && entry.state == STATE_CLOSED {
            let _ = maps::EMBRYONIC.remove(twin_key);
            let _ = maps::EMBRYONIC.remove(packet.key);
            return Next::Absent;
        }
        let proof = packet.flags & (TCP_SYN | TCP_ACK) == TCP_ACK
            && entry.state == STATE_SYN_ACK
            && packet.ack == entry.expect_ack;
        return if proof { promote(packet, entry, &twin_key, twin) } else { Next::Stays };
    }
    if packet.flags & (TCP_SYN | TCP_ACK) == TCP_SYN | TCP_ACK && entry.state != STATE_CLOSED {
        twin.expect_ack = packet.seq.wrapping_add(1);
        twin.state = STATE_SYN_ACK;
        entry.state = STATE_SYN_ACK;
    }
    Next::Stays
}

/// Moves a pair to the established table, which refuses rather than evicts.
#[inline(always)]
fn promote(packet: &Packet, entry: &mut FlowEntry, twin_key: &FlowKey, twin: &mut FlowEntry) -> Next {
    let state = entry.state;
    for half in [&mut *entry, &mut *twin] {
        half.state = STATE_ESTABLISHED;
        half.last_seen_ns = packet.now_ns;
    }
    let refused = match maps::FLOWS.insert(packet.key, &*entry, u64::from(BPF_NOEXIST)) {
        Ok(()) => match maps::FLOWS.insert(twin_key, &*twin, u64::from(BPF_NOEXIST)) {
            Ok(()) => None,
            Err(error) => {
                let _ = maps::FLOWS.remove(packet.key);
                Some(if error == EEXIST { Reason::DropConflict } else { Reason::DropTableFull })
            }
        },
        // Another CPU is just doing the same.
        Err(EEXIST) => return Next::Proven,
        Err(_) => Some(Reason::DropTableFull),
    };
    if let Some(reason) = refused {
        entry.state = state;
        twin.state = state;
        return Next::Drop(reason);
    }
    counter::connection(entry.vserver, entry.real);
    event::connection(EVENT_CONNECTION, entry.connection(&packet.key));
    sticky::prove(entry, packet.now_ns);
    let _ = maps::EMBRYONIC.remove(twin_key);
    let _ = maps::EMBRYONIC.remove(packet.key);
    Next::Proven
}
