use expect_test::{Expect, expect};

use super::*;
use crate::api::reply::{Messages, ReadinessReply, UpdateCounters};

fn active() -> FtReply {
    let both = |sent, received| Messages { sent, received };
    FtReply {
        group: 1,
        vlan: 9,
        interface: "eth3".to_owned(),
        node: "00d4c1f77a0e93b2".to_owned(),
        state: FtState::Active,
        term: 7,
        priority: 20,
        alternate_priority: Some(10),
        preempt: true,
        heartbeat_ms: 50,
        failover_ms: 150,
        config_in_sync: Some(true),
        software_in_sync: Some(true),
        authenticated: false,
        encrypted: false,
        peer: Some(PeerReply {
            node: "7b1e6c2f90aa3d45".to_owned(),
            address: "fe80::ff:fe00:903%eth3".to_owned(),
            state: FtState::Standby,
            priority: 10,
            eligible: true,
            hears_us: true,
            heard_ms_ago: 12,
            alive: true,
        }),
        readiness: ReadinessReply { ready: true, forwardable: true, eligible: true, obstacles: Vec::new() },
        replication: ReplicationReply {
            connected: true,
            snapshot: SnapshotState::Complete,
            connections: Some(Coverage { held: 1003, known: 1003 }),
            sticky: Some(Coverage { held: 12, known: 12 }),
            lag_ms: Some(3),
            refused: 0,
            overflowed: 0,
        },
        lease: LeaseReply {
            gate: GateState::Open,
            remaining_us: Some(93_400),
            length_us: 100_000,
            peer_length_us: Some(100_000),
        },
        lateness: LatenessReply {
            realtime: true,
            locked: true,
            wakeups: 123_456,
            last_us: 18,
            worst_us: 2_940,
        },
        counters: FtCounters {
            total_buffers: 65_536,
            illegal_transitions: 0,
            receive_uncommitted: 1,
            send_uncommitted: 2,
            updates: UpdateCounters { sent: 12, received: 3, committed: 4 },
            coup: both(1, 2),
            election: both(3, 4),
            heartbeat: both(123_400, 123_399),
            relinquish: both(5, 6),
            conn_replicate: both(7, 8),
            conn_refresh: both(9, 10),
            conn_reset: both(11, 12),
            messages_lost: 13,
            messages_rejected: 14,
            packets: PacketCounters {
                received: 15,
                dropped: 16,
                duplicates: 17,
                checksum_failed: 18,
                dumped: 19,
                buffer_unavailable: 20,
            },
            last_transfers: [8, 7, 6, 5, 4, 3, 2, 1],
        },
        recorder: vec![
            RecorderEntry {
                at_unix_ms: 1_783_432_802_511,
                from: FtState::Initializing,
                to: FtState::Standby,
                term: 6,
                reason: "an active peer was heard".to_owned(),
                peer_heard_ms_ago: Some(0),
                lateness_us: 21,
            },
            RecorderEntry {
                at_unix_ms: 1_783_432_911_004,
                from: FtState::Standby,
                to: FtState::Active,
                term: 7,
                reason: "the peer was silent for its failover time".to_owned(),
                peer_heard_ms_ago: Some(151),
                lateness_us: 1_204,
            },
        ],
    }
}

fn check(ft: Option<&FtReply>, detail: bool, expected: &Expect) {
    let mut text = String::new();
    write(&mut text, ft, detail).expect("a string takes everything");
    expected.assert_eq(&text);
}

#[test]
fn an_active_node() {
    check(
        Some(&active()),
        false,
        &expect![[r#"
        FT group 1, vlan 9
         This box is active
         Configuration is in-sync
         priority 20, heartbeat msec 50, failover msec 150, preemption is on
         alternate priority 10
         peer: standby, priority 10, heard 12 msec ago
               node 7b1e6c2f90aa3d45, address fe80::ff:fe00:903%eth3, eligible yes, hears this box yes
         replica: standby holds 1003 of 1003 connections, 12 of 12 sticky entries
                  snapshot complete, lag 3 msec, refused 0, overflowed 0
         failover: ready
         FT messages are not authenticated and not encrypted
    "#]],
    );
}

#[test]
fn an_active_node_in_detail() {
    check(
        Some(&active()),
        true,
        &expect![[r#"
        FT group 1, vlan 9
         This box is active
         Configuration is in-sync
         priority 20, heartbeat msec 50, failover msec 150, preemption is on
         alternate priority 10
         peer: standby, priority 10, heard 12 msec ago
               node 7b1e6c2f90aa3d45, address fe80::ff:fe00:903%eth3, eligible yes, hears this box yes
         replica: standby holds 1003 of 1003 connections, 12 of 12 sticky entries
                  snapshot complete, lag 3 msec, refused 0, overflowed 0
         failover: ready
         FT messages are not authenticated and not encrypted
         total buffer count 65536, illegal state transitions 0
         receive buffers not committed 1, send buffers not committed 2
         updates: sent 12, received 3, committed 4
         coup msgs: sent 1, received 2
         election msgs: sent 3, received 4
         heartbeat msgs: sent 123400, received 123399
         relinquish msgs: sent 5, received 6
         conn replicate msgs: sent 7, received 8
         conn refresh msgs: sent 9, received 10
         conn reset msgs: sent 11, received 12
         conn redundancy errors: msgs lost 13, msgs rejected 14
         packets: total received 15, total dropped 16, duplicates 17
                  checksum failed 18, dumped 19, buffer unavailable 20
         number of state updates in last 8 transfers:
          8 7 6 5 4 3 2 1
         gate: open, closes in 93.4 msec unless renewed
         lease: 100.0 msec, peer's lease 100.0 msec
         timer thread: real-time yes, memory locked yes, wakeups 123456
                       lateness last 18 usec, worst 2.9 msec
         last state changes:
          Jul  7 2026 14:00:02.511 UTC: initializing -> standby, term 6: an active peer was heard
            peer heard 0 msec before, lateness 21 usec
          Jul  7 2026 14:01:51.004 UTC: standby -> active, term 7: the peer was silent for its failover time
            peer heard 151 msec before, lateness 1.2 msec
    "#]],
    );
}

#[test]
fn a_standby_whose_replica_is_incomplete() {
    let mut ft = active();
    ft.state = FtState::Standby;
    ft.config_in_sync = Some(false);
    ft.software_in_sync = Some(false);
    (ft.heartbeat_ms, ft.failover_ms, ft.alternate_priority, ft.preempt) = (1000, 3000, None, false);
    ft.authenticated = true;
    ft.peer.as_mut().expect("it has a peer").state = FtState::Active;
    ft.replication.snapshot = SnapshotState::Running;
    ft.replication.connections = Some(Coverage { held: 400, known: 1003 });
    ft.replication.lag_ms = None;
    ft.readiness.ready = false;
    ft.readiness.obstacles = vec!["snapshot is under way".to_owned(), "configurations differ".to_owned()];
    check(
        Some(&ft),
        false,
        &expect![[r#"
        FT group 1, vlan 9
         This box is standby
         Configuration is out-of-sync
         Software is out-of-sync
         priority 20, heartbeat 1, failover 3, preemption is off
         peer: active, priority 10, heard 12 msec ago
               node 7b1e6c2f90aa3d45, address fe80::ff:fe00:903%eth3, eligible yes, hears this box yes
         replica: this box holds 400 of 1003 connections, 12 of 12 sticky entries
                  snapshot running, lag unknown, refused 0, overflowed 0
         failover: not ready
                   snapshot is under way
                   configurations differ
         FT messages are authenticated, not encrypted
    "#]],
    );
}

#[test]
fn a_node_alone() {
    let mut ft = active();
    ft.state = FtState::Initializing;
    (ft.config_in_sync, ft.software_in_sync, ft.peer) = (None, None, None);
    ft.replication = ReplicationReply {
        connected: false,
        snapshot: SnapshotState::None,
        connections: None,
        sticky: None,
        lag_ms: None,
        refused: 0,
        overflowed: 0,
    };
    ft.lease =
        LeaseReply { gate: GateState::Closed, remaining_us: None, length_us: 100_000, peer_length_us: None };
    ft.readiness = ReadinessReply {
        ready: false,
        forwardable: true,
        eligible: true,
        obstacles: vec!["no peer was ever heard".to_owned()],
    };
    ft.recorder.clear();
    check(
        Some(&ft),
        true,
        &expect![[r#"
            FT group 1, vlan 9
             This box is initializing
             priority 20, heartbeat msec 50, failover msec 150, preemption is on
             alternate priority 10
             peer: never heard
             replica: no stream to the peer
             replica: this box holds an unknown number of connections, an unknown number of sticky entries
                      snapshot none, lag unknown, refused 0, overflowed 0
             failover: not ready
                       no peer was ever heard
             FT messages are not authenticated and not encrypted
             total buffer count 65536, illegal state transitions 0
             receive buffers not committed 1, send buffers not committed 2
             updates: sent 12, received 3, committed 4
             coup msgs: sent 1, received 2
             election msgs: sent 3, received 4
             heartbeat msgs: sent 123400, received 123399
             relinquish msgs: sent 5, received 6
             conn replicate msgs: sent 7, received 8
             conn refresh msgs: sent 9, received 10
             conn reset msgs: sent 11, received 12
             conn redundancy errors: msgs lost 13, msgs rejected 14
             packets: total received 15, total dropped 16, duplicates 17
                      checksum failed 18, dumped 19, buffer unavailable 20
             number of state updates in last 8 transfers:
              8 7 6 5 4 3 2 1
             gate: closed
             lease: 100.0 msec, peer's lease unknown
             timer thread: real-time yes, memory locked yes, wakeups 123456
                           lateness last 18 usec, worst 2.9 msec
             last state changes:
        "#]],
    );
}

#[test]
fn a_peer_that_was_lost() {
    let mut ft = active();
    let peer = ft.peer.as_mut().expect("it has a peer");
    (peer.alive, peer.heard_ms_ago, peer.hears_us) = (false, 60_000, false);
    ft.replication.connected = false;
    ft.readiness.ready = false;
    ft.readiness.obstacles = vec!["the peer is lost".to_owned()];
    check(
        Some(&ft),
        false,
        &expect![[r#"
        FT group 1, vlan 9
         This box is active
         Configuration is in-sync
         priority 20, heartbeat msec 50, failover msec 150, preemption is on
         alternate priority 10
         peer: lost, it was standby, priority 10, heard 60000 msec ago
               node 7b1e6c2f90aa3d45, address fe80::ff:fe00:903%eth3, eligible yes, hears this box no
         replica: no stream to the peer
         replica: standby holds 1003 of 1003 connections, 12 of 12 sticky entries
                  snapshot complete, lag 3 msec, refused 0, overflowed 0
         failover: not ready
                   the peer is lost
         FT messages are not authenticated and not encrypted
    "#]],
    );
}

#[test]
fn no_group() {
    check(
        None,
        true,
        &expect![[r#"
        FT group is not configured
    "#]],
    );
}
