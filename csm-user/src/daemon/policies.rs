//! What `show … vservers` and `show … policy` say of policies.

use csm_common::counter::ServiceCount;
use csm_common::rate::Refused;

use super::node::Node;
use crate::api::backend::Fault;
use crate::api::reply::limit::{BackupReply, RefusedReply};
use crate::api::reply::policy::PolicyReply;
use crate::model::{Config, Face, Predictor, Real, RealAdmin, Serverfarm, StableId, Vserver};
use crate::probe::health::{RealHealth, RealKey};

/// Of each policy of `vserver` in their order, and last of what none of them is for.
pub(super) fn of(node: &Node, config: &Config, vserver: &Vserver) -> Result<Vec<PolicyReply>, Fault> {
    let row = |face: Face<'_>| {
        let index = number(node, &face);
        let count = index.map_or(Ok(ServiceCount::default()), |number| node.counters.vserver(number))?;
        let refused = index.map_or(Ok(Refused::default()), |number| node.counters.refused(number))?;
        let serves = has_farm(node, config, &face);
        let backup = face.vserver.backup.as_ref().map(|backup| BackupReply {
            serverfarm: backup.farm.to_string(),
            sticky: backup.sticky,
            serving: !serves
                && face.vserver.is_operational()
                && config.serverfarm(&backup.farm).is_some_and(|farm| is_able(node, farm)),
        });
        Ok(PolicyReply {
            name: face.policy.map(|policy| policy.name.to_string()),
            index,
            client_group: face.policy.and_then(|policy| Some(policy.client_group.as_ref()?.to_string())),
            serverfarm: face.vserver.serverfarm.as_ref().map(ToString::to_string),
            backup,
            sticky_group: face.policy.and_then(|policy| policy.sticky_group),
            reverse_sticky: face.vserver.reverse_sticky,
            dscp: face.policy.and_then(|policy| policy.dscp),
            refused: RefusedReply {
                rate_limit: refused.rate,
                client_rate_limit: refused.client_rate,
                no_real: refused.no_real,
                max_conns: refused.max_conns,
                owner_max_conns: refused.owner_max_conns,
            },
            connections: node.counted(index, |census| &census.vservers),
            total_matches: count.connections,
            client_packets: count.client_packets,
            client_octets: count.client_bytes,
            server_packets: count.server_packets,
            server_octets: count.server_bytes,
        })
    };
    config.faces(vserver).map(row).collect()
}

/// The element of these clients.
fn number(node: &Node, face: &Face<'_>) -> Option<u32> {
    let (name, server) = (&face.vserver.name, face.vserver.virtual_server.as_ref()?);
    let id = match face.policy {
        Some(policy) => StableId::of_policy(name, server, &policy.name),
        None => StableId::of_vserver(name, server),
    };
    node.directory.get().vserver_number(id)
}

/// Whether a farm of these clients, their backup included, can take connections.
pub(super) fn is_served(node: &Node, config: &Config, face: &Face<'_>) -> bool {
    let backup = face.vserver.backup.as_ref().and_then(|backup| config.serverfarm(&backup.farm));
    has_farm(node, config, face) || backup.is_some_and(|farm| is_able(node, farm))
}

/// Whether probes have no verdict yet on a real server of a farm of these clients, their backup included.
pub(super) fn is_tested(node: &Node, config: &Config, face: &Face<'_>) -> bool {
    let backup = face.vserver.backup.as_ref().map(|backup| &backup.farm);
    let mut farms = face.vserver.serverfarm.iter().chain(backup).filter_map(|name| config.serverfarm(name));
    let health = node.health.borrow();
    farms.any(|farm| {
        let key = |real: &Real| RealKey { farm: farm.name.clone(), address: real.address, port: real.port };
        farm.reals.iter().any(|real| {
            real.admin != RealAdmin::OutOfService && *health.of(&key(real)) == RealHealth::Testing
        })
    })
}

/// Whether the farm can that is not the backup: by its reals, and by its threshold.
fn has_farm(node: &Node, config: &Config, face: &Face<'_>) -> bool {
    let farm = face.vserver.serverfarm.as_ref().and_then(|name| config.serverfarm(name));
    let is_down = number(node, face).is_some_and(|number| node.desired().down.contains(&number));
    farm.is_some_and(|farm| is_able(node, farm) && (!is_down || farm.predictor == Predictor::Forward))
}

fn is_able(node: &Node, farm: &Serverfarm) -> bool {
    farm.predictor == Predictor::Forward || farm.reals.iter().any(|real| node.in_rotation(farm, real))
}

/// Of all policies of a virtual server together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) refused: RefusedReply,
    pub(super) connections: Option<u64>,
    pub(super) total_connections: u64,
    pub(super) client_packets: u64,
    pub(super) server_packets: u64,
}

impl Sums {
    pub(super) fn of(policies: &[PolicyReply]) -> Self {
        let sum = |count: fn(&PolicyReply) -> u64| policies.iter().map(count).sum();
        Self {
            refused: RefusedReply {
                rate_limit: sum(|of| of.refused.rate_limit),
                client_rate_limit: sum(|of| of.refused.client_rate_limit),
                no_real: sum(|of| of.refused.no_real),
                max_conns: sum(|of| of.refused.max_conns),
                owner_max_conns: sum(|of| of.refused.owner_max_conns),
            },
            connections: policies.iter().map(|of| of.connections).sum(),
            total_connections: sum(|of| of.total_matches),
            client_packets: sum(|of| of.client_packets),
            server_packets: sum(|of| of.server_packets),
        }
    }
}
