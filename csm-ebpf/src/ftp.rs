//! FTP's data connections: they belong to the real that has the client's control connection, and no payload is read.
//!
//! A client of a `service ftp` virtual server has a sticky entry for as long as its control connection is used. In the
//! passive modes (PASV, EPSV) it opens a connection to another port of the virtual address; in the active ones (PORT,
//! EPRT) the real does, from the port below that of its control connection.

use csm_common::service::{MATCH_FTP, Origin, VSERVER_FTP, VSERVER_INSERVICE, Vserver, VserverKey};

use crate::family::Family;
use crate::packet::{PROTO_TCP, Packet};
use crate::sticky::Ends;
use crate::{sticky, vserver};

/// Below it no FTP server listens for data connections.
const DATA_PORT_FIRST: u16 = 1024;

/// The virtual server of the passive data connection that `packet` may open.
#[inline(never)]
pub(crate) fn passive<A: Family>(packet: &Packet<A>) -> Option<u32> {
    let key = &packet.key;
    if key.proto != PROTO_TCP || u16::from_be(key.dport_be) < DATA_PORT_FIRST {
        return None;
    }
    let number = vserver::of_ftp(key)?;
    let vserver = A::vservers().get(number).filter(|vserver| vserver.flags & VSERVER_FTP != 0)?;
    sticky::find(vserver, Ends::of(key), packet.now_ns, true)?;
    Some(number)
}

/// Whether a connection to port `port_be` of `vserver` is a data connection.
#[inline(always)]
pub(crate) const fn is_data<A: Family>(vserver: &Vserver<A>, port_be: u16) -> bool {
    vserver.flags & VSERVER_FTP != 0 && port_be != vserver.port_be
}

/// What the client is to see as the source of the active data connection that the real's `packet` opens.
#[inline(never)]
pub(crate) fn active<A: Family>(packet: &Packet<A>) -> Option<Origin<A>> {
    let key = &packet.key;
    if key.proto != PROTO_TCP {
        return None;
    }
    let service = VserverKey { ip_be: key.src_be, port_be: key.sport_be, proto: PROTO_TCP, kind: MATCH_FTP };
    // SAFETY: one that is replaced meanwhile was in force until just now.
    let origin = *unsafe { A::origins().get(service) }?;
    let vserver = A::vservers().get(origin.vserver)?;
    let ends = Ends { client_be: &key.dst_be, virtual_be: &origin.virtual_be };
    let of_real = sticky::find(vserver, ends, packet.now_ns, true) == Some(origin.real);
    (of_real && vserver.flags & VSERVER_INSERVICE != 0).then_some(origin)
}
