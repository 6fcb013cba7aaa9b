//! ICMP echo to an alias or virtual address is answered here: the kernel does not own them.

use aya_ebpf::programs::XdpContext;
use csm_common::checksum;
use csm_common::counter::Reason;

use crate::family::Family;
use crate::packet::{self, Echo, Ingress, Ipv4, L3, PROTO_ICMP, Packet};
use crate::{Outcome, conn, forward, fragment};

/// TTL of an answer (RFC 1700's default).
pub(crate) const TTL: u8 = 64;

/// Whether it is an echo request to one of the group's addresses.
#[inline(always)]
pub(crate) fn is_for_us<A: Family>(packet: &Packet<A>) -> bool {
    packet.icmp == A::ECHO_REQUEST && conn::is_ours(packet.key.dst_be, packet.ingress.vlan)
}

/// Answers an echo request; `l4` is where the ICMP header stands.
#[inline(never)]
pub(crate) fn reply<A: Family>(ctx: &XdpContext, packet: &Packet<A>, l4: usize) -> Reason {
    let (Ok(reason) | Err(reason)) = answer(ctx, packet, l4);
    if packet.has_more() {
        let answered = matches!(reason, Reason::ToRouter);
        fragment::went_on(packet, l4, if answered { Reason::EchoReplied } else { reason });
    }
    reason
}

#[inline(always)]
fn answer<A: Family>(ctx: &XdpContext, packet: &Packet<A>, l4: usize) -> Outcome {
    let echo = packet::header::<Echo>(ctx, l4)?;
    let type_word = |kind| u16::from_ne_bytes([kind, 0]);
    let type_delta =
        checksum::fold(checksum::replace16(type_word(A::ECHO_REQUEST), type_word(A::ECHO_REPLY)));
    // SAFETY: `header` checked the bounds.
    unsafe {
        (*echo).kind = A::ECHO_REPLY;
        (*echo).checksum_be = checksum::apply((*echo).checksum_be, type_delta);
    }
    A::turn_around(ctx, &packet.ingress)
}

/// Sends an IPv4 packet back as an answer. Swapping the addresses changes no checksum.
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
