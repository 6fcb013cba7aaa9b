//! A virtual machine in a node's place: csmd on a kernel and a clock of its own, and network cards that are no veth.
//!
//! What no namespace can have is tried here: the machine's clock is set while csmd runs, and the machine stands still as a
//! whole, with its clock (a paused guest, the end of a live migration) or without (a host that gives it no time). Its port on
//! the clients' VLAN is a port channel of two cards, for which the lab's own kernel may have no driver.

pub mod deed;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::channel::Channel;
use crate::netns::Netns;
use crate::status::Status;
use crate::topology::{Side, VLANS};
use crate::wait;

/// What the guest's console says when it takes commands. `cargo xtask test --guest` packs the script that says so.
const READY: &str = "csm-guest: ready";
/// What it says after each command, before the exit code.
const CODE: &str = "csm-guest: exit code ";
/// Emulated, on a machine that does other things, too.
const BOOT: Duration = Duration::from_secs(180);
const COMMAND: Duration = Duration::from_secs(60);
/// Octets of a file in one line of the console, before base64: a terminal takes lines of 4,095.
const CHUNK: usize = 1_500;
const SOCKET: &str = "/run/csm.sock";
const LOG: &str = "/run/csmd.log";
/// Its cards: one for each VLAN, and another for the clients'.
const CARDS: usize = VLANS.len() + 1;
/// The lab's ends of the cards of the port channel, eth1 and eth4.
const LINKS: [&str; 2] = ["tap1", "tap4"];

/// What to boot.
#[derive(Debug, Clone)]
pub struct Image {
    /// The kernel.
    pub kernel: PathBuf,
    /// The root, with csmd and csm.
    pub initrd: PathBuf,
}

/// The machine. Killed when dropped.
#[derive(Debug)]
pub struct Guest {
    qemu: Child,
    console: ChildStdin,
    lines: Receiver<String>,
    monitor: PathBuf,
    channel: Channel,
}

impl Guest {
    /// Boots a guest whose ports are the cables of `node`, whose own ends csmd then no longer can use: eth1 and eth4, as one port
    /// channel, that of the clients' VLAN, eth2 and eth3 the others.
    ///
    /// # Errors
    /// Without qemu, or when the guest does not come up.
    pub fn boot(image: &Image, node: &Netns, runtime: &Path) -> Result<Self> {
        let port = plug(node)?;
        let monitor = runtime.join("monitor.sock");
        let mut command = node.command("qemu-system-x86_64")?;
        command
            .args(["-accel", "tcg", "-cpu", "max", "-m", "1G", "-smp", "2", "-display", "none", "-no-reboot"])
            .args(["-serial", "stdio", "-monitor", "none", "-nodefaults"])
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()))
            .arg("-kernel")
            .arg(&image.kernel)
            .arg("-initrd")
            .arg(&image.initrd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        // Frames as on a wire: XDP sees no checksum that is still to be made, neither here nor at the peer.
        let whole = ["csum", "gso", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo"]
            .into_iter()
            .chain(["host_tso4", "host_tso6", "host_ecn", "host_ufo"])
            .map(|feature| format!(",{feature}=off"))
            .collect::<String>();
        for n in 1..=CARDS {
            command
                .arg("-netdev")
                .arg(format!("tap,id=n{n},ifname=tap{n},script=no,downscript=no"))
                .arg("-device")
                .arg(format!("virtio-net-pci,netdev=n{n},mac=52:54:00:00:00:0{n}{whole}"));
        }
        let mut qemu = command.spawn().context("start qemu-system-x86_64")?;
        let console = qemu.stdin.take().context("the console's input")?;
        let output = qemu.stdout.take().context("the console's output")?;
        let (tell, lines) = channel();
        // Ends with the console, at the latest when the guest is killed.
        std::thread::spawn(move || {
            let lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
            lines
                .map(|line| String::from_utf8_lossy(&line).trim_end().to_owned())
                .try_for_each(|line| tell.send(line))
        });
        let mut guest = Self { qemu, console, lines, monitor, channel: port };
        guest.read_until(READY, BOOT)?;
        Ok(guest)
    }

    /// Starts csmd with this configuration, in which eth1 becomes a port channel. Of the node's own addresses csmd makes that on the
    /// channel; the other stands on eth2.
    ///
    /// # Errors
    /// With what the guest says about it.
    pub fn start_csmd(&mut self, side: Side, configuration: &str) -> Result<()> {
        self.put("/run/csm.cfg", on_a_channel(configuration)?.as_bytes())?;
        // The kernel counts from 0; a name must be free before it is given.
        for n in (0..CARDS).rev() {
            self.run(&format!("ip link set dev eth{n} name eth{}", n + 1))?;
        }
        let [_, on_vlan3] = side.addresses();
        self.run(&format!("ip addr add {on_vlan3}/24 dev eth2"))?;
        for n in 1..=CARDS {
            self.run(&format!("ip link set dev eth{n} up"))?;
        }
        self.run(&format!(
            "csmd --config /run/csm.cfg --state /run/state --socket {SOCKET} --connections 65536 --log {LOG} \
             </dev/null >/run/csmd.err 2>&1 &"
        ))
        .map(drop)
    }

    /// Runs a line of shell on the console and returns what it prints.
    ///
    /// # Errors
    /// When it fails, or does not end within a minute.
    pub fn run(&mut self, line: &str) -> Result<String> {
        writeln!(self.console, "{line}").context("the guest's console")?;
        let (said, code) = self.read_until(CODE, COMMAND)?;
        ensure!(code == "0", "in the guest, `{line}` ended with {code}: {said}");
        Ok(said)
    }

    /// What its csmd says about its FT group.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&mut self) -> Result<Status> {
        let answer = self.run(&format!("csm --socket {SOCKET} --json show module csm 5 ft detail"))?;
        Status::from_json(&serde_json::from_str(&answer).with_context(|| format!("csm said {answer}"))?)
    }

    /// The end of its csmd's own words.
    pub fn last_words(&mut self) -> String {
        self.run(&format!("tail -n 15 /run/csmd.err {LOG}")).unwrap_or_else(|error| format!("{error:#}"))
    }

    /// The whole machine stands still, and so does its clock: it will know nothing of this time.
    ///
    /// # Errors
    /// When qemu does not obey.
    pub fn pause(&self) -> Result<()> {
        self.ask_monitor("stop")
    }

    /// It goes on from there.
    ///
    /// # Errors
    /// When qemu does not obey.
    pub fn resume(&self) -> Result<()> {
        self.ask_monitor("cont")
    }

    /// The machine gets no time any more; its clock goes on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// It gets time again.
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Takes the carrier of the channel's second link, or gives it back; the lab's end of the channel sees the same.
    ///
    /// # Errors
    /// When qemu does not obey, or of the kernel.
    pub fn set_second_link(&mut self, node: &Netns, up: bool) -> Result<()> {
        self.channel.use_only(node, if up { &LINKS } else { &LINKS[..1] })?;
        self.ask_monitor_with("set_link", &format!("{{\"name\": \"n{CARDS}\", \"up\": {up}}}"))
    }

    /// Whether the guest's channel has a link that is down.
    ///
    /// # Errors
    /// When the guest does not answer.
    pub fn channel_is_short(&mut self) -> Result<bool> {
        Ok(self.run("cat /proc/net/bonding/Port-channel1")?.contains("MII Status: down"))
    }

    /// Packets that each link of the channel has carried to the guest and from it.
    ///
    /// # Errors
    /// Of `ip`.
    pub fn carried(&self) -> Result<[[u64; 2]; 2]> {
        self.channel.carried()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.qemu.id().cast_signed()), signal)?)
    }

    /// One command of the QEMU machine protocol (docs/interop/qmp-spec.rst), which takes none before `qmp_capabilities`.
    fn ask_monitor(&self, command: &str) -> Result<()> {
        self.ask_monitor_with(command, "{}")
    }

    fn ask_monitor_with(&self, command: &str, arguments: &str) -> Result<()> {
        let mut stream = UnixStream::connect(&self.monitor).context("qemu's monitor")?;
        stream.set_read_timeout(Some(COMMAND))?;
        for (command, arguments) in [("qmp_capabilities", "{}"), (command, arguments)] {
            writeln!(stream, "{{\"execute\": \"{command}\", \"arguments\": {arguments}}}")?;
        }
        // The greeting, an answer to each, and events between them.
        let mut returned = 0;
        for line in BufReader::new(&stream).lines() {
            let line = line?;
            ensure!(!line.contains("\"error\""), "qemu refuses `{command}`: {line}");
            returned += usize::from(line.contains("\"return\""));
            if returned == 2 {
                return Ok(());
            }
        }
        bail!("qemu's monitor was closed during `{command}`")
    }

    fn put(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.run(&format!(": > {path}"))?;
        for chunk in content.chunks(CHUNK) {
            self.run(&format!("echo {} | base64 -d >> {path}", STANDARD.encode(chunk)))?;
        }
        Ok(())
    }

    /// What the console says before the line that begins with `end`, and the rest of that.
    fn read_until(&mut self, end: &str, limit: Duration) -> Result<(String, String)> {
        let deadline = Instant::now() + limit;
        let mut said = String::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.split_once(end) {
                    Some((_, rest)) => return Ok((said, rest.trim().to_owned())),
                    None => {
                        said.push_str(&line);
                        said.push('\n');
                    }
                },
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the guest did not say `{end}` within {} s, only: {said}", limit.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the guest has ended: {said}"),
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Joins each of the node's cables to a port for the guest, that of the clients' VLAN to two; the namespace itself has no address
/// any more and is silent.
fn plug(node: &Netns) -> Result<Channel> {
    for scope in ["all", "default"] {
        node.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1")?;
    }
    let mut lines: Vec<String> = (1..=CARDS)
        .flat_map(|n| [format!("tuntap add dev tap{n} mode tap"), format!("link set dev tap{n} up")])
        .collect();
    lines.extend((1..=VLANS.len()).map(|n| format!("addr flush dev eth{n}")));
    lines.extend((2..=VLANS.len()).flat_map(|n| {
        [
            format!("link add name br{n} type bridge stp_state 0 mcast_snooping 0"),
            format!("link set dev eth{n} master br{n} up"),
            format!("link set dev tap{n} master br{n} up"),
            format!("link set dev br{n} up"),
        ]
    }));
    node.ip(&lines)?;
    Channel::start(node, LINKS, "eth1")
}

/// `configuration` with a port channel of eth1 and eth4 where it has eth1.
fn on_a_channel(configuration: &str) -> Result<String> {
    let access = "interface eth1\n switchport access vlan 2\n";
    ensure!(configuration.contains(access), "there is no access port eth1 in:\n{configuration}");
    let channel = "interface eth1\n channel-group 1 mode on\ninterface eth4\n channel-group 1 mode on\n\
                   interface Port-channel1\n switchport access vlan 2\n";
    Ok(configuration.replace(access, channel))
}

/// Polls a guest's status until `look` is content.
fn wait_for(guest: &mut Guest, what: &str, look: impl Fn(&Status) -> bool) -> Result<()> {
    let found = wait::until(what, BOOT, Duration::from_millis(200), || {
        Ok(guest.status().ok().filter(|status| look(status)).map(drop))
    });
    found.with_context(|| guest.last_words())
}
