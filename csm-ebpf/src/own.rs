//! VLANs on which the group's frames carry the port's own MAC address: `vmac`. There only the IP address tells what is for the
//! node and what for the group.

use core::mem::offset_of;

use aya_ebpf::programs::XdpContext;
use csm_common::address::V6;
use csm_common::net::{PORT_SPEAKS_OWN, PORT_TAKES_OWN, Port};
use csm_common::service::Settings;

use crate::maps;
use crate::packet::{Ipv4, L3, Mac, header};
use crate::v6::Ipv6;
use crate::wide::load64;

/// The group's MAC address on the port's VLAN.
#[inline(always)]
pub(crate) fn mac(port: &Port, settings: &Settings) -> Mac {
    Mac::of(if port.flags & PORT_SPEAKS_OWN == 0 { &settings.virtual_mac } else { &port.mac })
}

/// The 8 octets at the MAC address that the group's frames carry there; `group` are those at the virtual one. Without a branch,
/// each of whose ways the verifier would walk to the end.
#[inline(always)]
pub(crate) fn word(port: &Port, group: u64) -> u64 {
    // SAFETY: another field of 2 octets follows in the map's value.
    let own = unsafe { load64::<0>((&raw const port.mac) as usize) };
    let speaks_own = u64::from((port.flags / PORT_SPEAKS_OWN) & 1);
    group ^ ((group ^ own) & speaks_own.wrapping_neg())
}
const _: () = assert!(offset_of!(Port, mac) + size_of::<u64>() <= size_of::<Port>());

/// Whether a frame for `dst` is the group's, although that is not the virtual MAC: IPv4.
#[inline(always)]
pub(crate) fn is_groups(ctx: &XdpContext, port: &Port, dst: Mac) -> bool {
    if port.flags & PORT_TAKES_OWN == 0 || dst != Mac::of(&port.mac) {
        return false;
    }
    let Ok(ip) = header::<Ipv4>(ctx, L3) else { return false };
    // SAFETY: `header` checked the bounds.
    unsafe { (*ip).dst_be != port.own_be }
}

/// The same of IPv6: what is of the link is the node's.
#[inline(always)]
pub(crate) fn is_groups6(ctx: &XdpContext, port: &Port, dst: Mac) -> bool {
    if port.flags & PORT_TAKES_OWN == 0 || dst != Mac::of(&port.mac) {
        return false;
    }
    let Ok(ip) = header::<Ipv6>(ctx, L3) else { return false };
    // SAFETY: `header` checked the bounds.
    let dst_be: V6 = unsafe { (*ip).dst_be };
    !dst_be.is_link_local() && maps::OWN6.get(u32::from(port.vlan)).is_none_or(|&own_be| own_be != dst_be)
}
