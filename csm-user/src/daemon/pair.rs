//! The two-node features of a start: replication and the election, each with what it acts on.

use std::sync::Arc;
use std::time::Duration;

use csm_common::net::PORT_FT;

use super::actions::Actions;
use super::host;
use super::replica::KernelReplica;
use super::startup::{Failure, Options};
use crate::arp::announcer::Announcer;
use crate::dataplane::load::{MappedGate, PortSpec};
use crate::dataplane::maps::{Promises, SettingsCell};
use crate::dataplane::ring::Flusher;
use crate::ft::election::Restraint;
use crate::ft::parked::Parked;
use crate::ft::task as ft_task;
use crate::ft::{DataPath, FtHandle, FtOptions};
use crate::model::{Config, Family, FtGroup};
use crate::replication;
use crate::replication::record::DeltaEvent;
use crate::replication::task::{ReplHandle, ReplOptions};
use crate::replication::wire::VERSIONS;

/// What the two-node features are started with.
pub(super) struct PairStart<'a> {
    pub(super) config: &'a Config,
    pub(super) group: &'a FtGroup,
    pub(super) nonce: u64,
    pub(super) specs: &'a [PortSpec],
    pub(super) options: &'a Options,
    pub(super) gate: Arc<MappedGate>,
    pub(super) settings: Arc<SettingsCell>,
    pub(super) announcer: Arc<Announcer>,
    pub(super) flusher: Flusher,
    pub(super) promises: Promises,
    pub(super) parked: Option<Parked>,
    pub(super) restraint: Option<Restraint>,
    pub(super) peer_lease: Option<Duration>,
}

impl PairStart<'_> {
    pub(super) fn start(
        self,
        replica: KernelReplica,
        deltas: crossbeam::channel::Receiver<DeltaEvent>,
    ) -> Result<(FtHandle, ReplHandle), Failure> {
        let Self { config, group, nonce, specs, options, gate, settings, announcer, flusher, .. } = self;
        let Self { promises, parked, restraint, peer_lease, .. } = self;
        let Some(port) = specs.iter().find(|port| port.role == PORT_FT) else {
            return Err(Failure::step("the FT VLAN")(
                "no interface carries it: add `switchport access vlan`",
            ));
        };
        let replication = replication::task::spawn(ReplOptions {
            group: group.group,
            nonce,
            interface: Some(port.kernel_name().to_owned()),
            listen: std::net::SocketAddrV6::new(
                std::net::Ipv6Addr::UNSPECIFIED,
                replication::task::PORT,
                0,
                port.kernel_ifindex(),
            ),
            keys: (&group.keys).into(),
            versions: if options.controls.old_wire { (VERSIONS.0, VERSIONS.0) } else { VERSIONS },
            failover: group.failover,
            sender: replication::sender::Options { drop_every: options.drop_deltas, ..Default::default() },
            table: Arc::new(replica),
            events: deltas,
            flush: Box::new(move || flusher.flush()),
        })
        .map_err(Failure::step("replication"))?;
        let promised_ns = promises.get().map_err(Failure::step("the dataplane's maps"))?;
        let actions = Actions::new(settings, announcer, replication.tenure(), promises);
        let ft = ft_task::spawn(FtOptions {
            group: group.clone(),
            interface: port.kernel_name().to_owned(),
            ifindex: port.kernel_ifindex(),
            mac: port.mac,
            node: identity(port.mac),
            nonce,
            secret: host::secret().map_err(Failure::step("random numbers"))?,
            paths: data_paths(config, specs),
            gate,
            actions: Arc::new(actions),
            config_checksum: host::shared_checksum(config),
            software_checksum: host::software_checksum(),
            promised_ns,
            peer_lease,
            resumed: parked,
            restraint,
            controls: options.controls,
        })
        .map_err(Failure::step("fault tolerance"))?;
        Ok((ft, replication))
    }
}

/// The VLANs beside the FT VLAN on which the nodes can hear each other, by IPv4 where both have an address of it, else by
/// IPv6. Two that are bridged are one network, and one path.
fn data_paths(config: &Config, specs: &[PortSpec]) -> Vec<DataPath> {
    let mut paths: Vec<DataPath> = Vec::new();
    for vlan in &config.vlans {
        let pair = |family| Some((vlan.own(family)?.addr(), vlan.peer(family)?.addr()));
        let Some((own, peer)) = Family::ALL.into_iter().find_map(pair) else { continue };
        let Some(port) = specs.iter().find(|port| port.vlan == vlan.id.get()) else { continue };
        if paths.iter().all(|path| path.own != own) {
            let interface = port.kernel_name().to_owned();
            paths.push(DataPath { vlan: vlan.id.get(), interface, own, peer });
        }
    }
    paths
}

/// A node by its FT port.
pub(super) const fn identity(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}
