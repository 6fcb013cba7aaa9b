//! Packets off the straight path: with IP options, and fragments. The same walk, with headers looked for.

use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;

use crate::packet::{self, FRAGMENT_OFFSET, Ipv4, L3, MORE_FRAGMENTS, PROTO_ICMP, Packet, header};
use crate::{Outcome, conn, echo, fragment, icmp, options};

/// Walks a packet that is not plain. The caller lends the room for what is known of it: the stack is shared.
#[inline(never)]
pub(crate) fn walk(ctx: &XdpContext, packet: &mut Packet) -> Reason {
    let (Ok(reason) | Err(reason)) = take(ctx, packet);
    reason
}

#[inline(always)]
fn take(ctx: &XdpContext, packet: &mut Packet) -> Outcome {
    options::check(ctx)?;
    // Read again rather than kept: the verifier is to forget what it learnt about single values on the way, else it
    // walks all that follows once for each.
    let l4 = L3 + usize::from(read(ctx)?.0 & 0xf) * 4;
    if read(ctx)?.1 & FRAGMENT_OFFSET != 0 {
        return Ok(fragment::follow(ctx, packet, l4));
    }
    let in_pieces = read(ctx)?.1 & MORE_FRAGMENTS != 0;
    packet::parse(ctx, l4, packet, in_pieces)?;
    if in_pieces && !fragment::is_first(packet, l4) {
        return Err(Reason::DropFragment);
    }
    if packet.is_icmp_error() {
        return Ok(icmp::translate(ctx, packet, l4));
    }
    let reason = if packet.key.proto == PROTO_ICMP && echo::is_for_us(packet) {
        echo::reply(ctx, packet, l4)
    } else {
        conn::forward(ctx, packet, l4)?
    };
    fragment::went_on(ctx, packet, l4, reason);
    Ok(reason)
}

/// Version and length of the IP header, and its fragment word.
#[inline(always)]
fn read(ctx: &XdpContext) -> Result<(u8, u16), Reason> {
    let ip = header::<Ipv4>(ctx, L3)?;
    // SAFETY: `header` checked the bounds.
    unsafe {
        let version_ihl = (&raw const (*ip).version_ihl).read_volatile();
        Ok((version_ihl, u16::from_be((&raw const (*ip).fragment_be).read_volatile())))
    }
}
