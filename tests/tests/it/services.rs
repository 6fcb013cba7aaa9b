//! What a virtual server can do, on real traffic, and on the peer after a takeover: dispatch mode, client NAT, forwarding,
//! networks, FTP.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use csm_tests::decapsulate::Decapsulator;
use csm_tests::lab::{Lab, Options};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::service::DOWNLOAD;
use csm_tests::status::Role;
use csm_tests::topology::{self, ALIAS, REALS, Side, VIP};
use csm_tests::traffic::download::{Download, Outcome};
use csm_tests::wait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);
/// Bytes a second at which a download lasts from before the fault until after the takeover.
const RATE: u64 = 2_000_000;
/// In dispatch mode: the servers own it, too.
const DISPATCH: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 31);
/// With client NAT.
const TRANSLATED: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 33);
/// With `service ftp`.
const FTP: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 34);
/// By way of IP in IP, and of GUE: the servers own them, too.
const IPIP: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 35);
const GUE: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 36);
/// The port of the servers for GUE.
const GUE_PORT: u16 = 6090;
/// In a virtual network that the router sends to the pair.
const OF_NETWORK: Ipv4Addr = Ipv4Addr::new(192, 158, 200, 77);

/// Farms and virtual servers beside the figure's own.
fn services() -> String {
    let mut text = " natpool POOL 192.158.39.50 192.158.39.53 netmask 255.255.255.0\n".to_owned();
    for (farm, lines) in [
        ("DIRECT", "  no nat server\n"),
        ("TRANSLATED", "  nat client POOL\n"),
        ("HASHED", "  predictor hash address source\n"),
        ("IPIP", "  no nat server\n  encapsulation ipip\n"),
        ("GUE", &format!("  no nat server\n  encapsulation gue port {GUE_PORT}\n")),
    ] {
        text += &format!(" serverfarm {farm}\n{lines}");
        for real in REALS {
            text += &format!("  real {real}\n   inservice\n");
        }
    }
    text += &format!(" static nat virtual\n  real {}\n", REALS[0]);
    text += " serverfarm ONWARD\n  predictor forward\n";
    for (name, to, farm) in [
        ("DISPATCH", format!("{DISPATCH} tcp www"), "DIRECT"),
        ("TRANSLATE", format!("{TRANSLATED} tcp www"), "TRANSLATED"),
        ("IPIP", format!("{IPIP} tcp www"), "IPIP"),
        ("GUE", format!("{GUE} tcp www"), "GUE"),
        ("FTP", format!("{FTP} tcp ftp service ftp"), "HASHED"),
        ("NETWORK", "192.158.200.0 255.255.255.0 tcp 0".to_owned(), "HASHED"),
        ("FORWARD", format!("{} any", REALS[1]), "ONWARD"),
    ] {
        text += &format!(
            " vserver {name}\n  virtual {to}\n  serverfarm {farm}\n  replicate csrp connection\n  inservice\n"
        );
    }
    text
}

/// vsftpd on one server; killed when dropped, with its sessions, which would wait for a client that is gone.
struct Ftp(Child);

impl Ftp {
    fn start(lab: &Lab, index: usize) -> Result<Self> {
        let configuration = lab.runtime().join(format!("vsftpd-{index}.conf"));
        let root = lab.runtime().join("www");
        let text = format!(
            "listen=YES\nlisten_ipv6=NO\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nanon_root={}\n\
             anon_max_rate={RATE}\nconnect_from_port_20=YES\npasv_address={FTP}\npasv_min_port=30000\n\
             pasv_max_port=30099\nseccomp_sandbox=NO\nsecure_chroot_dir=/var/run/vsftpd/empty\nxferlog_enable=NO\n",
            root.display()
        );
        std::fs::create_dir_all("/var/run/vsftpd/empty")?;
        std::fs::write(&configuration, text)?;
        let mut command = lab.topology.servers[index].command("vsftpd")?;
        command.arg(&configuration).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        command.spawn().map(Self).context("start vsftpd: is it installed?")
    }
}

impl Drop for Ftp {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// The lab with everything that the modes need outside of the pair.
fn lab(test: &str) -> (Lab, Vec<Ftp>) {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let options = Options { services: services(), ..Options::small(programs, out(test)) };
    let lab = Lab::build(options).expect("a lab");
    for server in &lab.topology.servers {
        server.sysctl("ipv4/conf/all/arp_ignore", "1").expect("sysctl");
        let owned = [DISPATCH, IPIP, GUE].map(|address| format!("addr add {address}/32 dev lo"));
        server.ip(&owned).expect("the virtual addresses");
    }
    let router = &lab.topology.router;
    let routes = ["192.158.200.0/24", "192.158.39.0/24"].map(|net| format!("route add {net} via {VIP}"));
    router.ip(&routes).expect("routes to the pair");
    let ftp = (0..REALS.len()).map(|index| Ftp::start(&lab, index).expect("vsftpd")).collect();
    (lab, ftp)
}

/// A connection that a server opened to a host on the client side.
struct Outbound {
    server: TcpStream,
    client: TcpStream,
}

impl Outbound {
    /// From server `index` to a port of a client, proven on node `active`.
    fn open(lab: &Lab, index: usize, active: Side) -> Result<Self> {
        let bind = || TcpListener::bind((topology::client(90 + index), 0));
        let listener = lab.topology.client.within(bind)??;
        let to = listener.local_addr()?;
        let before = connections(lab, active)?.get("").map_or(0, Vec::len);
        // The router's neighbour entry of the pair may be the first thing that is missing.
        let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(5));
        let server = lab.topology.servers[index].within(connect)??;
        let (client, _) = listener.accept()?;
        let mut made = Self { server, client };
        for stream in [&made.server, &made.client] {
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        }
        made.talk()?;
        anyhow::ensure!(connections(lab, active)?.get("").map_or(0, Vec::len) > before, "not in the table");
        Ok(made)
    }

    /// What the client takes the server for.
    fn seen_as(&self) -> Ipv4Addr {
        match self.client.peer_addr() {
            Ok(std::net::SocketAddr::V4(address)) => *address.ip(),
            other => panic!("{other:?}"),
        }
    }

    /// Some octets each way.
    fn talk(&mut self) -> Result<()> {
        for _ in 0..3 {
            let mut heard = [0; 4];
            self.server.write_all(b"ping")?;
            self.client.read_exact(&mut heard)?;
            self.client.write_all(b"pong")?;
            self.server.read_exact(&mut heard)?;
            anyhow::ensure!(heard == *b"pong", "{heard:?}");
        }
        Ok(())
    }
}

/// Connections of a node by virtual server ("": none, of those that servers opened): client, real, and what the real sees as the client.
fn connections(lab: &Lab, side: Side) -> Result<BTreeMap<String, Vec<[String; 3]>>> {
    let answer = lab.nodes[usize::from(side == Side::B)].show("conns")?;
    let rows =
        answer.get("connections").or(Some(&answer)).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut found: BTreeMap<String, Vec<[String; 3]>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row["state"] == "estab") {
        let address = |name: &str| row[name]["address"].as_str().unwrap_or_default().to_owned();
        let vserver = row["vserver"].as_str().unwrap_or_default().to_owned();
        found.entry(vserver).or_default().push(["client", "real", "source"].map(address));
    }
    found.values_mut().for_each(|rows| rows.sort_unstable());
    Ok(found)
}

#[test]
fn a_connection_of_each_mode_survives_the_active_nodes_death() {
    let (mut lab, ftp_servers) = lab("services");
    let active = lab.start(LIMIT).expect("one active, one standby");
    let client = &lab.topology.client;
    let web = |address: Ipv4Addr| format!("http://{address}/{DOWNLOAD}?rate={RATE}");
    let ftp = format!("ftp://{FTP}/{DOWNLOAD}");
    let ends =
        lab.topology.servers.iter().map(|server| Decapsulator::start(server, GUE_PORT).expect("an end"));
    let ends: Vec<Decapsulator> = ends.collect();
    let wanted: [(&str, String, &[&str]); 10] = [
        ("DISPATCH", web(DISPATCH), &[]),
        ("IPIP", web(IPIP), &[]),
        ("GUE", web(GUE), &[]),
        ("TRANSLATE", web(TRANSLATED), &[]),
        ("FORWARD", web(REALS[1]), &[]),
        ("NETWORK", web(OF_NETWORK), &[]),
        ("FTP, EPSV", ftp.clone(), &[]),
        ("FTP, PASV", ftp.clone(), &["--disable-epsv", "--no-ftp-skip-pasv-ip"]),
        ("FTP, EPRT", ftp.clone(), &["--ftp-port", "-"]),
        ("FTP, PORT", ftp.clone(), &["--ftp-port", "-", "--disable-eprt"]),
    ];
    let mut downloads: Vec<_> = (0..)
        .zip(&wanted)
        .map(|(index, (name, url, words))| {
            let download = Download::fetch(client, topology::client(index), url, words);
            (name, download.expect("curl"))
        })
        .collect();
    // Control and data connection of four, and one each of six.
    let standby = active.peer();
    let mut seen = BTreeMap::new();
    let outbound =
        [0, 1].map(|index| Outbound::open(&lab, index, active).expect("a server's own connection"));
    assert_eq!(outbound.each_ref().map(Outbound::seen_as), [VIP, REALS[1]], "one translated, one not");
    let held = wait::until("replicas of all", LIMIT, Duration::from_millis(50), || {
        let held = connections(&lab, standby)?;
        seen.extend(held.clone());
        let all = ["DISPATCH", "IPIP", "GUE", "TRANSLATE", "FORWARD", "NETWORK"]
            .iter()
            .all(|name| held.contains_key(*name));
        let of = |name: &str| held.get(name).map_or(0, Vec::len);
        Ok((all && of("FTP") >= 8 && of("") == 2).then_some(held))
    });
    let Ok(held) = held else {
        let outcome = |(name, download): (_, Download)| (name, download.finish(&lab.payload, Duration::ZERO));
        let outcomes: Vec<_> = downloads.into_iter().map(outcome).collect();
        panic!("{held:?}\nseen on the standby: {seen:?}\ndownloads: {outcomes:?}");
    };
    let [_, real, source] = &held["TRANSLATE"][0];
    assert!(
        source.starts_with("192.158.39.5") && REALS.iter().any(|own| own.to_string() == *real),
        "{held:?}"
    );
    let [from, real, source] = &held["DISPATCH"][0];
    assert!(from == source && REALS.iter().any(|own| own.to_string() == *real), "{held:?}");
    assert_eq!(held, connections(&lab, active).expect("conns"), "the active node's own");
    lab.fail(active, Fault::Kill).expect("kill");
    lab.node(standby).wait_for(Role::Active, LIMIT).expect("takeover");
    let under_way = downloads.iter_mut().map(|(_, download)| download.running().expect("curl"));
    assert_eq!(under_way.collect::<Vec<_>>(), [true; 10], "each spans the takeover");
    assert_eq!(held, connections(&lab, standby).expect("conns"), "the successor goes by its replicas");
    for mut connection in outbound {
        connection.talk().expect("a server's own connection goes on");
    }
    let again = Outbound::open(&lab, 0, standby).expect("a new one on the successor");
    assert_eq!(again.seen_as(), VIP);
    for (name, download) in downloads {
        let ended = download.finish(&lab.payload, Duration::from_secs(40)).expect("an outcome");
        assert_eq!(ended, Outcome::Intact, "{name}");
        println!("{name}: {} bytes across the takeover, checksum right", lab.payload.size);
    }
    // And the successor does all of it for new ones.
    let client = &lab.topology.client;
    let downloads: Vec<_> = (20..)
        .zip(&wanted)
        .map(|(index, (name, url, words))| {
            let url = url.replace(&RATE.to_string(), "0");
            (name, Download::fetch(client, topology::client(index), &url, words).expect("curl"))
        })
        .collect();
    for (name, download) in downloads {
        let ended = download.finish(&lab.payload, Duration::from_secs(40)).expect("an outcome");
        assert_eq!(ended, Outcome::Intact, "{name}, new on the successor");
    }
    let taken =
        ends.iter().map(|end| end.taken(false)).fold([0, 0], |sum, of| [sum[0] + of[0], sum[1] + of[1]]);
    assert!(taken.iter().all(|&packets| packets > 100), "{taken:?} packets of IP in IP and GUE");
    drop((ends, ftp_servers));
    finish(lab);
}

/// In the lab's figure the servers' gateway is the pair; without any, only client NAT brings their answers back.
#[test]
fn with_client_nat_the_servers_need_no_route_to_the_clients() {
    let (mut lab, ftp_servers) = lab("no-gateway");
    lab.start(LIMIT).expect("one active, one standby");
    for server in &lab.topology.servers {
        server.ip(&[format!("route del default via {ALIAS}")]).expect("no gateway");
    }
    let client = &lab.topology.client;
    for index in 0..12 {
        let url = format!("http://{TRANSLATED}/who");
        let mut curl = client.command("curl").expect("curl");
        let answer = curl
            .args(["--silent", "--max-time", "5", "--interface", &topology::client(index).to_string(), &url])
            .output()
            .expect("curl");
        let said = String::from_utf8_lossy(&answer.stdout).into_owned();
        assert_eq!(said.trim(), format!("s{}", index % 3 + 1), "{answer:?}");
    }
    drop(ftp_servers);
    finish(lab);
}
