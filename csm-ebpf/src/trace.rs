//! `csm trace`: the walk of the packets of one client, told through aya-log.
//!
//! Only the traced form of the program has this, and the controller puts it in the place of the other one while somebody
//! listens. Nothing of it is on a packet's way otherwise, not even a question.
//!
//! A packet is told of in lines of words, the CPU first; the controller puts names to the numbers
//! (`csm-user/src/dataplane/trace.rs`). What is not known any more at the end of the walk is kept in `TRACED`.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;
use csm_common::address::{Address, V6};
use csm_common::counter::Reason;
use csm_common::flow::FlowKey;
use csm_common::names::{FAMILY_TOLD, FAMILY_V6_TOLD};
use csm_common::net::Port;
use csm_common::trace::Filter;

use crate::family::Family;
use crate::open::End;
use crate::packet::{
    ETHERTYPE_ARP, ETHERTYPE_VLAN, Echo, Ethernet, FRAGMENT_OFFSET, Ipv4, L3, PROTO_TCP, PROTO_UDP, Ports,
    header, length,
};
use crate::{maps, v6};

/// The frame that this CPU works on. All that is told goes by way of this: of a map's content the verifier knows nothing,
/// so the telling, which is long, is walked once and not once for each way to it.
pub(crate) struct Traced<A: Address> {
    /// CLOCK_MONOTONIC; 0: known from its end only.
    now_ns: u64,
    came: FlowKey<A>,
    left: FlowKey<A>,
    before: Found,
    after: Found,
    octets: u32,
    reason: u32,
    end: End,
    /// Whom it was sent to, and as whom.
    dst: [u8; 6],
    src: [u8; 6],
    /// Not 0: it is told of.
    on: u32,
}

/// What the tables say of a packet.
#[derive(Clone, Copy)]
struct Found {
    /// 0: nothing; 1: proven; 2: half open.
    table: u32,
    state: u32,
    vserver: u32,
    real: u32,
}

const NOTHING: Found = Found { table: 0, state: 0, vserver: 0, real: 0 };

/// Octets of an 802.1Q tag.
const TAG: usize = 4;
/// Where an ARP message for IPv4 has its sender's address and its target's.
const ARP_SENDER: usize = L3 + 14;
const ARP_TARGET: usize = L3 + 24;

/// A family's own part.
pub(crate) trait Told: Family {
    /// Index in `FAMILIES` of the program that tells of its packets.
    const TOLD: u32;
    /// Whose packets are told of; unspecified: nobody's.
    fn client(filter: &Filter) -> Self;
    /// The frame that this CPU works on.
    fn traced() -> Option<*mut Traced<Self>>;
    /// Reads the IP header at `l3`, and what says more of its packet; false: it is cut short.
    fn read(ctx: &XdpContext, l3: usize, key: &mut FlowKey<Self>) -> bool;
    /// The same of what resolves addresses outside of IP.
    fn read_resolution(ctx: &XdpContext, kind_be: u16, key: &mut FlowKey<Self>) -> bool;
    /// Tells of a packet's addresses and ports.
    fn packet(ctx: &XdpContext, key: &FlowKey<Self>);
}

impl Told for u32 {
    const TOLD: u32 = FAMILY_TOLD;

    #[inline(always)]
    fn packet(ctx: &XdpContext, key: &FlowKey<Self>) {
        packet(ctx, key);
    }

    #[inline(always)]
    fn client(filter: &Filter) -> Self {
        filter.client_be
    }

    #[inline(always)]
    fn traced() -> Option<*mut Traced<Self>> {
        maps::TRACED.get_ptr_mut(0)
    }

    #[inline(always)]
    fn read(ctx: &XdpContext, l3: usize, key: &mut FlowKey<Self>) -> bool {
        let Ok(ip) = header::<Ipv4>(ctx, l3) else { return false };
        // SAFETY: `header` checked the bounds.
        let (words, fragment_be) = unsafe {
            (key.src_be, key.dst_be, key.proto) = ((*ip).src_be, (*ip).dst_be, (*ip).proto);
            ((*ip).version_ihl & 0xf, (*ip).fragment_be)
        };
        if u16::from_be(fragment_be) & FRAGMENT_OFFSET == 0 {
            read_ports(ctx, l3 + usize::from(words) * 4, key);
        }
        true
    }

    #[inline(always)]
    fn read_resolution(ctx: &XdpContext, kind_be: u16, key: &mut FlowKey<Self>) -> bool {
        if kind_be != ETHERTYPE_ARP {
            return false;
        }
        let (Ok(sender), Ok(target)) =
            (header::<[u16; 2]>(ctx, ARP_SENDER), header::<[u16; 2]>(ctx, ARP_TARGET))
        else {
            return false;
        };
        // SAFETY: `header` checked the bounds.
        (key.src_be, key.dst_be) =
            unsafe { (sender.cast::<u32>().read_unaligned(), target.cast::<u32>().read_unaligned()) };
        key.proto = 0;
        true
    }
}

impl Told for V6 {
    const TOLD: u32 = FAMILY_V6_TOLD;

    #[inline(always)]
    fn packet(ctx: &XdpContext, key: &FlowKey<Self>) {
        packet6(ctx, key);
    }

    #[inline(always)]
    fn client(filter: &Filter) -> Self {
        filter.client6_be
    }

    #[inline(always)]
    fn traced() -> Option<*mut Traced<Self>> {
        maps::TRACED6.get_ptr_mut(0)
    }

    #[inline(always)]
    fn read(ctx: &XdpContext, l3: usize, key: &mut FlowKey<Self>) -> bool {
        let Ok(ip) = header::<v6::Ipv6>(ctx, l3) else { return false };
        // SAFETY: `header` checked the bounds.
        unsafe { (key.src_be, key.dst_be, key.proto) = ((*ip).src_be, (*ip).dst_be, (*ip).next) };
        if let Some((l4, proto)) = v6::transport(ctx, l3) {
            key.proto = proto;
            read_ports(ctx, l4, key);
        }
        true
    }

    #[inline(always)]
    fn read_resolution(_ctx: &XdpContext, _kind_be: u16, _key: &mut FlowKey<Self>) -> bool {
        false
    }
}

// What looks into the frame is inlined: a call would hand over its start and end as plain numbers, as LLVM sees no harm in.

/// Reads the ports of what stands at `l4`, or the identifier of an echo.
#[inline(always)]
fn read_ports<A: Family>(ctx: &XdpContext, l4: usize, key: &mut FlowKey<A>) {
    if matches!(key.proto, PROTO_TCP | PROTO_UDP)
        && let Ok(ports) = header::<Ports>(ctx, l4)
    {
        // SAFETY: `header` checked the bounds.
        unsafe { (key.sport_be, key.dport_be) = ((*ports).sport_be, (*ports).dport_be) };
    }
    if key.proto == A::ICMP
        && let Ok(echo) = header::<Echo>(ctx, l4)
    {
        // SAFETY: as above.
        unsafe { (key.sport_be, key.dport_be) = ((*echo).id_be, (*echo).id_be) };
    }
}

/// Writes into `key` what the frame says of itself; false: nothing. Its tag counts only if `tags`.
#[inline(always)]
fn look<A: Told>(ctx: &XdpContext, vlan: u16, tags: bool, key: &mut FlowKey<A>) -> bool {
    (key.src_be, key.dst_be) = (A::UNSPECIFIED, A::UNSPECIFIED);
    (key.sport_be, key.dport_be, key.vlan, key.proto, key.pad) = (0, 0, vlan, 0, 0);
    let Ok(ethernet) = header::<Ethernet>(ctx, 0) else { return false };
    // SAFETY: `header` checked the bounds.
    let kind_be = unsafe { (*ethernet).kind_be };
    if kind_be == A::ETHERTYPE {
        return A::read(ctx, L3, key);
    }
    if tags {
        kind_be == ETHERTYPE_VLAN && A::read(ctx, L3 + TAG, key)
    } else {
        A::read_resolution(ctx, kind_be, key)
    }
}

/// Looks at a frame without its tag, before the walk.
#[inline(never)]
pub(crate) fn begin<A: Told>(ctx: &XdpContext, port: &Port) {
    let (Some(filter), Some(traced)) = (maps::TRACE.get(0), A::traced()) else { return };
    // SAFETY: this CPU's element; the program does not nest.
    let traced = unsafe { &mut *traced };
    traced.on = 0;
    traced.now_ns = 0;
    traced.before = NOTHING;
    if !look::<A>(ctx, port.vlan, false, &mut traced.came) {
        return;
    }
    let client_be = A::client(filter);
    let is_its = traced.came.src_be == client_be || traced.came.dst_be == client_be;
    if client_be == A::UNSPECIFIED || !is_its {
        return;
    }
    traced.octets = length(ctx);
    traced.before = find(&traced.came);
    // SAFETY: the helper has no preconditions.
    traced.now_ns = unsafe { bpf_ktime_get_ns() };
    traced.on = 1;
}

/// Calls the program that tells of it; comes back if there is none.
#[inline(always)]
pub(crate) fn hand_over<A: Told>(ctx: &XdpContext, reason: Reason, end: End) {
    let Some(traced) = A::traced() else { return };
    // SAFETY: as in `begin`.
    unsafe {
        (&raw mut (*traced).reason).cast::<Reason>().write_volatile(reason);
        (*traced).end = end;
        // The map holds programs of this type only.
        maps::FAMILIES.tail_call(ctx, A::TOLD);
    }
}

/// Entry point: only from the other programs. The telling is long, and would be too much for one program.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm_told(ctx: XdpContext) -> u32 {
    told::<u32>(&ctx)
}

/// The same for IPv6.
#[xdp(frags)]
#[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
fn csm6_told(ctx: XdpContext) -> u32 {
    told::<V6>(&ctx)
}

/// Ends the walk that the program before this one has made, and tells of it.
#[inline(always)]
fn told<A: Told>(ctx: &XdpContext) -> u32 {
    look_back::<A>(ctx);
    let Some(traced) = A::traced() else { return xdp_action::XDP_DROP };
    // SAFETY: as in `begin`; what is read was written by `hand_over`.
    let (End { counted, bytes, veth, .. }, reason) =
        unsafe { ((*traced).end, (&raw const (*traced).reason).cast::<Reason>().read_volatile()) };
    let action = crate::end(counted, bytes, reason, veth);
    tell::<A>(ctx);
    action
}

/// Looks at the same frame as the walk has left it.
#[inline(always)]
fn look_back<A: Told>(ctx: &XdpContext) {
    let (Some(filter), Some(traced)) = (maps::TRACE.get(0), A::traced()) else { return };
    // SAFETY: as in `begin`.
    let traced = unsafe { &mut *traced };
    look::<A>(ctx, 0, true, &mut traced.left);
    let client_be = A::client(filter);
    // With client NAT the client is seen in the answer only once that is rewritten.
    if traced.on == 0 && (client_be == A::UNSPECIFIED || traced.left.dst_be != client_be) {
        return;
    }
    traced.after = if traced.on == 0 { NOTHING } else { find(&traced.came) };
    if let Ok(ethernet) = header::<Ethernet>(ctx, 0) {
        // SAFETY: `header` checked the bounds.
        unsafe { (traced.dst, traced.src) = ((*ethernet).dst.bytes(), (*ethernet).src.bytes()) };
    }
    traced.on = 2;
}

/// Tells of the frame if it is one to tell of.
#[inline(always)]
fn tell<A: Told>(ctx: &XdpContext) {
    let Some(traced) = A::traced() else { return };
    // SAFETY: as in `begin`.
    let traced = unsafe { &mut *traced };
    if traced.on != 2 {
        return;
    }
    if traced.now_ns != 0 {
        beginning(ctx, traced.now_ns, traced.came.vlan, traced.octets);
        A::packet(ctx, &traced.came);
        found(ctx, &traced.before);
        found(ctx, &traced.after);
    }
    A::packet(ctx, &traced.left);
    ending(ctx, traced.dst, traced.src, traced.reason);
    // A frame that comes on no port is not looked at before.
    traced.on = 0;
    traced.now_ns = 0;
}

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_smp_processor_id() }
}

#[inline(always)]
fn beginning(ctx: &XdpContext, now_ns: u64, vlan: u16, octets: u32) {
    info!(ctx, "{} begin ns={} vlan={} octets={}", cpu(), now_ns, vlan, octets);
}

#[inline(always)]
fn ending(ctx: &XdpContext, dst: [u8; 6], src: [u8; 6], reason: u32) {
    info!(ctx, "{} end {:mac} {:mac} reason={}", cpu(), dst, src, reason);
}

#[inline(never)]
fn packet(ctx: &XdpContext, key: &FlowKey) {
    let (src, dst) = (u32::from_be(key.src_be), u32::from_be(key.dst_be));
    let (sport, dport) = (u16::from_be(key.sport_be), u16::from_be(key.dport_be));
    info!(ctx, "{} packet {:i} {} {:i} {} proto={}", cpu(), src, sport, dst, dport, key.proto);
}

#[inline(never)]
fn packet6(ctx: &XdpContext, key: &FlowKey<V6>) {
    let (src, dst) = (key.src_be.octets(), key.dst_be.octets());
    let (sport, dport) = (u16::from_be(key.sport_be), u16::from_be(key.dport_be));
    info!(ctx, "{} packet {:i} {} {:i} {} proto={}", cpu(), src, sport, dst, dport, key.proto);
}

#[inline(never)]
fn found(ctx: &XdpContext, found: &Found) {
    let Found { table, state, vserver, real } = *found;
    info!(ctx, "{} flow table={} state={} vserver={} real={}", cpu(), table, state, vserver, real);
}

/// The connection that packets with `key` belong to.
#[inline(never)]
fn find<A: Told>(key: &FlowKey<A>) -> Found {
    let (table, entry) = match (A::flows().get_ptr(key), A::embryonic().get_ptr(key)) {
        (Some(entry), _) => (1, entry),
        (None, Some(entry)) => (2, entry),
        (None, None) => return NOTHING,
    };
    // SAFETY: an element of a preallocated table; read only.
    let entry = unsafe { &*entry };
    Found { table, state: u32::from(entry.state), vserver: entry.vserver, real: entry.real }
}
