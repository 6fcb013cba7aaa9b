//! Commands of the host as a router: `ip address`, `ipv6 address` and `standby` under `interface`, `ip route`, and `ipv6 route`.

use std::time::Duration;

use ipnet::IpNet;

use super::super::command::{Command, Id, Mode, Print, Repeat};
use super::super::grammar::Kind::{self, Host, Mask, Network, Number};
use super::super::grammar::Piece::{self, Either, Optional, Slot, Word};
use crate::model::{RouterInterface, StandbyAddress, StandbyAddress6, StandbyGroup};

const STANDBY: Piece = Word("standby", "HSRP");
const GROUP: Piece = Optional(&[Slot("GROUP", Number(0, 4095), "The group's number; 0 by default")]);
const PREEMPT: Piece = Word("preempt", "Takes the role from a router of lower priority");
const DELAY: Piece = Optional(&[
    Word("delay", "Not at once"),
    Optional(&[Word("minimum", "After the start")]),
    Slot("SECONDS", Number(0, 3600), "Seconds"),
]);

/// See [`super::commands`].
pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::RouterAddress,
        Mode::Interface,
        &[
            Word("ip", "IP"),
            Word("address", "This host's own address as a router"),
            Slot("ADDRESS", Host, "Address"),
            Slot("MASK", Mask, "Mask"),
        ],
        "Gives the router its own address on a port without VLANs, or on a VLAN.",
    )
    .restores(None)
    .prints(Print::Router(|router| {
        let address = router.address.iter();
        address.map(|net| format!("ip address {} {}", net.addr(), net.netmask())).collect()
    })),
    Command::new(
        Id::RouterAddress6,
        Mode::Interface,
        &[
            Word("ipv6", "IPv6"),
            Word("address", "This host's own address as a router"),
            Slot("ADDRESS", Kind::Interface6, "Address, and prefix length of its network"),
        ],
        "Gives the router its own IPv6 address on a port without VLANs, or on a VLAN.",
    )
    .restores(None)
    .prints(Print::Router(|router| router.address6.iter().map(|net| format!("ipv6 address {net}")).collect())),
    Command::new(
        Id::StandbyVersion,
        Mode::Interface,
        &[STANDBY, Word("version", "Of the protocol"), Slot("VERSION", Number(1, 2), "1 by default")],
        "Sets the version of HSRP on the interface.",
    )
    .restores(Some(1))
    .prints(Print::Router(|router| match router.version {
        1 => Vec::new(),
        version => vec![format!("standby version {version}")],
    })),
    Command::new(
        Id::StandbyIp,
        Mode::Interface,
        &[
            STANDBY,
            GROUP,
            Word("ip", "The virtual address"),
            Optional(&[Slot("ADDRESS", Host, "Address; without one it is learned from the active router")]),
        ],
        "Has this host speak for an HSRP group: the active router of the group forwards for its address.",
    )
    .restores(None)
    .repeats(Repeat::Adds)
    .prints(Print::Router(|router| {
        each(router, |group| {
            let line = |address: StandbyAddress| match address {
                StandbyAddress::Learned => "ip".to_owned(),
                StandbyAddress::Given(address) => format!("ip {address}"),
            };
            group.address.map(line).into_iter().collect()
        })
    })),
    Command::new(
        Id::StandbyIpv6,
        Mode::Interface,
        &[
            STANDBY,
            GROUP,
            Word("ipv6", "The virtual address in IPv6"),
            Either(&[
                &[Word("autoconfig", "Made of the group's MAC address: FE80::5:73FF:FEA0:NNN")],
                &[Slot("ADDRESS", Kind::Host6, "Link-local address")],
            ]),
        ],
        "Has this host speak for an HSRP group of IPv6, in version 2: its active router forwards for its address, and says so to \
         the hosts by router advertisements.",
    )
    .restores(None)
    .repeats(Repeat::Adds)
    .prints(Print::Router(|router| {
        each(router, |group| {
            let line = |address: StandbyAddress6| match address {
                StandbyAddress6::Autoconfig => "ipv6 autoconfig".to_owned(),
                StandbyAddress6::LinkLocal(address) => format!("ipv6 {address}"),
            };
            group.address6.map(line).into_iter().collect()
        })
    })),
    Command::new(
        Id::StandbyPrefix,
        Mode::Interface,
        &[
            STANDBY,
            GROUP,
            Word("ipv6", "The virtual address in IPv6"),
            Slot("NETWORK", Kind::Interface6, "Address of the interface's network, and its prefix length"),
        ],
        "Gives an HSRP group of IPv6 a global address beside the one of the link.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Router(|router| {
        each(router, |group| group.global.iter().map(|net| format!("ipv6 {net}")).collect())
    })),
    Command::new(
        Id::StandbyPriority,
        Mode::Interface,
        &[
            STANDBY,
            GROUP,
            Word("priority", "The higher one becomes active"),
            Slot("PRIORITY", Number(0, 255), "100 by default"),
            Optional(&[PREEMPT, DELAY]),
        ],
        "Sets the priority of this host in the group.",
    )
    .restores(Some(StandbyGroup::PRIORITY as u64))
    .repeats(Repeat::Adds)
    .prints(Print::Router(|router| {
        each(router, |group| match group.priority {
            StandbyGroup::PRIORITY => Vec::new(),
            priority => vec![format!("priority {priority}")],
        })
    })),
    Command::new(
        Id::StandbyPreempt,
        Mode::Interface,
        &[STANDBY, GROUP, PREEMPT, DELAY],
        "Takes the role from an active router of lower priority.",
    )
    .restores(None)
    .repeats(Repeat::Adds)
    .prints(Print::Router(|router| {
        each(router, |group| match (group.preempt, group.preempt_delay.as_secs()) {
            (false, _) => Vec::new(),
            (true, 0) => vec!["preempt".to_owned()],
            (true, delay) => vec![format!("preempt delay minimum {delay}")],
        })
    })),
    Command::new(
        Id::StandbyTimers,
        Mode::Interface,
        &[
            STANDBY,
            GROUP,
            Word("timers", "Hello and hold time"),
            Either(&[
                &[Slot("HELLO", Number(1, 254), "Hello time in seconds; 3 by default")],
                &[Word("msec", "In milliseconds"), Slot("HELLO-MSEC", Number(15, 999), "Hello time")],
            ]),
            Either(&[
                &[Slot("HOLD", Number(1, 255), "Hold time in seconds; 10 by default")],
                &[Word("msec", "In milliseconds"), Slot("HOLD-MSEC", Number(50, 3000), "Hold time")],
            ]),
        ],
        "Sets the time between two hellos, and how long a router that is not heard is still taken to be there.",
    )
    .restores(None)
    .repeats(Repeat::Adds)
    .prints(Print::Router(|router| {
        each(router, |group| {
            let timers = group.timers.iter();
            timers.map(|(hello, hold)| format!("timers {} {}", time(*hello), time(*hold))).collect()
        })
    })),
    Command::new(
        Id::StandbyAuthentication,
        Mode::Interface,
        &[
            STANDBY,
            GROUP,
            Word("authentication", "The group's text"),
            Optional(&[Word("text", "In the clear")]),
            Slot("TEXT", Kind::Text8, "1-8 characters; `cisco` by default"),
        ],
        "Sets the text that all routers of the group have.",
    )
    .restores(None)
    .repeats(Repeat::Adds)
    .prints(Print::Router(|router| {
        each(router, |group| {
            group.authentication.iter().map(|text| format!("authentication text {text}")).collect()
        })
    })),
    Command::new(
        Id::StandbyName,
        Mode::Interface,
        &[STANDBY, GROUP, Word("name", "Of the group"), Slot("NAME", Kind::Name, "For `show standby`")],
        "Names the group.",
    )
    .restores(None)
    .repeats(Repeat::Adds)
    .prints(Print::Router(|router| {
        each(router, |group| group.name.iter().map(|name| format!("name {name}")).collect())
    })),
    Command::new(
        Id::StandbyTrack,
        Mode::Interface,
        &[
            STANDBY,
            GROUP,
            Word("track", "What lowers the priority while it is down"),
            Slot("INTERFACE", Kind::Interface, "Name in Linux, e.g. eth1"),
            Optional(&[Slot("DECREMENT", Number(1, 255), "By how much; 10 by default")]),
        ],
        "Lowers the priority while an interface has no link or is down.",
    )
    .restores(None)
    .repeats(Repeat::Adds)
    .prints(Print::Router(|router| {
        each(router, |group| {
            let line = |track: &crate::model::StandbyTrack| match track.decrement {
                StandbyGroup::DECREMENT => format!("track {}", track.interface),
                decrement => format!("track {} {decrement}", track.interface),
            };
            group.track.iter().map(line).collect()
        })
    })),
    Command::new(
        Id::IpRoute,
        Mode::Global,
        &[
            Word("ip", "IP"),
            Word("route", "A route of this host as a router"),
            Slot("NETWORK", Network, "Destination"),
            Slot("MASK", Mask, "Mask"),
            Slot("ADDRESS", Host, "The next router"),
        ],
        "Adds a route for what this host routes as an HSRP router.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Config(|config| {
        let route = |route: &crate::model::RouterRoute| match route.network {
            IpNet::V4(net) => Some(format!("ip route {} {} {}", net.network(), net.netmask(), route.gateway)),
            IpNet::V6(_) => None,
        };
        config.routes.iter().filter_map(route).collect()
    })),
    Command::new(
        Id::Ipv6Route,
        Mode::Global,
        &[
            Word("ipv6", "IPv6"),
            Word("route", "A route of this host as a router"),
            Slot("NETWORK", Kind::Prefix6, "Destination, with its prefix length"),
            Slot("ADDRESS", Kind::Host6, "The next router"),
        ],
        "Adds an IPv6 route for what this host routes as an HSRP router.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Config(|config| {
        let v6 = config.routes.iter().filter(|route| matches!(route.network, IpNet::V6(_)));
        v6.map(|route| format!("ipv6 route {} {}", route.network, route.gateway)).collect()
    })),
];

/// The lines of each group.
fn each(router: &RouterInterface, lines: impl Fn(&StandbyGroup) -> Vec<String>) -> Vec<String> {
    let of = |group: &StandbyGroup| {
        let number = group.number;
        lines(group).into_iter().map(move |line| format!("standby {number} {line}")).collect::<Vec<_>>()
    };
    router.groups.iter().flat_map(of).collect()
}

fn time(time: Duration) -> String {
    match time.subsec_millis() {
        0 => time.as_secs().to_string(),
        _ => format!("msec {}", time.as_millis()),
    }
}
