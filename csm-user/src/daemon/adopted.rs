//! What a start learns from tables that an earlier csmd left: who has which number, and who was in service.

use std::collections::BTreeSet;
use std::io;

use csm_common::address::V6;
use csm_common::net::{NEXTHOP_RESOLVED, NextHop};
use csm_common::service::REAL_STICKY;

use crate::dataplane::family::Wire;
use crate::dataplane::maps::{HopMaps, MapSource, Maps};
use crate::dataplane::plan::Assignments;
use crate::model::{Config, Host, StableId};
use crate::probe::health::RealKey;

/// Hosts with the number and MAC address of their next hop.
///
/// # Errors
/// Of the maps.
pub(super) fn hops(source: &impl MapSource, ipv6: bool) -> io::Result<Vec<(Host, u32, Option<[u8; 6]>)>> {
    fn known<A: Wire>((number, hop): (u32, NextHop<A>)) -> (Host, u32, Option<[u8; 6]>) {
        let mac = (hop.flags & NEXTHOP_RESOLVED != 0).then_some(hop.dst_mac);
        (Host { address: hop.ip_be.ip(), vlan: hop.vlan }, number, mac)
    }
    let mut hops: Vec<_> = HopMaps::<u32>::open(source)?.nexthops()?.into_iter().map(known).collect();
    if ipv6 {
        hops.extend(HopMaps::<V6>::open(source)?.nexthops()?.into_iter().map(known));
    }
    Ok(hops)
}

/// The reals of `config` that were in service.
///
/// # Errors
/// Of the maps.
pub(super) fn healthy(
    config: &Config,
    numbers: &Assignments,
    (maps, maps6): (&Maps, Option<&Maps<V6>>),
) -> io::Result<BTreeSet<RealKey>> {
    let mut in_service = BTreeSet::new();
    let reals = maps.read_back()?.reals;
    in_service
        .extend(reals.iter().filter(|(_, real)| real.flags & REAL_STICKY != 0).map(|(number, _)| *number));
    if let Some(maps6) = maps6 {
        let reals = maps6.read_back()?.reals;
        let in_service6 = reals.iter().filter(|(_, real)| real.flags & REAL_STICKY != 0);
        in_service.extend(in_service6.map(|(number, _)| *number));
    }
    let reals = config.serverfarms.iter().flat_map(|farm| farm.reals.iter().map(move |real| (farm, real)));
    let was_in_service = reals.filter(|(farm, real)| {
        let number = numbers.reals.get(&StableId::of_real(&farm.name, real.address, real.port));
        number.is_some_and(|number| in_service.contains(&number))
    });
    Ok(was_in_service
        .map(|(farm, real)| RealKey { farm: farm.name.clone(), address: real.address, port: real.port })
        .collect())
}
