//! The connection tables: look-up, creation, and the walk of a packet that has an entry.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::programs::XdpContext;
use csm_common::address::Address;
use csm_common::counter::Reason;
use csm_common::flow::{
    Connection, FLAG_FORWARD, FLAG_REBUILT, FLAG_REPLICA, FlowEntry, FlowKey, Local, NONE, STATE_CLOSED,
};
use csm_common::net::AddressKey;

use crate::family::Family;
use crate::open::End;
use crate::packet::{Packet, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use crate::predictor::Pick;
use crate::transition::{self, Next};
use crate::{Outcome, counter, event, forward as out, fragment, reset, reverse, rewrite, sticky};

/// `last_seen` is written at most this often, so that a busy connection's entry stays clean in every cache.
pub(crate) const TOUCH_NS: u64 = 1_000_000_000;
pub(crate) const EEXIST: i32 = -17;

/// Sends a packet on by its connection's entry, making one if it is a first packet; `l4` is where its transport header
/// stands.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "an offset in the frame's linear part")]
pub(crate) fn forward<A: Family>(ctx: &XdpContext, packet: &Packet<A>, l4: usize) -> Outcome {
    if packet.ttl <= 1 {
        return Err(A::time_exceeded(ctx, packet, l4));
    }
    let proven = A::proven(&packet.key);
    if let Some(entry) = proven
        && packet.flags & (TCP_SYN | TCP_FIN | TCP_RST) == 0
    {
        let reason = deliver(ctx, packet, l4, entry, false)?;
        if packet.has_more() {
            fragment::went_on(packet, l4, reason);
        }
        return Ok(reason);
    }
    let cold = A::cold().get_ptr_mut(0).ok_or(Reason::DropInternal)?;
    // SAFETY: this CPU's element; the program does not nest, and nobody else reads or writes it.
    let cold = unsafe { &mut *cold };
    if !A::IN_SCRATCH {
        cold.packet = *packet;
    }
    cold.l4 = l4 as u32;
    cold.proven = u32::from(proven.is_some());
    Ok(slow(ctx, cold))
}

/// Sends a packet on by `entry`; `fresh`: made for this packet.
#[inline(always)]
fn deliver<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    l4: usize,
    entry: *mut FlowEntry<A>,
    fresh: bool,
) -> Outcome {
    // SAFETY: an element of a preallocated table. Expiry may free it on another CPU meanwhile and a new connection
    // take its place: then this one packet goes where that one's would.
    let entry = unsafe { &mut *entry };
    let hop = match out::hop::<A>(entry.nexthop) {
        Ok(hop) => hop,
        Err(reason) => return Err(reset::instead(ctx, packet, entry, reason)),
    };
    if packet.total > u32::from(hop.mtu) {
        return Err(A::too_big(ctx, packet, l4, hop.mtu));
    }
    touch(packet, entry);
    transition::acknowledged(packet.flags, packet.ack, entry);
    rewrite::apply(ctx, l4, packet.key.proto, entry)?;
    let reason = match (entry.vserver, fresh) {
        (NONE, _) => Reason::ForwardedRouted,
        (_, true) if entry.flags & FLAG_REBUILT != 0 => Reason::ForwardedRebuilt,
        (_, true) => Reason::ForwardedNew,
        (_, false) => Reason::ForwardedFlow,
    };
    let sent = out::send(ctx, hop, reason)?;
    counter::packet(entry, packet.length);
    Ok(sent)
}

/// The entry that packets with `key` go by, if there is one.
#[inline(always)]
pub(crate) fn entry<A: Family>(key: &FlowKey<A>) -> Option<&'static FlowEntry<A>> {
    let found = A::flows().get_ptr(key).or_else(|| A::embryonic().get_ptr(key))?;
    // SAFETY: as in `forward`; read only.
    Some(unsafe { &*found })
}

#[inline(always)]
fn touch<A: Family>(packet: &Packet<A>, entry: &mut FlowEntry<A>) {
    // A replica's first packet counts however soon it comes: from then on the entry is this node's to keep.
    if packet.now_ns > entry.last_seen_ns + TOUCH_NS || entry.flags & FLAG_REPLICA != 0 {
        entry.last_seen_ns = packet.now_ns;
        let _ = transition::unset_flag(entry, FLAG_REPLICA);
        if entry.flags & FLAG_FORWARD != 0 && entry.vserver != NONE {
            sticky::touch(&packet.key, entry, packet.now_ns);
            reverse::touch(entry, packet.now_ns);
        }
    }
}

/// What a packet that is not simply one of an established connection is worked on with: this CPU's scratch space.
///
/// It spares the stack, and it spares the verifier: what it knows of the packet on each path to here, it does not know of
/// a map's content, so what follows is walked once and not once for each path.
pub(crate) struct Cold<A: Address> {
    pub(crate) packet: Packet<A>,
    pub(crate) draft: Draft<A>,
    /// Where the packet's transport header stands.
    l4: u32,
    /// Not 0: the established table has an entry for the packet.
    proven: u32,
    /// Generation of the connection that stood under the packet's key, or 0.
    pub(crate) predecessor: u32,
    /// What the program that opens connections is to know of the frame.
    pub(crate) end: End,
    /// What is about to be inserted, of a family whose entries are too large for the stack.
    key: FlowKey<A>,
    entry: FlowEntry<A>,
}

/// A connection that is about to be made.
pub(crate) struct Draft<A: Address> {
    pub(crate) connection: Connection<A>,
    pub(crate) local: Local,
    /// Pool that the source is to be taken from; 0: none.
    pub(crate) pool: u32,
    pub(crate) pick: Pick,
    /// Sticky group of the virtual server's `reverse-sticky`; 0: none.
    pub(crate) reverse: u32,
}

/// A packet that begins or ends something, or has no entry in the established table.
#[inline(never)]
fn slow<A: Family>(ctx: &XdpContext, cold: &mut Cold<A>) -> Reason {
    let (Ok(reason) | Err(reason)) = walk(ctx, cold);
    reason
}

#[inline(always)]
fn walk<A: Family>(ctx: &XdpContext, cold: &mut Cold<A>) -> Outcome {
    let predecessor = &raw mut cold.predecessor;
    // SAFETY: a field of `cold`; volatile so that its value goes by way of the map, where the paths meet again.
    unsafe { predecessor.write_volatile(0) };
    match standing(cold, predecessor)? {
        Some(entry) => Ok(deliver_slowly(ctx, cold, entry, 0)),
        None => Err(Reason::ToOpen),
    }
}

/// As [`deliver`], with a stack of its own.
#[inline(never)]
pub(crate) fn deliver_slowly<A: Family>(
    ctx: &XdpContext,
    cold: &Cold<A>,
    entry: *mut FlowEntry<A>,
    fresh: u32,
) -> Reason {
    // Known to the parser, and shown to the verifier again.
    let l4 = (cold.l4 & A::L4_MASK) as usize;
    match deliver(ctx, &cold.packet, l4, entry, fresh != 0) {
        Ok(reason) => {
            if cold.packet.has_more() {
                fragment::went_on(&cold.packet, l4, reason);
            }
            reason
        }
        Err(reason) => reason,
    }
}

/// The entry that stands for the packet; if none does, the generation of the one that did.
#[inline(always)]
fn standing<A: Family>(cold: &Cold<A>, predecessor: *mut u32) -> Result<Option<*mut FlowEntry<A>>, Reason> {
    let packet = &cold.packet;
    if cold.proven != 0
        && let Some(proven) = A::flows().get_ptr_mut(&packet.key)
    {
        // SAFETY: as in `deliver`, read only; and a field of `Cold`.
        unsafe { predecessor.write_volatile((*proven).generation) };
        return Ok(transition::proven(packet, proven).then_some(proven));
    }
    let Some(entry) = A::embryonic().get_ptr_mut(&packet.key) else {
        // Another CPU may have proven it since the established table was asked: the entry is there before it leaves here. What
        // opens a connection is spared the look-up.
        let opens = packet.flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
        let proven = if opens || cold.proven != 0 { None } else { A::flows().get_ptr_mut(&packet.key) };
        return Ok(proven.filter(|&proven| transition::proven(packet, proven)));
    };
    // SAFETY: as above.
    unsafe { predecessor.write_volatile((*entry).generation) };
    match transition::half_open(packet, entry) {
        Next::Stays => Ok(Some(entry)),
        Next::Answered => {
            // SAFETY: as in `deliver`, read only.
            event::answered(packet, unsafe { &*entry });
            Ok(Some(entry))
        }
        // The half-open entry is gone and may be another connection's by now.
        next @ (Next::Promoted | Next::Proven) => {
            let entry = A::flows().get_ptr_mut(&packet.key).ok_or(Reason::DropNoConnection)?;
            if matches!(next, Next::Promoted) {
                transition::tell(packet, entry);
                // SAFETY: as above, read only.
                reverse::prove(unsafe { &*entry }, packet.now_ns);
            }
            // The segment that proves a handshake may be the client's last one, too.
            if packet.flags & TCP_FIN != 0 {
                transition::proven(packet, entry);
            }
            Ok(Some(entry))
        }
        Next::Absent => Ok(None),
        Next::Drop(reason) => Err(reason),
    }
}

#[inline(always)]
pub(crate) fn is_ours<A: Family>(ip_be: A, vlan: u16) -> bool {
    // SAFETY: only presence counts.
    unsafe { A::addresses().get(AddressKey { ip_be, vlan, pad: 0 }) }.is_some()
}

/// Whose pair stands after both directions of a connection were to be entered.
pub(crate) enum Pair {
    /// The one that was to be.
    Made,
    /// Another CPU's, where the same packet arrived: it was first, so its pair counts.
    Stands,
}

/// Enters both directions among the half-open.
#[inline(never)]
pub(crate) fn insert_pair<A: Family>(connection: &Connection<A>, local: &Local) -> Result<Pair, Reason> {
    make_way(connection)?;
    match insert_forward(connection, local) {
        0 => {}
        EEXIST => return Ok(Pair::Stands),
        _ => return Err(Reason::DropTableFull),
    }
    // A return entry that stands here belongs to a half-open connection that has lost its other half, or loses it now:
    // its forward entry finds a twin of another generation and counts as absent.
    if insert_return(connection, local, BPF_ANY) != 0 {
        take_back(connection);
        return Err(Reason::DropTableFull);
    }
    Ok(Pair::Made)
}

/// Takes the client's direction out again.
#[inline(never)]
fn take_back<A: Family>(connection: &Connection<A>) {
    let _ = A::embryonic().remove(connection.forward_key());
}

/// Removes a finished connection of the same return direction; a live one is another virtual server's and stays.
#[inline(never)]
fn make_way<A: Family>(connection: &Connection<A>) -> Result<(), Reason> {
    let return_key = connection.return_key();
    if let Some(other) = A::flows().get_ptr_mut(return_key) {
        // SAFETY: as in `forward`; read only.
        let (twin_key, closed) =
            unsafe { ((*other).twin_key(return_key.proto), (*other).state >= STATE_CLOSED) };
        if !closed && A::flows().get_ptr(twin_key).is_some() {
            return Err(Reason::DropConflict);
        }
        let _ = A::flows().remove(twin_key);
        let _ = A::flows().remove(return_key);
    }
    Ok(())
}

/// Enters the client's direction among the half-open; 0 or an error number.
#[inline(never)]
pub(crate) fn insert_forward<A: Family>(connection: &Connection<A>, local: &Local) -> i32 {
    let flags = u64::from(BPF_NOEXIST);
    if !A::IN_SCRATCH {
        let (key, entry) = (connection.forward_key(), connection.forward_entry(local));
        return A::embryonic().insert(key, entry, flags).err().unwrap_or(0);
    }
    let Some(cold) = A::cold().get_ptr_mut(0) else { return EEXIST };
    // SAFETY: this CPU's element; these two fields are used here and in `insert_return` only.
    let (key, entry) = unsafe { (&mut (*cold).key, &mut (*cold).entry) };
    *key = connection.forward_key();
    connection.write_forward_entry(local, entry);
    A::embryonic().insert(&*key, &*entry, flags).err().unwrap_or(0)
}

/// Enters the server's direction among the half-open; 0 or an error number.
#[inline(never)]
pub(crate) fn insert_return<A: Family>(connection: &Connection<A>, local: &Local, flags: u32) -> i32 {
    let flags = u64::from(flags);
    if !A::IN_SCRATCH {
        let (key, entry) = (connection.return_key(), connection.return_entry(local));
        return A::embryonic().insert(key, entry, flags).err().unwrap_or(0);
    }
    let Some(cold) = A::cold().get_ptr_mut(0) else { return EEXIST };
    // SAFETY: as in `insert_forward`.
    let (key, entry) = unsafe { (&mut (*cold).key, &mut (*cold).entry) };
    *key = connection.return_key();
    connection.write_return_entry(local, entry);
    A::embryonic().insert(&*key, &*entry, flags).err().unwrap_or(0)
}
