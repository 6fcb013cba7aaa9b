//! Rates of new connections, for a virtual server as a whole and for each of its clients.
//!
//! Asked for first packets only: what belongs to a connection, a half-open one included, costs nothing. A bucket is one word
//! that is exchanged in one step, so CPUs that ask at once never take more than it holds.

use aya_ebpf::bindings::BPF_NOEXIST;
use csm_common::counter::Reason;
use csm_common::rate::{Rate, RateKey, Refused};
use csm_common::service::Vserver;

use crate::family::Family;
use crate::packet::Packet;
use crate::{atomic, maps};

/// Exchanges that are tried: after so many that another CPU was faster with, the packet is refused.
const TRIES: u32 = 4;

/// Whether `packet` may open a connection to virtual server `number`; takes what that costs.
#[inline(always)]
pub(crate) fn admit<A: Family>(packet: &Packet<A>, number: u32, vserver: &Vserver<A>) -> Result<(), Reason> {
    if !vserver.rate.limits() && !vserver.client_rate.limits() {
        return Ok(());
    }
    let result = take(packet, number, vserver);
    if let Err(reason) = result {
        count(number, reason);
    }
    result
}

/// The virtual server's own bucket is only looked at first: who floods it from many addresses does not fill the clients' table,
/// and what one client sends too much of takes nothing from the others.
#[inline(never)]
fn take<A: Family>(packet: &Packet<A>, number: u32, vserver: &Vserver<A>) -> Result<(), Reason> {
    // The policies of a virtual server share its buckets.
    let number = if vserver.policy_of == 0 { number } else { vserver.policy_of - 1 };
    let bucket = maps::RATES.get_ptr_mut(number).ok_or(Reason::DropInternal)?;
    let (rate, now_ns) = (vserver.rate, packet.now_ns);
    // SAFETY: an element of the array, aligned to 8; whatever another CPU makes of it, it is a whole word.
    if rate.limits() && rate.take(unsafe { bucket.read_volatile() }, now_ns).is_none() {
        return Err(Reason::DropRate);
    }
    if vserver.client_rate.limits() {
        let client_be = packet.key.src_be.masked(vserver.client_rate_mask_be);
        let key = RateKey { vserver: number, client_be };
        if !take_client(&key, vserver.client_rate, now_ns) {
            return Err(Reason::DropClientRate);
        }
    }
    if rate.limits() && !take_from(bucket, rate.interval_ns, rate.burst, now_ns) {
        return Err(Reason::DropRate);
    }
    Ok(())
}

/// Takes one out of a client's bucket, which begins full.
#[inline(always)]
fn take_client<A: Family>(key: &RateKey<A>, rate: Rate, now_ns: u64) -> bool {
    if A::client_rates().get_ptr(key).is_none() {
        // Of two CPUs that meet the client for the first time one is the first.
        let _ = A::client_rates().insert(key, 0, u64::from(BPF_NOEXIST));
    }
    match A::client_rates().get_ptr_mut(key) {
        Some(bucket) => take_from(bucket, rate.interval_ns, rate.burst, now_ns),
        // Without room nobody can be told apart: the virtual server's own rate is what is left.
        None => true,
    }
}

/// Takes one out of `bucket`, a live element of a map.
#[inline(never)]
fn take_from(bucket: *mut u64, interval_ns: u32, burst: u32, now_ns: u64) -> bool {
    let rate = Rate { interval_ns, burst };
    for _ in 0..TRIES {
        // SAFETY: as in `take`.
        let due_ns = unsafe { bucket.read_volatile() };
        let Some(next_ns) = rate.take(due_ns, now_ns) else { return false };
        // SAFETY: an element of a map, aligned to 8, which is changed by this function only.
        if unsafe { atomic::replace(bucket, due_ns, next_ns) } {
            return true;
        }
    }
    false
}

/// Counts a first packet that virtual server `number` refused.
#[inline(always)]
pub(crate) fn count(number: u32, reason: Reason) {
    let Some(refused) = maps::REFUSED.get_ptr_mut(number) else { return };
    // SAFETY: this CPU's element; the program does not nest.
    let Refused { rate, client_rate, no_real, max_conns, owner_max_conns } = unsafe { &mut *refused };
    match reason {
        Reason::DropRate => *rate += 1,
        Reason::DropClientRate => *client_rate += 1,
        Reason::DropVserverFull => *max_conns += 1,
        Reason::DropOwnerFull => *owner_max_conns += 1,
        _ => *no_real += 1,
    }
}
