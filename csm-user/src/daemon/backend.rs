//! The API's view of the daemon: every answer is read from the maps, the probes and the election when it is asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;

use csm_common::counter::{self, Reason, ServiceCount};
use csm_common::flow;
use csm_common::service::StickyEntry;

use super::node::{Node, Walked};
use super::{conns, counts, policies, replies};
use crate::api::backend::{Backend, Fault};
use crate::api::reply::{
    AdvertiseReply, ClearedReply, ConnFilter, ConnectionCounters, ConnsReply, CountersReply, ExplainReply,
    FtReply, MaxConnsReply, NeighbourReply, OwnerReply, Protocol, ROWS_MAX, RateLimitReply, ReadyReply,
    RealReply, RealState, ReasonCount, Replicate, ServerfarmReply, StandbyReply, StickiesReply,
    StickyAddress, StickyReply, StickyRule, SystemReply, TraceQuery, Verdict, VlanReply, VserverReply,
    VserverState, WalkReply,
};
use crate::dataplane::expiry::{Census, Ended};
use crate::dataplane::inband;
use crate::dataplane::maps::total;
use crate::dataplane::snapshot::StickyGroup;
use crate::dataplane::table::family::TableFamily;
use crate::dataplane::table::{Table, monotonic_ns};
use crate::ft;
use crate::model::{
    self, ClientRange, Config, Family, Predictor, RateLimit, Real, RealAdmin, Serverfarm, Service, StableId,
    Vserver, prefix_mask, prefix_mask6,
};
use crate::probe::health::{RealHealth, RealKey};

pub(super) const SECOND_NS: u64 = 1_000_000_000;

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Internal(format!("the kernel's tables could not be read: {error}"))
    }
}

impl Backend for Node {
    fn system(&self) -> Result<SystemReply, Fault> {
        Ok(SystemReply {
            module: self.config().slot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
        })
    }

    fn ft(&self) -> Result<Option<FtReply>, Fault> {
        Ok(self.ft.as_ref().map(|ft| replies::ft(self, ft)))
    }

    fn readiness(&self) -> Result<ReadyReply, Fault> {
        Ok(self.ready_reply())
    }

    fn explain(&self) -> Result<Option<ExplainReply>, Fault> {
        Ok(self.explain_reply())
    }

    fn force_standby(&self) -> Result<(), Fault> {
        let refused =
            |error: String, remedy: Option<&str>| Fault::Refused { error, remedy: remedy.map(str::to_owned) };
        let Some(control) = &self.ft else {
            return Err(refused(
                "no FT group is configured".to_owned(),
                Some("configure `ft group N vlan M`"),
            ));
        };
        self.runtime.block_on(control.force_standby()).map_err(|refusal| {
            let remedy = match refusal {
                ft::Refusal::NotActive => Some("give the command on the active box"),
                ft::Refusal::PeerIncomplete => {
                    Some("wait until `show module csm N ft` shows the replica as complete")
                }
                ft::Refusal::NoPeer | ft::Refusal::OneWay => Some("check the FT VLAN's link and the peer"),
                ft::Refusal::PeerUnable => {
                    Some("`show module csm N ft` and `vlan` on the peer name what stands against it")
                }
                ft::Refusal::Busy | ft::Refusal::NoAnswer | ft::Refusal::Overtaken => None,
            };
            refused(refusal.to_string(), remedy)
        })
    }

    fn vservers(&self) -> Result<Vec<VserverReply>, Fault> {
        let config = self.config();
        config.vservers.iter().map(|vserver| self.vserver_reply(&config, vserver)).collect()
    }

    fn reals(&self) -> Result<Vec<RealReply>, Fault> {
        let config = self.config();
        let farms = config.serverfarms.iter();
        farms.flat_map(|farm| farm.reals.iter().map(move |real| self.real_reply(farm, real))).collect()
    }

    fn serverfarms(&self) -> Result<Vec<ServerfarmReply>, Fault> {
        let config = self.config();
        let farms = config.serverfarms.iter();
        Ok(farms
            .map(|farm| ServerfarmReply {
                name: farm.name.to_string(),
                predictor: predictor(farm.predictor).to_owned(),
                nat_server: farm.nat_server,
                nat_client: farm.nat_client.as_ref().map(ToString::to_string),
                reals: count(farm.reals.len()),
                operational: count(farm.reals.iter().filter(|real| self.in_rotation(farm, real)).count()),
                probes: farm.probes.iter().map(ToString::to_string).collect(),
            })
            .collect())
    }

    fn conns(&self, filter: &ConnFilter, after: Option<&str>) -> Result<ConnsReply, Fault> {
        conns::page(self, filter, after)
    }

    fn clear_conns(&self, filter: &ConnFilter) -> Result<ClearedReply, Fault> {
        conns::clear(self, filter)
    }

    fn sticky(&self) -> Result<StickiesReply, Fault> {
        let now_ns = monotonic_ns();
        let (directory, names, desired) = (self.directory.get(), self.vserver_names(), self.desired());
        let mut reply = StickiesReply { total: 0, entries: Vec::new() };
        let mut take = |key: (u32, IpAddr), entry: &StickyEntry| {
            reply.total += 1;
            let (group, address) = key;
            let (client, destination) = directory.sticky_addresses(group, address);
            let (Some(group), Some(real)) = (directory.sticky_group(group), desired.reals.get(&entry.real))
            else {
                return;
            };
            if reply.entries.len() >= ROWS_MAX as usize {
                return;
            }
            let (group, vserver) = match group {
                StickyGroup::Shared(group) => (group, None),
                StickyGroup::Private(id) => {
                    (0, directory.vserver_number(id).and_then(|n| names.get(&n).cloned()))
                }
            };
            let used_s = now_ns.saturating_sub(entry.last_used_ns) / SECOND_NS;
            reply.entries.push(StickyReply {
                group,
                vserver,
                client,
                destination,
                real: real.key.address,
                port: real.key.port.unwrap_or(0),
                timeout_s: (!entry.is_fixed()).then(|| u64::from(entry.life_s).saturating_sub(used_s)),
            });
        };
        each_sticky(&self.table, &mut take)?;
        if let Some(table) = &self.table6 {
            each_sticky(table, &mut take)?;
        }
        reply.entries.sort_unstable_by_key(|row| (row.group, row.client, row.destination));
        Ok(reply)
    }

    fn standby(&self) -> Result<Vec<StandbyReply>, Fault> {
        Ok(self.standby.as_ref().map(super::standby::reply).unwrap_or_default())
    }

    fn vlans(&self) -> Result<Vec<VlanReply>, Fault> {
        Ok(replies::vlans(self))
    }

    fn neighbours(&self) -> Result<Vec<NeighbourReply>, Fault> {
        Ok(replies::neighbours(self))
    }

    fn counters(&self) -> Result<CountersReply, Fault> {
        let walked = self.walked.get();
        let desired = self.desired();
        let mut created = 0;
        for number in desired.vservers.keys() {
            created += self.counters.vserver(*number)?.connections;
        }
        let ports = self.counters.ports()?;
        let reasons = total(&ports);
        let packets = |wanted: Reason| {
            reasons.iter().find(|(reason, _)| *reason == wanted).map_or(0, |(_, c)| c.packets)
        };
        let refused = [
            Reason::DropNoMatch,
            Reason::DropNoReal,
            Reason::DropMaxConns,
            Reason::DropVserverFull,
            Reason::DropOwnerFull,
            Reason::DropNoPolicy,
            Reason::DropTableFull,
            Reason::DropShare,
        ];
        let refused: u64 = refused.map(packets).iter().sum();
        let life = |ended: fn(&Walked) -> Ended, routed: bool| ConnectionCounters {
            destroyed: walked.as_deref().map(|walked| ended(walked).closed + ended(walked).idle),
            current: walked.as_deref().map(|walked| {
                let of_kind =
                    walked.census.vservers.iter().filter(|(number, _)| (**number == flow::NONE) == routed);
                of_kind.map(|(_, count)| count).sum()
            }),
            timed_out: walked.as_deref().map(|walked| ended(walked).idle),
            failed: walked.as_deref().map(|walked| ended(walked).pending),
            created: None,
        };
        let balanced = life(|walked| walked.ended, false);
        Ok(CountersReply {
            connections: ConnectionCounters {
                created: Some(created),
                failed: balanced.failed.map(|pending| pending + refused),
                ..balanced
            },
            // The program counts their packets, not how many were made.
            server_initiated: life(|walked| walked.ended_routed, true),
            walked_ms_ago: walked.as_deref().map(Walked::ms_ago),
            reasons: reasons.into_iter().map(reason_reply).collect(),
            ports: counts::ports(self, ports),
        })
    }

    fn trace(&self, query: &TraceQuery) -> Result<Vec<WalkReply>, Fault> {
        super::trace::walks(self, &self.vserver_names(), &self.desired(), query)
    }
}

impl Node {
    fn vserver_names(&self) -> BTreeMap<u32, String> {
        self.desired().vservers.iter().map(|(number, known)| (*number, known.name.to_string())).collect()
    }

    fn vserver_reply(&self, config: &Config, vserver: &Vserver) -> Result<VserverReply, Fault> {
        let mut policies = policies::of(self, config, vserver)?;
        let sums = policies::Sums::of(&policies);
        let served = config.faces(vserver).any(|face| policies::is_served(self, config, &face));
        let own = policies.last();
        let (index, backup) = (own.and_then(|own| own.index), own.and_then(|own| own.backup.clone()));
        if vserver.policies.is_empty() {
            policies.clear();
        }
        let reason = if !vserver.inservice {
            Some("not inservice")
        } else if vserver.virtual_server.is_none() {
            Some("no virtual address")
        } else if config.farms_of(vserver).next().is_none() {
            Some("no server farm")
        } else if !served {
            Some(match index.is_some_and(|number| self.desired().down.contains(&number)) {
                true => "fewer reals of its server farm are in rotation than its threshold asks for",
                false => "no real of its server farm is in rotation",
            })
        } else {
            None
        };
        Ok(VserverReply {
            name: vserver.name.to_string(),
            index,
            address: vserver.virtual_server.map(|server| server.address()),
            prefix_length: vserver.virtual_server.map_or(32, |server| server.network.prefix_len()),
            protocol: vserver.virtual_server.map(|server| match server.protocol {
                model::Protocol::Any => Protocol::Any,
                model::Protocol::Number(number) => Protocol::of(number),
            }),
            ftp: vserver.virtual_server.is_some_and(|server| server.service == Service::Ftp),
            rtsp: vserver.virtual_server.is_some_and(|server| server.service == Service::Rtsp),
            unidirectional: config.is_unidirectional(vserver),
            clients: vserver.clients.iter().map(client_range).collect(),
            port: vserver.virtual_server.map_or(0, |server| server.port),
            vlan: vserver.vlan.map(model::VlanId::get),
            state: if reason.is_none() { VserverState::Operational } else { VserverState::OutOfService },
            reason: reason.map(str::to_owned),
            serverfarm: vserver.serverfarm.as_ref().map(ToString::to_string),
            backup,
            rate_limit: vserver.rate_limits.connections.map(|rate| rate_limit(rate, None)),
            client_rate_limit: vserver.rate_limits.client.map(|limit| {
                let bits = match vserver.family() {
                    Family::V4 => limit.bits,
                    Family::V6 => limit.bits6,
                };
                rate_limit(limit.rate, Some(bits))
            }),
            max_conns: self.max_conns(vserver, index)?,
            owner: self.owner(config, vserver)?,
            advertise: self.advertise(vserver),
            refused: sums.refused,
            idle_s: vserver.idle.as_secs(),
            pending_s: vserver.pending.as_secs(),
            replicate: Replicate {
                connection: vserver.replicate_connection,
                sticky: vserver.replicate_sticky,
            },
            reverse_sticky: vserver.reverse_sticky,
            sticky: vserver.sticky.map(|sticky| config.sticky_in_force(sticky)).map(|sticky| StickyRule {
                minutes: sticky.minutes,
                group: sticky.group,
                netmask: match vserver.family() {
                    Family::V4 => prefix_mask(sticky.bits).into(),
                    Family::V6 => prefix_mask6(model::counted_bits6(sticky.address, sticky.bits6)).into(),
                },
                address: match sticky.address {
                    model::StickyAddress::Source => StickyAddress::Source,
                    model::StickyAddress::Destination => StickyAddress::Destination,
                    model::StickyAddress::Both => StickyAddress::Both,
                },
            }),
            connections: sums.connections,
            total_connections: sums.total_connections,
            client_packets: sums.client_packets,
            server_packets: sums.server_packets,
            policies,
        })
    }

    /// `advertise` of a virtual server.
    fn advertise(&self, vserver: &Vserver) -> Option<AdvertiseReply> {
        let only_active = vserver.advertise? == model::Advertise::Active;
        let network = vserver.virtual_server.map(|to| to.network.trunc());
        let announced = network.is_some_and(|network| self.advertised.contains(&network));
        Some(AdvertiseReply { only_active, announced })
    }

    /// `max-conns` of a virtual server whose number is `index`.
    fn max_conns(&self, vserver: &Vserver, index: Option<u32>) -> Result<Option<MaxConnsReply>, Fault> {
        if vserver.max_conns == 0 {
            return Ok(None);
        }
        let connections = index.map_or(Ok(0), |number| self.counters.places(number))?;
        Ok(Some(MaxConnsReply { limit: vserver.max_conns, connections }))
    }

    fn owner(&self, config: &Config, vserver: &Vserver) -> Result<Option<OwnerReply>, Fault> {
        let Some(owner) = config.owner_of(vserver) else { return Ok(None) };
        let id = StableId::of_owner(&owner.name);
        let desired = self.desired();
        let number = desired.bare.iter().find(|(_, known)| **known == id).map(|(number, _)| *number);
        let connections = number.map_or(Ok(0), |number| self.counters.places(number))?;
        let max_conns =
            (owner.max_conns != 0).then_some(MaxConnsReply { limit: owner.max_conns, connections });
        Ok(Some(OwnerReply { name: owner.name.to_string(), max_conns }))
    }

    fn real_reply(&self, farm: &Serverfarm, real: &Real) -> Result<RealReply, Fault> {
        let id = StableId::of_real(&farm.name, real.address, real.port);
        let number = self.desired().reals.iter().find(|(_, known)| known.id == id).map(|(number, _)| *number);
        let count = number.map_or(Ok(ServiceCount::default()), |number| self.counters.real(number))?;
        let (mut state, mut reason) = self.real_state(farm, real);
        if let (RealState::Operational, Some(number), Some(max)) = (state, number, real.limit.max) {
            let below = real.limit.resumes_below();
            if self.counters.is_full(number, max, below)? {
                state = RealState::MaxConns;
                reason = Some(format!("no new connection until it has fewer than {below}"));
            }
        }
        let in_rotation = self.in_rotation(farm, real);
        Ok(RealReply {
            address: real.address,
            port: real.port,
            serverfarm: farm.name.to_string(),
            weight: if in_rotation { real.weight } else { 0 },
            admin_weight: real.weight,
            max_connections: real.limit.max,
            min_connections: real.limit.max.map(|_| real.limit.resumes_below()),
            state,
            reason,
            connections: self.counted(number, |census| &census.reals),
            total_connections: count.connections,
            client_packets: count.client_packets,
            server_packets: count.server_packets,
        })
    }

    /// Connections of `number` by the last walk; what has no number has none.
    pub(super) fn counted(
        &self,
        number: Option<u32>,
        kind: fn(&Census) -> &BTreeMap<u32, u64>,
    ) -> Option<u64> {
        let Some(number) = number else { return Some(0) };
        self.walked.get().map(|walked| kind(&walked.census).get(&number).copied().unwrap_or(0))
    }

    /// Whether the maps say that new connections may go to it.
    pub(super) fn in_rotation(&self, farm: &Serverfarm, real: &Real) -> bool {
        let id = StableId::of_real(&farm.name, real.address, real.port);
        let desired = self.desired();
        let number = desired.reals.iter().find(|(_, known)| known.id == id).map(|(number, _)| *number);
        number.is_some_and(|number| desired.in_rotation(number))
    }

    fn real_state(&self, farm: &Serverfarm, real: &Real) -> (RealState, Option<String>) {
        if real.admin == RealAdmin::OutOfService {
            return (RealState::OutOfService, Some("no inservice".to_owned()));
        }
        let key = RealKey { farm: farm.name.clone(), address: real.address, port: real.port };
        let health = self.health.borrow().of(&key).clone();
        let benched = self.planner.benched(&inband::key(farm, real));
        if let (RealHealth::Operational, Some(left)) = (&health, benched) {
            return (RealState::InbandProbeFailed, Some(since_inband(left)));
        }
        match health {
            RealHealth::ProbeFailed { .. } => (RealState::ProbeFailed, health.reason()),
            RealHealth::Testing => (RealState::ProbeTesting, health.reason()),
            RealHealth::Operational if self.desired().unreachable.contains(&real.address) => {
                (RealState::ArpFailed, Some("no route to it".to_owned()))
            }
            RealHealth::Operational => match self.silent_next_hop(farm, real) {
                Some(hop) => (
                    RealState::ArpFailed,
                    Some(format!(
                        "{hop} has not answered {}",
                        if hop.is_ipv4() { "ARP" } else { "neighbour solicitations" }
                    )),
                ),
                None if real.admin == RealAdmin::Standby && !self.in_rotation(farm, real) => {
                    (RealState::Standby, Some("those that it stands in for take new connections".to_owned()))
                }
                None => (RealState::Operational, None),
            },
        }
    }

    /// The host that `real`'s packets go to, if its MAC address is not known.
    fn silent_next_hop(&self, farm: &Serverfarm, real: &Real) -> Option<IpAddr> {
        let id = StableId::of_real(&farm.name, real.address, real.port);
        let desired = self.desired();
        let number = desired.reals.iter().find(|(_, known)| known.id == id).map(|(number, _)| *number)?;
        let hop = desired.nexthop(number)?;
        let hosts = self.neighbours.list();
        let silent = hosts.into_iter().find(|(_, number, mac)| *number == hop && mac.is_none());
        silent.map(|(host, ..)| host.address)
    }
}

/// Why a real whose clients' connections failed gets none.
fn since_inband(left: Option<std::time::Duration>) -> String {
    match left {
        Some(left) => format!("its clients' connections failed; tried again in {} s", left.as_secs()),
        None => {
            "its clients' connections failed; tried again after `no inservice` and `inservice`".to_owned()
        }
    }
}

const fn rate_limit(rate: RateLimit, prefix_length: Option<u8>) -> RateLimitReply {
    RateLimitReply { per_second: rate.per_second, burst: rate.burst, prefix_length }
}

/// As the CSM names it.
const fn predictor(predictor: Predictor) -> &'static str {
    match predictor {
        Predictor::RoundRobin => "RoundRobin",
        Predictor::Hash { source: true, destination: false, .. } => "HashIpSrc",
        Predictor::Hash { source: false, destination: true, .. } => "HashIpDst",
        Predictor::Hash { .. } => "HashIp",
        Predictor::LeastConns { .. } => "LeastConns",
        Predictor::Forward => "Forward",
    }
}

fn client_range(range: &ClientRange) -> String {
    let exclude = if range.exclude { " exclude" } else { "" };
    format!("{}{exclude}", range.network)
}

pub(super) fn reason_reply((reason, count): (Reason, counter::Count)) -> ReasonCount {
    ReasonCount {
        reason: reason.name().to_owned(),
        verdict: verdict(reason),
        packets: count.packets,
        bytes: count.bytes,
    }
}

/// Group and address of each sticky entry of `table`, as its key has them, with the entry.
fn each_sticky<A: TableFamily>(
    table: &Table<A>,
    take: &mut dyn FnMut((u32, IpAddr), &StickyEntry),
) -> Result<(), Fault> {
    table.visit_sticky(&mut |chunk| {
        chunk.iter().for_each(|(key, entry)| take((key.group, key.client_be.ip()), entry));
        ControlFlow::Continue(())
    })?;
    Ok(())
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

pub(super) const fn verdict(reason: Reason) -> Verdict {
    match reason.verdict() {
        counter::Verdict::Forward => Verdict::Forward,
        counter::Verdict::Pass => Verdict::Pass,
        counter::Verdict::Drop => Verdict::Drop,
        counter::Verdict::Hold => Verdict::Hold,
    }
}
