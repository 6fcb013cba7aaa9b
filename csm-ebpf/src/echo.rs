//! ICMP echo to an alias or virtual address is answered here: the kernel does not own them.

use aya_ebpf::programs::XdpContext;
use csm_common::checksum;
use csm_common::counter::Reason;
use csm_common::net::AddressKey;

use crate::packet::{
    self, Echo, Ethernet, ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, Ingress, Ipv4, L3, L4, PROTO_ICMP, Packet,
};
use crate::{forward, maps};

/// TTL of an answer (RFC 1700's default).
const TTL: u8 = 64;

/// Answers an echo request to one of the group's addresses; `None` if the packet is anything else.
#[inline(always)]
pub(crate) fn reply(ctx: &XdpContext, packet: &Packet) -> Result<Option<Reason>, Reason> {
    if packet.key.proto != PROTO_ICMP || packet.icmp != ICMP_ECHO_REQUEST {
        return Ok(None);
    }
    let address = AddressKey { ip_be: packet.key.dst_be, vlan: packet.ingress.vlan, pad: 0 };
    // SAFETY: only presence counts.
    if unsafe { maps::ADDRESSES.get(address) }.is_none() {
        return Ok(None);
    }
    turn_around(ctx, packet)?;
    if packet.ingress.relayed {
        // The asker's MAC address was lost on the way: go by its address.
        let hop = forward::next_hop(packet.key.src_be)?;
        return forward::send(ctx, hop, Reason::EchoReplied).map(Some);
    }
    let settings = maps::SETTINGS.get(0).ok_or(Reason::DropInternal)?;
    let ethernet = packet::header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    unsafe {
        (*ethernet).dst = (*ethernet).src;
        (*ethernet).src = packet::Mac::of(&settings.virtual_mac);
    }
    let Ingress { port, vlan, tagged, .. } = packet.ingress;
    forward::out(ctx, port, if tagged { vlan } else { 0 }, Reason::EchoReplied).map(Some)
}

/// Makes the reply out of the request. Swapping the addresses changes no checksum.
#[inline(always)]
fn turn_around(ctx: &XdpContext, packet: &Packet) -> Result<(), Reason> {
    let ip = packet::header::<Ipv4>(ctx, L3)?;
    let echo = packet::header::<Echo>(ctx, L4)?;
    let ttl_word = |ttl| u16::from_ne_bytes([ttl, PROTO_ICMP]);
    let type_word = |kind| u16::from_ne_bytes([kind, 0]);
    let ttl_delta = checksum::fold(checksum::replace16(ttl_word(packet.ttl), ttl_word(TTL)));
    let type_delta =
        checksum::fold(checksum::replace16(type_word(ICMP_ECHO_REQUEST), type_word(ICMP_ECHO_REPLY)));
    // SAFETY: `header` checked the bounds of both.
    unsafe {
        (*ip).src_be = packet.key.dst_be;
        (*ip).dst_be = packet.key.src_be;
        (*ip).ttl = TTL;
        (*ip).checksum_be = checksum::apply((*ip).checksum_be, ttl_delta);
        (*echo).kind = ICMP_ECHO_REPLY;
        (*echo).checksum_be = checksum::apply((*echo).checksum_be, type_delta);
    }
    Ok(())
}
