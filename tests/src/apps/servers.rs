//! What runs on the real servers beside nginx: iperf3, dnsmasq, vsftpd.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Way;
use crate::lab::Lab;

/// The name that is asked for, its address, and the name with a long answer.
pub(super) const NAME: (&str, &str, &str) = ("app.lab", "10.9.8.7", "long.lab");
/// Strings of the long answer, of 200 octets each: more than a packet holds.
pub(super) const LONG: usize = 12;

/// The processes; killed when dropped, with their children.
#[derive(Debug)]
pub(super) struct Servers(Vec<Child>);

impl Servers {
    /// Starts all of them on each server.
    pub(super) fn start(lab: &Lab, way: Way) -> Result<Self> {
        let mut servers = Self(Vec::new());
        std::fs::create_dir_all("/var/run/vsftpd/empty")?;
        for (index, netns) in lab.topology.servers.iter().enumerate() {
            let named = if way == Way::Forward { way.wiring().reals()[index] } else { way.addresses().0 };
            let six = way.has_ipv6().then(|| way.wiring().reals6()[index]);
            // One for each family: where one listens for both, PASV does not work.
            let mut vsftpd = Vec::new();
            for listen in [
                Some(format!("listen=YES\nlisten_ipv6=NO\npasv_address={named}\n")),
                six.map(|address| format!("listen=NO\nlisten_ipv6=YES\nlisten_address6={address}\n")),
            ]
            .into_iter()
            .flatten()
            {
                let file = lab.runtime().join(format!("apps-vsftpd-{index}-{}.conf", vsftpd.len()));
                let text = format!(
                    "{listen}background=NO\nanonymous_enable=YES\nno_anon_password=YES\nanon_root={}\n\
                     connect_from_port_20=YES\npasv_min_port=30000\npasv_max_port=30099\n\
                     seccomp_sandbox=NO\nsecure_chroot_dir=/var/run/vsftpd/empty\nxferlog_enable=NO\n",
                    lab.runtime().join("www").display()
                );
                std::fs::write(&file, text)?;
                vsftpd.push(vec![file.display().to_string()]);
            }
            let long = (0..LONG).map(|index| format!(",{index:03}{}", "x".repeat(197))).collect::<String>();
            let dns = [
                "--keep-in-foreground".to_owned(),
                "--conf-file=/dev/null".into(),
                "--no-resolv".into(),
                "--no-hosts".into(),
                "--user=root".into(),
                "--pid-file".into(),
                "--log-facility=-".into(),
                "--edns-packet-max=4096".into(),
                format!("--address=/{}/{}", NAME.0, NAME.1),
                format!("--txt-record={}{long}", NAME.2),
            ];
            // Of the addresses that it owns iperf3 answers datagrams from the one that it is bound to.
            let iperf: Vec<Vec<String>> = if way.servers_own() {
                way.targets().iter().map(|own| vec!["-s".to_owned(), "-B".into(), own.to_string()]).collect()
            } else {
                vec![vec!["-s".to_owned()]]
            };
            let named = |program| move |arguments: Vec<String>| (program, arguments);
            let all = std::iter::once(("dnsmasq", dns.to_vec()))
                .chain(vsftpd.into_iter().map(named("vsftpd")))
                .chain(iperf.into_iter().map(named("iperf3")));
            for (program, arguments) in all {
                let mut command = netns.command(program)?;
                command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let child = command.process_group(0).spawn();
                servers.0.push(child.with_context(|| format!("start {program}: is it installed?"))?);
            }
        }
        Ok(servers)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}
