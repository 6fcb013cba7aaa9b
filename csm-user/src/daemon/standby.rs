//! HSRP within the daemon: the groups that this host speaks for, and those that tracking listens to.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use csm_common::gate::{self, GateState};
use ipnet::IpNet;

use super::node::Node;
use super::router;
use super::startup::Failure;
use crate::api::reply::{StandbyReply, StandbyRouterReply, StandbyState, StandbyTrackReply};
use crate::arp::frame::{Form, advertisement, gratuitous, tagged};
use crate::dataplane::load::PortSpec;
use crate::dataplane::maps::MapSource;
use crate::dataplane::table::monotonic_ns;
use crate::dataplane::task::router::GroupGates;
use crate::hsrp::advert;
use crate::hsrp::machine::{PRIORITY, Params};
use crate::hsrp::task::{
    Authority, GroupOptions, GroupStatus, Heard, HsrpHandle, SpeakerPort, Wish, spawn, spawn_realtime,
};
use crate::hsrp::wire::{AUTHENTICATION, Authentication, State, Version};
use crate::model::{
    Config, Family, RouterInterface, StandbyAddress6, StandbyGroup, StandbyTrack, TrackedGroup,
};
use crate::neigh::groups::Groups as Solicited;
use crate::neigh::netlink::Netlink;
use crate::neigh::task::LinkEvent;
use crate::readiness::RouterFacts;

/// The groups: first those that this host speaks for, then those that it listens to.
pub struct Groups {
    /// As they run.
    pub(super) handle: HsrpHandle,
    /// The first of [`Self::handle`]'s.
    spoken: Vec<Spoken>,
    /// What is tracked: index of the group, the group, its router.
    tracked: Vec<(usize, TrackedGroup, IpAddr)>,
    /// Interfaces that groups depend on: those that are down.
    down: Mutex<HashSet<String>>,
    /// By which hosts' questions for the virtual addresses get here.
    _solicited: Solicited,
}

/// A group that this host speaks for.
struct Spoken {
    group: StandbyGroup,
    /// As both boxes call it.
    name: String,
    family: Family,
    /// Name of its port in Linux.
    port: String,
}

impl Spoken {
    fn wish(&self, down: &HashSet<String>) -> Wish {
        let priority = self.group.priority_without(|name| down.contains(name));
        Wish { up: !down.contains(&self.port), priority }
    }
}

/// The gate of group `number`.
struct Gate {
    gates: Arc<GroupGates>,
    number: usize,
}

impl Authority for Gate {
    fn open(&self, lease: Duration) {
        let lease = u64::try_from(lease.as_nanos()).unwrap_or(0);
        self.gates.store(self.number, gate::Gate::new(GateState::Open, monotonic_ns() + lease));
    }

    fn drain(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(0);
        let end = (monotonic_ns() + time).min(self.gates.load(self.number).deadline_ns());
        self.gates.store(self.number, gate::Gate::new(GateState::RelayOut, end));
    }

    fn is_open(&self) -> bool {
        self.gates.load(self.number).state_at(monotonic_ns()) == GateState::Open
    }
}

/// Speaks for the groups of this host, and listens to what the FT group tracks beside them; `None` if there is none.
pub(super) fn start(
    config: &Config,
    specs: &[PortSpec],
    source: &impl MapSource,
) -> Result<Option<Groups>, Failure> {
    let step = || Failure::step::<io::Error>("HSRP");
    let gates = GroupGates::open(source).map_err(step())?;
    let (mut options, mut spoken, mut tracked) = (Vec::new(), Vec::new(), Vec::new());
    let names = config.router.iter().flat_map(|router| &router.groups).flat_map(|group| &group.track);
    let names =
        names.map(|track| track.interface.as_str()).chain(specs.iter().map(|port| port.name.as_str()));
    let down = down(names).map_err(step())?;
    let mut solicited = Vec::new();
    for (number, (interface, vlan, group, address)) in config.standby_groups().enumerate() {
        let Some(port) = specs.iter().find(|port| port.vlan == vlan.get()) else {
            tracing::warn!("%HSRP: {} Grp {} has no port and does not run", interface.name, group.number);
            continue;
        };
        let own = own_address(interface, port, Family::of(address)).map_err(step())?;
        if let IpAddr::V6(address) = address {
            solicited.push((port.kernel_ifindex(), address));
        }
        let family = Family::of(address);
        let one = Spoken {
            group: group.clone(),
            name: named(interface, group, address),
            family,
            port: port.name.clone(),
        };
        let authority = Arc::new(Gate { gates: Arc::clone(&gates), number });
        options.push(speaker(interface, group, (own, address), port, authority, one.wish(&down)));
        spoken.push(one);
    }
    for group in config.ft.iter().flat_map(|ft| &ft.track.groups) {
        let step = || Failure::step(format!("track group {}", group.group));
        let router =
            config.tracked_router(group).ok_or_else(|| step()("this host speaks for no such group"))?;
        let index = match group.router {
            None => {
                let known = |known: &Spoken| (known.group.number, known.family);
                let wanted = (group.group, Family::of(router));
                spoken.iter().position(|spoken| known(spoken) == wanted)
            }
            Some(_) => None,
        };
        let index = match index {
            Some(index) => index,
            None => {
                options.push(
                    listen(config, specs, group, router)
                        .ok_or_else(|| step()("no interface carries a VLAN of its router's network"))?,
                );
                options.len() - 1
            }
        };
        tracked.push((index, group.clone(), router));
    }
    if options.is_empty() {
        return Ok(None);
    }
    let mut joined = Solicited::default();
    joined.set(solicited).map_err(step())?;
    let speaks = !spoken.is_empty();
    let handle = if speaks { spawn_realtime(options) } else { spawn(options) }.map_err(step())?;
    Ok(Some(Groups { handle, spoken, tracked, down: Mutex::new(down), _solicited: joined }))
}

/// Those of `names` that are no interfaces with a link.
fn down<'a>(names: impl Iterator<Item = &'a str>) -> io::Result<HashSet<String>> {
    let mut netlink = Netlink::open()?;
    let mut down = HashSet::new();
    for name in names {
        if !netlink.link(name)?.is_some_and(|link| link.up && link.carrier) {
            down.insert(name.to_owned());
        }
    }
    Ok(down)
}

/// What messages of a group of `family` come from: of IPv6 the address of the link that the kernel has there.
fn own_address(interface: &RouterInterface, port: &PortSpec, family: Family) -> io::Result<IpAddr> {
    let configured = interface.own(family).map(|net| net.addr());
    let of_link = |address: &IpAddr| matches!(address, IpAddr::V6(it) if it.is_unicast_link_local());
    let found = match family {
        Family::V4 => configured,
        Family::V6 => {
            let addresses = Netlink::open()?.addresses(port.kernel_ifindex())?;
            addresses.into_iter().map(|net| net.addr()).find(of_link)
        }
    };
    found.ok_or_else(|| {
        io::Error::other(format!(
            "interface {} has no address of the link: is IPv6 disabled?",
            port.kernel_name()
        ))
    })
}

/// What tells the network that the group's `address` is at `mac` now.
fn announcement(mac: [u8; 6], address: IpAddr, tag: u16) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => {
            [Form::Request, Form::Reply].map(|form| tagged(&gratuitous(form, mac, address), tag)).to_vec()
        }
        IpAddr::V6(address) => vec![tagged(&advertisement(mac, address), tag)],
    }
}

/// What tells hosts that the group's `address` routes for the interface's network; none of IPv4.
fn router_advertisement(
    interface: &RouterInterface,
    mac: [u8; 6],
    address: IpAddr,
    (port, tag): (&PortSpec, u16),
) -> Option<Vec<u8>> {
    let IpAddr::V6(address) = address else { return None };
    Some(tagged(&advert::frame(address, mac, interface.address6.as_slice(), port.mtu), tag))
}

fn speaker(
    interface: &RouterInterface,
    group: &StandbyGroup,
    (own, address): (IpAddr, IpAddr),
    port: &PortSpec,
    authority: Arc<Gate>,
    wish: Wish,
) -> GroupOptions {
    let version = router::version(interface);
    let mac = version.virtual_mac(group.number, Family::of(address));
    let tag = if port.tagged { port.vlan } else { 0 };
    let text = group.authentication.as_deref().and_then(Authentication::new);
    GroupOptions {
        interface: port.kernel_name().to_owned(),
        ifindex: port.kernel_ifindex(),
        params: Params {
            group: group.number,
            version,
            own,
            mac: port.mac,
            address: Some(address),
            priority: wish.priority,
            preempt: group.preempt,
            preempt_delay: group.preempt_delay,
            timers: group.timers,
            authentication: text.unwrap_or(AUTHENTICATION),
            listen_only: false,
        },
        port: Some(SpeakerPort {
            ifindex: port.ifindex,
            tag,
            announcement: announcement(mac, address, tag),
            advertisement: router_advertisement(interface, mac, address, (port, tag)),
            authority,
        }),
        wish,
    }
}

fn listen(
    config: &Config,
    specs: &[PortSpec],
    tracked: &TrackedGroup,
    router: IpAddr,
) -> Option<GroupOptions> {
    let vlan = config.vlan_of(router)?;
    let port = specs.iter().find(|port| port.vlan == vlan.id.get())?;
    let text = tracked.authentication.as_deref().and_then(Authentication::new);
    Some(GroupOptions {
        interface: port.kernel_name().to_owned(),
        ifindex: port.kernel_ifindex(),
        params: Params {
            group: tracked.group,
            version: if tracked.version == 2 { Version::V2 } else { Version::V1 },
            own: vlan.own(Family::of(router))?.addr(),
            mac: port.mac,
            address: None,
            priority: PRIORITY,
            preempt: false,
            preempt_delay: Duration::ZERO,
            timers: None,
            authentication: text.unwrap_or(AUTHENTICATION),
            listen_only: true,
        },
        port: None,
        wish: Wish { up: true, priority: PRIORITY },
    })
}

impl Groups {
    /// A link has changed: tells the groups that depend on it.
    pub(super) fn link(&self, event: &LinkEvent, name_of: impl Fn(u32) -> Option<String>) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            LinkEvent::Changed(link) if link.up && link.carrier => {
                down.remove(&link.name);
            }
            LinkEvent::Changed(link) => {
                down.insert(link.name.clone());
            }
            LinkEvent::Gone(ifindex) => down.extend(name_of(*ifindex)),
        }
        for (index, spoken) in self.spoken.iter().enumerate() {
            self.handle.wish(index, spoken.wish(&down));
        }
    }

    /// This host's part in the groups that it speaks for.
    pub(super) fn facts(&self) -> BTreeMap<String, RouterFacts> {
        let status = self.handle.status();
        let spoken = self.spoken.iter().zip(&status);
        let part = |group: &GroupStatus| RouterFacts {
            active: group.state == State::Active,
            has_active: group.state == State::Active || group.active.is_some(),
            has_standby: group.state == State::Standby || group.standby.is_some(),
        };
        spoken.map(|(spoken, group)| (spoken.name.clone(), part(group))).collect()
    }

    /// Whether this host is the active router of a group.
    pub(super) fn is_active(&self) -> bool {
        let status = self.handle.status();
        status.iter().take(self.spoken.len()).any(|group| group.state == State::Active)
    }
}

/// Tells tracking which groups have the router that they should have.
pub(super) fn report(node: &Node) {
    let (Some(groups), Some(track)) = (&node.standby, &node.track) else { return };
    let status = groups.handle.status();
    for (index, tracked, router) in &groups.tracked {
        let Some(status) = status.get(*index).filter(|status| status.known) else { continue };
        // This host's own group is said by its state: of IPv6 the active router's address is the link's.
        let is_active = match tracked.router {
            None => status.state == State::Active,
            Some(_) => status.active.is_some_and(|heard| heard.router.address == *router),
        };
        track.group(tracked.group, *router, is_active);
    }
}

/// The same on both boxes. An address of the link may be on several: its network tells which.
fn named(interface: &RouterInterface, group: &StandbyGroup, address: IpAddr) -> String {
    let network = match interface.own(Family::of(address)) {
        Some(net @ IpNet::V6(_)) => format!(" of {}", net.trunc()),
        _ => String::new(),
    };
    format!("HSRP group {} ({}{network})", group.number, shown(address))
}

/// As IOS writes it.
fn shown(address: IpAddr) -> String {
    address.to_string().to_uppercase()
}

/// The API's view.
pub(super) fn reply(groups: &Groups) -> Vec<StandbyReply> {
    let now = groups.handle.now();
    let down = groups.down.lock().unwrap_or_else(PoisonError::into_inner);
    let spoken = groups.spoken.iter().map(|spoken| Some(&spoken.group)).chain(std::iter::repeat(None));
    let status = groups.handle.status();
    status.iter().zip(spoken).map(|(status, configured)| group(status, configured, &down, now)).collect()
}

fn group(
    status: &GroupStatus,
    configured: Option<&StandbyGroup>,
    down: &HashSet<String>,
    now: Duration,
) -> StandbyReply {
    let GroupStatus { params, counts, .. } = status;
    let router = |heard: Option<Heard>| {
        heard.map(|Heard { router, until }| StandbyRouterReply {
            address: router.address,
            priority: router.priority,
            local: router.address == params.own,
            expires_ms: until.map(|until| millis(until.saturating_sub(now))),
        })
    };
    let mac = params.version.virtual_mac(params.group, Family::of(params.own));
    StandbyReply {
        interface: status.interface.clone(),
        group: params.group,
        version: if params.version == Version::V2 { 2 } else { 1 },
        state: state(status.state),
        listen_only: params.listen_only,
        changes: status.changes,
        changed_ms_ago: millis(now.saturating_sub(status.changed)),
        virtual_address: status.address,
        autoconfigured: configured.is_some_and(|group| group.address6 == Some(StandbyAddress6::Autoconfig))
            && status.address.is_some_and(|address| address.is_ipv6()),
        virtual_mac: super::replies::mac(mac),
        priority: configured.map(|_| params.priority),
        configured_priority: configured.map(|group| group.priority),
        preempt: params.preempt,
        preempt_delay_s: params.preempt_delay.as_secs(),
        name: configured.and_then(|group| group.name.as_ref()).map(ToString::to_string),
        track: configured.map(|group| track(group, down)).unwrap_or_default(),
        next_hello_ms: status.next_hello.map(|at| millis(at.saturating_sub(now))),
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

fn track(group: &StandbyGroup, down: &HashSet<String>) -> Vec<StandbyTrackReply> {
    let reply = |track: &StandbyTrack| StandbyTrackReply {
        interface: track.interface.clone(),
        decrement: track.decrement,
        up: !down.contains(&track.interface),
    };
    group.track.iter().map(reply).collect()
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
