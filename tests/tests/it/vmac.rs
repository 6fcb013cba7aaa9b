//! A switch that takes from a port what has the port's own MAC address and nothing else: `vmac auto` finds that out, `vmac off`
//! is told so, and connections survive all the same.

use std::net::IpAddr;
use std::time::Duration;

use csm_tests::lab::{Lab, Options};
use csm_tests::netns::{Netns, run};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::scenario::Traffic;
use csm_tests::status::Role;
use csm_tests::topology::{ALIAS, ALIAS6, Side, VIP, VIP6};
use csm_tests::wait;
use serde_json::json;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(20);
const CONNECTIONS: usize = 20;

/// What follows `word` in what `words` of `ip` print there.
fn after(netns: &Netns, words: &[&str], word: &str) -> Option<String> {
    let printed = run(netns.command("ip").expect("ip").args(words)).expect("ip");
    let mut found = printed.split_whitespace().skip_while(|&other| other != word);
    found.nth(1).map(str::to_owned)
}

/// The MAC address of a node's port.
fn mac(lab: &Lab, side: Side, interface: usize) -> String {
    let port = format!("eth{interface}");
    after(lab.topology.node(side), &["link", "show", "dev", &port], "link/ether").expect("a MAC address")
}

fn bridge(lab: &Lab, words: &[&str]) {
    run(lab.topology.switch.command("bridge").expect("bridge").args(words)).expect("bridge");
}

/// From now on the switch takes from that port what has its own MAC address, or all again.
fn secure(lab: &Lab, side: Side, interface: usize, on: bool) {
    let port = side.port(interface);
    let (learning, locked) = if on { ("off", "on") } else { ("on", "off") };
    bridge(lab, &["fdb", "replace", &mac(lab, side, interface), "dev", &port, "master", "static"]);
    bridge(lab, &["link", "set", "dev", &port, "learning", learning, "locked", locked]);
}

/// Both nodes say this of the MAC address on VLAN 2.
fn agree(lab: &Lab, own: bool, trial: &str) {
    let wanted = json!({ "vlan": 2, "configured": "auto", "own": own, "trial": trial });
    let off = json!({ "vlan": 3, "configured": "off", "own": true, "trial": "unknown" });
    wait::until(&format!("{wanted}"), LIMIT, PACE, || {
        let shown = lab.nodes.each_ref().map(|node| node.show("ft"));
        let good = |ft: &serde_json::Value| ft["macs"] == json!([wanted, off]);
        Ok(shown.iter().flatten().all(good).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", lab.nodes.each_ref().map(|node| node.show("ft"))));
}

/// Clients and servers have the active node's own MAC addresses for those of the group, and all connections carry.
fn follows(lab: &Lab, active: Side, traffic: &mut [Traffic; 2]) {
    for traffic in traffic.iter_mut() {
        traffic.messages("mark").expect("mark");
        let report = traffic.prove(LIMIT).expect("report");
        assert_eq!((report.alive, report.unproven), (CONNECTIONS, 0), "{report:?}");
    }
    let (router, server) = (&lab.topology.router, &lab.topology.servers[0]);
    for (netns, interface, address) in [
        (router, 1, IpAddr::from(VIP)),
        (router, 1, VIP6.into()),
        (server, 2, ALIAS.into()),
        (server, 2, ALIAS6.into()),
    ] {
        let right = mac(lab, active, interface);
        let address = address.to_string();
        let words = ["neigh", "show", "to", &address, "dev", "eth0"];
        wait::until(&format!("{address} at {right}"), LIMIT, PACE, || {
            run(netns.command("ping")?.args(["-c", "1", "-W", "1", &address]))?;
            Ok((after(netns, &words, "lladdr").as_ref() == Some(&right)).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {:?}", after(netns, &words, "lladdr")));
    }
}

fn takes_over(lab: &mut Lab, active: Side, fault: Fault) -> Side {
    let standby = active.peer();
    lab.node(standby).wait_for(Role::Standby, LIMIT).expect("a standby with a complete replica");
    lab.fail(active, fault).expect("the fault");
    lab.node(standby).wait_for(Role::Active, LIMIT).expect("takeover");
    standby
}

#[test]
fn connections_survive_where_only_a_ports_own_mac_passes() {
    let programs = Programs::beside_this_one().expect("built programs");
    let services = " vlan 3 server\n  vmac off\n".to_owned();
    let options = Options { ipv6: true, services, ..Options::small(programs, out("vmac")) };
    let mut lab = Lab::build(options).expect("a lab");
    for side in Side::BOTH {
        for interface in [1, 2] {
            secure(&lab, side, interface, true);
        }
    }
    let active = lab.start(LIMIT).expect("one active, one standby");
    agree(&lab, true, "lost_on_the_way");
    let said = lab.node(active).command("show module csm 5 ft").expect("show ft");
    for line in [
        " VLAN 2: the port's own MAC address is used (vmac auto: frames with another do not reach the peer)\n",
        " VLAN 3: the port's own MAC address is used (vmac off)\n",
    ] {
        assert!(said.contains(line), "{line:?} is missing in:\n{said}");
    }
    crate::dualstack::healthy_reals(&mut lab, active);
    let start = |vip| Traffic::to(&lab, vip, CONNECTIONS).expect("traffic");
    let mut traffic = [start(VIP.into()), start(VIP6.into())];
    follows(&lab, active, &mut traffic);
    let now = takes_over(&mut lab, active, Fault::Kill);
    follows(&lab, now, &mut traffic);
    lab.restore(active).expect("restart");
    // What still comes for the predecessor's MAC address is relayed.
    let active = takes_over(&mut lab, now, Fault::FtActive);
    follows(&lab, active, &mut traffic);

    // The switch learns better: the virtual one is used, and nobody notices.
    for side in Side::BOTH {
        secure(&lab, side, 1, false);
    }
    agree(&lab, false, "passes");
    for traffic in &mut traffic {
        traffic.messages("mark").expect("mark");
        let report = traffic.prove(LIMIT).expect("report");
        assert_eq!((report.alive, report.unproven), (CONNECTIONS, 0), "{report:?}");
    }
    drop(traffic);
    finish(lab);
}

/// Nobody is there to try it with, so what was found last counts.
#[test]
fn a_node_that_starts_alone_uses_the_mac_that_passed_before() {
    let programs = Programs::beside_this_one().expect("built programs");
    let services = " vlan 3 server\n  vmac off\n".to_owned();
    let mut lab =
        Lab::build(Options { services, ..Options::small(programs, out("vmac-alone")) }).expect("a lab");
    for side in Side::BOTH {
        secure(&lab, side, 1, true);
    }
    lab.start(LIMIT).expect("one active, one standby");
    agree(&lab, true, "lost_on_the_way");
    for side in Side::BOTH {
        lab.fail(side, Fault::Kill).expect("dead");
    }
    lab.restore(Side::A).expect("a start");
    lab.node(Side::A).wait_for(Role::Active, LIMIT).expect("the role");
    let macs = lab.node(Side::A).show("ft").expect("ft")["macs"].clone();
    assert_eq!(
        macs[0],
        json!({ "vlan": 2, "configured": "auto", "own": true, "trial": "unknown" }),
        "{macs}"
    );
    finish(lab);
}
