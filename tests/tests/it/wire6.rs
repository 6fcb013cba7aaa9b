//! IPv6 alone on the wire, with real hosts: path MTU discovery on both sides, traceroute through and to the virtual server, FTP,
//! neighbours of VLANs without IPv4. The row of hosts is that of [`crate::wire`].

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use csm_common::net::virtual_mac;
use csm_tests::checks::show_mac;
use csm_tests::netns::{LabId, Netns, run};
use csm_tests::programs::Programs;
use csm_tests::wait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wire::{PACE, PATIENCE, TCP_PORT, TRANSFER, UDP_PORT, address, cable, payload, serve_one};

const VIP: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x38, 0, 0, 0, 0, 0, 0x30);
const CLIENT: &str = "fd00:20::100";
const SERVER: &str = "fd00:39::101";
const CONFIG: &str = "interface eth1
 switchport access vlan 2
interface eth2
 switchport access vlan 3
module csm 5
 vlan 2 client
  ipv6 address fd00:38::10/64
  alias fd00:38::11/64
  gateway fd00:38::20
 vlan 3 server
  ipv6 address fd00:39::10/64
  alias fd00:39::20/64
 serverfarm FARM
  nat server
  real fd00:39::101
   inservice
 vserver WEB
  virtual fd00:38::30 tcp www
  serverfarm FARM
  inservice
 vserver ECHO
  virtual fd00:38::30 udp 5000
  serverfarm FARM
  inservice
 vserver FTP
  virtual fd00:38::30 tcp ftp service ftp
  serverfarm FARM
  inservice
";

struct Row {
    client: Netns,
    r1: Netns,
    r2: Netns,
    node: Netns,
    c1: Netns,
    c2: Netns,
    server: Netns,
    children: Vec<Child>,
    csm: PathBuf,
    socket: PathBuf,
    directory: PathBuf,
}

impl Drop for Row {
    fn drop(&mut self) {
        for child in &mut self.children {
            // With what it has forked: vsftpd's sessions.
            let _ended = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            let _reaped = child.wait();
        }
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
                    netns.sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0").expect("sysctl");
                }
                netns
            });
        for router in [&r1, &r2, &c1, &c2] {
            router.sysctl("ipv6/conf/all/forwarding", "1").expect("sysctl");
            router.sysctl("ipv6/icmp/ratelimit", "0").expect("sysctl");
        }
        cable(&client, "core", &r1, "edge");
        cable(&r1, "core", &r2, "edge");
        cable(&r2, "core", &node, "eth1");
        cable(&c1, "core", &node, "eth2");
        cable(&c2, "core", &c1, "edge");
        cable(&server, "core", &c2, "edge");
        address(&client, &["fd00:20::100/64 dev core nodad"], "default via fd00:20::1");
        let nets = ["fd00:20::1/64 dev edge nodad", "fd00:21::1/64 dev core nodad"];
        address(&r1, &nets, "default via fd00:21::2");
        let nets = ["fd00:21::2/64 dev edge nodad", "fd00:38::20/64 dev core nodad"];
        address(&r2, &nets, "fd00:20::/64 via fd00:21::1");
        r2.ip(&["route add fd00:39::/64 via fd00:38::11".to_owned()]).expect("a route");
        let nets = ["fd00:39::200/64 dev core nodad", "fd00:31::1/64 dev edge nodad"];
        address(&c1, &nets, "fd00:39::101/128 via fd00:31::2");
        c1.ip(&[
            "route add default via fd00:39::20".to_owned(),
            format!("neigh add proxy {SERVER} dev core"),
        ])
        .expect("a route and a proxy's entry");
        c1.sysctl("ipv6/conf/core/proxy_ndp", "1").expect("sysctl");
        c1.sysctl("ipv6/neigh/core/proxy_delay", "0").expect("sysctl");
        let nets = ["fd00:31::2/64 dev core nodad", "fd00:32::1/64 dev edge nodad"];
        address(&c2, &nets, "fd00:39::101/128 dev edge");
        c2.ip(&["route add default via fd00:31::1".to_owned()]).expect("a route");
        let nets = ["fd00:39::101/128 dev core nodad", "fd00:32::2/64 dev core nodad"];
        address(&server, &nets, "default via fd00:32::1 src fd00:39::101");
        let directory = lab.runtime_dir();
        std::fs::create_dir_all(&directory).expect("a directory");
        let programs = Programs::beside_this_one().expect("csmd and csm are built");
        let (config, socket) = (directory.join("csm.cfg"), directory.join("csm.sock"));
        std::fs::write(&config, CONFIG).expect("a file");
        let log = std::fs::File::create(directory.join("csmd.log")).expect("a log");
        let mut command = node.command(&programs.csmd.path).expect("csmd");
        command.arg("--config").arg(&config).arg("--socket").arg(&socket).args(["--connections", "4096"]);
        let csmd = command.stdin(Stdio::null()).stderr(log).process_group(0).spawn().expect("csmd starts");
        let csm = programs.csm.path;
        let row = Self { client, r1, r2, node, c1, c2, server, children: vec![csmd], csm, socket, directory };
        row.serve();
        wait::until("the first answer", PATIENCE, PACE, || {
            row.client.within(|| Ok(TcpStream::connect_timeout(&web(), Duration::from_secs(1)).ok()))?
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", row.stats(), row.log()));
        row
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("csmd.log")).unwrap_or_default()
    }

    /// As in [`crate::wire`].
    fn serve(&self) {
        let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, TCP_PORT)).expect("a listener");
        let listener = self.server.within(listen).expect("the server");
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve_one(stream));
            }
        });
        let bind = || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, UDP_PORT)).expect("a socket");
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
            run(host.command("ip").expect("ip").args(["-6", "route", "flush", "cache"])).expect("a flush");
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

    fn csm(&self, words: &[&str]) -> String {
        run(Command::new(&self.csm).arg("--socket").arg(&self.socket).args(words))
            .unwrap_or_else(|error| format!("{error:#}"))
    }

    fn stats(&self) -> String {
        self.csm(&["show", "module", "csm", "5", "stats"])
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
        let shown =
            run(command.args(["-6", "-n", "-q", "1", "-w", "2", "-m", "9"]).args(arguments.split(' ')));
        let shown = shown.expect("traceroute");
        shown.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
    }

    /// Starts vsftpd on the server.
    fn serve_ftp(&mut self) {
        let root = self.directory.join("ftp");
        std::fs::create_dir_all(&root).expect("a directory");
        std::fs::create_dir_all("/var/run/vsftpd/empty").expect("a directory");
        std::fs::write(root.join("file"), payload()).expect("a file");
        let text = format!(
            "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nanon_root={}\n\
             connect_from_port_20=YES\npasv_min_port=30000\npasv_max_port=30099\nseccomp_sandbox=NO\n\
             secure_chroot_dir=/var/run/vsftpd/empty\nxferlog_enable=NO\n",
            root.display()
        );
        let configuration = self.directory.join("vsftpd.conf");
        std::fs::write(&configuration, text).expect("a file");
        let mut command = self.server.command("vsftpd").expect("vsftpd");
        command.arg(&configuration).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        self.children.push(command.spawn().expect("vsftpd is installed"));
        let control = SocketAddr::from((VIP, 21));
        wait::until("vsftpd", PATIENCE, PACE, || {
            self.client.within(|| Ok(TcpStream::connect_timeout(&control, Duration::from_secs(1)).ok()))?
        })
        .expect("an answer");
    }
}

fn web() -> SocketAddr {
    SocketAddr::from((VIP, TCP_PORT))
}

#[test]
fn ipv6_path_mtu_discovery_works_in_front_and_behind() {
    let row = Row::new();
    row.download();
    row.upload();
    assert_eq!((row.count("forwarded_icmp"), row.count("frag_needed_sent")), (0, 0));
    let in_front = [(&row.r1, "core"), (&row.r2, "edge")];
    row.narrow(in_front, 1300);
    row.download();
    let first = row.count("forwarded_icmp");
    assert!(first > 0, "{}", row.stats());
    row.narrow(in_front, 1500);
    let behind = [(&row.c1, "edge"), (&row.c2, "core")];
    row.narrow(behind, 1290);
    row.upload();
    assert!(row.count("forwarded_icmp") > first, "{}", row.stats());
    row.narrow(behind, 1500);
    assert_eq!(row.count("frag_needed_sent"), 0);
    row.narrow([(&row.node, "eth2"), (&row.node, "eth2")], 1280);
    row.upload();
    assert!(row.count("frag_needed_sent") > 0, "{}", row.stats());
    assert_eq!(row.count("drop_icmp_unmatched"), 0);
}

#[test]
fn ipv6_traceroute_ftp_and_neighbours() {
    let mut row = Row::new();
    let on_the_way = ["fd00:20::1", "fd00:21::2"];
    assert_eq!(row.trace(&row.client, &format!("-I {VIP}")), [&on_the_way[..], &["fd00:38::30"]].concat());
    let through = [&on_the_way[..], &["fd00:38::11", "fd00:39::200", "fd00:31::2", "fd00:38::30"]].concat();
    assert_eq!(row.trace(&row.client, &format!("-T -p {TCP_PORT} {VIP}")), through);
    assert_eq!(row.trace(&row.client, &format!("-U -p {UDP_PORT} {VIP}")), through);
    let back = ["fd00:32::1", "fd00:31::1", "fd00:39::20", "fd00:38::20", "fd00:21::1", CLIENT];
    for way in ["-I", "-T -p 9", "-U -p 33434"] {
        assert_eq!(row.trace(&row.server, &format!("{way} -s {SERVER} {CLIENT}")), back, "{way}");
    }

    // FTP: the client opens the data connection (EPSV), and the server does (EPRT).
    row.serve_ftp();
    for words in [&[][..], &["--ftp-port", "-"]] {
        let mut curl = row.client.command("curl").expect("curl");
        let fetched = curl
            .args(["--silent", "--show-error", "--globoff", "--max-time", "20", "-6"])
            .args(words)
            .arg(format!("ftp://[{VIP}]/file"))
            .output()
            .expect("curl");
        let told = String::from_utf8_lossy(&fetched.stderr);
        assert!(fetched.stdout == payload(), "{words:?}: {told}{}\n{}", row.stats(), row.log());
    }

    // Of VLANs that know no IPv4: the router and the servers' neighbour have the group's addresses at its MAC address.
    // A node without an FT group is group 0.
    let mac = show_mac(&virtual_mac(0));
    for (netns, address) in [(&row.r2, "fd00:38::30"), (&row.c1, "fd00:39::20")] {
        let mut command = netns.command("ip").expect("ip");
        let shown =
            run(command.args(["-6", "neigh", "show", "to", address, "dev", "core"])).expect("ip neigh");
        assert!(shown.contains(&mac) && shown.contains("router"), "{address}: {shown}");
    }
}
