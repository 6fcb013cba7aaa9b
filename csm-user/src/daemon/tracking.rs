//! Tracking within the daemon: what it is started with, which links concern it, what the API says of it.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::startup::Failure;
use crate::api::reply::{TrackChangeReply, TrackModeReply, TrackObjectReply, TrackReply, TrackState};
use crate::dataplane::load::PortSpec;
use crate::model::{Config, TrackMode, Tracking};
use crate::neigh::netlink::Netlink;
use crate::neigh::task::LinkEvent;
use crate::track::machine::{Class, Object, Tracked};
use crate::track::task::{GatewayPath, TrackHandle, TrackOptions, TrackStatus, spawn};

/// The tracked interfaces by their numbers: a notice of one that is gone has no name.
pub(super) type Names = HashMap<u32, String>;

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
    let options = TrackOptions {
        mode: tracking.mode,
        hold_down: tracking.hold_down,
        interval: tracking.interval,
        retries: tracking.retries,
        groups: tracking.groups.iter().map(|tracked| (tracked.group, tracked.router)).collect(),
        gateways: gateways(config, tracking, specs)?,
        interfaces,
        slot: config.slot,
    };
    let handle = spawn(options).map_err(Failure::step("tracking"))?;
    Ok((Some(Running { handle, tracking: tracking.clone() }), names))
}

fn gateways(config: &Config, tracking: &Tracking, specs: &[PortSpec]) -> Result<Vec<GatewayPath>, Failure> {
    let path = |&gateway| {
        let vlan = config.vlan_of(gateway)?;
        let port = specs.iter().find(|port| port.vlan == vlan.id.get())?;
        Some(GatewayPath {
            gateway,
            own: vlan.address?.addr(),
            mac: port.mac,
            ifindex: port.kernel_ifindex(),
        })
    };
    let paths = tracking.gateways.iter().map(|gateway| {
        path(gateway).ok_or_else(|| {
            Failure::step(format!("track gateway {gateway}"))("no interface carries a VLAN of its network")
        })
    });
    paths.collect()
}

fn interfaces(tracking: &Tracking) -> io::Result<(Names, Vec<(String, bool)>)> {
    let mut netlink = Netlink::open()?;
    let (mut names, mut states) = (Names::new(), Vec::new());
    for name in &tracking.interfaces {
        let link = netlink.link(name)?;
        states.push((name.clone(), link.as_ref().is_some_and(|link| link.up && link.carrier)));
        names.extend(link.map(|link| (link.ifindex, link.name)));
    }
    Ok((names, states))
}

impl Running {
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
    pub(super) fn group(&self, group: u16, router: Ipv4Addr, up: bool) {
        self.handle.report(Object::Group(group, router), up);
    }

    /// A link has changed: reports it if it is a tracked one.
    pub(super) fn link(&self, names: &mut Names, event: &LinkEvent) {
        let (name, up) = match event {
            LinkEvent::Changed(link) if self.tracking.interfaces.contains(&link.name) => {
                names.insert(link.ifindex, link.name.clone());
                (Some(link.name.clone()), link.up && link.carrier)
            }
            // It has another name now.
            LinkEvent::Changed(link) => (names.remove(&link.ifindex), false),
            LinkEvent::Gone(ifindex) => (names.remove(ifindex), false),
        };
        if let Some(name) = name {
            self.handle.report(Object::Interface(name), up);
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
            })
            .collect(),
        changes: status
            .changes
            .iter()
            .map(|change| TrackChangeReply { at_unix_ms: unix_ms(change.at), what: change.what.to_string() })
            .collect(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
