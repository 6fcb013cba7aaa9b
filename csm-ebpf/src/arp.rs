//! ARP: answers for alias and virtual addresses while the gate is open, and what ARP tells about hosts and rivals.

use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;
use csm_common::event::{EVENT_NEIGHBOUR, EVENT_RIVAL};
use csm_common::gate::GateState;
use csm_common::net::{AddressKey, PORT_FT, PORT_ROUTED, Port, ROUTE_CONNECTED};

use crate::packet::{ETHERTYPE_IPV4, Ethernet, L3, Mac, header};
use crate::{Outcome, bridge, event, forward, gate, maps, own, router, vlan};

const ETHERNET_HARDWARE: u16 = 1u16.to_be();
const REQUEST: u16 = 1u16.to_be();
const REPLY: u16 = 2u16.to_be();

/// ARP for IPv4 over Ethernet (RFC 826).
#[repr(C, packed(2))]
struct Arp {
    hardware_be: u16,
    protocol_be: u16,
    hardware_length: u8,
    protocol_length: u8,
    operation_be: u16,
    sender_mac: Mac,
    sender_be: u32,
    target_mac: Mac,
    target_be: u32,
}

/// Handles one ARP frame.
#[inline(never)]
pub(crate) fn handle(ctx: &XdpContext, port: &Port) -> Reason {
    let (Ok(reason) | Err(reason)) = arp(ctx, port);
    reason
}

#[inline(always)]
fn arp(ctx: &XdpContext, port: &Port) -> Outcome {
    if port.role == PORT_FT {
        return Ok(Reason::PassArp);
    }
    let arp = header::<Arp>(ctx, L3)?;
    // SAFETY: `header` checked the bounds.
    let (usual, operation_be, sender_mac, sender_be, target_be) = unsafe {
        (
            (*arp).hardware_be == ETHERNET_HARDWARE
                && (*arp).protocol_be == ETHERTYPE_IPV4
                && (*arp).hardware_length == 6
                && (*arp).protocol_length == 4,
            (*arp).operation_be,
            (*arp).sender_mac,
            (*arp).sender_be,
            (*arp).target_be,
        )
    };
    // A sender with a group address for its own would be answered to all.
    if !usual || sender_mac.bytes()[0] & 1 != 0 {
        return Ok(others(ctx, port, 0));
    }
    let open = gate::read().0 == GateState::Open;
    if is_ours(sender_be, port.vlan) {
        // On a standby this is the active node's announcement.
        if open {
            event::hint(EVENT_RIVAL, sender_be, port.vlan, sender_mac);
        }
        return Ok(Reason::PassArp);
    }
    // A standby sees what the active node has bridged, and would look for the host on the wrong side.
    if port.bridge == 0 || open {
        learn(sender_be, sender_mac, port);
    }
    if operation_be != REQUEST {
        return Ok(others(ctx, port, target_be));
    }
    let group_mac = match owner(target_be, port) {
        Some(Ok(mac)) => mac,
        Some(Err(reason)) => return Ok(reason),
        None if !is_ours(target_be, port.vlan) => return Ok(others(ctx, port, target_be)),
        None if !open => return Ok(Reason::DropArpStandby),
        None => own::mac(port, maps::SETTINGS.get(0).ok_or(Reason::DropInternal)?),
    };
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds of both.
    unsafe {
        (*arp).operation_be = REPLY;
        (*arp).target_mac = sender_mac;
        (*arp).target_be = sender_be;
        (*arp).sender_mac = group_mac;
        (*arp).sender_be = target_be;
        (*ethernet).dst = sender_mac;
        (*ethernet).src = group_mac;
    }
    forward::out(ctx, port.number, vlan::tag_of(port), Reason::ArpReplied)
}

/// The MAC address of the HSRP group of this host that has `ip_be`, or why it is not told.
#[inline(always)]
fn owner(ip_be: u32, port: &Port) -> Option<Result<Mac, Reason>> {
    if port.flags & PORT_ROUTED == 0 {
        return None;
    }
    let (mac, active) = router::group_at(ip_be, port.vlan)?;
    Some(if active { Ok(mac) } else { Err(Reason::DropGroupStandby) })
}

/// ARP that is not the group's: the kernel's, or bridged unless it asks for this node.
#[inline(always)]
fn others(ctx: &XdpContext, port: &Port, target_be: u32) -> Reason {
    if port.bridge == 0 || (target_be != 0 && target_be == port.own_be) {
        return Reason::PassArp;
    }
    bridge::frame(ctx, port)
}

/// Who is asked for, or told.
#[inline(always)]
pub(crate) fn target(ctx: &XdpContext) -> Result<u32, Reason> {
    let arp = header::<Arp>(ctx, L3)?;
    // SAFETY: `header` checked the bounds.
    Ok(unsafe { (*arp).target_be })
}

#[inline(always)]
fn is_ours(ip_be: u32, vlan: u16) -> bool {
    // SAFETY: only presence counts.
    unsafe { maps::ADDRESSES.get(AddressKey { ip_be, vlan, pad: 0 }) }.is_some()
}

/// Tells the controller of a host on a connected network that has no next hop yet, or another MAC address than known.
#[inline(always)]
fn learn(ip_be: u32, mac: Mac, port: &Port) {
    let vlan = port.vlan;
    let connected = forward::route(ip_be).is_some_and(|route| {
        route.kind == ROUTE_CONNECTED && (route.vlan == vlan || route.vlan == port.bridge)
    }) || (port.flags & PORT_ROUTED != 0 && router::is_connected(ip_be, vlan));
    if !connected {
        return;
    }
    // SAFETY: the value is a plain number; one that was just replaced is as good as the new one.
    let known = unsafe { maps::NEIGHBOURS.get(AddressKey { ip_be, vlan, pad: 0 }) }
        .and_then(|&number| maps::NEXTHOPS.get(number))
        .is_some_and(|hop| Mac::of(&hop.dst_mac) == mac);
    if !known {
        event::hint(EVENT_NEIGHBOUR, ip_be, vlan, mac);
    }
}
