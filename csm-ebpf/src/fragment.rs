//! Fragments of datagrams. The first one holds the ports and takes the usual walk; what became of it is noted, and
//! the others follow. One that comes before the first is handed to the controller, which sends it through the program
//! once more after word that the first one has gone on.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::programs::XdpContext;
use csm_common::counter::{Reason, Verdict};
use csm_common::flow::{FLAG_FORWARD, FlowKey, NONE};
use csm_common::fragment::{
    FRAGMENT_ANSWERED, FRAGMENT_FOLLOWED, FRAGMENT_WAITED_FOR, Fragment, FragmentKey, HELD_FRAME_MAX, Held,
    Release,
};
use csm_common::limits::{Budget, FRAGMENT_LIFE_NS};

use crate::family::Family;
use crate::packet::{self, FRAGMENT_OFFSET, Ipv4, L3, Packet, header, parse_ip, payload};
use crate::{Outcome, budget, conn, counter, forward, maps};

/// [`HELD_FRAME_MAX`], as lengths of frames are counted.
const HELD_MAX: u32 = 2016;
const _: () = assert!(HELD_MAX as usize == HELD_FRAME_MAX);
/// Octets of the longest datagram.
const DATAGRAM_MAX: u32 = 65_535;

/// Whether the packet is a fragment with others before it.
#[inline(always)]
pub(crate) fn is_later(ctx: &XdpContext) -> Result<bool, Reason> {
    let ip = header::<Ipv4>(ctx, L3)?;
    // SAFETY: `header` checked the bounds.
    Ok(u16::from_be(unsafe { (*ip).fragment_be }) & FRAGMENT_OFFSET != 0)
}

/// A first fragment ended for `reason`: if it went on, that is noted, and those that wait for it follow.
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "an IP packet's length has 16 bits")]
pub(crate) fn went_on<A: Family>(packet: &Packet<A>, l4: usize, reason: Reason) {
    // An error about the packet went the other way.
    if !matches!(reason.verdict(), Verdict::Forward)
        || matches!(reason, Reason::TimeExceeded | Reason::TooBig)
    {
        return;
    }
    let flow = &packet.key;
    let key = key(flow, packet.id_be);
    let mut note = Fragment {
        noted_ns: packet.now_ns,
        first_octets: payload(packet, l4) as u16,
        state: FRAGMENT_ANSWERED,
        ..unknown()
    };
    if reason as u32 != Reason::EchoReplied as u32 {
        let Some(entry) = conn::entry(flow) else { return };
        note.state = FRAGMENT_FOLLOWED;
        note.new_src_be = entry.new_src_be;
        note.new_dst_be = entry.new_dst_be;
        note.nexthop = entry.nexthop;
        note.vserver = entry.vserver;
        note.real = entry.real;
        note.ip_delta = entry.ip_delta;
        note.mark = entry.mark;
        note.from_client = u8::from(entry.flags & FLAG_FORWARD != 0);
    }
    // SAFETY: only the state counts, one octet.
    let waited_for =
        unsafe { A::fragments().get(key) }.is_some_and(|fragment| fragment.state == FRAGMENT_WAITED_FOR);
    if A::fragments().insert(key, note, u64::from(BPF_ANY)).is_ok() && waited_for {
        // Without room the frames that wait are dropped by time.
        if let Some(mut release) = A::held().reserve::<Release<A>>(0) {
            let record = release.as_mut_ptr();
            // Field by field: there is no room for it on the stack. SAFETY: this program's own until it is submitted.
            unsafe {
                (*record).key = key;
                (*record).ifindex = 0;
                (*record).length = 0;
                (*record).tag = 0;
                (*record).pad = 0;
            }
            release.submit(0);
        }
    }
}

#[inline(always)]
const fn unknown<A: Family>() -> Fragment<A> {
    Fragment {
        noted_ns: 0,
        new_src_be: A::UNSPECIFIED,
        new_dst_be: A::UNSPECIFIED,
        nexthop: 0,
        vserver: NONE,
        real: NONE,
        ip_delta: 0,
        first_octets: 0,
        state: FRAGMENT_WAITED_FOR,
        from_client: 0,
        mark: 0,
        pad: [0; 4],
    }
}

#[inline(always)]
const fn key<A: Family>(flow: &FlowKey<A>, id_be: u32) -> FragmentKey<A> {
    FragmentKey {
        src_be: flow.src_be,
        dst_be: flow.dst_be,
        id_be,
        vlan: flow.vlan,
        proto: flow.proto,
        pad: 0,
    }
}

/// Sends a later fragment after the first one of its datagram.
#[inline(never)]
pub(crate) fn follow(ctx: &XdpContext, packet: &mut Packet) -> Reason {
    let l4 = match parse_ip(ctx, packet) {
        Ok(l4) => l4,
        Err(reason) => return reason,
    };
    let (Ok(reason) | Err(reason)) = follow_first(ctx, packet, l4);
    reason
}

/// As [`follow`]; the IP header was read, and what it heads stands at `l4`.
#[inline(always)]
pub(crate) fn follow_first<A: Family>(ctx: &XdpContext, packet: &Packet<A>, l4: usize) -> Outcome {
    let octets = payload(packet, l4);
    let offset = u32::from(u16::from_be(packet.fragment_be) & FRAGMENT_OFFSET) * 8;
    let uneven = packet.has_more() && !octets.is_multiple_of(8);
    if octets == 0 || offset + octets > DATAGRAM_MAX || uneven {
        return Err(Reason::DropFragment);
    }
    let key = key(&packet.key, packet.id_be);
    let (now_ns, length) = (packet.now_ns, packet.length);
    // SAFETY: an element that is replaced meanwhile was in force until just now.
    let found = unsafe { A::fragments().get(key) };
    let live = found.filter(|fragment| now_ns.saturating_sub(fragment.noted_ns) < FRAGMENT_LIFE_NS);
    let Some(fragment) = live.filter(|fragment| fragment.state != FRAGMENT_WAITED_FOR) else {
        let note = match (found, live) {
            (_, Some(_)) => NOTED,
            (Some(_), None) => u64::from(BPF_ANY),
            // Another CPU may note the first fragment right now: that note must stay.
            (None, None) => u64::from(BPF_NOEXIST),
        };
        return Ok(hold(ctx, packet, &key, note));
    };
    if offset < u32::from(fragment.first_octets) {
        return Err(Reason::DropFragment);
    }
    if fragment.state == FRAGMENT_ANSWERED {
        return A::turn_around(ctx, &packet.ingress);
    }
    if packet.ttl <= 1 {
        return Err(Reason::DropTtl);
    }
    let hop = forward::hop::<A>(fragment.nexthop)?;
    if packet.total > u32::from(hop.mtu) {
        return Err(Reason::DropTooBig);
    }
    A::rewrite(ctx, fragment.new_src_be, fragment.new_dst_be, fragment.ip_delta, u32::from(fragment.mark))?;
    let sent = forward::send(ctx, hop, Reason::ForwardedFragment)?;
    counter::service(fragment.vserver, fragment.real, fragment.from_client != 0, length);
    Ok(sent)
}

/// How a fragment that waits is noted: not at all, as another one is.
const NOTED: u64 = u64::MAX;

/// Hands a fragment that came too early to the controller; `note`: [`NOTED`], or how the map is to be updated.
#[inline(never)]
fn hold<A: Family>(ctx: &XdpContext, packet: &Packet<A>, key: &FragmentKey<A>, note: u64) -> Reason {
    let (now_ns, length) = (packet.now_ns, packet.length);
    // What came by way of the router would meet it once more.
    if packet.ingress.routed || length > HELD_MAX || !budget::take(Budget::Held, now_ns) {
        return Reason::DropFragmentEarly;
    }
    if note != NOTED {
        // Fails if another CPU was first.
        let _ = A::fragments().insert(key, Fragment { noted_ns: now_ns, ..unknown() }, note);
    }
    let Some(mut held) = A::held().reserve::<Held<A>>(0) else { return Reason::DropFragmentEarly };
    let record = held.as_mut_ptr();
    let ingress = &packet.ingress;
    let tag = match (ingress.relayed, ingress.tagged) {
        // It came in by the FT port, whatever port the peer had it from.
        (true, _) => maps::SETTINGS.get(0).map_or(0, |settings| u32::from(settings.ft_tag)),
        (false, true) => u32::from(ingress.vlan),
        (false, false) => 0,
    };
    // SAFETY: `record` is this program's own until it is submitted. What of `frame` is not written holds what the ring
    // held before, and nobody reads it.
    let read = unsafe {
        (*record).key = *key;
        (*record).ifindex = (*ctx.ctx).ingress_ifindex;
        (*record).length = length;
        (*record).tag = tag;
        (*record).pad = 0;
        packet::load(ctx, 0, (&raw mut (*record).frame).cast(), length, HELD_MAX)
    };
    if !read {
        held.discard(0);
        return Reason::DropFragmentEarly;
    }
    held.submit(0);
    Reason::HeldFragment
}
