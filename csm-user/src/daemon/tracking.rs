//! Tracking within the daemon: what it is started with, which links concern it, what the API says of it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::node::Node;
use super::startup::Failure;
use crate::api::reply::{TrackChangeReply, TrackModeReply, TrackObjectReply, TrackReply, TrackState};
use crate::dataplane::load::PortSpec;
use crate::model::{
    Config, Family, Real, RealAdmin, StableId, TrackMode, TrackedFarm, TrackedGateway, TrackedGroup,
    TrackedVrrp, Tracking, VlanId,
};
use crate::neigh::netlink::{Link, Netlink};
use crate::neigh::task::LinkEvent;
use crate::probe::health::{Health, RealHealth, RealKey};
use crate::track::machine::{Cause, Class, Object, Tracked};
use crate::track::task::{GatewayPath, Report, TrackHandle, TrackOptions, TrackStatus, VrrpPath, spawn};

/// The tracked interfaces by their numbers: a notice of one that is gone has no name.
pub(super) type Names = HashMap<u32, String>;
/// Interfaces by name, each with what keeps it from being up.
type Links = Vec<(String, Option<Cause>)>;

/// Tracking as it was started.
pub struct Running {
    handle: TrackHandle,
    tracking: Tracking,
}

/// Starts what the FT group tracks; `None` if that is nothing.
pub(super) fn start(config: &Config, specs: &[PortSpec]) -> Result<(Option<Running>, Names), Failure> {
    let Some(tracking) = config.ft.as_ref().map(|ft| &ft.track).filter(|tracking| !tracking.is_empty())
    else {
        return Ok((None, Names::new()));
    };
    let (names, interfaces) = interfaces(tracking).map_err(Failure::step("tracked interfaces"))?;
    let groups = tracking.groups.iter();
    let groups = groups.filter_map(|tracked| Some(group_object(tracked, config.tracked_router(tracked)?)));
    let farms = tracking.farms.iter().map(farm_object);
    let options = TrackOptions {
        mode: tracking.mode,
        hold_down: tracking.hold_down,
        others: groups.chain(farms).collect(),
        vrrp: vrrp(config, tracking, specs)?,
        gateways: gateways(config, tracking, specs)?,
        interfaces,
        slot: config.slot,
    };
    let handle = spawn(options).map_err(Failure::step("tracking"))?;
    Ok((Some(Running { handle, tracking: tracking.clone() }), names))
}

fn gateways(config: &Config, tracking: &Tracking, specs: &[PortSpec]) -> Result<Vec<GatewayPath>, Failure> {
    let path = |gateway: &TrackedGateway| {
        let vlan = config.vlan_of(gateway.address)?;
        let port = specs.iter().find(|port| port.vlan == vlan.id.get())?;
        Some(GatewayPath {
            gateway: gateway.address,
            own: vlan.own(Family::of(gateway.address))?.addr(),
            mac: port.mac,
            ifindex: port.kernel_ifindex(),
            interface: port.kernel_name().to_owned(),
            icmp: gateway.icmp,
            interval: tracking.interval_of(gateway),
            retries: tracking.retries_of(gateway),
        })
    };
    let paths = tracking.gateways.iter().map(|gateway| {
        path(gateway).ok_or_else(|| {
            let step = format!("track gateway {}", gateway.address);
            Failure::step(step)("no interface carries a VLAN of its network")
        })
    });
    paths.collect()
}

fn vrrp(config: &Config, tracking: &Tracking, specs: &[PortSpec]) -> Result<Vec<VrrpPath>, Failure> {
    let path = |tracked: &TrackedVrrp| {
        let vlan = config.vlan_of(tracked.router)?;
        let port = specs.iter().find(|port| port.vlan == vlan.id.get())?;
        let TrackedVrrp { group, router, version } = *tracked;
        let interface = port.kernel_name().to_owned();
        Some(VrrpPath { group, version, router, ifindex: port.kernel_ifindex(), interface })
    };
    let paths = tracking.vrrp.iter().map(|tracked| {
        path(tracked).ok_or_else(|| {
            let step = format!("track vrrp {}", tracked.group);
            Failure::step(step)("no interface carries a VLAN of its router's network")
        })
    });
    paths.collect()
}

fn group_object(tracked: &TrackedGroup, router: IpAddr) -> Object {
    Object::Group(tracked.group, router, tracked.vlan.map(VlanId::get))
}

fn farm_object(tracked: &TrackedFarm) -> Object {
    Object::Farm(tracked.farm.to_string(), tracked.minimum)
}

fn interfaces(tracking: &Tracking) -> io::Result<(Names, Links)> {
    let mut netlink = Netlink::open()?;
    let (mut names, mut states) = (Names::new(), Vec::new());
    for name in &tracking.interfaces {
        let link = netlink.link(name)?;
        states.push((name.clone(), link.as_ref().map_or(Some(Cause::Gone), cause)));
        names.extend(link.map(|link| (link.ifindex, link.name)));
    }
    Ok((names, states))
}

/// Why `link` is down; `None`: it is up.
const fn cause(link: &Link) -> Option<Cause> {
    match (link.up, link.carrier) {
        (true, true) => None,
        (true, false) => Some(Cause::NoCarrier),
        (false, _) => Some(Cause::AdministrativelyDown),
    }
}

/// Whether the farm's reals in rotation are enough; `None`: those that are being tested decide.
const fn farm_is_up(minimum: usize, in_rotation: usize, tested: usize) -> Option<bool> {
    if in_rotation >= minimum {
        Some(true)
    } else if in_rotation + tested >= minimum {
        None
    } else {
        Some(false)
    }
}

impl Running {
    /// Nothing tracked is known to be down.
    pub(super) fn may_be_well(&self) -> bool {
        self.status().borrow().objects.iter().all(|tracked| tracked.up != Some(false))
    }

    /// What is known.
    pub(super) fn status(&self) -> watch::Receiver<Arc<TrackStatus>> {
        self.handle.status()
    }

    /// Whether the routers' choice counts: then it is as it should be that one of the nodes is not eligible.
    pub(super) const fn follows_groups(&self) -> bool {
        !self.tracking.groups.is_empty()
    }

    /// Tracked gateways and interfaces that are down, or not known to be up.
    pub(super) fn lacking(&self) -> Vec<String> {
        let status = self.handle.status().borrow().clone();
        let objects = status.objects.iter();
        let lacks = |tracked: &&Tracked| tracked.up != Some(true) && tracked.object.class() != Class::Group;
        objects.filter(lacks).map(|tracked| tracked.object.to_string()).collect()
    }

    /// What this node would lack as the active one. The routers' choice is none of it: that may move along.
    pub(super) fn obstacles(&self) -> Vec<String> {
        self.lacking().iter().map(|object| format!("this box lacks {object}")).collect()
    }

    /// An HSRP group's active router is known: reports it if its group is tracked.
    pub(super) fn group(&self, tracked: &TrackedGroup, router: IpAddr, up: bool) {
        self.handle.report(Report { object: group_object(tracked, router), up, cause: None });
    }

    /// The health of reals may have changed: reports the tracked farms whose state has. `health` is what the maps show: by the
    /// latest news a real that is not in rotation yet would count as failed.
    pub(super) fn farms(&self, node: &Node, health: &Health) {
        let farms = &self.tracking.farms;
        if farms.is_empty() {
            return;
        }
        let (config, desired) = (node.config(), node.desired());
        let status = self.handle.status().borrow().clone();
        for tracked in farms {
            let Some(farm) = config.serverfarm(&tracked.farm) else { continue };
            let ids: HashSet<StableId> = farm
                .reals
                .iter()
                .map(|real| StableId::of_real(&farm.name, real.address, real.port))
                .collect();
            let reals = desired.reals.iter().filter(|(_, known)| ids.contains(&known.id));
            let in_rotation = reals.filter(|(number, _)| desired.in_rotation(**number)).count();
            let in_service = farm.reals.iter().filter(|real| real.admin != RealAdmin::OutOfService);
            let key =
                |real: &Real| RealKey { farm: farm.name.clone(), address: real.address, port: real.port };
            let tested = in_service.filter(|real| *health.of(&key(real)) == RealHealth::Testing).count();
            let object = farm_object(tracked);
            let told = status.objects.iter().find(|known| known.object == object).and_then(|known| known.up);
            let up = farm_is_up(tracked.minimum.into(), in_rotation, tested);
            if let Some(up) = up.filter(|up| told != Some(*up)) {
                self.handle.report(Report { object, up, cause: None });
            }
        }
    }

    /// A link has changed: reports it if it is a tracked one.
    pub(super) fn link(&self, names: &mut Names, event: &LinkEvent) {
        let (name, cause) = match event {
            LinkEvent::Changed(link) if self.tracking.interfaces.contains(&link.name) => {
                names.insert(link.ifindex, link.name.clone());
                (Some(link.name.clone()), cause(link))
            }
            // It has another name now.
            LinkEvent::Changed(link) => (names.remove(&link.ifindex), Some(Cause::Gone)),
            LinkEvent::Gone(ifindex) => (names.remove(ifindex), Some(Cause::Gone)),
        };
        if let Some(name) = name {
            self.handle.report(Report { object: Object::Interface(name), up: cause.is_none(), cause });
        }
    }
}

/// The API's view.
pub(super) fn reply(running: &Running) -> TrackReply {
    let Running { handle, tracking } = running;
    let (status, now) = (handle.status().borrow().clone(), handle.now());
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = |at: Duration| millis(wall.saturating_sub(now.saturating_sub(at)));
    TrackReply {
        mode: match tracking.mode {
            TrackMode::Any => TrackModeReply::Any,
            TrackMode::All => TrackModeReply::All,
        },
        eligible: status.eligible,
        hold_down_ms: millis(tracking.hold_down),
        hold_down_left_ms: status.hold_down_ends.map(|end| millis(end.saturating_sub(now))),
        interval_ms: millis(tracking.interval),
        retries: tracking.retries,
        objects: status
            .objects
            .iter()
            .map(|tracked| TrackObjectReply {
                object: tracked.object.to_string(),
                state: match tracked.up {
                    Some(true) => TrackState::Up,
                    Some(false) => TrackState::Down,
                    None => TrackState::Unknown,
                },
                since_unix_ms: unix_ms(tracked.since),
                note: note(tracking, tracked),
            })
            .collect(),
        changes: status
            .changes
            .iter()
            .map(|change| TrackChangeReply { at_unix_ms: unix_ms(change.at), what: change.what.to_string() })
            .collect(),
    }
}

/// How an object is asked, or why it is down.
fn note(tracking: &Tracking, tracked: &Tracked) -> Option<String> {
    match &tracked.object {
        Object::Interface(_) | Object::Vrrp(..) => tracked.cause.map(|cause| cause.to_string()),
        Object::Gateway(address) => {
            let gateway = tracking.gateways.iter().find(|gateway| gateway.address == *address)?;
            let by = match (gateway.icmp, address.is_ipv6()) {
                (true, _) => "ICMP",
                (false, false) => "ARP",
                (false, true) => "ND",
            };
            let interval = millis(tracking.interval_of(gateway));
            Some(format!("by {by} every {interval} msec, {} retries", tracking.retries_of(gateway)))
        }
        Object::Group(..) | Object::Farm(..) => None,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farm_is_down_once_those_under_test_cannot_make_it_enough() {
        assert_eq!(farm_is_up(2, 2, 0), Some(true));
        assert_eq!(farm_is_up(2, 1, 1), None, "a start, or a failed one under test again");
        assert_eq!(farm_is_up(2, 1, 0), Some(false));
        assert_eq!(farm_is_up(2, 0, 1), Some(false));
    }
}
