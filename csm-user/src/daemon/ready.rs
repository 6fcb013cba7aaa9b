//! `show ft readiness` and `ft explain` within the daemon: gathers what this box knows of itself, and asks the peer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use csm_common::gate::GateState;
use csm_common::net::PORT_FT;

use super::node::Node;
use super::replies;
use crate::api::backend::Fault;
use crate::api::reply::ft::{MacReply, MacTrial};
use crate::api::reply::ready::{CheckGrade, CheckReply, ExplainReply, FencedReply, RankReply, ReadyReply};
use crate::config;
use crate::dataplane::covered;
use crate::dataplane::load::AttachMode;
use crate::dataplane::table::monotonic_ns;
use crate::ft::State;
use crate::ft::explain::explain;
use crate::ft::status::FtStatus;
use crate::model::{Config, RealAdmin};
use crate::probe::health::{RealHealth, RealKey};
use crate::readiness::{self, BoxFacts, Grade, Pair, Replica, Role, Way};
use crate::state::image;
use crate::sync::wire::{Ask, Reply};

/// Longest wait for the peer's word.
const ASK_MAX: Duration = Duration::from_secs(3);

impl Node {
    /// `show module csm N ft readiness`.
    pub(super) fn ready_reply(&self) -> ReadyReply {
        let pair = self.ft.as_ref().map(|ft| {
            let status = ft.status();
            let peer = status.peer.as_ref();
            Pair {
                heard: peer.is_some(),
                hears_us: peer.is_some_and(|peer| peer.hears_us),
                ways: ways(&status).collect(),
                config: peer.is_some_and(|peer| peer.config_in_sync),
                software: peer.is_some_and(|peer| peer.software_in_sync),
                timers: peer.is_some_and(|peer| peer.timers_in_sync),
                witness: status.witness.is_some(),
            }
        });
        let peer = match &pair {
            Some(pair) if pair.heard => self.ask_facts(),
            _ => Err("none is heard".to_owned()),
        };
        let slot = self.config().slot;
        let checks =
            readiness::judge(pair.as_ref(), &self.box_facts(), peer.as_ref().map_err(String::as_str));
        ReadyReply {
            ready: readiness::is_ready(&checks),
            checks: checks.into_iter().map(|check| check_reply(check, slot)).collect(),
        }
    }

    /// `show module csm N ft explain`.
    pub(super) fn explain_reply(&self) -> Option<ExplainReply> {
        let status = self.ft.as_ref()?.status();
        let explained = explain(&status);
        let slot = self.config().slot.to_string();
        // As it can be typed.
        let typed = |sentence: String| sentence.replace("module csm N", &format!("module csm {slot}"));
        Some(ExplainReply {
            state: replies::state(status.state),
            machine: status.state.to_string(),
            since_unix_ms: status.changed_wall_ns / 1_000_000,
            term: status.term,
            reason: status.reason.to_string(),
            why: explained.why,
            fenced: explained.fenced.map(|(wall_ns, reason)| FencedReply {
                at_unix_ms: wall_ns / 1_000_000,
                reason: reason.to_string(),
            }),
            ranks: explained
                .ranks
                .into_iter()
                .enumerate()
                .map(|(at, rank)| RankReply {
                    what: rank.what.to_owned(),
                    own: rank.own,
                    peer: rank.peer,
                    decides: explained.decides == Some(at),
                })
                .collect(),
            changes: explained.changes.into_iter().map(typed).collect(),
        })
    }

    fn ask_facts(&self) -> Result<BoxFacts, String> {
        let Some(link) = &self.link else { return Err("no FT group is configured".to_owned()) };
        let asked = async { tokio::time::timeout(ASK_MAX, link.ask(Ask::Facts)).await };
        match self.runtime.block_on(asked) {
            Err(_) => Err(format!("no answer within {} s", ASK_MAX.as_secs())),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(Reply::Facts(facts))) => serde_json::from_value(facts).map_err(|error| error.to_string()),
            Ok(Ok(Reply::Refused { error, .. })) => Err(error),
            Ok(Ok(Reply::Shared(_) | Reply::Directory(_) | Reply::Held(_) | Reply::Done { .. })) => {
                Err("its answer does not belong to the question".to_owned())
            }
        }
    }

    /// What this box knows of itself.
    pub(super) fn box_facts(&self) -> BoxFacts {
        let config = self.config();
        let status = self.ft.as_ref().map(crate::ft::FtControl::status);
        let status = status.as_ref();
        let data = || self.ports.iter().filter(|port| port.spec.role != PORT_FT).map(|port| &port.spec);
        let macs = self.mac_replies();
        let lost = |own: bool| {
            let is_lost =
                |row: &&MacReply| matches!(row.trial, MacTrial::LostOnTheWay | MacTrial::NotDelivered);
            let rows = macs.iter().filter(is_lost).filter(|row| row.own == own);
            rows.map(|row| row.vlan).collect()
        };
        let is_generic = |ifindex| self.modes.get(&ifindex) == Some(&AttachMode::Generic);
        let name = |port: &crate::dataplane::load::PortSpec| format!("{} (vlan {})", port.name, port.vlan);
        BoxFacts {
            role: match status.map(|status| status.state) {
                Some(State::Active) => Role::Active,
                Some(State::Standby | State::RelayOut) => Role::Standby,
                Some(State::Init | State::Candidate | State::Left) | None => Role::Starting,
            },
            // Those of the host as a router, too: what comes to the other box must get in there.
            dead_ports: self
                .ports
                .iter()
                .filter(|port| port.spec.role != PORT_FT && !port.carrying.load(Ordering::Acquire))
                .map(|port| name(&port.spec))
                .collect(),
            generic_ports: data().filter(|port| is_generic(port.ifindex)).map(name).collect(),
            forwardable: status.is_some_and(|status| status.forwardable),
            gate_open: self.gate.load().state_at(monotonic_ns()) == GateState::Open,
            realtime: status.is_some_and(|status| status.realtime),
            locked: status.is_some_and(|status| status.memory_locked),
            lacks: self
                .track
                .as_ref()
                .map(super::tracking::Running::lacking)
                .unwrap_or_default()
                .into_iter()
                .chain(self.is_outdated().then(|| "the active box's configuration and software".to_owned()))
                .collect(),
            reals: self.found_reals(&config),
            unresolved: self.unresolved(&config),
            unreplicated: covered::unreplicated(
                &self.desired(),
                &self.directory.get(),
                self.walked.get().as_ref().map(|walked| &walked.census),
            ),
            replica: self.replica_facts(),
            saved: self.is_saved(&config),
            unconfirmed: self.changes.settled().is_none(),
            trial_s: self.reloads.left().1,
            unheard: status.into_iter().flat_map(ways).filter(|way| !way.heard).map(|way| way.vlan).collect(),
            routers: self.standby.as_ref().map(super::standby::Groups::facts).unwrap_or_default(),
            lost_macs: lost(false),
            own_macs: lost(true),
            unwitnessed: status
                .and_then(|status| status.witness)
                .filter(|witness| !witness.answers)
                .map(|witness| witness.address.ip().to_string()),
        }
    }

    fn found_reals(&self, config: &Config) -> std::collections::BTreeMap<String, Option<String>> {
        let health = self.health.borrow();
        let mut found = std::collections::BTreeMap::new();
        for farm in &config.serverfarms {
            for real in farm.reals.iter().filter(|real| real.admin != RealAdmin::OutOfService) {
                let key = RealKey { farm: farm.name.clone(), address: real.address, port: real.port };
                let health = health.of(&key);
                let port = real.port.map_or_else(String::new, |port| format!(" port {port}"));
                let bad = (*health != RealHealth::Operational)
                    .then(|| health.reason().unwrap_or_else(|| "its probes have not passed".to_owned()));
                found.insert(format!("{}{port} ({})", real.address, farm.name), bad);
            }
        }
        found
    }

    /// Next hops that a takeover would need and that are not known: gateways, and the hosts of reals that answer probes.
    fn unresolved(&self, config: &Config) -> Vec<String> {
        let health = self.health.borrow();
        // Nobody answers for a group of this host while it is the active router itself; its MAC address is known.
        let mut found = Vec::new();
        for (host, _, mac) in self.neighbours.list() {
            if mac.is_some() || self.own_gateways.get(host.neighbour()).is_some() {
                continue;
            }
            let is_gateway = config.vlans.iter().any(|vlan| {
                vlan.gateways.contains(&host.address)
                    || vlan.routes.iter().any(|route| route.gateway == host.address)
            });
            let answers = || {
                let farms = config.serverfarms.iter();
                farms.flat_map(|farm| farm.reals.iter().map(move |real| (farm, real))).any(|(farm, real)| {
                    let key = RealKey { farm: farm.name.clone(), address: real.address, port: real.port };
                    real.address == host.address
                        && real.admin != RealAdmin::OutOfService
                        && *health.of(&key) == RealHealth::Operational
                })
            };
            let kind = match is_gateway {
                true => "gateway",
                false if answers() => "real",
                false => continue,
            };
            found.push(format!("{kind} {} (vlan {})", host.address, host.vlan));
        }
        found.sort();
        found
    }

    fn replica_facts(&self) -> Option<Replica> {
        let status = self.replication.as_ref()?.status();
        let sender = status.outgoing.as_ref().filter(|_| status.active);
        let Some(sender) = sender else { return status.active.then(Replica::default) };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // A comparison of what was replicated before says nothing of what is replicated now.
        let rescoped = self.planner.rescoped().map(|at| at.elapsed());
        let compared = sender.coverage.filter(|(age, _)| rescoped.is_none_or(|since| *age < since));
        let coverage = compared.map(|(_, coverage)| coverage).unwrap_or_default();
        Some(Replica {
            connected: true,
            complete: sender.peer_complete && sender.snapshot_epoch != 0,
            lag_ms: millis(sender.lag),
            refused: sender.refused_buckets,
            broken: sender.broken_buckets,
            compared_ms: compared.map(|(age, _)| millis(age)),
            connections: (coverage.connections_known, coverage.connections_held),
            sticky: (coverage.sticky_known, coverage.sticky_held),
        })
    }

    /// Whether a start would take what is in force; `None`: there is no state directory, or nothing was ever saved there,
    /// and the file given with `--config` is taken.
    fn is_saved(&self, config: &Config) -> Option<bool> {
        let booted = self.boot_checksum()?;
        Some(booted == image::checksum(&config::print(config)))
    }
}

/// The ways to the peer. One is meant to be heard on once something was sent there: before there is no key to prove it by.
fn ways(status: &FtStatus) -> impl Iterator<Item = Way> {
    let used = status.paths.iter().flatten().filter(|path| path.sent > 0);
    used.map(|path| Way { vlan: path.vlan, heard: path.is_heard, hears_us: path.hears_us })
}

fn check_reply(check: readiness::Check, slot: u8) -> CheckReply {
    CheckReply {
        grade: match check.grade {
            Grade::Good => CheckGrade::Good,
            Grade::Remark => CheckGrade::Remark,
            Grade::Missing => CheckGrade::Missing,
        },
        about: check.about.to_owned(),
        found: check.found,
        // As it can be typed.
        remedy: check.remedy.map(|remedy| remedy.replace("csm N", &format!("csm {slot}"))),
    }
}

/// The API's answers.
impl Node {
    /// What the peer is told when it asks how this box stands.
    pub(super) fn facts_for_peer(&self) -> Result<serde_json::Value, Fault> {
        serde_json::to_value(self.box_facts()).map_err(|error| Fault::Internal(error.to_string()))
    }
}
