//! A first packet: the program that opens connections, one for each family.
//!
//! A program of its own, called at the end of the walk of a packet that found no entry: to open a connection costs
//! microseconds, and most of what the verifier would have to walk. The packet stands in this CPU's scratch space already.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::flow::{FLAG_REBUILT, FLAG_REPLICATE, FlowKey, Local, NONE, STATE_SYN, next_generation};
use csm_common::net::{PORT_CLIENT, PORT_SERVER, Port, Route};
use csm_common::service::{
    VSERVER_BACKUP, VSERVER_DISPATCH, VSERVER_FORWARD, VSERVER_HANDSHAKES, VSERVER_INSERVICE,
    VSERVER_POLICIES_ONLY, VSERVER_REPLICATE, VSERVER_STATIC, VSERVER_UNIDIRECTIONAL, Vserver,
};

use crate::conn::{self, Cold, Draft, Pair, is_ours};
use crate::family::Family;
use crate::packet::{PROTO_TCP, PROTO_UDP, Packet};
use crate::predictor::Pick;
use crate::sticky::Ends;
use crate::trace::{self, Told};
use crate::{
    drain, end, event, forward as out, ftp, maps, nat, predictor, rate, rebuild, reverse, room, router,
    sticky, transition, vserver,
};

/// What is known of a frame besides its packet, for a program that is called later.
#[derive(Clone, Copy)]
pub(crate) struct End {
    /// Slot of the counts of the interface that the frame came in by.
    pub(crate) counted: u32,
    /// Octets of the frame as it came in.
    pub(crate) bytes: u32,
    /// As in [`Port`](csm_common::net::Port).
    pub(crate) veth: u32,
    /// Not 0: the traced form walked it.
    pub(crate) traced: u32,
}

/// Calls the program that opens the connection of the packet in this CPU's scratch space. Comes back if there is none, with the reason
/// that the packet ends with.
#[inline(always)]
pub(crate) fn hand_over<A: Told>(ctx: &XdpContext, end: End) -> Reason {
    if let Some(cold) = A::cold().get_ptr_mut(0) {
        // SAFETY: this CPU's element; the program does not nest.
        unsafe { (*cold).end = end };
        // SAFETY: the map holds programs of this type only. It does not come back but for an empty slot.
        unsafe { maps::FAMILIES.tail_call(ctx, A::OPEN) };
    }
    Reason::DropInternal
}

/// Entry point: only from the other programs.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm_open(ctx: XdpContext) -> u32 {
    run::<u32>(&ctx)
}

/// The same for IPv6.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm6_open(ctx: XdpContext) -> u32 {
    run::<V6>(&ctx)
}

#[inline(always)]
fn run<A: Told>(ctx: &XdpContext) -> u32 {
    let Some(cold) = A::cold().get_ptr_mut(0) else { return xdp_action::XDP_DROP };
    // SAFETY: this CPU's element; the program does not nest, and nobody else reads or writes it.
    let cold = unsafe { &mut *cold };
    let reason = open(ctx, cold);
    let End { counted, bytes, veth, traced } = cold.end;
    if matches!(reason, Reason::ToRouter) {
        router::leave::<A>(ctx, bytes, counted);
    }
    if traced != 0 {
        trace::hand_over::<A>(ctx, reason, cold.end);
    }
    end(counted, bytes, reason, veth)
}

/// Opens the connection of the packet that another program has walked to here, and sends the packet on.
#[inline(never)]
fn open<A: Family>(ctx: &XdpContext, cold: &mut Cold<A>) -> Reason {
    if let Err(reason) = create(ctx, cold) {
        return reason;
    }
    match A::embryonic().get_ptr_mut(&cold.packet.key) {
        Some(entry) => conn::deliver_slowly(ctx, cold, entry, 1),
        None => Reason::DropTableFull,
    }
}

/// Makes the half-open pair for a packet that has none. What one step finds the next one reads from the draft, so the verifier
/// walks each step once and not once for each way to it.
#[inline(always)]
fn create<A: Family>(ctx: &XdpContext, cold: &mut Cold<A>) -> Result<(), Reason> {
    begin(cold);
    let Cold { packet, draft, .. } = cold;
    draft_connection(packet, draft)?;
    let sought = &raw const draft.pick.number;
    // SAFETY: a field of `draft`; volatile, as it comes by way of the map.
    if unsafe { sought.read_volatile() } != NONE {
        choose(&packet.key, draft)?;
        to_real(packet, draft)?;
    }
    let by_sender = &raw const draft.reverse;
    // SAFETY: as above.
    if unsafe { by_sender.read_volatile() } != 0
        && draft.local.flags & FLAG_REBUILT == 0
        && let Err(reason) = reverse::way_back(ctx, packet, draft)
    {
        give_back(draft);
        return Err(reason);
    }
    let made = matches!(insert(draft)?, Pair::Made);
    // What a server's packet says of the connection counts, whichever CPU was first.
    if made || draft.local.flags & FLAG_REBUILT != 0 {
        settle(packet, draft);
    }
    Ok(())
}

/// Until something else is decided the packet goes on as it is, and so do the answers.
#[inline(never)]
fn begin<A: Family>(cold: &mut Cold<A>) {
    let Cold { packet, draft, predecessor, .. } = cold;
    let key = &packet.key;
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
    connection.via = 0;
    connection.vserver = NONE;
    connection.real = NONE;
    connection.generation = next_generation(packet.now_ns, *predecessor);
    draft.local = Local { to_server: 0, to_client: 0, now_ns: packet.now_ns, flags: 0, mark: 0 };
    draft.pool = 0;
    draft.pick.number = NONE;
    draft.reverse = 0;
}

/// Decides on all but the real server.
#[inline(never)]
fn draft_connection<A: Family>(packet: &Packet<A>, draft: &mut Draft<A>) -> Result<(), Reason> {
    match vserver::lookup(packet) {
        Some(number) => balance(packet, number, draft),
        None => route(packet, draft),
    }
}

/// Enters the connection that was drafted, which has its places at its virtual server and its real, unless another CPU has entered it just now.
#[inline(never)]
fn insert<A: Family>(draft: &mut Draft<A>) -> Result<Pair, Reason> {
    if draft.local.flags & FLAG_REBUILT != 0 {
        room::take::<A>(draft.connection.vserver, draft.connection.real);
    }
    let inserted = if draft.pool == 0 {
        conn::insert_pair(&draft.connection, &draft.local)
    } else {
        nat::insert_pair(&mut draft.connection, &draft.local, draft.pool)
    };
    if !matches!(inserted, Ok(Pair::Made)) {
        give_back(draft);
    }
    inserted
}

/// The draft's connection is not made after all: its places at its virtual server and real are others'. One to no virtual server,
/// or without a real, has none there.
#[inline(always)]
fn give_back<A: Family>(draft: &Draft<A>) {
    room::give_back::<A>(draft.connection.vserver, draft.connection.real);
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
    // Its servers' answer may go past this node; and in dispatch mode two of them would answer one client, if the next node
    // chose another for the SYN that comes again.
    let early = vserver.flags & (VSERVER_UNIDIRECTIONAL | VSERVER_DISPATCH) != 0;
    if early && vserver.flags & VSERVER_HANDSHAKES != 0 && packet.key.proto == PROTO_TCP {
        event::opened(packet, &draft.connection);
    }
    reverse::choose(draft, packet.now_ns);
    if draft.connection.real != NONE {
        sticky::choose(vserver, Ends::of(&packet.key), draft.connection.real, packet.now_ns);
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
        let policies = vserver.flags & VSERVER_POLICIES_ONLY != 0;
        return Err(if policies { Reason::DropNoMatch } else { Reason::DropNoPolicy });
    }
    let replicates = vserver.flags & VSERVER_REPLICATE != 0;
    if replicates && packet.key.proto == PROTO_TCP && drain::is_stalled(packet.now_ns) {
        return Err(Reason::DropStalled);
    }
    draft.reverse = vserver.reverse;
    if vserver.reverse == 0 {
        draft.local.to_client = way_back(packet)?;
    } else {
        // The rest is looked for once the server is known.
        may_be_answered(&packet.key)?;
    }
    rate::admit(packet, number, vserver)?;
    draft.local.flags = replicated(vserver);
    draft.local.mark = vserver.mark;
    draft.connection.vserver = number;
    if vserver.flags & VSERVER_FORWARD != 0 {
        draft.pool = pool(vserver, &packet.key)?;
        forward_on(packet, draft)?;
        return room::admit(number, vserver, 0);
    }
    // A client's data connections go where its control connection is, whether there is room or not.
    let data = ftp::is_data(vserver, &packet.key);
    draft.pick.real = sticky::find(vserver, Ends::of(&packet.key), packet.now_ns, data).unwrap_or(NONE);
    draft.pick.must = data.into();
    draft.pick.number = number;
    // Last: from here on whoever fails gives the place back.
    room::admit(number, vserver, data.into())
}

/// The pool that clients get addresses of by `nat client`; 0: they keep their own.
#[inline(always)]
fn pool<A: Family>(vserver: &Vserver<A>, key: &FlowKey<A>) -> Result<u32, Reason> {
    if vserver.flags & VSERVER_STATIC == 0 { Ok(vserver.pool) } else { nat::of_static(key) }
}

/// The virtual server that the draft's connection is to.
#[inline(always)]
fn vserver_of<A: Family>(draft: &Draft<A>) -> Result<&'static Vserver<A>, Reason> {
    A::vservers().get(draft.connection.vserver).ok_or(Reason::DropInternal)
}

/// The real: by stickiness, else by the predictor, else by that of the backup farm.
#[inline(never)]
fn choose<A: Family>(key: &FlowKey<A>, draft: &mut Draft<A>) -> Result<(), Reason> {
    predictor::pick(key, &mut draft.pick);
    if is_chosen(&draft.pick) {
        return Ok(());
    }
    let vserver = vserver_of(draft)?;
    let mut rings = vserver.ring_len;
    if vserver.flags & VSERVER_BACKUP != 0 {
        rings |= A::vservers().get(vserver.backup).ok_or(Reason::DropInternal)?.ring_len;
        draft.pick.number = vserver.backup;
        draft.pick.must = 0;
        predictor::pick(key, &mut draft.pick);
        if is_chosen(&draft.pick) {
            return Ok(());
        }
    }
    // Of a farm in rotation each real had its connections.
    let reason = if rings == 0 { Reason::DropNoReal } else { Reason::DropMaxConns };
    rate::count(draft.connection.vserver, reason);
    give_back(draft);
    Err(reason)
}

#[inline(always)]
fn is_chosen(pick: &Pick) -> bool {
    // SAFETY: a field of a map's value; volatile, as it comes by way of the map.
    unsafe { (&raw const pick.real).read_volatile() != NONE }
}

/// The draft's connection goes to the real that was chosen, where it has a place already.
#[inline(never)]
fn to_real<A: Family>(packet: &Packet<A>, draft: &mut Draft<A>) -> Result<(), Reason> {
    draft.connection.real = draft.pick.real;
    let sent = address(packet, draft);
    if sent.is_err() {
        give_back(draft);
    }
    sent
}

/// Writes into the draft what follows from its real.
#[inline(always)]
fn address<A: Family>(packet: &Packet<A>, draft: &mut Draft<A>) -> Result<(), Reason> {
    let key = &packet.key;
    let vserver = vserver_of(draft)?;
    let real = A::reals().get(draft.connection.real).ok_or(Reason::DropInternal)?;
    let serving = if vserver.flags & VSERVER_BACKUP == 0 || real.farm == vserver.farm {
        vserver
    } else {
        A::vservers().get(vserver.backup).ok_or(Reason::DropInternal)?
    };
    draft.pool = pool(serving, key)?;
    draft.connection.server_vlan = real.vlan;
    draft.local.to_server = real.nexthop;
    // In dispatch mode the real owns the virtual address: its MAC address alone tells it apart from its neighbours.
    if vserver.flags & VSERVER_DISPATCH == 0 {
        draft.connection.real_be = real.ip_be;
        let data = ftp::is_data(vserver, key);
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
    // for the source of FTP's data connections, of media and of those that `static` names.
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
        room::take::<A>(origin.vserver, NONE);
    }
    Ok(())
}

/// Next hop back to the source of a first packet. It leads out of the VLAN that the packet came in on: what a server
/// answers to a forged source on another VLAN would hit who never asked, and no entry would fit the answer.
#[inline(always)]
pub(crate) fn way_back<A: Family>(packet: &Packet<A>) -> Result<u32, Reason> {
    let key = &packet.key;
    may_be_answered(key)?;
    let route = out::route(key.src_be).ok_or(Reason::DropNoRoute)?;
    if route.vlan != key.vlan {
        return Err(Reason::DropSource);
    }
    out::resolve(route, key.src_be)
}

/// The source is a host's address, and none of the group's own.
#[inline(always)]
fn may_be_answered<A: Family>(key: &FlowKey<A>) -> Result<(), Reason> {
    if !key.src_be.is_host() || is_ours(key.src_be, key.vlan) {
        return Err(Reason::DropSource);
    }
    Ok(())
}
