//! A large download by curl, its bytes summed by sha256sum, under way while something fails.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::{Netns, run};
use crate::wait;

/// The file that every real server serves.
#[derive(Debug, Clone)]
pub struct Payload {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal.
    pub sum: String,
}

impl Payload {
    /// Writes `size` bytes of noise: no block equals another, so nothing lost, doubled or swapped goes unnoticed.
    ///
    /// # Errors
    /// When the disk is full or sha256sum is missing.
    pub fn write(path: &Path, size: u64) -> Result<Self> {
        let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut left = size;
        while left > 0 {
            // Weyl sequence through a multiply-xor mixer (splitmix64, Steele et al. 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let bytes = word.to_le_bytes();
            let take = usize::try_from(left.min(8))?;
            file.write_all(&bytes[..take])?;
            left -= left.min(8);
        }
        file.flush()?;
        let sum = run(Command::new("sha256sum").arg(path))?;
        Ok(Self { size, sum: first_word(&sum) })
    }
}

/// A download under way; killed when dropped.
#[derive(Debug)]
pub struct Download {
    curl: Child,
    summer: Child,
}

/// How a download ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte arrived and the checksum is right.
    Intact,
    /// It did not, and why.
    Broken(String),
}

impl Download {
    /// Starts curl at `from`. The servers send `bytes_per_second`, so that the download spans what is to be survived: were
    /// it curl that is slow, megabytes would wait in its socket, and the connection would be idle in between.
    ///
    /// # Errors
    /// When curl or sha256sum is missing.
    pub fn start(client: &Netns, from: impl Into<IpAddr>, url: &str, bytes_per_second: u64) -> Result<Self> {
        Self::fetch(client, from, &format!("{url}?rate={bytes_per_second}"), &[])
    }

    /// Starts curl at `from` with `words` more, for a server that paces itself.
    ///
    /// # Errors
    /// When curl or sha256sum is missing.
    pub fn fetch(client: &Netns, from: impl Into<IpAddr>, url: &str, words: &[&str]) -> Result<Self> {
        let mut curl = client
            .command("curl")?
            .args([
                "--silent",
                "--globoff",
                "--show-error",
                "--fail",
                "--max-time",
                "120",
                "--interface",
                &from.into().to_string(),
            ])
            .args(words)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start curl")?;
        let bytes = curl.stdout.take().context("curl's output")?;
        let summer = Command::new("sha256sum")
            .stdin(bytes)
            .stdout(Stdio::piped())
            .spawn()
            .context("start sha256sum")?;
        Ok(Self { curl, summer })
    }

    /// Whether it is still under way.
    pub fn running(&mut self) -> Result<bool> {
        Ok(self.curl.try_wait()?.is_none())
    }

    /// Waits for the end and judges it.
    ///
    /// # Errors
    /// On a signal; never because of the download.
    pub fn finish(mut self, expected: &Payload, limit: Duration) -> Result<Outcome> {
        let ended = wait::until("the end of the download", limit, Duration::from_millis(20), || {
            Ok(self.curl.try_wait()?)
        });
        let status = match ended {
            Ok(status) => status,
            Err(error) => return Ok(Outcome::Broken(error.to_string())),
        };
        let mut complaint = String::new();
        if let Some(mut stderr) = self.curl.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut complaint)?;
        }
        if !status.success() {
            return Ok(Outcome::Broken(complaint.trim().to_owned()));
        }
        let mut sum = String::new();
        if let Some(mut stdout) = self.summer.stdout.take() {
            std::io::Read::read_to_string(&mut stdout, &mut sum)?;
        }
        let sum = first_word(&sum);
        if sum == expected.sum {
            return Ok(Outcome::Intact);
        }
        Ok(Outcome::Broken(format!("checksum {sum}, expected {}", expected.sum)))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        for child in [&mut self.curl, &mut self.summer] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}
