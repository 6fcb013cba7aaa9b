//! Virtual servers: their numbers, elements and rings. Pure.

use std::collections::HashMap;

use csm_common::limits;
use csm_common::service::{
    VSERVER_DISPATCH, VSERVER_FORWARD, VSERVER_FTP, VSERVER_HASH_DESTINATION, VSERVER_HASH_SOURCE,
    VSERVER_INSERVICE, VSERVER_LEASTCONNS, VSERVER_REPLICATE, VSERVER_REPLICATE_STICKY, VSERVER_STATIC,
    VSERVER_UNIDIRECTIONAL, Vserver,
};

use super::{
    Assignments, Contents, Desired, PRIVATE_STICKY, PlanError, RealName, VserverName, farm_number, nat,
};
use crate::dataplane::family::Wire;
use crate::dataplane::predictor;
use crate::model::{self, Config, Family, Name, NatClient, Predictor, Serverfarm, StableId};

/// Numbers and describes `vserver`.
pub(super) fn plan<A: Wire>(
    config: &Config,
    vserver: &model::Vserver,
    rotation: &HashMap<&Name, Vec<(u32, u8)>>,
    numbers: &mut Assignments,
    desired: &mut Desired,
    contents: &mut Contents<A>,
) -> Result<Option<u32>, PlanError> {
    // Without an address there is nothing to match, and no identity that the peer would know.
    let Some(virtual_server) = vserver.virtual_server else { return Ok(None) };
    let id = StableId::of_vserver(&vserver.name, &virtual_server);
    let number = numbers
        .vservers
        .assign(&id)
        .ok_or(PlanError::Full { what: "virtual servers", limit: limits::VSERVERS_MAX })?;
    let farm = vserver.serverfarm.as_ref().and_then(|name| config.serverfarm(name));
    let reals = farm.filter(|_| vserver.is_operational()).and_then(|farm| rotation.get(&farm.name));
    let ring = match (reals, farm.map(|farm| farm.predictor)) {
        (None, _) | (_, Some(Predictor::Forward)) => Vec::new(),
        (Some(reals), Some(Predictor::Hash { .. })) => {
            let id = |number| desired.reals.get(&number).map_or(0, |known: &RealName| known.id.0);
            let table = predictor::hash_table(
                &reals.iter().map(|&(number, _)| (number, id(number))).collect::<Vec<_>>(),
            );
            predictor::weighted(&table, reals)
        }
        (Some(reals), Some(Predictor::LeastConns { .. })) => predictor::each_once(reals),
        (Some(reals), _) => predictor::weighted(&predictor::ring(reals), reals),
    };
    let ring_len = u32::try_from(ring.len()).unwrap_or(0);
    let pool = farm.and_then(|farm| config.pool_of(farm));
    let entry = Vserver {
        pool: pool.and_then(|pool| nat::numbers(config).get(&pool.name).copied()).unwrap_or(0),
        ..entry(config, vserver, farm, number, ring_len)
    };
    contents.vservers.insert(number, entry);
    if !ring.is_empty() {
        contents.rings.insert(number, ring);
    }
    desired.vservers.insert(number, VserverName { name: vserver.name.clone(), id });
    Ok(Some(number))
}

fn entry<A: Wire>(
    config: &Config,
    vserver: &model::Vserver,
    farm: Option<&Serverfarm>,
    number: u32,
    ring_len: u32,
) -> Vserver<A> {
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let ftp = vserver.virtual_server.is_some_and(|to| to.ftp);
    let predictor = farm.map_or(Predictor::RoundRobin, |farm| farm.predictor);
    let forward = predictor == Predictor::Forward;
    let (hash_mask, source, destination) = match predictor {
        Predictor::Hash { bits, bits6, source, destination } => (mask(bits, bits6), source, destination),
        _ => (A::UNSPECIFIED, false, false),
    };
    // A client's data connections find their real by its sticky entry: it is to last as long as the control connection.
    let sticky = vserver.sticky.filter(|_| !forward).or(ftp.then_some(model::Sticky {
        minutes: 0,
        group: 0,
        bits: 32,
        bits6: 128,
    }));
    let ftp_s = match seconds(vserver.idle) {
        _ if !ftp => 0,
        0 => u32::MAX,
        idle_s => idle_s,
    };
    let translated = farm.is_some_and(|farm| farm.nat_client == Some(NatClient::Static));
    let replicate_sticky = vserver.replicate_sticky || ftp && vserver.replicate_connection;
    Vserver {
        flags: flag(vserver.is_operational(), VSERVER_INSERVICE)
            | flag(vserver.replicate_connection, VSERVER_REPLICATE)
            | flag(replicate_sticky, VSERVER_REPLICATE_STICKY)
            | flag(farm.is_some_and(|farm| !farm.nat_server) && !forward, VSERVER_DISPATCH)
            | flag(forward, VSERVER_FORWARD)
            | flag(config.is_unidirectional(vserver), VSERVER_UNIDIRECTIONAL)
            | flag(ftp, VSERVER_FTP)
            | flag(matches!(predictor, Predictor::LeastConns { .. }), VSERVER_LEASTCONNS)
            | flag(translated, VSERVER_STATIC)
            | flag(source, VSERVER_HASH_SOURCE)
            | flag(destination, VSERVER_HASH_DESTINATION),
        ring_len,
        idle_s: seconds(vserver.idle),
        pending_s: seconds(vserver.pending),
        sticky_s: sticky.map_or(0, |sticky| (u32::from(sticky.minutes) * 60).max(ftp_s)),
        sticky_mask_be: sticky.map_or(A::UNSPECIFIED, |sticky| mask(sticky.bits, sticky.bits6)),
        sticky_group: sticky.map_or(0, |sticky| match sticky.group {
            0 => PRIVATE_STICKY + number,
            group => u32::from(group),
        }),
        farm: vserver.serverfarm.as_ref().map_or(0, farm_number),
        pool: 0,
        hash_mask_be: hash_mask,
        port_be: vserver.virtual_server.map_or(0, |to| to.port.to_be()),
        pad: 0,
    }
}

/// The mask of so many leading bits of family `A`.
fn mask<A: Wire>(bits: u8, bits6: u8) -> A {
    A::mask(match A::FAMILY {
        Family::V4 => bits,
        Family::V6 => bits6,
    })
}
