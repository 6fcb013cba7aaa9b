//! Bridge mode: which packets that are not for the virtual MAC are a connection's all the same, as `bridge.rs` has it for IPv4.

use core::mem::swap;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::programs::XdpContext;
use csm_common::address::V6;
use csm_common::counter::Reason;
use csm_common::flow::FlowKey;
use csm_common::net::{AddressKey, PORT_SERVER, Port};
use csm_common::service::VserverKey;

use super::{Ipv6, VERSION_BE, neighbour};
use crate::packet::{Ethernet, L3, Mac, PROTO_TCP, PROTO_UDP, Ports, TCP_ACK, TCP_RST, Tcp, header};
use crate::{bridge, maps};

const L4: usize = L3 + size_of::<Ipv6>();
/// Where the version stands in the first word.
const VERSION_BITS_BE: u32 = 0xf000_0000_u32.to_be();

/// Sends a packet that is not for the virtual MAC to the other VLAN, or to the kernel if it is for this node; `None`: it is
/// a connection's.
#[inline(never)]
pub(super) fn frame(ctx: &XdpContext, port: &Port) -> Option<Reason> {
    let Ok(ethernet) = header::<Ethernet>(ctx, 0) else { return Some(Reason::DropMalformed) };
    // SAFETY: `header` checked the bounds.
    let dst = unsafe { (*ethernet).dst };
    if dst != Mac::of(&port.mac) && is_balanced(ctx, port) {
        return None;
    }
    Some(bridge::frame(ctx, port))
}

/// As of IPv4.
#[inline(always)]
fn is_balanced(ctx: &XdpContext, port: &Port) -> bool {
    // A key would fill the stack.
    let Some(cold) = maps::COLD6.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's element; the program does not nest. Nothing stands in it yet.
    let key = unsafe { &mut (*cold).packet.key };
    let Some(flags) = addressing(ctx, key) else { return false };
    key.vlan = port.vlan;
    key.pad = 0;
    let is_tcp = key.proto == PROTO_TCP;
    if port.role != PORT_SERVER {
        if is_tcp && is_origin(&key.dst_be, key.dport_be) {
            swap(&mut key.src_be, &mut key.dst_be);
            swap(&mut key.sport_be, &mut key.dport_be);
            key.vlan = port.bridge;
            // Without room the oldest goes.
            let _ = maps::DIRECT6.insert(&*key, 1, u64::from(BPF_ANY));
        }
        return false;
    }
    if maps::FLOWS6.get_ptr(&*key).is_some() || maps::EMBRYONIC6.get_ptr(&*key).is_some() {
        return true;
    }
    // Of a connection that this node does not know: it is rebuilt.
    let answers = is_tcp && flags & (TCP_RST | TCP_ACK) == TCP_ACK;
    answers && is_origin(&key.src_be, key.sport_be) && maps::DIRECT6.get_ptr(&*key).is_none()
}

/// Reads addresses and ports of a packet without extension headers, and its TCP flags; `None` for any other.
#[inline(always)]
fn addressing(ctx: &XdpContext, key: &mut FlowKey<V6>) -> Option<u8> {
    let ip = header::<Ipv6>(ctx, L3).ok()?;
    // SAFETY: `header` checked the bounds.
    let (version_be, next) = unsafe {
        key.src_be = (*ip).src_be;
        key.dst_be = (*ip).dst_be;
        ((*ip).version_be, (*ip).next)
    };
    if version_be & VERSION_BITS_BE != VERSION_BE {
        return None;
    }
    key.proto = next;
    match next {
        PROTO_TCP => {
            let tcp = header::<Tcp>(ctx, L4).ok()?;
            // SAFETY: `header` checked the bounds.
            unsafe {
                (key.sport_be, key.dport_be) = ((*tcp).sport_be, (*tcp).dport_be);
                Some((*tcp).flags)
            }
        }
        PROTO_UDP => {
            let ports = header::<Ports>(ctx, L4).ok()?;
            // SAFETY: as above.
            unsafe { (key.sport_be, key.dport_be) = ((*ports).sport_be, (*ports).dport_be) };
            Some(0)
        }
        _ => None,
    }
}

/// Whether that is a balanced port of a real, of TCP.
#[inline(always)]
fn is_origin(ip_be: &V6, port_be: u16) -> bool {
    let service = VserverKey { ip_be: *ip_be, port_be, proto: PROTO_TCP, kind: 0 };
    // SAFETY: only presence counts.
    unsafe { maps::ORIGINS6.get(&service) }.is_some()
}

/// Whether the receiver of what the kernel says, or whom it solicits, is known to be on `vlan`.
#[inline(always)]
pub(crate) fn is_known(ctx: &XdpContext, vlan: u16) -> Result<bool, Reason> {
    let ip_be = match neighbour::solicited(ctx) {
        Some(target_be) => target_be,
        // SAFETY: `header` checked the bounds.
        None => unsafe { (*header::<Ipv6>(ctx, L3)?).dst_be },
    };
    let host = AddressKey { ip_be, vlan, pad: 0 };
    // SAFETY: only presence counts.
    Ok(unsafe { maps::NEIGHBOURS6.get(&host) }.is_some())
}
