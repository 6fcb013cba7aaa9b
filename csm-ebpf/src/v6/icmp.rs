//! ICMPv6 errors about packets of known connections (RFC 4443), translated outside and inside as those of IPv4 are.

use aya_ebpf::programs::XdpContext;
use csm_common::address::{Address as _, V6};
use csm_common::checksum;
use csm_common::counter::Reason;
use csm_common::flow::{FlowEntry, FlowKey, STATE_CLEARED};

use super::Ipv6;
use super::header::{self as ip_header, Walk};
use crate::family::Family as _;
use crate::packet::{
    Echo, FRAGMENT_OFFSET, Icmp, L3, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, Packet, Ports, TRANSPORT_QUOTED,
    header,
};
use crate::{Outcome, conn, counter, forward, tunnel};

/// Where the checksum stands in the TCP, UDP and ICMP headers; more than 8 octets need not be quoted.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
const ICMP_CHECKSUM: usize = 2;

/// Sends an ICMP error on to who sent the packet that it quotes; `l4` is where the ICMP header stands.
#[inline(never)]
pub(super) fn translate(ctx: &XdpContext, packet: &Packet<V6>, l4: usize) -> Reason {
    let (Ok(reason) | Err(reason)) = pass_on(ctx, packet, l4 & 0xff);
    reason
}

#[inline(always)]
fn pass_on(ctx: &XdpContext, packet: &Packet<V6>, l4: usize) -> Outcome {
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
    let hop = forward::hop::<V6>(entry.nexthop)?;
    let mut change = inside(ctx, packet, &key, entry, inner_l3, inner_l4)?;
    // What comes from the other end itself comes from its other name; a router on the way keeps its own.
    let src_be = if packet.key.src_be == key.src_be { entry.new_src_be } else { packet.key.src_be };
    change += V6::replace(packet.key.src_be, src_be) + V6::replace(packet.key.dst_be, entry.new_dst_be);
    let icmp = header::<Icmp>(ctx, l4)?;
    // SAFETY: `header` checked the bounds.
    unsafe { (*icmp).checksum_be = checksum::apply((*icmp).checksum_be, checksum::fold(change)) };
    V6::rewrite(ctx, src_be, entry.new_dst_be, 0, 0)?;
    let sent = forward::send(ctx, hop, Reason::ForwardedIcmp)?;
    counter::packet(entry, packet.length);
    Ok(sent)
}

/// Key of the direction that the quoted packet's answers take, and where its transport header stands.
#[inline(always)]
fn quoted(ctx: &XdpContext, packet: &Packet<V6>, inner_l3: usize) -> Result<(FlowKey<V6>, usize), Reason> {
    let ip = header::<Ipv6>(ctx, inner_l3)?;
    // SAFETY: `header` checked the bounds.
    let (version, next, src_be, dst_be) =
        unsafe { (u32::from_be((*ip).version_be) >> 28, (*ip).next, (*ip).src_be, (*ip).dst_be) };
    let mut walk = Walk { l4: inner_l3 + size_of::<Ipv6>(), proto: next, fragment_be: 0, id_be: 0 };
    let walked = ip_header::walk_extensions(ctx, &mut walk);
    let inner_l4 = walk.l4 & 0x1ff;
    if version != 6
        || walked != ip_header::WALKED
        || (packet.total as usize + L3) < inner_l4 + TRANSPORT_QUOTED
    {
        return Err(Reason::DropMalformed);
    }
    // Of later fragments nothing tells the connection.
    if u16::from_be(walk.fragment_be) & FRAGMENT_OFFSET != 0 {
        return Err(Reason::DropIcmp);
    }
    let (sport_be, dport_be) = match walk.proto {
        PROTO_ICMPV6 => {
            let echo = header::<Echo>(ctx, inner_l4)?;
            // SAFETY: `header` checked the bounds.
            let (kind, id_be) = unsafe { ((*echo).kind, (*echo).id_be) };
            if kind != V6::ECHO_REQUEST && kind != V6::ECHO_REPLY {
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
        proto: walk.proto,
        pad: 0,
    };
    Ok((key, inner_l4))
}

/// Gives the quoted packet the addresses and ports that its sender gave it, by the `entry` that stands under `key`.
/// Returns the partial sum of all that changed, for the ICMP checksum.
#[inline(always)]
fn inside(
    ctx: &XdpContext,
    packet: &Packet<V6>,
    key: &FlowKey<V6>,
    entry: &FlowEntry<V6>,
    inner_l3: usize,
    inner_l4: usize,
) -> Result<u32, Reason> {
    let ip = header::<Ipv6>(ctx, inner_l3)?;
    let mut change = V6::replace(key.dst_be, entry.new_dst_be) + V6::replace(key.src_be, entry.new_src_be);
    // SAFETY: `header` checked the bounds.
    unsafe {
        (*ip).src_be = entry.new_dst_be;
        (*ip).dst_be = entry.new_src_be;
    }
    let place = match key.proto {
        PROTO_TCP => TCP_CHECKSUM,
        PROTO_UDP => UDP_CHECKSUM,
        PROTO_ICMPV6 => ICMP_CHECKSUM,
        _ => return Ok(change),
    };
    if key.proto != PROTO_ICMPV6 {
        let ports = header::<Ports>(ctx, inner_l4)?;
        // SAFETY: `header` checked the bounds.
        unsafe {
            (*ports).sport_be = entry.new_dport_be;
            (*ports).dport_be = entry.new_sport_be;
        }
        change += checksum::replace16(key.dport_be, entry.new_dport_be)
            + checksum::replace16(key.sport_be, entry.new_sport_be);
    }
    if packet.total as usize + L3 < inner_l4 + place + size_of::<u16>() {
        return Ok(change);
    }
    let sum = header::<u16>(ctx, inner_l4 + place)?;
    // SAFETY: `header` checked the bounds; headers stand at even offsets.
    unsafe {
        let old_be = *sum;
        let new_be = if key.proto == PROTO_UDP {
            checksum::apply_udp(old_be, entry.l4_delta)
        } else {
            checksum::apply(old_be, entry.l4_delta)
        };
        *sum = new_be;
        change += checksum::replace16(old_be, new_be);
    }
    Ok(change)
}
