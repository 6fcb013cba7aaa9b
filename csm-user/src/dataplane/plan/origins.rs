//! Which address and port of a real leads back to one virtual server, and so tells whose connection a packet from there
//! is. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use csm_common::limits::ORIGINS_MAX;
use csm_common::service::{MATCH_FTP, Origin, VserverKey};

use crate::dataplane::family::{Wire, wire};
use crate::model::{Config, Face, Predictor, Protocol};

use super::{Desired, RealKey};

/// `ORIGINS` for the numbers of `desired`: TCP only. Left out is what two virtual servers share, and any port of a real
/// that a virtual server for any port sends to, and in dispatch mode all but farms of one real. Of more than [`ORIGINS_MAX`] the rest is left out: those connections are
/// not rebuilt.
pub(super) fn origins<A: Wire>(config: &Config, desired: &Desired) -> HashMap<VserverKey<A>, Origin<A>> {
    let reals: HashMap<&RealKey, u32> =
        desired.reals.iter().map(|(&number, known)| (&known.key, number)).collect();
    let numbers: HashMap<_, u32> = desired
        .vservers
        .iter()
        .map(|(&number, known)| ((&known.name, known.policy.as_ref()), number))
        .collect();
    let farms: HashMap<_, _> = config.serverfarms.iter().map(|farm| (&farm.name, farm)).collect();
    let mut found: BTreeMap<VserverKey<A>, Option<Origin<A>>> = BTreeMap::new();
    let mut any_port: HashSet<IpAddr> = HashSet::new();
    let vservers = config.vservers.iter().filter(|vserver| vserver.is_operational());
    let faces: Vec<_> = vservers.flat_map(|vserver| config.faces(vserver)).collect();
    let policy = |face: &Face<'_>| face.policy.map(|policy| policy.name.clone());
    for (face, name) in faces.iter().flat_map(|face| face.vserver.farms().map(move |name| (face, name))) {
        let (vserver, policy) = (&face.vserver, policy(face));
        let to = vserver.virtual_server.filter(|to| to.protocol == Protocol::TCP && to.is_address());
        let Some(to) = to else { continue };
        let Some(farm) = farms.get(name) else { continue };
        // A packet to an address of a pool says nothing of the client.
        if farm.nat_client.is_some() || farm.predictor == Predictor::Forward {
            continue;
        }
        for real in &farm.reals {
            let key = RealKey { farm: farm.name.clone(), address: real.address, port: real.port };
            let (Some(&number), Some(&vserver)) =
                (reals.get(&key), numbers.get(&(&vserver.name, policy.as_ref())))
            else {
                continue;
            };
            let origin = |port: u16| Origin {
                virtual_be: wire(to.address()),
                port_be: port.to_be(),
                pad: 0,
                vserver,
                real: number,
            };
            let mut note = |address: IpAddr, port: u16, kind: u8, origin: Option<Origin<A>>| {
                let proto = 6;
                let service = VserverKey { ip_be: wire(address), port_be: port.to_be(), proto, kind };
                found.entry(service).and_modify(|origin| *origin = None).or_insert(origin);
            };
            if !farm.nat_server {
                // The source is the virtual address: that of any real of the farm.
                note(to.address(), to.port, 0, Some(origin(to.port)).filter(|_| to.port != 0));
                continue;
            }
            let Some(port) = Some(real.port.unwrap_or(to.port)).filter(|&port| port != 0) else {
                any_port.insert(real.address);
                continue;
            };
            // For any port the client's own choice is not known from the server's side.
            note(real.address, port, 0, (to.port != 0).then(|| origin(to.port)));
            // In FTP's active mode the server opens the data connection, from the port below (RFC 959, section 3.2).
            if to.ftp && to.port > 1 && port > 1 {
                note(real.address, port - 1, MATCH_FTP, Some(origin(to.port - 1)));
            }
        }
    }
    let any_port: HashSet<A> = any_port.into_iter().map(wire).collect();
    found
        .into_iter()
        .filter(|(service, _)| !any_port.contains(&service.ip_be))
        .filter_map(|(service, origin)| Some((service, origin?)))
        .take(ORIGINS_MAX as usize)
        .collect()
}
