//! ICMP errors of this node's own: a packet that cannot go on is turned into the error about itself (RFC 792, RFC 1812).
//!
//! The quote is the IP header and eight octets of what follows: its tail is cut off, and two headers are put before it.
//! Errors come from the alias of the VLAN that the packet came in on, or from the node's own address there.

use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use csm_common::checksum;
use csm_common::counter::Reason;
use csm_common::limits::Budget;

use crate::family::Family as _;
use crate::packet::{
    self, ETHERTYPE_IPV4, Ethernet, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE, Icmp, Ipv4, L3, L4, PROTO_ICMP,
    Packet, TRANSPORT_QUOTED, VERSION_IHL, header,
};
use crate::{Outcome, budget, forward, maps};

/// Unreachable: fragmentation needed and "do not fragment" set.
const CODE_FRAG_NEEDED: u8 = 4;
const DONT_FRAGMENT_BE: u16 = 0x4000_u16.to_be();
/// Internetwork control (RFC 1812, section 4.3.2.5).
const TOS: u8 = 0xc0;
const TTL: u8 = 64;
/// What is put before the quote.
const HEADERS: usize = size_of::<Ipv4>() + size_of::<Icmp>();
/// Octets of the longest quote: an IP header of 60 octets and what follows.
const QUOTE_MAX: usize = 60 + TRANSPORT_QUOTED;

/// The TTL ran out.
#[inline(never)]
pub(crate) fn time_exceeded(ctx: &XdpContext, packet: &Packet, l4: usize) -> Reason {
    match send(ctx, packet, l4, ICMP_TIME_EXCEEDED, 0) {
        Ok(Reason::ToRouter) => Reason::ToRouter,
        Ok(_) => Reason::TimeExceeded,
        Err(_) => Reason::DropTtl,
    }
}

/// Longer than `mtu`.
#[inline(never)]
pub(crate) fn too_big(ctx: &XdpContext, packet: &Packet, l4: usize, mtu: u16) -> Reason {
    let Ok(ip) = header::<Ipv4>(ctx, L3) else { return Reason::DropMalformed };
    // SAFETY: `header` checked the bounds.
    if unsafe { (*ip).fragment_be } & DONT_FRAGMENT_BE == 0 {
        return Reason::DropTooBig;
    }
    match send(ctx, packet, l4, ICMP_UNREACHABLE, mtu) {
        Ok(Reason::ToRouter) => Reason::ToRouter,
        Ok(_) => Reason::TooBig,
        Err(_) => Reason::DropTooBig,
    }
}

/// Sends the error back; on refusal the frame is to be dropped, whatever it looks like by then.
#[inline(always)]
fn send(ctx: &XdpContext, packet: &Packet, l4: usize, kind: u8, mtu: u16) -> Outcome {
    let key = &packet.key;
    let source_be = *maps::ERROR_SOURCES.get(u32::from(packet.ingress.vlan)).ok_or(Reason::DropInternal)?;
    if source_be == 0 || !key.src_be.is_host() || !key.dst_be.is_host() {
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
    unsafe { (*ethernet).kind_be = ETHERTYPE_IPV4 };
    write_ip(ctx, source_be, key.src_be, quote)?;
    write_icmp(ctx, kind, mtu, quote)?;
    forward::turn_back(ctx, &packet.ingress, key.src_be, sender, Reason::TimeExceeded)
}

/// Leaves of the frame what is quoted, behind room for the headers.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "lengths of a frame")]
fn make_room(ctx: &XdpContext, packet: &Packet, quote: usize) -> Result<(), Reason> {
    let surplus = packet.length as i32 - (L3 + quote) as i32;
    // SAFETY: the program's own context; all pointers into the frame are fetched anew afterwards.
    let done = unsafe {
        bpf_xdp_adjust_tail(ctx.ctx, -surplus) == 0 && bpf_xdp_adjust_head(ctx.ctx, -(HEADERS as i32)) == 0
    };
    if done { Ok(()) } else { Err(Reason::DropInternal) }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most 96")]
fn write_ip(ctx: &XdpContext, src_be: u32, dst_be: u32, quote: usize) -> Result<(), Reason> {
    let ip = header::<Ipv4>(ctx, L3)?;
    let total_length_be = ((HEADERS + quote) as u16).to_be();
    let sum = u32::from(u16::from_ne_bytes([VERSION_IHL, TOS]))
        + u32::from(total_length_be)
        + u32::from(DONT_FRAGMENT_BE)
        + u32::from(u16::from_ne_bytes([TTL, PROTO_ICMP]))
        + checksum::replace32(u32::MAX, src_be)
        + checksum::replace32(u32::MAX, dst_be);
    // SAFETY: `header` checked the bounds.
    unsafe {
        *ip = Ipv4 {
            version_ihl: VERSION_IHL,
            tos: TOS,
            total_length_be,
            id_be: 0,
            fragment_be: DONT_FRAGMENT_BE,
            ttl: TTL,
            proto: PROTO_ICMP,
            checksum_be: !checksum::fold(sum),
            src_be,
            dst_be,
        };
    }
    Ok(())
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most 68")]
fn write_icmp(ctx: &XdpContext, kind: u8, mtu: u16, quote: usize) -> Result<(), Reason> {
    let code = if kind == ICMP_UNREACHABLE { CODE_FRAG_NEEDED } else { 0 };
    // What is not quoted is zero and changes no sum.
    let mut quoted = [0_u32; QUOTE_MAX / 4];
    // SAFETY: the buffer has that room.
    let read = unsafe {
        let at = L4 + size_of::<Icmp>();
        packet::load(ctx, at, quoted.as_mut_ptr().cast(), quote as u32, QUOTE_MAX as u32)
    };
    if !read {
        return Err(Reason::DropInternal);
    }
    // SAFETY: the buffer is as long as said.
    let quoted_sum =
        unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, quoted.as_mut_ptr(), QUOTE_MAX as u32, 0) };
    let sum = u32::from(u16::from_ne_bytes([kind, code]))
        + u32::from(mtu.to_be())
        + u32::from(checksum::fold(quoted_sum as u32));
    let icmp = header::<Icmp>(ctx, L4)?;
    // SAFETY: `header` checked the bounds.
    unsafe {
        *icmp = Icmp { kind, code, checksum_be: !checksum::fold(sum), unused_be: 0, mtu_be: mtu.to_be() };
    }
    Ok(())
}
