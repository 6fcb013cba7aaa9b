//! ICMP errors about packets of known connections, translated outside and inside (RFC 5508, section 4).
//!
//! The packet that an error quotes left here in one direction of a connection, so the error itself belongs to the other
//! one: that direction's key is the quoted packet's, turned around. Its entry says what the sender of the quoted packet
//! called both ends. An error changes no state: it may be forged, and ends nothing.

use aya_ebpf::programs::XdpContext;
use csm_common::checksum;
use csm_common::counter::Reason;
use csm_common::flow::{FlowEntry, FlowKey, STATE_CLEARED};

use crate::packet::{
    Echo, FRAGMENT_OFFSET, ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, Icmp, Ipv4, L3, PROTO_ICMP, PROTO_TCP,
    PROTO_UDP, Packet, Ports, TRANSPORT_QUOTED, header,
};
use crate::{Outcome, conn, counter, forward, rewrite, tunnel};

/// Where the TCP checksum stands in its header; a router need not quote so much.
const TCP_CHECKSUM: usize = 16;
/// Where the UDP checksum stands in its header.
const UDP_CHECKSUM: usize = 6;

/// Sends an ICMP error on to who sent the packet that it quotes; `l4` is where the ICMP header stands.
#[inline(never)]
pub(crate) fn translate(ctx: &XdpContext, packet: &Packet, l4: usize) -> Reason {
    let (Ok(reason) | Err(reason)) = pass_on(ctx, packet, l4);
    reason
}

#[inline(always)]
fn pass_on(ctx: &XdpContext, packet: &Packet, l4: usize) -> Outcome {
    // Nobody is told of an error about an error.
    if packet.ttl <= 1 {
        return Err(Reason::DropTtl);
    }
    let inner_l3 = l4 + size_of::<Icmp>();
    let (key, inner_l4) = quoted(ctx, packet, inner_l3)?;
    // It goes to who sent the quoted packet, as that one's source has it.
    if packet.key.dst_be != key.dst_be {
        return Err(Reason::DropIcmp);
    }
    let Some(entry) = conn::entry(&key) else { return tunnel::narrow(ctx, packet, &key, l4) };
    // One that was cleared has no way out.
    if entry.state == STATE_CLEARED {
        return Err(Reason::DropCleared);
    }
    let hop = forward::hop::<u32>(entry.nexthop)?;
    let change = inside(ctx, packet, &key, entry, inner_l3, inner_l4)?;
    let icmp = header::<Icmp>(ctx, l4)?;
    // SAFETY: `header` checked the bounds.
    unsafe { (*icmp).checksum_be = checksum::apply((*icmp).checksum_be, checksum::fold(change)) };
    // What comes from the other end itself comes from its other name; a router on the way keeps its own.
    let src_be = if packet.key.src_be == key.src_be { entry.new_src_be } else { packet.key.src_be };
    let delta = checksum::replace32(packet.key.src_be, src_be)
        + checksum::replace32(packet.key.dst_be, entry.new_dst_be);
    rewrite::addresses(ctx, src_be, entry.new_dst_be, checksum::fold(delta), 0)?;
    let sent = forward::send(ctx, hop, Reason::ForwardedIcmp)?;
    counter::packet(entry, packet.length);
    Ok(sent)
}

/// Key of the direction that the quoted packet's answers take, and where its transport header stands.
#[inline(always)]
fn quoted(ctx: &XdpContext, packet: &Packet, inner_l3: usize) -> Result<(FlowKey, usize), Reason> {
    let ip = header::<Ipv4>(ctx, inner_l3)?;
    // SAFETY: `header` checked the bounds.
    let (version_ihl, fragment_be, proto, src_be, dst_be) =
        unsafe { ((*ip).version_ihl, (*ip).fragment_be, (*ip).proto, (*ip).src_be, (*ip).dst_be) };
    let words = usize::from(version_ihl & 0xf);
    let inner_l4 = inner_l3 + words * 4;
    if version_ihl >> 4 != 4 || words < 5 || (packet.total as usize + L3) < inner_l4 + TRANSPORT_QUOTED {
        return Err(Reason::DropMalformed);
    }
    // Of later fragments nothing tells the connection; what is fragmented gets no errors that matter.
    if u16::from_be(fragment_be) & FRAGMENT_OFFSET != 0 {
        return Err(Reason::DropIcmp);
    }
    let (sport_be, dport_be) = match proto {
        PROTO_ICMP => {
            let echo = header::<Echo>(ctx, inner_l4)?;
            // SAFETY: `header` checked the bounds.
            let (kind, id_be) = unsafe { ((*echo).kind, (*echo).id_be) };
            if kind != ICMP_ECHO_REQUEST && kind != ICMP_ECHO_REPLY {
                return Err(Reason::DropIcmp);
            }
            (id_be, id_be)
        }
        PROTO_TCP | PROTO_UDP => {
            let ports = header::<Ports>(ctx, inner_l4)?;
            // SAFETY: `header` checked the bounds.
            unsafe { ((*ports).sport_be, (*ports).dport_be) }
        }
        _ => (0, 0),
    };
    let key = FlowKey {
        src_be: dst_be,
        dst_be: src_be,
        sport_be: dport_be,
        dport_be: sport_be,
        vlan: packet.ingress.vlan,
        proto,
        pad: 0,
    };
    Ok((key, inner_l4))
}

/// Gives the quoted packet the addresses and ports that its sender gave it, by the `entry` that stands under `key`.
/// Returns the partial sum of all that changed, for the ICMP checksum.
#[inline(always)]
fn inside(
    ctx: &XdpContext,
    packet: &Packet,
    key: &FlowKey,
    entry: &FlowEntry,
    inner_l3: usize,
    inner_l4: usize,
) -> Result<u32, Reason> {
    let ip = header::<Ipv4>(ctx, inner_l3)?;
    let mut change =
        checksum::replace32(key.dst_be, entry.new_dst_be) + checksum::replace32(key.src_be, entry.new_src_be);
    // SAFETY: `header` checked the bounds.
    unsafe {
        let (old_be, new_be) = ((*ip).checksum_be, checksum::apply((*ip).checksum_be, entry.ip_delta));
        (*ip).src_be = entry.new_dst_be;
        (*ip).dst_be = entry.new_src_be;
        (*ip).checksum_be = new_be;
        change += checksum::replace16(old_be, new_be);
    }
    if key.proto != PROTO_TCP && key.proto != PROTO_UDP {
        return Ok(change);
    }
    let ports = header::<Ports>(ctx, inner_l4)?;
    // SAFETY: `header` checked the bounds.
    unsafe {
        (*ports).sport_be = entry.new_dport_be;
        (*ports).dport_be = entry.new_sport_be;
    }
    change += checksum::replace16(key.dport_be, entry.new_dport_be)
        + checksum::replace16(key.sport_be, entry.new_sport_be);
    if key.proto == PROTO_UDP {
        let sum = header::<u16>(ctx, inner_l4 + UDP_CHECKSUM)?;
        // SAFETY: `header` checked the bounds; headers stand at even offsets.
        unsafe {
            let (old_be, new_be) = (*sum, checksum::apply_udp(*sum, entry.l4_delta));
            *sum = new_be;
            change += checksum::replace16(old_be, new_be);
        }
    } else if packet.total as usize + L3 >= inner_l4 + TCP_CHECKSUM + size_of::<u16>() {
        let sum = header::<u16>(ctx, inner_l4 + TCP_CHECKSUM)?;
        // SAFETY: as above.
        unsafe {
            let (old_be, new_be) = (*sum, checksum::apply(*sum, entry.l4_delta));
            *sum = new_be;
            change += checksum::replace16(old_be, new_be);
        }
    }
    Ok(change)
}
