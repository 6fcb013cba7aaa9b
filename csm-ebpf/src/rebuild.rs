//! A connection that this node does not know is rebuilt from what its server says: the replica lacked it, or its entry
//! was lost.
//!
//! A server's address and port may belong to one virtual server only ([`ORIGINS`](crate::A::origins())), or the server is
//! reached under its own address (`predictor forward`); then a packet from there tells all that an entry holds. The pair stands among the half-open, which evict, until the client
//! acknowledges what the server sent: neither side alone brings it to the table that never does.

use csm_common::counter::Reason;
use csm_common::flow::{
    Connection, FLAG_FIN, FLAG_REBUILT, FLAG_REPLICATE, NONE, STATE_CLOSED, STATE_SYN_ACK,
};
use csm_common::net::{PORT_SERVER, Route};
use csm_common::service::{
    Origin, VSERVER_FORWARD, VSERVER_INSERVICE, VSERVER_REPLICATE, VSERVER_STATIC, Vserver, VserverKey,
};

use crate::conn::Draft;
use crate::family::Family;
use crate::packet::{PROTO_TCP, Packet, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use crate::{forward, nat, reverse as turned, vserver};

/// Drafts the connection of a server's segment to the client side, which `route` leads to.
#[inline(always)]
pub(crate) fn from_server<A: Family>(
    packet: &Packet<A>,
    route: &Route,
    draft: &mut Draft<A>,
) -> Result<(), Reason> {
    let key = &packet.key;
    // A SYN-ACK, too: half-open connections are not replicated, and its server sends it again.
    let answers = key.proto == PROTO_TCP && packet.flags & (TCP_RST | TCP_ACK) == TCP_ACK;
    // A stray is no proof that its connection is not known to the node that relayed it.
    if !answers || packet.ingress.role != PORT_SERVER || packet.ingress.relayed {
        return Err(Reason::DropNoConnection);
    }
    let service = VserverKey { ip_be: key.src_be, port_be: key.sport_be, proto: key.proto, kind: 0 };
    reverse(packet, route, &mut draft.connection);
    // SAFETY: one that is replaced meanwhile was in force until just now.
    if let Some(origin) = unsafe { A::origins().get(service) } {
        known_as(origin, &mut draft.connection);
    }
    // By its VLAN and client it might be another virtual server's.
    let number = vserver::of(&draft.connection.forward_key()).ok_or(Reason::DropNoConnection)?;
    let vserver = A::vservers().get(number).ok_or(Reason::DropInternal)?;
    if vserver.flags & VSERVER_INSERVICE == 0 || another_stands(&draft.connection) {
        return Err(Reason::DropNoConnection);
    }
    draft.local.to_server = to_server(packet, vserver, number, &draft.connection)?;
    draft.connection.vserver = number;
    let replicate = if vserver.flags & VSERVER_REPLICATE == 0 { 0 } else { FLAG_REPLICATE };
    draft.local.to_client = forward::resolve(route, key.dst_be)?;
    draft.reverse = vserver.reverse;
    turned::known(draft);
    draft.local.flags = FLAG_REBUILT | replicate;
    draft.local.mark = vserver.mark;
    make_way(&draft.connection);
    Ok(())
}

/// Next hop to the server: its real's, or, of a server without, the one that leads back to the packet's sender.
#[inline(always)]
fn to_server<A: Family>(
    packet: &Packet<A>,
    vserver: &Vserver<A>,
    number: u32,
    connection: &Connection<A>,
) -> Result<u32, Reason> {
    // SAFETY: fields of a map's value; volatile, so that the verifier walks what is before once for both.
    let (known, real) = unsafe {
        ((&raw const connection.vserver).read_volatile(), (&raw const connection.real).read_volatile())
    };
    if known == number {
        return Ok(A::reals().get(real).ok_or(Reason::DropInternal)?.nexthop);
    }
    if known != NONE || !keeps_addresses(vserver) || !matches!(nat::of_static(&packet.key), Ok(0)) {
        return Err(Reason::DropNoConnection);
    }
    way_back(packet)
}

/// Makes the draft, which has the packet's sender as the client, the server's connection with the packet's receiver: with the
/// server itself, under its own address.
#[inline(always)]
const fn reverse<A: Family>(packet: &Packet<A>, route: &Route, connection: &mut Connection<A>) {
    let key = &packet.key;
    connection.client_be = key.dst_be;
    connection.virtual_be = key.src_be;
    connection.real_be = key.src_be;
    connection.source_be = key.dst_be;
    connection.client_port_be = key.dport_be;
    connection.virtual_port_be = key.sport_be;
    connection.real_port_be = key.sport_be;
    connection.source_port_be = key.dport_be;
    connection.client_vlan = route.vlan;
    connection.server_vlan = key.vlan;
    connection.state = STATE_SYN_ACK;
}

/// The client knows the server by a virtual server's address.
#[inline(always)]
const fn known_as<A: Family>(origin: &Origin<A>, connection: &mut Connection<A>) {
    connection.virtual_be = origin.virtual_be;
    connection.virtual_port_be = origin.port_be;
    connection.vserver = origin.vserver;
    connection.real = origin.real;
}

/// `predictor forward` without `nat client`: what the server's packet says of addresses and ports is all there is. Not of a host
/// with a `static` section: it may be one of its own connections, under another address.
#[inline(always)]
const fn keeps_addresses<A: Family>(vserver: &Vserver<A>) -> bool {
    vserver.flags & VSERVER_FORWARD != 0 && vserver.flags & VSERVER_STATIC == 0 && vserver.pool == 0
}

/// Next hop to the packet's sender, out of the VLAN that it came in on.
#[inline(always)]
fn way_back<A: Family>(packet: &Packet<A>) -> Result<u32, Reason> {
    let back = forward::route(packet.key.src_be).ok_or(Reason::DropNoConnection)?;
    if back.vlan != packet.key.vlan {
        return Err(Reason::DropNoConnection);
    }
    forward::resolve(back, packet.key.src_be)
}

/// Whether the client has another connection from that port to the virtual server: perhaps a later one, at another real.
#[inline(never)]
fn another_stands<A: Family>(connection: &Connection<A>) -> bool {
    let key = connection.forward_key();
    // SAFETY: an element of a preallocated table, read only.
    let proven = A::flows().get_ptr(key).is_some_and(|entry| unsafe { (*entry).state } != STATE_CLOSED);
    proven || A::embryonic().get_ptr(key).is_some()
}

/// Removes a finished connection of the client from that port to the virtual server, as a SYN would: its entry is found first,
/// and leads to another real perhaps.
#[inline(never)]
fn make_way<A: Family>(connection: &Connection<A>) {
    let key = connection.forward_key();
    let Some(closed) = A::flows().get_ptr(key) else { return };
    // SAFETY: an element of a preallocated table, read only.
    let (twin_key, generation) = unsafe { ((*closed).twin_key(key.proto), (*closed).generation) };
    // SAFETY: as above.
    if A::flows().get_ptr(twin_key).is_some_and(|twin| unsafe { (*twin).generation } == generation) {
        let _ = A::flows().remove(twin_key);
    }
    let _ = A::flows().remove(key);
}

/// What the client must acknowledge, and whether the server is at its end.
#[inline(always)]
pub(crate) fn expect<A: Family>(packet: &Packet<A>, connection: &Connection<A>) {
    if let Some(entry) = A::embryonic().get_ptr_mut(connection.forward_key()) {
        // SAFETY: an element of a preallocated table; of two packets that rebuild it on two CPUs either number will do.
        unsafe {
            (*entry).expect_ack = packet.seq;
            if packet.flags & TCP_SYN != 0 {
                // As of any handshake, one number proves it.
                (*entry).expect_ack = packet.seq.wrapping_add(1);
                (*entry).flags &= !FLAG_REBUILT;
            }
        }
    }
    if packet.flags & TCP_FIN != 0
        && let Some(entry) = A::embryonic().get_ptr_mut(connection.return_key())
    {
        // SAFETY: as above.
        unsafe { (*entry).flags |= FLAG_FIN };
    }
}
