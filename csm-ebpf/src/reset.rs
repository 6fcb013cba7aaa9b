//! A connection that was cleared by hand ([`STATE_CLEARED`]): each segment is answered with a reset made of that very
//! segment, as a kernel answers one for a port that nobody listens on (RFC 9293, section 3.10.7.1). So its sequence number
//! is the one that the segment's sender expects next, which no entry holds.

use aya_ebpf::helpers::generated::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use csm_common::checksum;
use csm_common::counter::Reason;
use csm_common::flow::{FLAG_RESET, FlowEntry, STATE_CLEARED};

use crate::family::Family;
use crate::packet::{L3, PROTO_TCP, Packet, TCP_ACK, TCP_RST, Tcp, header};
use crate::{Outcome, forward};

/// Five words.
const DATA_OFFSET: u8 = 0x50;
/// Octets of the TCP header.
const TCP_LEN: u16 = 20;
const _: () = assert!(TCP_LEN as usize == size_of::<Tcp>());

/// What becomes of a packet whose entry has no way out for `reason`: a reset in its place, if the connection was cleared.
#[inline(never)]
pub(crate) fn instead<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    entry: &mut FlowEntry<A>,
    reason: Reason,
) -> Reason {
    if entry.state != STATE_CLEARED {
        return reason;
    }
    // Late segments count: as long as they come, they are answered.
    entry.last_seen_ns = packet.now_ns;
    let resets = packet.flags & TCP_RST != 0;
    if packet.key.proto != PROTO_TCP || resets || packet.flags & TCP_ACK == 0 {
        if resets {
            entry.flags |= FLAG_RESET;
        }
        return Reason::DropCleared;
    }
    entry.flags |= FLAG_RESET;
    let (Ok(reason) | Err(reason)) = answer(ctx, packet);
    reason
}

/// Turns the segment into the reset that answers it, and sends that back.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "lengths of a frame")]
fn answer<A: Family>(ctx: &XdpContext, packet: &Packet<A>) -> Outcome {
    let sender = forward::source(ctx)?;
    let surplus = packet.length as i32 - (L3 + A::HEADER + size_of::<Tcp>()) as i32;
    // SAFETY: the program's own context; all pointers into the frame are fetched anew afterwards.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, -surplus) } != 0 {
        return Err(Reason::DropInternal);
    }
    let key = &packet.key;
    A::write(ctx, key.dst_be, key.src_be, PROTO_TCP, TCP_LEN)?;
    let tcp = header::<Tcp>(ctx, L3 + A::HEADER)?;
    let seq_be = packet.ack.to_be();
    let tcp_sum = key.src_be.sum()
        + key.dst_be.sum()
        + u32::from(u16::from_ne_bytes([0, PROTO_TCP]))
        + u32::from(TCP_LEN.to_be())
        + u32::from(key.sport_be)
        + u32::from(key.dport_be)
        + checksum::replace32(u32::MAX, seq_be)
        + u32::from(u16::from_ne_bytes([DATA_OFFSET, TCP_RST]));
    // SAFETY: as above.
    unsafe {
        *tcp = Tcp {
            sport_be: key.dport_be,
            dport_be: key.sport_be,
            seq_be,
            ack_be: 0,
            offset: DATA_OFFSET,
            flags: TCP_RST,
            window_be: 0,
            checksum_be: !checksum::fold(tcp_sum),
            urgent_be: 0,
        };
    }
    forward::turn_back(ctx, &packet.ingress, key.src_be, sender, Reason::ResetSent)
}
