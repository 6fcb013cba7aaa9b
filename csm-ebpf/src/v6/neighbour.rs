//! Neighbour discovery (RFC 4861): solicitations for alias and virtual addresses are answered while the gate is open,
//! and hosts and rivals noticed.

use aya_ebpf::helpers::generated::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use csm_common::address::{Address as _, V6};
use csm_common::checksum;
use csm_common::counter::Reason;
use csm_common::event::{EVENT_NEIGHBOUR, EVENT_RIVAL};
use csm_common::gate::GateState;
use csm_common::net::{AddressKey, PORT_ROUTED, Port, ROUTE_CONNECTED};

use super::Ipv6;
use crate::packet::{self, Ethernet, L3, Mac, PROTO_ICMPV6, header};
use crate::{Outcome, bridge, conn, event, forward, gate, maps, own, router, vlan};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// What comes with another hop limit came from beyond the link.
const HOP_LIMIT: u8 = 255;
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
/// Flags of an advertisement: router, solicited, override.
const ROUTER: u32 = 0x8000_0000;
const SOLICITED: u32 = 0x4000_0000;
const OVERRIDE: u32 = 0x2000_0000;
const ALL_NODES: V6 = V6([0xff02_0000_u32.to_be(), 0, 0, 1_u32.to_be()]);

/// A solicitation or advertisement.
#[repr(C, packed(2))]
struct Discovery {
    kind: u8,
    code: u8,
    checksum_be: u16,
    flags_be: u32,
    target_be: V6,
}

/// Option with a MAC address.
#[repr(C, packed(2))]
struct LinkAddress {
    kind: u8,
    /// In units of 8 octets.
    length: u8,
    mac: Mac,
}

const ICMP: usize = L3 + size_of::<Ipv6>();
const OPTION: usize = ICMP + size_of::<Discovery>();
/// Octets of an answer behind its IP header, and of the whole frame.
const ANSWER: u16 = 32;
const FRAME: u32 = 86;
const _: () = assert!(OPTION + size_of::<LinkAddress>() == FRAME as usize);
const _: () = assert!(size_of::<Discovery>() + size_of::<LinkAddress>() == ANSWER as usize);

/// Whether it is a solicitation or an advertisement of a neighbour.
#[inline(always)]
pub(super) fn is_discovery(ctx: &XdpContext) -> bool {
    let Ok(ip) = header::<Ipv6>(ctx, L3) else { return false };
    // SAFETY: `header` checked the bounds.
    if unsafe { (*ip).next } != PROTO_ICMPV6 {
        return false;
    }
    let Ok(discovery) = header::<Discovery>(ctx, ICMP) else { return false };
    // SAFETY: as above.
    matches!(unsafe { (*discovery).kind }, SOLICITATION | ADVERTISEMENT)
}

/// Whom a solicitation asks for; `None`: it is none.
#[inline(always)]
pub(super) fn solicited(ctx: &XdpContext) -> Option<V6> {
    let ip = header::<Ipv6>(ctx, L3).ok()?;
    let discovery = header::<Discovery>(ctx, ICMP).ok()?;
    // SAFETY: `header` checked the bounds.
    unsafe {
        ((*ip).next == PROTO_ICMPV6 && (*discovery).kind == SOLICITATION).then_some((*discovery).target_be)
    }
}

/// Handles a solicitation or advertisement.
#[inline(never)]
pub(super) fn handle(ctx: &XdpContext, port: &Port) -> Reason {
    let (Ok(reason) | Err(reason)) = discovery(ctx, port);
    reason
}

#[inline(always)]
fn discovery(ctx: &XdpContext, port: &Port) -> Outcome {
    let ip = header::<Ipv6>(ctx, L3)?;
    let discovery = header::<Discovery>(ctx, ICMP)?;
    let sender = forward::source(ctx)?;
    // SAFETY: `header` checked the bounds.
    let (hop_limit, src_be, kind, code, target_be) = unsafe {
        ((*ip).hop_limit, (*ip).src_be, (*discovery).kind, (*discovery).code, (*discovery).target_be)
    };
    // A sender with a group address for its own would be answered to all.
    if hop_limit != HOP_LIMIT || code != 0 || sender.bytes()[0] & 1 != 0 {
        return Ok(others(ctx, port, target_be, sender));
    }
    let open = gate::read().0 == GateState::Open;
    let ours = conn::is_ours(target_be, port.vlan);
    let solicits = kind == SOLICITATION;
    // Who looks whether the address is free before taking it, who speaks from it, who says that it has it.
    let claims = ours && (!solicits || src_be == V6::UNSPECIFIED);
    if claims || conn::is_ours(src_be, port.vlan) {
        // On a standby this is the active node's announcement.
        if open {
            event::hint(EVENT_RIVAL, if claims { target_be } else { src_be }, port.vlan, sender);
        }
        if !claims || !solicits {
            return Ok(Reason::PassArp);
        }
    } else if port.bridge == 0 || open {
        // A standby sees what the active node has bridged, and would look for the host on the wrong side.
        let (neighbour_be, wanted) =
            if solicits { (src_be, SOURCE_ADDRESS) } else { (target_be, TARGET_ADDRESS) };
        if let Some(mac) = link_address(ctx, wanted)
            && neighbour_be != V6::UNSPECIFIED
        {
            learn(neighbour_be, mac, port);
        }
    }
    if !solicits {
        return Ok(others(ctx, port, target_be, sender));
    }
    let mac = match owner(target_be, port) {
        Some((mac, true)) => mac,
        Some((_, false)) => return Ok(Reason::DropGroupStandby),
        None if !ours => return Ok(others(ctx, port, target_be, sender)),
        None if !open => return Ok(Reason::DropArpStandby),
        None => own::mac(port, maps::SETTINGS.get(0).ok_or(Reason::DropInternal)?),
    };
    answer(ctx, port, src_be, target_be, sender, mac)
}

/// The MAC address of the HSRP group of this host that has `ip_be`, and whether this host is its active router.
#[inline(always)]
fn owner(ip_be: V6, port: &Port) -> Option<(Mac, bool)> {
    if port.flags & PORT_ROUTED == 0 {
        return None;
    }
    router::group_at(ip_be, port.vlan)
}

/// Discovery that is not the group's: the kernel's, or bridged unless it is about this node.
#[inline(always)]
fn others(ctx: &XdpContext, port: &Port, target_be: V6, sender: Mac) -> Reason {
    // What this node itself asks comes back when its peer bridges: its kernel would take it for somebody else.
    if port.bridge == 0 || (is_own(target_be, port) && sender != Mac::of(&port.mac)) {
        return Reason::PassArp;
    }
    bridge::frame(ctx, port)
}

/// Whether it is this node's own address on a bridged VLAN, or the one of the link that its kernel has there.
#[inline(always)]
fn is_own(ip_be: V6, port: &Port) -> bool {
    let [a, b, c, d, e, f] = port.mac;
    let of_link = V6([
        0xfe80_0000_u32.to_be(),
        0,
        u32::from_ne_bytes([a ^ 2, b, c, 0xff]),
        u32::from_ne_bytes([0xfe, d, e, f]),
    ]);
    ip_be == of_link || maps::OWN6.get(u32::from(port.vlan)).is_some_and(|&own_be| ip_be == own_be)
}

/// The MAC address that the first option holds, if it is of the kind that is wanted.
#[inline(always)]
fn link_address(ctx: &XdpContext, wanted: u8) -> Option<Mac> {
    let option = header::<LinkAddress>(ctx, OPTION).ok()?;
    // SAFETY: `header` checked the bounds.
    let (kind, length, mac) = unsafe { ((*option).kind, (*option).length, (*option).mac) };
    (kind == wanted && length == 1 && mac.bytes()[0] & 1 == 0).then_some(mac)
}

/// Tells the controller of a host on a connected network that has no next hop yet, or another MAC address than known. Of
/// hosts with addresses of the link alone it wants to hear only if it knows them, as gateways, or where it must know on which
/// side of a bridge group they are.
#[inline(always)]
fn learn(ip_be: V6, mac: Mac, port: &Port) {
    let vlan = port.vlan;
    // SAFETY: the value is a plain number; one that was just replaced is as good as the new one.
    let number = unsafe { maps::NEIGHBOURS6.get(AddressKey { ip_be, vlan, pad: 0 }) };
    let wanted = if ip_be.is_link_local() {
        number.is_some() || port.bridge != 0
    } else {
        forward::route(ip_be).is_some_and(|route| {
            route.kind == ROUTE_CONNECTED && (route.vlan == vlan || route.vlan == port.bridge)
        }) || (port.flags & PORT_ROUTED != 0 && router::is_connected(ip_be, vlan))
    };
    let known = number
        .and_then(|&number| maps::NEXTHOPS6.get(number))
        .is_some_and(|hop| Mac::of(&hop.dst_mac) == mac);
    if wanted && !known {
        event::hint(EVENT_NEIGHBOUR, ip_be, vlan, mac);
    }
}

/// Turns a solicitation into its answer: to who asked, or, if that has no address yet, to all.
#[inline(always)]
#[expect(clippy::cast_possible_wrap, reason = "a frame's length")]
fn answer(ctx: &XdpContext, port: &Port, asker_be: V6, target_be: V6, asker: Mac, group_mac: Mac) -> Outcome {
    let surplus = packet::length(ctx) as i32 - FRAME as i32;
    // SAFETY: the program's own context; all pointers into the frame are fetched anew afterwards.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, -surplus) } != 0 {
        return Err(Reason::DropInternal);
    }
    let (to_be, to, flags) = if asker_be == V6::UNSPECIFIED {
        (ALL_NODES, Mac::of(&ALL_NODES.multicast_mac()), ROUTER | OVERRIDE)
    } else {
        (asker_be, asker, ROUTER | SOLICITED | OVERRIDE)
    };
    let ethernet = header::<Ethernet>(ctx, 0)?;
    super::write(ctx, target_be, to_be, PROTO_ICMPV6, ANSWER, HOP_LIMIT)?;
    let discovery = header::<Discovery>(ctx, ICMP)?;
    let option = header::<LinkAddress>(ctx, OPTION)?;
    let ([a, b, c, d, e, f], head) = (group_mac.bytes(), [TARGET_ADDRESS, 1]);
    // Twice the target: it is the source, too.
    let sum = 2 * target_be.sum()
        + to_be.sum()
        + checksum::replace32(u32::MAX, flags.to_be())
        + u32::from(ANSWER.to_be())
        + u32::from(u16::from(PROTO_ICMPV6).to_be())
        + u32::from(u16::from_ne_bytes([ADVERTISEMENT, 0]))
        + u32::from(u16::from_ne_bytes(head))
        + u32::from(u16::from_ne_bytes([a, b]))
        + u32::from(u16::from_ne_bytes([c, d]))
        + u32::from(u16::from_ne_bytes([e, f]));
    // SAFETY: `header` checked the bounds of all.
    unsafe {
        (*ethernet).dst = to;
        (*ethernet).src = group_mac;
        (*discovery).kind = ADVERTISEMENT;
        (*discovery).code = 0;
        (*discovery).checksum_be = !checksum::fold(sum);
        (*discovery).flags_be = flags.to_be();
        (*option).kind = TARGET_ADDRESS;
        (*option).length = 1;
        (*option).mac = group_mac;
    }
    forward::out(ctx, port.number, vlan::tag_of(port), Reason::ArpReplied)
}
