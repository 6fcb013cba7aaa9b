//! A controller whose tokio runtime stands still while its real-time thread goes on: the threads are stopped one by one.

use std::fs;

use anyhow::{Context, Result, bail};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Threads that stand still until this is dropped, on the thread that stopped them.
#[derive(Debug)]
pub struct Stalled(Vec<Pid>);

impl Stalled {
    /// Stops the main thread of a csmd and those of its runtime.
    ///
    /// # Errors
    /// When there is no such process, or another program traces it.
    pub fn new(csmd: Pid) -> Result<Self> {
        let mut stalled = Self(Vec::new());
        for entry in fs::read_dir(format!("/proc/{csmd}/task"))? {
            let entry = entry?;
            let name = fs::read_to_string(entry.path().join("comm"))?;
            let thread = Pid::from_raw(entry.file_name().to_string_lossy().parse()?);
            if thread != csmd && !name.starts_with("tokio") {
                continue;
            }
            ptrace::seize(thread, ptrace::Options::empty())
                .with_context(|| format!("seize {}", name.trim()))?;
            stalled.0.push(thread);
            ptrace::interrupt(thread)?;
            waitpid(thread, Some(WaitPidFlag::__WALL))?;
        }
        if stalled.0.len() < 2 {
            bail!("csmd has no runtime");
        }
        Ok(stalled)
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        for thread in &self.0 {
            // One that is no more needs nothing.
            let _ = ptrace::detach(*thread, None);
        }
    }
}
