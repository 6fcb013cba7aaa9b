//! Strays of a planned move: what still reaches the predecessor crosses the FT VLAN to the successor.
//!
//! Only the MAC addresses change; the source says on which VLAN the packet came in. What was taken from the FT VLAN is
//! never handed back to it: [`take`] is the only way in from an FT port, and [`hand_over`] the only way out to one.

use aya_ebpf::helpers::generated::bpf_check_mtu;
use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;
use csm_common::gate::GateState;
use csm_common::net::{PORT_CLIENT, PORT_SERVER, PORT_TAGGED, Port, relay_mac, relay_vlan};
use csm_common::service::Settings;

use crate::packet::{Ethernet, Ingress, LINK_HEADER, Mac, header, length};
use crate::{Outcome, forward, maps};

/// Predecessor: hands the frame to the peer.
#[inline(always)]
pub(crate) fn hand_over(ctx: &XdpContext, port: &Port, settings: &Settings) -> Outcome {
    if settings.peer_mac == [0; 6] {
        return Ok(Reason::DropRelay);
    }
    if !fits(ctx, u32::from(settings.ft_port)) {
        return Ok(Reason::DropRelayTooBig);
    }
    // Looked for anew: Linux 6.12 lets no pointer into the frame outlive a tail call, not even one whose slot is empty.
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    unsafe {
        (*ethernet).dst = Mac::of(&settings.peer_mac);
        (*ethernet).src = Mac::of(&relay_mac(port.vlan));
    }
    forward::out(ctx, u32::from(settings.ft_port), settings.ft_tag, Reason::Relayed)
}

/// Whether the frame's packet is within the MTU of port `number`, as that is now. A longer one would be lost in the redirect,
/// which tells nobody.
#[inline(never)]
fn fits(ctx: &XdpContext, number: u32) -> bool {
    let Some(ifindex) = maps::TX_PORTS.get_ifindex(number) else { return false };
    // Asked about, since the kernel would go by the frame's first buffer alone; then it is the port's MTU.
    let mut octets = length(ctx) - LINK_HEADER;
    // SAFETY: the program's own context, and a word of the stack.
    unsafe { bpf_check_mtu(ctx.ctx.cast(), ifindex, &raw mut octets, 0, 0) == 0 }
}

/// Successor: where a relayed frame came in at the predecessor. Other frames on the FT port are the kernel's.
#[inline(always)]
pub(crate) fn take(port: &Port, dst: Mac, src: Mac, state: GateState) -> Result<Ingress, Reason> {
    let Some(vlan) = relay_vlan(src.bytes()) else { return Err(Reason::PassHost) };
    if dst != Mac::of(&port.mac) {
        return Err(Reason::PassHost);
    }
    if !matches!(state, GateState::Open | GateState::RelayIn) {
        return Err(Reason::DropRelay);
    }
    let origin = maps::VLANS.get(u32::from(vlan)).ok_or(Reason::DropRelay)?;
    if origin.role != PORT_CLIENT && origin.role != PORT_SERVER {
        return Err(Reason::DropRelay);
    }
    let tagged = origin.flags & PORT_TAGGED != 0;
    Ok(Ingress { port: origin.number, vlan, role: origin.role, tagged, relayed: true, routed: false })
}
