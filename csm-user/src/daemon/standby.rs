//! HSRP within the daemon: the groups that tracking follows are listened to.

use std::time::Duration;

use super::node::Node;
use super::startup::Failure;
use crate::api::reply::{StandbyReply, StandbyRouterReply, StandbyState};
use crate::dataplane::load::PortSpec;
use crate::hsrp::machine::{PRIORITY, Params};
use crate::hsrp::task::{GroupOptions, GroupStatus, Heard, HsrpHandle, spawn};
use crate::hsrp::wire::{AUTHENTICATION, Authentication, State, Version};
use crate::model::{Config, TrackedGroup};

/// The groups, in the order in which they are configured.
pub struct Groups {
    /// As they run.
    pub(super) handle: HsrpHandle,
    /// As they are tracked.
    tracked: Vec<TrackedGroup>,
}

/// Listens to what the FT group tracks; `None` if that is no group.
pub(super) fn start(config: &Config, specs: &[PortSpec]) -> Result<Option<Groups>, Failure> {
    let tracked = config.ft.as_ref().map(|ft| ft.track.groups.clone()).unwrap_or_default();
    if tracked.is_empty() {
        return Ok(None);
    }
    let groups = tracked.iter().map(|tracked| {
        let step = || Failure::step(format!("track group {}", tracked.group));
        listen(config, specs, tracked)
            .ok_or_else(|| step()("no interface carries a VLAN of its router's network"))
    });
    let handle = spawn(groups.collect::<Result<_, _>>()?).map_err(Failure::step("HSRP"))?;
    Ok(Some(Groups { handle, tracked }))
}

fn listen(config: &Config, specs: &[PortSpec], tracked: &TrackedGroup) -> Option<GroupOptions> {
    let vlan = config.vlan_of(tracked.router)?;
    let port = specs.iter().find(|port| port.vlan == vlan.id.get())?;
    let text = tracked.authentication.as_deref().and_then(Authentication::new);
    Some(GroupOptions {
        interface: port.kernel_name().to_owned(),
        ifindex: port.kernel_ifindex(),
        params: Params {
            group: tracked.group,
            version: if tracked.version == 2 { Version::V2 } else { Version::V1 },
            own: vlan.address?.addr(),
            mac: port.mac,
            address: None,
            priority: PRIORITY,
            preempt: false,
            preempt_delay: Duration::ZERO,
            timers: None,
            authentication: text.unwrap_or(AUTHENTICATION),
            listen_only: true,
        },
    })
}

/// Tells tracking which groups have the router that they should have.
pub(super) fn report(node: &Node) {
    let (Some(groups), Some(track)) = (&node.standby, &node.track) else { return };
    for (tracked, status) in groups.tracked.iter().zip(groups.handle.status()) {
        if status.known {
            let active = status.active.map(|heard| heard.router.address);
            track.group(tracked.group, tracked.router, active == Some(tracked.router));
        }
    }
}

/// The API's view.
pub(super) fn reply(groups: &Groups) -> Vec<StandbyReply> {
    let now = groups.handle.now();
    groups.handle.status().iter().map(|status| group(status, now)).collect()
}

fn group(status: &GroupStatus, now: Duration) -> StandbyReply {
    let GroupStatus { params, counts, .. } = status;
    let router = |heard: Option<Heard>| {
        heard.map(|Heard { router, until }| StandbyRouterReply {
            address: router.address,
            priority: router.priority,
            local: router.address == params.own,
            expires_ms: until.map(|until| millis(until.saturating_sub(now))),
        })
    };
    let mac = params.version.virtual_mac(params.group);
    StandbyReply {
        interface: status.interface.clone(),
        group: params.group,
        version: if params.version == Version::V2 { 2 } else { 1 },
        state: state(status.state),
        listen_only: params.listen_only,
        changes: status.changes,
        changed_ms_ago: millis(now.saturating_sub(status.changed)),
        virtual_address: status.address,
        virtual_mac: super::replies::mac(mac),
        hello_ms: millis(status.timers.0),
        hold_ms: millis(status.timers.1),
        active: router(status.active),
        standby: router(status.standby),
        received: counts.received,
        malformed: counts.malformed,
        authentication_failed: counts.authentication,
        conflicting: counts.conflicting,
    }
}

const fn state(state: State) -> StandbyState {
    match state {
        State::Initial => StandbyState::Init,
        State::Learn => StandbyState::Learn,
        State::Listen => StandbyState::Listen,
        State::Speak => StandbyState::Speak,
        State::Standby => StandbyState::Standby,
        State::Active => StandbyState::Active,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
