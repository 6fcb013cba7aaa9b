//! What an operator does to a single box: faulty files, a second csmd, missing rights, signals; and what is left behind.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use csm_tests::link;
use csm_tests::netns::{LabId, Netns, run};
use csm_tests::programs::Programs;
use csm_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const PACE: Duration = Duration::from_millis(20);
/// The virtual MAC address of group 0, which a box without an FT group has.
const VIRTUAL_MAC: &str = "00:01:64:f9:1a:00";
/// `module csm 5` with one virtual server, on eth1 and eth2, without an FT group.
pub(crate) const SINGLE: &str = "interface eth1
 switchport access vlan 2
interface eth2
 switchport access vlan 3
module csm 5
 vlan 2 client
  ip address 192.158.38.10 255.255.255.0 alt 192.158.38.40 255.255.255.0
 vlan 3 server
  ip address 192.158.39.10 255.255.255.0 alt 192.158.39.30 255.255.255.0
  alias 192.158.39.20 255.255.255.0
 serverfarm WEB
  nat server
  real 192.158.39.101
   inservice
 vserver VIP1
  virtual 192.158.38.30 tcp www
  serverfarm WEB
  inservice
";

/// A host with three ports, a client behind eth1, a server behind eth2, and a switch of nothing behind eth3.
pub(crate) struct Host {
    pub(crate) node: Netns,
    pub(crate) client: Netns,
    pub(crate) server: Netns,
    pub(crate) programs: Programs,
    pub(crate) directory: PathBuf,
}

impl Host {
    pub(crate) fn new() -> Self {
        let lab = LabId::unique();
        let [node, client, server] =
            ["node", "client", "server"].map(|role| Netns::create(&lab, role).expect("a namespace"));
        for netns in [&node, &client, &server] {
            // No link-local addresses by the kernel: those that csmd needs it must give, and take back.
            for scope in ["all", "default"] {
                netns.sysctl(&format!("ipv6/conf/{scope}/addr_gen_mode"), "1").expect("sysctl");
            }
        }
        let to = |port: u8, peer: &Netns| {
            vec![
                format!("link add eth{port} type veth peer name peer{port} netns {}", peer.name()),
                format!("link set eth{port} up"),
            ]
        };
        node.ip(&[to(1, &client), to(2, &server), to(3, &client)].concat()).expect("ports");
        let client_side = ["link set peer1 up", "link set peer3 up", "addr add 192.158.38.20/24 dev peer1"]
            .map(str::to_owned);
        client.ip(&client_side).expect("the client");
        let server_side = [
            "link set peer2 up",
            "addr add 192.158.39.101/24 dev peer2",
            "route add default via 192.158.39.20",
        ];
        server.ip(&server_side.map(str::to_owned)).expect("the server");
        // Whole frames out, and NAPI for what XDP redirects in: what real ports do by themselves.
        link::offloads(&client, &["peer1".to_owned()], true).expect("offloads");
        link::offloads(&server, &["peer2".to_owned()], true).expect("offloads");
        let directory = lab.runtime_dir();
        std::fs::create_dir_all(&directory).expect("a directory");
        let programs = Programs::beside_this_one().expect("csmd and csm are built");
        Self { node, client, server, programs, directory }
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn csmd(&self, config: &Path, socket: &Path) -> Command {
        let mut command = self.node.command(&self.programs.csmd.path).expect("csmd");
        command.arg("--config").arg(config).arg("--socket").arg(socket).args(["--connections", "4096"]);
        command
    }

    /// Runs csmd, which is expected to end by itself.
    pub(crate) fn refused(&self, config: &Path, socket: &Path) -> (i32, String) {
        said(&self.csmd(config, socket).output().expect("csmd starts"))
    }

    /// Starts csmd and waits until it answers.
    pub(crate) fn start(&self, text: &str, name: &str) -> Running<'_> {
        self.start_with(text, name, &[])
    }

    /// The same with more flags.
    pub(crate) fn start_with(&self, text: &str, name: &str, flags: &[&str]) -> Running<'_> {
        let config = self.write(&format!("{name}.cfg"), text);
        let (socket, log) =
            (self.socket(&format!("{name}.sock")), self.directory.join(format!("{name}.log")));
        let err = std::fs::File::create(&log).expect("a log");
        let child = self
            .csmd(&config, &socket)
            .args(flags)
            .stdin(Stdio::null())
            .stderr(err)
            .spawn()
            .expect("csmd starts");
        let running = Running { host: self, child, socket, log };
        wait::until("csmd's answer", PATIENCE, PACE, || Ok(running.csm("show running-config").ok()))
            .expect("it runs");
        running
    }

    /// Addresses, flags and XDP programs of all ports.
    pub(crate) fn ports(&self) -> Value {
        let show = |words: &str| -> Value {
            let mut command = self.node.command("ip").expect("ip");
            let text = run(command.args(["-d", "-j"]).args(words.split(' '))).expect("ip");
            serde_json::from_str(&text).expect("JSON")
        };
        let facts = |what: Value, names: &[&str]| -> Vec<Value> {
            let rows = what.as_array().cloned().unwrap_or_default();
            rows.iter().map(|row| names.iter().map(|name| row[name].clone()).collect()).collect()
        };
        let addresses = facts(show("addr show"), &["ifname", "addr_info"]);
        let mut links = facts(show("link show"), &["ifname", "flags", "xdp", "promiscuity", "allmulti"]);
        // Carriers come a while after their links are up: that is not of csmd's making.
        for flags in links.iter_mut().filter_map(|link| link[1].as_array_mut()) {
            flags.retain(|flag| flag != "NO-CARRIER" && flag != "LOWER_UP");
        }
        Value::Array([addresses, links].concat())
    }

    fn xdp_ports(&self) -> Vec<String> {
        let mut command = self.node.command("ip").expect("ip");
        let text = run(command.args(["-j", "link", "show"])).expect("ip");
        let rows: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        let attached = rows.iter().filter(|row| !row["xdp"].is_null());
        attached.filter_map(|row| row["ifname"].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A csmd that answers. Killed when dropped.
pub(crate) struct Running<'a> {
    host: &'a Host,
    pub(crate) child: Child,
    pub(crate) socket: PathBuf,
    log: PathBuf,
}

impl Running<'_> {
    pub(crate) fn csm(&self, words: &str) -> anyhow::Result<String> {
        let mut command = Command::new(&self.host.programs.csm.path);
        run(command.arg("--socket").arg(&self.socket).args(words.split(' ')))
    }

    /// Sends `signal` and waits for the end; returns the exit status.
    pub(crate) fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("it runs");
        let status =
            wait::until("csmd's end", PATIENCE, PACE, || Ok(self.child.try_wait()?)).expect("it ends");
        status.code()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Fails where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect("it ends by itself"), text)
}

/// Every fault of `docs` in one file; `^` under the word that is wrong.
const FAULTY: &str = "interface eth1
 switchport access vlan 2
 switchport access vlan 3
interface nosuch0
 switchport access vlan 9
module csm 5
 vlan 2 client
  ip address 192.158.38.10 255.255.255.0
  frobnicate 7
 vlan 3 server
  ip address 192.158.39.10 255.255.255.0
  alias 192.158.40.20 255.255.255.0
 vserver VIP1
  virtual 192.158.38.30 tcp www
 vserver VIP2
  virtual 192.158.38.30 tcp www
 ft group 1 vlan 9
  priority 255
  heartbeat-time msec 100
  failover msec 150
";

#[test]
fn all_faults_of_a_file_are_named_at_once_and_nothing_is_touched() {
    let host = Host::new();
    let config = host.write("faulty.cfg", FAULTY);
    let socket = host.socket("none/csmd.sock");
    let before = host.ports();
    let (status, words) = host.refused(&config, &socket);
    assert_eq!(status, 2, "{words}");
    for (line, wrong, sentence) in [
        (3, "3", "`switchport access vlan 3` contradicts"),
        (4, "nosuch0", "this host has no interface `nosuch0`"),
        (9, "frobnicate", "frobnicate"),
        (12, "192.158.40.20", "192.158.40.20"),
        (16, "192.158.38.30", "duplicate of virtual server VIP1"),
        (18, "255", "255"),
        (20, "150", "leaves no lease that outlasts two heartbeats of 100 ms"),
    ] {
        let column =
            FAULTY.lines().nth(line - 1).and_then(|text| text.rfind(wrong)).expect("in the file") + 1;
        let place = format!("faulty.cfg:{line}:{column}: error: ");
        let found = words.lines().position(|text| text.contains(&place) && text.contains(sentence));
        let at = found.unwrap_or_else(|| panic!("no {place}…{sentence} in:\n{words}"));
        let caret = words.lines().nth(at + 2).expect("a caret");
        assert_eq!(caret.find('^'), Some(column - 1), "{words}");
    }
    let mut check = host.node.command(&host.programs.csm.path).expect("csm");
    assert_eq!(said(&check.arg("check").arg(&config).output().expect("csm starts")), (2, words));
    assert_eq!(host.ports(), before);
    assert!(!host.directory.join("none").exists(), "no socket and no directory for it");
}

#[test]
fn the_figure_as_printed_runs_with_its_virtual_server_out_of_service() {
    let host = Host::new();
    let before = host.ports();
    let printed =
        include_str!("../../data/config/seed-figure-7-1-active.cfg").replace("ft-group-number", "1");
    let ports = [(1, 2), (2, 3), (3, 9)]
        .map(|(n, vlan)| format!("interface eth{n}\n switchport access vlan {vlan}\n"));
    let mut csmd = host.start(&format!("{}{printed}", ports.concat()), "figure");
    assert!(csmd.log().contains("warning: virtual server VIP1 has no server farm: it stays out of service"));
    let shown = csmd.csm("show module csm 5 vservers").expect("an answer");
    let row = shown.lines().position(|line| line.starts_with("VIP1 ") && line.contains(" OUTOFSERVICE "));
    let reason = row.and_then(|row| shown.lines().nth(row + 1)).expect("a row and its reason");
    assert_eq!(reason.trim(), "no server farm", "{shown}");
    assert_eq!(host.xdp_ports(), ["eth1", "eth2", "eth3"]);
    assert_ne!(host.ports(), before);
    assert_eq!(csmd.end(Signal::SIGTERM), Some(0), "{}", csmd.log());
    assert_eq!(host.ports(), before);
    assert!(!csmd.socket.exists());
}

#[test]
fn a_second_csmd_touches_nothing_and_one_after_a_crash_cleans_up() {
    let host = Host::new();
    let before = host.ports();
    let mut first = host.start(SINGLE, "first");
    let running = host.ports();
    let config = host.write("second.cfg", SINGLE);
    let (status, words) = host.refused(&config, &first.socket);
    assert_eq!(status, 1);
    assert!(words.contains("another csmd serves") && words.contains("choose another socket"), "{words}");
    let (status, words) = host.refused(&config, &host.socket("other.sock"));
    assert_eq!(status, 1);
    assert!(
        words.contains("interface eth1") && words.contains("another XDP program is attached there"),
        "{words}"
    );
    assert_eq!(host.ports(), running);
    assert!(first.csm("show module csm 5 vlan").is_ok() && !host.socket("other.sock").exists());

    let attached = host.xdp_ports();
    assert_eq!(first.end(Signal::SIGKILL), None);
    assert_eq!(
        host.xdp_ports(),
        attached,
        "the program outlives its process, until the next one takes its place"
    );
    assert_ne!(host.ports(), before, "its addresses stay");
    let mut next = host.start(SINGLE, "first");
    assert_eq!(next.end(Signal::SIGINT), Some(0), "{}", next.log());
    assert_eq!(host.ports(), before);
}

#[test]
fn a_port_without_native_xdp_is_named_and_the_others_are_released() {
    let host = Host::new();
    let before = host.ports();
    let config = host.write("loopback.cfg", &SINGLE.replace("eth2", "lo"));
    let (status, words) = host.refused(&config, &host.socket("loopback.sock"));
    assert_eq!(status, 1);
    let sentence = words.lines().last().unwrap_or_default();
    assert!(sentence.starts_with("csmd: ") && sentence.contains("interface lo "), "{words}");
    assert!(sentence.contains("use an interface whose driver has native XDP"), "{words}");
    assert_eq!(host.ports(), before);
    assert!(!host.socket("loopback.sock").exists());
}

#[test]
fn without_its_capabilities_csmd_says_which_it_needs() {
    let host = Host::new();
    let before = host.ports();
    let config = host.write("poor.cfg", SINGLE);
    let mut command = host.csmd(&config, &host.socket("poor.sock"));
    // SAFETY: prctl is a bare system call, allowed between fork and exec; the closure allocates nothing.
    unsafe {
        command.pre_exec(|| {
            // CAP_BPF leaves the bounding set: exec cannot give it any more, not even to root.
            match libc::prctl(libc::PR_CAPBSET_DROP, 39, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let (status, words) = said(&command.output().expect("csmd starts"));
    assert_eq!(
        (status, words.as_str()),
        (1, "csmd: privileges: CAP_BPF missing: start csmd as root, or grant them\n")
    );
    assert_eq!(host.ports(), before);
}

#[test]
fn a_box_without_an_ft_group_answers_arp_and_balances() {
    let host = Host::new();
    let mut csmd = host.start(SINGLE, "single");
    let listener =
        host.server.within(|| TcpListener::bind("192.158.39.101:80")).expect("inside").expect("port 80");
    let server = std::thread::spawn(move || -> std::io::Result<SocketAddr> {
        let (mut stream, client) = listener.accept()?;
        stream.write_all(b"through the virtual server")?;
        Ok(client)
    });
    let target: SocketAddr = "192.158.38.30:80".parse().expect("an address");
    let connect = || {
        host.client.within(|| TcpStream::connect_timeout(&target, Duration::from_secs(1))).expect("inside")
    };
    let mut stream =
        wait::until("a connection", PATIENCE, PACE, || Ok(connect().ok())).expect("it is balanced");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert_eq!(text, "through the virtual server");
    let client = server.join().expect("no panic").expect("a connection");
    assert_eq!(client.ip(), Ipv4Addr::new(192, 158, 38, 20), "the client's own address");
    let neighbour = |netns: &Netns, address: &str| {
        run(netns.command("ip").expect("ip").args(["neigh", "show", address])).expect("ip")
    };
    assert!(neighbour(&host.client, "192.158.38.30").contains(VIRTUAL_MAC));
    assert!(neighbour(&host.server, "192.158.39.20").contains(VIRTUAL_MAC));
    assert_eq!(csmd.csm("show module csm 5 ft").expect("an answer"), "FT group is not configured\n");
    assert!(
        csmd.csm("show module csm 5 stats").expect("an answer").starts_with("Connections Created:       1\n")
    );
    assert_eq!(csmd.end(Signal::SIGTERM), Some(0));
}

#[test]
fn a_cleared_connection_ends_at_both_ends_at_once_though_neither_speaks() {
    let host = Host::new();
    let mut csmd = host.start(SINGLE, "clear");
    let listener =
        host.server.within(|| TcpListener::bind("192.158.39.101:80")).expect("inside").expect("port 80");
    let target: SocketAddr = "192.158.38.30:80".parse().expect("an address");
    let connect = || {
        host.client.within(|| TcpStream::connect_timeout(&target, Duration::from_secs(1))).expect("inside")
    };
    // The first one may have needed several tries; those that came to nothing are closed again.
    let first = wait::until("a connection", PATIENCE, PACE, || Ok(connect().ok())).expect("it is balanced");
    let pair = |client: TcpStream| {
        let port = client.local_addr().expect("an address").port();
        let server = loop {
            let (server, peer) = listener.accept().expect("a connection");
            if peer.port() == port {
                break server;
            }
        };
        let mut ends = [client, server];
        let mut words = [0; 2];
        ends[0].write_all(b"hi").expect("sent");
        ends[1].read_exact(&mut words).expect("heard");
        ends[1].write_all(b"ho").expect("sent");
        ends[0].read_exact(&mut words).expect("heard");
        for end in &ends {
            end.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        }
        ends
    };
    let first = pair(first);
    let rows = |words: &str| {
        let shown = csmd.csm(words).expect("an answer");
        shown.lines().filter(|line| line.starts_with("In ") && line.ends_with(" ESTAB")).count()
    };
    assert_eq!(rows("show module csm 5 conns real 192.158.39.101 80"), 1);
    assert_eq!(rows("show module csm 5 conns real 192.158.39.101 81"), 0);
    let clear = |words: &str| csmd.csm(&format!("clear module csm 5 connections {words}"));
    assert_eq!(clear("client 10.0.0.1").expect("done"), "connections cleared: 0\n");
    let unknown = clear("real 192.158.39.102").expect_err("no such real").to_string();
    assert!(unknown.contains("there is no real 192.158.39.102"), "{unknown}");
    assert_eq!(clear("vserver vip1").expect("done"), "connections cleared: 1\n");
    for mut end in first {
        let ended = end.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
    }
    assert_eq!(rows("show module csm 5 conns"), 0);
    // The ends may speak again at once.
    let second = pair(connect().expect("a new connection"));
    assert_eq!(rows("show module csm 5 conns vserver VIP1"), 1);
    drop(second);
    assert_eq!(csmd.end(Signal::SIGTERM), Some(0));
}

#[test]
fn a_clients_packets_are_told_of_while_somebody_listens() {
    let host = Host::new();
    let csmd = host.start(SINGLE, "traced");
    let program = || -> Option<u64> {
        let mut command = host.node.command("ip").expect("ip");
        let text = run(command.args(["-d", "-j", "link", "show", "eth1"])).expect("ip");
        serde_json::from_str::<Value>(&text).expect("JSON")[0]["xdp"]["prog"]["id"].as_u64()
    };
    let usual = program().expect("a program on eth1");
    let listener =
        host.server.within(|| TcpListener::bind("192.158.39.101:80")).expect("inside").expect("port 80");
    let mut trace = Command::new(&host.programs.csm.path);
    trace.arg("--socket").arg(&csmd.socket).args(["trace", "client", "192.158.38.20", "vserver", "VIP1"]);
    let trace = trace.args(["count", "3"]).stdout(Stdio::piped()).spawn().expect("csm starts");
    let traced = || Ok(program().filter(|&id| id != usual));
    wait::until("the traced form", PATIENCE, PACE, traced).expect("it is attached");
    let busy = csmd.csm("trace client 192.158.38.99 count 1").expect_err("one client at a time");
    assert!(busy.to_string().contains("the packets of 192.158.38.20 are being traced"), "{busy}");
    let target: SocketAddr = "192.158.38.30:80".parse().expect("an address");
    let connect = || {
        host.client.within(|| TcpStream::connect_timeout(&target, Duration::from_secs(1))).expect("inside")
    };
    let _stream = wait::until("a connection", PATIENCE, PACE, || Ok(connect().ok())).expect("it is balanced");
    drop(listener);
    let told = trace.wait_with_output().expect("it ends after three packets");
    let told = String::from_utf8(told.stdout).expect("text");
    let lines = [
        "flow no connection",
        "now  half open, SYN_CLIENT, vserver VIP1, real 192.158.39.101",
        ":80, to ",
        "end  forwarded_new: sent on",
        "flow half open, SYN_CLIENT, vserver VIP1, real 192.158.39.101",
        "now  half open, SYN_BOTH, vserver VIP1, real 192.158.39.101",
        "out  TCP 192.158.38.30:80 > 192.158.38.20:",
        "end  forwarded_flow: sent on",
        "now  proven, ESTAB, vserver VIP1, real 192.158.39.101",
    ];
    let mut rest = told.as_str();
    for line in lines {
        let at =
            rest.find(line).unwrap_or_else(|| panic!("\"{line}\" is missing, or too early, in:\n{told}"));
        rest = &rest[at + line.len()..];
    }
    let back = || Ok((program() == Some(usual)).then_some(()));
    wait::until("the usual form", PATIENCE, PACE, back).expect("it comes back when nobody listens");
}

/// A farm whose server is probed, and what becomes of its connections when that fails.
const PURGING: &str = " probe CHECK tcp
  interval 2
  retries 1
 serverfarm WEB
  failaction purge
  probe CHECK
";

#[test]
fn a_failed_reals_connections_are_reset_if_its_farm_says_purge() {
    let host = Host::new();
    // Before the first probe: a real that fails at once is not asked again for long.
    let listener =
        host.server.within(|| TcpListener::bind("192.158.39.101:80")).expect("inside").expect("port 80");
    let mut csmd = host.start(&SINGLE.replace(" serverfarm WEB\n  nat server\n", PURGING), "purge");
    let target: SocketAddr = "192.158.38.30:80".parse().expect("an address");
    let connect = || {
        host.client.within(|| TcpStream::connect_timeout(&target, Duration::from_secs(1))).expect("inside")
    };
    let mut client =
        wait::until("a connection", PATIENCE, PACE, || Ok(connect().ok())).expect("the real passes");
    client.write_all(b"hi").expect("sent");
    let port = client.local_addr().expect("an address").port();
    // Probes are accepted, too, and end at once.
    let mut server = loop {
        let (server, peer) = listener.accept().expect("a connection");
        if peer.port() == port {
            break server;
        }
    };
    // The kernel that a probe asks now has nobody listening, while the connection stands.
    drop(listener);
    for end in [&mut client, &mut server] {
        end.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut words = [0; 8];
        let ended = loop {
            match end.read(&mut words) {
                Ok(1..) => {}
                other => break other.map_err(|error| error.kind()),
            }
        };
        assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset), "{}", csmd.log());
    }
    let told = || Ok(csmd.log().contains("connections of failed reals were reset").then_some(()));
    wait::until("a word about it", PATIENCE, PACE, told).expect("the log says so");
    assert_eq!(csmd.end(Signal::SIGTERM), Some(0));
}
