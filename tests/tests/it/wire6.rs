//! IPv6 alone on the wire, with real hosts: path MTU discovery on both sides, traceroute through and to the virtual server, FTP,
//! neighbours of VLANs without IPv4. The row of hosts is that of [`crate::row`].

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::Duration;

use csm_common::net::virtual_mac;
use csm_tests::checks::show_mac;
use csm_tests::netns::run;
use csm_tests::wait;

use crate::row::{PACE, PATIENCE, Plan, Row, TCP_PORT, UDP_PORT, payload};

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

fn row() -> Row {
    Row::new(Plan {
        config: CONFIG,
        vip: IpAddr::V6(VIP),
        settings: [
            &[("ipv6/conf/all/accept_dad", "0"), ("ipv6/conf/default/accept_dad", "0")],
            &[("ipv6/conf/all/forwarding", "1"), ("ipv6/icmp/ratelimit", "0")],
            &[("ipv6/conf/core/proxy_ndp", "1"), ("ipv6/neigh/core/proxy_delay", "0")],
        ],
        client: (&["fd00:20::100/64 dev core nodad"], &["default via fd00:20::1"]),
        r1: (&["fd00:20::1/64 dev edge nodad", "fd00:21::1/64 dev core nodad"], &["default via fd00:21::2"]),
        r2: (
            &["fd00:21::2/64 dev edge nodad", "fd00:38::20/64 dev core nodad"],
            &["fd00:20::/64 via fd00:21::1", "fd00:39::/64 via fd00:38::11"],
        ),
        c1: (
            &["fd00:39::200/64 dev core nodad", "fd00:31::1/64 dev edge nodad"],
            &["fd00:39::101/128 via fd00:31::2", "default via fd00:39::20"],
        ),
        c2: (
            &["fd00:31::2/64 dev core nodad", "fd00:32::1/64 dev edge nodad"],
            &["fd00:39::101/128 dev edge", "default via fd00:31::1"],
        ),
        server: (
            &["fd00:39::101/128 dev core nodad", "fd00:32::2/64 dev core nodad"],
            &["default via fd00:32::1 src fd00:39::101"],
        ),
        proxied: Some(SERVER),
    })
}

/// Starts vsftpd on the server.
fn serve_ftp(row: &mut Row) {
    let root = row.directory.join("ftp");
    std::fs::create_dir_all(&root).expect("a directory");
    std::fs::create_dir_all("/var/run/vsftpd/empty").expect("a directory");
    std::fs::write(root.join("file"), payload()).expect("a file");
    let text = format!(
        "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nanon_root={}\n\
         connect_from_port_20=YES\npasv_min_port=30000\npasv_max_port=30099\nseccomp_sandbox=NO\n\
         secure_chroot_dir=/var/run/vsftpd/empty\nxferlog_enable=NO\n",
        root.display()
    );
    let configuration = row.directory.join("vsftpd.conf");
    std::fs::write(&configuration, text).expect("a file");
    let mut command = row.server.command("vsftpd").expect("vsftpd");
    command.arg(&configuration).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    row.children.push(command.spawn().expect("vsftpd is installed"));
    let control = SocketAddr::from((VIP, 21));
    wait::until("vsftpd", PATIENCE, PACE, || {
        row.client.within(|| Ok(TcpStream::connect_timeout(&control, Duration::from_secs(1)).ok()))?
    })
    .expect("an answer");
}

#[test]
fn ipv6_path_mtu_discovery_works_in_front_and_behind() {
    row().discovers_the_path_mtu([1300, 1290, 1280]);
}

#[test]
fn ipv6_traceroute_ftp_and_neighbours() {
    let mut row = row();
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
    serve_ftp(&mut row);
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
