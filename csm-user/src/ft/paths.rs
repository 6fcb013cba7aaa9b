//! The ways between the two nodes: which of them work, in which direction, and what is lost on each. Pure.

use std::time::Duration;

use crate::ft::envelope::{Envelope, PATHS_MAX};
use crate::ft::wire::Message;

/// One way, as `show module csm N ft detail` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// Its VLAN.
    pub vlan: u16,
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// Not taken by it.
    pub send_errors: u64,
    /// The peer's datagrams that came this way.
    pub received: u64,
    /// Those that did not, as the gaps in their numbers say.
    pub missing: u64,
    /// Since the last that came; `None`: none ever did.
    pub age: Option<Duration>,
    /// One came within the failover time.
    pub is_heard: bool,
    /// The peer says that it hears this node here.
    pub hears_us: bool,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    status: PathStatus,
    /// Boot nonce and sequence number of the last message.
    last: (u64, u64),
    heard_ns: Option<u64>,
}

/// The ways of a node, the FT VLAN first.
#[derive(Clone, Debug)]
pub struct Paths {
    paths: Vec<Path>,
    /// Without a datagram for so long a way counts as broken, ns.
    patience: u64,
}

impl Paths {
    /// `vlans`, of which the first is the FT VLAN and those beyond [`PATHS_MAX`] are left out.
    #[must_use]
    pub fn new(vlans: &[u16], patience: u64) -> Self {
        let path = |&vlan: &u16| Path {
            status: PathStatus {
                vlan,
                sent: 0,
                send_errors: 0,
                received: 0,
                missing: 0,
                age: None,
                is_heard: false,
                hears_us: false,
            },
            last: (0, 0),
            heard_ns: None,
        };
        Self { paths: vlans.iter().take(PATHS_MAX).map(path).collect(), patience }
    }

    /// The VLAN of a path.
    #[must_use]
    pub fn vlan(&self, path: usize) -> Option<u16> {
        self.paths.get(path).map(|path| path.status.vlan)
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.paths.len()
    }

    /// Always false: there is the FT VLAN.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// A datagram was given to the kernel.
    pub fn sent(&mut self, path: usize, taken: bool) {
        if let Some(path) = self.paths.get_mut(path) {
            path.status.sent += u64::from(taken);
            path.status.send_errors += u64::from(!taken);
        }
    }

    /// Whether `message` did not come this way before.
    #[must_use]
    pub fn is_first(&self, path: usize, message: &Message) -> bool {
        self.paths
            .get(path)
            .is_some_and(|path| path.last.0 != message.nonce || path.last.1 < message.sequence)
    }

    /// The peer's `message` came this way.
    pub fn received(&mut self, path: usize, message: &Message, envelope: &Envelope, now: u64) {
        let Some(path) = self.paths.get_mut(path) else { return };
        let (nonce, last) = path.last;
        path.status.received += 1;
        if nonce != message.nonce {
            path.last = (message.nonce, message.sequence);
        } else if message.sequence > last {
            path.status.missing += message.sequence - last - 1;
            path.last.1 = message.sequence;
        } else {
            // It was overtaken, and counted as missing.
            path.status.missing = path.status.missing.saturating_sub(1);
        }
        path.heard_ns = Some(now);
        path.status.hears_us = envelope.heard.contains(&path.status.vlan);
    }

    /// The VLANs on which the peer was heard lately.
    #[must_use]
    pub fn heard(&self, now: u64) -> [u16; PATHS_MAX] {
        let mut heard = [0; PATHS_MAX];
        let working = self.paths.iter().filter(|path| self.is_heard(path, now));
        for (slot, path) in heard.iter_mut().zip(working) {
            *slot = path.status.vlan;
        }
        heard
    }

    const fn is_heard(&self, path: &Path, now: u64) -> bool {
        match path.heard_ns {
            Some(heard) => now.saturating_sub(heard) < self.patience,
            None => false,
        }
    }

    /// All of them, the FT VLAN first.
    #[must_use]
    pub fn status(&self, now: u64) -> [Option<PathStatus>; PATHS_MAX] {
        let mut all = [None; PATHS_MAX];
        for (slot, path) in all.iter_mut().zip(&self.paths) {
            let age = path.heard_ns.map(|heard| Duration::from_nanos(now.saturating_sub(heard)));
            let is_heard = self.is_heard(path, now);
            let hears_us = is_heard && path.status.hears_us;
            *slot = Some(PathStatus { age, is_heard, hears_us, ..path.status });
        }
        all
    }
}
