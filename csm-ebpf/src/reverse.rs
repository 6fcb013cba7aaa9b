//! `reverse-sticky`: a connection that came in by one of several firewalls is entered, under the addresses that one in the other direction has, among
//! those that stick to that firewall. Its answers go back by it, too, whatever the routes say.
//!
//! A firewall is known by the MAC address that it sends with, a server that opens connections itself by its own address.

use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;
use csm_common::flow::{Connection, FlowEntry, NONE};
use csm_common::limits::REVERSE_REALS_MAX;
use csm_common::net::NEXTHOP_RESOLVED;
use csm_common::service::{Reverse, StickyEntry};

use crate::conn::{Draft, is_ours};
use crate::family::Family;
use crate::packet::{Mac, Packet};
use crate::sticky::{self, Ends, Rule};
use crate::{forward as out, open};

/// What sticks in `group` the other way round; `None`: nobody uses the group.
#[inline(always)]
fn of<'a, A: Family>(group: u32) -> Option<(&'static Reverse<A>, Rule<'a, A>)> {
    if group == 0 {
        return None;
    }
    let reverse: &Reverse<A> = A::reverses().get(group).filter(|reverse| reverse.life_s != 0)?;
    Some((reverse, Rule { group, flags: reverse.flags, mask_be: &reverse.mask_be }))
}

/// The ends of a connection in the other direction: the server opens it, to what it takes for the client.
#[inline(always)]
const fn turned<A: Family>(connection: &Connection<A>) -> Ends<'_, A> {
    Ends { client_be: &connection.real_be, virtual_be: &connection.source_be }
}

/// The same, of a connection's entry for the client's packets.
#[inline(always)]
const fn turned_entry<A: Family>(entry: &FlowEntry<A>) -> Ends<'_, A> {
    Ends { client_be: &entry.new_dst_be, virtual_be: &entry.new_src_be }
}

/// Writes into the draft by which real the packet came in, and how its answers get there; of any other sender they go by the routes.
#[inline(never)]
pub(crate) fn way_back<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    draft: &mut Draft<A>,
) -> Result<(), Reason> {
    let key = &packet.key;
    if !key.src_be.is_host() || is_ours(key.src_be, key.vlan) {
        return Err(Reason::DropSource);
    }
    if let Some((reverse, rule)) = of::<A>(draft.reverse) {
        if packet.ingress.relayed {
            // The sender's MAC address was lost on the way.
            draft.via = entered(rule, turned(&draft.connection));
        } else if !packet.ingress.routed {
            let src = out::source(ctx)?;
            sender(packet, reverse, src, &mut draft.via);
        }
    }
    match hop::<A>(draft, key.vlan) {
        Some(hop) => draft.local.to_client = hop,
        None => draft.local.to_client = open::way_back(packet)?,
    }
    Ok(())
}

/// Next hop of the connection's answers as what stands in its sticky group says: of one that is rebuilt.
#[inline(never)]
pub(crate) fn known<A: Family>(draft: &mut Draft<A>) {
    if let Some((_, rule)) = of::<A>(draft.reverse) {
        draft.via = entered(rule, turned(&draft.connection));
        if let Some(hop) = hop::<A>(draft, draft.connection.client_vlan) {
            draft.local.to_client = hop;
        }
    }
}

/// Next hop to the real that the draft names, if that is on `vlan`.
#[inline(always)]
fn hop<A: Family>(draft: &Draft<A>, vlan: u16) -> Option<u32> {
    // SAFETY: a field of a map's value; volatile, as it comes by way of the map.
    let via = unsafe { (&raw const draft.via).read_volatile() };
    if via == NONE {
        return None;
    }
    A::reals().get(via).filter(|real| real.vlan == vlan).map(|real| real.nexthop)
}

/// The real that connections between `ends` stick to; [`NONE`] if there is none.
#[inline(always)]
fn entered<A: Family>(rule: Rule<'_, A>, ends: Ends<'_, A>) -> u32 {
    let (proven, half_open) = sticky::entries(rule, ends);
    proven.or(half_open).map_or(NONE, |entry| entry.real)
}

/// The real that has sent the packet, into `via`: the one with its source address, else the neighbour whose MAC address the frame comes from.
///
/// By way of a map's value: the verifier would walk what follows once for each real that it may be.
#[inline(always)]
fn sender<A: Family>(packet: &Packet<A>, reverse: &Reverse<A>, src: Mac, via: &mut u32) {
    let via = &raw mut *via;
    // SAFETY: a field of a map's value, here and below.
    let is_known = || unsafe { via.read_volatile() } != NONE;
    // SAFETY: as above.
    let note = |number: u32| unsafe { via.write_volatile(number) };
    for slot in 0..REVERSE_REALS_MAX {
        if slot >= reverse.count {
            return;
        }
        let number = reverse.reals[slot as usize];
        let Some(real) = A::reals().get(number) else { return };
        let Some(hop) = A::next_hops().get(real.nexthop) else { return };
        if real.vlan != packet.key.vlan {
            continue;
        }
        if real.ip_be == packet.key.src_be {
            return note(number);
        }
        // One behind a router has that one's MAC address, as others have. SAFETY: the first field of a map's value.
        let is_it = hop.flags & NEXTHOP_RESOLVED != 0
            && hop.ip_be == real.ip_be
            && src == unsafe { Mac::at(&raw const hop.dst_mac) };
        if is_it && !is_known() {
            note(number);
        }
    }
}

/// The draft's connection stands, half open: its way back is noted.
#[inline(always)]
pub(crate) fn choose<A: Family>(draft: &Draft<A>, now_ns: u64) {
    if draft.via == NONE {
        return;
    }
    if let Some((reverse, rule)) = of::<A>(draft.reverse) {
        let entry = StickyEntry { last_used_ns: now_ns, life_s: reverse.life_s, real: draft.via };
        sticky::note(rule, turned(&draft.connection), entry);
    }
}

/// The connection with this entry for the client's packets is proven: those of the other direction stick to where it came from.
#[inline(never)]
pub(crate) fn prove<A: Family>(connection: &FlowEntry<A>, now_ns: u64) {
    let Some((reverse, rule)) = group_of(connection) else { return };
    let ends = turned_entry(connection);
    let (_, Some(noted)) = sticky::entries(rule, ends) else { return };
    if sticky::is_fixed(rule, ends) {
        return;
    }
    let entry = StickyEntry { last_used_ns: now_ns, life_s: reverse.life_s, real: noted.real };
    match sticky::pair(rule, ends) {
        Some(key) => sticky::enter(key, entry),
        None => sticky::enter(sticky::key(rule, ends), entry),
    }
}

/// It is in use: the timer of that entry starts anew.
#[inline(never)]
pub(crate) fn touch<A: Family>(connection: &FlowEntry<A>, now_ns: u64) {
    if let Some((_, rule)) = group_of(connection) {
        sticky::renew(rule, turned_entry(connection), now_ns);
    }
}

#[inline(always)]
fn group_of<'a, A: Family>(connection: &FlowEntry<A>) -> Option<(&'static Reverse<A>, Rule<'a, A>)> {
    of(A::vservers().get(connection.vserver)?.reverse)
}
