//! IPv6: a program of its own, called from the first one, so that either has its whole stack and is verified alone.
//!
//! Its own are the headers; connections, predictors, stickiness and what else does not depend on them are shared with
//! IPv4 (`family.rs`). A packet stands in this CPU's scratch space from the start, as its keys would fill the stack.

mod bridge;
mod fragment;
mod header;
mod icmp;
mod neighbour;
mod router;
mod send;

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use csm_common::address::{Address as _, V6};
use csm_common::counter::{NOT_COUNTED, Reason};
use csm_common::flow::marked;
use csm_common::gate::GateState;
use csm_common::names::{FAMILY_V6, FAMILY_V6_TRACED};
use csm_common::net::{NO_VETH, PORT_FT, PORT_ROUTED, Port, Tunnel};

use crate::open::End;
use crate::packet::{self, Ethernet, Ingress, L3, Mac, PROTO_ICMPV6, Packet, header};
use crate::{Outcome, conn, echo, forward, gate, maps, open, own, relay, router as any_router, trace};

pub(crate) use bridge::is_known;
pub(crate) use header::transport;
pub(crate) use send::{time_exceeded, too_big};

/// What the first program knows of a frame.
pub(crate) struct Handover {
    /// The VLAN that it came in on.
    vlan: u32,
    /// Octets of the tag that it came with.
    tag: u32,
}

#[repr(C, packed(2))]
pub(crate) struct Ipv6 {
    /// Version, traffic class, flow label.
    version_be: u32,
    payload_be: u16,
    pub(crate) next: u8,
    hop_limit: u8,
    pub(crate) src_be: V6,
    pub(crate) dst_be: V6,
}

/// Bits below the traffic class: the flow label's.
const CLASS_BIT: u32 = 20;
/// No traffic class, no flow label.
const VERSION_BE: u32 = 0x6000_0000_u32.to_be();
/// Octets of the longest quote in an error, a multiple of 4: all up to the transport header, which stands before 256.
const QUOTE_MAX: usize = 252;

/// Scratch space for a quote.
pub(crate) type Quote = [u32; QUOTE_MAX / 4];

/// Calls the program for IPv6; without one the frame is the kernel's.
// Not a call: from one no other program may be called with much on the stack.
#[inline(always)]
pub(crate) fn hand_over<const TRACED: bool>(ctx: &XdpContext, port: &Port, tag: u32) -> Reason {
    if let Some(handover) = maps::HANDOVER.get_ptr_mut(0) {
        // SAFETY: this CPU's element; the program does not nest.
        unsafe { *handover = Handover { vlan: u32::from(port.vlan), tag } };
        // SAFETY: the map holds programs of this type only. It does not come back but for an empty slot.
        unsafe { maps::FAMILIES.tail_call(ctx, if TRACED { FAMILY_V6_TRACED } else { FAMILY_V6 }) };
    }
    Reason::PassProtocol
}

/// Entry point: only from the other program.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm6(ctx: XdpContext) -> u32 {
    run::<false>(&ctx)
}

/// The same, and has another program tell of it (`trace.rs`).
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm6_traced(ctx: XdpContext) -> u32 {
    run::<true>(&ctx)
}

#[inline(always)]
fn run<const TRACED: bool>(ctx: &XdpContext) -> u32 {
    let length = packet::length(ctx);
    let (mut bytes, mut counted, mut veth, mut reason) = (length, NOT_COUNTED, NO_VETH, Reason::DropInternal);
    if let Some(handover) = maps::HANDOVER.get_ptr(0) {
        // SAFETY: this CPU's element.
        let (vlan, tag) = unsafe { ((*handover).vlan, (*handover).tag) };
        bytes += tag;
        if let Some(port) = maps::VLANS.get(vlan) {
            if TRACED {
                trace::begin::<V6>(ctx, port);
            }
            // SAFETY: fields of a map's value; read before the walk, as there.
            unsafe {
                veth = (&raw const port.veth).read_volatile();
                counted = (&raw const port.counted).read_volatile();
            }
            let (Ok(ended) | Err(ended)) = frame(ctx, port, length, tag);
            reason = ended;
        }
    }
    let end = End { counted, bytes, veth, traced: TRACED.into() };
    if matches!(reason, Reason::ToOpen) {
        reason = open::hand_over::<V6>(ctx, end);
    }
    if matches!(reason, Reason::ToRouter) {
        any_router::leave::<V6>(ctx, bytes, counted);
    }
    if TRACED {
        trace::hand_over::<V6>(ctx, reason, end);
    }
    crate::end(counted, bytes, reason, veth)
}

#[inline(always)]
fn frame(ctx: &XdpContext, port: &Port, length: u32, tag: u32) -> Outcome {
    let settings = maps::SETTINGS.get(0).ok_or(Reason::DropInternal)?;
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    let (dst, src) = unsafe { ((*ethernet).dst, (*ethernet).src) };
    let from_peer = port.role == PORT_FT;
    // SAFETY: the first field of a map's value.
    let ours = dst == unsafe { Mac::at(&raw const settings.virtual_mac) };
    if !from_peer && neighbour::is_discovery(ctx) {
        return Ok(neighbour::handle(ctx, port));
    }
    if !from_peer && !ours && !own::is_groups6(ctx, port, dst) {
        if port.flags & PORT_ROUTED != 0 {
            any_router::arrive::<V6>(ctx, port, length + tag);
        }
        if port.bridge == 0 {
            return Ok(Reason::PassHost);
        }
        if let Some(reason) = bridge::frame(ctx, port) {
            return Ok(reason);
        }
    }
    let (state, now_ns) = gate::read();
    let ingress = if from_peer {
        relay::take(port, dst, src, state)?
    } else {
        match state {
            GateState::Open => Ingress::at(port),
            GateState::RelayOut => return relay::hand_over(ctx, port, settings),
            GateState::Closed | GateState::RelayIn => return Ok(Reason::DropStandby),
        }
    };
    balance(ctx, begin(ingress, now_ns, length)?)
}

/// This CPU's packet, of which nothing but its arrival is known.
#[inline(always)]
fn begin(ingress: Ingress, now_ns: u64, length: u32) -> Result<&'static mut Packet<V6>, Reason> {
    let cold = maps::COLD6.get_ptr_mut(0).ok_or(Reason::DropInternal)?;
    // SAFETY: this CPU's element; the program does not nest.
    let packet = unsafe { &mut (*cold).packet };
    *packet = Packet::new(ingress, now_ns, length);
    Ok(packet)
}

/// A packet for the group, which may have it.
#[inline(always)]
fn balance(ctx: &XdpContext, packet: &mut Packet<V6>) -> Outcome {
    let l4 = header::parse_ip(ctx, packet)?;
    if packet.is_later() {
        return Ok(fragment::follow(ctx, packet, l4));
    }
    packet::parse_transport(ctx, l4, packet)?;
    if packet.key.proto == PROTO_ICMPV6 {
        if packet.is_icmp_error() {
            return Ok(icmp::translate(ctx, packet, l4));
        }
        if echo::is_for_us(packet) {
            return Ok(echo::reply(ctx, packet, l4));
        }
    }
    conn::forward(ctx, packet, l4)
}

/// Writes a header of its own, with so many octets to follow.
#[inline(always)]
pub(crate) fn write(
    ctx: &XdpContext,
    src_be: V6,
    dst_be: V6,
    next: u8,
    payload: u16,
    hop_limit: u8,
) -> Result<(), Reason> {
    let ip = header::<Ipv6>(ctx, L3)?;
    // SAFETY: `header` checked the bounds.
    unsafe {
        (*ip).version_be = VERSION_BE;
        (*ip).payload_be = payload.to_be();
        (*ip).next = next;
        (*ip).hop_limit = hop_limit;
        (*ip).src_be = src_be;
        (*ip).dst_be = dst_be;
    }
    Ok(())
}

/// See [`Family::octets`](crate::family::Family::octets).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "40")]
pub(crate) fn octets(ctx: &XdpContext, at: usize) -> Result<u16, Reason> {
    let ip = header::<Ipv6>(ctx, at)?;
    // SAFETY: `header` checked the bounds.
    Ok(u16::from_be(unsafe { (*ip).payload_be }).wrapping_add(size_of::<Ipv6>() as u16))
}

/// See [`Family::spread`](crate::family::Family::spread).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "16 bits of a hash")]
pub(crate) fn spread(ctx: &XdpContext, at: usize) -> Result<u16, Reason> {
    let ip = header::<Ipv6>(ctx, at)?;
    // SAFETY: `header` checked the bounds.
    Ok(unsafe { (*ip).src_be }.folded() as u16)
}

/// See [`Family::write_outer`](crate::family::Family::write_outer).
#[inline(always)]
pub(crate) fn write_outer(
    ctx: &XdpContext,
    tunnel: &Tunnel<V6>,
    next: u8,
    payload: u16,
) -> Result<(), Reason> {
    let ip = header::<Ipv6>(ctx, L3)?;
    let from = (&raw const tunnel.local_be).cast::<u16>();
    // SAFETY: `header` checked the bounds; both addresses stand one behind the other, there as here. In pieces: whole they
    // would pass by the stack.
    unsafe {
        (*ip).version_be = VERSION_BE;
        (*ip).payload_be = payload.to_be();
        (*ip).next = next;
        (*ip).hop_limit = echo::TTL;
        let to = (&raw mut (*ip).src_be).cast::<u16>();
        for index in 0..size_of::<[V6; 2]>() / size_of::<u16>() {
            to.add(index).write_volatile(from.add(index).read_volatile());
        }
    }
    Ok(())
}

/// Writes addresses, by `mark` the traffic class, and a hop limit that is one less.
#[inline(always)]
pub(crate) fn rewrite(ctx: &XdpContext, src_be: V6, dst_be: V6, mark: u32) -> Result<(), Reason> {
    let ip = header::<Ipv6>(ctx, L3)?;
    // SAFETY: `header` checked the bounds. Without a branch: each would be walked to the end of the program. The addresses first,
    // so that they need no place on the stack, of which Linux 6.1 gives a chain of calls 512 octets.
    unsafe {
        (*ip).src_be = src_be;
        (*ip).dst_be = dst_be;
        (*ip).hop_limit -= 1;
        let version = u32::from_be((*ip).version_be);
        let class = marked(mark, version >> CLASS_BIT & 0xff);
        (*ip).version_be = (version & !(0xff << CLASS_BIT) | class << CLASS_BIT).to_be();
    }
    Ok(())
}

/// Takes one from the hop limit.
#[inline(always)]
pub(crate) fn age(ctx: &XdpContext) -> Result<(), Reason> {
    let ip = header::<Ipv6>(ctx, L3)?;
    // SAFETY: `header` checked the bounds.
    unsafe { (*ip).hop_limit -= 1 };
    Ok(())
}

/// Sends a packet back as an answer. Swapping the addresses changes no checksum.
#[inline(always)]
pub(crate) fn turn_around(ctx: &XdpContext, ingress: &Ingress) -> Outcome {
    let ip = header::<Ipv6>(ctx, L3)?;
    // SAFETY: `header` checked the bounds.
    let asker_be = unsafe {
        let (asker_be, asked_be) = ((*ip).src_be, (*ip).dst_be);
        (*ip).src_be = asked_be;
        (*ip).dst_be = asker_be;
        (*ip).hop_limit = echo::TTL;
        asker_be
    };
    forward::turn_back(ctx, ingress, asker_be, forward::source(ctx)?, Reason::EchoReplied)
}
