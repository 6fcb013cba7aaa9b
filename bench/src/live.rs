//! Live frames: made by a feeder, through a program, out of a port, to a sink behind it, all on one core.

use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use csm_tests::rig::Rig;
use nix::net::if_::if_nametoindex;

use crate::bpf::attach;
use crate::feeder::Feeder;
use crate::floor::Sink;

/// Sinks behind the rig's client port and its server port.
#[derive(Debug)]
pub struct Sinks {
    sink: Sink,
    _links: Vec<OwnedFd>,
}

impl Sinks {
    /// Puts them there, in the calling thread's namespace.
    ///
    /// # Panics
    /// Without root, or without the rig's ports.
    #[must_use]
    pub fn new() -> Self {
        let sink = Sink::new().expect("root");
        let behind = |port: &str| {
            let ifindex = if_nametoindex(port).expect("the rig's ports");
            attach(sink.fd(), ifindex).expect("a veth takes it")
        };
        let links = ["p0x", "p1x"].map(behind).into();
        Self { sink, _links: links }
    }

    /// Sends `frames` of `feeder`'s and gives the time for each.
    ///
    /// # Panics
    /// If not all of them arrive: a figure of frames that got lost on the way would be worth nothing.
    #[must_use]
    pub fn time(&self, feeder: &Feeder, ifindex: u32, frames: u32, arrive: bool) -> Duration {
        let before = self.sink.frames();
        let each = feeder.live_run(ifindex, frames);
        if arrive {
            self.arrived(before, u64::from(frames));
        }
        each
    }

    /// Waits for `frames` more than `before`: the last batch may still be on its way, on another CPU too.
    ///
    /// # Panics
    /// If they do not come within a second.
    pub fn arrived(&self, before: u64, frames: u64) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.sink.frames() - before < frames && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(self.sink.frames() - before, frames, "every frame arrives");
    }

    /// Frames that have arrived so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.sink.frames()
    }
}

impl Default for Sinks {
    fn default() -> Self {
        Self::new()
    }
}

/// The kernel as balancer, for comparison, in the rig's namespace: UDP to `virtual_be`:53 goes to `real` by nftables' DNAT
/// and connection tracking, between the rig's client and server ports.
///
/// # Panics
/// Without `ip` and `nft`, or if they refuse.
pub fn nft_dnat(virtual_server: &str, real: &str, real_mac: &str) {
    for line in [
        "ip addr add 192.158.38.1/24 dev p0".to_owned(),
        "ip addr add 192.158.39.1/24 dev p1".to_owned(),
        "ip route add 10.0.0.0/8 via 192.158.38.20".to_owned(),
        format!("ip neigh replace {real} lladdr {real_mac} dev p1 nud permanent"),
        "ip neigh replace 192.158.38.20 lladdr 02:ee:00:00:26:14 dev p0 nud permanent".to_owned(),
        "sysctl -qw net.ipv4.ip_forward=1".to_owned(),
        "nft add table ip balance".to_owned(),
        "nft add chain ip balance pre { type nat hook prerouting priority -100 ; }".to_owned(),
        format!("nft add rule ip balance pre ip daddr {virtual_server} udp dport 53 dnat to {real}:53"),
    ] {
        let mut words = line.split(' ');
        let program = words.next().expect("a program");
        let output = Command::new(program).args(words).output().expect(program);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Interface indices of the client and the server port.
#[must_use]
pub fn ports(rig: &Rig) -> [u32; 2] {
    [0, 1].map(|side: usize| rig.ports()[side].ifindex)
}
