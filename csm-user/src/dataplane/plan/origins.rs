//! Which address and port of a real leads back to one virtual server, and so tells whose connection a packet from there
//! is. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;

use csm_common::limits::ORIGINS_MAX;
use csm_common::service::{Origin, VserverKey};

use crate::dataplane::routes::be;
use crate::model::{Config, Transport};

use super::{Desired, RealKey};

/// `ORIGINS` for the numbers of `desired`: TCP only. Left out is what two virtual servers share, and any port of a real
/// that a virtual server for any port sends to. Of more than [`ORIGINS_MAX`] the rest is left out: those connections are
/// not rebuilt.
pub(super) fn origins(config: &Config, desired: &Desired) -> HashMap<VserverKey, Origin> {
    let reals: HashMap<&RealKey, u32> =
        desired.reals.iter().map(|(&number, known)| (&known.key, number)).collect();
    let vservers: HashMap<_, u32> =
        desired.vservers.iter().map(|(&number, known)| (&known.name, number)).collect();
    let farms: HashMap<_, _> = config.serverfarms.iter().map(|farm| (&farm.name, farm)).collect();
    let mut found: BTreeMap<VserverKey, Option<Origin>> = BTreeMap::new();
    let mut any_port: HashSet<Ipv4Addr> = HashSet::new();
    for vserver in config.vservers.iter().filter(|vserver| vserver.is_operational()) {
        let Some(virtual_server) = vserver.virtual_server.filter(|v| v.transport == Transport::Tcp) else {
            continue;
        };
        let Some(farm) = vserver.serverfarm.as_ref().and_then(|name| farms.get(name)) else { continue };
        for real in &farm.reals {
            let key = RealKey { farm: farm.name.clone(), address: real.address, port: real.port };
            let (Some(&number), Some(&vserver)) = (reals.get(&key), vservers.get(&vserver.name)) else {
                continue;
            };
            let Some(port) = Some(real.port.unwrap_or(virtual_server.port)).filter(|&port| port != 0) else {
                any_port.insert(real.address);
                continue;
            };
            let origin = Origin {
                virtual_be: be(virtual_server.address),
                port_be: virtual_server.port.to_be(),
                pad: 0,
                vserver,
                real: number,
            };
            let service = VserverKey {
                ip_be: be(real.address),
                port_be: port.to_be(),
                proto: virtual_server.transport.number(),
                pad: 0,
            };
            // For any port the client's own choice is not known from the server's side.
            let known = (virtual_server.port != 0).then_some(origin);
            found.entry(service).and_modify(|origin| *origin = None).or_insert(known);
        }
    }
    let any_port: HashSet<u32> = any_port.into_iter().map(be).collect();
    found
        .into_iter()
        .filter(|(service, _)| !any_port.contains(&service.ip_be))
        .filter_map(|(service, origin)| Some((service, origin?)))
        .take(ORIGINS_MAX as usize)
        .collect()
}
