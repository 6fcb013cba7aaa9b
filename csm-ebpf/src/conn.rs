//! The connection tables: look-up, creation, and the walk of a packet that has an entry.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::programs::XdpContext;
use csm_common::address::Address;
use csm_common::counter::Reason;
use csm_common::flow::{
    Connection, FLAG_FORWARD, FLAG_REBUILT, FLAG_REPLICA, FLAG_REPLICATE, FlowEntry, FlowKey, Local, NONE,
    STATE_CLOSED, STATE_SYN, next_generation,
};
use csm_common::net::{AddressKey, PORT_CLIENT, PORT_SERVER, Port, Route};
use csm_common::service::{
    VSERVER_DISPATCH, VSERVER_FORWARD, VSERVER_INSERVICE, VSERVER_REPLICATE, VSERVER_STATIC,
    VSERVER_UNIDIRECTIONAL, Vserver,
};

use crate::family::Family;
use crate::packet::{PROTO_TCP, PROTO_UDP, Packet, TCP_FIN, TCP_RST, TCP_SYN};
use crate::transition::{self, Next};
use crate::{
    Outcome, counter, drain, forward as out, fragment, ftp, maps, nat, predictor, rebuild, reset, rewrite,
    sticky, vserver,
};

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
        transition::unset_flag(entry, FLAG_REPLICA);
        if entry.flags & FLAG_FORWARD != 0 && entry.vserver != NONE {
            sticky::touch(entry, packet.now_ns);
        }
    }
}

/// What a packet that is not simply one of an established connection is worked on with: this CPU's scratch space.
///
/// It spares the stack, and it spares the verifier: what it knows of the packet on each path to here, it does not know of
/// a map's content, so what follows is walked once and not once for each path.
pub(crate) struct Cold<A: Address> {
    pub(crate) packet: Packet<A>,
    draft: Draft<A>,
    /// Where the packet's transport header stands.
    l4: u32,
    /// Not 0: the established table has an entry for the packet.
    proven: u32,
    /// Generation of the connection that stood under the packet's key, or 0.
    predecessor: u32,
    /// Not 0: the entry was made for the packet.
    fresh: u32,
    /// What is about to be inserted, of a family whose entries are too large for the stack.
    key: FlowKey<A>,
    entry: FlowEntry<A>,
}

/// A connection that is about to be made.
pub(crate) struct Draft<A: Address> {
    pub(crate) connection: Connection<A>,
    pub(crate) local: Local,
    /// Pool that the source is to be taken from; 0: none.
    pool: u32,
}

/// A packet that begins or ends something, or has no entry in the established table.
#[inline(never)]
fn slow<A: Family>(ctx: &XdpContext, cold: &mut Cold<A>) -> Reason {
    let (Ok(reason) | Err(reason)) = walk(ctx, cold);
    reason
}

#[inline(always)]
fn walk<A: Family>(ctx: &XdpContext, cold: &mut Cold<A>) -> Outcome {
    let (predecessor, fresh) = (&raw mut cold.predecessor, &raw mut cold.fresh);
    // SAFETY: both are fields of `cold`; volatile so that their values go by way of the map, where the paths meet again.
    unsafe {
        predecessor.write_volatile(0);
        fresh.write_volatile(0);
    }
    let entry = match standing(cold, predecessor)? {
        Some(entry) => entry,
        None => {
            // SAFETY: as above.
            let before = unsafe {
                fresh.write_volatile(1);
                predecessor.read_volatile()
            };
            create(&cold.packet, &mut cold.draft, before)?;
            A::embryonic().get_ptr_mut(&cold.packet.key).ok_or(Reason::DropTableFull)?
        }
    };
    // SAFETY: as above.
    Ok(deliver_slowly(ctx, cold, entry, unsafe { fresh.read_volatile() }))
}

/// As [`deliver`], with a stack of its own.
#[inline(never)]
fn deliver_slowly<A: Family>(
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
    let Some(entry) = A::embryonic().get_ptr_mut(&packet.key) else { return Ok(None) };
    // SAFETY: as above.
    unsafe { predecessor.write_volatile((*entry).generation) };
    match transition::half_open(packet, entry) {
        Next::Stays => Ok(Some(entry)),
        // The half-open entry is gone and may be another connection's by now.
        Next::Proven => {
            let entry = A::flows().get_ptr_mut(&packet.key).ok_or(Reason::DropNoConnection)?;
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

/// Makes the half-open pair for a packet that has none; `predecessor` is the generation of the one that stood there, or 0.
#[inline(always)]
fn create<A: Family>(packet: &Packet<A>, draft: &mut Draft<A>, predecessor: u32) -> Result<(), Reason> {
    let key = &packet.key;
    // Until something else is decided the packet goes on as it is, and so do the answers.
    let connection = &mut draft.connection;
    connection.client_be = key.src_be;
    connection.virtual_be = key.dst_be;
    connection.real_be = key.dst_be;
    connection.source_be = key.src_be;
    connection.client_port_be = key.sport_be;
    connection.virtual_port_be = key.dport_be;
    connection.real_port_be = key.dport_be;
    connection.source_port_be = key.sport_be;
    connection.client_vlan = key.vlan;
    connection.server_vlan = key.vlan;
    connection.proto = key.proto;
    connection.state = STATE_SYN;
    connection.pad = 0;
    connection.vserver = NONE;
    connection.real = NONE;
    connection.generation = next_generation(packet.now_ns, predecessor);
    draft.local = Local { to_server: 0, to_client: 0, now_ns: packet.now_ns, flags: 0 };
    draft.pool = 0;
    match vserver::lookup(packet) {
        Some(number) => balance(packet, number, draft)?,
        None => route(packet, draft)?,
    }
    if draft.pool == 0 {
        insert_pair(&draft.connection, &draft.local)?;
    } else {
        nat::insert_pair(&mut draft.connection, &draft.local, draft.pool)?;
    }
    settle(packet, draft);
    Ok(())
}

/// What else is to be noted, now that the pair stands.
#[inline(never)]
fn settle<A: Family>(packet: &Packet<A>, draft: &Draft<A>) {
    if draft.local.flags & FLAG_REBUILT != 0 {
        return rebuild::expect(packet, &draft.connection);
    }
    let Some(vserver) = A::vservers().get(draft.connection.vserver) else { return };
    if vserver.flags & VSERVER_UNIDIRECTIONAL != 0 {
        transition::expect(packet);
    }
    if draft.connection.real != NONE {
        predictor::opened(vserver, draft.connection.real);
        sticky::choose(vserver, packet.key.src_be, draft.connection.real, packet.now_ns);
    }
}

/// Flag of its connections' entries.
#[inline(always)]
const fn replicated<A: Family>(vserver: &Vserver<A>) -> u8 {
    if vserver.flags & VSERVER_REPLICATE == 0 { 0 } else { FLAG_REPLICATE }
}

/// A first packet to virtual server `number`.
#[inline(never)]
fn balance<A: Family>(packet: &Packet<A>, number: u32, draft: &mut Draft<A>) -> Result<(), Reason> {
    let vserver = A::vservers().get(number).ok_or(Reason::DropInternal)?;
    if !packet.opens() {
        return Err(Reason::DropNoConnection);
    }
    if vserver.flags & VSERVER_INSERVICE == 0 {
        return Err(Reason::DropNoPolicy);
    }
    let replicates = vserver.flags & VSERVER_REPLICATE != 0;
    if replicates && packet.key.proto == PROTO_TCP && drain::is_stalled(packet.now_ns) {
        return Err(Reason::DropStalled);
    }
    draft.local.to_client = way_back(packet)?;
    draft.local.flags = replicated(vserver);
    draft.connection.vserver = number;
    draft.pool =
        if vserver.flags & VSERVER_STATIC == 0 { vserver.pool } else { nat::of_static(&packet.key)? };
    if vserver.flags & VSERVER_FORWARD == 0 {
        choose(packet, number, vserver, draft)
    } else {
        forward_on(packet, draft)
    }
}

/// By stickiness, else by the predictor.
#[inline(always)]
fn choose<A: Family>(
    packet: &Packet<A>,
    number: u32,
    vserver: &Vserver<A>,
    draft: &mut Draft<A>,
) -> Result<(), Reason> {
    let key = &packet.key;
    let data = ftp::is_data(vserver, key.dport_be);
    let real_number = sticky::find(vserver, key.src_be, packet.now_ns, data)
        .or_else(|| predictor::next(number, vserver, key))
        .ok_or(Reason::DropNoReal)?;
    let real = A::reals().get(real_number).ok_or(Reason::DropInternal)?;
    draft.connection.real = real_number;
    draft.connection.server_vlan = real.vlan;
    draft.local.to_server = real.nexthop;
    // In dispatch mode the real owns the virtual address: its MAC address alone tells it apart from its neighbours.
    if vserver.flags & VSERVER_DISPATCH == 0 {
        draft.connection.real_be = real.ip_be;
        if real.port_be != 0 && !data && matches!(key.proto, PROTO_TCP | PROTO_UDP) {
            draft.connection.real_port_be = real.port_be;
        }
    }
    Ok(())
}

/// `predictor forward`: where the packet wants to go. Back where it came from would be a loop.
#[inline(always)]
fn forward_on<A: Family>(packet: &Packet<A>, draft: &mut Draft<A>) -> Result<(), Reason> {
    let route = destination(&packet.key)?;
    if route.vlan == packet.key.vlan {
        return Err(Reason::DropNoRoute);
    }
    draft.connection.server_vlan = route.vlan;
    draft.local.to_server = out::resolve(route, packet.key.dst_be)?;
    Ok(())
}

/// The route to a destination that is none of the group's own addresses.
#[inline(always)]
fn destination<A: Family>(key: &FlowKey<A>) -> Result<&'static Route, Reason> {
    if is_ours(key.dst_be, key.vlan) {
        return Err(Reason::DropNoVserver);
    }
    if !key.dst_be.is_host() {
        return Err(Reason::DropNoRoute);
    }
    let route = out::route(key.dst_be).ok_or(Reason::DropNoRoute)?;
    if is_ours(key.dst_be, route.vlan) {
        return Err(Reason::DropNoVserver);
    }
    Ok(route)
}

/// A first packet to no virtual server: routed from a server to the client side, refused otherwise.
#[inline(never)]
fn route<A: Family>(packet: &Packet<A>, draft: &mut Draft<A>) -> Result<(), Reason> {
    let key = &packet.key;
    let route = destination(key)?;
    let egress: &Port = maps::VLANS.get(u32::from(route.vlan)).ok_or(Reason::DropInternal)?;
    match (packet.ingress.role, egress.role) {
        (PORT_SERVER, PORT_CLIENT) => {}
        (PORT_CLIENT, PORT_SERVER) => return Err(Reason::DropDirect),
        _ => return Err(Reason::DropNoRoute),
    }
    if !packet.opens() {
        return rebuild::from_server(packet, route, draft);
    }
    // The one who opens is the client here, and what it speaks to is both virtual and real server: nothing changes, but
    // for the source of FTP's data connections and of those that `static` names.
    draft.connection.server_vlan = route.vlan;
    draft.local.to_server = out::resolve(route, key.dst_be)?;
    draft.local.to_client = way_back(packet)?;
    draft.local.flags = FLAG_REPLICATE;
    let active = ftp::active(packet);
    if active.is_none() {
        draft.pool = nat::of_static(key)?;
    }
    if let Some(origin) = active {
        let vserver = A::vservers().get(origin.vserver).ok_or(Reason::DropInternal)?;
        draft.local.flags = replicated(vserver);
        draft.connection.vserver = origin.vserver;
        draft.connection.source_be = origin.virtual_be;
        draft.connection.source_port_be = origin.port_be;
    }
    Ok(())
}

/// Next hop back to the source of a first packet. It leads out of the VLAN that the packet came in on: what a server
/// answers to a forged source on another VLAN would hit who never asked, and no entry would fit the answer.
#[inline(always)]
fn way_back<A: Family>(packet: &Packet<A>) -> Result<u32, Reason> {
    let key = &packet.key;
    if !key.src_be.is_host() || is_ours(key.src_be, key.vlan) {
        return Err(Reason::DropSource);
    }
    let route = out::route(key.src_be).ok_or(Reason::DropNoRoute)?;
    if route.vlan != key.vlan {
        return Err(Reason::DropSource);
    }
    out::resolve(route, key.src_be)
}

#[inline(always)]
pub(crate) fn is_ours<A: Family>(ip_be: A, vlan: u16) -> bool {
    // SAFETY: only presence counts.
    unsafe { A::addresses().get(AddressKey { ip_be, vlan, pad: 0 }) }.is_some()
}

/// Enters both directions among the half-open.
#[inline(never)]
fn insert_pair<A: Family>(connection: &Connection<A>, local: &Local) -> Result<(), Reason> {
    make_way(connection)?;
    match insert_forward(connection, local) {
        0 => {}
        // The same packet arrived on another CPU, which was first: its pair counts.
        EEXIST => return Ok(()),
        _ => return Err(Reason::DropTableFull),
    }
    // A return entry that stands here belongs to a half-open connection that has lost its other half, or loses it now:
    // its forward entry finds a twin of another generation and counts as absent.
    if insert_return(connection, local, BPF_ANY) != 0 {
        take_back(connection);
        return Err(Reason::DropTableFull);
    }
    Ok(())
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
