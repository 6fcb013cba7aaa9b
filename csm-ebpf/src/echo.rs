//! ICMP echo to an alias or virtual address is answered here: the kernel does not own them.

use aya_ebpf::programs::XdpContext;
use csm_common::checksum;
use csm_common::counter::Reason;
use csm_common::net::AddressKey;

use crate::packet::{self, Echo, ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, Ingress, Ipv4, L3, PROTO_ICMP, Packet};
use crate::{Outcome, forward, fragment, maps};

/// TTL of an answer (RFC 1700's default).
const TTL: u8 = 64;

/// Whether it is an echo request to one of the group's addresses.
#[inline(always)]
pub(crate) fn is_for_us(packet: &Packet) -> bool {
    let address = AddressKey { ip_be: packet.key.dst_be, vlan: packet.ingress.vlan, pad: 0 };
    // SAFETY: only presence counts.
    packet.icmp == ICMP_ECHO_REQUEST && unsafe { maps::ADDRESSES.get(address) }.is_some()
}

/// Answers an echo request; `l4` is where the ICMP header stands.
#[inline(never)]
pub(crate) fn reply(ctx: &XdpContext, packet: &Packet, l4: usize) -> Reason {
    let (Ok(reason) | Err(reason)) = answer(ctx, packet, l4);
    if packet.has_more() {
        fragment::went_on(packet, l4, reason);
    }
    reason
}

#[inline(always)]
fn answer(ctx: &XdpContext, packet: &Packet, l4: usize) -> Outcome {
    let echo = packet::header::<Echo>(ctx, l4)?;
    let type_word = |kind| u16::from_ne_bytes([kind, 0]);
    let type_delta =
        checksum::fold(checksum::replace16(type_word(ICMP_ECHO_REQUEST), type_word(ICMP_ECHO_REPLY)));
    // SAFETY: `header` checked the bounds.
    unsafe {
        (*echo).kind = ICMP_ECHO_REPLY;
        (*echo).checksum_be = checksum::apply((*echo).checksum_be, type_delta);
    }
    turn_around(ctx, &packet.ingress)
}

/// Sends an IP packet back as an answer. Swapping the addresses changes no checksum.
#[inline(always)]
pub(crate) fn turn_around(ctx: &XdpContext, ingress: &Ingress) -> Outcome {
    let ip = packet::header::<Ipv4>(ctx, L3)?;
    let ttl_word = |ttl| u16::from_ne_bytes([ttl, PROTO_ICMP]);
    // SAFETY: `header` checked the bounds.
    let asker_be = unsafe {
        let asker_be = (*ip).src_be;
        let ttl_delta = checksum::fold(checksum::replace16(ttl_word((*ip).ttl), ttl_word(TTL)));
        (*ip).src_be = (*ip).dst_be;
        (*ip).dst_be = asker_be;
        (*ip).ttl = TTL;
        (*ip).checksum_be = checksum::apply((*ip).checksum_be, ttl_delta);
        asker_be
    };
    forward::turn_back(ctx, ingress, asker_be, forward::source(ctx)?, Reason::EchoReplied)
}
