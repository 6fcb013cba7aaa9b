//! A row of real hosts on both sides of one balancer, in either family.
//!
//! ```text
//!   client ── r1 ──(narrow)── r2 ── eth1 csmd eth2 ── c1 ──(narrow)── c2 ── server
//! ```
//!
//! `c1` answers for the server, which it routes to. Interfaces are `core` towards the balancer and `edge` away from it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use csm_tests::link;
use csm_tests::netns::{LabId, Netns, run};
use csm_tests::programs::Programs;
use csm_tests::wait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const PACE: Duration = Duration::from_millis(20);
pub(super) const TCP_PORT: u16 = 80;
pub(super) const UDP_PORT: u16 = 5000;
/// Octets of a download or upload.
pub(super) const TRANSFER: usize = 600_000;

/// A host's addresses and routes, as `ip` takes them.
type Addressing = (&'static [&'static str], &'static [&'static str]);
/// A setting below /proc/sys/net.
type Setting = (&'static str, &'static str);

/// What differs between the families.
pub(super) struct Plan {
    pub(super) config: &'static str,
    pub(super) vip: IpAddr,
    /// Of all hosts, of those that forward, and of `c1`.
    pub(super) settings: [&'static [Setting]; 3],
    pub(super) client: Addressing,
    pub(super) r1: Addressing,
    pub(super) r2: Addressing,
    pub(super) c1: Addressing,
    pub(super) c2: Addressing,
    pub(super) server: Addressing,
    /// A neighbour for which `c1` answers by name.
    pub(super) proxied: Option<&'static str>,
}

/// The row of hosts, in the order of the picture.
pub(super) struct Row {
    pub(super) plan: Plan,
    pub(super) client: Netns,
    pub(super) r1: Netns,
    pub(super) r2: Netns,
    pub(super) node: Netns,
    pub(super) c1: Netns,
    pub(super) c2: Netns,
    pub(super) server: Netns,
    /// csmd first.
    pub(super) children: Vec<Child>,
    csm: PathBuf,
    socket: PathBuf,
    pub(super) directory: PathBuf,
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
    pub(super) fn new(plan: Plan) -> Self {
        let lab = LabId::unique();
        let set = |netns: &Netns, settings: &[Setting]| {
            for (name, value) in settings {
                netns.sysctl(name, value).expect("sysctl");
            }
        };
        let [all, forwarding, of_c1] = plan.settings;
        let [client, r1, r2, node, c1, c2, server] = ["client", "r1", "r2", "node", "c1", "c2", "server"]
            .map(|role| {
                let netns = Netns::create(&lab, role).expect("a namespace");
                set(&netns, all);
                netns
            });
        for router in [&r1, &r2, &c1, &c2] {
            set(router, forwarding);
        }
        cable(&client, "core", &r1, "edge");
        cable(&r1, "core", &r2, "edge");
        cable(&r2, "core", &node, "eth1");
        cable(&c1, "core", &node, "eth2");
        cable(&c2, "core", &c1, "edge");
        cable(&server, "core", &c2, "edge");
        for (netns, (addresses, routes)) in [
            (&client, plan.client),
            (&r1, plan.r1),
            (&r2, plan.r2),
            (&c1, plan.c1),
            (&c2, plan.c2),
            (&server, plan.server),
        ] {
            address(netns, addresses, routes);
        }
        if let Some(proxied) = plan.proxied {
            c1.ip(&[format!("neigh add proxy {proxied} dev core")]).expect("a proxy's entry");
        }
        set(&c1, of_c1);
        let directory = lab.runtime_dir();
        std::fs::create_dir_all(&directory).expect("a directory");
        let programs = Programs::beside_this_one().expect("csmd and csm are built");
        let (config, socket) = (directory.join("csm.cfg"), directory.join("csm.sock"));
        std::fs::write(&config, plan.config).expect("a file");
        let log = std::fs::File::create(directory.join("csmd.log")).expect("a log");
        let mut command = node.command(&programs.csmd.path).expect("csmd");
        command.arg("--config").arg(&config).arg("--socket").arg(&socket).args(["--connections", "4096"]);
        let csmd = command.stdin(Stdio::null()).stderr(log).process_group(0).spawn().expect("csmd starts");
        let csm = programs.csm.path;
        let children = vec![csmd];
        let row = Self { plan, client, r1, r2, node, c1, c2, server, children, csm, socket, directory };
        row.serve();
        wait::until("the first answer", PATIENCE, PACE, || {
            row.client.within(|| Ok(TcpStream::connect_timeout(&row.web(), Duration::from_secs(1)).ok()))?
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", row.stats(), row.log()));
        row
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("csmd.log")).unwrap_or_default()
    }

    /// TCP: `d` is answered with a download, `u` takes an upload and answers its length. UDP: echo. The threads end with
    /// the test's process; their sockets are all they hold.
    fn serve(&self) {
        let any: IpAddr =
            if self.is_v6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let listen = || TcpListener::bind((any, TCP_PORT)).expect("a listener");
        let listener = self.server.within(listen).expect("the server");
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve_one(stream));
            }
        });
        let bind = || UdpSocket::bind((any, UDP_PORT)).expect("a socket");
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
    pub(super) fn narrow(&self, ends: [(&Netns, &str); 2], mtu: u16) {
        for (netns, interface) in ends {
            netns.ip(&[format!("link set dev {interface} mtu {mtu}")]).expect("an MTU");
        }
        for host in [&self.client, &self.server] {
            run(host.command("ip").expect("ip").args([self.family(), "route", "flush", "cache"]))
                .expect("a flush");
        }
    }

    fn connect(&self) -> TcpStream {
        let connect = || TcpStream::connect_timeout(&self.web(), PATIENCE).expect("a connection");
        let stream = self.client.within(connect).expect("the client");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    pub(super) fn download(&self) {
        let mut stream = self.connect();
        stream.write_all(b"d").expect("a request");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap_or_else(|error| {
            panic!("{error} after {} octets\n{}\n{}", received.len(), self.stats(), self.log())
        });
        assert!(received == payload(), "the download is whole: {} octets", received.len());
    }

    pub(super) fn upload(&self) {
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

    pub(super) fn stats(&self) -> String {
        self.csm(&["show", "module", "csm", "5", "stats"])
    }

    /// Frames that ended for `reason`.
    pub(super) fn count(&self, reason: &str) -> u64 {
        let stats = self.stats();
        let line = stats.lines().find(|line| line.split_whitespace().next() == Some(reason));
        line.and_then(|line| line.split_whitespace().nth(2)?.replace(',', "").parse().ok()).unwrap_or(0)
    }

    /// The hops that `traceroute` shows from `from`.
    pub(super) fn trace(&self, from: &Netns, arguments: &str) -> Vec<String> {
        let mut command = from.command("traceroute").expect("traceroute");
        let shown = run(command
            .args([self.family(), "-n", "-q", "1", "-w", "2", "-m", "9"])
            .args(arguments.split(' ')));
        let shown = shown.expect("traceroute");
        shown.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
    }

    fn is_v6(&self) -> bool {
        self.plan.vip.is_ipv6()
    }

    /// As the tools take it.
    fn family(&self) -> &'static str {
        if self.is_v6() { "-6" } else { "-4" }
    }

    fn web(&self) -> SocketAddr {
        SocketAddr::from((self.plan.vip, TCP_PORT))
    }

    /// Downloads and uploads while links are narrow: in front of the clients, behind the servers, and the balancer's own port.
    pub(super) fn discovers_the_path_mtu(&self, [in_front, behind, own]: [u16; 3]) {
        self.download();
        self.upload();
        assert_eq!((self.count("forwarded_icmp"), self.count("frag_needed_sent")), (0, 0));

        // In front of the clients: r2 tells the virtual server, and the real hears of it.
        let ends = [(&self.r1, "core"), (&self.r2, "edge")];
        self.narrow(ends, in_front);
        self.download();
        let first = self.count("forwarded_icmp");
        assert!(first > 0, "{}", self.stats());
        self.narrow(ends, 1500);

        // Behind the servers: c1 tells the client of a packet that it never sent to that address.
        let ends = [(&self.c1, "edge"), (&self.c2, "core")];
        self.narrow(ends, behind);
        self.upload();
        assert!(self.count("forwarded_icmp") > first, "{}", self.stats());
        self.narrow(ends, 1500);

        // The balancer's own port: nobody else can tell. It follows the interface's MTU as that changes.
        assert_eq!(self.count("frag_needed_sent"), 0);
        self.narrow([(&self.node, "eth2"), (&self.node, "eth2")], own);
        self.upload();
        assert!(self.count("frag_needed_sent") > 0, "{}", self.stats());
        assert_eq!(self.count("drop_icmp_unmatched"), 0);
    }
}

pub(super) fn payload() -> Vec<u8> {
    (0..TRANSFER).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect()
}

fn serve_one(mut stream: TcpStream) {
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
fn cable(near: &Netns, near_end: &str, far: &Netns, far_end: &str) {
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

fn address(netns: &Netns, addresses: &[&str], routes: &[&str]) {
    let mut lines: Vec<String> = addresses.iter().map(|address| format!("addr add {address}")).collect();
    lines.extend(routes.iter().map(|route| format!("route add {route}")));
    netns.ip(&lines).expect("addresses and routes");
}
