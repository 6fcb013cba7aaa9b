//! The client's programs, and how each is judged.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Way;
use super::servers::{LONG, NAME};
use crate::lab::Lab;
use crate::service::DOWNLOAD;
use crate::topology::{client, client6};

/// Least MTU on the way to the clients while path MTU discovery is tried: the least of IPv6.
const NARROW: u32 = 1280;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// curl from nginx: a file, its length right.
    Curl,
    /// iperf3, TCP.
    IperfTcp,
    /// iperf3, UDP, a millisecond apart.
    IperfUdp,
    /// dig from dnsmasq: a short answer, one in fragments, one by TCP.
    Dig,
    /// curl from vsftpd: EPSV, and of IPv4 PASV.
    FtpPassive,
    /// curl from vsftpd: EPRT, and of IPv4 PORT.
    FtpActive,
    /// ping, also of 4000 octets.
    Ping,
    /// traceroute by TCP.
    Traceroute,
    /// A file through a link that the server learns of by ICMP.
    PathMtu,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Curl,
        Self::IperfTcp,
        Self::IperfUdp,
        Self::Dig,
        Self::FtpPassive,
        Self::FtpActive,
        Self::Ping,
        Self::Traceroute,
        Self::PathMtu,
    ];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::IperfTcp => "iperf3",
            Self::IperfUdp => "iperf3 -u",
            Self::Dig => "dig",
            Self::FtpPassive => "ftp passive",
            Self::FtpActive => "ftp active",
            Self::Ping => "ping",
            Self::Traceroute => "traceroute",
            Self::PathMtu => "path MTU",
        }
    }

    /// Whether it is for that way: `service ftp` needs `nat server`, and active FTP a server that sees the client's address and
    /// whose connections are not bridged.
    pub(super) fn exists(self, way: Way) -> bool {
        match self {
            Self::FtpPassive => !way.servers_own(),
            Self::FtpActive => !(way.servers_own() || way.hides_clients() || way == Way::Bridge),
            _ => true,
        }
    }

    /// Runs it; what it says for the table.
    pub(super) fn run(self, lab: &Lab, way: Way, target: IpAddr) -> Result<String> {
        let host = if target.is_ipv6() { format!("[{target}]") } else { target.to_string() };
        let ftp = |words: &[&str]| {
            let url = format!("ftp://{host}/{DOWNLOAD}");
            fetch(lab, target, &url, words)
        };
        match self {
            Self::Curl => {
                fetch(lab, target, &format!("http://{host}/{DOWNLOAD}"), &[])?;
                Ok("right".into())
            }
            Self::IperfTcp => {
                // Slowly enough that the server has read all of it when it closes, which resets else.
                let said = iperf(lab, target, &["-b", "30M", "-t", "1"])?;
                let sent = said["end"]["sum_received"]["bytes"].as_u64().context("bytes")?;
                ensure!(sent >= 1_000_000, "{sent} octets arrived");
                Ok(format!("{} MB", sent / 1_000_000))
            }
            Self::IperfUdp => {
                let said = iperf(lab, target, &["-u", "-b", "4M", "-l", "500", "-t", "1"])?;
                let sum = &said["end"]["sum"];
                let (lost, all) = (sum["lost_packets"].as_u64(), sum["packets"].as_u64());
                let (lost, all) = (lost.context("lost")?, all.context("packets")?);
                ensure!(all > 500 && lost * 50 < all, "{lost} of {all} lost");
                Ok(format!("{lost} of {all} lost"))
            }
            Self::Dig => dig(lab, way, target),
            Self::FtpPassive => {
                ftp(&[])?;
                if target.is_ipv4() {
                    ftp(&["--disable-epsv", "--no-ftp-skip-pasv-ip"])?;
                }
                Ok("right".into())
            }
            Self::FtpActive => {
                ftp(&["--ftp-port", "-"])?;
                if target.is_ipv4() {
                    ftp(&["--ftp-port", "-", "--disable-eprt"])?;
                }
                Ok("right".into())
            }
            Self::Ping => {
                for size in ["56", "4000"] {
                    let words = ["-c", "3", "-i", "0.05", "-W", "5", "-s", size, &target.to_string()];
                    let said = say(lab, "ping", &words)?;
                    ensure!(said.contains(" 3 received"), "{said}");
                }
                Ok("6 of 6".into())
            }
            Self::Traceroute => traceroute(lab, target),
            Self::PathMtu => path_mtu(lab, target, &host),
        }
    }
}

/// Whether all virtual servers' farm answers at `target`.
pub(super) fn answers(lab: &Lab, target: IpAddr) -> bool {
    let host = if target.is_ipv6() { format!("[{target}]") } else { target.to_string() };
    curl(lab, target, &format!("http://{host}/who"), &[]).is_ok()
}

/// Runs a program in the clients' namespace; what it said.
fn say(lab: &Lab, program: &str, words: &[&str]) -> Result<String> {
    let output = lab.topology.client.command("timeout")?.arg("40").arg(program).args(words).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{program} {}: {said}{}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}

fn source(target: IpAddr) -> String {
    // One whose address none of the other programs has.
    if target.is_ipv6() { client6(40).to_string() } else { client(40).to_string() }
}

fn curl(lab: &Lab, target: IpAddr, url: &str, more: &[&str]) -> Result<String> {
    let from = source(target);
    let words = ["--silent", "--show-error", "--max-time", "30", "--interface", &from];
    say(lab, "curl", &[&words[..], more, &[url]].concat())
}

/// Fetches the file, whose length and content must be right.
fn fetch(lab: &Lab, target: IpAddr, url: &str, more: &[&str]) -> Result<()> {
    let file = lab.runtime().join("fetched");
    let name = file.display().to_string();
    curl(lab, target, url, &[&["--output", &name], more].concat())?;
    let own = std::fs::read(lab.runtime().join("www").join(DOWNLOAD))?;
    let fetched = std::fs::read(&file)?;
    std::fs::remove_file(&file)?;
    ensure!(fetched == own, "{} octets of {} by {url}", fetched.len(), own.len());
    Ok(())
}

fn iperf(lab: &Lab, target: IpAddr, more: &[&str]) -> Result<Value> {
    let (to, from) = (target.to_string(), source(target));
    let said = say(lab, "iperf3", &[&["-c", &to, "-B", &from, "-J"], more].concat())?;
    Ok(serde_json::from_str(&said)?)
}

/// In bridge mode the servers' fragments are bridged, not translated: there the long answer comes by TCP alone.
fn dig(lab: &Lab, way: Way, target: IpAddr) -> Result<String> {
    let (at, from) = (format!("@{target}"), source(target));
    let common = [at.as_str(), "-b", &from, "+short", "+time=5", "+tries=2"];
    let short = say(lab, "dig", &[&common[..], &[NAME.0]].concat())?;
    ensure!(short.trim() == NAME.1, "{short}");
    let in_pieces = (way != Way::Bridge).then_some(&["+bufsize=4096", "+notcp", "+ignore"][..]);
    for how in in_pieces.into_iter().chain([&["+tcp"][..]]) {
        let long = say(lab, "dig", &[&common[..], how, &[NAME.2, "TXT"]].concat())?;
        ensure!(long.matches("xxx\"").count() == LONG, "{} octets by {how:?}", long.len());
    }
    Ok(if in_pieces.is_some() { "right" } else { "unfragmented" }.into())
}

/// By TCP to the web's port: the router first, the target last.
fn traceroute(lab: &Lab, target: IpAddr) -> Result<String> {
    let (to, from) = (target.to_string(), source(target));
    let said = say(lab, "traceroute", &["-n", "-T", "-p", "80", "-q", "2", "-w", "3", "-s", &from, &to])?;
    let hops: Vec<&str> = said.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    let router = if target.is_ipv6() { "fd00:20::1" } else { "10.20.0.1" };
    ensure!(hops.first() == Some(&router) && hops.last() == Some(&to.as_str()), "{said}");
    Ok(format!("{} hops", hops.len()))
}

/// The router lets less through to the clients than the servers send, and tells them.
fn path_mtu(lab: &Lab, target: IpAddr, host: &str) -> Result<String> {
    let router = &lab.topology.router;
    let (set, unset) = if target.is_ipv6() {
        let net = "fd00:20::/64 dev eth1 metric 10";
        (format!("route add {net} mtu lock {NARROW}"), format!("route del {net}"))
    } else {
        let net = "10.20.0.0/24 dev eth1";
        (format!("route replace {net} mtu lock {NARROW}"), format!("route replace {net}"))
    };
    router.ip(&[set])?;
    let fetched = fetch(lab, target, &format!("http://{host}/{DOWNLOAD}"), &[]);
    router.ip(&[unset])?;
    fetched?;
    // Only a server that was told has noted it, for whom it took the client to be.
    let mut told = 0;
    for server in &lab.topology.servers {
        let family = if target.is_ipv6() { "-6" } else { "-4" };
        let mut command = server.command("ip")?;
        let said = command.args([family, "route", "show", "cache"]).output()?;
        told += usize::from(String::from_utf8_lossy(&said.stdout).contains(&format!("mtu {NARROW}")));
        server.ip(&["route flush cache".to_owned()])?;
    }
    ensure!(told > 0, "no server has heard of it");
    Ok("told".into())
}
