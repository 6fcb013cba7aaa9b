//! 802.1Q: the tag is taken off where a frame comes in and put on where it leaves, so that no other stage sees one.
//!
//! A tag of VLAN 0 carries a priority only: the frame is of the port's untagged VLAN. 802.1ad tags are left alone. The
//! priority is not kept: what is sent has priority 0.

use aya_ebpf::helpers::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;
use csm_common::net::{PORT_TAGGED, Port, TagKey, port_slot};

use crate::packet::{ETHERTYPE_VLAN, Ethernet, Mac, header};
use crate::{counter, hot, maps};

/// VLAN number of a tag's control information.
const VLAN_BITS: u16 = 0x0fff;

#[repr(C, packed(2))]
struct Tag {
    kind_be: u16,
    control_be: u16,
}

/// Octets that a tag adds.
const TAG: usize = size_of::<Tag>();
/// The same, as a way to move the frame's start.
const INWARD: i32 = 4;
const _: () = assert!(TAG == 4);

#[repr(C, packed(2))]
struct Addresses {
    dst: Mac,
    src: Mac,
}

/// An Ethernet header with a tag.
#[repr(C, packed(2))]
struct Tagged {
    addresses: Addresses,
    tag: Tag,
    kind_be: u16,
}

/// The VLAN's port that a frame of `bytes` came in by, and how many octets it is shorter by now: it has no tag any more.
/// `Err` is the end of it, which may be that it went on by the short way, with the slot of its interface's counts; a traced one
/// does not.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "32 bits in the kernel")]
pub(crate) fn arrive<const TRACED: bool>(
    ctx: &XdpContext,
    bytes: u32,
) -> Result<(&'static Port, u32), (u32, Reason)> {
    let ifindex = ctx.ingress_ifindex() as u32;
    // Of no port, or not known to be of one.
    let nobodys = |reason| (counter::slot(ifindex), reason);
    let ethernet = header::<Ethernet>(ctx, 0).map_err(nobodys)?;
    // SAFETY: `header` checked the bounds.
    if unsafe { (*ethernet).kind_be } != ETHERTYPE_VLAN {
        let port = untagged(ifindex).ok_or(Reason::PassHost).map_err(nobodys)?;
        if !TRACED && let Some(reason) = hot::forward::<0>(ctx, port, bytes) {
            return Err((port.counted, reason));
        }
        return Ok((port, 0));
    }
    let tagged = header::<Tagged>(ctx, 0).map_err(nobodys)?;
    // SAFETY: `header` checked the bounds.
    let vlan = u16::from_be(unsafe { (*tagged).tag.control_be }) & VLAN_BITS;
    let port = match vlan {
        0 => untagged(ifindex),
        // SAFETY: ports are set before the program is attached and never removed while it is.
        _ => unsafe { maps::TAGGED.get(TagKey { ifindex, vlan, pad: 0 }) },
    };
    let port = port.ok_or(Reason::PassVlan).map_err(nobodys)?;
    if !TRACED && let Some(reason) = hot::forward::<TAG>(ctx, port, bytes) {
        return Err((port.counted, reason));
    }
    pop(ctx).map_err(|reason| (port.counted, reason))?;
    Ok((port, TAG as u32))
}

/// The port with that interface index.
#[inline(always)]
fn untagged(ifindex: u32) -> Option<&'static Port> {
    match maps::PORT_SLOTS.get(port_slot(ifindex)) {
        Some(slot) if slot.ifindex == ifindex => Some(&slot.port),
        // SAFETY: as in `arrive`.
        _ => unsafe { maps::PORTS.get(ifindex) },
    }
}

/// The VLAN of the tag with which frames leave by `port`; 0: without one.
#[inline(always)]
pub(crate) const fn tag_of(port: &Port) -> u16 {
    if port.flags & PORT_TAGGED == 0 { 0 } else { port.vlan }
}

/// Takes the tag off.
#[inline(always)]
fn pop(ctx: &XdpContext) -> Result<(), Reason> {
    let from = header::<Tagged>(ctx, 0)?;
    let to = header::<Addresses>(ctx, TAG)?;
    // SAFETY: `header` checked the bounds of both; the addresses are read before the place is written.
    unsafe {
        let (dst, src) = ((*from).addresses.dst, (*from).addresses.src);
        (*to).dst = dst;
        (*to).src = src;
    }
    adjust(ctx, INWARD)
}

/// Puts a tag of `vlan` on.
#[inline(always)]
pub(crate) fn push(ctx: &XdpContext, vlan: u16) -> Result<(), Reason> {
    adjust(ctx, -INWARD)?;
    let from = header::<Addresses>(ctx, TAG)?;
    let to = header::<Tagged>(ctx, 0)?;
    // SAFETY: as in `pop`.
    unsafe {
        let (dst, src) = ((*from).dst, (*from).src);
        (*to).addresses.dst = dst;
        (*to).addresses.src = src;
        (*to).tag.kind_be = ETHERTYPE_VLAN;
        (*to).tag.control_be = vlan.to_be();
    }
    Ok(())
}

/// Moves the frame's start. Without room before it, which drivers guarantee, the frame cannot go on.
#[inline(always)]
fn adjust(ctx: &XdpContext, by: i32) -> Result<(), Reason> {
    // SAFETY: the context is the program's own; pointers into the frame are made anew after this.
    let moved = unsafe { bpf_xdp_adjust_head(ctx.ctx, by) };
    if moved == 0 { Ok(()) } else { Err(Reason::DropInternal) }
}
