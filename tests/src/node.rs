//! One node: its csmd, what it says about itself, and what can be done to it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::programs::Programs;
use crate::status::{Role, Status};
use crate::topology::{Side, Topology};
use crate::wait::{self, now_ns};

/// Environment variable by which a negative control reaches csmd.
pub const FAULT_VARIABLE: &str = "CSM_LAB_FAULT";

/// How the active node goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL to csmd.
    Kill,
    /// SIGSTOP to csmd; SIGCONT when the lab restores the node.
    Stop,
    /// All links of the node go down at once, and csmd with them.
    PowerOff,
    /// `clear module csm 5 ft active`: a planned switchover.
    FtActive,
    /// SIGTERM: csmd hands over and leaves.
    Leave,
}

impl Fault {
    /// Those that `csm-lab run` applies when none is named.
    pub const DEMONSTRATED: [Self; 4] = [Self::Kill, Self::Stop, Self::PowerOff, Self::FtActive];

    /// The name on the command line and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::PowerOff => "power-off",
            Self::FtActive => "ft-active",
            Self::Leave => "leave",
        }
    }

    /// Whether the predecessor takes part, so that nothing may be lost.
    pub fn planned(self) -> bool {
        matches!(self, Self::FtActive | Self::Leave)
    }
}

/// A defect that csmd is asked to have, to prove that the lab's checkers notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NegativeControl {
    /// The gate never closes by itself.
    LeaseOff,
    /// A planned move drops the strays.
    RelayOff,
    /// No gratuitous ARP after a takeover.
    AnnounceOff,
    /// Connections are not replicated.
    DropDeltas,
}

impl NegativeControl {
    fn value(self) -> &'static str {
        match self {
            Self::LeaseOff => "lease-off",
            Self::RelayOff => "relay-off",
            Self::AnnounceOff => "announce-off",
            Self::DropDeltas => "drop-deltas",
        }
    }
}

/// csmd on one node. Killed when dropped.
#[derive(Debug)]
pub struct Node {
    side: Side,
    programs: Programs,
    configuration: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    fault: Option<String>,
    child: Option<Child>,
    stopped: bool,
    cabled: bool,
}

impl Node {
    /// A node that has not been started. The socket goes to `runtime`, configuration and log to `out`.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn new(
        side: Side,
        programs: &Programs,
        text: &str,
        runtime: &std::path::Path,
        out: &std::path::Path,
        control: Option<NegativeControl>,
    ) -> Result<Self> {
        let letter = side.letter();
        let configuration = out.join(format!("node-{letter}.cfg"));
        fs::write(&configuration, text).with_context(|| configuration.display().to_string())?;
        Ok(Self {
            side,
            programs: programs.clone(),
            configuration,
            socket: runtime.join(format!("csm-{letter}.sock")),
            log: out.join(format!("node-{letter}.log")),
            fault: control.map(|control| control.value().to_owned()),
            child: None,
            stopped: false,
            cabled: true,
        })
    }

    /// What csmd is asked to do wrong from its next start on: `old-wire`, `cut-7`, or nothing.
    pub fn set_fault(&mut self, fault: Option<&str>) {
        self.fault = fault.map(str::to_owned);
    }

    /// Waits until csmd has ended by itself.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<()> {
        let child = &mut self.child;
        wait::until("the end of csmd", limit, Duration::from_millis(10), || {
            let Some(running) = child else { return Ok(Some(())) };
            Ok(running.try_wait()?.map(drop))
        })?;
        self.child = None;
        Ok(())
    }

    /// Where its copies of the startup configuration stand.
    pub fn state(&self) -> PathBuf {
        self.socket.with_extension("state")
    }

    /// Which node.
    pub fn side(&self) -> Side {
        self.side
    }

    /// csmd's process, while there is one.
    pub fn pid(&self) -> Option<Pid> {
        self.child.as_ref().map(|child| Pid::from_raw(child.id().cast_signed()))
    }

    /// Path of csmd's API socket.
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Path of csmd's log.
    pub fn log(&self) -> &std::path::Path {
        &self.log
    }

    /// Starts csmd. Its standard error goes to a file beside its log.
    ///
    /// # Errors
    /// When the program cannot be started; what it thinks of its configuration shows in [`Node::status`].
    pub fn start(&mut self, netns: &Netns) -> Result<()> {
        let words = self.log.with_extension("err");
        let stderr = File::options().create(true).append(true).open(&words)?;
        let mut command = netns.command(&self.programs.csmd.path)?;
        command
            .args(&self.programs.csmd.leading)
            .arg("--config")
            .arg(&self.configuration)
            .arg("--state")
            .arg(self.state())
            .arg("--socket")
            .arg(&self.socket)
            // Both nodes and all traffic share this machine: tables no larger than the lab needs, for the kernel builds
            // them in one go that keeps a processor busy.
            .args(["--connections", "65536"])
            .arg("--log")
            .arg(&self.log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        if let Some(fault) = &self.fault {
            command.env(FAULT_VARIABLE, fault);
        }
        self.child = Some(command.spawn().with_context(|| format!("start csmd on {:?}", self.side))?);
        self.stopped = false;
        Ok(())
    }

    /// A `csm` command line for this node.
    pub fn csm(&self) -> Command {
        let mut command = Command::new(&self.programs.csm.path);
        command.args(&self.programs.csm.leading).arg("--socket").arg(&self.socket);
        command
    }

    /// Runs `csm` with the given words and returns what it prints.
    ///
    /// # Errors
    /// With csm's own words when it fails.
    pub fn command(&self, words: &str) -> Result<String> {
        crate::netns::run(self.csm().args(words.split(' ')))
    }

    /// `reload force`, and waits until the next csmd answers.
    ///
    /// # Errors
    /// With csmd's own words when it does not.
    pub fn reload(&mut self, limit: Duration) -> Result<()> {
        let starts = |log: &std::path::Path| {
            fs::read_to_string(log).map(|text| text.matches(" runs module csm ").count())
        };
        let before = starts(&self.log)?;
        // Under load the replica may lag just then, of which a restart under pinned tables loses nothing.
        self.command("reload force")?;
        let back = wait::until("csmd after its restart", limit, Duration::from_millis(20), || {
            self.check_alive()?;
            Ok((starts(&self.log)? > before && self.status().is_ok()).then_some(()))
        });
        back.with_context(|| self.last_words())
    }

    /// The JSON answer to `show module csm 5 WHAT`.
    pub fn show(&self, what: &str) -> Result<serde_json::Value> {
        let text = crate::netns::run(
            self.csm().arg("--json").args(["show", "module", "csm", "5"]).args(what.split(' ')),
        )?;
        serde_json::from_str(&text).with_context(|| format!("csm said {text}"))
    }

    /// What the node says about its FT group.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Status> {
        if self.child.is_none() || self.stopped {
            bail!("csmd on {:?} is not running", self.side);
        }
        Status::from_json(&self.show("ft detail")?)
    }

    /// Waits for a role, for at most `limit`.
    ///
    /// # Errors
    /// With the end of csmd's own words when it exits or does not get there.
    pub fn wait_for(&mut self, role: Role, limit: Duration) -> Result<Status> {
        let side = self.side;
        let mut last = None;
        let found =
            wait::until(&format!("{role:?} on node {side:?}"), limit, Duration::from_millis(20), || {
                self.check_alive()?;
                let status = self.status().ok();
                last.clone_from(&status);
                Ok(status.filter(|status| status.role == role && (role != Role::Standby || status.ready)))
            });
        found.with_context(|| format!("last status {last:?}\n{}", self.last_words()))
    }

    /// Waits until it is a standby that would keep every connection, for all that is said against a takeover is in `but`.
    ///
    /// # Errors
    /// With the end of csmd's own words when it exits or does not get there.
    pub fn wait_for_replica(&mut self, limit: Duration, but: &[&str]) -> Result<()> {
        let what = format!("a complete replica on node {:?}", self.side);
        let mut last = None;
        let found = wait::until(&what, limit, Duration::from_millis(20), || {
            self.check_alive()?;
            let status = self.status().ok();
            last.clone_from(&status);
            let is_it = |status: &Status| {
                status.role == Role::Standby && status.obstacles.iter().all(|one| but.contains(&one.as_str()))
            };
            Ok(status.filter(is_it).map(drop))
        });
        found.with_context(|| format!("last status {last:?}\n{}", self.last_words()))
    }

    /// Nothing, unless csmd has ended by itself.
    ///
    /// # Errors
    /// Saying how it ended.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
            bail!("csmd on node {:?} ended: {status}", self.side);
        }
        Ok(())
    }

    /// Stops csmd as an orderly shutdown would, by SIGTERM, and by SIGKILL when it does not go within some seconds.
    pub fn stop(&mut self) {
        if let Some(pid) = self.pid() {
            if self.stopped {
                let _ = kill(pid, Signal::SIGCONT);
                self.stopped = false;
            }
            let _ = kill(pid, Signal::SIGTERM);
            let _ = self.reap();
        } else if self.programs.csmd.leading.is_empty() {
            // One that was killed left its program and its tables.
            let mut withdraw = Command::new(&self.programs.csmd.path);
            let _ = crate::netns::run(withdraw.arg("--withdraw").arg("--socket").arg(&self.socket));
        }
    }

    /// The last lines that csmd wrote to its standard error and its log.
    pub fn last_words(&self) -> String {
        let mut words = String::new();
        for path in [self.log.with_extension("err"), self.log.clone()] {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(15)..] {
                words.push_str(line);
                words.push('\n');
            }
        }
        words
    }

    /// Applies a fault and returns the moment of it, nanoseconds of CLOCK_MONOTONIC.
    ///
    /// # Errors
    /// When the node is not running.
    pub fn fail(&mut self, fault: Fault, topology: &Topology) -> Result<u64> {
        let pid = self.pid().with_context(|| format!("node {:?} is not running", self.side))?;
        let at = now_ns();
        match fault {
            Fault::Kill => {
                kill(pid, Signal::SIGKILL)?;
                self.reap()?;
            }
            Fault::Stop => {
                kill(pid, Signal::SIGSTOP)?;
                self.stopped = true;
            }
            Fault::PowerOff => {
                self.cabled = false;
                // The ports are down within some milliseconds of each other, like a power supply's capacitors; the daemon
                // has no time to say anything about it.
                topology.uplinks(self.side, "down")?;
                kill(pid, Signal::SIGKILL)?;
                self.reap()?;
            }
            Fault::FtActive => {
                self.command("clear module csm 5 ft active")?;
            }
            Fault::Leave => {
                kill(pid, Signal::SIGTERM)?;
                self.reap()?;
            }
        }
        Ok(at)
    }

    /// Undoes whatever [`Node::fail`] did; the node then has to find its way back by itself.
    pub fn restore(&mut self, topology: &Topology) -> Result<()> {
        if !self.cabled {
            topology.uplinks(self.side, "up")?;
            self.cabled = true;
        }
        if self.stopped {
            if let Some(pid) = self.pid() {
                kill(pid, Signal::SIGCONT)?;
            }
            self.stopped = false;
        }
        if self.child.is_none() {
            self.start(topology.node(self.side))?;
        }
        Ok(())
    }

    /// Open file descriptors of csmd.
    pub fn descriptors(&self) -> Result<usize> {
        let pid = self.pid().context("not running")?;
        Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
    }

    fn reap(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            let limit = Duration::from_secs(15);
            let ended =
                wait::until("the end of csmd", limit, Duration::from_millis(2), || Ok(child.try_wait()?));
            if ended.is_err() {
                child.kill()?;
                child.wait()?;
            }
            ended?;
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
