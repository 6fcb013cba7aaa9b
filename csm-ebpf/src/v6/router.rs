//! The host as a router of IPv6: programs of their own, which walk as those of IPv4 do (`router.rs`).

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use csm_common::address::V6;
use csm_common::counter::{NOT_COUNTED, Reason};
use csm_common::gate::GateState;
use csm_common::net::{NO_VETH, Port};

use super::{balance, begin, header};
use crate::open::End;
use crate::packet::{self, Ingress};
use crate::router::{addressee, inside, leave, onward, passage};
use crate::{Outcome, end, gate, maps, open};

/// Entry point: only from the other programs.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm6_router(ctx: XdpContext) -> u32 {
    let (mut bytes, mut counted, mut veth, mut reason) = (0, NOT_COUNTED, NO_VETH, Reason::DropInternal);
    if let Some(passage) = passage() {
        bytes = passage.bytes;
        counted = passage.counted;
        if let Some(port) = maps::VLANS.get(passage.vlan) {
            // SAFETY: a field of a map's value.
            veth = unsafe { (&raw const port.veth).read_volatile() };
            let (Ok(ended) | Err(ended)) = frame(&ctx, port, passage.from_module != 0);
            reason = ended;
        }
    }
    end(counted, bytes, reason, veth)
}

/// Entry point: only from the router. The FT group's gate was open just now, and is asked for the time.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm6_inside(ctx: XdpContext) -> u32 {
    let (mut bytes, mut counted, mut reason) = (0, NOT_COUNTED, Reason::DropInternal);
    if let Some(passage) = passage() {
        bytes = passage.bytes;
        counted = passage.counted;
        if let Some(port) = maps::VLANS.get(passage.vlan) {
            let (state, now_ns) = gate::read();
            let ingress = Ingress { routed: true, ..Ingress::at(port) };
            let packet = begin(ingress, now_ns, packet::length(&ctx));
            let walked = match (state, packet) {
                (GateState::Open, Ok(packet)) => balance(&ctx, packet),
                (GateState::Open, Err(reason)) => Err(reason),
                _ => Err(Reason::DropStandby),
            };
            let (Ok(ended) | Err(ended)) = walked;
            reason = ended;
        }
    }
    if matches!(reason, Reason::ToOpen) {
        reason = open::hand_over::<V6>(&ctx, End { counted, bytes, veth: NO_VETH, traced: 0 });
    }
    if matches!(reason, Reason::ToRouter) {
        leave::<V6>(&ctx, bytes, counted);
    }
    end(counted, bytes, reason, NO_VETH)
}

#[inline(always)]
fn frame(ctx: &XdpContext, port: &Port, from_module: bool) -> Outcome {
    let number = addressee(ctx, port, from_module)?;
    let packet = begin(Ingress::at(port), gate::read_group(0).1, packet::length(ctx))?;
    let l4 = header::parse_ip(ctx, packet)?;
    match onward(ctx, port, number, packet, l4)? {
        Some(reason) => Ok(reason),
        None => inside::<V6>(ctx),
    }
}
