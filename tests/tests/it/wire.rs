//! Everything else on the wire, with real hosts: path MTU discovery on both sides, traceroute through and to the virtual
//! server, large pings and datagrams in pieces. The row of hosts is that of [`crate::row`].

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use csm_tests::netns::{Netns, run};

use crate::row::{PATIENCE, Plan, Row, TCP_PORT, UDP_PORT};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 30);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 100);
const CONFIG: &str = "interface eth1
 switchport access vlan 2
interface eth2
 switchport access vlan 3
module csm 5
 vlan 2 client
  ip address 192.158.38.10 255.255.255.0
  alias 192.158.38.11 255.255.255.0
  gateway 192.158.38.20
 vlan 3 server
  ip address 192.158.39.10 255.255.255.0
  alias 192.158.39.20 255.255.255.0
 serverfarm FARM
  nat server
  real 192.158.39.101
   inservice
 vserver WEB
  virtual 192.158.38.30 tcp www
  serverfarm FARM
  inservice
 vserver ECHO
  virtual 192.158.38.30 udp 5000
  serverfarm FARM
  inservice
";

fn row() -> Row {
    Row::new(Plan {
        config: CONFIG,
        vip: IpAddr::V4(VIP),
        settings: [
            &[("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")],
            // Traceroute asks three at once at each hop.
            &[("ipv4/ip_forward", "1"), ("ipv4/icmp_ratelimit", "0")],
            &[("ipv4/conf/core/proxy_arp", "1")],
        ],
        client: (&["10.20.0.100/24 dev core"], &["default via 10.20.0.1"]),
        r1: (&["10.20.0.1/24 dev edge", "10.21.0.1/24 dev core"], &["default via 10.21.0.2"]),
        r2: (
            &["10.21.0.2/24 dev edge", "192.158.38.20/24 dev core"],
            &["10.20.0.0/24 via 10.21.0.1", "192.158.39.0/24 via 192.158.38.11"],
        ),
        c1: (
            &["192.158.39.200/24 dev core", "10.31.0.1/24 dev edge"],
            &["192.158.39.101/32 via 10.31.0.2", "default via 192.158.39.20"],
        ),
        c2: (
            &["10.31.0.2/24 dev core", "10.32.0.1/24 dev edge"],
            &["192.158.39.101/32 dev edge", "default via 10.31.0.1"],
        ),
        server: (
            &["192.158.39.101/32 dev core", "10.32.0.2/24 dev core"],
            &["default via 10.32.0.1 src 192.158.39.101"],
        ),
        proxied: None,
    })
}

fn ping(row: &Row, from: &Netns, to: Ipv4Addr, octets: u16) {
    let mut command = from.command("ping").expect("ping");
    let arguments = format!("-n -q -c 5 -i 0.05 -W 5 -s {octets} {to}");
    let shown = run(command.args(arguments.split(' ')));
    let shown = shown.unwrap_or_else(|error| panic!("{error:#}\n{}", row.stats()));
    assert!(shown.contains("5 received"), "{shown}");
}

#[test]
fn path_mtu_discovery_works_in_front_and_behind() {
    row().discovers_the_path_mtu([1300, 1200, 1100]);
}

#[test]
fn traceroute_shows_every_hop() {
    let row = row();
    let on_the_way = ["10.20.0.1", "10.21.0.2"];
    // The balancer answers for the address itself, whatever the TTL.
    let hops = row.trace(&row.client, &format!("-I {VIP}"));
    assert_eq!(hops, [&on_the_way[..], &["192.158.38.30"]].concat());
    // Through it: c1 keeps its address, and what the real's own router says is still of this connection.
    let through =
        [&on_the_way[..], &["192.158.38.11", "192.158.39.200", "10.31.0.2", "192.158.38.30"]].concat();
    assert_eq!(row.trace(&row.client, &format!("-T -p {TCP_PORT} {VIP}")), through);
    assert_eq!(row.trace(&row.client, &format!("-U -p {UDP_PORT} {VIP}")), through);
    let back = ["10.32.0.1", "10.31.0.1", "192.158.39.20", "192.158.38.20", "10.21.0.1", "10.20.0.100"];
    for way in ["-I", "-T -p 9", "-U -p 33434"] {
        assert_eq!(row.trace(&row.server, &format!("{way} -s 192.158.39.101 {CLIENT}")), back, "{way}");
    }
}

#[test]
fn large_pings_and_datagrams_go_through_in_pieces() {
    let row = row();
    ping(&row, &row.client, VIP, 3000);
    ping(&row, &row.server, CLIENT, 3000);
    let socket = row.client.within(|| UdpSocket::bind((CLIENT, 0))).expect("the client").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.connect((VIP, UDP_PORT)).expect("a destination");
    for (round, length) in (0_u8..).zip([100, 1472, 1473, 2000, 4000, 9000, 20_000, 60_000]) {
        let datagram: Vec<u8> = (0..length).map(|at: usize| at.to_le_bytes()[0] ^ round).collect();
        assert_eq!(socket.send(&datagram).expect("sent"), length);
        let mut answer = vec![0; 65_536];
        let got =
            socket.recv(&mut answer).unwrap_or_else(|error| panic!("{length}: {error}\n{}", row.stats()));
        assert!(answer[..got] == datagram, "{length} octets came back as {got}");
    }
    assert!(row.count("forwarded_fragment") > 100, "{}", row.stats());
}
