//! Virtual servers: their numbers, elements and rings. Pure.

use std::collections::HashMap;

use csm_common::flow;
use csm_common::limits::{self, RING_SLOTS};
use csm_common::rate::Rate;
use csm_common::service::{
    VSERVER_BACKUP, VSERVER_BACKUP_STICKY, VSERVER_COUNTED, VSERVER_DISPATCH, VSERVER_FORWARD, VSERVER_FTP,
    VSERVER_HASH_DESTINATION, VSERVER_HASH_SOURCE, VSERVER_INSERVICE, VSERVER_LEASTCONNS,
    VSERVER_POLICIES_ONLY, VSERVER_REPLICATE, VSERVER_REPLICATE_STICKY, VSERVER_STATIC, VSERVER_STICKY_BOTH,
    VSERVER_STICKY_DESTINATION, VSERVER_STICKY_STATICS, VSERVER_UNIDIRECTIONAL, Vserver,
};

use super::matching::Numbered;
use super::{
    Assignments, Contents, Desired, PRIVATE_STICKY, PlanError, RealName, VserverName, farm_number, nat,
};
use crate::dataplane::family::Wire;
use crate::dataplane::predictor;
use crate::model::{
    self, Config, Face, Family, Name, NatClient, Predictor, RateLimit, Serverfarm, StableId, StickyAddress,
    counted_bits6,
};

/// Numbers and describes `vserver`, and each of its policies; `None` without an address: there is nothing to match, and no
/// identity that the peer would know.
pub(super) fn plan<'a, A: Wire>(
    config: &'a Config,
    vserver: &'a model::Vserver,
    rotation: &HashMap<&Name, Vec<(u32, u8)>>,
    numbers: &mut Assignments,
    desired: &mut Desired,
    contents: &mut Contents<A>,
) -> Result<Option<Numbered<'a>>, PlanError> {
    let Some(virtual_server) = vserver.virtual_server else { return Ok(None) };
    let own = StableId::of_vserver(&vserver.name, &virtual_server);
    let number = assign(numbers, &own)?;
    let (owner, owner_max_conns) = match config.owner_of(vserver) {
        Some(owner) => {
            let id = StableId::of_owner(&owner.name);
            let number = assign(numbers, &id)?;
            desired.bare.insert(number, id);
            (number + 1, owner.max_conns)
        }
        None => (0, 0),
    };
    let mut policies = Vec::new();
    for Face { policy, vserver } in config.faces(vserver) {
        let id =
            policy.map_or(own, |policy| StableId::of_policy(&vserver.name, &virtual_server, &policy.name));
        let element = assign(numbers, &id)?;
        let mut entry = describe((config, &vserver), (id, element), rotation, numbers, desired, contents)?;
        (entry.max_conns, entry.owner, entry.owner_max_conns) = (vserver.max_conns, owner, owner_max_conns);
        if let Some(policy) = policy {
            entry.policy_of = number + 1;
            entry.mark = policy.dscp.map_or(0, flow::mark);
            let clients = policy.client_group.as_ref().map(|name| {
                let list = config.access_list(A::FAMILY, name);
                list.map_or(&[][..], |list| list.lines.as_slice())
            });
            policies.push((element, clients));
        } else if entry.flags & VSERVER_INSERVICE == 0 && vserver.is_operational() {
            entry.flags |= VSERVER_POLICIES_ONLY;
        }
        contents.vservers.insert(element, entry);
        let policy = policy.map(|policy| policy.name.clone());
        desired.vservers.insert(element, VserverName { name: vserver.name.clone(), policy, id });
    }
    Ok(Some(Numbered { number, vserver, policies }))
}

fn assign(numbers: &mut Assignments, id: &StableId) -> Result<u32, PlanError> {
    let full = PlanError::Full { what: "virtual servers, policies and owners", limit: limits::VSERVERS_MAX };
    numbers.vservers.assign(id).ok_or(full)
}

/// Element `number` of `vserver`, whose identity is `id`; that of its backup farm is put into `contents`.
fn describe<A: Wire>(
    (config, vserver): (&Config, &model::Vserver),
    (id, number): (StableId, u32),
    rotation: &HashMap<&Name, Vec<(u32, u8)>>,
    numbers: &mut Assignments,
    desired: &mut Desired,
    contents: &mut Contents<A>,
) -> Result<Vserver<A>, PlanError> {
    let farm = vserver.serverfarm.as_ref().and_then(|name| config.serverfarm(name));
    let backup = vserver.backup.as_ref().and_then(|backup| config.serverfarm(&backup.farm));
    // An ended connection is counted by its virtual server's element, whichever farm it went to.
    let counted = farm.into_iter().chain(backup).any(Serverfarm::is_counted);
    let counted = if counted { VSERVER_COUNTED } else { 0 };
    let farms = Farms { config, vserver, rotation, counted };
    let up = farm.and_then(|farm| rotation.get(&farm.name)).map_or(0, Vec::len);
    let before = numbers.down.contains(&id);
    let down = vserver.threshold.is_some_and(|threshold| threshold.is_down(up, before));
    // What has never been up is not down yet, or a node that has just started would ask for more reals than its peer.
    if down {
        if numbers.up.contains(&id) {
            numbers.down.insert(id);
        }
        desired.down.insert(number);
    } else {
        numbers.up.insert(id);
        numbers.down.remove(&id);
    }
    let mut entry = farms.describe(farm, (number, down), desired, contents);
    // Nor do its reals have sticky clients then, but those of FTP and RTSP: a data connection goes where its control connection went.
    if down && !vserver.virtual_server.is_some_and(|to| to.follows()) {
        entry.farm = 0;
    }
    if let (Some(backup), Some(named)) = (backup, &vserver.backup) {
        let id = id.backup_of();
        let stand_in = assign(numbers, &id)?;
        let element = farms.describe(Some(backup), (stand_in, false), desired, contents);
        contents.vservers.insert(stand_in, element);
        desired.bare.insert(stand_in, id);
        // A client's data connections find their real by its sticky entry, whichever farm that is of.
        let sticky = named.sticky || vserver.virtual_server.is_some_and(|to| to.follows());
        entry.flags |= VSERVER_BACKUP | if sticky { VSERVER_BACKUP_STICKY } else { 0 };
        (entry.backup, entry.backup_farm) = (stand_in, farm_number(&backup.name));
    }
    Ok(entry)
}

/// What the elements of a virtual server's farms are made of.
struct Farms<'a> {
    config: &'a Config,
    vserver: &'a model::Vserver,
    rotation: &'a HashMap<&'a Name, Vec<(u32, u8)>>,
    counted: u32,
}

impl Farms<'_> {
    /// Element `number` for `farm`; its ring is put into `contents`. A farm that is `down` has none.
    fn describe<A: Wire>(
        &self,
        farm: Option<&Serverfarm>,
        (number, down): (u32, bool),
        desired: &Desired,
        contents: &mut Contents<A>,
    ) -> Vserver<A> {
        let Self { config, vserver, rotation, counted } = *self;
        let reals =
            farm.filter(|_| vserver.is_operational() && !down).and_then(|farm| rotation.get(&farm.name));
        let limited = farm.is_some_and(Serverfarm::is_limited);
        let slots = if limited { RING_SLOTS / 2 } else { RING_SLOTS };
        let ring = match (reals, farm.map(|farm| farm.predictor)) {
            (None, _) | (_, Some(Predictor::Forward)) => Vec::new(),
            (Some(reals), Some(Predictor::Hash { .. })) => {
                let id = |number| desired.reals.get(&number).map_or(0, |known: &RealName| known.id.0);
                let table = predictor::hash_table(
                    &reals.iter().map(|&(number, _)| (number, id(number))).collect::<Vec<_>>(),
                    slots,
                );
                predictor::weighted(&table, reals)
            }
            (Some(reals), Some(Predictor::LeastConns { .. })) => predictor::each_once(reals, slots),
            (Some(reals), _) => predictor::weighted(&predictor::ring(reals, slots), reals),
        };
        // Where one chosen by the ring may be full, the others are looked through in turn.
        let spare = reals.filter(|_| limited && !ring.is_empty());
        let spare = spare.map(|reals| predictor::each_once(reals, slots)).unwrap_or_default();
        let pool = farm.and_then(|farm| config.pool_of(farm));
        let ring_len = u32::try_from(ring.len()).unwrap_or(0);
        let plain = entry(config, vserver, farm, number, ring_len);
        if !ring.is_empty() {
            contents.rings.insert(number, [ring, spare.clone()].concat());
        }
        Vserver {
            flags: plain.flags | counted,
            pool: pool.and_then(|pool| nat::numbers(config).get(&pool.name).copied()).unwrap_or(0),
            spare_len: u16::try_from(spare.len()).unwrap_or(0),
            ..plain
        }
    }
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
    let follows = vserver.virtual_server.is_some_and(|to| to.follows());
    let predictor = farm.map_or(Predictor::RoundRobin, |farm| farm.predictor);
    let forward = predictor == Predictor::Forward;
    let (hash_mask, source, destination) = match predictor {
        Predictor::Hash { bits, bits6, source, destination } => (mask(bits, bits6), source, destination),
        _ => (A::UNSPECIFIED, false, false),
    };
    // A client's data connections find their real by its sticky entry: it is to last as long as the control connection.
    let sticky = vserver.sticky.filter(|_| !forward).or(follows.then_some(model::Sticky {
        minutes: 0,
        group: 0,
        bits: 32,
        bits6: 128,
        address: StickyAddress::Source,
    }));
    let sticks_by = |address| sticky.is_some_and(|sticky| sticky.address == address);
    let group = sticky.and_then(|sticky| config.sticky_group(sticky.group));
    let fixed = group.is_some_and(|group| !group.statics.is_empty());
    let control_s = match seconds(vserver.idle) {
        _ if !follows => 0,
        0 => u32::MAX,
        idle_s => idle_s,
    };
    let client = vserver.rate_limits.client;
    let translated = farm.is_some_and(|farm| farm.nat_client == Some(NatClient::Static));
    let replicate_sticky = vserver.replicate_sticky || follows && vserver.replicate_connection;
    Vserver {
        flags: flag(vserver.is_operational() && farm.is_some(), VSERVER_INSERVICE)
            | flag(vserver.replicate_connection, VSERVER_REPLICATE)
            | flag(replicate_sticky, VSERVER_REPLICATE_STICKY)
            | flag(farm.is_some_and(|farm| !farm.nat_server) && !forward, VSERVER_DISPATCH)
            | flag(forward, VSERVER_FORWARD)
            | flag(config.is_unidirectional(vserver), VSERVER_UNIDIRECTIONAL)
            | flag(follows, VSERVER_FTP)
            | flag(matches!(predictor, Predictor::LeastConns { .. }), VSERVER_LEASTCONNS)
            | flag(sticks_by(StickyAddress::Destination), VSERVER_STICKY_DESTINATION)
            | flag(sticks_by(StickyAddress::Both), VSERVER_STICKY_BOTH)
            | flag(fixed, VSERVER_STICKY_STATICS)
            | flag(translated, VSERVER_STATIC)
            | flag(source, VSERVER_HASH_SOURCE)
            | flag(destination, VSERVER_HASH_DESTINATION),
        ring_len,
        idle_s: seconds(vserver.idle),
        pending_s: seconds(vserver.pending),
        sticky_s: sticky.map_or(0, |sticky| (u32::from(sticky.minutes) * 60).max(control_s)),
        sticky_mask_be: sticky
            .map_or(A::UNSPECIFIED, |sticky| mask(sticky.bits, counted_bits6(sticky.address, sticky.bits6))),
        sticky_group: sticky.map_or(0, |sticky| match sticky.group {
            0 => PRIVATE_STICKY + number,
            group => u32::from(group),
        }),
        farm: farm.map_or(0, |farm| farm_number(&farm.name)),
        hash_mask_be: hash_mask,
        port_be: vserver.virtual_server.map_or(0, |to| to.port.to_be()),
        rate: rate(vserver.rate_limits.connections),
        client_rate: rate(client.map(|limit| limit.rate)),
        reverse: vserver.reverse_sticky.map_or(0, u32::from),
        client_rate_mask_be: client.map_or(A::UNSPECIFIED, |limit| mask(limit.bits, limit.bits6)),
        ..Vserver::default()
    }
}

fn rate(limit: Option<RateLimit>) -> Rate {
    limit.map_or(Rate::default(), |limit| Rate::new(limit.per_second, limit.burst))
}

/// The mask of so many leading bits of family `A`.
pub(super) fn mask<A: Wire>(bits: u8, bits6: u8) -> A {
    A::mask(match A::FAMILY {
        Family::V4 => bits,
        Family::V6 => bits6,
    })
}
