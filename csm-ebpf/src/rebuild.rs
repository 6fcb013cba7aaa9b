//! A connection that this node does not know is rebuilt from what its server says: the replica lacked it, or its entry
//! was lost.
//!
//! A server's address and port may belong to one virtual server only ([`ORIGINS`](crate::maps::ORIGINS)); then a packet
//! from there tells all that an entry holds. The pair stands among the half-open, which evict, until the client
//! acknowledges what the server sent: neither side alone brings it to the table that never does.

use csm_common::counter::Reason;
use csm_common::flow::{
    Connection, FLAG_FIN, FLAG_REBUILT, FLAG_REPLICATE, Local, STATE_CLOSED, STATE_SYN_ACK,
};
use csm_common::net::{PORT_SERVER, Route};
use csm_common::service::{Origin, VSERVER_INSERVICE, VSERVER_REPLICATE, Vserver, VserverKey};

use crate::conn;
use crate::packet::{PROTO_TCP, Packet, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use crate::{forward, maps};

/// Rebuilds the entries of a server's segment to the client side, which `route` leads to.
#[inline(always)]
pub(crate) fn from_server(packet: &Packet, generation: u32, route: &Route) -> Result<(), Reason> {
    let key = &packet.key;
    // A SYN-ACK, too: half-open connections are not replicated, and its server sends it again.
    let answers = key.proto == PROTO_TCP && packet.flags & (TCP_RST | TCP_ACK) == TCP_ACK;
    // A stray is no proof that its connection is not known to the node that relayed it.
    if !answers || packet.ingress.role != PORT_SERVER || packet.ingress.relayed {
        return Err(Reason::DropNoConnection);
    }
    let service = VserverKey { ip_be: key.src_be, port_be: key.sport_be, proto: key.proto, pad: 0 };
    // SAFETY: one that is replaced meanwhile was in force until just now.
    let origin = *unsafe { maps::ORIGINS.get(service) }.ok_or(Reason::DropNoConnection)?;
    let vserver = maps::VSERVERS.get(origin.vserver).ok_or(Reason::DropInternal)?;
    if vserver.flags & VSERVER_INSERVICE == 0 || (vserver.vlan != 0 && vserver.vlan != u32::from(route.vlan))
    {
        return Err(Reason::DropNoConnection);
    }
    let connection = connection(packet, generation, route, &origin);
    if another_stands(&connection) {
        return Err(Reason::DropNoConnection);
    }
    let local = local(packet, route, &origin, vserver)?;
    conn::insert_pair(&connection, &local)?;
    expect(packet, &connection);
    Ok(())
}

#[inline(always)]
const fn connection(packet: &Packet, generation: u32, route: &Route, origin: &Origin) -> Connection {
    let key = &packet.key;
    Connection {
        client_be: key.dst_be,
        virtual_be: origin.virtual_be,
        real_be: key.src_be,
        client_port_be: key.dport_be,
        virtual_port_be: origin.port_be,
        real_port_be: key.sport_be,
        client_vlan: route.vlan,
        server_vlan: key.vlan,
        proto: key.proto,
        state: STATE_SYN_ACK,
        vserver: origin.vserver,
        real: origin.real,
        generation,
    }
}

#[inline(always)]
fn local(packet: &Packet, route: &Route, origin: &Origin, vserver: &Vserver) -> Result<Local, Reason> {
    let real = maps::REALS.get(origin.real).ok_or(Reason::DropInternal)?;
    let replicate = if vserver.flags & VSERVER_REPLICATE == 0 { 0 } else { FLAG_REPLICATE };
    Ok(Local {
        to_server: real.nexthop,
        to_client: forward::resolve(route, packet.key.dst_be)?,
        now_ns: packet.now_ns,
        flags: FLAG_REBUILT | replicate,
    })
}

/// Whether the client has another connection from that port to the virtual server: perhaps a later one, at another real.
#[inline(always)]
fn another_stands(connection: &Connection) -> bool {
    let key = connection.forward_key();
    // SAFETY: an element of a preallocated table, read only.
    let proven = maps::FLOWS.get_ptr(key).is_some_and(|entry| unsafe { (*entry).state } != STATE_CLOSED);
    proven || maps::EMBRYONIC.get_ptr(key).is_some()
}

/// What the client must acknowledge, and whether the server is at its end.
#[inline(always)]
fn expect(packet: &Packet, connection: &Connection) {
    if let Some(entry) = maps::EMBRYONIC.get_ptr_mut(connection.forward_key()) {
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
        && let Some(entry) = maps::EMBRYONIC.get_ptr_mut(connection.return_key())
    {
        // SAFETY: as above.
        unsafe { (*entry).flags |= FLAG_FIN };
    }
}
