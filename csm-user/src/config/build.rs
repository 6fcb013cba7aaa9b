//! Statements, in order, to a draft of the configuration.
//!
//! Later lines replace earlier ones, with a warning; where that would hide a mistake (two VLANs on one access port, two
//! addresses of one virtual server) they contradict each other and are refused.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Source;
use super::command::{Id, Repeat};
use super::diagnostic::Diagnostic;
use super::grammar::Arg;
use super::parse::{Section, Statement, Tree};
use super::table::{commands, default};
use crate::model::{
    ChannelMode, ChannelPort, ClientRange, Config, Encapsulation, InbandHealth, Interface, Name, NatClient,
    Natpool, PortMode, Predictor, Protocol, RateLimits, RouterInterface, Serverfarm, Service, Static,
    StaticAction, StaticRoute, Trunk, Virtual, Vlan, VlanId, VlanRole, VlanSet, Vmac, Vserver, XdpMode,
    vlan_of_name,
};

pub(super) mod arp;
mod ft;
mod limit;
mod owner;
mod policy;
mod probe;
mod real;
mod router;
mod sticky;
pub(super) mod track;

pub(super) use policy::family_of;
pub(super) use real::NOWHERE;

/// A configuration whose parts may still contradict one another.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    /// What the lines say.
    pub(super) config: Config,
    /// Each `interface`.
    pub(super) ports: Vec<PortLines>,
}

/// What is said of a port; which of it counts depends on its mode.
#[derive(Clone, Debug)]
pub(super) struct PortLines {
    pub(super) name: String,
    pub(super) access: Option<VlanId>,
    pub(super) is_trunk: bool,
    pub(super) trunk: Trunk,
    pub(super) xdp: XdpMode,
    /// The port channel that it is in.
    pub(super) channel: Option<ChannelPort>,
    /// What makes it an interface of the router.
    pub(super) router: RouterInterface,
}

impl PortLines {
    /// The port; `None` if it carries nothing.
    pub(super) fn interface(&self) -> Option<Interface> {
        let mode = match (self.is_trunk, self.access) {
            _ if self.channel.is_some() => PortMode::Member(self.channel?),
            (true, _) => PortMode::Trunk(self.trunk.clone()),
            (false, Some(vlan)) => PortMode::Access(vlan),
            (false, None) if self.is_routed() && !self.is_vlan() => PortMode::Routed,
            (false, None) => return None,
        };
        Some(Interface { name: self.name.clone(), mode, xdp: self.xdp })
    }

    /// `interface vlanN`: no port.
    pub(super) fn is_vlan(&self) -> bool {
        vlan_of_name(&self.name).is_some()
    }

    /// A port that is meant to carry VLANs.
    pub(super) fn is_switched(&self) -> bool {
        !self.is_vlan()
            && self.channel.is_none()
            && (self.is_trunk || self.access.is_some() || !self.is_routed())
    }

    /// Whether the router has anything to do with it.
    pub(super) fn is_routed(&self) -> bool {
        let RouterInterface { address, address6, groups, version, .. } = &self.router;
        address.is_some() || address6.is_some() || !groups.is_empty() || *version != 1
    }
}

/// What opens a section; its `no` form forgets all that was said there.
const OPENERS: &[Id] = &[
    Id::Interface,
    Id::Vlan,
    Id::Probe,
    Id::Static,
    Id::NamedReal,
    Id::Serverfarm,
    Id::Real,
    Id::Vserver,
    Id::StickyGroup,
    Id::Policy,
    Id::Owner,
    Id::NamedList,
    Id::NamedList6,
    Id::FtGroup,
];

/// Applies every statement of `tree`; what contradicts an earlier one is taken out of its index.
#[must_use]
pub(super) fn build(tree: &mut Tree, source: Source<'_>, diagnostics: &mut Vec<Diagnostic>) -> Draft {
    let mut draft = Draft { config: Config { slot: default::SLOT, ..Config::default() }, ports: Vec::new() };
    let mut said: HashMap<(Section, Id), (usize, &Statement)> = HashMap::new();
    let mut of_section: HashMap<&Section, Vec<usize>> = HashMap::new();
    let mut refused = BTreeSet::new();
    for (at, statement) in tree.statements.iter().enumerate() {
        let key = (statement.section.clone(), statement.id);
        let lines = of_section.entry(&statement.section).or_default();
        if statement.negated && OPENERS.contains(&statement.id) {
            said.retain(|(section, _), _| *section != statement.section);
            // Nothing refers to them any more.
            refused.extend(lines.drain(..));
        } else if statement.negated {
            said.remove(&key);
        } else if let Some((before, earlier)) = said.insert(key, (at, statement)) {
            // What is typed replaces what is in force: that is what it is typed for.
            let in_force = earlier.span.line <= source.running && statement.span.line > source.running;
            if in_force && replaces(statement.id) {
                refused.insert(before);
            } else if !in_force && let Some(found) = repeated(statement, earlier, source) {
                let contradicts = found.severity == super::Severity::Error;
                diagnostics.push(found);
                if contradicts {
                    refused.insert(at);
                    continue;
                }
            }
        }
        lines.push(at);
        if draft.apply(statement).is_none() {
            let message = format!("incomplete command: `{}` does not say which", statement.text);
            diagnostics.push(Diagnostic::error(statement.span, message));
        }
    }
    tree.forget(&refused.into_iter().collect::<Vec<_>>());
    real::resolve(&mut draft.config);
    policy::order(&mut draft.config.access_lists);
    let routed = draft.ports.iter().filter(|port| port.is_routed());
    draft.config.router = routed.map(|port| port.router.clone()).collect();
    // In the order in which they are printed: what was read from a file is what is read back from `show running-config`.
    draft.config.router.sort_by_key(|router| vlan_of_name(&router.name).is_some());
    draft.config.routes.sort_by_key(|route| route.gateway.is_ipv6());
    draft.config.interfaces = draft.ports.iter().filter_map(PortLines::interface).collect();
    draft
}

/// Whether a later line of this command takes the place of an earlier one.
fn replaces(id: Id) -> bool {
    commands().find(|command| command.id == id).is_some_and(|command| command.repeat != Repeat::Adds)
}

/// What is to be said of `later` beside `earlier`, the same command in the same section.
fn repeated(later: &Statement, earlier: &Statement, source: Source<'_>) -> Option<Diagnostic> {
    let differs = |arg: &&Arg| earlier.arg(arg.slot).is_none_or(|before| before.value != arg.value);
    let place = later.args.iter().find(differs).map(|arg| arg.span);
    // Words that are missing now make a difference too.
    let place = place.or_else(|| (later.args.len() != earlier.args.len()).then_some(later.span));
    let same = place.is_none();
    let place = place.unwrap_or(later.span);
    let line = source.place(earlier.span.line);
    let command = commands().find(|command| command.id == later.id)?;
    match command.repeat {
        Repeat::Replaces if !same => {
            Some(Diagnostic::warning(place, format!("replaces `{}` of {line}", earlier.text)).remedy(
                "remove the line that does not count, or write `exit` before it if it begins a section",
            ))
        }
        Repeat::Conflicts if !same => Some(
            Diagnostic::error(place, format!("`{}` contradicts {line}: `{}`", later.text, earlier.text))
                .remedy(contradiction(later.id)),
        ),
        _ => None,
    }
}

/// What to do about two lines of which only one can be meant.
const fn contradiction(id: Id) -> &'static str {
    match id {
        Id::AccessVlan => "an access port carries one VLAN: use another port for the other VLAN",
        Id::Vlan => "a VLAN is on the client side or on the server side: keep one of the lines",
        Id::Virtual => "give each virtual server a name of its own",
        Id::Probe => "give each probe a name of its own",
        Id::FtGroup => "a node belongs to one FT group: keep one of the lines",
        _ => "keep one of the lines",
    }
}

impl Draft {
    /// Applies `statement`; `None` if it lacks a word that it needs (a `no` form may leave words out).
    fn apply(&mut self, statement: &Statement) -> Option<()> {
        match &statement.section {
            Section::Interface(name) => self.interface(name, statement),
            Section::Vlan(id) => self.vlan(*id, statement),
            Section::Probe(name) => probe::apply(&mut self.config.probes, name, statement),
            Section::Static(action) => self.statics(*action, statement),
            Section::Serverfarm(name) => self.serverfarm(name, statement),
            Section::NamedReal(name) => real::named(&mut self.config.named_reals, name, statement),
            Section::Real(farm, real, port) => {
                real::apply(&mut self.farm(farm).reals, real, *port, statement)
            }
            Section::Vserver(name) => self.vserver(name, statement),
            Section::StickyGroup(number) => sticky::apply(&mut self.config.sticky_groups, *number, statement),
            Section::Policy(name) => policy::apply(&mut self.config.policies, name, statement),
            Section::Owner(name) => owner::apply(&mut self.config.owners, name, statement),
            Section::AccessList(family, name) => {
                policy::list(&mut self.config.access_lists, (*family, name), statement)
            }
            Section::Global if statement.id == Id::NumberedList => {
                policy::numbered(&mut self.config.access_lists, statement)
            }
            Section::Ft => ft::apply(&mut self.config.ft, statement),
            Section::Module if statement.id == Id::Module => {
                self.config.slot = statement.number("SLOT")?;
                Some(())
            }
            Section::Global if matches!(statement.id, Id::IpRoute | Id::Ipv6Route) => {
                router::route(self, statement)
            }
            Section::Module
                if matches!(
                    statement.id,
                    Id::GratuitousInterval | Id::ReplyOutOfService | Id::AdvertiseInterval
                ) =>
            {
                arp::variable(&mut self.config.variables, statement)
            }
            Section::Module if statement.id == Id::StaticArp => arp::apply(&mut self.config.arps, statement),
            Section::Module if statement.id == Id::Natpool => put_pool(&mut self.config.natpools, statement),
            Section::Module
            | Section::Global
            | Section::SwitchVlan
            | Section::VlanDatabase
            | Section::Lost(..) => None,
        }
    }

    fn interface(&mut self, name: &str, statement: &Statement) -> Option<()> {
        let no = statement.negated;
        if no && statement.id == Id::Interface {
            self.ports.retain(|port| port.name != name);
            return Some(());
        }
        let new = || PortLines {
            name: name.to_owned(),
            access: None,
            is_trunk: false,
            trunk: Trunk::default(),
            xdp: XdpMode::default(),
            channel: None,
            router: RouterInterface {
                name: name.to_owned(),
                address: None,
                address6: None,
                version: 1,
                groups: Vec::new(),
            },
        };
        let port = entry(&mut self.ports, |port| port.name == name, new);
        let all = VlanSet::default;
        let allowed = &mut port.trunk.allowed;
        match statement.id {
            Id::AccessVlan => port.access = if no { None } else { Some(statement.vlan()?) },
            Id::XdpMode if no => port.xdp = XdpMode::default(),
            Id::XdpMode if statement.has("auto") => port.xdp = XdpMode::Auto,
            Id::XdpMode if statement.has("generic") => port.xdp = XdpMode::Generic,
            Id::XdpMode => port.xdp = XdpMode::Native,
            Id::ChannelGroup if no => port.channel = None,
            Id::ChannelGroup => {
                port.channel = Some(ChannelPort {
                    channel: statement.number("CHANNEL")?,
                    mode: channel_mode(statement),
                });
            }
            Id::PortMode => port.is_trunk = !no && statement.has("trunk"),
            Id::TrunkNative => {
                port.trunk.native = VlanId::new(number(statement, "NATIVE", default::NATIVE)?);
            }
            Id::TrunkAllowed if no || statement.has("all") => *allowed = all(),
            Id::TrunkAllowed if statement.has("none") => *allowed = VlanSet::NONE,
            Id::TrunkAllowed if statement.has("except") => *allowed = all().without(statement.vlans()?),
            Id::TrunkAllowed => allowed.clone_from(statement.vlans()?),
            Id::TrunkAdd if statement.has("add") => *allowed = allowed.with(statement.vlans()?),
            Id::TrunkAdd => *allowed = allowed.without(statement.vlans()?),
            Id::Interface => {}
            _ => return router::interface(&mut port.router, statement),
        }
        Some(())
    }

    fn vlan(&mut self, id: VlanId, statement: &Statement) -> Option<()> {
        let no = statement.negated;
        if no && statement.id == Id::Vlan {
            self.config.vlans.retain(|vlan| vlan.id != id);
            return Some(());
        }
        let role = if statement.has("client") { VlanRole::Client } else { VlanRole::Server };
        let vlan = entry(&mut self.config.vlans, |vlan| vlan.id == id, || Vlan::new(id, role));
        match statement.id {
            Id::Vlan => vlan.role = role,
            Id::IpAddress if no => (vlan.address, vlan.alt_address) = (None, None),
            Id::IpAddress => {
                vlan.address = Some(net(statement, "ADDRESS", "MASK")?);
                vlan.alt_address = if statement.has("alt") {
                    Some(net(statement, "PEER-ADDRESS", "PEER-MASK")?)
                } else {
                    None
                };
            }
            Id::Ipv6Address if no => (vlan.address6, vlan.alt_address6) = (None, None),
            Id::Ipv6Address => {
                vlan.address6 = Some(net6(statement, "ADDRESS")?);
                vlan.alt_address6 =
                    if statement.has("alt") { Some(net6(statement, "PEER-ADDRESS")?) } else { None };
            }
            Id::Gateway => put(&mut vlan.gateways, statement.address("ADDRESS")?, no),
            Id::Alias => vlan.alias = if no { None } else { Some(net(statement, "ADDRESS", "MASK")?) },
            Id::Ipv6Alias => vlan.alias6 = if no { None } else { Some(net6(statement, "ADDRESS")?) },
            Id::Vmac if no || statement.has("auto") => vlan.vmac = Vmac::Auto,
            Id::Vmac => vlan.vmac = if statement.has("on") { Vmac::On } else { Vmac::Off },
            Id::Route => {
                let network = statement.net("NETWORK", "MASK")?.trunc();
                put(&mut vlan.routes, StaticRoute { network, gateway: statement.address("ADDRESS")? }, no);
            }
            _ => return None,
        }
        Some(())
    }

    fn statics(&mut self, action: StaticAction, statement: &Statement) -> Option<()> {
        let no = statement.negated;
        if no && statement.id == Id::Static {
            self.config.statics.retain(|rule| rule.action != action);
            return Some(());
        }
        let new = || Static { action, hosts: Vec::new() };
        let rule = entry(&mut self.config.statics, |rule| rule.action == action, new);
        if statement.id == Id::StaticReal {
            put(&mut rule.hosts, statement.net("HOST", "MASK")?.trunc(), no);
        }
        Some(())
    }

    fn serverfarm(&mut self, name: &Name, statement: &Statement) -> Option<()> {
        let no = statement.negated;
        if no && statement.id == Id::Serverfarm {
            self.config.serverfarms.retain(|farm| farm.name != *name);
            return Some(());
        }
        let farm = self.farm(name);
        match statement.id {
            Id::Serverfarm => {}
            Id::NatServer => farm.nat_server = !no,
            Id::Failaction => farm.failaction = real::failaction(statement),
            Id::InbandHealth if no => farm.health = None,
            Id::InbandHealth => {
                let failed = seconds(statement, 0)?;
                farm.health = Some(InbandHealth { retries: statement.number("RETRIES")?, failed });
            }
            Id::Encapsulation if no => farm.encapsulation = None,
            Id::Encapsulation if statement.has("ipip") => farm.encapsulation = Some(Encapsulation::Ipip),
            Id::Encapsulation => {
                let port = number(statement, "PORT", u64::from(Encapsulation::GUE_PORT))?;
                farm.encapsulation = Some(Encapsulation::Gue { port });
            }
            Id::NatClient if no => farm.nat_client = None,
            Id::NatClient if statement.has("static") => farm.nat_client = Some(NatClient::Static),
            Id::NatClient => farm.nat_client = Some(NatClient::Pool(statement.name()?.clone())),
            Id::Predictor => farm.predictor = if no { Predictor::RoundRobin } else { predictor(statement)? },
            Id::FarmProbe => put(&mut farm.probes, statement.name()?.clone(), no),
            _ => return None,
        }
        Some(())
    }

    fn vserver(&mut self, name: &Name, statement: &Statement) -> Option<()> {
        let no = statement.negated;
        if no && statement.id == Id::Vserver {
            self.config.vservers.retain(|vserver| vserver.name != *name);
            return Some(());
        }
        let vservers = &mut self.config.vservers;
        let vserver = entry(vservers, |vserver| vserver.name == *name, || new_vserver(name.clone()));
        match statement.id {
            Id::Vserver => {}
            Id::Virtual => vserver.virtual_server = if no { None } else { Some(virtual_server(statement)?) },
            Id::VserverFarm if no => {
                (vserver.serverfarm, vserver.backup, vserver.threshold) = (None, None, None);
            }
            Id::VserverFarm => {
                vserver.serverfarm = Some(statement.name()?.clone());
                vserver.backup = limit::backup(statement);
                vserver.threshold = limit::threshold(statement);
            }
            Id::SlbPolicy => put(&mut vserver.policies, statement.name()?.clone(), no),
            Id::RateLimit => vserver.rate_limits.connections = limit::rate(statement)?,
            Id::VserverOwner => vserver.owner = if no { None } else { Some(statement.name()?.clone()) },
            Id::Advertise => vserver.advertise = (!no).then(|| limit::advertise(statement)),
            Id::VserverMaxConns => vserver.max_conns = number(statement, "COUNT", default::MAX_CONNS)?,
            Id::ClientRateLimit => vserver.rate_limits.client = limit::client_rate(statement)?,
            Id::VserverVlan => vserver.vlan = if no { None } else { Some(statement.vlan()?) },
            Id::Client => {
                let network = statement.net("ADDRESS", "MASK")?.trunc();
                put(&mut vserver.clients, ClientRange { network, exclude: statement.has("exclude") }, no);
            }
            Id::Unidirectional => vserver.unidirectional = Some(!no),
            Id::Idle => vserver.idle = seconds(statement, default::IDLE)?,
            Id::Pending => vserver.pending = seconds(statement, default::PENDING)?,
            Id::Sticky => vserver.sticky = if no { None } else { Some(sticky::rule(statement)?) },
            Id::ReverseSticky => vserver.reverse_sticky = sticky::reverse(statement)?,
            Id::ReplicateConnection => vserver.replicate_connection = !no,
            Id::ReplicateSticky => vserver.replicate_sticky = !no,
            Id::Inservice => vserver.inservice = !no,
            _ => return None,
        }
        Some(())
    }

    fn farm(&mut self, name: &Name) -> &mut Serverfarm {
        let new = || Serverfarm::new(name.clone());
        entry(&mut self.config.serverfarms, |farm| farm.name == *name, new)
    }
}

fn channel_mode(statement: &Statement) -> ChannelMode {
    match () {
        () if statement.has("active") => ChannelMode::Active,
        () if statement.has("passive") => ChannelMode::Passive,
        () => ChannelMode::On,
    }
}

/// The element of `list` that `is_it`, appended by `new` if there is none.
fn entry<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    // Most lines are about the section opened last.
    let at = list.iter().rposition(is_it).unwrap_or_else(|| {
        list.push(new());
        list.len() - 1
    });
    &mut list[at]
}

/// Adds `item` once, or takes it out.
fn put<T: PartialEq>(list: &mut Vec<T>, item: T, remove: bool) {
    if remove {
        list.retain(|other| *other != item);
    } else if !list.contains(&item) {
        list.push(item);
    }
}

/// The number in `slot`, or the default under `no`.
fn number<T: TryFrom<u64>>(statement: &Statement, slot: &str, default: u64) -> Option<T> {
    if statement.negated { T::try_from(default).ok() } else { statement.number(slot) }
}

fn seconds(statement: &Statement, default: u64) -> Option<Duration> {
    number(statement, "SECONDS", default).map(Duration::from_secs)
}

/// Seconds, or milliseconds if it says so.
fn time(statement: &Statement, default: u64) -> Option<Duration> {
    if statement.has("msec") && !statement.negated {
        return statement.number("MILLISECONDS").map(Duration::from_millis);
    }
    seconds(statement, default)
}

fn net(statement: &Statement, address: &str, mask: &str) -> Option<Ipv4Net> {
    Ipv4Net::with_netmask(statement.address4(address)?, statement.address4(mask)?).ok()
}

fn net6(statement: &Statement, slot: &str) -> Option<Ipv6Net> {
    match statement.net(slot, "")? {
        IpNet::V6(net) => Some(net),
        IpNet::V4(_) => None,
    }
}

/// Leading bits that the mask in `MASK` lets count, or all.
fn mask_bits(statement: &Statement) -> Option<u8> {
    match statement.address4("MASK") {
        Some(mask) => ipnet::ipv4_mask_to_prefix(mask).ok(),
        None => Some(32),
    }
}

/// The number in `LENGTH`, or all bits of an IPv6 address.
fn prefix_length(statement: &Statement) -> u8 {
    statement.number("LENGTH").unwrap_or(128)
}

fn virtual_server(statement: &Statement) -> Option<Virtual> {
    let protocol = if statement.has("tcp") {
        Protocol::TCP
    } else if statement.has("udp") {
        Protocol::UDP
    } else if statement.has("any") {
        Protocol::Any
    } else {
        Protocol::Number(statement.number("PROTOCOL")?)
    };
    let network = statement.net("ADDRESS", "MASK")?.trunc();
    let port = if statement.arg("PORT").is_some() { statement.number("PORT")? } else { 0 };
    let service = match () {
        () if statement.has("ftp") => Service::Ftp,
        () if statement.has("rtsp") => Service::Rtsp,
        () => Service::Plain,
    };
    Some(Virtual { network, protocol, port, service })
}

fn predictor(statement: &Statement) -> Option<Predictor> {
    if statement.has("forward") {
        return Some(Predictor::Forward);
    }
    if statement.has("leastconns") {
        let slowstart_s = if statement.arg("SECONDS").is_some() { statement.number("SECONDS")? } else { 0 };
        return Some(Predictor::LeastConns { slowstart_s });
    }
    if !statement.has("hash") {
        return Some(Predictor::RoundRobin);
    }
    Some(Predictor::Hash {
        bits: mask_bits(statement)?,
        bits6: prefix_length(statement),
        source: !statement.has("destination"),
        destination: !statement.has("source"),
    })
}

/// A pool of the same name is replaced; `validate` tells.
fn put_pool(pools: &mut Vec<Natpool>, statement: &Statement) -> Option<()> {
    let name = statement.name()?;
    pools.retain(|pool| pool.name != *name);
    if !statement.negated {
        pools.push(Natpool {
            name: name.clone(),
            first: statement.address("FIRST")?,
            last: statement.address("LAST")?,
            bits: match statement.arg("LENGTH") {
                Some(_) => statement.number("LENGTH")?,
                None => mask_bits(statement)?,
            },
        });
    }
    Some(())
}

const fn new_vserver(name: Name) -> Vserver {
    Vserver {
        name,
        virtual_server: None,
        serverfarm: None,
        backup: None,
        threshold: None,
        rate_limits: RateLimits { connections: None, client: None },
        max_conns: 0,
        owner: None,
        advertise: None,
        policies: Vec::new(),
        vlan: None,
        clients: Vec::new(),
        unidirectional: None,
        idle: Duration::from_secs(default::IDLE),
        pending: Duration::from_secs(default::PENDING),
        sticky: None,
        reverse_sticky: None,
        replicate_connection: false,
        replicate_sticky: false,
        inservice: false,
    }
}
