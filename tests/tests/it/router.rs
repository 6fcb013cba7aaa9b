//! The guide's HSRP picture in the lab: two hosts, each router and CSM at once. Client network - FastEthernet3/6 - VLAN 136 -
//! CSM - VLAN 272 - servers; whichever host routes has the CSM's role, too.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use csm_tests::link::offloads;
use csm_tests::netns::{LabId, Netns, Reaper, run};
use csm_tests::programs::Programs;
use csm_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

const LIMIT: Duration = Duration::from_secs(30);
const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 6, 0, 100), 80);
const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 5, 0, 101), Ipv4Addr::new(10, 5, 0, 102)];
const CONNECTIONS: usize = 20;

/// What differs between the families.
pub(super) struct Network {
    /// Of the two hosts.
    pub configurations: [String; 2],
    /// What gives the client its addresses and routes, before its interface is up.
    pub client: Vec<String>,
    /// The servers', with the length of their network's prefix, and their gateway.
    pub servers: Vec<IpAddr>,
    pub length: u8,
    pub gateway: IpAddr,
    /// The virtual server.
    pub vip: SocketAddr,
}

/// The seed's.
fn seed() -> Network {
    Network {
        configurations: ["seed-hsrp-ft1", "seed-hsrp-ft2"].map(configuration),
        client: vec!["addr add 10.100.1.1/16 dev eth0".into()],
        servers: SERVERS.map(IpAddr::V4).to_vec(),
        length: 16,
        gateway: Ipv4Addr::new(10, 5, 0, 1).into(),
        vip: VIP.into(),
    }
}

/// One of the two hosts.
pub(super) struct Host {
    pub netns: Netns,
    child: Option<Child>,
    configuration: PathBuf,
    socket: PathBuf,
    pub log: PathBuf,
}

pub(super) struct Picture {
    programs: Programs,
    pub hosts: [Host; 2],
    /// The client network's switch, the channel between the chassis, the servers' switch.
    pub switches: [Netns; 3],
    pub client: Netns,
    server: Netns,
    network: Network,
    _reaper: Reaper,
}

/// The listing as printed, and what it leaves open: ports, servers, and times that a test can wait for.
fn configuration(listing: &str) -> String {
    let text =
        fs::read_to_string(format!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/config/{}.cfg"), listing))
            .expect("the listing");
    let reals: String = SERVERS.iter().map(|real| format!("  real {real}\n   inservice\n")).collect();
    let fast = "timers msec 100 msec 600\n";
    // FT2 is not told the groups' addresses: it learns them.
    let text = match listing {
        "seed-hsrp-ft2" => text.replace("ip 10.100.0.1", "ip").replace("1 ip 10.6.0.1", "1 ip"),
        _ => text,
    };
    text + "end\ninterface po100\n switchport access vlan 136\ninterface eth2\n switchport access vlan 272\n\
        interface eth3\n switchport access vlan 71\n"
        + &format!("interface Fa3/6\n standby 2 {fast}interface vlan136\n standby 1 {fast}")
        + &format!("module csm {}\n serverfarm WEB\n{reals}", if listing.ends_with('1') { 5 } else { 6 })
        + &format!(" vserver WEB\n  virtual {} tcp www\n  serverfarm WEB\n", VIP.ip())
        + "  replicate csrp connection\n  inservice\n ft group 88 vlan 71\n  heartbeat-time msec 100\n  failover msec 300\n  \
           track group 1\n  track hold-down 1\n"
}

impl Picture {
    pub(super) fn build(test: &str, network: Network) -> Self {
        let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
        let lab = LabId::unique();
        let reaper = Reaper::start(&programs.csm_lab, &lab).expect("the reaper");
        let runtime = crate::out(test);
        fs::create_dir_all(&runtime).expect("a directory");
        let netns = |role: &str| Netns::create(&lab, role).expect("a namespace");
        let host = |name: &str, configuration: &str| {
            let file = |suffix: &str| runtime.join(format!("{name}.{suffix}"));
            fs::write(file("cfg"), configuration).expect("a file");
            Host {
                netns: netns(name),
                child: None,
                configuration: file("cfg"),
                socket: file("sock"),
                log: file("log"),
            }
        };
        let picture = Self {
            hosts: [host("ft1", &network.configurations[0]), host("ft2", &network.configurations[1])],
            switches: ["clients", "channel", "servers"].map(netns),
            client: netns("client"),
            server: netns("server"),
            programs,
            network,
            _reaper: reaper,
        };
        picture.wire();
        picture
    }

    fn wire(&self) {
        for (switch, inside) in self.switches.iter().zip(["fa3-6", "po100", "eth2"]) {
            let mut lines = vec!["link add name br type bridge mcast_snooping 0".to_owned()];
            let mut plug = |port: &str, inside: &str, netns: &Netns| {
                let name = netns.name();
                lines.push(format!("link add name {port} type veth peer name {inside} netns {name}"));
                lines.push(format!("link set dev {port} master br up"));
            };
            plug("sw-a", inside, &self.hosts[0].netns);
            plug("sw-b", inside, &self.hosts[1].netns);
            match inside {
                "fa3-6" => plug("sw-c", "eth0", &self.client),
                "eth2" => plug("sw-s", "eth0", &self.server),
                _ => {}
            }
            lines.push("link set dev br up".to_owned());
            switch.ip(&lines).expect("a switch");
            offloads(switch, &["sw-a".into(), "sw-b".into()], true).expect("offloads");
            let end: &[String] = match inside {
                "fa3-6" => &["sw-c".into()],
                "eth2" => &["sw-s".into()],
                _ => &[],
            };
            offloads(switch, end, false).expect("offloads");
        }
        let [a, b] = self.hosts.each_ref().map(|host| &host.netns);
        a.ip(&[format!("link add name eth3 type veth peer name eth3 netns {}", b.name())])
            .expect("the FT link");
        for netns in [a, b] {
            let up = ["fa3-6", "po100", "eth2", "eth3"].map(|port| format!("link set dev {port} up"));
            netns.ip(&up).expect("ports");
        }
        let Network { client, servers, length, gateway, .. } = &self.network;
        let mut lines = client.clone();
        lines.push("link set dev eth0 up".into());
        // One of IPv6 hears of its router.
        if gateway.is_ipv4() {
            lines.push("route add default via 10.100.0.1".into());
        }
        self.client.ip(&lines).expect("the client");
        let nodad = if gateway.is_ipv6() { " nodad" } else { "" };
        let mut lines: Vec<String> =
            servers.iter().map(|real| format!("addr add {real}/{length} dev eth0{nodad}")).collect();
        lines.extend(["link set dev eth0 up".into(), format!("route add default via {gateway}")]);
        self.server.ip(&lines).expect("the server");
        for end in [&self.client, &self.server] {
            offloads(end, &["eth0".into()], false).expect("offloads");
        }
        self.serve();
    }

    /// What a client says comes back; ends with the test's process.
    fn serve(&self) {
        for &real in &self.network.servers {
            let listener =
                self.server.within(|| TcpListener::bind((real, 80))).expect("netns").expect("a listener");
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(mut stream) = stream else { continue };
                    std::thread::spawn(move || {
                        let mut buffer = [0; 1024];
                        while let Ok(length @ 1..) = stream.read(&mut buffer) {
                            if stream.write_all(&buffer[..length]).is_err() {
                                break;
                            }
                        }
                    });
                }
            });
        }
    }

    pub(super) fn start(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        let words = fs::File::create(host.log.with_extension("err")).expect("a file");
        let mut command = host.netns.command(&self.programs.csmd.path).expect("csmd");
        command.args(&self.programs.csmd.leading).arg("--config").arg(&host.configuration);
        command
            .arg("--socket")
            .arg(&host.socket)
            .args(["--connections", "65536"])
            .arg("--log")
            .arg(&host.log);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
        host.child = Some(command.spawn().expect("csmd"));
    }

    pub(super) fn csm(&self, index: usize, words: &str) -> anyhow::Result<String> {
        let mut command = Command::new(&self.programs.csm.path);
        command.args(&self.programs.csm.leading).arg("--socket").arg(&self.hosts[index].socket);
        run(command.args(words.split(' ')))
    }

    fn json(&self, index: usize, words: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.csm(index, &format!("--json {words}"))?)?)
    }

    fn groups(&self, index: usize) -> anyhow::Result<Vec<Value>> {
        let standby = self.json(index, "show standby")?;
        Ok(standby.as_array().or_else(|| standby["groups"].as_array()).cloned().unwrap_or_default())
    }

    /// What both hosts say, for a failure.
    pub(super) fn all(&self) -> String {
        let host = |index: usize| {
            let log = fs::read_to_string(&self.hosts[index].log).unwrap_or_default();
            let err = fs::read_to_string(self.hosts[index].log.with_extension("err")).unwrap_or_default();
            let ft = self.csm(index, &format!("show module csm {} ft", 5 + index));
            format!("{:?}\n{ft:?}\n{log}\n{err}", self.csm(index, "show standby"))
        };
        format!("{}\n{}", host(0), host(1))
    }

    /// The process of a host's csmd.
    pub(super) fn pid(&self, index: usize) -> Pid {
        let id = self.hosts[index].child.as_ref().expect("csmd").id();
        Pid::from_raw(i32::try_from(id).expect("a process"))
    }

    /// Takes all away, the logs too.
    pub(super) fn remove(self) {
        let out = self.hosts[0].log.parent().map(std::path::Path::to_owned);
        drop(self);
        fs::remove_dir_all(out.expect("a directory")).expect("remove the logs");
    }

    /// Groups whose active router a host is.
    fn active(&self, index: usize) -> anyhow::Result<usize> {
        Ok(self.groups(index)?.iter().filter(|group| group["state"] == "active").count())
    }

    /// Whether a host has the CSM's role and is the active router of both groups.
    fn has_all(&self, index: usize) -> anyhow::Result<bool> {
        let slot = 5 + index;
        let ft = self.json(index, &format!("show module csm {slot} ft detail"))?;
        Ok(ft["state"] == "active" && self.active(index)? == 2)
    }

    /// Waits until a host is ready to take over all, and has nothing.
    #[track_caller]
    pub(super) fn wait_for_standby(&self, index: usize) {
        let ready = wait::until("a standby", LIMIT, Duration::from_millis(50), || {
            let ft =
                self.json(index, &format!("show module csm {} ft detail", 5 + index)).unwrap_or_default();
            let groups = self.groups(index).unwrap_or_default();
            let standby = groups.iter().filter(|group| group["state"] == "standby").count();
            Ok((ft["state"] == "standby" && standby == 2).then_some(()))
        });
        if let Err(error) = ready {
            panic!("{error}\n{}", self.all());
        }
    }

    #[track_caller]
    pub(super) fn wait_for(&self, index: usize) {
        let found = wait::until("router and role on one host", LIMIT, Duration::from_millis(50), || {
            Ok(self.has_all(index).unwrap_or(false).then_some(()))
        });
        if let Err(error) = found {
            panic!("{error}\n{}", self.all());
        }
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            if let Some(mut child) = host.child.take() {
                let _gone = (child.kill(), child.wait());
            }
            // What outlives a csmd that was killed.
            let mut withdraw = Command::new(&self.programs.csmd.path);
            withdraw.args(&self.programs.csmd.leading).arg("--withdraw").arg("--socket").arg(&host.socket);
            let _withdrawn = withdraw.status();
        }
    }
}

/// The client's connections.
pub(super) struct Clients(Vec<TcpStream>);

impl Clients {
    pub(super) fn open(picture: &Picture) -> Self {
        let open = || -> std::io::Result<Vec<TcpStream>> {
            (0..CONNECTIONS)
                .map(|_| {
                    let stream = TcpStream::connect_timeout(&picture.network.vip, LIMIT)?;
                    stream.set_read_timeout(Some(LIMIT))?;
                    stream.set_nodelay(true)?;
                    Ok(stream)
                })
                .collect()
        };
        Self(picture.client.within(open).expect("netns").expect("connections"))
    }

    /// A message on each of them comes back.
    #[track_caller]
    pub(super) fn speak(&mut self, word: &str) {
        for (number, stream) in self.0.iter_mut().enumerate() {
            stream.write_all(word.as_bytes()).unwrap_or_else(|error| panic!("{word}, {number}: {error}"));
        }
        for (number, stream) in self.0.iter_mut().enumerate() {
            let mut heard = vec![0; word.len()];
            stream.read_exact(&mut heard).unwrap_or_else(|error| panic!("{word}, {number}: {error}"));
            assert_eq!(heard, word.as_bytes());
        }
    }
}

/// Hears every TCP packet between the two chassis.
struct Channel(Socket);

impl Channel {
    fn hear(picture: &Picture) -> Self {
        // All: what a bridge forwards never gets as far as one protocol's own handlers.
        let protocol = Protocol::from(i32::from(0x0003_u16.to_be()));
        let open = || Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol));
        Self(picture.switches[1].within(open).expect("netns").expect("a packet socket"))
    }

    /// TCP packets since it was asked last.
    fn crossed(&self) -> usize {
        let (mut buffer, mut count) = ([0; 2048], 0);
        loop {
            match (&self.0).read(&mut buffer) {
                Ok(length) => {
                    count += usize::from(length > 33 && buffer[12..14] == [8, 0] && buffer[23] == 6);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn router_and_role_move_together_and_traffic_never_crosses() {
    let mut picture = Picture::build("router", seed());
    // The guide: both have priority 100 in group 1, so FT1 must be first.
    picture.start(0);
    picture.wait_for(0);
    picture.start(1);
    picture.wait_for_standby(1);
    let shown = picture.csm(1, "show standby").expect("show standby");
    for address in ["10.100.0.1", "10.6.0.1"] {
        assert!(shown.contains(&format!("  Virtual IP address is {address} (learned)\n")), "{shown}");
    }
    let mut clients = Clients::open(&picture);
    let channel = Channel::hear(&picture);
    clients.speak("on FT1");
    assert_eq!(channel.crossed(), 0, "between the chassis while all is on FT1");

    // Switch 1's tracked port goes down: HSRP moves, the role follows, and no connection is lost.
    picture.switches[0].ip(&["link set dev sw-a down".into()]).expect("the port");
    picture.wait_for(1);
    clients.speak("on FT2");
    channel.crossed();
    clients.speak("settled on FT2");
    assert_eq!(channel.crossed(), 0, "between the chassis while all is on FT2");

    // It comes back. By their priorities group 2 returns and group 1 stays: now packets cross, and still arrive.
    picture.switches[0].ip(&["link set dev sw-a up".into()]).expect("the port");
    let back = wait::until("group 2 on FT1", LIMIT, Duration::from_millis(50), || {
        Ok((picture.active(0).unwrap_or(0) == 1 && picture.active(1).unwrap_or(0) == 1).then_some(()))
    });
    back.expect("group 2 on FT1");
    // Not before FT2's router has ceased to take on what still comes to it.
    let crosses = wait::until("packets between the chassis", LIMIT, Duration::from_millis(100), || {
        clients.speak("through both");
        Ok((channel.crossed() >= CONNECTIONS).then_some(()))
    });
    if let Err(error) = crosses {
        panic!("{error}: by FT1's router to FT2's module\n{}", picture.all());
    }

    // FT2 is stopped: its leases end. It wakes, and finds that others have what it had.
    kill(picture.pid(1), Signal::SIGSTOP).expect("SIGSTOP");
    picture.wait_for(0);
    clients.speak("FT2 stopped");
    kill(picture.pid(1), Signal::SIGCONT).expect("SIGCONT");
    picture.wait_for_standby(1);
    assert!(picture.has_all(0).expect("FT1"), "nothing moved by that");
    clients.speak("FT2 awake");

    // FT1 dies.
    kill(picture.pid(0), Signal::SIGKILL).expect("SIGKILL");
    picture.wait_for(1);
    clients.speak("FT1 dead");
    if std::env::var_os("CSM_SHOW").is_some() {
        println!("{}", picture.csm(1, "show standby").expect("show standby"));
    }
    picture.remove();
}
