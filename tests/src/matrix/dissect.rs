//! What the nodes sent on, as the switch and then tshark saw it: bad checksums, resets, and whether both forwarded at once.
//!
//! Who sent is seen where frames come into the switch. Their checksums are read where they leave it for routers and servers: in
//! between the switch merges segments that follow one another, whose checksums it leaves open until it parts them again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cell::ports;
use crate::checks::show_mac;
use crate::figure::WEB_PORT;
use crate::lab::Lab;
use crate::netns::run;
use crate::topology::{Side, Wiring};
use crate::wait;

/// All that tshark is asked of a frame.
const FIELDS: [&str; 12] = [
    "frame.interface_name",
    "frame.time_epoch",
    "ip.checksum.status",
    "tcp.checksum.status",
    "udp.checksum.status",
    "tcp.flags.reset",
    "ip.src",
    "ipv6.src",
    "tcp.srcport",
    "ip.dst",
    "ipv6.dst",
    "tcp.dstport",
];
/// Octets that are kept of what comes in: no checksum is read there.
const HEADERS: &str = "96";
/// A change of sides later than this after another is another move of the role.
const ONE_MOVE: Duration = Duration::from_secs(1);

/// dumpcap at the switch's ports, for what has the group's MAC address as its source.
#[derive(Debug)]
pub struct Recorder {
    child: Child,
    file: PathBuf,
    ends: [Vec<String>; 2],
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Dissection {
    /// Frames of TCP and UDP that the nodes sent on.
    pub frames: usize,
    /// With a wrong checksum, by protocol.
    pub bad: BTreeMap<&'static str, usize>,
    /// TCP resets but those of clients about short requests: from whom to whom.
    pub resets: Vec<String>,
    /// The longest time in which both sent.
    pub overlap: Duration,
    /// The longest time in which neither did.
    pub silence: Duration,
}

impl Dissection {
    /// What was wrong.
    pub fn faults(&self) -> Vec<String> {
        let bad = self.bad.iter().map(|(what, count)| format!("{count} bad checksums of {what}"));
        let resets = self.resets.iter().map(|reset| format!("unexpected reset {reset}"));
        let nothing = (self.frames == 0).then(|| "no frame was captured".to_owned());
        bad.chain(resets).chain(nothing).collect()
    }
}

impl Recorder {
    /// Starts to record.
    ///
    /// # Errors
    /// Without dumpcap.
    pub fn start(lab: &Lab) -> Result<Self> {
        let file = lab.out("forwarded.pcapng");
        let ports = ports(lab.options.figure.wiring == Wiring::OneArmed);
        let ends = Side::BOTH.map(|side| ports.iter().map(|&number| side.port(number)).collect::<Vec<_>>());
        let mut command = lab.topology.switch.command("dumpcap")?;
        // What the bridge floods to the other node is no frame of that node's.
        let mac = show_mac(&csm_common::net::virtual_mac(1));
        // One in eight frames by its checksum, which is as good as random, and every SYN, FIN and reset: tshark reads some
        // ten thousand frames a second. The transport header stands behind 14 and 20 octets, or 14 and 40.
        let tcp = |at: u32| format!("(ether[{}] & 7 != 0 or ether[{}] & 7 = 0)", at + 13, at + 17);
        let udp = |at: u32| format!("(ether[{}] & 7 = 0)", at + 7);
        let family =
            |name: &str, at| format!("({name} and ((tcp and {}) or (udp and {})))", tcp(at), udp(at));
        let filter = format!("ether src {mac} and ({} or {})", family("ip", 34), family("ip6", 54));
        for port in ends.iter().flatten() {
            command.args(["-i", port, "-s", HEADERS, "-f", &format!("inbound and {filter}")]);
        }
        for port in ["sw-router", "sw-s1", "sw-s2", "sw-s3"] {
            command.args(["-i", port, "-f", &format!("outbound and {filter}")]);
        }
        command.args(["-q", "-B", "64", "-w"]).arg(&file);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(lab.out("dumpcap.log"))?)
            .spawn()
            .context("start dumpcap: is it installed?")?;
        let recorder = Self { child, file, ends };
        wait::until("dumpcap", Duration::from_secs(10), Duration::from_millis(10), || {
            let words = std::fs::read_to_string(lab.out("dumpcap.log"))?;
            Ok(words.contains("File:").then_some(()))
        })?;
        Ok(recorder)
    }

    /// Ends it and has tshark read the file.
    ///
    /// # Errors
    /// Without tshark, or when it does not understand the file.
    pub fn finish(mut self) -> Result<Dissection> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        let ended =
            wait::until("the end of dumpcap", Duration::from_secs(10), Duration::from_millis(10), || {
                Ok(self.child.try_wait()?)
            })?;
        if !ended.success() {
            bail!("dumpcap: {ended}");
        }
        let mut command = Command::new("tshark");
        command.arg("-n").arg("-r").arg(&self.file).args(["-T", "fields"]);
        for field in FIELDS {
            command.args(["-e", field]);
        }
        // Reassembly and what lies above are not asked for.
        for option in ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"] {
            command.args(["-o", &format!("{option}:TRUE")]);
        }
        for option in ["tcp.desegment_tcp_streams", "tcp.analyze_sequence_numbers"] {
            command.args(["-o", &format!("{option}:FALSE")]);
        }
        command.args(["--disable-protocol", "http"]);
        let text = run(&mut command)?;
        let found = judge(&text, &self.ends);
        std::fs::remove_file(&self.file)?;
        found
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads tshark's lines. `ends` are the ports towards A and towards B.
fn judge(text: &str, ends: &[Vec<String>; 2]) -> Result<Dissection> {
    let mut found = Dissection::default();
    let mut sent = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [port, at, header, tcp, udp, reset, ends_of @ ..] = &fields[..] else {
            bail!("tshark said {line:?}")
        };
        if let Some(side) = ends.iter().position(|ports| ports.iter().any(|one| one == port)) {
            sent.push((nanoseconds(at)?, side));
            continue;
        }
        found.frames += 1;
        // An ICMP error quotes another header: of two values the first is the frame's.
        let first = |text: &'static str, field: &str| (field.split(',').next() == Some("0")).then_some(text);
        for what in [first("IP", header), first("TCP", tcp), first("UDP", udp)].into_iter().flatten() {
            *found.bad.entry(what).or_default() += 1;
        }
        if matches!(*reset, "1" | "True") {
            // A server that lost its SYN-ACK's answer repeats it. A client whose short request has gone another way since
            // tells it so.
            if ends_of.last().is_none_or(|port| *port != WEB_PORT.to_string()) {
                let words: Vec<_> = ends_of.iter().filter(|word| !word.is_empty()).copied().collect();
                found.resets.push(words.join(" "));
            }
        }
    }
    // dumpcap writes each port's frames in their order, not all.
    sent.sort_unstable();
    found.overlap = overlap(&sent);
    let pauses = sent.windows(2).map(|pair| pair[1].0 - pair[0].0);
    found.silence = Duration::from_nanos(pauses.max().unwrap_or(0));
    Ok(found)
}

/// From the first frame of a node that begins to send to the last one of the other, for as long as they take turns.
fn overlap(sent: &[(u64, usize)]) -> Duration {
    let changes: Vec<(u64, u64)> =
        sent.windows(2).filter(|pair| pair[0].1 != pair[1].1).map(|pair| (pair[0].0, pair[1].0)).collect();
    let mut longest = 0;
    let mut index = 0;
    while index < changes.len() {
        let mut last = index;
        while last + 1 < changes.len() && changes[last + 1].0 - changes[last].1 < nanos(ONE_MOVE) {
            last += 1;
        }
        // One change alone is a move without any overlap; with more, the old one sent until before the last change.
        longest = longest.max(changes[last].0.saturating_sub(changes[index].1));
        index = last + 1;
    }
    Duration::from_nanos(longest)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Of seconds since 1970 with nine digits behind the point.
fn nanoseconds(text: &str) -> Result<u64> {
    let (seconds, fraction) = text.split_once('.').with_context(|| format!("a time, not {text:?}"))?;
    let fraction = format!("{fraction:0<9}");
    Ok(seconds.parse::<u64>()? * 1_000_000_000 + fraction[..9].parse::<u64>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> [Vec<String>; 2] {
        ["a", "b"].map(|side| [1, 2].map(|number| format!("sw-{side}{number}")).to_vec())
    }

    #[test]
    fn bad_checksums_and_resets_are_counted_where_frames_leave_and_who_sent_where_they_come() {
        let reset = "sw-s1\t1.6\t1\t0\t\t1\t10.0.0.1\t\t80\t10.0.0.2\t\t9\n";
        let text =
            format!("sw-a1\t1.5\t1\t0\t\t0\n{reset}sw-b1\t2.000000001\t1\t\t1\t\nsw-router\t2.1\t1\t\t1\t\n");
        let found = judge(&text, &ends()).expect("four frames");
        assert_eq!((found.frames, found.bad["TCP"]), (2, 1));
        assert_eq!(found.faults(), ["1 bad checksums of TCP", "unexpected reset 10.0.0.1 80 10.0.0.2 9"]);
        assert_eq!(found.silence, Duration::from_nanos(500_000_001));
        let stale = judge(&reset.replace("\t9\n", "\t80\n"), &ends()).expect("a frame");
        assert_eq!(stale.resets, Vec::<String>::new());
        assert!(judge("sw-a1\tlate\t1\t1\t\t0\n", &ends()).is_err());
        assert_eq!(judge("", &ends()).expect("nothing").faults(), ["no frame was captured"]);
    }

    #[test]
    fn a_move_is_no_overlap_and_taking_turns_is() {
        let at = |sent: &[(u64, usize)]| overlap(sent).as_nanos();
        assert_eq!(at(&[(1, 0), (2, 0), (300, 1), (400, 1)]), 0);
        assert_eq!(at(&[(1, 0), (300, 1), (310, 0), (320, 1), (350, 0), (400, 1)]), 50);
        let second = 1_000_000_000;
        assert_eq!(at(&[(1, 0), (300, 1), (2 * second, 1), (2 * second + 5, 0)]), 0, "there and back");
    }
}
