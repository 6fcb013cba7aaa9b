//! The connection tables: look-up, creation, and the walk of a packet that has an entry.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;
use csm_common::flow::{
    Connection, FLAG_FORWARD, FLAG_REBUILT, FLAG_REPLICA, FLAG_REPLICATE, FlowEntry, FlowKey, Local, NONE,
    STATE_CLOSED, STATE_SYN, next_generation,
};
use csm_common::net::{AddressKey, PORT_CLIENT, PORT_SERVER, Port};
use csm_common::service::{VSERVER_INSERVICE, VSERVER_REPLICATE, Vserver};

use crate::packet::{PROTO_TCP, Packet, TCP_FIN, TCP_RST, TCP_SYN};
use crate::transition::{self, Next};
use crate::{
    Outcome, counter, drain, forward as out, icmp_send, maps, predictor, rebuild, rewrite, sticky, vserver,
};

/// `last_seen` is written at most this often, so that a busy connection's entry stays clean in every cache.
const TOUCH_NS: u64 = 1_000_000_000;
const EEXIST: i32 = -17;

/// Sends a packet on by its connection's entry, making one if it is a first packet; `l4` is where its transport header
/// stands.
#[inline(always)]
pub(crate) fn forward(ctx: &XdpContext, packet: &Packet, l4: usize) -> Outcome {
    if packet.ttl <= 1 {
        return Err(icmp_send::time_exceeded(ctx, packet, l4));
    }
    let (entry, fresh) = find(packet)?;
    // SAFETY: an element of a preallocated table. Expiry may free it on another CPU meanwhile and a new connection
    // take its place: then this one packet goes where that one's would.
    let entry = unsafe { &mut *entry };
    let hop = out::hop(entry.nexthop)?;
    if packet.total > u32::from(hop.mtu) {
        return Err(icmp_send::too_big(ctx, packet, l4, hop.mtu));
    }
    touch(packet, entry);
    transition::acknowledged(packet, entry);
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
pub(crate) fn entry(key: &FlowKey) -> Option<&'static FlowEntry> {
    let found = maps::FLOWS.get_ptr(key).or_else(|| maps::EMBRYONIC.get_ptr(key))?;
    // SAFETY: as in `forward`; read only.
    Some(unsafe { &*found })
}

/// The packet's entry, and whether it was made for this packet.
#[inline(always)]
fn find(packet: &Packet) -> Result<(*mut FlowEntry, bool), Reason> {
    let key = &packet.key;
    let mut predecessor = 0;
    if let Some(entry) = maps::FLOWS.get_ptr_mut(key.wide()) {
        if packet.flags & (TCP_SYN | TCP_FIN | TCP_RST) == 0 {
            return Ok((entry, false));
        }
        // SAFETY: as in `forward`; read only.
        predecessor = unsafe { (*entry).generation };
        if transition::proven(packet, entry) {
            return Ok((entry, false));
        }
    } else if let Some(entry) = maps::EMBRYONIC.get_ptr_mut(key) {
        // SAFETY: as in `forward`; read only.
        predecessor = unsafe { (*entry).generation };
        match transition::half_open(packet, entry) {
            Next::Stays => return Ok((entry, false)),
            // The half-open entry is gone and may be another connection's by now.
            Next::Proven => {
                let entry = maps::FLOWS.get_ptr_mut(key).ok_or(Reason::DropNoConnection)?;
                // The segment that proves a handshake may be the client's last one, too.
                if packet.flags & TCP_FIN != 0 {
                    transition::proven(packet, entry);
                }
                return Ok((entry, false));
            }
            Next::Absent => {}
            Next::Drop(reason) => return Err(reason),
        }
    }
    create(packet, predecessor)?;
    maps::EMBRYONIC.get_ptr_mut(key).map(|entry| (entry, true)).ok_or(Reason::DropTableFull)
}

#[inline(always)]
fn touch(packet: &Packet, entry: &mut FlowEntry) {
    // A replica's first packet counts however soon it comes: from then on the entry is this node's to keep.
    if packet.now_ns > entry.last_seen_ns + TOUCH_NS || entry.flags & FLAG_REPLICA != 0 {
        entry.last_seen_ns = packet.now_ns;
        entry.flags &= !FLAG_REPLICA;
        if entry.flags & FLAG_FORWARD != 0 && entry.vserver != NONE {
            sticky::touch(entry, packet.now_ns);
        }
    }
}

/// Makes the half-open pair for a packet that has none; `predecessor` is the generation of the one that stood there, or 0.
#[inline(never)]
fn create(packet: &Packet, predecessor: u32) -> Result<(), Reason> {
    let generation = next_generation(packet.now_ns, predecessor);
    match vserver::lookup(&packet.key) {
        Some((number, vserver)) => balance(packet, generation, number, vserver),
        None => route(packet, generation),
    }
}

/// A first packet to a virtual server.
#[inline(always)]
fn balance(packet: &Packet, generation: u32, number: u32, vserver: &Vserver) -> Result<(), Reason> {
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
    let key = &packet.key;
    let to_client = way_back(packet)?;
    let real_number = sticky::find(vserver, key.src_be, packet.now_ns)
        .or_else(|| predictor::next(number, vserver))
        .ok_or(Reason::DropNoReal)?;
    let real = maps::REALS.get(real_number).ok_or(Reason::DropInternal)?;
    let connection = Connection {
        client_be: key.src_be,
        virtual_be: key.dst_be,
        real_be: real.ip_be,
        client_port_be: key.sport_be,
        virtual_port_be: key.dport_be,
        real_port_be: if real.port_be == 0 { key.dport_be } else { real.port_be },
        client_vlan: key.vlan,
        server_vlan: real.vlan,
        proto: key.proto,
        state: STATE_SYN,
        vserver: number,
        real: real_number,
        generation,
    };
    let flags = if replicates { FLAG_REPLICATE } else { 0 };
    let local = Local { to_server: real.nexthop, to_client, now_ns: packet.now_ns, flags };
    insert_pair(&connection, &local)?;
    sticky::choose(vserver, key.src_be, real_number, packet.now_ns);
    Ok(())
}

/// A first packet to no virtual server: routed from a server to the client side, refused otherwise.
#[inline(always)]
fn route(packet: &Packet, generation: u32) -> Result<(), Reason> {
    let key = &packet.key;
    if is_ours(key.dst_be, key.vlan) {
        return Err(Reason::DropNoVserver);
    }
    if !is_host(key.dst_be) {
        return Err(Reason::DropNoRoute);
    }
    let route = out::route(key.dst_be).ok_or(Reason::DropNoRoute)?;
    let egress: &Port = maps::VLANS.get(u32::from(route.vlan)).ok_or(Reason::DropInternal)?;
    match (packet.ingress.role, egress.role) {
        (PORT_SERVER, PORT_CLIENT) => {}
        (PORT_CLIENT, PORT_SERVER) => return Err(Reason::DropDirect),
        _ => return Err(Reason::DropNoRoute),
    }
    if is_ours(key.dst_be, route.vlan) {
        return Err(Reason::DropNoVserver);
    }
    if !packet.opens() {
        return rebuild::from_server(packet, generation, route);
    }
    let to_server = out::resolve(route, key.dst_be)?;
    let to_client = way_back(packet)?;
    // The one who opens is the client here, and what it speaks to is both virtual and real server: nothing changes.
    let connection = Connection {
        client_be: key.src_be,
        virtual_be: key.dst_be,
        real_be: key.dst_be,
        client_port_be: key.sport_be,
        virtual_port_be: key.dport_be,
        real_port_be: key.dport_be,
        client_vlan: key.vlan,
        server_vlan: route.vlan,
        proto: key.proto,
        state: STATE_SYN,
        vserver: NONE,
        real: NONE,
        generation,
    };
    insert_pair(&connection, &Local { to_server, to_client, now_ns: packet.now_ns, flags: 0 })
}

/// Next hop back to the source of a first packet. It leads out of the VLAN that the packet came in on: what a server
/// answers to a forged source on another VLAN would hit who never asked, and no entry would fit the answer.
#[inline(always)]
fn way_back(packet: &Packet) -> Result<u32, Reason> {
    let key = &packet.key;
    if !is_host(key.src_be) || is_ours(key.src_be, key.vlan) {
        return Err(Reason::DropSource);
    }
    let route = out::route(key.src_be).ok_or(Reason::DropNoRoute)?;
    if route.vlan != key.vlan {
        return Err(Reason::DropSource);
    }
    out::resolve(route, key.src_be)
}

/// An address that one host may have: not of "this network", loopback, multicast or reserved (RFC 6890).
#[inline(always)]
pub(crate) const fn is_host(ip_be: u32) -> bool {
    matches!(ip_be.to_ne_bytes()[0], 1..=126 | 128..=223)
}

#[inline(always)]
fn is_ours(ip_be: u32, vlan: u16) -> bool {
    // SAFETY: only presence counts.
    unsafe { maps::ADDRESSES.get(AddressKey { ip_be, vlan, pad: 0 }) }.is_some()
}

/// Enters both directions among the half-open.
#[inline(always)]
pub(crate) fn insert_pair(connection: &Connection, local: &Local) -> Result<(), Reason> {
    let return_key = connection.return_key();
    if let Some(other) = maps::FLOWS.get_ptr_mut(return_key) {
        // SAFETY: as in `forward`; read only.
        let (twin_key, closed) =
            unsafe { ((*other).twin_key(return_key.proto), (*other).state == STATE_CLOSED) };
        if !closed && maps::FLOWS.get_ptr(twin_key).is_some() {
            return Err(Reason::DropConflict);
        }
        let _ = maps::FLOWS.remove(twin_key);
        let _ = maps::FLOWS.remove(return_key);
    }
    let forward_key = connection.forward_key();
    match maps::EMBRYONIC.insert(forward_key, connection.forward_entry(local), u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        // The same packet arrived on another CPU, which was first: its pair counts.
        Err(EEXIST) => return Ok(()),
        Err(_) => return Err(Reason::DropTableFull),
    }
    // A return entry that stands here belongs to a half-open connection that has lost its other half, or loses it now:
    // its forward entry finds a twin of another generation and counts as absent.
    if maps::EMBRYONIC.insert(return_key, connection.return_entry(local), u64::from(BPF_ANY)).is_err() {
        let _ = maps::EMBRYONIC.remove(forward_key);
        return Err(Reason::DropTableFull);
    }
    Ok(())
}
