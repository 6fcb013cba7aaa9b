//! ICMPv6 errors of this node's own: a packet that cannot go on is turned into the error about itself (RFC 4443).
//!
//! The quote is the IPv6 header, its extension headers and eight octets of what follows. Errors come from the alias of the
//! VLAN that the packet came in on, or from the node's own address there.

use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use csm_common::address::{Address as _, V6};
use csm_common::checksum;
use csm_common::counter::Reason;
use csm_common::limits::Budget;

use super::{Ipv6, QUOTE_MAX};
use crate::packet::{self, ETHERTYPE_IPV6, Ethernet, L3, PROTO_ICMPV6, Packet, TRANSPORT_QUOTED, header};
use crate::{Outcome, budget, echo, forward, maps};

const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;

/// An error before its quote.
#[repr(C, packed(2))]
struct Error {
    kind: u8,
    code: u8,
    checksum_be: u16,
    /// "Packet too big"; else 0.
    mtu_be: u32,
}

/// What is put before the quote.
const HEADERS: usize = size_of::<Ipv6>() + size_of::<Error>();
const _: () = assert!(QUOTE_MAX >= 256 - L3 + TRANSPORT_QUOTED);

/// The hop limit ran out.
#[inline(never)]
pub(crate) fn time_exceeded(ctx: &XdpContext, packet: &Packet<V6>, l4: usize) -> Reason {
    match send(ctx, packet, l4 & 0xff, TIME_EXCEEDED, 0) {
        Ok(Reason::ToRouter) => Reason::ToRouter,
        Ok(_) => Reason::TimeExceeded,
        Err(_) => Reason::DropTtl,
    }
}

/// Longer than `mtu`.
#[inline(never)]
pub(crate) fn too_big(ctx: &XdpContext, packet: &Packet<V6>, l4: usize, mtu: u16) -> Reason {
    match send(ctx, packet, l4 & 0xff, PACKET_TOO_BIG, mtu) {
        Ok(Reason::ToRouter) => Reason::ToRouter,
        Ok(_) => Reason::TooBig,
        Err(_) => Reason::DropTooBig,
    }
}

/// Sends the error back; on refusal the frame is to be dropped, whatever it looks like by then.
#[inline(always)]
fn send(ctx: &XdpContext, packet: &Packet<V6>, l4: usize, kind: u8, mtu: u16) -> Outcome {
    let key = &packet.key;
    let source_be = *maps::ERROR_SOURCES6.get(u32::from(packet.ingress.vlan)).ok_or(Reason::DropInternal)?;
    if source_be == V6::UNSPECIFIED || !key.src_be.is_host() || !key.dst_be.is_host() {
        return Err(Reason::DropNoRoute);
    }
    if packet.total as usize + L3 < l4 + TRANSPORT_QUOTED || !budget::take(Budget::IcmpError, packet.now_ns) {
        return Err(Reason::DropNoRoute);
    }
    let sender = forward::source(ctx)?;
    let quote = l4 + TRANSPORT_QUOTED - L3;
    make_room(ctx, packet, quote)?;
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    unsafe { (*ethernet).kind_be = ETHERTYPE_IPV6 };
    write(ctx, source_be, key.src_be, kind, mtu, quote)?;
    forward::turn_back(ctx, &packet.ingress, key.src_be, sender, Reason::TimeExceeded)
}

/// Leaves of the frame what is quoted, behind room for the headers.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "lengths of a frame")]
fn make_room(ctx: &XdpContext, packet: &Packet<V6>, quote: usize) -> Result<(), Reason> {
    let surplus = packet.length as i32 - (L3 + quote) as i32;
    // SAFETY: the program's own context; all pointers into the frame are fetched anew afterwards.
    let done = unsafe {
        bpf_xdp_adjust_tail(ctx.ctx, -surplus) == 0 && bpf_xdp_adjust_head(ctx.ctx, -(HEADERS as i32)) == 0
    };
    if done { Ok(()) } else { Err(Reason::DropInternal) }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "below 512")]
fn write(ctx: &XdpContext, src_be: V6, dst_be: V6, kind: u8, mtu: u16, quote: usize) -> Result<(), Reason> {
    let payload = (size_of::<Error>() + quote) as u16;
    let room = maps::QUOTE6.get_ptr_mut(0).ok_or(Reason::DropInternal)?.cast::<u32>();
    for index in 0..QUOTE_MAX / 4 {
        // What is not quoted is zero and changes no sum. SAFETY: this CPU's element, and within it.
        unsafe { room.add(index).write_volatile(0) };
    }
    // SAFETY: the room is as long as said.
    if !unsafe { packet::load(ctx, L3 + HEADERS, room.cast(), quote as u32, QUOTE_MAX as u32) } {
        return Err(Reason::DropInternal);
    }
    // SAFETY: as above.
    let quoted = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, room, QUOTE_MAX as u32, 0) };
    let sum = src_be.sum()
        + dst_be.sum()
        + u32::from(payload.to_be())
        + u32::from(u16::from(PROTO_ICMPV6).to_be())
        + u32::from(u16::from_ne_bytes([kind, 0]))
        + u32::from(mtu.to_be())
        + u32::from(checksum::fold(quoted as u32));
    super::write(ctx, src_be, dst_be, PROTO_ICMPV6, payload, echo::TTL)?;
    let error = header::<Error>(ctx, L3 + size_of::<Ipv6>())?;
    // SAFETY: `header` checked the bounds.
    unsafe {
        *error = Error { kind, code: 0, checksum_be: !checksum::fold(sum), mtu_be: u32::from(mtu).to_be() };
    }
    Ok(())
}
