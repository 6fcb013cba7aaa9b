//! The lab itself, with the stand-in in place of the product: traffic flows, faults do what their names say, and each
//! checker fires on what it is there for.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::slice::from_ref;
use std::time::Duration;

use csm_tests::checks::{arp_faults, claims};
use csm_tests::lab::{Lab, Options};
use csm_tests::link::{self, Cut};
use csm_tests::node::{Fault, NegativeControl};
use csm_tests::programs::Programs;
use csm_tests::report::table;
use csm_tests::scenario::{self, Traffic};
use csm_tests::status::Role;
use csm_tests::topology::{ALIAS, Side, VIP};
use csm_tests::wait::{self, now_ns};

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);
/// Bytes a second at which a small lab's download lasts from before the fault until after the takeover.
const RATE: u64 = 3_000_000;

fn options(test: &str) -> Options {
    Options::small(Programs::stand_in().expect("csm-lab is built with the tests"), out(test))
}

#[test]
fn every_fault_is_survived_by_a_pair_that_keeps_its_rules() {
    let mut lab = Lab::build(options("faults")).expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    let mut traffic = Traffic::start(&lab, 50).expect("traffic");
    for fault in Fault::DEMONSTRATED {
        let outline = scenario::apply(&mut lab, &mut traffic, fault, RATE).expect("a takeover and a return");
        assert!(outline.clean(), "{}", table(from_ref(&outline)));
        assert!(outline.probes > 1_000, "the UDP client ran:\n{}", table(from_ref(&outline)));
        if !fault.planned() {
            assert!(outline.probes_lost > 0, "a fault that nobody noticed:\n{}", table(from_ref(&outline)));
        }
    }
    let last = traffic.messages("finish").expect("the final report");
    assert_eq!((last.established, last.alive), (50, 50), "all ended in order: {last:?}");
    assert!(last.lost.is_empty(), "{last:?}");
    drop(traffic);
    finish(lab);
}

#[test]
fn a_woken_node_without_a_lease_is_caught() {
    let mut lab = Lab::build(Options { control: Some(NegativeControl::LeaseOff), ..options("lease-off") })
        .expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    let began = now_ns();
    let active = lab.wait_for_active(LIMIT).expect("an active node");
    let mut traffic = Traffic::start(&lab, 20).expect("traffic");
    lab.fail(active, Fault::Stop).expect("stop");
    lab.node(active.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
    wait::observe(Duration::from_millis(500)).expect("time for a backlog");
    lab.restore(active).expect("SIGCONT");
    let caught = wait::until("a complaint", LIMIT, Duration::from_millis(50), || {
        // Somebody has to ask before two nodes can answer.
        lab.topology.router.ip(&[format!("neigh flush {VIP} dev eth0")])?;
        let faults = arp_faults(&claims(&lab.capture.frames(began, now_ns()), &[VIP, ALIAS]), 1);
        Ok((!faults.is_empty()).then_some(faults))
    });
    assert!(caught.is_ok(), "{caught:?}");
    traffic.messages("report").expect("the client lives");
    drop(traffic);
    finish(lab);
}

#[test]
fn a_takeover_without_an_announcement_is_caught() {
    let mut lab =
        Lab::build(Options { control: Some(NegativeControl::AnnounceOff), ..options("announce-off") })
            .expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    let active = lab.wait_for_active(LIMIT).expect("an active node");
    let mut traffic = Traffic::start(&lab, 20).expect("traffic");
    lab.fail(active, Fault::Stop).expect("stop");
    lab.node(active.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
    traffic.messages("mark").expect("mark");
    // The switch goes on sending to the stopped node's port, for its ageing time of 300 s.
    let report = traffic.prove(Duration::from_secs(2)).expect("report");
    assert!(report.unproven > 0, "{report:?}");
    drop(traffic);
    finish(lab);
}

#[test]
fn two_nodes_that_do_not_hear_each_other_are_caught() {
    let mut lab = Lab::build(options("split")).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let began = now_ns();
    link::cut(&lab.topology.switch, &active.port(3), Cut::FromNode).expect("cut the FT link one way");
    for vlan in [1, 2] {
        link::deafen(&lab.topology.switch, &active.port(vlan)).expect("no heartbeat on the data VLANs");
    }
    lab.node(active.peer()).wait_for(Role::Active, LIMIT).expect("a second active");
    let caught = wait::until("a complaint", LIMIT, Duration::from_millis(50), || {
        lab.topology.router.ip(&[format!("neigh flush {VIP} dev eth0")])?;
        lab.topology.client.within(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"who is there", (VIP, 7)))??;
        let faults = arp_faults(&claims(&lab.capture.frames(began, now_ns()), &[VIP, ALIAS]), 1);
        Ok((!faults.is_empty()).then_some(faults))
    });
    assert!(caught.is_ok(), "{caught:?}");
    for port in 1..=3 {
        link::mend(&lab.topology.switch, &active.port(port)).expect("mend");
    }
    finish(lab);
}

#[test]
fn labs_stand_side_by_side() {
    let mut first = Lab::build(options("first")).expect("a lab");
    let mut second = Lab::build(options("second")).expect("a second lab");
    for lab in [&mut first, &mut second] {
        lab.start(LIMIT).expect("one active, one standby");
    }
    let before = outline_silence(&mut first);
    finish(second);
    assert!(before < Duration::from_secs(5), "{before:?}");
    finish(first);
}

fn outline_silence(lab: &mut Lab) -> Duration {
    let mut traffic = Traffic::start(lab, 10).expect("traffic");
    let outline = scenario::apply(lab, &mut traffic, Fault::Kill, RATE).expect("a takeover and a return");
    Duration::from_nanos(outline.silence_ns)
}

#[test]
fn a_download_that_is_cut_short_is_caught() {
    let mut lab = Lab::build(options("cut")).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    // Both nodes lose the servers: nobody can save this download.
    for side in Side::BOTH {
        link::cut(&lab.topology.switch, &side.port(2), Cut::Both).expect("cut");
    }
    let url = format!("http://{VIP}/{}", csm_tests::service::DOWNLOAD);
    let from = csm_tests::topology::client(0);
    let download = csm_tests::traffic::download::Download::start(&lab.topology.client, from, &url, 1_000_000);
    let outcome = download.expect("curl").finish(&lab.payload, Duration::from_secs(2)).expect("an outcome");
    assert!(matches!(outcome, csm_tests::traffic::download::Outcome::Broken(_)), "{active:?} {outcome:?}");
    finish(lab);
}

#[test]
fn a_killed_lab_is_reaped() {
    let out = out("reaped");
    let program = PathBuf::from(env!("CARGO_BIN_EXE_csm-lab"));
    let mut run = Command::new(program)
        .args(["run", "--stand-in", "--fault", "kill", "--connections", "10", "--download", "1", "--out"])
        .arg(&out)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("csm-lab");
    let lab = format!("csmlab-{}-0-", run.id());
    let namespaces = || {
        let names = std::fs::read_dir("/run/netns").into_iter().flatten();
        names
            .filter(|name| {
                name.as_ref().is_ok_and(|name| name.file_name().to_string_lossy().starts_with(&lab))
            })
            .count()
    };
    wait::until("a standing lab", LIMIT, Duration::from_millis(5), || Ok((namespaces() == 8).then_some(())))
        .expect("eight namespaces");
    run.kill().expect("kill -9");
    run.wait().expect("its end");
    wait::until("no namespace", LIMIT, Duration::from_millis(10), || Ok((namespaces() == 0).then_some(())))
        .expect("reaped");
    std::fs::remove_dir_all(out).expect("remove the logs");
}

#[test]
fn a_connection_that_is_reset_is_counted() {
    let mut lab = Lab::build(options("reset")).expect("a lab");
    let outline = {
        lab.start(LIMIT).expect("one active, one standby");
        let mut traffic = Traffic::start(&lab, 10).expect("traffic");
        // `ss -K` resets the client's end of half of the connections.
        let ports = traffic.messages("report").expect("report");
        assert_eq!(ports.alive, 10);
        let killed = lab
            .topology
            .client
            .command("ss")
            .expect("ss")
            .args(["-K", "dst", &VIP.to_string(), "dport", "=", "9000", "src", "10.20.0.103"])
            .output()
            .expect("ss");
        assert!(killed.status.success(), "{killed:?}");
        wait::until("a loss", LIMIT, Duration::from_millis(20), || {
            let report = traffic.messages("report")?;
            Ok((report.alive == 9 && report.lost.values().sum::<usize>() == 1).then_some(report))
        })
    };
    assert!(outline.is_ok(), "{outline:?}");
    finish(lab);
}
