//! Bridge mode: what is not the group's between a client VLAN and a server VLAN of one network passes as it is.
//!
//! Only the node whose gate is open bridges, so there is never a loop through the pair. Frames that bear this node's own
//! or the group's source address come back through somebody else's loop and are dropped.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;
use csm_common::flow::FlowKey;
use csm_common::gate::GateState;
use csm_common::net::{AddressKey, PORT_SERVER, Port};
use csm_common::service::VserverKey;

use crate::packet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, FRAGMENT_BITS, Ipv4, L3, L4, Mac, PROTO_TCP,
    PROTO_UDP, Ports, TCP_ACK, TCP_RST, Tcp, VERSION_IHL, header,
};
use crate::{Outcome, arp, forward, gate, maps, v6, vlan};

/// Sends a frame that is not for the group to the other VLAN; what is for this node goes to its kernel.
#[inline(never)]
pub(crate) fn frame(ctx: &XdpContext, port: &Port) -> Reason {
    let (Ok(reason) | Err(reason)) = pass(ctx, port);
    reason
}

#[inline(always)]
fn pass(ctx: &XdpContext, port: &Port) -> Outcome {
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    let (dst, src) = unsafe { ((*ethernet).dst, (*ethernet).src) };
    let own = Mac::of(&port.mac);
    if dst == own || stays(dst.bytes()) {
        return Ok(Reason::PassHost);
    }
    if gate::read().0 != GateState::Open {
        return Err(Reason::DropStandby);
    }
    let settings = maps::SETTINGS.get(0).ok_or(Reason::DropInternal)?;
    if src == own || src == Mac::of(&settings.virtual_mac) {
        return Err(Reason::DropLoop);
    }
    let other = maps::VLANS.get(u32::from(port.bridge)).ok_or(Reason::DropInternal)?;
    forward::out(ctx, other.number, vlan::tag_of(other), Reason::ForwardedBridged)
}

/// Group addresses of protocols between neighbours, which no bridge passes on: spanning tree, pause, link aggregation,
/// discovery (IEEE 802.1D, table 7-10), and Cisco's own.
#[inline(always)]
const fn stays(dst: [u8; 6]) -> bool {
    matches!(dst, [0x01, 0x80, 0xc2, 0, 0, 0..=0x0f] | [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc | 0xcd])
}

/// Whether a packet that is not for the virtual MAC is a connection's all the same: a server answers the client through
/// the router's MAC. Notes which clients speak to a balanced port directly: their servers' segments are not.
// Not a call: the compiler would hand over the frame's bounds as plain numbers, which the verifier refuses.
#[inline(always)]
pub(crate) fn is_balanced(ctx: &XdpContext, port: &Port) -> bool {
    let Ok((key, flags)) = addressing(ctx, port.vlan) else { return false };
    if port.role != PORT_SERVER {
        let service = VserverKey { ip_be: key.dst_be, port_be: key.dport_be, proto: key.proto, kind: 0 };
        if key.proto == PROTO_TCP && is_origin(service) {
            let answer = FlowKey {
                src_be: key.dst_be,
                dst_be: key.src_be,
                sport_be: key.dport_be,
                dport_be: key.sport_be,
                vlan: port.bridge,
                ..key
            };
            // Without room the oldest goes.
            let _ = maps::DIRECT.insert(answer, 1, u64::from(BPF_ANY));
        }
        return false;
    }
    if maps::FLOWS.get_ptr(key).is_some() || maps::EMBRYONIC.get_ptr(key).is_some() {
        return true;
    }
    // Of a connection that this node does not know: it is rebuilt.
    let answers = key.proto == PROTO_TCP && flags & (TCP_RST | TCP_ACK) == TCP_ACK;
    let service = VserverKey { ip_be: key.src_be, port_be: key.sport_be, proto: key.proto, kind: 0 };
    answers && is_origin(service) && maps::DIRECT.get_ptr(key).is_none()
}

/// Addresses and ports of a packet without IP options that is no fragment, and its TCP flags; an error for any other.
#[inline(always)]
fn addressing(ctx: &XdpContext, vlan: u16) -> Result<(FlowKey, u8), Reason> {
    let ip = header::<Ipv4>(ctx, L3)?;
    // SAFETY: `header` checked the bounds.
    let (version_ihl, fragment_be, proto, src_be, dst_be) =
        unsafe { ((*ip).version_ihl, (*ip).fragment_be, (*ip).proto, (*ip).src_be, (*ip).dst_be) };
    if version_ihl != VERSION_IHL || fragment_be & FRAGMENT_BITS != 0 {
        return Err(Reason::DropFragment);
    }
    let mut key = FlowKey { src_be, dst_be, sport_be: 0, dport_be: 0, vlan, proto, pad: 0 };
    let mut flags = 0;
    match proto {
        PROTO_TCP => {
            let tcp = header::<Tcp>(ctx, L4)?;
            // SAFETY: `header` checked the bounds.
            unsafe { (key.sport_be, key.dport_be, flags) = ((*tcp).sport_be, (*tcp).dport_be, (*tcp).flags) };
        }
        PROTO_UDP => {
            let ports = header::<Ports>(ctx, L4)?;
            // SAFETY: as above.
            unsafe { (key.sport_be, key.dport_be) = ((*ports).sport_be, (*ports).dport_be) };
        }
        _ => return Err(Reason::DropProtocol),
    }
    Ok((key, flags))
}

#[inline(always)]
fn is_origin(service: VserverKey) -> bool {
    // SAFETY: only presence counts.
    unsafe { maps::ORIGINS.get(service) }.is_some()
}

/// Sends what the node's own kernel says to the VLAN where its receiver is: the server side for hosts that are known to
/// be there, else the client side. `port` is the client side's, behind the veth.
#[inline(never)]
pub(crate) fn from_kernel(ctx: &XdpContext, port: &Port) -> Reason {
    let (Ok(reason) | Err(reason)) = leave(ctx, port);
    reason
}

#[inline(always)]
fn leave(ctx: &XdpContext, port: &Port) -> Outcome {
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    let is_there = match unsafe { (*ethernet).kind_be } {
        ETHERTYPE_ARP => is_known(arp::target(ctx)?, port.bridge),
        // SAFETY: as above.
        ETHERTYPE_IPV4 => is_known(unsafe { (*header::<Ipv4>(ctx, L3)?).dst_be }, port.bridge),
        ETHERTYPE_IPV6 => v6::is_known(ctx, port.bridge)?,
        _ => false,
    };
    let side = if is_there { port.bridge } else { port.vlan };
    let port = maps::VLANS.get(u32::from(side)).ok_or(Reason::DropInternal)?;
    forward::out(ctx, port.number, vlan::tag_of(port), Reason::ForwardedKernel)
}

#[inline(always)]
fn is_known(ip_be: u32, vlan: u16) -> bool {
    // SAFETY: only presence counts.
    unsafe { maps::NEIGHBOURS.get(AddressKey { ip_be, vlan, pad: 0 }) }.is_some()
}
