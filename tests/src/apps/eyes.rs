//! What the nodes sent on, as it leaves the switch for router and servers, read by tshark.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::checks::show_mac;
use crate::lab::Lab;
use crate::netns::run;
use crate::wait;

const CHECKSUMS: [(&str, &str); 5] = [
    ("IP", "ip.checksum.status"),
    ("TCP", "tcp.checksum.status"),
    ("UDP", "udp.checksum.status"),
    ("ICMP", "icmp.checksum.status"),
    ("ICMPv6", "icmpv6.checksum.status"),
];
const ENDS: [&str; 8] = [
    "ip.src",
    "ipv6.src",
    "tcp.srcport",
    "ip.dst",
    "ipv6.dst",
    "tcp.dstport",
    "tcp.flags.reset",
    "tcp.flags.fin",
];
/// Whose resets are no surprise: of a traceroute, whose SYN-ACK its kernel has not asked for, and of a client that has got
/// the whole file.
const MAY_RESET: [&str; 2] = ["80", "21"];

/// dumpcap at the switch.
#[derive(Debug)]
pub(super) struct Eyes {
    child: Child,
    file: PathBuf,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) frames: usize,
    pub(super) faults: Vec<String>,
}

impl Eyes {
    /// Begins to record.
    pub(super) fn open(lab: &Lab) -> Result<Self> {
        let file = lab.out("apps.pcapng");
        let log = lab.out("apps-dumpcap.log");
        let mut command = lab.topology.switch.command("dumpcap")?;
        let mac = show_mac(&csm_common::net::virtual_mac(1));
        for port in ["sw-router", "sw-s1", "sw-s2", "sw-s3"] {
            command.args(["-i", port, "-f", &format!("outbound and ether src {mac} and (ip or ip6)")]);
        }
        command.args(["-q", "-B", "64", "-w"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(std::fs::File::create(&log)?).spawn().context("dumpcap")?;
        let eyes = Self { child, file };
        wait::until("dumpcap", Duration::from_secs(20), Duration::from_millis(10), || {
            Ok(std::fs::read_to_string(&log)?.contains("File:").then_some(()))
        })?;
        Ok(eyes)
    }

    /// Ends it and has tshark read all of it.
    pub(super) fn close(mut self) -> Result<Seen> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        wait::until("the end of dumpcap", Duration::from_secs(20), Duration::from_millis(10), || {
            Ok(self.child.try_wait()?)
        })?;
        let mut command = Command::new("tshark");
        command.arg("-n").arg("-r").arg(&self.file).args(["-T", "fields"]);
        for field in CHECKSUMS.iter().map(|(_, field)| *field).chain(ENDS) {
            command.args(["-e", field]);
        }
        for protocol in ["ip", "tcp", "udp"] {
            command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
        }
        for option in ["tcp.desegment_tcp_streams", "ip.defragment", "ipv6.defragment"] {
            command.args(["-o", &format!("{option}:FALSE")]);
        }
        judge(&run(&mut command)?)
    }
}

impl Drop for Eyes {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads tshark's lines. A reset of who has sent its FIN is no surprise: its socket is closed, and on a machine with several processors an older segment of the
/// other's may come after the last acknowledgement, or of its own after its FIN, which the other then acknowledges again (RFC 9293, section 3.5.3).
fn judge(text: &str) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut bad: BTreeMap<&str, usize> = BTreeMap::new();
    let mut closed: BTreeSet<Vec<&str>> = BTreeSet::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != CHECKSUMS.len() + ENDS.len() {
            bail!("tshark said {line:?}");
        }
        seen.frames += 1;
        let (sums, ends) = fields.split_at(CHECKSUMS.len());
        // An ICMP error quotes another header, perhaps cut: of two values the first is the frame's.
        let quotes = !sums[3].is_empty() || !sums[4].is_empty();
        for ((what, _), values) in CHECKSUMS.iter().zip(sums) {
            if quotes && matches!(*what, "TCP" | "UDP") {
                continue;
            }
            let count = if quotes { 1 } else { usize::MAX };
            if values.split(',').take(count).any(|value| value == "0") {
                *bad.entry(what).or_default() += 1;
            }
        }
        let is_set =
            |flag: &str| flag.split(',').next_back().is_some_and(|value| matches!(value, "1" | "True"));
        let words: Vec<_> = ends[..6].iter().filter(|word| !word.is_empty()).copied().collect();
        if is_set(ends[7]) && !quotes {
            closed.insert(words.clone());
        }
        if is_set(ends[6]) && !quotes && !MAY_RESET.contains(&ends[5]) && !closed.contains(&words) {
            seen.faults.push(format!("unexpected reset {}", words.join(" ")));
        }
    }
    seen.faults.extend(bad.iter().map(|(what, count)| format!("{count} bad checksums of {what}")));
    if seen.frames == 0 {
        seen.faults.push("no frame was captured".into());
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sums: [&str; 5], to: &str, reset: &str) -> String {
        format!("{}\t10.0.0.1\t\t999\t10.0.0.2\t\t{to}\t{reset}\t0\n", sums.join("\t"))
    }

    #[test]
    fn bad_checksums_and_resets_are_told() {
        let good = ["1", "1", "", "", ""];
        let text = line(good, "80", "0") + &line(good, "80", "1") + &line(good, "5201", "1");
        let seen = judge(&text).expect("three frames");
        assert_eq!(
            (seen.frames, seen.faults),
            (3, vec!["unexpected reset 10.0.0.1 999 10.0.0.2 5201".to_owned()])
        );
        // Of who was at its end already it is none; the other one's FIN is not its own.
        let fin = line(good, "5201", "0").replace("\t0\n", "\t1\n");
        let other = fin.replace("10.0.0.1\t\t999\t10.0.0.2\t\t5201", "10.0.0.2\t\t5201\t10.0.0.1\t\t999");
        let reset = line(good, "5201", "1");
        assert_eq!(judge(&(fin + &reset)).expect("two frames").faults, Vec::<String>::new());
        assert_eq!(judge(&(other + &reset)).expect("two frames").faults.len(), 1);
        // Inside of a tunnel's packet all count, in an error only its own.
        let text = line(["1,0", "1", "", "", ""], "80", "0") + &line(["1,0", "0", "", "1", ""], "80", "1");
        assert_eq!(judge(&text).expect("two frames").faults, ["1 bad checksums of IP"]);
        let text = line(["1", "", "", "0", ""], "", "");
        assert_eq!(judge(&text).expect("a frame").faults, ["1 bad checksums of ICMP"]);
        assert_eq!(judge("").expect("none").faults, ["no frame was captured"]);
        assert!(judge("1\t1\n").is_err());
    }
}
