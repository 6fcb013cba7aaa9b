//! FTP's data connections, and the media of RTSP: they belong to the real that has the client's control connection, and no
//! payload is read.
//!
//! A client of such a virtual server has a sticky entry for as long as its control connection is used. In the
//! passive modes (PASV, EPSV) it opens a connection to another port of the virtual address; in the active ones (PORT,
//! EPRT) the real does, from the port below that of its control connection. RTSP's media are RTP and RTCP over UDP, between
//! ports that SETUP names (RFC 2326, section 12.39); they stay as they are, and whoever speaks first makes the connection.

use csm_common::flow::FlowKey;
use csm_common::service::{MATCH_FTP, Origin, VSERVER_FTP, VSERVER_INSERVICE, Vserver, VserverKey};

use crate::family::Family;
use crate::packet::{PROTO_TCP, PROTO_UDP, Packet};
use crate::sticky::Ends;
use crate::{sticky, vserver};

/// Below it neither data connections nor media have their ports.
const DATA_PORT_FIRST: u16 = 1024;

/// The virtual server of the passive data connection, or of the media, that `packet` may open.
#[inline(never)]
pub(crate) fn passive<A: Family>(packet: &Packet<A>) -> Option<u32> {
    let key = &packet.key;
    if !matches!(key.proto, PROTO_TCP | PROTO_UDP) || u16::from_be(key.dport_be) < DATA_PORT_FIRST {
        return None;
    }
    let number = vserver::of_ftp(key)?;
    let vserver = A::vservers().get(number).filter(|vserver| vserver.flags & VSERVER_FTP != 0)?;
    sticky::find(vserver, Ends::of(key), packet.now_ns, true)?;
    Some(number)
}

/// Whether a client's connection `key` to `vserver` is a data connection or media: a control connection is TCP, to its port.
#[inline(always)]
pub(crate) const fn is_data<A: Family>(vserver: &Vserver<A>, key: &FlowKey<A>) -> bool {
    vserver.flags & VSERVER_FTP != 0 && (key.dport_be != vserver.port_be || key.proto == PROTO_UDP)
}

/// What the client is to see as the source of the active data connection, or of the media, that the real's `packet` opens.
#[inline(never)]
pub(crate) fn active<A: Family>(packet: &Packet<A>) -> Option<Origin<A>> {
    let key = &packet.key;
    let port_be = match key.proto {
        PROTO_TCP => key.sport_be,
        PROTO_UDP if u16::from_be(key.sport_be).min(u16::from_be(key.dport_be)) >= DATA_PORT_FIRST => 0,
        _ => return None,
    };
    let service = VserverKey { ip_be: key.src_be, port_be, proto: key.proto, kind: MATCH_FTP };
    // SAFETY: one that is replaced meanwhile was in force until just now.
    let mut origin = *unsafe { A::origins().get(service) }?;
    if origin.port_be == 0 {
        origin.port_be = key.sport_be;
    }
    let vserver = A::vservers().get(origin.vserver)?;
    let ends = Ends { client_be: &key.dst_be, virtual_be: &origin.virtual_be };
    let of_real = sticky::find(vserver, ends, packet.now_ns, true) == Some(origin.real);
    (of_real && vserver.flags & VSERVER_INSERVICE != 0).then_some(origin)
}
