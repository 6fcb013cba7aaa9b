//! Everything else on the wire, with real hosts: path MTU discovery on both sides, traceroute through and to the virtual
//! server, large pings and datagrams in pieces.
//!
//! ```text
//!   client ── r1 ──(narrow)── r2 ── eth1 csmd eth2 ── c1 ──(narrow)── c2 ── server
//! ```
//!
//! `c1` answers ARP for the server, which it routes to. Interfaces are `core` towards the balancer and `edge` away from it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use csm_tests::link;
use csm_tests::netns::{LabId, Netns, run};
use csm_tests::programs::Programs;
use csm_tests::wait;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const PACE: Duration = Duration::from_millis(20);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 30);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 100);
pub(super) const TCP_PORT: u16 = 80;
pub(super) const UDP_PORT: u16 = 5000;
/// Octets of a download or upload.
pub(super) const TRANSFER: usize = 600_000;
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

/// The row of hosts, in the order of the picture.
struct Row {
    client: Netns,
    r1: Netns,
    r2: Netns,
    node: Netns,
    c1: Netns,
    c2: Netns,
    server: Netns,
    csmd: Child,
    csm: PathBuf,
    socket: PathBuf,
    directory: PathBuf,
}

impl Drop for Row {
    fn drop(&mut self) {
        let _ended = self.csmd.kill();
        let _reaped = self.csmd.wait();
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

impl Row {
    fn new() -> Self {
        let lab = LabId::unique();
        let [client, r1, r2, node, c1, c2, server] = ["client", "r1", "r2", "node", "c1", "c2", "server"]
            .map(|role| {
                let netns = Netns::create(&lab, role).expect("a namespace");
                for scope in ["all", "default"] {
                    netns.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1").expect("sysctl");
                }
                netns
            });
        for router in [&r1, &r2, &c1, &c2] {
            router.sysctl("ipv4/ip_forward", "1").expect("sysctl");
            // Traceroute asks three at once at each hop.
            router.sysctl("ipv4/icmp_ratelimit", "0").expect("sysctl");
        }
        cable(&client, "core", &r1, "edge");
        cable(&r1, "core", &r2, "edge");
        cable(&r2, "core", &node, "eth1");
        cable(&c1, "core", &node, "eth2");
        cable(&c2, "core", &c1, "edge");
        cable(&server, "core", &c2, "edge");
        address(&client, &["10.20.0.100/24 dev core"], "default via 10.20.0.1");
        address(&r1, &["10.20.0.1/24 dev edge", "10.21.0.1/24 dev core"], "default via 10.21.0.2");
        address(&r2, &["10.21.0.2/24 dev edge", "192.158.38.20/24 dev core"], "10.20.0.0/24 via 10.21.0.1");
        address(
            &c1,
            &["192.158.39.200/24 dev core", "10.31.0.1/24 dev edge"],
            "192.158.39.101/32 via 10.31.0.2",
        );
        c1.ip(&["route add default via 192.158.39.20".to_owned()]).expect("a route");
        r2.ip(&["route add 192.158.39.0/24 via 192.158.38.11".to_owned()]).expect("a route");
        c1.sysctl("ipv4/conf/core/proxy_arp", "1").expect("sysctl");
        address(&c2, &["10.31.0.2/24 dev core", "10.32.0.1/24 dev edge"], "192.158.39.101/32 dev edge");
        c2.ip(&["route add default via 10.31.0.1".to_owned()]).expect("a route");
        address(&server, &["192.158.39.101/32 dev core", "10.32.0.2/24 dev core"], "");
        server.ip(&["route add default via 10.32.0.1 src 192.158.39.101".to_owned()]).expect("a route");
        let directory = lab.runtime_dir();
        std::fs::create_dir_all(&directory).expect("a directory");
        let programs = Programs::beside_this_one().expect("csmd and csm are built");
        let (config, socket) = (directory.join("csm.cfg"), directory.join("csm.sock"));
        std::fs::write(&config, CONFIG).expect("a file");
        let log = std::fs::File::create(directory.join("csmd.log")).expect("a log");
        let mut command = node.command(&programs.csmd.path).expect("csmd");
        command.arg("--config").arg(&config).arg("--socket").arg(&socket).args(["--connections", "4096"]);
        let csmd = command.stdin(Stdio::null()).stderr(log).spawn().expect("csmd starts");
        let csm = programs.csm.path;
        let row = Self { client, r1, r2, node, c1, c2, server, csmd, csm, socket, directory };
        row.serve();
        wait::until("the first answer", PATIENCE, PACE, || {
            row.client.within(|| Ok(TcpStream::connect_timeout(&web(), Duration::from_secs(1)).ok()))?
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", row.log()));
        row
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("csmd.log")).unwrap_or_default()
    }

    /// TCP: `d` is answered with a download, `u` takes an upload and answers its length. UDP: echo. The threads end with
    /// the test's process; their sockets are all they hold.
    fn serve(&self) {
        let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, TCP_PORT)).expect("a listener");
        let listener = self.server.within(listen).expect("the server");
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve_one(stream));
            }
        });
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, UDP_PORT)).expect("a socket");
        let socket = self.server.within(bind).expect("the server");
        std::thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                if socket.send_to(&datagram[..length], from).is_err() {
                    return;
                }
            }
        });
    }

    /// Sets the MTU of both ends of a link, and has everyone forget what he knew.
    fn narrow(&self, ends: [(&Netns, &str); 2], mtu: u16) {
        for (netns, interface) in ends {
            netns.ip(&[format!("link set dev {interface} mtu {mtu}")]).expect("an MTU");
        }
        for host in [&self.client, &self.server] {
            host.ip(&["route flush cache".to_owned()]).expect("a flush");
        }
    }

    fn connect(&self) -> TcpStream {
        let connect = || TcpStream::connect_timeout(&web(), PATIENCE).expect("a connection");
        let stream = self.client.within(connect).expect("the client");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn download(&self) {
        let mut stream = self.connect();
        stream.write_all(b"d").expect("a request");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap_or_else(|error| {
            panic!("{error} after {} octets\n{}\n{}", received.len(), self.stats(), self.log())
        });
        assert!(received == payload(), "the download is whole: {} octets", received.len());
    }

    fn upload(&self) {
        let mut stream = self.connect();
        stream.write_all(b"u").expect("a request");
        stream.write_all(&payload()).expect("an upload");
        stream.shutdown(std::net::Shutdown::Write).expect("the end");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap_or_else(|error| panic!("{error}\n{}", self.stats()));
        assert_eq!(answer, TRANSFER.to_string());
    }

    fn stats(&self) -> String {
        run(Command::new(&self.csm)
            .arg("--socket")
            .arg(&self.socket)
            .args(["show", "module", "csm", "5", "stats"]))
        .unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Frames that ended for `reason`.
    fn count(&self, reason: &str) -> u64 {
        let stats = self.stats();
        let line = stats.lines().find(|line| line.split_whitespace().next() == Some(reason));
        line.and_then(|line| line.split_whitespace().nth(2)?.replace(',', "").parse().ok()).unwrap_or(0)
    }

    /// The hops that `traceroute` shows from `from`.
    fn trace(&self, from: &Netns, arguments: &str) -> Vec<String> {
        let mut command = from.command("traceroute").expect("traceroute");
        let shown = run(command.args(["-n", "-q", "1", "-w", "2", "-m", "9"]).args(arguments.split(' ')));
        let shown = shown.expect("traceroute");
        shown.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
    }

    fn ping(&self, from: &Netns, to: Ipv4Addr, octets: u16) {
        let mut command = from.command("ping").expect("ping");
        let arguments = format!("-n -q -c 5 -i 0.05 -W 5 -s {octets} {to}");
        let shown = run(command.args(arguments.split(' ')));
        let shown = shown.unwrap_or_else(|error| panic!("{error:#}\n{}", self.stats()));
        assert!(shown.contains("5 received"), "{shown}");
    }
}

fn web() -> SocketAddr {
    SocketAddr::from((VIP, TCP_PORT))
}

pub(super) fn payload() -> Vec<u8> {
    (0..TRANSFER).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect()
}

pub(super) fn serve_one(mut stream: TcpStream) {
    let mut wish = [0];
    if stream.read_exact(&mut wish).is_err() {
        return;
    }
    let _gone = match wish {
        [b'd'] => stream.write_all(&payload()),
        _ => {
            let mut received = Vec::new();
            let right = stream.read_to_end(&mut received).is_ok() && received == payload();
            let length = if right { received.len() } else { 0 };
            stream.write_all(length.to_string().as_bytes())
        }
    };
}

/// A cable between two hosts.
pub(super) fn cable(near: &Netns, near_end: &str, far: &Netns, far_end: &str) {
    near.ip(&[
        format!("link add {near_end} type veth peer name {far_end} netns {}", far.name()),
        format!("link set {near_end} up"),
    ])
    .expect("a cable");
    far.ip(&[format!("link set {far_end} up")]).expect("its other end");
    // Frames as long as on a wire; what faces the balancer takes what XDP redirects.
    for (netns, end) in [(near, near_end), (far, far_end)] {
        link::offloads(netns, &[end.to_owned()], far_end.starts_with("eth")).expect("offloads");
    }
}

pub(super) fn address(netns: &Netns, addresses: &[&str], route: &str) {
    let mut lines: Vec<String> = addresses.iter().map(|address| format!("addr add {address}")).collect();
    lines.extend((!route.is_empty()).then(|| format!("route add {route}")));
    netns.ip(&lines).expect("addresses and routes");
}

#[test]
fn path_mtu_discovery_works_in_front_and_behind() {
    let row = Row::new();
    row.download();
    row.upload();
    assert_eq!((row.count("forwarded_icmp"), row.count("frag_needed_sent")), (0, 0));

    // In front of the clients: r2 tells the virtual server, and the real hears of it.
    let in_front = [(&row.r1, "core"), (&row.r2, "edge")];
    row.narrow(in_front, 1300);
    row.download();
    let first = row.count("forwarded_icmp");
    assert!(first > 0, "{}", row.stats());
    row.narrow(in_front, 1500);

    // Behind the servers: c1 tells the client of a packet that it never sent to that address.
    let behind = [(&row.c1, "edge"), (&row.c2, "core")];
    row.narrow(behind, 1200);
    row.upload();
    assert!(row.count("forwarded_icmp") > first, "{}", row.stats());
    row.narrow(behind, 1500);

    // The balancer's own port: nobody else can tell. It follows the interface's MTU as that changes.
    assert_eq!(row.count("frag_needed_sent"), 0);
    row.narrow([(&row.node, "eth2"), (&row.node, "eth2")], 1100);
    row.upload();
    assert!(row.count("frag_needed_sent") > 0, "{}", row.stats());
    assert_eq!(row.count("drop_icmp_unmatched"), 0);
}

#[test]
fn traceroute_shows_every_hop() {
    let row = Row::new();
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
    let row = Row::new();
    row.ping(&row.client, VIP, 3000);
    row.ping(&row.server, CLIENT, 3000);
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
