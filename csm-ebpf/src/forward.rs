//! Next hops and the way out.
//!
//! Frames leave by redirect through `TX_PORTS`, also to the port they came in on: a veth peer without an XDP program
//! of its own loses what XDP_TX sends.

use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;
use csm_common::event::EVENT_UNRESOLVED;
use csm_common::net::{
    AddressKey, NEXTHOP_GROUP, NEXTHOP_RESOLVED, NEXTHOP_TAGGED, NEXTHOP_TUNNEL, NextHop, Port, ROUTE_VIA,
    Route,
};

use crate::family::Family;
use crate::packet::{Ethernet, Ingress, Mac, header};
use crate::{Outcome, event, gate, maps, own, router, tunnel, vlan};

/// The most specific route to `ip_be`.
#[inline(always)]
pub(crate) fn route<A: Family>(ip_be: A) -> Option<&'static Route> {
    A::routes().get(Key::new(A::BITS, ip_be))
}

/// Next-hop number towards `ip_be` on `route`.
#[inline(always)]
pub(crate) fn resolve<A: Family>(route: &Route, ip_be: A) -> Result<u32, Reason> {
    if route.kind == ROUTE_VIA {
        return Ok(route.nexthop);
    }
    // SAFETY: the value is a plain number; one that was just replaced leads to a slot that is still valid.
    match unsafe { A::neighbours().get(AddressKey { ip_be, vlan: route.vlan, pad: 0 }) } {
        Some(&number) => Ok(number),
        None => {
            event::hint(EVENT_UNRESOLVED, ip_be, route.vlan, Mac::of(&[0; 6]));
            Err(Reason::DropUnresolved)
        }
    }
}

/// Next-hop number towards `ip_be`.
#[inline(always)]
pub(crate) fn next_hop<A: Family>(ip_be: A) -> Result<u32, Reason> {
    resolve(route(ip_be).ok_or(Reason::DropNoRoute)?, ip_be)
}

/// Next hop `number`, if its MAC address is known.
#[inline(always)]
pub(crate) fn hop<A: Family>(number: u32) -> Result<&'static NextHop<A>, Reason> {
    let hop = A::next_hops().get(number).ok_or(Reason::DropInternal)?;
    if hop.flags & NEXTHOP_RESOLVED == 0 {
        event::hint(EVENT_UNRESOLVED, hop.ip_be, hop.vlan, Mac::of(&[0; 6]));
        return Err(Reason::DropUnresolved);
    }
    Ok(hop)
}

/// Sends the frame to `hop`.
#[inline(always)]
pub(crate) fn send<A: Family>(ctx: &XdpContext, hop: &NextHop<A>, reason: Reason) -> Outcome {
    if hop.flags & NEXTHOP_TUNNEL != 0 {
        tunnel::wrap(ctx, hop)?;
    }
    if hop.flags & NEXTHOP_GROUP != 0 && router::takes(u32::from(hop.group), hop.vlan) {
        return Ok(Reason::ToRouter);
    }
    // A successor forwards what is relayed to it before its gate is open. With the virtual MAC address on it the switches would
    // look for the group here too soon, and what they then send here directly would be dropped.
    let src = if gate::teaches() {
        &raw const hop.src_mac
    } else {
        let port: &Port = maps::VLANS.get(u32::from(hop.vlan)).ok_or(Reason::DropInternal)?;
        &raw const port.mac
    };
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds; the MAC addresses stand at even offsets of aligned map values.
    unsafe {
        (*ethernet).dst = Mac::at(&raw const hop.dst_mac);
        (*ethernet).src = Mac::at(src);
    }
    let tag = if hop.flags & NEXTHOP_TAGGED == 0 { 0 } else { hop.vlan };
    out(ctx, hop.port, tag, reason)
}

/// Sends the frame back to where it came from; `to` is the source address of the packet that is answered.
#[inline(always)]
pub(crate) fn turn_back<A: Family>(
    ctx: &XdpContext,
    ingress: &Ingress,
    to_be: A,
    src: Mac,
    reason: Reason,
) -> Outcome {
    if ingress.relayed || ingress.routed {
        // The sender's MAC address was lost on the way: go by its address.
        return send(ctx, hop::<A>(next_hop(to_be)?)?, reason);
    }
    let settings = maps::SETTINGS.get(0).ok_or(Reason::DropInternal)?;
    let port = maps::VLANS.get(u32::from(ingress.vlan)).ok_or(Reason::DropInternal)?;
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    unsafe {
        (*ethernet).dst = src;
        (*ethernet).src = own::mac(port, settings);
    }
    out(ctx, ingress.port, if ingress.tagged { ingress.vlan } else { 0 }, reason)
}

/// The source MAC address of the frame.
#[inline(always)]
pub(crate) fn source(ctx: &XdpContext) -> Result<Mac, Reason> {
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    Ok(unsafe { (*ethernet).src })
}

/// Sends the frame out of port `number`, with the tag of VLAN `tag` unless that is 0.
#[inline(always)]
pub(crate) fn out(ctx: &XdpContext, number: u32, tag: u16, reason: Reason) -> Outcome {
    if tag != 0 {
        vlan::push(ctx, tag)?;
    }
    maps::TX_PORTS.redirect(number, 0).map(|_| reason).map_err(|_| Reason::DropInternal)
}
