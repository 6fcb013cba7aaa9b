//! HSRP within the daemon: the groups that this host speaks for, and those that tracking listens to.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use csm_common::gate::{self, GateState};
use csm_common::net::Group;
use ipnet::IpNet;

use super::node::Node;
use super::router;
use super::startup::Failure;
use crate::api::reply::{StandbyReply, StandbyRouterReply, StandbyState, StandbyTrackReply};
use crate::arp::frame::{Form, advertisement, gratuitous, tagged};
use crate::dataplane::load::PortSpec;
use crate::dataplane::maps::MapSource;
use crate::dataplane::table::monotonic_ns;
use crate::dataplane::task::router::{GroupGates, LearnedAddresses};
use crate::hsrp::advert;
use crate::hsrp::machine::{Learns, PRIORITY, Params};
use crate::hsrp::task::{
    Authority, GroupOptions, GroupStatus, Heard, HsrpHandle, SpeakerPort, Wish, spawn, spawn_realtime,
};
use crate::hsrp::wire::{AUTHENTICATION, Authentication, State, Version};
use crate::model::{
    Config, Family, Host, RouterInterface, StandbyAddress6, StandbyGroup, StandbyRun, StandbyTrack,
    TrackedGroup, VlanId,
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
    /// In the dataplane.
    number: u16,
    vlan: VlanId,
    mac: [u8; 6],
    group: StandbyGroup,
    /// The router's own address and network.
    own: IpNet,
    family: Family,
    /// Its address is the one that the active router says.
    learns: bool,
    /// Name of its port in Linux.
    port: String,
}

impl Spoken {
    fn wish(&self, down: &HashSet<String>) -> Wish {
        let priority = self.group.priority_without(|name| down.contains(name));
        Wish { up: !down.contains(&self.port), priority }
    }
}

/// The gate of group `number`, and its address if that is learned.
struct Gate {
    gates: Arc<GroupGates>,
    addresses: Arc<LearnedAddresses>,
    number: u16,
    group: Group,
    /// VLAN of the tag that its frames have; 0: none.
    tag: u16,
}

impl Authority for Gate {
    fn open(&self, lease: Duration) {
        let lease = u64::try_from(lease.as_nanos()).unwrap_or(0);
        self.gates.store(self.number.into(), gate::Gate::new(GateState::Open, monotonic_ns() + lease));
    }

    fn drain(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(0);
        let end = (monotonic_ns() + time).min(self.gates.load(self.number.into()).deadline_ns());
        self.gates.store(self.number.into(), gate::Gate::new(GateState::RelayOut, end));
    }

    fn is_open(&self) -> bool {
        self.gates.load(self.number.into()).state_at(monotonic_ns()) == GateState::Open
    }

    fn learned(&self, address: IpAddr) -> Vec<Vec<u8>> {
        // A group of IPv6 does not learn its address.
        if let IpAddr::V4(address) = address
            && let Err(error) = self.addresses.set(self.number.into(), self.group.vlan, address)
        {
            tracing::error!(%error, "the learned address of HSRP group {} could not be written", self.number);
        }
        announcement(self.group.mac, address, self.tag)
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
    let addresses = Arc::new(LearnedAddresses::open(source).map_err(step())?);
    let (mut options, mut spoken, mut tracked) = (Vec::new(), Vec::new(), Vec::new());
    let names = config.router.iter().flat_map(|router| &router.groups).flat_map(|group| &group.track);
    let names =
        names.map(|track| track.interface.as_str()).chain(specs.iter().map(|port| port.name.as_str()));
    let down = down(names).map_err(step())?;
    let mut solicited = Vec::new();
    for (number, run) in (0..).zip(config.standby_groups()) {
        let Some(port) = specs.iter().find(|port| port.vlan == run.vlan.get()) else {
            tracing::warn!(
                "%HSRP: {} Grp {} has no port and does not run",
                run.interface.name,
                run.group.number
            );
            continue;
        };
        let own = own_address(&run, port).map_err(step())?;
        solicited.extend(run.addresses().filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some((port.kernel_ifindex(), address)),
        }));
        let mac = router::virtual_mac(&run);
        let one = Spoken {
            number,
            vlan: run.vlan,
            mac,
            group: run.group.clone(),
            own: run.own,
            family: run.family,
            learns: run.address.is_none(),
            port: port.name.clone(),
        };
        let authority = Gate {
            gates: Arc::clone(&gates),
            addresses: Arc::clone(&addresses),
            number,
            group: Group { mac, vlan: run.vlan.get() },
            tag: if port.tagged { port.vlan } else { 0 },
        };
        let learns = Learns { network: Some(run.own), taken: router::taken(config) };
        options.push(speaker(&run, own, learns, port, authority, one.wish(&down)));
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
fn own_address(run: &StandbyRun<'_>, port: &PortSpec) -> io::Result<IpAddr> {
    let of_link = |address: &IpAddr| matches!(address, IpAddr::V6(it) if it.is_unicast_link_local());
    let found = match run.family {
        Family::V4 => Some(run.own.addr()),
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
    run: &StandbyRun<'_>,
    own: IpAddr,
    learns: Learns,
    port: &PortSpec,
    authority: Gate,
    wish: Wish,
) -> GroupOptions {
    let StandbyRun { interface, group, address, .. } = *run;
    let (mac, tag) = (authority.group.mac, authority.tag);
    let advertisement =
        address.and_then(|address| router_advertisement(interface, mac, address, (port, tag)));
    let text = group.authentication.as_deref().and_then(Authentication::new);
    GroupOptions {
        interface: port.kernel_name().to_owned(),
        ifindex: port.kernel_ifindex(),
        params: Params {
            group: group.number,
            version: router::version(interface),
            own,
            mac: port.mac,
            address,
            learns,
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
            announcement: run.addresses().flat_map(|address| announcement(mac, address, tag)).collect(),
            advertisement,
            authority: Arc::new(authority),
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
    let vlan = config.vlan_of_tracked(tracked, router)?;
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
            learns: Learns::default(),
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
        spoken.map(|(spoken, group)| (named(spoken, group.address), part(group))).collect()
    }

    /// Whether this host is the active router of a group.
    pub(super) fn is_active(&self) -> bool {
        let status = self.handle.status();
        status.iter().take(self.spoken.len()).any(|group| group.state == State::Active)
    }
}

/// Tells tracking which groups have the router that they should have, and the neighbour table which addresses they have learned.
pub(super) fn report(node: &Node) {
    let Some(groups) = &node.standby else { return };
    let status = groups.handle.status();
    for (spoken, status) in groups.spoken.iter().zip(&status).filter(|(spoken, _)| spoken.learns) {
        let vlan = spoken.vlan.get();
        if let Some(address) = status.address
            && node.own_gateways.learn(spoken.number, spoken.mac, Host::on(address, vlan))
        {
            node.neighbours.rewrite(vlan);
        }
    }
    let Some(track) = &node.track else { return };
    for (index, tracked, router) in &groups.tracked {
        let Some(status) = status.get(*index).filter(|status| status.known) else { continue };
        // This host's own group is said by its state: of IPv6 the active router's address is the link's.
        let is_active = match tracked.router {
            None => status.state == State::Active,
            Some(_) => status.active.is_some_and(|heard| heard.router.address == *router),
        };
        track.group(tracked, *router, is_active);
    }
}

/// The same on both boxes, once it has its address. One of the link may be on several: its network tells which.
fn named(spoken: &Spoken, address: Option<IpAddr>) -> String {
    let number = spoken.group.number;
    match (address, spoken.own.trunc()) {
        (None, network) => format!("HSRP group {number} (an address of {network} to be learned)"),
        (Some(address), IpNet::V4(_)) => format!("HSRP group {number} ({})", shown(address)),
        (Some(address), IpNet::V6(net)) => format!("HSRP group {number} ({} of {net})", shown(address)),
    }
}

/// As IOS writes it.
fn shown(address: IpAddr) -> String {
    address.to_string().to_uppercase()
}

/// The API's view.
pub(super) fn reply(groups: &Groups) -> Vec<StandbyReply> {
    let now = groups.handle.now();
    let down = groups.down.lock().unwrap_or_else(PoisonError::into_inner);
    let spoken = groups.spoken.iter().map(Some).chain(std::iter::repeat(None));
    let status = groups.handle.status();
    status.iter().zip(spoken).map(|(status, configured)| group(status, configured, &down, now)).collect()
}

fn group(
    status: &GroupStatus,
    spoken: Option<&Spoken>,
    down: &HashSet<String>,
    now: Duration,
) -> StandbyReply {
    let configured = spoken.map(|spoken| &spoken.group);
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
        learned: status.address.is_some() && spoken.is_some_and(|spoken| spoken.learns),
        global: spoken.filter(|spoken| spoken.family == Family::V6).map(global).unwrap_or_default(),
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

fn global(spoken: &Spoken) -> Vec<String> {
    spoken.group.global.iter().map(ToString::to_string).collect()
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
