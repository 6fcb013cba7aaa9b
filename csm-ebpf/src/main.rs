//! The XDP program: what comes for the group's virtual MAC address is balanced, routed, relayed or dropped; what comes
//! for the node itself goes to its kernel.
//!
//! Every stage ends in a [`Reason`], which is counted once and decides the verdict. `Err` carries the reason of a
//! stage that ends the walk early, so that stages chain with `?`.
#![no_std]
#![no_main]
// Inline assembly for BPF: atomic instructions that read and write.
#![feature(asm_experimental_arch)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key or entry by value is a copy on the stack"
)]

mod arp;
mod atomic;
mod bridge;
mod budget;
mod conn;
mod counter;
mod drain;
mod echo;
mod event;
mod family;
mod forward;
mod fragment;
mod ftp;
mod gate;
mod hot;
mod icmp;
mod icmp_send;
mod maps;
mod nat;
mod open;
mod options;
mod own;
mod packet;
mod predictor;
mod rate;
mod rebuild;
mod relay;
mod reset;
mod reverse;
mod rewrite;
mod room;
mod router;
mod share;
mod sticky;
mod trace;
mod transition;
mod tunnel;
mod v6;
mod vlan;
mod vserver;
mod wide;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use csm_common::counter::{Reason, Verdict};
use csm_common::gate::GateState;
use csm_common::net::{NO_VETH, PORT_FT, PORT_ROUTED, PORT_VETH, Port};

use crate::open::End;
use crate::packet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ingress, Mac, PROTO_ICMP, Packet,
};

/// How a stage ends a frame.
pub(crate) type Outcome = Result<Reason, Reason>;

/// Entry point, one instance per port.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm(ctx: XdpContext) -> u32 {
    run::<false>(&ctx)
}

/// The same, and tells of it (`trace.rs`).
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm_traced(ctx: XdpContext) -> u32 {
    run::<true>(&ctx)
}

#[inline(always)]
fn run<const TRACED: bool>(ctx: &XdpContext) -> u32 {
    let bytes = packet::length(ctx);
    let (reason, veth, counted) = match vlan::arrive::<TRACED>(ctx, bytes) {
        Ok((port, tag)) => {
            if TRACED {
                trace::begin::<u32>(ctx, port);
            }
            // Read before the walk: kept until after it, a port of one map and a port of another would make the verifier
            // walk all of it twice. SAFETY: fields of a map's value.
            let (veth, counted) = unsafe {
                ((&raw const port.veth).read_volatile(), (&raw const port.counted).read_volatile())
            };
            let (Ok(reason) | Err(reason)) = frame::<TRACED>(ctx, port, bytes - tag, tag);
            let reason = if matches!(reason, Reason::ToOpen) {
                open::hand_over::<u32>(ctx, End { counted, bytes, veth, traced: TRACED.into() })
            } else {
                reason
            };
            if matches!(reason, Reason::ToRouter) {
                router::leave::<u32>(ctx, bytes, counted);
            }
            (reason, veth, counted)
        }
        Err((counted, reason)) => (reason, NO_VETH, counted),
    };
    if TRACED {
        trace::hand_over::<u32>(ctx, reason, End { counted, bytes, veth, traced: 1 });
    }
    end(counted, bytes, reason, veth)
}

/// Counts a frame of `bytes`, as it came in, and gives the verdict that its reason stands for.
#[inline(always)]
fn end(counted: u32, bytes: u32, reason: Reason, veth: u32) -> u32 {
    counter::frame(counted, u64::from(bytes), reason);
    match reason.verdict() {
        Verdict::Forward => xdp_action::XDP_REDIRECT,
        Verdict::Pass => to_kernel(veth),
        Verdict::Drop | Verdict::Hold => xdp_action::XDP_DROP,
    }
}

/// The kernel takes the frame where it came in, or behind the VLAN's veth.
#[inline(always)]
fn to_kernel(veth: u32) -> u32 {
    if veth == NO_VETH {
        return xdp_action::XDP_PASS;
    }
    maps::TX_PORTS.redirect(veth, 0).unwrap_or(xdp_action::XDP_DROP)
}

#[inline(always)]
fn frame<const TRACED: bool>(ctx: &XdpContext, port: &Port, length: u32, tag: u32) -> Outcome {
    if port.role == PORT_VETH {
        if port.bridge != 0 {
            return Ok(bridge::from_kernel(ctx, port));
        }
        return forward::out(ctx, port.number, vlan::tag_of(port), Reason::ForwardedKernel);
    }
    let ethernet = packet::header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    match unsafe { (*ethernet).kind_be } {
        ETHERTYPE_ARP => Ok(arp::handle(ctx, port)),
        ETHERTYPE_IPV4 => ipv4(ctx, port, ethernet, length, tag),
        ETHERTYPE_IPV6 => {
            let reason = v6::hand_over::<TRACED>(ctx, port, tag);
            // Without a program for it it is bridged as any other protocol.
            Ok(if port.bridge == 0 { reason } else { bridge::frame(ctx, port) })
        }
        _ if port.bridge != 0 => Ok(bridge::frame(ctx, port)),
        _ => Ok(Reason::PassProtocol),
    }
}

#[inline(always)]
fn ipv4(ctx: &XdpContext, port: &Port, ethernet: *mut Ethernet, length: u32, tag: u32) -> Outcome {
    let settings = maps::SETTINGS.get(0).ok_or(Reason::DropInternal)?;
    // SAFETY: `frame` checked the bounds.
    let (dst, src) = unsafe { ((*ethernet).dst, (*ethernet).src) };
    let from_peer = port.role == PORT_FT;
    // SAFETY: the first field of a map's value.
    let ours = dst == unsafe { Mac::at(&raw const settings.virtual_mac) };
    if !from_peer && !ours && !own::is_groups(ctx, port, dst) {
        if port.flags & PORT_ROUTED != 0 {
            router::arrive::<u32>(ctx, port, length + tag);
        }
        if port.bridge == 0 {
            return Ok(Reason::PassHost);
        }
        if dst == Mac::of(&port.mac) || !bridge::is_balanced(ctx, port) {
            return Ok(bridge::frame(ctx, port));
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
    balance(ctx, ingress, now_ns, length)
}

/// A packet for the group, which may have it.
#[inline(always)]
fn balance(ctx: &XdpContext, ingress: Ingress, now_ns: u64, length: u32) -> Outcome {
    let mut packet = Packet::new(ingress, now_ns, length);
    if !packet::is_plain(ctx)? {
        options::check(ctx)?;
        if fragment::is_later(ctx)? {
            return Ok(fragment::follow(ctx, &mut packet));
        }
    }
    let l4 = packet::parse(ctx, &mut packet)?;
    if packet.key.proto == PROTO_ICMP {
        if packet.is_icmp_error() {
            return Ok(icmp::translate(ctx, &packet, l4));
        }
        if echo::is_for_us(&packet) {
            return Ok(echo::reply(ctx, &packet, l4));
        }
    }
    conn::forward(ctx, &packet, l4)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: nothing in this crate can panic; were it reachable the verifier would refuse the program.
    unsafe { core::hint::unreachable_unchecked() }
}
