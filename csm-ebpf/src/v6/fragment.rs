//! Later fragments of IPv6 datagrams.

use aya_ebpf::programs::XdpContext;
use csm_common::address::V6;
use csm_common::counter::Reason;

use crate::fragment;
use crate::packet::Packet;

/// Sends a later fragment after the first one of its datagram; `l4` is where its content stands.
#[inline(never)]
pub(super) fn follow(ctx: &XdpContext, packet: &Packet<V6>, l4: usize) -> Reason {
    let (Ok(reason) | Err(reason)) = fragment::follow_first(ctx, packet, l4);
    reason
}
