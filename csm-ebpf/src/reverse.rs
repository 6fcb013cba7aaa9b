//! `reverse-sticky`: a connection that came in by one of several firewalls is entered, under the addresses that one in the other direction has, among
//! those that stick to that firewall. Its answers go back by it, too, whatever the routes say.
//!
//! A firewall is known by the MAC address that it sends with, a server that opens connections itself by its own address. Which it was stands in the
//! connection ([`Connection::via`]).

use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;
use csm_common::flow::{Connection, FlowEntry, NONE};
use csm_common::limits::REVERSE_REALS_MAX;
use csm_common::net::{NEXTHOP_RESOLVED, ROUTE_CONNECTED};
use csm_common::service::{Reverse, StickyEntry};

use crate::conn::Draft;
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

/// By what the real is known that a connection came in by, beside its own address as the client's.
#[derive(Clone, Copy)]
struct Sought {
    /// The MAC address of a neighbour.
    src: Option<Mac>,
    /// The number of a real.
    number: u32,
}

/// Writes into the draft by which real the packet came in, and how its answers get there; of any other sender they go by the routes.
#[inline(never)]
pub(crate) fn way_back<A: Family>(
    ctx: &XdpContext,
    packet: &Packet<A>,
    draft: &mut Draft<A>,
) -> Result<(), Reason> {
    if let Some((reverse, rule)) = of::<A>(draft.reverse) {
        let connection = &mut draft.connection;
        // Of what is relayed, or comes from the router of this host, the sender's MAC address was lost on the way.
        let sought = if packet.ingress.relayed {
            Sought { src: None, number: entered(rule, turned(connection)) }
        } else if packet.ingress.routed {
            Sought { src: None, number: NONE }
        } else {
            Sought { src: Some(out::source(ctx)?), number: NONE }
        };
        look(reverse, sought, connection);
    }
    draft.local.to_client = match hop(&draft.connection) {
        Some(_) if is_elsewhere(packet) => return Err(Reason::DropSource),
        Some(hop) => hop,
        None => open::way_back(packet)?,
    };
    Ok(())
}

/// Whether the source is an address of a network that is connected to another VLAN: whoever sends that from here is not what it says.
#[inline(always)]
fn is_elsewhere<A: Family>(packet: &Packet<A>) -> bool {
    let key = &packet.key;
    out::route(key.src_be).is_some_and(|route| route.kind == ROUTE_CONNECTED && route.vlan != key.vlan)
}

/// The same of a connection that is rebuilt: as what stands in its sticky group says, else as it is drafted.
#[inline(never)]
pub(crate) fn known<A: Family>(draft: &mut Draft<A>) {
    if let Some((reverse, rule)) = of::<A>(draft.reverse) {
        let sought = Sought { src: None, number: entered(rule, turned(&draft.connection)) };
        look(reverse, sought, &mut draft.connection);
        if let Some(hop) = hop(&draft.connection) {
            draft.local.to_client = hop;
        }
    }
}

/// Next hop to the real by which the connection came in.
#[inline(always)]
fn hop<A: Family>(connection: &Connection<A>) -> Option<u32> {
    // SAFETY: a field of a map's value; volatile, as it comes by way of the map.
    let via = unsafe { (&raw const connection.via).read_volatile() };
    if via == 0 {
        return None;
    }
    A::reals().get(u32::from(via) - 1).map(|real| real.nexthop)
}

/// The real that connections between `ends` stick to; [`NONE`] if there is none.
#[inline(always)]
fn entered<A: Family>(rule: Rule<'_, A>, ends: Ends<'_, A>) -> u32 {
    let (proven, half_open) = sticky::entries(rule, ends);
    proven.or(half_open).map_or(NONE, |entry| entry.real)
}

/// Looks among the group's reals on the client's VLAN for the one with the client's address, else for the one that is sought, and writes it into the
/// connection.
///
/// By way of a map's value: the verifier would walk what follows once for each real that it may be.
#[inline(always)]
fn look<A: Family>(reverse: &Reverse<A>, sought: Sought, connection: &mut Connection<A>) {
    let (vlan, client_be) = (connection.client_vlan, connection.client_be);
    let via = &raw mut connection.via;
    // SAFETY: a field of a map's value, here and below.
    let is_known = || unsafe { via.read_volatile() } != 0;
    #[expect(clippy::cast_possible_truncation, reason = "fewer reals than that")]
    // SAFETY: as for `is_known`.
    let note = |number: u32| unsafe { via.write_volatile((number + 1) as u16) };
    for slot in 0..REVERSE_REALS_MAX {
        if slot >= reverse.count {
            return;
        }
        let number = reverse.reals[slot as usize];
        let Some(real) = A::reals().get(number) else { return };
        let Some(hop) = A::next_hops().get(real.nexthop) else { return };
        if real.vlan != vlan {
            continue;
        }
        if real.ip_be == client_be {
            return note(number);
        }
        // SAFETY: the first field of a map's value.
        let mac = unsafe { Mac::at(&raw const hop.dst_mac) };
        // One behind a router has that one's MAC address, as others have.
        let sent = |src| hop.flags & NEXTHOP_RESOLVED != 0 && hop.ip_be == real.ip_be && src == mac;
        if (number == sought.number || sought.src.is_some_and(sent)) && !is_known() {
            note(number);
        }
    }
}

/// The draft's connection stands, half open: its way back is noted, for those that its server opens before it is proven.
#[inline(always)]
pub(crate) fn choose<A: Family>(draft: &Draft<A>, now_ns: u64) {
    if draft.connection.via == 0 {
        return;
    }
    if let Some((reverse, rule)) = of::<A>(draft.reverse) {
        let real = u32::from(draft.connection.via) - 1;
        let entry = StickyEntry { last_used_ns: now_ns, life_s: reverse.life_s, real };
        sticky::note(rule, turned(&draft.connection), entry);
    }
}

/// The connection with this entry for the client's packets is proven: those of the other direction stick to where it came from.
#[inline(never)]
pub(crate) fn prove<A: Family>(connection: &FlowEntry<A>, now_ns: u64) {
    let Some((reverse, rule)) = group_of(connection) else { return };
    let ends = turned_entry(connection);
    if sticky::is_fixed(rule, ends) {
        return;
    }
    let real = u32::from(connection.via) - 1;
    let entry = StickyEntry { last_used_ns: now_ns, life_s: reverse.life_s, real };
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

/// The group in which the connection is entered, if it came in by a real of it.
#[inline(always)]
fn group_of<'a, A: Family>(connection: &FlowEntry<A>) -> Option<(&'static Reverse<A>, Rule<'a, A>)> {
    if connection.via == 0 {
        return None;
    }
    of(A::vservers().get(connection.vserver)?.reverse)
}
