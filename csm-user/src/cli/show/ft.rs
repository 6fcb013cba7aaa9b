//! `show module csm N ft [detail]`.

use std::fmt::{self, Write};

use super::time::{measured, timer, wall_clock};
use super::yes;
use crate::api::reply::{
    Coverage, FtCounters, FtReply, FtState, GateState, LatenessReply, LeaseReply, PacketCounters, PeerReply,
    RecorderEntry, ReplicationReply, SnapshotState,
};

/// Writes the listing; `None`: no FT group is configured.
pub fn write(out: &mut impl Write, ft: Option<&FtReply>, detail: bool) -> fmt::Result {
    let Some(ft) = ft else { return writeln!(out, "FT group is not configured") };
    summary(out, ft)?;
    peer(out, ft.peer.as_ref())?;
    replica(out, ft.state, &ft.replication)?;
    readiness(out, ft)?;
    writeln!(out, " FT messages are {}", security(ft))?;
    if detail {
        counters(out, &ft.counters)?;
        lease(out, &ft.lease)?;
        lateness(out, &ft.lateness)?;
        recorder(out, &ft.recorder)?;
    }
    Ok(())
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
    let preempt = if ft.preempt { "on" } else { "off" };
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
    let Some(peer) = peer else { return writeln!(out, " peer: never heard") };
    let PeerReply { node, address, state, priority, eligible, hears_us, heard_ms_ago, alive } = peer;
    let lost = if *alive { "" } else { "lost, it was " };
    writeln!(out, " peer: {lost}{}, priority {priority}, heard {heard_ms_ago} msec ago", name(*state))?;
    writeln!(
        out,
        "       node {node}, address {address}, eligible {}, hears this box {}",
        yes(*eligible),
        yes(*hears_us)
    )
}

fn replica(out: &mut impl Write, state: FtState, replication: &ReplicationReply) -> fmt::Result {
    let ReplicationReply { connected, snapshot, connections, sticky, lag_ms, refused, overflowed } =
        replication;
    if !connected {
        writeln!(out, " replica: no stream to the peer")?;
    }
    let holder = if state == FtState::Active { "standby" } else { "this box" };
    let (connections, sticky) = (covered(*connections), covered(*sticky));
    writeln!(out, " replica: {holder} holds {connections} connections, {sticky} sticky entries")?;
    let snapshot = match snapshot {
        SnapshotState::None => "none",
        SnapshotState::Running => "running",
        SnapshotState::Complete => "complete",
    };
    let lag = lag_ms.map_or_else(|| "unknown".to_owned(), |ms| format!("{ms} msec"));
    writeln!(out, "          snapshot {snapshot}, lag {lag}, refused {refused}, overflowed {overflowed}")
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

const fn security(ft: &FtReply) -> &'static str {
    match (ft.authenticated, ft.encrypted) {
        (true, true) => "authenticated and encrypted",
        (true, false) => "authenticated, not encrypted",
        (false, true) => "encrypted, not authenticated",
        (false, false) => "not authenticated and not encrypted",
    }
}

fn counters(out: &mut impl Write, counters: &FtCounters) -> fmt::Result {
    let c = counters;
    let illegal = c.illegal_transitions;
    writeln!(out, " total buffer count {}, illegal state transitions {illegal}", c.total_buffers)?;
    let (receive, send) = (c.receive_uncommitted, c.send_uncommitted);
    writeln!(out, " receive buffers not committed {receive}, send buffers not committed {send}")?;
    let (sent, received, committed) = (c.updates.sent, c.updates.received, c.updates.committed);
    writeln!(out, " updates: sent {sent}, received {received}, committed {committed}")?;
    for (label, messages) in [
        ("coup", c.coup),
        ("election", c.election),
        ("heartbeat", c.heartbeat),
        ("relinquish", c.relinquish),
        ("conn replicate", c.conn_replicate),
        ("conn refresh", c.conn_refresh),
        ("conn reset", c.conn_reset),
    ] {
        writeln!(out, " {label} msgs: sent {}, received {}", messages.sent, messages.received)?;
    }
    let (lost, rejected) = (c.messages_lost, c.messages_rejected);
    writeln!(out, " conn redundancy errors: msgs lost {lost}, msgs rejected {rejected}")?;
    let PacketCounters { received, dropped, duplicates, checksum_failed, dumped, buffer_unavailable } =
        c.packets;
    writeln!(out, " packets: total received {received}, total dropped {dropped}, duplicates {duplicates}")?;
    writeln!(
        out,
        "          checksum failed {checksum_failed}, dumped {dumped}, buffer unavailable {buffer_unavailable}"
    )?;
    writeln!(out, " number of state updates in last 8 transfers:")?;
    writeln!(out, "  {}", c.last_transfers.map(|count| count.to_string()).join(" "))
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
    let LatenessReply { realtime, locked, wakeups, last_us, worst_us } = lateness;
    let (last, worst) = (measured(*last_us), measured(*worst_us));
    let (realtime, locked) = (yes(*realtime), yes(*locked));
    writeln!(out, " timer thread: real-time {realtime}, memory locked {locked}, wakeups {wakeups}")?;
    writeln!(out, "               lateness last {last}, worst {worst}")
}

fn recorder(out: &mut impl Write, entries: &[RecorderEntry]) -> fmt::Result {
    writeln!(out, " last state changes:")?;
    for entry in entries {
        let RecorderEntry { at_unix_ms, from, to, term, reason, peer_heard_ms_ago, lateness_us } = entry;
        let (at, late) = (wall_clock(*at_unix_ms), measured(*lateness_us));
        let heard = peer_heard_ms_ago.map_or_else(|| "never".to_owned(), |ms| format!("{ms} msec before"));
        writeln!(out, "  {at}: {} -> {}, term {term}: {reason}", name(*from), name(*to))?;
        writeln!(out, "    peer heard {heard}, lateness {late}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
