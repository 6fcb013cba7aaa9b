//! Whether either box could be lost now without a client noticing: what both boxes say of themselves, judged. Pure.
//!
//! Each node gathers [`BoxFacts`] of itself and is given those of its peer over the FT VLAN; [`judge`] goes by the facts
//! of both, so either may be asked. Nothing is taken for good that was not looked at: a peer that does not answer is a
//! reason to say no.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod macs;
mod routers;
#[cfg(test)]
mod tests;
mod ways;

pub use routers::RouterFacts;
pub use ways::Way;

/// Oldest comparison of both kernels' tables that still speaks for them, ms.
pub const COMPARED_MAX_MS: u64 = 30_000;
/// Replication lag above which a takeover loses what was not acknowledged, ms: promise P4.
pub const LAG_MAX_MS: u64 = 100;

/// What a box says of its part in the pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Forwards.
    Active,
    /// Could take over.
    Standby,
    /// Neither yet.
    #[default]
    Starting,
}

/// What a box knows of itself. Crosses the FT VLAN in JSON: what another version does not say has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BoxFacts {
    /// Its part.
    pub role: Role,
    /// Data ports without a link, as `eth1 (vlan 2)`.
    pub dead_ports: Vec<String>,
    /// Data ports with the program in the network stack: they forward, slowly.
    pub generic_ports: Vec<String>,
    /// Its controller is alive and its ports up, by its own word to the election.
    pub forwardable: bool,
    /// The gate lets traffic through.
    pub gate_open: bool,
    /// The timers run under SCHED_FIFO.
    pub realtime: bool,
    /// Its memory is locked.
    pub locked: bool,
    /// Tracked objects that are down, and the routers' choice is none of them.
    pub lacks: Vec<String>,
    /// Each real in service, as `192.158.39.101 (WEB)`, with what its probes found wrong, or nothing.
    pub reals: BTreeMap<String, Option<String>>,
    /// Next hops whose MAC address is not known, as `gateway 192.158.38.20 (vlan 2)`.
    pub unresolved: Vec<String>,
    /// Connections and sticky entries that stand and are not replicated, as `3 connections of VIP1`.
    pub unreplicated: Vec<String>,
    /// The replica, by what this box sends.
    pub replica: Option<Replica>,
    /// The configuration in force is the one that a start takes; `None`: there is no state directory.
    pub saved: Option<bool>,
    /// A change waits to be confirmed.
    pub unconfirmed: bool,
    /// Seconds until its start is taken back, unless somebody says that it stays.
    pub trial_s: Option<u64>,
    /// VLANs on which the other box should be heard, and is not.
    pub unheard: Vec<u16>,
    /// The HSRP groups that it speaks for, as `HSRP group 1 (192.158.38.20)`, and its part in them.
    pub routers: BTreeMap<String, RouterFacts>,
    /// VLANs on which frames with the virtual MAC address are lost and it is used all the same.
    pub lost_macs: Vec<u16>,
    /// VLANs on which they are lost and the port's own is used instead.
    pub own_macs: Vec<u16>,
    /// The address of a witness that does not answer this box.
    pub unwitnessed: Option<String>,
}

/// The standby's replica, by the active box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replica {
    /// The stream stands.
    pub connected: bool,
    /// The snapshot is carried out.
    pub complete: bool,
    /// Age of the oldest change that is not acknowledged, ms.
    pub lag_ms: u64,
    /// Parts of the table with entries that the standby refuses.
    pub refused: u32,
    /// Parts of the table that are known to differ and wait for repair.
    pub broken: u32,
    /// Age of the last comparison, ms; `None`: never on this stream.
    pub compared_ms: Option<u64>,
    /// Connections known to the active box, and held by the standby.
    pub connections: (u64, u64),
    /// The same of sticky entries.
    pub sticky: (u64, u64),
}

/// What the election of the node that is asked knows of the pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// A peer is heard.
    pub heard: bool,
    /// It hears this box.
    pub hears_us: bool,
    /// Ways to the peer on which something should be heard; the FT VLAN first.
    pub ways: Vec<Way>,
    /// Its configuration is this box's.
    pub config: bool,
    /// Its software is this box's.
    pub software: bool,
    /// Its timers are this box's.
    pub timers: bool,
    /// There is a witness.
    pub witness: bool,
}

/// How a thing that was looked at stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Good,
    /// A loss now would go unnoticed, and yet.
    Remark,
    /// Because of it clients might notice.
    Missing,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// How it stands.
    pub grade: Grade,
    /// What was looked at, one word.
    pub about: &'static str,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<&'static str>,
}

/// All that was looked at, in a fixed order; `peer`: the peer's own word, or why there is none. Clients might notice the loss
/// of a box if any is [`Grade::Missing`].
#[must_use]
pub fn judge(pair: Option<&Pair>, own: &BoxFacts, peer: Result<&BoxFacts, &str>) -> Vec<Check> {
    let mut checks = Checks::default();
    let Some(pair) = pair else {
        checks.missing(
            "pair",
            "no FT group is configured: this box is alone",
            Some("configure `ft group N vlan M`"),
        );
        return checks.0;
    };
    checks.pair(pair, peer);
    let boxes: Vec<(&str, &BoxFacts)> = [("this box", Some(own)), ("the peer", peer.ok())]
        .into_iter()
        .filter_map(|(who, of)| Some((who, of?)))
        .collect();
    if pair.witness {
        checks.each(
            "witness",
            "the witness answers both boxes",
            &boxes,
            |of| of.unwitnessed.iter().cloned().collect(),
            |who, witness| {
                let found = format!(
                    "witness {witness} does not answer {who}: it would not take the role from a dead box"
                );
                (Grade::Missing, found)
            },
            "check the host of the witness, `csmd --witness` there, the way to it, and the key",
        );
    }
    checks.links(&boxes);
    checks.routers(&boxes);
    checks.role(own, peer.ok());
    checks.replica(own, peer.ok());
    if pair.heard {
        checks.alike(pair);
    }
    if let Ok(peer) = peer {
        checks.probes(own, peer);
    }
    checks.each(
        "neighbours",
        "all next hops are resolved",
        &boxes,
        |of| of.unresolved.clone(),
        |who, hop| (Grade::Missing, format!("{who} does not know the MAC address of {hop}")),
        "see `show module csm N arp` there: the host is down, or cut off from that box",
    );
    checks.macs(&boxes);
    checks.scheduling(&boxes);
    checks.services(&boxes);
    checks.remarks(&boxes);
    checks.0
}

/// Whether a box may be lost.
#[must_use]
pub fn is_ready(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.grade != Grade::Missing)
}

#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn good(&mut self, about: &'static str, found: impl Into<String>) {
        self.0.push(Check { grade: Grade::Good, about, found: found.into(), remedy: None });
    }

    fn missing(&mut self, about: &'static str, found: impl Into<String>, remedy: Option<&'static str>) {
        self.0.push(Check { grade: Grade::Missing, about, found: found.into(), remedy });
    }

    /// One finding for each thing that `of` lists of a box, or a good one.
    fn each(
        &mut self,
        about: &'static str,
        good: &str,
        boxes: &[(&str, &BoxFacts)],
        of: impl Fn(&BoxFacts) -> Vec<String>,
        say: impl Fn(&str, &str) -> (Grade, String),
        remedy: &'static str,
    ) {
        let before = self.0.len();
        for (who, facts) in boxes {
            for thing in of(facts) {
                let (grade, found) = say(who, &thing);
                self.0.push(Check { grade, about, found, remedy: Some(remedy) });
            }
        }
        if self.0.len() == before {
            self.good(about, good);
        }
    }

    fn links(&mut self, boxes: &[(&str, &BoxFacts)]) {
        self.each(
            "links",
            "every data port of both boxes has a link",
            boxes,
            |of| of.dead_ports.clone(),
            |who, port| (Grade::Missing, format!("{who} has no link on {port}")),
            "check the cable and the switch's port",
        );
        for (who, _) in boxes.iter().filter(|(_, of)| !of.forwardable && of.dead_ports.is_empty()) {
            self.missing("links", format!("{who} cannot forward: its controller stalls"), None);
        }
    }

    fn role(&mut self, own: &BoxFacts, peer: Option<&BoxFacts>) {
        let Some(peer) = peer else { return };
        match (own.role, peer.role) {
            (Role::Active, Role::Standby) | (Role::Standby, Role::Active) => {
                let active = if own.role == Role::Active { own } else { peer };
                if active.gate_open {
                    self.good("role", "one box is active and the other is standby");
                } else {
                    self.missing("role", "the active box's gate is closed", None);
                }
            }
            (Role::Active, Role::Active) => self.missing("role", "both boxes are active", None),
            (Role::Starting, _) | (_, Role::Starting) => {
                self.missing("role", "a box is still initializing", Some("wait"));
            }
            (Role::Standby, Role::Standby) => {
                self.missing("role", "no box is active", Some("see `show module csm N ft explain` on both"));
            }
        }
        let standby = if own.role == Role::Active { ("the peer", peer) } else { ("this box", own) };
        self.each(
            "tracking",
            "the standby lacks nothing that is tracked",
            &[standby],
            |of| of.lacks.clone(),
            |who, object| (Grade::Missing, format!("{who} lacks {object}")),
            "see `show module csm N ft track` there",
        );
    }

    fn replica(&mut self, own: &BoxFacts, peer: Option<&BoxFacts>) {
        const WAIT: Option<&str> = Some("wait until the snapshot is through");
        let active = || [Some(own), peer].into_iter().flatten().filter(|of| of.role == Role::Active);
        // Of none or of two active boxes was told before.
        let (Some(active), 1) = (active().next(), active().count()) else { return };
        let Some(replica) = active.replica.filter(|replica| replica.connected) else {
            self.missing("replica", "there is no stream to the standby", Some("see `show module csm N ft`"));
            return;
        };
        let before = self.0.len();
        let Replica { complete, lag_ms, refused, broken, compared_ms, connections, sticky, .. } = replica;
        if !complete {
            self.missing("replica", "the standby's snapshot is not complete", WAIT);
        }
        if lag_ms > LAG_MAX_MS {
            self.missing(
                "replica",
                format!(
                    "the oldest change without acknowledgement is {lag_ms} msec old, more than {LAG_MAX_MS}"
                ),
                Some("the standby or the FT VLAN is too slow for this load"),
            );
        }
        if refused > 0 {
            self.missing(
                "replica",
                format!("the standby refuses entries in {refused} of 256 parts of the table"),
                Some("`show module csm N ft` names what is refused: the configurations differ, as a rule"),
            );
        }
        if broken > 0 {
            self.missing(
                "replica",
                format!("{broken} of 256 parts of the table wait for repair"),
                Some("wait"),
            );
        }
        match compared_ms {
            None => {
                self.missing("replica", "both tables have not been compared yet", Some("wait some seconds"));
            }
            Some(ms) if ms > COMPARED_MAX_MS => {
                let found = format!("both tables were compared {} s ago for the last time", ms / 1000);
                self.missing("replica", found, Some("see the log of the active box"));
            }
            Some(_) => {}
        }
        for (what, (known, held)) in [("connections", connections), ("sticky entries", sticky)] {
            if is_short(known, held) {
                self.missing("replica", format!("the standby holds {held} of {known} {what}"), Some("wait"));
            }
        }
        if self.0.len() == before {
            let ((known, held), (sticky, sticky_held)) = (connections, sticky);
            self.good(
                "replica",
                format!(
                    "the standby holds {held} of {known} connections and {sticky_held} of {sticky} sticky entries, lag \
                     {lag_ms} msec"
                ),
            );
        }
    }

    fn alike(&mut self, pair: &Pair) {
        for (about, alike, remedy) in [
            (
                "configuration",
                pair.config,
                "`show module csm N ft detail` names the differing commands; `hw-module csm N standby config-sync` on the active box",
            ),
            ("software", pair.software, "install the same csmd on both"),
            ("timers", pair.timers, "give both the same `heartbeat-time` and `failover`"),
        ] {
            let verb = if about == "timers" { "are" } else { "is" };
            match alike {
                true => self.good(about, format!("the {about} {verb} the same on both boxes")),
                false => self.missing(
                    about,
                    format!("the {about} {verb} not the same on both boxes"),
                    Some(remedy),
                ),
            }
        }
    }

    /// What only one of the boxes can reach would fail, or come back, with a takeover.
    fn probes(&mut self, own: &BoxFacts, peer: &BoxFacts) {
        let before = self.0.len();
        let mut differs = |real: &str, who: &str, why: &str, other: &str| {
            self.missing(
                "probes",
                format!("real {real} is operational for {other} and not for {who}: {why}"),
                Some("that box's own path to the real is broken, as a rule"),
            );
        };
        for (real, found) in &own.reals {
            match (found, peer.reals.get(real)) {
                (Some(why), Some(None)) => differs(real, "this box", why, "the peer"),
                (None, Some(Some(why))) => differs(real, "the peer", why, "this box"),
                // The configurations differ, which is said elsewhere.
                (_, None) | (Some(_), Some(Some(_))) | (None, Some(None)) => {}
            }
        }
        if self.0.len() == before {
            self.good("probes", "both boxes find the same reals operational");
        }
    }

    fn scheduling(&mut self, boxes: &[(&str, &BoxFacts)]) {
        let late: Vec<_> = boxes.iter().filter(|(_, of)| !of.realtime).map(|(who, _)| *who).collect();
        for who in &late {
            self.missing(
                "scheduling",
                format!("the timers of {who} have no real-time priority: under load it may fail over late, or for nothing"),
                Some("give csmd CAP_SYS_NICE"),
            );
        }
        if late.is_empty() {
            self.good("scheduling", "the timers have real-time priority");
        }
    }

    fn services(&mut self, boxes: &[(&str, &BoxFacts)]) {
        let active: Vec<_> = boxes.iter().copied().filter(|(_, of)| of.role == Role::Active).collect();
        self.each(
            "services",
            "every connection belongs to a virtual server that replicates",
            &active,
            |of| of.unreplicated.clone(),
            |_, vserver| (Grade::Missing, format!("{vserver} would be lost: they are not replicated")),
            "`replicate csrp connection`, or `replicate csrp sticky`, under the virtual server",
        );
    }

    fn remarks(&mut self, boxes: &[(&str, &BoxFacts)]) {
        let mut remark = |about, found: String, remedy| {
            self.0.push(Check { grade: Grade::Remark, about, found, remedy: Some(remedy) });
        };
        for (who, of) in boxes {
            if of.saved == Some(false) {
                remark(
                    "saving",
                    format!("{who} would start with another configuration than it runs"),
                    "`write memory`",
                );
            }
            if of.unconfirmed {
                let found = format!("a change on {who} waits to be confirmed");
                remark("saving", found, "`configure confirm`, or wait until it is taken back");
            }
            if let Some(seconds) = of.trial_s {
                let found =
                    format!("{who} starts anew from `certified` in {seconds} s: its start is on trial");
                remark("saving", found, "`copy working certified` there, or `reload cancel`");
            }
            if !of.locked {
                let found = format!("the timers' memory of {who} may be paged out");
                remark("scheduling", found, "give csmd CAP_IPC_LOCK");
            }
            for port in &of.generic_ports {
                let found = format!("{who} forwards in the network stack on {port}, not in the driver");
                remark("links", found, "`csm check host FILE` there says why");
            }
        }
        let reals = boxes.first().map(|(_, of)| &of.reals);
        for (real, why) in reals.into_iter().flatten().filter_map(|(real, why)| Some((real, why.as_ref()?))) {
            if boxes.iter().all(|(_, of)| of.reals.get(real).is_some_and(Option::is_some)) {
                remark("probes", format!("real {real} is down for both boxes: {why}"), "repair the server");
            }
        }
    }
}

/// Whether the standby lacks more than what comes and goes while both tables are walked: one in a hundred. What it lacks
/// for longer is found out bucket by bucket, and counted as broken.
const fn is_short(known: u64, held: u64) -> bool {
    held.saturating_mul(100) < known.saturating_mul(99)
}
