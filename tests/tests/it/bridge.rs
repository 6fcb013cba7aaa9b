//! Bridge mode: the servers in the clients' network, their gateway the upstream router. Only the active node bridges, at
//! no moment both, and the switches find every host by way of the new one.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::slice::from_ref;
use std::time::Duration;

use csm_tests::figure::{Figure, Timers, WEB_PORT};
use csm_tests::lab::{Lab, Options};
use csm_tests::loops::{LoopWatch, Marked};
use csm_tests::netns;
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::report::table;
use csm_tests::scenario::{self, Traffic};
use csm_tests::status::Role;
use csm_tests::topology::{VIP, VIP6, Wiring};
use csm_tests::wait;

use crate::dualstack::healthy_reals;
use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);
/// Bytes a second at which a small lab's download lasts from before the fault until after the takeover.
const RATE: u64 = 3_000_000;

fn options(test: &str, wiring: Wiring) -> Options {
    let figure = Figure { timers: Timers::FAST, preempt: false, wiring };
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    Options { figure, ..Options::small(programs, out(test)) }
}

/// Connections, a download and the probing client survive, and no marked frame goes round meanwhile.
fn survives(wiring: Wiring, fault: Fault) {
    let mut lab = Lab::build(options(&format!("{wiring:?}-{}", fault.name()), wiring)).expect("a lab");
    lab.start(LIMIT).expect("one active, one standby");
    let [first, second] = [&lab.topology.servers[0], &lab.topology.servers[1]];
    let watch = LoopWatch::start(&[&lab.topology.router, first, second]).expect("the loop detector");
    let mut traffic = Traffic::start(&lab, 100).expect("traffic");
    let outline = scenario::apply(&mut lab, &mut traffic, fault, RATE).expect("a takeover and a return");
    let last = traffic.messages("finish").expect("the final report");
    let report = watch.finish();
    assert_eq!(report.copies, Vec::<String>::new(), "{:?} of {:?}", report.crossed, report.sent);
    // The router's frames reach the servers over the bridge, but for those of the takeover's time.
    for (speaker, listener) in [(0, 1), (0, 2), (1, 0), (2, 0)] {
        let (crossed, sent) = (report.crossed[speaker][listener], report.sent[speaker]);
        assert!(crossed > sent / 2, "{speaker} to {listener}: {crossed} of {sent}");
    }
    assert!(outline.clean(), "{}", table(from_ref(&outline)));
    assert!(last.lost.is_empty(), "{last:?}");
    drop(traffic);
    finish(lab);
}

#[test]
fn connections_survive_kill_without_a_loop() {
    survives(Wiring::Bridge, Fault::Kill);
}

#[test]
fn connections_survive_stop_and_the_woken_node_does_not_bridge() {
    survives(Wiring::Bridge, Fault::Stop);
}

#[test]
fn connections_survive_a_planned_switchover_without_a_loop() {
    survives(Wiring::Bridge, Fault::FtActive);
}

#[test]
fn a_bridge_group_on_one_trunk_survives_power_off() {
    survives(Wiring::BridgeOnTrunk, Fault::PowerOff);
}

/// Both families' connections survive, the servers are reached by IPv6 themselves, too, and no IPv6 frame goes round.
#[test]
fn both_families_survive_kill_without_a_loop() {
    const CONNECTIONS: usize = 50;
    let options = Options { ipv6: true, ..options("dual", Wiring::Bridge) };
    let mut lab = Lab::build(options).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    healthy_reals(&mut lab, active);
    let direct = |lab: &Lab| {
        let real = SocketAddr::new(Wiring::Bridge.reals6()[1].into(), WEB_PORT);
        let connect = || TcpStream::connect_timeout(&real, Duration::from_secs(5));
        wait::until("a direct connection", LIMIT, Duration::from_millis(50), || {
            Ok(lab.topology.client.within(connect)?.and_then(|stream| fetch(&stream)).ok())
        })
        .unwrap_or_else(|error| panic!("{real}: {error:#}"));
    };
    direct(&lab);
    let [first, second] = [&lab.topology.servers[0], &lab.topology.servers[1]];
    let watch =
        LoopWatch::of(Marked::Ipv6, &[&lab.topology.router, first, second]).expect("the loop detector");
    let start = |vip| Traffic::to(&lab, vip, CONNECTIONS).expect("traffic");
    let mut traffic = [start(VIP.into()), start(VIP6.into())];
    lab.fail(active, Fault::Kill).expect("kill");
    lab.node(active.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
    for traffic in &mut traffic {
        traffic.messages("mark").expect("mark");
        let report = traffic.prove(LIMIT).expect("report");
        assert_eq!((report.alive, report.unproven), (CONNECTIONS, 0), "{report:?}");
    }
    direct(&lab);
    let report = watch.finish();
    assert_eq!(report.copies, Vec::<String>::new(), "{:?} of {:?}", report.crossed, report.sent);
    for (speaker, listener) in [(0, 1), (1, 0), (2, 0)] {
        let (crossed, sent) = (report.crossed[speaker][listener], report.sent[speaker]);
        assert!(crossed > sent / 2, "{speaker} to {listener}: {crossed} of {sent}");
    }
    drop(traffic);
    finish(lab);
}

/// What is not the virtual server's is bridged, also to a balanced port of a server itself, and again after a takeover.
#[test]
fn servers_are_reached_directly_before_and_after_a_takeover() {
    let mut lab = Lab::build(options("direct", Wiring::Bridge)).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let direct = |lab: &Lab| {
        for real in Wiring::Bridge.reals() {
            let target = SocketAddr::new(IpAddr::V4(real), WEB_PORT);
            let connect = || TcpStream::connect_timeout(&target, Duration::from_secs(5));
            wait::until("a direct connection", LIMIT, Duration::from_millis(50), || {
                Ok(lab.topology.client.within(connect)?.and_then(|stream| fetch(&stream)).ok())
            })
            .unwrap_or_else(|error| panic!("{target}: {error:#}"));
        }
    };
    direct(&lab);
    lab.fail(active, Fault::Kill).expect("kill");
    lab.wait_for_active(LIMIT).expect("a takeover");
    direct(&lab);
    finish(lab);
}

/// A switch that has learned a server's MAC address at the old node's port is told of the new one by the new one: nobody
/// else speaks, neither the server nor, its neighbour entry being permanent, the router.
#[test]
fn a_takeover_moves_the_hosts_of_the_other_side_in_the_switches() {
    let mut lab = Lab::build(options("moved", Wiring::Bridge)).expect("a lab");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let real = Wiring::Bridge.reals()[0];
    let ear = lab.topology.servers[0].within(|| UdpSocket::bind((real, 6000))).expect("netns").expect("bind");
    ear.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let mouth = lab.topology.router.within(|| UdpSocket::bind("0.0.0.0:0")).expect("netns").expect("bind");
    let arrives = || {
        mouth.send_to(b"to the server alone", (real, 6000))?;
        Ok(ear.recv(&mut [0; 64]).ok())
    };
    let pause = Duration::from_millis(10);
    wait::until("the first datagram", LIMIT, pause, arrives).expect("bridged");
    let known = || -> anyhow::Result<Option<String>> {
        let mut ip = lab.topology.router.command("ip")?;
        let shown = netns::run(ip.args(["neigh", "show", &real.to_string(), "dev", "eth0"]))?;
        Ok(shown.split(' ').skip_while(|word| *word != "lladdr").nth(1).map(str::to_owned))
    };
    let mac = wait::until("the server's MAC", LIMIT, pause, known).expect("a neighbour");
    lab.topology
        .router
        .ip(&[format!("neigh replace {real} lladdr {mac} dev eth0 nud permanent")])
        .expect("a permanent neighbour");
    // The switch has the server's MAC where the active node bridges to the router's side.
    netns::run(lab.topology.switch.command("bridge").expect("bridge").args([
        "fdb",
        "replace",
        &mac,
        "dev",
        &active.port(1),
        "master",
        "dynamic",
    ]))
    .expect("as if it had just been heard there");
    lab.fail(active, Fault::Stop).expect("stop");
    lab.node(active.peer()).wait_for(Role::Active, LIMIT).expect("takeover");
    // Well before the switch would forget by itself, 300 s.
    wait::until("a datagram after the takeover", Duration::from_secs(3), pause, arrives).expect("relearned");
    finish(lab);
}

/// Asks for a page and reads the beginning of the answer.
fn fetch(mut stream: &TcpStream) -> std::io::Result<()> {
    use std::io::{Read, Write};
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.read_exact(&mut [0; 12])
}
