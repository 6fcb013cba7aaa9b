//! Stickiness by an address: the client's, the one it speaks to, or both.
//!
//! A client is entered in the table that does not evict only once a connection of it is proven. Until then its choice
//! stands in a small table that does evict, so that connections opened side by side still go to one real.

use aya_ebpf::bindings::BPF_ANY;
use csm_common::address::V6;
use csm_common::event::Lost;
use csm_common::flow::{FlowEntry, FlowKey, NONE};
use csm_common::service::{
    self, REAL_STICKY, Real, StickyEntry, StickyKey, VSERVER_BACKUP, VSERVER_BACKUP_STICKY,
    VSERVER_STICKY_BOTH, VSERVER_STICKY_DESTINATION, VSERVER_STICKY_STATICS, Vserver,
};

use crate::family::Family;
use crate::{counter, event, maps};

const SECOND_NS: u64 = 1_000_000_000;

/// What sticks in a group, and by what of its addresses.
#[derive(Clone, Copy)]
pub(crate) struct Rule<'a, A> {
    /// As [`Vserver::sticky_group`].
    pub(crate) group: u32,
    /// `VSERVER_STICKY_*` bits.
    pub(crate) flags: u32,
    /// What of an address counts.
    pub(crate) mask_be: &'a A,
}

impl<'a, A: Family> Rule<'a, A> {
    #[inline(always)]
    const fn of(vserver: &'a Vserver<A>) -> Self {
        Self { group: vserver.sticky_group, flags: vserver.flags, mask_be: &vserver.sticky_mask_be }
    }
}

#[inline(always)]
pub(crate) fn key<A: Family>(rule: Rule<'_, A>, ends: Ends<'_, A>) -> StickyKey<A> {
    let Ends { client_be, virtual_be } = ends;
    let by_destination = rule.flags & VSERVER_STICKY_DESTINATION != 0;
    let mask_be = *rule.mask_be;
    let address_be = *if by_destination { virtual_be } else { client_be };
    let mut key = StickyKey { group: rule.group, client_be: address_be.masked(mask_be) };
    if A::HOLDS_BOTH && rule.flags & VSERVER_STICKY_BOTH != 0 {
        key.client_be.pair_with(virtual_be.masked(mask_be));
    }
    key
}

/// The key of IPv4 connections between `ends` if they are sticky by both addresses: the IPv6 tables have room for that. Those of IPv6
/// have theirs by [`key`].
#[inline(always)]
pub(crate) fn pair<A: Family>(rule: Rule<'_, A>, ends: Ends<'_, A>) -> Option<StickyKey<V6>> {
    let apart = !A::HOLDS_BOTH && rule.flags & VSERVER_STICKY_BOTH != 0;
    let Ends { client_be, virtual_be } = ends;
    apart.then(|| service::pair(rule.group, *client_be, *virtual_be, *rule.mask_be))
}

/// Both addresses that a client's packets have, network order.
#[derive(Clone, Copy)]
pub(crate) struct Ends<'a, A> {
    /// The client's.
    pub(crate) client_be: &'a A,
    /// The one it speaks to.
    pub(crate) virtual_be: &'a A,
}

impl<'a, A: Family> Ends<'a, A> {
    /// Of a packet from the client.
    #[inline(always)]
    pub(crate) const fn of(key: &'a FlowKey<A>) -> Self {
        Self { client_be: &key.src_be, virtual_be: &key.dst_be }
    }
}

/// The real that a connection between `ends` sticks to, if it still takes sticky clients; with `draining` even if it does not.
#[inline(always)]
pub(crate) fn find<A: Family>(
    vserver: &Vserver<A>,
    ends: Ends<'_, A>,
    now_ns: u64,
    draining: bool,
) -> Option<u32> {
    if vserver.sticky_s == 0 {
        return None;
    }
    let (proven, half_open) = entries(Rule::of(vserver), ends);
    usable(proven, vserver, now_ns, draining).or_else(|| usable(half_open, vserver, now_ns, draining))
}

/// What stands for connections between `ends`: by a proven one, and by one whose handshake is under way.
#[inline(always)]
pub(crate) fn entries<A: Family>(
    rule: Rule<'_, A>,
    ends: Ends<'_, A>,
) -> (Option<&'static StickyEntry>, Option<&'static StickyEntry>) {
    // SAFETY: an entry that is replaced meanwhile still names a real that its client was sent to.
    unsafe {
        match pair(rule, ends) {
            Some(key) => (V6::sticky().get(key), V6::embryonic_sticky().get(key)),
            None => {
                let key = key(rule, ends);
                (A::sticky().get(key), A::embryonic_sticky().get(key))
            }
        }
    }
}

#[inline(always)]
fn usable<A: Family>(
    entry: Option<&StickyEntry>,
    vserver: &Vserver<A>,
    now_ns: u64,
    draining: bool,
) -> Option<u32> {
    let &StickyEntry { last_used_ns, life_s, real: number } = entry?;
    // What the peer's clients used last is not replicated: as for connections, a takeover starts all timers anew.
    let used_ns = last_used_ns.max(maps::SETTINGS.get(0)?.adopted_ns);
    let real = A::reals().get(number)?;
    let alive = life_s == 0 || now_ns < used_ns + u64::from(life_s) * SECOND_NS;
    (alive && (draining || real.flags & REAL_STICKY != 0) && is_of(vserver, real)).then_some(number)
}

/// Whether clients of `vserver` stick to `real`. A group may span farms; another farm's real may listen on another port.
#[inline(always)]
fn is_of<A: Family>(vserver: &Vserver<A>, real: &Real<A>) -> bool {
    real.farm == vserver.farm
        || vserver.flags & VSERVER_BACKUP_STICKY != 0 && real.farm == vserver.backup_farm
}

/// [`is_of`], where it is no matter of course: only of a backup farm that is chosen from without stickiness.
#[inline(always)]
fn sticks<A: Family>(vserver: &Vserver<A>, real: u32) -> bool {
    vserver.flags & (VSERVER_BACKUP | VSERVER_BACKUP_STICKY) != VSERVER_BACKUP
        || A::reals().get(real).is_some_and(|real| is_of(vserver, real))
}

/// A half-open connection between `ends` was sent to `real`.
#[inline(always)]
pub(crate) fn choose<A: Family>(vserver: &Vserver<A>, ends: Ends<'_, A>, real: u32, now_ns: u64) {
    if vserver.sticky_s != 0 && sticks(vserver, real) {
        let entry = StickyEntry { last_used_ns: now_ns, life_s: vserver.sticky_s, real };
        note(Rule::of(vserver), ends, entry);
    }
}

/// Enters a choice that no connection has proven yet.
#[inline(always)]
pub(crate) fn note<A: Family>(rule: Rule<'_, A>, ends: Ends<'_, A>, entry: StickyEntry) {
    // Without room the client is only not sticky yet.
    let _ = match pair(rule, ends) {
        Some(key) => V6::embryonic_sticky().insert(key, entry, u64::from(BPF_ANY)),
        None => A::embryonic_sticky().insert(key(rule, ends), entry, u64::from(BPF_ANY)),
    };
}

/// A connection was proven by the client's packet with key `flow`: it sticks to its real from now on.
#[inline(always)]
pub(crate) fn prove<A: Family>(flow: &FlowKey<A>, connection: &FlowEntry<A>, now_ns: u64) {
    let Some(vserver) = sticky_vserver(connection) else { return };
    if !sticks(vserver, connection.real) {
        return;
    }
    let rule = Rule::of(vserver);
    if is_fixed(rule, Ends::of(flow)) {
        return;
    }
    let entry = StickyEntry { last_used_ns: now_ns, life_s: vserver.sticky_s, real: connection.real };
    match pair(rule, Ends::of(flow)) {
        Some(key) => enter(key, entry),
        None => enter(key(rule, Ends::of(flow)), entry),
    }
}

#[inline(always)]
pub(crate) fn enter<A: Family>(key: StickyKey<A>, entry: StickyEntry) {
    if A::sticky().insert(key, entry, u64::from(BPF_ANY)).is_err() {
        return counter::lost(Lost::Sticky);
    }
    let _ = A::embryonic_sticky().remove(key);
    event::sticky(key, entry);
}

/// Whether connections between `ends` have their real by configuration.
#[inline(always)]
pub(crate) fn is_fixed<A: Family>(rule: Rule<'_, A>, ends: Ends<'_, A>) -> bool {
    rule.flags & VSERVER_STICKY_STATICS != 0 && entries(rule, ends).0.is_some_and(StickyEntry::is_fixed)
}

/// A connection is in use by the client's packet with key `flow`: the timer starts anew. Once a second, and on a stack of its own: the
/// caller's is full.
#[inline(never)]
pub(crate) fn touch<A: Family>(flow: &FlowKey<A>, connection: &FlowEntry<A>, now_ns: u64) {
    let Some(vserver) = sticky_vserver(connection) else { return };
    renew(Rule::of(vserver), Ends::of(flow), now_ns);
}

/// The timer of the entry for connections between `ends` starts anew.
#[inline(always)]
pub(crate) fn renew<A: Family>(rule: Rule<'_, A>, ends: Ends<'_, A>, now_ns: u64) {
    let entry = match pair(rule, ends) {
        Some(key) => V6::sticky().get_ptr_mut(key),
        None => A::sticky().get_ptr_mut(key(rule, ends)),
    };
    if let Some(entry) = entry {
        // SAFETY: one aligned store; of several CPUs any may be last.
        unsafe { (&raw mut (*entry).last_used_ns).write_volatile(now_ns) };
    }
}

#[inline(always)]
fn sticky_vserver<A: Family>(connection: &FlowEntry<A>) -> Option<&'static Vserver<A>> {
    if connection.real == NONE {
        return None;
    }
    A::vservers().get(connection.vserver).filter(|vserver| vserver.sticky_s != 0)
}
