//! `reverse-sticky` on real traffic: a host outside reaches the virtual server by the second of two firewalls, which the routes do not lead to. Its
//! answers go back by that one, and so does what a server opens to it; after a takeover, too.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use csm_tests::lab::{Lab, Options};
use csm_tests::netns::Netns;
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::service::DOWNLOAD;
use csm_tests::status::Role;
use csm_tests::topology::{REALS, Side, VIP};
use csm_tests::traffic::download::{Download, Outcome};
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(30);
const OFTEN: Duration = Duration::from_millis(50);
/// Bytes a second at which a download lasts from its beginning until after the takeover.
const RATE: u64 = 1_000_000;
/// The virtual server that the host outside speaks to.
const BACK: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 41);
/// Beyond both firewalls.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 9, 9);
const FIREWALLS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 158, 38, 71), Ipv4Addr::new(192, 158, 38, 72)];
const PORT: u16 = 7000;
/// More than ARP and a handshake, far less than a download.
const NOTHING: u64 = 20_000;

fn services() -> String {
    format!(
        " serverfarm FIREWALLS
  no nat server
  no nat client
  real {0}
   inservice
  real {1}
   inservice
 serverfarm INSIDE
  real {2}
   inservice
 sticky 90 netmask 255.255.255.255 address destination
 vserver OUT
  virtual 10.77.9.0 255.255.255.0 any
  vlan 3
  serverfarm FIREWALLS
  sticky 30 group 90
  replicate csrp connection
  inservice
 vserver BACK
  virtual {BACK} tcp www
  serverfarm INSIDE
  reverse-sticky 90
  replicate csrp connection
  inservice
",
        FIREWALLS[0], FIREWALLS[1], REALS[0],
    )
}

/// The firewalls and the host beyond them, which goes by the second.
struct Beyond {
    firewalls: [Netns; 2],
    outside: Netns,
}

impl Beyond {
    fn build(lab: &Lab) -> Result<Self> {
        let outside = Netns::create(&lab.id, "outside")?;
        let firewalls = [Netns::create(&lab.id, "fw1")?, Netns::create(&lab.id, "fw2")?];
        outside.ip(&[format!("addr add {OUTSIDE}/32 dev lo")])?;
        for ((n, firewall), address) in (1..).zip(&firewalls).zip(FIREWALLS) {
            lab.topology.switch.ip(&[
                format!("link add name sw-fw{n} type veth peer name eth0 netns {}", firewall.name()),
                format!("link set dev sw-fw{n} master vlan2"),
                format!("link set dev sw-fw{n} up"),
            ])?;
            outside.ip(&[
                format!("link add name eth{n} type veth peer name eth1 netns {}", firewall.name()),
                format!("addr add 10.77.{n}.2/24 dev eth{n}"),
                format!("link set dev eth{n} up"),
            ])?;
            firewall.ip(&[
                format!("addr add {address}/24 dev eth0"),
                format!("addr add 10.77.{n}.1/24 dev eth1"),
                "link set dev eth0 up".to_owned(),
                "link set dev eth1 up".to_owned(),
                format!("route add {OUTSIDE}/32 via 10.77.{n}.2"),
                format!("route add 192.158.39.0/24 via {VIP}"),
            ])?;
            firewall.sysctl("ipv4/ip_forward", "1")?;
        }
        for host in firewalls.iter().chain([&outside]) {
            for scope in ["all", "default", "eth1"] {
                host.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
            }
        }
        outside.ip(&[format!("route add default via 10.77.2.1 src {OUTSIDE}")])?;
        Ok(Self { firewalls, outside })
    }

    /// Octets that a firewall has sent outside.
    fn sent(&self, firewall: usize) -> Result<u64> {
        // Of the reading thread, not of the process.
        let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
        octets_sent(&self.firewalls[firewall].within(read)??, "eth1").context("eth1")
    }
}

fn octets_sent(table: &str, device: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'))?;
    line.split_whitespace().nth(8)?.parse().ok()
}

/// What a node has entered for [`OUTSIDE`] in the firewalls' group.
fn entered(lab: &Lab, side: Side) -> Result<Option<String>> {
    let answer = lab.nodes[side as usize].show("sticky")?;
    let rows = answer["entries"].as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row["group"] == 90 && row["client"] == OUTSIDE.to_string());
    Ok(row.map(|row| row["real"].as_str().unwrap_or_default().to_owned()))
}

/// A server opens a connection to the host outside, and what it says arrives.
fn opens(lab: &Lab, beyond: &Beyond) -> Result<()> {
    let listener = beyond.outside.within(|| TcpListener::bind((OUTSIDE, PORT)))??;
    let to = SocketAddr::new(IpAddr::V4(OUTSIDE), PORT);
    let mut from = lab.topology.servers[0].within(|| TcpStream::connect_timeout(&to, LIMIT))??;
    let (mut arrived, who) = listener.accept()?;
    anyhow::ensure!(who.ip() == IpAddr::V4(REALS[0]), "it came from {who}");
    from.write_all(b"hello")?;
    let mut said = [0; 5];
    arrived.set_read_timeout(Some(LIMIT))?;
    arrived.read_exact(&mut said)?;
    anyhow::ensure!(said == *b"hello", "something else arrived");
    Ok(())
}

/// Waits until the connection to [`BACK`] stands on `side`.
fn replicated(lab: &Lab, side: Side) {
    wait::until("a replica of it", LIMIT, OFTEN, || {
        let Ok(answer) = lab.nodes[side as usize].show("conns") else { return Ok(None) };
        let rows = answer["connections"].as_array().cloned().unwrap_or_default();
        Ok(rows.iter().any(|row| row["vserver"] == "BACK").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{side:?}: {error:#}"));
}

/// Waits until the second firewall has carried more of the download from here on than could have been under way.
fn goes_on(beyond: &Beyond, download: &mut Download) {
    let before = beyond.sent(1).expect("its counters");
    wait::until("more of the download", LIMIT, OFTEN, || Ok((beyond.sent(1)? > before + RATE).then_some(())))
        .expect("it goes on");
    assert!(download.running().expect("curl"), "it spans the takeover");
}

#[test]
fn what_came_by_a_firewall_goes_back_by_it_over_a_takeover() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let options = Options { services: services(), ..Options::small(programs, out("firewalls")) };
    let mut lab = Lab::build(options).expect("a lab");
    let beyond = Beyond::build(&lab).expect("two firewalls");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let standby = active.peer();
    wait::until("the firewalls' MAC addresses", LIMIT, OFTEN, || {
        let answer = lab.nodes[active as usize].show("reals")?;
        let rows = answer.get("reals").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
        let is_up =
            |row: &&serde_json::Value| row["serverfarm"] == "FIREWALLS" && row["state"] == "operational";
        Ok((rows.iter().filter(is_up).count() == 2).then_some(()))
    })
    .expect("they answer");
    let before = beyond.sent(0).expect("its counters");
    let url = format!("http://{BACK}/{DOWNLOAD}");
    let mut download = Download::start(&beyond.outside, OUTSIDE, &url, RATE).expect("curl");
    let firewall = FIREWALLS[1].to_string();
    for side in [active, standby] {
        wait::until("the firewall that it came by", LIMIT, OFTEN, || {
            Ok((entered(&lab, side)?.as_deref() == Some(firewall.as_str())).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{side:?}: {error:#}"));
    }
    opens(&lab, &beyond).expect("the server's connection");
    println!("{}", lab.nodes[active as usize].command("show module csm 5 sticky").expect("sticky"));
    println!(
        "{}",
        lab.nodes[active as usize].command("show module csm 5 vservers BACK detail").expect("detail")
    );
    replicated(&lab, standby);
    lab.fail(active, Fault::PowerOff).expect("power off");
    lab.node(standby).wait_for(Role::Active, LIMIT).expect("takeover");
    goes_on(&beyond, &mut download);
    opens(&lab, &beyond).expect("the server's connection after the takeover");
    // What the other one has from a snapshot serves as well as what it was told of as it came.
    lab.restore(active).expect("restart");
    replicated(&lab, active);
    lab.fail(standby, Fault::PowerOff).expect("power off");
    lab.node(active).wait_for(Role::Active, LIMIT).expect("takeover");
    goes_on(&beyond, &mut download);
    opens(&lab, &beyond).expect("the server's connection after the second takeover");
    let outcome = download.finish(&lab.payload, LIMIT).expect("curl ends");
    assert_eq!(outcome, Outcome::Intact);
    let [first, second] = [0, 1].map(|n| beyond.sent(n).expect("its counters"));
    assert!(first - before < NOTHING && second > lab.payload.size, "{before} {first} {second}");
    drop(beyond);
    finish(lab);
}
