//! Reals that are routed away: the packet as it is, addressed to the virtual server, leaves in another one that is
//! addressed to the real, IP in IP (RFC 2003, RFC 2473) or GUE of variant 1 (the packet right behind a UDP header).
//!
//! A next hop says so, so that whatever goes to one is wrapped: packets, their fragments, and ICMP errors about them.

use aya_ebpf::helpers::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;
use csm_common::event::EVENT_NARROW;
use csm_common::flow::FlowKey;
use csm_common::hash;
use csm_common::net::NextHop;

use crate::family::Family;
use crate::packet::{Ethernet, Icmp, Ipv4, L3, Mac, PROTO_UDP, Packet, Udp, header};
use crate::{Outcome, conn, event};

const UDP: usize = size_of::<Udp>();
/// Source ports are of the ephemeral range: they tell flows apart for whoever shares load out on the way (RFC 7605).
const SOURCE_PORTS: u16 = 0xc000;

/// Puts the packet into one to the real that `hop` leads to. The Ethernet header is not written but for its type.
// Whatever is needed after the frame's start has moved is read anew: the stack has no room for it.
#[inline(never)]
pub(crate) fn wrap<A: Family>(ctx: &XdpContext, hop: &NextHop<A>) -> Result<(), Reason> {
    let tunnel = A::tunnels().get(u32::from(hop.tunnel)).ok_or(Reason::DropInternal)?;
    if tunnel.port_be == 0 {
        room(ctx, A::HEADER)?;
        let octets = A::octets(ctx, L3 + A::HEADER)?;
        A::write_outer(ctx, tunnel, A::ENCAPSULATED, octets)?;
    } else {
        room(ctx, A::HEADER + UDP)?;
        let octets = A::octets(ctx, L3 + A::HEADER + UDP)?.wrapping_add(8);
        A::write_outer(ctx, tunnel, PROTO_UDP, octets)?;
        let hash = A::spread(ctx, L3 + A::HEADER + UDP)?;
        let udp = header::<Udp>(ctx, L3 + A::HEADER)?;
        // Without a checksum: what is inside has its own (RFC 6935). SAFETY: `header` checked the bounds.
        unsafe {
            (*udp).sport_be = (hash | SOURCE_PORTS).to_be();
            (*udp).dport_be = tunnel.port_be;
            (*udp).length_be = octets.to_be();
            (*udp).checksum_be = 0;
        }
    }
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: as above.
    unsafe { (*ethernet).kind_be = A::ETHERTYPE };
    Ok(())
}

/// What becomes of an ICMP error that quotes no connection's packet; `key` is the quoted one's turned around, `l4` where the ICMP
/// header stands. "Too big" about a packet of a tunnel is told to the controller, which then lets shorter ones in.
#[inline(always)]
pub(crate) fn narrow<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    key: &FlowKey<A>,
    l4: usize,
) -> Outcome {
    if key.proto != A::ENCAPSULATED && key.proto != PROTO_UDP {
        return Err(Reason::DropIcmp);
    }
    let icmp = header::<Icmp>(ctx, l4)?;
    // SAFETY: `header` checked the bounds.
    let (kind, code, high_be, mtu_be) =
        unsafe { ((*icmp).kind, (*icmp).code, (*icmp).unused_be, (*icmp).mtu_be) };
    let vlan = packet.ingress.vlan;
    if kind != A::TOO_BIG.0 || code != A::TOO_BIG.1 || high_be != 0 || !conn::is_ours(key.dst_be, vlan) {
        return Err(Reason::DropIcmp);
    }
    let [high, low] = mtu_be.to_ne_bytes();
    event::hint(EVENT_NARROW, key.src_be, vlan, Mac::of(&[0, 0, 0, 0, high, low]));
    Err(Reason::DropNarrow)
}

/// Moves the frame's start outwards.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "below 64")]
fn room(ctx: &XdpContext, octets: usize) -> Result<(), Reason> {
    // SAFETY: the program's own context; pointers into the frame are made anew after this.
    let moved = unsafe { bpf_xdp_adjust_head(ctx.ctx, -(octets as i32)) };
    if moved == 0 { Ok(()) } else { Err(Reason::DropInternal) }
}

/// See [`Family::octets`].
#[inline(always)]
pub(crate) fn octets(ctx: &XdpContext, at: usize) -> Result<u16, Reason> {
    let ip = header::<Ipv4>(ctx, at)?;
    // SAFETY: `header` checked the bounds.
    Ok(u16::from_be(unsafe { (*ip).total_length_be }))
}

/// See [`Family::spread`].
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "16 bits of a hash")]
pub(crate) fn spread(ctx: &XdpContext, at: usize) -> Result<u16, Reason> {
    let ip = header::<Ipv4>(ctx, at)?;
    // SAFETY: `header` checked the bounds.
    Ok(hash::mix(unsafe { (*ip).src_be }) as u16)
}
