//! The XDP program: what comes for the group's virtual MAC address is balanced, routed, relayed or dropped; what comes
//! for the node itself goes to its kernel.
//!
//! Every stage ends in a [`Reason`], which is counted once and decides the verdict. `Err` carries the reason of a
//! stage that ends the walk early, so that stages chain with `?`.
#![no_std]
#![no_main]
// Inline assembly for BPF: the predictor's atomic increment.
#![feature(asm_experimental_arch)]

mod arp;
mod budget;
mod conn;
mod counter;
mod echo;
mod event;
mod forward;
mod fragment;
mod gate;
mod icmp;
mod icmp_send;
mod maps;
mod options;
mod packet;
mod predictor;
mod rare;
mod rebuild;
mod relay;
mod rewrite;
mod sticky;
mod transition;
mod vserver;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use csm_common::counter::{Reason, Verdict};
use csm_common::gate::GateState;
use csm_common::net::{PORT_FT, Port};

use crate::packet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Ingress, L4, Mac, PROTO_ICMP, Packet};

/// How a stage ends a frame.
pub(crate) type Outcome = Result<Reason, Reason>;

/// Entry point, one instance per port.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm(ctx: XdpContext) -> u32 {
    let length = packet::length(&ctx);
    let (Ok(reason) | Err(reason)) = frame(&ctx, length);
    counter::frame(length, reason);
    match reason.verdict() {
        Verdict::Forward => xdp_action::XDP_REDIRECT,
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop | Verdict::Hold => xdp_action::XDP_DROP,
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "32 bits in the kernel")]
fn frame(ctx: &XdpContext, length: u32) -> Outcome {
    // SAFETY: ports are set before the program is attached and never removed while it is.
    let Some(port) = (unsafe { maps::PORTS.get(ctx.ingress_ifindex() as u32) }) else {
        return Ok(Reason::PassHost);
    };
    let ethernet = packet::header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    match unsafe { (*ethernet).kind_be } {
        ETHERTYPE_ARP => Ok(arp::handle(ctx, port)),
        ETHERTYPE_IPV4 => ipv4(ctx, port, ethernet, length),
        _ => Ok(Reason::PassProtocol),
    }
}

#[inline(always)]
fn ipv4(ctx: &XdpContext, port: &Port, ethernet: *mut Ethernet, length: u32) -> Outcome {
    let settings = maps::SETTINGS.get(0).ok_or(Reason::DropInternal)?;
    // SAFETY: `frame` checked the bounds.
    let (dst, src) = unsafe { ((*ethernet).dst, (*ethernet).src) };
    let from_peer = port.role == PORT_FT;
    if !from_peer && dst != Mac::of(&settings.virtual_mac) {
        return Ok(Reason::PassHost);
    }
    let (state, now_ns) = gate::read();
    let ingress = if from_peer {
        relay::take(port, dst, src, state)?
    } else {
        match state {
            GateState::Open => {
                Ingress { port: port.number, vlan: port.vlan, role: port.role, relayed: false }
            }
            GateState::RelayOut => return relay::hand_over(port, settings, ethernet),
            GateState::Closed | GateState::RelayIn => return Ok(Reason::DropStandby),
        }
    };
    let mut packet = Packet::new(ingress, now_ns, length);
    if !packet::is_plain(ctx)? {
        return Ok(rare::walk(ctx, &mut packet));
    }
    packet::parse(ctx, L4, &mut packet, false)?;
    if packet.key.proto == PROTO_ICMP {
        if packet.is_icmp_error() {
            return Ok(icmp::translate(ctx, &packet, L4));
        }
        if echo::is_for_us(&packet) {
            return Ok(echo::reply(ctx, &packet, L4));
        }
    }
    conn::forward(ctx, &packet, L4)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: nothing in this crate can panic; were it reachable the verifier would refuse the program.
    unsafe { core::hint::unreachable_unchecked() }
}
