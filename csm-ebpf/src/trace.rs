//! `csm trace`: the walk of the packets of one client, told through aya-log.
//!
//! Only the traced form of the program has this, and the controller puts it in the place of the other one while somebody
//! listens. Nothing of it is on a packet's way otherwise, not even a question.
//!
//! A packet is told of in lines of words, the CPU first; the controller puts names to the numbers
//! (`csm-user/src/dataplane/trace.rs`). What is not known any more at the end of the walk is kept in `TRACED`.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;
use csm_common::counter::Reason;
use csm_common::flow::{FlowEntry, FlowKey};
use csm_common::net::Port;

use crate::maps;
use crate::packet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_VLAN, Echo, Ethernet, FRAGMENT_OFFSET, Ipv4, L3, PROTO_ICMP,
    PROTO_TCP, PROTO_UDP, Ports, header, length,
};

/// The frame that this CPU works on. All that is told goes by way of this: of a map's content the verifier knows nothing,
/// so the telling, which is long, is walked once and not once for each way to it.
pub(crate) struct Traced {
    /// CLOCK_MONOTONIC; 0: known from its end only.
    now_ns: u64,
    came: FlowKey,
    left: FlowKey,
    before: Found,
    after: Found,
    octets: u32,
    reason: u32,
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
const NOWHERE: FlowKey =
    FlowKey { src_be: 0, dst_be: 0, sport_be: 0, dport_be: 0, vlan: 0, proto: 0, pad: 0 };

/// Octets of an 802.1Q tag.
const TAG: usize = 4;
/// Where an ARP message for IPv4 has its sender's address and its target's.
const ARP_SENDER: usize = L3 + 14;
const ARP_TARGET: usize = L3 + 24;

/// Looks at a frame without its tag, before the walk.
#[inline(never)]
pub(crate) fn begin(ctx: &XdpContext, port: &Port) {
    let (Some(filter), Some(traced)) = (maps::TRACE.get(0), maps::TRACED.get_ptr_mut(0)) else { return };
    // SAFETY: this CPU's element; the program does not nest.
    let traced = unsafe { &mut *traced };
    traced.on = 0;
    traced.now_ns = 0;
    traced.before = NOTHING;
    let Some(key) = untagged(ctx, port.vlan) else { return };
    if key.src_be != filter.client_be && key.dst_be != filter.client_be {
        return;
    }
    traced.came = key;
    traced.octets = length(ctx);
    traced.before = find(&traced.came);
    // SAFETY: the helper has no preconditions.
    traced.now_ns = unsafe { bpf_ktime_get_ns() };
    traced.on = 1;
}

/// The same reason, as the verifier does not know it: what follows is walked once, not once for each reason.
#[inline(always)]
pub(crate) fn forget(reason: Reason) -> Reason {
    let Some(traced) = maps::TRACED.get_ptr_mut(0) else { return Reason::DropInternal };
    // SAFETY: as in `begin`; what is read was written just now.
    unsafe {
        let kept = (&raw mut (*traced).reason).cast::<Reason>();
        kept.write_volatile(reason);
        kept.read_volatile()
    }
}

/// Looks at the same frame as the walk has left it.
#[inline(never)]
pub(crate) fn end(ctx: &XdpContext) {
    let (Some(filter), Some(traced)) = (maps::TRACE.get(0), maps::TRACED.get_ptr_mut(0)) else { return };
    // SAFETY: as in `begin`.
    let traced = unsafe { &mut *traced };
    traced.left = left(ctx).unwrap_or(NOWHERE);
    // With client NAT the client is seen in the answer only once that is rewritten.
    if traced.on == 0 && traced.left.dst_be != filter.client_be {
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
#[inline(never)]
pub(crate) fn tell(ctx: &XdpContext) {
    let Some(traced) = maps::TRACED.get_ptr_mut(0) else { return };
    // SAFETY: as in `begin`.
    let traced = unsafe { &mut *traced };
    if traced.on != 2 {
        return;
    }
    if traced.now_ns != 0 {
        info!(ctx, "{} begin ns={} vlan={} octets={}", cpu(), traced.now_ns, traced.came.vlan, traced.octets);
        packet(ctx, &traced.came);
        found(ctx, &traced.before);
        found(ctx, &traced.after);
    }
    packet(ctx, &traced.left);
    info!(ctx, "{} end {:mac} {:mac} reason={}", cpu(), traced.dst, traced.src, traced.reason);
    // A frame that comes on no port is not looked at before.
    traced.on = 0;
    traced.now_ns = 0;
}

// What looks into the frame is inlined: a call would hand over its start and end as plain numbers, as LLVM sees no harm in.

/// What the frame says of itself, by where its network header stands.
#[inline(always)]
fn key_at(ctx: &XdpContext, l3: usize, vlan: u16) -> Option<FlowKey> {
    let ip = header::<Ipv4>(ctx, l3).ok()?;
    // SAFETY: `header` checked the bounds.
    let (words, proto, fragment_be, src_be, dst_be) =
        unsafe { ((*ip).version_ihl & 0xf, (*ip).proto, (*ip).fragment_be, (*ip).src_be, (*ip).dst_be) };
    let mut key = FlowKey { src_be, dst_be, sport_be: 0, dport_be: 0, vlan, proto, pad: 0 };
    let l4 = l3 + usize::from(words) * 4;
    if u16::from_be(fragment_be) & FRAGMENT_OFFSET != 0 {
        return Some(key);
    }
    if matches!(proto, PROTO_TCP | PROTO_UDP)
        && let Ok(ports) = header::<Ports>(ctx, l4)
    {
        // SAFETY: as above.
        unsafe { (key.sport_be, key.dport_be) = ((*ports).sport_be, (*ports).dport_be) };
    }
    if proto == PROTO_ICMP
        && let Ok(echo) = header::<Echo>(ctx, l4)
    {
        // SAFETY: as above.
        unsafe { (key.sport_be, key.dport_be) = ((*echo).id_be, (*echo).id_be) };
    }
    Some(key)
}

#[inline(always)]
fn untagged(ctx: &XdpContext, vlan: u16) -> Option<FlowKey> {
    let ethernet = header::<Ethernet>(ctx, 0).ok()?;
    // SAFETY: `header` checked the bounds.
    match unsafe { (*ethernet).kind_be } {
        ETHERTYPE_IPV4 => key_at(ctx, L3, vlan),
        ETHERTYPE_ARP => {
            let (sender, target) =
                (header::<[u16; 2]>(ctx, ARP_SENDER).ok()?, header::<[u16; 2]>(ctx, ARP_TARGET).ok()?);
            // SAFETY: as above.
            let (src_be, dst_be) =
                unsafe { (sender.cast::<u32>().read_unaligned(), target.cast::<u32>().read_unaligned()) };
            Some(FlowKey { src_be, dst_be, sport_be: 0, dport_be: 0, vlan, proto: 0, pad: 0 })
        }
        _ => None,
    }
}

/// The packet as it leaves, perhaps with a tag.
#[inline(always)]
fn left(ctx: &XdpContext) -> Option<FlowKey> {
    let ethernet = header::<Ethernet>(ctx, 0).ok()?;
    // SAFETY: `header` checked the bounds.
    match unsafe { (*ethernet).kind_be } {
        ETHERTYPE_IPV4 => key_at(ctx, L3, 0),
        ETHERTYPE_VLAN => key_at(ctx, L3 + TAG, 0),
        _ => None,
    }
}

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_smp_processor_id() }
}

#[inline(never)]
fn packet(ctx: &XdpContext, key: &FlowKey) {
    let (src, dst) = (u32::from_be(key.src_be), u32::from_be(key.dst_be));
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
fn find(key: &FlowKey) -> Found {
    let (table, entry) = match (maps::FLOWS.get_ptr(key), maps::EMBRYONIC.get_ptr(key)) {
        (Some(entry), _) => (1, entry),
        (None, Some(entry)) => (2, entry),
        (None, None) => return NOTHING,
    };
    // SAFETY: an element of a preallocated table; read only.
    let entry: &FlowEntry = unsafe { &*entry };
    Found { table, state: u32::from(entry.state), vserver: entry.vserver, real: entry.real }
}
