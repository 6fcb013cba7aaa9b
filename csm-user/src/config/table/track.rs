//! Commands of tracking, under `ft group`.

use super::super::Noun;
use super::super::command::{Command, Id, Mode::Ft, Print, Repeat};
use super::super::grammar::Kind::{self, AnyHost, Host, Number};
use super::super::grammar::Piece::{Either, Optional, Slot, Word};
use super::{UNIT, VLAN, time, unless};
use crate::model::{TrackMode, TrackedFarm, TrackedGateway, TrackedGroup, TrackedVrrp, Tracking};

const TRACK: super::super::grammar::Piece = Word("track", "What must be up for this node to have the role");

/// See [`super::commands`].
pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::TrackGroup,
        Ft,
        &[
            TRACK,
            Word("group", "An HSRP group of this host, or of routers nearby"),
            Slot("GROUP", Number(0, 4095), "Its number"),
            Optional(&[
                Word("router", "The one that should be active while this node is; this host by default"),
                Slot(
                    "ADDRESS",
                    AnyHost,
                    "Its own address, in the network of a VLAN; of IPv6 that of the link",
                ),
                Optional(&[
                    Word("vlan", "Where an IPv6 router is"),
                    Slot("VLAN", VLAN, "A VLAN of this configuration"),
                ]),
            ]),
            Optional(&[Word("version", "Of HSRP"), Slot("VERSION", Number(1, 2), "1 by default")]),
            Optional(&[
                Word("authentication", "The group's text"),
                Slot("TEXT", Kind::Text8, "1-8 characters; `cisco` by default"),
            ]),
        ],
        "Has the role follow an HSRP group: moves it away when another router than this node's is active.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Ft(|ft| ft.track.groups.iter().map(group).collect())),
    Command::new(
        Id::TrackGateway,
        Ft,
        &[
            TRACK,
            Word("gateway", "A router"),
            Slot("ADDRESS", AnyHost, "Its address, in the network of a VLAN"),
            Optional(&[Word("icmp", "Asked by ICMP echo; by ARP or neighbour solicitation by default")]),
            Optional(&[
                Word("interval", "Time between two questions; `track interval` by default"),
                Either(&[
                    &[Slot("SECONDS", Number(1, 3600), "Seconds")],
                    &[
                        Word("msec", "In milliseconds"),
                        Slot("MILLISECONDS", Number(100, 65535), "Milliseconds"),
                    ],
                ]),
            ]),
            Optional(&[
                Word("retries", "Missing answers that count; `track retries` by default"),
                Slot("COUNT", Number(1, 255), "In a row"),
            ]),
        ],
        "Moves the role away when a router does not answer any more.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Ft(|ft| ft.track.gateways.iter().map(gateway).collect())),
    Command::new(
        Id::TrackVrrp,
        Ft,
        &[
            TRACK,
            Word("vrrp", "A VRRP group of routers nearby"),
            Slot("GROUP", Number(1, 255), "Its number"),
            Word("router", "The one that should be its master while this node is active"),
            Slot("ADDRESS", Host, "Its own address, in the network of a VLAN"),
            Optional(&[Word("version", "Of VRRP"), Slot("VERSION", Number(2, 3), "3 by default")]),
        ],
        "Has the role follow a VRRP group: moves it away when another router than this node's is its master.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Ft(|ft| {
        let line = |it: &TrackedVrrp| {
            let version = match it.version {
                TrackedVrrp::VERSION => String::new(),
                version => format!(" version {version}"),
            };
            format!("track vrrp {} router {}{version}", it.group, it.router)
        };
        ft.track.vrrp.iter().map(line).collect()
    })),
    Command::new(
        Id::TrackFarm,
        Ft,
        &[
            TRACK,
            Word("serverfarm", "A server farm"),
            Slot("NAME", Kind::Named(Noun::Serverfarm), "Its name"),
            Optional(&[
                Word("minimum", "How many reals must be in rotation"),
                Slot("COUNT", Number(1, 65535), "1 by default"),
            ]),
        ],
        "Moves the role away when fewer reals of a server farm are in rotation on this node.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Ft(|ft| {
        let line = |it: &TrackedFarm| match it.minimum {
            1 => format!("track serverfarm {}", it.farm),
            minimum => format!("track serverfarm {} minimum {minimum}", it.farm),
        };
        ft.track.farms.iter().map(line).collect()
    })),
    Command::new(
        Id::TrackInterface,
        Ft,
        &[
            TRACK,
            Word("interface", "An interface of this host"),
            Slot("NAME", Kind::Interface, "Name in Linux, e.g. eth1"),
            UNIT,
        ],
        "Moves the role away when an interface has no link or is down.",
    )
    .removes()
    .repeats(Repeat::Adds)
    .prints(Print::Ft(|ft| ft.track.interfaces.iter().map(|it| format!("track interface {it}")).collect())),
    Command::new(
        Id::TrackMode,
        Ft,
        &[
            TRACK,
            Word("mode", "When the role is moved away"),
            Either(&[
                &[Word("any", "When anything tracked is down")],
                &[Word("all", "When something is down in each class that is tracked")],
            ]),
        ],
        "Says how many of the tracked things must be down; anything by default.",
    )
    .restores(None)
    .prints(Print::Ft(|ft| match ft.track.mode {
        TrackMode::Any => Vec::new(),
        TrackMode::All => vec!["track mode all".to_owned()],
    })),
    Command::new(
        Id::TrackInterval,
        Ft,
        &[
            TRACK,
            Word("interval", "Time between two questions to a gateway"),
            Either(&[
                &[Slot("SECONDS", Number(1, 3600), "Seconds")],
                &[Word("msec", "In milliseconds"), Slot("MILLISECONDS", Number(100, 65535), "Milliseconds")],
            ]),
        ],
        "Sets the time between two questions to a tracked gateway.",
    )
    .restores(Some(Tracking::INTERVAL.as_secs()))
    .prints(Print::Ft(|ft| time(Tracking::INTERVAL.as_secs(), "track interval", ft.track.interval))),
    Command::new(
        Id::TrackRetries,
        Ft,
        &[TRACK, Word("retries", "Missing answers that count"), Slot("COUNT", Number(1, 255), "In a row")],
        "Sets how many answers must be missing in a row before a tracked gateway is down.",
    )
    .restores(Some(Tracking::RETRIES as u64))
    .prints(Print::Ft(|ft| {
        unless(u64::from(Tracking::RETRIES), "track retries", u64::from(ft.track.retries))
    })),
    Command::new(
        Id::TrackHoldDown,
        Ft,
        &[
            TRACK,
            Word("hold-down", "Time before the node is eligible again"),
            Slot("SECONDS", Number(0, 3600), "For which all must be well"),
        ],
        "Sets how long all must be well again before the node may have the role back.",
    )
    .restores(Some(Tracking::HOLD_DOWN.as_secs()))
    .prints(Print::Ft(|ft| {
        unless(Tracking::HOLD_DOWN.as_secs(), "track hold-down", ft.track.hold_down.as_secs())
    })),
];

fn gateway(tracked: &TrackedGateway) -> String {
    let TrackedGateway { address, icmp, interval, retries } = tracked;
    let icmp = if *icmp { " icmp" } else { "" };
    let interval = interval.iter().map(|interval| match interval.subsec_millis() {
        0 => format!(" interval {}", interval.as_secs()),
        _ => format!(" interval msec {}", interval.as_millis()),
    });
    let retries = retries.iter().map(|retries| format!(" retries {retries}")).collect::<String>();
    format!("track gateway {address}{icmp}{}{retries}", interval.collect::<String>())
}

fn group(tracked: &TrackedGroup) -> String {
    let TrackedGroup { group, router, vlan, version, authentication } = tracked;
    let version = if *version == 1 { String::new() } else { format!(" version {version}") };
    let text = authentication.iter().map(|text| format!(" authentication {text}")).collect::<String>();
    let router = router.iter().map(|router| format!(" router {router}")).collect::<String>();
    let vlan = vlan.iter().map(|vlan| format!(" vlan {vlan}")).collect::<String>();
    format!("track group {group}{router}{vlan}{version}{text}")
}
