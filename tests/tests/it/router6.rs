//! The guide's HSRP picture in IPv6: two hosts, each router and CSM at once. The client knows no router but the group's address,
//! which it hears of by router advertisements; whichever host routes has the CSM's role, too.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use csm_tests::netns::{Netns, run};
use csm_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::router::{Clients, Network, Picture};

const LIMIT: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(50);
/// Of group 2: made of 0005.73a0.0002.
const ROUTER: &str = "fe80::5:73ff:fea0:2";
/// Of the same group, beside it.
const GLOBAL: &str = "2001:db8:100::f";

/// FT1 is the better router; a failed port leaves it worse than FT2.
fn configuration(host: u16, priority: u8) -> String {
    format!(
        "interface Fa3/6
 ipv6 address 2001:db8:100::{host}/64
 standby version 2
 standby 2 priority {priority} preempt
 standby 2 timers msec 100 msec 600
 standby 2 ipv6 autoconfig
 standby 2 ipv6 {GLOBAL}/64
interface vlan136
 ipv6 address 2001:db8:6::{host}/64
 standby version 2
 standby 1 priority {priority} preempt
 standby 1 timers msec 100 msec 600
 standby 1 ipv6 fe80::6:1
 standby 1 ipv6 2001:db8:6::f/64
 standby 1 track Fa3/6 20
interface po100
 switchport access vlan 136
interface eth2
 switchport access vlan 272
interface eth3
 switchport access vlan 71
module csm {}
 vlan 136 client
  ipv6 address 2001:db8:6::24{host}/64
  gateway 2001:db8:6::f
 vlan 272 server
  ipv6 address 2001:db8:5::{host}/64
  alias 2001:db8:5::f/64
 serverfarm WEB
  real 2001:db8:5::101
   inservice
  real 2001:db8:5::102
   inservice
 vserver WEB
  virtual 2001:db8:6::100 tcp www
  serverfarm WEB
  replicate csrp connection
  inservice
 ft group 88 vlan 71
  priority {priority}
  preempt
  heartbeat-time msec 100
  failover msec 300
  track group 1
  track hold-down 1
",
        4 + host
    )
}

fn network() -> Network {
    let address = |net, host| IpAddr::from([0x2001, 0xdb8, net, 0, 0, 0, 0, host]);
    Network {
        configurations: [configuration(1, 110), configuration(2, 100)],
        client: Vec::new(),
        servers: vec![address(5, 0x101), address(5, 0x102)],
        length: 64,
        gateway: address(5, 0xf),
        vip: SocketAddr::new(address(6, 0x100), 80),
    }
}

/// What the routers say to the client network's switch.
struct Capture(Child);

impl Capture {
    fn start(switch: &Netns, file: &Path) -> Self {
        let mut command = switch.command("dumpcap").expect("dumpcap");
        command.args(["-q", "-i", "br", "-f", "udp port 2029 or icmp6", "-w"]).arg(file);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("dumpcap");
        let capture = Self(child);
        let written = || Ok(std::fs::metadata(file).is_ok_and(|file| file.len() > 0).then_some(()));
        wait::until("dumpcap", LIMIT, PACE, written).expect("dumpcap");
        capture
    }

    fn end(mut self) {
        let id = i32::try_from(self.0.id()).expect("a process");
        kill(Pid::from_raw(id), Signal::SIGTERM).expect("SIGTERM");
        self.0.wait().expect("dumpcap ends");
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _gone = (self.0.kill(), self.0.wait());
    }
}

/// The lines that tshark makes of frames that fit, each once.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields"]);
    let output = command.args(fields.iter().flat_map(|field| ["-e", field])).output().expect("tshark");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// The client's default routes.
fn heard(client: &Netns) -> String {
    let mut command = client.command("ip").expect("ip");
    run(command.args(["-6", "route", "show", "default"])).expect("routes")
}

fn answers(client: &Netns, address: &str) -> bool {
    let mut command = client.command("ping").expect("ping");
    run(command.args(["-6", "-n", "-c", "1", "-W", "1", address])).is_ok()
}

#[test]
fn hosts_of_ipv6_hear_of_the_group_and_keep_their_connections_whichever_router_is_active() {
    let mut picture = Picture::build("router6", network());
    picture.start(0);
    picture.wait_for(0);
    picture.start(1);
    picture.wait_for_standby(1);

    // The client has its route, and an address, of the router's advertisement alone.
    let by_group = |client: &Netns| Ok(heard(client).contains(&format!("via {ROUTER} ")).then_some(()));
    if let Err(error) = wait::until("a default route", LIMIT, PACE, || by_group(&picture.client)) {
        panic!("{error}: {}\n{}", heard(&picture.client), picture.all());
    }
    for address in [&format!("{ROUTER}%eth0"), GLOBAL, "2001:db8:6::100"] {
        let answered =
            wait::until("an echo", LIMIT, PACE, || Ok(answers(&picture.client, address).then_some(())));
        answered.unwrap_or_else(|error| panic!("{error}: {address}\n{}", picture.all()));
    }
    let mut clients = Clients::open(&picture);
    clients.speak("on FT1");
    let shown = picture.csm(0, "show standby").expect("show standby");
    for line in [
        "Link-Local Virtual IPv6 address is FE80::5:73FF:FEA0:2 (conf auto EUI64)",
        "Local virtual MAC address is 0005.73a0.0002 (v2 IPv6 default)",
        "    Virtual IPv6 address 2001:DB8:100::F/64",
        "Link-Local Virtual IPv6 address is FE80::6:1 (conf)",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }

    // FT1's port fails: FT2 routes and has the role. Nobody takes the route back.
    let file = picture.hosts[0].log.with_extension("pcap");
    let capture = Capture::start(&picture.switches[0], &file);
    picture.switches[0].ip(&["link set dev sw-a down".into()]).expect("the port");
    picture.wait_for(1);
    clients.speak("on FT2");
    picture.switches[0].ip(&["link set dev sw-a up".into()]).expect("the port");
    picture.wait_for(0);
    clients.speak("on FT1 again");
    picture.wait_for_standby(1);
    by_group(&picture.client).expect("routes").expect("the route stays");
    capture.end();
    judge(&file);

    // FT1 dies.
    kill(picture.pid(0), Signal::SIGKILL).expect("SIGKILL");
    picture.wait_for(1);
    clients.speak("FT1 dead");
    by_group(&picture.client).expect("routes").expect("the route stays");
    if std::env::var_os("CSM_SHOW").is_some() {
        println!("{}", picture.csm(1, "show standby").expect("show standby"));
        println!("{}", picture.csm(1, "show standby brief").expect("show standby brief"));
    }
    picture.remove();
}

/// What was said while the group moved, as tshark reads it.
fn judge(file: &Path) {
    let complaints = "(udp.port == 2029 || icmpv6.type == 134 || icmpv6.type == 136) && (_ws.malformed || _ws.expert.severity >= 0x600000)";
    assert_eq!(tshark(file, complaints, &["frame"]), [""; 0]);
    let said = tshark(
        file,
        "hsrp2.version",
        &[
            "hsrp2.opcode",
            "hsrp2.state",
            "hsrp2.ipversion",
            "hsrp2.group",
            "hsrp2.virt_ip_v6",
            "ipv6.dst",
            "ipv6.hlim",
        ],
    );
    let rest = format!("6\t2\t{ROUTER}\tff02::66\t255");
    for (op, state) in [(0, 6), (0, 5), (0, 4), (1, 6), (2, 6)] {
        let line = format!("{op}\t{state}\t{rest}");
        assert!(said.contains(&line), "{line}: {said:?}");
    }
    // The active router's hellos, its advertisements as a neighbour and as a router: from the group's MAC address.
    let group_mac = ["00:05:73:a0:00:02"];
    assert_eq!(tshark(file, "hsrp2.state == 6 && hsrp2.opcode == 0", &["eth.src"]), group_mac);
    let routers = tshark(
        file,
        "icmpv6.type == 134",
        &["eth.src", "ipv6.src", "icmpv6.nd.ra.router_lifetime", "icmpv6.opt.prefix"],
    );
    assert_eq!(routers, [format!("{}\t{ROUTER}\t1800\t2001:db8:100::", group_mac[0])]);
    for target in [ROUTER, GLOBAL] {
        let target = target.parse::<Ipv6Addr>().expect("an address");
        let neighbours = tshark(
            file,
            &format!("icmpv6.type == 136 && icmpv6.nd.na.target_address == {target}"),
            &["eth.src", "icmpv6.nd.na.flag.r", "icmpv6.nd.na.flag.o", "icmpv6.opt.linkaddr"],
        );
        let neighbours: Vec<_> = neighbours.iter().map(|line| line.to_lowercase()).collect();
        assert!(!neighbours.is_empty(), "unasked, or asked");
        for line in neighbours {
            let fields: Vec<&str> = line.split('\t').collect();
            assert_eq!((fields[0], fields[3]), (group_mac[0], group_mac[0]), "{line}");
            assert!(fields[1..3].iter().all(|flag| ["1", "true"].contains(flag)), "{line}");
        }
    }
}
