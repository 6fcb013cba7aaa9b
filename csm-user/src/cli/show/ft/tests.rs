use expect_test::{Expect, expect};

use super::*;
use crate::api::reply::{LatenessBucket, Messages, PathReply, ReadinessReply, UpdateCounters};

fn active() -> FtReply {
    FtReply {
        group: 1,
        vlan: 9,
        interface: "eth3".to_owned(),
        state: FtState::Active,
        machine: "active".to_owned(),
        reason: "peer silent".to_owned(),
        changed_unix_ms: 1_783_432_911_004,
        term: 7,
        priority: 20,
        alternate_priority: Some(10),
        preempt: true,
        preempt_held: false,
        preempt_damped_ms: None,
        returns: 0,
        heartbeat_ms: 50,
        failover_ms: 150,
        config_in_sync: Some(true),
        software_in_sync: Some(true),
        timers_in_sync: Some(true),
        authenticated: None,
        paths: vec![path(9, 12), path(2, 13)],
        macs: Vec::new(),
        foreign: Vec::new(),
        encrypted: false,
        witness: None,
        peer: Some(PeerReply {
            node: "000002000000000b".to_owned(),
            address: "fe80::ff:fe00:b".to_owned(),
            state: FtState::Standby,
            priority: 10,
            forwardable: true,
            eligible: true,
            replica_complete: true,
            hears_us: true,
            heard_ms_ago: 12,
            heartbeat_ms: 100,
            failover_ms: 300,
        }),
        tracking: None,
        readiness: ReadinessReply { ready: true, forwardable: true, eligible: true, obstacles: Vec::new() },
        replication: ReplicationReply {
            connected: true,
            last_close: None,
            snapshot: SnapshotState::Complete,
            connections: Some(Coverage { held: 1003, known: 1003 }),
            sticky: Some(Coverage { held: 12, known: 12 }),
            lag_ms: Some(3),
            table: Some(TableReply { connections: 1010, sticky: 12, walked_ms_ago: 900 }),
            refused: 0,
            refusals: Vec::new(),
            lost: 5,
            handshakes: 410,
            handshakes_left_out: 7,
            compared_ms_ago: Some(740),
            last_repair: Some(RepairReply { ms_ago: 61_000, buckets: 2, entries: 37 }),
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
            worst_us: 62_940,
            too_late: 0,
            histogram: vec![
                LatenessBucket { up_to_us: Some(50), count: 123_000 },
                LatenessBucket { up_to_us: Some(100), count: 0 },
                LatenessBucket { up_to_us: Some(5_000), count: 3 },
                LatenessBucket { up_to_us: None, count: 1 },
            ],
        },
        counters: counters(),
        overlaps: 0,
        overlap_last_us: 0,
        recorder: vec![
            RecorderEntry {
                at_unix_ms: 1_783_432_802_511,
                action: RecorderAction::Fence,
                term: 5,
                reason: "clear ft active".to_owned(),
                peer_heard_ms_ago: Some(0),
                lateness_us: 21,
            },
            RecorderEntry {
                at_unix_ms: 1_783_432_911_004,
                action: RecorderAction::Claim,
                term: 7,
                reason: "peer silent".to_owned(),
                peer_heard_ms_ago: Some(151),
                lateness_us: 1_204,
            },
        ],
    }
}

fn path(vlan: u16, heard_ms_ago: u64) -> PathReply {
    PathReply {
        vlan,
        heard: true,
        heard_ms_ago: Some(heard_ms_ago),
        hears_us: true,
        sent: 1_000,
        send_errors: 2,
        received: 990,
        missing: 10,
    }
}

/// A different number in each place, one not measured.
fn counters() -> FtCounters {
    let both = |sent, received| Messages { sent: Some(sent), received: Some(received) };
    FtCounters {
        total_buffers: Some(65_536),
        illegal_transitions: Some(21),
        receive_uncommitted: Some(22),
        send_uncommitted: Some(23),
        updates: UpdateCounters { sent: Some(24), received: Some(25), committed: Some(26) },
        coup: both(1, 2),
        election: both(3, 4),
        heartbeat: both(123_400, 123_399),
        relinquish: both(5, 6),
        conn_replicate: both(7, 8),
        conn_refresh: both(9, 10),
        conn_reset: both(11, 12),
        messages_lost: Some(13),
        messages_rejected: Some(14),
        packets: PacketCounters {
            received: Some(15),
            dropped: Some(16),
            duplicates: Some(17),
            checksum_failed: Some(18),
            dumped: Some(19),
            buffer_unavailable: None,
        },
        last_transfers: Some([8, 7, 6, 5, 4, 3, 2, 1]),
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
             peer: standby, priority 10, heard 12 msec ago, address fe80::ff:fe00:b, node 000002000000000b
                   can forward yes, eligible yes, replica complete yes, hears this box yes
             replica: standby holds 1003 of 1003 connections, 12 of 12 sticky entries
                      snapshot complete, lag 3 msec, refused 0, lost 5
                      handshakes under way told 410, left out 7
                      tables compared 740.0 msec ago, last repair 61.0 s ago of 2 buckets, 37 entries
             failover: ready
             FT messages are not authenticated, replication is not encrypted
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
             peer: standby, priority 10, heard 12 msec ago, address fe80::ff:fe00:b, node 000002000000000b
                   can forward yes, eligible yes, replica complete yes, hears this box yes
             replica: standby holds 1003 of 1003 connections, 12 of 12 sticky entries
                      snapshot complete, lag 3 msec, refused 0, lost 5
                      handshakes under way told 410, left out 7
                      tables compared 740.0 msec ago, last repair 61.0 s ago of 2 buckets, 37 entries
             failover: ready
             FT messages are not authenticated, replication is not encrypted
             heartbeat paths:
              vlan 9 (ft): heard 12 msec ago, hears this box yes
               sent 1000, errors 2, received 990, missing 10 (1.0 %)
              vlan 2: heard 13 msec ago, hears this box yes
               sent 1000, errors 2, received 990, missing 10 (1.0 %)
             total buffer count 65536, illegal state transitions 21
             receive buffers not committed 22, send buffers not committed 23
             updates: sent 24, received 25, committed 26
             coup msgs: sent 1, received 2
             election msgs: sent 3, received 4
             heartbeat msgs: sent 123400, received 123399
             relinquish msgs: sent 5, received 6
             conn replicate msgs: sent 7, received 8
             conn refresh msgs: sent 9, received 10
             conn reset msgs: sent 11, received 12
             conn redundancy errors: msgs lost 13, msgs rejected 14
             packets: total received 15, total dropped 16, duplicates 17
                      checksum failed 18, dumped 19, buffer unavailable -
             number of state updates in last 8 transfers:
              8 7 6 5 4 3 2 1
             state: active, term 7, since Jul  7 2026 14:01:51.004 UTC: peer silent
                    can forward yes, eligible yes, ft interface eth3
             gate: open, closes in 93.4 msec unless renewed
             lease: 100.0 msec, peer's lease 100.0 msec
             timer thread: real-time yes, memory locked yes
                           worst lateness 62.9 msec, too late to act 0
                           up to 50 usec: 123000
                           up to 5.0 msec: 3
                           later: 1
             last state changes:
              Jul  7 2026 14:00:02.511 UTC fence of term 5: clear ft active, peer heard 0 msec before, lateness 21 usec
              Jul  7 2026 14:01:51.004 UTC claim of term 7: peer silent, peer heard 151 msec before, lateness 1.2 msec
        "#]],
    );
}

#[test]
fn a_node_out_of_sync_with_an_incomplete_replica() {
    let mut ft = active();
    (ft.state, ft.machine, ft.reason) =
        (FtState::Standby, "relay-out".to_owned(), "lost to a rival".to_owned());
    (ft.config_in_sync, ft.software_in_sync, ft.timers_in_sync) = (Some(false), Some(false), Some(false));
    (ft.heartbeat_ms, ft.failover_ms, ft.alternate_priority, ft.preempt_held) = (1000, 3000, None, true);
    (ft.overlaps, ft.overlap_last_us, ft.authenticated) = (1, 2_100, Some("configured key".to_owned()));
    ft.peer.as_mut().expect("it has a peer").state = FtState::Active;
    ft.replication.snapshot = SnapshotState::Running;
    ft.replication.connections = Some(Coverage { held: 400, known: 1003 });
    ft.replication.lag_ms = None;
    ft.readiness.ready = false;
    ft.readiness.obstacles = vec!["snapshot is under way".to_owned(), "configurations differ".to_owned()];
    ft.lease.gate = GateState::RelayOut;
    ft.counters.last_transfers = None;
    check(
        Some(&ft),
        true,
        &expect![[r#"
            FT group 1, vlan 9
             This box is standby
             Configuration is out-of-sync
             Software is out-of-sync
             Timers are out-of-sync: the peer has heartbeat msec 100, failover msec 300
             priority 20, heartbeat 1, failover 3, preemption is on, but held by clear ft active
             peer: active, priority 10, heard 12 msec ago, address fe80::ff:fe00:b, node 000002000000000b
                   can forward yes, eligible yes, replica complete yes, hears this box yes
             replica: this box holds 1010 connections, 12 sticky entries, counted 900.0 msec ago
                      snapshot running, lag unknown, refused 0, lost 5
                      handshakes under way entered 410
             failover: not ready
                       snapshot is under way
                       configurations differ
             FT messages are authenticated (configured key), replication is not encrypted
             heartbeat paths:
              vlan 9 (ft): heard 12 msec ago, hears this box yes
               sent 1000, errors 2, received 990, missing 10 (1.0 %)
              vlan 2: heard 13 msec ago, hears this box yes
               sent 1000, errors 2, received 990, missing 10 (1.0 %)
             total buffer count 65536, illegal state transitions 21
             receive buffers not committed 22, send buffers not committed 23
             updates: sent 24, received 25, committed 26
             coup msgs: sent 1, received 2
             election msgs: sent 3, received 4
             heartbeat msgs: sent 123400, received 123399
             relinquish msgs: sent 5, received 6
             conn replicate msgs: sent 7, received 8
             conn refresh msgs: sent 9, received 10
             conn reset msgs: sent 11, received 12
             conn redundancy errors: msgs lost 13, msgs rejected 14
             packets: total received 15, total dropped 16, duplicates 17
                      checksum failed 18, dumped 19, buffer unavailable -
             state: relay-out, term 7, since Jul  7 2026 14:01:51.004 UTC: lost to a rival
                    can forward yes, eligible yes, ft interface eth3
             overlaps of two active boxes: 1, the last 2.1 msec
             gate: relay-out, closes in 93.4 msec unless renewed
             lease: 100.0 msec, peer's lease 100.0 msec
             timer thread: real-time yes, memory locked yes
                           worst lateness 62.9 msec, too late to act 0
                           up to 50 usec: 123000
                           up to 5.0 msec: 3
                           later: 1
             last state changes:
              Jul  7 2026 14:00:02.511 UTC fence of term 5: clear ft active, peer heard 0 msec before, lateness 21 usec
              Jul  7 2026 14:01:51.004 UTC claim of term 7: peer silent, peer heard 151 msec before, lateness 1.2 msec
        "#]],
    );
}

#[test]
fn a_node_alone() {
    let mut ft = active();
    (ft.state, ft.machine, ft.reason) = (FtState::Initializing, "init".to_owned(), "started".to_owned());
    (ft.config_in_sync, ft.software_in_sync, ft.timers_in_sync, ft.peer) = (None, None, None, None);
    ft.replication = ReplicationReply {
        connected: false,
        last_close: Some("closed by the peer".to_owned()),
        snapshot: SnapshotState::None,
        connections: None,
        sticky: None,
        lag_ms: None,
        table: None,
        refused: 0,
        refusals: Vec::new(),
        lost: 0,
        handshakes: 0,
        handshakes_left_out: 0,
        compared_ms_ago: None,
        last_repair: None,
    };
    ft.lease =
        LeaseReply { gate: GateState::Closed, remaining_us: None, length_us: 100_000, peer_length_us: None };
    ft.readiness.ready = false;
    ft.readiness.obstacles = vec!["no peer is heard".to_owned()];
    ft.counters = FtCounters::default();
    ft.recorder.clear();
    check(
        Some(&ft),
        true,
        &expect![[r#"
            FT group 1, vlan 9
             This box is initializing
             priority 20, heartbeat msec 50, failover msec 150, preemption is on
             alternate priority 10
             peer: not heard
             replica: no stream to the peer (closed by the peer)
             failover: not ready
                       no peer is heard
             FT messages are not authenticated, replication is not encrypted
             heartbeat paths:
              vlan 9 (ft): heard 12 msec ago, hears this box yes
               sent 1000, errors 2, received 990, missing 10 (1.0 %)
              vlan 2: heard 13 msec ago, hears this box yes
               sent 1000, errors 2, received 990, missing 10 (1.0 %)
             total buffer count -, illegal state transitions -
             receive buffers not committed -, send buffers not committed -
             updates: sent -, received -, committed -
             coup msgs: sent -, received -
             election msgs: sent -, received -
             heartbeat msgs: sent -, received -
             relinquish msgs: sent -, received -
             conn replicate msgs: sent -, received -
             conn refresh msgs: sent -, received -
             conn reset msgs: sent -, received -
             conn redundancy errors: msgs lost -, msgs rejected -
             packets: total received -, total dropped -, duplicates -
                      checksum failed -, dumped -, buffer unavailable -
             state: init, term 7, since Jul  7 2026 14:01:51.004 UTC: started
                    can forward yes, eligible yes, ft interface eth3
             gate: closed
             lease: 100.0 msec, peer's lease unknown
             timer thread: real-time yes, memory locked yes
                           worst lateness 62.9 msec, too late to act 0
                           up to 50 usec: 123000
                           up to 5.0 msec: 3
                           later: 1
             last state changes:
        "#]],
    );
}

#[test]
fn a_standby_that_refuses_entries() {
    let mut ft = active();
    ft.state = FtState::Standby;
    (ft.config_in_sync, ft.timers_in_sync) = (Some(false), Some(false));
    (ft.replication.connections, ft.replication.sticky) = (None, None);
    (ft.replication.compared_ms_ago, ft.replication.last_repair) = (None, None);
    ft.replication.snapshot = SnapshotState::Partial;
    ft.replication.refused = 3;
    ft.replication.refusals = vec![RefusalReply { reason: "unknown virtual server".to_owned(), count: 3 }];
    ft.readiness.ready = false;
    ft.readiness.obstacles = vec!["this box's replica is not complete".to_owned()];
    check(
        Some(&ft),
        false,
        &expect![[r#"
            FT group 1, vlan 9
             This box is standby
             Configuration is out-of-sync
             Timers are out-of-sync: the peer has heartbeat msec 100, failover msec 300
             priority 20, heartbeat msec 50, failover msec 150, preemption is on
             alternate priority 10
             peer: standby, priority 10, heard 12 msec ago, address fe80::ff:fe00:b, node 000002000000000b
                   can forward yes, eligible yes, replica complete yes, hears this box yes
             replica: this box holds 1010 connections, 12 sticky entries, counted 900.0 msec ago
                      snapshot partial, lag 3 msec, refused 3, lost 5
                      refused 3: unknown virtual server
                      handshakes under way entered 410
             failover: not ready
                       this box's replica is not complete
             FT messages are not authenticated, replication is not encrypted
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

#[test]
fn a_path_that_is_broken_is_named_and_what_still_works_too() {
    let shown = |change: fn(&mut [PathReply])| {
        let mut ft = active();
        change(&mut ft.paths);
        let mut out = String::new();
        paths::faults(&mut out, &ft.paths).unwrap();
        out
    };
    assert_eq!(shown(|_| {}), "");
    assert_eq!(shown(|paths| paths[0].heard = false), " FT VLAN is down, peer alive over VLAN 2\n");
    assert_eq!(shown(|paths| paths[1].heard = false), " VLAN 2: the peer is not heard here\n");
    assert_eq!(shown(|paths| paths.iter_mut().for_each(|path| path.heard = false)), "");
    assert_eq!(
        shown(|paths| paths[0].hears_us = false),
        " VLAN 9: one way only, the peer does not hear this box here\n"
    );
}

#[test]
fn who_is_not_believed_is_named_with_group_address_vlan_and_age() {
    use crate::api::reply::{ForeignReply, ForeignWhy};
    let one = |why, heard_ms_ago| ForeignReply {
        vlan: 2,
        address: "10.0.0.7".to_owned(),
        group: 7,
        why,
        count: 3,
        heard_ms_ago,
    };
    let shown = |all| {
        let mut text = String::new();
        let foreign = [one(ForeignWhy::OtherGroup, 40), one(ForeignWhy::OtherKey, 20_000)];
        paths::foreign(&mut text, &foreign, all).expect("a string takes everything");
        text
    };
    let first =
        " VLAN 2: 10.0.0.7 speaks for group 7 and is of another group (3 messages, the last 40 msec ago)\n";
    assert_eq!(shown(false), first, "who has long been silent is history");
    let second =
        " VLAN 2: 10.0.0.7 speaks for group 7 and has another key (3 messages, the last 20000 msec ago)\n";
    assert_eq!(shown(true), first.to_owned() + second);
}
