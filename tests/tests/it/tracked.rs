//! Everything else that can be tracked, in one lab: a VRRP group spoken by scapy, gateways by ICMP and by neighbour
//! solicitation, a server farm, an interface that is set down; and a role that comes back too often.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use csm_tests::figure::{Figure, Timers};
use csm_tests::lab::{Lab, Options};
use csm_tests::programs::Programs;
use csm_tests::status::Role;
use csm_tests::topology::{ROUTER, ROUTER6, Side, Wiring};
use csm_tests::wait;
use serde_json::Value;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(20);
const OTHER_ROUTER: &str = "192.158.38.21";

/// The master of VRRP group 7, version 3: `say SOURCE PRIORITY` a line.
const SCAPY: &str = r#"
import sys, threading, time, logging
logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.all import Ether, IP, conf, get_if_hwaddr
from scapy.layers.vrrp import VRRPv3
socket, said = conf.L2socket(iface="eth0"), None
def keep_saying():
    while True:
        if said is not None:
            socket.send(said)
        time.sleep(0.2)
threading.Thread(target=keep_saying, daemon=True).start()
for line in sys.stdin:
    _, source, priority = line.split()
    ip = IP(src=source, dst="224.0.0.18", ttl=255, proto=112)
    said = Ether(src=get_if_hwaddr("eth0"), dst="01:00:5e:00:00:12") / ip / VRRPv3(vrid=7, priority=int(priority), adv=30, addrlist=["192.158.38.1"])
    print("done", flush=True)
"#;

struct Master(Child, BufReader<std::process::ChildStdout>);

impl Master {
    fn start(lab: &Lab) -> Self {
        // Debian's own interpreter has Debian's scapy.
        let mut command = lab.topology.router.command("/usr/bin/python3").expect("python");
        command.args(["-c", SCAPY]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("scapy starts");
        let answers = BufReader::new(child.stdout.take().expect("its output"));
        Self(child, answers)
    }

    fn say(&mut self, words: &str) {
        writeln!(self.0.stdin.as_mut().expect("its input"), "say {words}").expect("a command");
        let mut answer = String::new();
        self.1.read_line(&mut answer).expect("an answer");
        assert_eq!(answer.trim_end(), "done");
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _gone = (self.0.kill(), self.0.wait());
    }
}

fn options(test: &str, group: [String; 2]) -> Options {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let figure = Figure { timers: Timers::FAST, preempt: true, wiring: Wiring::Access };
    Options { figure, group, ..Options::small(programs, out(test)) }
}

/// Another interface of each node, which is tracked, and its other end.
fn plug(lab: &Lab) {
    for node in &lab.topology.nodes {
        let lines =
            ["link add name eth8 type veth peer name eth9", "link set dev eth8 up", "link set dev eth9 up"];
        node.ip(&lines.map(str::to_owned)).expect("an interface to track");
    }
}

#[track_caller]
fn wait_for_object(lab: &Lab, side: Side, object: &str, state: &str, note: &str) {
    let node = &lab.nodes[side as usize];
    let shown = || -> anyhow::Result<Value> { node.show("ft track") };
    let came = wait::until(&format!("{object} {state}"), LIMIT, PACE, || {
        let track = shown()?;
        let one = track["objects"].as_array().into_iter().flatten().find(|one| one["object"] == object);
        let good = |one: &Value| one["state"] == state && one["note"].as_str().unwrap_or("").contains(note);
        Ok(one.filter(|one| good(one)).map(drop))
    });
    came.unwrap_or_else(|error| panic!("{error:#}: {:?}", shown()));
}

#[test]
fn vrrp_moves_the_role_and_gateways_of_both_families_farms_and_links_are_watched() {
    let lines = [ROUTER.to_string(), OTHER_ROUTER.to_owned()].map(|router| {
        format!(
            "  track vrrp 7 router {router}\n  track gateway {ROUTER} icmp interval msec 200 retries 2\n  \
             track gateway {ROUTER6} interval msec 300\n  track serverfarm WEB minimum 3\n  \
             track interface eth8\n  track hold-down 0\n"
        )
    });
    let services = " probe TCP tcp\n  interval 2\n  retries 1\n  open 1\n".to_owned();
    let mut lab = Lab::build(Options { ipv6: true, services, ..options("tracked", lines) }).expect("a lab");
    plug(&lab);
    let mut master = Master::start(&lab);
    master.say(&format!("{ROUTER} 110"));
    lab.start(LIMIT).expect("one active, one standby");
    lab.node(Side::A).wait_for(Role::Active, LIMIT).expect("the node beside the master");
    let vrrp = [ROUTER.to_string(), OTHER_ROUTER.to_owned()].map(|router| format!("vrrp 7 router {router}"));
    let (gateway, gateway6) = (format!("gateway {ROUTER}"), format!("gateway {ROUTER6}"));
    let farm = "serverfarm WEB minimum 3";
    for (object, note) in [
        (vrrp[0].as_str(), ""),
        (&gateway, "by ICMP every 200 msec, 2 retries"),
        (&gateway6, "by ND every 300 msec, 3 retries"),
        (farm, ""),
        ("interface eth8", ""),
    ] {
        wait_for_object(&lab, Side::A, object, "up", note);
    }
    wait_for_object(&lab, Side::B, &vrrp[1], "down", "");

    master.say(&format!("{OTHER_ROUTER} 120"));
    lab.node(Side::B).wait_for(Role::Active, LIMIT).expect("the role follows the master");
    wait_for_object(&lab, Side::A, &vrrp[0], "down", "");
    master.say(&format!("{ROUTER} 130"));
    lab.node(Side::A).wait_for(Role::Active, LIMIT).expect("and back");

    // A router that answers ARP and does not forward a question any more.
    let router = &lab.topology.router;
    router.sysctl("ipv4/icmp_echo_ignore_all", "1").expect("sysctl");
    wait_for_object(&lab, Side::A, &gateway, "down", "");
    router.sysctl("ipv4/icmp_echo_ignore_all", "0").expect("sysctl");
    wait_for_object(&lab, Side::A, &gateway, "up", "");
    router.ip(&[format!("addr del {ROUTER6}/64 dev eth0")]).expect("away");
    wait_for_object(&lab, Side::A, &gateway6, "down", "");
    router.ip(&[format!("addr add {ROUTER6}/64 dev eth0 nodad")]).expect("back");
    wait_for_object(&lab, Side::A, &gateway6, "up", "");
    let node = &lab.topology.nodes[0];
    node.ip(&["link set dev eth9 down".to_owned()]).expect("down");
    wait_for_object(&lab, Side::A, "interface eth8", "down", "no carrier");
    node.ip(&["link set dev eth8 down".to_owned()]).expect("down");
    wait_for_object(&lab, Side::A, "interface eth8", "down", "administratively down");
    lab.topology.servers[0].ip(&["link set dev eth0 down".to_owned()]).expect("down");
    wait_for_object(&lab, Side::A, farm, "down", "");
    drop(master);
    finish(lab);
}

/// What is tracked fails again and again: a return waits at last, and `show` says for how long. A takeover does not wait.
#[test]
fn a_role_that_comes_back_too_often_is_waited_for() {
    let lines = ["  track interface eth8\n  track hold-down 0\n"; 2].map(str::to_owned);
    let mut lab = Lab::build(options("damping", lines)).expect("a lab");
    plug(&lab);
    lab.start(LIMIT).expect("one active, one standby");
    lab.node(Side::A).wait_for(Role::Active, LIMIT).expect("the preferred node");
    let link = |lab: &Lab, state: &str| {
        lab.topology.nodes[0].ip(&[format!("link set dev eth9 {state}")]).expect("a link");
    };
    let mut round = 0;
    // A start may have been a return, too.
    let held = loop {
        round += 1;
        assert!(round <= 6, "nothing is waited for");
        link(&lab, "down");
        lab.node(Side::B).wait_for(Role::Active, LIMIT).expect("the role goes");
        link(&lab, "up");
        let held = wait::until("a return, or a wait for it", LIMIT, PACE, || {
            let text = lab.node(Side::A).command("show module csm 5 ft")?;
            if text.contains("preemption is on, but held for") {
                return Ok(Some(Some(text)));
            }
            Ok(text.contains("This box is active").then_some(None))
        });
        if let Some(text) = held.expect("one of the two") {
            break text;
        }
    };
    assert!(round > 3 && held.contains("This box is standby") && held.contains(" times"), "{round}: {held}");
    assert_eq!(lab.node(Side::A).show("ft track").expect("ft track")["eligible"], true);
    // The other one fails: now nothing is waited for.
    lab.fail(Side::B, csm_tests::node::Fault::Kill).expect("kill");
    lab.node(Side::A).wait_for(Role::Active, Duration::from_secs(5)).expect("takeover at once");
    finish(lab);
}
