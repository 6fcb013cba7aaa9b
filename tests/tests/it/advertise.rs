//! Route health injection: what the kernel's table holds on each node through changes, moves of the role, a kill and a restart.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::Duration;

use csm_tests::lab::{Lab, Options};
use csm_tests::netns::run;
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::status::Role;
use csm_tests::topology::{Side, VIP, VIP6};
use csm_tests::wait;

use crate::ready::configure;
use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(40);
/// Of csmd's table and protocol, as docs/operations.md says them.
const TABLE: &str = "201";

/// Networks that routing daemons of the node would find.
fn told(lab: &Lab, side: Side) -> Vec<String> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        let mut ip = lab.topology.node(side).command("ip").expect("ip");
        ip.args(["-json", family, "route", "show", "table", TABLE, "proto", TABLE]);
        // ip fails where no route of the table was ever made.
        let Ok(text) = run(&mut ip) else { continue };
        let routes: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for route in routes.as_array().into_iter().flatten() {
            assert_eq!(route["dev"], "csm-rhi");
            found.push(route["dst"].as_str().expect("a network").to_owned());
        }
    }
    found
}

#[track_caller]
fn expect(lab: &Lab, side: Side, networks: &[String]) {
    let found = wait::until("its routes", LIMIT, Duration::from_millis(20), || {
        Ok((told(lab, side) == networks).then_some(()))
    });
    found.unwrap_or_else(|error| panic!("{error}: {:?} on {side:?}, not {networks:?}", told(lab, side)));
}

/// Names of the node's virtual servers with the lab's two addresses.
fn vservers(lab: &mut Lab, side: Side) -> Vec<String> {
    let shown = lab.node(side).show("vservers").expect("virtual servers");
    let ours = [VIP.to_string(), VIP6.to_string()];
    let rows = shown.as_array().expect("rows").iter();
    let ours = rows.filter(|row| row["address"].as_str().is_some_and(|at| ours.iter().any(|our| our == at)));
    ours.map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

/// The real servers whose addresses hold `mark`, each with its farm, as a configuration names it.
fn reals(lab: &mut Lab, side: Side, mark: char) -> Vec<(String, String)> {
    let shown = lab.node(side).show("reals").expect("real servers");
    let text = |row: &serde_json::Value, what: &str| row[what].as_str().unwrap_or_default().to_owned();
    let is_of_family = |row: &&serde_json::Value| text(row, "address").contains(mark);
    let rows = shown.as_array().expect("rows").iter().filter(is_of_family);
    rows.map(|row| {
        let port = row["port"].as_u64().filter(|port| *port > 0).map(|port| format!(" {port}"));
        (text(row, "serverfarm"), text(row, "address") + &port.unwrap_or_default())
    })
    .collect()
}

/// `ip monitor` of the node's routes, into a file.
fn monitor(lab: &Lab, side: Side) -> (Child, std::path::PathBuf) {
    let path = lab.out("routes.log");
    let mut ip = lab.topology.node(side).command("ip").expect("ip");
    let file = std::fs::File::create(&path).expect("a file");
    let child = ip.args(["monitor", "route"]).stdout(file).stdin(Stdio::null()).spawn().expect("ip");
    (child, path)
}

#[test]
fn only_the_active_node_has_routes_for_what_is_served_and_a_killed_one_has_none() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let options = Options { ipv6: true, ..Options::small(programs, out("advertise")) };
    let mut lab = Lab::build(options).expect("a lab");
    let active = lab.start(LIMIT).expect("a pair");
    let all = vservers(&mut lab, active);
    let lines = |what: &str| all.iter().map(|name| format!("vserver {name}\n {what}\n")).collect::<String>();
    let both = [VIP.to_string(), VIP6.to_string()];
    expect(&lab, active, &[]);
    for side in Side::BOTH {
        configure(&mut lab, side, &lines("advertise active"));
        lab.node(side).command("write memory").expect("saved");
    }
    expect(&lab, active, &both);
    expect(&lab, active.peer(), &[]);
    let detail = lab.node(active).command("show module csm 5 vservers detail").expect("an answer");
    assert!(detail.contains("advertise = ACTIVE, announced"), "{detail}");

    // Somebody removes one: it comes back.
    lab.topology.node(active).ip(&[format!("route del {VIP} table {TABLE}")]).expect("removed");
    expect(&lab, active, &both);

    // No server of one family can serve any more; then nothing is in service.
    let families = [('.', &both[1..]), (':', &both[..1])];
    let mut farms = BTreeSet::new();
    for (mark, left) in families {
        let reals = reals(&mut lab, active, mark);
        farms.extend(reals.iter().map(|(farm, _)| farm.clone()));
        let change = |what: &str| {
            let lines =
                reals.iter().map(|(farm, real)| format!("serverfarm {farm}\n real {real}\n  {what}\n"));
            lines.collect::<String>()
        };
        configure(&mut lab, active, &change("no inservice"));
        expect(&lab, active, left);
        configure(&mut lab, active, &change("inservice"));
        expect(&lab, active, &both);
    }
    configure(&mut lab, active, &lines("no inservice"));
    expect(&lab, active, &[]);
    configure(&mut lab, active, &lines("inservice"));
    expect(&lab, active, &both);

    // All servers of a family are found dead by their probes, and alive again.
    let probes: String = farms.iter().map(|farm| format!("serverfarm {farm}\n probe PING\n")).collect();
    for side in Side::BOTH {
        let probe = "probe PING icmp\n interval 2\n retries 1\n failed 2\n receive 1\n";
        configure(&mut lab, side, &format!("{probe}{probes}"));
        lab.node(side).command("write memory").expect("saved");
    }
    for (key, left) in
        ["ipv4/icmp_echo_ignore_all", "ipv6/icmp/echo_ignore_all"].iter().zip([&both[1..], &both[..1]])
    {
        let answer = |lab: &Lab, ignored: &str| {
            for server in &lab.topology.servers {
                server.sysctl(key, ignored).expect("sysctl");
            }
        };
        answer(&lab, "1");
        expect(&lab, active, left);
        answer(&lab, "0");
        expect(&lab, active, &both);
    }

    // A restart in place: the routes stay, though nothing is known of the servers for a moment.
    let (mut ip, log) = monitor(&lab, active);
    lab.node(active).reload(LIMIT).expect("a restart");
    lab.node(active).wait_for(Role::Active, LIMIT).expect("active still");
    expect(&lab, active, &both);
    wait::observe(Duration::from_secs(1)).expect("time passes");
    ip.kill().and_then(|()| ip.wait()).expect("ip ends");
    let seen = std::fs::read_to_string(log).expect("a log");
    assert!(!seen.contains("Deleted"), "{seen}");

    // A planned move, and a kill: they go with the role, and with the process.
    lab.fail(active, Fault::FtActive).expect("a move");
    expect(&lab, active.peer(), &both);
    expect(&lab, active, &[]);
    lab.fail(active.peer(), Fault::Kill).expect("a kill");
    assert_eq!(told(&lab, active.peer()), Vec::<String>::new(), "the kernel has taken them back");
    expect(&lab, active, &both);
    lab.restore(active.peer()).expect("a start");
    lab.node(active.peer()).wait_for(Role::Standby, LIMIT).expect("a standby");
    expect(&lab, active.peer(), &[]);

    configure(&mut lab, active, &lines("no advertise"));
    expect(&lab, active, &[]);
    finish(lab);
}
