//! Which address and port of a real leads back to one virtual server, and so tells whose connection a packet from there
//! is. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use csm_common::limits::ORIGINS_MAX;
use csm_common::service::{MATCH_FTP, Origin, VserverKey};

use crate::dataplane::family::{Wire, wire};
use crate::model::{Config, Face, Name, Predictor, Protocol, Serverfarm, Service, Virtual};

use super::{Desired, RealKey};

/// `ORIGINS` for the numbers of `desired`: TCP, and media by UDP. Left out is what two virtual servers share, and any port of a real
/// that a virtual server for any port sends to, and in dispatch mode all but farms of one real. Of more than [`ORIGINS_MAX`] the rest is left out: those connections are
/// not rebuilt.
pub(super) fn origins<A: Wire>(config: &Config, desired: &Desired) -> HashMap<VserverKey<A>, Origin<A>> {
    let reals: HashMap<&RealKey, u32> =
        desired.reals.iter().map(|(&number, known)| (&known.key, number)).collect();
    let numbers = numbers(desired);
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
                let proto = if kind == MATCH_FTP && to.service == Service::Rtsp { 17 } else { 6 };
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
            match to.service {
                Service::Ftp if to.port > 1 && port > 1 => {
                    note(real.address, port - 1, MATCH_FTP, Some(origin(to.port - 1)));
                }
                // RTSP's media have any port, and keep it.
                Service::Rtsp => note(real.address, 0, MATCH_FTP, Some(origin(0))),
                Service::Ftp | Service::Plain => {}
            }
        }
    }
    let any_port: HashSet<A> = any_port.into_iter().map(wire).collect();
    found
        .into_iter()
        .filter(|(service, _)| service.proto != 6 || !any_port.contains(&service.ip_be))
        .filter_map(|(service, origin)| Some((service, origin?)))
        .take(ORIGINS_MAX as usize)
        .collect()
}

/// Numbers of the virtual servers with handshakes that a successor could not finish by what their servers say: TCP connections that
/// `origins` does not lead back to, or whose servers may answer past this node.
pub(super) fn unknown<A: Wire>(
    config: &Config,
    desired: &Desired,
    origins: &HashMap<VserverKey<A>, Origin<A>>,
) -> BTreeSet<u32> {
    let farms: HashMap<_, _> = config.serverfarms.iter().map(|farm| (&farm.name, farm)).collect();
    let numbers = numbers(desired);
    let is_unknown = |number: u32, face: &Face<'_>| {
        let Some(to) = face.vserver.virtual_server else { return false };
        // A client's data connections go to ports that only the server knows.
        let known = to.service != Service::Ftp && !config.is_unidirectional(&face.vserver);
        let mut farms = face.vserver.farms().filter_map(|name| farms.get(name));
        let tcp = matches!(to.protocol, Protocol::Any | Protocol::TCP);
        tcp && !(known && farms.all(|farm| leads_back(config, farm, &to, number, origins)))
    };
    let vservers =
        config.vservers.iter().filter(|vserver| vserver.is_operational() && vserver.replicate_connection);
    vservers
        .flat_map(|vserver| config.faces(vserver))
        .filter_map(|face| {
            let policy = face.policy.map(|policy| &policy.name);
            let number = *numbers.get(&(&face.vserver.name, policy))?;
            is_unknown(number, &face).then_some(number)
        })
        .collect()
}

/// Numbers by virtual server and policy.
fn numbers(desired: &Desired) -> HashMap<(&Name, Option<&Name>), u32> {
    let vservers = desired.vservers.iter();
    vservers.map(|(&number, known)| ((&known.name, known.policy.as_ref()), number)).collect()
}

/// Whether what each real of `farm` says tells of which connection to virtual server `number` it is.
fn leads_back<A: Wire>(
    config: &Config,
    farm: &Serverfarm,
    to: &Virtual,
    number: u32,
    origins: &HashMap<VserverKey<A>, Origin<A>>,
) -> bool {
    let known = |address: IpAddr, port: u16| {
        let service = VserverKey { ip_be: wire(address), port_be: port.to_be(), proto: 6, kind: 0 };
        origins.get(&service).is_some_and(|origin| origin.vserver == number)
    };
    match (farm.predictor, &farm.nat_client) {
        // A host of a `static` section may speak of a connection of its own.
        (Predictor::Forward, None) => config.statics.is_empty(),
        (_, Some(_)) => false,
        _ if !farm.nat_server => known(to.address(), to.port),
        _ => farm.reals.iter().all(|real| known(real.address, real.port.unwrap_or(to.port))),
    }
}
