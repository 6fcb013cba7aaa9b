//! Conversions to the API's types: the FT group, VLANs, neighbours.

use std::sync::atomic::Ordering;
use std::time::Duration;

use csm_common::gate;
use csm_common::net::{ADDRESS_ALIAS, PORT_CLIENT, PORT_FT};

use super::node::{Node, NodePort};
use crate::api::reply::ft::{
    Coverage, ForeignReply, ForeignWhy, FtCounters, FtReply, FtState, GateState, GrantHolder, LatenessBucket,
    LatenessReply, LeaseReply, Messages, PacketCounters, PathReply, PeerReply, ReadinessReply,
    RecorderAction, RecorderEntry, RefusalReply, RepairReply, ReplicationReply, SnapshotState, TableReply,
    WitnessReply,
};
use crate::api::reply::{NeighbourKind, NeighbourReply, NeighbourStatus, VlanReply, VlanRole, XdpMode};
use crate::dataplane::load::AttachMode;
use crate::dataplane::table::monotonic_ns;
use crate::ft::foreign::{Foreign, Why};
use crate::ft::keyring::Trust;
use crate::ft::paths::PathStatus;
use crate::ft::status::{FlightKind, FtStatus, KindCount, LATENESS_BOUNDS_US, PeerStatus};
use crate::ft::witness::votes::WitnessStatus;
use crate::ft::{FtControl, State};
use crate::model::{Family, FtGroup, Vlan, VlanId};
use crate::replication::record::Refusal;
use crate::replication::status::{ReceiverStatus, ReplStatus, SenderStatus};

/// The FT group.
pub(super) fn ft(node: &Node, control: &FtControl) -> FtReply {
    let status = control.status();
    let (replication, repl_now) =
        node.replication.as_ref().map(|handle| (handle.status(), handle.now())).unwrap_or_default();
    let peer = status.peer.as_ref();
    let config = node.config();
    let interface = node.ports.iter().find(|port| port.spec.role == PORT_FT);
    FtReply {
        group: status.group,
        vlan: status.vlan,
        interface: interface.map(|port| port.spec.name.clone()).unwrap_or_default(),
        state: state(status.state),
        machine: status.state.to_string(),
        reason: status.reason.to_string(),
        changed_unix_ms: status.changed_wall_ns / 1_000_000,
        term: status.term,
        priority: status.priority,
        alternate_priority: config
            .ft
            .as_ref()
            .and_then(|ft: &FtGroup| ft.alt_priority)
            .or(peer.map(|peer| peer.priority)),
        preempt: status.preempt,
        preempt_held: status.preempt_held,
        preempt_damped_ms: status.preempt_damped.map(millis),
        returns: status.returns,
        heartbeat_ms: millis32(status.heartbeat),
        failover_ms: millis32(status.failover),
        config_in_sync: peer.map(|peer| peer.config_in_sync),
        software_in_sync: peer.map(|peer| peer.software_in_sync),
        timers_in_sync: peer.map(|peer| peer.timers_in_sync),
        authenticated: authenticated(status.trust).map(str::to_owned),
        paths: status.paths.iter().flatten().map(path_reply).collect(),
        macs: node.mac_replies(),
        foreign: status.foreign.iter().flatten().map(foreign_reply).collect(),
        encrypted: replication.encrypted(),
        witness: status.witness.as_ref().map(|witness| witness_reply(witness, status.node)),
        peer: peer.map(peer_reply),
        tracking: node.track.as_ref().map(super::tracking::reply),
        readiness: readiness(node, &status, &replication),
        replication: replication_reply(node, &replication, repl_now),
        lease: lease(node, &status),
        lateness: lateness(&status),
        counters: counters(&status, &replication),
        overlaps: status.overlaps,
        overlap_last_us: micros(status.overlap_last),
        recorder: recorder(&status),
    }
}

pub(super) const fn state(state: State) -> FtState {
    match state {
        State::Init | State::Left => FtState::Initializing,
        State::Active => FtState::Active,
        State::Standby | State::Candidate | State::RelayOut => FtState::Standby,
    }
}

const fn authenticated(trust: Trust) -> Option<&'static str> {
    match trust {
        Trust::None => None,
        Trust::Agreed => Some("key agreed over the FT VLAN"),
        Trust::Accepting => Some("configured key, not required yet"),
        Trust::Configured => Some("configured key"),
    }
}

fn path_reply(path: &PathStatus) -> PathReply {
    PathReply {
        vlan: path.vlan,
        heard: path.is_heard,
        heard_ms_ago: path.age.map(millis),
        hears_us: path.hears_us,
        sent: path.sent,
        send_errors: path.send_errors,
        received: path.received,
        missing: path.missing,
    }
}

fn witness_reply(witness: &WitnessStatus, node: u64) -> WitnessReply {
    WitnessReply {
        address: witness.address.ip().to_string(),
        port: witness.address.port(),
        answers: witness.answers,
        answered_ms_ago: witness.age.map(millis),
        holder: match witness.holder {
            0 => GrantHolder::Nobody,
            holder if holder == node => GrantHolder::ThisBox,
            _ => GrantHolder::Another,
        },
        granted_us: witness.granted.map(micros),
        spoken_for_us: witness.spoken_for.map(micros),
        peer_has_one: witness.peer_has_one,
        sent: witness.sent,
        send_errors: witness.send_errors,
        received: witness.received,
        refused: witness.refused,
        dropped: witness.dropped,
    }
}

fn peer_reply(peer: &PeerStatus) -> PeerReply {
    PeerReply {
        node: format!("{:016x}", peer.node),
        address: peer.address.to_string(),
        state: state(peer.state),
        priority: peer.priority,
        forwardable: peer.forwardable,
        eligible: peer.eligible,
        replica_complete: peer.replica_complete,
        hears_us: peer.hears_us,
        heard_ms_ago: millis(peer.age),
        heartbeat_ms: millis32(peer.heartbeat),
        failover_ms: millis32(peer.failover),
    }
}

fn foreign_reply(foreign: &Foreign) -> ForeignReply {
    ForeignReply {
        vlan: foreign.vlan,
        address: foreign.address.to_string(),
        group: foreign.group,
        why: match foreign.why {
            Why::Group => ForeignWhy::OtherGroup,
            Why::Key => ForeignWhy::OtherKey,
            Why::Unauthenticated => ForeignWhy::NoKey,
            Why::Third => ForeignWhy::ThirdBox,
            Why::Twin => ForeignWhy::OwnIdentity,
        },
        count: foreign.count,
        heard_ms_ago: millis(foreign.age),
    }
}

/// What stands against a takeover, from whichever node is asked.
fn readiness(node: &Node, status: &FtStatus, replication: &ReplStatus) -> ReadinessReply {
    let mut obstacles: Vec<String> = node
        .dead_ports()
        .map(|port| format!("this box cannot forward: {} (vlan {}) has no link", port.name, port.vlan))
        .collect();
    let stalled = !status.forwardable && obstacles.is_empty();
    let mut against = |stands: bool, clause: &str| {
        if stands {
            obstacles.push(clause.to_owned());
        }
    };
    let active = status.state == State::Active;
    against(stalled, "this box cannot forward: its controller stalls");
    match &status.peer {
        None => against(true, "no peer is heard"),
        Some(peer) => {
            against(status.paths[0].is_some_and(|path| !path.is_heard), "the FT VLAN is down");
            against(!peer.hears_us, "the peer does not hear this box");
            against(!peer.forwardable, "the peer cannot forward");
            against(!active && peer.state != State::Active, "no box is active");
            against(active && !peer.replica_complete, "the peer's replica is not complete");
            against(!active && !status.replica_complete, "this box's replica is not complete");
            against(!peer.config_in_sync, "the configurations differ");
            against(!peer.software_in_sync, "the software differs");
            against(!peer.timers_in_sync, "the timers differ");
        }
    }
    let peer_eligible = status.peer.as_ref().is_none_or(|peer| peer.eligible);
    if let Some(track) = &node.track {
        against(active && !peer_eligible && !track.follows_groups(), "tracking stands against the peer");
        if !active {
            track.obstacles().iter().for_each(|obstacle| against(true, obstacle));
        }
    }
    let refused = replication.outgoing.as_ref().map_or(0, |sender| sender.refused_buckets);
    against(refused > 0, "the peer refuses some entries");
    ReadinessReply {
        ready: obstacles.is_empty(),
        forwardable: status.forwardable,
        eligible: status.eligible,
        obstacles,
    }
}

fn replication_reply(node: &Node, status: &ReplStatus, now: Duration) -> ReplicationReply {
    let (connected, snapshot) = match (status.active, &status.outgoing, &status.incoming) {
        (true, Some(sender), _) => (true, sent_snapshot(sender)),
        (false, _, Some(receiver)) => (true, received_snapshot(receiver)),
        _ => (false, SnapshotState::None),
    };
    let sender = status.outgoing.as_ref().filter(|_| status.active);
    let receiver = status.incoming.as_ref().filter(|_| !status.active);
    let compared = sender.and_then(|sender| sender.coverage);
    let refused = sender.map(|sender| sender.refused).or(receiver.map(|receiver| receiver.refused));
    let refused = refused.unwrap_or_default();
    ReplicationReply {
        connected,
        last_close: status.last_close.clone(),
        snapshot,
        connections: compared.map(|(_, coverage)| Coverage {
            held: coverage.connections_held,
            known: coverage.connections_known,
        }),
        sticky: compared
            .map(|(_, coverage)| Coverage { held: coverage.sticky_held, known: coverage.sticky_known }),
        lag_ms: sender.map(|sender| millis32(sender.lag)).or(receiver.map(|receiver| receiver.lag_ms)),
        table: node.walked.get().map(|walked| TableReply {
            connections: walked.census.connections,
            sticky: walked.census.sticky,
            walked_ms_ago: walked.ms_ago(),
        }),
        refused: refused.iter().sum(),
        refusals: Refusal::ALL
            .iter()
            .zip(refused)
            .filter(|(_, count)| *count != 0)
            .map(|(reason, count)| RefusalReply { reason: reason.to_string(), count })
            .collect(),
        lost: sender.map_or(0, |sender| sender.lost_events),
        handshakes: sender
            .map(|sender| sender.handshakes_told)
            .or(receiver.map(|receiver| receiver.handshakes))
            .unwrap_or_default(),
        handshakes_left_out: sender.map_or(0, |sender| sender.handshakes_left_out),
        compared_ms_ago: compared.map(|(age, _)| millis(age)),
        last_repair: sender.and_then(|sender| sender.last_repair).map(|repair| RepairReply {
            ms_ago: millis(now.saturating_sub(repair.at)),
            buckets: repair.buckets,
            entries: repair.entries,
        }),
    }
}

fn sent_snapshot(sender: &SenderStatus) -> SnapshotState {
    match sender.transfer {
        _ if sender.snapshot_epoch == 0 => SnapshotState::Running,
        Some(transfer) if transfer.full => SnapshotState::Running,
        _ if sender.refused_buckets > 0 => SnapshotState::Partial,
        _ => SnapshotState::Complete,
    }
}

fn received_snapshot(receiver: &ReceiverStatus) -> SnapshotState {
    match receiver.transfer {
        _ if receiver.snapshot_epoch == 0 => SnapshotState::Running,
        Some(transfer) if transfer.full => SnapshotState::Running,
        _ if receiver.complete => SnapshotState::Complete,
        _ => SnapshotState::Partial,
    }
}

fn lease(node: &Node, status: &FtStatus) -> LeaseReply {
    let (gate, now_ns) = (node.gate.load(), monotonic_ns());
    let now_in = gate.state_at(now_ns);
    LeaseReply {
        gate: match now_in {
            gate::GateState::Closed => GateState::Closed,
            gate::GateState::RelayIn => GateState::RelayIn,
            gate::GateState::Open => GateState::Open,
            gate::GateState::RelayOut => GateState::RelayOut,
        },
        remaining_us: (now_in != gate::GateState::Closed)
            .then(|| gate.deadline_ns().saturating_sub(now_ns) / 1_000),
        length_us: micros(status.lease),
        peer_length_us: status.peer.as_ref().map(|peer| micros(peer.lease)),
    }
}

fn lateness(status: &FtStatus) -> LatenessReply {
    let bounds = LATENESS_BOUNDS_US.iter().copied().map(Some).chain([None]);
    LatenessReply {
        realtime: status.realtime,
        locked: status.memory_locked,
        worst_us: status.lateness.worst_ns / 1_000,
        too_late: status.lateness.too_late,
        histogram: bounds
            .zip(status.lateness.buckets)
            .map(|(up_to_us, count)| LatenessBucket { up_to_us, count })
            .collect(),
    }
}

fn counters(status: &FtStatus, replication: &ReplStatus) -> FtCounters {
    let counters = &status.counters;
    let decode = &counters.decode;
    let failed = decode.checksum + counters.unauthenticated + counters.wrong_key;
    let (sender, receiver) = (replication.outgoing.as_ref(), replication.incoming.as_ref());
    FtCounters {
        send_uncommitted: sender.map(|sender| sender.unacked as u64),
        coup: messages(counters.coup),
        election: messages(counters.elect),
        heartbeat: messages(counters.heartbeat),
        relinquish: messages(counters.relinquish),
        conn_replicate: Messages {
            sent: sender.map(|sender| sender.sent),
            received: receiver.map(|receiver| receiver.applied),
        },
        conn_reset: Messages { sent: None, received: receiver.map(|receiver| receiver.deleted) },
        messages_lost: sender.map(|sender| sender.lost_events),
        messages_rejected: sender.map(|sender| sender.refused.iter().sum()),
        packets: PacketCounters {
            received: Some(counters.packets),
            dropped: Some(counters.dropped),
            duplicates: Some(counters.duplicates),
            checksum_failed: Some(failed),
            dumped: Some(counters.dropped.saturating_sub(counters.duplicates + failed)),
            ..PacketCounters::default()
        },
        ..FtCounters::default()
    }
}

const fn messages(count: KindCount) -> Messages {
    Messages { sent: Some(count.sent), received: Some(count.received) }
}

fn recorder(status: &FtStatus) -> Vec<RecorderEntry> {
    let flights = status.flights.iter();
    flights
        .map(|flight| RecorderEntry {
            at_unix_ms: flight.wall_ns / 1_000_000,
            action: match flight.kind {
                FlightKind::Claim => RecorderAction::Claim,
                FlightKind::Fence => RecorderAction::Fence,
            },
            term: flight.term,
            reason: flight.reason.to_string(),
            peer_heard_ms_ago: flight.path_age.map(millis),
            lateness_us: micros(flight.lateness),
        })
        .collect()
}

/// The VLANs, the FT VLAN last.
pub(super) fn vlans(node: &Node) -> Vec<VlanReply> {
    let mode = |port: &NodePort| match node.modes.get(&port.spec.ifindex)? {
        AttachMode::Native => Some(XdpMode::Native),
        AttachMode::Generic => Some(XdpMode::Generic),
    };
    let port_of = |vlan: VlanId| node.ports.iter().find(|port| port.spec.vlan == vlan.get());
    let row = |vlan: VlanId, role: VlanRole, port: Option<&NodePort>| VlanReply {
        vlan: vlan.get(),
        role,
        address: None,
        netmask: None,
        alias: None,
        address6: None,
        prefix_length6: None,
        alias6: None,
        gateways: Vec::new(),
        interface: port.map(|port| port.spec.name.clone()).unwrap_or_default(),
        mac: port.map(|port| mac(port.spec.mac)),
        carrier: port.map(|port| port.carrying.load(Ordering::Acquire)),
        xdp: port.and_then(mode),
    };
    let config = node.config();
    let mut rows: Vec<VlanReply> = Vec::new();
    for vlan in &config.vlans {
        let port = port_of(vlan.id);
        let role = match port.map(|port| port.spec.role) {
            Some(PORT_CLIENT) => VlanRole::Client,
            Some(_) => VlanRole::Server,
            None if vlan.role == crate::model::VlanRole::Client => VlanRole::Client,
            None => VlanRole::Server,
        };
        rows.push(VlanReply {
            address: vlan.address.map(|net| net.addr().into()),
            netmask: vlan.address.map(|net| net.netmask().into()),
            alias: vlan.alias.map(|net| net.addr().into()),
            address6: vlan.address6.map(|net| net.addr().into()),
            prefix_length6: vlan.address6.map(|net| net.prefix_len()),
            alias6: vlan.alias6.map(|net| net.addr().into()),
            gateways: vlan.gateways.clone(),
            ..row(vlan.id, role, port)
        });
    }
    rows.extend(config.ft.iter().map(|ft| row(ft.vlan, VlanRole::Ft, port_of(ft.vlan))));
    rows
}

/// Addresses of the group, then the neighbours.
pub(super) fn neighbours(node: &Node) -> Vec<NeighbourReply> {
    let (config, desired) = (node.config(), node.desired());
    let virtual_mac = csm_common::net::virtual_mac(config.ft.as_ref().map_or(0, |ft| ft.group));
    let answers = node.gate.load().state_at(monotonic_ns()) == gate::GateState::Open;
    let mut rows: Vec<NeighbourReply> = desired
        .group_addresses()
        .into_iter()
        .map(|(kind, vlan, address)| NeighbourReply {
            address,
            mac: Some(mac(virtual_mac)),
            vlan: Some(vlan.get()),
            kind: if kind == ADDRESS_ALIAS { NeighbourKind::Alias } else { NeighbourKind::Vserver },
            status: if answers { NeighbourStatus::Local } else { NeighbourStatus::Silent },
        })
        .collect();
    let reals = || config.serverfarms.iter().flat_map(|farm| &farm.reals);
    let is_peer = |vlan: &Vlan, address| {
        Family::ALL.iter().any(|&family| vlan.peer(family).is_some_and(|peer| peer.addr() == address))
    };
    let hosts = node.neighbours.list().into_iter();
    for (host, _, known) in hosts.filter(|(host, ..)| host.tunnel.is_none()) {
        let address = host.address;
        let fixed = |arp: &crate::model::StaticArp| (arp.address, arp.vlan.get()) == (address, host.vlan);
        let kind = if config.arps.iter().any(fixed) {
            NeighbourKind::Static
        } else if config.vlans.iter().any(|vlan| vlan.gateways.contains(&address)) {
            NeighbourKind::Gateway
        } else if reals().any(|real| real.address == address) {
            NeighbourKind::Real
        } else if config.vlans.iter().any(|vlan| is_peer(vlan, address)) {
            NeighbourKind::Peer
        } else {
            NeighbourKind::Learned
        };
        rows.push(NeighbourReply {
            address,
            mac: known.map(mac),
            vlan: Some(host.vlan),
            kind,
            status: if known.is_some() { NeighbourStatus::Up } else { NeighbourStatus::Resolving },
        });
    }
    rows.sort_by_key(|row| (row.vlan, row.address));
    rows
}

pub(super) fn mac(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn millis32(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
