use super::*;

fn real(address: u8) -> String {
    format!("192.158.39.{address} (WEB)")
}

fn facts(role: Role) -> BoxFacts {
    BoxFacts {
        role,
        forwardable: true,
        gate_open: role == Role::Active,
        realtime: true,
        locked: true,
        reals: [(real(101), None), (real(102), None)].into(),
        replica: (role == Role::Active).then_some(Replica {
            connected: true,
            complete: true,
            lag_ms: 1,
            compared_ms: Some(300),
            connections: (1000, 998),
            sticky: (3, 3),
            ..Replica::default()
        }),
        saved: Some(true),
        ..BoxFacts::default()
    }
}

fn pair() -> Pair {
    let ways = [9, 2, 3].map(|vlan| Way { vlan, heard: true, hears_us: true }).to_vec();
    Pair { heard: true, hears_us: true, ways, config: true, software: true, timers: true, witness: false }
}

/// What stands against it, by each of the boxes: all that is missing, in words.
fn missing(pair: &Pair, active: &BoxFacts, standby: &BoxFacts) -> [Vec<String>; 2] {
    [(active, standby), (standby, active)].map(|(own, peer)| {
        let checks = judge(Some(pair), own, Ok(peer));
        let missing = checks.iter().filter(|check| check.grade == Grade::Missing);
        missing.map(|check| format!("{}: {}", check.about, check.found)).collect()
    })
}

#[test]
fn a_pair_that_lacks_nothing_is_ready_by_either_box() {
    let (active, standby) = (facts(Role::Active), facts(Role::Standby));
    assert_eq!(missing(&pair(), &active, &standby), [Vec::<String>::new(), Vec::new()]);
    let checks = judge(Some(&pair()), &standby, Ok(&active));
    assert!(is_ready(&checks) && checks.iter().all(|check| check.grade == Grade::Good), "{checks:?}");
    let replica = checks.iter().find(|check| check.about == "replica").map(|check| check.found.as_str());
    assert_eq!(
        replica,
        Some("the standby holds 998 of 1000 connections and 3 of 3 sticky entries, lag 1 msec")
    );
}

fn routers(active: bool, has_active: bool, has_standby: bool) -> BTreeMap<String, RouterFacts> {
    let facts = RouterFacts { active, has_active, has_standby };
    [("HSRP group 1 (192.158.38.20)".to_owned(), facts)].into()
}

/// What only one box knows of a way is told by both: the box that is not heard on it may hear the other there.
#[test]
fn a_way_that_works_in_one_direction_only_is_none_by_either_box() {
    let (active, mut standby) = (facts(Role::Active), facts(Role::Standby));
    standby.unheard.push(2);
    let asked = |pair: &Pair, own, peer| {
        let checks = judge(Some(pair), own, Ok(peer));
        let found: Vec<_> = checks
            .iter()
            .filter(|check| check.grade == Grade::Missing)
            .map(|check| check.found.clone())
            .collect();
        assert!(!is_ready(&checks) && found.len() == 1, "{found:?}");
        found[0].clone()
    };
    let unheard = "the peer does not hear this box on vlan 2";
    assert_eq!(asked(&pair(), &active, &standby), unheard);
    // It sends nothing there: by its own account there is no such way.
    let mut silent = pair();
    silent.ways.retain(|way| way.vlan != 2);
    assert_eq!(asked(&silent, &active, &standby), unheard);
    let mut deaf = pair();
    deaf.ways[1].heard = false;
    assert_eq!(asked(&deaf, &standby, &active), "the peer is not heard on vlan 2");
}

#[test]
fn groups_with_a_successor_are_told_of_and_no_groups_are_not() {
    let (mut active, mut standby) = (facts(Role::Active), facts(Role::Standby));
    let about = |active: &BoxFacts, standby: &BoxFacts| {
        let checks = judge(Some(&pair()), active, Ok(standby));
        assert!(is_ready(&checks), "{checks:?}");
        checks.iter().any(|check| check.about == "routers")
    };
    assert!(!about(&active, &standby));
    (active.routers, standby.routers) = (routers(true, true, true), routers(false, true, true));
    assert!(about(&active, &standby));
    // A third router forwards, and neither box.
    active.routers = routers(false, true, true);
    assert!(about(&active, &standby));
}

/// The router of one box hands to the module of the other.
#[test]
fn a_group_that_is_not_where_the_role_is_is_remarked_by_either_box() {
    let (mut active, mut standby) = (facts(Role::Active), facts(Role::Standby));
    (active.routers, standby.routers) = (routers(false, true, true), routers(true, true, true));
    let remarked = |own: &BoxFacts, peer: &BoxFacts| {
        let checks = judge(Some(&pair()), own, Ok(peer));
        assert!(is_ready(&checks), "{checks:?}");
        let of: Vec<_> = checks.into_iter().filter(|check| check.about == "routers").collect();
        assert!(of.len() == 1 && of[0].grade == Grade::Remark && of[0].remedy.is_some(), "{of:?}");
        of[0].found.clone()
    };
    let group = "is the active router of HSRP group 1 (192.158.38.20)";
    assert_eq!(
        remarked(&active, &standby),
        format!("the peer {group}, and this box is active: traffic crosses between the boxes")
    );
    assert_eq!(
        remarked(&standby, &active),
        format!("this box {group}, and the peer is active: traffic crosses between the boxes")
    );
}

/// One thing at a time is broken; both boxes name it, and nothing else.
#[test]
fn each_thing_that_is_missing_is_named_by_either_box() {
    type Break = fn(&mut Pair, &mut BoxFacts, &mut BoxFacts);
    fn replica(active: &mut BoxFacts) -> &mut Replica {
        active.replica.as_mut().expect("the active box has one")
    }
    let cases: [(Break, &str); 28] = [
        (|pair, _, _| pair.hears_us = false, "pair: the peer does not hear this box"),
        (
            |pair, _, _| pair.ways[0].heard = false,
            "pair: the FT VLAN is down (vlan 9): nothing can be replicated",
        ),
        (|pair, _, _| pair.ways[2].heard = false, "pair: the peer is not heard on vlan 3"),
        (|pair, _, _| pair.ways[1].hears_us = false, "pair: the peer does not hear this box on vlan 2"),
        (
            |_, a, s| (a.routers, s.routers) = (routers(true, true, true), routers(true, true, true)),
            "routers: both boxes are the active router of HSRP group 1 (192.158.38.20)",
        ),
        (
            |_, a, s| (a.routers, s.routers) = (routers(false, false, true), routers(false, false, false)),
            "routers: HSRP group 1 (192.158.38.20) has no active router",
        ),
        (
            |_, a, s| (a.routers, s.routers) = (routers(false, true, true), routers(true, true, false)),
            "routers: BOX is the active router of HSRP group 1 (192.158.38.20), and no router stands by",
        ),
        (|_, _, s| s.dead_ports.push("eth2 (vlan 3)".to_owned()), "links: BOX has no link on eth2 (vlan 3)"),
        (|_, _, s| s.forwardable = false, "links: BOX cannot forward: its controller stalls"),
        (|_, a, _| a.gate_open = false, "role: the active box's gate is closed"),
        (|_, a, s| (a.role, s.role) = (Role::Active, Role::Active), "role: both boxes are active"),
        (|_, _, s| s.role = Role::Starting, "role: a box is still initializing"),
        (
            |_, _, s| s.lacks.push("gateway 192.158.38.20".to_owned()),
            "tracking: BOX lacks gateway 192.158.38.20",
        ),
        (|_, a, _| a.replica = None, "replica: there is no stream to the standby"),
        (|_, a, _| replica(a).connected = false, "replica: there is no stream to the standby"),
        (|_, a, _| replica(a).complete = false, "replica: the standby's snapshot is not complete"),
        (
            |_, a, _| replica(a).lag_ms = 101,
            "replica: the oldest change without acknowledgement is 101 msec old, more than 100",
        ),
        (
            |_, a, _| replica(a).refused = 2,
            "replica: the standby refuses entries in 2 of 256 parts of the table",
        ),
        (|_, a, _| replica(a).broken = 1, "replica: 1 of 256 parts of the table wait for repair"),
        (|_, a, _| replica(a).compared_ms = None, "replica: both tables have not been compared yet"),
        (
            |_, a, _| replica(a).compared_ms = Some(31_000),
            "replica: both tables were compared 31 s ago for the last time",
        ),
        (
            |_, a, _| replica(a).connections = (1000, 989),
            "replica: the standby holds 989 of 1000 connections",
        ),
        (|_, a, _| replica(a).sticky = (1, 0), "replica: the standby holds 0 of 1 sticky entries"),
        (|pair, _, _| pair.config = false, "configuration: the configuration is not the same on both boxes"),
        (|pair, _, _| pair.software = false, "software: the software is not the same on both boxes"),
        (|pair, _, _| pair.timers = false, "timers: the timers are not the same on both boxes"),
        (
            |_, _, s| s.unresolved.push("gateway 192.158.38.20 (vlan 2)".to_owned()),
            "neighbours: BOX does not know the MAC address of gateway 192.158.38.20 (vlan 2)",
        ),
        (
            |_, a, _| a.unreplicated.push("3 connections of VIP1".to_owned()),
            "services: 3 connections of VIP1 would be lost: they are not replicated",
        ),
    ];
    for (number, (break_it, expected)) in cases.into_iter().enumerate() {
        let (mut pair, mut active, mut standby) = (pair(), facts(Role::Active), facts(Role::Standby));
        break_it(&mut pair, &mut active, &mut standby);
        let [by_active, by_standby] = missing(&pair, &active, &standby);
        let says = |who| vec![expected.replace("BOX", who)];
        assert_eq!(by_active, says("the peer"), "case {number}");
        assert_eq!(by_standby, says("this box"), "case {number}");
    }
}

#[test]
fn both_boxes_name_the_real_that_only_one_of_them_reaches_and_the_one_whose_timers_are_late() {
    let (active, mut standby) = (facts(Role::Active), facts(Role::Standby));
    standby.reals.insert(real(102), Some("probe TCP port 80: timed out".to_owned()));
    standby.realtime = false;
    let says = |there: &str, here: &str| {
        vec![
            format!(
                "probes: real 192.158.39.102 (WEB) is operational for {there} and not for {here}: probe TCP port 80: \
                 timed out"
            ),
            format!(
                "scheduling: the timers of {here} have no real-time priority: under load it may fail over late, or for \
                 nothing"
            ),
        ]
    };
    let expected = [says("this box", "the peer"), says("the peer", "this box")];
    assert_eq!(missing(&pair(), &active, &standby), expected);
}

#[test]
fn a_box_that_is_alone_or_whose_peer_says_nothing_is_not_ready() {
    let own = facts(Role::Active);
    for (pair, why, expected) in [
        (None, "", "no FT group is configured: this box is alone"),
        (Some(Pair::default()), "no peer", "no peer is heard"),
        (Some(pair()), "it is busy", "the peer does not say how it stands: it is busy"),
    ] {
        let checks = judge(pair.as_ref(), &own, Err(why));
        assert!(!is_ready(&checks) && checks[0].found == expected, "{checks:?}");
    }
}

#[test]
fn what_both_boxes_find_down_and_what_is_not_saved_are_remarks() {
    let (mut active, mut standby) = (facts(Role::Active), facts(Role::Standby));
    for of in [&mut active, &mut standby] {
        of.reals.insert(real(103), Some("connection refused".to_owned()));
    }
    standby.saved = Some(false);
    active.generic_ports.push("eth1 (vlan 2)".to_owned());
    let checks = judge(Some(&pair()), &active, Ok(&standby));
    let remarks: Vec<_> = checks.iter().filter(|check| check.grade == Grade::Remark).collect();
    assert!(is_ready(&checks) && remarks.len() == 3, "{checks:?}");
    assert!(remarks[2].found.starts_with("real 192.158.39.103 (WEB) is down for both boxes"), "{remarks:?}");
}

#[test]
fn facts_of_another_version_are_read_and_what_it_does_not_say_is_not_taken_for_good() {
    let old: BoxFacts = serde_json::from_str(r#"{"role":"standby","novelty":1}"#).expect("facts");
    assert!(!old.forwardable && !old.realtime && old.replica.is_none());
}

#[test]
fn a_virtual_mac_that_gets_lost_is_no_readiness_and_a_ports_own_in_its_place_a_remark() {
    let (active, mut standby) = (facts(Role::Active), facts(Role::Standby));
    standby.own_macs.push(3);
    assert_eq!(missing(&pair(), &active, &standby), [Vec::<String>::new(), Vec::new()]);
    let checks = judge(Some(&pair()), &active, Ok(&standby));
    let remark = checks.iter().find(|check| check.grade == Grade::Remark && check.about == "mac");
    assert!(
        remark.is_some_and(|remark| remark.found.starts_with("the peer uses its port's own")),
        "{checks:?}"
    );
    standby.lost_macs.push(2);
    let lost = |who| vec![format!("mac: frames of {who} with the virtual MAC address are lost on vlan 2")];
    assert_eq!(missing(&pair(), &active, &standby), [lost("the peer"), lost("this box")]);
}
