//! What a start learns from tables that an earlier csmd left: who has which number, and who was in service.

use std::collections::BTreeSet;
use std::io;

use aya::Pod;
use csm_common::address::V6;
use csm_common::net::{self, AddressKey, NEXTHOP_RESOLVED, NEXTHOP_TUNNEL, NextHop};
use csm_common::service::REAL_STICKY;

use crate::dataplane::family::Wire;
use crate::dataplane::maps::{HopMaps, MapSource, Maps};
use crate::dataplane::plan::Assignments;
use crate::model::{Config, Encapsulation, Host, StableId, Tunnel};
use crate::neigh::table::Known;
use crate::probe::health::RealKey;

/// The next hops.
///
/// # Errors
/// Of the maps.
pub(super) fn hops(source: &impl MapSource, ipv6: bool) -> io::Result<Vec<Known>> {
    let mut hops = hops_of::<u32>(source)?;
    if ipv6 {
        hops.extend(hops_of::<V6>(source)?);
    }
    Ok(hops)
}

fn hops_of<A: Wire>(source: &impl MapSource) -> io::Result<Vec<Known>>
where
    NextHop<A>: Pod,
    net::Tunnel<A>: Pod,
    AddressKey<A>: Pod,
{
    let maps = HopMaps::<A>::open(source)?;
    let known = |(number, hop): (u32, NextHop<A>)| {
        let mac = (hop.flags & NEXTHOP_RESOLVED != 0).then_some(hop.dst_mac);
        let mut host = Host::on(hop.ip_be.ip(), hop.vlan);
        let tunnel = (hop.flags & NEXTHOP_TUNNEL != 0).then_some(hop.tunnel);
        if let Some(ends) = tunnel.map(|tunnel| maps.tunnel(tunnel)).transpose()?.flatten() {
            let encapsulation = match u16::from_be(ends.port_be) {
                0 => Encapsulation::Ipip,
                port => Encapsulation::Gue { port },
            };
            let (local, remote) = (ends.local_be.ip(), ends.remote_be.ip());
            host.tunnel = Some(Tunnel { encapsulation, local, remote });
        }
        Ok(Known { host, number, mac, tunnel })
    };
    maps.nexthops()?.into_iter().map(known).collect()
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
