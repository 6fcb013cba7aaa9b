//! The IPv6 header and what may stand between it and the transport header (RFC 8200, section 4).

use aya_ebpf::programs::XdpContext;
use csm_common::address::V6;
use csm_common::counter::Reason;

use super::Ipv6;
use crate::packet::{L3, LINK_HEADER, MORE_FRAGMENTS_BE, Packet, header};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Extension headers that are walked. More, or longer ones, are nobody's in good faith (RFC 9098).
const EXTENSIONS_MAX: u32 = 6;
/// The transport header stands before this place.
const L4_MAX: usize = 256;
/// Octets of the IPv6 header.
const HEADER: u32 = 40;
const _: () = assert!(HEADER as usize == size_of::<Ipv6>());

/// What extension headers begin with; of a fragment header all there is.
#[repr(C, packed(2))]
struct Extension {
    next: u8,
    /// In units of 8 octets, without the first 8; a fragment header has 0 here.
    length: u8,
    /// Routing header: type and segments left. Fragment header: offset and flags.
    third_be: u16,
    identification_be: u32,
}

/// What the extension headers say.
pub(super) struct Walk {
    /// Place of the header behind them.
    pub(super) l4: usize,
    /// What that is.
    pub(super) proto: u8,
    /// As in [`Packet`].
    pub(super) fragment_be: u16,
    pub(super) id_be: u32,
}

/// Reads the IP header and those that follow into `packet`, and gives the place of what follows.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "below 256")]
pub(super) fn parse_ip(ctx: &XdpContext, packet: &mut Packet<V6>) -> Result<usize, Reason> {
    let ip = header::<Ipv6>(ctx, L3)?;
    // SAFETY: `header` checked the bounds; no reference into the frame is made.
    let (version, next) = unsafe {
        packet.total = HEADER + u32::from(u16::from_be((*ip).payload_be));
        packet.ttl = (*ip).hop_limit;
        packet.key.src_be = (*ip).src_be;
        packet.key.dst_be = (*ip).dst_be;
        (u32::from_be((*ip).version_be) >> 28, (*ip).next)
    };
    if version != 6 || LINK_HEADER + packet.total > packet.length || packet.key.src_be == packet.key.dst_be {
        return Err(Reason::DropMalformed);
    }
    packet.key.proto = next;
    let l4 = L3 + size_of::<Ipv6>();
    if !is_extension(next) {
        return Ok(l4);
    }
    let mut walk = Walk { l4, proto: next, fragment_be: 0, id_be: 0 };
    let reason = walk_extensions(ctx, &mut walk);
    if reason != WALKED {
        return Err(refusal(reason));
    }
    packet.key.proto = walk.proto;
    packet.fragment_be = walk.fragment_be;
    packet.id_be = walk.id_be;
    let l4 = walk.l4 & (L4_MAX - 1);
    if LINK_HEADER + packet.total < l4 as u32 {
        return Err(Reason::DropMalformed);
    }
    Ok(l4)
}

/// Place and protocol of the transport header of the packet whose IP header stands at `l3`; `None`: what is there is none, or of a
/// later fragment.
#[inline(always)]
pub(crate) fn transport(ctx: &XdpContext, l3: usize) -> Option<(usize, u8)> {
    let ip = header::<Ipv6>(ctx, l3).ok()?;
    // SAFETY: `header` checked the bounds.
    let proto = unsafe { (*ip).next };
    let mut walk = Walk { l4: l3 + size_of::<Ipv6>(), proto, fragment_be: 0, id_be: 0 };
    if is_extension(walk.proto) && walk_extensions(ctx, &mut walk) != WALKED {
        return None;
    }
    let first = walk.fragment_be & !MORE_FRAGMENTS_BE == 0;
    first.then_some((walk.l4 & (L4_MAX - 1), walk.proto))
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// How a walk ended: a number, as the compiler hands over no enum in one register.
pub(super) const WALKED: u32 = 0;
const MALFORMED: u32 = 1;
const ROUTED: u32 = 2;
const FRAGMENTED: u32 = 3;

#[inline(always)]
pub(super) const fn refusal(reason: u32) -> Reason {
    match reason {
        ROUTED => Reason::DropSourceRoute,
        FRAGMENTED => Reason::DropFragment,
        _ => Reason::DropMalformed,
    }
}

/// Goes through the extension headers, up to a later fragment's content: what is there is no header.
///
/// A route that the sender prescribes is refused (type 0: RFC 5095), one that is through is none any more.
#[inline(never)]
pub(super) fn walk_extensions(ctx: &XdpContext, walk: &mut Walk) -> u32 {
    let mut at = walk.l4;
    let mut next = walk.proto;
    let mut first = true;
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(next) {
            break;
        }
        let Ok(extension) = header::<Extension>(ctx, at) else { return MALFORMED };
        // SAFETY: `header` checked the bounds.
        let (following, length, third, id_be) = unsafe {
            (
                (*extension).next,
                usize::from((*extension).length),
                u16::from_be((*extension).third_be),
                (*extension).identification_be,
            )
        };
        let octets = match next {
            // Directly behind the IP header only.
            HOP_BY_HOP if !first => return MALFORMED,
            ROUTING if third >> 8 == 0 || third & 0xff != 0 => return ROUTED,
            FRAGMENT => {
                walk.id_be = id_be;
                walk.fragment_be = (third >> 3).to_be() | if third & 1 == 0 { 0 } else { MORE_FRAGMENTS_BE };
                8
            }
            _ => (length + 1) * 8,
        };
        at += octets;
        if at >= L4_MAX {
            return MALFORMED;
        }
        first = false;
        if next == FRAGMENT {
            // More headers in pieces, even behind a whole header, would make places differ from datagram to datagram.
            next = following;
            walk.l4 = at;
            walk.proto = next;
            let whole = walk.fragment_be == 0;
            if whole {
                continue;
            }
            return if is_extension(next) { FRAGMENTED } else { WALKED };
        }
        next = following;
    }
    if is_extension(next) {
        return MALFORMED;
    }
    walk.l4 = at;
    walk.proto = next;
    WALKED
}
