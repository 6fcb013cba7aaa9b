//! Address translation of one packet, by the deltas computed when its connection was made.

use aya_ebpf::programs::XdpContext;
use csm_common::address::Address as _;
use csm_common::checksum;
use csm_common::counter::Reason;
use csm_common::flow::{FlowEntry, marked};

use crate::echo;
use crate::family::Family;
use crate::packet::{Icmp, Ipv4, L3, PROTO_TCP, PROTO_UDP, Tcp, Udp, VERSION_IHL, header};

const DONT_FRAGMENT_BE: u16 = 0x4000_u16.to_be();
/// Partial sum for a TTL that falls by one: it is the low octet of its word in memory (RFC 1624 on either byte order).
pub(crate) const TTL_DELTA: u32 = checksum::replace16(u16::from_ne_bytes([1, 0]), 0);

/// Rewrites addresses, TTL, by `mark` the DSCP, and the checksum over them.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "an octet, of a mark that is 16 bits long")]
pub(crate) fn addresses(
    ctx: &XdpContext,
    src_be: u32,
    dst_be: u32,
    ip_delta: u16,
    mark: u32,
) -> Result<(), Reason> {
    let ip = header::<Ipv4>(ctx, L3)?;
    // SAFETY: `header` checked the bounds. Without a branch: each would be walked to the end of the program.
    unsafe {
        let tos = (*ip).tos;
        let new_tos = marked(mark, u32::from(tos)) as u8;
        let word = |tos| u16::from_ne_bytes([VERSION_IHL, tos]);
        (*ip).tos = new_tos;
        let sum = u32::from(ip_delta) + TTL_DELTA + checksum::replace16(word(tos), word(new_tos));
        let ip_delta = checksum::fold(sum);
        (*ip).src_be = src_be;
        (*ip).dst_be = dst_be;
        (*ip).ttl -= 1;
        (*ip).checksum_be = checksum::apply((*ip).checksum_be, ip_delta);
    }
    Ok(())
}

/// Writes a header of its own, with so many octets to follow.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "20")]
pub(crate) fn write(
    ctx: &XdpContext,
    src_be: u32,
    dst_be: u32,
    proto: u8,
    payload: u16,
) -> Result<(), Reason> {
    let ip = header::<Ipv4>(ctx, L3)?;
    let total_length_be = (size_of::<Ipv4>() as u16 + payload).to_be();
    let sum = src_be.sum()
        + dst_be.sum()
        + u32::from(u16::from_ne_bytes([VERSION_IHL, 0]))
        + u32::from(total_length_be)
        + u32::from(DONT_FRAGMENT_BE)
        + u32::from(u16::from_ne_bytes([echo::TTL, proto]));
    // SAFETY: `header` checked the bounds.
    unsafe {
        *ip = Ipv4 {
            version_ihl: VERSION_IHL,
            tos: 0,
            total_length_be,
            id_be: 0,
            fragment_be: DONT_FRAGMENT_BE,
            ttl: echo::TTL,
            proto,
            checksum_be: !checksum::fold(sum),
            src_be,
            dst_be,
        };
    }
    Ok(())
}

/// Rewrites addresses, ports, TTL and checksums; `l4` is where the transport header stands.
#[inline(always)]
pub(crate) fn apply<A: Family>(
    ctx: &XdpContext,
    l4: usize,
    proto: u8,
    entry: &FlowEntry<A>,
) -> Result<(), Reason> {
    A::rewrite(ctx, entry.new_src_be, entry.new_dst_be, entry.ip_delta, u32::from(entry.mark))?;
    match proto {
        PROTO_TCP => {
            let tcp = header::<Tcp>(ctx, l4)?;
            // SAFETY: as above.
            unsafe {
                (*tcp).sport_be = entry.new_sport_be;
                (*tcp).dport_be = entry.new_dport_be;
                (*tcp).checksum_be = checksum::apply((*tcp).checksum_be, entry.l4_delta);
            }
        }
        PROTO_UDP => {
            let udp = header::<Udp>(ctx, l4)?;
            // SAFETY: as above.
            unsafe {
                (*udp).sport_be = entry.new_sport_be;
                (*udp).dport_be = entry.new_dport_be;
                (*udp).checksum_be = checksum::apply_udp((*udp).checksum_be, entry.l4_delta);
            }
        }
        // Of an echo only the checksum may be concerned: its identifier is not translated.
        _ if A::ICMP_COVERS_ADDRESSES && proto == A::ICMP => {
            let icmp = header::<Icmp>(ctx, l4)?;
            // SAFETY: as above.
            unsafe { (*icmp).checksum_be = checksum::apply((*icmp).checksum_be, entry.l4_delta) };
        }
        _ => {}
    }
    Ok(())
}

/// The TTL falls by one.
#[inline(always)]
pub(crate) fn age(ctx: &XdpContext) -> Result<(), Reason> {
    let ip = header::<Ipv4>(ctx, L3)?;
    let word = |ttl| u16::from_ne_bytes([ttl, 0]);
    // SAFETY: `header` checked the bounds.
    unsafe {
        (*ip).ttl -= 1;
        (*ip).checksum_be =
            checksum::apply((*ip).checksum_be, checksum::fold(checksum::replace16(word(1), word(0))));
    }
    Ok(())
}
