//! Address translation of one packet, by the deltas computed when its connection was made.

use aya_ebpf::programs::XdpContext;
use csm_common::checksum;
use csm_common::counter::Reason;
use csm_common::flow::FlowEntry;

use crate::family::Family;
use crate::packet::{Icmp, Ipv4, L3, PROTO_TCP, PROTO_UDP, Tcp, Udp, header};

/// Partial sum for a TTL that falls by one: it is the low octet of its word in memory (RFC 1624 on either byte order).
const TTL_DELTA: u32 = checksum::replace16(u16::from_ne_bytes([1, 0]), 0);

/// Rewrites addresses, TTL and the checksum over them.
#[inline(always)]
pub(crate) fn addresses(ctx: &XdpContext, src_be: u32, dst_be: u32, ip_delta: u16) -> Result<(), Reason> {
    let ip = header::<Ipv4>(ctx, L3)?;
    let ip_delta = checksum::fold(u32::from(ip_delta) + TTL_DELTA);
    // SAFETY: `header` checked the bounds.
    unsafe {
        (*ip).src_be = src_be;
        (*ip).dst_be = dst_be;
        (*ip).ttl -= 1;
        (*ip).checksum_be = checksum::apply((*ip).checksum_be, ip_delta);
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
    A::rewrite(ctx, entry.new_src_be, entry.new_dst_be, entry.ip_delta)?;
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
