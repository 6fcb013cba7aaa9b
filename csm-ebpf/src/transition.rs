//! What a packet does to its connection's state: handshake, close, reset. State is written on transitions only.

use core::arch::asm;
use core::mem::offset_of;

use aya_ebpf::bindings::BPF_NOEXIST;
use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::event::{EVENT_CLOSED, EVENT_CONNECTION};
use csm_common::flow::{
    ACK_STEP, FLAG_ACK, FLAG_ENDED, FLAG_FIN, FLAG_FORWARD, FLAG_REBUILT, FlowEntry, FlowKey, NONE,
    STATE_CLEARED, STATE_CLOSED, STATE_CLOSING, STATE_ESTABLISHED, STATE_SYN, STATE_SYN_ACK,
};
use csm_common::service::{VSERVER_HANDSHAKES, VSERVER_UNIDIRECTIONAL};

use crate::conn::EEXIST;
use crate::family::Family;
use crate::packet::{PROTO_TCP, Packet, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use crate::{counter, event, room, share, sticky};

/// Both directions of a connection are made within this time, which is more than two CPUs' readings of the clock differ by.
const MAKING_NS: u64 = 20_000_000;

/// What became of a half-open connection.
#[derive(Clone, Copy)]
pub(crate) enum Next {
    /// Still half open: the packet goes by this entry.
    Stays,
    /// So, too, and with it the server has answered one whose handshake the peer is told of.
    Answered,
    /// Proven by this packet: it goes by the entry in the established table.
    Promoted,
    /// Proven by another CPU: so does it.
    Proven,
    /// Finished or incomplete, and removed: the packet is a first one.
    Absent,
    /// The packet ends here.
    Drop(Reason),
}

/// Whether packets of this direction come from the server's side: the answers of a balanced connection, what the opener
/// sends on a routed one. The VLAN does not tell: in one-armed mode both sides are on the same.
#[inline(always)]
const fn from_server<A: Family>(entry: &FlowEntry<A>) -> bool {
    (entry.flags & FLAG_FORWARD == 0) == (entry.vserver != NONE)
}

/// Notes what a server has acknowledged: the resets that come for it are judged by that.
#[inline(always)]
pub(crate) fn acknowledged<A: Family>(flags: u8, ack: u32, entry: &mut FlowEntry<A>) {
    if flags & TCP_ACK == 0 || !from_server(entry) {
        return;
    }
    if ack.wrapping_sub(entry.ack) >= ACK_STEP || entry.flags & FLAG_ACK == 0 {
        entry.ack = ack;
        // Another CPU may set one at this moment.
        set_flag(entry, FLAG_ACK);
    }
}

/// Whether a reset may end its connection. From the client side anyone can send one who guesses addresses and ports, so
/// its sequence number must fit what the server acknowledged. One that does not fit is sent on all the same, and its
/// receiver judges it by more than is known here; a connection that it did end goes by its idle time.
#[inline(always)]
fn believed<A: Family>(packet: &Packet<A>, entry: &FlowEntry<A>, twin: Option<&FlowEntry<A>>) -> bool {
    from_server(entry) || twin.is_some_and(|twin| twin.may_reset(packet.seq))
}

/// `found` as the other direction of `entry`, which stands under `key`, unless it is another connection's by now.
#[inline(always)]
fn twin_of<'a, A: Family>(
    found: Option<*mut FlowEntry<A>>,
    entry: &FlowEntry<A>,
    key: &FlowKey<A>,
) -> Option<&'a mut FlowEntry<A>> {
    // SAFETY: see `conn::forward`; another element than `entry`, whose key has other addresses.
    let twin = unsafe { &mut *found? };
    (twin.generation == entry.generation && twin.twin_key(key.proto) == *key).then_some(twin)
}

/// A TCP packet with SYN, FIN or RST on an entry of the established table. `false`: the entry was a finished
/// connection's and is removed, the packet opens a new one.
#[inline(never)]
pub(crate) fn proven<A: Family>(packet: &Packet<A>, entry: *mut FlowEntry<A>) -> bool {
    // SAFETY: see `conn::forward`.
    let entry = unsafe { &mut *entry };
    let twin_key = entry.twin_key(packet.key.proto);
    let twin = twin_of(A::flows().get_ptr_mut(twin_key), entry, &packet.key);
    if packet.opens() && entry.flags & FLAG_FORWARD != 0 {
        if entry.state >= STATE_CLOSED || twin.is_none() {
            if twin.is_some() {
                let _ = A::flows().remove(twin_key);
            }
            let _ = A::flows().remove(&packet.key);
            return false;
        }
        // On a live connection it goes to the server, whose challenge ACK tells the client (RFC 5961, section 4).
        return true;
    }
    if packet.flags & (TCP_RST | TCP_FIN) == 0 || entry.state >= STATE_CLOSED {
        return true;
    }
    let mut twin = twin;
    if packet.flags & TCP_RST != 0 {
        if !believed(packet, entry, twin.as_deref()) {
            return true;
        }
    } else {
        // Of two FINs that cross on two CPUs one at least sees both: each sets its own before it looks for the other.
        set_flag(entry, FLAG_FIN);
        if !is_over(entry, twin.as_deref()) {
            set_states(entry, twin.as_deref_mut(), STATE_CLOSING);
            // What came meanwhile may have been overwritten by that.
            set_flag(entry, FLAG_FIN);
            if !is_over(entry, twin.as_deref()) {
                return true;
            }
        }
    }
    let of_client = match twin.as_deref_mut() {
        Some(twin) if entry.flags & FLAG_FORWARD == 0 => set_flag(twin, FLAG_ENDED),
        _ => set_flag(entry, FLAG_ENDED),
    };
    set_states(entry, twin, STATE_CLOSED);
    // Of two CPUs that see the end one tells of it.
    if of_client & FLAG_ENDED == 0 {
        room::give_back::<A>(entry.vserver, entry.real);
        event::connection(EVENT_CLOSED, entry.connection(&packet.key));
    }
    true
}

/// Whether a connection with a FIN in this direction has ended: by one in the other, by a reset, or, after the client's, because a
/// server that was never seen here will not show its own: then the entry lasts as long as the client goes on.
#[inline(always)]
fn is_over<A: Family>(entry: &FlowEntry<A>, twin: Option<&FlowEntry<A>>) -> bool {
    let Some(twin) = twin else { return false };
    // SAFETY: a field of a map's value; another CPU may write it.
    let flags = unsafe { (&raw const twin.flags).read_volatile() };
    (flags | entry.flags) & FLAG_ENDED != 0
        || flags & FLAG_FIN != 0
        // One comparison: the verifier walks each branch once more.
        || (flags & FLAG_ACK) | (!entry.flags & FLAG_FORWARD) == 0 && is_unidirectional(entry)
}

#[inline(always)]
fn set_states<A: Family>(entry: &mut FlowEntry<A>, twin: Option<&mut FlowEntry<A>>, state: u8) {
    // SAFETY: fields of map values; volatile, so that they stand in this order with what is read after them.
    unsafe {
        (&raw mut entry.state).write_volatile(state);
        if let Some(twin) = twin {
            (&raw mut twin.state).write_volatile(state);
        }
    }
}

/// Sets a flag, and gives all as they were before. What other CPUs wrote before they set theirs is seen after this, as by them
/// what this one wrote before.
#[inline(always)]
fn set_flag<A: Family>(entry: &mut FlowEntry<A>, flag: u8) -> u8 {
    let word = (&raw mut entry.egress_vlan).cast::<u64>();
    let mut value = u64::from_ne_bytes([0, 0, 0, flag, 0, 0, 0, 0]);
    // SAFETY: an aligned word of a map's value (below), which the kernel's verifier checks.
    unsafe {
        asm!("{value} = atomic_fetch_or((u64 *)({word} + 0), {value})", word = in(reg) word, value = inout(reg) value);
    }
    let [_, _, _, flags, ..] = value.to_ne_bytes();
    flags
}

/// Takes a flag away, and none that another CPU sets at this moment; gives all as they were before.
#[inline(always)]
pub(crate) fn unset_flag<A: Family>(entry: &mut FlowEntry<A>, flag: u8) -> u8 {
    let word = (&raw mut entry.egress_vlan).cast::<u64>();
    let mut value = u64::from_ne_bytes([0xff, 0xff, 0xff, !flag, 0xff, 0xff, 0xff, 0xff]);
    // SAFETY: as for `set_flag`; a VLAN and a generation of all ones keep what they are.
    unsafe {
        asm!("{value} = atomic_fetch_and((u64 *)({word} + 0), {value})", word = in(reg) word, value = inout(reg) value);
    }
    let [_, _, _, flags, ..] = value.to_ne_bytes();
    flags
}

const _: () =
    assert!(offset_of!(FlowEntry, egress_vlan) % 8 == 0 && offset_of!(FlowEntry<V6>, egress_vlan) % 8 == 0);
const _: () = assert!(offset_of!(FlowEntry, flags) == offset_of!(FlowEntry, egress_vlan) + 3);
const _: () = assert!(offset_of!(FlowEntry<V6>, flags) == offset_of!(FlowEntry<V6>, egress_vlan) + 3);

/// Any packet on a half-open entry.
#[inline(never)]
pub(crate) fn half_open<A: Family>(packet: &Packet<A>, entry: *mut FlowEntry<A>) -> Next {
    // SAFETY: see `conn::forward`.
    let entry = unsafe { &mut *entry };
    let forward = entry.flags & FLAG_FORWARD != 0;
    let twin_key = entry.twin_key(packet.key.proto);
    // Looked up for every packet: it keeps both directions equally recent in the table that evicts.
    let Some(twin) = twin_of(A::embryonic().get_ptr_mut(twin_key), entry, &packet.key) else {
        return alone(packet, entry, &twin_key);
    };
    if forward && packet.opens() && entry.state >= STATE_CLOSED {
        let _ = A::embryonic().remove(twin_key);
        let _ = A::embryonic().remove(&packet.key);
        return Next::Absent;
    }
    if entry.state == STATE_CLEARED {
        return Next::Stays;
    }
    if !forward {
        // Told by the caller: below this function there is no stack for a record.
        let told = answer(packet, entry, twin) && is_told(entry);
        return if told { Next::Answered } else { Next::Stays };
    }
    if proves(packet, entry) {
        return promote(packet, entry, &twin_key, twin);
    }
    Next::Stays
}

/// A packet on a half-open entry without its other half.
#[inline(never)]
fn alone<A: Family>(packet: &Packet<A>, entry: &FlowEntry<A>, twin_key: &FlowKey<A>) -> Next {
    // Another CPU has just proven the connection.
    if A::flows().get_ptr(&packet.key).is_some() {
        return Next::Proven;
    }
    let forward = entry.flags & FLAG_FORWARD != 0;
    // Another CPU is just making it, for the same SYN; another connection has not taken the other direction.
    let fresh = packet.now_ns < entry.last_seen_ns + MAKING_NS;
    let found = A::embryonic().get_ptr_mut(twin_key);
    let taken = found.is_some() && twin_of(found, entry, &packet.key).is_none();
    if forward && packet.opens() && fresh && !taken {
        return Next::Stays;
    }
    let _ = A::embryonic().remove(&packet.key);
    if forward { Next::Absent } else { Next::Drop(Reason::DropNoConnection) }
}

/// What the server's packet does to a half-open connection: `entry` is its direction, `twin` the client's. Whether it says what
/// proves the connection, and did not say that before.
#[inline(always)]
fn answer<A: Family>(packet: &Packet<A>, entry: &mut FlowEntry<A>, twin: &mut FlowEntry<A>) -> bool {
    let mut news = false;
    let state = if packet.key.proto != PROTO_TCP {
        STATE_SYN_ACK
    } else if packet.flags & TCP_RST != 0 {
        STATE_CLOSED
    } else if packet.flags & (TCP_SYN | TCP_ACK) == TCP_SYN | TCP_ACK {
        let expected = packet.seq.wrapping_add(1);
        news = twin.expect_ack != expected || entry.state != STATE_SYN_ACK;
        twin.expect_ack = expected;
        if twin.flags & FLAG_REBUILT != 0 {
            let _ = unset_flag(twin, FLAG_REBUILT);
        }
        STATE_SYN_ACK
    } else {
        if packet.flags & TCP_FIN != 0 {
            entry.flags |= FLAG_FIN;
        }
        return false;
    };
    if entry.state != state {
        // Of two CPUs that see a reset one gives the place back, and one takes it again for a server that thinks better of it.
        if state == STATE_CLOSED {
            if set_flag(twin, FLAG_ENDED) & FLAG_ENDED == 0 {
                room::give_back::<A>(entry.vserver, entry.real);
            }
        } else if entry.state == STATE_CLOSED && unset_flag(twin, FLAG_ENDED) & FLAG_ENDED != 0 {
            room::take::<A>(entry.vserver, entry.real);
        }
        entry.state = state;
        twin.state = state;
    }
    news
}

/// Whether the peer is told of its handshake at the server's answer: it could not finish it by what that says. Where the answer may
/// go past this node it was told at the client's SYN, whose next segment proves it there, too.
#[inline(always)]
fn is_told<A: Family>(entry: &FlowEntry<A>) -> bool {
    let told = |flags: u32| flags & (VSERVER_HANDSHAKES | VSERVER_UNIDIRECTIONAL) == VSERVER_HANDSHAKES;
    // A server's own connection, which nobody else can tell of either.
    entry.vserver == NONE || A::vservers().get(entry.vserver).is_some_and(|vserver| told(vserver.flags))
}

/// Whether the client's packet on an answered half-open connection proves it. A client's reset proves nothing and ends
/// nothing: the next SYN goes to the same server, which knows better. Without sequence numbers the proof is that the
/// client goes on: a question with one answer never leaves the table that evicts.
#[inline(always)]
fn proves<A: Family>(packet: &Packet<A>, entry: &FlowEntry<A>) -> bool {
    let tcp = packet.key.proto == PROTO_TCP;
    let acknowledges = packet.flags & (TCP_SYN | TCP_RST | TCP_ACK) == TCP_ACK;
    match entry.state {
        STATE_SYN_ACK => !tcp || acknowledges && entry.is_proven_by(packet.ack),
        // The SYN-ACK went past this node: the client's next segment must do.
        STATE_SYN => tcp && acknowledges && packet.seq == entry.expect_ack && is_unidirectional(entry),
        _ => false,
    }
}

/// Whether its virtual server does not count on seeing the server's packets.
#[inline(always)]
fn is_unidirectional<A: Family>(entry: &FlowEntry<A>) -> bool {
    let vserver = A::vservers().get(entry.vserver);
    vserver.is_some_and(|vserver| vserver.flags & VSERVER_UNIDIRECTIONAL != 0)
}

/// Notes the sequence number that the client's next segment must have, in the entry just made for its SYN.
#[inline(always)]
pub(crate) fn expect<A: Family>(packet: &Packet<A>) {
    if let Some(entry) = A::embryonic().get_ptr_mut(&packet.key) {
        // SAFETY: see `conn::forward`; an aligned store.
        unsafe { (*entry).expect_ack = packet.seq.wrapping_add(1) };
    }
}

/// Moves a pair to the established table, which refuses rather than evicts.
#[inline(always)]
fn promote<A: Family>(
    packet: &Packet<A>,
    entry: &mut FlowEntry<A>,
    twin_key: &FlowKey<A>,
    twin: &mut FlowEntry<A>,
) -> Next {
    // Of one that another CPU proves as well two are taken, until the controller counts again.
    if !share::take::<A>(entry.vserver) {
        return Next::Drop(Reason::DropShare);
    }
    // A reset that another CPU saw at the same time as the server's better answer has given the place back.
    if entry.flags & FLAG_ENDED != 0 && unset_flag(entry, FLAG_ENDED) & FLAG_ENDED != 0 {
        room::take::<A>(entry.vserver, entry.real);
    }
    let state = entry.state;
    for half in [&mut *entry, &mut *twin] {
        half.state = STATE_ESTABLISHED;
        half.last_seen_ns = packet.now_ns;
    }
    let refused = match A::flows().insert(&packet.key, &*entry, u64::from(BPF_NOEXIST)) {
        Ok(()) => match A::flows().insert(twin_key, &*twin, u64::from(BPF_NOEXIST)) {
            Ok(()) => None,
            Err(error) => {
                let _ = A::flows().remove(&packet.key);
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
    let _ = A::embryonic().remove(twin_key);
    let _ = A::embryonic().remove(&packet.key);
    Next::Promoted
}

/// Tells of the connection whose client's direction this packet has just brought to `entry` of the established table, and enters what sticks by
/// it. Called behind [`half_open`] and not within it: together they would fill the stack.
#[inline(never)]
pub(crate) fn tell<A: Family>(packet: &Packet<A>, entry: *mut FlowEntry<A>) {
    // SAFETY: see `conn::forward`; read only.
    let entry = unsafe { &*entry };
    event::connection(EVENT_CONNECTION, entry.connection(&packet.key));
    sticky::prove(&packet.key, entry, packet.now_ns);
}
