//! IPv4 and IPv6 beside each other: both are balanced, and both survive.

use std::collections::BTreeMap;
use std::time::Duration;

use csm_tests::figure::{Figure, Timers};
use csm_tests::lab::{Lab, Options};
use csm_tests::link::{self, Cut};
use csm_tests::netns::Netns;
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::scenario::Traffic;
use csm_tests::status::Role;
use csm_tests::topology::{self, ALIAS6, Side, VIP, VIP6, Wiring};
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(60);

/// What `words` prints in `netns`.
fn run(netns: &Netns, program: &str, words: &[&str]) -> String {
    let output = netns.command(program).expect("a namespace").args(words).output().expect(program);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {words:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Both families' connections have carried messages since now, and so have new ones.
fn proven(lab: &Lab, traffic: &mut [Traffic; 2], connections: usize) {
    for traffic in traffic.iter_mut() {
        traffic.messages("mark").expect("mark");
        let report = traffic.prove(LIMIT).expect("report");
        assert_eq!((report.alive, report.unproven), (connections, 0), "{report:?}");
    }
    let url = format!("http://[{VIP6}]/who");
    let answer = run(&lab.topology.client, "curl", &["-sS", "-m", "5", "-g", &url]);
    assert!(["s1\n", "s2\n", "s3\n"].contains(&answer.as_str()), "{answer:?}");
    run(&lab.topology.servers[0], "ping", &["-6", "-c", "1", "-W", "2", &ALIAS6.to_string()]);
}

/// No real is taken for healthy before its probe has passed.
pub(super) fn healthy_reals(lab: &mut Lab, active: Side) {
    wait::until("healthy IPv6 reals", LIMIT, Duration::from_millis(100), || {
        let reals = lab.node(active).show("reals")?;
        let healthy = |farm: &str| {
            let rows = reals.as_array().into_iter().flatten().filter(|real| real["serverfarm"] == farm);
            rows.filter(|real| real["state"] == "operational").count()
        };
        Ok(["WEB6", "MESSAGES6", "ECHO6"].into_iter().all(|farm| healthy(farm) == 3).then_some(()))
    })
    .expect("probes over IPv6");
}

#[test]
fn connections_of_both_families_survive_either_node() {
    survive("dualstack", Wiring::Access);
}

/// `csm trace` tells of the packets of a client of IPv6, before and after they are rewritten.
fn told(lab: &mut Lab, active: Side) {
    let client = topology::client6(0);
    let words = format!("trace client {client} vserver MESSAGES6 count 8");
    let told = lab.node(active).command(&words).expect("csm trace");
    for line in [
        "flow proven, ESTAB, vserver MESSAGES6, real fd00:39::10".to_owned(),
        format!(": TCP [{client}]:"),
        format!("out  TCP [{client}]:"),
        format!("out  TCP [{VIP6}]:9000 > [{client}]:"),
        "end  forwarded_flow: sent on".to_owned(),
    ] {
        assert!(told.contains(&line), "\"{line}\" is missing in:\n{told}");
    }
}

/// Of each port of a node: by how much its driver has handed more frames to the program than its reasons have counted: between
/// the driver's count before and after. What came before the program was attached is no reason's.
fn ahead(lab: &mut Lab, side: Side) -> BTreeMap<String, (i64, i64)> {
    let shown = |lab: &mut Lab| lab.node(side).show("stats").expect("show stats");
    let driver = |lab: &Lab, port: &str| -> i64 {
        let shown = run(lab.topology.node(side), "ethtool", &["-S", port]);
        let counts = shown.lines().filter_map(|line| line.trim().split_once("_xdp_packets: "));
        let queues = counts.filter(|(queue, _)| queue.starts_with("rx_queue_"));
        queues.filter_map(|(_, count)| count.parse::<i64>().ok()).sum()
    };
    let counted = |shown: &serde_json::Value| -> BTreeMap<String, i64> {
        let ports = shown["ports"].as_array().into_iter().flatten();
        let sum = |port: &serde_json::Value| {
            let reasons = port["reasons"].as_array().into_iter().flatten();
            reasons.filter_map(|reason| reason["packets"].as_i64()).sum()
        };
        ports.filter_map(|port| Some((port["interface"].as_str()?.to_owned(), sum(port)))).collect()
    };
    let ports: Vec<String> = counted(&shown(lab)).into_keys().collect();
    let before: Vec<i64> = ports.iter().map(|port| driver(lab, port)).collect();
    let counts = counted(&shown(lab));
    let between = ports.iter().zip(before).map(|(port, before)| {
        let count = counts[port];
        (port.clone(), (before - count, driver(lab, port) - count))
    });
    between.collect()
}

#[test]
fn on_trunks_too() {
    survive("dualtrunk", Wiring::Trunk);
}

fn survive(test: &str, wiring: Wiring) {
    const CONNECTIONS: usize = 100;
    let programs = Programs::beside_this_one().expect("built programs");
    let figure = Figure { timers: Timers::FAST, preempt: false, wiring };
    let options = Options { figure, ipv6: true, ..Options::small(programs, out(test)) };
    let mut lab = Lab::build(options).expect("a lab");
    let mut active = lab.start(LIMIT).expect("one active, one standby");
    healthy_reals(&mut lab, active);
    let quiet = ahead(&mut lab, active);
    let start = |vip| Traffic::to(&lab, vip, CONNECTIONS).expect("traffic");
    let mut traffic = [start(VIP.into()), start(VIP6.into())];
    proven(&lab, &mut traffic, CONNECTIONS);
    let busy = ahead(&mut lab, active);
    assert!(busy.contains_key("eth1") && busy.keys().eq(quiet.keys()), "{busy:?}");
    for (port, (least, most)) in &busy {
        assert!(least <= &quiet[port].1 && most >= &quiet[port].0, "{port}: {quiet:?} {busy:?}");
    }
    told(&mut lab, active);
    for fault in [Fault::Kill, Fault::PowerOff] {
        let standby = active.peer();
        lab.node(standby).wait_for(Role::Standby, LIMIT).expect("a standby with a complete replica");
        lab.fail(active, fault).expect("the fault");
        lab.node(standby).wait_for(Role::Active, LIMIT).expect("takeover");
        proven(&lab, &mut traffic, CONNECTIONS);
        lab.restore(active).expect("restart");
        active = standby;
    }
    let (clients, moved) = traffic[1].sticky().expect("report");
    assert!(clients > 10 && moved == 0, "{moved} of {clients} sticky clients were moved");
    let listing = lab.node(active).command("show module csm 5 arp").expect("show arp");
    assert!(listing.contains("IPv6 Address") && listing.contains(&VIP6.to_string()), "{listing}");
    drop(traffic);
    finish(lab);
}

/// The two boxes have addresses of each other in IPv6 alone, and the FT VLAN fails: they hear each other all the same.
#[test]
fn a_pair_of_ipv6_alone_is_not_split_by_the_ft_vlan() {
    let programs = Programs::beside_this_one().expect("built programs");
    let mut options = Options { ipv6: true, ..Options::small(programs, out("paths6")) };
    // IPv4's own addresses stay, for the gateway's sake, but no longer say the peer's.
    options.group = Side::BOTH.map(|side| {
        let [on2, on3] = side.addresses();
        let mask = "255.255.255.0";
        format!(" vlan 2 client\n  ip address {on2} {mask}\n vlan 3 server\n  ip address {on3} {mask}\n")
    });
    let mut lab = Lab::build(options).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let pace = Duration::from_millis(20);
    wait::until("three ways", LIMIT, pace, || {
        let shown = lab.nodes.each_ref().map(|node| node.show("ft"));
        let good = |path: &serde_json::Value| path["heard"] == true && path["hears_us"] == true;
        let heard = shown.iter().flatten().filter(|ft| {
            ft["paths"].as_array().is_some_and(|paths| paths.len() == 3 && paths.iter().all(good))
        });
        Ok((heard.count() == 2).then_some(()))
    })
    .expect("both boxes heard on three VLANs");
    let before = lab.node(active).show("ft").expect("ft")["term"].clone();
    link::cut(&lab.topology.switch, &active.port(3), Cut::Both).expect("cut the FT VLAN");
    wait::until("the fault shown by both", LIMIT, pace, || {
        let said = lab.nodes.each_ref().map(|node| node.command("show module csm 5 ft"));
        let all = said.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let honest = |text: &String| text.contains("FT VLAN is down, peer alive over VLAN 2");
        Ok(all.iter().all(honest).then_some(()))
    })
    .expect("FT VLAN is down, peer alive over VLAN 2");
    // Well beyond a failover time.
    let sent = |lab: &mut Lab| -> u64 {
        let ft = lab.node(active).show("ft").expect("ft");
        ft["paths"][1]["sent"].as_u64().expect("a number")
    };
    let begin = sent(&mut lab);
    wait::until("forty heartbeats", LIMIT, pace, || Ok((sent(&mut lab) > begin + 40).then_some(())))
        .expect("heartbeats");
    assert_eq!(lab.wait_for_active(LIMIT).expect("an active node"), active);
    assert_eq!(lab.node(active).show("ft").expect("ft")["term"], before);
    for port in [1, 2] {
        link::cut(&lab.topology.switch, &active.port(port), Cut::Both).expect("cut");
    }
    lab.node(active.peer()).wait_for(Role::Active, LIMIT).expect("takeover once it is heard nowhere");
    finish(lab);
}
