//! A terminal with a program in it, driven as an operator's fingers would.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::pty::{Winsize, openpty};

use crate::wait;

/// Far beyond what anything on the screen takes.
const LIMIT: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(10);

/// The terminal. The program is killed when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    child: Child,
    screen: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    /// Octets of the screen that were looked at.
    seen: usize,
}

impl Terminal {
    /// Runs `program` with `words` on a terminal of 24 lines.
    ///
    /// # Errors
    /// Without a pseudo terminal or the program.
    pub fn run(program: &Command) -> Result<Self> {
        let size = Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None)?;
        // It becomes the controlling terminal, so that Ctrl-C reaches the program.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(program.get_program()).args(program.get_args());
        let slave = File::from(pty.slave);
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave).env("TERM", "xterm");
        let child = command.spawn().context("setsid")?;
        // The command keeps its ends of the terminal open; the reader is to see the end.
        drop(command);
        let master = File::from(pty.master);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut source, sink) = (master.try_clone()?, Arc::clone(&screen));
        let reader = std::thread::spawn(move || {
            let mut octets = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut octets) {
                let text = String::from_utf8_lossy(&octets[..count]);
                sink.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        Ok(Self { master, child, screen, reader: Some(reader), seen: 0 })
    }

    /// Strikes keys.
    ///
    /// # Errors
    /// If nobody reads them.
    pub fn strike(&mut self, keys: &str) -> Result<()> {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Waits until `text` stands on the screen after what was waited for last; returns what stands before it.
    ///
    /// # Errors
    /// With the screen, if it does not come.
    pub fn wait_for(&mut self, text: &str) -> Result<String> {
        let (screen, seen) = (&self.screen, self.seen);
        let found = wait::until(&format!("{text:?} on the screen"), LIMIT, PACE, || {
            let screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = screen.get(seen..).unwrap_or_default();
            Ok(fresh.find(text).map(|at| fresh[..at].to_owned()))
        });
        let before = found.with_context(|| format!("the screen after what was seen: {:?}", self.rest()))?;
        self.seen += before.len() + text.len();
        Ok(before)
    }

    fn rest(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.get(self.seen..).unwrap_or_default().to_owned()
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end(mut self) -> Result<ExitStatus> {
        let child = &mut self.child;
        wait::until("the program's end", LIMIT, PACE, || Ok(child.try_wait()?))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The reader ends with the terminal's last user; a test does not wait for it.
        drop(self.reader.take());
    }
}
