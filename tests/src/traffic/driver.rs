//! The parent's end of a traffic program.

use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use crate::netns::Netns;

/// A traffic program that answers each command with an `R`. Killed when dropped.
#[derive(Debug)]
pub struct Driver<R> {
    name: String,
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    report: PhantomData<R>,
}

impl<R: DeserializeOwned> Driver<R> {
    /// Starts `csm-lab traffic ARGUMENTS` inside `netns` and waits until it says that it is ready.
    ///
    /// # Errors
    /// With the program's own words when it could not get ready.
    pub fn start(netns: &Netns, csm_lab: &std::path::Path, arguments: &[String]) -> Result<Self> {
        let name = arguments.first().cloned().unwrap_or_default();
        let mut child = netns
            .command(csm_lab)?
            .arg("traffic")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let commands = child.stdin.take().context("stdin")?;
        let answers = BufReader::new(child.stdout.take().context("stdout")?);
        let mut driver = Self { name, child, commands, answers, report: PhantomData };
        driver.read::<serde_json::Value>()?;
        Ok(driver)
    }

    /// Begins a new window.
    pub fn mark(&mut self) -> Result<R> {
        self.ask("mark")
    }

    /// What the program has seen in this window.
    pub fn report(&mut self) -> Result<R> {
        self.ask("report")
    }

    /// Sends one command and reads its answer.
    ///
    /// # Errors
    /// When the program has died.
    pub fn ask(&mut self, command: &str) -> Result<R> {
        writeln!(self.commands, "{command}").with_context(|| format!("{command} to {}", self.name))?;
        self.read()
    }

    fn read<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            bail!("{} ended early: {status}", self.name);
        }
        serde_json::from_str(&line).with_context(|| format!("{} said {line}", self.name))
    }
}

impl<R> Drop for Driver<R> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
