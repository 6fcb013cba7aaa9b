//! `show module csm N ft [detail]`.

mod macs;
mod paths;
mod witness;

use std::fmt::{self, Write};

use super::time::{measured, timer, wall_clock};
use super::{track, yes};
use crate::api::reply::{
    Coverage, DifferenceReply, DifferenceSide, FtCounters, FtReply, FtState, GateState, LatenessReply,
    LeaseReply, PacketCounters, PeerReply, RecorderAction, RecorderEntry, RefusalReply, RepairReply,
    ReplicationReply, SnapshotState, TableReply,
};

/// Writes the listing; `None`: no FT group is configured.
pub fn write(out: &mut impl Write, ft: Option<&FtReply>, detail: bool) -> fmt::Result {
    let Some(ft) = ft else { return writeln!(out, "FT group is not configured") };
    summary(out, ft)?;
    paths::faults(out, &ft.paths)?;
    paths::foreign(out, &ft.foreign, detail)?;
    macs::faults(out, &ft.macs)?;
    witness::summary(out, ft.witness.as_ref())?;
    peer(out, ft.peer.as_ref())?;
    replica(out, ft.state, &ft.replication)?;
    track::summary(out, ft.tracking.as_ref())?;
    readiness(out, ft)?;
    writeln!(out, " FT messages are {}", security(ft))?;
    if detail {
        paths::table(out, &ft.paths)?;
        macs::table(out, &ft.macs)?;
        counters(out, &ft.counters)?;
        machine(out, ft)?;
        lease(out, &ft.lease)?;
        witness::detail(out, ft.witness.as_ref())?;
        lateness(out, &ft.lateness)?;
        recorder(out, &ft.recorder)?;
    }
    Ok(())
}

/// The commands in which the pair differs, one a line.
#[must_use]
pub fn differing(rows: &[DifferenceReply]) -> String {
    let mut out = " differing commands (- on the peer only, + on this box only):\n".to_owned();
    for DifferenceReply { section, line, side } in rows {
        let mark = if *side == DifferenceSide::Added { '+' } else { '-' };
        // The module's number is each box's own.
        let path: Vec<&str> = section.iter().skip(1).map(String::as_str).chain([line.as_str()]).collect();
        out += &format!("  {mark} {}\n", path.join(" / "));
    }
    out
}

const fn name(state: FtState) -> &'static str {
    match state {
        FtState::Initializing => "initializing",
        FtState::Standby => "standby",
        FtState::Active => "active",
    }
}

fn summary(out: &mut impl Write, ft: &FtReply) -> fmt::Result {
    writeln!(out, "FT group {}, vlan {}", ft.group, ft.vlan)?;
    writeln!(out, " This box is {}", name(ft.state))?;
    match ft.config_in_sync {
        Some(true) => writeln!(out, " Configuration is in-sync")?,
        Some(false) => writeln!(out, " Configuration is out-of-sync")?,
        None => {}
    }
    if ft.software_in_sync == Some(false) {
        writeln!(out, " Software is out-of-sync")?;
    }
    let (heartbeat, failover) = (timer(ft.heartbeat_ms), timer(ft.failover_ms));
    if ft.timers_in_sync == Some(false) {
        let theirs = ft.peer.as_ref().map(|peer| (timer(peer.heartbeat_ms), timer(peer.failover_ms)));
        let theirs = theirs.map(|(heartbeat, failover)| {
            format!(": the peer has heartbeat {heartbeat}, failover {failover}")
        });
        writeln!(out, " Timers are out-of-sync{}", theirs.unwrap_or_default())?;
    }
    let preempt = match (ft.preempt, ft.preempt_held, ft.preempt_damped_ms) {
        (true, true, _) => "on, but held by clear ft active".to_owned(),
        (true, false, Some(ms)) => {
            format!("on, but held for {} s: the role has come back {} times", ms.div_ceil(1000), ft.returns)
        }
        (true, false, None) => "on".to_owned(),
        (false, ..) => "off".to_owned(),
    };
    let priority = ft.priority;
    writeln!(
        out,
        " priority {priority}, heartbeat {heartbeat}, failover {failover}, preemption is {preempt}"
    )?;
    match ft.alternate_priority {
        Some(priority) => writeln!(out, " alternate priority {priority}"),
        None => Ok(()),
    }
}

fn peer(out: &mut impl Write, peer: Option<&PeerReply>) -> fmt::Result {
    let Some(peer) = peer else { return writeln!(out, " peer: not heard") };
    let PeerReply { node, address, state, priority, forwardable, eligible, replica_complete, .. } = peer;
    let (state, heard) = (name(*state), peer.heard_ms_ago);
    writeln!(
        out,
        " peer: {state}, priority {priority}, heard {heard} msec ago, address {address}, node {node}"
    )?;
    let (forwardable, eligible, complete) = (yes(*forwardable), yes(*eligible), yes(*replica_complete));
    let hears_us = yes(peer.hears_us);
    writeln!(
        out,
        "       can forward {forwardable}, eligible {eligible}, replica complete {complete}, hears this box {hears_us}"
    )
}

fn replica(out: &mut impl Write, state: FtState, replication: &ReplicationReply) -> fmt::Result {
    let ReplicationReply { connected, snapshot, lag_ms, refused, refusals, lost, handshakes, .. } =
        replication;
    if !connected {
        let why = replication.last_close.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        return writeln!(out, " replica: no stream to the peer{why}");
    }
    held(out, state, replication)?;
    let snapshot = match snapshot {
        SnapshotState::None => "none",
        SnapshotState::Running => "running",
        SnapshotState::Partial => "partial",
        SnapshotState::Complete => "complete",
    };
    let lag = lag_ms.map_or_else(|| "unknown".to_owned(), |ms| format!("{ms} msec"));
    writeln!(out, "          snapshot {snapshot}, lag {lag}, refused {refused}, lost {lost}")?;
    for RefusalReply { reason, count } in refusals {
        writeln!(out, "          refused {count}: {reason}")?;
    }
    match (state, *handshakes, replication.handshakes_left_out) {
        (_, 0, 0) => {}
        (FtState::Active, told, left_out) => {
            writeln!(out, "          handshakes under way told {told}, left out {left_out}")?;
        }
        (_, entered, _) => writeln!(out, "          handshakes under way entered {entered}")?,
    }
    if state != FtState::Active {
        return Ok(());
    }
    let compared = replication.compared_ms_ago.map_or_else(|| "never".to_owned(), ago);
    let repair = replication.last_repair.map_or_else(
        || "none".to_owned(),
        |RepairReply { ms_ago, buckets, entries }| {
            format!("{} of {buckets} buckets, {entries} entries", ago(ms_ago))
        },
    );
    writeln!(out, "          tables compared {compared}, last repair {repair}")
}

fn ago(ms: u64) -> String {
    format!("{} ago", measured(ms.saturating_mul(1000)))
}

/// The active node compares both tables; a standby knows only what stands in its own.
fn held(out: &mut impl Write, state: FtState, replication: &ReplicationReply) -> fmt::Result {
    if state == FtState::Active {
        let (connections, sticky) = (covered(replication.connections), covered(replication.sticky));
        return writeln!(out, " replica: standby holds {connections} connections, {sticky} sticky entries");
    }
    match replication.table {
        Some(TableReply { connections, sticky, walked_ms_ago }) => writeln!(
            out,
            " replica: this box holds {connections} connections, {sticky} sticky entries, counted {}",
            ago(walked_ms_ago)
        ),
        None => writeln!(out, " replica: this box has not counted its entries yet"),
    }
}

fn covered(coverage: Option<Coverage>) -> String {
    coverage.map_or_else(
        || "an unknown number of".to_owned(),
        |Coverage { held, known }| format!("{held} of {known}"),
    )
}

fn readiness(out: &mut impl Write, ft: &FtReply) -> fmt::Result {
    if ft.readiness.ready {
        return writeln!(out, " failover: ready");
    }
    writeln!(out, " failover: not ready")?;
    for obstacle in &ft.readiness.obstacles {
        writeln!(out, "           {obstacle}")?;
    }
    Ok(())
}

fn security(ft: &FtReply) -> String {
    let heartbeats = ft
        .authenticated
        .as_ref()
        .map_or_else(|| "not authenticated".to_owned(), |key| format!("authenticated ({key})"));
    format!("{heartbeats}, replication is {}encrypted", if ft.encrypted { "" } else { "not " })
}

/// A counter; what is not measured is a dash.
fn count(counter: Option<u64>) -> String {
    counter.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn counters(out: &mut impl Write, c: &FtCounters) -> fmt::Result {
    let (buffers, illegal) = (count(c.total_buffers), count(c.illegal_transitions));
    writeln!(out, " total buffer count {buffers}, illegal state transitions {illegal}")?;
    let (receive, send) = (count(c.receive_uncommitted), count(c.send_uncommitted));
    writeln!(out, " receive buffers not committed {receive}, send buffers not committed {send}")?;
    let (sent, received) = (count(c.updates.sent), count(c.updates.received));
    writeln!(out, " updates: sent {sent}, received {received}, committed {}", count(c.updates.committed))?;
    for (label, messages) in [
        ("coup", c.coup),
        ("election", c.election),
        ("heartbeat", c.heartbeat),
        ("relinquish", c.relinquish),
        ("conn replicate", c.conn_replicate),
        ("conn refresh", c.conn_refresh),
        ("conn reset", c.conn_reset),
    ] {
        let (sent, received) = (count(messages.sent), count(messages.received));
        writeln!(out, " {label} msgs: sent {sent}, received {received}")?;
    }
    let (lost, rejected) = (count(c.messages_lost), count(c.messages_rejected));
    writeln!(out, " conn redundancy errors: msgs lost {lost}, msgs rejected {rejected}")?;
    packets(out, &c.packets)?;
    let Some(transfers) = c.last_transfers else { return Ok(()) };
    writeln!(out, " number of state updates in last 8 transfers:")?;
    writeln!(out, "  {}", transfers.map(|updates| updates.to_string()).join(" "))
}

fn packets(out: &mut impl Write, packets: &PacketCounters) -> fmt::Result {
    let PacketCounters { received, dropped, duplicates, checksum_failed, dumped, buffer_unavailable } =
        *packets;
    let (received, dropped, duplicates) = (count(received), count(dropped), count(duplicates));
    let (failed, dumped, unavailable) = (count(checksum_failed), count(dumped), count(buffer_unavailable));
    writeln!(out, " packets: total received {received}, total dropped {dropped}, duplicates {duplicates}")?;
    writeln!(out, "          checksum failed {failed}, dumped {dumped}, buffer unavailable {unavailable}")
}

fn machine(out: &mut impl Write, ft: &FtReply) -> fmt::Result {
    let since = wall_clock(ft.changed_unix_ms);
    writeln!(out, " state: {}, term {}, since {since}: {}", ft.machine, ft.term, ft.reason)?;
    let (forwardable, eligible) = (yes(ft.readiness.forwardable), yes(ft.readiness.eligible));
    writeln!(out, "        can forward {forwardable}, eligible {eligible}, ft interface {}", ft.interface)?;
    match ft.overlaps {
        0 => Ok(()),
        overlaps => {
            writeln!(
                out,
                " overlaps of two active boxes: {overlaps}, the last {}",
                measured(ft.overlap_last_us)
            )
        }
    }
}

fn lease(out: &mut impl Write, lease: &LeaseReply) -> fmt::Result {
    let LeaseReply { gate, remaining_us, length_us, peer_length_us } = lease;
    let gate = match gate {
        GateState::Closed => "closed",
        GateState::RelayIn => "relay-in",
        GateState::Open => "open",
        GateState::RelayOut => "relay-out",
    };
    let remaining =
        remaining_us.map_or_else(String::new, |us| format!(", closes in {} unless renewed", measured(us)));
    let peer = peer_length_us.map_or_else(|| "unknown".to_owned(), measured);
    writeln!(out, " gate: {gate}{remaining}")?;
    writeln!(out, " lease: {}, peer's lease {peer}", measured(*length_us))
}

fn lateness(out: &mut impl Write, lateness: &LatenessReply) -> fmt::Result {
    let LatenessReply { realtime, locked, worst_us, too_late, histogram } = lateness;
    let (realtime, locked, worst) = (yes(*realtime), yes(*locked), measured(*worst_us));
    writeln!(out, " timer thread: real-time {realtime}, memory locked {locked}")?;
    writeln!(out, "               worst lateness {worst}, too late to act {too_late}")?;
    for bucket in histogram.iter().filter(|bucket| bucket.count != 0) {
        let bound =
            bucket.up_to_us.map_or_else(|| "later".to_owned(), |us| format!("up to {}", measured(us)));
        writeln!(out, "               {bound}: {}", bucket.count)?;
    }
    Ok(())
}

fn recorder(out: &mut impl Write, entries: &[RecorderEntry]) -> fmt::Result {
    writeln!(out, " last state changes:")?;
    for RecorderEntry { at_unix_ms, action, term, reason, peer_heard_ms_ago, lateness_us } in entries {
        let (at, late) = (wall_clock(*at_unix_ms), measured(*lateness_us));
        let action = match action {
            RecorderAction::Claim => "claim",
            RecorderAction::Fence => "fence",
        };
        let heard = peer_heard_ms_ago.map_or_else(|| "never".to_owned(), |ms| format!("{ms} msec before"));
        writeln!(out, "  {at} {action} of term {term}: {reason}, peer heard {heard}, lateness {late}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
