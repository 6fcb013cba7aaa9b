//! The second stage of a start: what the tables hold is read, neighbours are followed, servers probed, and the configuration is in
//! the program's maps.

use std::collections::BTreeSet;
use std::sync::Arc;

use csm_common::address::V6;
use tokio::sync::mpsc;

use super::attached::{Attached, map_step};
use super::{Failure, Options};
use crate::daemon::node::Hops;
use crate::daemon::planner::{Planner, ReplanError};
use crate::daemon::router::{self, OwnGateways};
use crate::daemon::vmac::{self, own_mac};
use crate::daemon::{adopted, apply};
use crate::dataplane::load::PortSpec;
use crate::dataplane::maps::{Counters, Maps, SettingsCell};
use crate::dataplane::plan::needed_hops;
use crate::dataplane::snapshot::DirectoryCell;
use crate::dataplane::table::Table;
use crate::dataplane::task::identities::Identities;
use crate::dataplane::task::router::{GroupGates, fill};
use crate::model::{Config, Family};
use crate::neigh::table::{HopPort, NeighbourTable};
use crate::neigh::task::{LinkEvent, Neighbours};
use crate::probe;
use crate::probe::task::ProbeHandle;

/// Changes of links that may wait.
const LINKS_MAX: usize = 256;

/// A program that knows what it is to do, and tables that can be read.
pub(super) struct Planned {
    pub(super) settings: Arc<SettingsCell>,
    pub(super) counters: Arc<Counters>,
    pub(super) table: Arc<Table>,
    pub(super) table6: Option<Arc<Table<V6>>>,
    pub(super) directory: Arc<DirectoryCell>,
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) own_gateways: Arc<OwnGateways>,
    pub(super) links: mpsc::Receiver<LinkEvent>,
    pub(super) planner: Arc<Planner>,
    pub(super) probes: ProbeHandle,
}

impl Planned {
    pub(super) fn over(attached: &Attached, config: Config, options: &Options) -> Result<Self, Failure> {
        let (dataplane, ipv6) = (&attached.undo.dataplane, attached.ipv6);
        let settings = vmac::settings(&attached.specs, attached.group_mac);
        let settings = Arc::new(SettingsCell::open(dataplane, settings).map_err(map_step())?);
        let maps = Maps::open(dataplane).map_err(map_step())?;
        let maps6 = ipv6.then(|| Maps::open(dataplane)).transpose().map_err(map_step())?;
        let counters = Arc::new(Counters::open(dataplane).map_err(map_step())?);
        let table = Arc::new(Table::open(dataplane).map_err(map_step())?);
        let table6 = ipv6.then(|| Table::open(dataplane)).transpose().map_err(map_step())?.map(Arc::new);
        let directory = Arc::new(DirectoryCell::default());

        let (links_in, links) = mpsc::channel(LINKS_MAX);
        let own_gateways = Arc::new(OwnGateways::new(&config));
        let sink = Hops::open(dataplane, ipv6, Arc::clone(&own_gateways)).map_err(map_step())?;
        let neighbours = Arc::new(follow_neighbours(&config, attached, sink, links_in)?);
        let identities = Identities::open(dataplane).map_err(map_step())?;
        let healthy = if dataplane.has_adopted() {
            neighbours.adopt(&adopted::hops(dataplane, ipv6).map_err(map_step())?);
            let maps = (&maps, maps6.as_ref());
            adopted::healthy(&config, &identities.assignments(), maps).map_err(map_step())?
        } else {
            BTreeSet::new()
        };
        neighbours.fix(&apply::fixed(&config));
        let mut hops = neighbours.want(&apply::wanted(&config));
        let of_router = router::routes(&config, &hops);
        if attached.parked.is_none() {
            GroupGates::open(dataplane).map_err(map_step())?.close();
        }
        fill(dataplane, &router::groups(&config), &of_router, ipv6).map_err(map_step())?;
        let of_module = needed_hops(&config);
        hops.retain(|host, _| of_module.contains(host));
        let rebuild = options.drop_deltas.is_none();
        let planner = Planner::new((maps, maps6), identities, config, hops, Arc::clone(&directory), rebuild);
        let planner = Arc::new(planner);
        if dataplane.has_adopted() {
            planner.recall().map_err(map_step())?;
        }
        let config = planner.config();
        let probes = probe::task::spawn(probe::target::targets(&config), config.slot, &healthy);
        planner
            .replan(&probes.health().borrow())
            .map_err(Failure::step::<ReplanError>("the dataplane's maps"))?;
        Ok(Self {
            settings,
            counters,
            table,
            table6,
            directory,
            neighbours,
            own_gateways,
            links,
            planner,
            probes,
        })
    }
}

fn follow_neighbours(
    config: &Config,
    attached: &Attached,
    sink: Hops,
    links: mpsc::Sender<LinkEvent>,
) -> Result<Neighbours, Failure> {
    let hop_ports: Vec<HopPort> =
        (0..).zip(&attached.specs).map(|(number, spec)| hop_port(config, number, spec)).collect();
    let on_link = move |event| {
        // Full only while the loop stands still; it reads the ports' state anew when it goes on.
        let _full = links.try_send(event);
    };
    let mut table = NeighbourTable::new(attached.group_mac, &hop_ports);
    for spec in &attached.specs {
        // No host is known yet.
        let _none = table.set_source(spec.vlan, own_mac(&attached.macs.0, spec));
    }
    Neighbours::spawn(table, Box::new(sink), on_link).map_err(Failure::step("the neighbour table"))
}

fn hop_port(config: &Config, number: u32, spec: &PortSpec) -> HopPort {
    let vlan = config.vlans.iter().find(|vlan| vlan.id.get() == spec.vlan);
    let of_router = |family| {
        let mut nets = config.router_networks().filter(|(_, vlan, _)| vlan.get() == spec.vlan);
        Some(nets.find(|(_, _, net)| Family::of(net.addr()) == family)?.2)
    };
    HopPort {
        number,
        vlan: spec.vlan,
        ifindex: spec.kernel_ifindex(),
        tagged: spec.tagged,
        bridge: spec.bridge.map(|(vlan, _)| vlan),
        mtu: spec.mtu,
        networks: Family::ALL
            .map(|family| vlan.and_then(|vlan| vlan.own(family)).or_else(|| of_router(family))),
    }
}
