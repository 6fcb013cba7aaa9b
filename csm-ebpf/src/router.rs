//! The host as a router: what comes for the MAC address of one of its HSRP groups, and what the module hands to its gateway,
//! goes on by the router's own prefix table while the group's gate is open.
//!
//! Programs of their own, with their own stacks, as IPv6's are, one for each family (that of IPv6 is in `v6/router.rs`): [`arrive`] calls it where the kernel would have had the frame, and
//! [`leave`] at the end of the walk of a packet whose next hop is a group of this host. What it finds to be for the module
//! it hands to `csm_inside`, the module's walk for a frame that comes from here.

use aya_ebpf::macros::xdp;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::XdpContext;
use csm_common::counter::{NOT_COUNTED, Reason};
use csm_common::gate::GateState;
use csm_common::net::{
    AddressKey, Group, GroupKey, NEXTHOP_GROUP, NEXTHOP_TAGGED, NO_GROUP, NO_VETH, Port, ROUTE_CONNECTED,
    ROUTE_LOCAL, ROUTE_MODULE, RouterRoute,
};

use crate::family::Family;
use crate::packet::{self, Ethernet, Ingress, Mac, Packet, header};
use crate::{Outcome, balance, echo, end, forward, gate, maps, open, options, relay, vlan};

/// What one program hands to another.
pub(crate) struct Passage {
    /// The VLAN that the frame came in on, as the next program is to see it.
    pub(crate) vlan: u32,
    /// Octets of the frame as it came in.
    pub(crate) bytes: u32,
    /// Slot of the counts of the interface that it came in by.
    pub(crate) counted: u32,
    /// Not 0: the module sends it.
    pub(crate) from_module: u32,
}

#[inline(always)]
pub(crate) fn passage() -> Option<&'static mut Passage> {
    // SAFETY: this CPU's element; the program does not nest.
    maps::PASSAGE.get_ptr_mut(0).map(|passage| unsafe { &mut *passage })
}

/// Whether this host is the active router of group `number`.
#[inline(never)]
fn is_active(number: u32) -> bool {
    gate::read_group(number).0 == GateState::Open
}

/// Whether this host routes for group `number`: as its active router, or for a moment after it was.
#[inline(never)]
fn routes(number: u32) -> bool {
    matches!(gate::read_group(number).0, GateState::Open | GateState::RelayOut)
}

/// The module hands a packet to group `number` on `vlan`: whether the router on this host takes it.
#[inline(never)]
pub(crate) fn takes(number: u32, vlan: u16) -> bool {
    let Some(passage) = passage() else { return false };
    passage.vlan = u32::from(vlan);
    matches!(gate::read_group(number).0, GateState::Open | GateState::RelayOut)
}

/// A frame of `bytes` on a port of the router that is not for the FT group: the router has it. Comes back if there is none.
#[inline(always)]
pub(crate) fn arrive<A: Family>(ctx: &XdpContext, port: &Port, bytes: u32) {
    if let Some(passage) = passage() {
        *passage = Passage { vlan: u32::from(port.vlan), bytes, counted: port.counted, from_module: 0 };
        // SAFETY: the map holds programs of this type only. It does not come back but for an empty slot.
        unsafe { maps::FAMILIES.tail_call(ctx, A::ROUTER) };
    }
}

/// The module's packet for the router: see [`takes`]. `bytes`: of the frame as it came in, by an interface whose counts are in
/// slot `counted`.
#[inline(always)]
pub(crate) fn leave<A: Family>(ctx: &XdpContext, bytes: u32, counted: u32) {
    if let Some(passage) = passage() {
        passage.bytes = bytes;
        passage.counted = counted;
        passage.from_module = 1;
        // SAFETY: as in `arrive`.
        unsafe { maps::FAMILIES.tail_call(ctx, A::ROUTER) };
    }
}

/// Entry point: only from the other programs.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm_router(ctx: XdpContext) -> u32 {
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
fn csm_inside(ctx: XdpContext) -> u32 {
    let (mut bytes, mut counted, mut reason) = (0, NOT_COUNTED, Reason::DropInternal);
    if let Some(passage) = passage() {
        bytes = passage.bytes;
        counted = passage.counted;
        if let Some(port) = maps::VLANS.get(passage.vlan) {
            let (state, now_ns) = gate::read();
            let ingress = Ingress { routed: true, ..Ingress::at(port) };
            let walked = match state {
                GateState::Open => balance(&ctx, ingress, now_ns, packet::length(&ctx)),
                _ => Err(Reason::DropStandby),
            };
            let (Ok(ended) | Err(ended)) = walked;
            reason = ended;
        }
    }
    if matches!(reason, Reason::ToOpen) {
        reason = open::hand_over::<u32>(&ctx, open::End { counted, bytes, veth: NO_VETH, traced: 0 });
    }
    if matches!(reason, Reason::ToRouter) {
        leave::<u32>(&ctx, bytes, counted);
    }
    end(counted, bytes, reason, NO_VETH)
}

#[inline(always)]
fn frame(ctx: &XdpContext, port: &Port, from_module: bool) -> Outcome {
    let number = addressee(ctx, port, from_module)?;
    if !packet::is_plain(ctx)? {
        options::check(ctx)?;
    }
    let mut packet = Packet::new(Ingress::at(port), 0, packet::length(ctx));
    let l4 = packet::parse_ip(ctx, &mut packet)?;
    packet.now_ns = gate::read_group(0).1;
    match onward(ctx, port, number, &mut packet, l4)? {
        Some(reason) => Ok(reason),
        None => inside::<u32>(ctx),
    }
}

/// The group of this host that the frame on `port` is for, by its MAC address; [`NO_GROUP`] if the module sends it.
#[inline(always)]
pub(crate) fn addressee(ctx: &XdpContext, port: &Port, from_module: bool) -> Result<u32, Reason> {
    if from_module {
        return Ok(NO_GROUP);
    }
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    let dst = unsafe { (*ethernet).dst };
    // SAFETY: a plain number.
    let number = unsafe { maps::GROUP_MACS.get(GroupKey { mac: dst.bytes(), vlan: port.vlan }) };
    let number = *number.ok_or(Reason::PassHost)?;
    if routes(number) { Ok(number) } else { Err(Reason::DropGroupStandby) }
}

/// Takes the packet on: it came in on `port` for group `number`, or from the module. `None`: it is for the module.
#[inline(always)]
pub(crate) fn onward<A: Family>(
    ctx: &XdpContext,
    port: &Port,
    number: u32,
    packet: &mut Packet<A>,
    l4: usize,
) -> Result<Option<Reason>, Reason> {
    let (src_be, dst_be) = (packet.key.src_be, packet.key.dst_be);
    if !src_be.is_host() || !dst_be.is_host() {
        return Err(Reason::DropNoRoute);
    }
    if dst_be.is_of_link() {
        // It is on every link, so no route leads to it: this link's group, or nobody.
        let key = AddressKey { ip_be: dst_be, vlan: port.vlan, pad: 0 };
        // SAFETY: a plain number.
        let group = unsafe { A::group_addresses().get(key) }.copied().filter(|&group| is_active(group));
        return group.map_or(Err(Reason::DropNoRoute), |_| answer(ctx, packet, l4, number).map(Some));
    }
    let found: &RouterRoute = A::router_routes().get(Key::new(A::BITS, dst_be)).ok_or(Reason::DropNoRoute)?;
    let route = &found.route;
    if route.kind == ROUTE_LOCAL {
        return local(ctx, port, number).map(Some);
    }
    let key = AddressKey { ip_be: dst_be, vlan: route.vlan, pad: 0 };
    // SAFETY: a plain number.
    let group = unsafe { A::group_addresses().get(key) }.copied().filter(|&group| is_active(group));
    if group.is_some() {
        return answer(ctx, packet, l4, number).map(Some);
    }
    // Nobody beyond this link could answer it (RFC 4291, section 2.5.6).
    if src_be.is_of_link() {
        return Err(Reason::DropNoRoute);
    }
    // To the module no error is sent: its own way back is not known here.
    if packet.ttl <= 1 && number == NO_GROUP {
        return Err(Reason::DropTtl);
    }
    if packet.ttl <= 1 {
        return Ok(Some(stamped(ctx, number, port.vlan, A::time_exceeded(ctx, packet, l4))));
    }
    // SAFETY: only presence counts.
    if route.kind == ROUTE_MODULE || unsafe { A::addresses().get(key) }.is_some() {
        if number == NO_GROUP {
            return Err(Reason::DropNoRoute);
        }
        A::age(ctx)?;
        passage().ok_or(Reason::DropInternal)?.vlan = u32::from(route.vlan);
        return Ok(None);
    }
    let hop = forward::hop::<A>(forward::resolve(route, dst_be)?)?;
    if hop.flags & NEXTHOP_GROUP != 0 && is_active(u32::from(hop.group)) {
        return Err(Reason::DropNoRoute);
    }
    let too_big = packet.total > u32::from(hop.mtu);
    if too_big && number == NO_GROUP {
        return Err(Reason::DropTooBig);
    }
    if too_big {
        return Ok(Some(stamped(ctx, number, port.vlan, A::too_big(ctx, packet, l4, hop.mtu))));
    }
    A::age(ctx)?;
    let src = source(found.group, hop.vlan)?;
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds; the MAC address stands at an even offset of an aligned map value.
    unsafe {
        (*ethernet).dst = Mac::at(&raw const hop.dst_mac);
        (*ethernet).src = src;
    }
    let tag = if hop.flags & NEXTHOP_TAGGED == 0 { 0 } else { hop.vlan };
    forward::out(ctx, hop.port, tag, Reason::RoutedHost).map(Some)
}

/// The source of frames on `vlan`: the MAC address of its group if this host is the active router there, else the port's own,
/// or switches would look for the group here.
#[inline(always)]
fn source(group: u32, vlan: u16) -> Result<Mac, Reason> {
    if group != NO_GROUP && is_active(group) {
        let group: &Group = maps::GROUPS.get(group).ok_or(Reason::DropInternal)?;
        // SAFETY: the first field of a map's value.
        return Ok(unsafe { Mac::at(&raw const group.mac) });
    }
    maps::VLANS.get(u32::from(vlan)).map(|port: &Port| Mac::of(&port.mac)).ok_or(Reason::DropInternal)
}

/// For the kernel, which knows the port's own MAC address only.
#[inline(always)]
fn local(ctx: &XdpContext, port: &Port, number: u32) -> Result<Reason, Reason> {
    // From the module it is on another port's way into the kernel.
    if number == NO_GROUP {
        return Err(Reason::DropNoRoute);
    }
    let ethernet = header::<Ethernet>(ctx, 0)?;
    // SAFETY: `header` checked the bounds.
    unsafe { (*ethernet).dst = Mac::of(&port.mac) };
    Ok(Reason::PassHost)
}

/// For the group's own address: an echo is answered, and nothing else is served there.
#[inline(always)]
fn answer<A: Family>(
    ctx: &XdpContext,
    packet: &mut Packet<A>,
    l4: usize,
    number: u32,
) -> Result<Reason, Reason> {
    if number == NO_GROUP || packet.key.proto != A::ICMP || packet.is_later() {
        return Err(Reason::DropProtocol);
    }
    packet::parse_transport(ctx, l4, packet)?;
    if packet.icmp != A::ECHO_REQUEST {
        return Err(Reason::DropProtocol);
    }
    Ok(stamped(ctx, number, packet.ingress.vlan, echo::reply(ctx, packet, l4)))
}

/// Gives a frame that goes back to where it came from its source: see [`source`].
#[inline(always)]
fn stamped(ctx: &XdpContext, number: u32, vlan: u16, reason: Reason) -> Reason {
    if let (Ok(ethernet), Ok(src)) = (header::<Ethernet>(ctx, 0), source(number, vlan)) {
        // SAFETY: `header` checked the bounds.
        unsafe { (*ethernet).src = src };
    }
    reason
}

/// Hands the packet to the module, on the VLAN that the passage says. While the peer has the FT group, it goes to the peer.
#[inline(always)]
pub(crate) fn inside<A: Family>(ctx: &XdpContext) -> Outcome {
    let settings = maps::SETTINGS.get(0).ok_or(Reason::DropInternal)?;
    let port: &Port =
        maps::VLANS.get(passage().ok_or(Reason::DropInternal)?.vlan).ok_or(Reason::DropInternal)?;
    let ethernet = header::<Ethernet>(ctx, 0)?;
    match gate::read().0 {
        GateState::Open => {
            // SAFETY: as in `arrive`.
            unsafe { maps::FAMILIES.tail_call(ctx, A::INSIDE) };
            Err(Reason::DropInternal)
        }
        GateState::RelayOut => relay::hand_over(ctx, port, settings),
        GateState::Closed | GateState::RelayIn => {
            // SAFETY: `header` checked the bounds; the first field of a map's value.
            unsafe {
                (*ethernet).dst = Mac::at(&raw const settings.virtual_mac);
                (*ethernet).src = Mac::of(&port.mac);
            }
            forward::out(ctx, port.number, vlan::tag_of(port), Reason::RoutedHost)
        }
    }
}

/// The group of this host that has `ip_be` on `vlan`, and whether it is the active router.
#[inline(always)]
pub(crate) fn group_at<A: Family>(ip_be: A, vlan: u16) -> Option<(Mac, bool)> {
    // SAFETY: a plain number.
    let number = *unsafe { A::group_addresses().get(AddressKey { ip_be, vlan, pad: 0 }) }?;
    let group: &Group = maps::GROUPS.get(number)?;
    // SAFETY: the first field of a map's value.
    Some((unsafe { Mac::at(&raw const group.mac) }, is_active(number)))
}

/// Whether `ip_be` is on the router's own network on `vlan`.
#[inline(always)]
pub(crate) fn is_connected<A: Family>(ip_be: A, vlan: u16) -> bool {
    let found: Option<&RouterRoute> = A::router_routes().get(Key::new(A::BITS, ip_be));
    found.is_some_and(|found| found.route.kind == ROUTE_CONNECTED && found.route.vlan == vlan)
}
