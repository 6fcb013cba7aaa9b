//! What runs on the real servers: nginx, the message server and the UDP echo.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::figure::{ECHO_PORT, MESSAGE_PORT, WEB_PORT};
use crate::netns::Netns;
use crate::traffic::http::REAL_HEADER;
use crate::wait;

/// Name under which every server serves the download.
pub const DOWNLOAD: &str = "download.bin";

/// The services of one real server; stopped on drop.
#[derive(Debug)]
pub struct Services {
    /// nginx first: it has children of its own and is asked to stop, the others are killed.
    children: Vec<Child>,
}

impl Services {
    /// Starts all three, on the IPv6 addresses too, and waits until they listen. `web_root` holds the files that nginx serves.
    ///
    /// # Errors
    /// When nginx is missing or a port is not to be had.
    pub fn start(
        netns: &Netns,
        name: &str,
        (address, addresses6): (Ipv4Addr, &[Ipv6Addr]),
        directory: &Path,
        web_root: &Path,
        csm_lab: &Path,
        message_interval: Duration,
    ) -> Result<Self> {
        let mut services = Self { children: vec![nginx(netns, name, addresses6, directory, web_root)?] };
        let pace = message_interval.as_millis().to_string();
        let any = |port: u16| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).to_string();
        let mut programs = vec![
            ["msg-server".to_owned(), any(MESSAGE_PORT), pace.clone()].to_vec(),
            ["udp-echo".to_owned(), any(ECHO_PORT)].to_vec(),
        ];
        for &address in addresses6 {
            let at = |port: u16| SocketAddr::from((address, port)).to_string();
            programs.push(["msg-server".to_owned(), at(MESSAGE_PORT), pace.clone()].to_vec());
            programs.push(["udp-echo".to_owned(), at(ECHO_PORT)].to_vec());
        }
        for arguments in programs {
            let mut child = netns
                .command(csm_lab)?
                .arg("traffic")
                .args(&arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("start {}", arguments[0]))?;
            let out = child.stdout.take();
            services.children.push(child);
            let mut line = String::new();
            if let Some(out) = out {
                BufReader::new(out).read_line(&mut line)?;
            }
            if line.is_empty() {
                bail!("{} on {name} did not start", arguments[0]);
            }
        }
        let web = SocketAddr::from((address, WEB_PORT));
        wait::until(&format!("nginx on {name}"), Duration::from_secs(10), Duration::from_millis(5), || {
            netns.within(|| TcpStream::connect_timeout(&web, Duration::from_secs(1)).ok())
        })?;
        Ok(services)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if let Some(nginx) = self.children.first() {
            let _ = kill(Pid::from_raw(nginx.id().cast_signed()), Signal::SIGTERM);
        }
        for other in self.children.iter_mut().skip(1) {
            let _ = other.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

fn nginx(
    netns: &Netns,
    name: &str,
    addresses6: &[Ipv6Addr],
    directory: &Path,
    web_root: &Path,
) -> Result<Child> {
    std::fs::create_dir_all(directory)?;
    let configuration = directory.join("nginx.conf");
    let (here, root) = (directory.display(), web_root.display());
    let listen6 = match addresses6 {
        [] => String::new(),
        _ => format!(" listen [::]:{WEB_PORT} ipv6only=on backlog=4096;\n"),
    };
    let text = format!(
        "user root;\nworker_processes 1;\npid {here}/nginx.pid;\nerror_log {here}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n access_log off;\n sendfile on;\n keepalive_timeout 0;\n\
         client_body_temp_path {here};\n proxy_temp_path {here};\n fastcgi_temp_path {here};\n\
         uwsgi_temp_path {here};\n scgi_temp_path {here};\n\
         server {{\n listen {WEB_PORT} backlog=4096;\n{listen6} root {root};\n add_header {REAL_HEADER} {name};\n limit_rate $arg_rate;\n\
         location = /who {{ return 200 \"{name}\\n\"; }}\n }}\n}}\n"
    );
    std::fs::write(&configuration, text)?;
    let mut command: Command = netns.command("nginx")?;
    command
        .arg("-p")
        .arg(directory)
        .arg("-e")
        .arg(directory.join("error.log"))
        .arg("-c")
        .arg(&configuration)
        .args(["-g", "daemon off;"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("start nginx on {name}: is it installed?"))
}
