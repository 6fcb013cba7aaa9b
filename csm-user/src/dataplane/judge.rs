//! What becomes of an entry of the connection and sticky tables. Pure.

use csm_common::address::Address;
use csm_common::flow::{FLAG_RESET, FlowEntry, STATE_CLEARED, STATE_CLOSED, STATE_ESTABLISHED};
use csm_common::service::StickyEntry;

/// How long a finished connection stays for late segments.
pub const CLOSED_NS: u64 = 5 * SECOND;
/// How long an entry may stand without its twin: between both inserts of the XDP program lie microseconds.
pub const ORPHAN_NS: u64 = 10 * SECOND;
/// How long a cleared connection without an idle time is barred, seconds.
const BARRED_S: u32 = 3600;
/// `last_seen` is written at most once a second: an entry may be younger than it looks by that much.
const COARSE_NS: u64 = SECOND;
const SECOND: u64 = 1_000_000_000;

/// What counts for one connection; times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// It is replicated.
    pub replicated: bool,
    /// Proven and idle; 0: never.
    pub idle_s: u32,
    /// Half-open.
    pub pending_s: u32,
}

/// Thousandths of a table that are taken before its idle times shrink.
pub const CROWDED: u32 = 800;
/// No idle time shrinks below so many seconds.
const IDLE_LEAST_S: u32 = 60;

/// What is left of the idle time `idle_s` in a table of which `fill` thousandths are taken: all of it up to [`CROWDED`], a minute
/// in a full one, in proportion between. So idle connections make room before new ones find none; whatever has packets
/// stays, and so does what has no idle time (0).
#[must_use]
pub fn pressed(idle_s: u32, fill: u32) -> u32 {
    let room = 1000 - fill.clamp(CROWDED, 1000);
    let least = idle_s.min(IDLE_LEAST_S);
    let rest = u64::from(idle_s - least) * u64::from(room) / u64::from(1000 - CROWDED);
    least + u32::try_from(rest).unwrap_or(u32::MAX - least)
}

/// What is the same for all entries at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// CLOCK_MONOTONIC, ns.
    pub now_ns: u64,
    /// Last takeover: entries count as seen then.
    pub adopted_ns: u64,
    /// This node is active.
    pub active: bool,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// Both directions were idle for too long.
    Idle,
    /// Finished, and late segments have had their time.
    Closed,
    /// Half-open for too long.
    Pending,
    /// Its twin is missing.
    Orphan,
}

/// What becomes of `entry`; `twin` is its other direction, `None` if there is none.
///
/// A node that is not active keeps replicated connections whatever its own clock says: it does not see their packets,
/// and the active sends their deletion.
#[must_use]
pub fn judge<A: Address>(
    entry: &FlowEntry<A>,
    twin: Option<&FlowEntry<A>>,
    times: Times,
    clock: Clock,
) -> Verdict {
    let seen_ns = entry.last_seen_ns.max(twin.map_or(0, |twin| twin.last_seen_ns));
    let state = entry.state.max(twin.map_or(0, |twin| twin.state));
    let idle_ns = clock.now_ns.saturating_sub(seen_ns.max(clock.adopted_ns));
    let beyond = |limit_ns: u64| idle_ns > limit_ns + COARSE_NS;
    let Some(twin) = twin else {
        return if beyond(ORPHAN_NS) { Verdict::Orphan } else { Verdict::Keep };
    };
    if state == STATE_CLEARED {
        // An end that has not been told yet stays barred for as long as it would have had the connection.
        let told = entry.flags & twin.flags & FLAG_RESET != 0;
        let idle_s = if times.idle_s == 0 { BARRED_S } else { times.idle_s };
        let limit_ns = if told { CLOSED_NS } else { u64::from(idle_s) * SECOND };
        return if beyond(limit_ns) { Verdict::Closed } else { Verdict::Keep };
    }
    if state == STATE_CLOSED {
        return if beyond(CLOSED_NS) { Verdict::Closed } else { Verdict::Keep };
    }
    if times.replicated && state >= STATE_ESTABLISHED && !clock.active {
        return Verdict::Keep;
    }
    if state < STATE_ESTABLISHED {
        return if beyond(u64::from(times.pending_s) * SECOND) { Verdict::Pending } else { Verdict::Keep };
    }
    if times.idle_s != 0 && beyond(u64::from(times.idle_s) * SECOND) { Verdict::Idle } else { Verdict::Keep }
}

/// True if a sticky entry's life is over. A node that is not active keeps replicated ones; those of the configuration stay.
#[must_use]
pub fn sticky_over(entry: &StickyEntry, replicated: bool, clock: Clock) -> bool {
    let used_ns = entry.last_used_ns.max(clock.adopted_ns);
    let over = clock.now_ns.saturating_sub(used_ns) > u64::from(entry.life_s) * SECOND + COARSE_NS;
    over && !entry.is_fixed() && (clock.active || !replicated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::table::tests::connection;
    use csm_common::flow::{Connection, Local, STATE_SYN};

    const TIMES: Times = Times { replicated: false, idle_s: 60, pending_s: 30 };
    const ACTIVE: Clock = Clock { now_ns: 1000 * SECOND, adopted_ns: 0, active: true };

    fn entry(seen_s: u64, state: u8, flags: u8) -> FlowEntry {
        let connection = Connection { state, ..connection(1000, 1) };
        let local = Local { to_server: 1, to_client: 2, now_ns: seen_s * SECOND, flags, mark: 0 };
        connection.forward_entry(&local)
    }

    #[test]
    fn a_pair_is_as_young_as_its_younger_half() {
        let (old, young) = (entry(900, STATE_ESTABLISHED, 0), entry(990, STATE_ESTABLISHED, 0));
        assert_eq!(judge(&old, Some(&old), TIMES, ACTIVE), Verdict::Idle);
        assert_eq!(judge(&old, Some(&young), TIMES, ACTIVE), Verdict::Keep);
        assert_eq!(judge(&young, Some(&old), TIMES, ACTIVE), Verdict::Keep);
    }

    #[test]
    fn the_limit_is_the_idle_time_and_the_coarse_second_and_0_is_never() {
        let at = |seen_s| entry(seen_s, STATE_ESTABLISHED, 0);
        assert_eq!(judge(&at(939), Some(&at(939)), TIMES, ACTIVE), Verdict::Keep);
        assert_eq!(judge(&at(938), Some(&at(938)), TIMES, ACTIVE), Verdict::Idle);
        assert_eq!(judge(&at(1), Some(&at(1)), Times { idle_s: 0, ..TIMES }, ACTIVE), Verdict::Keep);
    }

    #[test]
    fn in_a_crowded_table_idle_times_shrink_to_a_minute() {
        for (fill, left) in [(0, 3600), (800, 3600), (900, 1830), (1000, 60), (2000, 60)] {
            assert_eq!(pressed(3600, fill), left, "{fill}");
        }
        assert_eq!(
            [0, 30, 60].map(|idle_s| pressed(idle_s, 1000)),
            [0, 30, 60],
            "never, and what is short already"
        );
        assert_eq!(pressed(u32::MAX, 0), u32::MAX);
    }

    #[test]
    fn idle_times_start_anew_at_a_takeover() {
        let old = entry(1, STATE_ESTABLISHED, 0);
        assert_eq!(
            judge(&old, Some(&old), TIMES, Clock { adopted_ns: 990 * SECOND, ..ACTIVE }),
            Verdict::Keep
        );
        assert_eq!(
            judge(&old, Some(&old), TIMES, Clock { adopted_ns: 900 * SECOND, ..ACTIVE }),
            Verdict::Idle
        );
    }

    #[test]
    fn a_standby_keeps_what_the_active_replicates() {
        let standby = Clock { active: false, ..ACTIVE };
        let old = entry(1, STATE_ESTABLISHED, 0);
        let replicated = Times { replicated: true, ..TIMES };
        assert_eq!(judge(&old, Some(&old), replicated, standby), Verdict::Keep);
        assert_eq!(judge(&old, Some(&old), TIMES, standby), Verdict::Idle, "nobody else will delete it");
        assert_eq!(judge(&old, None, replicated, standby), Verdict::Orphan);
    }

    #[test]
    fn finished_and_half_open_ones_have_their_own_times() {
        let at = |seen_s, state| entry(seen_s, state, 0);
        let (closed, syn) = (at(993, STATE_CLOSED), at(960, STATE_SYN));
        assert_eq!(judge(&closed, Some(&closed), TIMES, ACTIVE), Verdict::Closed);
        assert_eq!(judge(&at(996, STATE_CLOSED), Some(&closed), TIMES, ACTIVE), Verdict::Keep);
        assert_eq!(judge(&syn, Some(&syn), TIMES, ACTIVE), Verdict::Pending);
        let syn = at(980, STATE_SYN);
        assert_eq!(judge(&syn, Some(&syn), TIMES, ACTIVE), Verdict::Keep);
    }

    #[test]
    fn a_cleared_one_goes_soon_once_both_ends_know_and_is_barred_for_its_idle_time_else() {
        let at = |seen_s, flags| entry(seen_s, STATE_CLEARED, flags);
        let (told, untold) = (at(993, FLAG_RESET), at(993, 0));
        assert_eq!(judge(&told, Some(&told), TIMES, ACTIVE), Verdict::Closed);
        assert_eq!(judge(&told, Some(&at(996, FLAG_RESET)), TIMES, ACTIVE), Verdict::Keep);
        assert_eq!(judge(&told, Some(&untold), TIMES, ACTIVE), Verdict::Keep);
        assert_eq!(judge(&untold, Some(&told), TIMES, ACTIVE), Verdict::Keep);
        assert_eq!(judge(&at(938, FLAG_RESET), Some(&at(938, 0)), TIMES, ACTIVE), Verdict::Closed);
    }

    #[test]
    fn an_entry_without_its_twin_goes_after_a_grace_time() {
        assert_eq!(judge(&entry(995, STATE_ESTABLISHED, 0), None, TIMES, ACTIVE), Verdict::Keep);
        assert_eq!(judge(&entry(985, STATE_ESTABLISHED, 0), None, TIMES, ACTIVE), Verdict::Orphan);
    }

    #[test]
    fn a_sticky_entry_lives_from_its_last_use_or_the_takeover() {
        let entry = StickyEntry { last_used_ns: 900 * SECOND, life_s: 60, real: 0 };
        assert!(sticky_over(&entry, true, ACTIVE));
        assert!(!sticky_over(&entry, true, Clock { active: false, ..ACTIVE }));
        assert!(sticky_over(&entry, false, Clock { active: false, ..ACTIVE }));
        assert!(!sticky_over(&entry, true, Clock { adopted_ns: 950 * SECOND, ..ACTIVE }));
        assert!(!sticky_over(&StickyEntry::fixed(0), false, ACTIVE), "of the configuration");
    }
}
