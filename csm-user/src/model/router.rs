//! This host as a router: `interface NAME` with `ip address`, `interface vlanN`, their HSRP groups, and `ip route`. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Config, Family, Name, PortMode, TrackedGroup, Vlan, VlanId};

/// An interface of the router: a port without VLANs, or a VLAN (`interface vlanN`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterInterface {
    /// Name of the port in Linux, or `vlanN`.
    pub name: String,
    /// `ip address A M`: the router's own address and its network.
    pub address: Option<Ipv4Net>,
    /// `ipv6 address A/P`: the same in IPv6.
    pub address6: Option<Ipv6Net>,
    /// `standby version V`: of HSRP, 1 or 2; default 1.
    pub version: u8,
    /// `standby N ...`.
    pub groups: Vec<StandbyGroup>,
}

/// An HSRP group that this host speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyGroup {
    /// 0–255 in version 1, 0–4095 in version 2.
    pub number: u16,
    /// `ip [A]`: the virtual address. Without one of either family the group does not run.
    pub address: Option<StandbyAddress>,
    /// `ipv6 autoconfig|A`: the virtual address in IPv6, in version 2. With one of either family there are two groups of one number,
    /// which have the other lines in common.
    pub address6: Option<StandbyAddress6>,
    /// `ipv6 A/P`: addresses of the interface's network beside `address6`.
    pub global: Vec<Ipv6Net>,
    /// `priority P`: 0–255, default 100.
    pub priority: u8,
    /// `preempt`: takes the role from a worse active router.
    pub preempt: bool,
    /// `preempt delay minimum S`: not before so long after the start, 0–3600 s.
    pub preempt_delay: Duration,
    /// `timers H H`: hello and hold time; `None`: 3 s and 10 s, or as the active router has them.
    pub timers: Option<(Duration, Duration)>,
    /// `authentication TEXT`, 1–8 characters; `None`: the default.
    pub authentication: Option<String>,
    /// `name NAME`.
    pub name: Option<Name>,
    /// `track INTERFACE [DECREMENT]`.
    pub track: Vec<StandbyTrack>,
}

/// The virtual address of an IPv4 group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandbyAddress {
    /// The one that the active router says.
    Learned,
    /// As said.
    Given(Ipv4Addr),
}

/// The virtual address of an IPv6 group, which is one of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandbyAddress6 {
    /// `autoconfig`: made of the group's MAC address.
    Autoconfig,
    /// As said.
    LinkLocal(Ipv6Addr),
}

/// `track INTERFACE [DECREMENT]`: the priority is less by so much while the interface has no link or is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyTrack {
    /// Name in Linux.
    pub interface: String,
    /// 1–255, default 10.
    pub decrement: u8,
}

/// `ip route N M A`, `ipv6 route N/P A`: a route of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterRoute {
    /// Destination.
    pub network: IpNet,
    /// Next router.
    pub gateway: IpAddr,
}

impl StandbyGroup {
    /// IOS's priority.
    pub const PRIORITY: u8 = 100;
    /// IOS's decrement of a tracked interface.
    pub const DECREMENT: u8 = 10;

    /// Group `number` as IOS makes it.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self {
            number,
            address: None,
            address6: None,
            global: Vec::new(),
            priority: Self::PRIORITY,
            preempt: false,
            preempt_delay: Duration::ZERO,
            timers: None,
            authentication: None,
            name: None,
            track: Vec::new(),
        }
    }

    /// The families it has an address of, with the one that its messages say; `None`: it is learned.
    pub fn families(&self) -> impl Iterator<Item = (Family, Option<IpAddr>)> + use<> {
        let v4 = self.address.map(|address| match address {
            StandbyAddress::Learned => None,
            StandbyAddress::Given(address) => Some(IpAddr::V4(address)),
        });
        let v6 = self.address6.map(|address| match address {
            StandbyAddress6::Autoconfig => autoconfigured(self.number),
            StandbyAddress6::LinkLocal(address) => address,
        });
        let v4 = v4.map(|address| (Family::V4, address));
        v4.into_iter().chain(v6.map(|address| (Family::V6, Some(IpAddr::V6(address)))))
    }

    /// Its priority while the interfaces in `down` are down.
    #[must_use]
    pub fn priority_without(&self, down: impl Fn(&str) -> bool) -> u8 {
        let less = self.track.iter().filter(|track| down(&track.interface)).map(|track| track.decrement);
        less.fold(self.priority, u8::saturating_sub)
    }
}

/// FE80::5:73FF:FEA0:NNN: made of 0005.73a0.0NNN, the MAC address of IPv6 group `number`, whose universal bit stays as it is.
const fn autoconfigured(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 5, 0x73ff, 0xfea0, number & 0xfff)
}

/// A group that runs: of one family, on one interface.
#[derive(Clone, Copy, Debug)]
pub struct StandbyRun<'a> {
    /// Its interface.
    pub interface: &'a RouterInterface,
    /// The interface's VLAN: see [`Config::router_vlan`].
    pub vlan: VlanId,
    /// Its lines.
    pub group: &'a StandbyGroup,
    /// Its family.
    pub family: Family,
    /// The router's own address on the interface, and the network of that.
    pub own: IpNet,
    /// The virtual address that its messages say; `None`: it is learned.
    pub address: Option<IpAddr>,
}

impl StandbyRun<'_> {
    /// All virtual addresses that are configured, that of the messages first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let global = self.group.global.iter().filter(|_| self.family == Family::V6);
        self.address.into_iter().chain(global.map(|net| net.addr().into()))
    }
}

impl RouterInterface {
    /// The router's own address of `family` and its network.
    #[must_use]
    pub fn own(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::V4 => self.address.map(IpNet::V4),
            Family::V6 => self.address6.map(IpNet::V6),
        }
    }
}

/// The VLAN of the interface called `vlanN`, in any case.
#[must_use]
pub fn vlan_of_name(name: &str) -> Option<VlanId> {
    let digits = name.get(..4).filter(|head| head.eq_ignore_ascii_case("vlan")).and(name.get(4..))?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    VlanId::new(digits.parse().ok()?)
}

impl Config {
    /// The VLAN by which the router's interface is known in the dataplane: its own, or for a port one that the configuration
    /// does not use, from the highest downwards, as IOS's internal VLANs.
    #[must_use]
    pub fn router_vlan(&self, interface: &RouterInterface) -> Option<VlanId> {
        if let Some(vlan) = vlan_of_name(&interface.name) {
            return Some(vlan);
        }
        let ports = self.router.iter().filter(|known| vlan_of_name(&known.name).is_none());
        let index = ports.into_iter().position(|known| known.name == interface.name)?;
        let used: Vec<VlanId> = self.vlan_ids().collect();
        (2..=4094).rev().filter_map(VlanId::new).filter(|vlan| !used.contains(vlan)).nth(index)
    }

    /// The routed ports with their VLANs: see [`Self::router_vlan`].
    pub fn routed_ports(&self) -> impl Iterator<Item = (&super::Interface, VlanId)> {
        let routed = self.interfaces.iter().filter(|port| port.mode == PortMode::Routed);
        routed.filter_map(|port| {
            let interface = self.router.iter().find(|interface| interface.name == port.name)?;
            Some((port, self.router_vlan(interface)?))
        })
    }

    /// The router's interfaces with their VLANs and addresses, those of both families.
    pub fn router_networks(&self) -> impl Iterator<Item = (&RouterInterface, VlanId, IpNet)> {
        self.router.iter().flat_map(move |interface| {
            let nets = Family::ALL.into_iter().filter_map(move |family| interface.own(family));
            nets.filter_map(move |net| Some((interface, self.router_vlan(interface)?, net)))
        })
    }

    /// Own address of the router that should be active while this node is: this host's, if none is named. Of two groups with that
    /// number the one of IPv4 is meant.
    #[must_use]
    pub fn tracked_router(&self, tracked: &TrackedGroup) -> Option<IpAddr> {
        let own = || Some(self.standby_groups().find(|run| run.group.number == tracked.group)?.own.addr());
        tracked.router.or_else(own)
    }

    /// The VLAN on which the hellos of a tracked group come, if `router`, which is nearby, is on one.
    #[must_use]
    pub fn vlan_of_tracked(&self, tracked: &TrackedGroup, router: IpAddr) -> Option<&Vlan> {
        match tracked.vlan {
            Some(id) => {
                self.vlans.iter().find(|vlan| vlan.id == id && vlan.own(Family::of(router)).is_some())
            }
            None => self.vlan_of(router),
        }
    }

    /// The groups that this host speaks for, in the order of their numbers in the dataplane.
    pub fn standby_groups(&self) -> impl Iterator<Item = StandbyRun<'_>> {
        let interfaces =
            self.router.iter().filter_map(move |interface| Some((interface, self.router_vlan(interface)?)));
        interfaces.flat_map(move |(interface, vlan)| {
            let groups = interface.groups.iter();
            let each = groups.flat_map(|group| group.families().map(move |family| (group, family)));
            each.filter_map(move |(group, (family, address))| {
                let own = interface.own(family)?;
                Some(StandbyRun { interface, vlan, group, family, own, address })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlans_interface_is_known_by_its_name() {
        let vlan = |name| vlan_of_name(name).map(VlanId::get);
        assert_eq!((vlan("vlan136"), vlan("Vlan2")), (Some(136), Some(2)));
        for other in ["vlan", "vlan1", "vlan4095", "vlan+5", "vlan2a", "eth1", "vla"] {
            assert_eq!(vlan(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_down_takes_its_decrement() {
        let track = |interface: &str, decrement| StandbyTrack { interface: interface.to_owned(), decrement };
        let group = StandbyGroup { track: vec![track("a", 10), track("b", 95)], ..StandbyGroup::new(1) };
        assert_eq!(group.priority_without(|_| false), 100);
        assert_eq!(group.priority_without(|name| name == "a"), 90);
        assert_eq!(group.priority_without(|_| true), 0);
    }
}
